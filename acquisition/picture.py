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
    figure = Figure(figsize=(5.2 * panels, 4.9), layout="constrained")
    FigureCanvasAgg(figure)
    axes: list[Any] = list(figure.subplots(1, panels))
    if sample is not None:
        axis = axes.pop(0)
        axis.imshow(sample, cmap="gray", vmin=0, vmax=peak, interpolation="nearest")
        axis.set_title("Sample on the simulated stage")
        _label_pixels(axis)
    shown = axes[0].imshow(reconstruction.image, cmap="gray", vmin=0, vmax=peak, interpolation="nearest")
    quality = reconstruction.said_of_quality(peak)
    if sample is not None:
        quality = f"{psnr(sample, reconstruction.image, peak):.1f} dB, {quality}"
    axes[0].set_title(f"Reconstruction, PSNR {quality}")
    _label_pixels(axes[0])
    figure.colorbar(shown, ax=axes[0], shrink=0.8, label="light per pixel and exposure (detector units)")
    if uncertainty is not None:
        spread = axes[1].imshow(uncertainty, cmap="magma", vmin=0, interpolation="nearest")
        axes[1].set_title("Uncertainty: 90 % of pixels lie within ±")
        _label_pixels(axes[1])
        figure.colorbar(spread, ax=axes[1], shrink=0.8, label="light per pixel and exposure (detector units)")
    order = sequency_order(n)
    pairs = evidence.statistics.count.reshape(n, n)[np.ix_(order, order)]
    spent = axes[-1].imshow(pairs, cmap="cividis", vmin=0, vmax=max(int(pairs.max()), 1), interpolation="nearest")
    axes[-1].set_title(f"{evidence.n_pairs:,} measured pairs")
    axes[-1].set_xlabel("horizontal sequency (sign changes)")
    axes[-1].set_ylabel("vertical sequency (sign changes)")
    figure.colorbar(spent, ax=axes[-1], shrink=0.8, label="pairs M per coefficient", ticks=MaxNLocator(integer=True))
    stage = "simulated devices" if config.simulated else config.sample.name
    figure.suptitle(
        f"Hadascope, {stage}: {n}×{n}, α = {config.sensing.alpha:g}, S = {config.sensing.repeats}, "
        f"{config.sensing.mask.kind} mask, {config.sensing.draw} draw"
    )
    figure.savefig(path, dpi=110)


def _label_pixels(axis: Any) -> None:
    axis.set_xlabel("x (px)")
    axis.set_ylabel("y (px)")
