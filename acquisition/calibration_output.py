"""Where a calibration goes: its JSON file, the raw readings, and the plot, side by side under one name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from acquisition.config import AcquisitionConfig
from acquisition.preflight import check_writable
from acquisition.problems import AcquisitionFileError, Problem


@dataclass(frozen=True)
class CalibrationOutput:
    """file: the calibration itself, JSON; raw, picture: zarr folder and PNG beside it, of the same name."""

    file: Path

    @classmethod
    def of(cls, config: AcquisitionConfig, kind: str, asked: Path | None) -> CalibrationOutput:
        """Where ``asked`` says, or beside the acquisition's run under its name. Raises AcquisitionFileError."""
        if asked is None:
            run = config.output.run
            return cls(run.with_name(f"{run.name.removesuffix('.zarr')}.{kind}.json"))
        if asked.suffix.lower() != ".json":
            problem = Problem("--output", f"'{asked}'", "a file to write that ends in .json")
            raise AcquisitionFileError("the calibration's output", [problem])
        return cls(asked)

    @classmethod
    def beside(cls, raw: Path) -> CalibrationOutput:
        """The output whose raw readings lie in a folder."""
        return cls(raw.with_suffix(".json"))

    @property
    def raw(self) -> Path:
        """Folder of the raw readings (zarr)."""
        return self.file.with_suffix(".zarr")

    @property
    def picture(self) -> Path:
        """The plot."""
        return self.file.with_suffix(".png")

    def check(self, *, overwrite: bool) -> None:
        """See that all of it can be written. Raises OutputExistsError, NotARunError, OSError."""
        check_writable(self.raw, (self.file, self.picture), overwrite=overwrite)

    def forget(self) -> None:
        """Remove what an earlier calibration left here: it does not belong to the readings that come now."""
        for path in (self.file, self.picture):
            path.unlink(missing_ok=True)
