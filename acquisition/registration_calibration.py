"""Registers the DMD on a camera that images the sample: where do its mirrors lie on the frame?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version

from acquisition.bucket_region import reading_the_whole_frame
from acquisition.calibration_output import CalibrationOutput
from acquisition.config import AcquisitionConfig
from acquisition.dmd_region import dmd_region
from acquisition.observer import Observer
from acquisition.play_recipe import play_recipe
from acquisition.stored_recipe import calibration_title, stored_frames
from acquisition.stored_reconstruction import stored_config
from acquisition.stored_run import StoredRun
from calibration.calibration_file import write_calibration
from calibration.dot_frames import DotFrames
from calibration.fiducials import FiducialPictures, fiducial_recipe
from calibration.identity import CameraIdentity
from calibration.registration import Registration, fit_registration
from calibration.registration_file import RegistrationCalibration

GRID = 5
REPEATS = 4


@dataclass(frozen=True)
class RegistrationResult:
    """A registration that was made: what was fitted, what the file says, and where it is."""

    registration: Registration
    calibration: RegistrationCalibration
    output: CalibrationOutput
    title: str = "Registration of the DMD on the camera"

    @property
    def notes(self) -> tuple[str, ...]:
        """What else a person should know."""
        return self.calibration.notes

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why acquisitions may not rely on it."""
        return self.calibration.reasons

    def rows(self) -> Iterator[tuple[str, str]]:
        """What was measured."""
        made = self.calibration
        mirrored = ", mirrored" if made.mirrored else ""
        yield "scale", f"{made.scale_x:.4g} × {made.scale_y:.4g} px per mirror"
        yield "rotation, shear", f"{made.rotation_deg:.2f}°, {made.shear_deg:.2f}°{mirrored}"
        yield "residual", f"{made.rms_px:.3g} px root mean square, {made.largest_px:.3g} px at most"
        if made.corner_error_px is not None:
            yield "error at the corners", f"{made.corner_error_px:.2g} px at most"
        saturated = f", {made.dots_saturated} saturated" if made.dots_saturated else ""
        yield "dots", f"{made.dots_used} used of {made.dots_found} seen of {made.dots} shown{saturated}"


def calibrate_registration(
    config: AcquisitionConfig,
    output: CalibrationOutput,
    *,
    grid: int = GRID,
    overwrite: bool = False,
    observer: Observer | None = None,
) -> RegistrationResult:
    """Project grid × grid dots, one at a time, and write the affine map from mirrors to pixels.

    Raises what ``play_recipe`` and ``registration_from`` raise, RegionError, ValueError for too small a grid.
    """
    region = dmd_region(config)
    recipe = fiducial_recipe(region, grid, REPEATS, config.sensing.seed)
    output.check("registration", simulated=config.simulated, overwrite=overwrite)
    pictures = FiducialPictures(region, grid)
    whole = reading_the_whole_frame(config)
    play_recipe(whole, recipe, pictures, output, {"grid": grid}, overwrite=overwrite, observer=observer)
    return registration_from(output)


def registration_from(output: CalibrationOutput) -> RegistrationResult:
    """Fit the map to raw frames that are there, and write registration and plot.

    Raises calibration.verdict.NotCalibratableError, NotARunError, UnfinishedCalibrationError, CorruptBlockError, and
    OSError.
    """
    from calibration.registration_plot import draw_registration

    run = StoredRun(output.raw)
    run.must_hold("registration")
    facts, config = run.facts, stored_config(run)
    region = dmd_region(config)
    pictures = FiducialPictures(region, facts["grid"])
    detector = facts["devices"]["detector"]
    dots = DotFrames(len(pictures.positions), detector["full_scale"])
    for pair, sign, frames in stored_frames(run):
        dots.add(pair, sign, frames)
    seen = dots.seen()
    registration = fit_registration(seen, pictures)
    calibration = RegistrationCalibration.of(
        registration,
        hadascope=version("hadascope"),
        measured=facts["ended"],
        raw=run.path.name,
        identity=CameraIdentity.model_validate(facts["identity"]),
        frame_px=(detector["width_px"], detector["height_px"]),
        dmd=config.devices.projector.dmd,
        region=region,
    )
    write_calibration(output.file, calibration)
    draw_registration(output.picture, registration, seen.sample, calibration_title(run))
    return RegistrationResult(registration, calibration, output)
