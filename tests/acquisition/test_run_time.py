"""The clock of a run is foretold, and banks are sized so that the light waits for loading as little as possible."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import astuple, replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from acquisition.acquisition_file import example_dry_run, load_acquisition
from acquisition.config import AcquisitionConfig
from acquisition.connect import sample_on_stage
from acquisition.connected_devices import ConnectedDevices
from acquisition.run_time import RunRates, RunTime, plan_bank_sizes, predict_run_time
from acquisition.schedule import BankSizes, Schedule, ScheduleLimits, make_schedule
from acquisition.sensing_plan import plan_sensing, run_rates
from tests.acquisition.rehearsal import asymmetric_sample, rehearse, small_config

DARK_EXPOSURES = 64


class EventSimulation:
    """A light path and a loader as two processes on one clock, event by event, in plain Python.

    A process yields how long it is busy, or the number of the bank whose loading it waits for.
    """

    def __init__(self, schedule: Schedule, rates: RunRates, dark_exposures: int) -> None:
        self._schedule, self._rates = schedule, rates
        self._dark_exposures = dark_exposures
        self._coming: list[tuple[float, int, Iterator[float]]] = []
        self._waiting: dict[int, Iterator[float]] = {}
        self._loaded: set[int] = set()
        self._begun = 0
        self.now_us = self.lit_us = self.waited_us = 0.0

    def run(self) -> None:
        """Until nothing is left to happen."""
        self._begin(self._light_path())
        while self._coming:
            self.now_us, _, process = heapq.heappop(self._coming)
            self._advance(process)

    def _light_path(self) -> Iterator[float]:
        for _ in range(self._dark_exposures):
            yield self._rates.upload_us
        yield self._rates.arming_us
        for _ in range(self._dark_exposures):
            yield max(self._rates.picture_time_us, self._rates.reading_us)
        self._begin(self._loading(0))
        for bank in range(len(self._schedule.banks)):
            since = self.now_us
            while bank not in self._loaded:
                yield -1.0 - bank
            self.waited_us += self.now_us - since
            if bank + 1 < len(self._schedule.banks):
                self._begin(self._loading(bank + 1))
            for block in self._schedule.blocks:
                if block.bank.number == bank:
                    yield self._rates.arming_us
                    for _ in range(block.n_exposures):
                        self.lit_us += self._rates.picture_time_us
                        yield max(self._rates.picture_time_us, self._rates.reading_us)

    def _loading(self, bank: int) -> Iterator[float]:
        for _ in range(self._schedule.banks[bank].n_pictures):
            yield self._rates.upload_us
        self._loaded.add(bank)
        if bank in self._waiting:
            self._begin(self._waiting.pop(bank))

    def _begin(self, process: Iterator[float]) -> None:
        heapq.heappush(self._coming, (self.now_us, self._begun, process))
        self._begun += 1

    def _advance(self, process: Iterator[float]) -> None:
        busy_us = next(process, None)
        if busy_us is None:
            return
        if busy_us < 0:
            self._waiting[int(-1 - busy_us)] = process
        else:
            heapq.heappush(self._coming, (self.now_us + busy_us, self._begun, process))
            self._begun += 1


@st.composite
def cases(draw: st.DrawFn) -> tuple[Schedule, RunRates]:
    n_coefficients = draw(st.sampled_from([4, 16, 64]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    repeats = rng.integers(0, draw(st.integers(1, 6)), n_coefficients, endpoint=True).astype(np.int32)
    repeats[:2] = 0, max(repeats[1], 1)
    first = draw(st.integers(12, 120))
    limits = ScheduleLimits(
        BankSizes(first, draw(st.sampled_from([1.0, 1.6, 3.0])), max(first, draw(st.integers(12, 200)))),
        guard_interval=draw(st.integers(1, 12)),
        block_exposures=draw(st.integers(12, 300)),
    )
    rates = RunRates(
        picture_time_us=draw(st.floats(1, 1000)),
        upload_us=draw(st.floats(0.1, 5000)),
        arming_us=draw(st.floats(0, 50_000)),
        reading_us=draw(st.one_of(st.just(0.0), st.floats(0, 2000))),
    )
    return make_schedule(repeats, rng.random(n_coefficients), limits, 1), rates


@given(cases(), st.integers(1, 20))
@settings(max_examples=60, deadline=None)
def test_the_prediction_is_what_a_simulation_of_every_picture_gives(
    case: tuple[Schedule, RunRates], dark_exposures: int
) -> None:
    schedule, rates = case
    predicted = predict_run_time(schedule, rates, dark_exposures)
    simulated = EventSimulation(schedule, rates, dark_exposures)
    simulated.run()
    assert predicted.total_s == pytest.approx(simulated.now_us * 1e-6)
    assert predicted.light_s == pytest.approx(simulated.lit_us * 1e-6)
    assert predicted.waiting_s == pytest.approx(simulated.waited_us * 1e-6, abs=1e-9 * predicted.total_s)
    assert predicted.light_share == pytest.approx(simulated.lit_us / simulated.now_us)
    assert predicted.light_share <= predicted.largest_light_share <= 1.0


@pytest.mark.parametrize("upload_mb_per_s", [20.0, 300.0], ids=["loading bounds it", "light bounds it"])
def test_the_prediction_is_what_the_benchs_clock_says_after_a_run(upload_mb_per_s: float) -> None:
    config = small_config(
        sensing={"side": 16, "repeats": 6, "alpha": 0.5, "draw": "bernoulli"},
        blocks={"first_bank_pictures": 60},
        devices={
            "projector": {
                "kind": "simulated",
                "dmd": "xga",
                "memory_pictures": 240,
                "upload_mb_per_s": upload_mb_per_s,
            },
            "detector": {"kind": "simulated", "width_px": 1, "height_px": 1, "bytes_per_px": 4, "arming_ms": 3.0},
        },
    )
    sample = asymmetric_sample(16)
    benches: list[ConnectedDevices] = []
    begins_us: list[float] = []

    def begin(devices: ConnectedDevices) -> None:
        benches.append(devices)
        # Connecting has taken memory for a picture, whose transfer the bench counts.
        begins_us.append(devices.stand_ins.bench.state.uploads_end_us)

    rehearse(config, sample, prepare=begin)
    took_s = (benches[0].clock_us() - begins_us[0]) * 1e-6
    schedule = plan_sensing(config, sample).schedule
    rates = run_rates(config)
    assert rates.upload_us == pytest.approx(768 * 128 / upload_mb_per_s)
    assert len(schedule.banks) > 2
    predicted = predict_run_time(schedule, rates, config.blocks.dark_exposures)
    assert (predicted.waiting_s > 0.1 * predicted.total_s) == (upload_mb_per_s < 100)
    # The bench declares whole microseconds for each bank's transfer.
    assert predicted.total_s == pytest.approx(took_s, abs=1e-6 * (len(schedule.banks) + 1))


def xga_case(mask: str, alpha: float) -> AcquisitionConfig:
    """A run of n = 256, S = 50 on XGA: 43 690 pictures of memory, 44 µs, 300 MB/s upload, 20 ms to arm the detector."""
    document = load_acquisition(example_dry_run()).model_dump(mode="json")
    document["sensing"].update(side=256, repeats=50, alpha=alpha, mask={"kind": mask})
    document["timing"].update(picture_time_us=44, illumination_time_us=40)
    document["dmd_region"].update(top=0, left=128, mirrors_per_px=3)
    document["blocks"].update(longest_block_s=1.0, first_bank_pictures=None, guard_interval=256)
    document["devices"]["projector"].update(dmd="xga", memory_pictures=43_690, upload_mb_per_s=300.0)
    document["devices"]["detector"].update(arming_ms=20.0, read_frames_per_s=None)
    return AcquisitionConfig.model_validate(document)


def planned_time(config: AcquisitionConfig) -> RunTime:
    plan = plan_sensing(config, sample_on_stage(config))
    half = config.memory_pictures // 2
    assert max(bank.n_pictures for bank in plan.schedule.banks) <= half
    return predict_run_time(plan.schedule, run_rates(config), config.blocks.dark_exposures)


@pytest.mark.parametrize("mask", ["uniform", "low-sequency", "water-filling"])
def test_on_xga_at_a_quarter_the_light_is_on_nine_tenths_of_the_time(mask: str) -> None:
    config = xga_case(mask, 0.25)
    assert astuple(run_rates(config)) == pytest.approx((44, 768 * 128 / 300, 20_000, 0))
    assert planned_time(config).light_share >= 0.90


@pytest.mark.parametrize("mask", ["uniform", "low-sequency", "water-filling"])
def test_on_xga_at_an_eighth_the_light_is_on_as_much_as_loading_allows(mask: str) -> None:
    time = planned_time(xga_case(mask, 0.125))
    assert time.light_share >= 0.95 * time.largest_light_share


def test_two_equal_halves_of_the_memory_leave_a_tenth_of_the_time_dark() -> None:
    """Why banks grow: the light waits until half of the memory is loaded."""
    config = xga_case("uniform", 0.25)
    plan = plan_sensing(config, sample_on_stage(config))
    half = config.memory_pictures // 2
    limits = ScheduleLimits(BankSizes(half, 1.0, half), 256, 22_727)
    schedule = make_schedule(plan.schedule.repeats, plan.prior.variance, limits, config.sensing.seed)
    halves = predict_run_time(schedule, run_rates(config), config.blocks.dark_exposures)
    assert 0.85 < halves.light_share < 0.90
    grown = predict_run_time(plan.schedule, run_rates(config), config.blocks.dark_exposures)
    assert grown.light_share > halves.light_share + 0.02


def drawn(kind: str, n: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """M of n coefficients: all alike but for rounding, all or nothing, falling off, or drawn one by one."""
    if kind == "alike":
        repeats = 5 + rng.integers(0, 2, n)
    elif kind == "one by one":
        repeats = rng.binomial(20, 0.25, n)
    elif kind == "all or nothing":
        repeats = np.where(np.arange(n) < n // 4, 20, 0)
    else:
        repeats = np.rint(20 / (1 + np.arange(n) / (n / 16)))
    repeats[:2] = 0, max(repeats[1], 1)
    return np.asarray(repeats, dtype=np.int32)


@given(
    kind=st.sampled_from(["alike", "all or nothing", "falling off", "one by one"]),
    seed=st.integers(0, 1000),
    largest=st.sampled_from([400, 2000, 5000]),
    upload_us=st.sampled_from([20.0, 330.0, 3000.0]),
    arming_us=st.sampled_from([0.0, 20_000.0]),
)
@settings(max_examples=20, deadline=None)
def test_planned_banks_keep_to_what_half_of_the_memory_holds(
    kind: str, seed: int, largest: int, upload_us: float, arming_us: float
) -> None:
    repeats, importance = drawn(kind, 4096, np.random.default_rng(seed)), np.linspace(1, 0, 4096)
    limits = ScheduleLimits(BankSizes(largest, 1.0, largest), guard_interval=64, block_exposures=5000)
    sizes = plan_bank_sizes(repeats, importance, limits, RunRates(44.0, upload_us, arming_us))
    assert limits.smallest_block <= sizes.first <= sizes.largest <= largest
    schedule = make_schedule(repeats, importance, replace(limits, bank_sizes=sizes), 0)
    assert all(bank.n_pictures <= largest for bank in schedule.banks)


@pytest.mark.parametrize("kind", ["alike", "all or nothing", "falling off", "one by one"])
def test_planned_sizes_are_never_worse_than_the_largest_banks(kind: str) -> None:
    repeats, importance = drawn(kind, 4096, np.random.default_rng(5)), np.linspace(1, 0, 4096)
    for largest, upload_us, arming_us in product((1000, 2000, 5000), (20.0, 330.0, 3000.0), (0.0, 20_000.0)):
        rates = RunRates(44.0, upload_us, arming_us)
        limits = ScheduleLimits(BankSizes(largest, 1.0, largest), guard_interval=64, block_exposures=5000)
        planned, largest_only = (
            predict_run_time(
                make_schedule(repeats, importance, replace(limits, bank_sizes=sizes), 0), rates, DARK_EXPOSURES
            ).total_s
            for sizes in (plan_bank_sizes(repeats, importance, limits, rates), limits.bank_sizes)
        )
        assert planned <= 1.001 * largest_only, rates


def test_the_first_banks_size_is_kept_where_it_is_asked_for() -> None:
    repeats, importance = drawn("alike", 4096, np.random.default_rng(1)), np.linspace(1, 0, 4096)
    limits = ScheduleLimits(BankSizes(2000, 1.0, 2000), guard_interval=64, block_exposures=5000)
    assert plan_bank_sizes(repeats, importance, limits, RunRates(44.0, 330.0, 0.0), 777).first == 777
