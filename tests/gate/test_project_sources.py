"""Coverage and mutants are of all the project's own code that a contract is made of, and say what they leave out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from stakesim.evm.compiler import CONTRACTS, node_modules
from stakesim.evm.contract_file import production_contract
from stakesim.evm.coverage import Coverage, measure
from stakesim.evm.import_resolver import Origin, collect_files
from stakesim.evm.in_process.trace import ExecutionTrace
from stakesim.gate import report, source_parts
from stakesim.gate.mutation_judge import MutantWorker, SoundContract
from stakesim.gate.mutation_operators import all_mutants, generate_mutants
from stakesim.gate.mutation_result import Build, MutationResult
from stakesim.gate.plain_build import PlainBuild, build
from stakesim.gate.result import GatePart, GateResult, PartVerdict
from stakesim.gate.sarif import sarif
from stakesim.gate.unreached import gaps
from stakesim.scenario.actions import Terms

FILES = {
    "foundry.toml": "",
    "remappings.txt": "vendor/=dependencies/vendor/\napp/=src/\n",
    "src/Leaf.sol": """
import {Base} from "./Base.sol";
import {Math} from "./lib/Math.sol";
import {half, third} from "app/free.sol";
import {Packaged} from "packaged/Packaged.sol";
import {Old} from "old/Old.sol";
import {Vendored} from "vendor/Vendored.sol";
import {ILeaf} from "./ILeaf.sol";
import {Helper} from "./Helper.sol";

contract Other {
    function other(uint256 x) external pure returns (uint256) { return x + 1; }
}
abstract contract Same {
    function same(uint256 x) public pure returns (uint256) { return x + 2; }
}
contract Leaf is Base, Same, Packaged, Old, Vendored, ILeaf {
    function leaf(uint256 x) external returns (uint256) {
        helper = address(new Helper());
        return Math.twice(half(x));
    }
    function rate() internal pure override returns (uint256) { return 3; }
}
""",
    "src/Base.sol": """
abstract contract Base {
    address public helper;
    uint256 public total;
    modifier sound() { require(total < 9); _; }
    modifier idle() { require(total < 8); _; }
    function add(uint256 x) external sound {
        total += x * rate();
    }
    function rate() internal pure virtual returns (uint256) { return 2; }
}
""",
    "src/ILeaf.sol": "interface ILeaf { function leaf(uint256 x) external returns (uint256); }",
    "src/Helper.sol": "contract Helper { function help() external pure returns (uint256) { return 4; } }",
    "src/free.sol": """
function half(uint256 x) pure returns (uint256) { return x / 2; }
function third(uint256 x) pure returns (uint256) { return x / 3; }
""",
    "src/lib/Math.sol": """
library Math {
    function twice(uint256 x) internal pure returns (uint256) { return x * 2; }
    function thrice(uint256 x) internal pure returns (uint256) { return x * 3; }
}
""",
    "node_modules/packaged/Packaged.sol": """
abstract contract Packaged { function packaged() external pure returns (uint256) { return 5; } }
""",
    "lib/old/Old.sol": "abstract contract Old { function old() external pure returns (uint256) { return 6; } }",
    "dependencies/vendor/Vendored.sol": """
