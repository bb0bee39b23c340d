"""The gate's time: parts share it, and what did not fit in is no silent pass."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from types import SimpleNamespace

import pytest
from stakesim.campaign import campaign
from stakesim.campaign.result import CampaignResult
from stakesim.commands.cli import cli
from stakesim.evm.compiler import CONTRACTS
from stakesim.evm.contract_file import production_contract
from stakesim.evm.errors import EngineError
from stakesim.faults import campaign as fault_campaign
from stakesim.faults import limited_runner
from stakesim.faults.protocol import EpisodeResult, Violation
from stakesim.gate import budget, mutation_run, pipeline, proof_tools, proofs, report, source_parts, static_analysis
from stakesim.gate.budget import Budget
from stakesim.gate.mutation_result import MutantStatus, Verdict
from stakesim.gate.mutation_run import mutate
from stakesim.gate.profiles import EFFORTS, LONG_PARTS, PARTS
from stakesim.gate.result import GatePart, GateResult, PartVerdict
from stakesim.runner.findings import Finding
from stakesim.scenario.actions import Terms
from stakesim.search import side_by_side, stateful
from stakesim.search.side_by_side import Searched
from stakesim.workers.pool import worker_pool
from stakesim.workers.processes import WorkerDied
from typer.testing import CliRunner

MINIMAL = CONTRACTS / "test" / "MinimalEventStake.sol"


@pytest.fixture(autouse=True)
def no_check_of_the_call(monkeypatch):
    """Nothing is opened that these tests do not use."""
    monkeypatch.setattr(pipeline, "_check_call", lambda gate: None)


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test moves: a list with the time."""
    now = [100.0]
    monkeypatch.setattr(budget.time, "monotonic", lambda: now[0])
    return now


def test_parts_share_the_time_in_proportion_and_leave_what_they_do_not_use(clock):
    shared = Budget(60, {"a": 10, "b": 10, "c": 40})
    assert shared.begin("a") == 110
    clock[0] += 1  # it needed only one second of its ten
    assert shared.begin("b") == pytest.approx(101 + 59 / 5)
    clock[0] = 150  # it took longer, as a part that can't be interrupted
    assert shared.begin("c") == 160
    clock[0] = 160
    assert shared.is_up


def test_what_is_whole_or_nothing_takes_half_of_the_time_if_that_is_more_than_its_share(clock):
    shared = Budget(80, {"coverage": 10, "mutants": 30})
    assert shared.begin("coverage", at_least=0.5) == 140
    assert Budget(80, {"coverage": 30, "mutants": 10}).begin("coverage", at_least=0.5) == 160


def test_parts_that_can_not_run_on_a_contract_have_no_share(own):
    assert tuple(pipeline._usual_seconds(own)) == tuple(name for name in PARTS if name not in LONG_PARTS)
    own.profile, own.contract = "nightly", "Stake.json"
    assert set(PARTS) - set(pipeline._usual_seconds(own)) == {"coverage", "mutants", "slither", "proofs", "faults"}
    shared = Budget(60, {"a": 1})
    assert "b" not in shared
    assert shared.begin("b") <= shared.begin("a")  # which has all of the time


def test_every_profile_has_a_time_and_a_share_for_every_part():
    assert EFFORTS["pr"].minutes == 5
    for effort in EFFORTS.values():
        assert tuple(effort.usual_seconds) == PARTS
        assert all(seconds > 0 for name, seconds in effort.usual_seconds.items() if name not in effort.left_out)
    assert EFFORTS["pr"].left_out == LONG_PARTS
    for name in ("pr", "nightly", "release"):  # what is usual fits in, on two cores
        effort = EFFORTS[name]
        needed = sum(seconds for part, seconds in effort.usual_seconds.items() if part not in effort.left_out)
        assert needed / 2 < 60 * effort.minutes, name


