"""Does the registration that an acquisition file names hold for the camera that is connected?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from acquisition.calibration_identity import CalibrationMismatchError
from acquisition.config import AcquisitionConfig
from calibration.registration_file import RegistrationCalibration, read_registration
from devices.detector import DetectorInfo


def check_registration(config: AcquisitionConfig, info: DetectorInfo) -> None:
    """Raise CalibrationMismatchError where the file's registration was made on another camera, or another frame of it.

    Raises CalibrationFileError where the file has changed since it was read.
    """
    path = config.devices.detector.registration
    if path is None:
        return
    differences = list(_differences(read_registration(path), config, info))
    if differences:
        raise CalibrationMismatchError(
            f"{path} does not hold for this acquisition: {'; '.join(differences)}. Register again as the acquisition "
            "file sets the camera, or name the registration that was made so (devices.detector.registration)"
        )


def _differences(registration: RegistrationCalibration, config: AcquisitionConfig, info: DetectorInfo) -> Iterator[str]:
    then = registration.identity
    if then.simulated != config.simulated:
        kinds = {True: "simulated", False: "real"}
        yield f"it was made on {kinds[then.simulated]} devices, and these are {kinds[config.simulated]}"
    for what, before, now in (
        ("the camera", then.camera, info.name),
        ("the frame (width, height)", registration.frame_px, (info.width_px, info.height_px)),
        ("the binning", then.binning, info.binning),
        ("the camera's region of interest (x, y, width, height)", then.roi, info.roi),
    ):
        if before != now:
            shown = ("not known" if each is None else each for each in (before, now))
            yield "{} was {}, and is {} now".format(what, *shown)


def registration_on_record(config: AcquisitionConfig) -> dict[str, Any] | None:
    """The file's registration, whole and JSON-able, so that a run holds it; None where there is none."""
    path = config.devices.detector.registration
    return None if path is None else read_registration(path).model_dump(mode="json")
