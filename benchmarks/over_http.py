"""Bookings over HTTP: the API as it is served, by uvicorn in a process of its own, on PostgreSQL and an anvil that
mines a block for each transaction.

    python benchmarks/over_http.py

First a race: more attendees than seats, each request made twice, at any time, under one Idempotency-Key. Then the
throughput at several numbers of connections, and where the time of a request goes, measured in the server.
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
from app.bootstrap.container import Services, connect_services
from app.core.config import Settings
from app.core.security import Role, issue_token
from app.db.tables import experiences, operations, users
from app.main import create_app
from eth_account import Account
from eth_account.signers.local import LocalAccount
from rich.console import Console
from sqlalchemy import Engine, event, insert, select
from stakesim.evm.anvil import start_anvil
from stakesim_adapter.serve import temporary_deployment
from web3 import Web3
from web3.middleware import Web3Middleware
from web3.types import RPCEndpoint

CHAIN_ID = 31_337
PRICE_INR = "100.00"
SEATS = 200
TIMEOUT_S = 300


# ---------------------------------------------------------------------------------------------------- where time goes

Spent = dict[str, tuple[int, float]]
"""How often and how many seconds, by what for."""


class Watch:
    """Notes what a request waits for. Each thread of the server is in one place at a time, so the parts add up."""

    def __init__(self) -> None:
        self._lock, self._spent = threading.Lock(), defaultdict[str, list[float]](list)

    def note(self, what: str, since: float) -> None:
        took = time.perf_counter() - since
        with self._lock:
            self._spent[what].append(took)

    def taken(self) -> Spent:
        """Since this was asked last."""
        with self._lock:
            spent = {what: (len(times), sum(times)) for what, times in self._spent.items()}
            self._spent.clear()
        return spent

    def timed(self, what: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def inner(*args: Any, **kwargs: Any) -> Any:
            since = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.note(what, since)

        return inner

    def over(self, services: Services) -> None:
        """Puts a clock on the node, the database, signing and pauses."""
        watch, database = self, services.database

        class Clocked(Web3Middleware):
            def wrap_make_request(self, make_request: Any) -> Any:
                return lambda method, params: watch.timed(f"node: {method}", make_request)(method, params)

        services.w3.middleware_onion.add(Clocked)

        def before(connection: Any, *_: Any) -> None:
            connection.info["since"] = time.perf_counter()

        def after(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
            kind = "the nonce's lock" if "INTO nonces" in statement else "statements"
            watch.note(f"database: {kind}", connection.info["since"])

        for engine in (database.engine, database.autocommit_engine):
            event.listen(engine, "before_cursor_execute", before)
            event.listen(engine, "after_cursor_execute", after)
            for ends in ("do_commit", "do_rollback"):
                setattr(engine.dialect, ends, watch.timed("database: commits", getattr(engine.dialect, ends)))
            engine.raw_connection = watch.timed("database: a connection of the pool", engine.raw_connection)
        LocalAccount.sign_transaction = watch.timed("signing", LocalAccount.sign_transaction)
        time.sleep = watch.timed("pauses between looks at the chain", time.sleep)

    def around(self, app: Any) -> Any:
        """The app, with a clock on each request, which stops before the answer's end is sent: nothing is noted of a
        request whose client goes on already."""

        async def clocked(scope: Any, receive: Any, send: Any) -> None:
            since = time.perf_counter()

            async def noted(message: Any) -> None:
                if message["type"] == "http.response.body" and not message.get("more_body"):
                    self.note("request", since)
                await send(message)

            await app(scope, receive, noted if scope["type"] == "http" else send)

        return clocked


def serve(settings: Settings, listening: socket.socket, asked: Connection) -> None:
    """The process of the server. asked: "taken" is answered with what was spent; the end of it ends the server."""
    services, watch = connect_services(settings), Watch()
    watch.over(services)
    app = create_app(services, settings.jwt_secret, settings.chain_id, settings.reconcile_seconds)
    server = uvicorn.Server(uvicorn.Config(watch.around(app), log_level="error", access_log=False))

    def answer() -> None:
        try:
            while asked.recv():
                asked.send(watch.taken())
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
    """A served API with a host and attendees who each have a wallet, and a look past it at database and chain."""

    def __init__(self, settings: Settings, url: str, asked: Connection, attendees: int) -> None:
        self.url, self._asked, self._settings = url, asked, settings
        self.services = connect_services(settings)
        wallets = [Web3.to_checksum_address(f"0x{0xA77E << 32 | number:040x}") for number in range(attendees + 2)]
        people = [(uuid.uuid4(), wallet) for wallet in wallets]
        with self.services.database.transaction() as connection:
            rows = [{"id": id, "name": wallet, "wallet_address": wallet} for id, wallet in people]
            connection.execute(insert(users), rows)
            row = {"host_id": people[0][0], "title": "Pottery"}
            self._experience = connection.execute(insert(experiences).returning(experiences.c.id), row).scalar_one()
        self.host, self.early, *self.attendees = [
            Attendee(id, wallet, self._token(id, "host" if wallet == wallets[0] else "attendee"))
            for id, wallet in people
        ]
        self._local = threading.local()

    def _token(self, user_id: UUID, role: Role) -> str:
        return issue_token(self._settings.jwt_secret, user_id, role, timedelta(hours=12))

    def post(self, path: str, body: Any, token: str, key: str) -> httpx.Response:
        """On this thread's one connection."""
        if not hasattr(self._local, "client"):
            self._local.client = httpx.Client(base_url=self.url, timeout=TIMEOUT_S)
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": key}
        response: httpx.Response = self._local.client.post(path, json=body, headers=headers)
        return response

    def open_run(self) -> dict[str, Any]:
        """With as many seats as a run can have."""
        starts_at = (datetime.now(UTC) + timedelta(days=3)).isoformat()
        body = {"experience_id": str(self._experience), "starts_at": starts_at}
        made = self.post("/event-runs", body | {"max_seats": SEATS, "price_inr": PRICE_INR}, self.host.token, _key())
        assert made.status_code == 201, made.text
        run: dict[str, Any] = made.json()
        return run

    def book(self, run: dict[str, Any], by: Attendee, key: str, seats: int = 1) -> httpx.Response:
        return self.post("/bookings/create", {"event_run_id": run["id"], "seats": seats}, by.token, key)

    def spent(self) -> Spent:
        """What the server's requests took, since this was asked last."""
        self._asked.send("taken")
        return self._asked.recv()  # type: ignore[no-any-return]


