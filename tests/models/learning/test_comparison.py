"""Paired comparisons against SciPy's one-sample test, hand-made Holm corrections, and refusals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import stats

from models.learning.comparison import (
    IncomparableScoresError,
    UnmatchedDoseError,
    UnpairedScoresError,
    compare,
    holm,
)
from models.learning.scores import Condition, SchemeLabel, Score, Scores, UnknownConditionError

PROBABILITIES = arrays(np.float64, st.integers(1, 12), elements=st.floats(0, 1))


def condition(mask: str, alpha: float = 0.25) -> Condition:
    return Condition(SchemeLabel(mask, alpha, 50, "bernoulli"), "CS-TV")


def table(columns: dict[Condition, list[float]], pairs: dict[Condition, int] | None = None) -> Scores:
    rows = [
        Score(k, name, (pairs or {}).get(name, 1000), value, 0.5, 20.0)
        for name, values in columns.items()
        for k, value in enumerate(values)
    ]
    return Scores(tuple(rows))


A, B, C = condition("A"), condition("B"), condition("C")


def test_a_comparison_is_the_t_test_of_the_differences() -> None:
    rng = np.random.default_rng(0)
    first = rng.normal(36, 4, 30)
    second = first - rng.normal(0.3, 0.5, 30)
    (found,) = compare(table({A: list(first), B: list(second)}), [(A, B)])
    differences = first - second
    oracle = stats.ttest_1samp(differences, 0.0)
    half_width = stats.t.ppf(0.975, 29) * stats.sem(differences)
    assert found.n_images == 30
    assert found.p == found.p_holm == pytest.approx(oracle.pvalue)
    assert found.mean_difference == pytest.approx(differences.mean())
    assert found.high - found.low == pytest.approx(2 * half_width)
    assert (found.low + found.high) / 2 == pytest.approx(differences.mean())


@given(arrays(np.float64, (2, 8), elements=st.integers(0, 60).map(float)))
def test_a_comparison_turned_around_changes_its_sign_only(values: NDArray[np.float64]) -> None:
    scores = table({A: list(values[0]), B: list(values[1])})
    forth, back = compare(scores, [(A, B)])[0], compare(scores, [(B, A)])[0]
    assert back.mean_difference == -forth.mean_difference
    assert (back.low, back.high) == pytest.approx((-forth.high, -forth.low))
    assert back.p == pytest.approx(forth.p)


def test_any_metric_can_be_compared() -> None:
    rows = [
        Score(k, name, 10, 30.0, ssim, 5.0)
        for name, ssims in ((A, (0.9, 0.8)), (B, (0.7, 0.7)))
        for k, ssim in enumerate(ssims)
    ]
    (found,) = compare(Scores(tuple(rows)), [(A, B)], metric="ssim")
    assert found.mean_difference == pytest.approx(0.15)


def test_equal_scores_differ_by_nothing_and_a_constant_lead_is_certain() -> None:
    equal, ahead = compare(table({A: [30.0, 31.0], B: [30.0, 31.0], C: [28.0, 29.0]}), [(A, B), (A, C)])
    assert (equal.mean_difference, equal.low, equal.high, equal.p) == (0, 0, 0, 1)
    assert (ahead.mean_difference, ahead.low, ahead.high, ahead.p) == (2, 2, 2, 0)


def test_p_is_corrected_over_all_comparisons_made_together() -> None:
    rng = np.random.default_rng(1)
    base = rng.normal(36, 4, 12)
    scores = table({A: list(base), B: list(base - rng.normal(0.2, 0.5, 12)), C: list(base - rng.normal(0.9, 0.5, 12))})
    to_b, to_c = compare(scores, [(A, B), (A, C)])
    smaller, larger = sorted((to_b, to_c), key=lambda comparison: comparison.p)
    assert smaller.p_holm == pytest.approx(2 * smaller.p)
    assert larger.p_holm == pytest.approx(max(larger.p, 2 * smaller.p))


def test_holm_by_hand() -> None:
    """Sorted: 0.005·4, 0.01·3 = 0.03, 0.03·2 = 0.06, 0.04·1, which must not fall below 0.06."""
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])


@given(PROBABILITIES)
def test_holm_keeps_the_order_and_stays_between_p_and_bonferroni(p: NDArray[np.float64]) -> None:
    corrected = holm(p)
    assert (corrected >= p).all()
    assert (corrected <= np.minimum(len(p) * p, 1) + 1e-12).all()
    order = np.argsort(p)
    assert (np.diff(corrected[order]) >= 0).all()


@given(PROBABILITIES, st.integers(0, 2**31))
def test_holm_does_not_depend_on_the_order_of_the_tests(p: NDArray[np.float64], seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(p))
    np.testing.assert_allclose(holm(p[order]), holm(p)[order])


def test_unequal_doses_are_not_compared() -> None:
    columns = {A: [30.0, 31.0], B: [29.0, 30.0]}
    compare(table(columns, {A: 1000, B: 991}), [(A, B)])
    with pytest.raises(UnmatchedDoseError, match=r"1,000 pairs per image .* and 500 for .* within 1%"):
        compare(table(columns, {A: 1000, B: 500}), [(A, B)])


def test_other_images_are_not_compared() -> None:
    with pytest.raises(UnpairedScoresError, match=r"3 images of .* and 2 of .*, 2 of them the same"):
        compare(table({A: [1.0, 2.0, 3.0], B: [1.0, 2.0]}), [(A, B)])
    with pytest.raises(UnpairedScoresError, match="two at least"):
        compare(table({A: [1.0], B: [1.0]}), [(A, B)])


def test_an_infinite_score_is_not_compared() -> None:
    with pytest.raises(IncomparableScoresError, match=r"image 1 of .*B"):
        compare(table({A: [30.0, 31.0], B: [30.0, np.inf]}), [(A, B)])


def test_an_unknown_condition_is_not_compared() -> None:
    with pytest.raises(UnknownConditionError):
        compare(table({A: [30.0, 31.0]}), [(A, B)])
