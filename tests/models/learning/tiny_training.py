"""Trainings of seconds: small images with something in them, small networks, a task whose scores are a script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import hadamard

from models.learning.model_card import DataSource
from models.learning.model_file import TrainedModel
from models.learning.train_sensing import SensingRequest, train_sensing
from models.learning.training import SCORE, EpochReport, TrainingSettings
from tests.models.learning.tiny_model import ARCHITECTURE

GAIN = 0.0139
SOURCES = (DataSource(name="made up", licence="CC0", attribution="nobody", crops=1),)


def spots(count: int, n: int, seed: int = 0) -> NDArray[np.float32]:
    """Images [count, n, n] of a few Gaussian spots on a dim ground, each with a maximum of 1."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:n, :n]
    images = np.full((count, n, n), 0.05)
    for image in images:
        for _ in range(4):
            centre, width = rng.uniform(0, n, 2), rng.uniform(0.6, n / 6)
            image += rng.uniform(0.2, 1) * np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (2 * width**2))
    return np.asarray(images / images.max(axis=(1, 2), keepdims=True), dtype=np.float32)


def planted(count: int, n: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Images [count, n, n] whose contrast lies in half of the coefficients, and which ones, bool [N].

    The half is at random, but symmetric: a coefficient and its transposed one are both in it or both not.
    """
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.random((n, n)) < 0.5)
    inside = (upper | upper.T).ravel()
    inside[0] = False
    size = np.where(inside, 1.0, 0.02)
    size[0] = 0.0
    contrast = (hadamard(n * n) @ (size[:, None] * rng.standard_normal((n * n, count)))).T.reshape(count, n, n)
    lowest = contrast.min(axis=(1, 2), keepdims=True)
    images = contrast - lowest
    return (images / images.max(axis=(1, 2), keepdims=True)).astype(np.float32), inside


def request_of(n: int = 16, *, training: Mapping[str, Any] | None = None, **changes: Any) -> SensingRequest:
    settings = TrainingSettings(**{"epochs": 3, "batch": 4, "average": 0.5, **(training or {})})
    numbers = {"alpha": 0.25, "repeats": 8, "gain": GAIN, "variance": 0.0, "patch": 8, **changes}
    return SensingRequest(n=n, architecture=ARCHITECTURE, settings=settings, **numbers)


def trained(
    folder: Path,
    request: SensingRequest | None = None,
    *,
    images: NDArray[np.float32] | None = None,
    validation: NDArray[np.float32] | None = None,
    **more: Any,
) -> TrainedModel:
    """Train a model as ``folder``/model; checkpoint and log are in ``folder``/training."""
    request = request_of() if request is None else request
    return train_sensing(
        request,
        spots(8, request.n) if images is None else images,
        spots(3, request.n, seed=1) if validation is None else validation,
        folder / "model",
        folder / "training",
        **{"data": SOURCES, "command": "hadascope train sensing made-up", **more},
    )


class Interruption:
    """Ctrl-C at the end of an epoch."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch

    def __call__(self, report: EpochReport) -> None:
        if report.epoch == self._epoch:
            raise KeyboardInterrupt


class _Module(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(3))
        self.mask = torch.nn.Linear(1, 1)


class ScriptedTask:
    """Draws its mean towards 1; its scores are those of a script, one for each epoch; the mask learns until ``until``.

    validated: the weight at every validation; seen: every batch.
    """

    def __init__(self, scores: Sequence[float], until: float = 0.0, losses: Sequence[float] = ()) -> None:
        torch.manual_seed(0)
        self._module = _Module()
        self._scores = list(scores)
        self._until = until
        self._losses = list(losses)
        self.validated: list[list[float]] = []
        self.seen: list[torch.Tensor] = []
        self.drawn: list[float] = []

    @property
    def module(self) -> torch.nn.Module:
        return self._module

    def loss(self, images: torch.Tensor, progress: float) -> torch.Tensor:
        self.seen.append(images)
        self.drawn.append(float(torch.rand(())))
        scripted = self._losses.pop(0) if self._losses else 0.0
        noise = 0.1 * torch.randn(3)
        mask: torch.Tensor = self._module.mask(torch.ones(1)).sum()
        return ((self._module.weight + noise - 1) ** 2).sum() + mask**2 + scripted

    def scores(self, images: torch.Tensor) -> Mapping[str, float]:
        self.validated.append(self._module.weight.tolist())
        return {SCORE: self._scores[len(self.validated) - 1], "images": float(len(images))}

    def may_stop(self, progress: float) -> bool:
        return progress >= self._until
