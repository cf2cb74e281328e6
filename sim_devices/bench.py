"""The optical bench that all stand-ins share: sample, mirrors, light, clock and noise.

Time. The bench's clock advances only by displayed exposures and by declared waiting (arming, upload), so that a run
reads the same on any computer and through any wire. ``pace`` only decides when, by the wall clock, an exposure has
happened: 0 at once, 1 in real time. Waiting that is declared during a projection goes on beside it: exposures keep
their times, and afterwards the clock stands at the end of whichever of the two lasts longer. Uploads go on beside
everything, one after the other, and move the clock only when somebody waits for them.

Light. An exposure of picture light L (what the mirrors it turns on send when the sample is fresh) reads

    y = a·Poisson((L·D + B)·t/t₀ / a) + N(0, b) + offset,

t its illumination time and t₀ the nominal one, D the sample's mean decay during the exposure:
D = exp(-k·s)·(1 - exp(-k·t))/(k·t), k the bleaching rate and s the light time before it, counted over
displayed exposures under light. The whole sample bleaches alike, whatever the mirrors show. With the light off
y = N(0, b) + offset.

Noise. Every exposure draws from its own stretch of a counter-based generator (Philox, Salmon et al. 2011), keyed by the
seed and addressed by the exposure's number, so that its noise depends on nothing else.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sim_devices.bits import BitDecoder


@dataclass(frozen=True)
class BenchSettings:
    """What the bench is made of; light in detector units per exposure of ``nominal_illumination_us``."""

    gain: float
    variance: float
    offset: float = 0.0
    background: float = 0.0
    bleaching_per_s: float = 0.0
    nominal_illumination_us: float = 100.0
    seed: int = 0
    shot_noise: bool = True
    pace: float = 0.0

    def __post_init__(self) -> None:
        if self.gain <= 0 or self.nominal_illumination_us <= 0:
            raise ValueError("gain and nominal_illumination_us must be above 0")
        if min(self.variance, self.offset, self.background, self.bleaching_per_s, self.pace, self.seed) < 0:
            raise ValueError("variance, offset, background, bleaching_per_s, pace and seed must be 0 or more")


@dataclass(frozen=True)
class Projection:
    """Pictures displayed one after the other under unchanged light: what the bench puts on record.

    ``bank`` and ``first`` … ``last`` name the pictures (counted on where a sequence repeats), ``first_exposure`` is the
    number of the first one's exposure, ``start_us`` the bench time of its start, ``lit_before_us`` the light time the
    sample had seen by then. ``light`` float64 is the pictures' light on a fresh sample, one value per exposure.
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

    @property
    def n_exposures(self) -> int:
        """How many exposures were displayed."""
        return len(self.light)


@dataclass(frozen=True)
class BenchState:
    """All that later readings depend on: what a resumed run begins with.

    ``n_exposures`` displayed so far, the clock ``time_us``, the sample's light time ``lit_us``, and when the uploads
    that are under way end, ``uploads_end_us``.
    """

    n_exposures: int
    time_us: float
    lit_us: float
    uploads_end_us: float


class Watcher(Protocol):
    """A detector that looks at the bench: the projector's synchronisation output triggers it."""

    def expose(self, times_us: NDArray[np.float64], readings: NDArray[np.float64]) -> None:
        """Exposures happened: their starts in bench time and what the sensor collected, one value each."""
        ...


