"""Makes the mutants of Python files."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from stakesim.gate.mutant import Edit, Mutant, Span

from mutants.operators import OPERATORS
from mutants.place import FUNCTIONS, Function, Names, Place, PythonSource

_LOGS = re.compile(r"(log|_log|logger|_logger)\.\w+$")
_Made = tuple[Edit, Function | None, int, frozenset[str]]
"""An edit, its outermost function, the line of its statement, and what an import defines by it."""
_NOT_MUTATED = (ast.Import, ast.ImportFrom, ast.Assert, ast.Global, ast.Nonlocal, ast.JoinedStr, ast.Slice)


@dataclass(frozen=True)
class PythonMutant:
    """A file with one fault.

    Attributes:
        file: The file, below the folder of the packages.
        mutant: The fault.
        statement: Line of the innermost statement that the fault is in.
        names: What the module defines by the statement, if that runs when the module is imported; empty in a function.
        moves_money: Whether it is on a line that computes or moves money.
    """

    file: str
    mutant: Mutant
    statement: int
    names: frozenset[str]
    moves_money: bool

    @property
    def key(self) -> str:
        """Name of the mutant in lists and results."""
        return f"{self.file}: {self.mutant.key}"

    @property
    def module(self) -> str:
        """Name of the module."""
        return self.file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def mutants_of(root: Path, file: str, names: Names, money: Sequence[str]) -> Iterator[PythonMutant]:
    """The mutants of a file, in the order of its lines, without those whose code is that of another one.

    Args:
        root: Folder of the packages.
        file: The file below it.
        names: What code names states by.
        money: Files, and `file::function`, that compute or move money.
    """
    text = (root / file).read_text(encoding="utf-8")
    source = PythonSource(text)
    tree = ast.parse(text)
    seen = {text}
    for edit, function, statement, defined in sorted(_Walk(source, names).edits(tree), key=lambda made: made[0].span):
        span = source.span(function) if function else Span(0, len(source.raw))
        path = _path(tree, function) if function else "module"
        mutant = source.mutant(edit, path, span)
        code = mutant.apply(text)
        if code not in seen:
            seen.add(code)
            yield PythonMutant(file, mutant, statement, defined, _in_list(file, path, money))


def names_in(files: Sequence[Path], states: Sequence[str]) -> Names:
    """What code names states by.

    Args:
        files: Files that define enumerations and states.
        states: Names of the tuples of strings that are all states of something.
    """
    enumerations: dict[str, list[str]] = {}
    next_state: dict[str, str] = {}
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and any(getattr(base, "id", "").endswith("Enum") for base in node.bases):
                enumerations[node.name] = [
                    each.targets[0].id
                    for each in node.body
                    if isinstance(each, ast.Assign) and isinstance(each.targets[0], ast.Name)
                ]
            elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in states:
                group = ast.literal_eval(node.value)
                next_state |= dict(zip(group, [*group[1:], group[0]], strict=True))
    return Names(next_state, enumerations)


def _in_list(file: str, path: str, names: Sequence[str]) -> bool:
    return any(f"{file}::{path}".startswith(name) for name in names)


def _path(tree: ast.Module, function: Function) -> str:
    """The function's name, after that of its class."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and any(inner is function for inner in node.body):
            return f"{node.name}.{function.name}"
    return function.name


class _Walk:
    """Walks through a file's tree."""

    def __init__(self, source: PythonSource, names: Names) -> None:
        self._source, self._names = source, names

    def edits(self, tree: ast.Module) -> Iterator[_Made]:
        """All edits."""
        for statement in tree.body:
            yield from self._statement(statement, None, None, frozenset(_defined(statement)))

    def _statement(
        self, node: ast.stmt, outer: Function | None, inner: Function | None, defined: frozenset[str]
    ) -> Iterator[_Made]:
        if isinstance(node, _NOT_MUTATED) or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
            return
        if isinstance(node, FUNCTIONS):
            yield from self._function(node, outer or node, defined)
            return
        if not isinstance(node, ast.ClassDef):
            for edit in self._parts(node, node, inner):
                yield edit, outer, node.lineno, defined
        for block in [node, *getattr(node, "handlers", ()), *getattr(node, "cases", ())]:
            for name in ("body", "orelse", "finalbody"):
                for child in getattr(block, name, ()):
                    yield from self._statement(child, outer, inner, defined)

    def _function(self, node: Function, outer: Function, defined: frozenset[str]) -> Iterator[_Made]:
        """Edits of a function. Its defaults and decorators run when it is defined."""
        for part in [*node.decorator_list, *node.args.defaults, *filter(None, node.args.kw_defaults)]:
            if not isinstance(part, ast.Name):
                for edit in self._parts(part, node, None):
                    yield edit, outer, node.lineno, defined
        place = Place(self._source, self._names, node, node)
        first = node.body[1 if len(node.body) > 1 and ast.get_docstring(node) is not None else 0]
        for operator in OPERATORS:
            for edit in operator(node, place):
                yield edit, outer, first.lineno, frozenset()
        for child in node.body:
            yield from self._statement(child, outer, node, frozenset())

    def _parts(self, node: ast.AST, parent: ast.AST, function: Function | None) -> Iterator[Edit]:
        """Edits of a statement or expression, and of the expressions within it."""
        if isinstance(node, _NOT_MUTATED) or _is_log(node) or _is_type(node):
            return
        place = Place(self._source, self._names, function, parent)
        if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            for operator in OPERATORS:
                yield from operator(node, place)
        for name, value in ast.iter_fields(node):
            if name == "annotation" or (name == "body" and isinstance(value, list)):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.expr | ast.comprehension | ast.keyword | ast.withitem):
                    yield from self._parts(child, node, function)


def _defined(node: ast.stmt) -> Iterator[str]:
    """Names that a statement of a module gives to something."""
    for part in ast.walk(node) if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) else ():
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            yield part.id
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        yield node.name


def _is_log(node: ast.AST) -> bool:
    call = node.value if isinstance(node, ast.Expr) else node
    return isinstance(call, ast.Call) and bool(_LOGS.search(ast.unparse(call.func)))


def _is_type(node: ast.AST) -> bool:
    """Whether it only says something to the type checker."""
    named = node.value if isinstance(node, ast.Subscript) else node.func if isinstance(node, ast.Call) else None
    return isinstance(named, ast.Name) and named.id in ("Literal", "TypeVar")
