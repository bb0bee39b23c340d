"""Mutation operators: small faults that are inserted into a contract, found in the compiler's syntax tree.

They are the operators that stand for real faults (R. A. DeMillo et al., Hints on Test Data Selection, 1978), and those
of contracts: a removed modifier, money sent to another receiver or in another amount, an effect after an interaction.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

Node = Mapping[str, Any]
"""A node of the compiler's syntax tree."""

REPLACEMENTS = {
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
"""What replaces an operator of Solidity."""
MONEY_FUNCTIONS = ("_push", "_send", "_pay", "transfer", "send", "call", "sendValue")
"""Usual names of functions that send money and take a receiver and an amount."""
OTHER_RECEIVERS = ("payable(msg.sender)", "payable(owner())")
_MONEY_CALL = re.compile(rf"\b({'|'.join(MONEY_FUNCTIONS)})\(")
_KINDS = {"&&": "condition", "||": "condition", "<": "boundary", "<=": "boundary", ">": "boundary", ">=": "boundary"}
"""Mutation operator by operator of Solidity; "arithmetic" for all others."""
_CHECKS = ("require", "assert", "_check")
"""How names of functions begin that revert where something is wrong."""
_NO_CODE = ("StructDefinition", "EventDefinition", "ErrorDefinition", "InlineAssembly", "InheritanceSpecifier")
_NO_CODE_FIELDS = ("typeDescriptions", "typeName", "documentation", "overrides")


@dataclass(frozen=True)
class Mutant:
    """A contract with one fault.

    Attributes:
        operator: Kind of the fault.
        start: First byte of the source that is replaced.
        end: Byte after the last one that is replaced.
        old: Replaced code.
        new: Code in its place.
        function: Function that it is in, or the contract's name.
        line: From 1.
        column: From 1.
        text: The line, without its indent.
    """

    operator: str
    start: int
    end: int
    old: str
    new: str
    function: str
    line: int
    column: int
    text: str

    @property
    def key(self) -> str:
        """Name in the list of equivalent mutants. Stable while the line stays the same."""
        return f"{self.function}: {self.text} [{self.column}: {_one_line(self.old)} -> {_one_line(self.new)}]"

    def apply(self, source: str) -> str:
        """Returns the source with this fault."""
        raw = source.encode()
        return (raw[: self.start] + self.new.encode() + raw[self.end :]).decode()


class _Span(NamedTuple):
    """Part of the source, in bytes."""

    start: int
    end: int


class _Edit(NamedTuple):
    operator: str
    span: _Span
    new: str


class _Source:
    """Source code of a file, by nodes of its tree."""

    def __init__(self, text: str) -> None:
        self.raw, self._lines = text.encode(), text.splitlines()

    def code(self, node: Node) -> str:
        return self.between(*_span(node))

    def between(self, start: int, end: int) -> str:
        return self.raw[start:end].decode()

    def statement(self, node: Node) -> _Span:
        """Span of a statement with its semicolon, which the tree leaves out."""
        start, end = _span(node)
        semicolon = re.match(rb"\s*;", self.raw[end:])
        return _Span(start, end + semicolon.end() if semicolon and self.raw[end - 1 : end] != b"}" else end)

    def mutant(self, edit: _Edit, function: str) -> Mutant:
        start, end = edit.span
        line = self.raw.count(b"\n", 0, start) + 1
        return Mutant(
            operator=edit.operator,
            start=start,
            end=end,
            old=self.between(start, end),
            new=edit.new,
            function=function,
            line=line,
            column=start - self.raw.rfind(b"\n", 0, start),
            text=self._lines[line - 1].strip(),
        )


def generate_mutants(source: str, tree: Node, contract: str) -> list[Mutant]:
    """All mutants of a contract, in the order of its source.

    Some may compile to the same code as others or as the contract; only compiling tells.

    Args:
        source: Source code of the contract's file.
        tree: Syntax tree of the file.
        contract: Name of the contract.
    """
    (definition,) = (n for n in tree["nodes"] if n["nodeType"] == "ContractDefinition" and n["name"] == contract)
    text = _Source(source)
    mutants: dict[tuple[int, int, str], Mutant] = {}
    for node, function in _nodes(definition, contract):
        for operator in _OPERATORS.get(node["nodeType"], ()):
            for edit in operator(node, text):
                mutant = text.mutant(edit, function)
                if mutant.old != mutant.new:
                    mutants.setdefault((mutant.start, mutant.end, mutant.new), mutant)
    return sorted(mutants.values(), key=lambda mutant: (mutant.start, mutant.end, mutant.new))


# -------------------------------------------------------------------------------------------------------- expressions


def _replace_operator(node: Node, source: _Source) -> Iterator[_Edit]:
    binary = node["nodeType"] == "BinaryOperation"
    left, right = ("leftExpression", "rightExpression") if binary else ("leftHandSide", "rightHandSide")
    span = _Span(_span(node[left]).end, _span(node[right]).start)
    operator = node["operator"]
    for other in REPLACEMENTS.get(operator, []):
        new = source.between(*span).replace(operator, other, 1)
        yield _Edit(_KINDS.get(operator, "arithmetic"), span, new)


def _change_literal(node: Node, source: _Source) -> Iterator[_Edit]:
    if node["kind"] == "number":
        unit = f" {node['subdenomination']}" if node.get("subdenomination") else ""
        number = int(node["value"].replace("_", ""), 0)
        for value in dict.fromkeys((number + 1, max(number - 1, 0), 0)):
            yield _Edit("constant", _span(node), f"{value}{unit}")
    elif node["kind"] == "bool":
        yield _Edit("constant", _span(node), "false" if node["value"] == "true" else "true")


def _remove_unary_operator(node: Node, source: _Source) -> Iterator[_Edit]:
    kind = {"!": "condition", "++": "arithmetic", "--": "arithmetic"}.get(node["operator"])
    if kind:
        yield _Edit(kind, _span(node), source.code(node["subExpression"]))


def _keep_one_branch(node: Node, source: _Source) -> Iterator[_Edit]:
    for branch in ("trueExpression", "falseExpression"):
        yield _Edit("condition", _span(node), f"({source.code(node[branch])})")


# --------------------------------------------------------------------------------------------------------- statements


def _negate_condition(node: Node, source: _Source) -> Iterator[_Edit]:
    yield _Edit("condition", _span(node["condition"]), f"!({source.code(node['condition'])})")


def _remove_if(node: Node, source: _Source) -> Iterator[_Edit]:
    if not node.get("falseBody"):
        reverts = "revert" in source.code(node["trueBody"])
        yield _Edit("check removed" if reverts else "statement removed", source.statement(node), "")


def _remove_statement(node: Node, source: _Source) -> Iterator[_Edit]:
    yield _Edit("statement removed", source.statement(node), "")


def _remove_return(node: Node, source: _Source) -> Iterator[_Edit]:
    if node.get("expression"):
        yield from _remove_statement(node, source)


def _remove_call(node: Node, source: _Source) -> Iterator[_Edit]:
    function = node.get("expression", {}).get("expression", {}).get("name", "")
    kind = "check removed" if function.startswith(_CHECKS) else "statement removed"
    yield _Edit(kind, source.statement(node), "")


def _remove_modifier(node: Node, source: _Source) -> Iterator[_Edit]:
    if node.get("kind") != "baseConstructorSpecifier":
        yield _Edit("modifier removed", _span(node), "")


# ------------------------------------------------------------------------------------------------------ calls and money


def _change_call(node: Node, source: _Source) -> Iterator[_Edit]:
    sends_money = _function_name(node) in MONEY_FUNCTIONS and len(node["arguments"]) == 2
    yield from (_change_payment if sends_money else _swap_arguments)(node, source)


def _change_payment(node: Node, source: _Source) -> Iterator[_Edit]:
    receiver, amount = node["arguments"]
    for other in OTHER_RECEIVERS:
        yield _Edit("recipient", _span(receiver), other)
    yield _Edit("amount", _span(amount), f"({source.code(amount)}) + 1")
    yield _Edit("amount", _span(amount), f"({source.code(amount)}) / 2")


def _swap_arguments(node: Node, source: _Source) -> Iterator[_Edit]:
    """Swaps two neighbouring arguments of the same type."""
    if node.get("kind") != "functionCall" or node.get("names"):
        return
    for left, right in zip(node["arguments"], node["arguments"][1:], strict=False):
        if left["typeDescriptions"]["typeString"] == right["typeDescriptions"]["typeString"]:
            span = _Span(_span(left).start, _span(right).end)
            yield _Edit("arguments", span, f"{source.code(right)}, {source.code(left)}")


def _delay_effects(node: Node, source: _Source) -> Iterator[_Edit]:
    """Moves an assignment behind the last call that sends money."""
    statements = node.get("statements", [])
    money_calls = [i for i, statement in enumerate(statements) if _MONEY_CALL.search(source.code(statement))]
    if not money_calls:
        return
    last = source.statement(statements[money_calls[-1]]).end
    for statement in statements[: money_calls[-1]]:
        expression = statement.get("expression", {})
        if statement["nodeType"] == "ExpressionStatement" and expression.get("nodeType") == "Assignment":
            start, end = source.statement(statement)
            new = f"{source.between(end, last)}\n        {source.between(start, end)}"
            yield _Edit("late effect", _Span(start, last), new)


_OPERATORS: Mapping[str, tuple[Callable[[Node, _Source], Iterator[_Edit]], ...]] = {
    "BinaryOperation": (_replace_operator,),
    "Assignment": (_replace_operator,),
    "Literal": (_change_literal,),
    "UnaryOperation": (_remove_unary_operator,),
    "Conditional": (_keep_one_branch,),
    "IfStatement": (_negate_condition, _remove_if),
    "WhileStatement": (_remove_statement,),
    "ExpressionStatement": (_remove_call,),
    "EmitStatement": (_remove_statement,),
    "Return": (_remove_return,),
    "ModifierInvocation": (_remove_modifier,),
    "FunctionCall": (_change_call,),
    "Block": (_delay_effects,),
}
"""Mutation operators by type of the node that they apply to."""


# --------------------------------------------------------------------------------------------------------------- nodes


def _nodes(node: Any, function: str) -> Iterator[tuple[Node, str]]:
    """All nodes with code, each with the function that it is in."""
    if isinstance(node, list):
        for child in node:
            yield from _nodes(child, function)
    elif isinstance(node, dict):
        kind = node.get("nodeType")
        if kind in _NO_CODE:
            return
        if kind == "FunctionDefinition":
            function = node["name"] or node["kind"]
        if kind is not None:
            yield node, function
        for name, value in node.items():
            if name not in _NO_CODE_FIELDS:
                yield from _nodes(value, function)


def _span(node: Node) -> _Span:
    start, length, _ = map(int, node["src"].split(":"))
    return _Span(start, start + length)


def _function_name(call: Node) -> str:
    expression = call["expression"]
    if expression["nodeType"] == "FunctionCallOptions":
        expression = expression["expression"]
    return str(expression.get("memberName") or expression.get("name") or "")


def _one_line(code: str) -> str:
    return re.sub(r"\s+", " ", code).strip()
