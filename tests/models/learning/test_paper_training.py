"""The paper's task: its loss is that of its Eq. 7, on all of the image or through a window."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from models.learning.paper_training import PaperTask
from models.learning.paper_unet import PaperUNet
from models.learning.training import EpochReport
from models.masks import low_sequency, uniform
from tests.models.learning.tiny_training import GAIN, request_of, spots, trained


def test_a_patch_of_the_whole_side_is_the_whole_image() -> None:
    """The loss is then the mean squared error of the network on all of the plain inverse."""
    images = torch.from_numpy(spots(2, 16))
    torch.manual_seed(5)
    network = PaperUNet()
    start = torch.from_numpy(low_sequency(16, 0.25)).float()
    seen: list[torch.Tensor] = []
    network.register_forward_hook(lambda _, inputs, output: seen.extend([inputs[0].detach(), output.detach()]))
    losses = []
    for patch in (16, 8):
        task = PaperTask(network, start, learns=False, repeats=8, gain=GAIN, variance=0.0, patch=patch)
        torch.manual_seed(1)
        losses.append(float(task.loss(images, 0.0).detach()))
    (whole, found, part, _), typical = seen, 1e-3
    assert whole.shape == (2, 16, 16)
    assert part.shape == (2, 8, 8)
    assert losses[0] == pytest.approx(float(((found - images) ** 2).mean()) / typical, rel=1e-5)
    # The same draw, seen through a window.
    places = [(y, x) for y in range(9) for x in range(9) if torch.equal(whole[:, y : y + 8, x : x + 8], part)]
    assert len(places) == 1


def test_training_lowers_the_squared_error(tmp_path: Path) -> None:
    reports: list[EpochReport] = []
    request = request_of(
        kind="paper-unet", draw="bernoulli", gradient="none", gain=0.1, patch=16, training={"epochs": 8, "rate": 2e-3}
    )
    trained(tmp_path, request, images=spots(16, 16), on_epoch=reports.append)
    losses = [report.loss for report in reports]
    assert np.mean(losses[-3:]) < 0.7 * losses[0]


def test_the_mask_learns_only_where_it_shall() -> None:
    images = torch.from_numpy(spots(2, 16))
    for learns in (True, False):
        start = torch.from_numpy(uniform(16, 0.25)).float()
        task = PaperTask(PaperUNet(), start, learns=learns, repeats=8, gain=GAIN, variance=0.0, patch=16)
        task.loss(images, 0.9).backward()  # type: ignore[no-untyped-call]
        gradient = dict(task.module.named_parameters())["mask.logits"].grad
        assert (gradient is not None and bool((gradient != 0).any())) == learns
        assert task.may_stop(0.0)


def test_a_score_is_the_psnr_of_whole_images() -> None:
    """A network that changes nothing, all coefficients, next to no noise: the errors are those of the noise."""
    network = PaperUNet()
    torch.nn.init.zeros_(network.head.weight)
    torch.nn.init.zeros_(network.head.bias)  # type: ignore[arg-type]
    task = PaperTask(network, torch.ones(256), learns=False, repeats=10, gain=1e-3, variance=0.0, patch=8)
    images = torch.from_numpy(spots(6, 16))
    torch.manual_seed(0)
    totals = images.sum(dim=(1, 2)).numpy()
    # White noise of variance aT/(S·N) in every pixel.
    expected = -10 * np.log10(1e-3 * totals / (10 * 256))
    with torch.no_grad():
        score = task.scores(images)["validation_psnr_db"]
    assert score == pytest.approx(expected.mean(), abs=0.3)
