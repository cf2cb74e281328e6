"""The OBIS laser's driver on a laser at the wire: what it asks for and reads back, and every way it can go wrong."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.coherent_obis import CoherentObis, fault_names, watts
from devices.errors import (
    DeviceError,
    DeviceNotFoundError,
    DeviceReplyError,
    DeviceSilentError,
    DeviceStateError,
    LightSourceFaultError,
    LightSourceTimeoutError,
    PowerRefusedError,
)
from sim_devices.bench import OpticalBench
from sim_devices.obis_peer import ObisPeer
from tests.devices.benches import a_bench
from tests.devices.serial_ports import wait_for

ON, OFF, STATE = "SOURce:AM:STATe ON", "SOURce:AM:STATe OFF", "SOURce:AM:STATe?"
STATUS, FAULT = "SYSTem:STATus?", "SYSTem:FAULt?"
SET_POWER = "SOURce:POWer:LEVel:IMMediate:AMPLitude"
Interfere = Callable[..., None]


@pytest.fixture
def bench() -> OpticalBench:
    return a_bench()


@pytest.fixture
def peer(bench: OpticalBench) -> Iterator[ObisPeer]:
    with ObisPeer(bench) as laser:
        yield laser


def lit(bench: OpticalBench) -> bool:
    return bench.light_on


@contextmanager
def driving(peer: ObisPeer, **options: Any) -> Iterator[CoherentObis]:
    """Our driver on the laser; closed at the end, unless the test has seen to that."""
    laser = CoherentObis(peer.url, **options)
    try:
        yield laser
    finally:
        peer.wake()
        peer.refuses.clear()
        peer.ignores_off = peer.keeps_emitting = False
        laser.close()


def noted(error: BaseException) -> str:
    return "\n".join(getattr(error, "__notes__", []))


# Connecting


@pytest.mark.parametrize("handshaking", [True, False])
def test_it_identifies_the_laser_then_turns_it_off_before_anything_else(handshaking: bool) -> None:
    with ObisPeer(handshaking=handshaking, asked_for_light=True) as peer, driving(peer) as laser:
        assert peer.commands[:3] == ["SYSTem:COMMunicate:HANDshaking ON", "*IDN?", OFF]
        assert not peer.emission
        assert (laser.info.name, laser.info.serial, laser.info.firmware) == ("OBIS 488-100 LS", "VS12345", "V2.0.1")


def test_a_laser_that_does_not_answer_the_command_for_handshaking_is_asked_again(
    peer: ObisPeer, interfere: Interfere
) -> None:
    interfere(peer, "SYSTem:COMMunicate:HANDshaking ON", lambda: setattr(peer, "handshaking", True), reply=b"")
    with driving(peer, timeout_s=0.25):
        assert peer.commands.count("SYSTem:COMMunicate:HANDshaking ON") == 2


def test_another_device_is_not_told_to_do_anything() -> None:
    with ObisPeer(identity="Cobolt 06-MLD") as peer:
        with pytest.raises(DeviceNotFoundError, match="'Cobolt 06-MLD', which is no Coherent laser; check the port"):
            CoherentObis(peer.url)
        assert peer.commands == ["SYSTem:COMMunicate:HANDshaking ON", "*IDN?"]


def test_it_emits_at_constant_power_whatever_mode_it_was_in(peer: ObisPeer) -> None:
    assert peer.mode == "DIGITAL"
    with driving(peer) as laser:
        assert (peer.mode, laser.status()["mode"]) == ("CWP", "CWP")


def test_a_mode_that_reads_back_otherwise_is_an_error(peer: ObisPeer, interfere: Interfere) -> None:
    interfere(peer, "SOURce:AM:SOURce?", reply=b"ANALOG\r\nOK\r\n")
    with pytest.raises(DeviceStateError, match=r"set to mode CWP .* says ANALOG"):
        CoherentObis(peer.url)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("interlock", "interlock open"),
        ("base plate too hot", "base plate temperature out of range"),
        ("diode too hot", "diode temperature out of range"),
        ("too hot inside", "internal temperature out of range"),
        ("no diode supply", "no electrical power to the diode"),
        ("over current", "diode over current"),
        ("no emission", "no emission at the set power"),
        ("fatal", "fatal system failure"),
        ("over power", "output power above its limit"),
    ],
)
def test_a_laser_with_a_fault_is_refused_by_name_until_it_is_repaired(peer: ObisPeer, fault: str, words: str) -> None:
    peer.fault(fault)
    with pytest.raises(LightSourceFaultError) as refused:  # kept, and with it all that its traceback holds
        CoherentObis(peer.url)
    assert words in str(refused.value)
    peer.repair()
    with driving(peer) as laser:  # the port was let go of
        laser.on()
        peer.fault(fault)
        assert (laser.is_on(), laser.status()["state"], laser.status()["fault"]) == (False, "off", words)
        with pytest.raises(LightSourceFaultError, match=words):
            laser.on()


def test_faults_are_all_named_and_unknown_ones_by_their_bit() -> None:
    assert fault_names(0, 0) == []
    assert fault_names(1 << 26, 0b11) == [
        "interlock open",
        "base plate temperature out of range",
        "diode temperature out of range",
    ]
    assert fault_names(1, 1 << 30) == ["unknown fault 40000000"]
    assert fault_names(1, 0) == ["a fault that it does not name"]


@given(st.integers(0, 2**32 - 1))
def test_no_fault_goes_unnamed(faults: int) -> None:
    assert len(fault_names(0, faults)) == faults.bit_count()


# Power


@given(st.floats(0.0, 10_000.0))
def test_a_power_in_watts_is_the_power_in_milliwatts_to_a_microwatt(power_mw: float) -> None:
    assert math.isclose(1000 * float(watts(power_mw)), power_mw, abs_tol=0.0005 + 1e-12)


@pytest.mark.parametrize("power_mw", [1.0, 2.345, 110.0])
def test_the_power_is_set_in_watts_and_read_back(peer: ObisPeer, power_mw: float) -> None:
    with driving(peer, power_mw=power_mw) as laser:
        assert math.isclose(peer.power_w, power_mw / 1000)
        assert math.isclose(laser.info.power_mw or 0.0, power_mw)
        assert laser.status()["power_mw"] == 0.0
        laser.on()
        assert math.isclose(float(laser.status()["power_mw"]), power_mw, abs_tol=0.01)


def test_without_a_power_it_stays_as_the_laser_has_it(peer: ObisPeer) -> None:
    with driving(peer) as laser:
        assert (laser.info.power_mw, peer.power_w) == (20.0, 0.02)


@pytest.mark.parametrize("power_mw", [0.5, 110.1, -1.0, math.inf, math.nan])
def test_a_power_it_cannot_give_is_refused_and_never_sent(peer: ObisPeer, power_mw: float) -> None:
    with pytest.raises(PowerRefusedError, match="gives 1 to 110 mW, not"):
        CoherentObis(peer.url, power_mw=power_mw)
    assert not [command for command in peer.commands if command.startswith(f"{SET_POWER} ")]


def test_a_power_that_reads_back_otherwise_is_an_error(peer: ObisPeer, interfere: Interfere) -> None:
    interfere(peer, f"{SET_POWER}?", nth=2, reply=b"0.04000\r\nOK\r\n")  # the first one asks what to leave behind
    with pytest.raises(DeviceStateError, match="set to 50 mW and says 40 mW"):
        CoherentObis(peer.url, power_mw=50.0)


def test_its_power_is_what_it_was_once_it_is_closed(peer: ObisPeer) -> None:
    with driving(peer, power_mw=2.0) as laser:
        assert laser.info.power_mw == 2.0
    with driving(peer) as laser:
        assert laser.info.power_mw == 20.0


# Light


def test_it_is_waited_for_while_the_delay_before_emission_goes_on(bench: OpticalBench) -> None:
    with ObisPeer(bench, cdrh_delay_s=0.1) as peer, driving(peer) as laser:
        laser.on()
        assert lit(bench)
        assert peer.commands.count(STATUS) > 2
        assert laser.status()["state"] == "on"


def test_light_that_does_not_come_in_time_is_an_error_and_the_laser_is_off_again(bench: OpticalBench) -> None:
    with ObisPeer(bench, cdrh_delay_s=0.5) as peer, driving(peer, emission_timeout_s=0.1) as laser:
        with pytest.raises(LightSourceTimeoutError, match=r"does not emit after 0\.1 s \(its CDRH delay goes on;"):
            laser.on()
        assert laser.status()["state"] == "off"
        assert peer.commands.index(ON) < len(peer.commands) - 1 - peer.commands[::-1].index(OFF)


def test_a_fault_while_the_light_is_waited_for_is_an_error(interfere: Interfere) -> None:
    with ObisPeer(cdrh_delay_s=60.0) as peer, driving(peer) as laser:
        interfere(peer, STATE, lambda: peer.fault("over current"), nth=2)
        with pytest.raises(LightSourceFaultError, match="diode over current"):
            laser.on()
        assert laser.status()["state"] == "off"


def test_a_laser_that_is_turned_off_at_its_panel_meanwhile_is_an_error(interfere: Interfere) -> None:
    with ObisPeer(cdrh_delay_s=60.0) as peer, driving(peer) as laser:
        interfere(peer, STATE, peer.press_off, nth=3)
        with pytest.raises(DeviceStateError, match="was turned off while it was waited for"):
            laser.on()


@pytest.mark.parametrize("switch", ["off", "close"])
def test_another_thread_can_turn_it_off_while_the_light_is_waited_for(bench: OpticalBench, switch: str) -> None:
    with ObisPeer(bench, cdrh_delay_s=60.0) as peer, driving(peer, emission_timeout_s=60.0) as laser:
        errors: list[BaseException] = []

        def turn_on() -> None:
            try:
                laser.on()
            except DeviceError as error:
                errors.append(error)

        thread = threading.Thread(target=turn_on)
        thread.start()
        wait_for(lambda: peer.commands.count(STATUS) > 4)
        getattr(laser, switch)()
        thread.join(10.0)
        assert [type(error) for error in errors] == [DeviceStateError]
        assert not lit(bench)
        assert peer.answer(STATE) == b"OFF\r\nOK\r\n"


def test_a_laser_that_ignores_being_turned_off_is_an_error(peer: ObisPeer) -> None:
    with driving(peer) as laser:
        laser.on()
        peer.ignores_off = True
        with pytest.raises(DeviceStateError, match="turned off and says it is on; turn it off with its key"):
            laser.off()


def test_a_laser_that_goes_on_emitting_is_an_error(peer: ObisPeer) -> None:
    with driving(peer, timeout_s=0.25) as laser:
        laser.on()
        peer.keeps_emitting = True
        with pytest.raises(LightSourceTimeoutError, match=r"still emits after 0\.25 s"):
            laser.off()


def test_a_laser_that_says_it_is_off_after_being_turned_on_is_an_error(peer: ObisPeer, interfere: Interfere) -> None:
    with driving(peer) as laser:
        interfere(peer, STATE, reply=b"OFF\r\nOK\r\n")
        with pytest.raises(DeviceStateError, match="turned on and says it is off; check its key"):
            laser.on()
        assert not peer.emission


# Replies


@pytest.mark.parametrize(
    ("code", "meaning"),
    [
        (-100, "unrecognized command"),
        (-109, "parameter missing"),
        (-200, "cannot be executed now"),
        (-220, "invalid parameter"),
        (-221, "settings conflict"),
        (-310, "system error"),
        (900, "time-out of the Coherent connection bus"),
        (7, "not in its manual"),
    ],
)
def test_a_refused_command_names_the_error_and_leaves_the_light_off(peer: ObisPeer, code: int, meaning: str) -> None:
    with driving(peer) as laser:
        peer.refuses[ON] = code
        with pytest.raises(LightSourceFaultError, match=f"'{ON}' with error {code}: .*{meaning}"):
            laser.on()
        assert not peer.emission


@pytest.mark.parametrize(
    ("command", "reply", "expected"),
    [
        (ON, b"ON\r\nOK\r\n", "OK and nothing else"),
        (STATE, b"MAYBE\r\nOK\r\n", "ON or OFF"),
        (STATE, b"OK\r\n", "one line and OK"),
        (STATUS, b"C80010021\r\nOK\r\n", "hexadecimal"),
        (FAULT, b"none\r\nOK\r\n", "hexadecimal"),
        ("SOURce:TEMPerature:BASeplate?", b"warm\r\nOK\r\n", "a number"),
    ],
)
def test_a_reply_that_makes_no_sense_is_an_error_and_the_light_is_off(
    peer: ObisPeer, interfere: Interfere, command: str, reply: bytes, expected: str
) -> None:
    with driving(peer, timeout_s=0.25) as laser:
        interfere(peer, command, reply=reply)
        with pytest.raises(DeviceReplyError, match=expected):
            laser.on()
            laser.status()
        laser.off()
        assert not peer.emission
        laser.on()
        assert laser.is_on()


def test_after_a_reply_that_made_no_sense_what_still_comes_is_thrown_away(peer: ObisPeer, interfere: Interfere) -> None:
    with driving(peer, timeout_s=0.25) as laser:
        peer.segments(1)
        interfere(peer, ON, reply=50 * b"ON\r\nOK\r\n")
        with pytest.raises(DeviceReplyError) as failed:
            laser.on()
        assert noted(failed.value) == ""
        assert not peer.emission


def test_a_garbled_reply_is_an_error_and_the_light_is_off(peer: ObisPeer) -> None:
    with driving(peer, timeout_s=0.25) as laser:
        peer.garble()
        with pytest.raises(DeviceReplyError, match="not ASCII"):
            laser.on()
        assert not peer.emission


def test_a_late_status_is_not_taken_for_the_fault_register(peer: ObisPeer) -> None:
    with driving(peer, timeout_s=0.25) as laser:
        laser.on()
        peer.slow(0.4)
        with pytest.raises(DeviceSilentError):
            laser.is_on()
        peer.slow(0.0)
        assert laser.status()["fault"] == "none"


@pytest.mark.parametrize("n_bytes", [1, 3, None])
def test_replies_in_pieces_and_bytes_nobody_asked_for_change_nothing(peer: ObisPeer, n_bytes: int | None) -> None:
    with driving(peer) as laser:
        peer.segments(n_bytes)
        for switch in (laser.on, laser.off):
            if n_bytes is None:
                peer.add_after_reply(b"ON\r\nOK\r\nERR-310\r\n")
            switch()
            assert laser.is_on() is peer.emission is (switch == laser.on)


def test_a_laser_that_falls_silent_while_it_is_turned_on_is_told_to_be_off_as_soon_as_it_hears(peer: ObisPeer) -> None:
    with driving(peer, timeout_s=0.25) as laser:
        peer.silent_after(2)  # the two registers are answered, the command is not
        with pytest.raises(DeviceSilentError, match=f"did not answer '{ON}' within 0.25 s") as failed:
            laser.on()
        assert f"could not be turned off: OBIS laser on serial port {peer.url} did not answer '{OFF}'" in noted(
            failed.value
        )
        assert peer.commands[-3:] == [ON, OFF, OFF]  # at once, and again when it had been quiet


# Closing


def test_closing_a_silent_laser_lets_go_of_the_port_and_says_so_and_can_be_done_again(
    peer: ObisPeer, bench: OpticalBench
) -> None:
    laser = CoherentObis(peer.url, timeout_s=0.25)
    laser.on()
    peer.silent_after(0)
    for _ in range(2):
        with pytest.raises(DeviceSilentError, match=OFF):
            laser.close()
    assert lit(bench)
    peer.wake()
    with driving(peer):  # the port is free
        pass
    laser.off()  # the same as closing again
    assert not lit(bench)
    n_commands = len(peer.commands)
    laser.close()
    laser.off()
    assert len(peer.commands) == n_commands
    with pytest.raises(DeviceStateError, match="was closed"):
        laser.is_on()


def test_closing_again_turns_off_a_laser_that_could_not_be_turned_off(peer: ObisPeer, bench: OpticalBench) -> None:
    laser = CoherentObis(peer.url)
    laser.on()
    peer.refuses[OFF] = -310
    with pytest.raises(LightSourceFaultError, match="system error"):
        laser.close()
    assert lit(bench)
    peer.refuses.clear()
    laser.close()
    assert not lit(bench)


def test_closing_a_laser_whose_cable_is_cut_is_an_error_every_time(peer: ObisPeer) -> None:
    laser = CoherentObis(peer.url)
    laser.on()
    port = peer.url
    peer.stop()
    with pytest.raises(DeviceNotFoundError, match=r"vanished.*look after the light"):
        laser.close()
    with pytest.raises(DeviceNotFoundError, match=f"no OBIS laser on serial port {port}"):
        laser.close()
