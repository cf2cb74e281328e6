"""A calibration of the light's stability as a file."""

from __future__ import annotations

from typing import Literal

from calibration.estimate import Estimate
from calibration.identity import CalibrationModel, CameraIdentity
from calibration.measured import Measured
from calibration.stability import Stability


class PictureTimes(CalibrationModel):
    """What the search for the shortest safe picture time found, µs: safe, that which only just worked, and the longest
    that failed, with the failure; None where none did.
    """

    safe_us: int
    shortest_working_us: int
    longest_failing_us: int | None
    limited_by: str | None
    trials: int


class StabilityCalibration(CalibrationModel):
    """How steady the light was, and with what it was measured.

    measured: when, ISO 8601; raw: name of the zarr folder beside, with every reading. usable, reasons, notes: the
    verdict, why not, and what else should be known. total: T at the start, background: B, detector units, None where
    the light could not be switched off, all else being for B = 0 then. change: relative, over duration_s; bleaching:
    per second under light, lamp_drift: per second, None where nothing tells them apart; decline: by both, per second of
    the recipe's light; rates_correlation: of the two estimates. inside, between: relative variances of the light from
    exposure to exposure, and beyond that from pair to pair; shot_variance: a(T + 2B) + 2b, relative to (T + 2B)², None
    where a and b were not known; pair_variance: of y+ - y-, likewise. first_minus_second: what the first exposure of a
    pair reads more, as a share of T. contrast: on/off, high is None where it is a lower bound; offset_drift: of the
    dark level, detector units; None each where it was not measured. picture_time: None where it was not searched for.
    """

    version: Literal[1] = 1
    kind: Literal["stability"] = "stability"
    hadascope: str
    measured: str
    raw: str
    usable: bool
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    identity: CameraIdentity
    picture_time_us: float
    pairs: int
    outliers: int
    light_s: float
    duration_s: float
    total: float
    background: float | None
    change: Estimate
    bleaching: Estimate | None
    lamp_drift: Estimate | None
    decline: Estimate
    rates_correlation: float
    inside: Estimate
    between: Estimate
    shot_variance: float | None
    pair_variance: float
    first_minus_second: Estimate
    contrast: Estimate | None
    offset_drift: Estimate | None
    picture_time: PictureTimes | None


def stability_calibration(
    stability: Stability,
    identity: CameraIdentity,
    *,
    hadascope: str,
    measured: str,
    raw: str,
    picture_time: PictureTimes | None = None,
) -> StabilityCalibration:
    """The file of a fit; the keyword arguments go into it as they are."""
    fading, source = stability.fading, stability.source
    shot = source.shot_variance
    return StabilityCalibration(
        hadascope=hadascope,
        measured=measured,
        raw=raw,
        usable=stability.usable,
        reasons=stability.reasons,
        notes=stability.notes,
        identity=identity,
        picture_time_us=stability.picture_time_us,
        pairs=stability.pairs,
        outliers=stability.outliers,
        light_s=stability.light_s,
        duration_s=stability.duration_s,
        total=stability.total,
        background=stability.background,
        change=_estimate(fading.change),
        bleaching=_maybe(fading.bleaching),
        lamp_drift=_maybe(fading.drift),
        decline=_estimate(fading.decline),
        rates_correlation=fading.correlation,
        inside=_estimate(source.inside),
        between=_estimate(source.between),
        shot_variance=None if shot is None else shot / source.light**2,
        pair_variance=source.pair_variance / source.light**2,
        first_minus_second=_estimate(source.first_minus_second.scaled(1 / stability.total)),
        contrast=_maybe(stability.contrast),
        offset_drift=_maybe(stability.offset_drift),
        picture_time=picture_time,
    )


def _estimate(found: Measured) -> Estimate:
    return Estimate(value=found.value, low=found.low, high=found.high)


def _maybe(found: Measured | None) -> Estimate | None:
    return None if found is None else _estimate(found)
