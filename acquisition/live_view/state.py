"""What the live view shows of a run, at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from numpy.typing import NDArray

from acquisition.events import Event, EventKind
from acquisition.observer import Place

MOST_REMARKS = 100
_TOLD_KINDS = (
    EventKind.WARNING,
    EventKind.BLOCK_REPEATED,
    EventKind.BLOCK_FAILED,
    EventKind.STOPPED,
    EventKind.FAILED,
)


class ViewedState(StrEnum):
    """How far a run is, as its viewers are told."""

    PREPARING = "preparing"
    RUNNING = "running"
    CONCLUDING = "concluding"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    GONE = "gone"


@dataclass(frozen=True)
class Remark:
    """Something that people should know: when (ISO 8601, UTC), of which kind, in words."""

    time: str
    kind: str
    text: str


def remark_of(event: Event) -> Remark | None:
    """What viewers are told of an event; None where they are told nothing."""
    return Remark(event.time, event.kind.value, event.text) if event.kind in _TOLD_KINDS else None


@dataclass(frozen=True, eq=False)
class ViewArray:
    """Numbers that are shown: float32 or uint16, contiguous, all finite; revision: another one where they changed."""

    name: str
    values: NDArray[Any]
    unit: str
    revision: int


@dataclass(frozen=True)
class ViewState:
    """What the live view shows: version grows with every new state, everything else is what it is in an update.

    side, px_um: of the image, px and µm per px (None: unknown); place: in a series; left_s, dose_mj, dose_limit_mj,
    image_age_s: None where unknown; arrays: image, uncertainty, counts, pair_sums, as far as they are there.
    """

    version: int
    run: str
    title: str
    simulated: bool
    state: ViewedState
    cause: str | None
    can_stop: bool
    stopping: bool
    place: Place | None
    side: int
    px_um: float | None
    sensing: str
    pairs: int
    pairs_total: int
    blocks: int
    blocks_total: int
    repeated: int
    elapsed_s: float
    left_s: float | None
    dose_mj: float | None
    dose_limit_mj: float | None
    lit_exposures: int
    quality: str | None
    image_age_s: float | None
    warnings: tuple[Remark, ...]
    arrays: tuple[ViewArray, ...]


class Feed(Protocol):
    """What a live view is fed by; called in the server's thread."""

    def state(self) -> ViewState:
        """The newest state; its version tells whether it is another one than before."""

    def keep_up(self) -> None:
        """Called in place of ``state`` while nobody looks: what came must not pile up."""

    def stop(self) -> str | None:
        """Ask the run to end in order. None where that was done, or else why not."""

    def close(self) -> None:
        """Nobody looks any more: let go of what is kept for viewers. Idempotent; called in any thread."""
