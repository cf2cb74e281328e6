"""Where a simulated focus device stands when it is connected: where a series needs it, as on a real stage."""

from __future__ import annotations

from functools import lru_cache

import useq

from acquisition.mda import series_events
from devices.microscope import Pose


@lru_cache(maxsize=8)
def focus_at_rest_um(mda: useq.MDASequence) -> float:
    """The middle of a series' planes at the first position that says where they lie, µm; 0 where none does.

    Planes around where the focus stands when the series begins say nothing: they are about it wherever that is. Raises
    what ``series_events`` raises.
    """
    here, elsewhere = (series_events(mda, Pose(z_um=z_um)) for z_um in (0.0, 1.0))
    planes_um: dict[int, list[float]] = {}
    for event, moved in zip(here, elsewhere, strict=True):
        z_um = event.pose.z_um
        if z_um is not None and z_um == moved.pose.z_um:
            planes_um.setdefault(event.index[1], []).append(z_um)
    first_um = planes_um[min(planes_um)] if planes_um else [0.0]
    return min(first_um) / 2 + max(first_um) / 2
