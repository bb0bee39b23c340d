"""The gate: its verdict, the files that it writes, and deployments that require them."""

from __future__ import annotations

import hashlib
import html
import json
import re
import shlex
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar
from xml.etree import ElementTree as ET

import pandas as pd
import pytest
from stakesim.campaign import campaign
from stakesim.campaign.result import CampaignResult
from stakesim.commands import deploy
from stakesim.commands.cli import cli
from stakesim.commands.options import parse_terms
from stakesim.errors import StakesimError
from stakesim.evm.compiler import CONTRACTS, compile_contracts, compile_sources
from stakesim.evm.contract_file import load_contract, production_contract
from stakesim.evm.errors import EngineError
from stakesim.evm.import_resolver import collect_sources
from stakesim.gate import coverage, pipeline, release, report, source_parts
from stakesim.gate.beyond_abi import beyond_abi
from stakesim.gate.errors import ReleaseError
from stakesim.gate.hashes import abi_hash, code_hash, source_revision
from stakesim.gate.mutant import Mutant
from stakesim.gate.mutation_result import MutantStatus, MutationResult, Verdict
from stakesim.gate.pipeline import interface_problems
from stakesim.gate.profiles import EFFORTS, LONG_PARTS, PARTS, REGRESSIONS, Effort
from stakesim.gate.result import GatePart, GateResult, PartVerdict
from stakesim.gate.sarif import sarif
from stakesim.gate.static_analysis import ToolReport
from stakesim.runner.findings import Finding
from stakesim.runner.scenario_result import ScenarioResult
from stakesim.scenario.actions import Terms
from stakesim.scenario.scenario import Scenario, load
from stakesim.schema.errors import InputError
from typer.testing import CliRunner

from tests.gate.passing_report import passing_report

STAND_IN = str(CONTRACTS / "test" / "MinimalEventStake.sol")
SOUND = str(CONTRACTS / "test" / "SoundEventStake.sol")
OVERPAID = f"{CONTRACTS / 'test' / 'Planted.sol'}:KeepsOverpayment"
OTHER_TERMS = f"{CONTRACTS / 'test' / 'sound' / 'OfTheDeployedInterface.sol'}:OtherPercentages"
SMALL = Effort(60, runs=3, walks=8, steps=12, examples=2, moves=8, calls=1_500, mutants=1, faults=0)
NOW = datetime(2026, 1, 2, tzinfo=UTC)
BEYOND_ABI = """
// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;
import {SoundEventStake} from "./SoundEventStake.sol";
contract Drained is SoundEventStake {
    function drain() external { payable(msg.sender).transfer(address(this).balance); }
}
contract Swapped is SoundEventStake {
    constructor() {
        if (block.timestamp == 0) return;
        bytes memory code = address(new Drained()).code;
        assembly { return(add(code, 32), mload(code)) }
    }
}
contract Magic is SoundEventStake {
    fallback() external {
        if (keccak256(msg.data) != keccak256(hex"64726169")) revert();
        payable(msg.sender).transfer(address(this).balance);
    }
}
contract Receives is SoundEventStake { receive() external payable {} }
contract Upgraded is SoundEventStake {
    function run(address code) external { (bool ok,) = code.delegatecall(""); require(ok); }
}
contract Ends is SoundEventStake { function end() external { selfdestruct(payable(owner)); } }
contract OnOneChain is SoundEventStake { uint256 internal id; constructor() { id = block.chainid; } }
"""


def make_small(monkeypatch, effort=SMALL):
    """Little of everything: coverage of a few scenarios, and one killed mutant; both have tests of their own."""
    suite = [load(CONTRACTS.parent / "scenarios" / f"{name}.yaml") for name in ("everybody-comes", "no-show")]
    monkeypatch.setattr(coverage, "scenario_suite", lambda: suite)
    killed = Verdict(Mutant("constant", 0, 1, "1", "2", "f", 1, 1, "x = 1;"), MutantStatus.KILLED)
    monkeypatch.setattr(source_parts, "mutate", lambda *_, **__: MutationResult(verdicts=[killed]))
    monkeypatch.setitem(EFFORTS, "pr", effort)


def run_small_gate(monkeypatch, contract, engine, **more):
    make_small(monkeypatch)
    return pipeline.run_gate(contract, engine=engine, jobs=1, **more)


@pytest.fixture(scope="module")
def passing_gate(tmp_path_factory, engine_name):
    """A report of a sound contract that has only the interface deployed on Sepolia."""
    folder = tmp_path_factory.mktemp("gate")
    with pytest.MonkeyPatch.context() as patch:
        gate = run_small_gate(patch, SOUND, engine_name)
    report.write(gate, folder, "stakesim gate")
    return gate, folder


