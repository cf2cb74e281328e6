"""A camera's measured readout time, as a file that acquisitions read."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError


class ReadoutCalibration(BaseModel):
    """How long after an exposure a camera cannot begin the next one, as it was measured.

    camera: its name; readout_us: the time, µs; measured: when, ISO 8601.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    version: Literal[1] = 1
    camera: str
    readout_us: float = Field(ge=0)
    measured: str


class CalibrationFileError(ValueError):
    """A calibration file cannot be read, or says something else than it should."""


def read_readout_calibration(path: Path) -> ReadoutCalibration:
    """The calibration in a JSON file. Raises CalibrationFileError."""
    try:
        return ReadoutCalibration.model_validate_json(path.read_bytes())
    except OSError as error:
        raise CalibrationFileError(f"{path} cannot be read ({error.strerror}): correct the path") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise CalibrationFileError(
            f"{path} is no calibration of a readout time ({where}: {first['msg']}); expected a JSON object with "
            "version, camera, readout_us and measured"
        ) from error
