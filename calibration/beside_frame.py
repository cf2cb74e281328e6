"""How much of the image region the camera does not see, because it lies beside the frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

# Less than the error that a usable map may have at a corner, and than what the optics blur.
LARGEST_BEYOND_PX: Final = 0.5
_POINTS: Final = 1000


@dataclass(frozen=True)
class BesideFrame:
    """What of an image region lies beside a frame of ``frame_px`` (width, height).

    share: of the region's mirrors, whose light is lost to the frame; beyond_px: how far the farthest of them lies
    beyond the frame's edge, px; below 0 where all lie within.
    """

    share: float
    beyond_px: float
    frame_px: tuple[int, int]

    @classmethod
    def of(cls, outline: NDArray[np.float64], frame_px: tuple[int, int]) -> BesideFrame:
        """Of a region whose outer corners land at ``outline`` float64 [4, 2] (x, y), one after the other round it.

        Pixels have their centres at whole numbers, so that the frame ends at -1/2 and at its size less 1/2. The region
        is a parallelogram; the share is counted over 1000 × 1000 points spread evenly over it.
        """
        beyond_px = float(_beyond(outline, frame_px).max())
        if beyond_px <= 0:
            return cls(0.0, beyond_px, frame_px)
        first, along, down = outline[0], outline[1] - outline[0], outline[3] - outline[0]
        within = (np.arange(_POINTS) + 0.5) / _POINTS
        points = first + within[:, None, None] * along + within[:, None] * down
        share = float((_beyond(points, frame_px) > 0).mean())
        return cls(share, beyond_px, frame_px)

    @property
    def is_too_much(self) -> bool:
        """Whether more of the region is lost than the rounding of a pixel."""
        return not self.beyond_px <= LARGEST_BEYOND_PX

    def __str__(self) -> str:
        share = f"{100 * self.share:.3g} %" if self.share >= 0.001 else "less than 0.1 %"
        width, height = self.frame_px
        return (
            f"{share} of the image region's mirrors lie beside the frame of {width} × {height} px, up to "
            f"{self.beyond_px:.1f} px beyond its edge"
        )


def _beyond(points: NDArray[np.float64], frame_px: tuple[int, int]) -> NDArray[np.float64]:
    """How far points (x, y) float64 [..., 2] lie beyond the nearest edge, px; below 0 within."""
    beyond: NDArray[np.float64] = np.maximum(-0.5 - points, points - (np.array(frame_px) - 0.5)).max(axis=-1)
    return beyond
