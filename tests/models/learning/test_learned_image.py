"""The compact network's frame, its adapted prior and its data consistency, against dense linear algebra."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.linalg import hadamard
from scipy.optimize import minimize_scalar

from models.learning import learned_image as module
from models.learning.compact_network import CompactArchitecture, CompactNetwork, CompactOutput
from models.learning.learned_image import PRIOR_COUNT, LearnedImage, adapted_prior, learned_image
from models.learning.unrolled_tv import STEPS
from models.priors import power_law_prior
from models.tv_proximal import TotalVariationProximal
from tests.models.learning.tiny_model import ARCHITECTURE, random_weights

FLOATS = NDArray[np.float64]


@pytest.fixture(autouse=True, scope="module")
def single_precision() -> Iterator[None]:
    """Where a processor multiplies bf16, networks are computed in it, which is coarser than what is compared here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
        yield


def dense(n: int) -> FLOATS:
    return np.kron(hadamard(n), hadamard(n)).astype(np.float64)


def sequency(n: int) -> tuple[FLOATS, FLOATS]:
    """Vertical and horizontal sign changes of every pattern, counted."""
    changes = np.array([sum(a != b for a, b in pairwise(row)) for row in hadamard(n)], dtype=np.float64)
    return np.repeat(changes, n), np.tile(changes, n)


class Scripted(CompactNetwork):
    """Says what it is told: the image is the Wiener image and ``correction`` of it, scale 1, and the given trust."""

    def __init__(self, correction: float, trust: torch.Tensor) -> None:
        super().__init__(ARCHITECTURE)
        self._correction, self._trust = correction, trust
        self.seen = torch.empty(0)

    def forward(self, inputs: torch.Tensor) -> CompactOutput:
        self.seen = inputs
        wiener, smooth = inputs[:, 0], inputs[:, 2]
        correction = (1 + self._correction) * wiener - (0.75 * wiener + 0.25 * smooth)
        smoothness = torch.full_like(wiener, 0.25)
        trust = self._trust.expand(len(inputs), -1, -1)
        return CompactOutput(correction, smoothness, torch.zeros_like(wiener), trust)


def network(seed: int = 0) -> CompactNetwork:
    found = CompactNetwork(ARCHITECTURE)
    found.load_state_dict({name: torch.from_numpy(value) for name, value in random_weights(seed).items()})
    return found


def acquisition(n: int, seed: int, *, taken: float = 0.6, noise: float = 0.02) -> tuple[FLOATS, FLOATS, FLOATS]:
    """Coefficients z [N] (0 where untaken) with z_0 = T, v [N] (inf where untaken), λ [N] at unit total."""
    rng = np.random.default_rng(seed)
    image = rng.gamma(1.0, 30.0, (n, n))
    exact = dense(n) @ image.ravel()
    variance = np.where(rng.random(n * n) < taken, (noise * exact[0]) ** 2 * rng.uniform(0.5, 2, n * n), np.inf)
    variance[0] = (1e-3 * exact[0]) ** 2
    known = np.isfinite(variance)
    z = np.where(known, exact + rng.standard_normal(n * n) * np.sqrt(np.where(known, variance, 0)), 0.0)
    prior = power_law_prior(n, 1.0).variance.copy()
    prior[0] = 0.0
    return z, variance, prior


def found_for(net: CompactNetwork, z: FLOATS, variance: FLOATS, prior: FLOATS) -> LearnedImage:
    with torch.no_grad():
        return learned_image(
            net,
            torch.from_numpy(z).float()[None],
            torch.from_numpy(1 / variance).float()[None],
            torch.from_numpy(prior).float(),
        )


def adapted(z: FLOATS, variance: FLOATS, prior: FLOATS) -> FLOATS:
    """The adapted prior at unit total light, as the image uses it."""
    tensors = [torch.from_numpy(each).float() for each in (z / z[0], z[0] ** 2 / variance, prior)]
    return adapted_prior(tensors[0][None], tensors[1][None], tensors[2])[0].double().numpy()


