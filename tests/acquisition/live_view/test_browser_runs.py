"""Real runs on the simulated bench, seen in a real browser while they are played, stopped, cut off and read again."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from selenium.webdriver.common.action_chains import ActionChains

from acquisition.acquisition_file import dump_acquisition
from acquisition.run_layout import RunState
from acquisition.stored_run import StoredRun
from tests.acquisition.live_view.browser import LONGEST_WAIT_S, Browser, chromium, painted
from tests.acquisition.rehearsal import small_config

SIDE = 32
PX_UM = 0.5
INTERRUPTED = 130


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as started:
        yield started


def acquisition_file(folder: Path, light_s: float) -> Path:
    """An acquisition of about so many seconds of light, in real time; its run is to be beside it."""
    pairs = SIDE**2 * 0.5 * 16
    picture_time_us = round(light_s * 1e6 / (2.1 * pairs))
    config = small_config(
        sensing={"side": SIDE, "alpha": 0.5, "repeats": 16, "mask": {"kind": "low-sequency"}},
        timing={"picture_time_us": picture_time_us, "illumination_time_us": picture_time_us - 10},
        dmd_region={"um_per_mirror": PX_UM / 2},
        blocks={"longest_block_s": 0.2},
        devices={"light_source": {"kind": "simulated", "power_mw": 1.0}},
        bench={"shot_noise": True, "pace": 1.0, "bleaching_per_s": 0.02, "photoelectrons_per_px": 100},
        reconstruction={"refresh_s": 0.2},
        output={"run": str(folder / "run.zarr")},
    )
    path = folder / "acquisition.yaml"
    path.write_text(dump_acquisition(config), encoding="utf-8")
    return path


class Command:
    """A command in a process of its own, with what it printed."""

    def __init__(self, folder: Path, *arguments: object) -> None:
        self._printed = folder / f"{arguments[0]}.txt"
        with self._printed.open("wb") as printed:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "acquisition.cli", *(str(each) for each in arguments)],
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"},
            )

    @property
    def printed(self) -> str:
        return self._printed.read_text(encoding="utf-8", errors="replace")

    def link(self, browser: Browser) -> str:
        """Where its live view is."""

        def found() -> str | None:
            assert self._process.poll() is None, self.printed
            said = re.search(r"live view: (http\S+)", self.printed)
            return said and said[1]

        return str(browser.wait(found, "no live view was announced"))

    def ended(self) -> int:
        """Its exit code, when it has ended by itself."""
        return self._process.wait(LONGEST_WAIT_S)

    def kill(self) -> None:
        """Cut it off, if it has not ended."""
        self._process.kill()
        self._process.wait(LONGEST_WAIT_S)


@contextmanager
def running(folder: Path, *arguments: object) -> Iterator[Command]:
    command = Command(folder, *arguments)
    try:
        yield command
    finally:
        command.kill()


def wait_for_image(browser: Browser) -> None:
    browser.wait(lambda: browser.version >= 0 and not browser.find("no-image").is_displayed(), "no image came")


def shows_the_image_of(browser: Browser, run: Path) -> None:
    """Between limits of one's own, every pixel of the page has the colour of the stored image's."""
    image = StoredRun(run).image("image")
    low, high = 0.25 * float(image.max()), 0.75 * float(image.max())
    for field, value in (("low", low), ("high", high)):
        browser.set_field(field, value)
    # float32 travels, and a limit is what the field holds.
    limits = [
        float(browser.run("return document.getElementById(arguments[0]).valueAsNumber", end)) for end in ("low", "high")
    ]
    assert np.allclose(limits, [low, high], rtol=1e-4)
    expected = painted(image.astype(np.float32), low, high, "viridis")
    assert len(np.unique(expected.reshape(-1, 3), axis=0)) > 10
    assert np.array_equal(browser.pixels("image-canvas"), expected)


def pairs_done(browser: Browser) -> int:
    return int(browser.text("pairs").split(" of ")[0].replace(",", ""))


def wait_for_more_than(browser: Browser, pairs: int) -> None:
    browser.wait(lambda: pairs_done(browser) > pairs, f"the page shows no more than {pairs} pairs")


def read_out(browser: Browser, x: int, y: int) -> float:
    """The value that the page tells of a pixel when the pointer is on it."""
    size = browser.box("image-canvas")["width"] / SIDE
    ActionChains(browser.window).move_to_element_with_offset(
        browser.find("image-canvas"), round((x + 0.5 - SIDE / 2) * size), round((y + 0.5 - SIDE / 2) * size)
    ).perform()
    assert (browser.data("pixel", "x"), browser.data("pixel", "y")) == (str(x), str(y))
    return float(browser.data("pixel", "value"))


def test_a_run_is_seen_by_two_viewers_until_its_end_and_read_again_afterwards(browser: Browser, tmp_path: Path) -> None:
    run = tmp_path / "run.zarr"
    with running(tmp_path, "dry-run", acquisition_file(tmp_path, light_s=4.0), "--view-port", 0) as command:
        link = command.link(browser)
        browser.open(link)
        first = browser.window.current_window_handle
        browser.window.switch_to.new_window("window")
        second = browser.window.current_window_handle
        browser.window.get(link)
        sightings: dict[str, list[Any]] = {first: [], second: []}
        for viewer in (first, second, first, second):
            browser.window.switch_to.window(viewer)
            wait_for_image(browser)
            before = sightings[viewer][-1][0] if sightings[viewer] else -1
            browser.wait_for_version(before + 1)
            wait_for_more_than(browser, pairs_done(browser))
            sightings[viewer].append((browser.version, pairs_done(browser), browser.pixels("image-canvas")))
            assert browser.text("state") == "running"
        for (_, few, early), (_, many, late) in sightings.values():
            assert len(np.unique(early)) > 10
            assert 0 < few < many
            assert not np.array_equal(early, late)
        assert browser.log() == []
        assert browser.hosts() == {link.split("/")[2]}
        assert browser.find("simulated").is_displayed()
        for viewer in (second, first):
            browser.window.switch_to.window(viewer)
            browser.wait_for_text("state", "finished")
            browser.wait_for_text("connection", "run ended")
            assert browser.text("percent") == "100 %"
            shows_the_image_of(browser, run)
            if viewer == second:
                browser.window.close()
        assert command.ended() == 0
    stored = StoredRun(run)
    assert pairs_done(browser) == stored.n_pairs

    with running(tmp_path, "view", run, "--port", 0) as command:
        link = command.link(browser)
        browser.open(link)
        wait_for_image(browser)
        assert browser.text("state") == "finished"
        assert not browser.find("stop").is_enabled()
        assert pairs_done(browser) == stored.n_pairs
        shows_the_image_of(browser, run)
        for x, y in ((0, 0), (20, 7), (31, 30)):
            assert read_out(browser, x, y) == pytest.approx(stored.image("image")[y, x], rel=1e-6)
        read_out(browser, 20, 7)
        assert f"({20 * PX_UM:.2f} µm, {7 * PX_UM:.3f} µm)" in browser.text("pixel")
        px = browser.box("scale-bar")["width"] / browser.box("image-canvas")["width"] * SIDE
        assert browser.text("scale-bar").strip() == "2 µm"
        assert px * PX_UM == pytest.approx(2.0, rel=0.01)
        assert browser.log() == []


def test_stop_ends_the_run_in_order(browser: Browser, tmp_path: Path) -> None:
    with running(tmp_path, "dry-run", acquisition_file(tmp_path, light_s=30.0), "--view-port", 0) as command:
        browser.open(command.link(browser))
        wait_for_image(browser)
        browser.press_stop_twice()
        browser.wait(
            lambda: browser.data("state", "state") == "stopped", "the page never said that the run was stopped"
        )
        assert not browser.find("stop").is_enabled()
        assert "stopped in the live view" in browser.text("cause")
        assert command.ended() == INTERRUPTED
    stored = StoredRun(tmp_path / "run.zarr")
    assert stored.state is RunState.STOPPED
    assert 0 < stored.n_pairs < int(stored.repeats.sum())
    browser.wait_for_text("connection", "run ended")


def test_a_run_that_was_cut_off_is_lost_and_seen_again_when_it_is_resumed(browser: Browser, tmp_path: Path) -> None:
    run = tmp_path / "run.zarr"
    with running(tmp_path, "dry-run", acquisition_file(tmp_path, light_s=4.0), "--view-port", 0) as command:
        link = command.link(browser)
        browser.open(link)
        wait_for_image(browser)
        command.kill()
    browser.wait_for_text("connection", "connection lost, trying again")
    seen = pairs_done(browser)
    assert not browser.find("no-image").is_displayed()
    assert StoredRun(run).state is RunState.INTERRUPTED
    port = int(link.split(":")[2].strip("/"))
    with running(tmp_path, "resume", run, "--view-port", port) as command:
        browser.wait_for_text("connection", "connected")
        wait_for_more_than(browser, seen)
        browser.wait_for_text("state", "finished")
        assert command.ended() == 0
    shows_the_image_of(browser, run)
    assert pairs_done(browser) == StoredRun(run).n_pairs
