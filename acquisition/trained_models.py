"""The trained models that an acquisition file asks for: found, held against the file, and put on record."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from acquisition.config import AcquisitionConfig, LearnedMask
from acquisition.problems import AcquisitionFileError, Problem
from models.learning.model_card import ModelCard, ModelFileError, read_card
from models.learning.model_file import TrainedModel, card_path, load_model
from models.learning.shipped_models import ModelNotFoundError, find_model, lasting_name, shipped_models
from models.priors import Prior

# Of α; masks are held to theirs more strictly than that.
_SAME_ALPHA = 1e-6


@dataclass(frozen=True)
class NamedModel:
    """A trained model, and what finds it again from any working folder: a shipped one's name, or an absolute path."""

    name: str
    model: TrainedModel

    @property
    def card(self) -> ModelCard:
        """The model's card."""
        return self.model.card

    def on_record(self) -> dict[str, Any]:
        """Name, digest and the whole card, JSON-able."""
        return {"model": self.name, "sha256": self.card.digest, "card": self.card.model_dump(mode="json")}


@dataclass(frozen=True)
class TrainedModels:
    """sensing: whose mask is played; network: that makes the image; None where the file asks for none."""

    sensing: NamedModel | None
    network: NamedModel | None

    @property
    def prior(self) -> Prior | None:
        """The prior at unit total light that the models were trained with, the mask's first; None without a model."""
        named = self.sensing or self.network
        return None if named is None else named.model.prior

    def on_record(self) -> dict[str, Any]:
        """Both as JSON-able facts."""
        each = {"sensing": self.sensing, "network": self.network}
        return {use: None if named is None else named.on_record() for use, named in each.items()}

    def warnings(self, config: AcquisitionConfig, peak: float | None, background: float) -> Iterator[str]:
        """Where the acquisition leaves what a model was trained over.

        peak: of the image's light, None if unknown; background: B, whose shot noise counts as signal-independent.
        """
        sensing, a, background = config.sensing, config.noise.gain, max(background, 0.0)
        b = config.noise.variance + a * background
        light = None if peak is None or not peak > 0 else peak
        told = set()
        for named in (self.sensing, self.network):
            if named is None or named.card.digest in told:
                continue
            told.add(named.card.digest)
            outside = named.card.outside_training(
                alpha=sensing.alpha,
                repeats=sensing.repeats,
                gain=None if light is None else a / light,
                variance=None if light is None else b / light**2,
            )
            said = "; ".join(outside)
            if said:
                if background > 0 and "b = " in said:
                    said += f"; b holds the shot noise of the background, {background:.4g} detector units"
                yield (
                    f"the model {named.name} is used beyond what it was trained over, where its mask, its image and "
                    f"its uncertainty are not proven: {said}"
                )
        if self.sensing is not None and self.sensing.card.draw != sensing.draw:
            yield (
                f"the mask of the model {self.sensing.name} was learned for {self.sensing.card.draw} draws, and "
                f"sensing.draw is {sensing.draw}: it is not proven to be a good one there"
            )


def trained_models(config: AcquisitionConfig) -> TrainedModels:
    """The models of an acquisition file. Raises AcquisitionFileError where one cannot be used with it."""
    sensing = _sensing_model(config)
    return TrainedModels(sensing, _network_model(config, sensing))


def network_model(config: AcquisitionConfig) -> NamedModel | None:
    """The model that makes the image alone; None for methods without one. Raises AcquisitionFileError."""
    if config.reconstruction.method != "network":
        return None
    mask_counts = config.reconstruction.model is None
    return _network_model(config, _sensing_model(config) if mask_counts else None)


def _sensing_model(config: AcquisitionConfig) -> NamedModel | None:
    key, mask = "sensing.mask.model", config.sensing.mask
    if not isinstance(mask, LearnedMask) or mask.model is None:
        return None
    named = _named(mask.model, key)
    _must_have_side(config, named, key)
    learned_for = named.card.alpha
    if not math.isclose(config.sensing.alpha, learned_for, rel_tol=_SAME_ALPHA):
        raise _refused(
            "sensing.alpha",
            f"{config.sensing.alpha:g} beside the mask of {named.name}, learned for {learned_for:g}",
            f"{learned_for:g}, or another model ({_shipped()})",
        )
    return named


def _network_model(config: AcquisitionConfig, sensing: NamedModel | None) -> NamedModel | None:
    key, asked = "reconstruction.model", config.reconstruction.model
    if config.reconstruction.method != "network":
        return None
    if asked is None and sensing is not None:
        named = sensing
    else:
        named = _named(_shipped_for(config) if asked is None else asked, key)
        _must_have_side(config, named, key)
    if named.card.kind != "compact":
        raise _refused(
            key, f"{named.name}, a network of kind {named.card.kind} without uncertainty", "a model of kind compact"
        )
    return named


def _shipped_for(config: AcquisitionConfig) -> str:
    """Name of the shipped model of the file's side, of several that of the nearest α."""
    cards = {name: read_card(card_path(path)) for name, path in shipped_models().items()}
    fitting = {
        name: abs(math.log(card.alpha / config.sensing.alpha))
        for name, card in cards.items()
        if card.n == config.sensing.side and card.kind == "compact"
    }
    if fitting:
        return min(fitting, key=lambda name: fitting[name])
    raise _refused(
        "reconstruction.model",
        f"nothing, and no shipped model is for side {config.sensing.side} ({_shipped()})",
        "a model for this side, or reconstruction.method wiener-tv or weighted-tv, which need none",
    )


def _named(asked: str, key: str) -> NamedModel:
    try:
        return NamedModel(lasting_name(asked), load_model(find_model(asked)))
    except (ModelNotFoundError, ModelFileError) as error:
        raise _refused(key, f"'{asked}': {error}", f"a trained model ({_shipped()})") from error


def _must_have_side(config: AcquisitionConfig, named: NamedModel, key: str) -> None:
    if named.card.n != config.sensing.side:
        raise _refused(
            key,
            f"{named.name}, for side {named.card.n}, beside sensing.side {config.sensing.side}",
            f"a model for side {config.sensing.side} ({_shipped()})",
        )


def _shipped() -> str:
    return f"shipped: {', '.join(shipped_models()) or 'none'}"


def _refused(key: str, found: str, allowed: str) -> AcquisitionFileError:
    return AcquisitionFileError("the acquisition file", [Problem(key, found, allowed)])
