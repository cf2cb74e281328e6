"""From a camera's frames to bucket values: pixel types, sums over the region, full scale, frame numbers and times."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from devices.detector import Burst
from devices.errors import FrameShapeError

NUMBER_TAG: Final = "ImageNumber"
PIXEL_TYPES: Final[dict[int, Any]] = {1: np.uint8, 2: np.uint16, 4: np.uint32}
_INTEGER_PIXELS: Final = re.compile(r"gray ?32|grey ?32|mono ?32|u?int ?32|unsigned|integer", re.IGNORECASE)


@dataclass(frozen=True)
class FrameFormat:
    """What the frames of a camera are, and which part of them is summed.

    ``region``: x, y, width, height in pixels. ``full_scale``: a pixel at this value or above is saturated.
    Raises FrameShapeError where the region does not lie on the frame, or pixels are not of 1, 2 or 4 bytes.
    """

    camera: str
    width_px: int
    height_px: int
    bytes_per_px: int
    region: tuple[int, int, int, int]
    full_scale: int
    offset_per_px: float

    def __post_init__(self) -> None:
        x, y, width, height = self.region
        fits = x + width <= self.width_px and y + height <= self.height_px
        if not fits or min(x, y) < 0 or min(width, height) < 1:
            raise FrameShapeError(
                f"the bucket region x={x}, y={y}, {width} × {height} px does not lie on camera {self.camera!r}, "
                f"whose frames are {self.width_px} × {self.height_px} px"
            )

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame."""
        return self.width_px * self.height_px * self.bytes_per_px

    @property
    def pixel_type(self) -> Any:
        """The unsigned integers that its pixels are."""
        return PIXEL_TYPES[self.bytes_per_px]

    def region_of(self, frames: list[Any]) -> NDArray[Any]:
        """The region's pixels [n, height, width] of frames that are flat or two-dimensional, signed or not.

        Raises FrameShapeError where the frames are not of this format.
        """
        # axis=None takes flat and two-dimensional frames alike; a single one, perhaps large, need not be copied.
        pixels = np.ravel(frames[0]) if len(frames) == 1 else np.concatenate(frames, axis=None)
        expected = len(frames) * self.width_px * self.height_px
        if pixels.size != expected or pixels.dtype.itemsize != self.bytes_per_px:
            raise FrameShapeError(
                f"{len(frames)} frames of camera {self.camera!r} hold {pixels.size} pixels of {pixels.dtype}; "
                f"expected {expected} of {self.bytes_per_px} bytes; its region of interest or pixel type changed since"
            )
        # The bridge hands some types over as signed ones; the bits are the camera's.
        stack = pixels.view(self.pixel_type).reshape(len(frames), self.height_px, self.width_px)
        x, y, width, height = self.region
        part: NDArray[Any] = stack[:, y : y + height, x : x + width]
        return part

    def bucket_values(self, part: NDArray[Any]) -> NDArray[np.float64]:
        """Sums float64 [n] over the pixels [n, height, width] of the region, minus the offset of all its pixels."""
        _, _, width, height = self.region
        flat = part.reshape(len(part), -1)
        sums: NDArray[np.float64] = flat.sum(axis=1, dtype=np.uint64).astype(np.float64)
        return sums - self.offset_per_px * (width * height)

    def n_saturated(self, part: NDArray[Any]) -> int:
        """In how many frames a pixel of the region stands at full scale."""
        return int((part.reshape(len(part), -1).max(axis=1) >= self.full_scale).sum())


