"""How a light on a serial line is switched, so that no failure leaves it on unnoticed."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from devices.errors import DeviceError, DeviceStateError
from devices.light_source import LightSourceInfo
from devices.serial_line import SerialLine

_POLL_S = 0.01


class SerialLight(ABC):
    """The order of things common to lights on serial lines; a device says how it is turned on and off.

    Turning off is possible at any time and from any thread, also while another one waits for the light to come on. A
    light that did not come on is turned off again before the error is raised.
    """

    _info: LightSourceInfo

    def __init__(self, line: SerialLine) -> None:
        self._line = line
        # Between "is it closed?" and the command that lets light out nothing may come, least of all closing.
        self._switching = threading.RLock()
        self._closing = False
        self._dark = False

    @property
    def info(self) -> LightSourceInfo:
        """What was asked of the device on connection."""
        return self._info

    def _begin(self, connect: Callable[[], LightSourceInfo]) -> None:
        """Ask for ``info``; where that fails the port is let go of."""
        try:
            self._info = connect()
        except BaseException:
            self._line.close()
            raise

    def on(self) -> None:
        """Let light out; returns when the device says it is there.

        Raises LightSourceFaultError, LightSourceTimeoutError, DeviceStateError where it was closed or turned off
        meanwhile, and whatever the line raises.
        """
        with self._dark_on_failure():
            with self._switching:
                if self._closing:
                    raise DeviceStateError(f"{self._line.device} was closed; connect to it again before turning it on")
                self._let_light_out()
            self._wait_for_light()

    def off(self) -> None:
        """Let no light out; returns when the device says there is none. Once closed, the same as closing again.

        Raises LightSourceTimeoutError, and whatever the line raises: then the light is perhaps on.
        """
        with self._switching:
            if self._closing:
                self.close()
            else:
                self._turn_off()

    def close(self) -> None:
        """Turn the light off and let go of the port, which happens also where turning off fails; that is then raised.

        Closing twice is closing once. Where turning off failed, closing again opens the port again and tries again.
        """
        with self._switching:
            self._closing = True
            if self._dark:
                return
            try:
                self._line.open()
                self._turn_off()
                self._dark = True
                self._leave()
            finally:
                self._line.close()

    @abstractmethod
    def _leave(self) -> None:
        """Undo what was set on connection, the light being off."""

    @abstractmethod
    def _let_light_out(self) -> None:
        """Ask for light, and read back that this was understood."""

    @abstractmethod
    def _wait_for_light(self) -> None:
        """Return when there is light."""

    @abstractmethod
    def _turn_off(self) -> None:
        """Ask for no light, read it back, and return when there is none."""

    @contextmanager
    def _dark_on_failure(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            try:
                self.off()
            except DeviceError as second:
                error.add_note(f"and it could not be turned off: {second}")
            raise


def wait_until(holds: Callable[[], bool], timeout_s: float) -> bool:
    """Ask again and again until something holds, at most ``timeout_s`` seconds; whether it came to hold."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True
