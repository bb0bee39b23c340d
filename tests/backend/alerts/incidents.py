"""What may happen at a stand-in: locks, impatient clients, blocks without room, nodes with wrong answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from uuid import UUID

import httpx
import psycopg
from app.services.codec import event_stake_codec
from eth_account import Account
from stand_in import BLOCK_GAS_LIMIT, ETH, GWEI, StandIn, wait_for
from web3 import Web3


@contextmanager
def locking(s: StandIn, table: str) -> Iterator[None]:
    """A person's session has locked a table in a transaction, and forgot it."""
    connection = psycopg.connect(s.database_url, application_name="a forgotten console")
    connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE".encode())
    try:
        yield
    finally:
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


def sent_run(s: StandIn) -> str:
    """Orders a run, and returns the key of its operation once it was sent."""
    key = str(s.order_run().json()["key"])
    is_sent = f"SELECT 1 FROM operations WHERE key = '{key}' AND state = 'submitted'"
    wait_for(lambda: s.query(is_sent), "the run is sent")
    return key


def limit_blocks(s: StandIn, gas: int = BLOCK_GAS_LIMIT) -> None:
    s.rpc("evm_setBlockGasLimit", hex(gas))


def wait_until_orphans_are_final(s: StandIn) -> None:
    wait_for(lambda: "nonces" not in s.ready() and "orphans" in s.ready(), "the orphans are final")


@contextmanager
def answering_wrong(s: StandIn, method: str, message: str) -> Iterator[None]:
    """The endpoints answer requests of this method with an error in words that nobody foresaw."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            request = json.loads(body)
            if request["method"] == method:
                error = {"code": -32000, "message": message}
                answer = json.dumps({"jsonrpc": "2.0", "id": request["id"], "error": error}).encode()
            else:
                headers = {"Content-Type": "application/json"}
                answer = httpx.post(s.node_url, content=body, headers=headers, timeout=30).content
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
    call = event_stake_codec().call(Web3.to_checksum_address(s.contract), "cancelEvent", onchain_id)
    s.send(host, call.to, call.data, maxPriorityFeePerGas=50 * GWEI)
    s.rpc("anvil_setIntervalMining", 1)


def fall_behind(s: StandIn, blocks: int) -> None:
    """The service was down while the network mined so many blocks."""
    s.control("stop")
    s.rpc("anvil_mine", hex(blocks))
    s.control("start")
