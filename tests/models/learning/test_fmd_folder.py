"""The folders of the FMD data set, built as its authors' own loader expects them, with small images."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from models.learning.crops import crops_of
from models.learning.fields_of_view import read_fields_of_view
from models.learning.image_files import NotAnImageError, UnreadableImageError

TYPES = ("Confocal_BPAE_G", "Confocal_BPAE_R", "TwoPhoton_MICE")
FIELDS = (1, 2, 10, 19)
N_FRAMES = 5
RNG = np.random.default_rng(0)
FRAMES = {(kind, field): RNG.integers(0, 256, (N_FRAMES, 8, 8), dtype=np.uint8) for kind in TYPES for field in FIELDS}


def mean_of(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(np.round(frames.mean(axis=0)), dtype=np.uint8)


def save(path: Path, image: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


@pytest.fixture
def fmd(tmp_path: Path) -> Path:
    for (kind, field), frames in FRAMES.items():
        for k, frame in enumerate(frames):
            save(tmp_path / kind / "raw" / str(field) / f"HV110_P05005100{k:02}.png", frame)
        save(tmp_path / kind / "avg2" / str(field) / "HV110_P0500510000.png", mean_of(frames[:2]))
        save(tmp_path / kind / "gt" / str(field) / "avg50.png", mean_of(frames))
    for level in ("raw", "avg2", "gt"):
        save(tmp_path / "test_mix" / level / "Confocal_BPAE_G_0.png", FRAMES["Confocal_BPAE_G", 19][0])
    return tmp_path


def test_every_mean_is_read_once_and_no_frame_passes_for_an_image(fmd: Path) -> None:
    fields = read_fields_of_view(fmd)
    expected = [(kind, field) for kind in TYPES for field in FIELDS]
    assert [Path(each.source).relative_to(fmd).as_posix() for each in fields] == [
        f"{kind}/gt/{field}/avg50.png" for kind, field in expected
    ]
    for each, key in zip(fields, expected, strict=True):
        assert each.image.tolist() == mean_of(FRAMES[key]).tolist()


def test_channels_of_one_view_are_one_field(fmd: Path) -> None:
    names = [each.name for each in read_fields_of_view(fmd)]
    numbers = [str(field) for field in FIELDS]
    assert names == [
        f"{view}/{field}" for view in ("Confocal_BPAE", "Confocal_BPAE", "TwoPhoton_MICE") for field in numbers
    ]


def test_one_type_is_read_alone_under_the_same_names(fmd: Path) -> None:
    assert [each.name for each in read_fields_of_view(fmd / "Confocal_BPAE_R")] == [
        f"Confocal_BPAE/{k}" for k in FIELDS
    ]


def test_the_raw_frames_are_the_repeats(fmd: Path) -> None:
    for each, frames in zip(read_fields_of_view(fmd), FRAMES.values(), strict=True):
        assert each.repeats is not None
        assert len(each.repeats) == N_FRAMES
        assert each.repeats.read(3).dtype == np.uint8
        assert each.repeats.read(3).tolist() == frames[:3].tolist()


def test_frames_stay_on_disk_until_they_are_asked_for(fmd: Path) -> None:
    """Broken frames are found when they are read, and only as many are read as are asked for."""
    broken = fmd / "Confocal_BPAE_G" / "raw" / "1" / "HV110_P0500510003.png"
    broken.write_bytes(b"no image")
    fields = read_fields_of_view(fmd)
    assert crops_of(fields, 8, max_repeats=3).repeats is not None
    with pytest.raises(UnreadableImageError, match=broken.name):
        crops_of(fields, 8, max_repeats=4)


def test_a_frame_of_another_size_is_refused(fmd: Path) -> None:
    save(fmd / "Confocal_BPAE_G" / "raw" / "1" / "HV110_P0500510000.png", np.zeros((8, 9), dtype=np.uint8))
    with pytest.raises(NotAnImageError, match="is 8 × 9 pixels; expected 8 × 8 pixels"):
        crops_of(read_fields_of_view(fmd), 8, max_repeats=1)


def test_means_are_enough(fmd: Path) -> None:
    for kind in TYPES:
        shutil.rmtree(fmd / kind / "raw")
    fields = read_fields_of_view(fmd)
    assert len(fields) == len(FRAMES)
    assert all(each.repeats is None for each in fields)


@pytest.mark.parametrize("empty", [False, True], ids=["the folder is there", "no folder"])
def test_a_missing_mean_is_not_made_up(fmd: Path, empty: bool) -> None:
    mean = fmd / "TwoPhoton_MICE" / "gt" / "10" / "avg50.png"
    mean.unlink()
    if empty:
        mean.parent.rmdir()
    with pytest.raises(NotAnImageError, match=r"10.avg50\.png is missing; expected gt/FIELD/avg50.png"):
        read_fields_of_view(fmd)


def test_gt_and_raw_without_images_are_refused(tmp_path: Path) -> None:
    (tmp_path / "gt").mkdir()
    (tmp_path / "raw").mkdir()
    with pytest.raises(NotAnImageError, match="but no image is in them"):
        read_fields_of_view(tmp_path)


def test_the_mixed_test_set_is_read_when_it_is_asked_for(fmd: Path) -> None:
    (field,) = read_fields_of_view(fmd / "test_mix")
    assert field.name == "test_mix/Confocal_BPAE_G_0"
    assert field.repeats is not None
    assert field.repeats.read(50).tolist() == FRAMES["Confocal_BPAE_G", 19][:1].tolist()
