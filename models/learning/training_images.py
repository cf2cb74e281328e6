"""The crops that a training learns from, and those that it is held against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.learning.crops import CropSet, crops_of, scaled, split_by_field, usable
from models.learning.fields_of_view import read_fields_of_view

# Share of the crops that validation gets where no images are named for it.
VALIDATION_SHARE = 0.1


@dataclass(frozen=True)
class TrainingImages:
    """Crops with a maximum of 1 each, to learn from and to validate on; left_out: constant ones, a line each."""

    training: CropSet
    validation: CropSet
    left_out: tuple[str, ...]


def training_images(
    data: Sequence[Path], validation: Sequence[Path], n: int, seed: int, raw_repeats: int = 0
) -> TrainingImages:
    """Crops [n, n] of all files and folders, each divided by its own maximum.

    validation: what to validate on; where nothing is named, VALIDATION_SHARE of the crops of ``data``, by field of
    view; raw_repeats: how many raw frames to keep of every field. Raises what ``read_fields_of_view``, ``crops_of``,
    ``usable`` and ``split_by_field`` raise.
    """
    learned, left_out = _crops(data, n, raw_repeats)
    if validation:
        held_out, more = _crops(validation, n, raw_repeats)
        return TrainingImages(learned, held_out, (*left_out, *more))
    training, held_out = split_by_field(learned, (1 - VALIDATION_SHARE, VALIDATION_SHARE), seed)
    return TrainingImages(training, held_out, tuple(left_out))


def with_repeats(crops: CropSet) -> NDArray[np.float32]:
    """Images [K, n, n], or images with their raw frames behind them [K, 1 + R, n, n] where they have any; float32."""
    if crops.repeats is None:
        return crops.images
    return np.concatenate([crops.images[:, None], crops.repeats.astype(np.float32)], axis=1)


def evaluation_images(data: Sequence[Path], n: int, max_repeats: int = 0) -> CropSet:
    """All crops [n, n] of files and folders, each divided by its own maximum. Raises as ``training_images``."""
    return _crops(data, n, max_repeats)[0]


def _crops(paths: Sequence[Path], n: int, max_repeats: int = 0) -> tuple[CropSet, list[str]]:
    # No name holds the fields, so that they are let go of as soon as they are cropped.
    crops, left_out = usable(
        crops_of([field for path in paths for field in read_fields_of_view(path)], n, max_repeats=max_repeats)
    )
    return scaled(crops, "maximum"), left_out
