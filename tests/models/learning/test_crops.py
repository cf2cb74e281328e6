"""Crops and splits: every pixel from its place, no field of view on two sides, nothing guessed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.learning.crops import (
    CropError,
    CropSet,
    ImageTooSmallError,
    MissingRepeatsError,
    NoContrastError,
    TooFewFieldsError,
    chosen,
    crops_of,
    scaled,
    split_by_field,
    usable,
)
from models.learning.field_of_view import FieldOfView, FrameArray
from models.learning.image_files import NotAnImageError


def field_of(image: NDArray[np.generic], name: str = "cells", frames: NDArray[np.generic] | None = None) -> FieldOfView:
    repeats = None if frames is None else FrameArray(frames)
    return FieldOfView(name, image.astype(np.float32), repeats, f"{name}.tif")


def numbered(height: int, width: int, field: int = 0) -> NDArray[np.float32]:
    """Every pixel of every field has a value of its own: field·10⁴ + row·10² + column."""
    rows, columns = np.mgrid[:height, :width]
    return np.asarray(field * 10_000 + rows * 100 + columns, dtype=np.float32)


def crop_set(sizes: list[int], n: int = 2) -> CropSet:
    """``sizes[k]`` crops of field k; the crops are numbered in their pixels."""
    total = sum(sizes)
    field = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    images = np.broadcast_to(np.arange(total, dtype=np.float32)[:, None, None], (total, n, n)).copy()
    return CropSet(images, field.astype(np.int64), tuple(f"field {k}" for k in range(len(sizes))), None)


@given(
    st.data(), st.lists(st.tuples(st.integers(4, 30), st.integers(4, 30)), min_size=1, max_size=4), st.integers(1, 4)
)
@settings(deadline=None)
def test_the_pixels_of_a_crop_are_those_of_its_own_field_at_one_place(
    data: st.DataObject, shapes: list[tuple[int, int]], n: int
) -> None:
    stride = data.draw(st.none() | st.integers(1, n + 2))
    fields = [field_of(numbered(*shape, field=k), f"field {k}") for k, shape in enumerate(shapes)]
    crops = crops_of(fields, n, stride=stride)
    assert crops.images.dtype == np.float32
    assert crops.field.dtype == np.int64
    assert crops.images.shape == (len(crops.field), n, n)
    for image, field in zip(crops.images, crops.field, strict=True):
        named = int(crops.names[field].removeprefix("field "))
        corner = int(image[0, 0])
        assert corner // 10_000 == named
        y, x = corner // 100 % 100, corner % 100
        assert image.tolist() == fields[named].image[y : y + n, x : x + n].tolist()


@given(st.integers(1, 5), st.integers(1, 30), st.integers(1, 30))
@settings(deadline=None)
def test_by_default_crops_do_not_overlap_and_as_many_as_fit_are_taken(n: int, height: int, width: int) -> None:
    if min(height, width) < n:
        with pytest.raises(ImageTooSmallError):
            crops_of([field_of(numbered(height, width))], n)
        return
    crops = crops_of([field_of(numbered(height, width))], n)
    assert len(crops) == (height // n) * (width // n)
    assert len(np.unique(crops.images)) == crops.images.size


@given(st.integers(2, 6), st.data())
@settings(deadline=None)
def test_overlapping_crops_cover_every_pixel(n: int, data: st.DataObject) -> None:
    stride, height, width = (
        data.draw(st.integers(1, n - 1)),
        data.draw(st.integers(n, 25)),
        data.draw(st.integers(n, 25)),
    )
    image = numbered(height, width)
    crops = crops_of([field_of(image)], n, stride=stride)
    assert set(crops.images.ravel()) == set(image.ravel())
    assert len(np.unique(crops.images[:, 0, 0])) == len(crops)


def test_crops_of_images_with_one_name_are_of_one_field() -> None:
    fields = [field_of(numbered(4, 4, k), name) for k, name in enumerate(("a", "b", "a"))]
    crops = crops_of(fields, 2)
    assert crops.names == ("a", "b")
    assert crops.field.tolist() == [0] * 4 + [1] * 4 + [0] * 4


def test_an_image_smaller_than_a_crop_is_named_with_both_sizes() -> None:
    with pytest.raises(ImageTooSmallError, match=r"small\.tif is 3 × 7 pixels; expected at least 4 × 4"):
        crops_of([field_of(numbered(8, 8)), field_of(numbered(3, 7), "small")], 4)


@pytest.mark.parametrize(("n", "stride", "max_repeats"), [(0, None, 0), (4, 0, 0), (4, None, -1)])
def test_sizes_that_no_crop_has_are_refused(n: int, stride: int | None, max_repeats: int) -> None:
    with pytest.raises(CropError):
        crops_of([field_of(numbered(8, 8))], n, stride=stride, max_repeats=max_repeats)


def test_no_images_give_no_crops() -> None:
    with pytest.raises(CropError, match="0 images"):
        crops_of([], 4)


def test_repeats_are_cropped_at_the_same_place_and_keep_their_dtype() -> None:
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (count, 6, 9), dtype=np.uint8) for count in (5, 3)]
    fields = [field_of(numbered(6, 9, k), f"field {k}", frames[k]) for k in range(2)]
    crops = crops_of(fields, 3, stride=2, max_repeats=4)
    assert crops.repeats is not None
    assert crops.repeats.dtype == np.uint8
    assert crops.repeats.shape == (len(crops), 3, 3, 3)
    for image, repeats, field in zip(crops.images, crops.repeats, crops.field, strict=True):
        y, x = int(image[0, 0]) // 100 % 100, int(image[0, 0]) % 100
        assert repeats.tolist() == frames[field][:3, y : y + 3, x : x + 3].tolist()


def test_every_field_keeps_as_many_repeats_as_the_one_with_the_fewest_that_differ() -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (2, 4, 4, 4), dtype=np.uint8)
    frames[1, 1] = frames[1, 0]
    crops = crops_of([field_of(numbered(4, 4), f"{k}", frames[k]) for k in range(2)], 4, max_repeats=4)
    assert crops.repeats is not None
    assert crops.repeats.tolist() == [frames[0, :3].tolist(), frames[1, [0, 2, 3]].tolist()]


def test_repeats_of_different_dtypes_lose_nothing() -> None:
    fields = [
        field_of(numbered(2, 2), "a", np.full((1, 2, 2), 255, dtype=np.uint8)),
        field_of(numbered(2, 2), "b", np.full((1, 2, 2), 65_535, dtype=np.uint16)),
    ]
    crops = crops_of(fields, 2, max_repeats=1)
    assert crops.repeats is not None
    assert crops.repeats[:, 0, 0, 0].tolist() == [255, 65_535]


def test_repeats_are_left_alone_unless_they_are_asked_for() -> None:
    assert crops_of([field_of(numbered(4, 4), frames=numbered(4, 4)[None])], 2).repeats is None


def test_a_field_without_repeats_is_named_when_they_are_asked_for() -> None:
    fields = [field_of(numbered(4, 4), "a", numbered(4, 4)[None]), field_of(numbered(4, 4), "b")]
    with pytest.raises(MissingRepeatsError, match=r"b\.tif has no raw repeats"):
        crops_of(fields, 2, max_repeats=1)


SHARES = st.sampled_from([(0.8, 0.1, 0.1), (0.5, 0.5), (0.7, 0.2, 0.1), (1.0,), (0.25, 0.25, 0.25, 0.25)])
SIZES = st.lists(st.integers(1, 9), min_size=4, max_size=30)


@given(SIZES, SHARES, st.integers(0, 5))
@settings(deadline=None)
def test_a_split_is_a_partition_in_which_no_field_is_on_two_sides(
    sizes: list[int], shares: tuple[float, ...], seed: int
) -> None:
    crops = crop_set(sizes)
    parts = split_by_field(crops, shares, seed)
    assert len(parts) == len(shares)
    assert sorted(value for part in parts for value in part.images[:, 0, 0]) == list(range(sum(sizes)))
    names = [name for part in parts for name in part.names]
    assert sorted(names) == sorted(crops.names)
    for part in parts:
        assert len(part) > 0
        for image, field in zip(part.images, part.field, strict=True):
            assert part.names[field] == crops.names[crops.field[int(image[0, 0])]]


@given(SIZES, SHARES, st.integers(0, 5))
@settings(deadline=None)
def test_no_part_has_more_than_its_share_and_the_crops_of_one_field(
    sizes: list[int], shares: tuple[float, ...], seed: int
) -> None:
    for part, share in zip(split_by_field(crop_set(sizes), shares, seed), shares, strict=True):
        assert len(part) <= share * sum(sizes) + max(sizes) + 1e-9


def test_many_fields_are_split_as_asked() -> None:
    sizes = [1 + k % 5 for k in range(200)]
    parts = split_by_field(crop_set(sizes), (0.8, 0.1, 0.1), seed=3)
    assert [len(part) for part in parts] == pytest.approx([480, 60, 60], abs=5)


def test_the_seed_decides_which_fields_go_where() -> None:
    crops = crop_set([3] * 20)
    names = [split_by_field(crops, seed=seed)[1].names for seed in (0, 0, 1)]
    assert names[0] == names[1]
    assert names[0] != names[2]


def test_too_few_fields_are_refused_in_words() -> None:
    with pytest.raises(TooFewFieldsError, match="found 2 fields of view for 3 parts"):
        split_by_field(crop_set([50, 50]))


@pytest.mark.parametrize("shares", [(), (0.5, 0.4), (1.0, 0.0), (1.5, -0.5)])
def test_shares_that_do_not_add_up_are_refused(shares: tuple[float, ...]) -> None:
    with pytest.raises(CropError, match="add up to 1"):
        split_by_field(crop_set([1] * 10), shares)


def with_repeats(images: NDArray[np.float32], n_repeats: int = 3) -> CropSet:
    repeats = np.stack([images + k for k in range(n_repeats)], axis=1).astype(np.uint16)
    return CropSet(images, np.arange(len(images)), tuple(f"f{k}" for k in range(len(images))), repeats)


def some_images(count: int, n: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).integers(1, 1000, (count, n, n)).astype(np.float32)


def test_every_crop_is_divided_by_its_own_maximum_and_its_repeats_too() -> None:
    crops = with_repeats(some_images(4, 8))
    result = scaled(crops, "maximum")
    assert result.repeats is not None
    assert crops.repeats is not None
    assert result.images.dtype == result.repeats.dtype == np.float32
    for k, image in enumerate(crops.images):
        np.testing.assert_allclose(result.images[k], image.astype(np.float64) / image.max(), rtol=1e-6)
        np.testing.assert_allclose(result.repeats[k], crops.repeats[k] / float(image.max()), rtol=1e-6)


def test_native_crops_stay_as_they_are() -> None:
    crops = with_repeats(some_images(4, 8))
    assert scaled(crops, "native") is crops


def test_a_dark_crop_has_no_maximum_to_divide_by() -> None:
    images = some_images(3, 4)
    images[1] = 0
    with pytest.raises(NoContrastError, match="crop 1 of f1 is dark everywhere"):
        scaled(with_repeats(images), "maximum")


def test_an_unknown_scale_is_refused() -> None:
    with pytest.raises(CropError, match="min-max"):
        scaled(with_repeats(some_images(1, 4)), "min-max")  # type: ignore[arg-type]


def test_constant_crops_are_left_out_and_named() -> None:
    images = some_images(4, 4)
    images[1], images[3] = 0, 7
    crops = with_repeats(images)
    kept, left_out = usable(crops)
    assert kept.images.tolist() == images[[0, 2]].tolist()
    assert kept.names == ("f0", "f2")
    assert kept.field.tolist() == [0, 1]
    assert kept.repeats is not None
    assert crops.repeats is not None
    assert kept.repeats.tolist() == crops.repeats[[0, 2]].tolist()
    assert left_out == ["crop 1 of f1 is 0 everywhere", "crop 3 of f3 is 7 everywhere"]


def test_crops_with_contrast_are_all_kept() -> None:
    crops = with_repeats(some_images(4, 4))
    assert usable(crops) == (crops, [])


def test_only_constant_crops_are_refused() -> None:
    with pytest.raises(NoContrastError, match="all 2 crops are constant"):
        usable(with_repeats(np.ones((2, 4, 4), dtype=np.float32)))


@pytest.mark.parametrize(("value", "word"), [(np.nan, "NaN"), (np.inf, "infinite"), (-1.0, "negative")])
def test_a_crop_that_is_no_image_of_light_stops_everything(value: float, word: str) -> None:
    images = some_images(3, 4)
    images[2, 1, :2] = value
    crops = CropSet(images, np.array([0, 1, 1]), ("good.tif", "bad.tif"), None)
    with pytest.raises(NotAnImageError, match=f"crop 2 of bad.tif holds 2 {word} among its 16 pixels"):
        usable(crops)


def test_repeats_may_be_negative_but_not_missing() -> None:
    crops = with_repeats(some_images(2, 4))
    frames = np.full((2, 3, 4, 4), -1.0, dtype=np.float32)
    assert usable(replace(crops, repeats=frames))[1] == []
    frames[1, 2, 3, 3] = np.nan
    with pytest.raises(NotAnImageError, match=r"crop 1 of f1 \(repeats\) holds 1 NaN"):
        usable(replace(crops, repeats=frames))


@given(st.lists(st.booleans(), min_size=6, max_size=6))
@settings(deadline=None)
def test_chosen_crops_keep_their_order_and_their_names(kept: list[bool]) -> None:
    crops = crop_set([2, 3, 1])
    part = chosen(crops, np.array(kept))
    expected = np.flatnonzero(kept)
    assert part.images[:, 0, 0].tolist() == expected.tolist()
    assert [part.names[k] for k in part.field] == [crops.names[crops.field[k]] for k in expected]
    assert set(part.names) == {crops.names[crops.field[k]] for k in expected}
