"""First reading minus second one of a pair: what a lamp that drifts, or ripples in step with the pairs, adds to each.

A constant δ on every first-minus-second difference would be a spike of δ at pixel 0 if H+ always came first. The order
is fixed at random for each coefficient instead, o_i = ±1, so that o_i·z_i has no mean but δ, and

    δ̂ = Σ w_i o_i ρ_i / Σ w_i,     w_i = 1/(λ_i + 1/Σ(1/u)),

weighs the large coefficients down by their prior variance λ. Its error comes from the spread of the terms themselves
and needs no noise model: under no δ it is the draw of the orders that makes δ̂ normal, whatever the coefficients.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from models.priors import fit_power_law

# Of fewer coefficients the sum of the terms is not normal enough for the tails that are tested.
FEWEST_COEFFICIENTS = 64


@dataclass(frozen=True)
class FirstMinusSecond:
    """share, error: δ and its standard error as shares of T; drift: what the light's slow decline alone makes of it;
    z: of the difference of the two.
    """

    share: float
    error: float
    drift: float

    @property
    def z(self) -> float:
        """How many standard errors δ lies off what the slow decline explains."""
        return (self.share - self.drift) / self.error


def first_minus_second(
    share: NDArray[np.float64], precision: NDArray[np.float64], plus_first: NDArray[np.bool_], drift: float
) -> FirstMinusSecond | None:
    """δ from the mean shares ρ [N] (calibration.repeats), their precisions [N], and the order of every coefficient.

    None where there are fewer than FEWEST_COEFFICIENTS, or they do not vary.
    """
    taken = precision > 0
    if np.count_nonzero(taken) < FEWEST_COEFFICIENTS:
        return None
    variance = np.full(len(precision), np.inf)
    np.divide(1.0, precision, out=variance, where=taken)
    prior = fit_power_law(share, variance, isqrt(len(share)), 1.0).variance
    weight = 1 / (prior[taken] + variance[taken])
    weight /= weight.sum()
    ordered = np.where(plus_first[taken], 1.0, -1.0) * share[taken]
    mean = float(weight @ ordered)
    error = float(np.sqrt(weight**2 @ (ordered - mean) ** 2 / (1 - weight @ weight)))
    return FirstMinusSecond(mean, error, drift) if error > 0 else None
