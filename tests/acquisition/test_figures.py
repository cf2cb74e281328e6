"""Figures: a table where there is room, no word cut where there is little, and greppable lines in a log."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from acquisition.figures import Figures
from tests.acquisition.consoles import encoded, lines, pipe, terminal, written

PATH = "/data/microscope 3/2026-11-21/" + "a_sample_with_a_long_name/" * 5 + "run.zarr"
ROWS = [
    ("state", "finished"),
    ("image", "128 × 128 px, α = 0.25, S = 8, learned mask, systematic draw, seed 3"),
    ("what it would notice", "an offset of 0.3 % of the light, with probability 99 %"),
    ("cause", "DetectorTimeoutError: nothing came\nthe run can be resumed: hadascope resume run.zarr"),
    ("nothing", ""),
    ("[bold]", "[red]not markup[/red]"),
]


def figures(rows: list[tuple[str, str]], title: str = "Run") -> Figures:
    made = Figures(title)
    for what, figure in rows:
        made.add_row(what, figure)
    return made


@pytest.fixture(autouse=True)
def no_build_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)


def test_a_log_has_a_line_for_each_figure_without_a_frame() -> None:
    console = pipe()
    figures([*ROWS, ("run", PATH)], title=PATH).print_to(console)
    shown = written(console).splitlines()
    assert shown[0] == PATH
    assert f"state{' ' * 17}finished" in shown
    assert f"run{' ' * 19}{PATH}" in shown
    assert f"{' ' * 22}the run can be resumed: hadascope resume run.zarr" in shown
    assert f"[bold]{' ' * 16}[red]not markup[/red]" in shown
    assert "nothing" in shown
    assert not set("│┃─┌|+\x1b") & set(written(console))


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 200])
def test_no_word_and_no_path_is_cut_in_any_terminal(width: int) -> None:
    console = terminal(width)
    rows = [*ROWS, ("run", PATH)]
    figures(rows, title=PATH).print_to(console)
    shown = " ".join(lines(console))
    for what, figure in rows:
        for word in f"{what} {figure}".split():
            assert word in shown
    assert PATH in lines(console)


def test_figures_are_framed_where_every_word_fits_and_below_each_other_where_not() -> None:
    narrowest = len("│ nothing │ DetectorTimeoutError: │")  # the longest words of both columns
    for width in range(24, 201):
        console = terminal(width)
        figures(ROWS).print_to(console)
        assert max(map(cell_len, lines(console))) <= width
        assert ("│" in written(console)) is (width >= narrowest)


words = st.text(st.characters(categories=("L", "N", "P")), min_size=1, max_size=30)
texts = st.lists(words, max_size=8).map(" ".join)


@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=6), st.integers(20, 120))
def test_every_word_is_there_whatever_the_width(rows: list[tuple[str, str]], width: int) -> None:
    console = terminal(width)
    figures(rows).print_to(console)
    found = written(console)
    for what, figure in rows:
        for word in (*what.split(), *figure.split()):
            assert word in found


def test_printed_as_anything_else_they_are_folded_but_nothing_is_lost() -> None:
    console = Console(file=pipe().file, width=40, _environ={})
    console.print(figures([("run", PATH)]))
    assert max(map(len, written(console).splitlines())) <= 40
    assert PATH.replace(" ", "") in "".join(written(console).split())


@pytest.mark.parametrize("encoding", ["cp1252", "cp437", "ascii"])
@pytest.mark.parametrize("is_terminal", [True, False])
def test_no_encoding_is_too_poor(encoding: str, is_terminal: bool) -> None:
    console, received = encoded(encoding, is_terminal=is_terminal, width=120)
    figures([*ROWS, ("started, ended", "2026, —")], title="細胞 α").print_to(console)
    text = received.getvalue().decode(encoding)
    assert "128 px" in text
    if encoding == "ascii":
        assert "128 x 128 px, alpha = 0.25" in text
