"""Square crops of fields of view, and the splits that keep every field on one side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.learning.field_of_view import FieldOfView
from models.learning.image_files import check_light


@dataclass(frozen=True)
class CropSet:
    """Crops and the fields of view that they are of.

    images: float32 [K, n, n]; field: int64 [K], the index into names; names: the fields; repeats: raw frames
    [K, R, n, n] at the same place in the same units, in the dtype in which they were stored until they are scaled.
    """

    images: NDArray[np.float32]
    field: NDArray[np.int64]
    names: tuple[str, ...]
    repeats: NDArray[np.generic] | None

    def __len__(self) -> int:
        return len(self.images)


class CropError(ValueError):
    """Sizes or shares that no crops can have."""


class ImageTooSmallError(ValueError):
    """An image that is smaller than a crop."""


class MissingRepeatsError(ValueError):
    """A field of view without the raw frames that are asked for."""


class TooFewFieldsError(ValueError):
    """Fewer fields of view than parts that each need one."""


class NoContrastError(ValueError):
    """Images that are the same everywhere, where something must be seen in them."""


def crops_of(fields: Sequence[FieldOfView], n: int, *, stride: int | None = None, max_repeats: int = 0) -> CropSet:
    """Crops [n, n] of all images, row by row from the upper left corner.

    stride: pixels from crop to crop; by default n, so that no two overlap and what is left at the right and the bottom
    is not used. With a smaller stride a last crop ends at the border. max_repeats: how many raw frames to keep of every
    field; all get as many as the field that has the fewest. They are read field by field; memory takes what is
    returned and one field more.

    Raises ImageTooSmallError; MissingRepeatsError where frames are asked for and a field has none; CropError for sizes
    below 1 and where there are no fields; NotAnImageError, UnreadableImageError where frames cannot be read.
    """
    step = n if stride is None else stride
    if n < 1 or step < 1 or max_repeats < 0 or not fields:
        raise CropError(
            f"found n = {n}, stride {step}, {max_repeats} repeats, {len(fields)} images; expected 1 or more, "
            "and 0 repeats or more"
        )
    corners = [_corners(field, n, step) for field in fields]
    names = tuple(dict.fromkeys(field.name for field in fields))
    index = {name: k for k, name in enumerate(names)}
    images = np.empty((sum(map(len, corners)), n, n), dtype=np.float32)
    row = 0
    for field, places in zip(fields, corners, strict=True):
        for y, x in places:
            images[row] = field.image[y : y + n, x : x + n]
            row += 1
    belongs = np.repeat([index[field.name] for field in fields], [len(places) for places in corners])
    repeats = _repeats(fields, corners, n, max_repeats) if max_repeats else None
    return CropSet(images, belongs.astype(np.int64), names, repeats)


def split_by_field(crops: CropSet, shares: tuple[float, ...] = (0.8, 0.1, 0.1), seed: int = 0) -> tuple[CropSet, ...]:
    """One part for each share of the crops, no field of view in two of them, none empty; the same for the same seed.

    Fields in random order each go where most crops are wanting. So no part has more than its share and the crops of one
    field. Raises CropError unless the shares are above 0 and add up to 1; TooFewFieldsError.
    """
    if not shares or not all(share > 0 for share in shares) or abs(sum(shares) - 1) > 1e-9:
        raise CropError(f"found shares {shares}; expected shares above 0 that add up to 1")
    fields, sizes = np.unique(crops.field, return_counts=True)
    if len(fields) < len(shares):
        raise TooFewFieldsError(
            f"found {len(fields)} fields of view for {len(shares)} parts; expected one for each at least, because "
            "crops of one field are never split up. Add images of other fields, or name a set of its own for each part"
        )
    wanting = np.asarray(shares) * len(crops)
    part_of = np.empty(len(crops.names), dtype=np.int64)
    empty = np.ones(len(shares), dtype=np.bool_)
    order = np.random.default_rng(seed).permutation(len(fields))
    for left, which in zip(range(len(order), 0, -1), order, strict=True):
        # The last fields belong to the parts that are still empty.
        may_take = empty if left <= np.count_nonzero(empty) else np.ones_like(empty)
        part = int(np.argmax(np.where(may_take, wanting, -np.inf)))
        part_of[fields[which]], empty[part] = part, False
        wanting[part] -= sizes[which]
    return tuple(chosen(crops, part_of[crops.field] == part) for part in range(len(shares)))


def chosen(crops: CropSet, which: NDArray[np.bool_]) -> CropSet:
    """The crops for which ``which`` bool [K] is true, in their order, with the names of their fields only."""
    kept, field = np.unique(crops.field[which], return_inverse=True)
    return CropSet(
        images=crops.images[which],
        field=field.astype(np.int64),
        names=tuple(crops.names[k] for k in kept),
        repeats=None if crops.repeats is None else crops.repeats[which],
    )


def scaled(crops: CropSet, how: Literal["native", "maximum"]) -> CropSet:
    """The crops unchanged, or each divided by its own maximum, the repeats (then float32) by the same number.

    Raises NoContrastError where a maximum is 0.
    """
    if how == "native":
        return crops
    if how != "maximum":
        raise CropError(f"found the scale {how!r}; expected native or maximum")
    largest = crops.images.max(axis=(1, 2), keepdims=True)
    if (largest == 0).any():
        first = int(np.argmax(largest.ravel() == 0))
        raise NoContrastError(f"{_label(crops, first)} is dark everywhere; expected light. Leave out what is constant")
    repeats = crops.repeats
    if repeats is not None:
        repeats = np.divide(repeats, largest[:, None], dtype=np.float32)
    return replace(crops, images=crops.images / largest, repeats=repeats)


def usable(crops: CropSet) -> tuple[CropSet, list[str]]:
    """The crops that have contrast, and a line for each constant one that is left out.

    Raises NotAnImageError where a crop holds NaN, infinite or negative values, or a repeat NaN or infinite ones (frames
    may be negative: a camera's offset was subtracted); NoContrastError where no crop is left.
    """
    for k, image in enumerate(crops.images):
        check_light(image, _label(crops, k))
        if crops.repeats is not None and crops.repeats.dtype.kind == "f":
            check_light(np.abs(crops.repeats[k].astype(np.float32)), f"{_label(crops, k)} (repeats)")
    lowest, highest = crops.images.min(axis=(1, 2)), crops.images.max(axis=(1, 2))
    constant = lowest == highest
    if constant.all():
        raise NoContrastError(f"all {len(crops)} crops are constant; expected images with something in them")
    left_out = [f"{_label(crops, int(k))} is {lowest[k]:g} everywhere" for k in np.flatnonzero(constant)]
    return (chosen(crops, ~constant) if left_out else crops), left_out


def _corners(field: FieldOfView, n: int, step: int) -> list[tuple[int, int]]:
    height, width = field.image.shape
    if min(height, width) < n:
        raise ImageTooSmallError(
            f"{field.source} is {height} × {width} pixels; expected at least {n} × {n}. Leave it out, or take smaller "
            "crops"
        )
    return [(y, x) for y in _starts(height, n, step) for x in _starts(width, n, step)]


def _starts(extent: int, n: int, step: int) -> list[int]:
    starts = list(range(0, extent - n + 1, step))
    if step < n and starts[-1] != extent - n:
        starts.append(extent - n)
    return starts


def _repeats(
    fields: Sequence[FieldOfView], corners: list[list[tuple[int, int]]], n: int, most: int
) -> NDArray[np.generic]:
    for field in fields:
        if field.repeats is None or len(field.repeats) == 0:
            raise MissingRepeatsError(f"{field.source} has no raw repeats; expected up to {most} of every field")
    count = min(most, *(len(field.repeats) for field in fields if field.repeats is not None))
    kept: NDArray[np.generic] | None = None
    row = 0
    for field, places in zip(fields, corners, strict=True):
        assert field.repeats is not None
        frames = field.repeats.read(count)
        # Copies among the frames can leave a field with fewer than were counted.
        count = min(count, len(frames))
        dtype = frames.dtype if kept is None else np.result_type(kept, frames)
        if kept is None:
            kept = np.empty((sum(map(len, corners)), count, n, n), dtype=dtype)
        elif dtype != kept.dtype:
            kept = kept.astype(dtype)
        for y, x in places:
            kept[row, :count] = frames[:count, y : y + n, x : x + n]
            row += 1
    assert kept is not None
    return kept[:, :count]


def _label(crops: CropSet, k: int) -> str:
    return f"crop {k} of {crops.names[crops.field[k]]}"
