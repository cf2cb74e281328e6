"""The bench's light: noise of the source, drift and fading of the lamp, light of mirrors that are off."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sim_devices.bench import BenchSettings, OpticalBench
from sim_devices.faults import LateStart
from tests.sim_devices.notebook import Clock, Notebook

QUIET = BenchSettings(2.0, 9.0, offset=50.0, background=7.0, shot_noise=False)
# In this many draws a standard deviation is known to 1/sqrt(2n) of itself.
N = 40_000


def watched_bench(made_of: BenchSettings, light_on: bool = True) -> tuple[OpticalBench, Notebook]:
    bench = OpticalBench(made_of, np.ones((8, 8)), Clock(), light_on)
    notebook = Notebook()
    bench.attach(notebook)
    return bench, notebook


def readings(made_of: BenchSettings, light: NDArray[np.float64], light_on: bool = True) -> NDArray[np.float64]:
    bench, notebook = watched_bench(made_of, light_on)
    bench.display(light, 1000, 100)
    return np.array(notebook.readings)


@pytest.mark.parametrize("seed", [0, 7])
def test_with_a_steady_lamp_every_reading_is_drawn_as_it_always_was(seed: int) -> None:
    """Bit for bit: Poisson, then normal, from the Philox stretch that key and exposure number alone address."""
    light = np.random.default_rng(seed).exponential(400.0, 60)
    made_of = BenchSettings(2.3, 9.0, offset=50.0, background=7.0, nominal_illumination_us=90, seed=seed)
    expected = []
    for exposure, each in enumerate(light):
        draw = np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, exposure, 0]))
        mean = (each + 7.0) * (100 / 90)
        expected.append(2.3 * draw.poisson(mean / 2.3) + 3.0 * draw.standard_normal() + 50.0)
    assert readings(made_of, light).tolist() == expected


class TestSourceNoise:
    """White, relative to all light, and of each exposure its own."""

    def test_it_adds_the_square_of_the_light_to_the_variance(self) -> None:
        made_of = BenchSettings(2.0, 9.0, offset=50.0, background=1000.0, seed=3, source_noise=0.05)
        found = readings(made_of, np.full(N, 9000.0))
        variance = 2.0 * 10_000.0 + 9.0 + (0.05 * 10_000.0) ** 2
        assert found.mean() == pytest.approx(10_050.0, abs=5 * (variance / N) ** 0.5)
        assert found.var() == pytest.approx(variance, rel=5 * (2 / N) ** 0.5)

    def test_it_is_white(self) -> None:
        found = readings(BenchSettings(2.0, 0.0, seed=3, source_noise=0.05), np.full(N, 1e6))
        assert abs(np.corrcoef(found[1:], found[:-1])[0, 1]) < 5 / N**0.5

    def test_light_is_never_negative(self) -> None:
        found = readings(BenchSettings(1.0, 0.0, seed=3, source_noise=1.0), np.full(2000, 1e5))
        assert found.min() == 0.0
        below = 0.1587  # of a standard normal variable below -1
        assert (found == 0.0).mean() == pytest.approx(below, abs=5 * (below / 2000) ** 0.5)

    def test_darkness_has_none(self) -> None:
        made_of = BenchSettings(2.0, 9.0, seed=3, source_noise=0.5, background=1e6)
        assert readings(made_of, np.full(N, 1e6), light_on=False).var() == pytest.approx(9.0, rel=5 * (2 / N) ** 0.5)

    def test_a_bench_without_noise_has_none(self) -> None:
        assert (readings(replace(QUIET, source_noise=0.5), np.full(9, 100.0)) == 157.0).all()

    @settings(max_examples=20, deadline=None)
    @given(cut=st.integers(1, 39))
    def test_a_restored_bench_goes_on_with_the_same_noise_and_lamp(self, cut: int) -> None:
        made_of = BenchSettings(
            2.0, 9.0, seed=5, source_noise=0.1, lamp_drift=0.2, lamp_drift_period_s=0.02, lamp_fading_per_s=3.0
        )
        light = np.random.default_rng(1).exponential(500.0, 40)
        whole = readings(made_of, light)
        first, before = watched_bench(made_of)
        first.display(light[:cut], 1000, 100)
        second, after = watched_bench(made_of)
        second.restore(first.state)
        second.display(light[cut:], 1000, 100)
        assert before.readings + after.readings == whole.tolist()


class TestLamp:
    """Its drift and its fading follow the bench's clock, whoever looks."""

    drifting = replace(QUIET, lamp_drift=0.1, lamp_drift_period_s=8.0, lamp_fading_per_s=0.05)

    @pytest.mark.parametrize(("time_s", "sine"), [(0.0, 0.0), (2.0, 1.0), (4.0, 0.0), (6.0, -1.0), (9.0, 0.5**0.5)])
    def test_light_is_what_sine_and_exponential_say_at_the_exposures_start(self, time_s: float, sine: float) -> None:
        bench, notebook = watched_bench(self.drifting)
        bench.spend(time_s * 1e6)
        bench.display(np.array([93.0]), 1000, 100)
        assert notebook.readings[0] == pytest.approx(50.0 + 100.0 * (1 + 0.1 * sine) * np.exp(-0.05 * time_s))

    def test_it_moves_on_from_exposure_to_exposure(self) -> None:
        rippling = replace(QUIET, lamp_drift=0.3, lamp_drift_period_s=0.01)
        found = readings(rippling, np.full(20, 93.0))
        expected = 150.0 + 30.0 * np.sin(2 * np.pi * np.arange(20) / 10)
        np.testing.assert_allclose(found, expected, rtol=1e-12)

    def test_it_moves_on_in_the_dark_and_while_nothing_is_displayed(self) -> None:
        fading = replace(QUIET, lamp_fading_per_s=0.5)
        bench, notebook = watched_bench(fading, light_on=False)
        bench.display(np.full(1000, 93.0), 1000, 100)
        bench.spend(1e6)
        bench.set_light(True)
        bench.display(np.array([93.0]), 1000, 100)
        assert notebook.readings[-1] == pytest.approx(50.0 + 100.0 * np.exp(-1.0))

    def test_expected_readings_follow_it(self) -> None:
        bench, notebook = watched_bench(replace(self.drifting, dmd_contrast=50.0, bleaching_per_s=9.0))
        for _ in range(3):
            bench.spend(0.7e6)
            bench.display(np.linspace(0.0, 64.0, 50), 1000, 100)
        expected = np.concatenate([bench.expected(each) for each in bench.record])
        np.testing.assert_allclose(notebook.readings, expected, rtol=1e-12)

    def test_expected_readings_leave_the_source_noise_out(self) -> None:
        noisy = replace(self.drifting, shot_noise=True, source_noise=0.3)
        light = np.full(30, 1e5)
        both = []
        for made_of in (noisy, self.drifting):
            bench, _ = watched_bench(made_of)
            bench.display(light, 1000, 100)
            both.append(bench.expected(bench.record[0]).tolist())
        assert both[0] == both[1]

    def test_pace_changes_no_reading(self) -> None:
        light = np.full(12, 93.0)
        clock = Clock()
        bench = OpticalBench(replace(self.drifting, pace=1.0), np.ones((8, 8)), clock, True)
        notebook = Notebook()
        bench.attach(notebook)
        bench.display(light, 1000, 100)
        for _ in range(20):
            clock.now += 0.9e-3
            bench.advance()
        np.testing.assert_allclose(notebook.readings, readings(self.drifting, light), rtol=1e-12)


