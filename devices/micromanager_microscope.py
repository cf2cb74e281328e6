"""Stage, focus and channels of a Micro-Manager core as a microscope."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any, Final

from devices.errors import DeviceSilentError, DeviceStateError, PoseMissedError, PoseRefusedError
from devices.micromanager_core import calls_may_take
from devices.micromanager_settings import ask
from devices.microscope import MicroscopeInfo, Pose

_POLL_S: Final = 0.005
# MMCore's number of a device's type.
_SHUTTER: Final = 3


class MicroManagerMicroscope:
    """The Microscope promise (devices/microscope.py) kept by a core's XY stage, focus device and config groups.

    ``core`` is a remote core, one in this process, or a stand-in. Nothing is asked before ``info``, ``check`` or
    ``move_to`` is, and what there is to move is asked for once. There is nothing to close: a stage stays where it is.

    A move is over when Micro-Manager says that no device is busy, asked again and again for ``move_timeout_s`` at most
    for each of channel, XY and Z, because MMCore's own wait may be shorter than a slow stage needs; one call may take
    as long. ``settle_s`` passes by ``wait`` after all of it, before positions are read back, which must then be within
    ``xy_tolerance_um`` and ``z_tolerance_um``. With ``channel_read_back`` a config group must read back the preset's
    name; the pose that is returned holds what it reads back in any case.

    A preset must not light the sample: auto shutter is what it was when a preset has been set, and a shutter that a
    preset opens is closed at once, and the move ends with DeviceStateError.
    """

    def __init__(
        self,
        core: Any,
        xy_tolerance_um: float = 1.0,
        z_tolerance_um: float = 0.5,
        move_timeout_s: float = 30.0,
        settle_s: float = 0.0,
        wait: Callable[[float], None] = time.sleep,
        channel_read_back: bool = True,
    ) -> None:
        self._core = core
        self._xy_tolerance_um = xy_tolerance_um
        self._z_tolerance_um = z_tolerance_um
        self._move_timeout_s = move_timeout_s
        self._settle_s = settle_s
        self._wait = wait
        self._channel_read_back = channel_read_back

    @cached_property
    def info(self) -> MicroscopeInfo:
        """What Micro-Manager's core has chosen as XY stage and focus device, and all of its config groups."""
        groups = [str(each) for each in ask(self._core, "get_available_config_groups")]
        return MicroscopeInfo(
            xy_stage=str(ask(self._core, "get_xy_stage_device")) or None,
            focus=str(ask(self._core, "get_focus_device")) or None,
            channels=tuple(
                (group, tuple(map(str, ask(self._core, "get_available_configs", group)))) for group in groups
            ),
        )

    def check(self, pose: Pose) -> None:
        """Return where the pose can be asked for; nothing moves. Raises PoseRefusedError."""
        for name, position_um in (("x", pose.x_um), ("y", pose.y_um), ("z", pose.z_um)):
            if position_um is not None and not math.isfinite(position_um):
                raise PoseRefusedError(
                    f"the position {name} = {position_um} µm was asked for; allowed: a finite number"
                )
        if (pose.x_um is not None or pose.y_um is not None) and self.info.xy_stage is None:
            raise PoseRefusedError(
                f"{_position(pose)} was asked for, and Micro-Manager's core has no XY stage; choose one in its "
                "hardware configuration (Core, XYStage), or ask for no x and y"
            )
        if pose.z_um is not None and self.info.focus is None:
            raise PoseRefusedError(
                f"{_position(pose)} was asked for, and Micro-Manager's core has no focus device; choose one in its "
                "hardware configuration (Core, Focus), or ask for no z"
            )
        if pose.channel is not None:
            self._check_channel(*pose.channel)

    def move_to(self, pose: Pose) -> Pose:
        """Channel, XY, Z, each waited for; then what is read back (see devices.microscope.Microscope.move_to).

        Raises also DeviceStateError where the preset opened a shutter, which is closed again by then.
        """
        self.check(pose)
        with calls_may_take(self._core, self._move_timeout_s):
            channel = None if pose.channel is None else (pose.channel[0], self._set_channel(*pose.channel))
            if pose.x_um is not None or pose.y_um is not None:
                x_um, y_um = self._read_xy()
                ask(
                    self._core,
                    "set_xy_position",
                    float(x_um if pose.x_um is None else pose.x_um),
                    float(y_um if pose.y_um is None else pose.y_um),
                )
                self._wait_until_idle(
                    f"the XY stage {self.info.xy_stage!r} was sent to {_position(replace(pose, z_um=None))}"
                )
            if pose.z_um is not None:
                ask(self._core, "set_position", float(pose.z_um))
                self._wait_until_idle(
                    f"the focus device {self.info.focus!r} was sent to {_position(Pose(z_um=pose.z_um))}"
                )
            if self._settle_s > 0:
                self._wait(self._settle_s)
            found = self._read_back(channel)
        self._must_be_there(pose, found)
        return found

    def _check_channel(self, group: str, preset: str) -> None:
        groups = dict(self.info.channels)
        if group not in groups:
            raise PoseRefusedError(
                f"the config group {group!r} was asked for; Micro-Manager has {_listed(groups)}: correct the channel's "
                "group, or define it there"
            )
        if preset not in groups[group]:
            raise PoseRefusedError(
                f"the preset {preset!r} of the config group {group!r} was asked for; it has {_listed(groups[group])}: "
                "correct the channel, or define the preset in Micro-Manager"
            )

    def _set_channel(self, group: str, preset: str) -> str:
        """The preset that the group reads back when all of it has moved."""
        core = self._core
        auto_shutter = bool(ask(core, "get_auto_shutter"))
        closed = [label for label in self._shutters if not ask(core, "get_shutter_open", label)]
        try:
            self._set_in_the_dark(group, preset, closed)
            self._wait_until_idle(f"the config group {group!r} was set to {preset!r}")
            # Before auto shutter is set back, which may be a part of the preset.
            return str(ask(core, "get_current_config", group))
        finally:
            if bool(ask(core, "get_auto_shutter")) is not auto_shutter:
                ask(core, "set_auto_shutter", auto_shutter)

    def _set_in_the_dark(self, group: str, preset: str, closed: list[str]) -> None:
        """Set a preset, and close those of the closed shutters that it opened: at once, then the move ends."""
        try:
            ask(self._core, "set_config", group, preset)
        except BaseException as error:
            # A part of the preset may be set.
            if opened := self._closed_again(closed):
                error.add_note(f"the preset had opened {_listed(opened)}, which was closed again")
            raise
        if opened := self._closed_again(closed):
            raise DeviceStateError(
                f"the preset {preset!r} of the config group {group!r} opened {_listed(opened)}, which was closed "
                "again: light would reach the sample off the record; take shutters out of the preset"
            )

    def _closed_again(self, closed: list[str]) -> list[str]:
        """Those of the shutters that are open; they are closed now."""
        opened = [label for label in closed if ask(self._core, "get_shutter_open", label)]
        for label in opened:
            ask(self._core, "set_shutter_open", label, False)
        return opened

    @cached_property
    def _shutters(self) -> tuple[str, ...]:
        labels = [str(each) for each in ask(self._core, "get_loaded_devices")]
        return tuple(each for each in labels if _number(ask(self._core, "get_device_type", each)) == _SHUTTER)

    def _wait_until_idle(self, what: str) -> None:
        """Return when no device is busy. Raises DeviceSilentError, which names those that are."""
        deadline_s = time.monotonic() + self._move_timeout_s
        while ask(self._core, "system_busy"):
            if time.monotonic() > deadline_s:
                labels = [str(each) for each in ask(self._core, "get_loaded_devices")]
                busy = [label for label in labels if label != "Core" and ask(self._core, "device_busy", label)]
                raise DeviceSilentError(
                    f"{what}, and {_listed(busy)} stayed busy for {self._move_timeout_s:g} s; look whether it moves or "
                    "is blocked, and allow a slow one more time (devices.stage.move_timeout_s)"
                )
            time.sleep(_POLL_S)

    def _read_xy(self) -> tuple[float, float]:
        return float(ask(self._core, "get_x_position")), float(ask(self._core, "get_y_position"))

    def _read_back(self, channel: tuple[str, str] | None) -> Pose:
        x_um, y_um = (None, None) if self.info.xy_stage is None else self._read_xy()
        z_um = None if self.info.focus is None else float(ask(self._core, "get_position"))
        return Pose(x_um, y_um, z_um, channel)

    def _must_be_there(self, pose: Pose, found: Pose) -> None:
        axes = (
            ("x", pose.x_um, found.x_um, self._xy_tolerance_um, "xy_tolerance_um"),
            ("y", pose.y_um, found.y_um, self._xy_tolerance_um, "xy_tolerance_um"),
            ("z", pose.z_um, found.z_um, self._z_tolerance_um, "z_tolerance_um"),
        )
        for axis, wanted_um, found_um, tolerance_um, key in axes:
            # Not written as "farther off", which a position that is no number is not.
            if wanted_um is not None and not (found_um is not None and abs(found_um - wanted_um) <= tolerance_um):
                raise PoseMissedError(
                    f"{axis} = {wanted_um:g} µm was asked for and reads back {found_um:g} µm, with a tolerance of "
                    f"{tolerance_um:g} µm; look whether the stage is blocked or at its limit, or allow what it cannot "
                    f"do better (devices.stage.{key}, settle_ms)"
                )
        if self._channel_read_back and pose.channel is not None and pose.channel != found.channel:
            assert found.channel is not None
            group, preset = pose.channel
            raise PoseMissedError(
                f"the config group {group!r} was set to {preset!r} and reads back {found.channel[1] or 'no preset'!r}; "
                "look at the devices of this group in Micro-Manager: one did not go where the preset sends it, or "
                "reads back in other words than the preset has, or two presets say the same (where that is meant: "
                "devices.stage.channel_read_back: false)"
            )


def _position(pose: Pose) -> str:
    axes = (("x", pose.x_um), ("y", pose.y_um), ("z", pose.z_um))
    return ", ".join(f"{axis} = {um:g} µm" for axis, um in axes if um is not None)


def _listed(names: Any) -> str:
    return ", ".join(map(repr, names)) or "none"


def _number(device_type: Any) -> int:
    """MMCore's number of a type, which a core in this process gives, and one behind a port as an object."""
    return int(device_type) if isinstance(device_type, int) else int(device_type.swig_value())
