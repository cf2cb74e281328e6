"""The shortest safe picture time: faster and faster until a block no longer proves itself, and then a step back."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from calibration.readout import ReadoutCalibration

_FASTER = 0.8
_RESOLUTION = 1.02
# Between what just works and what is safe: triggers jitter, and a camera's readout may take longer when it is warm.
MARGIN = 1.05
CONFIRMATIONS = 5
_STEPS_BACK = 3


class NothingWorksError(RuntimeError):
    """Pictures cannot be read reliably even at the picture time that is known to be slow enough."""


@dataclass(frozen=True)
class Trial:
    """One block at one picture time.

    failure: why its readings could not be proven, None where they were; refused: whether it was not played at all,
    because the device does not show or take pictures so fast.
    """

    picture_time_us: int
    failure: str | None = None
    refused: bool = False

    @property
    def works(self) -> bool:
        """Whether every reading was proven to belong to its picture."""
        return self.failure is None


@dataclass(frozen=True)
class PictureTimeSearch:
    """What was found: safe_us, the shortest picture time that can be relied on, µs, and every trial, in order."""

    safe_us: int
    trials: tuple[Trial, ...]

    @property
    def longest_failing_us(self) -> int | None:
        """The longest picture time at which a trial failed, µs; None where none did."""
        return max((each.picture_time_us for each in self.trials if not each.works), default=None)

    @property
    def shortest_working_us(self) -> int:
        """The shortest picture time above all that failed at which a trial worked, µs."""
        failing = self.longest_failing_us or 0
        return min(each.picture_time_us for each in self.trials if each.works and each.picture_time_us > failing)

    @property
    def limited_by(self) -> str | None:
        """Why it does not go faster, in the words of the failure next to it; None where it was not tried."""
        longest = self.longest_failing_us
        return next((each.failure for each in self.trials if not each.works and each.picture_time_us == longest), None)


def shortest_safe_picture_time(
    trial: Callable[[int], Trial],
    start_us: int,
    shortest_us: int,
    *,
    margin: float = MARGIN,
    confirmations: int = CONFIRMATIONS,
) -> PictureTimeSearch:
    """Search from start_us down to shortest_us at most, both µs.

    trial: plays a block at a picture time in µs. Each next one is a fifth shorter; from the first failure on the gap
    between failing and working is halved, in ratio, until it is 2 %. Then a step back by ``margin``, confirmed by
    several blocks, and another step for every time that one of them fails. The projector's own limit, shortest_us,
    needs no step back. Raises NothingWorksError where a block fails at start_us, and ValueError where start_us is
    below shortest_us.
    """
    if not 0 < shortest_us <= start_us:
        raise ValueError(f"found a search from {start_us} to {shortest_us} µs; expected 0 < shortest ≤ start")
    trials: list[Trial] = []

    def works(picture_time_us: int) -> bool:
        trials.append(trial(picture_time_us))
        if not trials[-1].works and picture_time_us == start_us:
            raise NothingWorksError(
                f"blocks cannot be proven at {start_us} µs a picture, where the search begins: {trials[-1].failure}. "
                "Put that right, or begin with a longer timing.picture_time_us"
            )
        return trials[-1].works

    working, failing = start_us, 0
    works(start_us)
    while working > shortest_us and not failing:
        faster = max(math.floor(working * _FASTER), shortest_us)
        if works(faster):
            working = faster
        else:
            failing = faster
    while failing and working - failing > 1 and working > _RESOLUTION * failing:
        middle = min(max(round(math.sqrt(working * failing)), failing + 1), working - 1)
        if works(middle):
            working = middle
        else:
            failing = middle
    safe = working if not failing else min(math.ceil(margin * working), start_us)
    while not all(works(safe) for _ in range(confirmations)):
        safe = min(max(math.ceil(margin * safe), safe + 1), start_us)
    return PictureTimeSearch(safe, tuple(trials))


def most_trials(start_us: int, shortest_us: int) -> int:
    """How many blocks a search between these picture times plays, a few steps back counted in."""
    descent = math.ceil(math.log(max(start_us / shortest_us, 1.0)) / -math.log(_FASTER)) + 2
    halvings = math.ceil(math.log2(-math.log(_FASTER) / math.log(_RESOLUTION))) + 1
    return descent + halvings + _STEPS_BACK * CONFIRMATIONS


def readout_from(
    search: PictureTimeSearch, camera_exposure_us: float, camera: str, measured: str
) -> ReadoutCalibration | None:
    """The camera's readout time: the shortest picture time that worked, less its exposure; measured: when, ISO 8601.

    Too long by 2 % of the picture time at most. None where it was not the camera that failed: the projector refused,
    or the search ended at its limit, and all that is known is that readout takes no longer than that.
    """
    failed = [each for each in search.trials if not each.works]
    if not failed or max(failed, key=lambda each: each.picture_time_us).refused:
        return None
    readout_us = max(search.shortest_working_us - camera_exposure_us, 0.0)
    return ReadoutCalibration(camera=camera, readout_us=readout_us, measured=measured)
