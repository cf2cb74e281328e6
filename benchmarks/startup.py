"""How long the command line takes to say what it can do, beside a bare interpreter."""

from __future__ import annotations

import subprocess
import sys
from statistics import median
from time import perf_counter

from benchmarks.row import Row

RUNS = 7
WANTED_S = 0.5


def rows() -> list[Row]:
    """``hadascope --help`` as a process, against 0.5 s and against ``python -c pass``; medians of interleaved runs."""
    times: dict[str, list[float]] = {"help": [], "bare": []}
    commands = {
        "help": [sys.executable, "-m", "acquisition.cli", "--help"],
        "bare": [sys.executable, "-c", "pass"],
    }
    for _ in range(RUNS):
        for name, command in commands.items():
            started = perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            times[name].append(perf_counter() - started)
    here, bare = median(times["help"]), median(times["bare"])
    return [
        Row("hadascope --help", f"{here:.2f} s", f"limit {WANTED_S:g} s", here / WANTED_S, "at most 1"),
        Row("hadascope --help", f"{here:.2f} s", f"bare interpreter {bare:.2f} s", here / bare, "for comparison"),
    ]
