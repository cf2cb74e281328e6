"""What a report says of a run: plain data, for the page and as JSON.

Keys are stable within a schema version, with units in their names; light is in detector units per exposure.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acquisition.damaged_run import UNREADABLE, opened_run, readable_image, tried
from acquisition.events import EventKind, read_events
from acquisition.reconstruction import psnr_of
from acquisition.report.light_curve import LightCurve
from acquisition.report.read_again import ReadAgain
from acquisition.run_layout import RunState
from acquisition.stored_run import StoredRun

REPORT_SCHEMA = 1
_CAME_TO = {
    RunState.RUNNING: "The run is going on",
    RunState.INTERRUPTED: "The run was interrupted",
    RunState.FINISHED: "The run finished",
    RunState.STOPPED: "The run was stopped",
    RunState.FAILED: "The run failed",
}
_ERRORS = frozenset({EventKind.BLOCK_REPEATED, EventKind.BLOCK_FAILED})


@dataclass(frozen=True)
class ReportArrays:
    """What a report draws: images float64 [n, n], pairs M int [N] in natural order, light, live record [refreshes, 4].

    None where the run does not have it, or it cannot be read.
    """

    image: NDArray[np.float64] | None = None
    uncertainty: NDArray[np.float64] | None = None
    pairs: NDArray[np.int64] | None = None
    light: LightCurve | None = None
    live: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class ReportFacts:
    """What a report says, JSON-able.

    damage: what could not be read; missing: what is not there, and why. image: which one it is, its side, scale and
    brightest pixel. quality: error per pixel, as root mean square and as PSNR, the image's maximum being the data
    range. Everything else is named after what it holds; None, or an empty mapping, where it is not on record.
    """

    report_schema: int
    written: str
    written_by: str
    run: dict[str, Any]
    verdict: list[str]
    warnings: list[str]
    damage: list[str]
    missing: list[str]
    image: dict[str, Any] | None
    quality: dict[str, Any]
    sensing: dict[str, Any]
    taken: dict[str, Any]
    dose: dict[str, Any]
    light: dict[str, Any] | None
    devices: dict[str, Any]
    accepted_timing: dict[str, Any] | None
    readout: dict[str, Any] | None
    noise: dict[str, Any]
    noise_calibration: dict[str, Any] | None
    registration: dict[str, Any] | None
    self_check: dict[str, Any] | None
    repeated_blocks: list[dict[str, Any]]
    residual_risk_bound_blocks: float | None
    live: dict[str, Any] | None
    models: list[dict[str, Any]]
    versions: dict[str, Any]
    configuration: dict[str, Any]
    schedule_sha256: str | None = field(default=None)

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values; what is not finite is null."""
        made: dict[str, Any] = _json_able(asdict(self))
        return made


