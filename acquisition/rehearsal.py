"""From an acquisition on any devices to the same one on simulated devices."""

from __future__ import annotations

from acquisition.config import AcquisitionConfig, Bench
from acquisition.device_sections import Devices, SimulatedDetector, SimulatedProjector, SimulatedShutter


def rehearsal_of(config: AcquisitionConfig) -> AcquisitionConfig:
    """The same acquisition on simulated devices of the same chip: what ``hadascope dry-run`` plays.

    The sample is as bright as sample.expected_total says. Of a real camera its offset is rehearsed, not its frame.
    """
    devices = config.devices
    projector, detector, light = devices.projector, devices.detector, devices.light_source
    if projector.kind == "alp":
        projector = SimulatedProjector(
            kind="simulated",
            dmd=projector.dmd,
            memory_pictures=projector.memory_pictures,
            upload_mb_per_s=projector.upload_mb_per_s,
        )
    if detector.kind == "micro-manager":
        detector = SimulatedDetector(
            kind="simulated",
            offset_per_px=detector.offset_per_px,
            frame_metadata=detector.frame_metadata,
            arming_ms=detector.arming_ms,
        )
    if light.kind == "micro-manager-shutter":
        light = SimulatedShutter(kind="simulated", power_mw=light.power_mw)
    simulated = Devices(projector=projector, detector=detector, light_source=light)
    return config.replace(devices=simulated, bench=_expected_bench(config))


def _expected_bench(config: AcquisitionConfig) -> Bench:
    """The bench as bright as a real sample is expected to be, where the file says so."""
    sample = config.sample
    if config.simulated or sample.expected_total is None:
        return config.bench
    brightness = {
        "photoelectrons_per_px": sample.expected_total / config.bench_gain / config.sensing.side**2,
        "background_photoelectrons": sample.expected_background / config.bench_gain,
    }
    return config.bench.model_copy(update=brightness)