@pytest.mark.slow
class TestPassing:
    def test_a_sound_contract_passes(self, passing_gate):
        gate, _ = passing_gate
        assert gate.ok
        assert [(part.name, part.verdict) for part in gate.parts] == [
            ("interface", "pass"),
            ("scripted", "pass"),
            ("regressions", "not tried"),  # there are none
            ("random", "pass"),
            ("hostile", "pass"),
            ("stateful", "pass"),
            ("calls", "pass"),
            ("gas", "pass"),
            ("coverage", "not tried"),  # nobody has reviewed what the scenarios leave open
            ("slither", "not tried"),
            ("proofs", "not tried"),
            ("mutants", "pass"),
            ("faults", "not tried"),
        ]

    def test_what_was_not_tried_stands_beside_the_verdict(self, passing_gate):
        gate, folder = passing_gate
        line = report.verdict_line(gate)
        assert line.startswith("PASS; not tried: regressions, coverage, slither, proofs, faults, ")
        assert re.search(
            r", calls: [^()]*, deferred payouts, [^()]*\(the contract lacks a function that leads there\)", line
        )
        assert ", expire, " in line
        assert ", other terms, " in line
        assert line in (folder / "summary.md").read_text()
        page = html.unescape(re.sub("<[^>]*>", "", (folder / "report.html").read_text()))
        assert line in page
        assert json.loads((folder / "gate.json").read_text())["not_tried"] == gate.not_tried

    def test_json_has_what_a_deployment_requires(self, passing_gate):
        gate, folder = passing_gate
        gate_json_content = json.loads((folder / "gate.json").read_text())
        assert gate_json_content["verdict"] == "pass"
        assert gate_json_content["hashes"]["creation_code_keccak256"] == code_hash(gate.artifact.bytecode)
        assert gate_json_content["constructor"] == {"terms": dict(Terms())}
        assert gate_json_content["parts"]["scripted"]["figures"]["scenarios"] > 25
        assert gate_json_content["seed"] == 0
        assert gate_json_content["versions"]["solc"]
        assert gate_json_content["reviewed"] == {}
        assert gate_json_content["git"] == source_revision(gate.file)

    def test_the_ledger_has_all_rows(self, passing_gate):
        gate, folder = passing_gate
        assert len(pd.read_parquet(folder / "ledger.parquet")) == len(gate.rows)

    def test_junit_has_a_case_for_each_part(self, passing_gate):
        gate, folder = passing_gate
        suite = ET.parse(folder / "junit.xml").getroot()
        assert (suite.get("failures"), suite.get("tests")) == ("0", str(len(gate.parts)))

    @pytest.mark.parametrize("verdict", ["not tried", "fail"])
    def test_junit_can_be_read_whatever_a_problem_says(self, passing_gate, tmp_path, verdict):
        gate = replace(
            passing_gate[0], parts=[GatePart("calls", "", PartVerdict(verdict), ["\x01 \x1b[2J \ud800 ä €"])]
        )
        ET.ElementTree(report._junit(gate)).write(tmp_path / "junit.xml", encoding="utf-8")
        [case] = ET.parse(tmp_path / "junit.xml").getroot()
        assert r"\x01 \x1b[2J \ud800 ä €" in (case[0].text, case[0].get("message"))

    def test_the_page_is_complete_in_one_file(self, passing_gate):
        _, folder = passing_gate
        page = (folder / "report.html").read_text()
        assert "<strong>PASS</strong>; not tried: " in page
        assert page.count("<svg") == 2
        assert "src=" not in page
        assert "function completeEvent" in page  # the source, line by line
        [left_out] = re.findall("does not have these actions, so they were left out: (.*?)\\.<", page)
        assert {"cancel_booking", "expire", "set_operator"} <= set(left_out.split(", "))


class TestFailing:
    @pytest.mark.in_turn
    @pytest.mark.slow
    def test_every_file_has_the_finding(self, monkeypatch, tmp_path, engine_name):
        gate = run_small_gate(monkeypatch, OVERPAID, engine_name)
        assert not gate.ok
        report.write(gate, tmp_path, "stakesim gate")
        for name in ("report.html", "summary.md", "junit.xml"):
            assert "WEAKNESS: overpayment is kept" in (tmp_path / name).read_text(), name
        gate_json_content = json.loads((tmp_path / "gate.json").read_text())
        assert gate_json_content["verdict"] == "fail"
        assert gate_json_content["parts"]["scripted"]["findings"] == ["overpayment is kept"]
        assert "Do not deploy it" in (tmp_path / "report.html").read_text()
        [run] = json.loads((tmp_path / "gate.sarif").read_text())["runs"]
        assert {"id": "overpayment is kept"} in run["tool"]["driver"]["rules"]
        assert any(result["ruleId"] == "overpayment is kept" for result in run["results"])

    @pytest.mark.in_turn
    @pytest.mark.slow
    def test_weaknesses_of_the_deployed_contract_are_named(self, monkeypatch, tmp_path, engine_name):
        """In a project without a backend, where each transaction takes a fraction of the time."""
        monkeypatch.chdir(tmp_path)
        make_small(monkeypatch, replace(SMALL, examples=10, moves=20))
        arguments = ["gate", "--contract", STAND_IN, "--engine", engine_name, "-j", "1", "--out", str(tmp_path)]
        result = CliRunner().invoke(cli, arguments)
        assert (result.exit_code, type(result.exception)) == (1, SystemExit)
        weaknesses = {
            "overpayment is kept",
            "one hostile receiver blocks everybody",
            "terms change under a booked run",
            "a full run doesn't fit in a transaction",
        }
        named = {line for line in result.output.splitlines() if line.startswith("WEAKNESS: ")}
        assert {line.removeprefix("WEAKNESS: ").partition(" (")[0] for line in named} == weaknesses
        assert "CRASH" not in result.output
        gate_json_content = json.loads((tmp_path / "gate.json").read_text())
        assert gate_json_content["verdict"] == "fail"
        assert gate_json_content["parts"]["interface"]["result"] == "pass"
        assert set(gate_json_content["parts"]["scripted"]["findings"]) == weaknesses
        assert set(gate_json_content["parts"]["stateful"]["findings"]) <= weaknesses
        assert gate_json_content["parts"]["stateful"]["findings"]


class TestGas:
    """It is judged where there is a reviewed table of the contract; else it is told that nothing was compared."""

    @pytest.fixture
    def gas_part(self, monkeypatch):
        """Runs the part on a contract that needs 100 gas to open a run."""

        def run(contract=None):
            gate, part = GateResult(production_contract(), contract, Terms(), "release", "revm", 0), GatePart("gas", "")
            monkeypatch.setattr(pipeline, "open_environment", lambda *_, **__: SimpleNamespace(close=lambda: None))
            monkeypatch.setattr(pipeline.gas_table, "measure", lambda _: {"a run is opened": 100})
            pipeline._gas(gate, part)
            gate.parts = [part]
            return gate, part

        return run

    @pytest.mark.slow
    def test_what_was_not_reviewed_fails(self, monkeypatch, environment):
        gate = GateResult(production_contract(), None, Terms(), "pr", "revm", 0)
        part = GatePart("gas", "")
        monkeypatch.setattr(pipeline, "open_environment", lambda *_, **__: _SharedEnvironment(environment))
        monkeypatch.setattr(pipeline.gas_table, "reviewed", lambda: {"something else": 1})
        pipeline._gas(gate, part)
        assert part.verdict is PartVerdict.FAIL
        assert "something else: was 1, is None" in part.problems

    @pytest.mark.parametrize("table", [None, {"compiler": "0.4.0", "gas": {"osaka": {"a run is opened": 100}}}])
    def test_without_a_table_it_is_not_tried_and_told_how_to_write_one(self, gas_part, monkeypatch, tmp_path, table):
        monkeypatch.chdir(tmp_path)
        if table:
            (tmp_path / "gas.json").write_text(json.dumps(table))
        gate, part = gas_part()
        assert (part.verdict, part.figures, len(part.problems)) == ("not tried", {"transactions": 1}, 1)
        assert str(tmp_path / "gas.json") in part.problems[0]
        assert "`stakesim gas --write`" in part.problems[0]
        assert gate.not_tried == ["gas"]
        assert report.as_json(gate, NOW, "")["gas"] == {"a run is opened": 100}

    def test_of_a_contract_from_elsewhere_it_is_measured_only_and_said_so(self, gas_part):
        gate, part = gas_part("a/Stake.json")
        assert (part.verdict, part.problems) == ("pass", [])
        assert report.verdict_line(gate) == "PASS; not tried: gas compared with reviewed gas"


