"""Readings from which no gain can be learned, told apart by their cause before anything is fitted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calibration.exposures import Exposures
from calibration.verdict import (
    ConstantReadingsError,
    NoSignalError,
    NotCalibratableError,
    SaturatedThroughoutError,
)

SIGNAL_DEVIATIONS = 6.0
"""Standard errors by which bright guards must read above dark ones."""
SATURATED_SHARE = 0.02
"""Where the dimmest pictures are this close to the brightest, as a share of their light, both are saturated."""


def refuse_unfit_readings(exposures: Exposures, full_scale: float | None) -> None:
    """Raise the error of calibration.verdict that fits, if any does.

    full_scale: the highest value that readings can take, units above the stated offset, where it is known. "The dimmest
    pictures" are those of pair 1, sign +1.
    """
    value = exposures.value
    bright = value[(exposures.pair == 0) & (exposures.sign > 0)]
    dark = value[(exposures.pair == 0) & (exposures.sign < 0)]
    dimmest = value[(exposures.pair == 1) & (exposures.sign > 0)]
    if not (np.isfinite(value).all() and np.isfinite(exposures.dark).all()):
        raise NotCalibratableError("found readings that are not finite numbers; look at the detector's driver")
    if min(len(bright), len(dark), len(dimmest)) < 2:
        raise NotCalibratableError(
            f"found {len(bright)} bright, {len(dark)} dark and {len(dimmest)} dimmest pictures; expected at least two "
            "of each: play the whole recipe"
        )
    if _at_full_scale(dimmest, full_scale) and _at_full_scale(bright, full_scale):
        raise SaturatedThroughoutError(
            _saturated(dimmest, bright, f"the full scale is {full_scale:g} above the offset")
        )
    if value.min() == value.max():
        if exposures.saturated >= len(value):
            raise SaturatedThroughoutError(_saturated(dimmest, bright, "all have pixels at full scale"))
        raise ConstantReadingsError(
            f"found {len(value)} readings that are all {value[0]:g}; expected them to follow the light: the detector "
            "gives a constant. Look whether its frames arrive, which region is summed, and whether it is in a test mode"
        )
    signal = float(bright.mean() - dark.mean())
    error = float(bright.var(ddof=1) / len(bright) + dark.var(ddof=1) / len(dark)) ** 0.5
    if signal <= SIGNAL_DEVIATIONS * error:
        raise NoSignalError(
            f"found bright pictures at {bright.mean():g} and dark ones at {dark.mean():g} (difference {signal:.3g} ± "
            f"{error:.3g}); expected bright ones to read more. Open the shutter, look whether the light source is on "
            "and the DMD is imaged on the detector, and whether 'mirror on' sends light towards the sample"
        )
    if bright.mean() - dimmest.mean() < SATURATED_SHARE * signal:
        raise SaturatedThroughoutError(_saturated(dimmest, bright, f"darkness reads {dark.mean():g}"))
    pictures = 2 * exposures.pair + (exposures.sign < 0)
    if not any(_varies(value[pictures == each]) for each in np.unique(pictures)):
        raise ConstantReadingsError(
            "found no variance: readings of every picture are all the same number; expected photon noise. Choose a "
            "finer step of the detector's values (gain, bit depth, no averaging), or more light"
        )


def _varies(value: NDArray[np.float64]) -> bool:
    return bool(value.min() < value.max())


def _at_full_scale(value: NDArray[np.float64], full_scale: float | None) -> bool:
    return full_scale is not None and bool(np.mean(value >= full_scale) > 0.5)


def _saturated(dimmest: NDArray[np.float64], bright: NDArray[np.float64], known: str) -> str:
    return (
        f"found the dimmest pictures at {dimmest.mean():g} and the brightest at {bright.mean():g} ({known}); expected "
        "light in proportion to the mirrors that are on: the detector is saturated throughout. Reduce the light, the "
        "exposure or the detector's gain"
    )
