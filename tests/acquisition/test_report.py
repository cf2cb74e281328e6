"""The report of a run: one file that needs nothing else, true to the run, whatever has become of it."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from collections.abc import Callable
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import yaml
import zarr
from matplotlib import colormaps
from scipy.linalg import hadamard
from skimage.io import imread

from acquisition import run as run_module
from acquisition.acquisition_file import validate_acquisition
from acquisition.bank import GUARD_PICTURES
from acquisition.readings import Readings
from acquisition.report import plots
from acquisition.report.light_curve import LightCurveCollector
from acquisition.report.report_facts import REPORT_SCHEMA, read_report
from acquisition.report.written_report import ReportNameError, write_report
from acquisition.run import acquire
from acquisition.run_layout import NotARunError, OutputExistsError, RunState
from acquisition.stored_reconstruction import reconstruct_run
from acquisition.stored_run import StoredRun
from tests.acquisition.real_bench import CommandLine, files_in
from tests.acquisition.test_catalogue import change, facts_in, forget_the_end, tear
from tests.acquisition.test_self_check import bench_config


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that finished; tests work on copies."""
    folder = tmp_path_factory.mktemp("finished")
    config = bench_config(
        folder,
        dmd_region={"um_per_mirror": 0.5},
        devices={"light_source": {"kind": "simulated", "power_mw": 2.0}},
        bench={"bleaching_per_s": 0.4},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "draw_result", lambda *_: None)
        return acquire(config).run


@pytest.fixture(scope="module")
def told(finished: Path) -> tuple[dict[str, Any], Page]:
    """The report of the run that finished, for tests that only read it."""
    return reported(finished)


