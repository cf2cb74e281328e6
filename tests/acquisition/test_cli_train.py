"""hadascope train: what it leaves and says, what it refuses before any work, and going on after Ctrl-C."""

from __future__ import annotations

import csv
import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml
from numpy.typing import NDArray
from skimage.io import imread

from acquisition.console_training import TrainingBar
from calibration.calibration_file import write_calibration
from models.learning.model_file import load_model
from models.learning.training import EpochReport
from tests.acquisition.real_bench import CommandLine, files_in
from tests.calibration.test_noise_file import CALIBRATION
from tests.models.learning.tiny_model import saved
from tests.models.learning.tiny_training import spots

FEW = ("--side", "16", "--repeats", "8", "--gain", "0.0139", "--epochs", "2", "--batch", "4")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twenty images in ./cells, of which two are validated on."""
    monkeypatch.chdir(tmp_path)
    folder = Path("cells")
    folder.mkdir()
    for k, image in enumerate(spots(20, 16)):
        tifffile.imwrite(folder / f"{k}.tif", (4000 * image).astype(np.uint16))
    return folder


def test_a_training_leaves_a_model_two_pictures_and_its_log(data: Path, hadascope: CommandLine) -> None:
    done = hadascope("train", "sensing", data, "--output", "cells 16", *FEW)
    assert done.code == 0, done.err
    assert sorted(str(path) for path in Path().iterdir()) == [
        "cells",
        "cells 16.json",
        "cells 16.masks.png",
        "cells 16.safetensors",
        "cells 16.training",
        "cells 16.training.png",
    ]
    assert {path.name for path in Path("cells 16.training").iterdir()} == {"checkpoint.pt", "log.csv"}
    model = load_model(Path("cells 16"))
    assert (model.card.n, model.card.alpha, model.card.repeats) == (16, 0.25, 8)
    assert model.card.data[0].crops == 18
    assert shlex.split(model.card.command)[:5] == ["hadascope", "train", "sensing", "cells", "--output"]
    assert shlex.split(model.card.command)[5] == "cells 16"
    for picture in ("masks", "training"):
        assert imread(f"cells 16.{picture}.png").std() > 10


def test_it_says_what_was_learned_from_how_it_went_and_what_to_do_with_it(data: Path, hadascope: CommandLine) -> None:
    tifffile.imwrite(data / "dark.tif", np.zeros((16, 16), dtype=np.uint16))
    said = hadascope("train", "sensing", data, "--output", "m", *FEW).out
    for what in (
        "18 crops of 18 fields of view to learn from",
        "2 crops of 2 fields of view to validate on",
        "left out: crop",
        "is 0 everywhere",
        "epoch 1:",
        "epoch 2:",
        "dB on validation",
        "kept: epoch",
        "calibrated on",
        "written: m.json, m.safetensors, m.masks.png, m.training.png",
        "mask: {kind: learned, model: m}",
    ):
        assert what in said


def test_the_line_for_acquisition_files_is_yaml(data: Path, hadascope: CommandLine) -> None:
    said = hadascope("train", "sensing", data, "--output", "m", *FEW).out
    document = yaml.safe_load(said.split("use it: ")[1])
    learned = {"sensing": {"mask": {"kind": "learned", "model": "m"}}}
    assert document == {**learned, "reconstruction": {"method": "network"}}


def test_sources_go_into_the_card(data: Path, hadascope: CommandLine) -> None:
    Path("sources.yaml").write_text("[{name: cells, licence: CC0, attribution: Ada, crops: 20}]", encoding="utf-8")
    done = hadascope("train", "sensing", data, "--output", "m", "--sources", "sources.yaml", *FEW)
    assert done.code == 0, done.err
    card = json.loads(Path("m.json").read_text(encoding="utf-8"))
    assert card["data"] == [{"name": "cells", "licence": "CC0", "attribution": "Ada", "crops": 20}]


def test_a_batch_larger_than_the_set_is_all_of_it(data: Path, hadascope: CommandLine) -> None:
    done = hadascope("train", "sensing", data, "--output", "m", *FEW, "--batch", "1000")
    assert done.code == 0, done.err
    assert load_model(Path("m")).card.data[0].crops == 18


def test_the_paper_s_network_is_trained_by_name(data: Path, hadascope: CommandLine) -> None:
    words = ("--network", "paper-unet", "--draw", "bernoulli", "--patch", "16", "--start", "uniform", "--epochs", "1")
    done = hadascope("train", "sensing", data, "--output", "m", *FEW, *words)
    assert done.code == 0, done.err
    assert load_model(Path("m")).card.kind == "paper-unet"
    # No acquisition can show its image.
    assert "use it" not in done.out


def test_early_stopping_is_said(data: Path, hadascope: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rate of next to nothing makes nothing better."""
    from models.learning.compact_training import CompactTask

    monkeypatch.setattr(CompactTask, "scores", lambda *_: {"validation_psnr_db": 30.0})
    done = hadascope(
        "train", "sensing", data, "--output", "m", *FEW, "--epochs", "9", "--patience", "2", "--gradient", "none"
    )
    assert done.code == 0, done.err
    assert "ended after epoch 3: none of the last 2 epochs was better on validation" in done.out
    assert "kept: epoch 1, 30.00 dB on validation" in done.out


