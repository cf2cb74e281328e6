"""The stand-in for ViALUX's library: return codes, and what an unmodified ALP4lib gets from it."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest
from ALP4 import ALP4, ALPError
from numpy.typing import NDArray

from sim_devices.alp_library import SimulatedAlpLibrary, alp4_on
from sim_devices.bench import BenchSettings, OpticalBench

HEIGHT, WIDTH, ROW_BYTES, MEMORY = 6, 20, 4, 50
OK, NOT_IDLE, NOT_AVAILABLE, NOT_READY = 0, 1002, 1003, 1004
PARM_INVALID, ADDR_INVALID, MEMORY_FULL, SEQ_IN_USE = 1005, 1006, 1007, 1008
HALTED, POWER_DOWN = 1009, 1018
SYNCH_POLARITY, DMD_MODE, FLOAT, RESUME = 2004, 2064, 1, 0
SEQ_REPEAT, FIRST_FRAME, LAST_FRAME, BITNUM, BIN_MODE, DATA_FORMAT = 2100, 2101, 2102, 2103, 2104, 2110
MSB_ALIGN, LSB_ALIGN, TOPDOWN, BOTTOMUP = 0, 1, 2, 3
PROJ_MODE, MASTER, SLAVE, INVERSION, PROJ_STATE = 2300, 2301, 2302, 2306, 2400

MIRROR_LIGHT = np.random.default_rng(0).random((HEIGHT, WIDTH))


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def a_bench(pace: float = 0.0, clock: Clock | None = None) -> OpticalBench:
    settings = BenchSettings(gain=1.0, variance=0.0, shot_noise=False, pace=pace)
    return OpticalBench(settings, MIRROR_LIGHT, clock or Clock(), light_on=True)


def a_library(bench: OpticalBench, **options: Any) -> SimulatedAlpLibrary:
    return SimulatedAlpLibrary(bench, ROW_BYTES, 0, MEMORY, 44, **options)


def some_bits(n: int) -> NDArray[np.uint8]:
    """Pictures [n, HEIGHT, WIDTH] of zeros and ones."""
    return np.random.default_rng(1).integers(0, 2, (n, HEIGHT, WIDTH), dtype=np.uint8)


def packed(bits: NDArray[np.uint8]) -> NDArray[np.uint8]:
    rows = np.zeros((*bits.shape[:2], ROW_BYTES), np.uint8)
    rows[:, :, : -(-WIDTH // 8)] = np.packbits(bits, axis=2)
    return rows


def displayed(bench: OpticalBench) -> NDArray[np.float64]:
    return np.concatenate([each.light for each in bench.record])


def expected_light(bench: OpticalBench, bits: NDArray[np.uint8]) -> NDArray[np.float64]:
    light: NDArray[np.float64] = np.einsum("khw,hw->k", bits, bench.mirror_light)
    return light


class TestThroughAlp4lib:
    """ALP4lib as it is installed, on the stand-in."""

    def upload(self, alp: Any, pictures: NDArray[np.uint8], data_format: int | None) -> Any:
        sequence = alp.SeqAlloc(nbImg=len(pictures), bitDepth=1)
        if data_format is not None:
            alp.SeqControl(DATA_FORMAT, data_format, SequenceId=sequence)
        alp.SeqPut(imgData=pictures.ravel())
        alp.SetTiming(SequenceId=sequence, pictureTime=200)
        return sequence

    def show(self, pictures: NDArray[np.uint8], data_format: int | None) -> tuple[OpticalBench, NDArray[np.float64]]:
        bench = a_bench()
        alp = alp4_on(a_library(bench))
        alp.Initialize()
        sequence = self.upload(alp, pictures, data_format)
        alp.Run(sequence, loop=False)
        alp.Wait()
        alp.Halt()
        alp.FreeSeq(sequence)
        alp.Free()
        return bench, displayed(bench)

    def test_the_object_is_the_packages_own(self) -> None:
        alp = alp4_on(a_library(a_bench()))
        assert type(alp) is ALP4
        alp.Initialize()
        assert (alp.nSizeX, alp.nSizeY) == (WIDTH, HEIGHT)

    def test_packed_and_byte_pictures_of_the_same_bits_shine_alike(self) -> None:
        bits = some_bits(5)
        for pictures, data_format in (
            (packed(bits), TOPDOWN),
            (packed(bits)[:, ::-1].copy(), BOTTOMUP),
            (bits * np.uint8(255), None),
            (bits * np.uint8(128), MSB_ALIGN),
            (bits, LSB_ALIGN),
        ):
            bench, light = self.show(pictures, data_format)
            np.testing.assert_allclose(light, expected_light(bench, bits), rtol=1e-12)

    def test_packed_pictures_without_the_packed_format_shine_differently(self) -> None:
        bits = some_bits(1)
        room = np.zeros(
            (1, HEIGHT * WIDTH), np.uint8
        )  # what one byte a mirror reads, so that nothing is read past the end
        room[0, : HEIGHT * ROW_BYTES] = packed(bits).ravel()
        bench, light = self.show(room, None)
        assert abs(light[0] - expected_light(bench, bits)[0]) > 0.1

    def test_first_last_and_repeat_select_what_is_displayed(self) -> None:
        bench = a_bench()
        alp = alp4_on(a_library(bench))
        alp.Initialize()
        bits = some_bits(6)
        sequence = self.upload(alp, packed(bits), TOPDOWN)
        alp.SeqControl(FIRST_FRAME, 2, SequenceId=sequence)
        alp.SeqControl(LAST_FRAME, 4, SequenceId=sequence)
        alp.SeqControl(SEQ_REPEAT, 3, SequenceId=sequence)
        alp.Run(sequence, loop=False)
        np.testing.assert_allclose(displayed(bench), np.tile(expected_light(bench, bits[2:5]), 3), rtol=1e-12)

    def test_pictures_are_loaded_where_the_offset_says(self) -> None:
        bench = a_bench()
        alp = alp4_on(a_library(bench))
        alp.Initialize()
        bits = some_bits(5)
        sequence = self.upload(alp, packed(bits), TOPDOWN)
        alp.SeqPut(packed(bits[:2]), sequence, PicOffset=3, PicLoad=2)
        alp.Run(sequence, loop=False)
        np.testing.assert_allclose(displayed(bench), expected_light(bench, bits[[0, 1, 2, 0, 1]]), rtol=1e-12)

    def test_a_refusal_is_an_alp_error(self) -> None:
        alp = alp4_on(a_library(a_bench()))
        alp.Initialize()
        with pytest.raises(ALPError, match="memory"):
            alp.SeqAlloc(nbImg=MEMORY + 1)

    def test_pictures_that_were_never_loaded_shine_with_all_mirrors(self) -> None:
        bench = a_bench()
        alp = alp4_on(a_library(bench))
        alp.Initialize()
        alp.Run(alp.SeqAlloc(nbImg=2), loop=False)
        np.testing.assert_allclose(displayed(bench), bench.mirror_light.sum())

    def test_the_first_sequence_is_number_0_which_alp4lib_takes_for_none_given(self) -> None:
        bench = a_bench()
        alp = alp4_on(a_library(bench))
        alp.Initialize()
        bits = some_bits(2)
        sequence = self.upload(alp, packed(bits), TOPDOWN)
        other = self.upload(alp, packed(bits), TOPDOWN)
        assert (sequence.value, other.value) == (0, 1)
        alp.SeqPut(packed(bits[::-1]), sequence)
        for each in (sequence, other):
            alp.Run(each, loop=False)
        shown = expected_light(bench, bits)
        np.testing.assert_allclose(displayed(bench), [*shown, *shown[::-1]], rtol=1e-12)


class Wire:
    """The C functions, called as a C program would, with the codes they return."""

    def __init__(self, library: SimulatedAlpLibrary) -> None:
        self.library = library
        self.device = ctypes.c_ulong(0)
        self.allocated = library.AlpDevAlloc(ctypes.c_long(0), 0, ctypes.byref(self.device))

    def sequence(self, n: int, planes: int = 1) -> tuple[int, Any]:
        number = ctypes.c_long(0)
        code = self.library.AlpSeqAlloc(self.device, ctypes.c_long(planes), ctypes.c_long(n), ctypes.byref(number))
        return code, number

    def ask(self, inquiry: int, sequence: Any = None) -> int:
        answer = ctypes.c_long(-1)
        if sequence is None:
            call = self.library.AlpProjInquire if inquiry >= 2300 else self.library.AlpDevInquire
            code = call(self.device, inquiry, ctypes.byref(answer))
        else:
            code = self.library.AlpSeqInquire(self.device, sequence, inquiry, ctypes.byref(answer))
        return answer.value if code == OK else code

    def control(self, sequence: Any, setting: int, value: int) -> int:
        return self.library.AlpSeqControl(self.device, sequence, setting, ctypes.c_long(value))

    def timing(self, sequence: Any, illumination_us: int, picture_us: int, delay_us: int = 0, pulse_us: int = 0) -> int:
        times = map(ctypes.c_long, (illumination_us, picture_us, delay_us, pulse_us, 0))
        return self.library.AlpSeqTiming(self.device, sequence, *times)

    def device_control(self, setting: int, value: int) -> int:
        return self.library.AlpDevControl(self.device, setting, ctypes.c_long(value))

    def put(self, sequence: Any, offset: int, load: int, pictures: NDArray[np.uint8] | None) -> int:
        pointer = ctypes.c_void_p(None) if pictures is None else pictures.ctypes.data_as(ctypes.c_void_p)
        return self.library.AlpSeqPut(self.device, sequence, ctypes.c_long(offset), ctypes.c_long(load), pointer)


@pytest.fixture
def wire() -> Wire:
    return Wire(a_library(a_bench()))


def test_a_device_is_handed_out_once_until_it_is_freed(wire: Wire) -> None:
    other = ctypes.c_ulong(0)
    assert wire.allocated == OK
    assert wire.library.AlpDevAlloc(0, 0, ctypes.byref(other)) == NOT_READY
    assert wire.library.AlpDevFree(wire.device) == OK
    assert wire.library.AlpDevAlloc(0, 0, ctypes.byref(other)) == OK


def test_a_serial_number_that_is_not_there_is_not_online() -> None:
    assert a_library(a_bench(), serial=7).AlpDevAlloc(8, 0, ctypes.byref(ctypes.c_ulong(0))) == 1001


def test_calls_without_the_device_are_refused(wire: Wire) -> None:
    _, sequence = wire.sequence(1)
    wire.library.AlpDevFree(wire.device)
    answer = ctypes.byref(ctypes.c_long(0))
    assert wire.library.AlpDevInquire(wire.device, 2000, answer) == NOT_AVAILABLE
    assert wire.library.AlpDevHalt(wire.device) == NOT_AVAILABLE
    assert wire.library.AlpProjStart(wire.device, sequence) == NOT_AVAILABLE
    assert wire.library.AlpDevFree(wire.device) == NOT_AVAILABLE


def test_memory_is_given_out_and_comes_back(wire: Wire) -> None:
    code, sequence = wire.sequence(30)
    assert (code, wire.ask(2003)) == (OK, MEMORY - 30)
    assert wire.sequence(21)[0] == MEMORY_FULL
    assert wire.library.AlpDevHalt(wire.device) == OK
    assert wire.ask(2003) == MEMORY - 30
    assert wire.library.AlpSeqFree(wire.device, sequence) == OK
    assert wire.ask(2003) == MEMORY
    assert wire.sequence(2, planes=8)[0] == OK
    assert wire.ask(2003) == MEMORY - 16


def test_what_does_not_exist_is_an_invalid_parameter(wire: Wire) -> None:
    _, sequence = wire.sequence(3)
    nothing = ctypes.c_long(99)
    assert wire.sequence(0)[0] == PARM_INVALID
    assert wire.library.AlpSeqFree(wire.device, nothing) == PARM_INVALID
    assert wire.library.AlpProjStart(wire.device, nothing) == PARM_INVALID
    assert wire.ask(2999, sequence) == PARM_INVALID
    assert wire.control(sequence, DATA_FORMAT, 4) == PARM_INVALID
    assert wire.control(sequence, 2118, 1) == PARM_INVALID
    assert wire.put(sequence, 2, 2, np.zeros(99, np.uint8)) == PARM_INVALID
    assert wire.put(sequence, 0, 0, None) == ADDR_INVALID


def test_the_first_frame_never_passes_the_last(wire: Wire) -> None:
    _, sequence = wire.sequence(10)
    assert wire.control(sequence, LAST_FRAME, 4) == OK
    assert wire.control(sequence, FIRST_FRAME, 5) == PARM_INVALID
    assert wire.control(sequence, FIRST_FRAME, 4) == OK
    assert wire.control(sequence, LAST_FRAME, 3) == PARM_INVALID
    assert wire.control(sequence, LAST_FRAME, 10) == PARM_INVALID


def test_defaults_are_a_byte_a_mirror_all_pictures_once_30_a_second(wire: Wire) -> None:
    _, sequence = wire.sequence(10)
    asked = (DATA_FORMAT, FIRST_FRAME, LAST_FRAME, SEQ_REPEAT, BIN_MODE, 2203, 2204, 2211)
    assert [wire.ask(each, sequence) for each in asked] == [0, 0, 9, 1, 2105, 33_334, 33_332, 44]


def test_timing_is_read_back_and_refused_where_it_does_not_fit(wire: Wire) -> None:
    _, sequence = wire.sequence(1)
    assert wire.timing(sequence, 60, 100) == OK
    assert (wire.ask(2203, sequence), wire.ask(2204, sequence)) == (100, 60)
    assert wire.timing(sequence, 40, 43) == PARM_INVALID
    assert wire.timing(sequence, 101, 100) == PARM_INVALID
    assert (wire.ask(2203, sequence), wire.ask(2204, sequence)) == (100, 60)


def test_in_normal_mode_a_picture_is_followed_by_a_dark_phase(wire: Wire) -> None:
    _, sequence = wire.sequence(1)
    accepted = {
        wanted: (wire.timing(sequence, *wanted), wire.ask(2203, sequence), wire.ask(2204, sequence))
        for wanted in ((98, 100), (99, 100), (100, 100), (0, 100), (70, 0), (10, 0), (0, 0))
    }
    assert accepted == {
        (98, 100): (OK, 100, 98),
        (99, 100): (PARM_INVALID, 100, 98),
        (100, 100): (PARM_INVALID, 100, 98),
        (0, 100): (OK, 100, 98),
        (70, 0): (OK, 72, 70),
        (10, 0): (OK, 44, 10),
        (0, 0): (OK, 33_334, 33_332),
    }


def test_without_a_dark_phase_the_picture_lasts_all_its_time(wire: Wire) -> None:
    _, sequence = wire.sequence(1)
    wire.timing(sequence, 60, 100)
    assert wire.control(sequence, BIN_MODE, 2106) == OK
    assert wire.ask(2204, sequence) == 100
    assert wire.timing(sequence, 100, 100) == OK


def test_the_shortest_picture_time_depends_on_mode_and_bit_number(wire: Wire) -> None:
    _, sequence = wire.sequence(1, planes=3)
    shortest = []
    for setting, value in ((BITNUM, 3), (BITNUM, 2), (BITNUM, 1), (BIN_MODE, 2106), (BIN_MODE, 2105)):
        assert wire.control(sequence, setting, value) == OK
        shortest.append(wire.ask(2211, sequence))
    assert shortest == [7 * 44, 3 * 44, 44, 42, 44]
    wire.control(sequence, BIN_MODE, 2106)
    assert wire.timing(sequence, 42, 42) == OK
    wire.control(sequence, BIN_MODE, 2105)
    assert (wire.ask(2203, sequence), wire.ask(2204, sequence)) == (44, 42)


def test_numbers_begin_at_0_and_are_given_out_again(wire: Wire) -> None:
    sequences = [wire.sequence(1)[1] for _ in range(3)]
    wire.library.AlpSeqFree(wire.device, sequences[1])
    assert [*(each.value for each in sequences), wire.sequence(1)[1].value] == [0, 1, 2, 1]


def test_external_triggers_and_endless_projection_are_refused_not_ignored(wire: Wire) -> None:
    _, sequence = wire.sequence(1)
    assert wire.library.AlpProjControl(wire.device, PROJ_MODE, SLAVE) == PARM_INVALID
    assert wire.library.AlpProjControl(wire.device, PROJ_MODE, MASTER) == OK
    assert wire.library.AlpProjStartCont(wire.device, sequence) == PARM_INVALID


def test_inversion_turns_dark_into_bright() -> None:
    bench = a_bench()
    wire = Wire(a_library(bench))
    _, sequence = wire.sequence(3)
    bits = some_bits(3)
    wire.control(sequence, DATA_FORMAT, TOPDOWN)
    wire.put(sequence, 0, 0, packed(bits))
    wire.library.AlpProjControl(wire.device, INVERSION, 1)
    wire.library.AlpProjStart(wire.device, sequence)
    np.testing.assert_allclose(displayed(bench), expected_light(bench, 1 - bits), rtol=1e-12)


def test_a_busy_device_locks_what_is_displayed_and_nothing_else() -> None:
    clock = Clock()
    wire = Wire(a_library(a_bench(pace=1.0, clock=clock)))
    (_, shown), (_, other) = wire.sequence(10), wire.sequence(10)
    for sequence in (shown, other):
        wire.control(sequence, DATA_FORMAT, TOPDOWN)
        wire.timing(sequence, 90, 100)
    pictures = packed(some_bits(10))
    assert wire.library.AlpProjStart(wire.device, shown) == OK
    assert wire.ask(PROJ_STATE) == 1200
    assert wire.put(shown, 0, 10, pictures) == SEQ_IN_USE
    assert wire.library.AlpSeqFree(wire.device, shown) == SEQ_IN_USE
    assert wire.put(other, 0, 10, pictures) == OK
    assert wire.library.AlpProjStart(wire.device, other) == NOT_IDLE
    assert wire.library.AlpProjControl(wire.device, PROJ_MODE, MASTER) == NOT_IDLE
    assert wire.library.AlpDevFree(wire.device) == NOT_IDLE
    clock.now += 1001e-6
    assert wire.ask(PROJ_STATE) == 1201
    assert wire.put(shown, 0, 10, pictures) == OK


def test_halting_makes_the_device_idle() -> None:
    wire = Wire(a_library(a_bench(pace=1.0)))
    _, sequence = wire.sequence(10)
    wire.library.AlpProjStart(wire.device, sequence)
    assert wire.ask(PROJ_STATE) == 1200
    assert wire.library.AlpProjHalt(wire.device) == OK
    assert wire.ask(PROJ_STATE) == 1201
    assert wire.library.AlpDevFree(wire.device) == OK


def test_an_upload_takes_declared_time_that_setting_the_timing_waits_for() -> None:
    bench = a_bench()
    wire = Wire(a_library(bench, upload_mb_per_s=2.0))
    _, sequence = wire.sequence(10)
    assert bench.time_us == 0.0
    assert wire.library.AlpSeqTiming(wire.device, sequence, 90, 100, 0, 0, 0) == OK
    assert bench.time_us == 10 * HEIGHT * ROW_BYTES / 2.0


def test_the_sync_pulse_begins_with_the_picture_and_ends_with_the_illumination_unless_it_is_told_otherwise(
    wire: Wire,
) -> None:
    _, sequence = wire.sequence(1)
    assert (wire.ask(2205, sequence), wire.ask(2206, sequence), wire.ask(2209, sequence)) == (0, 33_332, 130_000)
    assert wire.timing(sequence, 60, 100, delay_us=30) == OK
    assert [wire.ask(each, sequence) for each in (2203, 2204, 2205, 2206)] == [100, 60, 30, 90]
    assert wire.timing(sequence, 60, 100, delay_us=30, pulse_us=10) == OK
    assert wire.ask(2206, sequence) == 10
    assert wire.timing(sequence, 0, 100, delay_us=30) == OK
    assert (wire.ask(2204, sequence), wire.ask(2206, sequence)) == (68, 98)


@pytest.mark.parametrize(("delay_us", "pulse_us"), [(39, 0), (130_001, 0), (-1, 0), (0, 101), (0, -1)], ids=str)
def test_sync_times_that_do_not_fit_are_refused_and_nothing_changes(wire: Wire, delay_us: int, pulse_us: int) -> None:
    _, sequence = wire.sequence(1)
    wire.timing(sequence, 60, 100)
    assert wire.timing(sequence, 60, 100, delay_us, pulse_us) == PARM_INVALID
    assert [wire.ask(each, sequence) for each in (2203, 2204, 2205, 2206)] == [100, 60, 0, 60]


def test_without_a_dark_phase_illumination_and_delay_are_ignored(wire: Wire) -> None:
    _, sequence = wire.sequence(1)
    wire.control(sequence, BIN_MODE, 2106)
    assert wire.timing(sequence, 60, 100, delay_us=30) == OK
    assert [wire.ask(each, sequence) for each in (2203, 2204, 2205, 2206)] == [100, 100, 0, 100]


def test_a_delay_of_the_trigger_input_is_refused_not_ignored(wire: Wire) -> None:
    _, sequence = wire.sequence(1)
    assert wire.library.AlpSeqTiming(wire.device, sequence, 60, 100, 0, 0, 5) == PARM_INVALID


def test_temperatures_are_told_in_256ths_of_a_degree_and_unknown_ones_not_at_all(wire: Wire) -> None:
    wire.library.device.temperatures_c = {2050: 41.5, 2052: -0.25}
    assert [wire.ask(each) for each in (2050, 2051, 2052)] == [41 * 256 + 128, PARM_INVALID, -64]


def test_device_settings_begin_with_their_defaults_and_need_an_idle_board() -> None:
    clock = Clock()
    wire = Wire(a_library(a_bench(pace=1.0, clock=clock)))
    assert wire.ask(SYNCH_POLARITY) == 2006
    assert wire.device_control(SYNCH_POLARITY, 2007) == OK
    assert wire.device_control(SYNCH_POLARITY, 5) == PARM_INVALID
    assert wire.ask(SYNCH_POLARITY) == 2007
    assert wire.device_control(SYNCH_POLARITY, 0) == OK
    assert wire.ask(SYNCH_POLARITY) == 2006
    _, sequence = wire.sequence(1)
    wire.library.AlpProjStart(wire.device, sequence)
    assert wire.device_control(SYNCH_POLARITY, 2007) == NOT_IDLE
    wire.library.AlpProjHalt(wire.device)
    assert wire.device_control(SYNCH_POLARITY, 2007) == OK
    wire.library.AlpDevFree(wire.device)
    assert Wire(wire.library).ask(SYNCH_POLARITY) == 2006


def test_floating_mirrors_display_nothing_until_they_are_resumed_also_by_the_next_one() -> None:
    bench = a_bench()
    wire = Wire(a_library(bench))
    assert wire.device_control(DMD_MODE, FLOAT) == OK
    wire.library.AlpDevFree(wire.device)
    wire = Wire(wire.library)
    _, sequence = wire.sequence(1)
    assert wire.ask(DMD_MODE) == FLOAT
    assert wire.library.AlpProjStart(wire.device, sequence) == POWER_DOWN
    assert bench.record == ()
    assert wire.device_control(DMD_MODE, RESUME) == OK
    assert wire.library.AlpProjStart(wire.device, sequence) == OK


@pytest.mark.parametrize(("halt", "code"), [("AlpDevHalt", HALTED), ("AlpProjHalt", OK)])
def test_halting_the_device_cuts_off_a_load_and_halting_the_projection_does_not(
    halt: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = a_bench()
    wire = Wire(a_library(bench))
    _, sequence = wire.sequence(1)
    wire.control(sequence, DATA_FORMAT, TOPDOWN)
    bits = some_bits(1)
    decode = bench.decode

    def halted_meanwhile(pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
        assert getattr(wire.library, halt)(wire.device) == OK
        return decode(pictures)

    monkeypatch.setattr(bench, "decode", halted_meanwhile)
    assert wire.put(sequence, 0, 1, packed(bits)) == code
    wire.library.AlpProjStart(wire.device, sequence)
    expected = bench.mirror_light.sum() if code == HALTED else expected_light(bench, bits)[0]
    assert displayed(bench)[0] == pytest.approx(expected, rel=1e-12)


def test_a_board_can_take_no_call_but_a_halt_while_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = a_bench()
    wire = Wire(a_library(bench, exclusive_transfers=True))
    _, sequence = wire.sequence(1)
    wire.control(sequence, DATA_FORMAT, TOPDOWN)
    decode, codes = bench.decode, []

    def asked_meanwhile(pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
        codes.extend([wire.ask(PROJ_STATE), wire.library.AlpProjHalt(wire.device)])
        return decode(pictures)

    monkeypatch.setattr(bench, "decode", asked_meanwhile)
    assert wire.put(sequence, 0, 1, packed(some_bits(1))) == OK
    assert codes == [NOT_READY, OK]
    assert wire.ask(PROJ_STATE) == 1201


def test_a_board_held_by_a_crashed_process_is_not_given_out_until_it_is_power_cycled(wire: Wire) -> None:
    wire.sequence(MEMORY)
    wire.device_control(DMD_MODE, FLOAT)
    wire.library.hold()
    wire.library.AlpDevFree(wire.device)
    assert Wire(wire.library).allocated == NOT_READY
    wire.library.release()
    again = Wire(wire.library)
    assert again.allocated == OK
    assert (again.ask(2003), again.ask(DMD_MODE)) == (MEMORY, RESUME)


def test_an_injected_code_is_returned_once_by_the_call_it_was_meant_for_which_does_nothing(wire: Wire) -> None:
    wire.library.inject("AlpSeqAlloc", 2, 1011)
    wire.library.inject("AlpSeqFree", 1, 1012)
    assert [wire.sequence(5)[0] for _ in range(3)] == [OK, 1011, OK]
    assert wire.ask(2003) == MEMORY - 10
    assert wire.library.AlpSeqFree(wire.device, ctypes.c_long(0)) == 1012
    assert wire.library.AlpSeqFree(wire.device, ctypes.c_long(0)) == OK


def test_several_codes_can_wait_for_the_same_function_and_be_withdrawn(wire: Wire) -> None:
    for nth, code in ((1, 1011), (2, 1005), (4, 1003)):
        wire.library.inject("AlpDevHalt", nth, code)
    assert [wire.library.AlpDevHalt(wire.device) for _ in range(3)] == [1011, 1005, OK]
    wire.library.withdraw()
    assert wire.library.AlpDevHalt(wire.device) == OK
    with pytest.raises(ValueError, match="number 1"):
        wire.library.inject("AlpDevHalt", 0, 1011)


def test_calls_are_counted(wire: Wire) -> None:
    wire.sequence(1)
    wire.sequence(MEMORY + 1)
    assert (wire.library.faults.calls["AlpDevAlloc"], wire.library.faults.calls["AlpSeqAlloc"]) == (1, 2)
