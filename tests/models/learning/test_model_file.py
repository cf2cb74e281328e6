"""A model comes back from its files as it was saved, or is refused with what does not match."""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from models.estimators import Estimate
from models.learning.compact_network import CompactNetwork
from models.learning.model_card import ModelCard, ModelFileError, read_card
from models.learning.model_file import TrainedModel, load_model, save_model
from models.learning.network_image import network_image
from models.learning.uncertainty import UncertaintyCalibration
from tests.models.learning.tiny_model import ARCHITECTURE, random_weights, saved, tiny_model

Tensors = dict[str, NDArray[Any]]
ROOT = Path(__file__).parents[3]


def weights_of(path: Path) -> Path:
    return path.with_name(path.name + ".safetensors")


def card_of(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def change_card(path: Path, **changes: Any) -> None:
    """Changes to the card as text, behind the model's back; None takes a key out."""
    document = {**json.loads(card_of(path).read_text(encoding="utf-8-sig")), **changes}
    document = {key: value for key, value in document.items() if value is not None}
    card_of(path).write_text(json.dumps(document), encoding="utf-8")


def change_weights(path: Path, change: Callable[[Tensors], None]) -> None:
    """Changes to the tensors, with a digest that fits."""
    tensors = load_file(weights_of(path))
    change(tensors)
    save_file(tensors, weights_of(path))
    fit_digest(path)


def fit_digest(path: Path) -> None:
    change_card(path, sha256=hashlib.sha256(weights_of(path).read_bytes()).hexdigest())


def test_a_saved_model_comes_back_whole(tmp_path: Path) -> None:
    model = tiny_model()
    told = save_model(tmp_path / "tiny-8-0.5", model)
    loaded = load_model(tmp_path / "tiny-8-0.5.json")
    assert loaded.card == told.card
    assert np.array_equal(loaded.mask, model.mask)
    assert np.array_equal(loaded.prior.variance, model.prior.variance)
    assert loaded.prior.mean.tolist() == [1.0] + 63 * [0.0]
    assert loaded.weights.keys() == model.weights.keys()
    assert all(np.array_equal(loaded.weights[name], value) for name, value in model.weights.items())
    described = {**told.card.model_dump(), "tensors": {}, "sha256": ""}
    assert described == model.card.model_dump()


@pytest.mark.parametrize("name", ["tiny-8-0.5", "tiny-8-0.5.json", "tiny-8-0.5.safetensors"])
def test_either_file_names_the_model(tmp_path: Path, name: str) -> None:
    saved(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"tiny-8-0.5.json", "tiny-8-0.5.safetensors"}
    assert load_model(tmp_path / name).card.n == 8


def test_the_card_states_every_tensor_and_the_digest_of_the_file(tmp_path: Path) -> None:
    path = saved(tmp_path)
    document = json.loads(card_of(path).read_text(encoding="utf-8"))
    shapes = {name: list(value.shape) for name, value in load_file(weights_of(path)).items()}
    assert document["tensors"] == shapes
    assert shapes["sensing.mask"] == shapes["prior.variance"] == [64]
    assert document["sha256"] == hashlib.sha256(weights_of(path).read_bytes()).hexdigest()
    assert document["hadascope_model"] == 1


def test_the_loaded_network_makes_the_image_that_the_saved_one_made(tmp_path: Path) -> None:
    """Put together by hand here, from the same weights."""
    rng = np.random.default_rng(3)
    estimate = Estimate(np.r_[500.0, 20 * rng.standard_normal(63)], np.full(64, 4.0), 500.0)
    estimate.variance[40:] = np.inf
    estimate.coefficients[40:] = np.nan
    network = CompactNetwork(ARCHITECTURE)
    network.load_state_dict({name: torch.from_numpy(value) for name, value in random_weights(0).items()})
    calibration = UncertaintyCalibration(levels=(0.0, 2.0, 5.0), factors=(0.8, 1.0, 1.3))
    expected = network_image(network, estimate, tiny_model().prior, calibration)
    found = load_model(saved(tmp_path)).network.image(estimate)
    assert np.allclose(found.image, expected.image, rtol=0.02, atol=1e-3 * expected.image.max())
    assert np.allclose(found.scale, expected.scale, rtol=0.02)
    assert found.predicted_mse == pytest.approx(expected.predicted_mse, rel=0.02)
    assert np.ptp(found.image) > 0


def test_a_network_is_put_together_once(tmp_path: Path) -> None:
    model = load_model(saved(tmp_path))
    assert model.network is model.network


def test_mask_and_prior_are_read_without_torch(tmp_path: Path) -> None:
    path = saved(tmp_path)
    probe = (
        "import sys; from pathlib import Path; from models.learning.model_file import load_model; "
        f"print(load_model(Path({str(path)!r})).mask.mean(), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, cwd=ROOT)
    mean, torch_is_there = done.stdout.split()
    assert float(mean) == pytest.approx(0.5)
    assert torch_is_there == "False"


def test_half_precision_weights_are_taken_as_they_are(tmp_path: Path) -> None:
    model = tiny_model()
    halves = {name: value.astype(np.float16) for name, value in model.weights.items()}
    save_model(tmp_path / "half", TrainedModel(model.card, model.mask, model.prior, halves))
    loaded = load_model(tmp_path / "half")
    assert {value.dtype for value in loaded.weights.values()} == {np.dtype(np.float16)}
    assert next(loaded.network.network.parameters()).dtype == torch.float32


def test_the_digest_of_a_card_depends_on_what_it_says_and_not_on_its_layout(tmp_path: Path) -> None:
    path = saved(tmp_path)
    before = read_card(card_of(path)).digest
    document = json.loads(card_of(path).read_text(encoding="utf-8"))
    backwards = json.dumps(dict(reversed(document.items()))).replace(", ", ",\r\n")
    card_of(path).write_text("\ufeff" + backwards, encoding="utf-8", newline="")
    assert read_card(card_of(path)).digest == before
    change_card(path, uncertainty={**document["uncertainty"], "measured_factor": 1.1})
    assert read_card(card_of(path)).digest != before
    save_model(path, tiny_model(seed=1))
    assert read_card(card_of(path)).digest != before


def drop(name: str) -> Callable[[Tensors], None]:
    def change(tensors: Tensors) -> None:
        del tensors[name]

    return change


def put(name: str, value: Callable[[NDArray[Any]], NDArray[Any]]) -> Callable[[Tensors], None]:
    def change(tensors: Tensors) -> None:
        tensors[name] = np.ascontiguousarray(value(tensors[name]))

    return change


def one_nan(values: NDArray[Any]) -> NDArray[Any]:
    changed = values.copy()
    changed.flat[1] = np.nan
    return changed


def extra(tensors: Tensors) -> None:
    tensors["a.stranger"] = np.zeros(3, dtype=np.float32)


BAD_WEIGHTS: list[tuple[str, Callable[[Tensors], None], str]] = [
    ("missing", drop("head.bias"), r"head\.bias: missing"),
    ("no mask", drop("sensing.mask"), r"sensing\.mask: missing"),
    ("extra", extra, r"a\.stranger: not on the card"),
    ("misshapen", put("head.weight", lambda w: w.T), r"head\.weight: found shape .* expected \[12, 4, 1, 1\]"),
    ("wrong side", put("prior.variance", lambda v: v[:16]), r"prior\.variance: found shape \[16\]; expected \[64\]"),
    ("mean", put("sensing.mask", lambda m: 0.9 * m), r"sensing\.mask: found mean 0\.45\d*; expected α = 0\.5"),
    ("no probability", put("sensing.mask", lambda m: m * 2), r"values outside \[0, 1\]"),
    ("NaN weight", put("head.weight", one_nan), r"head\.weight: found 1 values that are NaN"),
    ("NaN mask", put("sensing.mask", one_nan), r"sensing\.mask: found 1 values that are NaN"),
    ("integers", put("head.bias", lambda b: b.astype(np.int32)), r"head\.bias: found int32 values"),
    ("negative prior", put("prior.variance", lambda v: -v), r"prior\.variance: found 64 values below 0"),
]


@pytest.mark.parametrize(("change", "said"), [case[1:] for case in BAD_WEIGHTS], ids=[case[0] for case in BAD_WEIGHTS])
def test_weights_that_do_not_match_the_card_are_refused_by_name(
    tmp_path: Path, change: Callable[[Tensors], None], said: str
) -> None:
    path = saved(tmp_path)
    change_weights(path, change)
    with pytest.raises(ModelFileError, match=said):
        load_model(path)


BAD_CARDS: list[tuple[str, dict[str, Any], str]] = [
    ("unknown version", {"hadascope_model": 2}, "found hadascope_model 2; expected 1"),
    ("no version", {"hadascope_model": None}, "found no hadascope_model"),
    ("other side", {"n": 16}, r"sensing\.mask: found shape \[64\]; expected \[256\] for side 16"),
    ("odd side", {"n": 12}, "expected a power of two"),
    ("other alpha", {"alpha": 0.25}, r"found mean 0\.5.*expected α = 0\.25"),
    ("no data", {"data": []}, "data: .*at least 1"),
    ("unknown key", {"colour": "blue"}, "colour: Extra inputs are not permitted"),
    ("unknown kind", {"kind": "transformer"}, "kind: Input should be 'compact'"),
    ("range upside down", {"trained_over": {"gain": [2, 1], "variance": [0, 1], "alpha": [0, 1], "repeats": [1, 2]}},
     "gain: .*lower end first"),
    ("no seed", {"seed": None}, "seed: Field required"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "said"), [case[1:] for case in BAD_CARDS], ids=[case[0] for case in BAD_CARDS])
def test_a_card_that_cannot_be_believed_is_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    path = saved(tmp_path)
    change_card(path, **changes)
    with pytest.raises(ModelFileError, match=said):
        load_model(path)


def test_one_changed_byte_is_noticed(tmp_path: Path) -> None:
    path = saved(tmp_path)
    content = bytearray(weights_of(path).read_bytes())
    content[-1] ^= 1
    weights_of(path).write_bytes(content)
    with pytest.raises(ModelFileError, match=r"found SHA-256 .* says"):
        load_model(path)


@pytest.mark.parametrize("content", [b"", pickle.dumps({"head.bias": [1.0]}), struct.pack("<Q", 2**40) + b"{}"])
def test_what_is_no_safetensors_is_refused_whatever_its_digest(tmp_path: Path, content: bytes) -> None:
    path = saved(tmp_path)
    weights_of(path).write_bytes(content)
    fit_digest(path)
    with pytest.raises(ModelFileError, match=r"no file of safetensors .* pickles are never opened"):
        load_model(path)


def test_a_pickle_is_never_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    path = saved(tmp_path)
    weights_of(path).write_bytes(pickle.dumps(Trap()))
    fit_digest(path)
    with pytest.raises(ModelFileError):
        load_model(path)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("text", ["", "[1, 2]", "{not json", "NaN"])
def test_a_card_that_is_no_card_is_refused(tmp_path: Path, text: str) -> None:
    path = saved(tmp_path)
    card_of(path).write_text(text, encoding="utf-8")
    with pytest.raises(ModelFileError, match=r"tiny-8-0\.5\.json"):
        load_model(path)


@pytest.mark.parametrize("missing", ["tiny-8-0.5.json", "tiny-8-0.5.safetensors"])
def test_half_a_model_is_refused_with_the_file_that_is_missing(tmp_path: Path, missing: str) -> None:
    path = saved(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(ModelFileError, match=f"{missing} cannot be read"):
        load_model(path)


def test_nothing_is_written_that_could_not_be_read_again(tmp_path: Path) -> None:
    model = tiny_model()
    wrong = TrainedModel(model.card, 0.5 * model.mask, model.prior, model.weights)
    with pytest.raises(ModelFileError, match="found mean"):
        save_model(tmp_path / "wrong", wrong)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_is_saved_again_replaces_the_old_one(tmp_path: Path) -> None:
    saved(tmp_path)
    path = saved(tmp_path, seed=5)
    assert load_model(path).card.seed == 5


def test_weights_of_another_architecture_are_refused_when_the_network_is_wanted(tmp_path: Path) -> None:
    path = saved(tmp_path, architecture={"channels": (4, 8), "unshuffle": 2, "bands": 4})
    with pytest.raises(ModelFileError, match=r"tensors differ, the first down\.1\..*: found shape .*; expected shape"):
        _ = load_model(path).network


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"architecture": {"depth": 3}}, "the card's architecture cannot be used"),
        ({"uncertainty": {"trust": 1.0}}, "the card's uncertainty cannot be used"),
        ({"kind": "paper-unet"}, "kind paper-unet"),
    ],
)
def test_a_network_that_nobody_knows_is_refused_when_it_is_wanted(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    model = load_model(saved(tmp_path, **changes))
    with pytest.raises(ModelFileError, match=said):
        _ = model.network


def test_what_lies_beyond_the_training_is_said_with_its_range() -> None:
    card: ModelCard = tiny_model().card
    assert list(card.outside_training(alpha=0.25, repeats=100, gain=1e-4, variance=0.0)) == []
    assert list(card.outside_training(alpha=1.0, repeats=1, gain=None, variance=None)) == []
    said = list(card.outside_training(alpha=0.2, repeats=200, gain=0.06, variance=0.2))
    assert [text.split(" = ")[0] for text in said] == ["α", "S", "a", "b"]
    assert said[1] == "S = 200, trained from 1 to 100"
    assert "maximum of 1" in said[2]
