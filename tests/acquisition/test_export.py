"""Exported images are OME-TIFFs that say what they show, and nothing is overwritten unasked."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import tifffile
import zarr

from acquisition import export
from acquisition.config import AcquisitionConfig
from acquisition.export import ExportError, export_image
from acquisition.observer import Observer
from acquisition.ome_images import DamagedImageError, create_image, plane_of, write_plane
from acquisition.run import acquire
from acquisition.run_layout import NotARunError, OutputExistsError
from acquisition.run_store import write_image
from acquisition.stored_reconstruction import reconstruct_run
from acquisition.stored_run import StoredRun
from tests.acquisition.bench_record import whole_light_config
from tests.acquisition.ome_readers import must_be_valid, opened
from tests.acquisition.real_bench import CommandLine
from tests.acquisition.stored_snapshots import stored_snapshots

OME = "{http://www.openmicroscopy.org/Schemas/OME/2016-06}"


def config_in(folder: Path, **changes: dict[str, Any]) -> AcquisitionConfig:
    return whole_light_config(folder, 8, dmd_region={"um_per_mirror": 0.25}, **changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, with an uncertainty as a network's has; tests leave it as it is."""
    config = config_in(tmp_path_factory.mktemp("export"))
    config = config.replace(sample=config.sample.model_copy(update={"name": '<cells> & "more"'}))
    acquire(config)
    write_image(config.output.run, "uncertainty", np.full((8, 8), 3.0), {}, config.px_um)
    return config.output.run


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(finished, tmp_path / "run.zarr"))


def pixels_of(path: Path) -> ET.Element:
    """The OME-XML element that describes the only image of a TIFF."""
    with tifffile.TiffFile(path) as file:
        assert file.is_ome
        xml = file.ome_metadata
    assert xml is not None
    (image,) = ET.fromstring(xml).findall(f"{OME}Image")
    pixels = image.find(f"{OME}Pixels")
    assert pixels is not None
    return pixels


def description_of(path: Path) -> str:
    with tifffile.TiffFile(path) as file:
        xml = file.ome_metadata
    assert xml is not None
    return str(ET.fromstring(xml).findtext(f"{OME}Image/{OME}Description"))


def test_every_image_a_run_leaves_is_valid_and_opens_with_its_channel(finished: Path) -> None:
    for folder in [finished, *(finished / "images").iterdir()]:
        if folder.name == "zarr.json":
            continue
        must_be_valid(folder)
        found = opened(folder)
        assert found.units["x"] == "micrometer"
        assert found.scales[0]["x"] == 0.5
        assert len(found.channels) == 1
    assert opened(finished).channels == ["reconstruction"]
    assert np.array_equal(opened(finished).levels[0][0], StoredRun(finished).image("image"))


def test_an_image_is_read_back_with_its_axes_sizes_names_and_values(finished: Path, tmp_path: Path) -> None:
    done = export_image(finished, tmp_path / "image.ome.tif")
    assert done.shape == {"C": 2, "Y": 8, "X": 8}
    assert done.channels == ("reconstruction", "uncertainty (90 % of pixels within ±)")
    with tifffile.TiffFile(done.path) as file:
        assert file.series[0].axes == "CYX"
        assert file.series[0].dtype == np.float32
        values = file.series[0].asarray()
        numerator, denominator = file.pages[0].tags["XResolution"].value  # type: ignore[union-attr]
        assert numerator / denominator == pytest.approx(1e4 / 0.5)  # per cm, for readers that know no OME
    stored = StoredRun(finished)
    assert np.array_equal(values[0], stored.image("image").astype(np.float32))
    assert (values[1] == 3).all()
    pixels = pixels_of(done.path)
    assert pixels.attrib["Type"] == "float"
    assert [pixels.attrib[f"Size{axis}"] for axis in "TCZYX"] == ["1", "2", "1", "8", "8"]
    for axis in "XY":
        assert float(pixels.attrib[f"PhysicalSize{axis}"]) == 0.5
        assert pixels.attrib[f"PhysicalSize{axis}Unit"] == "µm"
    assert [channel.attrib["Name"] for channel in pixels.findall(f"{OME}Channel")] == list(done.channels)
    assert list(tmp_path.iterdir()) == [done.path]


