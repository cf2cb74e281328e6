"""What a sequence may ask for, and what its events are: by hand, from the words of useq's documentation."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
import useq
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from acquisition.acquisition_file import dump_acquisition, validate_acquisition
from acquisition.config import AcquisitionConfig, on_record
from acquisition.mda import pose_from, series_axes, series_events
from acquisition.mda_problems import MOST_EVENTS
from acquisition.problems import AcquisitionFileError
from devices.microscope import Pose
from tests.acquisition.rehearsal import small_config

START = Pose(100.0, 200.0, 30.0)


def with_mda(**mda: Any) -> AcquisitionConfig:
    document = small_config().model_dump(mode="json")
    return validate_acquisition({**document, "mda": mda}, "the test's file")


def sequence(**mda: Any) -> useq.MDASequence:
    parsed = with_mda(**mda).mda
    assert parsed is not None
    return parsed


def refused(mda: Any) -> str:
    document = small_config().model_dump(mode="json")
    with pytest.raises(AcquisitionFileError) as error:
        validate_acquisition({**document, "mda": mda}, "the test's file")
    return "\n".join(str(problem) for problem in error.value.problems)


def test_a_file_without_a_sequence_is_one_image() -> None:
    assert small_config().mda is None
    assert on_record(small_config())["mda"] is None


def test_events_come_in_the_order_of_the_axes_the_last_one_fastest() -> None:
    mda = sequence(
        axis_order="tpcz",
        time_plan={"interval": 10, "loops": 2},
        stage_positions=[{"x": 1, "y": 2, "z": 3, "name": "A"}, {"x": 4, "y": 5, "z": 6}],
        channels=["FITC", {"config": "561", "group": "Laser"}],
        z_plan={"range": 2, "step": 1},
    )
    events = series_events(mda)
    assert [event.index for event in events] == list(itertools.product(range(2), range(2), range(2), range(3)))
    assert [event.number for event in events] == list(range(24))
    assert events[0].pose == Pose(1.0, 2.0, 2.0, ("Channel", "FITC"))
    assert events[-1].pose == Pose(4.0, 5.0, 7.0, ("Laser", "561"))
    assert events[0].words == "t 1/2, FITC, z 1/3, position A"
    assert events[-1].words == "t 2/2, 561, z 3/3, position 1"
    assert events[-1].name == "t001_p001_c001_z002"
    assert [event.min_start_s for event in events] == [0.0] * 12 + [10.0] * 12
    assert [event.number for event in events if event.interval_s is not None] == [12]
    assert events[12].interval_s == 10.0
    axes = series_axes(mda)
    assert (axes.n_times, axes.positions, axes.n_planes) == (2, ("A", "1"), 3)
    assert axes.channels == ("Channel FITC", "Laser 561")
    assert (axes.interval_s, axes.z_um) == (10.0, 1.0)


def test_time_counts_anew_where_every_position_has_its_own() -> None:
    events = series_events(
        sequence(
            axis_order="pt",
            stage_positions=[{"x": 0, "y": 0}, {"x": 9, "y": 0}],
            time_plan={"interval": 3, "loops": 2},
        )
    )
    assert [(event.clock, event.min_start_s, event.interval_s) for event in events] == [
        (0, 0.0, None),
        (0, 3.0, 3.0),
        (2, 0.0, None),
        (2, 3.0, 3.0),
    ]


def test_planes_around_nothing_named_lie_around_where_the_focus_stood() -> None:
    mda = sequence(
        stage_positions=[{"x": 0, "y": 0, "z": 500}, {"x": 1, "y": 0}],
        z_plan={"relative": [-2, 0.5]},
        axis_order="pz",
    )
    assert [event.pose.z_um for event in series_events(mda, START)] == [498.0, 500.5, 28.0, 30.5]


def test_a_channels_offset_is_added_to_its_planes() -> None:
    mda = sequence(channels=["A", {"config": "B", "z_offset": 1.5}], z_plan={"absolute": [10, 20]}, axis_order="cz")
    assert [event.pose.z_um for event in series_events(mda, START)] == [10.0, 20.0, 11.5, 21.5]


def test_what_only_some_positions_say_is_filled_in_from_the_start_and_what_none_says_is_left_alone() -> None:
    mda = sequence(stage_positions=[{"x": 5}, {"y": 6}])
    assert [event.pose for event in series_events(mda, START)] == [Pose(5.0, 200.0, None), Pose(100.0, 6.0, None)]


def test_light_adds_up_at_positions_with_the_same_x_and_y() -> None:
    mda = sequence(stage_positions=[{"x": 5, "y": 1, "z": 0}, {"x": 6, "y": 1, "z": 0}, {"x": 5, "y": 1, "z": 9}])
    assert [event.place for event in series_events(mda)] == [0, 1, 0]


def test_channels_that_are_not_always_acquired_leave_their_places_empty() -> None:
    mda = sequence(
        time_plan={"interval": 1, "loops": 3},
        channels=["A", {"config": "B", "acquire_every": 2}, {"config": "C", "do_stack": False}],
        z_plan={"range": 2, "step": 1},
        axis_order="tcz",
    )
    indices = {event.index for event in series_events(mda)}
    assert (1, 0, 1, 0) not in indices
    assert (2, 0, 1, 0) in indices
    assert {index[3] for index in indices if index[2] == 2} == {1}
    assert len(indices) == 3 * 3 + 2 * 3 + 3


@settings(deadline=None, max_examples=25)
@given(
    times=st.integers(1, 4),
    positions=st.integers(0, 3),
    channels=st.integers(0, 3),
    planes=st.integers(0, 4),
    order=st.permutations("tpcz"),
)
def test_every_combination_is_one_event_with_a_folder_of_its_own(
    times: int, positions: int, channels: int, planes: int, order: list[str]
) -> None:
    mda = sequence(
        axis_order="".join(order),
        time_plan={"interval": 2, "loops": times},
        stage_positions=[{"x": p, "y": 0} for p in range(positions)],
        channels=[f"C{c}" for c in range(channels)],
        **({"z_plan": {"relative": list(range(planes))}} if planes else {}),
    )
    events, axes = series_events(mda, START), series_axes(mda)
    shape = (axes.n_times, len(axes.positions), len(axes.channels), axes.n_planes)
    assert shape == (times, max(positions, 1), max(channels, 1), max(planes, 1))
    assert sorted(event.index for event in events) == list(itertools.product(*map(range, shape)))
    assert len({event.name for event in events}) == len(events)
    assert all(event.clock <= event.number for event in events)
    for event in events:
        assert event.pose.channel == (("Channel", f"C{event.index[2]}") if channels else None)
        assert event.pose.z_um == (30.0 + event.index[3] if planes else None)


@settings(deadline=None, max_examples=25)
@given(step=st.floats(0.1, 5), interval=st.floats(0, 1e4), n=st.integers(1, 5))
def test_a_sequence_is_on_record_as_it_was_read(step: float, interval: float, n: int) -> None:
    config = with_mda(
        time_plan=[{"interval": interval, "loops": n}, {"interval": 1.5, "loops": 2}],
        channels=["A"],
        z_plan={"above": 4 * step, "below": step, "step": step, "go_up": False},
        metadata={"who": "somebody", "plate": {"well": "B2"}},
    )
    again = validate_acquisition(json.loads(json.dumps(on_record(config))), "the record").mda
    written = validate_acquisition(yaml.safe_load(dump_acquisition(config)), "the text").mda
    assert again == config.mda
    assert written == config.mda
    assert config.mda is not None
    assert again is not None
    assert series_events(again) == series_events(config.mda)


def test_a_pose_is_the_same_from_its_record() -> None:
    for pose in (Pose(), Pose(1.0, 2.0, None, ("A", "B"))):
        fields = {"x_um": pose.x_um, "y_um": pose.y_um, "z_um": pose.z_um, "channel": pose.channel}
        assert pose_from(json.loads(json.dumps(fields))) == pose


def test_the_schema_describes_sequences() -> None:
    schema = AcquisitionConfig.model_json_schema()
    assert "MDASequence" in json.dumps(schema["properties"]["mda"])
    assert {"time_plan", "channels", "z_plan", "stage_positions"} <= schema["$defs"]["MDASequence"]["properties"].keys()


CHANNEL = {"channels": ["A"]}


@pytest.mark.parametrize(
    ("mda", "key", "said"),
    [
        ({}, "mda", "no event at all"),
        ("FITC", "mda", "found 'FITC'"),
        ({"time_pln": 3}, "mda.time_pln", "unknown key"),
        ({**CHANNEL, "time_plan": {"interval": 1, "loops": 2, "lops": 3}}, "mda.time_plan.lops", "unknown key"),
        ({"channels": [{"config": "A", "xposure": 1}]}, "mda.channels.0.xposure", "unknown key"),
        ({"stage_positions": [{"x": 1, "y": 2}, {"x": 1, "yy": 2}]}, "mda.stage_positions.1.yy", "unknown key"),
        ({"channels": [{"config": "A", "exposure": 5}]}, "mda.channels.0.exposure", "timing.illumination_time_us"),
        ({"channels": [{"config": "A", "camera": "left"}]}, "mda.channels.0.camera", "devices.detector"),
        ({"channels": [{"config": "A", "z_offset": 2}]}, "mda.channels.0.z_offset", "z_plan"),
        ({"channels": ["A", "A"]}, "mda.channels.1", "twice"),
        ({"channels": [5]}, "mda.channels", "a list of presets"),
        ({"channels": "A"}, "mda.channels", "a list of presets"),
        (
            {**CHANNEL, "autofocus_plan": {"autofocus_motor_offset": 1, "axes": ["p"]}},
            "mda.autofocus_plan",
            "autofocus",
        ),
        ({**CHANNEL, "grid_plan": {"rows": 2, "columns": 2}}, "mda.grid_plan", "stage_positions"),
        ({**CHANNEL, "setup": {"exposure": 1}}, "mda.setup", "devices"),
        ({**CHANNEL, "keep_shutter_open_across": ["z"]}, "mda.keep_shutter_open_across", "light is off"),
        (
            {"stage_positions": [{"x": 0, "y": 0, "sequence": {"z_plan": {"range": 2, "step": 1}}}]},
            "mda.stage_positions.0.sequence",
            "the same plans at every position",
        ),
        (
            {"stage_positions": [{"x": 0, "y": 0, "properties": [["Camera", "Gain", "2"]]}]},
            "mda.stage_positions.0.properties",
            "presets",
        ),
        (
            {"stage_positions": {"plate": 96, "a1_center_xy": [0, 0], "selected_wells": [[0, 1], [0, 1]]}},
            "mda.stage_positions",
            "a list of {x, y, z, name}",
        ),
        ({"stage_positions": [{"x": "left"}]}, "mda.stage_positions", "a list of {x, y, z, name}"),
        ({"stage_positions": [{"x": float("nan")}]}, "mda", "finite"),
        ({"stage_positions": [{1: 2}]}, "mda", "a sequence of useq"),
        ({"time_plan": {"interval": 3}}, "mda.time_plan", "{interval, loops}"),
        ({"time_plan": {"interval": 0, "duration": 3}}, "mda", "counted"),
        ({"time_plan": {"interval": -1, "loops": 3}}, "mda.time_plan", "do not go back"),
        ({"time_plan": {"interval": 1, "loops": 10**9}}, "mda", f"at most {MOST_EVENTS}"),
        ({"time_plan": {"interval": float("inf"), "loops": 2}}, "mda.time_plan", "{interval, loops}"),
        ({"z_plan": {"range": 1e9, "step": 1e-9}}, "mda", f"at most {MOST_EVENTS}"),
        ({"z_plan": {"range": float("inf"), "step": 1}}, "mda", "counted"),
        ({"z_plan": {"range": 4, "step": -1}}, "mda.z_plan.step", "more than 0 µm"),
        ({"z_plan": {"bottom": 0, "top": 4, "step": 0}}, "mda.z_plan.step", "found 0 µm"),
        ({"z_plan": {"relative": []}}, "mda", "no event at all"),
        ({"z_plan": {"rang": 4}}, "mda.z_plan", "{range, step}"),
        ({**CHANNEL, "axis_order": "tz", "z_plan": {"range": 1, "step": 1}}, "mda.axis_order", "would not be played"),
        ({**CHANNEL, "axis_order": "cq"}, "mda.axis_order", "t, p, c and z"),
    ],
    ids=str,
)
def test_what_cannot_be_obeyed_is_refused_by_its_key(mda: Any, key: str, said: str) -> None:
    message = refused(mda)
    assert any(line.startswith(f"{key}: found ") and said in line for line in message.splitlines()), message


def test_every_wrong_key_is_named() -> None:
    message = refused({"channels": [{"config": "A", "exposure": 5}, {"config": "B", "exposure": 6}], "loops": 1})
    for key in ("mda.channels.0.exposure", "mda.channels.1.exposure", "mda.loops"):
        assert f"{key}: found" in message