class TestFolder:
    """It is tried before anything runs, and has a verdict only if the gate that ran last has one."""

    @pytest.fixture
    def run_gate(self, monkeypatch, tmp_path, run_stakesim):
        """Calls the command, from an empty project."""
        return lambda *arguments: run_stakesim("gate", *arguments, cwd=tmp_path)

    @pytest.mark.parametrize("out", ["a file", "a file/below", "occupied"])
    def test_one_that_can_not_be_written_is_told_before_anything_runs(self, run_gate, monkeypatch, tmp_path, out):
        (tmp_path / "a file").touch()
        (tmp_path / "occupied" / "summary.md").mkdir(parents=True)
        (tmp_path / "occupied" / "gate.json").touch()
        monkeypatch.setattr(pipeline, "run_gate", lambda *_, **__: pytest.fail("it ran"))
        ended = run_gate("--out", out)
        assert ended.returncode == 2
        assert re.fullmatch(rf"stakesim: The report can't be written into {out}: .*--out\.\n", ended.stderr)
        assert not (tmp_path / "occupied" / "gate.json").exists() or out != "occupied"

    @pytest.mark.parametrize(
        "arguments",
        [("--contract", "none.sol"), ("--term", "fee_bps=4000"), ("--term", f"fee_bps={'4' * 5_000}"), ("--for", "0s")],
    )
    def test_an_earlier_report_is_gone_when_the_next_gate_can_not_run(self, run_gate, tmp_path, arguments):
        out = tmp_path / "out"
        out.mkdir()
        for name in (*report.FILES, report.VERDICT, "notes.txt"):
            (out / name).write_text('{"verdict": "pass"}')
        assert run_gate("--out", out, *arguments).returncode == 2
        assert [file.name for file in out.iterdir()] == ["notes.txt"]

    @pytest.mark.parametrize("package", ["jinja2", "matplotlib", "pyarrow"])
    def test_a_package_that_the_report_needs_is_told_before_anything_runs(self, run_gate, monkeypatch, package):
        monkeypatch.setattr("stakesim.errors.find_spec", lambda name: None if name == package else True)
        monkeypatch.setattr(pipeline, "run_gate", lambda *_, **__: pytest.fail("it ran"))
        ended = run_gate()
        assert (ended.returncode, f"The gate needs {package}, which is not installed" in ended.stderr) == (2, True)

    def gate(self):
        gate = GateResult(production_contract(), None, Terms(), "pr", "revm", 0)
        gate.parts = [GatePart("calls", "", PartVerdict.FAIL, ["half a pair: \ud800"])]
        return gate

    @pytest.mark.slow
    def test_the_verdict_is_written_when_all_other_files_are_there(self, monkeypatch, tmp_path):
        others, replaced = set(report.FILES) - {"lcov.info"}, []
        monkeypatch.setattr(
            Path, "replace", lambda file, _: replaced.append({each.name for each in tmp_path.iterdir()})
        )
        report.write(self.gate(), tmp_path, "stakesim gate")
        assert replaced == [{*others, "gate.json.unfinished"}]
        monkeypatch.undo()
        report.prepare(tmp_path)
        assert list(tmp_path.iterdir()) == []
        report.write(self.gate(), tmp_path, "stakesim gate")
        assert {each.name for each in tmp_path.iterdir()} == {*others, "gate.json"}
        assert r"half a pair: \ud800" in (tmp_path / "summary.md").read_text()

    @pytest.mark.slow
    @pytest.mark.parametrize("writes", ["_markdown", "_html", "_junit", "sarif", "as_json"])
    def test_without_all_files_there_is_no_verdict(self, monkeypatch, tmp_path, writes):
        def full(*_):
            raise OSError("No space left on device")

        monkeypatch.setattr(report, writes, full)
        with pytest.raises(OSError, match="No space"):
            report.write(self.gate(), tmp_path, "stakesim gate")
        assert not (tmp_path / "gate.json").exists()


class TestTerms:
    """A contract that takes no terms is judged by its own, unless somebody asks for others."""

    OWN = Terms(stake_bps=1_000, fee_bps=300, forfeit_to_host_bps=2_500)

    @pytest.mark.slow
    @pytest.mark.parametrize("asked", [(), ("--term", "fee_bps=400")])
    def test_the_report_has_the_terms_that_it_was_judged_by(self, monkeypatch, tmp_path, run_stakesim, asked):
        checks = [pipeline._Check("gas", "", pipeline._gas)]  # it runs scenarios, and passes only if they do
        monkeypatch.setattr(pipeline, "_checks", lambda _: checks)
        run_stakesim("gate", "--contract", OTHER_TERMS, "--out", "out", *asked, cwd=tmp_path)
        written = json.loads((tmp_path / "out" / "gate.json").read_text())
        if asked:
            assert written["constructor"]["terms"] == dict(Terms(fee_bps=400))
            assert "wrong host stake" in written["parts"]["gas"]["problems"][0]
        else:
            assert written["constructor"]["terms"] == dict(self.OWN)
            assert (written["verdict"], written["parts"]["gas"]["problems"]) == ("pass", [])

    @pytest.mark.parametrize("term", [None, ["fee_bps=400"]])
    def test_a_deployment_takes_them_from_the_report(self, tmp_path, term):
        file = tmp_path / "gate.json"
        takes_terms, takes_none = production_contract(), replace(production_contract(), abi=[])
        assert deploy._terms(term, takes_none, file) == parse_terms(term)  # there is no report
        file.write_text(json.dumps({"constructor": {"terms": dict(self.OWN)}}))
        assert deploy._terms(term, takes_none, file) == (parse_terms(term) if term else self.OWN)
        assert deploy._terms(term, takes_terms, file) == parse_terms(term)


