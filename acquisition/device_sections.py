"""The devices of an acquisition file: real and simulated kinds of projector, detector and light source."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from acquisition.section import Section, quantity

DmdName = Literal["xga", "1080p", "wuxga", "wqxga"]


class AlpProjector(Section):
    """A ViALUX DMD through ALP4lib."""

    kind: Literal["alp"] = quantity("Kind of projector", "text")
    dmd: DmdName = quantity("Mirror chip, for planning; the device is asked and must agree", "text", "xga")
    version: str = quantity("Version of the ALP library", "text", "4.3")
    library_dir: Path | None = quantity("Folder of the ALP library; none: where ALP4lib looks by default", "path", None)
    memory_pictures: int | None = quantity(
        "Pictures the DMD's memory holds, for planning; none: what a 4 GiB board of this chip holds",
        "pictures",
        None,
        ge=64,
    )
    upload_mb_per_s: float = quantity("Upload rate, for planning only", "MB/s", 300.0, gt=0)


class SimulatedProjector(Section):
    """The stand-in for the ALP library, under the unmodified ALP4lib."""

    kind: Literal["simulated"] = quantity("Kind of projector", "text")
    dmd: DmdName = quantity("Mirror chip that is simulated", "text", "xga")
    memory_pictures: int | None = quantity(
        "Pictures the DMD's memory holds; none: what a 4 GiB board of this chip holds", "pictures", None, ge=64
    )
    upload_mb_per_s: float = quantity("Upload rate declared to the simulated clock", "MB/s", 300.0, gt=0)


class BucketRegion(Section):
    """The part of the detector's frame that is summed into the bucket value."""

    x: int = quantity("First column", "px", 0, ge=0)
    y: int = quantity("First row", "px", 0, ge=0)
    width: int = quantity("Columns", "px", ge=1)
    height: int = quantity("Rows", "px", ge=1)


class DeviceProperty(Section):
    """One device property of Micro-Manager, set by name because every camera calls them differently."""

    device: str = quantity("Device label in Micro-Manager", "text")
    name: str = quantity("Property name", "text")
    value: str = quantity("Value", "text")


class MicroManagerDetector(Section):
    """A camera through a running Micro-Manager and pycromanager."""

    kind: Literal["micro-manager"] = quantity("Kind of detector", "text")
    port: int = quantity("Port of the running Micro-Manager's server", "1", 4827, ge=1, le=65535)
    camera: str | None = quantity("Camera label; none: Micro-Manager's current camera", "text", None)
    region: BucketRegion | None = quantity("Part of the frame to read; none: all of it", "px", None)
    offset_per_px: float = quantity(
        "Camera offset of one pixel, subtracted from every bucket value", "detector units", 0.0, ge=0
    )
    frame_metadata: bool = quantity(
        "Read frame numbers and times with every frame (four times slower over the port)", "yes/no", False
    )
    when_armed: tuple[DeviceProperty, ...] = quantity(
        "Properties to set on connection (trigger mode, gain …)", "text", ()
    )
    when_left: tuple[DeviceProperty, ...] = quantity("Properties to set when leaving, also after a failure", "text", ())
    arming_ms: float = quantity("Time to arm the camera, for planning only", "ms", 20.0, ge=0)


class SimulatedDetector(Section):
    """The simulated Micro-Manager core, handed over directly or behind its server's wire protocol."""

    kind: Literal["simulated"] = quantity("Kind of detector", "text")
    wire: Literal["direct", "zmq"] = quantity(
        "direct: the core itself (fast); zmq: behind a server that the unmodified pycromanager connects to",
        "text",
        "direct",
    )
    width_px: int = quantity("Sensor width", "px", 16, ge=1, le=4096)
    height_px: int = quantity("Sensor height", "px", 16, ge=1, le=4096)
    bytes_per_px: Literal[1, 2, 4] = quantity("Bytes of one pixel", "bytes", 2)
    offset_per_px: float = quantity("Camera offset of one pixel", "detector units", 0.0, ge=0)
    frame_metadata: bool = quantity("Read frame numbers and times with every frame", "yes/no", False)
    arming_ms: float = quantity("Time to arm the camera, declared to the simulated clock", "ms", 20.0, ge=0)


class NoLightSource(Section):
    """A light that is switched by hand and stays on."""

    kind: Literal["none"] = quantity("Kind of light source", "text")
    power_mw: float | None = quantity("Power on the sample, for the dose on record", "mW", None, ge=0)


class MicroManagerShutter(Section):
    """A shutter that Micro-Manager drives."""

    kind: Literal["micro-manager-shutter"] = quantity("Kind of light source", "text")
    label: str = quantity("Shutter label in Micro-Manager", "text")
    power_mw: float | None = quantity("Power on the sample, for the dose on record", "mW", None, ge=0)


class SimulatedShutter(Section):
    """The simulated core's shutter."""

    kind: Literal["simulated"] = quantity("Kind of light source", "text")
    power_mw: float | None = quantity("Power on the sample, for the dose on record", "mW", 1.0, ge=0)


Projector = Annotated[AlpProjector | SimulatedProjector, Field(discriminator="kind")]
Detector = Annotated[MicroManagerDetector | SimulatedDetector, Field(discriminator="kind")]
LightSource = Annotated[NoLightSource | MicroManagerShutter | SimulatedShutter, Field(discriminator="kind")]


class Devices(Section):
    """The three devices of a run."""

    projector: Projector = quantity("What projects the pictures", "device")
    detector: Detector = quantity("What reads one number per exposure", "device")
    light_source: LightSource = quantity("What lights the sample", "device")
