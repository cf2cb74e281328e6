"""A table of figures in the terminal."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text


class Figures:
    """A table of two columns, what and figure, in which nothing is taken for markup."""

    def __init__(self, title: str) -> None:
        self._table = Table("what", "figure", title=Text(title), title_justify="left", show_header=False)

    def add_row(self, what: str, figure: str) -> None:
        """One more figure."""
        self._table.add_row(Text(what), Text(figure))

    def __rich__(self) -> Table:
        return self._table
