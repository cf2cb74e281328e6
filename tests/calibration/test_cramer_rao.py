from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from calibration.cramer_rao import UndeterminedError, cramer_rao_bound
from calibration.drift import drift_design

PICTURE = np.tile(np.arange(6), 40)
TIME_S = np.arange(240) / 1000
LIGHT = np.array([0.0, 500.0, 1000.0, 2000.0, 3000.0, 4000.0])


def bound_of(
    light: NDArray[np.float64], picture: NDArray[np.intp], design: NDArray[np.float64], n_dark: int
) -> NDArray[np.float64]:
    return cramer_rao_bound(light, picture, design, gain=2.0, variance=30.0, source_noise=1e-5, n_dark=n_dark)


def test_without_drift_it_is_that_of_variances_whose_means_are_unknown() -> None:
    """Means and variances of a normal sample separate, but for what is known of the light by its mean."""
    none = np.zeros((240, 0))
    bound = bound_of(LIGHT, PICTURE, none, 0)
    v = 30.0 + 2.0 * LIGHT + 1e-5 * LIGHT**2
    row = np.stack([LIGHT, np.ones(6), LIGHT**2], axis=1)
    slope = 2.0 + 2e-5 * LIGHT
    # Of 40 readings s² has the variance 2v²/40, and the light, read with the variance v/40, moves the curve.
    weight = 1 / (2 * v**2 / 40 + slope**2 * v / 40)
    assert bound == pytest.approx(np.linalg.inv(row.T @ (row * weight[:, None])), rel=1e-9)


def test_the_gradients_are_those_of_the_model() -> None:
    """The information is the expected Hessian of the log-likelihood, here by central differences of the divergence."""
    design = drift_design(TIME_S, 2)
    dark = 25

    def moments(theta: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        a, b, q, offset = theta[:4]
        m = theta[4:10][PICTURE] * (1 + design @ theta[10:])
        m = np.append(m, np.zeros(dark))
        return offset + m, b + a * m + q * m**2

    truth = np.concatenate([[2.0, 30.0, 1e-5, 0.0], LIGHT, [0.0, 0.0]])
    scale = np.array([1e-3, 1e-2, 1e-8, 1e-2, *(1e-1,) * 6, 1e-4, 1e-4])
    mean, v = moments(truth)

    def divergence(theta: NDArray[np.float64]) -> float:
        other_mean, other = moments(theta)
        return float(0.5 * np.sum(v / other - 1 - np.log(v / other) + (mean - other_mean) ** 2 / other))

    n = len(truth)
    unit = np.diag(scale)
    hessian = np.empty((n, n))
    for i in range(n):
        for j in range(n):
            hessian[i, j] = (
                divergence(truth + unit[i] + unit[j])
                - divergence(truth + unit[i] - unit[j])
                - divergence(truth - unit[i] + unit[j])
                + divergence(truth - unit[i] - unit[j])
            ) / 4
    expected = (np.linalg.inv(hessian) * scale[:, None] * scale)[:3, :3]
    bound = bound_of(LIGHT, PICTURE, design, dark)
    assert np.sqrt(np.diag(bound)) == pytest.approx(np.sqrt(np.diag(expected)), rel=2e-3)


def test_more_exposures_and_dark_readings_narrow_it() -> None:
    design = drift_design(TIME_S, 2)
    few = bound_of(LIGHT, PICTURE, design, 10)
    more_dark = bound_of(LIGHT, PICTURE, design, 100)
    four_times = bound_of(LIGHT, np.tile(PICTURE, 4), np.tile(design, (4, 1)), 40)
    assert more_dark[1, 1] < 0.6 * few[1, 1]
    assert np.diag(four_times) == pytest.approx(np.diag(few) / 4, rel=1e-9)


def test_two_levels_do_not_determine_three_parameters() -> None:
    with pytest.raises(UndeterminedError, match="three levels"):
        bound_of(np.array([0.0, 500.0]), PICTURE % 2, np.zeros((240, 0)), 0)
