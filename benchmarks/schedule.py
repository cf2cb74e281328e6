"""How long a schedule of the largest usual run takes to make."""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter

from acquisition.run_time import RunRates, plan_bank_sizes
from acquisition.schedule import BankSizes, ScheduleLimits, make_schedule
from benchmarks.row import Row
from models.draws import systematic_draw
from models.masks import uniform, water_filling
from models.priors import power_law_prior

SIDE, REPEATS, ALPHA = 256, 50, 0.25
LIMITS = ScheduleLimits(BankSizes(21_845, 1.0, 21_845), guard_interval=256, block_exposures=22_727)
RATES = RunRates(picture_time_us=44, upload_us=768 * 128 / 300, arming_us=20_000)
WANTED_S = 2.0


def rows() -> list[Row]:
    """Mask, draw, bank sizes and schedule of n = 256, S = 50, α = 0.25, spelled out picture by picture, against 2 s."""
    measured = []
    total = 50.0 * SIDE**2
    for name in ("uniform", "water-filling"):
        started = perf_counter()
        prior = power_law_prior(SIDE, total)
        mask = uniform(SIDE, ALPHA) if name == "uniform" else water_filling(prior.variance, ALPHA, REPEATS, total)
        repeats = systematic_draw(mask, REPEATS, 1)
        sizes = plan_bank_sizes(repeats, prior.variance, LIMITS, RATES)
        schedule = make_schedule(repeats, prior.variance, replace(LIMITS, bank_sizes=sizes), 1)
        exposures = sum(len(block.pair_exposures) + block.guard_exposures.size for block in schedule.blocks)
        pictures = sum(len(bank.pictures[0]) for bank in schedule.banks)
        took_s = perf_counter() - started
        what = f"schedule n = 256, S = 50, α = 0.25, {name} ({exposures:,} pairs and guards, {pictures:,} pictures)"
        measured.append(Row(what, f"{took_s:.2f} s", f"limit {WANTED_S:g} s", took_s / WANTED_S, "at most 1"))
    return measured
