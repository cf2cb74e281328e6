"""The time left is told from what was done while somebody watched, and from nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acquisition.time_left import TimeLeft, in_words, on_a_clock


@given(st.integers(3, 200), st.floats(0.01, 100), st.data())
def test_steady_work_takes_as_long_again_for_as_much_again(n: int, step_s: float, data: st.DataObject) -> None:
    k = data.draw(st.integers(2, n))
    left = TimeLeft()
    for number in range(1, k + 1):
        left.reached(number / n, number * step_s)
    assert left.seconds(k * step_s) == pytest.approx((n - k) * step_s, abs=1e-6)


def test_nothing_is_said_before_two_steps_were_seen() -> None:
    left = TimeLeft()
    assert left.seconds(100.0) is None
    left.found(0.0, 100.0)
    left.reached(0.1, 101.0)
    assert left.seconds(101.0) is None
    left.reached(0.2, 103.0)
    assert left.seconds(103.0) == pytest.approx(8 * 2.0)


def test_what_was_there_before_is_no_speed() -> None:
    left = TimeLeft()
    for number in range(1, 61):  # sixty hundredths are read back in six milliseconds
        left.found(number / 100, 50.0 + number * 1e-4)
    assert left.seconds(50.01) is None
    left.reached(0.61, 52.0)
    left.reached(0.62, 54.0)
    assert left.seconds(54.0) == pytest.approx(38 * 2.0, rel=0.01)


def test_the_wait_before_a_run_begins_is_no_speed() -> None:
    left = TimeLeft()
    left.found(0.0, 0.0)
    left.reached(0.1, 1000.0)
    left.reached(0.2, 1001.0)
    assert left.seconds(1001.0) == pytest.approx(8.0)


def test_the_wait_between_two_images_of_a_series_counts() -> None:
    left = TimeLeft()
    for second, share in ((1, 0.125), (2, 0.25)):
        left.reached(share, second)
    left.found(0.25, 11.0)  # the next image begins
    for second, share in ((12, 0.375), (13, 0.5)):
        left.reached(share, second)
    assert left.seconds(13.0) == pytest.approx(0.5 * 12 / 0.375)


def test_the_time_of_a_question_counts_nowhere() -> None:
    left = TimeLeft()
    left.passed_over(1.0)
    left.reached(0.1, 1.0)
    left.passed_over(500.0)
    left.reached(0.2, 501.0)
    assert left.seconds(501.0) == pytest.approx(8.0)


def test_it_stands_still_between_two_steps_and_grows_when_nothing_comes() -> None:
    left = TimeLeft()
    for number in range(1, 6):
        left.reached(number / 10, number * 1.0)
    assert left.seconds(5.5) == left.seconds(5.0) == pytest.approx(5.0)
    waited, longer = left.seconds(65.0), left.seconds(125.0)
    assert waited is not None
    assert longer is not None
    assert 60 < waited < longer


@pytest.mark.parametrize(
    ("seconds", "words", "clock"),
    [
        (0.2, "0 s", "0:00"),
        (8.2, "8 s", "0:08"),
        (59.7, "1 min 0 s", "1:00"),
        (125, "2 min 5 s", "2:05"),
        (4320, "1 h 12 min", "1:12:00"),
        (200_000, "55 h 33 min", "55:33:20"),
    ],
)
def test_durations_are_said_in_words_and_in_few_columns(seconds: float, words: str, clock: str) -> None:
    assert in_words(seconds) == words
    assert on_a_clock(seconds) == clock
