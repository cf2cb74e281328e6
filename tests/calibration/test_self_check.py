"""Readings that fit to a noise model pass, others are noticed (oracles: chi-squares, drawn numbers, closed forms)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from scipy.linalg import hadamard

from calibration.collected import Collected, Darkness
from calibration.first_minus_second import first_minus_second
from calibration.gain_test import degrees_needed, gain_sum
from calibration.light_course import LightCourse
from calibration.noise_knowledge import NoiseKnowledge
from calibration.repeats import RepeatSums
from calibration.scatter import Expectation, Scatter, scatter_of_groups
from calibration.self_check import (
    FALSE_ALARMS,
    GAIN_THRESHOLD,
    N_OTHERS,
    THRESHOLD,
    Power,
    check_readings,
    outcomes,
)
from calibration.self_check_text import power, verdict, warnings
from calibration.square_sums import square_sums
from models.noise import NoiseModel

A, B_READ = 2.0, 400.0
KNOWN = NoiseKnowledge(NoiseModel(A, B_READ))


def scatter(
    degrees: float, light: float, exposures: int = 2, ratio: float = 1.0, noise: NoiseModel = KNOWN.noise
) -> Scatter:
    """A scatter whose sum is ``ratio`` times what this noise makes of it: light per reading, exposures per reading."""
    variance = noise.gain * light + exposures * noise.variance
    design = degrees / variance * np.array([light, exposures, light**2 / exposures])
    return Scatter(ratio * degrees, degrees, design, 2 * degrees)


def darkness(n: int, group: int, mean: float, variance: float) -> Darkness:
    return Darkness(variance * n / group * (group - 1), group, n, mean)


def collected(ratio: float = 1.0, dark_ratio: float = 1.0, total: float = 4000.0, pairs: int = 8000) -> Collected:
    """What a run of so many pairs adds up to, its lit scatter ``ratio`` times what is expected."""
    return Collected(
        dark=darkness(64, 64, 0.0, dark_ratio * B_READ),
        dark_is_lit=False,
        lit_dark=darkness(3 * pairs // 64, 3, 0.0, dark_ratio * B_READ),
        bright=scatter(pairs / 64, total, 1, ratio),
        repeats=scatter(pairs / 2, total, 2, ratio),
        pair_sums=scatter(pairs * 0.75, total, 2, ratio),
        first_minus_second=None,
        n_pairs=pairs,
        n_repeated=pairs // 8,
        total=total,
    )


@given(
    degrees=st.floats(8, 1e5),
    ratio=st.floats(0.5, 2.0),
)
def test_a_known_expectation_gives_the_exact_tails_of_a_chi_square(degrees: float, ratio: float) -> None:
    z = Expectation(degrees, degrees, 0.0, degrees).z_score(ratio * degrees)
    tails = stats.chi2.cdf(ratio * degrees, degrees), stats.chi2.sf(ratio * degrees, degrees)
    if min(tails) > 1e-250:
        assert stats.norm.sf(abs(z)) == pytest.approx(min(tails), rel=1e-6)
        assert abs(min(tails) - 0.5) < 1e-6 or (z > 0) == (tails[1] < tails[0])


def test_the_z_scores_of_drawn_scatter_are_standard_normal_also_where_the_expectation_is_uncertain() -> None:
    rng = np.random.default_rng(8)
    degrees, error, n = 40.0, 0.3, 3000
    truth = np.maximum(1 + error * rng.normal(size=n), 0.01)
    drawn = truth * rng.chisquare(degrees, n)
    expected = Expectation(degrees, degrees, error * degrees, degrees)
    scores = np.array([expected.z_score(square) for square in drawn])
    # A z of exactly 0 stands for odds of one half either way; of 3000 the largest deviation from normal is below 0.03.
    assert stats.kstest(scores, "norm").statistic < 0.03


def test_between_its_limits_and_only_there_a_scatter_passes() -> None:
    expected = Expectation(90.0, 100.0, 5.0, 60.0)
    low, high = expected.limits(3.0)
    assert expected.z_score(low) == pytest.approx(-3, abs=1e-3)
    assert expected.z_score(high) == pytest.approx(3, abs=1e-3)
    assert expected.z_score(95.0) == 0.0


def test_a_scatter_where_nothing_should_vary_passes_only_if_nothing_does() -> None:
    none_expected = Expectation(0.0, 0.0, 0.0, 50.0)
    assert none_expected.z_score(0.0) == 0.0
    assert none_expected.z_score(1.0) > 30


def test_few_photo_electrons_widen_the_scatter_by_their_kurtosis() -> None:
    """Variance of the sum of squares of Poisson numbers: 2 per degree of freedom and (m - 1)²/m times 1/λ."""
    rng = np.random.default_rng(3)
    mean, groups, m = 0.7, 20, 3
    weight, terms = np.full(groups, mean), np.array([np.full(groups, mean), np.zeros(groups), np.zeros(groups)])
    made = [
        scatter_of_groups(rng.poisson(mean, (groups, m)).astype(float), weight, terms, 1 / mean) for _ in range(4000)
    ]
    squares = np.array([each.square for each in made])
    assert squares.mean() == pytest.approx(made[0].design[0], rel=0.02)
    assert squares.var() == pytest.approx(made[0].fluctuation, rel=0.10)


def test_scatter_about_lines_is_that_of_what_the_lines_leave() -> None:
    """Against polyfit, and drawn sums of squares of Poisson numbers."""
    rng = np.random.default_rng(9)
    at = np.cumsum(rng.uniform(1, 5, (30, 7)), axis=1)
    mean, excess = 0.8, 1 / 0.8
    weight, terms = np.full(30, mean), np.array([np.full(30, mean), np.zeros(30), np.zeros(30)])
    made = []
    for _ in range(1500):
        values = rng.poisson(mean, at.shape) + 3.0 * at
        made.append(scatter_of_groups(values, weight, terms, excess, at))
    left = [row - np.polyval(np.polyfit(time, row, 1), time) for row, time in zip(values, at, strict=True)]
    assert made[-1].square == pytest.approx(sum(float(each @ each) for each in left) / mean)
    assert made[0].degrees == 30 * 5
    squares = np.array([each.square for each in made])
    assert squares.mean() == pytest.approx(made[0].design[0], rel=0.02)
    assert squares.var() == pytest.approx(made[0].fluctuation, rel=0.15)


@pytest.mark.parametrize("n", [1, 3, 4, 7, 8, 50])
def test_a_course_goes_through_a_parabola_exactly_where_it_may(n: int) -> None:
    time = 1e6 + 200.0 * np.arange(n, dtype=np.float64)
    order = min(n // 4, 2)
    values = sum((0.3 * (time - 1e6) / 200) ** power for power in range(order + 1)) + np.zeros(n)
    course = LightCourse.of(time, values)
    assert course.at(time) == pytest.approx(values)
    assert course.slope(time) == pytest.approx(derivative(time, order))


def derivative(time: NDArray[np.float64], order: int) -> NDArray[np.float64]:
    x = (time - 1e6) / 200
    return np.asarray(sum((p * 0.3**p * x ** (p - 1) / 200 for p in range(1, order + 1)), np.zeros(len(time))))


def test_a_courses_loadings_are_the_covariance_of_the_fit() -> None:
    """Against the hat matrix of the same polynomial, by its normal equations."""
    time = np.sort(np.random.default_rng(1).uniform(0, 1e4, 30))
    basis = np.vander(time / 1e4, 3)
    hat = basis @ np.linalg.solve(basis.T @ basis, basis.T)
    loadings = LightCourse.of(time, np.zeros(30)).loadings(time)
    assert loadings @ loadings.T == pytest.approx(hat, abs=1e-9)


def drawn_repeats(
    rng: np.random.Generator, noise: NoiseModel, source_noise: float = 0.0
) -> tuple[RepeatSums, NDArray[np.float64]]:
    """400 coefficients of 1 to 8 pairs under light that falls by half; and (z/T) of each."""
    share, n = rng.uniform(-0.6, 0.6, 400), rng.integers(1, 9, 400)
    index = rng.permutation(np.repeat(np.arange(400), n))
    total, background = np.linspace(20_000, 10_000, len(index)), 500.0
    light = [(total * (1 + sign * share[index])) / 2 + background for sign in (1, -1)]
    plus, minus = (
        noise.gain * rng.poisson(m * (1 + source_noise**0.5 * rng.normal(size=len(m))) / noise.gain)
        + noise.variance**0.5 * rng.normal(size=len(m))
        for m in light
    )
    lit = total + 2 * background
    terms = np.array([lit, np.full_like(lit, 2.0), lit**2 / 2])
    sums = RepeatSums(400)
    variance = terms.T @ np.array([noise.gain, noise.variance, source_noise])
    for part in np.array_split(np.arange(len(index)), 7):
        sums.add(index[part], (plus - minus)[part], total[part], variance[part], terms[:, part], 0 * variance[part])
    return sums, share


@pytest.mark.parametrize("source_noise", [0.0, 1e-3])
def test_repeats_scatter_as_their_noise_says_whatever_the_light_does(source_noise: float) -> None:
    rng = np.random.default_rng(5)
    noise = NoiseModel(A, B_READ)
    ratios = []
    for _ in range(40):
        sums, share = drawn_repeats(rng, noise, source_noise)
        made = sums.scatter()
        ratios.append(made.square / (made.design @ np.array([A, B_READ, source_noise])))
        z = (sums.share - share) * np.sqrt(sums.precision)
        assert np.abs(z).max() < 7
    # 40 times about 1400 degrees of freedom.
    assert np.mean(ratios) == pytest.approx(1, abs=4 * (2 / 56_000) ** 0.5)


def test_repeats_count_one_degree_less_than_pairs_of_each_coefficient() -> None:
    sums = RepeatSums(4)
    ones = np.ones(6)
    terms = np.array([ones, ones, 0 * ones])
    sums.add(np.array([1, 1, 1, 2, 2, 3]), np.array([1.0, 2, 3, 5, 5, 9]), ones, ones, terms, 0 * ones)
    made = sums.scatter()
    assert made.degrees == 3
    assert made.square == pytest.approx(2.0)
    assert sums.n_repeated == 2


def test_clean_sums_pass_every_test_and_no_warning_is_given() -> None:
    check = check_readings(collected(), KNOWN)
    assert [test.what for test in check.tests] == [
        "darkness, light off", "darkness under light", "bright guards", "repeats", "pair sums", "gain",
    ]  # fmt: skip
    assert check.failed == ()
    assert warnings(check, KNOWN) == ()
    assert "fit to the noise model" in verdict(check)


def test_all_tests_together_stay_under_the_promised_per_cent() -> None:
    alarms = 2 * stats.norm.sf(THRESHOLD) * N_OTHERS + 2 * stats.norm.sf(GAIN_THRESHOLD)
    assert alarms == pytest.approx(FALSE_ALARMS)
    assert FALSE_ALARMS < 0.008
    thresholds = [test.threshold for test in check_readings(collected(), KNOWN).tests]
    # The sixth of the others is first minus second.
    assert sum(2 * stats.norm.sf(each) for each in [*thresholds, THRESHOLD]) == pytest.approx(FALSE_ALARMS)


@pytest.mark.parametrize(("ratio", "says"), [(1.2, "1.2 times"), (0.8, "0.8 times")])
def test_a_changed_gain_is_noticed_and_said_in_words(ratio: float, says: str) -> None:
    check = check_readings(collected(ratio), KNOWN)
    assert {"repeats", "pair sums", "gain"} <= {test.what for test in check.failed}
    (warning,) = warnings(check, KNOWN)
    assert says in warning
    assert "Calibrate again" in warning


def test_flicker_is_told_apart_from_a_wrong_gain() -> None:
    """Only sums of pairs vary too much: what both exposures have in common."""
    clean = collected(pairs=2000)
    flickering = replace(clean, pair_sums=scatter(1500, 4000.0, 2, 1.18), repeats=scatter(1000, 4000.0, 2, 0.98))
    check = check_readings(flickering, KNOWN)
    assert {test.what for test in check.failed} == {"pair sums", "gain"}
    assert "flickers" in warnings(check, KNOWN)[0]


def test_the_runs_own_estimate_is_the_gain_and_variance_that_made_its_readings() -> None:
    true = NoiseModel(2.5, 300.0)
    light = 4000.0
    own = check_readings(
        replace(
            collected(dark_ratio=300 / 400),
            bright=Scatter(*scatter_of(true, 125, light, 1)),
            repeats=Scatter(*scatter_of(true, 4000, light, 2)),
            pair_sums=Scatter(*scatter_of(true, 6000, light, 2)),
        ),
        KNOWN,
    ).estimate
    assert own is not None
    assert own.gain == pytest.approx(2.5, rel=1e-3)
    assert own.variance == pytest.approx(300.0, rel=1e-3)
    # Darks alone know b to √(2/313); pairs know a·T + 2b to √(2/10 000).
    expected_b = 300 * (2 / (63 + 250)) ** 0.5
    pair_variance = 2.5 * light + 600
    expected_a = ((pair_variance * (2 / 10_125) ** 0.5) ** 2 + (2 * expected_b) ** 2) ** 0.5 / light
    assert own.variance_error == pytest.approx(expected_b, rel=0.05)
    assert own.gain_error == pytest.approx(expected_a, rel=0.05)
    assert own.gain_z == pytest.approx(0.5 / own.gain_error, rel=0.01)


def scatter_of(
    true: NoiseModel, degrees: float, light: float, exposures: int
) -> tuple[float, float, NDArray[np.float64], float]:
    """Sums over readings of ``true`` noise in weights of the stated one."""
    ratio = (true.gain * light + exposures * true.variance) / (A * light + exposures * B_READ)
    made = scatter(degrees, light, exposures, ratio)
    return made.square, made.degrees, made.design, made.fluctuation


def test_an_uncertain_calibration_forgives_what_its_own_error_explains() -> None:
    off = collected(1.1)
    assert check_readings(off, KNOWN).failed
    uncertain = replace(KNOWN, covariance=np.diag([(0.1 * A) ** 2, 0.0, 0.0]))
    check = check_readings(off, uncertain)
    assert check.failed == ()
    scores = {test.what: test.z for test in check.tests}
    # (1.1 - 1)·v over 10 % of a·T, v = a·T + 2b, and the scatter's own error.
    expected = 0.1 * 8800 / np.hypot(0.1 * 8000, 8800 * (2 / 6000) ** 0.5)
    assert scores["pair sums"] == pytest.approx(expected, rel=0.05)


def drawn(rng: np.random.Generator, clean: Collected, gain: float, variance: float) -> Collected:
    """Sums of a run as bright as ``clean``, whose true noise is another one."""

    def lit(each: Scatter) -> Scatter:
        true = float(each.design[:2] @ (gain, variance))
        return replace(each, square=true / each.degrees * rng.chisquare(each.degrees))

    def dark(each: Darkness) -> Darkness:
        return replace(each, square=variance * rng.chisquare(each.n / each.group * (each.group - 1)))

    return replace(
        clean,
        dark=dark(clean.dark),
        lit_dark=dark(clean.lit_dark),
        bright=lit(clean.bright),
        repeats=lit(clean.repeats),
        pair_sums=lit(clean.pair_sums),
    )


@pytest.mark.parametrize("pairs", [400, 800])
def test_the_power_is_the_probability_that_drawn_changes_are_noticed(pairs: int) -> None:
    few = collected(pairs=pairs)
    check = check_readings(few, KNOWN)
    rng = np.random.default_rng(2)
    noticed = np.mean(
        [any(test.failed for test in outcomes(drawn(rng, few, A / 1.2, B_READ), KNOWN)) for _ in range(600)]
    )
    # 600 draws know theirs to 0.02; that all tests together see a little more is not counted.
    assert check.gain_power - 0.06 < noticed < check.gain_power + 0.08
    assert 0.1 < check.gain_power < 0.95


@pytest.mark.parametrize("gain_error", [0.04, 0.12])
def test_the_power_under_an_uncertain_calibration_is_that_of_a_calibration_off_by_its_own_errors(
    gain_error: float,
) -> None:
    run = collected(pairs=4000)
    uncertain = replace(KNOWN, covariance=np.diag([gain_error * A, 0.05 * B_READ, 0.0]) ** 2)
    stated = Power(square_sums(run, uncertain)[0], uncertain).of_gain_times(1.2)
    rng = np.random.default_rng(3)
    noticed = np.mean(
        [
            any(
                test.failed
                for test in outcomes(
                    drawn(
                        rng, run, A * (1.2 + gain_error * rng.normal()), max(B_READ * (1 + 0.05 * rng.normal()), 0.0)
                    ),
                    uncertain,
                )
            )
            for _ in range(400)
        ]
    )
    assert stated - 0.06 < noticed < stated + 0.08
    assert check_readings(run, uncertain).exact_gain_power > 0.999 > stated
    assert "calibration's own error" in power(check_readings(run, uncertain))


def test_a_certain_discovery_takes_the_degrees_that_are_stated() -> None:
    """Against the chi-squares themselves, and the normal quantiles' 2·((z₁ + z₂)/ln(ratio))²."""
    for share in (0.5, 0.8):
        needed = degrees_needed(share, 1.2, 0.999, 0.005)
        low, high = stats.chi2.ppf([0.0025, 0.9975], needed)
        noticed = stats.chi2.sf(high / (1 + 0.2 * share), needed), stats.chi2.cdf(low / (1 - share / 6), needed)
        assert min(noticed) == pytest.approx(0.999, abs=2e-5)
        quantiles = stats.norm.ppf(0.9975) + stats.norm.ppf(0.999)
        assert needed == pytest.approx(2 * (quantiles / np.log(1 - share / 6)) ** 2, rel=0.03)


