"""How much light packed pictures send to the detector, computed from their bits."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

_CHUNK_BYTES: Final = 2**21
_MOST_KNOWN_ROWS: Final = 8192
_NEW_ROWS_PER_PICTURE: Final = 8


class BitDecoder:
    """Sums the light of the mirrors that a picture turns on.

    ``mirror_light`` float64 [H, W] ≥ 0 is rounded to multiples of a power of two so small that every partial sum of it
    is a float64 exactly: the light of a picture then depends on its bits alone, not on the order of the additions nor
    on which pictures are decoded together. The rounding is below 2⁻⁵² of the total light per mirror.

    Pictures of separable patterns have few different mirror rows. A row that has been seen before is recognised by a
    64-bit hash, compared byte by byte with the row it is taken for, and its light on every mirror row is looked up.
    Pictures with many new rows are unpacked and multiplied instead. Rows and bytes where no light lies are skipped.
    """

    def __init__(self, mirror_light: NDArray[np.float64]) -> None:
        light = np.asarray(mirror_light, dtype=np.float64)
        if light.ndim != 2 or not np.isfinite(light).all() or (light < 0).any():
            raise ValueError("mirror_light must be a two-dimensional array of finite numbers of at least 0")
        self.mirror_light: NDArray[np.float64] = _on_a_grid(light)
        self.mirror_light.flags.writeable = False
        self._lit_rows, self._lit_bytes = _lit_box(self.mirror_light)
        self._light = self._boxed_light()
        self._words = self._light.shape[1] // 64
        odd = np.random.default_rng(0x5EED).integers(0, 2**63, self._words, dtype=np.uint64)
        self._multipliers = odd * np.uint64(2) + np.uint64(1)
        self._known_hashes = np.empty(0, np.uint64)
        self._known_rows = np.empty((0, self._words), np.uint64)
        self._known_light = np.empty((0, self._light.shape[0]))

    def decode(self, pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
        """The light float64 [K] that pictures uint8 [K, H, row_bytes] send to the detector.

        Bit 7 of a byte is its leftmost mirror, the first row the top one; bits beyond the mirrors are padding.
        Raises ValueError where the pictures do not cover the mirrors.
        """
        height, width = self.mirror_light.shape
        if pictures.dtype != np.uint8 or pictures.ndim != 3 or pictures.shape[1] != height:
            raise ValueError(f"pictures are {pictures.dtype} {list(pictures.shape)}; expected uint8 [K, {height}, …]")
        if pictures.shape[2] * 8 < width:
            raise ValueError(f"{pictures.shape[2]} bytes a row hold no {width} mirrors")
        light = np.zeros(len(pictures))
        if not self._words:
            return light
        at_once = max(1, _CHUNK_BYTES // (self._light.shape[0] * self._words * 8))
        for start in range(0, len(pictures), at_once):
            box = pictures[start : start + at_once, self._lit_rows, self._lit_bytes]
            light[start : start + at_once] = self._decode_box(box)
        return light

    def _boxed_light(self) -> NDArray[np.float64]:
        """The light inside of the lit box, padded with darkness to whole 64-bit words."""
        columns = slice(self._lit_bytes.start * 8, self._lit_bytes.stop * 8)
        box = self.mirror_light[self._lit_rows, columns]
        words = -(-(self._lit_bytes.stop - self._lit_bytes.start) // 8)
        padded = np.zeros((box.shape[0], words * 64))
        padded[:, : box.shape[1]] = box
        return padded

    def _decode_box(self, box: NDArray[np.uint8]) -> NDArray[np.float64]:
        n_pictures, n_rows, n_bytes = box.shape
        padded = np.zeros if n_bytes < self._words * 8 else np.empty
        rows = padded((n_pictures, n_rows, self._words * 8), np.uint8)
        rows[:, :, :n_bytes] = box
        words = rows.view(np.uint64)
        hashes = words @ self._multipliers
        self._learn(words, hashes)
        if not len(self._known_hashes):
            return self._dense(rows)
        place = np.minimum(np.searchsorted(self._known_hashes, hashes), len(self._known_hashes) - 1)
        # The hash only proposes: equality of the bytes decides, so that no bit pattern is ever taken for another.
        same = (self._known_rows[place] == words).all(axis=(1, 2))
        light = np.empty(n_pictures)
        light[same] = self._known_light[place[same], np.arange(n_rows)].sum(axis=1)
        if not same.all():
            light[~same] = self._dense(rows[~same])
        return light

    def _learn(self, words: NDArray[np.uint64], hashes: NDArray[np.uint64]) -> None:
        """Take new rows into the table, as long as they are few."""
        changes = np.ones(hashes.shape, dtype=bool)
        changes[:, 1:] = hashes[:, 1:] != hashes[:, :-1]
        candidates, first = np.unique(hashes[changes], return_index=True)
        new = ~np.isin(candidates, self._known_hashes)
        n_new = int(new.sum())
        if (
            not n_new
            or n_new > _NEW_ROWS_PER_PICTURE * len(words)
            or n_new + len(self._known_hashes) > _MOST_KNOWN_ROWS
        ):
            return
        rows = words[changes][first[new]]
        light = np.unpackbits(rows.view(np.uint8), axis=1).astype(np.float64) @ self._light.T
        self._known_hashes = np.concatenate([self._known_hashes, candidates[new]])
        order = np.argsort(self._known_hashes)
        self._known_hashes = self._known_hashes[order]
        self._known_rows = np.concatenate([self._known_rows, rows])[order]
        self._known_light = np.concatenate([self._known_light, light])[order]

    def _dense(self, rows: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Unpack and multiply, a few pictures at a time."""
        light = np.empty(len(rows))
        weights = self._light.ravel()
        for start in range(0, len(rows), 8):
            bits = np.unpackbits(rows[start : start + 8].reshape(-1, rows[0].size), axis=1)
            light[start : start + 8] = bits.astype(np.float64) @ weights
        return light


def _on_a_grid(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round to multiples of 2^-k with 2^53 of them above twice the total: all partial sums are then exact."""
    total = float(light.sum())
    if total == 0.0:
        return np.zeros_like(light)
    step = 2.0 ** (np.ceil(np.log2(total)) - 51)
    rounded: NDArray[np.float64] = np.round(light / step) * step
    return rounded


def _lit_box(light: NDArray[np.float64]) -> tuple[slice, slice]:
    """The mirror rows, and the bytes of a packed row, outside of which no light lies."""
    rows, columns = np.flatnonzero(light.any(axis=1)), np.flatnonzero(light.any(axis=0))
    if not len(rows):
        return slice(0, 0), slice(0, 0)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]) // 8, int(columns[-1]) // 8 + 1)
