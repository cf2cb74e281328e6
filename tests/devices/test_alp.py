"""The ALP driver: the projector's promise, its settings and its timing."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest

from devices.alp import AlpProjector, AlpSettings
from devices.errors import (
    AlpCallError,
    DeviceNotFoundError,
    DeviceStateError,
    DeviceVanishedError,
    TimingRefusedError,
)
from devices.projector import Projector, Timing
from sim_devices.alp_library import alp4_on
from sim_devices.bench import OpticalBench
from tests.devices.benches import (
    MEMORY_PICTURES,
    MIN_PICTURE_TIME_US,
    Meddler,
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


def test_a_setting_that_does_not_read_back_is_an_error() -> None:
    library = a_library(a_bench())

    def inquire(device: Any, sequence: Any, inquiry: int, answer: Any) -> int:
        code = library.AlpSeqInquire(device, sequence, inquiry, answer)
        if inquiry == 2110:
            answer._obj.value = 0
        return code

    with pytest.raises(DeviceStateError, match="set to 2 in setting 2110 and reads back 0"):
        a_driver(alp4_on(Meddler(library, AlpSeqInquire=inquire)))  # type: ignore[arg-type]
    assert a_driver(alp4_on(library)).info.free_pictures == MEMORY_PICTURES


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
        (Timing(100, 90), (2, -2), Timing(102, 88, 0, 90)),
        (Timing(5000, 4000), (-50, 40), Timing(4950, 4040, 0, 4000)),
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
    assert projector.set_timing(bank, Timing(100, 98)) == Timing(100, 98, 0, 98)


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


def a_set_driver(bench: OpticalBench, **settings: Any) -> AlpProjector:
    return a_driver(alp4_on(a_library(bench)), AlpSettings(**settings))


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("sync_polarity", "up", "sync_polarity is 'up'; allowed: high or low"),
        ("binary_mode", "grey", "binary_mode is 'grey'; allowed: normal or uninterrupted"),
        ("device_number", -1, "device_number is -1"),
    ],
)
def test_settings_that_cannot_be_are_refused(field: str, value: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        AlpSettings(**{field: value})


@pytest.mark.parametrize(("polarity", "code"), [("high", 2006), ("low", 2007)])
def test_the_sync_polarity_is_set_and_on_the_record(polarity: str, code: int) -> None:
    library = a_library(a_bench())
    projector = a_driver(alp4_on(library), AlpSettings(sync_polarity=polarity))  # type: ignore[arg-type]
    assert library.device.ask(2004) == code
    assert projector.info.sync_polarity == polarity


def test_a_polarity_that_does_not_read_back_is_an_error_and_the_board_is_free() -> None:
    library = a_library(a_bench())
    deaf = Meddler(library, AlpDevControl=lambda *_: 0)
    with pytest.raises(DeviceStateError, match="set to 2007 in setting 2004 and reads back 2006"):
        a_driver(alp4_on(deaf), AlpSettings(sync_polarity="low"))  # type: ignore[arg-type]
    a_driver(alp4_on(library)).close()


def test_everything_the_board_says_of_itself_is_on_the_record() -> None:
    library = a_library(a_bench(), serial=777)
    info = a_driver(alp4_on(library)).info
    assert (info.serial, info.firmware, info.dmd_type_code) == ("777", "0x04030000", 0)
    assert (info.memory_pictures, info.max_picture_time_us, info.max_sync_delay_us) == (
        MEMORY_PICTURES,
        10_000_000,
        130_000,
    )
    assert (info.binary_mode, info.sync_polarity) == ("normal", "high")


def test_the_board_with_the_number_asked_for_is_taken_and_no_other() -> None:
    library = a_library(a_bench(), serial=777)
    a_driver(alp4_on(library), AlpSettings(device_number=777)).close()
    with pytest.raises(DeviceNotFoundError, match=r"no ALP board 778 answers.*serial number"):
        a_driver(alp4_on(library), AlpSettings(device_number=778))


def test_uninterrupted_pictures_are_displayed_all_of_their_time_and_faster() -> None:
    bench = a_bench()
    projector = a_set_driver(bench, binary_mode="uninterrupted")
    shortest = projector.info.min_picture_time_us
    assert (projector.info.binary_mode, shortest) == ("uninterrupted", MIN_PICTURE_TIME_US - 2)
    bank = projector.allocate(2)
    assert projector.set_timing(bank, Timing(shortest, shortest)) == Timing(shortest, shortest, 0, shortest)
    projector.start(bank, 0, 1)
    (shown,) = bench.record
    assert (shown.picture_time_us, shown.illumination_time_us) == (shortest, shortest)


def test_uninterrupted_pictures_cannot_be_displayed_for_less_than_their_time() -> None:
    projector = a_set_driver(a_bench(), binary_mode="uninterrupted")
    bank = projector.allocate(1)
    with pytest.raises(TimingRefusedError, match=r"90 µs cannot be had in uninterrupted.*allowed: 100 µs"):
        projector.set_timing(bank, Timing(100, 90))


def test_a_sync_delay_that_the_binary_mode_ignores_is_refused() -> None:
    projector = a_set_driver(a_bench(), binary_mode="uninterrupted")
    bank = projector.allocate(1)
    with pytest.raises(TimingRefusedError, match="sync delay of 20 µs and reads back 0 µs"):
        projector.set_timing(bank, Timing(100, 100, sync_delay_us=20))


def test_a_binary_mode_that_does_not_read_back_is_an_error() -> None:
    library = a_library(a_bench())

    def control(device: Any, sequence: Any, setting: Any, value: Any) -> int:
        return 0 if setting == 2104 else library.AlpSeqControl(device, sequence, setting, value)

    alp = alp4_on(Meddler(library, AlpSeqControl=control))  # type: ignore[arg-type]
    with pytest.raises(DeviceStateError, match="set to 2106 in setting 2104 and reads back 2105"):
        a_driver(alp, AlpSettings(binary_mode="uninterrupted"))


def test_the_sync_delay_comes_before_the_illumination_and_the_pulse_lasts_until_its_end_by_default() -> None:
    projector = a_projector(a_bench())
    bank = projector.allocate(1)
    assert projector.set_timing(bank, Timing(100, 70, sync_delay_us=20)) == Timing(100, 70, 20, 90)
    with pytest.raises(
        TimingRefusedError, match=r"sync delay of 29 µs and a sync pulse of 0 µs.*have to fit in as well"
    ):
        projector.set_timing(bank, Timing(100, 70, sync_delay_us=29))


@pytest.mark.parametrize(
    ("timing", "reason"),
    [
        (Timing(10_000_001, 90), "above the 10000000 µs.*or less"),
        (Timing(500_000, 90, sync_delay_us=130_001), "allowed: 0 to 130000 µs"),
        (Timing(100, 90, sync_delay_us=-1), "sync delay of -1 µs"),
        (Timing(100, 90, sync_pulse_us=-1), "sync pulse of -1 µs cannot be"),
        (Timing(100, 90, sync_pulse_us=101), "sync pulse of 101 µs"),
    ],
)
def test_times_that_no_board_takes_are_refused(timing: Timing, reason: str) -> None:
    projector = a_projector(a_bench())
    with pytest.raises(TimingRefusedError, match=reason):
        projector.set_timing(projector.allocate(1), timing)


def test_a_range_is_not_repeated_more_often_than_the_board_can() -> None:
    bench = a_bench()
    projector = a_projector(bench)
    bank = projector.allocate(1)
    with pytest.raises(DeviceStateError, match=r"does not show a range 2000000 times.*fewer rounds"):
        projector.start(bank, 0, 0, rounds=2_000_000)
    projector.start(bank, 0, 0)
    assert len(displayed(bench)) == 1


def test_a_range_that_does_not_read_back_is_never_shown_and_set_anew_the_next_time() -> None:
    bench = a_bench()
    library = a_library(bench)
    projector = a_driver(alp4_on(library))
    pictures = some_pictures(6)
    bank = projector.allocate(6)
    projector.load(bank, 0, pictures)
    projector.start(bank, 0, 1)
    library.inject("AlpSeqInquire", 1, 1011)  # the first frame was set and is not known to be
    with pytest.raises(DeviceVanishedError):
        projector.start(bank, 1, 1)
    projector.start(bank, 0, 1)
    library.inject("AlpSeqInquire", 2, 1011)  # and now the last one
    with pytest.raises(DeviceVanishedError):
        projector.start(bank, 1, 3)
    projector.start(bank, 4, 5)
    projector.start(bank, 0, 1)
    np.testing.assert_allclose(displayed(bench), light_of(bench, pictures[[0, 1, 0, 1, 4, 5, 0, 1]]), rtol=1e-12)


def test_settings_that_stay_are_not_sent_again() -> None:
    library = a_library(a_bench())
    projector = a_driver(alp4_on(library))
    bank = projector.allocate(4)
    projector.start(bank, 1, 2, rounds=3)
    sent = library.faults.calls["AlpSeqControl"]
    projector.start(bank, 1, 2, rounds=3)
    assert library.faults.calls["AlpSeqControl"] == sent


@pytest.mark.parametrize("known", [(), (2052,), (2050, 2052)])
def test_temperatures_that_the_board_does_not_know_are_left_out(known: tuple[int, ...]) -> None:
    library = a_library(a_bench())
    library.device.temperatures_c = {2050: 41.5, 2051: 38.25, 2052: -3.5}
    for inquiry in {2050, 2051, 2052} - set(known):
        del library.device.temperatures_c[inquiry]
    expected = {2050: ("ddc_fpga_c", 41.5), 2051: ("apps_fpga_c", 38.25), 2052: ("pcb_c", -3.5)}
    assert a_driver(alp4_on(library)).status() == dict(expected[inquiry] for inquiry in known)


def test_a_temperature_below_zero_is_read_right_from_libraries_that_write_four_bytes() -> None:
    library = a_library(a_bench())

    def inquire(device: Any, asked: int, answer: Any) -> int:
        if asked != 2052:
            return library.AlpDevInquire(device, asked, answer)
        ctypes.cast(answer, ctypes.POINTER(ctypes.c_int32))[0] = -896
        return 0

    projector = a_driver(alp4_on(Meddler(library, AlpDevInquire=inquire)))  # type: ignore[arg-type]
    assert projector.status()["pcb_c"] == -3.5


@pytest.mark.parametrize("asked", [True, False])
def test_mirrors_float_after_closing_where_that_is_asked_for_and_wake_on_the_next_opening(asked: bool) -> None:
    bench = a_bench()
    library = a_library(bench)
    projector = a_driver(alp4_on(library), AlpSettings(float_mirrors_at_end=asked))
    bank = projector.allocate(2)
    projector.start(bank, 0, 1)
    assert not library.device.mirrors_float
    projector.close()
    assert library.device.mirrors_float is asked
    projector = a_driver(alp4_on(library))
    assert not library.device.mirrors_float
    projector.start(projector.allocate(1), 0, 0)
    assert len(displayed(bench)) == 3


def test_mirrors_float_after_the_memory_is_freed_and_before_the_board_is() -> None:
    library = a_library(a_bench(pace=1.0))
    called: list[str] = []

    def noting(name: str) -> Any:
        def call(*arguments: Any) -> int:
            called.append(name)
            return int(getattr(library, name)(*arguments))

        return call

    names = ("AlpDevHalt", "AlpSeqFree", "AlpDevControl", "AlpDevFree")
    alp = alp4_on(Meddler(library, **{name: noting(name) for name in names}))  # type: ignore[arg-type]
    projector = a_driver(alp, AlpSettings(float_mirrors_at_end=True))
    projector.start(projector.allocate(5), 0, 4)
    called.clear()
    projector.close()
    assert called == ["AlpDevHalt", "AlpSeqFree", "AlpDevControl", "AlpDevFree"]


def test_a_board_that_cannot_let_its_mirrors_float_says_so_before_anything_else() -> None:
    library = a_library(a_bench())
    library.device.unknown.add(2064)
    with pytest.raises(DeviceStateError, match="float_mirrors_at_end to false"):
        a_driver(alp4_on(library), AlpSettings(float_mirrors_at_end=True))
    a_driver(alp4_on(library)).close()


def test_mirrors_that_do_not_wake_are_an_error_that_says_what_to_do() -> None:
    library = a_library(a_bench())
    library.device.set(2064, 1)
    library.inject("AlpDevControl", 1, 1018)
    with pytest.raises(AlpCallError, match=r"1018.*did not come back from floating; power-cycle"):
        a_driver(alp4_on(library))
    a_driver(alp4_on(library)).close()
