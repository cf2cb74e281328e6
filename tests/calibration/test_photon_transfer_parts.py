"""The parts that photon transfer is made of, each against an oracle of its own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import chi2

from calibration.bootstrap import Studentized, above_zero, resampled_moments, two_sided
from calibration.cut_off import cut_moments
from calibration.dark_level import dark_level
from calibration.drift import drift_degree, drift_design, faster_than_smooth, fit_drifting_light
from calibration.linearity import KNEE_TOLERANCE, find_bend, superposition
from calibration.outliers import is_outlier, robust_deviation
from calibration.saturation import ceiling, collapsed, value_step
from calibration.tails import find_tails
from calibration.variance_curve import Points, curve_at, fit_variance_curve


def points_on(parameters: tuple[float, float, float], freedom: float, rng: np.random.Generator | None) -> Points:
    """Eleven levels of light and darkness without light last, on a curve or scattered around it by χ²."""
    light = np.append(np.linspace(0, 10_000, 11), 0.0)
    variance = curve_at(np.array(parameters), light)
    if rng is not None:
        variance = variance * rng.chisquare(freedom, len(light)) / freedom
    lit = np.append(np.ones(11, dtype=np.bool_), False)
    return Points(light, variance, np.full(12, freedom), np.full(12, freedom + 1), lit, 0.0, 1 / (freedom + 1))


# Drift


def test_light_and_drift_are_found_together() -> None:
    rng = np.random.default_rng(1)
    picture = rng.permuted(np.repeat(np.arange(5), 200))
    time_s = np.sort(rng.uniform(0, 10, 1000))
    light = np.array([0.0, 100.0, 300.0, 700.0, 1000.0])
    curve = 1 + 0.2 * np.cos(time_s / 3)
    design = drift_design(time_s, 8)
    found = fit_drifting_light(
        light[picture] * curve, picture, design, np.ones(5), np.ones(1000, bool), np.ones(5, bool)
    )
    assert found.curve.mean() == pytest.approx(1, abs=1e-12)
    assert found.light == pytest.approx(light * curve.mean(), rel=1e-4)
    assert found.curve == pytest.approx(curve / curve.mean(), abs=1e-4)
    assert np.abs(found.residual).max() < 0.1


def test_degrees_of_freedom_are_what_the_fit_leaves_to_each_picture() -> None:
    """Against the hat matrix of the linearized model, dense."""
    rng = np.random.default_rng(2)
    picture = rng.permuted(np.repeat(np.arange(4), 30))
    time_s = np.sort(rng.uniform(0, 1, 120))
    weight = np.array([4.0, 1.0, 0.5, 0.25])
    light = np.array([10.0, 200.0, 400.0, 600.0])
    design = drift_design(time_s, 3)
    value = light[picture] * (1 + 0.05 * time_s) + rng.normal(size=120) / np.sqrt(weight[picture])
    found = fit_drifting_light(value, picture, design, weight, np.ones(120, bool), np.ones(4, bool))
    jacobian = (
        np.concatenate([np.eye(4)[picture] * found.curve[:, None], found.light[picture][:, None] * design], axis=1)
        * np.sqrt(weight[picture])[:, None]
    )
    leverage = np.diag(jacobian @ np.linalg.pinv(jacobian))
    assert found.freedom == pytest.approx(30 - np.bincount(picture, leverage), abs=1e-6)


def test_pictures_that_are_not_steady_teach_nothing_about_drift() -> None:
    time_s = np.linspace(0, 1, 400)
    picture = np.tile([0, 1], 200)
    value = np.where(picture == 0, 100 * (1 + 0.1 * (time_s - 0.5)), 150.0)
    found = fit_drifting_light(
        value, picture, drift_design(time_s, 1), np.ones(2), np.ones(400, bool), np.array([True, False])
    )
    assert found.curve == pytest.approx(1 + 0.1 * (time_s - 0.5), abs=1e-4)


def test_longer_runs_get_a_more_supple_curve_up_to_a_limit() -> None:
    assert [drift_degree(light_s) for light_s in (0.0, 0.2, 1.0, 20.0, 60.0)] == [1, 1, 4, 8, 8]


def test_residuals_of_neighbours_that_are_alike_are_surprising_and_white_ones_are_not() -> None:
    rng = np.random.default_rng(3)
    time_s, white = np.arange(4000) / 1000, rng.normal(size=4000)
    constant = np.ones(4000)
    ripple = white + 0.3 * np.sin(2 * np.pi * 5 * time_s)
    assert faster_than_smooth(time_s, white, 100 * constant, constant, 8) > 1e-3
    assert faster_than_smooth(time_s, ripple, 100 * constant, constant, 8) < 1e-6


# The curve


@given(st.floats(0.01, 50), st.floats(0, 1e4), st.floats(0, 1e-3), st.sampled_from([20.0, 1000.0]))
@settings(max_examples=40, deadline=None)
def test_points_on_a_curve_give_its_parameters(gain: float, variance: float, source: float, freedom: float) -> None:
    points = points_on((gain, variance, source), freedom, None)
    fitted = fit_variance_curve(points)
    assert fitted.at(points.light) == pytest.approx(points.variance, rel=1e-5, abs=1e-6 * points.variance.max())
    assert fitted.chi_squared == pytest.approx(0, abs=1e-3)


def test_scatter_of_fits_and_chi_squared_are_what_the_weights_promise() -> None:
    rng = np.random.default_rng(4)
    truth = (2.0, 500.0, 1e-4)
    fits = [fit_variance_curve(points_on(truth, 400.0, rng)) for _ in range(400)]
    parameters = np.array([each.parameters for each in fits])
    # The light is exact here, so errors of it that the weights allow for are left out of the comparison.
    promised = np.sqrt(np.diag(fits[0].covariance))
    assert parameters.std(axis=0) == pytest.approx(promised, rel=0.12)
    assert np.all(np.abs(parameters.mean(axis=0) - truth) < 4 * promised / 20)
    assert np.mean([each.chi_squared for each in fits]) == pytest.approx(12 - 3, rel=0.1)


def test_many_sets_at_once_give_what_each_gives_alone() -> None:
    rng = np.random.default_rng(5)
    sets = [points_on((2.0, 50.0, 1e-5), 100.0, rng) for _ in range(7)]
    stacked = Points(
        sets[0].light,
        np.stack([each.variance for each in sets]),
        sets[0].freedom,
        sets[0].exposures,
        sets[0].lit,
        sets[0].least_variance,
        sets[0].offset_error,
    )
    alone = np.array([fit_variance_curve(each).parameters for each in sets])
    assert fit_variance_curve(stacked).parameters == pytest.approx(alone, rel=1e-3)


# Cut-off readings


@pytest.mark.parametrize("mean", [-50.0, 0.0, 100.0, 300.0])
def test_mean_and_variance_are_seen_through_a_cut(mean: float) -> None:
    rng = np.random.default_rng(6)
    found = cut_moments(np.maximum(rng.normal(mean, 100.0, (500, 400)), 0.0), 0.0)
    assert abs(found.mean.mean() - mean) < 5 * found.mean.std() / 500**0.5 + 0.5
    assert found.variance.mean() == pytest.approx(1e4, rel=0.03)
    assert np.mean(found.mean_variance) ** 0.5 == pytest.approx(found.mean.std(), rel=0.12)
    promised = np.mean(2 * found.variance**2 / found.freedom) ** 0.5
    assert promised == pytest.approx(found.variance.std(), rel=0.12)


def test_without_a_cut_it_is_the_sample_mean_and_variance() -> None:
    value = np.random.default_rng(7).normal(50.0, 3.0, 100)
    found = cut_moments(value, 0.0)
    assert found.mean == pytest.approx(value.mean())
    assert found.variance == pytest.approx(value.var(ddof=1))
    assert found.freedom == pytest.approx(100, rel=0.01)


# Saturation, linearity, outliers


def test_the_step_of_readings_is_found_under_a_fractional_offset() -> None:
    rng = np.random.default_rng(8)
    assert value_step(4.0 * rng.integers(0, 500, 1000).astype(np.float64) - 0.3) == pytest.approx(4.0)
    assert value_step(np.full(9, 3.0)) == 0.0


@pytest.mark.parametrize("deviation", [0.2, 0.8, 1.5, 5.0, 60.0])
def test_noise_without_a_ceiling_has_none(deviation: float) -> None:
    rng = np.random.default_rng(9)
    picture = np.repeat(np.arange(2), 1000)
    for _ in range(200):
        value = np.round(rng.normal(np.array([500.0, 1000.0])[picture], deviation))
        assert ceiling(value, picture, 2, deviation, 1.0) is None


@pytest.mark.parametrize("place", [-2.0, 0.0, 2.0])
def test_a_ceiling_in_the_noise_is_found(place: float) -> None:
    rng = np.random.default_rng(10)
    picture = np.repeat(np.arange(2), 1000)
    top = round(1000 + 60 * place)
    for _ in range(50):
        value = np.minimum(np.round(rng.normal(np.array([500.0, 1000.0])[picture], 60.0)), top)
        assert ceiling(value, picture, 2, 45.0, 1.0) == top


def test_a_variance_that_falls_off_takes_all_brighter_levels_with_it() -> None:
    points = points_on((2.0, 50.0, 0.0), 1000.0, np.random.default_rng(11))
    points.variance[8] *= 0.3
    marked = collapsed(points, np.ones(12, dtype=np.bool_))
    assert np.array_equal(np.flatnonzero(marked), [8, 9, 10])


def test_pairs_that_add_up_pass_and_noise_alone_does_not_fail_them() -> None:
    rng = np.random.default_rng(12)
    dimmer = np.linspace(100, 4000, 8)
    failed = 0
    for _ in range(2000):
        noise = rng.normal(0, 40, (3, 8))
        total = 10_000 + rng.normal(0, 40 * 2**0.5)
        test = superposition(dimmer + noise[0], 10_000 - dimmer + noise[1], np.full(8, 3200.0), total, 3200.0)
        failed += bool(test.fails.any())
    assert failed <= 3


def test_small_deviations_are_let_pass_however_significant() -> None:
    dimmer = np.array([1000.0, 1000.0])
    brighter = 9000 * (1 - np.array([0.9, 1.1]) * KNEE_TOLERANCE)
    test = superposition(dimmer, brighter, np.full(2, 1e-4), 10_000.0, 1e-4)
    assert test.fails.tolist() == [False, True]
    assert test.deviation == pytest.approx([-0.0045, -0.0055])


def pairs_that_bend(curvature: float, n: int = 9) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Readings of darker and brighter pictures of a total of 10 000, darkness and full light first, halves last."""
    sent = np.append(0.0, np.linspace(600, 5000, n - 1))
    both = np.stack([sent, 10_000 - sent])
    dimmer, brighter = both - curvature * both**2
    return dimmer, brighter


