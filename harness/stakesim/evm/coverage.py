"""Line and branch coverage of a Solidity file, from an `ExecutionTrace` and the compiler's source maps.

A statement is covered when one of its instructions ran; a line, when all statements that begin on it are covered. A
branch is a condition (of `if`, `?:`, a loop, `require` and `assert`, the left side of `&&` and `||`; in inline assembly
of `if`, each `case`, and a loop), also in initial values of state and in arguments of modifiers and base constructors.
It is covered when it was both true and false: that of a `require` when it let a call pass and refused another one. A
`try` is none, as its jumps belong to different places from one call to the next; the statements of its clauses count.

Source maps: https://docs.soliditylang.org/en/latest/internals/source_mappings.html
"""

from __future__ import annotations

import bisect
import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

from stakesim.evm.compiler import Artifact
from stakesim.evm.in_process.trace import ExecutionTrace
from stakesim.evm.instructions import mask_immutables

_PUSH1, _PUSH32 = 0x60, 0x7F
_STATEMENTS = ("ExpressionStatement", "EmitStatement", "Return", "RevertStatement", "IfStatement", "InlineAssembly")
_CONDITIONS = (
    *("IfStatement", "Conditional", "ForStatement", "WhileStatement", "DoWhileStatement"),
    *("YulIf", "YulForLoop"),
)
_REFUSING = ("require", "assert")
_JUMPING_IF_TRUE = ("Conditional", "DoWhileStatement", "FunctionCall", "YulCase")

AstNode: TypeAlias = Mapping[str, Any]
"""A node of the compiler's syntax tree, with at least `nodeType` and `src`."""


class SourceRange(NamedTuple):
    """A piece of a source file, in bytes."""

    start: int
    length: int

    def contains(self, other: SourceRange) -> bool:
        """Returns whether another range is inside this one."""
        return self.start <= other.start and other.start + other.length <= self.start + self.length


@dataclass(frozen=True)
class Branch:
    """A condition.

    Attributes:
        line: Number of the line on which it begins.
        condition: Its source text.
        taken: Which values it had.
    """

    line: int
    condition: str
    taken: frozenset[bool]

    @property
    def covered(self) -> bool:
        """Whether it was true and false."""
        return len(self.taken) == 2


@dataclass(frozen=True)
class Coverage:
    """Coverage of a contract: of its file, and of the other files that its code comes from.

    Attributes:
        file: Path of the contract's file, for reports.
        lines: Line numbers of this file on which statements begin, each with whether all of them ran.
        branches: All conditions of this file, in the order of the syntax tree.
        source: Text of this file.
        others: Coverage of each other file. `line_count`, `branch_count` and `lcov` have all files.
        left_out: Code that is not measured, in words.
        name: Name of this file among the compiler's sources; empty for the contract's.
    """

    file: str
    lines: Mapping[int, bool]
    branches: tuple[Branch, ...]
    source: str = ""
    others: tuple[Coverage, ...] = ()
    left_out: tuple[str, ...] = ()
    name: str = ""

    @property
    def files(self) -> tuple[Coverage, ...]:
        """Coverage of each file, the contract's first."""
        return (replace(self, others=()), *self.others)

    @property
    def missed_lines(self) -> list[int]:
        """Numbers of the lines of the contract's file that did not run completely."""
        return [line for line, covered in self.lines.items() if not covered]

    @property
    def missed_branches(self) -> list[Branch]:
        """Conditions of the contract's file that were not both true and false."""
        return [branch for branch in self.branches if not branch.covered]

    @property
    def line_count(self) -> str:
        """How many lines ran, as `150 of 160`."""
        ran = sum(sum(each.lines.values()) for each in self.files)
        return f"{ran} of {sum(len(each.lines) for each in self.files)}"

    @property
    def branch_count(self) -> str:
        """How many branches, two for each condition, were taken, as `99 of 100`."""
        branches = [branch for each in self.files for branch in each.branches]
        return f"{sum(len(branch.taken) for branch in branches)} of {2 * len(branches)}"

    def lcov(self) -> str:
        """Returns a record for each file in the format of lcov's tracefiles (man geninfo)."""
        return "".join(each._lcov_record() for each in self.files)

    def _lcov_record(self) -> str:
        rows = ["TN:", f"SF:{self.file}"]
        for number, branch in enumerate(self.branches):
            rows += [f"BRDA:{branch.line},{number},{int(way)},{int(way in branch.taken)}" for way in (False, True)]
        taken = sum(len(branch.taken) for branch in self.branches)
        rows += [f"BRF:{2 * len(self.branches)}", f"BRH:{taken}"]
        rows += [f"DA:{line},{int(covered)}" for line, covered in sorted(self.lines.items())]
        rows += [f"LF:{len(self.lines)}", f"LH:{sum(self.lines.values())}", "end_of_record"]
        return "\n".join(rows) + "\n"


