"""Scores: what they are on average, and how they are told apart."""

from __future__ import annotations

import statistics

import numpy as np
import pytest

from models.learning.scores import (
    Condition,
    DuplicateScoreError,
    SchemeLabel,
    Score,
    Scores,
    UnknownConditionError,
    doses_match,
    spread,
)

UNIFORM = Condition(SchemeLabel("U", 0.25, 50, "bernoulli"), "Wiener")
LOW = Condition(SchemeLabel("LS", 0.25, 50, "bernoulli"), "Wiener")


def score(image: int, condition: Condition, psnr: float, pairs: int = 100) -> Score:
    return Score(image, condition, pairs, psnr, psnr / 50, psnr - 5)


def test_a_summary_is_the_mean_and_the_sample_standard_deviation() -> None:
    values = [30.0, 34.0, 41.5]
    scores = Scores(tuple(score(k, UNIFORM, value, pairs=90 + 10 * k) for k, value in enumerate(values)))
    (summary,) = scores.summaries()
    assert summary.n_images == 3
    assert summary.mean_pairs == 100
    assert summary.psnr.mean == pytest.approx(statistics.fmean(values))
    assert summary.psnr.sd == pytest.approx(statistics.stdev(values))
    assert summary.min_max_psnr.mean == pytest.approx(statistics.fmean(values) - 5)
    assert summary.ssim.sd == pytest.approx(statistics.stdev(values) / 50)


def test_one_image_has_no_standard_deviation() -> None:
    assert spread(np.array([31.0])).mean == 31
    assert np.isnan(spread(np.array([31.0])).sd)


def test_an_infinite_psnr_stays_infinite_in_the_mean() -> None:
    found = spread(np.array([31.0, np.inf]))
    assert found.mean == np.inf
    assert np.isnan(found.sd)


def test_values_come_by_image_whatever_the_order_of_the_rows() -> None:
    scores = Scores((score(2, LOW, 32.0), score(0, UNIFORM, 99.0), score(0, LOW, 30.0), score(1, LOW, 31.0)))
    np.testing.assert_array_equal(scores.values(LOW, "psnr"), [30.0, 31.0, 32.0])
    assert scores.conditions == (LOW, UNIFORM)


def test_masks_of_one_name_at_two_budgets_are_two_conditions() -> None:
    scarce = Condition(UNIFORM.scheme._replace(alpha=0.125), "Wiener")
    scores = Scores((score(0, UNIFORM, 30.0), score(0, scarce, 28.0)))
    assert [summary.psnr.mean for summary in scores.summaries()] == [30.0, 28.0]


def test_an_image_counts_once() -> None:
    with pytest.raises(DuplicateScoreError, match="image 3 twice"):
        Scores((score(3, UNIFORM, 30.0), score(3, UNIFORM, 30.0)))


def test_an_unknown_condition_is_refused_with_the_known_ones() -> None:
    scores = Scores((score(0, UNIFORM, 30.0),))
    with pytest.raises(
        UnknownConditionError, match=r"no score of Wiener \(LS.*there are: Wiener \(U, α = 0.25"
    ) as caught:
        scores.values(LOW, "psnr")
    assert isinstance(caught.value, KeyError)


def test_doses_match_within_one_percent_of_the_larger() -> None:
    assert doses_match([1000, 990])
    assert not doses_match([1000, 989])
    assert not doses_match([1000, 995, 985])
