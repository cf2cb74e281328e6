"""The devices of an acquisition file: real and simulated kinds of projector, detector and light source."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from acquisition.section import Section, quantity

DmdName = Literal["xga", "1080p", "wuxga", "wqxga"]


class DmdSection(Section):
    """What every DMD is told."""

    dmd: DmdName = quantity("Mirror chip, for planning; the device is asked and must agree", "text", "xga")
    memory_pictures: int | None = quantity(
        "Pictures the DMD's memory holds, for planning; none: what a 4 GiB board of this chip holds",
        "pictures",
        None,
        ge=64,
    )
    upload_mb_per_s: float = quantity(
        "Upload rate: for planning, and declared to a simulated clock", "MB/s", 300.0, gt=0
    )
    sync_polarity: Literal["high", "low"] = quantity(
        "Level of the synchronisation output during a pulse", "text", "high"
    )
    binary_mode: Literal["normal", "uninterrupted"] = quantity(
        "normal: a short dark phase after every picture; uninterrupted: none, illumination time = picture time",
        "text",
        "normal",
    )
    float_mirrors_at_end: bool = quantity(
        "Release the mirrors to their flat position when the run ends", "yes/no", False
    )


class AlpProjector(DmdSection):
    """A ViALUX DMD through ALP4lib."""

    kind: Literal["alp"] = quantity("Kind of projector", "text")
    version: str = quantity("Version of the ALP library", "text", "4.3")
    library_dir: Path | None = quantity("Folder of the ALP library; none: where ALP4lib looks by default", "path", None)
    device_number: int = quantity("Serial number of the board; 0: the first one found", "1", 0, ge=0)


class SimulatedProjector(DmdSection):
    """The stand-in for the ALP library, under the unmodified ALP4lib."""

    kind: Literal["simulated"] = quantity("Kind of projector", "text")


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


class ReadoutProperty(Section):
    """A camera property that holds its readout time."""

    device: str = quantity("Device label in Micro-Manager", "text")
    name: str = quantity("Property name", "text")
    unit: Literal["us", "ms", "s"] = quantity("Unit of the property's value", "text", "ms")


class CameraSection(Section):
    """What every camera is told, and what is known of it."""

    camera_roi: BucketRegion | None = quantity(
        "Region of interest set on the camera, in binned pixels; none: as it is", "px", None
    )
    binning: int | None = quantity("Binning set on the camera; none: as it is", "px", None, ge=1)
    buffer_mb: int | None = quantity("Circular buffer of the core; none: as it is", "MB", None, ge=1)
    region: BucketRegion | None = quantity(
        "Part of the frame to read; none: what the registration says, or all of it", "px", None
    )
    registration: Path | None = quantity(
        "JSON file that `hadascope calibrate registration` wrote: only pixels on which the image region's mirrors lie "
        "are read (relative paths: from the working folder)",
        "path",
        None,
    )
    registration_margin_px: int = quantity(
        "With a registration: pixels around those mirrors that are read too, for what the optics blur", "px", 2, ge=0
    )
    offset_per_px: float = quantity(
        "Camera offset of one pixel, subtracted from every bucket value", "detector units", 0.0, ge=0
    )
    keep_frames: bool = quantity("Keep the frames themselves in the run, not only their sums", "yes/no", False)
    frame_metadata: bool = quantity(
        "Read frame numbers and times with every frame (four times slower over the port)", "yes/no", False
    )
    time_tolerance_us: float | None = quantity(
        "How far the time between two frames may be off the picture time; none: times are not checked, because many "
        "cameras are stamped when the computer receives the frame",
        "µs",
        None,
        gt=0,
    )
    time_tag: str = quantity("Metadata tag of the frame time", "text", "ElapsedTime-ms")
    time_tag_unit: Literal["us", "ms", "s"] = quantity("Unit of that tag", "text", "ms")
    full_scale: int | None = quantity(
        "Largest pixel value, beyond which the sensor saturates; none: what the camera's bit depth allows",
        "detector units",
        None,
        ge=1,
    )
    readout_property: ReadoutProperty | None = quantity(
        "Camera property that holds the time after an exposure in which no other one can begin", "text", None
    )
    readout_us: float | None = quantity(
        "That time, where no property holds it; 0: exposures overlap readout", "µs", None, ge=0
    )
    readout_calibration: Path | None = quantity(
        "JSON file of a measured readout time, where neither is known", "path", None
    )
    shutter: Literal["global", "rolling"] = quantity("Whether all rows expose together", "text", "global")
    rolling_us: float = quantity(
        "With a rolling shutter: from the first row's start of exposure to the last one's", "µs", 0.0, ge=0
    )
    read_frames_per_s: float | None = quantity(
        "How many frames a second can be read from the core; none: over a port 1500, or 400 with metadata; no limit "
        "otherwise",
        "1/s",
        None,
        gt=0,
    )
    when_armed: tuple[DeviceProperty, ...] = quantity(
        "Properties to set on connection (trigger mode, gain …)", "text", ()
    )
    when_left: tuple[DeviceProperty, ...] = quantity("Properties to set when leaving, also after a failure", "text", ())
    arming_ms: float = quantity(
        "Time to arm the camera: for planning, and declared to a simulated clock", "ms", 20.0, ge=0
    )


class MicroManagerDetector(CameraSection):
    """A camera through Micro-Manager and pycromanager: a running Micro-Manager, or a core in this process."""

    kind: Literal["micro-manager"] = quantity("Kind of detector", "text")
    port: int = quantity("Port of the running Micro-Manager's server", "1", 4827, ge=1, le=65535)
    app_path: Path | None = quantity(
        "Folder of Micro-Manager's device adapters, to run its core in this process; none: the one on the port",
        "path",
        None,
    )
    config_file: Path | None = quantity("Micro-Manager configuration that the core in this process loads", "path", None)
    camera: str | None = quantity("Camera label; none: Micro-Manager's current camera", "text", None)

    @property
    def in_process(self) -> bool:
        """True where the core runs in this process."""
        return self.app_path is not None


class CameraView(Section):
    """How a simulated camera looks at the mirrors: where each one's light falls on the sensor.

    (x, y) = (x_px, y_px) + scale·R(rotation_deg)·(±column, row), the minus where it is mirrored; the centres of
    mirrors and pixels lie at whole numbers.
    """

    scale: float = quantity("Sensor pixels per mirror", "px/mirror", gt=0)
    rotation_deg: float = quantity("Rotation, from the sensor's x towards its y axis", "degrees", 0.0)
    x_px: float = quantity("Where mirror (0, 0) lands on the sensor: column", "px", 0.0)
    y_px: float = quantity("Where mirror (0, 0) lands on the sensor: row", "px", 0.0)
    mirrored: bool = quantity("Mirror columns reversed, before the rotation", "yes/no", False)
    blur_px: float = quantity("Standard deviation of a Gaussian point-spread function", "px", 0.0, ge=0)


class SimulatedDetector(CameraSection):
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
    view: CameraView | None = quantity(
        "How the sensor sees the mirrors, each pixel with light and noise of its own; light beside the sensor is lost, "
        "and an image of the sensor's size is kept of every picture in the DMD's memory; none: frames are even, and "
        "their sum is all the light",
        "section",
        None,
    )


class LightSection(Section):
    """What every light source is told."""

    power_mw: float | None = quantity("Power on the sample, for the dose on record", "mW", None, ge=0)
    only_while_exposing: bool = quantity(
        "Light only while a block is exposed, and not while the detector is armed or pictures are waited for",
        "yes/no",
        False,
    )


class NoLightSource(Section):
    """A light that is switched by hand and stays on."""

    kind: Literal["none"] = quantity("Kind of light source", "text")
    power_mw: float | None = quantity("Power on the sample, for the dose on record", "mW", None, ge=0)
    only_while_exposing: Literal[False] = quantity("It cannot be switched", "yes/no", False)


class MicroManagerShutter(LightSection):
    """A shutter that Micro-Manager drives."""

    kind: Literal["micro-manager-shutter"] = quantity("Kind of light source", "text")
    label: str = quantity("Shutter label in Micro-Manager", "text")


class ObisLaser(LightSection):
    """A Coherent OBIS laser on a serial port."""

    kind: Literal["obis"] = quantity("Kind of light source", "text")
    port: str = quantity("Serial port: COM3, /dev/ttyACM0, socket://host:port", "text")
    laser_power_mw: float | None = quantity(
        "Power the laser is set to during the run, at its own output; none: as it is", "mW", None, gt=0
    )
    switching_timeout_s: float = quantity(
        "How long light may be waited for: a safety delay of 5 s, and warming up, are part of it", "s", 15.0, gt=0
    )


class Sc10Shutter(LightSection):
    """A shutter on a Thorlabs SC10 controller on a serial port."""

    kind: Literal["sc10"] = quantity("Kind of light source", "text")
    port: str = quantity("Serial port: COM3, /dev/ttyUSB0, socket://host:port", "text")
    switching_timeout_s: float = quantity("How long the blade may take to open or close", "s", 1.0, gt=0)


class SimulatedLight(LightSection):
    """A light on the bench: the simulated core's shutter, or a serial peer under the unmodified pyserial."""

    kind: Literal["simulated"] = quantity("Kind of light source", "text")
    wire: Literal["shutter", "obis", "sc10"] = quantity(
        "shutter: the simulated core's; obis, sc10: a peer that speaks that device's serial protocol", "text", "shutter"
    )
    power_mw: float | None = quantity("Power on the sample, for the dose on record", "mW", 1.0, ge=0)
    laser_power_mw: float | None = quantity("Power an OBIS peer is set to; none: as it is", "mW", None, gt=0)


