"""Fits a calibration again from the readings it was made from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from acquisition.calibrated import Calibrated
from acquisition.calibration_output import CalibrationOutput
from acquisition.noise_calibration import noise_from
from acquisition.registration_calibration import registration_from
from acquisition.run_layout import NotARunError
from acquisition.stability_calibration import stability_from
from acquisition.stored_run import StoredRun
from calibration.verdict import NotCalibratableError

_FITS: dict[str, Callable[[CalibrationOutput], Calibrated]] = {
    "noise": noise_from,
    "stability": stability_from,
    "registration": registration_from,
}


def fit_again(raw: Path) -> Calibrated:
    """The calibration whose raw readings lie in a folder, fitted again and written beside them.

    Where nothing can be fitted any more, what an earlier fit left is removed. Raises AcquisitionFileError,
    NotARunError, UnfinishedCalibrationError, CorruptBlockError, calibration.verdict.NotCalibratableError.
    """
    output = CalibrationOutput.beside(raw)
    recipe = StoredRun(output.raw).facts.get("recipe")
    if recipe not in _FITS:
        raise NotARunError(f"{raw} holds no calibration: expected the raw readings (.zarr) beside a calibration's file")
    try:
        return _FITS[recipe](output)
    except NotCalibratableError:
        output.forget()
        raise