def test_at_that_many_degrees_and_a_share_of_one_half_a_gain_off_by_a_fifth_is_noticed_every_time() -> None:
    known = NoiseKnowledge(NoiseModel(A, 4e4))
    half = 2 * 4e4 / A  # light T at which aT is 2b
    needed = degrees_needed(0.5, 1.2, 0.999, 0.005)
    assert 9000 < needed < 9300
    pairs = 1.02 * needed / 2
    run = replace(
        collected(),
        dark=darkness(64, 64, 0.0, 4e4),
        lit_dark=darkness(300, 3, 0.0, 4e4),
        bright=scatter(8, half, 1, noise=known.noise),
        repeats=scatter(pairs, half, 2, noise=known.noise),
        pair_sums=scatter(pairs, half, 2, noise=known.noise),
        total=half,
    )
    check = check_readings(run, known)
    assert check.shot_share == pytest.approx(0.5)
    assert check.degrees_needed == needed
    assert check.degrees == pytest.approx(1.02 * needed + 8)
    assert check.gain_power > 0.999
    rng = np.random.default_rng(4)
    for factor in (1 / 1.2, 1.2):
        assert all(outcomes(drawn(rng, run, factor * A, 4e4), known)[-1].failed for _ in range(100))


def test_the_score_of_the_gain_is_normal_where_nothing_is_wrong() -> None:
    """Few degrees and much uncertainty; a, b of each calibration off by its errors."""
    run = collected(pairs=160)
    uncertain = replace(KNOWN, covariance=np.diag([0.15 * A, 0.3 * B_READ, 0.0]) ** 2)
    rng = np.random.default_rng(5)
    for knowledge, gain_error, variance_error in ((KNOWN, 0.0, 0.0), (uncertain, 0.15, 0.3)):
        scores = []
        for _ in range(1000):
            true = A * (1 + gain_error * rng.normal()), B_READ * abs(1 + variance_error * rng.normal())
            exact = replace(knowledge, rounding=0.0)
            found = gain_sum(square_sums(drawn(rng, run, *true), exact)[0], exact)
            assert found is not None
            scores.append(found.expectation.z_score(found.square))
        # The largest deviation from normal that comes once in a hundred such thousands; 15 is 4.5 deviations above 5.
        assert stats.kstest(scores, "norm").statistic < 1.63 / 1000**0.5
        assert np.count_nonzero(np.abs(scores) > GAIN_THRESHOLD) < 15


