"""Mutation operators of inline assembly: the opcode of a call, its operands, gas and value, and what it returns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from stakesim.gate.mutant import Edit, Node, Span, span_of
from stakesim.gate.place import Operator, Place, nodes_of

_CALL_OPERANDS = 7
"""Of `call`: gas, receiver, value, then place and size of input and output."""


def _change_assembly(node: Node, place: Place) -> Iterator[Edit]:
    for call in nodes_of(node["AST"], "YulFunctionCall"):
        if call["functionName"]["name"] == "call" and len(call["arguments"]) == _CALL_OPERANDS:
            yield from _change_opcode(call, place)
            yield from _change_operands(call, place)
    for assignment in nodes_of(node["AST"], "YulAssignment"):
        yield from _change_return(assignment, place)
    for kind in ("YulAssignment", "YulExpressionStatement", "YulIf"):
        for statement in nodes_of(node["AST"], kind):
            yield Edit("assembly statement", span_of(statement), "")


def _change_opcode(call: Node, place: Place) -> Iterator[Edit]:
    gas, receiver, _, *data = (place.source.code(argument) for argument in call["arguments"])
    for other in ("delegatecall", "staticcall"):
        yield Edit("assembly opcode", span_of(call), f"{other}({', '.join((gas, receiver, *data))})")
    yield Edit("assembly opcode", span_of(call["functionName"]), "callcode")


def _change_operands(call: Node, place: Place) -> Iterator[Edit]:
    gas, receiver, value, *data = call["arguments"]
    amount_of_gas = place.source.code(gas)
    for other in ("0", "gas()", f"div({amount_of_gas}, 2)", f"add({amount_of_gas}, 1)", "2300"):
        yield Edit("assembly gas", span_of(gas), other)
    for other in ("caller()", "origin()", "address()"):
        yield Edit("assembly operand", span_of(receiver), other)
    amount = place.source.code(value)
    for other in ("0", f"add({amount}, 1)", f"div({amount}, 2)", "callvalue()", "selfbalance()"):
        yield Edit("assembly value", span_of(value), other)
    for operand in data:
        yield Edit("assembly operand", span_of(operand), "32")
    for left, right in pairwise(call["arguments"]):
        span = Span(span_of(left).start, span_of(right).end)
        yield Edit("assembly operand", span, f"{place.source.code(right)}, {place.source.code(left)}")


def _change_return(assignment: Node, place: Place) -> Iterator[Edit]:
    value = place.source.code(assignment["value"])
    name = place.source.code(assignment["variableNames"][0])
    yield Edit("assembly return", span_of(assignment["value"]), f"iszero({value})")
    for result in (0, 1):
        yield Edit("assembly return", span_of(assignment), f"pop({value})\n            {name} := {result}")


ASSEMBLY_OPERATORS: Mapping[str, Sequence[Operator]] = {"InlineAssembly": (_change_assembly,)}
"""Mutation operators by type of the node that they apply to."""
