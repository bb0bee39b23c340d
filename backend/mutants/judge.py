"""Runs the tests that reach a mutant, in a process that is forked for it.

A mutant in a function is put into the functions of a process that has imported everything and opened what the tests of
a session share. One that runs when its module is imported, such as a query, is executed again in such a process, with
all that is made of it. Where that can't be done, it gets a process that has not imported the project yet.

A test that fails with a mutant kills it only if it passes in such a process without any mutant.
"""

from __future__ import annotations

import gc
import importlib
import importlib.machinery
import importlib.util
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

import hypothesis
import pytest
from sqlalchemy import Engine
from stakesim.gate.mutation_result import MutantStatus

from mutants import swap
from mutants.making import PythonMutant
from mutants.order import Order
from mutants.reach import Reach, require_collected, run
from mutants.rebind import Modules, Step

TIMES_AS_LONG = 20
"""A test may take so many times as long as without a mutant."""
GRACE_S = 20.0
"""Time in which a forked process begins, and in which a test that is over its limit must have ended."""
COLD_START_S = 90.0
"""Time in which the project must be imported and the first test begin."""

UNREACHED = "no test reaches it"
"""Why a mutant survives that no test could have killed."""

Outcome = dict[str, Any]


class _OverTime(BaseException):
    """A test is over its time limit."""


