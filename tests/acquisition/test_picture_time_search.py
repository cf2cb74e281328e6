"""The search for the shortest safe picture time finds the limit, steps back from it, and says what it tried."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acquisition.picture_time_search import (
    CONFIRMATIONS,
    MARGIN,
    NothingWorksError,
    PictureTimeSearch,
    Trial,
    readout_from,
    shortest_safe_picture_time,
)


def limited(limit_us: float, *, refused: bool = False) -> Callable[[int], Trial]:
    """A bench on which blocks work at this picture time and longer ones."""
    return lambda us: Trial(us) if us >= limit_us else Trial(us, "frames are missing", refused)


@given(limit=st.integers(50, 9000), start=st.integers(9000, 20_000))
def test_the_limit_is_found_to_two_percent_and_stepped_back_from(limit: int, start: int) -> None:
    search = shortest_safe_picture_time(limited(limit), start, 44)
    assert limit <= search.shortest_working_us <= max(1.02 * limit, limit + 1)
    assert search.safe_us == min(math.ceil(MARGIN * search.shortest_working_us), start)
    assert search.longest_failing_us is not None
    assert search.longest_failing_us < limit
    assert search.limited_by == "frames are missing"


@given(limit=st.integers(1, 500), start=st.integers(44, 20_000))
def test_nothing_is_tried_outside_of_what_is_allowed(limit: int, start: int) -> None:
    trial = limited(min(limit, start))
    tried = [each.picture_time_us for each in shortest_safe_picture_time(trial, start, 44).trials]
    assert min(tried) >= 44
    assert max(tried) == start
    assert tried[0] == start


def test_a_few_blocks_find_it() -> None:
    assert len(shortest_safe_picture_time(limited(137), 1000, 44).trials) < 25


def test_where_the_projectors_own_limit_works_it_is_confirmed_and_taken() -> None:
    search = shortest_safe_picture_time(limited(10), 1000, 44)
    assert search.safe_us == search.shortest_working_us == 44
    assert [each.picture_time_us for each in search.trials[-CONFIRMATIONS:]] == [44] * CONFIRMATIONS
    assert search.longest_failing_us is None
    assert search.limited_by is None


def test_a_start_at_the_projectors_limit_is_only_confirmed() -> None:
    search = shortest_safe_picture_time(limited(10), 44, 44)
    assert search.safe_us == 44
    assert {each.picture_time_us for each in search.trials} == {44}


def test_what_is_not_confirmed_is_stepped_back_from_again() -> None:
    """At up to 1.1 times the limit one block in three fails."""
    played: list[int] = []

    def trial(us: int) -> Trial:
        played.append(us)
        nearly = 200 <= us < 220 and played.count(us) % 3 == 0
        return Trial(us, "lost a trigger") if us < 200 or nearly else Trial(us)

    search = shortest_safe_picture_time(trial, 1000, 44)
    assert search.safe_us >= 220
    assert [each.works for each in search.trials[-CONFIRMATIONS:]] == [True] * CONFIRMATIONS
    assert search.longest_failing_us is not None
    assert 200 <= search.longest_failing_us < search.shortest_working_us <= search.safe_us


def test_a_step_back_never_goes_beyond_where_the_search_began() -> None:
    assert shortest_safe_picture_time(limited(995), 1000, 44).safe_us == 1000


def test_where_not_even_the_start_works_the_reason_is_told() -> None:
    with pytest.raises(NothingWorksError, match=r"300 µs.*frames are missing.*picture_time_us"):
        shortest_safe_picture_time(limited(400), 300, 44)


def test_a_start_that_works_only_sometimes_is_no_start() -> None:
    played: list[int] = []

    def trial(us: int) -> Trial:
        played.append(us)
        return Trial(us, "lost a trigger") if us < 100 or len(played) > 8 else Trial(us)

    with pytest.raises(NothingWorksError, match="lost a trigger"):
        shortest_safe_picture_time(trial, 100, 44)


@pytest.mark.parametrize(("start", "shortest"), [(40, 44), (100, 0)])
def test_a_search_without_room_is_refused(start: int, shortest: int) -> None:
    with pytest.raises(ValueError, match="shortest ≤ start"):
        shortest_safe_picture_time(limited(10), start, shortest)


def test_the_readout_is_what_the_camera_takes_beyond_its_exposure() -> None:
    search = shortest_safe_picture_time(limited(137), 1000, 44)
    readout = readout_from(search, 90, "Camera", "2026-01-31")
    assert readout is not None
    assert 47 <= readout.readout_us <= 47 + math.ceil(0.02 * 137)
    assert readout.camera == "Camera"


def test_an_exposure_that_overlaps_readout_leaves_none() -> None:
    search = PictureTimeSearch(95, (Trial(90), Trial(80, "late")))
    readout = readout_from(search, 95, "Camera", "2026-01-31")
    assert readout is not None
    assert readout.readout_us == 0


def test_no_readout_is_claimed_where_it_was_not_the_camera_that_failed() -> None:
    assert readout_from(shortest_safe_picture_time(limited(10), 1000, 44), 30, "Camera", "2026-01-31") is None
    refused = shortest_safe_picture_time(limited(92, refused=True), 1000, 44)
    assert readout_from(refused, 90, "Camera", "2026-01-31") is None
