"""Several observers of one run are told everything, in order, and the first one that can be asked is asked."""

from __future__ import annotations

from typing import Any

import pytest

from acquisition.observer import Observer, together

TOLD = ("on_schedule", "on_block", "on_image", "on_event", "on_place")


def noting(taken: list[tuple[str, str, Any]], name: str, *told: str) -> Observer:
    def callback(what: str) -> Any:
        return lambda seen: taken.append((name, what, seen))

    return Observer(**{what: callback(what) for what in told})


@pytest.mark.parametrize("what", TOLD)
def test_all_that_want_to_know_are_told_in_order(what: str) -> None:
    taken: list[tuple[str, str, Any]] = []
    both = together(noting(taken, "first", what), Observer(), noting(taken, "second", *TOLD))
    getattr(both, what)("news")
    assert taken == [("first", what, "news"), ("second", what, "news")]


def test_what_nobody_wants_to_know_costs_nothing() -> None:
    assert together(Observer(), Observer()) == Observer() == together()


def test_the_first_one_that_can_be_asked_is_asked() -> None:
    both = together(Observer(), Observer(confirm=lambda n: n > 5), Observer(confirm=lambda _: False))
    assert both.confirm is not None
    assert both.confirm(6)
    assert not both.confirm(5)
