"""Lines of a contract that compute or move money, found in the syntax tree: whatever names it has.

Money moves where ether is sent, where its amount is read (`msg.value`, a balance), and where state is written: what is
owed, held or counted, who is paid, and who may do what. What code elsewhere does is not known here, so a call of it
moves money too, unless it is a view's. The lines with money are those of the statement there, of calls that lead there,
and of what computes the values that these use: local variables, constants, and results of functions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple, TypeAlias

from stakesim.gate.mutant import Node, span_of
from stakesim.gate.place import nodes_of, type_of

_SENDING = ("transfer", "send")
_YUL_MONEY = ("call", "callcode", "delegatecall", "create", "create2", "selfdestruct", "sstore", "tstore")
_YUL_AMOUNTS = ("callvalue", "selfbalance", "balance")
_SIMPLE = (
    *("ExpressionStatement", "VariableDeclarationStatement", "Return", "EmitStatement", "RevertStatement"),
    "ModifierInvocation",
)
_CONDITIONAL = ("IfStatement", "WhileStatement", "DoWhileStatement", "ForStatement")
_WRITING = ("++", "--", "delete")
_READING = ("view", "pure")
_CALLED = re.compile(r"t_function_(internal|external|delegatecall|creation|bare\w*call\w*)_")
"""Type of a function that runs code of some contract, unlike that of an event, an error or what the language has."""

_Id: TypeAlias = int | str
"""Of a declaration. Those of inline assembly have none in the tree: the block's and the name."""


class _Function(NamedTuple):
    """A function or modifier, with those that override it.

    Attributes:
        pieces: Its statements and conditions.
        returns: Those that give its result.
        variables: Its results, and what it may write to that a caller has in memory.
    """

    pieces: list[Node]
    returns: list[Node]
    variables: set[_Id]


def money_pieces(definitions: Sequence[Node]) -> list[Node]:
    """Finds statements, conditions and variables that compute or move money.

    Args:
        definitions: Contracts, libraries and functions, which may use each other.
    """
    nodes = [each for kind in ("FunctionDefinition", "ModifierDefinition") for each in nodes_of(definitions, kind)]
    local = {node["id"] for function in nodes for node in nodes_of(function, "VariableDeclaration")}
    roots = _roots(nodes)
    functions = _functions(nodes, roots)
    members = [node for each in definitions for node in each.get("nodes", ())]
    state = [node for node in members if node["nodeType"] == "VariableDeclaration"]
    state += [base for each in definitions for base in each.get("baseContracts", ()) if base.get("arguments")]
    pieces = {piece["src"]: piece for piece in chain(state, *(each.pieces for each in functions.values()))}
    reading = {piece["src"] for node in nodes if node.get("stateMutability") in _READING for piece in _body(node)}
    known = {node["id"] for node in nodes}
    named = {src: _named(piece, roots) for src, piece in pieces.items()}

    money = {
        src
        for src, piece in pieces.items()
        if _moves_money(piece, local) or (src not in reading and _calls_elsewhere(piece, known))
    }
    while True:
        moving = {key for key, function in functions.items() if any(each["src"] in money for each in function.pieces)}
        if not (found := {src for src in pieces.keys() - money if named[src] & moving}):
            break
        money |= found

    found = money
    while found:
        names = {each for src in money for each in named[src]}
        used = [functions[key] for key in names & functions.keys()]
        returns = {each["src"] for function in used for each in function.returns}
        computed = names.union(*(function.variables for function in used))
        rest = pieces.keys() - money
        found = {src for src in rest if src in returns or _computes(pieces[src], computed, local)}
        money |= found
    return [pieces[src] for src in money]


