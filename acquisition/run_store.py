"""The run store: one zarr v3 group per run, readable while it is written and after a crash.

Layout (blocks × longest block, one chunk a block)::

    readings/index, plus, minus, time_us      [blocks, pairs]        cells past a block's end hold the fill value
    readings/guards                           [blocks, guards, 5]
    readings/commits                          [blocks, 6]            written last: what is not committed does not count
    dark                                      [exposures]            readings with the light off
    schedule/mask, repeats                    [N]
    schedule/prior_mean, prior_variance       [N]                    where the prior came from images
    statistics/count, mean, variance          [N]                    at the end of the run
    images/…                                  OME-Zarr 0.5           at the end of the run
    live                                      [refreshes, 4]         when each live image was made, and from how much

Everything but ``readings`` and ``dark`` can be recomputed from them.
"""

from __future__ import annotations

import asyncio
import errno
import shutil
import zlib
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.errors import GroupNotFoundError

from acquisition.readings import Readings
from acquisition.schedule import GUARD_PICTURES, Schedule
from models.priors import Prior
from models.statistics import CoefficientStatistics

LAYOUT_VERSION = 1
COMMIT_FIELDS = ("pairs", "guards", "pass", "start_us", "saturated", "checksum")
LIVE_FIELDS = ("time_s", "pairs", "age_s", "forecast_mse")
BYTES_PER_PAIR = 4 + 8 + 8 + 8


class RunState(StrEnum):
    """How far a run came."""

    RUNNING = "running"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"


class OutputExistsError(FileExistsError):
    """The run's folder is there already and was not to be overwritten."""


class NotARunError(ValueError):
    """A path that holds no run of Hadascope."""


class DiskFullError(OSError):
    """No space left where the run is stored; every committed block is still readable."""


class CorruptBlockError(ValueError):
    """A committed block's readings do not give the checksum in its commit record."""


class RunStore:
    """Writes one run. Not thread-safe: one thread owns it at a time."""

    def __init__(self, path: Path, group: zarr.Group, loop: asyncio.AbstractEventLoop) -> None:
        self.path = path
        self._group = group
        self._loop = loop
        self._readings = {
            name: _array(group, f"readings/{name}") for name in ("index", "plus", "minus", "time_us", "guards")
        }
        self._commits = _array(group, "readings/commits")

    @classmethod
    def create(
        cls,
        path: Path,
        schedule: Schedule,
        mask: NDArray[np.float64],
        attributes: dict[str, Any],
        *,
        image_prior: Prior | None = None,
        overwrite: bool = False,
    ) -> Self:
        """Make an empty run of the schedule's shape.

        attributes: JSON-able facts of the run (configuration, devices, versions); image_prior: prior from images at
        unit total light, kept so that the run can be reconstructed without them. Raises OutputExistsError where the
        path exists and ``overwrite`` is not set, NotARunError where it should overwrite something that is no run, and
        DiskFullError.
        """
        check_replaceable(path, overwrite=overwrite)
        if path.exists():
            shutil.rmtree(path)
        n_blocks, longest = len(schedule.blocks), schedule.longest_block_pairs
        try:
            group = zarr.create_group(
                path, zarr_format=3, attributes={"hadascope": {**attributes, "layout": LAYOUT_VERSION}}
            )
            readings = group.create_group("readings")
            for name, shape, dtype, fill in (
                ("index", (longest,), "int32", -1),
                ("plus", (longest,), "float64", np.nan),
                ("minus", (longest,), "float64", np.nan),
                ("time_us", (longest,), "float64", np.nan),
                ("guards", (schedule.most_block_guards, GUARD_PICTURES), "float64", np.nan),
                ("commits", (len(COMMIT_FIELDS),), "int64", -1),
            ):
                # Uncompressed: readings are mostly noise, and packing them takes longer than writing them.
                readings.create_array(
                    name,
                    shape=(n_blocks, *shape),
                    chunks=(1, *shape),
                    dtype=dtype,
                    fill_value=fill,
                    compressors=None,
                    attributes={"fields": list(COMMIT_FIELDS)} if name == "commits" else None,
                )
            group.create_group("schedule")
            group.create_array("schedule/mask", data=mask)
            group.create_array("schedule/repeats", data=schedule.repeats)
            if image_prior is not None:
                group.create_array("schedule/prior_mean", data=image_prior.mean)
                group.create_array("schedule/prior_variance", data=image_prior.variance)
        except OSError as error:
            raise _disk_full(path, error) from error
        return cls(path, group, asyncio.new_event_loop())

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
                _checksum(fields),
            ],
            dtype=np.int64,
        )
        try:
            self._loop.run_until_complete(self._write(row, fields, commit))
        except OSError as error:
            raise _disk_full(self.path, error) from error

    def write_dark(self, dark: NDArray[np.float64]) -> None:
        """Write the readings that were taken with the light off, float64 [exposures]. Raises DiskFullError."""
        self._create("dark", dark)

    def write_statistics(self, statistics: CoefficientStatistics) -> None:
        """Write M, mean and sample variance of every coefficient. Raises DiskFullError."""
        self._create("statistics/count", statistics.count)
        self._create("statistics/mean", statistics.mean)
        self._create("statistics/variance", statistics.variance)

    def write_image(self, name: str, image: NDArray[np.float64]) -> None:
        """Write an image [n, n], detector units per exposure, as OME-Zarr 0.5 images/``name``. Raises DiskFullError."""
        write_image(self.path, name, image, {})

    def write_live_record(self, record: NDArray[np.float64]) -> None:
        """Write when each live image was made, float64 [refreshes, 4] (LIVE_FIELDS). Raises DiskFullError."""
        self._create("live", record)
        _array(self._group, "live").attrs["fields"] = list(LIVE_FIELDS)

    def annotate(self, **facts: Any) -> None:
        """Add JSON-able facts to the run's attributes. Raises DiskFullError."""
        try:
            self._group.attrs["hadascope"] = {**_facts(self._group), **facts}
        except OSError as error:
            raise _disk_full(self.path, error) from error

    def close(self) -> None:
        """Release the event loop; everything written is on disk already. Idempotent."""
        if not self._loop.is_closed():
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()

    async def _write(self, row: int, fields: dict[str, NDArray[Any]], commit: NDArray[np.int64]) -> None:
        await asyncio.gather(*(self._readings[name].async_array.setitem(row, data) for name, data in fields.items()))
        await self._commits.async_array.setitem(row, commit)

    def _create(self, name: str, data: NDArray[Any]) -> None:
        try:
            self._group.create_array(name, data=data, overwrite=True)
        except OSError as error:
            raise _disk_full(self.path, error) from error


