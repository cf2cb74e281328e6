"""The timing contract of DMD and camera: the DMD is master, its synchronisation pulse triggers the camera.

A pulse comes sync_delay before its picture; the camera exposes from the pulse to the picture's end, and then reads out.
So exposure + readout must fit into the picture time, and with a rolling shutter every row must be exposing before the
picture appears: sync_delay ≥ the time from the first row's start to the last one's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from acquisition.device_sections import CameraSection, Detector, DmdSection
from acquisition.problems import Problem
from calibration.calibration_file import CalibrationFileError
from calibration.readout import read_readout_calibration

if TYPE_CHECKING:
    from acquisition.config import AcquisitionConfig, Timing

FRAMES_PER_S_OVER_A_PORT = 1500.0
TAGGED_FRAMES_PER_S_OVER_A_PORT = 400.0
# Of a circular buffer this share is planned with; a few frames more than displayed are asked for.
_BUFFER_SHARE = 0.9
_SPARE_FRAMES = 16
# However fast frames can be read, reading may begin this late, or be held up so long.
_LATENCY_US = 100_000.0


@dataclass(frozen=True)
class Readout:
    """The time after an exposure in which the camera cannot begin another one, µs, and where it is known from."""

    readout_us: float
    source: str


class ImpossibleTimingError(ValueError):
    """DMD and camera cannot keep the timing that the file asks for."""


def camera_exposure_us(timing: Timing) -> int:
    """The camera's exposure time: from the synchronisation pulse to the picture's end, µs."""
    return timing.sync_delay_us + timing.illumination_time_us


def find_readout(detector: CameraSection, property_us: float | None = None, camera: str | None = None) -> Readout:
    """The readout time from the camera's own property, the file, or a calibration, in this order.

    property_us, camera: what the connected camera's property says, and its name; None before it is connected. Raises
    CalibrationFileError, also where the calibration is another camera's.
    """
    if property_us is not None and detector.readout_property is not None:
        named = detector.readout_property
        return Readout(property_us, f"camera property {named.device}.{named.name}")
    if detector.readout_us is not None:
        return Readout(detector.readout_us, "the acquisition file")
    if detector.readout_calibration is not None:
        measured = read_readout_calibration(detector.readout_calibration)
        if camera is not None and measured.camera != camera:
            raise CalibrationFileError(
                f"{detector.readout_calibration} was measured with camera {measured.camera!r}, and {camera!r} is "
                "connected: name this camera's calibration"
            )
        return Readout(measured.readout_us, f"{detector.readout_calibration}, measured {measured.measured}")
    return Readout(0.0, "not stated, taken as 0")


def timing_problems(timing: Timing, projector: DmdSection, detector: CameraSection) -> Iterator[Problem]:
    """What the file alone shows to be impossible."""
    if projector.binary_mode == "uninterrupted" and timing.illumination_time_us != timing.picture_time_us:
        yield Problem(
            "timing.illumination_time_us",
            f"{timing.illumination_time_us} µs in uninterrupted binary mode",
            f"the picture time, {timing.picture_time_us} µs: this mode has no dark phase",
        )
    if detector.shutter == "rolling" and timing.sync_delay_us < detector.rolling_us:
        yield Problem(
            "timing.sync_delay_us",
            f"{timing.sync_delay_us} µs with a rolling shutter whose last row begins {detector.rolling_us:g} µs after "
            "its first one",
            f"at least {math.ceil(detector.rolling_us)} µs, so that all rows expose while the picture is displayed",
        )
    if detector.shutter == "rolling" and detector.rolling_us == 0:
        yield Problem("devices.detector.rolling_us", "0 µs with a rolling shutter", "the time its rows take to begin")
    if detector.time_tolerance_us is not None and detector.time_tolerance_us >= timing.picture_time_us / 2:
        yield Problem(
            "devices.detector.time_tolerance_us",
            f"{detector.time_tolerance_us:g} µs",
            f"less than half of the picture time, {timing.picture_time_us / 2:g} µs: it must tell a lost trigger",
        )
    try:
        readout = find_readout(detector)
    except CalibrationFileError as error:
        yield Problem("devices.detector.readout_calibration", str(error), "a readable calibration of this camera")
        return
    yield from cycle_problems(timing, readout)


def cycle_problems(timing: Timing, readout: Readout) -> Iterator[Problem]:
    """Whether exposure and readout fit into the picture time."""
    cycle_us = camera_exposure_us(timing) + readout.readout_us
    if cycle_us > timing.picture_time_us:
        yield Problem(
            "timing.picture_time_us",
            f"{timing.picture_time_us} µs, and the camera takes {cycle_us:g} µs a frame: {timing.sync_delay_us} µs "
            f"before the picture, {timing.illumination_time_us} µs under it, {readout.readout_us:g} µs readout "
            f"({readout.source})",
            f"at least {math.ceil(cycle_us)} µs, or a shorter illumination_time_us",
        )


def reading_us(detector: Detector) -> float:
    """Time to read one frame from the core, µs; 0 where it is not what bounds a run."""
    if detector.read_frames_per_s is not None:
        return 1e6 / detector.read_frames_per_s
    if detector.kind == "simulated" or detector.in_process:
        return 0.0
    tagged = detector.frame_metadata or detector.time_tolerance_us is not None
    return 1e6 / (TAGGED_FRAMES_PER_S_OVER_A_PORT if tagged else FRAMES_PER_S_OVER_A_PORT)


def most_block_exposures(config: AcquisitionConfig, buffer_frames: int | None) -> int:
    """The most exposures of one block: what its time allows, and what the detector's buffer holds.

    buffer_frames: frames the circular buffer holds, None where that is not known yet. It must hold a whole block, or
    else those frames that wait because reading begins late or is slower than they come.
    """
    picture_time_us = config.timing.picture_time_us
    by_time = int(config.blocks.longest_block_s * 1e6 // picture_time_us)
    if buffer_frames is None:
        return by_time
    room = _BUFFER_SHARE * buffer_frames - _SPARE_FRAMES
    # On a simulated bench faster than time all frames of a block may come at once.
    kept_up = 0.0 if config.simulated else min(picture_time_us / max(reading_us(config.devices.detector), 1e-9), 1.0)
    waiting = _LATENCY_US / picture_time_us
    by_buffer = room
    if not config.simulated and room > waiting:
        by_buffer = max(room, (room - waiting) / (1 - kept_up) if kept_up < 1 else by_time)
    return max(int(min(by_time, by_buffer)), 0)
