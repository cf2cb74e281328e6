"""One projection on the bench: what goes on record of it, and how far it has come while it is under way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sim_devices.faults import Fault
from sim_devices.triggers import Triggers, shown_pictures


@dataclass(frozen=True)
class Projection:
    """Pictures displayed one after the other under unchanged light: what the bench puts on record.

    ``bank`` and ``first`` … ``last`` name the pictures that were asked for (counted on where a sequence repeats),
    ``first_exposure`` is the bench's number of the first one's exposure, ``start_us`` the bench time of its start,
    ``lit_before_us`` the light time the sample had seen by then. ``light`` float64 is the displayed pictures' light on
    a fresh sample, one value per exposure, and ``pictures`` int64 which picture that was: first … last, unless the
    sequence started late; -1 where the mirrors were dark instead.
    """

    bank: int
    first: int
    last: int
    first_exposure: int
    start_us: float
    picture_time_us: float
    illumination_time_us: float
    light_on: bool
    lit_before_us: float
    light: NDArray[np.float64]
    pictures: NDArray[np.int64]

    @property
    def n_exposures(self) -> int:
        """How many exposures were displayed."""
        return len(self.light)


@dataclass(frozen=True)
class Imaged:
    """One exposure as an imaging camera sees it.

    ``exposure`` is the bench's number, ``image`` float32 [height, width] the displayed picture's light on the sensor
    for a fresh sample and a steady lamp, ``decay`` and ``lamp`` what sample and lamp make of it (sim_devices.bench);
    ``is_flooded`` where other light is far beyond all of that.
    """

    exposure: int
    image: NDArray[np.float32]
    decay: float
    lamp: float
    is_flooded: bool


class Running:
    """A projection under way: how far it has come, and what it has shown since the light last changed.

    ``light`` float64 [n] of the pictures asked for, ``faults`` those that concern what is displayed or triggered,
    ``started`` the wall clock in s, ``first_exposure`` and ``start_us`` the bench's count and clock at its start.
    ``images`` are those of the pictures on an imaging camera's sensor, where there is one.
    """

    def __init__(
        self,
        light: NDArray[np.float64],
        picture_time_us: float,
        illumination_time_us: float,
        bank: int,
        first: int,
        started: float,
        faults: Sequence[Fault],
        first_exposure: int,
        start_us: float,
        dark_level: float,
        images: Sequence[NDArray[np.float32]] | None = None,
    ) -> None:
        self.picture_time_us = picture_time_us
        self.illumination_time_us = illumination_time_us
        self.bank = bank
        self.first = first
        self.first_exposure = first_exposure
        self.done = 0
        self.triggers: Triggers | None = None
        self._started = started
        self._shown: Projection | None = None
        self._images = images
        self._imaged: list[Imaged] = []
        if faults:
            shown = shown_pictures(faults, len(light))
            self.light = np.where(shown >= 0, light[shown], 0.0)
            self.pictures = np.where(shown >= 0, first + shown, -1)
            times = picture_time_us, illumination_time_us
            if images is not None:
                self._images = [images[each] if each >= 0 else np.zeros_like(images[0]) for each in shown.tolist()]
            self.triggers = Triggers(faults, len(shown), first_exposure, start_us, *times, dark_level)
        else:
            self.light = light
            self.pictures = np.arange(first, first + len(light), dtype=np.int64)

    def due(self, now: float, pace: float) -> int:
        """How many exposures have ended by now: one counts once its light has been collected."""
        if pace == 0:
            return len(self.light)
        passed_us = (now - self._started) * 1e6 / pace
        ended = (passed_us - self.illumination_time_us) // self.picture_time_us + 1
        return int(np.clip(ended, self.done, len(self.light)))

    def is_over(self, now: float, pace: float) -> bool:
        """Whether the last picture's time has passed."""
        passed_us = (now - self._started) * 1e6
        return self.done == len(self.light) and passed_us >= len(self.light) * self.picture_time_us * pace

    def show(self, stretch: Projection) -> None:
        """Note exposures that happened; they continue the ones before unless the light changed."""
        self.done += stretch.n_exposures
        if self._shown is None:
            self._shown = stretch
        else:
            shown = slice(self._shown.first - self.first, self.done)
            self._shown = replace(
                self._shown, last=stretch.last, light=self.light[shown], pictures=self.pictures[shown]
            )

    def image(self, decay: NDArray[np.float64], lamp: NDArray[np.float64]) -> None:
        """Note what the sample and the lamp made of the images of the next exposures, float64 [k] each."""
        if self._images is None:
            return
        for exposure_decay, exposure_lamp in zip(decay.tolist(), lamp.tolist(), strict=True):
            index = len(self._imaged)
            is_flooded = self.triggers is not None and self.triggers.is_flooded(index)
            image = Imaged(self.first_exposure + index, self._images[index], exposure_decay, exposure_lamp, is_flooded)
            self._imaged.append(image)

    def collected(self, exposure: int) -> list[tuple[Imaged, float]]:
        """What a frame of an exposure, by its bench number, collects: images, and which part of each."""
        index = exposure - self.first_exposure
        shares = [(index, 1.0)] if self.triggers is None else self.triggers.shares(index)
        return [(self._imaged[seen], share) for seen, share in shares]

    def displayed(self) -> list[Projection]:
        """What was shown since the light last changed: one projection, or none."""
        return [] if self._shown is None else [self._shown]

    def cut(self) -> list[Projection]:
        """The same, and begin anew."""
        shown, self._shown = self.displayed(), None
        return shown
