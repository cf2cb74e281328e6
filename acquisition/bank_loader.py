"""Loads a bank of pictures beside whatever the projector shows: rendered and transferred in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from devices.projector import Projector, Timing

# Pictures go to the device in chunks of about this many bytes: large enough for the bus, and small enough that whoever
# else speaks to the device does not wait long where its library lets only one call in.
UPLOAD_CHUNK_BYTES = 8 * 2**20
# How long the transfer of a chunk may take.
_STUCK_S = 10.0
# Windows does not let Ctrl-C through while a thread is waited for.
_INTERRUPTIBLE_S = 0.1

Render = Callable[[NDArray[np.int64], NDArray[np.int8], NDArray[np.uint8]], NDArray[np.uint8]]


class LoadingStuckError(TimeoutError):
    """A transfer of pictures does not end."""


class LoadingBank:
    """A bank on its way into the projector's memory, which is taken at once.

    indices, signs: the pictures in order, as ``render`` takes them: (indices, signs, out) → packed pictures. Raises
    what ``projector.allocate`` raises.
    """

    def __init__(
        self, projector: Projector, render: Render, indices: NDArray[np.int64], signs: NDArray[np.int8]
    ) -> None:
        self._projector = projector
        self._render = render
        self._indices, self._signs = indices, signs
        self._info = projector.info
        self._abandoned = threading.Event()
        self._failure: BaseException | None = None
        self._moved_at = time.monotonic()
        self.number = projector.allocate(len(indices))
        self._thread = threading.Thread(target=self._run, name=f"loading bank {self.number}", daemon=True)
        self._thread.start()

    @property
    def is_loaded(self) -> bool:
        """Whether all pictures are there."""
        return not self._thread.is_alive() and self._failure is None

    def check(self) -> None:
        """Raise what has gone wrong in loading so far."""
        if self._failure is not None:
            raise self._failure

    def wait(self) -> None:
        """Wait until all pictures are there. Raises what went wrong with them, and LoadingStuckError."""
        while self._thread.is_alive():
            self._thread.join(_INTERRUPTIBLE_S)
            if time.monotonic() - self._moved_at > _STUCK_S:
                raise self._stuck()
        self.check()

    def set_timing(self, timing: Timing) -> Timing:
        """Set the timing of the pictures, and return what the device accepted. Raises what the projector raises."""
        return self._projector.set_timing(self.number, timing)

    def abandon(self) -> None:
        """Load no more, after the chunk at hand. Idempotent. Raises LoadingStuckError."""
        self._abandoned.set()
        self._thread.join(_STUCK_S)
        if self._thread.is_alive():
            raise self._stuck()

    def _stuck(self) -> LoadingStuckError:
        return LoadingStuckError(
            f"a transfer of pictures into {self._info.name} does not end within {_STUCK_S:g} s: check its USB cable, "
            "power-cycle it, and start again"
        )

    def _run(self) -> None:
        try:
            self._load()
        except BaseException as error:
            self._failure = error

    def _load(self) -> None:
        info = self._info
        chunk = min(len(self._indices), max(1, UPLOAD_CHUNK_BYTES // (info.mirrors_height * info.row_bytes)))
        buffer = np.zeros((chunk, info.mirrors_height, info.row_bytes), dtype=np.uint8)
        for first in range(0, len(self._indices), chunk):
            if self._abandoned.is_set():
                return
            self._moved_at = time.monotonic()
            some = slice(first, first + chunk)
            indices = self._indices[some]
            self._projector.load(self.number, first, self._render(indices, self._signs[some], buffer[: len(indices)]))
