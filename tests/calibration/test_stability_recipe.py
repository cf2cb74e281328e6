"""The recipe gives the light it was asked for, with rests that tell bleaching from lamp drift."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from calibration.recipe import Recipe
from calibration.stability_recipe import stability_recipe

GUARD = 5


def exposures(recipe: Recipe) -> int:
    """With a guard before every section."""
    sections = -(-len(recipe.pairs) // recipe.section_pairs) * recipe.passes
    return 2 * recipe.n_pairs + GUARD * sections


def clocks(recipe: Recipe, picture_time_us: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Time since the start and time under light of every pass's middle, s."""
    pass_s = exposures(recipe) / recipe.passes * picture_time_us * 1e-6
    lit = pass_s * (np.arange(recipe.passes) + 0.5)
    return np.asarray(lit + np.cumsum(recipe.rests_s), dtype=np.float64), np.asarray(lit, dtype=np.float64)


@given(
    seconds=st.floats(4.0, 60.0),
    picture_time_us=st.sampled_from([44, 100, 1000, 2000]),
    section_pairs=st.sampled_from([32, 64]),
)
def test_the_light_lasts_as_long_as_asked(seconds: float, picture_time_us: int, section_pairs: int) -> None:
    recipe = stability_recipe(seconds, picture_time_us, section_pairs=section_pairs)
    assert exposures(recipe) * picture_time_us * 1e-6 == pytest.approx(seconds, rel=0.06)
    assert recipe.rests_s.sum() == pytest.approx(seconds)
    assert recipe.rests_s[0] == 0
    assert np.count_nonzero(recipe.rests_s) == 5


@given(seconds=st.floats(4.0, 60.0), picture_time_us=st.sampled_from([44, 1000]))
def test_a_pass_leaves_room_in_the_projectors_memory(seconds: float, picture_time_us: int) -> None:
    """A 4 GiB board holds 43 690 XGA pictures, and chips with more mirrors fewer."""
    recipe = stability_recipe(seconds, picture_time_us)
    assert 2 * len(recipe.pairs) + GUARD * (len(recipe.pairs) // 64 + 1) < 5000


def test_half_of_the_pairs_of_every_section_come_in_either_order() -> None:
    recipe = stability_recipe(20, 1000, seed=3)
    orders = recipe.plus_first.reshape(-1, recipe.section_pairs)
    assert (orders.sum(axis=1) == recipe.section_pairs // 2).all()
    assert len({each.tobytes() for each in orders}) == len(orders)
    assert set(recipe.pairs.tolist()) == {1}


def test_the_seed_decides_the_order() -> None:
    again = [stability_recipe(20, 1000, seed=seed).plus_first for seed in (1, 1, 2)]
    assert (again[0] == again[1]).all()
    assert (again[0] != again[2]).any()


def test_rests_tell_bleaching_from_drift_almost_as_well_as_can_be() -> None:
    """Of the variance of light time 4 % is not drift's, where one rest in the middle would leave 11 %; none, 0."""
    recipe = stability_recipe(20, 1000)
    wall, lit = clocks(recipe, 1000)
    left = 1 - np.corrcoef(wall, lit)[0, 1] ** 2
    assert left > 0.04
    half = np.arange(len(lit)) >= len(lit) // 2
    assert left > 0.04 / 0.11 * (1 - np.corrcoef(lit + 20 * half, lit)[0, 1] ** 2)


def test_rests_can_be_asked_for_and_left_out() -> None:
    assert stability_recipe(20, 1000, rest_s=5).rests_s.sum() == pytest.approx(5)
    assert stability_recipe(20, 1000, rest_s=0).rests_s.sum() == 0


@pytest.mark.parametrize(
    ("seconds", "rest_s", "said"),
    [
        (np.nan, None, "found nan s of light"),
        (np.inf, None, "found inf s of light"),
        (-3.0, None, "found -3 s of light"),
        (1e6, None, "a day"),
        (20.0, -1.0, "found -1 s of rest"),
        (20.0, np.nan, "found nan s of rest"),
    ],
)
def test_a_time_that_is_none_is_refused(seconds: float, rest_s: float | None, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        stability_recipe(seconds, 1000, rest_s=rest_s)


@pytest.mark.parametrize(("seconds", "picture_time_us"), [(1.0, 1000), (0.0, 1000), (5.0, 5000)])
def test_too_little_light_is_refused_with_what_it_takes(seconds: float, picture_time_us: int) -> None:
    with pytest.raises(ValueError, match="expected at least"):
        stability_recipe(seconds, picture_time_us)
