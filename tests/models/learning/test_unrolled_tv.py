"""Unrolled total variation against the problem that it solves, and its gradient against differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.learning.unrolled_tv import STEPS, unrolled_tv

FLOATS = NDArray[np.float64]


def noisy_step(n: int, seed: int) -> FLOATS:
    rng = np.random.default_rng(seed)
    image = np.zeros((n, n))
    image[:, n // 2 :] = 2.0
    return np.asarray(image + 0.3 * rng.standard_normal((n, n)))


def cost(x: FLOATS, image: FLOATS, weight: float) -> float:
    variation = 0.0
    n = len(x)
    for r in range(n):
        for c in range(n):
            down = x[r + 1, c] - x[r, c] if r + 1 < n else 0.0
            across = x[r, c + 1] - x[r, c] if c + 1 < n else 0.0
            variation += np.hypot(down, across)
    return float(0.5 * np.sum((x - image) ** 2) + weight * variation)


def solved(images: FLOATS, weights: list[float], steps: int) -> FLOATS:
    found = unrolled_tv(torch.from_numpy(images), torch.tensor(weights, dtype=torch.float64), steps)
    return np.asarray(found.numpy())


def test_with_many_steps_no_change_of_the_image_costs_less() -> None:
    images, weights = np.stack([noisy_step(6, 0), noisy_step(6, 1) - 0.4]), [0.3, 0.8]
    found = solved(images, weights, 3000)
    assert found.min() >= 0
    rng = np.random.default_rng(2)
    for x, image, weight in zip(found, images, weights, strict=True):
        least = cost(x, image, weight)
        for size in (1e-1, 1e-2, 1e-3):
            for _ in range(60):
                other = np.maximum(x + size * rng.standard_normal(x.shape) * (rng.random(x.shape) < 0.3), 0)
                assert cost(other, image, weight) >= least - 1e-9
        for towards in (image, np.full_like(image, image.mean()), np.zeros_like(image)):
            assert cost(x + 1e-3 * (np.maximum(towards, 0) - x), image, weight) >= least - 1e-9


def test_a_few_steps_are_most_of_the_way() -> None:
    image = noisy_step(16, 3)
    begin, few, end = (
        cost(x, image, 0.25) for x in (image.clip(0), *(solved(image[None], [0.25], k)[0] for k in (STEPS, 3000)))
    )
    assert few - end < 0.05 * (begin - end)


def test_every_image_has_its_own_weight_and_without_weight_only_darkness_below_0_goes() -> None:
    images = np.stack([noisy_step(8, 4)] * 2)
    found = solved(images, [0.0, 50.0], 2000)
    np.testing.assert_allclose(found[0], images[0].clip(0))
    np.testing.assert_allclose(found[1], images[1].mean(), rtol=1e-3)


def test_gradients_are_those_of_differences() -> None:
    image = torch.from_numpy(noisy_step(4, 5) + 1.0)[None].requires_grad_()
    weight = torch.tensor([0.2], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, w: unrolled_tv(x, w, 5), (image, weight), atol=1e-5)


@pytest.mark.parametrize("level", [0.0, 3.0])
def test_even_images_stay_and_have_finite_gradients(level: float) -> None:
    image = torch.full((1, 8, 8), level, requires_grad=True)
    weight = torch.tensor([0.0], requires_grad=True)
    found = unrolled_tv(image, weight)
    torch.testing.assert_close(found, image)
    found.sum().backward()  # type: ignore[no-untyped-call]
    for tensor in (image, weight):
        assert tensor.grad is not None
        assert bool(torch.isfinite(tensor.grad).all())