@pytest.mark.parametrize("share", [-0.05, 0.004, 0.02, 0.3])
def test_a_bend_is_found_from_the_sums_of_pairs_alone(share: float) -> None:
    """Of light m the reading is m·(1 - share·m/total)."""
    dimmer, brighter = pairs_that_bend(share / 10_000)
    bend = find_bend(dimmer + 5, brighter + 5, np.full(9, 1.0))
    assert bend is not None
    assert bend.significant
    assert bend.curvature == pytest.approx(share / 10_000, rel=0.02)
    assert bend.total == pytest.approx(10_010, rel=1e-3)
    assert bend.light(brighter) == pytest.approx(10_000 - np.append(0.0, np.linspace(600, 5000, 8)), rel=2e-3)


def test_a_straight_detector_bends_as_rarely_as_its_errors_promise() -> None:
    rng = np.random.default_rng(20)
    dimmer, brighter = pairs_that_bend(0.0)
    found = [
        find_bend(dimmer + rng.normal(0, 30, 9), brighter + rng.normal(0, 30, 9), np.full(9, 1800.0))
        for _ in range(500)
    ]
    bends = [each for each in found if each is not None]
    assert len(bends) == 500
    assert sum(each.significant for each in bends) <= 2
    assert np.std([each.curvature / each.error for each in bends]) == pytest.approx(1.0, abs=0.15)


