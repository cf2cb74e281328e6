"""What can go wrong on the bench, as plain data: on the way of the trigger, in the projector, in the camera.

``projection`` counts the bench's projections from 0 over its life, ``exposure`` counts within that projection from 0.
Faults are injected into the bench (OpticalBench.inject), which lets each happen exactly once. Whatever happens, an
exposure's noise stays its own, so that all other exposures read as they would without the fault.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np

_LONGEST_LATE_START: Final = 2
_MOST_STALE_FRAMES: Final = 3


@dataclass(frozen=True)
class _InProjection:
    """A fault of one projection. Counts are whole and not negative."""

    projection: int

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 0:
                raise ValueError(f"{type(self).__name__}.{field.name} is {getattr(self, field.name)}; it must be >= 0")


@dataclass(frozen=True)
class _AtExposure(_InProjection):
    """A fault of one exposure."""

    exposure: int


@dataclass(frozen=True)
class LostTrigger(_AtExposure):
    """The camera is not triggered: it takes no frame of this exposure."""


@dataclass(frozen=True)
class DoubledTrigger(_AtExposure):
    """The camera is triggered again half a picture time later: two frames of the same reading."""


@dataclass(frozen=True)
class LateTrigger(_AtExposure):
    """The camera is triggered ``delay_us`` late, and collects the light of what is displayed meanwhile.

    Its reading is the mean of the readings of this exposure and those that follow, weighted by how much of their
    illumination it sees; the rest, dark phases and what lies beyond the projection's end, is at the dark level.
    """

    delay_us: float


@dataclass(frozen=True)
class LateStart(_InProjection):
    """The first ``pictures`` exposures show dark mirrors; then come the projection's pictures from the first one on.

    As many exposures in all as planned: the last pictures are never displayed.
    """

    pictures: int


@dataclass(frozen=True)
class EarlyEnd(_InProjection):
    """The projection ends after so many exposures, and nobody is told."""

    exposures: int


@dataclass(frozen=True)
class MissingFrame(_AtExposure):
    """The camera took this exposure's frame and numbered it, and it never arrives in the circular buffer."""


@dataclass(frozen=True)
class StaleFrames(_InProjection):
    """So many frames of before stand in the buffer when the sequence for this projection has just begun."""

    frames: int


@dataclass(frozen=True)
class BufferOverflow(_AtExposure):
    """There is no room in the circular buffer for this exposure's frame."""


@dataclass(frozen=True)
class Saturation(_InProjection):
    """Light floods the camera: so many exposures, from the first one on, read full scale."""

    exposures: int


@dataclass(frozen=True)
class SilentCamera(_InProjection):
    """The trigger's cable is out: the camera takes no frame of this projection."""


Fault = (
    LostTrigger
    | DoubledTrigger
    | LateTrigger
    | LateStart
    | EarlyEnd
    | MissingFrame
    | StaleFrames
    | BufferOverflow
    | Saturation
    | SilentCamera
)


@dataclass(frozen=True)
class CameraFaults:
    """What goes wrong between camera and buffer while a projection is displayed, by the exposures' bench numbers."""

    missing: frozenset[int] = frozenset()
    overflows: frozenset[int] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.missing or self.overflows)


def comes(fault: Fault, n_exposures: int) -> bool:
    """Whether a projection of so many exposures is changed by the fault."""
    if isinstance(fault, _AtExposure):
        return fault.exposure < n_exposures
    if isinstance(fault, EarlyEnd):
        return fault.exposures < n_exposures
    return True


def camera_faults(faults: Sequence[Fault], first_exposure: int) -> CameraFaults:
    """Those that happen between camera and buffer, in a projection whose first exposure has this bench number."""
    return CameraFaults(
        missing=frozenset(first_exposure + each.exposure for each in faults if isinstance(each, MissingFrame)),
        overflows=frozenset(first_exposure + each.exposure for each in faults if isinstance(each, BufferOverflow)),
    )


def random_fault(
    rng: np.random.Generator,
    projection: int,
    n_exposures: int,
    kinds: Sequence[type[Fault]],
    longest_delay_us: float = 200.0,
) -> Fault:
    """One fault of one of the kinds, each as likely as the others, anywhere in a projection of so many exposures.

    A late trigger comes up to ``longest_delay_us`` late, a sequence starts up to two pictures late, up to three frames
    are stale. Raises ValueError without kinds or exposures.
    """
    if not kinds or n_exposures < 1:
        raise ValueError(f"a fault needs a kind and an exposure; got {len(kinds)} kinds, {n_exposures} exposures")
    kind = kinds[int(rng.integers(len(kinds)))]
    exposure = int(rng.integers(n_exposures))
    arguments: dict[type[Fault], tuple[Any, ...]] = {
        LateTrigger: (exposure, longest_delay_us * (1.0 - rng.random())),
        LateStart: (int(rng.integers(1, _LONGEST_LATE_START + 1)),),
        StaleFrames: (int(rng.integers(1, _MOST_STALE_FRAMES + 1)),),
        Saturation: (exposure + 1,),
        SilentCamera: (),
    }
    fault: Fault = kind(projection, *arguments.get(kind, (exposure,)))
    return fault
