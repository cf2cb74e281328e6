"""One stored run as it is viewed: what was read of it so far, and the image that was made of that."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acquisition.config import AcquisitionConfig
from acquisition.events import EVENTS_FILE, EventKind, read_events
from acquisition.evidence import EvidenceCollector, detector_dark_level
from acquisition.live import live_threads
from acquisition.live_view.feed import arrays_of_image, arrays_of_readings, said_of_sensing
from acquisition.live_view.state import (
    MOST_REMARKS,
    Remark,
    ViewArray,
    ViewedState,
    ViewState,
    remark_of,
)
from acquisition.live_view.tally import Tally
from acquisition.observer import Place
from acquisition.problems import AcquisitionFileError
from acquisition.reconstruction import NothingSeenError, psnr_of, reconstruct
from acquisition.run_layout import RunState
from acquisition.stored_models import DifferentRunError, network_must_be_unchanged
from acquisition.stored_reconstruction import stored_config
from acquisition.stored_run import StoredRun
from acquisition.trained_models import NamedModel, network_model

# So long blocks are read before what was read is shown.
_READING_S = 0.5


class StoredView:
    """What is shown of one run; ``state`` is it, its version excepted."""

    def __init__(self, run: StoredRun, place: Place | None = None) -> None:
        """Raises NotARunError where the run is no acquisition, AcquisitionFileError where its file is not usable."""
        run.must_hold("hadamard")
        self._identity = _identity(run)
        self._place = place
        self._dark_level = detector_dark_level(run.dark, run.facts["dark_under_light"])
        config = stored_config(run)
        self._config, self._network, without_model = _drawable(run, config)
        self._prior = run.image_prior
        if self._prior is None and config.reconstruction.prior is None and self._network is not None:
            self._prior = self._network.model.prior
        self._own_remarks = () if without_model is None else (Remark(run.facts["started"], "warning", without_model),)
        self._pairs_total = int(run.repeats.sum(dtype=np.int64))
        side = self._config.sensing.side
        self._collector = EvidenceCollector(side * side, self._dark_level)
        self._tally = Tally(side)
        self._last_block = -1
        self._remarks: deque[Remark] = deque(maxlen=MOST_REMARKS)
        self._repeated = 0
        self._events_bytes = -1
        self._blocks_in_image = 0
        self._is_last_image = False
        self._quality: str | None = None
        self._age_s: float | None = None
        self._revision = time.monotonic_ns()
        self._of_image: tuple[ViewArray, ...] = ()
        self._of_readings: tuple[ViewArray, ...] = ()
        self.state = self._stated(run)

    def is_of(self, run: StoredRun) -> bool:
        """Whether it is this run, and not one that has taken its place."""
        return self._identity == _identity(run)

    def take_in(self, run: StoredRun) -> bool:
        """Add what is new in the run, opened again; whether there are blocks left that were not read in time.

        Raises what half-written and damaged runs raise; what was read until then is kept.
        """
        began_s = time.monotonic()
        try:
            self._take_events(run)
            if run.state is RunState.FINISHED:
                self._take_image(run, began_s)  # before its blocks, which may be many
            is_behind = self._take_blocks(run, began_s + _READING_S)
            if not is_behind:
                self._take_image(run, began_s)
        finally:
            self.state = self._stated(run)
        return is_behind

    def _take_events(self, run: StoredRun) -> None:
        path = run.path / EVENTS_FILE
        n_bytes = path.stat().st_size if path.exists() else 0
        if n_bytes == self._events_bytes:
            return
        events = list(read_events(run.path))
        self._repeated = sum(event.kind is EventKind.BLOCK_REPEATED for event in events)
        self._remarks.clear()
        self._remarks.extend(remark for event in events if (remark := remark_of(event)) is not None)
        self._events_bytes = n_bytes

    def _take_blocks(self, run: StoredRun, until_s: float) -> bool:
        is_behind, anything = False, False
        try:
            for number in run.committed[run.committed > self._last_block]:
                if time.monotonic() > until_s:
                    is_behind = True
                    break
                readings = run.block(int(number))
                self._collector.add(readings)
                self._tally.add(readings.index, readings.plus, readings.minus, readings.time_us)
                self._last_block = int(number)
                anything = True
        finally:
            if anything or not self._of_readings:
                self._revision += 1
                self._of_readings = arrays_of_readings(self._tally, self._dark_level, revision=self._revision)
        return is_behind

    def _take_image(self, run: StoredRun, began_s: float) -> None:
        """The stored image of a run that finished, or one of what was read so far."""
        if run.state is RunState.FINISHED and run.has_image("image"):
            if not self._is_last_image:
                image = run.image("image")
                uncertainty = run.image("uncertainty") if run.has_image("uncertainty") else None
                predicted, forecast = run.facts.get("predicted_mse"), run.facts.get("forecast_mse")
                what, mse = ("linear forecast", forecast) if predicted is None else ("predicted", predicted)
                peak = float(image.max()) or 1.0
                self._quality = None if mse is None else f"{what} {psnr_of(mse, peak):.1f} dB"
                self._age_s = None
                self._show(image, uncertainty)
                self._is_last_image = True
            return
        if self._tally.blocks in (0, self._blocks_in_image):
            return
        if self._network is not None:
            import torch

            torch.set_num_threads(live_threads())
        model = None if self._network is None else self._network.model
        try:
            made = reconstruct(self._collector.snapshot(), self._config, self._prior, model)
        except NothingSeenError:
            return  # the next block may bring light
        self._quality = made.said_of_quality(float(made.image.max()) or 1.0)
        self._age_s = time.monotonic() - began_s
        self._blocks_in_image = self._tally.blocks
        self._show(made.image, made.uncertainty)

    def _show(self, image: NDArray[np.float64], uncertainty: NDArray[np.float64] | None) -> None:
        self._revision += 1
        self._of_image = arrays_of_image(image, uncertainty, revision=self._revision)

    def _stated(self, run: StoredRun) -> ViewState:
        config, tally, facts = self._config, self._tally, run.facts
        state = ViewedState(run.state)
        if state is ViewedState.RUNNING and tally.pairs == self._pairs_total:
            state = ViewedState.CONCLUDING
        elapsed_s, left_s = tally.last_time_s, None
        if state is ViewedState.RUNNING and tally.pairs:
            left_s = elapsed_s / tally.pairs * (self._pairs_total - tally.pairs)
        return ViewState(
            version=0,
            run=run.path.name,
            title=config.sample.name,
            simulated=bool(facts["simulated"]),
            state=state,
            cause=facts.get("cause"),
            can_stop=False,
            stopping=False,
            place=self._place,
            side=config.sensing.side,
            px_um=config.px_um,
            sensing=said_of_sensing(config),
            pairs=tally.pairs,
            pairs_total=self._pairs_total,
            blocks=tally.blocks,
            blocks_total=run.n_blocks,
            repeated=self._repeated,
            elapsed_s=elapsed_s,
            left_s=left_s,
            dose_mj=run.dose_mj,
            # In a series the limit holds for each position.
            dose_limit_mj=config.sample.dose_limit_mj if self._place is None else None,
            lit_exposures=max(run.lit_exposures, int(facts.get("lit_exposures", 0))),
            quality=self._quality,
            image_age_s=self._age_s,
            warnings=(*self._own_remarks, *self._remarks),
            arrays=(*self._of_image, *self._of_readings),
        )


def _identity(run: StoredRun) -> tuple[Any, ...]:
    """What tells a run from one that was put in its place."""
    found = run.path.stat()
    return run.path, found.st_dev, found.st_ino, run.facts.get("started"), run.facts.get("schedule")


def _drawable(run: StoredRun, config: AcquisitionConfig) -> tuple[AcquisitionConfig, NamedModel | None, str | None]:
    """How the run's images can be made here: as it asks, or without its network where that is not to be had."""
    try:
        network = network_model(config)
        network_must_be_unchanged(run, network)
    except (AcquisitionFileError, DifferentRunError) as error:
        method = config.reconstruction.model_copy(update={"method": "wiener-tv", "model": None})
        return config.replace(reconstruction=method), None, f"images on the way are made by wiener-tv here: {error}"
    return config, network, None
