"""Guards prove that readings belong to their pictures, at a stated rate of false alarms, or say that they cannot."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import norm

from acquisition.bank import Block
from acquisition.integrity import (
    FALSE_ALARMS_PER_BLOCK,
    AlignmentError,
    FrameNumberError,
    FrameTimeError,
    GuardsTooDimError,
    NoFrameTimesError,
    false_alarms,
    prove_alignment,
    prove_contiguous,
    prove_times,
    residual_risk,
    unseen_share,
)
from acquisition.readings import Readings, file_readings
from acquisition.schedule import BankSizes, Schedule, ScheduleLimits, make_schedule
from devices.detector import Burst
from models.noise import NoiseModel

NOISE = NoiseModel(gain=2.0, variance=50.0)
BRIGHT = 4000.0


def a_block(n_pairs: int = 40, guard_interval: int = 8, guard_codes: int = 1, rounds: int = 1) -> Block:
    """All pairs in one block, each ``rounds`` times."""
    (block,) = a_schedule(n_pairs, guard_interval, guard_codes, rounds).blocks
    assert (block.rounds, block.n_pairs) == (rounds, rounds * n_pairs)
    return block


def a_schedule(
    n_pairs: int, guard_interval: int, guard_codes: int = 1, rounds: int = 1, block_exposures: int = 5000
) -> Schedule:
    repeats = np.full(64, rounds, dtype=np.int32)
    repeats[0], repeats[n_pairs + 1 :] = 0, 0
    limits = ScheduleLimits(BankSizes(1000, 1.0, 1000), guard_interval, block_exposures, guard_codes)
    return make_schedule(repeats, np.linspace(1, 0, 64), limits, seed=0)


def light_of(block: Block, total: float, seed: int = 0, largest: float = 0.9) -> NDArray[np.float64]:
    """Light of every exposure of the block: guards as their pictures say, pairs anything that adds up to the total.

    largest: of the coefficients' magnitudes, as a share of the total.
    """
    indices, signs = block.bank.pictures
    coefficient = np.random.default_rng(seed).uniform(-largest, largest, 64) * total
    coefficient[0] = total
    one_round = slice(block.first_picture, block.last_picture + 1)
    return np.tile((total + signs * coefficient[indices])[one_round] / 2, block.rounds)


def exposed(
    light: NDArray[np.float64], noise: NoiseModel, background: float = 0.0, seed: int = 0
) -> NDArray[np.float64]:
    """Readings of exposures: a·Poisson(light/a) + N(0, b)."""
    random = np.random.default_rng(seed)
    electrons = random.poisson((light + background) / noise.gain)
    return np.asarray(noise.gain * electrons + random.normal(0, noise.variance**0.5, len(light)))


def filed(block: Block, readings: NDArray[np.float64]) -> Readings:
    return file_readings(block, Burst(readings, None, None, 0), start_us=0.0, picture_time_us=100.0)


def shifted(readings: NDArray[np.float64], shift: int, start: int = 0) -> NDArray[np.float64]:
    """From exposure ``start`` on the readings are late by ``shift``, or early; what is missing at the end is dark."""
    head, tail = readings[:start], readings[start:]
    others = np.zeros(abs(shift))
    return np.concatenate([head, others, tail[:-shift]] if shift > 0 else [head, tail[-shift:], others])


@given(seed=st.integers(0, 2**32), total=st.floats(1000.0, 1e6))
@settings(max_examples=50, deadline=None)
def test_an_aligned_block_of_a_bright_sample_passes(seed: int, total: float) -> None:
    block = a_block()
    prove_alignment(block, filed(block, exposed(light_of(block, total, seed), NOISE, seed=seed)), NOISE)


@given(
    seed=st.integers(0, 2**32),
    total=st.floats(1000.0, 1e6),
    shift=st.sampled_from([-2, -1, 1, 2]),
    share=st.floats(0, 1),
)
@settings(max_examples=200, deadline=None)
def test_a_shift_by_one_or_two_exposures_is_noticed_wherever_in_the_block_it_begins(
    seed: int, total: float, shift: int, share: float
) -> None:
    block = a_block()
    readings = exposed(light_of(block, total, seed), NOISE, seed=seed)
    last_guard = int(block.guard_exposures[-1, 0])
    late = filed(block, shifted(readings, shift, start=round(share * (last_guard - 2))))
    with pytest.raises(AlignmentError, match="Nothing was recorded"):
        prove_alignment(block, late, NOISE)


@pytest.mark.parametrize("shift", [-2, -1, 1, 2])
def test_the_first_guard_that_reads_wrong_is_named(shift: int) -> None:
    block = a_block()
    readings = exposed(light_of(block, BRIGHT), NOISE)
    late = filed(block, shifted(readings, shift, start=int(block.guard_exposures[2, -1]) + 3))
    with pytest.raises(AlignmentError, match=f"guard 3 of {block.n_guards} reads"):
        prove_alignment(block, late, NOISE)


def test_a_doubled_trigger_that_a_lost_one_makes_good_again_is_noticed_when_a_guard_lies_between() -> None:
    block = a_block()
    readings = exposed(light_of(block, BRIGHT), NOISE)
    doubled, lost = int(block.guard_exposures[2, -1]) + 3, int(block.guard_exposures[3, -1]) + 3
    late = np.insert(np.delete(readings, lost), doubled, readings[doubled])
    assert len(late) == block.n_exposures
    with pytest.raises(AlignmentError, match="guard 3 of"):
        prove_alignment(block, filed(block, late), NOISE)


def test_inverted_pictures_are_noticed() -> None:
    block = a_block()
    with pytest.raises(AlignmentError):
        prove_alignment(block, filed(block, exposed(BRIGHT - light_of(block, BRIGHT), NOISE)), NOISE)


@pytest.mark.parametrize("total", [0.0, 20.0, 60.0])
@pytest.mark.parametrize("shift", [0, 1])
def test_a_sample_too_dim_for_its_guards_is_refused_whether_they_look_right_or_not(total: float, shift: int) -> None:
    block = a_block()
    readings = exposed(light_of(block, total), NOISE)
    if shift:
        readings = shifted(readings, shift)
    with pytest.raises(GuardsTooDimError, match="open the shutter"):
        prove_alignment(block, filed(block, readings), NOISE)


def test_no_light_and_no_noise_are_too_dim_as_well() -> None:
    block = a_block()
    with pytest.raises(GuardsTooDimError):
        prove_alignment(block, filed(block, np.zeros(block.n_exposures)), NoiseModel(gain=1.0, variance=0.0))


def test_a_sample_is_too_dim_from_where_all_guards_together_exceed_the_rate() -> None:
    """Without noise in the readings the total is what it is; the noise model alone decides."""
    block = a_block()

    def passes(total: float) -> bool:
        try:
            prove_alignment(block, filed(block, light_of(block, total)), NOISE)
        except GuardsTooDimError:
            return False
        return True

    totals = np.linspace(40.0, 400.0, 181)
    passed = [passes(float(total)) for total in totals]
    assert not passed[0]
    assert passed[-1]
    assert passed == [false_alarms(block, float(total), 0.0, NOISE) <= FALSE_ALARMS_PER_BLOCK for total in totals]


def test_light_that_does_not_depend_on_the_mirrors_makes_guards_dimmer_and_an_offset_does_not() -> None:
    block, total, beyond = a_block(), 200.0, 20_000.0
    readings = filed(block, light_of(block, total) + beyond)
    prove_alignment(block, readings, NOISE, dark_level=beyond)
    with pytest.raises(GuardsTooDimError):
        prove_alignment(block, readings, NOISE, dark_level=0.0)
    prove_alignment(block, filed(block, light_of(block, total)), NOISE, dark_level=0.0)


@dataclass(frozen=True)
class Case:
    """A sample so dim that false alarms can be counted."""

    total: float
    background: float
    noise: NoiseModel
    block: Block

    def alarms(self, trials: int) -> Iterator[bool]:
        """Whether an aligned block is taken for shifted, again and again, its guards never being called too dim."""
        light = light_of(self.block, self.total, largest=0.5)
        dark = np.zeros(self.block.n_exposures)
        for seed in range(trials):
            readings = filed(self.block, exposed(light, self.noise, self.background, seed))
            dark_level = float(exposed(dark, self.noise, seed=seed + trials).mean())
            try:
                prove_alignment(self.block, readings, self.noise, dark_level)
            except AlignmentError:
                yield True
            else:
                yield False


@pytest.mark.parametrize(
    "case",
    [
        Case(60.0, 0.0, NoiseModel(1.0, 600.0), a_block(16, 16)),
        Case(60.0, 0.0, NoiseModel(1.0, 500.0), a_block(1)),
        Case(90.0, 300.0, NoiseModel(1.0, 1000.0), a_block(16, 16)),
        Case(40.0, 0.0, NoiseModel(1.0, 500.0), a_block(16, 16, guard_codes=2)),
        Case(60.0, 0.0, NoiseModel(1.0, 400.0), a_block(8, 8, rounds=2)),
    ],
    ids=["read noise", "one pair", "background", "longer guards", "rounds"],
)
def test_false_alarms_come_as_often_as_stated(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is stated adds up over shifts that overlap: it is never exceeded, and not many times too large."""
    monkeypatch.setattr("acquisition.integrity.FALSE_ALARMS_PER_BLOCK", np.inf)
    trials = 1500
    found = sum(case.alarms(trials))
    stated = false_alarms(case.block, case.total, case.background, case.noise)
    assert 0.1 < stated < 0.2
    expected = stated * trials
    # Counts scatter by their square root; skewness of the Poisson takes some per cent.
    assert 0.5 * expected - 4 * expected**0.5 < found < 1.05 * expected + 4 * expected**0.5


