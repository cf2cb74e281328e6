"""A table of figures in the terminal."""

from __future__ import annotations

import math

from rich.table import Table
from rich.text import Text

from calibration.estimate import Estimate


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


class Figures:
    """A table of two columns, what and figure, in which nothing is taken for markup."""

    def __init__(self, title: str) -> None:
        self._table = Table("what", "figure", title=Text(title), title_justify="left", show_header=False)

    def add_row(self, what: str, figure: str) -> None:
        """One more figure."""
        self._table.add_row(Text(what), Text(figure))

    def __rich__(self) -> Table:
        return self._table
