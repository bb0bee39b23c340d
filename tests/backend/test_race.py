"""More attendees than seats, over HTTP, from many connections at once, against a served API and an anvil."""

import itertools
import multiprocessing
import os
import random
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.context import SpawnProcess
from typing import Any

import httpx
import pytest
from app.db.database import connect, create_database, drop_database
from app.db.embedded import default_data_dir, start_embedded
from app.db.migrations import migrate
from app.db.tables import operations
from eth_account import Account
from sqlalchemy import select
from stakesim.evm.anvil import start_anvil
from stakesim_adapter.faults.poolers import MISSING, find_pgbouncer, pgbouncer
from stakesim_adapter.serve import temporary_deployment
from web3 import Web3

from benchmarks.over_http import (
    CHAIN_ID,
    SEATS,
    UNLIMITED,
    Attendee,
    Site,
    _inconsistencies,
    race,
    serve,
    served,
    throughput,
)


@pytest.fixture(scope="module")
def sizes(profile: str) -> tuple[int, int]:
    """Numbers of attendees and of free seats."""
    return (16, 4) if profile == "quick" else (200, 50)


@pytest.fixture(scope="module")
def site(sizes: tuple[int, int]) -> Iterator[Site]:
    with served(sizes[0]) as site:
        yield site


@pytest.mark.in_turn
@pytest.mark.slow
def test_the_last_seats_are_sold_once_and_nobody_pays_twice(site: Site, sizes: tuple[int, int]) -> None:
    attendees, seats = sizes
    result = race(site, seats, connections=16)
    assert result.problems == []
    assert (result.requests, result.sold) == (2 * attendees, seats)
    assert result.refused.total() == attendees - seats
    assert all(reason.startswith(("409 EventNotOpen", "409 NotEnoughSeats")) for reason in result.refused), (
        result.refused
    )


@pytest.mark.slow
def test_the_time_of_a_booking_is_measured_by_part(site: Site) -> None:
    """With more connections than the database's pool has at first; none is refused. Statements commit themselves."""
    _, spent = throughput(site, connections=16, count=20)
    assert spent["request"][0] == 20
    parts = {"node: eth_sendRawTransaction", "database: statements", "database: a connection of the pool", "signing"}
    assert parts <= spent.keys()
    assert sum(seconds for part, (_, seconds) in spent.items() if part != "request") <= spent["request"][1]


# ------------------------------------------------------------------------- several processes, and one that is killed

WORKERS = 3
FINAL = (201, 409)


@dataclass
class Cluster:
    """A site that several server processes serve, through a pgbouncer in transaction mode."""

    site: Site
    urls: list[str]
    processes: list[SpawnProcess]
    repeated: int = 0

    def book(self, run: dict[str, Any], by: Attendee, key: str, number: int) -> httpx.Response:
        """Repeats a request, each time at the next server, until its response is final."""
        headers = {"Authorization": f"Bearer {by.token}", "Idempotency-Key": key}
        body = {"event_run_id": run["id"], "seats": 1}
        for attempt in range(60):
            url = self.urls[(number + attempt) % len(self.urls)]
            with suppress(httpx.TransportError):
                response = httpx.post(f"{url}/bookings/create", json=body, headers=headers, timeout=60)
                if response.status_code in FINAL:
                    return response
                assert response.status_code in (202, 503), response.text
            self.repeated += 1
            time.sleep(0.1)
        raise AssertionError(f"{key} has no final response")


@contextmanager
def cluster(attendees: int) -> Iterator[Cluster]:
    rpc_url, stop_anvil = start_anvil("--chain-id", str(CHAIN_ID))
    with ExitStack() as stack:
        stack.callback(stop_anvil)
        w3, platform = Web3(Web3.HTTPProvider(rpc_url)), Account.create()
        w3.provider.make_request("anvil_setBalance", [platform.address, hex(10**24)])  # type: ignore[arg-type]
        overrides = {"blockchain_rpc_url": rpc_url, "chain_id": CHAIN_ID, "confirmations": 1, "reconcile_seconds": 1}
        overrides |= UNLIMITED
        key = platform.key.to_0x_hex()
        settings = stack.enter_context(temporary_deployment(None, platform_private_key=key, **overrides))
        server, name = start_embedded(default_data_dir()), f"test_race_{os.getpid()}"
        create_database(server, name).dispose()
        stack.callback(drop_database, server, name)
        pooler = stack.enter_context(pgbouncer(server.set(database=name), "transaction", default_pool_size=6))
        settings = settings.model_copy(update={"database_url": pooler.render_as_string()})
        migrate(connect(settings.database_url))
        urls, processes = [], []
        for _ in range(WORKERS):
            listening = socket.create_server(("127.0.0.1", 0))
            urls.append(f"http://127.0.0.1:{listening.getsockname()[1]}")
            ours, theirs = multiprocessing.Pipe()
            process = multiprocessing.get_context("spawn").Process(target=serve, args=(settings, listening, theirs))
            process.start()
            theirs.close()
            listening.close()
            processes.append(process)
            stack.callback(process.kill)
            stack.callback(ours.close)
        site = Site(settings, urls[0], ours, attendees)
        stack.callback(site.services.database.engine.dispose)
        yield Cluster(site, urls, processes)


@pytest.mark.in_turn
@pytest.mark.slow
@pytest.mark.skipif(find_pgbouncer() is None, reason=MISSING)
def test_46_the_last_seats_are_sold_once_through_pgbouncer_though_a_worker_is_killed(
    sizes: tuple[int, int], capsys: pytest.CaptureFixture[str]
) -> None:
    """Three processes behind a pgbouncer in transaction mode; one is killed by SIGKILL in the middle."""
    attendees, seats = sizes
    with cluster(attendees) as c:
        site = c.site
        run = site.open_run()
        assert site.book(run, site.early, "early", SEATS - seats).status_code == 201
        requests = [(attendee, f"race-{number}") for number, attendee in enumerate(site.attendees)] * 2
        random.Random(46).shuffle(requests)
        answered, started = itertools.count(1), time.perf_counter()

        def book(number: int) -> tuple[str, httpx.Response]:
            attendee, key = requests[number]
            response = c.book(run, attendee, key, number)
            if next(answered) == seats // 2:
                c.processes[-1].kill()
            return key, response

        with ThreadPoolExecutor(16) as threads:
            responses = list(threads.map(book, range(len(requests))))
        seconds = time.perf_counter() - started
        assert c.processes[-1].exitcode == -signal.SIGKILL
        by_key: dict[str, set[tuple[int, bytes]]] = {}
        for key, response in responses:
            by_key.setdefault(key, set()).add((response.status_code, response.content))
        assert [key for key, different in by_key.items() if len(different) > 1] == []
        sold = {response.json()["id"] for _, response in responses if response.status_code == 201}
        assert (len(sold), len(by_key)) == (seats, attendees)
        assert list(_inconsistencies(site, run, sold)) == []
        with site.services.database.autocommit() as connection:
            states = Counter(connection.scalars(select(operations.c.state)))
        assert set(states) == {"confirmed", "rejected"} | ({"failed"} & set(states))
        with capsys.disabled():
            print(  # noqa: T201
                f"\n{attendees} attendees, {seats} seats, {WORKERS} processes, {len(requests)} requests, "
                f"{seconds:.1f} s, {c.repeated} repeated; one process killed; operations: {dict(states)}"
            )