class TestTrouble:
    """What is wrong with the call ends the gate before anything runs; what goes wrong in a part fails that part."""

    @pytest.fixture
    def project(self, tmp_path, monkeypatch):
        (tmp_path / "pyproject.toml").write_text('[tool.stakesim]\nscenarios = "."\nreviewed = "."\n')
        monkeypatch.chdir(tmp_path)
        ran = pipeline._Check("interface", "", lambda *_: pytest.fail("it ran"))
        monkeypatch.setattr(pipeline, "_checks", lambda _: [ran])
        return tmp_path

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("file", "text", "message"),
        [
            ("mine.yaml", "name: mine", "mine.yaml:1"),
            ("profiles/mine.yaml", "no_show: 7", "mine.yaml:1"),
            ("gas.json", "{}", "gas.json is no gas table"),
            ("unreached.json", "{}[", "unreached.json is no list"),
            ("equivalent_mutants.json", "[{}]", "equivalent_mutants.json is no list"),
        ],
    )
    def test_a_bad_file_is_told_before_anything_runs(self, project, file, text, message):
        (project / file).parent.mkdir(exist_ok=True)
        (project / file).write_text(text)
        contract = SOUND if file in ("unreached.json", "equivalent_mutants.json") else None
        with pytest.raises(StakesimError, match=message):
            pipeline.run_gate(contract)

    @pytest.mark.slow
    def test_an_engine_that_can_not_be_opened_is_told_before_anything_runs(self, project):
        with pytest.raises(EngineError, match="evm9"):
            pipeline.run_gate(engine="evm9")

    @pytest.mark.slow
    @pytest.mark.parametrize("error", [EngineError("The node vanished."), InputError("A file has gone.")])
    def test_a_part_that_can_not_go_on_fails_and_the_report_is_kept(self, monkeypatch, project, error):
        def fails(gate, part):
            part.findings.append(Finding("INV-01", "conservation", "1 wei is gone"))
            raise error

        checks = [("random", fails), ("interface", pipeline._interface)]
        monkeypatch.setattr(pipeline, "_checks", lambda _: [pipeline._Check(name, "", run) for name, run in checks])
        gate = pipeline.run_gate()
        assert [part.verdict for part in gate.parts] == ["fail", "pass"]
        assert (gate.parts[0].problems, len(gate.parts[0].findings)) == ([str(error)], 1)
        assert gate.not_tried == ["the rest of random"]


class _SharedEnvironment:
    """An environment that is not closed, as other tests use it."""

    def __init__(self, environment):
        self._environment = environment

    def __getattr__(self, name):
        return getattr(self._environment, name)

    def close(self):
        pass


class TestVacuous:
    """What was missed by chance is drawn on; what stays missing is a verdict of its own."""

    def gate(self):
        return GateResult(production_contract(), load_contract(SOUND).name, Terms(), "pr", "revm", 0)

    def result(self, **reached):
        empty = CampaignResult(
            [ScenarioResult(Scenario(name="a", story="", actors={}, actions=()), "revm", "contract")], []
        )
        empty.reached.update(reached)
        empty.findings += campaign._unreached(empty, None, "revm")
        return empty

    @pytest.fixture
    def draws(self, monkeypatch):
        """Seeds that were drawn from, and what the draws give, the first one first."""
        seeds, given = [], []
        monkeypatch.setattr(campaign, "run", lambda *_, seed=0, **__: seeds.append(seed) or given.pop(0))
        return seeds, given

    def test_it_draws_on_until_it_has_reached_everything(self, draws):
        seeds, given = draws
        others = {key: 1 for key in campaign.MUST_REACH if key != "no-shows"}
        given += [self.result(**others), self.result(**others), self.result(**{"no-shows": 1})]
        gate, part = self.gate(), GatePart("random", "")
        pipeline._random(gate, part)
        assert (part.verdict, part.figures["scenarios"], len(set(seeds))) == ("pass", 3, 3)

    def test_what_is_never_reached_is_no_fault_of_the_contract(self, draws):
        _, given = draws
        given += [self.result(**{key: 1 for key in campaign.MUST_REACH if key != "no-shows"}) for _ in range(9)]
        gate, part = self.gate(), GatePart("random", "")
        pipeline._random(gate, part)
        gate.parts.append(part)
        assert (part.verdict, gate.verdict, gate.ok) == ("vacuous", "vacuous", False)
        assert report.verdict_line(gate) == "VACUOUS"
        assert "Too little was reached to judge it" in report.summary_sentence(gate)
        assert "no no-show" in part.narratives[0]

    def test_a_part_without_scenarios_is_vacuous(self, draws):
        _, given = draws
        given.append(CampaignResult([], []))
        part = GatePart("scripted", "")
        pipeline._scripted(self.gate(), part)
        assert part.verdict == "vacuous"


