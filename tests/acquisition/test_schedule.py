"""The schedule displays every drawn pair as often as it was drawn, inside guards, in contiguous ranges."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from acquisition.schedule import (
    GUARD_PICTURES,
    GUARD_SIGNS,
    Block,
    Schedule,
    ScheduleLimitError,
    ScheduleLimits,
    make_schedule,
)

LIMITS = ScheduleLimits(bank_pictures=200, first_bank_pictures=64, guard_interval=8, block_exposures=100)


@st.composite
def schedules(draw: st.DrawFn) -> tuple[NDArray[np.int32], ScheduleLimits, Schedule]:
    n_coefficients = draw(st.sampled_from([4, 16, 64, 256]))
    seed = draw(st.integers(0, 2**32))
    most = draw(st.integers(1, 12))
    rng = np.random.default_rng(seed)
    repeats = rng.integers(0, most, n_coefficients, endpoint=True).astype(np.int32)
    repeats[0] = 0
    repeats[1] = max(repeats[1], 1)
    limits = ScheduleLimits(
        bank_pictures=draw(st.integers(12, 400)),
        first_bank_pictures=draw(st.integers(12, 400)),
        guard_interval=draw(st.integers(1, 40)),
        block_exposures=draw(st.integers(12, 300)),
    )
    return repeats, limits, make_schedule(repeats, rng.random(n_coefficients), limits, seed)


def displayed(block: Block) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    """What the DMD shows in a block: the contiguous range of the bank's pictures, nothing else."""
    indices, signs = block.bank.pictures
    shown = slice(block.first_picture, block.last_picture + 1)
    return indices[shown], signs[shown]


@given(schedules())
@settings(max_examples=60, deadline=None)
def test_every_pair_is_displayed_exactly_as_often_as_it_was_drawn(
    case: tuple[NDArray[np.int32], ScheduleLimits, Schedule],
) -> None:
    repeats, _, schedule = case
    plus = np.zeros(len(repeats), dtype=int)
    minus = np.zeros(len(repeats), dtype=int)
    for block in schedule.blocks:
        indices, signs = displayed(block)
        np.add.at(plus, indices[signs > 0], 1)
        np.add.at(minus, indices[signs < 0], 1)
    assert (plus[1:] == repeats[1:]).all()
    assert (minus[1:] == repeats[1:]).all()


@given(schedules())
@settings(max_examples=60, deadline=None)
def test_readings_are_filed_under_the_pictures_that_were_displayed(
    case: tuple[NDArray[np.int32], ScheduleLimits, Schedule],
) -> None:
    _, _, schedule = case
    for block in schedule.blocks:
        indices, signs = displayed(block)
        first = block.pair_exposures
        assert (indices[first] == block.coefficients).all()
        assert (indices[first + 1] == block.coefficients).all()
        assert ((signs[first] > 0) == block.plus_first).all()
        assert (signs[first] == -signs[first + 1]).all()
        filed = np.concatenate([first, first + 1, block.guard_exposures.ravel()])
        assert sorted(filed) == list(range(block.n_exposures))


@given(schedules())
@settings(max_examples=60, deadline=None)
def test_every_block_begins_and_ends_on_a_guard_and_ends_dark(
    case: tuple[NDArray[np.int32], ScheduleLimits, Schedule],
) -> None:
    _, limits, schedule = case
    for block in schedule.blocks:
        indices, signs = displayed(block)
        for guard in block.guard_exposures:
            assert (indices[guard] == 0).all()
            assert (signs[guard] == GUARD_SIGNS).all()
        assert block.guard_exposures[0, 0] == 0
        assert block.guard_exposures[-1, -1] == block.n_exposures - 1
        assert (indices[-1], signs[-1]) == (0, -1)
        between = np.diff(block.guard_exposures[:, 0]) - GUARD_PICTURES
        assert (between <= 2 * limits.guard_interval).all()
        assert (between > 0).all()


@given(schedules())
@settings(max_examples=60, deadline=None)
def test_a_pass_is_a_prefix_of_its_bank_and_shows_each_of_its_pairs_once(
    case: tuple[NDArray[np.int32], ScheduleLimits, Schedule],
) -> None:
    repeats, _, schedule = case
    shown: dict[tuple[int, int], list[NDArray[np.int64]]] = {}
    for block in schedule.blocks:
        shown.setdefault((block.bank.number, block.pass_number), []).append(block.coefficients)
    for (bank_number, pass_number), parts in shown.items():
        coefficients = np.concatenate(parts)
        bank = schedule.banks[bank_number]
        assert (coefficients == bank.coefficients[: len(coefficients)]).all()
        assert set(coefficients) == {i for i in bank.coefficients if repeats[i] >= pass_number}


@given(schedules())
@settings(max_examples=60, deadline=None)
def test_banks_and_blocks_keep_their_limits(case: tuple[NDArray[np.int32], ScheduleLimits, Schedule]) -> None:
    repeats, limits, schedule = case
    for number, bank in enumerate(schedule.banks):
        assert bank.n_pictures <= min(limits.first_bank_pictures << number, limits.bank_pictures)
    assert all(block.n_exposures <= limits.block_exposures for block in schedule.blocks)
    in_banks = np.concatenate([bank.coefficients for bank in schedule.banks])
    assert sorted(in_banks) == list(np.flatnonzero(repeats))


def test_important_coefficients_come_into_the_first_bank() -> None:
    repeats = np.ones(256, dtype=np.int32)
    repeats[0] = 0
    importance = np.random.default_rng(1).random(256)
    schedule = make_schedule(repeats, importance, LIMITS, seed=0)
    least_of_first = importance[schedule.banks[0].coefficients].min()
    assert all(importance[bank.coefficients].max() <= least_of_first for bank in schedule.banks[1:])


def test_the_same_arguments_give_the_same_schedule_and_another_seed_another_order_inside_pairs() -> None:
    repeats = np.full(256, 3, dtype=np.int32)
    importance = np.linspace(1, 0, 256)
    one, same, other = (make_schedule(repeats, importance, LIMITS, seed) for seed in (5, 5, 6))
    first, second = one.banks[0].pictures, same.banks[0].pictures
    assert (first[0] == second[0]).all()
    assert (first[1] == second[1]).all()
    assert (one.banks[0].plus_first != other.banks[0].plus_first).any()


def test_about_half_of_the_pairs_begin_with_h_plus() -> None:
    repeats = np.ones(4096, dtype=np.int32)
    limits = ScheduleLimits(bank_pictures=20_000, first_bank_pictures=20_000, guard_interval=256, block_exposures=1000)
    schedule = make_schedule(repeats, np.zeros(4096), limits, seed=3)
    # 4096 fair coins: five standard deviations are 160.
    assert abs(int(schedule.banks[0].plus_first.sum()) - 2048) < 160


@pytest.mark.parametrize("field", ["bank_pictures", "first_bank_pictures", "block_exposures"])
def test_limits_without_room_for_one_pair_between_guards_are_refused(field: str) -> None:
    limits = {"bank_pictures": 100, "first_bank_pictures": 100, "guard_interval": 8, "block_exposures": 100, field: 11}
    with pytest.raises(ScheduleLimitError, match="takes 12"):
        ScheduleLimits(**limits)


@pytest.mark.parametrize("shift", [-2, -1, 1, 2])
def test_the_guard_code_differs_from_itself_shifted(shift: int) -> None:
    overlap = GUARD_PICTURES - abs(shift)
    ahead, behind = GUARD_SIGNS[:overlap], GUARD_SIGNS[GUARD_PICTURES - overlap :]
    assert np.count_nonzero(ahead != behind) >= 2
