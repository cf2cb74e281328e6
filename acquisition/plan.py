"""What would happen: pairs, exposures, light time, memory, disk, dose, forecast. Touches no device."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acquisition.config import AcquisitionConfig
from acquisition.integrity import guard_false_alarm
from acquisition.run_store import BYTES_PER_PAIR
from acquisition.schedule import GUARD_PICTURES
from acquisition.sensing_plan import SensingPlan
from models.wiener import forecast_mse

# A file or a folder takes whole units of the disk; metadata, live record, darks and the picture take what a run of any
# size takes.
DISK_UNIT_BYTES = 4096
ARRAYS_PER_BLOCK = 6
END_OF_RUN_BYTES = 2_000_000


@dataclass(frozen=True)
class PlanSummary:
    """The figures of an acquisition before it happens.

    pairs, exposures (guard_exposures among them), banks, blocks: counts; light_s: exposures × picture time; upload_s:
    time to load the DMD; arming_s: time to arm the detector; pictures: rendered in all; largest_bank_pictures: most
    pictures in the DMD at once; disk_bytes: at most; dose_mj: exposures × illumination time × power, None where
    the power is unknown. None where the expected light is unknown: forecast_psnr, dB under the prior; false_alarms, of
    the worst block's guards; brightest_reading, T + B and the offset of the known pixels. detector_full_scale: None on
    real ones.
    """

    pairs: int
    exposures: int
    guard_exposures: int
    banks: int
    blocks: int
    light_s: float
    upload_s: float
    arming_s: float
    pictures: int
    largest_bank_pictures: int
    memory_pictures: int
    disk_bytes: int
    dose_mj: float | None
    forecast_psnr: float | None
    false_alarms: float | None
    brightest_reading: float | None
    detector_full_scale: float | None

    @property
    def duration_s(self) -> float:
        """Light, upload and arming one after the other."""
        return self.light_s + self.upload_s + self.arming_s


def summarize(config: AcquisitionConfig, plan: SensingPlan, sample: NDArray[np.float64] | None) -> PlanSummary:
    """The figures of a planned acquisition; sample: light of every pixel where the stage is simulated."""
    schedule = plan.schedule
    chip, timing = config.dmd_type, config.timing
    exposures = schedule.n_exposures
    pictures = sum(bank.n_pictures for bank in schedule.banks)
    picture_bytes = chip.mirrors_height * chip.row_bytes
    power_mw = config.devices.light_source.power_mw
    illuminated_s = exposures * timing.illumination_time_us * 1e-6
    return PlanSummary(
        pairs=schedule.n_pairs,
        exposures=exposures,
        guard_exposures=exposures - 2 * schedule.n_pairs,
        banks=len(schedule.banks),
        blocks=len(schedule.blocks),
        light_s=exposures * timing.picture_time_us * 1e-6,
        upload_s=pictures * picture_bytes / (config.devices.projector.upload_mb_per_s * 1e6),
        arming_s=len(schedule.blocks) * config.devices.detector.arming_ms * 1e-3,
        pictures=pictures,
        largest_bank_pictures=max(bank.n_pictures for bank in schedule.banks),
        memory_pictures=config.memory_pictures,
        disk_bytes=run_bytes(plan),
        dose_mj=None if power_mw is None else illuminated_s * power_mw,
        forecast_psnr=_forecast_psnr(config, plan, sample),
        false_alarms=expected_false_alarms(plan),
        brightest_reading=_brightest_reading(config, plan),
        detector_full_scale=_full_scale(config),
    )


def run_bytes(plan: SensingPlan) -> int:
    """Bytes a run takes on a disk at most: whole chunks in files and folders of their own, and what ends the run."""
    schedule = plan.schedule
    data = schedule.longest_block_pairs * BYTES_PER_PAIR + schedule.most_block_guards * GUARD_PICTURES * 8
    per_block = data + ARRAYS_PER_BLOCK * 3 * DISK_UNIT_BYTES  # a folder, sometimes two, and an unfilled unit each
    per_coefficient = 8 + 4 + 3 * 8 + 16 + 4 * 8  # mask, repeats, statistics, prior, images and sample
    return len(schedule.blocks) * per_block + len(schedule.repeats) * per_coefficient + END_OF_RUN_BYTES


def expected_false_alarms(plan: SensingPlan) -> float | None:
    """False alarms of the guards of the worst block under the expected light; None where that is unknown."""
    if plan.expected_total is None:
        return None
    sizes = {(block.n_pairs, block.n_guards) for block in plan.schedule.blocks}
    return max(
        n_guards * guard_false_alarm(plan.expected_total, plan.expected_background, plan.noise, n_pairs, n_guards)
        for n_pairs, n_guards in sizes
    )


def _brightest_reading(config: AcquisitionConfig, plan: SensingPlan) -> float | None:
    """What the detector holds under a bright picture, with its offset where the number of pixels is known."""
    if plan.expected_total is None:
        return None
    detector = config.devices.detector
    if detector.kind == "simulated":
        pixels = detector.width_px * detector.height_px
    else:
        pixels = 0 if detector.region is None else detector.region.width * detector.region.height
    return plan.expected_total + plan.expected_background + detector.offset_per_px * pixels


def _full_scale(config: AcquisitionConfig) -> float | None:
    """Most that all pixels of a simulated detector hold; a real one is known only when it is connected."""
    detector = config.devices.detector
    if detector.kind != "simulated":
        return None
    return float(detector.width_px * detector.height_px * (2 ** (8 * detector.bytes_per_px) - 1))


def _forecast_psnr(config: AcquisitionConfig, plan: SensingPlan, sample: NDArray[np.float64] | None) -> float | None:
    if plan.expected_total is None:
        return None
    peak = config.sample.expected_peak if sample is None else float(sample.max())
    if peak is None:
        return None
    repeats = plan.schedule.repeats
    pair_variance = plan.noise.pair_variance(plan.expected_total, plan.expected_background)
    variance = np.full(len(repeats), np.inf)
    variance[repeats > 0] = pair_variance / repeats[repeats > 0]
    variance[0] = pair_variance / plan.schedule.n_pairs
    mse = forecast_mse(plan.prior.variance, variance)
    return 10 * math.log10(peak**2 / mse) if mse > 0 else math.inf
