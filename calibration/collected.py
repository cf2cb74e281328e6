"""What a run's readings add up to, for the check that it makes of them."""

from __future__ import annotations

from dataclasses import dataclass

from calibration.first_minus_second import FirstMinusSecond
from calibration.scatter import Scatter


@dataclass(frozen=True)
class Darkness:
    """Readings of dark pictures: the sum of squared deviations from the means of groups of so many, how many there are,
    and their mean. n is 0 where there are none.
    """

    square: float
    group: int
    n: int
    mean: float


@dataclass(frozen=True)
class Collected:
    """What a run's readings add up to.

    dark: with the light off; dark_is_lit: it could not be switched off, so that they hold background; lit_dark: of the
    guards; floor: what a frame of zeros reads, None where nothing is cut off there; n_pairs, n_repeated: pairs, and
    coefficients with several of them; total: mean T.
    """

    dark: Darkness
    dark_is_lit: bool
    lit_dark: Darkness
    bright: Scatter
    repeats: Scatter
    pair_sums: Scatter
    first_minus_second: FirstMinusSecond | None
    n_pairs: int
    n_repeated: int
    total: float
    floor: float | None = None
