"""Priors against moments computed densely, and the power law against coefficients drawn from one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.linalg import hadamard
from scipy.optimize import minimize

from models.hadamard import SideError
from models.priors import (
    TYPICAL_AMPLITUDE,
    TYPICAL_EXPONENT,
    Prior,
    PriorError,
    fit_power_law,
    power_law_prior,
    prior_from_image,
    prior_from_images,
    tempered,
)


def coefficients_of(image: NDArray[np.float64]) -> NDArray[np.float64]:
    matrix = hadamard(len(image)).astype(np.float64)
    return np.asarray(matrix @ image @ matrix).ravel()


def sign_changes(n: int) -> NDArray[np.float64]:
    return np.asarray(np.count_nonzero(np.diff(hadamard(n), axis=1), axis=1), dtype=np.float64)


def law(n: int, total: float, amplitude: float, exponent: float) -> NDArray[np.float64]:
    changes = sign_changes(n)
    variance = total**2 * amplitude * (1 + changes[:, None] ** 2 + changes[None, :] ** 2) ** -exponent
    variance[0, 0] = total**2
    return np.asarray(variance.ravel())


def parameters(prior: Prior, n: int, total: float) -> tuple[float, float]:
    """Amplitude and exponent, read from the patterns (1, 0) and (0, highest) of a power law."""
    changes = sign_changes(n)
    near, far = np.flatnonzero(changes == 1)[0], np.flatnonzero(changes == n - 1)[0]
    first, last = prior.variance[[near, far]] / total**2
    exponent = np.log(first / last) / np.log((1 + (n - 1) ** 2) / 2)
    return float(first * 2**exponent), float(exponent)


def test_a_prior_from_images_has_the_mean_and_variance_of_their_coefficients() -> None:
    images = np.random.default_rng(0).uniform(size=(5, 8, 8))
    z = np.array([coefficients_of(image) for image in images])
    prior = prior_from_images(images)
    np.testing.assert_allclose(prior.mean, z.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(prior.variance, ((z - z.mean(axis=0)) ** 2).sum(axis=0) / 4, atol=1e-12)


def test_whole_numbers_are_taken_as_images() -> None:
    images: NDArray[Any] = np.array([[[200, 200], [200, 200]], [[0, 0], [0, 100]]], dtype=np.uint8)
    assert prior_from_images(images).mean.tolist() == [450.0, -50.0, -50.0, 50.0]


@pytest.mark.parametrize("shape", [(1, 8, 8), (8, 8), (3, 8, 4), (0, 8, 8), (2, 2, 8, 8)])
def test_fewer_than_two_square_images_make_no_prior(shape: tuple[int, ...]) -> None:
    with pytest.raises(PriorError, match="K at least 2"):
        prior_from_images(np.ones(shape))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_images_with_holes_make_no_prior(value: float) -> None:
    images = np.ones((3, 4, 4))
    images[1, 2, 3] = value
    with pytest.raises(PriorError, match="NaN or infinite"):
        prior_from_images(images)


def test_images_of_a_side_that_is_no_power_of_two_make_no_prior() -> None:
    with pytest.raises(SideError):
        prior_from_images(np.ones((3, 6, 6)))


def test_the_best_prior_of_one_image_is_its_own_squared_coefficients() -> None:
    image = np.random.default_rng(1).uniform(size=(8, 8))
    prior = prior_from_image(image)
    np.testing.assert_allclose(prior.variance, coefficients_of(image) ** 2, atol=1e-12)
    assert not prior.mean.any()


@pytest.mark.parametrize("n", [2, 8, 32])
def test_the_power_law_falls_with_the_squared_distance_in_sequency(n: int) -> None:
    prior = power_law_prior(n, 50.0, 0.3, 1.1)
    np.testing.assert_allclose(prior.variance, law(n, 50.0, 0.3, 1.1))
    assert prior.variance[0] == 2500
    assert not prior.mean.any()


@pytest.mark.parametrize(
    ("total", "amplitude", "exponent"),
    [(0.0, 0.1, 1.0), (-1.0, 0.1, 1.0), (1.0, 0.0, 1.0), (float("nan"), 0.1, 1.0), (1.0, 0.1, float("inf"))],
)
def test_a_power_law_without_light_or_of_no_finite_number_is_refused(
    total: float, amplitude: float, exponent: float
) -> None:
    with pytest.raises(PriorError, match="expected"):
        power_law_prior(8, total, amplitude, exponent)


def test_a_power_law_needs_a_power_of_two() -> None:
    with pytest.raises(SideError):
        power_law_prior(12, 1.0)


def measured(
    n: int, total: float, amplitude: float, exponent: float, pair_variance: float, share: float, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coefficients drawn from a power law, a share of them measured one to five times."""
    rng = np.random.default_rng(seed)
    variance = np.where(rng.random(n * n) < share, pair_variance / rng.integers(1, 6, n * n), np.inf)
    z = rng.normal(size=n * n) * np.sqrt(law(n, total, amplitude, exponent))
    z += rng.normal(size=n * n) * np.sqrt(np.where(np.isfinite(variance), variance, 0.0))
    z[np.isinf(variance)] = np.nan
    z[0], variance[0] = total, 0.0
    return z, variance


