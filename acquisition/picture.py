"""The picture of a result: the sample (where it is known), the reconstruction, and where the measurements went.

A network's image has its uncertainty beside it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acquisition.config import AcquisitionConfig
from acquisition.evidence import Evidence
from acquisition.reconstruction import Reconstruction
from models.metrics import psnr
from models.sequency import sequency_order

# Inches: a panel, its square of an image and what is left and below of that, and a colour bar.
_PANEL, _SIDE, _LEFT, _BELOW = 5.3, 3.75, 0.75, 0.6
_BAR_GAP, _BAR_WIDTH, _BAR_HEIGHT = 0.12, 0.14, 3.0


def draw_result(
    path: Path,
    reconstruction: Reconstruction,
    evidence: Evidence,
    config: AcquisitionConfig,
    sample: NDArray[np.float64] | None,
) -> None:
    """Write a PNG: sample, reconstruction, its uncertainty and pairs per coefficient side by side, as far as known.

    sample: light of every pixel float64 [n, n], or None on a real stage. Images share one grey scale, in detector units
    per exposure; coefficients are shown in 2-D sequency order.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    n = config.sensing.side
    peak = float(reconstruction.image.max() if sample is None else sample.max()) or 1.0
    uncertainty = reconstruction.uncertainty
    panels = 2 + (sample is not None) + (uncertainty is not None)
    figure = Figure(figsize=(_PANEL * panels, _SIDE + 1.35))
    FigureCanvasAgg(figure)
    # Not a layout that is found by drawing, which takes as long as all the rest, after every image of a series.
    axes = [_axes(figure, panel, 0.0, _SIDE, _SIDE) for panel in range(panels)]

    def bar(panel: int, shown: Any, **named: Any) -> None:
        beside = _axes(figure, panel, _SIDE + _BAR_GAP, _BAR_WIDTH, _BAR_HEIGHT)
        figure.colorbar(shown, cax=beside, **named)

    panel = 0
    if sample is not None:
        axes[0].imshow(sample, cmap="gray", vmin=0, vmax=peak, interpolation="nearest")
        axes[0].set_title("Sample on the simulated stage")
        _label_pixels(axes[0])
        panel = 1
    shown = axes[panel].imshow(reconstruction.image, cmap="gray", vmin=0, vmax=peak, interpolation="nearest")
    quality = reconstruction.said_of_quality(peak)
    if sample is not None:
        quality = f"{psnr(sample, reconstruction.image, peak):.1f} dB, {quality}"
    axes[panel].set_title(f"Reconstruction, PSNR {quality}")
    _label_pixels(axes[panel])
    bar(panel, shown, label="light per pixel and exposure (detector units)")
    if uncertainty is not None:
        spread = axes[panel + 1].imshow(uncertainty, cmap="magma", vmin=0, interpolation="nearest")
        axes[panel + 1].set_title("Uncertainty: 90 % of pixels lie within ±")
        _label_pixels(axes[panel + 1])
        bar(panel + 1, spread, label="light per pixel and exposure (detector units)")
    order = sequency_order(n)
    pairs = evidence.statistics.count.reshape(n, n)[np.ix_(order, order)]
    spent = axes[-1].imshow(pairs, cmap="cividis", vmin=0, vmax=max(int(pairs.max()), 1), interpolation="nearest")
    axes[-1].set_title(f"{evidence.n_pairs:,} measured pairs")
    axes[-1].set_xlabel("horizontal sequency (sign changes)")
    axes[-1].set_ylabel("vertical sequency (sign changes)")
    bar(panels - 1, spent, label="pairs M per coefficient", ticks=MaxNLocator(integer=True))
    stage = "simulated devices" if config.simulated else config.sample.name
    figure.suptitle(
        f"Hadascope, {stage}: {n}×{n}, α = {config.sensing.alpha:g}, S = {config.sensing.repeats}, "
        f"{config.sensing.mask.kind} mask, {config.sensing.draw} draw"
    )
    figure.savefig(path, dpi=110)


def _axes(figure: Any, panel: int, right_of_image: float, width: float, height: float) -> Any:
    """Axes of a size in inches in a panel, beside its image or in its place, in the middle of its height."""
    whole_width, whole_height = figure.get_size_inches()
    left, bottom = panel * _PANEL + _LEFT + right_of_image, _BELOW + (_SIDE - height) / 2
    return figure.add_axes((left / whole_width, bottom / whole_height, width / whole_width, height / whole_height))


def _label_pixels(axis: Any) -> None:
    axis.set_xlabel("x (px)")
    axis.set_ylabel("y (px)")
