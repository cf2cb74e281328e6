"""Print the speed table: ``python -m benchmarks`` (or some modules of it: ``python -m benchmarks transform store``)."""

from __future__ import annotations

import os
import platform
import sys
from importlib import import_module

from benchmarks.row import Row

MODULES = (
    "transform",
    "pictures",
    "frames",
    "schedule",
    "store",
    "startup",
    "memory",
    "light",
    "calibration",
    "image_noise",
    "self_check",
    "reconstruction",
    "learning",
    "live_view",
)


def main(names: list[str]) -> None:
    """Measure the named modules, all by default, and print a Markdown table."""
    unknown = sorted(set(names) - set(MODULES))
    if unknown:
        raise SystemExit(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(MODULES)}")
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()}\n")
    print("| what | here | peer or limit | ratio | wanted |")
    print("|---|---|---|---|---|")
    for name in names or MODULES:
        rows: list[Row] = import_module(f"benchmarks.{name}").rows()
        for row in rows:
            print(f"| {row.what} | {row.here} | {row.peer} | {row.ratio:.3g} | {row.target} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
