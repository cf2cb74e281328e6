"""Does every reading belong to the picture it is filed under? The guards of a block must read their code.

A guard is held against being shifted by s exposures, by the likelihood ratio of "it reads its own pictures" over "it
reads the pictures s places before". Readings y_i are taken as normal, with means μ_i and variances v_i that follow
from what the picture is: bright T + B and a(T + B) + b, dark B and aB + b, a picture of a pair T/2 + B, spread around
that by what the sample makes of it. With the larger of the two variances the ratio's logarithm is linear,

    l_s = Σ_i (μ_i - μ_i-s)/v_i · (y_i - (μ_i + μ_i-s)/2),

so that the probability of l_s ≤ 0 on an aligned guard, the false alarm, is exact for normal noise. T comes from the
block's pair sums, its dark level from its dark pictures; both are uncertain, and that is counted in. A trigger may also
be lost inside of a guard: every place of it is held against its two neighbours by itself, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from acquisition.bank import GUARD_BRIGHT, Block, guard_bright
from acquisition.readings import Readings
from acquisition.schedule import Schedule
from calibration.verdict import ConstantReadingsError, NoSignalError, NotCalibratableError, SaturatedThroughoutError
from models.noise import NoiseModel

FALSE_ALARMS_PER_BLOCK = 1e-6

# A lost or doubled trigger, or a sequence that starts one or two pictures late: guards must be bright enough to tell
# these. Of further shifts they notice what they can, at a rate of false alarms that is small beside the stated one.
_NEAR_SHIFTS = (-2, -1, 1, 2)
_FAR_SHIFTS = (-5, -4, -3, 3, 4, 5)
_FAR_FALSE_ALARMS_PER_BLOCK = 1e-7

# How far the light of pairs spreads around T/2, as a share of T. It decides only how much weight they get.
_PAIR_SPREAD = 0.25

# So many standard deviations mean certainty where the noise is not known; and of normal noise, per median deviation.
_SURE_DEVIATIONS = 6.0
# Of all readings of guards the lowest three fifths are dark. Shifted ones hold both levels too, if fewer bright ones.
_GUARD_QUANTILES = (0.2, 0.9)
_NORMAL_PER_MAD = 1.4826

# What is displayed, and its light as a share of T.
_DARK, _BRIGHT, _PAIR = 0, 1, 2
_LEVEL = np.array([0.0, 1.0, 0.5])


class AlignmentError(RuntimeError):
    """A guard does not read its code: readings and pictures of the block may be shifted against each other."""


class FrameNumberError(RuntimeError):
    """The camera's own count of its frames has a gap or a repetition."""


class FrameTimeError(RuntimeError):
    """The camera's own times of its frames do not match the picture time."""


class NoFrameTimesError(ValueError):
    """Frame times are to be checked, and the camera gives none."""


class GuardsTooDimError(RuntimeError):
    """The sample gives so little light that guards cannot prove anything at the stated false-alarm rate."""


def prove_alignment(block: Block, readings: Readings, noise: NoiseModel, dark_level: float = 0.0) -> None:
    """Raise unless every guard of the block reads its own pictures rather than shifted ones.

    dark_level: mean reading of a dark picture with the light off; what dark guards read beyond it is the background B.
    The false alarms of all guards together stay under FALSE_ALARMS_PER_BLOCK (see false_alarms), else the guards are
    too dim to decide. Raises AlignmentError, GuardsTooDimError.
    """
    dark = float(readings.dark.mean())
    pair_sum = float((readings.plus + readings.minus).mean())
    total = pair_sum - 2 * dark
    wrong = np.arange(block.n_guards)
    if total > 0:
        test = _GuardTest(block, total, max(dark - dark_level, 0.0), noise)
        wrong = np.flatnonzero(test.misses(readings.guards - dark))
    # Shifted guards show light where they should be dark, and the T that this leaves says nothing of the sample. Yet
    # whatever the shift, one place of the code was dark.
    darkest = float(readings.guards.mean(axis=0).min()) if len(wrong) else dark
    light = max(pair_sum - 2 * darkest, 0.0)
    alarms = false_alarms(block, light, max(darkest - dark_level, 0.0), noise)
    if alarms > FALSE_ALARMS_PER_BLOCK:
        raise GuardsTooDimError(
            f"block {block.number}: the sample's total light reads {light:.4g} detector units per exposure, "
            f"and its {block.n_guards} guards would raise {alarms:.1e} false alarms (at most "
            f"{FALSE_ALARMS_PER_BLOCK:.0e} allowed). Nothing was recorded from this block: open the shutter, raise the "
            "light or the illumination time, lengthen the guards (blocks.guard_codes), or correct noise.gain and "
            "noise.variance" + _saturation_remark(readings)
        )
    if len(wrong):
        guard = int(wrong[0])
        raise AlignmentError(
            f"block {block.number}: guard {guard} of {block.n_guards} reads "
            f"{np.array2string(readings.guards[guard], precision=0)}, expected bright = dark + {light:.4g} in order "
            f"{''.join('B' if bright else 'D' for bright in GUARD_BRIGHT)}; a trigger was lost, doubled or late. "
            "Nothing was recorded from this block: check the trigger cable and the trigger mode, or lengthen the "
            "picture time" + _saturation_remark(readings)
        )