def lines_with(pieces: Sequence[Node], source: bytes, definition: Node) -> set[int]:
    """Numbers of the lines of a definition that these pieces are on.

    Args:
        pieces: Nodes, also of other definitions and files.
        source: Source code of the definition's file.
        definition: A contract, a library, or a function.
    """
    lines: set[int] = set()
    within, file = span_of(definition), _file(definition)
    for piece in pieces:
        start, end = span_of(piece)
        if _file(piece) == file and within.start <= start and end <= within.end:
            first = source.count(b"\n", 0, start) + 1
            lines |= set(range(first, first + source.count(b"\n", start, end) + 1))
    return lines


def _file(node: Node) -> str:
    return str(node["src"]).rpartition(":")[2]


def _roots(nodes: Sequence[Node]) -> dict[int, int]:
    """One id for all functions, or modifiers, that override each other: a call names any of them."""
    roots: dict[int, int] = {}
    for node in nodes:
        bases: list[int] = node.get("baseFunctions") or node.get("baseModifiers") or []
        same = [int(node["id"]), *bases]
        known = {roots.get(each, each) for each in same}
        same += [each for each, root in roots.items() if root in known]
        roots |= dict.fromkeys(same, min(known))
    return roots


def _named(piece: Node, roots: dict[int, int]) -> set[_Id]:
    """Ids of what a statement names; of functions that override each other the one for all of them."""
    return {each if isinstance(each, str) else roots.get(each, each) for each in _references(piece)}


def _functions(nodes: Sequence[Node], roots: dict[int, int]) -> dict[_Id, _Function]:
    functions: dict[_Id, _Function] = {}
    for node in nodes:
        function = functions.setdefault(roots[node["id"]], _Function([], [], set()))
        pieces = list(_body(node))
        function.pieces.extend(pieces)
        function.returns.extend(piece for piece in pieces if piece["nodeType"] == "Return")
        parameters = (each for each in node["parameters"]["parameters"] if _is_memory(each))
        results = (node.get("returnParameters") or {"parameters": ()})["parameters"]
        function.variables.update(each["id"] for each in (*parameters, *results))
        for block in nodes_of(node.get("body"), "InlineAssembly"):
            for inner in nodes_of(block["AST"], "YulFunctionDefinition"):
                span = span_of(inner)
                own = [each for each in pieces if span.start <= span_of(each).start < span.end]
                variables: set[_Id] = {_yul_id(block, each) for each in inner.get("returnVariables", ())}
                functions[_yul_id(block, inner)] = _Function(own, [], variables)
    return functions


def _body(function: Node) -> Iterator[Node]:
    """Statements and conditions of a function, and its modifiers."""
    yield from _pieces(function.get("modifiers"))
    yield from _pieces(function.get("body"))


def _computes(piece: Node, variables: set[_Id], local: set[int]) -> bool:
    """Whether a statement computes one of these variables: locals of a function, or state where it is declared."""
    if piece["nodeType"] == "VariableDeclaration":
        return piece["id"] in variables and bool(piece.get("value"))
    return any(each in local or isinstance(each, str) for each in _assigned(piece) & variables)


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
    """Statements and conditions of inline assembly, each with ids of the declarations that it names."""
    declared = {each["src"]: each["declaration"] for each in block.get("externalReferences", ())}

    def walk(node: Any) -> Iterator[Node]:
        if isinstance(node, list):
            for child in node:
                yield from walk(child)
        elif isinstance(node, dict):
            kind = node.get("nodeType", "")
            if kind in ("YulExpressionStatement", "YulAssignment", "YulVariableDeclaration"):
                yield _with_declarations(node, block, declared)
                return
            for name, value in node.items():
                if name in ("condition", "expression"):
                    yield _with_declarations(value, block, declared)
                else:
                    yield from walk(value)

    yield from walk(node)


def _with_declarations(node: Any, block: Node, declared: dict[str, int]) -> Any:
    """The node, with the id of the declaration at each name, as elsewhere in the tree."""
    if isinstance(node, list):
        return [_with_declarations(child, block, declared) for child in node]
    if not isinstance(node, dict):
        return node
    copy = {name: _with_declarations(value, block, declared) for name, value in node.items()}
    if node.get("nodeType") in ("YulIdentifier", "YulTypedName"):
        copy["referencedDeclaration"] = declared.get(node["src"]) or _yul_id(block, node)
    return copy


