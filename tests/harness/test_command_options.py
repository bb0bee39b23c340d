"""One command line: options mean the same in every command, and each verdict has its exit code and its JSON."""

import functools
import json
import re
import secrets
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from jsonschema import Draft202012Validator
from stakesim.campaign import campaign, execution
from stakesim.commands import cli, terminal
from stakesim.gate import static_analysis
from stakesim.paths import checkout
from stakesim.project import current_project
from stakesim.runner import reached

ROOT = checkout()
assert ROOT is not None
LINE = Draft202012Validator(json.loads((ROOT / "docs" / "output.schema.json").read_text()))
BROKEN = "scenarios/no-show.yaml"
OWN_MEANING = {"--json", "--only", "--out", "--write"}  # operations are a document of their own; what is run or written
OWN_DEFAULT = {
    "--driver": "fuzz searches the contract",
    "--engine": "revm where speed counts, py-evm elsewhere",
    "--for": "fuzz goes on for a minute, the gate as long as its profile says",
    "--hardfork": "serve stands in for Sepolia",
    "--owner": "verify compares with the record",
    "--profile": "a deployment wants more than a pull request",
    "--record": "deploy writes what verify reads",
    "--rpc": "smoke has it in the settings",
    "--runs": "scenarios, episodes, runs of a sweep",
    "--seed": "0 for verdicts, fresh for searches, the file's for sweeps",
}


@pytest.fixture
def stakesim(run_stakesim, monkeypatch, tmp_path):
    """The command, run in this process from the project's folder, with no failures kept from before."""
    monkeypatch.setenv("STAKESIM_HOME", str(tmp_path / "state"))
    return functools.partial(run_stakesim, cwd=ROOT)


def commands() -> Iterator[tuple[str, Any]]:
    """All commands of the library and of this project, with their path."""
    found = dict(typer.main.get_command(cli.cli).commands) | dict(cli.project_commands(current_project()))  # type: ignore[attr-defined]
    for name, command in found.items():
        yield name, command
        for part, nested in getattr(command, "commands", {}).items():
            yield f"{name} {part}", nested


@functools.cache
def options() -> dict[str, list[tuple[str, Any]]]:
    by_name = defaultdict(list)
    for name, command in commands():
        for option in command.params:
            if option.param_type_name == "option":
                by_name[max(option.opts, key=len)].append((name, option))
    return by_name


# Help


@pytest.mark.parametrize("wanted", ["--version", "-V"])
def test_the_version_is_told(stakesim, wanted):
    finished = stakesim(wanted)
    assert finished.returncode == 0
    assert re.fullmatch(r"stakesim \d+\.\d+\.\d+\n", finished.stdout)


@pytest.mark.slow
def test_python_runs_it_as_a_module():
    finished = subprocess.run(
        [sys.executable, "-m", "stakesim", "--version"], capture_output=True, text=True, check=True
    )
    assert finished.stdout.startswith("stakesim ")


@pytest.mark.parametrize("command", [(), ("run",), ("owner", "transfer"), ("doctor",)])
def test_help_has_a_short_option(stakesim, command):
    finished = stakesim(*command, "-h")
    assert finished.returncode == 0
    assert f"Usage: {' '.join(('stakesim', *command))}" in finished.stdout


def test_help_is_in_groups_by_reader_and_run_is_first(stakesim):
    words = [line.strip().partition(" ")[0] for line in stakesim("--help").stdout.splitlines()]
    told = ("Test:", "run", "Gate:", "gate", "Operate:", "deploy", "serve", "Analyse:", "sweep")
    order = [words.index(word) for word in told]
    assert order == sorted(order)
    assert words.index("run") == words.index("Test:") + 1
    assert "Commands" not in words


def test_shells_can_complete(stakesim):
    finished = stakesim("--show-completion", "bash")
    assert finished.returncode == 0
    assert "_STAKESIM_COMPLETE" in finished.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (("rnu",), "run"),
        (("run", "--runz", "3"), "--runs"),
        (("run", "no-shwo"), "no-show"),
        (("check", "clam"), "calm"),
        (("replay", BROKEN, "--driver", "servises"), "services"),
        (("gate", "--profile", "nighly"), "nightly"),
        (("owner", "tranfer"), "transfer"),
    ],
)
def test_a_typo_gets_a_suggestion(stakesim, typed, meant):
    finished = stakesim(*typed)
    assert finished.returncode == 2
    assert meant in finished.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "below"),
    [
        (("run", BROKEN, "--driver", "contract"), ""),
        (("run", BROKEN, "--driver", "contract"), "folder"),
        (("faults", "--only", "network:3"), ""),
        (("fuzz", "--sequences", "1"), "folder"),
        (("opinions", "--only", "slither"), "report.json"),
        (("opinions", "--only", "slither"), None),
    ],
)
def test_where_nothing_can_be_written_is_told_before_anything_runs(stakesim, tmp_path, monkeypatch, command, below):
    for target in (
        "stakesim.commands.run.run_campaign",
        "stakesim.commands.faults._run",
        "stakesim.commands.fuzz._search_contract",
    ):
        monkeypatch.setattr(target, lambda *_, **__: pytest.fail("it ran"))
    monkeypatch.setitem(static_analysis.TOOLS, "slither", lambda: pytest.fail("it ran"))
    file = tmp_path / "a file"
    file.touch()
    finished = stakesim(*command, "--out", tmp_path if below is None else file / below)
    assert finished.returncode == 2
    assert re.search("is no folder|is a folder: name a file", " ".join(finished.stderr.split()))


