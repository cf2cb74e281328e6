"""The live view's page in a real browser, with updates that are written here."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.acquisition.live_view.browser import Browser, WrittenView, chromium, encoded, painted, some_header

UNIT = "detector units"
SIDE = 8


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture(scope="module")
def served() -> Iterator[WrittenView]:
    with WrittenView() as view:
        yield view


@pytest.fixture
def view(served: WrittenView) -> WrittenView:
    served.forget()
    return served


def some_image(seed: int = 0, side: int = SIDE) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(100.0, 900.0, (side, side)).astype(np.float32)


def some_counts() -> NDArray[np.uint16]:
    return np.random.default_rng(1).integers(0, 4, (SIDE, SIDE)).astype(np.uint16)


def some_sums(points: int = 40) -> NDArray[np.float32]:
    """Bleaching by a twentieth: time, mean, standard error."""
    time = np.linspace(0.5, 4.5, points)
    return np.stack([time, 2e6 * (1 - 0.05 * (time - 0.5) / 4), np.full(points, 2e3)], axis=1).astype(np.float32)


def all_arrays(seed: int = 0) -> dict[str, tuple[NDArray[Any], str]]:
    return {
        "image": (some_image(seed), UNIT),
        "uncertainty": (some_image(seed + 100) / 10, UNIT),
        "counts": (some_counts(), "pairs"),
        "pair_sums": (some_sums(), UNIT),
    }


def shown(browser: Browser, view: WrittenView, **changes: Any) -> None:
    """Open the page and wait until it has drawn everything there is."""
    version = view.say(all_arrays(), **changes)
    browser.open(view.link)
    browser.wait_for_version(version)


def limits(image: NDArray[np.float32]) -> tuple[float, float]:
    low, high = np.percentile(image.astype(np.float64), [0.1, 99.9])
    return float(low), float(high)


@pytest.mark.parametrize("name", ["viridis", "magma", "grey"])
def test_the_image_has_the_colours_of_its_map(browser: Browser, view: WrittenView, name: str) -> None:
    shown(browser, view)
    browser.set_field("colour-map", name)
    assert np.array_equal(browser.pixels("image-canvas"), painted(some_image(), *limits(some_image()), name))


def test_contrast_limits_follow_the_image_until_somebody_touches_them(browser: Browser, view: WrittenView) -> None:
    shown(browser, view)
    brighter = 3 * some_image(1)
    browser.wait_for_version(view.say({"image": (brighter, UNIT)}))
    assert np.array_equal(browser.pixels("image-canvas"), painted(brighter, *limits(brighter), "viridis"))
    browser.type_into("high", "2000" + Keys.ENTER)
    assert not browser.find("auto").is_selected()
    assert np.array_equal(browser.pixels("image-canvas"), painted(brighter, limits(brighter)[0], 2000.0, "viridis"))
    browser.wait_for_version(view.say({"image": (some_image(2), UNIT)}))
    assert np.array_equal(
        browser.pixels("image-canvas"), painted(some_image(2), limits(brighter)[0], 2000.0, "viridis")
    )
    browser.find("auto").click()
    assert np.array_equal(browser.pixels("image-canvas"), painted(some_image(2), *limits(some_image(2)), "viridis"))


def test_a_slider_sets_its_limit_too(browser: Browser, view: WrittenView) -> None:
    shown(browser, view)
    browser.find("low-slider").send_keys(Keys.ARROW_RIGHT * 5)
    low = float(browser.run("return document.getElementById('low-slider').value"))
    assert low > limits(some_image())[0]
    assert not browser.find("auto").is_selected()
    assert np.array_equal(
        browser.pixels("image-canvas"), painted(some_image(), low, limits(some_image())[1], "viridis")
    )


def test_a_lower_limit_above_the_upper_one_moves_the_upper_one(browser: Browser, view: WrittenView) -> None:
    shown(browser, view)
    browser.set_field("low", 5000)
    low, high = (
        float(browser.run("return document.getElementById(arguments[0]).value", end)) for end in ("low", "high")
    )
    assert low == 5000 < high
    assert np.array_equal(browser.pixels("image-canvas"), painted(some_image(), 5000, 6000, "viridis"))


def test_what_is_typed_is_not_written_over_by_the_next_image(browser: Browser, view: WrittenView) -> None:
    shown(browser, view)
    browser.type_into("low", "12")
    browser.wait_for_version(view.say({"image": (some_image(1), UNIT)}))
    browser.find("low").send_keys("3", Keys.ENTER)
    assert browser.run("return document.getElementById('low').value") == "123"


def test_the_uncertainty_is_shown_with_limits_of_its_own(browser: Browser, view: WrittenView) -> None:
    shown(browser, view)
    browser.set_field("high", 400)
    browser.set_field("shown", "uncertainty")
    uncertainty = all_arrays()["uncertainty"][0]
    assert np.array_equal(browser.pixels("image-canvas"), painted(uncertainty, *limits(uncertainty), "viridis"))
    assert "90 % interval" in browser.text("colour-bar")
    browser.set_field("shown", "image")
    assert np.array_equal(
        browser.pixels("image-canvas"), painted(some_image(), limits(some_image())[0], 400, "viridis")
    )


def test_without_an_uncertainty_it_cannot_be_chosen(browser: Browser, view: WrittenView) -> None:
    browser.open(view.link)
    browser.wait_for_version(view.say({"image": (some_image(), UNIT)}))
    assert not browser.window.find_element(By.CSS_SELECTOR, "#shown option[value=uncertainty]").is_enabled()


def test_the_colour_bar_has_round_numbers_and_the_unit(browser: Browser, view: WrittenView) -> None:
    shown(browser, view)
    browser.set_field("low", 0)
    browser.set_field("high", 1000)
    spans = browser.window.find_elements(By.CSS_SELECTOR, "#colour-bar .numbers span")
    numbers = [float(span.text) for span in spans]
    assert numbers[0] == 0
    assert numbers[-1] == 1000
    assert UNIT in browser.text("colour-bar")
    bar = browser.run("return document.querySelector('#colour-bar canvas').getBoundingClientRect().toJSON()")
    heights = [span.rect["y"] + span.rect["height"] / 2 for span in spans]
    assert np.allclose(heights, bar["bottom"] - np.array(numbers) / 1000 * bar["height"], atol=1.5)


@pytest.mark.parametrize(
    ("px_um", "length", "unit"), [(0.5472, 1, "µm"), (13.0, 20, "µm"), (0.05, 0.1, "µm"), (None, 2, "px")]
)
def test_the_scale_bar_has_a_round_length_and_is_as_long_as_it_says(
    browser: Browser, view: WrittenView, px_um: float | None, length: float, unit: str
) -> None:
    shown(browser, view, px_um=px_um)
    assert browser.text("scale-bar").strip() == f"{length:g} {unit}"
    px = browser.box("scale-bar")["width"] / browser.box("image-canvas")["width"] * SIDE
    assert px * (1.0 if px_um is None else px_um) == pytest.approx(length, rel=0.01)


def test_the_pixel_under_the_pointer_is_read_out(browser: Browser, view: WrittenView) -> None:
    shown(browser, view)
    x, y = 5, 2
    size = browser.box("image-canvas")["width"] / SIDE
    ActionChains(browser.window).move_to_element_with_offset(
        browser.find("image-canvas"), round((x + 0.5 - SIDE / 2) * size), round((y + 0.5 - SIDE / 2) * size)
    ).perform()
    said = browser.text("pixel")
    assert said.startswith("x 5, y 2 (2.500 µm, 1.000 µm): ")
    assert float(browser.data("pixel", "value")) == pytest.approx(some_image()[y, x])
    assert float(browser.data("pixel", "uncertainty")) == pytest.approx(some_image(100)[y, x] / 10)
    assert f"{some_image()[y, x]:.1f} ± {some_image(100)[y, x] / 10:.1f} {UNIT}" in said
    browser.wait_for_version(view.say(all_arrays(seed=7)))
    assert float(browser.data("pixel", "value")) == pytest.approx(some_image(7)[y, x])


def test_arrow_keys_go_from_pixel_to_pixel(browser: Browser, view: WrittenView) -> None:
    shown(browser, view)
    canvas = browser.find("image-canvas")
    canvas.send_keys(Keys.ARROW_RIGHT)
    canvas.send_keys(Keys.ARROW_UP, Keys.ARROW_UP)
    assert (browser.data("pixel", "x"), browser.data("pixel", "y")) == ("5", "2")
    canvas.send_keys(Keys.ARROW_RIGHT * 20)
    assert float(browser.data("pixel", "value")) == pytest.approx(some_image()[2, 7])


def test_the_chart_draws_every_pair_sum_in_its_place(browser: Browser, view: WrittenView) -> None:
    shown(browser, view)
    drawn = browser.run("return document.querySelector('#chart .mean').getAttribute('points')")
    points = np.array([pair.split(",") for pair in drawn.split()], dtype=float)
    sums = some_sums().astype(np.float64)
    for at, value, direction in ((points[:, 0], sums[:, 0], 1), (points[:, 1], sums[:, 1], -1)):
        slope, offset = np.polyfit(value, at, 1)
        assert np.abs(slope * value + offset - at).max() < 0.1
        assert np.sign(slope) == direction
    said = browser.text("chart")
    assert "time (s)" in said
    assert f"pair sum (10⁶ {UNIT})" in said
    last, first = sums[-4:, 1].mean(), sums[:4, 1].mean()
    assert browser.text("drift") == f"−{100 * (1 - last / first):.1f} % since the start"


def test_pair_sums_that_stay_the_same_look_it(browser: Browser, view: WrittenView) -> None:
    sums = np.array([[0, 1000, 0], [1, 1000.01, 0]], dtype=np.float32)
    browser.open(view.link)
    browser.wait_for_version(view.say({"pair_sums": (sums, UNIT)}))
    drawn = browser.run("return document.querySelector('#chart .mean').getAttribute('points')")
    heights = [float(pair.split(",")[1]) for pair in drawn.split()]
    assert heights[0] == pytest.approx(heights[1], abs=1.0)


def test_the_map_shows_measured_coefficients_and_leaves_the_others_black(browser: Browser, view: WrittenView) -> None:
    shown(browser, view)
    counts = some_counts()
    expected = painted(counts, 0, counts.max(), "viridis")
    expected[counts == 0] = 0
    assert np.array_equal(browser.pixels("coefficients"), expected)
    assert browser.text("measured") == f"{(counts > 0).sum()} of 64"


def test_the_status_says_how_far_the_run_is(browser: Browser, view: WrittenView) -> None:
    shown(browser, view, dose_limit_mj=2.0, repeated=3, left_s=125.0)
    for element, text in (
        ("title", "some cells"),
        ("run", "cells.zarr"),
        ("state", "running"),
        ("percent", "25 %"),
        ("pairs", "16 of 64"),
        ("blocks", "2 of 8, 3 repeated"),
        ("left", "2 min 05 s"),
        ("elapsed", "1.5 s"),
        ("dose", "0.2500 of 2.000 mJ"),
        ("exposures", "40"),
        ("quality", "linear forecast 21.3 dB"),
        ("age", "0.1 s"),
        ("connection", "connected"),
    ):
        assert browser.text(element) == text
    assert browser.find("simulated").is_displayed()
    assert not browser.find("place").is_displayed()
    assert browser.window.title == "running 25 % · some cells · Hadascope"


def test_what_is_not_known_is_said_to_be_so(browser: Browser, view: WrittenView) -> None:
    nothing: dict[str, Any] = {
        "left_s": None,
        "dose_mj": None,
        "quality": None,
        "image_age_s": None,
        "pairs": 0,
        "pairs_total": 0,
    }
    browser.open(view.link)
    browser.wait_for_version(view.say(state="preparing", simulated=False, **nothing))
    assert browser.text("left") == "not known yet"
    assert "not known" in browser.text("dose")
    assert browser.find("no-image").is_displayed()
    assert not browser.find("scale-bar").is_displayed()
    assert not browser.find("simulated").is_displayed()
    assert browser.text("chart") == "no readings yet"


def test_warnings_are_listed_newest_first_and_are_no_markup(browser: Browser, view: WrittenView) -> None:
    warnings = [
        {"time": "2026-02-03T10:00:00.000Z", "kind": "block-repeated", "text": "block 3 again"},
        {"time": "2026-02-03T10:00:01.000Z", "kind": "warning", "text": "<b>dim</b> & done"},
    ]
    shown(browser, view, warnings=warnings)
    items = browser.window.find_elements(By.CSS_SELECTOR, "#warnings li")
    assert [item.text.split(" ", 1)[1] for item in items] == ["<b>dim</b> & done", "block repeated: block 3 again"]
    times = browser.window.find_elements(By.CSS_SELECTOR, "#warnings time")
    assert [each.get_attribute("datetime") for each in times] == [each["time"] for each in reversed(warnings)]


def test_in_a_series_the_image_of_before_stays_until_a_new_one_comes(browser: Browser, view: WrittenView) -> None:
    shown(browser, view, place={"number": 0, "total": 6, "name": "t=0 c=FITC"})
    assert browser.text("place") == "image 1 of 6: t=0 c=FITC"
    place = {"number": 1, "total": 6, "name": "t=0 c=DAPI"}
    browser.wait_for_version(view.say(place=place, pairs=0))
    assert np.array_equal(browser.pixels("image-canvas"), painted(some_image(), *limits(some_image()), "viridis"))
    assert browser.text("chart") == "no readings yet"
    assert browser.text("measured") == ""
    assert "image 2/6" in browser.window.title


def test_arrays_that_are_left_out_stay_as_they_are(browser: Browser, view: WrittenView) -> None:
    shown(browser, view)
    browser.wait_for_version(view.say(pairs=20))
    assert browser.text("pairs") == "20 of 64"
    assert np.array_equal(browser.pixels("image-canvas"), painted(some_image(), *limits(some_image()), "viridis"))
    assert browser.data("chart", "points") == "40"


def test_of_another_run_nothing_old_is_shown(browser: Browser, view: WrittenView) -> None:
    shown(browser, view)
    browser.set_field("high", 400)
    browser.wait_for_version(view.say(run="others.zarr", pairs=0))
    assert browser.find("no-image").is_displayed()
    assert browser.pixels("image-canvas").size == 3
    assert browser.text("chart") == "no readings yet"
    browser.wait_for_version(view.say({"image": (some_image(5), UNIT)}, run="others.zarr", pairs=1))
    assert np.array_equal(browser.pixels("image-canvas"), painted(some_image(5), *limits(some_image(5)), "viridis"))


def garbage(kind: str) -> bytes | str:
    """Messages that are no updates."""
    whole = encoded(some_header(), {"image": (some_image(), UNIT)})
    start = 4 + struct.unpack_from("<I", whole)[0]
    match kind:
        case "text":
            return "hello"
        case "nothing":
            return b""
        case "a header beyond the end":
            return struct.pack("<I", 2**31) + whole[4:]
        case "torn JSON":
            return whole[:5] + b"{" + whole[6:]
        case "data cut off":
            return whole[:-40]
        case "no number of pairs":
            return encoded({key: value for key, value in some_header().items() if key != "pairs"}, {})
        case "an unknown state":
            return encoded(some_header(state="dreaming"), {})
        case "not a number":
            return encoded(some_header(), {"image": (np.full((8, 8), np.nan, dtype=np.float32), UNIT)})
        case _:
            header = json.loads(whole[4:start])
            header["arrays"][0]["dtype"] = "complex64"
            text = json.dumps(header).encode()
            text += b" " * (-(4 + len(text)) % 8)
            return struct.pack("<I", len(text)) + text + whole[start:]


GARBAGE = (
    "text",
    "nothing",
    "a header beyond the end",
    "torn JSON",
    "data cut off",
    "no number of pairs",
    "an unknown state",
    "not a number",
    "an unknown type",
)


def test_updates_that_cannot_be_read_are_said_and_the_view_goes_on(browser: Browser, view: WrittenView) -> None:
    shown(browser, view)
    for pairs, kind in enumerate(GARBAGE, start=17):
        view.say_raw(garbage(kind))
        browser.wait(browser.find("error").is_displayed, f"the page said nothing about {kind}")
        assert "could not be read" in browser.text("error-text")
        browser.wait_for_version(view.say(pairs=pairs))
        assert browser.text("pairs") == f"{pairs} of 64"
        browser.find("error-dismiss").click()
        assert not browser.find("error").is_displayed()


def test_stop_asks_once_and_a_double_click_is_no_answer(browser: Browser, view: WrittenView) -> None:
    shown(browser, view)
    ActionChains(browser.window).double_click(browser.find("stop")).perform()
    browser.wait(lambda: browser.data("stop", "asked") == "true", "the page never asked whether to stop")
    assert browser.text("stop") == "Press again to stop"
    assert view.stops == 0
    browser.find("stop").click()
    browser.wait(lambda: view.stops == 1, "the run was never asked to stop")
    assert browser.text("stop") == "stopping…"
    assert not browser.find("stop").is_enabled()
    browser.wait_for_version(view.say(stopping=True))
    assert browser.text("state") == "stopping…"
    browser.wait_for_version(
        view.say(state="stopped", can_stop=False, cause="KeyboardInterrupt: stopped in the live view")
    )
    assert browser.text("state") == "stopped"
    assert browser.text("cause") == "KeyboardInterrupt: stopped in the live view"
    assert not browser.find("stop").is_enabled()


def test_why_a_run_cannot_be_stopped_is_said(browser: Browser, view: WrittenView) -> None:
    view.refusal = "nothing is under way"
    shown(browser, view)
    browser.press_stop_twice()
    browser.wait_for_text("error-text", "could not be stopped from here: nothing is under way")
    assert browser.find("stop").is_enabled()


@pytest.mark.parametrize("changes", [{"can_stop": False}, {"state": "finished"}])
def test_what_cannot_be_stopped_offers_no_stop(browser: Browser, view: WrittenView, changes: dict[str, Any]) -> None:
    shown(browser, view, **changes)
    assert not browser.find("stop").is_enabled()


def test_a_lost_connection_is_said_and_the_view_goes_on_when_it_is_back(browser: Browser) -> None:
    with WrittenView() as view:
        shown(browser, view)
    browser.wait_for_text("connection", "connection lost, trying again")
    assert np.array_equal(browser.pixels("image-canvas"), painted(some_image(), *limits(some_image()), "viridis"))
    assert not browser.find("stop").is_enabled()
    with WrittenView(view.port) as again:
        again.say(all_arrays(), pairs=31)
        version = again.say(all_arrays(seed=3), pairs=32)
        browser.wait_for_text("connection", "connected")
        browser.wait(lambda: browser.version == version, "the page did not go on")
        assert browser.text("pairs") == "32 of 64"
        assert np.array_equal(browser.pixels("image-canvas"), painted(some_image(3), *limits(some_image(3)), "viridis"))
        assert browser.find("stop").is_enabled()


def test_a_run_that_does_not_answer_is_lost_and_a_question_that_is_not_answered_is_forgotten(
    browser: Browser, view: WrittenView
) -> None:
    shown(browser, view)
    view.silent = True
    browser.find("stop").send_keys(Keys.ENTER)
    browser.wait_for_text("stop", "Press again")
    browser.wait_for_text("connection", "connection lost")
    view.silent = False
    browser.wait_for_text("connection", "connected")
    browser.wait(lambda: browser.text("stop") == "Stop", "the page still asks")
    assert browser.find("stop").is_enabled()
    assert view.stops == 0


def test_the_end_of_a_run_is_no_lost_connection(browser: Browser) -> None:
    with WrittenView() as view:
        shown(browser, view, state="finished", pairs=64, can_stop=False)
    browser.wait_for_text("connection", "run ended")
    assert browser.text("state") == "finished"
    assert browser.text("percent") == "100 %"


def test_the_links_token_is_passed_on(browser: Browser) -> None:
    with WrittenView(token="a-secret/&?") as view:
        version = view.say(all_arrays())
        browser.open(f"http://127.0.0.1:{view.port}/?token=a-secret%2F%26%3F")
        browser.wait_for_version(version)
        browser.open(f"http://127.0.0.1:{view.port}/?token=another")
        browser.wait_for_text("error-text", "the link's token is not this run's")


def test_the_page_asks_nobody_else_and_the_browser_complains_of_nothing(browser: Browser, view: WrittenView) -> None:
    shown(browser, view)
    browser.set_field("shown", "uncertainty")
    assert browser.hosts() == {f"127.0.0.1:{view.port}"}
    assert browser.log() == []
    assert not browser.find("error").is_displayed()
    assert set(view.asked) == {"next"}


def test_everything_that_can_be_pressed_or_set_has_a_name(browser: Browser, view: WrittenView) -> None:
    shown(browser, view)
    controls = browser.window.find_elements(By.CSS_SELECTOR, "button, select, input, [tabindex]")
    assert len(controls) >= 9
    assert all(each.accessible_name for each in controls if each.is_displayed())


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (1920, 1080), (1280, 1024)])
def test_the_whole_page_fits_into_a_usual_window(browser: Browser, view: WrittenView, width: int, height: int) -> None:
    with browser.sized(width, height):
        shown(browser, view)
        wide, high = browser.run("const e = document.scrollingElement; return [e.scrollWidth, e.scrollHeight]")
        assert (wide, high) == (width, height)
        assert browser.box("image-canvas")["width"] > min(0.7 * height, 0.5 * width)
        assert browser.box("image-canvas")["width"] == pytest.approx(browser.box("image-canvas")["height"])
        assert browser.box("coefficients")["width"] >= 100
        last = browser.box("pixel")
        assert last["top"] + last["height"] <= height


def test_in_a_narrow_window_one_thing_stands_below_the_other(browser: Browser, view: WrittenView) -> None:
    with browser.sized(420, 900):
        shown(browser, view)
        assert browser.run("return document.scrollingElement.scrollWidth") <= 420
        tops = [browser.box(each)["top"] for each in ("image-canvas", "state", "chart", "coefficients", "warnings")]
        assert tops == sorted(tops)
        assert len(set(tops)) == len(tops)


def test_round_lengths_are_one_two_or_five_and_as_long_as_may_be(browser: Browser, view: WrittenView) -> None:
    view.say()
    browser.open(view.link)
    longest = np.concatenate([np.logspace(-4, 5, 700), [d * 10.0**e for d in (1, 2, 5) for e in range(-4, 6)]])
    found = browser.run(
        """
        const { roundLength } = await import("/page/figures.js");
        return arguments[0].map(roundLength);
        """,
        longest.tolist(),
    )
    allowed = np.array([float(f"{digit}e{exponent}") for exponent in range(-6, 7) for digit in (1, 2, 5)])
    expected = [allowed[allowed <= each * (1 + 1e-9)].max() for each in longest]
    assert np.allclose(found, expected, rtol=1e-12)
