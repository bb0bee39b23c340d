"""Episodes `wire`: proxies in front of two endpoints of the node, and of the database, spoil connections.

The service runs as in production, with its own failover, in this process. It goes by real time, so an episode can't be
replayed from data.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import replace
from urllib.parse import urlsplit

import numpy as np
from app.bootstrap.services import Services
from app.core.errors import AppError
from app.db.connections import DatabasePolicy
from app.db.database import open_engine
from app.services.rpc_failover import FailoverProvider
from sqlalchemy import URL, make_url
from stakesim.faults.protocol import EpisodeResult, Violation
from stakesim.faults.tcp_proxy import TcpProxy, WireFault

from stakesim_adapter.faults.checks import ClientResponse, check
from stakesim_adapter.faults.episodes import settle
from stakesim_adapter.faults.processes import POLICY, TEMPORARY_ERRORS
from stakesim_adapter.faults.script import ScriptLog, run_script
from stakesim_adapter.faults.testbed import BackendTestbed, open_services

WIRE_FAULTS = {
    WireFault.DELAY.value: 36,
    WireFault.DRIP.value: 36,
    WireFault.CUT.value: 36,
    WireFault.RESET.value: 3,
    WireFault.BLACK_HOLE.value: 36,
    WireFault.REFUSE.value: 3,
    "idle connections closed": 46,
}
"""Faults by name, with their row in the catalogue."""
NODE_TIMEOUT_S, GIVE_UP_AFTER_S = 0.5, 3.0
"""Seconds that one request to an endpoint takes at most, and after which no further endpoint is asked."""
BLOCK_PAUSE_S = 0.05
"""Seconds between two blocks."""
FAULTY_S = 6.0
"""Seconds after which no further message is spoilt, so that the script can end."""
MAX_TRIES = 300
DATABASE_FAULTS = (WireFault.CUT, WireFault.RESET, WireFault.REFUSE, WireFault.DELAY)
"""Faults of connections to the database. It waits for a dripping answer or a black hole as long as the client does."""


def run_wire_episode(testbed: BackendTestbed, seed: int, number: int) -> EpisodeResult:
    """Runs the script of the processes' episodes in this process, through proxies."""
    started_at, rng = time.perf_counter(), np.random.default_rng([seed, number, 36])
    testbed.reset()
    rate = float(rng.choice([0.03, 0.1]))

    def draw_of(faults: tuple[WireFault, ...]) -> Callable[[], WireFault | None]:
        def draw() -> WireFault | None:
            is_spoilt = time.perf_counter() - started_at < FAULTY_S and rng.random() < rate
            return faults[int(rng.integers(len(faults)))] if is_spoilt else None

        return draw

    node = urlsplit(testbed.rpc_url)
    address = str(node.hostname), int(node.port or 0)
    with ExitStack() as stack:
        nodes = [stack.enter_context(closing(TcpProxy(address, draw_of(tuple(WireFault))))) for _ in range(2)]
        database_url = make_url(testbed.addresses.database_url)
        database = stack.enter_context(closing(TcpProxy(_address(database_url), draw_of(DATABASE_FAULTS))))
        urls = [f"http://127.0.0.1:{proxy.port}" for proxy in nodes]
        provider = FailoverProvider(urls, timeout=NODE_TIMEOUT_S, give_up_after=GIVE_UP_AFTER_S)
        through_proxy = database_url.set(host="127.0.0.1", port=database.port).difference_update_query(["host", "port"])
        engine = open_engine(through_proxy, DatabasePolicy(lock_timeout=3))
        stack.callback(engine.dispose)
        services = open_services(testbed.addresses, provider, POLICY, engine, pays=True)
        stop = threading.Event()
        disturber = threading.Thread(target=_disturb, args=(testbed, stop, database, rng), daemon=True)
        disturber.start()
        script_log = ScriptLog(testbed.addresses.gateway_url)
        violations = _run_script_to_the_end(services, script_log)
        stop.set()
        disturber.join()
        counts = nodes[0].counts + nodes[1].counts + database.counts
    plain = testbed.addresses.database()
    try:
        policy = replace(POLICY, resend_after=0)
        plain_services = open_services(testbed.addresses, testbed.provider(), policy, plain, pays=True)
        violations += settle(testbed, plain_services, POLICY.confirmations)
        done = [line.removeprefix("done ") for line in script_log.lines() if line.startswith("done ")]
        violations += check(testbed, plain_services, dict.fromkeys(done, ClientResponse.DONE))
    finally:
        plain.dispose()
    log = [f"spoilt {rate:.0%} of the messages", *done]
    return EpisodeResult(f"wire:{number}", Counter(counts), violations, log, time.perf_counter() - started_at)


def _address(url: URL) -> tuple[str, int] | str:
    """Host and port of the database server, or the path of its Unix socket."""
    host = str(url.query.get("host") or url.host or "127.0.0.1")
    port = url.port or 5432
    return f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, port)


def _disturb(testbed: BackendTestbed, stop: threading.Event, database: TcpProxy, rng: np.random.Generator) -> None:
    """Mines blocks, and closes the connections to the database now and then."""
    miner = testbed.provider()
    began_at = time.perf_counter()
    while not stop.wait(BLOCK_PAUSE_S):
        miner.make_request("evm_mine", [])  # type: ignore[arg-type]
        if rng.random() < 0.02 and time.perf_counter() - began_at < FAULTY_S:
            database.counts["idle connections closed"] += 1
            database.cut_all()


def _run_script_to_the_end(services: Services, log: ScriptLog) -> list[Violation]:
    """Runs the script again and again with the same keys, as clients do that got no answer."""
    for _ in range(MAX_TRIES):
        try:
            services.reconciler.run_full()
            run_script(services, "one", log)
        except TEMPORARY_ERRORS:
            time.sleep(0.02)
            continue
        except AppError as error:
            return [Violation("CLIENT", f"{type(error).__name__}: {error}")]
        except Exception as error:  # noqa: BLE001 - every other error is a violation
            return [Violation("CLIENT", f"{type(error).__name__} instead of an error of the backend's own: {error}")]
        return []
    return [Violation("I2", f"no end after {MAX_TRIES} tries")]
