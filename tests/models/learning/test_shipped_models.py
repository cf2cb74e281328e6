"""Shipped models are found by name, others by path, and all that is shipped can be used."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from models.estimators import Estimate
from models.learning.model_file import load_model
from models.learning.shipped_models import (
    FOLDER,
    ModelNotFoundError,
    find_model,
    lasting_name,
    shipped_models,
)
from tests.models.learning.tiny_model import saved

LARGEST_IN_ALL_BYTES = 20_000_000
OPEN_LICENCES = ("CC0", "CC BY 4.0", "CC-BY-4.0", "CC BY 3.0", "MIT", "BSD", "Apache", "public domain")


def test_models_in_a_folder_are_found_by_name(tmp_path: Path) -> None:
    for name in ("b-8-0.25", "a-8-0.5"):
        saved(tmp_path, name)
    assert list(shipped_models(tmp_path)) == ["a-8-0.5", "b-8-0.25"]
    assert find_model("b-8-0.25", tmp_path) == tmp_path / "b-8-0.25.safetensors"


@pytest.mark.parametrize("suffix", ["", ".json", ".safetensors"])
def test_a_model_of_ones_own_is_found_by_the_path_of_either_file(tmp_path: Path, suffix: str) -> None:
    path = saved(tmp_path)
    found = find_model(f"{path}{suffix}", tmp_path / "elsewhere")
    assert load_model(found).card.n == 8


@pytest.mark.parametrize("name", ["no-such-model", "", ".", "a\0b", "folder/none.json"])
def test_an_unknown_name_is_answered_with_those_that_exist(tmp_path: Path, name: str) -> None:
    saved(tmp_path, "a-8-0.5")
    with pytest.raises(ModelNotFoundError, match=r"shipped \(a-8-0\.5\)"):
        find_model(name, tmp_path)


def test_a_name_that_lasts_is_the_shipped_one_or_an_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path, "a-8-0.5")
    monkeypatch.chdir(tmp_path)
    assert lasting_name("a-8-0.5", tmp_path) == "a-8-0.5"
    assert lasting_name("a-8-0.5.json", tmp_path / "elsewhere") == str(tmp_path / "a-8-0.5.json")
    assert os.path.isabs(lasting_name("../own", tmp_path))  # noqa: PTH117 (a string, as it is kept)


def test_all_that_is_shipped_fits_into_twenty_megabytes() -> None:
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < LARGEST_IN_ALL_BYTES


def test_whatever_is_shipped_is_two_files_by_name() -> None:
    cards = {path.name.removesuffix(".json") for path in FOLDER.glob("*.json")}
    assert set(shipped_models()) == cards


@pytest.mark.parametrize("name", shipped_models())
def test_a_shipped_model_loads_names_its_licences_and_makes_an_image(name: str) -> None:
    model = load_model(shipped_models()[name])
    card = model.card
    assert name.endswith(f"-{card.n}-{card.alpha:g}")
    for source in card.data:
        assert source.licence.startswith(OPEN_LICENCES), source
        assert source.attribution
    assert {"hadascope", "torch", "numpy", "python"} <= set(card.versions)
    n_coefficients = card.n**2
    rng = np.random.default_rng(0)
    z = rng.normal(0, np.sqrt(model.prior.variance))
    z[0] = 1.0
    variance = np.where(rng.random(n_coefficients) < model.mask, 1e-6, np.inf)
    found = model.network.image(Estimate(1e5 * z, 1e10 * variance, 1e5))
    assert found.image.shape == found.scale.shape == (card.n, card.n)
    assert np.isfinite(found.image).all()
    assert (found.scale > 0).all()
    assert found.predicted_mse > 0
