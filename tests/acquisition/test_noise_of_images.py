"""Image files in, a table of gains and variances out."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from acquisition.noise_of_images import (
    FieldNoise,
    ImageFileError,
    draw_image_noise,
    estimate_files,
    print_image_noise,
)
from calibration.image_noise import ImageNoise, estimate_image_noise
from calibration.repeat_noise import DifferentFieldsError, RepeatNoise
from calibration.verdict import NotCalibratableError

A, B = 2.0, 9.0


@pytest.fixture
def stack() -> NDArray[np.uint16]:
    """Three repeats uint16 [3, 96, 112] of a ramp."""
    rng = np.random.default_rng(0)
    light = np.broadcast_to(np.linspace(200, 2000, 112), (3, 96, 112))
    read = A * rng.poisson(light / A) + np.sqrt(B) * rng.standard_normal(light.shape)
    return np.asarray(np.round(read), dtype=np.uint16)


def test_every_kind_of_file_gives_the_same_estimate(tmp_path: Path, stack: NDArray[np.uint16]) -> None:
    import tifffile
    from imageio.v3 import imwrite

    image = stack[0]
    tifffile.imwrite(tmp_path / "a.tif", image)
    imwrite(tmp_path / "a.png", image)
    np.save(tmp_path / "a.npy", image)
    np.savez(tmp_path / "a.npz", picture=image, note="which day it was")
    found = estimate_files(tmp_path / f"a.{kind}" for kind in ("tif", "png", "npy", "npz"))
    assert [field.name for field in found] == ["a.tif", "a.png", "a.npy", "a.npz:picture"]
    expected = estimate_image_noise(image)
    for field in found:
        assert isinstance(field.single, ImageNoise)
        assert field.single.line.gain_interval == expected.line.gain_interval
        assert field.repeats is None


def test_planes_are_repeats_unless_they_are_said_to_be_fields(tmp_path: Path, stack: NDArray[np.uint16]) -> None:
    np.save(tmp_path / "stack.npy", stack)
    (field,) = estimate_files([tmp_path / "stack.npy"])
    assert isinstance(field.repeats, RepeatNoise)
    assert field.repeats.gain == pytest.approx(A, rel=0.15)
    fields = estimate_files([tmp_path / "stack.npy"], planes_are_repeats=False)
    assert [each.name for each in fields] == [f"stack.npy[{plane}]" for plane in range(3)]
    assert all(each.repeats is None for each in fields)


def test_a_fourth_axis_counts_fields(tmp_path: Path, stack: NDArray[np.uint16]) -> None:
    np.savez(tmp_path / "fields.npz", raw=np.stack([stack, stack[::-1]]))
    found = estimate_files([tmp_path / "fields.npz"])
    assert [field.name for field in found] == ["fields.npz:raw[0]", "fields.npz:raw[1]"]
    assert all(isinstance(field.repeats, RepeatNoise) for field in found)


def test_grey_saved_as_three_equal_colours_is_grey_and_colour_is_refused(
    tmp_path: Path, stack: NDArray[np.uint16]
) -> None:
    from imageio.v3 import imwrite

    grey = (stack[0] // 16).astype(np.uint8)
    imwrite(tmp_path / "grey.png", np.repeat(grey[..., None], 3, axis=2))
    (field,) = estimate_files([tmp_path / "grey.png"])
    assert isinstance(field.single, ImageNoise)
    assert field.single.gain == estimate_image_noise(grey).gain
    imwrite(tmp_path / "colour.png", np.stack([grey, grey, grey // 2], axis=2))
    with pytest.raises(ImageFileError, match="one channel"):
        estimate_files([tmp_path / "colour.png"])


def test_files_that_are_no_images_are_named(tmp_path: Path) -> None:
    (tmp_path / "text.tif").write_text("no image", encoding="utf-8")
    np.savez(tmp_path / "words.npz", note="only words")
    for path, said in (("away.png", "is not there"), ("text.tif", "cannot be read"), ("words.npz", "holds no array")):
        with pytest.raises(ImageFileError, match=said):
            estimate_files([tmp_path / path])


def test_one_array_of_an_archive_can_be_named(tmp_path: Path, stack: NDArray[np.uint16]) -> None:
    np.savez(tmp_path / "two.npz", **{"raw": stack[0], "inner/average": stack[1], "names": np.array(["a"])})
    (field,) = estimate_files([tmp_path / "two.npz:raw"])
    assert field.name == "two.npz:raw"
    assert [each.name for each in estimate_files([tmp_path / "two.npz:inner/average"])] == ["two.npz:inner/average"]
    with pytest.raises(ImageFileError, match="no array dark: expected one of raw, inner/average, names"):
        estimate_files([tmp_path / "two.npz:dark"])
    with pytest.raises(ImageFileError, match=r"holds <U1 of shape \[1\]"):
        estimate_files([tmp_path / "two.npz:names"])
    with pytest.raises(ImageFileError, match=r"away\.npz is not there"):
        estimate_files([tmp_path / "away.npz:raw"])


@pytest.mark.parametrize("shape", [(0, 256, 256), (3, 0, 256), (0, 0), (2, 0, 96, 112)])
def test_an_array_without_pixels_is_named_with_its_shape(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "vol.npy", np.zeros(shape))
    for planes_are_repeats in (True, False):
        with pytest.raises(ImageFileError, match=rf"vol\.npy holds float64 of shape {re.escape(str(list(shape)))}"):
            estimate_files([tmp_path / "vol.npy"], planes_are_repeats=planes_are_repeats)


@pytest.mark.parametrize("full_scale", [-5.0, float("nan")])
def test_a_full_scale_that_is_none_is_refused(tmp_path: Path, stack: NDArray[np.uint16], full_scale: float) -> None:
    np.save(tmp_path / "a.npy", stack)
    with pytest.raises(ValueError, match="found a full scale of"):
        estimate_files([tmp_path / "a.npy"], full_scale=full_scale)


def test_different_fields_in_a_stack_are_one_reason(
    tmp_path: Path, stack: NDArray[np.uint16], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    np.save(tmp_path / "fields.npy", np.stack([stack[0, :, :96], stack[1, :, :96].T]))
    (field,) = estimate_files([tmp_path / "fields.npy"])
    assert isinstance(field.single, ImageNoise)
    assert isinstance(field.repeats, DifferentFieldsError)
    print_image_noise([field])
    (line,) = (each for each in capsys.readouterr().out.splitlines() if each.startswith("fields.npy, repeats"))
    assert "the repeats show different fields" in line
    assert "--single" in line


def test_the_table_has_units_and_says_once_where_intervals_of_single_images_hold(
    tmp_path: Path, stack: NDArray[np.uint16], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    np.save(tmp_path / "stack.npy", stack)
    print_image_noise(estimate_files([tmp_path / "stack.npy", tmp_path / "stack.npy"]))
    said = capsys.readouterr().out
    assert "grey values per photo-electron" in said
    assert "grey values²" in said
    assert said.count("smooth over a few pixels") == 1
    print_image_noise([FieldNoise("none", NotCalibratableError("dark"), None)])
    assert "smooth over a few pixels" not in capsys.readouterr().out


def test_what_cannot_be_estimated_is_a_line_of_the_table_with_its_reason(
    tmp_path: Path, stack: NDArray[np.uint16], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    np.save(tmp_path / "dark.npy", np.zeros((80, 80)))
    np.save(tmp_path / "stack.npy", stack)
    found = estimate_files([tmp_path / "dark.npy", tmp_path / "stack.npy"])
    assert isinstance(found[0].single, NotCalibratableError)
    print_image_noise(found)
    said = capsys.readouterr().out
    assert "not possible" in said
    assert "all pixels are 0" in said
    assert "3 repeats" in said
    assert "usable" in said


def test_in_a_pipe_every_estimate_is_a_whole_line_whatever_its_file_is_called(
    tmp_path: Path, stack: NDArray[np.uint16], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    name = "field_" + 20 * "of_view_" + ".npy"
    np.save(tmp_path / name, stack)
    np.save(tmp_path / "dark.npy", np.zeros((80, 80)))
    print_image_noise(estimate_files([tmp_path / name, tmp_path / "dark.npy"]))
    said = capsys.readouterr().out.splitlines()
    for source in ("one image", "3 repeats"):
        (line,) = (each for each in said if each.startswith(f"{name}, {source} "))
        for what in ("usable: a = ", " grey values per photo-electron, b = ", " grey values², from ", " levels"):
            assert what in line
    (line,) = (each for each in said if each.startswith("dark.npy, one image"))
    assert line.endswith("not possible: all pixels are 0: expected an image that varies")
    assert sum("smooth over a few pixels" in each and "take repeats" in each for each in said) == 1
    assert not set("│┃─┏…") & set("".join(said))


def test_the_picture_shows_a_panel_a_field(tmp_path: Path, stack: NDArray[np.uint16]) -> None:
    from imageio.v3 import imread

    np.save(tmp_path / "stack.npy", stack)
    found = [*estimate_files([tmp_path / "stack.npy"]), FieldNoise("none", NotCalibratableError("dark"), None)]
    draw_image_noise(tmp_path / "noise.png", found)
    height, width = imread(tmp_path / "noise.png").shape[:2]
    assert width > 2 * height