def read_report(path: Path) -> tuple[ReportFacts, ReportArrays]:
    """All that can be said of an acquisition, whatever state it is in. Raises NotARunError."""
    run = opened_run(path)
    run.must_hold("hadamard")
    damage: list[str] = []
    missing: list[str] = []
    found = ReadAgain.of(run, damage)
    damage.extend(_lost(run))
    image, uncertainty, which = _image(run, found, damage, missing)
    facts, config = run.facts, run.facts["config"]
    state = run.state
    if state is not RunState.FINISHED:
        missing.append(
            "what a run finds at its end (its image, self-check, warnings) is not there: it did not come to it"
        )
    live = tried("the record of live images", lambda: run.live_record, damage)
    quality = _quality(run, found, image, damage)
    warnings = [str(each) for each in _list(facts.get("warnings"))]
    self_check = _mapping(facts.get("self_check"))
    return ReportFacts(
        report_schema=REPORT_SCHEMA,
        written=datetime.now(UTC).isoformat(timespec="seconds"),
        written_by=f"hadascope {version('hadascope')}",
        run=_head(run, state),
        verdict=_verdict(state, facts, warnings, quality, self_check, damage, missing),
        warnings=warnings,
        damage=damage,
        missing=missing,
        image=_image_facts(config, image, uncertainty, which),
        quality=quality,
        sensing=_sensing(config),
        taken=_taken(run, found, damage),
        dose=_dose(run, config, damage),
        light=_light(found.light),
        devices=_mapping(facts.get("devices")) or {},
        accepted_timing=_mapping(facts.get("accepted_timing")),
        readout=_mapping(facts.get("readout")),
        noise={
            "gain": config["noise"].get("gain"),
            "variance": config["noise"].get("variance"),
            "dark_level": facts.get("dark_level"),
            "lit_dark_level": facts.get("lit_dark_level"),
        },
        noise_calibration=_mapping(facts.get("noise_calibration")),
        registration=_mapping(facts.get("registration")),
        self_check=self_check,
        repeated_blocks=tried("events.jsonl", lambda: _failed_blocks(run.path), damage) or [],
        residual_risk_bound_blocks=facts.get("residual_risk_bound"),
        live=_live(live),
        models=_models(facts),
        versions=facts["versions"],
        configuration=config,
        schedule_sha256=facts.get("schedule"),
    ), ReportArrays(image, uncertainty, found.pairs, found.light, live)


def said_of_damage(damage: list[str], what: str) -> str:
    """How much of a run, or a series, is damaged, in a sentence."""
    parts = "one part" if len(damage) == 1 else f"{len(damage)} parts"
    return f"Damaged: {parts} of this {what} cannot be read."


def _lost(run: StoredRun) -> Iterator[str]:
    """What must be there and is not, though nothing of it is unreadable: zarr takes lost files for empty."""
    with suppress(*UNREADABLE):  # told of where it is read
        if (scheduled := int(run.repeats.sum(dtype=np.int64))) < run.n_pairs:
            yield f"the schedule's repeats are lost: they add up to {scheduled:,} pairs, and {run.n_pairs:,} were taken"
    if run.marked_state is not RunState.FINISHED:
        return
    if lost := run.n_blocks - len(run.committed):
        yield f"the commit records of {lost} of {run.n_blocks} blocks are lost: a finished run has them all"
    with suppress(*UNREADABLE):
        if not run.has_image("image"):
            yield "images/image is lost: a finished run has one"


def _image(
    run: StoredRun, found: ReadAgain, damage: list[str], missing: list[str]
) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None, str]:
    """The image to show, its uncertainty, and which one it is, in words."""
    for name, uncertainty, which in (
        ("image", "uncertainty", "as acquired"),
        ("reconstructed", "reconstructed_uncertainty", "made again from the raw readings"),
    ):
        image = readable_image(run, name, damage)
        if image is None:
            continue
        peak = run.facts.get("image_peak")
        if name == "image" and isinstance(peak, float) and not math.isclose(float(image.max()), peak, rel_tol=1e-6):
            damage.append(
                f"images/image has a maximum of {image.max():.6g}, and the run recorded {peak:.6g}: it is not the "
                "image this run made"
            )
            continue
        spread = readable_image(run, uncertainty, damage)
        if spread is None:
            missing.append("no uncertainty: only the method network gives one for every pixel")
        return image, spread, which
    if found.reconstruction is not None:
        missing.append(
            f"the run holds no image: what is shown is the linear one of the readings so far; hadascope reconstruct "
            f"{run.path} makes the run's own"
        )
        return found.reconstruction.image, None, "linear, of the readings so far, made for this report"
    if found.pairs is not None and found.pairs.any():
        missing.append(f"there is no image; hadascope reconstruct {run.path} makes one from the readings")
    else:
        missing.append("there is no image, and no readings to make one from")
    return None, None, ""


