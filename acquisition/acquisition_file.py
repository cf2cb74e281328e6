"""Acquisition files: YAML in, a validated AcquisitionConfig out, or every problem with its key."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from acquisition.config import AcquisitionConfig
from acquisition.problems import AcquisitionFileError, InconsistentFileError, Problem
from calibration.calibration_file import CalibrationFileError
from calibration.noise_file import read_noise_calibration

_ErrorDetail = Mapping[str, Any]


def load_acquisition(path: Path, changes: Mapping[str, Mapping[str, Any]] | None = None) -> AcquisitionConfig:
    """Read an acquisition file, put ``changes`` (section → key → value) into it, and validate the whole.

    Raises AcquisitionFileError where the file is missing, is no YAML mapping, or has bad keys or values: every
    problem names the path of its key, what was found and what is allowed.
    """
    document = _read(path)
    for section, values in (changes or {}).items():
        if isinstance(document, dict) and isinstance(document.setdefault(section, {}), dict):
            document[section].update(values)
    return validate_acquisition(document, source=str(path))


def load_to_calibrate(path: Path, *, noise: bool = False, registration: bool = False) -> AcquisitionConfig:
    """Read an acquisition file to measure what it takes from calibrations, which may not be there yet.

    noise, registration: do without that calibration where it is not there. A rehearsal's bench then has the gain and
    variance that the file states for it, or 1 and 0. Raises AcquisitionFileError.
    """
    document = _read(path)
    if not isinstance(document, dict):
        return validate_acquisition(document, source=str(path))
    if noise:
        document["noise"] = _without_calibration(document.get("noise"), document.get("bench"))
    detector = devices.get("detector") if isinstance(devices := document.get("devices"), dict) else None
    if registration and isinstance(detector, dict):
        detector.pop("registration", None)
    return validate_acquisition(document, source=str(path))


def validate_acquisition(document: Any, source: str) -> AcquisitionConfig:
    """Turn a parsed document into an AcquisitionConfig. Raises AcquisitionFileError naming ``source``."""
    if not isinstance(document, dict):
        raise AcquisitionFileError(
            source, [Problem("(file)", _shown(document), "a mapping of sections: sensing, timing, …")]
        )
    try:
        return AcquisitionConfig.model_validate(document)
    except ValidationError as error:
        raise AcquisitionFileError(source, _problems(document, error)) from error


def example_dry_run() -> Path:
    """The example acquisition file, as installed or as it stands in a checkout. Raises FileNotFoundError."""
    here = Path(__file__).parent
    for path in (here / "dry_run.yaml", here.parent / "examples" / "dry_run.yaml"):
        if path.is_file():
            return path
    raise FileNotFoundError(f"the example acquisition file is missing from {here}: reinstall hadascope, or name a file")


def dump_acquisition(config: AcquisitionConfig) -> str:
    """The acquisition file as YAML text; reading it again gives an equal configuration."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _without_calibration(stated: Any, bench: Any) -> Any:
    """The noise section with numbers in place of a calibration; what else stands there is left for validation."""
    if stated is None:
        stated = {"calibration": ""}
    if not isinstance(stated, dict) or stated.get("calibration") is None:
        return stated
    told = bench if isinstance(bench, dict) else {}
    numbers = {"gain": told.get("gain") or 1.0, "variance": told.get("variance") or 0.0}
    with suppress(CalibrationFileError, TypeError, ValueError):
        earlier = read_noise_calibration(Path(stated["calibration"])).noise
        numbers = {"gain": earlier.gain, "variance": earlier.variance}
    return {**numbers, **{key: value for key, value in stated.items() if key != "calibration"}}


