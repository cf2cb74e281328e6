"""The command line of calibrations: noise, stability, registration, images, again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from acquisition.cli_frame import (
    RUN_FAILED,
    AcquisitionFile,
    OverwriteOption,
    YesOption,
    interrupted,
    must_be_confirmable,
)

if TYPE_CHECKING:
    from acquisition.calibrated import Calibrated
    from acquisition.calibration_output import CalibrationOutput
    from acquisition.config import AcquisitionConfig
    from acquisition.observer import Observer

calibrate = typer.Typer(
    help="Measure a and b on the bench, how steady its light is, or where the DMD lies on the camera.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

OutputFileOption = Annotated[
    Path | None,
    typer.Option("--output", help="JSON file to write; raw readings (.zarr) and plot (.png) go beside it."),
]
_IMAGES_HELP = (
    "TIFF, PNG, NPY or NPZ files; a stack [K, h, w] is K repeats of a field. file.npz:array takes one array of an NPZ."
)
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Rehearse it on simulated devices.")]


@calibrate.command()
def noise(
    file: AcquisitionFile,
    output: OutputFileOption = None,
    levels: Annotated[int, typer.Option(min=6, max=64, help="Steps of light, an even number.")] = 16,
    exposures: Annotated[int, typer.Option(min=50, max=100_000, help="Exposures of each level, at least.")] = 2000,
    dry_run: DryRunOption = False,
    overwrite: OverwriteOption = False,
    yes: YesOption = False,
) -> None:
    """Gain a, variance b, offset and linear range, from light levels that the DMD makes."""
    from acquisition.acquisition_file import load_to_calibrate
    from acquisition.noise_calibration import calibrate_noise

    def made(config: AcquisitionConfig, written: CalibrationOutput, observer: Observer) -> Calibrated:
        return calibrate_noise(
            config, written, levels=levels, exposures_per_level=exposures, overwrite=overwrite, observer=observer
        )

    _calibrate(load_to_calibrate(file, noise=True), "noise", output, made, dry_run=dry_run, yes=yes)


@calibrate.command()
def stability(
    file: AcquisitionFile,
    output: OutputFileOption = None,
    seconds: Annotated[float, typer.Option(help="Seconds of light; rests in the dark take as long again.")] = 20.0,
    search: Annotated[bool, typer.Option(help="Search for the shortest safe picture time, too.")] = True,
    dry_run: DryRunOption = False,
    overwrite: OverwriteOption = False,
    yes: YesOption = False,
) -> None:
    """Drift, bleaching, source noise, contrast, and the shortest safe picture time."""
    from acquisition.acquisition_file import load_acquisition
    from acquisition.stability_calibration import calibrate_stability

    def made(config: AcquisitionConfig, written: CalibrationOutput, observer: Observer) -> Calibrated:
        return calibrate_stability(
            config, written, seconds=seconds, search=search, overwrite=overwrite, observer=observer
        )

    _calibrate(load_acquisition(file), "stability", output, made, dry_run=dry_run, yes=yes)


@calibrate.command()
def registration(
    file: AcquisitionFile,
    output: OutputFileOption = None,
    grid: Annotated[int, typer.Option(min=3, max=50, help="Dots along a side of the image region.")] = 5,
    dry_run: DryRunOption = False,
    overwrite: OverwriteOption = False,
    yes: YesOption = False,
) -> None:
    """Where the DMD's mirrors lie on a camera that images the sample."""
    from acquisition.acquisition_file import load_to_calibrate
    from acquisition.registration_calibration import calibrate_registration
    from acquisition.rehearsal import imaging_rehearsal_of

    def made(config: AcquisitionConfig, written: CalibrationOutput, observer: Observer) -> Calibrated:
        return calibrate_registration(config, written, grid=grid, overwrite=overwrite, observer=observer)

    config = load_to_calibrate(file, noise=True, registration=True)
    _calibrate(config, "registration", output, made, dry_run=dry_run, yes=yes, rehearsal=imaging_rehearsal_of)


@calibrate.command()
def images(
    files: Annotated[list[Path], typer.Argument(help=_IMAGES_HELP, show_default=False)],
    single: Annotated[bool, typer.Option("--single", help="Planes of a stack are fields, not repeats of one.")] = False,
    full_scale: Annotated[float | None, typer.Option(help="Highest grey value of the detector, above 0.")] = None,
    plot: Annotated[Path | None, typer.Option(help="PNG to write: variance over mean.")] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Gain and variance from images of any camera: from single ones, and from repeats of a field."""
    from acquisition.noise_of_images import draw_image_noise, estimate_files, print_image_noise
    from acquisition.preflight import check_new

    if plot is not None:
        check_new(plot, overwrite=overwrite)
    found = estimate_files(files, planes_are_repeats=not single, full_scale=full_scale)
    print_image_noise(found)
    if plot is not None:
        draw_image_noise(plot, found)
    if not any(field.is_usable for field in found):
        raise typer.Exit(RUN_FAILED)


@calibrate.command()
def again(raw: Annotated[Path, typer.Argument(help="Folder of raw readings (.zarr).", show_default=False)]) -> None:
    """Fit a calibration again, from its raw readings; the file and the plot beside them are replaced."""
    from acquisition.fit_again import fit_again

    _conclude(lambda: fit_again(raw))


def _calibrate(
    config: AcquisitionConfig,
    kind: str,
    output: Path | None,
    made: Callable[[AcquisitionConfig, CalibrationOutput, Observer], Calibrated],
    *,
    dry_run: bool,
    yes: bool,
    rehearsal: Callable[[AcquisitionConfig], AcquisitionConfig] | None = None,
) -> None:
    """Make a calibration and say what it found. rehearsal: other than ``hadascope dry-run`` plays."""
    from rich.console import Console

    from acquisition.calibration_output import CalibrationOutput
    from acquisition.progress import watched
    from acquisition.rehearsal import rehearsal_of

    written = CalibrationOutput.of(config, kind, output, rehearsed=dry_run and not config.simulated)
    config = (rehearsal or rehearsal_of)(config) if dry_run else config
    must_be_confirmable(config.simulated, yes=yes)

    def watch() -> Calibrated:
        with interrupted("the devices are let go of, and nothing was calibrated"):
            return watched(
                Console(), config, "calibrating", lambda observer: made(config, written, observer), ask=not yes
            )

    _conclude(watch)


def _conclude(make: Callable[[], Calibrated]) -> None:
    """Print what was made, or why nothing could be; exit code 1 unless acquisitions may rely on it."""
    from acquisition.console_calibrations import print_calibration
    from calibration.verdict import NotCalibratableError

    try:
        made = make()
    except NotCalibratableError as error:
        typer.echo(f"not usable: {error}", err=True)
        raise typer.Exit(RUN_FAILED) from None
    if not print_calibration(made):
        raise typer.Exit(RUN_FAILED)
