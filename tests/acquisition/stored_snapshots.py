"""The snapshots that a run left, as the tests read them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acquisition.ome_images import plane_of
from acquisition.stored_run import StoredRun


@dataclass(frozen=True)
class Snapshots:
    """A run's snapshots, in the order of time.

    images: float32 [k, n, n], detector units per exposure; times_s: float64 [k], end of each one's newest block since
    the run began; pairs, blocks: int64 [k], how much was in it.
    """

    images: NDArray[np.float32]
    times_s: NDArray[np.float64]
    pairs: NDArray[np.int64]
    blocks: NDArray[np.int64]


def stored_snapshots(run: StoredRun) -> Snapshots:
    """A run's snapshots. Raises KeyError where it has none."""
    image = run.ome_image("snapshots")
    facts = image.attrs["hadascope"]
    assert isinstance(facts, dict)
    n_snapshots = len(facts["times_s"])
    return Snapshots(
        images=np.stack([plane_of(image, (t, 0)) for t in range(n_snapshots)]).astype(np.float32),
        times_s=np.array(facts["times_s"], dtype=np.float64),
        pairs=np.array(facts["pairs"], dtype=np.int64),
        blocks=np.array(facts["blocks"], dtype=np.int64),
    )
