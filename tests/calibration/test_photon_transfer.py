from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from acquisition import noise_calibration as played
from calibration.cramer_rao import cramer_rao_bound
from calibration.drift import drift_degree, drift_design
from calibration.exposures import Exposures
from calibration.level_pictures import LevelCountError
from calibration.photon_transfer import PhotonTransfer, fit_photon_transfer, photon_transfer_recipe
from calibration.photon_transfer_plot import draw_photon_transfer
from calibration.verdict import (
    ConstantReadingsError,
    NoSignalError,
    NotCalibratableError,
    SaturatedThroughoutError,
    TooFewLevelsError,
)
from tests.calibration.simulated_detector import SimulatedDetector, displayed

LEVELS = 16
SHORT = photon_transfer_recipe(LEVELS, 100, seed=1)
LONG = photon_transfer_recipe(LEVELS, 1000, seed=1)
CORNERS = [(gain, variance) for gain in (0.01, 0.5, 2.0, 20.0) for variance in (10.0, 1e4)]


def fit(detector: SimulatedDetector, seed: int = 1, resamples: int = 100) -> PhotonTransfer:
    return fit_photon_transfer(detector.read(SHORT, LEVELS, seed), LEVELS, seed=seed, resamples=resamples)


def light_off(exposures: Exposures, value: float) -> Exposures:
    dark = np.full_like(exposures.dark_before, value)
    return replace(exposures, value=np.full_like(exposures.value, value), dark_before=dark, dark_after=dark)


# The recipe


def test_what_is_played_by_default_gives_every_level_its_exposures_in_under_a_minute_at_1_khz() -> None:
    recipe = photon_transfer_recipe(played.LEVELS, played.EXPOSURES_PER_LEVEL)
    pair, sign = displayed(recipe)
    shown = np.bincount(2 * pair + (sign < 0), minlength=played.LEVELS + 2)
    assert shown.min() >= played.EXPOSURES_PER_LEVEL
    assert len(pair) < 60_000
    assert len(recipe.pairs) <= 400


def test_how_many_exposures_is_said_in_one_place_only() -> None:
    parameters = inspect.signature(photon_transfer_recipe).parameters
    assert parameters["levels"].default is parameters["exposures_per_level"].default is inspect.Parameter.empty


def test_every_section_holds_every_pair_twice_in_an_order_of_its_own() -> None:
    sections = LONG.pairs.reshape(-1, LONG.section_pairs)
    assert np.array_equal(np.sort(sections, axis=1), np.tile(np.repeat(np.arange(1, 9), 2), (len(sections), 1)))
    assert len(np.unique(sections, axis=0)) == len(sections)
    assert 0.3 < LONG.plus_first.mean() < 0.7


def test_recipes_that_cannot_be_shown_or_fitted_are_refused() -> None:
    with pytest.raises(LevelCountError):
        photon_transfer_recipe(15, 100)
    with pytest.raises(TooFewLevelsError, match="4 levels"):
        photon_transfer_recipe(4, 100)
    with pytest.raises(ValueError, match="49 exposures"):
        photon_transfer_recipe(LEVELS, 49)


# Accuracy


@pytest.mark.parametrize(("gain", "variance"), CORNERS)
def test_errors_stay_near_the_cramer_rao_bound_and_intervals_hold_the_truth(gain: float, variance: float) -> None:
    """20 trials: an efficient estimate is beyond 1.55 × the bound with a probability below 10⁻³ (χ²₂₀ > 48), and an
    interval of 95 % misses the truth more than 5 times with one of 3·10⁻⁴. benchmarks/calibration.py has 200.
    """
    trials, truth = 20, np.array([gain, variance + 1 / 12, 1e-6])
    detector = SimulatedDetector(gain, variance, floor=0.0)
    estimates, held = np.empty((2, trials, 3))
    for trial in range(trials):
        exposures = detector.read(SHORT, LEVELS, seed=trial)
        result = fit_photon_transfer(exposures, LEVELS, seed=trial, resamples=200)
        estimates[trial] = result.parameters
        intervals = (result.gain_interval, result.variance_interval, result.source_noise_interval)
        held[trial] = [each.low <= value <= each.high for each, value in zip(intervals, truth, strict=True)]
    bound = cramer_rao_bound(
        detector.light(LEVELS),
        2 * exposures.pair + (exposures.sign < 0),
        drift_design(exposures.time_us * 1e-6, drift_degree(float(exposures.lit_s[-1]))),
        gain=gain,
        variance=float(truth[1]),
        source_noise=1e-6,
        n_dark=detector.n_dark,
    )
    ratio = np.sqrt(np.mean((estimates - truth) ** 2, axis=0) / np.diag(bound))
    assert np.all(ratio < 1.55), ratio
    assert np.all(held.sum(axis=0) >= trials - 5), held.mean(axis=0)


