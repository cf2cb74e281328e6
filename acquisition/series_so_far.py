"""What a series that was broken off has behind it: its times, and the light its places have had."""

from __future__ import annotations

from dataclasses import dataclass

from acquisition.mda import SeriesEvent
from acquisition.stored_run import StoredRun
from acquisition.stored_series import StoredSeries


@dataclass(frozen=True)
class SeriesSoFar:
    """What a series that goes on has behind it.

    begun_s: when events began, by number; elapsed_s: the series' time so far; zero_us: of a simulated bench's clock,
    when the first event began, None where none did; lit: exposures under light, by event; lit_by_place: the same by
    place, those of events whose runs were deleted since included; bench_state: before the first event; warnings: so
    far.
    """

    begun_s: dict[int, float]
    elapsed_s: float
    zero_us: float | None
    lit: dict[int, int]
    lit_by_place: dict[int, int]
    bench_state: tuple[float, ...]
    warnings: tuple[str, ...]

    @classmethod
    def of(cls, stored: StoredSeries, events: tuple[SeriesEvent, ...], runs: dict[int, StoredRun]) -> SeriesSoFar:
        """Read it; runs: of the events that have begun, by number."""
        begun_s = {number: float(run.facts["event"]["begun_s"]) for number, run in runs.items()}
        latest = max(begun_s, key=lambda number: begun_s[number], default=None)
        lit = {number: _lit(run) for number, run in runs.items()}
        lit_by_place = {int(place): int(had) for place, had in stored.facts["lit_by_place"].items()}
        for place in {event.place for event in events}:
            had = sum(lit.get(event.number, 0) for event in events if event.place == place)
            lit_by_place[place] = max(had, lit_by_place.get(place, 0))
        return cls(
            begun_s=begun_s,
            elapsed_s=0.0 if latest is None else begun_s[latest] + _duration_s(runs[latest]),
            zero_us=stored.facts["zero_us"],
            lit=lit,
            lit_by_place=lit_by_place,
            bench_state=tuple(stored.facts["bench_state"]),
            warnings=tuple(stored.facts["warnings"]),
        )


def _lit(run: StoredRun) -> int:
    """Exposures under light, as far as they are on record."""
    return max(run.lit_exposures, int(run.facts.get("lit_exposures", 0)))


def _duration_s(run: StoredRun) -> float:
    """From a run's beginning to its last reading, s."""
    *_, end_us = [0.0, *(float(readings.time_us.max()) for readings in run.intact_blocks())]
    return end_us * 1e-6
