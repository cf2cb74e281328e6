"""The Allan deviation: how much averages over a time τ differ from those over the next τ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv

from calibration.measured import CONFIDENCE

_PER_OCTAVE = 2
# A stretch of averages may last so much longer than without guards and arming, and no longer: no rest lies in it.
_GAP_TOLERANCE = 0.25
_FEWEST_DEGREES = 3.0


@dataclass(frozen=True)
class Allan:
    """Overlapping Allan deviation of relative pair sums.

    tau_s: float64 [k], averaging times; deviation, low, high: float64 [k], relative, with 95 % intervals (those of
    white noise); white: float64 [k], what noise would give that is new in every exposure, as differences within pairs
    show it; shot: float64 [k], what shot and read noise alone would, None where a and b are not known.
    """

    tau_s: NDArray[np.float64]
    deviation: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    white: NDArray[np.float64]
    shot: NDArray[np.float64] | None


def allan_deviation(
    relative: NDArray[np.float64], time_s: NDArray[np.float64], white_variance: float, shot_variance: float | None
) -> Allan:
    """Of relative pair sums float64 [n] at times time_s float64 [n], in order, with rests between stretches.

    σ²(τ) = ½ <(mean of the m sums after - mean of the m before)²> over all places, τ = m times between sums, but those
    where a rest is in between. white_variance, shot_variance: of one relative sum. Degrees of freedom for white
    frequency noise as in Riley, NIST SP 1065 (2008), eq. 56.
    """
    n = len(relative)
    cumulative = np.concatenate([[0.0], np.cumsum(relative - relative.mean())])
    # Guards and arming are part of the usual time from one sum to the next.
    steps = np.diff(time_s)
    usual = float(steps[steps < 10 * np.median(steps)].mean())
    found = []
    for m in np.unique(np.rint(2 ** np.arange(0, np.log2(max(n // 2, 1)) + 1e-9, 1 / _PER_OCTAVE)).astype(int)):
        starts = np.arange(n - 2 * m + 1)
        lasts = time_s[starts + 2 * m - 1] - time_s[starts]
        together = lasts <= (1 + _GAP_TOLERANCE) * max(2 * m - 1, 4) * usual
        starts = starts[together]
        points = len(starts) + 2 * m - 1
        degrees = (1.5 * (points - 1) / m - 2 * (points - 2) / points) * 4 * m**2 / (4 * m**2 + 5)
        if not len(starts) or degrees < _FEWEST_DEGREES:
            break
        change = (cumulative[starts + 2 * m] - 2 * cumulative[starts + m] + cumulative[starts]) / m
        found.append((m, float(np.sqrt((change**2).mean() / 2)), degrees))
    m, deviation, degrees = (np.array(each, dtype=np.float64) for each in zip(*found, strict=True))
    ends = [2 * gammaincinv(degrees / 2, (1 + side * CONFIDENCE) / 2) for side in (1, -1)]
    low, high = (deviation * np.sqrt(degrees / chi_squared) for chi_squared in ends)
    shot = None if shot_variance is None else np.sqrt(shot_variance / m)
    return Allan(m * usual, deviation, low, high, np.sqrt(white_variance / m), shot)
