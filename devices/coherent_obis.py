"""A Coherent OBIS LS or LX laser, directly or behind its OBIS Remote, over a serial port.

The protocol is the one of Coherent's "OBIS LX/LS Operator's Manual" (host interface): SCPI commands ended by CR LF, a
query answered by its value on a line, and, with handshaking on, every command by a line ``OK`` or ``ERR`` and a number.
Powers are in watts. Two registers of 32 bits, in hexadecimal, hold status and faults.

Not confirmed on hardware: any of it. Error numbers and register bits are what public drivers quote of that manual; the
interlock's bit 0x04000000, which the OBIS Remote reports, was seen by their users. Not documented there: whether the
command that turns handshaking on is itself answered (both are coped with); how finely the laser rounds a power; whether
bit 0x100 of the status means warming up (as seen) or warmed up (as named), so that only a message depends on it.
"""

from __future__ import annotations

import math
import re
from typing import Final

from devices.errors import (
    DeviceNotFoundError,
    DeviceReplyError,
    DeviceSilentError,
    DeviceStateError,
    LightSourceFaultError,
    LightSourceTimeoutError,
    PowerRefusedError,
)
from devices.light_source import LightSourceInfo
from devices.serial_light import SerialLight, wait_until
from devices.serial_line import SerialLine

_REPLY_END: Final = re.compile(rb"(?:\A|[\r\n])(?:OK|ERR *[-+]?\d+)\r?\n")
_NUMBER: Final = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_HEXADECIMAL: Final = re.compile(r"(?:0[xX])?[0-9A-Fa-f]{1,8}")
_HANDSHAKING_ON: Final = "SYSTem:COMMunicate:HANDshaking ON"
_ON: Final = "SOURce:AM:STATe ON"
_OFF: Final = "SOURce:AM:STATe OFF"
_ANY_FAULT: Final = 0x2000_0021
_EMISSION: Final = 0x0000_0002
_CDRH_DELAY: Final = 0x0000_0010
_WARMING_UP: Final = 0x0000_0100
_INTERLOCK_OPEN: Final = 0x0400_0000

ERRORS: Final = {
    -100: "unrecognized command or query",
    -102: "syntax error",
    -109: "parameter missing",
    -200: "the command cannot be executed now",
    -203: "the command is protected",
    -220: "invalid parameter",
    -221: "settings conflict",
    -241: "device unavailable",
    -256: "no such file",
    -257: "no file named",
    -310: "system error",
    -321: "out of memory",
    -350: "error queue full",
    -400: "query unavailable",
    500: "fault of the Coherent connection bus",
    510: "fault of the I2C bus",
    520: "controller time-out",
    900: "time-out of the Coherent connection bus",
}
"""What the laser's error numbers mean."""

FAULTS: Final = {
    0x00_0001: "base plate temperature out of range",
    0x00_0002: "diode temperature out of range",
    0x00_0004: "internal temperature out of range",
    0x00_0008: "no electrical power to the diode",
    0x00_0010: "I2C bus error",
    0x00_0020: "diode over current",
    0x00_0040: "checksum error in the stored settings",
    0x00_0080: "stored settings fell back to the defaults",
    0x00_0100: "message buffer overflow",
    0x00_0200: "warm-up takes too long",
    0x00_0400: "failure of the temperature controller",
    0x00_0800: "bus error (CCB)",
    0x00_1000: "diode temperature far from its set point",
    0x00_2000: "no emission at the set power",
    0x00_4000: "photodiode reads below zero",
    0x00_8000: "fatal system failure",
    0x01_0000: "errors at start-up",
    0x02_0000: "restarted by its watchdog",
    0x04_0000: "field calibration failed",
    0x10_0000: "output power above its limit",
}
"""What the bits of the laser's fault register mean."""


