"""What people see of runs, series and their questions, in a terminal and in a log."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from acquisition.bank import Block
from acquisition.config import AcquisitionConfig
from acquisition.connect import sample_on_stage
from acquisition.events import Event, EventKind
from acquisition.observer import Observer, Place
from acquisition.progress import shown_on, watched
from acquisition.progress_display import LogDisplay
from acquisition.readings import Readings
from acquisition.run import acquire, resume
from acquisition.schedule import Schedule
from acquisition.sensing_plan import plan_sensing
from tests.acquisition.consoles import lines, pipe, terminal, written
from tests.acquisition.rehearsal import small_config
from tests.acquisition.test_progress_display import Clock

pytestmark = pytest.mark.usefixtures("no_build_server")


@pytest.fixture
def no_build_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr("acquisition.run.draw_result", lambda *_: None)


@pytest.fixture
def config(tmp_path: Path) -> AcquisitionConfig:
    """63 pairs in blocks of 16 at most."""
    return small_config(output={"run": str(tmp_path / "run.zarr")}, blocks={"longest_block_s": 0.006})


def schedule_of(config: AcquisitionConfig) -> Schedule:
    return plan_sensing(config, sample_on_stage(config)).schedule


def readings_of(block: Block) -> Readings:
    nothing = np.zeros(block.n_pairs)
    return Readings(block.number, 1, 0.0, block.coefficients, nothing, nothing, nothing, np.zeros((1, 4)))


def told(kind: EventKind, text: str = "", **facts: int) -> Event:
    return Event("2026-11-21T09:30:00.000+00:00", kind, text, dict(facts))


class Log:
    """A log of a run that the test plays by hand, a second a block."""

    def __init__(self, config: AcquisitionConfig) -> None:
        self.console, self.clock = pipe(), Clock()
        self.display = LogDisplay(self.console, "acquiring", "pairs", self.clock, self.clock.of_day, ticking=False)
        self.observer = shown_on(self.display, config, ask=False)

    def plan(self, schedule: Schedule) -> None:
        assert self.observer.on_schedule is not None
        self.observer.on_schedule(schedule)

    def hear(self, event: Event) -> None:
        assert self.observer.on_event is not None
        self.observer.on_event(event)

    def arrive(self, number: int, total: int) -> None:
        assert self.observer.on_place is not None
        self.observer.on_place(Place(number, total, f"t {number + 1}/{total}"))

    def read(self, block: Block, seconds: float = 1.0) -> None:
        assert self.observer.on_block is not None
        self.clock.now_s += seconds
        self.observer.on_block(readings_of(block))


@pytest.mark.parametrize("width", [20, 40, 80, 120])
def test_a_run_in_a_terminal_never_wraps(config: AcquisitionConfig, width: int) -> None:
    console = terminal(width)
    result = watched(console, config, "acquiring", lambda observer: acquire(config, observer=observer), ask=True)
    shown = lines(console)
    assert " ".join(shown).startswith("Simulated devices: a rehearsal, no hardware is touched. ")
    assert max(map(len, shown)) <= width
    assert "100 %" in shown[-1]
    if width == 120:
        assert "63 of 63 pairs" in shown[-1]
    assert result.run == config.output.run


def test_a_run_in_a_log_has_a_line_at_its_start_and_one_at_its_end(config: AcquisitionConfig) -> None:
    console = pipe()
    watched(console, config, "acquiring", lambda observer: acquire(config, observer=observer), ask=True)
    _, first, *_, last = written(console).splitlines()
    assert first.endswith("  acquiring  0 %  0 of 63 pairs")
    assert "  acquiring  100 %  63 of 63 pairs  in " in last
    assert "\x1b" not in written(console)


def test_a_resumed_run_counts_on_from_what_is_stored(config: AcquisitionConfig) -> None:
    def stop(readings: Readings) -> None:
        if readings.block_number == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        acquire(config, observer=Observer(on_block=stop))
    console = pipe()
    watched(console, config, "acquiring", lambda observer: resume(config.output.run, observer=observer), ask=True)
    assert "63 of 63 pairs" in written(console).splitlines()[-1]


def test_the_time_left_of_a_resumed_run_is_not_fooled_by_what_is_read_back(config: AcquisitionConfig) -> None:
    schedule, log = schedule_of(config), Log(config)
    n_blocks = len(schedule.blocks)
    assert n_blocks >= 4
    log.plan(schedule)
    log.hear(told(EventKind.RESUMED, first_block=n_blocks - 2))
    for block in schedule.blocks[:-2]:
        log.read(block, 1e-3)
    assert log.display.standing().left_s is None
    log.read(schedule.blocks[-2], 10.0)
    left_s = log.display.standing().left_s
    assert left_s == pytest.approx(10.0 * schedule.blocks[-1].n_pairs / schedule.blocks[-2].n_pairs, rel=0.01)


def test_a_series_is_one_display_of_all_its_images(config: AcquisitionConfig) -> None:
    schedule, log = schedule_of(config), Log(config)
    for number in range(3):
        log.arrive(number, 3)
        log.plan(schedule)
        log.hear(told(EventKind.STARTED))
        for block in schedule.blocks:
            log.read(block)
            log.display.write_due()
        standing = log.display.standing()
        assert standing.percent == ("33 %", "66 %", "100 %")[number]
        assert standing.counts == "63 of 63 pairs"
        if number == 1:
            assert standing.left_s == pytest.approx(len(schedule.blocks), rel=0.25)
    shown = written(log.console).splitlines()
    assert "  acquiring  0 %  1/3 t 1/3" in shown[0]
    assert any("  2/3 t 2/3  " in line for line in shown)


def test_an_image_of_a_series_after_one_that_was_resumed_is_played_from_its_first_block(
    config: AcquisitionConfig,
) -> None:
    schedule, log = schedule_of(config), Log(config)
    n_blocks = len(schedule.blocks)
    for number, event in ((1, told(EventKind.RESUMED, first_block=n_blocks)), (2, told(EventKind.STARTED))):
        log.arrive(number, 3)
        log.plan(schedule)
        log.hear(event)
        for block in schedule.blocks[:2]:
            log.read(block)
        assert (log.display.standing().left_s is None) == (number == 1)


def test_warnings_and_repeated_blocks_are_lines_of_their_own(config: AcquisitionConfig) -> None:
    log = Log(config)
    for kind in EventKind:
        log.hear(told(kind, "[bold]what it is[/bold]"))
    assert [line[27:] for line in written(log.console).splitlines()] == [
        "block-repeated: [bold]what it is[/bold]",
        "warning: [bold]what it is[/bold]",
    ]


@pytest.mark.parametrize(("answer", "said_yes"), [("y", True), ("Yes ", True), ("", False), ("n", False)])
@pytest.mark.parametrize("width", [None, 80])
def test_the_question_before_the_first_light(
    config: AcquisitionConfig, monkeypatch: pytest.MonkeyPatch, answer: str, said_yes: bool, width: int | None
) -> None:
    console = pipe() if width is None else terminal(width)
    schedule, asked = schedule_of(config), []

    def play(observer: Observer) -> bool:
        assert observer.on_schedule is not None
        assert observer.confirm is not None
        observer.on_schedule(schedule)
        asked.append(lines(console)[-1])
        return observer.confirm(1200)

    monkeypatch.setattr("builtins.input", lambda *_: answer)
    assert watched(console, config, "acquiring", play, ask=True) is said_yes
    assert "0 of 63 pairs" in asked[0]
    assert any("First light on real devices: 1,200 exposures" in line for line in lines(console))
    assert watched(Console(quiet=True), config, "acquiring", play, ask=False) is True


def test_the_end_of_the_input_is_a_no(config: AcquisitionConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(*_: object) -> str:
        raise EOFError

    monkeypatch.setattr("builtins.input", ended)

    def play(observer: Observer) -> bool:
        assert observer.confirm is not None
        return observer.confirm(5)

    assert watched(pipe(), config, "acquiring", play, ask=True) is False
