"""The plots of a report, each an SVG file that stands alone: text stays text, images are embedded as they are."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from acquisition.report.light_curve import LightCurve
from models.sequency import sequency_order

_LIGHT = "light per pixel (detector units)"
# Told apart by people who see no red or no green, and by a printer without colours.
_DARK_BLUE, _ORANGE = "#08306b", "#d95f02"


def image_plot(image: NDArray[np.float64], px_um: float | None, *, color_map: str = "gray", label: str = _LIGHT) -> str:
    """An image float64 [n, n] with its colour bar, and a scale bar where the size of a pixel is known."""
    with _square() as (figure, axis, bar, text):
        brightest = float(image.max()) or 1.0
        shown = axis.imshow(image, cmap=color_map, vmin=0, vmax=brightest, interpolation="none")
        axis.set_xlabel("x (px)")
        axis.set_ylabel("y (px)")
        figure.colorbar(shown, cax=bar, label=label)
        if px_um is not None:
            _draw_scale_bar(axis, len(image), px_um)
    return text()


def coefficient_plot(pairs: NDArray[np.int64]) -> str:
    """M of every coefficient, int64 [N] in natural order, in 2-D sequency order."""
    from matplotlib.ticker import MaxNLocator

    n = math.isqrt(len(pairs))
    order = sequency_order(n)
    with _square() as (figure, axis, bar, text):
        ordered = pairs.reshape(n, n)[np.ix_(order, order)].astype(np.float64)
        shown = axis.imshow(ordered, cmap="cividis", vmin=0, vmax=max(int(pairs.max()), 1), interpolation="none")
        axis.set_xlabel("horizontal sequency (sign changes)")
        axis.set_ylabel("vertical sequency (sign changes)")
        figure.colorbar(shown, cax=bar, label="pairs M per coefficient", ticks=MaxNLocator(integer=True))
    return text()


def light_plot(curve: LightCurve) -> str:
    """The total light over time, and the exponential through it."""
    with _figure(6.4, 3.2) as (figure, text):
        axis = figure.add_subplot()
        axis.plot(curve.time_s, curve.total, ".", color=_DARK_BLUE, markersize=4, label="mean of pair sums")
        fitted = curve.fitted()
        if fitted is not None:
            axis.plot(curve.time_s, fitted, "--", color=_ORANGE, label="exponential")
        axis.set_xlabel("time since the run began (s)")
        axis.set_ylabel("total light per exposure\n(detector units)")
        axis.grid(alpha=0.3)
        axis.legend(frameon=False)
    return text()


def live_plot(live: NDArray[np.float64]) -> str:
    """Age and expected error of the live images, from their record float64 [refreshes, 4] (LIVE_FIELDS)."""
    with _figure(6.4, 3.2) as (figure, text):
        age, error = figure.subplots(1, 2)
        age.plot(live[:, 0], 1e3 * live[:, 2], ".", color=_DARK_BLUE, markersize=4)
        age.set_ylabel("age of the newest reading (ms)")
        age.set_ylim(bottom=0)
        error.plot(live[:, 0], np.sqrt(np.maximum(live[:, 3], 0)), ".", color=_DARK_BLUE, markersize=4)
        error.set_ylabel("expected error per pixel\n(detector units)")
        if (live[:, 3] > 0).all():
            error.set_yscale("log")
        for axis in (age, error):
            axis.set_xlabel("time since the light went on (s)")
            axis.grid(alpha=0.3)
    return text()


def thumbnail(image: NDArray[np.float64]) -> str:
    """An image float64 [n, n] alone, without axes."""
    with _figure(1.4, 1.4, layout=None) as (figure, text):
        axis = figure.add_axes((0, 0, 1, 1))
        axis.imshow(image, cmap="gray", vmin=0, vmax=float(np.nanmax(image)) or 1.0, interpolation="none")
        axis.set_axis_off()
    return text()


def scale_bar_um(field_um: float) -> float:
    """A round length, µm: the largest of 1, 2 or 5 times a power of ten within a quarter of the field."""
    most = field_um / 4
    power = 10.0 ** math.floor(math.log10(most))
    return max(step * power for step in (1, 2, 5) if step * power <= most * (1 + 1e-9))


def _draw_scale_bar(axis: Any, side: int, px_um: float) -> None:
    from matplotlib.patches import Rectangle

    length_um = scale_bar_um(side * px_um)
    length, height = length_um / px_um, side / 60
    left, top = 0.95 * side - length - 0.5, 0.94 * side - height - 0.5
    axis.add_patch(Rectangle((left, top), length, height, facecolor="white", edgecolor="black", linewidth=0.6))
    axis.text(
        left + length / 2,
        top - side / 60,
        f"{length_um:g} µm",
        color="white",
        ha="center",
        va="bottom",
        bbox={"facecolor": "black", "edgecolor": "none", "alpha": 0.5, "pad": 1.5},
    )


@contextmanager
def _square() -> Iterator[tuple[Any, Any, Any, Callable[[], str]]]:
    """A figure, square axes at the same place whatever their labels are, axes for a colour bar, and the text."""
    with _figure(5.2, 4.2, layout=None) as (figure, text):
        yield (
            figure,
            figure.add_axes((0.12, 0.11, 3.5 / 5.2, 3.5 / 4.2)),
            figure.add_axes((0.82, 0.11, 0.03, 3.5 / 4.2)),
            text,
        )


@contextmanager
def _figure(
    width_in: float, height_in: float, layout: Literal["constrained"] | None = "constrained"
) -> Iterator[tuple[Any, Callable[[], str]]]:
    """A figure, and a function that gives it as SVG once it is drawn."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    drawn: list[str] = []
    # The same figure gives the same text, on any day.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "hadascope", "font.size": 9}):
        figure = Figure(figsize=(width_in, height_in), layout=layout)
        canvas = FigureCanvasSVG(figure)
        yield figure, lambda: drawn[0]
        stream = io.StringIO()
        canvas.print_svg(  # type: ignore[no-untyped-call]
            stream, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
        drawn.append(stream.getvalue())
