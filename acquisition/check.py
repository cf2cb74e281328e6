"""Can this file run on this bench? Everything is asked of the devices, and nothing lights the sample."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import useq
from numpy.typing import NDArray

from acquisition.bench_check import check_bench, shortened_plan
from acquisition.calibration_identity import check_noise_calibration
from acquisition.config import AcquisitionConfig
from acquisition.connect import connected_devices, sample_on_stage
from acquisition.connected_devices import ConnectedDevices
from acquisition.controller import Controller
from acquisition.dmd_region import dmd_region
from acquisition.events import Journal
from acquisition.integrity import FALSE_ALARMS_PER_BLOCK
from acquisition.mda import series_events
from acquisition.plan import expected_peak
from acquisition.preflight import check_dose, check_light, check_output
from acquisition.run_rules import play_rules
from acquisition.sensing_plan import SensingPlan, plan_sensing
from acquisition.series_plan import check_series_dose, check_series_output, plan_series
from acquisition.timing_contract import reading_us
from devices.microscope import Microscope, Pose
from models.pictures import PictureRenderer

# The variance of n dark readings scatters by √(2/(n - 1)) of itself; this many of these deviations are remarkable.
_REMARKABLE = 4.0
# How much longer than one exposure an armed camera is listened to while nothing is displayed, s.
_SILENCE_S = 0.25


class Verdict(StrEnum):
    """What a finding means for the run."""

    OK = "ok"
    WARNING = "warning"
    REFUSED = "refused"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: what, what was found, and what that means."""

    what: str
    found: str
    verdict: Verdict = Verdict.OK


def check_acquisition(config: AcquisitionConfig, *, overwrite: bool = False) -> Generator[Finding, None, None]:
    """Look at everything that a run needs, in its order, as far as what came before allows.

    The light stays off: the detector is tried under dark pictures. What a driver cannot do is a refusal among the
    findings, not an error.
    """
    can_be_written = f"{config.output.run} can be written"
    within = "within the limit" if config.sample.dose_limit_mj else "no limit"
    if config.mda is None:
        sample = sample_on_stage(config)
        plan = plan_sensing(config, sample)
        yield _tried(
            "output", lambda: check_output(config, plan, overwrite=overwrite, make_folders=False), can_be_written
        )
        yield _tried("dose", lambda: check_dose(config, plan), within)
    else:
        series = plan_series(config)
        sample, plan = series.sample, series.first
        yield _tried(
            "output",
            lambda: check_series_output(config, series, overwrite=overwrite, make_folders=False),
            can_be_written,
        )
        yield _tried("dose", lambda: check_series_dose(config, series), within)
    yield _tried("guards", lambda: check_light(plan), _guards(plan))
    yield from _models(config, sample, plan)
    try:
        with connected_devices(config, sample) as devices:
            yield from _devices(config, sample, plan, devices)
    except (OSError, RuntimeError, ValueError) as error:
        yield Finding("devices", _said(error), Verdict.REFUSED)


def _models(config: AcquisitionConfig, sample: NDArray[np.float64] | None, plan: SensingPlan) -> Iterator[Finding]:
    """Trained models, where the file asks for them, against what they were trained over."""
    named = {each.name for each in (plan.models.sensing, plan.models.network) if each is not None}
    if not named:
        return
    network = plan.models.network
    if network is not None:
        works = _tried("trained model", lambda: network.model.network, f"{network.name} has a network")
        if works.verdict is Verdict.REFUSED:
            yield works
            return
    peak = expected_peak(config, sample)
    warnings = list(plan.models.warnings(config, peak, plan.expected_background))
    for warning in warnings:
        yield Finding("trained model", warning, Verdict.WARNING)
    if not warnings:
        light = "" if peak is not None else ", as far as is known without sample.expected_peak"
        yield Finding("trained model", f"{', '.join(sorted(named))}, used as it was trained{light}")


def _devices(
    config: AcquisitionConfig, sample: NDArray[np.float64] | None, plan: SensingPlan, devices: ConnectedDevices
) -> Iterator[Finding]:
    projector, detector, light = devices.projector.info, devices.detector.info, devices.light_source.info
    temperatures = ", ".join(f"{name} {value:g}" for name, value in devices.projector.status().items())
    yield Finding(
        "projector", f"{projector.name}, serial {projector.serial}" + (f", {temperatures}" if temperatures else "")
    )
    yield Finding(
        "detector", f"{detector.name}, {detector.width_px} × {detector.height_px} px of {detector.bytes_per_px} bytes"
    )
    status = ", ".join(f"{name} {value}" for name, value in devices.light_source.status().items())
    yield Finding("light source", f"{light.name}: {status}")
    if config.mda is not None:
        yield _poses(config.mda, devices.microscope)
    readout = check_bench(config, plan.schedule, devices)
    known = Verdict.WARNING if readout.source.startswith("not stated") else Verdict.OK
    yield Finding("timing", f"camera readout {readout.readout_us:g} µs ({readout.source}) fits", known)
    if config.noise.calibration is not None:
        stands = f"{config.noise.calibration} was made with this detector as it is set"
        yield _tried("noise calibration", lambda: check_noise_calibration(config, detector), stands)
    yield from _buffer(config, sample, plan, detector.buffer_frames)
    rules = play_rules(config)
    silence = _silence(config, rules.camera_exposure_us, devices)
    yield silence
    if silence.verdict is Verdict.REFUSED:
        return
    controller = Controller(devices, PictureRenderer(dmd_region(config)).render, rules, Journal())
    dark = controller.measure_dark_level(config.blocks.dark_exposures)
    accepted = controller.accepted_timing
    assert accepted is not None
    asked = rules.timing
    same = (accepted.picture_time_us, accepted.illumination_time_us) == (
        asked.picture_time_us,
        asked.illumination_time_us,
    )
    yield Finding(
        "accepted timing",
        f"picture {accepted.picture_time_us} µs, illumination {accepted.illumination_time_us} µs, sync pulse "
        f"{accepted.sync_pulse_us} µs, {accepted.sync_delay_us} µs before the picture",
        Verdict.OK if same else Verdict.WARNING,
    )
    yield Finding("triggers", f"{len(dark)} dark pictures displayed, {len(dark)} frames came, and no further one")
    if devices.light_source.is_on():
        yield Finding("dark level", "unknown: the light cannot be switched off", Verdict.WARNING)
    else:
        yield _dark_level(config, dark)