def _read(path: Path) -> Any:
    """The parsed document. Raises AcquisitionFileError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AcquisitionFileError(str(path), [Problem("(file)", str(error), "a readable UTF-8 text file")]) from error
    try:
        return yaml.load(text, _UniqueKeyLoader)
    except yaml.YAMLError as error:
        raise AcquisitionFileError(
            str(path), [Problem("(file)", " ".join(str(error).split()), "valid YAML")]
        ) from error


def _problems(document: Any, error: ValidationError) -> list[Problem]:
    problems: list[Problem] = []
    for detail in error.errors(include_url=False):
        cause = detail.get("ctx", {}).get("error")
        if isinstance(cause, InconsistentFileError):
            problems.extend(cause.problems)
        else:
            problems.append(_problem(document, detail))
    return problems


def _problem(document: Any, detail: _ErrorDetail) -> Problem:
    keys, section = _resolve(document, detail["loc"])
    path = ".".join(str(key) for key in keys)
    match detail["type"]:
        case "missing":
            return Problem(path, "nothing", _description(section, keys[-1]))
        case "extra_forbidden":
            allowed = [] if section is None else list(section.model_fields)
            near = difflib.get_close_matches(str(keys[-1]), allowed, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            return Problem(path, f"an unknown key{hint}", ", ".join(allowed))
        case "model_type" | "model_attributes_type" | "dict_type":
            return Problem(path, _shown(detail["input"]), f"a mapping of {', '.join(_keys_below(section, keys[-1]))}")
        case "union_tag_invalid":
            return Problem(f"{path}.kind", _shown(detail["ctx"]["tag"]), str(detail["ctx"]["expected_tags"]))
        case "union_tag_not_found":
            return Problem(f"{path}.kind", "nothing", f"{_kinds(section, keys[-1])}, as in {{kind: …}}")
        case _:
            return Problem(path, _shown(detail["input"]), _allowed(detail["msg"]))


def _resolve(document: Any, location: Sequence[str | int]) -> tuple[list[str | int], type[BaseModel] | None]:
    """The keys as they stand in the file, without the tags pydantic adds for unions, and the last key's section."""
    keys: list[str | int] = []
    section: type[BaseModel] | None = AcquisitionConfig
    value = document
    candidates: list[type[BaseModel]] = []
    for position, key in enumerate(location):
        if candidates and isinstance(value, Mapping) and value.get("kind") == key and key not in value:
            section = next((model for model in candidates if _kind(model) == key), None)
            candidates = []
            continue
        if candidates:
            section = candidates[0]
        keys.append(key)
        last = position == len(location) - 1
        if isinstance(key, str) and section is not None and key in section.model_fields:
            candidates = _models(section.model_fields[key].annotation)
        if not last:
            value = _child(value, key)
    return keys, section


def _child(value: Any, key: str | int) -> Any:
    if isinstance(value, Mapping):
        return value.get(key)
    if isinstance(value, Sequence) and not isinstance(value, str) and isinstance(key, int) and key < len(value):
        return value[key]
    return None


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The sections an annotation admits: itself, or the members of its (tagged) union or tuple."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Annotated, Union, UnionType, tuple):
        return [model for part in get_args(annotation) if part is not NoneType for model in _models(part)]
    return []


def _kind(model: type[BaseModel]) -> str | None:
    field = model.model_fields.get("kind")
    return None if field is None else str(get_args(field.annotation)[0])


def _kinds(section: type[BaseModel] | None, key: str | int) -> str:
    if section is None or key not in section.model_fields:
        return "a kind"
    return ", ".join(f"'{_kind(model)}'" for model in _models(section.model_fields[str(key)].annotation))


def _keys_below(section: type[BaseModel] | None, key: str | int) -> list[str]:
    """The keys that the section under ``key`` may have."""
    if section is None or key not in section.model_fields:
        return ["keys"]
    return sorted({name for model in _models(section.model_fields[str(key)].annotation) for name in model.model_fields})


def _description(section: type[BaseModel] | None, key: str | int) -> str:
    field = None if section is None else section.model_fields.get(str(key))
    return "a value" if field is None or field.description is None else f"a value — {field.description}"


def _allowed(message: str) -> str:
    text = message.removeprefix("Value error, ").removeprefix("allowed: ").removeprefix("Input should be ")
    return text[:1].lower() + text[1:]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error; the standard's loader lets the last one win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key}' stands twice", key_node.start_mark
                )
            seen.add(key if isinstance(key, str) else None)
        return super().construct_mapping(node, deep)
