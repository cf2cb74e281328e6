"""Gain a and variance b of a camera from repeated images of a field that does not change."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calibration.detector_limits import DetectorLimits, detector_limits, filled_in, without_photon_zeros
from calibration.image_noise import plain_image, refuse_saturated
from calibration.level_sets import level_of, level_sums, surroundings
from calibration.variance_line import VarianceLine, fit_variance_line, reasons_against, remarks_on
from calibration.verdict import ConstantReadingsError, NotCalibratableError

_ROUNDS = 4
_BLOCK_PX = 16
_LIT_RATIO = 100.0
_FAR_PX = 8
_MOVED, _SHARED, _DEVIATIONS = 0.03, 0.03, 5.0
_STRUCTURE, _LEAST_ALIKE = 0.3, 0.5


class DifferentFieldsError(NotCalibratableError):
    """Images that were given as repeats of one field show different ones."""


@dataclass(frozen=True)
class RepeatNoise:
    """Noise of a field's repeats: the line var = a·mean + b, unclipped, with 95 % intervals and its level sets.

    frames: numbers of the repeats that were used; duplicates: (repeat, the earlier one it is equal to), left out.
    brightness: of the used repeats, relative to their mean, float64 [frames]. limits: ends of the detector's range that
    were kept clear of; kept: share of the pixels that the line rests on. neighbours: correlation of the noise of pixels
    next to each other, along rows and along columns; far: of pixels eight apart, above 0 where the field itself changed
    from repeat to repeat. reason: why it is not usable, or nothing; remarks: what else is to be known.
    """

    line: VarianceLine
    frames: tuple[int, ...]
    duplicates: tuple[tuple[int, int], ...]
    brightness: NDArray[np.float64]
    limits: DetectorLimits
    kept: float
    neighbours: tuple[float, float]
    far: float
    usable: bool
    reason: str
    remarks: tuple[str, ...]

    @property
    def gain(self) -> float:
        """a, detector units per photo-electron."""
        return self.line.gain

    @property
    def variance(self) -> float:
        """b, detector units², as estimated: it may be negative."""
        return self.line.variance

    @property
    def n_levels(self) -> int:
        """Level sets the line was fitted to."""
        return len(self.line.level_mean)


def estimate_repeat_noise(stack: ArrayLike, *, full_scale: float | None = None, seed: int = 0) -> RepeatNoise:
    """Estimate a and b of y = a·Poisson(light/a) + N(0, b) from K ≥ 2 repeats [K, h, w] of a field.

    A pixel's variance is the unbiased one over repeats, after the brightness of every repeat was taken out: a straight
    line of each repeat on the mean of all. Texture of the field does not matter, and noise may be shared between
    neighbouring pixels. b holds the 1/12 of rounding; a black level c that was not subtracted makes it smaller by a·c.

    Raises NotCalibratableError (fewer than two different repeats, too small, not finite), DifferentFieldsError,
    ConstantReadingsError, SaturatedThroughoutError, TooFewLevelsError, and ValueError where full_scale is not a
    positive number.
    """
    frames, duplicates, repeats = _different(stack)
    limits = detector_limits(repeats, full_scale)
    refuse_saturated(repeats, limits)
    mean = repeats.mean(axis=0)
    rest, brightness = _without_drift(repeats, mean)
    variance = (rest**2).sum(axis=0) / (len(repeats) - 1)
    guide, inside = surroundings(mean), ~filled_in(mean)
    if not inside.any():
        raise ConstantReadingsError(f"nearly all pixels are {np.median(mean):g}: expected images that vary")
    _must_show_one_field(frames, repeats, _far_correlation(rest, inside))
    level, kept = level_of(guide, inside), inside
    limits = without_photon_zeros(limits, level_sums(mean, variance, level, kept))
    for _ in range(_ROUNDS):
        line = fit_variance_line(level_sums(mean, variance, level, kept), replicates=0)
        kept = inside & limits.clear(line, guide, mean)
    line = fit_variance_line(level_sums(mean, variance, level, kept), seed)
    noise = rest / np.sqrt(np.maximum(line.at(mean), 0.3 * line.level_variance.min()))
    neighbours = _correlation(noise, kept, 0, 1), _correlation(noise, kept, 1, 0)
    far = _far_correlation(noise, kept)
    reasons = reasons_against(line)
    if far > max(_MOVED, _DEVIATIONS / kept.sum() ** 0.5):
        reasons.append(
            f"the field changed between repeats (correlation {far:.2f} of pixels {_FAR_PX} apart): it moved, or its "
            "brightness changed from place to place"
        )
    remarks = remarks_on(line)
    if duplicates:
        remarks.append("left out: " + ", ".join(f"repeat {number} equals {other}" for number, other in duplicates))
    if max(map(abs, neighbours)) - max(far, 0.0) > max(_SHARED, _DEVIATIONS / kept.sum() ** 0.5):
        remarks.append(
            f"neighbouring pixels share noise (correlation {neighbours[0]:.2f} along rows, {neighbours[1]:.2f} along "
            "columns): single images give too small an a, and sums over pixels vary by more than this b"
        )
    return RepeatNoise(
        line,
        frames,
        duplicates,
        brightness,
        limits,
        float(kept.mean()),
        neighbours,
        far,
        not reasons,
        "; ".join(reasons),
        tuple(remarks),
    )


def _different(stack: ArrayLike) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...], NDArray[np.float64]]:
    """Numbers of the repeats to use, duplicates with what they are equal to, and the repeats to use [K', h, w]."""
    given = np.asarray(stack)
    if given.ndim != 3 or len(given) < 2:
        raise NotCalibratableError(
            f"found an array of shape {list(given.shape)}: expected two repeats [K, h, w] or more"
        )
    repeats = [plain_image(each) for each in given]
    seen: dict[bytes, int] = {}
    duplicates = []
    for number, repeat in enumerate(repeats):
        earlier = seen.setdefault(hashlib.sha256(repeat.tobytes()).digest(), number)
        if earlier != number:
            duplicates.append((number, earlier))
    left_out = {number for number, _ in duplicates}
    frames = tuple(number for number in range(len(repeats)) if number not in left_out)
    if len(frames) < 2:
        raise NotCalibratableError(f"all {len(repeats)} repeats are equal: expected each to be an exposure of its own")
    return frames, tuple(duplicates), np.stack([repeats[number] for number in frames])


def _without_drift(
    repeats: NDArray[np.float64], mean: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What is left of each repeat [K, h, w] when its brightness is taken out, and the brightness [K].

    Slope and height of a line on the mean of all, through sums over blocks of 16 px, so that a black level does not
    matter. Where the blocks are too alike to show a slope, only the height is taken out.
    """
    coarse = _blocks(mean)
    away = coarse - coarse.mean()
    noise = repeats.var(axis=0, ddof=1).mean() / _BLOCK_PX**2
    if away @ away > _LIT_RATIO * len(away) * noise:
        slope = np.array([away @ _blocks(repeat) for repeat in repeats]) / (away @ away)
    else:
        slope = np.ones(len(repeats))
    offset = repeats.mean(axis=(1, 2)) - slope * mean.mean()
    return repeats - slope[:, None, None] * mean - offset[:, None, None], slope


def _must_show_one_field(frames: tuple[int, ...], repeats: NDArray[np.float64], far: float) -> None:
    """Raises DifferentFieldsError where means of blocks of two repeats [K, h, w] are not alike.

    frames: numbers of the repeats; far: correlation of what is left of them when their mean is taken out, of pixels
    eight apart: without structure in it, blocks of a dim field are unlike only because of noise.
    """
    alike = np.atleast_2d(np.corrcoef([_blocks(repeat) for repeat in repeats]))
    first, second = sorted(divmod(int(np.argmin(alike)), len(alike)))
    if far > _STRUCTURE and alike[first, second] < _LEAST_ALIKE:
        raise DifferentFieldsError(
            f"the repeats show different fields (correlation {alike[first, second]:.2f} between repeats "
            f"{frames[first]} and {frames[second]}): expected exposures of one field; different fields are estimated "
            "one by one (--single on the command line)"
        )


def _blocks(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means of squares of 16 px of an image [h, w], [squares]."""
    height, width = (extent // _BLOCK_PX for extent in image.shape)
    square = image[: height * _BLOCK_PX, : width * _BLOCK_PX].reshape(height, _BLOCK_PX, width, _BLOCK_PX)
    averages: NDArray[np.float64] = square.mean(axis=(1, 3)).ravel()
    return averages


def _far_correlation(noise: NDArray[np.float64], kept: NDArray[np.bool_]) -> float:
    return (_correlation(noise, kept, 0, _FAR_PX) + _correlation(noise, kept, _FAR_PX, 0)) / 2


def _correlation(noise: NDArray[np.float64], kept: NDArray[np.bool_], down: int, right: int) -> float:
    """Correlation of noise [K, h, w] at pixels ``down`` and ``right`` apart, both of them kept."""
    height, width = kept.shape
    here, there = np.s_[: height - down, : width - right], np.s_[down:, right:]
    both = kept[here] & kept[there]
    first, second = noise[:, *here][:, both], noise[:, *there][:, both]
    energy = (first**2).sum() + (second**2).sum()
    return float(2 * (first * second).sum() / max(energy, 1e-300))
