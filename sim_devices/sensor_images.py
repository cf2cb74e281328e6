"""What an imaging camera sees of the mirrors: where their light falls on its sensor, from the displayed bits."""

from __future__ import annotations

import itertools
import math
from copy import copy
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.sparse import coo_array, csr_array

# A mirror's light is spread over points at most half a sensor pixel apart, so that even light stays even.
_POINTS_PER_PX: Final = 2


@dataclass(frozen=True)
class View:
    """How the camera looks at the mirrors: an affine map from mirror to sensor coordinates, and a blur.

    Mirror centres lie at whole (column, row), pixel centres at whole (x, y). ``scale`` is in sensor pixels per mirror;
    ``mirrored`` reverses the columns; ``rotation_deg`` then turns from the sensor's x towards its y axis; mirror (0, 0)
    lands at (``x_px``, ``y_px``). ``blur_px`` is the standard deviation of a Gaussian point-spread function on the
    sensor.
    """

    scale: float
    rotation_deg: float = 0.0
    x_px: float = 0.0
    y_px: float = 0.0
    mirrored: bool = False
    blur_px: float = 0.0

    def __post_init__(self) -> None:
        if not self.scale > 0 or not self.blur_px >= 0:
            raise ValueError(f"found scale {self.scale}, blur_px {self.blur_px}; expected above 0, and 0 or more")


def mirrors_to_sensor(view: View) -> NDArray[np.float64]:
    """The map float64 [3, 3] from (column, row, 1) of a mirror to (x, y, 1) on the sensor.

    (x, y) = (x_px, y_px) + scale·R(rotation)·(±column, row), the minus where the view is mirrored and
    R(θ) = [[cos θ, -sin θ], [sin θ, cos θ]].
    """
    angle = math.radians(view.rotation_deg)
    cosine, sine = view.scale * math.cos(angle), view.scale * math.sin(angle)
    side = -1.0 if view.mirrored else 1.0
    return np.array([[side * cosine, -sine, view.x_px], [side * sine, cosine, view.y_px], [0.0, 0.0, 1.0]])


class SensorImages:
    """The images that pictures make on a sensor of ``height_px`` × ``width_px``.

    ``mirror_light`` float64 [H, W] is what each mirror sends towards the camera. It is spread evenly over the mirror's
    square, shared by the four pixels nearest to every point of it in proportion to their nearness (bilinear), and
    blurred. What falls beside the sensor is lost. One image takes 4·height·width bytes.

    ``lit`` bool [H, W]: the mirrors on which light may ever lie (see ``relit``), None for those on which it lies now.
    Raises ValueError where light lies on others.
    """

    def __init__(
        self,
        view: View,
        mirror_light: NDArray[np.float64],
        height_px: int,
        width_px: int,
        lit: NDArray[np.bool_] | None = None,
    ) -> None:
        self.shape = height_px, width_px
        self._blur_px = view.blur_px
        self._n_mirror_rows, self._n_mirror_columns = mirror_light.shape
        self._rows, self._columns = np.nonzero(mirror_light if lit is None else lit)
        _must_cover(self._rows, self._columns, mirror_light)
        self._light = mirror_light[self._rows, self._columns]
        self._spread = _spread(view, self._rows, self._columns, self.shape)
        self.all_on: NDArray[np.float32] = self._image(self._light)

    def relit(self, mirror_light: NDArray[np.float64]) -> SensorImages:
        """The same camera on mirrors that send other light, at a small part of the cost of looking at them anew.

        Raises ValueError where light lies on mirrors that could not be lit.
        """
        _must_cover(self._rows, self._columns, mirror_light)
        other = copy(self)
        other._light = mirror_light[self._rows, self._columns]
        other.all_on = other._image(other._light)
        return other

    @property
    def arriving(self) -> NDArray[np.float64]:
        """The light float64 [H, W] of every mirror that reaches the sensor: an image's sum is that of its mirrors."""
        # The blur is symmetric, so that applied to ones it says how much of each pixel's light stays on the sensor.
        share = self._spread.T @ self._blurred(np.ones(self.shape)).ravel()
        light = np.zeros((self._n_mirror_rows, self._n_mirror_columns))
        light[self._rows, self._columns] = self._light * np.clip(share, 0.0, 1.0)
        return light

    def of(self, pictures: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """The images float32 [height_px, width_px] ≥ 0 of packed pictures uint8 [K, H, row_bytes] (see BitDecoder)."""
        byte, bit = self._columns >> 3, (7 - (self._columns & 7)).astype(np.uint8)
        return [self._image(self._light * (picture[self._rows, byte] >> bit & 1)) for picture in pictures]

    def inverse(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """The image of the picture that turns on all other mirrors."""
        inverse: NDArray[np.float32] = np.maximum(self.all_on - image, np.float32(0.0))
        return inverse

    def _image(self, light: NDArray[np.float64]) -> NDArray[np.float32]:
        image = self._blurred((self._spread @ light).reshape(self.shape)).astype(np.float32)
        image.flags.writeable = False
        return image

    def _blurred(self, image: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(gaussian_filter(image, self._blur_px, mode="constant")) if self._blur_px else image


def _must_cover(rows: NDArray[np.int64], columns: NDArray[np.int64], mirror_light: NDArray[np.float64]) -> None:
    n_lit, n_covered = np.count_nonzero(mirror_light), np.count_nonzero(mirror_light[rows, columns])
    if n_lit != n_covered:
        raise ValueError(f"light lies on {n_lit} mirrors, {n_lit - n_covered} of them beside those that may be lit")


def _spread(
    view: View, rows: NDArray[np.int64], columns: NDArray[np.int64], shape: tuple[int, int]
) -> csr_array[np.float64]:
    """The shares [pixels, mirrors] in which the light of mirrors falls on pixels."""
    height, width = shape
    n_points = math.ceil(_POINTS_PER_PX * view.scale)
    within = (np.arange(n_points) + 0.5) / n_points - 0.5
    matrix = csr_array((height * width, len(rows)))
    to_sensor = mirrors_to_sensor(view)
    # One point of all mirrors after the other, so that memory stays near what the matrix itself takes.
    for down, right in itertools.product(within, within):
        x, y, _ = to_sensor @ np.stack([columns + right, rows + down, np.ones(len(rows))])
        left, top = np.floor(x), np.floor(y)
        pixel_x, pixel_y = np.stack([left, left + 1, left, left + 1]), np.stack([top, top, top + 1, top + 1])
        shares = (1.0 - np.abs(x - pixel_x)) * (1.0 - np.abs(y - pixel_y)) / n_points**2
        seen = (pixel_x >= 0) & (pixel_x < width) & (pixel_y >= 0) & (pixel_y < height)
        pixels = (pixel_y * width + pixel_x)[seen].astype(np.int64)
        matrix = matrix + coo_array((shares[seen], (pixels, np.nonzero(seen)[1])), shape=matrix.shape).tocsr()
    return matrix
