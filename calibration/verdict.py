"""Why a calibration cannot be made from what came back; each says what was read, and what to do."""

from __future__ import annotations


class NotCalibratableError(ValueError):
    """What came back does not determine what was to be measured."""


class NoSignalError(NotCalibratableError):
    """Bright pictures read like dark ones."""


class ConstantReadingsError(NotCalibratableError):
    """Readings do not vary as light does: the detector gives a constant."""


class SaturatedThroughoutError(NotCalibratableError):
    """Even the dimmest pictures are beyond what the detector can read."""


class TooFewLevelsError(NotCalibratableError):
    """Too few light levels are left to tell gain, variance and source noise apart."""
