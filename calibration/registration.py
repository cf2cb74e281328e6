"""Where the DMD's mirrors lie on the detector: an affine map, fitted to dots of light."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from calibration.beside_frame import BesideFrame
from calibration.dot_frames import SeenDots
from calibration.fiducials import FiducialPictures
from calibration.verdict import NoSignalError, NotCalibratableError, SaturatedThroughoutError

FEWEST_DOTS: Final = 6
LARGEST_RESIDUAL_PX: Final = 1.0
_LARGEST_OUTLIER_SHARE: Final = 0.25
_LARGEST_STRETCH: Final = 5.0
# A smoothed pixel of a frame without light exceeds this many standard deviations once in 1e9 pixels.
_REMARKABLE: Final = 6.0
_SMOOTHING_PX: Final = 1.0
# Of a dot's brightest smoothed pixel: what reaches less is taken for its surroundings.
_BLOB_SHARE: Final = 0.3
_LIGHT_SHARE: Final = 0.1
_COARSE_PX: Final = 512
_ROUNDS: Final = 4


class NoImageError(NotCalibratableError):
    """The detector does not image the mirrors: wherever a dot is, its light falls on the same pixels."""


class TooFewDotsError(NotCalibratableError):
    """Too few dots were seen, or none that agree with each other, for any map."""


@dataclass(frozen=True)
class Registration:
    """The map from mirrors to pixels, and what it was fitted to.

    matrix: float64 [2, 3], (x, y) = matrix · (column, row, 1): mirrors and pixels have their centres at integers, and
    pixels are those of the camera's frame. expected: float64 [K, 2], column and row on which the light of every dot is
    centred; found: float64 [K, 2], x and y of that centre on the frame, nan where it was not seen. used: bool [K], dots
    that agree with the map and made it. saturated: bool [K], dots that brought pixels to full scale, and were left out
    for it. corners: float64 [4, 2], outer corners of the image region on the chip, column and row. corner_error_px:
    float64 [4], standard error of the map there (jackknife over the dots), px. reasons: why the map is not usable; none
    where it is. notes: what else a person should know.
    """

    matrix: NDArray[np.float64]
    expected: NDArray[np.float64]
    found: NDArray[np.float64]
    used: NDArray[np.bool_]
    saturated: NDArray[np.bool_]
    corners: NDArray[np.float64]
    corner_error_px: NDArray[np.float64]
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether the map can be relied upon."""
        return not self.reasons

    @property
    def n_found(self) -> int:
        """Dots that were seen."""
        return int(np.isfinite(self.found[:, 0]).sum())

    @property
    def n_used(self) -> int:
        """Dots that the map was fitted to."""
        return int(self.used.sum())

    @property
    def n_saturated(self) -> int:
        """Dots that were seen, and left out because they brought pixels to full scale."""
        return int((self.saturated & np.isfinite(self.found[:, 0])).sum())

    @cached_property
    def residuals(self) -> NDArray[np.float64]:
        """float64 [K, 2], px: from where the map puts a dot to where it was found; nan where it was not."""
        residuals: NDArray[np.float64] = self.found - to_pixels(self.matrix, self.expected)
        return residuals

    @property
    def rms_px(self) -> float:
        """Root-mean-square distance between dots that were used and the map, px."""
        return float(np.sqrt((self.residuals[self.used] ** 2).sum(axis=1).mean()))

    @property
    def largest_px(self) -> float:
        """Largest of those distances, px."""
        return float(np.hypot(*self.residuals[self.used].T).max())

    @property
    def orientation(self) -> Orientation:
        """How mirrors lie on the detector, in words that are said on a bench."""
        return Orientation.of(self.matrix)


