"""Checks before the service starts: each passes, and fails in each possible way."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from app.bootstrap.check import Check, NotReady, require_checks
from app.bootstrap.checks import (
    check_contract,
    check_database,
    check_deployment,
    check_endpoints,
    check_orphans,
    check_pending,
    check_price,
    is_event_stake,
    read_settings,
)
from app.bootstrap.container import build_payments
from app.bootstrap.payment_checks import check_payments
from app.core.config import Settings
from app.db import migrations
from app.db.database import create_database, drop_database
from app.db.embedded import default_data_dir, start_embedded
from app.db.migrations import migrate, missing_migrations
from app.db.tables import operations, orphans
from app.services.blockchain_service import BlockchainService
from app.services.codec import ARTIFACT, Call, event_stake_codec
from app.services.operation_types import FILL_NONCE_GAP
from app.services.price_feeds import ManualPriceFeed
from app.services.pricing import Pricing
from app.services.transactions.sender import TransactionSender
from backend_environment import TERMS, BackendEnvironment, deploy, send_call, transact
from eth_utils.crypto import keccak
from sqlalchemy import Engine as DatabaseEngine
from sqlalchemy import insert, update
from stakesim.evm.abi import ContractAbi
from stakesim.evm.compiler import CONTRACTS
from stakesim.evm.contract_file import load_contract
from stakesim_adapter.razorpay_stand_in import RazorpayStandIn, serve_stand_in
from web3 import Web3

SECRET = "k7Pz0vQe9XwLr2TnB5yHc8JdM4sGa6Uf"
ELSEWHERE = "0x" + "ab" * 20
DEAD = "http://127.0.0.1:9/v3/url-secret"


def settings_of(backend: BackendEnvironment, **overrides: Any) -> Settings:
    """Returns settings for this backend and its chain."""
    usual = {
        "blockchain_rpc_url": DEAD,
        "chain_id": backend.engine.w3.eth.chain_id,
        "contract_address": backend.chain.address,
        "platform_private_key": backend.wallets["platform"].key.to_0x_hex(),
        "jwt_secret": SECRET,
        "database_url": "postgresql://somewhere/books",
    }
    return read_settings(None, **(usual | overrides))


def by_name(checks: Iterator[Check]) -> dict[str, Check]:
    checks = {check.name: check for check in checks}
    assert all(check.ok or check.remedy for check in checks.values())
    return checks


PAYMENTS = {
    "payments": "razorpay",
    "razorpay_key_id": "rzp_test_stand_in",
    "razorpay_key_secret": "stand-in-key-secret",
    "razorpay_webhook_secret": "stand-in-webhook-secret",
}


def payments_check(backend: BackendEnvironment, **overrides: Any) -> Check:
    settings = settings_of(backend, **overrides)
    payments = build_payments(settings, backend.database, backend.sender.sealer)
    return by_name(iter([check_payments(settings, payments)]))["payments"]


@pytest.mark.slow
def test_payments_are_checked_at_the_gateway(backend: BackendEnvironment) -> None:
    with serve_stand_in(RazorpayStandIn()) as url:
        at_razorpay = PAYMENTS | {"razorpay_url": url}
        taken = payments_check(backend, **at_razorpay)
        assert (taken.ok, taken.finding) == (True, "Payments are taken at Razorpay with the key rzp_test_stand_in.")
        refused = payments_check(backend, **at_razorpay | {"razorpay_key_secret": "another"})
        assert (refused.ok, refused.finding) == (False, "The payment gateway does not take the API key.")
        on_mainnet = payments_check(backend, **at_razorpay | {"chain_id": 1})
        assert not on_mainnet.ok
        assert "is a test key, which takes no money, and Ethereum is no testnet" in on_mainnet.finding
    down = payments_check(backend, **at_razorpay)
    assert (down.ok, down.finding) == (False, "The payment gateway does not answer: ConnectionError.")
    assert "another" not in refused.finding + refused.remedy


def test_who_pays_for_nobody_is_told(backend: BackendEnvironment) -> None:
    by_default = payments_check(backend)
    assert (by_default.ok, by_default.finding[:27]) == (True, "Payments are taken by hand:")
    nobody = payments_check(backend, payments="none")
    assert not nobody.ok
    assert "the platform's wallet pays for everybody" in nobody.finding
    assert not nobody.fatal


def contract_checks(backend: BackendEnvironment, **overrides: Any) -> dict[str, Check]:
    settings = settings_of(backend, **overrides)
    return by_name(check_contract(settings, backend.engine.w3, backend.at(settings.contract_address)))


# ------------------------------------------------------------------------------------------------------ settings


@pytest.fixture
def empty_env(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


def test_missing_and_wrong_settings_are_named_without_their_values(
    empty_env: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("JWT_SECRET=short-one\nPLATFORM_PRIVATE_KEY=0xnothex\nETH_PRICE_INR=\n")
    with pytest.raises(NotReady) as caught:
        read_settings(tmp_path / ".env")
    message = str(caught.value)
    for part in ("BLOCKCHAIN_RPC_URL is not set", "CONTRACT_ADDRESS is not set", "JWT_SECRET is wrong: The secret is"):
        assert part in message
    assert "PLATFORM_PRIVATE_KEY is wrong" in message
    assert "ETH_PRICE_INR" not in message
    assert "short-one" not in message
    assert "nothex" not in message
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("secret", ["change-me-change-me-change-me-change-me", "a" * 64, "0123456789abcdef"])
def test_a_default_or_short_secret_is_refused(
    empty_env: pytest.MonkeyPatch, backend: BackendEnvironment, secret: str
) -> None:
    with pytest.raises(NotReady, match="JWT_SECRET is wrong"):
        settings_of(backend, jwt_secret=secret)


# ------------------------------------------------------------------------------------------------------ contract


def test_a_good_contract(backend: BackendEnvironment) -> None:
    checks = contract_checks(backend)
    assert list(checks) == ["code", "owner", "wallet", "fees"]
    assert all(check.ok for check in checks.values())
    require_checks(checks.values())


def test_fault_27_no_code_at_the_address(backend: BackendEnvironment) -> None:
    checks = contract_checks(backend, contract_address=ELSEWHERE)
    assert list(checks) == ["contract"]
    with pytest.raises(NotReady, match=r"There is no contract at 0xABaB.*Correct CONTRACT_ADDRESS"):
        require_checks(checks.values())


def test_fault_27_other_code_than_expected(grumbler: BackendEnvironment) -> None:
    checks = contract_checks(grumbler)
    assert not checks["code"].ok
    with pytest.raises(NotReady, match="is not this project's EventStake"):
        require_checks(checks.values())


def test_fault_27_another_hash_than_that_of_the_settings(backend: BackendEnvironment) -> None:
    checks = contract_checks(backend, contract_code_hash="0x" + "12" * 32)
    with pytest.raises(NotReady, match="is not that of CONTRACT_CODE_HASH"):
        require_checks(checks.values())


def test_another_contract_is_accepted_by_its_hash_even_without_an_owner(minimal: BackendEnvironment) -> None:
    code = minimal.engine.w3.eth.get_code(minimal.chain.address)
    checks = contract_checks(minimal, contract_code_hash="0x" + keccak(code).hex().upper())
    assert checks["code"].ok
    assert not checks["owner"].fatal
    require_checks(checks.values())


def test_the_check_shows_the_code_hash(minimal: BackendEnvironment) -> None:
    message = contract_checks(minimal)["code"].finding
    code_hash = "0x" + message.rpartition("0x")[2].rstrip(".")
    assert contract_checks(minimal, contract_code_hash=code_hash)["code"].ok


def test_other_terms_are_the_same_code(backend: BackendEnvironment) -> None:
    other = deploy(backend.engine, "EventStake", backend.wallets["platform"].address, (1_000, 100, 5_000, 3_600, 7_200))
    assert TERMS[0] != 1_000
    code = backend.engine.w3.eth.get_code(other)  # type: ignore[arg-type]
    assert is_event_stake(code)
    assert not is_event_stake(code[:-1])
    assert not is_event_stake(code + b"\0")
    places = {
        start
        for refs in json.loads(ARTIFACT.read_text())["immutableReferences"].values()
        for r in refs
        for start in range(r["start"], r["start"] + r["length"])
    }
    metadata_hash = len(code) - 43  # is 32 bytes long, and of the sources: comments change it
    places |= set(range(metadata_hash, metadata_hash + 32))
    for at in (*range(0, len(code), 997), *range(len(code) - 54, len(code))):
        changed = code[:at] + bytes([code[at] ^ 1]) + code[at + 1 :]
        assert is_event_stake(changed) == (at in places)


def test_somebody_else_owns_the_contract(backend: BackendEnvironment) -> None:
    sender = TransactionSender(backend.engine.w3, backend.wallets["stranger"], backend.database)
    chain = BlockchainService(backend.engine.w3, backend.chain.address, sender)
    checks = by_name(check_contract(settings_of(backend), backend.engine.w3, chain))
    with pytest.raises(NotReady, match="is neither owner nor operator of the contract"):
        require_checks(checks.values())


def test_an_operator_may_serve_a_contract_that_somebody_else_owns(backend: BackendEnvironment) -> None:
    operator = backend.wallets["stranger"]
    sender = TransactionSender(backend.engine.w3, operator, backend.database)
    chain = BlockchainService(backend.engine.w3, backend.chain.address, sender)
    assert not by_name(check_contract(settings_of(backend), backend.engine.w3, chain))["owner"].ok
    transact(backend, "platform", "setOperator", operator.address, True)
    check = by_name(check_contract(settings_of(backend), backend.engine.w3, chain))["owner"]
    assert check.ok
    assert f"{operator.address} is an operator of the contract" in check.finding


def test_each_operator_and_its_wallet_is_checked(backend: BackendEnvironment) -> None:
    """One whom the owner has not named is fatal, as the contract would refuse what its lane sends."""
    named, other = backend.wallets["stranger"], backend.wallets["host"]
    call = event_stake_codec().call(backend.chain.address, "setOperator", named.address, True)
    send_call(backend, "platform", call)
    w3, settings = backend.engine.w3, settings_of(backend)
    for operators, is_ok in ([named], True), ([named, other], False):
        sender = TransactionSender(w3, backend.wallets["platform"], backend.database, operators=operators)
        checks = list(check_contract(settings, w3, BlockchainService(w3, backend.chain.address, sender)))
        of_operators = [check for check in checks if check.name == "operator"]
        assert [check.ok for check in of_operators] == [True, is_ok][: len(operators)]
        assert all(check.fatal for check in of_operators)
        wallets = [check.finding.split()[0] for check in checks if check.name == "wallet"]
        assert wallets == [backend.chain.platform, *(operator.address for operator in operators)]
    with pytest.raises(NotReady, match=f"The wallet {other.address} is neither owner nor operator"):
        require_checks(checks)


def test_a_contract_may_own_it_and_the_operator_serves(backend: BackendEnvironment) -> None:
    """A multisig whose keys are elsewhere. It names the operator, who needs nothing of it afterwards."""
    operator, members = backend.wallets["stranger"], ("host", "platform")
    multisig = deploy(backend.engine, "Multisig", [backend.wallets[role].address for role in members])
    contract = deploy(backend.engine, "EventStake", multisig, TERMS)
    w3 = backend.engine.w3
    chain = BlockchainService(w3, contract, TransactionSender(w3, operator, backend.database))
    settings = settings_of(backend, contract_address=contract)
    assert not by_name(check_contract(settings, w3, chain))["owner"].ok
    call = event_stake_codec().call(contract, "setOperator", operator.address, True)
    abi = load_contract(CONTRACTS / "test" / "Multisig.sol").abi
    approval = ContractAbi(abi).encode("approve", contract, 0, call.data)
    for role in members:
        send_call(backend, role, Call(Web3.to_checksum_address(multisig), "approve", approval))
    checks = by_name(check_contract(settings, w3, chain))
    require_checks(checks.values())
    assert f"{operator.address} is an operator of the contract, whose owner is {multisig}" in checks["owner"].finding
    host = backend.wallets["host"].address
    assert chain.create_event_run_onchain("e", 10**6, 4, backend.now() + timedelta(days=1), host=host).host == host


def test_an_empty_wallet_and_a_low_fee_cap_are_reported_and_not_fatal(backend: BackendEnvironment) -> None:
    backend.engine.set_balance(backend.wallets["platform"].address, 10**15)
    checks = contract_checks(backend, max_fee_gwei="0.1", priority_fee_gwei="0.01")
    assert (checks["wallet"].ok, checks["fees"].ok) == (False, False)
    assert "has 0.001 ETH" in checks["wallet"].finding
    assert "MAX_FEE_GWEI" in checks["fees"].remedy
    require_checks(checks.values())


# ----------------------------------------------------------------------------------------------------- endpoints


@pytest.fixture(scope="module")
def sepolia() -> Iterator[str]:
    """URL of a node that knows its chain and its latest block, of 2100."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            block = {"number": "0x7", "timestamp": hex(4_102_444_800), "baseFeePerGas": "0x7", "transactions": []}
            block |= {"hash": "0x" + "07" * 32, "parentHash": "0x" + "06" * 32}
            result = "0xaa36a7" if request["method"] == "eth_chainId" else block
            body = json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Suppresses the server's log."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v3/url-secret"
        server.shutdown()