def forked(first_limit: float, job: Callable[..., None], *arguments: Any) -> Outcome:
    """Does a job in a fork of this process.

    Its last argument is a function by which the job tells what it does: `{"limit": seconds}` is the time until it tells
    something again. The last thing that it tells is the outcome. If it does not tell anything in time, it is killed,
    and the outcome has `over_time`.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.close(reading)
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), 1)
            os.dup2(nothing.fileno(), 2)
        try:
            job(*arguments, lambda told: os.write(writing, json.dumps(told).encode() + b"\n"))
        finally:
            os._exit(0)
    os.close(writing)
    last: Outcome = {}
    rest, limit = b"", first_limit
    while True:
        ready, _, _ = select.select([reading], [], [], limit)
        if not ready:
            last = last | {"over_time": True}
            break
        data = os.read(reading, 65_536)
        if not data:
            break
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            last = json.loads(line)
            limit = last.get("limit", limit)
    os.close(reading)
    with _ignored(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return last


@contextmanager
def _ignored(*errors: type[Exception]) -> Iterator[None]:
    try:
        yield
    except errors:
        return


def _judged(
    tests: list[str], is_trusted: Callable[[str], bool], first_limit: float, job: Callable[..., None], *arguments: Any
) -> Outcome:
    """Forks until nothing fails, or a test that is trusted does."""
    while True:
        outcome = forked(first_limit, job, *arguments, tests)
        test = outcome.get("failed") or (outcome.get("test") if outcome.get("over_time") else None)
        if test is None:
            return outcome if "status" in outcome else {"status": MutantStatus.INVALID, "reason": "it does not start"}
        if is_trusted(test):
            return {"status": MutantStatus.KILLED, "test": test, "over_time": bool(outcome.get("over_time"))}
        tests = [other for other in tests if other != test]


class _Changes(NamedTuple):
    """What makes a mutant of what a process has imported: code of functions, and statements to execute again."""

    code: swap.Changes
    again: tuple[Step, ...]
    module: str
    source: str


class Warm:
    """A pytest plugin that judges mutants in a process that has imported all, in place of running the tests.

    Args:
        root: Folder of the packages.
        package: The package that has the mutants.
        order: Which tests a mutant gets.
        mutants: The mutants, with the tests that reach them.
        told: Called with each mutant and its outcome; None if it must be judged by `Cold`.
        least_limit: Time limit of a test that takes no time without a mutant, in seconds.
        unshared: Fixtures of a session that each mutant needs for itself.
    """

    def __init__(
        self,
        root: Path,
        package: str,
        order: Order,
        mutants: Sequence[tuple[PythonMutant, list[str]]],
        told: Callable[[PythonMutant, Outcome | None], None],
        least_limit: float,
        unshared: Sequence[str] = (),
    ) -> None:
        self._least_limit, self._unshared = least_limit, unshared
        self._root, self._package, self._order, self._mutants, self._told = root, package, order, mutants, told
        self._trusted: dict[tuple[str, tuple[Step, ...]], bool] = {}

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self) -> None:
        """Lets tests end with the first failure."""
        _stop_at_first_failure()

    @pytest.hookimpl
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Judges the mutants."""
        require_collected(session)
        self._session = session
        self._items = {item.nodeid: item for item in session.items}
        self._warm_up()
        for mutant, tests in self._mutants:
            begin = time.perf_counter()
            outcome = self._judge(mutant, tests)
            self._told(mutant, outcome and outcome | {"seconds": round(time.perf_counter() - begin, 2)})
        return True

    def _warm_up(self) -> None:
        """Opens what the tests of a session share: runs the fastest test of each set of such fixtures."""
        fastest: dict[frozenset[str], pytest.Item] = {}
        for item in sorted(self._items.values(), key=lambda item: self._order.reach.seconds.get(item.nodeid, 1e9)):
            definitions = getattr(item, "_fixtureinfo", None)
            shared = {
                name
                for name, found in (definitions.name2fixturedefs if definitions else {}).items()
                if found[-1].scope == "session"
            }
            fastest.setdefault(frozenset(shared), item)
        for item in fastest.values():
            run(item, self._session)
            self._close_unshared(item)
        self._functions, self._caches = swap.functions_of(self._root), swap.caches_of(self._package)
        self._modules = Modules.of_project(self._package)
        self._engines = [one for one in gc.get_objects() if isinstance(one, Engine)]
        gc.collect()
        gc.freeze()  # a fork that looks at objects copies them

    def _close_unshared(self, item: Any) -> None:
        """Closes what a fork can't share with another one; each opens its own, which ends with it."""
        for name in set(self._unshared) & set(getattr(item, "fixturenames", ())):
            item._initrequest()
            for found in item._fixtureinfo.name2fixturedefs[name]:
                found.finish(item._request)

    def _judge(self, mutant: PythonMutant, tests: list[str]) -> Outcome | None:
        path = str(self._root / mutant.file)
        source = Path(path).read_text(encoding="utf-8")
        changed = mutant.mutant.apply(source)
        try:
            new = compile(changed, path, "exec", dont_inherit=True)
        except (SyntaxError, ValueError) as error:
            return {"status": MutantStatus.INVALID, "reason": str(error)}
        steps: list[Step] = []
        if mutant.names:
            found = self._modules.steps(mutant.module, mutant.statement)
            if not found:
                return None
            steps = found
        again = tuple(steps)
        code = swap.changes(compile(source, path, "exec", dont_inherit=True), new)
        changes = _Changes(dict(code), again, mutant.module, changed)
        tests = [test for test in tests if test in self._items and self._trusted.get((test, again), True)]

        def is_trusted(test: str) -> bool:
            if (test, again) not in self._trusted:
                outcome = forked(GRACE_S, self._run, _Changes({}, again, mutant.module, source), [test])
                self._trusted[test, again] = outcome.get("status") == MutantStatus.SURVIVED
                if not self._trusted[test, again] and not again:
                    print(f"fails in a fork without any mutant, so it judges none: {test}", file=sys.stderr)  # noqa: T201
            return self._trusted[test, again]

        tests = self._order.of(mutant, tests)
        outcome = _judged(tests, is_trusted, GRACE_S, self._run, changes)
        if again and any(not trusted for (_, steps_of), trusted in self._trusted.items() if steps_of == again):
            return None  # it can't be put in there
        self._order.note(mutant, tests, outcome)
        return outcome

    def _run(self, changes: _Changes, tests: list[str], tell: Callable[[Outcome], None]) -> None:
        for engine in self._engines:
            engine.dispose(close=False)  # its connections are the other process's
        for cache in self._caches:
            cache.cache_clear()
        try:
            swapped = swap.swap(self._functions, changes.code)
        except ValueError as error:
            return tell({"status": MutantStatus.INVALID, "reason": str(error)})
        if changes.code and not swapped and not changes.again:
            return tell({"status": MutantStatus.INVALID, "reason": "no function has the code of the file"})
        try:
            self._modules.execute(changes.again, changes.module, changes.source)
        except Exception as error:  # noqa: BLE001 - whatever it is, it can't be imported
            return tell({"status": MutantStatus.INVALID, "reason": f"{type(error).__name__}: {error}"})
        if not tests:
            return tell({"status": MutantStatus.SURVIVED, "reason": UNREACHED})
        for test in tests:
            limit = self._least_limit + TIMES_AS_LONG * self._order.reach.seconds[test]
            tell({"test": test, "limit": limit + GRACE_S})
            if _fails(self._items[test], self._session, limit):
                return tell({"failed": test})
        return tell({"status": MutantStatus.SURVIVED})


