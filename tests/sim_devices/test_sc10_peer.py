"""The simulated SC10 shutter controller speaks its manual's table of keywords."""

from __future__ import annotations

import pytest

from sim_devices.sc10_peer import Sc10Peer
from tests.devices.benches import Clock, a_bench


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        ("id?", "id?\rTHORLABS SC10 VERSION 1.07\r> "),
        ("ens?", "ens?\r0\r> "),
        ("ens", "ens\r> "),
        ("closed?", "closed?\r1\r> "),
        ("interlock?", "interlock?\r0\r> "),
        ("mode?", "mode?\r1\r> "),
        ("mode=5", "mode=5\r> "),
        ("rep=99", "rep=99\r> "),
        ("open=999999", "open=999999\r> "),
        ("mode=6", "mode=6\rCommand error CMD_ARG_INVALID\r> "),
        ("mode=", "mode=\rCommand error CMD_ARG_INVALID\r> "),
        ("trig=2", "trig=2\rCommand error CMD_ARG_INVALID\r> "),
        ("open=1000000", "open=1000000\rCommand error CMD_ARG_INVALID\r> "),
        ("rep=many", "rep=many\rCommand error CMD_ARG_INVALID\r> "),
        ("", "\rCommand error CMD_NOT_DEFINED\r> "),
        ("ENS?", "ENS?\rCommand error CMD_NOT_DEFINED\r> "),
        ("ens=1", "ens=1\rCommand error CMD_NOT_DEFINED\r> "),
        ("mode", "mode\rCommand error CMD_NOT_DEFINED\r> "),
    ],
)
def test_it_echoes_answers_and_prompts(command: str, reply: str) -> None:
    assert Sc10Peer().answer(command) == reply.encode("ascii")


def test_settings_are_kept_and_told() -> None:
    peer = Sc10Peer()
    for name, value in (("mode", 4), ("trig", 1), ("xto", 1), ("rep", 7), ("open", 120), ("shut", 30)):
        peer.answer(f"{name}={value}")
        assert peer.answer(f"{name}?") == f"{name}?\r{value}\r> ".encode()


def test_every_keyword_it_lists_exists() -> None:
    peer = Sc10Peer()
    listed = peer.answer("?").decode("ascii").split("\r")[1:-1]
    assert len(listed) == 18
    replies = [peer.answer(keyword.replace("=n", "=1")) for keyword in listed]
    assert not [reply for reply in replies if b"error" in reply]


def test_enabling_toggles_and_moves_the_light_of_the_bench() -> None:
    bench = a_bench(light_on=True)
    peer = Sc10Peer(bench)
    states = [bench.light_on]
    for switch in (lambda: peer.answer("ens"), lambda: peer.answer("ens"), peer.press_enable):
        switch()
        states.append(bench.light_on)
    assert states == [False, True, False, True]


def test_the_blade_takes_its_time_both_ways() -> None:
    clock, bench = Clock(), a_bench()
    peer = Sc10Peer(bench, travel_s=1.0, clock=clock)
    seen = []
    for now, command in ((0.0, "ens"), (0.9, "id?"), (1.0, "id?"), (2.0, "ens"), (2.9, "id?"), (3.0, "id?")):
        clock.now = now
        peer.tick()
        peer.answer(command)
        seen.append((peer.answer("closed?")[8:9], peer.is_open, bench.light_on))
    shut, opened = (b"1", False, False), (b"0", True, True)
    assert seen == [shut, shut, opened, opened, opened, shut]


def test_a_tripped_interlock_closes_the_shutter_and_keeps_it_closed() -> None:
    bench = a_bench()
    peer = Sc10Peer(bench, enabled=True)
    peer.fault("interlock")
    states = [bench.light_on]
    assert peer.answer("interlock?") == b"interlock?\r1\r> "
    assert peer.answer("ens") == b"ens\r> "
    states.append(bench.light_on)
    peer.repair()
    peer.answer("ens")
    assert [*states, bench.light_on] == [False, False, True]
    with pytest.raises(ValueError, match="no fault 'over current'"):
        peer.fault("over current")


def test_a_test_can_make_it_jam_ignore_and_echo_wrongly() -> None:
    bench = a_bench()
    peer = Sc10Peer(bench)
    peer.ignores_enable = True
    peer.answer("ens")
    assert peer.answer("ens?") == b"ens?\r0\r> "
    peer.ignores_enable, peer.jammed = False, True
    peer.answer("ens")
    assert (peer.answer("ens?"), bench.light_on) == (b"ens?\r1\r> ", False)
    peer.wrong_echo()
    assert peer.answer("ens?") != peer.answer("ens?")