def measure(
    trace: ExecutionTrace, artifact: Artifact, *, file: str, source: str, tree: AstNode, index: int, name: str = ""
) -> Coverage:
    """Computes the coverage of a file by what a trace recorded of a contract.

    Only functions and modifiers count that the contract's code has: not those of other contracts of the file, and none
    that it overrides, or never calls.

    Args:
        trace: What ran.
        artifact: The contract, with source maps, compiled with `COVERAGE_SETTINGS`.
        file: The file's path, for reports.
        source: Its text.
        tree: Its syntax tree.
        index: The compiler's number for it.
        name: See `Coverage`.
    """
    text = source.encode()
    line_starts = [0, *(position + 1 for position, byte in enumerate(text) if byte == ord("\n"))]

    def line_of(node: AstNode) -> int:
        return bisect.bisect_right(line_starts, _range(node).start)

    executed, ways = _executed_ranges(trace, artifact, index)
    lines: dict[int, bool] = {}
    compiled = compiled_nodes(artifact, tree, index)
    for statement in _statements(compiled):
        statement_range = _range(_evaluated(statement) if statement["nodeType"] == "IfStatement" else statement)
        ran = any(statement_range.contains(each) for each in executed)
        lines[line_of(statement)] = lines.get(line_of(statement), True) and ran
    branches = []
    for condition in _conditions(compiled):
        start, length = _range(_evaluated(condition))
        shown = text[start : start + length].decode()
        taken = frozenset(jumped == _jumps_if_true(condition) for jumped in ways.get(_range(condition), ()))
        branches.append(Branch(line_of(condition), shown, taken))
    return Coverage(file, dict(sorted(lines.items())), tuple(branches), source, name=name)


def compiled_nodes(artifact: Artifact, tree: AstNode, index: int) -> list[AstNode]:
    """Finds what of a file a contract's code comes from.

    That are functions and modifiers with a body, state variables with a value, and bases with arguments, of which there
    is an instruction.

    Args:
        artifact: The contract, with source maps, compiled without optimizer.
        tree: The file's syntax tree.
        index: The compiler's number for it.
    """
    ranges = sorted(
        {
            each
            for code, source_map in _codes(artifact)
            for each in _instruction_ranges(bytes.fromhex(code[2:]), source_map, index).values()
        }
    )

    def is_compiled(part: SourceRange) -> bool:
        within = range(bisect.bisect_left(ranges, (part.start,)), len(ranges))
        inside = itertools.takewhile(lambda number: ranges[number].start < part.start + part.length, within)
        return any(part.contains(ranges[number]) for number in inside)

    return [node for node in _walk(tree) if any(is_compiled(_range(part)) for part in _parts_with_code(node))]


def _parts_with_code(node: AstNode) -> list[AstNode]:
    """Parts of a definition that instructions come from, if any do: none for any other node."""
    if node["nodeType"] in ("FunctionDefinition", "ModifierDefinition") and node.get("body"):
        return [node] if _has_only_modifiers(node) else [node["body"]]
    if node["nodeType"] == "VariableDeclaration" and node["stateVariable"] and node["mutability"] != "constant":
        return [node["value"]] if node.get("value") else []
    return (node.get("arguments") or []) if node["nodeType"] == "InheritanceSpecifier" else []


def _has_only_modifiers(node: AstNode) -> bool:
    """Whether it is a function whose body is empty: what it does, its modifiers do."""
    return node["nodeType"] == "FunctionDefinition" and bool(node["modifiers"]) and not node["body"]["statements"]


def _codes(artifact: Artifact) -> tuple[tuple[str, str], ...]:
    """Code and source map of the creation, and of what is deployed."""
    return (
        (artifact.bytecode, artifact.source_map),
        (artifact.deployed_bytecode, artifact.deployed_source_map),
    )


