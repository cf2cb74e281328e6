"""The ALP driver: the projector's promise, and what ALP4lib has to be saved from."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from devices.alp import AlpProjector, open_alp
from devices.dmd_types import DMD_TYPES
from devices.errors import (
    AlpCallError,
    DeviceNotFoundError,
    DeviceNotFreeError,
    DeviceStateError,
    LibraryMissingError,
    TimingRefusedError,
)
from devices.projector import Projector, Timing
from sim_devices.alp_library import SimulatedAlpLibrary, alp4_on
from sim_devices.bench import OpticalBench
from tests.devices.benches import SILENT, a_bench, a_library, a_projector, displayed, light_of, some_pictures
from tests.devices.projector_contract import ProjectorContract


class TestAlpProjector(ProjectorContract):
    def make(self, bench: OpticalBench) -> Projector:
        return a_projector(bench)


class Meddler:
    """The stand-in library with some of its functions replaced."""

    def __init__(self, library: SimulatedAlpLibrary, **functions: Any) -> None:
        self._library = library
        self._functions = functions

    def __getattr__(self, name: str) -> Any:
        functions = self.__dict__["_functions"]
        return functions.get(name, getattr(self.__dict__["_library"], name))


def a_meddled_alp(**functions: Any) -> Any:
    return alp4_on(Meddler(a_library(a_bench()), **functions))  # type: ignore[arg-type]


def test_a_missing_library_says_where_it_was_looked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(LibraryMissingError, match=r"could not be loaded from .*nowhere") as caught:
        open_alp("4.3", tmp_path / "nowhere")
    assert isinstance(caught.value, FileNotFoundError)
    assert capsys.readouterr().out == ""


def test_a_version_that_does_not_exist_is_a_missing_library(tmp_path: Path) -> None:
    with pytest.raises(LibraryMissingError, match=r"ALP 9\.9"):
        open_alp("9.9", tmp_path)


def test_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    projector = a_projector(a_bench())
    bank = projector.allocate(2)
    projector.load(bank, 0, some_pictures(2))
    projector.close()
    assert capsys.readouterr().out == ""


def test_a_device_that_is_held_is_not_free_until_it_is_closed() -> None:
    library = a_library(a_bench())
    projector = AlpProjector(alp4_on(library))
    with pytest.raises(DeviceNotFreeError, match="USB"):
        AlpProjector(alp4_on(library))
    projector.close()
    AlpProjector(alp4_on(library)).close()


def test_a_device_that_does_not_answer_is_not_found() -> None:
    with pytest.raises(DeviceNotFoundError, match="1001"):
        AlpProjector(a_meddled_alp(AlpDevAlloc=lambda *_: 1001))


def test_closing_frees_banks_and_device_even_when_one_step_fails() -> None:
    freed = []
    library = a_library(a_bench())

    def free_sequence(device: Any, sequence: Any) -> int:
        freed.append(sequence.value)
        return 1011 if len(freed) == 2 else library.AlpSeqFree(device, sequence)

    projector = AlpProjector(alp4_on(Meddler(library, AlpSeqFree=free_sequence)))  # type: ignore[arg-type]
    banks = [projector.allocate(2) for _ in range(3)]
    with pytest.raises(AlpCallError) as caught:
        projector.close()
    assert caught.value.code == 1011
    assert freed[1:] == banks
    AlpProjector(alp4_on(library)).close()  # the device is free again


def test_a_failing_start_leaves_the_device_free() -> None:
    library = a_library(a_bench())
    with pytest.raises(AlpCallError, match="1005"):
        AlpProjector(alp4_on(Meddler(library, AlpProjControl=lambda *_: 1005)))  # type: ignore[arg-type]
    AlpProjector(alp4_on(library)).close()


@pytest.mark.parametrize("code", [1006, 1999])
def test_errors_keep_their_code_known_to_alp4lib_or_not(code: int) -> None:
    projector = AlpProjector(a_meddled_alp(AlpSeqPut=lambda *_: code))
    bank = projector.allocate(1)
    with pytest.raises(AlpCallError, match="AlpSeqPut") as caught:
        projector.load(bank, 0, some_pictures(1))
    assert (caught.value.code, caught.value.call) == (code, "AlpSeqPut")


def test_a_failed_allocation_leaves_no_dead_sequence_in_alp4lib() -> None:
    alp = alp4_on(a_library(a_bench()))
    projector = AlpProjector(alp)
    bank = projector.allocate(60)
    with pytest.raises(MemoryError):
        projector.allocate(60)
    assert [each.value for each in alp.Seqs] == [bank]


def test_a_setting_that_does_not_read_back_is_an_error() -> None:
    library = a_library(a_bench())

    def inquire(device: Any, sequence: Any, inquiry: int, answer: Any) -> int:
        code = library.AlpSeqInquire(device, sequence, inquiry, answer)
        if inquiry == 2110:
            answer._obj.value = 0
        return code

    projector = AlpProjector(alp4_on(Meddler(library, AlpSeqInquire=inquire)))  # type: ignore[arg-type]
    with pytest.raises(DeviceStateError, match="reads back 0"):
        projector.allocate(5)
    assert projector.info.free_pictures == 100


def test_the_timing_returned_is_the_devices_not_the_wish() -> None:
    library = a_library(a_bench())

    def inquire(device: Any, sequence: Any, inquiry: int, answer: Any) -> int:
        code = library.AlpSeqInquire(device, sequence, inquiry, answer)
        if inquiry in (2203, 2204):
            answer._obj.value += 3
        return code

    projector = AlpProjector(alp4_on(Meddler(library, AlpSeqInquire=inquire)))  # type: ignore[arg-type]
    assert projector.set_timing(projector.allocate(1), Timing(100, 90)) == Timing(103, 93)


def test_timing_that_the_device_refuses_is_refused() -> None:
    projector = AlpProjector(a_meddled_alp(AlpSeqTiming=lambda *_: 1005))
    with pytest.raises(TimingRefusedError, match="dark phase"):
        projector.set_timing(projector.allocate(1), Timing(100, 100))


def test_large_uploads_go_in_parts_that_lie_where_they_belong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devices.alp._UPLOAD_BYTES", 4 * some_pictures(1).size)
    bench = a_bench()
    projector = a_projector(bench)
    pictures = some_pictures(11)
    bank = projector.allocate(13)
    projector.load(bank, 2, pictures)
    projector.start(bank, 2, 12)
    np.testing.assert_allclose(displayed(bench), light_of(bench, pictures), rtol=1e-12)


@pytest.mark.parametrize("key", ["1080p", "wuxga"])
def test_padded_chips_are_told_by_their_type(key: str) -> None:
    chip = DMD_TYPES[key]
    bench = OpticalBench(SILENT, np.ones((chip.mirrors_height, chip.mirrors_width)), light_on=True)
    library = a_library(bench, row_bytes=chip.row_bytes, dmd_type_code=chip.alp_codes[0])
    projector = AlpProjector(alp4_on(library))
    assert (projector.info.name, projector.info.row_bytes) == (f"ALP {chip.name}", 256)
    pictures = np.zeros((1, chip.mirrors_height, 256), np.uint8)
    pictures[0, -1, chip.mirrors_width // 8 - 1 :] = 0xFF
    bank = projector.allocate(1)
    projector.load(bank, 0, pictures)
    projector.start(bank, 0, 0)
    assert displayed(bench).tolist() == [8.0]


def test_a_chip_type_that_does_not_match_its_mirrors_is_an_error() -> None:
    with pytest.raises(DeviceStateError, match="1024 mirrors"):
        AlpProjector(alp4_on(a_library(a_bench(), dmd_type_code=4)))


def test_states_are_read_right_from_libraries_that_write_four_bytes() -> None:
    def inquire(_device: Any, _inquiry: Any, answer: Any) -> int:
        ctypes.cast(answer, ctypes.POINTER(ctypes.c_int32))[0] = 1200
        return 0

    assert AlpProjector(a_meddled_alp(AlpProjInquire=inquire)).is_projecting()


def test_the_state_is_asked_with_the_arguments_the_library_takes() -> None:
    asked: list[tuple[int, int]] = []

    def inquire(device: Any, inquiry: Any, answer: Any) -> int:
        asked.append((device.value, inquiry.value))
        answer._obj.value = 1201
        return 0

    assert not AlpProjector(a_meddled_alp(AlpProjInquire=inquire)).is_projecting()
    assert asked == [(1, 2400)]
