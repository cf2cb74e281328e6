"""Who watches a run, and who is asked before the first light."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from acquisition.events import Event
from acquisition.live import LiveImage
from acquisition.readings import Readings
from acquisition.schedule import Schedule

_Seen = TypeVar("_Seen")


@dataclass(frozen=True)
class Place:
    """Which image of a series is acquired: its number from 0, of how many, and what it is, for people."""

    number: int
    total: int
    name: str


@dataclass(frozen=True)
class Observer:
    """Called with what will be played, every accepted block and event, and every live image (in its thread).

    In a series on_image is called with the final image of each event, too. on_place: before each image of a series.
    confirm: asked before the first light on real devices, with the number of exposures to come; without it, or where it
    says False, there is no light and no run.
    """

    on_schedule: Callable[[Schedule], None] | None = None
    on_block: Callable[[Readings], None] | None = None
    on_image: Callable[[LiveImage], None] | None = None
    on_event: Callable[[Event], None] | None = None
    on_place: Callable[[Place], None] | None = None
    confirm: Callable[[int], bool] | None = None

    def confirm_light(self, simulated: bool, n_exposures: int) -> None:
        """Ask before the first light on real devices; nobody there to be asked is a no. Raises NotConfirmedError."""
        if simulated or (self.confirm is not None and self.confirm(n_exposures)):
            return
        raise NotConfirmedError(
            "the first light on real devices was not confirmed: nothing was lit, and everything is as it was"
        )


def together(*observers: Observer) -> Observer:
    """One observer that passes everything on to all of these, in order; the first one that can be asked is asked."""
    return Observer(
        on_schedule=_to_all([each.on_schedule for each in observers]),
        on_block=_to_all([each.on_block for each in observers]),
        on_image=_to_all([each.on_image for each in observers]),
        on_event=_to_all([each.on_event for each in observers]),
        on_place=_to_all([each.on_place for each in observers]),
        confirm=next((each.confirm for each in observers if each.confirm is not None), None),
    )


def _to_all(callbacks: Sequence[Callable[[_Seen], None] | None]) -> Callable[[_Seen], None] | None:
    there = [callback for callback in callbacks if callback is not None]
    if len(there) < 2:
        return there[0] if there else None

    def pass_on(seen: _Seen) -> None:
        for callback in there:
            callback(seen)

    return pass_on


class NotConfirmedError(RuntimeError):
    """Nobody said yes to the first light on real devices."""
