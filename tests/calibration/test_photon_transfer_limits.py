"""Where photon transfer must not be believed, or only with its limits said: a wrong usable calibration is the worst."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from calibration.exposures import Exposures
from calibration.photon_transfer import PhotonTransfer, fit_photon_transfer, photon_transfer_recipe
from calibration.verdict import TooFewLevelsError
from tests.calibration.simulated_detector import SimulatedDetector

LEVELS = 16
SHORT = photon_transfer_recipe(LEVELS, 100, seed=1)
BRIEF = photon_transfer_recipe(LEVELS, 200, seed=1)
MIDDLE = photon_transfer_recipe(LEVELS, 500, seed=1)
LONG = photon_transfer_recipe(LEVELS, 1000, seed=1)


def fit(exposures: Exposures, seed: int = 1, floor: float | None = None) -> PhotonTransfer:
    return fit_photon_transfer(exposures, LEVELS, floor=floor, seed=seed, resamples=60)


def holds(low: float, truth: float, high: float) -> bool:
    return low <= truth <= high


# Darkness that cannot be read


@pytest.mark.parametrize(
    ("gain", "variance", "offset"), [(0.5, 400.0, -60.0), (2.0, 100.0, -30.0), (20.0, 10.0, -16.0)]
)
def test_darkness_that_is_cut_off_altogether_leaves_nothing_to_know_b_by(
    gain: float, variance: float, offset: float
) -> None:
    """A black level three to five standard deviations below 0: all dark frames read 0, as without any noise."""
    exposures = SimulatedDetector(gain, variance, offset=offset, floor=0.0).read(MIDDLE, LEVELS, seed=1)
    result = fit(exposures, floor=-offset)
    assert not result.usable
    assert any("raise the camera's offset" in reason for reason in result.reasons)
    assert result.dark_variance is None
    assert not holds(result.variance_interval.low, 0.0, 0.0) or result.variance_interval.high > variance


def test_without_readings_in_the_dark_darkness_under_light_tells_as_much() -> None:
    exposures = SimulatedDetector(0.5, 400.0, offset=-60.0, floor=0.0, n_dark=0).read(SHORT, LEVELS, seed=1)
    assert any("raise the camera's offset" in reason for reason in fit(exposures, floor=60.0).reasons)


def test_a_detector_without_noise_reads_its_offset_above_the_floor_and_is_usable() -> None:
    result = fit(SimulatedDetector(2.0, 0.0, floor=0.0).read(SHORT, LEVELS, seed=1), floor=-100.0)
    assert result.usable, result.reasons
    assert result.variance_interval.one_sided


@pytest.mark.parametrize("deviations", [0.0, 1.0, 2.5])
def test_a_known_floor_costs_darkness_above_it_nothing(deviations: float) -> None:
    detector = SimulatedDetector(2.0, 1e4, offset=100.0 * deviations, floor=0.0)
    result = fit(detector.read(MIDDLE, LEVELS, seed=4), floor=-detector.offset)
    assert result.usable, result.reasons
    assert holds(result.variance_interval.low, 1e4 + 1 / 12, result.variance_interval.high)
    assert result.outliers == 0


# Readings in coarse steps


@pytest.mark.parametrize(
    ("gain", "variance", "offset"), [(0.05, 0.0, 5.0), (0.02, 0.02, 5.5), (0.02, 0.05, 5.0), (0.01, 0.2, 5.0)]
)
def test_intervals_hold_the_truth_where_darkness_is_quieter_than_a_step(
    gain: float, variance: float, offset: float
) -> None:
    """20 trials: an interval of 95 % misses more than 5 times with a probability of 3·10⁻⁴."""
    detector = SimulatedDetector(gain, variance, total=200.0, offset=offset, ceiling=255.0)
    held = np.zeros(2)
    for seed in range(20):
        result = fit(detector.read(BRIEF, LEVELS, seed=seed), seed)
        for index, (interval, truth) in enumerate(
            ((result.gain_interval, gain), (result.variance_interval, variance + 1 / 12))
        ):
            held[index] += holds(interval.low, truth, interval.high)
        assert result.variance_interval.one_sided
        assert any("too coarse" in note for note in result.notes)
    assert np.all(held >= 15), held


def test_levels_whose_noise_is_lost_in_the_steps_are_left_out() -> None:
    detector = SimulatedDetector(0.01, 0.0, total=200.0, offset=5.0, ceiling=255.0)
    result = fit(detector.read(LONG, LEVELS, seed=1))
    coarse = [level for level in result.levels if level.excluded.startswith("too coarse")]
    # The variance 0.01·m + 1/12 is 0.5 at 42 of 200.
    assert {level.share for level in coarse} <= {k / 16 for k in range(1, 5)}
    assert len(coarse) >= 2
    assert holds(result.gain_interval.low, 0.01, result.gain_interval.high)


def test_too_coarse_throughout_is_no_calibration() -> None:
    detector = SimulatedDetector(0.002, 0.05, total=200.0, offset=5.0, ceiling=255.0)
    try:
        result = fit(detector.read(LONG, LEVELS, seed=1))
    except TooFewLevelsError as error:
        assert "gain" in str(error)  # noqa: PT017
    else:
        assert not result.usable


@pytest.mark.parametrize("offset", [100.0, 100.3, 100.5])
def test_a_quiet_detector_with_fine_photons_is_usable_wherever_its_offset_lies(offset: float) -> None:
    result = fit(SimulatedDetector(2.0, 0.0, offset=offset).read(SHORT, LEVELS, seed=2))
    assert result.usable, result.reasons
    assert result.variance_interval.one_sided
    assert holds(result.variance_interval.low, 1 / 12, result.variance_interval.high)
    assert holds(result.gain_interval.low, 2.0, result.gain_interval.high)
    assert any("too coarse" in note for note in result.notes)


# Below zero


def quieter(exposures: Exposures, detector: SimulatedDetector, share: float) -> Exposures:
    """Noise that is taken out of bright readings, as a filter does, their means left as they are."""
    mean = detector.light(LEVELS)[2 * exposures.pair + (exposures.sign < 0)]
    kept = 1 - share * mean / mean.max()
    return replace(exposures, value=np.round(mean + (exposures.value - mean) * kept))


def test_variance_that_grows_more_slowly_than_the_light_is_a_reason() -> None:
    detector = SimulatedDetector(2.0, 10.0, drift=0.0, source_noise=0.0)
    result = fit(quieter(detector.read(LONG, LEVELS, seed=1), detector, 0.1))
    assert not result.usable
    assert any("more slowly than the light" in reason for reason in result.reasons)
    assert result.source_noise_interval.low < result.source_noise_interval.high < 0
    assert result.source_noise == 0.0
    assert not any("no source noise" in note for note in result.notes)


def test_a_limit_on_source_noise_is_never_0() -> None:
    detector = SimulatedDetector(2.0, 10.0, source_noise=0.0)
    for seed in range(8):
        result = fit(detector.read(SHORT, LEVELS, seed=seed), seed)
        assert result.usable, result.reasons
        assert result.source_noise_interval.high > 1e-7


def test_a_variance_far_below_0_is_a_reason() -> None:
    """Darkness under light that reads 60 units above the stated offset, which no reading without light contradicts."""
    exposures = SimulatedDetector(2.0, 10.0, offset=160.0, n_dark=0).read(SHORT, LEVELS, seed=1)
    result = fit(replace(exposures, value=exposures.value + 60))
    assert result.variance_unclipped < -50
    assert result.variance == 0.0
    assert result.variance_interval.high < 0
    assert not result.usable
    assert any("stated offset is wrong" in reason for reason in result.reasons)
    assert sum("below 0," in note for note in result.notes) == 1


@pytest.mark.parametrize("n_dark", [0, 200])
def test_light_below_darkness_is_a_reason(n_dark: int) -> None:
    exposures = SimulatedDetector(2.0, 10.0, n_dark=n_dark).read(SHORT, LEVELS, seed=1)
    result = fit(replace(exposures, value=exposures.value - 60))
    assert result.background == pytest.approx(-60, abs=3)
    assert not result.usable
    assert any("dark pictures under light read" in reason for reason in result.reasons)


def test_what_is_0_but_for_rounding_is_not_said_to_be_negative() -> None:
    for seed in range(10):
        result = fit(SimulatedDetector(2.0, 0.0).read(SHORT, LEVELS, seed=seed), seed)
        about_b = [note for note in result.notes if note.startswith("b ")]
        assert len(about_b) == 1
        assert "came out" not in about_b[0]


# Linearity


def bends(m: NDArray[np.float64], compression: float) -> NDArray[np.float64]:
    return m * (1 - compression * m / 65_535)


@pytest.mark.parametrize(("compression", "variance"), [(0.03, 10.0), (0.02, 1e4), (-0.03, 10.0)])
def test_a_detector_that_bends_is_linear_up_to_where_it_leaves_proportionality_by_a_percent(
    compression: float, variance: float
) -> None:
    detector = SimulatedDetector(0.5, variance, compression=compression)
    result = fit(detector.read(LONG, LEVELS, seed=1))
    sent = detector.light(LEVELS)
    for level in result.levels:
        m = float(sent[2 * level.pair + (level.sign < 0)])
        if level.share > 0:
            assert level.deviation is not None
            assert level.deviation == pytest.approx(-compression * m / 65_535, rel=0.12, abs=2e-4)
            if abs(abs(compression) * m / 65_535 - 0.01) > 0.0015:
                assert level.used == (abs(compression) * m / 65_535 < 0.01)
    reads = result.linear_up_to
    m_top = float(sent[np.argmin(np.abs(bends(sent, compression) - reads))])
    assert abs(reads / m_top - 1) < 0.0112
    assert any("bends" in note for note in result.notes)


def test_a_detector_that_bends_all_over_is_refused() -> None:
    for gain in (0.5, 2.0, 20.0):
        exposures = SimulatedDetector(gain, 10.0, compression=0.3).read(LONG, LEVELS, seed=1)
        with pytest.raises(TooFewLevelsError, match="not linear"):
            fit(exposures)


def test_a_detector_that_bends_a_little_keeps_all_levels_and_its_gain() -> None:
    detector = SimulatedDetector(0.5, 10.0, compression=0.009)
    result = fit(detector.read(LONG, LEVELS, seed=1))
    assert all(level.used for level in result.levels)
    assert holds(result.gain_interval.low, 0.5, result.gain_interval.high)


def test_a_bend_that_few_photons_would_hide_is_said() -> None:
    result = fit(SimulatedDetector(20.0, 10.0, total=400.0).read(SHORT, LEVELS, seed=1))
    assert any("could not be seen" in note for note in result.notes)


# An offset that moves


def drifting(variance: float, shift: float, *, jump: bool = False) -> Exposures:
    exposures = SimulatedDetector(2.0, variance).read(LONG, LEVELS, seed=4)
    n = len(exposures.value)
    moved = shift * (np.arange(n) > n / 2) if jump else np.linspace(0, shift, n)
    return replace(exposures, value=np.round(exposures.value + moved), dark_after=exposures.dark_after + round(shift))


def test_an_offset_that_moves_evenly_is_followed_and_told() -> None:
    result = fit(drifting(100.0, 8.0))
    assert result.usable, result.reasons
    assert any("offset moved" in note for note in result.notes)
    assert holds(result.variance_interval.low, 100 + 1 / 12, result.variance_interval.high)
    assert result.offset == pytest.approx(4.0, abs=3)


@pytest.mark.parametrize(("variance", "shift"), [(10.0, 10.0), (100.0, 50.0), (1000.0, 150.0)])
@pytest.mark.parametrize("jump", [False, True])
def test_an_offset_that_moves_by_more_than_dark_readings_scatter_is_a_reason(
    variance: float, shift: float, jump: bool
) -> None:
    result = fit(drifting(variance, shift, jump=jump))
    assert not result.usable
    assert any("offset moved" in reason for reason in result.reasons)


def test_readings_that_are_followed_still_show_their_ceiling() -> None:
    exposures = SimulatedDetector(0.5, 100.0, total=65_435.0).read(SHORT, LEVELS, seed=1)
    moved = np.round(exposures.value + np.linspace(0, 8, len(exposures.value)))
    capped = replace(exposures, value=np.minimum(moved, 58_000.0), dark_after=exposures.dark_after + 8)
    full = fit(capped).levels[-1]
    assert full.excluded.startswith("saturated")
    assert "58000" in full.excluded


def test_variances_that_scatter_more_than_they_should_widen_the_intervals() -> None:
    """Noise that differs from picture to picture by ±15 %: no curve, but no reason to give up either."""
    detector = SimulatedDetector(2.0, 10.0, drift=0.0)
    exposures = detector.read(LONG, LEVELS, seed=1)
    picture = 2 * exposures.pair + (exposures.sign < 0)
    mean = detector.light(LEVELS)[picture]
    scale = 1 + 0.075 * np.random.default_rng(2).choice([-1, 1], LEVELS + 2)
    odd = fit(replace(exposures, value=np.round(mean + (exposures.value - mean) * scale[picture])))
    even = fit(exposures)
    ratio = (odd.chi_squared / odd.chi_freedom) ** 0.5
    assert 1.5 < ratio < 5**0.5
    assert odd.covariance[0, 0] ** 0.5 > 1.4 * even.covariance[0, 0] ** 0.5
    widths = [each.gain_interval.high - each.gain_interval.low for each in (even, odd)]
    assert widths[1] > 1.4 * widths[0]
    assert any(f"{ratio:.2f} times wider" in note for note in odd.notes)


# Readings that stray


@pytest.mark.parametrize(("share", "excess"), [(0.01, 500.0), (0.015, 400.0), (0.01, 2000.0)])
@pytest.mark.parametrize("seed", range(3))
def test_glitches_too_small_to_be_told_one_by_one_are_a_reason(share: float, excess: float, seed: int) -> None:
    exposures = SimulatedDetector(0.5, 10.0).read(LONG, LEVELS, seed=3)
    rng = np.random.default_rng(seed)
    hit = rng.random(len(exposures.value)) < share
    value = exposures.value + np.round(hit * rng.exponential(excess, len(hit)))
    result = fit(replace(exposures, value=value))
    assert not result.usable
    assert any("stray" in reason or "outliers" in reason for reason in result.reasons)


@pytest.mark.parametrize(
    ("gain", "variance", "total"), [(0.5, 10.0, 52_428.0), (20.0, 10.0, 52_428.0), (20.0, 10.0, 400.0)]
)
def test_clean_readings_do_not_stray(gain: float, variance: float, total: float) -> None:
    for seed in range(6):
        result = fit(SimulatedDetector(gain, variance, total=total).read(SHORT, LEVELS, seed=seed), seed)
        assert not any("stray" in each for each in (*result.reasons, *result.notes))


def test_light_that_fades_by_two_thirds_does_not_make_readings_stray() -> None:
    base = SimulatedDetector(0.5, 10.0).read(LONG, LEVELS, seed=3)
    rng = np.random.default_rng(1)
    n = len(base.value)
    light = SimulatedDetector(0.5, 10.0).light(LEVELS)[2 * base.pair + (base.sign < 0)] * np.exp(
        -1.2 * np.arange(n) / n
    )
    value = np.round(0.5 * rng.poisson(light / 0.5) + rng.normal(0, 10**0.5, n))
    result = fit(replace(base, value=value))
    assert result.usable, result.reasons
