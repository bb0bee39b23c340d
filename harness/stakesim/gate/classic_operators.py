"""Mutation operators of any language, and of money: operators, constants, conditions, statements, payments."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from stakesim.gate.mutant import Edit, Node, Span, span_of
from stakesim.gate.place import CHECKS, Operator, Place, function_name, reverts

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
MONEY_CALL = re.compile(rf"\b({'|'.join(MONEY_FUNCTIONS)})\(")
"""Matches a call of one of them."""
_KINDS = {"&&": "condition", "||": "condition", "<": "boundary", "<=": "boundary", ">": "boundary", ">=": "boundary"}
"""Mutation operator by operator of Solidity; "arithmetic" for all others."""
_NOT_COMMUTATIVE = ("-", "/", "%", "**", "<<", ">>", "<", "<=", ">", ">=")


# -------------------------------------------------------------------------------------------------------- expressions


def _replace_operator(node: Node, place: Place) -> Iterator[Edit]:
    binary = node["nodeType"] == "BinaryOperation"
    left, right = ("leftExpression", "rightExpression") if binary else ("leftHandSide", "rightHandSide")
    span = Span(span_of(node[left]).end, span_of(node[right]).start)
    operator = node["operator"]
    for other in REPLACEMENTS.get(operator, []):
        new = place.source.between(*span).replace(operator, other, 1)
        yield Edit(_KINDS.get(operator, "arithmetic"), span, new)


def _swap_operands(node: Node, place: Place) -> Iterator[Edit]:
    """Swaps the operands of what does not commute."""
    if node["operator"] in _NOT_COMMUTATIVE:
        left, right = (f"({place.source.code(node[side])})" for side in ("leftExpression", "rightExpression"))
        yield Edit("swapped operands", span_of(node), f"{right} {node['operator']} {left}")


def _change_literal(node: Node, _: Place) -> Iterator[Edit]:
    if node["kind"] == "number":
        unit = f" {node['subdenomination']}" if node.get("subdenomination") else ""
        number = int(node["value"].replace("_", ""), 0)
        for value in dict.fromkeys((number + 1, max(number - 1, 0), 0)):
            yield Edit("constant", span_of(node), f"{value}{unit}")
    elif node["kind"] == "bool":
        yield Edit("constant", span_of(node), "false" if node["value"] == "true" else "true")


def _remove_unary_operator(node: Node, place: Place) -> Iterator[Edit]:
    kind = {"!": "condition", "++": "arithmetic", "--": "arithmetic"}.get(node["operator"])
    if kind:
        yield Edit(kind, span_of(node), place.source.code(node["subExpression"]))


def _keep_one_branch(node: Node, place: Place) -> Iterator[Edit]:
    for branch in ("trueExpression", "falseExpression"):
        yield Edit("condition", span_of(node), f"({place.source.code(node[branch])})")


# --------------------------------------------------------------------------------------------------------- statements


def _negate_condition(node: Node, place: Place) -> Iterator[Edit]:
    yield Edit("condition", span_of(node["condition"]), f"!({place.source.code(node['condition'])})")


def _remove_if(node: Node, place: Place) -> Iterator[Edit]:
    if not node.get("falseBody"):
        yield Edit("check removed" if reverts(node) else "statement removed", place.source.statement(node), "")


def _remove_statement(node: Node, place: Place) -> Iterator[Edit]:
    yield Edit("statement removed", place.source.statement(node), "")


def _remove_return(node: Node, place: Place) -> Iterator[Edit]:
    if node.get("expression"):
        yield from _remove_statement(node, place)


def _remove_call(node: Node, place: Place) -> Iterator[Edit]:
    function = node.get("expression", {}).get("expression", {}).get("name", "")
    kind = "check removed" if function.startswith(CHECKS) else "statement removed"
    yield Edit(kind, place.source.statement(node), "")


def _remove_modifier(node: Node, _: Place) -> Iterator[Edit]:
    if node.get("kind") != "baseConstructorSpecifier":
        yield Edit("modifier removed", span_of(node), "")


# ------------------------------------------------------------------------------------------------------ calls and money


def _change_call(node: Node, place: Place) -> Iterator[Edit]:
    sends_money = function_name(node) in MONEY_FUNCTIONS and len(node["arguments"]) == 2
    yield from (_change_payment if sends_money else _swap_arguments)(node, place)


def _change_payment(node: Node, place: Place) -> Iterator[Edit]:
    receiver, amount = node["arguments"]
    for other in OTHER_RECEIVERS:
        yield Edit("recipient", span_of(receiver), other)
    yield Edit("amount", span_of(amount), f"({place.source.code(amount)}) + 1")
    yield Edit("amount", span_of(amount), f"({place.source.code(amount)}) / 2")


def _swap_arguments(node: Node, place: Place) -> Iterator[Edit]:
    """Swaps two neighbouring arguments of the same type."""
    if node.get("kind") != "functionCall" or node.get("names"):
        return
    for left, right in zip(node["arguments"], node["arguments"][1:], strict=False):
        if left["typeDescriptions"]["typeString"] == right["typeDescriptions"]["typeString"]:
            span = Span(span_of(left).start, span_of(right).end)
            yield Edit("arguments", span, f"{place.source.code(right)}, {place.source.code(left)}")


def _delay_effects(node: Node, place: Place) -> Iterator[Edit]:
    """Moves an assignment behind the last call that sends money."""
    source, statements = place.source, node.get("statements", [])
    money_calls = [i for i, statement in enumerate(statements) if MONEY_CALL.search(source.code(statement))]
    if not money_calls:
        return
    last = source.statement(statements[money_calls[-1]]).end
    for statement in statements[: money_calls[-1]]:
        expression = statement.get("expression", {})
        if statement["nodeType"] == "ExpressionStatement" and expression.get("nodeType") == "Assignment":
            start, end = source.statement(statement)
            new = f"{source.between(end, last)}\n        {source.between(start, end)}"
            yield Edit("late effect", Span(start, last), new)


CLASSIC_OPERATORS: Mapping[str, Sequence[Operator]] = {
    "BinaryOperation": (_replace_operator, _swap_operands),
    "Assignment": (_replace_operator,),
    "Literal": (_change_literal,),
    "UnaryOperation": (_remove_unary_operator,),
    "Conditional": (_keep_one_branch,),
    "IfStatement": (_negate_condition, _remove_if),
    "WhileStatement": (_remove_statement,),
    "ForStatement": (_remove_statement,),
    "ExpressionStatement": (_remove_call,),
    "EmitStatement": (_remove_statement,),
    "Return": (_remove_return,),
    "ModifierInvocation": (_remove_modifier,),
    "FunctionCall": (_change_call,),
    "Block": (_delay_effects,),
}
"""Mutation operators by type of the node that they apply to."""
