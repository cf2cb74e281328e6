"""From an acquisition on any devices to the same one on simulated devices."""

from __future__ import annotations

from typing import Any

from acquisition.config import AcquisitionConfig, Bench
from acquisition.device_sections import (
    CameraSection,
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


def rehearsal_of(config: AcquisitionConfig) -> AcquisitionConfig:
    """The same acquisition on simulated devices of the same chip: what ``hadascope dry-run`` plays.

    The sample is as bright as sample.expected_total says, its light as unsteady as a noise calibration found it. Of a
    real camera its offset is rehearsed, not its frame.
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
    simulated = Devices(projector=projector, detector=detector, light_source=light)
    return config.replace(devices=simulated, bench=_expected_bench(config))


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