def test_the_score_of_a_single_sum_has_the_exact_tail_of_its_chi_square() -> None:
    exact = replace(KNOWN, rounding=0.0)
    run = replace(collected(1.15, pairs=400), dark=Darkness(0.0, 0, 0, 0.0), dark_is_lit=True)
    alone = [each for each in square_sums(run, exact)[0] if each.what == "pair sums"]
    found = gain_sum(alone, exact)
    assert found is not None
    tail = stats.norm.sf(found.expectation.z_score(found.square))
    assert tail == pytest.approx(stats.chi2.sf(1.15 * 300, 300), rel=1e-6)
    assert found.factor == pytest.approx(1 + 0.15 * 8800 / 8000)


def test_darkness_says_what_b_is_where_the_calibration_does_not() -> None:
    """The best weights make of a wide error of b no more than the run's own dark pictures leave of it."""
    run = collected(total=1600.0, pairs=40_000)
    wide = replace(KNOWN, covariance=np.diag([0.0, 0.5 * B_READ, 0.0]) ** 2)
    without = replace(run, dark=Darkness(0.0, 0, 0, 0.0), lit_dark=Darkness(0.0, 0, 0, 0.0))
    powers = [check_readings(each, wide).gain_power for each in (without, run)]
    assert powers[0] < 0.3
    assert powers[1] > 0.5
    off = {test.what: test for test in outcomes(drawn(np.random.default_rng(1), run, A, 1.3 * B_READ), wide)}
    assert abs(off["gain"].z) < GAIN_THRESHOLD