class StoredRun:
    """Reads one run, finished or not; only committed blocks exist for it."""

    def __init__(self, path: Path) -> None:
        """Open a run. Raises NotARunError."""
        self.path = path
        self._group = _open(path, "r")
        self.facts = _facts(self._group)
        self._readings = {
            name: _array(self._group, f"readings/{name}") for name in ("index", "plus", "minus", "time_us", "guards")
        }
        self.commits = np.asarray(_array(self._group, "readings/commits")[:])

    @property
    def state(self) -> RunState:
        """The state the run was marked with; ``running`` also where it was killed."""
        return RunState(self.facts["state"])

    @property
    def committed(self) -> NDArray[np.int64]:
        """Numbers of the committed blocks, int64."""
        return np.flatnonzero(self.commits[:, COMMIT_FIELDS.index("pairs")] >= 0)

    @property
    def n_blocks(self) -> int:
        """Blocks the schedule asks for."""
        return len(self.commits)

    @property
    def n_pairs(self) -> int:
        """Pairs in the committed blocks."""
        return self._committed_sum("pairs")

    @property
    def dark(self) -> NDArray[np.float64]:
        """Readings with the light off, float64 [exposures]; empty where the run ended before them."""
        if "dark" not in self._group:
            return np.empty(0)
        return np.asarray(_array(self._group, "dark")[:], dtype=np.float64)

    @property
    def repeats(self) -> NDArray[np.int32]:
        """Scheduled M of every coefficient, int32 [N]."""
        return np.asarray(_array(self._group, "schedule/repeats")[:], dtype=np.int32)

    @property
    def live_record(self) -> NDArray[np.float64]:
        """When each live image was made, float64 [refreshes, 4] (LIVE_FIELDS); empty where the run did not finish."""
        if "live" not in self._group:
            return np.empty((0, len(LIVE_FIELDS)))
        return np.asarray(_array(self._group, "live")[:], dtype=np.float64)

    @property
    def n_exposures(self) -> int:
        """Exposures in the committed blocks, guards included."""
        return 2 * self.n_pairs + GUARD_PICTURES * self._committed_sum("guards")

    @property
    def n_saturated(self) -> int:
        """Exposures of the committed blocks with a pixel at full scale."""
        return self._committed_sum("saturated")

    @property
    def dose_mj(self) -> float | None:
        """Exposures × illumination time × power of the committed blocks, mJ; None where the power is unknown."""
        power_mw = self.facts["config"]["devices"]["light_source"]["power_mw"]
        timing = self.facts.get("accepted_timing") or self.facts["config"]["timing"]
        illumination_s = timing["illumination_time_us"] * 1e-6
        return None if power_mw is None else self.n_exposures * illumination_s * power_mw

    @property
    def image_prior(self) -> Prior | None:
        """The prior from images that the run was planned with, at unit total light; None for a power law."""
        if "schedule/prior_mean" not in self._group:
            return None
        mean, variance = (np.asarray(_array(self._group, f"schedule/prior_{name}")[:]) for name in ("mean", "variance"))
        return Prior(mean, variance)

    def has_image(self, name: str) -> bool:
        """True where the run holds an image of this name."""
        return f"images/{name}" in self._group

    def image(self, name: str) -> NDArray[np.float64]:
        """A stored image, float64 [n, n]. Raises KeyError where the run has none of this name."""
        return np.asarray(_array(self._group, f"images/{name}/0")[:], dtype=np.float64)

    def _committed_sum(self, field: str) -> int:
        return int(self.commits[self.committed, COMMIT_FIELDS.index(field)].sum())

    def blocks(self) -> Iterator[Readings]:
        """The committed blocks in order. Raises CorruptBlockError."""
        for number in self.committed:
            pairs, guards, pass_number, start_us, saturated, checksum = (int(value) for value in self.commits[number])
            fields = {name: np.asarray(array[int(number)]) for name, array in self._readings.items()}
            if _checksum(fields) != checksum:
                raise CorruptBlockError(
                    f"{self.path}: block {number} does not give the checksum in its commit record: the files were "
                    "changed or damaged after they were written; restore them from a copy"
                )
            yield Readings(
                block_number=int(number),
                pass_number=pass_number,
                start_us=float(start_us),
                index=fields["index"][:pairs].astype(np.int64),
                plus=fields["plus"][:pairs],
                minus=fields["minus"][:pairs],
                time_us=fields["time_us"][:pairs],
                guards=fields["guards"][:guards],
                saturated=saturated,
            )


