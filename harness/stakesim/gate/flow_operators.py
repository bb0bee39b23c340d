"""Mutation operators of the order of statements: early returns, neighbours that change places, loops that end early."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from stakesim.gate.mutant import Edit, Node, Span, span_of
from stakesim.gate.place import Operator, Place, reverts, statements_of, type_of

_FEW = 128
"""Elements after which a loop ends: what is right for that many people, and wrong for more."""


def _return_early(node: Node, place: Place) -> Iterator[Edit]:
    """Returns before a statement; from a function that returns values, before the first."""
    body = node.get("body")
    if not body or node["kind"] not in ("function", "constructor"):
        return
    statements = statements_of(body)
    if not node["returnParameters"]["parameters"]:
        for statement in statements:
            start = span_of(statement).start
            yield Edit("early return", Span(start, start), "return; ")
    elif statements and (values := _defaults(node["returnParameters"]["parameters"])):
        start = span_of(statements[0]).start
        yield Edit("early return", Span(start, start), f"return {values}; ")


def _defaults(parameters: Sequence[Node]) -> str:
    """Values to return: the named ones as they are, else zeros; empty if a type has none that is short."""
    values = []
    for parameter in parameters:
        kind = type_of(parameter)
        if parameter["name"] and " storage" not in kind:
            values.append(parameter["name"])
        elif kind.startswith("uint"):
            values.append(f"{kind}(0)" if "[]" not in kind else "new uint256[](0)")
        elif kind == "bool":
            values.append("false")
        else:
            return ""
    return values[0] if len(values) == 1 else f"({', '.join(values)})"


def _swap_statements(node: Node, place: Place) -> Iterator[Edit]:
    """Swaps two neighbours, where their order can be seen. A check that fails undoes what was written before it."""
    source, statements = place.source, statements_of(node)
    for first, second in pairwise(statements):
        if frozenset((_effect(first, place), _effect(second, place))) not in _ORDERED:
            continue
        left, right = source.statement(first), source.statement(second)
        new = f"{source.between(*right)}{source.between(left.end, right.start)}{source.between(*left)}"
        yield Edit("order", Span(left.start, right.end), new)


def _effect(statement: Node, place: Place) -> str:
    """What a statement does that others may see."""
    if statement["nodeType"] == "EmitStatement":
        return "heard"
    if reverts(statement):
        return "check"
    value = statement.get("expression") or statement.get("initialValue") or {}
    if value.get("nodeType") != "FunctionCall" or value.get("kind") != "functionCall":
        return ""
    called = value["expression"].get("referencedDeclaration")
    if called in place.contract.heard_functions:
        return "heard"
    return "refusal" if called in place.contract.refusing_functions else ""


_ORDERED = (frozenset({"check"}), frozenset({"heard"}), frozenset({"check", "refusal"}), frozenset({"check", "heard"}))
"""Effects of two neighbours whose order can be seen."""


def _shorten_loop(node: Node, place: Place) -> Iterator[Edit]:
    """Leaves elements out: the first, the last, all but the first, and those behind the first 128."""
    condition, start = node.get("condition"), node.get("initializationExpression")
    source = place.source
    body = node["body"]
    if body["nodeType"] == "Block" and statements_of(body):
        end = source.statement(statements_of(body)[-1]).end
        yield Edit("loop", Span(end, end), " break;")
    else:
        span = source.statement(body)
        yield Edit("loop", span, f"{{ {source.between(*span)} break; }}")
    names = [each["name"] for each in (start or {}).get("declarations", ()) if each is not None]
    if start is None or condition is None or len(names) != 1:
        return
    if start.get("initialValue") is None:
        end = span_of(start).end
        yield Edit("loop", Span(end, end), " = 1")
    code = source.code(condition)
    if condition.get("operator") == "<":
        left = condition["leftExpression"]
        yield Edit("loop", span_of(left), f"{source.code(left)} + 1")
    yield Edit("loop", span_of(condition), f"{code} && {names[0]} < {_FEW}")


FLOW_OPERATORS: Mapping[str, Sequence[Operator]] = {
    "FunctionDefinition": (_return_early,),
    "Block": (_swap_statements,),
    "ForStatement": (_shorten_loop,),
    "WhileStatement": (_shorten_loop,),
}
"""Mutation operators by type of the node that they apply to."""
