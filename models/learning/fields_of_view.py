"""Fields of view from files and folders: TIFF, PNG, NPY, NPZ, zarr, and the FMD data set as published."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from models.learning.field_of_view import FieldOfView
from models.learning.fmd_folder import MIXED_TEST_SET, is_fmd_type, read_fmd_type
from models.learning.image_archives import is_zarr, read_npy, read_npz, read_zarr
from models.learning.image_files import NotAnImageError, grey, in_natural_order, read_planes

__all__ = ["FieldOfView", "NoImagesError", "read_fields_of_view"]


class NoImagesError(FileNotFoundError):
    """A path at which there is nothing to read."""


def read_fields_of_view(path: Path) -> list[FieldOfView]:
    """All images at ``path``: a TIFF, PNG, NPY or NPZ file, a zarr array or group, or a folder of them, to any depth.

    Files are fields of view, named by their path below the folder; planes of a TIFF are images of one field, images
    [K, h, w] of an array are K fields unless the file names them (``read_npz``). TYPE folders of the FMD data set are
    read as published (``fmd_folder``), their frames only when asked for. Order: files by name, numbers by value. Means
    are held as float32, so memory takes 4 bytes a pixel.

    Raises NoImagesError where nothing is found, UnreadableImageError for broken files, NotAnImageError for colours,
    values that are not real, NaN, infinite or negative.
    """
    if not path.exists():
        raise NoImagesError(f"{path} is not there; expected {_EXPECTED}")
    reader = _reader(path)
    if reader is not None:
        return _some(reader(path, path.name or path.resolve().name), path, "no image")
    if path.is_file():
        raise NotAnImageError(f"{path} is of a kind that is not known; expected {_EXPECTED}")
    fields: list[FieldOfView] = []
    ignored: list[Path] = []
    for entry, reader in _entries(path):
        if reader is None:
            ignored.append(entry)
        else:
            fields += reader(entry, entry.relative_to(path).as_posix())
    kinds = ", ".join(sorted({entry.suffix or entry.name for entry in ignored})[:_LISTED])
    return _some(fields, path, f"{len(ignored)} files of other kinds ({kinds})" if ignored else "nothing")


def _read_image(path: Path, name: str) -> list[FieldOfView]:
    planes = read_planes(path)
    sources = [str(path) if len(planes) == 1 else f"{path}[{k}]" for k in range(len(planes))]
    return [FieldOfView(name, grey(plane, source), None, source) for plane, source in zip(planes, sources, strict=True)]


def _reader(path: Path) -> Callable[[Path, str], list[FieldOfView]] | None:
    if path.is_file():
        return _READERS.get(path.suffix.lower())
    return read_zarr if is_zarr(path) else read_fmd_type if is_fmd_type(path) else None


def _entries(folder: Path) -> Iterator[tuple[Path, Callable[[Path, str], list[FieldOfView]] | None]]:
    """What is to be read in a folder and the folders in it, with its reader; None with what is left out."""
    entries = in_natural_order(folder.iterdir())
    types = {entry for entry in entries if entry.is_dir() and is_fmd_type(entry)}
    for entry in entries:
        # The mixed test set repeats test fields of the types beside it, under names that do not say which.
        copies = entry.name == MIXED_TEST_SET and len(types - {entry}) > 0
        if entry.name.startswith(".") or copies:
            yield entry, None
            continue
        reader = _reader(entry)
        if reader is None and entry.is_dir():
            yield from _entries(entry)
        else:
            yield entry, reader


def _some(fields: list[FieldOfView], path: Path, found: str) -> list[FieldOfView]:
    if not fields:
        raise NoImagesError(f"{path} holds {found}; expected {_EXPECTED}")
    return fields


_READERS = {
    ".tif": _read_image,
    ".tiff": _read_image,
    ".png": _read_image,
    ".npy": read_npy,
    ".npz": read_npz,
}
_EXPECTED = "a TIFF, PNG, NPY, NPZ or zarr with images, or a folder of them"
_LISTED = 8
