"""How far something is, in one line: a line of a log, or as much of it as a terminal is wide."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from rich.cells import cell_len

from acquisition.observer import Place
from acquisition.terminal import showable
from acquisition.time_left import in_words, on_a_clock

LONGEST_BAR = 40
_SHORTEST_BAR = 8
_STUMP_OF_A_BAR = 4
# In fewer columns than these, only the percentage is sure to be understood.
_NARROWEST = 30


@dataclass(frozen=True)
class Standing:
    """How far something is.

    doing: what goes on, one word; unit: what is counted; done, total: counts, of the image in ``place`` where it is one
    of a series; total is None where it is not known yet. elapsed_s: since it began; left_s: until it ends, or None
    where nothing can be said of it. quality, quality_short: of what came out so far, in words and in few columns.
    """

    doing: str
    unit: str
    done: int = 0
    total: int | None = None
    place: Place | None = None
    elapsed_s: float = 0.0
    left_s: float | None = None
    quality: str = ""
    quality_short: str = ""

    @property
    def share(self) -> float:
        """How much of all is done, from 0 to 1."""
        share = min(self.done / self.total, 1.0) if self.total else 0.0
        return share if self.place is None else (self.place.number + share) / self.place.total

    @property
    def percent(self) -> str:
        """The same in words; 100 % is only said of what is done."""
        return f"{int(100 * self.share + 1e-6)} %"

    @property
    def counts(self) -> str:
        """What was counted, in words."""
        return "" if self.total is None else f"{self.done:,} of {self.total:,} {self.unit}"

    def showable(self, encoding: str) -> Standing:
        """The same in what an encoding can show."""
        place = None if self.place is None else replace(self.place, name=showable(self.place.name, encoding))
        quality, short = showable(self.quality, encoding), showable(self.quality_short, encoding)
        return replace(self, place=place, quality=quality, quality_short=short)


def log_line(standing: Standing) -> str:
    """A line of a log, while it goes on."""
    left = None if standing.left_s is None else f"{in_words(standing.left_s)} left"
    return _joined(standing, standing.percent, left)


def last_log_line(standing: Standing, *, ended_early: bool) -> str:
    """The line of a log that says how it ended."""
    elapsed = in_words(standing.elapsed_s)
    if ended_early:
        return _joined(standing, f"ended at {standing.percent}", f"after {elapsed}")
    return _joined(standing, standing.percent, f"in {elapsed}")


@dataclass(frozen=True)
class Fitted:
    """What a terminal shows: texts with the names of their styles, and a bar of so many columns.

    bar_at: how many of the texts stand before the bar; gap: columns between all of them.
    """

    texts: tuple[tuple[str, str], ...]
    bar: int
    bar_at: int
    gap: int

    @property
    def width(self) -> int:
        """Columns in all."""
        widths = [cell_len(text) for text, _ in self.texts] + ([self.bar] if self.bar else [])
        return sum(widths) + self.gap * (len(widths) - 1)


def fitted(standing: Standing, width: int) -> Fitted:
    """As much of a standing as fits into ``width`` columns, the most important last to go; the percentage always.

    The bar takes what is left over, up to LONGEST_BAR columns.
    """
    if width < _NARROWEST:
        return _fitted({"percent": standing.percent}, 0, 1)
    for shape in _shapes(standing):
        if shape.width <= width:
            spare = width - shape.width
            return replace(shape, bar=min(shape.bar + spare, LONGEST_BAR) if shape.bar else 0)
    return _fitted({"percent": standing.percent}, 0, 1)


_STYLES = {
    "doing": "",
    "percent": "progress.percentage",
    "place": "",
    "counts": "progress.download",
    "elapsed": "progress.elapsed",
    "left": "progress.remaining",
    "quality": "",
}


def _shapes(standing: Standing) -> Iterator[Fitted]:
    """From everything to the least, the least important shortened or left out first."""
    place, texts = standing.place, dict.fromkeys(_STYLES, "")
    number = "" if place is None else f"{place.number + 1}/{place.total}"
    total = "" if standing.total is None else f"{standing.total:,}"
    # As wide from the start as they get, so that nothing jumps about.
    done = f"{standing.done:,}".rjust(len(total))
    texts |= {
        "doing": standing.doing,
        "percent": standing.percent.rjust(len("100 %")),
        "place": "" if place is None else f"{number} {place.name}",
        "counts": total and f"{done} of {total} {standing.unit}",
        "elapsed": on_a_clock(standing.elapsed_s),
        "left": "" if standing.left_s is None else f"{on_a_clock(standing.left_s)} left",
        "quality": standing.quality,
    }
    yield _fitted(texts, _SHORTEST_BAR, 2)
    yield _fitted(texts, _SHORTEST_BAR, 1)
    for what, shorter in (
        ("quality", standing.quality_short),
        ("elapsed", ""),
        ("counts", total and f"{done}/{total}"),
        ("place", number),
        ("counts", ""),
        ("quality", ""),
    ):
        texts[what] = shorter
        yield _fitted(texts, _SHORTEST_BAR, 1)
    yield _fitted(texts, _STUMP_OF_A_BAR, 1)
    for what in ("doing", "place", "left"):
        texts[what] = ""
        yield _fitted(texts, _STUMP_OF_A_BAR, 1)


def _fitted(texts: dict[str, str], bar: int, gap: int) -> Fitted:
    shown = {what: text for what, text in texts.items() if text}
    bar_at = list(shown).index("percent")
    return Fitted(tuple((text, _STYLES[what]) for what, text in shown.items()), bar, bar_at, gap)


def _joined(standing: Standing, percent: str, time: str | None) -> str:
    place = standing.place
    where = None if place is None else f"{place.number + 1}/{place.total} {place.name}".rstrip()
    parts = (standing.doing, percent, where, standing.counts, time, standing.quality)
    return "  ".join(part for part in parts if part)
