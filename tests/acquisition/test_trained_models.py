"""A trained model in an acquisition: its mask is played, its network makes the image, live, stored and again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch

from acquisition import run as run_module
from acquisition.acquisition_file import validate_acquisition
from acquisition.check import Verdict, check_acquisition
from acquisition.config import AcquisitionConfig, on_record
from acquisition.connect import sample_on_stage
from acquisition.evidence import EvidenceCollector
from acquisition.live import LiveImage, LivePipeline, live_threads
from acquisition.observer import Observer
from acquisition.plan import summarize
from acquisition.problems import AcquisitionFileError
from acquisition.readings import Readings
from acquisition.reconstruction import MissingModelError, estimate_coefficients, reconstruct
from acquisition.run import RunResult, acquire, resume
from acquisition.run_layout import RunState
from acquisition.sensing_plan import plan_sensing
from acquisition.stored_models import DifferentRunError
from acquisition.stored_reconstruction import reconstruct_run
from acquisition.stored_run import StoredRun
from acquisition.trained_models import trained_models
from models.learning import shipped_models
from models.learning.model_card import ModelFileError
from models.learning.model_file import load_model, save_model
from tests.acquisition.real_bench import CommandLine
from tests.acquisition.rehearsal import asymmetric_sample, small_config
from tests.models.learning.tiny_model import saved, tiny_model

PEAK = 64.0 * 39  # of asymmetric_sample(8) or a little less


@pytest.fixture(autouse=True)
def nothing_is_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of shipped models that tests fill; those that come with Hadascope stay out of sight."""
    folder = tmp_path / "shipped"
    folder.mkdir()
    monkeypatch.setattr(shipped_models, "FOLDER", folder)
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return saved(tmp_path)


def a_config(tmp_path: Path, **changes: dict[str, Any]) -> AcquisitionConfig:
    """Half of the pairs of 8 × 8 pixels with the tiny model's mask and network, with noise and several blocks."""
    sample = tmp_path / "sample.tif"
    if not sample.exists():
        tifffile.imwrite(sample, asymmetric_sample(8))
    sections: dict[str, dict[str, Any]] = {
        "sample": {"image": str(sample)},
        "sensing": {
            "alpha": 0.5,
            "repeats": 8,
            "mask": {"kind": "learned", "model": str(tmp_path / "tiny-8-0.5.json")},
        },
        "blocks": {"guard_interval": 8, "longest_block_s": 0.01},
        "devices": {
            "projector": {"kind": "simulated", "dmd": "xga"},
            "detector": {"kind": "simulated", "width_px": 2, "height_px": 2, "bytes_per_px": 4, "offset_per_px": 100},
            "light_source": {"kind": "simulated"},
        },
        "noise": {"gain": 2.0, "variance": 50.0},
        "bench": {"shot_noise": True, "seed": 7, "photoelectrons_per_px": 400.0},
        "reconstruction": {"method": "network", "estimator": "pair-ratio", "refresh_s": 0.0},
        "output": {"run": str(tmp_path / "run.zarr")},
    }
    for name, values in changes.items():
        sections.setdefault(name, {}).update(values)
    return small_config(**sections)


def problem_of(config: AcquisitionConfig) -> tuple[str, str, str]:
    with pytest.raises(AcquisitionFileError) as refusal:
        plan_sensing(config, sample_on_stage(config))
    (problem,) = refusal.value.problems
    return problem.path, problem.found, problem.allowed


def acquired(config: AcquisitionConfig) -> tuple[RunResult, list[LiveImage]]:
    shown: list[LiveImage] = []
    result = acquire(config, observer=Observer(on_image=shown.append))
    return result, shown


def test_a_model_s_mask_and_prior_are_what_the_plan_is_made_from(tmp_path: Path, model: Path) -> None:
    config = a_config(tmp_path)
    sample = sample_on_stage(config)
    assert sample is not None
    plan = plan_sensing(config, sample)
    tiny = tiny_model()
    assert np.array_equal(plan.mask, tiny.mask)
    assert np.allclose(plan.prior.variance, tiny.prior.variance * sample.sum() ** 2)
    assert plan.prior.mean[0] == pytest.approx(sample.sum())
    assert not plan.prior.mean[1:].any()


