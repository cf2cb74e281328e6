"""What every calibration that was made can say of itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from acquisition.calibration_output import CalibrationOutput


class Calibrated(Protocol):
    """A calibration that was made, and written to ``output``."""

    @property
    def title(self) -> str:
        """What was calibrated."""
        ...

    @property
    def output(self) -> CalibrationOutput:
        """Where it is."""
        ...

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why acquisitions may not rely on it; nothing where they may."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What else a person should know."""
        ...

    def rows(self) -> Iterator[tuple[str, str]]:
        """What was measured, and each figure with its interval and unit."""
        ...
