"""The bench: light, time, bleaching, noise, record."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim_devices.bench import BenchSettings, BenchState, OpticalBench
from tests.sim_devices.notebook import Clock, Notebook

SILENT = BenchSettings(gain=2.0, variance=9.0, shot_noise=False)


def watched_bench(
    bench_settings: BenchSettings, clock: Clock | None = None, light_on: bool = True
) -> tuple[OpticalBench, Notebook]:
    bench = OpticalBench(bench_settings, np.ones((8, 8)), clock or Clock(), light_on)
    notebook = Notebook()
    bench.attach(notebook)
    return bench, notebook


def test_without_noise_a_reading_is_light_plus_background_plus_offset() -> None:
    bench, notebook = watched_bench(BenchSettings(2.0, 9.0, offset=100.0, background=7.0, shot_noise=False))
    bench.display(np.array([10.0, 0.0, 3.5]), 120, 100)
    assert notebook.readings == [117.0, 107.0, 110.5]


def test_light_scales_with_the_illumination_time_and_the_offset_does_not() -> None:
    bench, notebook = watched_bench(BenchSettings(2.0, 9.0, offset=100.0, background=8.0, shot_noise=False))
    bench.display(np.array([40.0]), 120, 25)
    assert notebook.readings == [100.0 + 48.0 / 4]


def test_with_the_light_off_only_offset_and_read_noise_remain() -> None:
    bench, notebook = watched_bench(BenchSettings(2.0, 9.0, offset=50.0, background=1e4), light_on=False)
    bench.display(np.full(4000, 1e5), 120, 100)
    assert np.mean(notebook.readings) == pytest.approx(50.0, abs=5 * 3.0 / 4000**0.5)
    assert np.var(notebook.readings) == pytest.approx(9.0, rel=5 * (2 / 4000) ** 0.5)


@pytest.mark.parametrize("light", [6.0, 60.0, 6e4])
def test_readings_have_the_mean_and_variance_of_the_formula(light: float) -> None:
    gain, variance, background, n = 2.0, 9.0, 20.0, 20_000
    bench, notebook = watched_bench(BenchSettings(gain, variance, offset=5.0, background=background, seed=4))
    bench.display(np.full(n, light), 120, 100)
    expected = gain * (light + background) + variance
    assert np.mean(notebook.readings) == pytest.approx(light + background + 5.0, abs=5 * (expected / n) ** 0.5)
    assert np.var(notebook.readings) == pytest.approx(expected, rel=0.06)


def test_neighbouring_exposures_and_other_seeds_are_independent() -> None:
    bench, notebook = watched_bench(BenchSettings(2.0, 9.0, seed=1))
    bench.display(np.full(8000, 100.0), 120, 100)
    other, other_notebook = watched_bench(BenchSettings(2.0, 9.0, seed=2))
    other.display(np.full(8000, 100.0), 120, 100)
    readings = np.array(notebook.readings)
    assert abs(np.corrcoef(readings[1:], readings[:-1])[0, 1]) < 5 / 8000**0.5
    assert abs(np.corrcoef(readings, other_notebook.readings)[0, 1]) < 5 / 8000**0.5


@settings(max_examples=30, deadline=None)
@given(
    cuts=st.lists(st.integers(1, 59), max_size=4, unique=True),
    waits=st.lists(st.floats(0, 1e6), min_size=5, max_size=5),
)
def test_the_noise_of_an_exposure_depends_on_its_number_and_the_seed_alone(cuts: list[int], waits: list[float]) -> None:
    light = np.random.default_rng(3).exponential(200.0, 60)
    whole, in_one_go = watched_bench(BenchSettings(2.0, 9.0, seed=11))
    whole.display(light, 120, 100)
    parted, in_parts = watched_bench(BenchSettings(2.0, 9.0, seed=11))
    edges = [0, *sorted(cuts), 60]
    for start, stop, wait in zip(edges, edges[1:], waits, strict=False):
        parted.spend(wait)
        parted.display(light[start:stop], 120, 100)
    assert in_parts.readings == in_one_go.readings


def test_noise_of_an_exposure_does_not_depend_on_the_light_before_it() -> None:
    dim, dim_notebook = watched_bench(BenchSettings(2.0, 9.0, seed=11))
    bright, bright_notebook = watched_bench(BenchSettings(2.0, 9.0, seed=11))
    dim.display(np.array([0.0, 500.0]), 120, 100)
    bright.display(np.array([9e6, 500.0]), 120, 100)
    assert dim_notebook.readings[1] == bright_notebook.readings[1]


def test_the_sample_bleaches_with_the_light_it_has_seen() -> None:
    rate, lit_s = 3.0, 5e-3
    bench, notebook = watched_bench(
        BenchSettings(2.0, 9.0, bleaching_per_s=rate, nominal_illumination_us=5000, background=10.0, shot_noise=False)
    )
    bench.display(np.full(200, 1000.0), 20_000, 5000)
    starts = np.arange(200) * lit_s
    # the mean of exp(-k t) over each exposure, by the trapezoidal rule
    grid = starts[:, None] + np.linspace(0, lit_s, 201)
    decay = np.trapezoid(np.exp(-rate * grid), grid, axis=1) / lit_s
    np.testing.assert_allclose(notebook.readings, 1000 * decay + 10.0, rtol=1e-6)


def test_the_sample_does_not_bleach_in_the_dark_or_while_nothing_is_displayed() -> None:
    bench, notebook = watched_bench(BenchSettings(2.0, 9.0, bleaching_per_s=100.0, shot_noise=False))
    bench.display(np.array([1000.0]), 120, 100)
    fresh = bench.expected(bench.record[0])
    bench.set_light(False)
    bench.display(np.full(1000, 1000.0), 120, 100)
    bench.spend(1e9)
    bench.set_light(True)
    bench.display(np.array([1000.0]), 120, 100)
    assert notebook.readings[-1] == pytest.approx(fresh[0] * np.exp(-100.0 * 100e-6))


def test_time_passes_with_exposures_and_declared_waiting_only() -> None:
    bench, notebook = watched_bench(SILENT)
    bench.display(np.zeros(3), 120, 100)
    bench.spend(1000.0)
    bench.display(np.zeros(2), 50, 40)
    assert notebook.times_us == [0.0, 120.0, 240.0, 1360.0, 1410.0]
    assert notebook.exposures == [0, 1, 2, 3, 4]
    assert bench.time_us == 1460.0


def test_the_record_says_what_was_displayed_and_what_a_detector_should_have_read() -> None:
    bench, notebook = watched_bench(SILENT)
    bench.display(np.array([1.0, 2.0]), 120, 100, bank=3, first=10)
    bench.set_light(False)
    bench.display(np.array([5.0]), 120, 100, bank=4, first=0)
    one, two = bench.record
    assert (one.pictures.tolist(), two.pictures.tolist()) == ([10, 11], [0])
    assert (one.bank, one.first, one.last, one.first_exposure, one.start_us, one.light_on) == (3, 10, 11, 0, 0.0, True)
    assert (two.bank, two.first, two.last, two.first_exposure, two.start_us, two.light_on) == (4, 0, 0, 2, 240.0, False)
    assert [*bench.expected(one), *bench.expected(two)] == notebook.readings == [1.0, 2.0, 0.0]


class TestStateAndUploads:
    """What a resumed run begins with, and transfers that go on beside the light."""

    bleaching = BenchSettings(2.0, 9.0, seed=3, bleaching_per_s=40.0, background=5.0)

    @settings(max_examples=20, deadline=None)
    @given(cut=st.integers(1, 5), lit=st.lists(st.booleans(), min_size=6, max_size=6))
    def test_a_restored_bench_reads_bit_for_bit_what_the_original_would(self, cut: int, lit: list[bool]) -> None:
        light = np.random.default_rng(8).exponential(500.0, (6, 20))

        def play(bench: OpticalBench, rounds: range) -> None:
            for index in rounds:
                bench.set_light(lit[index])
                bench.upload(3000.0)
                bench.spend(700.0)
                bench.display(light[index], 120, 100)

        whole, uninterrupted = watched_bench(self.bleaching)
        play(whole, range(6))
        first, before = watched_bench(self.bleaching)
        play(first, range(cut))
        second, after = watched_bench(self.bleaching)
        second.restore(first.state)
        play(second, range(cut, 6))
        for bench in (whole, second):
            bench.wait_for_uploads()
            bench.display(light[0], 120, 100)
        assert before.readings + after.readings == uninterrupted.readings
        assert before.times_us + after.times_us == uninterrupted.times_us
        assert before.exposures + after.exposures == uninterrupted.exposures
        assert second.state == whole.state

    def test_every_part_of_the_state_matters_to_what_comes(self) -> None:
        state = BenchState(n_exposures=7, time_us=900.0, lit_us=4000.0, uploads_end_us=2500.0)

        def later(state: BenchState) -> tuple[list[float], list[float]]:
            bench, notebook = watched_bench(self.bleaching)
            bench.restore(state)
            assert bench.state == state
            bench.wait_for_uploads()
            bench.display(np.full(3, 800.0), 120, 100)
            return notebook.readings, notebook.times_us

        changes: list[dict[str, Any]] = [
            {"n_exposures": 8},
            {"time_us": 9000.0},
            {"lit_us": 0.0},
            {"uploads_end_us": 2600.0},
        ]
        assert all(later(replace(state, **change)) != later(state) for change in changes)

    def test_a_state_is_restored_between_projections_only(self) -> None:
        clock = Clock()
        bench, _ = watched_bench(replace(self.bleaching, pace=1.0), clock)
        state = bench.state
        bench.display(np.ones(3), 1000, 600)
        with pytest.raises(RuntimeError, match="between projections"):
            bench.restore(state)
        clock.now += 1.0
        bench.restore(state)
        assert bench.state == state

    def test_uploads_go_on_beside_projections_one_after_the_other(self) -> None:
        bench, notebook = watched_bench(SILENT)
        bench.upload(1000.0)
        bench.display(np.zeros(3), 120, 100)
        bench.upload(500.4)  # declared at 360 µs, begins at 1000 µs
        bench.display(np.zeros(2), 120, 100)
        assert notebook.times_us == [0, 120, 240, 360, 480]
        assert (bench.time_us, bench.state.uploads_end_us) == (600.0, 1500.0)
        bench.wait_for_uploads()
        assert bench.time_us == 1500.0
        bench.wait_for_uploads()
        bench.display(np.zeros(1), 120, 100)
        bench.upload(80.0)  # nothing is under way any more: begins now, at 1620 µs
        bench.wait_for_uploads()
        assert (notebook.times_us[-1], bench.time_us) == (1500.0, 1700.0)

    def test_waiting_for_an_upload_that_has_ended_takes_no_time(self) -> None:
        bench, _ = watched_bench(SILENT)
        bench.upload(100.0)
        bench.display(np.zeros(3), 120, 100)
        bench.wait_for_uploads()
        assert bench.time_us == 360.0

    @pytest.mark.parametrize(("upload_us", "next_us"), [(2000.0, 4000.0), (7000.0, 7000.0)])
    def test_waiting_during_a_projection_ends_with_whichever_lasts_longer(
        self, upload_us: float, next_us: float
    ) -> None:
        clock = Clock()
        bench, notebook = watched_bench(replace(SILENT, pace=1.0), clock)
        bench.upload(upload_us)
        bench.display(np.zeros(4), 1000, 600)
        clock.now += 1700e-6
        bench.wait_for_uploads()
        assert bench.time_us == 2000.0  # two exposures have ended
        clock.now += 1.0
        bench.display(np.zeros(1), 1000, 600)
        clock.now += 1.0
        assert not bench.is_displaying()
        assert notebook.times_us == [0, 1000, 2000, 3000, next_us]


class TestInRealTime:
    """With pace 1 exposures happen as the wall clock says."""

    settings = BenchSettings(2.0, 9.0, nominal_illumination_us=600, shot_noise=False, pace=1.0)

    def test_an_exposure_happens_when_its_light_has_been_collected(self) -> None:
        clock = Clock()
        bench, notebook = watched_bench(self.settings, clock)
        bench.display(np.array([1.0, 2.0, 3.0]), 1000, 600)
        seen = []
        for passed_us in (0, 599, 601, 1599, 1601, 2601):
            clock.now = 100.0 + passed_us * 1e-6
            bench.advance()
            seen.append(len(notebook.readings))
        assert seen == [0, 0, 1, 1, 2, 3]
        assert bench.is_displaying()
        clock.now = 100.0 + 3001e-6
        assert not bench.is_displaying()
        assert notebook.times_us == [0.0, 1000.0, 2000.0]

    def test_half_the_pace_takes_half_the_time(self) -> None:
        clock = Clock()
        bench, notebook = watched_bench(BenchSettings(2.0, 9.0, shot_noise=False, pace=0.5), clock)
        bench.display(np.ones(100), 1000, 1000)
        clock.now += 0.0207
        bench.advance()
        assert len(notebook.readings) == 41

    def test_what_was_halted_never_happened(self) -> None:
        clock = Clock()
        bench, notebook = watched_bench(self.settings, clock)
        bench.display(np.array([1.0, 2.0, 3.0]), 1000, 600, bank=1, first=5)
        clock.now += 1700e-6
        bench.halt()
        clock.now += 1.0
        bench.display(np.array([9.0]), 1000, 600)
        clock.now += 1.0
        assert not bench.is_displaying()
        assert notebook.readings == [1.0, 2.0, 9.0]
        assert [(each.first, each.last, each.first_exposure) for each in bench.record] == [(5, 6, 0), (0, 0, 2)]

    def test_light_that_goes_off_darkens_the_exposures_to_come(self) -> None:
        clock = Clock()
        bench, notebook = watched_bench(self.settings, clock)
        bench.display(np.array([1.0, 2.0, 3.0]), 1000, 600)
        clock.now += 1700e-6
        bench.set_light(False)
        clock.now += 1.0
        bench.advance()
        assert notebook.readings == [1.0, 2.0, 0.0]
        assert [(each.first, each.last, each.light_on) for each in bench.record] == [(0, 1, True), (2, 2, False)]

    def test_pace_changes_no_reading(self) -> None:
        light = np.random.default_rng(0).exponential(300.0, 50)
        at_once, expected = watched_bench(BenchSettings(2.0, 9.0, seed=5, bleaching_per_s=50.0))
        at_once.display(light, 1000, 600)
        clock = Clock()
        bench, notebook = watched_bench(BenchSettings(2.0, 9.0, seed=5, bleaching_per_s=50.0, pace=1.0), clock)
        bench.display(light, 1000, 600)
        for _ in range(60):
            clock.now += 0.97e-3
            bench.advance()
        np.testing.assert_allclose(notebook.readings, expected.readings, rtol=1e-12)

    def test_waiting_beside_a_projection_moves_no_exposure(self) -> None:
        clock = Clock()
        bench, notebook = watched_bench(self.settings, clock)
        bench.spend(500.0)
        bench.display(np.ones(4), 1000, 600)
        clock.now += 1700e-6
        bench.spend(900.0)  # from the third exposure, at 2500 µs, on
        bench.spend(900.0)  # after it, until 4300 µs: the projection lasts longer
        clock.now += 1.0
        assert bench.time_us == 4500.0
        bench.display(np.ones(4), 1000, 600)
        clock.now += 1700e-6
        bench.spend(5000.0)  # from 6500 µs until 11 500 µs: longer than the projection
        clock.now += 1.0
        assert bench.time_us == 11_500.0
        bench.display(np.ones(1), 1000, 600)
        clock.now += 1.0
        bench.advance()
        assert notebook.times_us == [500, 1500, 2500, 3500, 4500, 5500, 6500, 7500, 11_500]

    def test_waiting_goes_on_when_the_projection_beside_it_is_halted(self) -> None:
        clock = Clock()
        bench, notebook = watched_bench(self.settings, clock)
        bench.display(np.ones(4), 1000, 600)
        bench.spend(2200.0)
        clock.now += 700e-6
        bench.halt()
        assert (bench.time_us, notebook.times_us) == (2200.0, [0.0])

    def test_two_projections_at_once_are_refused(self) -> None:
        bench, _ = watched_bench(self.settings)
        bench.display(np.ones(2), 1000, 600)
        with pytest.raises(RuntimeError, match="displaying already"):
            bench.display(np.ones(2), 1000, 600)


@pytest.mark.parametrize("wrong", [{"gain": 0.0}, {"variance": -1.0}, {"pace": -1.0}, {"nominal_illumination_us": 0.0}])
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        BenchSettings(**{"gain": 1.0, "variance": 1.0, **wrong})  # type: ignore[arg-type]
