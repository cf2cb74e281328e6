"""What ALP4lib 1.1.0, unmodified, has to be saved from: each trap shown, and the driver out of it."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest
from ALP4 import ALPError
from hypothesis import given
from hypothesis import strategies as st

from devices.errors import AlpCallError, DeviceStateError, PictureShapeError
from devices.projector import Timing
from sim_devices.alp_library import alp4_on
from tests.devices.benches import (
    MEMORY_PICTURES,
    Clock,
    a_bench,
    a_driver,
    a_library,
    a_meddled_alp,
    a_projector,
    displayed,
    light_of,
    some_pictures,
)


def test_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    projector = a_projector(a_bench())
    bank = projector.allocate(2)
    projector.load(bank, 0, some_pictures(2))
    projector.close()
    assert capsys.readouterr().out == ""


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


def test_states_are_read_right_from_libraries_that_write_four_bytes() -> None:
    def inquire(_device: Any, inquiry: Any, answer: Any) -> int:
        ctypes.cast(answer, ctypes.POINTER(ctypes.c_int32))[0] = {2300: 2301, 2400: 1200}[inquiry.value]
        return 0

    assert a_driver(a_meddled_alp(AlpProjInquire=inquire)).is_projecting()


def test_the_state_is_asked_with_the_arguments_the_library_takes() -> None:
    asked: list[tuple[int, int]] = []

    def inquire(device: Any, inquiry: Any, answer: Any) -> int:
        asked.append((device.value, inquiry.value))
        answer._obj.value = {2300: 2301, 2400: 1201}[inquiry.value]
        return 0

    assert not a_driver(a_meddled_alp(AlpProjInquire=inquire)).is_projecting()
    assert asked == [(1, 2300), (1, 2400)]


def test_proj_inquire_hands_over_one_argument_too_many() -> None:
    """The function of the vendor's library takes three; the fourth shifts the pointer out of its place."""
    alp = alp4_on(a_library(a_bench()))
    projector = a_driver(alp)
    with pytest.raises(TypeError, match="positional"):
        alp.ProjInquire(2400)
    assert not projector.is_projecting()


def test_proj_inquire_ex_asks_the_wrong_function_for_a_float() -> None:
    def inquire(_device: Any, inquiry: Any, answer: Any) -> int:
        state = {2300: 2301, 2400: 1200}[getattr(inquiry, "value", inquiry)]
        ctypes.cast(answer, ctypes.POINTER(ctypes.c_int32))[0] = state
        return 0

    alp = a_meddled_alp(AlpProjInquire=inquire)
    projector = a_driver(alp)
    assert 0 < alp.ProjInquireEx(2400).value < 1e-300
    assert projector.is_projecting()


def test_alp_errors_have_no_code_and_unknown_codes_are_key_errors() -> None:
    library = a_library(a_bench())
    alp = alp4_on(library)
    projector = a_driver(alp)
    for code, error in ((1002, ALPError), (1021, KeyError)):
        library.inject("AlpDevHalt", 1, code)
        with pytest.raises(error) as caught:
            alp.Halt()
        assert not hasattr(caught.value, "code")
        library.inject("AlpDevInquire", 1, code)
        with pytest.raises(AlpCallError, match=f"AlpDevInquire returned ALP error {code}") as ours:
            _ = projector.info
        assert (ours.value.code, ours.value.call) == (code, "AlpDevInquire")


def test_a_refused_allocation_would_leave_a_dead_sequence_as_alp4libs_own() -> None:
    alp = alp4_on(a_library(a_bench()))
    projector = a_driver(alp)
    with pytest.raises(ALPError):
        alp.SeqAlloc(nbImg=MEMORY_PICTURES + 1)
    assert len(alp.Seqs) == 1
    del alp.Seqs[:]
    with pytest.raises(MemoryError):
        projector.allocate(MEMORY_PICTURES + 1)
    assert alp.Seqs == []


def test_free_seq_forgets_a_sequence_that_the_board_did_not_free_and_prints(
    capsys: pytest.CaptureFixture[str],
) -> None:
    library = a_library(a_bench())
    alp = alp4_on(library)
    projector = a_driver(alp)
    bank = projector.allocate(3)
    library.inject("AlpSeqFree", 1, 1005)
    with pytest.raises(AlpCallError, match="1005"):
        projector.free(bank)
    assert [each.value for each in alp.Seqs] == [bank]
    assert projector.info.free_pictures == MEMORY_PICTURES - 3
    assert capsys.readouterr().out == ""
    projector.free(bank)
    assert projector.info.free_pictures == MEMORY_PICTURES
    forgotten = alp.SeqAlloc(nbImg=3)
    library.inject("AlpSeqFree", 1, 1005)
    alp.FreeSeq(forgotten)
    assert alp.Seqs == []
    assert projector.info.free_pictures == MEMORY_PICTURES - 3
    assert "Unable to free" in capsys.readouterr().out


