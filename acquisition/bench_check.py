"""Is the connected bench the one the acquisition was planned for? Asked of the devices, before any light."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from acquisition.config import AcquisitionConfig
from acquisition.connected_devices import ConnectedDevices
from acquisition.events import EventKind, Journal
from acquisition.registration_check import check_registration
from acquisition.schedule import Schedule
from acquisition.sensing_plan import SensingPlan, plan_sensing
from acquisition.timing_contract import (
    ImpossibleTimingError,
    Readout,
    cycle_problems,
    find_readout,
    most_block_exposures,
)
from devices.dmd_types import DmdType
from devices.projector import ProjectorInfo


class DeviceMismatchError(ValueError):
    """The connected device is not the one the acquisition file describes."""


def check_bench(config: AcquisitionConfig, schedule: Schedule, devices: ConnectedDevices) -> Readout:
    """Hold the connected devices against the schedule; the camera's readout time and where it is known from.

    Raises DeviceMismatchError, ImpossibleTimingError, CalibrationFileError, CalibrationMismatchError.
    """
    banks = [bank.n_pictures for bank in schedule.banks]
    together = max((here + after for here, after in pairwise(banks)), default=banks[0])
    check_projector(devices.projector.info, config.dmd_type, max(together, config.blocks.dark_exposures))
    camera = devices.detector.info
    check_registration(config, camera)
    readout = find_readout(config.devices.detector, camera.readout_us, camera.name)
    problems = list(cycle_problems(config.timing, readout))
    if problems:
        raise ImpossibleTimingError("; ".join(str(problem) for problem in problems))
    return readout


def check_projector(info: ProjectorInfo, chip: DmdType, most_pictures: int) -> None:
    """Raise DeviceMismatchError where the device differs from what the schedule was planned for.

    most_pictures: that are in its memory together.
    """
    for what, found, wanted in (
        ("mirror rows", info.mirrors_height, chip.mirrors_height),
        ("mirror columns", info.mirrors_width, chip.mirrors_width),
        ("bytes per mirror row", info.row_bytes, chip.row_bytes),
    ):
        if found != wanted:
            raise DeviceMismatchError(
                f"{info.name} has {found} {what}, {chip.name} has {wanted}: correct devices.projector.dmd"
            )
    if info.free_pictures < most_pictures:
        raise DeviceMismatchError(
            f"{info.name} has room for {info.free_pictures} pictures, and {most_pictures} are needed at a time: set "
            f"devices.projector.memory_pictures to {info.free_pictures} at most, and blocks.dark_exposures no higher"
        )


def shortened_plan(
    config: AcquisitionConfig,
    sample: NDArray[np.float64] | None,
    plan: SensingPlan,
    buffer_frames: int | None,
    journal: Journal,
) -> SensingPlan:
    """The plan, made anew with shorter blocks where the detector's buffer does not hold as much as their time allows.

    Raises AcquisitionFileError where it cannot hold even the shortest.
    """
    most = most_block_exposures(config, buffer_frames)
    if most == most_block_exposures(config, None):
        return plan
    shortened = plan_sensing(config, sample, buffer_frames)
    before, now = plan.schedule.longest_block_exposures, shortened.schedule.longest_block_exposures
    if now < before:
        text = f"blocks are shortened from {before} to {now} exposures: the detector's buffer holds {buffer_frames}"
        journal.add(EventKind.WARNING, text, buffer_frames=buffer_frames, block_exposures=now)
    return shortened
