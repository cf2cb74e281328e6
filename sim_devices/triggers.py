"""Which pictures a projection shows, and which frames its triggers make, where faults are in it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim_devices.faults import (
    DoubledTrigger,
    EarlyEnd,
    Fault,
    LateStart,
    LateTrigger,
    LostTrigger,
    Saturation,
    SilentCamera,
)

# Beyond the full scale of any sensor, and far from where adding light to it would lose digits.
FLOOD: Final = 1e15

Frames = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]


def shown_pictures(faults: Sequence[Fault], n_pictures: int) -> NDArray[np.int64]:
    """Which of ``n_pictures`` asked for is shown in each exposure, int64 [n_exposures]; -1 for dark mirrors."""
    late = sum(each.pictures for each in faults if isinstance(each, LateStart))
    end = min([n_pictures, *(each.exposures for each in faults if isinstance(each, EarlyEnd))])
    return np.maximum(np.arange(end, dtype=np.int64) - late, -1)


class Triggers:
    """The frames of one projection, as its exposures happen.

    ``n_exposures`` are shown, the first at ``start_us`` with the bench's number ``first_exposure``; ``dark_level`` is
    what is read without light. What a halted projection has not shown comes never, nor does a late frame that waits
    for it.
    """

    def __init__(
        self,
        faults: Sequence[Fault],
        n_exposures: int,
        first_exposure: int,
        start_us: float,
        picture_time_us: float,
        illumination_time_us: float,
        dark_level: float,
    ) -> None:
        self._first_exposure = first_exposure
        self._picture_time_us = picture_time_us
        self._illumination_time_us = illumination_time_us
        self._dark_level = dark_level
        self._n_flooded = max([0, *(each.exposures for each in faults if isinstance(each, Saturation))])
        n_frames = np.ones(n_exposures, dtype=np.int64)
        self._delay_us = np.zeros(n_exposures)
        # Exposure k's light has come in when exposure complete_with[k] has ended.
        complete_with = np.arange(n_exposures, dtype=np.int64)
        for fault in faults:
            if isinstance(fault, DoubledTrigger):
                n_frames[fault.exposure] = 2
            elif isinstance(fault, LateTrigger):
                self._delay_us[fault.exposure] += fault.delay_us
                complete_with[fault.exposure] = self._last_seen(fault.exposure)
        for fault in faults:
            if isinstance(fault, LostTrigger):
                n_frames[fault.exposure] = 0
            elif isinstance(fault, SilentCamera):
                n_frames[:] = 0
        exposures = np.repeat(np.arange(n_exposures, dtype=np.int64), n_frames)
        is_second = np.zeros(len(exposures), dtype=bool)
        is_second[1:] = exposures[1:] == exposures[:-1]
        times_us = exposures * picture_time_us + self._delay_us[exposures] + is_second * (picture_time_us / 2)
        order = np.argsort(times_us, kind="stable")
        self._exposures = exposures[order]
        self._times_us = start_us + times_us[order]
        # A frame waits for those that began before it.
        self._due_with = np.maximum.accumulate(complete_with[self._exposures])
        self._readings = np.empty(n_exposures)
        self._n_shown = self._n_given = 0

    def frames(self, readings: NDArray[np.float64]) -> Frames:
        """Times, readings and exposures' bench numbers of the frames that are due, in the order of their times.

        readings: what the sensor would have collected in the next exposures, float64 [k].
        """
        shown = slice(self._n_shown, self._n_shown + len(readings))
        self._readings[shown] = readings
        self._readings[shown][: max(0, self._n_flooded - self._n_shown)] = FLOOD
        self._n_shown += len(readings)
        due = slice(self._n_given, int(np.searchsorted(self._due_with, self._n_shown)))
        self._n_given = due.stop
        exposures = self._exposures[due]
        collected = self._readings[exposures]
        for index in np.flatnonzero(self._delay_us[exposures]):
            collected[index] = self._collected_late(int(exposures[index]))
        return self._times_us[due], collected, self._first_exposure + exposures

    def shares(self, exposure: int) -> list[tuple[int, float]]:
        """The exposures of whose light a frame of this one collects, and which part of each one's illumination."""
        return self._shares_late(exposure) if self._delay_us[exposure] else [(exposure, 1.0)]

    def is_flooded(self, exposure: int) -> bool:
        """Whether light floods the camera in this exposure."""
        return exposure < self._n_flooded

    def _last_seen(self, exposure: int) -> int:
        """The last exposure whose picture time a late frame of this one reaches into."""
        end_us = float(exposure * self._picture_time_us + self._delay_us[exposure] + self._illumination_time_us)
        return min(len(self._delay_us), math.ceil(end_us / self._picture_time_us)) - 1

    def _collected_late(self, exposure: int) -> float:
        above_dark = 0.0
        for seen, share in self._shares_late(exposure):
            above_dark += share * (self._readings[seen] - self._dark_level)
        return float(self._dark_level + above_dark)

    def _shares_late(self, exposure: int) -> list[tuple[int, float]]:
        lit_us, begin_us = self._illumination_time_us, exposure * self._picture_time_us + self._delay_us[exposure]
        shares = []
        for seen in range(exposure, self._last_seen(exposure) + 1):
            seen_us = seen * self._picture_time_us
            overlap_us = min(begin_us, seen_us) + lit_us - max(begin_us, seen_us)
            shares.append((seen, float(max(0.0, overlap_us) / lit_us)))
        return shares