def prove_guard_code(block: Block, readings: Readings) -> None:
    """Raise unless every guard reads its code, where the noise is not known yet.

    Each place must lie on its own side of the middle between bright and dark, and both must be six standard deviations
    away from it: at most 10⁻⁹ false alarms an exposure for normal noise. A shift by one or two exposures puts two
    places on the wrong side. The levels come from the guards' readings wherever in the code they stand, so that shifted
    guards are not taken for missing light. Raises AlignmentError, GuardsTooDimError, and where bright and dark pictures
    read the same NoSignalError, ConstantReadingsError or SaturatedThroughoutError.
    """
    guards = readings.guards
    dark, bright = (float(level) for level in np.quantile(guards, _GUARD_QUANTILES))
    above = guards > (bright + dark) / 2
    spread = max(_spread(guards[above]), _spread(guards[~above]))
    if (bright - dark) / 2 <= _SURE_DEVIATIONS * spread:
        raise _too_little_light(block, readings, spread)
    expected = guard_bright(guards.shape[1])
    wrong = np.flatnonzero((above != expected).any(axis=1))
    if len(wrong):
        guard = int(wrong[0])
        raise AlignmentError(
            f"block {block.number}: guard {guard} of {block.n_guards} reads "
            f"{np.array2string(readings.guards[guard], precision=0)}, expected {bright:.4g} where bright and "
            f"{dark:.4g} where dark in order {''.join('B' if each else 'D' for each in expected)}; a trigger was lost, "
            "doubled or late. Nothing was recorded from this block: check the trigger cable and the trigger mode, or "
            "lengthen the picture time" + _saturation_remark(readings)
        )


def prove_contiguous(frame_numbers: NDArray[np.int64] | None) -> None:
    """Raise FrameNumberError unless a burst's frame numbers, where the camera gives them, count up by one."""
    if frame_numbers is None:
        return
    gaps = np.flatnonzero(np.diff(frame_numbers) != 1)
    if len(gaps):
        at = int(gaps[0])
        raise FrameNumberError(
            f"frame number {frame_numbers[at]} is followed by {frame_numbers[at + 1]} at exposure {at + 1} of the "
            f"block, and the count is broken {len(gaps)} times in all. Frames were lost or doubled, nothing was "
            "recorded from this block: lengthen the picture time, or enlarge the camera's buffer"
        )


def prove_times(times_us: NDArray[np.float64] | None, picture_time_us: float, tolerance_us: float) -> None:
    """Raise FrameTimeError unless each frame follows the one before it by the picture time, give or take tolerance_us.

    times_us: the camera's own times float64 [n]; None, where it gives none although they were asked for, is
    NoFrameTimesError.
    """
    if times_us is None:
        raise NoFrameTimesError(
            "frame times are to be held against the picture time (devices.detector.time_tolerance_us), and the camera "
            "gives none: take the key out, or name the tag that holds its times (time_tag)"
        )
    steps = np.diff(times_us)
    odd = np.flatnonzero(np.abs(steps - picture_time_us) > tolerance_us)
    if len(odd):
        at = int(odd[0])
        raise FrameTimeError(
            f"exposure {at + 1} of the block came {steps[at]:.1f} µs after the one before it, expected "
            f"{picture_time_us:g} ± {tolerance_us:g} µs, and {len(odd)} times are odd in all: a trigger was lost, "
            "doubled or late. Nothing was recorded from this block: check the trigger cable and the trigger mode, or "
            "lengthen the picture time"
        )


def false_alarms(block: Block, total: float, background: float, noise: NoiseModel) -> float:
    """How many of the block's guards noise alone makes look shifted, on average, when all are aligned.

    total, background: T, B in detector units. Under the normal approximation; infinite without light.
    """
    if total <= 0:
        return np.inf
    return _GuardTest(block, total, background, noise).false_alarms + _FAR_FALSE_ALARMS_PER_BLOCK