@contextmanager
def served(attendees: int) -> Iterator[Site]:
    """A site on a new chain, a new contract and empty tables. Nothing is left of it."""
    rpc_url, stop = start_anvil("--chain-id", str(CHAIN_ID))
    try:
        w3, platform = Web3(Web3.HTTPProvider(rpc_url)), Account.create()
        w3.provider.make_request(RPCEndpoint("anvil_setBalance"), [platform.address, hex(10**24)])
        given = {"blockchain_rpc_url": rpc_url, "chain_id": CHAIN_ID, "confirmations": 1}
        with temporary_deployment(None, platform_private_key=platform.key.to_0x_hex(), **given) as settings:
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
    """What came of it. wrong: what must not be; empty when all is well."""

    requests: int
    sold: int
    refused: Counter[str]
    seconds: float
    wrong: list[str]


def race(site: Site, seats: int, connections: int, seed: int = 0) -> Race:
    """All attendees of the site want one of the last seats of a run, at once. Each asks twice under one key; when, is
    left to chance."""
    run, chance = site.open_run(), random.Random(seed)
    if seats < SEATS:
        assert site.book(run, site.early, _key(), SEATS - seats).status_code == 201
    asks = [(attendee, f"race-{number}") for number, attendee in enumerate(site.attendees)] * 2
    chance.shuffle(asks)
    began = time.perf_counter()
    with ThreadPoolExecutor(connections) as threads:
        answers = list(threads.map(lambda ask: (ask[1], site.book(run, *ask)), asks))
    seconds = time.perf_counter() - began
    by_key = defaultdict[str, list[httpx.Response]](list)
    for key, answer in answers:
        by_key[key].append(answer)
    wrong = [
        f"{key} is answered with {one.status_code} {one.text} and {other.status_code} {other.text}"
        for key, (one, other) in by_key.items()
        if (one.status_code, one.content) != (other.status_code, other.content)
    ]
    sold = [one.json() for one, _ in by_key.values() if one.status_code == 201]
    refused = Counter(_reason(one) for one, _ in by_key.values() if one.status_code != 201)
    if len(sold) != seats:
        wrong.append(f"{len(sold)} seats are sold, of {seats}")
    wrong += _wrong_with_books(site, run, {booking["id"] for booking in sold})
    return Race(len(answers), len(sold), refused, seconds, wrong)


def _reason(answer: httpx.Response) -> str:
    told = answer.json()
    return f"{answer.status_code} {told.get('error', told.get('code'))}, {told.get('outcome')}"


