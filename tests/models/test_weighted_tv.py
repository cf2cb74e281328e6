"""Weighted CS-TV against general convex solvers on dense matrices, and what an image must not depend on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.linalg import hadamard
from scipy.optimize import minimize

from models.draws import bernoulli_draw
from models.estimators import Estimate, difference, total_from_pairs
from models.hadamard import SideError
from models.masks import bernoulli_optimal, low_sequency, uniform
from models.noise import NoiseModel, draw_statistics
from models.weighted_tv import TYPICAL_WEIGHT, NothingMeasuredError, data_weights, tv_weight, weighted_tv_image

Image = NDArray[np.float64]
MASKS = ("uniform", "uneven", "binary")


def sample(n: int) -> Image:
    """Blocks whose edges no low sequency has."""
    image = np.full((n, n), 2.0)
    image[n // 4 - 1 : n // 2, n // 8 : n // 2 + 1] = 100.0
    image[n // 2 + 1 :, 5 * n // 8 + 1 :] = 40.0
    return image


def estimate_of(image: Image, counts: NDArray[np.int32], noise: NoiseModel, seed: int = 0) -> Estimate:
    statistics = draw_statistics(image, counts, noise, np.random.default_rng(seed))
    total = total_from_pairs(statistics)
    variance = np.full(image.size, np.inf)
    taken = counts > 0
    variance[taken] = noise.pair_variance(total) / counts[taken]
    variance[0] = noise.pair_variance(total) / counts.sum()
    return Estimate(difference(statistics, total), variance, total)


def measured(n: int, mask: str, seed: int = 0) -> Estimate:
    falling = 1e6 / np.arange(1.0, n * n + 1)
    masks = {
        "uniform": uniform(n, 0.5),
        "uneven": bernoulli_optimal(falling, 0.5, 10, 3000.0),
        "binary": low_sequency(n, 0.5),
    }
    return estimate_of(sample(n), bernoulli_draw(masks[mask], 10, seed), NoiseModel(0.5, 10.0), seed)


def lengths(x: Image) -> tuple[Image, Image]:
    return np.diff(x, axis=0, append=x[-1:]), np.diff(x, axis=1, append=x[:, -1:])


def cost(x: Image, estimate: Estimate, weight_factor: float, rounded: float = 0.0) -> float:
    """½·Σ w_i (z_i - (Hx)_i)² + μ·TV(x) with dense matrices; ``rounded`` rounds the corner of the root off."""
    weights = data_weights(estimate)
    down, across = lengths(x)
    dense = hadamard(len(x)).astype(np.float64)
    residual = np.where(weights > 0, estimate.coefficients, 0.0) - (dense @ x @ dense).ravel()
    variation = np.sqrt(down**2 + across**2 + rounded**2).sum()
    return float((weights * residual**2).sum() / 2 + tv_weight(weights, estimate.total, weight_factor) * variation)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(("n", "weight_factor"), [(8, 0.5), (8, 3.0), (16, 1.4)])
def test_no_general_optimizer_finds_a_lower_cost(mask: str, n: int, weight_factor: float) -> None:
    estimate, rounded = measured(n, mask), 1e-3
    weights = data_weights(estimate)
    z = np.where(weights > 0, estimate.coefficients, 0.0)
    mu, dense = tv_weight(weights, estimate.total, weight_factor), hadamard(n * n).astype(np.float64)

    def cost_and_slope(flat: Image) -> tuple[float, Image]:
        x = flat.reshape(n, n)
        down, across = lengths(x)
        length = np.sqrt(down**2 + across**2 + rounded**2)
        slope = (dense @ (weights * (dense @ flat - z))).reshape(n, n)
        for axis, step in enumerate((down, across)):
            slope += mu * (np.roll(step / length, 1, axis) - step / length)
        return cost(x, estimate, weight_factor, rounded), slope.ravel()

    found = minimize(
        cost_and_slope,
        np.full(n * n, z[0] / n**2),
        jac=True,
        bounds=[(0, None)] * n**2,
        method="L-BFGS-B",
        options={"maxiter": 3000, "maxfun": 6000, "ftol": 1e-14, "gtol": 1e-8},
    )
    ours = weighted_tv_image(estimate, weight_factor, iterations=400)
    least = cost(found.x.reshape(n, n), estimate, weight_factor)
    assert cost(ours, estimate, weight_factor) <= least * (1 + 2e-4)
    np.testing.assert_allclose(ours, found.x.reshape(n, n), atol=0.5)


@pytest.mark.parametrize("mask", MASKS)
def test_the_default_iterations_come_close_to_the_minimum(mask: str) -> None:
    estimate = measured(64, mask)
    short, long = weighted_tv_image(estimate), weighted_tv_image(estimate, iterations=600)
    assert cost(short, estimate, TYPICAL_WEIGHT) < 1.01 * cost(long, estimate, TYPICAL_WEIGHT)
    assert np.sqrt(np.mean((short - long) ** 2)) < 0.3 * np.sqrt(np.mean((long - sample(64)) ** 2))


@given(mask=st.sampled_from(MASKS), seed=st.integers(0, 1000), weight_factor=st.floats(0.0, 5.0))
@example(mask="uniform", seed=0, weight_factor=2.2250738585072014e-308)
@settings(deadline=None, max_examples=20)
def test_the_image_is_never_negative_and_never_costs_more_than_the_start(
    mask: str, seed: int, weight_factor: float
) -> None:
    estimate = measured(16, mask, seed)
    start = np.random.default_rng(seed).uniform(0, 100, (16, 16))
    image = weighted_tv_image(estimate, weight_factor, iterations=30, start=start)
    assert image.shape == (16, 16)
    assert image.dtype == np.float64
    assert image.min() >= 0
    assert cost(image, estimate, weight_factor) <= cost(start, estimate, weight_factor) * (1 + 1e-5)


@pytest.mark.parametrize("unit", [1e-9, 0.125, 1e7])
@pytest.mark.parametrize("mask", MASKS)
def test_another_unit_of_light_gives_the_same_image(unit: float, mask: str) -> None:
    """Light, a and √b in another unit: z as many times larger, v as many times squared."""
    one = measured(16, mask)
    other = Estimate(one.coefficients * unit, one.variance * unit**2, one.total * unit)
    np.testing.assert_allclose(
        weighted_tv_image(other), weighted_tv_image(one) * unit, rtol=1e-3, atol=1e-3 * unit * one.total / 256
    )


@pytest.mark.parametrize("variance", [1e-6, 0.0])
def test_all_pairs_and_hardly_any_noise_return_the_sample(variance: float) -> None:
    z = hadamard(256) @ sample(16).ravel()
    estimate = Estimate(z, np.full(256, variance), float(z[0]))
    np.testing.assert_allclose(weighted_tv_image(estimate), sample(16), atol=0.01)


def test_without_weight_the_taken_coefficients_are_fitted() -> None:
    estimate = measured(16, "binary")
    image = weighted_tv_image(estimate, 0.0, iterations=3000)
    taken = data_weights(estimate) > 0
    residual = (hadamard(256) @ image.ravel() - estimate.coefficients)[taken]
    assert np.abs(residual).max() < 0.1 * np.sqrt(estimate.variance[taken][1:].min())


@pytest.mark.parametrize("mask", MASKS)
def test_it_is_closer_to_the_sample_than_the_plain_inverse(mask: str) -> None:
    estimate = measured(64, mask)
    plain = (hadamard(64) @ np.nan_to_num(estimate.coefficients).reshape(64, 64) @ hadamard(64)) / 64**2
    ours = weighted_tv_image(estimate)
    assert np.mean((ours - sample(64)) ** 2) < np.mean((plain - sample(64)) ** 2) / 4


def test_a_good_start_saves_iterations() -> None:
    estimate = measured(64, "binary")
    best = weighted_tv_image(estimate, iterations=400)
    cold, warm = (weighted_tv_image(estimate, iterations=3, start=start) for start in (None, best))
    assert np.mean((warm - best) ** 2) < np.mean((cold - best) ** 2) / 10


def test_few_well_measured_coefficients_count_more() -> None:
    """A coefficient that is wrong by much, but measured badly, is overruled."""
    z = hadamard(64) @ sample(8).ravel()
    variance = np.full(64, 1.0)
    z[7] += 1000.0
    variance[7] = 1e8
    image = weighted_tv_image(Estimate(z, variance, float(z[0])), iterations=2000)
    assert np.sqrt(np.mean((image - sample(8)) ** 2)) < 1000 / 64 / 2


def test_weights_are_inverse_variances_and_coefficient_0_weighs_as_the_heaviest() -> None:
    variance = np.array([0.001, 2.0, np.inf, 4.0])
    estimate = Estimate(np.array([10.0, 1.0, np.nan, 2.0]), variance, 10.0)
    np.testing.assert_allclose(data_weights(estimate), [0.5, 0.5, 0.0, 0.25])


def test_a_variance_of_0_does_not_outweigh_everything() -> None:
    variance = np.array([1.0, 0.0, 4.0, 4.0, 4.0])
    weights = data_weights(Estimate(np.ones(5), variance, 1.0))
    assert weights[1] == pytest.approx(1000 / 4)


def test_the_weight_of_total_variation_follows_its_formula() -> None:
    weights = np.array([0.5, 0.5, 0.0, 0.25])
    root = 1.25**0.5
    assert tv_weight(weights, 1000.0, 2.0) == pytest.approx(2 * (4 / (1000 * root)) ** 0.3 * root)
    assert tv_weight(weights, 0.01, 2.0) == tv_weight(weights, -1.0, 2.0) == pytest.approx(2 * root)


def test_the_total_alone_gives_an_even_image() -> None:
    coefficients, variance = np.full(64, np.nan), np.full(64, np.inf)
    coefficients[0], variance[0] = 640.0, 3.0
    np.testing.assert_allclose(weighted_tv_image(Estimate(coefficients, variance, 640.0)), 10.0, rtol=1e-4)


def test_darkness_gives_a_dark_image() -> None:
    estimate = Estimate(np.zeros(64), np.full(64, 5.0), 0.0)
    np.testing.assert_array_equal(weighted_tv_image(estimate), 0.0)
    np.testing.assert_array_equal(weighted_tv_image(Estimate(np.zeros(64), np.zeros(64), 0.0)), 0.0)


def test_without_a_measurement_there_is_no_image() -> None:
    with pytest.raises(NothingMeasuredError, match="one pair at least"):
        weighted_tv_image(Estimate(np.full(16, np.nan), np.full(16, np.inf), float("nan")))


def test_a_side_that_is_no_power_of_two_is_refused() -> None:
    with pytest.raises(SideError):
        weighted_tv_image(Estimate(np.ones(36), np.ones(36), 1.0))
