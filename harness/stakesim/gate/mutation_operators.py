"""Small faults put into a contract, one at a time, from the compiler's syntax tree.

The operators are those that the literature found to stand for real faults (R. A. DeMillo et al., Hints on Test Data
Selection, 1978), with those of contracts added: a modifier left out, money sent to somebody else or in another amount,
an effect after an interaction.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Node = Mapping[str, Any]

SWAPPED = {
    "+": ["-"],
    "-": ["+"],
    "*": ["/", "+"],
    "/": ["*"],
    "%": ["*"],
    "<": ["<=", ">="],
    "<=": ["<", ">"],
    ">": [">=", "<="],
    ">=": [">", "<"],
    "==": ["!="],
    "!=": ["=="],
    "&&": ["||"],
    "||": ["&&"],
    "+=": ["-=", "="],
    "-=": ["+=", "="],
}
_KIND = {"&&": "condition", "||": "condition", "<": "boundary", "<=": "boundary", ">": "boundary", ">=": "boundary"}
MOVES_MONEY = ("_push", "_send", "_pay", "transfer", "send", "call", "sendValue")
"""Functions whose first arguments are a receiver and an amount, and what they are often called."""
OTHERS = ("payable(msg.sender)", "payable(owner())")
"""Who money may go to instead."""


@dataclass(frozen=True)
class Mutant:
    """start, end: of what is replaced, in bytes of the source. function: where it stands. line, column: from 1."""

    operator: str
    start: int
    end: int
    old: str
    new: str
    function: str
    line: int
    column: int
    text: str
    """The line, without its indent."""

    @property
    def key(self) -> str:
        """The same as long as the line is: what the list of equivalent ones calls it by."""
        return f"{self.function}: {self.text} [{self.column}: {_flat(self.old)} -> {_flat(self.new)}]"

    def apply(self, source: str) -> str:
        """The source with this fault in it."""
        raw = source.encode()
        return (raw[: self.start] + self.new.encode() + raw[self.end :]).decode()


def _flat(code: str) -> str:
    return re.sub(r"\s+", " ", code).strip()


def mutants(source: str, tree: Node, contract: str) -> list[Mutant]:
    """All mutants of a contract. tree: the syntax tree of its file. Those whose code would be the same are still among
    them: only compiling tells."""
    raw, lines = source.encode(), source.splitlines()
    (found,) = (n for n in tree["nodes"] if n["nodeType"] == "ContractDefinition" and n["name"] == contract)
    made: dict[tuple[int, int, str], Mutant] = {}

    def code(node: Node) -> str:
        start, length, _ = _at(node)
        return raw[start : start + length].decode()

    def put(operator: str, start: int, end: int, new: str, function: str) -> None:
        old = raw[start:end].decode()
        line = raw.count(b"\n", 0, start) + 1
        if old != new:
            column = start - raw.rfind(b"\n", 0, start)
            text = lines[line - 1].strip()
            made.setdefault((start, end, new), Mutant(operator, start, end, old, new, function, line, column, text))

    for node, function in _walk(found, contract):
        start, end = _span(node)
        kind = node["nodeType"]
        if kind in ("BinaryOperation", "Assignment"):
            left, right = ("leftExpression", "rightExpression") if kind == "BinaryOperation" else _SIDES
            after, before = _at(node[left])[2], _at(node[right])[0]
            between = raw[after:before].decode()
            for other in SWAPPED.get(node["operator"], []):
                what = _KIND.get(node["operator"], "arithmetic")
                put(what, after, before, between.replace(node["operator"], other, 1), function)
        elif kind == "Literal" and node["kind"] == "number":
            unit = f" {node['subdenomination']}" if node.get("subdenomination") else ""
            number = int(node["value"].replace("_", ""), 0)
            for value in dict.fromkeys((number + 1, max(number - 1, 0), 0)):
                put("constant", start, end, f"{value}{unit}", function)
        elif kind == "Literal" and node["kind"] == "bool":
            put("constant", start, end, "false" if node["value"] == "true" else "true", function)
        elif kind == "UnaryOperation" and node["operator"] == "!":
            put("condition", start, end, code(node["subExpression"]), function)
        elif kind == "UnaryOperation" and node["operator"] in ("++", "--"):
            put("arithmetic", start, end, code(node["subExpression"]), function)
        elif kind == "Conditional":
            put("condition", start, end, f"({code(node['trueExpression'])})", function)
            put("condition", start, end, f"({code(node['falseExpression'])})", function)
        elif kind == "IfStatement":
            condition = node["condition"]
            put("condition", *_span(condition), f"!({code(condition)})", function)
            if not node.get("falseBody"):
                what = "check removed" if "revert" in code(node["trueBody"]) else "statement removed"
                put(what, start, _statement_end(raw, end), "", function)
        elif kind == "WhileStatement":
            put("statement removed", start, _statement_end(raw, end), "", function)
        elif kind in ("ExpressionStatement", "EmitStatement"):
            call = node.get("expression", {}).get("expression", {})
            check = call.get("name", "").startswith(("require", "assert", "_check"))
            put("check removed" if check else "statement removed", start, _statement_end(raw, end), "", function)
        elif kind == "Return" and node.get("expression"):
            put("statement removed", start, _statement_end(raw, end), "", function)
        elif kind == "ModifierInvocation" and node.get("kind") != "baseConstructorSpecifier":
            put("modifier removed", start, end, "", function)
        elif kind == "FunctionCall" and _name(node) in MOVES_MONEY and len(node["arguments"]) == 2:
            to, amount = node["arguments"]
            for other in OTHERS:
                put("recipient", *_span(to), other, function)
            put("amount", *_span(amount), f"({code(amount)}) + 1", function)
            put("amount", *_span(amount), f"({code(amount)}) / 2", function)
        elif kind == "FunctionCall" and node["arguments"]:
            _swap_arguments(node, code, put, function)
        if kind == "Block":
            _late_effects(node, raw, code, put, function)
    return sorted(made.values(), key=lambda mutant: (mutant.start, mutant.end, mutant.new))


_SIDES = ("leftHandSide", "rightHandSide")


def _swap_arguments(node: Node, code: Any, put: Any, function: str) -> None:
    """Two neighbouring arguments of one type change places."""
    if node.get("kind") != "functionCall" or node.get("names"):
        return
    for one, other in zip(node["arguments"], node["arguments"][1:], strict=False):
        types = {a["typeDescriptions"]["typeString"] for a in (one, other)}
        if len(types) == 1:
            start, end = _at(one)[0], _at(other)[2]
            put("arguments", start, end, f"{code(other)}, {code(one)}", function)


def _late_effects(block: Node, raw: bytes, code: Any, put: Any, function: str) -> None:
    """A write to storage is made after the money has left."""
    statements = block.get("statements", [])
    pays = [i for i, one in enumerate(statements) if re.search(rf"\b({'|'.join(MOVES_MONEY)})\(", code(one))]
    if not pays:
        return
    last = _statement_end(raw, _at(statements[pays[-1]])[2])
    for one in statements[: pays[-1]]:
        expression = one.get("expression", {})
        if one["nodeType"] == "ExpressionStatement" and expression.get("nodeType") == "Assignment":
            start, end = _at(one)[0], _statement_end(raw, _at(one)[2])
            put("late effect", start, last, raw[end:last].decode() + "\n        " + raw[start:end].decode(), function)


def _walk(node: Any, function: str) -> Iterator[tuple[Node, str]]:
    if isinstance(node, list):
        for one in node:
            yield from _walk(one, function)
    elif isinstance(node, dict):
        kind = node.get("nodeType")
        if kind in ("StructDefinition", "EventDefinition", "ErrorDefinition", "InlineAssembly", "InheritanceSpecifier"):
            return
        if kind == "FunctionDefinition":
            function = node["name"] or node["kind"]
        if kind is not None:
            yield node, function
        for name, value in node.items():
            if name not in ("typeDescriptions", "typeName", "documentation", "overrides"):
                yield from _walk(value, function)


def _at(node: Node) -> tuple[int, int, int]:
    """Start, length and end in bytes."""
    start, length, _ = map(int, node["src"].split(":"))
    return start, length, start + length


def _span(node: Node) -> tuple[int, int]:
    start, _, end = _at(node)
    return start, end


def _statement_end(raw: bytes, end: int) -> int:
    """With its semicolon, which the tree leaves out."""
    found = re.match(rb"\s*;", raw[end:])
    return end + found.end() if found and raw[end - 1 : end] != b"}" else end


def _name(call: Node) -> str:
    expression = call["expression"]
    if expression["nodeType"] == "FunctionCallOptions":
        expression = expression["expression"]
    return str(expression.get("memberName") or expression.get("name") or "")
