"""A world to play scenarios in: an engine, the deployed contract, funded actors, the backend's services on a database,
and a price feed. Each scenario finds chain and database as the one before it did.

The services are those of production, handed their chain, their database and their feed from here; nothing in them knows
that the chain is simulated, and nothing here reaches into them.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from app.core.errors import DatabaseUnavailable
from app.core.wiring import services_on
from app.db.session import Database, connect, migrate
from app.db.tables import event_run_bookings, event_runs, experiences, metadata, users
from app.services import node
from app.services.blockchain_service import BlockchainService
from app.services.booking_service import BookingService
from app.services.codec import Codec, event_stake
from app.services.event_run_service import EventRunService
from app.services.pricing import Pricing, Rate
from app.services.transaction_sender import Policy, TransactionSender
from eth_account.signers.local import LocalAccount
from eth_typing import ChecksumAddress
from sqlalchemy import Engine as DatabaseEngine
from sqlalchemy import create_engine, insert, null, select, union_all
from web3.middleware import Web3Middleware
from web3.types import RPCEndpoint, RPCResponse, TxReceipt

from stakesim.evm import interface
from stakesim.evm.compiler import ROOT, Artifact, compile_contracts
from stakesim.evm.engine import START, Engine, Snapshot, open_engine
from stakesim.evm.errors import EngineError
from stakesim.runner.picture import Camera
from stakesim.runner.step import BookingRow, Rows, RunRow
from stakesim.scenario.actions import PLATFORM, Actor, Terms
from stakesim.scenario.scenario import Scenario

if TYPE_CHECKING:
    from stakesim.runner.http import Api

EPOCH = START + 86_400
"""Second 0 of every scenario; what is deployed for it lies before."""
DATABASE_DIR = Path(os.environ.get("STAKESIM_HOME", ROOT / ".stakesim")) / "postgres"
"""Of the embedded PostgreSQL server."""
_NAMESPACE = uuid.UUID("6f8c1f5e-6f0a-5d0b-9c55-0a1d2f3b4c5d")
_RECEIVERS = {
    "refuses": "RefusingReceiver",
    "burns_gas": "BurningReceiver",
    "floods": "FloodingReceiver",
    "reenters": "ReenteringReceiver",
}
CONSTRUCTORS = ((), ("address",), ("address", "(uint16,uint16,uint16,uint32,uint32)"))
"""Arguments that a contract's constructor may take: nothing, its owner, or that and the terms."""
PURSE = 10**20
"""Wei that a hostile contract has to pay with where nobody can pay for it."""
GAS = 16_000_000
"""What transactions past the backend are given: nearly the most that one may have (EIP-7825)."""
_MAX_FEE = 10**11
POLICY = Policy(patience=5)
"""Of the services' sender: a simulated chain mines at once or never."""
Through = Literal["services", "api"]

_r, _b = event_runs.c, event_run_bookings.c
_ROWS = union_all(
    select(
        _r.blockchain_event_run_id,
        (_r.blockchain_status == "confirmed").label("confirmed"),
        _r.status,
        _r.price_inr,
        _r.blockchain_price_per_seat_wei,
        _r.blockchain_stake_amount_wei,
        _r.inr_per_eth,
        null().label("seats"),
    ),
    select(
        _b.blockchain_booking_id,
        _b.blockchain_status == "confirmed",
        _b.status,
        _b.total_inr,
        _b.blockchain_payment_wei,
        _b.blockchain_stake_amount_wei,
        _b.inr_per_eth,
        _b.seats,
    ),
)
"""Runs, and bookings, which have seats."""
EMPTY_TABLES = "; ".join(f"DELETE FROM {table.name}" for table in reversed(metadata.sorted_tables))
"""SQL that deletes all rows: where there are few of them, much faster than TRUNCATE."""


def utc(at: int) -> datetime:
    """Seconds since 1970 as the services take a time."""
    return datetime.fromtimestamp(at, UTC)


@dataclass
class Clock:
    """The time of the block that the next transaction lands in: a simulated service knows no other."""

    at: int = EPOCH

    def __call__(self) -> datetime:
        return utc(self.at)


@dataclass
class Feed:
    """The scenario's price feed: a rate, and when it was true."""

    inr_per_eth: Decimal = Decimal(0)
    as_of: int = EPOCH

    def latest(self) -> Rate:
        return Rate(self.inr_per_eth, utc(self.as_of))


@dataclass
class Cast:
    """The scenario's actors. A party is an account on chain; actors without a wallet share the platform's.

    accounts: keys by actor, for hostile contracts that of their controller. addresses: by party.
    """

    actors: Mapping[str, Actor]
    accounts: Mapping[str, LocalAccount]
    addresses: Mapping[str, ChecksumAddress]
    users: Mapping[str, uuid.UUID]

    def names(self) -> dict[str, str]:
        """Parties by address."""
        return {address: name for name, address in self.addresses.items()}


