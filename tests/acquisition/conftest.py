"""Benches and the command line, as the tests of this room share them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acquisition.real_bench import CommandLine, RealBench, SimulatedBenches, real_bench, simulated_benches


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[RealBench]:
    with real_bench(monkeypatch) as bench:
        yield bench


@pytest.fixture
def benches(monkeypatch: pytest.MonkeyPatch) -> SimulatedBenches:
    return simulated_benches(monkeypatch)


@pytest.fixture
def hadascope(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(monkeypatch, capsys)