def log_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(newline="", encoding="utf-8") as file:
        return [{key: value for key, value in line.items() if key != "seconds"} for line in csv.DictReader(file)]


def interrupted_after(epoch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C as soon as an epoch is done."""

    def on_epoch(_: TrainingBar, report: EpochReport) -> None:
        if report.epoch == epoch:
            raise KeyboardInterrupt

    monkeypatch.setattr(TrainingBar, "on_epoch", on_epoch)


def test_after_ctrl_c_the_same_command_goes_on_as_if_nothing_had_been(
    data: Path, hadascope: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (*FEW, "--epochs", "3")
    assert hadascope("train", "sensing", data, "--output", "whole", *words).code == 0
    with monkeypatch.context() as patched:
        interrupted_after(1, patched)
        stopped = hadascope("train", "sensing", data, "--output", "parts", *words)
    assert stopped.code == 130
    assert "interrupted: the same command goes on after epoch 1, kept in parts.training" in stopped.err
    assert "Traceback" not in stopped.out + stopped.err
    assert not Path("parts.json").exists()
    done = hadascope("train", "sensing", data, "--output", "parts", *words)
    assert done.code == 0, done.err
    assert "goes on after epoch 1 of 3" in done.out
    assert "epoch 1:" not in done.out
    assert Path("parts.safetensors").read_bytes() == Path("whole.safetensors").read_bytes()
    assert log_of(Path("parts.training")) == log_of(Path("whole.training"))


def test_ctrl_c_before_the_first_epoch_keeps_nothing_and_says_so(
    data: Path, hadascope: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from acquisition import console_training

    def interrupting(_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(console_training, "print_images", interrupting)
    stopped = hadascope("train", "sensing", data, "--output", "m", *FEW)
    assert stopped.code == 130
    assert "no epoch was finished, nothing is kept" in stopped.err
    assert [path.name for path in Path().iterdir()] == ["cells"]


def test_what_another_training_left_is_not_gone_on_with(
    data: Path, hadascope: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        interrupted_after(1, patched)
        hadascope("train", "sensing", data, "--output", "m", *FEW)
    before = files_in(Path())
    done = hadascope("train", "sensing", data, "--output", "m", *FEW, "--alpha", "0.5")
    assert done.code == 2
    assert "alpha 0.25; asked for is alpha 0.5" in done.err
    assert "remove its folder to begin anew" in done.err
    assert files_in(Path()) == before


def test_a_model_is_replaced_only_when_asked_to(data: Path, hadascope: CommandLine) -> None:
    saved(Path(), "m")
    before = files_in(Path())
    for name in ("m", "m.safetensors"):
        refused = hadascope("train", "sensing", data, "--output", name, *FEW)
        assert refused.code == 2
        assert "m.json is there already; expected a new --output, or --overwrite" in refused.err
    assert files_in(Path()) == before
    assert hadascope("train", "sensing", data, "--output", "m", *FEW, "--overwrite").code == 0
    assert load_model(Path("m")).card.n == 16


def bad_data(case: str) -> None:
    """./bad, in which nothing can be learned from."""
    folder = Path("bad")
    folder.mkdir()
    images: dict[str, NDArray[Any]] = {
        "small": np.ones((8, 40), dtype=np.uint16),
        "nan": np.full((16, 16), np.nan, dtype=np.float32),
        "constant": np.full((16, 16), 3, dtype=np.uint8),
        "complex": np.ones((16, 16), dtype=np.complex64),
        "negative": np.full((16, 16), -1, dtype=np.int16),
    }
    if case in images:
        for k in range(3):
            np.save(folder / f"{k}.npy", images[case])
    if case == "broken":
        (folder / "0.tif").write_bytes(b"not a TIFF")
    if case == "other":
        (folder / "readme.txt").write_text("no image", encoding="utf-8")
    if case == "single":
        np.save(folder / "0.npy", spots(1, 16)[0])
    if case == "three":
        for k, image in enumerate(spots(3, 16)):
            np.save(folder / f"{k}.npy", image)


@pytest.mark.parametrize(
    ("case", "found", "expected"),
    [
        ("empty", "bad holds nothing", "expected a TIFF, PNG, NPY, NPZ or zarr with images"),
        ("other", "1 files of other kinds (.txt)", "expected a TIFF"),
        ("small", "8 × 40 pixels", "expected at least 16 × 16"),
        ("nan", "256 NaN", "expected grey values of 0 or more"),
        ("negative", "256 negative", "expected grey values of 0 or more"),
        ("constant", "all 3 crops are constant", "expected images with something in them"),
        ("complex", "complex64 values", "expected real grey values"),
        ("broken", "0.tif cannot be read", "expected a TIFF or PNG image that is whole"),
        ("single", "found 1 fields of view for 2 parts", "expected one for each at least"),
        ("three", "found 1 image to validate on", "expected 2 at least"),
    ],
)
def test_images_that_nothing_can_be_learned_from_are_refused(
    data: Path, hadascope: CommandLine, case: str, found: str, expected: str
) -> None:
    bad_data(case)
    before = files_in(Path())
    refused = hadascope("train", "sensing", "bad", "--output", "m", *FEW)
    assert refused.code == 2
    assert found in refused.err
    assert expected in refused.err
    assert "Traceback" not in refused.out + refused.err
    assert files_in(Path()) == before


@pytest.mark.parametrize(
    ("words", "found", "expected"),
    [
        (("--draw", "poisson"), "draw: found 'poisson'", "expected one of bernoulli, systematic"),
        (("--network", "resnet"), "kind: found 'resnet'", "expected one of compact, paper-unet"),
        (("--network", "paper-unet"), "draw: found systematic", "expected bernoulli"),
        (("--gradient", "full"), "gradient: found 'full'", "expected one of relaxed, gumbel, none"),
        (("--start", "best"), "start: found 'best'", "expected one of water-filling"),
        (("--side", "100"), "side n: found 100", "expected a power of two"),
        (("--side", "8"), "side n: found 8", "expected a multiple of 16"),
        (("--side", "0"), "side n: found 0", "expected a power of two"),
        (("--alpha", "1.5"), "--alpha", "Input should be less than or equal to 1"),
        (("--alpha", "0.005"), "α = 0.005", "expected 2 or more of them"),
        (("--epochs", "0"), "Invalid value", "greater than or equal to 1"),
        (("--batch", "0"), "Invalid value", "greater than or equal to 1"),
        (("--rate", "-1"), "found rate = -1", "expected more than 0"),
        (("--mask-rate", "nan"), "found mask_rate = nan", "expected more than 0"),
        (("--gain", "0"), "found a = 0", "expected a > 0"),
        (("--variance", "-1"), "b = -1", "b ≥ 0"),
        (("--peak", "100"), "--peak", "--noise FILE"),
        (("--begin-with", "nothing"), "found no model 'nothing'", "shipped"),
        (("--begin-with", "m0"), "'channels': (4, 6)", "expected {'channels': (32, 56, 72, 88)"),
        (("--sources", "gone.yaml"), "gone.yaml cannot be read", "expected a YAML list"),
        (("--sources", "empty.yaml"), "found an empty list", "expected a YAML list"),
        (("--validation", "gone"), "gone is not there", "expected a TIFF"),
        (("--output", "gone/m"), "gone is not there", "make it first"),
    ],
)
def test_what_cannot_be_is_refused_in_words_and_nothing_is_written(
    data: Path, hadascope: CommandLine, words: tuple[str, str], found: str, expected: str
) -> None:
    Path("empty.yaml").write_text("[]", encoding="utf-8")
    saved(Path(), "m0")
    before = files_in(Path())
    refused = hadascope("train", "sensing", data, "--output", "m", *FEW, *words)
    assert refused.code == 2
    assert found in refused.err
    assert expected in refused.err
    assert "Traceback" not in refused.out + refused.err
    assert files_in(Path()) == before


def without_gain(*more: str) -> tuple[str, ...]:
    place = FEW.index("--gain")
    return (*FEW[:place], *FEW[place + 2 :], *more)


def test_a_noise_must_be_stated(data: Path, hadascope: CommandLine) -> None:
    refused = hadascope("train", "sensing", data, "--output", "m", *without_gain())
    assert refused.code == 2
    assert "found no a: say --gain" in refused.err


def test_a_calibration_is_scaled_by_the_brightest_pixel_s_light(data: Path, hadascope: CommandLine) -> None:
    """A light of 50 units becomes 1, so a becomes a/50 and b becomes b/50²."""
    write_calibration(Path("noise.json"), CALIBRATION)
    done = hadascope("train", "sensing", data, "--output", "m", *without_gain("--noise", "noise.json", "--peak", "50"))
    assert done.code == 0, done.err
    over = load_model(Path("m")).card.trained_over
    # From an eighth of the reference a to eight times of it.
    assert np.sqrt(over.gain[0] * over.gain[1]) == pytest.approx(CALIBRATION.gain.value / 50)
    assert over.variance[1] > CALIBRATION.variance / 50**2


def test_a_calibration_that_is_not_usable_is_refused(data: Path, hadascope: CommandLine) -> None:
    calibration = CALIBRATION.model_copy(update={"usable": False, "reasons": ("too little light",)})
    write_calibration(Path("noise.json"), calibration)
    before = files_in(Path())
    refused = hadascope(
        "train", "sensing", data, "--output", "m", *without_gain("--noise", "noise.json", "--peak", "50")
    )
    assert refused.code == 2
    assert "not usable (too little light): calibrate again" in refused.err
    assert files_in(Path()) == before


def test_more_coefficients_than_the_images_have_are_refused(data: Path, hadascope: CommandLine) -> None:
    Path("coarse").mkdir()
    for k, image in enumerate(spots(20, 4)):
        np.save(Path("coarse") / f"{k}.npy", np.kron(image, np.ones((4, 4), dtype=np.float32)))
    refused = hadascope("train", "sensing", "coarse", "--output", "m", *FEW)
    assert refused.code == 2
    assert "found α = 0.25" in refused.err
    assert "expected α ≤ 0.0625" in refused.err
    assert not Path("m.training").exists()


def test_a_loss_that_is_no_number_any_more_ends_the_training_without_a_model(
    data: Path, hadascope: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from models.learning.compact_training import CompactTask

    loss = CompactTask.loss
    monkeypatch.setattr(CompactTask, "loss", lambda task, images, progress: float("nan") * loss(task, images, progress))
    failed = hadascope("train", "sensing", data, "--output", "m", *FEW)
    assert failed.code == 1
    assert "the loss is nan in epoch 1, step 1; expected a number: a lower learning rate may help" in failed.err
    assert not Path("m.json").exists()


def test_a_broken_checkpoint_is_refused(data: Path, hadascope: CommandLine) -> None:
    Path("m.training").mkdir()
    (Path("m.training") / "checkpoint.pt").write_bytes(b"broken")
    refused = hadascope("train", "sensing", data, "--output", "m", *FEW)
    assert refused.code == 2
    assert "cannot be read as a checkpoint" in refused.err
    assert "remove its folder to begin anew" in refused.err
    assert "Traceback" not in refused.err


def test_help_says_what_every_option_is_for(hadascope: CommandLine) -> None:
    said = hadascope("train", "sensing", "--help")
    assert said.code == 0
    for what in ("NAME.masks.png", "NAME.training", "--gain", "--noise", "--begin-with", "Images a step"):
        assert what in said.out
    options = [part.split()[0] for part in said.out.split(" --")[1:]]
    assert len(options) >= 20