class World:
    """One engine and one database, for one scenario after another.

    schema: of the database, this world's own, dropped with it. contract: what is deployed as the stake contract; the
    project's own `EventStake` where none is given. through: how the services are asked: "services", called; or "api",
    by requests to the HTTP API, where it offers what an action needs (see `stakesim.runner.http`).
    Raises `EngineError` when the engine can't set time and take snapshots.
    """

    def __init__(
        self,
        engine: Engine,
        database: DatabaseEngine,
        schema: str,
        contract: Artifact | None = None,
        through: Through = "services",
    ) -> None:
        if not {"time", "snapshot"} <= engine.capabilities:
            raise EngineError(
                "scenarios need a node that can set the time and take snapshots, which a live one can't: "
                "use --engine py-evm, revm, anvil, or rpc: with the URL of a simulated node"
            )
        self.engine = engine
        self.database, self._schema, self._through = Database(database), schema, through
        self.api: Api | None = None
        self._artifacts = compile_contracts()
        self.puppet = Codec(self._artifacts["Puppet"].abi)
        self._sent: dict[str, Any] = {}
        self._chain_id = node.chain_id(engine.w3)
        engine.w3.middleware_onion.add(_recorder(self._sent), "sent")
        self._base = engine.snapshot()
        self.foreign = contract is not None
        """Whether the contract is not the project's own, which has gas budgets."""
        self.weaknesses: set[str] = set()
        """Names of those found so far."""
        self._stage: tuple[Terms, ChecksumAddress, ChecksumAddress, Snapshot] | None = None
        self.use(contract)

    def close(self) -> None:
        """Stops what was started for it; the embedded database server stays up for the next one."""
        if self.api is not None:
            self.api.close()
        with self.database.begin() as connection:
            connection.exec_driver_sql(f"DROP SCHEMA IF EXISTS {self._schema} CASCADE")
        self.database.engine.dispose()
        self.engine.close()

    def use(self, contract: Artifact | None) -> None:
        """What is deployed as the stake contract from the next scenario on; None: the project's own `EventStake`.

        Raises `EngineError` for one without the interface.
        """
        artifact = contract or self._artifacts["EventStake"]
        _check_interface(artifact)
        self._contract_artifact, self._stage = artifact, None
        takes = constructor_types(artifact)
        if takes not in CONSTRUCTORS:
            raise EngineError(
                f"{artifact.name} can't be deployed, as its constructor takes ({', '.join(takes)}): give one that "
                "takes nothing, the owner's address, or that and the terms of contracts/IEventStake.sol."
            )
        self.extended = not interface.missing_additions(artifact.abi)
        self.codec = Codec(artifact.abi)
        self.takes_terms = takes == CONSTRUCTORS[2]
        self.own_errors = {"NotAuthorized", "TooEarly", "WrongValue"} <= {
            item["name"] for item in artifact.abi if item["type"] == "error"
        }
        """Whether it fails with the errors that the rules name, or in words of its own."""

    # ------------------------------------------------------------------------------------------------- a stage

    def stage(self, scenario: Scenario) -> None:
        """Puts everything as the scenario begins: contract, actors, empty tables, its price feed."""
        address, lens = self._contract(scenario.terms)
        self.clock, self.feed = Clock(), Feed()
        self.cast = self._enter(scenario, address)
        sender = TransactionSender(self.engine.w3, self.engine.accounts[0], self.database, POLICY)
        self.chain = BlockchainService(self.engine.w3, address, sender)
        pricing = Pricing(self.feed, self.clock)
        self.event_runs = EventRunService(self.database, self.chain, pricing)
        self.bookings = BookingService(self.database, self.chain, pricing)
        if self._through == "api":
            self._serve(pricing)
        addresses, extended = self.cast.addresses, self.chain.extended
        self.camera = Camera(self.engine.w3, lens, address, event_stake(), addresses, extended)
        self.run_rows: dict[str, uuid.UUID] = {}
        self.booking_rows: dict[str, uuid.UUID] = {}
        self._sent.clear()

    def _serve(self, pricing: Pricing) -> None:
        """Puts the API before the services."""
        from stakesim.runner.http import Api  # its packages are not installed everywhere

        services = services_on(self.engine.w3, self.database, self.chain, pricing)
        services = replace(services, runs=self.event_runs, bookings=self.bookings)
        if self.api is None:
            self.api = Api(services)
        self.api.serve(services)

    def _contract(self, terms: Terms) -> tuple[ChecksumAddress, ChecksumAddress]:
        """Deployed with these terms on a fresh chain; while the terms stay the same, the chain is only taken back."""
        if self._stage is not None and self._stage[0] == terms:
            _, address, lens, snapshot = self._stage
            self.engine.revert(snapshot)
            return address, lens
        self.engine.revert(self._base)
        platform = self.engine.accounts[0]
        lens = self.deploy(self._artifacts["Lens"], platform)
        given = (platform.address, tuple(value for _, value in terms))
        taken = len(constructor_types(self._contract_artifact))
        address = self.deploy(self._contract_artifact, platform, *given[:taken])
        self._stage = (terms, address, lens, self.engine.snapshot())
        return address, lens

    def _enter(self, scenario: Scenario, stake: ChecksumAddress) -> Cast:
        """Accounts, hostile contracts and database rows of the actors."""
        if len(scenario.actors) >= len(self.engine.accounts):
            raise EngineError(
                f"{scenario.name} has {len(scenario.actors)} actors, the engine only {len(self.engine.accounts) - 1} "
                "funded accounts for them: use fewer actors"
            )
        platform, *others = self.engine.accounts
        accounts, addresses, rows = {PLATFORM: platform}, {PLATFORM: platform.address}, []
        for (name, actor), account in zip(scenario.actors.items(), others, strict=False):
            accounts[name] = account if actor.wallet == "own" else platform
            if actor.wallet == "own":
                addresses[name] = self._receiver(actor, account, stake) if actor.is_contract else account.address
            rows.append({"id": _id(name), "name": name, "wallet_address": addresses.get(name)})
        with self.database.begin() as connection:
            connection.exec_driver_sql(EMPTY_TABLES)
            connection.execute(insert(users), [*rows, {"id": _id(PLATFORM), "name": PLATFORM, "wallet_address": None}])
            connection.execute(
                insert(experiences), {"id": _id("experience"), "host_id": _id(PLATFORM), "title": "Cooking"}
            )
        return Cast(scenario.actors, accounts, addresses, {name: _id(name) for name in [*scenario.actors, PLATFORM]})

    def _receiver(self, actor: Actor, controller: LocalAccount, stake: ChecksumAddress) -> ChecksumAddress:
        kind = self._artifacts[_RECEIVERS[actor.receiver]]
        address = self.deploy(kind, controller, *self._reentry(actor, controller, stake))
        if not self.extended:  # nobody can pay for it
            self.deploy(self._artifacts["EtherForcer"], self.engine.accounts[-1], address, value=PURSE)
        return address

    def _reentry(self, actor: Actor, controller: LocalAccount, stake: ChecksumAddress) -> tuple[Any, ...]:
        if actor.reenter is None:
            return ()
        given: dict[str, list[Any]] = {
            "withdraw": [],
            "withdrawTo": [controller.address],
            "completeEvent": [actor.reenter.id, []],
        }
        args = given.get(actor.reenter.call, [actor.reenter.id])
        return stake, event_stake().call(stake, actor.reenter.call, *args).data

    @property
    def experience(self) -> uuid.UUID:
        return _id("experience")

    # ----------------------------------------------------------------------------- past the backend, on the chain

    def force_ether(self, by: LocalAccount, wei: int) -> None:
        """Into the stake contract, which can't refuse it."""
        self.deploy(self._artifacts["EtherForcer"], by, self.chain.address, value=wei)

    def deploy(self, artifact: Artifact, by: LocalAccount, *args: Any, value: int = 0) -> ChecksumAddress:
        receipt = self.transact(by, None, creation(artifact, args), value)
        address = receipt.get("contractAddress")
        if receipt["status"] != 1 or address is None:
            raise EngineError(
                f"{artifact.name} could not be deployed on {self.engine.name}: out of gas, or its constructor reverted"
            )
        return address

    def transact(
        self, by: LocalAccount, to: ChecksumAddress | None, data: bytes, value: int = 0, gas: int = GAS
    ) -> TxReceipt:
        """Signs and mines a transaction whatever it comes to: the gas is given, so nothing is estimated."""
        w3 = self.engine.w3
        fields: dict[str, Any] = {
            "chainId": self._chain_id,
            "nonce": node.transaction_count(w3, by.address, "latest"),
            "data": data,
            "value": value,
            "gas": gas,
            "maxFeePerGas": _MAX_FEE,
            "maxPriorityFeePerGas": 10**9,
            "type": 2,
        }
        if to is not None:
            fields["to"] = to
        signed = by.sign_transaction(fields)
        node.send_raw(w3, signed.raw_transaction.to_0x_hex())
        while (receipt := node.receipt(w3, signed.hash.to_0x_hex())) is None:
            time.sleep(0.001)
        return receipt

    # ---------------------------------------------------------------------------------------------------- looking

    def sent(self) -> list[TxReceipt]:
        """Receipts of all transactions that anybody sent since the last time this was asked."""
        w3 = self.engine.w3
        found = [node.read_receipt(seen) if seen else node.receipt(w3, sent) for sent, seen in self._sent.items()]
        self._sent.clear()
        return [receipt for receipt in found if receipt is not None]

    def rows(self) -> Rows:
        """What the database says."""
        with self.database.single() as connection:
            rows = connection.execute(_ROWS).all()
        return Rows(
            [RunRow(*row[:-1]) for row in rows if row.seats is None],
            [BookingRow(*row) for row in rows if row.seats is not None],
        )


