"""What a run's view shows comes from what the run told, however seldom anybody looks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from acquisition.bank import GUARD_PICTURES
from acquisition.config import AcquisitionConfig
from acquisition.connect import sample_on_stage
from acquisition.events import Event, EventKind
from acquisition.evidence import EvidenceCollector
from acquisition.live import LiveImage
from acquisition.live_view.feed import ViewFeed
from acquisition.observer import Place
from acquisition.readings import Readings
from acquisition.reconstruction import Reconstruction, reconstruct
from acquisition.run_time import predict_run_time
from acquisition.schedule import Schedule
from acquisition.sensing_plan import plan_sensing, run_rates
from tests.acquisition.rehearsal import small_config


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def config() -> AcquisitionConfig:
    return small_config(
        sensing={"repeats": 4},
        bench={"pace": 1.0},
        blocks={"longest_block_s": 0.005},
        devices={
            "projector": {"kind": "simulated", "dmd": "xga"},
            "detector": {"kind": "simulated", "width_px": 1, "height_px": 1, "bytes_per_px": 4},
            "light_source": {"kind": "simulated", "power_mw": 2.0},
        },
        sample={"dose_limit_mj": 9.0, "name": "HeLa"},
    )


@pytest.fixture
def schedule(config: AcquisitionConfig) -> Schedule:
    made = plan_sensing(config, sample_on_stage(config)).schedule
    assert len(made.blocks) > 8
    return made


def block(schedule: Schedule, number: int, plus: float = 700.0, minus: float = 300.0, **changes: Any) -> Readings:
    """Readings of a block of the schedule, all alike."""
    planned = schedule.blocks[number]
    pairs = planned.n_pairs
    readings = Readings(
        block_number=number,
        pass_number=1,
        start_us=1000.0 * number,
        index=planned.coefficients,
        plus=np.full(pairs, plus),
        minus=np.full(pairs, minus),
        time_us=np.arange(1000.0 * number, 1000.0 * number + pairs, dtype=np.float64),
        guards=np.zeros((1, GUARD_PICTURES)),
        lit_exposures=100 * (number + 1),
    )
    return replace(readings, **changes)


def tell(feed: ViewFeed, *seen: Any) -> None:
    """What a run does: schedules, places, readings, images, events."""
    observer = feed.observer
    callbacks: dict[type, Any] = {
        Schedule: observer.on_schedule,
        Readings: observer.on_block,
        Event: observer.on_event,
        Place: observer.on_place,
        LiveImage: observer.on_image,
    }
    for each in seen:
        callbacks[type(each)](each)


def event(kind: EventKind, text: str = "", **facts: Any) -> Event:
    return Event("2026-11-21T10:00:00.000+00:00", kind, text, facts)


def image_of(config: AcquisitionConfig) -> Reconstruction:
    collector = EvidenceCollector(64, 0.0)
    index = np.arange(1, 64)
    plus, minus = np.random.default_rng(0).uniform(1e3, 2e3, (2, 63))
    collector.add(Readings(0, 1, 0.0, index, plus, minus, index.astype(np.float64), np.zeros((1, GUARD_PICTURES))))
    return reconstruct(collector.snapshot(), config)


def test_before_anything_is_told_the_run_is_being_prepared(config: AcquisitionConfig) -> None:
    state = ViewFeed(config).state()
    assert (state.state, state.run, state.title) == ("preparing", "unused.zarr", "HeLa")
    assert (state.pairs, state.pairs_total, state.left_s, state.quality, state.arrays) == (0, 0, None, None, ())
    assert state.sensing == "8 × 8 px, α = 1, S = 4, uniform mask"
    assert state.can_stop


def test_blocks_add_up_and_so_do_time_and_dose(config: AcquisitionConfig, schedule: Schedule, clock: Clock) -> None:
    feed = ViewFeed(config, clock)
    tell(feed, schedule, event(EventKind.STARTED), event(EventKind.DARK_LEVEL, level=50.0))
    clock.now_s += 3.0
    tell(feed, block(schedule, 0), block(schedule, 1))
    state = feed.state()
    assert state.state == "running"
    assert state.pairs == schedule.blocks[0].n_pairs + schedule.blocks[1].n_pairs
    assert (state.pairs_total, state.blocks, state.blocks_total) == (schedule.n_pairs, 2, len(schedule.blocks))
    assert state.elapsed_s == 3.0
    assert state.lit_exposures == 200
    assert state.dose_mj == pytest.approx(200 * 90e-6 * 2.0)
    assert state.dose_limit_mj == 9.0
    arrays = {array.name: array.values for array in state.arrays}
    assert arrays["counts"].sum() == state.pairs
    assert np.allclose(arrays["pair_sums"][:, 1], 700 + 300 - 2 * 50)


def test_whoever_looks_seldom_sees_the_same_as_who_looks_often(config: AcquisitionConfig, schedule: Schedule) -> None:
    often, seldom = ViewFeed(config), ViewFeed(config)
    for feed in (often, seldom):
        tell(feed, schedule, event(EventKind.STARTED))
        for number in range(len(schedule.blocks)):
            tell(feed, block(schedule, number, plus=700.0 + number))
            if feed is often:
                feed.state()
    for array, other in zip(often.state().arrays, seldom.state().arrays, strict=True):
        assert np.array_equal(array.values, other.values)


def test_nothing_piles_up_while_nobody_looks_and_frames_are_let_go_of(
    config: AcquisitionConfig, schedule: Schedule
) -> None:
    feed = ViewFeed(config)
    frames = np.zeros((100, 64, 64), dtype=np.uint16)
    tell(feed, schedule, event(EventKind.STARTED), block(schedule, 0, frames=frames))
    held = feed._came[-1]
    assert not any(each is frames for each in held[1])
    feed.keep_up()
    assert not feed._came
    assert feed.state().blocks == 1


def test_a_closed_view_keeps_nothing(config: AcquisitionConfig, schedule: Schedule) -> None:
    feed = ViewFeed(config)
    feed.close()
    tell(feed, schedule, event(EventKind.STARTED), block(schedule, 0), LiveImage(image_of(config), 0.0, 63, 0.1))
    assert not feed._came
    assert feed._newest_image is None


def test_only_what_changed_gets_a_new_revision(config: AcquisitionConfig, schedule: Schedule) -> None:
    feed = ViewFeed(config)
    tell(feed, schedule, event(EventKind.STARTED), block(schedule, 0), LiveImage(image_of(config), 0.0, 63, 0.1))

    def revisions() -> dict[str, int]:
        return {array.name: array.revision for array in feed.state().arrays}

    first = revisions()
    assert set(first) == {"image", "counts", "pair_sums"}
    assert revisions() == first
    tell(feed, block(schedule, 1))
    second = revisions()
    assert second["image"] == first["image"]
    assert second["counts"] != first["counts"]
    tell(feed, LiveImage(image_of(config), 1.0, 80, 0.2))
    third = revisions()
    assert third["image"] != second["image"]
    assert third["counts"] == second["counts"]


def test_the_image_shown_is_the_newest_as_it_was_made(config: AcquisitionConfig) -> None:
    feed, made = ViewFeed(config), image_of(config)
    with_uncertainty = replace(made, uncertainty=made.image + 1, predicted_mse=4.0)
    tell(feed, LiveImage(made, 0.0, 1, 0.5), LiveImage(with_uncertainty, 0.0, 63, 0.25))
    state = feed.state()
    arrays = {array.name: array.values for array in state.arrays}
    assert np.array_equal(arrays["image"], made.image.astype(np.float32))
    assert np.array_equal(arrays["uncertainty"], (made.image + 1).astype(np.float32))
    assert state.image_age_s == 0.25
    assert state.quality == f"predicted {10 * np.log10(made.image.max() ** 2 / 4.0):.1f} dB"


def test_numbers_that_are_none_do_not_reach_viewers(config: AcquisitionConfig) -> None:
    made = image_of(config)
    broken = made.image.copy()
    broken[0, :3] = np.nan, np.inf, 1e300
    feed = ViewFeed(config)
    tell(feed, LiveImage(replace(made, image=broken), 0.0, 63, 0.1))
    (image,) = feed.state().arrays
    assert np.isfinite(image.values).all()


def test_the_time_left_is_the_predicted_one_until_blocks_tell_better(
    config: AcquisitionConfig, schedule: Schedule, clock: Clock
) -> None:
    feed = ViewFeed(config, clock)
    predicted_s = predict_run_time(schedule, run_rates(config), config.blocks.dark_exposures).total_s
    tell(feed, schedule, event(EventKind.STARTED))
    assert feed.state().left_s == pytest.approx(predicted_s)
    for number in range(6):
        tell(feed, block(schedule, number))
        clock.now_s += 2.0
    clock.now_s -= 2.0  # the sixth came just now
    exposures = [each.n_exposures for each in schedule.blocks]
    done = sum(exposures[:6]) - exposures[0]  # of the first one nobody knows when it began
    left_s = feed.state().left_s
    assert left_s is not None
    assert left_s == pytest.approx(10.0 * sum(exposures[6:]) / done, rel=0.2)


def test_blocks_from_before_a_run_was_resumed_count_but_say_nothing_of_its_speed(
    config: AcquisitionConfig, schedule: Schedule, clock: Clock
) -> None:
    feed = ViewFeed(config, clock)
    tell(feed, schedule, event(EventKind.RESUMED, first_block=4, level=30.0))
    for number in range(4):
        tell(feed, block(schedule, number))  # at once: they are read, not played
    for number in range(4, 7):
        clock.now_s += 5.0
        tell(feed, block(schedule, number))
    state = feed.state()
    assert state.blocks == 7
    assert state.left_s is not None
    assert state.left_s > 5.0
    sums = next(array.values for array in state.arrays if array.name == "pair_sums")
    assert np.allclose(sums[:, 1], 1000 - 60)


def test_a_bench_without_a_pace_promises_no_time(config: AcquisitionConfig, schedule: Schedule) -> None:
    feed = ViewFeed(config.replace(bench=config.bench.model_copy(update={"pace": 0.0})))
    tell(feed, schedule, event(EventKind.STARTED))
    assert feed.state().left_s is None


def test_warnings_and_repeated_blocks_are_told_and_the_newest_hundred_kept(config: AcquisitionConfig) -> None:
    feed = ViewFeed(config)
    tell(feed, event(EventKind.BANK, "bank 1"), event(EventKind.BLOCK_REPEATED, "block 3: a trigger was lost"))
    for number in range(150):
        tell(feed, event(EventKind.WARNING, f"warning {number}"))
    state = feed.state()
    assert state.repeated == 1
    assert [remark.text for remark in state.warnings] == [f"warning {number}" for number in range(50, 150)]


def test_when_all_pairs_are_there_the_run_is_concluding(config: AcquisitionConfig, schedule: Schedule) -> None:
    feed = ViewFeed(config)
    tell(feed, schedule, event(EventKind.STARTED), *(block(schedule, each) for each in range(len(schedule.blocks))))
    assert feed.state().state == "concluding"


@pytest.mark.parametrize(
    ("error", "state", "cause"),
    [
        (None, "finished", None),
        (KeyboardInterrupt(), "stopped", "interrupted"),
        (KeyboardInterrupt("stopped in the live view"), "stopped", "stopped in the live view"),
        (OSError("no space left"), "failed", "OSError: no space left"),
    ],
)
def test_the_last_state_says_how_the_run_ended(
    config: AcquisitionConfig, clock: Clock, error: BaseException | None, state: str, cause: str | None
) -> None:
    feed = ViewFeed(config, clock)
    tell(feed, event(EventKind.STARTED))
    before = feed.state()
    feed.conclude(error)
    last = feed.state()
    assert (last.state, last.cause, last.can_stop, last.left_s) == (state, cause, False, None)
    assert last.version > before.version
    clock.now_s += 60.0
    assert feed.state() == last
    assert feed.stop() == "the run has ended"


def test_an_interruption_after_which_not_everything_could_be_put_to_rest_is_a_failure(
    config: AcquisitionConfig,
) -> None:
    feed, error = ViewFeed(config), KeyboardInterrupt()
    error.add_note("the light may be on")
    feed.conclude(error)
    assert (feed.state().state, feed.state().cause) == ("failed", "KeyboardInterrupt\nthe light may be on")


def test_where_nothing_is_under_way_nothing_is_stopped(config: AcquisitionConfig) -> None:
    feed = ViewFeed(config)
    why_not = feed.stop()
    assert why_not is not None
    assert "nothing is under way" in why_not
    assert not feed.state().stopping


def test_in_a_series_readings_begin_anew_and_the_image_stays_until_the_next_one(
    config: AcquisitionConfig, schedule: Schedule, clock: Clock
) -> None:
    feed = ViewFeed(config, clock)
    made = image_of(config)
    whole = [block(schedule, number) for number in range(len(schedule.blocks))]
    tell(feed, Place(0, 3, "t 1/3"), schedule, event(EventKind.STARTED), *whole, LiveImage(made, 0.0, 63, 0.1))
    clock.now_s += 10.0
    first = feed.state()
    assert (first.state, first.place) == ("running", Place(0, 3, "t 1/3"))
    tell(feed, event(EventKind.FINISHED), Place(1, 3, "t 2/3"), schedule, event(EventKind.STARTED))
    second = feed.state()
    arrays = {array.name: array.values for array in second.arrays}
    assert (second.place, second.pairs) == (Place(1, 3, "t 2/3"), 0)
    assert arrays["counts"].sum() == 0
    assert np.array_equal(arrays["image"], made.image.astype(np.float32))
    assert second.lit_exposures == first.lit_exposures
    assert second.left_s == pytest.approx(20.0)  # one of three took ten seconds
    assert second.dose_limit_mj is None  # it holds for each position
    tell(feed, Place(2, 3, "t 3/3"), schedule, event(EventKind.STARTED), *whole)
    last = feed.state()
    assert last.state == "concluding"
    assert last.lit_exposures == 2 * first.lit_exposures
