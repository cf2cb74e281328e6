"""Whether a detector is linear, by superposition: the two pictures of a pair light every mirror once.

So the light of the two adds up to the same total S for every pair, whatever the sample is; darkness and all of the
region are such a pair too. What the detector reads of it tells two kinds of nonlinearity:

A smooth bend, y = m - c·m². Pair k then reads

    y(k, +) + y(k, -) = S - c·(m₊² + m₋²),

least for full light and darkness, most for two halves, so that all sums together give c and S, and every level's
deviation from proportionality, -c·m, follows. An offset moves all sums alike and goes into S.

A knee, as where saturation sets in: the brighter picture of a pair reads less than S and its dimmer picture demand.
S is that of the bend where there is one, else the two halves' sum. Pairs that do not fit a smooth bend, from the
brightest down, do not take part in it.

What stays unseen is a nonlinearity whose deviations at m and S - m cancel (an odd one about half of the light).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FALSE_ALARMS = 1e-4
"""Probability that noise alone makes a linear detector fail, all pairs together."""
TOLERANCE = 0.01
"""Deviation from proportionality that counts as linear, as in the data sheets of cameras; it moves a by no more."""
KNEE_TOLERANCE = 0.005
"""The same, of what is held against the halves' sum: that itself bends, by half as much."""
NEGLIGIBLE = 0.0005
"""Share of the total by which sums may differ without a cause being sought."""

_LEAST_PAIRS = 3
_ROUNDS = 20


@dataclass(frozen=True)
class Bend:
    """The bend through the sums of pairs: c, 1/units, with its standard error; S, units, with its variance.

    fits: bool [pairs], those that it was found from; significant: whether c is there beyond noise.
    """

    curvature: float
    error: float
    total: float
    total_variance: float
    fits: NDArray[np.bool_]
    significant: bool

    def light(self, reading: NDArray[np.float64]) -> NDArray[np.float64]:
        """What was sent where ``reading`` was read, units: m of y = m - c·m²."""
        return _unbent(reading, self.curvature)


@dataclass(frozen=True)
class Superposition:
    """How far each brighter picture is from what it should read.

    deviation: share of its light, float64 [pairs]; error: standard error of that; fails: bool [pairs].
    """

    deviation: NDArray[np.float64]
    error: NDArray[np.float64]
    fails: NDArray[np.bool_]


def find_bend(
    dimmer: NDArray[np.float64], brighter: NDArray[np.float64], sum_variance: NDArray[np.float64]
) -> Bend | None:
    """The bend that mean readings of pairs [pairs] follow, two halves and full light with darkness among them.

    sum_variance: [pairs], variance of dimmer + brighter. None where not even three pairs follow one.
    """
    from scipy.special import chdtri, ndtri

    order = np.argsort(brighter)
    sums = dimmer + brighter
    for n in range(len(order), _LEAST_PAIRS - 1, -1):
        fits = order[:n]
        variance = sum_variance[fits] + (NEGLIGIBLE * float(np.median(sums))) ** 2
        curvature, total = 0.0, float(np.max(sums[fits]))
        for _ in range(_ROUNDS):
            dim = _unbent(dimmer[fits], curvature)
            squares = dim**2 + (total - dim) ** 2
            scale = float(squares.max())
            design = np.stack([np.ones(n), -squares / scale], axis=1)
            covariance = np.linalg.inv(design.T @ (design / variance[:, None]))
            solution = covariance @ (design.T @ (sums[fits] / variance))
            before = total
            total, curvature = float(solution[0]), float(solution[1]) / scale
            if abs(total - before) <= 1e-9 * total:
                break
        chi_squared = float(np.sum((sums[fits] - design @ solution) ** 2 / variance))
        if chi_squared <= chdtri(n - 2, FALSE_ALARMS):
            error = float(covariance[1, 1]) ** 0.5 / scale
            taken = np.zeros(len(order), dtype=np.bool_)
            taken[fits] = True
            significant = abs(curvature) > -float(ndtri(FALSE_ALARMS / 2)) * error
            return Bend(curvature, error, total, float(covariance[0, 0]), taken, significant)
    return None


def superposition(
    dimmer: NDArray[np.float64],
    brighter: NDArray[np.float64],
    sum_variance: NDArray[np.float64],
    total: float,
    total_variance: float,
    tolerance: float = KNEE_TOLERANCE,
) -> Superposition:
    """Hold pairs of mean light [pairs] against their total.

    sum_variance: [pairs], variance of dimmer + brighter; total and total_variance: the total and its variance. A pair
    fails where |deviation| is above the tolerance and beyond noise.
    """
    from scipy.special import ndtri

    should = total - dimmer
    error = np.sqrt(sum_variance + total_variance)
    excess = brighter - should
    scale = np.maximum(np.abs(should), np.finfo(float).tiny)
    limit = -ndtri(FALSE_ALARMS / 2 / max(len(dimmer), 1))
    deviation = excess / scale
    return Superposition(deviation, error / scale, (np.abs(excess) > limit * error) & (np.abs(deviation) > tolerance))


def _unbent(reading: NDArray[np.float64], curvature: float) -> NDArray[np.float64]:
    """The m of y = m - c·m²; where y is beyond the bend's highest value, that value's m."""
    light: NDArray[np.float64] = 2 * reading / (1 + np.sqrt(np.maximum(1 - 4 * curvature * reading, 0.0)))
    return light