def test_where_light_stops_counting_pairs_do_not_pass_for_a_bend() -> None:
    dimmer, brighter = pairs_that_bend(0.0)
    bend = find_bend(dimmer, np.minimum(brighter, 8600.0), np.full(9, 1.0))
    assert bend is not None
    assert not bend.significant
    assert np.array_equal(bend.fits, brighter < 8600)


# Darkness


def test_the_dark_level_is_followed_from_before_to_after() -> None:
    rng = np.random.default_rng(21)
    before, after = rng.normal(100, 3, (2, 400))
    level = dark_level(before, after + 20, 1e-9, None, 0.75)
    assert level.shift == pytest.approx(20, abs=4 * level.shift_error)
    assert level.shift_error == pytest.approx(3 * (2 / 400) ** 0.5, rel=0.1)
    assert level.at(np.array([0.0, 5.0, 10.0])) == pytest.approx([100, 110, 120], abs=1)
    assert level.variance == pytest.approx(9, rel=0.2)
    assert level.freedom == 798


def test_a_dark_level_is_one_number_where_it_was_read_at_one_end_only() -> None:
    level = dark_level(np.random.default_rng(22).normal(5, 1, 50), np.empty(0), 1e-9, None, 0.75)
    assert not level.follows
    assert np.ptp(level.at(np.array([0.0, 1.0]))) == 0
    assert not dark_level(np.empty(0), np.empty(0), 1.0, None, 0.75).measured


