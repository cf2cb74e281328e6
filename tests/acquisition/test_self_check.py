"""Every run holds its readings against its noise: clean ones pass, a changed gain is noticed, on the bench as drawn."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from acquisition import run as run_module
from acquisition.config import AcquisitionConfig
from acquisition.console import print_info
from acquisition.events import EventKind, read_events
from acquisition.observer import Observer
from acquisition.readings import Readings
from acquisition.run import acquire, resume
from acquisition.self_check import SelfCheckCollector, noise_knowledge, on_record, stored_self_check
from acquisition.stored_run import StoredRun
from benchmarks.self_check import Made, changed_runs, checked, clean_runs, searched, searched_until_certain
from calibration.collected import Collected, Darkness
from calibration.estimate import Estimate
from calibration.identity import CameraIdentity
from calibration.noise_file import NoiseCalibration
from calibration.noise_knowledge import NoiseKnowledge
from calibration.scatter import Scatter
from calibration.self_check import SelfCheck, outcomes
from models.noise import NoiseModel
from tests.acquisition.rehearsal import small_config

N_CLEAN, N_CHANGED = 120, 20


def alarmed(check: SelfCheck) -> bool:
    return bool(check.failed) or check.spike_found


@pytest.fixture(scope="module")
def clean() -> list[SelfCheck]:
    return [checked(run) for run in clean_runs(N_CLEAN, seed=40)]


def test_clean_runs_of_any_kind_warn_of_nothing(clean: list[SelfCheck]) -> None:
    # At 0.5 % of false alarms, three or more among 120 come once in fifty draws of the seed; it is fixed.
    assert sum(map(alarmed, clean)) <= 2


def test_the_z_scores_of_clean_runs_are_standard_normal(clean: list[SelfCheck]) -> None:
    for what in ("darkness, light off", "darkness under light", "bright guards", "repeats", "pair sums"):
        scores = np.array([test.z for check in clean for test in check.tests if test.what == what])
        assert len(scores) > 80
        assert abs(scores.mean()) < 4 / len(scores) ** 0.5, what
        assert scores.std() == pytest.approx(1, abs=4 / (2 * len(scores)) ** 0.5), what


def test_the_runs_own_gain_is_within_its_errors_of_the_true_one(clean: list[SelfCheck]) -> None:
    scores = np.array([check.estimate.gain_z for check in clean if check.estimate is not None])
    assert len(scores) > 100
    assert abs(np.median(scores)) < 0.4
    assert np.mean(np.abs(scores) < 2) > 0.88


def test_a_gain_off_by_a_fifth_is_noticed_every_time_in_the_smallest_runs_that_are_certain_to() -> None:
    for each in changed_runs(N_CHANGED, seed=41):
        found, stated = searched_until_certain(each)
        assert stated > 0.999
        assert found, each[0]


def test_even_where_shot_noise_is_half_of_it_64_px_and_two_repeats_notice_a_changed_gain() -> None:
    """aT/(aT + 2b) is 0.52: of 5900 pairs and two thirds as many repeats."""
    shot = 4.0 * 1e5
    run = Made(side=64, gain=2.0, variance=shot * 0.48 / 0.52 / 2, electrons=1e5, repeats=2)
    assert run.shot_share == pytest.approx(0.52)
    for seed in range(8):
        for factor in (0.8, 1.2):
            changed = replace(run, seed=seed), NoiseKnowledge(replace(run.noise, gain=2.0 / factor)), factor
            found, stated = searched(*changed)
            assert stated > 0.99
            assert found


def test_smaller_runs_notice_it_as_often_as_they_say() -> None:
    found, stated = np.array([searched(*each) for each in changed_runs(80, seed=43, gain_error=0.03)], dtype=float).T
    spread = float((stated @ (1 - stated)) ** 0.5)
    assert spread > 2
    assert found.sum() == pytest.approx(stated.sum(), abs=3 * spread)


def test_pair_sums_keep_fourteen_of_sixteen_degrees_of_freedom_and_short_rows_all_but_two() -> None:
    run = Made(side=32, gain=2.0, variance=400.0, electrons=1e5, repeats=1, alpha=0.9, block=105)
    plus_first, dark, blocks = run.draw()
    for block, expected in ((blocks[0], 6 * 14 + 7), (blocks[-1], None)):
        collector = SelfCheckCollector(NoiseKnowledge(run.noise), plus_first, dark, picture_time_us=100.0)
        collector.add(block)
        n = block.n_pairs
        rows = [16] * (n // 16) + [n % 16] * (n % 16 >= 4)
        assert expected is None or sum(rows) - 2 * len(rows) == expected
        # The course, a parabola, takes no more than one degree besides.
        assert sum(rows) - 2 * len(rows) - 1 <= collector.collected().pair_sums.degrees <= sum(rows) - 2 * len(rows)


def test_where_every_coefficient_is_taken_once_the_pair_sums_notice_it() -> None:
    once = Made(side=64, gain=2.0, variance=400.0, electrons=1e4, repeats=1, alpha=0.9)
    check = checked(once, NoiseKnowledge(replace(once.noise, gain=2.0 / 1.2)))
    assert "repeats" not in {test.what for test in check.tests}
    assert "repeats: too few readings" in check.not_made
    assert "pair sums" in {test.what for test in check.failed}


def test_source_noise_that_is_known_is_no_alarm_and_that_is_not_known_is_one() -> None:
    flickering = Made(side=64, gain=2.0, variance=400.0, electrons=1e6, source_noise=1e-6, seed=3)
    assert not alarmed(checked(flickering))
    assert checked(flickering, NoiseKnowledge(flickering.noise)).failed


def test_a_lamp_that_ripples_in_step_with_the_pairs_is_found_and_measured() -> None:
    rippling = Made(side=64, gain=2.0, variance=400.0, electrons=1e5, ripple=1e-3, seed=5)
    check = checked(rippling)
    assert check.spike_found
    assert check.first_minus_second is not None
    # Second readings have 0.1 % more light than first ones, of half the total: T⁻ is 0.05 % of T.
    error = check.first_minus_second.error
    assert check.first_minus_second.share == pytest.approx(-0.5e-3, abs=4 * error)
    assert error < 1e-4


@pytest.mark.parametrize("seed", range(3))
def test_steep_bleaching_of_a_very_bright_sample_in_a_single_block_is_no_alarm(seed: int) -> None:
    steep = Made(16, 1.0, 100.0, 1e7, bleaching=0.3, repeats=1, alpha=0.6, block=2000, section=16, seed=seed)
    assert not alarmed(checked(steep))


def test_in_which_order_blocks_come_does_not_matter() -> None:
    run = Made(side=32, gain=2.0, variance=400.0, electrons=1e4, block=64)
    plus_first, dark, blocks = run.draw()
    forth, back = (SelfCheckCollector(NoiseKnowledge(run.noise), plus_first, dark, picture_time_us=100.0) for _ in "12")
    for block in blocks:
        forth.add(block)
    for block in reversed(blocks):
        back.add(block)
    for one, other in zip(forth.checked().tests, back.checked().tests, strict=True):
        assert one.z == pytest.approx(other.z, abs=1e-6)


def bench_config(folder: Path, **changes: dict[str, Any]) -> AcquisitionConfig:
    """32 × 32 pixels, about 3000 pairs; 16 × 16 camera pixels of offset 1."""
    y, x = np.mgrid[0:32, 0:32] / 32
    image = 0.1 + np.exp(-((x - 0.3) ** 2 + (y - 0.6) ** 2) / 0.02)
    tifffile.imwrite(folder / "sample.tif", image.astype(np.float32))
    sections: dict[str, dict[str, Any]] = {
        "sample": {"image": str(folder / "sample.tif")},
        "sensing": {"side": 32, "alpha": 0.75, "repeats": 4, "mask": {"kind": "water-filling"}},
        "dmd_region": {"top": 64, "left": 128, "mirrors_per_px": 1},
        "blocks": {"guard_interval": 32, "longest_block_s": 0.05, "dark_exposures": 64},
        "devices": {
            "projector": {"kind": "simulated", "dmd": "xga"},
            "detector": {"kind": "simulated", "offset_per_px": 1.0, "arming_ms": 2.0},
            "light_source": {"kind": "simulated"},
        },
        "noise": {"gain": 2.0, "variance": 400.0},
        "bench": {"shot_noise": True, "seed": 12, "bleaching_per_s": 0.3, "background_photoelectrons": 500.0},
        "reconstruction": {"estimator": "pair-ratio", "tv_weight": 0.0},
        "output": {"run": str(folder / "run.zarr")},
    }
    for name, values in changes.items():
        sections.setdefault(name, {}).update(values)
    return small_config(**sections)


@pytest.fixture(autouse=True)
def no_picture_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "draw_result", lambda *_: None)


def test_a_clean_run_puts_its_check_on_record_and_it_can_be_made_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = acquire(bench_config(tmp_path))
    assert result.warnings == ()
    run = StoredRun(result.run)
    again = stored_self_check(run)
    assert again is not None
    assert json.loads(json.dumps(on_record(again))) == run.facts["self_check"]
    assert run.facts["self_check"]["failed"] == []
    assert {test.what for test in again.tests} >= {"darkness, light off", "darkness under light", "repeats"}
    print_info(run)
    shown = capsys.readouterr().out
    assert "self-check" in shown
    assert "first minus second" in shown


@pytest.mark.parametrize("factor", [0.8, 1.2])
def test_a_bench_whose_gain_is_not_the_calibrated_one_is_warned_of(tmp_path: Path, factor: float) -> None:
    result = acquire(bench_config(tmp_path, bench={"gain": 2.0 * factor}))
    (warning,) = result.warnings
    assert "do not fit to the noise model (a = 2, b = 400)" in warning
    assert warning in [each.text for each in read_events(result.run) if each.kind is EventKind.WARNING]
    facts = StoredRun(result.run).facts
    assert facts["warnings"] == [warning]
    own = facts["self_check"]["estimate"]
    assert own["gain"] == pytest.approx(2.0 * factor, abs=4 * own["gain_error"])
    assert own["variance"] == pytest.approx(400, abs=4 * own["variance_error"])


def test_a_changed_read_noise_is_warned_of(tmp_path: Path) -> None:
    result = acquire(bench_config(tmp_path, bench={"variance": 1600.0}))
    assert "dark" in result.warnings[0]


def test_a_resumed_run_checks_all_of_its_readings(tmp_path: Path) -> None:
    whole, other = tmp_path / "whole", tmp_path / "other"
    for folder in (whole, other):
        folder.mkdir()
    expected = StoredRun(acquire(bench_config(whole)).run).facts["self_check"]

    def stop(readings: Readings) -> None:
        if readings.block_number == 6:
            raise KeyboardInterrupt

    config = bench_config(other)
    with pytest.raises(KeyboardInterrupt):
        acquire(config, observer=Observer(on_block=stop))
    assert "self_check" not in StoredRun(config.output.run).facts
    resumed = StoredRun(resume(config.output.run).run)
    assert resumed.facts["self_check"] == expected


def test_darkness_that_the_camera_cuts_off_is_left_out_and_the_rest_raises_no_alarm(tmp_path: Path) -> None:
    config = bench_config(
        tmp_path,
        devices={"detector": {"kind": "simulated", "arming_ms": 2.0}},
        bench={"background_photoelectrons": 0.0, "shot_noise": True, "seed": 12},
    )
    result = acquire(config)
    assert result.warnings == ()
    check = StoredRun(result.run).facts["self_check"]
    assert sum("cut off at 0" in why for why in check["not_made"]) == 2
    assert {"repeats", "pair sums"} <= {test["what"] for test in check["tests"]}


def calibration_facts(simulated: bool) -> dict[str, Any]:
    """A noise calibration as a run keeps it: a = 2 ± 0.02, b = 400 ± 20, q = (0.1 %)² ± half of it."""
    around = {"low": 0.0, "high": 1e9}
    made = NoiseCalibration(
        hadascope="0.1.0",
        measured="2026-01-01T00:00:00+00:00",
        raw="noise.zarr",
        usable=True,
        reasons=(),
        notes=(),
        identity=CameraIdentity(
            simulated=simulated,
            camera="a camera",
            exposure_us=90,
            region=None,
            roi=None,
            binning=None,
            bytes_per_px=2,
            offset_per_px=1.0,
            settings={},
        ),
        gain=Estimate(value=2.0, **around),
        variance=400.0,
        variance_estimate=Estimate(value=400.0, **around),
        source_noise=Estimate(value=1e-6, **around),
        offset=Estimate(value=256.0, **around),
        covariance=((4e-4, 0.0, 0.0), (0.0, 400.0, 0.0), (0.0, 0.0, 2.5e-13)),
        linear_up_to=None,
        exposures=1000,
        light_s=1.0,
    )
    return made.model_dump(mode="json")


def test_a_calibration_brings_its_own_uncertainty_and_source_noise(tmp_path: Path) -> None:
    knowledge = noise_knowledge(bench_config(tmp_path), calibration_facts(simulated=True))
    assert knowledge.noise == NoiseModel(2.0, 400.0)
    assert knowledge.source_noise == 1e-6
    assert knowledge.error_of(np.array([3.0, 0.0, 0.0])) == pytest.approx(0.06)
    assert knowledge.error_of(np.array([0.0, 1.0, 0.0])) == pytest.approx(20.0)


def test_a_rehearsal_of_a_real_cameras_calibration_knows_the_bench_exactly(tmp_path: Path) -> None:
    config = bench_config(tmp_path, bench={"source_noise": 0.002})
    knowledge = noise_knowledge(config, calibration_facts(simulated=False))
    assert knowledge.source_noise == pytest.approx(4e-6)
    assert knowledge.covariance is None


def rounded_darkness(variance: float) -> Collected:
    """Darkness of a region of 64 × 64 pixels, 64 readings with the light off and 300 of guards."""
    none = Scatter.empty()
    dark = Darkness(63 * variance, 64, 64, 0.0)
    return Collected(dark, False, Darkness(200 * variance, 3, 300, 0.0), none, none, none, None, 0, 0, 0.0)


def test_a_measured_b_holds_what_rounding_adds_and_a_larger_dark_variance_is_an_alarm(tmp_path: Path) -> None:
    """Rounding of 4096 pixels, 341 on top of b = 700, would hide a dark variance 1.4 times too large."""
    config = bench_config(tmp_path, noise={"gain": 2.0, "variance": 700.0})
    measured = noise_knowledge(config, calibration_facts(simulated=True), roundings=4096)
    assert measured.rounding == 0
    found = outcomes(rounded_darkness(1.45 * 700), measured)
    assert [test.what for test in found if test.failed] == ["darkness under light"]
    assert not any(test.failed for test in outcomes(rounded_darkness(700), measured))


def test_a_stated_b_and_a_rehearsed_one_may_lack_the_rounding_of_every_pixel(tmp_path: Path) -> None:
    config = bench_config(tmp_path, noise={"gain": 2.0, "variance": 1500.0})
    rehearsed = noise_knowledge(config, calibration_facts(simulated=False), roundings=4096)
    for knowledge in (noise_knowledge(config, roundings=4096), rehearsed):
        assert knowledge.rounding == pytest.approx(4096 / 12)
        assert not any(test.failed for test in outcomes(rounded_darkness(1500 + 341), knowledge))
        assert any(test.failed for test in outcomes(rounded_darkness(1500 + 4 * 341), knowledge))


def test_readings_of_many_pixels_that_hardly_vary_are_no_alarm_where_b_is_stated(tmp_path: Path) -> None:
    """Each pixel varies by less than half a unit, so that all of them may read the same for ever."""
    config = bench_config(tmp_path, noise={"gain": 2.0, "variance": 100.0})
    constant = rounded_darkness(0.0)
    assert not any(test.failed for test in outcomes(constant, noise_knowledge(config, roundings=4096)))
    assert all(test.failed for test in outcomes(constant, noise_knowledge(config)))


def test_a_bench_without_noise_is_not_checked(tmp_path: Path) -> None:
    result = acquire(bench_config(tmp_path, bench={"shot_noise": False}))
    assert result.warnings == ()
    run = StoredRun(result.run)
    assert run.facts["self_check"] is None
    assert stored_self_check(run) is None


def test_where_the_light_stays_on_darkness_is_left_out_because_its_level_is_only_stated(tmp_path: Path) -> None:
    result = acquire(bench_config(tmp_path, devices={"light_source": {"kind": "none"}}))
    assert not any("noise model" in warning for warning in result.warnings)
    check = StoredRun(result.run).facts["self_check"]
    assert sum("cannot be switched off" in why for why in check["not_made"]) == 2
    assert {"repeats", "pair sums", "bright guards"} <= {test["what"] for test in check["tests"]}


def test_guards_of_several_codes_are_checked_as_well(tmp_path: Path) -> None:
    result = acquire(bench_config(tmp_path, blocks={"guard_codes": 3}))
    assert result.warnings == ()
    check = StoredRun(result.run).facts["self_check"]
    guards = next(test for test in check["tests"] if test["what"] == "bright guards")
    run = StoredRun(result.run)
    n_guards = sum(len(block.guards) for block in run.blocks())
    assert guards["degrees"] == 5 * n_guards  # six bright pictures a guard, less their mean