def posterior(z: FLOATS, variance: FLOATS, mean: FLOATS, prior: FLOATS) -> tuple[FLOATS, float]:
    """Mean of x given z = Hx + noise, with Hx ~ N(mean, diag λ) but for coefficient 0, which is known; and the expected
    squared error per pixel.
    """
    size = len(z)
    h = dense(round(size**0.5))
    known = np.isfinite(variance) & (np.arange(size) > 0)
    covariance = h @ np.diag(prior) @ h / size**2
    x0 = h @ np.append(z[0], mean[1:]) / size
    rows = h[known]
    gain = covariance @ rows.T @ np.linalg.inv(rows @ covariance @ rows.T + np.diag(variance[known]))
    left = covariance - gain @ rows @ covariance
    n = round(size**0.5)
    return (x0 + gain @ (z[known] - rows @ x0)).reshape(n, n), float(np.trace(left)) / size


def trusting(offset: float, slope: float, bands: int = 4) -> torch.Tensor:
    return torch.stack([torch.full((bands,), offset), torch.full((bands,), slope)])[None]


# g = 0 and k = 1: the network is as good as the prior, no better.
AS_THE_PRIOR = trusting(-module._START_OFFSET, 1 - module._START_SLOPE)


@pytest.mark.parametrize("n", [4, 8])
def test_the_wiener_image_and_its_error_are_those_of_dense_matrices(n: int) -> None:
    z, variance, prior = acquisition(n, n)
    found = found_for(Scripted(0.0, AS_THE_PRIOR), z, variance, prior)
    spread = adapted(z, variance, prior) * z[0] ** 2
    expected, error = posterior(z, variance, np.zeros(n * n), spread)
    np.testing.assert_allclose(found.wiener[0], expected, rtol=1e-4, atol=1e-4 * expected.max())
    assert float(found.wiener_mse) == pytest.approx(error, rel=1e-3)
    assert float(found.unmeasured_mse) == pytest.approx(spread[~np.isfinite(variance)].sum() / n**4, rel=1e-3)


