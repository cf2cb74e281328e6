"""How fast readings reach the disk, whole chunks and their commit records, beside NumPy files of the same bytes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np

from acquisition.bank import GUARD_PICTURES
from acquisition.readings import Readings
from acquisition.run_store import RunStore
from acquisition.schedule import BankSizes, ScheduleLimits, make_schedule
from benchmarks.row import Row

PAIRS, BLOCKS_TIMED = 5000, 60
WANTED_PAIRS_PER_S = 1e6


def rows() -> list[Row]:
    """Pairs stored per second in blocks of one second at 10 kHz."""
    rng = np.random.default_rng(0)
    n_coefficients = 1 + PAIRS
    repeats = np.full(n_coefficients, BLOCKS_TIMED, dtype=np.int32)
    repeats[0] = 0
    limits = ScheduleLimits(BankSizes(20_000, 1.0, 20_000), guard_interval=256, block_exposures=20_000)
    schedule = make_schedule(repeats, np.zeros(n_coefficients), limits, 0)
    blocks = [
        Readings(
            block_number=block.number,
            pass_number=block.pass_number,
            start_us=0.0,
            index=block.coefficients,
            plus=np.round(rng.normal(8e5, 1e3, PAIRS)),
            minus=np.round(rng.normal(8e5, 1e3, PAIRS)),
            time_us=200.0 * np.arange(PAIRS, dtype=np.float64),
            guards=np.round(rng.normal(8e5, 1e3, (block.n_guards, GUARD_PICTURES))),
        )
        for block in schedule.blocks
    ]
    with tempfile.TemporaryDirectory() as folder:
        store = RunStore.create(Path(folder) / "run.zarr", schedule, {}, {})
        store_s = plain_s = 0.0
        for number, readings in enumerate(blocks):
            started = perf_counter()
            store.write_block(readings)
            store_s += perf_counter() - started
            started = perf_counter()
            for name in ("index", "plus", "minus", "time_us", "guards"):
                np.save(Path(folder) / f"{number}_{name}.npy", getattr(readings, name))
            plain_s += perf_counter() - started
        store.close()
    pairs = PAIRS * len(blocks)
    here, peer = pairs / store_s, pairs / plain_s
    return [
        Row(
            f"storing pairs, blocks of {PAIRS}",
            f"{here / 1e6:.2f} M/s",
            f"wanted {WANTED_PAIRS_PER_S / 1e6:g} M/s",
            here / WANTED_PAIRS_PER_S,
            "at least 1",
        ),
        Row(
            f"storing pairs, blocks of {PAIRS}",
            f"{here / 1e6:.2f} M/s",
            f"bare np.save {peer / 1e6:.2f} M/s",
            here / peer,
            "for comparison",
        ),
    ]
