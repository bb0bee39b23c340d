"""`stakesim init` in four kinds of repository: what it finds, asks and writes."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from stakesim.commands.repository import find_contracts, find_repository
from stakesim.evm.contract_file import load_contract
from stakesim.paths import checkout
from stakesim.project import current_project

MINIMAL = (checkout() / "contracts" / "test" / "MinimalEventStake.sol").read_text()
STAKE = "contract Stake {\n    function bookEvent(uint256 run, uint256 seats) external payable {}\n}\n"
OTHER = "contract Token {\n    // function bookEvent is called by nobody\n    function mint() external {}\n}\n"

HEAD = "// SPDX-License-Identifier: MIT\npragma solidity ^0.8.20;\n"
REPOSITORIES: dict[str, dict[str, str]] = {
    "Foundry": {
        "foundry.toml": "[profile.default]\nsrc = 'solidity'\n",
        "remappings.txt": "base/=lib/base-contracts/\n",
        "lib/base-contracts/Base.sol": HEAD + STAKE.replace("Stake", "Base"),
        "solidity/Stake.sol": HEAD
        + 'import {Base} from "base/Base.sol";\n'
        + "contract Stake is Base { function bookEvent(uint256) external {} }\n",
        "solidity/Stake.t.sol": STAKE,
        "test/Stake.t.sol": STAKE,
    },
    "Hardhat": {
        "hardhat.config.ts": "export default {};\n",
        "package.json": "{}\n",
        "node_modules/base/Base.sol": HEAD + "abstract contract Base {}\n",
        "contracts/Stake.sol": HEAD + 'import "base/Base.sol";\n' + STAKE.replace("Stake", "Stake is Base"),
        "contracts/Token.sol": OTHER,
    },
    "Ape": {
        "ape-config.yaml": "name: stake\ncontracts_folder: chain\n",
        "chain/Stake.sol": HEAD + STAKE + OTHER,
    },
    "plain": {"contracts/Stake.sol": MINIMAL, "README.md": "# Stakes\n"},
}
CONTRACTS = {
    "Foundry": "solidity/Stake.sol:Stake",
    "Hardhat": "contracts/Stake.sol:Stake",
    "Ape": "chain/Stake.sol:Stake",
    "plain": "contracts/Stake.sol:MinimalEventStake",
}


@pytest.fixture(params=REPOSITORIES)
def repository(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Path]:
    write(tmp_path, REPOSITORIES[request.param])
    monkeypatch.chdir(tmp_path)
    return request.param, tmp_path


class Terminal(io.StringIO):
    """What somebody types."""

    def isatty(self) -> bool:
        return True


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def written(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*") if file.is_file()}


def test_the_kind_of_repository_and_its_contract_are_found(repository: tuple[str, Path]) -> None:
    kind, folder = repository
    assert find_repository(folder).kind == kind
    assert find_contracts(find_repository(folder), folder) == [CONTRACTS[kind]]


def test_without_a_terminal_it_writes_what_the_repository_needs(
    repository: tuple[str, Path], run_stakesim: Any
) -> None:
    kind, folder = repository
    before = written(folder)
    result = run_stakesim("init")
    assert (result.returncode, result.stdout.splitlines()[-1]) == (0, "now: stakesim run, and then stakesim gate")
    after = written(folder)
    assert before.items() <= after.items()
    new = {"pyproject.toml", "scenarios/one-no-show.yaml", ".github/workflows/stakesim.yml"}
    assert set(after) - set(before) == new
    project = current_project()
    assert project.contract == str(folder / CONTRACTS[kind])
    assert project.scenarios == folder / "scenarios"
    steps = yaml.safe_load(after[".github/workflows/stakesim.yml"])["jobs"]["stakesim"]["steps"]
    commands = [step["run"] for step in steps if "run" in step]
    assert ("npm ci" in commands, "git submodule update --init --recursive" in commands) == (
        kind == "Hardhat",
        kind == "Foundry",
    )
    if kind in ("Foundry", "Hardhat"):  # its imports are found as the repository's own tool finds them
        assert load_contract(project.contract).name == "Stake"
    again = run_stakesim("init")
    assert again.returncode == 2
    assert "has a section [tool.stakesim] already" in again.stderr
    assert written(folder) == after


@pytest.mark.parametrize(
    ("answers", "contract", "more"),
    [
        (["2", "y", "y"], "src/B.sol:B", {"stakesim_adapter.py", ".github/workflows/stakesim.yml"}),
        (["", "", ""], "src/A.sol:A", {".github/workflows/stakesim.yml"}),
        (["7", "0", "n", "n"], None, set()),
    ],
)
def test_it_asks_what_there_is(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run_stakesim: Any,
    answers: list[str],
    contract: str | None,
    more: set[str],
) -> None:
    write(tmp_path, {f"src/{name}.sol": STAKE.replace("Stake", name) for name in ("A", "B")})
    before = set(written(tmp_path))
    typed = Terminal("".join(f"{answer}\n" for answer in answers))
    monkeypatch.setattr(sys, "stdin", typed)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert run_stakesim("init", cwd=tmp_path).returncode == 0
    assert typed.read() == ""
    assert set(written(tmp_path)) - before == {"pyproject.toml", "scenarios/one-no-show.yaml"} | more
    assert current_project().contract == (str(tmp_path / contract) if contract else None)


def test_options_answer_the_questions(tmp_path: Path, run_stakesim: Any) -> None:
    write(tmp_path, {"a b/Stake.sol": STAKE, "app/pyproject.toml": "[project]\nname = 'x'"})
    shutil.copy(tmp_path / "app" / "pyproject.toml", tmp_path)
    missing = run_stakesim("init", "--contract", "Stake.sol", cwd=tmp_path)
    assert (missing.returncode, missing.stderr) == (
        2,
        "stakesim: There is no file Stake.sol: name another with --contract.\n",
    )
    assert not (tmp_path / "scenarios").exists()
    result = run_stakesim("init", "--contract", "a b/Stake.sol:Stake", "--backend", "--no-ci")
    assert result.returncode == 0
    assert set(written(tmp_path)) == {
        *("a b/Stake.sol", "app/pyproject.toml", "pyproject.toml"),
        *("scenarios/one-no-show.yaml", "stakesim_adapter.py"),
    }
    assert (tmp_path / "pyproject.toml").read_text().startswith("[project]\nname = 'x'\n")
    assert current_project().contract == str(tmp_path / "a b/Stake.sol:Stake")


def test_several_contracts_are_named_where_nobody_can_be_asked(tmp_path: Path, run_stakesim: Any) -> None:
    write(tmp_path, {f"{name}.sol": STAKE.replace("Stake", name) for name in ("A", "B")})
    result = run_stakesim("init", cwd=tmp_path)
    assert "has several stake contracts: A.sol:A, B.sol:B. Name one in pyproject.toml.\n" in result.stdout
    assert current_project().contract is None


def test_files_that_are_odd_are_no_hindrance(tmp_path: Path) -> None:
    write(tmp_path, {"foundry.toml": "src = [", "contracts/Deep.sol": "contract " * 1000, "loop/Stake.sol": STAKE})
    (tmp_path / "Binary.sol").write_bytes(b"\xff\xfe\x00contract")
    (tmp_path / "loop" / "loop").symlink_to(tmp_path)
    (tmp_path / "Gone.sol").symlink_to(tmp_path / "nowhere")
    repository = find_repository(tmp_path)
    assert (repository.kind, find_contracts(repository, tmp_path)) == ("Foundry", ["loop/Stake.sol:Stake"])
    (tmp_path / "foundry.toml").write_text("[profile.default]\nsrc = '../..'\n")
    assert find_repository(tmp_path).sources == tmp_path
    (tmp_path / "foundry.toml").unlink()
    (tmp_path / "ape-config.json").write_text(json.dumps([1]))
    assert find_repository(tmp_path).kind == "Ape"
