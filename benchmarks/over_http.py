"""Measures bookings over HTTP.

uvicorn serves the API in a process of its own, on PostgreSQL and an anvil that mines a block for each transaction.

    python benchmarks/over_http.py

First a race: more attendees than seats, each request made twice, at random times, under one Idempotency-Key. Then the
throughput with several numbers of connections, and where the time of a request goes, measured in the server.
"""

import argparse
import json
import multiprocessing
import random
import socket
import sys
import threading
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from multiprocessing.connection import Connection
from typing import Any
from uuid import UUID

import httpx
import uvicorn
from app.bootstrap.container import connect_services
from app.bootstrap.services import Services
from app.core.config import Settings
from app.core.security import Role, issue_token
from app.db.tables import experiences, operations, users
from app.main import create_app
from app.services.transactions import signing
from eth_account import Account
from rich.console import Console
from sqlalchemy import Engine, insert, select
from stakesim.evm.anvil import start_anvil
from stakesim_adapter.faults.statements import follow_statements
from stakesim_adapter.serve import temporary_deployment
from web3 import Web3
from web3.middleware import Web3Middleware
from web3.types import RPCEndpoint

CHAIN_ID = 31_337
PRICE_INR = "100.00"
SEATS = 200
TIMEOUT_S = 300
UNLIMITED = {
    "limit_operation_eth": 10**6,
    "limit_person_day_eth": 10**6,
    "limit_day_eth": 10**6,
    "limit_person_run_seats": SEATS,
}
"""So that the service refuses nobody: one attendee books most seats of a run, and a race is over within minutes."""


# ---------------------------------------------------------------------------------------------------- where time goes

Spent = dict[str, tuple[int, float]]
"""Number of calls and seconds, by part."""