def test_a_dark_level_below_what_can_be_read_is_seen_through_or_said_to_be_hidden() -> None:
    noise = np.random.default_rng(23).normal(0, 10, (2, 4000))
    before, after = np.maximum(noise - 3, 0)
    seen = dark_level(before, after, 1e-9, 0.0, 0.75)
    assert (seen.cut, seen.hidden, seen.outliers) == (True, False, 0)
    assert seen.offset == pytest.approx(-3, abs=1)
    assert seen.variance == pytest.approx(100, rel=0.15)
    before, after = np.maximum(noise - 12, 0)
    hidden = dark_level(before, after, 1e-9, 0.0, 0.75)
    assert hidden.hidden
    assert hidden.freedom == 0


# Tails


def test_photons_and_read_noise_have_no_tails_beyond_their_own() -> None:
    """Of 200 sets none, and the excess scatters by what is stated."""
    rng = np.random.default_rng(24)
    light = np.array([0.0, 200.0, 1000.0])
    picture = np.repeat(np.arange(3), 500)
    found = []
    for _ in range(200):
        value = 2.0 * rng.poisson(light[picture] / 2.0) + rng.normal(0, 5, 1500)
        variance = (2.0 * light + 25)[picture]
        found.append(find_tails(value - light[picture], variance, picture, light, 2.0))
    assert not any(each.significant for each in found)
    assert np.mean([each.excess for each in found]) == pytest.approx(0, abs=4 * found[0].error / 200**0.5)
    assert np.std([each.excess for each in found]) == pytest.approx(found[0].error, rel=0.2)


def test_excursions_make_up_no_more_of_the_variance_than_is_said() -> None:
    rng = np.random.default_rng(25)
    residual = rng.normal(0, 1, 20_000)
    residual[:200] += 3.5
    tails = find_tails(residual, np.ones(20_000), np.zeros(20_000, np.intp), np.array([1e6]), 0.0)
    assert tails.significant
    assert 0.01 * 3.5**2 * 0.8 < tails.share < 0.2