def _wrong_with_books(site: Site, run: dict[str, Any], sold: set[str]) -> Iterator[str]:
    """Where database, chain and answers differ, or somebody paid more than once. Asked past the API."""
    services, chain = site.services, site.services.chain
    rows = [row for row in services.bookings.of_run(UUID(run["id"])) if row.blockchain_status == "confirmed"]
    there = chain.get_event_bookings(run["blockchain_event_run_id"])
    users_booked = {row.user_id for row in rows}
    if sorted(row.blockchain_booking_id or 0 for row in rows) != there or len(users_booked) != len(rows):
        yield f"{len(rows)} bookings of {len(users_booked)} users in the database, {len(there)} on chain"
    if not sold <= {str(row.id) for row in rows}:
        yield "some who were told that they have a seat have none"
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
        tried = connection.scalars(select(operations.c.attempts)).all()
    sent = [nonce for attempts in tried for nonce in {attempt["nonce"] for attempt in attempts}]
    count = services.w3.eth.get_transaction_count(chain.platform)
    if sorted(sent) != list(range(1, count)):  # 0 was the contract's
        yield f"the platform has sent {count} transactions; the operations know of {len(sent)}"
    yield from services.reconciler.dry_run().differences


# ------------------------------------------------------------------------------------------------------- throughput


def throughput(site: Site, connections: int, count: int) -> tuple[float, Spent]:
    """Seconds for so many bookings of one seat, and what they took in the server."""
    runs = [site.open_run() for _ in range(-(-count // SEATS))]
    asks = [(runs[i // SEATS], site.attendees[i % len(site.attendees)], _key()) for i in range(count)]
    site.spent()
    began = time.perf_counter()
    with ThreadPoolExecutor(connections) as threads:
        answers = list(threads.map(lambda ask: site.book(*ask), asks))
    seconds = time.perf_counter() - began
    assert {answer.status_code for answer in answers} == {201}, Counter(a.text for a in answers).most_common(3)
    return seconds, site.spent()


def shares(spent: Spent, wall: float, connections: int) -> Iterator[tuple[str, float, float, float]]:
    """Of the time between a client's question and its answer: what for, how often a booking, ms a booking, share."""
    count, inside = spent["request"]
    whole = wall * connections
    parts = {what: amount for what, amount in spent.items() if what != "request"}
    rest = inside - sum(seconds for _, seconds in parts.values())
    told = [(what, times / count, seconds) for what, (times, seconds) in parts.items()]
    told += [("the app itself: JSON, checks, waiting for its turn in Python", 1, rest)]
    told += [("client, connection and uvicorn", 1, whole - inside)]
    for what, times, seconds in sorted(told, key=lambda one: -one[2]):
        yield what, times, 1000 * seconds / count, seconds / whole


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--attendees", type=int, default=200)
    parser.add_argument("--seats", type=int, default=50)
    parser.add_argument("--bookings", type=int, default=200, help="for each number of connections")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--json", action="store_true", help="only the throughput at 4 connections, for stakesim bench")
    parser.add_argument("--lifecycles", type=int, default=20, help="with --json: 8 bookings each")
    options, console = parser.parse_args(), Console(highlight=False, soft_wrap=True)
    if options.json:
        with served(attendees=6) as site:
            throughput(site, 4, 20)
            seconds, _ = throughput(site, 4, 8 * options.lifecycles)
        told = {"transactions": 8 * options.lifecycles, "seconds": seconds, "versions": {"fastapi": version("fastapi")}}
        print(json.dumps(told))  # noqa: T201
        return 0
    with served(options.attendees) as site:
        came = race(site, options.seats, max(options.connections))
    console.print(
        f"race: {options.attendees} attendees, {options.seats} seats, {max(options.connections)} connections, "
        f"{came.requests} requests in {came.seconds:.1f} s"
    )
    console.print(f"  sold {came.sold}; refused: {dict(came.refused)}")
    console.print("  database = chain, nothing paid twice" if not came.wrong else "\n".join(came.wrong))
    with served(options.attendees) as site:
        throughput(site, 4, 20)
        for connections in options.connections:
            seconds, spent = throughput(site, connections, options.bookings)
            rate = options.bookings / seconds
            console.print(f"\n{connections} connections: {rate:.1f} bookings a second")
            for what, times, milliseconds, share in shares(spent, seconds, connections):
                console.print(f"  {share:6.1%}  {milliseconds:7.2f} ms  {times:5.1f} times  {what}")
    return 1 if came.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