def test_the_description_says_what_was_measured_and_on_what(finished: Path, tmp_path: Path) -> None:
    done = export_image(finished, tmp_path / "image.ome.tiff")
    said = description_of(done.path)
    for part in ("run.zarr", '<cells> & "more"', "8 × 8 px", "α = 0.5", "S = 2", "simulated devices"):
        assert part in said


def test_snapshots_are_exported_over_time_with_their_times(finished: Path, tmp_path: Path) -> None:
    done = export_image(finished, tmp_path / "time.ome.tif", image="snapshots")
    found = stored_snapshots(StoredRun(finished))
    assert done.shape == {"T": len(found.images), "C": 1, "Y": 8, "X": 8}
    assert np.array_equal(tifffile.imread(done.path), found.images)
    pixels = pixels_of(done.path)
    assert float(pixels.attrib["TimeIncrement"]) == pytest.approx(np.diff(found.times_s).mean())
    assert pixels.attrib["TimeIncrementUnit"] == "s"
    times = [float(plane.attrib["DeltaT"]) for plane in pixels.findall(f"{OME}Plane")]
    np.testing.assert_allclose(times, found.times_s, rtol=1e-12)


def test_without_a_pixel_size_none_is_stated(tmp_path: Path) -> None:
    config = whole_light_config(tmp_path)
    acquire(config)
    done = export_image(config.output.run, tmp_path / "image.ome.tif")
    assert done.shape == {"C": 1, "Y": 8, "X": 8}
    assert [name for name in pixels_of(done.path).attrib if "Physical" in name] == []
    assert np.array_equal(tifffile.imread(done.path), StoredRun(config.output.run).image("image").astype(np.float32))


def test_a_run_that_was_stopped_is_exported_once_it_was_reconstructed(tmp_path: Path) -> None:
    config = config_in(tmp_path)

    def stop(readings: Any) -> None:
        if readings.block_number == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        acquire(config, observer=Observer(on_block=stop))
    run = config.output.run
    with pytest.raises(ExportError, match=r"holds no image yet \(it is stopped\).*hadascope reconstruct"):
        export_image(run, tmp_path / "image.ome.tif")
    image = reconstruct_run(run).reconstruction.image
    must_be_valid(run / "images" / "reconstructed")
    done = export_image(run, tmp_path / "image.ome.tif")
    assert done.channels == ("reconstruction, made again",)
    assert np.array_equal(tifffile.imread(done.path), image.astype(np.float32))


def test_other_images_of_a_run_can_be_chosen_by_name(finished: Path, tmp_path: Path) -> None:
    done = export_image(finished, tmp_path / "linear.OME.TIF", image="wiener")
    assert done.channels == ("linear (Wiener)",)
    assert np.array_equal(tifffile.imread(done.path), StoredRun(finished).image("wiener").astype(np.float32))
    with pytest.raises(ExportError, match="no image 'winer': it holds image, wiener, uncertainty, sample, snapshots"):
        export_image(finished, tmp_path / "other.ome.tif", image="winer")


