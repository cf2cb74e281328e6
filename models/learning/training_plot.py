"""How a training went, as a picture: loss and score on validation over the epochs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from models.learning.training import SCORE
from models.learning.training_log import LoggedEpoch


class NothingToDrawError(ValueError):
    """A log without an epoch."""


def draw_training(path: Path, epochs: Sequence[LoggedEpoch], learning_until: float | None = None) -> None:
    """Mean loss above, PSNR on validation beneath, the epoch that was kept marked; the suffix chooses the format.

    learning_until: the last epoch in which the mask learned, None where it did not. Raises NothingToDrawError.
    """
    if not epochs:
        raise NothingToDrawError("found a log without an epoch; expected one at least")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(6.4, 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    above, beneath = figure.subplots(2, 1, sharex=True)
    numbers = [each.epoch for each in epochs]
    marker = "o" if len(epochs) <= _MARKED else ""
    above.plot(numbers, [each.loss for each in epochs], color=_COLOUR, marker=marker, ms=3, lw=1.2)
    above.set_ylabel("mean loss")
    beneath.plot(numbers, [each.scores[SCORE] for each in epochs], color=_COLOUR, marker=marker, ms=3, lw=1.2)
    beneath.set_ylabel("PSNR on validation (dB)")
    beneath.set_xlabel("epoch")
    beneath.xaxis.set_major_locator(MaxNLocator(integer=True))
    kept = [each for each in epochs if each.best][-1:]
    for each in kept:
        score = each.scores[SCORE]
        beneath.plot([each.epoch], [score], "D", color=_KEPT, ms=6, label=f"kept: epoch {each.epoch}, {score:.2f} dB")
    for axis in (above, beneath):
        if learning_until is not None and learning_until < numbers[-1]:
            label = "the mask stays from here" if axis is beneath else None
            axis.axvline(learning_until, color="#999999", ls="--", lw=1, label=label)
        axis.grid(color="#DDDDDD", lw=0.7)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    if beneath.get_legend_handles_labels()[0]:
        beneath.legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=_DPI)


_COLOUR, _KEPT = "#0072B2", "#D55E00"
_MARKED = 60
_DPI = 150
