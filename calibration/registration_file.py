"""A registration as a file: what tells an acquisition on which pixels its mirrors lie."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from calibration.calibration_file import CalibrationFileError, read_calibration
from calibration.identity import CalibrationModel, CameraIdentity
from calibration.registration import Orientation, Registration
from models.pictures import Region

Row = tuple[float, float, float]


class MirrorRegion(CalibrationModel):
    """The mirrors that were registered: of a chip, extent × extent from row ``top`` and column ``left`` on."""

    dmd: str
    left: int = Field(ge=0)
    top: int = Field(ge=0)
    extent: int = Field(ge=1)


class RegistrationCalibration(CalibrationModel):
    """Where the mirrors of a DMD lie on a camera's frame.

    measured: when, ISO 8601; raw: name of the zarr folder beside, with every frame. usable, reasons: the verdict, and
    why not. frame_px: width and height of the camera's frames. matrix: (x, y) px = matrix · (column, row, 1), mirrors
    and pixels having their centres at whole numbers. scale_x, scale_y: px per mirror; rotation_deg, shear_deg,
    mirrored: see calibration.registration.Orientation. dots, dots_found, dots_used: shown, seen, and fitted to;
    dots_saturated: seen, and left out because they saturate. rms_px, largest_px: distances of the used dots from the
    map. corner_error_px: the map's largest standard error at a corner of the region, None for so few dots that it is
    unknown. notes: what else a person should know.
    """

    version: Literal[1] = 1
    kind: Literal["registration"] = "registration"
    hadascope: str
    measured: str
    raw: str
    usable: bool
    reasons: tuple[str, ...]
    notes: tuple[str, ...] = ()
    identity: CameraIdentity
    frame_px: tuple[int, int]
    mirrors: MirrorRegion
    matrix: tuple[Row, Row]
    scale_x: float
    scale_y: float
    rotation_deg: float
    shear_deg: float
    mirrored: bool
    dots: int
    dots_found: int
    dots_used: int
    dots_saturated: int = 0
    rms_px: float = Field(ge=0)
    largest_px: float = Field(ge=0)
    corner_error_px: float | None = Field(ge=0)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.usable == bool(self.reasons):
            raise ValueError(f"usable is {self.usable} beside {len(self.reasons)} reasons why not")
        if min(self.frame_px) < 1:
            raise ValueError(f"frames of {self.frame_px[0]} × {self.frame_px[1]} px; expected 1 or more")
        if self.usable and not abs(np.linalg.det(self.map[:, :2])) > 0:
            raise ValueError("a matrix that puts all mirrors on a line, in a usable registration")
        return self

    @property
    def map(self) -> NDArray[np.float64]:
        """The matrix as float64 [2, 3]."""
        return np.array(self.matrix, dtype=np.float64)

    @classmethod
    def of(
        cls,
        registration: Registration,
        *,
        hadascope: str,
        measured: str,
        raw: str,
        identity: CameraIdentity,
        frame_px: tuple[int, int],
        dmd: str,
        region: Region,
    ) -> Self:
        """A fitted map as a file says it.

        hadascope: version of the program; identity: of the camera; frame_px: width and height of its frames; dmd: the
        chip as acquisition files name it, and the image region on it that was registered.
        """
        orientation: Orientation = registration.orientation
        error_px = float(registration.corner_error_px.max())
        first, second = registration.matrix.tolist()
        return cls(
            hadascope=hadascope,
            measured=measured,
            raw=raw,
            usable=registration.usable,
            reasons=registration.reasons,
            notes=registration.notes,
            identity=identity,
            frame_px=frame_px,
            mirrors=MirrorRegion(dmd=dmd, left=region.left, top=region.top, extent=region.extent),
            matrix=(tuple(first), tuple(second)),
            scale_x=orientation.scale_x,
            scale_y=orientation.scale_y,
            rotation_deg=orientation.rotation_deg,
            shear_deg=orientation.shear_deg,
            mirrored=orientation.mirrored,
            dots=len(registration.used),
            dots_found=registration.n_found,
            dots_used=registration.n_used,
            dots_saturated=registration.n_saturated,
            rms_px=registration.rms_px,
            largest_px=registration.largest_px,
            corner_error_px=error_px if np.isfinite(error_px) else None,
        )


def read_registration(path: Path) -> RegistrationCalibration:
    """The usable registration in a JSON file. Raises CalibrationFileError, also where its verdict is "not usable"."""
    calibration = read_calibration(path, RegistrationCalibration, "the DMD's place on the detector")
    if not calibration.usable:
        raise CalibrationFileError(
            f"{path} says of itself that it is not usable ({'; '.join(calibration.reasons)}): register again"
        )
    return calibration
