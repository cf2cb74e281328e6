"""One test for a changed gain, out of all sums of squared deviations S_k that a run has.

With E_k = a·G_ka + b·G_kb + q·G_kq their expectations and Σ their covariance, h_k = a·G_ka says how they answer to a
relative change of a. The score test weighs them

    t = Σ w_k S_k,    w = Σ⁻¹h,

and no other weights notice a small change more often. In Σ stand the chi-squares' own variances, and what all sums have
in common: the calibration's errors of a, b, q and the error of the dark level. Where b is uncertain the weights of dark
pictures come out negative: they take out of the lit ones what b could be blamed for.

t is held against a chi-square, scaled and shifted to its first three cumulants: for one sum that is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtr, chdtrc, chdtri

from calibration.noise_knowledge import NoiseKnowledge
from calibration.scatter import Expectation
from calibration.square_sums import FEWEST_DEGREES, SquareSum

# A chi-square of so many degrees is as good as normal.
_MOST_DEGREES = 1e7
_MOST_NEEDED = 1e12


@dataclass(frozen=True)
class GainSum:
    """t, shifted, and what is expected of it; design: its derivatives float64 [3] by a, b, q; degrees: of freedom of
    the lit sums in it; factor: by which the gain is off, if nothing else is.
    """

    square: float
    design: NDArray[np.float64]
    degrees: float
    factor: float
    expectation: Expectation


def gain_sum(sums: Sequence[SquareSum], knowledge: NoiseKnowledge) -> GainSum | None:
    """The weighted sum; None where shot noise is in too few readings, or rounding leaves too little of it."""
    used = [each for each in sums if not each.coarse]
    degrees = sum(each.degrees for each in used if each.lit)
    if degrees < FEWEST_DEGREES:
        return None
    design = np.array([each.design for each in used])
    middle = np.array([each.middle for each in used])
    own = np.array([each.fluctuation for each in used])
    level = np.array([each.level_error for each in used])
    common = knowledge.covariance_of(design) + np.outer(level, level)
    answer = knowledge.noise.gain * design[:, 0]
    # In units of the sums' own deviations the matrix is the identity and what is common: never singular.
    unit = own**-0.5
    weight = unit * np.linalg.solve(np.eye(len(used)) + unit[:, None] * common * unit, unit * answer)
    weight /= weight @ answer

    off = float(weight @ (np.array([each.square for each in used]) - middle))
    variance = float(weight**2 @ own)
    third = float(weight**3 @ (2 * own**2 / middle))
    scale = max(third / (4 * variance), (variance / (2 * _MOST_DEGREES)) ** 0.5)
    mean = variance / (2 * scale)
    low, high = (np.array([getattr(each.expectation, side) for each in used]) - middle for side in ("low", "high"))
    return GainSum(
        square=mean + off,
        design=weight @ design,
        degrees=degrees,
        factor=1 + off,
        expectation=Expectation(
            low=mean + float(np.minimum(weight * low, weight * high).sum()),
            high=mean + float(np.maximum(weight * low, weight * high).sum()),
            error=max(float(weight @ common @ weight), 0.0) ** 0.5,
            degrees=variance / (2 * scale**2),
        ),
    )


@cache
def degrees_needed(shot_share: float, change: float, probability: float, false_alarms: float) -> float:
    """Degrees of freedom at which a gain too large or too small by the factor ``change`` is noticed with this
    probability, where aT/(aT + 2b) is ``shot_share`` and a, b are exact.

    The variance becomes 1 + s·(change - 1) or 1 - s·(1 - 1/change) times itself. About 2·((z₁ + z₂)/ln(ratio))², z₁ and
    z₂ the normal quantiles of half the false alarms and of the probability; here of chi-squares, by bisection.
    """
    up, down = 1 + shot_share * (change - 1), 1 - shot_share * (1 - 1 / change)

    def power(degrees: float) -> float:
        highest, lowest = chdtri(degrees, false_alarms / 2), chdtri(degrees, 1 - false_alarms / 2)
        return min(float(chdtrc(degrees, highest / up)), float(chdtr(degrees, lowest / down)))

    low, high = 1.0, _MOST_NEEDED
    while high > 1.001 * low:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if power(middle) >= probability else (middle, high)
    return high