@pytest.mark.slow
def test_each_endpoint_is_checked(backend: BackendEnvironment, sepolia: str) -> None:
    checks = list(check_endpoints(settings_of(backend, chain_id=11_155_111, blockchain_rpc_url=f"{sepolia},{DEAD}")))
    assert [check.name for check in checks] == ["endpoint 1 of 2", "endpoint 2 of 2"]
    assert "url-secret" not in repr(checks)
    assert "can't be reached" in checks[1].finding
    require_checks(checks)  # one is enough to start


def test_clock_skew_is_reported(backend: BackendEnvironment, sepolia: str) -> None:
    (check,) = check_endpoints(settings_of(backend, chain_id=11_155_111, blockchain_rpc_url=sepolia))
    assert (check.ok, check.fatal) == (False, False)
    assert "clock" in check.remedy


@pytest.mark.slow
def test_fault_27_wrong_chain_id_on_any_endpoint(backend: BackendEnvironment, sepolia: str) -> None:
    checks = check_endpoints(settings_of(backend, chain_id=1, blockchain_rpc_url=f"{DEAD},{sepolia}"))
    with pytest.raises(NotReady, match="endpoint 2 of 2 is on chain 11155111, not on chain 1"):
        require_checks(checks)


@pytest.mark.slow
def test_no_endpoint_answers(backend: BackendEnvironment) -> None:
    with pytest.raises(NotReady, match="No endpoint answers"):
        require_checks(check_endpoints(settings_of(backend)))