class TestSarif:
    """Findings are on the lines where a pull request shows them."""

    def places(self, gate):
        [run] = sarif(gate)["runs"]
        source = (CONTRACTS / "EventStake.sol").read_text().splitlines()
        for result in run["results"]:
            [place] = [location["physicalLocation"] for location in result["locations"]]
            assert place["artifactLocation"]["uri"].endswith("contracts/EventStake.sol")
            yield result["ruleId"], result["message"]["text"], source[place["region"]["startLine"] - 1].strip()

    def test_a_finding_is_where_the_function_of_its_action_begins(self):
        gate = GateResult(production_contract(), None, Terms(), "pr", "revm", 0)
        scenario = load(CONTRACTS.parent / "scenarios" / "no-show.yaml")
        steps = {action.do: step for step, action in enumerate(scenario.actions, start=1)}
        found = [Finding("INV-06", "must hold", do, scenario, step=steps[do]) for do in ("book", "complete")]
        gate.parts = [GatePart("scripted", "", PartVerdict.FAIL, findings=[*found, Finding("VACUOUS", "", "nothing")])]
        assert [(rule, line.partition("(")[0]) for rule, _, line in self.places(gate)] == [
            ("INV-06", "function bookEvent"),
            ("INV-06", "function completeEvent"),
            ("VACUOUS", "contract EventStake is IEventStake, Ownable2Step, Pausable, ReentrancyGuardTransient {"),
        ]

    def test_a_line_that_did_not_run_is_shown_if_that_fails_the_gate(self):
        gate = GateResult(production_contract(), None, Terms(), "pr", "revm", 0)
        lines = (CONTRACTS / "EventStake.sol").read_text().splitlines()
        number = next(number for number, line in enumerate(lines, start=1) if "InvalidExperience();" in line)
        part = GatePart("coverage", "", PartVerdict.FAIL, problems=[f"line {number} did not run"])
        gate.parts = [part]
        assert [(rule, line) for rule, _, line in self.places(gate)] == [("coverage", lines[number - 1].strip())]
        part.verdict = PartVerdict.PASS
        assert list(self.places(gate)) == []

    def results(self, gate):
        [run] = sarif(gate)["runs"]
        assert all(result["locations"] for result in run["results"])  # GitHub refuses a file with one that has none
        assert {result["ruleId"] for result in run["results"]} == {
            rule["id"] for rule in run["tool"]["driver"]["rules"]
        }
        return [(result["level"], result["ruleId"], result["message"]["text"]) for result in run["results"]]

    def test_what_is_no_pass_is_shown_with_its_level(self):
        gate = GateResult(production_contract(), None, Terms(), "pr", "revm", 0)
        gate.parts = [GatePart(name, "") for name in ("interface", "scripted", "random", "calls", "gas", "coverage")]
        _, failed, unreached, late, interrupted, left_out = gate.parts
        failed.lost("A worker ended.")
        unreached.verdict, unreached.findings = PartVerdict.VACUOUS, [Finding("VACUOUS", "something", "no no-show")]
        late.out_of_time("nothing", "before it began")
        interrupted.interrupted()
        left_out.verdict, left_out.problems = PartVerdict.NOT_TRIED, ["There is no list.", "line 9 did not run"]
        assert self.results(gate) == [
            ("error", "scripted", "A worker ended."),
            ("warning", "VACUOUS", "something: no no-show"),
            ("warning", "calls: vacuous", f"calls: vacuous. {late.problems[0]}"),
            ("warning", "gas: vacuous", "gas: vacuous. Ctrl-C ended the gate here."),
            ("note", "coverage: not tried", "coverage: not tried. There is no list."),
        ]

    @pytest.mark.parametrize(
        ("repository", "folder", "uri", "base"),
        [
            (".", ".", "app/my%20src%20%231/Stake%20100%25.sol", "%SRCROOT%"),
            (".", "app", "app/my%20src%20%231/Stake%20100%25.sol", "%SRCROOT%"),
            ("app", "other", "my%20src%20%231/Stake%20100%25.sol", "%SRCROOT%"),
            (None, "app", "my%20src%20%231/Stake%20100%25.sol", None),
            (None, "other", "file://{root}/app/my%20src%20%231/Stake%20100%25.sol", None),
        ],
    )
    def test_places_are_relative_to_the_repository_and_encoded(
        self, tmp_path, monkeypatch, repository, folder, uri, base
    ):
        file = tmp_path / "app" / "my src #1" / "Stake 100%.sol"
        file.parent.mkdir(parents=True)
        file.write_text("\ncontract EventStake {")
        (tmp_path / "other").mkdir()
        if repository:
            (tmp_path / repository / ".git").touch()  # a file, as in a worktree
        monkeypatch.chdir(tmp_path / folder)
        gate = GateResult(production_contract(), str(file), Terms(), "pr", "revm", 0)
        gate.parts = [GatePart("gas", "", PartVerdict.FAIL, ["It is more."])]
        [run] = sarif(gate)["runs"]
        [place] = run["results"][0]["locations"]
        artifact = {"uri": uri.format(root=tmp_path), **({"uriBaseId": base} if base else {})}
        assert place == {"physicalLocation": {"artifactLocation": artifact, "region": {"startLine": 2}}}
        assert list(run.get("originalUriBaseIds", {})) == ([base] if base else [])


def test_the_command_of_the_report_can_be_given_to_a_shell(monkeypatch, run_stakesim, tmp_path):
    gate = GateResult(production_contract(), None, Terms(), "pr", "revm", 0)
    commands = []
    monkeypatch.setattr(pipeline, "run_gate", lambda *_, **__: gate)
    monkeypatch.setattr(report, "write", lambda gate, folder, command: commands.append(command))
    arguments = ["--contract", "my src/Stake $1.sol", "--profile", "pr", "--engine", "rpc:http://a/?b=1&c=2"]
    arguments += ["--term", "fee_bps=0400", "--seed", "5"]
    run_stakesim("gate", *arguments, cwd=tmp_path)
    assert shlex.split(commands[0]) == ["stakesim", "gate", *arguments]


def test_each_part_is_told_when_it_has_ended(monkeypatch, tmp_path):
    """Parts after it may take hours, and a machine of CI may be taken away meanwhile."""
    monkeypatch.chdir(tmp_path)
    told = []

    def later(_gate, _part):
        sys.stdout.flush()
        told.append(sys.stdout.buffer.getvalue().decode())

    checks = [
        pipeline._Check("first", "", lambda _gate, part: part.passes_if(False)),
        pipeline._Check("second", "", lambda _gate, part: part.not_tried("It can't.")),
        pipeline._Check("third", "", later),
    ]
    monkeypatch.setattr(pipeline, "_checks", lambda _: checks)
    monkeypatch.setattr(report, "write", lambda *_: None)
    CliRunner().invoke(cli, ["gate"])
    assert [line.split()[:2] for line in told[0].splitlines()[1:3]] == [["fail", "first"], ["not", "tried"]]
    assert "It can't." in told[0]


@pytest.fixture(scope="module")
def beyond():
    """Contracts that do more than their ABI says, by name."""
    return compile_sources({"BeyondAbi.sol": BEYOND_ABI} | collect_sources(Path(SOUND)), "BeyondAbi.sol")


