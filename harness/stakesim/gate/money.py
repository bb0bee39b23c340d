"""Lines of a contract that compute or move money, found in the syntax tree: whatever names it has.

Money moves where ether is sent, where its amount is read (`msg.value`, a balance), and where state of an integer type
is written: what is owed, held or counted. The lines with money are those of the statement there, and of what computes
the numbers that it uses: local variables, constants, and results of functions of the same contract.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from stakesim.gate.mutant import Node, span_of
from stakesim.gate.place import nodes_of, type_of

_SENDING = ("transfer", "send")
_YUL_MONEY = ("call", "callcode", "delegatecall", "create", "create2", "selfdestruct", "sstore", "tstore")
_YUL_AMOUNTS = ("callvalue", "selfbalance", "balance")
_SIMPLE = ("ExpressionStatement", "VariableDeclarationStatement", "Return", "EmitStatement", "RevertStatement")
_CONDITIONAL = ("IfStatement", "WhileStatement", "DoWhileStatement", "ForStatement")
_INTEGER = re.compile(r"u?int\d+\b")
_INTEGERS = re.compile(r"\bu?int\d+(\[\d*\])* storage|struct ")
_WRITING = ("++", "--", "delete")


def money_lines(source: bytes, definition: Node) -> set[int]:
    """Numbers of the lines that compute or move money.

    Args:
        source: Source code of the file.
        definition: A contract, a library, or functions.
    """
    functions = [*nodes_of(definition, "FunctionDefinition"), *nodes_of(definition, "ModifierDefinition")]
    local = {node["id"] for function in functions for node in nodes_of(function, "VariableDeclaration")}
    returned = {function["id"]: _returned(function) for function in functions}
    rest = [piece for function in functions for piece in _pieces(function.get("body"))]
    rest += [node for node in definition.get("nodes", ()) if node["nodeType"] == "VariableDeclaration"]
    money: list[Node] = []
    found = [piece for piece in rest if _moves_money(piece, local)]
    while found:
        money += found
        rest = [piece for piece in rest if piece not in found]
        named = {each for piece in money for each in _references(piece)}
        ends = [each for name in named & returned.keys() for each in returned[name]]
        computed = named | {node["id"] for node in ends if node["nodeType"] == "VariableDeclaration"}
        found = [piece for piece in rest if piece in ends or _computes(piece, computed, local)]
    lines: set[int] = set()
    for piece in money:
        start, end = span_of(piece)
        first = source.count(b"\n", 0, start) + 1
        lines |= set(range(first, first + source.count(b"\n", start, end) + 1))
    return lines


def _returned(function: Node) -> list[Node]:
    """Statements and variables that give a function's result, if that is a number."""
    results = (function.get("returnParameters") or {"parameters": []})["parameters"]
    if not any(_INTEGER.match(type_of(each)) for each in results):
        return []
    return [*results, *nodes_of(function.get("body"), "Return")]


def _computes(piece: Node, variables: set[int], local: set[int]) -> bool:
    """Whether a statement computes one of these variables: locals of a function, or state where it is declared."""
    if piece["nodeType"] == "VariableDeclaration":
        return piece["id"] in variables and bool(piece.get("value"))
    return bool(_assigned(piece) & variables & local)


def _pieces(node: Any) -> Iterator[Node]:
    """Statements without others in them, and conditions of those that have others."""
    if isinstance(node, list):
        for child in node:
            yield from _pieces(child)
    elif isinstance(node, dict):
        kind = node.get("nodeType", "")
        if kind in _SIMPLE:
            yield node
            return
        if kind == "InlineAssembly":
            yield from _assembly_pieces(node["AST"], node)
            return
        if kind in _CONDITIONAL and node.get("condition"):
            yield node["condition"]
        if kind == "TryStatement":
            yield node["externalCall"]
        for name, value in node.items():
            if name not in ("condition", "externalCall"):
                yield from _pieces(value)


