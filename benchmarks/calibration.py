"""How close photon transfer comes to the Cramér-Rao bound, on the bench: 200 calibrations of each of eight detectors.

a in {0.01, 0.5, 2, 20} times b in {10, 10⁴}, full scale 65 535, 16 levels up to 0.8 of it, offset 100, drift of 1 %,
source noise of 0.1 %, about 1000 exposures of each level; a structured sample under the pictures' own bits, read by the
simulated sensor, which rounds (b + 1/12 is the truth) and knows no negative numbers. Then b = 0, and a detector that
saturates at 90 % of the light. Draws docs/calibration_bound.png.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from acquisition.noise_calibration import EXPOSURES_PER_LEVEL
from benchmarks.row import Row
from calibration.bootstrap import Interval
from calibration.cramer_rao import cramer_rao_bound
from calibration.drift import drift_degree, drift_design
from calibration.exposures import Exposures
from calibration.level_pictures import LevelPictures
from calibration.photon_transfer import PhotonTransfer, fit_photon_transfer, photon_transfer_recipe
from calibration.recipe import Recipe
from models.pictures import Region
from sim_devices.bench import BenchSettings, OpticalBench
from sim_devices.frames import Sensor

TRIALS = 200
LEVELS = 16
EXPOSURES = 1000
DARK = 500
FULL_SCALE = 65_535
OFFSET = 100.0
SOURCE_NOISE = 1e-3
PICTURE_TIME_US = 1000.0
GAINS = (0.01, 0.5, 2.0, 20.0)
VARIANCES = (10.0, 1e4)
FIGURE = Path(__file__).parent.parent / "docs" / "calibration_bound.png"

_GUARD = ((0, 1), (0, -1), (0, -1), (0, 1), (0, -1))


@dataclass(frozen=True)
class Accuracy:
    """Of a and b, each [2]: root-mean-square error and bound as shares of the truth, how often intervals hold it."""

    gain: float
    variance: float
    rms: NDArray[np.float64]
    bound: NDArray[np.float64]
    coverage: NDArray[np.float64]


def rows() -> list[Row]:
    """One row per detector, then b = 0, saturation, and how long it all takes."""
    corners = [(gain, variance) for gain in GAINS for variance in VARIANCES]
    study = [_accuracy(gain, variance, TRIALS * index) for index, (gain, variance) in enumerate(corners)]
    _draw(FIGURE, study)
    found = [
        Row(
            f"photon transfer, a = {each.gain:g}, b = {each.variance:g}: error of a; of b",
            f"{each.rms[0]:.2%}; {each.rms[1]:.2%} (intervals hold {each.coverage[0]:.1%}; {each.coverage[1]:.1%})",
            f"Cramér-Rao bound {each.bound[0]:.2%}; {each.bound[1]:.2%}",
            float(np.max(each.rms / each.bound)),
            "≤ 1.3; 90–99 %",
        )
        for each in study
    ]
    return [*found, _without_read_noise(), _saturation(), *_duration()]


def _accuracy(gain: float, variance: float, first_seed: int) -> Accuracy:
    truth = np.array([gain, variance + 1 / 12])
    estimates, held = np.empty((2, TRIALS, 2))
    stage = _Stage(0.8 * FULL_SCALE, EXPOSURES)
    for trial in range(TRIALS):
        result = stage.calibrate(gain, variance, seed=first_seed + trial)
        estimates[trial] = result.gain, result.variance_unclipped
        held[trial] = [
            _holds(interval, each)
            for interval, each in zip((result.gain_interval, result.variance_interval), truth, strict=True)
        ]
    bound = np.sqrt(np.diag(stage.bound(gain, variance + 1 / 12)))[:2]
    rms = np.sqrt(np.mean((estimates - truth) ** 2, axis=0))
    return Accuracy(gain, variance, rms / truth, bound / truth, held.mean(axis=0))


def _without_read_noise() -> Row:
    """Without read noise: how far b lies from the dark variance, in standard errors of that, rounding's at least."""
    stage = _Stage(0.8 * FULL_SCALE, EXPOSURES)
    worst, one_sided = 0.0, 0
    for trial in range(TRIALS):
        result = stage.calibrate(2.0, 0.0, seed=trial)
        assert result.dark_variance is not None
        error = max(result.dark_variance, 1 / 12) * (2 / result.dark_freedom) ** 0.5
        worst = max(worst, abs(result.variance - result.dark_variance) / error)
        one_sided += result.variance_interval.one_sided
    return Row(
        "photon transfer, b = 0: b less the dark variance",
        f"{worst:.2g} standard errors at most; {one_sided} of {TRIALS} intervals one-sided",
        "3 standard errors",
        worst / 3,
        "≤ 1",
    )