class TestPlayed:
    def part(self, verdict, done):
        part = GatePart("calls", "", verdict)
        part.played(done, 60_000, "calls")
        return part

    def test_a_part_that_played_everything_says_nothing(self):
        part = self.part(PartVerdict.PASS, 60_199)
        assert (part.verdict, part.cut, part.left_out, part.problems) == ("pass", "", [], [])

    def test_a_part_cut_short_says_what_was_played_and_what_was_left(self):
        part = self.part(PartVerdict.PASS, 45_000)
        assert (part.verdict, part.cut) == ("pass", "45,000 of 60,000 calls")
        assert part.left_out == ["15,000 of 60,000 calls"]

    def test_too_little_is_no_pass(self):
        part = self.part(PartVerdict.PASS, 29_999)
        assert part.verdict == "vacuous"
        assert part.problems == ["The time was up after 29,999 of 60,000 calls: give it more time with --for."]

    def test_a_failure_stays_one(self):
        assert self.part(PartVerdict.FAIL, 10).verdict == "fail"


def test_parts_that_were_not_begun_are_named(monkeypatch):
    """The first part takes all the time, as one that can't be interrupted."""

    def slow(gate, part):
        part.passes_if(True)
        clock[0] += 1_000

    clock = [0.0]
    checks = [pipeline._Check("interface", "", slow), pipeline._Check("random", "", pipeline._random)]
    monkeypatch.setattr(pipeline, "_checks", lambda effort: checks)
    monkeypatch.setattr(budget.time, "monotonic", lambda: clock[0])
    gate = pipeline.run_gate(seconds=60)
    assert [part.verdict for part in gate.parts] == ["pass", "vacuous"]
    assert not gate.ok
    assert report.verdict_line(gate) == "VACUOUS; not tried: random"
    assert gate.parts[1].problems == ["The time was up before it began: give the gate more time with --for."]


@pytest.mark.slow
@pytest.mark.parametrize(("finds", "verdict", "code"), [(False, "vacuous", 130), (True, "fail", 1)])
def test_ctrl_c_keeps_what_is_done_and_passes_in_no_case(monkeypatch, run_stakesim, tmp_path, finds, verdict, code):
    def interrupted(gate, part):
        result = CampaignResult([], [Finding("INV-01", "conservation", "lost")] if finds else [], interrupted=True)
        pipeline._add_result(gate, part, result, "scenarios")

    names = {"interface": lambda gate, part: part.passes_if(True), "random": interrupted, "gas": pytest.fail}
    monkeypatch.setattr(pipeline, "_checks", lambda effort: [pipeline._Check(name, "", names[name]) for name in names])
    ended = run_stakesim("gate", "--out", tmp_path)
    written = json.loads((tmp_path / "gate.json").read_text())
    assert (ended.returncode, written["verdict"]) == (code, verdict)
    assert [part["result"] for part in written["parts"].values()] == ["pass", verdict, "not tried"]
    assert "Ctrl-C ended the gate here." in ended.stdout
    assert written["parts"]["gas"]["problems"] == ["Ctrl-C ended the gate before it began."]


@pytest.mark.slow
def test_ctrl_c_keeps_the_verdicts_on_mutants(monkeypatch, run_stakesim, tmp_path):
    def judge_one(run, mutants, equivalents):
        yield run._kept(Verdict(mutants[0], MutantStatus.KILLED))
        raise KeyboardInterrupt

    monkeypatch.setattr(mutation_run._Run, "plain_verdicts", judge_one)
    file = tmp_path / "verdicts.jsonl"
    ended = run_stakesim("mutate", "--out", file)
    assert ended.returncode == 130
    assert "interrupted: the same command goes on from" in " ".join(ended.stdout.split())
    assert len(file.read_text().splitlines()) == 2  # what it is about, and the verdict


