"""Checks before the service starts, and before a deployment. They send no transaction."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

from eth_hash.auto import keccak
from pydantic import ValidationError
from sqlalchemy import URL, BigInteger, Engine, literal, select, tuple_
from web3 import Web3

from app.bootstrap.access_checks import check_access, check_keys, check_signer
from app.bootstrap.accounts import open_accounts
from app.bootstrap.check import Check, NotReady, require_checks
from app.bootstrap.container import connect_services, connect_web3, database_policy, transaction_policy
from app.bootstrap.payment_checks import check_payments
from app.bootstrap.services import Services
from app.core.config import DatabaseSettings, Settings
from app.core.errors import (
    AppError,
    ContractRejected,
    DatabaseUnavailable,
    MigrationsMissing,
    PriceError,
    RateRefusal,
    UnsupportedByContract,
)
from app.core.keys import KeySourcesWrong
from app.core.units import WEI_PER_ETH, WEI_PER_GWEI
from app.db.connections import is_behind_pooler
from app.db.database import Database, connect, open_engine
from app.db.migrations import missing_migrations
from app.db.tables import IS_OPEN_ORPHAN, operations, orphans
from app.db.url import DRIVER
from app.services import rpc
from app.services.blockchain_service import BlockchainService
from app.services.codec import ARTIFACT
from app.services.operation_types import FILL_NONCE_GAP
from app.services.operations import open_operations
from app.services.pricing import Pricing
from app.services.rpc_errors import NODE_ERRORS, as_chain_unavailable
from app.services.transactions.sender import TransactionSender

RESERVE_GAS = 10_000_000
"""Gas that the wallet should be able to pay, enough for ten short lifecycles of create, book and complete."""
MAX_CLOCK_SKEW_S = 300
"""Maximum seconds between this machine's clock and the latest block."""
SOURCE_HASH = re.compile(rb"\xa2\x64ipfs\x58\x22\x12\x20(.{32})\x64solc\x43.{3}\x00\x33\Z", re.DOTALL)
"""The metadata that the compiler appends to the code, in CBOR."""
STUCK_AFTER = timedelta(minutes=10)
"""Age at which an operation that is not final is reported."""

_SET_PRICE = "Set ETH_PRICE_INR and ETH_PRICE_INR_AS_OF, or correct PRICE_FEEDS: without a rate nothing is quoted."
PRICE_REMEDIES: dict[RateRefusal, str] = {
    "missing": _SET_PRICE,
    "malformed": _SET_PRICE,
    "stale": "Check the rate, and set ETH_PRICE_INR and ETH_PRICE_INR_AS_OF anew, or wait for the feed.",
    "future": "Correct ETH_PRICE_INR_AS_OF, or this machine's clock.",
    "jump": "Check the rate. If it is right, run `stakesim confirm-rate`.",
    "deviation": "Check the rate. Correct ETH_PRICE_INR, or take the wrong feed out of PRICE_FEEDS.",
}
"""What to do about a rate that is refused, by cause."""


_Settings = TypeVar("_Settings", bound=DatabaseSettings)


def read_settings(env_file: str | Path | None = ".env", **overrides: Any) -> Settings:
    """Reads the settings. `overrides` precede environment variables, and these precede the file.

    Raises:
        NotReady: Settings are missing or invalid. The message names all of them, and shows no value.
    """
    return _read(Settings, env_file, **overrides)


def read_database_settings(env_file: str | Path | None = ".env") -> DatabaseSettings:
    """Reads the settings of the database, however incomplete the others are. Raises `NotReady`."""
    return _read(DatabaseSettings, env_file)


def _read(kind: type[_Settings], env_file: str | Path | None, **overrides: Any) -> _Settings:
    try:
        return kind(_env_file=env_file, _env_ignore_empty=True, **overrides)  # type: ignore[call-arg]  # no fields
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False)
        raise NotReady("; ".join(map(_describe_setting_error, errors))) from None


def connect_verified_services(settings: Settings) -> Services:
    """Connects the services after all fatal checks have passed.

    Raises:
        NotReady: A fatal check failed.
        DatabaseUnavailable: No database answers.
    """
    require_checks(check_endpoints(settings))
    services = connect_services(settings)
    require_checks(check_signer(services.sender.accounts))
    require_checks(check_contract(settings, services.w3, services.chain))
    require_checks(check_database(settings, services.database.engine))
    return services


