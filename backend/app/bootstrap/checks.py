"""What has to be right before the service starts, and before a deploy. Nothing here sends anything."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from eth_utils.crypto import keccak
from pydantic import ValidationError
from sqlalchemy import Engine, create_engine, inspect, select, text
from web3 import Web3
from web3.middleware import AttributeDictMiddleware

from app.bootstrap.container import Services, connect_services, transaction_policy
from app.core.config import Settings
from app.core.errors import (
    AppError,
    ContractRejected,
    DatabaseUnavailable,
    MigrationsMissing,
    PriceError,
    UnsupportedByContract,
)
from app.core.units import WEI_PER_ETH, WEI_PER_GWEI
from app.db.session import Database, connect, migration_files
from app.db.tables import operations
from app.services.blockchain_service import BlockchainService
from app.services.codec import ARTIFACT
from app.services.operations import open_operations
from app.services.pricing import Pricing
from app.services.rpc_errors import NODE_ERRORS, as_chain_unavailable
from app.services.rpc_failover import FailoverProvider
from app.services.transactions.sender import TransactionSender

SAFE_GAS = 10_000_000
"""Gas that the wallet should be able to pay for: ten short lifecycles of creating, booking, completing."""
CLOCKS_APART_S = 300
STUCK_AFTER = timedelta(minutes=10)


class NotReady(AppError):
    """Something that the service can't do without is not as it must be. Nothing was sent."""

    code = "not_ready"


@dataclass(frozen=True)
class Check:
    """found: in a sentence. todo: what to do about it, where it is not ok. fatal: the service must not start then."""

    name: str
    ok: bool
    found: str
    todo: str = ""
    fatal: bool = False


def read_settings(env_file: str | Path | None = ".env", **given: Any) -> Settings:
    """The settings of environment and file, those given here first. Raises `NotReady`, which names all that is wrong
    and shows no value."""
    try:
        return Settings(_env_file=env_file, _env_ignore_empty=True, **given)  # type: ignore[call-arg]  # not fields
    except ValidationError as error:
        told = (f"{_setting(e)} {_said(e)}" for e in error.errors(include_url=False, include_input=False))
        raise NotReady("; ".join(told)) from None


def require(checks: Iterable[Check]) -> None:
    """Raises `NotReady` with what is found, and what to do, of each check that the service can't do without."""
    failed = [f"{check.found} {check.todo}" for check in checks if check.fatal and not check.ok]
    if failed:
        raise NotReady(" ".join(failed))


def connect_ready(settings: Settings) -> Services:
    """The services of the settings, once all that they can't do without is right. Raises `NotReady`, and
    `DatabaseUnavailable`."""
    require(check_endpoints(settings))
    services = connect_services(settings)
    require(check_contract(settings, services.w3, services.chain))
    require(check_database(settings, services.database.engine))
    return services


def examine(settings: Settings) -> Iterator[Check]:
    """Everything, for whoever is about to deploy."""
    network = list(check_endpoints(settings))
    yield from network
    if network[-1].name != "network":  # a node answers
        w3 = Web3(FailoverProvider(settings.rpc_urls), [AttributeDictMiddleware])
        unused = Database(create_engine("postgresql+psycopg://"))  # nothing is sent
        sender = TransactionSender(w3, settings.platform_account(), unused, transaction_policy(settings))
        yield from check_contract(settings, w3, BlockchainService(w3, settings.contract_address, sender))
    try:
        database = connect(settings.database_url)
    except DatabaseUnavailable as error:
        yield Check("database", False, error.message, "Start it, or correct DATABASE_URL.", fatal=True)
        return
    found = list(check_database(settings, database))
    yield from found
    if any(check.name == "migrations" and not check.ok for check in found):
        return
    services = connect_services(settings)
    yield check_price(services.pricing)
    yield check_pending(services.database, settings.chain_id)


# ------------------------------------------------------------------------------------------------------ the network