def _executed_ranges(
    trace: ExecutionTrace, artifact: Artifact, index: int
) -> tuple[set[SourceRange], dict[SourceRange, set[bool]]]:
    """Maps what ran of a contract to the source of one file.

    Returns:
        The ranges of all instructions that ran, and for the range of each conditional jump whether it jumped.
    """
    executed: set[SourceRange] = set()
    ways: dict[SourceRange, set[bool]] = defaultdict(set)
    for code, source_map in _codes(artifact):
        compiled = bytes.fromhex(code[2:])
        counters, jumps = _recorded(trace, artifact, compiled)
        ranges = _instruction_ranges(compiled, source_map, index)
        executed |= {ranges[counter] for counter in counters if counter in ranges}
        for counter, jumped in jumps:
            if counter in ranges:
                ways[ranges[counter]].add(jumped)
    return executed, ways


def _recorded(trace: ExecutionTrace, artifact: Artifact, compiled: bytes) -> tuple[set[int], set[tuple[int, bool]]]:
    """Returns the program counters and jumps recorded for a code, whatever its immutables and trailing arguments."""
    counters: set[int] = set()
    jumps: set[tuple[int, bool]] = set()
    is_creation = compiled == bytes.fromhex(artifact.bytecode[2:])
    for code, executed in trace.executed.items():
        # arguments follow the code of a creation
        if code.startswith(compiled) if is_creation else mask_immutables(code, artifact.immutables) == compiled:
            counters |= executed
            jumps |= trace.jumps.get(code, set())
    return counters, jumps


def _instruction_ranges(code: bytes, source_map: str, index: int) -> dict[int, SourceRange]:
    """Decodes a source map: the range of each instruction of one file, by program counter.

    An entry is `start:length:file:...` for one instruction; a field that is empty or missing is the one before it.
    """
    ranges: dict[int, SourceRange] = {}
    entry = [0, 0, 0]
    counter = 0
    for text in source_map.split(";"):
        for position, field in enumerate(text.split(":")[:3]):
            if field:
                entry[position] = int(field)
        start, length, file = entry
        if file == index:
            ranges[counter] = SourceRange(start, length)
        is_push = counter < len(code) and _PUSH1 <= code[counter] <= _PUSH32
        counter += 1 + (code[counter] - _PUSH1 + 1 if is_push else 0)  # a PUSH is followed by the bytes that it pushes
    return ranges


def _statements(functions: list[AstNode]) -> Iterator[AstNode]:
    for node in _walk(functions):
        is_initialization = node["nodeType"] == "VariableDeclarationStatement" and node.get("initialValue")
        if node["nodeType"] in _STATEMENTS or is_initialization or _has_only_modifiers(node):
            yield node


def _conditions(functions: list[AstNode]) -> Iterator[AstNode]:
    for node in _walk(functions):
        is_logical = node["nodeType"] == "BinaryOperation" and node["operator"] in ("&&", "||")
        is_case = node["nodeType"] == "YulCase" and node["value"] != "default"
        is_endless = node["nodeType"] == "ForStatement" and not node.get("condition")
        if (node["nodeType"] in _CONDITIONS and not is_endless) or is_logical or is_case or _is_requirement(node):
            yield node


def _is_requirement(node: AstNode) -> bool:
    """Whether it is a call of the compiler's own `require` or `assert`, whose ids are below 0."""
    called = node["expression"] if node["nodeType"] == "FunctionCall" else {}
    return called.get("name") in _REFUSING and (called.get("referencedDeclaration") or 0) < 0


def _evaluated(node: AstNode) -> AstNode:
    """Returns the condition of a statement or a call, a case's value, and the left side of an operator."""
    if _is_requirement(node):
        node = node["arguments"][0]
    elif node["nodeType"] == "YulCase":
        node = node["value"]
    elif node["nodeType"] == "BinaryOperation":
        node = node["leftExpression"]
    else:
        node = node.get("condition") or node
    return node


def _jumps_if_true(node: AstNode) -> bool:
    """Whether the compiler's jump of a condition jumps where it is true."""
    return node["nodeType"] in _JUMPING_IF_TRUE or node.get("operator") == "||"


def _walk(node: object) -> Iterator[AstNode]:
    if isinstance(node, list):
        for item in node:
            yield from _walk(item)
    elif isinstance(node, dict):
        if "nodeType" in node and "src" in node:
            yield node
        for name, value in node.items():
            if name not in ("documentation", "typeName", "typeDescriptions"):
                yield from _walk(value)


def _range(node: AstNode) -> SourceRange:
    start, length, _ = map(int, node["src"].split(":"))
    return SourceRange(start, length)
