"""What a training learns from: crops of maximum 1, validated on fields of view that it does not learn from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from models.learning.crops import ImageTooSmallError, NoContrastError, TooFewFieldsError
from models.learning.fields_of_view import NoImagesError
from models.learning.image_files import NotAnImageError
from models.learning.training_images import evaluation_images, training_images


def folder_of(path: Path, count: int, shape: tuple[int, int] = (20, 33), seed: int = 0) -> Path:
    """TIFFs of positive noise."""
    path.mkdir()
    rng = np.random.default_rng(seed)
    for k in range(count):
        tifffile.imwrite(path / f"{k}.tif", rng.integers(1, 4000, shape).astype(np.uint16))
    return path


def test_a_tenth_is_held_out_by_field_of_view(tmp_path: Path) -> None:
    found = training_images([folder_of(tmp_path / "data", 20)], [], 16, seed=0)
    assert len(found.training) + len(found.validation) == 40
    assert len(found.validation) == 4
    assert not set(found.training.names) & set(found.validation.names)
    assert found.left_out == ()


def test_every_crop_has_a_maximum_of_1_and_keeps_its_contrast(tmp_path: Path) -> None:
    data = folder_of(tmp_path / "data", 1, (16, 16))
    other = folder_of(tmp_path / "other", 2, (16, 16), seed=1)
    found = training_images([data], [other], 16, seed=0)
    native = tifffile.imread(data / "0.tif").astype(np.float64)
    np.testing.assert_allclose(found.training.images[0], native / native.max(), rtol=1e-6)
    assert found.validation.images.max(axis=(1, 2)).tolist() == [1.0, 1.0]
    assert found.training.images.dtype == np.float32


def test_images_named_to_validate_on_leave_all_others_to_learn_from(tmp_path: Path) -> None:
    data, other = folder_of(tmp_path / "data", 3), folder_of(tmp_path / "other", 2, seed=1)
    found = training_images([data], [other], 16, seed=0)
    assert (len(found.training), len(found.validation)) == (6, 4)
    assert len(evaluation_images([data, other], 16)) == 10


def test_constant_crops_are_left_out_and_said(tmp_path: Path) -> None:
    data, other = folder_of(tmp_path / "data", 3, (16, 16)), folder_of(tmp_path / "other", 2, (16, 16), seed=1)
    tifffile.imwrite(data / "dark.tif", np.zeros((16, 16), dtype=np.uint16))
    tifffile.imwrite(other / "flat.tif", np.full((16, 16), 7, dtype=np.uint16))
    found = training_images([data], [other], 16, seed=0)
    assert (len(found.training), len(found.validation)) == (3, 2)
    assert [line.split(" is ")[1] for line in found.left_out] == ["0 everywhere", "7 everywhere"]


@pytest.mark.parametrize(
    ("image", "error"),
    [
        (np.full((16, 16), np.nan, dtype=np.float32), NotAnImageError),
        (np.ones((16, 16), dtype=np.complex64), NotAnImageError),
        (np.ones((12, 30), dtype=np.uint16), ImageTooSmallError),
        (np.ones((16, 16), dtype=np.uint16), NoContrastError),
    ],
)
def test_what_cannot_be_learned_from_is_refused(
    tmp_path: Path, image: np.ndarray[tuple[int, ...], np.dtype[np.generic]], error: type[Exception]
) -> None:
    (tmp_path / "data").mkdir()
    np.save(tmp_path / "data" / "one.npy", image)
    with pytest.raises(error):
        training_images([tmp_path / "data"], [], 16, seed=0)


def test_one_field_of_view_cannot_be_learned_from_and_validated_on(tmp_path: Path) -> None:
    with pytest.raises(TooFewFieldsError, match="found 1 fields of view for 2 parts"):
        training_images([folder_of(tmp_path / "data", 1, (64, 64))], [], 16, seed=0)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(NoImagesError, match="empty holds nothing"):
        training_images([tmp_path / "empty"], [], 16, seed=0)
