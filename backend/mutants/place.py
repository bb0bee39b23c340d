"""Where a node of a Python syntax tree is in its file."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from stakesim.gate.mutant import Edit, Source, Span

Function = ast.FunctionDef | ast.AsyncFunctionDef
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class PythonSource(Source):
    """Source code of a Python file."""

    def __init__(self, text: str) -> None:
        """Takes the file's text."""
        super().__init__(text)
        self._starts = [0, *accumulate(len(line) for line in self.raw.splitlines(keepends=True))]

    def span(self, node: ast.expr | ast.stmt) -> Span:
        """Where a node is, in bytes."""
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return Span(
            self._starts[node.lineno - 1] + node.col_offset, self._starts[node.end_lineno - 1] + node.end_col_offset
        )

    def text_of(self, node: ast.expr | ast.stmt) -> str:
        """Code of a node."""
        return self.between(*self.span(node))


@dataclass(frozen=True)
class Names:
    """What code names states by.

    Attributes:
        next_state: For each string that is a state, another state of the same thing.
        enumerations: Members of each enumeration, in order.
    """

    next_state: Mapping[str, str]
    enumerations: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Place:
    """Where a node is.

    Attributes:
        source: The file.
        names: What code names states by.
        function: The function that it is in; None outside of functions.
        parent: The node that it is a part of.
    """

    source: PythonSource
    names: Names
    function: Function | None
    parent: ast.AST

    def code(self, node: ast.expr | ast.stmt) -> str:
        """Code of a node."""
        return self.source.text_of(node)

    def edit(self, operator: str, node: ast.expr | ast.stmt, new: str) -> Edit:
        """Puts other code in the place of a node."""
        return Edit(operator, self.source.span(node), new)

    def edit_between(self, operator: str, left: ast.expr, right: ast.expr, old: str, new: str) -> Edit:
        """Puts another operator between two operands."""
        start, end = self.source.span(left).end, self.source.span(right).start
        match = re.search(re.escape(old).replace(r"\ ", r"\s+"), self.source.between(start, end))
        assert match is not None, f"no {old} before {self.code(right)}"
        return Edit(operator, Span(start + match.start(), start + match.end()), new)