class TestContrast:
    """Mirrors that are off send a little."""

    def test_off_mirrors_send_their_light_over_the_contrast(self) -> None:
        found = readings(replace(QUIET, dmd_contrast=100.0), np.array([0.0, 16.0, 64.0]))
        np.testing.assert_allclose(found, [57.64, 57.0 + 16.0 + 0.48, 121.0], rtol=1e-12)

    def test_a_pair_adds_up_to_all_light_and_a_hundredth(self) -> None:
        light = np.array([10.0, 54.0])
        made_of = BenchSettings(1.0, 0.0, shot_noise=False, dmd_contrast=100.0)
        assert readings(made_of, light).sum() == pytest.approx(64.0 * 1.01)

    def test_the_dark_mirrors_of_a_late_start_send_light_too(self) -> None:
        bench, notebook = watched_bench(replace(QUIET, dmd_contrast=64.0))
        bench.inject(LateStart(0, 1))
        bench.display(np.array([64.0, 64.0]), 1000, 100)
        assert notebook.readings == [58.0, 121.0]

    def test_without_light_they_send_none(self) -> None:
        assert readings(replace(QUIET, dmd_contrast=2.0), np.array([10.0]), light_on=False).tolist() == [50.0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"source_noise": -0.1},
        {"lamp_drift": -0.1},
        {"lamp_drift": 1.1},
        {"lamp_drift_period_s": 0.0},
        {"lamp_fading_per_s": -1.0},
        {"dmd_contrast": 1.0},
    ],
)
def test_an_impossible_lamp_or_dmd_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(QUIET, **wrong)