class RequestTimer:
    """Measures what requests wait for. A thread of the server is in one part at a time, so the parts add up."""

    def __init__(self) -> None:
        self._lock, self._spent = threading.Lock(), defaultdict[str, list[float]](list)

    def record(self, part: str, started: float) -> None:
        seconds = time.perf_counter() - started
        with self._lock:
            self._spent[part].append(seconds)

    def take(self) -> Spent:
        """Returns the times since the previous call."""
        with self._lock:
            spent = {part: (len(times), sum(times)) for part, times in self._spent.items()}
            self._spent.clear()
        return spent

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wraps a function, so that its calls count for the part."""

        def call(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.record(part, started)

        return call

    def time_services(self, services: Services) -> None:
        """Times requests to the node, the database, signing and pauses."""
        timer, database = self, services.database

        class NodeTimer(Web3Middleware):
            def wrap_make_request(self, make_request: Any) -> Any:
                return lambda method, params: timer.timed(f"node: {method}", make_request)(method, params)

        services.w3.middleware_onion.add(NodeTimer)

        of_thread = threading.local()

        def before(sql: str, parameters: Any) -> None:
            of_thread.started = time.perf_counter()

        def after(sql: str, parameters: Any) -> None:
            kind = "the nonce's lock" if "INTO nonces" in sql else "statements"
            timer.record(f"database: {kind}", of_thread.started)

        follow_statements(database, before=before, after=after)
        dialect = database.engine.dialect  # of both engines
        for method in ("do_commit", "do_rollback"):
            setattr(dialect, method, timer.timed("database: commits", getattr(dialect, method)))
        for engine in (database.engine, database.autocommit_engine):
            engine.raw_connection = timer.timed("database: a connection of the pool", engine.raw_connection)
        signing._sign = timer.timed("signing", signing._sign)
        time.sleep = timer.timed("pauses between looks at the chain", time.sleep)

    def time_app(self, app: Any) -> Any:
        """Wraps the app, so that each request is timed.

        The time ends before the last part of the response is sent, so nothing is recorded after the client goes on.
        """

        async def timed_app(scope: Any, receive: Any, send: Any) -> None:
            started = time.perf_counter()

            async def send_and_record(message: Any) -> None:
                if message["type"] == "http.response.body" and not message.get("more_body"):
                    self.record("request", started)
                await send(message)

            await app(scope, receive, send_and_record if scope["type"] == "http" else send)

        return timed_app


def serve(settings: Settings, listening: socket.socket, pipe: Connection) -> None:
    """Runs the server process.

    It answers each message on the pipe with the times of its requests, and ends when the pipe is closed.
    """
    services, timer = connect_services(settings), RequestTimer()
    timer.time_services(services)
    app = create_app(services, settings.jwt_secret, settings.chain_id, settings.reconcile_seconds)
    server = uvicorn.Server(uvicorn.Config(timer.time_app(app), log_level="error", access_log=False))

    def answer() -> None:
        try:
            while pipe.recv():
                pipe.send(timer.take())
        except EOFError:
            server.should_exit = True

    threading.Thread(target=answer, daemon=True).start()
    server.run([listening])


# ------------------------------------------------------------------------------------------------------------- the site


@dataclass
class Attendee:
    id: UUID
    wallet: str
    token: str


class Site:
    """A served API with users: a host, the attendees of a race, and `early`, who books seats before a race begins.

    `services` reads database and chain directly.
    """

    def __init__(self, settings: Settings, url: str, pipe: Connection, attendees: int) -> None:
        self.url, self._pipe, self._settings = url, pipe, settings
        self.services = connect_services(settings)
        wallets = [Web3.to_checksum_address(f"0x{0xA77E << 32 | number:040x}") for number in range(attendees + 2)]
        people = [(uuid.uuid4(), wallet) for wallet in wallets]
        with self.services.database.transaction() as connection:
            rows = [{"id": user_id, "name": wallet, "wallet_address": wallet} for user_id, wallet in people]
            connection.execute(insert(users), rows)
            row = {"host_id": people[0][0], "title": "Pottery"}
            self._experience = connection.execute(insert(experiences).returning(experiences.c.id), row).scalar_one()
        self.host, self.early, *self.attendees = [
            Attendee(user_id, wallet, self._token(user_id, "host" if wallet == wallets[0] else "attendee"))
            for user_id, wallet in people
        ]
        self._local = threading.local()

    def _token(self, user_id: UUID, role: Role) -> str:
        return issue_token(self._settings.jwt_secret, user_id, role, timedelta(hours=12))

    def post(self, path: str, body: Any, token: str, key: str) -> httpx.Response:
        """Sends a request over this thread's connection."""
        if not hasattr(self._local, "client"):
            self._local.client = httpx.Client(base_url=self.url, timeout=TIMEOUT_S)
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": key}
        response: httpx.Response = self._local.client.post(path, json=body, headers=headers)
        return response

    def open_run(self) -> dict[str, Any]:
        """Opens a run with `SEATS` seats."""
        starts_at = (datetime.now(UTC) + timedelta(days=3)).isoformat()
        body = {"experience_id": str(self._experience), "starts_at": starts_at}
        response = self.post(
            "/event-runs", body | {"max_seats": SEATS, "price_inr": PRICE_INR}, self.host.token, _key()
        )
        assert response.status_code == 201, response.text
        run: dict[str, Any] = response.json()
        return run

    def book(self, run: dict[str, Any], by: Attendee, key: str, seats: int = 1) -> httpx.Response:
        return self.post("/bookings/create", {"event_run_id": run["id"], "seats": seats}, by.token, key)

    def spent(self) -> Spent:
        """Times of the server's requests since the previous call."""
        self._pipe.send("take")
        return self._pipe.recv()  # type: ignore[no-any-return]


@contextmanager
def served(attendees: int) -> Iterator[Site]:
    """A site on a new chain, with a new contract and empty tables, all of which are removed at the end."""
    rpc_url, stop = start_anvil("--chain-id", str(CHAIN_ID))
    try:
        w3, platform = Web3(Web3.HTTPProvider(rpc_url)), Account.create()
        w3.provider.make_request(RPCEndpoint("anvil_setBalance"), [platform.address, hex(10**24)])
        overrides = {"blockchain_rpc_url": rpc_url, "chain_id": CHAIN_ID, "confirmations": 1} | UNLIMITED
        with temporary_deployment(None, platform_private_key=platform.key.to_0x_hex(), **overrides) as settings:
            ours, theirs = multiprocessing.Pipe()
            # with the protocol named: else asyncio does not set TCP_NODELAY, and each answer takes 40 ms more
            listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
            listening.bind(("127.0.0.1", 0))
            listening.listen(512)
            url = f"http://127.0.0.1:{listening.getsockname()[1]}"
            process = multiprocessing.get_context("spawn").Process(target=serve, args=(settings, listening, theirs))
            process.start()
            theirs.close()
            listening.close()
            site = Site(settings, url, ours, attendees)
            try:
                yield site
            finally:
                ours.close()
                process.join(20)
                process.kill()
                engine: Engine = site.services.database.engine
                engine.dispose()
    finally:
        stop()


