"""The network's image of an estimate: the light's own units, and refusals of what no image can be made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.linalg import hadamard

from models.estimators import Estimate
from models.learning import network_image as module
from models.learning.compact_network import CompactNetwork
from models.learning.network_image import NoLightError, OtherSideError, network_image, raw_image
from models.learning.uncertainty import UncertaintyCalibration
from models.priors import Prior, power_law_prior
from tests.models.learning.tiny_model import ARCHITECTURE, random_weights

FLOATS = NDArray[np.float64]
N_SIDE = 8
CALIBRATION = UncertaintyCalibration((0.0, 2.0, 5.0), (0.8, 1.0, 1.3), 1.4, 0.7)


@pytest.fixture(autouse=True, scope="module")
def single_precision() -> Iterator[None]:
    """Where a processor multiplies bf16, networks are computed in it, which is coarser than what is compared here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
        yield


def network(seed: int = 0) -> CompactNetwork:
    found = CompactNetwork(ARCHITECTURE)
    found.load_state_dict({name: torch.from_numpy(value) for name, value in random_weights(seed).items()})
    return found


def prior() -> Prior:
    found = power_law_prior(N_SIDE, 1.0)
    variance = found.variance.copy()
    variance[0] = 0.0
    return Prior(found.mean, variance)


def sample(seed: int) -> FLOATS:
    return np.random.default_rng(seed).gamma(1.0, 50.0, (N_SIDE, N_SIDE))


def estimate(seed: int, *, noise: float = 0.02) -> Estimate:
    rng = np.random.default_rng(seed)
    image = sample(seed)
    exact = np.kron(hadamard(N_SIDE), hadamard(N_SIDE)) @ image.ravel()
    variance = np.where(rng.random(N_SIDE**2) < 0.6, (noise * exact[0]) ** 2, np.inf)
    variance[0] = (1e-3 * exact[0]) ** 2
    z = exact + noise * exact[0] * rng.standard_normal(N_SIDE**2)
    z[0] = exact[0]
    return Estimate(np.where(np.isfinite(variance), z, np.nan), variance, float(exact[0]))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 50), exponent=st.floats(-8, 30))
def test_brighter_light_gives_the_brighter_image(seed: int, exponent: float) -> None:
    factor = 10.0**exponent
    one = estimate(seed)
    other = Estimate(factor * one.coefficients, factor**2 * one.variance, factor * one.total)
    reference, found = (network_image(network(seed), each, prior(), CALIBRATION) for each in (one, other))
    np.testing.assert_allclose(found.image / factor, reference.image, rtol=1e-3, atol=1e-4 * reference.image.max())
    np.testing.assert_allclose(found.scale / factor, reference.scale, rtol=1e-2)
    assert found.predicted_mse / factor**2 == pytest.approx(reference.predicted_mse, rel=1e-2)


def test_the_image_is_light_per_exposure_and_never_negative() -> None:
    found = network_image(network(), estimate(1), prior(), CALIBRATION)
    assert found.image.dtype == found.scale.dtype == np.float64
    assert found.image.shape == found.scale.shape == (N_SIDE, N_SIDE)
    assert found.image.min() >= 0
    assert found.scale.min() > 0
    assert found.image.sum() == pytest.approx(estimate(1).total, rel=0.2)
    assert found.predicted_mse > 0


def test_scale_and_error_are_the_calibrated_ones() -> None:
    raw = raw_image(network(), estimate(2), prior())
    found = network_image(network(), estimate(2), prior(), CALIBRATION)
    np.testing.assert_array_equal(found.image, raw.image)
    own = 2 * float(np.mean(raw.raw_scale**2))
    expected = 1.4 * max(raw.measured_mse, 0.05 * own) + 0.7 * raw.unmeasured_mse
    assert found.predicted_mse == pytest.approx(expected)
    scale = raw.raw_scale * (expected / own) ** 0.25
    factor = np.interp(np.log(1 + raw.image / scale), [0, 2, 5], [0.8, 1.0, 1.3])
    np.testing.assert_allclose(found.scale, factor * scale)


def risk_of_all_directions(one: Estimate) -> float:
    """Stein's risk with every ∂ĉ_i/∂z_i from an image of its own, and ĉ from a dense matrix."""
    dense = np.kron(hadamard(N_SIDE), hadamard(N_SIDE))

    def coefficient(z: FLOATS, i: int) -> float:
        return float(dense[i] @ raw_image(network(), replace(one, coefficients=z), prior()).image.ravel())

    terms = []
    for i in np.flatnonzero(np.isfinite(one.variance))[1:]:
        step = 0.05 * np.sqrt(one.variance[i]) * np.eye(N_SIDE**2)[i]
        slope = (coefficient(one.coefficients + step, i) - coefficient(one.coefficients - step, i)) / (2 * step[i])
        residual = coefficient(one.coefficients, i) - one.coefficients[i]
        terms.append(residual**2 - one.variance[i] + 2 * one.variance[i] * slope)
    return float(np.sum(terms)) / N_SIDE**4


