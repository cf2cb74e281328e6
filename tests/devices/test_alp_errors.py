"""What goes wrong on an ALP board is said by its cause, and the board is given back."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import Any

import pytest

from devices.alp import AlpProjector, AlpSettings
from devices.errors import (
    AlpCallError,
    DeviceError,
    DeviceNotFoundError,
    DeviceNotFreeError,
    DeviceStateError,
    DeviceVanishedError,
)
from devices.projector import Timing
from sim_devices.alp_library import SimulatedAlpLibrary, alp4_on
from tests.devices.benches import (
    MEMORY_PICTURES,
    Meddler,
    a_bench,
    a_driver,
    a_library,
    a_meddled_alp,
    some_pictures,
)


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


def test_a_failing_start_leaves_the_device_free() -> None:
    library = a_library(a_bench())
    with pytest.raises(AlpCallError, match="1005"):
        a_driver(alp4_on(Meddler(library, AlpProjControl=lambda *_: 1005)))  # type: ignore[arg-type]
    a_driver(alp4_on(library)).close()


def live(library: SimulatedAlpLibrary, opened: list[AlpProjector]) -> None:
    """A projector's life that calls every function of the library that the driver uses, ended in any case."""
    library.device.set(2064, 1)  # mirrors left floating, so that waking them belongs to it
    projector = a_driver(alp4_on(library), AlpSettings(float_mirrors_at_end=True))
    opened.append(projector)
    try:
        bank = projector.allocate(4)
        projector.load(bank, 0, some_pictures(4))
        projector.set_timing(bank, Timing(100, 90))
        projector.start(bank, 2, 3)
        projector.start(bank, 0, 1, rounds=2)
        projector.status()
        projector.halt()
        projector.free(bank)
        projector.allocate(3)
    except DeviceError as error:
        with contextlib.suppress(DeviceError):
            projector.close()
        raise error
    projector.close()


def calls_of_a_life() -> Counter[str]:
    library = a_library(a_bench())
    live(library, [])
    return library.faults.calls


CALLS = calls_of_a_life()


def test_a_life_uses_all_functions_that_the_driver_has() -> None:
    assert set(CALLS) == {
        *("AlpDevAlloc", "AlpDevInquire", "AlpDevControl", "AlpDevHalt", "AlpDevFree"),
        *("AlpSeqAlloc", "AlpSeqControl", "AlpSeqInquire", "AlpSeqTiming", "AlpSeqPut", "AlpSeqFree"),
        *("AlpProjControl", "AlpProjInquire", "AlpProjStart", "AlpProjHalt"),
    }


@pytest.mark.parametrize("code", [1011, 1012, 1999])
@pytest.mark.parametrize(("call", "nth"), [(call, nth + 1) for call, n in CALLS.items() for nth in range(n)])
def test_an_error_at_any_call_is_named_and_the_board_is_given_back(call: str, nth: int, code: int) -> None:
    bench = a_bench()
    library = a_library(bench)
    library.inject(call, nth, code)
    opened: list[AlpProjector] = []
    with pytest.raises(DeviceError) as caught:
        live(library, opened)
    named = caught.value if isinstance(caught.value, AlpCallError) else caught.value.__cause__
    assert isinstance(named, AlpCallError)
    assert (named.call, named.code) == (call, code)
    assert isinstance(named, DeviceVanishedError) is (code != 1999)
    for projector in opened:
        projector.close()
    again = a_driver(alp4_on(library))
    assert again.info.free_pictures == MEMORY_PICTURES
    assert not bench.is_displaying()
    again.close()


@pytest.mark.parametrize("code", [1003, 1011, 1012])
def test_a_lost_connection_says_what_to_check(code: int) -> None:
    library = a_library(a_bench())
    projector = a_driver(alp4_on(library))
    library.inject("AlpProjInquire", 1, code)
    with pytest.raises(
        DeviceVanishedError, match=r"AlpProjInquire.*USB connection lost; check cable and power"
    ) as caught:
        projector.is_projecting()
    assert isinstance(caught.value, ConnectionError)
    assert isinstance(caught.value, AlpCallError)


def test_a_board_that_is_gone_when_it_is_closed_can_be_closed_when_it_is_back() -> None:
    library = a_library(a_bench())
    projector = a_driver(alp4_on(library))
    projector.allocate(2)
    for call in ("AlpDevHalt", "AlpSeqFree", "AlpDevFree"):
        library.inject(call, 1, 1011)
    with pytest.raises(DeviceNotFreeError, match=r"stays allocated.*USB connection lost") as caught:
        projector.close()
    assert len(caught.value.__notes__) == 2
    projector.close()
    a_driver(alp4_on(library)).close()


def test_a_board_that_the_library_no_longer_knows_is_closed_and_said_to_be_lost() -> None:
    library = a_library(a_bench())
    projector = a_driver(alp4_on(library))
    library.inject("AlpDevFree", 1, 1003)
    with pytest.raises(DeviceVanishedError, match="AlpDevFree"):
        projector.close()
    projector.close()


def test_a_board_whose_process_crashed_explains_itself_until_it_is_power_cycled() -> None:
    library = a_library(a_bench())
    library.hold()
    with pytest.raises(DeviceNotFreeError, match=r"held by another program or by one that crashed.*power-cycle"):
        a_driver(alp4_on(library))
    library.release()
    a_driver(alp4_on(library)).close()


def test_a_call_refused_for_another_one_says_so() -> None:
    library = a_library(a_bench())
    projector = a_driver(alp4_on(library))
    library.inject("AlpProjInquire", 1, 1004)
    with pytest.raises(AlpCallError, match=r"1004.*in use by another call"):
        projector.is_projecting()


def test_a_bank_that_could_not_be_set_nor_freed_is_freed_on_closing() -> None:
    library = a_library(a_bench())
    projector = a_driver(alp4_on(library))
    library.inject("AlpSeqControl", 2, 1005)
    library.inject("AlpSeqFree", 1, 1006)
    with pytest.raises(AlpCallError, match=r"AlpSeqControl.*1005") as caught:
        projector.allocate(5)
    assert "could not be freed either" in caught.value.__notes__[0]
    assert projector.info.free_pictures == MEMORY_PICTURES - 5
    projector.close()
    assert a_driver(alp4_on(library)).info.free_pictures == MEMORY_PICTURES
