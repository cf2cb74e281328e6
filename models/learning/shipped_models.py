"""Trained models that come with Hadascope, found by name, and others, found by path."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent.parent / "trained"

_WEIGHTS = ".safetensors"


class ModelNotFoundError(FileNotFoundError):
    """A name or a path at which there is no trained model."""


def shipped_models(folder: Path | None = None) -> dict[str, Path]:
    """The models in a folder (None: those that come with Hadascope): path of the weights by name, in order."""
    return {path.name.removesuffix(_WEIGHTS): path for path in sorted((folder or FOLDER).glob(f"*{_WEIGHTS}"))}


def find_model(name_or_path: str | Path, folder: Path | None = None) -> Path:
    """Path of a model's weights: of a shipped one by its name, of any other one by the path of either of its files.

    Raises ModelNotFoundError, which lists those that are shipped.
    """
    shipped = shipped_models(folder)
    asked = str(name_or_path)
    if asked in shipped:
        return shipped[asked]
    path = Path(asked)
    weights = path.with_name(path.name.removesuffix(".json").removesuffix(_WEIGHTS) + _WEIGHTS) if path.name else path
    try:
        found = weights.is_file()
    except ValueError:  # a path that no file system can have
        found = False
    if found:
        return weights
    raise ModelNotFoundError(
        f"found no model {asked!r}: neither a file of weights {str(weights)!r} nor one of those that are shipped "
        f"({', '.join(shipped) or 'none'})"
    )


def lasting_name(name_or_path: str | Path, folder: Path | None = None) -> str:
    """What finds the same model from any working folder: a shipped one's name, or an absolute path."""
    return str(name_or_path) if str(name_or_path) in shipped_models(folder) else str(Path(name_or_path).absolute())
