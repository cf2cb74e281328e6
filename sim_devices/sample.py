"""What lies on the simulated stage: a generated fluorescence image, and where its light falls on the mirrors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

_N_CELLS = 4


def fluorescent_cells(n: int, seed: int) -> NDArray[np.float64]:
    """A generated fluorescence image float64 [n, n], 0 ≤ values ≤ 1, the same for the same seed.

    A few cells of different size and brightness, each with a nucleus, filaments that run out from it and puncta, over a
    dim background, blurred by a Gaussian point-spread function of n/256 px standard deviation (at least 0.6 px). The
    cells lie off the centre, so that no flip or rotation of the image looks like another one.

    Raises ValueError unless n ≥ 8.
    """
    if n < 8:
        raise ValueError(f"an image of side {n} holds no cells; allowed: 8 or more")
    random = np.random.default_rng([seed, n])
    rows, columns = np.mgrid[0:n, 0:n] / n
    image = 0.02 + 0.01 * rows * columns
    for centre, size, brightness in zip(_centres(random), _sizes(random), _brightnesses(random), strict=True):
        image += brightness * _cell(rows, columns, centre, size, random)
    blurred: NDArray[np.float64] = gaussian_filter(image, max(0.6, n / 256), mode="nearest")
    blurred /= blurred.max()
    return blurred


def place_on_mirrors(
    image: NDArray[np.float64],
    mirrors_height: int,
    mirrors_width: int,
    top: int,
    left: int,
    mirrors_per_px: int,
    flip_vertical: bool = False,
    flip_horizontal: bool = False,
    rotation_deg: int = 0,
) -> NDArray[np.float64]:
    """Where the light of ``image`` float64 [n, n] lies on the mirrors: float64 [mirrors_height, mirrors_width].

    Rows, then columns are reversed where a flip is set; then the image is rotated counter-clockwise by 0, 90, 180 or
    270 degrees; then each pixel's light is spread equally over its mirrors_per_px² mirrors (the sum is kept), its first
    mirror at (top, left). Mirrors outside of the image carry no light.

    Raises ValueError where the image does not fit, or the rotation is not a quarter turn.
    """
    if rotation_deg % 90:
        raise ValueError(f"a rotation of {rotation_deg}° was asked for; allowed: 0, 90, 180, 270")
    turned = image
    if flip_vertical:
        turned = np.flip(turned, axis=0)
    if flip_horizontal:
        turned = np.flip(turned, axis=1)
    turned = np.rot90(turned, k=rotation_deg // 90)
    spread = np.kron(turned, np.full((mirrors_per_px, mirrors_per_px), 1.0 / mirrors_per_px**2))
    height, width = spread.shape
    if top < 0 or left < 0 or top + height > mirrors_height or left + width > mirrors_width:
        raise ValueError(
            f"an image of {height} × {width} mirrors at row {top}, column {left} does not fit on "
            f"{mirrors_height} × {mirrors_width} mirrors"
        )
    light = np.zeros((mirrors_height, mirrors_width))
    light[top : top + height, left : left + width] = spread
    return light


def _centres(random: np.random.Generator) -> NDArray[np.float64]:
    """One centre per quadrant, pushed about, and all of them shifted to the upper left."""
    quadrants = np.array([[0.27, 0.25], [0.30, 0.72], [0.70, 0.33], [0.74, 0.77]])
    centres: NDArray[np.float64] = quadrants + random.uniform(-0.08, 0.08, quadrants.shape) - 0.02
    return centres


def _sizes(random: np.random.Generator) -> NDArray[np.float64]:
    return random.uniform(0.13, 0.2, _N_CELLS)


def _brightnesses(random: np.random.Generator) -> NDArray[np.float64]:
    """Clearly different from cell to cell: this is what makes the sample asymmetric whatever the seed."""
    return np.array([1.0, 0.45, 0.7, 0.25]) * random.uniform(0.9, 1.1, _N_CELLS)


def _cell(
    rows: NDArray[np.float64],
    columns: NDArray[np.float64],
    centre: NDArray[np.float64],
    size: float,
    random: np.random.Generator,
) -> NDArray[np.float64]:
    """One cell: cytoplasm, nucleus, filaments, puncta. Lengths are fractions of the image side."""
    y, x = rows - centre[0], columns - centre[1]
    turn, stretch = random.uniform(0, np.pi), random.uniform(1.2, 1.7)
    along, across = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
    radius = np.hypot(along / stretch, across * stretch**0.5) / size
    outline = 1.0 / (1.0 + np.exp((radius - 1.0) * 14.0))
    cell = 0.12 * outline
    nucleus = np.hypot((along + 0.15 * size) / 1.2, across) / (0.33 * size)
    cell += 0.5 / (1.0 + np.exp((nucleus - 1.0) * 10.0))
    for _ in range(9):
        angle, bend = random.uniform(0, 2 * np.pi), random.normal(0.0, 1.2)
        forward, aside = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
        line = np.exp(-(((aside - bend * forward**2 / size) / 0.006) ** 2)) * (forward > 0.25 * size)
        cell += 0.45 * line * outline
    for _ in range(12):
        spot = random.normal(0.0, 0.45 * size, 2)
        cell += random.uniform(0.3, 1.0) * np.exp(-((y - spot[0]) ** 2 + (x - spot[1]) ** 2) / 0.007**2) * outline
    shape: NDArray[np.float64] = cell
    return shape
