"""Reports of the gate that were edited, cut off, or contradict themselves allow no deployment."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from stakesim.evm.compiler import Artifact
from stakesim.evm.contract_file import production_contract
from stakesim.gate import release, report_file
from stakesim.gate.deployment_record import read_record
from stakesim.gate.errors import ReleaseError
from stakesim.gate.proofs import REFUTED
from stakesim.scenario.actions import Terms

from tests.gate.passing_report import passing_report

NOW = datetime(2026, 1, 2, tzinfo=UTC)
WRONG: tuple[Any, ...] = (None, [], {}, "x", -1)
IRRELEVANT = {
    "not_tried": ([],),  # a summary of the parts, which are read
    "command": ("x",),
    "contract.name": ("x",),  # the hashes say which contract it is
    "contract.given": (None, "x"),
    "engine": ("x",),
    "hashes.sources_sha256": (None,),  # that of an artifact; the code's own hash is read
    "hashes.settings_sha256": (None,),
    "git": (None,),  # that of a file that is in no checkout
    "versions.*": ("x",),
    "seeds": ([],),  # of a part
    "left_out": ([],),
    "problems": ([],),  # of a part; those of an analysis must be empty
    "findings": ([],),
    "parts.*.cut_short": (None,),
    "figures.*": ("x", -1),  # that are told only: see `report_file.LEAST_FIGURES` for the others
    "parts.coverage.figures": ({},),
    "parts.slither.figures": ({},),
    "analyses.*.figures": ({},),
    "coverage.reviewed": ([],),
    "mutation.killed_by": ({},),
    "mutation.money_score": (None,),  # of a contract without such lines
    "mutation.survivors": ([],),
    "mutation.equivalents_not_made": ([],),
    "mutation.equivalents_killed": ([],),
    "proofs.*.name": ("x",),
    "reached": ({},),
    "reviewed": ({},),  # a project may have no list
}
"""Values that allow a deployment where they are put, by path: those that are there already, and what is only told."""


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    return production_contract()


@pytest.fixture(scope="module")
def untried(artifact: Artifact) -> list[str]:
    return release.beyond_abi(artifact)


@pytest.fixture
def check(
    tmp_path: Path, artifact: Artifact, untried: list[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """Checks a report of the artifact, whose code is read once: it is the same for all reports."""
    file = tmp_path / "gate.json"
    monkeypatch.setattr(release, "beyond_abi", lambda _: untried)

    def check(content: Any, **options: Any) -> Any:
        file.write_text(content if isinstance(content, str) else json.dumps(content))
        return release.check_report(file, artifact, Terms(), max_age=timedelta(hours=1), now=NOW, **options)

    return check


def paths(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        yield from paths(value, (*path, key))


def with_value(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    changed = copy.deepcopy(content)
    at = changed
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return changed


def may_allow(path: tuple[Any, ...], value: Any) -> bool:
    names = list(map(str, path))
    if len(path) > 1 and path[-2] == "figures":
        return path[0] == "analyses" or (value in ("x", -1) and path[-1] != report_file.LEAST_FIGURES.get(path[1]))
    if names[0] == "parts" and path[-1] in ("seeds", "left_out", "problems", "findings"):
        return bool(value == [])
    if names[0] == "analyses" and path[-1] == "problems":
        return bool(value == [])
    patterns = (".".join(names), ".".join([*names[:-1], "*"]), ".".join([names[0], "*", *names[2:]]))
    return any(value == allowed for pattern in patterns for allowed in IRRELEVANT.get(pattern, ()))


@pytest.mark.slow
def test_each_wrong_value_is_refused_in_a_sentence(check):
    content = passing_report(NOW)
    assert check(content)["verdict"] == "pass"
    wrong, allowed = [], set()
    for path in paths(content):
        for value in WRONG:
            try:
                check(with_value(content, path, value))
            except ReleaseError as error:
                if "\n" in str(error) or not str(error).endswith("."):
                    wrong.append((path, value, str(error)))
            else:
                allowed.add(path)
                if not may_allow(path, value):
                    wrong.append((path, value, "allowed"))
    assert wrong == []
    assert allowed


@pytest.mark.slow
def test_each_missing_value_is_refused(check):
    """But for the figures, versions and other entries that are only told."""
    content = passing_report(NOW)
    allowed = []
    for path in paths(content):
        if path and isinstance(path[-1], str):
            changed = copy.deepcopy(content)
            at = changed
            for key in path[:-1]:
                at = at[key]
            del at[path[-1]]
            try:
                check(changed)
            except ReleaseError:
                continue
            allowed.append(path)
    told = ("figures", "versions", "reached", "killed_by", "reviewed")
    assert [path for path in allowed if path[:2] != ("parts", "regressions") and path[-2] not in told] == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "\x00",
        "[" * 1_000_000,
        '{"a":' * 1_000_000,
        '["' + '\\"' * 500_000 + "\\",
        "1" * 10_000,
        '{"verdict": NaN}',
        '"\\ud800"',
    ],
    ids=["empty", "cut off", "nul", "lists", "objects", "quotes", "digits", "nan", "surrogate"],
)
@pytest.mark.slow
def test_a_broken_file_is_one_sentence(check, tmp_path, text):
    with pytest.raises(ReleaseError, match=r"gate\.json is no report of the gate"):
        check(text)
    with pytest.raises(ReleaseError, match=r"gate\.json is no record of a deployment"):
        read_record(tmp_path / "gate.json")


def test_a_file_that_is_too_large_is_not_parsed(check, monkeypatch):
    monkeypatch.setattr(report_file, "MAX_BYTES", 1_000)
    with pytest.raises(ReleaseError, match="is no report of the gate"):
        check(passing_report(NOW))


@pytest.mark.parametrize("made", ["2026-01-02T00:00:00", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_time_without_a_zone_or_out_of_range_is_refused(check, made):
    with pytest.raises(ReleaseError, match="made is no time with a zone"):
        check(passing_report(NOW) | {"made": made})


CONTRADICTIONS: dict[str, tuple[tuple[Any, ...], Any, str]] = {
    "score": (("mutation", "score"), 0.1, "the score of the mutants is not that of their numbers"),
    "survivors": (("mutation", "survived"), 900, "the numbers of mutants do not add up"),
    "money": (("mutation", "money_score"), 0.5, "mutants passed, and 0 of 1 survived"),
    "stale": (("mutation", "equivalents_not_made"), ["a"], "equivalent ones are out of date"),
    "no mutation": (("mutation",), None, "mutants passed, and there are none"),
    "refuted": (("proofs", 0, "verdict"), REFUTED, "check_payout has a counterexample"),
    "unproved": (("proofs", 0, "verdict"), "the solver took too long", "not all of its properties are proved"),
    "no proofs": (("proofs",), [], "not all of its properties are proved"),
    "tools": (("analyses",), [], "slither passed without slither; proofs passed without halmos"),
    "tool": (("analyses", 0, "result"), "fail", "slither did not pass"),
    "coverage": (("coverage",), None, "coverage passed, and there is none"),
    "no line": (("coverage", "lines"), "0 of 9", "coverage passed, and there is none"),
    "gas": (("gas",), {}, "gas passed, and was not measured"),
    "figures": (("parts", "hostile", "figures", "scenarios"), 0, "hostile passed with scenarios above 0 missing"),
    "findings": (("parts", "calls", "findings"), ["INV-16"], "calls passed with findings"),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_a_report_that_contradicts_itself_is_refused(check, name):
    path, value, message = CONTRADICTIONS[name]
    content = with_value(passing_report(NOW), path, value)
    with pytest.raises(ReleaseError, match=f"contradicts itself: .*{message}"):
        check(content, without=["mutants", "proofs", "coverage", "slither", "gas"])


def test_mutants_that_survived_need_the_score(check):
    """One of 100 may survive where no money moves, if it is told and allowed by name; 3 of 100 may not."""
    content = passing_report(NOW)
    survivor = {"line": 1, "mutant": "a"}
    content["parts"]["mutants"]["figures"]["mutants"] = 100
    content["mutation"] |= {"made": 100, "killed": 99, "survived": 1, "score": 0.99, "survivors": [survivor]}
    with pytest.raises(ReleaseError, match="contradicts itself: mutants survived, and are not among what was not"):
        check(content, without=["mutants"])
    content["parts"]["mutants"]["left_out"] = ["1 mutant that nothing tells from the contract"]
    with pytest.raises(ReleaseError, match=r"mutants \(not complete: 1 mutant that nothing tells from the contract\)"):
        check(content)
    assert check(content, without=["mutants"])["verdict"] == "pass"
    content["mutation"] |= {"killed": 97, "survived": 3, "score": 0.97, "survivors": 3 * [survivor]}
    with pytest.raises(ReleaseError, match="mutants passed, and 3 of 100 survived"):
        check(content)


def test_the_report_of_a_part_that_was_not_tried_may_be_empty(check):
    content = passing_report(NOW) | {"coverage": None, "mutation": None, "proofs": [], "analyses": []}
    waived = ("coverage", "mutants", "proofs", "slither")
    for name in waived:
        content["parts"][name] |= {"result": "not tried", "figures": {}}
    assert check(content, without=waived)["verdict"] == "pass"
