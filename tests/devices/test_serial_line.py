"""A conversation over a serial port: the right reply, in time, or an error that says what did not come."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.errors import DeviceNotFoundError, DeviceReplyError, DeviceSilentError, DeviceStateError
from devices.serial_line import SerialLine
from sim_devices.serial_peer import SerialPeer, pseudo_terminal
from tests.devices.serial_ports import posix_only, wait_for

WORDS = st.text("abcdefghijklmnopqrstuvwxyz 0123456789:?=", min_size=1, max_size=30)


class Parrot(SerialPeer):
    """Says back what it hears, in angle brackets; what it does not repeat it hears all the same."""

    def __init__(self) -> None:
        super().__init__(b"\n")

    def answer(self, command: str) -> bytes:
        return f"<{command}>".encode("ascii")


class Babbler(SerialPeer):
    """Never comes to the end of what it says."""

    def __init__(self) -> None:
        super().__init__(b"\n")

    def answer(self, command: str) -> bytes:
        return 20_000 * b"blah "


@pytest.fixture
def parrot() -> Iterator[Parrot]:
    with Parrot() as peer:
        yield peer


def line_to(port: str, timeout_s: float = 5.0) -> SerialLine:
    return SerialLine(
        port, device="parrot", baud=9600, command_end=b"\n", reply_end=re.compile(b">"), timeout_s=timeout_s
    )


def test_a_reply_arrives_whole_however_it_is_cut() -> None:
    with Parrot() as parrot:
        line = line_to(parrot.url)

        @settings(max_examples=40, deadline=None)
        @given(WORDS, st.integers(1, 8))
        def whole(command: str, n_bytes: int) -> None:
            parrot.segments(n_bytes)
            assert line.ask(command) == f"<{command}>"

        whole()
        line.close()


def test_bytes_nobody_asked_for_are_never_taken_for_a_reply() -> None:
    with Parrot() as parrot:
        line = line_to(parrot.url)

        @settings(max_examples=40, deadline=None)
        @given(st.lists(st.tuples(WORDS, st.binary(max_size=40)), max_size=5))
        def own_reply(asked: list[tuple[str, bytes]]) -> None:
            for command, stale in asked:
                parrot.add_after_reply(stale + b"<stale>")
                assert line.ask(command) == f"<{command}>"

        own_reply()
        line.close()


def test_a_silent_device_is_named_with_the_command_and_the_time(parrot: Parrot) -> None:
    line = line_to(parrot.url, 0.1)
    parrot.silent_after(1)
    line.ask("first")
    with pytest.raises(
        DeviceSilentError, match=r"parrot on serial port socket.* 'second' within 0\.1 s \(nothing came\)"
    ):
        line.ask("second")
    line.close()


def test_half_a_reply_is_shown() -> None:
    with Babbler() as babbler:
        line = line_to(babbler.url, 0.1)
        with pytest.raises(DeviceSilentError, match=r"'blah blah .*bytes\) came"):
            line.ask("well?")
        line.close()


def test_a_device_that_goes_on_talking_is_an_error() -> None:
    with Babbler() as babbler:
        babbler.segments(20)
        line = line_to(babbler.url, 0.05)
        with pytest.raises(DeviceSilentError):
            line.ask("well?")
        with pytest.raises(DeviceReplyError, match="goes on talking"):
            line.ask("stop")
        line.close()


def test_a_late_reply_is_not_taken_for_the_next_one(parrot: Parrot) -> None:
    line = line_to(parrot.url, 0.2)
    parrot.slow(0.3)
    with pytest.raises(DeviceSilentError):
        line.ask("first")
    parrot.slow(0.0)
    assert [line.ask("second"), line.ask("third")] == ["<second>", "<third>"]
    line.close()


def test_an_urgent_command_goes_out_at_once_and_again_when_it_is_quiet(parrot: Parrot) -> None:
    line = line_to(parrot.url, 0.2)
    parrot.silent_after(0)
    with pytest.raises(DeviceSilentError):
        line.ask("first")
    parrot.wake()
    assert line.ask("off", urgent=True) == "<off>"
    assert line.ask("off", urgent=True) == "<off>"
    assert parrot.commands == ["first", "off", "off", "off"]
    line.close()


def test_what_is_not_ascii_is_an_error_and_the_next_reply_is_right(parrot: Parrot) -> None:
    line = line_to(parrot.url, 0.2)
    parrot.garble()
    with pytest.raises(DeviceReplyError, match=r"'first' with .*not ASCII; check the baud rate"):
        line.ask("first")
    assert line.ask("second") == "<second>"
    line.close()


@pytest.mark.parametrize("port", ["no-such-port", "nonsense://here", "socket://127.0.0.1:1"])
def test_a_port_that_is_not_there_is_named_and_what_to_check(port: str) -> None:
    with pytest.raises(DeviceNotFoundError, match=f"no parrot on serial port {port}: .*check the port's name"):
        line_to(port)


def test_a_line_that_is_cut_is_an_error(parrot: Parrot) -> None:
    line = line_to(parrot.url)
    line.ask("first")
    parrot.stop()
    for _ in range(2):
        with pytest.raises(DeviceNotFoundError, match=r"vanished at 'second'.*look after the light"):
            line.ask("second")
    line.close()


def test_many_threads_get_each_its_own_reply(parrot: Parrot) -> None:
    line = line_to(parrot.url)
    with ThreadPoolExecutor(8) as threads:
        replies = list(threads.map(line.ask, map(str, range(200))))
    assert replies == [f"<{number}>" for number in range(200)]
    line.close()


def test_a_closed_line_says_so_and_can_be_opened_again(parrot: Parrot) -> None:
    line = line_to(parrot.url)
    line.close()
    line.close()
    with pytest.raises(DeviceStateError, match="was closed"):
        line.ask("first")
    line.open()
    line.open()
    assert line.ask("second") == "<second>"
    line.close()


@pytest.mark.parametrize("timeout_s", [0.0, -1.0])
def test_a_wait_of_no_time_is_refused(timeout_s: float) -> None:
    with pytest.raises(ValueError, match="above 0 s"):
        line_to("COM1", timeout_s)


@posix_only
def test_a_real_port_works_alike_and_is_held_by_one_program_at_a_time() -> None:
    with pseudo_terminal(parrot := Parrot()) as path:
        line = line_to(path)
        parrot.add_after_reply(b"<stale>")
        assert [line.ask("first"), line.ask("second")] == ["<first>", "<second>"]
        with pytest.raises(DeviceNotFoundError, match="no other program holds the port"):
            line_to(path)
        line.close()
        line_to(path).close()


@posix_only
def test_a_real_port_that_goes_is_an_error() -> None:
    with pseudo_terminal(Parrot()) as path:
        line = line_to(path)
    with pytest.raises(DeviceNotFoundError, match="vanished"):
        line.ask("first")
    line.close()


@posix_only
def test_a_device_that_takes_no_bytes_is_an_error() -> None:
    import os
    import pty
    import tty

    master, slave = pty.openpty()
    tty.setraw(slave)
    line = line_to(os.ttyname(slave), 0.1)
    with pytest.raises(DeviceSilentError, match=r"took no bytes of .* for 0\.1 s"):
        line.ask(100_000 * "x")
    line.close()
    os.close(slave)
    os.close(master)


def test_closing_waits_for_the_reply_another_thread_waits_for(parrot: Parrot) -> None:
    line = line_to(parrot.url)
    parrot.slow(0.1)
    replies: list[str] = []
    thread = threading.Thread(target=lambda: replies.append(line.ask("first")))
    thread.start()
    wait_for(lambda: bool(parrot.commands))
    line.close()
    thread.join()
    assert replies == ["<first>"]