class TestInterface:
    def left_out(self, artifact):
        gate = GateResult(artifact, "Stake.json", Terms(), "pr", "revm", 0)
        gate.parts = [part := GatePart("interface", "")]
        pipeline._interface(gate, part)
        assert part.verdict is PartVerdict.PASS
        return report.verdict_line(gate)

    @pytest.mark.slow
    def test_functions_that_the_abi_does_not_name_are_in_the_first_line(self):
        artifact = production_contract()
        assert self.left_out(artifact) == "PASS"
        shorter = [item for item in artifact.abi if item.get("name") not in ("supportsInterface", "renounceOwnership")]
        hidden = replace(artifact, abi=shorter)
        assert "not tried: functions that the ABI does not name: 0x715018a6" in self.left_out(hidden)

    @pytest.mark.slow
    def test_an_artifact_without_runtime_code_hides_nothing(self):
        """Runtime code must be in the creation code, as the compiler puts it there, and `deploy` compares it."""
        artifact = replace(production_contract(), deployed_bytecode="0x")
        assert "the artifact has no runtime code of its bytecode" in self.left_out(artifact)

    @pytest.mark.slow
    @pytest.mark.parametrize("listed", [{}, {"1": [{"start": 0, "length": 2**14}]}], ids=["none", "all"])
    def test_another_code_than_the_runtime_code_fails(self, beyond, listed):
        """Its constructor returns a contract with `drain`. Whatever the artifact says is immutable."""
        swapped = replace(beyond["Swapped"], immutables=listed)
        gate = GateResult(swapped, "Swapped.json", Terms(), "pr", "revm", 0)
        pipeline._interface(gate, part := GatePart("interface", ""))
        assert part.verdict is PartVerdict.FAIL
        assert ["deploys other code" in problem for problem in part.problems] == [True]
        assert part.left_out == ["functions that the ABI does not name: 0x9890220b", *beyond_abi(swapped)]

    @pytest.mark.slow
    def test_runtime_code_whose_immutables_nothing_lists_is_what_is_deployed(self, beyond):
        """Hardhat's artifacts do not list them. In `Receives`, the owner is one."""
        artifact = replace(beyond["Receives"], immutables={})
        assert self.left_out(artifact) == "PASS"

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("name", "removed", "untried"),
        [
            ("Drained", "", []),
            ("Magic", "", ["calls of no function (it may take them)"]),
            ("Magic", "fallback", ["calls of no function (it may take them)"]),
            ("Receives", "", []),
            ("Receives", "receive", ["calls without data (it may take them)"]),
            ("Upgraded", "", ["code at other addresses that it can run (DELEGATECALL)"]),
            ("Ends", "", ["what may be in its place after its SELFDESTRUCT"]),
            ("OnOneChain", "", ["what it does on other chains (it reads CHAINID)"]),
        ],
    )
    def test_what_code_does_beyond_its_abi_is_told(self, beyond, name, removed, untried):
        artifact = beyond[name]
        artifact = replace(artifact, abi=[item for item in artifact.abi if item["type"] != removed])
        assert beyond_abi(artifact) == untried

    @pytest.mark.slow
    def test_a_proxy_with_the_abi_of_its_implementation_is_not_taken_for_it(self):
        """It compares no selector: EIP-1167."""
        code = "363d3d373d3d3d363d73" + "11" * 20 + "5af43d82803e903d91602b57fd5bf3"
        proxy = replace(production_contract(), bytecode=f"0x3d602d80600a3d3981f3{code}", deployed_bytecode=f"0x{code}")
        assert beyond_abi(proxy) == [
            "functions that the ABI may not name (its dispatch can't be read)",
            "calls of no function (it may take them)",
            "code at other addresses that it can run (DELEGATECALL)",
        ]

    @pytest.mark.slow
    @pytest.mark.parametrize("contract", [STAND_IN, SOUND, OVERPAID, OTHER_TERMS])
    def test_sound_contracts_do_nothing_beyond_their_abi(self, contract):
        assert self.left_out(load_contract(contract)) == "PASS"

    def test_each_difference_of_the_interface_is_named(self):
        artifact = production_contract()
        for item in artifact.abi:
            if item.get("name") == "bookEvent":
                item["outputs"] = []
            if item.get("name") == "BookingNoShow":
                item["inputs"][0]["indexed"] = False
        artifact.abi[:] = [item for item in artifact.abi if item.get("name") != "getBooking"]
        problems = interface_problems(artifact)
        assert problems == [
            "The function getBooking is missing: getBooking(uint256).",
            "bookEvent returns nothing where (uint256) must be.",
            "The event BookingNoShow has (uint256, address indexed, uint256) where (uint256 indexed, address indexed, "
            "uint256) must be.",
        ]


def test_json_has_the_proofs_the_seeds_and_the_hashes():
    gate = GateResult(production_contract(), None, Terms(), "release", "revm", 0)
    proof = SimpleNamespace(name="check_payout", verdict="proved", seconds=1.25)
    figures = {"properties": 1}
    gate.analyses = [SimpleNamespace(tool="halmos", problems=[], figures=figures, seconds=2, proofs=[proof])]
    gate.analyses.append(ToolReport("slither", ["a finding"], {}, 3.0))
    gate.parts = [GatePart("random", "", seeds=[5, 6], cut="1 of 2", left_out=["1 of 2"])]
    content = report.as_json(gate, NOW, "stakesim gate")
    assert content["proofs"] == [{"name": "check_payout", "verdict": "proved", "seconds": 1.2}]
    assert [(row["tool"], row["result"]) for row in content["analyses"]] == [("halmos", "pass"), ("slither", "fail")]
    part = content["parts"]["random"]
    assert (part["seeds"], part["cut_short"], part["left_out"]) == ([5, 6], "1 of 2", ["1 of 2"])
    assert all(len(value.removeprefix("0x")) == 64 for value in content["hashes"].values())
    lists = ["equivalent_mutants.json", "unreached.json", "slither_triage.json", "faults.json", "gas.json"]
    assert list(content["reviewed"]) == lists
    assert (
        content["reviewed"]["unreached.json"] == hashlib.sha256((CONTRACTS / "unreached.json").read_bytes()).hexdigest()
    )
    hashes = report.as_json(replace(gate, contract="Stake.json"), NOW, "stakesim gate")["hashes"]
    assert (hashes["sources_sha256"], hashes["settings_sha256"]) == (None, None)  # an artifact has neither
    assert json.dumps(content)


