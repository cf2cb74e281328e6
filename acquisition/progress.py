"""What people see while the light is on, and the question before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from rich.console import Console

from acquisition.config import AcquisitionConfig
from acquisition.events import Event, EventKind
from acquisition.live import LiveImage
from acquisition.observer import Observer
from acquisition.plan import dose_mj
from acquisition.progress_display import ProgressDisplay, progress_display
from acquisition.readings import Readings
from acquisition.reconstruction import psnr_of
from acquisition.schedule import Schedule

_Result = TypeVar("_Result")


def watched(
    console: Console, config: AcquisitionConfig, doing: str, play: Callable[[Observer], _Result], *, ask: bool
) -> _Result:
    """What ``play`` returns, with a display of how far it is while it plays.

    doing: what the display says; ask: before the first light on real devices. Raises what ``play`` raises.
    """
    if config.simulated:
        console.print("Simulated devices: a rehearsal, no hardware is touched.")
    with progress_display(console, doing, "pairs") as display:
        return play(shown_on(display, config, ask=ask))


def shown_on(display: ProgressDisplay, config: AcquisitionConfig, *, ask: bool) -> Observer:
    """An observer that shows a run, or a series of them, on a display."""
    watcher = _Watcher(display, config, ask)
    return Observer(
        watcher.on_schedule,
        watcher.on_block,
        watcher.on_image,
        watcher.on_event,
        on_place=display.enter,
        confirm=watcher.confirm,
    )


class _Watcher:
    """Turns what an observer is called with into what a display shows."""

    def __init__(self, display: ProgressDisplay, config: AcquisitionConfig, ask: bool) -> None:
        self._display = display
        self._config = config
        self._ask = ask
        self._done = self._total = self._first_played = 0

    def on_schedule(self, schedule: Schedule) -> None:
        self._done, self._total = 0, schedule.n_pairs
        self._display.show(0, self._total, found=True)

    def on_block(self, readings: Readings) -> None:
        self._done += readings.n_pairs
        self._display.show(self._done, self._total, found=readings.block_number < self._first_played)

    def on_image(self, image: LiveImage) -> None:
        reconstruction = image.reconstruction
        peak = float(reconstruction.image.max()) or 1.0
        short = f"{psnr_of(reconstruction.expected_mse, peak):.1f} dB"
        self._display.tell_quality(reconstruction.said_of_quality(peak), short)

    def on_event(self, event: Event) -> None:
        if event.kind in (EventKind.STARTED, EventKind.RESUMED):
            # Blocks before it are told of, too, as they are read back from the run.
            self._first_played = int(event.facts.get("first_block", 0))
        elif event.kind in (EventKind.BLOCK_REPEATED, EventKind.WARNING):
            self._display.say(f"{event.kind}: {event.text}")

    def confirm(self, n_exposures: int) -> bool:
        """Ask with the display out of the way."""
        if not self._ask:
            return True
        dose = dose_mj(self._config, n_exposures)
        with self._display.put_aside() as console:
            console.print(
                f"First light on real devices: {n_exposures:,} exposures"
                + ("" if dose is None else f", {dose:.4g} mJ on the sample"),
                soft_wrap=True,
            )
            try:
                return console.input("Go on? [y/N] ").strip().lower() in ("y", "yes")
            except EOFError:
                return False
