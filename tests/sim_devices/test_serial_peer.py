"""A peer at the end of a serial cable: bytes come, bytes go back, and nothing is left when it stops."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import closing

import psutil
import pytest

from sim_devices.serial_peer import SerialPeer, pseudo_terminal
from tests.devices.serial_ports import posix_only, wait_for


class Parrot(SerialPeer):
    """Says back what it hears, and counts what it did."""

    def __init__(self) -> None:
        super().__init__(b"\n")
        self.done = 0

    def answer(self, command: str) -> bytes:
        self.done += 1
        return f"{command}!\n".encode("ascii", errors="replace")


def connected_to(peer: SerialPeer) -> socket.socket:
    host, _, port = peer.url.removeprefix("socket://").partition(":")
    connection = socket.create_connection((host, int(port)), timeout=5.0)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def read_line(connection: socket.socket) -> bytes:
    came = b""
    while not came.endswith(b"\n"):
        came += connection.recv(1)
    return came


def ask(connection: socket.socket, data: bytes) -> bytes:
    connection.sendall(data)
    return read_line(connection)


def test_commands_may_come_in_pieces_or_together_and_are_on_record() -> None:
    with Parrot() as peer, connected_to(peer) as connection:
        for piece in (b"o", b"n", b"e\ntwo\nth"):
            connection.sendall(piece)
        assert [read_line(connection), read_line(connection)] == [b"one!\n", b"two!\n"]
        assert ask(connection, b"ree\n") == b"three!\n"
        assert peer.record == (("one", b"one!\n"), ("two", b"two!\n"), ("three", b"three!\n"))
        assert peer.commands == ["one", "two", "three"]


def test_one_connection_follows_another_and_half_a_command_is_forgotten() -> None:
    with Parrot() as peer:
        with connected_to(peer) as first:
            assert ask(first, b"one\nhal") == b"one!\n"
        with connected_to(peer) as second:
            assert ask(second, b"two\n") == b"two!\n"


def test_it_listens_once_and_stops_as_often_as_one_likes() -> None:
    peer = Parrot()
    peer.stop()
    with pytest.raises(RuntimeError, match="start it first"):
        _ = peer.url
    with peer, pytest.raises(RuntimeError, match="listens already"):
        peer.start()
    peer.stop()
    with peer, connected_to(peer) as connection:
        assert ask(connection, b"again\n") == b"again!\n"


def test_stopping_cuts_the_line() -> None:
    peer = Parrot().start()
    with closing(connected_to(peer)) as connection:
        ask(connection, b"one\n")
        peer.stop()
        assert connection.recv(1) == b""


def test_nothing_is_left_after_many_of_them() -> None:
    process = psutil.Process()
    with Parrot():
        pass
    before = threading.active_count(), len(process.net_connections()), len(process.open_files())
    for _ in range(20):
        with Parrot() as peer, connected_to(peer) as connection:
            ask(connection, b"one\n")
    assert (threading.active_count(), len(process.net_connections()), len(process.open_files())) == before


def test_a_silent_peer_does_nothing_until_it_is_woken() -> None:
    with Parrot() as peer, connected_to(peer) as connection:
        peer.silent_after(1)
        assert ask(connection, b"one\ntwo\n") == b"one!\n"
        wait_for(lambda: len(peer.commands) == 2)
        peer.wake()
        assert ask(connection, b"three\n") == b"three!\n"
        assert (peer.done, peer.record[1]) == (2, ("two", b""))


def test_a_garbled_reply_is_not_ascii_and_the_next_one_is() -> None:
    with Parrot() as peer, connected_to(peer) as connection:
        peer.garble(2)
        replies = [ask(connection, b"one\n") for _ in range(3)]
    assert [reply.isascii() for reply in replies] == [False, False, True]
    assert [reply[1:] for reply in replies] == [b"ne!\n"] * 3


def test_bytes_nobody_asked_for_come_after_one_reply() -> None:
    with Parrot() as peer, connected_to(peer) as connection:
        peer.add_after_reply(b"boo\n")
        assert [ask(connection, b"one\n"), read_line(connection), ask(connection, b"two\n")] == [
            b"one!\n",
            b"boo\n",
            b"two!\n",
        ]


def test_slow_replies_in_pieces_come_whole_in_the_end() -> None:
    with Parrot() as peer, connected_to(peer) as connection:
        peer.slow(0.02)
        peer.segments(2)
        assert ask(connection, b"number one\n") == b"number one!\n"


def test_a_pause_does_not_keep_it_from_stopping() -> None:
    peer = Parrot().start()
    with connected_to(peer) as connection:
        peer.slow(3600.0)
        connection.sendall(b"one\n")
        wait_for(lambda: bool(peer.commands))
        peer.stop()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("socket://")]


@posix_only
def test_behind_a_pseudo_terminal_it_is_the_same_and_leaves_nothing() -> None:
    before = threading.active_count()
    with pseudo_terminal(peer := Parrot()) as path:
        for _ in range(2):
            port = os.open(path, os.O_RDWR | os.O_NOCTTY)
            os.write(port, b"one\r\n")
            came = b""
            while not came.endswith(b"\n"):
                came += os.read(port, 100)
            assert came == b"one\r!\n"
            os.close(port)
    assert peer.commands == ["one\r"] * 2
    assert threading.active_count() == before
    assert not os.access(path, os.F_OK)
