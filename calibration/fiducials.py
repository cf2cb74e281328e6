"""Dots of mirrors at known places, one in each picture: what shows where the DMD lies on the detector."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from calibration.recipe import Recipe
from models.pictures import BufferShapeError, PictureIndexError, Region, RegionError

# Small beside the region, so that a dot's place is a point; large enough to send light that can be seen.
_DOTS_PER_EXTENT: Final = 16
_SMALLEST_DOT: Final = 4
_SECTION_PAIRS: Final = 16


def fiducial_recipe(region: Region, grid: int = 5, repeats: int = 4, seed: int = 0) -> Recipe:
    """Every dot of a grid × grid ``repeats`` times, in an order drawn from ``seed``; frames are kept.

    Raises ValueError for less than one repeat, and what FiducialPictures raises.
    """
    n_dots = len(FiducialPictures(region, grid).positions)
    rng = np.random.default_rng(seed)
    return Recipe(
        name="registration",
        pairs=rng.permutation(np.arange(1, n_dots + 1, dtype=np.int64)),
        plus_first=rng.random(n_dots) < 0.5,
        passes=repeats,
        section_pairs=min(n_dots, _SECTION_PAIRS),
        rests_s=np.zeros(max(repeats, 0)),
        keeps_frames=True,
    )


class FiducialPictures:
    """The pictures of a grid × grid of dots over an image region: a calibration.recipe.PictureSource.

    positions: float64 [K, 2], column and row of every dot's centre on the chip, K = grid², row by row of the grid; pair
    k of the recipe is positions[k - 1]. Mirrors have their centres at integers. dot: float64 [m, 2], column and row of
    a dot's mirrors relative to its centre. diameter: of a dot, mirrors. The outermost dots lie half a diameter from the
    region's edge, where there is room. Raises ValueError for a grid of less than 3 × 3 dots, RegionError
    where the region is too small for that many different ones.
    """

    def __init__(self, region: Region, grid: int = 5) -> None:
        if grid < 3:
            raise ValueError(f"found a grid of {grid} × {grid} dots; expected at least 3 × 3 to tell a bad one")
        self.region = region
        self.diameter = max(region.extent // _DOTS_PER_EXTENT, _SMALLEST_DOT)
        room = region.extent - self.diameter
        if room < grid - 1:
            raise RegionError(
                f"found a region of {region.extent} × {region.extent} mirrors, too small for {grid} different places "
                f"of a dot of {self.diameter} mirrors in a row; expected at least {self.diameter + grid - 1} mirrors"
            )
        # Light that the optics spread from beyond the region's edge would be missing in the dots that lie there.
        inset = min(self.diameter // 2, (room - (grid - 1)) // 2)
        first = np.rint(np.linspace(inset, room - inset, grid)).astype(np.int64)
        rows, columns = np.meshgrid(region.top + first, region.left + first, indexing="ij")
        self._first_row, self._first_column = rows.ravel(), columns.ravel()
        middle = (self.diameter - 1) / 2
        firsts = np.stack([self._first_column, self._first_row], axis=1)
        self.positions: NDArray[np.float64] = firsts.astype(np.float64) + middle
        across = np.arange(self.diameter) - middle
        disc = across**2 + across[:, None] ** 2 <= (self.diameter / 2) ** 2
        row, column = np.nonzero(disc)
        self.dot: NDArray[np.float64] = np.stack([column, row], axis=1).astype(np.float64) - middle
        self._dot_rows = self._packed_dots(disc)
        lit = np.zeros(region.row_bytes * 8, dtype=bool)
        lit[region.left : region.left + region.extent] = True
        self._region_row = np.packbits(lit)

    @property
    def corners(self) -> NDArray[np.float64]:
        """Outer corners of the region on the chip, float64 [4, 2], column and row: top left, then clockwise."""
        return region_corners(self.region.left, self.region.top, self.region.extent)

    def render(
        self, indices: NDArray[np.integer], signs: NDArray[np.integer], out: NDArray[np.uint8] | None = None
    ) -> NDArray[np.uint8]:
        """Packed pictures uint8 [n, mirrors_height, row_bytes] of dots ``indices`` [n], 1 to K.

        signs: [n], +1 for the dot alone, -1 for the region without it; (0, +1) is all of the region, (0, -1) darkness.
        out: buffer to render into, C-contiguous; whatever it held is gone. Raises PictureIndexError, BufferShapeError.
        """
        self._check(indices, signs)
        region = self.region
        shape = (len(indices), region.mirrors_height, region.row_bytes)
        if out is None:
            out = np.empty(shape, dtype=np.uint8)
        elif out.shape != shape or out.dtype != np.uint8 or not out.flags.c_contiguous:
            raise BufferShapeError(
                f"found a buffer {out.dtype} {list(out.shape)}; expected C-contiguous uint8 {list(shape)}"
            )
        out[:] = 0
        for picture, index, sign in zip(out, np.asarray(indices), np.asarray(signs), strict=True):
            # All of the region is the complement of no dot.
            if (sign > 0) == (index == 0):
                picture[region.top : region.top + region.extent] = self._region_row
            if index > 0:
                first = self._first_row[index - 1]
                picture[first : first + self.diameter] ^= self._dot_rows[index - 1]
        return out

    def _check(self, indices: NDArray[np.integer], signs: NDArray[np.integer]) -> None:
        n_dots = len(self.positions)
        if len(indices) != len(signs) or not np.isin(signs, (-1, 1)).all():
            raise PictureIndexError(f"found {len(signs)} signs for {len(indices)} dots; expected one each, +1 or -1")
        if len(indices) and not (int(np.min(indices)) >= 0 and int(np.max(indices)) <= n_dots):
            raise PictureIndexError(
                f"found dots {int(np.min(indices))} to {int(np.max(indices))}; expected 0 to {n_dots}"
            )

    def _packed_dots(self, disc: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """uint8 [K, diameter, row_bytes]: the mirror rows that a dot takes."""
        bits = np.zeros((len(self._first_column), self.diameter, self.region.row_bytes * 8), dtype=bool)
        for dot, column in zip(bits, self._first_column, strict=True):
            dot[:, column : column + self.diameter] = disc
        return np.packbits(bits, axis=2)


def region_corners(left: float, top: float, extent: float) -> NDArray[np.float64]:
    """Outer corners float64 [4, 2], column and row, of extent × extent mirrors: top left, then clockwise."""
    low = np.array([left, top]) - 0.5
    return low + extent * np.array([[0, 0], [1, 0], [1, 1], [0, 1]], dtype=np.float64)
