"""The runs' check of their own readings: how often it warns of nothing, and how often a changed gain escapes it.

Readings are drawn by a simulator of its own, which knows nothing of the bench, the schedule or the check: passes over
coefficients with a power law's spectrum, guards in between, light that bleaches, background, whole numbers. Whole runs
on the bench come after it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import hadamard

from acquisition.acquisition_file import example_dry_run, load_acquisition
from acquisition.config import AcquisitionConfig
from acquisition.readings import Readings
from acquisition.run import acquire
from acquisition.self_check import SelfCheckCollector, stored_self_check
from acquisition.stored_run import StoredRun
from benchmarks.row import Row
from calibration.collected import Collected
from calibration.noise_knowledge import NoiseKnowledge
from calibration.self_check import (
    CERTAIN,
    PROMISED_FALSE_ALARMS,
    Power,
    SelfCheck,
    check_readings,
    outcomes,
    spike_found,
)
from calibration.square_sums import square_sums
from models.noise import NoiseModel

PICTURE_TIME_US = 100.0
GUARD = np.array([True, False, False, True, False])

CLEAN_RUNS, UNCERTAIN_RUNS, CHANGED_RUNS, SMALL_RUNS, BENCH_RUNS = 2000, 1000, 300, 300, 12

# A calibration's own standard errors of a and b, relatively, where they are not taken as exact.
GAIN_ERROR, VARIANCE_ERROR = 0.03, 0.1
EXACT = (0.0, 0.0)

# Side by side, runs become large enough to notice every change; those of the first few are often too small for it.
SIDES = (16, 32, 64, 128)


def rows() -> list[Row]:
    """False alarms under exact and uncertain calibrations, changed gains that are noticed; on the bench, too."""
    clean = [warns(run) for run in clean_runs(CLEAN_RUNS)]
    uncertain = [warns(run, knowledge) for run, knowledge in uncertain_runs(UNCERTAIN_RUNS)]
    changed = [found for found, _ in map(searched_until_certain, changed_runs(CHANGED_RUNS))]
    on_the_bench = [
        [_warned(on_bench(seed, factor)) for seed in range(BENCH_RUNS) for factor in factors]
        for factors in ((1.0,), (0.8, 1.2))
    ]
    few, all_of_them = f"at most {PROMISED_FALSE_ALARMS:g}", "1"
    return [
        _share("clean runs that warn", clean, few),
        _share("clean runs, a and b of the calibration known to 3 % and 10 %, that warn", uncertain, few),
        _share("gain off by 20 %, aT/(aT + 2b) from 0.5 to 1, 99.9 % or more stated: noticed", changed, all_of_them),
        *(
            _as_stated(f"smaller runs, a and b known to {100 * a:g} % and {100 * b:g} %, gain off by 20 %", a, b, seed)
            for seed, (a, b) in enumerate((EXACT, (GAIN_ERROR, VARIANCE_ERROR), (3 * GAIN_ERROR, VARIANCE_ERROR)), 20)
        ),
        _share("clean whole runs on the bench that warn", on_the_bench[0], few),
        _share("whole runs on the bench, gain off by 20 %: noticed", on_the_bench[1], all_of_them),
    ]


def _share(what: str, warned: list[bool], target: str) -> Row:
    return Row(what, f"{sum(warned)} of {len(warned)}", target, sum(warned) / len(warned), target)


def _as_stated(what: str, gain_error: float, variance_error: float, seed: int) -> Row:
    pairs = [searched(*each) for each in changed_runs(SMALL_RUNS, seed, gain_error, variance_error)]
    found, stated = (np.array(each, dtype=float) for each in zip(*pairs, strict=True))
    spread = float((stated @ (1 - stated)) ** 0.5)
    return Row(
        f"{what}: noticed",
        f"{found.sum():.0f} of {len(found)}",
        f"{stated.sum():.0f} ± {spread:.0f} stated",
        float(found.sum() / stated.sum()),
        "1",
    )


@dataclass(frozen=True)
class Made:
    """One simulated run: side n; a, b, q of the detector and the light; electrons: T/a at the start; background: B/a in
    electrons; repeats: S; alpha; bleaching: share of the light lost until the end; ripple: relative light of second
    readings beyond the first; section, block: pairs between guards and in a block; dark: exposures with the light off.
    """

    side: int
    gain: float
    variance: float
    electrons: float
    background: float = 0.0
    source_noise: float = 0.0
    repeats: int = 4
    alpha: float = 0.5
    bleaching: float = 0.0
    ripple: float = 0.0
    section: int = 64
    block: int = 512
    dark: int = 64
    seed: int = 0

    @property
    def shot_share(self) -> float:
        """aT/(aT + 2b) of the fresh sample."""
        shot = self.gain**2 * self.electrons
        return shot / (shot + 2 * self.variance)

    @property
    def noise(self) -> NoiseModel:
        """The noise as it is."""
        return NoiseModel(self.gain, self.variance)

    def draw(self) -> tuple[NDArray[np.bool_], NDArray[np.float64], list[Readings]]:
        """Orders bool [N], readings with the light off, and the blocks."""
        rng = np.random.default_rng([self.seed, 77])
        n = self.side**2
        changes = (np.diff(hadamard(self.side), axis=1) != 0).sum(axis=1).astype(np.float64)
        spread = (0.18 * (1 + changes[:, None] ** 2 + changes**2).ravel() ** -1.15) ** 0.5
        z = np.clip(rng.normal(0, spread), -0.9, 0.9)  # as a share of T
        # Repeats fall off with the spread: many for few coefficients, one for many, as learned masks have it.
        wanted = np.clip(self.repeats * spread / np.quantile(spread, 1 - self.alpha / 2), 0, self.repeats)
        m = np.floor(wanted + rng.random(n)).astype(int)
        m[0] = 0
        plus_first = rng.random(n) < 0.5
        passes = [np.flatnonzero(m >= r) for r in range(1, self.repeats + 1)]
        n_exposures = sum(2 * len(each) + 5 * (len(each) // self.section + 2) for each in passes)
        decline = -np.log1p(-self.bleaching) / n_exposures
        blocks: list[Readings] = []
        exposure = 0
        for number, taken in enumerate(passes):
            order = rng.permutation(taken)
            for first in range(0, len(order), self.block):
                index = order[first : first + self.block]
                at, guards = _laid_out(len(index), self.section)
                light = self.electrons * np.exp(-decline * (exposure + np.arange(at[-1] + 2 + 5)))
                share = np.empty(len(light))
                share[guards] = np.tile(GUARD, (len(guards), 1))
                plus, minus = (1 + z[index]) / 2, (1 - z[index]) / 2
                plus_at, minus_at = np.where(plus_first[index], (at, at + 1), (at + 1, at))
                share[plus_at], share[minus_at] = plus, minus
                share[at + 1] *= 1 + self.ripple
                y = self.read(light * share + self.background, rng)
                blocks.append(
                    Readings(
                        block_number=len(blocks),
                        pass_number=number + 1,
                        start_us=PICTURE_TIME_US * exposure,
                        index=index.astype(np.int64),
                        plus=y[plus_at],
                        minus=y[minus_at],
                        time_us=np.asarray(PICTURE_TIME_US * (exposure + at), dtype=np.float64),
                        guards=y[guards],
                    )
                )
                exposure += len(light)
        return plus_first, self.read(np.zeros(self.dark), rng), blocks

    def read(self, electrons: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
        """Readings under so many photo-electrons on average, in whole units."""
        light = electrons * np.maximum(1 + self.source_noise**0.5 * rng.normal(size=len(electrons)), 0)
        return np.asarray(np.rint(self.gain * rng.poisson(light) + self.variance**0.5 * rng.normal(size=len(light))))


def _laid_out(n_pairs: int, section: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First exposure of every pair, and the exposures [guards, 5] of the guards around and between sections."""
    pairs = np.arange(n_pairs)
    at = 5 * (pairs // section + 1) + 2 * pairs
    starts = [*at[::section] - 5, at[-1] + 2]
    return at, np.array(starts)[:, None] + np.arange(5)


def collected_from(run: Made, knowledge: NoiseKnowledge) -> Collected:
    """Draw a run and add it up."""
    plus_first, dark, blocks = run.draw()
    collector = SelfCheckCollector(knowledge, plus_first, dark, picture_time_us=PICTURE_TIME_US)
    for block in blocks:
        collector.add(block)
    return collector.collected()


def checked(run: Made, knowledge: NoiseKnowledge | None = None) -> SelfCheck:
    """Draw a run and let it check itself against what it was given, by default the truth."""
    knowledge = NoiseKnowledge(run.noise, run.source_noise) if knowledge is None else knowledge
    return check_readings(collected_from(run, knowledge), knowledge)


def warns(run: Made, knowledge: NoiseKnowledge | None = None) -> bool:
    """Whether it does, without what it could have noticed."""
    knowledge = NoiseKnowledge(run.noise, run.source_noise) if knowledge is None else knowledge
    collected = collected_from(run, knowledge)
    return any(test.failed for test in outcomes(collected, knowledge)) or spike_found(collected.first_minus_second)


def searched(run: Made, knowledge: NoiseKnowledge, factor: float) -> tuple[bool, float]:
    """Whether a run notices that its gain is ``factor`` times the one given, and the probability stated for it."""
    collected = collected_from(run, knowledge)
    power = Power(square_sums(collected, knowledge)[0], knowledge)
    return any(test.failed for test in outcomes(collected, knowledge)), power.of_gain_times(factor)


def searched_until_certain(changed: tuple[Made, NoiseKnowledge, float]) -> tuple[bool, float]:
    """The same of the smallest run like this one whose stated probability is CERTAIN, whatever it finds."""
    run, knowledge, factor = changed
    outcome = False, 0.0
    for side in SIDES:
        outcome = searched(replace(run, side=side), knowledge, factor)
        if outcome[1] >= CERTAIN:
            break
    return outcome


def _warned(check: SelfCheck) -> bool:
    return bool(check.failed) or check.spike_found


def clean_runs(n: int, seed: int = 0) -> Iterator[Made]:
    """Runs over the range of detectors and samples that guards can prove, each another one."""
    rng = np.random.default_rng([seed, 5])
    for number in range(n):
        gain = float(np.exp(rng.uniform(np.log(0.01), np.log(20))))
        variance = float(np.exp(rng.uniform(np.log(10), np.log(1e4))))
        # From ten times the noise of an exposure up to 10^7 electrons, and at least 200 of them.
        dimmest = max(10 * variance**0.5 / gain, 200.0)
        electrons = float(np.exp(rng.uniform(np.log(dimmest), np.log(max(1e7, 2 * dimmest)))))
        yield Made(
            side=int(rng.choice([16, 32, 64])),
            gain=gain,
            variance=variance,
            electrons=electrons,
            background=float(rng.choice([0.0, 0.0, 5.0, 0.05 * electrons, electrons])),
            repeats=int(rng.choice([1, 2, 4, 8])),
            alpha=float(rng.uniform(0.2, 0.9)),
            bleaching=float(rng.choice([0.0, 0.05, 0.3])),
            section=int(rng.choice([16, 64, 128])),
            block=int(rng.choice([100, 512, 2000])),
            seed=int(rng.integers(2**40)) + number,
        )


def uncertain_runs(n: int, seed: int = 2) -> Iterator[tuple[Made, NoiseKnowledge]]:
    """Runs whose calibration is off by its own errors."""
    rng = np.random.default_rng([seed, 9])
    for run in clean_runs(n, seed):
        gain = run.gain * (1 + GAIN_ERROR * rng.normal())
        variance = max(run.variance * (1 + VARIANCE_ERROR * rng.normal()), 0.0)
        errors = np.array([GAIN_ERROR * run.gain, VARIANCE_ERROR * run.variance, 0.0])
        yield run, NoiseKnowledge(NoiseModel(gain, variance), covariance=np.diag(errors**2))


def changed_runs(
    n: int, seed: int = 1, gain_error: float = 0.0, variance_error: float = 0.0
) -> Iterator[tuple[Made, NoiseKnowledge, float]]:
    """Runs whose gain has become 20 % larger or smaller since the calibration, which may have been off by its own
    errors; aT/(aT + 2b) at the end of the run is spread evenly from 0.5 to 1. With them, the factor.
    """
    rng = np.random.default_rng([seed, 11])
    for number in range(n):
        gain = float(np.exp(rng.uniform(np.log(0.01), np.log(20))))
        bleaching = float(rng.choice([0.0, 0.05, 0.3]))
        electrons = float(np.exp(rng.uniform(np.log(1e3), np.log(1e7))))
        share = rng.uniform(0.5, 1)
        # Readings in whole units that vary by less say nothing: b is at least 10.
        variance = max(gain**2 * electrons * (1 - bleaching) * (1 - share) / share / 2, 10.0)
        electrons = share / (1 - share) * 2 * variance / gain**2 / (1 - bleaching)
        factor = 1.2 if number % 2 else 0.8
        then = gain / factor * (1 + gain_error * rng.normal())
        read = max(variance * (1 + variance_error * rng.normal()), 0.0)
        covariance = np.diag([gain_error * gain / factor, variance_error * variance, 0.0]) ** 2
        run = Made(
            side=int(rng.choice(SIDES[:3], p=(0.45, 0.45, 0.1))),
            gain=gain,
            variance=variance,
            electrons=electrons,
            background=float(rng.choice([0.0, 0.0, 0.05 * electrons])),
            repeats=int(rng.choice([2, 4, 8])),
            alpha=float(rng.uniform(0.35, 0.9)),
            bleaching=bleaching,
            seed=int(rng.integers(2**40)),
        )
        yield run, NoiseKnowledge(NoiseModel(then, read), covariance=covariance if covariance.any() else None), factor


def on_bench(seed: int, factor: float) -> SelfCheck:
    """A whole run on the simulated bench, 64 × 64 pixels, with a true gain of ``factor`` times the one it is given."""
    document = load_acquisition(example_dry_run()).model_dump(mode="json")
    document["sensing"].update(side=64, repeats=4, alpha=0.5, seed=seed)
    document["bench"].update(pace=0.0, seed=seed, gain=factor * document["noise"]["gain"], bleaching_per_s=0.1)
    document["reconstruction"].update(tv_weight=0.0, refresh_s=60.0)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run.zarr"
        document["output"].update(run=str(run), picture=None)
        acquire(AcquisitionConfig.model_validate(document))
        check = stored_self_check(StoredRun(run))
    assert check is not None
    return check