def test_drift_goes_into_the_curve_and_not_into_source_noise() -> None:
    detector = SimulatedDetector(0.5, 10.0, drift=0.05, source_noise=0.0)
    result = fit(detector)
    phase = 2 * np.pi * result.drift_time_s / result.drift_time_s[-1] + 0.3
    expected = 1 + 0.05 * np.sin(phase)
    assert result.drift == pytest.approx(expected / expected.mean(), abs=2e-3)
    assert result.source_noise_interval.low == 0.0
    assert result.source_noise < 5e-7


def test_light_that_varies_faster_than_the_curve_is_told() -> None:
    slow, fast = (fit(SimulatedDetector(0.5, 10.0, drift_periods=periods)) for periods in (1.0, 12.0))
    assert not any("varies faster" in note for note in slow.notes)
    assert any("varies faster" in note for note in fast.notes)


def test_light_that_does_not_depend_on_the_mirrors_is_no_read_noise() -> None:
    result = fit(SimulatedDetector(2.0, 10.0, background=500.0, total=40_000.0))
    assert result.background == pytest.approx(500.0, abs=15)
    assert result.variance_interval.low <= 10 + 1 / 12 <= result.variance_interval.high
    assert result.variance_interval.high < 20


def test_the_offset_is_measured_with_the_light_off() -> None:
    exposures = SimulatedDetector(0.5, 10.0).read(SHORT, LEVELS, seed=1)
    stated = fit_photon_transfer(exposures, LEVELS, resamples=50)
    wrong = replace(
        exposures,
        value=exposures.value + 40,
        dark_before=exposures.dark_before + 40,
        dark_after=exposures.dark_after + 40,
    )
    moved = fit_photon_transfer(wrong, LEVELS, resamples=50)
    assert stated.offset_interval.low <= 0 <= stated.offset_interval.high
    assert moved.offset == pytest.approx(stated.offset + 40)
    assert moved.parameters == pytest.approx(stated.parameters, rel=1e-6)


def test_without_readings_in_the_dark_the_stated_offset_is_taken_and_said_so() -> None:
    result = fit(SimulatedDetector(0.5, 10.0, n_dark=0))
    assert result.offset == 0.0
    assert result.gain_interval.low <= 0.5 <= result.gain_interval.high
    assert result.dark_variance is None
    assert any("stated offset" in note for note in result.notes)


def test_dark_noise_that_is_cut_off_at_zero_is_seen_through() -> None:
    """100 units of noise above an offset of 100: one dark reading of six would be negative."""
    detector = SimulatedDetector(2.0, 1e4, floor=0.0)
    exposures = detector.read(LONG, LEVELS, seed=3)
    assert np.mean(exposures.dark == -100.0) > 0.1
    result = fit_photon_transfer(exposures, LEVELS, resamples=100)
    assert abs(result.variance - 1e4) < 4 * result.covariance[1, 1] ** 0.5 < 2000
    assert any("raise the detector's offset" in note for note in result.notes)


@pytest.mark.parametrize("seed", range(6))
def test_a_detector_without_read_noise_has_a_one_sided_interval(seed: int) -> None:
    result = fit(SimulatedDetector(2.0, 0.0), seed)
    assert result.dark_variance is not None
    error = max(result.dark_variance, 1 / 12) * (2 / result.dark_freedom) ** 0.5
    assert abs(result.variance_unclipped - result.dark_variance) <= 3 * error
    assert result.variance_interval.one_sided
    assert result.variance_interval.low == 0.0
    assert 0.0 < result.variance_interval.high < 1.0
    assert result.usable


def test_the_same_seed_gives_the_same_result() -> None:
    first, again = (fit(SimulatedDetector(0.5, 10.0)) for _ in range(2))
    assert first.gain_interval == again.gain_interval
    assert np.array_equal(first.covariance, again.covariance)


# Outliers