def existing_output(path: Path, what: str) -> OutputExistsError:
    """The error that says that ``what`` stands at ``path`` already."""
    text = f"{what} exists and is never overwritten unasked: choose another one, or add --overwrite"
    return OutputExistsError(errno.EEXIST, text, str(path))


def check_replaceable(path: Path, *, overwrite: bool) -> None:
    """Raise unless nothing stands where a run will be written, or a run that may be overwritten.

    Raises OutputExistsError, NotARunError.
    """
    if not path.exists():
        return
    if not overwrite:
        raise existing_output(path, "the output")
    _open(path, "r")


def write_image(path: Path, name: str, image: NDArray[np.float64], facts: dict[str, Any]) -> None:
    """Write an image [n, n] into a run as OME-Zarr 0.5 images/``name``, replacing it, with JSON-able facts of its own.

    Raises DiskFullError.
    """
    axes = [{"name": axis, "type": "space"} for axis in "yx"]
    level = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1.0, 1.0]}]}
    ome = {"version": "0.5", "multiscales": [{"name": name, "axes": axes, "datasets": [level]}]}
    try:
        group = _open(path, "r+").create_group(
            f"images/{name}", overwrite=True, attributes={"ome": ome, "hadascope": facts}
        )
        group.create_array("0", data=image, dimension_names=["y", "x"])
    except OSError as error:
        raise _disk_full(path, error) from error


def _open(path: Path, mode: Any) -> zarr.Group:
    try:
        group = zarr.open_group(path, mode=mode, zarr_format=3)
    except (GroupNotFoundError, FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise NotARunError(f"{path} is no run of Hadascope: expected a folder written by dry-run or acquire") from error
    if "hadascope" not in group.attrs:
        raise NotARunError(
            f"{path} is a zarr group, but no run of Hadascope: expected a folder written by dry-run or acquire"
        )
    return group


def _array(group: zarr.Group, name: str) -> zarr.Array[Any]:
    node = group[name]
    if not isinstance(node, zarr.Array):
        raise NotARunError(f"{name} is a {type(node).__name__}, expected an array: the run is damaged")
    return node


def _facts(group: zarr.Group) -> dict[str, Any]:
    facts = group.attrs["hadascope"]
    if not isinstance(facts, dict):
        raise NotARunError("the run's attributes are damaged: expected a mapping under 'hadascope'")
    return dict(facts)


def _padded(readings: Readings, arrays: dict[str, zarr.Array[Any]]) -> dict[str, NDArray[Any]]:
    """The block's fields as whole chunks, cells past its end holding the fill value."""
    fields: dict[str, NDArray[Any]] = {}
    for name, array in arrays.items():
        values = getattr(readings, name)
        whole = np.full(array.shape[1:], array.fill_value, dtype=array.dtype)
        whole[: len(values)] = values
        fields[name] = whole
    return fields


def _checksum(fields: dict[str, NDArray[Any]]) -> int:
    checksum = 0
    for name in sorted(fields):
        checksum = zlib.crc32(np.ascontiguousarray(fields[name]).tobytes(), checksum)
    return checksum


def _disk_full(path: Path, error: OSError) -> OSError:
    """The error to raise instead: DiskFullError where there is no space left, else the error itself."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(
            error.errno,
            f"no space left on the disk of the output; every block committed so far is kept and readable in {path}. "
            "Make room or choose another output",
        )
    return error
