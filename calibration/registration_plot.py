"""The picture of a registration: dots where they were found, and where the map puts them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from calibration.registration import Registration, to_pixels

# Okabe and Ito's colours, told apart by colour-blind eyes too.
_SKY, _ORANGE, _VERMILION = "#56B4E9", "#E69F00", "#D55E00"
# An arrow of the root-mean-square residual is this share of the region's extent long.
_ARROW_SHARE: Final = 0.08


def draw_registration(path: Path, registration: Registration, sample: NDArray[np.float64], title: str) -> None:
    """Write a PNG: found dots and fitted grid on the mean full frame, the region's outline, residuals as arrows.

    sample: float64 [h, w], light under all mirrors of the region (calibration.dot_frames.SeenDots.sample). Arrows show
    the residuals magnified by a round factor, which the picture states.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height, width = sample.shape
    figure = Figure(figsize=(7.4, 6.6), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    bright = float(np.percentile(sample, 99.5))
    shown = axis.imshow(sample, cmap="gray", vmin=0, vmax=bright if bright > 0 else 1, interpolation="nearest")
    outline = to_pixels(registration.matrix, registration.corners)
    axis.plot(*np.vstack([outline, outline[:1]]).T, color=_ORANGE, lw=1.2, label="image region")
    axis.plot(*outline[0], "s", color=_ORANGE, ms=6, ls="none", label="its first mirror")
    mapped = to_pixels(registration.matrix, registration.expected)
    axis.plot(*mapped.T, "+", color=_SKY, ms=8, mew=1.2, ls="none", label="where the map puts a dot")
    used, seen = registration.used, np.isfinite(registration.found[:, 0])
    axis.plot(
        *registration.found[used].T,
        "o",
        mfc="none",
        mec=_SKY,
        ms=8,
        ls="none",
        label=f"found: {registration.n_used}",
    )
    if (seen & ~used).any():
        outliers = registration.found[seen & ~used].T
        axis.plot(*outliers, "x", color=_VERMILION, ms=8, mew=1.6, ls="none", label=f"left out: {outliers.shape[1]}")
    magnified = _round_factor(_ARROW_SHARE * float(np.ptp(outline, axis=0).max()), registration.rms_px)
    arrows = axis.quiver(
        *mapped[used].T,
        *(magnified * registration.residuals[used]).T,
        angles="xy",
        scale_units="xy",
        scale=1,
        color=_VERMILION,
        width=0.004,
        zorder=3,
    )
    one_px_arrow = _round_length(registration.rms_px)
    axis.quiverkey(
        arrows, 0.06, 1.03, magnified * one_px_arrow, f"{one_px_arrow:g} px off (×{magnified:g})", labelpos="E"
    )
    axis.set_xlim(min(-0.5, outline[:, 0].min() - 2), max(width - 0.5, outline[:, 0].max() + 2))
    axis.set_ylim(max(height - 0.5, outline[:, 1].max() + 2), min(-0.5, outline[:, 1].min() - 2))
    axis.set_xlabel("x on the frame (px)")
    axis.set_ylabel("y on the frame (px)")
    axis.set_facecolor("0.85")
    figure.colorbar(shown, ax=axis, shrink=0.8, label="light with all mirrors on (detector units)")
    figure.legend(loc="outside lower center", ncols=2, fontsize=9, frameon=False)
    axis.set_title(f"{title}\n{_summary(registration)}", fontsize=10, pad=26)
    figure.savefig(path, dpi=110)


def _summary(registration: Registration) -> str:
    lies = registration.orientation
    verdict = "usable" if registration.usable else "NOT usable"
    mirrored = ", mirrored" if lies.mirrored else ""
    return (
        f"{verdict}: {registration.n_used} of {len(registration.used)} dots, {registration.rms_px:.2g} px off "
        f"(root mean square), {registration.largest_px:.2g} px at most\n"
        f"{lies.scale_x:.4g} × {lies.scale_y:.4g} px per mirror, turned by {lies.rotation_deg:.2f}°, "
        f"sheared by {lies.shear_deg:.2f}°{mirrored}"
    )


def _round_factor(wanted_px: float, rms_px: float) -> float:
    return 1.0 if rms_px <= 0 else max(1.0, _round_length(wanted_px / rms_px))


def _round_length(length: float) -> float:
    """1, 2 or 5 times a power of ten, at most the length; 1 for none."""
    if not length > 0:
        return 1.0
    decade = 10.0 ** math.floor(math.log10(length))
    return next(step * decade for step in (5, 2, 1) if step * decade <= length * (1 + 1e-9))
