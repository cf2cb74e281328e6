"""Reconstruct a stored run from its raw readings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from acquisition.acquisition_file import validate_acquisition
from acquisition.config import AcquisitionConfig, picture_beside
from acquisition.evidence import Evidence, EvidenceCollector, detector_dark_level
from acquisition.picture import draw_result
from acquisition.readings import Readings
from acquisition.reconstruction import Reconstruction, reconstruct
from acquisition.run_layout import existing_output
from acquisition.run_store import remove_image, write_image
from acquisition.stored_models import network_must_be_unchanged, recorded_model
from acquisition.stored_run import StoredRun
from acquisition.trained_models import NamedModel, TrainedModels, network_model
from models.learning.shipped_models import lasting_name
from models.priors import Prior


@dataclass(frozen=True)
class StoredReconstruction:
    """A run's image, made again: what it was made from, the picture that shows it, and what there is to warn of."""

    run: StoredRun
    evidence: Evidence
    reconstruction: Reconstruction
    picture: Path
    warnings: tuple[str, ...]


def reconstruct_run(
    path: Path,
    picture: Path | None = None,
    *,
    estimator: str | None = None,
    method: str | None = None,
    model: str | None = None,
    tv_weight: float | None = None,
    overwrite: bool = False,
) -> StoredReconstruction:
    """Recompute a run's image from its committed blocks, store it as images/reconstructed, and draw it.

    picture: PNG to write, by default ``<run>.reconstructed.png`` beside the run; estimator, method, model, tv_weight:
    instead of the acquisition file's. A network's uncertainty is stored as images/reconstructed_uncertainty. Raises
    NotARunError, NoEvidenceError, CorruptBlockError, OutputExistsError, AcquisitionFileError, and DifferentRunError
    where a model that the run names is not what it was.
    """
    run = StoredRun(path)
    run.must_hold("hadamard")
    picture = picture_beside(path, ".reconstructed.png") if picture is None else picture
    if picture.exists() and not overwrite:
        raise existing_output(picture, "the picture")
    if run.has_image("reconstructed") and not overwrite:
        raise existing_output(path / "images" / "reconstructed", "the run's reconstructed image")
    config = stored_config(run, estimator=estimator, method=method, model=model, tv_weight=tv_weight)
    network = network_model(config)
    if model is None:
        network_must_be_unchanged(run, network)
    model_in_use = None if network is None else network.model
    evidence = stored_evidence(run)
    reconstruction = reconstruct(evidence, config, _prior(run, config, network), model_in_use)
    sample = run.image("sample") if run.has_image("sample") else None
    draw_result(picture, reconstruction, evidence, config, sample)
    made_with = {
        "reconstruction": config.reconstruction.model_dump(mode="json"),
        "model": None if network is None else network.on_record(),
        "forecast_mse": reconstruction.forecast_mse,
        "predicted_mse": reconstruction.predicted_mse,
        "pairs": evidence.n_pairs,
        "version": version("hadascope"),
    }
    remove_image(path, "reconstructed_uncertainty")
    write_image(path, "reconstructed", reconstruction.image, made_with, config.px_um)
    if reconstruction.uncertainty is not None:
        write_image(path, "reconstructed_uncertainty", reconstruction.uncertainty, made_with, config.px_um)
    beyond_training = TrainedModels(None, network).warnings(
        config, float(reconstruction.image.max()), evidence.background
    )
    return StoredReconstruction(run, evidence, reconstruction, picture, tuple(beyond_training))


def stored_config(
    run: StoredRun,
    *,
    estimator: str | None = None,
    method: str | None = None,
    model: str | None = None,
    tv_weight: float | None = None,
) -> AcquisitionConfig:
    """The acquisition file a run was made with, some of its reconstruction replaced. Raises AcquisitionFileError.

    A model is taken to be asked for its network: without a method of its own it is that one.
    """
    document = dict(run.facts["config"])
    acquired = document["reconstruction"]
    if model is not None:
        model, method = lasting_name(model), method or "network"
    elif recorded := recorded_model(run, "network"):
        model = recorded["model"] if (method or acquired["method"]) == "network" else None
    changes = {"estimator": estimator, "method": method, "tv_weight": tv_weight}
    document["reconstruction"] = {
        **acquired,
        **{key: value for key, value in changes.items() if value is not None},
        "model": model,
    }
    return validate_acquisition(document, source=f"the configuration stored in {run.path}")


def stored_evidence(run: StoredRun) -> Evidence:
    """The sums over a run's committed blocks. Raises NoEvidenceError, CorruptBlockError."""
    return collected(run, run.blocks()).snapshot()


def collected(run: StoredRun, blocks: Iterable[Readings]) -> EvidenceCollector:
    """The evidence of some of a run's blocks, to which others can be added."""
    collector = EvidenceCollector(len(run.repeats), detector_dark_level(run.dark, run.facts["dark_under_light"]))
    for readings in blocks:
        collector.add(readings)
    return collector


def _prior(run: StoredRun, config: AcquisitionConfig, network: NamedModel | None) -> Prior | None:
    """The prior that the run was planned with; without one, and where the file states none, the network's."""
    if run.image_prior is not None or config.reconstruction.prior is not None or network is None:
        return run.image_prior
    return network.model.prior