def check_endpoints(settings: Settings) -> Iterator[Check]:
    """Each endpoint by itself: the one that is only asked when the first fails must not be on another network."""
    answering = 0
    for number, url in enumerate(settings.rpc_urls, 1):
        w3 = Web3(FailoverProvider([url], timeout=5, give_up_after=1), [AttributeDictMiddleware])
        name = f"endpoint {number} of {len(settings.rpc_urls)}"
        todo = f"Correct BLOCKCHAIN_RPC_URL (number {number}), or wait until that node is up."
        try:
            chain_id, head = w3.eth.chain_id, w3.eth.get_block("latest")
        except NODE_ERRORS as error:
            yield Check(name, False, _sentence(as_chain_unavailable(name, error)), todo)
            continue
        answering += 1
        if chain_id != settings.chain_id:
            found = f"The node of {name} is on chain {chain_id}, not on chain {settings.chain_id}."
            yield Check(name, False, found, f"Correct BLOCKCHAIN_RPC_URL (number {number}), or CHAIN_ID.", fatal=True)
            continue
        apart = abs(time.time() - head["timestamp"])
        found = f"On chain {chain_id}, at block {head['number']}, whose time is {apart:.0f} s from this machine's."
        late = "Wait until the node is in step with its network, or set this machine's clock."
        yield Check(name, apart <= CLOCKS_APART_S, found, late)
    if not answering:
        nobody = "No endpoint answers, so nothing is known of network and contract."
        yield Check("network", False, nobody, "Correct BLOCKCHAIN_RPC_URL, or wait until a node is up.", fatal=True)


def check_contract(settings: Settings, w3: Web3, chain: BlockchainService) -> Iterator[Check]:
    """Code, owner and wallet, in as far as the node tells."""
    try:
        yield from _contract(settings, w3, chain)
    except (AppError, *NODE_ERRORS) as error:
        told = error if isinstance(error, AppError) else as_chain_unavailable("contract", error)
        todo = "Wait until the node is up, or correct BLOCKCHAIN_RPC_URL."
        yield Check("contract", False, _sentence(told), todo, fatal=True)


def _contract(settings: Settings, w3: Web3, chain: BlockchainService) -> Iterator[Check]:
    code = bytes(w3.eth.get_code(chain.address))
    if not code:
        found = f"There is no contract at {chain.address} on chain {settings.chain_id}."
        yield Check("contract", False, found, "Correct CONTRACT_ADDRESS or CHAIN_ID.", fatal=True)
        return
    yield _code(settings, chain.address, code)
    yield _owner(chain)
    wallet = chain.platform
    head, balance = w3.eth.get_block("latest"), w3.eth.get_balance(wallet)
    price = 2 * head["baseFeePerGas"] + settings.priority_fee_per_gas
    found = (
        f"{wallet} has {_eth(balance)}; it pays the stakes, the bookings and the gas, "
        f"of which {SAFE_GAS:,} are at most {_eth(SAFE_GAS * price)} now."
    )
    yield Check("wallet", balance >= SAFE_GAS * price, found, f"Send ETH on chain {settings.chain_id} to {wallet}.")
    cap = settings.max_fee_per_gas
    found = f"The base fee is {_gwei(head['baseFeePerGas'])} a unit of gas, and MAX_FEE_GWEI {_gwei(cap)}."
    low = "Raise MAX_FEE_GWEI, or wait: what is sent meanwhile is held until the base fee falls."
    yield Check("fees", head["baseFeePerGas"] + settings.priority_fee_per_gas <= cap, found, low)


def _code(settings: Settings, address: str, code: bytes) -> Check:
    found_hash = "0x" + keccak(code).hex()
    if settings.contract_code_hash:
        ok, expected = found_hash == settings.contract_code_hash, "that of CONTRACT_CODE_HASH"
    else:
        ok, expected = is_event_stake(code), "this project's EventStake"
    found = f"The code at {address} is {expected if ok else f'not {expected}; its hash is {found_hash}'}."
    todo = "Correct CONTRACT_ADDRESS; if another contract is meant to be there, set CONTRACT_CODE_HASH to its hash."
    return Check("code", ok, found, todo, fatal=True)


def is_event_stake(code: bytes) -> bool:
    """Whether it is the committed runtime code, whatever the terms are: those are put into it when it is deployed."""
    artifact: Mapping[str, Any] = json.loads(ARTIFACT.read_text())
    expected = bytes.fromhex(artifact["deployedBytecode"].removeprefix("0x"))
    places = [place for places in artifact["immutableReferences"].values() for place in places]
    return _without(expected, places) == _without(code, places)


def _without(code: bytes, places: Sequence[Mapping[str, int]]) -> bytes:
    blank = bytearray(code)
    for place in places:
        blank[place["start"] : place["start"] + place["length"]] = bytes(place["length"])
    return bytes(blank)


