"""The README is true: its links lead somewhere, its YAML is valid, its commands are the ones that are tested."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from acquisition.acquisition_file import example_dry_run, validate_acquisition
from acquisition.mda import series_events
from acquisition.plan import summarize
from acquisition.preflight import check_dose
from acquisition.rehearsal import rehearsal_of
from acquisition.sensing_plan import plan_sensing
from tests.readme import README, yaml_example

ROOT = Path(__file__).parent.parent
MATHEMATICS = (ROOT / "docs" / "mathematics.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#]+)\)", README))))
def test_every_link_leads_to_something_here(target: str) -> None:
    assert (ROOT / target).exists()


@pytest.mark.parametrize("module", sorted(set(re.findall(r"`(\w+/\w+\.py)`", README + MATHEMATICS))))
def test_every_module_that_is_named_exists(module: str) -> None:
    assert (ROOT / module).is_file()


def test_the_bench_of_the_readme_can_be_planned_and_rehearsed() -> None:
    document = {**yaml.safe_load(example_dry_run().read_text(encoding="utf-8")), **yaml_example("sample")}
    config = validate_acquisition(document, "the README")
    assert not config.simulated
    assert rehearsal_of(config).simulated
    plan = plan_sensing(config, None)
    check_dose(config, plan)
    summary = summarize(config, plan, None)
    assert summary.forecast_psnr is not None
    assert summary.false_alarms is not None
    assert summary.false_alarms < 1e-6


def test_the_learned_sensing_of_the_readme_can_be_planned_on_simulated_devices() -> None:
    document = {**yaml.safe_load(example_dry_run().read_text(encoding="utf-8")), **yaml_example("sensing")}
    config = rehearsal_of(validate_acquisition(document, "the README"))
    plan = plan_sensing(config, None)
    assert plan.models.network is not None
    assert plan.mask.mean() == pytest.approx(config.sensing.alpha, rel=1e-3)


def test_the_series_of_the_readme_can_be_planned_on_simulated_devices() -> None:
    document = {**yaml.safe_load(example_dry_run().read_text(encoding="utf-8")), **yaml_example("mda")}
    config = rehearsal_of(validate_acquisition(document, "the README"))
    assert config.mda is not None
    assert {axis: n for axis, n in config.mda.sizes.items() if n} == {"t": 3, "p": 2, "c": 2, "z": 3}
    assert len(series_events(config.mda)) == 36


def test_continuous_integration_runs_the_test_command_of_the_readme() -> None:
    first_commands = re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)[0].strip().splitlines()
    set_up, test = first_commands
    assert set_up.endswith("hadascope dry-run")
    steps = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert test in steps
