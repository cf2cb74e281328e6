"""A simulated Micro-Manager core: a camera that watches the bench, and a shutter in its light path.

Names, arguments, results and error texts are those of pycromanager's core in this process (MMCore's, in snake case),
so that our driver, a laboratory's script, and the server stand-in use it as they use the real one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim_devices.bench import OpticalBench
from sim_devices.frames import Frame, FrameBuffer, Sensor

_CAMERA = "SimulatedCamera"
_SHUTTER = "SimulatedShutter"
_CORE = "Core"
_VERSION = "MMCore version 12.5.1 (Hadascope's stand-in)"
_PIXEL_TYPES = {1: "GRAY8", 2: "GRAY16", 4: "GRAY32"}
_ALLOWED = {"TriggerMode": ("External",), "Binning": ("1",)}


@dataclass
class TaggedImage:
    """A frame and what the camera says of it."""

    tags: dict[str, Any]
    pix: Frame


class SimulatedCore:
    """An externally triggered camera on the bench: one frame per exposure while a sequence runs, none otherwise.

    A frame is the sensor's part of the whole reading (see Sensor.frames); a region of interest shows a part of it.
    ``arming_ms`` is declared to the bench's clock at every sequence start. Errors are RuntimeError with MMCore's texts.
    """

    def __init__(
        self,
        bench: OpticalBench,
        width_px: int = 8,
        height_px: int = 8,
        bytes_per_px: int = 2,
        bit_depth: int | None = None,
        circular_buffer_mb: int = 256,
        arming_ms: float = 0.0,
    ) -> None:
        self._bench = bench
        self._sensor = Sensor(height_px, width_px, bytes_per_px, bit_depth or 8 * bytes_per_px)
        self._arming_us = arming_ms * 1e3
        self._buffer_mb = circular_buffer_mb
        self._buffer = FrameBuffer(self._sensor, self._capacity())
        self._roi = (0, 0, width_px, height_px)
        self._exposure_ms = 10.0
        pixel_type = _PIXEL_TYPES[bytes_per_px]
        self._properties = {"TriggerMode": "External", "Binning": "1", "Gain": "1", "PixelType": pixel_type}
        self._camera = _CAMERA
        self._shutter = _SHUTTER
        self._auto_shutter = True
        self._running = False
        self._wanted = 0
        self._n_inserted = 0
        self._started_us = 0.0
        self._stop_on_overflow = True
        bench.attach(self)

    def expose(self, times_us: NDArray[np.float64], readings: NDArray[np.float64]) -> None:
        """The bench displayed exposures: take those that the running sequence still wants."""
        if not self._running:
            return
        n = int(min(len(readings), self._wanted - self._n_inserted))
        stored = self._buffer.insert(readings[:n], times_us[:n], self._n_inserted)
        while stored < n and not self._stop_on_overflow:
            # MMCore throws the whole buffer away and goes on: what is read then does not fit what was shown.
            self._buffer.clear()
            self._buffer.overflowed = True
            first = self._n_inserted + stored
            stored += self._buffer.insert(readings[stored:n], times_us[stored:n], first)
            self._buffer.overflowed = True
        self._n_inserted += n
        if stored < n or self._n_inserted >= self._wanted:
            self._end_sequence()

    def get_version_info(self) -> str:
        """Says that this is a stand-in."""
        return _VERSION

    def get_loaded_devices(self) -> Sequence[str]:
        """Labels of all devices."""
        return (_CAMERA, _SHUTTER, _CORE)

    def get_camera_device(self) -> str:
        """Label of the current camera."""
        return self._camera

    def set_camera_device(self, label: str) -> None:
        """Choose the camera."""
        self._must_be(label, _CAMERA)
        self._camera = label

    def get_image_width(self) -> int:
        """Width of a frame in pixels."""
        return self._roi[2]

    def get_image_height(self) -> int:
        """Height of a frame in pixels."""
        return self._roi[3]

    def get_bytes_per_pixel(self) -> int:
        """Bytes of a pixel."""
        return self._sensor.bytes_per_px

    def get_image_bit_depth(self) -> int:
        """Bits of a pixel that are used."""
        return self._sensor.bit_depth

    def get_number_of_components(self) -> int:
        """1: grey."""
        return 1

    def set_exposure(self, *arguments: Any) -> None:
        """Set the exposure time in ms: (ms) or (camera, ms)."""
        *label, exposure_ms = arguments
        self._must_be(*(label or [_CAMERA]), _CAMERA)
        if not exposure_ms > 0:
            raise RuntimeError(f'Invalid exposure time {exposure_ms} ms for camera "{_CAMERA}"')
        self._exposure_ms = float(exposure_ms)

    def get_exposure(self, label: str = _CAMERA) -> float:
        """The exposure time in ms."""
        self._must_be(label, _CAMERA)
        return self._exposure_ms

    def set_roi(self, *arguments: Any) -> None:
        """Show a part of the sensor: (x, y, width, height), a camera label before them or not."""
        self._must_be_stopped()
        x, y, width, height = (int(argument) for argument in arguments[-4:])
        fits = x >= 0 and y >= 0 and x + width <= self._sensor.width_px and y + height <= self._sensor.height_px
        if not fits or width < 1 or height < 1:
            raise RuntimeError(f"ROI {(x, y, width, height)} does not lie on the sensor")
        self._roi = (x, y, width, height)

    def get_roi(self) -> list[int]:
        """x, y, width, height of the part that is shown."""
        return list(self._roi)

    def clear_roi(self) -> None:
        """Show all of the sensor."""
        self._must_be_stopped()
        self._roi = (0, 0, self._sensor.width_px, self._sensor.height_px)

    def has_property(self, label: str, name: str) -> bool:
        """Whether the device has such a property."""
        self._must_be(label, *self.get_loaded_devices())
        return label == _CAMERA and name in self._properties

    def get_device_property_names(self, label: str) -> Sequence[str]:
        """Names of a device's properties."""
        self._must_be(label, *self.get_loaded_devices())
        return tuple(self._properties) if label == _CAMERA else ()

    def get_property(self, label: str, name: str) -> str:
        """A property's value."""
        self._must_have(label, name)
        return self._properties[name]

    def set_property(self, label: str, name: str, value: Any) -> None:
        """Set a property; this camera is triggered externally, does not bin, and has one pixel type."""
        self._must_have(label, name)
        text = str(value)
        allowed = (_PIXEL_TYPES[self._sensor.bytes_per_px],) if name == "PixelType" else _ALLOWED.get(name, (text,))
        if text not in allowed:
            raise RuntimeError(f'Cannot set property "{name}" of device "{label}" to "{text}": Invalid property value')
        self._properties[name] = text

    def start_sequence_acquisition(self, *arguments: Any) -> None:
        """Take the next n frames: (n, interval in ms, stop on overflow), a camera label before them or not."""
        with self._bench.lock:
            if len(arguments) == 4:
                self._must_be(arguments[0], _CAMERA)
            n_images, _, stop_on_overflow = arguments[-3:]
            self._bench.advance()
            self._must_be_stopped()
            if n_images < 1:
                raise RuntimeError(f"Cannot start a sequence of {n_images} images")
            self._bench.spend(self._arming_us)
            self._buffer.clear()
            self._begin_sequence(int(n_images), bool(stop_on_overflow))

    def start_continuous_sequence_acquisition(self, interval_ms: float) -> None:
        """Take frames until stopped."""
        self.start_sequence_acquisition(2**62, interval_ms, False)

    def stop_sequence_acquisition(self, label: str = _CAMERA) -> None:
        """Take no more frames; those in the buffer stay there."""
        self._must_be(label, _CAMERA)
        with self._bench.lock:
            self._bench.advance()
            if self._running:
                self._end_sequence()

    def is_sequence_running(self, label: str = _CAMERA) -> bool:
        """Whether frames are still wanted."""
        self._must_be(label, _CAMERA)
        with self._bench.lock:
            self._bench.advance()
            return self._running

    def get_remaining_image_count(self) -> int:
        """Frames in the buffer."""
        with self._bench.lock:
            self._bench.advance()
            return len(self._buffer)

    def pop_next_image(self) -> Frame:
        """The oldest frame, [height, width]."""
        return self._pop()[0]

    def pop_next_tagged_image(self) -> TaggedImage:
        """The oldest frame with its tags; values are text, as MMCore's are."""
        frame, start_us, number = self._pop()
        tags = {
            "Camera": _CAMERA,
            "ImageNumber": str(number),
            "ElapsedTime-ms": f"{(start_us - self._started_us) / 1e3:.4f}",
            "Width": str(frame.shape[1]),
            "Height": str(frame.shape[0]),
            "PixelType": _PIXEL_TYPES[self._sensor.bytes_per_px],
            "BitDepth": str(self._sensor.bit_depth),
        }
        return TaggedImage(tags, frame)

    def snap_image(self) -> None:
        """Refused: an externally triggered camera takes no frame by itself."""
        raise RuntimeError(f'Camera "{_CAMERA}" waited for an external trigger that did not come')

    def clear_circular_buffer(self) -> None:
        """Throw all frames away."""
        with self._bench.lock:
            self._bench.advance()
            self._buffer.clear()

    def is_buffer_overflowed(self) -> bool:
        """Whether frames were lost because the buffer was full."""
        return self._buffer.overflowed

    def set_circular_buffer_memory_footprint(self, size_mb: int) -> None:
        """Set the buffer's size in MB; throws all frames away."""
        with self._bench.lock:
            self._must_be_stopped()
            if size_mb < 1:
                raise RuntimeError(f"Cannot allocate a circular buffer of {size_mb} MB")
            self._buffer_mb = int(size_mb)
            self._buffer = FrameBuffer(self._sensor, self._capacity())

    def get_circular_buffer_memory_footprint(self) -> int:
        """The buffer's size in MB."""
        return self._buffer_mb

    def get_buffer_total_capacity(self) -> int:
        """Frames the buffer holds."""
        return self._buffer.capacity

    def get_buffer_free_capacity(self) -> int:
        """Frames there is room for."""
        with self._bench.lock:
            self._bench.advance()
            return self._buffer.capacity - len(self._buffer)

    def get_shutter_device(self) -> str:
        """Label of the current shutter."""
        return self._shutter

    def set_shutter_device(self, label: str) -> None:
        """Choose the shutter; an empty label chooses none."""
        self._must_be(label, _SHUTTER, "")
        self._shutter = label

    def set_shutter_open(self, *arguments: Any) -> None:
        """Open or close: (open) or (shutter, open)."""
        *label, is_open = arguments
        self._must_be(*(label or [self._shutter]), _SHUTTER)
        self._bench.set_light(bool(is_open))

    def get_shutter_open(self, label: str | None = None) -> bool:
        """Whether the shutter is open."""
        self._must_be(self._shutter if label is None else label, _SHUTTER)
        return self._bench.light_on

    def set_auto_shutter(self, on: bool) -> None:
        """Whether camera sequences open and close the shutter by themselves."""
        self._auto_shutter = bool(on)

    def get_auto_shutter(self) -> bool:
        """Whether they do; MMCore's default is yes."""
        return self._auto_shutter

    def wait_for_device(self, label: str) -> None:
        """Return when the device is not busy: at once."""
        self._must_be(label, *self.get_loaded_devices())

    def wait_for_system(self) -> None:
        """Return when no device is busy: at once."""

    def _begin_sequence(self, n_images: int, stop_on_overflow: bool) -> None:
        if self._auto_shutter and self._shutter:
            self._bench.set_light(True)
        self._wanted, self._stop_on_overflow = n_images, stop_on_overflow
        self._n_inserted = 0
        self._started_us = self._bench.time_us
        self._running = True

    def _end_sequence(self) -> None:
        self._running = False
        if self._auto_shutter and self._shutter:
            self._bench.set_light(False)

    def _pop(self) -> tuple[Frame, float, int]:
        with self._bench.lock:
            if not len(self._buffer):
                self._bench.advance()
                if not len(self._buffer):
                    raise RuntimeError("Circular buffer is empty.")
            frame, start_us, number = self._buffer.pop()
        x, y, width, height = self._roi
        return frame[y : y + height, x : x + width], start_us, number

    def _capacity(self) -> int:
        return math.floor(self._buffer_mb * 2**20 / self._sensor.frame_bytes)

    def _must_be(self, label: str, *allowed: str) -> None:
        if label not in allowed:
            raise RuntimeError(f'No device with label "{label}"')

    def _must_have(self, label: str, name: str) -> None:
        if not self.has_property(label, name):
            raise RuntimeError(f'Device "{label}" has no property "{name}"')

    def _must_be_stopped(self) -> None:
        if self._running:
            raise RuntimeError("This operation can not be executed while sequence acquisition is running.")
