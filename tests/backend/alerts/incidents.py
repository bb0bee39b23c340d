"""What may happen at a stand-in: locks, impatient clients, blocks without room, nodes with wrong answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from uuid import UUID

import httpx
import psycopg
from app.services.codec import event_stake_codec
from eth_account import Account
from stand_in import ETH, GWEI, StandIn, wait_for
from web3 import Web3


@contextmanager
def locking(s: StandIn, table: str, seconds: float = 3600) -> Iterator[None]:
    """Another program locks a table for so many seconds, again and again, until its session is ended."""
    connection, ended = psycopg.connect(s.database_url, application_name="a forgotten program"), threading.Event()

    def repeat() -> None:
        with suppress(psycopg.OperationalError):
            while not ended.is_set():
                connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE".encode())
                ended.wait(seconds)
                connection.commit()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        connection.close()


@contextmanager
def clients(request: Callable[[], httpx.Response], count: int = 4) -> Iterator[None]:
    """So many clients repeat a request, one after another, until the end."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(0.1):
            try:
                request()
            except httpx.TransportError:
                ended.wait(0.5)  # the service restarts

    threads = [threading.Thread(target=repeat, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join(60)


def states(s: StandIn) -> list[str]:
    return [state for (state,) in s.query("SELECT state FROM operations ORDER BY created_at")]


def open_count(s: StandIn) -> int:
    return sum(state not in ("confirmed", "failed", "rejected") for state in states(s))


def confirmed_run(s: StandIn) -> UUID:
    """Returns the id of a run that is final."""
    subject = s.order_run().json()["subject"]
    wait_for(lambda: open_count(s) == 0, "the run is final")
    return UUID(subject)


def sent_runs(s: StandIn, count: int, before_blocks_go_on: Callable[[list[str]], object]) -> list[str]:
    """Orders runs, and does something between the moment when they are sent and the next block. Returns their keys."""
    s.rpc("anvil_setIntervalMining", 0)
    keys = [str(s.order_run().json()["key"]) for _ in range(count)]
    wait_for(lambda: states(s)[-count:] == ["submitted"] * count, "the runs are sent")
    before_blocks_go_on(keys)
    s.rpc("anvil_setIntervalMining", 1)
    return keys


@contextmanager
def dropping(s: StandIn) -> Iterator[None]:
    """The network goes on without our transactions: its nodes drop them just before each block."""
    ended = threading.Event()
    methods = ("anvil_dropAllTransactions", "evm_mine")  # in one request, so that nothing comes in between
    at_once = [
        {"jsonrpc": "2.0", "id": number, "method": method, "params": []} for number, method in enumerate(methods)
    ]

    def mine() -> None:
        while not ended.is_set():
            httpx.post(s.node_url, json=at_once, timeout=30)
            ended.wait(0.5)

    s.rpc("anvil_setIntervalMining", 0)
    thread = threading.Thread(target=mine, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        s.rpc("anvil_setIntervalMining", 1)


@contextmanager
def answering_wrong(s: StandIn, method: str, message: str) -> Iterator[None]:
    """The endpoints answer requests of this method with an error in words that nobody foresaw."""

    client = httpx.Client(timeout=30)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            request = json.loads(body)
            if request["method"] == method:
                error = {"code": -32000, "message": message}
                answer = json.dumps({"jsonrpc": "2.0", "id": request["id"], "error": error}).encode()
            else:
                headers = {"Content-Type": "application/json"}
                answer = client.post(s.node_url, content=body, headers=headers).content
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for endpoint in s.endpoints:
        endpoint.lead_to(f"http://127.0.0.1:{server.server_port}")
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def let_bookings_revert(s: StandIn, count: int) -> None:
    """The host cancels a run on chain with a higher tip, while bookings of it are on their way."""
    host = Account.create()
    s.rpc("anvil_setBalance", host.address, hex(ETH))
    s.query(f"UPDATE users SET wallet_address = '{host.address}' WHERE id = '{s.ids['host']}'")
    run = confirmed_run(s)
    [(onchain_id,)] = s.query(f"SELECT blockchain_event_run_id FROM event_runs WHERE id = '{run}'")
    s.rpc("anvil_setIntervalMining", 0)
    before = len(states(s))
    for _ in range(count):
        body = {"event_run_id": str(run), "seats": 1}
        s.ask("POST", "/bookings/create", "attendee", body, Prefer="respond-async")
    wait_for(lambda: states(s)[before:].count("submitted") == count, "the bookings are sent")
    call = event_stake_codec().call(Web3.to_checksum_address(s.contract), "cancelEvent", int(onchain_id))
    s.send(host, call.to, call.data, maxPriorityFeePerGas=50 * GWEI)
    s.rpc("anvil_setIntervalMining", 1)


@contextmanager
def refusing_to_close(s: StandIn) -> Iterator[None]:
    """Somebody has added a trigger to the database that refuses what the service writes about final runs."""
    refuse = "BEGIN RAISE EXCEPTION 'runs are read-only for the audit'; END"
    s.query(f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS '{refuse.replace(chr(39), chr(39) * 2)}'")
    s.query("CREATE TRIGGER refuse BEFORE UPDATE ON event_runs FOR EACH ROW EXECUTE FUNCTION refuse()")
    try:
        yield
    finally:
        s.query("DROP FUNCTION IF EXISTS refuse() CASCADE")