@pytest.fixture
def own():
    return GateResult(production_contract(), None, Terms(), "pr", "revm", 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("check", "what"),
    [
        (pipeline._random, "200 of 200 random scenarios"),
        (pipeline._hostile, "150 of 150 walks"),
        (pipeline._stateful, "40 of 40 examples of the stateful search"),
        (pipeline._calls, "60,000 of 60,000 calls"),
    ],
)
def test_a_part_without_time_is_no_pass(own, check, what):
    part = GatePart("part", "", ends=time.monotonic())
    check(own, part)
    assert part.verdict is PartVerdict.VACUOUS
    [left_out] = part.left_out
    done, of = (int(text.replace(",", "")) for text in (left_out.split()[0], what.split()[0]))
    assert 0.97 * of < done <= of  # calls that bring the contract into its worlds are played
    assert left_out.partition(" of ")[2] == what.partition(" of ")[2]


class TestCtrlC:
    """What a part has found until then is told."""

    @pytest.mark.slow
    @pytest.mark.parametrize("while_shrinking", [True, False])
    def test_stateful(self, own, monkeypatch, while_shrinking):
        def ctrl_c(*_):
            raise KeyboardInterrupt

        failure = SimpleNamespace(findings=[Finding("INV-01", "conservation", "lost")], kind=1, scenario=None)
        monkeypatch.setattr(pipeline, "_open_environment", lambda _: SimpleNamespace(foreign=False, close=lambda: None))
        monkeypatch.setattr(pipeline, "shortest_findings", lambda failures: [each.findings[0] for each in failures])
        monkeypatch.setattr(stateful, "_run_example", lambda *_: failure if len(seen) < 2 else ctrl_c())
        monkeypatch.setattr(stateful, "shrink", ctrl_c if while_shrinking else lambda _, failure: failure)
        seen = []
        monkeypatch.setattr(stateful, "default_rng", seen.append)
        part = GatePart("stateful", "")
        with pytest.raises(KeyboardInterrupt):
            pipeline._stateful(own, part)
        part.interrupted()
        assert (part.verdict, len(part.findings), len(seen)) == ("fail", 1, 1 if while_shrinking else 2)

    @pytest.mark.parametrize("error", [KeyboardInterrupt(), EngineError("halmos leaves out check_b.")])
    def test_proofs(self, own, monkeypatch, error):
        def prove(**_):
            yield proofs.Proof("check_a", proofs.REFUTED, 1.0)
            raise error

        monkeypatch.setattr(proofs, "prove", prove)
        monkeypatch.setattr(proof_tools, "installed", lambda _: None)
        part = GatePart("proofs", "")
        if isinstance(error, KeyboardInterrupt):
            with pytest.raises(KeyboardInterrupt):
                pipeline._proofs(own, part)
            part.interrupted()
        else:
            pipeline._proofs(own, part)
            assert part.problems[1] == str(error)
        assert part.verdict == "fail"
        assert part.problems[0].startswith("check_a is not proved: there is a counterexample")

    @pytest.mark.slow
    @pytest.mark.parametrize("times", [1, 2])
    def test_while_the_report_is_written(self, monkeypatch, run_stakesim, tmp_path, times):
        """A second Ctrl-C, of somebody impatient, or one after hours of work."""

        def play(gate, part):
            if times == 2:
                raise KeyboardInterrupt

        write = report.write

        def write_slowly(*arguments):
            os.kill(os.getpid(), signal.SIGINT)
            write(*arguments)

        monkeypatch.setattr(pipeline, "_checks", lambda effort: [pipeline._Check("interface", "", play)])
        monkeypatch.setattr(report, "write", write_slowly)
        ended = run_stakesim("gate", "--out", tmp_path)
        assert ended.returncode == (130 if times == 2 else 0)
        assert (tmp_path / "gate.json").exists()


