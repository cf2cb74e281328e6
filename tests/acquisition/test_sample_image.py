"""Any TIFF or PNG can be put on the simulated stage, and what is no image is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from skimage.io import imsave

from acquisition.connect import sample_on_stage
from acquisition.sample_image import SampleImageError, read_sample
from tests.acquisition.rehearsal import small_config

RNG = np.random.default_rng(2)
GREY = RNG.integers(0, 60_000, (16, 16)).astype(np.uint16)


def test_a_tiff_of_the_right_size_is_taken_value_by_value(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "image.tif", GREY)
    assert np.array_equal(read_sample(tmp_path / "image.tif", 16), GREY)


def test_a_png_of_the_right_size_is_taken_value_by_value(tmp_path: Path) -> None:
    imsave(tmp_path / "image.png", GREY, check_contrast=False)
    assert np.array_equal(read_sample(tmp_path / "image.png", 16), GREY)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32, np.float64, np.bool_])
def test_any_kind_of_grey_value_is_read(tmp_path: Path, dtype: type[np.generic]) -> None:
    image = (GREY % 100).astype(dtype)
    tifffile.imwrite(tmp_path / "image.tiff", image)
    assert np.array_equal(read_sample(tmp_path / "image.tiff", 16), image.astype(float))


def test_of_a_stack_the_first_plane_is_taken(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "stack.tif", np.stack([GREY, GREY[::-1], 2 * (GREY // 4)]), photometric="minisblack")
    assert np.array_equal(read_sample(tmp_path / "stack.tif", 16), GREY)


def test_colours_become_luminance_and_transparency_is_ignored(tmp_path: Path) -> None:
    colours = RNG.integers(0, 255, (16, 16, 3)).astype(np.uint8)
    opaque = np.concatenate([colours, np.full((16, 16, 1), 255, np.uint8)], axis=-1)
    imsave(tmp_path / "rgb.png", colours, check_contrast=False)
    imsave(tmp_path / "rgba.png", opaque, check_contrast=False)
    expected = colours @ np.array([0.2125, 0.7154, 0.0721])
    assert np.allclose(read_sample(tmp_path / "rgb.png", 16), expected)
    assert np.allclose(read_sample(tmp_path / "rgba.png", 16), expected)


def test_of_an_oblong_image_the_central_square_is_taken(tmp_path: Path) -> None:
    wide = np.zeros((16, 40), np.uint16)
    wide[:, 12:28] = GREY
    tifffile.imwrite(tmp_path / "wide.tif", wide)
    assert np.array_equal(read_sample(tmp_path / "wide.tif", 16), GREY)


def test_other_sizes_are_resampled_and_keep_their_brightness(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "large.tif", np.kron(GREY, np.ones((4, 4), np.uint16)))
    small = read_sample(tmp_path / "large.tif", 16)
    assert small.shape == (16, 16)
    assert small.mean() == pytest.approx(GREY.mean(), rel=0.02)
    assert np.corrcoef(small.ravel(), GREY.ravel())[0, 1] > 0.9


def bad_text(path: Path) -> None:
    path.write_text("this is no image")


def bad_dark(path: Path) -> None:
    tifffile.imwrite(path, np.zeros((16, 16), np.uint8))


def bad_nan(path: Path) -> None:
    tifffile.imwrite(path, np.full((16, 16), np.nan, np.float32))


def bad_negative(path: Path) -> None:
    tifffile.imwrite(path, -np.ones((16, 16), np.float32))


def bad_line(path: Path) -> None:
    tifffile.imwrite(path, np.ones((1, 16), np.float32))


def bad_folder(path: Path) -> None:
    path.mkdir()


def bad_complex(path: Path) -> None:
    tifffile.imwrite(path, np.ones((16, 16), np.complex64))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (bad_text, "cannot be read as an image"),
        (bad_dark, "dark everywhere"),
        (bad_nan, "not finite"),
        (bad_negative, "negative"),
        (bad_line, "at least 2 × 2"),
        (bad_folder, "no file"),
        (bad_complex, "real grey values"),
        (lambda path: None, "is not there"),
    ],
)
@pytest.mark.parametrize("name", ["sample.tif"])
def test_what_cannot_be_put_on_the_stage_is_refused(tmp_path: Path, make: object, reason: str, name: str) -> None:
    assert callable(make)
    make(tmp_path / name)
    with pytest.raises(SampleImageError, match=reason) as refusal:
        read_sample(tmp_path / name, 16)
    assert name in str(refusal.value)


def test_a_png_that_is_none_is_refused(tmp_path: Path) -> None:
    bad_text(tmp_path / "text.png")
    with pytest.raises(SampleImageError, match="expected a TIFF or PNG"):
        read_sample(tmp_path / "text.png", 16)


def test_the_stage_gives_the_stated_photo_electrons(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "image.tif", GREY)
    config = small_config(
        sensing={"side": 16},
        noise={"gain": 2.5},
        bench={"photoelectrons_per_px": 40.0},
        sample={"image": str(tmp_path / "image.tif")},
    )
    light = sample_on_stage(config)
    assert light is not None
    assert light.mean() == pytest.approx(100.0)
    assert np.allclose(light / light.mean(), GREY / GREY.mean())


def test_without_a_file_the_stage_shows_generated_cells() -> None:
    light = sample_on_stage(small_config(sensing={"side": 32}))
    assert light is not None
    assert light.shape == (32, 32)
    assert light.min() >= 0
    assert light.max() > 3 * light.mean()
