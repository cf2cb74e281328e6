"""The photon-transfer plot: variance over light, the fit and its parts, and whether what it assumes holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.linearity import TOLERANCE
from calibration.photon_transfer import LightLevel, PhotonTransfer
from calibration.variance_curve import curve_at

# Okabe and Ito's colours, told apart by colour-blind eyes too.
_BLUE, _ORANGE, _GREEN, _RED, _GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#7F7F7F"
_DRAWS = 2000


def draw_photon_transfer(path: Path, transfer: PhotonTransfer, title: str) -> None:
    """Write a PNG: variance against light (log-log), its residuals, deviation from linearity, and drift over time."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.0, 7.6), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(3, 2, width_ratios=(1.35, 1.0))
    _draw_curve(figure.add_subplot(grid[:, 0]), transfer)
    _draw_residuals(figure.add_subplot(grid[0, 1]), transfer)
    _draw_linearity(figure.add_subplot(grid[1, 1]), transfer)
    _draw_drift(figure.add_subplot(grid[2, 1]), transfer)
    verdict = "usable" if transfer.usable else f"NOT USABLE: {transfer.reasons[0].split(':')[0]}"
    figure.suptitle(f"{title}\n{verdict}", fontsize=12, color="black" if transfer.usable else _RED, wrap=True)
    figure.savefig(path, dpi=110)


def _draw_curve(axis: Any, transfer: PhotonTransfer) -> None:
    used, left_out = _split(transfer)
    lights = [level.light for level in transfer.levels]
    lit = [light for light in lights if light > 0.002 * max(lights)]
    light = np.geomspace(0.15 * min(lit), 1.25 * max(lit), 300)
    low, high = _band(transfer, light)
    axis.fill_between(light, low, high, color=_BLUE, alpha=0.2, lw=0, label="95 % of fits")
    axis.plot(light, curve_at(transfer.parameters, light), color=_BLUE, lw=1.6, label="b + a·m + q·m²")
    bottom = _bottom(transfer)
    for value, style, label in (
        (np.full_like(light, transfer.variance), ":", f"b = {_figures(transfer.variance)} units²"),
        (transfer.gain * light, "--", f"a·m, a = {_figures(transfer.gain)} units per electron"),
        (transfer.source_noise * light**2, "-.", f"q·m², √q = {transfer.source_noise**0.5:.2%} of the light"),
    ):
        if np.any(value > bottom):
            axis.plot(light, np.where(value > bottom, value, np.nan), color=_GREY, lw=0.9, ls=style, label=label)
    shown = [level for level in used if level.light >= light[0]]
    axis.errorbar(
        [level.light for level in shown],
        [level.variance for level in shown],
        yerr=[1.96 * level.variance_error for level in shown],
        fmt="o",
        ms=4.5,
        color="black",
        elinewidth=0.9,
        label="levels, with 95 % errors",
    )
    cut = [level for level in left_out if level.light >= light[0]]
    if cut:
        axis.plot(
            [level.light for level in cut],
            [max(level.variance, bottom) for level in cut],
            "x",
            color=_RED,
            ms=8,
            mew=1.8,
            label="left out",
        )
        axis.axvline(transfer.linear_up_to, color=_RED, lw=0.8, ls=":", label="linear up to here")
    if transfer.dark_variance is not None and transfer.dark_variance > bottom:
        axis.plot(light[0], transfer.dark_variance, ">", color=_ORANGE, ms=8, label="light off (at the left edge)")
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_ylim(bottom=bottom)
    axis.set_xlabel("mean light m above the offset (detector units)")
    axis.set_ylabel("variance of a reading (detector units²)")
    axis.legend(frameon=False, fontsize=9, loc="upper left")


def _draw_residuals(axis: Any, transfer: PhotonTransfer) -> None:
    used, left_out = _split(transfer)
    axis.axhspan(-1.96, 1.96, color=_GREY, alpha=0.15, lw=0)
    axis.axhline(0, color=_GREY, lw=0.8)
    for levels, style, colour in ((used, "o", "black"), (left_out, "x", _RED)):
        light = np.array([level.light for level in levels])
        excess = np.array([level.variance for level in levels]) - curve_at(transfer.parameters, light)
        error = np.array([level.variance_error for level in levels])
        axis.plot(light, np.clip(excess / error, -8, 8), style, color=colour, ms=4.5)
    axis.set_ylim(-8.5, 8.5)
    axis.set_ylabel("variance − fit\n(standard errors)")
    axis.set_xlabel("mean light (detector units)")


def _draw_linearity(axis: Any, transfer: PhotonTransfer) -> None:
    axis.axhspan(-100 * TOLERANCE, 100 * TOLERANCE, color=_GREY, alpha=0.15, lw=0)
    axis.axhline(0, color=_GREY, lw=0.8)
    tested = [level for level in transfer.levels if level.deviation is not None]
    for level in tested:
        assert level.deviation is not None
        assert level.deviation_error is not None
        axis.errorbar(
            level.light,
            100 * level.deviation,
            yerr=196 * level.deviation_error,
            fmt="o" if level.used else "x",
            color="black" if level.used else _RED,
            ms=4.5,
            elinewidth=0.9,
        )
    if not tested:
        axis.text(0.5, 0.5, "could not be tested", transform=axis.transAxes, ha="center", va="center")
    axis.set_ylabel("deviation from\nlinearity (%)")
    axis.set_xlabel("mean light (detector units)")


def _draw_drift(axis: Any, transfer: PhotonTransfer) -> None:
    start = transfer.drift_time_s[0]
    axis.plot(transfer.drift_time_s - start, 100 * (transfer.drift - 1), color=_GREEN, lw=1.6)
    axis.axhline(0, color=_GREY, lw=0.8)
    axis.set_ylabel("light − mean (%)")
    axis.set_xlabel("time since the first exposure (s)")


def _band(transfer: PhotonTransfer, light: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The central 95 % of curves whose parameters are drawn from their covariance, at each light."""
    draws = np.random.default_rng(0).multivariate_normal(
        transfer.parameters, transfer.covariance, _DRAWS, method="eigh"
    )
    low, high = np.quantile(curve_at(draws, light), [0.025, 0.975], axis=0)
    bottom = _bottom(transfer)
    return np.maximum(low, bottom), np.maximum(high, bottom)


def _bottom(transfer: PhotonTransfer) -> float:
    """Where the axis of variance begins: a third of the smallest that the fit or a used level has."""
    used, _ = _split(transfer)
    smallest = min([level.variance for level in used if level.variance > 0], default=1.0)
    return 0.3 * (min(smallest, transfer.variance) if transfer.variance > 1e-6 * smallest else smallest)


def _split(transfer: PhotonTransfer) -> tuple[list[LightLevel], list[LightLevel]]:
    return [level for level in transfer.levels if level.used], [level for level in transfer.levels if not level.used]


def _figures(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"
