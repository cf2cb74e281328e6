"""The live view around a run, or of a stored one, as the terminal tells of it."""

from __future__ import annotations

import os
import sys
import threading
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import Console

from acquisition.config import AcquisitionConfig
from acquisition.interrupts import orderly_interrupts
from acquisition.live_view.address import ViewAddress
from acquisition.observer import Observer


@contextmanager
def viewed(console: Console, config: AcquisitionConfig, address: ViewAddress | None) -> Iterator[Observer]:
    """Serve a live view of what is played inside, by a run that is given the observer; without an address none.

    How the block ends is how the view is told that the run ended; all viewers are shown that before it is closed. What
    goes wrong in the view ends the view alone, and is said when the run has ended. Raises ViewAddressError.
    """
    if address is None:
        yield Observer()
        return
    from acquisition.live_view.feed import ViewFeed
    from acquisition.live_view.server import LiveViewServer

    feed = ViewFeed(config)
    server = LiveViewServer(feed, address)
    try:
        with server:
            _announce(console, server.link, address, server.port)
            try:
                # Stop is heard from the beginning, also while the run is still planned.
                with orderly_interrupts():
                    yield feed.observer
            except BaseException as error:
                feed.conclude(error)
                raise
            feed.conclude(None)
    finally:
        if server.failure is not None:
            console.print(f"warning: the live view failed: {server.failure!r}", highlight=False, markup=False)


def show_stored(path: Path, address: ViewAddress) -> None:
    """Serve a stored run until somebody asks to end. Raises NotARunError, ViewAddressError, RuntimeError."""
    from acquisition.live_view.server import LiveViewServer
    from acquisition.live_view.stored_feed import StoredFeed

    console = Console()
    with suppress(KeyboardInterrupt), orderly_interrupts(), StoredFeed(path) as feed:
        with LiveViewServer(feed, address) as server:
            _announce(console, server.link, address, server.port)
            console.print("Ctrl-C ends the view; the run is only read.", highlight=False)
            server.wait()
        if server.failure is not None:
            raise RuntimeError(f"the live view of {path} failed: {server.failure!r}") from server.failure


def _announce(console: Console, link: str, asked: ViewAddress, port: int) -> None:
    """Say where the view is, and open it where somebody sits."""
    if asked.port not in (0, port):
        console.print(f"port {asked.port} is taken: {port} it is", highlight=False)
    console.print(f"live view: {link}", highlight=False, markup=False, soft_wrap=True)
    if sys.stdout.isatty() and _has_a_screen():
        threading.Thread(target=_open, args=(link,), name="browser", daemon=True).start()


def _has_a_screen() -> bool:
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _open(link: str) -> None:
    with suppress(Exception):  # the link was printed: whoever wants to look can
        webbrowser.open(link)
