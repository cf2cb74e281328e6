"""Which pixels of the detector's frame are summed into the bucket value: as stated, or as registered."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from acquisition.device_sections import BucketRegion
from acquisition.problems import Problem
from calibration.beside_frame import BesideFrame
from calibration.calibration_file import CalibrationFileError
from calibration.fiducials import region_corners
from calibration.registration import to_pixels
from calibration.registration_file import RegistrationCalibration, read_registration

if TYPE_CHECKING:
    from acquisition.config import AcquisitionConfig

# What is on the very edge of a pixel must not be counted to the next one because of how numbers are rounded.
_EDGE_PX = 1e-6


class BesideTheSensorError(CalibrationFileError):
    """Some of the image region's mirrors lie beside the frame that was registered."""


def bucket_region(config: AcquisitionConfig) -> BucketRegion | None:
    """The pixels that are summed, of the camera's frame; None for all of them.

    With a registration: those on which the image region's mirrors lie, in a box along the frame's axes, with the
    file's margin around it as far as it is on the frame. Raises CalibrationFileError, also where the file has changed
    since the configuration was read, and BesideTheSensorError.
    """
    detector = config.devices.detector
    if detector.registration is None:
        return detector.region
    return registered_region(config, detector.registration, read_registration(detector.registration))


def registered_region(config: AcquisitionConfig, path: Path, registration: RegistrationCalibration) -> BucketRegion:
    """The same for a registration that was read from ``path``.

    Raises CalibrationFileError, BesideTheSensorError where light of the region would be missing.
    """
    left, top, extent = _mirrors(config)
    known = registration.mirrors
    if known.dmd != config.devices.projector.dmd:
        raise CalibrationFileError(
            f"{path} was made with a DMD of kind {known.dmd}, and devices.projector.dmd is "
            f"{config.devices.projector.dmd}: register again"
        )
    reach = (known.left, known.top, known.left + known.extent, known.top + known.extent)
    if left < reach[0] or top < reach[1] or left + extent > reach[2] or top + extent > reach[3]:
        raise CalibrationFileError(
            f"{path} was made for the mirrors of columns {reach[0]} to {reach[2] - 1} and rows {reach[1]} to "
            f"{reach[3] - 1}, and the image region takes columns {left} to {left + extent - 1} and rows {top} to "
            f"{top + extent - 1}: register again with this dmd_region"
        )
    outline = to_pixels(registration.map, region_corners(left, top, extent))
    beside = BesideFrame.of(outline, registration.frame_px)
    if beside.is_too_much:
        raise BesideTheSensorError(
            f"by {path}, {beside}: move or shrink the DMD's image on the sensor and register again, or choose a "
            "dmd_region that lies on the frame"
        )
    box = bounding_box(registration.map, (left, top, extent), config.devices.detector.registration_margin_px)
    x, y, right, bottom = _clipped(box, registration.frame_px)
    return BucketRegion(x=x, y=y, width=right - x + 1, height=bottom - y + 1)


def bounding_box(
    matrix: NDArray[np.float64], mirrors: tuple[int, int, int], margin_px: int
) -> tuple[int, int, int, int]:
    """First x and y, last x and y of the pixels on which mirrors lie, and ``margin_px`` more on every side.

    matrix: float64 [2, 3], from mirrors to pixels, centres at whole numbers; mirrors: first column, first row, extent.
    """
    left, top, extent = mirrors
    ends = np.array([[left - 0.5, top - 0.5], [left + extent - 0.5, top + extent - 0.5]])
    corners = np.array([[column, row, 1.0] for column in ends[:, 0] for row in ends[:, 1]]) @ matrix.T
    x, y = (math.floor(each + 0.5 + _EDGE_PX) - margin_px for each in corners.min(axis=0))
    right, bottom = (math.ceil(each - 0.5 - _EDGE_PX) + margin_px for each in corners.max(axis=0))
    return x, y, right, bottom


def bucket_region_problems(config: AcquisitionConfig) -> Iterator[Problem]:
    """What the file and its registration show to be impossible."""
    detector = config.devices.detector
    if detector.registration is None:
        return
    if detector.region is not None:
        yield Problem("devices.detector.region", "a region beside devices.detector.registration", "one of them")
        return
    try:
        bucket_region(config)
    except CalibrationFileError as error:
        yield Problem("devices.detector.registration", str(error), "a usable registration of this DMD on this camera")


def reading_the_whole_frame(config: AcquisitionConfig) -> AcquisitionConfig:
    """The same acquisition with a detector that sums, or keeps, all of its frame: what a registration begins with."""
    detector = config.devices.detector.model_copy(update={"region": None, "registration": None})
    return config.replace(devices=config.devices.model_copy(update={"detector": detector}))


def _mirrors(config: AcquisitionConfig) -> tuple[int, int, int]:
    """First column and row of the image region, and how many mirrors it extends."""
    region = config.dmd_region
    return region.left, region.top, config.sensing.side * region.mirrors_per_px


def _clipped(box: tuple[int, int, int, int], frame_px: tuple[int, int]) -> tuple[int, int, int, int]:
    width, height = frame_px
    return max(box[0], 0), max(box[1], 0), min(box[2], width - 1), min(box[3], height - 1)
