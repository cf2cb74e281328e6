"""A camera of Micro-Manager as a detector: frames become bucket values."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, Final

from devices.detector import Burst, DetectorInfo
from devices.errors import (
    DetectorTimeoutError,
    DeviceError,
    DeviceNotFoundError,
    DeviceSilentError,
    DeviceStateError,
    FrameBufferOverflowError,
    MicroManagerCallError,
    TimingRefusedError,
)
from devices.micromanager_core import must_be_reachable
from devices.micromanager_frames import BurstInProgress, FrameFormat, check_pixels, tagged_pop
from devices.micromanager_settings import (
    US_PER_UNIT,
    MicroManagerSettings,
    ask,
    camera_roi,
    find_camera,
    gain_settings,
    get_property,
    leave_camera,
    readout_us,
    set_up_camera,
)

__all__ = ["MicroManagerDetector", "MicroManagerSettings"]

# Frames asked for beyond the exposures of a burst: a doubled trigger shows as a frame that is left over.
_SURPLUS: Final = 16
_BATCH_BYTES: Final = 4 * 2**20
_LONGEST_BATCH: Final = 1024
_POLL_S: Final = 0.0005
_EXPOSURE_TOLERANCE: Final = 0.01
_EXPOSURE_TOLERANCE_US: Final = 2.0


class MicroManagerDetector:
    """The Detector promise (devices/detector.py) kept by a camera of a Micro-Manager core.

    ``core`` is a remote core (frames arrive flat), a core in this process (frames arrive two-dimensional), or a
    stand-in. It stays open when the detector is closed: others may use it too. The camera is set up before the frame's
    size is asked for, and everything that was set is read back. When it is closed, its exposure time, binning and
    region of interest are as they were found, and the properties for leaving are set.

    Pixels are grey integers of 1, 2 or 4 bytes (see devices.micromanager_frames.check_pixels).

    Raises DevicePropertyError (there is no such camera or property, or it does not take the value), DeviceStateError
    (it takes a sequence already, or something reads back otherwise than it was set), FrameShapeError (a region does not
    lie on the frame, or the pixels are of another kind), MicroManagerCallError (anything else that Micro-Manager
    refuses); what was set up is undone by then.
    """

    def __init__(self, core: Any, settings: MicroManagerSettings | None = None) -> None:
        self._core = core
        self._settings = settings or MicroManagerSettings()
        self._armed = False
        self._closed = False
        self._found = find_camera(core, self._settings)
        try:
            set_up_camera(core, self._found.label, self._settings)
            self._info = self._ask_camera()
            self._format = self._frame_format()
            self._pop_tagged = tagged_pop(core, self._settings.time_tag) if self._settings.frame_metadata else None
        except BaseException as error:
            try:
                self.close()
            except Exception as closing:
                error.add_note(f"while leaving the camera, also: {closing}")
            raise

    @property
    def info(self) -> DetectorInfo:
        """What the camera said of itself when it was set up, and the exposure time it accepted last."""
        return self._info

    def arm(self, n_exposures: int, exposure_time_us: int) -> None:
        """Start one camera sequence for the burst; stale frames are thrown away first.

        The sequence asks for a few frames more than ``n_exposures``, so that surplus ones are noticed. The exposure
        time is read back into ``info``. Raises ValueError, DeviceStateError where it is armed already or closed,
        TimingRefusedError where the exposure time reads back off by more than 1 % and more than 2 µs, or as none, and
        MicroManagerCallError.
        """
        if n_exposures < 1 or exposure_time_us < 1:
            raise ValueError(
                f"{n_exposures} exposures of {exposure_time_us} µs were asked for; allowed: 1 or more of both"
            )
        if self._closed:
            raise DeviceStateError(f"camera {self._info.name!r} was closed; connect to it again")
        if self._armed:
            raise DeviceStateError(f"camera {self._info.name!r} is armed already; disarm it before arming it again")
        self._set_exposure(exposure_time_us)
        ask(self._core, "clear_circular_buffer")
        self._armed = True  # also where the call is not answered in time: the sequence may run all the same
        ask(self._core, "start_sequence_acquisition", n_exposures + _SURPLUS, 0.0, True)

    def read(self, n_exposures: int, timeout_s: float) -> Burst:
        """The next ``n_exposures`` frames as bucket values (sum over the region minus offset), in detector units.

        Raises DetectorTimeoutError, FrameBufferOverflowError, FrameShapeError, DeviceStateError unless armed, and
        DeviceNotFoundError or DeviceSilentError where the server of a remote core has gone or hangs.
        """
        if not self._armed:
            raise DeviceStateError(f"camera {self._info.name!r} is not armed; arm it before the projector starts")
        at_once = max(1, min(_LONGEST_BATCH, _BATCH_BYTES // self._format.frame_bytes))
        into = BurstInProgress(self._format, n_exposures, self._settings.keep_frames)
        n_popped = 0
        deadline = time.monotonic() + timeout_s
        while n_popped < n_exposures:
            n = min(self._wait_for_frames(n_popped, n_exposures, deadline, timeout_s), n_exposures - n_popped)
            n = min(n, at_once - into.n_pending)
            self._pop(n, into)
            n_popped += n
            # Frames are summed many at a time, because one at a time costs as much as fifty.
            if into.n_pending >= at_once:
                into.add_up()
        into.add_up()
        # A burst that was complete may still have lost frames that came after it.
        if self._core.is_buffer_overflowed():
            raise self._overflow(n_popped, n_exposures)
        return into.burst(US_PER_UNIT[self._settings.time_tag_unit])

    def surplus_frames(self) -> int:
        """Frames that came and were not read."""
        return int(ask(self._core, "get_remaining_image_count"))

    def disarm(self) -> None:
        """Stop the camera's sequence; where that fails it counts as armed still, and can be disarmed again."""
        if self._armed:
            ask(self._core, "stop_sequence_acquisition")
            self._armed = False

    def close(self) -> None:
        """Disarm, and leave the camera as the class says; where either fails, closing it again tries again.

        Raises MicroManagerCallError or what leaving raised, DeviceNotFoundError where Micro-Manager's server has gone,
        and DeviceSilentError where it hangs.
        """
        if self._closed:
            return
        must_be_reachable(self._core)
        try:
            self.disarm()
        except (DeviceNotFoundError, DeviceSilentError):
            raise  # what else is asked would not be answered either
        except Exception as error:
            try:
                leave_camera(self._core, self._found, self._settings)
            except DeviceError as leaving:
                error.add_note(f"while leaving the camera, also: {leaving}")
            raise
        leave_camera(self._core, self._found, self._settings)
        self._closed = True

    def _ask_camera(self) -> DetectorInfo:
        core, settings, name = self._core, self._settings, self._found.label
        width_px, height_px = int(ask(core, "get_image_width")), int(ask(core, "get_image_height"))
        bytes_per_px = int(ask(core, "get_bytes_per_pixel"))
        check_pixels(core, name, width_px, height_px, bytes_per_px)
        bit_depth = int(ask(core, "get_image_bit_depth"))
        binning = get_property(core, name, "Binning") if ask(core, "has_property", name, "Binning") else ""
        return DetectorInfo(
            name=name,
            width_px=width_px,
            height_px=height_px,
            bytes_per_px=bytes_per_px,
            bit_depth=bit_depth,
            full_scale=2**bit_depth - 1 if settings.full_scale is None else settings.full_scale,
            buffer_frames=int(ask(core, "get_buffer_total_capacity")),
            # Some cameras name it "2x2"; what is not a number is left out.
            binning=int(binning.partition("x")[0]) if binning.partition("x")[0].isdecimal() else None,
            roi=camera_roi(core),
            version=str(ask(core, "get_version_info")),
            readout_us=readout_us(core, settings),
            gain_settings=gain_settings(core, name),
        )

    def _frame_format(self) -> FrameFormat:
        info = self._info
        assert info.full_scale is not None
        return FrameFormat(
            camera=info.name,
            width_px=info.width_px,
            height_px=info.height_px,
            bytes_per_px=info.bytes_per_px,
            region=self._settings.region or (0, 0, info.width_px, info.height_px),
            full_scale=info.full_scale,
            offset_per_px=self._settings.offset_per_px,
        )

    def _set_exposure(self, exposure_time_us: int) -> None:
        ask(self._core, "set_exposure", exposure_time_us / 1e3)
        accepted_us = float(ask(self._core, "get_exposure")) * 1e3
        self._info = replace(self._info, accepted_exposure_us=accepted_us)
        allowed_us = max(_EXPOSURE_TOLERANCE * exposure_time_us, _EXPOSURE_TOLERANCE_US)
        if accepted_us <= 0 or abs(accepted_us - exposure_time_us) > allowed_us:
            raise TimingRefusedError(
                f"camera {self._info.name!r} was asked to expose for {exposure_time_us} µs and reads back "
                f"{accepted_us:g} µs; ask for an exposure time that it can take, or correct the properties when armed "
                "(some cameras take the exposure time from the trigger pulse, or from the rows they read out)"
            )

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
            f"the circular buffer of camera {self._info.name!r}, which holds {self._info.buffer_frames} frames, "
            f"overflowed after {n_read} of {n_exposures} frames were read; make the buffer larger (its memory "
            "footprint in MB), the frame smaller, or the blocks shorter"
        )

    def _pop(self, n: int, into: BurstInProgress) -> None:
        try:
            if self._pop_tagged is None:
                pop = self._core.pop_next_image
                into.frames += [pop() for _ in range(n)]
                return
            for _ in range(n):
                frame, number, time_text = self._pop_tagged()
                into.frames.append(frame)
                into.numbers.append(number)
                into.times.append(time_text)
        except DeviceError:
            raise
        except Exception as error:  # pymmcore raises SystemError for a frame that is not there
            raise MicroManagerCallError(
                f"a frame that camera {self._info.name!r} had announced could not be read: {error}; does another "
                "program read its frames too?"
            ) from error
