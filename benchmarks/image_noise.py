"""Noise from images: simulated on real crops, where the truth is known, and on the FMD repeats, where it is not.

Truth: a crop scaled to a peak of 255 is the light, readings are a·Poisson(light/a) + N(0, b). Crops have noise of
their own, which no truth may have, so it is taken out first by a Gaussian of σ = 1 px; that also blunts their finest
structure. The same without smoothing, where the crops' own noise counts as an error, and with 2 × 2 pixels averaged to
one, are given beside it. FMD: Zhang et al., CVPR 2019; four repeats of each field, and the average of 50.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.row import Row
from calibration.detector_limits import detector_limits
from calibration.image_noise import diagonal_details, estimate_image_noise
from calibration.level_sets import level_of, level_sums, surroundings
from calibration.repeat_noise import RepeatNoise, estimate_repeat_noise
from calibration.variance_line import VarianceLine, fit_variance_line
from calibration.verdict import NotCalibratableError

DATA = Path(__file__).parents[2] / "shared" / "data"
CROPS = DATA / "open" / "crops_test.npz"
FMD = DATA / "sharealike" / "fmd_repeats.npz"
PEAK = 255.0
SMOOTHED, AS_THEY_ARE, AVERAGED = "smoothed", "as they are", "2 × 2 averaged"
SETTINGS = (
    *((SMOOTHED, a, b, False) for a in (0.5, 1.0, 2.0, 4.0) for b in (1.0, 9.0, 25.0)),
    *((SMOOTHED, a, 9.0, True) for a in (0.5, 1.0, 2.0, 4.0)),
    *((prepared, a, 9.0, False) for prepared in (AS_THEY_ARE, AVERAGED) for a in (0.5, 1.0, 2.0, 4.0)),
)


def rows() -> list[Row]:
    """Errors of a on crops by setting, and both estimates of every FMD field; nothing where the data are not there."""
    made = []
    if CROPS.is_file():
        with np.load(CROPS, allow_pickle=False) as archive:
            crops = archive["img"]
        with multiprocessing.get_context("spawn").Pool() as pool:
            made += [
                _simulated(setting, pool.map(partial(_errors, setting), list(enumerate(crops)))) for setting in SETTINGS
            ]
    if FMD.is_file():
        with np.load(FMD, allow_pickle=False) as archive:
            fields = zip(archive["names"], archive["raw"], archive["gt"], strict=True)
            made += [row for name, raw, average in fields for row in _fmd(str(name), raw, average)]
    return made


def light(crop: NDArray[np.uint16], prepared: str) -> NDArray[np.float64]:
    """Light of a crop [h, w], prepared as named and scaled to PEAK."""
    from scipy.ndimage import gaussian_filter

    image = crop.astype(np.float64)
    if prepared == SMOOTHED:
        image = gaussian_filter(image, 1.0)
    elif prepared == AVERAGED:
        image = image.reshape(image.shape[0] // 2, 2, image.shape[1] // 2, 2).mean(axis=(1, 3))
    return np.asarray(image * (PEAK / image.max()), dtype=np.float64)


def reading(
    light_of: NDArray[np.float64], a: float, b: float, rng: np.random.Generator, *, eight_bits: bool = False
) -> NDArray[np.float64]:
    """a·Poisson(light/a) + N(0, b); in eight bits rounded and clipped to 0 … 255."""
    drawn = a * rng.poisson(light_of / a) + np.sqrt(b) * rng.standard_normal(light_of.shape)
    return np.asarray(np.clip(np.round(drawn), 0, 255) if eight_bits else drawn, dtype=np.float64)


def _errors(
    setting: tuple[str, float, float, bool], numbered: tuple[int, NDArray[np.uint16]]
) -> tuple[float, bool, bool]:
    """Relative error of a, whether its interval covers it, and whether it is said to be usable."""
    prepared, a, b, eight_bits = setting
    number, crop = numbered
    image = reading(light(crop, prepared), a, b, np.random.default_rng(number), eight_bits=eight_bits)
    try:
        found = estimate_image_noise(image, seed=number)
    except NotCalibratableError:
        return np.inf, False, False
    low, high = found.line.gain_interval
    return found.gain / a - 1, low <= a <= high, found.usable


def _simulated(setting: tuple[str, float, float, bool], found: list[tuple[float, bool, bool]]) -> Row:
    prepared, a, b, eight_bits = setting
    error, covered, usable = (np.array(each) for each in zip(*found, strict=True))
    size, median = np.abs(error), float(np.median(np.abs(error)))
    usable_median = f"{np.median(size[usable]):.1%}" if usable.any() else "—"
    return Row(
        f"one image, {len(error)} crops {prepared}, a = {a:g}, b = {b:g}{', 8 bits' if eight_bits else ''}: "
        "size of a's error",
        f"median {median:.1%}, quartiles {np.quantile(size, 0.25):.1%} and {np.quantile(size, 0.75):.1%}, 90th "
        f"percentile {np.quantile(size, 0.9):.1%}; signed median {np.median(error):+.1%}",
        f"95 % interval covers {covered.mean():.0%}; {usable.mean():.0%} usable, of these median {usable_median}; "
        f"{np.isinf(error).sum()} refused",
        median / 0.15,
        "at most 1, the median being 15 %",
    )


def _fmd(name: str, raw: NDArray[np.uint8], average: NDArray[np.uint8]) -> Iterator[Row]:
    single, repeats = estimate_image_noise(raw[0]), estimate_repeat_noise(raw)
    frames = raw[list(repeats.frames)].astype(np.float64)
    against = _against_average(frames, average.astype(np.float64), repeats)
    details = _details_of_difference(frames, repeats)
    yield Row(
        f"FMD {name}: one image and {len(frames)} repeats, a (95 %); b (95 %)",
        f"repeats {_said(repeats.line)}{'' if repeats.usable else ' NOT USABLE'}",
        f"one image {_said(single.line)}{'' if single.usable else ' NOT USABLE'}",
        single.gain / repeats.gain,
        "1",
    )
    yield Row(
        f"FMD {name}: third opinions",
        f"repeats less the average of 50 {_said(against)}; neighbours {repeats.neighbours[0]:.2f} along rows, "
        f"{repeats.neighbours[1]:.2f} along columns, far {repeats.far:.2f}; at 255: {np.mean(raw == 255):.2%}, at 0: "
        f"{np.mean(raw == 0):.2%}",
        f"diagonal detail of the difference of two repeats {_said(details)}",
        details.gain / repeats.gain,
        "as above, where noise shared by neighbours is the cause",
    )


def _against_average(frames: NDArray[np.float64], average: NDArray[np.float64], repeats: RepeatNoise) -> VarianceLine:
    """Line through squared deviations from the average of 50, of which the repeats may be a part (2 % of variance)."""
    guide = surroundings(average)
    kept = detector_limits(frames).clear(repeats.line, guide, average)
    offset = frames.mean(axis=(1, 2)) - repeats.brightness * average.mean()
    expected = repeats.brightness[:, None, None] * average + offset[:, None, None]
    return fit_variance_line(level_sums(average, ((frames - expected) ** 2).mean(axis=0), level_of(guide, kept), kept))


def _details_of_difference(frames: NDArray[np.float64], repeats: RepeatNoise) -> VarianceLine:
    """What a single image would say if it had no structure at all: details of (first - last repeat)/√2."""
    mean = (frames[0] + frames[-1]) / 2
    guide = surroundings(mean)
    kept = detector_limits(frames).clear(repeats.line, guide, mean)
    detail, _ = diagonal_details((frames[0] - frames[-1]) / np.sqrt(2))
    return fit_variance_line(level_sums(diagonal_details(mean)[1], detail**2, level_of(guide, kept), kept))


def _said(line: VarianceLine) -> str:
    intervals: tuple[Any, ...] = (*line.gain_interval, line.variance, *line.variance_interval)
    return "{:.3g} ({:.3g}…{:.3g}); {:.3g} ({:.3g}…{:.3g})".format(line.gain, *intervals)
