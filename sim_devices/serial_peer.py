"""What sits at the other end of a serial cable: bytes come, bytes go back, on a loopback port or a pseudo-terminal.

The driver under test opens ``peer.url`` (``socket://127.0.0.1:port``) with an unmodified pyserial. A peer serves one
connection at a time, as a cable has one other end, and the next one when that is closed.
"""

from __future__ import annotations

import os
import select
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Self

_POLL_S: Final = 0.01


class SerialPeer(ABC):
    """A device that answers commands, each ended by ``command_end``.

    A device derives from it and says what a command is answered, in ``answer``, and what happens by itself as time
    passes, in ``tick``. Faults of the line can be injected here; those of the device belong to it. Everything may be
    called from any thread.
    """

    def __init__(self, command_end: bytes) -> None:
        self.lock = threading.RLock()
        self._command_end = command_end
        self._received = b""
        self._record: list[tuple[str, bytes]] = []
        self._answers_left: int | None = None
        self._garbled = 0
        self._extra = b""
        self._delay_s = 0.0
        self._segment: int | None = None
        self._listener: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    @abstractmethod
    def answer(self, command: str) -> bytes:
        """Do what a command says, and return all bytes that go back."""

    def tick(self) -> None:  # noqa: B027 (most devices do nothing by themselves)
        """Let happen what happens by itself; called often, and before every command."""

    @property
    def record(self) -> tuple[tuple[str, bytes], ...]:
        """Commands that came and what went back, in order; nothing (b"") where the device was silent."""
        with self.lock:
            return tuple(self._record)

    @property
    def commands(self) -> list[str]:
        """The commands that came, in order."""
        return [command for command, _ in self.record]

    @property
    def url(self) -> str:
        """Where pyserial finds it. Raises RuntimeError where it was not started."""
        if self._listener is None:
            raise RuntimeError("the peer does not listen; start it first")
        return f"socket://127.0.0.1:{self._listener.getsockname()[1]}"

    def silent_after(self, n_commands: int) -> None:
        """Answer so many commands more, then hang: nothing is done and nothing answered. See ``wake``."""
        with self.lock:
            self._answers_left = n_commands

    def wake(self) -> None:
        """Answer again."""
        with self.lock:
            self._answers_left = None

    def garble(self, n_replies: int = 1) -> None:
        """Spoil the first byte of the next replies, as a wrong baud rate does."""
        with self.lock:
            self._garbled = n_replies

    def add_after_reply(self, extra: bytes) -> None:
        """Send bytes nobody asked for right after the next reply."""
        with self.lock:
            self._extra = extra

    def slow(self, delay_s: float) -> None:
        """Let every reply wait."""
        with self.lock:
            self._delay_s = delay_s

    def segments(self, n_bytes: int | None) -> None:
        """Send replies in pieces of so many bytes; None: whole."""
        with self.lock:
            self._segment = n_bytes

    def start(self) -> Self:
        """Listen on a free loopback port. Raises RuntimeError where it listens already."""
        if self._listener is not None:
            raise RuntimeError(f"the peer listens already, at {self.url}")
        self._stopping.clear()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, args=(self._listener,), name=self.url, daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Cut the line, end the thread, free the port. Stopping twice is stopping once."""
        if self._listener is None or self._thread is None:
            return
        self._stopping.set()
        self._thread.join()
        self._listener.close()
        self._listener = self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def receive(self, data: bytes, send: Callable[[bytes], object], stopping: threading.Event) -> None:
        """Take bytes from the line, and send what they are answered."""
        with self.lock:
            self._received += data
            commands = self._received.split(self._command_end)
            self._received = commands.pop()
        for command in commands:
            reply, delay_s, segment = self._replied(command)
            if delay_s:
                stopping.wait(delay_s)
            for start in range(0, len(reply), segment or max(1, len(reply))):
                send(reply[start : start + segment] if segment else reply)
                if segment:
                    stopping.wait(1e-4)

    def _replied(self, command: bytes) -> tuple[bytes, float, int | None]:
        text = command.decode("ascii", errors="replace")
        with self.lock:
            self.tick()
            reply = b""
            if self._answers_left != 0:
                reply = self.answer(text)
                if self._answers_left is not None:
                    self._answers_left -= 1
            if self._garbled and reply:
                self._garbled -= 1
                reply = bytes([reply[0] | 0x80]) + reply[1:]
            if reply:
                reply, self._extra = reply + self._extra, b""
            self._record.append((text, reply))
            return reply, self._delay_s, self._segment

    def _serve(self, listener: socket.socket) -> None:
        listener.settimeout(_POLL_S)
        while not self._stopping.is_set():
            self._ticked()
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._converse(connection)

    def _converse(self, connection: socket.socket) -> None:
        """Until the other side hangs up, or the peer is stopped."""
        connection.settimeout(_POLL_S)
        self._received = b""
        while not self._stopping.is_set():
            self._ticked()
            try:
                data = connection.recv(4096)
                if not data:
                    return
                self.receive(data, connection.sendall, self._stopping)
            except TimeoutError:
                continue
            except ConnectionError:
                return

    def _ticked(self) -> None:
        with self.lock:
            self.tick()


@contextmanager
def pseudo_terminal(peer: SerialPeer) -> Iterator[str]:
    """The same peer behind a pseudo-terminal, by its path: what a driver opens as a real port. POSIX only."""
    import pty
    import tty

    master, slave = pty.openpty()
    stopping = threading.Event()

    def serve() -> None:
        while not stopping.is_set():
            with peer.lock:
                peer.tick()
            readable, _, _ = select.select([master], [], [], _POLL_S)
            if readable:
                peer.receive(os.read(master, 4096), lambda data: os.write(master, data), stopping)

    thread = threading.Thread(target=serve, name="pseudo_terminal", daemon=True)
    try:
        tty.setraw(slave)
        thread.start()
        yield os.ttyname(slave)
    finally:
        stopping.set()
        if thread.ident is not None:
            thread.join()
        # The slave stays open until here, so that the master can be read while no driver has the port.
        os.close(slave)
        os.close(master)
