"""Gain and variance of a camera from image files: single images, and repeats of a field."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.image_noise import ImageNoise, estimate_image_noise
from calibration.repeat_noise import RepeatNoise, estimate_repeat_noise
from calibration.verdict import NotCalibratableError

_COLOURS = (2, 3, 4)
_A_UNIT, _B_UNIT = "grey values per photo-electron", "grey values²"
_OF_SINGLE_IMAGES = (
    "one image: the intervals hold for images that are smooth over a few pixels; on textured ones, and on ones whose "
    "light is noisy itself, they cover less often than 95 %: take repeats of a field there"
)


class ImageFileError(ValueError):
    """A file that holds no images whose noise could be estimated."""


@dataclass(frozen=True)
class FieldNoise:
    """What was found for one field: from its first image, from its repeats where it has some, or why not.

    name: the file, and within it the array and its field.
    """

    name: str
    single: ImageNoise | NotCalibratableError
    repeats: RepeatNoise | NotCalibratableError | None

    @property
    def is_usable(self) -> bool:
        """Whether one of the estimates may be relied on."""
        return any(not isinstance(each, NotCalibratableError) and each.usable for _, each in _estimates(self))


def estimate_files(
    paths: Iterable[Path], *, planes_are_repeats: bool = True, full_scale: float | None = None, seed: int = 0
) -> list[FieldNoise]:
    """Estimates for every field in TIFF, PNG, NPY and NPZ files, in their order.

    An array [h, w] is one field; [K, h, w] is K repeats of one, or K fields where not ``planes_are_repeats``; axes
    before these count fields. Of an NPZ all arrays that could be images are taken, or one, file.npz:array. full_scale:
    the highest grey value of the detector, where it is known. A field that cannot be estimated holds the reason in
    place of the estimate. Raises ImageFileError where a file cannot be read or an array holds no pixel, ValueError
    where full_scale is not a positive number.
    """
    found = []
    for path in paths:
        for name, field in _fields(path, planes_are_repeats):
            stack = field if field.ndim == 3 else field[None]
            repeats = _or_reason(estimate_repeat_noise, stack, full_scale, seed) if len(stack) > 1 else None
            found.append(FieldNoise(name, _or_reason(estimate_image_noise, stack[0], full_scale, seed), repeats))
    return found


def print_image_noise(found: Iterable[FieldNoise]) -> None:
    """Print what was found, a figure an estimate, and below it what is to be known of single images, and of each."""
    from rich.console import Console

    from acquisition.figures import Figures
    from acquisition.terminal import showable

    fields, said = list(found), []
    table = Figures("Noise: a, b and their 95 % intervals")
    for field in fields:
        for source, estimate in _estimates(field):
            what = f"{field.name}, {source}"
            if isinstance(estimate, NotCalibratableError):
                table.add_row(what, f"not possible: {estimate}")
                continue
            line = estimate.line
            gain, variance = _figure(line.gain, line.gain_interval), _figure(line.variance, line.variance_interval)
            verdict = "usable" if estimate.usable else "NOT USABLE"
            table.add_row(
                what, f"{verdict}: a = {gain} {_A_UNIT}, b = {variance} {_B_UNIT}, from {estimate.n_levels} levels"
            )
            said += [f"{what}: {text}" for text in (estimate.reason, *estimate.remarks) if text]
    if any(isinstance(field.single, ImageNoise) for field in fields):
        said.insert(0, _OF_SINGLE_IMAGES)
    console = Console()
    table.print_to(console)
    for text in said:
        console.print(showable(text, console.encoding), highlight=False, markup=False, soft_wrap=True)


def draw_image_noise(path: Path, found: Iterable[FieldNoise]) -> None:
    """Write a PNG of variance over mean, a panel a field: level sets, fitted lines, single images and repeats."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    fields = list(found)
    columns = min(len(fields), 4) or 1
    rows = -(-len(fields) // columns) or 1
    figure = Figure(figsize=(4.2 * columns, 3.4 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes: list[Any] = list(np.ravel(figure.subplots(rows, columns, squeeze=False)))
    for axis, field in zip(axes, fields, strict=False):
        for (source, estimate), colour in zip(_estimates(field), ("#0072B2", "#D55E00"), strict=False):
            if isinstance(estimate, NotCalibratableError):
                continue
            line = estimate.line
            axis.plot(line.level_mean, line.level_variance, ".", color=colour, markersize=4)
            mean = np.array([0.0, line.level_mean.max()])
            axis.plot(mean, line.at(mean), color=colour, linewidth=1.2, label=f"{source}: a = {line.gain:.3g}")
        axis.set_title(field.name, fontsize=9)
        axis.set_xlabel("mean (grey values)")
        axis.set_ylabel("variance (grey values²)")
        axis.set_ylim(bottom=0)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(frameon=False, fontsize=8)
    for axis in axes[len(fields) :]:
        axis.set_axis_off()
    figure.savefig(path, dpi=110)


def _estimates(field: FieldNoise) -> list[tuple[str, ImageNoise | RepeatNoise | NotCalibratableError]]:
    estimates: list[tuple[str, ImageNoise | RepeatNoise | NotCalibratableError]] = [("one image", field.single)]
    if field.repeats is not None:
        of = f"{len(field.repeats.frames)} repeats" if isinstance(field.repeats, RepeatNoise) else "repeats"
        estimates.append((of, field.repeats))
    return estimates


def _figure(value: float, interval: tuple[float, float]) -> str:
    return f"{value:.4g} ({interval[0]:.4g} to {interval[1]:.4g})"


def _or_reason(estimate: Any, pixels: NDArray[Any], full_scale: float | None, seed: int) -> Any:
    try:
        return estimate(pixels, full_scale=full_scale, seed=seed)
    except NotCalibratableError as error:
        return error


def _fields(path: Path, planes_are_repeats: bool) -> Iterator[tuple[str, NDArray[Any]]]:
    for name, array in _arrays(path):
        images = _without_colours(array, name)
        field_axes = images.ndim - (3 if planes_are_repeats else 2)
        if field_axes <= 0:
            yield name, images
            continue
        for index in np.ndindex(*images.shape[:field_axes]):
            yield f"{name}[{', '.join(map(str, index))}]", images[index]


def _arrays(path: Path) -> list[tuple[str, NDArray[Any]]]:
    """Arrays of a file with their names."""
    path, chosen = _named_within(path)
    if not path.is_file():
        raise ImageFileError(f"{path} is not there, or is no file: expected a TIFF, PNG, NPY or NPZ")
    try:
        match path.suffix.lower():
            case ".npz":
                images = _archived(path, chosen)
            case ".npy":
                images = [(path.name, np.load(path, allow_pickle=False))]
            case ".tif" | ".tiff":
                import tifffile

                images = [(path.name, tifffile.imread(path))]
            case _:
                from imageio.v3 import imread

                # Named, so that a file that is no image is not offered to every other reader that is installed.
                images = [(path.name, imread(path, plugin="pillow"))]
    except ImageFileError:
        raise
    except Exception as error:  # readers raise what they like on files that are no images
        raise ImageFileError(f"{path} cannot be read ({error}): expected a TIFF, PNG, NPY or NPZ") from error
    if not images:
        raise ImageFileError(f"{path} holds no array of two dimensions or more with real grey values")
    return images


def _archived(path: Path, chosen: str | None) -> list[tuple[str, NDArray[Any]]]:
    """The chosen array of an NPZ, or all that could be images."""
    with np.load(path, allow_pickle=False) as archive:
        names = archive.files if chosen is None else [chosen]
        if chosen is not None and chosen not in archive.files:
            raise ImageFileError(f"{path} holds no array {chosen}: expected one of {', '.join(archive.files)}")
        arrays = [(f"{path.name}:{name}", archive[name]) for name in names]
    return [each for each in arrays if chosen is not None or (each[1].ndim >= 2 and each[1].dtype.kind in "uif")]


def _named_within(path: Path) -> tuple[Path, str | None]:
    """A file, and the array of it that the path ends on, as in file.npz:array."""
    file, dot, chosen = path.as_posix().rpartition(".npz:")
    return (path, None) if not dot or path.is_file() else (Path(f"{file}.npz"), chosen)


def _without_colours(images: NDArray[Any], name: str) -> NDArray[Any]:
    """Images [..., h, w]; of equal colours one. Raises ImageFileError."""
    if images.ndim < 2 or images.dtype.kind not in "uif" or images.size == 0:
        raise ImageFileError(f"{name} holds {images.dtype} of shape {list(images.shape)}: expected grey values [h, w]")
    if images.ndim < 3 or images.shape[-1] not in _COLOURS:
        return images
    grey = images[..., : images.shape[-1] - 1 if images.shape[-1] in (2, 4) else 3]
    if not (grey == grey[..., :1]).all():
        raise ImageFileError(f"{name} is in colour: expected one channel as the detector read it; save each by itself")
    return grey[..., 0]
