"""The rooms and the direction of their arrows (docs/decisions/0001): an arrow never points back."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("models", "devices", "sim_devices", "calibration", "acquisition")
MAY_IMPORT = {
    "models": {"models"},
    "devices": {"devices"},
    "sim_devices": {"sim_devices", "models"},
    "calibration": {"calibration", "models"},
    "acquisition": {"acquisition", "calibration", "devices", "models", "sim_devices"},
}
NOT_FOR_HELP = {"torch", "zarr", "scipy", "skimage", "matplotlib", "pycromanager", "ALP4", "pydantic", "numpy"}
SERVERS = {"starlette", "uvicorn", "websockets"}
NOT_FOR_HELP |= SERVERS
NOT_FOR_PLANNING = {"pycromanager", "ALP4", "matplotlib", "skimage"} | SERVERS


def imported_rooms(path: Path) -> Iterator[tuple[str, str]]:
    """(room, module) of every import of ours in a file, wherever in the file it stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [node.module or ""]
        else:
            continue
        for name in names:
            if name.split(".")[0] in ROOMS:
                yield name.split(".")[0], name


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_the_rooms_it_may(room: str) -> None:
    files = sorted((ROOT / room).rglob("*.py"))
    assert files
    wrong = [
        f"{path.name} imports {name}"
        for path in files
        for other, name in imported_rooms(path)
        if other not in MAY_IMPORT[room]
    ]
    assert wrong == []


def test_simulated_hardware_is_reached_from_one_place_only() -> None:
    reaching = {
        path.name
        for path in (ROOT / "acquisition").rglob("*.py")
        for room, _ in imported_rooms(path)
        if room == "sim_devices"
    }
    assert reaching == {"simulated_bench.py"}


def loaded_with(module: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after importing one of ours."""
    probe = f"import sys, {module}; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


def test_the_command_line_starts_without_the_slow_libraries() -> None:
    assert loaded_with("acquisition.cli") & NOT_FOR_HELP == set()


def test_drivers_and_drawing_are_imported_where_they_are_used() -> None:
    """Planning must work on a computer without drivers or a display."""
    assert loaded_with("acquisition.run") & NOT_FOR_PLANNING == set()
