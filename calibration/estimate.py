"""A measured number as calibration files say it."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from calibration.identity import CalibrationModel


class Estimate(CalibrationModel):
    """A number and its 95 % confidence interval; low or high is None where the interval has no such end."""

    value: float
    low: float | None
    high: float | None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"an interval from {self.low:g} to {self.high:g}")
        return self
