"""Puts a fault of a module's own statement into a process that has imported the module already.

The statement is executed again with the fault, and so are, in all modules, the assignments and imports whose value is
made of what it defines. Where a function's default, a decorator or the body of a class is made of it, that cannot be
done, as somebody may hold it.
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from graphlib import TopologicalSorter
from pathlib import Path
from types import CodeType, ModuleType
from typing import NamedTuple

from mutants.place import FUNCTIONS

_LATER = (*FUNCTIONS, ast.Lambda)


class Step(NamedTuple):
    """A statement that is executed again: its module, and the place of it in the module's body."""

    module: str
    place: int


class _Cannot(Exception):
    """A statement can't be executed again."""


class Modules:
    """The modules of the project and its tests that are imported, and what they are made of."""

    def __init__(self, modules: Mapping[str, ModuleType], package: str) -> None:
        """Takes the modules by name, and the package that has mutants."""
        self._modules, self._package = modules, package
        self._bodies = {name: _parsed(Path(str(module.__file__))).body for name, module in modules.items()}
        needs = {name: set(_imported(body, modules)) - {name} for name, body in self._bodies.items()}
        self._order = list(TopologicalSorter(needs).static_order())
        self._known: dict[tuple[str, int], list[Step] | None] = {}

    @classmethod
    def of_project(cls, package: str) -> Modules:
        """The modules that are imported now, but those of libraries."""
        files = {name: str(getattr(module, "__file__", None) or "") for name, module in sys.modules.items()}
        names = [
            name
            for name, file in files.items()
            if file.endswith(".py") and "site-packages" not in file and not file.startswith((sys.base_prefix, "<"))
        ]
        return cls({name: sys.modules[name] for name in names}, package)

    def steps(self, module: str, line: int) -> list[Step] | None:
        """What must be executed again for a fault; None if that is not all that it changes.

        Args:
            module: Name of the module.
            line: Line of the statement that the fault is in.
        """
        key = module, line
        if key not in self._known:
            try:
                self._known[key] = list(self._steps(module, line))
            except _Cannot:
                self._known[key] = None
        return self._known[key]

    def execute(self, steps: Iterable[Step], name: str, source: str) -> None:
        """Executes statements again.

        Args:
            steps: The statements.
            name: The module that has a fault.
            source: Its code with the fault.
        """
        bodies: dict[str, list[ast.stmt]] = self._bodies | {name: ast.parse(source).body}
        for step in steps:
            module = self._modules[step.module]
            exec(_compiled(bodies[step.module][step.place], str(module.__file__)), module.__dict__)

    def _steps(self, at: str, line: int) -> Iterator[Step]:
        values: dict[str, set[str]] = defaultdict(set)  # names of other values, by module
        results: dict[str, set[str]] = defaultdict(set)  # names of functions and classes that do something else
        for name in self._order:
            for index, node in enumerate(self._bodies[name]):
                is_faulty = name == at and node.lineno <= line <= (node.end_lineno or 0)
                match node:
                    case ast.ImportFrom(names=aliases):
                        source = _source(node, self._modules[name])
                        changed = {one.asname or one.name for one in aliases if one.name in values[source]}
                        results[name] |= {one.asname or one.name for one in aliases if one.name in results[source]}
                        if changed:
                            yield Step(name, index)
                            values[name] |= changed
                    case ast.Assign() | ast.AnnAssign():
                        if is_faulty or self._is_made_of(node, name, values, results):
                            yield Step(name, index)
                            values[name] |= set(_targets(node))
                    case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                        if is_faulty and not _is_later(node, line):
                            raise _Cannot
                        if self._is_made_of(node, name, values, results):
                            raise _Cannot
                        names = set(self._names(ast.walk(node), name, values)) | set(
                            self._names(ast.walk(node), name, results)
                        )
                        if is_faulty or names:
                            results[name].add(node.name)
                    case ast.If(test=ast.Compare(left=ast.Name(id="__name__"))):
                        pass  # not run by an import
                    case _:
                        if is_faulty or self._is_made_of(node, name, values, results):
                            raise _Cannot

    def _is_made_of(
        self, node: ast.stmt, name: str, values: Mapping[str, set[str]], results: Mapping[str, set[str]]
    ) -> bool:
        """Whether a statement of a module uses one of these values, or calls one of these, while it is executed.

        What tests call while they are imported, to make their parameters, is taken to be the same.
        """
        nodes = list(_at_once(node))
        if name.partition(".")[0] != self._package:
            return any(self._names(nodes, name, values))
        called = [part for one in nodes if isinstance(one, ast.Call) for part in ast.walk(one.func)]
        decorators = [
            part
            for one in getattr(node, "decorator_list", ())
            for part in ast.walk(one.func if isinstance(one, ast.Call) else one)
        ]
        return any(self._names(nodes, name, values)) or any(self._names([*called, *decorators], name, results))

    def _names(self, nodes: Iterable[ast.AST], name: str, changed: Mapping[str, set[str]]) -> Iterator[str]:
        namespace = self._modules[name].__dict__
        for node in nodes:
            match node:
                case ast.Name(id=used) if used in changed.get(name, ()):
                    yield used
                case ast.Attribute(value=ast.Name(id=base), attr=used) if isinstance(
                    module := namespace.get(base), ModuleType
                ):
                    if used in changed.get(module.__name__, ()):
                        yield used


def _parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def _compiled(node: ast.stmt, file: str) -> CodeType:
    return compile(ast.Module([node], []), file, "exec", dont_inherit=True)


def _imported(body: Sequence[ast.stmt], modules: Container[str]) -> Iterator[str]:
    """Those of the modules that a module's own statements import something of."""
    for node in body:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield from (one for one in [inner if inner in modules else node.module or ""] if one in modules)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)


def _source(node: ast.ImportFrom, module: ModuleType) -> str:
    if node.level:
        package = str(module.__package__).split(".")
        return ".".join([*package[: len(package) - node.level + 1], *filter(None, [node.module])])
    return node.module or ""


def _targets(node: ast.Assign | ast.AnnAssign) -> Iterator[str]:
    for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
        for part in target.elts if isinstance(target, ast.Tuple) else [target]:
            if not isinstance(part, ast.Name):
                raise _Cannot
            yield part.id


def _is_later(node: ast.stmt, line: int) -> bool:
    """Whether a line is in the body of a function, which runs when it is called."""
    return any(
        part.lineno <= line <= (part.end_lineno or 0)
        for function in ast.walk(node)
        if isinstance(function, FUNCTIONS)
        for part in function.body
    )


def _at_once(node: ast.AST) -> Iterator[ast.AST]:
    """The parts of a statement that run with it: all but the bodies of functions."""
    yield node
    for name, value in ast.iter_fields(node):
        if not (name == "body" and isinstance(node, _LATER)):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from _at_once(child)
