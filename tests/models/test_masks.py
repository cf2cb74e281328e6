"""Masks: their invariants, and the allocations against general-purpose optimizers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.linalg import hadamard
from scipy.optimize import minimize
from scipy.stats import binom

from models.hadamard import SideError
from models.masks import (
    MaskError,
    bernoulli_optimal,
    half_half,
    low_sequency,
    random_binary,
    top_alpha,
    uniform,
    validate_mask,
    water_filling,
)

Mask = NDArray[np.float64]
BINARY: dict[str, Callable[[int, float], Mask]] = {
    "low-sequency": low_sequency,
    "half-half": lambda n, alpha: half_half(n, alpha, seed=1),
    "random": lambda n, alpha: random_binary(n, alpha, seed=1),
}
ALLOCATIONS = {"water-filling": water_filling, "bernoulli": bernoulli_optimal}
SIDES = st.sampled_from([2, 4, 8, 16])
ALPHAS = st.floats(0.01, 1.0)


def total_sequency(n: int) -> NDArray[np.int64]:
    changes = np.count_nonzero(np.diff(hadamard(n), axis=1), axis=1)
    return np.asarray(np.add.outer(changes, changes), dtype=np.int64).ravel()


def falling_prior(n_coefficients: int, seed: int = 0) -> Mask:
    rng = np.random.default_rng(seed)
    return 1e4 * rng.permutation(np.arange(1, n_coefficients + 1) ** -1.5)


@given(SIDES, ALPHAS)
@settings(deadline=None)
def test_the_uniform_mask_is_alpha_everywhere(n: int, alpha: float) -> None:
    assert uniform(n, alpha).tolist() == [alpha] * n**2


@pytest.mark.parametrize("name", BINARY)
@given(n=SIDES, alpha=ALPHAS)
@settings(deadline=None)
def test_a_choosing_mask_has_alpha_n_ones_and_coefficient_0_is_one_of_them(name: str, n: int, alpha: float) -> None:
    mask = BINARY[name](n, alpha)
    assert mask.dtype == np.float64
    assert mask.shape == (n * n,)
    assert set(mask.tolist()) <= {0.0, 1.0}
    assert mask.sum() == max(1, round(alpha * n * n))
    assert mask[0] == 1.0


@given(SIDES, ALPHAS)
@settings(deadline=None)
def test_low_sequency_leaves_no_lower_one_out(n: int, alpha: float) -> None:
    mask, sequency = low_sequency(n, alpha), total_sequency(n)
    if (mask == 0).any():
        assert sequency[mask == 1].max() <= sequency[mask == 0].min()


@given(SIDES, ALPHAS, st.integers(0, 1000))
@settings(deadline=None)
def test_half_half_holds_the_lowest_half(n: int, alpha: float, seed: int) -> None:
    mask, sequency = half_half(n, alpha, seed), total_sequency(n)
    half = int(mask.sum()) // 2
    left_out = sequency[mask == 0]
    lowest_left_out = left_out.min() if len(left_out) else np.inf
    assert np.count_nonzero((mask == 1) & (sequency <= lowest_left_out)) >= half


def test_the_other_half_is_spread_over_all_sequencies() -> None:
    mask, sequency = half_half(64, 0.25, seed=3), total_sequency(64)
    high = mask[sequency > 64]
    others = mask.sum() / 2 / (64 * 64 - mask.sum() / 2)
    assert high.mean() == pytest.approx(others, rel=0.1)


@pytest.mark.parametrize("make", [half_half, random_binary])
def test_random_masks_depend_on_the_seed_alone(make: Callable[[int, float, int], Mask]) -> None:
    np.testing.assert_array_equal(make(16, 0.3, 7), make(16, 0.3, 7))
    assert (make(16, 0.3, 7) != make(16, 0.3, 8)).any()


@pytest.mark.parametrize("alpha", [0.0, -0.1, 1.0001, float("nan"), float("inf")])
def test_a_budget_outside_0_to_1_is_refused(alpha: float) -> None:
    for make in (uniform, *BINARY.values()):
        with pytest.raises(MaskError, match="α"):
            make(8, alpha)
    for allocate in ALLOCATIONS.values():
        with pytest.raises(MaskError):
            allocate(np.ones(64), alpha, 4, 1.0)


@pytest.mark.parametrize("name", ["uniform", *BINARY])
def test_a_side_that_is_no_power_of_two_is_refused(name: str) -> None:
    with pytest.raises(SideError):
        ({"uniform": uniform} | BINARY)[name](12, 0.25)


@pytest.mark.parametrize("name", ALLOCATIONS)
@given(
    alpha=st.floats(0.05, 1.0),
    repeats=st.integers(1, 60),
    log_noise=st.floats(-6, 8),
    seed=st.integers(0, 100),
)
@settings(deadline=None, max_examples=40)
def test_an_allocation_is_a_mask_of_mean_alpha(
    name: str, alpha: float, repeats: int, log_noise: float, seed: int
) -> None:
    mask = ALLOCATIONS[name](falling_prior(64, seed), max(alpha, 1 / 64), repeats, 10.0**log_noise)
    validate_mask(mask, 8, max(alpha, 1 / 64))
    assert mask[0] == 1.0


@pytest.mark.parametrize("name", ALLOCATIONS)
@pytest.mark.parametrize("repeats", [1, 2, 16])
def test_equal_prior_variances_still_spend_the_whole_budget(name: str, repeats: int) -> None:
    mask = ALLOCATIONS[name](np.ones(256), 0.3, repeats, 5.0)
    assert mask.mean() == pytest.approx(0.3, rel=1e-6)


@pytest.mark.parametrize("name", ALLOCATIONS)
def test_more_prior_variance_never_gets_less(name: str) -> None:
    prior = falling_prior(256)
    mask = ALLOCATIONS[name](prior, 0.2, 8, 300.0)[1:]
    by_prior = mask[np.argsort(prior[1:])]
    assert (np.diff(by_prior) >= -1e-9).all()
    assert by_prior[0] < by_prior[-1]


@pytest.mark.parametrize("name", ALLOCATIONS)
def test_nothing_is_spent_where_there_is_nothing_to_learn(name: str) -> None:
    prior = np.where(np.arange(64) < 40, falling_prior(64), 0.0)
    mask = ALLOCATIONS[name](prior, 0.3, 4, 100.0)
    assert not mask[40:].any()
    assert mask.mean() == pytest.approx(0.3, rel=1e-3)


@pytest.mark.parametrize("name", ALLOCATIONS)
@pytest.mark.parametrize(
    ("prior", "alpha"),
    [
        (np.array([1.0, np.nan, 1.0, 1.0]), 0.5),
        (np.array([1.0, np.inf, 1.0, 1.0]), 0.5),
        (np.array([1.0, -1.0, 1.0, 1.0]), 0.5),
        (np.ones((2, 2)), 0.5),
        (np.array([1.0, 1.0, 0.0, 0.0]), 0.9),
        (np.ones(4), 0.1),
    ],
)
def test_priors_and_budgets_that_cannot_be_spent_are_refused(name: str, prior: Mask, alpha: float) -> None:
    with pytest.raises(MaskError):
        ALLOCATIONS[name](prior, alpha, 4, 1.0)


@pytest.mark.parametrize("repeats", [1, 4, 30])
@pytest.mark.parametrize("noise", [1.0, 50.0, 3000.0])
def test_water_filling_is_as_good_as_a_general_optimizer(repeats: int, noise: float) -> None:
    """Minimum of Σ λv/(λM + v) over 0 ≤ M ≤ S with ΣM fixed, by SLSQP."""
    alpha, prior = 0.4, falling_prior(16)
    lam, budget = prior[1:], (0.4 * 16 - 1) * repeats

    def error(counts: Mask) -> float:
        return float((lam * noise / (lam * counts + noise)).sum())

    found = minimize(
        lambda counts: error(counts) / lam.sum(),
        np.full(15, budget / 15),
        jac=lambda counts: -(lam**2) * noise / (lam * counts + noise) ** 2 / lam.sum(),
        bounds=[(0, repeats)] * 15,
        constraints={"type": "eq", "fun": lambda counts: counts.sum() - budget, "jac": lambda _: np.ones(15)},
        method="SLSQP",
        options={"maxiter": 500, "ftol": 1e-14},
    )
    counts = water_filling(prior, alpha, repeats, noise)[1:] * repeats
    assert counts.sum() == pytest.approx(budget, rel=1e-9)
    assert error(counts) <= error(found.x) * (1 + 1e-6)


def test_water_filling_obeys_its_closed_form() -> None:
    prior, repeats, noise = falling_prior(256), 10, 200.0
    counts = water_filling(prior, 0.25, repeats, noise)[1:] * repeats
    inside = (counts > 1e-6) & (counts < repeats - 1e-6)
    levels = (counts + noise / prior[1:])[inside]
    assert inside.sum() > 10
    np.testing.assert_allclose(levels, levels.mean(), rtol=1e-9)
    assert (noise / prior[1:][counts < 1e-6] >= levels.mean() * (1 - 1e-9)).all()
    assert (repeats + noise / prior[1:][counts > repeats - 1e-6] <= levels.mean() * (1 + 1e-9)).all()


@pytest.mark.parametrize("name", ALLOCATIONS)
@pytest.mark.parametrize("alpha", [0.1, 0.5, 1.0])
def test_the_budget_is_spent_however_wide_the_prior_spans(name: str, alpha: float) -> None:
    prior = np.geomspace(1e60, 1e-30, 64)
    mask = ALLOCATIONS[name](prior, alpha, 8, 1e5)
    assert mask.mean() == pytest.approx(alpha, rel=1e-9)
    assert (np.diff(mask) <= 1e-12).all()


def expected_error(probabilities: Mask, lam: Mask, noise: float, repeats: int) -> float:
    """Σ E[λv/(λM + v)], M ~ Binomial(S, P), by the definition."""
    counts = np.arange(repeats + 1)
    chance = binom.pmf(counts[None, :], repeats, probabilities[:, None])
    return float((chance * lam[:, None] * noise / (lam[:, None] * counts + noise)).sum())


@pytest.mark.parametrize("repeats", [1, 3, 20])
@pytest.mark.parametrize("noise", [3.0, 300.0])
def test_the_bernoulli_optimum_is_as_good_as_a_general_optimizer(repeats: int, noise: float) -> None:
    alpha, prior = 0.4, falling_prior(16)
    lam, budget = prior[1:], 0.4 * 16 - 1
    found = minimize(
        lambda p: expected_error(p, lam, noise, repeats) / lam.sum(),
        np.full(15, budget / 15),
        bounds=[(0, 1)] * 15,
        constraints={"type": "eq", "fun": lambda p: p.sum() - budget},
        method="SLSQP",
        options={"maxiter": 500, "ftol": 1e-12},
    )
    ours = bernoulli_optimal(prior, alpha, repeats, noise)[1:]
    assert ours.sum() == pytest.approx(budget, rel=1e-6)
    assert expected_error(ours, lam, noise, repeats) <= expected_error(found.x, lam, noise, repeats) * (1 + 2e-3)


def test_for_bernoulli_draws_the_bernoulli_optimum_beats_water_filling_and_uniform() -> None:
    prior, repeats, noise = falling_prior(1024), 16, 100.0
    masks = [allocate(prior, 0.25, repeats, noise) for allocate in (bernoulli_optimal, water_filling)]
    errors = [expected_error(mask[1:], prior[1:], noise, repeats) for mask in (*masks, np.full(1024, 0.25))]
    assert errors[0] < errors[1]
    assert errors[0] < errors[2]


def test_without_noise_the_bernoulli_optimum_still_weighs_what_is_missed() -> None:
    """Σ λ(1 - P)^S is left: the error of coefficients that were never drawn."""
    prior, repeats = falling_prior(64), 4
    mask = bernoulli_optimal(prior, 0.5, repeats, 0.0)[1:]
    lam = prior[1:]
    even = np.full(63, mask.mean())
    assert (lam * (1 - mask) ** repeats).sum() < 0.9 * (lam * (1 - even) ** repeats).sum()


@given(
    n=st.sampled_from([2, 4, 8]),
    alpha=ALPHAS,
    levels=st.integers(1, 5),
    seed=st.integers(0, 1000),
)
@settings(deadline=None)
def test_the_top_of_a_mask_leaves_no_likelier_one_out_and_of_equals_no_lower_sequency(
    n: int, alpha: float, levels: int, seed: int
) -> None:
    mask = np.random.default_rng(seed).integers(0, levels, n * n) / 4
    top = top_alpha(mask, alpha)
    assert set(top.tolist()) <= {0.0, 1.0}
    assert top.sum() == max(1, round(alpha * n * n))
    assert top[0] == 1.0
    sequency = total_sequency(n)
    merit = list(zip(mask.tolist(), (-sequency).tolist(), strict=True))
    taken = [merit[i] for i in np.flatnonzero(top) if i]
    left = [merit[i] for i in np.flatnonzero(top == 0)]
    assert not taken or not left or min(taken) >= max(left)


def test_the_top_of_a_binary_mask_is_itself() -> None:
    mask = half_half(16, 0.3, seed=2)
    np.testing.assert_array_equal(top_alpha(mask, 0.3), mask)


def test_the_top_of_an_even_mask_is_low_sequency() -> None:
    np.testing.assert_array_equal(top_alpha(uniform(16, 0.2), 0.2), low_sequency(16, 0.2))


@pytest.mark.parametrize(
    "mask",
    [
        np.full(15, 0.5),
        np.full((4, 4), 0.5),
        np.where(np.arange(16) == 3, np.nan, 0.5),
        np.where(np.arange(16) == 3, 1.5, 0.5),
        np.where(np.arange(16) == 3, -0.5, 0.5),
    ],
)
def test_only_probabilities_have_a_top(mask: Mask) -> None:
    with pytest.raises(MaskError, match="expected probabilities"):
        top_alpha(mask, 0.25)


@pytest.mark.parametrize("alpha", [0.0, 1.1, float("nan")])
def test_the_top_has_a_budget(alpha: float) -> None:
    with pytest.raises(MaskError, match="α"):
        top_alpha(np.full(16, 0.5), alpha)


def test_a_good_mask_passes() -> None:
    validate_mask(np.full(16, 0.25), 4, 0.25)
    validate_mask(np.r_[np.ones(4), np.zeros(12)], 4, 0.25)


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("alpha", [0.3, 0.11, 0.77])
def test_a_binary_mask_passes_although_its_ones_are_a_whole_number(name: str, alpha: float) -> None:
    validate_mask(BINARY[name](4, alpha), 4, alpha)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda mask: mask[:-1], "15 .*expected 16"),
        (lambda mask: mask.reshape(4, 4), r"\[4, 4\].*expected 16"),
        (lambda mask: np.where(np.arange(16) > 12, np.nan, mask), "3 values.*NaN.*first at 13"),
        (lambda mask: np.where(np.arange(16) == 5, np.inf, mask), "1 values.*first at 5"),
        (lambda mask: np.where(np.arange(16) >= 14, 1.5, mask), "2 values outside.*1.5 at 14"),
        (lambda mask: np.where(np.arange(16) == 0, -0.25, mask), "1 values outside.*-0.25 at 0"),
        (lambda mask: mask * 0.8, r"mean 0.2.*expected α = 0.25"),
        (lambda mask: mask * 1.2, r"mean 0.3.*expected α = 0.25"),
    ],
)
def test_what_is_no_mask_is_refused_with_what_was_found(change: Callable[[Mask], Mask], message: str) -> None:
    with pytest.raises(MaskError, match=message):
        validate_mask(change(np.full(16, 0.25)), 4, 0.25)


def test_a_mean_one_percent_off_is_noticed_on_a_large_mask() -> None:
    with pytest.raises(MaskError, match="mean"):
        validate_mask(np.full(128 * 128, 0.2525), 128, 0.25)


def test_one_coefficient_too_many_is_noticed_on_a_small_mask() -> None:
    with pytest.raises(MaskError, match="mean"):
        validate_mask(np.r_[np.ones(5), np.zeros(11)], 4, 0.25)
