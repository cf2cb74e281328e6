"""Writes the folder of a series: its facts, and the images that its events fill plane by plane.

Layout::

    events/t000_p000_c000_z000, …   a run each, exactly as `acquire` makes them (acquisition.run_layout)
    0, 1, …                         OME-Zarr 0.5 [t, c, z, y, x], float32: an image of every position
    uncertainty/0, …                the same of the uncertainty, where the method gives one
    OME                             which images there are, in the order of the positions (bioformats2raw.layout 3)

The events are what counts: planes are copies of their images, and can be written again. Beside them lie
``events.jsonl`` and ``log.txt`` of the series itself. Whoever writes a series holds its lock, as with a run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
import zarr
from filelock import BaseFileLock
from numpy.typing import NDArray

from acquisition.config import AcquisitionConfig
from acquisition.mda import SeriesAxes, SeriesEvent, series_axes
from acquisition.ome_images import NGFF_VERSION, create_image, write_plane
from acquisition.run_folder import WrittenFolder, check_replaceable, lock_to_keep, made_whole
from acquisition.run_layout import SERIES_LAYOUT_VERSION, disk_full, group_of, open_run
from acquisition.run_lock import unlock_run

PLANE_DTYPE = "float32"
RECIPE = "series"


class SeriesStore(WrittenFolder):
    """Writes one series, of which it holds the lock."""

    def __init__(self, path: Path, lock: BaseFileLock) -> None:
        """Open a series that exists, whose lock is held (see ``create`` and ``reopen``)."""
        super().__init__(path)
        self._lock: BaseFileLock | None = lock

    @classmethod
    def create(
        cls, path: Path, config: AcquisitionConfig, attributes: dict[str, Any], *, overwrite: bool = False
    ) -> Self:
        """Make an empty series; it appears at ``path`` when it is whole.

        attributes: JSON-able facts. Raises OutputExistsError where the path exists and ``overwrite`` is not set,
        NotARunError where it should overwrite something that is no series, RunInUseError, and DiskFullError.
        """
        check_replaceable(path, RECIPE, overwrite=overwrite)
        with lock_to_keep(path) as lock:
            with made_whole(path) as unfinished:
                facts = {**attributes, "recipe": RECIPE, "series": SERIES_LAYOUT_VERSION}
                ome = {"version": NGFF_VERSION, "bioformats2raw.layout": 3}
                group = zarr.create_group(unfinished, zarr_format=3, attributes={"ome": ome, "hadascope": facts})
                group.create_group("events")
                _create_images(group, config)
            return cls(path, lock)

    @classmethod
    def reopen(cls, path: Path) -> Self:
        """Go on writing a series. Raises NotARunError, RunInUseError."""
        open_run(path, "r")
        with lock_to_keep(path) as lock:
            return cls(path, lock)

    def write_event(
        self, event: SeriesEvent, image: NDArray[np.float64], uncertainty: NDArray[np.float64] | None
    ) -> None:
        """Write the image [n, n] of an event, and its uncertainty, as planes of its position. Raises DiskFullError."""
        t, position, c, z = event.index
        try:
            write_plane(group_of(self._group, str(position)), (t, c, z), image)
            if uncertainty is not None:
                write_plane(group_of(self._group, f"uncertainty/{position}"), (t, c, z), uncertainty)
        except OSError as error:
            raise disk_full(self.path, error) from error

    def close(self) -> None:
        """Release the lock; everything written is on disk already. Idempotent."""
        if self._lock is not None:
            unlock_run(self._lock)
            self._lock = None


def plane_bytes(config: AcquisitionConfig) -> int:
    """Bytes that the planes of one event take at most, with their smaller levels."""
    levels = 4 / 3 * config.sensing.side**2 * np.dtype(PLANE_DTYPE).itemsize
    return int(levels * (2 if _gives_uncertainty(config) else 1))


def _create_images(group: zarr.Group, config: AcquisitionConfig) -> None:
    """Images of the whole series' shape in which no plane was written yet."""
    assert config.mda is not None
    axes = series_axes(config.mda)
    group.create_group(
        "OME", attributes={"ome": {"version": NGFF_VERSION, "series": [str(p) for p in range(len(axes.positions))]}}
    )
    if _gives_uncertainty(config):
        group.create_group("uncertainty")
    for number, name in enumerate(axes.positions):
        _create_image(group, str(number), name, axes, config)
        if _gives_uncertainty(config):
            _create_image(group, f"uncertainty/{number}", f"{name}, uncertainty", axes, config)


def _create_image(group: zarr.Group, path: str, name: str, axes: SeriesAxes, config: AcquisitionConfig) -> None:
    side = config.sensing.side
    create_image(
        group,
        path,
        {"t": axes.n_times, "c": len(axes.channels), "z": axes.n_planes, "y": side, "x": side},
        channels=axes.channels,
        name=name,
        px_um=config.px_um,
        z_um=axes.z_um,
        interval_s=axes.interval_s,
        dtype=PLANE_DTYPE,
        facts={"simulated": config.simulated},
    )


def _gives_uncertainty(config: AcquisitionConfig) -> bool:
    return config.reconstruction.method == "network"
