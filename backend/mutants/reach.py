"""Which test reaches which statement, and how long it takes."""

from __future__ import annotations

import ast
import json
import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from mutants import swap
from mutants.making import PythonMutant
from mutants.place import FUNCTIONS

_PROBE = "__mutants_probe__"


@dataclass
class Reach:
    """What tests reach.

    Attributes:
        seconds: For each test that passes, how long it takes with its fixtures.
        processor: The processor time of it, in seconds, which other programs on the machine do not change.
        tests: Tests by file and line of a statement in a function.
        failed: Tests that fail without any mutant.
        imported: Packages that are no part of the project.
        files: Hashes of the files of tests.
        code: Hashes of the files of code.
        helpers: Hashes of what tests import.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    processor: dict[str, float] = field(default_factory=dict)
    tests: dict[str, dict[int, list[str]]] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    imported: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    code: dict[str, str] = field(default_factory=dict)
    helpers: dict[str, str] = field(default_factory=dict)

    def forget_changed(self, files: Mapping[str, str], code: Mapping[str, str]) -> list[str]:
        """Forgets what may be wrong now, and returns the files of tests that must be observed.

        That is of tests whose files have changed or are gone, or of which one reached a function of a file of code that
        has changed.

        Args:
            files: Hashes of all files of tests.
            code: Hashes of all files of code.
        """
        changed = {name for name, value in self.code.items() if code.get(name) != value}
        reached = {test for name in changed for tests in self.tests.pop(name, {}).values() for test in tests}
        others = {test.partition("::")[0] for test in reached}
        self.code = dict(code)
        self.files = {
            name: value for name, value in self.files.items() if files.get(name) == value and name not in others
        }

        def is_known(test: str) -> bool:
            return test.partition("::")[0] in self.files

        self.seconds = {test: seconds for test, seconds in self.seconds.items() if is_known(test)}
        self.processor = {test: self.processor[test] for test in self.seconds}
        self.failed = [*filter(is_known, self.failed)]
        self.tests = {
            file: {line: [*filter(is_known, tests)] for line, tests in lines.items()}
            for file, lines in self.tests.items()
        }
        return [name for name in files if name not in self.files]

    def write(self, file: Path) -> None:
        """Writes what tests reach into a file."""
        ids = {test: number for number, test in enumerate(self.seconds)}
        tests = {
            name: {line: [ids[test] for test in reached] for line, reached in lines.items()}
            for name, lines in self.tests.items()
        }
        file.parent.mkdir(parents=True, exist_ok=True)
        new = file.with_suffix(".new")
        new.write_text(json.dumps(vars(self) | {"tests": tests}))
        new.replace(file)

    @classmethod
    def read(cls, file: Path, helpers: Mapping[str, str]) -> Reach:
        """Reads it; empty if what tests import has changed, or if it was written by another version of this package.

        Args:
            file: The file.
            helpers: Hashes of what tests import. That there is more of it than before changes nothing.
        """
        stored = json.loads(file.read_text()) if file.exists() else {}
        new = [name for name in helpers if name not in stored.get("helpers", ())]
        is_same = all(helpers.get(name) == value for name, value in stored.get("helpers", {}).items())
        if stored.keys() != vars(cls()).keys() or not is_same or any(name.endswith("conftest.py") for name in new):
            return cls(helpers=dict(helpers))
        ids = list(stored["seconds"])
        tests = {
            name: {int(line): [ids[number] for number in reached] for line, reached in lines.items()}
            for name, lines in stored["tests"].items()
        }
        return cls(**stored | {"tests": tests, "helpers": dict(helpers)})

    def of(self, mutant: PythonMutant, uses: dict[str, set[tuple[str, int]]]) -> list[str]:
        """Tests that reach a mutant.

        Args:
            mutant: The mutant.
            uses: Statements by the names that they use; see `uses_in`.
        """
        places = {(mutant.file, mutant.statement)}
        if mutant.names:
            places = set[tuple[str, int]]().union(*(uses.get(name, set()) for name in mutant.names))
        return sorted({test for file, line in places for test in self.tests.get(file, {}).get(line, ())})

    def turns(self, tests: list[str]) -> dict[str, int]:
        """For each test, the number of tests of its file that are not slower, with itself."""
        turn: Counter[str] = Counter()
        turns = {}
        for test in sorted(tests, key=lambda test: self.seconds[test]):
            file = test.partition("::")[0]
            turn[file] += 1
            turns[test] = turn[file]
        return turns

    def within(self, tests: list[str], seconds: float) -> list[str]:
        """Those of these tests that take so much processor time together, at least one.

        What does not fit in is left out.
        """
        chosen: list[str] = []
        for test in tests:
            if not chosen or seconds >= self.processor[test]:
                chosen.append(test)
                seconds -= self.processor[test]
        return chosen

    def with_names(self, mutant: PythonMutant, uses: dict[str, set[tuple[str, int]]]) -> PythonMutant:
        """The mutant as one that runs at import, if no test reaches it, but what is made by its function at import."""
        name = mutant.mutant.function.partition(".")[0]
        if (
            not mutant.names
            and not self.of(mutant, uses)
            and self.of(named := replace(mutant, names=frozenset({name})), uses)
        ):
            return named
        return mutant


class Observer:
    """A pytest plugin that runs all tests with a probe before each statement of the functions of some packages."""

    def __init__(
        self, root: Path, code: list[str], tests: Mapping[str, str], reach: Reach, kept: Callable[[], None]
    ) -> None:
        """Takes the code, hashes of all files of tests, what is known already, and what keeps it after each file."""
        self._root, self._code, self._tests, self._reach, self._kept = root, code, tests, reach, kept
        self._ran: set[tuple[str, int]] = set()

    @pytest.hookimpl
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Runs the tests."""
        require_collected(session)
        changes: swap.Changes = {}
        for file in self._code:
            module = sys.modules.get(file.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
            if module is not None:
                module.__dict__[_PROBE] = self._ran.add
                changes |= dict(swap.changes(*_with_probes(self._root, file)))
        swap.swap(swap.functions_of(self._root), changes)
        self._caches = swap.caches_of(*{file.partition("/")[0] for file in self._code})
        for item, following in zip(session.items, [*session.items[1:], None], strict=True):
            self._observe(item, following)
            file = item.nodeid.partition("::")[0]
            if following is None or following.nodeid.partition("::")[0] != file:
                self._reach.files[file] = self._tests[file]
                site_packages = {name for name, module in sys.modules.items() if "site-packages" in _file(module)}
                self._reach.imported = sorted({name.partition(".")[0] for name in site_packages})
                self._kept()
        return True

    def _observe(self, item: pytest.Item, following: pytest.Item | None) -> None:
        for cache in self._caches:  # each test reaches what is computed once
            cache.cache_clear()
        self._ran.clear()
        begin, used = time.perf_counter(), _processor_time()
        reports = run(item, following)
        if any(report.failed for report in reports):
            self._reach.failed.append(item.nodeid)
        elif not any(report.skipped for report in reports):
            self._reach.seconds[item.nodeid] = time.perf_counter() - begin
            self._reach.processor[item.nodeid] = _processor_time() - used
            for file, line in set(self._ran):
                self._reach.tests.setdefault(file, {}).setdefault(line, []).append(item.nodeid)


def _processor_time() -> float:
    """Seconds of processor time of this process and of those that it has waited for."""
    return sum(os.times()[:4])


def require_collected(session: pytest.Session) -> None:
    """Ends the session if there are tests that can't be imported."""
    if session.testsfailed:
        raise session.Interrupted(f"{session.testsfailed} errors during collection")


def run(item: pytest.Item, following: Any) -> list[pytest.TestReport]:
    """Runs one test, with the fixtures that the following one does not share.

    Args:
        item: The test.
        following: The next one; the session to keep the fixtures of the session; None after the last one.
    """
    from _pytest.runner import runtestprotocol

    return runtestprotocol(item, log=False, nextitem=following)


def uses_in(root: Path, files: list[str]) -> dict[str, set[tuple[str, int]]]:
    """Statements in functions, by the names that they use, or that what they use is made of.

    Args:
        root: Folder of the packages.
        files: All files of the packages.
    """
    uses: dict[str, set[tuple[str, int]]] = defaultdict(set)
    made_of: dict[str, set[str]] = defaultdict(set)
    for file in files:
        for node in ast.parse((root / file).read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                for name, line in _used(node):
                    uses[name].add((file, line))
                inner = [part for part in ast.walk(node) if isinstance(part, FUNCTIONS)]
                uses[node.name] |= {(file, part.lineno) for each in inner for part in each.body}
            else:
                parts = list(ast.walk(node))
                for target in {str(_name(part)) for part in parts if _is_stored(part)}:
                    for name in {used for part in parts if (used := _name(part)) not in (None, target)}:
                        made_of[str(name)].add(target)
    for name in list(made_of):
        for target in _all_made_of(name, made_of):
            uses[name] = uses[name] | uses[target]
    return dict(uses)


def _all_made_of(name: str, made_of: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    todo = [name]
    while todo:
        new = made_of.get(todo.pop(), set()) - found
        found |= new
        todo.extend(new)
    return found


def _used(node: ast.AST, line: int = 0) -> Iterator[tuple[str, int]]:
    for child in ast.iter_child_nodes(node):
        here = child.lineno if isinstance(child, ast.stmt) else line
        if (name := _name(child)) is not None:
            yield name, here
        yield from _used(child, here)


def _name(node: ast.AST) -> str | None:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else None


def _is_stored(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)


def _file(module: object) -> str:
    return str(getattr(module, "__file__", None) or "")


def _with_probes(root: Path, file: str) -> tuple[CodeType, CodeType]:
    path = root / file
    tree = ast.parse(path.read_text(encoding="utf-8"))
    plain = compile(tree, str(path), "exec", dont_inherit=True)
    for function in [node for node in ast.walk(tree) if isinstance(node, FUNCTIONS)]:
        for block in list(_blocks(function)):
            block[:] = [each for statement in block for each in (_probe(file, statement), statement)]
    return plain, compile(ast.fix_missing_locations(tree), str(path), "exec", dont_inherit=True)


def _blocks(node: ast.AST) -> Iterator[list[ast.stmt]]:
    """The blocks of a function or statement, but not those of functions in it."""
    for name in ("body", "orelse", "finalbody"):
        block = getattr(node, name, None)
        if isinstance(block, list) and block and isinstance(block[0], ast.stmt):
            yield block
            for child in block:
                if not isinstance(child, FUNCTIONS):
                    yield from _blocks(child)
    for handler in [*getattr(node, "handlers", ()), *getattr(node, "cases", ())]:
        yield from _blocks(handler)


def _probe(file: str, place: ast.stmt) -> ast.Expr:
    pair = ast.Tuple([ast.Constant(file), ast.Constant(place.lineno)], ast.Load())
    call = ast.Call(ast.Name(_PROBE, ast.Load()), [pair], [])
    return ast.copy_location(ast.Expr(call), place)
