"""Stores blocks beside the light path: a bounded queue and one thread."""

from __future__ import annotations

import queue
import threading

from acquisition.readings import Readings
from acquisition.run_store import RunStore

# Blocks that may wait for the disk; with the one that is written, they are what a killed process loses besides the one
# that is displayed.
WAITING_BLOCKS = 4


class StoreBehindError(RuntimeError):
    """The disk does not keep up with the light; the run stops rather than lose or delay a block."""


class StoreWriter:
    """Writes accepted blocks to a RunStore in a thread of its own.

    capacity: blocks that may wait; patience_s: how long ``put`` waits for room when they do (None: for ever, for runs
    whose light is simulated faster than real time).
    """

    def __init__(self, store: RunStore, *, capacity: int = WAITING_BLOCKS, patience_s: float | None) -> None:
        self._store = store
        self._patience_s = patience_s
        self._waiting: queue.Queue[Readings | None] = queue.Queue(capacity)
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._write, name="store writer", daemon=True)
        self._thread.start()

    def put(self, readings: Readings) -> None:
        """Hand over one block. Raises StoreBehindError, and the error of an earlier block that could not be written."""
        self._raise_failure()
        try:
            self._waiting.put(readings, timeout=self._patience_s)
        except queue.Full as error:
            raise StoreBehindError(
                f"{self._waiting.maxsize} blocks wait for the disk: it does not keep up with the light. Every block so "
                "far is kept; write to a faster disk, or lengthen timing.picture_time_us"
            ) from error

    def close(self) -> None:
        """Write what waits and end the thread. Raises the error of a block that could not be written. Idempotent."""
        if self._thread.is_alive():
            self._waiting.put(None)
            self._thread.join()
        self._raise_failure()

    def _write(self) -> None:
        while (readings := self._waiting.get()) is not None:
            if self._failure is not None:
                continue  # keep emptying the queue, so that put and close never wait for a writer that has failed
            try:
                self._store.write_block(readings)
            except Exception as error:
                self._failure = error

    def _raise_failure(self) -> None:
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