@pytest.mark.parametrize("n", [4, 8])
@pytest.mark.parametrize("correction", [-1.0, 0.0, 0.7])
def test_data_consistency_is_the_posterior_mean_around_what_the_network_says(n: int, correction: float) -> None:
    z, variance, prior = acquisition(n, 10 + n)
    spread = adapted(z, variance, prior) * z[0] ** 2
    said = (1 + correction) * posterior(z, variance, np.zeros(n * n), spread)[0]
    expected, _ = posterior(z, variance, dense(n) @ said.ravel(), spread)
    found = found_for(Scripted(correction, AS_THE_PRIOR), z, variance, prior)
    np.testing.assert_allclose(found.image[0], expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_a_network_that_says_the_prior_mean_gives_the_wiener_image() -> None:
    z, variance, prior = acquisition(8, 3)
    found = found_for(Scripted(-1.0, AS_THE_PRIOR), z, variance, prior)
    np.testing.assert_allclose(found.image, found.wiener, rtol=1e-3, atol=1e-4 * float(found.wiener.max()))


def test_weights_follow_offset_and_slope_along_the_logarithm_of_sequency() -> None:
    n, bands = 8, 5
    z, variance, prior = acquisition(n, 4, taken=0.9)
    rng = np.random.default_rng(0)
    trust = rng.normal(0, 1, (2, bands))
    found = found_for(Scripted(0.5, torch.from_numpy(trust).float()[None]), z, variance, prior)
    vertical, horizontal = sequency(n)
    place = np.log(1 + np.hypot(vertical, horizontal))
    knots = np.linspace(0, np.log(1 + np.hypot(n - 1, n - 1)), bands)
    offset = -3 + np.interp(place, knots, trust[0])
    slope = 1 + np.interp(place, knots, trust[1])
    spread = adapted(z, variance, prior) * z[0] ** 2
    own = dense(n) @ (1.5 * posterior(z, variance, np.zeros(n * n), spread)[0]).ravel()
    weight = np.zeros(n * n)
    known = np.isfinite(variance) & (spread > 0)
    weight[known] = 1 / (1 + np.exp(-offset[known] - slope[known] * np.log(spread[known] / variance[known])))
    weight[0] = 1.0
    expected = (dense(n) @ (own + weight * (z - own)) / n**2).reshape(n, n)
    np.testing.assert_allclose(found.image[0], expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_at_the_start_the_network_counts_as_twenty_times_as_precise_as_the_prior() -> None:
    odds = np.exp(module._START_OFFSET)
    assert 1 / odds == pytest.approx(20, rel=0.01)
    z, variance, prior = acquisition(4, 5)
    found = found_for(Scripted(0.4, trusting(0.0, 0.0)), z, variance, prior)
    spread = adapted(z, variance, prior) * z[0] ** 2
    said = 1.4 * posterior(z, variance, np.zeros(16), spread)[0]
    expected, _ = posterior(z, variance, dense(4) @ said.ravel(), spread * odds)
    np.testing.assert_allclose(found.image[0], expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_the_total_light_of_the_image_is_the_measured_one() -> None:
    for seed in range(3):
        z, variance, prior = acquisition(8, seed)
        assert float(found_for(network(seed), z, variance, prior).image.sum()) == pytest.approx(z[0], rel=1e-4)


def test_the_network_sees_three_images_and_how_noisy_they_are_in_units_of_the_image() -> None:
    n = 8
    z, variance, prior = acquisition(n, 6)
    net = Scripted(0.0, AS_THE_PRIOR)
    found_for(net, z, variance, prior)
    seen = net.seen[0].double().numpy()
    spread = adapted(z, variance, prior) * z[0] ** 2
    wiener, error = posterior(z, variance, np.zeros(n * n), spread)
    unit = np.sqrt(np.mean(wiener**2))
    plain = (dense(n) @ z / n**2).reshape(n, n)
    known = np.isfinite(variance)
    for plane, expected in zip(seen[:2], (wiener, plain), strict=True):
        np.testing.assert_allclose(plane, expected / unit, rtol=1e-3, atol=1e-3)
    inside = known & (np.arange(n * n) > 0)
    shrink = spread[inside] / (spread[inside] + variance[inside])
    white = np.sqrt(np.sum(shrink**2 * variance[inside])) / n**2
    smooth = torch.empty(n, n, dtype=torch.float64)
    proximal = TotalVariationProximal(smooth, nonnegative=True)
    proximal(torch.from_numpy(wiener), module.TV_WEIGHT * white, STEPS, smooth)
    np.testing.assert_allclose(seen[2], smooth / unit, rtol=1e-3, atol=1e-3)
    assert np.abs(seen[2] - seen[0]).max() > 0.02
    np.testing.assert_allclose(seen[3], np.log(1 + np.sqrt(variance[known].sum()) / n**2 / unit), rtol=1e-3)
    np.testing.assert_allclose(seen[4], np.log(1 + np.sqrt(error) / unit), rtol=1e-3)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 99), exponent=st.integers(-12, 12))
def test_the_image_is_in_the_units_of_the_light(seed: int, exponent: int) -> None:
    z, variance, prior = acquisition(8, seed)
    factor = 10.0**exponent
    one = found_for(network(seed), z, variance, prior)
    other = found_for(network(seed), factor * z, factor**2 * variance, prior)
    reference = float(one.image.abs().max())
    np.testing.assert_allclose(other.image / factor, one.image, rtol=1e-3, atol=2e-4 * reference)
    np.testing.assert_allclose(other.wiener / factor, one.wiener, rtol=1e-3, atol=2e-4 * reference)
    np.testing.assert_allclose(other.scale / factor, one.scale, rtol=5e-3)
    assert float(other.wiener_mse) / factor**2 == pytest.approx(float(one.wiener_mse), rel=1e-3)


def test_a_flipped_sample_has_the_flipped_wiener_image_and_the_same_forecast() -> None:
    n = 16
    z, variance, prior = acquisition(n, 7)
    straight = found_for(network(), z, variance, prior)
    image = straight.wiener[0].numpy()
    # A flip changes the sign of the patterns that are odd along it, and of nothing else.
    vertical, horizontal = sequency(n)
    for changes, turned in ((vertical, image[::-1]), (horizontal, image[:, ::-1])):
        found = found_for(network(), (-1.0) ** changes * z, variance, prior)
        np.testing.assert_allclose(found.wiener[0], turned, rtol=1e-4, atol=1e-4 * image.max())
        assert float(found.wiener_mse) == pytest.approx(float(straight.wiener_mse), rel=1e-5)


def test_before_training_a_transposed_sample_gives_the_transposed_image() -> None:
    n = 16
    torch.manual_seed(0)
    net = CompactNetwork(CompactArchitecture((4, 6), 2, 4))
    z, variance, prior = acquisition(n, 7)
    image = found_for(net, z, variance, prior).image[0].numpy()
    other_z, other_variance = (each.reshape(n, n).T.ravel() for each in (z, variance))
    found = found_for(net, other_z, other_variance, prior).image[0]
    np.testing.assert_allclose(found, image.T, rtol=1e-3, atol=1e-3 * image.max())


# --- the adapted prior ------------------------------------------------------------------------------------------


def octave_cells(n: int) -> FLOATS:
    """0, 1, 2…3, 4…7, … changes of sign, vertically and horizontally."""
    edges = np.array([0.5] + [2.0**k - 0.5 for k in range(1, 12)])
    vertical, horizontal = (np.searchsorted(edges, each) for each in sequency(n))
    return np.asarray(vertical * 100 + horizontal)


def most_likely_factor(power: FLOATS, noise: FLOATS) -> float:
    """Over f in 1e-4…1e4, of z ~ N(0, f·λ + v) in units of λ, with PRIOR_COUNT coefficients of power 1 added, whose
    weight at f < 1 is what it is at 1.
    """

    def cost(log_factor: float) -> float:
        f = np.exp(log_factor)
        likelihood = np.sum(np.log(f + noise) + power / (f + noise))
        prior = np.log(f) + 1 / f - 1 if f > 1 else 0.5 * (1 - f) ** 2
        return float(likelihood + PRIOR_COUNT * prior)

    grid = np.linspace(np.log(1e-4), np.log(1e4), 2000)
    best = grid[np.argmin([cost(each) for each in grid])]
    found = minimize_scalar(cost, bounds=(best - 0.02, best + 0.02), method="bounded", options={"xatol": 1e-10})
    return float(np.clip(np.exp(found.x), 1e-4, 1e4))


@pytest.mark.parametrize("brightness", [0.2, 1.0, 6.0])
def test_the_adapted_prior_is_the_most_likely_one_in_every_octave(
    brightness: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SCORING_STEPS", 300)
    n = 16
    rng = np.random.default_rng(3)
    prior = power_law_prior(n, 1.0).variance
    variance = np.where(rng.random(n * n) < 0.7, rng.choice([0.02, 0.3, 2.0], n * n) * prior, np.inf)
    z = np.where(np.isfinite(variance), rng.standard_normal(n * n), 0.0)
    z *= np.sqrt(brightness * prior + np.where(np.isfinite(variance), variance, 0.0))
    found = adapted_of(z, variance, prior) / prior
    cells, known = octave_cells(n), np.isfinite(variance)
    for cell in np.unique(cells):
        inside = cells == cell
        assert np.ptp(found[inside]) <= 1e-4 * found[inside].max()
        used = inside & known
        expected = most_likely_factor(z[used] ** 2 / prior[used], variance[used] / prior[used])
        assert found[inside].mean() == pytest.approx(expected, rel=2e-3), cell


def adapted_of(z: FLOATS, variance: FLOATS, prior: FLOATS) -> FLOATS:
    tensors = [torch.from_numpy(each).float() for each in (z, 1 / variance, prior)]
    return adapted_prior(tensors[0][None], tensors[1][None], tensors[2])[0].double().numpy()


def test_few_steps_bring_it_near_the_most_likely_one() -> None:
    n = 16
    rng = np.random.default_rng(4)
    prior = power_law_prior(n, 1.0).variance
    variance = 0.2 * prior
    z = rng.standard_normal(n * n) * np.sqrt(2.5 * prior + variance)
    found, cells = adapted_of(z, variance, prior) / prior, octave_cells(n)
    for cell in np.unique(cells)[1:]:
        inside = cells == cell
        expected = most_likely_factor(z[inside] ** 2 / prior[inside], variance[inside] / prior[inside])
        assert found[inside].mean() == pytest.approx(expected, rel=0.02)


def test_where_nothing_was_taken_the_training_images_are_believed() -> None:
    prior = power_law_prior(8, 1.0).variance
    np.testing.assert_allclose(adapted_of(np.zeros(64), np.full(64, np.inf), prior), prior, rtol=1e-6)


def test_coefficients_that_no_training_image_had_do_not_speak_for_the_others() -> None:
    rng = np.random.default_rng(5)
    prior = power_law_prior(16, 1.0).variance.copy()
    z = rng.standard_normal(256) * np.sqrt(5 * prior)
    variance = 0.1 * prior
    absent = rng.random(256) < 0.4
    prior[absent] = 0.0
    silent = np.where(absent, np.inf, variance)
    found = adapted_of(z, variance, prior)
    assert np.all(found[absent] == 0)
    np.testing.assert_allclose(found, adapted_of(np.where(absent, 0, z), silent, prior), rtol=1e-6)


def test_it_carries_no_gradient() -> None:
    z = torch.rand(2, 64, requires_grad=True)
    weight = torch.rand(2, 64, requires_grad=True)
    assert not adapted_prior(z, weight, torch.ones(64)).requires_grad


# --- what else may come in --------------------------------------------------------------------------------------


def test_untaken_coefficients_have_weight_0() -> None:
    n = 8
    z, variance, prior = acquisition(n, 8)
    untaken = ~np.isfinite(variance)
    own = found_for(Scripted(0.3, trusting(30.0, -1.0)), z, variance, prior)
    coefficients = dense(n) @ own.image[0].double().numpy().ravel()
    # With all trust in what was measured the image has the measured coefficients, and the network's elsewhere: here 0.
    np.testing.assert_allclose(coefficients[~untaken], z[~untaken], atol=1e-3 * z[0])
    np.testing.assert_allclose(coefficients[untaken], 0, atol=1e-3 * z[0])


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 999), decades=st.integers(-18, 18), strays=st.integers(0, 6), floor=st.integers(0, 30))
def test_whatever_the_noise_the_image_is_finite(seed: int, decades: int, strays: int, floor: int) -> None:
    z, variance, prior = acquisition(8, seed)
    rng = np.random.default_rng(seed)
    z[1:] *= 10.0 ** rng.uniform(-strays, strays, 63)
    variance[1:] = np.clip(variance[1:] * 10.0**decades, 1e-20 * z[0] ** 2, None)
    prior = np.where(rng.random(64) < 0.1, 0.0, np.maximum(prior * 10.0 ** rng.uniform(-floor, 0, 64), 1e-30))
    found = found_for(network(seed), z, variance, prior)
    for part in (found.image, found.scale, found.wiener, found.wiener_mse):
        assert bool(torch.isfinite(part).all())
    assert bool((found.scale > 0).all())


def test_gradients_reach_counts_and_network_and_are_finite() -> None:
    z, variance, prior = acquisition(8, 9)
    coefficients = torch.from_numpy(z).float()[None].requires_grad_()
    precision = torch.from_numpy(1 / variance).float()[None].requires_grad_()
    net = network()
    found = learned_image(net, coefficients, precision, torch.from_numpy(prior).float())
    (found.image.square().mean() + found.scale.mean()).backward()  # type: ignore[no-untyped-call]
    for tensor in (coefficients, precision, *net.parameters()):
        assert tensor.grad is not None
        assert bool(torch.isfinite(tensor.grad).all())
    assert precision.grad is not None
    assert bool(precision.grad[0, 1:].any())
