"""One line says how far something is: all of it where there is room, and the most important where there is not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acquisition.observer import Place
from acquisition.progress_line import LONGEST_BAR, Fitted, Standing, fitted, last_log_line, log_line

ACQUIRING = Standing("acquiring", "pairs", 1230, 4096, None, 12.0, 8.0, "linear forecast 31.2 dB", "31.2 dB")
IN_A_SERIES = replace(ACQUIRING, place=Place(2, 18, "t 1/3, FITC, z 2/3"))


@st.composite
def standings(draw: st.DrawFn, most: int = 10**9, longest_s: float = 1e6) -> Standing:
    total = draw(st.none() | st.integers(1, most))
    places = st.builds(lambda number, more, name: Place(number, number + more, name), *_PLACES)
    return Standing(
        doing=draw(st.sampled_from(["acquiring", "calibrating", "training", "evaluation"])),
        unit=draw(st.sampled_from(["pairs", "steps", "scores"])),
        done=0 if total is None else draw(st.integers(0, total)),
        total=total,
        place=draw(st.none() | places),
        elapsed_s=draw(st.floats(0, longest_s)),
        left_s=draw(st.none() | st.floats(0, longest_s)),
        quality=draw(st.sampled_from(["", "linear forecast 31.2 dB", "predicted -3.0 dB"])),
        quality_short=draw(st.sampled_from(["", "31.2 dB"])),
    )


_PLACES = (st.integers(0, 9999), st.integers(1, 9999), st.sampled_from(["t 1/3, FITC, z 2/3", "", "細胞 " * 40]))


def said(line: Fitted) -> list[str]:
    return [text.strip() for text, _ in line.texts]


@given(standings(), st.integers(6, 300))
def test_it_is_never_wider_than_the_terminal_and_always_says_the_percentage(standing: Standing, width: int) -> None:
    line = fitted(standing, width)
    assert line.width <= width
    assert standing.percent in said(line)
    assert line.bar <= LONGEST_BAR


@given(standings(most=99_999, longest_s=35_000), st.integers(100, 300))
def test_a_hundred_columns_hold_everything(standing: Standing, width: int) -> None:
    line = said(fitted(replace(standing, place=None), width))
    assert standing.doing in line
    assert standing.quality == "" or standing.quality in line
    assert standing.total is None or f"{standing.done:,} of {standing.total:,} {standing.unit}" in line
    assert standing.left_s is None or any(text.endswith(" left") for text in line)
    assert any(text.count(":") and "left" not in text for text in line)


@given(st.integers(1, 10**6), st.integers(30, 200), st.data())
def test_nothing_jumps_about_while_it_counts(total: int, width: int, data: st.DataObject) -> None:
    begun, later = (replace(ACQUIRING, done=done, total=total) for done in (0, data.draw(st.integers(0, total))))
    before, after = fitted(begun, width), fitted(later, width)
    assert [len(text) for text, _ in before.texts] == [len(text) for text, _ in after.texts]
    assert before.bar == after.bar


@given(standings(), st.integers(6, 300))
def test_a_column_more_never_shows_less(standing: Standing, width: int) -> None:
    assert len(said(fitted(standing, width))) <= len(said(fitted(standing, width + 1)))


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (20, ["30 %"]),
        (40, ["acquiring", "30 %", "0:08 left"]),
        (60, ["acquiring", "30 %", "1,230/4,096", "0:08 left", "31.2 dB"]),
        (80, ["acquiring", "30 %", "1,230 of 4,096 pairs", "0:12", "0:08 left", "31.2 dB"]),
        (100, ["acquiring", "30 %", "1,230 of 4,096 pairs", "0:12", "0:08 left", "linear forecast 31.2 dB"]),
    ],
)
def test_what_is_least_important_goes_first(width: int, expected: list[str]) -> None:
    line = fitted(ACQUIRING, width)
    assert said(line) == expected
    assert (line.bar > 0) == (width > 20)


@pytest.mark.parametrize(
    ("width", "place"),
    [(20, None), (40, "3/18"), (60, "3/18"), (80, "3/18 t 1/3, FITC, z 2/3"), (120, "3/18 t 1/3, FITC, z 2/3")],
)
def test_a_series_says_which_image_it_is_at(width: int, place: str | None) -> None:
    line = said(fitted(IN_A_SERIES, width))
    assert [text for text in line if text.startswith("3/18")] == ([] if place is None else [place])


def test_a_series_counts_its_images_and_what_is_done_of_the_present_one() -> None:
    assert pytest.approx((2 + 1230 / 4096) / 18) == IN_A_SERIES.share
    assert IN_A_SERIES.percent == "12 %"
    assert replace(IN_A_SERIES, done=0, total=None).share == pytest.approx(2 / 18)
    assert replace(IN_A_SERIES, done=4096, place=Place(17, 18, "")).share == 1.0


@given(st.integers(1, 10**7), st.data())
def test_a_percentage_is_only_said_once_it_is_reached(total: int, data: st.DataObject) -> None:
    done = data.draw(st.integers(0, total))
    assert Standing("", "", done, total).percent == f"{100 * done // total} %"


def test_a_log_line_says_everything_in_words() -> None:
    assert log_line(ACQUIRING) == "acquiring  30 %  1,230 of 4,096 pairs  8 s left  linear forecast 31.2 dB"
    assert log_line(IN_A_SERIES) == (
        "acquiring  12 %  3/18 t 1/3, FITC, z 2/3  1,230 of 4,096 pairs  8 s left  linear forecast 31.2 dB"
    )
    assert log_line(Standing("training", "steps")) == "training  0 %"


def test_the_last_log_line_says_how_it_ended() -> None:
    done = replace(ACQUIRING, done=4096)
    assert last_log_line(done, ended_early=False) == (
        "acquiring  100 %  4,096 of 4,096 pairs  in 12 s  linear forecast 31.2 dB"
    )
    assert last_log_line(ACQUIRING, ended_early=True).startswith(
        "acquiring  ended at 30 %  1,230 of 4,096 pairs  after"
    )
