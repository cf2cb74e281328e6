"""A calibration of the noise model as a file: what acquisitions, simulations and training read a and b from."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from calibration.calibration_file import CalibrationFileError, read_calibration
from calibration.estimate import Estimate
from calibration.identity import CalibrationModel, CameraIdentity
from models.noise import NoiseModel

Row = tuple[float, float, float]


class NoiseCalibration(CalibrationModel):
    """Gain, variance, offset and linear range of a detector, from light levels that the DMD made.

    measured: when, ISO 8601; raw: name of the zarr folder beside, with every reading. usable, reasons, notes: the
    verdict, why not, and what else should be known. gain: a, detector units per photo-electron; variance: b,
    units², at least 0; variance_estimate: before it was set to 0 where it came out below; source_noise: q, variance of
    the light's relative fluctuation from exposure to exposure; offset: bucket value in the dark, the stated offset of
    all pixels included, units. covariance: of (a, b, q). linear_up_to: largest light that reads in proportion, units;
    light_s: time under light; exposures: under light.
    """

    version: Literal[1] = 1
    kind: Literal["noise"] = "noise"
    hadascope: str
    measured: str
    raw: str
    usable: bool
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    identity: CameraIdentity
    gain: Estimate
    variance: float = Field(ge=0)
    variance_estimate: Estimate
    source_noise: Estimate
    offset: Estimate
    covariance: tuple[Row, Row, Row]
    linear_up_to: float | None
    exposures: int
    light_s: float

    @model_validator(mode="after")
    def _whole(self) -> NoiseCalibration:
        if self.usable == bool(self.reasons):
            raise ValueError(f"usable is {self.usable} beside {len(self.reasons)} reasons why not")
        if self.usable and not self.gain.value > 0:
            raise ValueError(f"gain {self.gain.value:g} in a usable calibration; expected more than 0")
        if self.variance != max(self.variance_estimate.value, 0.0):
            raise ValueError(
                f"variance {self.variance:g} beside an estimate of {self.variance_estimate.value:g}; expected the "
                "same, or 0 where that is below"
            )
        if np.linalg.eigvalsh(np.array(self.covariance)).min() < -1e-9 * abs(np.array(self.covariance)).max():
            raise ValueError("a covariance with negative variances")
        return self

    @property
    def noise(self) -> NoiseModel:
        """The pair (a, b) as everything else takes it."""
        return NoiseModel(self.gain.value, self.variance)


def read_noise_calibration(path: Path) -> NoiseCalibration:
    """The usable calibration in a JSON file. Raises CalibrationFileError, also where its verdict is "not usable"."""
    calibration = read_calibration(path, NoiseCalibration, "the noise model")
    if not calibration.usable:
        raise CalibrationFileError(
            f"{path} says of itself that it is not usable ({'; '.join(calibration.reasons)}): calibrate again"
        )
    return calibration
