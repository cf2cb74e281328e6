"""Whether a detector is linear, by superposition: the two pictures of a pair light every mirror once.

So the readings of pair k add up to the same total for every k, μ(k, +) + μ(k, -) = T + 2B (of the guards too, bright
and dark), whatever the sample and the offset are. Where the lower half of the range is linear the pair of half
pictures gives the true total, and what the brighter picture of another pair should read follows from its dimmer one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FALSE_ALARMS = 1e-4
"""Probability that noise alone makes a linear detector fail, all pairs together."""
TOLERANCE = 0.005
"""Deviations up to this share of the light are let pass: they move a by no more than that."""


@dataclass(frozen=True)
class Superposition:
    """How far each brighter picture is from what it should read.

    deviation: share of its light, float64 [pairs]; error: standard error of that; fails: bool [pairs].
    """

    deviation: NDArray[np.float64]
    error: NDArray[np.float64]
    fails: NDArray[np.bool_]


def superposition(
    dimmer: NDArray[np.float64],
    brighter: NDArray[np.float64],
    sum_variance: NDArray[np.float64],
    half_total: float,
    half_variance: float,
) -> Superposition:
    """Hold pairs of mean light [pairs] against the total of the two half pictures.

    sum_variance: [pairs], variance of dimmer + brighter; half_total and half_variance: the total and its variance. A
    pair fails where |deviation| is above TOLERANCE and beyond noise.
    """
    from scipy.special import ndtri

    should = half_total - dimmer
    error = np.sqrt(sum_variance + half_variance)
    excess = brighter - should
    scale = np.maximum(np.abs(should), np.finfo(float).tiny)
    limit = -ndtri(FALSE_ALARMS / 2 / max(len(dimmer), 1))
    deviation = excess / scale
    return Superposition(deviation, error / scale, (np.abs(excess) > limit * error) & (np.abs(deviation) > TOLERANCE))
