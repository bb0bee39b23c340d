"""Faults of processes, databases, settings, clocks and prices: rows 23 to 29 of the catalogue, in its order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from app.bootstrap.check import NotReady, require_checks
from app.bootstrap.checks import check_contract, check_endpoints
from app.core.config import Settings
from app.core.errors import ChainUnavailable, KeyReused, PriceError
from app.db.database import Database, open_engine
from app.services.pricing import Rate
from backend_environment import DAY, Feed, deploy
from fault_environment import (
    SEND,
    FaultEnvironment,
    Forward,
    Killed,
    after_the_request,
    all_operations,
    before_the_request,
    dying,
    first,
    http,
    raising,
)
from pydantic import SecretStr
from sqlalchemy import Engine as DatabaseEngine
from sqlalchemy import create_engine, text
from web3 import Web3

pytestmark = pytest.mark.slow

# ------------------------------------------------------------------------------------------------ 23, 24: the crashes


def recovered(environment: FaultEnvironment) -> FaultEnvironment:
    """Runs a new process' reconciler: once in full, and then after each block."""
    worker = environment.worker()
    for _ in range(4):
        assert worker.services.reconciler.run_full().problems == []
        environment.mine()
    return worker


def test_23_crash_after_the_commit_before_the_send(environment: FaultEnvironment) -> None:
    operation = environment.prepare_run()
    with dying(environment.connection, first(1, raising(Killed()))):
        environment.services.sender.finish(operation)
    signed = environment.find(operation)
    assert (signed.state, environment.pool(), environment.created()["runs"]) == ("signed", 0, 0)
    worker = recovered(environment)
    assert worker.connection.sent[0] == signed.attempts[0].raw_transaction
    assert len(set(worker.connection.sent)) == 1
    assert worker.find(operation).state == "confirmed"
    worker.check(runs=1)


def test_23_crash_before_anything_is_signed(environment: FaultEnvironment) -> None:
    operation = environment.prepare_run()
    worker = recovered(environment)
    assert worker.find(operation).state == "confirmed"
    worker.check(runs=1)


@pytest.mark.parametrize("mined", [True, False], ids=["mined", "in the mempool"])
def test_24_crash_after_the_send_before_the_update(environment: FaultEnvironment, mined: bool) -> None:
    environment.rpc("evm_setAutomine", mined)
    operation = environment.prepare_run()
    killed = after_the_request(raising(Killed()), environment if mined else None)
    with dying(environment.connection, first(1, killed)):
        environment.services.sender.finish(operation)
    environment.rpc("evm_setAutomine", False)
    assert (environment.find(operation).state, environment.pool(), environment.created()["runs"]) == (
        "signed",
        not mined,
        mined,
    )
    worker = recovered(environment)
    assert set(worker.connection.sent) == set(environment.connection.sent)
    assert (worker.find(operation).state, len(worker.find(operation).attempts)) == ("confirmed", 1)
    worker.check(runs=1)


def test_24_crash_after_a_raised_fee_was_stored(environment: FaultEnvironment) -> None:
    """The new attempt was not sent, and the old one is mined: receipts of all attempts are read."""
    worker = environment.worker(bump_after=0)
    operation = worker.step(worker.prepare_run())
    sends: Any = iter([lambda forward: forward(), lambda forward: (_ for _ in ()).throw(Killed())])
    with dying(worker.connection, lambda method, _, forward: next(sends)(forward) if method == SEND else forward()):
        for _ in range(3):
            operation = worker.step(operation)
    environment.mine()
    operation = environment.find(operation)
    assert (len(operation.attempts), operation.state) == (2, "signed")
    recovered(environment)
    operation = environment.find(operation)
    assert (operation.state, operation.tx_hash) == ("confirmed", operation.attempts[0].tx_hash)
    environment.check(runs=1)


# ----------------------------------------------------------------------------------------------- 25: the database


