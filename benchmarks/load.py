"""Measures one service process under load, on an anvil with a block every so many seconds, and PostgreSQL.

    python benchmarks/load.py --before ../other-checkout

Clients book a seat each and wait for the answer; as many others book with `Prefer: respond-async`. Meanwhile some ask
`/ready` and `/event-runs/{id}` all the time. The service is `uvicorn --factory app.main:from_settings` in a process of
its own, with default settings. With `--before`, the backend of another checkout takes turns with this one.
"""

import argparse
import asyncio
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import psutil
from app.core.config import Settings
from app.core.security import Role, issue_token
from app.db.tables import experiences, users
from eth_account import Account
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine, create_engine, insert, text
from stakesim_adapter.serve import local_testnet

ROOT = Path(__file__).parents[1]
SEATS = 200
GETTERS = 4
PAUSE_S = 0.05


class CountingProxy:
    """Forwards TCP connections to a node, and counts the JSON-RPC calls in them."""

    def __init__(self, node: str) -> None:
        self._host, port = node.removeprefix("http://").split(":")
        self._port, self.calls, self._open = int(port), 0, 0

    @asynccontextmanager
    async def run(self) -> AsyncIterator[str]:
        """Yields the proxy's URL."""
        server = await asyncio.start_server(self._forward, "127.0.0.1")
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            while self._open:
                await asyncio.sleep(0.01)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        node_reader, node_writer = await asyncio.open_connection(self._host, self._port)

        async def pipe(source: asyncio.StreamReader, target: asyncio.StreamWriter, *, count: bool) -> None:
            while data := await source.read(65536):
                self.calls += data.count(b'"method"') if count else 0
                target.write(data)
                await target.drain()

        directions = [
            asyncio.create_task(pipe(reader, node_writer, count=True)),
            asyncio.create_task(pipe(node_reader, writer, count=False)),
        ]
        try:
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for direction in directions:
                direction.cancel()
            await asyncio.gather(*directions, return_exceptions=True)
            writer.close()
            node_writer.close()
            self._open -= 1


@dataclass
class Measured:
    """What one round measured. Times in seconds."""

    waiting: list[float] = field(default_factory=list)
    not_waiting: list[float] = field(default_factory=list)
    gets: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    confirmed: int = 0
    seconds: float = 0
    calls: int = 0
    cpu_seconds: float = 0

    def rows(self) -> list[tuple[str, str]]:
        """Returns names and values for the table."""
        bookings = max(self.confirmed, 1)
        return [
            ("bookings confirmed", str(self.confirmed)),
            ("bookings confirmed per second", f"{self.confirmed / self.seconds:.2f}"),
            ("booking and waiting, p50 / p95 / p99 s", percentiles(self.waiting, 1)),
            ("booking without waiting, p50 / p95 / p99 s", percentiles(self.not_waiting, 1)),
            ("GET, p50 / p95 / p99 ms", percentiles(self.gets, 1000)),
            ("GETs", str(len(self.gets))),
            ("RPC calls per booking", f"{self.calls / bookings:.1f}"),
            ("CPU ms per booking", f"{1000 * self.cpu_seconds / bookings:.1f}"),
            ("responses", ", ".join(f"{status}: {count}" for status, count in sorted(self.statuses.items()))),
        ]


def percentiles(values: list[float], factor: float) -> str:
    if not values:
        return "none"
    ordered = sorted(values)
    return " / ".join(
        f"{factor * ordered[min(int(len(ordered) * q), len(ordered) - 1)]:.2f}" for q in (0.5, 0.95, 0.99)
    )