@dataclass(frozen=True)
class Orientation:
    """An affine map taken apart: rotation · shear · scale · mirror, the mirror first.

    scale_x, scale_y: pixels per mirror along mirror columns and rows; rotation_deg: from the detector's x axis towards
    its y axis, clockwise as images are shown; shear_deg: by how much the angle between the axes differs from a right
    one. mirrored: mirror columns run the other way round.
    """

    scale_x: float
    scale_y: float
    rotation_deg: float
    shear_deg: float
    mirrored: bool

    @classmethod
    def of(cls, matrix: NDArray[np.float64]) -> Orientation:
        """The orientation of a map float64 [2, 3]."""
        linear = matrix[:, :2]
        mirrored = bool(np.linalg.det(linear) < 0)
        along, down = (linear * (-1, 1) if mirrored else linear).T
        scale_x = math.hypot(*along)
        scale_y = float(along[0] * down[1] - along[1] * down[0]) / scale_x
        return cls(
            scale_x=scale_x,
            scale_y=scale_y,
            rotation_deg=math.degrees(math.atan2(along[1], along[0])),
            shear_deg=math.degrees(math.atan2(float(along @ down) / scale_x, scale_y)),
            mirrored=mirrored,
        )


def to_pixels(matrix: NDArray[np.float64], mirrors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pixels (x, y) float64 [n, 2] on the frame of mirrors float64 [n, 2], column and row."""
    pixels: NDArray[np.float64] = mirrors @ matrix[:, :2].T + matrix[:, 2]
    return pixels


def fit_registration(seen: SeenDots, pictures: FiducialPictures) -> Registration:
    """Fit the map to what was seen of the dots of ``pictures``.

    A dot is found as the brightest stretch of its frame above a threshold, and its place is the centre of its light. An
    affine map is fitted to these by random sample consensus (Fischler and Bolles 1981), so that single glitches do not
    matter. The light of a dot is centred where the sample under it is bright, not on its middle; so with the map so far
    the sample's light is looked up at every mirror of the dot in the mean full picture, the dot's place corrected, and
    the map fitted again, a few times. Dots with pixels at full scale are left out: the centre of what is cut off is not
    the light's. Raises NoSignalError, NoImageError, TooFewDotsError, SaturatedThroughoutError.
    """
    n_dots = len(pictures.positions)
    _must_have_range(seen)
    coarse = [_brightest_stretch(seen.dot(k), seen.noise) for k in range(n_dots)]
    first, sizes = np.array([centre for centre, _ in coarse]), np.array([size for _, size in coarse])
    found = np.isfinite(first[:, 0])
    _must_show_light(seen, found)
    saturated = np.zeros(n_dots, dtype=np.bool_)
    if found.sum() < 3:
        raise _too_few(found, saturated, 0)
    _must_image(first[found], sizes[found])
    scale = _spread(first[found]) / _spread(pictures.positions[found])
    matrix, used = _consensus(pictures.positions, first, saturated, max(1.5, scale * pictures.diameter / 2))
    expected, centres = pictures.positions, first
    for _ in range(_ROUNDS):
        scale = math.sqrt(abs(np.linalg.det(matrix[:, :2])))
        radius_px = scale * pictures.diameter / 2
        expected = _centred_on_light(seen.sample, matrix, pictures)
        around = to_pixels(matrix, pictures.positions)
        reach_px = 1.25 * max(radius_px, float(np.median(sizes[found]))) + 2
        whole = _within(around, seen.dark.shape, radius_px)
        near = [_centre_of_light(seen, k, around[k], reach_px) for k in range(n_dots)]
        saturated = np.array([_is_saturated(seen, k, around[k], reach_px) for k in range(n_dots)])
        # What is seen elsewhere only stays where it is seen, so that it counts as a dot that does not agree.
        centres = np.where(np.isfinite(near), near, first)
        centres[~whole] = np.nan
        matrix, used = _consensus(expected, centres, saturated, max(LARGEST_RESIDUAL_PX, radius_px / 2))
    corner_error_px = _corner_error(expected[used], centres[used], pictures.corners)
    map_ = Registration(matrix, expected, centres, used, saturated, pictures.corners, corner_error_px)
    height, width = seen.dark.shape
    beside = BesideFrame.of(to_pixels(matrix, pictures.corners), (width, height))
    return replace(map_, reasons=_reasons(map_, beside), notes=_notes(map_, seen, pictures))


def _reasons(map_: Registration, beside: BesideFrame) -> tuple[str, ...]:
    reasons = []
    if map_.n_used < FEWEST_DOTS:
        light = "lower" if map_.n_saturated else "raise"
        reasons.append(
            f"{map_.n_used} of {len(map_.used)} dots can be used, at least {FEWEST_DOTS} are needed: {light} the "
            "light, or put more of the region on the sensor"
        )
    n_elsewhere = map_.n_found - map_.n_used - map_.n_saturated
    if n_elsewhere > _LARGEST_OUTLIER_SHARE * map_.n_found:
        reasons.append(
            f"{n_elsewhere} of {map_.n_found} dots lie elsewhere than an affine map puts them: reflections, or a "
            "distortion"
        )
    if beside.is_too_much:
        reasons.append(
            f"{beside}: their light would be missing in every picture. Move or shrink the DMD's image on the sensor, "
            "or choose a smaller dmd_region"
        )
    if map_.rms_px > LARGEST_RESIDUAL_PX:
        reasons.append(
            f"the dots lie {map_.rms_px:.2f} px (root mean square) off the map, at most {LARGEST_RESIDUAL_PX:g} px is "
            "allowed: focus the DMD on the detector, and see that nothing moves"
        )
    largest_error_px = float(map_.corner_error_px.max())
    if not largest_error_px <= LARGEST_RESIDUAL_PX:
        reasons.append(
            f"the map is uncertain by {largest_error_px:.2f} px at a corner of the region, at most "
            f"{LARGEST_RESIDUAL_PX:g} px is allowed: more light, or more repeats"
        )
    stretch = float(np.linalg.cond(map_.matrix[:, :2]))
    if not stretch <= _LARGEST_STRETCH:
        reasons.append(f"the map stretches one direction {stretch:.1f} times as much as another one: it is singular")
    return tuple(reasons)


def _notes(map_: Registration, seen: SeenDots, pictures: FiducialPictures) -> tuple[str, ...]:
    notes = []
    if map_.n_saturated:
        notes.append(
            f"{map_.n_saturated} of {map_.n_found} dots were left out because they bring pixels to full scale: lower "
            "the light"
        )
    blind = int((_on_pixels(seen.saturated_sample, map_.matrix, pictures) & map_.used).sum())
    if blind:
        notes.append(
            f"with all mirrors on, pixels under {blind} of the {map_.n_used} dots that were used stand at full scale, "
            "so that it is not known where the sample is bright there: the residual says how much that matters; a "
            "lower light makes the map better"
        )
    return tuple(notes)


def _brightest_stretch(light: NDArray[np.float64], noise: float) -> tuple[NDArray[np.float64], float]:
    """Centre [2] (x, y) and radius, px, of the most light that hangs together; nan where none stands out."""
    from skimage.measure import block_reduce, label, regionprops

    # Large frames are looked at in blocks first: dots need not be placed to a pixel yet.
    step = math.ceil(max(light.shape) / _COARSE_PX)
    light, noise = (block_reduce(light, step, np.sum), noise * step) if step > 1 else (light, noise)
    smooth, smooth_noise = _smoothed(light, noise)
    peak = float(smooth.max())
    if not peak > _REMARKABLE * smooth_noise:
        return np.full(2, np.nan), np.nan
    stretches = regionprops(label(smooth > _threshold(peak, smooth_noise, _BLOB_SHARE)), intensity_image=light)
    brightest = max(stretches, key=lambda stretch: float(stretch.image_intensity.sum()))
    row, column = brightest.centroid_weighted
    centre = np.array([column, row]) * step + (step - 1) / 2
    return centre, step * math.sqrt(brightest.area / math.pi)


def _centre_of_light(seen: SeenDots, k: int, around: NDArray[np.float64], reach_px: float) -> tuple[float, float]:
    """Centre (x, y) of the light of dot k within ``reach_px`` of a place, nan where none stands out there."""
    from skimage.measure import regionprops

    rows, columns, near = _reached(around, reach_px, seen.dark.shape)
    if not near.any():
        return np.nan, np.nan
    part = seen.dot(k, rows, columns)
    smooth, smooth_noise = _smoothed(part, seen.noise)
    peak = float(smooth.max(initial=0.0, where=near))
    if not peak > _REMARKABLE * smooth_noise:
        return np.nan, np.nan
    bright = near & (smooth > _threshold(peak, smooth_noise, _LIGHT_SHARE))
    row, column = regionprops(bright.astype(np.uint8), intensity_image=part)[0].centroid_weighted
    return columns.start + column, rows.start + row


def _is_saturated(seen: SeenDots, k: int, around: NDArray[np.float64], reach_px: float) -> bool:
    """Whether dot k brought pixels to full scale within ``reach_px`` of a place."""
    rows, columns, near = _reached(around, reach_px, seen.dark.shape)
    return bool((near & seen.saturated(k, rows, columns)).any())


def _reached(
    around: NDArray[np.float64], reach_px: float, shape: tuple[int, ...]
) -> tuple[slice, slice, NDArray[np.bool_]]:
    """Rows and columns of a frame [height, width] about a place (x, y), and which of their pixels are in reach."""
    columns, rows = (
        slice(min(max(math.floor(each - reach_px), 0), size), max(min(math.ceil(each + reach_px) + 1, size), 0))
        for each, size in zip(around, shape[::-1], strict=True)
    )
    y, x = np.ogrid[rows, columns]
    near: NDArray[np.bool_] = np.hypot(x - around[0], y - around[1]) <= reach_px
    return rows, columns, near


def _threshold(peak: float, noise: float, share: float) -> float:
    return max(share * peak, min(_REMARKABLE / 2 * noise, peak / 2))


def _smoothed(light: NDArray[np.float64], noise: float) -> tuple[NDArray[np.float64], float]:
    """Light under a Gaussian, and the standard deviation of what it leaves of white noise."""
    from skimage.filters import gaussian

    # Beyond the frame there is nothing: its outermost pixels repeated would make their noise look like light.
    smooth: NDArray[np.float64] = gaussian(light, sigma=_SMOOTHING_PX, mode="constant", preserve_range=True)
    return smooth, noise / (2 * math.sqrt(math.pi) * _SMOOTHING_PX)


def _must_have_range(seen: SeenDots) -> None:
    share = float(seen.clipped_dark.mean())
    if share > 0.5:
        raise SaturatedThroughoutError(
            f"{100 * share:.0f} % of the pixels stand at full scale in the dark pictures: keep other light out, or "
            "shorten the exposure"
        )


def _must_show_light(seen: SeenDots, found: NDArray[np.bool_]) -> None:
    if found.any():
        return
    total = np.array([seen.dot(k).sum() for k in range(len(found))])
    noise = seen.noise * math.sqrt(seen.dark.size)
    if noise > 0 and float(np.median(total)) > _REMARKABLE * noise:
        raise NoImageError(
            f"dots send light (a median of {float(np.median(total)):.4g} detector units), but it stands out in no "
            "part of the frame: the detector reads the sample as a whole, and frames carry no position. "
            "Registration needs a camera that images the mirrors"
        )
    raise NoSignalError(
        f"none of {len(found)} dots is brighter than the dark picture (median {float(np.median(total)):.3g} "
        f"detector units, uncertain by {noise:.3g}): open the shutter, raise the light, or see that the camera "
        "looks at the DMD"
    )


def _must_image(centres: NDArray[np.float64], sizes: NDArray[np.float64]) -> None:
    spread, size = _spread(centres), float(np.median(sizes))
    if spread < size:
        raise NoImageError(
            f"the light of {len(centres)} dots falls on the same place of the frame, within {spread:.2g} px, and "
            f"spreads over {size:.2g} px: the detector reads the sample as a whole, and frames carry no position. "
            "Registration needs a camera that images the mirrors in focus"
        )


def _spread(points: NDArray[np.float64]) -> float:
    """Median distance from the median point: a size that single glitches do not change."""
    return float(np.median(np.hypot(*(points - np.median(points, axis=0)).T)))


def _within(points: NDArray[np.float64], shape: tuple[int, ...], radius_px: float) -> NDArray[np.bool_]:
    """Around which points float64 [n, 2] a circle lies on a frame [height, width] as a whole."""
    size = np.array(shape[::-1])
    # The edges lie at -0.5 and size - 0.5; half a pixel beyond is granted to dots that touch them.
    inside: NDArray[np.bool_] = np.all((points - radius_px >= -1) & (points + radius_px <= size), axis=1)
    return inside


def _centred_on_light(
    sample: NDArray[np.float64], matrix: NDArray[np.float64], pictures: FiducialPictures
) -> NDArray[np.float64]:
    """Column and row float64 [K, 2] on which the light of every dot is centred, the sample [h, w] being seen so."""
    from scipy.ndimage import map_coordinates

    mirrors = pictures.positions[:, None] + pictures.dot
    pixels = to_pixels(matrix, mirrors.reshape(-1, 2))
    light = map_coordinates(sample, pixels.T[::-1], order=1, mode="nearest").reshape(mirrors.shape[:2]).clip(0)
    total = light.sum(axis=1, keepdims=True)
    shift = np.divide(light @ pictures.dot, total, out=np.zeros_like(pictures.positions), where=total > 0)
    centred: NDArray[np.float64] = pictures.positions + shift
    return centred


def _on_pixels(marked: NDArray[np.bool_], matrix: NDArray[np.float64], pictures: FiducialPictures) -> NDArray[np.bool_]:
    """Which dots, bool [K], have mirrors on pixels of a frame [h, w] that are marked."""
    mirrors = pictures.positions[:, None] + pictures.dot
    x, y = np.rint(to_pixels(matrix, mirrors.reshape(-1, 2))).astype(np.int64).T
    height, width = marked.shape
    on_frame = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    marks = on_frame & marked[y.clip(0, height - 1), x.clip(0, width - 1)]
    on_marked: NDArray[np.bool_] = marks.reshape(mirrors.shape[:2]).any(axis=1)
    return on_marked


def _consensus(
    mirrors: NDArray[np.float64], pixels: NDArray[np.float64], saturated: NDArray[np.bool_], tolerance_px: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The map float64 [2, 3] that most points agree with, and which ones do, bool [K].

    pixels may be nan; points that are saturated, bool [K], are left out. Raises TooFewDotsError,
    SaturatedThroughoutError.
    """
    from skimage.measure import ransac
    from skimage.transform import AffineTransform

    seen = np.isfinite(pixels[:, 0])
    found = seen & ~saturated
    used = np.zeros(len(pixels), dtype=bool)
    if found.sum() >= 3:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "No inliers found")  # it is an error of ours
            _, inliers = ransac(
                (mirrors[found], pixels[found]),
                AffineTransform,
                min_samples=3,
                residual_threshold=tolerance_px,
                max_trials=500,
                rng=0,
            )
        used[found] = False if inliers is None else inliers
    if used.sum() < 3 or np.linalg.matrix_rank(np.c_[mirrors[used], np.ones(used.sum())]) < 3:
        raise _too_few(seen, saturated, int(used.sum()))
    return _affine(mirrors[used], pixels[used]), used


