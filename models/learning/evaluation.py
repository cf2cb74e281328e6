"""Evaluation: every scheme measures every image, every method reconstructs it, and each image gets its scores."""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from models.draws import Draw, drawn_counts
from models.estimators import Estimate, difference, total_from_pairs
from models.hadamard import check_side
from models.learning.raw_repeats import measured_from_repeats
from models.learning.score_file import EvaluationRecord, ScoreLog, open_score_log
from models.learning.scores import Condition, SchemeLabel, Score, Scores
from models.masks import validate_mask
from models.metrics import ConstantImageError, min_max_psnr, psnr, ssim
from models.noise import NoiseModel, draw_statistics

# An image [n, n] of an estimate, in the light's own units.
Method = Callable[[Estimate], NDArray[np.float64]]

# SSIM's window is 11 pixels wide.
SMALLEST_SIDE = 16


@dataclass(frozen=True)
class SensingScheme:
    """How an image is measured.

    name: the mask's; mask: P float64 [N] of mean alpha; repeats: S; draw: how M is drawn from S·P. Raises MaskError,
    SideError, EvaluationInputError.
    """

    name: str
    mask: NDArray[np.float64]
    alpha: float
    repeats: int
    draw: Draw

    def __post_init__(self) -> None:
        n = self.side
        validate_mask(self.mask, n, self.alpha)
        check_side(n)
        if self.draw not in get_args(Draw) or self.repeats < 1:
            raise EvaluationInputError(
                f"found draw {self.draw!r} with S = {self.repeats} in scheme {self.name!r}; "
                f"expected {' or '.join(get_args(Draw))}, and S of 1 or more"
            )

    @property
    def side(self) -> int:
        """n, the side of the images that it measures."""
        return math.isqrt(len(self.mask))

    @property
    def label(self) -> SchemeLabel:
        """What it is told apart by in a table."""
        return SchemeLabel(self.name, float(self.alpha), int(self.repeats), self.draw)

    def counts(self, seed: int) -> NDArray[np.int32]:
        """M int32 [N], drawn from the mask; M_0 = 0."""
        return drawn_counts(self.draw, self.mask, self.repeats, seed)


# The method of a scheme, or None where it has none: a network that was trained for other masks, say.
MethodFor = Callable[[SensingScheme], Method | None]

# Rows that are done, rows in all, and the newest; None where a former evaluation's rows are taken over.
Progress = Callable[[int, int, Score | None], None]


@dataclass(frozen=True)
class RawRepeats:
    """Noise of the camera instead of simulated noise: raw repeats [K, R, n, n] of the images, scaled as they are."""

    repeats: NDArray[np.generic]


def for_every_scheme(method: Method) -> MethodFor:
    """A method that serves all schemes alike."""
    return lambda _: method


def evaluate(
    images: NDArray[np.floating],
    schemes: Sequence[SensingScheme],
    methods: Mapping[str, MethodFor],
    noise: NoiseModel | RawRepeats,
    *,
    seed: int,
    data_range: float,
    path: Path | None = None,
    method_facts: Mapping[str, str] | None = None,
    only: Collection[tuple[str, str]] | None = None,
    progress: Progress | None = None,
) -> Scores:
    """Scores of every image under every scheme and method, image by image.

    images: light [K, n, n], 0 or more, with contrast; methods: by the name that the table shows; data_range: of PSNR
    and SSIM, in the images' units; only: the (scheme name, method name) pairs to compute, None for all that apply.
    Draw and noise of image k under a scheme come from (seed, k, the scheme's label) alone, and all methods of a scheme
    see the same estimate: no row depends on which others are computed.

    path: CSV file to which every row is appended as it comes. Where it exists, its rows are not computed again; what it
    was computed from is on record beside it and must be the same. method_facts: what else must be the same of a method,
    by name (a model's digest).

    Raises EvaluationInputError, MethodImageError, and with ``path`` ScoreFileError and RecordMismatchError.
    """
    stack = _checked_images(images, data_range)
    _check_schemes(schemes, stack.shape[-1])
    _check_names([*(scheme.name for scheme in schemes), *methods])
    if isinstance(noise, RawRepeats):
        _check_repeats(noise, stack)
    plan = _plan(schemes, methods, only)
    facts = {name: (method_facts or {}).get(name, "") for name in methods}
    record = EvaluationRecord(
        _shared_facts(stack, noise, seed, data_range),
        {scheme.label: _digest(scheme.mask) for scheme in schemes},
        facts,
    )
    with nullcontext(ScoreLog()) if path is None else open_score_log(path, record) as log:
        wanted = [Condition(scheme.label, name) for scheme, of_scheme in plan for name in of_scheme]
        total = len(stack) * len(wanted)
        done = sum(log.get(k, condition) is not None for k in range(len(stack)) for condition in wanted)
        if progress is not None:
            progress(done, total, None)
        for k, truth in enumerate(stack):
            for scheme, of_scheme in plan:
                missing = {
                    name: method
                    for name, method in of_scheme.items()
                    if log.get(k, Condition(scheme.label, name)) is None
                }
                for score in _scored(k, truth, scheme, missing, noise, seed, data_range):
                    log.append(score)
                    done += 1
                    if progress is not None:
                        progress(done, total, score)
        rows = (log.get(k, condition) for k in range(len(stack)) for condition in wanted)
        return Scores(tuple(row for row in rows if row is not None))


