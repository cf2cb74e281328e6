"""What a training is asked for: its noise, its sources, its output; wrong ones are refused in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from acquisition.training_request import (
    DataSourcesError,
    ModelExistsError,
    ModelFolderError,
    NoiseRequestError,
    model_output,
    noise_of_images,
    read_data_sources,
    unstated_source,
)
from calibration.calibration_file import CalibrationFileError
from tests.models.learning.tiny_model import saved


def test_a_stated_noise_is_taken_as_it_is() -> None:
    assert noise_of_images(0.0139, 0.002, None, None) == (0.0139, 0.002)


@pytest.mark.parametrize(
    ("gain", "calibration", "peak"),
    [
        (None, None, None),
        (0.01, None, 100.0),
        (0.01, Path("noise.json"), 100.0),
        (None, Path("noise.json"), None),
        (None, Path("noise.json"), 0.0),
        (None, Path("noise.json"), float("nan")),
    ],
)
def test_a_noise_stated_twice_or_not_at_all_is_refused(
    gain: float | None, calibration: Path | None, peak: float | None
) -> None:
    with pytest.raises(NoiseRequestError, match="--peak"):
        noise_of_images(gain, 0.0, calibration, peak)


def test_a_calibration_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CalibrationFileError, match=r"gone\.json"):
        noise_of_images(None, 0.0, tmp_path / "gone.json", 100.0)


def test_a_stated_variance_beside_a_calibration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoiseRequestError, match="--variance"):
        noise_of_images(None, 0.5, tmp_path / "noise.json", 100.0)


SOURCES = """
- {name: cells, licence: CC0, attribution: Ada, crops: 12}
- {name: mice, licence: CC-BY-4.0, attribution: "Bob, Cid", crops: 3}
"""


def test_sources_are_read_as_they_stand(tmp_path: Path) -> None:
    file = tmp_path / "sources.yaml"
    file.write_text(SOURCES, encoding="utf-8")
    first, second = read_data_sources(file)
    assert (first.name, first.licence, first.attribution, first.crops) == ("cells", "CC0", "Ada", 12)
    assert second.attribution == "Bob, Cid"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[]", "found an empty list"),
        (b"", "the whole"),
        (b"name: cells", "the whole"),
        (b"- {name: cells, licence: CC0, crops: 12}", "0.attribution: Field required"),
        (b"- {name: cells, licence: CC0, attribution: Ada, crops: 0}", "0.crops"),
        (b"- {name: '', licence: CC0, attribution: Ada, crops: 1}", "0.name"),
        (b"- {a: [}", "is no YAML"),
        (b"\xff\xfe\x00", "is no YAML"),
    ],
)
def test_sources_that_do_not_say_whose_images_they_are_are_refused(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "sources.yaml"
    file.write_bytes(content)
    with pytest.raises(DataSourcesError, match=said) as refused:
        read_data_sources(file)
    assert "sources.yaml" in str(refused.value)
    assert "expected a YAML list of name, licence, attribution and crops" in str(refused.value)


def test_sources_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataSourcesError, match="cannot be read"):
        read_data_sources(tmp_path / "gone.yaml")


def test_images_of_unstated_origin_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = unstated_source([Path("a/cells.npz"), Path("mice")], 7)
    assert (source.name, source.licence, source.crops) == ("cells.npz, mice", "not stated", 7)
    monkeypatch.chdir(tmp_path)
    assert unstated_source([Path()], 1).name == tmp_path.name


@pytest.mark.parametrize("given", ["cells-0.25", "cells-0.25.json", "cells-0.25.safetensors"])
def test_a_model_is_written_under_its_name_with_or_without_a_suffix(tmp_path: Path, given: str) -> None:
    output = model_output(tmp_path / given, overwrite=False)
    assert output.model == tmp_path / "cells-0.25"
    assert output.masks == tmp_path / "cells-0.25.masks.png"
    assert output.training == tmp_path / "cells-0.25.training.png"
    assert output.folder == tmp_path / "cells-0.25.training"


@pytest.mark.parametrize("given", ["tiny-8-0.5", "tiny-8-0.5.safetensors"])
def test_a_model_that_is_there_is_replaced_only_when_asked_to(tmp_path: Path, given: str) -> None:
    saved(tmp_path)
    with pytest.raises(ModelExistsError, match=r"is there already; expected a new --output, or --overwrite"):
        model_output(tmp_path / given, overwrite=False)
    assert model_output(tmp_path / given, overwrite=True).model == tmp_path / "tiny-8-0.5"


def test_a_picture_that_is_there_is_not_replaced_either(tmp_path: Path) -> None:
    (tmp_path / "cells.masks.png").write_bytes(b"somebody's")
    with pytest.raises(ModelExistsError, match=r"cells\.masks\.png"):
        model_output(tmp_path / "cells", overwrite=False)


def test_the_folder_of_a_model_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ModelFolderError, match=r"the folder .*gone is not there"):
        model_output(tmp_path / "gone" / "cells", overwrite=False)
