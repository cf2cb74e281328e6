"""What a training is asked for, beside its numbers: the noise, whose images it learns from, and where it writes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from calibration.noise_file import read_noise_calibration
from models.learning.model_card import DataSource
from models.learning.model_file import SUFFIXES, card_path


class NoiseRequestError(ValueError):
    """A noise that is stated twice, or not at all."""


class DataSourcesError(ValueError):
    """A file that does not say whose images they are."""


class ModelExistsError(FileExistsError):
    """A model, or a picture of one, that is there already."""


class ModelFolderError(FileNotFoundError):
    """A folder that is not there, in which a model is to be written."""


@dataclass(frozen=True)
class ModelOutput:
    """Where a training writes: the files of the model (path without suffix), of its pictures, and the folder of
    checkpoint and log.
    """

    model: Path
    masks: Path
    training: Path
    folder: Path


def noise_of_images(
    gain: float | None, variance: float, calibration: Path | None, peak: float | None
) -> tuple[float, float]:
    """(a, b) of images scaled to a maximum of 1: as stated, or calibrated a over peak and b over peak².

    peak: light of the brightest pixel in one exposure, in the calibration's units. Raises NoiseRequestError,
    CalibrationFileError.
    """
    if calibration is None:
        if gain is None or peak is not None:
            raise NoiseRequestError(
                "found no a: say --gain (and --variance) for images scaled to a maximum of 1, or --noise FILE with "
                "--peak LIGHT"
            )
        return gain, variance
    if gain is not None or variance != 0 or peak is None or not 0 < peak < math.inf:
        raise NoiseRequestError(
            "found --noise with --gain or --variance, or without a --peak above 0; expected the calibration and the "
            "brightest pixel's light, in the calibration's units"
        )
    noise = read_noise_calibration(calibration).noise
    return noise.gain / peak, noise.variance / peak**2


def read_data_sources(path: Path) -> list[DataSource]:
    """What a card says of images, from a YAML list of name, licence, attribution and crops. Raises DataSourcesError."""
    import yaml
    from pydantic import TypeAdapter, ValidationError

    expected = "expected a YAML list of name, licence, attribution and crops, one entry a source"
    try:
        sources = TypeAdapter(list[DataSource]).validate_python(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise DataSourcesError(f"{path} cannot be read ({error.strerror}); {expected}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise DataSourcesError(f"{path}: {where}: {first['msg']}, found {first['input']!r:.80}; {expected}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataSourcesError(f"{path} is no YAML ({error}); {expected}") from error
    if not sources:
        raise DataSourcesError(f"{path}: found an empty list; {expected}")
    return sources


def unstated_source(data: Sequence[Path], n_crops: int) -> DataSource:
    """What the card says of images of which licence and attribution were not stated."""
    names = ", ".join(each.name or each.resolve().name or str(each) for each in data)
    return DataSource(name=names, licence="not stated", attribution="not stated", crops=n_crops)


def model_output(output: Path, *, overwrite: bool) -> ModelOutput:
    """Where a training for ``output``, NAME with or without a model's suffix, writes: NAME.json, NAME.safetensors,
    NAME.masks.png, NAME.training.png and, while it goes on, NAME.training.

    Raises ModelExistsError where one of the files is there and must not be replaced, ModelFolderError.
    """
    card = card_path(output)
    name = card.name.removesuffix(card.suffix)
    files = [card.with_name(name + suffix) for suffix in (*SUFFIXES, *_PICTURES)]
    found = [path for path in files if path.exists()]
    if found and not overwrite:
        raise ModelExistsError(f"{found[0]} is there already; expected a new --output, or --overwrite")
    if not card.absolute().parent.is_dir():
        raise ModelFolderError(
            f"the folder {card.absolute().parent} is not there; expected one to write {name} in: make it first"
        )
    return ModelOutput(
        model=card.with_name(name), masks=files[-2], training=files[-1], folder=card.with_name(f"{name}.training")
    )


_PICTURES = (".masks.png", ".training.png")