def simulated_estimate(
    image: NDArray[np.float64], counts: NDArray[np.integer], noise: NoiseModel, rng: np.random.Generator
) -> Estimate:
    """What M pairs of every coefficient of an image [n, n] say: simulated readings, the mean of y+ - y-, its variance.

    counts: M [N]. The variance is (aT̂ + 2b)/M_i with the measured T̂; entry 0 is T̂ itself, the mean pair sum over all
    pairs. Raises NegativeLightError.
    """
    statistics = draw_statistics(image, counts, noise, rng)
    total = total_from_pairs(statistics)
    variance = np.full(len(statistics.count), np.inf)
    pairs = int(statistics.count.sum(dtype=np.int64))
    if pairs:
        pair_variance = noise.pair_variance(max(total, 0.0))
        np.divide(pair_variance, statistics.count, out=variance, where=statistics.count > 0)
        variance[0] = pair_variance / pairs
    return Estimate(difference(statistics, total), variance, total)


class EvaluationInputError(ValueError):
    """Images, schemes or a choice of rows that cannot be evaluated."""


class MethodImageError(ValueError):
    """A method that gave something else than an image."""


_Plan = list[tuple[SensingScheme, dict[str, Method]]]


def _plan(
    schemes: Sequence[SensingScheme], methods: Mapping[str, MethodFor], only: Collection[tuple[str, str]] | None
) -> _Plan:
    """The methods that apply to each scheme."""
    if only is not None:
        offered = {(scheme.name, name) for scheme in schemes for name in methods}
        unknown = sorted(set(only) - offered)
        if unknown:
            raise EvaluationInputError(
                f"found {unknown[0]} among the rows to compute; expected (scheme, method) out of {sorted(offered)}"
            )
    plan: _Plan = []
    for scheme in schemes:
        of_scheme: dict[str, Method] = {}
        for name, method_for in methods.items():
            chosen = only is None or (scheme.name, name) in only
            method = method_for(scheme) if chosen else None
            if method is not None:
                of_scheme[name] = method
        plan.append((scheme, of_scheme))
    if not any(of_scheme for _, of_scheme in plan):
        raise EvaluationInputError("found no method that applies to any of the schemes; expected one row at least")
    return plan