def _too_few(found: NDArray[np.bool_], saturated: NDArray[np.bool_], n_agreeing: int) -> NotCalibratableError:
    if (found & saturated).any():
        return SaturatedThroughoutError(
            f"{int((found & saturated).sum())} of {int(found.sum())} dots bring pixels to full scale, and too few are "
            "left for a map: lower the light"
        )
    return TooFewDotsError(
        f"{int(found.sum())} of {len(found)} dots were seen, and {n_agreeing} of them agree on a map; at least 3 that "
        "do not lie on a line are needed: raise the light, or put more of the region on the sensor"
    )


def _affine(mirrors: NDArray[np.float64], pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    """The least-squares map float64 [2, 3] of points float64 [n, 2], n ≥ 3."""
    from skimage.transform import AffineTransform

    transform: Any = AffineTransform()
    if hasattr(AffineTransform, "from_estimate"):  # scikit-image 0.26 and later
        transform = AffineTransform.from_estimate(mirrors, pixels)
    else:
        transform.estimate(mirrors, pixels)
    matrix: NDArray[np.float64] = np.asarray(transform.params, dtype=np.float64)[:2]
    return matrix


def _corner_error(
    mirrors: NDArray[np.float64], pixels: NDArray[np.float64], corners: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Standard error float64 [4], px, of where corners land: jackknife, every dot left out once; inf for 3 dots."""
    n = len(mirrors)
    if n < 4:
        return np.full(len(corners), np.inf)
    without = np.array(
        [to_pixels(_affine(*(np.delete(each, k, 0) for each in (mirrors, pixels))), corners) for k in range(n)]
    )
    scatter = ((without - without.mean(axis=0)) ** 2).sum(axis=(0, 2))
    error: NDArray[np.float64] = np.sqrt((n - 1) / n * scatter)
    return error
