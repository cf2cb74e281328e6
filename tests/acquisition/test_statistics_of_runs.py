"""Whole acquisitions on the bench have the errors that theory gives them (the oracle is the formula and the sample)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import hadamard

from acquisition.config import AcquisitionConfig
from acquisition.reconstruction import estimate_coefficients
from acquisition.schedule import BankSizes, ScheduleLimits, make_schedule
from acquisition.sensing_plan import plan_sensing
from models.priors import prior_from_image
from models.wiener import forecast_mse, wiener_image
from tests.acquisition.rehearsal import rehearse, small_config

SIDE, N_SEEDS = 64, 20
GAIN, VARIANCE = 2.0, 900.0


def smooth_sample(n: int, photoelectrons_per_px: float = 60.0) -> NDArray[np.float64]:
    """A few soft spots on a dim ground, float64 [n, n] in detector units."""
    y, x = np.mgrid[0:n, 0:n] / n
    image = 0.05 + np.exp(-(((x - 0.3) / 0.12) ** 2) - ((y - 0.6) / 0.2) ** 2)
    image += 0.6 * np.exp(-((x - 0.75) ** 2 + (y - 0.2) ** 2) / 0.01)
    return np.asarray(image * photoelectrons_per_px * GAIN / image.mean())


def dense_coefficients(sample: NDArray[np.float64]) -> NDArray[np.float64]:
    matrix = hadamard(len(sample)).astype(np.float64)
    return np.asarray((matrix @ sample @ matrix).ravel())


def noisy_config(seed: int, **changes: dict[str, Any]) -> AcquisitionConfig:
    sections: dict[str, dict[str, Any]] = {
        "sensing": {"side": SIDE, "alpha": 0.5, "repeats": 4, "seed": seed, "draw": "bernoulli"},
        "dmd_region": {"mirrors_per_px": 2, "top": 64, "left": 128},
        "noise": {"gain": GAIN, "variance": VARIANCE},
        "bench": {"shot_noise": True, "seed": 1000 + seed},
    }
    for name, values in changes.items():
        sections.setdefault(name, {}).update(values)
    return small_config(**sections)


@dataclass(frozen=True)
class Trial:
    """Errors of one acquisition: z - Hx of every coefficient, M, squared error per pixel and its forecast."""

    error: NDArray[np.float64]
    count: NDArray[np.int32]
    squared_error: float
    forecast: float


@pytest.fixture(scope="module")
def trials() -> list[Trial]:
    sample = smooth_sample(SIDE)
    truth = dense_coefficients(sample)
    oracle = prior_from_image(sample)
    found = []
    for seed in range(N_SEEDS):
        config = noisy_config(seed)
        evidence, _ = rehearse(config, sample)
        estimate = estimate_coefficients(evidence, config)
        image = wiener_image(estimate.coefficients, estimate.variance, oracle)
        found.append(
            Trial(
                error=estimate.coefficients - truth,
                count=evidence.statistics.count,
                squared_error=float(((image - sample) ** 2).mean()),
                forecast=forecast_mse(oracle.variance, estimate.variance),
            )
        )
    return found


def test_the_linear_reconstruction_errs_by_its_forecast(trials: list[Trial]) -> None:
    measured = np.mean([trial.squared_error for trial in trials])
    forecast = np.mean([trial.forecast for trial in trials])
    assert measured == pytest.approx(forecast, rel=0.10)


@pytest.mark.parametrize("repeats", [1, 2, 3, 4])
def test_the_difference_has_variance_at_plus_2b_over_m(trials: list[Trial], repeats: int) -> None:
    total = smooth_sample(SIDE).sum()
    squares = np.concatenate([trial.error[trial.count == repeats] ** 2 for trial in trials])
    # The camera rounds to whole units, which adds 1/12 to the variance of each exposure.
    expected = (GAIN * total + 2 * VARIANCE + 2 / 12) / repeats
    assert squares.mean() == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("quarter", range(4))
def test_the_variance_is_the_same_at_every_sequency(trials: list[Trial], quarter: int) -> None:
    total = smooth_sample(SIDE).sum()
    rows = np.arange(1, SIDE**2).reshape(-1)
    group = rows[(np.arange(len(rows)) * 4) // len(rows) == quarter]
    scaled = [(trial.error**2 * trial.count)[group][trial.count[group] > 0] for trial in trials]
    assert np.concatenate(scaled).mean() == pytest.approx(GAIN * total + 2 * VARIANCE, rel=0.05)


def test_the_difference_is_unbiased(trials: list[Trial]) -> None:
    total = smooth_sample(SIDE).sum()
    truth = dense_coefficients(smooth_sample(SIDE))
    scores, signs = [], []
    for trial in trials:
        taken = trial.count > 0
        scores.append(trial.error[taken] * np.sqrt(trial.count[taken] / (GAIN * total + 2 * VARIANCE)))
        signs.append(np.sign(truth[taken]))
    score, sign = np.concatenate(scores), np.concatenate(signs)
    bound = 4 / np.sqrt(len(score))
    assert abs(score.mean()) < bound
    assert abs((score * sign).mean()) < bound  # neither too small nor too large in magnitude


def test_the_total_is_the_mean_of_the_pair_sums(trials: list[Trial]) -> None:
    total = smooth_sample(SIDE).sum()
    errors = np.array([trial.error[0] for trial in trials])
    pairs = np.array([trial.count.sum() for trial in trials])
    expected = np.sqrt((GAIN * total + 2 * VARIANCE) / pairs)
    assert (np.abs(errors / expected) < 4.5).all()


@dataclass(frozen=True)
class BleachedTrials:
    corrected: float
    uncorrected: float
    explained: float
    unbleached: float


@pytest.fixture(scope="module")
def bleached() -> BleachedTrials:
    """Mean squared coefficient errors of runs in which the sample loses 30 % of its light."""
    sample = smooth_sample(SIDE)
    total = float(sample.sum())
    truth = dense_coefficients(sample)
    sums = np.zeros(4)
    n_taken = 0
    for seed in range(2):
        plain = noisy_config(seed, sensing={"repeats": 8})
        planned = plan_sensing(plain, sample)
        # The large coefficients last, where bleaching tells most: a run measures them first.
        limits = ScheduleLimits(BankSizes(4096, 1.0, 4096), guard_interval=16, block_exposures=200)
        schedule = make_schedule(planned.schedule.repeats, -planned.prior.variance, limits, seed)
        lit_s = schedule.n_exposures * plain.timing.illumination_time_us * 1e-6
        rate = -np.log(0.7) / lit_s
        config = noisy_config(
            seed,
            sensing={"repeats": 8},
            bench={"bleaching_per_s": rate},
            reconstruction={"estimator": "pair-ratio"},
        )
        evidence, _ = rehearse(config, sample, schedule=schedule)
        corrected = estimate_coefficients(evidence, config).coefficients
        without = config.replace(reconstruction=config.reconstruction.model_copy(update={"estimator": "difference"}))
        uncorrected = estimate_coefficients(evidence, without).coefficients
        # The independent account of the light: every exposure of the schedule, guards included, bleaches the sample.
        explained = np.zeros(SIDE**2)
        before = 0
        for block in schedule.blocks:
            at_s = (before + block.pair_exposures + 1) * plain.timing.illumination_time_us * 1e-6
            light = total * np.exp(-rate * at_s)
            np.add.at(explained, block.coefficients, total**2 * (GAIN * light + 2 * VARIANCE) / light**2)
            before += block.n_exposures
        taken = np.flatnonzero(schedule.repeats)
        count = schedule.repeats[taken].astype(np.float64)
        sums += (
            ((corrected - truth)[taken] ** 2 * count).sum(),
            ((uncorrected - truth)[taken] ** 2 * count).sum(),
            (explained[taken] / count).sum(),
            len(taken) * (GAIN * total + 2 * VARIANCE),
        )
        n_taken += len(taken)
    return BleachedTrials(*(sums / n_taken))


def test_a_corrected_image_loses_no_more_than_the_lost_photons_explain(bleached: BleachedTrials) -> None:
    # About 8000 squared errors: the mean of them scatters by 1.6 %.
    assert bleached.corrected < 1.06 * bleached.explained


def test_bleaching_costs_something_and_left_uncorrected_much_more(bleached: BleachedTrials) -> None:
    assert bleached.explained > 1.1 * bleached.unbleached
    assert bleached.uncorrected > 2 * bleached.explained
