"""Episodes with processes: a service is killed at any step, a database server is stopped, two workers run at once.

Each process runs a fixed script of use cases, each with a key. After an error it runs the script again with the same
keys, like a client that got no response.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from app.bootstrap.services import Services
from app.core.errors import (
    AppError,
    ChainUnavailable,
    DatabaseUnavailable,
    GatewayUnavailable,
    NotPaid,
)
from app.db.embedded import start_embedded, stop_embedded
from app.db.tables import operations
from app.services.transactions.policy import TransactionPolicy
from sqlalchemy import URL, event, make_url, select
from stakesim.faults.faulty_provider import SEND, FaultyProvider
from stakesim.faults.protocol import EpisodeResult, Violation
from stakesim.faults.testbed import MAX_FEE, service_account
from web3.types import RPCEndpoint

from stakesim_adapter.faults.checks import ClientResponse, check
from stakesim_adapter.faults.episodes import settle
from stakesim_adapter.faults.poolers import PoolMode, pgbouncer
from stakesim_adapter.faults.script import ScriptLog, run_script
from stakesim_adapter.faults.statements import follow_statements
from stakesim_adapter.faults.testbed import Addresses, BackendTestbed, open_services

KILL_FAULTS = {
    "kill -9 after a statement": 23,
    "kill -9 before a request": 23,
    "kill -9 before a send": 23,
    "kill -9 after a send": 24,
    "kill -9 after a request": 24,
    "kill -9 before a statement": 24,
    "kill -9 before a commit": 24,
    "SIGTERM": 45,
}
TERMINATED_SHARE = 0.3
"""Share of the episodes `kill` in which the process gets SIGTERM, so that it unwinds, instead of SIGKILL."""
STOP_FAULTS = {"database server stopped and started": 25}
WORKER_FAULTS = {"two workers with one key": 26, "two workers with one account": 26}
POOL_MODES: tuple[PoolMode, ...] = ("session", "transaction")
_POOLER_FAULT = "two workers through pgbouncer, {} mode"
POOLER_FAULTS = {_POOLER_FAULT.format(mode): 46 for mode in POOL_MODES}
"""Faults by name, with their row in the catalogue."""
POOL_SIZE = 20
"""Number of pgbouncer's connections to the server. In session mode each connection of the service takes one."""
SHARED_KEYS, OWN_KEYS = 5, 6
"""Number of the script's keys that all processes share, and of those that each process has for itself."""
POLICY = TransactionPolicy(
    confirmations=2,
    max_fee_per_gas=MAX_FEE,
    resend_after=0.02,
    give_up_after=5,
    min_pause=0.001,
    max_pause=0.005,
    looks_before_rejecting=True,  # as in production
)
MAX_TRIES = 200
"""Maximum number of times that a process runs the script."""
TEMPORARY_ERRORS = (ChainUnavailable, DatabaseUnavailable, GatewayUnavailable, NotPaid)
_CONTEXT = multiprocessing.get_context("fork")


# ----------------------------------------------------------------------------------------------- in the child process


class _ProcessLog(ScriptLog):
    """A file to which a process also writes lines for its parent: `error TEXT`, a fault, `steps COUNT`.

    Each line is one unbuffered write, so lines of several processes don't mix, and a killed process loses none.
    """

    def __init__(self, path: Path, gateway_url: str) -> None:
        super().__init__(gateway_url)
        self._path = path
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(self, line: str) -> None:
        os.write(self._file, f"{line}\n".encode())

    def lines(self) -> list[str]:
        return read_log(self._path)


class _Steps:
    """Counts the steps of a process, and kills it at step `kill_at`.

    A negative `kill_at` terminates it at that step instead: it unwinds, and ends. 0 lets it run.
    """

    def __init__(self, log: _ProcessLog, kill_at: int) -> None:
        self.count, self._log, self._kill_at = 0, log, kill_at

    def pass_by(self, place: str) -> None:
        self.count += 1
        if self.count == self._kill_at:
            self._log.write(f"kill -9 {place}")
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.count == -self._kill_at:
            self._log.write("SIGTERM")
            signal.raise_signal(signal.SIGTERM)


