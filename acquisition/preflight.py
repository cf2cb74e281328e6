"""What is checked before any device is touched: room for the output, and light enough to prove alignment."""

from __future__ import annotations

import errno
import shutil

from acquisition.config import AcquisitionConfig
from acquisition.integrity import FALSE_ALARMS_PER_BLOCK, GuardsTooDimError
from acquisition.plan import dose_mj, planned_frame_bytes, run_bytes
from acquisition.problems import AcquisitionFileError, Problem
from acquisition.run_layout import DiskFullError, existing_output
from acquisition.run_store import check_replaceable
from acquisition.sensing_plan import SensingPlan


def check_output(config: AcquisitionConfig, plan: SensingPlan, *, overwrite: bool, make_folders: bool = True) -> None:
    """See that run and picture can be written; make_folders: make the folders they go into, too.

    Raises OutputExistsError, NotARunError where ``overwrite`` would replace something that is no run, DiskFullError,
    and OSError where a folder cannot be made.
    """
    run, picture = config.output.run, config.output.picture_path
    if picture.exists() and not overwrite:
        raise existing_output(picture, "the picture")
    check_replaceable(run, overwrite=overwrite)
    for folder in (run.absolute().parent, picture.absolute().parent) if make_folders else ():
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            text = f"the output's folder cannot be made ({error.strerror})"
            raise OSError(error.errno, text, str(folder)) from error
    check_room(config, plan, planned_frame_bytes(config))


def check_room(config: AcquisitionConfig, plan: SensingPlan, frame_bytes: int) -> None:
    """Raise DiskFullError where the run does not fit on the disk; frame_bytes: of one frame, where frames are kept."""
    run = config.output.run
    folder = next(each for each in run.absolute().parents if each.exists())
    needed, free = run_bytes(plan, frame_bytes), shutil.disk_usage(folder).free
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
