"""The picture of a stability calibration: light over time, Allan deviation, and what a pair's noise is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from calibration.measured import Measured
from calibration.stability import Stability

# Okabe and Ito's colours, told apart by everybody.
_BLUE, _ORANGE, _GREEN, _VERMILION, _GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#767676"


def draw_stability(path: Path, stability: Stability, title: str) -> None:
    """Write a PNG of three panels; title: what was measured and when."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15.6, 4.9), layout="constrained")
    FigureCanvasAgg(figure)
    light, allan, budget = figure.subplots(1, 3, width_ratios=(1.25, 1.1, 0.8))
    _draw_light(light, stability)
    _draw_allan(allan, stability)
    _draw_budget(budget, stability)
    verdict = "usable" if stability.usable else "not usable"
    figure.suptitle(f"Stability of the light, {title}: {verdict}\n{_figures(stability)}", fontsize=11)
    figure.savefig(path, dpi=110)


def _draw_light(axis: Any, stability: Stability) -> None:
    fading = stability.fading
    steps = np.diff(fading.time_s)
    rests = np.flatnonzero(steps > 3 * np.median(steps))
    # A point is the middle of what it averages: half a point's time belongs to the light on either side of a rest.
    half = float(np.median(steps)) / 2
    for number, rest in enumerate(rests):
        shade = (fading.time_s[rest] + half, fading.time_s[rest + 1] - half)
        axis.axvspan(*shade, color="#E6E6E6", lw=0, label="rest in the dark" if number == 0 else None)
    axis.errorbar(
        fading.time_s,
        100 * (fading.relative - 1),
        100 * fading.error,
        fmt="o",
        ms=2.5,
        lw=0.8,
        color=_BLUE,
        label="pair sums, averaged",
    )
    apart = "bleaching and lamp drift" if fading.bleaching is not None else "fitted decline"
    # Where the lamp wanders the rates are known better than the level: the line goes through the middle of the points.
    level = float(np.mean(fading.relative - fading.fitted))
    axis.plot(fading.time_s, 100 * (fading.fitted + level - 1), color=_VERMILION, lw=1.6, label=apart)
    axis.set_xlabel("time (s)")
    axis.set_ylabel("light relative to the start (%)")
    axis.set_title(_rates(stability), fontsize=10)
    axis.legend(frameon=False, fontsize=8.5)


def _draw_allan(axis: Any, stability: Stability) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    allan = stability.allan
    above = np.clip(allan.deviation - allan.low, 0, None), np.clip(allan.high - allan.deviation, 0, None)
    axis.errorbar(
        allan.tau_s,
        100 * allan.deviation,
        100 * np.stack(above),
        fmt="o",
        ms=3.5,
        lw=0.9,
        color=_BLUE,
        label="measured",
    )
    if allan.shot is not None:
        axis.plot(allan.tau_s, 100 * allan.shot, color=_ORANGE, lw=1.6, label="shot and read noise")
    axis.plot(allan.tau_s, 100 * allan.white, "--", color=_GREEN, lw=1.4, label="noise inside pairs")
    if (allan.deviation > 0).all():
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_minor_formatter(NullFormatter())
        for scale in (axis.xaxis, axis.yaxis):
            scale.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_xlabel("averaging time τ (s)")
    axis.set_ylabel("Allan deviation of pair sums (%)")
    axis.set_title("Averages over τ, the decline taken out", fontsize=10)
    axis.grid(which="major", lw=0.4, color="#D0D0D0")
    axis.legend(frameon=False, fontsize=8.5)


def _draw_budget(axis: Any, stability: Stability) -> None:
    source = stability.source
    light = source.light
    known = source.shot_variance is not None
    rows = [
        (
            "shot and read" if known else "shot and read\n(what is left)",
            _share(source.shot_variance, stability),
            _ORANGE,
        ),
        ("source,\ninside pairs", source.inside.scaled(source.squared_light / light**2), _GREEN),
        ("source,\nfrom pair to pair", source.between, _BLUE),
    ]
    for place, (_, variance, colour) in enumerate(rows):
        low, middle, high = (
            100 * max(each or 0.0, 0.0) ** 0.5 for each in (variance.low, variance.value, variance.high)
        )
        axis.barh(place, middle, color=colour, height=0.6)
        if variance.high is not None and variance.high > variance.value:
            axis.plot((low, high), (place, place), color="black", lw=1.2, marker="|", ms=7)
        axis.annotate(
            f"{middle:.3g} %", (max(middle, high), place), xytext=(5, 0), textcoords="offset points", va="center"
        )
    axis.set_yticks(range(len(rows)), [name for name, _, _ in rows])
    axis.invert_yaxis()
    axis.margins(x=0.3)
    axis.set_xlim(left=0)
    axis.set_xlabel("relative standard deviation of a pair's light (%)")
    axis.set_title("What a pair's noise is made of", fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)


def _share(shot_variance: float | None, stability: Stability) -> Measured:
    source = stability.source
    variance = source.pair_variance - source.inside_variance if shot_variance is None else shot_variance
    return Measured(variance / source.light**2, None, None)


def _rates(stability: Stability) -> str:
    fading = stability.fading
    if fading.bleaching is None or fading.drift is None:
        return f"decline {_bounded(fading.decline, 100)} %/s"
    return f"bleaching {_bounded(fading.bleaching, 100)} %/s of light, lamp drift {_bounded(fading.drift, 100)} %/s"


def _figures(stability: Stability) -> str:
    contrast = stability.contrast
    said = [f"change {_bounded(stability.fading.change, 100)} % over {stability.duration_s:.3g} s"]
    if contrast is not None:
        said.append(f"on/off contrast {f'{contrast.value:.3g}' if contrast.high else f'≥ {contrast.value:.3g}'}")
    spike = stability.source.first_minus_second.scaled(1 / stability.total)
    said.append(f"first minus second exposure {_bounded(spike, 100)} % of T")
    if stability.outliers:
        said.append(f"{stability.outliers} outliers")
    return "   ".join(said)


def _bounded(found: Measured, factor: float) -> str:
    """Value ± half of the interval's width, with the digits that mean something."""
    reach = factor * ((found.high or 0.0) - (found.low or 0.0)) / 2
    digits = 3 if reach == 0 else int(np.clip(1 - np.floor(np.log10(reach)), 0, 6))
    return f"{factor * found.value:.{digits}f} ± {reach:.{digits}f}"
