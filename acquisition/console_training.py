"""What people see of a training: images, bars, epochs, the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from acquisition.progress_display import ProgressDisplay, progress_display
from acquisition.training_request import ModelOutput
from models.learning.evaluation import Progress as RowProgress
from models.learning.model_file import SUFFIXES, TrainedModel
from models.learning.scores import Score
from models.learning.training import SCORE, EpochReport, Step, TrainingSettings
from models.learning.training_images import TrainingImages
from models.learning.training_log import LoggedEpoch

_MOST_LEFT_OUT = 5


class TrainingBar:
    """A bar over all epochs, and a line for each that is done."""

    def __init__(self, display: ProgressDisplay) -> None:
        self._display = display
        self._begun = False

    def on_step(self, step: Step) -> None:
        """Move the bar, and say where a training goes on that was interrupted."""
        if not self._begun and step.epoch > 1:
            self._display.say(f"goes on after epoch {step.epoch - 1} of {step.epochs}")
        done = (step.epoch - 1) * step.steps + step.step
        loss = f"loss {step.loss:.3f}"
        self._display.tell_quality(loss, loss)
        # The first step takes what is loaded and compiled, and stands where an earlier training ended.
        self._display.show(done, step.epochs * step.steps, found=not self._begun)
        self._begun = True

    def on_epoch(self, report: EpochReport) -> None:
        """Say what an epoch came to."""
        kept = " (kept)" if report.best else ""
        self._display.say(
            f"epoch {report.epoch}: {report.scores[SCORE]:.2f} dB on validation{kept}, {report.seconds:.0f} s"
        )


@contextmanager
def training_bar() -> Iterator[TrainingBar]:
    """A bar for as long as the training goes on."""
    with progress_display(Console(), "training", "steps") as display:
        display.begin()
        yield TrainingBar(display)


@contextmanager
def evaluation_bar() -> Iterator[RowProgress]:
    """A bar over the rows of an evaluation."""
    with progress_display(Console(), "evaluation", "scores") as display:
        display.begin()

        def on_row(done: int, total: int, score: Score | None) -> None:
            display.show(done, total, found=score is None)

        yield on_row


def print_results(page: Path) -> None:
    """The tables, as they stand on the page, and where it lies."""
    Console().print(page.read_text(encoding="utf-8"), highlight=False, markup=False, soft_wrap=True)
    Console().print(f"written: {page}, and scores and pictures beside it", highlight=False, soft_wrap=True)


def print_images(images: TrainingImages) -> None:
    """How many crops of how many fields of view there are, and what was left out."""
    console = Console()
    for name, crops in (("to learn from", images.training), ("to validate on", images.validation)):
        console.print(
            f"{len(crops)} crops of {len(crops.names)} fields of view {name}", highlight=False, soft_wrap=True
        )
    for line in images.left_out[:_MOST_LEFT_OUT]:
        console.print(f"left out: {line}", highlight=False, markup=False, soft_wrap=True)
    if len(images.left_out) > _MOST_LEFT_OUT:
        console.print(f"left out: {len(images.left_out) - _MOST_LEFT_OUT} more", highlight=False)


def print_model(
    model: TrainedModel, written: ModelOutput, settings: TrainingSettings, log: Sequence[LoggedEpoch]
) -> None:
    """What was learned, and where it lies."""
    for line in model_lines(model, written, settings, log):
        Console().print(line, highlight=False, markup=False, soft_wrap=True)


def model_lines(
    model: TrainedModel, written: ModelOutput, settings: TrainingSettings, log: Sequence[LoggedEpoch]
) -> Iterator[str]:
    """What a training came to, line by line; log: of its epochs."""
    if len(log) < settings.epochs:
        yield f"ended after epoch {len(log)}: none of the last {settings.patience} epochs was better on validation"
    for best in [each for each in log if each.best][-1:]:
        yield f"kept: epoch {best.epoch}, {best.scores[SCORE]:.2f} dB on validation"
    metrics = model.card.metrics
    if metrics:
        yield (
            f"the uncertainty, on the {metrics['validation_images']:.0f} images it was calibrated on: predicted PSNR "
            f"within 1 dB for {metrics['predicted_psnr_within_1_db']:.0%} of them, "
            f"{metrics['interval_90_coverage']:.1%} of the pixels inside their 90 % interval"
        )
    files = [*(written.model.name + suffix for suffix in SUFFIXES), written.masks.name, written.training.name]
    yield f"written: {', '.join(files)} in {written.model.absolute().parent}"
    yield f"log and checkpoint: {written.folder} (to be removed when no training shall go on from it)"
    if model.card.kind == "compact":
        mask = f"{{kind: learned, model: {written.model}}}"
        yield f"use it: {{sensing: {{mask: {mask}}}, reconstruction: {{method: network}}}}"
