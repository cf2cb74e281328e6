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
from acquisition.run_store import write_image
from acquisition.stored_run import StoredRun


@dataclass(frozen=True)
class StoredReconstruction:
    """A run's image, made again: what it was made from, and the picture that shows it."""

    run: StoredRun
    evidence: Evidence
    reconstruction: Reconstruction
    picture: Path


def reconstruct_run(
    path: Path,
    picture: Path | None = None,
    *,
    estimator: str | None = None,
    tv_weight: float | None = None,
    overwrite: bool = False,
) -> StoredReconstruction:
    """Recompute a run's image from its committed blocks, store it as images/reconstructed, and draw it.

    picture: PNG to write, by default ``<run>.reconstructed.png`` beside the run; estimator, tv_weight: instead of the
    acquisition file's. Raises NotARunError, NoEvidenceError, CorruptBlockError, OutputExistsError,
    AcquisitionFileError.
    """
    run = StoredRun(path)
    run.must_hold("hadamard")
    picture = picture_beside(path, ".reconstructed.png") if picture is None else picture
    if picture.exists() and not overwrite:
        raise existing_output(picture, "the picture")
    if run.has_image("reconstructed") and not overwrite:
        raise existing_output(path / "images" / "reconstructed", "the run's reconstructed image")
    config = stored_config(run, estimator=estimator, tv_weight=tv_weight)
    evidence = stored_evidence(run)
    reconstruction = reconstruct(evidence, config, run.image_prior)
    sample = run.image("sample") if run.has_image("sample") else None
    draw_result(picture, reconstruction, evidence, config, sample)
    made_with = {
        "reconstruction": config.reconstruction.model_dump(mode="json"),
        "forecast_mse": reconstruction.forecast_mse,
        "pairs": evidence.n_pairs,
        "version": version("hadascope"),
    }
    write_image(path, "reconstructed", reconstruction.image, made_with)
    return StoredReconstruction(run, evidence, reconstruction, picture)


def stored_config(run: StoredRun, *, estimator: str | None = None, tv_weight: float | None = None) -> AcquisitionConfig:
    """The acquisition file a run was made with, some of its reconstruction replaced. Raises AcquisitionFileError."""
    document = dict(run.facts["config"])
    changes = {"estimator": estimator, "tv_weight": tv_weight}
    document["reconstruction"] = {
        **document["reconstruction"],
        **{key: value for key, value in changes.items() if value is not None},
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
