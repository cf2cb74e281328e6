"""The pictures of an evaluation, after Figs. 2 to 4 of Wang et al. 2021: masks, box plots of PSNR, reconstructions.

Images and masks are drawn with a whole number of screen pixels for each of theirs, so that nothing is resampled. The
suffix of the path chooses the format (png, pdf, svg).
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.learning.results_table import group_by_dose_setting
from models.learning.scores import Scores
from models.metrics import psnr
from models.sequency import sequency_order


def draw_masks(path: Path, masks: Mapping[float, Mapping[str, NDArray[np.float64]]], title: str = "") -> None:
    """Masks side by side in 2-D sequency order, low sequency at top left, one row per α, one scale from 0 to 1.

    masks: {α: {name: P float64 [N]}}; a name stands in the same column in every row. Raises PlotInputError, SideError.
    """
    names = list(dict.fromkeys(name for row in masks.values() for name in row))
    lengths = {len(mask) for row in masks.values() for mask in row.values()}
    if len(lengths) != 1:
        raise PlotInputError(
            f"found masks of {sorted(lengths)} coefficients; expected one mask at least, all of a size"
        )
    for alpha, of_alpha in masks.items():
        if not of_alpha:
            raise PlotInputError(f"α = {alpha:g} has none of the masks; expected one at least")
    n = math.isqrt(lengths.pop())
    order = sequency_order(n)
    gaps_above = [60 + (_TITLE if title else 0)] + [_GAP] * (len(masks) - 1)
    grid = _PixelGrid(len(names), n, gaps_above, left=170, right=140, bottom=100)
    rows_of = {name: [row for row, of_alpha in enumerate(masks.values()) if name in of_alpha] for name in names}
    for row, (alpha, of_alpha) in enumerate(masks.items()):
        columns = [names.index(name) for name in of_alpha]
        for (name, mask), column in zip(of_alpha.items(), columns, strict=True):
            axis = grid.axis(row, column)
            picture = mask.reshape(n, n)[np.ix_(order, order)]
            shown = axis.imshow(picture, cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
            axis.set_xticks([0, n // 2, n - 1])
            axis.set_yticks([0, n // 2, n - 1])
            outer_left, bottom = column == min(columns), row == rows_of[name][-1]
            axis.tick_params(labelleft=outer_left, labelbottom=bottom, labelsize=8)
            _turn_inwards(axis)
            if row == rows_of[name][0]:
                axis.set_title(name, fontsize=11)
            if outer_left:
                axis.set_ylabel(f"α = {alpha:g}\nvertical sequency", fontsize=10)
            if bottom:
                axis.set_xlabel("horizontal sequency", fontsize=10)
        grid.add_bar(shown, "probability P", row)
    grid.save(path, title)


def draw_psnr_boxes(path: Path, scores: Scores, title: str = "") -> None:
    """Box plots of PSNR per mask, grouped by method, one panel for every α, S and draw.

    A box holds the middle half of the images, its line is the median, a diamond the mean; whiskers reach 1.5 times the
    box's height at most, and images beyond are points. Raises PlotInputError.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    groups = group_by_dose_setting(scores)
    if not groups:
        raise PlotInputError("found no scores; expected one at least")
    names = list(dict.fromkeys(condition.scheme.mask for condition in scores.conditions))
    methods = list(dict.fromkeys(condition.method for condition in scores.conditions))
    if len(methods) > len(_COLOURS):
        raise PlotInputError(f"found {len(methods)} methods; expected {len(_COLOURS)} at most in one picture")
    widths = [sum(1.0 for _ in summaries) + 0.9 * len(methods) for summaries in groups.values()]
    figure = Figure(figsize=(max(6.5, 0.36 * sum(widths) + 1.2), 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(groups), sharey=True, squeeze=False, width_ratios=widths)[0]
    for axis, (group, summaries) in zip(panels, groups.items(), strict=True):
        of_group = [summary.condition for summary in summaries]
        place, ticks, labels = 0.0, [], []
        for number, method in enumerate(methods):
            shown = sorted((c for c in of_group if c.method == method), key=lambda c: names.index(c.scheme.mask))
            if not shown:
                continue
            places = [place + k for k in range(len(shown))]
            values = [scores.values(condition, "psnr") for condition in shown]
            _boxes(axis, [column[np.isfinite(column)] for column in values], places, _COLOURS[number])
            ticks += places
            labels += [condition.scheme.mask for condition in shown]
            place += len(shown) + 0.9
        axis.set_xticks(ticks, labels, rotation=40, ha="right", rotation_mode="anchor", fontsize=9)
        axis.set_xlim(ticks[0] - 0.8, ticks[-1] + 0.8)
        axis.set_title(group.setting, fontsize=11)
        axis.grid(axis="y", color="#DDDDDD", lw=0.7)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("PSNR (dB)")
    handles = [Patch(facecolor=_COLOURS[k], alpha=_OPACITY, label=method) for k, method in enumerate(methods)]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(methods), 4), frameon=False, fontsize=9)
    if title:
        figure.suptitle(textwrap.fill(title, int(_LETTERS_PER_INCH * figure.get_figwidth())), fontsize=10)
    figure.savefig(path, dpi=_DPI)


