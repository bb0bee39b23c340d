"""A database, an environment and a compiler for the tests that need one.

The controller of pytest-xdist imports this module before it starts the workers, and runs no test: what takes long to
import is imported in the fixtures.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from app.db.database import Database
    from sqlalchemy import Engine


@pytest.fixture(autouse=True)
def forgotten_expirations() -> Iterator[None]:
    """What exceeds a time limit in a test shall not count for the environments of later tests of this process."""
    from stakesim.workers import time_limit

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time_limit, "_expired", time_limit.expirations())
        yield


@pytest.fixture
def run_stakesim(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command `stakesim`, run in this process, from a folder if one is given."""
    from stakesim.commands import cli

    def call(*args: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        if cwd is not None:
            monkeypatch.chdir(cwd)
        monkeypatch.setattr(sys, "argv", ["stakesim", *map(str, args)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        output = capsys.readouterr()
        return subprocess.CompletedProcess(args, int(ended.value.code or 0), output.out, output.err)

    return call


@pytest.fixture(scope="session", autouse=True)
def command_line_built_once() -> Iterator[None]:
    """Building it from its functions takes longer than most commands that tests give."""
    import typer.main
    import typer.testing

    build = functools.cache(typer.main.get_command)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.main, "get_command", build)
        patch.setattr(typer.testing, "_get_command", build)
        yield


@pytest.fixture(scope="session", autouse=True)
def idle_compilers() -> Iterator[list[subprocess.Popen[str]]]:
    """Compilers that tests have done with, for the next ones: they take seconds to start and to become fast."""
    from stakesim.evm import compiler

    start, end, owner = compiler.start_process, compiler.end_process, os.getpid()
    idle: list[subprocess.Popen[str]] = []

    def start_or_reuse(command: list[str]) -> subprocess.Popen[str]:
        for process in idle if os.getpid() == owner else ():  # a fork's requests would get its parent's answers
            if process.args == command and process.poll() is None and Path(command[0]).exists():
                idle.remove(process)
                return process
        return start(command)

    def keep(process: subprocess.Popen[str]) -> None:
        if os.getpid() == owner and process.poll() is None:
            idle.append(process)
        else:
            end(process)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiler, "start_process", start_or_reuse)
        patch.setattr(compiler, "end_process", keep)
        yield idle
    for process in idle:
        end(process)


@pytest.fixture(scope="session")
def database_engine() -> Iterator[Engine]:
    """An engine on a migrated schema that belongs to this process: a schema is created much faster than a database."""
    from app.db.database import create_database, open_engine
    from app.db.embedded import default_data_dir, start_embedded
    from app.db.migrations import migrate

    shared_engine = create_database(start_embedded(default_data_dir()), "test_backend")
    schema = f"test_{os.getpid()}"
    with shared_engine.begin() as connection:
        connection.exec_driver_sql(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
        connection.exec_driver_sql(f"CREATE SCHEMA {schema}")
    options = f"-csearch_path={schema} -csynchronous_commit=off"  # tests need no durability
    engine = open_engine(shared_engine.url.update_query_dict({"options": options}))
    migrate(engine)
    yield engine
    engine.dispose()
    with shared_engine.begin() as connection:
        connection.exec_driver_sql(f"DROP SCHEMA {schema} CASCADE")
    shared_engine.dispose()


@pytest.fixture
def database(database_engine: Engine) -> Iterator[Database]:
    """A database whose tables are empty; they are emptied again after the test."""
    from app.db.database import Database
    from stakesim_adapter.backend import EMPTY_TABLES

    yield Database(database_engine)
    with database_engine.begin() as connection:
        connection.exec_driver_sql(EMPTY_TABLES)


@pytest.fixture(scope="session")
def environment(stakesim_environment):
    """The environment that the stakesim plugin opened for this test session."""
    return stakesim_environment
