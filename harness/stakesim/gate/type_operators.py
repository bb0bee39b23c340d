"""Mutation operators of Solidity's types and names: casts, widths, callers, names, arguments, visibility, locations."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from stakesim.gate.mutant import Edit, Node, Replacement, Span, span_of
from stakesim.gate.place import Operator, Place, nodes_of, type_of

WIDTHS = (8, 16, 32, 40, 64, 96, 128)
"""Bits of the types that numbers are cut to."""
_VALUE_WIDTHS = (32, 64)
"""Bits that the values of local variables are cut to: the lengths of an old timestamp, and of 18 ether in wei."""
_MOST_NAMES = 2
"""So many other names take the place of a name, at most."""
_UNSIGNED = re.compile(r"^uint(\d+)$")


def _bits(kind: str) -> int:
    """Bits of an unsigned integer type; 0 for any other."""
    match = _UNSIGNED.match(kind)
    return int(match[1]) if match else 0


def _narrower(bits: int) -> list[int]:
    """The next narrower width."""
    return [width for width in WIDTHS if width < bits][-1:]


# --------------------------------------------------------------------------------------------------- casts and widths


def _narrow_cast(node: Node, place: Place) -> Iterator[Edit]:
    """Lets a cast lose bits, and removes one that widens."""
    if node.get("kind") != "typeConversion" or len(node["arguments"]) != 1:
        return
    (argument,), kind, code = node["arguments"], type_of(node), place.source.code(node["arguments"][0])
    bits, before = _bits(kind), _bits(type_of(argument))
    if not bits or not before:
        return
    if before < bits:
        yield Edit("cast", span_of(node), code)
    if bits == WIDTHS[0]:
        yield Edit("cast", span_of(node), f"{kind}(({code}) & 127)")
    for width in _narrower(min(bits, before)):
        yield Edit("cast", span_of(node), f"{kind}(uint{width}({code}))")


def _narrow_value(node: Node, place: Place) -> Iterator[Edit]:
    """Cuts bits off the value that a local variable begins with, or that a function returns."""
    value = node.get("initialValue") or node.get("expression")
    if value is None or len(node.get("declarations", ())) > 1 or value["nodeType"] == "Literal":
        return
    if node["nodeType"] == "Return" and value["nodeType"] == "FunctionCall":
        return  # what the function that is called returns is cut there
    kind = type_of(value)
    for width in _VALUE_WIDTHS if _bits(kind) > _VALUE_WIDTHS[-1] else _narrower(_bits(kind)):
        yield Edit("cast", span_of(value), f"{kind}(uint{width}({place.source.code(value)}))")


def _change_field(node: Node, place: Place) -> Iterator[Edit]:
    """Changes the width of a struct's field: fewer bits, and more if it counts."""
    bits = _bits(type_of(node))
    if node["id"] not in place.contract.fields or not bits:
        return
    casts = [
        assignment["rightHandSide"]["expression"]
        for assignment in place.contract.assignments
        if assignment["leftHandSide"].get("referencedDeclaration") == node["id"]
        and assignment["rightHandSide"].get("kind") == "typeConversion"
    ]
    for width in _narrower(bits):
        also = tuple(Replacement(span_of(cast), f"uint{width}") for cast in casts)
        yield Edit("field type", span_of(node["typeName"]), f"uint{width}", also)
    counted = (
        operation["subExpression"].get("referencedDeclaration")
        for operation in nodes_of(place.contract.definition, "UnaryOperation")
    )
    if node["id"] in counted:
        yield Edit("field type", span_of(node["typeName"]), f"uint{bits * 2}")


# ------------------------------------------------------------------------------------------------------------- names


def _replace_caller(node: Node, _: Place) -> Iterator[Edit]:
    if node["memberName"] == "sender" and node["expression"].get("name") == "msg":
        for other in ("tx.origin", "owner()"):
            yield Edit("caller", span_of(node), other)


def _replace_member(node: Node, place: Place) -> Iterator[Edit]:
    """Names another field of the same type, or another value of the enum."""
    kind = type_of(node["expression"])
    fields = place.contract.fields.get(node.get("referencedDeclaration", -1), [])
    names = place.contract.enum_values.get(kind) or [field["name"] for field in fields]
    end = span_of(node).end
    span = Span(end - len(node["memberName"].encode()), end)
    for other in _after(names, node["memberName"]):
        yield Edit("member", span, other)


def _after(names: Sequence[str], name: str) -> Sequence[str]:
    """The few names that follow a name in a list that begins again at its end."""
    if name not in names:
        return ()
    at = names.index(name)
    return [*names[at + 1 :], *names[:at]][:_MOST_NAMES]


def _replace_identifier(node: Node, place: Place) -> Iterator[Edit]:
    """Names another variable of the same type."""
    if place.function is None:
        return
    span, name = span_of(node), node["name"]
    known = {each.name for each in (*place.locals, *place.contract.state_variables)}
    if name not in known:
        return
    others = place.in_scope(span.start, type_of(node), assigned=bool(node.get("lValueRequested")))
    for other in [other for other in others if other != name][:_MOST_NAMES]:
        yield Edit("identifier", span, other)


def _replace_argument(node: Node, place: Place) -> Iterator[Edit]:
    """Passes a variable instead of an expression of the same type: one that is part of it, if there is one."""
    if node.get("kind") != "functionCall":
        return
    for argument in node["arguments"]:
        if argument["nodeType"] in ("Identifier", "Literal"):
            continue
        others = place.in_scope(span_of(argument).start, type_of(argument))
        parts = [each["name"] for each in nodes_of(argument, "Identifier")]
        for other in sorted(others, key=lambda name: name not in parts)[:1]:
            yield Edit("argument replaced", span_of(argument), other)


