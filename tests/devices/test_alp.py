"""The ALP driver: the projector's promise, and what ALP4lib has to be saved from."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from devices.alp import open_alp
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
from tests.devices.benches import (
    MIN_PICTURE_TIME_US,
    SILENT,
    a_bench,
    a_driver,
    a_library,
    a_projector,
    displayed,
    light_of,
    some_pictures,
)
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
    projector = a_driver(alp4_on(library))
    with pytest.raises(DeviceNotFreeError, match="USB"):
        a_driver(alp4_on(library))
    projector.close()
    a_driver(alp4_on(library)).close()


def test_a_device_that_does_not_answer_is_not_found() -> None:
    with pytest.raises(DeviceNotFoundError, match="1001"):
        a_driver(a_meddled_alp(AlpDevAlloc=lambda *_: 1001))


def test_closing_frees_banks_and_device_even_when_steps_fail_and_says_all_that_failed() -> None:
    freed = []
    library = a_library(a_bench())

    def free_sequence(device: Any, sequence: Any) -> int:
        freed.append(sequence.value)
        return 1011 if len(freed) in (2, 4) else library.AlpSeqFree(device, sequence)

    projector = a_driver(alp4_on(Meddler(library, AlpSeqFree=free_sequence)))  # type: ignore[arg-type]
    banks = [projector.allocate(2) for _ in range(3)]
    with pytest.raises(AlpCallError) as caught:
        projector.close()
    assert caught.value.code == 1011
    assert ["AlpSeqFree returned ALP error 1011" in note for note in caught.value.__notes__] == [True]
    assert freed[1:] == banks
    projector.close()  # the device itself was freed: there is nothing left to close
    a_driver(alp4_on(library)).close()


def test_a_board_that_is_not_freed_is_not_closed_and_can_be_closed_again() -> None:
    library = a_library(a_bench())
    answers = [1011]

    def free_device(device: Any) -> int:
        return answers.pop() if answers else library.AlpDevFree(device)

    functions = {"AlpDevFree": free_device, "AlpDevHalt": lambda *_: 1012}
    projector = a_driver(alp4_on(Meddler(library, **functions)))  # type: ignore[arg-type]
    projector.allocate(2)
    with pytest.raises(DeviceNotFreeError, match=r"stays allocated \(AlpDevFree .*1011.*power-cycle") as caught:
        projector.close()
    assert isinstance(caught.value.__cause__, AlpCallError)
    assert any("AlpDevHalt" in note for note in caught.value.__notes__)
    assert not projector.is_projecting()  # it is still open
    del functions["AlpDevHalt"]
    with pytest.raises(AlpCallError, match="AlpDevHalt"):
        projector.close()
    with pytest.raises(DeviceStateError, match="closed"):
        projector.is_projecting()
    a_driver(alp4_on(library)).close()


@pytest.mark.parametrize("inquiry", [2021, 2057, 2058, 2000, 2003])
def test_a_board_that_does_not_answer_an_inquiry_is_freed_again(inquiry: int) -> None:
    library = a_library(a_bench())

    def inquire(device: Any, asked: int, answer: Any) -> int:
        return 1011 if asked == inquiry else library.AlpDevInquire(device, asked, answer)

    with pytest.raises(AlpCallError, match="AlpDevInquire returned ALP error 1011"):
        a_driver(alp4_on(Meddler(library, AlpDevInquire=inquire)))  # type: ignore[arg-type]
    a_driver(alp4_on(library)).close()


def test_a_failing_start_that_cannot_free_the_board_says_so_too() -> None:
    alp = a_meddled_alp(AlpProjControl=lambda *_: 1005, AlpDevFree=lambda *_: 1011)
    with pytest.raises(AlpCallError, match="1005") as caught:
        a_driver(alp)
    assert "stays allocated" in caught.value.__notes__[0]


@pytest.mark.parametrize(("code", "error"), [(1004, DeviceNotFreeError), (1003, AlpCallError)])
def test_only_a_board_that_is_allocated_already_is_held_by_another_program(code: int, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"AlpDevAlloc returned ALP error {code}") as caught:
        a_driver(a_meddled_alp(AlpDevAlloc=lambda *_: code))
    assert ("another program" in str(caught.value)) is (code == 1004)


def test_pictures_for_sequence_0_do_not_land_in_the_last_one_allocated() -> None:
    bench = a_bench()
    projector = a_projector(bench)
    pictures = some_pictures(6)
    banks = [projector.allocate(3), projector.allocate(3)]
    assert banks[0] == 0
    for bank, part in zip(banks, (pictures[:3], pictures[3:]), strict=True):
        projector.load(bank, 0, part)
    projector.load(0, 0, pictures[:3])
    for bank in banks:
        projector.start(bank, 0, 2)
    np.testing.assert_allclose(displayed(bench), light_of(bench, pictures), rtol=1e-12)


def test_a_failing_start_leaves_the_device_free() -> None:
    library = a_library(a_bench())
    with pytest.raises(AlpCallError, match="1005"):
        a_driver(alp4_on(Meddler(library, AlpProjControl=lambda *_: 1005)))  # type: ignore[arg-type]
    a_driver(alp4_on(library)).close()


@pytest.mark.parametrize("code", [1006, 1999])
def test_errors_keep_their_code_known_to_alp4lib_or_not(code: int) -> None:
    projector = a_driver(a_meddled_alp(AlpSeqPut=lambda *_: code))
    bank = projector.allocate(1)
    with pytest.raises(AlpCallError, match="AlpSeqPut") as caught:
        projector.load(bank, 0, some_pictures(1))
    assert (caught.value.code, caught.value.call) == (code, "AlpSeqPut")


def test_a_failed_allocation_leaves_no_dead_sequence_in_alp4lib() -> None:
    alp = alp4_on(a_library(a_bench()))
    projector = a_driver(alp)
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

    projector = a_driver(alp4_on(Meddler(library, AlpSeqInquire=inquire)))  # type: ignore[arg-type]
    with pytest.raises(DeviceStateError, match="reads back 0"):
        projector.allocate(5)
    assert projector.info.free_pictures == 100


def an_alp_that_reads_back(picture_us: int, illumination_us: int) -> Any:
    """Times that read back are off by so much."""
    library = a_library(a_bench())

    def inquire(device: Any, sequence: Any, inquiry: int, answer: Any) -> int:
        code = library.AlpSeqInquire(device, sequence, inquiry, answer)
        answer._obj.value += {2203: picture_us, 2204: illumination_us}.get(inquiry, 0)
        return code

    return alp4_on(Meddler(library, AlpSeqInquire=inquire))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wanted", "off", "accepted"),
    [
        (Timing(100, 90), (2, -2), Timing(102, 88)),
        (Timing(5000, 4000), (-50, 40), Timing(4950, 4040)),
    ],
    ids=["2 µs", "1 %"],
)
def test_the_timing_returned_is_the_devices_not_the_wish(
    wanted: Timing, off: tuple[int, int], accepted: Timing
) -> None:
    projector = a_driver(an_alp_that_reads_back(*off))
    assert projector.set_timing(projector.allocate(1), wanted) == accepted


@pytest.mark.parametrize(
    ("wanted", "off", "reason"),
    [
        (Timing(100, 90), (3, 0), "a picture time of 100 µs and reads back 103 µs"),
        (Timing(100, 90), (0, -3), "an illumination time of 90 µs and reads back 87 µs"),
        (Timing(5000, 4000), (51, 0), "a picture time of 5000 µs and reads back 5051 µs"),
        (Timing(5000, 4000), (0, -41), "an illumination time of 4000 µs and reads back 3959 µs"),
    ],
)
def test_a_timing_that_reads_back_far_off_is_refused(wanted: Timing, off: tuple[int, int], reason: str) -> None:
    projector = a_driver(an_alp_that_reads_back(*off))
    with pytest.raises(TimingRefusedError, match=reason):
        projector.set_timing(projector.allocate(1), wanted)


@pytest.mark.parametrize("illumination_us", [99, 100])
def test_illumination_that_leaves_no_dark_phase_is_refused(illumination_us: int) -> None:
    projector = a_projector(a_bench())
    bank = projector.allocate(1)
    wanted = rf"100 µs with {illumination_us} µs of illumination.*dark phase.*a few µs shorter"
    with pytest.raises(TimingRefusedError, match=wanted):
        projector.set_timing(bank, Timing(100, illumination_us))
    assert projector.set_timing(bank, Timing(100, 98)) == Timing(100, 98)


def test_the_shortest_picture_time_is_that_of_the_mode_pictures_are_shown_in() -> None:
    library = a_library(a_bench())

    def allocate(device: Any, planes: Any, pictures: Any, sequence: Any) -> int:
        code = library.AlpSeqAlloc(device, planes, pictures, sequence)
        library.AlpSeqControl(device, sequence._obj, 2104, 2106)  # a board that starts without a dark phase
        return code

    projector = a_driver(alp4_on(Meddler(library, AlpSeqAlloc=allocate)))  # type: ignore[arg-type]
    assert projector.info.min_picture_time_us == MIN_PICTURE_TIME_US


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
    projector = a_driver(alp4_on(library))
    assert (projector.info.name, projector.info.row_bytes) == (f"ALP {chip.name}", 256)
    pictures = np.zeros((1, chip.mirrors_height, 256), np.uint8)
    pictures[0, -1, chip.mirrors_width // 8 - 1 :] = 0xFF
    bank = projector.allocate(1)
    projector.load(bank, 0, pictures)
    projector.start(bank, 0, 0)
    assert displayed(bench).tolist() == [8.0]


def test_a_chip_type_that_does_not_match_its_mirrors_is_an_error() -> None:
    with pytest.raises(DeviceStateError, match="1024 mirrors"):
        a_driver(alp4_on(a_library(a_bench(), dmd_type_code=4)))


@pytest.mark.parametrize("code", [2, 12, 77, 254, 255])
def test_a_board_whose_rows_are_not_known_is_refused_and_freed(code: int) -> None:
    bench = a_bench()
    alp = alp4_on(a_library(bench, dmd_type_code=code))
    with pytest.raises(DeviceStateError, match=f"laid out.*DMD type {code} .*XGA"):
        a_driver(alp)
    assert not hasattr(alp, "_ALPLib")  # ALP4lib lets go of its library once the device is freed


def test_states_are_read_right_from_libraries_that_write_four_bytes() -> None:
    def inquire(_device: Any, _inquiry: Any, answer: Any) -> int:
        ctypes.cast(answer, ctypes.POINTER(ctypes.c_int32))[0] = 1200
        return 0

    assert a_driver(a_meddled_alp(AlpProjInquire=inquire)).is_projecting()


def test_the_state_is_asked_with_the_arguments_the_library_takes() -> None:
    asked: list[tuple[int, int]] = []

    def inquire(device: Any, inquiry: Any, answer: Any) -> int:
        asked.append((device.value, inquiry.value))
        answer._obj.value = 1201
        return 0

    assert not a_driver(a_meddled_alp(AlpProjInquire=inquire)).is_projecting()
    assert asked == [(1, 2400)]
