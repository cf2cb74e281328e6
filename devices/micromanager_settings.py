"""How a camera of Micro-Manager is set up as a detector, read back, and left as it was found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from devices.errors import (
    DeviceError,
    DeviceNotFoundError,
    DevicePropertyError,
    DeviceSilentError,
    DeviceStateError,
    FrameShapeError,
    MicroManagerCallError,
)

Property = tuple[str, str, str]
TimeUnit = Literal["us", "ms", "s"]

US_PER_UNIT: Final[dict[str, float]] = {"us": 1.0, "ms": 1e3, "s": 1e6}
_BINNING: Final = "Binning"
# Parts of the names of camera properties that decide how many units a photo-electron gives, as adapters call them.
_GAIN_WORDS: Final = (
    "gain",
    "multiplier",
    "sensitivity",
    "conversion",
    "readoutrate",
    "readoutmode",
    "scanmode",
    "pixeltype",
    "bitdepth",
)
# Cameras print numbers with four decimals or so.
_READ_BACK_TOLERANCE: Final = 1e-3


@dataclass(frozen=True)
class MicroManagerSettings:
    """How a camera is used as a detector.

    ``camera``: its label, None for Micro-Manager's current one. ``offset_per_px``: subtracted from every pixel of the
    region. ``region``: x, y, width, height of the part of the frame that is summed, None for all of it. The properties
    (device, name, value) are set on connection, and when leaving: trigger mode, gain and the like.
    ``full_scale``: the largest pixel value, None to take it from the camera's bit depth. ``frame_metadata``: read the
    camera's frame numbers and times too, which costs time; the time is the tag ``time_tag`` in ``time_tag_unit``.

    ``binning``: sensor pixels a side that make one pixel (the property Binning). ``camera_roi``: x, y, width, height
    of the part of the sensor that the camera reads out, in binned pixels. ``buffer_mb``: the circular buffer's size in
    MB. None leaves these as they are found. ``keep_frames``: hand the region's pixels over with every burst.
    ``readout_property``: (device, name, unit) of a property that tells the camera's readout time. Units are us, ms, s.
    """

    camera: str | None = None
    offset_per_px: float = 0.0
    region: tuple[int, int, int, int] | None = None
    properties_when_armed: tuple[Property, ...] = ()
    properties_when_left: tuple[Property, ...] = ()
    full_scale: int | None = None
    frame_metadata: bool = False
    binning: int | None = None
    camera_roi: tuple[int, int, int, int] | None = None
    buffer_mb: int | None = None
    keep_frames: bool = False
    time_tag: str = "ElapsedTime-ms"
    time_tag_unit: TimeUnit = "ms"
    readout_property: tuple[str, str, TimeUnit] | None = None

    def __post_init__(self) -> None:
        for name, number in (("binning", self.binning), ("buffer_mb", self.buffer_mb), ("full_scale", self.full_scale)):
            if number is not None and number < 1:
                raise ValueError(f"{name} is {number}; allowed: 1 or more")
        units = {self.time_tag_unit, *(self.readout_property or ())[2:]}
        if not units <= set(US_PER_UNIT):
            raise ValueError(f"unknown unit of time among {sorted(units)}; allowed: {', '.join(US_PER_UNIT)}")


@dataclass(frozen=True)
class FoundCamera:
    """A camera as it was before it was set up; None for what is not going to be changed."""

    label: str
    exposure_ms: float
    binning: str | None
    roi: tuple[int, int, int, int] | None


def ask(core: Any, method: str, *arguments: Any) -> Any:
    """What a core answers. Raises MicroManagerCallError, with its own words, where it raises what is no DeviceError."""
    try:
        return getattr(core, method)(*arguments)
    except DeviceError:
        raise
    except Exception as error:  # pymmcore raises RuntimeError, ValueError, OSError and SystemError
        said = ", ".join(map(repr, arguments))
        raise MicroManagerCallError(f"Micro-Manager refused {method}({said}): {error}") from error


def find_camera(core: Any, settings: MicroManagerSettings) -> FoundCamera:
    """Choose the camera, and remember how it is.

    Raises DevicePropertyError where there is no such camera, and DeviceStateError where it takes a sequence now.
    """
    if settings.camera is not None:
        _choose(core, settings.camera)
    label = str(ask(core, "get_camera_device"))
    if not label:
        raise DeviceStateError(
            f"Micro-Manager has no current camera; name one of its devices ({', '.join(_loaded(core))}), or load a "
            "configuration that has one"
        )
    if ask(core, "is_sequence_running"):
        raise DeviceStateError(
            f"camera {label!r} is taking a sequence: end the live view or the acquisition in Micro-Manager; if a "
            "program that crashed left it so, switch the live view on and off"
        )
    return FoundCamera(
        label=label,
        exposure_ms=float(ask(core, "get_exposure")),
        binning=None if settings.binning is None else get_property(core, label, _BINNING),
        roi=None if settings.camera_roi is None and settings.binning is None else camera_roi(core),
    )


def set_up_camera(core: Any, label: str, settings: MicroManagerSettings) -> None:
    """Set properties, binning, region of interest and buffer, in this order, and read everything back at the end.

    In this order, because properties may change the pixel type, and binning the region of interest; cameras change
    one property with another, so that nothing holds before all are set. Raises DevicePropertyError, also where a
    property for leaving does not exist, DeviceStateError where something reads back otherwise, FrameShapeError where
    the region of interest does not lie on the sensor.
    """
    properties = settings.properties_when_armed
    if settings.binning is not None:
        properties = (*properties, (label, _BINNING, str(settings.binning)))
    set_properties(core, properties)
    for device, name, _ in settings.properties_when_left:
        _must_have(core, device, name)
    if settings.camera_roi is not None:
        _set_roi(core, label, settings.camera_roi)
    # Setting its size is what makes MMCore count the frames it holds, for the frame size as it is now.
    buffer_mb = settings.buffer_mb or int(ask(core, "get_circular_buffer_memory_footprint"))
    ask(core, "set_circular_buffer_memory_footprint", buffer_mb)
    _must_read_back(core, properties)
    if settings.camera_roi is not None:
        _must_be(f"the region of interest of camera {label!r}", camera_roi(core), settings.camera_roi)
    found_mb = int(ask(core, "get_circular_buffer_memory_footprint"))
    _must_be("Micro-Manager's circular buffer in MB", found_mb, buffer_mb)


def leave_camera(core: Any, found: FoundCamera, settings: MicroManagerSettings) -> None:
    """Undo what was set up, and set the properties for leaving; everything is tried, then the first error is raised."""

    def exposure_back() -> None:
        ask(core, "set_exposure", found.exposure_ms)

    def binning_back() -> None:
        if found.binning is not None:
            set_properties(core, ((found.label, _BINNING, found.binning),))

    def roi_back() -> None:
        if found.roi is not None:
            _set_roi(core, found.label, found.roi)

    def properties_left() -> None:
        set_properties(core, settings.properties_when_left)
        _must_read_back(core, settings.properties_when_left)

    errors: list[DeviceError] = []
    for step in (exposure_back, binning_back, roi_back, properties_left):
        try:
            step()
        except (DeviceNotFoundError, DeviceSilentError):
            raise  # what else is asked would not be answered either
        except DeviceError as error:
            errors.append(error)
    if errors:
        for other in errors[1:]:
            errors[0].add_note(f"leaving the camera, also: {other}")
        raise errors[0]


def set_properties(core: Any, properties: Sequence[Property]) -> None:
    """Set properties (device, name, value) in their order. Raises DevicePropertyError, which says what there is."""
    for device, name, value in properties:
        _must_have(core, device, name)
        try:
            ask(core, "set_property", device, name, value)
        except MicroManagerCallError as error:
            raise DevicePropertyError(
                f"{device!r} does not take {value!r} for its property {name!r}{_allowed(core, device, name)}: {error}"
            ) from error


def get_property(core: Any, device: str, name: str) -> str:
    """A property's value. Raises DevicePropertyError, which says what properties there are."""
    _must_have(core, device, name)
    return str(ask(core, "get_property", device, name))