def open_world(
    engine: str | Engine = "py-evm", contract: Artifact | None = None, through: Through = "services"
) -> World:
    """A world on that engine, in a schema of its own in the database: that of `DATABASE_URL`, or the embedded one.

    engine: a name, or one that is open; the world closes it. through: as `World` has it.
    Raises `EngineError`, `DatabaseUnavailable`.
    """
    check(through)
    chain = open_engine(engine) if isinstance(engine, str) else engine
    try:
        shared = connect(os.environ.get("DATABASE_URL"), DATABASE_DIR)
    except DatabaseUnavailable:
        chain.close()
        raise
    schema = f"world_{uuid.uuid4().hex}"
    with shared.begin() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {schema}")
    options = f"-csearch_path={schema} -csynchronous_commit=off"  # what a crash loses here, nobody misses
    database = create_engine(shared.url.update_query_dict({"options": options}))
    try:
        migrate(database)
        return World(chain, database, schema, contract, through)
    except BaseException:
        database.dispose()
        with shared.begin() as connection:
            connection.exec_driver_sql(f"DROP SCHEMA {schema} CASCADE")
        chain.close()
        raise
    finally:
        shared.dispose()


def check(through: Through) -> None:
    """Raises `EngineError` where there is no such way to the services, or it needs what is not installed."""
    if through not in get_args(Through):
        raise EngineError(f"There is no way through {through!r} to the services: choose services or api.")
    if through == "api":
        try:
            import stakesim.runner.http  # noqa: F401
        except ModuleNotFoundError as missing:
            raise EngineError(
                f"Playing through the HTTP API needs {missing.name}, which is not installed: run `make serve`, "
                "or `pip install '.[api]'`."
            ) from None


