"""A camera that looks at mirrors through an affine map, for the tests: light scattered point by point, then blurred."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from calibration.dot_frames import DotFrames, SeenDots
from calibration.fiducials import FiducialPictures
from models.pictures import Region

REGION = Region(side=32, mirrors_height=170, mirrors_width=200, row_bytes=25, top=20, left=31, mirrors_per_px=4)
PICTURES = FiducialPictures(REGION)
CORNERS = np.array([[30.5, 19.5], [158.5, 19.5], [158.5, 147.5], [30.5, 147.5]])
FRAME = (190, 200)
OFFSET = 100.0


def map_of(
    scale: float = 1.0, rotation_deg: float = 0.0, mirrored: bool = False, shear_deg: float = 0.0, **centre: float
) -> NDArray[np.float64]:
    """float64 [2, 3]: the region's middle lands on the frame's (or at x, y), mirrored, sheared, scaled, then turned."""
    angle = np.deg2rad(rotation_deg)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = scale * turn @ np.array([[1.0, np.tan(np.deg2rad(shear_deg))], [0.0, 1.0]])
    if mirrored:
        linear = linear @ np.diag([-1.0, 1.0])
    middle = np.array([centre.get("x", FRAME[1] / 2 - 0.5), centre.get("y", FRAME[0] / 2 - 0.5)])
    return np.column_stack([linear, middle - linear @ CORNERS.mean(axis=0)])


def mapped(matrix: NDArray[np.float64], mirrors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where mirrors (column, row) land, one by one."""
    return np.array([matrix @ (column, row, 1.0) for column, row in mirrors])


def imaged(
    lit: NDArray[np.float64], matrix: NDArray[np.float64], shape: tuple[int, int] = FRAME, blur_px: float = 1.0
) -> NDArray[np.float64]:
    """The frame of mirrors that send light ``lit`` float64 [H, W]: nine points a mirror, among four pixels each."""
    row, column = np.nonzero(lit)
    frame, light = np.zeros(shape), lit[row, column] / 9
    third = np.array([-1, 0, 1]) / 3
    for down in third:
        for along in third:
            place = np.stack([column + along, row + down, np.ones(len(row))]).T @ matrix.T
            whole = np.floor(place).astype(int)
            for step in ((0, 0), (0, 1), (1, 0), (1, 1)):
                x, y = (whole + step).T
                share = (1 - np.abs(place - whole - step)).prod(axis=1)
                on = (x >= 0) & (x < shape[1]) & (y >= 0) & (y < shape[0])
                np.add.at(frame, (y[on], x[on]), (light * share)[on])
    return np.asarray(gaussian_filter(frame, blur_px, mode="constant"))


def even_sample(light: float = 40.0) -> NDArray[np.float64]:
    """Every mirror of the chip sends the same light."""
    return np.full((REGION.mirrors_height, REGION.mirrors_width), light)


def structured_sample(seed: int = 1, light: float = 40.0) -> NDArray[np.float64]:
    """Blobs, some of them smaller than a dot, over a dim ground: from a tenth to several times the mean."""
    rng = np.random.default_rng(seed)
    shape = (REGION.mirrors_height, REGION.mirrors_width)
    rough = gaussian_filter(rng.normal(size=shape), 3.0)
    sample = np.exp(1.0 * rough / rough.std())
    return np.asarray(light * sample / sample.mean())


def bits(pair: int, sign: int, pictures: FiducialPictures = PICTURES) -> NDArray[np.bool_]:
    """The mirrors of one picture."""
    packed = pictures.render(np.array([pair]), np.array([sign]))[0]
    return np.unpackbits(packed, axis=1)[:, : pictures.region.mirrors_width].astype(bool)


def noisy(light: NDArray[np.float64], n: int, rng: np.random.Generator, read_noise: float = 2.0) -> NDArray[np.uint16]:
    """Frames uint16 [n, h, w] of a camera of gain 1 with an offset."""
    frames = rng.poisson(light, (n, *light.shape)) + rng.normal(OFFSET, read_noise, (n, *light.shape))
    return np.rint(frames).clip(0, 65_535).astype(np.uint16)


def lights(
    sample: NDArray[np.float64],
    matrix: NDArray[np.float64],
    pictures: FiducialPictures = PICTURES,
    background: float = 5.0,
    **optics: Any,
) -> dict[tuple[int, int], NDArray[np.float64]]:
    """The light on the frame under all mirrors, none, and every dot, by pair and sign."""
    shown = [(0, 1), (0, -1), *((k, 1) for k in range(1, len(pictures.positions) + 1))]
    return {each: imaged(np.where(bits(*each, pictures), sample, 0.0), matrix, **optics) + background for each in shown}


def exposed(
    light: dict[tuple[int, int], NDArray[np.float64]], seed: int, repeats: int = 2, full_scale: int = 65_535
) -> SeenDots:
    """What a camera saw of it: every dot ``repeats`` times, the other pictures eight times."""
    rng = np.random.default_rng(seed)
    frames = DotFrames(len(light) - 2, full_scale)
    for (pair, sign), falls in light.items():
        n = repeats if pair else 8
        frames.add(np.full(n, pair), np.full(n, sign), noisy(falls, n, rng).clip(max=full_scale))
    return frames.seen()


def seen(
    sample: NDArray[np.float64],
    matrix: NDArray[np.float64],
    *,
    seed: int = 0,
    repeats: int = 2,
    without: tuple[int, ...] = (),
    full_scale: int = 65_535,
    **optics: Any,
) -> SeenDots:
    """What a camera saw of all dots but ``without`` (numbered from 1), which stayed dark."""
    light = lights(sample, matrix, **optics)
    for pair in without:
        light[pair, 1] = np.full_like(light[pair, 1], float(optics.get("background", 5.0)))
    return exposed(light, seed, repeats, full_scale)
