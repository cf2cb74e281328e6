"""A good acquisition file is read whole; a bad one is answered with the key, what was found and what is allowed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from acquisition.acquisition_file import dump_acquisition, example_dry_run, load_acquisition, validate_acquisition
from acquisition.config import AcquisitionConfig
from acquisition.connect import sample_on_stage
from acquisition.problems import AcquisitionFileError, Problem
from acquisition.rehearsal import rehearsal_of
from acquisition.section import Section

Document = dict[str, Any]


@pytest.fixture
def document() -> Document:
    loaded: Document = yaml.safe_load(example_dry_run().read_text(encoding="utf-8"))
    return loaded


def real_devices(document: Document) -> None:
    document["devices"] = {
        "projector": {"kind": "alp", "dmd": "1080p", "library_dir": "C:/ALP"},
        "detector": {"kind": "micro-manager", "port": 4827},
        "light_source": {"kind": "micro-manager-shutter", "label": "LED"},
    }


def put(*path_and_value: Any) -> Callable[[Document], None]:
    *path, last, value = path_and_value

    def change(document: Document) -> None:
        section = document
        for key in path:
            section = section[key]
        section[last] = value

    return change


def take(*path: str) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        section = document
        for key in path[:-1]:
            section = section[key]
        del section[path[-1]]

    return change


BAD_FILES: list[tuple[str, Callable[[Document], None], str, str, str]] = [
    ("side no power of two", put("sensing", "side", 100), "sensing.side", "100", "a power of two"),
    ("alpha over one", put("sensing", "alpha", 1.5), "sensing.alpha", "1.5", "less than or equal to 1"),
    ("alpha not finite", put("sensing", "alpha", float("nan")), "sensing.alpha", "nan", "finite"),
    ("text for a number", put("sensing", "repeats", "many"), "sensing.repeats", "'many'", "valid integer"),
    ("unknown section", put("sensign", {}), "sensign", "did you mean sensing", "sample, sensing"),
    ("unknown key", put("timing", "picture_time_ms", 1), "timing.picture_time_ms", "unknown key", "picture_time_us"),
    ("unknown device key", put("devices", "projector", "prot", 1), "devices.projector.prot", "unknown",
     "dmd, memory_pictures"),
    ("missing key", take("sensing", "side"), "sensing.side", "nothing", "Image side n"),
    ("missing section", take("timing"), "timing", "nothing", "How long pictures last"),
    ("unknown kind", put("devices", "detector", {"kind": "pmt"}), "devices.detector.kind", "'pmt'", "'micro-manager'"),
    ("no kind", put("sensing", "mask", {}), "sensing.mask.kind", "nothing", "'water-filling'"),
    ("mask without its file", put("sensing", "mask", {"kind": "learned"}), "sensing.mask.file", "nothing", "natural"),
    ("long illumination", put("timing", "illumination_time_us", 101), "timing.illumination_time_us", "101", "100 µs"),
    ("short picture", put("timing", {"picture_time_us": 43, "illumination_time_us": 30}), "timing.picture_time_us",
     "43 µs", "at least 44 µs"),
    ("region below the mirrors", put("dmd_region", "top", 300), "dmd_region.top", "300", "0 to 256"),
    ("region right of the mirrors", put("dmd_region", "left", 600), "dmd_region.left", "600", "0 to 512"),
    ("region too large", put("dmd_region", "mirrors_per_px", 7), "dmd_region.mirrors_per_px", "896", "768 mirrors"),
    ("rotation", put("dmd_region", "rotation_deg", 45), "dmd_region.rotation_deg", "45", "0, 90, 180 or 270"),
    ("half real", put("devices", "detector", {"kind": "micro-manager"}), "devices.detector.kind",
     "micro-manager beside", "both real or both simulated"),
    ("real light on a simulated bench", put("devices", "light_source", {"kind": "micro-manager-shutter", "label": "x"}),
     "devices.light_source.kind", "micro-manager-shutter", "none, simulated"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "path", "found", "allowed"), [case[1:] for case in BAD_FILES],
                         ids=[case[0] for case in BAD_FILES])  # fmt: skip
def test_a_bad_file_is_answered_with_key_found_and_allowed(
    document: Document, change: Callable[[Document], None], path: str, found: str, allowed: str
) -> None:
    change(document)
    with pytest.raises(AcquisitionFileError) as refusal:
        validate_acquisition(document, "bad.yaml")
    problems = {problem.path: problem for problem in refusal.value.problems}
    assert path in problems, problems
    assert found in problems[path].found
    assert allowed in problems[path].allowed
    assert str(refusal.value).startswith("bad.yaml cannot be used")


def test_every_problem_is_named_at_once(document: Document) -> None:
    document["sensing"]["alpha"] = 2
    document["timing"]["picture_time_us"] = -1
    with pytest.raises(AcquisitionFileError) as refusal:
        validate_acquisition(document, "bad.yaml")
    assert [problem.path for problem in refusal.value.problems] == ["sensing.alpha", "timing.picture_time_us"]


@pytest.mark.parametrize("text", ["", "- a list", "just words", "a: [1, ", "\x00"])
def test_what_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(AcquisitionFileError, match=r"bad\.yaml cannot be used"):
        load_acquisition(file)


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(AcquisitionFileError, match=r"missing\.yaml"):
        load_acquisition(tmp_path / "missing.yaml")


def test_writing_and_reading_again_gives_the_same_acquisition(tmp_path: Path, document: Document) -> None:
    real_devices(document)
    document["dmd_region"].update(rotation_deg=90, flip_vertical=True)
    config = validate_acquisition(document, "test")
    file = tmp_path / "again.yaml"
    file.write_text(dump_acquisition(config), encoding="utf-8")
    assert load_acquisition(file) == config


def test_an_acquisition_cannot_be_changed_and_a_replacement_is_validated_again(document: Document) -> None:
    config = validate_acquisition(document, "test")
    with pytest.raises(ValueError, match="frozen"):
        config.sensing = config.sensing
    with pytest.raises(ValueError, match="0 to 256"):
        config.replace(dmd_region=config.dmd_region.model_copy(update={"top": 300}))


def test_a_rehearsal_keeps_chip_and_timing_and_exchanges_the_devices_for_simulated_ones(document: Document) -> None:
    real_devices(document)
    config = validate_acquisition(document, "test")
    rehearsal = rehearsal_of(config)
    assert not config.simulated
    assert rehearsal.simulated
    assert rehearsal.dmd_type == config.dmd_type
    assert (rehearsal.sensing, rehearsal.timing) == (config.sensing, config.timing)
    kinds = {rehearsal.devices.projector.kind, rehearsal.devices.detector.kind, rehearsal.devices.light_source.kind}
    assert kinds == {"simulated"}


def test_a_rehearsal_is_as_bright_as_the_sample_is_expected_to_be(document: Document) -> None:
    real_devices(document)
    document["sample"].update(expected_total=4e6, expected_background=100.0)
    config = validate_acquisition(document, "test")
    rehearsal = rehearsal_of(config)
    light = sample_on_stage(rehearsal)
    assert light is not None
    assert light.sum() == pytest.approx(4e6)
    assert rehearsal.expected_background == pytest.approx(100.0)


@pytest.mark.parametrize("section", Section.__subclasses__())
def test_every_field_says_its_unit_and_what_it_is(section: type[BaseModel]) -> None:
    for name, field in section.model_fields.items():
        assert field.description, name
        assert isinstance(field.json_schema_extra, dict), name
        assert field.json_schema_extra["unit"], name


def test_the_schema_of_the_whole_file_can_be_printed() -> None:
    schema = AcquisitionConfig.model_json_schema()
    assert schema["additionalProperties"] is False
    picture_time = schema["$defs"]["Timing"]["properties"]["picture_time_us"]
    assert picture_time["unit"] == "µs"
    assert "description" in picture_time


def test_a_problem_reads_as_one_sentence() -> None:
    assert str(Problem("sensing.side", "100", "a power of two")) == "sensing.side: found 100; allowed: a power of two"
