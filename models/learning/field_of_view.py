"""One image of a field of view, as it was read, with the raw repeats it is the mean of where there are any."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.learning.image_files import NotAnImageError, real, single_image


class Repeats(Protocol):
    """Raw noisy frames of one field of view, which stay where they are until they are asked for."""

    def __len__(self) -> int:
        """How many frames there are."""
        ...

    def read(self, most: int) -> NDArray[np.generic]:
        """The first ``most`` (1 or more) frames that differ, [R, h, w], R ≤ most, in the dtype they are stored in.

        Independent noise never repeats, so a frame that equals an earlier one pixel by pixel is a copy, not a repeat.
        """
        ...


@dataclass(frozen=True)
class FieldOfView:
    """One image of a field of view.

    name: what splits go by; images that share it (planes, channels, crops of one field) are never split up.
    image: the mean, or the only, image float32 [h, w] in native grey values, finite and 0 or more. repeats: the frames
    it is the mean of. source: the file, and the entry of it, for messages and cards.
    """

    name: str
    image: NDArray[np.float32]
    repeats: Repeats | None
    source: str


@dataclass(frozen=True)
class FrameArray:
    """Repeats that are in memory; frames: [R, h, w], integers or floats."""

    frames: NDArray[np.generic]

    def __len__(self) -> int:
        return len(self.frames)

    def read(self, most: int) -> NDArray[np.generic]:
        """The first ``most`` frames that differ, [R, h, w]."""
        return _different(self.frames, most)


@dataclass(frozen=True)
class FrameFiles:
    """Repeats that are image files, one frame each; shape: [h, w] of every one of them."""

    paths: tuple[Path, ...]
    shape: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, most: int) -> NDArray[np.generic]:
        """The first ``most`` frames that differ, [R, h, w]; no more files are opened than that takes.

        Raises NotAnImageError, UnreadableImageError.
        """
        return _different((self._frame(path) for path in self.paths), most)

    def _frame(self, path: Path) -> NDArray[np.generic]:
        frame = real(single_image(path), str(path))
        if frame.shape != self.shape:
            raise NotAnImageError(
                f"{path} is {frame.shape[0]} × {frame.shape[1]} pixels; expected {self.shape[0]} × {self.shape[1]} "
                "pixels, like the mean of the frames"
            )
        return frame


def _different(frames: Iterable[NDArray[np.generic]], most: int) -> NDArray[np.generic]:
    kept: dict[bytes, NDArray[np.generic]] = {}
    for frame in frames:
        kept.setdefault(blake2b(frame.tobytes()).digest(), frame)
        if len(kept) == most:
            break
    return np.stack(list(kept.values()))
