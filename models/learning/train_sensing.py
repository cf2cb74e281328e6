"""From images to a trained model: prior, start of the mask, joint training, calibration of its uncertainty, card."""

from __future__ import annotations

import datetime as dt
import math
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from models.draws import Draw, drawn_counts
from models.hadamard import SideError, check_side
from models.learning.augmentation import turned
from models.learning.compact_network import CompactArchitecture, CompactNetwork
from models.learning.compact_training import CompactTask, Sensing
from models.learning.conditions import NoiseRange
from models.learning.evaluation import simulated_estimate
from models.learning.model_card import DataSource, ModelCard, TrainedOver, plain_numbers
from models.learning.model_file import TrainedModel, save_model, unit_prior
from models.learning.network_image import raw_image
from models.learning.paper_training import PaperTask
from models.learning.paper_unet import PaperUNet
from models.learning.raw_repeats import measured_from_repeats
from models.learning.training import EpochReport, Step, TrainingSettings, train
from models.learning.training_prior import training_prior_variance, water_filled
from models.learning.uncertainty import INTERVAL_SCALES, HeldOut, UncertaintyCalibration, calibrate
from models.masks import half_half, low_sequency, random_binary, uniform
from models.noise import NoiseModel
from models.priors import Prior

MaskStart = Literal["water-filling", "uniform", "low-sequency", "half-half", "random", "model"]
Kind = Literal["compact", "paper-unet"]
Gradient = Literal["relaxed", "gumbel", "none"]


class SensingRequestError(ValueError):
    """A training that cannot be: a word that is not known, or a number that no training can have."""


@dataclass(frozen=True)
class SensingRequest:
    """What is to be learned.

    n, alpha, repeats, draw: the mask's; gain, variance: a and b of images scaled to a maximum of 1; kind: of network;
    gradient: how the mask learns ("none": it stays as it starts); start: the mask it starts from; patch: of the paper's
    U-Net; architecture: of the compact network; settings: of the training.
    """

    n: int
    alpha: float
    repeats: int
    gain: float
    variance: float
    draw: Draw = "systematic"
    kind: Kind = "compact"
    gradient: Gradient = "relaxed"
    start: MaskStart = "water-filling"
    patch: int = 128
    architecture: CompactArchitecture = field(default_factory=CompactArchitecture)
    settings: TrainingSettings = field(default_factory=TrainingSettings)

    def __post_init__(self) -> None:
        try:
            check_side(self.n)
        except SideError as error:
            raise SensingRequestError(f"side n: {error}") from error
        NoiseModel(self.gain, self.variance)
        if not (math.isfinite(self.gain) and math.isfinite(self.variance)):
            raise SensingRequestError(f"found a = {self.gain:g}, b = {self.variance:g}; expected finite numbers")
        words = {"draw": Draw, "kind": Kind, "gradient": Gradient, "start": MaskStart}
        for key, allowed in words.items():
            if getattr(self, key) not in get_args(allowed):
                raise SensingRequestError(
                    f"{key}: found {getattr(self, key)!r}; expected one of {', '.join(get_args(allowed))}"
                )
        multiple = 8 if self.kind == "paper-unet" else self.architecture.multiple
        for key, side in {"side n": self.n, "patch": self.patch}.items():
            if (side % multiple or side < multiple) and (key == "side n" or self.kind == "paper-unet"):
                raise SensingRequestError(f"{key}: found {side}; expected a multiple of {multiple} for this network")
        if self.kind == "paper-unet" and self.draw != "bernoulli":
            raise SensingRequestError(
                "draw: found systematic for the paper's U-Net; expected bernoulli, as in the paper"
            )
        if not (0 < self.alpha <= 1 and self.repeats >= 1):
            raise SensingRequestError(
                f"found α = {self.alpha:g}, S = {self.repeats}; expected 0 < α ≤ 1 and S of 1 or more"
            )
        if self.alpha * self.n**2 < _FEWEST:
            raise SensingRequestError(
                f"found α = {self.alpha:g}, which is {self.alpha * self.n**2:.2g} of the {self.n**2} coefficients; "
                f"expected {_FEWEST} or more of them, α ≥ {_FEWEST / self.n**2:.2g}"
            )


