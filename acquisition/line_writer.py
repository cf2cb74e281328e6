"""Writes lines to a console from a thread of its own, so that a reader who is slow or gone keeps nobody waiting."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text

from acquisition.terminal import showable

_TICK_S = 1.0


class LineWriter:
    """Lines that are written in the order in which they were added, as long as they are.

    A pipe that nobody reads, a terminal that is held (Ctrl-S, or a selection in a Windows console) let nothing be
    written, and what adds lines is the run, with the light on. due: called about every second between ``start`` and
    ``stop``, to add lines that are due by then. threaded: without it ``add`` writes. Safe to use from several threads.
    """

    def __init__(self, console: Console, due: Callable[[], None], *, threaded: bool = True) -> None:
        self._console = console
        self._due = due
        self._waiting: deque[str] = deque()
        self._writing = threading.RLock()
        self._wake, self._ending = threading.Event(), threading.Event()
        self._thread = (
            threading.Thread(target=self._tick, name="lines to the console", daemon=True) if threaded else None
        )

    def start(self) -> None:
        """Write from now on."""
        if self._thread is not None:
            self._thread.start()

    def stop(self) -> None:
        """End the thread; what is added from now on, and what it could not write, waits for ``flush``."""
        self._ending.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def add(self, line: str) -> None:
        """A line to be written; returns at once."""
        self._waiting.append(line)
        self._wake.set()
        if self._thread is None:
            self.flush()

    def flush(self) -> None:
        """Write what waits, in this thread. Raises OSError where it cannot be written."""
        with self._writing:
            while self._waiting:
                line = showable(self._waiting.popleft(), self._console.encoding)
                self._console.print(Text(line), soft_wrap=True)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Inside of it, nothing is written by any other thread; what waited was written before."""
        with self._writing:
            self.flush()
            yield

    def _tick(self) -> None:
        while not self._ending.is_set():
            self._wake.wait(_TICK_S)
            self._wake.clear()
            try:
                with self._writing:  # nothing is due while it is held
                    self._due()
                    self.flush()
            except OSError:
                return  # the line at the end meets the same disk, in the thread that can tell of it
