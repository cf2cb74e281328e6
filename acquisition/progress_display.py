"""Shows how far something is, while it goes on: a bar in a terminal, lines in anything else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from datetime import datetime
from types import TracebackType
from typing import Self

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.segment import Segment

from acquisition.line_writer import LineWriter
from acquisition.observer import Place
from acquisition.progress_line import Standing, fitted, last_log_line, log_line
from acquisition.terminal import at_a_terminal, in_one_line
from acquisition.time_left import TimeLeft

# Lines of a log come at every tenth of the whole, but not more often than this, and at least as often as that.
LEAST_BETWEEN_LINES_S = 5.0
MOST_BETWEEN_LINES_S = 60.0
_REFRESHES_PER_S = 5.0


def progress_display(console: Console, doing: str, unit: str) -> ProgressDisplay:
    """The display that suits what the console writes to. doing: what goes on; unit: what is counted."""
    if at_a_terminal(console):
        return BarDisplay(console, doing, unit)
    return LogDisplay(console, doing, unit)


class ProgressDisplay:
    """How far something is, to be shown from ``with`` to its end. Safe to use from several threads.

    Nothing is shown before ``begin`` or the first counts. What is shown and said from then on is written by threads of
    its own, so that nobody waits for a reader. clock: seconds that never go back. ticking: without it there is no
    thread for what is said and due.
    """

    def __init__(
        self,
        console: Console,
        doing: str,
        unit: str,
        clock: Callable[[], float] = time.monotonic,
        *,
        ticking: bool = True,
    ) -> None:
        self._console = console
        self._clock = clock
        self._lock = threading.RLock()
        self._standing = Standing(doing, unit)
        self._left = TimeLeft()
        self._begun_s: float | None = None
        self._lines = LineWriter(console, self._add_due, threaded=ticking)

    def __enter__(self) -> Self:
        self._lines.start()
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None) -> None:
        self._lines.stop()
        # What ended it says more than a console that cannot be written to.
        with nullcontext() if error is None else suppress(OSError):
            if self._begun_s is not None:
                self._end(ended_early=error is not None)
            self._lines.flush()

    def begin(self) -> None:
        """Show that it goes on, though nothing can be counted yet. Idempotent."""
        if self._begun_s is None:
            self._begun_s = self._clock()
            self._begin()

    def enter(self, place: Place) -> None:
        """From now on the counts are of this image of a series."""
        with self._lock:
            place = replace(place, name=in_one_line(place.name))
            self._standing = replace(self._standing, place=place, done=0, total=None, quality="", quality_short="")
            self._left.found(self._standing.share, self._clock())
        self.begin()

    def show(self, done: int, total: int, *, found: bool = False) -> None:
        """So much is done; found: some of it was there already, and says nothing of the speed."""
        with self._lock:
            self._standing = replace(self._standing, done=done, total=total)
            note = self._left.found if found else self._left.reached
            note(self._standing.share, self._clock())
        self.begin()

    def tell_quality(self, quality: str, short: str) -> None:
        """What came out so far; short: the same in few columns."""
        with self._lock:
            self._standing = replace(self._standing, quality=in_one_line(quality), quality_short=in_one_line(short))

    def say(self, text: str) -> None:
        """A line of its own, whole; returns before it is written."""
        raise NotImplementedError

    @contextmanager
    def put_aside(self) -> Iterator[Console]:
        """The console for a question, with nothing else written meanwhile; its time counts nowhere."""
        asked_s = self._clock()
        with self._lines.held(), self._aside():
            yield self._console
        with self._lock:
            answered_s = self._clock()
            self._left.passed_over(answered_s)
            if self._begun_s is not None:
                self._begun_s += answered_s - asked_s

    def standing(self) -> Standing:
        """How far it is now."""
        with self._lock:
            now_s = self._clock()
            return replace(
                self._standing,
                elapsed_s=0.0 if self._begun_s is None else now_s - self._begun_s,
                left_s=self._left.seconds(now_s) if self._standing.share < 1 else None,
            ).showable(self._console.encoding)

    def _begin(self) -> None:
        raise NotImplementedError

    def _end(self, *, ended_early: bool) -> None:
        raise NotImplementedError

    @contextmanager
    def _aside(self) -> Iterator[None]:
        yield

    def _add_due(self) -> None:
        """Add the lines that are due by now."""


class BarDisplay(ProgressDisplay):
    """One line that is written over and over, never wider than the terminal; what is said scrolls away above it."""

    def __init__(self, console: Console, doing: str, unit: str, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(console, doing, unit, clock)
        self._live = Live(
            console=console, get_renderable=lambda: _Bar(self.standing()), refresh_per_second=_REFRESHES_PER_S
        )

    def say(self, text: str) -> None:
        """A line of its own above the bar, as long as it is."""
        self._lines.add(text)

    def _begin(self) -> None:
        self._live.start(refresh=True)

    def _end(self, *, ended_early: bool) -> None:  # noqa: ARG002  # the bar shows where it ended
        try:
            self._lines.flush()
        finally:
            self._live.stop()

    @contextmanager
    def _aside(self) -> Iterator[None]:
        shown = self._live.is_started
        self._live.stop()
        try:
            yield
        finally:
            if shown:
                self._live.start(refresh=True)


class LogDisplay(ProgressDisplay):
    """Lines with the time of day, without control codes: at the start, every tenth or minute, and at the end.

    ticking: without it only ``write_due`` and ``say`` write. now: the time of day.
    """

    def __init__(
        self,
        console: Console,
        doing: str,
        unit: str,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now().astimezone(),
        *,
        ticking: bool = True,
    ) -> None:
        super().__init__(console, doing, unit, clock, ticking=ticking)
        self._now = now
        self._newest: tuple[float, int] | None = None

    def say(self, text: str) -> None:
        """A line of the log, as long as it is; further lines of the same text are indented."""
        self._add(text.replace("\n", "\n    "))

    def write_due(self) -> None:
        """Write what was said, and how far it is where that is due."""
        self._add_due()
        self._lines.flush()

    def _begin(self) -> None:
        self._add_standing(self.standing())
        self._lines.flush()

    def _end(self, *, ended_early: bool) -> None:
        self._add(last_log_line(self.standing(), ended_early=ended_early))

    def _add_due(self) -> None:
        with self._lock:
            if self._begun_s is None or self._newest is None:
                return
            standing, now_s = self.standing(), self._clock()
            newest_s, tenth = self._newest
            silent_s = now_s - newest_s
            if silent_s >= MOST_BETWEEN_LINES_S or (silent_s >= LEAST_BETWEEN_LINES_S and _tenth(standing) != tenth):
                self._add_standing(standing)

    def _add_standing(self, standing: Standing) -> None:
        self._newest = self._clock(), _tenth(standing)
        self._add(log_line(standing))

    def _add(self, text: str) -> None:
        self._lines.add(f"{self._now().isoformat(sep=' ', timespec='seconds')}  {text}")


class _Bar:
    """One line of a terminal."""

    def __init__(self, standing: Standing) -> None:
        self._standing = standing

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        line = fitted(self._standing, options.max_width)
        gap = Segment(" " * line.gap)
        parts = [[Segment(text, console.get_style(style) if style else None)] for text, style in line.texts]
        if line.bar:
            total = 1.0 if self._standing.total else None
            bar = ProgressBar(total, self._standing.share, width=line.bar)
            drawn = console.render(bar, options.update(width=line.bar))
            parts.insert(line.bar_at, Segment.adjust_line_length(list(drawn), line.bar))
        for number, part in enumerate(parts):
            if number:
                yield gap
            yield from part


def _tenth(standing: Standing) -> int:
    return int(10 * standing.share + 1e-6)
