"""A run's own readings, held against the noise model it was given: var(y+ - y-) = a(T + 2B) + 2b, and its kin.

Every test compares a sum S of squared deviations with its expectation under a, b, q (calibration.scatter). Deviations
are taken from neighbours only, so that whatever is slower than a few exposures does not matter:

    darkness, light off         from their mean                    b
    darkness under light        within a guard                     b + aB + qB²
    bright guards               within a guard                     b + a(T + B) + q(T + B)²
    repeats                     within a coefficient, as z/T       2b + a(T + 2B) + q(m+² + m-²)
    pair sums                   within four pairs in a row         the same: both exposures' variances add
    all pictures                the last three together

The repeats are what images are made of, but where M is 1 nearly everywhere there are none: pair sums are there for
every pair. Too large a scatter of sums alone is light that flickers; too small a one can be nothing but a wrong a or b.

All tests of a run together raise at most FALSE_ALARMS (Bonferroni). Their tails are those of chi-squares, exact where
the expectation is; the calibration's own error, that of the dark level and the rounding of readings are counted in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from calibration.first_minus_second import FirstMinusSecond
from calibration.scatter import Expectation, Scatter
from models.noise import NoiseModel

# At most so many runs raise a false alarm. The tests take half of it: the rest is for what approximations may cost.
PROMISED_FALSE_ALARMS = 0.01
FALSE_ALARMS = PROMISED_FALSE_ALARMS / 2
N_TESTS = 7
THRESHOLD = -float(ndtri(FALSE_ALARMS / N_TESTS / 2))

REPEATS, PAIR_SUMS, POOLED = "repeats", "pair sums", "all pictures"

# What the power is stated for, and what counts as certain.
GAIN_CHANGE = 1.2
VARIANCE_CHANGE = 2.0
CERTAIN = 0.99

# Rounding a reading to whole units adds 1/12 to its variance; a measured b includes it, a stated one may not. Of
# readings that vary by less than half a unit it can make anything from constants to a variance of 1/4.
_COARSE = 1 / 4
_SMALLEST_WEIGHT = 1 / 12

# Readings around darkness are cut off at what a frame of zeros reads where it lies within so many standard deviations.
_CLEAR_OF_FLOOR = 4.0

_FEWEST_DEGREES = 8
_LARGEST_CHANGE = 10.0


@dataclass(frozen=True)
class NoiseKnowledge:
    """What a run knows of its noise: a and b, source noise q (variance of the light's relative fluctuation from
    exposure to exposure), and the covariance float64 [3, 3] of (a, b, q), None where they are taken as exact. rounding:
    how much whole units in the readings may add to b, at most; 1/12 for one rounding of the sum.
    """

    noise: NoiseModel
    source_noise: float = 0.0
    covariance: NDArray[np.float64] | None = None
    rounding: float = 1 / 12

    @property
    def parameters(self) -> NDArray[np.float64]:
        """(a, b, q)."""
        return np.array([self.noise.gain, self.noise.variance, self.source_noise])

    def error_of(self, design: NDArray[np.float64]) -> float:
        """Standard error of Gᵀ(a, b, q)."""
        return 0.0 if self.covariance is None else max(float(design @ self.covariance @ design), 0.0) ** 0.5


@dataclass(frozen=True)
class Darkness:
    """Readings of dark pictures: the sum of squared deviations from the means of groups of so many, how many there are,
    and their mean. n is 0 where there are none.
    """

    square: float
    group: int
    n: int
    mean: float


@dataclass(frozen=True)
class Collected:
    """What a run's readings add up to.

    dark: with the light off; dark_is_lit: it could not be switched off, so that they hold background; lit_dark: of the
    guards; floor: what a frame of zeros reads, None where nothing is cut off there; n_pairs, n_repeated: pairs, and
    coefficients with several of them; total: mean T.
    """

    dark: Darkness
    dark_is_lit: bool
    lit_dark: Darkness
    bright: Scatter
    repeats: Scatter
    pair_sums: Scatter
    first_minus_second: FirstMinusSecond | None
    n_pairs: int
    n_repeated: int
    total: float
    floor: float | None = None


@dataclass(frozen=True)
class ScatterTest:
    """One test: what scatters, its degrees of freedom, S over its expectation, and the z-score (0: as expected)."""

    what: str
    degrees: float
    ratio: float
    z: float


@dataclass(frozen=True)
class OwnEstimate:
    """a and b from the run's readings alone, standard errors, and how far they lie off those given, in standard errors
    of the difference.
    """

    gain: float
    gain_error: float
    gain_z: float
    variance: float
    variance_error: float
    variance_z: float


@dataclass(frozen=True)
class SelfCheck:
    """What the check found.

    not_made: tests that this run does not allow, and why; estimate: None where nothing tells a from b; gain_power,
    variance_power: probability that a gain GAIN_CHANGE times too large or too small (a variance VARIANCE_CHANGE times)
    is noticed, the smaller of the two; least_gain_change: the smallest factor that is noticed with probability CERTAIN
    in both directions, None above 10; shot_share: aT/(aT + 2b); total: mean T, detector units.
    """

    tests: tuple[ScatterTest, ...]
    not_made: tuple[str, ...]
    first_minus_second: FirstMinusSecond | None
    estimate: OwnEstimate | None
    gain_power: float
    variance_power: float
    least_gain_change: float | None
    shot_share: float
    n_pairs: int
    n_repeated: int
    total: float

    @property
    def failed(self) -> tuple[ScatterTest, ...]:
        """The tests whose readings do not fit to the noise model."""
        return tuple(test for test in self.tests if abs(test.z) > THRESHOLD)

    @property
    def spike_found(self) -> bool:
        """Whether first and second readings of the pairs differ by more than chance and slow decline explain."""
        return self.first_minus_second is not None and abs(self.first_minus_second.z) > THRESHOLD


def check_readings(collected: Collected, knowledge: NoiseKnowledge) -> SelfCheck:
    """Hold what a run collected against what is known of its noise."""
    rows, not_made = _rows(collected, knowledge)
    limits = [row.expectation.limits(THRESHOLD) for row in rows]

    def power(parameter: int, factor: float) -> float:
        change = np.zeros(3)
        change[parameter] = (factor - 1) * knowledge.parameters[parameter]
        return _power(rows, limits, change)

    def gain_power(factor: float) -> float:
        return min(power(0, factor), power(0, 1 / factor))

    gain, variance = knowledge.noise.gain, knowledge.noise.variance
    degrees = max(collected.pair_sums.degrees, 1.0)
    shot = gain * collected.pair_sums.design[0] / degrees
    read = variance * collected.pair_sums.design[1] / degrees
    return SelfCheck(
        tests=_tested(rows),
        not_made=tuple(not_made),
        first_minus_second=collected.first_minus_second,
        estimate=_own_estimate(rows, knowledge),
        gain_power=gain_power(GAIN_CHANGE),
        variance_power=min(power(1, VARIANCE_CHANGE), power(1, 1 / VARIANCE_CHANGE)) if variance > 0 else 0.0,
        least_gain_change=_least_change(gain_power),
        shot_share=float(shot / (shot + read)) if shot + read > 0 else 0.0,
        n_pairs=collected.n_pairs,
        n_repeated=collected.n_repeated,
        total=collected.total,
    )


def scatter_tests(collected: Collected, knowledge: NoiseKnowledge) -> tuple[ScatterTest, ...]:
    """The tests alone, without what they could have noticed."""
    return _tested(_rows(collected, knowledge)[0])


@dataclass(frozen=True)
class _Row:
    """A scatter and what is expected of it; own: whether it shares no reading's scatter with another row."""

    what: str
    scatter: Scatter
    knowledge: NoiseKnowledge
    level_variance: float
    own: bool = True

    @property
    def middle(self) -> float:
        """The expectation of S under the parameters as given."""
        return float(self.scatter.design @ self.knowledge.parameters)

    @cached_property
    def expectation(self) -> Expectation:
        """The expectation with all that is uncertain about it."""
        design, middle = self.scatter.design, self.middle
        coarse = middle < _COARSE * design[1]
        level_error = self.knowledge.noise.gain * design[1] * self.level_variance**0.5
        fluctuation = self.scatter.fluctuation
        return Expectation(
            low=0.0 if coarse else middle,
            high=middle + max(self.knowledge.rounding, _COARSE if coarse else 0.0) * design[1],
            error=float(np.hypot(self.knowledge.error_of(design), level_error)),
            degrees=2 * middle**2 / fluctuation if middle > 0 and fluctuation > 0 else self.scatter.degrees,
        )


