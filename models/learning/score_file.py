"""Scores as a CSV file that grows row by row, with a record beside it of what it was computed from."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from models.learning.scores import Condition, SchemeLabel, Score, Scores

COLUMNS = (
    "image",
    "mask",
    "alpha",
    "repeats",
    "draw",
    "method",
    "pairs",
    "psnr_db",
    "ssim",
    "min_max_psnr_db",
)
RECORD_VERSION = 1


def write_scores(path: Path, scores: Scores) -> None:
    """Write all rows as CSV, UTF-8, from which ``read_scores`` gets the same numbers; names must be printable."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(_cells(row) for row in scores.rows)


def read_scores(path: Path) -> Scores:
    """Read scores that ``write_scores`` or an evaluation wrote. Raises ScoreFileError, DuplicateScoreError."""
    with path.open(encoding="utf-8", newline="") as file:
        try:
            header, *lines = list(csv.reader(file)) or [[]]
        except (csv.Error, UnicodeDecodeError) as error:
            raise ScoreFileError(f"{path} is no table of scores ({error}); give another file") from error
    if tuple(header) != COLUMNS:
        raise ScoreFileError(f"{path}: found columns {', '.join(header) or 'none'}; expected {', '.join(COLUMNS)}")
    return Scores(tuple(_row(cells, path, line) for line, cells in enumerate(lines, start=2)))


@dataclass(frozen=True)
class EvaluationRecord:
    """What scores were computed from: plain values that JSON holds.

    shared: what all rows have in common (seed, data range, images, noise); schemes: a digest of each one's mask;
    methods: what is known of each, a model's digest say. A resumed evaluation must agree in ``shared`` and in the
    schemes and methods that are on record; it may bring further ones.
    """

    shared: Mapping[str, Any]
    schemes: Mapping[SchemeLabel, str]
    methods: Mapping[str, str]


class ScoreLog:
    """The rows that are done, those of a former evaluation first; every further one goes into a file at once."""

    def __init__(self, done: Iterable[Score] = (), file: TextIO | None = None) -> None:
        """file: open for appending; None keeps the rows in memory only."""
        self._done = {(row.image, row.condition): row for row in done}
        self._file = file

    def get(self, image: int, condition: Condition) -> Score | None:
        """The row of an image under a condition, or None where it is not done."""
        return self._done.get((image, condition))

    def append(self, score: Score) -> None:
        """Keep one row, and hand it to the operating system."""
        if self._file is not None:
            csv.writer(self._file, lineterminator="\n").writerow(_cells(score))
            self._file.flush()
        self._done[score.image, score.condition] = score


@contextmanager
def open_score_log(path: Path, record: EvaluationRecord) -> Iterator[ScoreLog]:
    """The score file ``path``, to be continued where it exists; its record is ``record_path(path)``.

    A last line that a crash cut short is taken out. Raises ScoreFileError, RecordMismatchError where the file was
    computed from something else.
    """
    _merge_record(path, record)
    if not path.exists() or not _cut_unfinished_line(path):
        write_scores(path, Scores(()))
    done = read_scores(path).rows
    with path.open("a", encoding="utf-8", newline="") as file:
        yield ScoreLog(done, file)


def record_path(path: Path) -> Path:
    """Where the record of a score file is: scores.csv has scores.json."""
    return path.with_suffix(".json")


class ScoreFileError(ValueError):
    """A file that holds no scores, or not as they are written here."""


class RecordMismatchError(ValueError):
    """A score file that was computed from something else."""


def _cells(row: Score) -> list[str]:
    scheme = row.condition.scheme
    return [
        str(row.image),
        scheme.mask,
        repr(float(scheme.alpha)),
        str(scheme.repeats),
        scheme.draw,
        row.condition.method,
        str(row.pairs),
        *(repr(float(value)) for value in (row.psnr, row.ssim, row.min_max_psnr)),
    ]


def _row(cells: list[str], path: Path, line: int) -> Score:
    if len(cells) != len(COLUMNS):
        raise ScoreFileError(f"{path}, line {line}: found {len(cells)} columns; expected {len(COLUMNS)}")
    image, mask, alpha, repeats, draw, method, pairs, *metrics = cells
    try:
        psnr, ssim, min_max_psnr = (float(cell) for cell in metrics)
        scheme = SchemeLabel(mask, float(alpha), int(repeats), draw)
        return Score(int(image), Condition(scheme, method), int(pairs), psnr, ssim, min_max_psnr)
    except ValueError as error:
        raise ScoreFileError(f"{path}, line {line}: {error}; expected numbers as {', '.join(COLUMNS)}") from error


def _cut_unfinished_line(path: Path) -> bool:
    """Cut what stands behind the last line break; False where nothing is left."""
    written = path.read_bytes()
    end = written.rfind(b"\n") + 1
    if end < len(written):
        with path.open("r+b") as file:
            file.truncate(end)
    return end > 0


def _merge_record(path: Path, record: EvaluationRecord) -> None:
    """Refuse what contradicts the record on disk; write what is new."""
    place = record_path(path)
    schemes, methods = dict(record.schemes), dict(record.methods)
    if place.exists():
        old = _read_record(place)
        _check_agreement(place, old.shared, record.shared, "the evaluation", both=True)
        _check_agreement(place, old.schemes, record.schemes, "the masks", both=False)
        _check_agreement(place, old.methods, record.methods, "the methods", both=False)
        schemes, methods = {**old.schemes, **schemes}, {**old.methods, **methods}
    elif path.exists():
        raise RecordMismatchError(
            f"{path} has no record {place.name} beside it; expected one, to know that its scores belong to this "
            "evaluation: give another file, or remove it"
        )
    content = {
        "hadascope_evaluation": RECORD_VERSION,
        "shared": dict(record.shared),
        "schemes": [{**label._asdict(), "digest": digest} for label, digest in schemes.items()],
        "methods": methods,
    }
    fresh = place.with_name(place.name + ".new")
    fresh.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    fresh.replace(place)


def _read_record(place: Path) -> EvaluationRecord:
    try:
        content = json.loads(place.read_text(encoding="utf-8"))
        version = content["hadascope_evaluation"]
        if version != RECORD_VERSION:
            raise ScoreFileError(f"{place}: found record version {version}; expected {RECORD_VERSION}")
        schemes = {
            SchemeLabel(entry["mask"], entry["alpha"], entry["repeats"], entry["draw"]): str(entry["digest"])
            for entry in content["schemes"]
        }
        return EvaluationRecord(dict(content["shared"]), schemes, dict(content["methods"]))
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ScoreFileError(f"{place} is no record of an evaluation ({error!r}); give another file") from error


def _check_agreement(place: Path, old: Mapping[Any, Any], new: Mapping[Any, Any], what: str, *, both: bool) -> None:
    """Raise where a key has another value than on record; both: where a key is missing on one side, too."""
    for key in dict.fromkeys([*old, *new]):
        if (both or (key in old and key in new)) and old.get(key) != new.get(key):
            raise RecordMismatchError(
                f"{place} has {key} = {old.get(key)!r} on record; found {new.get(key)!r} in {what} of now: "
                "scores of both do not belong into one table; give another file, or the same parameters"
            )
