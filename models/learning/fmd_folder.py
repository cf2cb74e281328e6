"""The folders of the FMD data set (Zhang et al., CVPR 2019), as published.

TYPE/raw/FIELD/*.png are 50 noisy frames, TYPE/gt/FIELD/avg50.png is their mean; TYPE is Confocal_MICE, say, FIELD 1 to
20. avg2, avg4, avg8 and avg16 hold means of few frames, which are not needed. test_mix/raw/*.png and test_mix/gt/*.png
hold one frame each of several types, with the same name as its mean.
"""

from __future__ import annotations

import re
from pathlib import Path

from models.learning.field_of_view import FieldOfView, FrameFiles
from models.learning.image_files import NotAnImageError, grey, in_natural_order, single_image

MIXED_TEST_SET = "test_mix"


def is_fmd_type(path: Path) -> bool:
    """Whether a folder is one TYPE of the data set: it holds gt and raw, or at least gt/FIELD/avg50.png."""
    return (path / "gt").is_dir() and ((path / "raw").is_dir() or any((path / "gt").glob("*/avg50.png")))


def read_fmd_type(path: Path, name: str) -> list[FieldOfView]:
    """The means of all fields of view of one TYPE; their repeats are the raw frames, which stay on disk.

    The fields are named TYPE/FIELD, without the _R, _G or _B of a TYPE that is one channel: the channels show the same
    view. Raises NotAnImageError, UnreadableImageError; where a mean is missing, too.
    """
    view = re.sub(r"_[RGB]$", "", name)
    fields = []
    for mean, frames in _means_and_frames(path):
        image = grey(single_image(mean), str(mean))
        repeats = FrameFiles(frames, image.shape) if frames else None
        field = mean.parent.name if mean.name == _MEAN else mean.stem
        fields.append(FieldOfView(f"{view}/{field}", image, repeats, str(mean)))
    return fields


def _means_and_frames(path: Path) -> list[tuple[Path, tuple[Path, ...]]]:
    gt, raw = path / "gt", path / "raw"
    # No names that start with a dot: file managers leave such beside the images.
    flat = in_natural_order(gt.glob("[!.]*.png"))
    if flat and not any(entry.is_dir() for entry in gt.iterdir()):
        return [(mean, tuple(frame for frame in [raw / mean.name] if frame.is_file())) for mean in flat]
    fields = {folder.name for side in (gt, raw) if side.is_dir() for folder in side.iterdir() if folder.is_dir()}
    folders = in_natural_order(gt / field for field in fields if not field.startswith("."))
    missing = [folder / _MEAN for folder in folders if not (folder / _MEAN).is_file()]
    if missing or not folders:
        raise NotAnImageError(
            f"{path} holds gt and raw as a TYPE of the FMD data set does, but {missing[0] if missing else 'no image'} "
            f"{'is missing' if missing else 'is in them'}; expected gt/FIELD/{_MEAN} for every field of view. To read "
            "images in other folders, name the folder that they are in"
        )
    return [(folder / _MEAN, tuple(in_natural_order((raw / folder.name).glob("[!.]*.png")))) for folder in folders]


_MEAN = "avg50.png"