@pytest.mark.parametrize(("missing", "verdict"), [(0, "pass"), (7, "pass"), (34, "vacuous")])
def test_proofs_that_there_was_no_time_for_are_left_out(own, monkeypatch, missing, verdict):
    names = [each.name for each in proofs.properties()]
    count = len(names) - missing

    def prove(*, long, seconds):
        assert (long, 0 < seconds <= 60) == (True, True)
        verdicts = [proofs.PROVED] * count + [proofs.TIME_WAS_UP] * missing
        return [proofs.Proof(name, said, 1.0) for name, said in zip(names, verdicts, strict=True)]

    monkeypatch.setattr(proofs, "prove", prove)
    monkeypatch.setattr(proof_tools, "installed", lambda _: None)
    part = GatePart("proofs", "", ends=time.monotonic() + 60)
    pipeline._proofs(own, part)
    assert (part.verdict, part.figures) == (verdict, {"properties": count, "proved": count})
    assert part.cut == (f"{count} of {len(names)} proofs" if missing else "")
    assert [len(each.proofs) for each in own.analyses] == [count]


def test_a_bug_in_one_part_does_not_lose_the_report_of_the_others(monkeypatch):
    def fails(gate, part):
        raise ValueError("a bug")

    checks = [pipeline._Check("interface", "", pipeline._interface), pipeline._Check("calls", "", fails)]
    monkeypatch.setattr(pipeline, "_checks", lambda _: [*checks, pipeline._Check("gas", "", pipeline._interface)])
    gate = pipeline.run_gate()
    assert [(part.name, part.verdict) for part in gate.parts] == [
        ("interface", "pass"),
        ("calls", "fail"),
        ("gas", "pass"),
    ]
    assert "ValueError: a bug" in gate.parts[1].problems[0]
    assert gate.not_tried == ["the rest of calls"]


@pytest.mark.slow
@pytest.mark.parametrize("check", [pipeline._calls, pipeline._faults, source_parts.mutants_part])
def test_a_part_whose_worker_dies_fails_and_the_others_go_on(check, monkeypatch):
    """As for want of memory, after hours: it was tried, and the report of all other parts is not lost."""

    def dies(*_, **__):
        with worker_pool(1) as submit:
            submit(os._exit, 1).result()

    for target in (
        "stakesim.search.side_by_side.search_contract",
        "stakesim.faults.campaign.run",
        "stakesim.gate.source_parts.mutate",
    ):
        monkeypatch.setattr(target, dies)
    checks = [pipeline._Check("dies", "", check), pipeline._Check("interface", "", pipeline._interface)]
    monkeypatch.setattr(pipeline, "_checks", lambda _: checks)
    gate = pipeline.run_gate(profile="nightly")
    assert [(part.name, part.verdict) for part in gate.parts] == [("dies", "fail"), ("interface", "pass")]
    assert gate.parts[0].problems[0].startswith("A worker process ended in the middle of its work")
    assert gate.not_tried == ["the rest of dies"]


@pytest.mark.parametrize(
    ("end", "problem"),
    [
        (KeyboardInterrupt(), "Ctrl-C ended the gate here."),
        (WorkerDied("A worker ended."), "A worker ended."),
        (ValueError("a bug"), "ValueError: a bug"),
        ("The node vanished.", "The node vanished."),  # told by the search itself
        (None, None),
    ],
)
def test_what_finished_searches_found_stays_whatever_ends_the_others(monkeypatch, end, problem):
    finding = Finding("INV-01", "all wei paid in = all wei paid out + balance", "1 wei is gone")

    def searches(*_, **__):
        yield Searched([7], 60_000, 5, {("a cause",): [finding]})
        if isinstance(end, BaseException):
            raise end
        yield Searched([8], 0, 0, troubles=[end] if end else [])

    monkeypatch.setattr(side_by_side, "search_contract", searches)
    monkeypatch.setattr(pipeline, "_checks", lambda _: [pipeline._Check("calls", "", pipeline._calls)])
    [part] = pipeline.run_gate().parts
    assert (part.verdict, part.findings, part.figures["calls"], part.seeds[0]) == ("fail", [finding], 60_000, 7)
    assert problem is None or problem in part.problems[0]
    assert part.left_out == ([] if end is None else ["the rest of calls"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "is_own"), [("EventStake.sol", True), ("link.sol:EventStake", True), ("Copy.sol", False)]
)
def test_the_packaged_contract_may_be_named_by_its_file(monkeypatch, tmp_path, name, is_own):
    """Its slither, proofs and gas table are not left out then."""
    (tmp_path / "link.sol").symlink_to(CONTRACTS / "EventStake.sol")
    (tmp_path / "Copy.sol").write_text(MINIMAL.read_text())
    monkeypatch.setattr(pipeline, "_checks", lambda _: [pipeline._Check("interface", "", pipeline._interface)])
    folder = CONTRACTS if name == "EventStake.sol" else tmp_path
    assert pipeline.run_gate(str(folder / name)).is_own is is_own


