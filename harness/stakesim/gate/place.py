"""Places in a contract's syntax tree, and what mutation operators ask about them: names in scope, fields, types."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

from stakesim.gate.mutant import Edit, Node, Source, Span, span_of


class Variable(NamedTuple):
    """A variable that can be named in some part of the source.

    Attributes:
        name: Its name.
        kind: Its type, as the compiler writes it.
        scope: Where it can be named.
        fixed: Whether it can't be assigned.
    """

    name: str
    kind: str
    scope: Span
    fixed: bool


class Contract:
    """A contract's definition, and what its parts are called.

    Attributes:
        source: Source code of its file.
        definition: Its node.
        name: Its name.
    """

    def __init__(self, source: Source, definition: Node) -> None:
        """Takes the definition out of the file's tree."""
        self.source, self.definition, self.name = source, definition, str(definition["name"])

    @cached_property
    def state_variables(self) -> list[Variable]:
        """Variables of the contract, constants and immutables among them."""
        everywhere = span_of(self.definition)
        return [
            Variable(node["name"], type_of(node), everywhere, node["mutability"] != "mutable")
            for node in self.definition["nodes"]
            if node["nodeType"] == "VariableDeclaration"
        ]

    @cached_property
    def fields(self) -> dict[int, list[Node]]:
        """All fields of the same struct and type, by the id of each."""
        structs = (node for node in self.definition["nodes"] if node["nodeType"] == "StructDefinition")
        return {
            field["id"]: [other for other in struct["members"] if type_of(other) == type_of(field)]
            for struct in structs
            for field in struct["members"]
        }

    @cached_property
    def enum_values(self) -> dict[str, list[str]]:
        """Names of the values of each enum that the contract names, in the order in which it does."""
        values: dict[str, list[str]] = {}
        for node in nodes_of(self.definition, "MemberAccess"):
            kind = type_of(node["expression"])
            if kind.startswith("type(enum") and node["memberName"] not in values.setdefault(kind, []):
                values[kind].append(node["memberName"])
        return values

    @cached_property
    def heard_functions(self) -> set[int]:
        """Ids of the functions that log an event or call another contract, or call a function that does."""
        return self._functions_with("EmitStatement", "InlineAssembly", "FunctionCallOptions")

    @cached_property
    def refusing_functions(self) -> set[int]:
        """Ids of the functions that revert where something is wrong, or call a function that does."""
        return self._functions_with("RevertStatement")

    def _functions_with(self, *kinds: str) -> set[int]:
        functions = list(nodes_of(self.definition, "FunctionDefinition"))
        found = {each["id"] for each in functions for kind in kinds for _ in nodes_of(each, kind)}
        while True:
            more = {
                each["id"]
                for each in functions
                for call in nodes_of(each, "FunctionCall")
                if call["expression"].get("referencedDeclaration") in found
            }
            if more <= found:
                return found
            found |= more

    @cached_property
    def assignments(self) -> list[Node]:
        """All assignments."""
        return list(nodes_of(self.definition, "Assignment"))


class Place:
    """Where a node is.

    Attributes:
        contract: The contract.
        source: Its source code.
        function: The function's node; None outside of all functions.
    """

    def __init__(self, contract: Contract, function: Node | None = None) -> None:
        """A place in a function of a contract, or outside of its functions."""
        self.contract, self.source, self.function = contract, contract.source, function

    @property
    def name(self) -> str:
        """Name of the function, or of the contract outside of functions."""
        return self.contract.name if self.function is None else self.function["name"] or self.function["kind"]

    @property
    def span(self) -> Span:
        """Where the function, or the contract, is."""
        return span_of(self.contract.definition if self.function is None else self.function)

    @cached_property
    def locals(self) -> list[Variable]:
        """Parameters and local variables, in the order of the source."""
        return [] if self.function is None else list(_locals(self.function))

    def in_scope(self, position: int, kind: str, *, assigned: bool = False) -> list[str]:
        """Names of the variables of a type, the latest of the function first, then those of the contract.

        Args:
            position: Where they are named.
            kind: The type, as the compiler writes it.
            assigned: Whether a value is assigned to them there.
        """
        variables = [*reversed(self.locals), *self.contract.state_variables]
        return list(
            dict.fromkeys(
                each.name
                for each in variables
                if each.kind == kind and each.scope.start <= position < each.scope.end and not (assigned and each.fixed)
            )
        )


Operator: TypeAlias = Callable[[Node, Place], Iterator[Edit]]
"""A mutation operator: all edits that it makes at a node."""


def type_of(node: Node) -> str:
    """Type of an expression or a variable, as the compiler writes it."""
    return str(node["typeDescriptions"].get("typeString", ""))


def nodes_of(node: Any, kind: str) -> Iterator[Node]:
    """All nodes of a type below a node, itself among them."""
    if isinstance(node, list):
        for child in node:
            yield from nodes_of(child, kind)
    elif isinstance(node, dict):
        if node.get("nodeType") == kind:
            yield node
        for value in node.values():
            yield from nodes_of(value, kind)


def function_name(call: Node) -> str:
    """Name of the function that a call names; empty for a type or an expression."""
    expression = call["expression"]
    if expression["nodeType"] == "FunctionCallOptions":
        expression = expression["expression"]
    return str(expression.get("memberName") or expression.get("name") or "")


def reverts(node: Node) -> bool:
    """Whether a statement is a check: an `if` that reverts, or a call of a function that checks."""
    if node["nodeType"] == "IfStatement":
        ends = [*nodes_of(node["trueBody"], "RevertStatement"), *nodes_of(node["trueBody"], "FunctionCall")]
        named = (each["nodeType"] == "RevertStatement" or function_name(each) == "revert" for each in ends)
        return any(named) and not node.get("falseBody")
    expression = node.get("expression") or {}
    return expression.get("nodeType") == "FunctionCall" and function_name(expression).startswith(CHECKS)


CHECKS = ("require", "assert", "_check")
"""How names of functions begin that revert where something is wrong."""


def _locals(function: Node) -> Iterator[Variable]:
    whole = span_of(function)
    for parameters in ("parameters", "returnParameters"):
        for node in (function.get(parameters) or {"parameters": ()})["parameters"]:
            if node["name"]:
                yield Variable(node["name"], type_of(node), whole, fixed=False)
    if function.get("body"):
        yield from _declared(function["body"], span_of(function["body"]))


def _declared(node: Any, scope: Span) -> Iterator[Variable]:
    """Variables that statements declare: each can be named behind its statement, to the end of its block."""
    if isinstance(node, list):
        for child in node:
            yield from _declared(child, scope)
    elif isinstance(node, dict):
        if node.get("nodeType") in ("Block", "UncheckedBlock", "ForStatement"):
            scope = span_of(node)
        if node.get("nodeType") == "VariableDeclarationStatement":
            for declaration in node["declarations"]:
                if declaration is not None:
                    visible = Span(span_of(node).end, scope.end)
                    yield Variable(declaration["name"], type_of(declaration), visible, fixed=False)
            return
        for value in node.values():
            yield from _declared(value, scope)


def statements_of(node: Node) -> Sequence[Node]:
    """Statements of a block; none for any other node."""
    return node.get("statements") or ()