def camera_roi(core: Any) -> tuple[int, int, int, int]:
    """The part of the sensor that the camera reads out: x, y, width, height in binned pixels."""
    x, y, width, height = (int(each) for each in ask(core, "get_roi"))
    return x, y, width, height


def readout_us(core: Any, settings: MicroManagerSettings) -> float | None:
    """The readout time that the camera tells, in µs; None where no property was named.

    Raises DevicePropertyError where the property is missing or holds no time.
    """
    if settings.readout_property is None:
        return None
    device, name, unit = settings.readout_property
    text = get_property(core, device, name)
    number = _number(text)
    if number is None or not 0 <= number < math.inf:
        raise DevicePropertyError(
            f"the property {name!r} of {device!r} is {text!r}, which is no readout time in {unit}"
        )
    return number * US_PER_UNIT[unit]


def gain_settings(core: Any, label: str) -> tuple[tuple[str, str], ...]:
    """Names and values of the camera's settings that bear on its gain, by what such properties are called.

    Raises MicroManagerCallError.
    """
    names = sorted(str(each) for each in ask(core, "get_device_property_names", label))
    bear = (name for name in names if any(word in _plain(name) for word in _GAIN_WORDS))
    return tuple(
        (name, str(ask(core, "get_property", label, name)))
        for name in bear
        if not ask(core, "is_property_read_only", label, name)
    )


