"""Writes one run; see acquisition.run_layout for what it looks like."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import zarr
from filelock import BaseFileLock
from numpy.typing import NDArray

from acquisition import ome_images
from acquisition.readings import Readings
from acquisition.run_folder import WrittenFolder, check_replaceable, lock_to_keep, made_whole
from acquisition.run_layout import (
    COMMIT_FIELDS,
    IMAGE_CHANNELS,
    LAYOUT_VERSION,
    LIVE_FIELDS,
    array_of,
    checksum_of,
    disk_full,
    facts_of,
    must_be_one_run,
    open_run,
    readings_arrays,
)
from acquisition.run_lock import unlock_run
from acquisition.schedule import Schedule
from models.statistics import CoefficientStatistics


@dataclass(frozen=True)
class FrameShape:
    """What the frames of a block are stored as: height and width in pixels, and their type."""

    height_px: int
    width_px: int
    dtype: str

    @property
    def n_bytes(self) -> int:
        """Bytes of one frame."""
        return self.height_px * self.width_px * np.dtype(self.dtype).itemsize


class RunStore(WrittenFolder):
    """Writes one run, of which it holds the lock. Not thread-safe: one thread owns it at a time."""

    def __init__(self, path: Path, lock: BaseFileLock) -> None:
        """Open a run that exists, whose lock is held (see ``create`` and ``reopen``)."""
        super().__init__(path)
        self._lock = lock
        self._loop = asyncio.new_event_loop()
        self._readings = readings_arrays(self._group)
        self._commits = array_of(self._group, "readings/commits")

    @classmethod
    def create(
        cls,
        path: Path,
        schedule: Schedule,
        described: Mapping[str, NDArray[Any]],
        attributes: dict[str, Any],
        *,
        dark: NDArray[np.float64] | None = None,
        bench_fields: int = 0,
        frames: FrameShape | None = None,
        overwrite: bool = False,
    ) -> Self:
        """Make an empty run of the schedule's shape; it appears at ``path`` when it is whole.

        described: arrays that say where the schedule came from, by name; attributes: JSON-able facts of the run
        (configuration, devices, versions); dark: readings with the light off, float64 [exposures]; bench_fields:
        numbers of a simulated bench's state; frames: where they are kept.
        Raises OutputExistsError where the path exists and ``overwrite`` is not set, NotARunError where it should
        overwrite something that is no run, RunInUseError, and DiskFullError.
        """
        check_replaceable(path, attributes.get("recipe", "hadamard"), overwrite=overwrite)
        with lock_to_keep(path) as lock:
            with made_whole(path) as unfinished:
                facts = {**attributes, "layout": LAYOUT_VERSION}
                group = zarr.create_group(unfinished, zarr_format=3, attributes={"hadascope": facts})
                _create_readings(group.create_group("readings"), schedule, bench_fields, frames)
                group.create_group("schedule")
                for name, array in {**described, "repeats": schedule.repeats}.items():
                    group.create_array(f"schedule/{name}", data=array)
                if dark is not None:
                    group.create_array("dark", data=dark)
            return cls(path, lock)

    @classmethod
    def reopen(cls, path: Path) -> Self:
        """Go on writing a run. Raises NotARunError, RunInUseError."""
        must_be_one_run(path, facts_of(open_run(path, "r")))
        with lock_to_keep(path) as lock:
            return cls(path, lock)

    def write_block(self, readings: Readings) -> None:
        """Write one accepted block and then its commit record. Raises DiskFullError; the block then does not count."""
        row, fields = readings.block_number, _padded(readings, self._readings)
        commit = np.array(
            [
                readings.n_pairs,
                len(readings.guards),
                readings.pass_number,
                round(readings.start_us),
                readings.saturated,
                readings.lit_exposures,
                checksum_of(fields),
            ],
            dtype=np.int64,
        )
        try:
            self._loop.run_until_complete(self._write(row, fields, commit))
        except OSError as error:
            raise disk_full(self.path, error) from error

    def write_statistics(self, statistics: CoefficientStatistics) -> None:
        """Write M, mean and sample variance of every coefficient. Raises DiskFullError."""
        self._create("statistics/count", statistics.count)
        self._create("statistics/mean", statistics.mean)
        self._create("statistics/variance", statistics.variance)

    def write_image(self, name: str, image: NDArray[np.float64], px_um: float | None = None) -> None:
        """Write an image [n, n], detector units per exposure, as OME-Zarr 0.5 images/``name``; see ``write_image``.

        The run itself then opens as images/image, once there is one. Raises DiskFullError.
        """
        written = write_image(self.path, name, image, {}, px_um)
        if name == "image":
            try:
                self._group.attrs["ome"] = ome_images.metadata_seen_from_above(written, "images/image")
            except OSError as error:
                raise disk_full(self.path, error) from error

    def write_live_record(self, record: NDArray[np.float64]) -> None:
        """Write when each live image was made, float64 [refreshes, 4] (LIVE_FIELDS). Raises DiskFullError."""
        self._create("live", record)
        array_of(self._group, "live").attrs["fields"] = list(LIVE_FIELDS)

    def write_dark_after(self, dark: NDArray[np.float64]) -> None:
        """Write readings with the light off, float64 [exposures], taken after all others. Raises DiskFullError."""
        self._create("dark_after", dark)

    def close(self) -> None:
        """Release the event loop and the lock; everything written is on disk already. Idempotent."""
        if not self._loop.is_closed():
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()
            unlock_run(self._lock)

    async def _write(self, row: int, fields: dict[str, NDArray[Any]], commit: NDArray[np.int64]) -> None:
        await asyncio.gather(*(self._readings[name].async_array.setitem(row, data) for name, data in fields.items()))
        await self._commits.async_array.setitem(row, commit)

    def _create(self, name: str, data: NDArray[Any]) -> None:
        try:
            self._group.create_array(name, data=data, overwrite=True)
        except OSError as error:
            raise disk_full(self.path, error) from error


def write_image(
    path: Path, name: str, image: NDArray[np.float64], facts: dict[str, Any], px_um: float | None = None
) -> zarr.Group:
    """Write an image [n, n] into a run as OME-Zarr 0.5 images/``name``, float64 [c, y, x] with one channel.

    It replaces the one of this name. facts: JSON-able ones of its own; px_um: side of a pixel on the sample, µm, where
    it is known. Raises DiskFullError.
    """
    try:
        return ome_images.write_image(
            open_run(path, "r+"),
            f"images/{name}",
            image[np.newaxis],
            "cyx",
            channels=[IMAGE_CHANNELS.get(name, name)],
            name=name,
            px_um=px_um,
            dtype="float64",
            facts=facts,
        )
    except OSError as error:
        raise disk_full(path, error) from error


def remove_image(path: Path, name: str) -> None:
    """Take an image out of a run, where it holds one of this name."""
    group = open_run(path, "r+")
    if f"images/{name}" in group:
        del group[f"images/{name}"]


def _create_readings(readings: zarr.Group, schedule: Schedule, bench_fields: int, frames: FrameShape | None) -> None:
    """Empty arrays of the schedule's shape, one chunk a block."""
    longest, guards = schedule.longest_block_pairs, (schedule.most_block_guards, schedule.guard_pictures)
    arrays: list[tuple[str, tuple[int, ...], str, float]] = [
        ("index", (longest,), "int32", -1),
        ("plus", (longest,), "float64", np.nan),
        ("minus", (longest,), "float64", np.nan),
        ("time_us", (longest,), "float64", np.nan),
        ("guards", guards, "float64", np.nan),
        ("commits", (len(COMMIT_FIELDS),), "int64", -1),
    ]
    if bench_fields:
        arrays.append(("bench", (bench_fields,), "float64", np.nan))
    if frames is not None:
        shape = (schedule.longest_block_exposures, frames.height_px, frames.width_px)
        arrays.append(("frames", shape, frames.dtype, 0))
    for name, cell, dtype, fill in arrays:
        # Uncompressed: readings are mostly noise, and packing them takes longer than writing them.
        readings.create_array(
            name,
            shape=(len(schedule.blocks), *cell),
            chunks=(1, *cell),
            dtype=dtype,
            fill_value=fill,
            compressors=None,
            attributes={"fields": list(COMMIT_FIELDS)} if name == "commits" else None,
        )


def _padded(readings: Readings, arrays: dict[str, zarr.Array[Any]]) -> dict[str, NDArray[Any]]:
    """The block's fields as whole chunks, cells past its end holding the fill value."""
    fields: dict[str, NDArray[Any]] = {}
    for name, array in arrays.items():
        values = np.asarray(readings.bench_state) if name == "bench" else getattr(readings, name)
        whole = np.full(array.shape[1:], array.fill_value, dtype=array.dtype)
        whole[: len(values)] = values
        fields[name] = whole
    return fields
