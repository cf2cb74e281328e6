"""A camera's gain and variance from repeats of a field, against noise that was put on fields without any."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.stats import binom

from calibration.repeat_noise import DifferentFieldsError, estimate_repeat_noise
from calibration.verdict import ConstantReadingsError, NotCalibratableError, SaturatedThroughoutError

Image = NDArray[np.float64]


def checks(side: int = 128, dark: float = 20.0, bright: float = 180.0) -> Image:
    """Light with structure down to single pixels, on levels from ``dark`` to ``bright``."""
    y, x = np.mgrid[:side, :side]
    ramp = dark + (bright - dark) * x / side
    return np.asarray(ramp * (1 + 0.3 * ((x + y) % 2)))


def repeated(light: Image, a: float, b: float, repeats: int, seed: int, drift: float = 0.0) -> Image:
    rng = np.random.default_rng(seed)
    brightness = 1 + drift * np.linspace(-1, 1, repeats)[:, None, None]
    noise = np.sqrt(b) * rng.standard_normal((repeats, *light.shape))
    return np.asarray(a * rng.poisson(brightness * light / a) + noise)


@pytest.mark.parametrize("repeats", [2, 3, 10])
@pytest.mark.parametrize(("a", "b"), [(0.5, 25.0), (4.0, 1.0)])
def test_gain_and_variance_are_recovered_however_fine_the_structure(a: float, b: float, repeats: int) -> None:
    found = estimate_repeat_noise(repeated(checks(256), a, b, repeats, 1))
    assert found.usable, found.reason
    assert found.gain == pytest.approx(a, rel=0.06)
    assert found.variance == pytest.approx(b, abs=0.06 * (b + 40 * a))


def test_intervals_of_95_percent_cover_the_truth_as_often_as_they_say() -> None:
    """Intervals that covered it in 85 % of all cases would reach 92 of 100 with a probability of 3 %."""
    a, b, trials = 2.0, 9.0, 100
    enough = binom.isf(0.05, trials, 0.85)
    covered = np.zeros(2)
    for seed in range(trials):
        line = estimate_repeat_noise(repeated(checks(), a, b, 2 + seed % 3, seed), seed=seed).line
        covered += [
            line.gain_interval[0] <= a <= line.gain_interval[1],
            line.variance_interval[0] <= b <= line.variance_interval[1],
        ]
    assert (covered > enough).all(), covered


def test_pixels_sorted_by_their_own_noise_do_not_bias_two_repeats() -> None:
    """Much noise on few levels, where sets of pixels chosen by their noisy means would flatten the line."""
    a, b = 1.0, 400.0
    light = checks(256, dark=20.0, bright=60.0)
    stack = repeated(light, a, b, 2, 2)
    mean, variance = stack.mean(axis=0).ravel(), stack.var(axis=0, ddof=1).ravel()
    naive = np.polyfit(mean, variance, 1)[0]
    found = estimate_repeat_noise(stack)
    assert naive < 0.5 * a
    assert found.line.gain_interval[0] <= a <= found.line.gain_interval[1]


def test_a_common_drift_of_brightness_is_taken_out_above_any_black_level() -> None:
    a, b = 1.0, 4.0
    stack = repeated(checks(256, 5.0, 400.0), a, b, 4, 3, drift=0.1) + 50.0
    found = estimate_repeat_noise(stack)
    np.testing.assert_allclose(found.brightness, 1 + 0.1 * np.linspace(-1, 1, 4), atol=0.005)
    assert found.gain == pytest.approx(a, rel=0.05)
    assert found.variance + 50 * found.gain == pytest.approx(b, abs=3)
    assert found.usable, found.reason
    undrifted = stack.var(axis=0, ddof=1)
    assert np.polyfit(stack.mean(axis=0).ravel(), undrifted.ravel(), 1)[0] > 2 * a


def test_a_field_without_levels_keeps_its_noise() -> None:
    """Brightness cannot be told from noise there, and must not eat it."""
    found = estimate_repeat_noise(repeated(np.full((128, 128), 100.0), 1.0, 4.0, 3, 4, drift=0.02))
    assert found.line.at(100.0) == pytest.approx(104, rel=0.03)
    assert not found.usable


def test_duplicates_are_found_left_out_and_reported() -> None:
    stack = repeated(checks(), 2.0, 9.0, 3, 5)
    found = estimate_repeat_noise(np.concatenate([stack, stack[:1], stack[2:]]))
    assert found.duplicates == ((3, 0), (4, 2))
    assert found.frames == (0, 1, 2)
    assert any("repeat 3 equals 0" in remark for remark in found.remarks)
    alone = estimate_repeat_noise(stack)
    assert found.line.gain == alone.line.gain
    assert found.line.gain_interval == alone.line.gain_interval


def test_levels_that_are_clipped_do_not_bend_the_line() -> None:
    a, b = 2.0, 100.0
    light = checks(256, dark=0.0, bright=260.0)
    stack = np.clip(np.round(repeated(light, a, b, 4, 6)), 0, 255).astype(np.uint8)
    found = estimate_repeat_noise(stack)
    assert (found.limits.low, found.limits.high) == (0.0, 255.0)
    assert found.gain == pytest.approx(a, rel=0.08)
    assert found.variance == pytest.approx(b + 1 / 12, abs=15)
    assert found.kept < 0.9


def test_noise_that_neighbours_share_is_reported_and_keeps_its_variance() -> None:
    """Smoothing σ = 1 px leaves the share 1/(4πσ²) of white noise, nearly: the sum of the kernel's squares."""
    kernel = np.zeros((15, 15))
    kernel[7, 7] = 1.0
    share = float((gaussian_filter(kernel, 1.0) ** 2).sum())
    y, x = np.mgrid[:256, :256] / 256
    stack = np.stack([gaussian_filter(each, 1.0) for each in repeated(20 + 200 * x * y, 2.0, 25.0, 4, 7)])
    found = estimate_repeat_noise(stack)
    assert found.gain == pytest.approx(2.0 * share, rel=0.1)
    assert min(found.neighbours) > 0.7
    assert any("share noise" in remark for remark in found.remarks)
    assert abs(found.far) < 0.03


