"""Two thousand blocks with faults in every tenth of them: what is accepted belongs to its pictures.

Real threads and a real store, at no pace. Beside the run the bench's own record is asked of every accepted block:
which picture was displayed when each of its readings was taken.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from acquisition.bank import Block
from acquisition.config import AcquisitionConfig
from acquisition.integrity import unseen_share
from acquisition.readings import Readings
from acquisition.run import acquire
from acquisition.run_layout import RunState
from acquisition.schedule import Schedule
from acquisition.stored_run import StoredRun
from sim_devices.faults import (
    BufferOverflow,
    DoubledTrigger,
    EarlyEnd,
    Fault,
    LateStart,
    LateTrigger,
    LostTrigger,
    MissingFrame,
    SilentCamera,
    StaleFrames,
    random_fault,
)
from tests.acquisition.bench_record import Footprint, Watch, at_rest, no_thread_left, planned, watch, whole_light_config
from tests.acquisition.rehearsal import small_config

N_BLOCKS, BLOCK_PAIRS = 2000, 64
FAULTY_SHARE = 0.05
# Without frame times nothing sees a trigger that comes late between two guards: it is left out there.
NOTICED_WITHOUT_TIMES: tuple[type[Fault], ...] = (
    LostTrigger,
    DoubledTrigger,
    LateStart,
    EarlyEnd,
    MissingFrame,
    StaleFrames,
    BufferOverflow,
    SilentCamera,
)
SIGMAS = 4.0
# Chunks of a block that are just being written, one file each.
MOST_OPEN_CHUNKS = 8
# Beside the program the bench's record of everything that was displayed grows, about 5 kB a block.
MOST_GROWTH_BYTES = 32 * 2**20


def soak_config(folder: Path, *, time_tolerance_us: float | None) -> AcquisitionConfig:
    """960 coefficients of generated cells (i = 0 is never drawn), 134 times each; 64 pairs and 3 guards a block."""
    detector = {"kind": "simulated", "width_px": 2, "height_px": 2, "bytes_per_px": 4, "arming_ms": 1.0}
    document = small_config(
        sensing={"side": 32, "alpha": 961 / 1024, "repeats": 134, "mask": {"kind": "low-sequency"}},
        blocks={
            "guard_interval": 32,
            "longest_block_s": 0.0143,
            "dark_exposures": 16,
            "first_bank_pictures": 695,
            "most_repeats": 20,
        },
        devices={"detector": {**detector, "time_tolerance_us": time_tolerance_us}},
        noise={"gain": 2.0, "variance": 100.0},
        bench={"shot_noise": True, "seed": 11, "photoelectrons_per_px": 200.0},
        reconstruction={"estimator": "pair-ratio", "tv_weight": 0.6, "refresh_s": 0.5},
        output={"run": str(folder / "run.zarr")},
    )
    projector = document.devices.projector.model_copy(update={"memory_pictures": 2 * 695})
    return document.replace(devices=document.devices.model_copy(update={"projector": projector}))


def faults_of(
    schedule: Schedule, kinds: Sequence[type[Fault]], seed: int
) -> tuple[dict[int, Fault], dict[int, tuple[LostTrigger, DoubledTrigger]]]:
    """By projection: a random fault in one of twenty, a lost trigger that a doubled one makes good in as many others.

    The bench numbers projections as they come, repeated ones included, and so every block is as likely as the others.
    """
    random = np.random.default_rng(seed)
    n_blocks, n_exposures = len(schedule.blocks), schedule.longest_block_exposures
    n_faulty = round(FAULTY_SHARE * n_blocks)
    single, compensating = random.choice(np.arange(1, n_blocks + 1), (2, n_faulty), replace=False).tolist()
    pairs = {}
    for projection in compensating:
        lost, doubled = random.choice(n_exposures, 2, replace=False).tolist()
        pairs[projection] = LostTrigger(projection, lost), DoubledTrigger(projection, doubled)
    return {each: random_fault(random, each, n_exposures, kinds) for each in single}, pairs


def soak(
    folder: Path, monkeypatch: pytest.MonkeyPatch, kinds: Sequence[type[Fault]], *, time_tolerance_us: float | None
) -> tuple[Watch, Schedule, dict[int, Fault], dict[int, tuple[LostTrigger, DoubledTrigger]]]:
    """Play it, and see that nothing is left of it and that it took no more memory at its end than early on."""
    config = soak_config(folder, time_tolerance_us=time_tolerance_us)
    schedule = planned(config).schedule
    assert len(schedule.blocks) >= N_BLOCKS
    assert min(block.n_pairs for block in schedule.blocks) == BLOCK_PAIRS
    single, compensating = faults_of(schedule, kinds, seed=2024)
    faults = [*single.values(), *(fault for pair in compensating.values() for fault in pair)]
    warm_up(folder, monkeypatch)
    watched = watch(monkeypatch, lambda bench: bench.bench.inject(*faults), margin_s=0.1)
    early: list[Footprint] = []

    def look(readings: Readings) -> None:
        watched.look(readings)
        if readings.block_number in (len(schedule.blocks) // 4, len(schedule.blocks) - 1):
            early.append(Footprint.now())

    before = Footprint.now()
    started = time.monotonic()
    with no_thread_left():
        acquire(config, observer=replace(watched.observer, on_block=look))
    took_s = time.monotonic() - started
    after = Footprint.now()
    quarter, end = early
    print(
        f"{len(schedule.blocks)} blocks, {len(single)} + {len(compensating)} faults, {len(watched.repeats())} again, "
        f"{took_s:.1f} s; {quarter.rss_bytes >> 20} MB after a quarter, {end.rss_bytes >> 20} MB at the end"
    )
    assert set(watched.bench.bench.struck) == set(faults)
    assert StoredRun(config.output.run).state is RunState.FINISHED
    assert [each.block for each in watched.sightings] == list(range(len(schedule.blocks)))
    assert end.rss_bytes - quarter.rss_bytes < MOST_GROWTH_BYTES
    assert end.sockets == quarter.sockets
    assert end.handles - quarter.handles < MOST_OPEN_CHUNKS
    assert after.handles <= before.handles
    assert after.open_files <= before.open_files
    assert after.sockets <= before.sockets
    at_rest(watched, memory_pictures=config.memory_pictures)
    return watched, schedule, single, compensating


def warm_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a tiny acquisition, so that what libraries keep for ever is there already."""
    with monkeypatch.context() as patched:
        watched = watch(patched)
        acquire(whole_light_config(folder / "first"), observer=watched.observer)