def creation(artifact: Artifact, args: tuple[Any, ...] = ()) -> bytes:
    """What deploys the contract: its code and the constructor's arguments."""
    from eth_abi.abi import encode

    return bytes.fromhex(artifact.bytecode[2:]) + encode(constructor_types(artifact), args)


def constructor_types(artifact: Artifact) -> tuple[str, ...]:
    """Of the arguments that a contract is deployed with."""
    from eth_utils.abi import get_abi_input_types

    constructor = next((item for item in artifact.abi if item["type"] == "constructor"), None)
    return tuple(get_abi_input_types(constructor)) if constructor else ()  # type: ignore[arg-type]


def extras(artifact: Artifact) -> list[dict[str, Any]]:
    """Functions that change something, of its ABI, beyond the interface `IEventStake`."""
    own = interface.own_functions(artifact.abi)
    return [dict(item) for item in own if item["stateMutability"] in ("nonpayable", "payable")]


def _check_interface(artifact: Artifact) -> None:
    """Raises `EngineError` for a contract that can't be driven, in one sentence."""
    has = {item["name"] for item in artifact.abi if item["type"] == "function"}
    lacks = {item["name"] for item in interface.deployed_interface() if item["type"] == "function"} - has
    added = interface.missing_additions(artifact.abi)
    if "totalLiabilities" not in added:  # then it is to have all of them
        lacks |= added
    if lacks:
        raise EngineError(
            f"{artifact.name} can't be played, as it lacks {', '.join(sorted(lacks))}: give a contract with all of "
            "contracts/IEventStake.sol, or with contracts/abi/deployed.json and none of what that adds to it."
        )
    if wrong := [found.said for found in interface.differences(artifact.abi) if not found.playable]:
        raise EngineError(f"{artifact.name} can't be played: {'; '.join(wrong)}.")


def _id(name: str) -> uuid.UUID:
    """The same for the same name in every run: it goes on chain, and into gas."""
    return uuid.uuid5(_NAMESPACE, name)


def _recorder(sent: dict[str, Any]) -> type[Web3Middleware]:
    """A middleware that notes every transaction any code sends, whether that code says so or not, and its receipt where
    somebody asks for it."""

    class Recorder(Web3Middleware):
        def response_processor(self, method: RPCEndpoint, response: RPCResponse) -> RPCResponse:
            result: Any = response.get("result")
            if method == "eth_sendRawTransaction" and result:
                sent[result] = None
            elif method == "eth_getTransactionReceipt" and result and result["transactionHash"] in sent:
                sent[result["transactionHash"]] = result
            return response

    return Recorder
