"""Scatter of readings of equal light, held against what a noise model says of it.

Squared deviations from means, each in units of a weight w (about its variance), add up to S. Under gain a, variance b
and source noise q the expectation of S is linear in them, E = a·G_a + b·G_b + q·G_q, so that sums over millions of
readings need no more than G, the degrees of freedom, and the variance of S.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtr, chdtrc, ndtr, ndtri

# The expectation's own error is integrated over so many standard deviations of it, in steps of a quarter of its own or
# of the sum's deviation, whichever is smaller: z-scores come out within a hundredth.
_REACH, _STEP, _SMALLEST_STEP = 7.0, 0.25, 0.025
_SMALLEST = 1e-300


@dataclass(frozen=True)
class Scatter:
    """Sums over groups of readings; they add up over blocks.

    square: S; degrees: of freedom; design: G float64 [3], of (a, b, q); fluctuation: the variance of S under the
    calibration, 2 per degree of freedom and more where few photo-electrons make noise that is not normal.
    """

    square: float
    degrees: float
    design: NDArray[np.float64]
    fluctuation: float

    @classmethod
    def empty(cls) -> Self:
        """No reading yet."""
        return cls(0.0, 0.0, np.zeros(3), 0.0)

    def __add__(self, other: Scatter) -> Scatter:
        return Scatter(
            self.square + other.square,
            self.degrees + other.degrees,
            self.design + other.design,
            self.fluctuation + other.fluctuation,
        )

    def less(self, share: float) -> Scatter:
        """The same sum where what was fitted to the readings took this share of the degrees of freedom."""
        left = 1 - share
        return Scatter(self.square, left * self.degrees, left * self.design, left * self.fluctuation)


def scatter_of_groups(
    values: NDArray[np.float64],
    weight: NDArray[np.float64],
    terms: NDArray[np.float64],
    excess: NDArray[np.float64] | float = 0.0,
    at: NDArray[np.float64] | None = None,
) -> Scatter:
    """Scatter of groups of m readings about their own means, or about straight lines where their times are given.

    values: float64 [groups, m]; weight: w float64 [groups], variance of one reading under the calibration; terms:
    float64 [3, groups], derivatives of that variance with respect to a, b, q; excess: excess kurtosis of one reading;
    at: times float64 [groups, m]. With p parameters of the mean or line (1 or 2) and h the readings' leverages, the
    variance of a group's sum is w²·(2(m - p) + excess·Σ(1 - h)²).
    """
    groups, m = values.shape
    left = m - 1 if at is None else m - 2
    leverage = 1 / m + (np.zeros(values.shape) if at is None else _direction(at) ** 2)
    return Scatter(
        square=float(((deviations(values, at) ** 2).sum(axis=1) / weight).sum()),
        degrees=float(groups * left),
        design=np.asarray(left * (terms / weight).sum(axis=1)),
        fluctuation=float((2 * left + np.broadcast_to(excess, groups) * ((1 - leverage) ** 2).sum(axis=1)).sum()),
    )


def deviations(values: NDArray[np.float64], at: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """Values [..., groups, m] less their groups' means, or straight lines over the times [groups, m], if given."""
    deviation = values - values.mean(axis=-1, keepdims=True)
    if at is None:
        return np.asarray(deviation)
    direction = _direction(at)
    return np.asarray(deviation - direction * (direction * deviation).sum(axis=-1, keepdims=True))


def _direction(at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Times [groups, m] without their mean, of length 1."""
    centred = at - at.mean(axis=1, keepdims=True)
    return np.asarray(centred / np.sqrt((centred**2).sum(axis=1, keepdims=True)))


@dataclass(frozen=True)
class Expectation:
    """What the sum S of a scatter should be, and how sure that is.

    low, high: its expectation, which may lie anywhere between them; error: its standard error on top of that; degrees:
    of the scaled chi-square that has the expectation's and the fluctuation's ratio.
    """

    low: float
    high: float
    error: float
    degrees: float

    def z_score(self, square: float) -> float:
        """How far ``square`` lies off, as a normal quantile of the same two-sided probability; positive: too large.

        The probability is that of a chi-square whose expectation is normal around ``low`` or ``high``, whichever suits
        the observation better: exact for a known expectation, and predictive for an uncertain one.
        """
        above, below = self.above(square, self.high), self.below(square, self.low)
        if min(above, below) >= 0.5:
            return 0.0
        size = -float(ndtri(max(min(above, below), _SMALLEST)))
        return size if above < below else -size

    def above(self, square: float, expected: float) -> float:
        """Probability of ``square`` or more where ``expected``, give or take the error, is expected."""
        if square <= 0:
            return 1.0
        if expected <= 0 and self.error == 0:
            return 0.0
        return self._mean(chdtrc, square, expected)

    def below(self, square: float, expected: float) -> float:
        """Probability of ``square`` or less; none is too small where nothing may be expected."""
        if expected <= 0:
            return 1.0
        return self._mean(chdtr, square, expected)

    def limits(self, z: float) -> tuple[float, float]:
        """The sums with z-scores -z and z, between which a scatter passes."""
        tail = float(ndtr(-z))
        lowest = _crossing(lambda square: self.below(square, self.low) < tail, 0.0, max(self.low, 0.0))
        highest = max(self.high, _SMALLEST)
        while self.above(highest, self.high) > tail:
            highest *= 2
        return lowest, _crossing(lambda square: self.above(square, self.high) > tail, 0.0, highest)

    def noticed(self, change: float, limits: tuple[float, float]) -> float:
        """Probability that a scatter whose expectation has changed by ``change`` lies outside of the limits."""
        low, high = limits
        return min(1.0, self.above(high, self.low + change) + self.below(low, self.high + change))

    def _mean(self, tail: Callable[..., Any], square: float, expected: float) -> float:
        if self.error == 0:
            return float(tail(self.degrees, self.degrees * square / expected))
        steps, weights = self._normal_steps
        # A variance is not negative: where the error reaches below 0, next to nothing is expected.
        expectations = np.maximum(expected + self.error * steps, 1e-9 * (abs(expected) + self.error))
        return float(weights @ tail(self.degrees, self.degrees * square / expectations))

    @cached_property
    def _normal_steps(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        of_sum = self.high * (2 / self.degrees) ** 0.5 / self.error
        step = float(np.clip(_STEP * of_sum, _SMALLEST_STEP, _STEP))
        steps = np.linspace(-_REACH, _REACH, 2 * round(_REACH / step) + 1)
        density = np.exp(-(steps**2) / 2)
        return steps, density / density.sum()


def _crossing(is_low: Callable[[float], bool], low: float, high: float) -> float:
    """Where a condition that holds at ``low`` ceases to hold, by bisection to 1e-9 of ``high``."""
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if is_low(middle) else (low, middle)
    return high
