"""A progress bar while the light is on, and the question before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from acquisition.config import AcquisitionConfig
from acquisition.events import Event, EventKind
from acquisition.live import LiveImage
from acquisition.observer import Observer
from acquisition.plan import dose_mj
from acquisition.readings import Readings
from acquisition.schedule import Schedule

_Result = TypeVar("_Result")


def watched(
    console: Console, config: AcquisitionConfig, doing: str, play: Callable[[Observer], _Result], *, ask: bool
) -> _Result:
    """What ``play`` returns, with a bar while it plays.

    doing: what the bar says; ask: before the first light on real devices. Raises what ``play`` raises.
    """
    if config.simulated:
        console.print("Simulated devices: a rehearsal, no hardware is touched.")
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("pairs"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[image]}"),
    )
    with Progress(*columns, console=console) as progress:
        return play(_on_bar(progress, config, doing, ask))


def _on_bar(progress: Progress, config: AcquisitionConfig, doing: str, ask: bool) -> Observer:
    bars: list[TaskID] = []

    def on_event(event: Event) -> None:
        if event.kind in (EventKind.BLOCK_REPEATED, EventKind.WARNING):
            progress.console.print(f"{event.kind}: {event.text}", highlight=False, markup=False)

    def confirm(n_exposures: int) -> bool:
        """Ask with the bar out of the way."""
        if not ask:
            return True
        progress.stop()
        dose = dose_mj(config, n_exposures)
        console = progress.console
        console.print(
            f"First light on real devices: {n_exposures:,} exposures"
            + ("" if dose is None else f", {dose:.4g} mJ on the sample")
        )
        try:
            said_yes = console.input("Go on? [y/N] ").strip().lower() in ("y", "yes")
        except EOFError:
            said_yes = False
        progress.start()
        return said_yes

    def on_schedule(schedule: Schedule) -> None:
        bars.append(progress.add_task(doing, total=schedule.n_pairs, image=""))

    def on_block(readings: Readings) -> None:
        progress.advance(bars[0], readings.n_pairs)

    def on_image(image: LiveImage) -> None:
        peak = float(image.reconstruction.image.max()) or 1.0
        progress.update(bars[0], image=image.reconstruction.said_of_quality(peak))

    return Observer(on_schedule, on_block, on_image, on_event, confirm=confirm)
