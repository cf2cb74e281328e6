"""Where an acquisition's pixels lie on the mirrors of its chip."""

from __future__ import annotations

from acquisition.config import AcquisitionConfig
from models.pictures import Region


def dmd_region(config: AcquisitionConfig) -> Region:
    """The region of the file on the chip it names."""
    chip, region = config.dmd_type, config.dmd_region
    return Region(
        side=config.sensing.side,
        mirrors_height=chip.mirrors_height,
        mirrors_width=chip.mirrors_width,
        row_bytes=chip.row_bytes,
        top=region.top,
        left=region.left,
        mirrors_per_px=region.mirrors_per_px,
        flip_vertical=region.flip_vertical,
        flip_horizontal=region.flip_horizontal,
        rotation_deg=region.rotation_deg,
    )