class BurstInProgress:
    """A burst while it is read: ``frames`` that wait for being added up, and what has been added up.

    ``numbers`` and ``times``: the tags of all frames so far, as the camera writes them.
    """

    def __init__(self, frame_format: FrameFormat, n_exposures: int, keep_frames: bool) -> None:
        self._format = frame_format
        self._values = np.empty(n_exposures)
        _, _, width, height = frame_format.region
        shape = (n_exposures, height, width)
        self._kept: NDArray[Any] | None = np.empty(shape, frame_format.pixel_type) if keep_frames else None
        self._n_added = self._saturated = 0
        self.frames: list[Any] = []
        self.numbers: list[str | None] = []
        self.times: list[str | None] = []

    @property
    def n_pending(self) -> int:
        """Frames that were popped and not added up."""
        return len(self.frames)

    def add_up(self) -> None:
        """Make bucket values of what is pending. Raises FrameShapeError."""
        if not self.frames:
            return
        part = self._format.region_of(self.frames)
        these = slice(self._n_added, self._n_added + len(part))
        self._values[these] = self._format.bucket_values(part)
        self._saturated += self._format.n_saturated(part)
        if self._kept is not None:
            self._kept[these] = part
        self._n_added += len(part)
        self.frames.clear()

    def burst(self, us_per_unit: float) -> Burst:
        """All of it; numbers and times only where every frame has one. Times are read in units of ``us_per_unit``."""
        n = len(self._values)
        has_numbers, has_times = (len(each) == n and None not in each for each in (self.numbers, self.times))
        return Burst(
            bucket_values=self._values,
            frame_numbers=np.array([int(each or 0) for each in self.numbers], dtype=np.int64) if has_numbers else None,
            times_us=np.array([float(each or 0) for each in self.times]) * us_per_unit if has_times else None,
            saturated=self._saturated,
            frames=self._kept,
        )


def check_pixels(core: Any, camera: str, width_px: int, height_px: int, bytes_per_px: int) -> None:
    """Raise FrameShapeError unless pixels are grey integers of 1, 2 or 4 bytes.

    Micro-Manager describes 4-byte integers and 32-bit floats alike (4 bytes, one component, tag GRAY32; its
    DemoCamera's "32bit" are floats), so 4 bytes are taken only from a camera whose property PixelType names integers
    (GRAY32, Mono32, uint32 or the like).
    """
    n_components = int(core.get_number_of_components())
    if n_components != 1 or bytes_per_px not in PIXEL_TYPES or min(width_px, height_px) < 1:
        raise FrameShapeError(
            f"camera {camera!r} gives frames of {width_px} × {height_px} pixels of {bytes_per_px} bytes in "
            f"{n_components} components; a grey pixel type (1 component) of 1, 2 or 4 bytes is needed: set it by the "
            "properties when armed"
        )
    if bytes_per_px != 4:
        return
    has_type = core.has_property(camera, "PixelType")
    pixel_type = str(core.get_property(camera, "PixelType")) if has_type else ""
    if not _INTEGER_PIXELS.search(pixel_type) or "float" in pixel_type.lower():
        stated = f"its pixel type is {pixel_type!r}" if has_type else "it has no property PixelType"
        raise FrameShapeError(
            f"the 4-byte pixels of camera {camera!r} may be floating-point numbers ({stated}), and integers are "
            "needed; set a pixel type of 8 or 16 bits by the properties when armed"
        )


def tagged_pop(core: Any, time_tag: str) -> Callable[[], tuple[Any, str | None, str | None]]:
    """A function that pops a frame, its number and its time, as text, None where the camera gives none.

    From a core in this process only these two tags are read, at half the time that reading all of them takes.
    """
    if not any(base.__module__.startswith("pymmcore") for base in type(core).__mro__):

        def pop_all() -> tuple[Any, str | None, str | None]:
            tagged = core.pop_next_tagged_image()
            return tagged.pix, tagged.tags.get(NUMBER_TAG), tagged.tags.get(time_tag)

        return pop_all

    from pymmcore import Metadata

    def pop_two() -> tuple[Any, str | None, str | None]:
        metadata = Metadata()
        frame = core.pop_next_image_md(0, 0, metadata)
        return frame, _tag(metadata, NUMBER_TAG), _tag(metadata, time_tag)

    return pop_two


def _tag(metadata: Any, name: str) -> str | None:
    return metadata.GetSingleTag(name).GetValue() if metadata.HasTag(name) else None