def _instrumented_services(addresses: Addresses, steps: _Steps, rng: np.random.Generator) -> Services:
    """Returns the services of a process, with a step before and after each RPC request and SQL statement.

    A block is mined before every second request, at random.
    """
    miner = addresses.provider()

    def before_request(method: str, params: Sequence[Any]) -> None:
        steps.pass_by("before a send" if method == SEND else "before a request")
        if rng.random() < 0.5:
            miner.make_request(RPCEndpoint("evm_mine"), [])

    def after_request(method: str, params: Sequence[Any]) -> None:
        steps.pass_by("after a send" if method == SEND else "after a request")

    provider = FaultyProvider(addresses.provider(), before=before_request, after=after_request)
    services = open_services(addresses, provider, POLICY, addresses.database(), pays=True)
    follow_statements(
        services.database,
        before=lambda *_: steps.pass_by("before a statement"),
        after=lambda *_: steps.pass_by("after a statement"),
    )
    event.listen(services.database.engine, "commit", lambda connection: steps.pass_by("before a commit"))
    return services


def _process_main(addresses: Addresses, name: str, log_path: Path, kill_at: int, seed: int) -> None:
    """Runs the script until it succeeds, or until the step `kill_at`; see `_Steps`."""
    logging.disable()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    log = _ProcessLog(log_path, addresses.gateway_url)
    steps = _Steps(log, kill_at)
    services = _instrumented_services(addresses, steps, np.random.default_rng([seed, *name.encode()]))
    for _ in range(MAX_TRIES):
        try:
            services.reconciler.run_full()
            run_script(services, name, log)
        except TEMPORARY_ERRORS:
            time.sleep(0.02)
            continue
        except AppError as error:
            log.write(f"error {name}: {type(error).__name__}: {error}")
        except Exception as error:  # noqa: BLE001 - the parent reports it as a violation
            log.write(f"error {name}: {type(error).__name__} instead of an error of the backend's own: {error}")
        break
    else:
        log.write(f"error {name}: no end after {MAX_TRIES} tries")
    log.write(f"steps {steps.count}")


# ---------------------------------------------------------------------------------------------- in the parent process


def start_processes(
    addresses: Addresses, log_path: Path, names: Sequence[str], kill_at: int = 0, seed: int = 0
) -> list[Any]:
    """Starts a process for each name."""
    processes = [
        _CONTEXT.Process(target=_process_main, args=(addresses, name, log_path, kill_at, seed)) for name in names
    ]
    for process in processes:
        process.start()
    return processes


def run_processes(addresses: Addresses, log_path: Path, names: Sequence[str], kill_at: int = 0, seed: int = 0) -> None:
    """Starts a process for each name, and waits for all."""
    for process in start_processes(addresses, log_path, names, kill_at, seed):
        process.join()


def read_log(log_path: Path) -> list[str]:
    """Returns the lines that the processes have written."""
    return log_path.read_text().splitlines() if log_path.exists() else []


def finish(testbed: BackendTestbed, log_path: Path, *, lost_commits: bool = False) -> list[Violation]:
    """Settles the chain, runs all checks, and adds the errors of the processes; arguments as of `check`."""
    lines = read_log(log_path)
    responses = {line.removeprefix("done "): ClientResponse.DONE for line in lines if line.startswith("done ")}
    violations = [Violation("CLIENT", line.removeprefix("error ")) for line in lines if line.startswith("error ")]
    engine = testbed.addresses.database()
    try:
        policy = replace(POLICY, resend_after=0)
        services = open_services(testbed.addresses, testbed.provider(), policy, engine, pays=True)
        violations += settle(testbed, services, POLICY.confirmations)
        return violations + check(testbed, services, responses, lost_commits=lost_commits)
    finally:
        engine.dispose()


def _sent_but_not_stored(testbed: BackendTestbed) -> list[Violation]:
    """Returns a violation for each transaction of the platform that the node has and the database has not."""
    hashes = set(testbed.mempool(service_account().address).values())
    with testbed.observer.connect() as connection:
        attempts = connection.scalars(select(operations.c.attempts)).all()
    stored = {attempt["hash"] for operation_attempts in attempts for attempt in operation_attempts}
    return [Violation("I3", f"the mempool has {tx_hash}, the database has not") for tx_hash in hashes - stored]


@cache
def _count_steps(testbed: BackendTestbed) -> int:
    """Returns the number of steps of a process that is not killed."""
    testbed.reset()
    with tempfile.TemporaryDirectory() as folder:
        log_path = Path(folder) / "log"
        run_processes(testbed.addresses, log_path, ["one"])
        return next(int(line.split()[1]) for line in read_log(log_path) if line.startswith("steps"))


