"""The GitHub action, the workflows and the pre-commit hook: well-formed by GitHub's rules, and their commands run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from stakesim.commands.cli import cli
from stakesim.commands.init import DEPENDENCIES
from stakesim.paths import checkout, package_data

ROOT = checkout()
assert ROOT is not None
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
STARTER = package_data("starter") / "stakesim.yml"
WORKFLOWS = [*sorted((ROOT / ".github" / "workflows").glob("*.yml")), STARTER]

KEYS = {
    "action": {"name", "author", "description", "inputs", "outputs", "runs", "branding"},
    "input": {"description", "required", "default", "deprecationMessage"},
    "output": {"description", "value"},
    "workflow": {"name", "run-name", "on", "permissions", "env", "defaults", "concurrency", "jobs"},
    "job": {
        *("name", "needs", "permissions", "runs-on", "environment", "concurrency", "outputs", "env", "defaults", "if"),
        *("steps", "timeout-minutes", "strategy", "continue-on-error", "container", "services", "uses", "with"),
        "secrets",
    },
    "step": {
        *("id", "if", "name", "uses", "run", "working-directory", "shell", "with", "env", "continue-on-error"),
        "timeout-minutes",
    },
    "hook": {
        *("id", "name", "entry", "language", "files", "exclude", "types", "types_or", "exclude_types", "stages"),
        *("always_run", "fail_fast", "verbose", "pass_filenames", "require_serial", "description", "args"),
        *("additional_dependencies", "language_version", "minimum_pre_commit_version", "log_file"),
    },
}
"""Keys that GitHub and pre-commit document."""
EVENTS = {"push", "pull_request", "schedule", "workflow_dispatch"}
PERMISSIONS = {"contents", "pull-requests", "security-events", "actions", "checks", "issues", "id-token", "pages"}
CONTEXTS = {"github", "inputs", "runner", "steps", "env", "secrets", "job", "matrix", "needs", "vars", "strategy"}
FUNCTIONS = {"always", "success", "failure", "cancelled", "hashFiles", "format", "contains", "startsWith", "toJSON"}


def workflow(file: Path) -> dict[str, Any]:
    content = yaml.safe_load(file.read_text())
    return {"on" if key is True else key: value for key, value in content.items()}  # YAML 1.1 reads `on` as true


def steps_of(content: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for job in content["jobs"].values():
        yield from job["steps"]


def all_steps() -> Iterator[tuple[str, dict[str, Any]]]:
    for step in ACTION["runs"]["steps"]:
        yield "action.yml", step
    for file in WORKFLOWS:
        for step in steps_of(workflow(file)):
            yield file.name, step


def expressions(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield from re.findall(r"\$\{\{(.*?)\}\}", value, re.DOTALL)
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from expressions(each)
    elif isinstance(value, list):
        for each in value:
            yield from expressions(each)


def test_the_action_has_the_keys_of_a_composite_action() -> None:
    assert set(ACTION) <= KEYS["action"]
    assert ACTION["runs"]["using"] == "composite"
    assert all(set(each) <= KEYS["input"] and each["description"] for each in ACTION["inputs"].values())
    assert all(isinstance(each["default"], str) for each in ACTION["inputs"].values())
    assert all(set(each) == KEYS["output"] for each in ACTION["outputs"].values())
    assert all("shell" in step for step in ACTION["runs"]["steps"] if "run" in step)


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_a_workflow_has_the_keys_of_one(file: Path) -> None:
    content = workflow(file)
    assert set(content) <= KEYS["workflow"]
    assert set(content["on"]) <= EVENTS
    for each in (content, *content["jobs"].values()):
        assert set(each.get("permissions", {})) <= PERMISSIONS
    for job in content["jobs"].values():
        assert set(job) <= KEYS["job"]
        assert {"runs-on", "steps", "timeout-minutes"} <= set(job)
        assert {*[job.get("needs", [])]} <= set(content["jobs"]) if isinstance(job.get("needs"), str) else True
    for schedule in content["on"].get("schedule") or []:
        assert re.fullmatch(r"[\d*/,-]+( [\d*/,-]+){4}", schedule["cron"])


@pytest.mark.parametrize(("file", "step"), list(all_steps()), ids=lambda each: each if isinstance(each, str) else "")
def test_a_step_is_well_formed_and_takes_nothing_into_its_commands(file: str, step: dict[str, Any]) -> None:
    """What an attacker may write, as the name of a branch, reaches commands as variables."""
    assert set(step) <= KEYS["step"]
    assert ("run" in step) != ("uses" in step)
    if "uses" in step:
        assert re.fullmatch(r"[\w.-]+/[\w./-]+@(v\d+|[0-9a-f]{40})", step["uses"])
        return
    assert set(step["run"].split()) & {"${{"} == set() or step["run"].startswith("gh pr comment")
    checked = subprocess.run(["bash", "-n"], input=step["run"], capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_expressions_name_inputs_steps_and_contexts_that_exist() -> None:
    ids = {step["id"] for step in ACTION["runs"]["steps"] if "id" in step}
    found = [*expressions(ACTION), *(step["if"] for step in ACTION["runs"]["steps"] if "if" in step)]
    assert {name for each in found for name in re.findall(r"\binputs\.([\w-]+)", each)} == set(ACTION["inputs"])
    assert {name for each in found for name in re.findall(r"\bsteps\.([\w-]+)", each)} <= ids
    for content in (ACTION, *map(workflow, WORKFLOWS)):
        for each in expressions(content):
            words = re.findall(r"(?<![.\w'-])([a-zA-Z]\w*)(?=[.(])", re.sub(r"'[^']*'", "''", each))
            assert set(words) <= CONTEXTS | FUNCTIONS


def test_the_hook_checks_scenarios() -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert {"id", "name", "entry", "language"} <= set(hook) <= KEYS["hook"]
    program, command = hook["entry"].split()
    assert program == "stakesim"
    assert command in typer.main.get_command(cli).commands  # type: ignore[attr-defined]
    for path, is_checked in {
        "scenarios/no-show.yaml": True,
        "contracts/stakesim-scenarios/regressions/inv-01.yml": True,
        "myscenarios/values.yaml": False,
        "chart/values.yaml": False,
    }.items():
        assert bool(re.search(hook["files"], path)) is is_checked


class Runner:
    """Runs the commands of steps as GitHub's runner does: expressions filled in, with its shells, variables, files."""

    def __init__(self, folder: Path, event: str = "push", **inputs: str) -> None:
        self.folder = folder
        for name in ("home", "temp", "workspace", "bin"):
            (folder / name).mkdir()
        defaults = {name: each["default"] for name, each in ACTION["inputs"].items()}
        self.inputs = defaults | {name.replace("_", "-"): value for name, value in inputs.items()}
        self.steps: dict[str, dict[str, str]] = {}
        self.github = {"event_name": event, "sha": "0123456789abcdef" * 2, "run_id": "9876543210", "repository": "a/b"}

    def value(self, expression: str) -> Any:
        """The value of an expression with `&&`, `||`, `==` and names."""
        text = re.sub(
            r"'[^']*'|[\w.-]+|&&|\|\|", self._python, expression.replace("success() || failure()", "always()")
        )
        return eval(text)

    def _python(self, match: re.Match[str]) -> str:
        word = match[0]
        if word in ("&&", "||"):
            return " and " if word == "&&" else " or "
        if word.startswith("'"):
            return repr(word[1:-1])
        context, _, name = word.partition(".")
        if context == "steps":
            step, _, output = name.partition(".outputs.")
            return repr(self.steps.get(step, {}).get(output, ""))
        names = {"github": self.github, "inputs": self.inputs, "runner": {"os": "Linux", "arch": "X64"}}
        if word in ("always", "success", "failure"):
            return "(lambda: True)"
        return repr(names.get(context, {}).get(name, ""))

    def filled(self, text: str) -> str:
        return re.sub(r"\$\{\{(.*?)\}\}", lambda match: str(self.value(match[1])), text)

    def run(self, step: Mapping[str, Any], env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Runs a step, and keeps its outputs."""
        script, output = self.folder / "temp" / "script.sh", self.folder / "temp" / "output"
        script.write_text(self.filled(step["run"]))
        output.write_text("")
        options = ["--noprofile", "--norc", "-eo", "pipefail"] if step.get("shell") == "bash" else ["-e"]
        given = {name: self.filled(str(value)) for name, value in {**(env or {}), **step.get("env", {})}.items()}
        done = subprocess.run(
            ["bash", *options, script],
            cwd=self.folder / "workspace" / self.filled(step.get("working-directory", ".")),
            env={
                "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
                "HOME": str(self.folder / "home"),
                "GITHUB_ACTION_PATH": str(ROOT),
                "GITHUB_OUTPUT": str(output),
                "GITHUB_STEP_SUMMARY": str(self.folder / "summary"),
                "GITHUB_SHA": self.github["sha"],
                "GITHUB_RUN_ID": self.github["run_id"],
                "GITHUB_RUN_ATTEMPT": "2",
                "STAKESIM_HOME": os.environ.get("STAKESIM_HOME", ""),
                **given,
            },
            capture_output=True,
            text=True,
        )
        self.steps[step.get("id", "")] = dict(line.split("=", 1) for line in output.read_text().splitlines())
        return done

    def program(self, path: Path, *lines: str) -> Path:
        """Writes a program that notes its arguments in a file of its name."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(["#!/bin/bash", f'(IFS="|"; echo "$*") >> {self.folder}/{path.name}.log', *lines]))
        path.chmod(0o755)
        return path

    def calls(self, name: str) -> list[str]:
        """The arguments of each call of a program, with blanks between them and `_` for blanks in them."""
        log = self.folder / f"{name}.log"
        return log.read_text().replace(" ", "_").replace("|", " ").splitlines() if log.exists() else []


def action_step(name: str) -> dict[str, Any]:
    return next(step for step in ACTION["runs"]["steps"] if name in (step.get("id"), step.get("name")))


def test_the_action_installs_the_lock_once_and_itself_each_time(tmp_path: Path) -> None:
    runner = Runner(tmp_path)
    locked = runner.run(action_step("lock"))
    assert re.fullmatch("[0-9a-f]{16}", runner.steps["lock"]["hash"]), locked.stderr
    copy_itself = 'if [ "$2" = venv ]; then mkdir -p "$4/bin"; ln -sf "$0" "$4/bin/python"; fi'
    python = runner.program(tmp_path / "bin" / "python-of-the-tools", copy_itself)
    runner.steps["python"] = {"python-path": str(python)}
    for hit in ("", "true"):
        runner.steps["cache"] = {"cache-hit": hit}
        done = runner.run(action_step("Install stakesim"))
        assert done.returncode == 0, done.stderr
    made, *installed = runner.calls("python-of-the-tools")
    assert made == f"-m venv --clear {tmp_path}/home/.cache/stakesim-action"
    own = f"-m pip install -q --disable-pip-version-check --no-deps --no-build-isolation {ROOT}"
    lock = f"-m pip install -q --disable-pip-version-check --require-hashes -r {ROOT}/requirements/gate.txt"
    assert installed == [lock, own, own]
    assert (ROOT / "requirements" / "gate.txt").is_file()


@pytest.mark.parametrize(
    ("event", "inputs", "arguments"),
    [
        ("push", {}, "gate --seed 1193046 --out reports/stakesim --profile pr"),
        ("schedule", {"profile": "nightly"}, "gate --seed 98765432102 --out reports/stakesim --profile nightly"),
        (
            "pull_request",
            {"contract": "src/A B.sol:Stake", "time": "20m", "seed": "fresh", "arguments": "-j 1"},
            "gate -j 1 --seed 98765432102 --out reports/stakesim --contract src/A_B.sol:Stake --profile pr --for 20m",
        ),
        (
            "push",
            {"command": "run", "arguments": "calm  --runs 5", "seed": "7", "out": "to", "contract": "$(touch x)"},
            "run calm --runs 5 --seed 7 --out to --contract $(touch_x)",
        ),
    ],
)
@pytest.mark.parametrize("code", [0, 1])
def test_the_action_hands_its_inputs_over_and_keeps_exit_code_summary_and_findings(
    tmp_path: Path, event: str, inputs: dict[str, str], arguments: str, code: int
) -> None:
    runner = Runner(tmp_path, event, working_directory="chain", **inputs)
    (tmp_path / "workspace" / "chain").mkdir()
    out = runner.inputs["out"]
    report = f"mkdir -p {out}; echo told > {out}/summary.md; touch {out}/gate.sarif; exit {code}"
    runner.program(tmp_path / "home" / ".cache" / "stakesim-action" / "bin" / "stakesim", report)
    done = runner.run(action_step("stakesim"))
    assert (done.returncode, done.stderr) == (code, "")
    assert runner.calls("stakesim") == [arguments]
    outputs = runner.steps["stakesim"]
    assert outputs["exit-code"] == str(code)
    assert f"--seed {outputs['seed']} " in f"{arguments} "
    assert outputs["sarif"] == f"{tmp_path}/workspace/chain/{out}/gate.sarif"
    assert (tmp_path / "summary").read_text() == "told\n"
    uploads = action_step("Show the findings on the lines of the contract")
    assert bool(runner.value(uploads["if"])) is (event != "pull_request")  # here one from a fork
    check_options(arguments)


def check_options(arguments: str) -> None:
    """All options of a command line exist."""
    name, *words = arguments.split()
    command = typer.main.get_command(cli).commands[name]  # type: ignore[attr-defined]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if re.match(r"--?[a-z]", word)} <= known


def test_the_action_that_could_not_run_has_its_exit_code(tmp_path: Path) -> None:
    runner = Runner(tmp_path)
    runner.program(tmp_path / "home" / ".cache" / "stakesim-action" / "bin" / "stakesim", "exit 2")
    assert runner.run(action_step("stakesim")).returncode == 2
    assert runner.steps["stakesim"] == {"seed": "1193046", "exit-code": "2"}
    assert not runner.value(action_step("Show the findings on the lines of the contract")["if"])


@pytest.mark.slow
def test_the_action_runs_stakesim(tmp_path: Path) -> None:
    """The true program, as the action calls it, on a scenario of this repository."""
    runner = Runner(tmp_path, command="run", arguments="no-show --engine revm --driver contract")
    program = tmp_path / "home" / ".cache" / "stakesim-action" / "bin" / "stakesim"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/bash\nexec {sys.executable} -m stakesim "$@"\n')
    program.chmod(0o755)
    done = runner.run(action_step("stakesim"), {"PYTHONPATH": os.environ.get("PYTHONPATH", "")})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no-show" in (tmp_path / "summary").read_text()
    assert (tmp_path / "workspace" / "reports" / "stakesim" / "report.html").is_file()


@pytest.mark.parametrize(("event", "seed"), [("push", "1193046"), ("schedule", "9876543210")])
def test_the_starters_workflow_runs_with_a_seed_of_its_own(tmp_path: Path, event: str, seed: str) -> None:
    text = STARTER.read_text()
    assert text.count("      # dependencies\n") == 1
    assert all(yaml.safe_load(text.replace("      # dependencies\n", step)) for step in DEPENDENCIES.values())
    job = workflow(STARTER)["jobs"]["stakesim"]
    runner = Runner(tmp_path, event)
    runner.program(tmp_path / "bin" / "pip")
    runner.program(tmp_path / "bin" / "stakesim", 'mkdir -p "${@: -1}"; echo "$1" > "${@: -1}/summary.md"')
    for step in job["steps"]:
        if "run" in step and runner.value(step.get("if", "always()")):
            done = runner.run(step, job["env"])
            assert (done.returncode, done.stderr) == (0, ""), step
    assert runner.calls("pip") == ["install stakesim[gate]"]
    assert runner.calls("stakesim") == [
        f"run --seed {seed} --out reports/run",
        f"gate --seed {seed} --out reports/gate",
    ]
    assert sorted((tmp_path / "summary").read_text().split()) == ["gate", "run"]
    for arguments in runner.calls("stakesim"):
        check_options(arguments)
