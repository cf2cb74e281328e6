"""A run's own readings, held against the noise model it was given: var(y+ - y-) = a(T + 2B) + 2b, and its kin.

Every test compares a sum S of squared deviations with its expectation under a, b, q (calibration.scatter). Deviations
are taken from neighbours only, so that whatever is slower than a few exposures does not matter:

    darkness, light off         from their mean                    b
    darkness under light        within a guard                     b + aB + qB²
    bright guards               within a guard                     b + a(T + B) + q(T + B)²
    repeats                     within a coefficient, as z/T       2b + a(T + 2B) + q(m+² + m-²)
    pair sums                   about a line through 16 in a row   the same: both exposures' variances add
    gain                        all of these, weighted (calibration.gain_test)

The repeats are what images are made of, but where M is 1 nearly everywhere there are none: pair sums are there for
every pair. Too large a scatter of sums alone is light that flickers; too small a one can be nothing but a wrong a or b.

All tests of a run together raise at most FALSE_ALARMS (Bonferroni). Nearly all of it goes to the gain, which takes what
every reading says of a; the others are there to say what is wrong. Tails are those of chi-squares, exact where the
expectation is; the calibration's own error, that of the dark level and the rounding of readings are counted in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtri

from calibration.collected import Collected
from calibration.first_minus_second import FirstMinusSecond
from calibration.gain_test import degrees_needed, gain_sum
from calibration.noise_knowledge import NoiseKnowledge
from calibration.scatter import Expectation
from calibration.square_sums import SquareSum, square_sums

# At most so many runs raise a false alarm. The tests take less: the rest is for what approximations may cost.
PROMISED_FALSE_ALARMS = 0.01
GAIN_FALSE_ALARMS, OTHER_FALSE_ALARMS = 0.005, 0.002
FALSE_ALARMS = GAIN_FALSE_ALARMS + OTHER_FALSE_ALARMS
N_OTHERS = 6
GAIN_THRESHOLD = -float(ndtri(GAIN_FALSE_ALARMS / 2))
THRESHOLD = -float(ndtri(OTHER_FALSE_ALARMS / N_OTHERS / 2))

GAIN = "gain"

# What the power is stated for, and what counts as certain.
GAIN_CHANGE = 1.2
VARIANCE_CHANGE = 2.0
CERTAIN = 0.999

_LARGEST_CHANGE = 10.0


@dataclass(frozen=True)
class ScatterTest:
    """One test: what scatters, its degrees of freedom, S over its expectation (of the gain: the factor by which it is
    off, if nothing else is), the z-score (0: as expected), and how large it may be either way.
    """

    what: str
    degrees: float
    ratio: float
    z: float
    threshold: float

    @property
    def failed(self) -> bool:
        """Whether it is larger."""
        return abs(self.z) > self.threshold


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
    is noticed in light as bright as this run read, the smaller of the two; exact_gain_power: if the calibration were
    exact; least_gain_change: the smallest factor that is noticed with probability CERTAIN in both directions, None
    above 10; degrees, degrees_needed: of freedom for the gain, and how many an exact calibration takes at this shot
    share to make gain_power CERTAIN; shot_share: aT/(aT + 2b); total: mean T, detector units.
    """

    tests: tuple[ScatterTest, ...]
    not_made: tuple[str, ...]
    first_minus_second: FirstMinusSecond | None
    estimate: OwnEstimate | None
    gain_power: float
    exact_gain_power: float
    variance_power: float
    least_gain_change: float | None
    degrees: float
    degrees_needed: float
    shot_share: float
    n_pairs: int
    n_repeated: int
    total: float

    @property
    def failed(self) -> tuple[ScatterTest, ...]:
        """The tests whose readings do not fit to the noise model."""
        return tuple(test for test in self.tests if test.failed)

    @property
    def spike_found(self) -> bool:
        """Whether first and second readings of the pairs differ by more than chance and slow decline explain."""
        return spike_found(self.first_minus_second)