def test_a_weak_check_says_so_and_why() -> None:
    few = check_readings(collected(pairs=64), KNOWN)
    assert few.gain_power < 0.99
    # At a share of 8000/8800 it takes about 2·(5.9/ln(1 - 0.91/6))².
    assert "only: 64 pairs and 8 coefficients with several give 80 degrees of freedom" in power(few)
    assert "99.9 % takes 2600" in power(few)
    dim = check_readings(collected(total=40.0), KNOWN)
    assert "of the variance is shot noise" in power(dim)


def test_the_least_change_of_gain_shrinks_with_the_number_of_pairs() -> None:
    least = [check_readings(collected(pairs=pairs), KNOWN).least_gain_change for pairs in (1000, 10_000, 100_000)]
    assert least[0] is not None
    assert least[1] is not None
    assert least[2] is not None
    assert least[0] > least[1] > least[2] > 1
    # The smallest change that 99.9 % see: (2.8 + 3.1) standard errors of 1.25 degrees a pair, at a share of 8000/8800.
    assert least[2] - 1 == pytest.approx((GAIN_THRESHOLD + 3.09) * (2 / 125_000) ** 0.5 * 8800 / 8000, rel=0.1)
    assert check_readings(collected(pairs=100_000), KNOWN).gain_power > 0.9999


