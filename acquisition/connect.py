"""From a configuration to connected devices, each let go of in the right order however the run ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acquisition.bucket_region import bucket_region
from acquisition.config import AcquisitionConfig
from acquisition.connected_devices import ConnectedDevices
from acquisition.device_sections import (
    AlpProjector,
    BucketRegion,
    DmdSection,
    MicroManagerDetector,
    ObisLaser,
    SimulatedDetector,
    SimulatedLight,
    Stage,
)
from acquisition.interrupts import Ending
from devices.detector import Detector
from devices.errors import FrameShapeError
from devices.light_source import LightSource
from devices.microscope import Microscope, Pose
from devices.projector import Projector


@contextmanager
def connected_devices(config: AcquisitionConfig, sample: NDArray[np.float64] | None) -> Iterator[ConnectedDevices]:
    """Connect what the configuration names, and disconnect it in the right order however the block ends.

    sample: light of every pixel float64 [n, n] for a simulated stage, None for a real one. Raises what the drivers
    raise (devices.errors) where a device is not there.
    """
    with Ending() as stack:
        if config.simulated:
            from acquisition.simulated_bench import connect_simulated

            if sample is None:
                raise ValueError("a simulated stage needs a sample")
            yield connect_simulated(config, sample, stack)
        else:
            yield _connect_real(config, stack)


@contextmanager
def connected_light_path(
    config: AcquisitionConfig, sample: NDArray[np.float64] | None, laser_power_mw: float | None = None
) -> Iterator[tuple[Projector, LightSource]]:
    """Projector and light source alone, so that the camera can be looked through by other programs meanwhile.

    laser_power_mw: instead of the file's, where the light source is a laser that can be told. Raises what
    ``connected_devices`` raises.
    """
    light = config.devices.light_source
    if laser_power_mw is not None and isinstance(light, ObisLaser | SimulatedLight):
        told = light.model_copy(update={"laser_power_mw": laser_power_mw})
        config = config.replace(devices=config.devices.model_copy(update={"light_source": told}))
    with Ending() as stack:
        if config.simulated:
            from acquisition.simulated_bench import connect_simulated

            if sample is None:
                raise ValueError("a simulated stage needs a sample")
            devices = connect_simulated(config, sample, stack)
            yield devices.projector, devices.light_source
        else:
            projector = connected_projector(alp_section(config), stack)
            yield projector, connected_light_source(config, None, stack)


def connected_projector(config: AlpProjector, stack: ExitStack) -> Projector:
    """A real projector alone, closed when the stack ends. Raises what its driver raises."""
    from devices.alp import AlpProjector as AlpDriver
    from devices.alp_library import open_alp

    projector = AlpDriver(open_alp(config.version, config.library_dir), alp_settings(config))
    stack.callback(projector.close)
    return projector


def sample_on_stage(config: AcquisitionConfig, pose: Pose | None = None) -> NDArray[np.float64] | None:
    """The light x of every pixel in one exposure with its mirrors on, float64 [n, n] in detector units.

    pose: where the stage stands; None, also in it: where a simulated one stands when it is connected. None on a real
    stage. Raises acquisition.sample_image.SampleImageError.
    """
    if not config.simulated:
        return None
    from acquisition.simulated_bench import simulated_sample

    return simulated_sample(config, pose)


def micromanager_detector(
    core: Any, config: MicroManagerDetector | SimulatedDetector, region: BucketRegion | None
) -> Detector:
    """The driver of a camera on a Micro-Manager core, set up as the file says.

    region: the pixels it sums, None for all of them. Raises what the driver raises.
    """
    from devices.micromanager import MicroManagerDetector as MicroManagerDriver
    from devices.micromanager_settings import MicroManagerSettings

    readout = config.readout_property
    settings = MicroManagerSettings(
        camera=config.camera if config.kind == "micro-manager" else None,
        offset_per_px=config.offset_per_px,
        region=_corners(region),
        properties_when_armed=tuple((each.device, each.name, each.value) for each in config.when_armed),
        properties_when_left=tuple((each.device, each.name, each.value) for each in config.when_left),
        frame_metadata=config.frame_metadata or config.time_tolerance_us is not None,
        binning=config.binning,
        camera_roi=_corners(config.camera_roi),
        buffer_mb=config.buffer_mb,
        keep_frames=config.keep_frames,
        time_tag=config.time_tag,
        time_tag_unit=config.time_tag_unit,
        full_scale=config.full_scale,
        readout_property=None if readout is None else (readout.device, readout.name, readout.unit),
    )
    try:
        return MicroManagerDriver(core, settings)
    except FrameShapeError as error:
        if config.registration is not None:
            error.add_note(f"the bucket region is what {config.registration} gives: was the camera set otherwise then?")
        raise


def alp_settings(config: DmdSection) -> Any:
    """What an ALP board is told when it is connected."""
    from devices.alp_settings import AlpSettings

    return AlpSettings(
        sync_polarity=config.sync_polarity,
        binary_mode=config.binary_mode,
        float_mirrors_at_end=config.float_mirrors_at_end,
        device_number=config.device_number if isinstance(config, AlpProjector) else 0,
    )


def _connect_real(config: AcquisitionConfig, stack: ExitStack) -> ConnectedDevices:
    # Registered one by one as they are made, so that they end in reverse (light, projector, detector), and whatever is
    # connected when a later one fails is let go of.
    core = connected_core(config, stack)
    detector = connected_detector(config, core, stack)
    projector = connected_projector(alp_section(config), stack)
    light = connected_light_source(config, core, stack)
    return ConnectedDevices(
        projector,
        detector,
        light,
        lambda: time.perf_counter_ns() / 1e3,
        core=core,
        microscope=micromanager_microscope(core, config.devices.stage, time.sleep),
    )


def micromanager_microscope(core: Any, config: Stage, wait: Callable[[float], None]) -> Microscope:
    """The driver of stage, focus and channels on a Micro-Manager core; wait: lets so many seconds pass."""
    from devices.micromanager_microscope import MicroManagerMicroscope

    return MicroManagerMicroscope(
        core,
        config.xy_tolerance_um,
        config.z_tolerance_um,
        config.move_timeout_s,
        config.settle_ms / 1e3,
        wait,
        config.channel_read_back,
    )


def alp_section(config: AcquisitionConfig) -> AlpProjector:
    """The real projector of a file. Raises TypeError on a simulated bench."""
    if not isinstance(config.devices.projector, AlpProjector):
        raise TypeError("a real bench needs a real projector")
    return config.devices.projector


def connected_core(config: AcquisitionConfig, stack: ExitStack) -> Any:
    """The Micro-Manager core of a real bench, let go of when the stack ends. Raises what its connection raises."""
    from devices.micromanager_core import close_core, connect_core, start_core, stop_core

    detector = _micromanager(config)
    if detector.in_process:
        core = start_core(detector.app_path, detector.config_file)
        stack.callback(stop_core, core)
    else:
        core = connect_core(detector.port)
        stack.callback(close_core, core)
    return core


def connected_detector(config: AcquisitionConfig, core: Any, stack: ExitStack) -> Detector:
    """The camera of a real bench on its core, left as it was when the stack ends. Raises what its driver raises."""
    detector = micromanager_detector(core, _micromanager(config), bucket_region(config))
    stack.callback(detector.close)
    return detector


def _micromanager(config: AcquisitionConfig) -> MicroManagerDetector:
    if not isinstance(config.devices.detector, MicroManagerDetector):
        raise TypeError("a real bench needs a real detector")
    return config.devices.detector


def connected_light_source(config: AcquisitionConfig, core: Any, stack: ExitStack) -> LightSource:
    """The light source of a real bench, off, and off when the stack ends.

    core: Micro-Manager's, None to connect one where the light needs it. Raises what its driver raises.
    """
    from devices.coherent_obis import CoherentObis
    from devices.light_source import NoLightSource as NoLightDriver
    from devices.micromanager_shutter import MicroManagerShutter as ShutterDriver
    from devices.thorlabs_sc10 import ThorlabsSc10

    light = config.devices.light_source
    source: LightSource
    if light.kind == "micro-manager-shutter":
        if core is None:
            core = connected_core(config, stack)
        source = ShutterDriver(core, light.label, light.power_mw)
    elif core is not None:
        # Micro-Manager would open and close its shutter with every camera sequence.
        stack.callback(core.set_auto_shutter, bool(core.get_auto_shutter()))
        core.set_auto_shutter(False)
    if light.kind == "obis":
        source = CoherentObis(light.port, power_mw=light.laser_power_mw, emission_timeout_s=light.switching_timeout_s)
    elif light.kind == "sc10":
        source = ThorlabsSc10(light.port, power_mw=light.power_mw, blade_timeout_s=light.switching_timeout_s)
    elif light.kind == "none":
        source = NoLightDriver(light.power_mw)
    elif light.kind == "simulated":
        raise TypeError("a real bench needs a real light source")
    stack.callback(source.close)
    return source


def _corners(region: BucketRegion | None) -> tuple[int, int, int, int] | None:
    return None if region is None else (region.x, region.y, region.width, region.height)
