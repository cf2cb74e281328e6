"""Reads a series, finished or not."""

from __future__ import annotations

from pathlib import Path

from acquisition.acquisition_file import validate_acquisition
from acquisition.config import AcquisitionConfig
from acquisition.mda import SeriesEvent, pose_from, series_events
from acquisition.run_folder import StoredFolder
from acquisition.run_layout import SERIES_LAYOUT_VERSION, NotARunError, RunState, facts_of, open_run
from acquisition.stored_run import StoredRun
from devices.microscope import Pose


def is_series(path: Path) -> bool:
    """Whether a folder holds a series of images. False for whatever else it is, or where there is none."""
    try:
        return "series" in facts_of(open_run(path, "r"))
    except NotARunError:
        return False


def event_path(series: Path, event: SeriesEvent) -> Path:
    """The folder of an event's run."""
    return series / "events" / event.name


class StoredSeries(StoredFolder):
    """Reads one series, finished or not; its events are runs of their own."""

    def __init__(self, path: Path) -> None:
        """Open a series. Raises NotARunError."""
        super().__init__(path)
        found = self.facts.get("series")
        if found is None:
            raise NotARunError(f"{path} holds one run, expected a series of images (an acquisition file with `mda`)")
        if found != SERIES_LAYOUT_VERSION:
            raise NotARunError(
                f"{path} is a series in layout {found}, and this version reads layout {SERIES_LAYOUT_VERSION}: use the "
                f"version that wrote it ({self.facts.get('versions', {}).get('hadascope', 'unknown')})"
            )

    @property
    def config(self) -> AcquisitionConfig:
        """The acquisition file it was made with, its output where the series lies. Raises AcquisitionFileError."""
        config = validate_acquisition(self.facts["config"], source=f"the configuration stored in {self.path}")
        return config.replace(output=config.output.model_copy(update={"run": self.path}))

    @property
    def start_pose(self) -> Pose:
        """Where the microscope stood when the series began."""
        return pose_from(self.facts["start_pose"])

    @property
    def planned_events(self) -> tuple[SeriesEvent, ...]:
        """All events of the series, in the order in which they are acquired."""
        mda = self.config.mda
        if mda is None:
            raise NotARunError(f"{self.path}: its configuration names no sequence: the series is damaged")
        return series_events(mda, self.start_pose)

    @property
    def events(self) -> list[tuple[SeriesEvent, RunState | None]]:
        """Every event and how far it came; None where it has not begun, or its run cannot be read."""
        found: list[tuple[SeriesEvent, RunState | None]] = []
        for event in self.planned_events:
            try:
                run = self.run_of(event)
            except NotARunError:
                run = None
            found.append((event, None if run is None else run.state))
        return found

    def run_of(self, event: SeriesEvent) -> StoredRun | None:
        """The run of an event, None where it has not begun. Raises NotARunError where it is damaged."""
        path = event_path(self.path, event)
        if not path.exists():
            return None
        try:
            return StoredRun(path)
        except NotARunError as error:
            error.add_note(f"delete {path} to acquire this image again when the series is resumed")
            raise
