"""The readings of a stability recipe, sorted: pairs of halves, and what guards read between them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from calibration.exposures import Exposures
from calibration.verdict import NotCalibratableError

# Fewer say nothing of variances, or of what changes over time.
FEWEST_PAIRS = 256
FEWEST_GUARDS = 4


class IncompletePairsError(NotCalibratableError):
    """Readings that cannot be sorted into pairs, or too few pairs."""


@dataclass(frozen=True)
class PairReadings:
    """Pairs in the order in which they were taken, and pairs of equal guard pictures.

    plus, minus: float64 [n] in detector units; order: float64 [n], +1 where the plus picture came first, else -1;
    time_s, lit_s: float64 [n], when the pair's exposures met, and how long the sample had been lit until then, s.
    bright, dark: float64 [g], readings of all bright and dark guard pictures, under light; bright_steps, dark_steps:
    float64 [m], differences of the first two equal pictures of every guard.
    """

    plus: NDArray[np.float64]
    minus: NDArray[np.float64]
    order: NDArray[np.float64]
    time_s: NDArray[np.float64]
    lit_s: NDArray[np.float64]
    bright: NDArray[np.float64]
    dark: NDArray[np.float64]
    bright_steps: NDArray[np.float64]
    dark_steps: NDArray[np.float64]

    @property
    def sums(self) -> NDArray[np.float64]:
        """y+ + y-, float64 [n]."""
        return self.plus + self.minus

    @property
    def differences(self) -> NDArray[np.float64]:
        """y+ - y-, float64 [n]."""
        return self.plus - self.minus

    def without(self, wrong: NDArray[np.bool_]) -> PairReadings:
        """The same without some pairs, bool [n]."""
        kept = ~wrong
        return replace(
            self,
            plus=self.plus[kept],
            minus=self.minus[kept],
            order=self.order[kept],
            time_s=self.time_s[kept],
            lit_s=self.lit_s[kept],
        )


def pair_readings(exposures: Exposures, picture_time_us: float) -> PairReadings:
    """Sort the readings of a stability recipe. Raises IncompletePairsError."""
    pair, sign, value, time_s = exposures.pair, exposures.sign, exposures.value, exposures.time_us * 1e-6
    at = np.flatnonzero(pair > 0)
    first, second = at[: 2 * (len(at) // 2) : 2], at[1::2]
    whole = len(at) % 2 == 0 and (second - first == 1).all() and (pair[first] == pair[second]).all()
    if not whole or (sign[first] + sign[second] != 0).any():
        raise IncompletePairsError(
            f"found {len(at)} exposures of pairs that do not stand together two by two, a picture and its complement; "
            "expected a stability recipe's exposures, all of them and in order"
        )
    if len(np.unique(pair[at])) != 1 or len(first) < FEWEST_PAIRS:
        raise IncompletePairsError(
            f"found {len(first)} pairs of {len(np.unique(pair[at]))} pictures; expected at least {FEWEST_PAIRS} pairs "
            "of one: light the sample for longer"
        )
    plus_first = sign[first] > 0
    if plus_first.all() or not plus_first.any():
        raise IncompletePairsError(
            "every pair was taken in the same order; expected both, or else the halves of the mirrors cannot be told "
            "from the first and the second exposure"
        )
    guards = pair == 0
    guards_begin = guards & ~np.concatenate([[False], guards[:-1]])
    gap = np.concatenate([[False], np.diff(time_s) > 1.5e-6 * picture_time_us])
    guard = np.cumsum(guards_begin | (guards & gap))
    bright, dark = guards & (sign > 0), guards & (sign < 0)
    bright_steps, dark_steps = _first_steps(value[bright], guard[bright]), _first_steps(value[dark], guard[dark])
    if len(bright_steps) < FEWEST_GUARDS or len(dark_steps) < FEWEST_GUARDS:
        raise IncompletePairsError(
            f"found {len(bright_steps)} guards with two bright pictures and {len(dark_steps)} with two dark ones; "
            f"expected {FEWEST_GUARDS} of each: light the sample for longer"
        )
    return PairReadings(
        plus=np.where(plus_first, value[first], value[second]),
        minus=np.where(plus_first, value[second], value[first]),
        order=np.where(plus_first, 1.0, -1.0),
        time_s=(time_s[first] + time_s[second]) / 2,
        lit_s=(exposures.lit_s[first] + exposures.lit_s[second]) / 2,
        bright=value[bright],
        dark=value[dark],
        bright_steps=bright_steps,
        dark_steps=dark_steps,
    )


def _first_steps(values: NDArray[np.float64], guard: NDArray[np.int64]) -> NDArray[np.float64]:
    """The second minus the first value of every guard that has two."""
    begins = np.concatenate([[True], np.diff(guard) != 0])
    first = np.flatnonzero(begins[:-1] & ~begins[1:])
    return np.asarray(values[first + 1] - values[first])