def _key() -> str:
    return uuid.uuid4().hex


# ------------------------------------------------------------------------------------------------------------- the race


@dataclass
class Race:
    """Result of a race.

    Attributes:
        requests: Requests in all.
        sold: Seats that were sold.
        refused: Refused bookings by reason.
        seconds: Wall-clock time.
        problems: Sentences about what must not happen; empty if all is well.
    """

    requests: int
    sold: int
    refused: Counter[str]
    seconds: float
    problems: list[str]


def race(site: Site, seats: int, connections: int, seed: int = 0) -> Race:
    """All attendees of the site book one of the last seats of a run at once.

    Each sends the request twice, at random times, under one key.

    Args:
        site: With the attendees.
        seats: Seats that are left.
        connections: Number of connections.
        seed: Decides the order of the requests.
    """
    run, rng = site.open_run(), random.Random(seed)
    if seats < SEATS:
        assert site.book(run, site.early, _key(), SEATS - seats).status_code == 201
    requests = [(attendee, f"race-{number}") for number, attendee in enumerate(site.attendees)] * 2
    rng.shuffle(requests)
    started = time.perf_counter()
    with ThreadPoolExecutor(connections) as threads:
        responses = list(threads.map(lambda request: (request[1], site.book(run, *request)), requests))
    seconds = time.perf_counter() - started
    by_key = defaultdict[str, list[httpx.Response]](list)
    for key, response in responses:
        by_key[key].append(response)
    problems = [
        f"{key} gets {first.status_code} {first.text} and {second.status_code} {second.text}"
        for key, (first, second) in by_key.items()
        if (first.status_code, first.content) != (second.status_code, second.content)
    ]
    sold = [first.json() for first, _ in by_key.values() if first.status_code == 201]
    refused = Counter(_reason(first) for first, _ in by_key.values() if first.status_code != 201)
    if len(sold) != seats:
        problems.append(f"{len(sold)} seats are sold, of {seats}")
    problems += _inconsistencies(site, run, {booking["id"] for booking in sold})
    return Race(len(responses), len(sold), refused, seconds, problems)


def _reason(response: httpx.Response) -> str:
    body = response.json()
    return f"{response.status_code} {body.get('error', body.get('code'))}, {body.get('outcome')}"


def _inconsistencies(site: Site, run: dict[str, Any], sold: set[str]) -> Iterator[str]:
    """Where database, chain and responses differ, or somebody paid more than once. Does not use the API."""
    services, chain = site.services, site.services.chain
    rows = [row for row in services.bookings.of_run(UUID(run["id"])) if row.blockchain_status == "confirmed"]
    onchain = chain.get_event_bookings(run["blockchain_event_run_id"])
    users_booked = {row.user_id for row in rows}
    if sorted(row.blockchain_booking_id or 0 for row in rows) != onchain or len(users_booked) != len(rows):
        yield f"{len(rows)} bookings of {len(users_booked)} users in the database, {len(onchain)} on chain"
    if not sold <= {str(row.id) for row in rows}:
        yield "some attendees got a response with a booking that does not exist"
    if sum(row.seats for row in rows) != SEATS:
        yield f"{sum(row.seats for row in rows)} seats are booked, of {SEATS}"
    for attendee in (site.early, *site.attendees):
        if len(chain.get_user_bookings(attendee.wallet)) != (attendee.id in users_booked):
            yield f"{attendee.wallet} has {chain.get_user_bookings(attendee.wallet)} on chain"
    due = sum((r.blockchain_payment_wei or 0) + (r.blockchain_stake_amount_wei or 0) for r in rows)
    due += int(run["blockchain_stake_amount_wei"])
    held = services.w3.eth.get_balance(chain.address)
    if not due == held == chain.total_liabilities():
        yield f"the contract holds {held} wei and owes {chain.total_liabilities()}; by the rows it is {due}"
    with services.database.transaction() as connection:
        all_attempts = connection.scalars(select(operations.c.attempts)).all()
    nonces = [nonce for attempts in all_attempts for nonce in {attempt["nonce"] for attempt in attempts}]
    count = services.w3.eth.get_transaction_count(chain.platform)
    if sorted(nonces) != list(range(1, count)):  # nonce 0 deployed the contract
        yield f"the platform has sent {count} transactions; the operations have {len(nonces)}"
    yield from services.reconciler.dry_run().differences