def test_a_prior_that_the_file_states_comes_before_the_model_s(tmp_path: Path, model: Path) -> None:
    stated = plan_sensing(a_config(tmp_path, reconstruction={"prior": {"kind": "power-law"}}), None)
    assert stated.image_prior is None
    assert stated.prior.mean[0] == 0.0


def test_a_run_from_file_to_stored_image(tmp_path: Path, model: Path, hadascope: CommandLine) -> None:
    config = a_config(tmp_path)
    result, shown = acquired(config)
    run = StoredRun(result.run)
    made = result.reconstruction
    assert np.array_equal(run.mask, tiny_model().mask)
    assert made.uncertainty is not None
    assert made.predicted_mse is not None
    assert np.array_equal(run.image("image"), made.image)
    assert np.array_equal(run.image("uncertainty"), made.uncertainty)
    assert run.facts["predicted_mse"] == made.predicted_mse
    for use in ("sensing", "network"):
        recorded = run.facts["models"][use]
        assert recorded["model"] == str(model.with_name("tiny-8-0.5.json"))
        assert recorded["sha256"] == load_model(model).card.digest
        assert recorded["card"]["data"][0]["licence"] == "CC0"
    assert shown
    assert all(image.reconstruction.uncertainty is not None for image in shown)
    assert result.live_record[-1, 3] == shown[-1].reconstruction.predicted_mse
    assert result.picture.stat().st_size > 10_000
    told = hadascope("info", str(result.run)).out
    for words in ("network", "model of the image", "predicted PSNR", "uncertainty"):
        assert words in told


def test_the_uncertainty_is_the_half_width_of_the_interval_of_ninety_percent(tmp_path: Path, model: Path) -> None:
    """Of a Laplace distribution, by its own quantile."""
    from scipy.stats import laplace

    result, _ = acquired(a_config(tmp_path))
    found = load_model(model).network.image(result.reconstruction.estimate)
    assert result.reconstruction.uncertainty is not None
    assert np.allclose(result.reconstruction.uncertainty, laplace.ppf(0.95, scale=found.scale), rtol=1e-6)


def test_live_and_stored_images_are_the_same_on_the_same_evidence(tmp_path: Path, model: Path) -> None:
    blocks: list[Readings] = []
    config = a_config(tmp_path)
    result = acquire(config, observer=Observer(on_block=blocks.append))
    collector = EvidenceCollector(64, float(StoredRun(result.run).dark.mean()))
    for readings in blocks:
        collector.add(readings)
    shown = threading.Event()
    plan = plan_sensing(config, sample_on_stage(config))
    pipeline = LivePipeline(collector, config, plan.image_prior, load_model(model), on_image=lambda _: shown.set())
    pipeline.notify()
    assert shown.wait(60), pipeline.failure
    pipeline.close()
    again = reconstruct_run(result.run).reconstruction
    assert pipeline.newest is not None
    assert again.uncertainty is not None
    for live in (pipeline.newest.reconstruction, result.reconstruction):
        assert live.uncertainty is not None
        assert np.allclose(live.image, again.image, rtol=1e-3, atol=1e-4 * again.image.max())
        assert np.allclose(live.uncertainty, again.uncertainty, rtol=1e-3)
        assert live.predicted_mse == pytest.approx(again.predicted_mse, rel=1e-3)
    stored = StoredRun(result.run)
    assert np.array_equal(stored.image("reconstructed"), again.image)
    assert np.array_equal(stored.image("reconstructed_uncertainty"), again.uncertainty)


def test_a_growing_run_shows_a_network_image_from_its_first_block_on(tmp_path: Path, model: Path) -> None:
    """Most coefficients are untaken then; they have no weight."""
    blocks: list[Readings] = []
    config = a_config(tmp_path)
    acquire(config, observer=Observer(on_block=blocks.append))
    collector = EvidenceCollector(64, 0.0)
    collector.add(blocks[0])
    first = reconstruct(collector.snapshot(), config, None, load_model(model))
    assert np.isinf(first.estimate.variance).any()
    assert np.isfinite(first.image).all()
    assert first.uncertainty is not None
    assert (first.uncertainty > 0).all()


