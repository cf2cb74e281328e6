"""From sums to coefficients: each estimator where it is meant to be used."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import hadamard

from acquisition.evidence import Evidence
from acquisition.reconstruction import estimate_coefficients, reconstruct
from models.estimators import Estimate
from models.noise import NoiseModel, draw_statistics
from models.statistics import CoefficientStatistics
from tests.acquisition.rehearsal import small_config

GAIN, SIDE, TOTAL = 2.0, 4, 4e4


def lopsided_sample() -> NDArray[np.float64]:
    """Most light in one corner: coefficients come close to the total."""
    image = np.ones((SIDE, SIDE))
    image[0, 0] = 150.0
    return np.asarray(image * TOTAL / image.sum())


def dense(image: NDArray[np.float64]) -> NDArray[np.float64]:
    matrix = hadamard(SIDE).astype(np.float64)
    return np.asarray((matrix @ image @ matrix).ravel())


def estimates(bias: float, seeds: int) -> Iterator[Estimate]:
    """Pair-ratio estimates where 2b/(M·T²) is ``bias`` for one pair; the smoothed sums are the true light."""
    variance = bias * TOTAL**2 / 2
    config = small_config(
        noise={"gain": GAIN, "variance": variance}, reconstruction={"estimator": "pair-ratio"}, sensing={"side": 8}
    )
    count = np.ones(SIDE**2, dtype=np.int32)
    count[0] = 0
    for seed in range(seeds):
        statistics = draw_statistics(
            lopsided_sample(), count, NoiseModel(GAIN, variance), np.random.default_rng([seed, round(1e6 * bias)])
        )
        yield estimate_coefficients(
            Evidence(
                statistics, np.asarray(TOTAL * count, dtype=np.float64), 0.0, 0.0, TOTAL, 10_000, 1, int(count.sum()), 0
            ),
            config,
        )


def mean_slope(bias: float, seeds: int) -> tuple[float, float]:
    """Estimate over truth, averaged over the large coefficients, and its standard error."""
    truth = dense(lopsided_sample())[1:]
    slopes = np.array([(each.coefficients[1:] @ truth) / (truth @ truth) for each in estimates(bias, seeds)])
    return float(slopes.mean()), float(slopes.std() / np.sqrt(len(slopes)))


def test_the_pair_ratio_is_biased_within_its_bound() -> None:
    slope, error = mean_slope(0.007, seeds=10_000)
    assert error < 0.0005
    assert slope - 1 > 5 * error  # there is a bias, and it can be seen
    assert slope - 1 < 1.05 * 0.007 + 3 * error  # 2b/(M·T²), and a twentieth for the next order


def test_where_the_bias_would_exceed_one_percent_the_smoothed_sums_take_its_place() -> None:
    slope, error = mean_slope(0.05, seeds=4000)
    assert error < 0.002
    assert abs(slope - 1) < 3 * error


def test_variances_are_those_the_estimates_have() -> None:
    for bias in (0.004, 0.05):
        drawn = list(estimates(bias, seeds=4000))
        found = np.var([each.coefficients[1:] for each in drawn], axis=0)
        stated = np.mean([each.variance[1:] for each in drawn], axis=0)
        assert np.allclose(found, stated, rtol=0.12)


def test_untaken_coefficients_have_no_weight_and_the_prior_mean_in_their_place() -> None:
    count = np.zeros(64, dtype=np.int32)
    count[1:20] = 2
    statistics = draw_statistics(np.ones((8, 8)) * 100, count, None, np.random.default_rng(0))
    evidence = Evidence(statistics, np.asarray(6400.0 * count, dtype=np.float64), 0.0, 0.0, 6400.0, 38, 1, 38, 0)
    made = reconstruct(evidence, small_config())
    assert np.isinf(made.estimate.variance[20:]).all()
    assert np.isnan(made.estimate.coefficients[20:]).all()
    assert np.isfinite(made.wiener).all()
    assert np.allclose(made.wiener, 100.0, rtol=0.02)


def test_few_photoelectrons_are_not_taken_for_certainty() -> None:
    """All of a coefficient's light in one exposure of its pairs: a ratio of 1, which says that it has no noise."""
    photoelectrons = 6.0
    image = np.full((8, 8), GAIN * photoelectrons / 64)
    total = float(image.sum())
    count = np.ones(64, dtype=np.int32)
    count[0] = 0
    config = small_config(noise={"gain": GAIN, "variance": 0.0}, reconstruction={"estimator": "pair-ratio"})
    drawn = []
    for seed in range(300):
        statistics = draw_statistics(image, count, NoiseModel(GAIN, 0.0), np.random.default_rng(seed))
        evidence = Evidence(statistics, np.asarray(total * count, dtype=np.float64), 0.0, 0.0, total, 63, 1, 63, 0)
        drawn.append(estimate_coefficients(evidence, config))
    z, variance = (np.array([getattr(each, name)[1:] for each in drawn]) for name in ("coefficients", "variance"))
    assert np.isfinite(z).all()  # also where a pair saw no light at all
    assert np.allclose(variance, GAIN * total)
    # The image is flat, so that all of z is noise: its power is the stated variance.
    assert np.isclose(np.mean(z**2), GAIN * total, rtol=0.05)


def test_the_shot_noise_of_a_background_biases_the_pair_ratio_too() -> None:
    """2(b + aB)/(M·T²) of 5 %: the smoothed sums take the ratio's place, though 2b/(M·T²) alone is 0."""
    background = 0.05 * TOTAL**2 / (2 * GAIN)
    config = small_config(
        noise={"gain": GAIN, "variance": 0.0}, reconstruction={"estimator": "pair-ratio"}, sensing={"side": 8}
    )
    count = np.ones(SIDE**2, dtype=np.int32)
    count[0] = 0
    truth = dense(lopsided_sample())
    rng = np.random.default_rng(5)
    slopes = []
    for _ in range(4000):
        plus, minus = (
            GAIN * rng.poisson((np.maximum(TOTAL + sign * truth, 0) / 2 + background) / GAIN) * count
            for sign in (1, -1)
        )
        statistics = CoefficientStatistics(count, plus - minus, np.zeros(SIDE**2), plus + minus)
        evidence = Evidence(
            statistics, np.asarray(TOTAL * count, dtype=np.float64), 0.0, background, TOTAL, 10_000, 1, 15, 0
        )
        estimate = estimate_coefficients(evidence, config)
        slopes.append((estimate.coefficients[1:] @ truth[1:]) / (truth[1:] @ truth[1:]))
    error = np.std(slopes) / np.sqrt(len(slopes))
    assert error < 0.005
    assert abs(np.mean(slopes) - 1) < 3 * error
