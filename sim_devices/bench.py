"""The optical bench that all stand-ins share: sample, mirrors, light, clock and noise.

Time. The bench's clock advances only by displayed exposures and by declared waiting (arming, upload), so that a run
reads the same on any computer and through any wire. ``pace`` only decides when, by the wall clock, an exposure has
happened: 0 at once, 1 in real time. Waiting that is declared during a projection goes on beside it: exposures keep
their times, and afterwards the clock stands at the end of whichever of the two lasts longer. Uploads go on beside
everything, one after the other, and move the clock only when somebody waits for them.

Light. An exposure of picture light L (what the mirrors it turns on send when the sample is fresh) reads

    y = a·Poisson((L'·D + B)·lamp·(1 + ε) / a) + N(0, b) + offset,    L' = L + (L_all - L)/contrast,

    lamp = t/t₀ · (1 + drift·sin(2π·time/period)) · exp(-fading·time),

t its illumination time and t₀ the nominal one, time the bench's clock at its start, L_all the light of all mirrors,
ε ~ N(0, source_noise²) the lamp's noise from exposure to exposure, D the sample's mean decay during the exposure:
D = exp(-k·s)·(1 - exp(-k·t))/(k·t), k the bleaching rate and s the light time before it, counted over
displayed exposures under light. The whole sample bleaches alike, whatever the mirrors show and the lamp does. With the
light off y = N(0, b) + offset. Noise: see sim_devices.exposure_noise.

Moves. The light on the mirrors changes when stage, focus or channel move (``relight``), between projections only. The
light that bleached the sample is counted for the bench, not for every place: wherever it moves, the sample has bleached
alike.

Images. A camera that images the mirrors (SensorImages) gets the same light pixel by pixel. Then L is the light that
reaches its sensor, and B falls evenly on all pixels.

Faults. What was injected happens once, to the projection it names (see sim_devices.faults); the record says what was
really displayed, and the detectors are told under which exposure each frame was taken.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sim_devices.bits import BitDecoder
from sim_devices.exposure_noise import ExposureNoise
from sim_devices.faults import CameraFaults, EarlyEnd, Fault, StaleFrames, camera_faults, comes
from sim_devices.projection import Imaged, Projection, Running
from sim_devices.sensor_images import SensorImages
from sim_devices.triggers import FLOOD


@dataclass(frozen=True)
class BenchSettings:
    """What the bench is made of; light in detector units per exposure of ``nominal_illumination_us``.

    ``source_noise`` is the relative standard deviation of the light from exposure to exposure; ``lamp_drift`` the
    relative amplitude of its sine of ``lamp_drift_period_s`` in the bench's time (slow: drift; 10 ms: ripple from the
    mains), ``lamp_fading_per_s`` the rate of its exponential decline; ``dmd_contrast`` how much more light a mirror
    sends that is on than one that is off, None: an off mirror sends nothing. Without ``shot_noise`` nothing is random.
    """

    gain: float
    variance: float
    offset: float = 0.0
    background: float = 0.0
    bleaching_per_s: float = 0.0
    nominal_illumination_us: float = 100.0
    seed: int = 0
    shot_noise: bool = True
    pace: float = 0.0
    source_noise: float = 0.0
    lamp_drift: float = 0.0
    lamp_drift_period_s: float = 60.0
    lamp_fading_per_s: float = 0.0
    dmd_contrast: float | None = None

    def __post_init__(self) -> None:
        if min(self.gain, self.nominal_illumination_us, self.lamp_drift_period_s) <= 0:
            raise ValueError("gain, nominal_illumination_us and lamp_drift_period_s must be above 0")
        if min(self.variance, self.offset, self.background, self.bleaching_per_s, self.pace, self.seed) < 0:
            raise ValueError("variance, offset, background, bleaching_per_s, pace and seed must be 0 or more")
        if min(self.source_noise, self.lamp_fading_per_s) < 0 or not 0 <= self.lamp_drift <= 1:
            raise ValueError("source_noise and lamp_fading_per_s must be 0 or more, lamp_drift must be 0 to 1")
        if self.dmd_contrast is not None and not self.dmd_contrast > 1:
            raise ValueError("dmd_contrast must be above 1, or None")


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

    def expose(
        self, times_us: NDArray[np.float64], readings: NDArray[np.float64], exposures: NDArray[np.int64]
    ) -> None:
        """Triggers came, in the order of their bench times: what the sensor collected after each, and under what.

        times_us float64, readings float64, exposures int64 (the bench's numbers of the exposures that triggered),
        one value per trigger. Without faults there is one trigger per exposure, at its start.
        """
        ...


class OpticalBench:
    """A sample on the mirrors, a light, and detectors that watch. Safe to use from several threads.

    ``mirror_light`` float64 [H, W]: what each mirror sends to the detector in one exposure of nominal length. ``clock``
    is the wall clock in seconds, used where ``pace`` is not 0. ``sensor_images``: where a camera images the mirrors,
    how their light falls on its sensor; ``mirror_light`` is then what arrives there (SensorImages.arriving).
    """

    def __init__(
        self,
        settings: BenchSettings,
        mirror_light: NDArray[np.float64],
        clock: Callable[[], float] = time.monotonic,
        light_on: bool = False,
        sensor_images: SensorImages | None = None,
    ) -> None:
        self.settings = settings
        self.sensor_images = sensor_images
        self.lock = threading.RLock()
        # A lock of its own: an upload beside a running projection must not keep the detectors waiting.
        self._decoder_lock = threading.Lock()
        self._decoder = BitDecoder(mirror_light)
        self._light_of_all = float(self._decoder.mirror_light.sum())
        self._noise = ExposureNoise(settings.gain, settings.variance, settings.source_noise, settings.seed)
        self._clock = clock
        self._light_on = light_on
        self._watchers: list[Watcher] = []
        self._record: list[Projection] = []
        self._running: Running | None = None
        self._faults: list[Fault] = []
        self._struck: list[Fault] = []
        self._camera_faults = CameraFaults()
        self._n_projections = 0
        self._n_relit = 0
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
    def light_of_all(self) -> float:
        """The light of all mirrors together."""
        return self._light_of_all

    @property
    def n_relit(self) -> int:
        """How often the light on the mirrors was changed."""
        return self._n_relit

    @property
    def record(self) -> tuple[Projection, ...]:
        """What was displayed so far, in order."""
        with self.lock:
            self._advance()
            return (*self._record, *([] if self._running is None else self._running.displayed()))

    @property
    def n_projections(self) -> int:
        """How many projections have begun."""
        return self._n_projections

    @property
    def struck(self) -> tuple[Fault, ...]:
        """The faults that have come, those of a projection under way included."""
        with self.lock:
            return tuple(self._struck)

    @property
    def camera_faults(self) -> CameraFaults:
        """What goes wrong between camera and buffer in the latest projection."""
        return self._camera_faults

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

    def relight(self, mirror_light: NDArray[np.float64], sensor_images: SensorImages | None = None) -> None:
        """Let something else lie under the mirrors from now on: ``mirror_light`` and ``sensor_images`` as at the start.

        Pictures that were decoded before send what they sent before; who keeps their light sees by ``n_relit`` that it
        is outdated. Raises RuntimeError while pictures are displayed, ValueError for other mirrors, or where a camera
        that images them would get or lose its images.
        """
        if mirror_light.shape != self.mirror_light.shape or (sensor_images is None) != (self.sensor_images is None):
            raise ValueError(
                f"found light of {mirror_light.shape} mirrors, images: {sensor_images is not None}; expected "
                f"{self.mirror_light.shape}, {self.sensor_images is not None}"
            )
        decoder = BitDecoder(mirror_light)
        with self.lock:
            self._advance()
            if self._running is not None:
                raise RuntimeError("the bench is displaying; the sample can be moved between projections only")
            with self._decoder_lock:
                self._decoder = decoder
                self.sensor_images = sensor_images
            self._light_of_all = float(decoder.mirror_light.sum())
            self._n_relit += 1

    def attach(self, watcher: Watcher) -> None:
        """Let a detector see every exposure from now on."""
        with self.lock:
            self._watchers.append(watcher)

    def inject(self, *faults: Fault) -> None:
        """Let faults happen, each once, when the projection that it names comes.

        Raises ValueError for a projection that has begun already.
        """
        with self.lock:
            for fault in faults:
                if fault.projection < self._n_projections:
                    raise ValueError(f"{fault} comes too late: the next projection is number {self._n_projections}")
            self._faults += faults

    def withdraw(self) -> tuple[Fault, ...]:
        """Take back the faults that have not come, and those that never will: their projection had no such exposure."""
        with self.lock:
            withdrawn, self._faults = tuple(self._faults), []
            return withdrawn

    def take_stale_frames(self) -> int:
        """How many frames of before a camera finds in its buffer that begins a sequence now; they are there once."""
        with self.lock:
            due = [
                each
                for each in self._faults
                if isinstance(each, StaleFrames) and each.projection == self._n_projections
            ]
            self._strike(due)
            return sum(each.frames for each in due)

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
        images: Sequence[NDArray[np.float32]] | None = None,
    ) -> None:
        """Start displaying pictures ``first`` … of a bank, of light float64 [n], one exposure each, in this order.

        images: those of the pictures float32 [height, width] on the sensor, where a camera images the mirrors.
        Raises RuntimeError while others are displayed, ValueError where images are needed and not one a picture.
        """
        if self.sensor_images is not None and (images is None or len(images) != len(light)):
            found = "none" if images is None else str(len(images))
            raise ValueError(f"found {found} images of {len(light)} pictures; a camera that images them needs all")
        with self.lock:
            self._advance()
            if self._running is not None:
                raise RuntimeError("the bench is displaying already")
            faults = self._due_faults(len(light))
            self._strike(faults)
            self._camera_faults = camera_faults(faults, self._n_exposures)
            self._n_projections += 1
            self._running = Running(
                light,
                picture_time_us,
                illumination_time_us,
                bank,
                first,
                self._clock(),
                faults,
                self._n_exposures,
                self._time_us,
                self.settings.offset,
                None if self.sensor_images is None else images,
            )
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
        """The mean reading float64 [n_exposures] of every exposure of a projection on record, offset included.

        It is what is read where trigger and camera work: Saturation and the like are not in it. Bleaching, the lamp's
        drift and fading, and the light of mirrors that are off are.
        """
        return self._mean_light(projection) + self.settings.offset

    def pixel_sources(self, exposures: NDArray[np.int64]) -> NDArray[np.object_] | None:
        """What makes the pixels of frames (PixelSource), object [n]; None where no camera images the mirrors.

        exposures: int64 [n], bench numbers that a watcher is being told of: to be asked while it is told. The sources
        can be called at any later time. A late frame is the sum of its parts of the frames of all exposures it sees.
        """
        if self.sensor_images is None or self._running is None:
            return None
        sources = np.empty(len(exposures), dtype=np.object_)
        for index, exposure in enumerate(exposures.tolist()):
            sources[index] = partial(self._pixels, self._running.collected(exposure), self.sensor_images)
        return sources

    def _advance(self) -> None:
        running = self._running
        if running is None:
            return
        due = running.due(self._clock(), self.settings.pace)
        if due > running.done:
            self._expose(running, due)
        if running.is_over(self._clock(), self.settings.pace):
            self._finish()

    def _due_faults(self, n_pictures: int) -> list[Fault]:
        """The faults that come in the projection that begins now."""
        if not self._faults:
            return []
        named = [
            each
            for each in self._faults
            if each.projection == self._n_projections and not isinstance(each, StaleFrames)
        ]
        ends = [each for each in named if isinstance(each, EarlyEnd) and comes(each, n_pictures)]
        n_exposures = min([n_pictures, *(each.exposures for each in ends)])
        return [*ends, *(each for each in named if not isinstance(each, EarlyEnd) and comes(each, n_exposures))]

    def _strike(self, faults: Sequence[Fault]) -> None:
        for fault in faults:
            self._faults.remove(fault)
        self._struck += faults

    def _expose(self, running: Running, due: int) -> None:
        shown = slice(running.done, due)
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
            light=running.light[shown],
            pictures=running.pictures[shown],
        )
        n = stretch.n_exposures
        readings = self._mean_light(stretch)
        if self.settings.shot_noise:
            readings = self._noise.readings(readings, self._n_exposures)
        readings += self.settings.offset
        if self.sensor_images is not None:
            running.image(self._decay(stretch), self._lamp(stretch))
        if running.triggers is None:
            times_us = self._time_us + running.picture_time_us * np.arange(n, dtype=np.float64)
            exposures = np.arange(self._n_exposures, self._n_exposures + n, dtype=np.int64)
        else:
            times_us, readings, exposures = running.triggers.frames(readings)
        running.show(stretch)
        self._n_exposures += n
        self._time_us += n * running.picture_time_us
        if self._light_on:
            self._lit_us += n * running.illumination_time_us
        if len(exposures):
            for watcher in self._watchers:
                watcher.expose(times_us, readings, exposures)

    def _finish(self) -> None:
        if self._running is not None:
            self._record += self._running.cut()
            self._running = None
            self._time_us = max(self._time_us, self._busy_until_us)

    def _mean_light(self, projection: Projection) -> NDArray[np.float64]:
        """(L'·D + B)·lamp."""
        settings, light = self.settings, projection.light
        if settings.dmd_contrast is not None:
            light = light + (self._light_of_all - light) / settings.dmd_contrast
        above_dark: NDArray[np.float64] = light * self._decay(projection) + settings.background
        return above_dark * self._lamp(projection)

    def _decay(self, projection: Projection) -> NDArray[np.float64]:
        """D of every exposure."""
        lit_s = projection.illumination_time_us * 1e-6
        before_s = projection.lit_before_us * 1e-6 + lit_s * np.arange(projection.n_exposures)
        rate = self.settings.bleaching_per_s
        within = -np.expm1(-rate * lit_s) / (rate * lit_s) if rate * lit_s > 0 else 1.0
        decay: NDArray[np.float64] = np.exp(-rate * before_s) * within
        return decay

    def _lamp(self, projection: Projection) -> NDArray[np.float64]:
        """The lamp of every exposure: 1 at the beginning, for the nominal time; 0 with the light off."""
        if not projection.light_on:
            return np.zeros(projection.n_exposures)
        settings = self.settings
        time_s = (projection.start_us + projection.picture_time_us * np.arange(projection.n_exposures)) * 1e-6
        drift = 1.0 + settings.lamp_drift * np.sin(2.0 * np.pi * time_s / settings.lamp_drift_period_s)
        share = projection.illumination_time_us / settings.nominal_illumination_us
        lamp: NDArray[np.float64] = share * drift * np.exp(-settings.lamp_fading_per_s * time_s)
        return lamp

    def _pixels(self, collected: Sequence[tuple[Imaged, float]], sensor_images: SensorImages) -> NDArray[np.float64]:
        """A frame float64 [height, width] before it is rounded: the parts of all exposures that it collects."""
        height, width = sensor_images.shape
        pixels = np.full((height, width), self.settings.offset / (height * width))
        for imaged, share in collected:
            pixels += share * self._above_offset(imaged, sensor_images)
        return pixels

    def _above_offset(self, imaged: Imaged, sensor_images: SensorImages) -> NDArray[np.float64]:
        settings = self.settings
        if imaged.is_flooded:
            return np.full(sensor_images.shape, FLOOD)
        light = imaged.image.astype(np.float64)
        if settings.dmd_contrast is not None:
            light += (sensor_images.all_on - light) / settings.dmd_contrast
        mean = (light * imaged.decay + settings.background / light.size) * imaged.lamp
        if not settings.shot_noise:
            return mean
        with self.lock:
            return self._noise.pixels(mean, imaged.exposure)
