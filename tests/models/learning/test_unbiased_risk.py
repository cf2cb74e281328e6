"""Stein's risk tells the squared error without knowing the truth: closed forms, and averages over many draws."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.linalg import hadamard

from models.learning import unbiased_risk as module
from models.learning.unbiased_risk import unbiased_risk
from models.learning.unrolled_tv import unrolled_tv
from tests.models.learning.tiny_training import spots

FLOATS = NDArray[np.float64]
Reconstruct = Callable[[torch.Tensor], torch.Tensor]


def dense(n: int) -> torch.Tensor:
    return torch.from_numpy(np.kron(hadamard(n), hadamard(n)).astype(np.float64))


def image_of(coefficients: torch.Tensor) -> torch.Tensor:
    """Hz/N of rows z [B, N], by a dense matrix."""
    size = coefficients.shape[1]
    n = round(size**0.5)
    return (coefficients @ dense(n).to(coefficients.dtype) / size).reshape(-1, n, n)


def coefficients_of(image: torch.Tensor) -> torch.Tensor:
    return image.flatten(1) @ dense(image.shape[-1]).to(image.dtype)


def measured(n: int, batch: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """True coefficients [N], z [B, N], variances [N], inf where untaken, and precisions [B, N], all float64."""
    rng = np.random.default_rng(seed)
    size = n * n
    truth = rng.standard_normal(size) * 3 / (1 + np.arange(size) / 8)
    truth[0] = 40.0
    variance = np.where(rng.random(size) < 0.7, rng.choice([0.2, 1.0, 3.0], size), np.inf)
    taken = np.isfinite(variance)
    noise = np.sqrt(np.where(taken, variance, 0.0)) * rng.standard_normal((batch, size))
    noise[:, 0] = 0.0
    z = np.where(taken, truth + noise, 0.0)
    z[:, 0] = truth[0]
    precision = np.broadcast_to(np.where(taken, 1 / variance, 0.0), z.shape).copy()
    return tuple(torch.from_numpy(each) for each in (truth, z, variance, precision))  # type: ignore[return-value]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def risk_of(reconstruct: Reconstruct, z: torch.Tensor, precision: torch.Tensor, seed: int = 0) -> torch.Tensor:
    return unbiased_risk(reconstruct, reconstruct(z), z, precision, generator(seed))


def counted(variance: torch.Tensor) -> torch.Tensor:
    """Measured, and not the total light, bool [N]."""
    inside = torch.isfinite(variance)
    inside[0] = False
    return inside


@pytest.mark.parametrize("n", [4, 8])
def test_of_a_linear_shrinkage_it_is_the_closed_form(n: int) -> None:
    """Σ (1 - w)²·z² - v + 2·w·v over N²; one direction b has w·v·b² in the place of the last."""
    _, z, variance, precision = measured(n, 3)
    weights = torch.from_numpy(np.random.default_rng(1).random(n * n))
    inside = counted(variance)
    kept, v, w = z[:, inside], variance[inside], weights[inside]
    direction = torch.randn(z.shape, generator=generator(5), dtype=z.dtype)[:, inside]
    found = risk_of(lambda each: image_of(weights * each), z, precision, seed=5)
    expected = (((1 - w) * kept) ** 2 - v + 2 * w * v * direction**2).sum(1) / n**4
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    many = risk_of(lambda each: image_of(weights * each), z[:1].expand(4000, -1), precision[:1].expand(4000, -1))
    closed = float((((1 - w) * kept[0]) ** 2 - v + 2 * w * v).sum() / n**4)
    assert float(many.mean()) == pytest.approx(closed, abs=5 * float(many.std()) / 4000**0.5)
    assert float(many.std()) / 4000**0.5 < 0.03 * abs(closed)


def shrinking(z: torch.Tensor) -> torch.Tensor:
    weights = 1 / (1 + torch.arange(z.shape[1], dtype=z.dtype) / 10)
    return image_of(weights * z)


def soft_in_coefficients(z: torch.Tensor) -> torch.Tensor:
    return image_of(torch.nn.functional.softshrink(z, 1.2))


def soft_in_pixels(z: torch.Tensor) -> torch.Tensor:
    """Of which every pixel depends on all coefficients."""
    return torch.nn.functional.softshrink(image_of(z), 0.3)


@pytest.mark.parametrize("n", [8, 16])
@pytest.mark.parametrize("reconstruct", [shrinking, soft_in_coefficients, soft_in_pixels])
def test_over_many_draws_it_is_the_squared_error(n: int, reconstruct: Reconstruct) -> None:
    draws = 4000
    truth, z, variance, precision = measured(n, draws, seed=n)
    inside = counted(variance)
    error = ((coefficients_of(reconstruct(z)) - truth)[:, inside] ** 2).sum(1) / n**4
    surplus = risk_of(reconstruct, z, precision) - error
    standard_error = float(surplus.std()) / draws**0.5
    assert abs(float(surplus.mean())) < 4 * standard_error
    assert standard_error < 0.03 * float(error.mean()), "it would not be noticed"


def test_a_step_as_large_as_the_noise_would_mistake_total_variation_for_something_linear() -> None:
    """On sparse images, whose ground total variation makes flat: why the step is small."""
    n, draws = 16, 300
    image = np.asarray(spots(1, n, seed=3)[0], dtype=np.float64) ** 8
    truth = coefficients_of(torch.from_numpy(image)[None])
    deviation = 0.1 * n
    noise = torch.randn((draws, n * n), generator=generator(1), dtype=torch.float64) * deviation
    noise[:, 0] = 0.0
    z = truth + noise
    precision = torch.full_like(z, deviation**-2)

    def smoothed(each: torch.Tensor) -> torch.Tensor:
        return unrolled_tv(image_of(each), torch.full((len(each),), 0.1, dtype=torch.float64), steps=30)

    error = float(((smoothed(z) - torch.from_numpy(image)) ** 2).mean())
    decibels = []
    for step in (module.STEP, 1.0):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "STEP", step)
            decibels.append(10 * np.log10(float(risk_of(smoothed, z, precision).mean()) / error))
    assert abs(decibels[0]) < 0.4
    assert decibels[1] > 1.5


def test_what_was_not_measured_and_the_total_light_do_not_count() -> None:
    _, z, variance, precision = measured(8, 2)
    expected = risk_of(shrinking, z, precision)
    elsewhere = torch.zeros(64, dtype=z.dtype)
    elsewhere[~counted(variance)] = 1e3
    assert 0 < int((elsewhere > 0).sum()) < 64
    found = risk_of(lambda each: shrinking(each) + image_of(elsewhere[None]), z, precision)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_array_equal(precision[:, 0] > 0, [True, True])


def test_nothing_measured_is_no_risk() -> None:
    z = torch.zeros(1, 16)
    z[0, 0] = 5.0
    assert float(risk_of(shrinking, z, torch.zeros(1, 16))) == 0


def test_the_same_direction_gives_the_same_number() -> None:
    _, z, _, precision = measured(8, 2)
    first, again, other = (risk_of(soft_in_pixels, z, precision, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("factor", [1e-3, 1e4])
def test_it_is_in_the_squared_units_of_the_light(factor: float) -> None:
    """Z → cz, v → c²v gives c² times the risk, of an estimator that goes with the light."""
    _, z, _, precision = measured(8, 2)
    z, precision = z.float(), precision.float()
    expected = factor**2 * risk_of(shrinking, z, precision)
    np.testing.assert_allclose(risk_of(shrinking, factor * z, precision / factor**2), expected, rtol=1e-3)


def test_images_of_a_batch_do_not_know_of_each_other() -> None:
    _, z, _, precision = measured(4, 3)
    together = risk_of(shrinking, z, precision)
    changed = z.clone()
    changed[1:, 3] += 5.0
    assert float(risk_of(shrinking, changed, precision)[0]) == pytest.approx(float(together[0]))
