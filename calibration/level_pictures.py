"""Pictures that light a stated share of the image region, evenly over the sample, in complementary pairs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.pictures import BufferShapeError, PictureIndexError, Region

TILE = 8


class LevelPictures:
    """Renders the pictures of ``levels`` steps of light; holds one packed picture per pair.

    Pair k = 1 … levels/2: sign +1 lights the share k/levels of the region's mirrors, sign -1 all others. (0, +1) is all
    of the region, (0, -1) darkness. Every tile of 8 × 8 mirrors has a random order of its own (``seed``), and share f
    lights the first round(64·f) of each: the light is as even over the sample as single mirrors allow, and a brighter
    level's mirrors include a dimmer one's. Where the region's side is no multiple of 8 the outermost tiles are cut.
    Mirrors outside the region stay dark. Raises LevelCountError.
    """

    def __init__(self, region: Region, levels: int, seed: int) -> None:
        check_levels(levels)
        self.region = region
        self.levels = levels
        tiles = -(-region.extent // TILE)
        orders = np.random.default_rng(seed).permuted(np.tile(np.arange(TILE**2), (tiles**2, 1)), axis=1)
        rank = orders.reshape(tiles, tiles, TILE, TILE).swapaxes(1, 2).reshape(tiles * TILE, tiles * TILE)
        rank = rank[: region.extent, : region.extent]
        thresholds = np.round(TILE**2 * np.arange(1, levels // 2 + 1) / levels)
        # Row k is pair k; row 0 is all of the region, which turns a picture into its complement.
        self._packed = np.stack([self._pack(rank < threshold) for threshold in (TILE**2, *thresholds)])

    def render(
        self, indices: NDArray[np.integer], signs: NDArray[np.integer], out: NDArray[np.uint8] | None = None
    ) -> NDArray[np.uint8]:
        """Packed pictures uint8 [K, mirrors_height, row_bytes] of pairs ``indices`` [K] and ``signs`` [K], ±1.

        out: buffer to render into, C-contiguous; whatever it held is gone. Raises PictureIndexError, BufferShapeError.
        """
        region = self.region
        shape = (len(indices), region.mirrors_height, region.row_bytes)
        if len(indices) != len(signs) or not np.isin(signs, (-1, 1)).all():
            raise PictureIndexError(f"found {len(signs)} signs for {len(indices)} pairs; expected one each, +1 or -1")
        if len(indices) and not (int(np.min(indices)) >= 0 and int(np.max(indices)) < len(self._packed)):
            raise PictureIndexError(
                f"found pairs {int(np.min(indices))} to {int(np.max(indices))}; "
                f"expected 0 to {len(self._packed) - 1} of {self.levels} levels"
            )
        if out is None:
            out = np.empty(shape, dtype=np.uint8)
        elif out.shape != shape or out.dtype != np.uint8 or not out.flags.c_contiguous:
            raise BufferShapeError(
                f"found a buffer {out.dtype} {list(out.shape)}; expected C-contiguous uint8 {list(shape)}"
            )
        out[:, : region.top] = 0
        out[:, region.top + region.extent :] = 0
        whole = self._packed[0]
        for picture, index, sign in zip(out, indices, signs, strict=True):
            lit = picture[region.top : region.top + region.extent]
            if index == 0:
                lit[:] = whole if sign > 0 else 0
            elif sign > 0:
                lit[:] = self._packed[index]
            else:
                np.bitwise_xor(whole, self._packed[index], out=lit)
        return out

    def _pack(self, lit: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """uint8 [extent, row_bytes] of the region's mirrors bool [extent, extent], in their columns."""
        region = self.region
        bits = np.zeros((region.extent, region.row_bytes * 8), dtype=np.bool_)
        bits[:, region.left : region.left + region.extent] = lit
        return np.packbits(bits, axis=1)


def check_levels(levels: int) -> None:
    """Raise LevelCountError unless ``levels`` is an even number from 2 to 64."""
    if levels % 2 or not 2 <= levels <= TILE**2:
        raise LevelCountError(
            f"found {levels} light levels; expected an even number from 2 to {TILE**2}: levels come in complementary "
            f"pairs, and a tile of {TILE} × {TILE} mirrors has no finer steps"
        )


class LevelCountError(ValueError):
    """A number of light levels that cannot be displayed."""