def run_kill_episode(testbed: BackendTestbed, seed: int, number: int) -> EpisodeResult:
    """Kills or terminates a process at one step, and starts another one, which repeats all requests."""
    started_at, steps = time.perf_counter(), _count_steps(testbed)
    kill_at = 1 + int(np.random.default_rng(seed).permutation(steps)[number % steps])
    if np.random.default_rng([seed, number]).random() < TERMINATED_SHARE:
        kill_at = -kill_at
    testbed.reset()
    with tempfile.TemporaryDirectory() as folder:
        log_path = Path(folder) / "log"
        run_processes(testbed.addresses, log_path, ["one"], kill_at)
        violations = _sent_but_not_stored(testbed)
        run_processes(testbed.addresses, log_path, ["one"])
        violations += finish(testbed, log_path)
        lines = read_log(log_path)
    counts = Counter(line for line in lines if line in KILL_FAULTS)
    log = [f"step {abs(kill_at)} of {steps}", *lines]
    return EpisodeResult(f"kill:{number}", counts, violations, log, time.perf_counter() - started_at)


def run_workers_episode(testbed: BackendTestbed, seed: int, number: int) -> EpisodeResult:
    """Runs the script in two processes at once, with one account and partly the same keys."""
    started_at = time.perf_counter()
    testbed.reset()
    with tempfile.TemporaryDirectory() as folder:
        log_path = Path(folder) / "log"
        run_processes(testbed.addresses, log_path, ["one", "two"], seed=seed + number)
        violations = finish(testbed, log_path)
        lines = read_log(log_path)
    counts = Counter(dict(zip(WORKER_FAULTS, (SHARED_KEYS, OWN_KEYS), strict=True)))
    return EpisodeResult(f"workers:{number}", counts, violations, lines, time.perf_counter() - started_at)


def run_pooler_episode(testbed: BackendTestbed, seed: int, number: int) -> EpisodeResult:
    """As `run_workers_episode`, through a pgbouncer with few connections to the server; modes take turns.

    Raises:
        FileNotFoundError: pgbouncer is not installed.
    """
    started_at, mode = time.perf_counter(), POOL_MODES[number % len(POOL_MODES)]
    testbed.reset()
    url = make_url(testbed.addresses.database_url)
    with tempfile.TemporaryDirectory() as folder, pgbouncer(url, mode, default_pool_size=POOL_SIZE) as pooled_url:
        log_path = Path(folder) / "log"
        pooled = pooled_url.set(database=url.database).render_as_string(hide_password=False)
        run_processes(replace(testbed.addresses, database_url=pooled), log_path, ["one", "two"], seed=seed + number)
        violations = finish(testbed, log_path)
        lines = read_log(log_path)
    counts = Counter({_POOLER_FAULT.format(mode): 1})
    return EpisodeResult(f"pooler:{number}", counts, violations, lines, time.perf_counter() - started_at)


def run_database_episode(seed: int, number: int) -> EpisodeResult:
    """Stops and starts the database server up to four times while a process runs the script."""
    started_at, rng, stops = time.perf_counter(), np.random.default_rng([seed, number, 25]), 0
    with tempfile.TemporaryDirectory(prefix="stakesim-faults-") as folder:
        data_dir, log_path = Path(folder) / "postgres", Path(folder) / "log"
        testbed = BackendTestbed(start_server(data_dir))
        try:
            testbed.reset()
            (process,) = start_processes(testbed.addresses, log_path, ["one"], seed=seed + number)
            for _ in range(4):
                process.join(float(rng.uniform(0.02, 0.25)))
                if not process.is_alive():
                    break
                testbed.database.dispose()
                stop_embedded(data_dir)
                time.sleep(float(rng.uniform(0, 0.3)))
                start_server(data_dir)
                stops += 1
            process.join()
            violations = finish(testbed, log_path)
            lines = read_log(log_path)
        finally:
            testbed.close()
            stop_embedded(data_dir)
    counts = Counter(dict.fromkeys(STOP_FAULTS, stops))
    return EpisodeResult(f"database:{number}", counts, violations, lines, time.perf_counter() - started_at)


def start_server(data_dir: Path) -> URL:
    """Starts the server in a new process, as pgserver starts a data directory only once in each process."""
    starter = _CONTEXT.Process(target=start_embedded, args=(data_dir,))
    starter.start()
    starter.join()
    return start_embedded(data_dir)
