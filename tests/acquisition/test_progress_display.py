"""How far something is: a bar in a terminal, lines with the time of day in a log; warnings come out whole in both."""

from __future__ import annotations

import io
import threading
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from acquisition.observer import Place
from acquisition.progress_display import (
    LEAST_BETWEEN_LINES_S,
    MOST_BETWEEN_LINES_S,
    BarDisplay,
    LogDisplay,
    progress_display,
)
from tests.acquisition.consoles import Terminal, encoded, lines, pipe, terminal, written

LONG = "warning: " + "/".join(["a folder with a long name"] * 12)
STARTED = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)


class Clock:
    """Seconds, and the time of day, that go on when told."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def of_day(self) -> datetime:
        return STARTED + timedelta(seconds=self.now_s)


def log_of(console: Console, clock: Clock) -> LogDisplay:
    """A log that is written when the test says so."""
    return LogDisplay(console, "acquiring", "pairs", clock, clock.of_day, ticking=False)


def seconds_of(line: str) -> float:
    """When a line of the log was written."""
    return (datetime.fromisoformat(line[:25]) - STARTED).total_seconds()


@pytest.fixture(autouse=True)
def no_build_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)


def test_a_terminal_has_a_bar_and_a_pipe_has_lines() -> None:
    assert isinstance(progress_display(terminal(80), "acquiring", "pairs"), BarDisplay)
    assert isinstance(progress_display(pipe(FORCE_COLOR="1"), "acquiring", "pairs"), LogDisplay)
    dumb = Console(file=Terminal(), _environ={"TERM": "dumb"})
    assert isinstance(progress_display(dumb, "acquiring", "pairs"), LogDisplay)


@pytest.mark.parametrize("width", [6, 20, 40, 60, 80, 100, 200])
def test_nothing_that_a_bar_writes_wraps(width: int) -> None:
    console, clock = terminal(width), Clock()
    with BarDisplay(console, "acquiring", "pairs", clock) as display:
        for done in range(512, 2049, 512):
            clock.now_s += 1.0
            display.show(done, 4096)
            display.tell_quality("linear forecast 31.2 dB", "31.2 dB")
    assert max(map(len, lines(console))) <= width
    last = lines(console)[-1]
    assert "50 %" in last
    assert ("acquiring" in last) == (width >= 40)
    assert ("0:04 left" in last) == (width >= 40)
    assert ("2,048 of 4,096 pairs" in last) == (width >= 80)
    assert ("linear forecast" in last) == (width >= 100)


@pytest.mark.parametrize("width", [20, 40, 200])
def test_what_is_said_meanwhile_comes_out_whole_above_the_bar(width: int) -> None:
    console = terminal(width)
    with BarDisplay(console, "acquiring", "pairs") as display:
        display.show(1, 4)
        display.say(LONG)
        display.show(4, 4)
    shown = lines(console)
    assert LONG in shown
    assert "100 %" in shown[-1]
    assert "left" not in shown[-1]


def test_nothing_is_shown_before_anything_is_known() -> None:
    for console in (terminal(80), pipe()):
        with progress_display(console, "acquiring", "pairs"):
            pass
        assert written(console) == ""


def test_what_cannot_be_counted_yet_is_shown_as_going_on() -> None:
    console = terminal(80)
    with BarDisplay(console, "training", "steps") as display:
        display.begin()
    assert "training" in lines(console)[-1]
    assert "0 %" in lines(console)[-1]


def test_no_color_is_respected() -> None:
    for environ, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
        console = terminal(80, **environ)
        with BarDisplay(console, "acquiring", "pairs") as display:
            display.show(2, 4)
        assert ("\x1b[3" in written(console)) is coloured  # a colour of the foreground


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "cp437", "ascii"])
@pytest.mark.parametrize("is_terminal", [True, False])
def test_no_encoding_is_too_poor(encoding: str, is_terminal: bool) -> None:
    console, received = encoded(encoding, is_terminal=is_terminal)
    with progress_display(console, "acquiring", "pairs") as display:
        assert isinstance(display, BarDisplay) is is_terminal
        display.enter(Place(0, 2, "細胞, λ = 488 nm"))
        display.show(2, 4)
        display.tell_quality("± 3 µm²", "± 3 µm²")
        display.say("α × µ … ± ≤ 細胞")
    text = received.getvalue().decode(encoding)
    assert "25 %" in text
    if encoding == "ascii":
        assert "alpha x u ... +- <= ??" in text
    if is_terminal:
        assert ("━" in text) is (encoding == "utf-8")


def test_an_old_windows_console_has_a_bar_of_plain_signs() -> None:
    console = Console(file=Terminal(), width=80, height=25, force_terminal=True, legacy_windows=True, _environ={})
    with BarDisplay(console, "acquiring", "pairs") as display:
        display.show(2, 4)
    assert "acquiring  ------" in lines(console)[-1]
    assert written(console).isascii()


def test_a_question_is_asked_with_the_bar_out_of_the_way_and_its_time_does_not_count() -> None:
    console, clock = terminal(100), Clock()
    with BarDisplay(console, "acquiring", "pairs", clock) as display:
        display.show(1, 4, found=True)
        with display.put_aside() as asking:
            before = len(written(console))
            asking.print("Go on?")
            asked = written(console)[before:]
            clock.now_s += 1000.0
        for done in (2, 3):
            clock.now_s += 1.0
            display.show(done, 4)
        standing = display.standing()
    assert asked == "Go on?\n"
    assert standing.elapsed_s == pytest.approx(2.0)
    assert standing.left_s == pytest.approx(1.0)


def test_a_log_has_plain_lines_at_the_start_at_every_tenth_and_at_the_end() -> None:
    console, clock = pipe(FORCE_COLOR="1"), Clock()
    with log_of(console, clock) as display:
        display.show(0, 4000, found=True)
        for done in range(20, 4001, 20):
            clock.now_s += 0.3
            display.show(done, 4000)
            display.write_due()
        display.tell_quality("linear forecast 31.2 dB", "31.2 dB")
    assert "\x1b" not in written(console)
    shown = written(console).splitlines()
    assert shown[0] == "2026-11-21 09:30:00+00:00  acquiring  0 %  0 of 4,000 pairs"
    assert [line.split("  ")[2] for line in shown[1:-1]] == [f"{tenth}0 %" for tenth in range(1, 11)]
    assert shown[3] == "2026-11-21 09:30:18+00:00  acquiring  30 %  1,200 of 4,000 pairs  42 s left"
    assert shown[-1].endswith("acquiring  100 %  4,000 of 4,000 pairs  in 1 min 0 s  linear forecast 31.2 dB")


def test_a_fast_log_has_a_line_in_five_seconds() -> None:
    console, clock = pipe(), Clock()
    with log_of(console, clock) as display:
        for done in range(101):
            display.show(done, 100)
            display.write_due()
            clock.now_s += 0.125
    assert [seconds_of(line) for line in written(console).splitlines()] == [0, 5, 10, 12]


@given(st.lists(st.tuples(st.floats(0.01, 30.0), st.integers(0, 40)), min_size=1, max_size=60))
def test_lines_of_a_log_come_neither_too_often_nor_too_seldom(steps: list[tuple[float, int]]) -> None:
    console, clock = pipe(), Clock()
    with log_of(console, clock) as display:
        done = 0
        display.show(0, 1000)
        for wait_s, more in steps:
            clock.now_s += wait_s
            done = min(done + more, 1000)
            display.show(done, 1000)
            display.write_due()
    at = [seconds_of(line) for line in written(console).splitlines()]
    between = [later - earlier for earlier, later in pairwise(at[:-1])]  # the last says the end
    assert all(LEAST_BETWEEN_LINES_S - 1 <= gap <= MOST_BETWEEN_LINES_S + 31 for gap in between)
    assert clock.now_s - max(at[:-1]) <= MOST_BETWEEN_LINES_S + 1


def test_a_log_tells_every_minute_that_it_goes_on_though_nothing_comes() -> None:
    console, clock = pipe(), Clock()
    with log_of(console, clock) as display:
        display.show(1, 10)
        for _ in range(185):
            clock.now_s += 1.0
            display.write_due()
    assert [seconds_of(line) for line in written(console).splitlines()] == [0, 60, 120, 180, 185]


def test_what_is_said_in_a_log_is_a_line_with_its_time() -> None:
    console, clock = pipe(), Clock()
    with log_of(console, clock) as display:
        display.show(0, 10)
        clock.now_s = 3.0
        display.say(LONG)
        display.say("failed: no answer\nresume it")
    assert written(console).splitlines()[1:4] == [
        f"2026-11-21 09:30:03+00:00  {LONG}",
        "2026-11-21 09:30:03+00:00  failed: no answer",
        "    resume it",
    ]


def test_the_quality_of_an_image_is_not_said_of_the_next() -> None:
    console, clock = pipe(), Clock()
    with log_of(console, clock) as display:
        display.enter(Place(0, 2, "t 1/2"))
        display.show(4, 4)
        display.tell_quality("linear forecast 31.2 dB", "31.2 dB")
        display.enter(Place(1, 2, "t 2/2"))
        assert display.standing().quality == display.standing().quality_short == ""
        assert display.standing().percent == "50 %"


def test_a_log_says_where_it_ended_early() -> None:
    console, clock = pipe(), Clock()
    with pytest.raises(KeyboardInterrupt), log_of(console, clock) as display:
        display.show(3, 10)
        clock.now_s = 2.0
        raise KeyboardInterrupt
    assert written(console).splitlines()[-1].endswith("acquiring  ended at 30 %  3 of 10 pairs  after 2 s")


class Stuck(io.StringIO):
    """A pipe or a terminal that takes nothing until somebody reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.is_read = threading.Event()
        self.is_read.set()

    def write(self, text: str) -> int:
        assert self.is_read.wait(30)
        return super().write(text)