def test_rounding_to_whole_units_makes_no_alarm_where_b_does_not_hold_it() -> None:
    rng = np.random.default_rng(4)
    n = 60_000
    low = NoiseKnowledge(NoiseModel(1.0, 2.0))
    readings = np.rint(rng.normal(0, 2.0**0.5, (n // 4, 4)))
    square = float(((readings - readings.mean(axis=1, keepdims=True)) ** 2).sum())
    many = replace(collected(), lit_dark=Darkness(square, 4, n, 0.0), dark=Darkness(0.0, 0, 0, 0.0))
    scores = {test.what: test.z for test in check_readings(many, low).tests}
    # The same readings, 1/12 too large a variance in 2 known to 0.8 %, would be off by 5 standard errors.
    assert abs(scores["darkness under light"]) < 3.3
    without = {test.what: test.z for test in check_readings(many, replace(low, rounding=0.0)).tests}
    assert without["darkness under light"] > THRESHOLD


def test_constant_darkness_is_no_alarm_where_the_variance_is_below_the_step_of_the_readings() -> None:
    constant = replace(collected(), dark=darkness(64, 64, 0.0, 0.0), lit_dark=darkness(300, 3, 0.0, 0.0))
    scores = {test.what: test.z for test in check_readings(constant, NoiseKnowledge(NoiseModel(1.0, 0.0))).tests}
    assert scores["darkness, light off"] == 0.0
    assert scores["darkness under light"] == 0.0
    scores = {test.what: test.z for test in check_readings(constant, KNOWN).tests}
    assert scores["darkness, light off"] < -THRESHOLD


def test_darkness_that_is_cut_off_at_zero_is_not_tested_and_that_is_said() -> None:
    check = check_readings(replace(collected(), floor=-70.0), KNOWN)
    assert not any("dark" in test.what for test in check.tests)
    assert len(check.not_made) == 2
    assert "offset" in check.not_made[0]
    assert len(check_readings(replace(collected(), floor=-90.0), KNOWN).tests) == 6


def test_the_gain_is_seen_in_darkness_under_light_only_where_there_is_background() -> None:
    lit = replace(collected(), lit_dark=darkness(3000, 3, 1000.0, A * 1000 + B_READ))
    scores = {test.what: test.z for test in check_readings(lit, KNOWN).tests}
    assert abs(scores["darkness under light"]) < 0.5
    changed = {test.what: test.z for test in check_readings(lit, NoiseKnowledge(NoiseModel(1.6, B_READ))).tests}
    assert changed["darkness under light"] > 4


def typical_variance() -> NDArray[np.float64]:
    """A power law over the sign changes of 32 × 32 Hadamard patterns, float64 [1024]."""
    changes = (np.diff(hadamard(32), axis=1) != 0).sum(axis=1).astype(float)
    return np.asarray(0.18 * (1 + changes[:, None] ** 2 + changes**2).ravel() ** -1.15)


def drawn_order(
    rng: np.random.Generator, delta: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Shares, precisions and orders of 32 × 32 coefficients of a typical sample, δ added in order of display."""
    plus_first = rng.random(1024) < 0.5
    precision = rng.integers(0, 4, 1024).astype(np.float64) * 1e4
    precision[0] = 0
    noise = np.divide(1.0, precision**0.5, out=np.zeros(1024), where=precision > 0) * rng.normal(size=1024)
    share = rng.normal(0, typical_variance() ** 0.5) + np.where(plus_first, delta, -delta) + noise
    return np.where(precision > 0, share, np.nan), precision, plus_first


def test_first_minus_second_is_found_with_an_honest_error() -> None:
    rng = np.random.default_rng(6)
    delta = 4e-3
    found = [first_minus_second(*drawn_order(rng, delta), 0.0) for _ in range(80)]
    shares = np.array([each.share for each in found if each])
    errors = np.array([each.error for each in found if each])
    assert len(shares) == 80
    assert shares.mean() == pytest.approx(delta, abs=4 * shares.std() / 80**0.5)
    assert ((shares - delta) / errors).std() == pytest.approx(
        1, abs=0.32
    )  # four standard errors of a standard deviation of 80
    # Large coefficients do not drown it: weights from the true spectrum and noise could do little better.
    least = sum((1 / (typical_variance() + 1e-4 / m)).sum() / 4 for m in (1, 2, 3)) ** -0.5
    assert least < np.median(errors) < 1.3 * least


def test_a_slow_decline_is_no_ripple() -> None:
    found = first_minus_second(*drawn_order(np.random.default_rng(7), 5e-3), 5e-3)
    assert found is not None
    assert abs(found.z) < 4
    assert found.share / found.error > 4


def test_too_few_coefficients_say_nothing_of_first_and_second() -> None:
    share, precision, order = drawn_order(np.random.default_rng(7), 0.0)
    precision[60:] = 0
    assert first_minus_second(share, precision, order, 0.0) is None