def test_cosmic_rays_are_left_out_and_counted() -> None:
    exposures = SimulatedDetector(0.5, 10.0).read(LONG, LEVELS, seed=1)
    clean = fit_photon_transfer(exposures, LEVELS, resamples=50)
    value, dark = exposures.value.copy(), exposures.dark_before.copy()
    struck = np.random.default_rng(5).choice(len(value), 20, replace=False)
    value[struck] += np.random.default_rng(6).uniform(3000, 9000, 20).round()
    dark[7] += 800
    hit = fit_photon_transfer(replace(exposures, value=value, dark_before=dark), LEVELS, resamples=50)
    assert clean.outliers == 0
    assert hit.outliers == 21
    assert np.all(np.abs(hit.parameters - clean.parameters) < np.sqrt(np.diag(clean.covariance)))
    assert hit.usable


def test_a_cosmic_ray_at_full_scale_does_not_make_its_level_saturated() -> None:
    exposures = SimulatedDetector(0.5, 10.0).read(SHORT, LEVELS, seed=1)
    value = exposures.value.copy()
    value[np.flatnonzero(exposures.pair == 2)[:5]] = 65_435.0
    result = fit_photon_transfer(replace(exposures, value=value), LEVELS, full_scale=65_435.0, resamples=20)
    assert result.outliers == 5
    assert all(level.used for level in result.levels)


@pytest.mark.parametrize(("gain", "variance"), CORNERS)
def test_a_clean_run_of_the_default_length_loses_nothing(gain: float, variance: float) -> None:
    exposures = SimulatedDetector(gain, variance).read(LONG, LEVELS, seed=11)
    result = fit_photon_transfer(exposures, LEVELS, full_scale=65_435.0, resamples=10)
    assert result.outliers == 0
    assert all(level.used for level in result.levels)
    assert result.linear_up_to == pytest.approx(52_428, rel=0.005)


def test_few_electrons_are_no_outliers() -> None:
    """Poisson counts of a handful have a tail that normal noise does not have."""
    result = fit(SimulatedDetector(20.0, 1.0, total=1600.0))
    assert result.outliers == 0
    assert result.gain_interval.low <= 20.0 <= result.gain_interval.high


# Saturation and linearity


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("gain", "variance"), CORNERS)
def test_clipping_at_90_percent_of_the_range_is_found_and_left_out(gain: float, variance: float, seed: int) -> None:
    result = fit(SimulatedDetector(gain, variance, total=65_435.0, ceiling=58_981.0), seed)
    by_share = {(level.share, level.sign): level for level in result.levels}
    for share, sign in ((1.0, 1), (15 / 16, -1)):
        assert "saturated" in by_share[share, sign].excluded
    assert all(level.used for level in result.levels if level.share <= 13 / 16)
    assert result.linear_up_to < 58_900
    error = result.covariance[0, 0] ** 0.5
    assert abs(result.gain - gain) < 4 * error


@pytest.mark.parametrize("gain", [0.5, 20.0])
def test_saturation_under_read_noise_is_found_without_a_hard_ceiling(gain: float) -> None:
    exposures = SimulatedDetector(gain, 0.0, total=65_435.0, ceiling=58_981.0).read(SHORT, LEVELS, seed=2)
    rng = np.random.default_rng(1)
    late, dark_before, dark_after = (
        each + rng.normal(0, 5, len(each)).round()
        for each in (exposures.value, exposures.dark_before, exposures.dark_after)
    )
    noisy = replace(exposures, value=late, dark_before=dark_before, dark_after=dark_after)
    result = fit_photon_transfer(noisy, LEVELS, resamples=50)
    full = result.levels[-1]
    assert full.share == 1.0
    assert full.excluded.startswith(("saturated", "not linear"))
    assert abs(result.gain - gain) < 4 * result.covariance[0, 0] ** 0.5


def test_linearity_that_cannot_be_tested_is_told() -> None:
    """Saturated from 40 % of the light on: the half pictures themselves cannot be trusted."""
    result = fit(SimulatedDetector(0.5, 10.0, total=150_000.0, ceiling=60_000.0))
    assert any("linearity could not be tested" in note for note in result.notes)
    assert {level.share for level in result.levels if level.used} == {k / 16 for k in range(7)}
    assert result.gain_interval.low <= 0.5 <= result.gain_interval.high


# Verdicts


def test_a_gain_that_drowns_in_read_noise_is_not_usable() -> None:
    result = fit(SimulatedDetector(0.01, 1e4))
    assert not result.usable
    assert "gain" in result.reasons[0]


