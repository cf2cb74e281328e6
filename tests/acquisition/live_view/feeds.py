"""Feeds that tests write by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from acquisition.live_view.state import ViewArray, ViewedState, ViewState


def a_state(version: int = 1, **changes: Any) -> ViewState:
    """A state of a run of 4 × 4 px; changes: what is different."""
    image = ViewArray("image", np.arange(16, dtype=np.float32).reshape(4, 4), "detector units", 1)
    counts = ViewArray("counts", np.arange(16, dtype=np.uint16).reshape(4, 4), "pairs", 2)
    sums = ViewArray("pair_sums", np.arange(9, dtype=np.float32).reshape(3, 3), "detector units", 3)
    state = ViewState(
        version=version,
        run="hela.zarr",
        title="HeLa, µ-dish",
        simulated=True,
        state=ViewedState.RUNNING,
        cause=None,
        can_stop=True,
        stopping=False,
        place=None,
        side=4,
        px_um=0.5472,
        sensing="4 × 4 px, α = 0.25, S = 8, learned mask",
        pairs=120,
        pairs_total=400,
        blocks=12,
        blocks_total=40,
        repeated=1,
        elapsed_s=3.25,
        left_s=8.5,
        dose_mj=1.5,
        dose_limit_mj=None,
        lit_exposures=260,
        quality="linear forecast 31.2 dB",
        image_age_s=0.125,
        warnings=(),
        arrays=(image, counts, sums),
    )
    return replace(state, **changes)


class HandFeed:
    """Shows what it is given; every look finds a newer version of it."""

    def __init__(self, shown: ViewState | None = None) -> None:
        self.shown = a_state() if shown is None else shown
        self.version = 0
        self.kept_up = 0
        self.why_not: str | None = None
        self.stops = 0
        self.is_closed = False
        self.failure: Exception | None = None

    def state(self) -> ViewState:
        if self.failure is not None:
            raise self.failure
        self.version += 1
        return replace(self.shown, version=self.version)

    def keep_up(self) -> None:
        self.kept_up += 1
        if self.failure is not None:
            raise self.failure

    def stop(self) -> str | None:
        self.stops += 1
        return self.why_not

    def close(self) -> None:
        self.is_closed = True
