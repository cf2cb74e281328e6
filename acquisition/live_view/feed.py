"""What a live view is fed by while a run is played: the light path hands over references, and the rest happens here."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acquisition.config import AcquisitionConfig
from acquisition.events import Event, EventKind
from acquisition.interrupts import request_end
from acquisition.live import LiveImage
from acquisition.live_view.state import (
    MOST_REMARKS,
    Remark,
    ViewArray,
    ViewedState,
    ViewState,
    remark_of,
)
from acquisition.live_view.tally import Tally
from acquisition.live_view.time_left import RunTimeLeft
from acquisition.observer import Observer, Place
from acquisition.plan import dose_mj
from acquisition.readings import Readings
from acquisition.schedule import Schedule

STOPPED_HERE = "stopped in the live view"


class ViewFeed:
    """A run, or a series of them, as it is played.

    ``observer`` is the run's; its callbacks take a constant time. Everything is added up when it is looked at, or once
    in a while, in the server's thread.
    """

    def __init__(self, config: AcquisitionConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._clock = clock
        # What came since the last look: when, and what; blocks without their frames.
        self._came: deque[tuple[float, Any]] = deque()
        self._newest_image: LiveImage | None = None
        self._is_closed = False
        self.observer = Observer(
            on_schedule=self._note,
            on_block=self._note_block,
            on_image=self._note_image,
            on_event=self._note,
            on_place=self._note,
        )
        self._version = 0
        self._began_s: float | None = None
        self._ended_s: float | None = None
        self._is_stopping = False
        self._end: tuple[ViewedState, str | None] | None = None
        self._place: Place | None = None
        self._first_place = 0
        self._schedule: Schedule | None = None
        self._time_left: RunTimeLeft | None = None
        self._tally = Tally(config.sensing.side)
        self._dark_level = 0.0
        self._lit_exposures = 0
        self._lit_before = 0
        self._repeated = 0
        self._remarks: deque[Remark] = deque(maxlen=MOST_REMARKS)
        self._shown_image: LiveImage | None = None
        self._quality: str | None = None
        self._revision = 0
        self._of_image: tuple[ViewArray, ...] = ()
        self._of_readings: tuple[ViewArray, ...] = ()
        self._has_new_readings = False

    def state(self) -> ViewState:
        """The newest state, with everything that came so far; another one at every call until the run has ended."""
        end, came = self._end, self._take_in()
        if end is None or came or self._ended_s is None:
            self._version += 1
        if end is not None and self._ended_s is None:
            self._ended_s = self._clock()
        self._look_at_image()
        if self._has_new_readings:
            self._of_readings = self._arrays_of_readings()
            self._has_new_readings = False
        return self._stated(end)

    def keep_up(self) -> None:
        """Add up what came, so that nothing piles up while nobody looks."""
        self._take_in()

    def stop(self) -> str | None:
        """Ask the run to end in order, as Ctrl-C does. None where that was done, or else why not."""
        if self._end is not None:
            return "the run has ended"
        if not request_end(STOPPED_HERE):
            return "nothing is under way that can be ended from here: end it where it was begun"
        self._is_stopping = True
        return None

    def conclude(self, error: BaseException | None) -> None:
        """Nothing more will come: the run has finished, or ended with this error."""
        if error is None:
            self._end = ViewedState.FINISHED, None
        elif isinstance(error, KeyboardInterrupt) and not hasattr(error, "__notes__"):
            self._end = ViewedState.STOPPED, str(error) or "interrupted"
        else:
            said = f"{type(error).__name__}: {error}".rstrip(": ")
            self._end = ViewedState.FAILED, "\n".join([said, *getattr(error, "__notes__", ())])

    def close(self) -> None:
        """Nobody looks any more: let go of everything, and note nothing from now on."""
        self._is_closed = True
        self._came.clear()
        self._newest_image = None

    # The light path's callbacks.

    def _note(self, came: Schedule | Event | Place) -> None:
        if not self._is_closed:
            self._came.append((self._clock(), came))

    def _note_block(self, readings: Readings) -> None:
        if not self._is_closed:
            # The readings themselves would hold on to the frames.
            fields = (readings.block_number, readings.index, readings.plus, readings.minus, readings.time_us)
            self._came.append((self._clock(), (*fields, readings.lit_exposures)))

    def _note_image(self, image: LiveImage) -> None:
        if not self._is_closed:
            self._newest_image = image

    # The server's thread.

    def _take_in(self) -> bool:
        anything = False
        while self._came:
            when_s, came = self._came.popleft()
            anything = True
            match came:
                case Schedule():
                    self._take_schedule(came)
                case Event():
                    self._take_event(when_s, came)
                case Place():
                    if self._place is None:
                        self._first_place = came.number
                    self._place = came
                case number, index, plus, minus, time_us, lit:
                    self._tally.add(index, plus, minus, time_us)
                    if self._time_left is not None:
                        self._time_left.played(number, when_s)
                    self._lit_exposures = max(lit, self._lit_exposures)
                    self._has_new_readings = True
        return anything

    def _take_schedule(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._time_left = RunTimeLeft(schedule, self._config)
        self._tally = Tally(self._config.sensing.side)
        self._lit_before += self._lit_exposures
        self._lit_exposures = 0
        self._has_new_readings = True

    def _take_event(self, when_s: float, event: Event) -> None:
        if (remark := remark_of(event)) is not None:
            self._remarks.append(remark)
        match event.kind:
            case EventKind.STARTED | EventKind.RESUMED:
                if self._began_s is None:
                    self._began_s = when_s
                if self._time_left is not None:
                    self._time_left.began(when_s, int(event.facts.get("first_block", 0)))
            case EventKind.BLOCK_REPEATED:
                self._repeated += 1
        if event.kind in (EventKind.DARK_LEVEL, EventKind.RESUMED):
            self._dark_level = float(event.facts.get("level", self._dark_level))
            self._has_new_readings = True

    def _look_at_image(self) -> None:
        image = self._newest_image
        if image is None or image is self._shown_image:
            return
        self._shown_image = image
        peak = float(image.reconstruction.image.max()) or 1.0
        self._quality = image.reconstruction.said_of_quality(peak)
        self._revision += 1
        self._of_image = arrays_of_image(
            image.reconstruction.image, image.reconstruction.uncertainty, revision=self._revision
        )

    def _arrays_of_readings(self) -> tuple[ViewArray, ...]:
        self._revision += 1
        return arrays_of_readings(self._tally, self._dark_level, revision=self._revision)

    def _stated(self, end: tuple[ViewedState, str | None] | None) -> ViewState:
        config, image, tally = self._config, self._shown_image, self._tally
        now_s = self._clock() if self._ended_s is None else self._ended_s
        elapsed_s = 0.0 if self._began_s is None else now_s - self._began_s
        total = 0 if self._schedule is None else self._schedule.n_pairs
        lit = self._lit_before + self._lit_exposures
        state, cause = (self._progress(total), None) if end is None else end
        return ViewState(
            version=self._version,
            run=config.output.run.name,
            title=config.sample.name,
            simulated=config.simulated,
            state=state,
            cause=cause,
            can_stop=end is None,
            stopping=self._is_stopping and end is None,
            place=self._place,
            side=config.sensing.side,
            px_um=config.px_um,
            sensing=said_of_sensing(config),
            pairs=tally.pairs,
            pairs_total=total,
            blocks=tally.blocks,
            blocks_total=0 if self._schedule is None else len(self._schedule.blocks),
            repeated=self._repeated,
            elapsed_s=elapsed_s,
            left_s=None if end is not None else self._left_s(now_s, elapsed_s, total),
            dose_mj=dose_mj(config, lit),
            # In a series the limit holds for each position.
            dose_limit_mj=config.sample.dose_limit_mj if self._place is None else None,
            lit_exposures=lit,
            quality=self._quality,
            image_age_s=None if image is None else image.age_s,
            warnings=tuple(self._remarks),
            arrays=(*self._of_image, *self._of_readings),
        )

    def _progress(self, total: int) -> ViewedState:
        if self._began_s is None:
            return ViewedState.PREPARING
        is_last = self._place is None or self._place.number == self._place.total - 1
        return ViewedState.CONCLUDING if is_last and self._tally.pairs == total else ViewedState.RUNNING

    def _left_s(self, now_s: float, elapsed_s: float, total: int) -> float | None:
        if self._place is None:
            return None if self._time_left is None else self._time_left.left_s(now_s)
        done = self._place.number - self._first_place + (self._tally.pairs / total if total else 0.0)
        # Of its waiting times a series says nothing: what its images took so far is what there is to go by.
        return elapsed_s / done * (self._place.total - self._first_place - done) if done >= 1 else None


def arrays_of_image(
    image: NDArray[np.float64], uncertainty: NDArray[np.float64] | None, *, revision: int
) -> tuple[ViewArray, ...]:
    """An image, and its uncertainty where there is one, float64 [n, n], as they are shown."""
    shown = [("image", image), ("uncertainty", uncertainty)]
    return tuple(
        ViewArray(name, _finite_float32(values), "detector units", revision)
        for name, values in shown
        if values is not None
    )


def arrays_of_readings(tally: Tally, dark_level: float, *, revision: int) -> tuple[ViewArray, ...]:
    """The map of measured coefficients and the pair sums over time."""
    sums = ViewArray("pair_sums", _finite_float32(tally.pair_sums(dark_level)), "detector units", revision)
    return ViewArray("counts", tally.counts, "pairs", revision), sums


def said_of_sensing(config: AcquisitionConfig) -> str:
    """What is measured, in words."""
    sensing = config.sensing
    return f"{sensing.side} × {sensing.side} px, α = {sensing.alpha:g}, S = {sensing.repeats}, {sensing.mask.kind} mask"


def _finite_float32(values: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        shown = np.ascontiguousarray(values, dtype=np.float32)
    return shown if np.isfinite(shown).all() else np.nan_to_num(shown)
