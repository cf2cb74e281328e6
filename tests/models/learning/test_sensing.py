"""Masks, draws and measurements that gradients flow through, against dense matrices, binomial sums and differences."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.linalg import hadamard
from scipy.stats import binom, chisquare

from models.learning.sensing import (
    GUMBEL_TEMPERATURE,
    START_MARGIN,
    Counts,
    LearnableMask,
    bernoulli_counts,
    fixed_counts,
    measure,
    normalized,
    relaxed_counts,
)

FLOATS = NDArray[np.float64]


def dense(n: int) -> FLOATS:
    return np.kron(hadamard(n), hadamard(n)).astype(np.float64)


def light(n: int, per_px: float, seed: int = 0) -> FLOATS:
    return np.random.default_rng(seed).gamma(1.0, per_px, (n, n))


# --- masks ------------------------------------------------------------------------------------------------------


def test_equation_8_shrinks_probabilities_or_their_complements() -> None:
    unconstrained = torch.tensor([0.2, 0.6], dtype=torch.float64)
    np.testing.assert_allclose(normalized(unconstrained, 0.2), [0.1, 0.3])
    np.testing.assert_allclose(normalized(unconstrained, 0.7), [0.6, 0.8])
    np.testing.assert_allclose(normalized(unconstrained, 0.4), [0.2, 0.6])


@given(
    values=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=30),
    alpha=st.floats(1e-3, 1.0),
)
def test_normalized_probabilities_have_mean_alpha_and_stay_probabilities(values: list[float], alpha: float) -> None:
    found = normalized(torch.tensor(values, dtype=torch.float64), alpha)
    assert float(found.mean()) == pytest.approx(alpha, abs=1e-9)
    assert float(found.min()) >= -1e-9
    assert float(found.max()) <= 1 + 1e-9


@pytest.mark.parametrize("alpha", [0.1, 0.45, 0.9])
def test_the_gradient_of_equation_8_is_that_of_differences(alpha: float) -> None:
    values = torch.linspace(0.05, 0.9, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda each: normalized(each, alpha), (values,))


def test_a_learnable_mask_starts_where_it_is_told_and_spends_what_it_is_told() -> None:
    start = torch.tensor([1.0, 0.7, 0.3, 0.2, 0.7, 0.5, 0.1, 0.4, 0.3, 0.1, 0.9, 0.6, 0.2, 0.4, 0.6, 0.8])
    mask = LearnableMask(start)().detach()
    torch.testing.assert_close(mask, start)
    binary = torch.tensor([1.0, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    moved = LearnableMask(binary)().detach()
    assert float(moved[0]) == 1.0
    assert float(moved.mean()) == pytest.approx(4 / 16)
    assert float(moved[1:].min()) >= START_MARGIN / 2
    assert float(moved[1:].max()) <= 1 - START_MARGIN / 2
    low = LearnableMask(torch.full((16,), 0.25))()
    assert float(low.detach().mean()) == pytest.approx(0.25)


def test_a_pattern_and_its_transpose_are_learned_together() -> None:
    learned = LearnableMask(torch.full((16,), 0.5))
    with torch.no_grad():
        learned.logits.add_(torch.randn(15, generator=torch.Generator().manual_seed(0)))
    mask = learned().detach().view(4, 4)
    torch.testing.assert_close(mask, mask.T)
    logits = np.append(0.0, learned.logits.detach().numpy()).reshape(4, 4)
    ratio = torch.logit(mask[1, 2]) - torch.logit(mask[1, 1])
    assert mask[1, 2] != mask[1, 1]
    assert float(ratio) * (logits[1, 2] + logits[2, 1] - 2 * logits[1, 1]) > 0


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), alpha=st.sampled_from([0.125, 0.25, 0.5]))
def test_a_mask_that_learns_keeps_its_mean_and_its_first(seed: int, alpha: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    mask = LearnableMask(torch.full((64,), alpha))
    for step in range(3):
        with torch.no_grad():
            mask.logits.add_(3 * torch.randn(63, generator=generator))
        found = mask().detach()
        assert float(found[0]) == 1.0
        assert float(found.mean()) == pytest.approx(alpha, abs=1e-5), step
        assert float(found.min()) >= 0
        assert float(found.max()) <= 1 + 1e-6


# --- draws ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.03, 0.25, 0.5, 0.9])
def test_counts_are_binomial(p: float) -> None:
    repeats, draws = 6, 20_000
    torch.manual_seed(5)
    counts = bernoulli_counts(torch.full((draws,), p), repeats)
    observed = np.bincount(counts.repeats.numpy().astype(int), minlength=repeats + 1)
    expected = binom.pmf(np.arange(repeats + 1), repeats, p) * draws
    rare = expected < 5
    if rare.any():
        observed = np.append(observed[~rare], observed[rare].sum())
        expected = np.append(expected[~rare], expected[rare].sum())
    assert chisquare(observed, expected).pvalue > 1e-3
    assert float(counts.repeats.mean()) == pytest.approx(repeats * p, abs=4 * np.sqrt(repeats * p * (1 - p) / draws))
    np.testing.assert_array_equal(counts.presence, counts.repeats > 0)


def test_what_is_certain_is_drawn_always_and_what_is_impossible_never() -> None:
    counts = bernoulli_counts(torch.tensor([0.0, 1.0]).repeat(50_000, 1), 50)
    assert float(counts.repeats[:, 0].max()) == 0
    assert float(counts.repeats[:, 1].min()) == 50


def replayed(p: torch.Tensor, repeats: int, temperature: float) -> tuple[list[FLOATS], list[FLOATS]]:
    """The draws of the same torch seed, one by one: which were included, and d soft/dP by automatic differentiation."""
    hard, slopes = [], []
    for _ in range(repeats):
        u = torch.rand_like(p).double()
        leaf = p.double().clone().requires_grad_()
        # The Gumbel noise of "included" less that of "left out" is logistic.
        soft = torch.softmax(
            torch.stack([torch.log(leaf) + torch.log(u), torch.log1p(-leaf) + torch.log1p(-u)]) / temperature, 0
        )
        (slope,) = torch.autograd.grad(soft[0].sum(), leaf)
        hard.append((soft[0] > 0.5).double().numpy())
        slopes.append(slope.numpy())
    return hard, slopes


@pytest.mark.parametrize("temperature", [0.8, 0.3])
def test_the_gradient_of_a_count_is_the_sum_over_its_draws(temperature: float) -> None:
    p = torch.linspace(0.05, 0.95, 40).requires_grad_()
    weight = torch.linspace(-1, 2, 40)
    torch.manual_seed(11)
    counts = bernoulli_counts(p, 9, temperature=temperature)
    (counts.repeats * weight).sum().backward()  # type: ignore[no-untyped-call]
    torch.manual_seed(11)
    hard, slopes = replayed(p.detach(), 9, temperature)
    np.testing.assert_array_equal(counts.repeats.detach(), sum(hard))
    assert p.grad is not None
    np.testing.assert_allclose(p.grad, sum(slopes) * weight.numpy(), rtol=2e-3, atol=1e-4)


def test_presence_has_the_gradient_of_the_draws_that_decide_it() -> None:
    p = torch.full((300,), 0.25).requires_grad_()
    torch.manual_seed(3)
    counts = bernoulli_counts(p, 5)
    counts.presence.sum().backward()  # type: ignore[no-untyped-call]
    torch.manual_seed(3)
    hard, slopes = (np.array(each) for each in replayed(p.detach(), 5, GUMBEL_TEMPERATURE))
    # 1 - Π(1 - m): the derivative in one draw is the product over the others.
    others = np.array([np.prod(np.delete(1 - hard, s, axis=0), axis=0) for s in range(5)])
    assert {0, 1, 2} <= set(hard.sum(0))
    assert p.grad is not None
    np.testing.assert_allclose(p.grad, (others * slopes).sum(0), rtol=2e-3, atol=1e-4)


def test_relaxed_counts_are_expected_ones() -> None:
    p = torch.tensor([0.0, 0.1, 1.0], requires_grad=True)
    counts = relaxed_counts(p, 50)
    np.testing.assert_allclose(counts.repeats.detach(), [0, 5, 50])
    np.testing.assert_array_equal(counts.presence.detach(), [0, 1, 1])
    counts.repeats.sum().backward()  # type: ignore[no-untyped-call]
    assert p.grad is not None
    np.testing.assert_array_equal(p.grad, 50)


# --- measurements -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("per_px", [20.0, 40_000.0], ids=["photons one by one", "bright light as its Gaussian"])
@pytest.mark.parametrize("read", [0.0, 300.0])
def test_coefficients_have_the_mean_and_the_variance_of_their_pairs(per_px: float, read: float) -> None:
    n, gain, draws = 4, 2.0, 20_000
    image = light(n, per_px)
    exact = dense(n) @ image.ravel()
    read *= per_px
    repeats = np.array([0, 1, 2, 3, 5, 8, 50, 0, 1, 2, 3, 5, 8, 50, 0, 1], dtype=np.float64)
    torch.manual_seed(1)
    z, precision = measure(
        torch.from_numpy(image).expand(draws, n, n), fixed_counts(torch.from_numpy(repeats)), gain, read
    )
    pairs = np.append(repeats[1:].sum(), repeats[1:])
    taken = pairs > 0
    variance = (gain * exact[0] + 2 * read) / np.maximum(pairs, 1)
    assert bool((z[:, ~taken] == 0).all())
    assert bool((precision[:, ~taken] == 0).all())
    np.testing.assert_allclose(precision[0, taken], 1 / variance[taken], rtol=1e-6)
    found = z.numpy()[:, taken]
    off = (found.mean(0) - exact[taken]) / np.sqrt(variance[taken] / draws)
    assert np.abs(off).max() < 4.5
    np.testing.assert_allclose(found.var(0), variance[taken], rtol=0.06)
    correlation = np.corrcoef(found.T) - np.eye(taken.sum())
    assert np.abs(correlation).max() < 5 / np.sqrt(draws)


def test_dim_light_is_skewed_as_photons_are() -> None:
    image = np.zeros((2, 2))
    image[0, 0] = 3.0
    torch.manual_seed(0)
    counts = fixed_counts(torch.tensor([0.0, 2, 2, 2], dtype=torch.float64))
    z, _ = measure(torch.from_numpy(image).expand(40_000, 2, 2), counts, 1.0, 0.0)
    centred = z[:, 1].numpy() - 3.0
    # H+ sees the pixel, H- never: the mean of two pairs is Poisson(6)/2.
    assert np.mean(centred**3) / np.mean(centred**2) ** 1.5 == pytest.approx(1 / np.sqrt(6), abs=0.06)


def test_every_image_of_a_batch_has_its_own_counts_and_noise() -> None:
    images = torch.from_numpy(np.stack([light(2, 1e5, 0), light(2, 3e5, 1)]))
    repeats = torch.tensor([[0.0, 1, 2, 0], [0, 4, 0, 8]], dtype=torch.float64)
    gain, read = torch.tensor([[1.0], [3.0]]), torch.tensor([[0.0], [5.0]])
    z, precision = measure(images, fixed_counts(repeats), gain, read)
    total = images.sum((1, 2)).numpy()
    pair = np.array([1.0, 3.0]) * total + np.array([0.0, 10.0])
    np.testing.assert_allclose(precision, np.array([[3.0, 1, 2, 0], [12, 4, 0, 8]]) / pair[:, None])
    assert np.argwhere(z.numpy() == 0).tolist() == [[0, 3], [1, 2]]


def test_noise_that_was_drawn_shrinks_with_the_root_of_the_count() -> None:
    image = light(4, 1e5)
    exact = dense(4) @ image.ravel()
    repeats = torch.linspace(0.5, 40, 16, dtype=torch.float64).requires_grad_()
    z, _ = measure(torch.from_numpy(image)[None], Counts(repeats, torch.ones(16, dtype=torch.float64)), 2.0, 7.0)
    noise = z.detach().numpy()[0] - exact
    for i in (1, 7, 15):
        (slope,) = torch.autograd.grad(z[0, i], repeats, retain_graph=True)
        expected = np.zeros(16)
        expected[i] = -noise[i] / (2 * float(repeats.detach()[i]))
        np.testing.assert_allclose(slope, expected, rtol=1e-6, atol=1e-12 * abs(noise[i]))
    (slope,) = torch.autograd.grad(z[0, 0], repeats)
    pairs = float(repeats.detach()[1:].sum())
    np.testing.assert_allclose(slope[1:], -noise[0] / (2 * pairs), rtol=1e-6)


def test_the_relaxed_gradient_is_that_of_differences() -> None:
    image = torch.from_numpy(light(4, 1e5))[None]
    exact = torch.from_numpy(dense(4) @ image.numpy().ravel())
    prior = exact**2 / 3

    def loss(p: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(8)
        z, precision = measure(image, relaxed_counts(p, 50), 2.0, 1e5)
        signal_to_noise = prior * precision
        squared: torch.Tensor = ((signal_to_noise / (1 + signal_to_noise) * z - exact) ** 2).sum() / exact[0] ** 2
        return squared

    p = torch.linspace(0.02, 0.9, 16, dtype=torch.float64).requires_grad_()
    loss(p).backward()  # type: ignore[no-untyped-call]
    assert p.grad is not None
    for i in range(16):
        step = torch.zeros(16, dtype=torch.float64)
        step[i] = 1e-6
        with torch.no_grad():
            difference = (loss(p + step) - loss(p - step)) / 2e-6
        assert float(p.grad[i]) == pytest.approx(float(difference), rel=1e-5, abs=1e-12)


def test_what_was_not_taken_has_the_gradient_of_taking_one_pair() -> None:
    image, draws = light(4, 1e5), 20_000
    exact = dense(4) @ image.ravel()
    presence = torch.zeros(draws, 16, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(2)
    counts = Counts(torch.zeros(draws, 16, dtype=torch.float64), presence)
    z, _ = measure(torch.from_numpy(image).expand(draws, 4, 4), counts, 2.0, 0.0)
    z[:, 1:].sum().backward()  # type: ignore[no-untyped-call]
    assert presence.grad is not None
    found, pair_variance = presence.grad.numpy()[:, 1:], 2.0 * exact[0]
    np.testing.assert_allclose(found.mean(0), exact[1:], atol=5 * np.sqrt(pair_variance / draws))
    np.testing.assert_allclose(found.var(0), pair_variance, rtol=0.06)


# --- the gradient as a whole ------------------------------------------------------------------------------------


@lru_cache(maxsize=16)
def shares(p: float, temperature: float) -> tuple[float, float]:
    """E[d soft/dP; left out] and E[d soft/dP; included], by integration over the logistic noise."""
    logit = np.log(p / (1 - p))

    def slope(u: float) -> float:
        soft = 1 / (1 + np.exp(-u / temperature))
        tail = np.exp(-abs(u - logit))
        return float(soft * (1 - soft) / (temperature * p * (1 - p)) * tail / (1 + tail) ** 2)

    return quad(slope, -60, 0, limit=300)[0], quad(slope, 0, 60, limit=300)[0]


def gradients(p: float, repeats: int, *, wiener: bool, temperature: float) -> tuple[FLOATS, FLOATS, FLOATS]:
    """Of the expected squared error of coefficients 1…15 in P, in units of v: as estimated (mean, standard error) from
    draws; z²/v of the coefficients.
    """
    n, gain, draws = 4, 2.0, 8000
    image = light(n, 3e5, 1)
    exact = dense(n) @ image.ravel()
    read = float(np.mean(exact[1:] ** 2)) / 60
    pair_variance = gain * exact[0] + 2 * read
    torch.manual_seed(17)
    probability = torch.full((draws, 16), p, dtype=torch.float64, requires_grad=True)
    z, precision = measure(
        torch.from_numpy(image).expand(draws, n, n),
        bernoulli_counts(probability, repeats, temperature=temperature),
        gain,
        read,
    )
    truth = torch.from_numpy(exact)
    ratio = truth**2 * precision
    found = ratio / (1 + ratio) * z if wiener else z
    ((found - truth)[:, 1:] ** 2).sum().backward()  # type: ignore[no-untyped-call]
    assert probability.grad is not None
    each = probability.grad.numpy()[:, 1:] / pair_variance
    return each.mean(0), each.std(0) / np.sqrt(draws), exact[1:] ** 2 / pair_variance


def plain_error(m: FLOATS, r: FLOATS) -> FLOATS:
    """E(z - z°)²/v of M pairs, r = z°²/v."""
    return np.where(m > 0, 1 / np.maximum(m, 1), r)


def wiener_error(m: FLOATS, r: FLOATS) -> FLOATS:
    """The same of z·rM/(1 + rM)."""
    weight = r * m / (1 + r * m)
    return weight**2 * plain_error(m, r) * (m > 0) + (1 - weight) ** 2 * r


def exact_derivative(p: float, repeats: int, errors: FLOATS) -> FLOATS:
    """S·Σ Bin(M'; S - 1, P)·(f(M' + 1) - f(M')); errors: f [coefficients, S + 1]."""
    chances = binom.pmf(np.arange(repeats), repeats - 1, p)
    return np.asarray(repeats * np.diff(errors, axis=1) @ chances)


GRID = [(0.02, 50), (0.25, 4), (0.5, 4), (0.25, 50)]


@pytest.mark.parametrize(("p", "repeats"), GRID)
@pytest.mark.parametrize("temperature", [GUMBEL_TEMPERATURE, 0.2])
def test_the_estimated_gradient_weighs_the_slopes_at_both_ends_of_every_difference(
    p: float, repeats: int, temperature: float
) -> None:
    mean, error, r = gradients(p, repeats, wiener=False, temperature=temperature)
    left_out, included = shares(p, temperature)
    chances = binom.pmf(np.arange(repeats), repeats - 1, p)
    m = np.arange(1, repeats)
    noise = -chances[1:] @ (left_out / m**2 + included / (m + 1) ** 2) - chances[0] * included
    # Presence: -2z°² where M = 0 and 2v where M = 1.
    presence = chances[0] * (left_out * -2 * r + included * 2)
    np.testing.assert_array_less(np.abs(mean - repeats * (noise + presence)), 5 * error + 1e-9)


def test_at_a_low_temperature_the_estimate_is_near_the_exact_derivative_of_the_plain_error() -> None:
    for p, repeats in GRID:
        mean, error, r = gradients(p, repeats, wiener=False, temperature=0.1)
        m = np.arange(repeats + 1.0)
        exact = exact_derivative(p, repeats, plain_error(m[None], r[:, None]))
        strong = r > 3
        np.testing.assert_array_less(np.abs(mean - exact)[strong], 0.25 * np.abs(exact[strong]) + 5 * error[strong])


# Measured bias of the plain error's gradient at τ = 0.8: the estimate over the exact derivative, z² well above v.
BIAS = {(0.02, 50): (2.8, 3.9), (0.25, 4): (0.95, 1.4), (0.5, 4): (0.6, 0.9), (0.25, 50): (0.8, 0.95)}


@pytest.mark.parametrize(("p", "repeats"), GRID)
def test_at_the_papers_temperature_the_bias_is_as_documented(p: float, repeats: int) -> None:
    mean, error, r = gradients(p, repeats, wiener=False, temperature=GUMBEL_TEMPERATURE)
    exact = exact_derivative(p, repeats, plain_error(np.arange(repeats + 1.0)[None], r[:, None]))
    strong = r > 10
    assert strong.sum() >= 5
    least, most = BIAS[p, repeats]
    slack = 4 * error[strong] / np.abs(exact[strong])
    assert np.all(mean[strong] / exact[strong] > least - slack)
    assert np.all(mean[strong] / exact[strong] < most + slack)


def test_under_wiener_weights_the_estimate_has_the_noise_and_misses_presence() -> None:
    mean, error, r = gradients(0.25, 50, wiener=True, temperature=GUMBEL_TEMPERATURE)
    exact = exact_derivative(0.25, 50, wiener_error(np.arange(51.0)[None], r[:, None]))
    assert np.all(np.abs(mean / exact - 0.87) < 0.06 + 4 * error / np.abs(exact))
    mean, _, r = gradients(0.25, 4, wiener=True, temperature=GUMBEL_TEMPERATURE)
    exact = exact_derivative(0.25, 4, wiener_error(np.arange(5.0)[None], r[:, None]))
    strong = r > 10
    assert np.all(exact[strong] < -10)
    assert np.all(mean[strong] / exact[strong] < 0.15)
    assert np.all(mean < 0)


@pytest.mark.parametrize("p", [0.25, 0.5, 0.9])
def test_the_relaxed_gradient_is_about_the_exact_one_where_counts_are_many(p: float) -> None:
    m, r = np.arange(51.0), np.geomspace(0.1, 100, 7)
    exact = exact_derivative(p, 50, wiener_error(m[None], r[:, None]))
    at = 50 * p
    relaxed = 50 * -(r**2) / (1 + r * at) ** 2
    np.testing.assert_allclose(relaxed, exact, rtol=0.17)