def unseen_share(block: Block) -> float:
    """Probability that a lost and a doubled trigger, at two random exposures of a block, shift readings unnoticed.

    They make each other good, and without frame times only guards tell. Where both lie between the same two guards, no
    guard is shifted: of m exposures between two guards m(m + 1) of the n(n - 1) ordered pairs of places do that (the
    doubled one may be the exposure right after, or right before, the shifted stretch). A few more pass where a
    coefficient beyond T/2 stands beside a guard, and reads nearly as bright or as dark as the guard's own picture.
    """
    n = block.n_exposures
    m = block.section_exposures.astype(np.float64)
    return float((m * (m + 1)).sum() / (n * (n - 1)))


def residual_risk(schedule: Schedule, lost_rate: float, doubled_rate: float) -> float:
    """How many blocks of a run are expected to be accepted with shifted readings, by a camera without frame times.

    lost_rate, doubled_rate: probability, per exposure, that a trigger is lost, or doubled; one of each a block.
    """
    pairs_of_places = sum(
        block.n_exposures * (block.n_exposures - 1) * unseen_share(block) for block in schedule.blocks
    )
    return pairs_of_places * lost_rate * doubled_rate


@dataclass(frozen=True)
class _Comparison:
    """An aligned block's guards against one shift; arrays [n_guards, guard_pictures], or [n_guards].

    weights on the readings; middles: halfway between what is displayed and what the shift would show, as shares of T;
    mean and deviation of the log likelihood ratio of an aligned guard.
    """

    weights: NDArray[np.float64]
    middles: NDArray[np.float64]
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    def ratio(self, guards: NDArray[np.float64], total: float) -> NDArray[np.float64]:
        """The log likelihood ratio of each guard, whose readings are relative to the dark level."""
        return np.asarray((self.weights * (guards - self.middles * total)).sum(axis=1))

    @property
    def tells(self) -> NDArray[np.bool_]:
        """Bool [n_guards]: whether the shift would show other pictures at all; a guard beside a guard may not."""
        return self.mean > 0

    @property
    def false_alarm(self) -> NDArray[np.float64]:
        """Probability that the ratio of an aligned guard is not above 0."""
        return np.asarray(self.probability_below(np.zeros(len(self.mean))))

    def probability_below(self, threshold: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probability that the ratio of an aligned guard does not exceed a threshold."""
        distance = self.mean - threshold
        certain = np.where(distance > 0, np.inf, 0.0)
        return np.asarray(ndtr(-np.divide(distance, self.deviation, out=certain, where=self.deviation > 0)))


class _GuardTest:
    """A block's guards against every shift, for an expected total light T > 0 and background B."""

    def __init__(self, block: Block, total: float, background: float, noise: NoiseModel) -> None:
        self._total = total
        self._guards = block.guard_exposures
        self._displayed = np.full(block.n_exposures, _PAIR)
        self._displayed[self._guards] = np.where(guard_bright(self._guards.shape[1]), _BRIGHT, _DARK)
        dark_variance = noise.gain * background + noise.variance
        self._variance = dark_variance + noise.gain * total * _LEVEL
        self._mean_pair_sum_variance = noise.pair_variance(total, background) / block.n_pairs
        self._near = [self._against(shift) for shift in _NEAR_SHIFTS]
        self._far = [self._against(shift) for shift in _FAR_SHIFTS]

    @property
    def false_alarms(self) -> float:
        """Expected number of aligned guards whose ratio against a near shift is not above 0."""
        return float(sum(each.false_alarm.sum() for each in self._near))

    def misses(self, guards: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Bool [n_guards]: which guards, float64 [n_guards, guard_pictures] above the dark level, read shifted."""
        missed = np.zeros(len(guards), dtype=bool)
        for near in self._near:
            missed |= near.tells & (near.ratio(guards, self._total) <= 0)
        n_tests = len(guards) * (len(self._far) + 2 * guards.shape[1])
        deviations = float(ndtri(_FAR_FALSE_ALARMS_PER_BLOCK / n_tests))
        for far in self._far:
            threshold = np.minimum(far.mean + deviations * far.deviation, 0.0)
            missed |= far.tells & (far.ratio(guards, self._total) <= threshold)
        for neighbour in self._near[1:3]:
            missed |= self._misses_a_place(guards, neighbour, deviations)
        return missed

    def _misses_a_place(
        self, guards: NDArray[np.float64], neighbour: _Comparison, deviations: float
    ) -> NDArray[np.bool_]:
        """Bool [n_guards]: which guards have a place that reads its neighbour's picture."""
        own = self._displayed[self._guards]
        excess = guards - neighbour.middles * self._total
        # An aligned place lies this far on its own side of the middle, give or take its noise and that of the levels.
        expected = np.abs(_LEVEL[own] - neighbour.middles) * self._total
        noise = np.sqrt(self._variance[own] + self._mean_pair_sum_variance)
        threshold = np.minimum(expected + deviations * noise, 0.0)
        wrong = (np.sign(neighbour.weights) * excess <= threshold) & (neighbour.weights != 0)
        return np.asarray(wrong.any(axis=1))

    def _against(self, shift: int) -> _Comparison:
        place = self._guards - shift
        last = len(self._displayed) - 1
        own = self._displayed[self._guards]
        other = np.where((place >= 0) & (place <= last), self._displayed[np.clip(place, 0, last)], _DARK)
        difference = (_LEVEL[own] - _LEVEL[other]) * self._total
        pooled = np.maximum(self._variance[own], self._variance[other] + (other == _PAIR) * self._pair_scatter)
        weights = np.divide(difference, pooled, out=np.zeros(difference.shape), where=difference != 0)
        middles = (_LEVEL[own] + _LEVEL[other]) / 2
        mean = (weights * difference).sum(axis=1) / 2
        return _Comparison(weights, middles, mean, np.sqrt(self._ratio_variance(own == _DARK, weights, middles)))

    @property
    def _pair_scatter(self) -> float:
        return (_PAIR_SPREAD * self._total) ** 2

    def _ratio_variance(
        self, dark: NDArray[np.bool_], weights: NDArray[np.float64], middles: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Variance of aligned guards' ratios, T and the dark level being estimates from the same block.

        A middle m·T̂ above the dark level D̂ is m·(pair sum) + (1 - 2m)·D̂, and D̂ is the mean of all dark readings, the
        guard's own among them.
        """
        n_dark = dark.sum()
        share = (weights * (1 - 2 * middles)).sum(axis=1) / n_dark
        own = np.where(dark, weights - share[:, None], 0.0)
        others = (n_dark - dark.sum(axis=1)) * share**2
        variance = ((own**2).sum(axis=1) + others) * self._variance[_DARK]
        variance += (weights**2 * ~dark).sum(axis=1) * self._variance[_BRIGHT]
        variance += (weights * middles).sum(axis=1) ** 2 * self._mean_pair_sum_variance
        return np.asarray(variance)


def _spread(readings: NDArray[np.float64]) -> float:
    """Standard deviation of readings [n], a few odd ones not counted."""
    if readings.size == 0:
        return 0.0
    return _NORMAL_PER_MAD * float(np.median(np.abs(readings - np.median(readings))))


def _too_little_light(block: Block, readings: Readings, spread: float) -> GuardsTooDimError | NotCalibratableError:
    bright, dark = readings.bright, readings.dark
    found = (
        f"block {block.number}: bright pictures read {bright.mean():.5g} and dark ones {dark.mean():.5g} detector units"
    )
    error = (bright.var() / bright.size + dark.var() / dark.size) ** 0.5
    if bright.mean() - dark.mean() > _SURE_DEVIATIONS * error:
        return GuardsTooDimError(
            f"{found}, give or take {spread:.3g}: too close to tell lost triggers by. Raise the light or the "
            "illumination time"
        )
    if 2 * readings.saturated > block.n_exposures:
        return SaturatedThroughoutError(
            f"{found}, and {readings.saturated} of {block.n_exposures} exposures saturated the detector, those of dark "
            "pictures too: lower the detector's offset or the light that does not come from the mirrors"
        )
    if all(np.ptp(values) == 0 for values in (readings.guards, readings.plus, readings.minus)):
        return ConstantReadingsError(
            f"{found}, and no reading differs from another one: is the camera's cap on, the region of its frame the "
            "right one, and is it really exposing?"
        )
    return NoSignalError(
        f"{found}, which is the same within their noise: open the shutter, switch on the light, and see that it "
        "reaches the detector by way of the mirrors"
    )


def _saturation_remark(readings: Readings) -> str:
    if not readings.saturated:
        return ""
    return (
        f". {readings.saturated} of its exposures saturated the detector, which alone can be the cause: lower the "
        "light, or spread it over more pixels"
    )
