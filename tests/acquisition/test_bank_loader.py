"""Banks are loaded beside whatever else happens, fail where somebody looks, and end when nobody wants them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import acquisition.bank_loader as bank_loader_module
from acquisition.bank_loader import LoadingBank, LoadingStuckError, Render
from devices.projector import ProjectorInfo, Timing

N_PICTURES, CHUNK = 25, 10
HEIGHT, ROW_BYTES = 2, 3


class BusyProjector:
    """A projector that takes pictures, and what happens before it does is up to the test."""

    def __init__(self, before_load: Callable[[int], None] = lambda first: None) -> None:
        self.memory = np.zeros((N_PICTURES, HEIGHT, ROW_BYTES), dtype=np.uint8)
        self.firsts: list[int] = []
        self.began = threading.Event()
        self._before_load = before_load

    info = ProjectorInfo("Busy", "1", HEIGHT, 8 * ROW_BYTES, ROW_BYTES, 100, 44)

    def allocate(self, n_pictures: int) -> int:
        assert n_pictures == N_PICTURES
        return 7

    def load(self, bank: int, first: int, pictures: NDArray[np.uint8]) -> None:
        assert bank == 7
        self.began.set()
        self._before_load(first)
        self.firsts.append(first)
        self.memory[first : first + len(pictures)] = pictures

    def set_timing(self, bank: int, timing: Timing) -> Timing:
        return Timing(timing.picture_time_us + bank, timing.illumination_time_us)

    def start(self, bank: int, first: int, last: int, rounds: int = 1) -> None:
        raise AssertionError("a bank that is loaded displays nothing")

    def is_projecting(self) -> bool:
        return False

    def status(self) -> dict[str, float]:
        return {}

    def halt(self) -> None:
        """It displays nothing."""

    def free(self, bank: int) -> None:
        """It has one bank only."""

    def close(self) -> None:
        """It is nothing that could be closed."""


def render(indices: NDArray[np.int64], signs: NDArray[np.int8], out: NDArray[np.uint8]) -> NDArray[np.uint8]:
    out[:, 0, 0], out[:, 1, 2] = indices, signs > 0
    return out


def loading(projector: BusyProjector, render: Render = render) -> LoadingBank:
    return LoadingBank(projector, render, np.arange(N_PICTURES), np.resize([1, -1, -1], N_PICTURES).astype(np.int8))


@pytest.fixture(autouse=True)
def small_chunks_and_no_thread_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(bank_loader_module, "UPLOAD_CHUNK_BYTES", CHUNK * HEIGHT * ROW_BYTES)
    yield
    assert [thread for thread in threading.enumerate() if thread.name.startswith("loading bank")] == []


def test_every_picture_is_rendered_once_and_loaded_where_it_belongs() -> None:
    projector = BusyProjector()
    bank = loading(projector)
    bank.wait()
    assert bank.is_loaded
    assert bank.number == 7
    assert projector.firsts == [0, 10, 20]
    assert projector.memory[:, 0, 0].tolist() == list(range(N_PICTURES))
    assert projector.memory[:, 1, 2].tolist() == np.resize([1, 0, 0], N_PICTURES).tolist()
    assert bank.set_timing(Timing(100, 90)) == Timing(107, 90)
    bank.abandon()


def test_it_is_loaded_when_the_last_picture_is_there_and_not_before() -> None:
    released = threading.Event()
    projector = BusyProjector(lambda first: _require(released.wait(10)) if first == 20 else None)
    bank = loading(projector)
    assert projector.began.wait(10)
    assert not bank.is_loaded
    bank.check()
    released.set()
    bank.wait()
    assert bank.is_loaded


@pytest.mark.parametrize("where", ["projector", "renderer"])
def test_what_goes_wrong_is_raised_where_somebody_waits_and_where_somebody_looks(where: str) -> None:
    def fail(*_: object) -> Any:
        raise OSError("the cable is out")

    projector = BusyProjector(fail) if where == "projector" else BusyProjector()
    bank = loading(projector, fail if where == "renderer" else render)
    with pytest.raises(OSError, match="cable"):
        bank.wait()
    with pytest.raises(OSError, match="cable"):
        bank.check()
    assert not bank.is_loaded
    assert projector.firsts == []
    bank.abandon()


def test_a_failure_after_some_chunks_loads_no_further_one() -> None:
    def fail_at_the_second(first: int) -> None:
        if first == 10:
            raise OSError("the cable is out")

    projector = BusyProjector(fail_at_the_second)
    bank = loading(projector)
    with pytest.raises(OSError, match="cable"):
        bank.wait()
    assert projector.firsts == [0]


def test_a_bank_that_is_abandoned_ends_with_the_chunk_at_hand() -> None:
    begun, released = threading.Event(), threading.Event()

    def hold_the_second(first: int) -> None:
        if first == 10:
            begun.set()
            _require(released.wait(10))

    projector = BusyProjector(hold_the_second)
    bank = loading(projector)
    assert begun.wait(10)
    abandoning = threading.Thread(target=bank.abandon)
    abandoning.start()
    released.set()
    abandoning.join(10)
    # Whether the wish came in time for the third chunk is the threads' business; the bank has ended either way.
    assert projector.firsts in ([0, 10], [0, 10, 20])
    bank.abandon()


def test_an_abandoned_bank_begins_no_further_chunk() -> None:
    wanted = threading.Event()
    banks: list[LoadingBank] = []

    def abandoned_meanwhile(first: int) -> None:
        _require(wanted.wait(10))
        banks[0]._abandoned.set()

    projector = BusyProjector(abandoned_meanwhile)
    banks.append(loading(projector))
    wanted.set()
    banks[0].abandon()
    assert projector.firsts == [0]


def test_a_transfer_that_does_not_end_is_given_up_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bank_loader_module, "_STUCK_S", 0.05)
    released = threading.Event()
    projector = BusyProjector(lambda first: _require(released.wait(10)))
    bank = loading(projector)
    with pytest.raises(LoadingStuckError, match=r"Busy does not end within .* USB cable, power-cycle"):
        bank.abandon()
    released.set()
    bank.abandon()
    assert projector.firsts == [0]


def test_whoever_waits_for_a_transfer_that_does_not_end_is_told_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bank_loader_module, "_STUCK_S", 0.05)
    monkeypatch.setattr(bank_loader_module, "_INTERRUPTIBLE_S", 0.01)
    released = threading.Event()
    bank = loading(BusyProjector(lambda first: _require(released.wait(10)) if first == 10 else None))
    with pytest.raises(LoadingStuckError, match="Busy"):
        bank.wait()
    released.set()
    bank.abandon()


def test_waiting_can_be_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C comes between two looks at the thread."""
    monkeypatch.setattr(bank_loader_module, "_INTERRUPTIBLE_S", 0.001)
    released = threading.Event()
    projector = BusyProjector(lambda first: _require(released.wait(10)))
    bank = loading(projector)
    looks: list[float | None] = []
    join = bank._thread.join

    def interrupted(timeout: float | None = None) -> None:
        looks.append(timeout)
        if len(looks) == 3:
            raise KeyboardInterrupt
        join(timeout)

    monkeypatch.setattr(bank._thread, "join", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bank.wait()
    assert looks == [0.001] * 3
    monkeypatch.undo()
    released.set()
    bank.abandon()


def _require(happened: bool) -> None:
    assert happened
