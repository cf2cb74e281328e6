"""Training that can be stopped and gone on with: epochs, checkpoints, early stopping, a log.

An epoch draws its order, its noise and its counts from a seed of its own, so that a training that was interrupted after
any epoch goes on, on the same machine, as if it had not been.
"""

from __future__ import annotations

import copy
import hashlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from models.learning.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from models.learning.training_log import append_epoch, keep_epochs

SCORE = "validation_psnr_db"
LOG = "log.csv"


@dataclass(frozen=True)
class TrainingSettings:
    """How a training goes.

    epochs: at most; batch: images a step; rate: highest learning rate of the networks' weights; mask_rate: of the
    mask's logits, which learn for mask_share of the epochs; patience: epochs without a better validation after which it
    ends early; average: share of the running mean of the weights that a step keeps (0: no mean is taken); seed: of
    everything that is drawn.
    """

    epochs: int = 40
    batch: int = 8
    rate: float = 2e-3
    mask_rate: float = 0.01
    mask_share: float = 0.4
    patience: int = 15
    average: float = 0.998
    seed: int = 0

    def __post_init__(self) -> None:
        for key in ("epochs", "batch", "patience"):
            if getattr(self, key) < 1:
                raise TrainingSettingsError(f"found {key} = {getattr(self, key)}; expected 1 or more")
        for key in ("rate", "mask_rate"):
            if not 0 < getattr(self, key) < math.inf:
                raise TrainingSettingsError(f"found {key} = {getattr(self, key):g}; expected more than 0")
        if not (0 < self.mask_share <= 1 and 0 <= self.average < 1):
            raise TrainingSettingsError(
                f"found mask_share = {self.mask_share:g}, average = {self.average:g}; expected 0 < mask_share ≤ 1 and "
                "0 ≤ average < 1"
            )


@dataclass(frozen=True)
class EpochReport:
    """What an epoch came to: its number from 1, seconds, mean loss, scores on validation, and if it is the best."""

    epoch: int
    seconds: float
    loss: float
    scores: Mapping[str, float]
    best: bool


@dataclass(frozen=True)
class Step:
    """Where a training is: epoch from 1 of epochs, step from 1 of steps, the loss of this step."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float


class TrainingTask(Protocol):
    """What is trained. module: all parameters; those whose name starts with "mask." are trained at the mask's rate."""

    @property
    def module(self) -> torch.nn.Module:
        """Everything that is trained and stored."""
        ...

    def loss(self, images: torch.Tensor, progress: float) -> torch.Tensor:
        """The loss of images [B, n, n]; progress: from 0 to 1 over all epochs."""
        ...

    def scores(self, images: torch.Tensor) -> Mapping[str, float]:
        """Scores on validation images [K, n, n]; SCORE among them, the higher the better."""
        ...

    def may_stop(self, progress: float) -> bool:
        """Whether the validation so far is of what will be kept."""
        ...


class TrainingSettingsError(ValueError):
    """A number that no training can go by."""


class TrainingDivergedError(RuntimeError):
    """A loss, or a score on validation, that is not a number any more."""


