"""Images as the field's tools open them: multiscale images of OME-Zarr (NGFF 0.5, https://ngff.openmicroscopy.org/0.5).

An image is a group with an array a level: 0 is the image itself, and every further one has half the side, each of its
pixels the mean of 2 × 2 pixels of the one before, so that light is kept. What no plane was written to yet is NaN.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from itertools import product
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

NGFF_VERSION = "0.5"
# In the order NGFF asks for.
_AXIS_TYPES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}
_SMALLEST_SIDE_PX = 64
_LARGEST_CHUNK_PX = 1024
_WHITE = "FFFFFF"
# Beside each other they can be told apart by people who see no difference between red and green.
_COLORS = ("00FF00", "FF00FF", "00FFFF", "FFFF00", "FF8000", "0080FF")


class ImageShapeError(ValueError):
    """Axes, channels or a plane that do not fit the image they are meant for."""


class DamagedImageError(ValueError):
    """An image whose files are not all there, or not what they were."""


def create_image(
    group: zarr.Group,
    path: str,
    shape: Mapping[str, int],
    *,
    channels: Sequence[str],
    name: str,
    px_um: float | None = None,
    z_um: float | None = None,
    interval_s: float | None = None,
    dtype: str = "float32",
    facts: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> zarr.Group:
    """Make an image without any plane at ``path`` in a group; ``write_plane`` fills it, in any order.

    shape: length of every axis by its name, in the order t, c, z, y, x; all but c, y and x may be left out. channels:
    names, one a channel; px_um, z_um: side of a pixel and step between planes, µm; interval_s: time from one t to the
    next; None or 0: unknown, the axis has no unit then. dtype: a floating-point type; facts: JSON-able ones of ours.
    The display window of a channel goes from 0 to its brightest pixel, of the planes written so far.
    Raises ImageShapeError, and zarr's ContainsGroupError where something is there and ``overwrite`` is not set.
    """
    axes = _checked_axes(shape, channels)
    level_shapes = list(_level_shapes(shape))
    scale = {"t": interval_s, "z": z_um, "y": px_um, "x": px_um}
    units = {axis: "second" if axis == "t" else "micrometer" for axis, size in scale.items() if size}
    ome = {
        "version": NGFF_VERSION,
        "multiscales": [
            {
                "name": name,
                "axes": [
                    {"name": axis, "type": _AXIS_TYPES[axis]} | ({"unit": units[axis]} if axis in units else {})
                    for axis in axes
                ],
                "datasets": [
                    {"path": str(level), "coordinateTransformations": _transformations(axes, scale, level)}
                    for level in range(len(level_shapes))
                ],
                "type": "mean 2 × 2",
                "metadata": {"description": "every pixel is the mean of 2 × 2 pixels of the level before"},
            }
        ],
        "omero": {
            "name": name,
            "channels": [_channel(number, label, len(channels)) for number, label in enumerate(channels)],
            "rdefs": {"model": "greyscale" if len(channels) == 1 else "color"},
        },
    }
    image = group.create_group(path, overwrite=overwrite, attributes={"ome": ome, "hadascope": dict(facts or {})})
    for level, level_shape in enumerate(level_shapes):
        image.create_array(
            str(level),
            shape=level_shape,
            chunks=(*(1 for _ in level_shape[:-2]), *(min(side, _LARGEST_CHUNK_PX) for side in level_shape[-2:])),
            dtype=dtype,
            fill_value=np.nan,
            dimension_names=axes,
        )
    return image


def write_plane(image: zarr.Group, index: tuple[int, ...], plane: NDArray[np.floating[Any]]) -> None:
    """Write one plane [y, x] into all levels of an image, and widen its channel's display window to it.

    index: of the axes before y and x, in their order. The image itself comes last: where it holds the plane, so does
    all the rest, also after a crash. Raises ImageShapeError.
    """
    ome = ome_of(image)
    multiscale = ome["multiscales"][0]
    whole = _array(image, "0")
    if plane.shape != whole.shape[-2:] or not _within(index, whole.shape[:-2]):
        raise ImageShapeError(
            f"a plane of {plane.shape} pixels at {index} does not fit into an image of {whole.shape} "
            f"({', '.join(axis['name'] for axis in multiscale['axes'])}): give an index of each axis before y and x"
        )
    channel = index[[axis["name"] for axis in multiscale["axes"]].index("c")]
    window = ome["omero"]["channels"][channel]["window"]
    low = float(np.fmin.reduce(plane, axis=None, initial=window["min"]))
    high = float(np.fmax.reduce(plane, axis=None, initial=window["max"]))
    if (low, high) != (window["min"], window["max"]):
        window.update(_window(low, high))
        image.attrs["ome"] = ome
    levels = [np.asarray(plane, dtype=np.float64)]
    while len(levels) < len(multiscale["datasets"]):
        levels.append(_means_of_2_by_2(levels[-1]))
    for dataset, values in reversed(list(zip(multiscale["datasets"], levels, strict=True))):
        _array(image, dataset["path"])[index] = values


def write_image(
    group: zarr.Group, path: str, planes: NDArray[np.floating[Any]], axes: str, **described: Any
) -> zarr.Group:
    """Write a whole image, replacing the one at ``path``. axes: one letter a dimension; described: see create_image."""
    image = create_image(group, path, dict(zip(axes, planes.shape, strict=True)), overwrite=True, **described)
    for index in product(*(range(length) for length in planes.shape[:-2])):
        write_plane(image, index, planes[index])
    return image


def image_at(group: zarr.Group, path: str) -> zarr.Group | None:
    """The image at ``path`` in a group, None where nothing is there. Raises DamagedImageError."""
    found = _node(group, path)
    if found is None or isinstance(found, zarr.Group):
        return found
    raise DamagedImageError(f"{path} is a {type(found).__name__}, expected an image: its files are damaged")


def plane_of(image: zarr.Group, index: tuple[int, ...]) -> NDArray[np.float64]:
    """One plane of an image, float64 [y, x]; NaN where it was not written yet. Raises IndexError, DamagedImageError."""
    array = _array(image, "0")
    try:
        return np.asarray(array[index], dtype=np.float64)
    except (RuntimeError, ValueError) as error:  # what decompression and the shaping of its result raise
        raise DamagedImageError(f"the image {image.path} cannot be read at {index}: {error}") from error


def shape_of(image: zarr.Group) -> dict[str, int]:
    """Length of every axis of an image, by name, in their order. Raises DamagedImageError."""
    axes = [str(axis["name"]) for axis in ome_of(image)["multiscales"][0]["axes"]]
    return dict(zip(axes, _array(image, "0").shape, strict=True))


def ome_of(image: zarr.Group) -> dict[str, Any]:
    """A copy of an image's OME metadata, as NGFF describes it. Raises DamagedImageError where there is none."""
    ome = image.attrs.get("ome")
    multiscales = ome.get("multiscales") if isinstance(ome, dict) else None
    if not isinstance(multiscales, list) or not multiscales or not all(map(_describes_an_image, multiscales)):
        raise DamagedImageError(f"{image.path} holds no metadata of a multiscale image")
    return deepcopy(ome)  # type: ignore[arg-type]


