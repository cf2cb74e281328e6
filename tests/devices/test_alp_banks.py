"""Banks in ping-pong on an ALP board: one is loaded, by another thread, while another one is displayed."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from devices.errors import DeviceStateError, PictureMemoryError, UnknownBankError
from devices.projector import Timing
from sim_devices.alp_library import SimulatedAlpLibrary, alp4_on
from sim_devices.bench import OpticalBench
from tests.devices.benches import (
    MEMORY_PICTURES,
    Clock,
    Meddler,
    a_bench,
    a_driver,
    a_library,
    a_projector,
    displayed,
    light_of,
    some_pictures,
)

TIMING = Timing(100, 90)
PATIENCE_S = 20.0


def test_growing_banks_are_shown_in_order_each_loaded_while_the_one_before_is_displayed() -> None:
    clock = Clock()
    bench = a_bench(1.0, clock)
    projector = a_projector(bench)
    banks = [some_pictures(n, seed=n) for n in (2, 5, 11, 23, 47, 53, 30)]

    def load(pictures: NDArray[np.uint8]) -> int:
        bank = projector.allocate(len(pictures))
        projector.load(bank, 0, pictures)
        projector.set_timing(bank, TIMING)
        return bank

    with ThreadPoolExecutor(1) as loader:
        loaded = load(banks[0])
        for here, pictures in enumerate(banks):
            projector.start(loaded, 0, len(pictures) - 1)
            coming = loader.submit(load, banks[here + 1]) if here + 1 < len(banks) else None
            if coming is not None:
                following = coming.result(PATIENCE_S)
            assert projector.is_projecting()
            clock.now += 1.0
            assert not projector.is_projecting()
            projector.free(loaded)
            if coming is not None:
                loaded = following
    np.testing.assert_allclose(displayed(bench), light_of(bench, np.concatenate(banks)), rtol=1e-12)
    assert projector.info.free_pictures == MEMORY_PICTURES


def test_memory_can_be_exactly_full_and_is_freed_by_freeing_not_by_halting() -> None:
    projector = a_projector(a_bench(pace=1.0))
    one = projector.allocate(MEMORY_PICTURES // 2)
    projector.allocate(MEMORY_PICTURES // 2)
    assert projector.info.free_pictures == 0
    projector.start(one, 0, 3)
    projector.halt()
    with pytest.raises(PictureMemoryError, match="0 are free"):
        projector.allocate(1)
    projector.free(one)
    assert projector.info.free_pictures == MEMORY_PICTURES // 2
    projector.allocate(MEMORY_PICTURES // 2)
    assert projector.info.free_pictures == 0


def test_a_number_given_out_again_while_the_bank_before_is_being_freed_is_the_new_bank(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    library = a_library(a_bench())
    really_free = library.AlpSeqFree
    allocated: list[Future[int]] = []

    def free(device: Any, sequence: Any) -> int:
        code = really_free(device, sequence)
        allocated.append(loader.submit(projector.allocate, 3))
        wait(allocated, 0.05)  # the other thread tries while the board has freed the bank and the driver has not
        return code

    projector = a_driver(alp4_on(library))
    bank = projector.allocate(2)
    with ThreadPoolExecutor(1) as loader:
        monkeypatch.setattr(library, "AlpSeqFree", free)
        projector.free(bank)
        number = allocated[0].result(PATIENCE_S)
    assert number == bank
    projector.load(number, 0, some_pictures(3))


class SlowTransfer:
    """A board whose first transfer is under way until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
        self.clock = Clock()
        self.bench: OpticalBench = a_bench(1.0, self.clock)
        self.library: SimulatedAlpLibrary = a_library(self.bench, **options)
        self.under_way, self.let_go = threading.Event(), threading.Event()
        decode = self.bench.decode

        def slowly(pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
            self.under_way.set()
            assert self.let_go.wait(PATIENCE_S)
            return decode(pictures)

        monkeypatch.setattr(self.bench, "decode", slowly)

    def when_called(self, name: str) -> Any:
        """The board's function, which lets the transfer go after its work."""

        def call(*arguments: Any) -> int:
            code = int(getattr(self.library, name)(*arguments))
            self.let_go.set()
            return code

        return call


def test_everything_else_can_be_done_while_a_bank_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = SlowTransfer(monkeypatch)
    projector = a_driver(alp4_on(slow.library))
    shown, other, loading = (projector.allocate(n) for n in (4, 2, 3))
    pictures = some_pictures(3)
    with ThreadPoolExecutor(1) as loader:
        load = loader.submit(projector.load, loading, 0, pictures)
        assert slow.under_way.wait(PATIENCE_S)
        projector.set_timing(shown, TIMING)
        projector.start(shown, 0, 3)
        assert projector.is_projecting()
        projector.halt()
        projector.free(other)
        assert projector.info.free_pictures == MEMORY_PICTURES - 7
        assert projector.status()
        projector.free(projector.allocate(1))
        assert not load.done()
        slow.let_go.set()
        load.result(PATIENCE_S)
    projector.set_timing(loading, TIMING)
    projector.start(loading, 0, 2)
    slow.clock.now += 1.0
    np.testing.assert_allclose(displayed(slow.bench)[-3:], light_of(slow.bench, pictures), rtol=1e-12)


def test_closing_cuts_off_a_load_and_frees_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = SlowTransfer(monkeypatch)
    projector = a_driver(
        alp4_on(Meddler(slow.library, AlpDevHalt=slow.when_called("AlpDevHalt")))  # type: ignore[arg-type]
    )
    bank = projector.allocate(3)
    with ThreadPoolExecutor(1) as loader:
        load = loader.submit(projector.load, bank, 0, some_pictures(3))
        assert slow.under_way.wait(PATIENCE_S)
        projector.close()
        with pytest.raises(DeviceStateError, match=r"load of bank 0 was cut off because the device was halted.*1009"):
            load.result(PATIENCE_S)
    assert a_driver(alp4_on(slow.library)).info.free_pictures == MEMORY_PICTURES


def test_nothing_is_loaded_any_more_once_closing_has_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    library = a_library(a_bench())
    projector = a_driver(alp4_on(library))
    bank = projector.allocate(1)
    really_halt, errors = library.AlpDevHalt, []

    def halt(device: Any) -> int:
        code = really_halt(device)
        try:
            projector.load(bank, 0, some_pictures(1))
        except DeviceStateError as error:
            errors.append(str(error))
        return code

    monkeypatch.setattr(library, "AlpDevHalt", halt)
    projector.close()
    assert errors == ["the load of bank 0 was cut off: the bank or the projector was closed"]
    assert library.faults.calls["AlpSeqPut"] == 0


def test_a_bank_is_freed_between_the_parts_of_its_load_and_takes_none_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("devices.alp._UPLOAD_BYTES", 1)
    slow = SlowTransfer(monkeypatch)
    codes: list[int] = []

    def put(*arguments: Any) -> int:
        codes.append(slow.library.AlpSeqPut(*arguments))
        return codes[-1]

    projector = a_driver(alp4_on(Meddler(slow.library, AlpSeqPut=put)))  # type: ignore[arg-type]
    bank = projector.allocate(40)
    with ThreadPoolExecutor(2) as threads:
        load = threads.submit(projector.load, bank, 0, some_pictures(40))
        assert slow.under_way.wait(PATIENCE_S)
        freeing = threads.submit(projector.free, bank)
        with pytest.raises(TimeoutError):
            freeing.result(0.02)
        slow.let_go.set()
        freeing.result(PATIENCE_S)
        assert isinstance(load.exception(PATIENCE_S), UnknownBankError | None)
    assert set(codes) == {0}
    assert projector.info.free_pictures == MEMORY_PICTURES


def test_a_board_that_takes_no_call_beside_a_transfer_gets_it_before_the_next_part(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("devices.alp._UPLOAD_BYTES", 1)
    slow = SlowTransfer(monkeypatch, exclusive_transfers=True)
    projector = a_driver(
        alp4_on(Meddler(slow.library, AlpProjInquire=slow.when_called("AlpProjInquire")))  # type: ignore[arg-type]
    )
    slow.let_go.clear()
    bank = projector.allocate(40)
    pictures = some_pictures(40)
    before = slow.library.faults.calls["AlpProjInquire"]
    with ThreadPoolExecutor(1) as loader:
        load = loader.submit(projector.load, bank, 0, pictures)
        assert slow.under_way.wait(PATIENCE_S)
        assert not projector.is_projecting()
        load.result(PATIENCE_S)
    assert slow.library.faults.calls["AlpProjInquire"] == before + 2
    projector.set_timing(bank, TIMING)
    projector.start(bank, 0, 39)
    slow.clock.now += 1.0
    np.testing.assert_allclose(displayed(slow.bench), light_of(slow.bench, pictures), rtol=1e-12)
