"""An image for the simulated stage, from a TIFF or PNG."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray


class SampleImageError(ValueError):
    """A sample file that cannot be put on the stage."""


def read_sample(path: Path, n: int) -> NDArray[np.float64]:
    """Read a TIFF or PNG as an image [n, n]: the first plane, colours as luminance, the central square, resampled.

    Brightness keeps its scale. Raises SampleImageError where the file is no such image, or holds no light or light that
    is negative or not finite.
    """
    image = _read(path)
    if not np.isfinite(image).all():
        raise SampleImageError(f"{path} holds values that are not finite: expected grey values of 0 or more")
    if image.min() < 0:
        raise SampleImageError(
            f"{path} holds negative values (lowest {image.min():g}): expected grey values of 0 or more"
        )
    if image.max() == 0:
        raise SampleImageError(f"{path} is dark everywhere: there is nothing to measure")
    square = min(image.shape)
    top, left = ((extent - square) // 2 for extent in image.shape)
    image = image[top : top + square, left : left + square]
    if square != n:
        from skimage.transform import resize

        image = np.maximum(resize(image, (n, n), order=1, anti_aliasing=square > n, preserve_range=True), 0)
    if image.max() == 0:
        raise SampleImageError(f"{path} is dark in its central square: there is nothing to measure")
    return np.asarray(image, dtype=np.float64)


def _read(path: Path) -> NDArray[np.float64]:
    """The first plane of a file as float64 [rows, columns]."""
    if not path.is_file():
        raise SampleImageError(f"{path} is not there, or is no file: expected a TIFF or PNG image")
    try:
        if path.suffix.lower() in (".tif", ".tiff"):
            import tifffile

            image = tifffile.imread(path, key=0)
        else:
            from imageio.v3 import imread

            # Named, so that a file that is no image is not offered to every other reader that is installed.
            image = imread(path, plugin="pillow")
    except Exception as error:  # image readers raise what they like on files that are no images
        raise SampleImageError(f"{path} cannot be read as an image ({error}): expected a TIFF or PNG") from error
    image = np.asarray(image)
    if image.dtype.kind not in "uifb":
        raise SampleImageError(f"{path} holds {image.dtype} values: expected real grey values")
    image = image.astype(np.float64)
    if image.ndim == 3 and image.shape[-1] in (2, 4):
        image = image[..., :-1]  # alpha
    if image.ndim == 3 and image.shape[-1] == 3:
        from skimage.color import rgb2gray

        image = rgb2gray(image)
    while image.ndim > 2:
        image = image[..., 0] if image.shape[-1] == 1 else image[0]
    if image.ndim != 2 or min(image.shape) < 2:
        raise SampleImageError(f"{path} has shape {list(image.shape)}: expected an image of at least 2 × 2 pixels")
    return np.asarray(image, dtype=np.float64)
