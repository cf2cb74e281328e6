"""Paired t-tests between conditions on the same images at the same dose, corrected for their number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.learning.scores import (
    LARGEST_DOSE_DIFFERENCE,
    Condition,
    Metric,
    Scores,
    doses_match,
)


@dataclass(frozen=True)
class Comparison:
    """First condition minus second, image by image.

    low, high: 95 % confidence interval of the mean difference; p: two-sided paired t-test; p_holm: the same, corrected
    by Holm's method for all comparisons that were made with it.
    """

    first: Condition
    second: Condition
    metric: Metric
    n_images: int
    mean_difference: float
    low: float
    high: float
    p: float
    p_holm: float


def compare(
    scores: Scores, pairs: Sequence[tuple[Condition, Condition]], metric: Metric = "psnr"
) -> tuple[Comparison, ...]:
    """One comparison for each pair of conditions, Holm-corrected over all of them.

    Raises UnmatchedDoseError where mean doses differ by more than 1 %, UnpairedScoresError where the images are not the
    same or fewer than two, IncomparableScoresError where a score is infinite or NaN, UnknownConditionError.
    """
    tests = [_paired(scores, first, second, metric) for first, second in pairs]
    corrected = holm(np.array([test.p for test in tests]))
    return tuple(
        Comparison(first, second, metric, test.n, test.mean, test.low, test.high, test.p, float(p_holm))
        for (first, second), test, p_holm in zip(pairs, tests, corrected, strict=True)
    )


def holm(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Holm's correction (1979) of p values [m]: the k-th smallest times m - k + 1, never falling, at most 1."""
    order = np.argsort(p, kind="stable")
    stepped = p[order] * np.arange(len(p), 0, -1)
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return corrected


@dataclass(frozen=True)
class _PairedTest:
    n: int
    mean: float
    low: float
    high: float
    p: float


def _paired(scores: Scores, first: Condition, second: Condition, metric: Metric) -> _PairedTest:
    from scipy.stats import ttest_rel

    _check_dose(scores, first, second)
    images = [tuple(row.image for row in scores.of(condition)) for condition in (first, second)]
    if images[0] != images[1] or len(images[0]) < 2:
        raise UnpairedScoresError(
            f"found {len(images[0])} images of {first} and {len(images[1])} of {second}, "
            f"{len(set(images[0]) & set(images[1]))} of them the same; expected the same images, two at least"
        )
    values = [scores.values(condition, metric) for condition in (first, second)]
    for condition, column in zip((first, second), values, strict=True):
        if not np.isfinite(column).all():
            wrong = images[0][int(np.flatnonzero(~np.isfinite(column))[0])]
            raise IncomparableScoresError(
                f"found a {metric} that is infinite or NaN, image {wrong} of {condition}; expected finite scores: "
                "an image that equals the truth, or one without contrast, cannot be averaged"
            )
    differences = values[0] - values[1]
    mean = float(differences.mean())
    if np.all(differences == differences[0]):
        # A difference without scatter is certain: no t-test is needed, and none can be had.
        return _PairedTest(len(differences), mean, mean, mean, 1.0 if mean == 0 else 0.0)
    result = ttest_rel(*values)
    interval = result.confidence_interval(0.95)
    return _PairedTest(len(differences), mean, float(interval.low), float(interval.high), float(result.pvalue))


def _check_dose(scores: Scores, first: Condition, second: Condition) -> None:
    doses = scores.mean_pairs(first), scores.mean_pairs(second)
    if not doses_match(doses):
        raise UnmatchedDoseError(
            f"found {doses[0]:,.0f} pairs per image for {first} and {doses[1]:,.0f} for {second}; expected doses "
            f"within {LARGEST_DOSE_DIFFERENCE:.0%}: compare conditions that spend the same"
        )


class UnmatchedDoseError(ValueError):
    """Conditions that spent different numbers of pairs."""


class UnpairedScoresError(ValueError):
    """Conditions that were not scored on the same images, or on too few."""


class IncomparableScoresError(ValueError):
    """Scores that have no difference."""
