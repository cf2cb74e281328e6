"""How to get at a Micro-Manager core, a running Micro-Manager's or one in this process, and how to leave it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

from devices.errors import (
    DeviceError,
    DeviceNotFoundError,
    DeviceSilentError,
    DeviceStateError,
    InterfaceMismatchError,
    LibraryMissingError,
    MicroManagerCallError,
)

DEFAULT_PORT = 4827
_SMALLEST_BUFFER_MB: Final = 1


def connect_core(port: int = DEFAULT_PORT, timeout_s: float = 2.0, call_timeout_s: float = 5.0) -> Any:
    """The core of a Micro-Manager that runs on this computer with its server on ``port``; leave it by ``close_core``.

    Its methods are those of pycromanager's Core; lists of names come as lists, and rectangles as [x, y, width, height],
    as from a core in this process. No call of any of them waits longer than ``call_timeout_s`` (see
    devices.micromanager_bridge): a server that vanishes in the middle of a call raises DeviceNotFoundError, one that
    hangs DeviceSilentError, and neither leaving the core nor the interpreter's exit waits for it. What Micro-Manager
    itself refuses is a MicroManagerCallError.

    Raises DeviceNotFoundError where nothing listens, or what listens is no Micro-Manager.
    """
    if call_timeout_s <= 0 or timeout_s <= 0:
        raise ValueError(f"time-outs of {timeout_s} s and {call_timeout_s} s were asked for; allowed: more than 0 s")
    _must_listen(port, timeout_s)
    from devices.micromanager_bridge import BoundedBridge

    bridge = BoundedBridge(port, timeout_s, call_timeout_s)
    try:
        return bridge._construct_java_object("mmcorej.CMMCore")
    except DeviceError as error:
        bridge.abandon()
        raise DeviceNotFoundError(
            f"what listens on port {port} gives no Micro-Manager core ({error}); update Micro-Manager, or correct the "
            "port in the acquisition file"
        ) from error


def close_core(core: Any) -> None:
    """Let go of a remote core, whose Micro-Manager goes on running; closing twice is closing once.

    A core in this process is left to who started it (see ``stop_core``). Raises DeviceNotFoundError where the server
    has gone and DeviceSilentError where it did not answer; nothing is left to let go of then, and nothing waits.
    """
    if not is_remote(core) or core._closed:
        return
    bridge = core._bridge
    try:
        must_be_reachable(core)
        if bridge.is_silent:
            raise DeviceSilentError(
                f"the Micro-Manager server on port {bridge.port} did not answer its last call, and was left without "
                "a good-bye: look at the devices, and restart Micro-Manager where it stays so"
            )
    except DeviceError:
        bridge.abandon()
        raise
    core._close()
    bridge.close()


def must_be_reachable(core: Any, timeout_s: float = 2.0) -> None:
    """Look whether the server of a remote core still listens; a core in this process is always reachable.

    A server that hangs cannot be told from one that works before it is called. Raises DeviceNotFoundError.
    """
    if not is_remote(core):
        return
    port = core._creation_port
    try:
        _connect(port, timeout_s)
    except OSError as error:
        raise DeviceNotFoundError(
            f"the Micro-Manager server on port {port} has gone ({error}): what it drove is as it was, a shutter "
            "perhaps open and a camera perhaps armed; look at them, and start Micro-Manager again"
        ) from error


@contextmanager
def calls_may_take(core: Any, timeout_s: float) -> Iterator[None]:
    """Inside of it, a call of a remote core may take so long before it counts as not answered, if that is longer.

    For what moves: some adapters return when a stage has arrived. A core in this process has no time-out.
    """
    if not is_remote(core):
        yield
        return
    bridge = core._bridge
    before_s = bridge.call_timeout_s
    bridge.call_timeout_s = max(before_s, timeout_s)
    try:
        yield
    finally:
        bridge.call_timeout_s = before_s


def start_core(app_path: Path | None, config_file: Path | None = None, buffer_mb: int = 64) -> Any:
    """A core in this process, with the devices of ``config_file`` (None: no device); end it by ``stop_core``.

    app_path: the folder of the device adapters, which is Micro-Manager's own; None looks where its installer puts it.
    config_file: relative to the current folder, as everywhere, not to ``app_path``. buffer_mb: size of the circular
    buffer in MB; for small frames MMCore takes nearly twice the memory.

    It is pycromanager's Python backend without the acquisition engine that ``start_headless`` adds, which would hold on
    to the first core for ever; ``pycromanager.Core()`` finds it.

    Raises LibraryMissingError where the folder, the file or an adapter that the file names is missing,
    InterfaceMismatchError where the adapters were built for another device interface than pymmcore,
    MicroManagerCallError where a device does not start, and DeviceStateError where this process has a core already.
    """
    from mmpycorex import is_pymmcore_active
    from mmpycorex.launcher import _PYMMCORES

    if is_pymmcore_active():
        raise DeviceStateError(
            "this process has a Micro-Manager core already, and cameras cannot be shared between two: use that one, or "
            "end it first (stop_core, or pycromanager's stop_headless)"
        )
    if buffer_mb < _SMALLEST_BUFFER_MB:
        raise ValueError(f"a circular buffer of {buffer_mb} MB was asked for; allowed: 1 MB or more")
    folder = _adapter_folder(app_path)
    # pycromanager takes an empty name for one relative to the folder, and any relative one too.
    config = None if config_file is None else config_file.resolve()
    if config is not None and not config.is_file():
        raise LibraryMissingError(f"there is no Micro-Manager configuration {config}; correct config_file")
    core = _core_class()()
    try:
        core.set_device_adapter_search_paths([str(folder)])
        core.set_circular_buffer_memory_footprint(buffer_mb)
    except _MMCORE_ERRORS as error:
        raise MicroManagerCallError(
            f"Micro-Manager's core did not start with a circular buffer of {buffer_mb} MB: {error}"
        ) from error
    _PYMMCORES.append(core)  # where pycromanager finds it, and ends it with the interpreter
    if config is not None:
        try:
            core.load_system_configuration(str(config))
        except _MMCORE_ERRORS as error:
            stop_core(core)
            raise _why_not_loaded(str(error), folder, config) from error
    return core


def stop_core(core: Any) -> None:
    """End a core that ``start_core`` started: its devices are unloaded. Stopping twice is stopping once.

    Raises MicroManagerCallError where a device does not let go; the core has ended all the same.
    """
    from mmpycorex.launcher import _PYMMCORES

    if not any(core is each for each in _PYMMCORES):
        return
    _PYMMCORES[:] = [each for each in _PYMMCORES if each is not core]
    try:
        if core.get_camera_device() and core.is_sequence_running():
            core.stop_sequence_acquisition()  # devices are not unloaded before
        core.unload_all_devices()
    except _MMCORE_ERRORS as error:
        raise MicroManagerCallError(f"Micro-Manager could not unload its devices: {error}; restart Python") from error
    finally:
        # Whoever still holds the core does not hold the memory of its frames.
        core.set_circular_buffer_memory_footprint(_SMALLEST_BUFFER_MB)


def is_remote(core: Any) -> bool:
    """Whether calls of this core go over a port."""
    return hasattr(core, "_java_class")


# What pymmcore raises, depending on the cause; SystemError where a frame is popped that is not there.
_MMCORE_ERRORS: Final = (RuntimeError, ValueError, OSError, MemoryError, SystemError)


@cache
def _core_class() -> Any:
    """The core of pycromanager in this process: MMCore with its methods in snake case.

    mmpycorex makes this class anew for every core, and pymmcore keeps each for ever (30 kB); and it hangs the methods
    for tagged images on the core itself, which would then wait for the garbage collector.
    """
    from mmpycorex import launcher

    tagged = {name: getattr(launcher, name) for name in ("pop_next_tagged_image", "get_tagged_image", "TaggedImage")}
    return type("InProcessCore", (type(launcher._create_pymmcore_instance()),), tagged)


def _adapter_folder(app_path: Path | None) -> Path:
    if app_path is None:
        from mmpycorex import find_existing_mm_install

        try:
            app_path = Path(find_existing_mm_install())
        except (FileNotFoundError, ValueError) as error:
            raise LibraryMissingError(
                f"Micro-Manager is not where its installer puts it on this system ({error}); name its folder (app_path)"
            ) from error
    folder = app_path.resolve()
    if not folder.is_dir():
        raise LibraryMissingError(f"there is no folder {folder}; app_path must name Micro-Manager's own")
    if not any(_adapters(folder)):
        raise LibraryMissingError(
            f"the folder {folder} holds no device adapter (mmgr_dal_*.dll, libmmgr_dal_*); app_path must name "
            "Micro-Manager's own folder"
        )
    return folder


def _adapters(folder: Path) -> list[str]:
    """Names of the device adapters in a folder."""
    files = [*folder.glob("mmgr_dal_*"), *folder.glob("libmmgr_dal_*")]
    return sorted({each.name.split("mmgr_dal_", 1)[1].split(".")[0] for each in files})


def _why_not_loaded(text: str, folder: Path, config: Path) -> DeviceError:
    from pymmcore import __version__

    text, there = " ".join(text.split()), _adapters(folder)
    wanted = {
        parts[2].strip()
        for line in config.read_text(encoding="utf-8", errors="replace").splitlines()
        if len(parts := line.split(",")) == 4 and parts[0].strip() == "Device"
    }
    if missing := sorted(wanted - set(there)):
        return LibraryMissingError(
            f"{config} names device adapters that are not in {folder}: {', '.join(missing)} (there are "
            f"{', '.join(there)}); correct app_path or config_file. Micro-Manager: {text}"
        )
    if "interface version" in text or "ncompatible" in text:
        return InterfaceMismatchError(
            f"the device adapters in {folder} were built for another device interface than pymmcore {__version__} "
            f"(the fourth number of its version says which): install the pymmcore that fits this Micro-Manager. "
            f"Micro-Manager: {text}"
        )
    return MicroManagerCallError(f"Micro-Manager could not load {config} with the adapters in {folder}: {text}")


def _connect(port: int, timeout_s: float) -> None:
    socket.create_connection(("127.0.0.1", port), timeout_s).close()


def _must_listen(port: int, timeout_s: float) -> None:
    """Look with a plain connection first: it tells at once that nothing listens."""
    try:
        _connect(port, timeout_s)
    except OSError as error:
        raise DeviceNotFoundError(
            f"nothing listens on port {port} of this computer ({error}); start Micro-Manager and tick "
            "Tools › Options › Run server on port, or correct the port in the acquisition file"
        ) from error