def check_deployment(settings: Settings) -> Iterator[Check]:
    """Runs all checks for `stakesim doctor`. Leaves a check out if it depends on one that failed."""
    try:
        accounts = open_accounts(settings)
    except NotReady as error:
        yield Check("key", False, error.message, "Correct the settings of the keys, or the files.", fatal=True)
        return
    yield from check_signer((accounts.platform, *accounts.operators, *accounts.previous))
    endpoint_checks = list(check_endpoints(settings))
    yield from endpoint_checks
    if endpoint_checks[-1].name != "network":  # the check of this name is there only if no node answers
        w3 = connect_web3(settings.rpc_urls)
        unused_database = Database(open_engine(URL.create(DRIVER)))  # the sender sends nothing here
        policy = transaction_policy(settings)
        sender = TransactionSender(
            *(w3, accounts.platform, unused_database, policy), operators=accounts.operators, sealer=accounts.sealer
        )
        chain = BlockchainService(w3, settings.contract_address, sender, settings.custody_address)
        yield from check_contract(settings, w3, chain)
    try:
        engine = connect(settings.database_url, policy=database_policy(settings))
    except DatabaseUnavailable as error:
        yield Check("database", False, error.message, "Start it, or correct DATABASE_URL.", fatal=True)
        return
    database_checks = list(check_database(settings, engine))
    yield from database_checks
    if any(check.name == "migrations" and not check.ok for check in database_checks):
        return
    yield from check_access(settings, engine)
    services = connect_services(settings)
    yield check_payments(settings, services.payments)
    yield check_price(services.pricing)
    yield check_pending(services.database, settings.chain_id)
    sender = services.sender
    yield check_keys(services.database, settings.chain_id, sender.accounts, len(sender.lanes.addresses))
    yield check_orphans(services.database)


# --------------------------------------------------------------------------------------------- network and contract


def check_endpoints(settings: Settings) -> Iterator[Check]:
    """Checks each RPC endpoint separately, as the spare ones have to be on the right network too."""
    answering = 0
    for number, url in enumerate(settings.rpc_urls, 1):
        w3 = connect_web3([url], timeout=5, give_up_after=1)
        name = f"endpoint {number} of {len(settings.rpc_urls)}"
        try:
            chain_id, head = rpc.chain_id(w3), rpc.latest_header(w3)
        except NODE_ERRORS as error:
            remedy = f"Correct BLOCKCHAIN_RPC_URL (number {number}), or wait until that node is up."
            yield Check(name, False, _capitalized(as_chain_unavailable(name, error)), remedy)
            continue
        answering += 1
        if chain_id != settings.chain_id:
            finding = f"The node of {name} is on chain {chain_id}, not on chain {settings.chain_id}."
            yield Check(name, False, finding, f"Correct BLOCKCHAIN_RPC_URL (number {number}), or CHAIN_ID.", fatal=True)
            continue
        skew = abs(time.time() - head.timestamp)
        finding = (
            f"On chain {chain_id}, at block {head.number}, whose time differs by {skew:.0f} s from this machine's."
        )
        remedy = "Wait until the node is in step with its network, or set this machine's clock."
        yield Check(name, skew <= MAX_CLOCK_SKEW_S, finding, remedy)
    if not answering:
        finding = "No endpoint answers, so network and contract can't be checked."
        yield Check("network", False, finding, "Correct BLOCKCHAIN_RPC_URL, or wait until a node is up.", fatal=True)


def check_contract(settings: Settings, w3: Web3, chain: BlockchainService) -> Iterator[Check]:
    """Checks the contract's code and owner, and the platform's wallet."""
    try:
        yield from _contract_checks(settings, w3, chain)
    except (AppError, *NODE_ERRORS) as error:
        app_error = error if isinstance(error, AppError) else as_chain_unavailable("contract", error)
        remedy = "Wait until the node is up, or correct BLOCKCHAIN_RPC_URL."
        yield Check("contract", False, _capitalized(app_error), remedy, fatal=True)


def _contract_checks(settings: Settings, w3: Web3, chain: BlockchainService) -> Iterator[Check]:
    code = rpc.code(w3, chain.address)
    if not code:
        finding = f"There is no contract at {chain.address} on chain {settings.chain_id}."
        yield Check("contract", False, finding, "Correct CONTRACT_ADDRESS or CHAIN_ID.", fatal=True)
        return
    yield _check_code(settings, chain.address, code)
    yield _check_owner(chain)
    base_fee = rpc.latest_header(w3).base_fee
    for number, lane in enumerate(chain.sender.lanes.addresses):
        if number:
            yield _check_operator(chain, lane)
        yield _check_wallet(settings, lane, rpc.balance(w3, lane), base_fee)
    cap = settings.max_fee_per_gas
    finding = f"The base fee is {_gwei(base_fee)} a unit of gas, and MAX_FEE_GWEI {_gwei(cap)}."
    remedy = "Raise MAX_FEE_GWEI, or wait: transactions are held until the base fee falls."
    yield Check("fees", base_fee + settings.priority_fee_per_gas <= cap, finding, remedy)


