"""Real runs on the simulated bench, seen while they are played: by several viewers, some of which misbehave."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy.linalg import hadamard
from websockets.exceptions import ConnectionClosed

from acquisition.acquisition_file import dump_acquisition
from acquisition.config import AcquisitionConfig
from acquisition.console_view import viewed
from acquisition.live_view.address import ViewAddress, ViewAddressError
from acquisition.run_layout import RunState
from acquisition.stored_run import StoredRun
from acquisition.stored_series import StoredSeries, event_path
from tests.acquisition.bench_record import (
    at_rest,
    no_thread_left,
    prove_finished,
    prove_stored,
    watch,
    whole_light_config,
)
from tests.acquisition.live_view.viewer import TIMEOUT_S, Update, Viewer, ask
from tests.acquisition.real_bench import CommandLine
from tests.acquisition.series_bench import series_config


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
        assert isinstance(port, int)
        return port


@pytest.fixture
def link() -> str:
    return f"http://127.0.0.1:{free_port()}/"


@pytest.fixture
def config(tmp_path: Path) -> AcquisitionConfig:
    """A fifth of a second of light, in a dozen blocks, played as slowly as people look."""
    return whole_light_config(tmp_path, sensing={"repeats": 24}, blocks={"longest_block_s": 0.02}, bench={"pace": 4.0})


@pytest.fixture
def file(tmp_path: Path, config: AcquisitionConfig) -> Path:
    written = tmp_path / "run.yaml"
    written.write_text(dump_acquisition(config), encoding="utf-8")
    return written


def as_soon_as_served(link: str) -> Viewer:
    """A viewer, once there is somebody to connect to."""
    until_s = time.monotonic() + TIMEOUT_S
    while True:
        try:
            return Viewer(link)
        except OSError:
            if time.monotonic() > until_s:
                raise
            time.sleep(0.01)


class Watching(threading.Thread):
    """Looks at a run in a thread of its own until the view ends; ``does`` sees every update."""

    def __init__(self, link: str, does: Callable[[Viewer, Update], None] = lambda *_: None) -> None:
        super().__init__(daemon=True)
        self._link = link
        self._does = does
        self.viewer: Viewer | None = None
        self.error: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            with as_soon_as_served(self._link) as self.viewer:
                while True:
                    self._does(self.viewer, self.viewer.look())
        except ConnectionClosed as closed:
            assert self.viewer is not None
            # The last state may have come unasked, just when the next one was asked for.
            self.error = None if closed.rcvd is not None and closed.rcvd.code == 1000 else closed
        except Exception as error:
            self.error = error

    def seen(self) -> Viewer:
        """Everything that was seen, when the view has ended."""
        self.join(TIMEOUT_S)
        assert self.error is None
        assert self.viewer is not None
        return self.viewer


def sequency_map(run: StoredRun) -> Any:
    """How often each coefficient was measured, from the stored readings and the dense matrix."""
    indices = np.concatenate([readings.index for readings in run.blocks()])
    n = round(len(run.repeats) ** 0.5)
    order = np.argsort((np.diff(hadamard(n), axis=1) != 0).sum(axis=1))
    return np.bincount(indices, minlength=n * n).reshape(n, n)[np.ix_(order, order)]


def test_a_run_is_seen_from_its_beginning_to_its_end_whatever_other_viewers_do(
    hadascope: CommandLine, file: Path, config: AcquisitionConfig, link: str
) -> None:
    gone = threading.Event()

    def leave(viewer: Viewer, _: Update) -> None:
        if len(viewer.updates) == 3:
            viewer.socket.close()
            gone.set()

    def hang(viewer: Viewer, _: Update) -> None:
        viewer.socket.send("next")
        gone.wait(TIMEOUT_S)
        threading.Event().wait(0.3)

    first, second = Watching(link), Watching(link)
    Watching(link, leave)
    Watching(link, hang)
    with no_thread_left():
        done = hadascope("dry-run", file, "--view-port", link.rstrip("/").rpartition(":")[2])
        assert done.code == 0, done.err
        assert f"live view: {link}" in done.out
        viewers = [first.seen(), second.seen()]
    assert gone.is_set()
    run = prove_finished(config)
    for viewer in viewers:
        headers = [update.header for update in viewer.updates]
        assert headers[-1]["state"] == "finished"
        assert headers[-1]["pairs"] == headers[-1]["pairs_total"] == run.n_pairs
        assert headers[-1]["lit_exposures"] == run.lit_exposures
        assert headers[-1]["run"] == "run.zarr"
        assert headers[-1]["simulated"] is True
        versions = [header["version"] for header in headers]
        assert versions == sorted(versions)
        under_way = [update for update in viewer.updates if update.header["state"] == "running"]
        assert any(0 < update.header["pairs"] < run.n_pairs for update in under_way)
        assert sum("image" in update.arrays for update in under_way) >= 2
        assert np.array_equal(viewer.arrays["image"], run.image("image").astype(np.float32))
        assert np.array_equal(viewer.arrays["counts"], sequency_map(run))
        total = run.image("sample").sum()
        assert np.allclose(viewer.arrays["pair_sums"][:, 1], total, rtol=1e-6)


def test_stop_ends_the_run_as_ctrl_c_does_and_it_can_be_resumed(
    hadascope: CommandLine, file: Path, config: AcquisitionConfig, link: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    benches = watch(monkeypatch, margin_s=10.0)
    answers: list[Any] = []

    def stop(_: Viewer, update: Update) -> None:
        if update.header["pairs"] and not answers:
            answers.append(ask(link, "/stop", "POST").said)

    watching = Watching(link, stop)
    with no_thread_left():
        done = hadascope("dry-run", file, "--view-port", link.rstrip("/").rpartition(":")[2])
        seen = watching.seen()
    assert answers == [{"stopping": True}]
    assert done.code == 130
    assert "stopped in the live view: the devices are let go of, every committed block is kept" in done.err
    last = seen.updates[-1].header
    assert (last["state"], last["cause"], last["can_stop"]) == ("stopped", "stopped in the live view", False)
    at_rest(benches)
    run = prove_stored(config)
    assert run.state is RunState.STOPPED
    assert run.facts["cause"] == "KeyboardInterrupt: stopped in the live view"
    assert 0 < len(run.committed) < run.n_blocks

    again = Watching(link)
    resumed = hadascope("resume", config.output.run, "--view-port", link.rstrip("/").rpartition(":")[2])
    assert resumed.code == 0, resumed.err
    seen = again.seen()
    assert seen.updates[-1].header["state"] == "finished"
    assert np.array_equal(seen.arrays["counts"], sequency_map(prove_finished(config)))
    total = StoredRun(config.output.run).image("sample").sum()
    assert np.allclose(seen.arrays["pair_sums"][:, 1], total, rtol=1e-6)


def test_stop_is_heard_before_anything_is_under_way(tmp_path: Path) -> None:
    printed, looked = io.StringIO(), threading.Event()

    def stop(address: str) -> None:
        assert looked.wait(TIMEOUT_S)
        ask(address, "/stop", "POST")

    with (
        pytest.raises(KeyboardInterrupt, match=r"^stopped in the live view$"),
        viewed(Console(file=printed, width=200), whole_light_config(tmp_path), ViewAddress(port=0)),
    ):
        link = printed.getvalue().split()[-1]
        watching = Watching(link, lambda *_: looked.set())
        threading.Thread(target=stop, args=(link,)).start()
        time.sleep(2 * TIMEOUT_S)  # as planning takes its time
    assert watching.seen().updates[-1].header["state"] == "stopped"


def test_where_the_port_is_taken_the_next_one_is_named(hadascope: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(dump_acquisition(whole_light_config(tmp_path)), encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = hadascope("dry-run", file, "--view", "--view-port", port)
    assert done.code == 0, done.err
    said = done.out.partition(f"port {port} is taken: ")[2].split()
    assert said[1:3] == ["it", "is"]
    assert f"live view: http://127.0.0.1:{said[0]}/" in done.out


def test_an_address_that_cannot_be_served_ends_it_before_anything_is_lit_or_written(
    hadascope: CommandLine, tmp_path: Path
) -> None:
    config = whole_light_config(tmp_path)
    file = tmp_path / "run.yaml"
    file.write_text(dump_acquisition(config), encoding="utf-8")
    done = hadascope("dry-run", file, "--view-host", "203.0.113.7")
    assert done.code == 2
    assert "the live view cannot be served on 203.0.113.7" in done.err
    assert not config.output.run.exists()


def test_without_being_asked_nothing_is_served(tmp_path: Path) -> None:
    console = Console(file=io.StringIO())
    with no_thread_left(), viewed(console, whole_light_config(tmp_path), None) as observer:
        assert threading.active_count() == len(threading.enumerate())
        assert not any(thread.name == "live view" for thread in threading.enumerate())
    assert observer.on_block is None
    assert console.file.getvalue() == ""  # type: ignore[attr-defined]


def test_what_ends_a_run_is_what_viewers_are_told(tmp_path: Path) -> None:
    printed = io.StringIO()
    console, looked = Console(file=printed, width=200), threading.Event()
    with (
        pytest.raises(OSError, match="the camera has gone"),
        viewed(console, whole_light_config(tmp_path), ViewAddress(port=0)),
    ):
        watching = Watching(printed.getvalue().split()[-1], lambda *_: looked.set())
        assert looked.wait(TIMEOUT_S)
        raise OSError("the camera has gone")
    last = watching.seen().updates[-1].header
    assert (last["state"], last["cause"]) == ("failed", "OSError: the camera has gone")


def test_a_view_that_fails_is_told_of_and_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from acquisition.live_view.feed import ViewFeed

    def fail(_: ViewFeed) -> None:
        raise ArithmeticError("no view today")

    monkeypatch.setattr(ViewFeed, "keep_up", fail)
    printed = io.StringIO()
    went_on = False
    with viewed(Console(file=printed, width=200), whole_light_config(tmp_path), ViewAddress(port=0)) as observer:
        assert observer.on_block is not None
        until_s = time.monotonic() + TIMEOUT_S
        while any(thread.name == "live view" for thread in threading.enumerate()) and time.monotonic() < until_s:
            time.sleep(0.01)
        went_on = True
    assert went_on
    assert "warning: the live view failed: ArithmeticError('no view today')" in printed.getvalue()


def test_with_no_port_left_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("acquisition.live_view.address._MOST_PORTS", 1)
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(ViewAddressError, match="are all taken"):
        address = ViewAddress(port=other.getsockname()[1])
        with viewed(Console(file=io.StringIO()), whole_light_config(tmp_path), address):
            raise AssertionError("nothing may be played")


def test_a_series_is_seen_image_by_image(hadascope: CommandLine, tmp_path: Path, link: str) -> None:
    # So seldom that only the final image of each has everything in it.
    config = series_config(
        tmp_path, {"z_plan": {"absolute": [0, 1]}}, bench={"pace": 4.0}, reconstruction={"refresh_s": 30.0}
    )
    file = tmp_path / "series.yaml"
    file.write_text(dump_acquisition(config), encoding="utf-8")
    watching = Watching(link)
    done = hadascope("dry-run", file, "--view-port", link.rstrip("/").rpartition(":")[2])
    assert done.code == 0, done.err
    seen = watching.seen()
    headers = [update.header for update in seen.updates]
    assert {header["place"]["number"] for header in headers if header["place"]} == {0, 1}
    assert {header["place"]["total"] for header in headers if header["place"]} == {2}
    last = headers[-1]
    assert (last["state"], last["pairs"]) == ("finished", last["pairs_total"])
    series = StoredSeries(config.output.run)
    runs = [StoredRun(event_path(series.path, event)) for event in series.planned_events]
    assert last["lit_exposures"] == sum(run.lit_exposures for run in runs)
    assert np.array_equal(seen.arrays["counts"], sequency_map(runs[-1]))
    assert np.array_equal(seen.arrays["image"], runs[-1].image("image").astype(np.float32))
