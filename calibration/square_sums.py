"""The sums of squared deviations that a run's readings allow to test, each with what is expected of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.collected import Collected, Darkness
from calibration.noise_knowledge import NoiseKnowledge
from calibration.scatter import Expectation, Scatter

REPEATS, PAIR_SUMS = "repeats", "pair sums"
FEWEST_DEGREES = 8

# Readings around darkness are cut off at what a frame of zeros reads where it lies within so many standard deviations.
_CLEAR_OF_FLOOR = 4.0
_SMALLEST_WEIGHT = 1 / 12


@dataclass(frozen=True)
class SquareSum:
    """A sum S of squared deviations, the middle of its expectation, and all that is uncertain about it.

    design: derivatives float64 [3] of the expectation by a, b, q; degrees: of freedom; level_error: how much of the
    expectation's standard error comes from the dark level, which every lit sum has in common; lit: whether there is
    shot noise in it beyond that of background; coarse: whether rounding leaves little of its variance.
    """

    what: str
    square: float
    middle: float
    design: NDArray[np.float64]
    degrees: float
    expectation: Expectation
    level_error: float
    lit: bool
    coarse: bool

    @property
    def fluctuation(self) -> float:
        """The variance of S as given."""
        return 2 * self.middle**2 / self.expectation.degrees


def square_sums(collected: Collected, knowledge: NoiseKnowledge) -> tuple[list[SquareSum], list[str]]:
    """The sums that can be tested, and why others cannot."""
    dark, lit = collected.dark, collected.lit_dark
    dark_level_variance = 0.0
    if dark.n and not collected.dark_is_lit:
        dark_level_variance = (knowledge.noise.variance + knowledge.rounding) / dark.n
    sums, not_made = [], []
    for what, darkness, background, level_known in (
        # Of pictures without any light the level does not matter.
        ("darkness, light off", dark, 0.0, True),
        ("darkness under light", lit, max(lit.mean - dark.mean, 0.0), False),
    ):
        variance = float(_dark_terms(background) @ knowledge.parameters)
        if collected.dark_is_lit:
            not_made.append(f"{what}: the light cannot be switched off, so that its share of darkness is not known")
        elif darkness.n and is_cut_off(darkness.mean, variance**0.5, collected.floor):
            not_made.append(
                f"{what}: readings are cut off at 0, the camera's offset (offset_per_px) is too small for it"
            )
        else:
            level_variance = 0.0 if level_known else dark_level_variance + variance / max(darkness.n, 1)
            scatter = _dark_scatter(darkness, background, variance, knowledge)
            sums.append(_tested(what, scatter, knowledge, level_variance, lit=False))
    for what, scatter in (
        ("bright guards", collected.bright),
        (REPEATS, collected.repeats),
        (PAIR_SUMS, collected.pair_sums),
    ):
        sums.append(_tested(what, scatter, knowledge, dark_level_variance, lit=True))
    not_made += [f"{each.what}: too few readings" for each in sums if each.degrees < FEWEST_DEGREES]
    return [each for each in sums if each.degrees >= FEWEST_DEGREES], not_made


def is_cut_off(mean: float, deviation: float, floor: float | None) -> bool:
    """Whether dark readings of this mean and standard deviation reach down to what a frame of zeros reads."""
    return floor is not None and mean - floor < _CLEAR_OF_FLOOR * deviation


def _tested(what: str, scatter: Scatter, knowledge: NoiseKnowledge, level_variance: float, *, lit: bool) -> SquareSum:
    design, middle = scatter.design, float(scatter.design @ knowledge.parameters)
    coarse = middle < knowledge.coarse * design[1]
    level_error = float(knowledge.noise.gain * design[1] * level_variance**0.5)
    known_degrees = middle > 0 and scatter.fluctuation > 0
    expectation = Expectation(
        low=0.0 if coarse else middle,
        high=middle + (knowledge.coarse if coarse else knowledge.rounding) * float(design[1]),
        error=float(np.hypot(knowledge.error_of(design), level_error)),
        degrees=2 * middle**2 / scatter.fluctuation if known_degrees else scatter.degrees,
    )
    return SquareSum(what, scatter.square, middle, design, scatter.degrees, expectation, level_error, lit, coarse)


def _dark_terms(background: float) -> NDArray[np.float64]:
    """Derivatives of a dark picture's variance by a, b, q."""
    return np.array([background, 1.0, background**2])


def _dark_scatter(darkness: Darkness, background: float, variance: float, knowledge: NoiseKnowledge) -> Scatter:
    """Dark readings whose variance should be ``variance``, of light B, as a scatter."""
    weight = max(variance, _SMALLEST_WEIGHT)
    groups, inside = darkness.n / max(darkness.group, 1), max(darkness.group - 1, 0)
    excess = knowledge.noise.gain**3 * background / variance**2 if variance > 0 else 0.0
    each = 2 * inside + excess * inside**2 / max(darkness.group, 1)
    return Scatter(
        square=darkness.square / weight,
        degrees=groups * inside,
        design=groups * inside / weight * _dark_terms(background),
        fluctuation=groups * each * (variance / weight) ** 2,
    )
