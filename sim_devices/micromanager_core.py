"""A simulated Micro-Manager core: a camera that watches the bench, a shutter in its light path, stage and focus.

Names, arguments, results and error texts are those of pycromanager's core in this process (MMCore's, in snake case),
so that our driver, a laboratory's script, and the server stand-in use it as they use the real one.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from sim_devices.bench import OpticalBench
from sim_devices.camera import TriggeredCamera
from sim_devices.frames import Frame, Popped, Sensor
from sim_devices.moving_parts import FOCUS, XY_STAGE, MovingParts

_CAMERA: Final = "SimulatedCamera"
_SHUTTER: Final = "SimulatedShutter"
_CORE: Final = "Core"
_VERSION: Final = "MMCore version 12.5.1 (Hadascope's stand-in)"
_PIXEL_TYPES: Final = {1: "GRAY8", 2: "GRAY16", 4: "GRAY32"}
# Library, name in it, and MMCore's number of the type.
_DEVICES: Final = {
    _CAMERA: ("HadascopeSimulation", "TriggeredCamera", 2),
    _SHUTTER: ("HadascopeSimulation", "Shutter", 3),
    XY_STAGE: ("HadascopeSimulation", "XYStage", 6),
    FOCUS: ("HadascopeSimulation", "Stage", 5),
    _CORE: ("", "Core", 10),
}
_READ_ONLY: Final = ("ReadoutTime-ms",)
# MMCore's own, for every wait.
_TIMEOUT_MS: Final = 5000


@dataclass
class TaggedImage:
    """A frame and what the camera says of it."""

    tags: dict[str, Any]
    pix: Frame


class SimulatedCore:
    """An externally triggered camera on the bench: one frame per trigger while a sequence runs, none otherwise.

    A frame is the sensor's part of the whole reading (see Sensor.frames), or the image of the mirrors where the bench
    has SensorImages, which must be of this sensor's size; a region of interest shows a part of it. Pixels read
    ``saturation`` at most, while the bit depth stays what it is.
    ``arming_ms`` is declared to the bench's clock at every sequence start. With ``readout_us`` the camera misses a
    trigger that comes earlier than exposure and readout after the last one, and tells the readout as a property.
    ``moving`` are the stage, the focus and the presets that it drives, None for those of a microscope without presets.
    Errors are those of MMCore in Python, with its texts: RuntimeError, and IndexError where the buffer is empty.
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
        readout_us: float | None = None,
        shutter_mode: Literal["Global", "Rolling"] = "Global",
        saturation: int | None = None,
        moving: MovingParts | None = None,
    ) -> None:
        self._bench = bench
        self.moving = MovingParts(bench) if moving is None else moving
        sensor = Sensor(height_px, width_px, bytes_per_px, bit_depth or 8 * bytes_per_px, saturation)
        self._seen = TriggeredCamera(
            bench, sensor, circular_buffer_mb, arming_ms * 1e3, readout_us, self._sequence_has_ended
        )
        pixel_type = _PIXEL_TYPES[bytes_per_px]
        self._properties = {
            "TriggerMode": "External",
            "Binning": "1",
            "Gain": "1",
            "PixelType": pixel_type,
            "ShutterMode": shutter_mode,
        }
        if readout_us is not None:
            self._properties["ReadoutTime-ms"] = f"{readout_us / 1e3:g}"
        self._allowed = {
            "TriggerMode": ("External",),
            "Binning": tuple(str(each) for each in self._seen.possible_binnings()),
            "PixelType": (pixel_type,),
            "ShutterMode": ("Global", "Rolling"),
        }
        self._camera = _CAMERA
        self._shutter = _SHUTTER
        self._xy_stage = XY_STAGE
        self._focus = FOCUS
        self._auto_shutter = True

    @property
    def taken(self) -> NDArray[np.int64]:
        """The record: exposures int64 [n] of all frames that reached the buffer, in order; -1 for stale ones."""
        return self._seen.taken

    @property
    def delivered(self) -> NDArray[np.int64]:
        """The record: exposures int64 [n] of all frames that were popped, in order; -1 for stale ones."""
        return self._seen.delivered

    def taken_in_sequence(self, number: int = -1) -> NDArray[np.int64]:
        """``taken`` of one sequence, counted from 0, or from the last one (-1) back. Raises IndexError."""
        return self._seen.taken_in_sequence(number)

    def get_version_info(self) -> str:
        """Says that this is a stand-in."""
        return _VERSION

    def get_loaded_devices(self) -> Sequence[str]:
        """Labels of all devices."""
        return tuple(_DEVICES)

    def get_device_library(self, label: str) -> str:
        """The adapter library a device comes from; none for the core itself."""
        return self._described(label)[0]

    def get_device_name(self, label: str) -> str:
        """A device's name in its library."""
        return self._described(label)[1]

    def get_device_type(self, label: str) -> int:
        """MMCore's number of a device's type: 2 camera, 3 shutter, 5 stage (focus), 6 XY stage, 10 core."""
        return self._described(label)[2]

    def get_camera_device(self) -> str:
        """Label of the current camera."""
        return self._camera

    def set_camera_device(self, label: str) -> None:
        """Choose the camera."""
        self._must_be(label, _CAMERA)
        self._camera = label

    def get_image_width(self) -> int:
        """Width of a frame in pixels."""
        return self._seen.region[2]

    def get_image_height(self) -> int:
        """Height of a frame in pixels."""
        return self._seen.region[3]

    def get_bytes_per_pixel(self) -> int:
        """Bytes of a pixel."""
        return self._seen.sensor.bytes_per_px

    def get_image_bit_depth(self) -> int:
        """Bits of a pixel that are used."""
        return self._seen.sensor.bit_depth

    def get_number_of_components(self) -> int:
        """1: grey."""
        return 1

    def set_exposure(self, *arguments: Any) -> None:
        """Set the exposure time in ms: (ms) or (camera, ms)."""
        *label, exposure_ms = arguments
        self._must_be(*(label or [_CAMERA]), _CAMERA)
        if not exposure_ms > 0:
            raise RuntimeError(f'Invalid exposure time {exposure_ms} ms for camera "{_CAMERA}"')
        self._seen.exposure_us = float(exposure_ms) * 1e3

    def get_exposure(self, label: str = _CAMERA) -> float:
        """The exposure time in ms."""
        self._must_be(label, _CAMERA)
        return self._seen.exposure_us / 1e3

    def set_roi(self, *arguments: Any) -> None:
        """Show a part of the sensor, in binned pixels: (x, y, width, height), a camera label before them or not."""
        with self._bench.lock:
            self._must_be_stopped()
            x, y, width, height = (int(argument) for argument in arguments[-4:])
            whole_width, whole_height = self._seen.binned_size()
            fits = x >= 0 and y >= 0 and x + width <= whole_width and y + height <= whole_height
            if not fits or width < 1 or height < 1:
                raise RuntimeError(f"ROI {(x, y, width, height)} does not lie on the sensor")
            self._seen.set_region((x, y, width, height))

    def get_roi(self) -> list[int]:
        """x, y, width, height of the part that is shown, in binned pixels."""
        return list(self._seen.region)

    def clear_roi(self) -> None:
        """Show all of the sensor."""
        with self._bench.lock:
            self._must_be_stopped()
            self._seen.set_region((0, 0, *self._seen.binned_size()))

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
        """Set a property; this camera is triggered externally, and has one pixel type."""
        self._must_have(label, name)
        text = str(value)
        refused = f'Cannot set property "{name}" of device "{label}" to "{text}"'
        if name in _READ_ONLY:
            raise RuntimeError(f"{refused}: Property is read-only")
        if text not in self._allowed.get(name, (text,)):
            raise RuntimeError(f"{refused}: Invalid property value")
        if name == "Binning":
            with self._bench.lock:
                if self._is_running():
                    raise RuntimeError(f"{refused}: Camera is busy acquiring images")
                self._seen.set_binning(int(text))
        self._properties[name] = text

    def get_allowed_property_values(self, label: str, name: str) -> Sequence[str]:
        """The values a property can have; none where it is not limited to a list."""
        self._must_have(label, name)
        return self._allowed.get(name, ())

    def is_property_read_only(self, label: str, name: str) -> bool:
        """Whether a property can only be read."""
        self._must_have(label, name)
        return name in _READ_ONLY

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
            if self._seen.capacity() < 1:
                raise RuntimeError("Failed to initialize circular buffer - memory requirements not adequate.")
            if self._auto_shutter and self._shutter:
                self._bench.set_light(True)
            self._seen.begin_sequence(int(n_images), bool(stop_on_overflow))

    def start_continuous_sequence_acquisition(self, interval_ms: float) -> None:
        """Take frames until stopped."""
        self.start_sequence_acquisition(2**62, interval_ms, False)

    def stop_sequence_acquisition(self, label: str = _CAMERA) -> None:
        """Take no more frames; those in the buffer stay there."""
        self._must_be(label, _CAMERA)
        with self._bench.lock:
            if self._is_running():
                self._seen.end_sequence()

    def is_sequence_running(self, label: str = _CAMERA) -> bool:
        """Whether frames are still wanted."""
        self._must_be(label, _CAMERA)
        with self._bench.lock:
            return self._is_running()

    def get_remaining_image_count(self) -> int:
        """Frames in the buffer."""
        with self._bench.lock:
            self._bench.advance()
            return len(self._seen.buffer)

    def pop_next_image(self) -> Frame:
        """The oldest frame, [height, width]."""
        return self._pop()[0]

    def pop_next_tagged_image(self) -> TaggedImage:
        """The oldest frame with its tags; values are text, as MMCore's are."""
        frame, elapsed_us, number, _ = self._pop()
        tags = {
            "Camera": _CAMERA,
            "ImageNumber": str(number),
            "ElapsedTime-ms": f"{elapsed_us / 1e3:.4f}",
            "Width": str(frame.shape[1]),
            "Height": str(frame.shape[0]),
            "PixelType": _PIXEL_TYPES[self._seen.sensor.bytes_per_px],
            "BitDepth": str(self._seen.sensor.bit_depth),
        }
        return TaggedImage(tags, frame)

    def snap_image(self) -> None:
        """Refused: an externally triggered camera takes no frame by itself."""
        raise RuntimeError(f'Camera "{_CAMERA}" waited for an external trigger that did not come')

    def clear_circular_buffer(self) -> None:
        """Throw all frames away."""
        with self._bench.lock:
            self._bench.advance()
            self._seen.buffer.clear()

    def is_buffer_overflowed(self) -> bool:
        """Whether frames were lost because the buffer was full."""
        return self._seen.buffer.overflowed

    def set_circular_buffer_memory_footprint(self, size_mb: int) -> None:
        """Set the buffer's size in MB; throws all frames away."""
        with self._bench.lock:
            self._must_be_stopped()
            if size_mb < 1:
                raise RuntimeError(f"Cannot allocate a circular buffer of {size_mb} MB")
            self._seen.set_buffer_mb(int(size_mb))

    def get_circular_buffer_memory_footprint(self) -> int:
        """The buffer's size in MB."""
        return self._seen.buffer_mb

    def get_buffer_total_capacity(self) -> int:
        """Frames the buffer holds. As in MMCore it is laid out when its size is set and when a sequence starts."""
        return self._seen.buffer.capacity

    def get_buffer_free_capacity(self) -> int:
        """Frames there is room for."""
        with self._bench.lock:
            self._bench.advance()
            return self._seen.buffer.capacity - len(self._seen.buffer)

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

    def get_xy_stage_device(self) -> str:
        """Label of the current XY stage."""
        return self._xy_stage

    def set_xy_stage_device(self, label: str) -> None:
        """Choose the XY stage; an empty label chooses none."""
        if label not in (XY_STAGE, ""):
            raise ValueError(f'Cannot set Core property XYStage to invalid value "{label}"')
        self._xy_stage = label

    def get_focus_device(self) -> str:
        """Label of the current focus device."""
        return self._focus

    def set_focus_device(self, label: str) -> None:
        """Choose the focus device; an empty label chooses none."""
        if label not in (FOCUS, ""):
            raise ValueError(f'Cannot set Core property Focus to invalid value "{label}"')
        self._focus = label

    def set_xy_position(self, *arguments: Any) -> None:
        """Move the stage: (x, y) in µm, a label before them or not. Refused while pictures are displayed."""
        *label, x_um, y_um = arguments
        self._must_be_of_type(XY_STAGE, *(label or [self._xy_stage]))
        self.moving.set_xy(float(x_um), float(y_um))

    def get_x_position(self, label: str | None = None) -> float:
        """Where the stage stands, µm."""
        self._must_be_of_type(XY_STAGE, self._xy_stage if label is None else label)
        return self.moving.read_um()[0]

    def get_y_position(self, label: str | None = None) -> float:
        """Where the stage stands, µm."""
        self._must_be_of_type(XY_STAGE, self._xy_stage if label is None else label)
        return self.moving.read_um()[1]

    def set_position(self, *arguments: Any) -> None:
        """Move the focus: (z) in µm, a label before it or not. Refused while pictures are displayed."""
        *label, z_um = arguments
        self._must_be_of_type(FOCUS, *(label or [self._focus]))
        self.moving.set_z(float(z_um))

    def get_position(self, label: str | None = None) -> float:
        """Where the focus stands, µm."""
        self._must_be_of_type(FOCUS, self._focus if label is None else label)
        return self.moving.read_um()[2]

    def get_available_config_groups(self) -> Sequence[str]:
        """Names of the config groups."""
        return tuple(self.moving.groups)

    def get_available_configs(self, group: str) -> Sequence[str]:
        """A group's presets; none where there is no such group."""
        return self.moving.groups.get(group, ())

    def set_config(self, group: str, preset: str) -> None:
        """Set a group to a preset: the specimen shows its other structures. Refused while pictures are displayed."""
        self.moving.set_preset(group, preset)

    def get_current_config(self, group: str) -> str:
        """The preset a group is set to; empty where it was set to none, or there is no such group."""
        return self.moving.current.get(group, "")

    def wait_for_config(self, group: str, preset: str) -> None:
        """Return when nothing that the preset moves is busy."""
        if preset not in self.moving.groups.get(group, ()):
            raise ValueError(f'Configuration group "{group}" or its preset "{preset}" does not exist')
        self._wait_for(group)

    def device_busy(self, label: str) -> bool:
        """Whether the device is still moving."""
        self._must_be(label, *self.get_loaded_devices())
        return self.moving.is_busy(label)

    def system_busy(self) -> bool:
        """Whether anything is still moving."""
        return self.moving.is_busy()

    def wait_for_device(self, label: str) -> None:
        """Return when the device is not busy; everything but stage and focus never is."""
        self._must_be(label, *self.get_loaded_devices())
        self._wait_for(label)

    def wait_for_system(self) -> None:
        """Return when no device is busy."""
        self._wait_for(None)

    def _wait_for(self, label: str | None) -> None:
        deadline_s = time.monotonic() + _TIMEOUT_MS / 1e3
        while self.moving.is_busy(label):
            if time.monotonic() > deadline_s:
                raise RuntimeError(f'Wait for device "{label or "system"}" timed out after {_TIMEOUT_MS}ms')
            time.sleep(0.001)

    def _sequence_has_ended(self) -> None:
        if self._auto_shutter and self._shutter:
            self._bench.set_light(False)

    def _is_running(self) -> bool:
        self._bench.advance()
        return self._seen.is_running

    def _pop(self) -> Popped:
        with self._bench.lock:
            try:
                return self._seen.pop()
            except IndexError:
                self._bench.advance()
            if not len(self._seen.buffer):
                raise IndexError("Circular buffer is empty.")
            return self._seen.pop()

    def _described(self, label: str) -> tuple[str, str, int]:
        self._must_be(label, *_DEVICES)
        return _DEVICES[label]

    def _must_be(self, label: str, *allowed: str) -> None:
        if label not in allowed:
            raise RuntimeError(f'No device with label "{label}"')

    def _must_be_of_type(self, wanted: str, label: str) -> None:
        if label != wanted:
            self._described(label)
            raise RuntimeError(f'Device "{label}" is of the wrong type for the requested operation')

    def _must_have(self, label: str, name: str) -> None:
        if not self.has_property(label, name):
            raise RuntimeError(f'Device "{label}" has no property "{name}"')

    def _must_be_stopped(self) -> None:
        if self._is_running():
            raise RuntimeError("This operation can not be executed while sequence acquisition is running.")
