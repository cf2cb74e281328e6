"""How the blocks of an acquisition are played, from its file."""

from __future__ import annotations

from acquisition.config import AcquisitionConfig
from acquisition.controller import PlayRules, RunTimeouts
from acquisition.plan import lit_exposures_within
from acquisition.timing_contract import camera_exposure_us, reading_us
from devices.projector import Timing


def play_rules(config: AcquisitionConfig) -> PlayRules:
    """The rules that the file states."""
    timing, detector = config.timing, config.devices.detector
    return PlayRules(
        timing=Timing(timing.picture_time_us, timing.illumination_time_us, timing.sync_delay_us, timing.sync_pulse_us),
        camera_exposure_us=camera_exposure_us(timing),
        reading_us=reading_us(detector),
        time_tolerance_us=detector.time_tolerance_us,
        most_repeats=config.blocks.most_repeats,
        only_while_exposing=config.devices.light_source.only_while_exposing,
        lit_exposures_within=lambda illumination_time_us: lit_exposures_within(config, illumination_time_us),
        timeouts=RunTimeouts(margin_s=config.blocks.timeout_margin_s),
    )


def patience_s(config: AcquisitionConfig) -> float | None:
    """How long the light path may wait for the disk: not at all on real light, for ever on simulated light."""
    return None if config.simulated and config.bench.pace < 1 else 0.0