# ------------------------------------------------------------------------------------------------------ database


@pytest.fixture
def fresh() -> Iterator[DatabaseEngine]:
    """A database without any tables."""
    server, name = start_embedded(default_data_dir()), f"test_preflight_{os.getpid()}"
    database = create_database(server, name)
    yield database
    database.dispose()
    drop_database(server, name)


@pytest.mark.slow
def test_missing_migrations_are_named(backend: BackendEnvironment, fresh: DatabaseEngine) -> None:
    checks = by_name(check_database(settings_of(backend), fresh))
    assert list(checks) == ["database", "migrations"]
    assert "001_base_tables, 002" in checks["migrations"].finding
    migrate(fresh)
    assert missing_migrations(fresh) == []
    checks = by_name(check_database(settings_of(backend), fresh))
    assert all(check.ok for check in checks.values())


@pytest.mark.slow
def test_migration_files_that_were_not_deployed_stop_the_service(
    backend: BackendEnvironment, database_engine: DatabaseEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "MIGRATIONS", tmp_path)
    checks = by_name(check_database(settings_of(backend), database_engine))
    assert "migration files are not there" in checks["migrations"].finding
    with pytest.raises(NotReady, match="deploy backend/database"):
        require_checks(checks.values())
    url = database_engine.url.render_as_string(hide_password=False)
    assert [check.name for check in check_deployment(settings_of(backend, database_url=url))][-1] == "migrations"


