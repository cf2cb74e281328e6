"""The Allan deviation is the textbook's, and no rest lies in any of its averages."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from calibration.allan import allan_deviation


def direct(values: NDArray[np.float64], m: int) -> float:
    """σ(τ) of m values each, summed over all places one by one."""
    averages = np.array([values[place : place + m].mean() for place in range(len(values) - m + 1)])
    return float(np.sqrt(np.mean((averages[m:] - averages[:-m]) ** 2) / 2))


def test_it_is_half_the_mean_square_of_changes_between_averages() -> None:
    values = 1 + 0.01 * np.random.default_rng(0).standard_normal(400).cumsum()
    allan = allan_deviation(values, 0.5 * np.arange(400.0), 1e-4, None)
    for tau, deviation in zip(allan.tau_s, allan.deviation, strict=True):
        assert deviation == pytest.approx(direct(values, round(tau / 0.5)), rel=1e-9)
    assert allan.shot is None


def test_white_noise_falls_with_the_root_of_the_time() -> None:
    values = 1 + 0.01 * np.random.default_rng(1).standard_normal(20_000)
    allan = allan_deviation(values, 2e-3 * np.arange(20_000.0), 1e-4, 0.5e-4)
    assert allan.shot is not None
    assert np.allclose(allan.white, 0.01 / np.sqrt(allan.tau_s / 2e-3))
    assert np.allclose(allan.shot, allan.white / np.sqrt(2))
    assert allan.deviation[:10] == pytest.approx(allan.white[:10], rel=0.1)


def test_its_intervals_hold_for_white_noise() -> None:
    rng = np.random.default_rng(2)
    covered = []
    for _ in range(200):
        allan = allan_deviation(1 + 0.01 * rng.standard_normal(500), np.arange(500.0), 1e-4, None)
        covered.append((allan.low <= allan.white) & (allan.white <= allan.high))
    # Of 200 intervals of 95 %: 180 to 199, three binomial standard deviations.
    assert (np.sum(covered, axis=0) >= 180).all()


def test_a_jump_in_a_rest_is_not_seen_and_one_under_light_is() -> None:
    """A lamp that comes back 10 % brighter from a rest has not moved under light."""
    time_s = 1e-3 * np.arange(1000.0)
    values = np.where(np.arange(1000) < 500, 1.0, 1.1) + 1e-4 * np.random.default_rng(3).standard_normal(1000)
    rested = allan_deviation(values, time_s + 5.0 * (np.arange(1000) >= 500), 1e-8, None)
    through = allan_deviation(values, time_s, 1e-8, None)
    assert rested.deviation.max() < 2e-4
    assert through.deviation.max() > 0.01
    assert rested.tau_s.max() < 0.25


def test_guards_in_between_belong_to_the_usual_time() -> None:
    """64 pairs of 2 ms and a guard of 5 ms: 2.08 ms a pair."""
    time_s = np.arange(6400) * 2e-3 + 5e-3 * (np.arange(6400) // 64)
    allan = allan_deviation(np.random.default_rng(4).standard_normal(6400), time_s, 1.0, None)
    assert allan.tau_s[0] == pytest.approx(2e-3 + 5e-3 / 64, rel=0.01)
    assert allan.tau_s.max() > 2
