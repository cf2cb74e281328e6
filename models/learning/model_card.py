"""The card of a trained model: what it is for, what it was trained on, and what its weights must be."""

from __future__ import annotations

import codecs
import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from models.draws import Draw
from models.hadamard import SideError, check_side

CARD_VERSION = 1

PlainValue = bool | int | float | str | tuple[int | float, ...]


class ModelFileError(ValueError):
    """A file of a trained model cannot be read, or its parts do not belong together."""


def _ordered(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] > ends[1]:
        raise ValueError(f"from {ends[0]:g} to {ends[1]:g}; expected the lower end first")
    return ends


Range = Annotated[tuple[float, float], AfterValidator(_ordered)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataSource(_Part):
    """One set of images that took part in the training: its licence, whom to name, and how many crops it gave."""

    name: str = Field(min_length=1)
    licence: str = Field(min_length=1)
    attribution: str = Field(min_length=1)
    crops: int = Field(ge=1)


class TrainedOver(_Part):
    """Ranges of what was varied in training, both ends included.

    gain: a and variance: b of images scaled to a maximum of 1 (so a over the brightest pixel's light, and b over its
    square); alpha: share of the pairs; repeats: S.
    """

    gain: Range
    variance: Range
    alpha: Range
    repeats: Range


class ModelCard(_Part):
    """What a trained model says of itself.

    kind: of network; n: image side; alpha, repeats, draw: α, S and kind of draw that the mask P* was learned for;
    trained_over: noise and doses; data: what it learned from; metrics: on validation images; versions: of hadascope,
    torch, numpy and python; command, seed, created: how and when it was made (ISO date); architecture: the network's
    numbers; uncertainty: those of its calibration; tensors: shape of every tensor in the file of weights; sha256: that
    file's digest. The last two are filled in where a model is saved.
    """

    hadascope_model: Literal[1] = 1
    kind: Literal["compact", "paper-unet"]
    n: int
    alpha: float = Field(gt=0, le=1)
    repeats: int = Field(ge=1)
    draw: Draw
    trained_over: TrainedOver
    data: tuple[DataSource, ...] = Field(min_length=1)
    metrics: dict[str, float]
    versions: dict[str, str]
    command: str
    seed: int
    created: date
    architecture: dict[str, PlainValue]
    uncertainty: dict[str, PlainValue]
    tensors: dict[str, tuple[int, ...]] = {}
    sha256: str = ""

    @model_validator(mode="after")
    def _side(self) -> Self:
        try:
            check_side(self.n)
        except SideError as error:
            raise ValueError(f"side n: {error}") from error
        return self

    @property
    def digest(self) -> str:
        """SHA-256 of all that the card says, whatever its layout: of the weights too, whose own digest is in it."""
        # Without defaults: a key that a later version adds leaves the digests of older cards as they are.
        said = self.model_dump(mode="json", exclude_defaults=True)
        return hashlib.sha256(json.dumps(said, sort_keys=True, allow_nan=False).encode()).hexdigest()

    def outside_training(
        self, *, alpha: float, repeats: int, gain: float | None, variance: float | None
    ) -> Iterator[str]:
        """What an acquisition asks for beyond what the model was trained over, in words.

        gain: a and variance: b of images scaled to a maximum of 1, None where the light is unknown.
        """
        asked = {"α": alpha, "S": float(repeats), "a": gain, "b": variance}
        over = self.trained_over
        ranges = {"α": over.alpha, "S": over.repeats, "a": over.gain, "b": over.variance}
        for name, value in asked.items():
            low, high = ranges[name]
            if value is not None and not low * (1 - _ROUNDING) <= value <= high * (1 + _ROUNDING):
                scale = " (on images scaled to a maximum of 1)" if name in "ab" else ""
                yield f"{name} = {value:.4g}, trained from {low:.4g} to {high:.4g}{scale}"


def read_card(path: Path) -> ModelCard:
    """The card in a JSON file. Raises ModelFileError: unreadable, no card, or of another version."""
    try:
        document = json.loads(path.read_bytes().removeprefix(codecs.BOM_UTF8))
    except OSError as error:
        raise ModelFileError(
            f"{path} cannot be read ({error.strerror}): a model is two files beside each other, NAME.safetensors and "
            "NAME.json"
        ) from error
    except ValueError as error:
        raise ModelFileError(f"{path} is no JSON ({error}); expected the card of a trained model") from error
    version = document.get("hadascope_model") if isinstance(document, Mapping) else None
    if version != CARD_VERSION:
        found = "no hadascope_model" if version is None else f"hadascope_model {version!r}"
        raise ModelFileError(
            f"{path}: found {found}; expected {CARD_VERSION}, the card of a trained model as this version of hadascope "
            "reads it"
        )
    try:
        return ModelCard.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the card"
        raise ModelFileError(f"{path}: {where}: {first['msg']}; found {first['input']!r:.80}") from error


def write_card(path: Path, card: ModelCard) -> None:
    """Write a card as JSON, whole or not at all. Raises OSError."""
    text = json.dumps(card.model_dump(mode="json"), indent=2, ensure_ascii=False, allow_nan=False)
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_text(text + "\n", encoding="utf-8")
    unfinished.replace(path)


def plain_numbers(described: Any) -> dict[str, PlainValue]:
    """The fields of a frozen dataclass of numbers, as a card keeps them."""
    return {name: tuple(value) if isinstance(value, list | tuple) else value for name, value in vars(described).items()}


# What a file's decimals may leave.
_ROUNDING = 1e-6