def test_with_frame_times_no_reading_of_a_long_run_is_filed_under_another_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tolerance_us = 5.0
    kinds = (*NOTICED_WITHOUT_TIMES, LateTrigger)
    watched, _, single, compensating = soak(tmp_path, monkeypatch, kinds, time_tolerance_us=tolerance_us)
    assert watched.misfiled == []
    within = {
        projection
        for projection, fault in single.items()
        if isinstance(fault, LateTrigger) and fault.delay_us <= tolerance_us
    }
    accepted = {each.projection for each in watched.sightings}
    assert accepted & {*single, *compensating} == within
    assert len(watched.repeats()) == len(single) + len(compensating) - len(within)


def test_without_frame_times_only_what_is_made_good_between_two_guards_goes_unseen_and_as_often_as_stated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched, schedule, single, compensating = soak(tmp_path, monkeypatch, NOTICED_WITHOUT_TIMES, time_tolerance_us=None)
    misfiled = {each.projection for each in watched.misfiled}
    assert misfiled <= set(compensating)
    assert not {each.projection for each in watched.sightings} & set(single)
    # Pairs are misfiled where no guard is; where a guard's dark picture reads its other one, nothing is wrong.
    unseen = {each.projection for each in watched.misfiled if each.wrong_pairs}
    block = schedule.blocks[0]
    assert unseen == {
        number for number, (lost, doubled) in compensating.items() if between_guards(block, lost, doubled)
    }
    n, share = len(compensating), unseen_share(block)
    deviation = math.sqrt(n * share * (1 - share))  # binomial
    print(f"unseen: {len(unseen)} of {n} compensated faults, stated {n * share:.1f} ± {deviation:.1f}")
    assert abs(len(unseen) - n * share) <= SIGMAS * deviation


def between_guards(block: Block, lost: LostTrigger, doubled: DoubledTrigger) -> bool:
    """Whether pairs read other pictures and no guard does: found by moving the exposures about."""
    exposures = list(range(block.n_exposures))
    exposures.insert(doubled.exposure, doubled.exposure)
    exposures.remove(lost.exposure)
    moved = np.array(exposures) != np.arange(block.n_exposures)
    guards = np.zeros(block.n_exposures, dtype=bool)
    guards[block.guard_exposures] = True
    return bool((moved & ~guards).any() and not (moved & guards).any())
