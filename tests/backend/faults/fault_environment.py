"""A chain that mines on command, a connection to it with faults, and the invariants after each fault."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from app.bootstrap.services import Services, build_services
from app.core.units import WEI_PER_GWEI as GWEI
from app.db.database import Database
from app.db.tables import experiences, nonces, users
from app.services import operations
from app.services.blockchain_service import BlockchainService
from app.services.codec import event_stake_codec
from app.services.operation_types import Operation
from app.services.pricing import Pricing, Rate
from app.services.transactions.policy import TransactionPolicy
from app.services.transactions.sender import TransactionSender
from backend_environment import DAY, Feed
from eth_account.signers.local import LocalAccount
from eth_utils.crypto import keccak
from hexbytes import HexBytes
from sqlalchemy import insert, select, text
from stakesim.evm.anvil import AnvilEngine
from web3 import HTTPProvider, Web3
from web3.exceptions import TransactionNotFound
from web3.providers import JSONBaseProvider
from web3.types import RPCEndpoint, RPCResponse, TxReceipt

SEND = "eth_sendRawTransaction"
POLICY = TransactionPolicy(
    confirmations=3,
    max_fee_per_gas=200 * GWEI,
    resend_after=0,  # each step sends again what is not mined, so that a second transaction becomes visible at once
    bump_after=3600,
    bump_blocks=0,  # a test that is about blocks sets it
    give_up_after=5,
    max_pause=0.02,
    looks_before_rejecting=True,
)

Forward = Callable[[], Any]
Fault = Callable[[str, Any, Forward], Any]
"""Answers a request in the node's place. Arguments: method, parameters, and a function that passes the request on."""


class Killed(BaseException):
    """Simulates the end of the process; production code does not catch it."""


class NodeConnection(JSONBaseProvider):
    """A connection to a node, which passes requests through `fault` if there is one.

    It checks that each transaction is stored before it is sent.

    Attributes:
        fault: Answers requests in the node's place; None passes them on.
        sent: The raw transactions in order, including lost ones.
    """

    def __init__(self, node: JSONBaseProvider, database: Database) -> None:
        super().__init__()
        self._node, self._database = node, database
        self.fault: Fault | None = None
        self.sent: list[str] = []

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        if method == SEND:
            raw = HexBytes(params[0]).to_0x_hex()
            self.sent.append(raw)
            assert is_stored(self._database, hash_of(raw)), "sent before it was stored"
        response: RPCResponse
        if self.fault is None:
            response = self._node.make_request(method, params)
        else:
            response = self.fault(method, params, lambda: self._node.make_request(method, params))
        return response


