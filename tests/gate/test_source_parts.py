"""Coverage and mutants as parts of the gate: what nobody has reviewed fails, or is not judged if nobody could."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
from stakesim import project
from stakesim.commands.cli import cli
from stakesim.evm.compiler import CONTRACTS, CompileError
from stakesim.evm.contract_file import production_contract
from stakesim.evm.coverage import Branch, Coverage
from stakesim.evm.errors import EngineError
from stakesim.gate import coverage, report, reviewed, source_parts
from stakesim.gate.equivalent_mutants import load_equivalents
from stakesim.gate.errors import MalformedList, UnsoundContract
from stakesim.gate.mutant import Mutant
from stakesim.gate.mutation_result import MutantStatus, MutationResult, Stage, Verdict
from stakesim.gate.result import GatePart, GateResult
from stakesim.gate.sarif import sarif
from stakesim.gate.unreached import gaps, load_reasons
from stakesim.paths import shipped
from stakesim.runner.findings import Finding
from stakesim.scenario.actions import Terms
from stakesim.scenario.scenario import load
from typer.testing import CliRunner

SOURCE = """contract Purse {
    function a(uint256 x) external {
        if (x > 5 || x == 2) revert();
        total += x;
        total += x;
    }
}
"""
FINDING = Finding("INV-02", "the contract has what it owes", "it has not")
GAPS = ["if (x > 5 || x == 2) revert(); [x > 5] never false", "total += x; #2"]


@pytest.fixture
def purse(tmp_path, monkeypatch):
    """A gate of a contract from elsewhere, in an empty project."""
    (tmp_path / "Purse.sol").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    return GateResult(production_contract(), "Purse.sol:Purse", Terms(), "pr", "revm", 7)


@pytest.fixture
def own():
    return GateResult(production_contract(), None, Terms(), "pr", "revm", 7)


def raising(error):
    """A function that raises this."""

    def fail(*_, **__):
        raise error

    return fail


def unsound(folder):
    """Writes `EventStake` with a fee of a wei too much."""
    source = (CONTRACTS / "EventStake.sol").read_text()
    assert source.count("revenue * FEE_BPS / BPS;") == 1
    (folder / "EventStake.sol").write_text(source.replace("revenue * FEE_BPS / BPS;", "revenue * FEE_BPS / BPS + 1;"))
    (folder / "IEventStake.sol").write_text((CONTRACTS / "IEventStake.sol").read_text())


def review(folder, monkeypatch, name, *rows):
    """Gives the project of the working directory a folder of reviewed lists."""
    (folder / "reviewed").mkdir(exist_ok=True)
    (folder / "reviewed" / name).write_text(json.dumps(rows))
    (folder / "pyproject.toml").write_text('[tool.stakesim]\nreviewed = "reviewed"\n')
    project._find_project.cache_clear()


class TestCoverage:
    @pytest.fixture(autouse=True)
    def measured(self, monkeypatch):
        """What scenarios and tests reach: all but a line, and one way of a branch."""
        branches = (Branch(3, "x >\n 5", frozenset({True})), Branch(3, "x == 2", frozenset({True, False})))
        measured = Coverage("Purse.sol", {3: True, 4: True, 5: False}, branches, SOURCE)
        self.tests = []

        def measure(_, tests, **options):
            self.tests.append(tests)
            return measured

        monkeypatch.setattr(source_parts, "measure_coverage", measure)
        return measured

    def check(self, gate):
        part = GatePart("coverage", "")
        source_parts.coverage_part(gate, part)
        return part

    def test_keys_hold_while_other_lines_are_added(self, measured):
        assert [gap.key for gap in gaps(measured)] == GAPS
        moved = Coverage("Purse.sol", {6: False}, (replace(measured.branches[0], line=4),), f"\n{SOURCE}")
        assert [gap.key for gap in gaps(moved)] == GAPS

    def test_a_reason_excuses_one_way_of_one_condition(self, measured):
        """Not the other way, nor an equal condition of the same line, nor one of another file of the same name."""
        line = "if (x > 5 || x == 2) revert();"
        never = replace(measured.branches[0], taken=frozenset())
        false, true = (f"{line} [x > 5] never {way}" for way in ("false", "true"))
        assert [gap.key for gap in gaps(replace(measured, lines={}, branches=(never,)))] == [false, true]
        covered = replace(never, taken=frozenset({True, False}))
        for first, second, expected in (
            (never, covered, [false, true]),
            (covered, never, [f"{line} [x > 5] #2 never false", f"{line} [x > 5] #2 never true"]),
        ):
            assert [gap.key for gap in gaps(replace(measured, lines={}, branches=(first, second)))] == expected
        libraries = [Coverage(f"{name}/Lib.sol", {2: False}, (), "a\nb;\n", name=f"{name}/Lib.sol") for name in "ab"]
        others = gaps(replace(measured, lines={}, branches=(), others=tuple(libraries)))
        assert [gap.key for gap in others] == ["a/Lib.sol: b;", "b/Lib.sol: b;"]

    def test_of_a_contract_from_elsewhere_it_is_not_judged_unless_somebody_reviews_it(
        self, purse, tmp_path, monkeypatch
    ):
        part = self.check(purse)
        assert part.verdict == "not tried"
        assert "named as `reviewed` in [tool.stakesim]" in part.problems[0]
        told = [f"line 3 took one way only: {GAPS[0]}", f"line 5 did not run: {GAPS[1]}"]
        assert part.problems[1:] == told
        review(tmp_path, monkeypatch, "unreached.json")
        part = self.check(purse)
        assert (part.verdict, part.problems) == ("fail", told)
        rows = [{"file": "Purse.sol", "unreached": key, "reason": "a test"} for key in GAPS]
        review(tmp_path, monkeypatch, "unreached.json", rows[0])
        assert self.check(purse).problems == told[1:]
        review(tmp_path, monkeypatch, "unreached.json", *rows)
        part = self.check(purse)
        assert (part.verdict, part.problems, part.figures["unreached with a reviewed reason"]) == ("pass", [], 2)
        gone = {"file": "Purse.sol", "unreached": "total += x;", "reason": "a test"}
        review(tmp_path, monkeypatch, "unreached.json", *rows, gone)
        assert self.check(purse).problems == ["reached, and still in unreached.json: total += x;"]

    def test_of_our_own_contract_a_gap_without_a_reason_fails(self, own, tmp_path, monkeypatch):
        monkeypatch.setattr(source_parts, "load_reasons", lambda *_: {})
        part = self.check(own)
        assert part.verdict == "fail"
        assert len(part.problems) == 2
        own.parts.append(part)
        [run] = sarif(own)["runs"]
        places = [result["locations"][0]["physicalLocation"]["region"]["startLine"] for result in run["results"]]
        assert places == [3, 5]

    def test_tests_run_in_the_large_profiles_and_may_reach_what_is_listed(self, own, monkeypatch):
        monkeypatch.setattr(source_parts, "load_reasons", lambda *_: dict.fromkeys([*GAPS, "by a test"], "why"))
        assert self.check(own).problems == ["reached, and still in unreached.json: by a test"]
        own.profile = "nightly"
        assert self.check(own).verdict == "pass"
        assert self.tests == [None, CONTRACTS.parent / "tests" / "contracts"]

    def test_a_contract_without_own_lines_is_no_pass(self, purse, monkeypatch):
        """All its code is a package's."""
        monkeypatch.setattr(source_parts, "measure_coverage", lambda *_, **__: Coverage("Purse.sol", {}, ()))
        part = self.check(purse)
        assert part.verdict == "vacuous"
        assert part.problems == ["No line of the contract's code is the project's own, so that nothing was measured."]

    @pytest.mark.slow
    def test_out_of_time_is_no_pass(self, own, monkeypatch):
        monkeypatch.undo()
        monkeypatch.setattr(coverage, "build", lambda *_: SimpleNamespace(artifact=production_contract()))
        part = GatePart("coverage", "", ends=time.monotonic())
        source_parts.coverage_part(own, part)
        assert (part.verdict, part.left_out) == ("vacuous", ["coverage"])
        assert part.problems == [
            "The time was up before all scenarios and tests had run: give the gate more time with --for."
        ]

    def test_a_list_that_is_none_is_told_in_one_sentence(self, tmp_path, monkeypatch, purse):
        without_reason = {"file": "Purse.sol", "unreached": "a"}
        review(tmp_path, monkeypatch, "unreached.json")
        contents = [json.dumps([row]) for row in (without_reason, without_reason | {"reason": ""}, 3, None, [])]
        of_no_file = [
            {"file": name, "unreached": "a", "reason": "b"} for name in ("src/a\0.sol", "src/\ud800.sol", "x" * 300)
        ]
        contents += [json.dumps([row]) for row in (without_reason | {"reason": " "}, *of_no_file)]
        for content in (*contents, "[{]", "{}", '""', "null", "", "[" * 200_000):
            (tmp_path / "reviewed" / "unreached.json").write_text(content)
            with pytest.raises(MalformedList, match="is no list of rows with file, unreached, reason: mend it"):
                load_reasons(purse.file)
            part = self.check(purse)
            assert (part.verdict, len(part.problems)) == ("fail", 1)
            assert part.problems[0].startswith("Not measured: ")

    def test_findings_of_a_contract_from_elsewhere_are_a_failure(self, purse, monkeypatch):
        monkeypatch.setattr(source_parts, "measure_coverage", raising(UnsoundContract("It has findings.", [FINDING])))
        part = self.check(purse)
        assert (part.verdict, part.findings) == ("fail", [FINDING])
        purse.parts.append(part)
        assert (purse.verdict, purse.not_tried) == ("fail", [])

    def test_what_can_not_be_measured_of_it_is_not_tried(self, purse, monkeypatch):
        monkeypatch.setattr(source_parts, "measure_coverage", raising(CompileError("Stack too deep.")))
        part = self.check(purse)
        assert (part.verdict, part.problems) == ("not tried", ["Not measured: Stack too deep."])

    @pytest.mark.slow
    def test_a_scenario_that_fails_is_told_with_its_findings(self, purse, tmp_path, monkeypatch):
        """On the real way: a fee of a wei too much."""
        monkeypatch.undo()
        monkeypatch.chdir(tmp_path)
        unsound(tmp_path)
        monkeypatch.setattr(coverage, "scenario_suite", lambda: [load(shipped("scenarios") / "everybody-comes.yaml")])
        purse.contract = "EventStake.sol"
        part = self.check(purse)
        assert part.verdict == "fail"
        assert "EventStake has findings: everybody-comes, INV-" in part.problems[0]
        assert {finding.scenario.name for finding in part.findings} == {"everybody-comes"}