def train_sensing(
    request: SensingRequest,
    images: NDArray[np.float32],
    validation: NDArray[np.float32],
    output: Path,
    folder: Path,
    *,
    data: Sequence[DataSource],
    command: str,
    begin_with: TrainedModel | None = None,
    on_step: Callable[[Step], None] = lambda _: None,
    on_epoch: Callable[[EpochReport], None] = lambda _: None,
) -> TrainedModel:
    """Train mask and network, save the model as ``output`` (two files) and return it.

    images, validation: float32 [K, n, n], each with a maximum of 1, no field of view in both; or [K, 1 + R, n, n] with
    R raw repeats behind each, which then stand for simulated noise; folder: for checkpoint
    and log, from which a training that was stopped goes on; data, command: for the card; begin_with: a model whose
    network it starts from, and whose mask where request.start is "model". Raises SensingRequestError before anything is
    written, and what ``train`` and ``save_model`` raise.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(request.settings.seed)
    _check_images(request, images, validation)
    _check_begin(request, begin_with)
    truths = images[:, 0] if images.ndim == 4 else images
    prior_variance = training_prior_variance(truths)
    _check_budget(request, prior_variance)
    noise = NoiseModel(request.gain, request.variance)
    total = float(truths.sum(axis=(1, 2)).mean())
    start = _start(request, prior_variance, noise, total, begin_with)
    task = _task(request, start, prior_variance, noise, total, begin_with, device)
    train(
        task,
        images,
        validation,
        request.settings,
        folder,
        augment=turned,
        on_step=on_step,
        on_epoch=on_epoch,
        identity=_identity(request, begin_with),
    )
    with torch.no_grad():
        mask = task.mask().double().cpu().numpy()
    prior = unit_prior(prior_variance)
    network = task.network
    calibration, metrics = (
        _calibrated(network, validation, mask, prior, request)
        if isinstance(network, CompactNetwork)
        else (UncertaintyCalibration(), {})
    )
    range_of_noise = _noise_range(request)
    card = ModelCard(
        kind=request.kind,
        n=request.n,
        alpha=request.alpha,
        repeats=request.repeats,
        draw=request.draw,
        trained_over=_trained_over(
            request, range_of_noise, float(truths.mean()), _alphas(request.alpha, prior_variance)
        ),
        data=tuple(data),
        metrics=metrics,
        versions={
            "hadascope": version("hadascope"),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        command=command,
        seed=request.settings.seed,
        created=dt.datetime.now(tz=dt.UTC).date(),
        architecture=plain_numbers(request.architecture) if request.kind == "compact" else {},
        uncertainty=plain_numbers(calibration) if request.kind == "compact" else {},
    )
    weights = {name: value.float().cpu().numpy() for name, value in network.state_dict().items()}
    return save_model(output, TrainedModel(card, mask, prior, weights))


def masks_beside(
    request: SensingRequest, model: TrainedModel, images: NDArray[np.float32]
) -> dict[str, NDArray[np.float64]]:
    """The masks that a learned one is to be seen beside, and it, by name, float64 [N]; images: it learned from."""
    noise, total = NoiseModel(request.gain, request.variance), float(images.sum(axis=(1, 2)).mean())
    own = request.start if request.gradient == "none" else "learned"
    return {
        "uniform": uniform(request.n, request.alpha),
        "low-sequency": low_sequency(request.n, request.alpha),
        "water-filling": water_filled(model.prior.variance, request.alpha, request.repeats, request.draw, noise, total),
        own: model.mask,
    }


def _identity(request: SensingRequest, begin_with: TrainedModel | None) -> dict[str, object]:
    """What a checkpoint must have been made with, beside the settings and the images."""
    numbers = {key: value for key, value in vars(request).items() if key not in ("settings", "architecture")}
    begun_with = "" if begin_with is None else begin_with.card.sha256
    return {**numbers, **plain_numbers(request.architecture), "begun with": begun_with}


def _check_images(request: SensingRequest, images: NDArray[np.float32], validation: NDArray[np.float32]) -> None:
    for what, crops in (("to learn from", images), ("to validate on", validation)):
        if crops.ndim not in (3, 4) or crops.shape[-2:] != (request.n, request.n) or len(crops) == 0:
            raise SensingRequestError(
                f"found images {what} of shape {list(crops.shape)}; expected [K, {request.n}, {request.n}], K > 0, or "
                "raw repeats behind each"
            )
        if crops.ndim == 4 and crops.shape[1] - 1 < max(request.repeats, 2):
            raise SensingRequestError(
                f"found {crops.shape[1] - 1} raw repeats of the images {what}; expected S = {request.repeats}, and two "
                "at least: a coefficient is measured up to S times"
            )
    if request.kind == "compact" and len(validation) < _FEWEST_VALIDATED:
        raise SensingRequestError(
            f"found {len(validation)} image to validate on; expected {_FEWEST_VALIDATED} at least, because the "
            "uncertainty is calibrated on them: name more images, or a set of its own to validate on"
        )


def _check_begin(request: SensingRequest, begin_with: TrainedModel | None) -> None:
    if begin_with is None:
        return
    card = begin_with.card
    if card.kind != request.kind:
        raise SensingRequestError(
            f"found a model of kind {card.kind} to begin a {request.kind} with; expected both to be of a kind"
        )
    if request.kind == "paper-unet":
        return
    if card.architecture != plain_numbers(request.architecture):
        raise SensingRequestError(
            f"found a model of architecture {card.architecture} to begin with; expected "
            f"{plain_numbers(request.architecture)}"
        )


def _check_budget(request: SensingRequest, prior_variance: NDArray[np.float64]) -> None:
    most = _largest_alpha(prior_variance)
    if request.alpha > most:
        raise SensingRequestError(
            f"found α = {request.alpha:g}, and images in which {1 - most:.3g} of all coefficients are 0; expected "
            f"α ≤ {most:.4g}"
        )


def _largest_alpha(prior_variance: NDArray[np.float64]) -> float:
    """With which every coefficient that varies is measured always, and the total light."""
    return float((np.count_nonzero(prior_variance) + 1) / len(prior_variance))


def _with_free_total(mask: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mask [N] as one that chooses: P_0 = 1, as every pair measures the total, and the others share the rest."""
    budget = mask.sum() - 1
    inner = mask[1:] * (budget / mask[1:].sum())
    return np.concatenate([[1.0], inner])


