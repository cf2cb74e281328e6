"""The runs of a folder in the terminal: a table of as many columns as there is room for, or all of them in a log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from acquisition.catalogue import Record
from acquisition.terminal import at_a_terminal, in_one_line, showable

# Blanks between columns, and what a folded name may be narrowed to.
_GAP = 2
_SHORTEST_NAME = 20


@dataclass(frozen=True)
class _Column:
    """A column: its head, its cells, and how early it gives way where there is no room; 0: never."""

    head: str
    cell: Callable[[Record], str]
    gives_way: int = 0
    is_number: bool = True

    @property
    def stacked_head(self) -> str:
        """The head with its unit below."""
        what, _, unit = self.head.rpartition(" ")
        return f"{what}\n{unit}" if what else unit


def print_catalogue(folder: Path, records: list[Record], console: Console | None = None) -> None:
    """Print the runs of a folder, then what is wrong with the damaged ones."""
    console = Console() if console is None else console
    encoding = console.encoding
    heading = f"{len(records)} {'record' if len(records) == 1 else 'records'} in {folder}"
    _say(console, in_one_line(heading))
    if at_a_terminal(console):
        chosen = _that_fit(records, console.width, encoding)
        console.print(_table(records, chosen, encoding))
        if left_out := [column.head for column in _COLUMNS if column not in chosen]:
            _say(console, f"no room for: {', '.join(left_out)} (a wider terminal shows them, or --json)")
    else:
        for line in _plain_lines(records, encoding):
            _say(console, line)
    for record in records:
        if record.damage is not None:
            _say(console, in_one_line(f"damaged: {record.path}: {record.damage}"))


def _say(console: Console, text: str) -> None:
    console.print(showable(text, console.encoding), highlight=False, markup=False, soft_wrap=True)


def _that_fit(records: list[Record], width: int, encoding: str) -> list[_Column]:
    """The columns that can stand beside each other, the name of a run being folded if need be."""
    chosen = list(_COLUMNS)

    def needed() -> int:
        widths = [_width(column, records, encoding) for column in chosen]
        return sum(widths) - widths[0] + min(widths[0], _SHORTEST_NAME) + _GAP * (len(chosen) - 1)

    while needed() > width and any(column.gives_way for column in chosen):
        chosen.remove(max(chosen, key=lambda column: column.gives_way))
    return chosen


def _width(column: _Column, records: list[Record], encoding: str) -> int:
    texts = (*column.stacked_head.splitlines(), *map(column.cell, records))
    return max(cell_len(showable(text, encoding)) for text in texts)


def _table(records: list[Record], columns: list[_Column], encoding: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for column in columns:
        head = Text(showable(column.stacked_head, encoding))
        if column is columns[0]:
            table.add_column(head, overflow="fold")
        else:
            table.add_column(head, no_wrap=True, justify="right" if column.is_number else "left")
    for record in records:
        table.add_row(*(Text(showable(column.cell(record), encoding)) for column in columns))
    return table


def _plain_lines(records: list[Record], encoding: str) -> Iterator[str]:
    """All columns, aligned by blanks, lines as long as they need to be."""
    rows = [[column.head for column in _COLUMNS], *([column.cell(each) for column in _COLUMNS] for each in records)]
    rows = [[showable(cell, encoding) for cell in row] for row in rows]
    widths = [max(map(cell_len, cells)) for cells in zip(*rows, strict=True)]
    for row in rows:
        padded = (
            " " * (width - cell_len(cell)) + cell if column.is_number else cell + " " * (width - cell_len(cell))
            for cell, width, column in zip(row, widths, _COLUMNS, strict=True)
        )
        yield (" " * _GAP).join(padded).rstrip()


def _state(record: Record) -> str:
    return "damaged" if record.damage is not None else record.state or "—"


def _held(record: Record) -> str:
    held = (record.holds or "—").removeprefix("an ").removeprefix("a ")
    return f"{held}, simulated" if record.simulated else held


def _pairs(record: Record) -> str:
    if record.events is not None:
        return f"{record.events_finished}/{record.events} events"
    if record.pairs is None:
        return "—"
    return (
        f"{record.pairs:,}"
        if record.pairs == record.pairs_scheduled
        else f"{record.pairs:,}/{record.pairs_scheduled:,}"
    )


def _shown(number: float | None, form: str) -> str:
    return "—" if number is None else format(number, form)


_COLUMNS = (
    _Column("run", lambda record: in_one_line(record.path), is_number=False),
    _Column("state", _state, is_number=False),
    _Column("holds", _held, gives_way=9, is_number=False),
    _Column("n", lambda record: _shown(record.side, "d"), gives_way=1),
    _Column("α", lambda record: _shown(record.alpha, "g"), gives_way=4),
    _Column("S", lambda record: _shown(record.repeats, "d"), gives_way=5),
    _Column("pairs", _pairs, gives_way=2),
    _Column("dose mJ", lambda record: _shown(record.dose_mj, ".4g"), gives_way=6),
    _Column("forecast dB", lambda record: _shown(record.forecast_psnr_db, ".1f"), gives_way=7),
    _Column("split half dB", lambda record: _shown(record.split_half_psnr_db, ".1f"), gives_way=3),
    _Column("started", lambda record: (record.started or "—")[:16].replace("T", " "), gives_way=8, is_number=False),
)
