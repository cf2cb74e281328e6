"""A shutter that Micro-Manager drives, as a light source."""

from __future__ import annotations

from typing import Any

from devices.errors import DeviceStateError
from devices.light_source import LightSourceInfo
from devices.micromanager_core import must_be_reachable


class MicroManagerShutter:
    """The shutter ``label`` of a Micro-Manager core (remote or in this process).

    Micro-Manager's auto shutter is turned off: it would open and close the light with every camera sequence, behind
    the back of whoever decides about the light. It is as it was once this is closed. The shutter is closed on
    connection; raises DeviceStateError where it says that it did not.
    """

    def __init__(self, core: Any, label: str, power_mw: float | None = None) -> None:
        self._core = core
        self._label = label
        self._info = LightSourceInfo(label, power_mw)
        self._closed = False
        self._auto_shutter = bool(core.get_auto_shutter())
        core.set_auto_shutter(False)
        try:
            self._set(False)
        except BaseException:
            core.set_auto_shutter(self._auto_shutter)
            raise

    @property
    def info(self) -> LightSourceInfo:
        """The shutter's label and the stated power."""
        return self._info

    def on(self) -> None:
        """Open. Raises DeviceStateError where it is closed down, or where the shutter says it did not open."""
        if self._closed:
            raise DeviceStateError(f"light source {self._label!r} was closed; connect to it again before turning it on")
        self._set(True)

    def off(self) -> None:
        """Close. Raises DeviceStateError where the shutter says it is still open."""
        self._set(False)

    def is_on(self) -> bool:
        """Whether the shutter says it is open."""
        return bool(self._core.get_shutter_open(self._label))

    def status(self) -> dict[str, float | str]:
        """Whether the shutter says it is open or closed."""
        return {"state": "open" if self.is_on() else "closed"}

    def close(self) -> None:
        """Close the shutter, then leave auto shutter as it was found, once.

        Where the shutter does not close, auto shutter stays off, and closing it again tries again. Raises
        DeviceStateError, and DeviceNotFoundError where Micro-Manager's server has gone.
        """
        if not self._closed:
            must_be_reachable(self._core)
            self._set(False)
            self._core.set_auto_shutter(self._auto_shutter)
            self._closed = True

    def _set(self, is_open: bool) -> None:
        self._core.set_shutter_open(self._label, is_open)
        self._core.wait_for_device(self._label)
        if self.is_on() is not is_open:
            asked, found = ("open", "closed") if is_open else ("closed", "open")
            raise DeviceStateError(
                f"shutter {self._label!r} was asked to be {asked} and says it is {found}; "
                "check its interlock and its own control panel, then try again"
            )
