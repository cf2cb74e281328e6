"""The proximal operator of total variation against scikit-image, the duality gap and its own definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from skimage.restoration import denoise_tv_chambolle

from models.tv_proximal import TotalVariationProximal, float_type_for, total_variation


def noisy(shape: tuple[int, int] = (32, 32), seed: int = 0) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    image = np.zeros(shape)
    image[shape[0] // 4 : shape[0] // 2, : shape[1] // 2] = 4.0
    return image + rng.normal(0, 1, shape)


def proximal_of(
    image: NDArray[np.float64], weight: float, iterations: int, *, nonnegative: bool = False
) -> NDArray[np.float64]:
    tensor = torch.from_numpy(image)
    operator = TotalVariationProximal(tensor, nonnegative=nonnegative)
    return operator(tensor, weight, iterations, torch.empty_like(tensor)).numpy()


def test_total_variation_is_the_length_of_all_steps() -> None:
    image = np.zeros((4, 5))
    image[1:, 2:] = 3.0
    # Three steps down, three across, and none twice: at the corner the way is diagonal.
    down, across = 3, 3
    assert total_variation(image) == pytest.approx(3.0 * (down + across))
    ramp = np.add.outer(np.arange(4.0), np.arange(5.0))
    assert total_variation(ramp) == pytest.approx(3 * 4 * 2**0.5 + 3 + 4)


@pytest.mark.parametrize("shape", [(32, 32), (16, 40)])
@pytest.mark.parametrize("weight", [0.2, 0.7, 1.5])
def test_it_agrees_with_scikit_image(shape: tuple[int, int], weight: float) -> None:
    theirs = denoise_tv_chambolle(noisy(shape), weight=weight, eps=0.0, max_num_iter=8000)
    np.testing.assert_allclose(proximal_of(noisy(shape), weight, 3000), theirs, atol=5e-3)


@pytest.mark.parametrize("weight", [0.3, 1.5])
def test_with_a_lower_bound_no_general_optimizer_finds_a_lower_cost(weight: float) -> None:
    """Minimum of ½Σ(x - image)² + weight·TV(x), x ≥ 0, by L-BFGS-B with the root's corner rounded off."""
    image = noisy((8, 8))
    rounded = 1e-6

    def cost(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        x = flat.reshape(8, 8)
        down, across = np.zeros((8, 8)), np.zeros((8, 8))
        down[:-1], across[:, :-1] = np.diff(x, axis=0), np.diff(x, axis=1)
        length = np.sqrt(down**2 + across**2 + rounded**2)
        slope = x - image
        for axis, step in enumerate((down, across)):
            slope += weight * (np.roll(step / length, 1, axis) - step / length)
        return float(((x - image) ** 2).sum() / 2 + weight * length.sum()), slope.ravel()

    found = minimize(
        cost,
        np.maximum(image, 0.5).ravel(),
        jac=True,
        bounds=[(0, None)] * 64,
        method="L-BFGS-B",
        options={"maxiter": 5000, "maxfun": 20_000, "ftol": 1e-15, "gtol": 1e-9},
    )
    ours = proximal_of(image, weight, 3000, nonnegative=True)
    assert ours.min() >= 0
    assert cost(ours.ravel())[0] <= found.fun * (1 + 1e-6) + 64 * weight * rounded


def test_without_weight_only_the_bound_is_left() -> None:
    np.testing.assert_array_equal(proximal_of(noisy(), 0.0, 10), noisy())
    np.testing.assert_array_equal(proximal_of(noisy(), 0.0, 10, nonnegative=True), np.maximum(noisy(), 0))


def test_a_huge_weight_leaves_the_mean() -> None:
    np.testing.assert_allclose(proximal_of(noisy(), 1e4, 4000), noisy().mean(), atol=1e-2)


def test_the_next_call_starts_where_the_last_one_ended() -> None:
    image = torch.from_numpy(noisy())
    operator, out = TotalVariationProximal(image, nonnegative=False), torch.empty_like(image)
    best = torch.from_numpy(proximal_of(noisy(), 0.7, 3000))
    errors = [float(torch.dist(operator(image, 0.7, 5, out), best)) for _ in range(8)]
    assert errors[-1] < errors[0] / 5


def test_the_image_is_left_as_it_was() -> None:
    image = torch.from_numpy(noisy())
    TotalVariationProximal(image, nonnegative=True)(image, 0.5, 5, torch.empty_like(image))
    np.testing.assert_array_equal(image.numpy(), noisy())


def test_single_precision_serves_where_its_rounding_does_not_matter() -> None:
    assert float_type_for(np.array([[0.0, 9e3]])) == torch.float32
    assert float_type_for(np.array([[0.0, -2e4]])) == torch.float64
