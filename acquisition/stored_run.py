"""Reads a run, finished or not."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from acquisition.ome_images import image_at, plane_of
from acquisition.readings import Readings
from acquisition.run_folder import StoredFolder
from acquisition.run_layout import (
    COMMIT_FIELDS,
    LAYOUT_VERSION,
    LIVE_FIELDS,
    RECIPES,
    CorruptBlockError,
    NotARunError,
    array_of,
    checksum_of,
    must_be_one_run,
    readings_arrays,
)
from models.priors import Prior

# Blocks that are read at once: so many, and so many bytes, at most.
_BATCH_BLOCKS = 64
_BATCH_BYTES = 16_000_000
# What zarr and its codecs raise over a file that was cut off.
_UNREADABLE = (ValueError, RuntimeError)


class StoredRun(StoredFolder):
    """Reads one run, finished or not; only committed blocks exist for it."""

    def __init__(self, path: Path) -> None:
        """Open a run. Raises NotARunError."""
        super().__init__(path)
        must_be_one_run(path, self.facts)
        if (layout := self.facts.get("layout")) != LAYOUT_VERSION:
            raise NotARunError(
                f"{path} was written in layout {layout}, and this version reads layout {LAYOUT_VERSION}: use the "
                f"version that wrote it ({self.facts.get('versions', {}).get('hadascope', 'unknown')})"
            )
        try:
            self._readings = readings_arrays(self._group)
            self.commits = np.asarray(array_of(self._group, "readings/commits")[:])
        except (LookupError, TypeError, ValueError, RuntimeError) as error:  # what zarr and its codecs raise
            raise NotARunError(f"{path} is a damaged run: {error}; restore it from a copy") from error

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
        return np.asarray(array_of(self._group, "dark")[:], dtype=np.float64)

    @property
    def dark_after(self) -> NDArray[np.float64]:
        """The same at the end of a calibration, float64 [exposures]; empty where there were none."""
        if "dark_after" not in self._group:
            return np.empty(0)
        return np.asarray(array_of(self._group, "dark_after")[:], dtype=np.float64)

    def described(self, name: str) -> NDArray[Any]:
        """An array that says where the schedule came from (acquisition.run_layout). Raises KeyError."""
        return np.asarray(array_of(self._group, f"schedule/{name}")[:])

    def must_hold(self, recipe: str) -> None:
        """Raise NotARunError unless the run played a recipe: "hadamard" for acquisitions."""
        found = self.facts.get("recipe")
        if found != recipe:
            raise NotARunError(
                f"{self.path} holds the readings of {RECIPES.get(str(found), 'something else')}; expected "
                f"{RECIPES[recipe]}"
            )

    @property
    def repeats(self) -> NDArray[np.int32]:
        """Scheduled M of every coefficient, int32 [N]."""
        return self.described("repeats").astype(np.int32)

    @property
    def mask(self) -> NDArray[np.float64]:
        """The mask of probabilities P that M was drawn from, float64 [N]."""
        return self.described("mask").astype(np.float64)

    @property
    def live_record(self) -> NDArray[np.float64]:
        """When each live image was made, float64 [refreshes, 4] (LIVE_FIELDS); empty where the run did not finish."""
        if "live" not in self._group:
            return np.empty((0, len(LIVE_FIELDS)))
        return np.asarray(array_of(self._group, "live")[:], dtype=np.float64)

    @property
    def n_exposures(self) -> int:
        """Exposures in the committed blocks, guards included."""
        return 2 * self.n_pairs + int(self._readings["guards"].shape[2]) * self._committed_sum("guards")

    @property
    def lit_exposures(self) -> int:
        """Exposures under light until the last committed block's end, those of repeated blocks included."""
        return int(self.commits[self.committed, COMMIT_FIELDS.index("lit_exposures")].max(initial=0))

    @property
    def n_saturated(self) -> int:
        """Exposures of the committed blocks with a pixel at full scale."""
        return self._committed_sum("saturated")

    @property
    def dose_mj(self) -> float | None:
        """Exposures under light × illumination time × power, mJ; None where the power is unknown.

        Exposures of blocks that were thrown away count too.
        """
        power_mw = self.facts["config"]["devices"]["light_source"]["power_mw"]
        timing = self.facts.get("accepted_timing") or self.facts["config"]["timing"]
        illumination_s = timing["illumination_time_us"] * 1e-6
        lit = max(self.lit_exposures, int(self.facts.get("lit_exposures", 0)))
        return None if power_mw is None else lit * illumination_s * power_mw

    @property
    def image_prior(self) -> Prior | None:
        """The prior from images or a model that the run was planned with, at unit total light; None: a power law."""
        if "schedule/prior_mean" not in self._group:
            return None
        return Prior(self.described("prior_mean"), self.described("prior_variance"))

    def has_image(self, name: str) -> bool:
        """True where the run holds an image of this name. Raises DamagedImageError."""
        return image_at(self._group, f"images/{name}") is not None

    def image(self, name: str) -> NDArray[np.float64]:
        """A stored image, float64 [n, n]. Raises KeyError where there is none of this name, DamagedImageError."""
        return plane_of(self.ome_image(name), (0,))

    def ome_image(self, name: str) -> zarr.Group:
        """The OME-Zarr image images/``name`` (acquisition.ome_images). Raises KeyError, DamagedImageError."""
        image = image_at(self._group, f"images/{name}")
        if image is None:
            raise KeyError(f"images/{name}")
        return image

    def _committed_sum(self, field: str) -> int:
        return int(self.commits[self.committed, COMMIT_FIELDS.index(field)].sum())

    def blocks(self) -> Iterator[Readings]:
        """The committed blocks in order. Raises CorruptBlockError."""
        for numbers in self._batches():
            try:
                whole = {
                    name: np.asarray(array[numbers.start : numbers.stop]) for name, array in self._readings.items()
                }
            except _UNREADABLE:
                yield from map(self.block, numbers)  # up to the one that cannot be read
                continue
            for place, number in enumerate(numbers):
                yield self._checked(number, {name: values[place] for name, values in whole.items()})

    def block(self, number: int) -> Readings:
        """A committed block. Raises CorruptBlockError."""
        try:
            fields = {name: np.asarray(array[number]) for name, array in self._readings.items()}
        except _UNREADABLE as error:
            raise CorruptBlockError(
                f"{self.path}: block {number} cannot be read ({error}): its files were damaged after they were "
                "written; restore them from a copy"
            ) from error
        return self._checked(number, fields)

    def _batches(self) -> Iterator[range]:
        """Numbers of committed blocks, as many in a row as are read at once: each reading of a file costs its time."""
        n_bytes = sum(array.dtype.itemsize * math.prod(array.shape[1:]) for array in self._readings.values())
        most = max(1, min(_BATCH_BLOCKS, _BATCH_BYTES // n_bytes))
        committed = self.committed
        for row in np.split(committed, np.flatnonzero(np.diff(committed) > 1) + 1):
            for first in range(0, len(row), most):
                numbers = row[first : first + most]
                yield range(int(numbers[0]), int(numbers[-1]) + 1)

    def _checked(self, number: int, fields: dict[str, NDArray[Any]]) -> Readings:
        """The readings that a block's whole chunks hold. Raises CorruptBlockError."""
        commit = dict(zip(COMMIT_FIELDS, self.commits[number].tolist(), strict=True))
        pairs, guards = commit["pairs"], commit["guards"]
        if checksum_of(fields) != commit["checksum"]:
            raise CorruptBlockError(
                f"{self.path}: block {number} does not give the checksum in its commit record: the files were "
                "changed or damaged after they were written; restore them from a copy"
            )
        return Readings(
            block_number=number,
            pass_number=commit["pass"],
            start_us=float(commit["start_us"]),
            index=fields["index"][:pairs].astype(np.int64),
            plus=fields["plus"][:pairs],
            minus=fields["minus"][:pairs],
            time_us=fields["time_us"][:pairs],
            guards=fields["guards"][:guards],
            saturated=commit["saturated"],
            lit_exposures=commit["lit_exposures"],
            bench_state=tuple(fields["bench"].tolist()) if "bench" in fields else (),
            frames=fields["frames"][: 2 * pairs + guards * fields["guards"].shape[1]] if "frames" in fields else None,
        )

    def intact_blocks(self) -> Iterator[Readings]:
        """The committed blocks from the first one on, up to the first that is missing or damaged."""
        expected = 0
        try:
            for readings in self.blocks():
                if readings.block_number != expected:
                    return
                yield readings
                expected += 1
        except CorruptBlockError:
            return
