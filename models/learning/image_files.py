"""Grey images in TIFF and PNG files, and what makes an array an image: real, finite values of 0 or more."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


class UnreadableImageError(ValueError):
    """A file that its reader cannot open."""


class NotAnImageError(ValueError):
    """Numbers that are no image of light."""


def read_planes(path: Path) -> list[NDArray[np.generic]]:
    """All planes [h, w] of a TIFF, whatever its axes (time, depth, channels), or the one of a PNG, in native dtype.

    Raises UnreadableImageError; NotAnImageError for colours, unless all channels are equal and nothing is transparent.
    """
    if path.suffix.lower() == ".png":
        return [single_image(path)]
    try:
        import tifffile

        with tifffile.TiffFile(path) as file:
            series = [(each.axes, np.asarray(each.asarray())) for each in file.series]
    except Exception as error:  # image readers raise what they like on files that are no images
        raise _unreadable(path, error) from error
    return [plane for axes, array in series for plane in _planes(axes, array, path)]


def single_image(path: Path) -> NDArray[np.generic]:
    """The image [h, w] of a PNG, in native dtype. Raises UnreadableImageError, NotAnImageError."""
    try:
        from imageio.v3 import imread

        # Named, so that a file that is no image is not offered to every other reader that is installed.
        array = np.asarray(imread(path, plugin="pillow"))
    except Exception as error:  # image readers raise what they like on files that are no images
        raise _unreadable(path, error) from error
    if array.ndim == 2:
        return array
    if array.ndim == 3 and array.shape[-1] in (2, 3, 4):
        return _without_colour(array, path)
    raise NotAnImageError(f"{path} has shape {list(array.shape)}; expected one grey image [h, w]")


def real(array: NDArray[np.generic], source: str) -> NDArray[np.generic]:
    """The array itself where it holds integers or floats, else NotAnImageError, which names the source."""
    if array.dtype.kind not in "uif":
        raise NotAnImageError(f"{source} holds {array.dtype} values; expected real grey values, integers or floats")
    if array.size == 0:
        raise NotAnImageError(f"{source} has shape {list(array.shape)}, without a pixel; expected an image [h, w]")
    return array


def grey(array: NDArray[np.generic], source: str) -> NDArray[np.float32]:
    """The image as float32 of the same shape, values unchanged. Raises NotAnImageError, which names the source.

    Refused are values that are not real, NaN, infinite (in float32) or negative: nothing continues on a guess.
    """
    with np.errstate(over="ignore"):
        image = real(array, source).astype(np.float32)
    check_light(image, source)
    return image


def check_light(image: NDArray[np.floating], source: str) -> None:
    """Raise NotAnImageError unless all values are finite and 0 or more, and say of how many pixels that is not so."""
    wrong = {
        "NaN": np.count_nonzero(np.isnan(image)),
        "infinite": np.count_nonzero(np.isinf(image)),
        "negative": np.count_nonzero((image < 0) & np.isfinite(image)),
    }
    found = ", ".join(f"{count} {what}" for what, count in wrong.items() if count)
    if found:
        raise NotAnImageError(
            f"{source} holds {found} among its {image.size} pixels; expected grey values of 0 or more. Give the image "
            "as the camera wrote it, or repair those pixels"
        )


def in_natural_order(paths: Iterable[Path]) -> list[Path]:
    """Paths sorted by name, numbers in names by value: 2 before 10."""

    def key(path: Path) -> list[tuple[int, str]]:
        return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name)]

    return sorted(paths, key=lambda path: (key(path), path.name))


def _planes(axes: str, array: NDArray[np.generic], path: Path) -> list[NDArray[np.generic]]:
    if "Y" not in axes or "X" not in axes:
        raise NotAnImageError(f"{path} has axes {axes}; expected images with rows (Y) and columns (X)")
    if "S" in axes:
        array = _without_colour(np.moveaxis(array, axes.index("S"), -1), path)
        axes = axes.replace("S", "")
    array = np.moveaxis(array, (axes.index("Y"), axes.index("X")), (-2, -1))
    return list(array.reshape(-1, *array.shape[-2:]))


def _without_colour(array: NDArray[Any], path: Path) -> NDArray[np.generic]:
    """One channel of [..., channels], which must be alike; a last one of 2 or 4 is opacity and must be full."""
    colours, opacity = array, None
    if array.shape[-1] in (2, 4):
        colours, opacity = array[..., :-1], array[..., -1]
    full = np.iinfo(array.dtype).max if array.dtype.kind in "ui" else 1
    if opacity is not None and (opacity != full).any():
        raise NotAnImageError(f"{path} is transparent in places; expected a grey image without an alpha channel")
    if (colours != colours[..., :1]).any():
        raise NotAnImageError(
            f"{path} has {colours.shape[-1]} colours that differ; expected grey values. Save the channel that is meant "
            "as an image of its own, and a stack of planes as such (in tifffile: photometric='minisblack')"
        )
    return np.ascontiguousarray(colours[..., 0])


def _unreadable(path: Path, error: Exception) -> UnreadableImageError:
    return UnreadableImageError(f"{path} cannot be read ({error}); expected a TIFF or PNG image that is whole")
