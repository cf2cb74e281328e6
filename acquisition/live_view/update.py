"""A state of the live view as the bytes of one update.

4 bytes: length L of the header, little-endian; L bytes: the header, JSON in UTF-8, filled up with blanks so that 4 + L
is a multiple of 8; then the arrays, each beginning at a multiple of 8 bytes from the end of the header.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

import numpy as np

from acquisition.live_view.state import ViewArray, ViewState

ALIGNMENT = 8


def encode_update(state: ViewState, known: Mapping[str, int]) -> bytes:
    """One update; known: revisions of the arrays that the viewer has, which are left out."""
    arrays = news_of(state, known)
    described: list[dict[str, Any]] = []
    data: list[bytes | memoryview] = []
    at = 0
    for array in arrays:
        little_endian = array.values.astype(array.values.dtype.newbyteorder("<"), copy=False)
        values = np.ascontiguousarray(little_endian).reshape(-1).view(np.uint8).data
        described.append(
            {
                "name": array.name,
                "dtype": array.values.dtype.name,
                "shape": list(array.values.shape),
                "offset": at,
                "unit": array.unit,
            }
        )
        gap = -len(values) % ALIGNMENT
        data += [values, bytes(gap)]
        at += len(values) + gap
    header = json.dumps({**_facts(state), "arrays": described}, ensure_ascii=False, allow_nan=False).encode()
    header += b" " * (-(4 + len(header)) % ALIGNMENT)
    return b"".join([struct.pack("<I", len(header)), header, *data])


def news_of(state: ViewState, known: Mapping[str, int]) -> tuple[ViewArray, ...]:
    """The arrays of a state that are others than those of these revisions."""
    return tuple(array for array in state.arrays if known.get(array.name) != array.revision)


def _facts(state: ViewState) -> dict[str, Any]:
    """Everything but the arrays, without numbers that JSON does not have."""
    facts = {field.name: getattr(state, field.name) for field in fields(state) if field.name != "arrays"}
    facts["place"] = None if state.place is None else asdict(state.place)
    facts["warnings"] = [asdict(remark) for remark in state.warnings]
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in facts.items()
    }
