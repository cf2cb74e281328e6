"""What every projector has to do: mix it into a test class that says how to make one on a bench."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from devices.errors import (
    DeviceStateError,
    PictureMemoryError,
    PictureShapeError,
    TimingRefusedError,
    UnknownBankError,
)
from devices.projector import Projector, Timing
from sim_devices.bench import OpticalBench
from tests.devices.benches import (
    HEIGHT,
    MEMORY_PICTURES,
    MIN_PICTURE_TIME_US,
    ROW_BYTES,
    WIDTH,
    Clock,
    a_bench,
    displayed,
    light_of,
    some_pictures,
)

TIMING = Timing(picture_time_us=100, illumination_time_us=90)


@dataclass
class Stage:
    """A projector, and the bench and wall clock it works on."""

    projector: Projector
    bench: OpticalBench
    clock: Clock

    def bank_of(self, pictures: NDArray[np.uint8]) -> int:
        bank = self.projector.allocate(len(pictures))
        self.projector.load(bank, 0, pictures)
        self.projector.set_timing(bank, TIMING)
        return bank


class ProjectorContract:
    """The promise of devices/projector.py."""

    def make(self, bench: OpticalBench) -> Projector:
        raise NotImplementedError

    def stage(self, pace: float = 0.0) -> Stage:
        clock = Clock()
        bench = a_bench(pace, clock)
        return Stage(self.make(bench), bench, clock)

    def test_it_says_what_it_is(self) -> None:
        info = self.stage().projector.info
        assert (info.mirrors_height, info.mirrors_width, info.row_bytes) == (HEIGHT, WIDTH, ROW_BYTES)
        assert (info.free_pictures, info.min_picture_time_us) == (MEMORY_PICTURES, MIN_PICTURE_TIME_US)
        assert info.name
        assert info.serial

    def test_it_shows_the_pictures_that_were_loaded_in_order(self) -> None:
        stage = self.stage()
        pictures = some_pictures(9)
        bank = stage.bank_of(pictures)
        stage.projector.start(bank, 0, 8)
        np.testing.assert_allclose(displayed(stage.bench), light_of(stage.bench, pictures), rtol=1e-12)

    def test_it_shows_any_range_after_any_other(self) -> None:
        stage = self.stage()
        pictures = some_pictures(9)
        light = light_of(stage.bench, pictures)
        bank = stage.bank_of(pictures)
        expected: list[float] = []
        for first, last in ((3, 5), (6, 8), (0, 1), (0, 8), (8, 8), (0, 0), (2, 7)):
            stage.projector.start(bank, first, last)
            expected += light[first : last + 1].tolist()
        np.testing.assert_allclose(displayed(stage.bench), expected, rtol=1e-12)

    def test_it_shows_a_range_as_many_rounds_as_asked_for_each_time_anew(self) -> None:
        stage = self.stage()
        pictures = some_pictures(5)
        light = light_of(stage.bench, pictures)
        bank = stage.bank_of(pictures)
        expected: list[float] = []
        for first, last, rounds in ((1, 3, 4), (0, 4, 1), (2, 2, 7), (0, 1, 2)):
            stage.projector.start(bank, first, last, rounds)
            expected += light[first : last + 1].tolist() * rounds
        stage.projector.start(bank, 3, 4)
        np.testing.assert_allclose(displayed(stage.bench), [*expected, *light[3:]], rtol=1e-12)

    def test_rounds_follow_each_other_without_a_gap_and_end(self) -> None:
        stage = self.stage(pace=1.0)
        bank = stage.bank_of(some_pictures(4))
        stage.projector.start(bank, 0, 3, rounds=3)
        stage.clock.now += 1199e-6
        assert stage.projector.is_projecting()
        stage.clock.now += 2e-6
        assert not stage.projector.is_projecting()
        assert stage.bench.time_us == 12 * TIMING.picture_time_us

    @pytest.mark.parametrize("rounds", [0, -1])
    def test_less_than_one_round_is_refused(self, rounds: int) -> None:
        stage = self.stage()
        with pytest.raises(ValueError, match="1 or more"):
            stage.projector.start(stage.bank_of(some_pictures(2)), 0, 1, rounds)
        assert stage.bench.record == ()

    def test_a_bank_is_loaded_from_another_thread_while_another_one_is_displayed(self) -> None:
        stage = self.stage(pace=1.0)
        shown = stage.bank_of(some_pictures(10))
        pictures = some_pictures(6, seed=7)
        stage.projector.start(shown, 0, 9)
        with ThreadPoolExecutor(1) as loader:
            bank = loader.submit(stage.bank_of, pictures).result(20)
        assert stage.projector.is_projecting()
        stage.clock.now += 1.0
        stage.projector.start(bank, 0, 5)
        stage.clock.now += 1.0
        np.testing.assert_allclose(displayed(stage.bench)[10:], light_of(stage.bench, pictures), rtol=1e-12)

    def test_it_measures_itself_while_it_displays_too(self) -> None:
        stage = self.stage(pace=1.0)
        stage.projector.start(stage.bank_of(some_pictures(10)), 0, 9)
        status = stage.projector.status()
        assert stage.projector.is_projecting()
        assert status
        assert all(name.endswith("_c") and -40 < value < 125 for name, value in status.items())

    def test_pictures_can_be_loaded_in_parts_and_again(self) -> None:
        stage = self.stage()
        pictures = some_pictures(6)
        bank = stage.projector.allocate(6)
        stage.projector.load(bank, 4, pictures[4:])
        stage.projector.load(bank, 0, some_pictures(4, seed=99))
        stage.projector.load(bank, 0, pictures[:4])
        stage.projector.start(bank, 0, 5)
        np.testing.assert_allclose(displayed(stage.bench), light_of(stage.bench, pictures), rtol=1e-12)

    def test_banks_do_not_disturb_each_other(self) -> None:
        stage = self.stage()
        one, two = some_pictures(3, seed=1), some_pictures(5, seed=2)
        first_bank, second_bank = stage.bank_of(one), stage.bank_of(two)
        stage.projector.start(first_bank, 0, 2)
        stage.projector.start(second_bank, 1, 4)
        stage.projector.free(second_bank)
        stage.projector.start(first_bank, 1, 1)
        expected = light_of(stage.bench, np.concatenate([one, two[1:], one[1:2]]))
        np.testing.assert_allclose(displayed(stage.bench), expected, rtol=1e-12)

    def test_timing_is_set_and_read_back(self) -> None:
        stage = self.stage()
        bank = stage.bank_of(some_pictures(2))
        accepted = stage.projector.set_timing(bank, Timing(250, 200, sync_delay_us=30, sync_pulse_us=40))
        assert accepted == Timing(250, 200, sync_delay_us=30, sync_pulse_us=40)
        stage.projector.start(bank, 0, 1)
        (shown,) = stage.bench.record
        assert (shown.picture_time_us, shown.illumination_time_us) == (250, 200)

    def test_a_sync_pulse_that_is_left_to_the_device_reads_back_as_long_as_it_is(self) -> None:
        stage = self.stage()
        accepted = stage.projector.set_timing(stage.bank_of(some_pictures(1)), Timing(250, 200))
        assert (accepted.picture_time_us, accepted.illumination_time_us, accepted.sync_delay_us) == (250, 200, 0)
        assert accepted.sync_pulse_us > 0

    @pytest.mark.parametrize(
        ("timing", "reason"),
        [
            (Timing(MIN_PICTURE_TIME_US - 1, 40), f"below the {MIN_PICTURE_TIME_US} µs"),
            (Timing(100, 101), "does not fit"),
            (Timing(100, 0), "does not fit"),
            (Timing(100, 90, sync_delay_us=-1), "sync delay"),
            (Timing(100, 90, sync_delay_us=60), "sync delay"),
            (Timing(100, 90, sync_pulse_us=-1), "sync pulse"),
        ],
    )
    def test_impossible_timing_is_refused(self, timing: Timing, reason: str) -> None:
        stage = self.stage()
        bank = stage.bank_of(some_pictures(2))
        with pytest.raises(TimingRefusedError, match=reason):
            stage.projector.set_timing(bank, timing)
        stage.projector.start(bank, 0, 0)
        assert stage.bench.record[0].picture_time_us == TIMING.picture_time_us

    def test_memory_that_is_not_there_is_refused_and_freed_memory_comes_back(self) -> None:
        projector = self.stage().projector
        bank = projector.allocate(MEMORY_PICTURES - 10)
        assert projector.info.free_pictures == 10
        with pytest.raises(PictureMemoryError, match="10 are free"):
            projector.allocate(11)
        assert projector.info.free_pictures == 10
        projector.free(bank)
        assert projector.info.free_pictures == MEMORY_PICTURES
        projector.allocate(MEMORY_PICTURES)

    @pytest.mark.parametrize(
        "pictures",
        [
            np.zeros((2, HEIGHT, ROW_BYTES + 1), np.uint8),
            np.zeros((2, HEIGHT - 1, ROW_BYTES), np.uint8),
            np.zeros((HEIGHT, ROW_BYTES), np.uint8),
            np.zeros((2, HEIGHT, ROW_BYTES), np.bool_),
            np.zeros((2, HEIGHT, ROW_BYTES * 2), np.uint8)[:, :, ::2],
        ],
        ids=["row too long", "row missing", "no stack", "not bytes", "gaps in memory"],
    )
    def test_pictures_of_another_shape_are_refused(self, pictures: NDArray[np.uint8]) -> None:
        projector = self.stage().projector
        bank = projector.allocate(2)
        with pytest.raises(PictureShapeError):
            projector.load(bank, 0, pictures)

    @pytest.mark.parametrize(("first", "n"), [(3, 2), (0, 5), (-1, 2)])
    def test_pictures_outside_of_the_bank_are_refused(self, first: int, n: int) -> None:
        projector = self.stage().projector
        bank = projector.allocate(4)
        with pytest.raises(UnknownBankError, match="0 to 3"):
            projector.load(bank, first, some_pictures(n))

    @pytest.mark.parametrize(("first", "last"), [(0, 4), (2, 1), (-1, 2)])
    def test_ranges_outside_of_the_bank_are_not_shown(self, first: int, last: int) -> None:
        stage = self.stage()
        bank = stage.bank_of(some_pictures(4))
        with pytest.raises(UnknownBankError, match="0 to 3"):
            stage.projector.start(bank, first, last)
        assert stage.bench.record == ()

    def test_a_bank_that_was_freed_is_unknown(self) -> None:
        projector = self.stage().projector
        bank = projector.allocate(2)
        projector.free(bank)
        uses: list[Callable[[], object]] = [
            lambda: projector.load(bank, 0, some_pictures(1)),
            lambda: projector.set_timing(bank, TIMING),
            lambda: projector.start(bank, 0, 0),
            lambda: projector.free(bank),
        ]
        for use in uses:
            with pytest.raises(UnknownBankError, match=f"no bank {bank}"):
                use()

    def test_a_projection_is_finite(self) -> None:
        stage = self.stage(pace=1.0)
        bank = stage.bank_of(some_pictures(10))
        stage.projector.start(bank, 0, 9)
        states = []
        for now_us in (0, 999, 1001, 9_000_000):
            stage.clock.now = now_us * 1e-6
            states.append(stage.projector.is_projecting())
        assert states == [True, True, False, False]
        assert len(displayed(stage.bench)) == 10

    def test_what_is_displayed_is_locked_and_another_bank_is_not(self) -> None:
        stage = self.stage(pace=1.0)
        shown, other = stage.bank_of(some_pictures(10)), stage.bank_of(some_pictures(4))
        stage.projector.start(shown, 0, 9)
        uses: list[Callable[[], object]] = [
            lambda: stage.projector.load(shown, 0, some_pictures(1)),
            lambda: stage.projector.free(shown),
            lambda: stage.projector.start(other, 0, 3),
        ]
        for use in uses:
            with pytest.raises(DeviceStateError, match="project"):
                use()
        pictures = some_pictures(4, seed=5)
        stage.projector.load(other, 0, pictures)
        stage.clock.now += 1.0
        stage.projector.start(other, 0, 3)
        stage.clock.now += 1.0
        np.testing.assert_allclose(displayed(stage.bench)[10:], light_of(stage.bench, pictures), rtol=1e-12)

    def test_halting_stops_it_and_the_banks_stay(self) -> None:
        stage = self.stage(pace=1.0)
        bank = stage.bank_of(some_pictures(10))
        stage.projector.start(bank, 0, 9)
        stage.clock.now += 350e-6
        stage.projector.halt()
        assert not stage.projector.is_projecting()
        stage.projector.halt()
        assert len(displayed(stage.bench)) == 3
        stage.projector.start(bank, 0, 0)

    def test_closing_halts_it_and_closing_twice_is_closing_once(self) -> None:
        stage = self.stage(pace=1.0)
        bank = stage.bank_of(some_pictures(10))
        stage.projector.start(bank, 0, 9)
        stage.projector.close()
        stage.projector.close()
        assert not stage.bench.is_displaying()
        assert stage.projector.info.mirrors_width == WIDTH
        uses: list[Callable[[], object]] = [
            lambda: stage.projector.allocate(1),
            stage.projector.is_projecting,
            stage.projector.status,
            stage.projector.halt,
            lambda: stage.projector.load(bank, 0, some_pictures(1)),
            lambda: stage.projector.start(bank, 0, 0),
        ]
        for use in uses:
            with pytest.raises(DeviceStateError, match="closed"):
                use()
