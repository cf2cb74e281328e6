"""TV-W against a general convex solver on dense matrices, and the search for its weights."""

from __future__ import annotations

import numpy as np
import pytest
import pywt
from numpy.typing import NDArray
from scipy.linalg import hadamard
from scipy.optimize import minimize

from models.draws import bernoulli_draw
from models.estimators import Estimate
from models.grid_search import GridError
from models.hadamard import SideError
from models.masks import half_half, low_sequency
from models.metrics import psnr
from models.noise import NoiseModel
from models.tv_wavelet import LEVELS, NoValidationError, grid_search_tv_wavelet, tv_wavelet_image
from models.weighted_tv import NothingMeasuredError
from tests.models.test_weighted_tv import estimate_of, lengths, sample

Image = NDArray[np.float64]
REPEATS = 10


def measured(n: int, mask: Image, seed: int = 0) -> Estimate:
    return estimate_of(sample(n), bernoulli_draw(mask, REPEATS, seed), NoiseModel(0.5, 10.0), seed)


def wavelet_matrix(n: int, wavelet: str) -> Image:
    """W [N, N], column by column; levels as many as the side has room for."""
    levels = min(LEVELS, pywt.dwt_max_level(n, wavelet))
    columns = [
        pywt.coeffs_to_array(pywt.wavedec2(unit.reshape(n, n), wavelet, "periodization", levels))[0].ravel()
        for unit in np.eye(n * n)
    ]
    return np.array(columns).T


@pytest.mark.parametrize(
    ("wavelet", "tv_weight", "wavelet_weight"), [("haar", 0.5, 0.5), ("db2", 0.1, 1.0), ("db4", 1.0, 0.2)]
)
def test_no_general_optimizer_finds_a_lower_cost(wavelet: str, tv_weight: float, wavelet_weight: float) -> None:
    n, rounded = 16, 1e-3
    estimate = measured(n, half_half(n, 0.5, seed=1))
    taken = np.isfinite(estimate.variance)
    z, dense = np.where(taken, estimate.coefficients, 0.0), hadamard(n * n).astype(np.float64)
    noise = np.sqrt(estimate.variance[taken].sum()) / n**2
    bands = wavelet_matrix(n, wavelet)
    np.testing.assert_allclose(bands @ bands.T, np.eye(n * n), atol=1e-9)

    def cost_and_slope(flat: Image, rounded: float = rounded) -> tuple[float, Image]:
        down, across = lengths(flat.reshape(n, n))
        length = np.sqrt(down**2 + across**2 + rounded**2)
        size = np.sqrt((bands @ flat) ** 2 + rounded**2)
        residual = taken * (dense @ flat - z)
        value = (residual**2).sum() / (2 * n**2) + noise * (tv_weight * length.sum() + wavelet_weight * size.sum())
        if not rounded:
            return float(value), flat
        slope = dense @ residual / n**2 + noise * wavelet_weight * bands.T @ (bands @ flat / size)
        for axis, step in enumerate((down, across)):
            slope += noise * tv_weight * (np.roll(step / length, 1, axis) - step / length).ravel()
        return float(value), slope

    found = minimize(
        cost_and_slope,
        np.full(n * n, z[0] / n**2),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 3000, "maxfun": 6000, "ftol": 1e-14, "gtol": 1e-8},
    )
    ours = tv_wavelet_image(estimate, tv_weight, wavelet_weight, wavelet=wavelet, iterations=1500)
    assert cost_and_slope(ours.ravel(), 0.0)[0] <= cost_and_slope(found.x, 0.0)[0] * (1 + 2e-4)
    np.testing.assert_allclose(ours.ravel(), found.x, atol=0.5)


def test_the_default_iterations_come_close_to_the_minimum() -> None:
    estimate = measured(64, low_sequency(64, 0.5))
    short, long = (tv_wavelet_image(estimate, 0.5, 0.5, iterations=count) for count in (60, 800))
    assert abs(psnr(sample(64), short, 100.0) - psnr(sample(64), long, 100.0)) < 0.1