@pytest.mark.parametrize("n", [64, 128])
@pytest.mark.parametrize(("amplitude", "exponent"), [(0.18, 1.25), (0.02, 1.0), (0.5, 1.6)])
def test_a_fit_finds_the_law_that_the_coefficients_were_drawn_from(n: int, amplitude: float, exponent: float) -> None:
    found = [
        parameters(fit_power_law(*measured(n, 1e5, amplitude, exponent, 1e4, 0.5, seed), n, 1e5), n, 1e5)
        for seed in range(5)
    ]
    amplitudes, exponents = np.array(found).T
    assert np.exp(np.log(amplitudes).mean()) == pytest.approx(amplitude, rel=0.25)
    assert exponents.mean() == pytest.approx(exponent, abs=0.05)


@pytest.mark.parametrize("pair_variance", [1e4, 1e7])
def test_no_law_is_more_likely_than_the_fitted_one(pair_variance: float) -> None:
    """The likelihood of every single coefficient, unpooled, also where nearly all of them are noise."""
    n, total = 128, 1e5
    z, variance = measured(n, total, 0.18, 1.25, pair_variance, 0.5, 5)
    taken = np.isfinite(variance)
    taken[0] = False

    def negative_log_likelihood(amplitude: float, exponent: float) -> float:
        spread = law(n, total, amplitude, exponent)[taken] + variance[taken]
        return float((np.log(spread) + z[taken] ** 2 / spread).sum() / 2)

    best = minimize(
        lambda found: negative_log_likelihood(np.exp(found[0]), found[1]), [-1.7, 1.25], method="Nelder-Mead"
    )
    fitted = negative_log_likelihood(*parameters(fit_power_law(z, variance, n, total), n, total))
    assert fitted == pytest.approx(best.fun, abs=0.1)
    assert best.fun < negative_log_likelihood(0.18, 1.25)


def test_a_fit_does_not_depend_on_the_unit_of_light() -> None:
    z, variance = measured(64, 1e5, 0.1, 1.2, 1e4, 0.4, 3)
    fitted = fit_power_law(z, variance, 64, 1e5).variance
    np.testing.assert_allclose(fit_power_law(z * 1e-3, variance * 1e-6, 64, 100.0).variance, fitted * 1e-6, rtol=1e-3)


def test_untaken_coefficients_do_not_count() -> None:
    z, variance = measured(32, 1e4, 0.1, 1.2, 1e3, 0.5, 4)
    expected = fit_power_law(z, variance, 32, 1e4).variance
    junk = np.where(np.isinf(variance), 1e9, z)
    np.testing.assert_array_equal(fit_power_law(junk, variance, 32, 1e4).variance, expected)


def test_with_fewer_than_32_coefficients_the_law_is_the_typical_one() -> None:
    z, variance = np.full(256, np.nan), np.full(256, np.inf)
    z[:32], variance[:32] = 5.0, 1.0
    few = fit_power_law(z, variance, 16, 100.0)
    np.testing.assert_allclose(few.variance, law(16, 100.0, TYPICAL_AMPLITUDE, TYPICAL_EXPONENT))
    z[32], variance[32] = 5.0, 1.0
    assert not np.allclose(fit_power_law(z, variance, 16, 100.0).variance, few.variance)


@given(
    seed=st.integers(0, 2**32 - 1),
    log_total=st.floats(-3, 12),
    log_noise=st.floats(-12, 6),
    share=st.floats(0.01, 1.0),
)
@settings(deadline=None, max_examples=40)
def test_a_fit_is_always_a_usable_prior(seed: int, log_total: float, log_noise: float, share: float) -> None:
    total = 10.0**log_total
    z, variance = measured(16, total, 0.2, 1.2, total**2 * 10.0**log_noise, share, seed)
    prior = fit_power_law(z, variance, 16, total)
    assert np.isfinite(prior.variance).all()
    assert (prior.variance > 0).all()
    assert prior.variance[0] == pytest.approx(total**2)


def test_a_sample_without_structure_gets_a_prior_near_zero() -> None:
    """An even field has z_i = 0 beside i = 0: what is read there is noise alone."""
    rng = np.random.default_rng(5)
    variance = np.full(64 * 64, 100.0)
    z = rng.normal(0, 10, 64 * 64)
    z[0] = 1e5
    fitted = fit_power_law(z, variance, 64, 1e5).variance
    assert fitted[1:].mean() < 5.0


def test_a_prior_from_few_images_keeps_the_doubt_of_their_number() -> None:
    rng = np.random.default_rng(8)
    typical = power_law_prior(8, 1.0)
    few, many = (Prior(np.zeros(64), rng.random(64)) for _ in range(2))
    assert np.allclose(tempered(few, 2, typical).variance, (few.variance + 10 * typical.variance) / 11 * 1.5)
    assert np.allclose(tempered(many, 100_000, typical).variance, many.variance, rtol=0.01, atol=1e-3)
    assert tempered(few, 2, typical).mean is few.mean
