"""From a configuration to stand-ins on one bench, and our drivers on them; the one place that reaches sim_devices."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acquisition.bucket_region import bucket_region
from acquisition.config import AcquisitionConfig
from acquisition.connect import alp_settings, micromanager_detector, micromanager_microscope
from acquisition.connected_devices import ConnectedDevices
from acquisition.device_sections import SimulatedDetector, SimulatedLight
from acquisition.sample_image import read_sample
from devices.light_source import LightSource, NoLightSource
from devices.microscope import Pose
from sim_devices.alp_library import SimulatedAlpLibrary, alp4_on
from sim_devices.bench import BenchSettings, BenchState, OpticalBench
from sim_devices.micromanager_core import SimulatedCore
from sim_devices.micromanager_server import MicroManagerServer
from sim_devices.moving_parts import MovingParts, Standing
from sim_devices.obis_peer import ObisPeer
from sim_devices.sample import place_on_mirrors
from sim_devices.sc10_peer import Sc10Peer
from sim_devices.sensor_images import SensorImages, View
from sim_devices.specimen import Channel, Specimen, brightness, generated_structures, turned_structures


@dataclass(frozen=True)
class StandIns:
    """What stands at the ends of the cables: faults are injected here. None where the wire is another one."""

    bench: OpticalBench
    library: SimulatedAlpLibrary
    core: SimulatedCore
    server: MicroManagerServer | None
    light: ObisPeer | Sc10Peer | None


def simulated_sample(config: AcquisitionConfig, pose: Pose | None = None) -> NDArray[np.float64]:
    """The light x of every pixel float64 [n, n] in detector units: an image of the file's, or generated cells.

    It is scaled so that its mean is ``bench.photoelectrons_per_px`` photo-electrons without a channel, and a channel's
    brightness times that in one. pose: where the stage stands, None in it being where it stands when it is connected,
    (0, 0), in focus, in no channel (see sim_devices.specimen.Specimen). Raises SampleImageError.
    """
    pose = Pose() if pose is None else pose
    return simulated_specimen(config).light(pose.x_um or 0.0, pose.y_um or 0.0, pose.z_um, pose.channel)


def simulated_specimen(config: AcquisitionConfig, at_rest: NDArray[np.float64] | None = None) -> Specimen:
    """What lies on the simulated stage, from all sides.

    at_rest: light of every pixel float64 [n, n] where the stage stands when it is connected, None for the file's own.
    A pixel without a known size (config.px_um) is 1 µm wide. Raises SampleImageError.
    """
    n, bench = config.sensing.side, config.bench
    if config.sample.image is None:
        structures = generated_structures(n, bench.seed)
    else:
        structures = turned_structures(read_sample(config.sample.image, n))

    def light(channel: Channel | None) -> NDArray[np.float64]:
        if channel is None and at_rest is not None:
            return at_rest
        image = structures(channel)
        mean = bench.photoelectrons_per_px * config.bench_gain * brightness(channel)
        return np.asarray(image * (mean / image.mean()), dtype=np.float64)

    assert bench.focus_um is not None  # filled in where the file says nothing of it
    return Specimen(light, config.px_um or 1.0, bench.focus_um, bench.blur_px_per_um)


def connect_simulated(config: AcquisitionConfig, sample: NDArray[np.float64], stack: ExitStack) -> ConnectedDevices:
    """Our drivers on stand-ins that share one bench; sample: light of every pixel float64 [n, n]."""
    from devices.alp import AlpProjector as AlpDriver

    detector_config, projector_config = config.devices.detector, config.devices.projector
    if not isinstance(detector_config, SimulatedDetector):
        raise TypeError("a simulated bench needs a simulated detector")
    bench = _bench(config, sample, detector_config)
    core = SimulatedCore(
        bench,
        detector_config.width_px,
        detector_config.height_px,
        detector_config.bytes_per_px,
        arming_ms=detector_config.arming_ms,
        readout_us=detector_config.readout_us or None,
        saturation=config.bench.saturation,
        moving=_moving_parts(config, sample, bench),
    )
    chip = config.dmd_type
    library = SimulatedAlpLibrary(
        bench,
        chip.row_bytes,
        chip.alp_codes[0],
        config.memory_pictures,
        chip.min_picture_time_us,
        upload_mb_per_s=projector_config.upload_mb_per_s,
    )
    server, seen = _way_to(core, detector_config, stack)
    detector = micromanager_detector(seen, detector_config, bucket_region(config))
    stack.callback(detector.close)
    projector = AlpDriver(alp4_on(library), alp_settings(projector_config))
    stack.callback(projector.close)
    peer, light = _light(config, bench, core, seen, stack)
    stack.callback(light.close)
    wait = _wait_on(bench)
    return ConnectedDevices(
        projector,
        detector,
        light,
        clock_us=lambda: bench.time_us,
        bench_state=lambda: tuple(float(value) for value in astuple(bench.state)),
        restore_bench=lambda state: bench.restore(BenchState(int(state[0]), *state[1:])),
        wait=wait,
        core=seen,
        stand_ins=StandIns(bench, library, core, server, peer),
        microscope=micromanager_microscope(seen, config.devices.stage, wait),
    )


def channel_groups(config: AcquisitionConfig) -> dict[str, tuple[str, ...]]:
    """The config groups and presets of the simulated core: those that the file's series asks for, in its order."""
    groups: dict[str, list[str]] = {}
    for channel in () if config.mda is None else config.mda.channels:
        presets = groups.setdefault(channel.group, [])
        if channel.config not in presets:
            presets.append(channel.config)
    return {group: tuple(presets) for group, presets in groups.items()}


