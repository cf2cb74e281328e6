"""Gain a and variance b of a camera from one image, after Foi, Trimeche, Katkovnik and Egiazarian (2008).

The diagonal wavelet detail d of an image that is smooth on the scale of the filter is noise alone, and the mean m of
the pixels under it, weighted by the squares of the filter, makes E[d²] = a·m + b exact. Sets of like brightness give
points on that line. Structure is left out where the other two details, which are orthogonal to d and so know nothing of
its noise, have more energy than noise has. The paper tells structure by gradients, takes each coefficient once and
models clipping; here all shifts of the wavelet are taken, and levels that clipping reaches are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calibration.detector_limits import DetectorLimits, detector_limits, filled_in, without_photon_zeros
from calibration.level_sets import level_of, level_sums, surroundings
from calibration.variance_line import VarianceLine, fit_variance_line, reasons_against, remarks_on, widened
from calibration.verdict import ConstantReadingsError, NotCalibratableError, SaturatedThroughoutError

SMALLEST_SIDE_PX = 64

_SQRT_10 = 10**0.5
_ROOT = (5 + 2 * _SQRT_10) ** 0.5
# Daubechies' orthogonal filters with three vanishing moments (Ten Lectures on Wavelets, 1992, table 6.1), closed form.
_SCALING: NDArray[np.float64] = np.array(
    [
        1 + _SQRT_10 + _ROOT,
        5 + _SQRT_10 + 3 * _ROOT,
        10 - 2 * _SQRT_10 + 2 * _ROOT,
        10 - 2 * _SQRT_10 - 2 * _ROOT,
        5 + _SQRT_10 - 3 * _ROOT,
        1 + _SQRT_10 - _ROOT,
    ]
) / (16 * 2**0.5)
_WAVELET: NDArray[np.float64] = _SCALING[::-1] * np.array([1, -1, 1, -1, 1, -1])

_MARGIN_PX = 6
_ROUNDS, _SETTLED = 7, 2
_EXCESS, _OTHER_EXCESS = 1.5, 2.0
_SMOOTHEST = 0.3
_ENERGY_PX = 5
_SATURATED_SHARE = 0.5
_COLOURED, _COLOUR_DEVIATIONS = 0.025, 8.0
_FEWEST_KEPT = 0.02


@dataclass(frozen=True)
class ImageNoise:
    """Noise of one image: the line var = a·mean + b, unclipped, with 95 % intervals and its level sets.

    limits: ends of the detector's range that were kept clear of; kept: share of the pixels that the line rests on.
    colour: correlation of diagonal details two pixels apart, along rows or columns, the larger one: 0 where noise is
    independent from pixel to pixel, negative where it was smoothed, or where structure is left. reason: why it is not
    usable, or nothing; remarks: what else is to be known.
    """

    line: VarianceLine
    limits: DetectorLimits
    kept: float
    colour: float
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


def estimate_image_noise(image: ArrayLike, *, full_scale: float | None = None, seed: int = 0) -> ImageNoise:
    """Estimate a and b of y = a·Poisson(light/a) + N(0, b) from one raw image [h, w] of 64 × 64 px or more.

    Noise must be independent from pixel to pixel: images that were denoised, resampled, registered or compressed with
    loss give too small an a, which ``colour`` shows. b holds the 1/12 of rounding. A black level c that was not
    subtracted makes b smaller by a·c. full_scale: highest value the detector gives; without it, it is found where
    values pile up. seed: of the bootstrap. Intervals hold for images that are smooth on the scale of the filter, 6 px;
    structure that passes for noise is not in them, so on textured images they are too narrow.

    Raises NotCalibratableError (too small, not two-dimensional, not finite), ConstantReadingsError,
    SaturatedThroughoutError, TooFewLevelsError, and ValueError where full_scale is not a positive number.
    """
    pixels = plain_image(image)
    limits = detector_limits(pixels, full_scale)
    refuse_saturated(pixels, limits)
    detail, mean = diagonal_details(pixels)
    square = detail**2
    energy, guide, local = _other_details_energy(pixels), surroundings(pixels), _smooth(pixels)
    inside = ~filled_in(pixels)
    margin = np.zeros_like(inside)
    margin[_MARGIN_PX:-_MARGIN_PX, _MARGIN_PX:-_MARGIN_PX] = True
    inside &= margin
    if not inside.any():
        raise ConstantReadingsError(f"nearly all pixels are {np.median(pixels):g}: expected an image that varies")
    level = level_of(guide, inside)
    kept = inside & _smoothest(energy, level, inside)
    smoothest, reasons = kept, []
    for turn in range(_ROUNDS):
        sums = level_sums(mean, square, level, kept)
        if turn == _SETTLED:
            limits = without_photon_zeros(limits, sums)
        line = fit_variance_line(sums, replicates=0)
        noise = np.maximum(line.at(local), 0.3 * line.level_variance.min())
        kept = inside & (energy <= _EXCESS * noise)
        if kept.mean() < _FEWEST_KEPT:
            kept = smoothest
            reasons.append("hardly anywhere do details look like noise, equal in all directions")
            break
        if turn >= _SETTLED:  # before, the line is too rough to tell what the low limit reaches
            kept &= limits.clear(line, guide, local)
    line = fit_variance_line(level_sums(mean, square, level, kept), seed)
    others = kept | (inside & (energy <= _OTHER_EXCESS * noise) & limits.clear(line, guide, local))
    line = widened(line, fit_variance_line(level_sums(mean, square, level, others), replicates=0))
    colour = _two_apart(detail, kept)
    reasons += reasons_against(line)
    if abs(colour) > max(_COLOURED, _COLOUR_DEVIATIONS / kept.sum() ** 0.5):
        reasons.append(
            f"the finest details are not white (colour {colour:+.3f}): pixels share noise, or structure is left in it; "
            "take repeats of a field"
        )
    return ImageNoise(
        line, limits, float(kept.mean()), colour, not reasons, "; ".join(reasons), tuple(remarks_on(line))
    )


def diagonal_details(image: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Diagonal wavelet details of an image [h, w] at all shifts, and the means of the pixels under them, each [h, w].

    Means are weighted by the squares of the filter, which add up to 1: so is the variance of a detail.
    """
    return _filtered(image, _WAVELET, _WAVELET), _filtered(image, _WAVELET**2, _WAVELET**2)


