"""A Coherent OBIS laser behind an OBIS Remote, at the wire.

It speaks what the manual's host interface describes, as far as a driver needs it: SCPI headers in long or short form,
in any case, commands ended by CR LF, values on lines, and, with handshaking on, OK or ERR and a number. Of the error
numbers it uses -100 (no such command), -109 (argument missing), -200 (cannot be done now), -220 (argument wrong or out
of range) and -221 (conflict with another setting). Chosen here, because no document at hand says it: with handshaking
off nothing answers a command; a laser with a fault, or an open interlock, turns itself off and refuses to be turned on.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from sim_devices.bench import OpticalBench
from sim_devices.serial_peer import SerialPeer

FAULT_BITS: Final = {
    "base plate too hot": 1 << 0,
    "diode too hot": 1 << 1,
    "too hot inside": 1 << 2,
    "no diode supply": 1 << 3,
    "over current": 1 << 5,
    "no emission": 1 << 13,
    "fatal": 1 << 15,
    "over power": 1 << 20,
}
"""Faults that can be injected, and their bits in the fault register; beside them "interlock", which has none."""

_STATUS_FAULT: Final = 1 << 0
_STATUS_EMISSION: Final = 1 << 1
_STATUS_STANDBY: Final = 1 << 3
_STATUS_DELAY: Final = 1 << 4
_STATUS_EXTERNAL: Final = 1 << 10
_STATUS_SUPPLY: Final = 1 << 12
_STATUS_INTERLOCK: Final = 1 << 26
_STATUS_REMOTE: Final = 0xC8 << 24
_INTERNAL_MODES: Final = ("CWP", "CWC")
_EXTERNAL_MODES: Final = {"DIG": "DIGITAL", "ANAL": "ANALOG", "MIX": "MIXED"}
_Entry = TypeVar("_Entry")


class ObisPeer(SerialPeer):
    """A laser that can emit ``low_w`` … ``high_w``, and switches the bench's light where it is given one.

    With ``cdrh_delay_s`` above 0 its CDRH delay is on: emission comes that much later than it is asked for. ``clock``
    in seconds.

    To be set by tests: ``refuses`` (commands, word for word, and the error numbers they get), ``ignores_off`` (told to
    be off, it stays on), ``keeps_emitting`` (told to be off, it says it is, and emits all the same).
    """

    def __init__(
        self,
        bench: OpticalBench | None = None,
        *,
        identity: str = "Coherent, Inc - OBIS Simulated 488LS - V2.0 - Jan 01 2020",
        low_w: float = 0.001,
        high_w: float = 0.110,
        power_w: float = 0.020,
        cdrh_delay_s: float = 0.0,
        handshaking: bool = False,
        asked_for_light: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(b"\r\n")
        self.handshaking = handshaking
        self.mode = "DIGITAL"
        self.power_w = power_w
        self.refuses: dict[str, int] = {}
        self.ignores_off = False
        self.keeps_emitting = False
        self._bench = bench
        self._low_w = low_w
        self._high_w = high_w
        self._cdrh = cdrh_delay_s > 0
        self._cdrh_delay_s = cdrh_delay_s
        self._clock = clock
        self._faults = 0
        self._interlock_open = False
        self._asked = False
        self._emits_at = 0.0
        self._emission = False
        self._queries: dict[str, Callable[[], str]] = {
            "*IDN": lambda: identity,
            "SYSTem:COMMunicate:HANDshaking": lambda: _on_off(self.handshaking),
            "SYSTem:STATus": lambda: f"{self._status():08X}",
            "SYSTem:FAULt": lambda: f"{self._faults:08X}",
            "SYSTem:LOCK": lambda: _on_off(not self._interlock_open),
            "SYSTem:CDRH": lambda: _on_off(self._cdrh),
            "SYSTem:AUTostart": lambda: "OFF",
            "SYSTem:INFormation:MODel": lambda: "OBIS 488-100 LS",
            "SYSTem:INFormation:SNUMber": lambda: "VS12345",
            "SYSTem:INFormation:FVERsion": lambda: "V2.0.1",
            "SYSTem:INFormation:WAVelength": lambda: "488",
            "SOURce:AM:STATe": lambda: _on_off(self._asked),
            "SOURce:AM:SOURce": lambda: self.mode,
            "SOURce:POWer:LEVel": lambda: f"{self.power_w if self._emission else 0.0:.5f}",
            "SOURce:POWer:LEVel:IMMediate:AMPLitude": lambda: f"{self.power_w:.6f}",
            "SOURce:POWer:LIMit:LOW": lambda: f"{self._low_w:.5f}",
            "SOURce:POWer:LIMit:HIGH": lambda: f"{self._high_w:.5f}",
            "SOURce:POWer:NOMinal": lambda: f"{self._high_w / 1.1:.5f}",
            "SOURce:TEMPerature:BASeplate": lambda: "27.5C",
        }
        self._setters: dict[str, Callable[[str], None]] = {
            "SYSTem:COMMunicate:HANDshaking": self._set_handshaking,
            "SYSTem:CDRH": self._set_cdrh,
            "SOURce:AM:STATe": self._set_state,
            "SOURce:AM:INTernal": self._set_internal,
            "SOURce:AM:EXTernal": self._set_external,
            "SOURce:POWer:LEVel:IMMediate:AMPLitude": self._set_power,
        }
        self._switch_bench(False)
        if asked_for_light:
            self._set_state("ON")

    @property
    def emission(self) -> bool:
        """Whether the laser emits."""
        with self.lock:
            self.tick()
            return self._emission

    def fault(self, name: str) -> None:
        """Let something break: a name of ``FAULT_BITS``, or "interlock". Emission ends at once, for good."""
        with self.lock:
            if name == "interlock":
                self._interlock_open = True
            else:
                self._faults |= FAULT_BITS[name]
            self._asked = False
            self._darken()

    def repair(self) -> None:
        """Nothing is broken any more; the laser stays off."""
        with self.lock:
            self._faults, self._interlock_open = 0, False

    def press_off(self) -> None:
        """Somebody turns the laser off at its panel."""
        with self.lock:
            self._asked = False
            self._darken()

    def tick(self) -> None:
        """Begin to emit when the delay is over."""
        if self._asked and not self._emission and self._clock() >= self._emits_at:
            self._emission = True
            self._switch_bench(True)

    def answer(self, command: str) -> bytes:
        """A value, where it is a query that is known, and what handshaking adds."""
        header, _, argument = command.strip().partition(" ")
        try:
            if command.strip() in self.refuses:
                raise _RefusedError(self.refuses[command.strip()])
            if header.endswith("?"):
                lines = [_found(self._queries, header[:-1])()]
            else:
                setter = _found(self._setters, header)
                if not argument.strip():
                    raise _RefusedError(-109)
                setter(argument.strip().upper())
                lines = []
            ending = "OK"
        except _RefusedError as error:
            lines, ending = [], f"ERR{error.code}"
        if self.handshaking:
            lines.append(ending)
        return "".join(f"{line}\r\n" for line in lines).encode("ascii")

    def _status(self) -> int:
        status = _STATUS_REMOTE
        if self._faults:
            status |= _STATUS_FAULT
        if self._interlock_open:
            return status | _STATUS_INTERLOCK | _STATUS_STANDBY
        status |= _STATUS_SUPPLY
        if self._emission:
            status |= _STATUS_EMISSION
        elif self._asked:
            status |= _STATUS_DELAY
        else:
            status |= _STATUS_STANDBY
        return status if self.mode in _INTERNAL_MODES else status | _STATUS_EXTERNAL

    def _set_handshaking(self, argument: str) -> None:
        self.handshaking = _is_on(argument)

    def _set_cdrh(self, argument: str) -> None:
        self._cdrh = _is_on(argument)

    def _set_state(self, argument: str) -> None:
        if not _is_on(argument):
            if not self.ignores_off:
                self._asked = False
                if not self.keeps_emitting:
                    self._darken()
            return
        if self._faults or self._interlock_open:
            raise _RefusedError(-200)
        if not self._asked:
            self._asked = True
            self._emits_at = self._clock() + (self._cdrh_delay_s if self._cdrh else 0.0)
            self.tick()

    def _set_internal(self, argument: str) -> None:
        if argument not in _INTERNAL_MODES:
            raise _RefusedError(-220)
        self._set_mode(argument)

    def _set_external(self, argument: str) -> None:
        modes = [mode for short, mode in _EXTERNAL_MODES.items() if argument in (short, mode)]
        if not modes:
            raise _RefusedError(-220)
        self._set_mode(modes[0])

    def _set_mode(self, mode: str) -> None:
        if self._asked:
            raise _RefusedError(-221)
        self.mode = mode

    def _set_power(self, argument: str) -> None:
        try:
            power_w = float(argument)
        except ValueError:
            raise _RefusedError(-220) from None
        if not self._low_w <= power_w <= self._high_w:
            raise _RefusedError(-220)
        self.power_w = power_w

    def _darken(self) -> None:
        if self._emission:
            self._emission = False
            self._switch_bench(False)

    def _switch_bench(self, on: bool) -> None:
        if self._bench is not None:
            self._bench.set_light(on)


class _RefusedError(Exception):
    """A command that gets an error number for its answer."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def _found(table: Mapping[str, _Entry], header: str) -> _Entry:
    """What a header stands for; refused where it stands for nothing."""
    for documented, entry in table.items():
        if _means(header, documented):
            return entry
    raise _RefusedError(-100)


def _means(header: str, documented: str) -> bool:
    """Whether a header is a documented one, every part in its long form or in its short one (the capitals)."""
    parts, whole = header.upper().split(":"), documented.split(":")
    return len(parts) == len(whole) and all(
        part in (long.upper(), re.sub("[a-z]", "", long)) for part, long in zip(parts, whole, strict=True)
    )


def _is_on(argument: str) -> bool:
    if argument not in ("ON", "OFF"):
        raise _RefusedError(-220)
    return argument == "ON"


def _on_off(value: bool) -> str:
    return "ON" if value else "OFF"
