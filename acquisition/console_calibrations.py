"""What a calibration looks like in the terminal: its figures, its verdict, and where it was written."""

from __future__ import annotations

from rich.console import Console

from acquisition.calibrated import Calibrated
from acquisition.figures import Figures


def print_calibration(made: Calibrated) -> bool:
    """Print a calibration; whether acquisitions may rely on it."""
    console = Console()
    table = Figures(made.title)
    for what, figure in made.rows():
        table.add_row(what, figure)
    for what, path in (("file", made.output.file), ("raw readings", made.output.raw), ("plot", made.output.picture)):
        table.add_row(what, str(path))
    table.print_to(console)
    for note in made.notes:
        console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
    for reason in made.reasons:
        console.print(f"not usable: {reason}", highlight=False, markup=False, soft_wrap=True)
    if not made.reasons:
        console.print("usable")
    return not made.reasons
