"""From an acquisition on any devices to the same one on simulated devices."""

from __future__ import annotations

import math
from typing import Any, Final

from acquisition.config import AcquisitionConfig, Bench, Noise
from acquisition.device_sections import (
    CameraSection,
    CameraView,
    Devices,
    DmdSection,
    LightSection,
    SimulatedDetector,
    SimulatedLight,
    SimulatedProjector,
)
from acquisition.section import Section
from calibration.noise_file import read_noise_calibration

# A lab's own frame and device properties mean nothing to the simulated camera.
_NO_FRAME: dict[str, Any] = {"region": None, "registration": None, "camera_roi": None, "binning": None}
_NO_PROPERTIES: dict[str, Any] = {"when_armed": (), "when_left": (), "readout_property": None}

# A sensor on which a region of any size has room, seen as cameras are put on: not quite straight, not quite sharp.
_SENSOR_PX: Final = 256
_SHARE_OF_SENSOR: Final = 0.8
_LARGEST_SCALE: Final = 4.0
_ROTATION_DEG: Final = 2.0
_BLUR_PX: Final = 0.8
# Of a pixel. The offset is ten standard deviations, so that no noise is cut off at 0.
_PX_VARIANCE: Final = 4.0
_PX_OFFSET: Final = 20.0
_PX_LIGHT: Final = 200.0
_PX_PHOTOELECTRONS: Final = 100.0


def rehearsal_of(config: AcquisitionConfig) -> AcquisitionConfig:
    """The same acquisition on simulated devices of the same chip: what ``hadascope dry-run`` plays.

    The sample is as bright as sample.expected_total says, its light as unsteady as a noise calibration found it. Of a
    real camera its offset is rehearsed, not its frame. The sample is sharp in the middle of a series' planes, unless
    bench.focus_um says otherwise.
    """
    devices = config.devices
    projector, detector, light = devices.projector, devices.detector, devices.light_source
    if projector.kind == "alp":
        projector = SimulatedProjector(kind="simulated", **_shared(projector, DmdSection))
    if detector.kind == "micro-manager":
        rehearsed = detector.model_copy(update={**_NO_FRAME, **_NO_PROPERTIES})
        detector = SimulatedDetector(kind="simulated", **_shared(rehearsed, CameraSection))
    if isinstance(light, LightSection) and light.kind != "simulated":
        wire = light.kind if light.kind in ("obis", "sc10") else "shutter"
        power = light.laser_power_mw if light.kind == "obis" else None
        light = SimulatedLight(kind="simulated", wire=wire, laser_power_mw=power, **_shared(light, LightSection))
    simulated = Devices(projector=projector, detector=detector, light_source=light, stage=devices.stage)
    return config.replace(devices=simulated, bench=_expected_bench(config))


def imaging_rehearsal_of(config: AcquisitionConfig) -> AcquisitionConfig:
    """The same with a camera that images the mirrors: what ``hadascope calibrate registration --dry-run`` plays.

    Where the rehearsal's camera has a view, it is that one. Otherwise it gets a sensor of 256 × 256 px that sees the
    image region as a whole, in the middle and a little turned, and as much light and noise as such a sensor needs to
    see dots: how bright the sample is, and how noisy the camera, is not rehearsed then.
    """
    config = rehearsal_of(config)
    devices = config.devices
    detector = devices.detector
    if not isinstance(detector, SimulatedDetector) or detector.view is not None:
        return config
    view = _view_of_region(config)
    imaging = {
        "width_px": _SENSOR_PX,
        "height_px": _SENSOR_PX,
        # Bright cells never reach the full scale of so many bytes.
        "bytes_per_px": 4,
        "view": view,
        "offset_per_px": max(detector.offset_per_px, _PX_OFFSET),
        "buffer_mb": None,
        "full_scale": None,
    }
    gain, variance = config.bench_gain, _PX_VARIANCE * _SENSOR_PX**2
    px_per_image_px = (view.scale * config.dmd_region.mirrors_per_px) ** 2
    bench = {
        "gain": gain,
        "variance": variance,
        "photoelectrons_per_px": max(_PX_LIGHT / gain, _PX_PHOTOELECTRONS) * px_per_image_px,
        "saturation": None,
    }
    return config.replace(
        devices=devices.model_copy(update={"detector": detector.model_copy(update={**_NO_FRAME, **imaging})}),
        noise=Noise(gain=gain, variance=variance),
        bench=config.bench.model_copy(update=bench),
    )


def _view_of_region(config: AcquisitionConfig) -> CameraView:
    """A view in which the middle of the image region is the sensor's, and the region takes most of it."""
    region = config.dmd_region
    extent = config.sensing.side * region.mirrors_per_px
    cosine, sine = math.cos(math.radians(_ROTATION_DEG)), math.sin(math.radians(_ROTATION_DEG))
    scale = min(_SHARE_OF_SENSOR * _SENSOR_PX / (extent * (cosine + sine)), _LARGEST_SCALE)
    column, row = (first + (extent - 1) / 2 for first in (region.left, region.top))
    middle = (_SENSOR_PX - 1) / 2
    return CameraView(
        scale=scale,
        rotation_deg=_ROTATION_DEG,
        x_px=middle - scale * (cosine * column - sine * row),
        y_px=middle - scale * (sine * column + cosine * row),
        blur_px=_BLUR_PX,
    )


def _shared(section: Section, kind: type[Section]) -> dict[str, Any]:
    """The values of a section's keys that all sections of a kind have."""
    return {name: getattr(section, name) for name in kind.model_fields}


def _expected_bench(config: AcquisitionConfig) -> Bench:
    """The bench as bright as a real sample is expected to be, where the file says so, and as noisy as its light was."""
    sample, calibration = config.sample, config.noise.calibration
    if config.simulated:
        return config.bench
    expected = {}
    if sample.expected_total is not None:
        expected["photoelectrons_per_px"] = sample.expected_total / config.bench_gain / config.sensing.side**2
        expected["background_photoelectrons"] = sample.expected_background / config.bench_gain
    if calibration is not None and config.bench.source_noise == 0:
        expected["source_noise"] = max(read_noise_calibration(calibration).source_noise.value, 0.0) ** 0.5
    return config.bench.model_copy(update=expected)
