"""A camera of Micro-Manager as a detector: frames become bucket values."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from devices.detector import Burst, DetectorInfo
from devices.errors import DetectorTimeoutError, DeviceStateError, FrameBufferOverflowError, FrameShapeError
from devices.micromanager_core import must_be_reachable

# Frames asked for beyond the exposures of a burst: a doubled trigger shows as a frame that is left over.
_SURPLUS: Final = 16
_BATCH_BYTES: Final = 4 * 2**20
_LONGEST_BATCH: Final = 1024
_POLL_S: Final = 0.0005
_PIXEL_TYPES: Final[dict[int, Any]] = {1: np.uint8, 2: np.uint16, 4: np.uint32}
_INTEGER_PIXELS: Final = re.compile(r"gray ?32|grey ?32|mono ?32|u?int ?32|unsigned|integer", re.IGNORECASE)


@dataclass(frozen=True)
class MicroManagerSettings:
    """How a camera is used as a detector.

    ``camera``: its label, None for Micro-Manager's current one. ``offset_per_px``: subtracted from every pixel of the
    region. ``region``: x, y, width, height of the part of the frame that is summed, None for all of it. The properties
    (device, name, value) are set on connection, and when leaving: trigger mode, binning, gain and the like.
    ``full_scale``: the largest pixel value, None to take it from the camera's bit depth. ``frame_metadata``: read the
    camera's frame numbers and times too, which costs time.
    """

    camera: str | None = None
    offset_per_px: float = 0.0
    region: tuple[int, int, int, int] | None = None
    properties_when_armed: tuple[tuple[str, str, str], ...] = ()
    properties_when_left: tuple[tuple[str, str, str], ...] = ()
    full_scale: int | None = None
    frame_metadata: bool = False


class MicroManagerDetector:
    """The Detector promise (devices/detector.py) kept by a camera of a Micro-Manager core.

    ``core`` is a remote core (frames arrive flat), a core in this process (frames arrive two-dimensional), or a
    stand-in. It stays open when the detector is closed: others may use it too. The properties for arming are set before
    the frame's size is asked for, because they may change it.

    Pixels are grey integers of 1, 2 or 4 bytes. Micro-Manager describes 4-byte integers and 32-bit floats alike (4
    bytes, one component, tag GRAY32; its DemoCamera's "32bit" are floats), so 4 bytes are taken only from a camera
    whose property PixelType names integers (GRAY32, Mono32, uint32 or the like).

    Raises FrameShapeError where the region does not lie on the frame, or the pixels are of another kind; the
    properties for leaving are set by then.
    """

    def __init__(self, core: Any, settings: MicroManagerSettings | None = None) -> None:
        self._core = core
        self._settings = settings or MicroManagerSettings()
        self._armed = False
        self._closed = False
        if self._settings.camera is not None:
            core.set_camera_device(self._settings.camera)
        try:
            self._set(self._settings.properties_when_armed)
            self._ask_camera()
        except BaseException as error:
            try:
                self.close()
            except Exception as closing:
                error.add_note(f"while leaving the camera, also: {closing}")
            raise

    @property
    def info(self) -> DetectorInfo:
        """The camera's label and frame size."""
        return self._info

    def arm(self, n_exposures: int, exposure_time_us: int) -> None:
        """Start one camera sequence for the burst; stale frames are thrown away first.

        The sequence asks for a few frames more than ``n_exposures``, so that surplus ones are noticed.
        Raises ValueError, DeviceStateError where it is armed already or closed.
        """
        if n_exposures < 1 or exposure_time_us < 1:
            raise ValueError(
                f"{n_exposures} exposures of {exposure_time_us} µs were asked for; allowed: 1 or more of both"
            )
        if self._closed:
            raise DeviceStateError(f"camera {self._info.name!r} was closed; connect to it again")
        if self._armed:
            raise DeviceStateError(f"camera {self._info.name!r} is armed already; disarm it before arming it again")
        self._core.set_exposure(exposure_time_us / 1e3)
        self._core.clear_circular_buffer()
        self._core.start_sequence_acquisition(n_exposures + _SURPLUS, 0.0, True)
        self._armed = True

    def read(self, n_exposures: int, timeout_s: float) -> Burst:
        """The next ``n_exposures`` frames as bucket values (sum over the region minus offset), in detector units.

        Raises DetectorTimeoutError, FrameBufferOverflowError, FrameShapeError, DeviceStateError unless armed.
        """
        if not self._armed:
            raise DeviceStateError(f"camera {self._info.name!r} is not armed; arm it before the projector starts")
        frame_bytes = self._info.width_px * self._info.height_px * self._info.bytes_per_px
        at_once = max(1, min(_LONGEST_BATCH, _BATCH_BYTES // frame_bytes))
        values = np.empty(n_exposures)
        tags: list[dict[str, Any]] = []
        saturated = n_read = 0
        deadline = time.monotonic() + timeout_s
        while n_read < n_exposures:
            n = min(self._wait_for_frames(n_read, n_exposures, deadline, timeout_s), n_exposures - n_read, at_once)
            sums, n_saturated = self._sums(self._pop(n, tags))
            values[n_read : n_read + n] = sums
            saturated += n_saturated
            n_read += n
        # A burst that was complete may still have lost frames that came after it.
        if self._core.is_buffer_overflowed():
            raise self._overflow(n_read, n_exposures)
        return Burst(values, _frame_numbers(tags, n_exposures), _times_us(tags, n_exposures), saturated)

    def surplus_frames(self) -> int:
        """Frames that came and were not read."""
        return int(self._core.get_remaining_image_count())

    def disarm(self) -> None:
        """Stop the camera's sequence; where that fails it counts as armed still, and can be disarmed again."""
        if self._armed:
            self._core.stop_sequence_acquisition()
            self._armed = False

    def close(self) -> None:
        """Disarm, and set the properties for leaving; where either fails, closing it again tries again.

        Raises what Micro-Manager raises, and DeviceNotFoundError where its server has gone.
        """
        if self._closed:
            return
        must_be_reachable(self._core)
        try:
            self.disarm()
        finally:
            self._set(self._settings.properties_when_left)
        self._closed = True

    def _ask_camera(self) -> None:
        core, settings = self._core, self._settings
        self._info = DetectorInfo(
            name=str(core.get_camera_device()),
            width_px=int(core.get_image_width()),
            height_px=int(core.get_image_height()),
            bytes_per_px=int(core.get_bytes_per_pixel()),
        )
        self._check_frames()
        self._region = settings.region or (0, 0, self._info.width_px, self._info.height_px)
        self._check_region()
        bit_depth = int(core.get_image_bit_depth())
        self._full_scale = 2**bit_depth - 1 if settings.full_scale is None else settings.full_scale

    def _set(self, properties: tuple[tuple[str, str, str], ...]) -> None:
        for device, name, value in properties:
            self._core.set_property(device, name, value)

    def _wait_for_frames(self, n_read: int, n_exposures: int, deadline: float, timeout_s: float) -> int:
        """How many frames are there, at least one."""
        while True:
            available = int(self._core.get_remaining_image_count())
            if available > 0:
                return available
            if self._core.is_buffer_overflowed():
                raise self._overflow(n_read, n_exposures)
            if time.monotonic() > deadline:
                raise DetectorTimeoutError(
                    f"camera {self._info.name!r} delivered {n_read} of {n_exposures} frames within {timeout_s:g} s; "
                    "check the trigger cable, the camera's trigger mode (properties when armed), and that its exposure "
                    "and readout fit into the picture time; a slow camera needs a longer picture_time_us"
                )
            time.sleep(_POLL_S)

    def _overflow(self, n_read: int, n_exposures: int) -> FrameBufferOverflowError:
        return FrameBufferOverflowError(
            f"the circular buffer of camera {self._info.name!r} overflowed after {n_read} of {n_exposures} frames were "
            "read; make the buffer larger (its memory footprint in MB), the frame smaller, or the blocks shorter"
        )

    def _pop(self, n: int, tags: list[dict[str, Any]]) -> list[Any]:
        if not self._settings.frame_metadata:
            pop = self._core.pop_next_image
            return [pop() for _ in range(n)]
        frames = []
        for _ in range(n):
            tagged = self._core.pop_next_tagged_image()
            frames.append(tagged.pix)
            tags.append(tagged.tags)
        return frames

    def _sums(self, frames: list[Any]) -> tuple[NDArray[np.float64], int]:
        """Bucket values of some frames, and how many of them hold a pixel at full scale."""
        info = self._info
        # axis=None takes flat and two-dimensional frames alike.
        pixels = np.concatenate(frames, axis=None)
        expected = len(frames) * info.width_px * info.height_px
        if pixels.size != expected or pixels.dtype.itemsize != info.bytes_per_px:
            raise FrameShapeError(
                f"{len(frames)} frames of camera {info.name!r} hold {pixels.size} pixels of {pixels.dtype}; "
                f"expected {expected} of {info.bytes_per_px} bytes; its region of interest or pixel type changed since"
            )
        # The bridge hands some types over as signed ones; the bits are the camera's.
        stack = pixels.view(_PIXEL_TYPES[info.bytes_per_px]).reshape(len(frames), info.height_px, info.width_px)
        x, y, width, height = self._region
        part = stack[:, y : y + height, x : x + width].reshape(len(frames), -1)
        sums = part.sum(axis=1, dtype=np.uint64).astype(np.float64) - self._settings.offset_per_px * (width * height)
        return sums, int((part.max(axis=1) >= self._full_scale).sum())

    def _check_frames(self) -> None:
        info, n_components = self._info, int(self._core.get_number_of_components())
        if n_components != 1 or info.bytes_per_px not in _PIXEL_TYPES or min(info.width_px, info.height_px) < 1:
            raise FrameShapeError(
                f"camera {info.name!r} gives frames of {info.width_px} × {info.height_px} pixels of "
                f"{info.bytes_per_px} bytes in {n_components} components; a grey pixel type (1 component) of 1, 2 or 4 "
                "bytes is needed: set it by the properties when armed"
            )
        if info.bytes_per_px == 4:
            self._check_integers()

    def _check_integers(self) -> None:
        name = self._info.name
        has_type = self._core.has_property(name, "PixelType")
        pixel_type = str(self._core.get_property(name, "PixelType")) if has_type else ""
        if not _INTEGER_PIXELS.search(pixel_type) or "float" in pixel_type.lower():
            stated = f"its pixel type is {pixel_type!r}" if has_type else "it has no property PixelType"
            raise FrameShapeError(
                f"the 4-byte pixels of camera {name!r} may be floating-point numbers ({stated}), and integers are "
                "needed; set a pixel type of 8 or 16 bits by the properties when armed"
            )

    def _check_region(self) -> None:
        x, y, width, height = self._region
        fits = x + width <= self._info.width_px and y + height <= self._info.height_px
        if not fits or min(x, y) < 0 or min(width, height) < 1:
            raise FrameShapeError(
                f"the bucket region x={x}, y={y}, {width} × {height} px does not lie on camera {self._info.name!r}, "
                f"whose frames are {self._info.width_px} × {self._info.height_px} px"
            )


def _frame_numbers(tags: list[dict[str, Any]], n: int) -> NDArray[np.int64] | None:
    """The camera's frame numbers int64 [n]; None unless every frame has one."""
    if len(tags) != n or any("ImageNumber" not in each for each in tags):
        return None
    return np.array([int(each["ImageNumber"]) for each in tags], dtype=np.int64)


def _times_us(tags: list[dict[str, Any]], n: int) -> NDArray[np.float64] | None:
    """The camera's frame times float64 [n] in µs; None unless every frame has one."""
    if len(tags) != n or any("ElapsedTime-ms" not in each for each in tags):
        return None
    return np.array([float(each["ElapsedTime-ms"]) for each in tags]) * 1e3