@dataclass(frozen=True)
class Example:
    """A ground truth [n, n] and reconstructions of it by title, in the same units."""

    name: str
    truth: NDArray[np.float64]
    images: Mapping[str, NDArray[np.float64]]


def draw_reconstructions(
    path: Path,
    examples: Sequence[Example],
    data_range: float,
    error_limit: float | None = None,
    unit: str = "light per pixel",
    title: str = "",
) -> None:
    """Ground truth and reconstructions, their errors beneath: two rows for each example.

    Each example has one grey scale, from 0 to the largest value of its truth; titles state the PSNR against
    ``data_range``. All errors, image minus truth, share the scale from -error_limit to error_limit (values beyond have
    its end colours), stated beside them; None: the 99.5th percentile of all errors' magnitudes, rounded up to one
    digit. unit: of the images. Raises PlotInputError.
    """
    limit = _checked_limit(examples, error_limit)
    n = len(examples[0].truth)
    columns = 1 + max(len(example.images) for example in examples)
    gaps_above = [110, _GAP] * len(examples)
    gaps_above[0] += _TITLE if title else 0
    grid = _PixelGrid(columns, n, gaps_above, left=_GAP, right=170, bottom=_GAP)
    for number, example in enumerate(examples):
        top = float(example.truth.max()) or 1.0
        axis = grid.axis(2 * number, 0)
        grey = axis.imshow(example.truth, cmap="gray", vmin=0, vmax=top, interpolation="nearest")
        axis.set_title(f"{example.name}\nground truth", fontsize=10)
        _no_ticks(axis)
        grid.add_bar(grey, unit, 2 * number)
        for column, (name, image) in enumerate(example.images.items(), start=1):
            axis = grid.axis(2 * number, column)
            axis.imshow(image, cmap="gray", vmin=0, vmax=top, interpolation="nearest")
            axis.set_title(f"{name}\n{psnr(example.truth, image, data_range):.2f} dB", fontsize=10)
            _no_ticks(axis)
            axis = grid.axis(2 * number + 1, column)
            error = axis.imshow(image - example.truth, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
            _no_ticks(axis)
        grid.add_bar(error, f"image − truth, scale ±{limit:g}", 2 * number + 1)
    grid.save(path, title)


class PlotInputError(ValueError):
    """Data that make no picture."""


class _PixelGrid:
    """Panels of k·n × k·n screen pixels, k whole, in rows and columns; all lengths in screen pixels."""

    def __init__(self, columns: int, n: int, gaps_above: Sequence[int], *, left: int, right: int, bottom: int) -> None:
        """gaps_above: above every row, the first one's included; left, right, bottom: margins."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self._side = n * max(1, math.ceil(_PANEL / n))
        self._left = left
        self._bar_left = left + columns * (self._side + _GAP)
        self._width = self._bar_left + right
        self._height = bottom + len(gaps_above) * self._side + sum(gaps_above)
        # Rows are counted from the top, matplotlib counts from the bottom.
        self._bottoms = [self._height - (k + 1) * self._side - sum(gaps_above[: k + 1]) for k in range(len(gaps_above))]
        self.figure = Figure(figsize=(self._width / _DPI, self._height / _DPI))
        FigureCanvasAgg(self.figure)

    def axis(self, row: int, column: int) -> Any:
        return self._add(self._left + column * (self._side + _GAP), row, self._side)

    def add_bar(self, shown: Any, label: str, row: int) -> None:
        """A colour bar right of a row."""
        bar = self.figure.colorbar(shown, cax=self._add(self._bar_left, row, _BAR))
        bar.set_label(label, fontsize=9)
        bar.ax.tick_params(labelsize=8)

    def save(self, path: Path, title: str) -> None:
        if title:
            self.figure.suptitle(title, fontsize=12, y=1 - 0.35 * _TITLE / self._height)
        self.figure.savefig(path, dpi=_DPI)

    def _add(self, left: int, row: int, width: int) -> Any:
        box = (left / self._width, self._bottoms[row] / self._height, width / self._width, self._side / self._height)
        return self.figure.add_axes(box)


def _boxes(axis: Any, values: Sequence[NDArray[np.float64]], places: Sequence[float], colour: str) -> None:
    axis.boxplot(
        values,
        positions=places,
        widths=0.62,
        manage_ticks=False,
        patch_artist=True,
        showmeans=True,
        boxprops={"facecolor": colour, "alpha": _OPACITY, "linewidth": 0.8},
        medianprops={"color": "black", "linewidth": 1.3},
        meanprops={"marker": "D", "markersize": 3.5, "markerfacecolor": "white", "markeredgecolor": "black"},
        whiskerprops={"linewidth": 0.8},
        capprops={"linewidth": 0.8},
        flierprops={"marker": "o", "markersize": 2, "markerfacecolor": colour, "markeredgecolor": "none"},
    )


def _turn_inwards(axis: Any) -> None:
    """Keep the labels of the outer ticks clear of the neighbour's."""
    for labels, ends in ((axis.get_xticklabels(), _ACROSS), (axis.get_yticklabels(), _DOWN)):
        # Panels inside have no labels.
        for label, end in zip(labels[:: len(labels) - 1] if labels else (), ends, strict=False):
            label.set(**end)


def _no_ticks(axis: Any) -> None:
    axis.set_xticks([])
    axis.set_yticks([])


def _checked_limit(examples: Sequence[Example], error_limit: float | None) -> float:
    """The scale of the errors, after a look at the shapes."""
    shapes = {image.shape for example in examples for image in (example.truth, *example.images.values())}
    if len(shapes) != 1 or not all(example.images for example in examples):
        raise PlotInputError(
            f"found images of {sorted(shapes)} in {len(examples)} examples; expected one example at least, each with a "
            "reconstruction, all images square and of a size"
        )
    if error_limit is not None:
        if not error_limit > 0:
            raise PlotInputError(f"found an error limit of {error_limit:g}; expected more than 0")
        return error_limit
    errors = [np.abs(image - example.truth) for example in examples for image in example.images.values()]
    large = float(np.quantile(np.stack(errors), 0.995)) or 1.0
    digit = 10.0 ** math.floor(math.log10(large))
    return math.ceil(large / digit) * digit


# Okabe and Ito's colours, told apart by everybody.
_COLOURS = ("#56B4E9", "#D55E00", "#009E73", "#E69F00", "#0072B2", "#CC79A7", "#F0E442", "#999999")

# How the labels of the first and the last tick stand to them.
_ACROSS = ({"horizontalalignment": "left"}, {"horizontalalignment": "right"})
_DOWN = ({"verticalalignment": "top"}, {"verticalalignment": "bottom"})

# Screen pixels: at _DPI a panel of 256² is 2.56 inches wide.
_DPI, _PANEL, _GAP, _BAR, _TITLE = 200, 512, 24, 24, 60
_LETTERS_PER_INCH, _OPACITY = 13, 0.75
