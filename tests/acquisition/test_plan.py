"""The plan says what will happen, and touches no device."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from acquisition.plan import run_bytes, summarize
from acquisition.problems import AcquisitionFileError
from acquisition.sensing_plan import plan_sensing
from tests.acquisition.rehearsal import asymmetric_sample, rehearse, small_config

SAMPLE = asymmetric_sample(8)
REAL = {
    "projector": {"kind": "alp"},
    "detector": {"kind": "micro-manager"},
    "light_source": {"kind": "none", "power_mw": 3.0},
}


def test_the_plan_counts_what_the_run_then_does() -> None:
    config = small_config(sensing={"repeats": 5, "alpha": 0.4, "draw": "bernoulli"})
    summary = summarize(config, plan_sensing(config, SAMPLE), SAMPLE)
    _, blocks = rehearse(config, SAMPLE)
    guards = sum(block.guards.size for block in blocks)
    pairs = sum(block.n_pairs for block in blocks)
    assert summary.pairs == pairs
    assert summary.guard_exposures == guards
    assert summary.exposures == 2 * pairs + guards
    assert summary.blocks == len(blocks)
    assert summary.time.light_s == pytest.approx((2 * pairs + guards) * 100e-6)
    assert summary.dose_mj == pytest.approx((2 * pairs + guards) * 90e-6 * 1.0)


def test_the_forecast_is_the_formula_under_the_prior() -> None:
    config = small_config(sensing={"repeats": 2}, noise={"gain": 3.0, "variance": 70.0})
    plan = plan_sensing(config, SAMPLE)
    summary = summarize(config, plan, SAMPLE)
    v = 3.0 * SAMPLE.sum() + 2 * 70.0
    lam = plan.prior.variance
    error = (lam[1:] * (v / 2) / (lam[1:] + v / 2)).sum() + lam[0] * (v / 126) / (lam[0] + v / 126)
    assert summary.forecast_psnr == pytest.approx(10 * np.log10(SAMPLE.max() ** 2 / (error / 64**2)))


def test_upload_and_memory_follow_from_the_pictures() -> None:
    config = small_config(sensing={"side": 64}, dmd_region={"mirrors_per_px": 2})
    plan = plan_sensing(config, asymmetric_sample(64))
    summary = summarize(config, plan, asymmetric_sample(64))
    assert summary.pictures == sum(bank.n_pictures for bank in plan.schedule.banks)
    dark = config.blocks.dark_exposures
    assert summary.time.upload_s == pytest.approx((summary.pictures + dark) * 768 * 128 / 300e6)
    assert summary.largest_bank_pictures <= summary.memory_pictures == 43_690
    assert summary.disk_bytes == run_bytes(plan.schedule, snapshots=config.output.snapshots)


def test_a_real_bench_is_planned_without_its_devices() -> None:
    config = small_config(devices=REAL)
    summary = summarize(config, plan_sensing(config, None), None)
    assert summary.forecast_psnr is None
    assert summary.dose_mj is not None
    known = small_config(devices=REAL, sample={"expected_total": 1e5, "expected_peak": 4e3})
    assert summarize(known, plan_sensing(known, None), None).forecast_psnr is not None


def test_water_filling_needs_to_know_the_light() -> None:
    config = small_config(devices=REAL, sensing={"mask": {"kind": "water-filling"}})
    with pytest.raises(AcquisitionFileError, match=r"sample\.expected_total"):
        plan_sensing(config, None)


@pytest.mark.parametrize("kind", ["uniform", "low-sequency", "half-half", "random", "water-filling"])
@pytest.mark.parametrize("draw", ["bernoulli", "systematic"])
def test_every_mask_and_draw_spends_the_budget(kind: str, draw: str) -> None:
    config = small_config(sensing={"side": 32, "alpha": 0.25, "repeats": 8, "draw": draw, "mask": {"kind": kind}})
    plan = plan_sensing(config, asymmetric_sample(32))
    budget = 0.25 * 32**2 * 8
    slack = 6 * np.sqrt(budget) if draw == "bernoulli" else 8  # i = 0 comes free: up to S pairs less
    assert abs(plan.schedule.n_pairs - budget) <= slack
    assert plan.schedule.repeats[0] == 0
    assert plan.mask.mean() == pytest.approx(0.25, rel=2e-3)


def test_the_same_file_gives_the_same_plan_and_another_seed_another_one() -> None:
    plans = [
        plan_sensing(small_config(sensing={"alpha": 0.5, "repeats": 3, "seed": seed}), SAMPLE).schedule.repeats
        for seed in (1, 1, 2)
    ]
    assert np.array_equal(plans[0], plans[1])
    assert not np.array_equal(plans[0], plans[2])


def test_the_plan_foresees_a_sample_that_is_too_dim_and_a_detector_that_saturates() -> None:
    config = small_config(noise={"variance": 1e6})
    bright = summarize(config, plan_sensing(config, 1e3 * SAMPLE), 1e3 * SAMPLE)
    assert bright.false_alarms is not None
    assert bright.false_alarms < 1e-6
    dim = summarize(config, plan_sensing(config, 1e-3 * SAMPLE), 1e-3 * SAMPLE)
    assert dim.false_alarms is not None
    assert dim.false_alarms > 1e-6
    assert bright.brightest_reading == pytest.approx(1e3 * SAMPLE.sum())
    assert bright.detector_full_scale == 2**32 - 1


def test_background_costs_forecast() -> None:
    config = small_config(noise={"gain": 2.0})
    lit = small_config(noise={"gain": 2.0}, bench={"background_photoelectrons": 1e6})
    forecasts = [summarize(each, plan_sensing(each, SAMPLE), SAMPLE).forecast_psnr for each in (config, lit)]
    assert forecasts[0] is not None
    assert forecasts[1] is not None
    assert forecasts[1] < forecasts[0] - 3


def test_the_brightest_reading_is_that_of_the_pixels_that_are_summed() -> None:
    """A region of 3 × 2 of 8 × 8 pixels holds six offsets, and six times what a pixel saturates at."""
    detector = {"width_px": 8, "height_px": 8, "bytes_per_px": 2, "offset_per_px": 100.0}
    whole = small_config(devices=with_detector(detector), bench={"saturation": 50_000})
    region = {"x": 1, "y": 1, "width": 3, "height": 2}
    part = small_config(devices=with_detector({**detector, "region": region}), bench={"saturation": 50_000})
    for config, n_pixels in ((whole, 64), (part, 6)):
        summary = summarize(config, plan_sensing(config, SAMPLE), SAMPLE)
        assert summary.brightest_reading == pytest.approx(SAMPLE.sum() + 100 * n_pixels)
        assert summary.detector_full_scale == 50_000 * n_pixels


def with_detector(detector: Mapping[str, object]) -> dict[str, object]:
    return {
        "projector": {"kind": "simulated", "dmd": "xga"},
        "detector": {"kind": "simulated", **detector},
        "light_source": {"kind": "simulated"},
    }
