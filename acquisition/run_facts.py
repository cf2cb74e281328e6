"""What is put on record when a run begins, whatever it plays."""

from __future__ import annotations

import platform
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from acquisition.bucket_region import bucket_region
from acquisition.config import AcquisitionConfig, on_record
from acquisition.connected_devices import ConnectedDevices
from acquisition.controller import Controller
from acquisition.registration_check import registration_on_record
from acquisition.run_in_progress import now
from acquisition.run_layout import RunState
from acquisition.run_store import FrameShape
from devices.detector import DetectorInfo

VERSIONS_ON_RECORD = ("hadascope", "numpy", "torch", "zarr", "pydantic", "ALP4lib", "pycromanager", "scikit-image")


def facts_of_file(config: AcquisitionConfig) -> dict[str, Any]:
    """What is known before any device is: the file, and what reads it."""
    return {
        "state": RunState.RUNNING,
        "simulated": config.simulated,
        "started": now(),
        "config": on_record(config),
        "registration": registration_on_record(config),
        "versions": {name: version(name) for name in VERSIONS_ON_RECORD} | {"python": platform.python_version()},
    }


def devices_on_record(devices: ConnectedDevices, controller: Controller) -> dict[str, Any]:
    """What the devices say of themselves, and the timing they accepted."""
    accepted = controller.accepted_timing
    return {
        "devices": devices.described(),
        "accepted_timing": None if accepted is None else asdict(accepted),
    }


def kept_frames(config: AcquisitionConfig, info: DetectorInfo) -> FrameShape | None:
    """What is kept of every frame: the region that is summed."""
    if not config.devices.detector.keep_frames:
        return None
    dtype = f"uint{8 * info.bytes_per_px}"
    region = bucket_region(config)
    if region is None:
        return FrameShape(info.height_px, info.width_px, dtype)
    return FrameShape(region.height, region.width, dtype)
