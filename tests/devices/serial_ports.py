"""What tests of serial devices share: interfering with a peer's answers, and pyserial without its pause."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import serial.urlhandler.protocol_socket

from sim_devices.serial_peer import SerialPeer

posix_only = pytest.mark.skipif(os.name != "posix", reason="there are pseudo-terminals on POSIX only")


@pytest.fixture(autouse=True)
def _no_pause_after_closing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the 0.3 s that pyserial waits after closing a socket, for servers that need it; the peers do not."""
    monkeypatch.setattr(serial.urlhandler.protocol_socket, "time", SimpleNamespace(sleep=lambda _: None))


@pytest.fixture
def interfere(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let something happen, or something else be answered, at the ``nth`` time a peer gets a command."""

    def interfere_with(
        peer: SerialPeer,
        command: str,
        act: Callable[[], None] | None = None,
        *,
        nth: int = 1,
        reply: bytes | None = None,
    ) -> None:
        answer = peer.answer
        seen = 0

        def answer_otherwise(came: str) -> bytes:
            nonlocal seen
            seen += came == command
            if came != command or seen != nth:
                return answer(came)
            if act is not None:
                act()
            return answer(came) if reply is None else reply

        monkeypatch.setattr(peer, "answer", answer_otherwise)

    return interfere_with


def wait_for(holds: Callable[[], bool], limit_s: float = 10.0) -> None:
    """Return when something holds in another thread; fail where it never does."""
    deadline = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.001)