def _assembly_pieces(node: Any, block: Node) -> Iterator[Node]:
    """Statements and conditions of inline assembly, each with the declarations of Solidity that it names."""
    declared = {each["src"]: each["declaration"] for each in block.get("externalReferences", ())}

    def walk(node: Any) -> Iterator[Node]:
        if isinstance(node, list):
            for child in node:
                yield from walk(child)
        elif isinstance(node, dict):
            kind = node.get("nodeType", "")
            if kind in ("YulExpressionStatement", "YulAssignment", "YulVariableDeclaration"):
                yield _with_declarations(node, declared)
                return
            for name, value in node.items():
                if name in ("condition", "expression"):
                    yield _with_declarations(value, declared)
                else:
                    yield from walk(value)

    yield from walk(node)


def _with_declarations(node: Any, declared: dict[str, int]) -> Any:
    """The node, with the id of the declaration at each name of Solidity's, as elsewhere in the tree."""
    if isinstance(node, list):
        return [_with_declarations(child, declared) for child in node]
    if not isinstance(node, dict):
        return node
    copy = {name: _with_declarations(value, declared) for name, value in node.items()}
    if node.get("src") in declared and node.get("nodeType") == "YulIdentifier":
        copy["referencedDeclaration"] = declared[node["src"]]
    return copy


def _moves_money(piece: Node, local: set[int]) -> bool:
    return (
        any(_reads_or_sends(node) for node in nodes_of(piece, "MemberAccess"))
        or any("value" in node["names"] for node in nodes_of(piece, "FunctionCallOptions"))
        or any(node["name"] == "selfdestruct" for node in nodes_of(piece, "Identifier"))
        or any(
            node["functionName"]["name"] in (*_YUL_MONEY, *_YUL_AMOUNTS) for node in nodes_of(piece, "YulFunctionCall")
        )
        or any(_is_amount(target, local) for target in _targets(piece))
    )


def _reads_or_sends(member: Node) -> bool:
    """Whether it is `msg.value`, a balance in wei, or a function that sends ether, or tokens."""
    name, of = member["memberName"], type_of(member["expression"])
    return (name == "value" and of == "msg") or (name == "balance" and of.startswith("address")) or name in _SENDING


def _targets(piece: Node) -> Iterator[Node]:
    """What a statement writes to: left sides of assignments, also in tuples, and what it counts, deletes or pushes."""
    for node in nodes_of(piece, "Assignment"):
        yield from _each(node["leftHandSide"])
    for node in nodes_of(piece, "UnaryOperation"):
        if node["operator"] in _WRITING:
            yield node["subExpression"]
    for node in nodes_of(piece, "FunctionCall"):
        called = node["expression"]
        if called["nodeType"] == "MemberAccess" and called["memberName"] in ("push", "pop"):
            yield called["expression"]


def _each(target: Node) -> Iterator[Node]:
    if target["nodeType"] != "TupleExpression":
        yield target
        return
    for component in target["components"]:
        if component is not None:
            yield from _each(component)


def _is_amount(target: Node, local: set[int]) -> bool:
    """Whether what is written is state, and an integer, a list of them, or a struct."""
    kind, root = type_of(target), target
    is_storage = " storage" in kind
    while root["nodeType"] in ("IndexAccess", "MemberAccess"):
        root = root["baseExpression"] if root["nodeType"] == "IndexAccess" else root["expression"]
        is_storage |= " storage" in type_of(root)
    is_state = root["nodeType"] == "Identifier" and root.get("referencedDeclaration") not in local
    if root is target and not is_state:
        return False  # a local variable, also one that begins to point to other state
    return (is_storage or is_state) and bool(_INTEGER.match(kind) or _INTEGERS.search(kind))


def _references(node: Any) -> Iterator[int]:
    """Ids of all declarations that are named."""
    if isinstance(node, list):
        for child in node:
            yield from _references(child)
    elif isinstance(node, dict):
        if isinstance(node.get("referencedDeclaration"), int):
            yield node["referencedDeclaration"]
        for value in node.values():
            yield from _references(value)


def _assigned(piece: Node) -> set[int]:
    """Ids of the variables that a statement declares or assigns."""
    declared = {each["id"] for each in piece.get("declarations", ()) if each is not None}
    targets = {target.get("referencedDeclaration") for target in _targets(piece)}
    names = piece.get("variableNames", ()) if piece["nodeType"] == "YulAssignment" else ()
    return {each for each in (*declared, *targets, *(name.get("referencedDeclaration") for name in names)) if each}