def check_readings(collected: Collected, knowledge: NoiseKnowledge) -> SelfCheck:
    """Hold what a run collected against what is known of its noise."""
    sums, not_made = square_sums(collected, knowledge)
    trials, power = _trials(sums, knowledge), Power(sums, knowledge)
    exactly = power
    if knowledge.covariance is not None:
        exact = replace(knowledge, covariance=None)
        exactly = Power(square_sums(collected, exact)[0], exact)
    gain, variance = knowledge.noise.gain, knowledge.noise.variance
    per_pair = collected.pair_sums.design / max(collected.pair_sums.degrees, 1.0)
    shot, read = gain * float(per_pair[0]), variance * float(per_pair[1])
    share = shot / (shot + read) if shot + read > 0 else 0.0
    degrees = [each.degrees for each in trials if each.what == GAIN]
    if not degrees:
        not_made.append(f"{GAIN}: too few readings that hold shot noise")
    return SelfCheck(
        tests=tuple(each.tested for each in trials),
        not_made=tuple(not_made),
        first_minus_second=collected.first_minus_second,
        estimate=_own_estimate(sums, knowledge),
        gain_power=power.of_gain(GAIN_CHANGE),
        exact_gain_power=exactly.of_gain(GAIN_CHANGE),
        variance_power=min(map(power.of_variance_times, (VARIANCE_CHANGE, 1 / VARIANCE_CHANGE))),
        least_gain_change=_least_change(power.of_gain),
        degrees=sum(degrees),
        degrees_needed=degrees_needed(round(share, 3), GAIN_CHANGE, CERTAIN, GAIN_FALSE_ALARMS),
        shot_share=share,
        n_pairs=collected.n_pairs,
        n_repeated=collected.n_repeated,
        total=collected.total,
    )


def outcomes(collected: Collected, knowledge: NoiseKnowledge) -> tuple[ScatterTest, ...]:
    """The tests alone, without what they could have noticed."""
    return tuple(each.tested for each in _trials(square_sums(collected, knowledge)[0], knowledge))


def spike_found(found: FirstMinusSecond | None) -> bool:
    """Whether first and second readings of the pairs differ by more than chance and slow decline explain."""
    return found is not None and abs(found.z) > THRESHOLD


class Power:
    """Probability that a run that reads as bright as this one notices that its a or b is wrong.

    It is that of the test that notices most often, so that all of them together notice a little more. The calibration's
    own error counts as in the tests: what is read scatters about an expectation that is off by it.
    """

    def __init__(self, sums: Sequence[SquareSum], knowledge: NoiseKnowledge) -> None:
        self._parameters = knowledge.parameters
        self._trials = [(each, each.expectation.limits(each.threshold)) for each in _trials(sums, knowledge)]

    def of_gain(self, factor: float) -> float:
        """That a gain ``factor`` times too large or too small is noticed, the smaller of the two."""
        return min(self.of_gain_times(factor), self.of_gain_times(1 / factor))

    def of_gain_times(self, factor: float) -> float:
        """That a true gain of ``factor`` times the one given is noticed."""
        return self._of(0, factor)

    def of_variance_times(self, factor: float) -> float:
        """That a true b of ``factor`` times the one given is noticed."""
        return self._of(1, factor)

    def _of(self, parameter: int, factor: float) -> float:
        change = (factor - 1) * self._parameters[parameter]
        if change == 0:
            return 0.0
        return max(
            (each.expectation.noticed(change * each.answers[parameter], limits) for each, limits in self._trials),
            default=0.0,
        )


@dataclass(frozen=True)
class _Trial:
    """A sum that is tested; answers: its derivatives by a and b."""

    what: str
    degrees: float
    ratio: float
    square: float
    answers: tuple[float, float]
    expectation: Expectation
    threshold: float

    @property
    def tested(self) -> ScatterTest:
        """The outcome."""
        return ScatterTest(self.what, self.degrees, self.ratio, self.expectation.z_score(self.square), self.threshold)


def _trials(sums: Sequence[SquareSum], knowledge: NoiseKnowledge) -> list[_Trial]:
    trials = [
        _Trial(
            each.what,
            each.degrees,
            each.square / max(each.middle, 1e-300),
            each.square,
            (float(each.design[0]), float(each.design[1])),
            each.expectation,
            THRESHOLD,
        )
        for each in sums
    ]
    gain = gain_sum(sums, knowledge)
    if gain is not None:
        answers = float(gain.design[0]), float(gain.design[1])
        trials.append(_Trial(GAIN, gain.degrees, gain.factor, gain.square, answers, gain.expectation, GAIN_THRESHOLD))
    return trials


def _least_change(power: Callable[[float], float]) -> float | None:
    """The smallest factor that is noticed with probability CERTAIN, by bisection; None where it is above 10."""
    if power(_LARGEST_CHANGE) < CERTAIN:
        return None
    low, high = 0.0, float(np.log(_LARGEST_CHANGE))
    while high - low > 0.01 * high and high > 1e-4:
        middle = (low + high) / 2
        low, high = (low, middle) if power(float(np.exp(middle))) >= CERTAIN else (middle, high)
    return float(np.exp(high))


def _own_estimate(sums: Sequence[SquareSum], knowledge: NoiseKnowledge) -> OwnEstimate | None:
    """Weighted least squares of the sums over their designs, with weights from the fit itself; q as given."""
    if len(sums) < 2:
        return None
    squares = np.array([each.square for each in sums])
    design = np.array([each.design for each in sums])
    degrees = np.array([each.expectation.degrees for each in sums])
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
