"""Bleaching and lamp drift are told apart by rests, with intervals that count what the lamp does besides."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from calibration.fading import fit_fading
from calibration.measured import Measured
from calibration.verdict import NoSignalError

K, R = 2e-3, 1e-3
NOISE = 0.01
TRIALS = 30
# Of 30 intervals of 95 % that hold independently, fewer than 25 cover the truth once in 600 times (binomial).
LEAST_COVERED = 25
# Where the lamp wanders slowly, intervals of rates are known to hold only about 86 times in 100 (240 other seeds, see
# docs/mathematics.md): fewer than 20 of 30 do about once in 400 times.
LEAST_COVERED_IF_SLOW = 20


def times(n: int = 5000, rests: int = 5) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """20 s of light, and as long in rests spread over the middle fifth of it."""
    lit = np.arange(n) * 20 / n
    rested = sum((20 / rests) * (np.arange(n) >= end * n) for end in np.linspace(0.4, 0.6, rests)) if rests else 0.0
    return lit + rested, lit


def gaussian(covariance: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    return np.asarray(
        np.linalg.cholesky(covariance + 1e-9 * np.eye(len(covariance))) @ rng.standard_normal(len(covariance))
    )


def wandering(kind: str, time_s: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """0.3 % of what the lamp does besides, drawn on every 50th time and held."""
    some = time_s[::50]
    apart = np.abs(some[:, None] - some)
    if kind == "flicker":
        drawn = gaussian(np.exp(-apart / 0.5), rng)
    elif kind == "random walk":
        drawn = np.cumsum(rng.standard_normal(len(some)) * np.sqrt(np.diff(some, prepend=0) / 20))
    elif kind == "breathing":
        drawn = gaussian(np.exp(-(apart**2) / (2 * 6**2)), rng)
    else:
        drawn = np.sqrt(2) * np.sin(2 * np.pi * some / 15 + rng.uniform(0, 2 * np.pi))
    return np.asarray(np.repeat(3e-3 * drawn, 50))


def holds(interval: Measured | None, truth: float) -> bool:
    assert interval is not None
    assert interval.low is not None
    assert interval.high is not None
    return interval.low <= truth <= interval.high


@pytest.mark.parametrize(
    ("kind", "least"),
    [
        ("none", LEAST_COVERED),
        ("flicker", LEAST_COVERED),
        ("random walk", LEAST_COVERED_IF_SLOW),
        ("breathing", LEAST_COVERED_IF_SLOW),
        ("one wave", LEAST_COVERED_IF_SLOW),
    ],
)
def test_the_rates_hold_whatever_the_lamp_does_besides(kind: str, least: int) -> None:
    time_s, lit_s = times()
    covered = np.zeros(2, dtype=int)
    for seed in range(TRIALS):
        rng = np.random.default_rng(seed)
        besides = 0.0 if kind == "none" else wandering(kind, time_s, rng)
        light = 1e4 * (np.exp(-K * lit_s - R * time_s) * (1 + besides) + NOISE * rng.standard_normal(len(time_s)))
        found = fit_fading(light, time_s, lit_s, 1e4 * NOISE)
        covered += [holds(found.bleaching, K), holds(found.drift, R)]
    assert covered.min() >= least


def test_white_noise_alone_costs_no_more_than_least_squares_would() -> None:
    time_s, lit_s = times()
    design = np.stack([np.ones(len(time_s)), lit_s, time_s], axis=1)
    errors = NOISE * np.sqrt(np.diag(np.linalg.inv(design.T @ design)))
    widths = []
    for seed in range(TRIALS):
        noise = NOISE * np.random.default_rng(seed).standard_normal(len(time_s))
        found = fit_fading(np.exp(-K * lit_s - R * time_s) + noise, time_s, lit_s, NOISE)
        for rate in (found.bleaching, found.drift):
            assert rate is not None
            assert rate.low is not None
            assert rate.high is not None
            widths.append((rate.high - rate.low) / 2)
    bleaching, drift = np.median(np.reshape(widths, (-1, 2)), axis=0) / 1.96
    assert errors[1] * 0.8 < bleaching < errors[1] * 2
    assert errors[2] * 0.8 < drift < errors[2] * 3


def test_without_noise_the_rates_are_exact() -> None:
    time_s, lit_s = times()
    found = fit_fading(500 * np.exp(-K * lit_s - R * time_s), time_s, lit_s, 0.0)
    assert found.bleaching is not None
    assert found.bleaching.value == pytest.approx(K, rel=1e-3)
    assert found.drift is not None
    assert found.drift.value == pytest.approx(R, rel=1e-3)
    assert found.total == pytest.approx(500, rel=1e-6)
    assert found.at(time_s, lit_s)[-1] == pytest.approx(np.exp(-K * lit_s[-1] - R * time_s[-1]), rel=1e-6)
    assert found.change.value == pytest.approx(np.expm1(-K * lit_s[-1] - R * time_s[-1]), rel=1e-4)


def test_light_without_rests_has_one_decline() -> None:
    time_s, lit_s = times(rests=0)
    found = fit_fading(500 * np.exp(-K * lit_s - R * time_s), time_s, lit_s, 0.0)
    assert found.bleaching is None
    assert found.drift is None
    assert found.decline.value == pytest.approx(K + R, rel=1e-6)
    assert found.correlation == -1


def test_no_average_reaches_over_a_rest() -> None:
    time_s, lit_s = times()
    found = fit_fading(np.exp(-K * lit_s), time_s, lit_s, 0.0)
    ends = np.flatnonzero(np.diff(time_s) > 1)
    for before, after in zip(time_s[ends], time_s[ends + 1], strict=True):
        assert not ((found.time_s > before) & (found.time_s < after)).any()


@pytest.mark.parametrize(("level", "noise"), [(-1.0, 0.1), (0.0, 0.1), (0.01, 1.0)])
def test_what_does_not_stand_out_of_the_noise_has_no_rates(level: float, noise: float) -> None:
    time_s, lit_s = times(n=1000)
    light = level + noise * np.random.default_rng(0).standard_normal(len(time_s))
    with pytest.raises(NoSignalError, match="above darkness"):
        fit_fading(light, time_s, lit_s, noise)
