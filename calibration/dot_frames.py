"""Frames of dots as they come, block by block, averaged so that their number takes no memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.verdict import NotCalibratableError

_ALL = slice(None)


@dataclass(frozen=True)
class SeenDots:
    """What the detector saw of a grid of dots.

    mean: float32 [K, h, w], mean frame under every dot, its dark picture included; count: int64 [K], frames of each.
    full: float64 [h, w], mean frame under all mirrors of the region; dark: float64 [h, w], under none of them, with the
    light on. noise: standard deviation of a dark pixel in a dot's mean frame, dark subtracted. All in detector units.
    clipped: bool [K, h, w], pixels that stood at full scale in a frame of each dot; clipped_full, clipped_dark: bool
    [h, w], those of the full and of the dark pictures.
    """

    mean: NDArray[np.float32]
    count: NDArray[np.int64]
    full: NDArray[np.float64]
    dark: NDArray[np.float64]
    noise: float
    clipped: NDArray[np.bool_]
    clipped_full: NDArray[np.bool_]
    clipped_dark: NDArray[np.bool_]

    def dot(self, k: int, rows: slice = _ALL, columns: slice = _ALL) -> NDArray[np.float64]:
        """Light of dot k, from 0, float64, in a part of the frame: its mean less the dark; 0 where no frame came."""
        dark = self.dark[rows, columns]
        light: NDArray[np.float64] = np.zeros_like(dark) if self.count[k] == 0 else self.mean[k, rows, columns] - dark
        return light

    def saturated(self, k: int, rows: slice = _ALL, columns: slice = _ALL) -> NDArray[np.bool_]:
        """Pixels that the light of dot k brought to full scale; hot ones, which are there in the dark too, are not."""
        saturated: NDArray[np.bool_] = self.clipped[k, rows, columns] & ~self.clipped_dark[rows, columns]
        return saturated

    @property
    def saturated_sample(self) -> NDArray[np.bool_]:
        """Pixels that the light of all mirrors brought to full scale, bool [h, w]: ``sample`` is too small there."""
        saturated: NDArray[np.bool_] = self.clipped_full & ~self.clipped_dark
        return saturated

    @property
    def sample(self) -> NDArray[np.float64]:
        """Light of the sample under all mirrors of the region, float64 [h, w]."""
        return self.full - self.dark


class DotFrames:
    """Means of the frames under n_dots dots, under all mirrors and under none.

    full_scale: pixels at this value or above are saturated, detector units; None for the largest that the frames'
    integers hold. It holds 5·K + 34 bytes a pixel however many frames come: of dots' complements nothing is kept, and
    of the dark picture alone the variance too, because it says what a pixel without light does.
    """

    def __init__(self, n_dots: int, full_scale: float | None = None) -> None:
        self._n_dots = n_dots
        self._full_scale = full_scale
        self._dots: NDArray[np.float32] | None = None
        self._clipped: NDArray[np.bool_] = np.zeros((n_dots, 0, 0), dtype=np.bool_)
        self._counts = np.zeros(n_dots, dtype=np.int64)
        self._full, self._dark = _Running(), _Running()

    def add(self, pair: NDArray[np.integer], sign: NDArray[np.integer], frames: NDArray[Any]) -> None:
        """Frames [n, h, w] in detector units, all of the camera's frame, of pictures (``pair`` [n], ``sign`` [n]).

        Raises ValueError where the shapes do not fit each other or what came before, or there is no such dot.
        """
        if not len(pair) == len(sign) == len(frames) or frames.ndim != 3:
            raise ValueError(
                f"found {len(pair)} pairs, {len(sign)} signs and frames {list(frames.shape)}; expected as many frames "
                "of height × width"
            )
        if len(pair) and (int(np.min(pair)) < 0 or int(np.max(pair)) > self._n_dots):
            raise ValueError(f"found dots {int(np.min(pair))} to {int(np.max(pair))}; expected 0 to {self._n_dots}")
        if self._dots is None:
            self._dots = np.zeros((self._n_dots, *frames.shape[1:]), dtype=np.float32)
            self._clipped = np.zeros(self._dots.shape, dtype=np.bool_)
        if self._dots.shape[1:] != frames.shape[1:]:
            raise ValueError(
                f"found frames {list(frames.shape[1:])} after frames {list(self._dots.shape[1:])}; expected one size"
            )
        full_scale = _largest(frames.dtype) if self._full_scale is None else self._full_scale
        for number, plus, frame in zip(np.asarray(pair), np.asarray(sign) > 0, frames, strict=True):
            if number == 0:
                (self._full if plus else self._dark).add(frame, full_scale)
            elif plus:
                k = int(number) - 1
                self._counts[k] += 1
                self._dots[k] += (frame - self._dots[k]) / np.float32(self._counts[k])
                self._clipped[k] |= frame >= full_scale

    def seen(self) -> SeenDots:
        """What came so far. Raises NotCalibratableError where it holds no dot, full picture or pair of dark ones."""
        if self._dots is None or not self._counts.any() or self._full.count == 0 or self._dark.count < 2:
            raise NotCalibratableError(
                f"frames came of {int((self._counts > 0).sum())} dots, {self._full.count} full and {self._dark.count} "
                "dark pictures; at least 1, 1 and 2 are needed: the detector must keep its frames, and the recipe its "
                "guards"
            )
        fewest = int(self._counts[self._counts > 0].min())
        variance = float(self._dark.variance.mean()) * (1 / fewest + 1 / self._dark.count)
        return SeenDots(
            self._dots,
            self._counts.copy(),
            self._full.mean,
            self._dark.mean,
            variance**0.5,
            self._clipped,
            self._full.clipped,
            self._dark.clipped,
        )


class _Running:
    """Mean and variance of frames one after the other (Welford 1962), and which of their pixels were at full scale."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: NDArray[np.float64] = np.zeros(())
        self.clipped: NDArray[np.bool_] = np.zeros((), dtype=np.bool_)
        self._squares: NDArray[np.float64] = np.zeros(())

    def add(self, frame: NDArray[Any], full_scale: float) -> None:
        self.count += 1
        self.clipped = self.clipped | (frame >= full_scale)
        before = frame - self.mean
        self.mean = self.mean + before / self.count
        self._squares = self._squares + before * (frame - self.mean)

    @property
    def variance(self) -> NDArray[np.float64]:
        return self._squares / (self.count - 1)


def _largest(dtype: np.dtype[Any]) -> float:
    """Largest value that pixels of a type hold."""
    return float(np.iinfo(dtype).max) if np.issubdtype(dtype, np.integer) else np.inf
