"""Coefficients from raw repeats against dense matrices, and their variance against simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.linalg import hadamard

from models.hadamard import SideError
from models.learning.raw_repeats import RawRepeatsError, measured_from_repeats, transform_repeats

N_SIDE = 8
TRUTH = np.random.default_rng(0).gamma(1.0, 20.0, (N_SIDE, N_SIDE))
DENSE = np.kron(hadamard(N_SIDE), hadamard(N_SIDE)).astype(np.float64)


def raw(n_repeats: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).poisson(TRUTH, (n_repeats, N_SIDE, N_SIDE)).astype(np.float64)


def test_all_repeats_together_give_the_transform_of_their_average() -> None:
    frames = raw(6)
    estimate = measured_from_repeats(frames, np.full(64, 6), np.random.default_rng(1))
    np.testing.assert_allclose(estimate.coefficients, DENSE @ frames.mean(axis=0).ravel(), atol=1e-9)
    assert estimate.total == estimate.coefficients[0] == pytest.approx(frames.mean(axis=0).sum())


def test_one_measurement_is_one_of_the_repeats() -> None:
    frames = raw(5)
    dense = frames.reshape(5, -1) @ DENSE.T
    estimate = measured_from_repeats(frames, np.ones(64, dtype=np.int32), np.random.default_rng(2))
    distance = np.abs(dense[:, 1:] - estimate.coefficients[1:])
    assert (distance.min(axis=0) < 1e-9).all()
    assert len(set(distance.argmin(axis=0))) == 5


@settings(max_examples=30)
@given(st.integers(0, 5), st.integers(0, 2**31))
def test_up_to_r_measurements_average_that_many_different_repeats(count: int, seed: int) -> None:
    """Repeat r is the constant 2^r: the coefficient sum then tells in binary which repeats were averaged."""
    frames = 2.0 ** np.arange(5)[:, None, None] * np.eye(N_SIDE)
    ordinary = np.flatnonzero(DENSE @ np.eye(N_SIDE).ravel())[1:]
    signal = DENSE[ordinary] @ np.eye(N_SIDE).ravel()
    estimate = measured_from_repeats(frames, np.full(64, count), np.random.default_rng(seed))
    if count == 0:
        assert np.isnan(estimate.coefficients).all()
        return
    codes = np.round(estimate.coefficients[ordinary] * count / signal).astype(int)
    assert {code.bit_count() for code in codes.tolist()} == {count}


def test_more_measurements_than_repeats_are_drawn_with_replacement() -> None:
    frames = raw(4)
    dense = frames.reshape(4, -1) @ DENSE.T
    estimates = np.array(
        [
            measured_from_repeats(frames, np.full(64, 9), np.random.default_rng(seed)).coefficients[1:]
            for seed in range(400)
        ]
    )
    np.testing.assert_allclose(estimates.mean(axis=0), dense.mean(axis=0)[1:], atol=6 * dense.std() / np.sqrt(9 * 400))
    # Given the repeats the scatter of the average of 9 draws is their population variance over 9.
    assert (estimates.var(axis=0).sum() / dense.var(axis=0)[1:].sum()) == pytest.approx(1 / 9, rel=0.05)


@pytest.mark.parametrize(("n_repeats", "count"), [(10, 1), (10, 4), (10, 10), (4, 12), (3, 50)])
def test_the_variance_is_that_of_the_error_about_the_light(n_repeats: int, count: int) -> None:
    """Fresh repeats each time: the squared error of all coefficients averages to the stated variance."""
    truth = DENSE @ TRUTH.ravel()
    errors, stated = [], []
    for seed in range(150):
        estimate = measured_from_repeats(raw(n_repeats, seed), np.full(64, count), np.random.default_rng([seed, 1]))
        errors.append((estimate.coefficients - truth)[1:] ** 2)
        stated.append(estimate.variance[1:])
    assert np.mean(errors) == pytest.approx(np.mean(stated), rel=0.06)


def test_the_variance_is_the_sum_over_pixels_and_the_same_for_every_coefficient() -> None:
    """|H| = 1: Var(Z_i) = Σ_p σ_p², which is the total light for photons of gain 1."""
    source = transform_repeats(raw(2000))
    assert source.variance == pytest.approx(TRUTH.sum(), rel=0.02)
    by_coefficient = source.values.var(axis=0, ddof=1)
    np.testing.assert_allclose(by_coefficient, TRUTH.sum(), rtol=0.25)


def test_coefficients_that_share_a_repeat_have_correlated_noise() -> None:
    """Cov(Z_i, Z_j) is coefficient i xor j of the pixels' variances: the approximation that the module states."""
    values = transform_repeats(raw(4000, seed=3)).values
    expected = DENSE @ TRUTH.ravel()
    strongest = 1 + int(np.abs(expected[1:]).argmax())
    for i in (2, 17, 40):
        covariance = np.cov(values[:, i], values[:, i ^ strongest])[0, 1]
        assert covariance == pytest.approx(expected[strongest], abs=0.1 * TRUTH.sum())
        assert abs(covariance) > 0.1 * TRUTH.sum()


def test_untaken_coefficients_are_nan_with_infinite_variance() -> None:
    counts = np.zeros(64, dtype=np.int32)
    counts[[3, 9]] = 2
    estimate = measured_from_repeats(raw(4), counts, np.random.default_rng(0))
    assert np.flatnonzero(np.isfinite(estimate.coefficients)).tolist() == [0, 3, 9]
    assert np.flatnonzero(np.isfinite(estimate.variance)).tolist() == [0, 3, 9]


def test_the_transforms_serve_several_schemes() -> None:
    frames = raw(4)
    counts = np.random.default_rng(0).integers(0, 7, 64)
    direct = measured_from_repeats(frames, counts, np.random.default_rng(5))
    reused = measured_from_repeats(transform_repeats(frames), counts, np.random.default_rng(5))
    np.testing.assert_array_equal(direct.coefficients, reused.coefficients)


def test_integer_frames_are_read_as_they_are() -> None:
    frames = raw(3)
    kept = transform_repeats(frames.astype(np.uint16))
    np.testing.assert_array_equal(kept.values, transform_repeats(frames).values)


@pytest.mark.parametrize("shape", [(1, 8, 8), (8, 8), (2, 3, 8, 8)])
def test_a_single_frame_has_no_scatter(shape: tuple[int, ...]) -> None:
    with pytest.raises(RawRepeatsError, match="R at least 2"):
        transform_repeats(np.ones(shape))


def test_frames_that_are_not_square_or_not_finite_are_refused() -> None:
    with pytest.raises(SideError, match="8 × 4"):
        transform_repeats(np.ones((3, 8, 4)))
    with pytest.raises(RawRepeatsError, match="NaN"):
        transform_repeats(np.full((3, 8, 8), np.nan))


@pytest.mark.parametrize("counts", [np.ones(63, dtype=np.int32), np.full(64, -1)])
def test_wrong_counts_are_refused(counts: NDArray[np.int64]) -> None:
    with pytest.raises(RawRepeatsError, match="expected one of 0 or more for each of 64"):
        measured_from_repeats(raw(3), counts, np.random.default_rng(0))