def _head(run: StoredRun, state: RunState) -> dict[str, Any]:
    facts = run.facts
    sample = _mapping(facts["config"].get("sample")) or {}
    return {
        "name": run.path.resolve().name,
        "path": str(run.path.absolute()),
        "state": str(state),
        "cause": facts.get("cause"),
        "simulated": bool(facts["simulated"]),
        "started": facts["started"],
        "ended": facts.get("ended"),
        "resumed": _list(facts.get("resumed")),
        "sample_name": sample.get("name"),
        "sample_notes": sample.get("notes"),
        "event_of_series": _mapping(facts.get("event")),
    }


def _verdict(
    state: RunState,
    facts: dict[str, Any],
    warnings: list[str],
    quality: dict[str, Any],
    self_check: dict[str, Any] | None,
    damage: list[str],
    missing: list[str],
) -> list[str]:
    """The run in a few sentences, the worst first."""
    said = []
    if damage:
        said.append(said_of_damage(damage, "run"))
    cause = str(facts.get("cause") or "").partition("\n")[0]
    said.append(f"{_CAME_TO[state]}: {cause}" if cause else f"{_CAME_TO[state]}.")
    if self_check is not None:
        said.append(f"Self-check: {self_check.get('verdict', 'without a verdict')}.")
    elif state is RunState.FINISHED:
        said.append("Self-check: none, the simulated bench drew no noise.")
    known = [
        f"{what} {error['psnr_db']:.1f} dB"
        for what, error in (
            ("forecast (linear image)", quality["forecast"]),
            ("split halves", quality["split_half"]),
            ("predicted by the network", quality["predicted"]),
        )
        if error is not None and error["psnr_db"] is not None
    ]
    if known:
        said.append(f"PSNR: {', '.join(known)}.")
    said.append(f"{len(warnings)} warnings." if len(warnings) > 1 else "One warning." if warnings else "No warnings.")
    said.extend(f"{each[0].upper()}{each[1:]}." for each in missing)
    return said


def _image_facts(
    config: dict[str, Any],
    image: NDArray[np.float64] | None,
    uncertainty: NDArray[np.float64] | None,
    which: str,
) -> dict[str, Any] | None:
    if image is None:
        return None
    px_um = _px_um(config)
    return {
        "which": which,
        "method": (_mapping(config.get("reconstruction")) or {}).get("method"),
        "side_px": len(image),
        "px_um": px_um,
        "field_um": None if px_um is None else px_um * len(image),
        "peak": float(image.max()),
        "total": float(image.sum()),
        "median_uncertainty_90": None if uncertainty is None else float(np.median(uncertainty)),
    }


def _px_um(config: dict[str, Any]) -> float | None:
    """Side of an image pixel on the sample, µm, as AcquisitionConfig.px_um has it."""
    region = _mapping(config.get("dmd_region")) or {}
    um_per_mirror, mirrors = region.get("um_per_mirror"), region.get("mirrors_per_px")
    return um_per_mirror * mirrors if isinstance(um_per_mirror, float) and isinstance(mirrors, int) else None


def _quality(run: StoredRun, found: ReadAgain, image: NDArray[np.float64] | None, damage: list[str]) -> dict[str, Any]:
    """Root mean square errors in detector units per pixel, and PSNRs against the image's maximum."""
    facts, split = found.quality, _mapping(found.quality.get("split_half"))
    peak = facts.get("image_peak") or (None if image is None else float(image.max()))

    def error(mse: Any) -> dict[str, float | None]:
        known = isinstance(mse, float | int) and mse >= 0
        psnr = psnr_of(mse, peak) if known and mse > 0 and peak else None
        return {"rms_per_px": mse**0.5 if known else None, "psnr_db": psnr}

    sample = readable_image(run, "sample", damage)
    linear = readable_image(run, "wiener", damage) if sample is not None else None
    mean_square = {
        name: None
        if sample is None or made is None or made.shape != sample.shape
        else float(((made - sample) ** 2).mean())
        for name, made in (("linear", linear), ("image", image))
    }
    return {
        "data_range": peak,
        "forecast": error(facts.get("forecast_mse")),
        "predicted": error(facts.get("predicted_mse")),
        "split_half": None if split is None else {**error(split.get("mse")), **split},
        "linear_against_sample": error(mean_square["linear"]),
        "image_against_sample": error(mean_square["image"]),
    }


