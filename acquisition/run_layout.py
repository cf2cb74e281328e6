"""What a stored run looks like: its states, its fields, and how its parts are opened.

Layout (blocks × longest block, one chunk a block)::

    readings/index, plus, minus, time_us      [blocks, pairs]        cells past a block's end hold the fill value
    readings/guards                           [blocks, guards, pictures of a guard]
    readings/bench                            [blocks, 4]            simulated runs: the bench's state after the block
    readings/frames                           [blocks, exposures, h, w]   where frames are kept
    readings/commits                          [blocks, 7]            written last: what is not committed does not count
    dark                                      [exposures]            readings with the light off
    dark_after                                [exposures]            calibrations: the same, at the end
    schedule/repeats                          [N]
    schedule/mask                             [N]                    acquisitions: what M was drawn from
    schedule/prior_mean, prior_variance       [N]                    where it came from images or a model
    schedule/pairs, plus_first, rests_s       see calibration.recipe    calibrations
    statistics/count, mean, variance          [N]                    at the end of the run
    images/…                                  OME-Zarr 0.5           at the end: wiener, image, uncertainty, sample;
                                                                     whenever asked for: reconstructed, and its own
    images/snapshots                          OME-Zarr 0.5           at the end: the image as it came to be
    live                                      [refreshes, 4]         when each live image was made, and from how much

The run's own group says where the levels of images/image are, so that the run opens as that image. Images are
[c, y, x] with one channel, snapshots [t, c, y, x] (acquisition.ome_images, acquisition.snapshots).

Everything but ``readings`` and ``dark`` can be recomputed from them. Beside the arrays lie ``events.jsonl`` and
``log.txt`` (acquisition.events). Whoever writes a run holds a lock file beside it, which the operating system lets go
of when the process dies: a run that is marked as running while nobody holds its lock was interrupted.
"""

from __future__ import annotations

import errno
import zlib
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.errors import GroupNotFoundError

LAYOUT_VERSION = 4
COMMIT_FIELDS = ("pairs", "guards", "pass", "start_us", "saturated", "lit_exposures", "checksum")
LIVE_FIELDS = ("time_s", "pairs", "age_s", "forecast_mse")
# What a run can have played, and what it is then.
RECIPES = {
    "hadamard": "an acquisition",
    "noise": "a noise calibration",
    "stability": "a stability calibration",
    "registration": "a registration",
    "series": "a series of images",
}
# Of the folder of a series, whose images are runs in folders of their own (acquisition.series_store).
SERIES_LAYOUT_VERSION = 1
# The channel of every image of a run, for people.
IMAGE_CHANNELS = {
    "image": "reconstruction",
    "wiener": "linear (Wiener)",
    "uncertainty": "uncertainty (90 % of pixels within ±)",
    "sample": "sample",
    "reconstructed": "reconstruction, made again",
    "reconstructed_uncertainty": "its uncertainty (90 % of pixels within ±)",
    "snapshots": "reconstruction",
}
BYTES_PER_PAIR = 4 + 8 + 8 + 8
_OPTIONAL_READINGS = ("bench", "frames")


class RunState(StrEnum):
    """How far a run came. It is never marked as interrupted: that is what a running one is found to be, or not."""

    RUNNING = "running"
    INTERRUPTED = "interrupted"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"


class OutputExistsError(FileExistsError):
    """The run's folder is there already and was not to be overwritten."""


class NotARunError(ValueError):
    """A path that holds no run of Hadascope."""


class SeriesNotRunError(NotARunError):
    """A folder that holds a series of runs, where one run is expected."""


class DiskFullError(OSError):
    """No space left where the run is stored; every committed block is still readable."""


class CorruptBlockError(ValueError):
    """A committed block's readings do not give the checksum in its commit record."""


def existing_output(path: Path, what: str) -> OutputExistsError:
    """The error that says that ``what`` stands at ``path`` already."""
    text = f"{what} exists and is never overwritten unasked: choose another one, or add --overwrite"
    return OutputExistsError(errno.EEXIST, text, str(path))


def open_run(path: Path, mode: Any) -> zarr.Group:
    """A run's group. Raises NotARunError."""
    try:
        group = zarr.open_group(path, mode=mode, zarr_format=3)
    # zarr.json may hold anything, also what is no mapping.
    except (GroupNotFoundError, FileNotFoundError, NotADirectoryError, ValueError, TypeError, AttributeError) as error:
        raise NotARunError(
            f"{path} is no run of Hadascope: expected a folder written by dry-run, acquire or calibrate"
        ) from error
    if "hadascope" not in group.attrs:
        raise NotARunError(
            f"{path} is a zarr group, but no run of Hadascope: expected a folder written by dry-run, acquire or "
            "calibrate"
        )
    return group


def array_of(group: zarr.Group, name: str) -> zarr.Array[Any]:
    """An array of a run. Raises KeyError where there is none, NotARunError where it is something else."""
    node = group[name]
    if not isinstance(node, zarr.Array):
        raise NotARunError(f"{name} is a {type(node).__name__}, expected an array: the run is damaged")
    return node


def group_of(group: zarr.Group, name: str) -> zarr.Group:
    """A group of a run. Raises KeyError where there is none, NotARunError where it is something else."""
    node = group[name]
    if not isinstance(node, zarr.Group):
        raise NotARunError(f"{name} is a {type(node).__name__}, expected a group: the run is damaged")
    return node


def facts_of(group: zarr.Group) -> dict[str, Any]:
    """A copy of a run's JSON-able facts. Raises NotARunError."""
    facts = group.attrs["hadascope"]
    if not isinstance(facts, dict):
        raise NotARunError("the run's attributes are damaged: expected a mapping under 'hadascope'")
    return dict(facts)


def must_be_one_run(path: Path, facts: Mapping[str, Any]) -> None:
    """Raise SeriesNotRunError where the facts are those of a series."""
    if "series" in facts:
        raise SeriesNotRunError(
            f"{path} holds a series of images, each of them a run of its own: name one of the folders in "
            f"{path / 'events'}, or resume or look at the series as a whole (hadascope resume, info)"
        )


def readings_arrays(group: zarr.Group) -> dict[str, zarr.Array[Any]]:
    """The arrays of a run's readings, one chunk a block, its commit records excepted."""
    names = ["index", "plus", "minus", "time_us", "guards"]
    names += [name for name in _OPTIONAL_READINGS if f"readings/{name}" in group]
    return {name: array_of(group, f"readings/{name}") for name in names}


def checksum_of(fields: dict[str, NDArray[Any]]) -> int:
    """CRC-32 of a block's whole chunks, in the order of their names."""
    checksum = 0
    for name in sorted(fields):
        checksum = zlib.crc32(np.ascontiguousarray(fields[name]).tobytes(), checksum)
    return checksum


def disk_full(path: Path, error: OSError) -> OSError:
    """The error to raise instead: DiskFullError where there is no space left, else the error itself."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(
            error.errno,
            f"no space left on the disk of the output; every block committed so far is kept and readable in {path}. "
            "Make room or choose another output",
        )
    return error
