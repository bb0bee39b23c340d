"""Episodes with processes of their own: a service killed with -9 at each step between database and chain, a database
server that is stopped and started, two workers at once.

A process plays a fixed script of use cases, each under a key, and plays it again with the same keys after trouble, as a
client does that did not hear.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from app.bootstrap.container import Services
from app.core.errors import AppError, ChainUnavailable, DatabaseUnavailable
from app.db.embedded import start_embedded, stop_embedded
from app.db.tables import operations
from app.services.transactions.sender import Policy
from sqlalchemy import URL, event, select
from sqlalchemy.exc import InterfaceError, OperationalError
from stakesim.evm.chain_spec import GENESIS_TIMESTAMP
from stakesim.faults.protocol import EpisodeResult, Violation
from stakesim.faults.rpc_faults import SEND, FaultyProvider
from stakesim.faults.testbed import MAX_FEE, service_account

from stakesim_adapter.faults.checks import check
from stakesim_adapter.faults.episodes import settle
from stakesim_adapter.faults.testbed import EXPERIENCE, BackendTestbed, Site, open_services, user_id

KILLS = {
    "kill -9 after a commit": 23,
    "kill -9 before a request": 23,
    "kill -9 before a send": 23,
    "kill -9 after a send": 24,
    "kill -9 after a request": 24,
    "kill -9 before a commit": 24,
}
STOPS = {"database server stopped and started": 25}
WORKERS = {"two workers with one key": 26, "two workers with one account": 26}
POLICY = Policy(
    confirmations=2, max_fee_per_gas=MAX_FEE, resend_after=0.02, patience=5, first_pause=0.001, longest_pause=0.005
)
TRIES = 200
_STARTS_AT = datetime.fromtimestamp(GENESIS_TIMESTAMP, UTC) + timedelta(days=30)
_TROUBLE = (ChainUnavailable, DatabaseUnavailable, OperationalError, InterfaceError)
_CHILD = multiprocessing.get_context("fork")


def _script(services: Services, name: str, say: Callable[[str], None]) -> None:
    """Runs and bookings, some under keys that every process uses, some under this one's own."""
    runs, bookings = services.runs, services.bookings
    run = runs.create(user_id(0), EXPERIENCE, _STARTS_AT, 12, Decimal(20_000), key="create")
    say("create")
    first = bookings.book(run.id, user_id(1), 2, key="book")
    say("book")
    for number in (2, 3):
        bookings.prepare_book(run.id, user_id(number), 1, key=f"book later {number}")
    services.reconciler.run_once()
    bookings.cancel(first.id, key="cancel")
    say("cancel")
    own = runs.create(user_id(1), EXPERIENCE, _STARTS_AT, 3, Decimal(9_000), key=f"create by {name}")
    say(f"create by {name}")
    bookings.book(run.id, user_id(4), 1, key=f"book by {name}")
    say(f"book by {name}")
    runs.cancel(own.id, key=f"cancel by {name}")
    say(f"cancel by {name}")


