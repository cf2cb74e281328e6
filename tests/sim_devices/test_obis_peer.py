"""The simulated OBIS laser speaks the host interface of its manual."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim_devices.obis_peer import FAULT_BITS, ObisPeer
from tests.devices.benches import Clock, a_bench

ON, OFF = "SOUR:AM:STAT ON", "SOUR:AM:STAT OFF"


def said(peer: ObisPeer, command: str) -> str:
    """The lines of an answer, joined by a bar."""
    reply = peer.answer(command).decode("ascii")
    assert not reply or reply.endswith("\r\n")
    return reply[:-2].replace("\r\n", "|")


def status(peer: ObisPeer) -> int:
    return int(said(peer, "SYST:STAT?").partition("|")[0], 16)


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        ("*IDN?", "Coherent, Inc - OBIS Simulated 488LS - V2.0 - Jan 01 2020|OK"),
        ("SYSTem:INFormation:MODel?", "OBIS 488-100 LS|OK"),
        ("SYSTem:INFormation:SNUMber?", "VS12345|OK"),
        ("SYSTem:INFormation:WAVelength?", "488|OK"),
        ("SYSTem:FAULt?", "00000000|OK"),
        ("SYSTem:LOCK?", "ON|OK"),
        ("SYSTem:CDRH?", "OFF|OK"),
        ("SYSTem:AUTostart?", "OFF|OK"),
        ("SOURce:POWer:LIMit:LOW?", "0.00100|OK"),
        ("SOURce:POWer:LIMit:HIGH?", "0.11000|OK"),
        ("SOURce:POWer:NOMinal?", "0.10000|OK"),
        ("SOURce:POWer:LEVel?", "0.00000|OK"),
        ("SOURce:POWer:LEVel:IMMediate:AMPLitude?", "0.020000|OK"),
        ("SOURce:TEMPerature:BASeplate?", "27.5C|OK"),
        ("SOURce:AM:STATe?", "OFF|OK"),
        ("SOURce:AM:EXTernal MIXed", "OK"),
        ("LASER ON", "ERR-100"),
        ("SOURce:AM:STATS?", "ERR-100"),
        ("SOURce:AM:STATe", "ERR-109"),
        ("SOURce:AM:STATe MAYBE", "ERR-220"),
        ("SOURce:AM:INTernal DIGital", "ERR-220"),
        ("SOURce:POWer:LEVel:IMMediate:AMPLitude 0.2", "ERR-220"),
        ("SOURce:POWer:LEVel:IMMediate:AMPLitude much", "ERR-220"),
    ],
)
def test_it_answers_what_the_manual_says(command: str, reply: str) -> None:
    assert said(ObisPeer(handshaking=True), command) == reply


def test_headers_may_be_long_or_short_in_any_case() -> None:
    peer = ObisPeer(handshaking=True)
    parts = [("SYSTEM", "SYST"), ("INFORMATION", "INF"), ("SNUMBER", "SNUM")]

    @given(st.tuples(*(st.sampled_from(part) for part in parts)), st.lists(st.booleans(), min_size=26, max_size=26))
    def understood(header: tuple[str, ...], capital: list[bool]) -> None:
        letters = zip(":".join(header), capital, strict=False)
        command = "".join(letter if large else letter.lower() for letter, large in letters)
        assert said(peer, f"{command}?") == "VS12345|OK"

    understood()
    assert said(peer, "SYSTE:INF:SNUM?") == "ERR-100"


def test_without_handshaking_only_queries_are_answered() -> None:
    peer = ObisPeer(handshaking=False)
    assert [said(peer, command) for command in ("SYST:COMM:HAND?", ON, "NONSENSE", "SOUR:AM:STAT?")] == [
        "OFF",
        "",
        "",
        "ON",
    ]
    assert said(peer, "SYST:COMM:HAND ON") == "OK"
    assert said(peer, "NONSENSE") == "ERR-100"


def test_it_switches_the_light_of_the_bench() -> None:
    bench = a_bench(light_on=True)
    peer = ObisPeer(bench)
    states = [bench.light_on]
    for command in (ON, ON, OFF, ON):
        peer.answer(command)
        states.append(bench.light_on)
    assert states == [False, True, True, False, True]
    assert a_bench().light_on
    ObisPeer(lit := a_bench(), asked_for_light=True)
    assert lit.light_on


def test_emission_comes_after_the_delay_and_not_when_it_was_turned_off_meanwhile() -> None:
    clock, bench = Clock(), a_bench()
    peer = ObisPeer(bench, handshaking=True, cdrh_delay_s=5.0, clock=clock)
    peer.answer("SOUR:AM:INT CWP")
    seen = []
    for now, command in ((0.0, ON), (4.9, ON), (5.0, "*IDN?"), (6.0, OFF), (7.0, ON), (8.0, OFF), (99.0, "*IDN?")):
        clock.now = now
        peer.tick()
        peer.answer(command)
        seen.append((said(peer, "SOUR:AM:STAT?"), peer.emission, bench.light_on, f"{status(peer) & 0x1F:02x}"))
    waiting, emitting, off = ("ON|OK", False, False, "10"), ("ON|OK", True, True, "02"), ("OFF|OK", False, False, "08")
    assert seen == [waiting, waiting, emitting, off, waiting, off, off]
    peer.answer("SYST:CDRH OFF")
    peer.answer(ON)
    assert peer.emission


def test_the_status_of_a_laser_behind_a_remote_is_what_users_have_seen() -> None:
    peer = ObisPeer()
    peer.answer("SOUR:AM:INT CWP")
    peer.answer(ON)
    assert f"{status(peer):08X}" == "C8001002"
    peer.fault("interlock")
    assert f"{status(peer):08X}" == "CC000008"
    peer.answer("SOUR:AM:EXT DIG")
    peer.repair()
    peer.answer(ON)
    assert f"{status(peer):08X}" == "C8001402"


@pytest.mark.parametrize("name", [*FAULT_BITS, "interlock"])
def test_a_fault_ends_emission_shows_in_the_registers_and_stays_until_it_is_repaired(name: str) -> None:
    bench = a_bench()
    peer = ObisPeer(bench, handshaking=True)
    peer.answer(ON)
    peer.fault(name)
    assert (bench.light_on, said(peer, "SOUR:AM:STAT?")) == (False, "OFF|OK")
    assert said(peer, "SYST:FAUL?") == f"{FAULT_BITS.get(name, 0):08X}|OK"
    assert bool(status(peer) & 0x04000000) is (name == "interlock")
    assert said(peer, ON) == "ERR-200"
    peer.repair()
    assert (said(peer, ON), bench.light_on) == ("OK", True)


def test_the_mode_cannot_be_changed_while_it_is_on() -> None:
    peer = ObisPeer(handshaking=True)
    peer.answer(ON)
    assert said(peer, "SOUR:AM:INT CWP") == "ERR-221"
    peer.answer(OFF)
    assert (said(peer, "SOUR:AM:INT CWP"), said(peer, "SOUR:AM:SOUR?")) == ("OK", "CWP|OK")


def test_the_power_is_in_watts_and_measured_only_while_it_emits() -> None:
    peer = ObisPeer(handshaking=True)
    assert said(peer, "SOUR:POW:LEV:IMM:AMPL 0.05") == "OK"
    measured = [said(peer, "SOUR:POW:LEV?")]
    peer.answer(ON)
    measured.append(said(peer, "SOUR:POW:LEV?"))
    peer.press_off()
    measured.append(said(peer, "SOUR:POW:LEV?"))
    assert measured == ["0.00000|OK", "0.05000|OK", "0.00000|OK"]


def test_a_test_can_make_it_refuse_or_ignore() -> None:
    bench = a_bench()
    peer = ObisPeer(bench, handshaking=True)
    peer.refuses[ON] = -310
    assert said(peer, ON) == "ERR-310"
    peer.refuses.clear()
    peer.answer(ON)
    peer.keeps_emitting = True
    assert (said(peer, OFF), said(peer, "SOUR:AM:STAT?"), bench.light_on) == ("OK", "OFF|OK", True)
    peer.ignores_off = True
    peer.answer(ON)
    assert (said(peer, OFF), said(peer, "SOUR:AM:STAT?")) == ("OK", "ON|OK")
