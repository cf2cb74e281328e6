"""The live image: always made from the newest evidence, never in the way of the light."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acquisition.bank import GUARD_PICTURES
from acquisition.config import AcquisitionConfig
from acquisition.evidence import Evidence, EvidenceCollector
from acquisition.readings import Readings
from acquisition.reconstruction import NothingSeenError, Reconstruction, reconstruct
from models.learning.model_file import TrainedModel
from models.priors import Prior

_MOST_THREADS = 4


def warm_up(config: AcquisitionConfig, image_prior: Prior | None, model: TrainedModel | None = None) -> None:
    """Reconstruct made-up evidence once, so that the first image under light does not wait.

    What takes time then is the loading of libraries, and of a network's weights.
    """
    n_coefficients = config.sensing.side**2
    rng = np.random.default_rng(0)
    index = np.arange(1, n_coefficients, dtype=np.int64)
    plus, minus = rng.uniform(1e3, 2e3, (2, len(index)))
    dark = np.zeros((1, GUARD_PICTURES))
    collector = EvidenceCollector(n_coefficients, dark_level=0.0)
    collector.add(Readings(0, 1, 0.0, index, plus, minus, index.astype(np.float64), dark))
    reconstruct(collector.snapshot(), config, image_prior, model)


def live_threads() -> int:
    """How many threads may compute the live image: one core less than there are is left to it, four at most."""
    return max(1, min(_MOST_THREADS, (os.cpu_count() or 1) - 1))


@dataclass(frozen=True)
class LiveImage:
    """A live image: what it shows, how much was in it, and how old its newest block was when it was ready.

    time_s: when it was ready, since the pipeline started; n_pairs: pairs in it; age_s: from the acceptance of its
    newest block to the image.
    """

    reconstruction: Reconstruction
    time_s: float
    n_pairs: int
    age_s: float


class LivePipeline:
    """Reconstructs in a thread of its own whenever there is newer evidence; states in between are skipped.

    on_image: called in that thread with every new image; evidence without light makes none. A failure ends the live
    view, not the run: it is kept in ``failure`` for the run's record.
    """

    def __init__(
        self,
        collector: EvidenceCollector,
        config: AcquisitionConfig,
        image_prior: Prior | None = None,
        model: TrainedModel | None = None,
        *,
        on_image: Callable[[LiveImage], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._collector = collector
        self._config = config
        self._image_prior = image_prior
        self._model = model
        self._on_image = on_image
        self._clock = clock
        self._started = clock()
        self._newest_at = self._started
        self._news = threading.Event()
        self._closing = threading.Event()
        self._record: list[tuple[float, float, float, float]] = []
        self.newest: LiveImage | None = None
        self.failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="live pipeline", daemon=True)
        self._thread.start()

    @property
    def record(self) -> NDArray[np.float64]:
        """Time in s, pairs, age in s and expected squared error of every live image so far, float64 [refreshes, 4]."""
        return np.array(self._record, dtype=np.float64).reshape(-1, 4)

    def notify(self) -> None:
        """Say that there is newer evidence. Returns at once."""
        self._newest_at = self._clock()
        self._news.set()

    def close(self) -> None:
        """End the thread after the image it is at. Idempotent."""
        self._closing.set()
        self._news.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            _leave_a_core_to_the_light_path()
            while True:
                self._news.wait()
                if self._closing.is_set():
                    return
                self._news.clear()
                newest_at = self._newest_at
                self._show(self._collector.snapshot(), newest_at)
                self._closing.wait(self._config.reconstruction.refresh_s)
        except Exception as error:
            self.failure = error

    def _show(self, evidence: Evidence, newest_at: float) -> None:
        if self.newest is not None and evidence.n_pairs == self.newest.n_pairs:
            return  # its block came before the last image, the news of it after
        try:
            reconstruction = reconstruct(evidence, self._config, self._image_prior, self._model)
        except NothingSeenError:
            return  # the next block may bring light
        now = self._clock()
        self.newest = LiveImage(reconstruction, now - self._started, evidence.n_pairs, now - newest_at)
        self._record.append((self.newest.time_s, evidence.n_pairs, self.newest.age_s, reconstruction.expected_mse))
        if self._on_image is not None:
            self._on_image(self.newest)


def _leave_a_core_to_the_light_path() -> None:
    """Tell torch, which counts its threads for each thread that calls it."""
    import torch

    torch.set_num_threads(live_threads())
