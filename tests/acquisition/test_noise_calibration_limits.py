"""What a noise calibration knows of the detector's limits, and how it shows what contradicts the noise model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from acquisition import noise_calibration
from acquisition.calibration_output import CalibrationOutput
from acquisition.noise_calibration import calibrate_noise, noise_from
from calibration.estimate import Estimate
from calibration.photon_transfer import fit_photon_transfer
from tests.acquisition.test_noise_calibration import OFFSET, noisy_config


def test_the_fit_is_told_the_lowest_value_that_readings_can_take(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Readings are units above the stated offset, and the camera's lowest value is 0."""
    output = CalibrationOutput(tmp_path / "bench.json")
    calibrate_noise(noisy_config(tmp_path), output, exposures_per_level=50)
    told: dict[str, Any] = {}
    fit = fit_photon_transfer

    def listening(*arguments: Any, **options: Any) -> Any:
        told.update(options)
        return fit(*arguments, **options)

    monkeypatch.setattr(noise_calibration, "fit_photon_transfer", listening)
    noise_from(output)
    assert told["floor"] == -OFFSET


def test_source_noise_below_0_is_not_shown_as_a_limit_of_0() -> None:
    shown = noise_calibration._root(Estimate(value=-3e-5, low=-4e-5, high=-2e-5))
    assert "0 (" not in shown
    assert "below 0 beyond its error" in shown