def test_white_noise_has_no_neighbours() -> None:
    found = estimate_repeat_noise(repeated(checks(), 2.0, 9.0, 4, 8))
    assert np.abs([*found.neighbours, found.far]).max() < 0.02
    assert found.remarks == ()


def test_a_field_that_moves_is_told() -> None:
    rng = np.random.default_rng(0)
    light = 20 + 60 * (1 + gaussian_filter(rng.standard_normal((256, 256)), 8) * 20)
    light = np.maximum(light, 5)
    stack = np.stack([repeated(np.roll(light, shift, axis=1), 1.0, 4.0, 2, shift)[0] for shift in (0, 2, 4)])
    found = estimate_repeat_noise(stack)
    assert found.far > 0.03
    assert not found.usable
    assert "changed between repeats" in found.reason


def test_different_fields_are_told_from_repeats_and_named() -> None:
    stack = np.concatenate([repeated(checks(), 2.0, 9.0, 2, 0), repeated(checks().T, 2.0, 9.0, 1, 1)])
    with pytest.raises(DifferentFieldsError, match=r"correlation -?0\.0\d between repeats [01] and 2\)") as told:
        estimate_repeat_noise(stack)
    assert "--single" in str(told.value)


def test_repeats_of_a_field_without_levels_are_not_taken_for_different_fields() -> None:
    """What they have in structure is noise, which is another in each, also where neighbours share it."""
    white = repeated(np.full((128, 128), 100.0), 1.0, 4.0, 3, 11)
    shared = 10 * np.stack([gaussian_filter(each, 2.0) for each in white])
    assert estimate_repeat_noise(shared + np.linspace(0, 1, 128)).frames == (0, 1, 2)
    assert estimate_repeat_noise(repeated(np.full((128, 128), 100.0), 1.0, 4.0, 4, 10)).frames == (0, 1, 2, 3)


@pytest.mark.parametrize(
    ("stack", "error", "said"),
    [
        (np.zeros((128, 128)), NotCalibratableError, "two repeats"),
        (np.ones((1, 128, 128)), NotCalibratableError, "two repeats"),
        (np.repeat(checks()[None], 3, axis=0), NotCalibratableError, "all 3 repeats are equal"),
        (np.stack([checks(), np.full((128, 128), 3.0)]), ConstantReadingsError, "all pixels are 3"),
        (np.stack([checks(), np.full((128, 128), np.inf)]), NotCalibratableError, "not finite"),
        (np.zeros((4, 32, 32)), NotCalibratableError, "64 px"),
    ],
)
def test_stacks_that_say_nothing_are_refused_with_the_reason(stack: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        estimate_repeat_noise(stack)


def test_saturation_throughout_is_refused() -> None:
    stack = np.minimum(repeated(checks(), 2.0, 9.0, 3, 9), 60)
    with pytest.raises(SaturatedThroughoutError, match="at 60, the highest value"):
        estimate_repeat_noise(stack)
