"""H+ and H- of any pattern, rendered straight into packed DMD bit planes.

Pattern i = u·n + v is the outer product of rows u and v of H_n, and it stays one when the image is flipped or rotated:
a flip reverses a factor, a rotation exchanges them and reverses one. So a mirror row of a picture is one of 2n packed
rows, ± each possible horizontal factor, and a picture is gathered from them; no mirror is ever computed by itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.hadamard import check_side, transform


class RegionError(ValueError):
    """An image region that does not fit the mirrors."""


@dataclass(frozen=True)
class Region:
    """Where the n × n pixels of an image lie on the mirrors.

    The image is flipped (vertical: rows reversed; horizontal: columns reversed), then rotated counter-clockwise by
    ``rotation_deg``, then every pixel becomes a square of ``mirrors_per_px`` mirrors, the first at (top, left). A row
    of mirrors takes ``row_bytes`` bytes, bit 7 of the first byte being the leftmost; mirrors outside the region stay
    dark in every picture. Raises SideError, RegionError.
    """

    side: int
    mirrors_height: int
    mirrors_width: int
    row_bytes: int
    top: int
    left: int
    mirrors_per_px: int
    flip_vertical: bool = False
    flip_horizontal: bool = False
    rotation_deg: int = 0

    def __post_init__(self) -> None:
        check_side(self.side)
        if self.rotation_deg not in (0, 90, 180, 270):
            raise RegionError(f"found a rotation of {self.rotation_deg}°; expected 0, 90, 180 or 270")
        if self.mirrors_per_px < 1 or self.top < 0 or self.left < 0:
            raise RegionError(
                f"found {self.mirrors_per_px} mirrors per pixel from row {self.top}, column {self.left}; "
                "expected at least 1, from row and column 0 or more"
            )
        if self.row_bytes * 8 < self.mirrors_width:
            raise RegionError(f"found rows of {self.row_bytes} bytes; {self.mirrors_width} mirrors take more")
        if self.top + self.extent > self.mirrors_height or self.left + self.extent > self.mirrors_width:
            raise RegionError(
                f"found a region of {self.extent} × {self.extent} mirrors from row {self.top}, column {self.left}; "
                f"the DMD has {self.mirrors_height} rows and {self.mirrors_width} columns"
            )

    @property
    def extent(self) -> int:
        """Mirrors along one side of the region."""
        return self.side * self.mirrors_per_px


class PictureRenderer:
    """Renders pictures of one region; holds a table of n × 2n signs and 2n packed rows."""

    def __init__(self, region: Region) -> None:
        self.region = region
        signs = transform(np.eye(region.side)).astype(np.int8)
        down, across = signs, signs
        self._down_is_u = region.rotation_deg in (0, 180)
        if region.flip_vertical:
            down = down[:, ::-1]
        if region.flip_horizontal:
            across = across[:, ::-1]
        for _ in range(region.rotation_deg // 90):
            # rot90 of the outer product p ⊗ q is reversed(q) ⊗ p.
            down, across = across[:, ::-1], down
        self._row_is_minus = np.ascontiguousarray(down < 0)
        self._rows = self._packed_rows(across)

    def render(
        self, indices: NDArray[np.integer], signs: NDArray[np.integer], out: NDArray[np.uint8] | None = None
    ) -> NDArray[np.uint8]:
        """Packed pictures uint8 [K, mirrors_height, row_bytes] of patterns ``indices`` [K].

        signs: [K], +1 for H+ (bright where H is +1) and -1 for H-; (0, +1) is bright all over the region, (0, -1) dark.
        out: buffer to render into, C-contiguous; whatever it held is gone. Raises PictureIndexError, BufferShapeError.
        """
        region, n = self.region, self.region.side
        shape = (len(indices), region.mirrors_height, region.row_bytes)
        self._check(indices, signs)
        if out is None:
            out = np.empty(shape, dtype=np.uint8)
        elif out.shape != shape or out.dtype != np.uint8 or not out.flags.c_contiguous:
            raise BufferShapeError(
                f"found a buffer {out.dtype} {list(out.shape)}; expected C-contiguous uint8 {list(shape)}"
            )
        u, v = np.divmod(np.asarray(indices, dtype=np.int64), n)
        down, across = (u, v) if self._down_is_u else (v, u)
        minus = self._row_is_minus[down] ^ (np.asarray(signs) < 0)[:, None]
        rows = across[:, None] + n * minus
        bottom = region.top + region.extent
        out[:, : region.top] = 0
        out[:, bottom:] = 0
        for picture, picture_rows in zip(out, rows, strict=True):
            lit = picture[region.top : bottom].reshape(n, -1)
            np.take(self._rows, picture_rows, axis=0, out=lit, mode="clip")
        return out

    def _check(self, indices: NDArray[np.integer], signs: NDArray[np.integer]) -> None:
        n_patterns = self.region.side**2
        if len(indices) != len(signs) or not np.isin(signs, (-1, 1)).all():
            raise PictureIndexError(
                f"found {len(signs)} signs for {len(indices)} patterns; expected one each, +1 or -1"
            )
        if len(indices) and not (int(np.min(indices)) >= 0 and int(np.max(indices)) < n_patterns):
            raise PictureIndexError(
                f"found patterns {int(np.min(indices))} to {int(np.max(indices))}; expected 0 to {n_patterns - 1}"
            )

    def _packed_rows(self, across: NDArray[np.int8]) -> NDArray[np.uint8]:
        """uint8 [2n, mirrors_per_px·row_bytes], a pixel row each: lit where +across is 1, then where -across is."""
        region = self.region
        bits = np.zeros((2 * region.side, region.row_bytes * 8), dtype=np.uint8)
        lit = np.concatenate([across, -across]) > 0
        bits[:, region.left : region.left + region.extent] = np.repeat(lit, region.mirrors_per_px, axis=1)
        return np.tile(np.packbits(bits, axis=1), (1, region.mirrors_per_px))


class PictureIndexError(IndexError):
    """Patterns or signs that do not exist."""


class BufferShapeError(ValueError):
    """A buffer that pictures do not fit into."""
