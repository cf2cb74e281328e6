"""A model's network, ready to make images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from models.estimators import Estimate
from models.learning.compact_network import CompactArchitecture, CompactNetwork
from models.learning.model_card import ModelFileError, PlainValue
from models.learning.model_file import TrainedModel
from models.learning.network_image import NetworkImage, network_image
from models.learning.uncertainty import UncertaintyCalibration
from models.priors import Prior


@dataclass(frozen=True)
class TrainedNetwork:
    """A compact network with the prior it was trained with, at unit total light, and its calibrated uncertainty."""

    network: CompactNetwork
    prior: Prior
    calibration: UncertaintyCalibration

    def image(self, estimate: Estimate) -> NetworkImage:
        """The image of an estimate in the light's own units, its uncertainty, and its predicted error."""
        return network_image(self.network, estimate, self.prior, self.calibration)


def trained_network(model: TrainedModel) -> TrainedNetwork:
    """The network of a model. Raises ModelFileError where its weights are not those of the architecture on its card."""
    card = model.card
    if card.kind != "compact":
        raise ModelFileError(
            f"found a model of kind {card.kind}, which says nothing of its own uncertainty; expected a compact one"
        )
    network = CompactNetwork(_made(CompactArchitecture, card.architecture, "architecture"))
    _load(network, model)
    network.eval().requires_grad_(requires_grad=False)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return TrainedNetwork(network, model.prior, _made(UncertaintyCalibration, card.uncertainty, "uncertainty"))


def _load(network: torch.nn.Module, model: TrainedModel) -> None:
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in model.weights.items()}
    different = sorted(name for name in {*expected, *found} if expected.get(name) != found.get(name))
    if different:
        name = different[0]
        raise ModelFileError(
            f"the weights are not those of the architecture on the card: {len(different)} tensors differ, the first "
            f"{name}: found {_said(found.get(name))}; expected {_said(expected.get(name))}"
        )
    weights = {name: torch.from_numpy(value.astype(np.float32)) for name, value in model.weights.items()}
    network.load_state_dict(weights)


def _said(shape: tuple[int, ...] | None) -> str:
    return "none" if shape is None else f"shape {list(shape)}"


def _made(kind: Any, numbers: dict[str, PlainValue], what: str) -> Any:
    try:
        return kind(**numbers)
    except (TypeError, ValueError) as error:
        raise ModelFileError(f"the card's {what} cannot be used: {error}; found {sorted(numbers)}") from error