@pytest.fixture
def run(tmp_path: Path, finished: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run.zarr"))


class Page(HTMLParser):
    """What a browser would find in a page: elements, their attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.html = html
        self.text = ""
        self.feed(html)
        self.close()
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def svgs(self) -> list[ET.Element]:
        """The embedded plots, parsed."""
        sources = [attributes["src"] or "" for tag, attributes in self.elements if tag == "img"]
        return [ET.fromstring(base64.b64decode(source.partition(",")[2])) for source in sources]


def reported(run: Path) -> tuple[dict[str, Any], Page]:
    written = write_report(run, overwrite=True)
    data = json.loads(written.data.read_text(encoding="utf-8"))
    return data, Page(written.page.read_text(encoding="utf-8"))


def facts_of(run: Path) -> dict[str, Any]:
    """What a report says, as JSON, without a page."""
    return dict(json.loads(json.dumps(read_report(run)[0].as_json(), allow_nan=False)))


def test_it_lies_beside_the_run_and_leaves_the_run_as_it_was(run: Path, hadascope: CommandLine) -> None:
    before = files_in(run)
    done = hadascope("report", run)
    assert done.code == 0
    assert sorted(path.name for path in run.parent.iterdir()) == ["run.report.html", "run.report.json", "run.zarr"]
    assert files_in(run) == before
    assert "The run finished." in done.out
    assert str(run.with_name("run.report.html")) in done.out


def test_the_page_needs_nothing_beside_itself(told: tuple[dict[str, Any], Page]) -> None:
    page = told[1]
    html = page.html
    for tag, attributes in page.elements:
        assert tag not in {"script", "link", "iframe", "object", "embed", "base"}
        for name in ("src", "href", "xlink:href", "srcset", "data", "action"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert "@import" not in html
    assert "url(" not in html
    for svg in page.svgs():
        for element in svg.iter():
            for name, value in element.attrib.items():
                if name.endswith("href"):
                    assert value.startswith(("data:", "#"))


def test_json_and_page_say_what_the_run_says(told: tuple[dict[str, Any], Page], finished: Path) -> None:
    data, page = told
    stored, facts = StoredRun(finished), facts_in(finished)
    assert data["report_schema"] == REPORT_SCHEMA == 1
    assert data["run"]["state"] == "finished"
    assert data["run"]["simulated"] is True
    assert data["taken"]["pairs"] == data["taken"]["pairs_scheduled"] == stored.n_pairs
    assert data["dose"]["dose_mj"] == stored.dose_mj
    assert data["image"]["px_um"] == 0.5
    assert data["image"]["field_um"] == 16.0
    assert data["configuration"] == facts["config"]
    assert data["devices"] == facts["devices"]
    assert data["self_check"] == facts["self_check"]
    assert data["versions"] == facts["versions"]
    assert (data["damage"], data["warnings"]) == ([], [])
    split = facts["split_half"]
    assert data["quality"]["split_half"]["psnr_db"] == pytest.approx(split["psnr_db"])
    for said in (
        "SIMULATED",
        "The run finished.",
        facts["self_check"]["verdict"],
        facts["started"][:10],
        split["said"],
        f"{stored.n_pairs:,}",
        "ALP XGA",
        facts["devices"]["projector"]["firmware"],
        f"numpy {facts['versions']['numpy']}",
        facts["schedule"],
        "residual risk",
        "bleaching_per_s: 0.4",
    ):
        assert said in page.text, said


def test_the_errors_in_it_are_those_against_the_simulated_sample(
    told: tuple[dict[str, Any], Page], finished: Path
) -> None:
    quality, stored = told[0]["quality"], StoredRun(finished)
    truth = stored.image("sample")
    for key, name in (("linear_against_sample", "wiener"), ("image_against_sample", "image")):
        error = float(np.sqrt(((stored.image(name) - truth) ** 2).mean()))
        assert quality[key]["rms_per_px"] == pytest.approx(error)
        peak = float(stored.image("image").max())
        assert quality[key]["psnr_db"] == pytest.approx(20 * np.log10(peak / error))


def test_a_real_run_is_not_called_simulated(run: Path) -> None:
    change(run, simulated=False)
    assert "SIMULATED" not in reported(run)[1].text


def test_plots_have_labelled_axes_and_a_scale_bar_in_micrometres(told: tuple[dict[str, Any], Page], run: Path) -> None:
    texts = ["".join(svg.itertext()) for svg in told[1].svgs()]
    everything = " ".join(texts)
    for label in (
        "x (px)",
        "light per pixel (detector units)",
        "horizontal sequency (sign changes)",
        "pairs M per coefficient",
        "time since the run began (s)",
        "age of the newest reading (ms)",
    ):
        assert label in everything
    assert "2 µm" in texts[0]  # a quarter of 16 µm is 4 µm
    change(run, config={**facts_in(run)["config"], "dmd_region": {"mirrors_per_px": 1, "um_per_mirror": None}})
    data, page = reported(run)
    assert data["image"]["px_um"] is None
    assert "µm" not in "".join(page.svgs()[0].itertext())
    assert "no scale bar" in page.text


@pytest.mark.parametrize(
    ("field_um", "expected"), [(16.0, 2.0), (20.0, 5.0), (40.0, 10.0), (70.0, 10.0), (1000.0, 200.0), (0.9, 0.2)]
)
def test_a_scale_bar_is_round_and_about_a_quarter_of_the_field(field_um: float, expected: float) -> None:
    assert plots.scale_bar_um(field_um) == pytest.approx(expected)


def test_the_coefficient_map_is_in_sequency_order() -> None:
    """The oracle: sign changes of the rows of a dense matrix."""
    n = 8
    changes = (np.diff(hadamard(n), axis=1) != 0).sum(axis=1)
    pairs = (changes[:, None] * n + changes[None, :]).ravel()  # row u·n + v of natural order
    svg = plots.coefficient_plot(pairs.astype(np.int64))
    embedded, down = re.findall(r'<image [^>]*?base64,\s*([^"]*)"[^>]*?matrix\(\S+ 0 0 (\S+) ', svg)[0]
    assert float(down) > 0  # the first row of pixels is the uppermost
    pixels = imread(io.BytesIO(base64.b64decode(embedded)))[..., :3].astype(float)
    expected = 255 * colormaps["cividis"](np.arange(n * n).reshape(n, n) / (n * n - 1))[..., :3]
    assert np.abs(pixels - expected).max() < 6


HOSTILE = '<script>alert("1")</script> & <b onclick=x> \' </pre><img src=http://example.org/x>'


def test_a_sample_is_named_as_one_likes(run: Path) -> None:
    config = facts_in(run)["config"]
    change(
        run,
        config={**config, "sample": {**config["sample"], "name": HOSTILE, "notes": HOSTILE}},
        warnings=[HOSTILE],
        cause=HOSTILE,
        devices={HOSTILE: {"name": HOSTILE, HOSTILE: [HOSTILE]}},
        versions={**facts_in(run)["versions"], HOSTILE: HOSTILE},
    )
    data, page = reported(run)
    assert data["run"]["sample_name"] == HOSTILE
    assert "script" not in {tag for tag, _ in page.elements}
    assert all((attributes.get("src") or "data:").startswith("data:") for _, attributes in page.elements)
    assert all("onclick" not in attributes for _, attributes in page.elements)
    assert " ".join(HOSTILE.split()) in page.text


def test_nothing_is_overwritten_unasked(run: Path, hadascope: CommandLine) -> None:
    for kept in ("run.report.html", "run.report.json"):
        path = run.with_name(kept)
        path.write_text("mine", encoding="utf-8")
        with pytest.raises(OutputExistsError, match="never overwritten unasked"):
            write_report(run)
        assert path.read_text(encoding="utf-8") == "mine"
        path.unlink()
    write_report(run)
    assert hadascope("report", run).code == 2
    write_report(run, overwrite=True)


def test_it_goes_where_it_is_asked_to(run: Path, tmp_path: Path, hadascope: CommandLine) -> None:
    done = hadascope("report", run, "--output", tmp_path / "elsewhere.html")
    assert done.code == 0
    assert (tmp_path / "elsewhere.html").is_file()
    assert (tmp_path / "elsewhere.json").is_file()
    assert not run.with_name("run.report.html").exists()
    with pytest.raises(ReportNameError, match=r"ends in \.html"):
        write_report(run, tmp_path / "elsewhere.json", overwrite=True)


@pytest.mark.parametrize("name", ["nowhere/report.html", "folder.html", "data.html"])
def test_a_report_that_has_no_place_is_refused_before_anything_is_written(
    run: Path, tmp_path: Path, name: str, hadascope: CommandLine
) -> None:
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "data.json").mkdir()
    before = files_in(tmp_path)
    done = hadascope("report", run, "--output", tmp_path / name, "--overwrite")
    assert done.code == 2
    assert ("does not exist" if "nowhere" in name else "is a folder") in done.err
    assert "unfinished" not in done.err
    assert files_in(tmp_path) == before


def test_a_run_that_was_killed_shows_the_linear_image_of_what_is_there(run: Path) -> None:
    forget_the_end(run, blocks=5)
    data, page = reported(run)
    stored = StoredRun(run)
    assert data["run"]["state"] == "interrupted"
    assert data["image"]["which"] == "linear, of the readings so far, made for this report"
    assert data["taken"]["blocks"] == 5
    assert data["taken"]["pairs"] == stored.n_pairs
    assert data["quality"]["forecast"]["psnr_db"] is not None
    assert data["damage"] == []
    assert "The run was interrupted." in page.text
    assert "hadascope reconstruct" in page.text
    again = reconstruct_run(run, run.with_name("again.png"), method="wiener-tv", tv_weight=0.0)
    assert data["image"]["peak"] == pytest.approx(float(again.reconstruction.image.max()))
    assert data["quality"]["forecast"]["rms_per_px"] == pytest.approx(again.reconstruction.forecast_mse**0.5)
    assert facts_of(run)["image"]["which"] == "made again from the raw readings"


def test_a_run_without_a_block_says_that_there_is_nothing(run: Path) -> None:
    forget_the_end(run, blocks=0)
    change(run, state="failed", cause="GuardsTooDimError: too dim\nhints")
    data, page = reported(run)
    assert (data["image"], data["light"], data["live"]) == (None, None, None)
    assert "The run failed: GuardsTooDimError: too dim" in page.text
    assert "no readings to make one from" in page.text


def test_a_failed_run_tells_which_blocks_were_repeated_and_why(run: Path) -> None:
    event = {"time": "2026-01-01T00:00:00+00:00", "kind": "block-repeated", "text": "block 3 <again>", "cause": "X"}
    with (run / "events.jsonl").open("a", encoding="utf-8") as events:
        events.write(json.dumps(event) + "\n" + '{"torn')
    data, page = reported(run)
    assert [(each["text"], each["cause"]) for each in data["repeated_blocks"]] == [("block 3 <again>", "X")]
    assert "block 3 <again>" in page.text


def chunk_of(array: Path) -> Path:
    """The first chunk file of an array."""
    return sorted(path for path in (array / "c").rglob("*") if path.is_file())[0]


def lose_image_chunk(run: Path) -> None:
    chunk_of(run / "images" / "image" / "0").unlink()


def garble_image_chunk(run: Path) -> None:
    chunk = chunk_of(run / "images" / "image" / "0")
    chunk.write_bytes(chunk.read_bytes()[: chunk.stat().st_size // 2])


def lose_block_chunk(run: Path) -> None:
    chunk_of(run / "readings" / "plus").unlink()


def garble_block_chunk(run: Path) -> None:
    chunk = chunk_of(run / "readings" / "minus")
    chunk.write_bytes(bytes(len(chunk.read_bytes())))


def cut_block_chunk(run: Path) -> None:
    chunk = chunk_of(run / "readings" / "index")
    chunk.write_bytes(chunk.read_bytes()[:5])


def lose_repeats(run: Path) -> None:
    shutil.rmtree(run / "schedule" / "repeats")


def lose_repeats_chunk(run: Path) -> None:
    chunk_of(run / "schedule" / "repeats").unlink()


def lose_commit(run: Path) -> None:
    chunk_of(run / "readings" / "commits").unlink()


def lose_image(run: Path) -> None:
    shutil.rmtree(run / "images" / "image")


def null_image(run: Path) -> None:
    (run / "images" / "image" / "zarr.json").write_text("null", encoding="utf-8")


def garble_live(run: Path) -> None:
    (run / "live" / "zarr.json").write_text("{", encoding="utf-8")


def lose_dark(run: Path) -> None:
    (run / "dark" / "zarr.json").write_bytes(b"\xff\xfe\x00")


@pytest.mark.parametrize(
    ("damaging", "what"),
    [
        (lose_image_chunk, "images/image"),
        (garble_image_chunk, "images/image"),
        (lose_block_chunk, "block 0"),
        (garble_block_chunk, "block 0"),
        (cut_block_chunk, "block 0"),
        (lose_repeats, "the schedule's repeats"),
        (lose_repeats_chunk, "the schedule's repeats are lost: they add up to 0 pairs"),
        (lose_commit, "the commit records of 1 of "),
        (lose_image, "images/image is lost"),
        (null_image, "the list of images, images/image, cannot be read: images/image/zarr.json is damaged"),
        (garble_live, "the record of live images"),
        (lose_dark, "the readings with the light off"),
    ],
)
def test_damage_is_told_of_in_the_report_and_the_rest_is_there(
    run: Path, damaging: Callable[[Path], None], what: str
) -> None:
    damaging(run)
    data = facts_of(run)
    assert any(each.startswith(what) for each in data["damage"]), data["damage"]
    parts = {1: "one part", 2: "2 parts"}[len(data["damage"])]
    assert data["verdict"][0] == f"Damaged: {parts} of this run cannot be read."
    assert not any("no readings" in each for each in data["missing"])
    assert data["devices"]["projector"]["name"] == "ALP XGA"
    if what == "block 0":
        assert data["taken"]["blocks_unreadable"] == 1
        assert data["image"]["which"] == "as acquired"


def test_an_image_that_is_not_the_one_the_run_made_is_not_shown(run: Path) -> None:
    level = zarr.open_array(run / "images" / "image" / "0", mode="r+")
    level[:] = 0.0
    data, page = reported(run)
    assert "What could not be read" in page.text
    assert any("it is not the image this run made" in each for each in data["damage"])
    assert data["image"] is None


@pytest.mark.parametrize("kind", ["torn", "no config", "no commits", "other", "missing"])
def test_what_cannot_be_told_of_is_refused(run: Path, kind: str, tmp_path: Path, hadascope: CommandLine) -> None:
    if kind == "torn":
        tear(run)
    elif kind == "no config":
        change(run, forget=("config",))
    elif kind == "no commits":
        shutil.rmtree(run / "readings" / "commits")
    elif kind == "other":
        run = tmp_path / "other.zarr"
        zarr.create_group(run)
    else:
        run = tmp_path / "missing.zarr"
    with pytest.raises(NotARunError):
        write_report(run)
    done = hadascope("report", run)
    assert done.code == 2
    assert "Traceback" not in done.err
    assert not list(tmp_path.glob("*.report.*"))


@pytest.mark.parametrize("recipe", ["noise", "stability", "registration"])
def test_calibrations_are_refused_by_name(run: Path, recipe: str, hadascope: CommandLine) -> None:
    change(run, recipe=recipe)
    done = hadascope("report", run)
    assert done.code == 2
    assert f"holds the readings of a {recipe}" in done.err


def test_uncertainty_is_shown_where_there_is_one_and_missed_where_not(
    told: tuple[dict[str, Any], Page], run: Path
) -> None:
    data, page = told
    assert "no uncertainty" in " ".join(data["missing"])
    without = len(page.svgs())
    shutil.copytree(run / "images" / "image", run / "images" / "uncertainty")
    data, page = reported(run)
    assert data["missing"] == []
    assert data["image"]["median_uncertainty_90"] == pytest.approx(np.median(StoredRun(run).image("image")))
    assert len(page.svgs()) == without + 1
    assert "90 % of pixels" in page.text


def test_what_is_not_finite_is_null_in_json(run: Path) -> None:
    change(run, residual_risk_bound=float("inf"))
    assert facts_of(run)["residual_risk_bound_blocks"] is None


def test_the_configuration_in_the_page_can_be_run_again(told: tuple[dict[str, Any], Page]) -> None:
    (text,) = re.findall(r"<pre>(.*?)</pre>", told[1].html, flags=re.DOTALL)
    config = validate_acquisition(yaml.safe_load(unescape(text)), "the report")
    assert config.sensing.side == 32


def test_bleaching_is_that_of_the_bench(told: tuple[dict[str, Any], Page]) -> None:
    light = told[0]["light"]
    assert light["decay_per_light_s"] == pytest.approx(0.4, abs=4 * light["decay_error_per_light_s"])
    assert light["decay_error_per_light_s"] < 0.02
    expected = np.exp(-0.4 * light["under_light_s"]) - 1
    assert light["change"] == pytest.approx(expected, abs=4 * light["change_error"])


def fading(rate_per_s: float, n_blocks: int = 8, pairs: int = 50) -> LightCurveCollector:
    """Noise-free blocks of 200 µs pairs, one second apart, under light for half of each picture's time."""
    collector = LightCurveCollector(100.0, 50.0)
    guards = np.zeros((2, GUARD_PICTURES))
    exposures = 2 * pairs + guards.size
    for number in range(n_blocks):
        start_us = 1e6 * number
        place = (2 * np.arange(pairs) + 1).astype(np.float64)
        light_s = (number * exposures + place) * 50e-6
        total = np.asarray(1e5 * np.exp(-rate_per_s * light_s) + 2 * 7.0)
        collector.add(
            Readings(
                number,
                1,
                start_us,
                np.ones(pairs, dtype=np.int64),
                0.3 * total,
                0.7 * total,
                np.asarray(start_us + 100.0 * (place - 1)),
                guards + 7.0,
                lit_exposures=(number + 1) * exposures,
            )
        )
    return collector


@pytest.mark.parametrize("rate_per_s", [0.0, 3.0, -2.0])
def test_the_exponential_is_the_one_that_was_put_in_and_pauses_do_not_bleach(rate_per_s: float) -> None:
    curve = fading(rate_per_s).curve()
    assert curve is not None
    assert curve.decay_per_light_s == pytest.approx(rate_per_s, abs=1e-4)
    assert curve.change == pytest.approx(np.exp(-rate_per_s * (curve.light_s[-1] - curve.light_s[0])) - 1, abs=1e-6)
    fitted = curve.fitted()
    assert fitted is not None
    assert fitted == pytest.approx(curve.total, rel=1e-4)


def test_of_a_few_pairs_the_light_is_told_and_no_slope() -> None:
    curve = fading(3.0, n_blocks=2, pairs=10).curve()
    assert curve is not None
    assert curve.pairs.sum() == 20
    assert (curve.change, curve.fitted()) == (None, None)
    assert LightCurveCollector(100.0, 50.0).curve() is None


def test_a_series_has_one_report_with_its_events_and_their_images(
    tmp_path: Path, finished: Path, hadascope: CommandLine
) -> None:
    series = tmp_path / "series.zarr"
    facts = {
        "series": 1,
        "state": "stopped",
        "simulated": True,
        "started": "2026-04-04T10:00:00+00:00",
        "config": facts_in(finished)["config"],
        "versions": {"hadascope": "0"},
    }
    zarr.create_group(series, attributes={"hadascope": facts})
    for name in ("t000_p000_c000_z000", "t001_p000_c000_z000", "t002_p000_c000_z000"):
        shutil.copytree(finished, series / "events" / name)
    forget_the_end(series / "events" / "t001_p000_c000_z000", blocks=2)
    tear(series / "events" / "t002_p000_c000_z000")
    done = hadascope("report", series)
    assert done.code == 0, done.err
    data = json.loads((tmp_path / "series.report.json").read_text(encoding="utf-8"))
    page = Page((tmp_path / "series.report.html").read_text(encoding="utf-8"))
    assert [event["state"] for event in data["events"]] == ["finished", "interrupted", None]
    assert data["events"][0]["split_half_psnr_db"] == facts_in(finished)["split_half"]["psnr_db"]
    assert len(data["damage"]) == 1
    assert len(page.svgs()) == 1
    assert "SIMULATED" in page.text
    assert "t002_p000_c000_z000" in page.text


def test_a_series_that_has_not_begun_has_a_report(tmp_path: Path, finished: Path) -> None:
    series = tmp_path / "series.zarr"
    facts = {"series": 1, "state": "failed", "simulated": False, "started": "2026-04-04T10:00:00+00:00"}
    zarr.create_group(series, attributes={"hadascope": {**facts, "config": facts_in(finished)["config"]}})
    written = write_report(series)
    assert json.loads(written.data.read_text(encoding="utf-8"))["events"] == []


def test_facts_that_are_no_longer_what_they_were_do_not_stop_it(run: Path) -> None:
    change(
        run,
        devices=None,
        models=[1],
        self_check="lost",
        split_half=None,
        warnings="one",
        resumed=7,
        accepted_timing=None,
        readout=3,
        noise_calibration=[],
        registration="lost",
    )
    data, _ = reported(run)
    assert data["devices"] == {}
    assert data["quality"]["split_half"] is None
    assert data["run"]["state"] == RunState.FINISHED


def test_a_report_says_the_same_each_time(run: Path) -> None:
    first, second = (read_report(run)[0].as_json() for _ in range(2))
    assert {**first, "written": ""} == {**second, "written": ""}
    image = np.arange(16.0).reshape(4, 4)
    assert plots.image_plot(image, 1.0) == plots.image_plot(image, 1.0)