class TestMutants:
    @pytest.fixture
    def judged(self, monkeypatch):
        """Gives the verdicts of all mutants."""
        asked = {}

        def give(*verdicts, stale=()):
            result = MutationResult(SOURCE, list(verdicts), stale=list(stale))
            monkeypatch.setattr(source_parts, "mutate", lambda *_, **options: asked.update(options) or result)
            return asked

        return give

    def verdict(self, status, line=4, text="total += x;", stage=None):
        mutant = Mutant("arithmetic", 0, 1, "+=", f"-{line}", "a", line, 1, text)
        return Verdict(mutant, MutantStatus(status), stage=stage)

    def check(self, gate):
        part = GatePart("mutants", "")
        source_parts.mutants_part(gate, part)
        gate.parts.append(part)
        return part

    def test_a_sample_of_them_in_pr_and_all_of_them_in_the_others(self, own, judged):
        asked = judged(self.verdict("killed", stage=Stage.LANE))
        part = self.check(own)
        assert (part.verdict, part.seeds) == ("pass", [7])
        assert (asked["sample"], asked["seed"], asked["deployed"]) == (own.effort.mutants, 7, 0)
        own.profile = "nightly"
        self.check(own)
        assert (asked["sample"], asked["deployed"]) == (None, 40)
        assert "lane" not in asked, "a drawn mutant is judged as in the run of all of them"

    def test_below_the_bar_is_a_failure_with_each_survivor_on_its_line(self, own, judged):
        killed = [self.verdict("killed", stage=Stage.LANE)] * 40 + [self.verdict("killed", stage=Stage.TESTS)] * 5
        judged(*killed, self.verdict("survived", 5), self.verdict("equivalent"), self.verdict("invalid"))
        part = self.check(own)
        assert part.verdict == "fail"
        assert part.problems == [
            "97.8% of 46 mutants are killed, and there are none on lines with money: 98% and 100% must be.",
            "line 5: nothing tells this mutant: a: total += x; [1: += -> -5]",
        ]
        [run] = sarif(own)["runs"]
        assert run["results"][1]["locations"][0]["physicalLocation"]["region"] == {"startLine": 5}
        content = report.as_json(own, report.datetime(2026, 1, 1), "stakesim gate")["mutation"]
        assert content["made"] == 48
        assert content["killed_by"] == {"lane": 40, "scenarios": 0, "tests": 5}
        assert (content["equivalent"], content["invalid"], content["score"]) == (1, 1, 0.9783)
        assert [(each["line"], each["old"], each["new"]) for each in content["survivors"]] == [(5, "+=", "-5")]

    def test_ctrl_c_keeps_what_was_judged(self, own, judged, monkeypatch):
        judged(*[self.verdict("killed")] * 3, self.verdict("survived", 5))
        interrupted = source_parts.mutate()
        interrupted.interrupted = True
        part = GatePart("mutants", "")
        with pytest.raises(KeyboardInterrupt):
            source_parts.mutants_part(own, part)
        part.interrupted()
        assert (own.mutation, part.figures["killed"]) == (interrupted, 3)
        assert part.verdict == "fail"
        assert [problem.partition(":")[0] for problem in part.problems[1:]] == ["line 5", "Ctrl-C ended the gate here."]
        judged(self.verdict("killed"))
        source_parts.mutate().interrupted = True
        with pytest.raises(KeyboardInterrupt):
            source_parts.mutants_part(own, part := GatePart("mutants", ""))
        part.interrupted()
        assert part.verdict == "vacuous"

    def test_one_on_a_line_with_money_is_enough(self, own, judged):
        judged(*[self.verdict("killed")] * 99, self.verdict("survived", text="uint256 fee = 1;"))
        assert self.check(own).verdict == "fail"
        judged(*[self.verdict("killed")] * 99, self.verdict("survived"))
        part = self.check(own)  # 99%, and told although it is no failure
        assert part.verdict == "pass"
        assert part.problems == ["line 4: nothing tells this mutant: a: total += x; [1: += -> -4]"]
        [told] = part.left_out
        assert told == "1 mutant that nothing tells from the contract"
        own.parts = [part]
        assert report.verdict_line(own) == f"PASS; not tried: {told}"

    def test_an_equivalent_that_is_not_made_any_more_fails(self, own, judged):
        judged(self.verdict("killed"), stale=["a: b"])
        part = self.check(own)
        assert (part.verdict, part.problems) == ("fail", ["listed as equivalent, and not made: a: b"])

    def test_too_few_in_the_time_are_no_pass(self, own, judged):
        judged(*[self.verdict("killed")] * 4, *[self.verdict("not judged")] * 6)
        part = self.check(own)
        assert (part.verdict, part.cut) == ("vacuous", "4 of 10 mutants")
        assert report.verdict_line(own) == "VACUOUS; not tried: 6 of 10 mutants"
        judged(*[self.verdict("not judged")] * 6)
        assert self.check(own).verdict == "vacuous"

    def test_none_that_was_killed_or_survived_is_no_pass(self, own, judged):
        judged(*[self.verdict(each) for each in ("invalid", "equivalent", "duplicate")])
        part = self.check(own)
        assert part.verdict == "vacuous"
        assert part.problems == ["No mutant was killed, and none survived, which says nothing of the scenarios."]
        content = report.as_json(own, report.datetime(2026, 1, 1), "stakesim gate")["mutation"]
        assert (content["score"], content["money_score"]) == (None, None)
        judged(*[self.verdict("invalid")] * 6, *[self.verdict("not judged")] * 4)
        part = self.check(own)
        assert (part.verdict, part.only_cut) == ("vacuous", True)

    def test_without_lines_with_money_there_is_no_score_of_them(self, own, judged):
        other = [self.verdict(each, text="x = 1;") for each in ("killed", "survived")]
        judged(*other, self.verdict("equivalent", text="uint256 fee = 1;"))
        part = self.check(own)
        assert part.problems[0].startswith("50.0% of 2 mutants are killed, and there are none on lines with money:")
        assert report.as_json(own, report.datetime(2026, 1, 1), "stakesim gate")["mutation"]["money_score"] is None
        assert own.mutation.as_json()["score"] == 0.5

    def test_of_a_contract_from_elsewhere_survivors_are_not_judged_unless_somebody_reviews_them(
        self, purse, judged, tmp_path, monkeypatch
    ):
        judged(self.verdict("survived"))
        part = self.check(purse)
        assert part.verdict == "not tried"
        assert "a folder with equivalent_mutants.json" in part.problems[0]
        assert part.problems[2].startswith("line 4: nothing tells")
        review(tmp_path, monkeypatch, "equivalent_mutants.json")
        assert self.check(purse).verdict == "fail"

    def test_findings_of_a_contract_from_elsewhere_are_a_failure(self, purse, monkeypatch):
        monkeypatch.setattr(source_parts, "mutate", raising(UnsoundContract("It has findings.", [FINDING])))
        part = self.check(purse)
        assert (part.verdict, part.findings) == ("fail", [FINDING])
        monkeypatch.setattr(source_parts, "mutate", raising(EngineError("There is no mutant.")))
        assert self.check(purse).verdict == "not tried"

    @pytest.mark.slow
    def test_what_the_lane_finds_in_it_is_told_with_its_findings(self, purse, tmp_path):
        unsound(tmp_path)
        purse.contract = "EventStake.sol"
        part = self.check(purse)
        assert part.verdict == "fail"
        assert "EventStake itself has findings, so that no mutant could be told from it" in part.problems[0]
        assert part.findings

    @pytest.mark.slow
    def test_a_list_that_is_none_fails_before_anything_is_judged(self, purse, tmp_path, monkeypatch):
        review(tmp_path, monkeypatch, "equivalent_mutants.json")
        (tmp_path / "reviewed" / "equivalent_mutants.json").write_text("[{]")
        (tmp_path / "Purse.sol").write_text(SOURCE.replace("{\n    f", "{\n    uint256 total;\n    f", 1))
        part = self.check(purse)
        assert part.verdict == "fail"
        assert part.problems[0].endswith("is no list of rows with file, mutant, argument: mend it.")
        result = CliRunner().invoke(cli, ["mutate", "--contract", "Purse.sol"])
        assert isinstance(result.exception, MalformedList), "told in one sentence by `main`"

    def test_an_artifact_has_none(self, purse):
        purse.contract = "Purse.json"
        part = self.check(purse)
        assert (part.verdict, part.problems) == (
            "not tried",
            ["No mutants: they need the source, and an artifact has none."],
        )