def metadata_seen_from_above(image: zarr.Group, path: str) -> dict[str, Any]:
    """An image's OME metadata for a group above it, to which the image lies at ``path``: it opens the image too."""
    ome = ome_of(image)
    multiscales = [
        {**each, "datasets": [{**level, "path": f"{path}/{level['path']}"} for level in each["datasets"]]}
        for each in ome["multiscales"]
    ]
    return {**ome, "multiscales": multiscales}


def _checked_axes(shape: Mapping[str, int], channels: Sequence[str]) -> tuple[str, ...]:
    axes = tuple(shape)
    if axes != tuple(axis for axis in _AXIS_TYPES if axis in shape) or not {"c", "y", "x"} <= shape.keys():
        raise ImageShapeError(f"an image has the axes {', '.join(axes)}: expected t, c, z, y, x, at least c, y and x")
    if any(length < 1 for length in shape.values()) or shape["c"] != len(channels):
        raise ImageShapeError(
            f"an image of {dict(shape)} with {len(channels)} named channels: expected a length of 1 or more for every "
            "axis, and a name for every channel"
        )
    return axes


def _level_shapes(shape: Mapping[str, int]) -> Iterator[tuple[int, ...]]:
    """Of the image, and of its halves as long as they are large and even."""
    *before, height, width = shape.values()
    yield (*before, height, width)
    while max(height, width) > _SMALLEST_SIDE_PX and height % 2 == width % 2 == 0:
        height, width = height // 2, width // 2
        yield (*before, height, width)


def _transformations(axes: Sequence[str], scale: Mapping[str, float | None], level: int) -> list[dict[str, Any]]:
    """Index to place, in units of the axes; a pixel of level k is centred on the 2^k × 2^k pixels it is made of."""
    at_full_size = [scale.get(axis) or 1.0 for axis in axes]
    in_plane = [axis in ("y", "x") for axis in axes]
    scales = [size * 2**level if flat else size for size, flat in zip(at_full_size, in_plane, strict=True)]
    found: list[dict[str, Any]] = [{"type": "scale", "scale": scales}]
    if level:
        offset = (2**level - 1) / 2
        shifts = [size * offset if flat else 0.0 for size, flat in zip(at_full_size, in_plane, strict=True)]
        found.append({"type": "translation", "translation": shifts})
    return found


def _channel(number: int, label: str, n_channels: int) -> dict[str, Any]:
    color = _WHITE if n_channels == 1 else _COLORS[number % len(_COLORS)]
    return {"label": label, "color": color, "active": True, "window": _window(0.0, 0.0)}


def _window(low: float, high: float) -> dict[str, float]:
    """From 0 to the brightest pixel; viewers refuse an empty one."""
    return {"min": low, "max": high, "start": 0.0, "end": high or 1.0}


def _within(index: tuple[int, ...], lengths: tuple[int, ...]) -> bool:
    return len(index) == len(lengths) and all(0 <= i < length for i, length in zip(index, lengths, strict=True))


def _means_of_2_by_2(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    height, width = plane.shape
    return np.asarray(plane.reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3)))


def _describes_an_image(multiscale: object) -> bool:
    return isinstance(multiscale, dict) and {"name", "axes", "datasets"} <= multiscale.keys()


def _array(image: zarr.Group, path: str) -> zarr.Array[Any]:
    array = _node(image, path)
    if not isinstance(array, zarr.Array):
        raise DamagedImageError(f"the image {image.path} has no level {path}: its files are damaged")
    return array


def _node(group: zarr.Group, path: str) -> zarr.Array[Any] | zarr.Group | None:
    """What lies at ``path``; None where nothing does. Raises DamagedImageError."""
    try:
        return group.get(path)
    except (ValueError, TypeError, LookupError) as error:  # what zarr raises over metadata that is not whole
        where = f"{group.path}/{path}".strip("/")
        raise DamagedImageError(f"{where}/zarr.json is damaged: {error}") from error
