"""The gate: one verdict, the files that it writes, and what a deploy makes of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET

import pandas as pd
import pytest
from eth_account import Account
from stakesim.commands.cli import cli
from stakesim.evm.anvil import start_anvil
from stakesim.evm.compiler import CONTRACTS
from stakesim.evm.contract_file import load_contract, production_contract
from stakesim.gate import pipeline, release, report
from stakesim.gate.conformance import interface_problems
from stakesim.scenario.actions import Terms
from typer.testing import CliRunner
from web3 import HTTPProvider, Web3

STAND_IN = str(CONTRACTS / "test" / "MinimalEventStake.sol")
SOUND = str(CONTRACTS / "test" / "SoundEventStake.sol")
OVERPAID = f"{CONTRACTS / 'test' / 'Planted.sol'}:KeepsOverpayment"
SMALL = pipeline.Effort(runs=8, walks=6, steps=12, examples=2, moves=8, faults=0)
NOW = datetime(2026, 1, 2, tzinfo=UTC)


def small(monkeypatch, contract, engine, **more):
    monkeypatch.setitem(pipeline.EFFORTS, "pr", SMALL)
    return pipeline.run_gate(contract, engine=engine, jobs=1, **more)


@pytest.fixture(scope="module")
def passed(tmp_path_factory, engine_name):
    """A report of a sound contract that has only the interface deployed on Sepolia."""
    folder = tmp_path_factory.mktemp("gate")
    with pytest.MonkeyPatch.context() as patch:
        made = small(patch, SOUND, engine_name)
    report.write(made, folder, "stakesim gate")
    return made, folder


@pytest.mark.slow
class TestPassing:
    def test_a_sound_contract_passes(self, passed):
        made, _ = passed
        assert made.ok
        assert [(part.name, part.verdict) for part in made.parts] == [
            ("interface", "pass"),
            ("scripted", "pass"),
            ("regressions", "pass"),
            ("random", "pass"),
            ("hostile", "pass"),
            ("stateful", "pass"),
            ("gas", "pass"),
            ("coverage", "pass"),
        ]

    def test_json_says_what_a_deploy_needs(self, passed):
        made, folder = passed
        told = json.loads((folder / "gate.json").read_text())
        assert told["verdict"] == "pass"
        assert told["contract"]["bytecode_keccak256"] == release.code_hash(made.artifact.bytecode)
        assert told["constructor"] == {"terms": dict(Terms())}
        assert told["parts"]["scripted"]["figures"]["scenarios"] > 25
        assert told["seed"] == 0
        assert told["versions"]["solc"]

    def test_the_ledger_is_read_as_a_table(self, passed):
        made, folder = passed
        assert len(pd.read_parquet(folder / "ledger.parquet")) == len(made.rows)

    def test_junit_has_a_case_for_each_part(self, passed):
        made, folder = passed
        suite = ET.parse(folder / "junit.xml").getroot()
        assert (suite.get("failures"), suite.get("tests")) == ("0", str(len(made.parts)))

    def test_the_page_needs_nothing_else(self, passed):
        _, folder = passed
        page = (folder / "report.html").read_text()
        assert "Passed" in page
        assert page.count("<svg") == 2
        assert "src=" not in page
        assert "function completeEvent" in page  # the source, line by line
        assert "does not have these actions, so they were left out: cancel_booking, expire" in page


class TestFailing:
    @pytest.mark.slow
    def test_a_finding_is_told_in_every_file(self, monkeypatch, tmp_path, engine_name):
        made = small(monkeypatch, OVERPAID, engine_name)
        assert not made.ok
        report.write(made, tmp_path, "stakesim gate")
        for name in ("report.html", "summary.md", "junit.xml"):
            assert "WEAKNESS: overpayment is kept" in (tmp_path / name).read_text(), name
        told = json.loads((tmp_path / "gate.json").read_text())
        assert told["verdict"] == "fail"
        assert told["parts"]["scripted"]["findings"] == ["overpayment is kept"]
        assert "Do not deploy it" in (tmp_path / "report.html").read_text()

    @pytest.mark.slow
    def test_the_deployed_contract_fails_by_the_names_of_its_weaknesses(self, monkeypatch, tmp_path, engine_name):
        monkeypatch.setitem(pipeline.EFFORTS, "pr", replace(SMALL, examples=20, moves=20))
        asked = ["gate", "--contract", STAND_IN, "--engine", engine_name, "-j", "1", "--out", str(tmp_path)]
        done = CliRunner().invoke(cli, asked)
        assert (done.exit_code, type(done.exception)) == (1, SystemExit)
        weaknesses = {
            "overpayment is kept",
            "one hostile receiver blocks everybody",
            "terms change under a booked run",
            "a full run doesn't fit in a transaction",
        }
        named = {line for line in done.output.splitlines() if line.startswith("WEAKNESS: ")}
        assert {line.removeprefix("WEAKNESS: ").partition(" (")[0] for line in named} == weaknesses
        assert "CRASH" not in done.output
        told = json.loads((tmp_path / "gate.json").read_text())
        assert told["verdict"] == "fail"
        assert told["parts"]["interface"]["result"] == "pass"
        assert set(told["parts"]["scripted"]["findings"]) == weaknesses
        [shortest] = told["parts"]["stateful"]["findings"]
        assert shortest in weaknesses

    @pytest.mark.slow
    def test_gas_that_was_not_reviewed_fails(self, monkeypatch, environment):
        made = pipeline.GateResult(production_contract(), None, Terms(), "pr", "revm", 0)
        part = pipeline.GatePart("gas", "")
        monkeypatch.setattr(pipeline, "open_environment", lambda *_: _Kept(environment))
        monkeypatch.setattr(pipeline.gas_table, "reviewed", lambda: {"something else": 1})
        pipeline._gas(made, part)
        assert part.verdict is pipeline.PartVerdict.FAIL
        assert "something else: was 1, is None" in part.problems


class _Kept:
    """A environment that others go on with."""

    def __init__(self, environment):
        self._world = environment

    def __getattr__(self, name):
        return getattr(self._world, name)

    def close(self):
        pass


class TestInterface:
    def test_what_differs_is_named(self):
        artifact = production_contract()
        for item in artifact.abi:
            if item.get("name") == "bookEvent":
                item["outputs"] = []
            if item.get("name") == "BookingNoShow":
                item["inputs"][0]["indexed"] = False
        artifact.abi[:] = [item for item in artifact.abi if item.get("name") != "getBooking"]
        found = interface_problems(artifact)
        assert found == [
            "The function getBooking is missing: getBooking(uint256).",
            "bookEvent returns nothing where (uint256) must be.",
            "The event BookingNoShow has (uint256, address indexed, uint256) where (uint256 indexed, address indexed, "
            "uint256) must be.",
        ]


class TestAdmittance:
    """Only the code and the terms that passed, and not long ago."""

    @pytest.fixture
    def gate_json(self, tmp_path):
        made = pipeline.GateResult(production_contract(), None, Terms(), "pr", "revm", 0)
        file = tmp_path / "gate.json"
        file.write_text(json.dumps(report.as_json(made, NOW, "stakesim gate")))
        return file

    def admit(self, file, artifact=None, terms=None, now=NOW):
        return release.check_report(
            file, artifact or production_contract(), terms or Terms(), max_age=timedelta(hours=24), now=now
        )

    def test_what_passed_is_admitted_for_as_long_as_is_said(self, gate_json):
        assert self.admit(gate_json, now=NOW + timedelta(hours=24))["verdict"] == "pass"
        with pytest.raises(release.ReleaseError, match="too old"):
            self.admit(gate_json, now=NOW + timedelta(hours=24, seconds=1))

    def test_nothing_from_the_future(self, gate_json):
        with pytest.raises(release.ReleaseError, match="in the future"):
            self.admit(gate_json, now=NOW - timedelta(hours=1))

    def test_no_other_code(self, gate_json):
        with pytest.raises(release.ReleaseError, match="SoundEventStake is not what passed"):
            self.admit(gate_json, load_contract(SOUND))

    def test_no_other_terms(self, gate_json):
        with pytest.raises(release.ReleaseError, match=r"fee_bps 400 \(passed: 500\)"):
            self.admit(gate_json, terms=Terms(fee_bps=400))

    def test_nothing_that_failed(self, gate_json):
        gate_json.write_text(gate_json.read_text().replace('"pass"', '"fail"', 1))
        with pytest.raises(release.ReleaseError, match="did not pass"):
            self.admit(gate_json)

    @pytest.mark.parametrize("text", ["", "[]", '{"verdict": "pass"}'])
    def test_nothing_else_than_a_report(self, gate_json, text):
        gate_json.write_text(text)
        with pytest.raises(release.ReleaseError, match="is no report of the gate"):
            self.admit(gate_json)
        gate_json.unlink()
        with pytest.raises(release.ReleaseError, match="Run `stakesim gate` first"):
            self.admit(gate_json)


@pytest.fixture(scope="module")
def node():
    url, stop = start_anvil()
    yield url
    stop()


@pytest.mark.slow
class TestOnAChain:
    @pytest.fixture
    def stakesim(self, node, tmp_path):
        account = Account.create()
        Web3(HTTPProvider(node)).provider.make_request("anvil_setBalance", [account.address, hex(10**20)])

        def call(*args):
            env = {**os.environ, "PLATFORM_PRIVATE_KEY": account.key.to_0x_hex()}
            return subprocess.run(
                [sys.executable, "-c", "from stakesim.commands.cli import main; main()", *args],
                env=env,
                capture_output=True,
                text=True,
                cwd=tmp_path,
                check=False,
            )

        return call

    @pytest.fixture
    def fresh(self, tmp_path):
        made = pipeline.GateResult(production_contract(), None, Terms(), "pr", "revm", 0)
        file = tmp_path / "gate.json"
        file.write_text(json.dumps(report.as_json(made, datetime.now(UTC), "stakesim gate")))
        return str(file)

    def test_what_was_deployed_is_verified_and_what_differs_is_said(self, stakesim, node, fresh, tmp_path):
        done = stakesim("deploy", "--rpc", node, "--gate", fresh)
        assert done.returncode == 0, done.stderr
        [file] = (tmp_path / "deployments").glob("*.json")
        record = json.loads(file.read_text())
        done = stakesim("verify", "--rpc", node, "--address", record["address"])
        assert (done.returncode, done.stdout.strip()) == (
            0,
            f"{record['address']} is what was deployed: code, owner, terms",
        )
        code = bytearray.fromhex(record["runtime_code"][2:])
        code[100] ^= 1
        other = record | {"owner": "0x" + "11" * 20, "runtime_code": "0x" + code.hex()}
        other["terms"] = record["terms"] | {"fee_bps": 400}
        file.write_text(json.dumps(other))
        done = stakesim("verify", "--rpc", node, "--address", record["address"])
        assert done.returncode == 1
        assert "The code differs from byte 100 on" in done.stdout
        assert f"The owner is {record['owner']}, it was {other['owner']}." in done.stdout
        assert "fee_bps is 500, deployed was 400." in done.stdout
        assert "3 differences" in done.stdout

    def test_what_did_not_pass_is_not_deployed(self, stakesim, node, fresh):
        done = stakesim("deploy", "--rpc", node, "--gate", fresh, "--term", "stake_bps=1000")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == (
            "stakesim: Other terms passed: stake_bps 1000 (passed: 2000). Run `stakesim gate` with these terms.\n"
        )

    def test_an_address_without_a_contract_is_said(self, stakesim, node, fresh, tmp_path):
        stakesim("deploy", "--rpc", node, "--gate", fresh, "--record", "record.json")
        nowhere = "0x" + "22" * 20
        done = stakesim("verify", "--rpc", node, "--address", nowhere, "--record", "record.json")
        assert done.returncode == 1
        assert f"There is no contract at {nowhere}." in done.stdout


def test_a_bad_term_is_refused(tmp_path):
    from typer.testing import CliRunner

    done = CliRunner().invoke(cli, ["gate", "--term", "fee_bps=4000"])
    assert done.exit_code == 2
    assert "less than or equal to 1000" in " ".join(done.output.replace("│", " ").split())
