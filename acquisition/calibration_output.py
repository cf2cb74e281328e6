"""Where a calibration goes: its JSON file, the raw readings, and the plot, side by side under one name."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from acquisition.config import AcquisitionConfig
from acquisition.preflight import check_writable
from acquisition.problems import AcquisitionFileError, Problem
from acquisition.run_layout import existing_output


@dataclass(frozen=True)
class CalibrationOutput:
    """file: the calibration itself, JSON; raw, picture: zarr folder and PNG beside it, of the same name."""

    file: Path

    @classmethod
    def of(cls, config: AcquisitionConfig, kind: str, asked: Path | None, *, rehearsed: bool) -> CalibrationOutput:
        """Where ``asked`` says, or beside the acquisition's run under its name. Raises AcquisitionFileError.

        rehearsed: on simulated devices instead of the file's real ones, whose calibration it must not replace.
        """
        if asked is None:
            run = config.output.run
            ending = f"{kind}.rehearsed.json" if rehearsed else f"{kind}.json"
            return cls(run.with_name(f"{run.name.removesuffix('.zarr')}.{ending}"))
        if asked.suffix.lower() != ".json":
            problem = Problem("--output", f"'{asked}'", "a file to write that ends in .json")
            raise AcquisitionFileError("the calibration's output", [problem])
        return cls(asked)

    @classmethod
    def beside(cls, raw: Path) -> CalibrationOutput:
        """The output whose raw readings lie in a folder. Raises AcquisitionFileError unless it is called so."""
        folder = raw.resolve()
        if folder.suffix.lower() != ".zarr":
            problem = Problem("RAW", f"'{raw}'", "the folder of raw readings beside a calibration, which ends in .zarr")
            raise AcquisitionFileError("the command line", [problem])
        return cls(folder.with_suffix(".json"))

    @property
    def raw(self) -> Path:
        """Folder of the raw readings (zarr)."""
        return self.file.with_suffix(".zarr")

    @property
    def picture(self) -> Path:
        """The plot."""
        return self.file.with_suffix(".png")

    @property
    def readout(self) -> Path:
        """A stability calibration's readout time of the camera (devices.detector.readout_calibration)."""
        return self.file.with_suffix(".readout.json")

    def check(self, kind: str, *, simulated: bool, overwrite: bool) -> None:
        """See that all of it can be written, and replaces nothing but an earlier calibration of the same kind.

        simulated: whether stand-ins are calibrated; of real devices nothing is replaced by that. Raises
        OutputExistsError, NotARunError, OSError.
        """
        check_writable(self.raw, (self.file, self.picture, self.readout), overwrite=overwrite, recipe=kind)
        if simulated and self._is_real():
            raise existing_output(self.file, "a calibration of real devices, which a rehearsal does not replace,")

    def forget(self) -> None:
        """Remove what an earlier calibration left here: it does not belong to the readings that come now."""
        for path in (self.file, self.picture, self.readout):
            path.unlink(missing_ok=True)

    def _is_real(self) -> bool:
        try:
            found = json.loads(self.file.read_text(encoding="utf-8"))
            return found["identity"]["simulated"] is False
        except (OSError, ValueError, KeyError, TypeError):
            return False
