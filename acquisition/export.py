"""A stored image as OME-TIFF, for Fiji and for whatever else reads TIFF."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, product
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from acquisition.damaged_run import opened_run, readable_facts
from acquisition.ome_images import image_at, ome_of, plane_of, shape_of
from acquisition.preflight import check_new
from acquisition.run_layout import IMAGE_CHANNELS, RunState, open_run

ENDINGS = (".ome.tif", ".ome.tiff")
# The image that says how far another one is to be believed.
_UNCERTAINTIES = {"image": "uncertainty", "reconstructed": "reconstructed_uncertainty"}
_UM_PER_CM = 1e4


class ExportError(ValueError):
    """What was asked for cannot be exported: no such image or position, none yet, or no name for an OME-TIFF."""


@dataclass(frozen=True)
class Exported:
    """An image that was written: where, the length of every axis by its letter, and the names of the channels.

    missing_planes: planes of a series that no event has filled yet; they hold NaN.
    """

    path: Path
    shape: dict[str, int]
    channels: tuple[str, ...]
    missing_planes: int


@dataclass(frozen=True)
class _Source:
    """OME-Zarr images of one shape whose channels go into one file, and what is known of them."""

    images: tuple[zarr.Group, ...]
    name: str
    facts: dict[str, Any]
    may_miss_planes: bool


def export_image(
    source: Path, target: Path, *, image: str | None = None, position: str | None = None, overwrite: bool = False
) -> Exported:
    """Write an image of a run, or one position of a series, as OME-TIFF float32, with its uncertainty where it has one.

    target: ends in .ome.tif or .ome.tiff; it appears when it is whole. image: which one of a run
    (acquisition.run_layout.IMAGE_CHANNELS), by default its image, or else the one that was reconstructed; position:
    name or number of a series' position, to be given where there are several. Axes are those of the stored image, in
    the order T, C, Z, Y, X; values are detector units per exposure.
    Raises ExportError, OutputExistsError, NotARunError, DamagedImageError, and OSError.
    """
    if not target.name.lower().endswith(ENDINGS):
        raise ExportError(f"{target} does not end in {' or '.join(ENDINGS)}: expected the name of an OME-TIFF")
    check_new(target, overwrite=overwrite)
    if not target.absolute().parent.is_dir():
        raise ExportError(f"{target} lies in a folder that does not exist: make it, or choose another one")
    facts = readable_facts(source)
    found = _of_series(source, facts, image, position) if "series" in facts else _of_run(source, image, position)
    return _write(found, target)


def _of_run(path: Path, name: str | None, position: str | None) -> _Source:
    run = opened_run(path)
    run.must_hold("hadamard")
    if position is not None:
        raise ExportError(f"{path} is a single run, which has no positions: leave --position out")
    if name is None:
        name = next((each for each in _UNCERTAINTIES if run.has_image(each)), None)
        if name is None:
            raise ExportError(
                f"{path} holds no image yet (it is {run.state}): make one with hadascope reconstruct {path}"
            )
    elif name not in IMAGE_CHANNELS or not run.has_image(name):
        there = [each for each in IMAGE_CHANNELS if run.has_image(each)]
        raise ExportError(f"{path} holds no image {name!r}: it holds {', '.join(there) or 'none'}")
    uncertainty = _UNCERTAINTIES.get(name)
    names = [name] if uncertainty is None or not run.has_image(uncertainty) else [name, uncertainty]
    return _Source(tuple(run.ome_image(each) for each in names), f"{path.name} {name}", run.facts, False)


def _of_series(path: Path, facts: dict[str, Any], image: str | None, position: str | None) -> _Source:
    if image is not None:
        raise ExportError(
            f"{path} is a series, whose images are its positions: choose one with --position, or export one of its "
            f"events: {path / 'events'}"
        )
    group = open_run(path, "r")
    positions = dict(_positions(group))
    names = {number: str(ome_of(each)["multiscales"][0]["name"]) for number, each in positions.items()}
    said = ", ".join(f"{number} ({name})" for number, name in names.items()) or "none"
    if position is None and len(positions) != 1:
        raise ExportError(f"{path} has the positions {said}: choose one with --position NAME or number")
    chosen = [number for number, name in names.items() if position in (None, name)]
    chosen = chosen or [number for number in names if number == position]
    if len(chosen) != 1:
        raise ExportError(f"{path} has the positions {said}; found {len(chosen)} that are called {position!r}")
    (number,) = chosen
    uncertainty = image_at(group, f"uncertainty/{number}")
    images = [positions[number], *([] if uncertainty is None else [uncertainty])]
    may_miss_planes = facts.get("state") != RunState.FINISHED
    return _Source(tuple(images), f"{path.name} {names[number]}", facts, may_miss_planes)


def _positions(group: zarr.Group) -> Iterator[tuple[str, zarr.Group]]:
    """The images 0, 1, … of a series, by name: zarr's own listing complains of the log files beside them."""
    for number in map(str, count()):
        image = image_at(group, number)
        if image is None:
            return
        yield number, image


