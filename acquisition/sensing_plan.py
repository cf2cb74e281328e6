"""From an acquisition file to the schedule: mask, draw, importance, limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from acquisition.config import AcquisitionConfig, ImagePrior, LearnedMask
from acquisition.integrity import FALSE_ALARMS_PER_BLOCK, false_alarms
from acquisition.problems import AcquisitionFileError, Problem
from acquisition.run_time import RunRates, plan_bank_sizes
from acquisition.schedule import BankSizes, Schedule, ScheduleLimitError, ScheduleLimits, make_schedule
from acquisition.timing_contract import most_block_exposures, reading_us
from acquisition.trained_models import TrainedModels, trained_models
from models.draws import drawn_counts
from models.masks import (
    MaskError,
    best_linear,
    half_half,
    low_sequency,
    random_binary,
    uniform,
    validate_mask,
)
from models.noise import NoiseModel
from models.priors import Prior, power_law_prior, prior_from_images, tempered

# A sample so dim that guards of this many codes do not prove anything is refused.
_MOST_GUARD_CODES = 8


@dataclass(frozen=True)
class SensingPlan:
    """What is measured, and what that was decided from.

    mask: float64 [N]; prior: to plan with; image_prior: prior from images, or of a trained model, at unit total light,
    None for a power law; expected_total: T, None where unknown; expected_background: B; models: that the file asks for.
    """

    mask: NDArray[np.float64]
    prior: Prior
    image_prior: Prior | None
    expected_total: float | None
    expected_background: float
    noise: NoiseModel
    schedule: Schedule
    models: TrainedModels

    @cached_property
    def expected_false_alarms(self) -> float | None:
        """False alarms of the guards of the worst block under the expected light; None where that is unknown."""
        if self.expected_total is None:
            return None
        kinds = {(block.n_pairs, block.n_guards): block for block in self.schedule.blocks}
        return max(
            false_alarms(block, self.expected_total, self.expected_background, self.noise) for block in kinds.values()
        )


def plan_sensing(
    config: AcquisitionConfig, sample: NDArray[np.float64] | None, buffer_frames: int | None = None
) -> SensingPlan:
    """Mask, draw and schedule of an acquisition; the same for the same arguments.

    sample: light of every pixel float64 [n, n] where the stage is simulated; it stands for sample.expected_total.
    buffer_frames: what the connected detector's buffer holds, None where that is not known: longer blocks are
    shortened to it. Raises AcquisitionFileError where a mask, a prior file or a model cannot be used, or no pair fits
    into a bank or a block.
    """
    expected_total = config.sample.expected_total if sample is None else float(sample.sum())
    if expected_total is None and config.sensing.mask.kind == "water-filling":
        raise _file_error(
            "sample.expected_total", "nothing", "the total light, which water-filling weighs the noise against"
        )
    noise = NoiseModel(config.noise.gain, config.noise.variance)
    models = trained_models(config)
    image_prior = models.prior if config.reconstruction.prior is None else load_image_prior(config)
    # Where T is unknown only the order of the prior variances counts, and that does not depend on it.
    total = 1.0 if expected_total is None else expected_total
    prior = power_law_prior(config.sensing.side, total) if image_prior is None else image_prior.scaled(total)
    pair_variance = noise.pair_variance(total, config.expected_background)
    mask = _mask(config, prior, pair_variance) if models.sensing is None else models.sensing.model.mask
    repeats = drawn_counts(config.sensing.draw, mask, config.sensing.repeats, config.sensing.seed)
    if not repeats.any():
        raise AcquisitionFileError(
            "sensing",
            [
                Problem(
                    "sensing.alpha", f"{config.sensing.alpha}: no coefficient is drawn", "a budget of at least one pair"
                )
            ],
        )
    most_exposures = most_block_exposures(config, buffer_frames)
    codes = config.blocks.guard_codes
    for guard_codes in range(1, _MOST_GUARD_CODES + 1) if codes is None else (codes,):
        schedule = _schedule(config, repeats, prior.variance, most_exposures, guard_codes)
        plan = SensingPlan(
            mask, prior, image_prior, expected_total, config.expected_background, noise, schedule, models
        )
        alarms = plan.expected_false_alarms
        if alarms is None or alarms <= FALSE_ALARMS_PER_BLOCK:
            break
    return plan


def run_rates(config: AcquisitionConfig) -> RunRates:
    """What the clock of this acquisition is made of."""
    chip, projector = config.dmd_type, config.devices.projector
    return RunRates(
        picture_time_us=config.timing.picture_time_us,
        upload_us=chip.mirrors_height * chip.row_bytes / projector.upload_mb_per_s,
        arming_us=config.devices.detector.arming_ms * 1e3,
        reading_us=reading_us(config.devices.detector),
    )


def _schedule(
    config: AcquisitionConfig,
    repeats: NDArray[np.int32],
    importance: NDArray[np.float64],
    most_exposures: int,
    guard_codes: int,
) -> Schedule:
    largest = config.memory_pictures // 2  # the next bank is loaded beside the one that is displayed
    first = config.blocks.first_bank_pictures
    try:
        limits = ScheduleLimits(
            BankSizes(largest if first is None else min(first, largest), 1.0, largest),
            config.blocks.guard_interval or min(max(most_exposures // 16, 64), 256),
            most_exposures,
            guard_codes,
        )
    except ScheduleLimitError as error:
        raise _file_error(error.key, str(error), "room for a pair between two guards") from error
    sizes = plan_bank_sizes(repeats, importance, limits, run_rates(config), first)
    return make_schedule(repeats, importance, replace(limits, bank_sizes=sizes), config.sensing.seed)


def load_image_prior(config: AcquisitionConfig) -> Prior | None:
    """The prior of the file's images at unit total light, tempered with the typical law; None without images.

    Raises AcquisitionFileError where the images cannot be used.
    """
    if not isinstance(config.reconstruction.prior, ImagePrior):
        return None
    n, path = config.sensing.side, config.reconstruction.prior.file
    images = _load_array(path, "reconstruction.prior.file")
    if images.ndim != 3 or images.shape[1:] != (n, n) or len(images) < 2:
        raise _file_error(
            "reconstruction.prior.file", f"{path}: an array {list(images.shape)}", f"images [K, {n}, {n}], K at least 2"
        )
    totals = images.sum(axis=(1, 2))
    if not (np.isfinite(images).all() and (totals > 0).all()):
        raise _file_error(
            "reconstruction.prior.file",
            f"{path}: images with NaN, infinite or no light",
            "finite images that are not dark",
        )
    typical = power_law_prior(n, 1.0)
    return tempered(prior_from_images(images / totals[:, None, None]), len(images), typical)


def _mask(config: AcquisitionConfig, prior: Prior, pair_variance: float) -> NDArray[np.float64]:
    sensing = config.sensing
    n, alpha, seed = sensing.side, sensing.alpha, sensing.seed
    if isinstance(sensing.mask, LearnedMask):
        assert sensing.mask.file is not None
        mask = _load_array(sensing.mask.file, "sensing.mask.file").ravel()
        try:
            validate_mask(mask, n, alpha)
        except MaskError as error:
            raise _file_error(
                "sensing.mask.file",
                f"{sensing.mask.file}: {_without_found(error)}",
                f"{n * n} probabilities of mean {alpha}",
            ) from error
        return mask
    makers: dict[str, Callable[[], NDArray[np.float64]]] = {
        "uniform": lambda: uniform(n, alpha),
        "low-sequency": lambda: low_sequency(n, alpha),
        "half-half": lambda: half_half(n, alpha, seed),
        "random": lambda: random_binary(n, alpha, seed),
        "water-filling": lambda: best_linear(prior.variance, alpha, sensing.repeats, pair_variance, sensing.draw),
    }
    try:
        return makers[sensing.mask.kind]()
    except MaskError as error:
        raise _file_error("sensing.alpha", _without_found(error), "a budget that this mask can spend") from error


def _load_array(path: Path, key: str) -> NDArray[np.float64]:
    try:
        loaded = np.load(path, allow_pickle=False)
        if not isinstance(loaded, np.ndarray):
            raise TypeError("it is an archive of several arrays; save one array with numpy.save")
        if loaded.dtype.kind not in "buif":
            raise TypeError(f"it holds {loaded.dtype} values")
        return loaded.astype(np.float64)
    except (OSError, ValueError, TypeError) as error:
        raise _file_error(key, f"{path}: {error}", "a readable NumPy file (.npy) of numbers") from error


def _file_error(key: str, found: str, allowed: str) -> AcquisitionFileError:
    return AcquisitionFileError("the acquisition file", [Problem(key, found, allowed)])


def _without_found(error: Exception) -> str:
    """An error's text as it goes on after "found"."""
    return str(error).removeprefix("found ")
