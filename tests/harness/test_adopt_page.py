"""docs/ADOPT.md, followed literally from a folder with nothing else, by somebody whose contract has a bug."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from stakesim.evm.contract_file import load_contract, patched_sources
from stakesim.paths import checkout, state_dir

ROOT = checkout()
assert ROOT is not None
PAGE = (ROOT / "docs" / "ADOPT.md").read_text()
BUG = ("uint256 hostPayout = revenue - fee + forfeitsToHost;", "uint256 hostPayout = revenue + forfeitsToHost;")
"""The host is paid the platform's fee as well."""


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with nothing but a Foundry repository that has the contract."""
    source = tmp_path / "yours" / "src"
    source.mkdir(parents=True)
    (tmp_path / "yours" / "foundry.toml").write_text("[profile.default]\nsrc = 'src'\n")
    for name, text in patched_sources(*BUG).items():
        (source / name).write_text(text.replace("contract EventStake", "contract Stake"))
    (source / "EventStake.sol").rename(source / "Stake.sol")
    return tmp_path


def set_up_from_here(folder: Path) -> str:
    """Lines for bash that take the packages of these tests for those that `make setup` and pip install."""
    assert ROOT is not None
    programs = folder / "bin"
    programs.mkdir()
    (programs / "make").write_text(
        f"""#!/bin/bash -e
mkdir -p .venv/bin
ln -s {ROOT}/contracts/node_modules contracts/node_modules
printf '#!/bin/bash\\necho "$*" >> pip.log\\n' > .venv/bin/pip
printf '#!/bin/bash\\nPYTHONPATH=%s/harness exec {sys.executable} -m stakesim "$@"\\n' "$PWD" > .venv/bin/stakesim
chmod +x .venv/bin/*
"""
    )
    (programs / "make").chmod(0o755)
    return f"PATH={programs}:$PATH\n"


@pytest.mark.in_turn
@pytest.mark.slow
def test_the_page_leads_from_nothing_to_the_bug(folder: Path, profile: str) -> None:
    """In the deep profile it installs all and gives the gate its whole time; in the quick one there is no gate."""
    commands = "".join(blocks("sh"))
    assert [line.split()[0] for line in commands.splitlines()] == [
        *("git", "cd", "make", ".venv/bin/pip", "export", "cd", "stakesim", "stakesim", "stakesim")
    ]
    script = commands.replace("THIS-REPOSITORY", f"-q file://{ROOT}")
    if profile != "deep":
        gate = "stakesim gate --for 1s" if profile == "ci" else ""
        script = set_up_from_here(folder) + re.sub("^stakesim gate$", gate, script, flags=re.MULTILINE)
        load_contract(f"{folder}/yours/src/Stake.sol:Stake")  # into the cache, by a compiler that is warm
    state = str(folder / "state") if profile == "deep" else str(state_dir())
    inherited = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "HOME")}
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=inherited | {"STAKESIM_HOME": state},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    yours = folder / "yours"
    assert done.returncode == 1, done.stdout + done.stderr  # of the last command
    assert "now: stakesim run, and then stakesim gate" in done.stdout
    ran, gated = done.stdout.split("\nFINDINGS ")
    assert "WEAKNESS: a host gets too much" in ran
    if profile != "quick":
        assert "WEAKNESS: a host gets too much" in gated
        assert "Do not deploy it: " in gated
        assert (yours / "reports" / "gate" / "report.html").is_file()
    (section,) = blocks("toml")[:1]
    assert tomllib.loads(section).items() <= tomllib.loads((yours / "pyproject.toml").read_text()).items()


def test_the_pages_workflow_and_hook_are_those_of_the_repository() -> None:
    assert ROOT is not None
    workflow, hooks = map(yaml.safe_load, blocks("yaml"))
    (step,) = [step for step in workflow["jobs"]["gate"]["steps"] if "OWNER" in step["uses"]]
    assert set(step["with"]) <= set(yaml.safe_load((ROOT / "action.yml").read_text())["inputs"])
    assert workflow["permissions"] == {"contents": "read", "security-events": "write"}
    used = {hook["id"] for repository in hooks["repos"] for hook in repository["hooks"]}
    assert used <= {hook["id"] for hook in yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())}
