"""Fields of view from TIFF and PNG files and from folders: what is read, under which name, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from models.learning.fields_of_view import NoImagesError, read_fields_of_view
from models.learning.image_files import NotAnImageError, UnreadableImageError

ORDERS = {"TZCYX": (3, 2, 2, 6, 8), "ZCYX": (2, 3, 6, 8), "TYX": (4, 6, 8), "QYX": (5, 6, 8), "YX": (6, 8)}


def pattern(*shape: int, dtype: str = "uint16") -> NDArray[np.generic]:
    return np.arange(np.prod(shape), dtype=dtype).reshape(shape)


def save_png(path: Path, image: NDArray[np.generic]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float32", "float64"])
def test_a_tiff_keeps_its_grey_values(tmp_path: Path, dtype: str) -> None:
    tifffile.imwrite(tmp_path / "cells.tif", pattern(6, 8, dtype=dtype))
    (field,) = read_fields_of_view(tmp_path / "cells.tif")
    assert field.name == "cells.tif"
    assert field.image.dtype == np.float32
    assert field.repeats is None
    assert field.image.tolist() == pattern(6, 8).tolist()
    assert field.source == str(tmp_path / "cells.tif")


@pytest.mark.parametrize("axes", ORDERS)
def test_the_planes_of_a_tiff_are_images_of_one_field(tmp_path: Path, axes: str) -> None:
    stack = pattern(*ORDERS[axes])
    tifffile.imwrite(tmp_path / "cells.tif", stack, metadata={"axes": axes}, photometric="minisblack")
    fields = read_fields_of_view(tmp_path / "cells.tif")
    assert {field.name for field in fields} == {"cells.tif"}
    assert len({field.source for field in fields}) == len(fields)
    assert [field.image.tolist() for field in fields] == stack.reshape(-1, 6, 8).tolist()


def test_pages_of_different_sizes_are_all_read(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "two.tif") as file:
        file.write(pattern(6, 8))
        file.write(pattern(4, 4))
    assert [field.image.shape for field in read_fields_of_view(tmp_path / "two.tif")] == [(6, 8), (4, 4)]


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_grey_png_keeps_its_grey_values(tmp_path: Path, dtype: str) -> None:
    save_png(tmp_path / "cells.PNG", pattern(6, 8, dtype=dtype))
    (field,) = read_fields_of_view(tmp_path / "cells.PNG")
    assert field.image.tolist() == pattern(6, 8).tolist()


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P"])
def test_a_png_of_equal_channels_is_grey(tmp_path: Path, mode: str) -> None:
    Image.fromarray(pattern(6, 8, dtype="uint8")).convert(mode).save(tmp_path / "cells.png")
    (field,) = read_fields_of_view(tmp_path / "cells.png")
    assert field.image.tolist() == pattern(6, 8).tolist()


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_colours_are_refused_in_words(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(pattern(6, 8, 3, dtype="uint8")).save(tmp_path / f"cells.{suffix}")
    with pytest.raises(NotAnImageError, match=rf"cells.{suffix} has 3 colours that differ; expected grey values"):
        read_fields_of_view(tmp_path)


def test_a_transparent_image_is_refused(tmp_path: Path) -> None:
    grey = Image.fromarray(pattern(6, 8, dtype="uint8")).convert("LA")
    grey.putalpha(128)
    grey.save(tmp_path / "cells.png")
    with pytest.raises(NotAnImageError, match="transparent"):
        read_fields_of_view(tmp_path)


def test_an_animation_is_refused(tmp_path: Path) -> None:
    frames = [Image.fromarray(pattern(6, 8, dtype="uint8")), Image.fromarray(pattern(6, 8, dtype="uint8")[::-1].copy())]
    frames[0].save(tmp_path / "cells.png", save_all=True, append_images=frames[1:])
    with pytest.raises(NotAnImageError, match=r"shape \[2, 6, 8\]"):
        read_fields_of_view(tmp_path)


@pytest.mark.parametrize("dtype", ["bool", "complex64"])
def test_values_that_are_no_grey_values_are_refused(tmp_path: Path, dtype: str) -> None:
    tifffile.imwrite(tmp_path / "cells.tif", np.ones((6, 8), dtype=dtype))
    with pytest.raises(NotAnImageError, match=f"cells.tif holds {dtype} values"):
        read_fields_of_view(tmp_path)


@pytest.mark.parametrize(
    ("value", "word"),
    [(np.nan, "NaN"), (np.inf, "infinite"), (-np.inf, "infinite"), (1e300, "infinite"), (-1, "negative")],
)
def test_pixels_that_are_no_light_are_refused_and_counted(tmp_path: Path, value: float, word: str) -> None:
    stack = pattern(2, 6, 8, dtype="float64")
    stack[1, 2, 3:5] = value
    tifffile.imwrite(tmp_path / "cells.tif", stack, photometric="minisblack")
    with pytest.raises(NotAnImageError, match=rf"cells.tif\[1\] holds 2 {word} among its 48 pixels"):
        read_fields_of_view(tmp_path)


@pytest.mark.parametrize("suffix", ["tif", "png", "npy", "npz"])
def test_a_broken_file_is_named(tmp_path: Path, suffix: str) -> None:
    save_png(tmp_path / "good.png", pattern(6, 8, dtype="uint8"))
    (tmp_path / f"broken.{suffix}").write_bytes(b"\x93NUMPY no image")
    with pytest.raises(UnreadableImageError, match=f"broken.{suffix} cannot be read"):
        read_fields_of_view(tmp_path)


def test_a_folder_is_read_to_any_depth_in_natural_order(tmp_path: Path) -> None:
    for name in ("b/image 10.png", "b/image 9.png", "a/deep/cells.png", "cells 2.tif", "cells 10.tif"):
        save_png(tmp_path / name, pattern(6, 8, dtype="uint8"))
    (tmp_path / "notes.txt").write_text("a note")
    (tmp_path / "a" / "._cells.png").write_bytes(b"what a file manager leaves")
    names = [field.name for field in read_fields_of_view(tmp_path)]
    assert names == ["a/deep/cells.png", "b/image 9.png", "b/image 10.png", "cells 2.tif", "cells 10.tif"]


def test_a_folder_without_images_says_what_it_holds(tmp_path: Path) -> None:
    with pytest.raises(NoImagesError, match="holds nothing; expected a TIFF, PNG"):
        read_fields_of_view(tmp_path)
    (tmp_path / "deep").mkdir()
    for name in ("movie.czi", "deep/movie.lif", "notes.txt"):
        (tmp_path / name).write_text("something")
    with pytest.raises(NoImagesError, match=r"3 files of other kinds \(\.czi, \.lif, \.txt\)"):
        read_fields_of_view(tmp_path)


def test_a_path_that_is_not_there_is_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere is not there"):
        read_fields_of_view(tmp_path / "nowhere")


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "movie.czi").write_text("something")
    with pytest.raises(NotAnImageError, match=r"movie\.czi is of a kind that is not known"):
        read_fields_of_view(tmp_path / "movie.czi")
