"""Measures bookings through one, two and four lanes, on an anvil with a block every so many seconds, and PostgreSQL.

    python benchmarks/lanes.py
    python benchmarks/lanes.py --stuck
    python benchmarks/lanes.py --database

Orders wait at the beginning, and go through the services and the follower of one process. With `--stuck`, the
transactions of the last lane are accepted and never mined. `--database` measures the database alone, without a node:
bookings stored, signed and closed by the services' own statements.
"""

import argparse
import itertools
import os
import statistics
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from app.bootstrap.services import build_services
from app.core.units import WEI_PER_GWEI
from app.db.database import Database, create_database, drop_database
from app.db.embedded import default_data_dir, start_embedded
from app.db.migrations import migrate
from app.db.tables import event_run_bookings, event_runs, experiences, users
from app.services import nonce_queries, operations, projections
from app.services.blockchain_service import BlockchainService
from app.services.codec import event_stake_codec
from app.services.operation_types import Attempt, Draft, NewRow
from app.services.pricing import Pricing, Rate
from app.services.transactions.limits import Sealer
from app.services.transactions.policy import TransactionPolicy
from app.services.transactions.sender import TransactionSender
from eth_account import Account
from rich.console import Console
from rich.table import Table
from sqlalchemy import insert, text
from stakesim.evm.anvil import start_anvil
from stakesim.evm.contract_file import production_contract
from stakesim.scenario.actions import Terms
from web3 import HTTPProvider, Web3
from web3.providers import JSONBaseProvider

SEND = "eth_sendRawTransaction"
DAY = timedelta(days=1)
SEATS = 100


class Network(JSONBaseProvider):
    """A node that loses all transactions of one account, as a stand-in for a lane that is stuck for good."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._node, self.lost = HTTPProvider(url, {"timeout": 30}), ""

    def make_request(self, method: Any, params: Any) -> Any:
        if method == SEND and self.lost and Account.recover_transaction(params[0]) == self.lost:
            return {"jsonrpc": "2.0", "id": 1, "result": Web3.keccak(hexstr=params[0]).to_0x_hex()}
        return self._node.make_request(method, params)


class Feed:
    def latest(self) -> Rate:
        return Rate(Decimal(200_000), datetime.now(UTC))


def deploy(w3: Web3, owner: Any, operators: list[Any]) -> str:
    artifact = production_contract()
    contract = w3.eth.contract(abi=artifact.abi, bytecode=artifact.bytecode)
    nonce = itertools.count(w3.eth.get_transaction_count(owner.address))

    def send(call: Any) -> Any:
        fields = {"from": owner.address, "nonce": next(nonce), "maxFeePerGas": 10**10, "maxPriorityFeePerGas": 10**9}
        signed = owner.sign_transaction(call.build_transaction(fields))
        return w3.eth.send_raw_transaction(signed.raw_transaction)

    receipt = w3.eth.wait_for_transaction_receipt(send(contract.constructor(owner.address, Terms().as_struct())))
    deployed = w3.eth.contract(receipt["contractAddress"], abi=artifact.abi)
    hashes = [send(deployed.functions.setOperator(each.address, True)) for each in operators]
    for tx_hash in hashes:
        w3.eth.wait_for_transaction_receipt(tx_hash)
    return str(receipt["contractAddress"])


def measure(lanes: int, bookings: int, block_s: float, stuck: bool) -> dict[str, Any]:
    accounts = [Account.from_key(f"0x{10**20 + number:064x}") for number in range(lanes + 1)]
    owner, *senders = accounts
    url, stop = start_anvil("--block-time", str(block_s), "--gas-limit", "60000000")
    server, name = start_embedded(default_data_dir()), f"benchmark_lanes_{os.getpid()}"
    engine = create_database(server, name)
    try:
        migrate(engine)
        network = Network(url)
        w3 = Web3(network, [])
        for account in accounts:
            HTTPProvider(url).make_request("anvil_setBalance", [account.address, hex(10**24)])  # type: ignore[arg-type]
        address = deploy(Web3(HTTPProvider(url)), owner, senders)
        database = Database(engine)
        policy = TransactionPolicy(confirmations=2, max_fee_per_gas=500 * WEI_PER_GWEI, head_max_age=1)
        sender = TransactionSender(
            w3, senders[0], database, policy, operators=senders[1:], sealer=Sealer(senders[0].address, [b"k" * 32])
        )
        services = build_services(
            w3, database, BlockchainService(w3, address, sender), Pricing(Feed(), lambda: datetime.now(UTC))
        )
        host, attendee, experience = add_people(database)
        starts_at = datetime.now(UTC) + 3 * DAY
        runs = [
            services.runs.create(host, experience, starts_at, SEATS, Decimal(100)).id
            for _ in range(-(-bookings // SEATS))
        ]
        if stuck:  # the last lane's transactions are lost from now on, the first of which stays in its way
            network.lost = senders[-1].address
        before = transactions(database)
        entered: dict[str, float] = {}
        ended: dict[str, float] = {}
        began = time.monotonic()
        prepared = []
        for number in range(bookings):
            operation = services.bookings.prepare_book(runs[number // SEATS], attendee, 1)
            entered[operation.key] = time.monotonic()
            prepared.append(operation)
        entered_in = time.monotonic() - began
        for operation in prepared:
            services.follower.send_and_follow(operation)
        lost = {each.key for each in prepared if stuck and each.sender == senders[-1].address}
        expected = entered.keys() - (lost if lanes > 1 else set())  # of one lane that is stuck, see that nothing ends
        deadline = time.monotonic() + (20 if lost and lanes == 1 else 90)
        while expected - ended.keys() and time.monotonic() < deadline:
            with database.autocommit() as connection:
                rows = {o.key for o in operations.open_operations(connection, sender.chain_id)}
            now = time.monotonic()
            for key in expected - rows - ended.keys():
                ended[key] = now
            time.sleep(0.1)
        seconds = max(ended.values(), default=time.monotonic()) - began
        latencies = sorted(at - entered[key] for key, at in ended.items()) or [float("nan")]
        services.follower.stop()
        return {
            "lanes": lanes,
            "orders": bookings,
            "of them stuck": len(lost),
            "confirmed": len(ended),
            "entered/s": f"{bookings / entered_in:.0f}",
            "confirmed/s": f"{len(ended) / seconds:.1f}",
            "p50 s": f"{statistics.median(latencies):.1f}",
            "p95 s": f"{latencies[int(len(latencies) * 0.95) - 1]:.1f}",
            "transactions/booking": f"{(transactions(database) - before) / bookings:.1f}",
        }
    finally:
        stop()
        engine.dispose()
        drop_database(server, name)


def add_people(database: Database) -> tuple[UUID, UUID, UUID]:
    """Returns the ids of a host, an attendee, and the host's experience."""
    add_user, add_experience = insert(users).returning(users.c.id), insert(experiences).returning(experiences.c.id)
    with database.transaction() as connection:
        host, guest = (
            connection.execute(add_user, {"name": f"user {number}", "wallet_address": f"0x{number:040x}"}).scalar_one()
            for number in (0x11, 0x22)
        )
        experience = connection.execute(add_experience, {"host_id": host, "title": "Pottery"}).scalar_one()
    return host, guest, experience