def _stop_at_first_failure() -> None:
    """Has Hypothesis look for no simpler example of a failure, and keep none."""
    settings, phases = hypothesis.settings, (hypothesis.Phase.explicit, hypothesis.Phase.generate)
    settings.register_profile("mutants", settings(), phases=phases, report_multiple_bugs=False, database=None)
    settings.load_profile("mutants")


def _fails(item: pytest.Item, following: Any, limit: float) -> bool:
    def over(_number: int, _frame: FrameType | None) -> None:
        raise _OverTime

    signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        return any(report.failed for report in run(item, following))
    except _OverTime:
        return True
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


class _Mutated(importlib.machinery.SourceFileLoader):
    """Loads a module with a fault."""

    def __init__(self, name: str, path: str, source: str) -> None:
        super().__init__(name, path)
        self._source = source

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._source, self.path, "exec", dont_inherit=True)


class _Finder:
    """Finds one module with a fault in place of the one on disk."""

    def __init__(self, module: str, path: Path, source: str) -> None:
        self._module, self._path, self._source = module, path, source

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name != self._module:
            return None
        loader = _Mutated(name, str(self._path), self._source)
        is_package = self._path.name == "__init__.py"
        places = [str(self._path.parent)] if is_package else None
        return importlib.util.spec_from_file_location(
            name, self._path, loader=loader, submodule_search_locations=places
        )


class _ColdTests:
    """A pytest plugin that runs some tests in an order, until one fails."""

    def __init__(self, reach: Reach, tests: list[str], tell: Callable[[Outcome], None], least_limit: float) -> None:
        self._reach, self._tests, self._tell, self._least_limit = reach, tests, tell, least_limit
        self.ran = False

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self) -> None:
        """Lets tests end with the first failure."""
        _stop_at_first_failure()

    @pytest.hookimpl
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Runs the tests."""
        require_collected(session)
        self.ran = True
        items = {item.nodeid: item for item in session.items}
        for test in [test for test in self._tests if test in items]:
            limit = self._least_limit + TIMES_AS_LONG * self._reach.seconds[test]
            self._tell({"test": test, "limit": limit + GRACE_S})
            if _fails(items[test], session, limit):
                self._tell({"failed": test, "limit": GRACE_S})
                return True
        self._tell({"status": MutantStatus.SURVIVED, "limit": GRACE_S})
        return True


class Cold:
    """Judges mutants that run when their module is imported. This process must not have imported the project.

    Args:
        root: Folder of the packages.
        options: Options of pytest.
        order: Which tests a mutant gets.
        least_limit: Time limit of a test that takes no time without a mutant, in seconds.
    """

    def __init__(self, root: Path, options: list[str], order: Order, least_limit: float) -> None:
        self._root, self._options, self._order, self._least_limit = root, options, order, least_limit
        self._trusted: dict[str, bool] = {}

    def judge(self, mutant: PythonMutant, tests: list[str]) -> Outcome:
        """Judges a mutant.

        Args:
            mutant: The mutant.
            tests: Tests that reach it.
        """
        begin = time.perf_counter()
        plain = (self._root / mutant.file).read_text(encoding="utf-8")

        def is_trusted(test: str) -> bool:
            if test not in self._trusted:
                outcome = forked(COLD_START_S, self._run, mutant, plain, [test])
                self._trusted[test] = outcome.get("status") == MutantStatus.SURVIVED
            return self._trusted[test]

        tests = self._order.of(mutant, [test for test in tests if self._trusted.get(test, True)])
        outcome = _judged(tests, is_trusted, COLD_START_S, self._run, mutant, mutant.mutant.apply(plain))
        self._order.note(mutant, tests, outcome)
        return outcome | {"seconds": round(time.perf_counter() - begin, 2)}

    def _run(self, mutant: PythonMutant, source: str, tests: list[str], tell: Callable[[Outcome], None]) -> None:
        sys.meta_path.insert(0, _Finder(mutant.module, self._root / mutant.file, source))
        try:
            importlib.import_module(mutant.module)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it can't be imported
            return tell({"status": MutantStatus.INVALID, "reason": f"{type(error).__name__}: {error}"})
        if not tests:
            return tell({"status": MutantStatus.SURVIVED, "reason": UNREACHED})
        plugin = _ColdTests(self._order.reach, tests, tell, self._least_limit)
        pytest.main([*self._options, *sorted({test.partition("::")[0] for test in tests})], plugins=[plugin])
        if not plugin.ran:
            tell({"status": MutantStatus.INVALID, "reason": "the tests can't be imported"})
        return None
