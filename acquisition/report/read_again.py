"""The readings of a run once more, block by block: what was taken, the light, and an image where there is none."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acquisition.damaged_run import readable_blocks, tried
from acquisition.evidence import Evidence, EvidenceCollector, NoEvidenceError, detector_dark_level
from acquisition.reconstruction import NothingSeenError, Reconstruction, reconstruct
from acquisition.report.light_curve import LightCurve, LightCurveCollector
from acquisition.split_half import HalvesCollector
from acquisition.stored_reconstruction import stored_config
from acquisition.stored_run import StoredRun


@dataclass(frozen=True)
class ReadAgain:
    """What the blocks gave that could be read: M of every coefficient, int64 [N], and the light over time.

    reconstruction: the linear one, of a run that has put no error on record; quality: forecast_mse, predicted_mse,
    image_peak and split_half as on record, or of that reconstruction. None, or empty, where there is nothing to say.
    """

    pairs: NDArray[np.int64] | None
    light: LightCurve | None
    reconstruction: Reconstruction | None
    quality: dict[str, Any]

    @classmethod
    def of(cls, run: StoredRun, damage: list[str]) -> ReadAgain:
        """Read all blocks in one pass; what cannot be read is added to ``damage``."""
        scheduled = tried("the schedule's repeats", lambda: run.repeats, damage)
        dark = tried("the readings with the light off", lambda: run.dark, damage)
        if scheduled is None:
            return cls(None, None, None, {})
        level = detector_dark_level(np.empty(0) if dark is None else dark, bool(run.facts.get("dark_under_light")))
        evidence, halves = EvidenceCollector(len(scheduled), level), HalvesCollector(len(scheduled), level)
        timing = run.facts.get("accepted_timing") or run.facts["config"]["timing"]
        light = LightCurveCollector(timing["picture_time_us"], timing["illumination_time_us"])
        pairs = np.zeros(len(scheduled), dtype=np.int64)
        on_record = "split_half" in run.facts
        for readings in readable_blocks(run, damage):
            np.add.at(pairs, readings.index, 1)
            light.add(readings)
            if not on_record:
                evidence.add(readings)
                halves.add(readings)
        if on_record:
            return cls(pairs, light.curve(), None, run.facts)
        made = tried("an image from the readings", lambda: _linear(run, evidence), damage) if pairs.any() else None
        if made is None:
            return cls(pairs, light.curve(), None, {})
        whole, reconstruction = made
        config = stored_config(run, method="wiener-tv", tv_weight=0.0)
        quality = {
            "forecast_mse": reconstruction.forecast_mse,
            "image_peak": float(reconstruction.image.max()),
            "split_half": asdict(halves.compared(whole, config, reconstruction)),
        }
        return cls(pairs, light.curve(), reconstruction, quality)


def _linear(run: StoredRun, collector: EvidenceCollector) -> tuple[Evidence, Reconstruction] | None:
    """The linear image of the blocks so far; None where they show no light."""
    config = stored_config(run, method="wiener-tv", tv_weight=0.0)
    try:
        whole = collector.snapshot()
        return whole, reconstruct(whole, config, run.image_prior)
    except (NoEvidenceError, NothingSeenError):
        return None