def test_the_end_of_a_projection_is_polled_because_waiting_for_it_has_no_time_out() -> None:
    clock = Clock()
    library = a_library(a_bench(1.0, clock))
    projector = a_driver(alp4_on(library))
    bank = projector.allocate(4)
    projector.set_timing(bank, Timing(1000, 900))
    projector.start(bank, 0, 3)
    assert projector.is_projecting()
    clock.now += 1.0
    assert not projector.is_projecting()
    projector.close()
    assert library.faults.calls["AlpProjWait"] == 0


def test_seq_put_would_hand_over_a_short_array() -> None:
    """It is read past its end then (ALP4lib's issues 14, 15 and 28)."""
    put: list[int] = []

    def seq_put(_device: Any, _sequence: Any, _offset: Any, load: Any, _pictures: Any) -> int:
        put.append(load.value)
        return 0

    alp = a_meddled_alp(AlpSeqPut=seq_put)
    projector = a_driver(alp)
    bank = projector.allocate(4)
    alp.SeqPut(some_pictures(1)[:, :2], alp.Seqs[-1], PicLoad=4)
    assert put == [4]
    with pytest.raises(PictureShapeError):
        projector.load(bank, 0, some_pictures(4)[:, :2].copy())
    assert put == [4]


def test_the_last_sequence_is_never_taken_for_the_one_meant() -> None:
    bench = a_bench()
    alp = alp4_on(a_library(bench))
    projector = a_driver(alp)
    one, two = projector.allocate(2), projector.allocate(3)
    projector.set_timing(one, Timing(200, 190))
    projector.set_timing(two, Timing(300, 290))
    projector.set_timing(one, Timing(250, 240))
    pictures = some_pictures(5)
    projector.load(one, 0, pictures[:2])
    projector.load(two, 0, pictures[2:])
    projector.start(one, 0, 1)
    projector.start(two, 0, 2)
    assert [each.picture_time_us for each in bench.record] == [250, 300]
    np.testing.assert_allclose(displayed(bench), light_of(bench, pictures), rtol=1e-12)
    projector.free(two)
    projector.start(one, 0, 1)
    assert [each.value for each in alp.Seqs] == [one]


ranges = st.tuples(st.integers(0, 6), st.integers(0, 6)).map(lambda pair: (min(pair), max(pair)))


@given(st.lists(ranges, min_size=1, max_size=8))
def test_the_first_frame_never_passes_the_last_whatever_was_shown_before(shown: list[tuple[int, int]]) -> None:
    """A first frame behind the last one is refused, and so is a last one before the first."""
    bench = a_bench()
    projector = a_projector(bench)
    pictures = some_pictures(7)
    bank = projector.allocate(7)
    projector.load(bank, 0, pictures)
    for first, last in shown:
        projector.start(bank, first, last)
    expected = np.concatenate([light_of(bench, pictures[first : last + 1]) for first, last in shown])
    np.testing.assert_allclose(displayed(bench), expected, rtol=1e-12)


def test_projections_are_finite_however_they_are_started() -> None:
    """ALP4lib's Run displays without end unless it is told not to."""
    bench = a_bench()
    library = a_library(bench)
    alp = alp4_on(library)
    projector = a_driver(alp)
    bank = projector.allocate(2)
    projector.start(bank, 0, 1, rounds=50)
    assert library.faults.calls["AlpProjStartCont"] == 0
    assert len(displayed(bench)) == 100
    with pytest.raises(ALPError):
        alp.Run(alp.Seqs[0])
    assert library.faults.calls["AlpProjStartCont"] == 1


def test_a_locked_bank_is_said_to_be_projected() -> None:
    projector = a_projector(a_bench(pace=1.0))
    bank = projector.allocate(3)
    projector.start(bank, 0, 2)
    with pytest.raises(DeviceStateError, match=r"bank 0 is being projected.*AlpSeqPut.*1008"):
        projector.load(bank, 0, some_pictures(3))