def plain_image(image: ArrayLike) -> NDArray[np.float64]:
    """An image as float64 [h, w]. Raises NotCalibratableError and ConstantReadingsError."""
    pixels = np.asarray(image)
    if pixels.dtype.kind not in "uif":
        raise NotCalibratableError(f"found values of type {pixels.dtype}: expected real grey values")
    if pixels.ndim != 2 or min(pixels.shape) < SMALLEST_SIDE_PX:
        raise NotCalibratableError(
            f"found an image of shape {list(pixels.shape)}: expected two dimensions of {SMALLEST_SIDE_PX} px or more"
        )
    pixels = pixels.astype(np.float64)
    if not np.isfinite(pixels).all():
        raise NotCalibratableError(
            f"{int((~np.isfinite(pixels)).sum())} pixels are not finite: expected grey values as the detector read them"
        )
    if pixels.min() == pixels.max():
        raise ConstantReadingsError(f"all pixels are {pixels.flat[0]:g}: expected an image that varies")
    return pixels


def refuse_saturated(values: NDArray[np.float64], limits: DetectorLimits) -> None:
    """Raises SaturatedThroughoutError where half of the readings or more are at the upper limit."""
    if limits.high is None:
        return
    share = float(np.mean(values >= limits.high))
    if share >= _SATURATED_SHARE:
        raise SaturatedThroughoutError(
            f"{share:.0%} of the pixels are at {limits.high:g}, the highest value: use less light, or shorter exposures"
        )


def _filtered(
    image: NDArray[np.float64], along_rows: NDArray[np.float64], along_columns: NDArray[np.float64]
) -> NDArray[np.float64]:
    from scipy.ndimage import correlate1d

    filtered: NDArray[np.float64] = correlate1d(
        correlate1d(image, along_rows, axis=0, mode="reflect"), along_columns, axis=1, mode="reflect"
    )
    return filtered


def _smooth(image: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.ndimage import gaussian_filter

    smooth: NDArray[np.float64] = gaussian_filter(image, 2.0)
    return smooth


def _other_details_energy(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean square of horizontal and vertical details near each pixel, float64 [h, w].

    Only details an even number of pixels away are orthogonal to the pixel's diagonal one, so the four phases are
    averaged each by itself.
    """
    from scipy.ndimage import uniform_filter

    square = (_filtered(image, _SCALING, _WAVELET) ** 2 + _filtered(image, _WAVELET, _SCALING) ** 2) / 2
    energy = np.empty_like(square)
    for row in (0, 1):
        for column in (0, 1):
            energy[row::2, column::2] = uniform_filter(square[row::2, column::2], _ENERGY_PX)
    return energy


def _smoothest(energy: NDArray[np.float64], level: NDArray[np.int64], inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The smoothest 30 % of every level set: where the search begins."""
    numbers, energies = level[inside], energy[inside]
    found, begins = np.unique(numbers[order := np.argsort(numbers)], return_index=True)
    bound = np.zeros(int(level.max()) + 1)
    bound[found] = [np.quantile(each, _SMOOTHEST) for each in np.split(energies[order], begins[1:])]
    chosen: NDArray[np.bool_] = energy <= bound[level]
    return chosen


def _two_apart(detail: NDArray[np.float64], kept: NDArray[np.bool_]) -> float:
    """Correlation of details two pixels apart along rows or columns, the larger; white noise has none there."""

    def along(first: Any, second: Any) -> float:
        both = kept[first] & kept[second]
        energy = (detail[first][both] ** 2).sum() + (detail[second][both] ** 2).sum()
        return float(2 * (detail[first][both] * detail[second][both]).sum() / max(energy, 1e-300))

    here, there = slice(None, -2), slice(2, None)
    return max(along(np.s_[:, here], np.s_[:, there]), along(np.s_[here], np.s_[there]), key=abs)
