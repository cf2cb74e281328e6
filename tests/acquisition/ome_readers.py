"""OME-Zarr as the field's own tools see it: an independent validator and the reader behind napari's."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaozarrs
from numpy.typing import NDArray
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader


@dataclass(frozen=True)
class Opened:
    """An image as ome-zarr's reader gives it: its levels as whole arrays, the largest first."""

    axes: str
    units: dict[str, str]
    levels: list[NDArray[Any]]
    scales: list[dict[str, float]]
    channels: list[str]
    contrast: list[list[float]]


def must_be_valid(path: Path) -> None:
    """Raise unless an independent validator finds metadata and arrays of an OME-Zarr 0.5 without any complaint."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yaozarrs.validate_zarr_store(str(path))


def opened(path: Path) -> Opened:
    """Open an image with ome-zarr."""
    location = parse_url(path)
    assert location is not None
    (node,) = Reader(location)()
    axes = [axis["name"] for axis in node.metadata["axes"]]
    return Opened(
        axes="".join(axes),
        units={axis["name"]: axis["unit"] for axis in node.metadata["axes"] if "unit" in axis},
        levels=[np.asarray(level) for level in node.data],
        scales=[
            dict(zip(axes, level[0]["scale"], strict=True)) for level in node.metadata["coordinateTransformations"]
        ],
        channels=node.metadata["channel_names"],
        contrast=node.metadata["contrast_limits"],
    )
