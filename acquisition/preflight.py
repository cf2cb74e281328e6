"""What is checked before any device is touched: room for the output, and light enough to prove alignment."""

from __future__ import annotations

import errno
import shutil

from acquisition.config import AcquisitionConfig
from acquisition.integrity import FALSE_ALARMS_PER_BLOCK, GuardsTooDimError
from acquisition.plan import expected_false_alarms, run_bytes
from acquisition.run_store import DiskFullError, check_replaceable, existing_output
from acquisition.sensing_plan import SensingPlan


def check_output(config: AcquisitionConfig, plan: SensingPlan, *, overwrite: bool) -> None:
    """See that run and picture can be written, and make the folders they go into.

    Raises OutputExistsError, NotARunError where ``overwrite`` would replace something that is no run, DiskFullError,
    and OSError where a folder cannot be made.
    """
    run, picture = config.output.run, config.output.picture_path
    if picture.exists() and not overwrite:
        raise existing_output(picture, "the picture")
    check_replaceable(run, overwrite=overwrite)
    for folder in (run.absolute().parent, picture.absolute().parent):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            text = f"the output's folder cannot be made ({error.strerror})"
            raise OSError(error.errno, text, str(folder)) from error
    needed, free = run_bytes(plan), shutil.disk_usage(run.absolute().parent).free
    if free < needed:
        raise DiskFullError(
            errno.ENOSPC,
            f"the run takes up to {needed / 1e6:.0f} MB, {free / 1e6:.0f} MB are free: make room, or write elsewhere",
            str(run),
        )


def check_light(plan: SensingPlan) -> None:
    """Raise GuardsTooDimError where the expected light is known and too dim for any block to be proven."""
    alarms = expected_false_alarms(plan)
    if alarms is not None and alarms > FALSE_ALARMS_PER_BLOCK:
        raise GuardsTooDimError(
            f"a total light of {plan.expected_total:.4g} detector units per exposure is too dim to prove that readings "
            f"belong to their pictures: the guards of a block would raise {alarms:.1e} false alarms (at most "
            f"{FALSE_ALARMS_PER_BLOCK:.0e} allowed). Raise the light or the illumination time"
        )