class OpticalBench:
    """A sample on the mirrors, a light, and detectors that watch. Safe to use from several threads.

    ``mirror_light`` float64 [H, W]: what each mirror sends to the detector in one exposure of nominal length. ``clock``
    is the wall clock in seconds, used where ``pace`` is not 0.
    """

    def __init__(
        self,
        settings: BenchSettings,
        mirror_light: NDArray[np.float64],
        clock: Callable[[], float] = time.monotonic,
        light_on: bool = False,
    ) -> None:
        self.settings = settings
        self.lock = threading.RLock()
        # A lock of its own: an upload beside a running projection must not keep the detectors waiting.
        self._decoder_lock = threading.Lock()
        self._decoder = BitDecoder(mirror_light)
        self._noise = _Noise(settings)
        self._clock = clock
        self._light_on = light_on
        self._watchers: list[Watcher] = []
        self._record: list[Projection] = []
        self._running: _Running | None = None
        self._n_exposures = 0
        self._time_us = 0.0
        self._lit_us = 0.0
        self._busy_until_us = 0.0
        self._uploads_end_us = 0.0

    @property
    def mirror_light(self) -> NDArray[np.float64]:
        """The light of every mirror float64 [H, W], on the exact grid that decoding uses (read-only)."""
        return self._decoder.mirror_light

    @property
    def record(self) -> tuple[Projection, ...]:
        """What was displayed so far, in order."""
        with self.lock:
            self._advance()
            return (*self._record, *([] if self._running is None else self._running.displayed()))

    @property
    def time_us(self) -> float:
        """The bench's clock."""
        with self.lock:
            self._advance()
            return self._time_us

    @property
    def state(self) -> BenchState:
        """What later readings depend on, now."""
        with self.lock:
            self._advance()
            return BenchState(self._n_exposures, self._time_us, self._lit_us, self._uploads_end_us)

    def restore(self, state: BenchState) -> None:
        """Go on from a state of before, perhaps of another bench of the same make.

        Raises RuntimeError while pictures are displayed.
        """
        with self.lock:
            self._advance()
            if self._running is not None:
                raise RuntimeError("the bench is displaying; a state can be restored between projections only")
            self._n_exposures, self._time_us = state.n_exposures, state.time_us
            self._lit_us, self._uploads_end_us = state.lit_us, state.uploads_end_us
            self._busy_until_us = state.time_us

    @property
    def light_on(self) -> bool:
        """Whether light reaches the mirrors."""
        return self._light_on

    def attach(self, watcher: Watcher) -> None:
        """Let a detector see every exposure from now on."""
        with self.lock:
            self._watchers.append(watcher)

    def decode(self, pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
        """The light float64 [K] of packed pictures uint8 [K, H, row_bytes], from their bits (see BitDecoder)."""
        with self._decoder_lock:
            return self._decoder.decode(pictures)

    def set_light(self, on: bool) -> None:
        """Open or close the shutter; exposures that have happened keep the light they had."""
        with self.lock:
            self._advance()
            if self._running is not None and on != self._light_on:
                self._record += self._running.cut()
            self._light_on = on

    def spend(self, duration_us: float) -> None:
        """Declare that something took time: before anything else, or beside what is being displayed.

        Beside a projection it begins with the next exposure, or when what was declared before it has ended, and the
        clock is moved on when the projection is over.
        """
        with self.lock:
            self._advance()
            self._busy_until_us = max(self._busy_until_us, self._time_us) + duration_us
            if self._running is None:
                self._time_us = self._busy_until_us

    def upload(self, duration_us: float) -> None:
        """Declare a transfer to the projector that begins now, or when the one before it has ended.

        It goes on beside everything else. Times are whole microseconds, so that sums of them are exact.
        """
        with self.lock:
            self._advance()
            self._uploads_end_us = max(self._uploads_end_us, self._time_us) + round(duration_us)

    def wait_for_uploads(self) -> None:
        """Move the clock to the end of all transfers declared so far, or of the projection where that is later."""
        with self.lock:
            self._advance()
            self._busy_until_us = max(self._busy_until_us, self._uploads_end_us)
            if self._running is None:
                self._time_us = max(self._time_us, self._busy_until_us)

    def display(
        self,
        light: NDArray[np.float64],
        picture_time_us: float,
        illumination_time_us: float,
        bank: int = 0,
        first: int = 0,
    ) -> None:
        """Start displaying pictures ``first`` … of a bank, of light float64 [n], one exposure each, in this order.

        Raises RuntimeError while others are displayed.
        """
        with self.lock:
            self._advance()
            if self._running is not None:
                raise RuntimeError("the bench is displaying already")
            self._running = _Running(light, picture_time_us, illumination_time_us, bank, first, self._clock())
            self._advance()

    def is_displaying(self) -> bool:
        """Whether exposures are still to come."""
        with self.lock:
            self._advance()
            return self._running is not None

    def halt(self) -> None:
        """Display no more; exposures that have not begun never happen."""
        with self.lock:
            self._advance()
            self._finish()

    def advance(self) -> None:
        """Let everything happen that is due by the wall clock."""
        with self.lock:
            self._advance()

    def expected(self, projection: Projection) -> NDArray[np.float64]:
        """The mean reading float64 [n_exposures] of every exposure of a projection on record, offset included."""
        return self._mean_light(projection) + self.settings.offset

    def _advance(self) -> None:
        running = self._running
        if running is None:
            return
        due = running.due(self._clock(), self.settings.pace)
        if due > running.done:
            self._expose(running, due)
        if running.is_over(self._clock(), self.settings.pace):
            self._finish()

    def _expose(self, running: _Running, due: int) -> None:
        stretch = Projection(
            bank=running.bank,
            first=running.first + running.done,
            last=running.first + due - 1,
            first_exposure=self._n_exposures,
            start_us=self._time_us,
            picture_time_us=running.picture_time_us,
            illumination_time_us=running.illumination_time_us,
            light_on=self._light_on,
            lit_before_us=self._lit_us,
            light=running.light[running.done : due],
        )
        n = stretch.n_exposures
        readings = self._noise.readings(self._mean_light(stretch), self._n_exposures)
        times_us = self._time_us + running.picture_time_us * np.arange(n, dtype=np.float64)
        running.show(stretch)
        self._n_exposures += n
        self._time_us += n * running.picture_time_us
        if self._light_on:
            self._lit_us += n * running.illumination_time_us
        for watcher in self._watchers:
            watcher.expose(times_us, readings)

    def _finish(self) -> None:
        if self._running is not None:
            self._record += self._running.cut()
            self._running = None
            self._time_us = max(self._time_us, self._busy_until_us)

    def _mean_light(self, projection: Projection) -> NDArray[np.float64]:
        """(L·D + B)·t/t₀, or darkness."""
        if not projection.light_on:
            return np.zeros(projection.n_exposures)
        settings = self.settings
        lit_s = projection.illumination_time_us * 1e-6
        before_s = projection.lit_before_us * 1e-6 + lit_s * np.arange(projection.n_exposures)
        rate = settings.bleaching_per_s
        within = -np.expm1(-rate * lit_s) / (rate * lit_s) if rate * lit_s > 0 else 1.0
        decay = np.exp(-rate * before_s) * within
        share = projection.illumination_time_us / settings.nominal_illumination_us
        mean: NDArray[np.float64] = (projection.light * decay + settings.background) * share
        return mean


class _Running:
    """A projection under way: how far it has come, and what it has shown since the light last changed."""

    def __init__(
        self,
        light: NDArray[np.float64],
        picture_time_us: float,
        illumination_time_us: float,
        bank: int,
        first: int,
        started: float,
    ) -> None:
        self.light = light
        self.picture_time_us = picture_time_us
        self.illumination_time_us = illumination_time_us
        self.bank = bank
        self.first = first
        self.done = 0
        self._started = started
        self._shown: Projection | None = None

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
            start = self._shown.first - self.first
            self._shown = replace(self._shown, last=stretch.last, light=self.light[start : self.done])

    def displayed(self) -> list[Projection]:
        """What was shown since the light last changed: one projection, or none."""
        return [] if self._shown is None else [self._shown]

    def cut(self) -> list[Projection]:
        """The same, and begin anew."""
        shown, self._shown = self.displayed(), None
        return shown


class _Noise:
    """Shot noise and read noise of numbered exposures."""

    def __init__(self, settings: BenchSettings) -> None:
        self._settings = settings
        self._philox = np.random.Philox(key=settings.seed)
        self._generator = np.random.Generator(self._philox)
        self._state: Any = self._philox.state

    def readings(self, mean_light: NDArray[np.float64], first_exposure: int) -> NDArray[np.float64]:
        """Draw a·Poisson(light/a) + N(0, b) + offset, float64 [n], for exposures from number ``first_exposure`` on."""
        settings = self._settings
        if not settings.shot_noise:
            return mean_light + settings.offset
        gain, deviation = settings.gain, settings.variance**0.5
        poisson, normal = self._generator.poisson, self._generator.standard_normal
        philox, state = self._philox, self._state
        counter = state["state"]["counter"]
        counter[:] = 0
        # A fresh state per exposure: an empty buffer, and a counter whose upper half is the exposure's number.
        state["buffer_pos"], state["has_uint32"], state["uinteger"] = 4, 0, 0
        values = np.empty(len(mean_light))
        for index, electrons in enumerate((mean_light / gain).tolist()):
            counter[2] = first_exposure + index
            philox.state = state
            values[index] = gain * poisson(electrons) + deviation * normal()
        return values + settings.offset
