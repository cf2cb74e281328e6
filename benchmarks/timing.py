"""Times of rival ways to do the same, measured side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from time import perf_counter


def best_of(
    candidates: Sequence[Callable[[], object]], repeats: int, *, calls: int = 1, rounds: int = 1
) -> tuple[float, ...]:
    """Seconds per call of every candidate: the median over ``repeats`` interleaved timings, A B A B.

    Interleaved, because what else the computer does at a time must meet them alike. Every timing is of ``calls`` calls
    in a row, after one that is not timed. Of ``rounds`` such comparisons the one with the smallest sum counts: the
    one that was disturbed least, and all candidates of the same one.
    """
    for candidate in candidates:
        candidate()
    return min((_medians(candidates, repeats, calls) for _ in range(rounds)), key=sum)


def _medians(candidates: Sequence[Callable[[], object]], repeats: int, calls: int) -> tuple[float, ...]:
    times: list[list[float]] = [[] for _ in candidates]
    for _ in range(repeats):
        for candidate, took in zip(candidates, times, strict=True):
            started = perf_counter()
            for _ in range(calls):
                candidate()
            took.append((perf_counter() - started) / calls)
    return tuple(median(took) for took in times)