def _rows(collected: Collected, knowledge: NoiseKnowledge) -> tuple[list[_Row], list[str]]:
    """The scatters that can be tested, and why others cannot."""
    dark, lit = collected.dark, collected.lit_dark
    dark_level_variance = 0.0
    if dark.n and not collected.dark_is_lit:
        dark_level_variance = (knowledge.noise.variance + knowledge.rounding) / dark.n
    together = collected.bright + collected.repeats + collected.pair_sums
    candidates = [
        _Row("bright guards", collected.bright, knowledge, dark_level_variance),
        _Row(REPEATS, collected.repeats, knowledge, dark_level_variance),
        _Row(PAIR_SUMS, collected.pair_sums, knowledge, dark_level_variance),
        _Row(POOLED, together, knowledge, dark_level_variance, own=False),
    ]
    not_made = []
    for what, darkness, background in (
        ("darkness under light", lit, max(lit.mean - dark.mean, 0.0)),
        ("darkness, light off", dark, 0.0),
    ):
        variance = float(_dark_terms(background) @ knowledge.parameters)
        if collected.dark_is_lit:
            not_made.append(f"{what}: the light cannot be switched off, so that its share of darkness is not known")
        elif darkness.n and is_cut_off(darkness.mean, variance**0.5, collected.floor):
            not_made.append(
                f"{what}: readings are cut off at 0, the camera's offset (offset_per_px) is too small for it"
            )
        else:
            # Of pictures without any light the level does not matter.
            level_variance = dark_level_variance + variance / max(darkness.n, 1) if darkness is lit else 0.0
            scatter = _dark_scatter(darkness, background, variance, knowledge)
            candidates.insert(0, _Row(what, scatter, knowledge, level_variance))
    not_made += [f"{row.what}: too few readings" for row in candidates if row.scatter.degrees < _FEWEST_DEGREES]
    return [row for row in candidates if row.scatter.degrees >= _FEWEST_DEGREES], not_made


