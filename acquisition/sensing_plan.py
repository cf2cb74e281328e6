"""From an acquisition file to the schedule: mask, draw, importance, limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from acquisition.config import AcquisitionConfig, ImagePrior, LearnedMask
from acquisition.problems import AcquisitionFileError, Problem
from acquisition.schedule import Schedule, ScheduleLimitError, ScheduleLimits, make_schedule
from models.draws import bernoulli_draw, systematic_draw
from models.masks import (
    MaskError,
    bernoulli_optimal,
    half_half,
    low_sequency,
    random_binary,
    uniform,
    validate_mask,
    water_filling,
)
from models.noise import NoiseModel
from models.priors import Prior, power_law_prior, prior_from_images, tempered


@dataclass(frozen=True)
class SensingPlan:
    """What is measured, and what that was decided from.

    mask: float64 [N]; prior: to plan with; image_prior: prior from images at unit total light, None for a power law;
    expected_total: T, None where unknown; expected_background: B.
    """

    mask: NDArray[np.float64]
    prior: Prior
    image_prior: Prior | None
    expected_total: float | None
    expected_background: float
    noise: NoiseModel
    schedule: Schedule


def plan_sensing(config: AcquisitionConfig, sample: NDArray[np.float64] | None) -> SensingPlan:
    """Mask, draw and schedule of an acquisition; the same for the same file and sample.

    sample: light of every pixel float64 [n, n] where the stage is simulated; it stands for sample.expected_total.
    Raises AcquisitionFileError where a mask or prior file cannot be used, or no pair fits into a bank or a block.
    """
    expected_total = config.sample.expected_total if sample is None else float(sample.sum())
    if expected_total is None and config.sensing.mask.kind == "water-filling":
        raise _file_error(
            "sample.expected_total", "nothing", "the total light, which water-filling weighs the noise against"
        )
    noise = NoiseModel(config.noise.gain, config.noise.variance)
    image_prior = load_image_prior(config)
    # Where T is unknown only the order of the prior variances counts, and that does not depend on it.
    total = 1.0 if expected_total is None else expected_total
    prior = power_law_prior(config.sensing.side, total) if image_prior is None else image_prior.scaled(total)
    pair_variance = noise.pair_variance(total, config.expected_background)
    mask = _mask(config, prior, pair_variance)
    draw = bernoulli_draw if config.sensing.draw == "bernoulli" else systematic_draw
    repeats = draw(mask, config.sensing.repeats, config.sensing.seed)
    if not repeats.any():
        raise AcquisitionFileError(
            "sensing",
            [
                Problem(
                    "sensing.alpha", f"{config.sensing.alpha}: no coefficient is drawn", "a budget of at least one pair"
                )
            ],
        )
    try:
        limits = schedule_limits(config)
    except ScheduleLimitError as error:
        raise _file_error(error.key, str(error), "room for a pair between two guards") from error
    schedule = make_schedule(repeats, prior.variance, limits, config.sensing.seed)
    return SensingPlan(mask, prior, image_prior, expected_total, config.expected_background, noise, schedule)


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


def schedule_limits(config: AcquisitionConfig) -> ScheduleLimits:
    """What cuts this acquisition into banks and blocks. Raises ScheduleLimitError.

    A bank takes at most half of the memory, so that the next one can be loaded beside it.
    """
    bank_pictures = config.memory_pictures // 2
    return ScheduleLimits(
        bank_pictures=bank_pictures,
        first_bank_pictures=min(config.blocks.first_bank_pictures, bank_pictures),
        guard_interval=config.blocks.guard_interval,
        block_exposures=int(config.blocks.longest_block_s * 1e6 // config.timing.picture_time_us),
    )


def _mask(config: AcquisitionConfig, prior: Prior, pair_variance: float) -> NDArray[np.float64]:
    sensing = config.sensing
    n, alpha, seed = sensing.side, sensing.alpha, sensing.seed
    if isinstance(sensing.mask, LearnedMask):
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
        "water-filling": lambda: _water_filled(config, prior, pair_variance),
    }
    try:
        return makers[sensing.mask.kind]()
    except MaskError as error:
        raise _file_error("sensing.alpha", _without_found(error), "a budget that this mask can spend") from error


def _water_filled(config: AcquisitionConfig, prior: Prior, pair_variance: float) -> NDArray[np.float64]:
    # For a Bernoulli draw the closed form is not the optimum: M = 0 dominates the error (DESIGN §5.5).
    allocate = bernoulli_optimal if config.sensing.draw == "bernoulli" else water_filling
    return allocate(prior.variance, config.sensing.alpha, config.sensing.repeats, pair_variance)


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
