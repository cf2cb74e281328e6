"""A camera's measured readout time, as a file that acquisitions read."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from calibration.calibration_file import read_calibration
from calibration.identity import CalibrationModel


class ReadoutCalibration(CalibrationModel):
    """How long after an exposure a camera cannot begin the next one, as it was measured.

    camera: its name; readout_us: the time, µs; measured: when, ISO 8601.
    """

    version: Literal[1] = 1
    camera: str
    readout_us: float = Field(ge=0)
    measured: str


def read_readout_calibration(path: Path) -> ReadoutCalibration:
    """The calibration in a JSON file. Raises CalibrationFileError."""
    return read_calibration(path, ReadoutCalibration, "a readout time")