@pytest.mark.parametrize("electrons", [4, 6, 8])
def test_where_shot_noise_is_all_there_is_the_stated_rate_is_not_exceeded(
    electrons: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("acquisition.integrity.FALSE_ALARMS_PER_BLOCK", np.inf)
    case = Case(float(electrons), 0.0, NoiseModel(1.0, 0.0), a_block(40, 8))
    stated = 1500 * false_alarms(case.block, case.total, 0.0, case.noise)
    assert sum(case.alarms(1500)) < stated + 4 * stated**0.5


def log_ratios(block: Block, readings: NDArray[np.float64], noise: NoiseModel) -> NDArray[np.float64]:
    """Log p(guard | its own pictures) - log p(guard | pictures s places before), [n_guards, shifts ±1 and ±2]."""
    guards = {int(at): place in (0, 3) for guard in block.guard_exposures for place, at in enumerate(guard)}
    pairs = [at for at in range(len(readings)) if at not in guards]
    dark = float(np.mean([readings[at] for at, bright in guards.items() if not bright]))
    total = 2 * float(readings[pairs].mean()) - 2 * dark
    background = max(dark, 0.0)

    def shown(at: int) -> tuple[float, float]:
        """Mean above the dark level and variance of what is displayed in an exposure; beyond the block it is dark."""
        if at in pairs:
            spread = (0.25 * total) ** 2
            return total / 2, noise.gain * (total / 2 + background) + noise.variance + spread
        light = total if guards.get(at, False) else 0.0
        return light, noise.gain * (light + background) + noise.variance

    ratios = []
    for guard in block.guard_exposures:
        for shift in (-2, -1, 1, 2):
            ratio = 0.0
            for at in guard:
                (own, own_variance), (other, other_variance) = shown(int(at)), shown(int(at) - shift)
                deviation = max(own_variance, other_variance) ** 0.5
                above_dark = readings[at] - dark
                ratio += norm.logpdf(above_dark, own, deviation) - norm.logpdf(above_dark, other, deviation)
            ratios.append(ratio)
    return np.reshape(ratios, (block.n_guards, 4))


def test_what_raises_is_a_guard_that_is_more_likely_shifted(monkeypatch: pytest.MonkeyPatch) -> None:
    """With any rate allowed, the first guard whose likelihood ratio is against it is the one that is refused."""
    monkeypatch.setattr("acquisition.integrity.FALSE_ALARMS_PER_BLOCK", np.inf)
    block, noise = a_block(n_pairs=16), NoiseModel(1.0, 500.0)
    light = light_of(block, 70.0, largest=0.5)
    outcomes = []
    for seed in range(120):
        readings = exposed(light, noise, seed=seed)
        shifted_guards = np.flatnonzero((log_ratios(block, readings, noise) <= 0).any(axis=1))
        try:
            prove_alignment(block, filed(block, readings), noise)
            raised = None
        except AlignmentError as error:
            raised = str(error)
        if len(shifted_guards):
            assert raised is not None
            assert f"guard {shifted_guards[0]} of" in raised
        else:
            assert raised is None
        outcomes.append(raised is not None)
    assert {True, False} == set(outcomes)


@given(
    seed=st.integers(0, 2**32),
    shift=st.sampled_from([-5, -4, -3, 3, 4, 5]),
    total=st.floats(1e5, 1e7),
    share=st.floats(0, 1),
    guard_codes=st.integers(1, 3),
)
@settings(max_examples=100, deadline=None)
@example(seed=4_294_967_287, shift=4, total=1e5, share=0.125, guard_codes=1)
def test_further_shifts_are_noticed_where_the_sample_is_bright(
    seed: int, shift: int, total: float, share: float, guard_codes: int
) -> None:
    block = a_block(guard_codes=guard_codes)
    readings = exposed(light_of(block, total, seed, largest=0.4), NOISE, seed=seed)
    last_guard = int(block.guard_exposures[-1, 0])
    late = filed(block, shifted(readings, shift, start=round(share * (last_guard - 6))))
    # A shift that leaves light in every place of the code, on the average, is taken for missing light.
    with pytest.raises((AlignmentError, GuardsTooDimError), match="Nothing was recorded"):
        prove_alignment(block, late, NOISE)


@pytest.mark.parametrize("guard_codes", [1, 2])
@pytest.mark.parametrize("guard", [0, 2, 5])
def test_one_place_of_a_guard_that_reads_its_neighbours_picture_is_noticed(guard: int, guard_codes: int) -> None:
    """A trigger lost and made good inside of a guard: all places but one read as they should."""
    block = a_block(guard_codes=guard_codes)
    clean = light_of(block, 1e6, largest=0.4)
    noticed = []
    for at in block.guard_exposures[guard]:
        for neighbour in (at - 1, at + 1):
            if not 0 <= neighbour < len(clean) or clean[neighbour] == clean[at]:
                continue
            readings = exposed(clean, NOISE)
            readings[at] = readings[neighbour]
            with pytest.raises(AlignmentError, match=f"guard {guard} of"):
                prove_alignment(block, filed(block, readings), NOISE)
            noticed.append(int(at))
    assert len(noticed) >= 6 * guard_codes


@given(seed=st.integers(0, 2**32), total=st.floats(1000.0, 1e6), rounds=st.integers(2, 6), codes=st.integers(1, 2))
@settings(max_examples=40, deadline=None)
def test_a_guard_beside_a_guard_raises_no_alarm(seed: int, total: float, rounds: int, codes: int) -> None:
    block = a_block(12, 8, guard_codes=codes, rounds=rounds)
    beside = np.diff(block.guard_exposures[:, 0]) == block.guard_exposures.shape[1]
    assert np.count_nonzero(beside) == rounds - 1
    prove_alignment(block, filed(block, exposed(light_of(block, total, seed), NOISE, seed=seed)), NOISE)


@given(
    seed=st.integers(0, 2**32),
    shift=st.sampled_from([-2, -1, 1, 2]),
    share=st.floats(0, 1),
    rounds=st.integers(2, 4),
    codes=st.integers(1, 2),
)
@settings(max_examples=100, deadline=None)
def test_a_shift_is_noticed_in_whichever_round_it_begins(
    seed: int, shift: int, share: float, rounds: int, codes: int
) -> None:
    block = a_block(12, 8, guard_codes=codes, rounds=rounds)
    readings = exposed(light_of(block, BRIGHT, seed), NOISE, seed=seed)
    last_guard = int(block.guard_exposures[-1, 0])
    late = filed(block, shifted(readings, shift, start=round(share * (last_guard - 2))))
    with pytest.raises(AlignmentError, match="Nothing was recorded"):
        prove_alignment(block, late, NOISE)


def test_longer_guards_let_dimmer_samples_pass() -> None:
    def dimmest(guard_codes: int) -> float:
        block = a_block(guard_codes=guard_codes)
        too_dim, bright_enough = 1.0, 1e4
        while bright_enough / too_dim > 1.01:
            middle = (too_dim * bright_enough) ** 0.5
            try:
                prove_alignment(block, filed(block, light_of(block, middle)), NOISE)
                bright_enough = middle
            except GuardsTooDimError:
                too_dim = middle
        return bright_enough

    totals = [dimmest(codes) for codes in (1, 2, 3, 4)]
    assert totals == sorted(totals, reverse=True)
    # Twice as many readings halve the variance: the light may be dimmer by √2 at least, shot noise allowing more.
    assert totals[0] / totals[1] > 1.3
    assert totals[0] / totals[3] > 1.9


def test_false_alarms_grow_with_guards_and_noise_and_shrink_with_light() -> None:
    block = a_block()
    at = false_alarms(block, 200.0, 0.0, NOISE)
    assert false_alarms(block, 220.0, 0.0, NOISE) < at
    assert false_alarms(block, 200.0, 20.0, NOISE) > at
    assert false_alarms(block, 200.0, 0.0, NoiseModel(2.0, 60.0)) > at
    assert false_alarms(a_block(guard_interval=4), 200.0, 0.0, NOISE) > at
    assert false_alarms(a_block(guard_codes=2), 200.0, 0.0, NOISE) < at
    assert false_alarms(block, 0.0, 0.0, NOISE) == np.inf


def lost_and_doubled(light: NDArray[np.float64], lost: int, doubled: int) -> NDArray[np.float64]:
    """What a camera without frame times gives: as many readings as exposures."""
    order = [at for at in range(len(light)) if at != lost]
    place = order.index(doubled)
    return np.asarray(light[[*order[: place + 1], doubled, *order[place + 1 :]]])


@pytest.mark.parametrize(
    "block",
    [a_block(5, 2), a_block(7, 3), a_block(4, 4), a_block(3, 2, rounds=2), a_block(5, 2, guard_codes=2)],
    ids=["sections of 2", "sections of 3", "one section", "rounds", "longer guards"],
)
def test_the_unseen_share_is_what_trying_all_pairs_of_places_gives(block: Block) -> None:
    """Bright, without noise, no two pictures of pairs of the same light, and none that is nearly bright or dark."""
    noise = NoiseModel(1.0, 1.0)
    light = light_of(block, 1e6, largest=0.2)
    in_pairs = np.setdiff1d(np.arange(len(light)), block.guard_exposures)
    right = filed(block, light)
    unseen = 0
    places = list(permutations(range(len(light)), 2))
    for lost, doubled in places:
        found = filed(block, lost_and_doubled(light, lost, doubled))
        wrong = bool((found.plus != right.plus).any() or (found.minus != right.minus).any())
        try:
            prove_alignment(block, found, noise)
            unseen += wrong
        except AlignmentError:
            continue
    assert len(set(light[in_pairs][: 2 * block.bank.n_pairs])) == 2 * block.bank.n_pairs
    assert unseen > 0
    assert unseen_share(block) == pytest.approx(unseen / len(places), rel=1e-12)


def test_the_residual_risk_of_a_run_adds_up_over_blocks_and_grows_with_both_rates() -> None:
    schedule = a_schedule(60, 8, block_exposures=80)
    assert len(schedule.blocks) > 1
    blocks = [block.n_exposures * (block.n_exposures - 1) * unseen_share(block) for block in schedule.blocks]
    assert residual_risk(schedule, 1e-4, 1e-5) == pytest.approx(sum(blocks) * 1e-9)
    assert residual_risk(schedule, 2e-4, 3e-5) == pytest.approx(6 * residual_risk(schedule, 1e-4, 1e-5))
    assert residual_risk(a_schedule(60, 4, block_exposures=80), 1e-4, 1e-5) < residual_risk(schedule, 1e-4, 1e-5)
    assert residual_risk(schedule, 0.0, 1e-5) == 0.0


@pytest.mark.parametrize("numbers", [[0, 1, 2, 4, 5], [0, 1, 1, 2, 3], [3, 2, 1, 0, -1]])
def test_frame_numbers_with_a_gap_or_a_repetition_are_refused(numbers: list[int]) -> None:
    with pytest.raises(FrameNumberError, match="is followed by"):
        prove_contiguous(np.array(numbers))


def test_frame_numbers_that_count_up_or_are_not_given_pass() -> None:
    prove_contiguous(np.arange(7, 20))
    prove_contiguous(None)


def times_of(n: int, picture_time_us: float = 100.0, jitter_us: float = 0.0) -> NDArray[np.float64]:
    """Frame times float64 [n], µs, each somewhere within ± jitter_us of its place."""
    jitter = np.random.default_rng(0).uniform(-jitter_us, jitter_us, n)
    return np.asarray(5000.0 + picture_time_us * np.arange(n) + jitter)


def test_frame_times_that_match_the_picture_time_pass() -> None:
    prove_times(times_of(50), 100.0, 0.5)
    prove_times(times_of(50, jitter_us=9.9), 100.0, 20.0)
    prove_times(times_of(1), 100.0, 0.5)


@pytest.mark.parametrize("at", [0, 20, 47])
@pytest.mark.parametrize("fault", ["lost", "doubled", "late", "lost and doubled"])
def test_times_of_lost_doubled_and_late_triggers_are_noticed_and_the_exposure_is_named(fault: str, at: int) -> None:
    times = times_of(50)
    odd = at + 1
    if fault == "lost":
        times = np.delete(times, odd)
    elif fault == "doubled":
        times = np.insert(times, odd, times[at] + 50.0)
    elif fault == "late":
        times[odd] += 30.0
    else:
        times = np.insert(np.delete(times, odd), 10, times[10] - 50.0)
        odd = min(odd, 10)
    with pytest.raises(FrameTimeError, match=f"exposure {odd} of the block came .*a trigger was lost, doubled or late"):
        prove_times(times, 100.0, 20.0)


def test_times_that_were_asked_for_and_are_not_given_are_an_error() -> None:
    with pytest.raises(NoFrameTimesError, match=r"detector\.time_tolerance_us"):
        prove_times(None, 100.0, 20.0)