@dataclass
class FaultEnvironment:
    """The backend on a chain and a database; `worker` returns it as another process would open it.

    Attributes:
        foreign: Hashes of the platform's transactions that the service did not send.
        opened: The services of all workers.
    """

    engine: AnvilEngine
    address: str
    database: Database
    feed: Feed
    connection: NodeConnection
    services: Services
    ids: dict[str, UUID] = field(default_factory=dict)
    foreign: set[str] = field(default_factory=set)
    opened: list[Services] = field(default_factory=list)

    @property
    def w3(self) -> Web3:
        """The node, without the connection with faults."""
        return self.engine.w3

    @property
    def platform(self) -> LocalAccount:
        return self.engine.accounts[0]

    # ----------------------------------------------------------------------------------------------- the service

    def worker(
        self, provider: JSONBaseProvider | None = None, clock: Callable[[], float] = time.monotonic, **policy: Any
    ) -> FaultEnvironment:
        """Returns the service of another process, which shares node and database only."""
        connection = NodeConnection(provider or http(self.engine), self.database)
        w3 = Web3(connection, [])
        sender = TransactionSender(w3, self.platform, self.database, replace(POLICY, **policy), clock=clock)
        chain = BlockchainService(w3, self.address, sender)
        services = build_services(w3, self.database, chain, self.services.pricing)
        self.opened.append(services)
        return replace(self, connection=connection, services=services)

    def stop_followers(self) -> None:
        """Ends the threads that follow operations, so that none of them writes after its test."""
        for follower in (services.follower for services in (self.services, *self.opened)):
            follower.stop()
            for pool in (follower._senders, follower._steppers):
                if pool is not None:
                    pool.shutdown(wait=True)
            if follower._thread is not None:
                follower._thread.join(30)

    def prepare_run(
        self, seats: int = 4, inr: int = 20_000, idempotency_key: str | None = None, **options: Any
    ) -> Operation:
        starts_at = self.now() + 3 * DAY
        host, title = self.ids["host"], self.ids["experience"]
        return self.services.runs.prepare_create(
            host, title, starts_at, seats, Decimal(inr), idempotency_key=idempotency_key, **options
        )

    def open_run(self, seats: int = 4) -> UUID:
        """Returns the id of a run whose creation is final."""
        subject = self.settle(self.prepare_run(seats)).subject
        assert subject is not None
        return subject

    def prepare_booking(
        self, run: UUID, seats: int = 1, idempotency_key: str | None = None, **options: Any
    ) -> Operation:
        return self.services.bookings.prepare_book(
            run, self.ids["attendee"], seats, idempotency_key=idempotency_key, **options
        )

    def step(self, operation: Operation) -> Operation:
        after = self.services.sender.step(operation)
        self._final_only_when_deep(after)
        return after

    def follow(self, operation: Operation) -> Operation:
        """Steps the operation until its state no longer changes without a new block."""
        while not operation.closed:
            after = self.step(operation)
            if after.state == operation.state:
                return after
            operation = after
        return operation

    def settle(self, operation: Operation) -> Operation:
        """Mines blocks and steps the operation until it is closed; fails if it does not close."""
        for _ in range(20):
            operation = self.follow(operation)
            if operation.closed:
                return operation
            self.mine()
        raise AssertionError(f"{operation.kind} is {operation.state} for ever: {operation.held}")

    def find(self, operation: Operation) -> Operation:
        with self.database.transaction() as connection:
            stored = operations.find(connection, operation.key)
        assert stored is not None
        return stored

    # ------------------------------------------------------------------------------------------------- the chain

    def rpc(self, method: str, *params: Any) -> Any:
        return self.w3.manager.request_blocking(RPCEndpoint(method), list(params))

    def mine(self, blocks: int = 1) -> None:
        for _ in range(blocks):
            self.rpc("evm_mine")

    def mine_at(self, base_fee: int) -> None:
        self.rpc("hardhat_setNextBlockBaseFeePerGas", hex(base_fee))
        self.mine()

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.engine.now(), UTC)

    def count(self) -> int:
        """Returns the number of the platform's transactions in the latest block."""
        return self.w3.eth.get_transaction_count(self.platform.address)

    def pool(self) -> int:
        status = self.rpc("txpool_status")
        return int(status["pending"], 16) + int(status["queued"], 16)

    def receipt(self, operation: Operation, attempt: int = -1) -> TxReceipt:
        return self.w3.eth.get_transaction_receipt(operation.attempts[attempt].tx_hash)

    def sign_foreign(self, nonce: int, fee: int = 20 * GWEI, tip: int = 2 * GWEI) -> str:
        """Sends a transaction without effect with the platform's key, without the service."""
        raw = self._sign(self.platform, nonce, self.platform.address, b"", fee, tip)
        self.foreign.add(hash_of(raw))
        return raw

    def send_foreign(self, nonce: int, fee: int = 20 * GWEI, tip: int = 2 * GWEI) -> str:
        return HexBytes(self.rpc(SEND, self.sign_foreign(nonce, fee, tip))).to_0x_hex()

    def send_as(self, account: int, function: str, *args: Any) -> None:
        """Sends a contract call of another account, with a priority fee that puts it first in the block."""
        self.rpc(SEND, self.sign_as(account, function, *args))

    def sign_as(self, account: int, function: str, *args: Any, value: int = 0) -> str:
        """Returns a signed contract call of another account."""
        call = event_stake_codec().call(Web3.to_checksum_address(self.address), function, *args)
        sender = self.engine.accounts[account]
        nonce = self.w3.eth.get_transaction_count(sender.address)
        return self._sign(sender, nonce, call.to, call.data, 50 * GWEI, 20 * GWEI, value)

    def _sign(self, account: LocalAccount, nonce: int, to: str, data: bytes, fee: int, tip: int, value: int = 0) -> str:
        fields = {"type": 2, "chainId": self.w3.eth.chain_id, "to": to, "data": data, "value": value, "nonce": nonce}
        fees = {"gas": 400_000, "maxFeePerGas": fee, "maxPriorityFeePerGas": tip}
        return account.sign_transaction(fields | fees).raw_transaction.to_0x_hex()

    def reorg(self, depth: int, *transactions: tuple[str, int]) -> None:
        """Replaces the latest blocks by empty ones with these raw transactions, each in the block of this index."""
        self.rpc("anvil_reorg", depth, [list(pair) for pair in transactions])

    # ----------------------------------------------------------------------------------------------- invariants

    def status(self, operation: Operation) -> str:
        """Returns the on-chain status of the row that the operation creates."""
        services: dict[str, Any] = {"createEventRunFor": self.services.runs, "bookEventFor": self.services.bookings}
        return str(services[operation.kind].get(operation.subject).blockchain_status)

    def _final_only_when_deep(self, operation: Operation) -> None:
        """I5: a row is pending exactly while its operation is open."""
        row = {"confirmed": "confirmed", "failed": "failed", "rejected": "failed"}.get(operation.state, "pending")
        assert operation.kind not in ("createEventRunFor", "bookEventFor") or self.status(operation) == row
        if operation.closed and operation.tx_hash:
            receipt = self.w3.eth.get_transaction_receipt(operation.tx_hash)  # type: ignore[arg-type]
            assert receipt["blockHash"].to_0x_hex() == operation.block_hash
            assert self.w3.eth.block_number - receipt["blockNumber"] + 1 >= POLICY.confirmations

    def created(self) -> dict[str, int]:
        """Counts the contract's creation events, without the service's code."""
        signatures = {
            "runs": "EventRunCreated(uint256,address,string,uint256,uint256,uint256)",
            "bookings": "BookingCreated(uint256,uint256,address,uint256,uint256,uint256)",
        }
        logs = self.w3.eth.get_logs({"address": Web3.to_checksum_address(self.address), "fromBlock": 0})
        topics = [log["topics"][0].to_0x_hex() for log in logs]
        return {name: topics.count(keccak_hex(signature)) for name, signature in signatures.items()}

    def check(self, runs: int, bookings: int = 0) -> None:
        """Checks that no operation is open, and that chain and confirmed rows have so many runs and bookings."""
        assert self.created() == {"runs": runs, "bookings": bookings}
        confirmed = [row for row in self.services.runs.list_all() if row.blockchain_status == "confirmed"]
        booked = [row for row in self.services.bookings.list_all() if row.blockchain_status == "confirmed"]
        assert (len(confirmed), len(booked)) == (runs, bookings)

        everything = all_operations(self.database)
        on_chain = self._transactions()
        for operation in everything:  # I1, I2, I7
            mine = {tx_hash: receipt for tx_hash, receipt in on_chain.items() if tx_hash in hashes_of(operation)}
            no_effect = {attempt.tx_hash for attempt in operation.attempts if attempt.no_effect}
            assert all(not receipt["logs"] for tx_hash, receipt in mine.items() if tx_hash in no_effect)
            did = [tx_hash for tx_hash, receipt in mine.items() if receipt["status"] == 1 and tx_hash not in no_effect]
            assert operation.closed
            assert did == ([operation.tx_hash] if operation.state == "confirmed" else [])
            assert (len(operation.attempts) > 0) == (operation.state != "rejected")
            for attempt in operation.attempts:
                assert (
                    attempt.priority_fee_per_gas
                    <= attempt.max_fee_per_gas
                    <= self.services.sender.policy.max_fee_per_gas
                )
            assert all(r["effectiveGasPrice"] <= POLICY.max_fee_per_gas for r in mine.values())
        stored_hashes = all_hashes(self.database)
        assert set(on_chain) <= stored_hashes | self.foreign  # I3
        assert {hash_of(raw) for raw in self.connection.sent} <= stored_hashes
        taken = [operation.nonce for operation in everything if operation.nonce is not None]
        assert len(taken) == len(set(taken))  # I4
        assert self.w3.eth.get_transaction_count(self.platform.address, "pending") == self.count()
        with self.database.transaction() as connection:
            following = connection.execute(select(nonces.c.next)).scalar_one_or_none()
        assert following is None or following == self.count() or self.foreign
        assert self.pool() == 0
        report = self.worker().services.reconciler.dry_run()  # I6
        assert (report.differences, report.pending) == ([], [])

    def _transactions(self) -> dict[str, TxReceipt]:
        """Returns the receipts of the platform's transactions since the deployment, by hash."""
        receipts: dict[str, TxReceipt] = {}
        for number in range(2, self.w3.eth.block_number + 1):
            for transaction in self.w3.eth.get_block(number, full_transactions=True)["transactions"]:
                if not isinstance(transaction, bytes) and transaction["from"] == self.platform.address:
                    receipts[transaction["hash"].to_0x_hex()] = self.w3.eth.get_transaction_receipt(transaction["hash"])
        return receipts