@dataclass
class Load:
    """Clients of one service."""

    client: httpx.AsyncClient
    database: Engine
    jwt_secret: SecretStr
    deadline: float
    measured: Measured = field(default_factory=Measured)
    finished: bool = False

    def headers(self, user: UUID, role: Role, **more: str) -> dict[str, str]:
        token = issue_token(self.jwt_secret, user, role, timedelta(hours=1))
        return {"Authorization": f"Bearer {token}", "Idempotency-Key": str(uuid4()), **more}

    async def open_runs(self, count: int, host: UUID, experience: UUID) -> list[str]:
        """Creates runs, and returns their ids when they are final."""
        for _ in range(count):
            body = {
                "experience_id": str(experience),
                "starts_at": (datetime.now(UTC) + timedelta(days=2)).isoformat(),
                "max_seats": SEATS,
                "price_inr": "100.00",
            }
            headers = self.headers(host, "host", Prefer="respond-async")
            response = await self.client.post("/event-runs", json=body, headers=headers)
            response.raise_for_status()
        await self.wait_for("createEventRun%", count)
        with self.database.connect() as connection:
            return [str(run) for run in connection.execute(text("SELECT id FROM event_runs")).scalars()]

    async def wait_for(self, kind: str, count: int) -> tuple[int, float]:
        """Waits until so many operations are confirmed, or the time is over.

        Returns:
            How many are confirmed, and when the last of them was seen.
        """
        confirmed, seen_at = 0, time.perf_counter()
        query = text("SELECT count(*) FROM operations WHERE kind LIKE :kind AND state = 'confirmed'")
        while confirmed < count and time.monotonic() < self.deadline:
            await asyncio.sleep(0.2)
            with self.database.connect() as connection:
                now_confirmed = connection.execute(query, {"kind": kind}).scalar_one()
            if now_confirmed != confirmed:
                confirmed, seen_at = now_confirmed, time.perf_counter()
        return confirmed, seen_at

    async def book(self, run: str, attendee: UUID, times: list[float], **headers: str) -> None:
        started = time.perf_counter()
        body = {"event_run_id": run, "seats": 1}
        try:
            response = await self.client.post(
                "/bookings/create", json=body, headers=self.headers(attendee, "attendee", **headers)
            )
            self.measured.statuses[f"POST {response.status_code}"] += 1
            times.append(time.perf_counter() - started)
        except httpx.HTTPError as error:
            self.measured.statuses[f"POST {type(error).__name__}"] += 1

    async def get(self, run: str, user: UUID) -> None:
        """Asks `/ready` and the run in turns until the bookings are over."""
        while not self.finished:
            for path in ("/ready", f"/event-runs/{run}"):
                started = time.perf_counter()
                try:
                    response = await self.client.get(path, headers=self.headers(user, "attendee"))
                    self.measured.statuses[f"GET {response.status_code}"] += 1
                except httpx.HTTPError as error:
                    self.measured.statuses[f"GET {type(error).__name__}"] += 1
                self.measured.gets.append(time.perf_counter() - started)
                await asyncio.sleep(PAUSE_S)


