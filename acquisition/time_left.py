"""How long something goes on, told from how fast it went so far."""

from __future__ import annotations


class TimeLeft:
    """Estimates the time left from what was done while it was watched; what was there before counts as no speed.

    Shares are of the whole, from 0 to 1; times are seconds of any clock that never goes back.
    """

    def __init__(self) -> None:
        self._newest: tuple[float, float] | None = None
        self._share = self._seconds = 0.0
        self._steps = 0

    def reached(self, share: float, now_s: float) -> None:
        """``share`` is done, and the last of it just now."""
        if self._newest is not None:
            before_s, before = self._newest
            self._share += share - before
            self._seconds += now_s - before_s
            self._steps += 1
        self._newest = now_s, share

    def found(self, share: float, now_s: float) -> None:
        """``share`` is done, and some of it was there already. Where it is what was known, time counts as waiting."""
        known = 0.0 if self._newest is None else self._newest[1]
        if share != known:
            self._newest = now_s, share

    def passed_over(self, now_s: float) -> None:
        """The time until now says nothing of the speed: somebody was asked, say."""
        if self._newest is not None:
            self._newest = now_s, self._newest[1]

    def seconds(self, now_s: float) -> float | None:
        """Seconds left at ``now_s``, or None where nothing can be said of it yet."""
        if self._newest is None or self._share <= 0 or self._seconds <= 0:
            return None
        newest_s, share = self._newest
        silent_s = now_s - newest_s
        # Between two steps the figure stands still; where nothing comes for longer, that is speed, too.
        watched_s = self._seconds + (silent_s if silent_s * self._steps > 2 * self._seconds else 0.0)
        return max(1.0 - share, 0.0) * watched_s / self._share


def in_words(seconds: float) -> str:
    """A duration for a line of text: "8 s", "2 min 5 s", "1 h 12 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def on_a_clock(seconds: float) -> str:
    """The same in few columns: "0:08", "2:05", "1:12:00"."""
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"
