"""The line var = a·mean + b through level sets, and 95 % intervals by bootstrap over blocks of the image."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from calibration.level_sets import LevelSums
from calibration.verdict import ConstantReadingsError, TooFewLevelsError

FEWEST_LEVELS = 4
_FEWEST_PIXELS = 40
_REPLICATES = 300
_ROUNDS = 8
_HUBER = 1.5
_TINY = 1e-30
_WIDEST = 1.0
_CHOICE = 2.0
_LARGEST_MISFIT, _LARGEST_BEND = 0.2, 0.5
_ROUNDED = 0.25


@dataclass(frozen=True)
class VarianceLine:
    """A fitted line, b not clipped at 0; intervals of 95 %; level sets float64 [L], by mean.

    misfit: how far the sets lie off the line beyond their own errors, root mean square, as a share of their variance.
    bend_interval: of 99 %, for how much steeper the brighter half of the sets is than the dimmer half, as a share of a.
    """

    gain: float
    variance: float
    gain_interval: tuple[float, float]
    variance_interval: tuple[float, float]
    level_mean: NDArray[np.float64]
    level_variance: NDArray[np.float64]
    level_count: NDArray[np.float64]
    misfit: float
    bend_interval: tuple[float, float]

    def at(self, mean: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """Variance of the line at a mean, units²; negative where b says so."""
        return np.asarray(self.gain * np.asarray(mean) + self.variance, dtype=np.float64)


def fit_variance_line(sums: LevelSums, seed: int = 0, replicates: int = _REPLICATES) -> VarianceLine:
    """Weighted robust fit of var = a·mean + b to level sets of 40 pixels or more.

    The variance of n pixels has a standard deviation proportional to the variance over √n, so weights are n/var² with
    var from the line itself, iterated; sets that lie far off, in units of the sets' own scatter, weigh less (Huber).
    Intervals: blocks are drawn with replacement and the line is fitted again. replicates = 0 leaves intervals out
    (not a number). Raises TooFewLevelsError, and ConstantReadingsError where no set varies.
    """
    count = sums.count.sum(axis=0)
    used = count >= _FEWEST_PIXELS
    if used.sum() < FEWEST_LEVELS:
        raise TooFewLevelsError(
            f"{used.sum()} level sets with {_FEWEST_PIXELS} pixels or more were found; expected {FEWEST_LEVELS} at "
            "least: take an image, or a larger one, that holds dark and bright places that are even, and no saturation"
        )
    count, mean, variance = count[used], sums.mean.sum(axis=0)[used], sums.variance.sum(axis=0)[used]
    mean, variance = mean / count, variance / count
    if not variance.max() > 0:
        raise ConstantReadingsError(
            "no level set varies: this image is constant, synthetic or denoised; expected one as the detector read it"
        )
    gain, offset = _line(count[None], mean[None], variance[None])
    intervals = _bootstrap(sums, used, seed, replicates) if replicates else [(np.nan, np.nan)] * 3
    order = np.argsort(mean)
    return VarianceLine(
        float(gain[0]),
        float(offset[0]),
        intervals[0],
        intervals[1],
        mean[order],
        variance[order],
        count[order],
        _misfit(count, mean, variance, float(gain[0]), float(offset[0])),
        intervals[2],
    )


def widened(line: VarianceLine, other: VarianceLine) -> VarianceLine:
    """The line with intervals that count two more errors in, which drawing blocks does not show.

    The misfit, as an error of that share of a, and of b by that share of the sets' mean variance; and the choice of
    pixels, as twice what another choice, ``other``, makes of a and b. Squares add up, at each end by itself.
    """
    mean_variance = float(np.average(line.level_variance, weights=line.level_count))
    gain_error = np.hypot(line.misfit * line.gain, _CHOICE * (other.gain - line.gain))
    variance_error = np.hypot(line.misfit * mean_variance, _CHOICE * (other.variance - line.variance))

    def wider(value: float, interval: tuple[float, float], error: float) -> tuple[float, float]:
        below, above = (float(np.hypot(end - value, error)) for end in interval)
        return value - below, value + above

    return replace(
        line,
        gain_interval=wider(line.gain, line.gain_interval, float(gain_error)),
        variance_interval=wider(line.variance, line.variance_interval, float(variance_error)),
    )


def reasons_against(line: VarianceLine) -> list[str]:
    """Why a line cannot be used as a calibration; empty where it can."""
    reasons = []
    low, high = line.gain_interval
    if low <= 0:
        reasons.append(f"the gain is not told from zero ({line.gain:.3g}, 95 % interval {low:.3g} to {high:.3g})")
    elif high - low > _WIDEST * line.gain:
        reasons.append(
            f"the gain is uncertain (95 % interval {low:.3g} to {high:.3g}): take more light levels or pixels"
        )
    if line.misfit > _LARGEST_MISFIT:
        reasons.append(f"the level sets lie {line.misfit:.0%} off a line: this is not Poisson-Gaussian noise")
    flattest, steepest = line.bend_interval
    bend = (flattest + steepest) / 2
    if low > 0 and (flattest > 0 or steepest < 0) and abs(bend) > _LARGEST_BEND:
        reasons.append(
            f"variance over mean bends (slope of the brighter half less that of the dimmer: {bend:+.0%} of the gain): "
            "the detector is not linear, or the values were changed"
        )
    return reasons


def remarks_on(line: VarianceLine) -> list[str]:
    """What whoever uses a line should know of it; empty where there is nothing."""
    remarks = []
    if line.variance < 0:
        black = f": as a black level of {-line.variance / line.gain:.3g} would make it" if line.gain > 0 else ""
        remarks.append(f"b is below zero{black}; a noise model takes 0")
    if line.level_variance.min() < _ROUNDED:
        remarks.append("the dimmest level sets vary by less than half a grey value: there rounding hides the noise")
    return remarks


def _line(
    count: NDArray[np.float64], mean: NDArray[np.float64], variance: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gains and variances [R] of R sets of levels [R, L]; levels of count 0 do not count."""
    floor = 0.02 * (count * variance).sum(axis=1, keepdims=True) / np.maximum(count.sum(axis=1, keepdims=True), 1)
    floor = np.maximum(floor, _TINY)
    fitted, trust = np.maximum(variance, floor), np.ones_like(mean)
    gain = offset = np.zeros(len(mean))
    for _ in range(_ROUNDS):
        weight = trust * count / fitted**2
        total = np.maximum(weight.sum(axis=1), _TINY)
        centre, height = (weight * mean).sum(axis=1) / total, (weight * variance).sum(axis=1) / total
        away = mean - centre[:, None]
        gain = (weight * away * variance).sum(axis=1) / np.maximum((weight * away**2).sum(axis=1), _TINY)
        offset = height - gain * centre
        fitted = np.maximum(gain[:, None] * mean + offset[:, None], floor)
        off = np.abs(variance - gain[:, None] * mean - offset[:, None]) / fitted * np.sqrt(count / 2)
        scale = 1.4826 * np.median(off, axis=1, keepdims=True)
        trust = _HUBER / np.maximum(off / np.maximum(scale, 1.0), _HUBER)
    return gain, offset


