"""The Walsh-Hadamard transform in natural (Sylvester) order, as a few small matrix products.

H_N = H_r1 ⊗ H_r2 ⊗ … with factors of at most 32: one product per factor, N·Σr multiplications in all. They run in the
processor's matrix kernels, which makes them faster than the butterfly's N·log N additions that wait for memory. The
first transform imports torch, not this module: sequency, masks and plans need none.
"""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import TYPE_CHECKING, overload

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

LARGEST_FACTOR = 32


class SideError(ValueError):
    """A length or a side that is not a power of two."""


@overload
def transform(values: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor: ...
@overload
def transform(values: NDArray[np.float32]) -> NDArray[np.float32]: ...
@overload
def transform(values: NDArray[np.generic]) -> NDArray[np.float64]: ...
def transform(
    values: torch.Tensor | NDArray[np.generic], out: torch.Tensor | None = None
) -> torch.Tensor | NDArray[np.generic]:
    """H_N applied to the last axis of ``values`` [..., N], unnormalized: twice is N times the values.

    Tensor in, tensor out, on its device and with its gradient; NumPy in, NumPy out. float32 and float64 are kept,
    everything else becomes float64. out: contiguous tensor like the result to write it into, for loops in which fresh
    memory would cost more than the transform; it must not be ``values``, and it carries no gradient. Raises SideError
    where N is not a power of two.
    """
    import torch

    if isinstance(values, torch.Tensor):
        kept = values.dtype in (torch.float32, torch.float64)
        return _transform(values if kept else values.to(torch.float64), out)
    array = np.ascontiguousarray(values)
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float64)
    if not array.flags.writeable:
        array = array.copy()
    result: NDArray[np.generic] = _transform(torch.from_numpy(array), None).numpy()
    return result


@overload
def transform_image(image: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor: ...
@overload
def transform_image(image: NDArray[np.float32]) -> NDArray[np.float32]: ...
@overload
def transform_image(image: NDArray[np.generic]) -> NDArray[np.float64]: ...
def transform_image(
    image: torch.Tensor | NDArray[np.generic], out: torch.Tensor | None = None
) -> torch.Tensor | NDArray[np.generic]:
    """H_n·X·H_n of images [..., n, n]: the coefficients as [..., n, n], coefficient i = u·n + v at [u, v].

    out: as for ``transform``. Raises SideError where the images are not square with a power of two as side.
    """
    side = image.shape[-1]
    if image.ndim < 2 or image.shape[-2] != side:
        raise SideError(f"found an array {list(image.shape)}; expected square images [..., n, n]")
    flat = image.reshape(*image.shape[:-2], side * side)
    if isinstance(flat, np.ndarray):
        return transform(flat).reshape(image.shape)
    return transform(flat, None if out is None else out.view(flat.shape)).reshape(image.shape)


@overload
def inverse_image(coefficients: torch.Tensor) -> torch.Tensor: ...
@overload
def inverse_image(coefficients: NDArray[np.float32]) -> NDArray[np.float32]: ...
@overload
def inverse_image(coefficients: NDArray[np.generic]) -> NDArray[np.float64]: ...
def inverse_image(coefficients: torch.Tensor | NDArray[np.generic]) -> torch.Tensor | NDArray[np.generic]:
    """Images [..., n, n] of coefficients [..., N]: H_N·z/N. Raises SideError where N is not the square of a side."""
    n_coefficients = coefficients.shape[-1]
    side = round(n_coefficients**0.5)
    if side * side != n_coefficients:
        raise SideError(f"found {n_coefficients} coefficients; expected n², n a power of two")
    image = transform(coefficients) / n_coefficients
    return image.reshape(*coefficients.shape[:-1], side, side)


def check_side(n: int) -> None:
    """Raise SideError unless n is a power of two."""
    if n < 1 or n & (n - 1):
        raise SideError(f"found {n}; expected a power of two")


def _transform(values: torch.Tensor, out: torch.Tensor | None) -> torch.Tensor:
    import torch

    length = values.shape[-1]
    check_side(length)
    factors = _factors(length)
    if not factors:
        return values.clone() if out is None else out.copy_(values)
    source = values.contiguous()
    # Two buffers in turn, the last factor's being the result: fresh pages for every factor would cost more than its
    # product. Gradients forbid reuse.
    tracked = torch.is_grad_enabled() and values.requires_grad
    buffers: list[torch.Tensor | None] = [None, None]
    if not tracked:
        result = torch.empty_like(source) if out is None else out
        buffers = [_scratch(source), result] if len(factors) % 2 == 0 else [result, _scratch(source)]
    before, after = values.numel() // length, length
    for step, factor in enumerate(factors):
        matrix = _matrix(factor, values.dtype, values.device)
        after //= factor
        shape = (before, factor) if after == 1 else (factor, after) if before == 1 else (before, factor, after)
        source = source.reshape(shape)
        buffer = buffers[step % 2]
        target = None if buffer is None else buffer.view(shape)
        if after == 1:
            source = torch.mm(source, matrix, out=target)
        elif before == 1:
            source = torch.mm(matrix, source, out=target)
        else:
            source = torch.bmm(matrix.expand(before, factor, factor), source, out=target)
        before *= factor
    return source.reshape(values.shape)


class _ThreadScratch(threading.local):
    """The buffer that this thread's last transform used between its factors."""

    buffer: torch.Tensor | None = None


_kept = _ThreadScratch()


def _scratch(like: torch.Tensor) -> torch.Tensor:
    """A buffer like ``like``, its contents arbitrary: this thread's last one where it fits."""
    import torch

    buffer = _kept.buffer
    if buffer is None or buffer.numel() != like.numel() or buffer.dtype != like.dtype or buffer.device != like.device:
        with torch.inference_mode(False):  # an inference tensor could not be written to outside of inference mode
            buffer = _kept.buffer = torch.empty_like(like)
    return buffer.view(like.shape)


@lru_cache(maxsize=32)
def _factors(length: int) -> tuple[int, ...]:
    """Powers of two of about equal size, at most LARGEST_FACTOR, whose product is ``length``."""
    exponent = length.bit_length() - 1
    n_factors = -(-exponent // (LARGEST_FACTOR.bit_length() - 1))
    return tuple(1 << ((exponent + k) // n_factors) for k in range(n_factors))


@lru_cache(maxsize=64)
def _matrix(order: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """H of a small order, by Sylvester's doubling."""
    import torch

    # Kept for later calls, which may want gradients: never an inference tensor.
    with torch.inference_mode(False):
        matrix = torch.ones((1, 1), dtype=dtype, device=device)
        while matrix.shape[0] < order:
            matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)], 0)
    return matrix
