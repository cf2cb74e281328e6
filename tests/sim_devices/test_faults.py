"""Faults on the bench: each does what it says, once, and to nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sim_devices.bench import BenchSettings, OpticalBench
from sim_devices.faults import (
    BufferOverflow,
    DoubledTrigger,
    EarlyEnd,
    Fault,
    LateStart,
    LateTrigger,
    LostTrigger,
    MissingFrame,
    Saturation,
    SilentCamera,
    StaleFrames,
    random_fault,
)
from sim_devices.micromanager_core import SimulatedCore
from tests.sim_devices.notebook import Clock, Notebook

N, PICTURE_US, LIT_US, OFFSET = 9, 100, 80, 50.0
NOISY = BenchSettings(
    2.0, 9.0, offset=OFFSET, background=3.0, bleaching_per_s=60.0, nominal_illumination_us=LIT_US, seed=5
)
SILENT = BenchSettings(1.0, 0.0, nominal_illumination_us=LIT_US, shot_noise=False)
LIGHT = np.random.default_rng(1).exponential(900.0, N) + 100.0
PLACES = pytest.mark.parametrize("k", [0, N // 2, N - 1], ids=["first", "middle", "last"])
KINDS: tuple[type[Fault], ...] = (
    LostTrigger,
    DoubledTrigger,
    LateTrigger,
    LateStart,
    EarlyEnd,
    MissingFrame,
    StaleFrames,
    BufferOverflow,
    Saturation,
    SilentCamera,
)

Seen = list[tuple[float, float, int]]


def watched_bench(
    made_of: BenchSettings = NOISY, faults: Sequence[Fault] = (), clock: Clock | None = None
) -> tuple[OpticalBench, Notebook]:
    bench = OpticalBench(made_of, np.ones((8, 8)), clock or Clock(), light_on=True)
    notebook = Notebook()
    bench.attach(notebook)
    bench.inject(*faults)
    return bench, notebook


def seen_in(notebook: Notebook) -> Seen:
    return list(zip(notebook.times_us, notebook.readings, notebook.exposures, strict=True))


def seen_with(*faults: Fault, light: NDArray[np.float64] = LIGHT, projections: int = 1) -> Seen:
    bench, notebook = watched_bench(faults=faults)
    for _ in range(projections):
        bench.display(light, PICTURE_US, LIT_US)
    assert bench.withdraw() == ()
    return seen_in(notebook)


def readings_without_faults(light: NDArray[np.float64] = LIGHT, projections: int = 1) -> list[float]:
    bench, notebook = watched_bench()
    for _ in range(projections):
        bench.display(light, PICTURE_US, LIT_US)
    return notebook.readings


def a_core(made_of: BenchSettings = SILENT, **options: Any) -> tuple[OpticalBench, SimulatedCore]:
    bench = OpticalBench(made_of, np.ones((8, 8)), Clock(), light_on=True)
    core = SimulatedCore(bench, **options)
    core.set_auto_shutter(False)
    return bench, core


def read_all(core: SimulatedCore) -> list[tuple[int, float, int]]:
    """Number, time in µs and sum of every frame in the buffer."""
    images = [core.pop_next_tagged_image() for _ in range(core.get_remaining_image_count())]
    return [
        (int(image.tags["ImageNumber"]), round(float(image.tags["ElapsedTime-ms"]) * 1e3), int(image.pix.sum()))
        for image in images
    ]


def what_a_camera_sees(faults: Sequence[Fault], readings: list[float]) -> Seen:
    """The oracle: every trigger of one projection by a plain loop, light collected microsecond by microsecond."""
    frames = []
    for k in range(len(readings)):
        here = [each for each in faults if getattr(each, "exposure", None) == k]
        if any(isinstance(each, LostTrigger) for each in here):
            continue
        delay = int(sum(each.delay_us for each in here if isinstance(each, LateTrigger)))
        reading = readings[k]
        if delay:
            reading = OFFSET
            for us in range(k * PICTURE_US + delay, k * PICTURE_US + delay + LIT_US):
                picture, within = divmod(us, PICTURE_US)
                if picture < len(readings) and within < LIT_US:
                    reading += (readings[picture] - OFFSET) / LIT_US
        frames.append((float(k * PICTURE_US + delay), reading, k))
        if any(isinstance(each, DoubledTrigger) for each in here):
            frames.append((k * PICTURE_US + delay + PICTURE_US / 2, reading, k))
    return sorted(frames, key=lambda frame: frame[0])


def must_be_alike(found: Seen, expected: Seen) -> None:
    assert [(time_us, exposure) for time_us, _, exposure in found] == [(t, k) for t, _, k in expected]
    np.testing.assert_allclose([each[1] for each in found], [each[1] for each in expected], rtol=1e-12)


class TestTriggers:
    @PLACES
    def test_a_lost_trigger_loses_one_frame_and_changes_no_other(self, k: int) -> None:
        readings = readings_without_faults()
        assert seen_with(LostTrigger(0, k)) == [(100.0 * i, readings[i], i) for i in range(N) if i != k]

    @PLACES
    def test_a_doubled_trigger_gives_the_same_light_again_half_a_picture_later(self, k: int) -> None:
        readings = readings_without_faults()
        seen = seen_with(DoubledTrigger(0, k))
        assert seen.pop(k + 1) == (100.0 * k + 50.0, readings[k], k)
        assert seen == [(100.0 * i, readings[i], i) for i in range(N)]

    @pytest.mark.parametrize("delay_us", [7.0, 20.0, 95.0, 130.0])
    @PLACES
    def test_a_late_trigger_collects_what_is_displayed_meanwhile(self, k: int, delay_us: float) -> None:
        readings = readings_without_faults()
        must_be_alike(
            seen_with(LateTrigger(0, k, delay_us)), what_a_camera_sees([LateTrigger(0, k, delay_us)], readings)
        )

    def test_a_trigger_late_by_a_quarter_of_the_light_mixes_two_pictures(self) -> None:
        readings = readings_without_faults()
        light_of_one, light_of_next = readings[3] - OFFSET, readings[4] - OFFSET
        (late,) = [reading for _, reading, k in seen_with(LateTrigger(0, 3, 40.0)) if k == 3]
        assert late == pytest.approx(OFFSET + light_of_one * 40 / 80 + light_of_next * 20 / 80)

    def test_a_trigger_after_the_projections_end_finds_darkness(self) -> None:
        assert seen_with(LateTrigger(0, N - 1, 90.0))[-1] == (100.0 * (N - 1) + 90.0, OFFSET, N - 1)

    def test_a_silent_camera_sees_nothing_of_its_projection_and_all_of_the_next(self) -> None:
        readings = readings_without_faults(projections=2)
        assert seen_with(SilentCamera(0), projections=2) == [(100.0 * i, readings[i], i) for i in range(N, 2 * N)]

    @pytest.mark.parametrize("flooded", [1, N // 2, N])
    def test_saturation_floods_the_first_exposures_and_no_other(self, flooded: int) -> None:
        readings = readings_without_faults()
        seen = [reading for _, reading, _ in seen_with(Saturation(0, flooded))]
        assert min(seen[:flooded]) > 1e12
        assert seen[flooded:] == readings[flooded:]

    trigger_faults = st.lists(
        st.one_of(
            st.builds(LostTrigger, st.just(0), st.integers(0, N - 1)),
            st.builds(DoubledTrigger, st.just(0), st.integers(0, N - 1)),
            st.builds(LateTrigger, st.just(0), st.integers(0, N - 1), st.integers(1, 350).map(float)),
        ),
        max_size=6,
        unique_by=lambda fault: (type(fault), fault.exposure),
    )

    @settings(max_examples=80, deadline=None)
    @given(faults=trigger_faults)
    def test_any_set_of_trigger_faults_gives_what_a_plain_loop_says(self, faults: list[Fault]) -> None:
        must_be_alike(seen_with(*faults), what_a_camera_sees(faults, readings_without_faults()))

    @settings(max_examples=60, deadline=None)
    @given(faults=trigger_faults, steps_us=st.lists(st.integers(1, 400), min_size=4, max_size=12))
    def test_frames_are_the_same_when_exposures_come_in_stretches(
        self, faults: list[Fault], steps_us: list[int]
    ) -> None:
        clock = Clock()
        made_of = replace(NOISY, pace=1.0)
        bench, notebook = watched_bench(made_of, faults, clock)
        bench.display(LIGHT, PICTURE_US, LIT_US)
        for step_us in steps_us:
            clock.now += step_us * 1e-6
            bench.advance()
            passed_us = (clock.now - 100.0) * 1e6
            # No frame comes before the exposure that triggers it has ended.
            assert all(k * PICTURE_US + LIT_US <= passed_us + 1e-3 for k in notebook.exposures)
        clock.now += 1.0
        assert not bench.is_displaying()
        must_be_alike(seen_in(notebook), seen_with(*faults))

    @settings(max_examples=60, deadline=None)
    @given(faults=trigger_faults, missing=st.sets(st.integers(0, N - 1), max_size=3))
    def test_the_cameras_frames_and_record_agree_with_the_plain_loop(
        self, faults: list[Fault], missing: set[int]
    ) -> None:
        bench, core = a_core()
        bench.inject(*faults, *(MissingFrame(0, k) for k in missing))
        core.start_sequence_acquisition(100, 0.0, True)
        bench.display(np.round(LIGHT), PICTURE_US, LIT_US)
        triggers = what_a_camera_sees(faults, [each + OFFSET for each in np.round(LIGHT).tolist()])
        expected = [(number, *each) for number, each in enumerate(triggers) if each[2] not in missing]
        frames = read_all(core)
        assert [number for number, _, _ in frames] == [number for number, *_ in expected]
        assert [time_us for _, time_us, _ in frames] == [time_us for _, time_us, _, _ in expected]
        np.testing.assert_allclose([total for *_, total in frames], [r - OFFSET for _, _, r, _ in expected], atol=0.51)
        exposures = [k for *_, k in expected]
        assert core.taken.tolist() == core.delivered.tolist() == core.taken_in_sequence().tolist() == exposures


class TestWhatIsDisplayed:
    @pytest.mark.parametrize("pictures", [1, 2, N])
    def test_a_late_start_shows_dark_mirrors_first_and_never_the_last_pictures(self, pictures: int) -> None:
        shifted = np.concatenate([np.zeros(pictures), LIGHT[: N - pictures]])
        seen = seen_with(LateStart(0, pictures))
        assert seen == [(100.0 * i, each, i) for i, each in enumerate(readings_without_faults(shifted))]

    def test_the_record_of_a_late_start_says_what_each_exposure_showed(self) -> None:
        bench, _ = watched_bench(faults=[LateStart(0, 2)])
        bench.display(LIGHT, PICTURE_US, LIT_US, bank=4, first=30)
        (shown,) = bench.record
        assert (shown.bank, shown.first, shown.last, shown.n_exposures) == (4, 30, 38, N)
        assert shown.pictures.tolist() == [-1, -1, 30, 31, 32, 33, 34, 35, 36]
        assert shown.light.tolist() == [0.0, 0.0, *LIGHT[:7].tolist()]

    @pytest.mark.parametrize("exposures", [0, N // 2, N - 1])
    def test_an_early_end_shows_the_first_pictures_only_and_takes_their_time(self, exposures: int) -> None:
        bench, notebook = watched_bench(faults=[EarlyEnd(0, exposures)])
        bench.display(LIGHT, PICTURE_US, LIT_US, first=5)
        assert not bench.is_displaying()
        assert bench.time_us == exposures * PICTURE_US
        assert notebook.readings == readings_without_faults()[:exposures]
        assert [each.pictures.tolist() for each in bench.record] == ([[*range(5, 5 + exposures)]] if exposures else [])

    def test_an_early_end_ends_by_the_wall_clock_too(self) -> None:
        clock = Clock()
        bench, _ = watched_bench(replace(NOISY, pace=1.0), [EarlyEnd(0, 4)], clock)
        bench.display(LIGHT, PICTURE_US, LIT_US)
        clock.now += 399e-6
        assert bench.is_displaying()
        clock.now += 2e-6
        assert not bench.is_displaying()

    def test_the_record_stays_truthful_when_the_light_changes_during_a_late_start(self) -> None:
        clock = Clock()
        bench, notebook = watched_bench(replace(NOISY, pace=1.0), [LateStart(0, 1)], clock)
        bench.display(LIGHT, PICTURE_US, LIT_US, first=10)
        clock.now += 350e-6
        bench.set_light(False)
        clock.now += 1.0
        lit, dark = bench.record
        assert (lit.pictures.tolist(), dark.pictures.tolist()) == ([-1, 10, 11], [12, 13, 14, 15, 16, 17])
        assert (lit.light_on, dark.light_on, dark.first_exposure) == (True, False, 3)
        assert notebook.exposures == list(range(N))


class TestTheCamera:
    @PLACES
    def test_a_missing_frame_leaves_a_gap_in_the_numbers(self, k: int) -> None:
        bench, core = a_core()
        bench.inject(MissingFrame(0, k))
        core.start_sequence_acquisition(N, 0.0, True)
        bench.display(np.arange(10.0, 10.0 + N), PICTURE_US, LIT_US)
        assert read_all(core) == [(i, 100 * i, 10 + i) for i in range(N) if i != k]
        assert core.delivered.tolist() == [i for i in range(N) if i != k]
        assert not core.is_sequence_running()  # the camera took all it was asked for

    @PLACES
    def test_an_overflow_stops_the_sequence_where_it_happens(self, k: int) -> None:
        bench, core = a_core()
        bench.inject(BufferOverflow(0, k))
        core.start_sequence_acquisition(2 * N, 0.0, True)
        bench.display(np.arange(10.0, 10.0 + N), PICTURE_US, LIT_US)
        assert (core.is_buffer_overflowed(), core.is_sequence_running()) == (True, False)
        assert read_all(core) == [(i, 100 * i, 10 + i) for i in range(k)]
        assert core.taken.tolist() == list(range(k))
        core.start_sequence_acquisition(N, 0.0, True)
        bench.display(np.arange(10.0, 10.0 + N), PICTURE_US, LIT_US)
        assert not core.is_buffer_overflowed()
        assert len(read_all(core)) == N

    @PLACES
    def test_an_overflow_that_stops_nothing_throws_the_earlier_frames_away(self, k: int) -> None:
        bench, core = a_core()
        bench.inject(BufferOverflow(0, k))
        core.start_sequence_acquisition(N, 0.0, False)
        bench.display(np.arange(10.0, 10.0 + N), PICTURE_US, LIT_US)
        assert read_all(core) == [(i, 100 * i, 10 + i) for i in range(k, N)]
        assert (core.taken.tolist(), core.delivered.tolist()) == (list(range(N)), list(range(k, N)))

    @pytest.mark.parametrize("stale", [1, 3, 12])
    def test_stale_frames_stand_before_the_sequences_own_and_look_like_old_ones(self, stale: int) -> None:
        bench, core = a_core()
        bench.inject(StaleFrames(1, stale))
        core.start_sequence_acquisition(4, 0.0, True)
        bench.display(np.arange(10.0, 14.0), PICTURE_US, LIT_US)
        old = read_all(core)
        core.clear_circular_buffer()
        core.start_sequence_acquisition(4, 0.0, True)
        assert core.get_remaining_image_count() == stale
        bench.display(np.arange(20.0, 24.0), PICTURE_US, LIT_US)
        frames = read_all(core)
        assert frames[:stale] == (old * 3)[-stale:]
        assert frames[stale:] == [(i, 100 * i, 20 + i) for i in range(4)]
        assert core.taken_in_sequence(-1).tolist() == [-1] * stale + [4, 5, 6, 7]
        assert core.taken_in_sequence(0).tolist() == [0, 1, 2, 3]
        core.start_sequence_acquisition(4, 0.0, True)
        assert core.get_remaining_image_count() == 0

    def test_stale_frames_of_a_camera_that_never_saw_anything_are_dark(self) -> None:
        bench, core = a_core()
        bench.inject(StaleFrames(0, 2))
        core.start_sequence_acquisition(1, 0.0, True)
        bench.display(np.array([30.0]), PICTURE_US, LIT_US)
        assert [total for *_, total in read_all(core)] == [0, 0, 30]

    def test_flooded_frames_read_full_scale(self) -> None:
        bench, core = a_core(width_px=2, height_px=2, bit_depth=12)
        bench.inject(Saturation(0, 2))
        core.start_sequence_acquisition(3, 0.0, True)
        bench.display(np.full(3, 400.0), PICTURE_US, LIT_US)
        assert [core.pop_next_image().max() for _ in range(3)] == [4095, 4095, 100]

    def test_a_frame_of_an_earlier_projection_is_told_from_one_of_this(self) -> None:
        bench, core = a_core()
        bench.inject(LostTrigger(1, 0), DoubledTrigger(2, 1))
        for _ in range(3):
            core.start_sequence_acquisition(4, 0.0, True)
            bench.display(np.ones(3), PICTURE_US, LIT_US)
            core.stop_sequence_acquisition()
        assert [core.taken_in_sequence(i).tolist() for i in range(3)] == [[0, 1, 2], [4, 5], [6, 7, 7, 8]]
        with pytest.raises(IndexError):
            core.taken_in_sequence(3)


class TestInjecting:
    def test_each_fault_comes_once_in_the_projection_it_names(self) -> None:
        faults: list[Fault] = [LostTrigger(1, 2), DoubledTrigger(3, 0), SilentCamera(2)]
        bench, notebook = watched_bench(faults=faults)
        counts, struck = [], []
        for number in range(5):
            assert bench.n_projections == number
            before = len(notebook.exposures)
            bench.display(LIGHT, PICTURE_US, LIT_US)
            counts.append(len(notebook.exposures) - before)
            struck.append(len(bench.struck))
        assert (counts, struck) == ([N, N - 1, 0, N + 1, N], [0, 1, 2, 3, 3])
        assert set(bench.struck) == set(faults)

    def test_faults_that_have_not_come_can_be_withdrawn(self) -> None:
        bench, notebook = watched_bench(faults=[LostTrigger(0, 1), LostTrigger(1, 1), StaleFrames(2, 1)])
        bench.display(LIGHT, PICTURE_US, LIT_US)
        assert bench.withdraw() == (LostTrigger(1, 1), StaleFrames(2, 1))
        bench.display(LIGHT, PICTURE_US, LIT_US)
        assert len(notebook.exposures) == 2 * N - 1
        assert bench.struck == (LostTrigger(0, 1),)

    @pytest.mark.parametrize("never", [LostTrigger(0, N), EarlyEnd(0, N), MissingFrame(0, 10**6), StaleFrames(0, 1)])
    def test_a_fault_that_found_no_place_is_among_those_withdrawn(self, never: Fault) -> None:
        bench, notebook = watched_bench(faults=[never])
        bench.display(LIGHT, PICTURE_US, LIT_US)
        assert notebook.readings == readings_without_faults()
        assert (bench.struck, bench.withdraw()) == ((), (never,))

    def test_a_projection_that_ended_early_has_no_later_faults(self) -> None:
        bench, notebook = watched_bench(faults=[EarlyEnd(0, 3), DoubledTrigger(0, 2), DoubledTrigger(0, 3)])
        bench.display(LIGHT, PICTURE_US, LIT_US)
        assert notebook.exposures == [0, 1, 2, 2]
        assert bench.withdraw() == (DoubledTrigger(0, 3),)

    def test_a_fault_for_a_projection_that_has_begun_is_refused(self) -> None:
        bench, _ = watched_bench()
        bench.display(LIGHT, PICTURE_US, LIT_US)
        with pytest.raises(ValueError, match="next projection is number 1"):
            bench.inject(LostTrigger(0, 5))
        bench.inject(LostTrigger(1, 5))

    def test_a_refused_projection_takes_no_fault(self) -> None:
        clock = Clock()
        bench, notebook = watched_bench(replace(NOISY, pace=1.0), clock=clock)
        bench.display(LIGHT, PICTURE_US, LIT_US)
        bench.inject(SilentCamera(1))
        with pytest.raises(RuntimeError, match="displaying already"):
            bench.display(LIGHT, PICTURE_US, LIT_US)
        assert bench.n_projections == 1
        clock.now += 1.0
        bench.display(LIGHT, PICTURE_US, LIT_US)
        clock.now += 1.0
        assert not bench.is_displaying()
        assert notebook.exposures == list(range(N))

    @pytest.mark.parametrize(
        "make",
        [
            lambda: LostTrigger(-1, 0),
            lambda: DoubledTrigger(0, -1),
            lambda: LateTrigger(0, 0, -2.0),
            lambda: LateStart(0, -1),
            lambda: StaleFrames(0, -1),
        ],
    )
    def test_negative_numbers_are_refused(self, make: Callable[[], Fault]) -> None:
        with pytest.raises(ValueError, match="must be >= 0"):
            make()


class TestRandomFaults:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("n_exposures", [1, 2, 50])
    def test_each_always_finds_its_place(self, kind: type[Fault], n_exposures: int) -> None:
        rng = np.random.default_rng(n_exposures)
        for _ in range(30):
            bench, core = a_core()
            fault = random_fault(rng, 0, n_exposures, [kind])
            assert type(fault) is kind
            bench.inject(fault)
            core.start_sequence_acquisition(n_exposures, 0.0, True)
            bench.display(np.ones(n_exposures), PICTURE_US, LIT_US)
            assert bench.struck == (fault,)

    def test_they_reach_the_first_and_the_last_exposure_and_every_kind(self) -> None:
        rng = np.random.default_rng(0)
        faults = [random_fault(rng, 4, 5, KINDS) for _ in range(600)]
        assert {type(each) for each in faults} == set(KINDS)
        assert {each.exposure for each in faults if isinstance(each, LostTrigger)} == {0, 1, 2, 3, 4}
        assert {each.pictures for each in faults if isinstance(each, LateStart)} == {1, 2}
        assert all(each.projection == 4 for each in faults)

    def test_the_same_seed_gives_the_same_fault(self) -> None:
        one, other = (random_fault(np.random.default_rng(3), 0, 1000, KINDS) for _ in range(2))
        assert one == other

    @pytest.mark.parametrize(("n_exposures", "kinds"), [(0, KINDS), (5, ())])
    def test_without_a_place_or_a_kind_there_is_none(self, n_exposures: int, kinds: tuple[type[Fault], ...]) -> None:
        with pytest.raises(ValueError, match="needs a kind and an exposure"):
            random_fault(np.random.default_rng(0), 0, n_exposures, kinds)