class Stage(Section):
    """Stage, focus and channels of Micro-Manager, for series of images at several of them."""

    xy_tolerance_um: float = quantity("How far x and y may read back from where they were sent", "µm", 1.0, gt=0)
    z_tolerance_um: float = quantity("How far z may read back from where it was sent", "µm", 0.5, gt=0)
    move_timeout_s: float = quantity(
        "How long channel, XY and Z may each stay busy before the run stops", "s", 30.0, gt=0, le=600
    )
    channel_read_back: bool = quantity(
        "Whether a preset must read back by its name; no: it is set and waited for, as where two presets say the same, "
        "or a device writes a number in other words than the preset does",
        "yes/no",
        True,
    )
    settle_ms: float = quantity("Time to come to rest after a move, in the dark", "ms", 0.0, ge=0, le=600_000)
    move_ms: float = quantity(
        "Time that each of channel, XY and Z takes to move: for planning, and declared to a simulated clock",
        "ms",
        50.0,
        ge=0,
    )


Projector = Annotated[AlpProjector | SimulatedProjector, Field(discriminator="kind")]
Detector = Annotated[MicroManagerDetector | SimulatedDetector, Field(discriminator="kind")]
LightSource = Annotated[
    NoLightSource | MicroManagerShutter | ObisLaser | Sc10Shutter | SimulatedLight, Field(discriminator="kind")
]


class Devices(Section):
    """The three devices of a run, and what moves between two images of a series."""

    projector: Projector = quantity("What projects the pictures", "device")
    detector: Detector = quantity("What reads one number per exposure", "device")
    light_source: LightSource = quantity("What lights the sample", "device")
    stage: Stage = quantity("How stage, focus and channels are moved", "section", Stage())
