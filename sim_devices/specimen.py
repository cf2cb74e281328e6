"""What the mirrors see of the sample where the stage stands, in what focus, through what channel."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Final
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from sim_devices.sample import fluorescent_cells

Channel = tuple[str, str]

# Blurred this wide an image is even, to parts in 10⁸: exp(-2π²) of its coarsest structure is left.
_EVEN_BLUR_SIDES: Final = 1.0
# Blurred this little no light reaches the next pixel: exp(-5000) of it.
_SHARP_PX: Final = 0.01
_DIMMEST: Final = 0.5


class Specimen:
    """A sample that goes on beside the field of view, with depth, and with other structures in every channel.

    structures:
        The light of every pixel float64 [n, n] ≥ 0 in focus at (0, 0), for a channel (config group, preset), None for
        none. It is asked for once a channel and must give the same image every time.
    px_um:
        Side of a pixel on the sample, µm.
    focus_um:
        Position of the focus device at which the image is sharp.
    blur_px_per_um:
        By how much the standard deviation of the blur grows with the distance from there.

    Raises ValueError unless px_um > 0 and blur_px_per_um ≥ 0.
    """

    def __init__(
        self,
        structures: Callable[[Channel | None], NDArray[np.float64]],
        px_um: float = 1.0,
        focus_um: float = 0.0,
        blur_px_per_um: float = 0.5,
    ) -> None:
        if not px_um > 0 or not blur_px_per_um >= 0:
            raise ValueError(f"found px_um {px_um}, blur_px_per_um {blur_px_per_um}; expected above 0, and 0 or more")
        self._structures = lru_cache(maxsize=8)(structures)
        self._px_um = px_um
        self.focus_um = focus_um
        self._blur_px_per_um = blur_px_per_um

    def light(
        self, x_um: float = 0.0, y_um: float = 0.0, z_um: float | None = None, channel: Channel | None = None
    ) -> NDArray[np.float64]:
        """The light of every pixel float64 [n, n] ≥ 0 where the stage stands; z_um None: in focus.

        Where the stage stands at (x, y), pixel (row, column) shows what lies at (row + y/px_um, column + x/px_um) of
        the image at (0, 0), which repeats itself on all sides; between pixels it is interpolated linearly. It is then
        blurred by a Gaussian of blur_px_per_um·|z - focus_um| pixels standard deviation. Neither changes the total.

        At (0, 0), in focus, it is the structures' own image. Raises ValueError where a position is not finite.
        """
        z_um = self.focus_um if z_um is None else z_um
        if not all(map(math.isfinite, (x_um, y_um, z_um))):
            raise ValueError(f"found the position ({x_um}, {y_um}, {z_um}) µm; expected finite numbers")
        image = self._structures(channel)
        image = _moved(image, y_um / self._px_um, axis=0)
        image = _moved(image, x_um / self._px_um, axis=1)
        return _blurred(image, self._blur_px_per_um * abs(z_um - self.focus_um))


def generated_structures(n: int, seed: int) -> Callable[[Channel | None], NDArray[np.float64]]:
    """Generated cells [n, n]: those of ``seed`` in no channel, in a channel those of a seed that its names make."""

    def structures(channel: Channel | None) -> NDArray[np.float64]:
        return fluorescent_cells(n, seed if channel is None else seed + 1 + _number(channel))

    return structures


def turned_structures(image: NDArray[np.float64]) -> Callable[[Channel | None], NDArray[np.float64]]:
    """One image, as it is in no channel, turned in a channel.

    The channel's names choose among the seven other ways to lay a square: quarter turns, with or without reversed
    columns. Two channels may be laid the same way; their ``brightness`` tells them apart.
    """

    def structures(channel: Channel | None) -> NDArray[np.float64]:
        way = 0 if channel is None else 1 + _number(channel) % 7
        return np.rot90(image[:, ::-1] if way > 3 else image, k=way % 4)

    return structures


def brightness(channel: Channel | None) -> float:
    """How bright a channel is, 0.5 to 1, as its names make it; 1 without a channel."""
    return 1.0 if channel is None else _DIMMEST + (1.0 - _DIMMEST) * (_number(channel) % 1009) / 1009


def _number(channel: Channel) -> int:
    """The same for the same names on every computer."""
    return crc32("\0".join(channel).encode())


def _moved(image: NDArray[np.float64], by_px: float, axis: int) -> NDArray[np.float64]:
    whole = math.floor(by_px)
    share = by_px - whole
    moved = np.roll(image, -whole, axis)
    # Not where it would change nothing: whole pixels are moved bit for bit.
    return moved if share == 0 else (1.0 - share) * moved + share * np.roll(image, -whole - 1, axis)


def _blurred(image: NDArray[np.float64], sigma_px: float) -> NDArray[np.float64]:
    """Convolved with a Gaussian that goes round the image's edges, whatever its width, at the same cost.

    By Fourier transforms, not matrix products: their bits do not depend on the number of threads.
    """
    if sigma_px < _SHARP_PX:
        return image
    for axis, n in enumerate(image.shape):
        sigma = min(sigma_px, _EVEN_BLUR_SIDES * n)
        rounds = n * np.arange(-math.ceil(6 * sigma / n) - 1, math.ceil(6 * sigma / n) + 2)
        kernel = np.exp(-0.5 * ((np.arange(n)[:, None] + rounds) / sigma) ** 2).sum(axis=1)
        transfer = np.fft.rfft(kernel / kernel.sum())
        transfer = transfer if axis == 1 else transfer[:, None]
        image = np.fft.irfft(np.fft.rfft(image, axis=axis) * transfer, n, axis=axis)
    return np.maximum(image, 0.0)