def train(
    task: TrainingTask,
    images: NDArray[np.float32],
    validation: NDArray[np.float32],
    settings: TrainingSettings,
    folder: Path,
    *,
    augment: Callable[[torch.Tensor, int], torch.Tensor],
    on_step: Callable[[Step], None] = lambda _: None,
    on_epoch: Callable[[EpochReport], None] = lambda _: None,
    identity: Mapping[str, object] | None = None,
) -> list[EpochReport]:
    """Train ``task.module`` and leave it as it was in its best epoch; returns the epochs that were played now.

    images, validation: float32 [K, n, n]; folder: takes ``checkpoint.pt`` and ``log.csv`` after every epoch; a
    checkpoint that is there is gone on with. A step takes settings.batch images, all of them where there are fewer.
    augment: turns a batch by one of the eight symmetries of the square. identity: what a checkpoint must have been made
    with, beside the settings and the images. Raises CheckpointMismatchError, TrainingDivergedError, OSError.
    """
    device = next(task.module.parameters()).device
    made_with = {
        **asdict(settings),
        **(identity or {}),
        "images": len(images),
        "images digest": _digest(images),
        "validation digest": _digest(validation),
    }
    steps = max(1, len(images) // settings.batch)
    optimizer = torch.optim.Adam(_groups(task.module, settings))
    average = copy.deepcopy(task.module) if settings.average else None
    state = load_checkpoint(folder, made_with)
    begun, best, best_epoch, best_weights = 0, -math.inf, 0, copy.deepcopy(task.module.state_dict())
    if state is not None:
        begun, best, best_epoch, best_weights = state.epoch, state.best, state.best_epoch, dict(state.best_weights)
        task.module.load_state_dict(state.weights)
        optimizer.load_state_dict(state.optimizer)
        if average is not None:
            average.load_state_dict(state.average)
    folder.mkdir(parents=True, exist_ok=True)
    keep_epochs(folder / LOG, begun)
    held, fresh = torch.from_numpy(images), torch.from_numpy(validation).to(device)
    reports: list[EpochReport] = []
    for epoch in range(begun, settings.epochs):
        if task.may_stop(epoch / settings.epochs) and epoch - best_epoch >= settings.patience:
            break
        started, losses = time.monotonic(), 0.0
        torch.manual_seed(settings.seed * 1_000_003 + epoch)
        order = torch.randperm(len(held))
        task.module.train()
        for step in range(steps):
            progress = (epoch + step / steps) / settings.epochs
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * _rate(min(progress / group["share"], 1.0))
            chosen = order[step * settings.batch : (step + 1) * settings.batch]
            batch = augment(held[chosen], int(torch.randint(8, ()))).to(device)
            loss = task.loss(batch, progress)
            if not torch.isfinite(loss):
                raise TrainingDivergedError(
                    f"the loss is {loss.item()} in epoch {epoch + 1}, step {step + 1}; expected a number: "
                    "a lower learning rate may help"
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(_network_parameters(task.module), 1.0)
            optimizer.step()
            if average is not None:
                _follow(average, task.module, min(settings.average, _young(epoch * steps + step)))
            losses += float(loss.detach())
            on_step(Step(epoch + 1, settings.epochs, step + 1, steps, float(loss.detach())))
        scores = _validated(task, average, fresh, settings.seed)
        if not math.isfinite(scores[SCORE]):
            raise TrainingDivergedError(
                f"the score on validation is {scores[SCORE]} after epoch {epoch + 1}; expected a number: a lower "
                "learning rate may help"
            )
        if not task.may_stop((epoch + 1) / settings.epochs):
            best = -math.inf
        better = scores[SCORE] > best
        if better:
            kept = task.module if average is None else average
            best, best_epoch, best_weights = scores[SCORE], epoch + 1, copy.deepcopy(kept.state_dict())
        report = EpochReport(epoch + 1, time.monotonic() - started, losses / steps, scores, better)
        # The log first: a line that no checkpoint holds is dropped when the training goes on, a lost one stays lost.
        append_epoch(folder / LOG, report)
        save_checkpoint(
            folder,
            made_with,
            Checkpoint(
                epoch=epoch + 1,
                weights=task.module.state_dict(),
                average={} if average is None else average.state_dict(),
                optimizer=optimizer.state_dict(),
                best=best,
                best_epoch=best_epoch,
                best_weights=best_weights,
            ),
        )
        reports.append(report)
        on_epoch(report)
    task.module.load_state_dict(best_weights)
    task.module.eval()
    return reports


def _digest(images: NDArray[np.float32]) -> str:
    return hashlib.blake2b(np.ascontiguousarray(images).data, digest_size=8).hexdigest()


def _validated(
    task: TrainingTask, average: torch.nn.Module | None, images: torch.Tensor, seed: int
) -> Mapping[str, float]:
    """Scores of the averaged weights, under the same noise in every epoch."""
    own = copy.deepcopy(task.module.state_dict())
    if average is not None:
        task.module.load_state_dict(average.state_dict())
    task.module.eval()
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(seed)
        scores = task.scores(images)
    task.module.load_state_dict(own)
    return scores


def _groups(module: torch.nn.Module, settings: TrainingSettings) -> list[dict[str, object]]:
    rates = {False: (settings.rate, 1.0), True: (settings.mask_rate, settings.mask_share)}
    named = list(module.named_parameters())
    groups = [
        {
            "params": [p for name, p in named if name.startswith("mask.") is mask],
            "lr": rate,
            "peak": rate,
            "share": share,
        }
        for mask, (rate, share) in rates.items()
    ]
    return [group for group in groups if group["params"]]


def _network_parameters(module: torch.nn.Module) -> list[torch.nn.Parameter]:
    return [p for name, p in module.named_parameters() if not name.startswith("mask.")]


def _follow(average: torch.nn.Module, module: torch.nn.Module, share: float) -> None:
    with torch.no_grad():
        for mean, value in zip(average.parameters(), module.parameters(), strict=True):
            mean.lerp_(value, 1 - share)


def _young(step: int) -> float:
    """A share that lets a mean forget where it began: after t steps it spans about a tenth of them."""
    return (1 + step) / (10 + step)


def _rate(progress: float) -> float:
    """Share of the highest rate: up over the first twentieth, then down a half cosine to a hundredth."""
    if progress < _WARM_UP:
        return max(progress / _WARM_UP, 0.02)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (progress - _WARM_UP) / (1 - _WARM_UP)))


_WARM_UP = 0.05