def _sensing(config: dict[str, Any]) -> dict[str, Any]:
    sensing, made = config["sensing"], _mapping(config.get("reconstruction")) or {}
    mask = _mapping(sensing.get("mask")) or {}
    return {
        **{key: sensing.get(key) for key in ("side", "alpha", "repeats", "draw", "seed")},
        "mask": mask.get("kind"),
        "estimator": made.get("estimator"),
        "method": made.get("method"),
    }


def _taken(run: StoredRun, found: ReadAgain, damage: list[str]) -> dict[str, Any]:
    scheduled = tried("the schedule's repeats", lambda: int(run.repeats.sum(dtype=np.int64)), [])
    return {
        "blocks": len(run.committed),
        "blocks_scheduled": run.n_blocks,
        "blocks_unreadable": sum(each.startswith("block ") for each in damage),
        "pairs": run.n_pairs,
        "pairs_scheduled": scheduled,
        "coefficients": None if found.pairs is None else int(np.count_nonzero(found.pairs)),
        "exposures": run.n_exposures,
        "saturated_exposures": run.n_saturated,
    }


def _dose(run: StoredRun, config: dict[str, Any], damage: list[str]) -> dict[str, Any]:
    timing = _mapping(run.facts.get("accepted_timing")) or config["timing"]
    light = _mapping(config["devices"].get("light_source")) or {}
    return {
        "lit_exposures": max(run.lit_exposures, int(run.facts.get("lit_exposures") or 0)),
        "illumination_time_us": timing.get("illumination_time_us"),
        "power_mw": light.get("power_mw"),
        "dose_mj": tried("the dose", lambda: run.dose_mj, damage),
        "limit_mj": (_mapping(config.get("sample")) or {}).get("dose_limit_mj"),
    }


def _light(curve: LightCurve | None) -> dict[str, Any] | None:
    if curve is None:
        return None
    return {
        "duration_s": float(curve.time_s[-1] - curve.time_s[0]),
        "under_light_s": float(curve.light_s[-1] - curve.light_s[0]),
        "initial_total": curve.initial_total,
        "decay_per_light_s": curve.decay_per_light_s,
        "decay_error_per_light_s": curve.decay_error_per_light_s,
        "change": curve.change,
        "change_error": curve.change_error,
        "time_s": curve.time_s.tolist(),
        "light_s": curve.light_s.tolist(),
        "total": curve.total.tolist(),
        "pairs": curve.pairs.tolist(),
    }


def _live(record: NDArray[np.float64] | None) -> dict[str, Any] | None:
    if record is None or not len(record):
        return None
    return {
        "images": len(record),
        "mean_age_s": float(record[:, 2].mean()),
        "oldest_age_s": float(record[:, 2].max()),
    }


def _failed_blocks(path: Path) -> list[dict[str, Any]]:
    """Blocks that were played again, and those that were given up, with why."""
    return [
        {"time": event.time, "kind": str(event.kind), "text": event.text, **event.facts}
        for event in read_events(path)
        if event.kind in _ERRORS
    ]


def _models(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """The trained models of the mask and of the image: names, hashes, and what their cards say of their making."""
    said = []
    for use, model in (_mapping(facts.get("models")) or {}).items():
        if recorded := _mapping(model):
            card = _mapping(recorded.get("card")) or {}
            known = {key: card.get(key) for key in ("kind", "n", "alpha", "created", "command")}
            said.append({"use": use, "model": recorded.get("model"), "sha256": recorded.get("sha256"), **known})
    return said


def _mapping(value: Any) -> dict[str, Any] | None:
    return value if isinstance(value, dict) else None


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else []


def _json_able(value: Any) -> Any:
    """Numbers that JSON does not have become null."""
    if isinstance(value, dict):
        return {str(key): _json_able(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_json_able(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