def _choose(core: Any, camera: str) -> None:
    try:
        ask(core, "set_camera_device", camera)
    except MicroManagerCallError as error:
        raise DevicePropertyError(
            f"Micro-Manager has no camera {camera!r}; its devices are {', '.join(_loaded(core))}: {error}"
        ) from error


def _loaded(core: Any) -> list[str]:
    return [str(each) for each in ask(core, "get_loaded_devices")]


def _must_have(core: Any, device: str, name: str) -> None:
    try:
        has = bool(ask(core, "has_property", device, name))
    except MicroManagerCallError as error:
        if device in (devices := _loaded(core)):
            raise
        raise DevicePropertyError(
            f"Micro-Manager has no device {device!r} for the property {name!r}; its devices are {', '.join(devices)}"
        ) from error
    if not has:
        there = ", ".join(str(each) for each in ask(core, "get_device_property_names", device))
        raise DevicePropertyError(f"{device!r} has no property {name!r}; it has {there or 'none'}")


def _allowed(core: Any, device: str, name: str) -> str:
    """The values that a property takes, where it tells."""
    try:
        values = [str(each) for each in ask(core, "get_allowed_property_values", device, name)]
    except MicroManagerCallError:
        return ""
    return f" (it takes {', '.join(values)})" if values else ""


def _set_roi(core: Any, label: str, roi: tuple[int, int, int, int]) -> None:
    try:
        ask(core, "set_roi", *roi)
    except MicroManagerCallError as error:
        raise FrameShapeError(
            f"camera {label!r} does not take the region of interest x, y, width, height = {roi} (in binned pixels): "
            f"{error}"
        ) from error


def _must_read_back(core: Any, properties: Sequence[Property]) -> None:
    # Of a property that is set twice the last value holds.
    for (device, name), value in {(device, name): value for device, name, value in properties}.items():
        found = str(ask(core, "get_property", device, name))
        if not _same(found, value):
            _must_be(f"the property {name!r} of {device!r}", found, value)


def _must_be(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise DeviceStateError(
            f"{what} was set to {expected!r} and reads back {found!r}; ask for a value that the device can take, or "
            "look for another setting or program that changes it"
        )


def _same(found: str, expected: str) -> bool:
    if found == expected:
        return True
    numbers = _number(found), _number(expected)
    if numbers[0] is None or numbers[1] is None:
        return False
    return math.isclose(numbers[0], numbers[1], rel_tol=_READ_BACK_TOLERANCE)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
