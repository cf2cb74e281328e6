"""Rendering packed XGA pictures beside copying as many bytes, and beside packing whole frames with NumPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.row import Row
from benchmarks.timing import best_of
from models.pictures import PictureRenderer, Region

PICTURES = 512
WANTED_OF_COPY = 0.6
REGIONS = (
    Region(256, 768, 1024, 128, top=0, left=128, mirrors_per_px=3),
    Region(256, 768, 1024, 128, top=256, left=387, mirrors_per_px=1),
    Region(128, 768, 1024, 128, top=0, left=128, mirrors_per_px=6),
)


def rows() -> list[Row]:
    """Pictures per second into a buffer in use: rendered, copied from another buffer, and packed mirror by mirror."""
    return [row for region in REGIONS for row in _rows(region)]


def _rows(region: Region) -> list[Row]:
    rng = np.random.default_rng(0)
    renderer = PictureRenderer(region)
    indices = rng.integers(0, region.side**2, PICTURES)
    signs = rng.choice(np.array([-1, 1], dtype=np.int8), PICTURES)
    out = renderer.render(indices, signs)
    source = out.copy()
    mirrors = np.unpackbits(source[0], axis=-1).astype(bool)
    packed: NDArray[np.uint8] = np.empty_like(source[0])

    def render() -> None:
        renderer.render(indices, signs, out)

    def copy() -> None:
        np.copyto(out, source)

    def pack_frames() -> None:
        for _ in range(_PACKED_FRAMES):
            packed[:] = np.packbits(mirrors, axis=-1)

    render_s, copy_s, pack_s = best_of([render, copy, pack_frames], 15, rounds=3)
    rendered, copied, framed = PICTURES / render_s, PICTURES / copy_s, _PACKED_FRAMES / pack_s
    what = f"packed XGA pictures, n = {region.side}, {region.mirrors_per_px} mirrors per pixel"
    return [
        Row(
            what, f"{rendered:,.0f}/s", f"np.copyto {copied:,.0f}/s", rendered / copied, f"at least {WANTED_OF_COPY:g}"
        ),
        Row(what, f"{rendered:,.0f}/s", f"np.packbits {framed:,.0f}/s", rendered / framed, "for comparison"),
    ]


_PACKED_FRAMES = 16
