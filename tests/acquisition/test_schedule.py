"""The schedule displays every drawn pair as often as it was drawn, inside guards, in contiguous ranges."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from acquisition.bank import GUARD_PICTURES, GUARD_SIGNS, Block
from acquisition.schedule import BankSizes, Schedule, ScheduleLimitError, ScheduleLimits, make_schedule

LIMITS = ScheduleLimits(BankSizes(first=64, growth=2.0, largest=200), guard_interval=8, block_exposures=100)


@st.composite
def schedules(draw: st.DrawFn) -> tuple[NDArray[np.int32], ScheduleLimits, Schedule]:
    n_coefficients = draw(st.sampled_from([4, 16, 64, 256]))
    seed = draw(st.integers(0, 2**32))
    most = draw(st.integers(1, 12))
    rng = np.random.default_rng(seed)
    repeats = rng.integers(0, most, n_coefficients, endpoint=True).astype(np.int32)
    repeats[0] = 0
    repeats[1] = max(repeats[1], 1)
    guard_codes = draw(st.integers(1, 3))
    least = 2 * GUARD_PICTURES * guard_codes + 2
    sizes = BankSizes(
        first=draw(st.integers(least, 400)),
        growth=draw(st.sampled_from([1.0, 1.3, 2.0, 5.0])),
        largest=draw(st.integers(least, 400)),
    )
    limits = ScheduleLimits(
        sizes,
        guard_interval=draw(st.integers(1, 40)),
        block_exposures=draw(st.integers(least, 800)),
        guard_codes=guard_codes,
    )
    return repeats, limits, make_schedule(repeats, rng.random(n_coefficients), limits, seed)


def displayed(block: Block) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    """What the DMD shows in a block: a contiguous range of the bank's pictures, again and again, nothing else."""
    indices, signs = block.bank.pictures
    shown = slice(block.first_picture, block.last_picture + 1)
    return np.tile(indices[shown], block.rounds), np.tile(signs[shown], block.rounds)


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
            assert signs[guard].tolist() == GUARD_SIGNS.tolist() * limits.guard_codes
        assert block.guard_exposures[0, 0] == 0
        assert block.guard_exposures[-1, -1] == block.n_exposures - 1
        assert (indices[-1], signs[-1]) == (0, -1)
        between = np.diff(block.guard_exposures[:, 0]) - GUARD_PICTURES * limits.guard_codes
        assert (between <= 2 * limits.guard_interval).all()
        # Only where one round ends and the next one begins do two guards stand side by side.
        assert np.count_nonzero(between == 0) == block.rounds - 1
        assert block.section_exposures.tolist() == between[between > 0].tolist()
        assert block.n_guards == len(block.guard_exposures)


@given(schedules())
@settings(max_examples=60, deadline=None)
def test_a_pass_is_a_prefix_of_its_bank_and_shows_each_of_its_pairs_once(
    case: tuple[NDArray[np.int32], ScheduleLimits, Schedule],
) -> None:
    repeats, _, schedule = case
    shown: dict[tuple[int, int], list[NDArray[np.int64]]] = {}
    for block in schedule.blocks:
        for number, one_round in enumerate(np.split(block.coefficients, block.rounds)):
            shown.setdefault((block.bank.number, block.pass_number + number), []).append(one_round)
    assert {bank for bank, _ in shown} == set(range(len(schedule.banks)))
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
        grown = limits.bank_sizes.first * limits.bank_sizes.growth**number
        assert bank.n_pictures == len(bank.pictures[0]) <= min(grown, limits.bank_sizes.largest)
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
    limits = ScheduleLimits(BankSizes(20_000, 1.0, 20_000), guard_interval=256, block_exposures=1000)
    schedule = make_schedule(repeats, np.zeros(4096), limits, seed=3)
    # 4096 fair coins: five standard deviations are 160.
    assert abs(int(schedule.banks[0].plus_first.sum()) - 2048) < 160


@pytest.mark.parametrize("guard_codes", [1, 2, 3])
@pytest.mark.parametrize("too_small", ["first", "largest", "block_exposures"])
def test_limits_without_room_for_one_pair_between_guards_are_refused(too_small: str, guard_codes: int) -> None:
    least = 2 * GUARD_PICTURES * guard_codes + 2

    def limits(smallest: int) -> ScheduleLimits:
        sizes = {"first": 100, "largest": 100, "block_exposures": 100, too_small: smallest}
        return ScheduleLimits(
            BankSizes(sizes["first"], 2.0, sizes["largest"]), 8, sizes["block_exposures"], guard_codes
        )

    keys = {
        "first": "blocks.first_bank_pictures",
        "largest": "devices.projector.memory_pictures",
        "block_exposures": "blocks.longest_block_s",
    }
    with pytest.raises(ScheduleLimitError, match=f"takes {least}") as refused:
        limits(least - 1)
    assert refused.value.key == keys[too_small]
    repeats = np.array([0, 3], dtype=np.int32)
    schedule = make_schedule(repeats, np.zeros(2), limits(least), seed=0)
    assert [bank.n_pictures for bank in schedule.banks] == [least]
    assert schedule.n_pairs == 3


@given(
    first=st.integers(1, 10**6),
    growth=st.floats(1.0, 10.0),
    largest=st.integers(1, 10**6),
    number=st.integers(0, 12),
)
def test_the_room_of_banks_grows_from_the_first_to_the_largest(
    first: int, growth: float, largest: int, number: int
) -> None:
    sizes = BankSizes(first, growth, largest)
    grown = float(first)
    for _ in range(number):
        grown *= growth
    # A product that is a whole number may come out a rounding error below it.
    assert sizes.room(number) == pytest.approx(int(min(grown, largest)), abs=1, rel=1e-12)
    assert sizes.room(number) <= largest


