"""The disk never holds up the light: a bounded queue, and a clean stop when it is full."""

from __future__ import annotations

import threading
from typing import Any, cast

import pytest

from acquisition.readings import Readings
from acquisition.run_layout import DiskFullError
from acquisition.run_store import RunStore
from acquisition.store_writer import StoreBehindError, StoreWriter
from tests.acquisition.test_run_store import readings_of, schedule_of

BLOCKS = schedule_of(0).blocks


class Disk:
    """Stands in for a RunStore: waits for ``let``, then keeps the block, or fails."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.let = threading.Event()
        self.kept: list[Readings] = []
        self._fail_at = fail_at

    def write_block(self, readings: Readings) -> None:
        self.let.wait(30)
        if len(self.kept) == self._fail_at:
            raise DiskFullError(28, "no space left")
        self.kept.append(readings)


def writer_on(disk: Disk, **options: Any) -> StoreWriter:
    return StoreWriter(cast("RunStore", disk), **options)


def test_every_block_is_written_in_order() -> None:
    disk = Disk()
    disk.let.set()
    writer = writer_on(disk, patience_s=None)
    for block in BLOCKS:
        writer.put(readings_of(block))
    writer.close()
    assert [readings.block_number for readings in disk.kept] == [block.number for block in BLOCKS]


def test_a_full_queue_stops_the_run_and_loses_nothing_that_was_taken() -> None:
    disk = Disk()
    writer = writer_on(disk, capacity=2, patience_s=0.0)
    taken = 0
    with pytest.raises(StoreBehindError, match="does not keep up"):
        for block in BLOCKS:
            writer.put(readings_of(block))
            taken += 1
    assert taken in (2, 3)  # the queue holds two, and the thread may hold one more
    disk.let.set()
    writer.close()
    assert len(disk.kept) == taken


def test_a_failed_write_is_raised_at_the_next_block_or_at_the_end() -> None:
    disk = Disk(fail_at=1)
    disk.let.set()
    writer = writer_on(disk, patience_s=None)
    with pytest.raises(DiskFullError):
        for block in BLOCKS:
            writer.put(readings_of(block))
        writer.close()
    assert len(disk.kept) == 1


def test_a_failure_at_the_last_block_is_raised_by_close() -> None:
    disk = Disk(fail_at=0)
    writer = writer_on(disk, patience_s=None)
    writer.put(readings_of(BLOCKS[0]))
    disk.let.set()
    with pytest.raises(DiskFullError):
        writer.close()


def test_closing_leaves_no_thread_and_can_be_repeated() -> None:
    disk = Disk()
    disk.let.set()
    before = threading.active_count()
    writer = writer_on(disk, patience_s=None)
    writer.close()
    writer.close()
    assert threading.active_count() == before