def _tested(rows: Sequence[_Row]) -> tuple[ScatterTest, ...]:
    return tuple(
        ScatterTest(
            row.what,
            row.scatter.degrees,
            row.scatter.square / max(row.middle, 1e-300),
            row.expectation.z_score(row.scatter.square),
        )
        for row in rows
    )


def is_cut_off(mean: float, deviation: float, floor: float | None) -> bool:
    """Whether dark readings of this mean and standard deviation reach down to what a frame of zeros reads."""
    return floor is not None and mean - floor < _CLEAR_OF_FLOOR * deviation


def _dark_terms(background: float) -> NDArray[np.float64]:
    """Derivatives of a dark picture's variance by a, b, q."""
    return np.array([background, 1.0, background**2])


def _dark_scatter(darkness: Darkness, background: float, variance: float, knowledge: NoiseKnowledge) -> Scatter:
    """Dark readings whose variance should be ``variance``, of light B, as a scatter."""
    weight = max(variance, _SMALLEST_WEIGHT)
    groups, inside = darkness.n / max(darkness.group, 1), max(darkness.group - 1, 0)
    excess = knowledge.noise.gain**3 * background / variance**2 if variance > 0 else 0.0
    each = 2 * inside + excess * inside**2 / max(darkness.group, 1)
    return Scatter(
        square=darkness.square / weight,
        degrees=groups * inside,
        design=groups * inside / weight * _dark_terms(background),
        fluctuation=groups * each * (variance / weight) ** 2,
    )


def _power(rows: Sequence[_Row], limits: Sequence[tuple[float, float]], change: NDArray[np.float64]) -> float:
    """Probability that one test or another notices a change of (a, b, q); a lower bound, because not all are
    independent.
    """
    each = [
        row.expectation.noticed(float(row.scatter.design @ change), between)
        for row, between in zip(rows, limits, strict=True)
    ]
    unnoticed = float(np.prod([1 - one for row, one in zip(rows, each, strict=True) if row.own]))
    return max([1 - unnoticed, *each], default=0.0) if rows else 0.0


def _least_change(power: Callable[[float], float]) -> float | None:
    """The smallest factor that is noticed with probability CERTAIN, by bisection; None where it is above 10."""
    if power(_LARGEST_CHANGE) < CERTAIN:
        return None
    low, high = 0.0, float(np.log(_LARGEST_CHANGE))
    while high - low > 0.01 * high and high > 1e-4:
        middle = (low + high) / 2
        low, high = (low, middle) if power(float(np.exp(middle))) >= CERTAIN else (middle, high)
    return float(np.exp(high))


def _own_estimate(rows: Sequence[_Row], knowledge: NoiseKnowledge) -> OwnEstimate | None:
    """Weighted least squares of the sums over their designs, with weights from the fit itself; q as given."""
    own = [row.scatter for row in rows if row.own]
    if len(own) < 2:
        return None
    squares = np.array([each.square for each in own])
    design = np.array([each.design for each in own])
    degrees = np.array([row.expectation.degrees for row in rows if row.own])
    rest = squares - knowledge.source_noise * design[:, 2]
    expected = design @ knowledge.parameters
    for _ in range(8):
        weight = degrees / (2 * np.maximum(expected, 1e-3 * np.abs(squares) + 1e-12) ** 2)
        normal = design[:, :2].T @ (weight[:, None] * design[:, :2])
        scale = np.sqrt(np.diag(normal))
        if not (scale > 0).all() or np.linalg.cond(normal / np.outer(scale, scale)) > 1e10:
            return None
        covariance = np.linalg.inv(normal)
        gain, variance = covariance @ (design[:, :2].T @ (weight * rest))
        expected = design @ np.array([gain, variance, knowledge.source_noise])
    known = np.zeros((3, 3)) if knowledge.covariance is None else knowledge.covariance
    return OwnEstimate(
        gain=float(gain),
        gain_error=float(covariance[0, 0] ** 0.5),
        gain_z=float((gain - knowledge.noise.gain) / (covariance[0, 0] + known[0, 0]) ** 0.5),
        variance=float(variance),
        variance_error=float(covariance[1, 1] ** 0.5),
        variance_z=float((variance - knowledge.noise.variance) / (covariance[1, 1] + known[1, 1]) ** 0.5),
    )
