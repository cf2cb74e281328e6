"""Figures of one thing, for people: a table in a terminal, plain lines in anything else."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from acquisition.terminal import at_a_terminal, showable
from calibration.estimate import Estimate

# Lines and blanks of a table of two columns.
_FRAME = 7


def interval(estimate: Estimate, scale: float = 1.0) -> str:
    """A number and its 95 % interval, times ``scale``, with as many digits as the interval's width makes sense of."""
    value, low, high = (None if end is None else scale * end for end in (estimate.value, estimate.low, estimate.high))
    assert value is not None
    ends = [end for end in (value, low, high) if end is not None]
    width = max(ends) - min(ends)
    decimals = 3 - math.ceil(math.log10(width)) if width > 0 else 3

    def shown(number: float) -> str:
        return f"{number:.{max(decimals, 0)}f}" if -3 < decimals < 7 else f"{number:.4g}"

    if low is None and high is None:
        return shown(value)
    if low is None or high is None:
        side = f"below {shown(high)}" if high is not None else f"above {shown(low or 0.0)}"
        return f"{shown(value)} ({side} with 95 % confidence)"
    return f"{shown(value)} (95 %: {shown(low)} to {shown(high)})"


def print_warnings(console: Console, warnings: Iterable[str]) -> None:
    """Print what there is to warn of, a line each, whole."""
    for warning in warnings:
        console.print(f"warning: {warning}", highlight=False, markup=False, soft_wrap=True)


class Figures:
    """Two columns, what and figure, in which nothing is taken for markup.

    A table in a terminal that is wide enough for every word; in a narrower one each figure stands below what it is. For
    pipes and log files there is a line each, without a frame and of any length: what, two blanks or more, figure.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._rows: list[tuple[str, str]] = []

    def add_row(self, what: str, figure: str) -> None:
        """One more figure."""
        self._rows.append((what, figure))

    def print_to(self, console: Console) -> None:
        """Print them with lines as long as they need to be: ``console.print`` alone folds those of long paths."""
        console.print(self, soft_wrap=True)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        title = showable(self._title, options.encoding)
        rows = [(showable(what, options.encoding), showable(figure, options.encoding)) for what, figure in self._rows]
        whole = options.overflow == "ignore"
        yield _line(title, whole, "table.title")
        if not at_a_terminal(console):
            for line in _plain_lines(rows):
                yield _line(line, whole)
        elif (widths := _table_widths(rows, options.max_width)) is not None:
            yield _table(rows, *widths)
        else:
            for what, figure in rows:
                yield _line(what, whole, "bold")
                for line in _wrapped(figure, options.max_width - 2):
                    yield _line(f"  {line}", whole)


def _line(text: str, whole: bool, style: str = "") -> Text:
    return Text(text, style=style, no_wrap=whole, overflow="ignore" if whole else "fold")


def _plain_lines(rows: list[tuple[str, str]]) -> Iterator[str]:
    width = max((cell_len(what) for what, _ in rows), default=0)
    for what, figure in rows:
        first, *further = figure.splitlines() or [""]
        yield f"{what}{' ' * (width - cell_len(what))}  {first}".rstrip()
        yield from (f"{' ' * width}  {line}".rstrip() for line in further)


def _table_widths(rows: list[tuple[str, str]], width: int) -> tuple[int, int] | None:
    """Columns for what and for figure, so that no word is cut; None where they do not fit beside each other."""
    room = width - _FRAME
    whats, figures = ([row[column] for row in rows] for column in (0, 1))
    longest_what, longest_figure = _longest(whats, str.splitlines), _longest(figures, str.splitlines)
    what_word, figure_word = _longest(whats, str.split), max(_longest(figures, str.split), 1)
    if longest_what + longest_figure <= room:
        return longest_what, longest_figure
    if what_word + figure_word > room:
        return None
    # The figures get what they can use, at least half; what they are is wrapped first where that is too little.
    for_what = min(longest_what, max(what_word, min(room // 2, room - figure_word)))
    return for_what, min(longest_figure, room - for_what)


def _table(rows: list[tuple[str, str]], for_what: int, for_figure: int) -> Table:
    table = Table(show_header=False)
    for width in (for_what, for_figure):
        table.add_column(width=width, no_wrap=True)
    for row in rows:
        cells = zip(row, (for_what, for_figure), strict=True)
        table.add_row(*(Text("\n".join(_wrapped(cell, width))) for cell, width in cells))
    return table


def _wrapped(text: str, width: int) -> Iterator[str]:
    """The lines of a text, cut between words where they are wider than ``width`` columns; never in a word.

    Not left to the table, which loses signs of two columns at the end of a line.
    """
    for whole in text.splitlines():
        if cell_len(whole) <= width:
            yield whole
            continue
        line = ""
        for word in whole.split():
            if line and cell_len(line) + 1 + cell_len(word) > width:
                yield line
                line = word
            else:
                line = f"{line} {word}".lstrip()
        yield line


def _longest(texts: list[str], parts: Callable[[str], list[str]]) -> int:
    return max((cell_len(part) for text in texts for part in parts(text)), default=0)