# ------------------------------------------------------------------------------------------------------- throughput


def throughput(site: Site, connections: int, count: int) -> tuple[float, Spent]:
    """Makes bookings of one seat. Returns their wall-clock time in seconds, and the times in the server."""
    runs = [site.open_run() for _ in range(-(-count // SEATS))]
    requests = [(runs[i // SEATS], site.attendees[i % len(site.attendees)], _key()) for i in range(count)]
    site.spent()
    started = time.perf_counter()
    with ThreadPoolExecutor(connections) as threads:
        responses = list(threads.map(lambda request: site.book(*request), requests))
    seconds = time.perf_counter() - started
    assert {response.status_code for response in responses} == {201}, Counter(r.text for r in responses).most_common(3)
    return seconds, site.spent()


def shares(spent: Spent, wall: float, connections: int) -> Iterator[tuple[str, float, float, float]]:
    """Splits the time between a client's request and its response.

    Args:
        spent: Times in the server.
        wall: Wall-clock time of all bookings, in seconds.
        connections: Number of connections.

    Yields:
        Part, calls per booking, milliseconds per booking, and share of the whole time; the largest first.
    """
    count, in_server = spent["request"]
    whole = wall * connections
    parts = {part: times for part, times in spent.items() if part != "request"}
    rest = in_server - sum(seconds for _, seconds in parts.values())
    rows = [(part, calls / count, seconds) for part, (calls, seconds) in parts.items()]
    rows += [("the app itself: JSON, checks, waiting for its turn in Python", 1, rest)]
    rows += [("client, connection and uvicorn", 1, whole - in_server)]
    for part, calls, seconds in sorted(rows, key=lambda row: -row[2]):
        yield part, calls, 1000 * seconds / count, seconds / whole


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--attendees", type=int, default=200)
    parser.add_argument("--seats", type=int, default=50)
    parser.add_argument("--bookings", type=int, default=200, help="bookings for each number of connections")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument(
        "--json",
        action="store_true",
        help="measure only the throughput of 4 connections, as a contender of stakesim bench",
    )
    parser.add_argument("--lifecycles", type=int, default=20, help="with --json: 8 bookings each")
    options, console = parser.parse_args(), Console(highlight=False, soft_wrap=True)
    if options.json:
        with served(attendees=6) as site:
            throughput(site, 4, 20)
            seconds, _ = throughput(site, 4, 8 * options.lifecycles)
        versions = {"fastapi": version("fastapi")}
        figures = {"transactions": 8 * options.lifecycles, "seconds": seconds, "versions": versions}
        print(json.dumps(figures))  # noqa: T201
        return 0
    with served(options.attendees) as site:
        result = race(site, options.seats, max(options.connections))
    console.print(
        f"race: {options.attendees} attendees, {options.seats} seats, {max(options.connections)} connections, "
        f"{result.requests} requests in {result.seconds:.1f} s"
    )
    console.print(f"  sold {result.sold}; refused: {dict(result.refused)}")
    console.print("\n".join(result.problems) or "  database = chain, nothing paid twice")
    with served(options.attendees) as site:
        throughput(site, 4, 20)
        for connections in options.connections:
            seconds, spent = throughput(site, connections, options.bookings)
            rate = options.bookings / seconds
            console.print(f"\n{connections} connections: {rate:.1f} bookings a second")
            for part, calls, milliseconds, share in shares(spent, seconds, connections):
                console.print(f"  {share:6.1%}  {milliseconds:7.2f} ms  {calls:5.1f} times  {part}")
    return 1 if result.problems else 0


if __name__ == "__main__":
    sys.exit(main())