def _write(source: _Source, target: Path) -> Exported:
    from tifffile import imwrite

    shape = shape_of(source.images[0])
    channels = [label for number in range(len(source.images)) for label in _channel_names(source, number)]
    shape["c"] = len(channels)
    missing: list[tuple[int, ...]] = []
    sizes = _sizes(source.images[0])
    unfinished = target.with_name(f".{target.name}.unfinished")
    try:
        imwrite(
            unfinished,
            _planes(source, shape, missing),
            shape=tuple(shape.values()),
            dtype=np.float32,
            ome=True,
            photometric="minisblack",
            metadata=_metadata(source, shape, sizes, channels),
            resolution=(_UM_PER_CM / sizes["x"], _UM_PER_CM / sizes["y"]) if "x" in sizes else None,
            resolutionunit="CENTIMETER" if "x" in sizes else None,
        )
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
    return Exported(target, {axis.upper(): length for axis, length in shape.items()}, tuple(channels), len(missing))


def _planes(source: _Source, shape: dict[str, int], missing: list[tuple[int, ...]]) -> Iterator[NDArray[np.float32]]:
    """The planes in the order of the file, one at a time: a series may be larger than memory."""
    axes = [axis for axis in shape if axis not in "yx"]
    channel, per_image = axes.index("c"), shape["c"] // len(source.images)
    for index in product(*(range(shape[axis]) for axis in axes)):
        image, number = divmod(index[channel], per_image)
        plane = plane_of(source.images[image], (*index[:channel], number, *index[channel + 1 :]))
        if np.isnan(plane).any():
            missing.append(index)
            if not source.may_miss_planes:
                again = (
                    "export its event's own run" if "series" in source.facts else "make it again: hadascope reconstruct"
                )
                raise ExportError(
                    f"{source.name} has {int(np.isnan(plane).sum())} pixels without a value: its files are damaged. "
                    f"Restore them from a copy, or {again}"
                )
        yield plane.astype(np.float32)


def _channel_names(source: _Source, number: int) -> list[str]:
    labels = [str(channel["label"]) for channel in ome_of(source.images[number])["omero"]["channels"]]
    of_image = [channel["label"] for channel in ome_of(source.images[0])["omero"]["channels"]]
    return [f"{label}, uncertainty" for label in labels] if number and labels == of_image else labels


def _sizes(image: zarr.Group) -> dict[str, float]:
    """Step of every axis whose unit is known: µm, s."""
    multiscale = ome_of(image)["multiscales"][0]
    scale = multiscale["datasets"][0]["coordinateTransformations"][0]["scale"]
    return {axis["name"]: float(step) for axis, step in zip(multiscale["axes"], scale, strict=True) if axis.get("unit")}


def _metadata(source: _Source, shape: dict[str, int], sizes: dict[str, float], channels: list[str]) -> dict[str, Any]:
    """What OME-XML says of the image (https://www.openmicroscopy.org/Schemas/OME/2016-06)."""
    found: dict[str, Any] = {
        "axes": "".join(shape).upper(),
        "Name": source.name,
        "Description": _description(source),
        "Channel": {"Name": channels},
    }
    if "started" in source.facts:
        found["AcquisitionDate"] = source.facts["started"]
    for axis in "xyz":
        if axis in sizes:
            found |= {f"PhysicalSize{axis.upper()}": sizes[axis], f"PhysicalSize{axis.upper()}Unit": "µm"}
    if "t" in sizes:
        found |= {"TimeIncrement": sizes["t"], "TimeIncrementUnit": "s"}
    facts: Any = source.images[0].attrs.get("hadascope") or {}
    times_s = facts.get("times_s")
    if times_s and tuple(shape.values())[:-2] == (len(times_s), 1):
        found["Plane"] = {"DeltaT": times_s, "DeltaTUnit": ["s"] * len(times_s)}
    return found


def _description(source: _Source) -> str:
    config, sensing = source.facts["config"], source.facts["config"]["sensing"]
    return (
        f"Hadascope, {source.name}; sample: {config['sample']['name']}; {sensing['side']} × {sensing['side']} px, "
        f"α = {sensing['alpha']:g}, S = {sensing['repeats']}; "
        f"{'simulated devices' if source.facts['simulated'] else 'real devices'}; "
        "values are detector units per exposure"
    )