@pytest.mark.parametrize("dirty", [False, True])
def test_json_and_page_name_the_commit(dirty, tmp_path):
    gate = GateResult(production_contract(), None, Terms(), "pr", "revm", 0)
    gate.revision = {"commit": "c0ffee" * 6 + "abcd", "dirty": dirty}
    report.write(gate, tmp_path, "stakesim gate")
    assert json.loads((tmp_path / "gate.json").read_text())["git"] == gate.revision
    assert (f"commit {gate.revision['commit']} with changes" in (tmp_path / "report.html").read_text()) == dirty


class TestAbiHash:
    TRANSFER: ClassVar = {
        "type": "event",
        "name": "Paid",
        "inputs": [
            {"name": "to", "type": "address", "internalType": "address payable", "indexed": True},
            {"name": "how", "type": "tuple", "components": [{"name": "wei_", "type": "uint256"}]},
        ],
        "anonymous": False,
    }
    RECEIVE: ClassVar = {"type": "receive", "stateMutability": "payable"}

    def edited(self, old, new):
        return [json.loads(json.dumps(self.TRANSFER).replace(old, new, 1)), self.RECEIVE]

    def test_what_is_no_part_of_the_interface_does_not_count(self):
        own = abi_hash([self.TRANSFER, self.RECEIVE])
        assert abi_hash([self.RECEIVE, self.TRANSFER, self.TRANSFER]) == own
        assert abi_hash(self.edited("address payable", "contract Vault")) == own
        assert abi_hash(self.edited(', "anonymous": false', "")) == own
        assert abi_hash([self.TRANSFER, self.RECEIVE | {"inputs": []}]) == own

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ('"event"', '"error"'),
            ("Paid", "Sent"),
            ("uint256", "int256"),
            ('"indexed": true', '"indexed": false'),
            ('"wei_"', '"gwei_"'),
            ('"anonymous": false', '"anonymous": true'),
        ],
    )
    def test_each_part_of_the_interface_counts(self, old, new):
        assert abi_hash(self.edited(old, new)) != abi_hash([self.TRANSFER, self.RECEIVE])

    def test_the_contract_that_the_gate_tries_has_the_abi_of_the_one_that_is_deployed(self):
        """The first is compiled from source, the second an artifact."""
        assert abi_hash(compile_contracts()["EventStake"].abi) == abi_hash(production_contract().abi)

    def test_a_missing_entry_and_the_mutability_count(self):
        hashes = {abi_hash(abi) for abi in ([], [self.RECEIVE], [self.RECEIVE | {"stateMutability": "nonpayable"}])}
        assert len(hashes) == 3


