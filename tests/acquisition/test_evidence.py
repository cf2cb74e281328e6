"""The evidence is the plain sums over all pairs, whatever the blocks."""

from __future__ import annotations

import numpy as np
import pytest

from acquisition.bank import GUARD_PICTURES, GUARD_SIGNS
from acquisition.evidence import EvidenceCollector, NoEvidenceError, detector_dark_level
from acquisition.readings import Readings


def block_of(number: int, index: list[int], total: float, dark: float, seed: int = 0, slope: float = 0.0) -> Readings:
    """Pairs whose sums are total + slope·time + 2·dark exactly, with random differences."""
    rng = np.random.default_rng([seed, number])
    times = np.arange(1000.0 * number, 1000.0 * number + 10.0 * len(index), 10.0)
    sums = total + slope * times + 2 * dark
    differences = rng.normal(0, 50, len(index))
    guards = np.where(GUARD_SIGNS > 0, total + dark, dark) * np.ones((2, GUARD_PICTURES))
    return Readings(
        number, 1, times[0], np.array(index), (sums + differences) / 2, (sums - differences) / 2, times, guards
    )


def test_sums_do_not_depend_on_how_pairs_are_cut_into_blocks() -> None:
    whole, parts = EvidenceCollector(16, 1.0), EvidenceCollector(16, 1.0)
    long = block_of(0, list(range(1, 13)), 1000.0, 5.0)
    whole.add(long)
    for part in (slice(0, 5), slice(5, 12)):
        parts.add(
            Readings(0, 1, 0.0, long.index[part], long.plus[part], long.minus[part], long.time_us[part], long.guards)
        )
    one, other = whole.snapshot(), parts.snapshot()
    assert np.array_equal(one.statistics.count, other.statistics.count)
    assert np.allclose(one.statistics.sum_difference, other.statistics.sum_difference)
    assert one.n_pairs == other.n_pairs == 12
    assert (one.n_blocks, other.n_blocks) == (1, 2)


def test_light_levels_come_from_guards_and_pair_sums() -> None:
    collector = EvidenceCollector(16, dark_level=3.0)
    collector.add(block_of(0, [1, 2, 3], total=1000.0, dark=5.0))
    evidence = collector.snapshot()
    assert evidence.lit_dark_level == 5.0
    assert evidence.background == 2.0
    assert evidence.reference_total == pytest.approx(1000.0)
    assert np.allclose(evidence.smoothed_sums[[1, 2, 3]], 1000.0)
    assert evidence.smoothed_sums[0] == 0


def test_smoothed_sums_follow_a_drift_inside_a_block_and_the_reference_is_the_start() -> None:
    collector = EvidenceCollector(256, 0.0)
    index = list(range(1, 201))
    drifting = block_of(0, index, total=1000.0, dark=0.0, slope=-0.05)
    collector.add(drifting)
    evidence = collector.snapshot()
    assert evidence.reference_total == pytest.approx(1000.0)
    assert np.allclose(evidence.smoothed_sums[index], 1000.0 - 0.05 * drifting.time_us)


def test_a_snapshot_is_not_changed_by_later_blocks() -> None:
    collector = EvidenceCollector(16, 0.0)
    collector.add(block_of(0, [1, 2], 100.0, 0.0))
    snapshot = collector.snapshot()
    collector.add(block_of(1, [1, 2, 3], 100.0, 0.0))
    assert snapshot.statistics.count.sum() == 2
    assert snapshot.smoothed_sums[3] == 0
    assert collector.snapshot().statistics.count.sum() == 5


def test_there_is_no_evidence_before_the_first_block() -> None:
    with pytest.raises(NoEvidenceError, match="no block has been accepted"):
        EvidenceCollector(16, 0.0).snapshot()


def test_the_reference_is_taken_from_many_pairs_whatever_the_blocks() -> None:
    rng = np.random.default_rng(3)
    collector = EvidenceCollector(4096, 0.0)
    for number in range(60):
        index = np.arange(1 + 50 * number, 51 + 50 * number)
        times = np.arange(1e4 * number, 1e4 * (number + 1), 200.0)
        sums = 1000.0 - 1e-4 * times + rng.normal(0, 30, 50)
        guards = np.where(GUARD_SIGNS > 0, 1000.0, 0.0) * np.ones((2, GUARD_PICTURES))
        collector.add(Readings(number, 1, times[0], index, sums / 2, sums / 2, times, guards))
    evidence = collector.snapshot()
    assert evidence.reference_pairs == 2000
    # Four times the variance of the mean of 2000 sums: a standard deviation of 1.3; a single block's would be 8.
    assert evidence.reference_total == pytest.approx(1000.0, abs=5.0)


def test_a_dark_level_measured_under_light_is_not_taken_for_the_detectors_own() -> None:
    dark = np.array([105.0, 95.0])
    assert detector_dark_level(dark, under_light=False) == 100.0
    assert detector_dark_level(dark, under_light=True) == 0.0
    assert detector_dark_level(np.empty(0), under_light=False) == 0.0
