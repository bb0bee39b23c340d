"""Which branches of a backend's own code run: probes in the functions of its packages, put there for a while.

A probe is put at the start of each function, and into each branch of `if`, `for`, `while`, `try`, `match`, `and`, `or`
and conditional expressions. The functions keep everything but their code object, so whoever holds one runs the probes,
in any thread. The same way works in all versions of Python. It costs less than `sys.settrace`, which is called for
each function of every library too, and which can't be set for threads that run already.
"""

from __future__ import annotations

import ast
import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import count
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import TypeVar

_PROBE = "__stakesim_branch__"
"""Name of the probe among the globals of a module."""
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

Node = TypeVar("Node", bound=ast.stmt)


class Branches:
    """The branches that ran since the last call of `take`.

    Attributes:
        total: Number of branches that have a probe.
    """

    def __init__(self) -> None:
        """Starts without any probe; see `observed`."""
        self.total = 0
        self._ran: set[int] = set()

    def take(self) -> frozenset[int]:
        """Returns the branches that ran since the last call."""
        ran = frozenset(self._ran)
        self._ran.clear()
        return ran

    @contextmanager
    def observed(self, packages: Sequence[str]) -> Iterator[Branches]:
        """Within this context, the functions of these packages' modules have probes.

        Functions whose code is not that of the module's file stay as they are, as do modules that are imported later.

        Args:
            packages: Names of packages.
        """
        replaced: list[tuple[FunctionType, CodeType]] = []
        modules = _modules(packages)
        for module in modules:
            module.__dict__[_PROBE] = self._ran.add
        probed, self.total = _probed_codes(tuple(str(module.__file__) for module in modules))
        gc.unfreeze()  # what was frozen is not among the objects
        for function in [one for one in gc.get_objects() if isinstance(one, FunctionType)]:
            code = function.__code__
            if new := probed.get((code.co_filename, code)):
                replaced.append((function, code))
                function.__code__ = new
        try:
            yield self
        finally:
            for function, code in replaced:
                function.__code__ = code


def _modules(packages: Sequence[str]) -> list[ModuleType]:
    """The imported modules of these packages that have a source file."""
    return [
        module
        for name, module in sorted(sys.modules.items())
        if name.partition(".")[0] in packages and (getattr(module, "__file__", None) or "").endswith(".py")
    ]


@cache
def _probed_codes(files: tuple[str, ...]) -> tuple[dict[tuple[str, CodeType], CodeType], int]:
    """Compiles modules again, with probes.

    Returns:
        The new code objects by file and old code object, and the number of probes.
    """
    numbers, codes = count(), dict[tuple[str, CodeType], CodeType]()
    for file in files:
        tree = ast.parse(Path(file).read_text(encoding="utf-8"), file)
        plain = compile(tree, file, "exec", dont_inherit=True)
        with_probes = compile(ast.fix_missing_locations(_Prober(numbers).visit(tree)), file, "exec", dont_inherit=True)
        codes |= {(file, old): new for old, new in _pairs(plain, with_probes)}
    return codes, next(numbers)


def _pairs(old: CodeType, new: CodeType) -> Iterator[tuple[CodeType, CodeType]]:
    """The code objects within two that differ in probes only."""
    for inner_old, inner_new in zip(_within(old), _within(new), strict=True):
        if inner_old.co_freevars == inner_new.co_freevars:
            yield inner_old, inner_new
        yield from _pairs(inner_old, inner_new)


def _within(code: CodeType) -> list[CodeType]:
    return [constant for constant in code.co_consts if isinstance(constant, CodeType)]


class _Prober(ast.NodeTransformer):
    """Puts probes into the functions of a module. Code outside of functions has run already."""

    def __init__(self, numbers: Iterator[int]) -> None:
        self._numbers, self._depth = numbers, 0

    def _function(self, node: Node) -> Node:
        self._depth += 1
        self.generic_visit(node)
        self._depth -= 1
        has_docstring = isinstance(node.body[0], ast.Expr) and isinstance(node.body[0].value, ast.Constant)  # type: ignore[attr-defined]
        node.body.insert(1 if has_docstring else 0, self._statement(node))  # type: ignore[attr-defined]
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = _function  # noqa: N815 - names that ast.NodeVisitor calls

    def _blocks(self, node: Node) -> Node:
        """A probe in each block of a statement, also in an `else` that is missing."""
        self.generic_visit(node)
        if self._depth:
            for name in ("body", "orelse"):
                if name == "body" or not isinstance(node, ast.Try):
                    block = getattr(node, name)
                    block.insert(0, self._statement(block[0] if block else node))
            for handler in getattr(node, "handlers", ()):
                handler.body.insert(0, self._statement(handler.body[0]))
        return node

    visit_If = visit_For = visit_AsyncFor = visit_While = visit_Try = _blocks  # noqa: N815

    def visit_match_case(self, node: ast.match_case) -> ast.match_case:
        self.generic_visit(node)
        if self._depth:
            node.body.insert(0, self._statement(node.body[0]))
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.BoolOp:
        self.generic_visit(node)
        if self._depth:
            node.values[1:] = [self._expression(value) for value in node.values[1:]]
        return node

    def visit_IfExp(self, node: ast.IfExp) -> ast.IfExp:
        self.generic_visit(node)
        if self._depth:
            node.body, node.orelse = self._expression(node.body), self._expression(node.orelse)
        return node

    def _statement(self, place: ast.stmt) -> ast.Expr:
        return ast.copy_location(ast.Expr(self._probe(place)), place)

    def _expression(self, value: ast.expr) -> ast.expr:
        """`probe() or value`, as a probe returns None."""
        return ast.copy_location(ast.BoolOp(ast.Or(), [self._probe(value), value]), value)

    def _probe(self, place: ast.stmt | ast.expr) -> ast.Call:
        name, number = ast.Name(_PROBE, ast.Load()), ast.Constant(next(self._numbers))
        return ast.copy_location(ast.Call(name, [number], []), place)
