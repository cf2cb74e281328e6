"""Masks: the probability P_i with which a measurement of coefficient i is taken; their mean over all N is α.

Coefficient 0, the total light, comes free with every pair and is never drawn. Masks that choose give it P_0 = 1, so
that all of them spend the same.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.draws import Draw
from models.hadamard import check_side
from models.sequency import order_by_total_sequency

LARGEST_MEAN_ERROR = 1e-3


class MaskError(ValueError):
    """Probabilities that are no mask, or a budget that no mask can have."""


def uniform(n: int, alpha: float) -> NDArray[np.float64]:
    """P_i = α everywhere, float64 [N]. Raises SideError, MaskError."""
    _check_budget(n, alpha)
    return np.full(n * n, float(alpha))


def low_sequency(n: int, alpha: float) -> NDArray[np.float64]:
    """P_i = 1 for the round(αN) patterns of lowest 2-D sequency, float64 [N]. Raises SideError, MaskError."""
    return _binary(n, order_by_total_sequency(n)[: _check_budget(n, alpha)])


def half_half(n: int, alpha: float, seed: int) -> NDArray[np.float64]:
    """Half of round(αN) ones on the lowest 2-D sequencies, half at random among the others, float64 [N].

    Raises SideError, MaskError.
    """
    chosen = _check_budget(n, alpha)
    order = order_by_total_sequency(n)
    low = -(-chosen // 2)
    others = np.random.default_rng(seed).permutation(order[low:])[: chosen - low]
    return _binary(n, np.concatenate([order[:low], others]))


def random_binary(n: int, alpha: float, seed: int) -> NDArray[np.float64]:
    """P_i = 1 for coefficient 0 and round(αN) - 1 others at random, float64 [N]. Raises SideError, MaskError."""
    chosen = _check_budget(n, alpha)
    others = 1 + np.random.default_rng(seed).permutation(n * n - 1)[: chosen - 1]
    return _binary(n, np.concatenate([[0], others]))


def top_alpha(mask: NDArray[np.float64], alpha: float) -> NDArray[np.float64]:
    """P_i = 1 for the round(αN) likeliest patterns of a mask [N], coefficient 0 among them, float64 [N].

    Of equally likely ones those of lower 2-D sequency are taken. It makes a mask of probabilities binary, for methods
    that know all repeats or none. Raises MaskError, SideError.
    """
    n = round(mask.size**0.5)
    chosen = _check_budget(n, alpha)
    if mask.shape != (n * n,) or not ((mask >= 0) & (mask <= 1)).all():
        raise MaskError(
            f"found values in shape {list(mask.shape)}, not all of them in [0, 1]; expected probabilities [N], N = n²"
        )
    order = order_by_total_sequency(n)
    likeliest = order[np.argsort(-mask[order], kind="stable")]
    return _binary(n, np.concatenate([[0], likeliest[likeliest != 0][: chosen - 1]]))


def water_filling(
    prior_variance: NDArray[np.float64], alpha: float, repeats: int, pair_variance: float
) -> NDArray[np.float64]:
    """The best mask of a linear reconstruction for systematic draws, float64 [N] (DESIGN §5.5).

    M_i = clip(κ - v/λ_i, 0, S) minimizes Σ λ_i v/(λ_i M_i + v) under Σ M_i = αNS; P_i = M_i/S. prior_variance: λ
    float64 [N], 0 or more; pair_variance: v = aT + 2b. Coefficients with λ_i = 0 get nothing. Raises MaskError.
    """
    useful, chosen = _useful(prior_variance, alpha)
    budget = (alpha * len(prior_variance) - 1) * repeats
    # v/λ_i: the level κ at which coefficient i gets its first drop; it is full S above.
    threshold = np.divide(pair_variance, chosen)

    def spent(level: float) -> float:
        return float(np.clip(level - threshold, 0, repeats).sum())

    # What is spent is piecewise linear in κ: find the piece, then κ on it.
    knots = np.unique(np.concatenate([threshold, threshold + repeats, [np.inf]]))
    low, high = 0, len(knots) - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if spent(knots[middle]) <= budget else (low, middle)
    below, above = spent(knots[low]), spent(knots[high])
    share = (budget - below) / (above - below) if above > below else 0.0
    allotted = [np.clip(knots[end] - threshold, 0, repeats) for end in (low, high)]
    return _mask(useful, ((1 - share) * allotted[0] + share * allotted[1]) / repeats)


def bernoulli_optimal(
    prior_variance: NDArray[np.float64], alpha: float, repeats: int, pair_variance: float
) -> NDArray[np.float64]:
    """The best mask of a linear reconstruction for Bernoulli draws, float64 [N] (DESIGN §5.5).

    Minimizes Σ E[λ_i v/(λ_i M + v)], M ~ Binomial(S, P_i), under ΣP_i = αN. The expectation is convex in P (a Bernstein
    polynomial of a convex sequence), so at the optimum its slope is one multiplier for every P_i inside (0, 1). Slopes
    are tabulated over λ/v and P, and the multiplier is found by bisection. Arguments and errors as ``water_filling``.
    """
    useful, chosen = _useful(prior_variance, alpha)
    budget = alpha * len(prior_variance) - 1
    # r = λ/v. A coefficient that matters 10¹² times less than another may count as any other such one.
    ratio = np.maximum(chosen / max(pair_variance, _WIDEST_RANGE * float(chosen.max())), _WIDEST_RANGE)
    grid_ratio = np.geomspace(ratio.min(), ratio.max() * (1 + 1e-9), 400)
    grid_p = np.linspace(0, 1, 401)
    log_gain = np.log(grid_ratio[:, None] * _slopes(grid_ratio, grid_p, repeats))

    def probabilities_at(log_multiplier: float) -> NDArray[np.float64]:
        best = np.array([np.interp(-log_multiplier, -row, grid_p) for row in log_gain])
        return np.asarray(np.interp(np.log(ratio), np.log(grid_ratio), best), dtype=np.float64)

    low, high = float(log_gain.min()) - 1, float(log_gain.max()) + 1
    for _ in range(50):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if probabilities_at(middle).sum() > budget else (low, middle)
    # Where many coefficients are alike the sum jumps at the multiplier; a blend of both sides spends the exact budget.
    generous, frugal = probabilities_at(low), probabilities_at(high)
    excess = float(generous.sum() - frugal.sum())
    share = (budget - float(frugal.sum())) / excess if excess > 0 else 0.0
    return _mask(useful, frugal + np.clip(share, 0, 1) * (generous - frugal))


def best_linear(
    prior_variance: NDArray[np.float64], alpha: float, repeats: int, pair_variance: float, draw: Draw
) -> NDArray[np.float64]:
    """The best mask of a linear reconstruction for a kind of draw, float64 [N]; arguments as ``water_filling``.

    The closed form is not the optimum of a Bernoulli draw: there M = 0 dominates the error (DESIGN §5.5).
    """
    allocate = bernoulli_optimal if draw == "bernoulli" else water_filling
    return allocate(prior_variance, alpha, repeats, pair_variance)


def validate_mask(mask: NDArray[np.float64], n: int, alpha: float) -> None:
    """Raise MaskError unless ``mask`` holds N probabilities of mean α, within LARGEST_MEAN_ERROR·α.

    On small images half a coefficient is more than that, and is what a mask of ones and zeros needs: round(αN)/N.
    """
    if mask.shape != (n * n,):
        raise MaskError(f"found {mask.size} probabilities in shape {list(mask.shape)}; expected {n * n} for side {n}")
    if not np.isfinite(mask).all():
        wrong = np.flatnonzero(~np.isfinite(mask))
        raise MaskError(
            f"found {len(wrong)} values that are NaN or infinite, the first at {wrong[0]}; expected probabilities"
        )
    outside = np.flatnonzero((mask < 0) | (mask > 1))
    if len(outside):
        first = outside[0]
        raise MaskError(
            f"found {len(outside)} values outside [0, 1], the first {mask[first]:g} at {first}; expected probabilities"
        )
    mean, tolerance = float(mask.mean()), max(LARGEST_MEAN_ERROR * alpha, 0.5 / mask.size)
    if abs(mean - alpha) > tolerance * (1 + 1e-9):
        raise MaskError(f"found mean {mean:.6g}; expected α = {alpha:g} within {tolerance:.2g}")


def _slopes(ratio: NDArray[np.float64], p: NDArray[np.float64], repeats: int) -> NDArray[np.float64]:
    """-d/dP E[1/(1 + r·M)], M ~ Binomial(S, P), float64 [ratios, probabilities], falling along P.

    It is S·E[f(M') - f(M' + 1)] with f(m) = 1/(1 + r·m) and M' ~ Binomial(S - 1, P).
    """
    from scipy.stats import binom

    m = np.arange(repeats)
    r = ratio[:, None]
    drop = r / ((1 + r * m) * (1 + r * (m + 1)))
    chances = np.asarray(binom.pmf(m[None, :], repeats - 1, p[:, None]), dtype=np.float64)
    return np.asarray(repeats * (drop @ chances.T), dtype=np.float64)


def _check_budget(n: int, alpha: float) -> int:
    """round(αN), at least coefficient 0."""
    check_side(n)
    if not 0 < alpha <= 1:
        raise MaskError(f"found α = {alpha:g}; expected more than 0 and at most 1")
    return max(1, round(alpha * n * n))


def _useful(prior_variance: NDArray[np.float64], alpha: float) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Where there is prior variance to measure away (never coefficient 0), bool [N], and how much, float64 there."""
    if prior_variance.ndim != 1 or not np.isfinite(prior_variance).all() or (prior_variance < 0).any():
        raise MaskError(
            "found prior variances that are negative, not finite or not one row; expected float64 [N] of 0 or more"
        )
    useful = prior_variance > _ROUNDING * prior_variance.max(initial=0.0)
    useful[:1] = False
    n_useful, wanted = int(np.count_nonzero(useful)), alpha * len(prior_variance) - 1
    if not (0 < alpha <= 1 and 0 <= wanted <= n_useful * (1 + 1e-12)) or n_useful == 0:
        raise MaskError(
            f"found α = {alpha:g} with {n_useful} of {len(prior_variance)} coefficients that have prior variance; "
            "expected a budget of one coefficient at least and of all of them at most"
        )
    return useful, prior_variance[useful]


def _mask(useful: NDArray[np.bool_], probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities at the useful coefficients, 1 at coefficient 0, 0 elsewhere."""
    mask = np.zeros(len(useful))
    mask[0] = 1.0
    mask[useful] = np.clip(probabilities, 0, 1)
    return mask


def _binary(n: int, chosen: NDArray[np.int64]) -> NDArray[np.float64]:
    mask = np.zeros(n * n)
    mask[chosen] = 1.0
    return mask


_WIDEST_RANGE = 1e-12
_ROUNDING = 1e-100