def test_the_live_image_leaves_a_core_to_the_light_path(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for cores, threads in ((1, 1), (2, 1), (4, 3), (64, 4)):
        monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
        assert live_threads() == threads
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    here = torch.get_num_threads()
    seen: list[int] = []
    acquire(a_config(tmp_path), observer=Observer(on_image=lambda _: seen.append(torch.get_num_threads())))
    assert set(seen) == {1}
    assert torch.get_num_threads() == here


@pytest.mark.parametrize("method", ["wiener-tv", "weighted-tv"])
def test_methods_without_a_network_need_no_model_and_know_no_uncertainty(tmp_path: Path, method: str) -> None:
    config = a_config(tmp_path, sensing={"mask": {"kind": "uniform"}}, reconstruction={"method": method})
    result, _ = acquired(config)
    run = StoredRun(result.run)
    assert result.reconstruction.uncertainty is None
    assert result.reconstruction.predicted_mse is None
    assert run.facts["models"] == {"sensing": None, "network": None}
    assert not run.has_image("uncertainty")


def test_weighted_tv_is_the_models_own(tmp_path: Path) -> None:
    from models.weighted_tv import weighted_tv_image

    config = a_config(tmp_path, sensing={"mask": {"kind": "uniform"}}, reconstruction={"method": "weighted-tv"})
    result, _ = acquired(config)
    expected = np.maximum(weighted_tv_image(result.reconstruction.estimate), 0)
    assert np.allclose(result.reconstruction.image, expected, rtol=1e-5, atol=1e-5 * expected.max())


def test_a_run_is_reconstructed_again_with_any_method_and_model(tmp_path: Path, model: Path) -> None:
    config = a_config(tmp_path, reconstruction={"method": "wiener-tv"})
    result, _ = acquired(config)
    other = saved(tmp_path, "other-8-0.5", seed=9)
    by_its_mask = reconstruct_run(result.run, method="network").reconstruction
    assert StoredRun(result.run).has_image("reconstructed_uncertainty")
    by_another = reconstruct_run(result.run, model=str(other), overwrite=True).reconstruction
    plain = reconstruct_run(result.run, overwrite=True).reconstruction
    estimate = result.reconstruction.estimate
    assert np.allclose(by_its_mask.image, load_model(model).network.image(estimate).image, rtol=1e-3)
    assert np.allclose(by_another.image, load_model(other).network.image(estimate).image, rtol=1e-3)
    assert not np.allclose(by_another.image, by_its_mask.image, rtol=1e-3)
    assert np.array_equal(plain.image, result.reconstruction.image)
    assert not StoredRun(result.run).has_image("reconstructed_uncertainty")  # it would belong to another image


def test_a_network_run_is_reconstructed_again_without_one(tmp_path: Path, model: Path) -> None:
    result, _ = acquired(a_config(tmp_path))
    for file in tmp_path.glob("tiny*"):
        file.unlink()
    made = reconstruct_run(result.run, method="wiener-tv", tv_weight=0.0).reconstruction
    assert np.array_equal(made.image, np.maximum(result.reconstruction.wiener, 0.0))


def test_without_a_name_the_shipped_network_of_the_nearest_alpha_is_taken(
    tmp_path: Path, nothing_is_shipped: Path
) -> None:
    for alpha in (0.125, 0.25, 0.5):
        saved(nothing_is_shipped, f"cells-8-{alpha:g}", alpha=alpha)
    saved(nothing_is_shipped, "cells-16-0.3", n=16, alpha=0.3)
    for alpha, name in ((0.3, "cells-8-0.25"), (0.15, "cells-8-0.125"), (1.0, "cells-8-0.5")):
        models = trained_models(a_config(tmp_path, sensing={"alpha": alpha, "mask": {"kind": "uniform"}}))
        assert models.sensing is None
        assert models.network is not None
        assert models.network.name == name


def test_the_network_of_a_shipped_name_is_on_record_by_that_name(tmp_path: Path, nothing_is_shipped: Path) -> None:
    saved(nothing_is_shipped, "cells-8-0.5")
    config = a_config(tmp_path, sensing={"mask": {"kind": "learned", "model": "cells-8-0.5"}})
    assert on_record(config)["sensing"]["mask"]["model"] == "cells-8-0.5"
    models = trained_models(config)
    assert models.sensing == models.network
    assert models.sensing is not None
    assert models.sensing.name == "cells-8-0.5"


def test_a_path_is_on_record_absolute(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = a_config(tmp_path, reconstruction={"model": "tiny-8-0.5.json"})
    assert on_record(config)["reconstruction"]["model"] == str(tmp_path / "tiny-8-0.5.json")


REFUSALS: list[tuple[str, dict[str, dict[str, Any]], str, str, str]] = [
    ("another alpha", {"sensing": {"alpha": 0.4}}, "sensing.alpha", "0.4 beside the mask", "0.5, or another model"),
    ("another side", {"sensing": {"side": 16}, "sample": {"image": None}}, "sensing.mask.model", "for side 8",
     "side 16 (shipped: none)"),
    ("an unknown name", {"sensing": {"mask": {"kind": "learned", "model": "cells"}}}, "sensing.mask.model",
     "found no model 'cells'", "shipped: none"),
    ("no network of this side", {"sensing": {"mask": {"kind": "uniform"}}}, "reconstruction.model",
     "no shipped model is for side 8", "wiener-tv or weighted-tv"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "path", "found", "allowed"), [case[1:] for case in REFUSALS], ids=[case[0] for case in REFUSALS]
)
def test_a_model_that_does_not_fit_is_refused_before_any_light(
    tmp_path: Path, model: Path, changes: dict[str, dict[str, Any]], path: str, found: str, allowed: str
) -> None:
    where, what, instead = problem_of(a_config(tmp_path, **changes))
    assert where == path
    assert found in what
    assert allowed in instead


def test_a_network_of_another_side_is_refused(tmp_path: Path, model: Path) -> None:
    saved(tmp_path, "large", n=16)
    path, found, _ = problem_of(a_config(tmp_path, reconstruction={"model": str(tmp_path / "large")}))
    assert path == "reconstruction.model"
    assert "for side 16, beside sensing.side 8" in found


def test_a_network_without_uncertainty_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, kind="paper-unet")
    path, found, allowed = problem_of(a_config(tmp_path))
    assert path == "reconstruction.model"
    assert "paper-unet" in found
    assert "compact" in allowed


def test_damaged_files_of_a_model_are_refused_by_the_key_that_names_it(tmp_path: Path, model: Path) -> None:
    model.with_name("tiny-8-0.5.safetensors").write_bytes(b"nothing")
    path, found, _ = problem_of(a_config(tmp_path))
    assert path == "sensing.mask.model"
    assert "SHA-256" in found


BAD_SECTIONS: list[tuple[dict[str, dict[str, Any]], str, str]] = [
    (
        {"sensing": {"mask": {"kind": "learned", "model": "a", "file": "b.npy"}}},
        "sensing.mask.model",
        "beside the file",
    ),
    ({"sensing": {"mask": {"kind": "learned"}}}, "sensing.mask.file", "nothing"),
    ({"reconstruction": {"method": "wiener-tv", "model": "a"}}, "reconstruction.model", "which takes none"),
    ({"reconstruction": {"method": "unet"}}, "reconstruction.method", "'unet'"),
]


@pytest.mark.parametrize(("changes", "path", "found"), BAD_SECTIONS)
def test_a_file_that_contradicts_itself_about_models_is_refused(
    tmp_path: Path, changes: dict[str, dict[str, Any]], path: str, found: str
) -> None:
    with pytest.raises(AcquisitionFileError) as refusal:
        a_config(tmp_path, **changes)
    (problem,) = refusal.value.problems
    assert problem.path == path
    assert found in problem.found


OUTSIDE: list[tuple[dict[str, dict[str, Any]], str]] = [
    ({"sensing": {"repeats": 200}}, "S = 200"),
    ({"noise": {"gain": 0.051 * PEAK}}, "a = 0.05"),
    ({"noise": {"variance": 0.2 * PEAK**2}}, "b = 0."),
]


@pytest.mark.parametrize(("changes", "said"), OUTSIDE)
def test_what_a_model_was_not_trained_over_is_warned_of(
    tmp_path: Path, model: Path, changes: dict[str, dict[str, Any]], said: str
) -> None:
    config = a_config(tmp_path, **changes)
    sample = asymmetric_sample(8)
    (warning,) = summarize(config, plan_sensing(config, sample), sample).beyond_training
    assert said in warning


def test_a_fitting_model_is_warned_of_nowhere(tmp_path: Path, model: Path) -> None:
    config = a_config(tmp_path)
    sample = sample_on_stage(config)
    assert summarize(config, plan_sensing(config, sample), sample).beyond_training == ()
    findings = [each for each in check_acquisition(config) if each.what == "trained model"]
    assert [each.verdict for each in findings] == [Verdict.OK]


def test_the_check_and_the_run_say_what_a_model_was_not_trained_over(tmp_path: Path, model: Path) -> None:
    config = a_config(tmp_path, sensing={"repeats": 150})
    findings = [each for each in check_acquisition(config) if each.what == "trained model"]
    assert [each.verdict for each in findings] == [Verdict.WARNING]
    assert "S = 150, trained from 1 to 100" in findings[0].found
    result, _ = acquired(config)
    assert any("S = 150" in warning for warning in result.warnings)
    assert any("S = 150" in warning for warning in StoredRun(result.run).facts["warnings"])


def test_a_mask_that_is_drawn_as_it_was_not_learned_for_is_warned_of(tmp_path: Path, model: Path) -> None:
    config = a_config(tmp_path, sensing={"draw": "bernoulli"})
    (finding,) = [each for each in check_acquisition(config) if each.what == "trained model"]
    assert finding.verdict is Verdict.WARNING
    assert "learned for systematic draws, and sensing.draw is bernoulli" in finding.found


def test_a_network_beside_another_mask_does_not_care_for_the_draw(tmp_path: Path, model: Path) -> None:
    sensing = {"draw": "bernoulli", "mask": {"kind": "uniform"}}
    sample = asymmetric_sample(8)
    config = a_config(tmp_path, sensing=sensing, reconstruction={"model": str(model)})
    assert summarize(config, plan_sensing(config, sample), sample).beyond_training == ()


def test_the_shot_noise_of_a_background_counts_as_noise_that_a_model_was_trained_over(
    tmp_path: Path, model: Path
) -> None:
    """Over the squared peak b + aB is 0.15, of 0.1 at most."""
    background = 0.15 * PEAK**2 / 2.0
    config = a_config(tmp_path, bench={"background_photoelectrons": background / 2.0})
    sample = asymmetric_sample(8) * PEAK / asymmetric_sample(8).max()
    (warning,) = summarize(config, plan_sensing(config, sample), sample).beyond_training
    assert "b = 0.15, trained from 0 to 0.1" in warning
    assert f"the shot noise of the background, {background:.4g} detector units" in warning


def test_reconstructing_beyond_what_a_model_was_trained_over_is_warned_of(
    tmp_path: Path, model: Path, hadascope: CommandLine
) -> None:
    config = a_config(tmp_path, sensing={"repeats": 150}, reconstruction={"method": "wiener-tv"})
    result, _ = acquired(config)
    (warning,) = reconstruct_run(result.run, method="network").warnings
    assert "S = 150, trained from 1 to 100" in warning
    assert "warning: the model" in hadascope("reconstruct", str(result.run), "--method", "network", "--overwrite").out
    assert reconstruct_run(result.run, overwrite=True).warnings == ()


def test_a_network_that_cannot_be_made_is_refused_before_any_device_and_before_anything_is_overwritten(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Card and weights belong together, and yet are of no architecture: only making the network tells."""
    earlier, _ = acquired(a_config(tmp_path))
    unfinished = broken_off(a_config(tmp_path, output={"run": str(tmp_path / "unfinished.zarr")}))
    whole = tiny_model()
    save_model(model, replace(whole, card=whole.card.model_copy(update={"uncertainty": {"certainly": 1.0}})))
    config = a_config(tmp_path)
    (finding,) = [each for each in check_acquisition(config) if each.what == "trained model"]
    assert finding.verdict is Verdict.REFUSED
    assert "the card's uncertainty cannot be used" in finding.found
    monkeypatch.setattr(run_module, "connected_devices", no_device)
    with pytest.raises(ModelFileError, match="the card's uncertainty cannot be used"):
        acquire(config, overwrite=True)
    assert StoredRun(earlier.run).state is RunState.FINISHED
    assert earlier.picture.exists()
    before = StoredRun(unfinished).facts
    monkeypatch.setattr("acquisition.resumption.must_be_unchanged", lambda *_: None)
    with pytest.raises(ModelFileError):
        resume(unfinished)
    assert StoredRun(unfinished).facts["state"] == before["state"]


def no_device(*_: object) -> None:
    raise AssertionError("a device was touched")


def stop(readings: Readings) -> None:
    raise KeyboardInterrupt


def broken_off(config: AcquisitionConfig) -> Path:
    with pytest.raises(KeyboardInterrupt):
        acquire(config, observer=Observer(on_block=stop))
    return config.output.run


def test_a_broken_off_run_goes_on_with_its_model(tmp_path: Path, model: Path) -> None:
    whole = acquire(a_config(tmp_path, output={"run": str(tmp_path / "whole.zarr")}))
    resumed = resume(broken_off(a_config(tmp_path)))
    assert np.allclose(resumed.reconstruction.image, whole.reconstruction.image, rtol=1e-4)


@pytest.mark.parametrize("which", ["weights", "calibration"])
@pytest.mark.parametrize("go_on", [resume, reconstruct_run])
def test_a_model_that_changed_since_is_refused(
    tmp_path: Path, model: Path, which: str, go_on: Callable[[Path], object]
) -> None:
    """The files fit to each other, and the mask is the same: only the record tells."""
    run = broken_off(a_config(tmp_path))
    if which == "weights":
        saved(tmp_path, seed=1)
    else:
        saved(tmp_path, uncertainty={"error_offset": 0.5})
    with pytest.raises(DifferentRunError, match=r"tiny-8-0\.5\.json is not the one .* begun with: found SHA-256"):
        go_on(run)


def test_reconstructing_with_a_named_model_is_not_held_to_the_old_one(tmp_path: Path, model: Path) -> None:
    result, _ = acquired(a_config(tmp_path))
    saved(tmp_path, seed=1)
    made = reconstruct_run(result.run, model=str(model))
    assert not np.allclose(made.reconstruction.image, result.reconstruction.image, rtol=1e-3)
    assert made.reconstruction.uncertainty is not None


def test_a_network_image_without_a_model_is_refused(tmp_path: Path, model: Path) -> None:
    blocks: list[Readings] = []
    config = a_config(tmp_path)
    acquire(config, observer=Observer(on_block=blocks.append))
    collector = EvidenceCollector(64, 0.0)
    collector.add(blocks[0])
    with pytest.raises(MissingModelError):
        reconstruct(collector.snapshot(), config)
    assert estimate_coefficients(collector.snapshot(), config).total > 0


def test_the_command_line_plans_and_reconstructs_with_models(
    tmp_path: Path, model: Path, hadascope: CommandLine
) -> None:
    result, _ = acquired(a_config(tmp_path, reconstruction={"method": "wiener-tv"}))
    told = hadascope("reconstruct", str(result.run), "--method", "network", "--model", str(model)).out
    assert "predicted PSNR" in told
    assert StoredRun(result.run).has_image("reconstructed_uncertainty")


def test_files_from_before_models_still_read(tmp_path: Path) -> None:
    document = a_config(tmp_path, sensing={"mask": {"kind": "uniform"}}).model_dump(mode="json")
    document["reconstruction"] = {"estimator": "difference", "prior": {"kind": "power-law"}, "tv_weight": 0.5}
    config = validate_acquisition(document, "an older file")
    assert config.reconstruction.method == "wiener-tv"
    assert trained_models(config).on_record() == {"sensing": None, "network": None}