class TestReportCheck:
    """A deployment requires a recent report on the same code and terms."""

    @pytest.fixture
    def gate_json(self, tmp_path):
        file = tmp_path / "gate.json"
        file.write_text(json.dumps(passing_report(NOW)))
        return file

    def with_part(self, file, name, **fields):
        """The report with other fields of a part; without the part if there are none."""
        content = json.loads(file.read_text())
        if fields:
            content["parts"][name] |= fields
        else:
            del content["parts"][name]
        file.write_text(json.dumps(content))

    def check(self, file, artifact=None, terms=None, now=NOW, **options):
        artifact, terms = artifact or production_contract(), terms or Terms()
        return release.check_report(file, artifact, terms, max_age=timedelta(hours=24), now=now, **options)

    def test_a_report_is_valid_up_to_its_highest_age(self, gate_json):
        assert self.check(gate_json, now=NOW + timedelta(hours=24))["verdict"] == "pass"
        with pytest.raises(ReleaseError, match="too old"):
            self.check(gate_json, now=NOW + timedelta(hours=24, seconds=1))

    def test_a_report_from_the_future_is_refused(self, gate_json):
        with pytest.raises(ReleaseError, match="in the future"):
            self.check(gate_json, now=NOW - timedelta(hours=1))

    def test_a_report_on_other_code_is_refused(self, gate_json):
        with pytest.raises(ReleaseError, match="SoundEventStake is not what passed"):
            self.check(gate_json, load_contract(SOUND))

    def test_a_report_on_another_abi_is_refused(self, gate_json):
        """The code is the same, and the gate calls only what the ABI names."""
        artifact = production_contract()
        whole = replace(artifact, abi=[item for item in artifact.abi if item.get("name") != "pause"])
        with pytest.raises(ReleaseError, match=r"its ABI has the hash \w+, \w+ passed"):
            self.check(gate_json, whole)

    @pytest.mark.slow
    def test_a_contract_with_functions_that_its_abi_does_not_name_is_refused(self, gate_json):
        """Also if the gate had the same shortened ABI. Whoever knows them can say so."""
        artifact = production_contract()
        shorter = replace(artifact, abi=[item for item in artifact.abi if item.get("name") != "renounceOwnership"])
        content = json.loads(gate_json.read_text())
        content["hashes"]["abi_sha256"] = abi_hash(shorter.abi)
        gate_json.write_text(json.dumps(content))
        with pytest.raises(
            ReleaseError, match="tried this of EventStake: functions that the ABI does not name: 0x715018a6"
        ):
            self.check(gate_json, shorter)
        assert self.check(gate_json, shorter, without=["interface"])["verdict"] == "pass"

    def test_a_report_on_other_runtime_code_is_refused(self, gate_json):
        """Creation code says what is deployed; an artifact can name any other runtime code for it."""
        artifact = production_contract()
        with pytest.raises(ReleaseError, match="other runtime code"):
            self.check(gate_json, replace(artifact, deployed_bytecode=artifact.deployed_bytecode + "00"))

    def test_a_report_that_names_no_abi_is_refused(self, gate_json):
        """Versions before 0.3 did not hash it."""
        content = json.loads(gate_json.read_text())
        del content["hashes"]["abi_sha256"]
        gate_json.write_text(json.dumps(content))
        with pytest.raises(ReleaseError, match="does not say which ABI passed: run `stakesim gate` again"):
            self.check(gate_json)

    def test_a_report_with_other_terms_is_refused(self, gate_json):
        with pytest.raises(ReleaseError, match=r"fee_bps 400 \(passed: 500\)"):
            self.check(gate_json, terms=Terms(fee_bps=400))

    def test_a_report_with_more_terms_or_fewer_is_refused(self, gate_json):
        content = json.loads(gate_json.read_text())
        del content["constructor"]["terms"]["fee_bps"]
        gate_json.write_text(json.dumps(content))
        with pytest.raises(ReleaseError, match=r"Other terms passed: fee_bps 500 \(passed: None\)\."):
            self.check(gate_json)
        content["constructor"]["terms"] |= {"fee_bps": 500, "new": 1}
        gate_json.write_text(json.dumps(content))
        with pytest.raises(ReleaseError, match=r"Other terms passed: new None \(passed: 1\)\."):
            self.check(gate_json)

    def test_a_failed_report_is_refused(self, gate_json):
        gate_json.write_text(gate_json.read_text().replace('"pass"', '"fail"', 1))
        with pytest.raises(ReleaseError, match="did not pass"):
            self.check(gate_json)

    def test_a_report_of_a_smaller_profile_is_enough_only_if_one_says_so(self, gate_json):
        gate_json.write_text(gate_json.read_text().replace('"release"', '"nightly"', 1))
        with pytest.raises(ReleaseError, match="is of the profile nightly: run `stakesim gate --profile release`"):
            self.check(gate_json)
        assert self.check(gate_json, profile="pr")["verdict"] == "pass"

    @pytest.mark.slow
    @pytest.mark.parametrize("name", [name for name in PARTS if name != REGRESSIONS])
    def test_each_part_that_was_not_tried_is_named(self, gate_json, name):
        self.with_part(gate_json, name, result="not tried")
        with pytest.raises(ReleaseError, match=rf"release: {name} \(not tried\)\..* deploy with --without {name}\."):
            self.check(gate_json)
        assert self.check(gate_json, without=[name])["verdict"] == "pass"
        if name in LONG_PARTS:
            assert self.check(gate_json, profile="pr")["verdict"] == "pass"
        else:
            with pytest.raises(ReleaseError, match=rf"profile pr: {name}"):
                self.check(gate_json, profile="pr")

    def test_a_project_need_not_have_regressions(self, gate_json):
        self.with_part(gate_json, REGRESSIONS, result="not tried")
        assert self.check(gate_json)["verdict"] == "pass"

    def test_a_part_that_was_cut_short_is_named_with_what_was_played(self, gate_json):
        self.with_part(gate_json, "calls", cut_short="3 of 4 calls")
        self.with_part(gate_json, "proofs", result="not tried")
        missing = r"release: calls \(cut short, 3 of 4 calls\), proofs \(not tried\)\."
        with pytest.raises(ReleaseError, match=missing):
            self.check(gate_json)
        assert self.check(gate_json, without=["calls", "proofs"])["verdict"] == "pass"

    @pytest.mark.parametrize("part", ["coverage", "mutants"])
    def test_code_that_was_not_measured_is_named(self, gate_json, part):
        left_out = ["coverage and mutants of Helper (Helper.sol), which it creates"]
        self.with_part(gate_json, part, left_out=left_out)
        missing = rf"{part} \(not complete: coverage and mutants of Helper \(Helper.sol\)"
        with pytest.raises(ReleaseError, match=missing):
            self.check(gate_json)
        assert self.check(gate_json, without=[part])["verdict"] == "pass"
        self.with_part(gate_json, part, left_out=[])
        self.with_part(gate_json, "calls", left_out=["calls: expire (the contract has no such function)"])
        self.with_part(gate_json, "gas", left_out=["gas compared with reviewed gas"])  # of a contract from elsewhere
        assert self.check(gate_json)["verdict"] == "pass"

    def test_a_report_that_lacks_a_part_is_refused(self, gate_json):
        """The gate writes each part, also one that was not tried."""
        self.with_part(gate_json, "mutants")
        with pytest.raises(ReleaseError, match="contradicts itself: it lacks the part mutants"):
            self.check(gate_json, without=["mutants"])

    def test_regressions_that_were_cut_short_are_named(self, gate_json):
        self.with_part(gate_json, REGRESSIONS, cut_short="3 of 5 regressions")
        with pytest.raises(ReleaseError, match=r"regressions \(cut short, 3 of 5 regressions\)"):
            self.check(gate_json)
        assert self.check(gate_json, without=[REGRESSIONS])["verdict"] == "pass"

    @pytest.mark.parametrize("fields", [{"result": "not tried"}, {"cut_short": "1 of 2"}])
    def test_something_must_have_run_whatever_is_waived(self, gate_json, fields):
        for name in ("scripted", "random"):
            self.with_part(gate_json, name, **fields)
        assert self.check(gate_json, without=PARTS)["verdict"] == "pass"
        self.with_part(gate_json, "calls", **fields)
        with pytest.raises(ReleaseError, match="one of scripted, random, calls must be, whatever --without names"):
            self.check(gate_json, profile="pr", without=PARTS)

    @pytest.mark.parametrize("result", ["fail", "vacuous"])
    def test_a_part_that_did_not_pass_is_named_whatever_the_verdict_says(self, gate_json, result):
        self.with_part(gate_json, "faults", result=result)
        with pytest.raises(ReleaseError, match=rf"did not pass: faults \({result}\)"):
            self.check(gate_json, without=["faults"])

    def test_without_takes_names_of_parts(self, gate_json):
        with pytest.raises(ReleaseError, match="The gate has no part proof: --without takes interface, "):
            self.check(gate_json, without=["proof"])

    @pytest.mark.parametrize("text", ["", "[]", '{"verdict": "pass"}'])
    def test_a_file_that_is_no_report_is_refused(self, gate_json, text):
        gate_json.write_text(text)
        with pytest.raises(ReleaseError, match="is no report of the gate"):
            self.check(gate_json)
        gate_json.unlink()
        with pytest.raises(ReleaseError, match="Run `stakesim gate` first"):
            self.check(gate_json)


def test_a_bad_term_is_refused(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, ["gate", "--term", "fee_bps=4000"])
    assert result.exit_code == 2
    assert "less than or equal to 1000" in " ".join(result.output.replace("│", " ").split())


def test_the_long_profiles_take_a_fresh_seed(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    seeds = []

    class Enough(Exception):
        """The seed is known."""

    def run_gate(*_args, seed, **_options):
        seeds.append(seed)
        raise Enough

    monkeypatch.setattr(pipeline, "run_gate", run_gate)
    for profile in ("pr", "nightly", "nightly", "release", "release"):
        result = CliRunner().invoke(cli, ["gate", "--profile", profile])
        assert isinstance(result.exception, Enough), result.output
        assert f"seed {seeds[-1]}\n" in result.output
    assert (seeds[0], len(set(seeds))) == (0, 5)