def test_the_lists_of_the_packaged_contract_are_not_those_of_another_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_equivalents(CONTRACTS / "EventStake.sol")
    assert load_reasons(CONTRACTS / "EventStake.sol")
    assert load_equivalents(tmp_path / "EventStake.sol") == load_reasons(tmp_path / "EventStake.sol") == {}
    assert reviewed.reviewed_folder(tmp_path / "EventStake.sol") is None


def test_each_listed_gap_is_a_line_of_the_contract():
    lines = {line.strip() for line in (CONTRACTS / "EventStake.sol").read_text().splitlines()}
    assert all(key in lines or key.partition(" [")[0] in lines for key in load_reasons(CONTRACTS / "EventStake.sol"))


@pytest.mark.slow
def test_the_page_lists_reasons_and_survivors(own):
    own.coverage, own.reviewed = Coverage("Purse.sol", {3: True, 5: False}, ()), {"line 5": "why", "line 6": "why"}
    own.parts = [GatePart("mutants", "", problems=["line 4: nothing tells this mutant: a < b"], figures={"mutants": 9})]
    own.parts.append(GatePart("calls", "", cut="5 of 9 calls", left_out=["4 of 9 calls"]))
    page = " ".join(report._html(own, report.datetime(2026, 1, 1), "stakesim gate").split())
    assert page.count("<li>why") == 1
    assert "nothing tells this mutant: a &lt; b" in page
    assert "<strong>PASS</strong>; not tried: 4 of 9 calls" in page
    assert "the time was up: 5 of 9 calls" in page
