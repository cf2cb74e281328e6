"""A Thorlabs SC10 shutter controller with its shutter, at the wire.

It speaks what the manual's table of keywords lists, in lower case and ended by CR: every command is echoed, its value
follows on a line, then the prompt. Unknown keywords are answered "Command error CMD_NOT_DEFINED", wrong arguments
"Command error CMD_ARG_INVALID". Chosen here, because no document at hand says it: ``ens`` is answered like any other
command, and does nothing, while the interlock is tripped. Modes other than manual are kept and told, but the blade
follows ``ens`` in all of them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Final

from sim_devices.bench import OpticalBench
from sim_devices.serial_peer import SerialPeer

_SETTINGS: Final = {
    "mode": ("1", range(1, 6)),
    "trig": ("0", range(2)),
    "xto": ("0", range(2)),
    "rep": ("1", range(1, 100)),
    "open": ("50", range(1_000_000)),
    "shut": ("50", range(1_000_000)),
}
_KEYWORDS: Final = ("?", "id?", "ens", "ens?", "closed?", "interlock?")


class Sc10Peer(SerialPeer):
    """A shutter that takes ``travel_s`` to open or close, and lets light on the bench while it is not closed.

    ``clock`` in seconds. To be set by tests: ``jammed`` (the blade stays where it is), ``ignores_enable`` (``ens`` does
    nothing).
    """

    def __init__(
        self,
        bench: OpticalBench | None = None,
        *,
        identity: str = "THORLABS SC10 VERSION 1.07",
        travel_s: float = 0.0,
        enabled: bool = False,
        mode: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(b"\r")
        self.jammed = False
        self.ignores_enable = False
        self._bench = bench
        self._identity = identity
        self._travel_s = travel_s
        self._clock = clock
        self._settings = {name: default for name, (default, _) in _SETTINGS.items()} | {"mode": str(mode)}
        self._wrong_echoes = 0
        self._tripped = False
        self._enabled = enabled
        self._open = False
        self._moved_at = clock()
        if bench is not None:
            bench.set_light(False)
        self.tick()

    @property
    def is_open(self) -> bool:
        """Whether the blade lets light through."""
        with self.lock:
            self.tick()
            return self._open

    def wrong_echo(self, n_replies: int = 1) -> None:
        """Echo something else than what came."""
        with self.lock:
            self._wrong_echoes = n_replies

    def fault(self, name: str) -> None:
        """Trip the "interlock": the shutter closes and stays closed."""
        if name != "interlock":
            raise ValueError(f"an SC10 has no fault {name!r}, only interlock")
        with self.lock:
            self._tripped = True
            self._enable(False)

    def repair(self) -> None:
        """Close the interlock; the shutter stays closed."""
        with self.lock:
            self._tripped = False

    def press_enable(self) -> None:
        """Somebody presses the button on the panel."""
        with self.lock:
            self._enable(not self._enabled)

    def tick(self) -> None:
        """Move the blade."""
        if self._open is not self._enabled and not self.jammed and self._clock() >= self._moved_at + self._travel_s:
            self._open = self._enabled
            if self._bench is not None:
                self._bench.set_light(self._open)

    def answer(self, command: str) -> bytes:
        """Echo, value or error, prompt."""
        lines = [command, *self._values(command)]
        if self._wrong_echoes:
            self._wrong_echoes -= 1
            lines[0] = f"{command}#"
        return "".join([*(f"{line}\r" for line in lines), "> "]).encode("ascii", errors="replace")

    def _values(self, command: str) -> list[str]:
        if command == "?":
            return [*_KEYWORDS, *(f"{name}{ending}" for name in _SETTINGS for ending in ("=n", "?"))]
        if command == "ens":
            if not self._tripped and not self.ignores_enable:
                self._enable(not self._enabled)
            return []
        told = {
            "id?": self._identity,
            "ens?": f"{self._enabled:d}",
            "closed?": f"{not self._open:d}",
            "interlock?": f"{self._tripped:d}",
            **{f"{name}?": value for name, value in self._settings.items()},
        }
        if command in told:
            return [told[command]]
        name, _, argument = command.partition("=")
        if "=" not in command or name not in _SETTINGS:
            return ["Command error CMD_NOT_DEFINED"]
        if not re.fullmatch(r"\d{1,6}", argument) or int(argument) not in _SETTINGS[name][1]:
            return ["Command error CMD_ARG_INVALID"]
        self._settings[name] = argument
        return []

    def _enable(self, enabled: bool) -> None:
        if enabled is not self._enabled:
            self._enabled = enabled
            self._moved_at = self._clock()
            self.tick()
