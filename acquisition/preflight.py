"""What is checked before any device is touched: room for the output, and light enough to prove alignment."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Sequence
from pathlib import Path

from acquisition.config import AcquisitionConfig
from acquisition.controller import DoseLimitError
from acquisition.integrity import FALSE_ALARMS_PER_BLOCK, GuardsTooDimError
from acquisition.plan import dose_mj, lit_exposures_within, planned_frame_bytes, run_bytes
from acquisition.problems import AcquisitionFileError, Problem
from acquisition.run_folder import check_replaceable
from acquisition.run_layout import DiskFullError, existing_output
from acquisition.schedule import Schedule
from acquisition.sensing_plan import SensingPlan
from devices.projector import Timing


def check_output(config: AcquisitionConfig, plan: SensingPlan, *, overwrite: bool, make_folders: bool = True) -> None:
    """See that run and picture can be written; make_folders: make the folders they go into, too.

    Raises OutputExistsError, NotARunError where ``overwrite`` would replace something that is no run, DiskFullError,
    and OSError where a folder cannot be made.
    """
    run, picture = config.output.run, config.output.picture_path
    check_writable(run, (picture,), overwrite=overwrite, make_folders=make_folders)
    check_room(run, plan.schedule, planned_frame_bytes(config), config.output.snapshots)


def check_writable(
    run: Path, files: Sequence[Path], *, overwrite: bool, make_folders: bool = True, recipe: str = "hadamard"
) -> None:
    """See that nothing stands where a run and the files beside it go, or what may be overwritten; make their folders.

    recipe: that the run plays; only a run of the same recipe is overwritten.

    Raises OutputExistsError, NotARunError, and OSError where a folder cannot be made.
    """
    for file in files:
        check_new(file, overwrite=overwrite)
    check_replaceable(run, recipe, overwrite=overwrite)
    for folder in {path.absolute().parent for path in (run, *files)} if make_folders else ():
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            text = f"the output's folder cannot be made ({error.strerror})"
            raise OSError(error.errno, text, str(folder)) from error


def check_new(file: Path, *, overwrite: bool) -> None:
    """Raise OutputExistsError where a file stands already that may not be overwritten."""
    if file.is_dir():
        raise existing_output(file, "a folder of this name")
    if file.exists() and not overwrite:
        raise existing_output(file, "the picture" if file.suffix == ".png" else "the file")


def check_room(run: Path, schedule: Schedule, frame_bytes: int, snapshots: int = 0) -> None:
    """Raise DiskFullError where the run does not fit on the disk; see acquisition.plan.run_bytes."""
    check_space(run, run_bytes(schedule, frame_bytes, snapshots))


def check_space(run: Path, needed: int) -> None:
    """Raise DiskFullError where so many bytes do not fit on the disk of a path."""
    folder = next(each for each in run.absolute().parents if each.exists())
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DiskFullError(
            errno.ENOSPC,
            f"the run takes up to {needed / 1e6:.0f} MB, {free / 1e6:.0f} MB are free: make room, or write elsewhere",
            str(run),
        )


def check_dose(config: AcquisitionConfig, plan: SensingPlan) -> None:
    """Raise AcquisitionFileError where the planned dose is beyond the limit."""
    limit, planned = config.sample.dose_limit_mj, dose_mj(config, plan.schedule.n_exposures)
    if limit is None or planned is None or planned <= limit:
        return
    problem = Problem(
        "sample.dose_limit_mj",
        f"{limit:g} mJ, and the plan gives the sample {planned:.4g} mJ",
        "a plan within the limit: fewer pairs (sensing.alpha, sensing.repeats), less power or illumination time",
    )
    raise AcquisitionFileError("the acquisition file", [problem])


def check_light(plan: SensingPlan) -> None:
    """Raise GuardsTooDimError where the expected light is known and too dim for any block to be proven."""
    alarms = plan.expected_false_alarms
    if alarms is not None and alarms > FALSE_ALARMS_PER_BLOCK:
        raise GuardsTooDimError(
            f"a total light of {plan.expected_total:.4g} detector units per exposure is too dim to prove that readings "
            f"belong to their pictures: the guards of a block would raise {alarms:.1e} false alarms (at most "
            f"{FALSE_ALARMS_PER_BLOCK:.0e} allowed). Raise the light or the illumination time"
        )


def must_stay_within_dose(config: AcquisitionConfig, accepted: Timing | None, lit: int, left: int) -> None:
    """Raise DoseLimitError where what is left to play would exceed the limit, at the timing that was accepted."""
    assert accepted is not None
    most = lit_exposures_within(config, accepted.illumination_time_us)
    if most is not None and lit + left > most:
        raise DoseLimitError(
            f"sample.dose_limit_mj allows {most} exposures of {accepted.illumination_time_us} µs; the sample has had "
            f"{lit} at most, and {left} are to come. There was no further light"
        )