def test_the_embedded_database_is_not_for_production(
    backend: BackendEnvironment, database_engine: DatabaseEngine
) -> None:
    checks = by_name(check_database(settings_of(backend, database_url=None), database_engine))
    assert not checks["database"].ok
    require_checks(checks.values())


@pytest.mark.slow
def test_a_database_of_another_contract_is_refused(backend: BackendEnvironment, fresh: DatabaseEngine) -> None:
    migrate(fresh)
    row = {"chain_id": backend.engine.w3.eth.chain_id, "to_address": backend.chain.address, "value_wei": 0, "data": b""}
    with fresh.begin() as connection:
        connection.execute(
            insert(operations), {**row, "key": "k", "request": "", "kind": "cancelEvent", "sender": ELSEWHERE}
        )
    require_checks(check_database(settings_of(backend), fresh))
    with pytest.raises(NotReady, match=f"of the contract {backend.chain.address} on chain"):
        require_checks(check_database(settings_of(backend, contract_address=ELSEWHERE), fresh))
    with pytest.raises(NotReady, match="a database of this contract's own"):
        require_checks(check_database(settings_of(backend, chain_id=1), fresh))


@pytest.mark.slow
def test_what_filled_a_gap_of_nonces_is_no_other_contract(backend: BackendEnvironment, fresh: DatabaseEngine) -> None:
    """It goes from the platform to itself."""
    migrate(fresh)
    platform = backend.chain.platform
    row = {"chain_id": backend.engine.w3.eth.chain_id, "to_address": platform, "value_wei": 0, "data": b""}
    with fresh.begin() as connection:
        filling = {**row, "key": "k", "request": "", "kind": FILL_NONCE_GAP, "sender": platform}
        connection.execute(insert(operations), filling)
    require_checks(check_database(settings_of(backend), fresh))


