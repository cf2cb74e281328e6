"""The eight flips and rotations of the square, which give every crop eight views of the same sample."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

DIHEDRAL = range(8)


class TurnError(ValueError):
    """A turn that the square does not have, or an image that is not square."""


@overload
def turned(images: torch.Tensor, which: int) -> torch.Tensor: ...
@overload
def turned(images: NDArray[Any], which: int) -> NDArray[Any]: ...
def turned(images: torch.Tensor | NDArray[Any], which: int) -> torch.Tensor | NDArray[Any]:
    """Images [..., n, n] after flip or rotation ``which`` of DIHEDRAL; 0 leaves them as they are. All pixels are kept.

    Bit 0 of ``which`` turns the image upside down, bit 1 swaps left and right, bit 2 then swaps rows and columns. NumPy
    in, NumPy out (a view); tensor in, tensor out. Raises TurnError.
    """
    if which not in DIHEDRAL or images.ndim < 2 or images.shape[-1] != images.shape[-2]:
        raise TurnError(f"found turn {which} of images {list(images.shape)}; expected 0 to 7 and [..., n, n]")
    axes = tuple(axis for bit, axis in ((1, -2), (2, -1)) if which & bit)
    flipped = np.flip(images, axes) if isinstance(images, np.ndarray) else images.flip(axes)
    return flipped.swapaxes(-2, -1) if which & 4 else flipped


def inverse(which: int) -> int:
    """The turn that undoes ``which``. Raises TurnError."""
    if which not in DIHEDRAL:
        raise TurnError(f"found turn {which}; expected 0 to 7")
    # Swapping rows and columns exchanges the two flips: only a single flip before a swap is not its own inverse.
    return {5: 6, 6: 5}.get(which, which)
