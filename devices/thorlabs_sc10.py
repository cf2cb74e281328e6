"""A Thorlabs SC10 shutter controller over RS-232.

The protocol is the one of Thorlabs' "SC10 Operating Manual" (keywords): 9600 baud, a command ended by CR and echoed,
its value on a line, then the prompt ``> ``; a command it does not know is answered ``Command error CMD_NOT_DEFINED``, a
wrong argument ``Command error CMD_ARG_INVALID``. ``ens`` *toggles*, so it is never sent without asking ``ens?`` first.
Not confirmed on hardware: what the controller answers to ``ens`` while its interlock is tripped; when, within the few
milliseconds of its opening, the blade counts as not closed.
"""

from __future__ import annotations

import re
from typing import Final

from devices.errors import (
    DeviceNotFoundError,
    DeviceReplyError,
    DeviceStateError,
    LightSourceFaultError,
    LightSourceTimeoutError,
)
from devices.light_source import LightSourceInfo
from devices.serial_light import SerialLight, wait_until
from devices.serial_line import SerialLine

_BAUD: Final = 9600
_MANUAL_MODE: Final = "1"
_MODES: Final = {"1": "manual", "2": "auto", "3": "single", "4": "repeat", "5": "external gate"}
_ERROR: Final = "Command error"
_ERRORS: Final = {"CMD_NOT_DEFINED": "it knows no such command", "CMD_ARG_INVALID": "the argument is wrong"}


class ThorlabsSc10(SerialLight):
    """The shutter of the controller on serial port ``port``; ``power_mw`` is the power on the sample while it is open.

    On connection: the controller is identified, the shutter closed, and its mode set to manual. ``timeout_s`` is the
    longest wait for a reply, ``blade_timeout_s`` for the blade to open or close.

    Raises DeviceNotFoundError (no such port, or something else answers), DeviceSilentError, DeviceReplyError,
    LightSourceFaultError (a command was refused), LightSourceTimeoutError (the blade does not close), DeviceStateError
    (a setting reads back otherwise).
    """

    def __init__(
        self,
        port: str,
        *,
        timeout_s: float = 1.0,
        power_mw: float | None = None,
        blade_timeout_s: float = 1.0,
    ) -> None:
        super().__init__(
            SerialLine(
                port,
                device="SC10 shutter controller",
                baud=_BAUD,
                command_end=b"\r",
                reply_end=re.compile(b">"),
                timeout_s=timeout_s,
            )
        )
        self._blade_timeout_s = blade_timeout_s
        self._begin(lambda: self._connect(power_mw))

    def is_on(self) -> bool:
        """Whether the blade is open, by its own sensor."""
        return not self._flag("closed?")

    def status(self) -> dict[str, float | str]:
        """``state`` of the blade (open, closed), ``enabled`` (yes, no), ``mode``, ``interlock`` (closed, tripped)."""
        mode = self._query("mode?")
        return {
            "state": "open" if self.is_on() else "closed",
            "enabled": "yes" if self._flag("ens?") else "no",
            "mode": _MODES.get(mode, mode),
            "interlock": "tripped" if self._flag("interlock?") else "closed",
        }

    def _connect(self, power_mw: float | None) -> LightSourceInfo:
        # An empty command ends whatever half a line the controller still holds; its answer is an error by design.
        self._line.ask("")
        identity = self._query("id?")
        name, _, version = identity.partition(" VERSION ")
        if "SC10" not in name:
            raise DeviceNotFoundError(
                f"serial port {self._line.port} answers id? with {identity!r}, which is no SC10; check the port"
            )
        self._turn_off()
        self._command(f"mode={_MANUAL_MODE}")
        if (mode := self._query("mode?")) != _MANUAL_MODE:
            raise DeviceStateError(
                f"the SC10 on {self._line.port} was set to manual mode and says mode {mode} "
                f"({_MODES.get(mode, 'unknown')}); set it at its own panel"
            )
        return LightSourceInfo(name, power_mw, firmware=version)

    def _let_light_out(self) -> None:
        self._refuse_interlock()
        self._enable(True)

    def _wait_for_light(self) -> None:
        if not wait_until(self._opens, self._blade_timeout_s):
            raise LightSourceTimeoutError(
                f"the shutter of the SC10 on {self._line.port} was opened and its blade is still closed after "
                f"{self._blade_timeout_s:g} s; check that the shutter is plugged in and moves, and that its trigger is "
                "internal, or give a longer blade_timeout_s"
            )

    def _opens(self) -> bool:
        """Whether the blade is open; raises where it will not be."""
        if self.is_on():
            return True
        if not self._flag("ens?"):
            self._refuse_interlock()
            raise DeviceStateError(f"the shutter of the SC10 on {self._line.port} was closed while it was opening")
        return False

    def _leave(self) -> None:
        """The mode stays manual, which is the controller's own default."""

    def _turn_off(self) -> None:
        self._enable(False)
        if not wait_until(lambda: not self.is_on(), self._blade_timeout_s):
            raise LightSourceTimeoutError(
                f"the shutter of the SC10 on {self._line.port} was closed and its blade is still open after "
                f"{self._blade_timeout_s:g} s; block the light by hand, then check the shutter"
            )

    def _enable(self, enabled: bool) -> None:
        """Ask first, toggle only where it is needed, read back: no other thread may toggle in between."""
        with self._switching:
            if self._flag("ens?") is enabled:
                return
            self._command("ens")
            if self._flag("ens?") is not enabled:
                self._refuse_interlock()
                asked = "open" if enabled else "closed"
                raise DeviceStateError(
                    f"the shutter of the SC10 on {self._line.port} was asked to be {asked} and says it is not; "
                    "check its panel, that nobody presses its button, and its interlock"
                )

    def _refuse_interlock(self) -> None:
        if self._flag("interlock?"):
            raise LightSourceFaultError(
                f"the interlock of the SC10 on {self._line.port} is tripped, and its shutter stays closed; "
                "close the interlock, then try again"
            )

    def _flag(self, query: str) -> bool:
        text = self._query(query)
        if text not in ("0", "1"):
            raise self._not_understood(query, text, "0 or 1")
        return text == "1"

    def _query(self, query: str) -> str:
        lines = self._ask(query)
        if len(lines) != 1:
            raise self._not_understood(query, lines, "its echo, one line and the prompt")
        return lines[0]

    def _command(self, command: str) -> None:
        lines = self._ask(command)
        if lines:
            raise self._not_understood(command, lines, "its echo and the prompt")

    def _ask(self, command: str) -> list[str]:
        """What stands between echo and prompt; raises LightSourceFaultError where that is an error."""
        reply = self._line.ask(command).removesuffix(">")
        # The blank of the prompt before may come late, and stand before this echo.
        echo, *lines = [line.strip() for line in re.split(r"[\r\n]+", reply.strip())]
        if echo != command:
            raise self._not_understood(command, reply, "its echo")
        for line in lines:
            if line.startswith(_ERROR):
                name = line.removeprefix(_ERROR).strip()
                raise LightSourceFaultError(
                    f"the SC10 on {self._line.port} refused {command!r} with {name}: "
                    f"{_ERRORS.get(name, 'which is not in its manual')}"
                )
        return lines

    def _not_understood(self, command: str, found: object, expected: str) -> DeviceReplyError:
        self._line.distrust()
        return DeviceReplyError(
            f"the SC10 on {self._line.port} answered {command!r} with {found!r}, and not with {expected}; check that "
            "it is an SC10 and that nothing else uses the line"
        )
