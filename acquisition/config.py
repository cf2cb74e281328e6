"""The acquisition file: everything a scientist decides, as frozen pydantic models with units."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import useq
from pydantic import (
    ConfigDict,
    Field,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from acquisition.bucket_region import bucket_region, bucket_region_problems
from acquisition.device_sections import Devices
from acquisition.focus_at_rest import focus_at_rest_um
from acquisition.mda_problems import parsed_mda
from acquisition.problems import InconsistentFileError, Problem
from acquisition.section import Section, quantity
from acquisition.timing_contract import timing_problems
from calibration.calibration_file import CalibrationFileError
from calibration.noise_file import read_noise_calibration
from devices.dmd_types import DMD_TYPES, DmdType
from models.draws import Draw
from models.learning.shipped_models import lasting_name

SMALLEST_GENERATED_SIDE = 8
# Detector units². Rounding to whole units then adds its 1/12 to within a hundredth of this.
SMALLEST_PX_VARIANCE = 0.25
_REAL_LIGHTS = ("micro-manager-shutter", "obis", "sc10")


class Sample(Section):
    """What lies on the stage."""

    name: str = quantity("Name of the sample, kept with the run", "text", "unnamed sample")
    notes: str = quantity("Anything worth keeping with the run: stain, medium, passage", "text", "")
    image: Path | None = quantity(
        "TIFF or PNG put on the simulated stage (relative paths: from the working folder); none: a generated sample. "
        "Real stages ignore it",
        "path",
        None,
    )
    expected_total: float | None = quantity(
        "Expected total light T of the sample in one exposure with all mirrors on, for the plan's forecast "
        "(simulated stages know it)",
        "detector units",
        None,
        gt=0,
    )
    expected_peak: float | None = quantity(
        "Expected light of the brightest pixel in one exposure, the data range of the plan's forecast PSNR "
        "(simulated stages know it)",
        "detector units",
        None,
        gt=0,
    )

    dose_limit_mj: float | None = quantity(
        "Most light the sample may get: exposures × illumination time × power_mw. A plan beyond it is refused, a run "
        "stops before it",
        "mJ",
        None,
        gt=0,
    )
    expected_background: float = quantity(
        "Expected light per exposure that does not depend on the mirrors, B (simulated stages know it)",
        "detector units",
        0.0,
        ge=0,
    )


class UniformMask(Section):
    """Every coefficient with probability α."""

    kind: Literal["uniform"] = quantity("Kind of mask", "text")


class LowSequencyMask(Section):
    """The αN coefficients of lowest 2-D sequency, all repeats each."""

    kind: Literal["low-sequency"] = quantity("Kind of mask", "text")


class HalfHalfMask(Section):
    """Half of the budget on the lowest 2-D sequencies, half at random among the others."""

    kind: Literal["half-half"] = quantity("Kind of mask", "text")


class RandomMask(Section):
    """αN coefficients at random, all repeats each."""

    kind: Literal["random"] = quantity("Kind of mask", "text")


class LearnedMask(Section):
    """Probabilities P*, of a trained model or from a file: exactly one of the two."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["file"]}, {"required": ["model"]}]})

    kind: Literal["learned"] = quantity("Kind of mask", "text")
    model: str | None = quantity(
        "Trained model whose P* is played, as learned for this n and α: the name of a shipped one, or the path of its "
        ".json (relative paths: from the working folder)",
        "text",
        None,
        min_length=1,
    )
    file: Path | None = quantity(
        "NumPy file (.npy) of n² probabilities in natural (Sylvester) order, mean α (relative paths: from the working "
        "folder)",
        "path",
        None,
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.model is None and self.file is None:
            allowed = "a NumPy file (.npy) of n² probabilities in natural order, or sensing.mask.model in its place"
            raise InconsistentFileError([Problem("sensing.mask.file", "nothing", allowed)])
        if self.model is not None and self.file is not None:
            found = Problem("sensing.mask.model", f"'{self.model}' beside the file {self.file}", "one of them")
            raise InconsistentFileError([found])
        return self


class WaterFillingMask(Section):
    """The best allocation for a linear reconstruction under the prior, DESIGN §5.5 in closed form."""

    kind: Literal["water-filling"] = quantity("Kind of mask", "text")


Mask = Annotated[
    UniformMask | LowSequencyMask | HalfHalfMask | RandomMask | LearnedMask | WaterFillingMask,
    Field(discriminator="kind"),
]


class Sensing(Section):
    """Which coefficients are measured, and how often."""

    side: int = quantity("Image side n; a power of two. N = n² coefficients", "px", ge=2, le=1024)
    alpha: float = quantity("Compression ratio α: αNS pairs are measured in all", "1", gt=0, le=1)
    repeats: int = quantity("S: the largest number of pairs of one coefficient", "pairs", ge=1, le=10_000)
    mask: Mask = quantity("Mask of probabilities P with mean α", "1", UniformMask(kind="uniform"))
    draw: Draw = quantity(
        "How M is drawn from P: Binomial(S, P) with a random total, or S·P rounded with an exact total",
        "text",
        "systematic",
    )
    seed: int = quantity("Seed of mask, draw and order of the pairs", "1", 0, ge=0, lt=2**63)

    @field_validator("side")
    @classmethod
    def _power_of_two(cls, side: int) -> int:
        if side & (side - 1):
            raise ValueError("allowed: a power of two, 2 to 1024")
        return side


class Timing(Section):
    """How long pictures last."""

    picture_time_us: int = quantity("Time from one picture's start to the next one's", "µs", gt=0, le=10_000_000)
    illumination_time_us: int = quantity(
        "Time a picture is displayed, at most the picture time", "µs", gt=0, le=10_000_000
    )
    sync_delay_us: int = quantity(
        "Time from the DMD's synchronisation pulse, which triggers the camera, to the display of the picture",
        "µs",
        0,
        ge=0,
        le=130_000,
    )
    sync_pulse_us: int = quantity("Width of the synchronisation pulse; 0: the device's default", "µs", 0, ge=0)

    @field_validator("illumination_time_us")
    @classmethod
    def _within_the_picture(cls, illumination_time_us: int, info: ValidationInfo) -> int:
        picture_time_us = info.data.get("picture_time_us")
        if picture_time_us is not None and illumination_time_us > picture_time_us:
            raise ValueError(f"allowed: at most the picture time, {picture_time_us} µs")
        return illumination_time_us


class DmdRegion(Section):
    """Where the n × n pixels lie on the mirrors, and how the sample's image is turned there."""

    top: int = quantity("First mirror row of the region", "mirrors", 0, ge=0)
    left: int = quantity("First mirror column of the region", "mirrors", 0, ge=0)
    mirrors_per_px: int = quantity("Mirrors along one side of a pixel", "mirrors", ge=1)
    um_per_mirror: float | None = quantity(
        "Side of a mirror as it lies on the sample: its pitch divided by the magnification between them, for scale "
        "bars and the pixel sizes in files; none: unknown",
        "µm",
        None,
        gt=0,
    )
    flip_vertical: bool = quantity("Rows reversed, before the rotation", "yes/no", False)
    flip_horizontal: bool = quantity("Columns reversed, before the rotation", "yes/no", False)
    rotation_deg: Literal[0, 90, 180, 270] = quantity("Counter-clockwise rotation, after the flips", "degrees", 0)


class Blocks(Section):
    """How the run is cut into stretches that stand or fall together."""

    longest_block_s: float = quantity("Longest block: what a crash costs at most", "s", 1.0, gt=0, le=60)
    guard_interval: int | None = quantity(
        "A guard stands at least every so many pairs; none: an eighth of a block, but 64 to 256", "pairs", None, ge=1
    )
    guard_codes: int | None = quantity(
        "How often a guard shows its code, more for dim samples; none: as often as the expected light needs",
        "1",
        None,
        ge=1,
        le=16,
    )
    first_bank_pictures: int | None = quantity(
        "Pictures of the first bank; none: planned, as all others are, so that loading hides behind the light",
        "pictures",
        None,
        ge=12,
    )
    most_repeats: int = quantity(
        "How often a block that failed is played again before the run stops", "1", 3, ge=0, le=100
    )
    timeout_margin_s: float = quantity(
        "How much longer than half as long again a block may take before it counts as failed", "s", 2.0, gt=0, le=600
    )
    dark_exposures: int = quantity(
        "Exposures with the light off, for the detector's own dark level", "exposures", 64, ge=1
    )


class Noise(Section):
    """The detector's noise model: y = a·Poisson(light/a) + N(0, b), stated or from a calibration."""

    model_config = ConfigDict(
        json_schema_extra={"required": [], "anyOf": [{"required": ["gain", "variance"]}, {"required": ["calibration"]}]}
    )

    gain: float = quantity(
        "a: detector units per photo-electron; with a calibration: what it says", "detector units", gt=0
    )
    variance: float = quantity(
        "b: signal-independent variance of one exposure; with a calibration: what it says", "detector units²", ge=0
    )
    calibration: Path | None = quantity(
        "JSON file that `hadascope calibrate noise` wrote for this camera, instead of gain and variance (relative "
        "paths: from the working folder)",
        "path",
        None,
    )

    @model_validator(mode="before")
    @classmethod
    def _calibrated(cls, stated: Any) -> Any:
        if not isinstance(stated, dict) or stated.get("calibration") is None:
            return stated
        path = stated["calibration"]
        if not isinstance(path, str | Path) or "\0" in str(path):
            raise InconsistentFileError([Problem("noise.calibration", repr(path), "the path of a JSON file")])
        try:
            calibration = read_noise_calibration(Path(path))
        except CalibrationFileError as error:
            found = Problem("noise.calibration", str(error), "a usable calibration of this camera's noise")
            raise InconsistentFileError([found]) from error
        measured = {"gain": calibration.noise.gain, "variance": calibration.noise.variance}
        for name, value in measured.items():
            if name in stated and stated[name] != value:
                found = Problem(
                    f"noise.{name}", f"{stated[name]} beside a calibration that says {value:g}", "one of them"
                )
                raise InconsistentFileError([found])
        return {**stated, **measured}


class Bench(Section):
    """The simulated optical bench; needed by simulated devices only."""

    photoelectrons_per_px: float = quantity(
        "Mean photo-electrons per pixel in one exposure with all mirrors on", "photo-electrons", 50.0, gt=0
    )
    background_photoelectrons: float = quantity(
        "Light that does not depend on the mirrors, B/a, in one exposure", "photo-electrons", 0.0, ge=0
    )
    bleaching_per_s: float = quantity("Rate at which the sample bleaches under light", "1/s", 0.0, ge=0)
    gain: float | None = quantity(
        "True gain a of the simulated detector; none: the noise model's", "detector units", None, gt=0
    )
    variance: float | None = quantity("True variance b; none: the noise model's", "detector units²", None, ge=0)
    saturation: int | None = quantity(
        "Pixel value at which the simulated sensor saturates; none: what its bytes hold", "detector units", None, ge=1
    )
    source_noise: float = quantity(
        "Relative standard deviation of the light from exposure to exposure", "1", 0.0, ge=0, le=1
    )
    lamp_drift: float = quantity("Relative amplitude of a sine in the lamp's light", "1", 0.0, ge=0, le=1)
    lamp_drift_period_s: float = quantity(
        "Period of that sine: seconds to hours for drift, 0.01 for ripple from the mains", "s", 60.0, gt=0
    )
    lamp_fading_per_s: float = quantity("Rate at which the lamp's light declines with time", "1/s", 0.0, ge=0)
    dmd_contrast: float | None = quantity(
        "Light of a mirror that is on over that of one that is off; none: an off mirror sends nothing", "1", None, gt=1
    )
    focus_um: float | None = quantity(
        "Position of the simulated focus device at which the sample is sharp, and where it stands when it is "
        "connected; none: in the middle of the planes that mda states for its first position, 0 µm where it states "
        "none",
        "µm",
        None,
    )
    blur_px_per_um: float = quantity(
        "How fast the sample blurs away from there: standard deviation in image pixels per µm", "px/µm", 0.5, ge=0
    )
    shot_noise: bool = quantity("Draw source noise, shot noise and read noise", "yes/no", True)
    seed: int = quantity("Seed of the bench's noise", "1", 0, ge=0, lt=2**63)
    pace: float = quantity(
        "Wall time per simulated time: 1 is real time, 0 is as fast as the computer can", "1", 0.0, ge=0
    )


class PowerLawPrior(Section):
    """Prior variances from a power law in 2-D sequency, fitted to the run's own coefficients as they come."""

    kind: Literal["power-law"] = quantity("Kind of prior", "text")


class ImagePrior(Section):
    """Prior means and variances from a set of images."""

    kind: Literal["images"] = quantity("Kind of prior", "text")
    file: Path = quantity(
        "NumPy file (.npy) of images [K, n, n], each brought to the sample's total light (relative paths: from "
        "the working folder)",
        "path",
    )


Prior = Annotated[PowerLawPrior | ImagePrior, Field(discriminator="kind")]


class Reconstruction(Section):
    """How the coefficients become an image."""

    estimator: Literal["difference", "pair-ratio"] = quantity(
        "difference: the mean of y+ - y-; pair-ratio: corrected for bleaching and lamp drift by y+ + y-",
        "text",
        "pair-ratio",
    )
    method: Literal["wiener-tv", "weighted-tv", "network"] = quantity(
        "wiener-tv: Wiener, then total variation; weighted-tv: least squares weighted by M, and total variation, not "
        "negative; network: a trained model's, with an uncertainty for every pixel",
        "text",
        "wiener-tv",
    )
    model: str | None = quantity(
        "Trained model of the method network: the name of a shipped one, or the path of its .json (relative paths: "
        "from the working folder); none: the mask's, or else the shipped one for this n",
        "text",
        None,
        min_length=1,
    )
    prior: Prior | None = quantity(
        "Prior of the Wiener image and of the plan; none: that of the mask's trained model, or else the network's, or "
        "else a power law",
        "1",
        None,
    )
    tv_weight: float = quantity(
        "Strength of total-variation denoising after Wiener, in standard deviations of the noise; 0: none",
        "1",
        0.6,
        ge=0,
    )
    refresh_s: float = quantity("Shortest time between two live images", "s", 0.1, ge=0)


def picture_beside(run: Path, ending: str) -> Path:
    """A picture's path beside a run, with the run's name."""
    return run.with_name(run.name.removesuffix(".zarr") + ending)


class Output(Section):
    """What the run leaves behind."""

    run: Path = quantity("Folder of the run (zarr v3)", "path", Path("run.zarr"))
    picture: Path | None = quantity("PNG of the result; none: beside the run, with its name", "path", None)
    snapshots: int = quantity(
        "Images on the way that are kept with the run, evenly spaced over its blocks; 0: none",
        "images",
        8,
        ge=0,
        le=100,
    )

    @property
    def picture_path(self) -> Path:
        """Where the PNG goes."""
        return picture_beside(self.run, ".png") if self.picture is None else self.picture


class AcquisitionConfig(Section):
    """A whole acquisition, from the sample to the files it leaves."""

    sample: Sample = quantity("What lies on the stage", "section", Sample())
    sensing: Sensing = quantity("Which coefficients, how often", "section")
    timing: Timing = quantity("How long pictures last", "section")
    dmd_region: DmdRegion = quantity("Where the pixels lie on the mirrors", "section")
    blocks: Blocks = quantity("How the run is cut", "section", Blocks())
    devices: Devices = quantity("Projector, detector, light source", "section")
    noise: Noise = quantity("The detector's noise model", "section")
    bench: Bench = quantity("The simulated optical bench", "section", Bench())
    reconstruction: Reconstruction = quantity("From coefficients to an image", "section", Reconstruction())
    output: Output = quantity("What the run leaves behind", "section", Output())
    mda: useq.MDASequence | None = quantity(
        "A series of images, as useq describes them: time_plan, channels, z_plan, stage_positions, axis_order; every "
        "event of it is one image; none: one image where the stage stands",
        "section",
        None,
    )

    @property
    def dmd_type(self) -> DmdType:
        """The mirror chip the file names."""
        return DMD_TYPES[self.devices.projector.dmd]

    @property
    def memory_pictures(self) -> int:
        """Pictures the DMD's memory is planned to hold."""
        stated = self.devices.projector.memory_pictures
        return self.dmd_type.memory_pictures if stated is None else stated

    @property
    def expected_background(self) -> float:
        """B per exposure that is to be expected, detector units."""
        if not self.simulated:
            return self.sample.expected_background
        return self.bench.background_photoelectrons * self.bench_gain

    @property
    def bench_gain(self) -> float:
        """True gain a of the simulated detector."""
        return self.noise.gain if self.bench.gain is None else self.bench.gain

    @property
    def px_um(self) -> float | None:
        """Side of an image pixel on the sample, µm; None where the file does not say how large a mirror is there."""
        um_per_mirror = self.dmd_region.um_per_mirror
        return None if um_per_mirror is None else um_per_mirror * self.dmd_region.mirrors_per_px

    @property
    def simulated(self) -> bool:
        """True where a stand-in takes part; every file the run writes says so."""
        return self.devices.projector.kind == "simulated"

    @field_validator("mda", mode="wrap")
    @classmethod
    def _possible_here(cls, stated: Any, parse: ValidatorFunctionWrapHandler) -> useq.MDASequence | None:
        return parsed_mda(stated, parse)

    @model_validator(mode="after")
    def _focused(self) -> Self:
        """Fill in where the focus is: every image of a series has to know, and knows nothing of the others."""
        if self.bench.focus_um is None:
            focus_um = 0.0 if self.mda is None else focus_at_rest_um(self.mda)
            object.__setattr__(self, "bench", self.bench.model_copy(update={"focus_um": focus_um}))
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems = [
            *_region_problems(self),
            *_timing_problems(self),
            *_device_problems(self),
            *bucket_region_problems(self),
            *_dose_problems(self),
            *_sample_problems(self),
            *_bench_problems(self),
            *_view_problems(self),
            *_model_problems(self),
            *_output_problems(self),
        ]
        if problems:
            raise InconsistentFileError(problems)
        return self

    def replace(self, **sections: Any) -> Self:
        """A copy with other sections, all of it validated again. Raises pydantic.ValidationError."""
        return type(self).model_validate({**dict(self), **sections})


def on_record(config: AcquisitionConfig) -> dict[str, Any]:
    """The configuration as JSON-able facts, its paths absolute, so that it holds from any folder.

    Of a calibrated noise model a and b are kept, and of a registration the region it gives, and not the files' paths:
    what is on record does not change with them.
    """
    facts = {name: _absolute(value) for name, value in config.model_dump(exclude={"mda"}).items()}
    facts["mda"] = None if config.mda is None else config.mda.model_dump(mode="json")
    facts["noise"]["calibration"] = None
    for section in (facts["sensing"]["mask"], facts["reconstruction"]):
        if section.get("model") is not None:
            section["model"] = lasting_name(section["model"])
    region = bucket_region(config)
    facts["devices"]["detector"]["region"] = None if region is None else region.model_dump()
    facts["devices"]["detector"]["registration"] = None
    return facts


def _absolute(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _absolute(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_absolute(each) for each in value]
    return str(value.absolute()) if isinstance(value, Path) else value


def _region_problems(config: AcquisitionConfig) -> list[Problem]:
    chip, region = config.dmd_type, config.dmd_region
    extent = config.sensing.side * region.mirrors_per_px
    found = f"{config.sensing.side} px × {region.mirrors_per_px} mirrors/px = {extent} mirrors"
    problems = []
    for key, first, available in (("top", region.top, chip.mirrors_height), ("left", region.left, chip.mirrors_width)):
        if extent > available:
            problems.append(
                Problem(
                    "dmd_region.mirrors_per_px",
                    found,
                    f"at most the {available} mirrors of {chip.name} in this direction",
                )
            )
        elif first + extent > available:
            problems.append(
                Problem(f"dmd_region.{key}", f"{first}, with {found}", f"0 to {available - extent} on {chip.name}")
            )
    return problems


def _timing_problems(config: AcquisitionConfig) -> list[Problem]:
    devices = config.devices
    problems = list(timing_problems(config.timing, devices.projector, devices.detector))
    shortest_us = config.dmd_type.min_picture_time_us
    if config.timing.picture_time_us < shortest_us:
        problems.append(
            Problem(
                "timing.picture_time_us",
                f"{config.timing.picture_time_us} µs",
                f"at least {shortest_us} µs, the shortest picture time of {config.dmd_type.name}",
            )
        )
    return problems


def _dose_problems(config: AcquisitionConfig) -> list[Problem]:
    if config.sample.dose_limit_mj is None or config.devices.light_source.power_mw is not None:
        return []
    return [Problem("devices.light_source.power_mw", "nothing beside sample.dose_limit_mj", "the power on the sample")]


def _sample_problems(config: AcquisitionConfig) -> list[Problem]:
    if not config.simulated or config.sample.image is not None or config.sensing.side >= SMALLEST_GENERATED_SIDE:
        return []
    allowed = f"{SMALLEST_GENERATED_SIDE} or more for the generated sample, or an image of your own in sample.image"
    return [Problem("sensing.side", str(config.sensing.side), allowed)]


def _bench_problems(config: AcquisitionConfig) -> list[Problem]:
    """A calibration tells of the pixels that are summed; the bench is told of all of them."""
    if not config.simulated or config.noise.calibration is None or config.devices.detector.region is None:
        return []
    return [
        Problem(f"bench.{name}", "nothing beside a calibration of a part of the frame", "the bench's own, of all of it")
        for name in ("gain", "variance")
        if getattr(config.bench, name) is None
    ]


def _view_problems(config: AcquisitionConfig) -> list[Problem]:
    """Pixels are rounded to whole units, which swallows scatter that is much smaller, and b with it."""
    detector, bench = config.devices.detector, config.bench
    if detector.kind != "simulated" or detector.view is None or not bench.shot_noise:
        return []
    name, variance = ("noise", config.noise.variance) if bench.variance is None else ("bench", bench.variance)
    n_px = detector.width_px * detector.height_px
    if variance / n_px >= SMALLEST_PX_VARIANCE:
        return []
    found = f"{variance:g} over {detector.width_px} × {detector.height_px} px, {variance / n_px:.2g} each"
    allowed = (
        f"at least {SMALLEST_PX_VARIANCE * n_px:g} with devices.detector.view, {SMALLEST_PX_VARIANCE:g} for each "
        "pixel, because smaller noise is lost where pixels are rounded to whole units (bench.variance sets it for the "
        "bench alone; or a smaller sensor, or bench.shot_noise: false)"
    )
    return [Problem(f"{name}.variance", found, allowed)]


def _model_problems(config: AcquisitionConfig) -> list[Problem]:
    asked = config.reconstruction
    if asked.model is None or asked.method == "network":
        return []
    found = f"'{asked.model}' beside the method {asked.method}, which takes none"
    return [Problem("reconstruction.model", found, "method: network, or no model")]


def _output_problems(config: AcquisitionConfig) -> list[Problem]:
    run, picture = config.output.run, config.output.picture
    problems = []
    if not run.name or run.suffix.lower() == ".png":
        problems.append(Problem("output.run", f"'{run}'", "a folder to make, such as run.zarr"))
    if picture is not None and picture.suffix.lower() != ".png":
        problems.append(Problem("output.picture", f"'{picture}'", "a file to write that ends in .png"))
    return problems


def _device_problems(config: AcquisitionConfig) -> list[Problem]:
    devices = config.devices
    real_or_simulated = {devices.projector.kind == "simulated", devices.detector.kind == "simulated"}
    problems = []
    if len(real_or_simulated) > 1:
        problems.append(
            Problem(
                "devices.detector.kind",
                f"{devices.detector.kind} beside a projector of kind {devices.projector.kind}",
                "both real or both simulated: they look at the same sample",
            )
        )
    elif devices.light_source.kind in (_REAL_LIGHTS if config.simulated else ("simulated",)):
        allowed = ("none", "simulated") if config.simulated else ("none", *_REAL_LIGHTS)
        problems.append(
            Problem(
                "devices.light_source.kind",
                devices.light_source.kind,
                f"one of {', '.join(allowed)} on a {'simulated' if config.simulated else 'real'} bench",
            )
        )
    if devices.detector.kind == "micro-manager" and devices.detector.config_file and not devices.detector.in_process:
        problems.append(
            Problem(
                "devices.detector.app_path",
                "nothing beside config_file",
                "the folder of Micro-Manager's device adapters; a running Micro-Manager has loaded its own file",
            )
        )
    return problems