def _poses(mda: useq.MDASequence, microscope: Microscope) -> Finding:
    """Whether the microscope can be asked for every pose of a series; nothing moves."""
    events = series_events(mda, microscope.move_to(Pose()))
    info = microscope.info
    named = ", ".join(f"{what} {label}" for what, label in (("XY", info.xy_stage), ("focus", info.focus)) if label)

    def all_of_them() -> None:
        for event in events:
            microscope.check(event.pose)

    return _tried("poses", all_of_them, f"{len(events)} images, each can be asked for ({named or 'no stage'})")


def _buffer(
    config: AcquisitionConfig, sample: NDArray[np.float64] | None, plan: SensingPlan, buffer_frames: int | None
) -> Iterator[Finding]:
    """Frames per block against the buffer, and against how fast the core can be read."""
    longest = plan.schedule.longest_block_exposures
    picture_us, frame_us = config.timing.picture_time_us, reading_us(config.devices.detector)
    slow = "" if frame_us <= picture_us else f"; reading takes {frame_us / picture_us:.1f} times as long as exposing"
    holds = f"the buffer holds {buffer_frames or 'an unknown number of'} frames"
    try:
        shortened = shortened_plan(config, sample, plan, buffer_frames, Journal())
    except ValueError as error:
        yield Finding("frame buffer", f"{holds}, too few for any block: {error}", Verdict.REFUSED)
        return
    now = shortened.schedule.longest_block_exposures
    if now >= longest:
        found = f"blocks of up to {longest} exposures, {holds}{slow}"
        yield Finding("frame buffer", found, Verdict.WARNING if slow else Verdict.OK)
        return
    found = f"{holds}: blocks are shortened from {longest} to {now} exposures{slow}"
    yield Finding("frame buffer", found, Verdict.WARNING)
    yield _tried(
        "dose",
        lambda: _check_shortened_dose(config, shortened, buffer_frames),
        "within the limit, with the guards of shorter blocks",
    )
    yield _tried("guards", lambda: check_light(shortened), _guards(shortened))


def _check_shortened_dose(config: AcquisitionConfig, shortened: SensingPlan, buffer_frames: int | None) -> None:
    if config.mda is None:
        check_dose(config, shortened)
    else:
        check_series_dose(config, plan_series(config, buffer_frames))


def _silence(config: AcquisitionConfig, camera_exposure_us: int, devices: ConnectedDevices) -> Finding:
    """Whether the armed camera keeps still while nothing triggers it."""
    detector = devices.detector
    detector.arm(config.blocks.dark_exposures, camera_exposure_us)
    try:
        time.sleep(camera_exposure_us * 1e-6 + _SILENCE_S)
        frames = detector.surplus_frames()
    finally:
        detector.disarm()
    if frames:
        found = f"{frames} frames came while nothing was displayed: set the camera to external triggers (when_armed)"
        return Finding("trigger mode", found, Verdict.REFUSED)
    return Finding("trigger mode", "no frame came while nothing was displayed")


def _dark_level(config: AcquisitionConfig, dark: NDArray[np.float64]) -> Finding:
    """Dark level, and its variance against the b of the file."""
    level = float(dark.mean())
    if len(dark) < 2:
        return Finding("dark level", f"{level:.5g} detector units")
    variance, stated = float(dark.var(ddof=1)), config.noise.variance
    scatter = stated * (2 / (len(dark) - 1)) ** 0.5
    remarkable = abs(variance - stated) > _REMARKABLE * scatter
    text = f"{level:.5g} detector units, variance {variance:.4g}, noise.variance says {stated:.4g}"
    return Finding("dark level", text, Verdict.WARNING if remarkable else Verdict.OK)


def _guards(plan: SensingPlan) -> str:
    alarms, codes = plan.expected_false_alarms, plan.schedule.banks[0].guard_codes
    if alarms is None:
        return "unknown whether they can prove anything: give sample.expected_total"
    return f"{codes} codes each, {alarms:.0e} false alarms a block (at most {FALSE_ALARMS_PER_BLOCK:.0e})"


def _tried(what: str, attempt: Callable[[], object], found: str) -> Finding:
    try:
        attempt()
    except (OSError, RuntimeError, ValueError) as error:
        return Finding(what, _said(error), Verdict.REFUSED)
    return Finding(what, found)


def _said(error: Exception) -> str:
    return "\n".join([str(error), *getattr(error, "__notes__", [])])
