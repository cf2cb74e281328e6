"""Where an image says nothing about noise: at the ends of the detector's range, and where pixels were filled in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.level_sets import LevelSums
from calibration.variance_line import VarianceLine, fit_variance_line

_PILE_PIXELS, _PILE_RATIO = 10, 2.0
_DEVIATIONS, _LOST = 3.0, 0.02
_FILLED_PX = 13
_REPLICATES = 100


@dataclass(frozen=True)
class DetectorLimits:
    """Lowest and highest grey value a reading can have; None where no reading shows it."""

    low: float | None
    high: float | None

    def clear(
        self, line: VarianceLine, dim: NDArray[np.float64], bright: NDArray[np.float64] | None = None
    ) -> NDArray[np.bool_]:
        """Pixels whose variance is not changed by the limits, bool [h, w].

        At the high end they are three standard deviations away. At the low end clipping takes less than 2 % of their
        variance: only the part of the noise that is there without light can be clipped, photon counts of zero are not.
        dim, bright: the levels that pixels are judged by at either end, [h, w]; bright is dim where it is not given.
        """
        clear = np.ones(dim.shape, dtype=np.bool_)
        if self.low is not None:
            clear &= dim >= self.low + _clipped_below(line.gain, max(float(line.at(self.low)), 0.0))
        if self.high is not None:
            highest = self.high - _DEVIATIONS * np.sqrt(max(float(line.at(self.high)), 0.0))
            clear &= (dim if bright is None else np.maximum(dim, bright)) <= highest
        return clear


def detector_limits(values: NDArray[np.float64], full_scale: float | None = None) -> DetectorLimits:
    """Limits that readings of any shape show by piling up there.

    A limit is the lowest or highest value where ten pixels or more have it, and twice as many as have the three values
    next to it on average. full_scale: the highest value that the detector gives, where it is known. Raises ValueError
    where that is not a positive number.
    """
    if full_scale is not None and not 0 < full_scale < np.inf:
        raise ValueError(f"found a full scale of {full_scale:g}; expected the detector's highest grey value, above 0")
    distinct, count = np.unique(values, return_counts=True)
    low = float(distinct[0]) if _piled(count) else None
    if full_scale is not None:
        return DetectorLimits(low, full_scale)
    return DetectorLimits(low, float(distinct[-1]) if _piled(count[::-1]) else None)


def without_photon_zeros(limits: DetectorLimits, sums: LevelSums) -> DetectorLimits:
    """The limits, less the low one where what piles up there are counts of no photon, which nothing has clipped.

    sums: of all level sets, clipped or not. Clipping makes their variance at the limit too small; where even so it is
    above zero, at 97.5 %, there is noise without light, and half of it is cut off. Noise without light of less than a
    photon's, b < a², may not show: then the clipped levels stay, and the gain comes out a few percent too large.
    """
    if limits.low is None:
        return limits
    above = LevelSums(sums.count, sums.mean - limits.low * sums.count, sums.variance)
    line = fit_variance_line(above, replicates=_REPLICATES)
    return limits if line.variance_interval[0] > 0 else DetectorLimits(None, limits.high)


def filled_in(image: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Pixels of and next to squares of 13 px that hold one value only, as margins of registered images do [h, w]."""
    from scipy.ndimage import maximum_filter, minimum_filter

    even = maximum_filter(image, _FILLED_PX) == minimum_filter(image, _FILLED_PX)
    filled: NDArray[np.bool_] = maximum_filter(even, 2 * _FILLED_PX - 1)
    return filled


def _piled(count: NDArray[np.int64]) -> bool:
    beside = count[1:4]
    return len(beside) > 0 and bool(count[0] >= max(_PILE_PIXELS, _PILE_RATIO * beside.mean()))


def _clipped_below(gain: float, dark_variance: float) -> float:
    """Smallest light above the low limit from which on clipping takes less than 2 % of a reading's variance, units.

    A reading is a·k + N(0, b), k ~ Poisson(light/a), and 0 where that is negative; moments of the clipped normal summed
    over k.
    """
    if not dark_variance > 0:
        return 0.0
    from scipy.special import ndtr
    from scipy.stats import poisson

    sigma = float(np.sqrt(dark_variance))
    if gain < sigma / 100:  # photon noise is nothing beside it: a clipped normal
        return _DEVIATIONS * sigma
    light = np.linspace(0, 30 * sigma + 10 * gain, 500)
    k = np.arange(int(5 * sigma / gain) + 1)
    share, centre = poisson.pmf(k, light[:, None] / gain), gain * k
    below, density = ndtr(-centre / sigma), np.exp(-0.5 * (centre / sigma) ** 2) / (2 * np.pi) ** 0.5
    lost_mean = share @ (sigma * density - centre * below)
    lost_square = share @ ((centre**2 + dark_variance) * below - centre * sigma * density)
    variance = gain * light + dark_variance
    clipped = variance + light**2 - lost_square - (light + lost_mean) ** 2
    biased = np.flatnonzero(clipped < (1 - _LOST) * variance)
    return float(light[min(biased[-1] + 1, len(light) - 1)]) if len(biased) else 0.0
