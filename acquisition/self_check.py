"""Every run checks its own readings: at its end, from the store, block by block, whether they fit to its noise model.

It takes some milliseconds a block, which would come between blocks under light; nothing needs it before the end.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acquisition.bank import guard_bright
from acquisition.bucket_region import bucket_region
from acquisition.config import AcquisitionConfig
from acquisition.device_sections import SimulatedDetector
from acquisition.readings import Readings
from acquisition.schedule import pair_order
from acquisition.stored_reconstruction import stored_config
from acquisition.stored_run import StoredRun
from calibration import self_check_text
from calibration.collected import Collected, Darkness
from calibration.first_minus_second import first_minus_second
from calibration.light_course import LightCourse
from calibration.noise_file import NoiseCalibration
from calibration.noise_knowledge import ROUNDING, NoiseKnowledge
from calibration.repeats import RepeatSums
from calibration.scatter import Scatter, deviations, scatter_of_groups
from calibration.self_check import SelfCheck, check_readings
from calibration.square_sums import is_cut_off
from models.noise import NoiseModel

# Pairs through whose sums a straight line is laid; what is left of a block makes a row if it has a few.
_PAIRS_IN_A_ROW, _FEWEST_IN_A_ROW = 16, 4


class SelfCheckCollector:
    """Adds up accepted blocks, a few numbers per coefficient whatever the run's length.

    knowledge: of the noise; plus_first: bool [N], order of every coefficient's pair; dark: float64 [d], readings with
    the light off, or, where it cannot be switched off (dark_is_lit), under it; picture_time_us: as the projector
    accepted it; floor: what a frame of zeros reads, None where that cuts nothing off.
    """

    def __init__(
        self,
        knowledge: NoiseKnowledge,
        plus_first: NDArray[np.bool_],
        dark: NDArray[np.float64],
        *,
        picture_time_us: float,
        dark_is_lit: bool = False,
        floor: float | None = None,
    ) -> None:
        self.knowledge = knowledge
        self._plus_first = plus_first
        self._dark = dark
        self._dark_is_lit = dark_is_lit
        self._picture_time_us = picture_time_us
        self._floor = floor
        self._dark_level = 0.0 if dark_is_lit or len(dark) == 0 else self._level(dark)
        self._repeats = RepeatSums(len(plus_first))
        self._bright = Scatter.empty()
        self._pair_sums = Scatter.empty()
        self._lit_dark = Darkness(0.0, 0, 0, 0.0)
        self._n_pairs = 0
        self._total_sum = 0.0
        self._drift_sum = 0.0

    def add(self, readings: Readings) -> None:
        """Add one accepted block."""
        dark, time_us = readings.dark, readings.time_us
        self._lit_dark = _with(self._lit_dark, dark)
        lit = self._level(dark)
        difference, sums = readings.plus - readings.minus, readings.plus + readings.minus
        course = LightCourse.of(time_us, sums)
        total = course.at(time_us) - 2 * lit
        light = total + 2 * (lit - self._dark_level)  # T + 2B
        if min(total.min(), light.min()) <= 0:
            return  # no light to hold anything against; the guards of a block like this prove nothing either
        terms = np.array([light, np.full_like(light, 2.0), light**2 / 2])
        variance = terms.T @ self.knowledge.parameters
        self._repeats.add(readings.index, difference, total, variance, terms, self._excess(light, variance))
        # The z² of source noise, from the pair's own difference less what noise adds to its square.
        terms[2] += (difference**2 - variance) / 2
        self._pair_sums += self._scatter_of_sums(course, time_us, sums, light, terms)
        self._bright += self._scatter_of_guards(course, self._bright_times_us(readings), readings.bright, lit, terms)
        self._n_pairs += readings.n_pairs
        self._total_sum += float(total.sum())
        # In one picture time the sum of a pair declines by this share of T; half of it is the second reading's part.
        self._drift_sum += float((-course.slope(time_us) * self._picture_time_us / 2 / total).sum())

    def collected(self) -> Collected:
        """The sums so far."""
        n_pairs = max(self._n_pairs, 1)
        spike = first_minus_second(
            self._repeats.share, self._repeats.precision, self._plus_first, self._drift_sum / n_pairs
        )
        return Collected(
            dark=_with(Darkness(0.0, 0, 0, 0.0), self._dark[None, :]),
            dark_is_lit=self._dark_is_lit,
            lit_dark=self._lit_dark,
            bright=self._bright,
            repeats=self._repeats.scatter(),
            pair_sums=self._pair_sums,
            first_minus_second=spike,
            n_pairs=self._n_pairs,
            n_repeated=self._repeats.n_repeated,
            total=self._total_sum / n_pairs,
            floor=self._floor,
        )

    def checked(self) -> SelfCheck:
        """What the readings so far say of the noise model."""
        return check_readings(self.collected(), self.knowledge)

    def _level(self, dark: NDArray[np.float64]) -> float:
        """The dark level: a mean, or the median where readings are cut off at 0, which leaves a median as it is."""
        mean = float(dark.mean())
        return float(np.median(dark)) if is_cut_off(mean, self.knowledge.noise.variance**0.5, self._floor) else mean

    def _excess(self, light: NDArray[np.float64], variance: NDArray[np.float64]) -> NDArray[np.float64]:
        """Excess kurtosis of a reading of this light and variance: a Poisson number's fourth cumulant is its mean."""
        return np.asarray(self.knowledge.noise.gain**3 * np.maximum(light, 0) / variance**2)

    def _scatter_of_sums(
        self,
        course: LightCourse,
        time_us: NDArray[np.float64],
        sums: NDArray[np.float64],
        light: NDArray[np.float64],
        terms: NDArray[np.float64],
    ) -> Scatter:
        """Scatter of pair sums within rows of pairs, about a straight line over what their course leaves."""
        n = len(sums)
        whole = n - n % _PAIRS_IN_A_ROW
        loadings, left = course.loadings(time_us), sums - course.at(time_us)
        scatter = Scatter.empty()
        for row, length in ((slice(0, whole), _PAIRS_IN_A_ROW), (slice(whole, n), n - whole)):
            if row.stop == row.start or length < _FEWEST_IN_A_ROW:
                continue
            in_rows = np.array([light, *terms])[:, row].reshape(4, -1, length).mean(axis=-1)
            at = time_us[row].reshape(-1, length)
            variance = in_rows[1:].T @ self.knowledge.parameters
            excess = self._excess(in_rows[0], variance)
            made = scatter_of_groups(left[row].reshape(-1, length), variance, in_rows[1:], excess, at)
            taken = float((deviations(loadings[row].T.reshape(-1, *at.shape), at) ** 2).sum())
            scatter += made.less(taken / made.degrees)
        return scatter

    def _scatter_of_guards(
        self,
        course: LightCourse,
        time_us: NDArray[np.float64],
        bright: NDArray[np.float64],
        lit: float,
        terms: NDArray[np.float64],
    ) -> Scatter:
        """Scatter of bright pictures [n_guards, m] within guards, about the course of the pair sums."""
        expected = course.at(time_us) - lit - self._dark_level
        level = expected.mean(axis=1)
        loadings = course.loadings(time_us)
        added = ((loadings - loadings.mean(axis=1, keepdims=True)) ** 2).sum(axis=(1, 2)) / (bright.shape[1] - 1)
        own = np.array([level, np.ones_like(level), level**2]) + terms.mean(axis=1)[:, None] * added
        variance = np.maximum(own.T @ self.knowledge.parameters, 1e-300)
        return scatter_of_groups(bright - expected, variance, own, self._excess(level, variance))

    def _bright_times_us(self, readings: Readings) -> NDArray[np.float64]:
        """Where on the course of pair sums the guards' bright pictures lie, [n_guards, bright per guard]: a guard is
        displayed where no pair is.
        """
        pairs = np.rint((readings.time_us - readings.start_us) / self._picture_time_us).astype(np.int64)
        of_guards = np.ones(2 * len(pairs) + readings.guards.size, dtype=bool)
        of_guards[pairs] = of_guards[pairs + 1] = False
        exposures = np.flatnonzero(of_guards).reshape(readings.guards.shape)
        bright = exposures[:, guard_bright(readings.guards.shape[1])]
        # A pair's sum is the light of its middle, one picture after its start; an exposure's middle is half a one.
        return np.asarray(readings.start_us + self._picture_time_us * (bright - 0.5))


