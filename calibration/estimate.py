"""A measured number as calibration files say it."""

from __future__ import annotations

from calibration.identity import CalibrationModel


class Estimate(CalibrationModel):
    """A number and its 95 % confidence interval; low or high is None where the interval has no such end."""

    value: float
    low: float | None
    high: float | None