class CoherentObis(SerialLight):
    """The laser on serial port ``port``, emitting continuously at constant power while it is on.

    On connection: the device is identified, handshaking turned on, the laser turned off, its faults read, its mode set
    to continuous constant power (CWP), and ``power_mw``, where given, set and read back; on closing the power becomes
    what it was, and the mode stays. Where it is None the power stays as the laser has it. ``timeout_s`` is the longest
    wait for a reply; ``emission_timeout_s`` the longest wait for light, which has to be longer than the laser's CDRH
    delay (5 s where that is on) and than what is left of its warm-up.

    Raises DeviceNotFoundError (no such port, or something else answers), DeviceSilentError, DeviceReplyError,
    LightSourceFaultError (a fault is present, or a command was refused), PowerRefusedError (above or below what the
    laser gives), DeviceStateError (a setting reads back otherwise).
    """

    def __init__(
        self,
        port: str,
        *,
        power_mw: float | None = None,
        baud: int = 115200,
        timeout_s: float = 1.0,
        emission_timeout_s: float = 15.0,
    ) -> None:
        super().__init__(
            SerialLine(
                port,
                device="OBIS laser",
                baud=baud,
                command_end=b"\r\n",
                reply_end=_REPLY_END,
                timeout_s=timeout_s,
            )
        )
        self._emission_timeout_s = emission_timeout_s
        self._power_before_mw: float | None = None
        self._begin(lambda: self._connect(power_mw))

    def is_on(self) -> bool:
        """Whether it emits, as its status register has it; not yet while the CDRH delay goes on."""
        return bool(self._register("SYSTem:STATus?") & _EMISSION)

    def status(self) -> dict[str, float | str]:
        """What the laser measures and says of itself now.

        ``state`` (off, waiting, on), ``power_mw`` measured, ``set_power_mw``, ``temperature_c`` of the base plate,
        ``fault`` (none, or their names), ``mode``, ``cdrh_delay`` and ``autostart`` (ON, OFF), ``status`` and
        ``fault_register`` in hexadecimal.
        """
        status, faults = self._registers()
        without_light = "waiting" if self._is_asked_for_light() else "off"
        return {
            "state": "on" if status & _EMISSION else without_light,
            "power_mw": self._power_mw("SOURce:POWer:LEVel?"),
            "set_power_mw": self._power_mw("SOURce:POWer:LEVel:IMMediate:AMPLitude?"),
            "temperature_c": self._number("SOURce:TEMPerature:BASeplate?", "C"),
            "fault": ", ".join(fault_names(status, faults)) or "none",
            "mode": self._query("SOURce:AM:SOURce?"),
            "cdrh_delay": self._query("SYSTem:CDRH?"),
            "autostart": self._query("SYSTem:AUTostart?"),
            "status": f"{status:08X}",
            "fault_register": f"{faults:08X}",
        }

    def _connect(self, power_mw: float | None) -> LightSourceInfo:
        self._turn_handshaking_on()
        identity = self._query("*IDN?")
        if not identity.lower().startswith("coherent"):
            raise DeviceNotFoundError(
                f"serial port {self._line.port} answers *IDN? with {identity!r}, which is no Coherent laser; "
                "check the port"
            )
        self._turn_off()
        self._refuse_faults()
        self._set("SOURce:AM:INTernal CWP")
        if (mode := self._query("SOURce:AM:SOURce?")) != "CWP":
            raise DeviceStateError(
                f"{self._line.device} on {self._line.port} was set to mode CWP (constant power) and says {mode}; "
                "set the mode at the laser's own software"
            )
        if power_mw is not None:
            self._set_power(power_mw)
        return LightSourceInfo(
            name=self._query("SYSTem:INFormation:MODel?"),
            power_mw=self._power_mw("SOURce:POWer:LEVel:IMMediate:AMPLitude?"),
            serial=self._query("SYSTem:INFormation:SNUMber?"),
            firmware=self._query("SYSTem:INFormation:FVERsion?"),
        )

    def _turn_handshaking_on(self) -> None:
        try:
            self._set(_HANDSHAKING_ON)
        except DeviceSilentError:
            # It may have been off until this very command: then only the next one is answered.
            self._set(_HANDSHAKING_ON)

    def _set_power(self, power_mw: float) -> None:
        low_mw = self._power_mw("SOURce:POWer:LIMit:LOW?")
        high_mw = self._power_mw("SOURce:POWer:LIMit:HIGH?")
        if not low_mw <= power_mw <= high_mw:
            raise PowerRefusedError(
                f"the laser on {self._line.port} gives {low_mw:g} to {high_mw:g} mW, not {power_mw:g} mW; ask "
                "for a power within these limits, and dim the light further on with a filter"
            )
        self._power_before_mw = self._power_mw("SOURce:POWer:LEVel:IMMediate:AMPLitude?")
        self._set(f"SOURce:POWer:LEVel:IMMediate:AMPLitude {watts(power_mw)}")
        found_mw = self._power_mw("SOURce:POWer:LEVel:IMMediate:AMPLitude?")
        if not math.isclose(found_mw, power_mw, rel_tol=0.01, abs_tol=0.01):
            raise DeviceStateError(
                f"the laser on {self._line.port} was set to {power_mw:g} mW and says {found_mw:g} mW; "
                "check that nothing else sets its power"
            )

    def _leave(self) -> None:
        if self._power_before_mw is not None:
            self._set(f"SOURce:POWer:LEVel:IMMediate:AMPLitude {watts(self._power_before_mw)}")

    def _let_light_out(self) -> None:
        self._refuse_faults()
        self._set(_ON)
        if not self._is_asked_for_light():
            self._refuse_faults()
            raise DeviceStateError(
                f"the laser on {self._line.port} was turned on and says it is off; check its key and its interlock"
            )

    def _wait_for_light(self) -> None:
        if not wait_until(self._emits, self._emission_timeout_s):
            status = self._register("SYSTem:STATus?")
            reasons = [
                *(["its CDRH delay goes on"] if status & _CDRH_DELAY else []),
                *(["it may be warming up"] if status & _WARMING_UP else []),
            ]
            why = " and ".join(reasons) or "it gives no reason"
            raise LightSourceTimeoutError(
                f"the laser on {self._line.port} was turned on and does not emit after {self._emission_timeout_s:g} s "
                f"({why}; status {status:08X}); check key and interlock, or give a longer emission_timeout_s"
            )

    def _emits(self) -> bool:
        """Whether there is light; raises where there will be none."""
        if self._refuse_faults() & _EMISSION:
            return True
        if not self._is_asked_for_light():
            # A fault may have turned it off since it was asked for faults.
            self._refuse_faults()
            raise DeviceStateError(f"the laser on {self._line.port} was turned off while it was waited for its light")
        return False

    def _turn_off(self) -> None:
        self._set(_OFF, urgent=True)
        if self._is_asked_for_light():
            raise DeviceStateError(
                f"the laser on {self._line.port} was turned off and says it is on; turn it off with its key"
            )
        if not wait_until(lambda: not self.is_on(), self._line.timeout_s):
            raise LightSourceTimeoutError(
                f"the laser on {self._line.port} was turned off and still emits after {self._line.timeout_s:g} s; "
                "turn it off with its key"
            )

    def _is_asked_for_light(self) -> bool:
        state = self._query("SOURce:AM:STATe?")
        if state not in ("ON", "OFF"):
            raise self._not_understood("SOURce:AM:STATe?", state, "ON or OFF")
        return state == "ON"

    def _refuse_faults(self) -> int:
        """The status register; raises LightSourceFaultError where faults are present."""
        status, faults = self._registers()
        names = fault_names(status, faults)
        if names:
            raise LightSourceFaultError(
                f"the laser on {self._line.port} reports {', '.join(names)} (fault register {faults:08X}, status "
                f"{status:08X}); clear the cause, turn the laser's key off and on where it asks for it, then try again"
            )
        return status

    def _registers(self) -> tuple[int, int]:
        """Status and faults; faults last, so that a fault that comes between is not missed."""
        status = self._register("SYSTem:STATus?")
        return status, self._register("SYSTem:FAULt?")

    def _register(self, query: str) -> int:
        text = self._query(query)
        if _HEXADECIMAL.fullmatch(text) is None:
            raise self._not_understood(query, text, "up to eight hexadecimal digits")
        return int(text, 16)

    def _power_mw(self, query: str) -> float:
        return 1000 * self._number(query, "W")

    def _number(self, query: str, unit: str) -> float:
        """A number; the laser may write its unit after it."""
        text = self._query(query)
        number = text.removesuffix(unit).rstrip()
        if _NUMBER.fullmatch(number) is None:
            raise self._not_understood(query, text, f"a number ({unit})")
        return float(number)

    def _query(self, query: str) -> str:
        """The one line that answers a query."""
        lines = self._ask(query)
        if len(lines) != 1:
            raise self._not_understood(query, lines, "one line and OK")
        return lines[0]

    def _set(self, command: str, *, urgent: bool = False) -> None:
        lines = self._ask(command, urgent=urgent)
        if lines:
            raise self._not_understood(command, lines, "OK and nothing else")

    def _ask(self, command: str, *, urgent: bool = False) -> list[str]:
        """What stands before OK; raises LightSourceFaultError where ERR and a number stand in its place."""
        *lines, ending = [line.strip() for line in self._line.ask(command, urgent=urgent).splitlines() if line.strip()]
        if ending != "OK":
            code = int(ending.removeprefix("ERR"))
            raise LightSourceFaultError(
                f"the laser on {self._line.port} refused {command!r} with error {code}: "
                f"{ERRORS.get(code, 'which is not in its manual')}"
            )
        return lines

    def _not_understood(self, command: str, found: object, expected: str) -> DeviceReplyError:
        self._line.distrust()
        return DeviceReplyError(
            f"the laser on {self._line.port} answered {command!r} with {found!r}, and not with {expected}; check that "
            "it is an OBIS LS or LX and that nothing else uses the line"
        )


def watts(power_mw: float) -> str:
    """A power in mW as the laser takes it: watts, to a microwatt."""
    return f"{power_mw / 1000:.6f}"


def fault_names(status: int, faults: int) -> list[str]:
    """What a status and a fault register report, in words; bits without a name by their value."""
    bits = [1 << position for position in range(32) if faults >> position & 1]
    names = [FAULTS.get(bit, f"unknown fault {bit:08X}") for bit in bits]
    if status & _INTERLOCK_OPEN:
        names.insert(0, "interlock open")
    if status & _ANY_FAULT and not names:
        names.append("a fault that it does not name")
    return names