def self_check_collector(
    config: AcquisitionConfig, facts: dict[str, Any], dark: NDArray[np.float64]
) -> SelfCheckCollector | None:
    """The collector of a run, from its file, what is on record since it began, and its readings with the light off.

    None for a simulated bench that draws no noise: there is nothing to be found in its readings.
    """
    if config.simulated and not config.bench.shot_noise:
        return None
    camera = facts["devices"]["detector"]
    region = bucket_region(config)
    n_pixels = camera["width_px"] * camera["height_px"] if region is None else region.width * region.height
    detector = config.devices.detector
    # Cameras round every pixel; the simulated one only their sum, where it does not see the mirrors.
    rounds_the_sum = isinstance(detector, SimulatedDetector) and detector.view is None
    return SelfCheckCollector(
        noise_knowledge(config, facts.get("noise_calibration"), roundings=1 if rounds_the_sum else n_pixels),
        pair_order(config.sensing.side**2, config.sensing.seed),
        dark,
        picture_time_us=(facts["accepted_timing"] or facts["config"]["timing"])["picture_time_us"],
        dark_is_lit=facts["dark_under_light"],
        floor=-detector.offset_per_px * n_pixels,
    )


def noise_knowledge(
    config: AcquisitionConfig, calibration: dict[str, Any] | None = None, roundings: int = 1
) -> NoiseKnowledge:
    """What the file says of the noise, and how sure its calibration, if there is one, is of it.

    calibration: as on record; roundings: of so many rounded pixels each reading is the sum. A b that was measured on
    this camera holds what rounding adds already; a stated one may not, and a bench that was given it adds it anew.
    """
    noise, rounding = NoiseModel(config.noise.gain, config.noise.variance), roundings * ROUNDING
    if calibration is None:
        return NoiseKnowledge(noise, rounding=rounding)
    measured = NoiseCalibration.model_validate(calibration)
    if config.simulated and not measured.identity.simulated:
        # A rehearsal: the bench was given this a and b, exactly, and source noise of its own.
        return NoiseKnowledge(noise, config.bench.source_noise**2, rounding=rounding)
    return NoiseKnowledge(noise, max(measured.source_noise.value, 0.0), np.array(measured.covariance), rounding=0.0)