@pytest.mark.slow
@pytest.mark.parametrize("change", ["mended", "mended and broken again", "an import is gone", None])
def test_a_source_that_changes_while_the_gate_runs_is_no_pass(monkeypatch, tmp_path, change):
    """Its parts have tested different contracts, and the report is for the code with which it has begun."""
    source, imported = tmp_path / "Stake.sol", tmp_path / "Base.sol"
    text = MINIMAL.read_text().replace("contract MinimalEventStake", "contract Stake is Base")
    source.write_text(text.replace("pragma", 'import "./Base.sol";\npragma', 1))
    imported.write_text("// SPDX-License-Identifier: MIT\npragma solidity ^0.8.20;\ncontract Base {}\n")
    broken, written = imported.read_text(), imported.read_text().replace("{}", "{ uint256 private _mended; }")

    def begin(name):
        if name == "second" and change == "an import is gone":
            imported.unlink()
        elif name == "second" and change:
            imported.write_text(written)
        elif name == "third" and change == "mended and broken again":
            imported.write_text(broken)

    names = ("first", "second", "third")
    checks = [pipeline._Check(name, "", lambda gate, part: part.passes_if(True)) for name in names]
    monkeypatch.setattr(pipeline, "_checks", lambda _: checks)
    gate = pipeline.run_gate(f"{source}:Stake", progress=begin)
    verdicts = ["pass", "fail", "pass"] if change else ["pass"] * 3
    assert [part.verdict for part in gate.parts] == verdicts
    assert gate.ok is (change is None)
    if change:
        assert "source changed while the gate ran" in gate.parts[1].problems[0]


def test_a_search_that_ends_in_its_midst_is_no_pass(monkeypatch):
    """As where an engine fails after an hour: that is no contract that can't be judged."""

    def searches(*_, **__):
        yield Searched([7], 60_000, 5, troubles=["The search with seed 7 ended in its midst: no more memory"])

    monkeypatch.setattr(side_by_side, "search_contract", searches)
    monkeypatch.setattr(pipeline, "_checks", lambda _: [pipeline._Check("calls", "", pipeline._calls)])
    gate = pipeline.run_gate()
    assert not gate.ok
    assert gate.not_tried == ["the rest of calls"]


@pytest.mark.slow
@pytest.mark.parametrize("problem", [None, "line 5: nothing tells this mutant"])
def test_a_part_that_was_only_cut_has_no_section_of_its_own(own, tmp_path, problem):
    part = GatePart("mutants", "", figures={"mutants": 1_234}, problems=[problem] if problem else [])
    part.passes_if(not problem)
    part.played(3, 1_234, "mutants")
    own.parts = [part]
    report.write(own, tmp_path, "stakesim gate")
    page = (tmp_path / "report.html").read_text()
    assert "1,234 mutants<br>" in page
    assert "the time was up: 3 of 1,234 mutants" in page
    assert ("<h2>Mutants: " in page) is bool(problem)


