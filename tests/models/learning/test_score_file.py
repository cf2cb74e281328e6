"""Score files: what is written is read, a crash costs one row, and other parameters are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.learning.score_file import (
    COLUMNS,
    EvaluationRecord,
    RecordMismatchError,
    ScoreFileError,
    open_score_log,
    read_scores,
    record_path,
    write_scores,
)
from models.learning.scores import Condition, DuplicateScoreError, SchemeLabel, Score, Scores

UNIFORM = SchemeLabel("U", 0.25, 50, "bernoulli")
LOW = SchemeLabel("LS", 0.25, 50, "bernoulli")
RECORD = EvaluationRecord({"seed": 1, "gain": 0.0139}, {UNIFORM: "aa"}, {"CS-TV": ""})

NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]) | st.just(" "), min_size=1, max_size=12)
NUMBERS = st.floats(allow_nan=False)
ROWS = st.builds(
    Score,
    st.integers(0, 10**6),
    st.builds(
        Condition,
        st.builds(
            SchemeLabel, NAMES, st.floats(0, 1), st.integers(1, 500), st.sampled_from(["bernoulli", "systematic"])
        ),
        NAMES,
    ),
    st.integers(0, 10**9),
    NUMBERS,
    NUMBERS,
    NUMBERS,
)


def row(image: int, scheme: SchemeLabel = UNIFORM) -> Score:
    return Score(image, Condition(scheme, "CS-TV"), 1000 + image, 30.1 + image / 3, 0.9, 27.0)


@given(rows=st.lists(ROWS, unique_by=lambda score: (score.image, score.condition), max_size=5))
def test_every_digit_and_letter_comes_back(tmp_path_factory: pytest.TempPathFactory, rows: list[Score]) -> None:
    path = tmp_path_factory.mktemp("scores") / "scores.csv"
    write_scores(path, Scores(tuple(rows)))
    assert read_scores(path).rows == tuple(rows)


def test_what_is_undefined_comes_back_as_undefined(tmp_path: Path) -> None:
    flat = Score(0, Condition(UNIFORM, "zero"), 10, float("inf"), 1.0, float("nan"))
    write_scores(tmp_path / "s.csv", Scores((flat,)))
    assert repr(read_scores(tmp_path / "s.csv").rows[0]) == repr(flat)


def test_rows_are_on_disk_as_they_come(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    with open_score_log(path, RECORD) as log:
        for image in range(3):
            log.append(row(image))
            assert read_scores(path).rows == tuple(row(k) for k in range(image + 1))


def test_a_log_goes_on_where_it_ended(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    with open_score_log(path, RECORD) as log:
        log.append(row(0))
    with open_score_log(path, RECORD) as log:
        assert log.get(0, Condition(UNIFORM, "CS-TV")) == row(0)
        assert log.get(1, Condition(UNIFORM, "CS-TV")) is None
        log.append(row(1))
    assert read_scores(path).rows == (row(0), row(1))


@pytest.mark.parametrize("lost", [1, 5, 20])
def test_a_line_that_a_crash_cut_short_is_dropped(tmp_path: Path, lost: int) -> None:
    path = tmp_path / "s.csv"
    with open_score_log(path, RECORD) as log:
        log.append(row(0))
        log.append(row(1))
    path.write_bytes(path.read_bytes()[:-lost])
    with open_score_log(path, RECORD) as log:
        assert log.get(1, Condition(UNIFORM, "CS-TV")) is None
        log.append(row(1))
    assert read_scores(path).rows == (row(0), row(1))


def test_a_file_cut_within_its_heading_begins_again(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    with open_score_log(path, RECORD):
        pass
    path.write_bytes(b"image,ma")
    with open_score_log(path, RECORD) as log:
        log.append(row(0))
    assert read_scores(path).rows == (row(0),)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (EvaluationRecord({"seed": 2, "gain": 0.0139}, {UNIFORM: "aa"}, {}), "seed = 1 on record; found 2"),
        (EvaluationRecord({"seed": 1}, {UNIFORM: "aa"}, {}), "gain = 0.0139 on record; found None"),
        (
            EvaluationRecord(RECORD.shared, {UNIFORM: "bb"}, {}),
            "U, α = 0.25.* = 'aa' on record; found 'bb' in the masks",
        ),
        (EvaluationRecord(RECORD.shared, {}, {"CS-TV": "cc"}), "CS-TV = '' on record; found 'cc' in the methods"),
    ],
)
def test_scores_of_something_else_are_not_continued(tmp_path: Path, other: EvaluationRecord, words: str) -> None:
    path = tmp_path / "s.csv"
    with open_score_log(path, RECORD) as log:
        log.append(row(0))
    written = path.read_bytes(), record_path(path).read_bytes()
    with pytest.raises(RecordMismatchError, match=words), open_score_log(path, other):
        pass
    assert (path.read_bytes(), record_path(path).read_bytes()) == written


def test_further_masks_and_methods_join_the_record(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    with open_score_log(path, RECORD):
        pass
    with open_score_log(path, EvaluationRecord(RECORD.shared, {LOW: "ll"}, {"network": "nn"})) as log:
        log.append(row(0, LOW))
    record = json.loads(record_path(path).read_text(encoding="utf-8"))
    assert [entry["mask"] for entry in record["schemes"]] == ["U", "LS"]
    assert record["methods"] == {"CS-TV": "", "network": "nn"}
    with (
        pytest.raises(RecordMismatchError, match="'ll' on record"),
        open_score_log(path, EvaluationRecord(RECORD.shared, {LOW: "mm"}, {})),
    ):
        pass


def test_scores_without_their_record_are_not_continued(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    write_scores(path, Scores((row(0),)))
    with pytest.raises(RecordMismatchError, match=r"no record s\.json"), open_score_log(path, RECORD):
        pass


@pytest.mark.parametrize("content", ["not json", "[]", "{}", '{"hadascope_evaluation": 9}'])
def test_a_file_that_is_no_record_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "s.csv"
    record_path(path).write_text(content, encoding="utf-8")
    with pytest.raises(ScoreFileError, match=r"s\.json"), open_score_log(path, RECORD):
        pass


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("", "found columns none"),
        ("image,psnr\n", "found columns image, psnr"),
        ("\x00\xff", "found columns"),
        (",".join(COLUMNS) + "\n0,U,0.25\n", "line 2: found 3 columns"),
        (",".join(COLUMNS) + "\n0,U,0.25,50,bernoulli,CS-TV,many,30,0.9,20\n", "line 2: .*many"),
    ],
)
def test_a_file_that_holds_no_scores_is_refused(tmp_path: Path, lines: str, words: str) -> None:
    path = tmp_path / "s.csv"
    path.write_text(lines, encoding="utf-8")
    with pytest.raises(ScoreFileError, match=words):
        read_scores(path)


def test_a_row_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    write_scores(path, Scores((row(0),)))
    line = path.read_text(encoding="utf-8").splitlines()[1]
    path.write_text(path.read_text(encoding="utf-8") + line + "\n", encoding="utf-8")
    with pytest.raises(DuplicateScoreError, match="image 0 twice"):
        read_scores(path)
