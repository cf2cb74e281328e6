"""A trained model small enough for tests: real networks, real files, few numbers."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.learning.compact_network import CompactArchitecture, CompactNetwork
from models.learning.model_card import DataSource, ModelCard, TrainedOver, plain_numbers
from models.learning.model_file import TrainedModel, save_model, unit_prior
from models.learning.paper_unet import PaperUNet
from models.learning.uncertainty import UncertaintyCalibration
from models.masks import water_filling
from models.priors import power_law_prior

ARCHITECTURE = CompactArchitecture(channels=(4, 6), unshuffle=2, bands=4)


def tiny_model(n: int = 8, alpha: float = 0.5, *, seed: int = 0, **changes: Any) -> TrainedModel:
    """An untrained compact network with random weights; ``changes`` go into the card."""
    prior = unit_prior(power_law_prior(n, 1.0).variance.astype(np.float32).astype(np.float64))
    mask = water_filling(prior.variance, alpha, 50, 0.01).astype(np.float32).astype(np.float64)
    card = {
        "kind": "compact",
        "n": n,
        "alpha": alpha,
        "repeats": 50,
        "draw": "systematic",
        "trained_over": TrainedOver(
            gain=(1e-4, 0.05), variance=(0.0, 0.1), alpha=(alpha / 2, 2 * alpha), repeats=(1, 100)
        ),
        "data": (DataSource(name="made up", licence="CC0", attribution="nobody", crops=3),),
        "metrics": {"validation_psnr": 30.5},
        "versions": {"hadascope": "0.1.0", "torch": "2.13.0", "numpy": "2.1", "python": "3.11"},
        "command": "hadascope train sensing made-up",
        "seed": seed,
        "created": date(2026, 11, 21),
        "architecture": plain_numbers(ARCHITECTURE),
        "uncertainty": plain_numbers(UncertaintyCalibration(levels=(0.0, 2.0, 5.0), factors=(0.8, 1.0, 1.3))),
        **changes,
    }
    return TrainedModel(ModelCard.model_validate(card), mask, prior, random_weights(seed))


def tiny_paper_model(mask: NDArray[np.float64], alpha: float, *, seed: int = 0) -> TrainedModel:
    """An untrained U-Net of the paper, for a mask [N]."""
    model = tiny_model(round(len(mask) ** 0.5), alpha, seed=seed, kind="paper-unet", draw="bernoulli", architecture={})
    torch.manual_seed(seed)
    weights = {name: value.numpy() for name, value in PaperUNet().state_dict().items()}
    return TrainedModel(model.card, mask, model.prior, weights)


def random_weights(seed: int) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    torch.manual_seed(seed)
    state = CompactNetwork(ARCHITECTURE).state_dict()
    return {name: (0.3 * torch.randn_like(value)).numpy() for name, value in state.items()}


def saved(folder: Path, name: str = "tiny-8-0.5", **changes: Any) -> Path:
    """The same as files; path without a suffix, its name with a dot."""
    save_model(folder / name, tiny_model(**changes))
    return folder / name