def test_too_few_levels_below_saturation_are_not_usable() -> None:
    result = fit(SimulatedDetector(0.5, 10.0, total=300_000.0, ceiling=60_000.0))
    assert not result.usable
    assert any("only 3 levels" in reason for reason in result.reasons)


def test_one_level_below_saturation_is_refused() -> None:
    with pytest.raises(TooFewLevelsError, match=r"found 1 usable level of.*Reduce the light"):
        fit(SimulatedDetector(0.5, 10.0, total=700_000.0, ceiling=60_000.0))


def test_a_closed_shutter_is_refused() -> None:
    with pytest.raises(NoSignalError, match="Open the shutter"):
        fit(SimulatedDetector(0.5, 10.0, total=0.0))


@pytest.mark.parametrize("full_scale", [None, 65_435.0])
def test_a_detector_that_is_saturated_throughout_is_refused(full_scale: float | None) -> None:
    exposures = SimulatedDetector(0.5, 10.0, total=5e6).read(SHORT, LEVELS, seed=1)
    with pytest.raises(SaturatedThroughoutError, match="Reduce the light"):
        fit_photon_transfer(exposures, LEVELS, full_scale=full_scale)


def test_saturation_in_darkness_as_well_is_told_from_a_constant() -> None:
    exposures = light_off(SimulatedDetector(0.5, 10.0).read(SHORT, LEVELS, seed=1), 65_435.0)
    with pytest.raises(SaturatedThroughoutError):
        fit_photon_transfer(exposures, LEVELS, full_scale=65_435.0)
    with pytest.raises(SaturatedThroughoutError):
        fit_photon_transfer(replace(exposures, saturated=len(exposures.value)), LEVELS)
    with pytest.raises(ConstantReadingsError):
        fit_photon_transfer(exposures, LEVELS)


def test_constant_readings_are_refused() -> None:
    exposures = light_off(SimulatedDetector(0.5, 10.0).read(SHORT, LEVELS, seed=1), 7.0)
    with pytest.raises(ConstantReadingsError, match="all 7"):
        fit_photon_transfer(exposures, LEVELS)


def test_levels_without_any_noise_are_refused() -> None:
    exposures = SimulatedDetector(0.5, 10.0).read(SHORT, LEVELS, seed=1)
    exact = SimulatedDetector(0.5, 10.0).light(LEVELS)[2 * exposures.pair + (exposures.sign < 0)]
    with pytest.raises(ConstantReadingsError, match="no variance"):
        fit_photon_transfer(replace(exposures, value=exact), LEVELS)


def test_readings_that_are_no_numbers_are_refused() -> None:
    exposures = SimulatedDetector(0.5, 10.0).read(SHORT, LEVELS, seed=1)
    value = exposures.value.copy()
    value[3] = np.nan
    with pytest.raises(NotCalibratableError, match="not finite"):
        fit_photon_transfer(replace(exposures, value=value), LEVELS)


def test_exposures_of_another_recipe_are_refused() -> None:
    exposures = SimulatedDetector(0.5, 10.0).read(SHORT, LEVELS, seed=1)
    with pytest.raises(ValueError, match="pairs up to 8; 8 levels"):
        fit_photon_transfer(exposures, 8)
    with pytest.raises(TooFewLevelsError):
        fit_photon_transfer(exposures, 4)
    only_guards = exposures.pair == 0
    with pytest.raises(NotCalibratableError, match="0 dimmest"):
        fit_photon_transfer(
            Exposures(
                exposures.pair[only_guards],
                exposures.sign[only_guards],
                exposures.value[only_guards],
                exposures.time_us[only_guards],
                exposures.lit_s[only_guards],
                exposures.dark_before,
                exposures.dark_after,
            ),
            LEVELS,
        )


# The plot


@pytest.mark.parametrize(
    "detector",
    [
        SimulatedDetector(0.5, 10.0),
        SimulatedDetector(2.0, 0.0, n_dark=0),
        SimulatedDetector(0.5, 10.0, total=300_000.0, ceiling=60_000.0),
        SimulatedDetector(0.01, 1e4),
    ],
    ids=["clean", "no read noise", "mostly saturated", "drowned"],
)
def test_every_result_can_be_drawn(tmp_path: Path, detector: SimulatedDetector) -> None:
    draw_photon_transfer(tmp_path / "plot.png", fit(detector), "Photon transfer")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
