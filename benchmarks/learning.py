"""How long a network's image of 256 × 256 takes, and an epoch of its training, on two threads."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.row import Row
from benchmarks.timing import best_of
from models.draws import systematic_draw
from models.learning.augmentation import turned
from models.learning.compact_network import CompactNetwork
from models.learning.compact_training import CompactTask, Sensing
from models.learning.conditions import NoiseRange
from models.learning.evaluation import simulated_estimate
from models.learning.model_file import unit_prior
from models.learning.network_image import network_image
from models.learning.paper_unet import PaperUNet
from models.learning.precision import autocast
from models.learning.uncertainty import UncertaintyCalibration
from models.masks import uniform
from models.noise import NoiseModel
from models.priors import power_law_prior
from sim_devices.sample import fluorescent_cells

SIDE, REPEATS, ALPHA, GAIN, THREADS = 256, 50, 0.25, 0.0139, 2
REFRESH_WANTED_MS, EPOCH_WANTED_S = 50.0, 60.0
CROPS = 734
_STEPS = 4


def rows() -> list[Row]:
    """The network's image against the wanted time and the paper's U-Net, and an epoch of 734 crops."""
    threads_before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        return [*_image_rows(), *_epoch_rows()]
    finally:
        torch.set_num_threads(threads_before)


def _image_rows() -> list[Row]:
    image = fluorescent_cells(SIDE, 0)
    image /= image.max()
    counts = systematic_draw(uniform(SIDE, ALPHA), REPEATS, 0)
    estimate = simulated_estimate(image, counts, NoiseModel(GAIN, 0.0), np.random.default_rng(0))
    prior = unit_prior(power_law_prior(SIDE, 1.0).variance)
    network, unet = CompactNetwork().eval(), PaperUNet().eval()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    plain = torch.from_numpy(image.astype(np.float32))[None]

    def paper() -> torch.Tensor:
        with torch.inference_mode(), autocast(torch.device("cpu")):
            found: torch.Tensor = unet(plain)
        return found

    network_s, paper_s = best_of(
        [lambda: network_image(network, estimate, prior, UncertaintyCalibration()), paper], 9, rounds=3
    )
    of = f"of {SIDE}×{SIDE}, {THREADS} threads"
    return [
        Row(
            f"network's image, with uncertainty, {of}",
            f"{network_s * 1e3:.3g} ms",
            f"limit {REFRESH_WANTED_MS:g} ms",
            network_s * 1e3 / REFRESH_WANTED_MS,
            "at most 1",
        ),
        Row(
            f"network's image {of}",
            f"{network_s * 1e3:.3g} ms",
            f"the paper's U-Net {paper_s * 1e3:.3g} ms",
            paper_s / network_s,
            "comparison",
        ),
    ]


def _epoch_rows() -> list[Row]:
    batch = torch.from_numpy(np.stack([fluorescent_cells(SIDE, seed) for seed in range(8)]).astype(np.float32))
    batch /= batch.amax(dim=(1, 2), keepdim=True)
    mask = torch.from_numpy(uniform(SIDE, ALPHA)).float()
    prior_variance = torch.from_numpy(power_law_prior(SIDE, 1.0).variance).float()
    sensing = Sensing(REPEATS, "systematic", "relaxed", mask_share=0.4)
    network = CompactNetwork().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    task = CompactTask(network, mask, prior_variance, sensing, NoiseRange(GAIN, 0.0), [mask])
    optimizer = torch.optim.Adam(task.module.parameters())

    def epoch_steps(progress: float) -> None:
        for step in range(_STEPS):
            optimizer.zero_grad(set_to_none=True)
            task.loss(turned(batch, step), progress).backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    learning_s, settled_s = best_of([lambda: epoch_steps(0.0), lambda: epoch_steps(1.0)], 3, rounds=2)
    rows = []
    for what, took in (("network and mask learn", learning_s), ("the network learns", settled_s)):
        epoch_s = took / (_STEPS * len(batch)) * CROPS
        rows.append(
            Row(
                f"epoch of {CROPS} crops {SIDE}×{SIDE}, {what}, {THREADS} threads",
                f"{epoch_s:.3g} s",
                f"limit {EPOCH_WANTED_S:g} s",
                epoch_s / EPOCH_WANTED_S,
                "at most 1",
            )
        )
    return rows
