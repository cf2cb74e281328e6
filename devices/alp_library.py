"""The vendor's shared library, loaded by ALP4lib, and where it was looked for when it is missing."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path, PureWindowsPath
from typing import Any, Final

from devices.errors import LibraryMissingError

# What ALP4lib 1.1.0 calls the library of each version, on Linux and on Windows. It loads them; these names only tell
# which version a loaded one is.
_FILES: Final[dict[str, tuple[str, str]]] = {
    "4.1": ("libalp41.so", "alpD41.dll"),
    "4.2": ("libalp42.so", "alpV42.dll"),
    "4.3": ("libalp43.so", "alp4395.dll"),
    "4.4": ("libalp44.so", "Alp44.dll"),
    "5.0": ("libalp50.so", "alp50.dll"),
    "5.1": ("libalp51.so", "alp51.dll"),
}


def open_alp(version: str = "4.3", library_dir: str | Path | None = None) -> Any:
    """The vendor library loaded by ALP4lib, as its ``ALP4`` object; no device is touched yet.

    ``library_dir`` is the folder that holds the library; None: ALP4lib's default, on Linux
    /usr/lib/x86_64-linux-gnu, on Windows the folder that ViALUX's installer left in the registry.

    Raises LibraryMissingError, which says where the library was looked for and what was found there.
    """
    from ALP4 import ALP4

    printed = io.StringIO()
    folder = None if library_dir is None else str(library_dir)
    try:
        with contextlib.redirect_stdout(printed):  # ALP4lib prints the path, and tells it nowhere else
            return ALP4(version=version, libDir=folder)
    except (OSError, ValueError) as error:
        path = printed.getvalue().removeprefix("Loading library: ").strip()
        raise LibraryMissingError(_what_was_found(version, folder, path, error)) from error


def library_of(alp: Any) -> tuple[str, str]:
    """File and version of the library that an ``ALP4`` object has loaded; empty where they cannot be told."""
    file = str(getattr(alp._ALPLib, "_name", ""))
    name = PureWindowsPath(file).name.lower()
    version = next((version for version, names in _FILES.items() if name in map(str.lower, names)), "")
    return file, version


def _what_was_found(version: str, folder: str | None, path: str, error: Exception) -> str:
    where = path or folder or "ALP4lib's default folder for this system"
    return f"the ALP {version} library could not be loaded from {where}: {_reason(version, folder, path)} ({error})"


def _reason(version: str, folder: str | None, path: str) -> str:
    if version not in _FILES:
        return f"ALP4lib knows no version {version}; set the version to one of {', '.join(_FILES)}"
    if not path:  # ALP4lib gave up before it had a path
        if folder is None:
            return (
                "there is none, or ViALUX's installer has not left it in the registry; install ViALUX's ALP "
                f"{version} package, or name the folder that holds its library"
            )
        return "ALP4lib supports ViALUX's library on Linux and on Windows only; use one of them"
    file = Path(path)
    if not file.parent.is_dir():
        what = f"there is no folder {file.parent}"
    elif not file.is_file():
        what = f"there is no {file.name} in the folder {file.parent}"
    else:
        return (
            "the file is there and cannot be used: it may be made for another processor or system, or need a library "
            "that is missing; install the ALP package that fits this computer"
        )
    return f"{what}; install ViALUX's ALP {version} package, or name the folder that holds its library"
