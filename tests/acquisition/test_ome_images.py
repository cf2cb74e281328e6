"""Images are what the field's readers take them for, and their smaller levels show the same light at the same place."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.measure import block_reduce
from zarr.errors import ContainsGroupError
from zarr.storage import MemoryStore

from acquisition.ome_images import (
    DamagedImageError,
    ImageShapeError,
    create_image,
    image_at,
    metadata_seen_from_above,
    ome_of,
    plane_of,
    shape_of,
    write_image,
    write_plane,
)
from tests.acquisition.ome_readers import must_be_valid, opened


def in_memory() -> zarr.Group:
    return zarr.create_group(MemoryStore(), zarr_format=3)


def array(image: zarr.Group, level: int) -> NDArray[Any]:
    found = image[str(level)]
    assert isinstance(found, zarr.Array)
    return np.asarray(found[:])


def planes_of(*shape: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).gamma(2.0, 100.0, shape)


def test_a_whole_image_is_valid_and_opens_in_the_fields_reader(tmp_path: Path) -> None:
    planes = planes_of(1, 256, 256)
    root = zarr.create_group(tmp_path / "store.zarr", zarr_format=3)
    write_image(
        root, "images/image", planes, "cyx", channels=["reconstruction"], name="image", px_um=0.25, dtype="float64"
    )
    must_be_valid(tmp_path / "store.zarr" / "images" / "image")
    found = opened(tmp_path / "store.zarr" / "images" / "image")
    assert found.axes == "cyx"
    assert found.units == {"y": "micrometer", "x": "micrometer"}
    assert [level.shape for level in found.levels] == [(1, 256, 256), (1, 128, 128), (1, 64, 64)]
    assert [scale["x"] for scale in found.scales] == [0.25, 0.5, 1.0]
    assert found.channels == ["reconstruction"]
    assert found.contrast == [[0.0, planes.max()]]
    assert found.levels[0].dtype == np.float64
    assert np.array_equal(found.levels[0], planes)


def test_an_image_that_grows_is_valid_from_the_start_and_opens_with_all_its_axes(tmp_path: Path) -> None:
    planes = planes_of(3, 2, 3, 128, 128).astype(np.float32)
    root = zarr.create_group(tmp_path / "series.zarr", zarr_format=3)
    image = create_image(
        root,
        "0",
        {"t": 3, "c": 2, "z": 3, "y": 128, "x": 128},
        channels=["FITC", "Cy5"],
        name="left",
        px_um=0.5,
        z_um=2.0,
        interval_s=10.0,
        facts={"position": "left"},
    )
    for n_written, index in enumerate(itertools.product(range(3), range(2), range(3))):
        must_be_valid(tmp_path / "series.zarr" / "0")
        found = opened(tmp_path / "series.zarr" / "0")
        assert np.isfinite(found.levels[0]).sum() == n_written * 128 * 128
        write_plane(image, index, planes[index])
    found = opened(tmp_path / "series.zarr" / "0")
    assert found.axes == "tczyx"
    assert found.units == {"t": "second", "z": "micrometer", "y": "micrometer", "x": "micrometer"}
    assert found.scales[0] == {"t": 10.0, "c": 1.0, "z": 2.0, "y": 0.5, "x": 0.5}
    assert found.scales[1] == {"t": 10.0, "c": 1.0, "z": 2.0, "y": 1.0, "x": 1.0}
    assert found.channels == ["FITC", "Cy5"]
    assert found.contrast == [[0.0, planes[:, channel].max()] for channel in range(2)]
    assert np.array_equal(found.levels[0], planes)
    assert image.attrs["hadascope"] == {"position": "left"}


def test_a_group_above_an_image_opens_it_too(tmp_path: Path) -> None:
    root = zarr.create_group(tmp_path / "run.zarr", zarr_format=3)
    planes = planes_of(1, 128, 128)
    image = write_image(root, "images/image", planes, "cyx", channels=["light"], name="image", dtype="float64")
    root.attrs["ome"] = metadata_seen_from_above(image, "images/image")
    must_be_valid(tmp_path / "run.zarr")
    found = opened(tmp_path / "run.zarr")
    assert np.array_equal(found.levels[0], planes)
    assert [level.shape for level in found.levels] == [(1, 128, 128), (1, 64, 64)]
    assert [level["path"] for level in ome_of(image)["multiscales"][0]["datasets"]] == ["0", "1"]  # itself as it was


@pytest.mark.parametrize(("side", "sides"), [(2, [2]), (64, [64]), (128, [128, 64]), (512, [512, 256, 128, 64])])
def test_every_level_holds_the_means_of_the_pixels_it_shows(side: int, sides: list[int]) -> None:
    planes = planes_of(2, 1, side, side)
    image = write_image(in_memory(), "0", planes, "tcyx", channels=["light"], name="image", dtype="float64")
    assert sorted(image.array_keys()) == [str(level) for level in range(len(sides))]
    for level, smaller in enumerate(sides):
        found = array(image, level)
        assert found.shape == (2, 1, smaller, smaller)
        for t in range(2):
            expected = block_reduce(planes[t, 0], (2**level, 2**level), np.mean)
            np.testing.assert_allclose(found[t, 0], expected, rtol=1e-13)
            assert found[t, 0].mean() == pytest.approx(planes[t, 0].mean(), rel=1e-12)


@settings(max_examples=40, deadline=None)
@given(
    exponent=st.integers(6, 9),
    px_um=st.floats(1e-3, 1e3) | st.none(),
    level=st.integers(0, 3),
    place=st.tuples(st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True)),
)
def test_a_pixel_of_any_level_lies_in_the_middle_of_the_pixels_it_is_made_of(
    exponent: int, px_um: float | None, level: int, place: tuple[float, float]
) -> None:
    side = 2**exponent
    image = create_image(in_memory(), "0", {"c": 1, "y": side, "x": side}, channels=["light"], name="i", px_um=px_um)
    levels = ome_of(image)["multiscales"][0]["datasets"]
    level = min(level, len(levels) - 1)
    for axis, where in enumerate(place, start=1):
        pixel = int(where * (side >> level))
        beneath = np.arange(pixel << level, (pixel + 1) << level)
        middle = float(np.mean([physical(levels[0], axis, float(each)) for each in beneath]))
        assert physical(levels[level], axis, pixel) == pytest.approx(middle, rel=1e-12, abs=1e-12)
    assert physical(levels[level], 0, 0) == 0


def physical(level: dict[str, Any], axis: int, index: float) -> float:
    """Where a pixel's centre lies, by the transformations in the order they are given."""
    for each in level["coordinateTransformations"]:
        index = index * each["scale"][axis] if each["type"] == "scale" else index + each["translation"][axis]
    return index


