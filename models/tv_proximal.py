"""The proximal operator of total variation, by the fast gradient projection of its dual (Beck & Teboulle 2009).

TV(x) = Σ sqrt((x[r + 1, c] - x[r, c])² + (x[r, c + 1] - x[r, c])²), differences across the border being 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch


def total_variation(image: NDArray[np.float64]) -> float:
    """TV(x) of an image [n, m], in the image's units."""
    down = np.diff(image, axis=0, append=image[-1:])
    across = np.diff(image, axis=1, append=image[:, -1:])
    return float(np.hypot(down, across).sum())


def float_type_for(image: NDArray[np.float64]) -> torch.dtype:
    """float32, twice as fast, where its rounding is far below 1, the size of what matters in an image; else float64."""
    import torch

    return torch.float32 if np.abs(image).max(initial=0.0) < _LARGEST_IN_FLOAT32 else torch.float64


class TotalVariationProximal:
    """argmin_x ½Σ(x - image)² + weight·TV(x), with x ≥ 0 where asked.

    The dual field of one call is the start of the next: in an outer iteration, whose images change little, few inner
    iterations are then enough. ``like``: a tensor [n, m] whose shape, floating dtype and device all images share.
    """

    def __init__(self, like: torch.Tensor, *, nonnegative: bool) -> None:
        self._lowest = 0.0 if nonnegative else -float("inf")
        # A field holds the downward and the rightward component of every pixel; those across the border stay 0.
        self._field, self._ahead, self._next = (like.new_zeros((2, *like.shape)) for _ in range(3))
        self._slope = like.new_zeros((2, *like.shape))
        self._scale, self._square = like.new_empty(like.shape), like.new_empty(like.shape)

    def __call__(self, image: torch.Tensor, weight: float, iterations: int, out: torch.Tensor) -> torch.Tensor:
        """The image of least cost, written into ``out`` [n, m], which must not be ``image``."""
        import torch

        if not weight > 0:
            return torch.clamp(image, min=self._lowest, out=out)
        self._ahead.copy_(self._field)
        momentum = 1.0
        for _ in range(iterations):
            self._ascend(self._primal(image, self._ahead, out), weight)
            previous, momentum = momentum, (1 + (1 + 4 * momentum**2) ** 0.5) / 2
            torch.lerp(self._field, self._next, 1 + (previous - 1) / momentum, out=self._ahead)
            self._field, self._next = self._next, self._field
        return self._primal(image, self._field, out)

    def _primal(self, image: torch.Tensor, field: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """The image that belongs to a dual field: image + div(field), not below the lowest value."""
        import torch

        torch.add(image, field[0], out=out).add_(field[1])
        out[1:] -= field[0, :-1]
        out[:, 1:] -= field[1, :, :-1]
        return out.clamp_(min=self._lowest) if self._lowest == 0.0 else out

    def _ascend(self, primal: torch.Tensor, weight: float) -> None:
        """One step of 1/8, the inverse of the largest |div∇|, from the field ahead, and back to length ≤ weight."""
        import torch

        torch.sub(primal[1:], primal[:-1], out=self._slope[0, :-1])
        torch.sub(primal[:, 1:], primal[:, :-1], out=self._slope[1, :, :-1])
        torch.add(self._ahead, self._slope, alpha=1 / 8, out=self._next)
        torch.mul(self._next[0], self._next[0], out=self._square)
        torch.addcmul(self._square, self._next[1], self._next[1], out=self._scale)
        self._scale.rsqrt_().mul_(weight).clamp_(max=1.0)
        self._next.mul_(self._scale)


_LARGEST_IN_FLOAT32 = 1e4
