"""The services on a chain and a database, wired as in production; users are named by their role."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from app.db.database import Database
from app.db.tables import EventRun, experiences, users
from app.services.blockchain_service import BlockchainService
from app.services.booking_service import BookingService
from app.services.codec import Call, event_stake_codec
from app.services.event_run_service import EventRunService
from app.services.pricing import Pricing, Rate
from app.services.transactions.policy import TransactionPolicy
from app.services.transactions.sender import TransactionSender
from eth_account.signers.local import LocalAccount
from sqlalchemy import insert
from stakesim.evm.compiler import CONTRACTS, compile_contracts
from stakesim.evm.contract_file import load_contract
from stakesim.evm.engine import Engine, Snapshot
from stakesim.evm.engines import open_engine
from stakesim.scenario.actions import Terms
from web3 import Web3
from web3.middleware import Web3Middleware

TERMS = Terms().as_struct()
DAY = timedelta(days=1)


@dataclass
class Feed:
    """A price feed whose rate is set by the test."""

    rate: Rate | None

    def latest(self) -> Rate | None:
        return self.rate


@dataclass
class DeployedContracts:
    """A chain with the contracts of these tests by name, and the snapshot with which each test begins."""

    engine: Engine
    contracts: dict[str, str]
    start: Snapshot


@dataclass
class BackendEnvironment:
    """The services with their chain and database. `wallets`: accounts by role; `ids`: ids of users by role."""

    engine: Engine
    database: Database
    feed: Feed
    sender: TransactionSender
    chain: BlockchainService
    runs: EventRunService
    bookings: BookingService
    wallets: dict[str, LocalAccount]
    ids: dict[str, UUID] = field(default_factory=dict)

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.engine.now(), UTC)

    def set_rate(self, inr_per_eth: int) -> None:
        self.feed.rate = Rate(Decimal(inr_per_eth), self.now())

    def add_user(self, role: str, wallet: str | None) -> UUID:
        with self.database.transaction() as connection:
            row = {"name": role, "wallet_address": wallet}
            self.ids[role] = connection.execute(insert(users).returning(users.c.id), row).scalar_one()
        return self.ids[role]

    def open_run(self, seats: int = 4, inr: str = "20000", host: str = "host", **options: Any) -> EventRun:
        with self.database.transaction() as connection:
            row = {"host_id": self.ids[host], "title": "Pottery"}
            experience = connection.execute(insert(experiences).returning(experiences.c.id), row).scalar_one()
        starts_at = self.now() + 3 * DAY
        return self.runs.create(self.ids[host], experience, starts_at, seats, Decimal(inr), **options)

    def go_to(self, moment: datetime) -> None:
        self.engine.set_next_timestamp(int(moment.timestamp()))

    def at(self, address: str) -> BlockchainService:
        """Returns the service for another contract."""
        return BlockchainService(self.engine.w3, address, self.sender)

    def balance(self, role: str) -> int:
        return self.engine.w3.eth.get_balance(self.wallets[role].address)


def deploy(engine: Engine, name: str, *args: Any) -> str:
    """Deploys a contract that the platform owns, and returns its address."""
    own = CONTRACTS / "test" / f"{name}.sol"
    artifact = load_contract(f"{own}:{name}") if own.exists() else compile_contracts()[name]
    factory = engine.w3.eth.contract(abi=artifact.abi, bytecode=artifact.bytecode)
    platform = engine.accounts[0]
    fields = {"from": platform.address, "nonce": engine.w3.eth.get_transaction_count(platform.address)}
    signed = platform.sign_transaction(factory.constructor(*args).build_transaction({**fields, "gas": 10_000_000}))
    tx_hash = engine.w3.eth.send_raw_transaction(signed.raw_transaction)
    return str(engine.w3.eth.wait_for_transaction_receipt(tx_hash, poll_latency=0.002)["contractAddress"])


def transact(
    backend: BackendEnvironment, role: str, function: str, *args: Any, value: int = 0, nonce: int | None = None
) -> str:
    """Calls the stake contract with the role's own key, without the services. Returns the transaction's hash."""
    return send_call(backend, role, event_stake_codec().call(backend.chain.address, function, *args), value, nonce)


def send_call(backend: BackendEnvironment, role: str, call: Call, value: int = 0, nonce: int | None = None) -> str:
    """Sends any call with the role's own key, without the services. Returns the transaction's hash."""
    account, w3 = backend.wallets[role], backend.engine.w3
    fields: dict[str, Any] = {
        "to": call.to,
        "data": call.data,
        "value": value,
        "gas": 3_000_000,
        "maxFeePerGas": 10**11,
        "maxPriorityFeePerGas": 2 * 10**9,
        "nonce": w3.eth.get_transaction_count(account.address) if nonce is None else nonce,
        "chainId": w3.eth.chain_id,
        "type": 2,
    }
    tx_hash = w3.eth.send_raw_transaction(account.sign_transaction(fields).raw_transaction)
    assert w3.eth.wait_for_transaction_receipt(tx_hash, poll_latency=0.002)["status"] == 1
    return tx_hash.to_0x_hex()


class Time:
    """A clock that only advances when something sleeps."""

    def __init__(self) -> None:
        self.now, self.slept = 0.0, list[float]()

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def answering(method: str, result: Any) -> type[Web3Middleware]:
    """Returns a middleware that replaces the result of this method."""

    class Fixed(Web3Middleware):
        def response_processor(self, rpc_method: Any, response: Any) -> Any:
            return {**response, "result": result} if rpc_method == method else response

    return Fixed


def before_request(w3: Web3, action: Callable[[], Any], method: str = "eth_sendRawTransaction") -> None:
    """Runs an action just before the next request of this method: by default between estimate and sending."""

    class Interruption(Web3Middleware):
        def request_processor(self, rpc_method: Any, params: Any) -> Any:
            if rpc_method == method:
                w3.middleware_onion.remove("interruption")
                action()
            return rpc_method, params

    w3.middleware_onion.add(Interruption, "interruption")


@contextmanager
def too_many_requests(w3: Web3, method: str) -> Iterator[None]:
    """Returns a middleware that answers requests of this method with an error that is no revert."""
    error = {"jsonrpc": "2.0", "id": 1, "error": {"code": -32005, "message": "too many requests"}}

    class Busy(Web3Middleware):
        def wrap_make_request(self, make_request: Any) -> Any:
            return lambda rpc_method, params: error if rpc_method == method else make_request(rpc_method, params)

    w3.middleware_onion.add(Busy, "busy")
    try:
        yield
    finally:
        w3.middleware_onion.remove("busy")


def deploy_contracts(name: str) -> DeployedContracts:
    """Opens an engine and deploys the contracts on it."""
    engine = open_engine(name)
    terms = (engine.accounts[0].address, TERMS)
    contracts = {
        "EventStake": deploy(engine, "EventStake", *terms),
        "MinimalEventStake": deploy(engine, "MinimalEventStake"),
        "Grumbler": deploy(engine, "Grumbler"),
    }
    return DeployedContracts(engine, contracts, engine.snapshot())


def backend_on(deployed_contracts: DeployedContracts, contract: str, database: Database) -> BackendEnvironment:
    """Opens a backend on one of the contracts, as just deployed."""
    engine = deployed_contracts.engine
    engine.revert(deployed_contracts.start)
    platform, host, attendee, no_show, stranger = engine.accounts[:5]
    sender = TransactionSender(engine.w3, platform, database, TransactionPolicy(give_up_after=1))
    chain = BlockchainService(engine.w3, deployed_contracts.contracts[contract], sender)

    def clock() -> datetime:
        return datetime.fromtimestamp(engine.now(), UTC)

    feed = Feed(Rate(Decimal(200_000), clock()))
    pricing = Pricing(feed, clock)
    bookings = BookingService(database, chain, pricing)
    runs = EventRunService(database, chain, pricing)
    wallets = {"platform": platform, "host": host, "attendee": attendee, "no_show": no_show, "stranger": stranger}
    backend = BackendEnvironment(engine, database, feed, sender, chain, runs, bookings, wallets)
    for role in ("host", "attendee", "no_show"):
        backend.add_user(role, wallets[role].address)
    backend.add_user("walletless", None)
    return backend