# ------------------------------------------------------------------------------------------------- price and work


def now() -> datetime:
    return datetime.now(UTC)


def test_price_check() -> None:
    day = timedelta(days=1)
    assert check_price(Pricing(ManualPriceFeed(Decimal(200_000), now(), day), now)).ok
    missing = check_price(Pricing(ManualPriceFeed(None, None, day), now))
    assert (missing.ok, missing.fatal) == (False, False)
    assert "Set ETH_PRICE_INR" in missing.remedy


def test_a_stale_price(backend: BackendEnvironment) -> None:
    rate = backend.feed.rate
    assert rate is not None
    backend.feed.rate = replace(rate, as_of=datetime(2020, 1, 1, tzinfo=UTC))
    assert "old" in check_price(Pricing(backend.feed, now)).finding


def test_stuck_operations_are_reported(backend: BackendEnvironment) -> None:
    run = backend.open_run()
    chain_id = backend.engine.w3.eth.chain_id
    assert check_pending(backend.database, chain_id).ok
    backend.runs.prepare_cancel(run.id)
    young = check_pending(backend.database, chain_id)
    assert young.ok
    assert young.finding == "1 operations are not final yet."
    with backend.database.transaction() as connection:
        connection.execute(update(operations).where(operations.c.kind == "cancelEvent").values(held="no funds"))
    stuck = check_pending(backend.database, chain_id)
    assert not stuck.ok
    assert "no funds" in stuck.finding


def test_orphans_are_reported(backend: BackendEnvironment) -> None:
    assert check_orphans(backend.database).ok
    row = {
        "tx_hash": "0xab",
        "chain_id": 1,
        "sender": ELSEWHERE,
        "nonce": 3,
        "block_number": 7,
        "data": b"",
        "value_wei": 0,
    }
    row |= {"kind": "bookEventFor", "succeeded": True, "dismissed": False}
    with backend.database.transaction() as connection:
        connection.execute(insert(orphans), row)
    check = check_orphans(backend.database)
    assert (check.ok, check.fatal) == (False, False)
    assert "bookEventFor 0xab" in check.finding
    with backend.database.transaction() as connection:
        connection.execute(update(orphans).values(dismissed=True))
    assert check_orphans(backend.database).ok


@pytest.mark.slow
def test_checks_end_where_a_failed_check_makes_the_next_impossible(backend: BackendEnvironment) -> None:
    url = "postgresql://nobody:db-secret@127.0.0.1:9/none"
    checks = by_name(check_deployment(settings_of(backend, database_url=url)))
    assert list(checks) == ["endpoint 1 of 1", "network", "database"]
    assert not any(check.ok for check in checks.values())
    assert not [secret for secret in ("db-secret", "url-secret", SECRET) if secret in repr(checks)]
