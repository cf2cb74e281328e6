"""The table of an evaluation: a CSV line per condition, and Markdown like Table 1 of Wang et al. 2021."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.learning.comparison import Comparison
from models.learning.scores import SchemeLabel, Scores, Spread, Summary, doses_match
from models.noise import NoiseModel

SUMMARY_COLUMNS = (
    "mask",
    "alpha",
    "repeats",
    "draw",
    "method",
    "images",
    "mean_pairs",
    "psnr_db_mean",
    "psnr_db_sd",
    "ssim_mean",
    "ssim_sd",
    "min_max_psnr_db_mean",
    "min_max_psnr_db_sd",
)


@dataclass(frozen=True)
class TableSetting:
    """What a table must say of itself.

    images: the name of the set; side: n; scaling: how the images were scaled, as words ("scaled to maximum 1");
    data_range: of PSNR and SSIM; noise: of the simulated readings, or None where they came from raw repeats.
    """

    images: str
    side: int
    scaling: str
    data_range: float
    noise: NoiseModel | None

    def heading(self, n_images: int) -> str:
        """What was measured, in one sentence."""
        path = (
            "readings from raw camera repeats"
            if self.noise is None
            else f"readings simulated with a = {self.noise.gain:g}, b = {self.noise.variance:g}"
        )
        return (
            f"{self.images}: {n_images} image{'' if n_images == 1 else 's'} of {self.side} × {self.side} pixels, "
            f"{self.scaling}; {path}; PSNR and SSIM against a data range of {self.data_range:g}."
        )


def group_by_dose_setting(scores: Scores) -> dict[SchemeLabel, list[Summary]]:
    """Summaries of equal α, S and draw; the largest α first. The keys' mask is empty."""
    groups: dict[SchemeLabel, list[Summary]] = {}
    for summary in scores.summaries():
        groups.setdefault(summary.condition.scheme._replace(mask=""), []).append(summary)
    return dict(sorted(groups.items(), key=lambda item: (-item[0].alpha, -item[0].repeats, item[0].draw)))


def results_markdown(scores: Scores, setting: TableSetting) -> str:
    """The table as Markdown: one section for every α, S and draw, one line for every method and mask.

    The best of a section is bold, in each column, where all of it spent the same dose within 1 %; else nothing is, and
    a sentence says why.
    """
    counts = sorted({summary.n_images for summary in scores.summaries()})
    parts = [f"{setting.heading(counts[-1] if counts else 0)} Mean ± standard deviation over images."]
    if len(counts) > 1:
        parts.append(f"Not finished: the smallest number of images on a line is {counts[0]}.")
    for group, summaries in group_by_dose_setting(scores).items():
        parts += [f"### {group.setting}", _section(summaries)]
    return "\n\n".join(parts) + "\n"


def comparisons_markdown(comparisons: Sequence[Comparison]) -> str:
    """Paired comparisons as Markdown, one line each; p is corrected by Holm's method over all of them."""
    lines = [
        "| setting | first | second | metric | images | first − second [95 % interval] | p (Holm) |",
        "|---|---|---|---|---:|---:|---:|",
    ]
    for comparison in comparisons:
        digits = 3 if comparison.metric == "ssim" else 2
        difference = f"{comparison.mean_difference:+.{digits}f}"
        interval = f"[{comparison.low:+.{digits}f}, {comparison.high:+.{digits}f}]"
        lines.append(
            f"| {' | '.join(map(_cell, _compared(comparison)))} | {_METRIC_NAMES[comparison.metric]} "
            f"| {comparison.n_images} | {difference} {interval} | {_p_value(comparison.p_holm)} |"
        )
    return "\n".join(lines) + "\n"


def write_summaries(path: Path, summaries: Sequence[Summary]) -> None:
    """Write one CSV line per condition, with all digits."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(SUMMARY_COLUMNS)
        for summary in summaries:
            scheme = summary.condition.scheme
            spreads = (summary.psnr, summary.ssim, summary.min_max_psnr)
            numbers = [summary.mean_pairs, *(value for each in spreads for value in (each.mean, each.sd))]
            writer.writerow(
                [
                    scheme.mask,
                    repr(float(scheme.alpha)),
                    scheme.repeats,
                    scheme.draw,
                    summary.condition.method,
                    summary.n_images,
                    *(repr(float(number)) for number in numbers),
                ]
            )


def _compared(comparison: Comparison) -> tuple[str, str, str]:
    """The setting and both conditions in words; the second names its own setting where it has another."""
    first, second = comparison.first, comparison.second
    setting = first.scheme.setting
    other = "" if second.scheme.setting == setting else f" ({second.scheme.setting})"
    return setting, f"{first.method}, {first.scheme.mask}", f"{second.method}, {second.scheme.mask}{other}"


def _section(summaries: Sequence[Summary]) -> str:
    matched = doses_match(summary.mean_pairs for summary in summaries)
    columns = [
        _marked(summaries, lambda summary: summary.psnr, 2, matched),
        _marked(summaries, lambda summary: summary.ssim, 3, matched),
        _marked(summaries, lambda summary: summary.min_max_psnr, 2, matched),
    ]
    lines = [
        "| method | mask | PSNR (dB) | SSIM | min-max PSNR (dB, the paper's) | pairs per image |",
        "|---|---|---:|---:|---:|---:|",
    ]
    methods = list(dict.fromkeys(summary.condition.method for summary in summaries))
    for number in sorted(range(len(summaries)), key=lambda k: methods.index(summaries[k].condition.method)):
        summary = summaries[number]
        cells = (summary.condition.method, summary.condition.scheme.mask, *(column[number] for column in columns))
        lines.append(f"| {' | '.join(map(_cell, cells))} | {summary.mean_pairs:,.0f} |")
    if not matched:
        lines += ["", "Doses differ by more than 1 %: the lines are not comparable, and none is marked as the best."]
    return "\n".join(lines)


def _marked(summaries: Sequence[Summary], pick: Callable[[Summary], Spread], digits: int, matched: bool) -> list[str]:
    """One column as text, the best of it bold. What reads alike is equally good."""
    texts = [f"{pick(summary).mean:.{digits}f} ± {pick(summary).sd:.{digits}f}" for summary in summaries]
    means = np.array([pick(summary).mean for summary in summaries])
    if not matched or np.isnan(means).all():
        return texts
    best = f"{np.nanmax(means):.{digits}f}"
    return [f"**{text}**" if f"{mean:.{digits}f}" == best else text for text, mean in zip(texts, means, strict=True)]


def _p_value(p: float) -> str:
    if p < 1e-99:
        return "< 1e-99"
    return f"{p:.3f}" if p >= 0.001 else f"{p:.0e}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


_METRIC_NAMES = {"psnr": "PSNR (dB)", "ssim": "SSIM", "min_max_psnr": "min-max PSNR (dB)"}