# The same option everywhere


@pytest.mark.parametrize("name", sorted(name for name, uses in options().items() if len(uses) > 1))
def test_an_option_has_one_meaning_and_one_default(name):
    uses = options()[name]
    if name not in OWN_MEANING:
        texts = {"--contract": 2, "--for": 3, "--runs": 3}.get(name, 2 if name in OWN_DEFAULT else 1)
        assert len({option.help for _, option in uses}) <= texts, uses
    if name not in OWN_MEANING | set(OWN_DEFAULT):
        assert len({str(option.default) for _, option in uses}) == 1, uses
    assert len({tuple(option.opts) for _, option in uses}) == 1, uses


@pytest.mark.parametrize("command", [name for name, use in options()["--runs"]])
def test_no_runs_at_all_are_refused(stakesim, command):
    assert stakesim(command, *(["file.yaml"] if command == "sweep" else []), "--runs", "0").returncode == 2


def test_commands_with_a_verdict_have_the_options_for_what_is_printed():
    by_name = options()
    quiet, verbose = ({use for use, _ in by_name[name]} for name in ("--quiet", "--verbose"))
    assert quiet == verbose == {use for use, _ in by_name["--json"] if not use.startswith("operations")}
    assert {"run", "fuzz", "replay", "check", "faults", "gate", "mutate", "coverage", "gas", "sweep"} <= quiet


# Verdicts


@pytest.fixture
def broken(tmp_path) -> str:
    """A scenario that expects another amount than the rules say."""
    text = (ROOT / "scenarios" / "no-show.yaml").read_text().replace('"460000000000000000"', '"1"')
    (tmp_path / "no-show.yaml").write_text(text)
    return str(tmp_path / "no-show.yaml")


def vacuous(monkeypatch) -> None:
    monkeypatch.setattr(campaign, "MUST_REACH", {"what never happens": "nothing of it"})
    monkeypatch.setattr(reached, "NAMES", [*reached.NAMES, "what never happens"])


def lines(finished: Any) -> list[dict[str, Any]]:
    parsed = [json.loads(line) for line in finished.stdout.splitlines()]
    for line in parsed:
        LINE.validate(line)
    *findings, summary = parsed
    assert [line["type"] for line in parsed] == ["finding"] * len(findings) + ["summary"]
    assert summary["findings"] == len(findings)
    assert summary["exit_code"] == finished.returncode
    return parsed


ALONE = ("--driver", "contract")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "code", "verdict"),
    [
        (("check", "no-show", "calm"), 0, "pass"),
        (("check", "BROKEN"), 1, "fail"),
        (("check", "nowhere.yaml", "no-shwo"), 2, "trouble"),
        (("run", "no-show", *ALONE), 0, "pass"),
        (("run", "BROKEN", *ALONE), 1, "fail"),
        (("run", "nowhere.yaml", *ALONE), 2, "trouble"),
        (("run", "calm", *ALONE), 3, "vacuous"),
        (("replay", "BROKEN", *ALONE), 1, "fail"),
        (("fuzz", "--for", "10s", "--sequences", "3"), 0, "pass"),
        (("sweep", "scenarios/sweeps/stake-size.yaml", "--runs", "2", "--spot-check", "0", "-j", "1"), 0, "pass"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, tuple) else "",
)
def test_each_verdict_has_its_exit_code_and_its_json(stakesim, monkeypatch, broken, command, code, verdict):
    vacuous(monkeypatch)
    finished = stakesim(*(broken if part == "BROKEN" else part for part in command), "--json")
    assert finished.returncode == code, finished.stderr
    *_, summary = lines(finished)
    assert (summary["verdict"], summary["command"]) == (verdict, command[0])
    assert bool(summary.get("problems")) == (code == 2)


def test_a_finding_has_what_a_program_needs(stakesim, broken):
    finding, _ = lines(stakesim("run", broken, *ALONE, "--json"))
    assert finding["id"] == "EXPECTATION"
    assert (finding["expected_wei"], finding["found_wei"]) == ("1", "460000000000000000")
    assert (finding["scenario"], finding["step"], finding["driver"]) == ("no-show", 5, "contract")