@pytest.mark.parametrize("display_of", [BarDisplay, LogDisplay])
def test_a_reader_that_hangs_keeps_nobody_waiting_and_gets_every_line_in_order(
    display_of: type[BarDisplay | LogDisplay],
) -> None:
    stuck = Stuck()
    console = Console(file=stuck, width=80, force_terminal=display_of is BarDisplay, _environ={})
    with display_of(console, "acquiring", "pairs") as display:
        display.show(0, 10)
        stuck.is_read.clear()
        for number in range(10):
            display.show(number, 10)
            display.say(f"warning: {number}")  # returns, though nothing can be written
        written_until_now = stuck.getvalue()
        stuck.is_read.set()
    assert "warning" not in written_until_now
    assert [line[-1] for line in lines(console) if "warning" in line] == [*"0123456789"]


class Full(io.StringIO):
    """A log file on a disk that is full once ``full`` is set."""

    full = False

    def write(self, text: str) -> int:
        if self.full:
            raise OSError(28, "No space left on device")
        return super().write(text)


def test_a_log_that_cannot_be_written_is_told_of_at_the_end() -> None:
    file = Full()
    with pytest.raises(OSError, match="No space left"), LogDisplay(_on(file), "acquiring", "pairs") as display:
        display.show(0, 10)
        file.full = True
        display.say("warning: something")


def test_a_log_that_cannot_be_written_hides_no_other_failure() -> None:
    file = Full()
    with pytest.raises(KeyboardInterrupt), LogDisplay(_on(file), "acquiring", "pairs") as display:
        display.show(0, 10)
        file.full = True
        raise KeyboardInterrupt


def _on(file: io.StringIO) -> Console:
    return Console(file=file, _environ={})
