"""Two halves of a measurement say what the noise really was, in the image's own terms; oracle: dense matrices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.linalg import hadamard
from scipy.stats import chi2

from models.priors import Prior, power_law_prior
from models.split_half import HalvesCompared, compare_halves
from models.wiener import forecast_mse, noise_std, wiener_weight

SIDE = 8
N = SIDE**2
H = hadamard(N).astype(np.float64)
IMAGE = np.random.default_rng(1).uniform(10, 100, N)
COEFFICIENTS = H @ IMAGE
PRIOR = power_law_prior(SIDE, float(IMAGE.sum()))


def drawn(
    rng: np.random.Generator, count: NDArray[np.int64], pair_variance: float, n_draws: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """z1, z2 and z of ``n_draws`` measurements [n_draws, N], pair by pair; NaN where a half has none."""
    most = int(count.max())
    pairs = COEFFICIENTS + rng.normal(0, pair_variance**0.5, (n_draws, most, N))
    taken = np.arange(most)[:, None] < count
    is_first = (np.arange(most) % 2 == 0)[:, None]

    def mean(chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
        with np.errstate(invalid="ignore"):
            return np.asarray(np.where(chosen, pairs, 0).sum(axis=1) / chosen.sum(axis=0))

    return mean(taken & is_first), mean(taken & ~is_first), mean(taken)


def compared(
    halves: tuple[NDArray[np.float64], NDArray[np.float64]], count: NDArray[np.int64], pair_variance: float
) -> HalvesCompared:
    variance = np.full(N, np.inf)
    variance[count > 0] = pair_variance / count[count > 0]
    return compare_halves(halves, ((count + 1) // 2, count // 2), variance, wiener_weight(PRIOR.variance, variance))


def test_on_average_it_measures_the_random_error_of_the_linear_image() -> None:
    """The oracle: images from a dense matrix; how far each lies from the mean of all is its random error."""
    count, pair_variance = np.random.default_rng(2).integers(0, 6, N), 4e4
    first, second, whole = drawn(np.random.default_rng(3), count, pair_variance, 4000)
    split = count > 1
    variance = np.where(count > 0, pair_variance / np.maximum(count, 1), np.inf)
    weight = PRIOR.variance / (PRIOR.variance + variance)
    shrunk = np.where(split, weight * np.nan_to_num(whole), 0.0)
    images = shrunk @ H / N
    expected = float(images.var(axis=0).mean())
    found = [compared((z1, z2), count, pair_variance) for z1, z2 in zip(first, second, strict=True)]
    assert np.mean([each.measured_mse for each in found]) == pytest.approx(expected, rel=0.03)
    assert found[0].forecast_mse == pytest.approx(expected, rel=0.03)
    assert {each.n_split for each in found} == {int(split.sum())}


@pytest.mark.parametrize("factor", [1.0, 1.2, 0.5])
def test_the_interval_holds_the_true_ratio_as_often_as_it_says(factor: float) -> None:
    count, n_draws = np.random.default_rng(4).integers(2, 9, N), 3000
    first, second, _ = drawn(np.random.default_rng(5), count, factor * 9e3, n_draws)
    found = [compared((z1, z2), count, 9e3) for z1, z2 in zip(first, second, strict=True)]
    held = np.array([low < factor < high for low, high in (each.interval() for each in found)])
    # Four standard deviations of 3000 draws at 95 %, and a percent for Satterthwaite's approximation.
    assert held.mean() == pytest.approx(0.95, abs=4 * (0.95 * 0.05 / n_draws) ** 0.5 + 0.01)
    ratios = np.array([each.ratio for each in found])
    assert ratios.mean() == pytest.approx(factor, rel=0.02)
    assert ratios.var() == pytest.approx(2 * factor**2 / found[0].degrees, rel=0.15)


def test_with_equal_weights_the_degrees_of_freedom_are_counted_and_the_interval_is_that_of_a_chi_square() -> None:
    count, flat = np.full(N, 4), Prior(np.zeros(N), np.full(N, 1e6))
    variance = np.full(N, 100.0)
    halves = COEFFICIENTS + 10.0, COEFFICIENTS - 10.0
    found = compare_halves(halves, (count // 2, count // 2), variance, wiener_weight(flat.variance, variance))
    assert found.degrees == pytest.approx(N)
    assert found.ratio == pytest.approx(20.0**2 * (2 * 2 / 16) / 100)
    low, high = found.interval(0.9)
    assert low == pytest.approx(found.ratio * N / chi2.ppf(0.95, N))
    assert high == pytest.approx(found.ratio * N / chi2.ppf(0.05, N))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 5), min_size=N, max_size=N), st.floats(1, 1e7))
def test_the_random_part_of_the_forecast_never_exceeds_all_of_it(counts: list[int], pair_variance: float) -> None:
    count = np.array(counts)
    halves = COEFFICIENTS, COEFFICIENTS
    found = compared(halves, count, pair_variance)
    variance = np.where(count > 0, pair_variance / np.maximum(count, 1), np.inf)
    random = noise_std(PRIOR, variance) ** 2
    assert found.forecast_mse <= random * (1 + 1e-12)
    assert random <= forecast_mse(PRIOR.variance, variance) * (1 + 1e-12)
    assert found.measured_mse == 0
    assert found.degrees <= found.n_split * (1 + 1e-12)
    assert found.n_split == (count > 1).sum()


def test_where_nothing_could_be_split_there_is_no_ratio() -> None:
    found = compared((COEFFICIENTS, np.full(N, np.nan)), np.ones(N, dtype=np.int64), 100.0)
    assert (found.n_split, found.degrees, found.forecast_mse) == (0, 0.0, 0.0)
    assert np.isnan(found.ratio)
    assert np.isnan(found.interval()).all()