@pytest.mark.parametrize("command", [("check",), ("run", *ALONE), ("replay", *ALONE)])
def test_quiet_prints_only_what_is_wrong(stakesim, broken, command):
    passed = stakesim(*command, "scenarios/no-show.yaml", "--quiet")
    assert (passed.returncode, passed.stdout, passed.stderr) == (0, "", "")
    failed = stakesim(*command, broken, "-q")
    assert failed.returncode == 1
    assert "460000000000000000" in failed.stdout
    assert "reached:" not in failed.stdout


@pytest.mark.slow
def test_verbose_prints_each_step_also_where_there_is_no_terminal(stakesim):
    finished = stakesim("run", "scenarios/backend", *ALONE, "-v")
    told = [line for line in finished.stderr.splitlines() if re.match(r"\d+ of 6, \d+ s: ", line)]
    assert len(told) == 6
    assert not stakesim("run", "no-show", *ALONE).stderr


def test_piped_progress_is_a_line_now_and_then(stakesim, monkeypatch):
    monkeypatch.setattr(terminal, "PROGRESS_EVERY_S", 0)
    assert re.fullmatch(r"1 of 1, \d+ s: no-show\n", stakesim("run", "no-show", *ALONE).stderr)
    assert not stakesim("run", "no-show", *ALONE, "-q").stderr


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_done(stakesim, monkeypatch, tmp_path):
    played = []

    def interrupted(environment, scenario, number):
        if len(played) == 3:
            raise KeyboardInterrupt
        played.append(scenario.name)
        return run_scenario(environment, scenario, number)

    run_scenario = execution.run_scenario
    monkeypatch.setattr(execution, "run_scenario", interrupted)
    finished = stakesim("run", "scenarios", "calm", *ALONE, "--json", "--out", str(tmp_path / "out"))
    *_, summary = lines(finished)
    assert (finished.returncode, summary["verdict"], summary["scenarios"]) == (130, "interrupted", 3)
    assert (tmp_path / "out" / "summary.md").read_text().startswith("# Interrupted")
    assert all(name in (tmp_path / "out" / "ledger.csv").read_text() for name in played)


# By chance


@pytest.mark.slow
def test_a_campaign_that_misses_something_by_chance_draws_on(stakesim):
    """Five scenarios miss a cancelled run or a no-show with a third of all seeds."""
    for _ in range(3):
        finished = stakesim("run", "calm", *ALONE, "--seed", str(secrets.randbits(32)))
        verdict = re.search(r"(PASS|VACUOUS)  (\d+) scenarios", finished.stdout)
        assert verdict, finished.stdout
        assert verdict[1] == "PASS" or int(verdict[2]) == 5 * campaign.MOST_DRAWS


@pytest.mark.slow
def test_what_is_missed_for_good_is_vacuous_and_no_finding(stakesim, monkeypatch, tmp_path):
    vacuous(monkeypatch)
    finished = stakesim("run", "no-show", "calm", *ALONE, "--runs", "2", "--out", str(tmp_path / "out"))
    assert finished.returncode == 3
    number = 1 + 2 * campaign.MOST_DRAWS
    assert f"VACUOUS  {number} scenarios" in finished.stdout
    assert "FINDINGS" not in finished.stdout
    assert (tmp_path / "out" / "summary.md").read_text().startswith("# Vacuous")
    runs = [line.split(",")[0] for line in (tmp_path / "out" / "ledger.csv").read_text().splitlines()[1:]]
    assert set(runs) == {str(number) for number in range(number)}


@pytest.mark.slow
def test_a_finding_is_not_drawn_away(stakesim, monkeypatch, broken):
    vacuous(monkeypatch)
    finished = stakesim("run", broken, "calm", *ALONE, "--runs", "2")
    assert finished.returncode == 1
    assert "FINDINGS  3 scenarios" in finished.stdout


# Whose contract


def test_a_verdict_on_the_packaged_contract_is_told_outside_of_the_checkout(stakesim, tmp_path):
    """A project that forgot to name its contract got a pass for another one."""
    run_one = ("run", ROOT / "scenarios" / "no-show.yaml", "--driver", "contract", "--engine", "revm")
    assert "EventStake" not in stakesim(*run_one).stderr
    told = stakesim(*run_one, cwd=tmp_path)
    assert told.returncode == 0
    assert "tested is the EventStake of stakesim: name another by --contract" in told.stderr
    named = tmp_path / "named"
    named.mkdir()
    (named / "pyproject.toml").write_text(f'[tool.stakesim]\ncontract = "{ROOT / "contracts" / "EventStake.sol"}"\n')
    assert "EventStake" not in stakesim(*run_one, cwd=named).stderr


def test_what_the_backend_can_not_do_is_not_demanded(monkeypatch):
    result = campaign.CampaignResult([], [])
    result.reached.update({key: 1 for key in campaign.MUST_REACH if key != "bookings cancelled"})
    assert [finding.id for finding in campaign._unreached(result, None, "revm")] == ["VACUOUS"]
    result.reached["not supported: cancel_booking"] = 30
    assert not [*campaign._unreached(result, None, "revm")]
