"""The SC10 shutter controller's driver on a controller at the wire: above all, that what toggles is asked first."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.errors import (
    DeviceError,
    DeviceNotFoundError,
    DeviceReplyError,
    DeviceSilentError,
    DeviceStateError,
    LightSourceFaultError,
    LightSourceTimeoutError,
)
from devices.thorlabs_sc10 import ThorlabsSc10
from sim_devices.bench import OpticalBench
from sim_devices.sc10_peer import Sc10Peer
from tests.devices.benches import a_bench
from tests.devices.serial_ports import wait_for

Interfere = Callable[..., None]


@pytest.fixture
def bench() -> OpticalBench:
    return a_bench()


@pytest.fixture
def peer(bench: OpticalBench) -> Iterator[Sc10Peer]:
    with Sc10Peer(bench) as controller:
        yield controller


def lit(bench: OpticalBench) -> bool:
    return bench.light_on


@contextmanager
def driving(peer: Sc10Peer, **options: Any) -> Iterator[ThorlabsSc10]:
    """Our driver on the controller; closed at the end, unless the test has seen to that."""
    shutter = ThorlabsSc10(peer.url, **options)
    try:
        yield shutter
    finally:
        peer.wake()
        peer.jammed = peer.ignores_enable = False
        shutter.close()


def toggles_were_asked_for(peer: Sc10Peer) -> bool:
    """Whether every toggle stands between two questions, the answer to the first being the other state."""
    # Another thread may look at the blade or the interlock in between.
    record = [said for said in peer.record if said[0] not in ("closed?", "interlock?")]
    places = [place for place, (command, _) in enumerate(record) if command == "ens"]
    return all(
        record[place - 1][0] == record[place + 1][0] == "ens?" and record[place - 1][1] != record[place + 1][1]
        for place in places
    )


# Connecting


@pytest.mark.parametrize("enabled", [True, False])
def test_it_closes_the_shutter_and_sets_manual_mode(bench: OpticalBench, enabled: bool) -> None:
    with Sc10Peer(bench, enabled=enabled, mode=4) as peer, driving(peer, power_mw=1.5) as shutter:
        assert not lit(bench)
        assert shutter.status() == {"state": "closed", "enabled": "no", "mode": "manual", "interlock": "closed"}
        assert (shutter.info.name, shutter.info.firmware, shutter.info.power_mw) == ("THORLABS SC10", "1.07", 1.5)
        assert toggles_were_asked_for(peer)


def test_half_a_command_that_somebody_left_there_does_no_harm(peer: Sc10Peer) -> None:
    with driving(peer):
        pass
    peer.receive(b"en", lambda _: None, threading.Event())
    with driving(peer) as shutter:
        shutter.on()
        assert peer.is_open


def test_another_device_is_not_told_to_do_anything() -> None:
    with Sc10Peer(identity="THORLABS TC200 VERSION 2.0") as peer:
        with pytest.raises(
            DeviceNotFoundError, match=r"'THORLABS TC200 VERSION 2\.0', which is no SC10; check the port"
        ):
            ThorlabsSc10(peer.url)
        assert peer.commands == ["", "id?"]


def test_a_mode_that_reads_back_otherwise_is_an_error(peer: Sc10Peer, interfere: Interfere) -> None:
    interfere(peer, "mode?", reply=b"mode?\r5\r> ")
    with pytest.raises(DeviceStateError, match=r"set to manual mode and says mode 5 \(external gate\)"):
        ThorlabsSc10(peer.url)


# Light


def test_the_blade_follows_whatever_came_before(bench: OpticalBench) -> None:
    with Sc10Peer(bench) as peer, driving(peer) as shutter:

        @settings(max_examples=40, deadline=None)
        @given(st.lists(st.sampled_from(["on", "off", "panel"]), max_size=12))
        def follows(steps: list[str]) -> None:
            for step in steps:
                if step == "panel":
                    peer.press_enable()
                else:
                    getattr(shutter, step)()
                    assert (bench.light_on, shutter.is_on()) == (step == "on", step == "on")
            assert toggles_were_asked_for(peer)

        follows()


def test_it_waits_until_the_blade_says_open_and_until_it_says_closed(bench: OpticalBench) -> None:
    with Sc10Peer(bench, travel_s=0.05) as peer, driving(peer) as shutter:
        shutter.on()
        assert lit(bench)
        shutter.off()
        assert not lit(bench)
        assert peer.commands.count("closed?") > 3


def test_a_blade_that_stays_closed_is_an_error_and_is_not_left_enabled(peer: Sc10Peer) -> None:
    with driving(peer, blade_timeout_s=0.1) as shutter:
        peer.jammed = True
        with pytest.raises(LightSourceTimeoutError, match=r"blade is still closed after 0\.1 s"):
            shutter.on()
        peer.jammed = False
        assert (shutter.status()["enabled"], peer.is_open) == ("no", False)


def test_a_blade_that_stays_open_is_an_error(peer: Sc10Peer) -> None:
    with driving(peer, blade_timeout_s=0.1) as shutter:
        shutter.on()
        peer.jammed = True
        with pytest.raises(LightSourceTimeoutError, match=r"blade is still open after 0\.1 s; block the light by hand"):
            shutter.off()


def test_a_tripped_interlock_is_an_error_and_nothing_is_toggled(peer: Sc10Peer) -> None:
    with driving(peer) as shutter:
        peer.fault("interlock")
        with pytest.raises(LightSourceFaultError, match=r"interlock of the SC10 .* is tripped"):
            shutter.on()
        assert "ens" not in peer.commands
        assert shutter.status()["interlock"] == "tripped"
        shutter.off()
        peer.repair()
        shutter.on()
        assert peer.is_open


@pytest.mark.parametrize("command", ["ens", "closed?"])
def test_an_interlock_that_trips_while_it_opens_is_an_error(command: str, interfere: Interfere) -> None:
    with Sc10Peer(travel_s=60.0) as peer, driving(peer, blade_timeout_s=0.1) as shutter:
        interfere(peer, command, lambda: peer.fault("interlock"), nth=peer.commands.count(command) or 1)
        with pytest.raises(LightSourceFaultError, match="is tripped"):
            shutter.on()
        assert shutter.status()["enabled"] == "no"


def test_a_shutter_that_is_not_enabled_by_asking_is_an_error(peer: Sc10Peer) -> None:
    with driving(peer) as shutter:
        peer.ignores_enable = True
        with pytest.raises(DeviceStateError, match="asked to be open and says it is not"):
            shutter.on()
        peer.press_enable()
        with pytest.raises(DeviceStateError, match="asked to be closed and says it is not"):
            shutter.off()


def test_another_thread_can_close_it_while_the_blade_is_waited_for(bench: OpticalBench) -> None:
    with Sc10Peer(bench, travel_s=60.0) as peer, driving(peer, blade_timeout_s=30.0) as shutter:
        errors: list[BaseException] = []

        def turn_on() -> None:
            try:
                shutter.on()
            except DeviceError as error:
                errors.append(error)

        thread = threading.Thread(target=turn_on)
        thread.start()
        wait_for(lambda: peer.commands.count("ens") == 1 and peer.commands[-1] == "closed?")
        shutter.off()
        thread.join(10.0)
        assert [str(error).partition(" was ")[2] for error in errors] == ["closed while it was opening"]
        assert shutter.status()["enabled"] == "no"
        assert toggles_were_asked_for(peer)


# Replies


@pytest.mark.parametrize(
    ("command", "error", "meaning"),
    [
        ("mode=1", "CMD_ARG_INVALID", "the argument is wrong"),
        ("id?", "CMD_NOT_DEFINED", "it knows no such command"),
        ("ens?", "SOMETHING_ELSE", "not in its manual"),
    ],
)
def test_a_refused_command_names_the_error(
    peer: Sc10Peer, interfere: Interfere, command: str, error: str, meaning: str
) -> None:
    interfere(peer, command, reply=f"{command}\rCommand error {error}\r> ".encode())
    with pytest.raises(
        LightSourceFaultError, match=f"refused '{command}' with {error}: .*{meaning}".replace("?", r"\?")
    ):
        ThorlabsSc10(peer.url)


def test_a_wrong_echo_is_an_error_and_the_next_try_knows_what_the_shutter_did(peer: Sc10Peer) -> None:
    with driving(peer, timeout_s=0.25) as shutter:
        for _ in range(2):
            peer.wrong_echo()
            with pytest.raises(DeviceReplyError, match="its echo"):
                shutter.on()
            assert not peer.is_open
        shutter.on()
        assert peer.is_open
        peer.wrong_echo()
        with pytest.raises(DeviceReplyError):
            shutter.off()
        shutter.off()
        assert not peer.is_open


def test_after_a_reply_that_made_no_sense_what_still_comes_is_thrown_away(peer: Sc10Peer, interfere: Interfere) -> None:
    with driving(peer, timeout_s=0.25) as shutter:
        peer.segments(1)
        interfere(peer, "ens", reply=50 * b"ens?\r0\r> ")
        with pytest.raises(DeviceReplyError) as failed:
            shutter.on()
        assert not hasattr(failed.value, "__notes__")
        assert not peer.is_open


def test_a_toggle_whose_answer_is_lost_is_not_sent_again_blindly(peer: Sc10Peer, interfere: Interfere) -> None:
    with driving(peer, timeout_s=0.25) as shutter:
        interfere(peer, "ens", lambda: peer.press_enable(), reply=b"")
        with pytest.raises(DeviceSilentError, match="did not answer 'ens' within"):
            shutter.on()
        assert peer.commands.count("ens") == 2  # opened, answer lost, found open, closed
        assert not peer.is_open


@pytest.mark.parametrize(
    ("command", "reply", "expected"),
    [
        ("ens?", b"ens?\r2\r> ", "0 or 1"),
        ("closed?", b"closed?\r> ", "its echo, one line and the prompt"),
        ("mode=1", b"mode=1\r1\r> ", "its echo and the prompt"),
        ("id?", b"\xe9d?\rTHORLABS SC10\r> ", "not ASCII"),
    ],
)
def test_a_reply_that_makes_no_sense_is_an_error(
    peer: Sc10Peer, interfere: Interfere, command: str, reply: bytes, expected: str
) -> None:
    interfere(peer, command, reply=reply)
    with pytest.raises(DeviceReplyError, match=expected):
        ThorlabsSc10(peer.url, timeout_s=0.25)


@pytest.mark.parametrize("n_bytes", [1, 3, None])
def test_replies_in_pieces_and_prompts_nobody_asked_for_change_nothing(peer: Sc10Peer, n_bytes: int | None) -> None:
    with driving(peer) as shutter:
        peer.segments(n_bytes)
        for switch in (shutter.on, shutter.off):
            if n_bytes is None:
                peer.add_after_reply(b"closed?\r1\r> ")
            switch()
            assert shutter.is_on() is peer.is_open is (switch == shutter.on)


# Closing


def test_closing_a_silent_controller_lets_go_of_the_port_and_says_so_and_can_be_done_again(
    peer: Sc10Peer, bench: OpticalBench
) -> None:
    shutter = ThorlabsSc10(peer.url, timeout_s=0.25)
    shutter.on()
    peer.silent_after(0)
    for _ in range(2):
        with pytest.raises(DeviceSilentError, match=r"'ens\?'"):
            shutter.close()
    assert lit(bench)
    peer.wake()
    shutter.close()
    assert not lit(bench)
    n_commands = len(peer.commands)
    shutter.close()
    shutter.off()
    assert len(peer.commands) == n_commands


def test_closing_a_controller_whose_cable_is_cut_is_an_error(peer: Sc10Peer) -> None:
    shutter = ThorlabsSc10(peer.url)
    shutter.on()
    peer.stop()
    with pytest.raises(DeviceNotFoundError, match=r"vanished.*look after the light"):
        shutter.close()