def stored_self_check(run: StoredRun) -> SelfCheck | None:
    """What the raw readings of a stored run say of its noise model; None where its bench drew no noise.

    Raises CorruptBlockError, AcquisitionFileError.
    """
    collector = _collected(run)
    return None if collector is None else collector.checked()


def check_run(run: StoredRun) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
    """The same as JSON-able facts, and what there is to warn of. Raises what ``stored_self_check`` raises."""
    collector = _collected(run)
    if collector is None:
        return None, ()
    check = collector.checked()
    return on_record(check), self_check_text.warnings(check, collector.knowledge)


def _collected(run: StoredRun) -> SelfCheckCollector | None:
    collector = self_check_collector(stored_config(run), run.facts, run.dark)
    if collector is not None:
        for readings in run.blocks():
            collector.add(readings)
    return collector


def on_record(check: SelfCheck) -> dict[str, Any]:
    """A check as JSON-able facts, with what there is to say about it."""
    spike = check.first_minus_second
    return {
        **asdict(check),
        "first_minus_second": None if spike is None else {**asdict(spike), "z": spike.z},
        "failed": [test.what for test in check.failed] + ["first minus second"] * check.spike_found,
        "verdict": self_check_text.verdict(check),
        "power": self_check_text.power(check),
        "own_estimate": self_check_text.estimate(check),
        "spike": self_check_text.spike(check),
    }


def _with(darkness: Darkness, dark: NDArray[np.float64]) -> Darkness:
    """Darkness with more groups of readings float64 [groups, m]."""
    deviation = dark - dark.mean(axis=1, keepdims=True)
    n = darkness.n + dark.size
    return Darkness(
        square=darkness.square + float((deviation**2).sum()),
        group=dark.shape[1],
        n=n,
        mean=(darkness.mean * darkness.n + float(dark.sum())) / max(n, 1),
    )
