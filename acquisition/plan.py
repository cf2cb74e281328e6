"""What would happen: pairs, exposures, light time, memory, disk, dose, forecast. Touches no device."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acquisition.bucket_region import bucket_region
from acquisition.config import AcquisitionConfig
from acquisition.integrity import unseen_share
from acquisition.run_layout import BYTES_PER_PAIR
from acquisition.run_time import RunTime, predict_run_time
from acquisition.schedule import Schedule
from acquisition.sensing_plan import SensingPlan, run_rates
from acquisition.timing_contract import Readout, find_readout
from calibration.noise_file import read_noise_calibration
from models.wiener import forecast_mse

# A file or a folder takes whole units of the disk; metadata, live record, darks and the picture take what a run of any
# size takes.
DISK_UNIT_BYTES = 4096
ARRAYS_PER_BLOCK = 8
LEVELS_OF_AN_IMAGE = 6  # of 2048 × 2048 pixels
END_OF_RUN_BYTES = 2_000_000


@dataclass(frozen=True)
class PlanSummary:
    """The figures of an acquisition before it happens.

    pairs, exposures (guard_exposures among them), banks, blocks: counts; time: see RunTime; pictures: loaded in all;
    largest_bank_pictures: most of them in one bank; guard_codes: how often a guard shows its code; disk_bytes: at most;
    dose_mj: exposures × illumination time × power, None where the power is unknown. None where the expected light is
    unknown: forecast_psnr, dB under the prior; false_alarms, of the worst block's guards; brightest_reading, T + B and
    the offset of the known pixels. linear_up_to: the largest reading that the noise calibration found in proportion to
    the light, its offset included, None without one. detector_full_scale: None on real ones, and on those that image
    the mirrors, whose pixels saturate one by one. unseen_faults: probability, the worst block's, that a lost and a
    doubled trigger at random places of it go unnoticed by guards alone. readout: of the camera, as far as the file
    tells.
    """

    pairs: int
    exposures: int
    guard_exposures: int
    banks: int
    blocks: int
    time: RunTime
    pictures: int
    largest_bank_pictures: int
    memory_pictures: int
    guard_codes: int
    disk_bytes: int
    dose_mj: float | None
    forecast_psnr: float | None
    false_alarms: float | None
    brightest_reading: float | None
    linear_up_to: float | None
    detector_full_scale: float | None
    unseen_faults: float
    readout: Readout
    beyond_training: tuple[str, ...]


def summarize(config: AcquisitionConfig, plan: SensingPlan, sample: NDArray[np.float64] | None) -> PlanSummary:
    """The figures of a planned acquisition; sample: light of every pixel where the stage is simulated."""
    schedule = plan.schedule
    exposures = schedule.n_exposures
    return PlanSummary(
        pairs=schedule.n_pairs,
        exposures=exposures,
        guard_exposures=exposures - 2 * schedule.n_pairs,
        banks=len(schedule.banks),
        blocks=len(schedule.blocks),
        time=predict_run_time(schedule, run_rates(config), config.blocks.dark_exposures),
        pictures=sum(bank.n_pictures for bank in schedule.banks),
        largest_bank_pictures=max(bank.n_pictures for bank in schedule.banks),
        memory_pictures=config.memory_pictures,
        guard_codes=schedule.banks[0].guard_codes,
        disk_bytes=run_bytes(schedule, planned_frame_bytes(config), config.output.snapshots),
        dose_mj=dose_mj(config, exposures),
        forecast_psnr=_forecast_psnr(config, plan, sample),
        false_alarms=plan.expected_false_alarms,
        brightest_reading=_brightest_reading(config, plan),
        linear_up_to=_linear_up_to(config),
        detector_full_scale=_full_scale(config),
        unseen_faults=max(unseen_share(block) for block in schedule.blocks),
        readout=find_readout(config.devices.detector),
        beyond_training=tuple(plan.models.warnings(config, expected_peak(config, sample), plan.expected_background)),
    )


def expected_peak(config: AcquisitionConfig, sample: NDArray[np.float64] | None) -> float | None:
    """Light of the brightest pixel that is to be expected, detector units; None where nobody can tell."""
    return config.sample.expected_peak if sample is None else float(sample.max())


def planned_frame_bytes(config: AcquisitionConfig) -> int:
    """Bytes of a kept frame, as far as the file tells: of its region, of pixels of 2 bytes; 0 where none is kept."""
    detector = config.devices.detector
    if not detector.keep_frames:
        return 0
    kept = bucket_region(config) or detector.camera_roi
    if detector.kind == "simulated":
        pixels = detector.width_px * detector.height_px if kept is None else kept.width * kept.height
        return pixels * detector.bytes_per_px
    return 0 if kept is None else 2 * kept.width * kept.height


def dose_mj(config: AcquisitionConfig, exposures: int) -> float | None:
    """Exposures × illumination time × power, mJ; None where the power is unknown."""
    power_mw = config.devices.light_source.power_mw
    return None if power_mw is None else exposures * config.timing.illumination_time_us * 1e-6 * power_mw


def lit_exposures_within(config: AcquisitionConfig, illumination_time_us: float) -> int | None:
    """How many exposures of a length the dose limit allows; None where there is no limit, or no power."""
    limit, power_mw = config.sample.dose_limit_mj, config.devices.light_source.power_mw
    if limit is None or not power_mw:
        return None
    return math.floor(limit / (illumination_time_us * 1e-6 * power_mw) * (1 + 1e-12))


def run_bytes(schedule: Schedule, frame_bytes: int = 0, snapshots: int = 0) -> int:
    """Bytes a run takes on a disk at most: whole chunks in files and folders of their own, and what ends the run.

    frame_bytes: of one frame, where frames are kept; snapshots: how many images on the way are.
    """
    data = schedule.longest_block_pairs * BYTES_PER_PAIR + schedule.most_block_guards * schedule.guard_pictures * 8
    data += schedule.longest_block_exposures * frame_bytes
    per_block = data + ARRAYS_PER_BLOCK * 3 * DISK_UNIT_BYTES  # a folder, sometimes two, and an unfilled unit each
    # Mask, repeats, statistics, prior; images and sample, and their levels of 1/4, 1/16 … of the pixels.
    per_coefficient = 8 + 4 + 3 * 8 + 16 + 4 / 3 * (5 * 8 + 4 * snapshots)
    of_pixels = math.ceil(len(schedule.repeats) * per_coefficient)
    of_snapshots = snapshots * LEVELS_OF_AN_IMAGE * 4 * DISK_UNIT_BYTES  # three folders and an unfilled unit a level
    return len(schedule.blocks) * per_block + of_pixels + of_snapshots + END_OF_RUN_BYTES


def _brightest_reading(config: AcquisitionConfig, plan: SensingPlan) -> float | None:
    """What the detector holds under a bright picture, with its offset where the number of pixels is known."""
    if plan.expected_total is None:
        return None
    return plan.expected_total + plan.expected_background + _known_offset(config)


def _linear_up_to(config: AcquisitionConfig) -> float | None:
    if config.noise.calibration is None:
        return None
    light = read_noise_calibration(config.noise.calibration).linear_up_to
    return None if light is None else light + _known_offset(config)


def _known_offset(config: AcquisitionConfig) -> float:
    """The offset of all pixels that are summed, as far as the file tells how many they are."""
    return config.devices.detector.offset_per_px * (_summed_pixels(config) or 0)


def _full_scale(config: AcquisitionConfig) -> float | None:
    """Most that all summed pixels of a simulated detector hold, where each holds the same light; None for others."""
    detector, n_pixels = config.devices.detector, _summed_pixels(config)
    if detector.kind != "simulated" or detector.view is not None or n_pixels is None:
        return None
    most = 2.0 ** (8 * detector.bytes_per_px) - 1
    return n_pixels * (most if config.bench.saturation is None else min(most, config.bench.saturation))


def _summed_pixels(config: AcquisitionConfig) -> int | None:
    """How many pixels a bucket value is the sum of; None where only the camera can tell."""
    detector, region = config.devices.detector, bucket_region(config)
    if region is not None:
        return region.width * region.height
    return detector.width_px * detector.height_px if detector.kind == "simulated" else None


def _forecast_psnr(config: AcquisitionConfig, plan: SensingPlan, sample: NDArray[np.float64] | None) -> float | None:
    if plan.expected_total is None:
        return None
    peak = expected_peak(config, sample)
    if peak is None:
        return None
    repeats = plan.schedule.repeats
    pair_variance = plan.noise.pair_variance(plan.expected_total, plan.expected_background)
    variance = np.full(len(repeats), np.inf)
    variance[repeats > 0] = pair_variance / repeats[repeats > 0]
    variance[0] = pair_variance / plan.schedule.n_pairs
    mse = forecast_mse(plan.prior.variance, variance)
    return 10 * math.log10(peak**2 / mse) if mse > 0 else math.inf