def _scored(
    k: int,
    truth: NDArray[np.float64],
    scheme: SensingScheme,
    methods: Mapping[str, Method],
    noise: NoiseModel | RawRepeats,
    seed: int,
    data_range: float,
) -> Iterator[Score]:
    """Measure image k once, and score each method's image of it as it comes."""
    if not methods:
        return
    words = [seed, k, zlib.crc32(repr(tuple(scheme.label)).encode())]
    counts = scheme.counts(int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0]))
    pairs = int(counts.sum(dtype=np.int64))
    if pairs == 0:
        raise EvaluationInputError(f"found no pair drawn for image {k} ({scheme.label}); expected one at least")
    rng = np.random.default_rng([*words, _NOISE_STREAM])
    if isinstance(noise, RawRepeats):
        estimate = measured_from_repeats(noise.repeats[k], counts, rng)
    else:
        estimate = simulated_estimate(truth, counts, noise, rng)
    for name, method in methods.items():
        image = np.asarray(method(estimate), dtype=np.float64)
        condition = Condition(scheme.label, name)
        if image.shape != truth.shape or not np.isfinite(image).all():
            raise MethodImageError(
                f"found {np.count_nonzero(~np.isfinite(image))} values that are NaN or infinite in an array "
                f"{list(image.shape)}, image {k} of {condition}; expected a finite image {list(truth.shape)}"
            )
        yield Score(
            k,
            condition,
            pairs,
            psnr(truth, image, data_range),
            ssim(truth, image, data_range),
            _min_max_psnr(truth, image),
        )


def _min_max_psnr(truth: NDArray[np.float64], image: NDArray[np.float64]) -> float:
    try:
        return min_max_psnr(truth, image)
    except ConstantImageError:
        # The truth has contrast, that was checked: the reconstruction has none, and the paper's measure has no value.
        return float("nan")


def _checked_images(images: NDArray[np.floating], data_range: float) -> NDArray[np.float64]:
    stack = np.asarray(images, dtype=np.float64)
    if stack.ndim != 3 or not len(stack) or stack.shape[1] != stack.shape[2] or stack.shape[1] < SMALLEST_SIDE:
        raise EvaluationInputError(
            f"found images {list(stack.shape)}; expected [K, n, n], K at least 1, n at least {SMALLEST_SIDE} (SSIM)"
        )
    if not data_range > 0:
        raise EvaluationInputError(f"found a data range of {data_range:g}; expected more than 0")
    for k, image in enumerate(stack):
        if not np.isfinite(image).all() or image.min() < 0 or image.max() == image.min():
            raise EvaluationInputError(
                f"found values from {image.min():g} to {image.max():g} in image {k}; expected finite light of 0 or "
                "more, with contrast: leave that image out"
            )
    return stack


def _check_schemes(schemes: Sequence[SensingScheme], side: int) -> None:
    labels = [scheme.label for scheme in schemes]
    twice = [label for label in labels if labels.count(label) > 1]
    if twice:
        raise EvaluationInputError(f"found two schemes named {twice[0]}; expected a name of its own for each mask")
    for scheme in schemes:
        if scheme.side != side:
            raise EvaluationInputError(
                f"found a mask for n = {scheme.side} in {scheme.label} and images of n = {side}; expected the same side"
            )


def _check_names(names: Sequence[str]) -> None:
    """Names stand in CSV lines and in table cells."""
    for name in names:
        if not (name.strip() and name.isprintable()):
            raise EvaluationInputError(f"found {name!r} as a name; expected printable characters on one line")


def _check_repeats(noise: RawRepeats, stack: NDArray[np.float64]) -> None:
    shape = noise.repeats.shape
    if len(shape) != 4 or (shape[0], *shape[2:]) != stack.shape:
        raise EvaluationInputError(
            f"found raw repeats {list(shape)} with images {list(stack.shape)}; expected [K, R, n, n] of the same images"
        )


def _shared_facts(
    stack: NDArray[np.float64], noise: NoiseModel | RawRepeats, seed: int, data_range: float
) -> dict[str, int | float | str]:
    facts: dict[str, int | float | str] = {
        "seed": seed,
        "data_range": float(data_range),
        "images": len(stack),
        "side": stack.shape[1],
        "images_digest": _digest(stack),
    }
    if isinstance(noise, RawRepeats):
        return {**facts, "noise": "raw repeats", "repeats_digest": _digest(noise.repeats)}
    return {**facts, "noise": "simulated", "gain": float(noise.gain), "variance": float(noise.variance)}


def _digest(values: NDArray[np.generic]) -> str:
    """sha256 of an array's values, shape and dtype."""
    header = f"{values.dtype.str}{values.shape}".encode()
    return hashlib.sha256(header + np.ascontiguousarray(values).tobytes()).hexdigest()


_NOISE_STREAM = 0x9017