def _owner(chain: BlockchainService) -> Check:
    """The platform acts for others only where it owns the contract; the minimal interface has nothing of that."""
    todo = "Set PLATFORM_PRIVATE_KEY to the owner's key, or let the owner transfer the ownership."
    try:
        owner = chain.owner()
    except (ContractRejected, UnsupportedByContract):
        return Check("owner", False, "The contract does not tell who owns it.", todo, fatal=chain.has_full_interface)
    ok = owner == chain.platform
    found = f"The owner is {owner}, {'the' if ok else 'not the'} platform's wallet{'' if ok else f' {chain.platform}'}."
    return Check("owner", ok, found, todo, fatal=chain.has_full_interface)


# ----------------------------------------------------------------------------------------------------- the database


def missing_migrations(database: Engine) -> list[str]:
    """Names of those that this database has not had.

    Raises:
        MigrationsMissing: There are no migration files.
    """
    applied: set[str] = set()
    with database.connect() as connection:
        if inspect(connection).has_table("schema_migrations"):
            applied = set(connection.execute(text("SELECT name FROM schema_migrations")).scalars())
    return [path.stem for path in migration_files() if path.stem not in applied]


def check_database(settings: Settings, database: Engine) -> Iterator[Check]:
    found = "DATABASE_URL is set." if settings.database_url else "DATABASE_URL is not set: it is the embedded server's."
    todo = "Set DATABASE_URL: the embedded server is for trying out, and a crash of the machine may cost it rows."
    yield Check("database", bool(settings.database_url), found, todo)
    try:
        missing = missing_migrations(database)
    except MigrationsMissing as error:
        yield Check("migrations", False, error.message, "Without them no table can be made or checked.", fatal=True)
        return
    found = f"Not applied: {', '.join(missing)}." if missing else "All are applied."
    yield Check("migrations", not missing, found, "`stakesim serve` applies them, as does running the files in order.")
    if missing:
        return
    o = operations.c
    with database.connect() as connection:
        of_others = connection.execute(
            select(o.chain_id, o.to_address)
            .where((o.chain_id != settings.chain_id) | (o.to_address != settings.contract_address))
            .limit(1)
        ).one_or_none()
    found = "It knows of no other contract."
    if of_others:
        found = f"The database holds operations of the contract {of_others.to_address} on chain {of_others.chain_id}."
    todo = "Set DATABASE_URL to a database of this contract's own: its ids on chain are unique in it."
    yield Check("one contract", of_others is None, found, todo, fatal=True)


def check_price(pricing: Pricing) -> Check:
    try:
        rate = pricing.rate()
    except PriceError as error:
        return Check("price", False, error.message, "Set ETH_PRICE_INR, or mend the feed: nothing is quoted without.")
    age = (pricing.clock() - rate.as_of).total_seconds()
    return Check("price", True, f"One ETH is {rate.inr_per_eth} INR, as of {age:.0f} s ago.")


def check_pending(database: Database, chain_id: int) -> Check:
    """Operations that can't go on, or do so for long."""
    with database.begin() as connection:
        pending = open_operations(connection, chain_id)
    stuck = [o for o in pending if o.held or datetime.now(UTC) - o.created_at > STUCK_AFTER]
    found = f"{len(pending)} operations are not final yet."
    if stuck:
        first = stuck[0]
        found += (
            f" {len(stuck)} are held or old: {first.kind} {first.key} is {first.state}, {first.held or 'not held'}."
        )
    return Check("pending", not stuck, found, "Look at `stakesim reconcile --dry-run`; serving carries them on.")


def _setting(error: Mapping[str, Any]) -> str:
    return ".".join(str(part) for part in error["loc"]).upper()


def _said(error: Mapping[str, Any]) -> str:
    if error["type"] == "missing":
        return "is not set"
    return "is wrong: " + str(error["msg"]).removeprefix("Value error, ").rstrip(".")


def _sentence(error: AppError) -> str:
    return error.message[:1].upper() + error.message[1:]


def _eth(wei: int) -> str:
    return f"{Decimal(wei) / WEI_PER_ETH:.6g} ETH"


def _gwei(wei: int) -> str:
    return f"{Decimal(wei) / WEI_PER_GWEI:.3f} gwei"