@settings(max_examples=15, deadline=None)
@given(order=st.permutations(list(itertools.product(range(2), range(2)))))
def test_planes_may_be_written_in_any_order(order: list[tuple[int, int]]) -> None:
    planes = planes_of(2, 2, 128, 128)
    grown = create_image(in_memory(), "0", {"t": 2, "c": 2, "y": 128, "x": 128}, channels=["a", "b"], name="i")
    for index in order:
        write_plane(grown, index, planes[index])
    whole = write_image(in_memory(), "0", planes, "tcyx", channels=["a", "b"], name="i")
    assert ome_of(grown) == ome_of(whole)
    for level in range(2):
        assert array(grown, level).tobytes() == array(whole, level).tobytes()


def test_what_was_not_written_is_nan_in_every_level() -> None:
    image = create_image(in_memory(), "0", {"t": 2, "c": 1, "y": 128, "x": 128}, channels=["light"], name="i")
    write_plane(image, (1, 0), np.zeros((128, 128)))
    for level in range(2):
        assert np.isnan(array(image, level)[0]).all()
        assert (array(image, level)[1] == 0).all()
    assert np.isnan(plane_of(image, (0, 0))).all()


class FailingStore(MemoryStore):
    """A store that takes ``writes_left`` more writes, and then none."""

    writes_left = 10**9

    async def set(self, *arguments: Any, **named: Any) -> None:
        if self.writes_left == 0:
            raise OSError("the power went")
        self.writes_left -= 1
        await super().set(*arguments, **named)


def test_where_the_power_goes_a_plane_is_there_with_all_its_levels_or_not_at_all() -> None:
    plane = planes_of(256, 256)
    written = 0
    for writes in range(20):
        store = FailingStore()
        root = zarr.create_group(store, zarr_format=3)
        image = create_image(root, "0", {"c": 1, "y": 256, "x": 256}, channels=["light"], name="i")
        store.writes_left = writes
        try:
            write_plane(image, (0,), plane)
            written += 1
        except OSError:
            image = zarr.open_group(store, path="0", mode="r")
            assert np.isnan(plane_of(image, (0,))).all()
    assert 0 < written < 19
    assert all(np.isfinite(array(image, level)).all() for level in range(3))


def test_a_black_image_has_a_window_that_viewers_take_and_a_dark_pixel_widens_only_the_range() -> None:
    image = create_image(in_memory(), "0", {"c": 1, "y": 2, "x": 2}, channels=["light"], name="i")
    write_plane(image, (0,), np.zeros((2, 2)))
    assert ome_of(image)["omero"]["channels"][0]["window"] == {"min": 0.0, "max": 0.0, "start": 0.0, "end": 1.0}
    write_plane(image, (0,), np.array([[-3.0, 1.0], [2.0, 7.0]]))
    assert ome_of(image)["omero"]["channels"][0]["window"] == {"min": -3.0, "max": 7.0, "start": 0.0, "end": 7.0}