# ----------------------------------------------------------------------------------------------------------- faults


def first(times: int, fault: Fault, *methods: str) -> Fault:
    """Returns a fault that occurs for the first requests of these methods only."""
    remaining = [times]

    def only(method: str, params: Any, forward: Forward) -> Any:
        if method not in (methods or (SEND,)) or remaining[0] == 0:
            return forward()
        remaining[0] -= 1
        return fault(method, params, forward)

    return only


def node_error(message: str, code: int = -32000) -> Fault:
    """Returns a fault that answers with a node's error; the request does not reach the node."""
    return lambda method, params, forward: refusal(message, code)


def after_the_request(fault: Fault, mined_in: FaultEnvironment | None = None) -> Fault:
    """Returns a fault that replaces the answer; the request reaches the node.

    Args:
        fault: Replaces the answer.
        mined_in: Where the transaction is waited for: a node that mines by itself does so a moment after it has
            answered. None: it is not.
    """

    def after(method: str, params: Any, forward: Forward) -> Any:
        sent = forward()
        while mined_in is not None and mined_in.rpc("eth_getTransactionReceipt", sent["result"]) is None:
            time.sleep(0.001)
        return fault(method, params, forward)

    return after


def raising(error: BaseException) -> Fault:
    def fault(method: str, params: Any, forward: Forward) -> Any:
        raise error

    return fault


