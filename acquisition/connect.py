"""From a configuration to connected devices; the one place where simulated hardware is reached."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acquisition.config import AcquisitionConfig
from acquisition.device_sections import AlpProjector, MicroManagerDetector, MicroManagerShutter, SimulatedDetector
from acquisition.sample_image import read_sample
from devices.detector import Detector
from devices.light_source import LightSource
from devices.projector import Projector


@dataclass(frozen=True)
class ConnectedDevices:
    """The devices of one run and the clock they share: µs, the host's, or the bench's where that is simulated."""

    projector: Projector
    detector: Detector
    light_source: LightSource
    clock_us: Callable[[], float]


@contextmanager
def connected_devices(config: AcquisitionConfig, sample: NDArray[np.float64] | None) -> Iterator[ConnectedDevices]:
    """Connect what the configuration names, and disconnect it in the right order however the block ends.

    sample: light of every pixel float64 [n, n] for a simulated stage, None for a real one. Raises what the drivers
    raise (devices.errors) where a device is not there.
    """
    with ExitStack() as stack:
        if config.simulated:
            if sample is None:
                raise ValueError("a simulated stage needs a sample")
            yield _connect_simulated(config, sample, stack)
        else:
            yield _connect_real(config, stack)


def sample_on_stage(config: AcquisitionConfig) -> NDArray[np.float64] | None:
    """The light x of every pixel in one exposure with its mirrors on, float64 [n, n] in detector units.

    None on a real stage. The sample's image is scaled so that its mean is ``bench.photoelectrons_per_px``
    photo-electrons. Raises acquisition.sample_image.SampleImageError.
    """
    if not config.simulated:
        return None
    n = config.sensing.side
    if config.sample.image is not None:
        image = read_sample(config.sample.image, n)
    else:
        from sim_devices.sample import fluorescent_cells

        image = fluorescent_cells(n, seed=config.bench.seed)
    return np.asarray(image * (config.bench.photoelectrons_per_px * config.bench_gain / image.mean()), dtype=np.float64)


def _connect_real(config: AcquisitionConfig, stack: ExitStack) -> ConnectedDevices:
    from devices.alp import AlpProjector as AlpDriver
    from devices.alp import open_alp
    from devices.light_source import NoLightSource
    from devices.micromanager_core import close_core, connect_core
    from devices.micromanager_shutter import MicroManagerShutter as ShutterDriver

    projector_config, detector_config = config.devices.projector, config.devices.detector
    light_config = config.devices.light_source
    if not isinstance(projector_config, AlpProjector) or not isinstance(detector_config, MicroManagerDetector):
        raise TypeError("a real bench needs a real projector and a real detector")
    # Registered one by one as they are made, so that they end in reverse (light, projector, detector), and whatever is
    # connected when a later one fails is let go of.
    core = connect_core(detector_config.port)
    stack.callback(close_core, core)
    detector = _micromanager_detector(core, detector_config)
    stack.callback(detector.close)
    projector = AlpDriver(open_alp(projector_config.version, projector_config.library_dir))
    stack.callback(projector.close)
    light: LightSource
    if isinstance(light_config, MicroManagerShutter):
        light = ShutterDriver(core, light_config.label, light_config.power_mw)
    else:
        core.set_auto_shutter(False)
        light = NoLightSource(light_config.power_mw)
    stack.callback(light.close)
    return ConnectedDevices(projector, detector, light, lambda: time.monotonic_ns() / 1e3)


def _connect_simulated(config: AcquisitionConfig, sample: NDArray[np.float64], stack: ExitStack) -> ConnectedDevices:
    from devices.alp import AlpProjector as AlpDriver
    from devices.light_source import NoLightSource
    from devices.micromanager_shutter import MicroManagerShutter as ShutterDriver
    from sim_devices.alp_library import SimulatedAlpLibrary, alp4_on
    from sim_devices.bench import BenchSettings, OpticalBench
    from sim_devices.micromanager_core import SimulatedCore
    from sim_devices.sample import place_on_mirrors

    detector_config, light_config = config.devices.detector, config.devices.light_source
    if not isinstance(detector_config, SimulatedDetector):
        raise TypeError("a simulated bench needs a simulated detector")
    chip, region = config.dmd_type, config.dmd_region
    mirror_light = place_on_mirrors(
        sample,
        chip.mirrors_height,
        chip.mirrors_width,
        region.top,
        region.left,
        region.mirrors_per_px,
        region.flip_vertical,
        region.flip_horizontal,
        region.rotation_deg,
    )
    gain = config.bench_gain
    settings = BenchSettings(
        gain=gain,
        variance=config.noise.variance if config.bench.variance is None else config.bench.variance,
        offset=detector_config.offset_per_px * detector_config.width_px * detector_config.height_px,
        background=config.bench.background_photoelectrons * gain,
        bleaching_per_s=config.bench.bleaching_per_s,
        nominal_illumination_us=config.timing.illumination_time_us,
        seed=config.bench.seed,
        shot_noise=config.bench.shot_noise,
        pace=config.bench.pace,
    )
    bench = OpticalBench(settings, mirror_light)
    core = SimulatedCore(
        bench,
        detector_config.width_px,
        detector_config.height_px,
        detector_config.bytes_per_px,
        arming_ms=detector_config.arming_ms,
    )
    library = SimulatedAlpLibrary(
        bench,
        chip.row_bytes,
        chip.alp_codes[0],
        config.memory_pictures,
        chip.min_picture_time_us,
        upload_mb_per_s=config.devices.projector.upload_mb_per_s,
    )
    seen: Any = core
    if detector_config.wire == "zmq":
        from devices.micromanager_core import close_core, connect_core
        from sim_devices.micromanager_server import MicroManagerServer

        server = stack.enter_context(MicroManagerServer(core))
        seen = connect_core(server.port)
        # pycromanager waits for ever for a server that has gone: the core is let go of before the server stops.
        stack.callback(close_core, seen)
    detector = _micromanager_detector(seen, detector_config)
    stack.callback(detector.close)
    projector = AlpDriver(alp4_on(library))
    stack.callback(projector.close)
    light: LightSource
    if light_config.kind == "none":
        core.set_auto_shutter(False)
        bench.set_light(True)
        light = NoLightSource(light_config.power_mw)
    else:
        light = ShutterDriver(seen, core.get_shutter_device(), light_config.power_mw)
    stack.callback(light.close)
    return ConnectedDevices(projector, detector, light, lambda: bench.time_us)


def _micromanager_detector(core: Any, config: MicroManagerDetector | SimulatedDetector) -> Detector:
    from devices.micromanager import MicroManagerDetector as MicroManagerDriver
    from devices.micromanager import MicroManagerSettings

    if isinstance(config, SimulatedDetector):
        settings = MicroManagerSettings(offset_per_px=config.offset_per_px, frame_metadata=config.frame_metadata)
    else:
        region = config.region
        settings = MicroManagerSettings(
            camera=config.camera,
            offset_per_px=config.offset_per_px,
            region=None if region is None else (region.x, region.y, region.width, region.height),
            properties_when_armed=tuple((each.device, each.name, each.value) for each in config.when_armed),
            properties_when_left=tuple((each.device, each.name, each.value) for each in config.when_left),
            frame_metadata=config.frame_metadata,
        )
    return MicroManagerDriver(core, settings)