def test_sizes_that_are_not_known_have_no_unit() -> None:
    image = create_image(
        in_memory(), "0", {"t": 2, "c": 1, "z": 1, "y": 4, "x": 4}, channels=["light"], name="i", interval_s=0.0
    )
    (multiscale,) = ome_of(image)["multiscales"]
    assert [sorted(axis) for axis in multiscale["axes"]] == [["name", "type"]] * 5
    assert multiscale["datasets"][0]["coordinateTransformations"] == [{"type": "scale", "scale": [1.0] * 5}]


def test_chunks_are_whole_planes_up_to_1024_pixels_a_side() -> None:
    image = create_image(in_memory(), "0", {"t": 5, "c": 1, "y": 2048, "x": 2048}, channels=["light"], name="i")
    chunks = [each.chunks for _, each in sorted(image.arrays())]
    assert chunks == [(1, 1, side, side) for side in (1024, 1024, 512, 256, 128, 64)]


@pytest.mark.parametrize(
    ("shape", "channels", "said"),
    [
        ({"y": 4, "x": 4}, ["light"], "at least c, y and x"),
        ({"c": 1, "x": 4}, ["light"], "at least c, y and x"),
        ({"c": 1, "t": 2, "y": 4, "x": 4}, ["light"], "expected t, c, z, y, x"),
        ({"c": 1, "y": 4, "x": 4, "q": 1}, ["light"], "axes c, y, x, q"),
        ({"c": 2, "y": 4, "x": 4}, ["light"], "a name for every channel"),
        ({"t": 0, "c": 1, "y": 4, "x": 4}, ["light"], "1 or more"),
    ],
)
def test_axes_and_channels_that_do_not_fit_are_refused(shape: dict[str, int], channels: list[str], said: str) -> None:
    with pytest.raises(ImageShapeError, match=said):
        create_image(in_memory(), "0", shape, channels=channels, name="i")


@pytest.mark.parametrize(
    ("index", "side"), [((0,), 4), ((0, 0, 0), 4), ((0, 1), 4), ((2, 0), 4), ((-1, 0), 4), ((0, 0), 2)]
)
def test_a_plane_that_does_not_fit_is_refused_and_nothing_is_written(index: tuple[int, ...], side: int) -> None:
    image = create_image(in_memory(), "0", {"t": 2, "c": 1, "y": 4, "x": 4}, channels=["light"], name="i")
    with pytest.raises(ImageShapeError, match=r"does not fit into an image of \(2, 1, 4, 4\) \(t, c, y, x\)"):
        write_plane(image, index, np.ones((side, side)))
    assert np.isnan(array(image, 0)).all()


def test_an_image_that_stands_there_is_replaced_only_when_asked() -> None:
    root = in_memory()
    create_image(root, "0", {"c": 1, "y": 128, "x": 128}, channels=["light"], name="first")
    with pytest.raises(ContainsGroupError):
        create_image(root, "0", {"c": 1, "y": 4, "x": 4}, channels=["light"], name="second")
    second = create_image(root, "0", {"c": 1, "y": 4, "x": 4}, channels=["light"], name="second", overwrite=True)
    assert shape_of(second) == {"c": 1, "y": 4, "x": 4}
    assert sorted(second.array_keys()) == ["0"]  # the smaller level of the one before is gone


@pytest.mark.parametrize("metadata", [None, 3, {}, {"multiscales": 3}, {"multiscales": []}, {"multiscales": [{}]}])
def test_metadata_that_describe_no_image_are_called_damaged(metadata: Any) -> None:
    image = write_image(in_memory(), "0", planes_of(1, 8, 8), "cyx", channels=["light"], name="image")
    image.attrs["ome"] = metadata
    with pytest.raises(DamagedImageError, match="no metadata of a multiscale image"):
        shape_of(image)


def test_what_is_no_image_is_not_opened_as_one(tmp_path: Path) -> None:
    root = zarr.create_group(tmp_path / "store.zarr", zarr_format=3)
    assert image_at(root, "0") is None
    root.create_array("0", data=np.zeros(3))
    with pytest.raises(DamagedImageError, match="0 is a Array, expected an image"):
        image_at(root, "0")


@pytest.mark.parametrize("damage", ["chunk", "level", "metadata", "group"])
def test_a_damaged_image_is_called_damaged(tmp_path: Path, damage: str) -> None:
    root = zarr.create_group(tmp_path / "store.zarr", zarr_format=3)
    write_image(root, "images/image", planes_of(1, 8, 8), "cyx", channels=["light"], name="image")
    folder = tmp_path / "store.zarr" / "images" / "image"
    if damage == "chunk":
        chunk = folder / "0" / "c" / "0" / "0" / "0"
        chunk.write_bytes(chunk.read_bytes()[:20])
    elif damage == "level":
        (folder / "0" / "zarr.json").unlink()
    else:
        image = zarr.open_group(folder, mode="r+")
        image.attrs["ome"] = {"version": "0.5"} if damage == "metadata" else None
    image = zarr.open_group(folder, mode="r")
    with pytest.raises(DamagedImageError, match=r"damaged|cannot be read|no metadata"):
        plane_of(image, tuple(0 for axis in shape_of(image) if axis not in "yx"))
