"""Images in NPY, NPZ and zarr: which array is taken, what its fields of view are called, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from models.learning.crops import crops_of
from models.learning.fields_of_view import NoImagesError, read_fields_of_view
from models.learning.image_files import NotAnImageError, UnreadableImageError

SHARED = Path(__file__).parents[4] / "shared" / "data"
CROP_FILES = ("open/crops_val.npz", "open/seg_vessel_test.npz", "sharealike/crops_test.npz")
FORMATS: list[Literal[2, 3]] = [2, 3]


def stack(*shape: int, dtype: str = "uint16") -> NDArray[Any]:
    return np.arange(np.prod(shape), dtype=dtype).reshape(shape)


def names_of(path: Path) -> list[str]:
    return [field.name for field in read_fields_of_view(path)]


def pixels_of(path: Path) -> list[Any]:
    return [field.image.tolist() for field in read_fields_of_view(path)]


def test_an_npy_holds_one_field_or_one_for_each_image(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", stack(6, 8))
    np.save(tmp_path / "two.npy", stack(2, 6, 8))
    assert names_of(tmp_path) == ["one.npy", "two.npy[0]", "two.npy[1]"]
    assert pixels_of(tmp_path / "one.npy") == [stack(6, 8).tolist()]
    assert pixels_of(tmp_path / "two.npy") == stack(2, 6, 8).tolist()


@pytest.mark.parametrize("array", [stack(6), stack(2, 2, 6, 8)], ids=["a row", "four dimensions"])
def test_an_array_of_other_dimensions_is_refused(tmp_path: Path, array: NDArray[np.generic]) -> None:
    np.save(tmp_path / "other.npy", array)
    with pytest.raises(
        NotAnImageError, match=r"other.npy has shape .* expected an image \[h, w\] or images \[K, h, w\]"
    ):
        read_fields_of_view(tmp_path)


@pytest.mark.parametrize("dtype", ["bool", "complex128", "U3"])
def test_values_that_are_no_grey_values_are_refused(tmp_path: Path, dtype: str) -> None:
    np.save(tmp_path / "other.npy", np.ones((6, 8)).astype(dtype))
    with pytest.raises(NotAnImageError, match="real grey values"):
        read_fields_of_view(tmp_path)


def test_python_objects_are_never_unpacked(tmp_path: Path) -> None:
    np.save(tmp_path / "other.npy", np.array([[{}]], dtype=object), allow_pickle=True)
    with pytest.raises(UnreadableImageError, match=r"other\.npy cannot be read"):
        read_fields_of_view(tmp_path)


def test_an_array_without_pixels_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "other.npy", np.zeros((0, 8)))
    with pytest.raises(NotAnImageError, match="without a pixel"):
        read_fields_of_view(tmp_path)


def test_an_array_of_no_images_holds_nothing(tmp_path: Path) -> None:
    np.savez(tmp_path / "none.npz", gt=np.zeros((0, 8, 8)), raw=np.zeros((0, 4, 8, 8)))
    with pytest.raises(NoImagesError, match="holds no image"):
        read_fields_of_view(tmp_path / "none.npz")


@pytest.mark.parametrize("key", ["img", "images", "gt", "clean"])
def test_an_npz_gives_the_array_of_a_known_name(tmp_path: Path, key: str) -> None:
    arrays: dict[str, Any] = {"label": stack(2, 6, 8) % 2, "noisy": stack(2, 6, 8) + 9, key: stack(2, 6, 8)}
    np.savez(tmp_path / "set.npz", **arrays)
    assert pixels_of(tmp_path) == stack(2, 6, 8).tolist()
    assert names_of(tmp_path) == ["set.npz[0]", "set.npz[1]"]


def test_an_npz_of_one_array_needs_no_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", stack(6, 8))
    assert pixels_of(tmp_path) == [stack(6, 8).tolist()]


def test_an_npz_of_unknown_arrays_is_refused_with_their_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", left=stack(6, 8), right=stack(6, 8))
    with pytest.raises(NotAnImageError, match=r"set\.npz holds left, right; expected images in an array called img"):
        read_fields_of_view(tmp_path)


def test_crops_that_must_stay_together_are_one_field(tmp_path: Path) -> None:
    """The group counts before the file: two channels of one view are two files and one group."""
    meta = [
        {"id": "1", "group": "well 3", "path": "red.tif", "source": "lab"},
        {"id": "2", "group": "well 3", "path": "green.tif", "source": "lab"},
        {"id": "3", "path": "red.tif", "source": "lab"},
        {"id": "4", "path": "red.tif"},
        {"id": "5"},
        {},
    ]
    np.savez(tmp_path / "set.npz", img=stack(6, 4, 4), meta=json.dumps(meta))
    expected = ["well 3", "well 3", "lab:red.tif", "red.tif", "5", "set.npz[5]"]
    assert names_of(tmp_path) == expected


@pytest.mark.parametrize(
    "meta", ["no json", '{"id": 1}', "[1, 2]", '[{"id": 1}]'], ids=["text", "one", "numbers", "few"]
)
def test_meta_that_does_not_name_every_image_is_refused(tmp_path: Path, meta: str) -> None:
    np.savez(tmp_path / "set.npz", img=stack(2, 4, 4), meta=meta)
    with pytest.raises(NotAnImageError, match=r"set\.npz .*expected"):
        read_fields_of_view(tmp_path)


def test_raw_frames_are_the_repeats_of_their_mean_and_keep_their_dtype(tmp_path: Path) -> None:
    raw = stack(2, 3, 4, 4, dtype="uint8")
    np.savez(tmp_path / "set.npz", gt=raw.mean(axis=1), raw=raw, names=["first", "second"])
    fields = read_fields_of_view(tmp_path)
    assert [field.name for field in fields] == ["first", "second"]
    for field, frames in zip(fields, raw, strict=True):
        assert field.repeats is not None
        assert len(field.repeats) == 3
        read = field.repeats.read(3)
        assert read.dtype == np.uint8
        assert read.tolist() == frames.tolist()
        assert field.repeats.read(2).tolist() == frames[:2].tolist()


def test_a_copied_frame_is_no_repeat(tmp_path: Path) -> None:
    raw = stack(1, 4, 4, 4, dtype="uint8")
    raw[0, 2] = raw[0, 0]
    np.savez(tmp_path / "set.npz", gt=raw[:, 0], raw=raw)
    (field,) = read_fields_of_view(tmp_path)
    assert field.repeats is not None
    assert field.repeats.read(4).tolist() == raw[0, [0, 1, 3]].tolist()


@pytest.mark.parametrize("shape", [(2, 4, 4), (3, 2, 4, 4), (2, 2, 4, 5), (2, 0, 4, 4)])
def test_raw_frames_that_do_not_fit_the_means_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.savez(tmp_path / "set.npz", gt=stack(2, 4, 4), raw=np.zeros(shape))
    with pytest.raises(NotAnImageError, match=r"holds raw .* expected repeats \[K, R, h, w\]"):
        read_fields_of_view(tmp_path)


def test_a_bad_image_in_an_archive_is_named_by_its_number(tmp_path: Path) -> None:
    images = np.ones((5, 4, 4))
    images[3, 1, 1] = np.nan
    np.savez(tmp_path / "set.npz", img=images)
    with pytest.raises(NotAnImageError, match=r"set\.npz:img\[3\] holds 1 NaN among its 16 pixels"):
        read_fields_of_view(tmp_path)


@pytest.mark.parametrize("version", FORMATS)
def test_zarr_arrays_are_read_alone_and_in_groups(tmp_path: Path, version: Literal[2, 3]) -> None:
    zarr.create_array(tmp_path / "one.zarr", data=stack(6, 8), zarr_format=version)
    group = zarr.open_group(tmp_path / "many.zarr", mode="w", zarr_format=version)
    group.create_array("times", data=stack(7))
    group.create_array("cells", data=stack(2, 6, 8))
    group.create_group("tissue").create_array("slice", data=stack(4, 4))
    assert pixels_of(tmp_path / "one.zarr") == [stack(6, 8).tolist()]
    assert names_of(tmp_path) == [
        "many.zarr/cells[0]", "many.zarr/cells[1]", "many.zarr/tissue/slice", "one.zarr",
    ]  # fmt: skip
    assert pixels_of(tmp_path / "many.zarr") == [*stack(2, 6, 8).tolist(), stack(4, 4).tolist()]


@pytest.mark.parametrize("version", FORMATS)
def test_an_ome_zarr_image_is_one_field_at_full_resolution(tmp_path: Path, version: Literal[2, 3]) -> None:
    scales = {"multiscales": [{"datasets": [{"path": "full"}, {"path": "half"}]}]}
    group = zarr.open_group(tmp_path / "cells", mode="w", zarr_format=version)
    group.attrs.update(scales if version == 2 else {"ome": scales})
    group.create_array("full", data=stack(2, 3, 6, 8))
    group.create_array("half", data=stack(2, 3, 3, 4))
    assert names_of(tmp_path) == ["cells"] * 6
    assert pixels_of(tmp_path) == stack(6, 6, 8).tolist()


def test_an_ome_zarr_image_without_its_array_is_refused(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "cells.zarr", mode="w")
    group.attrs["multiscales"] = [{"datasets": [{"path": "0"}]}]
    with pytest.raises(UnreadableImageError, match="says that its image is in 0"):
        read_fields_of_view(tmp_path)


def test_a_zarr_group_without_images_holds_nothing(tmp_path: Path) -> None:
    zarr.open_group(tmp_path / "cells.zarr", mode="w").create_array("times", data=stack(7))
    with pytest.raises(NoImagesError, match="holds no image"):
        read_fields_of_view(tmp_path / "cells.zarr")


def test_a_broken_zarr_is_named(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "cells.zarr", data=stack(6, 8))
    (tmp_path / "cells.zarr" / "zarr.json").write_text("{")
    with pytest.raises(UnreadableImageError, match=r"cells\.zarr cannot be read"):
        read_fields_of_view(tmp_path)


def test_a_broken_zarr_chunk_is_named(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "cells.zarr", data=stack(6, 8))
    for chunk in (tmp_path / "cells.zarr" / "c").rglob("0"):
        if chunk.is_file():
            chunk.write_bytes(b"broken")
    with pytest.raises(UnreadableImageError, match=r"cells\.zarr cannot be read"):
        read_fields_of_view(tmp_path)


def shared(name: str) -> Path:
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f"no real images: {path} is missing, so nothing was tested on them")
    return path


@pytest.mark.parametrize("name", CROP_FILES)
def test_real_crops_are_read_as_they_are_and_named_by_their_groups(name: str) -> None:
    path = shared(name)
    with np.load(path) as archive:
        images, groups = archive["img"], [entry["group"] for entry in json.loads(str(archive["meta"]))]
    crops = crops_of(read_fields_of_view(path), 256)
    assert np.array_equal(crops.images, images)
    assert [crops.names[field] for field in crops.field] == groups


def test_real_repeats_are_read_as_they_are_without_the_copied_frame() -> None:
    path = shared("sharealike/fmd_repeats.npz")
    with np.load(path) as archive:
        raw, distinct, names = archive["raw"], archive["n_distinct_raw"], archive["names"]
    fields = read_fields_of_view(path)
    assert [field.name for field in fields] == names.tolist()
    for field, frames, expected in zip(fields, raw, distinct, strict=True):
        assert field.repeats is not None
        read = field.repeats.read(4)
        assert len(read) == expected
        assert {frame.tobytes() for frame in read} == {frame.tobytes() for frame in frames}