class TestTrouble:
    """A part that has begun, and can't end, is no pass, whatever its error; one that can't begin here is not tried."""

    @pytest.fixture
    def play(self, own, monkeypatch, tmp_path):
        """Runs one part of the gate."""
        monkeypatch.setattr(proof_tools, "PROOFS", tmp_path)
        monkeypatch.setattr(proof_tools, "forge", lambda: tmp_path)

        def play_(name, contract=None):
            own.profile, own.contract = "release", contract
            checks = [check for check in pipeline._checks(own.effort) if check.name == name]
            monkeypatch.setattr(pipeline, "GateResult", lambda *_, **__: own)
            monkeypatch.setattr(pipeline, "_checks", lambda _: checks)
            return pipeline.run_gate().parts[0]

        return play_

    @pytest.mark.parametrize(("part", "program"), [("slither", "slither"), ("proofs", "halmos")])
    @pytest.mark.parametrize("is_installed", [True, False])
    def test_of_a_tool(self, play, monkeypatch, tmp_path, part, program, is_installed):
        def fails(**_):
            raise EngineError(f"{program} fails: Killed")

        monkeypatch.setattr(static_analysis, program, fails)
        if is_installed:
            (tmp_path / f".{program}" / "bin").mkdir(parents=True)
            (tmp_path / f".{program}" / "bin" / program).touch()
        played = play(part)
        assert played.verdict == ("fail" if is_installed else "not tried")
        assert played.problems == [f"{program} fails: Killed"] or "is missing" in played.problems[0]

    @pytest.mark.parametrize(("contract", "verdict"), [(None, "fail"), ("Stake.json", "not tried")])
    def test_of_gas_and_calls(self, play, monkeypatch, contract, verdict):
        """The project's own contract has all that they need."""

        def no_gas(_):
            raise pipeline.gas_table.GasError("a run is opened: it reverts.")

        def no_search(*_, **__):
            raise EngineError("The contract can't be judged by the lane.")

        monkeypatch.setattr(pipeline, "open_environment", lambda *_, **__: SimpleNamespace(close=lambda: None))
        monkeypatch.setattr(pipeline.gas_table, "measure", no_gas)
        monkeypatch.setattr(side_by_side, "search_contract", no_search)
        monkeypatch.setattr(pipeline, "_has_changed", lambda _: False)
        assert play("gas", contract).verdict == verdict
        assert play("calls", contract).verdict == verdict


