"""Calibrated uncertainty holds on images that it was not calibrated on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from models.learning.uncertainty import (
    COVERAGE,
    INTERVAL_SCALES,
    LEAST_SHARE,
    HeldOut,
    UncertaintyCalibration,
    calibrate,
)

FLOATS = NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, int]], FLOATS]

MEASURED_FACTOR, UNMEASURED_FACTOR = 1.25, 0.6


def laplace(rng: np.random.Generator, shape: tuple[int, int]) -> FLOATS:
    return rng.laplace(size=shape)


def gaussian(rng: np.random.Generator, shape: tuple[int, int]) -> FLOATS:
    return rng.standard_normal(shape)


def images(count: int, draw: Draw, seed: int, n: int = 48, misjudged: float = 0.2) -> list[HeldOut]:
    """Errors are wider than the scales by a factor that grows with the brightness over the scale; every image has a
    noise of its own, and scales that are as a whole misjudged. Of the squared error a random share was measured; it and
    the rest are told within 5 %, but for the factors that a calibration is to find.
    """
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        image = rng.gamma(0.8, 20.0, (n, n))
        noise = np.exp(rng.uniform(-1, 1))
        scale = noise * (0.3 + 0.02 * image) * np.exp(0.2 * rng.standard_normal((n, n)))
        width = scale * (0.6 + 0.4 * np.log1p(image / scale))
        truth = image + width * draw(rng, (n, n))
        squared = float(np.mean((truth - image) ** 2))
        share = rng.uniform(0.2, 0.9)
        told = np.exp(0.05 * rng.standard_normal(2)) * (share, 1 - share) / (MEASURED_FACTOR, UNMEASURED_FACTOR)
        raw = scale * np.exp(misjudged * rng.standard_normal())
        made.append(HeldOut(truth, image, raw, *map(float, squared * told)))
    return made


def predicted(calibration: UncertaintyCalibration, one: HeldOut) -> float:
    return calibration.mean_squared_error(one.raw_scale, one.measured_mse, one.unmeasured_mse)


def interval(calibration: UncertaintyCalibration, one: HeldOut) -> FLOATS:
    return INTERVAL_SCALES * calibration.scale(one.image, one.raw_scale, predicted(calibration, one))


def off_db(calibration: UncertaintyCalibration, held_out: list[HeldOut]) -> FLOATS:
    return np.array([10 * np.log10(predicted(calibration, one) / one.mean_squared_error) for one in held_out])


@pytest.mark.parametrize("draw", [laplace, gaussian])
def test_the_interval_holds_90_percent_overall_and_at_every_brightness(draw: Draw) -> None:
    calibration = calibrate(images(24, draw, 0))
    others = images(24, draw, 1)
    error = np.concatenate([np.abs(one.truth - one.image).ravel() for one in others])
    inside = error <= np.concatenate([interval(calibration, one).ravel() for one in others])
    assert 0.88 <= inside.mean() <= 0.92
    for third in np.array_split(np.argsort(np.ravel([one.image for one in others])), 3):
        assert 0.85 <= inside[third].mean() <= 0.95
    raw = error <= INTERVAL_SCALES * np.ravel([one.raw_scale for one in others])
    assert not 0.85 <= raw.mean() <= 0.95, "the raw scales would have done"


def test_of_a_laplace_distribution_the_interval_is_the_90_percent() -> None:
    rng = np.random.default_rng(2)
    assert np.mean(np.abs(rng.laplace(size=200_000)) < INTERVAL_SCALES) == pytest.approx(COVERAGE, abs=0.003)


def test_true_scales_are_left_as_they_are() -> None:
    rng = np.random.default_rng(3)
    held_out = []
    for _ in range(8):
        image = rng.gamma(1.0, 10.0, (64, 64))
        scale = 0.5 + 0.1 * image
        truth = image + scale * rng.laplace(size=image.shape)
        held_out.append(HeldOut(truth, image, scale, 2 * float(np.mean(scale**2)), 0.0))
    calibration = calibrate(held_out)
    np.testing.assert_allclose(calibration.factors, 1.0, atol=0.1)
    assert np.mean(calibration.factors) == pytest.approx(1.0, abs=0.03)
    np.testing.assert_array_equal(calibration.levels, np.sort(calibration.levels))
    assert calibration.measured_factor == pytest.approx(1.0, abs=0.05)


def test_the_predicted_error_is_within_1_db_where_the_scales_alone_would_not_be() -> None:
    calibration = calibrate(images(40, gaussian, 4, n=24, misjudged=0.5))
    others = images(40, gaussian, 5, n=24, misjudged=0.5)
    assert np.mean(np.abs(off_db(calibration, others)) < 1) >= 0.9
    true = np.array([one.mean_squared_error for one in others])
    assert np.ptp(np.log(true)) > 2
    scales = np.log([2 * np.mean(one.raw_scale**2) for one in others]) - np.log(true)
    assert np.mean(np.abs(scales - np.median(scales)) < np.log(10) / 10) < 0.7


def test_the_factors_of_measured_and_unmeasured_error_are_found() -> None:
    calibration = calibrate(images(60, laplace, 6, n=16))
    assert calibration.measured_factor == pytest.approx(MEASURED_FACTOR, rel=0.05)
    assert calibration.unmeasured_factor == pytest.approx(UNMEASURED_FACTOR, rel=0.05)


def test_exact_errors_are_fitted_exactly() -> None:
    rng = np.random.default_rng(7)
    held_out = []
    for _ in range(10):
        measured, unmeasured = np.exp(rng.uniform(-2, 2, 2))
        error = np.sqrt(1.7 * measured + 0.4 * unmeasured) * rng.permutation(np.tile([1.0, -1.0], 32)).reshape(8, 8)
        held_out.append(HeldOut(5 + error, np.full((8, 8), 5.0), np.full((8, 8), 1e-3), measured, unmeasured))
    calibration = calibrate(held_out)
    assert calibration.measured_factor == pytest.approx(1.7, rel=2e-3)
    assert calibration.unmeasured_factor == pytest.approx(0.4, rel=2e-3)
    np.testing.assert_allclose(off_db(calibration, held_out), 0.0, atol=0.02)


def test_what_was_never_left_unmeasured_is_not_calibrated() -> None:
    held_out = [replace(one, unmeasured_mse=0.0) for one in images(10, laplace, 8, n=16)]
    assert calibrate(held_out).unmeasured_factor == 1.0


@pytest.mark.parametrize("measured", [-3.0, 0.0, 1e-9])
def test_an_estimate_lost_in_its_own_noise_gives_way_to_a_share_of_what_the_scales_say(measured: float) -> None:
    scale = np.random.default_rng(9).uniform(0.1, 2, (4, 4))
    calibration = UncertaintyCalibration(measured_factor=1.5, unmeasured_factor=0.5)
    expected = 1.5 * LEAST_SHARE * 2 * np.mean(scale**2) + 0.5 * 0.3
    assert calibration.mean_squared_error(scale, measured, 0.3) == pytest.approx(expected)


@pytest.mark.parametrize("factor", [1e-4, 3e5])
def test_a_calibration_holds_in_any_unit_of_light(factor: float) -> None:
    held_out = images(20, gaussian, 10, n=16)
    calibration = calibrate(held_out)
    for one in held_out:
        other = HeldOut(
            factor * one.truth,
            factor * one.image,
            factor * one.raw_scale,
            factor**2 * one.measured_mse,
            factor**2 * one.unmeasured_mse,
        )
        assert predicted(calibration, other) == pytest.approx(factor**2 * predicted(calibration, one))
        np.testing.assert_allclose(interval(calibration, other), factor * interval(calibration, one))


def test_dark_pixels_count_whichever_image_they_come_from() -> None:
    # Half of all pixels are at one level, exactly 0; only the last images err there, which nothing says of them.
    rng = np.random.default_rng(11)
    held_out = []
    for k in range(8):
        image = np.where(rng.random((32, 32)) < 0.5, 0.0, rng.uniform(5, 50, (32, 32)))
        truth = image + (3.0 if k >= 4 else 0.1) * rng.laplace(size=image.shape)
        held_out.append(HeldOut(truth, image, np.ones((32, 32)), 2.0, 0.0))
    calibration = calibrate(held_out)
    dark = np.concatenate([(one.truth - one.image)[one.image == 0] for one in held_out])
    expected = np.sort(np.abs(dark))[round(0.9 * len(dark))] / INTERVAL_SCALES
    scale = calibration.scale(np.zeros((1, 1)), np.ones((1, 1)), calibration.mean_squared_error(np.ones(1), 2.0, 0.0))
    assert float(scale[0, 0]) == pytest.approx(expected, rel=0.05)
    assert len(set(calibration.levels)) == len(calibration.levels) == len(calibration.factors)


def test_factors_lie_on_straight_lines_between_their_levels_and_stay_beyond() -> None:
    calibration = UncertaintyCalibration((1.0, 3.0), (2.0, 4.0))
    scale = np.full(4, 0.5)
    image = 0.5 * (np.exp([0.0, 2.0, 3.0, 9.0]) - 1)
    as_said = 2 * 0.5**2
    np.testing.assert_allclose(calibration.scale(image, scale, as_said), 0.5 * np.array([2.0, 3.0, 4.0, 4.0]))
    np.testing.assert_allclose(calibration.scale(np.array([-7.0]), scale[:1], as_said), [1.0])


def test_scales_go_half_of_the_way_to_the_predicted_error_by_their_logarithms() -> None:
    scale = np.random.default_rng(12).uniform(0.1, 2, (4, 4))
    said = 2 * float(np.mean(scale**2))
    plain = UncertaintyCalibration()
    np.testing.assert_allclose(plain.scale(np.ones((4, 4)), scale, said), scale)
    # An error 4 times as large asks for scales 4 times as large, a squared one of 16 for the same.
    np.testing.assert_allclose(plain.scale(np.ones((4, 4)), scale, 16 * said), 2 * scale)


def test_without_calibration_both_errors_add_up() -> None:
    assert UncertaintyCalibration().mean_squared_error(np.full((2, 2), 0.1), 2.0, 5.0) == pytest.approx(7.0)


def test_one_image_is_too_few_to_calibrate_on() -> None:
    with pytest.raises(ValueError, match="found 1 held-out images; expected two at least"):
        calibrate(images(1, laplace, 9, n=4))
