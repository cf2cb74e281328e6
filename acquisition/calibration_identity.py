"""Does a calibration hold for the detector that is connected, as the acquisition file sets it?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from acquisition.bucket_region import bucket_region
from acquisition.config import AcquisitionConfig
from acquisition.timing_contract import camera_exposure_us
from calibration.identity import CameraIdentity
from calibration.noise_file import read_noise_calibration
from devices.detector import DetectorInfo


class CalibrationMismatchError(ValueError):
    """A calibration was made with another detector, or with the same one set in another way."""


def camera_identity(config: AcquisitionConfig, info: DetectorInfo) -> CameraIdentity:
    """The connected detector as the file sets it."""
    detector = config.devices.detector
    region = bucket_region(config)
    armed = {f"{each.device}.{each.name}": each.value for each in detector.when_armed}
    return CameraIdentity(
        simulated=config.simulated,
        camera=info.name,
        exposure_us=camera_exposure_us(config.timing),
        region=None if region is None else (region.x, region.y, region.width, region.height),
        roi=info.roi,
        binning=info.binning,
        bytes_per_px=info.bytes_per_px,
        offset_per_px=detector.offset_per_px,
        settings={**armed, **{f"{info.name}.{name}": value for name, value in info.gain_settings}},
    )


def check_noise_calibration(config: AcquisitionConfig, info: DetectorInfo) -> None:
    """Raise CalibrationMismatchError where the file's noise calibration was not made with this detector as it is set.

    A rehearsal takes the calibration of a real camera as it is: its bench is made after it. Raises
    CalibrationFileError where the file has changed since.
    """
    path = config.noise.calibration
    if path is None:
        return
    calibration = read_noise_calibration(path)
    if config.simulated and not calibration.identity.simulated:
        return
    differences = list(calibration.identity.differences(camera_identity(config, info)))
    if calibration.identity.simulated and not config.simulated:
        differences = ["it was made on simulated devices, and these are real"]
    if differences:
        raise mismatch(path, differences)


def calibration_on_record(config: AcquisitionConfig) -> dict[str, Any] | None:
    """The file's noise calibration, whole and JSON-able, so that a run holds it; None where a and b are stated."""
    path = config.noise.calibration
    return None if path is None else read_noise_calibration(path).model_dump(mode="json")


def mismatch(path: Path, differences: list[str]) -> CalibrationMismatchError:
    """The error that says why a calibration does not hold."""
    return CalibrationMismatchError(
        f"{path} does not hold for this acquisition: {'; '.join(differences)}. Calibrate again as the acquisition file "
        "sets the detector, or name the calibration that was made so (noise.calibration)"
    )