def _yul_id(block: Node, named: Node) -> str:
    return f"{block['id']}:{named['name']}"


def _moves_money(piece: Node, local: set[int]) -> bool:
    if piece["nodeType"] == "InheritanceSpecifier":
        return True
    if piece["nodeType"] == "VariableDeclaration":
        return piece["mutability"] != "constant" and bool(piece.get("value"))
    return (
        any(_reads_or_sends(node) for node in nodes_of(piece, "MemberAccess"))
        or any("value" in node["names"] for node in nodes_of(piece, "FunctionCallOptions"))
        or any(node["name"] == "selfdestruct" for node in nodes_of(piece, "Identifier"))
        or any(
            node["functionName"]["name"] in (*_YUL_MONEY, *_YUL_AMOUNTS) for node in nodes_of(piece, "YulFunctionCall")
        )
        or any(_is_state(target, local) for target in _targets(piece))
    )


def _calls_elsewhere(piece: Node, known: set[int]) -> bool:
    """Whether it calls code of another contract, or a function or modifier whose code is not known."""
    if piece["nodeType"] == "ModifierInvocation" and piece["modifierName"]["referencedDeclaration"] not in known:
        return True
    for call in nodes_of(piece, "FunctionCall"):
        called = call["expression"]
        if called["nodeType"] == "FunctionCallOptions":
            called = called["expression"]
        kind = _CALLED.match(called["typeDescriptions"].get("typeIdentifier") or "")
        name = called.get("referencedDeclaration") or 0
        # the language's own functions have ids below 0
        if kind and (kind[1] != "internal" or (name >= 0 and name not in known)):
            return True
    return False


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


def _is_state(target: Node, local: set[int]) -> bool:
    """Whether what is written is state."""
    root = _root(target)
    if root["nodeType"] == "Identifier" and root.get("referencedDeclaration") not in local:
        return True
    # a local variable that begins to point to other state is not written to state
    return root is not target and any(" storage" in type_of(each) for each in _way(target))


def _root(target: Node) -> Node:
    """What a member or an element belongs to."""
    *_, root = _way(target)
    return root


def _way(target: Node) -> Iterator[Node]:
    """A node, and what it is a member or an element of, from the inside out."""
    yield target
    while target["nodeType"] in ("IndexAccess", "MemberAccess"):
        target = target["baseExpression"] if target["nodeType"] == "IndexAccess" else target["expression"]
        yield target


def _references(node: Any) -> Iterator[_Id]:
    """Ids of all declarations that are named, and of functions behind operators."""
    if isinstance(node, list):
        for child in node:
            yield from _references(child)
    elif isinstance(node, dict):
        for name in ("referencedDeclaration", "function"):
            if isinstance(node.get(name), int | str):
                yield node[name]
        for value in node.values():
            yield from _references(value)


def _assigned(piece: Node) -> set[_Id]:
    """Ids of the variables that a statement declares or assigns, or lets a function write to in memory."""
    nodes = [each for each in piece.get("declarations", ()) if each is not None]
    declared = {each["id"] for each in nodes}
    written = [_root(target) for target in _targets(piece)]
    written += [
        _root(argument)
        for call in nodes_of(piece, "FunctionCall")
        for argument in call["arguments"]
        if _is_memory(argument)
    ]
    written += [*piece.get("variableNames", ()), *piece.get("variables", ())]  # of inline assembly
    return declared | {each["referencedDeclaration"] for each in written if each.get("referencedDeclaration")}


def _is_memory(node: Node) -> bool:
    """Whether an expression or a variable refers to a struct, a list or bytes in memory."""
    return node.get("storageLocation") == "memory" or " memory" in type_of(node)