@asynccontextmanager
async def service(checkout: Path, environment: dict[str, str]) -> AsyncIterator[tuple[str, psutil.Process]]:
    """Starts uvicorn with the backend of a checkout, and yields its URL and process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    paths = os.pathsep.join(str(checkout / part) for part in ("backend", "harness"))
    command = [sys.executable, "-m", "uvicorn", "--factory", "app.main:from_settings", "--port", str(port)]
    with tempfile.TemporaryDirectory() as directory, Path(directory, "log").open("w+") as log:
        process = subprocess.Popen(
            [*command, "--no-access-log", "--log-level", "error"],
            cwd=directory,
            env={**os.environ, **environment, "PYTHONPATH": paths},
            stdout=log,
            stderr=log,
        )
        try:
            url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 60
            while True:
                try:
                    await asyncio.to_thread(httpx.get, f"{url}/health", trust_env=False)
                    break
                except httpx.HTTPError:
                    if process.poll() is not None or time.monotonic() > deadline:
                        log.seek(0)
                        raise SystemExit(f"The service of {checkout} does not start: {log.read()[-2000:]}") from None
                    await asyncio.sleep(0.1)
            yield url, psutil.Process(process.pid)
        finally:
            process.terminate()
            try:
                await asyncio.to_thread(process.wait, 20)
            except subprocess.TimeoutExpired:
                process.kill()


def environment_of(settings: Settings, rpc_url: str) -> dict[str, str]:
    """Returns the environment of a service on these settings, and on other URLs of the node."""
    return {
        "BLOCKCHAIN_RPC_URL": rpc_url,
        "PAYMENTS": "none",
        "CHAIN_ID": str(settings.chain_id),
        "CONTRACT_ADDRESS": settings.contract_address,
        "PLATFORM_PRIVATE_KEY": settings.platform_private_key.get_secret_value(),
        "JWT_SECRET": settings.jwt_secret.get_secret_value(),
        "DATABASE_URL": settings.database_url or "",
        "ETH_PRICE_INR": "200000",
        "ETH_PRICE_INR_AS_OF": datetime.now(UTC).isoformat(),
    }


async def measure(checkout: Path, block_time: int, clients: int, limit: float) -> Measured:
    """Runs one round."""
    async with AsyncExitStack() as stack:
        settings = stack.enter_context(local_testnet(block_time))
        proxy = CountingProxy(settings.blockchain_rpc_url)
        environment = environment_of(settings, await stack.enter_async_context(proxy.run()))
        url, process = await stack.enter_async_context(service(checkout, environment))
        database = create_engine(settings.database_url or "")
        stack.callback(database.dispose)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        client = httpx.AsyncClient(base_url=url, timeout=limit, limits=limits, trust_env=False)
        await stack.enter_async_context(client)
        load = Load(client, database, settings.jwt_secret, time.monotonic() + limit)
        host, attendees, experience = insert_people(database, 2 * clients)
        runs = await load.open_runs(-(-2 * clients // SEATS), host, experience)
        measured, calls, cpu = load.measured, proxy.calls, process.cpu_times()
        began, load.deadline = time.perf_counter(), time.monotonic() + limit
        getters = [asyncio.create_task(load.get(runs[0], host)) for _ in range(GETTERS)]
        bookings = []
        for number, attendee in enumerate(attendees):
            run = runs[number % len(runs)]
            if number % 2:
                bookings.append(load.book(run, attendee, measured.waiting))
            else:
                bookings.append(load.book(run, attendee, measured.not_waiting, Prefer="respond-async"))
        answers = asyncio.gather(*bookings)
        measured.confirmed, ended = await load.wait_for("bookEvent%", 2 * clients)
        measured.seconds, measured.calls = max(ended - began, 0.001), proxy.calls - calls
        after = process.cpu_times()
        measured.cpu_seconds = after.user + after.system - cpu.user - cpu.system
        load.finished = True
        await asyncio.gather(answers, *getters)
        return measured


def insert_people(database: Engine, count: int) -> tuple[UUID, list[UUID], UUID]:
    """Inserts a host, attendees and an experience, and returns their ids."""
    with database.begin() as connection:

        def user(name: str) -> UUID:
            row = {"name": name, "wallet_address": Account.create(secrets.token_hex(8)).address}
            return connection.execute(insert(users).returning(users.c.id), row).scalar_one()

        host, attendees = user("host"), [user(f"attendee {number}") for number in range(count)]
        row = {"host_id": host, "title": "Pottery"}
        experience = connection.execute(insert(experiences).returning(experiences.c.id), row).scalar_one()
    return host, attendees, experience


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="another checkout, measured in turns with this one")
    parser.add_argument("--only", choices=["before", "after"], help="measure one of the two only")
    parser.add_argument("--clients", type=int, default=200, help="clients that wait, and as many that do not")
    parser.add_argument("--limit", type=float, default=900, help="seconds after which a round ends")
    parser.add_argument("--block-times", default="1,12", help="seconds between two blocks, separated by commas")
    arguments = parser.parse_args()
    checkouts = {"before": arguments.before and arguments.before.resolve(), "after": ROOT}
    checkouts = {name: path for name, path in checkouts.items() if path and arguments.only in (None, name)}
    console = Console(width=160)
    for block_time in map(int, arguments.block_times.split(",")):
        table = Table(title=f"a block every {block_time} s, {arguments.clients} waiting and {arguments.clients} not")
        table.add_column("")
        columns = []
        for name, checkout in checkouts.items():
            table.add_column(name, justify="right")
            columns.append(asyncio.run(measure(checkout, block_time, arguments.clients, arguments.limit)).rows())
        for cells in zip(*columns, strict=True):
            table.add_row(cells[0][0], *(value for _, value in cells))
        console.print(table)


if __name__ == "__main__":
    main()
