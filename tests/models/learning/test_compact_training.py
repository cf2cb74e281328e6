"""The compact network's task: when its mask learns, what it is scored by, and that training lowers its loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.learning.compact_network import CompactNetwork
from models.learning.compact_training import CompactTask, Sensing
from models.learning.conditions import NoiseRange
from models.learning.train_sensing import Gradient
from models.learning.training_prior import training_prior_variance
from models.masks import uniform, water_filling
from tests.models.learning.tiny_model import ARCHITECTURE
from tests.models.learning.tiny_training import GAIN, spots

IMAGES = spots(8, 16)
PRIOR = training_prior_variance(IMAGES)


def task_of(gradient: Gradient, *, alpha: float = 0.25, gain: float = GAIN) -> CompactTask:
    torch.manual_seed(0)
    start = torch.from_numpy(water_filling(PRIOR, alpha, 8, 0.01)).float()
    return CompactTask(
        CompactNetwork(ARCHITECTURE),
        start,
        torch.from_numpy(PRIOR).float(),
        Sensing(8, "systematic", gradient, 0.5),
        NoiseRange(gain, 0.0),
        [torch.from_numpy(uniform(16, alpha)).float()],
    )


def mask_gradients(task: CompactTask, progress: float, steps: int = 30) -> int:
    """In how many of some steps the mask gets a gradient that is not 0."""
    torch.manual_seed(1)
    logits = dict(task.module.named_parameters())["mask.logits"]
    count = 0
    for _ in range(steps):
        task.module.zero_grad(set_to_none=True)
        task.loss(torch.from_numpy(IMAGES[:2]), progress).backward()  # type: ignore[no-untyped-call]
        count += logits.grad is not None and bool((logits.grad != 0).any())
    return count


@pytest.mark.parametrize("gradient", ["relaxed", "gumbel"])
def test_three_steps_of_four_are_the_mask_s_own_while_it_learns_and_none_after(gradient: Gradient) -> None:
    task = task_of(gradient)
    assert 15 <= mask_gradients(task, 0.1) <= 29
    assert mask_gradients(task, 0.6) == 0
    assert not task.may_stop(0.49)
    assert task.may_stop(0.5)


def test_a_mask_without_a_gradient_never_learns() -> None:
    task = task_of("none")
    assert mask_gradients(task, 0.1) == 0
    assert task.may_stop(0.0)
    np.testing.assert_allclose(task.mask().numpy(), water_filling(PRIOR, 0.25, 8, 0.01), rtol=1e-6)


def test_training_lowers_the_loss_under_the_same_draws() -> None:
    task = task_of("none")
    images = torch.from_numpy(IMAGES)

    def loss() -> float:
        total = 0.0
        for seed in range(20):
            torch.manual_seed(seed)
            with torch.no_grad():
                total += float(task.loss(images, 0.9))
        return total / 20

    before = loss()
    optimizer = torch.optim.Adam(task.network.parameters(), lr=5e-3)
    for step in range(60):
        torch.manual_seed(1000 + step)
        optimizer.zero_grad()
        task.loss(images, 0.9).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert loss() < before - 0.1


def test_next_to_no_noise_and_every_coefficient_give_the_image_itself() -> None:
    task = task_of("none", alpha=1.0, gain=1e-9)
    with torch.no_grad():
        assert task.scores(torch.from_numpy(IMAGES))["validation_psnr_db"] > 60


def test_more_noise_and_fewer_coefficients_give_a_worse_score() -> None:
    images = torch.from_numpy(IMAGES)
    scores = []
    for alpha, gain in ((0.5, GAIN), (0.1, GAIN), (0.1, 50 * GAIN)):
        torch.manual_seed(0)
        with torch.no_grad():
            scores.append(task_of("none", alpha=alpha, gain=gain).scores(images)["validation_psnr_db"])
    assert scores[0] > scores[1] + 1 > scores[2] + 2
