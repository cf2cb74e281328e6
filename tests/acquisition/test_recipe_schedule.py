"""A recipe becomes one bank and blocks that play all of it, in order, each between guards."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acquisition.bank import GUARD_PICTURES
from acquisition.recipe_schedule import recipe_schedule
from acquisition.schedule import ScheduleLimitError
from calibration.recipe import Recipe

SMALLEST_BLOCK = 2 * GUARD_PICTURES


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    n_pairs, passes = draw(st.integers(1, 40)), draw(st.integers(1, 6))
    seed = draw(st.integers(0, 2**31))
    rng = np.random.default_rng(seed)
    return Recipe(
        name="noise",
        pairs=rng.integers(1, 9, n_pairs),
        plus_first=rng.random(n_pairs) < 0.5,
        passes=passes,
        section_pairs=draw(st.integers(1, 10)),
        rests_s=np.array(draw(st.lists(st.sampled_from([0.0, 0.0, 0.25]), min_size=passes, max_size=passes))),
    )


@given(recipe=recipes(), spare=st.integers(0, 300))
def test_every_pass_is_displayed_in_order_whatever_the_blocks(recipe: Recipe, spare: int) -> None:
    longest = 2 * recipe.section_pairs + SMALLEST_BLOCK + spare
    schedule = recipe_schedule(recipe, 10_000, longest)
    displayed = np.concatenate([block.coefficients for block in schedule.blocks])
    orders = np.concatenate([block.plus_first for block in schedule.blocks])
    assert displayed.tolist() == np.tile(recipe.pairs, recipe.passes).tolist()
    assert orders.tolist() == np.tile(recipe.plus_first, recipe.passes).tolist()
    assert max(block.n_exposures for block in schedule.blocks) <= longest
    assert [block.number for block in schedule.blocks] == list(range(len(schedule.blocks)))
    assert schedule.repeats[1:].tolist() == np.bincount(displayed, minlength=2)[1:].tolist()


@given(recipe=recipes(), spare=st.integers(0, 300))
def test_the_light_rests_before_its_pass_and_never_inside_one(recipe: Recipe, spare: int) -> None:
    schedule = recipe_schedule(recipe, 10_000, 2 * recipe.section_pairs + SMALLEST_BLOCK + spare)
    pairs_before, rests = 0, {}
    for block in schedule.blocks:
        if block.rest_s:
            rests[pairs_before / len(recipe.pairs)] = block.rest_s
        pairs_before += block.n_pairs
    assert rests == {float(number): rest for number, rest in enumerate(recipe.rests_s.tolist()) if rest}


@given(recipe=recipes())
def test_no_stretch_of_pairs_between_guards_is_longer_than_a_section(recipe: Recipe) -> None:
    schedule = recipe_schedule(recipe, 10_000, 1000)
    assert all(block.section_exposures.max() <= 2 * recipe.section_pairs for block in schedule.blocks)


def recipe_of(n_pairs: int) -> Recipe:
    return Recipe("noise", np.ones(n_pairs, np.int64), np.ones(n_pairs, np.bool_), 1, 16, np.zeros(1))


def test_schedules_that_differ_in_their_rests_are_different() -> None:
    recipe = recipe_of(8)
    rested = Recipe(recipe.name, recipe.pairs, recipe.plus_first, 1, 16, np.array([0.5]))
    assert recipe_schedule(recipe, 100, 100).digest != recipe_schedule(rested, 100, 100).digest


@pytest.mark.parametrize(
    ("memory", "block", "key"),
    [(40, 1000, "devices.projector.memory_pictures"), (1000, 30, "blocks.longest_block_s")],
)
def test_a_recipe_that_does_not_fit_is_refused_with_the_key(memory: int, block: int, key: str) -> None:
    with pytest.raises(ScheduleLimitError) as refused:
        recipe_schedule(recipe_of(20), memory, block)
    assert refused.value.key == key


@pytest.mark.parametrize(
    "wrong",
    [
        {"pairs": np.array([0, 1])},
        {"pairs": np.empty(0, np.int64)},
        {"plus_first": np.array([True])},
        {"passes": 0},
        {"section_pairs": 0},
        {"rests_s": np.zeros(3)},
    ],
)
def test_a_recipe_that_contradicts_itself_is_refused(wrong: dict[str, object]) -> None:
    right = {
        "name": "noise",
        "pairs": np.array([1, 2]),
        "plus_first": np.array([True, False]),
        "passes": 1,
        "section_pairs": 2,
        "rests_s": np.zeros(1),
    }
    Recipe(**right)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="found"):
        Recipe(**{**right, **wrong})  # type: ignore[arg-type]