abstract contract Vendored { function vendored() external pure returns (uint256) { return 7; } }
""",
}
HEAD = "// SPDX-License-Identifier: MIT\npragma solidity ^0.8.30;"
LEFT_OUT = (
    "coverage and mutants of Helper (Helper.sol), which it creates",
    "coverage and mutants of vendor/Vendored.sol, a file that remappings lead to",
    "coverage and mutants of old, a package",
    "coverage and mutants of packaged, a package",
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    for name, text in FILES.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{HEAD}\n{text}" if name.endswith(".sol") else text)
    return folder


@pytest.fixture(scope="module")
def leaf(project: Path) -> PlainBuild:
    return build(f"{project / 'src' / 'Leaf.sol'}:Leaf")


def nothing_reached(plain: PlainBuild) -> dict[str, Coverage]:
    return {
        each.name: measure(
            ExecutionTrace(),
            plain.artifact,
            file=each.name,
            source=each.source,
            tree=each.tree,
            index=each.index,
            name=each.name,
        )
        for each in plain.files
    }


def missed(coverage: Coverage) -> list[str]:
    lines = coverage.source.splitlines()
    return [lines[number - 1].strip() for number in coverage.missed_lines]


def test_packages_are_what_is_below_node_modules_and_lib_of_a_project(project: Path) -> None:
    origins = {name: file.origin for name, file in collect_files(project / "src" / "Leaf.sol").items()}
    others = {
        "packaged/Packaged.sol": Origin.PACKAGE,
        "old/Old.sol": Origin.PACKAGE,
        "vendor/Vendored.sol": Origin.REMAPPED,
    }
    assert {name: origin for name, origin in origins.items() if origin is not Origin.PROJECT} == others
    assert "lib/Math.sol" in origins, "a folder lib of the sources is no package"


@pytest.mark.parametrize(
    ("file", "origin"),
    [
        *[(name, Origin.PACKAGE) for name in ("foundry.toml", "remappings.txt", ".gitmodules")],
        *[(name, Origin.PROJECT) for name in ("package.json", "pyproject.toml", ".git", "README.md")],
    ],
)
def test_a_folder_lib_has_packages_only_where_something_installs_them(
    tmp_path: Path, file: str, origin: Origin
) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / file).write_text("")
    (tmp_path / "Leaf.sol").write_text('import "./lib/Fees.sol";')
    (tmp_path / "lib" / "Fees.sol").write_text("")
    assert collect_files(tmp_path / "Leaf.sol")["lib/Fees.sol"].origin is origin


@pytest.mark.slow
def test_packages_are_named_but_for_those_that_come_with_the_library(tmp_path: Path) -> None:
    """The project has the library's release of OpenZeppelin, changed in one of two files."""
    folder = tmp_path / "node_modules" / "@openzeppelin" / "contracts"
    for name in ("access/Ownable.sol", "utils/Context.sol"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text((node_modules() / "@openzeppelin/contracts" / name).read_text())
    (tmp_path / "Leaf.sol").write_text(
        f'{HEAD}\nimport {{Ownable}} from "@openzeppelin/contracts/access/Ownable.sol";\n'
        "contract Leaf is Ownable { constructor() Ownable(msg.sender) {} }\n"
    )
    assert build(tmp_path / "Leaf.sol").left_out == ()
    changed = folder / "utils/Context.sol"
    changed.write_text(changed.read_text().replace("return msg.sender;", "return address(1);"))
    assert build(tmp_path / "Leaf.sol").left_out == ("coverage and mutants of @openzeppelin/contracts, a package",)


def test_a_link_in_node_modules_hides_no_code_of_the_project(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "own").symlink_to(tmp_path / "src")
    (tmp_path / "src" / "Leaf.sol").write_text('import "own/Base.sol";')
    (tmp_path / "src" / "Base.sol").write_text("")
    assert collect_files(tmp_path / "src" / "Leaf.sol")["own/Base.sol"].origin is Origin.PROJECT


@pytest.mark.slow
def test_all_own_code_of_the_contract_is_measured_and_no_other(leaf: PlainBuild) -> None:
    """Neither what nothing calls, nor what it overrides, nor other contracts of its file: no call can reach these."""
    assert {name: missed(coverage) for name, coverage in nothing_reached(leaf).items()} == {
        "Leaf.sol": [
            "function same(uint256 x) public pure returns (uint256) { return x + 2; }",
            "helper = address(new Helper());",
            "return Math.twice(half(x));",
            "function rate() internal pure override returns (uint256) { return 3; }",
        ],
        "Base.sol": ["modifier sound() { require(total < 9); _; }", "total += x * rate();"],
        "lib/Math.sol": ["function twice(uint256 x) internal pure returns (uint256) { return x * 2; }"],
        "app/free.sol": ["function half(uint256 x) pure returns (uint256) { return x / 2; }"],
    }


@pytest.mark.slow
def test_all_own_code_of_the_contract_has_mutants_and_no_other(leaf: PlainBuild) -> None:
    mutants = all_mutants(leaf)
    alone = {mutant.key for mutant in generate_mutants(leaf.source, leaf.tree, "Leaf")}
    assert {mutant.key for mutant in mutants if not mutant.unit} == alone
    assert {(each.file, each.unit, each.function) for each in mutants} == {
        ("", "", "leaf"),
        ("", "", "rate"),
        ("", "Same", "same"),
        ("Base.sol", "Base", "Base"),
        ("Base.sol", "Base", "add"),
        ("lib/Math.sol", "Math", "twice"),
        ("app/free.sol", "free", "half"),
    }
    keys = {each.key for each in mutants}
    assert len(keys) == len(mutants)
    assert not [key for key in keys if "idle" in key], "no function has this modifier"
    assert "Base.sol:Base.add: total += x * rate(); [14: += -> -=]" in keys
    assert any(key.startswith("Same.same: function same(") and key.endswith(": + -> -]") for key in keys)


@pytest.mark.slow
def test_a_mutant_changes_the_file_that_it_is_in(leaf: PlainBuild) -> None:
    sound = SoundContract(Build.PLAIN, leaf.sources, leaf.file, leaf.artifact, False, "revm", (), None, None, 0)
    worker = MutantWorker(sound)
    try:
        [mutant] = [each for each in all_mutants(leaf) if each.key.endswith("total += x * rate(); [14: += -> -=]")]
        compiled = worker.compile(mutant, Build.PLAIN)
    finally:
        worker.close()
    assert compiled is not None
    assert compiled.bytecode != leaf.artifact.bytecode
    result = MutationResult(leaf.source, sources=leaf.sources)
    assert "total -= x" in mutant.apply(result.source_of(mutant))


@pytest.mark.slow
def test_what_is_not_tried_is_in_the_first_line_of_the_verdict(
    leaf: PlainBuild, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sorted(leaf.left_out) == sorted(LEFT_OUT)
    monkeypatch.chdir(project)
    covered = Coverage("src/Leaf.sol", {1: True}, (), left_out=leaf.left_out)
    monkeypatch.setattr(source_parts, "measure_coverage", lambda *_, **__: covered)
    gate = GateResult(production_contract(), "src/Leaf.sol:Leaf", Terms(), "pr", "revm", 7)
    gate.parts = [GatePart("coverage", "")]
    source_parts.coverage_part(gate, gate.parts[0])
    assert report.verdict_line(gate) == f"PASS; not tried: {', '.join(leaf.left_out)}"
    content = json.loads(json.dumps(report.as_json(gate, report.datetime(2026, 1, 1), "stakesim gate")))
    assert content["not_tried"] == content["parts"]["coverage"]["left_out"] == list(leaf.left_out)


@pytest.mark.slow
def test_what_the_created_contract_is_made_of_is_named_too(tmp_path: Path) -> None:
    (tmp_path / "Made.sol").write_text(
        f"{HEAD}\ncontract Root {{ function a() public {{}} }}\ncontract Deep {{}}\n"
        "contract Made is Root { function b() external { new Deep(); } }\n"
        "contract Maker { bytes32 public h = keccak256(type(Made).creationCode); }\n"
    )
    named = [text.split()[4] for text in build(f"{tmp_path / 'Made.sol'}:Maker").left_out]
    assert sorted(named) == ["Deep", "Made", "Root"]


def test_gaps_of_other_files_have_keys_of_their_own() -> None:
    other = Coverage("src/base/Base.sol", {2: False}, (), source="a\nb;\n", name="base/Base.sol")
    coverage = Coverage("src/Leaf.sol", {1: False}, (), source="b;\n", others=(other,))
    assert [gap.text for gap in gaps(coverage)] == [
        "line 1 did not run: b;",
        "base/Base.sol:2 did not run: base/Base.sol: b;",
    ]
    assert coverage.line_count == "0 of 2"
    assert coverage.lcov().count("end_of_record") == 2


@pytest.mark.slow
def test_what_is_wrong_in_another_file_is_shown_there(project: Path, leaf: PlainBuild, tmp_path: Path) -> None:
    """On the lines of a pull request, and on the report's page."""
    gate = GateResult(leaf.artifact, str(project / "src/Leaf.sol"), Terms(), "pr", "revm", 7)
    in_math = next(mutant for mutant in all_mutants(leaf) if mutant.file == "lib/Math.sol")
    others = tuple(
        Coverage(f"src/{name}", {2: False}, (), source="a\nb;\n", name=name)
        for name in ("Base.sol", "lib/Math.sol", "gone/Gone.sol")
    )
    gate.coverage = Coverage("src/Leaf.sol", {1: False}, (), source="c;\n", others=others)
    gate.parts = [
        GatePart("coverage", "", PartVerdict.FAIL, [gap.text for gap in gaps(gate.coverage)]),
        GatePart("mutants", "", PartVerdict.FAIL, [f"{source_parts._place(in_math)}: nothing tells this mutant"]),
    ]
    places = [result["locations"][0]["physicalLocation"] for result in sarif(gate)["runs"][0]["results"]]
    assert [(Path(place["artifactLocation"]["uri"]).name, place["region"]["startLine"]) for place in places] == [
        ("Leaf.sol", 1),
        ("Base.sol", 2),
        ("Math.sol", 2),
        ("Leaf.sol", next(n for n, line in enumerate(leaf.source.splitlines(), 1) if line.startswith("contract Leaf"))),
        ("Math.sol", in_math.line),
    ]
    assert all(places[number]["artifactLocation"]["uri"].endswith("src/lib/Math.sol") for number in (2, 4))
    report.write(gate, tmp_path, "stakesim gate")
    page = (tmp_path / "report.html").read_text()
    for name in ("Leaf.sol", "Base.sol", "lib/Math.sol", "gone/Gone.sol"):
        assert f"<summary>src/{name}, line by line</summary>" in page
    assert page.count('<tr class="missed">') == 4


@pytest.mark.slow
def test_the_packaged_contract_is_measured_as_before() -> None:
    """Its bases are packages."""
    plain = build()
    assert {name: (each.line_count, each.branch_count) for name, each in nothing_reached(plain).items()} == {
        "EventStake.sol": ("0 of 221", "0 of 128")
    }
    assert all_mutants(plain) == generate_mutants(plain.source, plain.tree, "EventStake")
    assert len(all_mutants(plain)) == 1_850
    assert plain.left_out == ()


@pytest.mark.slow
def test_a_fault_in_the_base_of_another_file_is_a_gap(tmp_path: Path) -> None:
    """What an adversary did: the contract in a file of its own, with one line, and all else in the base's."""
    sound = (CONTRACTS / "test" / "SoundEventStake.sol").read_text()
    end = sound.rindex("}")
    (tmp_path / "Base.sol").write_text(f"{sound[:end]}    function drain() external {{ _pay(owner, 1); }}\n}}\n")
    (tmp_path / "Wrapped.sol").write_text(
        f'{HEAD}\nimport {{SoundEventStake}} from "./Base.sol";\ncontract Wrapped is SoundEventStake {{}}\n'
    )
    plain = build(tmp_path / "Wrapped.sol")
    assert "function drain() external { _pay(owner, 1); }" in missed(nothing_reached(plain)["Base.sol"])
    assert "drain" in {mutant.function for mutant in all_mutants(plain)}
