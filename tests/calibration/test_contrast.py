"""The on/off contrast has an interval that holds, or only a lower bound where dark pictures are dark."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq

from calibration.contrast import on_off_contrast


def test_exact_readings_give_the_ratio() -> None:
    found = on_off_contrast(np.full(9, 10_010.0), np.full(9, 110.0), np.full(9, 10.0))
    assert found.value == 100
    assert found.low == pytest.approx(100, rel=5e-3)
    assert found.high == pytest.approx(100, rel=5e-3)


@pytest.mark.parametrize("leak", [3.0, 20.0, 200.0])
def test_the_interval_covers_the_truth(leak: float) -> None:
    """5000 units of light and a noise of 10, of which dark pictures get ``leak``; at 3 a bound may be all."""
    rng = np.random.default_rng(2)
    covered = bounds = 0
    for _ in range(400):
        bright, dark, off = (rng.normal(mean, 10.0, n) for mean, n in ((5000.0, 100), (leak, 150), (0.0, 200)))
        found = on_off_contrast(bright, dark, off)
        bounds += found.high is None
        covered += (found.low or 0) <= 5000 / leak and (found.high is None or 5000 / leak <= found.high)
    # Of 400 intervals of 95 %: 367 to 393, three binomial standard deviations.
    assert 367 <= covered <= 393
    assert bounds == 0 or leak == 3.0


def test_the_ends_are_the_ratios_that_readings_just_allow() -> None:
    """Fieller: bright - r·dark - (1 - r)·off is zero within 1.96 of its standard errors; five readings are off."""
    rng = np.random.default_rng(5)
    bright, dark, off = (rng.normal(mean, 10.0, n) for mean, n in ((5000.0, 40), (60.0, 40), (0.0, 5)))
    variances = [each.var(ddof=1) / len(each) for each in (bright, dark, off)]

    def beyond(ratio: float) -> float:
        weights = np.array([1.0, -ratio, ratio - 1])
        away = weights @ [bright.mean(), dark.mean(), off.mean()]
        return float(away**2 - 1.959964**2 * (weights**2 @ variances))

    found = on_off_contrast(bright, dark, off)
    assert found.high is not None
    assert found.low == pytest.approx(brentq(beyond, 1.0, found.value), rel=1e-9)
    assert found.high == pytest.approx(brentq(beyond, found.value, 100 * found.value), rel=1e-9)


def test_where_there_is_no_leak_the_bound_is_one_sided() -> None:
    """It says less than 1.645 standard errors of leak, or more, in 95 of 100 cases."""
    rng = np.random.default_rng(3)
    readings = [[rng.normal(mean, 10, n) for mean, n in ((5000, 100), (0, 150), (0, 200))] for _ in range(200)]
    least = [on_off_contrast(*each) for each in readings]
    assert sum(each.high is None for each in least) > 185
    error = 10 * np.sqrt(1 / 150 + 1 / 200)
    assert np.median([each.value for each in least]) == pytest.approx(5000 / (1.645 * error), rel=0.2)


def test_a_detector_without_noise_sees_no_less_than_its_rounding() -> None:
    found = on_off_contrast(np.full(16, 5000.0), np.zeros(16), np.zeros(16))
    assert found.high is None
    assert found.value == pytest.approx(5000 / (1.645 * np.sqrt(2 / 16 / 12)), rel=1e-3)
