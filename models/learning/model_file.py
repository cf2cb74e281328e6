"""A trained model as two files beside each other: NAME.safetensors, which holds numbers only, and NAME.json, its card.

Beside the network's weights lie the mask P* it was learned with ("sensing.mask") and the prior variances of the images
it was trained on, at unit total light ("prior.variance").
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.learning.model_card import ModelCard, ModelFileError, read_card, write_card
from models.masks import MaskError, validate_mask
from models.priors import Prior

if TYPE_CHECKING:
    from models.learning.trained_network import TrainedNetwork

MASK, PRIOR_VARIANCE = "sensing.mask", "prior.variance"
SUFFIXES = (".json", ".safetensors")


@dataclass(frozen=True)
class TrainedModel:
    """A card and what it describes.

    mask: P* float64 [N]; prior: at unit total light, its means 0 but for T; weights: of the network, by name, float32
    (float16 where they were saved so). Nothing but ``network`` needs torch.
    """

    card: ModelCard
    mask: NDArray[np.float64]
    prior: Prior
    weights: Mapping[str, NDArray[np.floating[Any]]]

    @cached_property
    def network(self) -> TrainedNetwork:
        """The network, made once. Raises ModelFileError where the weights are not those of the card's architecture."""
        from models.learning.trained_network import trained_network

        return trained_network(self)


def unit_prior(variance: NDArray[np.float64]) -> Prior:
    """The prior of variances λ float64 [N] at unit total light: means 0 but for T, which every pair measures."""
    mean = np.zeros(len(variance))
    mean[0] = 1.0
    return Prior(mean, np.asarray(variance, dtype=np.float64))


def save_model(path: Path, model: TrainedModel) -> TrainedModel:
    """Write both files, replacing what stands there, and return the model as it will be loaded.

    path: NAME, with or without one of the two suffixes. Mask and prior are written as float32, weights as they are.
    The card gets the tensors' shapes and the digest. Raises ModelFileError where ``load_model`` would refuse the
    result (nothing is written then), and OSError.
    """
    from safetensors.numpy import save

    weights_path, card_path = _files(path)
    tensors = {
        **{name: np.ascontiguousarray(value) for name, value in model.weights.items()},
        MASK: model.mask.astype(np.float32),
        PRIOR_VARIANCE: model.prior.variance.astype(np.float32),
    }
    content = save(tensors)
    card = model.card.model_copy(
        update={
            "tensors": {name: tuple(value.shape) for name, value in tensors.items()},
            "sha256": hashlib.sha256(content).hexdigest(),
        }
    )
    saved = _model(card, tensors, str(weights_path))
    unfinished = weights_path.with_name(f".{weights_path.name}.unfinished")
    unfinished.write_bytes(content)
    unfinished.replace(weights_path)
    write_card(card_path, card)
    return saved


def load_model(path: Path) -> TrainedModel:
    """Read both files; path: NAME, with or without one of the two suffixes.

    Raises ModelFileError where one of them is missing or unreadable, or where they do not belong together: another
    digest, tensors that are missing, extra, misshapen, not finite or not floating-point, a mask of another mean than α.
    """
    weights_path, card_path = _files(path)
    card = read_card(card_path)
    try:
        content = weights_path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{weights_path} cannot be read ({error.strerror}); {card_path} describes it") from error
    found = hashlib.sha256(content).hexdigest()
    if found != card.sha256:
        raise ModelFileError(
            f"{weights_path}: found SHA-256 {found}; {card_path.name} says {card.sha256}. One of them was changed, or "
            "belongs to another model: restore both"
        )
    return _model(card, _tensors(content, weights_path), str(weights_path))


def card_path(path: Path) -> Path:
    """Where the card of the model NAME is."""
    return _files(path)[1]


def _files(path: Path) -> tuple[Path, Path]:
    """Paths of weights and card. A name may hold dots of its own."""
    name = next((path.name.removesuffix(suffix) for suffix in SUFFIXES if path.name.endswith(suffix)), path.name)
    return path.with_name(f"{name}.safetensors"), path.with_name(f"{name}.json")


def _tensors(content: bytes, path: Path) -> dict[str, NDArray[Any]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        loaded: dict[str, NDArray[Any]] = load(content)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise ModelFileError(
            f"{path} is no file of safetensors that NumPy can read ({error}); pickles are never opened"
        ) from error
    return loaded


def _model(card: ModelCard, tensors: Mapping[str, NDArray[Any]], where: str) -> TrainedModel:
    problems = list(_problems(card, tensors))
    if problems:
        raise ModelFileError(f"{where} does not match its card:\n" + "\n".join(f"  {each}" for each in problems))
    mask = tensors[MASK].astype(np.float64)
    try:
        validate_mask(mask, card.n, card.alpha)
    except MaskError as error:
        raise ModelFileError(f"{where}: {MASK}: {error}") from error
    weights = {name: value for name, value in tensors.items() if name not in (MASK, PRIOR_VARIANCE)}
    return TrainedModel(card, mask, unit_prior(tensors[PRIOR_VARIANCE].astype(np.float64)), weights)


def _problems(card: ModelCard, tensors: Mapping[str, NDArray[Any]]) -> Iterator[str]:
    for name in sorted({*card.tensors, MASK, PRIOR_VARIANCE} - set(tensors)):
        yield f"{name}: missing"
    for name in sorted(set(tensors) - set(card.tensors)):
        yield f"{name}: not on the card"
    n_coefficients = card.n**2
    for name, value in sorted(tensors.items()):
        expected = (n_coefficients,) if name in (MASK, PRIOR_VARIANCE) else card.tensors.get(name, value.shape)
        if value.shape != expected:
            side = f" for side {card.n}" if name in (MASK, PRIOR_VARIANCE) else ""
            yield f"{name}: found shape {list(value.shape)}; expected {list(expected)}{side}"
        elif value.dtype not in (np.float16, np.float32):
            yield f"{name}: found {value.dtype} values; expected float32 or float16"
        elif not np.isfinite(value).all():
            yield f"{name}: found {int((~np.isfinite(value)).sum())} values that are NaN or infinite"
        elif name == PRIOR_VARIANCE and (value < 0).any():
            yield f"{name}: found {int((value < 0).sum())} values below 0"
