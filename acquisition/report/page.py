"""The page of a report: what its facts say, in words, tables and plots."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import yaml

from acquisition.report import plots
from acquisition.report.markup import (
    badge,
    box,
    bullets,
    figure,
    figures,
    figures_table,
    folded,
    page,
    paragraph,
    section,
    shown_time,
    table,
    title,
)
from acquisition.report.report_facts import ReportArrays, ReportFacts

_UNITS = "detector units"


def report_page(facts: ReportFacts, arrays: ReportArrays) -> str:
    """The whole report as one HTML page that needs nothing beside itself."""
    return page(f"{facts.run['name']}: Hadascope report", _parts(facts, arrays))


def _parts(facts: ReportFacts, arrays: ReportArrays) -> Iterator[str]:
    yield _head(facts)
    yield section("Damage", paragraph("What could not be read:"), bullets(facts.damage)) if facts.damage else ""
    yield section("Warnings", bullets(facts.warnings))
    yield section("Image", *_image(facts, arrays))
    yield section("How good it is", *_quality(facts))
    yield section("What was measured", *_measured(facts, arrays))
    yield section("Light and dose", *_light(facts, arrays))
    yield section("Self-check", *_self_check(facts))
    yield section("Noise and calibration", *_noise(facts))
    yield section("Integrity", *_integrity(facts))
    yield section("Devices", _devices(facts))
    yield section("Timing", _timing(facts))
    yield section("While the light was on", *_live(facts, arrays))
    yield section("Trained models", _models(facts))
    yield section("Registration", _registration(facts))
    yield section("Versions", paragraph(", ".join(f"{name} {each}" for name, each in facts.versions.items())))
    yield section("Configuration", folded("the whole acquisition file, as it was run", _as_yaml(facts.configuration)))
    yield paragraph(f"Written {shown_time(facts.written)} by {facts.written_by}.", "quiet")


def _head(facts: ReportFacts) -> str:
    run = facts.run
    when = f"started {shown_time(run['started'])}" + (f", ended {shown_time(run['ended'])}" if run["ended"] else "")
    if run["resumed"]:
        when += f", resumed {', '.join(map(shown_time, run['resumed']))}"
    event = run["event_of_series"]
    attention = bool(facts.damage or facts.warnings or facts.missing) or run["state"] != "finished"
    failed = (facts.self_check or {}).get("failed")
    return "\n".join(
        part
        for part in (
            title(run["name"]),
            badge("SIMULATED") if run["simulated"] else "",
            paragraph(f"Sample: {run['sample_name'] or 'not named'}"),
            paragraph(str(run["sample_notes"])) if run["sample_notes"] else "",
            paragraph(f"Event of a series: {_inline(event)}") if event else "",
            paragraph(when, "quiet"),
            box(map(paragraph, facts.verdict), attention=attention or bool(failed)),
        )
        if part
    )


def _image(facts: ReportFacts, arrays: ReportArrays) -> Iterator[str]:
    about = facts.image
    if about is None or arrays.image is None:
        return
    side, px_um = about["side_px"], about["px_um"]
    scale = (
        f"one pixel is {_number(px_um)} µm on the sample, the field {_number(about['field_um'])} µm"
        if px_um is not None
        else "the file does not say how large a mirror is on the sample (dmd_region.um_per_mirror): no scale bar"
    )
    shown = figure(
        plots.image_plot(arrays.image, px_um),
        f"The image ({about['which']}, {about['method']}): {side} × {side} px; {scale}.",
    )
    uncertain = ""
    if arrays.uncertainty is not None:
        uncertain = figure(
            plots.image_plot(arrays.uncertainty, px_um, color_map="cividis", label=f"± light per pixel ({_UNITS})"),
            "Uncertainty: the light of 90 % of pixels lies within ± this. Its median is "
            f"{_number(about['median_uncertainty_90'])} {_UNITS}.",
        )
    yield figures(shown, uncertain)


def _quality(facts: ReportFacts) -> Iterator[str]:
    found, split = facts.quality, facts.quality["split_half"]
    rows: list[tuple[str, str, str]] = []
    for what, error in (
        ("forecast under the prior, linear image", found["forecast"]),
        ("split halves, linear image", split),
        ("predicted by the network", found["predicted"]),
        ("linear image against the simulated sample", found["linear_against_sample"]),
        ("image against the simulated sample", found["image_against_sample"]),
    ):
        if error is not None and error["rms_per_px"] is not None:
            rows.append((what, f"{error['rms_per_px']:#.4g}", _decibel(error["psnr_db"])))
    yield table(("Error per pixel", f"root mean square ({_UNITS})", "PSNR (dB)"), rows, numbers_from=1)
    if rows:
        yield paragraph(
            f"The data range of every PSNR here is the image's maximum, {_number(found['data_range'])} {_UNITS}.",
            "quiet",
        )
    if split is not None:
        share = f" ({split['n_split']:,} of {split['n_taken']:,} taken coefficients have pairs in both)"
        yield paragraph(f"Split halves: {split['said']}{share if split['ratio'] is not None else ''}.")
        yield paragraph(
            "The pairs of every coefficient are dealt in turn into two halves, and each half is estimated alone: how "
            "far they lie apart is what the noise really did, whatever the noise model says. What shrinking costs, and "
            "what was never measured, does not show in it; that part is the forecast's, as the prior expects it.",
            "quiet",
        )


def _measured(facts: ReportFacts, arrays: ReportArrays) -> Iterator[str]:
    sensing, taken = facts.sensing, facts.taken
    side = sensing["side"]
    of_all = "" if taken["pairs_scheduled"] is None else f" of {taken['pairs_scheduled']:,}"
    coefficients = ""
    if taken["coefficients"] is not None and arrays.pairs is not None:
        coefficients = f", {taken['coefficients']:,} of {len(arrays.pairs):,} coefficients taken"
    yield figures_table(
        (
            ("image", f"{side} × {side} px{coefficients}"),
            ("sensing", f"α = {sensing['alpha']}, S = {sensing['repeats']}, {sensing['mask']} mask"),
            ("draw", f"{sensing['draw']}, seed {sensing['seed']}"),
            ("estimator", sensing["estimator"]),
            ("image by", sensing["method"]),
            ("blocks", f"{taken['blocks']:,} of {taken['blocks_scheduled']:,}"),
            ("pairs", f"{taken['pairs']:,}{of_all}"),
            ("exposures", f"{taken['exposures']:,}, guards included"),
            ("saturated exposures", f"{taken['saturated_exposures']:,}"),
        )
    )
    if arrays.pairs is not None and arrays.pairs.any():
        yield figures(
            figure(
                plots.coefficient_plot(arrays.pairs),
                "Pairs of every coefficient, in 2-D sequency order: coarse structure at the upper left.",
            )
        )


def _light(facts: ReportFacts, arrays: ReportArrays) -> Iterator[str]:
    dose, light = facts.dose, facts.light
    limit = "" if dose["limit_mj"] is None else f" of at most {_number(dose['limit_mj'])} mJ"
    change = None
    if light is not None and light["change"] is not None:
        lost = _with_error(100 * light["decay_per_light_s"], 100 * light["decay_error_per_light_s"])
        change = (
            f"{_with_error(100 * light['change'], 100 * light['change_error'])} % over {light['under_light_s']:.3g} s "
            f"under light ({lost} % lost per second of it)"
        )
    yield figures_table(
        (
            ("exposures under light", f"{dose['lit_exposures']:,}, repeated blocks included"),
            ("illumination time", f"{dose['illumination_time_us']} µs each"),
            ("power", "unknown" if dose["power_mw"] is None else f"{_number(dose['power_mw'])} mW"),
            ("dose", "unknown" if dose["dose_mj"] is None else f"{_number(dose['dose_mj'])} mJ{limit}"),
            (
                "total light at the start",
                None if not light or light["initial_total"] is None else f"{_number(light['initial_total'])} {_UNITS}",
            ),
            ("change of the light", change),
        )
    )
    if arrays.light is not None:
        yield figures(
            figure(
                plots.light_plot(arrays.light),
                "The total light of the sample, from the sums of the pairs, less the dark level under light. The "
                "exponential is one of the time under light; pauses do not bleach.",
            )
        )


def _self_check(facts: ReportFacts) -> Iterator[str]:
    check = facts.self_check
    if check is None:
        return
    yield figures_table(
        (
            ("verdict", check.get("verdict")),
            ("it would notice", check.get("power")),
            ("the run's own noise", check.get("own_estimate")),
            ("first minus second", check.get("spike")),
        )
    )
    tests = [each for each in check.get("tests") or [] if isinstance(each, dict)]
    yield table(
        ("Test", "degrees of freedom", "scatter / expected", "z", "alarm beyond"),
        [
            (test.get("what"), *(_number(test.get(key)) for key in ("degrees", "ratio", "z", "threshold")))
            for test in tests
        ],
        numbers_from=1,
    )
    yield bullets(check.get("not_made") or [])


def _noise(facts: ReportFacts) -> Iterator[str]:
    noise, made = facts.noise, facts.noise_calibration
    yield figures_table(
        (
            ("gain a", f"{_number(noise['gain'])} {_UNITS} per photo-electron"),
            ("variance b", f"{_number(noise['variance'])} {_UNITS}² per exposure"),
            ("dark level", _with_unit(noise["dark_level"])),
            ("dark level under light", _with_unit(noise["lit_dark_level"])),
        )
    )
    if made is None:
        yield paragraph("a and b are stated in the acquisition file; no calibration is on record.")
        return
    identity = made.get("identity") or {}
    yield figures_table(
        (
            ("calibrated", f"{shown_time(made.get('measured'))} on {identity.get('camera')}"),
            ("verdict", "usable" if made.get("usable") else "not usable"),
            ("gain a", _estimate(made.get("gain"))),
            ("variance b", _estimate(made.get("variance_estimate"))),
            ("source noise q", _estimate(made.get("source_noise"))),
            ("offset", _estimate(made.get("offset"))),
            ("linear up to", _with_unit(made.get("linear_up_to"))),
            ("exposures", made.get("exposures")),
            ("raw readings", made.get("raw")),
        )
    )
    yield bullets([*(made.get("reasons") or []), *(made.get("notes") or [])])


def _integrity(facts: ReportFacts) -> Iterator[str]:
    bound = facts.residual_risk_bound_blocks
    repeated = facts.repeated_blocks
    yield figures_table(
        (
            ("repeated blocks", f"{len(repeated)}" if repeated else "none"),
            (
                "residual risk",
                None
                if bound is None
                else "none: frame times tell lost and doubled triggers apart"
                if bound == 0
                else f"below {bound:.1g} blocks with shifted readings that nothing shows",
            ),
            ("schedule, SHA-256", facts.schedule_sha256),
        )
    )
    yield table(("When", "What", "Why"), [(shown_time(each["time"]), each["kind"], each["text"]) for each in repeated])


def _devices(facts: ReportFacts) -> str:
    rows = []
    for kind, device in facts.devices.items():
        said = device if isinstance(device, dict) else {"": device}
        rows.append((kind.replace("_", " "), said.get("name", ""), _inline({**said, "name": None})))
    return table(("Device", "name", "read back"), rows)


def _timing(facts: ReportFacts) -> str:
    readout = facts.readout or {}
    return figures_table(
        [
            *((key.removesuffix("_us").replace("_", " "), f"{each} µs") for key, each in _items(facts.accepted_timing)),
            (
                "camera readout",
                f"{readout['readout_us']} µs ({readout.get('source')})" if "readout_us" in readout else "",
            ),
        ]
    )


def _live(facts: ReportFacts, arrays: ReportArrays) -> Iterator[str]:
    if facts.live is None or arrays.live is None:
        return
    yield figures_table(
        (
            ("live images", f"{facts.live['images']:,}"),
            ("age of the newest reading", f"{1e3 * facts.live['mean_age_s']:.0f} ms on average"),
            ("oldest", f"{1e3 * facts.live['oldest_age_s']:.0f} ms"),
        )
    )
    yield figures(
        figure(plots.live_plot(arrays.live), "How old the live image was, and how good it was expected to be.")
    )


def _models(facts: ReportFacts) -> str:
    uses = {"sensing": "mask", "network": "image"}
    return table(
        ("Makes the", "model", "made", "SHA-256"),
        [(uses.get(each["use"], each["use"]), each["model"], each["created"], each["sha256"]) for each in facts.models],
    )


def _registration(facts: ReportFacts) -> str:
    made = facts.registration
    if made is None:
        return ""
    simple = {key: each for key, each in made.items() if not isinstance(each, dict | list)}
    return figures_table((key.replace("_", " "), each) for key, each in simple.items()) + bullets(
        made.get("notes") or []
    )


def _estimate(value: Any) -> str | None:
    """A number with its 95 % interval, as calibrations have it on record."""
    if not isinstance(value, dict) or value.get("value") is None:
        return None
    low, high = value.get("low"), value.get("high")
    ends = "" if low is None and high is None else f" (95 %: {_number(low)} to {_number(high)})"
    return f"{_number(value['value'])}{ends}"


def _as_yaml(configuration: dict[str, Any]) -> str:
    return yaml.safe_dump(configuration, sort_keys=False, allow_unicode=True)


def _items(mapping: dict[str, Any] | None) -> list[tuple[str, Any]]:
    return [] if mapping is None else list(mapping.items())


def _inline(mapping: dict[str, Any]) -> str:
    """A mapping in one line; what is empty is left out."""
    return ", ".join(
        f"{key.replace('_', ' ')} {_plain(value)}" for key, value in mapping.items() if value not in (None, "", [], {})
    )


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return f"({_inline(value)})"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_plain, value)) + "]"
    return str(value)


def _number(value: Any) -> str:
    """Four significant digits of a number, and anything else as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "—" if value is None else str(value)
    return f"{value:,.0f}" if abs(value) >= 1e4 and abs(value) < 1e9 else f"{value:.4g}"


def _with_error(value: float, error: float) -> str:
    """A number and its standard error, to two digits of the latter."""
    decimals = min(max(1 - math.floor(math.log10(error)), 0), 8) if error > 0 else 4
    return f"{value:.{decimals}f} ± {error:.{decimals}f}"


def _decibel(value: Any) -> str:
    return "—" if value is None else f"{value:.1f}"


def _with_unit(value: Any) -> str | None:
    return None if value is None else f"{_number(value)} {_UNITS}"