def transactions(database: Database) -> int:
    """Returns how many transactions the database has ended; the services' are of one statement, but for a few."""
    time.sleep(1.5)  # PostgreSQL counts them with a delay
    counted = text("SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()")
    with database.autocommit() as connection:
        return int(connection.execute(counted).scalar_one())


def measure_database(bookings: int) -> dict[str, Any]:
    """Stores, signs and closes bookings with the services' statements, one after another in one connection."""
    server, name = start_embedded(default_data_dir()), f"benchmark_lanes_{os.getpid()}"
    engine = create_database(server, name)
    try:
        migrate(engine)
        database, sender = Database(engine), "0x" + "a" * 40
        host, attendee, experience = add_people(database)
        row = {"experience_id": experience, "host_id": host, "starts_at": datetime.now(UTC) + DAY, "max_seats": 10**6}
        row |= {"seats_booked": 0, "price_inr": 100, "status": "active", "blockchain_event_run_id": 1}
        row |= {"blockchain_status": "confirmed", "blockchain_block": 0, "refreshed_block": 0, "refresh_due": False}
        with database.transaction() as connection:
            run = connection.execute(insert(event_runs).values(row).returning(event_runs.c.id)).scalar_one()
        call = event_stake_codec().call(Web3.to_checksum_address("0x" + "b" * 40), "bookEvent", 1, 1, value=10**15)
        before = transactions(database)
        began = time.monotonic()
        for number in range(bookings):
            new = NewRow(event_run_bookings, {"event_run_id": run, "user_id": attendee, "seats": 1, "total_inr": 120})
            with database.autocommit() as connection:
                draft = Draft(call, 1, sender, new)
                operation = operations.create(connection, f"key{number}", "", draft)
                attempt = Attempt(f"0x{number:064x}", "0x" + "ab" * 200, number, 200_000, 10**9, 10**9, 1)
                operation = nonce_queries.sign(connection, operation, attempt, number, is_exit=False)
                assert operation is not None
                operation = operations.change(connection, operation, ("signed",), state="submitted")
                block = {"tx_hash": attempt.tx_hash, "block_number": 2, "block_hash": "0x" + "c" * 64}
                operation = operations.change(connection, operation, ("submitted",), state="mined", **block)
                created = {"booking_id": number + 1, "total_payment": 10**15, "user_stake": 1}
                effects = [projections._effect_of_creation(created, attempt.tx_hash, 2)]
                columns = {**block, "gas_used": 96_687, "gas_price_wei": 1, "state": "confirmed", "error": None}
                assert operations.close(connection, operation, ("mined",), effects, in_order=True, **columns)
        seconds = time.monotonic() - began
        return {
            "bookings": bookings,
            "bookings/s": f"{bookings / seconds:.0f}",
            "transactions/booking": f"{(transactions(database) - before) / bookings:.1f}",
        }
    finally:
        engine.dispose()
        drop_database(server, name)


def show(rows: list[dict[str, Any]], title: str) -> None:
    table = Table(*rows[0], title=title)
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console(width=140).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lanes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--bookings", type=int, default=200)
    parser.add_argument("--block-seconds", type=float, default=2)
    parser.add_argument("--stuck", action="store_true", help="one lane's transactions are lost")
    parser.add_argument("--database", action="store_true", help="the database alone")
    options = parser.parse_args()
    if options.database:
        show([measure_database(2000)], "the database alone")
        return
    rows = [measure(lanes, options.bookings, options.block_seconds, options.stuck) for lanes in options.lanes]
    show(rows, f"a block every {options.block_seconds:g} s" + (", the last lane stuck" if options.stuck else ""))


if __name__ == "__main__":
    main()
