"""How a run's image came to be: the image as it would have been after some of its blocks, evenly spaced.

Snapshots are made from the stored readings when a run has ended, not while the light is on: a run that was stopped and
resumed has the same ones, to the bit, as one that went through.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from acquisition import ome_images
from acquisition.config import AcquisitionConfig
from acquisition.readings import Readings
from acquisition.reconstruction import NothingSeenError, reconstruct
from acquisition.run_layout import IMAGE_CHANNELS, disk_full, open_run
from acquisition.stored_reconstruction import collected
from acquisition.stored_run import StoredRun
from models.learning.model_file import TrainedModel
from models.priors import Prior


def write_snapshots(
    run: StoredRun, config: AcquisitionConfig, prior: Prior | None = None, model: TrainedModel | None = None
) -> None:
    """Write a finished run's images/snapshots, float32 [t, c, y, x], ``config.output.snapshots`` of them at most.

    prior, model: as in acquisition.reconstruction.reconstruct; the last one is the stored image itself. Where so far no
    light was seen there is no image, and no snapshot; the time from one t to the next is their mean spacing, and the
    facts beside it hold each one's own. Costs a pass over the readings, and all but one of the images as long as the
    run's own takes. Raises DiskFullError, CorruptBlockError.
    """
    wanted = snapshot_blocks(run.n_blocks, config.output.snapshots)
    if not wanted:
        return
    found = list(_made(run, config, prior, model, wanted))
    times_s = [time_s for _, time_s, _, _ in found]
    try:
        ome_images.write_image(
            open_run(run.path, "r+"),
            "images/snapshots",
            np.stack([image for image, _, _, _ in found])[:, np.newaxis],
            "tcyx",
            channels=[IMAGE_CHANNELS["snapshots"]],
            name="snapshots",
            px_um=config.px_um,
            interval_s=float(np.diff(times_s).mean()) if len(found) > 1 else times_s[0],
            facts={
                "times_s": times_s,
                "pairs": [pairs for _, _, pairs, _ in found],
                "blocks": [blocks for _, _, _, blocks in found],
            },
        )
    except OSError as error:
        raise disk_full(run.path, error) from error


def snapshot_blocks(n_blocks: int, most: int) -> tuple[int, ...]:
    """After how many blocks there is a snapshot: ``most`` times at most, evenly spaced, the last time after all."""
    count = min(n_blocks, most)
    return tuple(-(-n_blocks * number // count) for number in range(1, count + 1))


def _made(
    run: StoredRun,
    config: AcquisitionConfig,
    prior: Prior | None,
    model: TrainedModel | None,
    wanted: tuple[int, ...],
) -> Iterator[tuple[NDArray[np.float32], float, int, int]]:
    """Image, time in s, pairs and blocks of every snapshot."""
    collector, n_pairs = collected(run, ()), 0
    timing = run.facts.get("accepted_timing") or run.facts["config"]["timing"]
    for n_blocks, readings in enumerate(run.blocks(), start=1):
        collector.add(readings)
        n_pairs += readings.n_pairs
        if n_blocks not in wanted:
            continue
        if n_blocks == run.n_blocks:
            image = run.image("image")
        else:
            try:
                image = reconstruct(collector.snapshot(), config, prior, model).image
            except NothingSeenError:
                continue
        yield image.astype(np.float32), _end_s(readings, timing["picture_time_us"]), n_pairs, n_blocks


def _end_s(readings: Readings, picture_time_us: float) -> float:
    """When a block's last exposure ended, s since the run began."""
    n_exposures = 2 * readings.n_pairs + readings.guards.size
    return (readings.start_us + n_exposures * picture_time_us) / 1e6
