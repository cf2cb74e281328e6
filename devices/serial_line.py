"""One conversation over a serial port: a command goes out, and its reply comes back in time."""

from __future__ import annotations

import re
import threading
import time
from typing import Any

from devices.errors import DeviceNotFoundError, DeviceReplyError, DeviceSilentError, DeviceStateError

# Reading blocks this long at most, so that a deadline is kept whatever the port's driver does.
_SLICE_S = 0.02
# A device that goes on talking for so many time-outs does not answer us.
_SETTLE_TIMEOUTS = 5


class SerialLine:
    """A device on the serial port ``port``: COM3, /dev/ttyUSB0, or any address pyserial knows (socket://host:port).

    ``device`` is its name in messages. A command is sent as ASCII with ``command_end`` after it; a reply is complete
    where ``reply_end`` is found in what came, and has to be complete ``timeout_s`` seconds after its command. Opens
    the port, 8 data bits, no parity, 1 stop bit, for this program alone.

    Replies carry no number, so a late one could be taken for the next one's. Bytes that lie there before a command are
    thrown away; after a reply that did not come (or was interrupted, or made no sense) the line is out of step, and the
    next command waits until the device has been quiet for ``timeout_s``.

    Safe to use from several threads: one command and its reply at a time. Raises DeviceNotFoundError where the port
    cannot be opened.
    """

    def __init__(
        self,
        port: str,
        *,
        device: str,
        baud: int,
        command_end: bytes,
        reply_end: re.Pattern[bytes],
        timeout_s: float,
    ) -> None:
        if timeout_s <= 0:
            raise ValueError(f"timeout_s is {timeout_s:g}; give a time above 0 s")
        self.port = port
        self.device = device
        self.timeout_s = timeout_s
        self._baud = baud
        self._command_end = command_end
        self._reply_end = reply_end
        # Re-entrant: a signal handler may turn the light off while its own thread waits for a reply.
        self._lock = threading.RLock()
        self._out_of_step = False
        self._serial: Any = None
        self.open()

    def open(self) -> None:
        """Open the port; nothing happens where it is open. Raises DeviceNotFoundError."""
        import serial

        with self._lock:
            if self._serial is not None:
                return
            try:
                self._serial = serial.serial_for_url(
                    self.port,
                    baudrate=self._baud,
                    timeout=_SLICE_S,
                    write_timeout=self.timeout_s,
                    exclusive=True,
                )
            except (OSError, ValueError) as error:
                raise DeviceNotFoundError(
                    f"no {self.device} on serial port {self.port}: {error}. Ports found here: {_ports_here()}; check "
                    "the port's name, that the device is switched on and plugged in, that no other program holds the "
                    "port, and that you may use it (on Linux: group dialout)"
                ) from error

    def close(self) -> None:
        """Let go of the port. Closing twice is closing once."""
        with self._lock:
            if self._serial is not None:
                port, self._serial = self._serial, None
                port.close()

    def ask(self, command: str, *, urgent: bool = False) -> str:
        """Send a command and return its reply, up to the end of what ``reply_end`` matched.

        ``urgent``: where the line is out of step, send it at once as well, before waiting for quiet; only for commands
        that may be sent twice.

        Raises DeviceSilentError where no complete reply came in time, DeviceReplyError where it is not ASCII or the
        device does not stop talking, DeviceNotFoundError where the port has gone, DeviceStateError where it is closed.
        """
        with self._lock:
            try:
                return self._ask(command, urgent)
            except OSError as error:
                if isinstance(error, DeviceNotFoundError | DeviceSilentError):
                    raise
                raise DeviceNotFoundError(
                    f"{self.device} on serial port {self.port} vanished at {command!r}: {error}. Its state is not "
                    "known: look after the light at the device itself, then check cable and power and connect again"
                ) from error

    def distrust(self) -> None:
        """What came last does not fit its command: let the next one wait for quiet."""
        self._out_of_step = True

    def _ask(self, command: str, urgent: bool) -> str:
        if self._serial is None:
            raise DeviceStateError(f"{self.device} was closed and port {self.port} let go of; connect to it again")
        if self._out_of_step:
            if urgent:
                self._send(command)
            self._settle()
        while self._serial.in_waiting:
            self._serial.read(self._serial.in_waiting)
        # Whatever interrupts this, a time-out or Ctrl-C, leaves a reply outstanding.
        self._out_of_step = True
        self._send(command)
        reply = self._reply(command)
        self._out_of_step = False
        return reply

    def _send(self, command: str) -> None:
        import serial

        try:
            self._serial.write(command.encode("ascii") + self._command_end)
        except serial.SerialTimeoutException as error:
            raise DeviceSilentError(
                f"{self.device} on serial port {self.port} took no bytes of {command!r} for {self.timeout_s:g} s; "
                "check that it is switched on and that it needs no flow control"
            ) from error

    def _reply(self, command: str) -> str:
        deadline = time.monotonic() + self.timeout_s
        came = b""
        while (end := self._reply_end.search(came)) is None:
            if time.monotonic() > deadline:
                raise DeviceSilentError(
                    f"{self.device} on serial port {self.port} did not answer {command!r} within {self.timeout_s:g} s "
                    f"({_shown(came)} came); check that it is switched on, that cable and baud rate ({self._baud}) are "
                    "right, and that it is this device; give a slow one a longer timeout_s"
                )
            came += self._serial.read(max(1, self._serial.in_waiting))
        try:
            return came[: end.end()].decode("ascii")
        except UnicodeDecodeError as error:
            raise DeviceReplyError(
                f"{self.device} on serial port {self.port} answered {command!r} with {_shown(came)}, which is not "
                f"ASCII; check the baud rate ({self._baud}), cable and grounding"
            ) from error

    def _settle(self) -> None:
        """Throw away what still comes, until nothing has come for ``timeout_s``."""
        started = quiet_since = time.monotonic()
        while (now := time.monotonic()) - quiet_since < self.timeout_s:
            if self._serial.read(max(1, self._serial.in_waiting)):
                quiet_since = time.monotonic()
            if now - started > _SETTLE_TIMEOUTS * self.timeout_s:
                raise DeviceReplyError(
                    f"{self.device} on serial port {self.port} goes on talking unasked; check that it is this device, "
                    "and that nothing else uses the line"
                )


def _shown(came: bytes) -> str:
    """Bytes for a message: some of them, or the word nothing."""
    shown = repr(came[:60])[1:]
    return (shown if len(came) <= 60 else f"{shown}… ({len(came)} bytes)") if came else "nothing"


def _ports_here() -> str:
    """The names of the serial ports this computer has."""
    from serial.tools.list_ports import comports

    return ", ".join(sorted(port.device for port in comports())) or "none"
