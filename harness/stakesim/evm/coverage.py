"""Which lines and branches of a Solidity file ran: from where py-evm was in the code, and the compiler's source map.

A statement is covered when an instruction of it ran; a line, when all statements that begin on it are. A branch is a
way out of a condition (`if`, `&&`, `||`, `?:`, a loop's end): the conditional jumps that the compiler made of it must
have been taken and not taken. Source maps: https://docs.soliditylang.org/en/latest/internals/source_mappings.html
"""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stakesim.evm.compiler import Artifact
from stakesim.evm.in_process.trace import ExecutionTrace

_JUMPI, _PUSH1, _PUSH32 = 0x57, 0x60, 0x7F


@dataclass(frozen=True)
class Branch:
    """line: where the condition begins. taken: which of its two ways were seen."""

    line: int
    condition: str
    taken: frozenset[bool]

    @property
    def covered(self) -> bool:
        return len(self.taken) == 2


@dataclass(frozen=True)
class Coverage:
    """Of one file. lines: those with statements, by number, whether all of them ran."""

    file: str
    lines: Mapping[int, bool]
    branches: tuple[Branch, ...]

    @property
    def missed_lines(self) -> list[int]:
        return [line for line, ran in self.lines.items() if not ran]

    @property
    def missed_branches(self) -> list[Branch]:
        return [branch for branch in self.branches if not branch.covered]

    def lcov(self) -> str:
        """The file's record in the format of lcov's tracefiles (man geninfo)."""
        rows = ["TN:", f"SF:{self.file}"]
        for number, branch in enumerate(self.branches):
            rows += [f"BRDA:{branch.line},{number},{int(way)},{int(way in branch.taken)}" for way in (False, True)]
        taken = sum(len(branch.taken) for branch in self.branches)
        rows += [f"BRF:{2 * len(self.branches)}", f"BRH:{taken}"]
        rows += [f"DA:{line},{int(ran)}" for line, ran in sorted(self.lines.items())]
        rows += [f"LF:{len(self.lines)}", f"LH:{sum(self.lines.values())}", "end_of_record"]
        return "\n".join(rows) + "\n"


def measure(
    trace: ExecutionTrace, artifact: Artifact, file: str, source: str, tree: Mapping[str, Any], index: int
) -> Coverage:
    """What ran of a file.

    artifact: the contract, compiled from it, with source maps. tree: the file's syntax tree. index: the compiler's of
    the file.
    """
    ran: set[tuple[int, int]] = set()
    ways: dict[tuple[int, int], set[bool]] = defaultdict(set)
    creation, deployed = bytes.fromhex(artifact.bytecode[2:]), bytes.fromhex(artifact.deployed_bytecode[2:])
    for code, map_ in ((creation, artifact.source_map), (deployed, artifact.deployed_source_map)):
        counters, jumps = _of(trace, code)
        places = _places(code, map_)
        ran |= {places[at][:2] for at in counters if at in places and places[at][2] == index}
        for at, jumped in jumps:
            if at in places and places[at][2] == index:
                ways[places[at][:2]].add(jumped)
    begins = [0, *(at + 1 for at, byte in enumerate(source.encode()) if byte == 0x0A)]

    def line(node: Mapping[str, Any]) -> int:
        return bisect.bisect_right(begins, _at(node)[0])

    lines: dict[int, bool] = {}
    for node in _statements(tree):
        start, length = _at(node.get("condition", node) if node["nodeType"] == "IfStatement" else node)
        inside = any(start <= s and s + n <= start + length for s, n in ran)
        lines[line(node)] = lines.get(line(node), True) and inside
    raw = source.encode()
    branches = []
    for node in _conditions(tree):
        start, length = _at(node)
        shown = node.get("condition", node)
        begin, size = _at(shown)
        branches.append(Branch(line(node), raw[begin : begin + size].decode(), frozenset(ways[(start, length)])))
    return Coverage(file, dict(sorted(lines.items())), tuple(branches))


def _of(trace: ExecutionTrace, code: bytes) -> tuple[set[int], set[tuple[int, bool]]]:
    """Of this code, whatever its immutables are and arguments follow it."""
    counters: set[int] = set()
    jumps: set[tuple[int, bool]] = set()
    for ran, at in trace.executed.items():
        if len(ran) >= len(code) and _same(ran, code):
            counters |= at
            jumps |= trace.jumps.get(ran, set())
    return counters, jumps


def _same(ran: bytes, code: bytes) -> bool:
    """Immutables are zeros in the compiler's code."""
    return all(one == other or other == 0 for one, other in zip(ran, code, strict=False))


def _places(code: bytes, map_: str) -> dict[int, tuple[int, int, int]]:
    """Start, length and file of each instruction, by its program counter."""
    places: dict[int, tuple[int, int, int]] = {}
    start = length = file = 0
    at = 0
    for entry in map_.split(";"):
        fields = entry.split(":")
        start, length, file = (
            int(fields[n]) if n < len(fields) and fields[n] else now for n, now in enumerate((start, length, file))
        )
        places[at] = (start, length, file)
        at += 1 + (code[at] - _PUSH1 + 1 if at < len(code) and _PUSH1 <= code[at] <= _PUSH32 else 0)
    return places


_STATEMENTS = ("ExpressionStatement", "EmitStatement", "Return", "RevertStatement", "IfStatement", "InlineAssembly")


def _statements(tree: Any) -> Iterator[Mapping[str, Any]]:
    for node in _walk(tree):
        declared = node["nodeType"] == "VariableDeclarationStatement" and node.get("initialValue")
        if node["nodeType"] in _STATEMENTS or declared:
            yield node


def _conditions(tree: Any) -> Iterator[Mapping[str, Any]]:
    for node in _walk(tree):
        logical = node["nodeType"] == "BinaryOperation" and node["operator"] in ("&&", "||")
        loop = node["nodeType"] in ("ForStatement", "WhileStatement")
        if node["nodeType"] in ("IfStatement", "Conditional") or logical or loop:
            yield node


def _walk(node: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(node, list):
        for one in node:
            yield from _walk(one)
    elif isinstance(node, dict):
        if "nodeType" in node and "src" in node:
            yield node
        for name, value in node.items():
            if name not in ("documentation", "typeName", "typeDescriptions"):
                yield from _walk(value)


def _at(node: Mapping[str, Any]) -> tuple[int, int]:
    start, length, _ = map(int, node["src"].split(":"))
    return start, length