def _start(
    request: SensingRequest,
    prior_variance: NDArray[np.float64],
    noise: NoiseModel,
    total: float,
    begin_with: TrainedModel | None,
) -> NDArray[np.float64]:
    n, alpha = request.n, request.alpha
    match request.start:
        case "water-filling":
            return water_filled(prior_variance, alpha, request.repeats, request.draw, noise, total)
        case "uniform":
            start = uniform(n, alpha)
            return start if request.gradient == "none" else _with_free_total(start)
        case "low-sequency":
            return low_sequency(n, alpha)
        case "half-half":
            return half_half(n, alpha, request.settings.seed)
        case "random":
            return random_binary(n, alpha, request.settings.seed)
        case "model":
            if begin_with is None or (begin_with.card.n, begin_with.card.alpha) != (n, alpha):
                raise SensingRequestError(
                    "start: found model, and no model of the same n and α to begin with; expected one, whose mask is "
                    "gone on with"
                )
            return begin_with.mask


def _task(
    request: SensingRequest,
    start: NDArray[np.float64],
    prior_variance: NDArray[np.float64],
    noise: NoiseModel,
    total: float,
    begin_with: TrainedModel | None,
    device: torch.device,
) -> CompactTask | PaperTask:
    mask = torch.from_numpy(start).float()
    if request.kind == "paper-unet":
        unet = PaperUNet().to(device)
        if begin_with is not None:
            unet.load_state_dict({name: torch.from_numpy(value) for name, value in begin_with.weights.items()})
        return PaperTask(
            unet,
            mask.to(device),
            learns=request.gradient != "none",
            repeats=request.repeats,
            gain=request.gain,
            variance=request.variance,
            patch=min(request.patch, request.n),
        )
    network = CompactNetwork(request.architecture).to(device)
    if begin_with is not None:
        network.load_state_dict(begin_with.network.network.state_dict())
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    others = [
        torch.from_numpy(each).float()
        for alpha in _alphas(request.alpha, prior_variance)
        for each in (
            uniform(request.n, alpha),
            low_sequency(request.n, alpha),
            water_filled(prior_variance, alpha, request.repeats, request.draw, noise, total),
        )
    ]
    sensing = Sensing(request.repeats, request.draw, request.gradient, request.settings.mask_share)
    return CompactTask(
        network, mask, torch.from_numpy(prior_variance).float().to(device), sensing, _noise_range(request), others
    )


