"""Source noise of pairs that are put together by hand, against ordinary least squares."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.pair_readings import PairReadings
from calibration.source_noise import fit_source_noise
from models.noise import NoiseModel


def pairs_of(plus: list[float], minus: list[float], order: list[float]) -> PairReadings:
    """Pairs a second apart, and four guards."""
    time_s = np.arange(len(plus), dtype=np.float64)
    guards = np.array([1.0, 2.0, 3.0, 5.0])
    return PairReadings(
        plus=np.array(plus),
        minus=np.array(minus),
        order=np.array(order),
        time_s=time_s,
        lit_s=time_s,
        bright=guards + 100,
        dark=guards,
        bright_steps=guards,
        dark_steps=guards,
    )


def test_the_variance_of_few_pairs_counts_what_was_fitted() -> None:
    """Structure and first minus second are taken out of eight differences: six degrees of freedom are left."""
    order = [1.0, -1.0, -1.0, 1.0, 1.0, -1.0, 1.0, -1.0]
    pairs = pairs_of(
        [55.0, 49.0, 51.0, 58.0, 52.0, 47.0, 54.0, 50.0], [46.0, 50.0, 45.0, 44.0, 47.0, 52.0, 43.0, 48.0], order
    )
    fading = np.linspace(1.0, 0.9, 8)
    found = fit_source_noise(pairs, fading, 0.0, 0.0, NoiseModel(0.1, 0.2))
    design = np.stack([fading, order], axis=1)
    (_, first_minus_second), squares, _, _ = np.linalg.lstsq(design, pairs.differences, rcond=None)
    assert found.pair_variance == pytest.approx(squares.item() / 6)
    assert found.first_minus_second.value == pytest.approx(first_minus_second)
    sums = np.linalg.lstsq(fading[:, None], pairs.sums, rcond=None)[1].item() / 6
    assert found.between.value == pytest.approx((sums - squares.item() / 6) / found.light**2)
