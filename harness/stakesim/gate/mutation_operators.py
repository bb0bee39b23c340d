"""Mutation operators: small faults that are inserted into a contract, found in the compiler's syntax tree.

`classic_operators.py` has those of any language (R. A. DeMillo et al., Hints on Test Data Selection, 1978), and money
that goes elsewhere; `type_operators.py` those of types, names and data locations; `flow_operators.py` those of
statements and their order; `assembly_operators.py` those of inline assembly.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from stakesim.gate.assembly_operators import ASSEMBLY_OPERATORS
from stakesim.gate.classic_operators import CLASSIC_OPERATORS
from stakesim.gate.flow_operators import FLOW_OPERATORS
from stakesim.gate.money import lines_with, money_pieces
from stakesim.gate.mutant import Mutant, Node, Source
from stakesim.gate.place import Contract, Operator, Place
from stakesim.gate.plain_build import PlainBuild
from stakesim.gate.type_operators import TYPE_OPERATORS

_SETS: Sequence[Mapping[str, Sequence[Operator]]] = (
    CLASSIC_OPERATORS,
    TYPE_OPERATORS,
    FLOW_OPERATORS,
    ASSEMBLY_OPERATORS,
)
_NO_CODE = ("EventDefinition", "ErrorDefinition")
_FREE = "free"
"""Stands for the contract's name where functions are in none."""
_NO_CODE_FIELDS = ("typeDescriptions", "typeName", "documentation", "overrides", "AST")


def generate_mutants(source: str, tree: Node, contract: str) -> list[Mutant]:
    """All mutants of a contract, in the order of its source.

    Some may compile to the same code as others or as the contract; only compiling tells.

    Args:
        source: Source code of the contract's file.
        tree: Syntax tree of the file.
        contract: Name of the contract.
    """
    (definition,) = (n for n in tree["nodes"] if n["nodeType"] == "ContractDefinition" and n["name"] == contract)
    return _mutants(source, definition, frozenset(), money_pieces([definition]))


def all_mutants(plain: PlainBuild) -> list[Mutant]:
    """All mutants of a contract and of what else of the project its code comes from.

    Those of the contract come first, then those of bases, libraries and free functions, in the order of their source.
    Functions of these that the contract's code does not have are left out.
    """
    mutants = []
    money = money_pieces([_as_contract(unit.definition) for unit in plain.units])
    for unit in plain.units:
        made = _mutants(unit.file.source, unit.definition, unit.unused, money)
        if unit.definition is not plain.definition:
            file = "" if unit.file.name == plain.file else unit.file.name
            is_function = unit.definition["nodeType"] == "FunctionDefinition"
            name = _FREE if is_function else unit.definition["name"]
            made = [replace(mutant, file=file, unit=name) for mutant in made]
        mutants += made
    return mutants


def _as_contract(definition: Node) -> Node:
    """A contract or library; a free function as the only one of a contract."""
    if definition["nodeType"] == "FunctionDefinition":
        return {"nodeType": "SourceUnit", "name": _FREE, "src": definition["src"], "nodes": [definition]}
    return definition


def _mutants(source: str, definition: Node, unused: frozenset[int], pieces: Sequence[Node]) -> list[Mutant]:
    """All mutants of a contract, library or free function, without those of unused functions."""
    definition = _as_contract(definition)
    text = Source(source)
    money = lines_with(pieces, text.raw, definition)
    mutants: dict[tuple[int, int, str], Mutant] = {}
    for node, place in _nodes(definition, Place(Contract(text, definition)), unused):
        for operators in _SETS:
            for operator in operators.get(node["nodeType"], ()):
                for edit in operator(node, place):
                    mutant = text.mutant(edit, place.name, place.span)
                    if mutant.old != mutant.new:
                        on_money = any(line in money for line in mutant.lines)
                        mutants.setdefault(
                            (mutant.start, mutant.end, mutant.new), replace(mutant, moves_money=on_money)
                        )
    return sorted(mutants.values(), key=lambda mutant: (mutant.start, mutant.end, mutant.new))


def _nodes(node: Any, place: Place, unused: frozenset[int]) -> Iterator[tuple[Node, Place]]:
    """All nodes with code but for unused functions and modifiers, each with the place that it is in."""
    if isinstance(node, list):
        for child in node:
            yield from _nodes(child, place, unused)
    elif isinstance(node, dict):
        kind = node.get("nodeType")
        if kind in _NO_CODE or node.get("id") in unused:
            return
        if kind == "FunctionDefinition":
            place = Place(place.contract, node)
        if kind is not None:
            yield node, place
        for name, value in node.items():
            if name not in _NO_CODE_FIELDS:
                yield from _nodes(value, place, unused)