class TestFaults:
    @pytest.fixture
    def check(self, own, monkeypatch):
        """Runs the part with what the fault campaign gives or raises."""

        def check_(contract=None, error=None, **result):
            def open_(_campaign):
                if error:
                    raise error
                return SimpleNamespace(close=lambda: None)

            def run(names, *_, **__):
                wrong = [Violation("ONCE", "invoice 7 is paid 2 times")] if result.get("trouble") else []
                episodes = [EpisodeResult(name, Counter(), wrong, []) for name in names[:9]]
                paid_once = SimpleNamespace(statements={"ONCE": "each invoice is paid once"})
                return fault_campaign.FaultCampaignResult(paid_once, 0, episodes, 1.0, **result)

            own.profile, own.contract = "nightly", contract
            monkeypatch.setattr(limited_runner, "LimitedRunner", open_)
            monkeypatch.setattr(fault_campaign, "run", run)
            part = GatePart("faults", "")
            pipeline._faults(own, part)
            return part

        return check_

    def test_of_a_service_with_another_contract_are_not_tried(self, check):
        part = check("another/Contract.sol")
        assert part.verdict is PartVerdict.NOT_TRIED
        assert "the project's own contract" in part.problems[0]

    @pytest.mark.parametrize("named", ["src/Stake.sol:EventStake", "src/Stake.sol", "linked/Stake.sol"])
    @pytest.mark.parametrize(
        ("given", "same"),
        [
            ("src/Stake.sol:EventStake", True),
            ("src/Stake.sol", True),
            ("./src/../src/Stake.sol", True),
            ("{root}/linked/Stake.sol:EventStake", True),
            ("src/Other.sol:EventStake", False),
            (None, False),  # the packaged one
        ],
    )
    def test_a_contract_is_the_same_however_it_is_spelled(self, own, monkeypatch, tmp_path, named, given, same):
        (tmp_path / "src").mkdir()
        (tmp_path / "src" / "Stake.sol").touch()
        (tmp_path / "linked").symlink_to(tmp_path / "src")
        monkeypatch.chdir(tmp_path)
        (tmp_path / "pyproject.toml").write_text(f'[tool.stakesim]\ncontract = "{named}"\nfaults = "a:b"\n')
        own.contract = given and given.format(root=tmp_path)
        assert (pipeline._why_no_faults(own) == "") is same

    def test_another_contract_of_the_same_file_is_another_one(self, own, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "pyproject.toml").write_text('[tool.stakesim]\ncontract = "Stake.sol:Other"\nfaults = "a:b"\n')
        own.contract = "Stake.sol:EventStake"
        assert pipeline._why_no_faults(own).startswith("the service whose faults")

    @pytest.mark.parametrize(
        "given", [None, str(CONTRACTS / "EventStake.sol"), f"{CONTRACTS}/EventStake.sol:EventStake"]
    )
    def test_the_packaged_contract_may_be_named(self, own, monkeypatch, tmp_path, given):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "pyproject.toml").write_text('[tool.stakesim]\nfaults = "a:b"\n')
        own.contract = given
        assert pipeline._why_no_faults(own) == ""

    def test_without_a_node_the_gate_has_a_report_all_the_same(self, check):
        part = check(error=EngineError("There is no anvil."))
        assert (part.verdict, part.problems) == ("not tried", ["Not run: There is no anvil."])

    def test_an_episode_that_can_not_be_run_is_no_pass_and_what_was_found_stays(self, check):
        part = check(trouble="There is no anvil any more.")
        assert part.verdict is PartVerdict.FAIL
        assert "invoice 7 is paid 2 times" in part.problems[0]
        assert part.problems[-1] == "There is no anvil any more."
        assert part.left_out == ["the rest of faults"]

    def test_ctrl_c_ends_the_gate_in_this_part_too(self, check):
        assert check().verdict is PartVerdict.VACUOUS, "9 of many episodes"
        with pytest.raises(KeyboardInterrupt):
            check(interrupted=True)


def test_each_profile_has_its_turn_before_the_time_is_up(own):
    drawn = campaign.select(["calm", "hostile"], runs=3, seed=0, steps=None, terms=None).scenarios
    in_time = campaign._InTime(drawn, 60)
    first = [scenario.origin["profile"] for scenario, _ in zip(in_time, range(2), strict=False)]
    assert first == ["calm", "hostile"]
    assert list(campaign._InTime(drawn, None)) == drawn
    none = campaign._InTime(drawn, 0)
    assert ([scenario.origin["profile"] for scenario in none], none.left) == (["calm"], 5)  # once at least


@pytest.mark.slow
def test_mutants_that_there_was_no_time_for_are_not_judged(tmp_path):
    """They count neither as killed nor as survived, and a later run that goes on from the file judges them."""
    out = tmp_path / "verdicts.jsonl"
    stake = CONTRACTS / "EventStake.sol"
    result = mutate(stake, only="uint256 fee = revenue * FEE_BPS / BPS; [30", lane=None, seconds=0, out=out, deployed=0)
    assert {verdict.status for verdict in result.verdicts} == {MutantStatus.NOT_JUDGED}
    assert (result.score, result.passed, result.deployed) == (0, False, [])
    assert len(out.read_text().splitlines()) == 1


def test_a_time_that_is_none_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, ["gate", "--for", "0s"])
    assert result.exit_code == 2
    assert "is no time to run for" in " ".join(result.output.replace("│", " ").split())
