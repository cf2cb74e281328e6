"""Reads and writes calibrations: one JSON file each, of a stated kind and version."""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

_Model = TypeVar("_Model", bound=BaseModel)


class CalibrationFileError(ValueError):
    """A calibration file cannot be read, or says something else than it should."""


def read_calibration(path: Path, model: type[_Model], what: str) -> _Model:
    """The calibration in a JSON file; what: it is of, in words. Raises CalibrationFileError."""
    try:
        return model.model_validate_json(path.read_bytes().removeprefix(codecs.BOM_UTF8))
    except OSError as error:
        raise CalibrationFileError(f"{path} cannot be read ({error.strerror}): correct the path") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise CalibrationFileError(
            f"{path} is no calibration of {what} ({where}: {first['msg']}); expected a JSON object with "
            f"{', '.join(model.model_fields)}"
        ) from error


def write_calibration(path: Path, calibration: BaseModel) -> None:
    """Write a calibration as JSON, whole or not at all. Raises OSError."""
    text = json.dumps(calibration.model_dump(mode="json"), indent=2, ensure_ascii=False, allow_nan=False)
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_text(text + "\n", encoding="utf-8")
    unfinished.replace(path)
