"""The transform of an image beside two dense matrix products, H @ X @ H, float32 on two threads."""

from __future__ import annotations

import torch
from scipy.linalg import hadamard

from benchmarks.row import Row
from benchmarks.timing import best_of
from models.hadamard import transform_image

THREADS = 2
WANTED_MS = {256: 0.12, 1024: 1.6}
WANTED_SPEED_UP = {256: "for comparison", 1024: "at least 3"}


def rows() -> list[Row]:
    """Milliseconds per image against the wanted ones, and how many times faster than the dense products."""
    threads_before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        return [row for side in WANTED_MS for row in _rows(side)]
    finally:
        torch.set_num_threads(threads_before)


def _rows(side: int) -> list[Row]:
    image = torch.rand(side, side, generator=torch.Generator().manual_seed(0))
    dense = torch.from_numpy(hadamard(side, dtype="float32"))
    calls = max(_FEWEST_CALLS, 2**20 // side**2)
    # Both sides write into buffers of their own: the memory manager is not what is measured.
    coefficients, between, product = (torch.empty_like(image) for _ in range(3))
    here_s, dense_s = best_of(
        [
            lambda: transform_image(image, out=coefficients),
            lambda: torch.mm(torch.mm(dense, image, out=between), dense, out=product),
        ],
        15,
        calls=calls,
        rounds=3,
    )
    what = f"transform of {side}×{side}, float32, {THREADS} threads"
    wanted = WANTED_MS[side]
    return [
        Row(what, f"{here_s * 1e3:.3g} ms", f"limit {wanted:g} ms", here_s * 1e3 / wanted, "at most 1"),
        Row(
            what, f"{here_s * 1e3:.3g} ms", f"H @ X @ H {dense_s * 1e3:.3g} ms", dense_s / here_s, WANTED_SPEED_UP[side]
        ),
    ]


# Enough that every candidate runs in its own working set and not in what its rival left in the caches.
_FEWEST_CALLS = 8
