"""The gate: its verdict, the files that it writes, and deployments that require them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET

import pandas as pd
import pytest
from stakesim.commands.cli import cli
from stakesim.evm.compiler import CONTRACTS
from stakesim.evm.contract_file import load_contract, production_contract
from stakesim.gate import pipeline, release, report
from stakesim.gate.errors import ReleaseError
from stakesim.gate.pipeline import interface_problems
from stakesim.gate.result import EFFORTS, Effort, GatePart, GateResult, PartVerdict
from stakesim.scenario.actions import Terms
from typer.testing import CliRunner

STAND_IN = str(CONTRACTS / "test" / "MinimalEventStake.sol")
SOUND = str(CONTRACTS / "test" / "SoundEventStake.sol")
OVERPAID = f"{CONTRACTS / 'test' / 'Planted.sol'}:KeepsOverpayment"
SMALL = Effort(runs=8, walks=12, steps=12, examples=2, moves=8, calls=1_500, faults=0)
NOW = datetime(2026, 1, 2, tzinfo=UTC)


def run_small_gate(monkeypatch, contract, engine, **more):
    monkeypatch.setitem(EFFORTS, "pr", SMALL)
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
            ("regressions", "pass"),
            ("random", "pass"),
            ("hostile", "pass"),
            ("stateful", "pass"),
            ("calls", "not tried"),  # it has not all functions of IEventStake
            ("gas", "pass"),
            ("coverage", "pass"),
        ]

    def test_json_has_what_a_deployment_requires(self, passing_gate):
        gate, folder = passing_gate
        gate_json_content = json.loads((folder / "gate.json").read_text())
        assert gate_json_content["verdict"] == "pass"
        assert gate_json_content["contract"]["bytecode_keccak256"] == release.code_hash(gate.artifact.bytecode)
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

    def test_the_page_is_complete_in_one_file(self, passing_gate):
        _, folder = passing_gate
        page = (folder / "report.html").read_text()
        assert "Passed" in page
        assert page.count("<svg") == 2
        assert "src=" not in page
        assert "function completeEvent" in page  # the source, line by line
        [left_out] = re.findall("does not have these actions, so they were left out: (.*?)\\.<", page)
        assert {"cancel_booking", "expire", "set_operator"} <= set(left_out.split(", "))


class TestFailing:
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

    @pytest.mark.slow
    def test_weaknesses_of_the_deployed_contract_are_named(self, monkeypatch, tmp_path, engine_name):
        monkeypatch.setitem(EFFORTS, "pr", replace(SMALL, examples=10, moves=20))
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


class TestReportCheck:
    """A deployment requires a recent report on the same code and terms."""

    @pytest.fixture
    def gate_json(self, tmp_path):
        gate = GateResult(production_contract(), None, Terms(), "pr", "revm", 0)
        file = tmp_path / "gate.json"
        file.write_text(json.dumps(report.as_json(gate, NOW, "stakesim gate")))
        return file

    def check(self, file, artifact=None, terms=None, now=NOW):
        return release.check_report(
            file, artifact or production_contract(), terms or Terms(), max_age=timedelta(hours=24), now=now
        )

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