def _falsify_event(node: Node, place: Place) -> Iterator[Edit]:
    """Lets an event tell another amount or address."""
    for argument in node["eventCall"]["arguments"]:
        code = place.source.code(argument)
        if _bits(type_of(argument)):
            yield Edit("event argument", span_of(argument), f"({code}) + 1")
        elif type_of(argument).startswith("address"):
            yield Edit("event argument", span_of(argument), "address(this)")
        elif type_of(argument) == "bool":
            yield Edit("event argument", span_of(argument), f"!({code})")


# ------------------------------------------------------------------------------------------------- visibility and data


def _open_function(node: Node, place: Place) -> Iterator[Edit]:
    """Lets everybody call a function that changes something, and lets one take ether that takes none."""
    if node["kind"] != "function" or not node.get("body") or node["stateMutability"] != "nonpayable":
        return
    span = Span(span_of(node["parameters"]).end, span_of(node["body"]).start)
    header = place.source.between(*span)
    for visibility in ("private", "internal"):
        if match := re.search(rf"\b{visibility}\b", header):
            start = span.start + len(header[: match.start()].encode())
            yield Edit("visibility", Span(start, start + len(visibility)), "public")
    if node["visibility"] in ("public", "external") and not node.get("baseFunctions"):
        start = span.start + len(header[: header.index(node["visibility"])].encode())
        end = start + len(node["visibility"])
        yield Edit("visibility", Span(start, end), f"{node['visibility']} payable")


def _close_getter(node: Node, place: Place) -> Iterator[Edit]:
    """Takes the getter from a variable of the contract."""
    if node.get("stateVariable") and node["visibility"] == "public":
        start = span_of(node["typeName"]).end
        header = place.source.between(start, span_of(node).end)
        at = start + len(header[: header.index("public")].encode())
        yield Edit("visibility", Span(at, at + len("public")), "internal")


def _copy_to_memory(node: Node, place: Place) -> Iterator[Edit]:
    """Writes to a copy in memory where the contract writes to storage."""
    for declaration in node["declarations"]:
        if declaration is None or declaration["storageLocation"] != "storage" or place.function is None:
            continue
        written = (
            target["expression"].get("referencedDeclaration")
            for assignment in nodes_of(place.function["body"], "Assignment")
            for target in _targets(assignment["leftHandSide"])
        )
        if declaration["id"] in written:
            span = _word_in(place, span_of(declaration), "storage")
            yield Edit("memory copy", span, "memory")


def _targets(node: Node) -> Iterator[Node]:
    """Fields that an assignment writes to."""
    if node["nodeType"] == "TupleExpression":
        for component in node["components"]:
            if component is not None:
                yield from _targets(component)
    elif node["nodeType"] == "MemberAccess":
        yield node


def _word_in(place: Place, span: Span, word: str) -> Span:
    match = re.search(rb"\b" + word.encode() + rb"\b", place.source.raw[span.start : span.end])
    assert match is not None
    return Span(span.start + match.start(), span.start + match.end())


def _unchecked_statement(node: Node, place: Place) -> Iterator[Edit]:
    """Lets a statement's arithmetic wrap around. What ends without a semicolon is the step of a loop, and can't be."""
    span = place.source.statement(node)
    if _calculates(node) and span != span_of(node):
        yield Edit("unchecked", span, f"unchecked {{ {place.source.between(*span)} }}")


def _unchecked_function(node: Node, place: Place) -> Iterator[Edit]:
    """Lets all arithmetic of a function wrap around."""
    body = node.get("body")
    if body and _calculates(body):
        yield Edit("unchecked", span_of(body), f"{{ unchecked {place.source.code(body)} }}")


def _calculates(node: Node) -> bool:
    binary = (each["operator"] in ("+", "-", "*", "**") for each in nodes_of(node, "BinaryOperation"))
    unary = (each["operator"] in ("++", "--") for each in nodes_of(node, "UnaryOperation"))
    compound = (each["operator"] in ("+=", "-=", "*=") for each in nodes_of(node, "Assignment"))
    return any((*binary, *unary, *compound))


def _narrow_counter(node: Node, place: Place) -> Iterator[Edit]:
    """Counts a loop in 8 bits."""
    declared = (node.get("initializationExpression") or {}).get("declarations", ())
    for declaration in declared:
        if declaration is not None and _bits(type_of(declaration)) > WIDTHS[0]:
            yield Edit("cast", span_of(declaration["typeName"]), f"uint{WIDTHS[0]}")


def _replace_modifier(node: Node, place: Place) -> Iterator[Edit]:
    """Names another modifier of the contract that takes no arguments."""
    names = [
        each["modifierName"].get("name", "")
        for each in nodes_of(place.contract.definition, "ModifierInvocation")
        if not each.get("arguments") and each.get("kind") != "baseConstructorSpecifier"
    ]
    for other in _after(list(dict.fromkeys(names)), node["modifierName"].get("name", "")):
        yield Edit("modifier replaced", span_of(node), other)


TYPE_OPERATORS: Mapping[str, Sequence[Operator]] = {
    "FunctionCall": (_narrow_cast, _replace_argument),
    "VariableDeclarationStatement": (_narrow_value, _copy_to_memory),
    "Return": (_narrow_value,),
    "VariableDeclaration": (_change_field, _close_getter),
    "MemberAccess": (_replace_caller, _replace_member),
    "Identifier": (_replace_identifier,),
    "EmitStatement": (_falsify_event,),
    "FunctionDefinition": (_open_function, _unchecked_function),
    "ExpressionStatement": (_unchecked_statement,),
    "ForStatement": (_narrow_counter,),
    "ModifierInvocation": (_replace_modifier,),
}
"""Mutation operators by type of the node that they apply to."""