@pytest.mark.parametrize("name", ["image.tif", "image.png", "image", "ome.tif.zip"])
def test_only_names_of_ome_tiffs_are_taken(finished: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(ExportError, match=r"does not end in \.ome\.tif or \.ome\.tiff"):
        export_image(finished, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_overwritten_only_when_asked(finished: Path, tmp_path: Path) -> None:
    path = tmp_path / "image.ome.tif"
    path.write_text("mine")
    with pytest.raises(OutputExistsError, match="never overwritten unasked"):
        export_image(finished, path)
    assert path.read_text() == "mine"
    export_image(finished, path, overwrite=True)
    assert pixels_of(path).attrib["SizeX"] == "8"
    with pytest.raises(ExportError, match="folder that does not exist"):
        export_image(finished, tmp_path / "nowhere" / "image.ome.tif")


def test_an_export_that_fails_leaves_what_stood_there(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "image.ome.tif"
    path.write_text("mine")
    really, calls = plane_of, []

    def full(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 2:
            raise OSError("no space left on device")
        return really(*arguments)

    monkeypatch.setattr(export, "plane_of", full)
    with pytest.raises(OSError, match="no space left"):
        export_image(finished, path, overwrite=True)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == "mine"


def test_damage_is_reported_and_nothing_is_written(run: Path, tmp_path: Path) -> None:
    (run / "images" / "image" / "0" / "c" / "0" / "0" / "0").unlink()
    with pytest.raises(ExportError, match="64 pixels without a value: its files are damaged"):
        export_image(run, tmp_path / "image.ome.tif")
    (run / "images" / "image" / "0" / "zarr.json").unlink()
    with pytest.raises(DamagedImageError, match="no level 0"):
        export_image(run, tmp_path / "image.ome.tif")
    assert list(tmp_path.glob("*.tif*")) == []


@pytest.mark.parametrize(
    ("part", "text", "said"),
    [
        ("zarr.json", None, "run.zarr is a damaged run: .*zarr.json is missing"),
        ("zarr.json", "[]", "no run of Hadascope"),
        ("readings/plus/zarr.json", None, "run.zarr is a damaged run"),
        ("readings/commits/zarr.json", "null", "run.zarr is a damaged run"),
        ("images/image/zarr.json", '{"attributes": {', "images/image/zarr.json is damaged"),
        ("images/image/0/zarr.json", "null", "images/image/0/zarr.json is damaged"),
    ],
)
def test_a_copy_that_is_not_whole_is_said_to_be_damaged(
    hadascope: CommandLine, run: Path, tmp_path: Path, part: str, text: str | None, said: str
) -> None:
    (run / part).unlink()
    if text is not None:
        (run / part).write_text(text, encoding="utf-8")
    done = hadascope("export", run, tmp_path / "image.ome.tif")
    assert done.code == 2
    assert re.search(said, done.err)
    assert list(tmp_path.glob("*.tif*")) == []


def test_an_image_is_exported_although_another_one_is_damaged(run: Path, tmp_path: Path) -> None:
    (run / "images" / "wiener" / "zarr.json").write_text("null", encoding="utf-8")
    assert export_image(run, tmp_path / "image.ome.tif").channels[0] == "reconstruction"


def test_what_is_no_run_is_refused(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(NotARunError, match="no run of Hadascope"):
        export_image(tmp_path, tmp_path / "image.ome.tif")
    with pytest.raises(NotARunError, match="no run of Hadascope"):
        export_image(finished / "images" / "image" / "0", tmp_path / "image.ome.tif")
    with pytest.raises(ExportError, match="no positions"):
        export_image(finished, tmp_path / "image.ome.tif", position="0")


def series_in(folder: Path, config: dict[str, Any], *names: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A series of 2 times × 2 channels × 3 planes at some positions, the last plane still to come; its planes."""
    root = zarr.create_group(folder, zarr_format=3)
    root.attrs["hadascope"] = {"series": 1, "state": "stopped", "simulated": True, "config": config}
    planes = np.random.default_rng(0).random((len(names), 2, 2, 3, 8, 8), dtype=np.float32)
    shape = {"t": 2, "c": 2, "z": 3, "y": 8, "x": 8}
    sizes = {"px_um": 0.5, "z_um": 2.0, "interval_s": 10.0}
    for p, name in enumerate(names):
        image, spread = (
            create_image(root, path, shape, channels=["FITC", "Cy5"], name=name, **sizes)  # type: ignore[arg-type]
            for path in (str(p), f"uncertainty/{p}")
        )
        for index in list(np.ndindex(2, 2, 3))[:-1]:
            write_plane(image, index, planes[(p, *index)])
            write_plane(spread, index, planes[(p, *index)] / 10)
    planes[:, 1, 1, 2] = np.nan
    return planes


@pytest.fixture
def recorded(finished: Path) -> dict[str, Any]:
    """A run's configuration as it lies in the store."""
    document = json.loads((finished / "zarr.json").read_text(encoding="utf-8"))
    config = document["attributes"]["hadascope"]["config"]
    assert isinstance(config, dict)
    return config


def test_the_only_position_of_a_series_is_exported_with_all_its_axes(recorded: dict[str, Any], tmp_path: Path) -> None:
    planes = series_in(tmp_path / "series.zarr", recorded, "left")
    done = export_image(tmp_path / "series.zarr", tmp_path / "left.ome.tif")
    assert done.shape == {"T": 2, "C": 4, "Z": 3, "Y": 8, "X": 8}
    assert done.channels == ("FITC", "Cy5", "FITC, uncertainty", "Cy5, uncertainty")
    assert done.missing_planes == 2
    with tifffile.TiffFile(done.path) as file:
        assert file.series[0].axes == "TCZYX"
        values = file.series[0].asarray()
    np.testing.assert_array_equal(values[:, :2], planes[0])
    np.testing.assert_allclose(values[:, 2:], planes[0] / 10, rtol=1e-6)
    pixels = pixels_of(done.path)
    assert float(pixels.attrib["PhysicalSizeZ"]) == 2.0
    assert float(pixels.attrib["TimeIncrement"]) == 10.0
    assert "left" in description_of(done.path)


def test_a_series_that_finished_has_no_planes_still_to_come(recorded: dict[str, Any], tmp_path: Path) -> None:
    series_in(tmp_path / "series.zarr", recorded, "left")
    group = zarr.open_group(tmp_path / "series.zarr", mode="r+")
    group.attrs["hadascope"] = {**dict(group.attrs["hadascope"]), "state": "finished"}  # type: ignore[arg-type]
    with pytest.raises(ExportError, match=r"64 pixels without a value: its files are damaged.*event's own run"):
        export_image(tmp_path / "series.zarr", tmp_path / "left.ome.tif")
    assert list(tmp_path.glob("*.tif*")) == []


@pytest.mark.parametrize(("asked", "expected"), [("right", 1), ("1", 1), ("0", 0), ("left", 0)])
def test_a_position_is_chosen_by_name_or_number(
    recorded: dict[str, Any], tmp_path: Path, asked: str, expected: int
) -> None:
    planes = series_in(tmp_path / "series.zarr", recorded, "left", "right")
    done = export_image(tmp_path / "series.zarr", tmp_path / "one.ome.tif", position=asked)
    np.testing.assert_array_equal(tifffile.imread(done.path)[:, :2], planes[expected])


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, r"positions 0 \(left\), 1 \(right\): choose one"),
        ({"position": "2"}, r"positions 0 \(left\), 1 \(right\); found 0 that are called '2'"),
        ({"image": "wiener"}, "choose one with --position"),
    ],
)
def test_a_position_that_cannot_be_told_is_asked_for(
    recorded: dict[str, Any], tmp_path: Path, asked: dict[str, str], said: str
) -> None:
    series_in(tmp_path / "series.zarr", recorded, "left", "right")
    with pytest.raises(ExportError, match=said):
        export_image(tmp_path / "series.zarr", tmp_path / "one.ome.tif", **asked)  # type: ignore[arg-type]
    assert list(tmp_path.glob("*.tif*")) == []


def test_the_command_writes_the_file_and_says_what_is_in_it(
    hadascope: CommandLine, finished: Path, recorded: dict[str, Any], tmp_path: Path
) -> None:
    done = hadascope("export", finished, tmp_path / "image.ome.tif")
    assert done.code == 0
    assert "CYX 2 × 8 × 8: reconstruction; uncertainty" in done.out
    again = hadascope("export", finished, tmp_path / "image.ome.tif")
    assert (again.code, "never overwritten unasked" in again.err) == (2, True)
    assert hadascope("export", finished, tmp_path / "image.ome.tif", "--overwrite", "--image", "wiener").code == 0
    assert hadascope("export", finished, tmp_path / "image.tif").code == 2
    series_in(tmp_path / "series.zarr", recorded, "left", "right")
    series = hadascope("export", tmp_path / "series.zarr", tmp_path / "right.ome.tif", "--position", "right")
    assert series.code == 0
    assert "TCZYX 2 × 4 × 3 × 8 × 8" in series.out
    assert "2 planes are empty" in series.out
