"""Test pictures for adjusting the optics, packed: full, dark, grid, the region's outline, one coefficient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.pictures import PictureRenderer, Region

_GRID_MIRRORS: Final = 64


def alignment_picture(region: Region, name: str, index: int = 0) -> NDArray[np.uint8]:
    """One packed picture uint8 [mirrors_height, row_bytes].

    name: full (all mirrors on), dark (none), grid (every 64th row and column, the middle ones three mirrors wide),
    region (the outline of the image region), coefficient (H+ of pattern ``index``). Raises ValueError.
    """
    if name == "coefficient":
        if not 0 <= index < region.side**2:
            raise ValueError(f"there is no pattern {index}; allowed: 0 to {region.side**2 - 1}")
        picture: NDArray[np.uint8] = PictureRenderer(region).render(np.array([index]), np.array([1]))[0]
        return picture
    if name not in ALIGNMENT_MIRRORS:
        raise ValueError(f"there is no test picture {name!r}; allowed: {', '.join(ALIGNMENT_PICTURES)}")
    mirrors = np.zeros((region.mirrors_height, region.row_bytes * 8), dtype=bool)
    mirrors[:, : region.mirrors_width] = ALIGNMENT_MIRRORS[name](region)
    return np.packbits(mirrors, axis=1)


def _full(region: Region) -> NDArray[np.bool_]:
    return np.ones((region.mirrors_height, region.mirrors_width), dtype=bool)


def _dark(region: Region) -> NDArray[np.bool_]:
    return ~_full(region)


def _grid(region: Region) -> NDArray[np.bool_]:
    mirrors = _dark(region)
    mirrors[::_GRID_MIRRORS], mirrors[:, ::_GRID_MIRRORS] = True, True
    row, column = region.mirrors_height // 2, region.mirrors_width // 2
    mirrors[row - 1 : row + 2], mirrors[:, column - 1 : column + 2] = True, True
    return mirrors


def _region(region: Region) -> NDArray[np.bool_]:
    mirrors = _dark(region)
    extent = region.side * region.mirrors_per_px
    inside = mirrors[region.top : region.top + extent, region.left : region.left + extent]
    inside[[0, -1]], inside[:, [0, -1]] = True, True
    return mirrors


ALIGNMENT_MIRRORS: Final[dict[str, Callable[[Region], NDArray[np.bool_]]]] = {
    "full": _full,
    "dark": _dark,
    "grid": _grid,
    "region": _region,
}
ALIGNMENT_PICTURES: Final = (*ALIGNMENT_MIRRORS, "coefficient")