@contextmanager
def shut(database: DatabaseEngine) -> Iterator[Callable[[], None]]:
    """Yields a function that ends all connections, and allows no new ones until the test ends."""
    name = database.url.database
    admin = create_engine(database.url.set(database="postgres"), isolation_level="AUTOCOMMIT")

    def shut() -> None:
        with admin.connect() as connection:
            connection.exec_driver_sql(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
            ours = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name")
            connection.execute(ours, {"name": name})

    try:
        yield shut
    finally:
        with admin.connect() as connection:
            connection.exec_driver_sql(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
        admin.dispose()


def test_25_database_gone_after_a_good_send(environment: FaultEnvironment, committing: DatabaseEngine) -> None:
    operation = environment.prepare_run()
    with shut(committing) as shut_it:

        def last_words(method: str, params: Any, forward: Forward) -> Any:
            answer = forward()
            shut_it()
            return answer

        environment.connection.fault = first(1, last_words)
        with pytest.raises(ChainUnavailable, match="database is unavailable") as caught:
            environment.services.sender.finish(operation)
        assert caught.value.operation == operation.key
        assert environment.pool() == 1
        environment.mine()
    committing.dispose()
    worker = recovered(environment)
    assert set(worker.connection.sent) <= set(environment.connection.sent), "the same bytes, if any"
    assert (worker.find(operation).state, len(worker.find(operation).attempts)) == ("confirmed", 1)
    worker.check(runs=1)


def test_25_database_gone_before_the_commit(environment: FaultEnvironment, committing: DatabaseEngine) -> None:
    """Nothing is sent without the commit."""
    operation = environment.prepare_run()
    with shut(committing) as shut_it:
        environment.connection.fault = first(1, before_the_request(shut_it), "eth_getTransactionCount")
        with pytest.raises(ChainUnavailable, match="database is unavailable"):
            environment.services.sender.finish(operation)
        assert (environment.pool(), environment.connection.sent) == (0, [])
    committing.dispose()
    worker = recovered(environment)
    assert (worker.find(operation).state, worker.find(operation).nonce) == ("confirmed", environment.count() - 1)
    worker.check(runs=1)


# ------------------------------------------------------------------------------------------------- 26: who is many


@contextmanager
def blocks_coming(environment: FaultEnvironment) -> Iterator[None]:
    """Mines a block every few milliseconds."""
    over, w3 = threading.Event(), Web3(http(environment.engine))

    def mine() -> None:
        while not over.wait(0.02):
            w3.provider.make_request("evm_mine", [])  # type: ignore[arg-type]

    thread = threading.Thread(target=mine)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def other_worker(environment: FaultEnvironment, committing: DatabaseEngine) -> FaultEnvironment:
    """A worker with separate database connections."""
    return replace(environment, database=Database(open_engine(committing.url))).worker(give_up_after=20)


def test_26_two_workers_on_one_operation(environment: FaultEnvironment, committing: DatabaseEngine) -> None:
    """A client sends the same request twice: there is one operation, and all get the same result."""
    workers = [other_worker(environment, committing) for _ in range(3)]
    starts_at = environment.now() + 3 * DAY

    def post(worker: FaultEnvironment) -> Any:
        return worker.services.runs.create(
            environment.ids["host"],
            environment.ids["experience"],
            starts_at,
            4,
            Decimal(20_000),
            idempotency_key="once",
        )

    with blocks_coming(environment), ThreadPoolExecutor(6) as pool:
        rows = list(pool.map(post, workers * 2))
    assert len({row.id for row in rows}) == 1
    [operation] = all_operations(environment.database)
    assert (operation.state, len(operation.attempts)) == ("confirmed", 1)
    environment.check(runs=1)
    for worker in workers:
        worker.database.engine.dispose()


def test_26_two_workers_with_one_account(environment: FaultEnvironment, committing: DatabaseEngine) -> None:
    workers = [other_worker(environment, committing) for _ in range(3)]

    def work(number: int) -> None:
        worker = workers[number % 3]
        worker.services.sender.finish(worker.prepare_run(seats=number + 1))

    with blocks_coming(environment), ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(9)))
    operations = all_operations(environment.database)
    assert sorted(operation.nonce or 0 for operation in operations) == list(range(1, 10))
    assert [len(operation.attempts) for operation in operations] == [1] * 9
    environment.check(runs=9)
    for worker in workers:
        worker.database.engine.dispose()


def test_26_an_old_copy_of_an_operation_changes_nothing(environment: FaultEnvironment) -> None:
    """One worker signs with a new nonce; another one with an older copy must not do so again."""
    old = environment.step(environment.prepare_run())
    environment.send_foreign(old.nonce or 0)
    environment.mine(3)
    other = environment.worker()
    new = other.step(other.step(old))
    assert (new.state, new.requeued) == ("signed", 1)
    assert environment.step(old) == new
    assert environment.settle(old).attempts == new.attempts
    environment.check(runs=1)


def test_26_the_same_key_with_other_arguments(environment: FaultEnvironment) -> None:
    operation = environment.settle(environment.prepare_run(idempotency_key="user:once"))
    count = environment.count()
    with pytest.raises(KeyReused, match="'once' was used for another request"):
        environment.prepare_run(seats=5, idempotency_key="user:once")
    with pytest.raises(KeyReused):
        environment.services.runs.prepare_cancel(operation.subject, idempotency_key="user:once")
    assert (len(all_operations(environment.database)), environment.count()) == (1, count)
    environment.check(runs=1)


# -------------------------------------------------------------------------------------------------- 27: the settings