def _moving_parts(config: AcquisitionConfig, sample: NDArray[np.float64], bench: OpticalBench) -> MovingParts:
    """Stage, focus and channels, each of whose moves puts the specimen's light there on the bench's mirrors."""
    specimen = simulated_specimen(config, sample)

    def show(standing: Standing) -> None:
        light = specimen.light(standing.x_um, standing.y_um, standing.z_um, standing.channel)
        mirror_light = _on_mirrors(config, light)
        if bench.sensor_images is None:
            bench.relight(mirror_light)
        else:
            images = bench.sensor_images.relit(mirror_light)
            bench.relight(images.arriving, images)

    return MovingParts(bench, channel_groups(config), config.devices.stage.move_ms, specimen.focus_um, show)


def _on_mirrors(config: AcquisitionConfig, image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where the light of an image float64 [n, n] lies on the mirrors: float64 [H, W]."""
    chip, region = config.dmd_type, config.dmd_region
    return place_on_mirrors(
        image,
        chip.mirrors_height,
        chip.mirrors_width,
        region.top,
        region.left,
        region.mirrors_per_px,
        region.flip_vertical,
        region.flip_horizontal,
        region.rotation_deg,
    )


def _bench(config: AcquisitionConfig, sample: NDArray[np.float64], detector: SimulatedDetector) -> OpticalBench:
    gain, mirror_light = config.bench_gain, _on_mirrors(config, sample)
    settings = BenchSettings(
        gain=gain,
        variance=config.noise.variance if config.bench.variance is None else config.bench.variance,
        offset=detector.offset_per_px * detector.width_px * detector.height_px,
        background=config.bench.background_photoelectrons * gain,
        bleaching_per_s=config.bench.bleaching_per_s,
        nominal_illumination_us=config.timing.illumination_time_us,
        seed=config.bench.seed,
        shot_noise=config.bench.shot_noise,
        pace=config.bench.pace,
        source_noise=config.bench.source_noise,
        lamp_drift=config.bench.lamp_drift,
        lamp_drift_period_s=config.bench.lamp_drift_period_s,
        lamp_fading_per_s=config.bench.lamp_fading_per_s,
        dmd_contrast=config.bench.dmd_contrast,
    )
    if detector.view is None:
        return OpticalBench(settings, mirror_light)
    view, lit = View(**detector.view.model_dump()), _on_mirrors(config, np.ones_like(sample)) > 0
    images = SensorImages(view, mirror_light, detector.height_px, detector.width_px, lit)
    return OpticalBench(settings, images.arriving, sensor_images=images)


def _wait_on(bench: OpticalBench) -> Callable[[float], None]:
    """Lets seconds pass by the bench's clock, and by the wall clock at the bench's pace."""

    def wait(duration_s: float) -> None:
        if duration_s < 0:
            raise ValueError(f"a wait of {duration_s} s was asked for; expected 0 or more")
        bench.spend(round(duration_s * 1e6))
        time.sleep(bench.settings.pace * duration_s)

    return wait


def _way_to(core: SimulatedCore, config: SimulatedDetector, stack: ExitStack) -> tuple[MicroManagerServer | None, Any]:
    """The core itself, or what pycromanager makes of it over a port."""
    if config.wire == "direct":
        return None, core
    from devices.micromanager_core import close_core, connect_core

    server = stack.enter_context(MicroManagerServer(core))
    seen = connect_core(server.port)
    stack.callback(close_core, seen)
    return server, seen


def _light(
    config: AcquisitionConfig, bench: OpticalBench, core: SimulatedCore, seen: Any, stack: ExitStack
) -> tuple[ObisPeer | Sc10Peer | None, LightSource]:
    from devices.coherent_obis import CoherentObis
    from devices.micromanager_shutter import MicroManagerShutter
    from devices.thorlabs_sc10 import ThorlabsSc10

    light = config.devices.light_source
    if not isinstance(light, SimulatedLight):
        core.set_auto_shutter(False)
        bench.set_light(True)
        return None, NoLightSource(light.power_mw)
    if light.wire == "shutter":
        return None, MicroManagerShutter(seen, core.get_shutter_device(), light.power_mw)
    core.set_auto_shutter(False)
    if light.wire == "obis":
        laser = stack.enter_context(ObisPeer(bench))
        return laser, CoherentObis(laser.url, power_mw=light.laser_power_mw)
    controller = stack.enter_context(Sc10Peer(bench))
    return controller, ThorlabsSc10(controller.url, power_mw=light.power_mw)