def _bootstrap(sums: LevelSums, used: NDArray[np.bool_], seed: int, replicates: int) -> list[tuple[float, float]]:
    """Intervals of gain, variance and bend."""
    rng = np.random.default_rng(seed)
    n_blocks = len(sums.count)
    drawn = rng.multinomial(n_blocks, np.full(n_blocks, 1 / n_blocks), size=replicates).astype(np.float64)
    count = drawn @ sums.count[:, used]
    seen = np.maximum(count, 1)
    mean, variance = drawn @ sums.mean[:, used] / seen, drawn @ sums.variance[:, used] / seen
    gain, offset = _line(count, mean, variance)
    order = np.argsort(mean.mean(axis=0))
    dim, bright = (
        _line(count[:, half], mean[:, half], variance[:, half])[0]
        for half in (order[: len(order) // 2], order[len(order) // 2 :])
    )
    bend = (bright - dim) / max(abs(float(np.median(gain))), _TINY)
    tails = ((gain, 0.025), (offset, 0.025), (bend, 0.005))
    return [(float(np.quantile(each, tail)), float(np.quantile(each, 1 - tail))) for each, tail in tails]


def _misfit(
    count: NDArray[np.float64], mean: NDArray[np.float64], variance: NDArray[np.float64], gain: float, offset: float
) -> float:
    fitted = np.maximum(gain * mean + offset, 0.02 * np.average(variance, weights=count))
    beyond = ((variance - gain * mean - offset) / fitted) ** 2 - 2 / count
    return float(np.sqrt(max(np.average(beyond, weights=count), 0.0)))
