"""A whole evaluation: scores of every mask and method, the questions that they answer, tables and pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.draws import Draw
from models.learning.comparison import Comparison, compare
from models.learning.evaluation import Progress, RawRepeats, SensingScheme, evaluate, simulated_estimate
from models.learning.evaluation_plan import (
    BINARY,
    COMPACT,
    CS_TV,
    LEARNED,
    LEARNED_BY_PAPER,
    PAPER_UNET,
    PLAIN,
    TV_WAVELET,
    WIENER,
    WIENER_TV,
    methods_of_table,
    schemes_of_table,
)
from models.learning.model_file import TrainedModel
from models.learning.raw_repeats import measured_from_repeats
from models.learning.result_plots import Example, draw_masks, draw_psnr_boxes, draw_reconstructions
from models.learning.results_table import TableSetting, comparisons_markdown, results_markdown, write_summaries
from models.learning.scores import Condition, Score, Scores, doses_match
from models.learning.uncertainty_check import UncertaintyScores, check_uncertainty
from models.masks import half_half
from models.noise import NoiseModel
from models.priors import Prior
from models.tv_wavelet import grid_search_tv_wavelet

TRAINING_FREE = (PLAIN, WIENER, WIENER_TV, CS_TV, TV_WAVELET)
TV_GRID = (0.25, 0.5, 1.0, 2.0)
WAVELET_GRID = (0.0, 0.25, 0.5, 1.0, 2.0)
_MOST_VALIDATION = 8
_EXAMPLES = 2


@dataclass(frozen=True)
class EvaluationRequest:
    """What is evaluated.

    name: of the image set; images: [K, n, n], each with a maximum of 1; validation: images that TV-W's weights are
    chosen on, [K', n, n], empty: TV-W is left out; repeats_of: raw repeats [K, R, n, n] that stand for simulated noise,
    or None; gain, variance: a and b of the images; alphas, repeats, draws: of the masks; prior: at unit total light.
    """

    name: str
    images: NDArray[np.float32]
    validation: NDArray[np.float32]
    repeats_of: NDArray[np.generic] | None
    noise: NoiseModel
    alphas: tuple[float, ...]
    repeats: int
    draws: tuple[Draw, ...]
    prior: Prior
    models: tuple[TrainedModel, ...]
    seed: int


def evaluate_all(request: EvaluationRequest, folder: Path, progress: Progress | None = None) -> Scores:
    """Scores of every α, mask, draw and method; rows are kept in ``folder`` as they come, and not computed again.

    Writes scores-α.csv for every α and the weights of TV-W. Raises what ``evaluate`` raises.
    """
    schemes_at = {alpha: schemes_of(request, alpha) for alpha in request.alphas}
    folder.mkdir(parents=True, exist_ok=True)
    noise = request.noise if request.repeats_of is None else RawRepeats(request.repeats_of)
    rows: list[Score] = []
    for alpha, schemes in schemes_at.items():
        methods = methods_of_table(request.prior, request.models, _tv_wavelet_weights(request, alpha, folder))
        binary_learned = {scheme.name for scheme in schemes if scheme.name.startswith(BINARY)}
        wanted = {
            (scheme.name, method)
            for scheme in schemes
            for method in methods
            if scheme.name not in binary_learned or method == TV_WAVELET
        }
        scores = evaluate(
            request.images.astype(np.float64),
            schemes,
            methods,
            noise,
            seed=request.seed,
            data_range=1.0,
            path=folder / f"scores-{alpha:g}.csv",
            method_facts={name: _facts(name, request.models, alpha) for name in methods},
            only=wanted,
            progress=progress,
        )
        rows += scores.rows
    return Scores(tuple(rows))


def schemes_of(request: EvaluationRequest, alpha: float) -> list[SensingScheme]:
    """The masks of one α, under every draw. Raises MaskError."""
    n = request.images.shape[-1]
    # Water-filling is for light that is known before: the mean of what the prior was made of, here of these images.
    total = float(request.images.sum(axis=(1, 2)).mean())
    return schemes_of_table(
        n, alpha, request.repeats, request.draws, request.prior, request.noise, total, request.models, request.seed
    )


def questions(scores: Scores) -> list[tuple[Condition, Condition]]:
    """The comparisons of interest, for every α: ours against the paper's, against the best without training, learned
    against water-filled against uniform masks under the same method and draw.
    """
    pairs = []
    mean = {summary.condition: summary.psnr.mean for summary in scores.summaries()}
    for alpha in sorted({condition.scheme.alpha for condition in mean}, reverse=True):
        here = [condition for condition in mean if condition.scheme.alpha == alpha]
        ours = [c for c in here if c.method == COMPACT]
        papers = [c for c in here if c.method == PAPER_UNET and c.scheme.mask == LEARNED_BY_PAPER]
        free = [c for c in here if c.method in TRAINING_FREE]
        if ours and papers:
            pairs.append((max(ours, key=mean.__getitem__), papers[0]))
        if ours and free:
            pairs.append((max(ours, key=mean.__getitem__), max(free, key=mean.__getitem__)))
        for method in (COMPACT, CS_TV):
            for draw in dict.fromkeys(c.scheme.draw for c in here):
                by_mask = {c.scheme.mask: c for c in here if c.method == method and c.scheme.draw == draw}
                for better, worse in ((LEARNED, "water-filled"), ("water-filled", "uniform"), (LEARNED, "uniform")):
                    if better in by_mask and worse in by_mask:
                        pairs.append((by_mask[better], by_mask[worse]))
    return list(dict.fromkeys(pairs))


def write_report(request: EvaluationRequest, scores: Scores, folder: Path) -> tuple[Path, tuple[Comparison, ...]]:
    """results.md, summary.csv and the pictures masks.png, psnr.png and reconstructions.png; the page, and what was
    compared. What the networks say of their own uncertainty is checked on the way.
    """
    setting = TableSetting(
        images=request.name,
        side=request.images.shape[-1],
        scaling="each scaled to a maximum of 1",
        data_range=1.0,
        noise=request.noise if request.repeats_of is None else None,
    )
    asked = questions(scores)
    compared = compare(scores, [pair for pair in asked if _comparable(scores, *pair)])
    parts = [f"# {request.name}", results_markdown(scores, setting)]
    if compared:
        parts += ["## Compared image by image", comparisons_markdown(compared)]
    if len(compared) < len(asked):
        left_out = "\n".join(
            f"- {first} and {second}" for first, second in asked if not _comparable(scores, first, second)
        )
        parts.append(f"Not compared, on fewer than two images or at doses that differ by more than 1 %:\n\n{left_out}")
    checked = _uncertainty(request)
    if checked:
        parts += ["## What the networks say of themselves", _uncertainty_markdown(checked)]
    page = folder / "results.md"
    page.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    write_summaries(folder / "summary.csv", scores.summaries())
    masks = {
        alpha: {s.name: s.mask for s in schemes_of(request, alpha) if s.draw == request.draws[0]}
        for alpha in request.alphas
    }
    draw_masks(folder / "masks.png", masks)
    draw_psnr_boxes(folder / "psnr.png", scores, request.name)
    draw_reconstructions(folder / "reconstructions.png", _examples(request), 1.0)
    return page, compared


def _comparable(scores: Scores, first: Condition, second: Condition) -> bool:
    """Whether a paired test can be made: two images at least, at one dose."""
    return len(scores.of(first)) > 1 and doses_match((scores.mean_pairs(first), scores.mean_pairs(second)))


def _tv_wavelet_weights(request: EvaluationRequest, alpha: float, folder: Path) -> tuple[float, float] | None:
    """By grid search under the half-half mask, on up to _MOST_VALIDATION validation images; kept in the folder."""
    if not len(request.validation) or request.repeats_of is not None:
        return None
    kept = folder / f"tv-w-{alpha:g}.json"
    if kept.exists():
        weights = json.loads(kept.read_text(encoding="utf-8"))
        return float(weights["tv_weight"]), float(weights["wavelet_weight"])
    n = request.images.shape[-1]
    scheme = SensingScheme("half-half", half_half(n, alpha, request.seed), alpha, request.repeats, "bernoulli")
    step = max(1, len(request.validation) // _MOST_VALIDATION)
    truths = [image.astype(np.float64) for image in request.validation[::step][:_MOST_VALIDATION]]
    pairs = [
        (truth, simulated_estimate(truth, scheme.counts(k), request.noise, np.random.default_rng([request.seed, k])))
        for k, truth in enumerate(truths)
    ]
    found = grid_search_tv_wavelet(pairs, TV_GRID, WAVELET_GRID, data_range=1.0)
    weights = {"tv_weight": found.tv_weight, "wavelet_weight": found.wavelet_weight}
    kept.write_text(json.dumps(weights), encoding="utf-8")
    return found.tv_weight, found.wavelet_weight


def _facts(method: str, models: Sequence[TrainedModel], alpha: float) -> str:
    """What a method's rows at one α were made by: the digests of its networks' weights."""
    kind = {COMPACT: "compact", PAPER_UNET: "paper-unet"}.get(method)
    serving = [model.card for model in models if (model.card.kind, model.card.alpha) == (kind, alpha)]
    return " ".join(card.sha256 for card in serving)


def _uncertainty(request: EvaluationRequest) -> list[tuple[SensingScheme, UncertaintyScores]]:
    """Every compact network under the mask and the draw that it was trained for."""
    checked = []
    for model in request.models:
        card = model.card
        if card.kind == "compact" and card.n == request.images.shape[-1] and request.repeats_of is None:
            scheme = SensingScheme(LEARNED, model.mask, card.alpha, request.repeats, card.draw)
            found = check_uncertainty(model.network, request.images, scheme, request.noise, seed=request.seed)
            checked.append((scheme, found))
    return checked


def _uncertainty_markdown(checked: Sequence[tuple[SensingScheme, UncertaintyScores]]) -> str:
    lines = [
        "| α | PSNR predicted within 1 dB | 90 % interval holds the truth | darkest third | middle | brightest |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for scheme, found in checked:
        shares = (found.within, found.coverage, *found.by_third)
        lines.append(f"| {scheme.alpha:g} | " + " | ".join(f"{100 * share:.1f} %" for share in shares) + " |")
    return "\n".join(lines)


def _examples(request: EvaluationRequest) -> list[Example]:
    """Two images of middling light, under the best masks of the largest α."""
    alpha = max(request.alphas)
    methods = methods_of_table(request.prior, request.models, None)
    order = np.argsort(request.images.mean(axis=(1, 2)))
    chosen = [int(order[round(share * (len(order) - 1))]) for share in np.linspace(0.4, 0.7, _EXAMPLES)]
    schemes = {scheme.name: scheme for scheme in reversed(schemes_of(request, alpha))}
    shown = [("uniform", WIENER), ("water-filled", CS_TV), (LEARNED_BY_PAPER, PAPER_UNET), (LEARNED, COMPACT)]
    examples = []
    for k in chosen:
        truth = request.images[k].astype(np.float64)
        images = {}
        for name, method in shown:
            if name not in schemes or method not in methods:
                continue
            made = methods[method](schemes[name])
            if made is not None:
                counts, rng = schemes[name].counts(k), np.random.default_rng([request.seed, k])
                estimate = (
                    simulated_estimate(truth, counts, request.noise, rng)
                    if request.repeats_of is None
                    else measured_from_repeats(request.repeats_of[k], counts, rng)
                )
                images[f"{method},\n{name}"] = np.asarray(made(estimate))
        examples.append(Example(f"image {k}", truth, images))
    return examples