def test_the_room_of_a_bank_far_along_is_the_largest_and_does_not_overflow() -> None:
    assert BankSizes(256, 5.0, 21_845).room(100_000) == 21_845
    assert BankSizes(256, 1.0, 21_845).room(100_000) == 256


def test_equal_passes_share_blocks_and_unequal_ones_do_not() -> None:
    """Three pairs of M = 7 and two of M = 9: five equal passes fit a block, and the last passes are shorter."""
    repeats = np.array([0, 7, 9, 7, 9, 7], dtype=np.int32)
    a_pass = 2 * 5 + 3 * GUARD_PICTURES  # a guard also where M drops
    limits = ScheduleLimits(BankSizes(100, 1.0, 100), guard_interval=8, block_exposures=5 * a_pass + a_pass - 1)
    schedule = make_schedule(repeats, np.zeros(6), limits, seed=0)
    played = [(block.pass_number, block.end_section, block.rounds, block.n_exposures) for block in schedule.blocks]
    shorter = 2 * 2 + 2 * GUARD_PICTURES
    assert played == [(1, 2, 5, 5 * a_pass), (6, 2, 2, 2 * a_pass), (8, 1, 2, 2 * shorter)]
    for block in schedule.blocks:
        one_round = block.n_exposures // block.rounds
        starts = one_round * np.arange(block.rounds)
        of_one_round = block.pair_exposures[: block.n_pairs // block.rounds]
        assert (block.pair_exposures == np.add.outer(starts, of_one_round).ravel()).all()
        assert (block.guard_exposures[:: block.n_guards // block.rounds, 0] == starts).all()


def test_a_pass_that_fills_a_block_is_not_played_in_rounds() -> None:
    repeats = np.array([0, 4, 4, 4], dtype=np.int32)
    limits = ScheduleLimits(BankSizes(100, 1.0, 100), guard_interval=8, block_exposures=2 * 3 + 2 * GUARD_PICTURES)
    schedule = make_schedule(repeats, np.zeros(4), limits, seed=0)
    assert [(block.pass_number, block.rounds) for block in schedule.blocks] == [(1, 1), (2, 1), (3, 1), (4, 1)]


@given(schedules())
@settings(max_examples=30, deadline=None)
def test_the_digest_is_the_same_for_the_same_arguments(
    case: tuple[NDArray[np.int32], ScheduleLimits, Schedule],
) -> None:
    repeats, limits, _ = case
    importance = np.random.default_rng(1).random(len(repeats))
    one, same = (make_schedule(repeats.copy(), importance.copy(), limits, 9) for _ in range(2))
    assert one.digest == same.digest
    assert len(one.digest) == 64


def test_the_digest_changes_with_anything_that_is_displayed() -> None:
    repeats = np.full(64, 3, dtype=np.int32)
    repeats[0] = 0
    importance = np.linspace(1, 0, 64)
    fewer, other_order = repeats.copy(), importance.copy()
    fewer[40] = 2
    other_order[[5, 6]] = other_order[[6, 5]]
    limits = ScheduleLimits(BankSizes(64, 2.0, 200), guard_interval=8, block_exposures=100)
    variants = {
        "as it was": make_schedule(repeats, importance, limits, 5),
        "one pair less": make_schedule(fewer, importance, limits, 5),
        "another order": make_schedule(repeats, other_order, limits, 5),
        "H- first elsewhere": make_schedule(repeats, importance, limits, 6),
        "longer guards": make_schedule(repeats, importance, replace(limits, guard_codes=2), 5),
        "more guards": make_schedule(repeats, importance, replace(limits, guard_interval=4), 5),
        "other banks": make_schedule(repeats, importance, replace(limits, bank_sizes=BankSizes(64, 1.0, 200)), 5),
        "shorter blocks": make_schedule(repeats, importance, replace(limits, block_exposures=60), 5),
    }
    whole = variants["as it was"]
    *others, one, other = whole.blocks
    swapped = (*others, replace(other, number=one.number), replace(one, number=other.number))
    variants["blocks in another order"] = replace(whole, blocks=swapped)
    variants["a block left out"] = replace(whole, blocks=whole.blocks[:-1])
    longer = replace(whole.blocks[-1], rounds=whole.blocks[-1].rounds + 1)
    variants["one round more"] = replace(whole, blocks=(*whole.blocks[:-1], longer))
    digests = {name: schedule.digest for name, schedule in variants.items()}
    assert sorted(set(digests.values())) == sorted(digests.values())


@pytest.mark.parametrize("shift", [-2, -1, 1, 2])
def test_the_guard_code_differs_from_itself_shifted(shift: int) -> None:
    overlap = GUARD_PICTURES - abs(shift)
    ahead, behind = GUARD_SIGNS[:overlap], GUARD_SIGNS[GUARD_PICTURES - overlap :]
    assert np.count_nonzero(ahead != behind) >= 2


@pytest.mark.parametrize("shift", [-2, -1, 1, 2])
def test_the_guard_code_differs_from_itself_shifted_where_guards_stand_side_by_side(shift: int) -> None:
    several = np.tile(GUARD_SIGNS, 4)
    inside = slice(GUARD_PICTURES, 2 * GUARD_PICTURES)
    assert np.count_nonzero(several[inside] != np.roll(several, shift)[inside]) >= 2
