"""Scores of reconstructed images: one row per image, scheme and method, and what they are on average."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Metric = Literal["psnr", "ssim", "min_max_psnr"]

# Doses that differ by more are not compared. Bernoulli totals are random: over 256² coefficients they differ by 0.1 %.
LARGEST_DOSE_DIFFERENCE = 0.01


class SchemeLabel(NamedTuple):
    """What a sensing scheme is told apart by: the mask's name, its mean α, the largest number of repeats S, the draw.

    draw: "bernoulli" or "systematic".
    """

    mask: str
    alpha: float
    repeats: int
    draw: str

    @property
    def setting(self) -> str:
        """All but the mask, in words."""
        draw = "Bernoulli" if self.draw == "bernoulli" else self.draw
        return f"α = {self.alpha:g}, S = {self.repeats}, {draw} draws"

    def __str__(self) -> str:
        return f"{self.mask}, {self.setting}"


class Condition(NamedTuple):
    """One line of the table: the image of a method from what a scheme measured."""

    scheme: SchemeLabel
    method: str

    def __str__(self) -> str:
        return f"{self.method} ({self.scheme})"


@dataclass(frozen=True)
class Score:
    """How good one image is.

    image: its number in the set; pairs: ΣM, what was spent on it; psnr (dB) and ssim: against the stated data range;
    min_max_psnr: dB, each image stretched to [0, 1] (for comparison with the paper), NaN where the reconstruction has
    no contrast.
    """

    image: int
    condition: Condition
    pairs: int
    psnr: float
    ssim: float
    min_max_psnr: float


@dataclass(frozen=True)
class Spread:
    """mean and sd: average over images and their standard deviation (K - 1 in the denominator; NaN for one image)."""

    mean: float
    sd: float


@dataclass(frozen=True)
class Summary:
    """Scores of one condition over its images; mean_pairs: mean dose, ΣM per image."""

    condition: Condition
    n_images: int
    mean_pairs: float
    psnr: Spread
    ssim: Spread
    min_max_psnr: Spread


@dataclass(frozen=True)
class Scores:
    """Rows in the order in which they were made. Raises DuplicateScoreError where an image counts twice."""

    rows: tuple[Score, ...]

    def __post_init__(self) -> None:
        seen: set[tuple[int, Condition]] = set()
        for row in self.rows:
            if (row.image, row.condition) in seen:
                raise DuplicateScoreError(
                    f"found image {row.image} twice for {row.condition}; expected one score an image"
                )
            seen.add((row.image, row.condition))

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """Every condition once, in order of appearance."""
        return tuple(dict.fromkeys(row.condition for row in self.rows))

    def of(self, condition: Condition) -> tuple[Score, ...]:
        """Scores of one condition, by image. Raises UnknownConditionError."""
        found = sorted((row for row in self.rows if row.condition == condition), key=lambda row: row.image)
        if not found:
            known = "; ".join(map(str, self.conditions)) or "none"
            raise UnknownConditionError(f"found no score of {condition}; there are: {known}")
        return tuple(found)

    def values(self, condition: Condition, metric: Metric) -> NDArray[np.float64]:
        """A metric of every image of a condition, by image, float64 [K]. Raises UnknownConditionError."""
        return np.array([getattr(row, metric) for row in self.of(condition)], dtype=np.float64)

    def mean_pairs(self, condition: Condition) -> float:
        """Mean dose of a condition, ΣM per image. Raises UnknownConditionError."""
        return float(np.mean([row.pairs for row in self.of(condition)]))

    def summaries(self) -> tuple[Summary, ...]:
        """One summary a condition, in order of appearance."""
        return tuple(self._summary(condition) for condition in self.conditions)

    def _summary(self, condition: Condition) -> Summary:
        return Summary(
            condition=condition,
            n_images=len(self.of(condition)),
            mean_pairs=self.mean_pairs(condition),
            psnr=spread(self.values(condition, "psnr")),
            ssim=spread(self.values(condition, "ssim")),
            min_max_psnr=spread(self.values(condition, "min_max_psnr")),
        )


def spread(values: NDArray[np.float64]) -> Spread:
    """Mean and standard deviation of at least one value. An infinite value leaves no standard deviation: NaN."""
    several = len(values) > 1 and bool(np.isfinite(values).all())
    return Spread(float(np.mean(values)), float(np.std(values, ddof=1)) if several else float("nan"))


def doses_match(mean_pairs: Iterable[float]) -> bool:
    """Whether all mean doses lie within LARGEST_DOSE_DIFFERENCE of the largest."""
    doses = list(mean_pairs)
    return max(doses) - min(doses) <= LARGEST_DOSE_DIFFERENCE * max(doses)


class DuplicateScoreError(ValueError):
    """Two scores of the same image under the same condition."""


class UnknownConditionError(KeyError):
    """A condition that has no scores."""

    def __str__(self) -> str:
        # A KeyError would print its message in quotes.
        return str(self.args[0])