def before_the_request(action: Callable[[], Any]) -> Fault:
    """Returns a fault that runs an action just before the request reaches the node."""

    def fault(method: str, params: Any, forward: Forward) -> Any:
        action()
        return forward()

    return fault


def refusal(message: str, code: int = -32000) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 0, "error": {"code": code, "message": message}}


def result(value: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 0, "result": value}


@contextmanager
def dying(connection: NodeConnection, fault: Fault) -> Iterator[None]:
    """Expects the process to end inside, as by kill -9."""
    connection.fault = fault
    try:
        yield
    except Killed:
        return
    finally:
        connection.fault = None
    raise AssertionError("It lived on.")


# -------------------------------------------------------------------------------------------------------- small help


def http(engine: AnvilEngine) -> HTTPProvider:
    provider: Any = engine.w3.provider
    return HTTPProvider(provider.endpoint_uri, {"timeout": 30}, exception_retry_configuration=None)


def hash_of(raw: str) -> str:
    return "0x" + keccak(HexBytes(raw)).hex()


def keccak_hex(text: str) -> str:
    return "0x" + keccak(text=text).hex()


def hashes_of(operation: Operation) -> list[str]:
    return [attempt.tx_hash for attempt in operation.attempts]


def all_operations(database: Database) -> list[Operation]:
    with database.transaction() as connection:
        table = operations.operations
        return [Operation.from_row(row) for row in connection.execute(select(table).order_by(table.c.created_at))]


STORED = "SELECT EXISTS (SELECT FROM operations WHERE attempts @> jsonb_build_array(jsonb_build_object('hash', "


def is_stored(database: Database, tx_hash: str) -> bool:
    """Whether any operation has this transaction, however many operations there are."""
    with database.transaction() as connection:
        statement = text(f"{STORED}CAST(:tx_hash AS text))))")
        return bool(connection.execute(statement, {"tx_hash": tx_hash}).scalar_one())


def all_hashes(database: Database) -> set[str]:
    return {tx_hash for operation in all_operations(database) for tx_hash in hashes_of(operation)}


def open_environment(engine: AnvilEngine, address: str, database: Database) -> FaultEnvironment:
    def clock() -> datetime:
        return datetime.fromtimestamp(engine.now(), UTC)

    feed = Feed(Rate(Decimal(200_000), clock()))
    node_connection = NodeConnection(http(engine), database)
    w3 = Web3(node_connection, [])
    sender = TransactionSender(w3, engine.accounts[0], database, POLICY)
    chain = BlockchainService(w3, Web3.to_checksum_address(address), sender)
    environment = FaultEnvironment(
        engine, address, database, feed, node_connection, build_services(w3, database, chain, Pricing(feed, clock))
    )
    with database.transaction() as connection:
        for role, account in (("host", engine.accounts[1]), ("attendee", engine.accounts[2])):
            row = {"name": role, "wallet_address": account.address}
            environment.ids[role] = connection.execute(insert(users).returning(users.c.id), row).scalar_one()
        experience = {"host_id": environment.ids["host"], "title": "Pottery"}
        environment.ids["experience"] = connection.execute(
            insert(experiences).returning(experiences.c.id), experience
        ).scalar_one()
    environment.rpc("evm_setAutomine", False)
    return environment


def effects(environment: FaultEnvironment) -> Counter[str]:
    """Counts transactions with an effect, by operation: each has at most one."""
    counts: Counter[str] = Counter()
    for operation in all_operations(environment.database):
        for attempt in operation.attempts:
            with suppress(TransactionNotFound):
                receipt = environment.w3.eth.get_transaction_receipt(attempt.tx_hash)  # type: ignore[arg-type]
                counts[operation.key] += receipt["status"] == 1 and not attempt.no_effect
    return counts