@pytest.mark.parametrize("unit", [1e-9, 0.125, 1e7])
def test_another_unit_of_light_gives_the_same_image(unit: float) -> None:
    one = measured(32, low_sequency(32, 0.5))
    other = Estimate(one.coefficients * unit, one.variance * unit**2, one.total * unit)
    np.testing.assert_allclose(
        tv_wavelet_image(other, 0.5, 0.5), tv_wavelet_image(one, 0.5, 0.5) * unit, rtol=1e-3, atol=0.01 * unit
    )


@pytest.mark.parametrize("variance", [1e-8, 0.0])
def test_all_pairs_and_hardly_any_noise_return_the_sample(variance: float) -> None:
    z = hadamard(1024) @ sample(32).ravel()
    estimate = Estimate(z, np.full(1024, variance), float(z[0]))
    np.testing.assert_allclose(tv_wavelet_image(estimate, 0.5, 0.5), sample(32), atol=1e-3)


def test_without_weights_it_is_the_plain_inverse() -> None:
    estimate = measured(16, low_sequency(16, 0.5))
    plain = hadamard(256) @ np.nan_to_num(estimate.coefficients) / 256
    np.testing.assert_allclose(tv_wavelet_image(estimate, 0.0, 0.0), plain.reshape(16, 16), atol=1e-3)


@pytest.mark.parametrize(("tv_weight", "wavelet_weight"), [(1.0, 0.0), (0.0, 1.0), (0.5, 0.5)])
def test_either_penalty_removes_noise(tv_weight: float, wavelet_weight: float) -> None:
    noise_std, rng = 10.0, np.random.default_rng(0)
    z = hadamard(4096) @ (sample(64) + rng.normal(0, noise_std, (64, 64))).ravel()
    estimate = Estimate(z, np.full(4096, noise_std**2 * 4096), float(z[0]))
    error = np.mean((tv_wavelet_image(estimate, tv_weight, wavelet_weight) - sample(64)) ** 2)
    assert error < noise_std**2 / 2


def test_the_search_finds_the_weights_of_highest_mean_psnr() -> None:
    mask, tv_weights, wavelet_weights = low_sequency(16, 0.5), [0.0, 0.5, 50.0], [0.0, 0.3]
    pairs = [(sample(16), measured(16, mask, seed)) for seed in range(2)]
    found = grid_search_tv_wavelet(pairs, tv_weights, wavelet_weights, data_range=100.0)
    expected = [
        [
            np.mean([psnr(truth, tv_wavelet_image(estimate, tv, wavelet), 100.0) for truth, estimate in pairs])
            for wavelet in wavelet_weights
        ]
        for tv in tv_weights
    ]
    np.testing.assert_allclose(found.mean_psnr, expected, rtol=1e-6)
    best = np.unravel_index(np.argmax(expected), (3, 2))
    assert (found.tv_weight, found.wavelet_weight) == (tv_weights[best[0]], wavelet_weights[best[1]])
    assert found.tv_weight == 0.5


def test_a_search_needs_images_and_a_grid() -> None:
    with pytest.raises(NoValidationError, match="one at least"):
        grid_search_tv_wavelet([], [0.1], [0.1], data_range=1.0)
    with pytest.raises(GridError):
        grid_search_tv_wavelet([(sample(8), measured(8, low_sequency(8, 0.5)))], [], [0.1], data_range=1.0)


def test_without_a_measurement_there_is_no_image() -> None:
    with pytest.raises(NothingMeasuredError, match="one pair at least"):
        tv_wavelet_image(Estimate(np.full(16, np.nan), np.full(16, np.inf), float("nan")), 0.1, 0.1)


def test_a_side_that_is_no_power_of_two_is_refused() -> None:
    with pytest.raises(SideError):
        tv_wavelet_image(Estimate(np.ones(36), np.ones(36), 1.0), 0.1, 0.1)