def _check_code(settings: Settings, address: str, code: bytes) -> Check:
    code_hash = "0x" + keccak(code).hex()
    if settings.contract_code_hash:
        ok, expected = code_hash == settings.contract_code_hash, "that of CONTRACT_CODE_HASH"
    else:
        ok, expected = is_event_stake(code), "this project's EventStake"
    finding = f"The code at {address} is {expected if ok else f'not {expected}; its hash is {code_hash}'}."
    remedy = "Correct CONTRACT_ADDRESS; if another contract is meant to be there, set CONTRACT_CODE_HASH to its hash."
    return Check("code", ok, finding, remedy, fatal=True)


def is_event_stake(code: bytes) -> bool:
    """Returns whether this is the runtime code of the committed artifact.

    Ignores the terms, which are immutables, and the hash of the sources in the metadata at its end, which changes with
    every comment.
    """
    artifact: Mapping[str, Any] = json.loads(ARTIFACT.read_text())
    expected = bytes.fromhex(artifact["deployedBytecode"].removeprefix("0x"))
    ignored = [reference for references in artifact["immutableReferences"].values() for reference in references]
    if source_hash := SOURCE_HASH.search(expected):
        ignored.append({"start": source_hash.start(1), "length": 32})
    return _zeroed(expected, ignored) == _zeroed(code, ignored)


def _zeroed(code: bytes, references: Sequence[Mapping[str, int]]) -> bytes:
    """Returns the code with zeros at these references, each with `start` and `length` in bytes."""
    zeroed = bytearray(code)
    for reference in references:
        zeroed[reference["start"] : reference["start"] + reference["length"]] = bytes(reference["length"])
    return bytes(zeroed)


def _check_owner(chain: BlockchainService) -> Check:
    """Asks for an operator's key. The owner may be a contract, and no key of it is needed here.

    Fatal only for the full interface, in which the platform acts for others as operator or owner of the contract.
    """
    remedy = (
        "Let the owner name the platform's wallet (`stakesim owner set-operator`), or set PLATFORM_PRIVATE_KEY to an "
        "operator's key."
    )
    try:
        owner = chain.owner()
    except (ContractRejected, UnsupportedByContract):
        return Check("owner", False, "The contract does not say who owns it.", remedy, fatal=chain.has_full_interface)
    if owner == chain.platform:
        finding = f"The owner is {owner}, the platform's wallet; an operator, who can't take fees out, would be enough."
        return Check("owner", True, finding, remedy)
    is_operator = chain.has_full_interface and chain.is_operator(chain.platform)
    role = "an operator" if is_operator else "neither owner nor operator"
    finding = f"The platform's wallet {chain.platform} is {role} of the contract, whose owner is {owner}."
    return Check("owner", is_operator, finding, remedy, fatal=chain.has_full_interface)


def _check_operator(chain: BlockchainService, lane: str) -> Check:
    """Checks that a further account may act for the platform. Fatal, as its operations would be refused."""
    acts = chain.has_full_interface and (chain.is_operator(lane) or chain.owner() == lane)
    remedy = "Let the owner name it (`stakesim owner set-operator`), or take its key out of the settings."
    finding = f"The wallet {lane} is {'an operator' if acts else 'neither owner nor operator'} of the contract."
    return Check("operator", acts, finding, remedy, fatal=True)


def _check_wallet(settings: Settings, wallet: str, balance: int, base_fee: int) -> Check:
    needed = RESERVE_GAS * (2 * base_fee + settings.priority_fee_per_gas)
    finding = (
        f"{wallet} has {_eth(balance)}; it pays the stakes, the bookings and the gas, "
        f"of which {RESERVE_GAS:,} are at most {_eth(needed)} now."
    )
    return Check("wallet", balance >= needed, finding, f"Send ETH on chain {settings.chain_id} to {wallet}.")


# ------------------------------------------------------------------------------------------------ database and price