def settings(environment: FaultEnvironment, **others: Any) -> Settings:
    values = {
        "blockchain_rpc_url": http(environment.engine).endpoint_uri,
        "chain_id": environment.w3.eth.chain_id,
        "contract_address": environment.address,
        "platform_private_key": SecretStr(environment.platform.key.to_0x_hex()),
        "jwt_secret": SecretStr("0123456789abcdefghijklmnopqrstuvwxyz"),
    }
    return Settings(_env_file=None, **(values | others))  # type: ignore[arg-type]


def start(environment: FaultEnvironment, address: str | None = None, **others: Any) -> None:
    """Connects as a process does at start-up."""
    checked, chain = settings(environment, **others), environment.services.chain
    if address:
        chain = type(chain)(environment.services.w3, Web3.to_checksum_address(address), environment.services.sender)
    require_checks([*check_endpoints(checked), *check_contract(checked, environment.services.w3, chain)])


def test_27_wrong_chain_id_no_code_or_other_code(environment: FaultEnvironment) -> None:
    environment.rpc("evm_setAutomine", True)
    other, count = deploy(environment.engine, "MinimalEventStake"), environment.count()
    start(environment)
    with pytest.raises(NotReady, match="not on chain 11155111"):
        start(environment, chain_id=11155111)
    with pytest.raises(NotReady, match="There is no contract at"):
        start(environment, "0x00000000000000000000000000000000000000AA")
    with pytest.raises(NotReady, match="not this project's EventStake"):
        start(environment, other)
    with pytest.raises(NotReady, match="not that of CONTRACT_CODE_HASH"):
        start(environment, contract_code_hash="0x" + "11" * 32)
    assert (environment.connection.sent, environment.count()) == ([], count)


# --------------------------------------------------------------------------------------------------- 28: the clocks


@pytest.mark.parametrize("apart", [timedelta(days=-30_000), timedelta(0), timedelta(days=30_000)], ids=str)
def test_28_clocks_apart(environment: FaultEnvironment, apart: timedelta) -> None:
    """Only the time of the block decides what is too early or too late, to the second.

    This machine's clock is decades behind the chain's, and the service's clock differs by the parameter.
    """

    def clock() -> datetime:
        return environment.now() + apart

    pricing = environment.services.pricing
    pricing.clock = clock
    feed = Feed(Rate(Decimal(200_000), clock()))
    pricing.feed = feed
    run = environment.open_run()
    starts_at = environment.services.runs.get(run).starts_at
    booked = environment.settle(environment.prepare_booking(run))
    early = environment.settle(environment.services.runs.prepare_complete(run, []))
    assert (early.state, (early.error or {})["name"]) == ("rejected", "TooEarly")

    feed.rate = Rate(Decimal(200_000), clock())
    late = environment.step(environment.prepare_booking(run))
    environment.engine.set_next_timestamp(int(starts_at.timestamp()))
    environment.follow(late)
    environment.mine()
    late = environment.settle(late)
    assert (late.state, (late.error or {})["outcome"]) == ("failed", "reverted"), "the last second was the one before"
    environment.engine.set_next_timestamp(int((starts_at + DAY).timestamp()))
    environment.mine()
    completed = environment.settle(environment.services.runs.prepare_complete(run, [booked.subject]))
    assert completed.state == "confirmed"
    assert environment.services.runs.get(run).status == "completed"
    environment.check(runs=1, bookings=1)


# ---------------------------------------------------------------------------------------------------- 29: the price


@pytest.mark.parametrize(
    ("inr", "age", "message"),
    [
        ("200000", timedelta(hours=2), "old; at most"),
        ("0", timedelta(0), "no positive number"),
        ("-200000", timedelta(0), "no positive number"),
        ("NaN", timedelta(0), "no positive number"),
        ("sNaN", timedelta(0), "no positive number"),
        ("Infinity", timedelta(0), "no positive number"),
        ("2000000", timedelta(0), "times up or down"),
        ("20000", timedelta(0), "times up or down"),
        (None, timedelta(0), "the feed has none"),
    ],
)
def test_29_price_feed_stale_zero_negative_not_a_number_or_ten_times_off(
    environment: FaultEnvironment, inr: str | None, age: timedelta, message: str
) -> None:
    """There is no quote, run or booking: nothing is stored or sent."""
    run = environment.open_run()
    sent, rows = len(environment.connection.sent), len(all_operations(environment.database))
    environment.feed.rate = None if inr is None else Rate(Decimal(inr), environment.now() - age)
    attempts: list[Callable[[], Any]] = [
        lambda: environment.services.bookings.quote(run, 1),
        lambda: environment.prepare_booking(run),
        environment.prepare_run,
    ]
    for attempt in attempts:
        with pytest.raises(PriceError, match=message):
            attempt()
    assert (len(environment.connection.sent), len(all_operations(environment.database))) == (sent, rows)
    environment.feed.rate = Rate(Decimal(210_000), environment.now())
    assert environment.settle(environment.prepare_booking(run)).state == "confirmed"
    environment.check(runs=1, bookings=1)
