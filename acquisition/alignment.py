"""Shows a test picture for adjusting the optics: for a stated time, at low power, and never without an end."""

from __future__ import annotations

import time

import numpy as np

from acquisition.config import AcquisitionConfig
from acquisition.connect import connected_light_path, sample_on_stage
from acquisition.controller import ProjectionTimeoutError
from acquisition.dmd_region import dmd_region
from acquisition.interrupts import Ending, orderly_interrupts
from devices.projector import Timing
from models.alignment_pictures import alignment_picture

LONGEST_S = 600.0
# Long pictures have hardly any dark phases; longer ones where many would fill the memory.
_SHORT_US, _LONG_US, _DARK_PHASE_US = 100_000, 1_000_000, 1000
_SHORT_UNTIL_S = 60.0
_PICTURES_AT_ONCE = 16
_MARGIN_S = 5.0


def show_alignment_picture(
    config: AcquisitionConfig, name: str, seconds: float, *, index: int = 0, laser_power_mw: float | None = None
) -> None:
    """Show a test picture (models.alignment_pictures) under light for some seconds, then darkness.

    The projection is finite and ends on a dark picture; whatever ends it, or does not, the light goes off first.
    laser_power_mw: of a laser that can be told, which is told its own power again afterwards. Raises ValueError,
    ProjectionTimeoutError, KeyboardInterrupt on a request to end, and what devices raise.
    """
    if not 0 < seconds <= LONGEST_S:
        raise ValueError(f"{seconds:g} s were asked for; allowed: more than 0, up to {LONGEST_S:g} s")
    picture = alignment_picture(dmd_region(config), name, index)
    timing = _timing(config, seconds)
    n_pictures = max(round(seconds * 1e6 / timing.picture_time_us), 1)
    sample = sample_on_stage(config)
    with (
        orderly_interrupts(),
        connected_light_path(config, sample, laser_power_mw) as (projector, light),
        Ending() as ending,
    ):
        bank = projector.allocate(n_pictures + 1)
        ending.callback(projector.free, bank)
        ending.callback(projector.halt)
        ending.callback(light.off)
        some = np.repeat(picture[None], min(n_pictures, _PICTURES_AT_ONCE), axis=0)
        for first in range(0, n_pictures, len(some)):
            projector.load(bank, first, some[: n_pictures - first])
        projector.load(bank, n_pictures, np.zeros_like(picture)[None])
        projector.set_timing(bank, timing)
        light.on()
        projector.start(bank, 0, n_pictures)
        deadline = time.monotonic() + seconds + timing.picture_time_us * 1e-6 + _MARGIN_S
        while projector.is_projecting():
            if time.monotonic() > deadline:
                raise ProjectionTimeoutError(
                    f"{projector.info.name} still projects {_MARGIN_S:g} s after the test picture had to end: the "
                    "light is off now; power-cycle the DMD"
                )
            time.sleep(0.01)


def _timing(config: AcquisitionConfig, seconds: float) -> Timing:
    picture_time_us = _SHORT_US if seconds <= _SHORT_UNTIL_S else _LONG_US
    if config.devices.projector.binary_mode == "uninterrupted":
        return Timing(picture_time_us, picture_time_us)
    return Timing(picture_time_us, picture_time_us - _DARK_PHASE_US)
