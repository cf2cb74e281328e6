"""Guards prove that readings belong to their pictures, at a stated rate of false alarms, or say that they cannot."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import poisson

from acquisition.integrity import (
    FALSE_ALARMS_PER_BLOCK,
    AlignmentError,
    FrameNumberError,
    GuardsTooDimError,
    guard_false_alarm,
    prove_alignment,
    prove_contiguous,
)
from acquisition.readings import Readings, file_readings
from acquisition.schedule import Block, ScheduleLimits, make_schedule
from devices.detector import Burst
from models.noise import NoiseModel

NOISE = NoiseModel(gain=2.0, variance=50.0)
BRIGHT = 4000.0


def a_block(n_pairs: int = 40, guard_interval: int = 8) -> Block:
    repeats = np.ones(64, dtype=np.int32)
    repeats[0], repeats[n_pairs + 1 :] = 0, 0
    limits = ScheduleLimits(1000, 1000, guard_interval=guard_interval, block_exposures=1000)
    (block,) = make_schedule(repeats, np.linspace(1, 0, 64), limits, seed=0).blocks
    return block


def light_of(block: Block, total: float, seed: int = 0) -> NDArray[np.float64]:
    """Light of every exposure of the block: guards as their pictures say, pairs anything that adds up to the total."""
    indices, signs = block.bank.pictures
    coefficient = np.random.default_rng(seed).uniform(-0.9, 0.9, 64) * total
    coefficient[0] = total
    return np.asarray((total + signs * coefficient[indices]) / 2)


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
    prove_alignment(filed(block, exposed(light_of(block, total, seed), NOISE, seed=seed)), NOISE)


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
        prove_alignment(late, NOISE)


@pytest.mark.parametrize("shift", [-2, -1, 1, 2])
def test_the_first_guard_that_reads_wrong_is_named(shift: int) -> None:
    block = a_block()
    readings = exposed(light_of(block, BRIGHT), NOISE)
    late = filed(block, shifted(readings, shift, start=int(block.guard_exposures[2, -1]) + 3))
    with pytest.raises(AlignmentError, match=f"guard 3 of {block.n_guards} reads"):
        prove_alignment(late, NOISE)


def test_a_doubled_trigger_that_a_lost_one_makes_good_again_is_noticed_when_a_guard_lies_between() -> None:
    block = a_block()
    readings = exposed(light_of(block, BRIGHT), NOISE)
    doubled, lost = int(block.guard_exposures[2, -1]) + 3, int(block.guard_exposures[3, -1]) + 3
    late = np.insert(np.delete(readings, lost), doubled, readings[doubled])
    assert len(late) == block.n_exposures
    with pytest.raises(AlignmentError, match="guard 3 of"):
        prove_alignment(filed(block, late), NOISE)


def test_inverted_pictures_are_noticed() -> None:
    block = a_block()
    with pytest.raises(AlignmentError):
        prove_alignment(filed(block, exposed(BRIGHT - light_of(block, BRIGHT), NOISE)), NOISE)


@pytest.mark.parametrize("total", [0.0, 20.0, 60.0])
@pytest.mark.parametrize("shift", [0, 1])
def test_a_sample_too_dim_for_its_guards_is_refused_whether_they_look_right_or_not(total: float, shift: int) -> None:
    block = a_block()
    readings = exposed(light_of(block, total), NOISE)
    if shift:
        readings = shifted(readings, shift)
    with pytest.raises(GuardsTooDimError, match="open the shutter"):
        prove_alignment(filed(block, readings), NOISE)


def test_no_light_and_no_noise_are_too_dim_as_well() -> None:
    block = a_block()
    with pytest.raises(GuardsTooDimError):
        prove_alignment(filed(block, np.zeros(block.n_exposures)), NoiseModel(gain=1.0, variance=0.0))


def test_a_sample_is_too_dim_from_where_all_guards_together_exceed_the_rate() -> None:
    """Without noise in the readings the total is what it is; the noise model alone decides."""
    block = a_block()

    def passes(total: float) -> bool:
        try:
            prove_alignment(filed(block, light_of(block, total)), NOISE)
        except GuardsTooDimError:
            return False
        return True

    def false_alarms(total: float) -> float:
        return block.n_guards * guard_false_alarm(total, 0.0, NOISE, block.n_pairs, block.n_guards)

    totals = np.linspace(40.0, 400.0, 181)
    passed = [passes(float(total)) for total in totals]
    assert not passed[0]
    assert passed[-1]
    assert passed == [false_alarms(float(total)) <= FALSE_ALARMS_PER_BLOCK for total in totals]


def test_light_that_does_not_depend_on_the_mirrors_makes_guards_dimmer_and_an_offset_does_not() -> None:
    block, total, beyond = a_block(), 200.0, 20_000.0
    readings = filed(block, light_of(block, total) + beyond)
    prove_alignment(readings, NOISE, dark_level=beyond)
    with pytest.raises(GuardsTooDimError):
        prove_alignment(readings, NOISE, dark_level=0.0)
    prove_alignment(filed(block, light_of(block, total)), NOISE, dark_level=0.0)


@dataclass(frozen=True)
class Case:
    """A sample so dim that false alarms can be counted."""

    total: float
    background: float
    noise: NoiseModel
    n_pairs: int
    n_guards: int


@pytest.mark.parametrize(
    "case",
    [
        Case(60.0, 0.0, NoiseModel(1.0, 160.0), n_pairs=64, n_guards=9),
        Case(60.0, 0.0, NoiseModel(1.0, 120.0), n_pairs=1, n_guards=2),
        Case(120.0, 300.0, NoiseModel(2.0, 20.0), n_pairs=16, n_guards=3),
        Case(40.0, 50.0, NoiseModel(1.0, 30.0), n_pairs=4, n_guards=2),
    ],
    ids=["read noise", "one pair", "background", "a few pairs"],
)
def test_false_alarms_come_as_often_as_stated(case: Case) -> None:
    random = np.random.default_rng(1)
    trials = 40_000
    total, background, noise = case.total, case.background, case.noise

    def readings(light: float, *shape: int) -> NDArray[np.float64]:
        electrons = random.poisson((light + background) / noise.gain, (trials, *shape))
        return np.asarray(noise.gain * electrons + random.normal(0, noise.variance**0.5, (trials, *shape)))

    # The code's two bright and three dark pictures; pairs whose two exposures share the total somehow.
    bright, dark = readings(total, case.n_guards, 2), readings(0.0, case.n_guards, 3)
    pair_sums = readings(0.7 * total, case.n_pairs) + readings(0.3 * total, case.n_pairs)
    found_total = pair_sums.mean(axis=1) - 2 * dark.mean(axis=(1, 2))
    missed = bright.mean(axis=2) - dark.mean(axis=2) <= found_total[:, None] / 2
    stated = guard_false_alarm(total, background, noise, case.n_pairs, case.n_guards)
    assert 0.005 < stated < 0.2
    # Guards of one trial share their total: each trial counts once. Skewness of the Poisson takes some per cent.
    rate, deviation = float(missed.mean()), float(missed.mean(axis=1).std()) / trials**0.5
    assert rate == pytest.approx(stated, abs=4 * deviation + 0.06 * stated)


@pytest.mark.parametrize("electrons", [20, 40, 60, 100, 300])
def test_where_shot_noise_is_all_there_is_the_stated_rate_is_not_exceeded(electrons: int) -> None:
    """Then a guard misses when two bright pictures hold at most T electrons together: a Poisson tail, exactly."""
    exact = poisson.cdf(electrons, 2 * electrons)
    stated = guard_false_alarm(float(electrons), 0.0, NoiseModel(1.0, 0.0), n_pairs=10**9, n_guards=9)
    assert exact <= stated


def test_what_is_counted_as_a_false_alarm_is_what_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    """With any rate allowed, the guards that miss their threshold are the ones that are refused, and no others."""
    monkeypatch.setattr("acquisition.integrity.FALSE_ALARMS_PER_BLOCK", np.inf)
    block, total = a_block(n_pairs=16), 70.0
    noise = NoiseModel(1.0, 250.0)
    outcomes = []
    for seed in range(200):
        readings = exposed(light_of(block, total), noise, seed=seed)
        at = block.guard_exposures
        dark = readings[at[:, [1, 2, 4]]]
        found_total = 2 * readings[np.setdiff1d(np.arange(len(readings)), at)].mean() - 2 * dark.mean()
        misses = readings[at[:, [0, 3]]].mean(axis=1) - dark.mean(axis=1) <= found_total / 2
        try:
            prove_alignment(filed(block, readings), noise)
            raised = False
        except AlignmentError:
            raised = True
        assert raised == misses.any()
        outcomes.append(raised)
    assert {True, False} == set(outcomes)


@pytest.mark.parametrize("numbers", [[0, 1, 2, 4, 5], [0, 1, 1, 2, 3], [3, 2, 1, 0, -1]])
def test_frame_numbers_with_a_gap_or_a_repetition_are_refused(numbers: list[int]) -> None:
    with pytest.raises(FrameNumberError, match="is followed by"):
        prove_contiguous(np.array(numbers))


def test_frame_numbers_that_count_up_or_are_not_given_pass() -> None:
    prove_contiguous(np.arange(7, 20))
    prove_contiguous(None)