def test_light_that_fades_is_no_tail() -> None:
    rng = np.random.default_rng(26)
    variance = np.geomspace(1.0, 10.0, 20_000)
    residual = rng.normal(0, variance**0.5)
    assert not find_tails(residual, variance, np.zeros(20_000, np.intp), np.array([1e6]), 0.0).significant


def test_outliers_do_not_move_the_deviation_they_are_measured_by() -> None:
    noise = np.random.default_rng(13).normal(0, 3.0, 20_000)
    noise[:200] = 1e6
    assert robust_deviation(noise) == pytest.approx(3.0, rel=0.05)


def test_few_photons_have_a_longer_upper_tail() -> None:
    """Of 10⁶ Poisson counts of mean 9 some lie beyond 6 standard deviations; none is an outlier."""
    residual = np.random.default_rng(14).poisson(9.0, 1_000_000).astype(np.float64) - 9.0
    deviation = np.full(1_000_000, 3.0)
    assert is_outlier(residual, deviation).any()
    assert not is_outlier(residual, deviation, 1 / 3.0).any()


# The bootstrap


def test_resampled_moments_have_the_variance_that_theory_gives_them() -> None:
    residual = np.random.default_rng(15).normal(0, 2.0, 500)
    residual -= residual.mean()
    means, variances = resampled_moments([residual], [None], 4000, np.random.default_rng(16))
    s2 = residual.var()
    fourth = np.mean(residual**4)
    assert means.std() == pytest.approx((s2 / 500) ** 0.5, rel=0.05)
    assert variances.mean() == pytest.approx(s2, rel=0.01)
    assert variances.std() == pytest.approx(((fourth - s2**2) / 500) ** 0.5, rel=0.05)


def test_intervals_of_a_variance_follow_chi_squared() -> None:
    """Of 30 normal readings the exact interval of the variance is (29·s²/χ²_0.975, 29·s²/χ²_0.025)."""
    drawn = 5.0 * np.random.default_rng(17).chisquare(29, 200_000) / 29
    found = two_sided(Studentized(5.0, 5.0 * (2 / 29) ** 0.5, drawn, drawn * (2 / 29) ** 0.5))
    assert found.low == pytest.approx(29 * 5.0 / chi2.ppf(0.975, 29), rel=0.02)
    assert found.high == pytest.approx(29 * 5.0 / chi2.ppf(0.025, 29), rel=0.02)


def test_an_interval_that_touches_0_becomes_one_sided() -> None:
    drawn = np.linspace(-1.0, 3.0, 4001)
    touching = Studentized(1.0, 1.0, drawn, np.ones(4001))
    clear = Studentized(3.0, 1.0, drawn + 2, np.ones(4001))
    coarse = Studentized(0.03, 0.01, drawn / 100 + 0.02, np.full(4001, 0.01))
    assert two_sided(touching).low == pytest.approx(-0.9)
    assert (above_zero(touching).low, above_zero(touching).one_sided) == (0.0, True)
    assert above_zero(touching).high == pytest.approx(2.8)
    assert above_zero(clear).low == pytest.approx(1.1)
    assert not above_zero(clear).one_sided
    assert above_zero(coarse, 1 / 12).high == pytest.approx(1 / 12)
    assert above_zero(coarse, 1 / 12).one_sided


def test_an_estimate_far_below_0_keeps_its_interval_and_one_below_by_chance_has_a_limit() -> None:
    drawn = np.random.default_rng(27).normal(size=4000)
    chance = above_zero(Studentized(-2.5, 1.0, drawn - 2.5, np.ones(4000)))
    assert (chance.low, chance.high, chance.one_sided) == (0.0, 1.0, True)
    contradiction = above_zero(Studentized(-5.0, 1.0, drawn - 5, np.ones(4000)))
    assert contradiction.low == pytest.approx(-6.96, abs=0.15)
    assert contradiction.high == pytest.approx(-3.04, abs=0.15)
    assert not contradiction.one_sided