def check_database(settings: Settings, engine: Engine) -> Iterator[Check]:
    """Checks that the database is not the embedded one, has all migrations, and belongs to this contract."""
    with engine.connect() as connection:
        is_pooled = is_behind_pooler(connection)
    finding = "DATABASE_URL is set; its connections go through a pooler." if is_pooled else "DATABASE_URL is set."
    if not settings.database_url:
        finding = "DATABASE_URL is not set: it is the embedded server's."
    remedy = "Set DATABASE_URL: the embedded server is for trying out, and a crash of the machine may cost it rows."
    yield Check("database", bool(settings.database_url), finding, remedy)
    try:
        missing = missing_migrations(engine)
    except MigrationsMissing as error:
        yield Check("migrations", False, error.message, "Without them no table can be made or checked.", fatal=True)
        return
    finding = f"Not applied: {', '.join(missing)}." if missing else "All are applied."
    remedy = "`stakesim migrate` applies them, as the tables' owner; so does running the files in order."
    yield Check("migrations", not missing, finding, remedy)
    if not missing:
        yield _check_one_contract(settings, engine)


def _check_one_contract(settings: Settings, engine: Engine) -> Check:
    stored = tuple_(operations.c.chain_id, operations.c.to_address)
    own = tuple_(literal(settings.chain_id, BigInteger), literal(settings.contract_address))
    is_call = operations.c.kind != FILL_NONCE_GAP  # what fills a gap goes to the platform itself
    with engine.connect() as connection:  # below or above its own, as an index does not find what is different
        lower, upper = (
            connection.execute(
                select(operations.c.chain_id, operations.c.to_address)
                .where(is_foreign, is_call)
                .order_by(*order)
                .limit(1)
            ).one_or_none()
            for is_foreign, order in (
                (stored < own, (operations.c.chain_id, operations.c.to_address)),
                (stored > own, (operations.c.chain_id.desc(), operations.c.to_address.desc())),
            )
        )
    foreign = lower or upper
    finding = "It knows of no other contract."
    if foreign:
        finding = f"The database holds operations of the contract {foreign.to_address} on chain {foreign.chain_id}."
    remedy = "Set DATABASE_URL to a database of this contract's own: its ids on chain are unique in it."
    return Check("one contract", foreign is None, finding, remedy, fatal=True)


def check_price(pricing: Pricing) -> Check:
    """Checks that there is a rate to quote with."""
    try:
        rate = pricing.rate()
    except PriceError as error:
        return Check("price", False, error.message, PRICE_REMEDIES[error.cause])
    age = (pricing.clock() - rate.as_of).total_seconds()
    return Check("price", True, f"One ETH is {rate.inr_per_eth} INR by {rate.source}, as of {age:.0f} s ago.")


def check_pending(database: Database, chain_id: int) -> Check:
    """Checks that no operation is held, or pending for longer than `STUCK_AFTER`; those that are abandoned may be."""
    with database.transaction() as connection:
        pending = [each for each in open_operations(connection, chain_id) if each.abandoned_at is None]
    now = datetime.now(UTC)
    stuck = [operation for operation in pending if operation.held or now - operation.created_at > STUCK_AFTER]
    finding = f"{len(pending)} operations are not final yet."
    if stuck:
        first = stuck[0]
        finding += (
            f" {len(stuck)} are held or old: {first.kind} {first.key} is {first.state}, {first.held or 'not held'}."
        )
    return Check("pending", not stuck, finding, "See `stakesim operations`; the running service goes on.")


def check_orphans(database: Database) -> Check:
    """Checks that no transaction of the platform is known that is in no operation."""
    statement = select(orphans.c.tx_hash, orphans.c.kind).where(IS_OPEN_ORPHAN).order_by(orphans.c.nonce)
    with database.autocommit() as connection:
        found = connection.execute(statement).all()
    finding = "All known transactions of the platform are in an operation."
    if found:
        finding = f"{len(found)} transactions are in no operation; the first is {found[0].kind} {found[0].tx_hash}."
    remedy = "Find out whose they are: the database lost commits, or somebody else uses the key."
    return Check("orphans", not found, finding, remedy)


def _describe_setting_error(error: Mapping[str, Any]) -> str:
    """Returns an error of pydantic as text, such as "CHAIN_ID is not set"."""
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, KeySourcesWrong):
        return str(cause)
    variable = ".".join(str(part) for part in error["loc"]).upper()
    if error["type"] == "missing":
        return f"{variable} is not set"
    return f"{variable} is wrong: " + str(error["msg"]).removeprefix("Value error, ").rstrip(".")


def _capitalized(error: AppError) -> str:
    return error.message[:1].upper() + error.message[1:]


def _eth(wei: int) -> str:
    return f"{Decimal(wei) / WEI_PER_ETH:.6g} ETH"


def _gwei(wei: int) -> str:
    return f"{Decimal(wei) / WEI_PER_GWEI:.3f} gwei"