def _saturation() -> Row:
    """A sensor that saturates at 90 % of its range under levels that go to all of it."""
    stage = _Stage(FULL_SCALE - OFFSET, EXPOSURES, saturation=round(0.9 * FULL_SCALE))
    found, held, n = 0, 0, 0
    for gain in GAINS:
        for variance in VARIANCES:
            for trial in range(TRIALS // (len(GAINS) * len(VARIANCES))):
                result = stage.calibrate(gain, variance, seed=trial)
                n += 1
                found += all(
                    level.used == (level.share < 0.89) for level in result.levels if level.share not in (0.875,)
                )
                held += _holds(result.gain_interval, gain)
    return Row(
        "photon transfer, saturation at 90 % of the range: found",
        f"{found} of {n}, 14/16 of the light, right below the ceiling, not counted (a in {held / n:.1%} of intervals)",
        f"{n}",
        found / n,
        "1",
    )


def _duration() -> list[Row]:
    stage = _Stage(0.8 * FULL_SCALE, EXPOSURES_PER_LEVEL)
    exposures = stage.expose(0.5, 10.0, seed=0)
    begin = time.perf_counter()
    fit_photon_transfer(exposures, LEVELS, seed=0)
    spent_s = time.perf_counter() - begin
    light_s = len(exposures.value) * PICTURE_TIME_US * 1e-6
    return [
        Row("default calibration: light at 1 kHz", f"{light_s:.1f} s", "60 s", light_s / 60, "< 1"),
        Row("default calibration: analysis", f"{spent_s:.2f} s", "5 s", spent_s / 5, "< 1"),
    ]


class _Stage:
    """A structured sample, the level pictures on it, and the order in which they are shown."""

    def __init__(self, total: float, exposures_per_level: int, saturation: int | None = None) -> None:
        region = Region(64, 80, 96, 12, 8, 16, 1)
        recipe = photon_transfer_recipe(LEVELS, exposures_per_level, seed=1)
        self.pair, self.sign = _displayed(recipe)
        self.picture = (2 * self.pair + (self.sign < 0)).astype(np.intp)
        down, across = np.mgrid[:80, :96] / 16.0
        sample = (1 + np.sin(down) * np.cos(1.7 * across)) ** 2
        lit = np.zeros_like(sample)
        lit[8:72, 16:80] = sample[8:72, 16:80]
        self.mirror_light = lit * (total / lit.sum())
        self.sensor = Sensor(1, 1, 2, 16, saturation)
        self.duration_s = len(self.pair) * PICTURE_TIME_US * 1e-6
        pictures = LevelPictures(region, LEVELS, seed=2)
        numbers = np.arange(LEVELS + 2)
        packed = pictures.render(numbers // 2, 1 - 2 * (numbers % 2))
        self.light = self._bench(BenchSettings(1.0, 0.0)).decode(packed)

    def calibrate(self, gain: float, variance: float, seed: int) -> PhotonTransfer:
        return fit_photon_transfer(self.expose(gain, variance, seed), LEVELS, floor=-OFFSET, seed=seed)

    def expose(self, gain: float, variance: float, seed: int) -> Exposures:
        """Darkness with the light off, the recipe, and darkness again."""
        bench = self._bench(
            BenchSettings(
                gain,
                variance,
                offset=OFFSET,
                nominal_illumination_us=PICTURE_TIME_US - 20,
                seed=seed,
                source_noise=SOURCE_NOISE,
                lamp_drift=0.01,
                lamp_drift_period_s=self.duration_s,
            )
        )
        notebook = _Notebook()
        bench.attach(notebook)
        parts = []
        for light_on, light in ((False, np.zeros(DARK)), (True, self.light[self.picture]), (False, np.zeros(DARK))):
            bench.set_light(light_on)
            bench.display(light, PICTURE_TIME_US, PICTURE_TIME_US - 20)
            times_us, readings = notebook.torn_out()
            parts.append((times_us, self.sensor.frames(readings).sum(axis=(1, 2)).astype(np.float64) - OFFSET))
        (_, before), (times_us, value), (_, after) = parts
        lit_s = (times_us - times_us[0]) * 1e-6
        return Exposures(self.pair, self.sign.astype(np.int8), value, times_us, lit_s, before, after)

    def bound(self, gain: float, variance: float) -> NDArray[np.float64]:
        """Cramér-Rao bound float64 [3, 3] of (a, b, q) for the exposures taken and the drift curve fitted."""
        time_s = PICTURE_TIME_US * 1e-6 * np.arange(len(self.pair), dtype=np.float64)
        return cramer_rao_bound(
            self.light,
            self.picture,
            drift_design(time_s, drift_degree(self.duration_s)),
            gain=gain,
            variance=variance,
            source_noise=SOURCE_NOISE**2,
            n_dark=2 * DARK,
        )

    def _bench(self, settings: BenchSettings) -> OpticalBench:
        return OpticalBench(settings, self.mirror_light)


class _Notebook:
    """A detector that writes down what it sees."""

    def __init__(self) -> None:
        self._seen: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []

    def expose(
        self, times_us: NDArray[np.float64], readings: NDArray[np.float64], exposures: NDArray[np.int64]
    ) -> None:
        del exposures
        self._seen.append((times_us, readings))

    def torn_out(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        times_us, readings = (np.concatenate(parts) for parts in zip(*self._seen, strict=True))
        self._seen.clear()
        return times_us, readings


def _displayed(recipe: Recipe) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pair and sign of every exposure: guards around sections, as an acquisition plays them."""
    shown = list(_GUARD)
    for _ in range(recipe.passes):
        for place, (pair, plus) in enumerate(zip(recipe.pairs.tolist(), recipe.plus_first.tolist(), strict=True)):
            shown += [(pair, 1), (pair, -1)] if plus else [(pair, -1), (pair, 1)]
            if (place + 1) % recipe.section_pairs == 0:
                shown += _GUARD
    pair_and_sign = np.array(shown, dtype=np.int64)
    return pair_and_sign[:, 0], pair_and_sign[:, 1]


def _holds(interval: Interval, truth: float) -> bool:
    return interval.low <= truth <= interval.high


def _draw(path: Path, study: list[Accuracy]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    figure = Figure(figsize=(9.6, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes: list[Any] = list(figure.subplots(1, 2))
    places = np.arange(len(study))
    for index, (axis, name) in enumerate(zip(axes, ("gain a", "variance b"), strict=True)):
        bound = np.array([each.bound[index] for each in study])
        rms = np.array([each.rms[index] for each in study])
        axis.hlines(bound, places - 0.35, places + 0.35, color="#0072B2", lw=2.5, label="Cramér-Rao bound")
        axis.hlines(1.3 * bound, places - 0.35, places + 0.35, color="#7F7F7F", lw=1, ls=":", label="1.3 × the bound")
        axis.plot(places, rms, "o", color="#D55E00", ms=5, label=f"root mean square of {TRIALS} errors")
        for place, top, ratio in zip(places, 1.3 * bound, rms / bound, strict=True):
            axis.annotate(f"{ratio:.2f}", (place, top), (0, 3), textcoords="offset points", ha="center", fontsize=8)
        axis.set_yscale("log")
        axis.set_ylim(0.5 * bound.min(), 2.5 * bound.max())
        low, high = axis.get_ylim()
        axis.set_yticks([tick for tick in (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10) if low < tick < high])
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}"))
        axis.yaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
        axis.set_xticks(places, [f"{each.gain:g}\n{each.variance:g}" for each in study])
        axis.set_xlabel("gain a (units per electron), above variance b (units²)")
        axis.set_ylabel(f"error of the {name} (% of it)")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False, fontsize=8)
    figure.suptitle(
        f"Photon transfer against its bound: {LEVELS} levels, about {EXPOSURES} exposures each", fontsize=11
    )
    figure.savefig(path, dpi=100)
