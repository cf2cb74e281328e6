"""With what a calibration was measured: it holds for the same camera, set in the same way, and for nothing else."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict


class CalibrationModel(BaseModel):
    """A part of a calibration file: frozen, complete, without unknown keys or infinite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class CameraIdentity(CalibrationModel):
    """A detector and how it was set.

    simulated: whether it was a stand-in; camera: its name; exposure_us: of the camera, µs; region, roi: x, y, width,
    height of the pixels that are summed and of the part of the sensor that is read, None for all; binning: None where
    it is unknown; bytes_per_px: of a pixel; offset_per_px: that is subtracted; settings: device properties that bear on
    the gain, "device.property" → value.
    """

    simulated: bool
    camera: str
    exposure_us: float
    region: tuple[int, int, int, int] | None
    roi: tuple[int, int, int, int] | None
    binning: int | None
    bytes_per_px: int
    offset_per_px: float
    settings: dict[str, str]

    def differences(self, connected: CameraIdentity) -> Iterator[str]:
        """What keeps this calibration from holding for a connected detector, in words; nothing where it does hold."""
        for name, what in _COMPARED.items():
            then, now = getattr(self, name), getattr(connected, name)
            if then != now:
                yield f"{what} was {_shown(then)}, and is {_shown(now)} now"
        for name in sorted({*self.settings, *connected.settings}):
            then, now = self.settings.get(name), connected.settings.get(name)
            if then != now:
                yield f"{name} was {_shown(then)}, and is {_shown(now)} now"


_COMPARED = {
    "camera": "the camera",
    "exposure_us": "the exposure time in µs",
    "region": "the region that is summed (x, y, width, height)",
    "roi": "the camera's region of interest (x, y, width, height)",
    "binning": "the binning",
    "bytes_per_px": "the bytes of a pixel",
    "offset_per_px": "the offset of a pixel that is subtracted",
}


def _shown(value: object) -> str:
    return "not set" if value is None else str(value)