def test_the_error_over_what_was_measured_is_stein_s_risk(monkeypatch: pytest.MonkeyPatch) -> None:
    one, found = estimate(8), []
    for direction in range(100):
        monkeypatch.setattr(module, "_DIRECTION", direction)
        found.append(raw_image(network(), one, prior()).measured_mse)
    expected = risk_of_all_directions(one)
    assert np.mean(found) == pytest.approx(expected, abs=4 * float(np.std(found)) / 10)
    assert np.std(found) / 10 < 0.1 * expected


def test_the_error_over_what_was_not_measured_is_what_the_prior_expects() -> None:
    """Of coefficients that were never taken, in octaves of which nothing was measured."""
    one = estimate(9)
    z, variance = one.coefficients.copy(), one.variance.copy()
    u, v = np.divmod(np.arange(N_SIDE**2), N_SIDE)
    # Rows 1, 5, 3 and 7 of the Hadamard matrix are those of 4 sign changes and more.
    fine = np.isin(u, (1, 3, 5, 7)) & np.isin(v, (1, 3, 5, 7))
    taken = ~fine
    variance[taken] = (0.02 * one.total) ** 2
    z[taken] = np.where(np.isfinite(z), z, 0.0)[taken]
    variance[fine], z[fine] = np.inf, np.nan
    found = raw_image(network(), Estimate(z, variance, one.total), prior())
    expected = one.total**2 * prior().variance[fine].sum() / N_SIDE**4
    assert found.unmeasured_mse == pytest.approx(expected, rel=1e-4)


def test_while_nothing_is_measured_the_predicted_error_stays_as_it_is() -> None:
    first, again = (network_image(network(), estimate(2), prior(), CALIBRATION) for _ in range(2))
    assert first.predicted_mse == again.predicted_mse


def test_exact_coefficients_give_the_exact_image() -> None:
    image = sample(3)
    exact = np.kron(hadamard(N_SIDE), hadamard(N_SIDE)) @ image.ravel()
    found = raw_image(CompactNetwork(ARCHITECTURE), Estimate(exact, np.zeros(len(exact)), float(exact[0])), prior())
    np.testing.assert_allclose(found.image, image, atol=1e-3 * image.max())


def test_nothing_of_an_untaken_coefficient_leaks_into_the_image() -> None:
    one = estimate(4)
    expected = raw_image(network(), one, prior())
    for junk in (0.0, 1e30, np.inf, -np.inf, np.nan):
        filled = np.where(np.isfinite(one.variance), one.coefficients, junk)
        found = raw_image(network(), replace(one, coefficients=filled), prior())
        np.testing.assert_array_equal(found.image, expected.image)
        np.testing.assert_array_equal(found.raw_scale, expected.raw_scale)
        assert (found.measured_mse, found.unmeasured_mse) == (expected.measured_mse, expected.unmeasured_mse)


def test_a_coefficient_that_is_no_number_counts_as_untaken() -> None:
    one = estimate(5)
    lost = np.flatnonzero(np.isfinite(one.variance))[5]
    z, variance = one.coefficients.copy(), one.variance.copy()
    z[lost] = np.nan
    found = raw_image(network(), replace(one, coefficients=z), prior())
    variance[lost] = np.inf
    expected = raw_image(network(), replace(one, coefficients=z, variance=variance), prior())
    assert np.isfinite(found.image).all()
    np.testing.assert_array_equal(found.image, expected.image)


def test_with_the_total_light_alone_there_is_an_image_already() -> None:
    z, variance = np.full(N_SIDE**2, np.nan), np.full(N_SIDE**2, np.inf)
    z[0], variance[0] = 640.0, 1.0
    found = network_image(CompactNetwork(ARCHITECTURE), Estimate(z, variance, 640.0), prior(), CALIBRATION)
    np.testing.assert_allclose(found.image, 10.0, rtol=1e-4)
    raw = raw_image(CompactNetwork(ARCHITECTURE), Estimate(z, variance, 640.0), prior())
    assert raw.measured_mse == 0
    assert raw.unmeasured_mse == pytest.approx(640.0**2 * prior().variance.sum() / N_SIDE**4, rel=1e-5)
    assert found.predicted_mse > 0.7 * raw.unmeasured_mse


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 99), huge=st.integers(0, 40), precise=st.integers(-60, 60))
def test_whatever_was_read_the_image_is_finite(seed: int, huge: int, precise: int) -> None:
    one = estimate(seed)
    z, variance = one.coefficients.copy(), one.variance.copy()
    z[1::7] *= 10.0**huge
    variance[1:] *= 10.0**precise
    found = network_image(network(seed), Estimate(z, variance, one.total), prior(), CALIBRATION)
    assert np.isfinite(found.image).all()
    assert np.isfinite(found.scale).all()
    assert np.isfinite(found.predicted_mse)


@pytest.mark.parametrize("total", [0.0, -3.0, np.nan, np.inf])
def test_without_light_there_is_no_image(total: float) -> None:
    with pytest.raises(NoLightError, match=f"found a total light of {total:g}; expected more than 0"):
        network_image(network(), replace(estimate(6), total=total), prior(), CALIBRATION)


def test_an_estimate_of_another_side_is_refused() -> None:
    with pytest.raises(OtherSideError, match="found 64 coefficients and a prior of 256"):
        raw_image(network(), estimate(7), power_law_prior(16, 1.0))
