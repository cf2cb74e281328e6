"""Images in NPY and NPZ files and in zarr arrays and groups (v2 and v3)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.learning.field_of_view import FieldOfView, FrameArray
from models.learning.image_files import NotAnImageError, UnreadableImageError, grey, real

if TYPE_CHECKING:
    import zarr

IMAGE_KEYS = ("img", "images", "gt", "clean")


def read_npy(path: Path, name: str) -> list[FieldOfView]:
    """The image [h, w], or the images [K, h, w] of K fields of view, of an NPY file.

    Raises UnreadableImageError, NotAnImageError.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except Exception as error:  # whatever a broken file makes the reader raise
        raise UnreadableImageError(f"{path} cannot be read ({error}); expected an NPY file of numbers") from error
    return list(_each(array, name, str(path)))


def read_npz(path: Path, name: str) -> list[FieldOfView]:
    """The images [K, h, w] or [h, w] of an NPZ file: array ``img``, ``images``, ``gt`` or ``clean``, or its only one.

    ``raw`` [K, R, h, w] beside ``gt`` are its repeats. ``noisy`` beside ``clean`` is not used: nothing says that both
    have the same scale. Fields of view are named by ``meta``, a JSON list with an entry for each image, of which
    ``group`` (what must stay together) counts first, then ``path`` with ``source``, then ``id``; or by ``names``.
    Without them every image is a field of its own. Raises UnreadableImageError, NotAnImageError.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            keys = [key for key in IMAGE_KEYS if key in archive.files]
            if not keys:
                keys = [key for key in archive.files if len(archive.files) == 1]
            wanted = [*keys[:1], "meta", "names", *(["raw"] if keys[:1] == ["gt"] else [])]
            arrays = {key: archive[key] for key in wanted if key in archive.files}
            found = ", ".join(archive.files) or "nothing"
    except Exception as error:  # whatever a broken file makes the reader raise
        raise UnreadableImageError(f"{path} cannot be read ({error}); expected an NPZ file of arrays") from error
    if not keys:
        raise NotAnImageError(f"{path} holds {found}; expected images in an array called {', '.join(IMAGE_KEYS)}")
    return _fields_of_archive(arrays, keys[0], name, str(path))


def is_zarr(path: Path) -> bool:
    """Whether a folder is a zarr array or group."""
    return any((path / marker).is_file() for marker in ("zarr.json", ".zarray", ".zgroup"))


def read_zarr(path: Path, name: str) -> list[FieldOfView]:
    """The image [h, w], or the images [K, h, w] of K fields of view, of an array, or of all arrays in a group.

    An OME-Zarr image is one field: its planes at full resolution, of any axes. Arrays of less than two dimensions are
    passed over. Raises UnreadableImageError, NotAnImageError.
    """
    import zarr

    try:
        node = zarr.open(path, mode="r")
    except Exception as error:  # whatever a broken store makes the reader raise
        raise UnreadableImageError(f"{path} cannot be read ({error}); expected a zarr array or group") from error
    return list(_of_node(node, name, str(path)))


def _of_node(node: zarr.Array[Any] | zarr.Group, name: str, source: str) -> Iterator[FieldOfView]:
    import zarr

    if isinstance(node, zarr.Array):
        yield from _each(_loaded(node, source), name, source)
        return
    full_resolution = _full_resolution(node)
    if full_resolution is not None:
        array = _loaded(_member(node, full_resolution, source), source)
        for plane in array.reshape(-1, *array.shape[-2:]):
            yield FieldOfView(name, grey(plane, source), None, source)
        return
    for key, child in sorted(node.members()):
        if isinstance(child, zarr.Group) or child.ndim >= 2:
            yield from _of_node(child, f"{name}/{key}", f"{source}/{key}")


def _full_resolution(group: zarr.Group) -> str | None:
    """The path within the group of the largest array of an OME-Zarr image (NGFF 0.4 and 0.5); None for other groups."""
    attributes: Mapping[str, Any] = group.attrs.asdict()
    scales = attributes.get("ome", attributes).get("multiscales")
    return str(scales[0]["datasets"][0]["path"]) if scales else None


def _member(group: zarr.Group, path: str, source: str) -> zarr.Array[Any]:
    import zarr

    member = group.get(path)
    if not isinstance(member, zarr.Array):
        raise UnreadableImageError(f"{source} says that its image is in {path}; expected an array there")
    return member


def _loaded(array: zarr.Array[Any], source: str) -> NDArray[np.generic]:
    try:
        return np.asarray(array[...])
    except Exception as error:  # whatever a missing or broken chunk makes the codecs raise
        raise UnreadableImageError(f"{source} cannot be read ({error}); expected a whole zarr array") from error


def _fields_of_archive(
    arrays: Mapping[str, NDArray[np.generic]], key: str, name: str, source: str
) -> list[FieldOfView]:
    images = list(_each(arrays[key], name, f"{source}:{key}"))
    raw, names = arrays.get("raw"), _names(arrays, len(images), name, source)
    if raw is not None and images:
        expected = (len(images), *images[0].image.shape)
        if raw.ndim != 4 or (raw.shape[0], *raw.shape[2:]) != expected or raw.shape[1] == 0:
            raise NotAnImageError(
                f"{source} holds raw {list(raw.shape)}; expected repeats [K, R, h, w] of the images {list(expected)}"
            )
        real(raw, f"{source}:raw")
    return [
        FieldOfView(
            name=each.name if names is None else names[k],
            image=each.image,
            repeats=None if raw is None else FrameArray(raw[k]),
            source=each.source,
        )
        for k, each in enumerate(images)
    ]


def _names(arrays: Mapping[str, NDArray[np.generic]], expected: int, name: str, source: str) -> list[str] | None:
    """Names of the fields of view, where meta or names give them."""
    if "meta" in arrays:
        try:
            entries = json.loads(str(arrays["meta"]))
        except json.JSONDecodeError as error:
            raise NotAnImageError(f"{source} holds meta that is no JSON ({error}); expected a JSON list") from error
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise NotAnImageError(f"{source} holds meta that is no list of entries; expected one for each image")
        names = [_name(entry, f"{name}[{k}]") for k, entry in enumerate(entries)]
    elif "names" in arrays:
        names = [str(each) for each in arrays["names"].ravel()]
    else:
        return None
    if len(names) != expected:
        raise NotAnImageError(f"{source} names {len(names)} images and holds {expected}; expected a name for each")
    return names


def _name(entry: Mapping[str, Any], otherwise: str) -> str:
    if entry.get("group"):
        return str(entry["group"])
    if entry.get("path"):
        return f"{entry['source']}:{entry['path']}" if entry.get("source") else str(entry["path"])
    return str(entry.get("id") or otherwise)


def _each(array: NDArray[np.generic], name: str, source: str) -> Iterator[FieldOfView]:
    """The image, or the images along the first axis, each a field of view."""
    if array.ndim == 2:
        yield FieldOfView(name, grey(array, source), None, source)
    elif array.ndim == 3:
        for k, image in enumerate(array):
            yield FieldOfView(f"{name}[{k}]", grey(image, f"{source}[{k}]"), None, f"{source}[{k}]")
    else:
        real(array, source)
        raise NotAnImageError(f"{source} has shape {list(array.shape)}; expected an image [h, w] or images [K, h, w]")