def _alphas(alpha: float, prior_variance: NDArray[np.float64]) -> tuple[float, ...]:
    """Half of α, α and twice of it, as far as masks can have them."""
    least, most = _FEWEST / len(prior_variance), _largest_alpha(prior_variance)
    return tuple(sorted({max(alpha / 2, least), alpha, min(2 * alpha, most)}))


def _noise_range(request: SensingRequest) -> NoiseRange:
    return NoiseRange(request.gain, request.variance)


def _trained_over(
    request: SensingRequest, noise: NoiseRange, mean_light: float, alphas: tuple[float, ...]
) -> TrainedOver:
    if request.kind == "paper-unet":
        same = (request.repeats, request.repeats)
        return TrainedOver(
            gain=(request.gain,) * 2, variance=(request.variance,) * 2, alpha=(request.alpha,) * 2, repeats=same
        )
    most = noise.gain * noise.spread
    read = noise.largest_read * most * mean_light * request.n**2 / 2
    return TrainedOver(
        gain=(noise.gain / noise.spread, most),
        variance=(0.0, noise.variance + read),
        alpha=(alphas[0], alphas[-1]),
        repeats=(1, request.repeats),
    )


def _calibrated(
    network: CompactNetwork,
    validation: NDArray[np.float32],
    mask: NDArray[np.float64],
    prior: Prior,
    request: SensingRequest,
) -> tuple[UncertaintyCalibration, dict[str, float]]:
    """Calibration on the validation images at the reference noise, and what it comes to on them."""
    noise = NoiseModel(request.gain, request.variance)
    held_out = []
    for seed, image in enumerate(validation):
        counts, rng = drawn_counts(request.draw, mask, request.repeats, seed), np.random.default_rng(seed)
        if image.ndim == 3:
            truth, estimate = image[0].astype(np.float64), measured_from_repeats(image[1:], counts, rng)
        else:
            truth = image.astype(np.float64)
            estimate = simulated_estimate(truth, counts, noise, rng)
        found = raw_image(network, estimate, prior)
        held_out.append(HeldOut(truth, found.image, found.raw_scale, found.measured_mse, found.unmeasured_mse))
    calibration = calibrate(held_out)
    off_db, inside = [], []
    for one in held_out:
        predicted = calibration.mean_squared_error(one.raw_scale, one.measured_mse, one.unmeasured_mse)
        half_width = INTERVAL_SCALES * calibration.scale(one.image, one.raw_scale, predicted)
        off_db.append(10 * abs(np.log10(predicted / one.mean_squared_error)))
        inside.append(np.mean(np.abs(one.truth - one.image) <= half_width))
    return calibration, {
        "validation_psnr_db": float(np.mean([-10 * np.log10(one.mean_squared_error) for one in held_out])),
        "validation_images": float(len(held_out)),
        "predicted_psnr_within_1_db": float(np.mean(np.array(off_db) <= 1)),
        "interval_90_coverage": float(np.mean(inside)),
    }


# The total light, and one coefficient beside it.
_FEWEST = 2
# What the calibration of the uncertainty needs.
_FEWEST_VALIDATED = 2
