"""The CSV log of a training, one line an epoch."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models.learning.training import EpochReport


@dataclass(frozen=True)
class LoggedEpoch:
    """A line: number from 1, mean loss, scores on validation by name, whether it was the best so far."""

    epoch: int
    loss: float
    scores: dict[str, float]
    best: bool


def append_epoch(path: Path, report: EpochReport) -> None:
    """Add a line; the first one brings the heading: epoch, seconds, loss, every score, best (1 or 0)."""
    line = {
        "epoch": report.epoch,
        "seconds": f"{report.seconds:.1f}",
        "loss": f"{report.loss:.6g}",
        **{name: f"{value:.6g}" for name, value in report.scores.items()},
        "best": int(report.best),
    }
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(line))
        if new:
            writer.writeheader()
        writer.writerow(line)


def keep_epochs(path: Path, epochs: int) -> None:
    """Drop the lines of epochs after the first ``epochs``: those that a checkpoint does not hold."""
    if not path.exists():
        return
    if epochs == 0:
        path.unlink()
        return
    with path.open(newline="", encoding="utf-8") as file:
        lines = file.readlines()
    beside = path.with_name(f"{path.name}.new")
    beside.write_text("".join(lines[: epochs + 1]), encoding="utf-8", newline="")
    beside.replace(path)


def read_log(path: Path) -> list[LoggedEpoch]:
    """All lines, in their order; none where there is no log."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    return [
        LoggedEpoch(
            epoch=int(line["epoch"]),
            loss=float(line["loss"]),
            scores={name: float(value) for name, value in line.items() if name not in _OWN},
            best=line["best"] == "1",
        )
        for line in lines
    ]


_OWN = ("epoch", "seconds", "loss", "best")
