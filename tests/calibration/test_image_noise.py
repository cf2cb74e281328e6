"""A camera's gain and variance from one image, against noise that was put on images without any."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.stats import binom

from calibration.detector_limits import detector_limits, filled_in
from calibration.image_noise import diagonal_details, estimate_image_noise
from calibration.level_sets import HOLE_PX, LevelSums, level_of, level_sums, surroundings
from calibration.variance_line import VarianceLine, fit_variance_line, reasons_against, widened
from calibration.verdict import (
    ConstantReadingsError,
    NotCalibratableError,
    SaturatedThroughoutError,
    TooFewLevelsError,
)

Image = NDArray[np.float64]


def hills(side: int = 128, dark: float = 20.0, bright: float = 180.0) -> Image:
    """Light without structure finer than 10 px, from ``dark`` to ``bright``."""
    y, x = np.mgrid[:side, :side] / side
    shape = np.exp(-((x - 0.5) ** 2 + (y - 0.4) ** 2) / 0.05) + 0.6 * x
    return np.asarray(dark + (bright - dark) * (shape - shape.min()) / (shape.max() - shape.min()))


def read(light: Image, a: float, b: float, seed: int) -> Image:
    rng = np.random.default_rng(seed)
    return np.asarray(a * rng.poisson(light / a) + np.sqrt(b) * rng.standard_normal(light.shape))


def discs(side: int = 256) -> Image:
    """Light with sharp edges everywhere, and stripes on a third of it: discs of random size and brightness."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:side, :side]
    light = np.full((side, side), 10.0)
    for row, column, radius, level in zip(*rng.uniform(0, side, (2, 25)), *rng.uniform(5, 40, (2, 25)), strict=True):
        light[(y - row) ** 2 + (x - column) ** 2 < radius**2] = 5 * level
    return np.asarray(np.where(y < side // 3, light * (1 + 0.3 * np.sin(x + y)), light))


@pytest.mark.parametrize(("a", "b"), [(0.5, 1.0), (1.0, 25.0), (4.0, 9.0), (20.0, 0.0)])
def test_gain_and_variance_of_a_smooth_image_are_recovered(a: float, b: float) -> None:
    found = estimate_image_noise(read(hills(256, dark=5.0), a, b, 1))
    assert found.usable, found.reason
    assert found.gain == pytest.approx(a, rel=0.1)
    assert found.variance == pytest.approx(b, abs=0.1 * (b + 20 * a))
    assert found.n_levels == len(found.line.level_variance) >= 20


@pytest.mark.parametrize(("a", "b"), [(0.5, 9.0), (2.0, 1.0)])
def test_edges_and_texture_do_not_count_as_noise(a: float, b: float) -> None:
    image = read(discs(), a, b, 2)
    detail, mean = diagonal_details(image)
    everything = fit_variance_line(
        level_sums(mean, detail**2, level_of(surroundings(image), image < 1e9), image < 1e9), replicates=0
    )
    found = estimate_image_noise(image)
    assert found.gain == pytest.approx(a, rel=0.1)
    assert abs(found.gain - a) < abs(everything.gain - a)


def test_intervals_of_95_percent_cover_the_truth_as_often_as_they_say() -> None:
    """Intervals that covered it in 85 % of all cases would reach 92 of 100 with a probability of 3 %."""
    a, b, trials = 1.0, 9.0, 100
    enough = binom.isf(0.05, trials, 0.85)
    covered = np.zeros(2)
    for seed in range(trials):
        line = estimate_image_noise(read(hills(), a, b, seed), seed=seed).line
        covered += [
            line.gain_interval[0] <= a <= line.gain_interval[1],
            line.variance_interval[0] <= b <= line.variance_interval[1],
        ]
    assert (covered > enough).all(), covered


def test_intervals_shrink_with_the_number_of_pixels() -> None:
    small, large = (estimate_image_noise(read(hills(side), 1.0, 9.0, 3)).line.gain_interval for side in (96, 384))
    assert 2 < (small[1] - small[0]) / (large[1] - large[0]) < 8


def test_gain_does_not_change_with_a_black_level_and_variance_falls_by_gain_times_it() -> None:
    image = read(hills(), 2.0, 9.0, 4)
    found, raised = estimate_image_noise(image), estimate_image_noise(image + 100)
    assert raised.gain == pytest.approx(found.gain, rel=1e-6)
    assert raised.variance == pytest.approx(found.variance - 100 * found.gain, rel=1e-6)
    assert "black level" in raised.remarks[0]


@settings(max_examples=15, deadline=None)
@given(doublings=st.integers(-8, 10))
def test_units_scale_gain_once_and_variance_twice(doublings: int) -> None:
    """By powers of two, which no rounding touches: a pixel that changes its set changes the estimate."""
    factor = 2.0**doublings
    image = read(hills(64), 2.0, 9.0, 5)
    found, scaled = estimate_image_noise(image).line, estimate_image_noise(image * factor).line
    assert scaled.gain == pytest.approx(factor * found.gain, rel=1e-6)
    assert scaled.variance == pytest.approx(factor**2 * found.variance, rel=1e-5, abs=1e-6 * factor**2)
    assert scaled.gain_interval == pytest.approx([factor * end for end in found.gain_interval], rel=1e-6)


def test_an_image_and_its_seed_decide_everything() -> None:
    image = read(hills(), 2.0, 9.0, 6)
    first, again, other = (estimate_image_noise(image, seed=seed).line for seed in (0, 0, 1))
    assert first.gain_interval == again.gain_interval != other.gain_interval
    assert first.gain == other.gain


def test_grey_values_clipped_at_both_ends_do_not_bend_the_line() -> None:
    a, b = 2.0, 100.0
    light = hills(256, dark=0.0, bright=270.0)
    clipped = np.clip(np.round(read(light, a, b, 7)), 0, 255)
    found = estimate_image_noise(clipped)
    assert (found.limits.low, found.limits.high) == (0.0, 255.0)
    assert found.gain == pytest.approx(a, rel=0.1)
    assert found.variance == pytest.approx(b + 1 / 12, abs=25)
    assert found.line.level_mean.min() > 20
    assert found.line.level_mean.max() < 200


def test_counts_of_zero_photons_are_not_clipped() -> None:
    """With b = 0 an image piles up at 0 where it is dark, and all of it is on the line."""
    found = estimate_image_noise(read(np.maximum(hills(256, dark=-40.0, bright=80.0), 0.3), 4.0, 0.0, 8))
    assert found.limits.low is None
    assert found.line.level_mean.min() < 1
    assert found.gain == pytest.approx(4.0, rel=0.08)


def test_a_stated_full_scale_is_kept_clear_of() -> None:
    image = read(hills(), 1.0, 4.0, 9)
    found = estimate_image_noise(image, full_scale=120.0)
    assert found.limits.high == 120.0
    assert found.line.level_mean.max() < 120 - 3 * np.sqrt(120 + 4) + 5


def test_a_margin_that_was_filled_in_does_not_count() -> None:
    image = read(hills(256), 1.0, 9.0, 10)
    image[:, :60] = 0.0
    image[200:] = 0.0
    found = estimate_image_noise(image)
    assert found.gain == pytest.approx(1.0, rel=0.1)
    assert found.line.variance_interval[0] <= 9.0 <= found.line.variance_interval[1]
    assert found.line.level_mean.min() > 20
    assert filled_in(image)[:, :60].all()
    assert not filled_in(image)[:193, 67:].any()


def test_a_disturbed_edge_does_not_count() -> None:
    """Three pixels of a chequered pattern, that only diagonal details see; those six pixels from the edge do not."""
    image = read(hills(256), 1.0, 9.0, 17)
    y, x = np.mgrid[:256, :256]
    edge = np.minimum(np.minimum(y, x), 255 - np.maximum(y, x)) < 3
    disturbed = estimate_image_noise(image + np.where(edge, 30.0 * (-1.0) ** (x + y), 0.0))
    assert disturbed.usable, disturbed.reason
    assert disturbed.gain == pytest.approx(1.0, rel=0.08)
    assert disturbed.variance == pytest.approx(9.0, abs=4)


def test_hot_pixels_do_not_count() -> None:
    image = read(hills(256), 1.0, 9.0, 11)
    image[np.random.default_rng(0).random(image.shape) < 3e-4] += 2000
    found = estimate_image_noise(image)
    assert found.gain == pytest.approx(1.0, rel=0.12)
    assert found.variance == pytest.approx(9.0, abs=5)


@pytest.mark.parametrize("blur_px", [0.4, 0.6, 1.0])
def test_smoothed_noise_is_told_and_not_usable(blur_px: float) -> None:
    found = estimate_image_noise(gaussian_filter(read(hills(256), 1.0, 9.0, 12), blur_px))
    assert not found.usable
    assert found.colour < -0.02
    assert "take repeats" in found.reason


def test_a_detector_that_is_not_linear_is_told() -> None:
    """Grey values y - y²/600 have less noise for their mean the brighter they are."""
    read_out = read(hills(256, dark=5.0, bright=250.0), 1.0, 4.0, 13)
    found = estimate_image_noise(read_out - read_out**2 / 600)
    assert not found.usable
    assert "variance over mean bends" in found.reason


@pytest.mark.parametrize(
    ("image", "error", "said"),
    [
        (np.full((128, 128), 7.0), ConstantReadingsError, "all pixels are 7"),
        (np.full((128, 128), 255.0), ConstantReadingsError, "all pixels are 255"),
        (np.where(np.arange(128 * 128).reshape(128, 128) % 5, 255.0, 9.0), SaturatedThroughoutError, "less light"),
        (np.zeros((63, 200)), NotCalibratableError, "64 px"),
        (np.zeros((3, 128, 128)), NotCalibratableError, "two dimensions"),
        (np.zeros((128, 128), dtype=complex), NotCalibratableError, "complex128"),
        (np.where(np.eye(128) > 0, np.nan, 1.0), NotCalibratableError, "128 pixels are not finite"),
        (np.kron(np.arange(4.0).reshape(2, 2), np.ones((64, 64))), ConstantReadingsError, "nearly all pixels"),
    ],
)
def test_images_that_say_nothing_are_refused_with_the_reason(image: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        estimate_image_noise(image)


def test_an_image_of_one_level_is_not_usable() -> None:
    found = estimate_image_noise(read(np.full((128, 128), 50.0), 1.0, 4.0, 14))
    assert not found.usable
    assert "not told from zero" in found.reason or "uncertain" in found.reason


def test_an_image_saturated_but_for_a_corner_is_refused() -> None:
    image = np.full((128, 128), 4095.0)
    image[:20, :20] = read(np.full((20, 20), 3000.0), 1.0, 4.0, 15)
    with pytest.raises(SaturatedThroughoutError, match="98%"):
        estimate_image_noise(image)


def test_the_wavelet_is_orthonormal_and_blind_to_smooth_images() -> None:
    impulse = np.zeros((32, 32))
    impulse[16, 16] = 1.0
    detail, weight = diagonal_details(impulse)
    np.testing.assert_allclose(detail**2, weight, atol=1e-15)
    assert weight.sum() == pytest.approx(1.0)
    for down, right in ((0, 2), (2, 0), (4, 2)):
        assert np.sum(detail * np.roll(detail, (down, right), (0, 1))) == pytest.approx(0.0, abs=1e-12)
    y, x = np.mgrid[:32, :32] / 8.0
    flat, _ = diagonal_details(np.asarray((1 + x - x**2) * (2 + y + y**2)))
    np.testing.assert_allclose(flat[6:-6, 6:-6], 0.0, atol=1e-10)


def test_a_pixel_has_no_part_in_its_own_surroundings() -> None:
    image = np.zeros((41, 41))
    image[20, 20] = 1.0
    ring = surroundings(image)
    half = HOLE_PX // 2
    np.testing.assert_allclose(ring[20 - half : 21 + half, 20 - half : 21 + half], 0.0, atol=1e-15)
    assert ring.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(surroundings(np.full((41, 41), 3.0)), 3.0)


def test_sums_over_level_sets_are_those_of_a_loop() -> None:
    rng = np.random.default_rng(0)
    mean, variance, guide = rng.random((3, 20, 24))
    keep = rng.random((20, 24)) < 0.7
    level = level_of(guide, keep)
    sums = level_sums(mean, variance, level, keep)
    for number in range(int(level.max()) + 1):
        chosen = keep & (level == number)
        assert sums.count[:, number].sum() == chosen.sum()
        assert sums.mean[:, number].sum() == pytest.approx(mean[chosen].sum())
        assert sums.variance[:, number].sum() == pytest.approx(variance[chosen].sum())
    assert guide[level == 0].max() <= guide[level == level.max()].min()


def line_of(mean: Image, variance: Image, count: float = 1000.0) -> LevelSums:
    counts = np.full((4, len(mean)), count)
    return LevelSums(counts, counts * mean, counts * variance)


@settings(max_examples=40, deadline=None)
@given(gain=st.floats(0.01, 100), offset=st.floats(-5, 50), levels=st.integers(4, 60))
def test_a_line_without_noise_is_found_exactly(gain: float, offset: float, levels: int) -> None:
    mean = np.linspace(600, 10000, levels)
    found = fit_variance_line(line_of(mean, gain * mean + offset), replicates=0)
    assert found.gain == pytest.approx(gain, rel=1e-6)
    assert found.variance == pytest.approx(offset, abs=1e-5 * (gain * 10000 + 50))
    assert found.misfit < 1e-3


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        (lambda mean: np.where(np.arange(len(mean)) % 4 < 2, 1.3, 0.7) * mean, "off a line"),
        (lambda mean: np.minimum(mean, 100 + 0.3 * (mean - 100)), "variance over mean bends"),
    ],
    ids=["scatters", "bends"],
)
def test_levels_that_are_on_no_line_are_told_in_what_way(shape: Callable[[Image], Image], said: str) -> None:
    mean = np.linspace(10, 200, 24)
    (reason,) = reasons_against(fit_variance_line(line_of(mean, shape(mean))))
    assert said in reason
    assert reasons_against(fit_variance_line(line_of(mean, 2 * mean + 9))) == []


def test_intervals_count_the_misfit_and_the_choice_of_pixels_in() -> None:
    """Squares add: 0.3 from blocks, 0.4 from 20 % of a gain of 2, and 1.2 from twice a change of 0.6, make 1.3."""

    def line(gain: float, variance: float) -> VarianceLine:
        levels, counts = np.array([4.0, 6.0]), np.array([1.0, 3.0])
        return VarianceLine(
            gain, variance, (gain - 0.3, gain + 0.3), (variance, variance), levels, levels, counts, 0.2, (0, 0)
        )

    found = widened(line(2.0, 9.0), line(2.6, 9.0))
    assert found.gain_interval == pytest.approx((0.7, 3.3))
    assert found.variance_interval == pytest.approx((9 - 0.2 * 5.5, 9 + 0.2 * 5.5))
    assert (found.gain, found.variance) == (2.0, 9.0)


def test_a_level_far_off_does_not_carry_the_line_away() -> None:
    mean = np.linspace(10, 200, 20)
    variance = (2 * mean + 9) * (1 + 0.03 * np.random.default_rng(0).standard_normal(20))
    variance[15] *= 4
    assert fit_variance_line(line_of(mean, variance), replicates=0).gain == pytest.approx(2.0, rel=0.05)


def test_three_levels_are_too_few() -> None:
    with pytest.raises(TooFewLevelsError, match="3 level sets"):
        fit_variance_line(line_of(np.array([1.0, 2.0, 3.0]), np.ones(3)))


def test_a_pile_of_equal_values_shows_a_limit_and_a_tail_does_not() -> None:
    rng = np.random.default_rng(0)
    counts = rng.poisson(100.0, 100_000).astype(np.float64)
    assert detector_limits(counts).low is None
    assert detector_limits(counts).high is None
    assert detector_limits(np.minimum(counts, 110)).high == 110
    assert detector_limits(np.maximum(counts, 90)).low == 90
    assert detector_limits(counts, full_scale=4095.0).high == 4095.0


@pytest.mark.parametrize("full_scale", [-5.0, 0.0, np.nan, np.inf])
def test_a_full_scale_that_is_none_is_refused(full_scale: float) -> None:
    with pytest.raises(ValueError, match=f"found a full scale of {full_scale:g}"):
        estimate_image_noise(read(hills(64), 1.0, 4.0, 18), full_scale=full_scale)
