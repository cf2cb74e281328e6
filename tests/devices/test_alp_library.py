"""The vendor library: loaded, or missing where it was looked for."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from devices.alp import open_alp
from devices.alp_library import library_of
from devices.errors import LibraryMissingError


def test_a_missing_library_says_where_it_was_looked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(LibraryMissingError, match=r"could not be loaded from .*nowhere") as caught:
        open_alp("4.3", tmp_path / "nowhere")
    assert isinstance(caught.value, FileNotFoundError)
    assert capsys.readouterr().out == ""


def test_a_version_that_does_not_exist_is_a_missing_library(tmp_path: Path) -> None:
    with pytest.raises(LibraryMissingError, match=r"ALP 9\.9"):
        open_alp("9.9", tmp_path)


def test_a_folder_that_does_not_exist_is_told_from_one_without_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.system", lambda: "Linux")
    with pytest.raises(LibraryMissingError, match=r"there is no folder .*nowhere.*install") as caught:
        open_alp("4.3", tmp_path / "nowhere")
    assert isinstance(caught.value.__cause__, OSError)
    with pytest.raises(LibraryMissingError, match=r"there is no libalp43\.so in the folder .*name the folder"):
        open_alp("4.3", tmp_path)


def test_a_library_for_another_processor_is_told_from_a_missing_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.system", lambda: "Linux")
    (tmp_path / "libalp44.so").write_bytes(b"made for something else" * 100)
    with pytest.raises(LibraryMissingError, match="another processor or system") as caught:
        open_alp("4.4", tmp_path)
    assert str(caught.value.__cause__) in str(caught.value)


@pytest.mark.parametrize(
    ("system", "where"),
    [
        ("Linux", r"/usr/lib/x86_64-linux-gnu/libalp51\.so"),
        ("Windows", "default folder.*left it in the registry"),
        ("Darwin", "default folder.*name the folder"),
    ],
)
def test_without_a_folder_it_is_looked_for_where_alp4lib_does(
    system: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_key(*_: object) -> None:
        raise FileNotFoundError("no such key")

    registry = SimpleNamespace(ConnectRegistry=lambda *_: None, OpenKey=open_key, HKEY_LOCAL_MACHINE=0)
    monkeypatch.setattr("ALP4._winreg", registry, raising=False)
    monkeypatch.setattr("platform.system", lambda: system)
    with pytest.raises(LibraryMissingError, match=where):
        open_alp("5.1")


def test_a_system_that_the_library_is_not_made_for_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    with pytest.raises(LibraryMissingError, match="on Linux and on Windows only"):
        open_alp("4.3", tmp_path)


def test_a_version_that_alp4lib_does_not_know_says_which_it_knows(tmp_path: Path) -> None:
    with pytest.raises(LibraryMissingError, match=r"knows no version 9\.9.*4\.1, 4\.2, 4\.3, 4\.4, 5\.0, 5\.1"):
        open_alp("9.9", tmp_path)


@pytest.mark.parametrize(
    ("file", "version"),
    [
        ("/opt/alp/libalp43.so", "4.3"),
        ("C:/Program Files/ALP-4.3/ALP-4.3 API/x64/alp4395.dll", "4.3"),
        ("C:\\ALP\\x64\\ALP44.DLL", "4.4"),
        ("/opt/alp/something.so", ""),
    ],
)
def test_the_file_that_was_loaded_tells_its_version(file: str, version: str) -> None:
    assert library_of(SimpleNamespace(_ALPLib=SimpleNamespace(_name=file))) == (file, version)


@pytest.mark.parametrize("version", ["4.1", "4.2", "4.3", "4.4", "5.0", "5.1"])
def test_the_names_of_the_libraries_are_alp4libs(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for system in ("Linux", "Windows"):
        monkeypatch.setattr("platform.system", lambda system=system: system)
        loaded: list[str] = []
        monkeypatch.setattr("ALP4.ct.CDLL", lambda path, loaded=loaded: loaded.append(path))
        open_alp(version, tmp_path)
        assert library_of(SimpleNamespace(_ALPLib=SimpleNamespace(_name=loaded[0])))[1] == version