def _process(site: Site, name: str, heard: Path, point: int, seed: int) -> None:
    """A service process with its client, and blocks that come as it goes. point: the step at which it is killed."""
    import logging

    logging.disable()
    steps, node, rng = 0, site.provider(), np.random.default_rng([seed, *name.encode()])
    out = os.open(heard, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(line: str) -> None:
        os.write(out, f"{line}\n".encode())

    def step(what: str) -> None:
        nonlocal steps
        steps += 1
        if steps == point:
            write(f"kill -9 {what}")
            os.kill(os.getpid(), signal.SIGKILL)

    def before(method: str, params: Sequence[Any]) -> None:
        step("before a send" if method == SEND else "before a request")
        if rng.random() < 0.5:
            node.make_request("evm_mine", [])  # type: ignore[arg-type]

    def after(method: str, params: Sequence[Any]) -> None:
        step("after a send" if method == SEND else "after a request")

    database = site.database()
    services = open_services(site, FaultyProvider(site.provider(), before=before, after=after), POLICY, database)
    for engine in (database, services.database.autocommit_engine):
        event.listen(engine, "before_cursor_execute", lambda *_: step("before a statement"))
        event.listen(engine, "after_cursor_execute", lambda *_: step("after a statement"))
    event.listen(database, "commit", lambda connection: step("before a commit"))
    for _ in range(TRIES):
        try:
            services.reconciler.start()
            _script(services, name, lambda key: write(f"done {key}"))
        except _TROUBLE:
            time.sleep(0.02)
            continue
        except AppError as error:
            write(f"error {name}: {type(error).__name__}: {error}")
        except Exception as error:  # noqa: BLE001 - told to the parent, which has the last word
            write(f"error {name}: {type(error).__name__} instead of an error of ours: {error}")
        break
    else:
        write(f"error {name}: no end after {TRIES} tries")
    write(f"steps {steps}")


def _run(site: Site, heard: Path, names: Sequence[str], point: int = 0, seed: int = 0) -> list[Any]:
    """Starts a process for each name."""
    processes = [_CHILD.Process(target=_process, args=(site, name, heard, point, seed)) for name in names]
    for process in processes:
        process.start()
    return processes


def _lines(heard: Path) -> list[str]:
    return heard.read_text().splitlines() if heard.exists() else []


def _finish(testbed: BackendTestbed, heard: Path) -> list[Violation]:
    """All is quiet: what must hold, and what the processes told."""
    lines = _lines(heard)
    told = {line.removeprefix("done "): "done" for line in lines if line.startswith("done ")}
    found = [Violation("TOLD", line.removeprefix("error ")) for line in lines if line.startswith("error ")]
    database = testbed.site.database()
    try:
        services = open_services(testbed.site, testbed.provider(), replace(POLICY, resend_after=0), database)
        found += settle(testbed, services, POLICY.confirmations)
        return found + check(testbed, services, told, POLICY.confirmations)
    finally:
        database.dispose()


def _unknown_to_database(testbed: BackendTestbed) -> list[Violation]:
    """Transactions of the platform that the node has and the database does not."""
    hashes = testbed.mempool(service_account().address).values()
    with testbed.observer.connect() as connection:
        known = {a["hash"] for (row,) in connection.execute(select(operations.c.attempts)) for a in row}
    return [Violation("I3", f"the mempool has {tx_hash}, the database has not") for tx_hash in {*hashes} - known]


@cache
def _steps(testbed: BackendTestbed) -> int:
    """How many steps the script has."""
    testbed.reset()
    with tempfile.TemporaryDirectory() as folder:
        heard = Path(folder) / "heard"
        for process in _run(testbed.site, heard, ["one"]):
            process.join()
        return next(int(line.split()[1]) for line in _lines(heard) if line.startswith("steps"))


def kill(testbed: BackendTestbed, seed: int, number: int) -> EpisodeResult:
    """A process is killed at one step; a new one takes over, with a client that asks for everything again."""
    began, steps = time.perf_counter(), _steps(testbed)
    point = 1 + int(np.random.default_rng(seed).permutation(steps)[number % steps])
    testbed.reset()
    with tempfile.TemporaryDirectory() as folder:
        heard = Path(folder) / "heard"
        for process in _run(testbed.site, heard, ["one"], point):
            process.join()
        found = _unknown_to_database(testbed)
        for process in _run(testbed.site, heard, ["one"]):
            process.join()
        found += _finish(testbed, heard)
        lines = _lines(heard)
    killed = Counter(line for line in lines if line.startswith("kill"))
    log = [f"step {point} of {steps}", *lines]
    return EpisodeResult(f"kill:{number}", killed, found, log, time.perf_counter() - began)


def workers(testbed: BackendTestbed, seed: int, number: int) -> EpisodeResult:
    """Two processes play the script at once, with the same account, and in part with the same keys."""
    began = time.perf_counter()
    testbed.reset()
    with tempfile.TemporaryDirectory() as folder:
        heard = Path(folder) / "heard"
        for process in _run(testbed.site, heard, ["one", "two"], seed=seed + number):
            process.join()
        found = _finish(testbed, heard)
        lines = _lines(heard)
    counts = Counter({"two workers with one key": 5, "two workers with one account": 6})
    return EpisodeResult(f"workers:{number}", counts, found, lines, time.perf_counter() - began)


def _start_server(data: Path) -> URL:
    """By a process of its own: pgserver starts the server of a folder only once in each."""
    starter = _CHILD.Process(target=start_embedded, args=(data,))
    starter.start()
    starter.join()
    return start_embedded(data)


def database(seed: int, number: int) -> EpisodeResult:
    """The server of the database is stopped and started, again and again, while a process plays the script."""
    began, rng = time.perf_counter(), np.random.default_rng([seed, number, 25])
    with tempfile.TemporaryDirectory(prefix="stakesim-faults-") as folder:
        data, heard = Path(folder) / "postgres", Path(folder) / "heard"
        testbed = BackendTestbed(_start_server(data))
        try:
            testbed.reset()
            (process,) = _run(testbed.site, heard, ["one"], seed=seed + number)
            stops = 0
            for _ in range(4):
                process.join(float(rng.uniform(0.02, 0.25)))
                if not process.is_alive():
                    break
                testbed.database.dispose()
                stop_embedded(data)
                time.sleep(float(rng.uniform(0, 0.3)))
                _start_server(data)
                stops += 1
            process.join()
            found = _finish(testbed, heard)
            lines = _lines(heard)
        finally:
            testbed.close()
            stop_embedded(data)
    counts = Counter(dict.fromkeys(STOPS, stops))
    return EpisodeResult(f"database:{number}", counts, found, lines, time.perf_counter() - began)
