"""The gate: its verdict, the files that it writes, and deployments that require them."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from xml.etree import ElementTree as ET

import pandas as pd
import pytest
from stakesim.campaign import campaign
from stakesim.campaign.result import CampaignResult
from stakesim.commands.cli import cli
from stakesim.evm.compiler import CONTRACTS
from stakesim.evm.contract_file import load_contract, production_contract
from stakesim.gate import coverage, pipeline, release, report, source_parts
from stakesim.gate.errors import ReleaseError
from stakesim.gate.hashes import code_hash
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
from typer.testing import CliRunner

STAND_IN = str(CONTRACTS / "test" / "MinimalEventStake.sol")
SOUND = str(CONTRACTS / "test" / "SoundEventStake.sol")
OVERPAID = f"{CONTRACTS / 'test' / 'Planted.sol'}:KeepsOverpayment"
SMALL = Effort(60, runs=8, walks=12, steps=12, examples=2, moves=8, calls=1_500, mutants=1, faults=0)
NOW = datetime(2026, 1, 2, tzinfo=UTC)


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

    @pytest.mark.slow
    def test_gas_that_was_not_reviewed_fails(self, monkeypatch, environment):
        gate = GateResult(production_contract(), None, Terms(), "pr", "revm", 0)
        part = GatePart("gas", "")
        monkeypatch.setattr(pipeline, "open_environment", lambda *_, **__: _SharedEnvironment(environment))
        monkeypatch.setattr(pipeline.gas_table, "reviewed", lambda: {"something else": 1})
        pipeline._gas(gate, part)
        assert part.verdict is PartVerdict.FAIL
        assert "something else: was 1, is None" in part.problems


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


class TestInterface:
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
    gate.contract = "Stake.json"
    hashes = report.as_json(gate, NOW, "stakesim gate")["hashes"]
    assert (hashes["sources_sha256"], hashes["settings_sha256"]) == (None, None)  # an artifact has neither
    assert json.dumps(content)


class TestReportCheck:
    """A deployment requires a recent report on the same code and terms."""

    @pytest.fixture
    def gate_json(self, tmp_path):
        gate = GateResult(production_contract(), None, Terms(), "release", "revm", 0)
        gate.parts = [GatePart(name, "") for name in PARTS]
        file = tmp_path / "gate.json"
        file.write_text(json.dumps(report.as_json(gate, NOW, "stakesim gate")))
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

    def test_a_report_with_other_terms_is_refused(self, gate_json):
        with pytest.raises(ReleaseError, match=r"fee_bps 400 \(passed: 500\)"):
            self.check(gate_json, terms=Terms(fee_bps=400))

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
        with pytest.raises(ReleaseError, match=rf"{part} \(cut short, coverage and mutants of Helper \(Helper.sol\)"):
            self.check(gate_json)
        assert self.check(gate_json, without=[part])["verdict"] == "pass"
        self.with_part(gate_json, part, left_out=[])
        self.with_part(gate_json, "calls", left_out=["calls: expire (the contract has no such function)"])
        assert self.check(gate_json)["verdict"] == "pass"

    def test_a_part_that_the_report_does_not_know_is_named(self, gate_json):
        """It was made by a gate that did not have it yet."""
        self.with_part(gate_json, "mutants")
        with pytest.raises(ReleaseError, match=r"mutants \(not tried\)"):
            self.check(gate_json)

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


def test_a_bad_term_is_refused(tmp_path):
    from typer.testing import CliRunner

    result = CliRunner().invoke(cli, ["gate", "--term", "fee_bps=4000"])
    assert result.exit_code == 2
    assert "less than or equal to 1000" in " ".join(result.output.replace("│", " ").split())


def test_the_long_profiles_take_a_fresh_seed(monkeypatch):
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
