"""Failures that `stakesim run` found are replayed first in its next run; `--keep` makes regressions of them."""

from __future__ import annotations

import json

import pytest
from stakesim.campaign import failure_cache
from stakesim.campaign.failure_cache import FailureCache, keep
from stakesim.campaign.result import CampaignResult
from stakesim.evm.compiler import compile_contracts
from stakesim.paths import shipped
from stakesim.runner.findings import Finding
from stakesim.runner.scenario_result import ScenarioResult
from stakesim.scenario.scenario import load

from tests.harness.plainly_patched import plainly_patched

SOUND = "uint256 fee = revenue * FEE_BPS / BPS;"
BROKEN = "uint256 fee = revenue * FEE_BPS / BPS + 1;"
"""The platform takes a wei too much."""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with a broken contract, scenarios of its own, and a state directory of its own for failures alone."""
    (tmp_path / "pyproject.toml").write_text('[tool.stakesim]\ncontract = "Stake.json"\nscenarios = "scenarios"\n')
    (tmp_path / "scenarios").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(failure_cache, "state_dir", lambda: tmp_path / "state")
    use(tmp_path, plainly_patched(SOUND, BROKEN))
    return tmp_path


def use(project, artifact) -> None:
    fields = {"contractName": artifact.name, "abi": artifact.abi, "bytecode": artifact.bytecode}
    (project / "Stake.json").write_text(json.dumps(fields))


@pytest.fixture
def stakesim(run_stakesim):
    """`stakesim run` in this process, on the contract alone."""
    return lambda *args: run_stakesim("run", *args, "--driver", "contract")


def kept(project) -> list[str]:
    return sorted(file.stem for file in (project / "state").rglob("*.yaml"))


def regressions(project) -> list[str]:
    return sorted(file.stem for file in (project / "scenarios").rglob("*.yaml"))


@pytest.mark.in_turn
@pytest.mark.slow
def test_a_failure_is_replayed_first_until_it_is_mended(project, stakesim):
    found = stakesim("calm", "--runs", "2")
    assert found.returncode == 1
    [name] = kept(project)
    assert regressions(project) == []
    assert f"state/failures/{project.name}-" in found.stdout  # the command that replays it
    assert "kept failures" not in stakesim("everybody-comes").stdout  # what is named is run alone
    again = stakesim("calm", "--runs", "1", "--seed", "5")
    assert again.stdout.startswith("1 kept failures are replayed first\n")
    first, second = (line.split()[:2] for line in again.stdout.splitlines()[2:4])
    assert (first[0], second) == (name, ["random:", "calm"])
    assert again.returncode == 1
    assert kept(project) == [name]

    use(project, compile_contracts()["EventStake"])
    mended = stakesim("calm", "--runs", "1")
    assert mended.returncode == 0
    assert f"fails no longer, and is forgotten: {name}\n" in mended.stdout
    assert kept(project) == []
    assert "kept failures" not in stakesim("calm", "--runs", "1").stdout


def test_a_regression_expects_nothing_of_its_own(tmp_path):
    """A scenario file that fails is not shrunk if the contract is the packaged one."""
    scenario = load(shipped("scenarios") / "wrong-callers.yaml")
    assert scenario.strict
    assert any(action.fails for action in scenario.actions)
    step = len(scenario.actions)
    findings = [Finding("INV-14", "", "", scenario, step=step), Finding("EXPECTATION", "", "", scenario, step=step)]
    keep(CampaignResult([ScenarioResult(scenario, "py-evm", "contract", findings)], list(findings)), tmp_path)
    regression = load(tmp_path / "inv-14-wrong-callers.yaml")
    assert (regression.strict, regression.received) == (False, {})
    assert [action.fails for action in regression.actions] == [None] * step


@pytest.mark.in_turn
@pytest.mark.slow
def test_a_failure_that_is_kept_becomes_a_regression(project, stakesim):
    text = (shipped("scenarios") / "no-show.yaml").read_text().replace('"460000000000000000"', '"1"')
    (project / "scenarios" / "no-show.yaml").write_text(text)
    assert stakesim("no-show", "--keep").returncode == 1
    [name] = [name for name in regressions(project) if name != "no-show"]
    assert stakesim(f"scenarios/regressions/{name}.yaml").returncode == 1
    use(project, compile_contracts()["EventStake"])
    assert stakesim(f"scenarios/regressions/{name}.yaml").returncode == 0


@pytest.mark.slow
def test_a_wrong_expectation_of_the_users_own_is_neither_replayed_nor_kept(project, stakesim):
    use(project, compile_contracts()["EventStake"])
    text = (shipped("scenarios") / "no-show.yaml").read_text()
    wrong = {
        "an-amount": ('"460000000000000000"', '"1"'),
        "an-error": ("attended: [a1]}", "attended: [a1], fails: TooEarly}"),
        "no-error": ("at: 2d, do: book", "at: 7d, do: book"),
    }
    for name, (old, new) in wrong.items():
        assert old in text
        changed = text.replace(old, new).replace("name: no-show", f"name: {name}")
        (project / "scenarios" / f"{name}.yaml").write_text(changed)
    failed = stakesim(*wrong, "--keep")
    assert failed.returncode == 1
    assert "EXPECTATION is broken" in failed.stdout
    assert kept(project) == []
    assert regressions(project) == sorted(wrong)


@pytest.mark.slow
def test_each_contract_and_each_driver_has_failures_of_its_own(project, stakesim):
    folders = {
        FailureCache(contract, driver).folder
        for contract in (None, "Stake.json", "other/Stake.json", "Stake.sol:One", "Stake.sol:Two")
        for driver in (None, "contract", "api")
    }
    assert len(folders) == 15
    assert FailureCache("Stake.json", None).folder == FailureCache(str(project / "Stake.json"), None).folder
    refused = stakesim("calm", "--keep", "--contract", "Stake.json")
    assert refused.returncode == 2
    assert "--keep is for failures of the project's own contract" in refused.stderr


@pytest.mark.slow
def test_a_failure_in_a_format_of_another_version_is_forgotten(project):
    cache = FailureCache(None, None)
    cache.folder.mkdir(parents=True)
    (cache.folder / "old.yaml").write_text("schema_version: 0\nname: old\n")
    assert cache.scenarios() == []
    assert kept(project) == []
