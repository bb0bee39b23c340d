"""Faults of processes, databases, settings, clocks and prices: rows 23 to 29 of the table, in its order."""

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
from app.bootstrap.checks import NotReady, check_contract, check_endpoints, require_checks
from app.core.config import Settings
from app.core.errors import ChainUnavailable, KeyReused, PriceError
from app.db.database import Database
from app.services.pricing import Rate
from pydantic import SecretStr
from scene import SEND, Ask, Killed, Scene, after_asking, all_operations, doing, dying, first, http, raising
from sqlalchemy import Engine as DatabaseEngine
from sqlalchemy import create_engine, text
from stage import DAY, Feed, deploy
from web3 import Web3

pytestmark = pytest.mark.slow

# ------------------------------------------------------------------------------------------------ 23, 24: the crashes


def recovered(scene: Scene) -> Scene:
    """A new process, which does what each does first, and then every few seconds, while blocks come."""
    worker = scene.worker()
    for _ in range(4):
        assert worker.services.reconciler.run_full().problems == []
        scene.mine()
    return worker


def test_23_crash_after_the_commit_before_the_send(scene: Scene) -> None:
    operation = scene.prepare_run()
    with dying(scene.line, first(1, raising(Killed()))):
        scene.services.sender.finish(operation)
    signed = scene.find(operation)
    assert (signed.state, scene.pool(), scene.created()["runs"]) == ("signed", 0, 0)
    worker = recovered(scene)
    assert worker.line.sent[0] == signed.attempts[0].raw_transaction
    assert len(set(worker.line.sent)) == 1
    assert worker.find(operation).state == "confirmed"
    worker.check(runs=1)


def test_23_crash_before_anything_is_signed(scene: Scene) -> None:
    operation = scene.prepare_run()
    worker = recovered(scene)
    assert worker.find(operation).state == "confirmed"
    worker.check(runs=1)


@pytest.mark.parametrize("mined", [True, False], ids=["mined", "in the mempool"])
def test_24_crash_after_the_send_before_the_update(scene: Scene, mined: bool) -> None:
    scene.rpc("evm_setAutomine", mined)
    operation = scene.prepare_run()
    with dying(scene.line, first(1, after_asking(raising(Killed())))):
        scene.services.sender.finish(operation)
    scene.rpc("evm_setAutomine", False)
    assert (scene.find(operation).state, scene.pool(), scene.created()["runs"]) == ("signed", not mined, mined)
    worker = recovered(scene)
    assert set(worker.line.sent) == set(scene.line.sent)
    assert (worker.find(operation).state, len(worker.find(operation).attempts)) == ("confirmed", 1)
    worker.check(runs=1)


def test_24_crash_after_a_raised_fee_was_stored(scene: Scene) -> None:
    """The new attempt was not sent, the old one is mined: it is looked for, too."""
    worker = scene.worker(bump_after=0)
    operation = worker.step(worker.prepare_run())
    sends: Any = iter([lambda ask: ask(), lambda ask: (_ for _ in ()).throw(Killed())])
    with dying(worker.line, lambda method, params, ask: next(sends)(ask) if method == SEND else ask()):
        for _ in range(3):
            operation = worker.step(operation)
    scene.mine()
    operation = scene.find(operation)
    assert (len(operation.attempts), operation.state) == (2, "signed")
    recovered(scene)
    operation = scene.find(operation)
    assert (operation.state, operation.tx_hash) == ("confirmed", operation.attempts[0].tx_hash)
    scene.check(runs=1)


# ----------------------------------------------------------------------------------------------- 25: the database


@contextmanager
def shut(database: DatabaseEngine) -> Iterator[Callable[[], None]]:
    """What is given shuts the database: it throws out everyone, and lets nobody in until the end."""
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


def test_25_database_gone_after_a_good_send(scene: Scene, committing: DatabaseEngine) -> None:
    operation = scene.prepare_run()
    with shut(committing) as shut_it:

        def last_words(method: str, params: Any, ask: Ask) -> Any:
            answer = ask()
            shut_it()
            return answer

        scene.line.fault = first(1, last_words)
        with pytest.raises(ChainUnavailable, match="database is unavailable") as caught:
            scene.services.sender.finish(operation)
        assert caught.value.operation == operation.key
        assert scene.pool() == 1
        scene.mine()
    committing.dispose()
    worker = recovered(scene)
    assert set(worker.line.sent) <= set(scene.line.sent), "the same bytes, if any"
    assert (worker.find(operation).state, len(worker.find(operation).attempts)) == ("confirmed", 1)
    worker.check(runs=1)


def test_25_database_gone_before_the_commit(scene: Scene, committing: DatabaseEngine) -> None:
    """Then nothing is sent."""
    operation = scene.prepare_run()
    with shut(committing) as shut_it:
        scene.line.fault = first(1, doing(shut_it), "eth_getTransactionCount")
        with pytest.raises(ChainUnavailable, match="database is unavailable"):
            scene.services.sender.finish(operation)
        assert (scene.pool(), scene.line.sent) == (0, [])
    committing.dispose()
    worker = recovered(scene)
    assert (worker.find(operation).state, worker.find(operation).nonce) == ("confirmed", scene.count() - 1)
    worker.check(runs=1)


# ------------------------------------------------------------------------------------------------- 26: who is many


@contextmanager
def blocks_coming(scene: Scene) -> Iterator[None]:
    """One every few milliseconds."""
    over, w3 = threading.Event(), Web3(http(scene.engine))

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


def other_worker(scene: Scene, committing: DatabaseEngine) -> Scene:
    """With connections of its own."""
    return replace(scene, database=Database(create_engine(committing.url))).worker(give_up_after=20)


def test_26_two_workers_on_one_operation(scene: Scene, committing: DatabaseEngine) -> None:
    """And a client that posts the same twice: one operation, and everybody is told the same."""
    workers = [other_worker(scene, committing) for _ in range(3)]
    starts_at = scene.now() + 3 * DAY

    def post(worker: Scene) -> Any:
        return worker.services.runs.create(
            scene.ids["host"], scene.ids["experience"], starts_at, 4, Decimal(20_000), idempotency_key="once"
        )

    with blocks_coming(scene), ThreadPoolExecutor(6) as pool:
        rows = list(pool.map(post, workers * 2))
    assert len({row.id for row in rows}) == 1
    [operation] = all_operations(scene.database)
    assert (operation.state, len(operation.attempts)) == ("confirmed", 1)
    scene.check(runs=1)
    for worker in workers:
        worker.database.engine.dispose()


def test_26_two_workers_with_one_account(scene: Scene, committing: DatabaseEngine) -> None:
    workers = [other_worker(scene, committing) for _ in range(3)]

    def work(number: int) -> None:
        worker = workers[number % 3]
        worker.services.sender.finish(worker.prepare_run(seats=number + 1))

    with blocks_coming(scene), ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(9)))
    operations = all_operations(scene.database)
    assert sorted(operation.nonce or 0 for operation in operations) == list(range(1, 10))
    assert [len(operation.attempts) for operation in operations] == [1] * 9
    scene.check(runs=9)
    for worker in workers:
        worker.database.engine.dispose()


def test_26_an_old_copy_of_an_operation_changes_nothing(scene: Scene) -> None:
    """One worker gives it a new nonce and signs; another has looked before, and would do the same again."""
    old = scene.step(scene.prepare_run())
    scene.send_foreign(old.nonce or 0)
    scene.mine(3)
    other = scene.worker()
    new = other.step(other.step(old))
    assert (new.state, new.requeued) == ("signed", 1)
    assert scene.step(old) == new
    assert scene.settle(old).attempts == new.attempts
    scene.check(runs=1)


def test_26_the_same_key_with_other_arguments(scene: Scene) -> None:
    operation = scene.settle(scene.prepare_run(idempotency_key="user:once"))
    count = scene.count()
    with pytest.raises(KeyReused, match="'once' was used for another request"):
        scene.prepare_run(seats=5, idempotency_key="user:once")
    with pytest.raises(KeyReused):
        scene.services.runs.prepare_cancel(operation.subject, idempotency_key="user:once")
    assert (len(all_operations(scene.database)), scene.count()) == (1, count)
    scene.check(runs=1)


# -------------------------------------------------------------------------------------------------- 27: the settings


def settings(scene: Scene, **others: Any) -> Settings:
    given = {
        "blockchain_rpc_url": http(scene.engine).endpoint_uri,
        "chain_id": scene.w3.eth.chain_id,
        "contract_address": scene.address,
        "platform_private_key": SecretStr(scene.platform.key.to_0x_hex()),
        "jwt_secret": SecretStr("0123456789abcdefghijklmnopqrstuvwxyz"),
    }
    return Settings(_env_file=None, **(given | others))  # type: ignore[arg-type]


def start(scene: Scene, address: str | None = None, **others: Any) -> None:
    """What a process does before it serves."""
    wanted, chain = settings(scene, **others), scene.services.chain
    if address:
        chain = type(chain)(scene.services.w3, Web3.to_checksum_address(address), scene.services.sender)
    require_checks([*check_endpoints(wanted), *check_contract(wanted, scene.services.w3, chain)])


def test_27_wrong_chain_id_no_code_or_other_code(scene: Scene) -> None:
    scene.rpc("evm_setAutomine", True)
    other, count = deploy(scene.engine, "MinimalEventStake"), scene.count()
    start(scene)
    with pytest.raises(NotReady, match="not on chain 11155111"):
        start(scene, chain_id=11155111)
    with pytest.raises(NotReady, match="There is no contract at"):
        start(scene, "0x00000000000000000000000000000000000000AA")
    with pytest.raises(NotReady, match="not this project's EventStake"):
        start(scene, other)
    with pytest.raises(NotReady, match="not that of CONTRACT_CODE_HASH"):
        start(scene, contract_code_hash="0x" + "11" * 32)
    assert (scene.line.sent, scene.count()) == ([], count)


# --------------------------------------------------------------------------------------------------- 28: the clocks


@pytest.mark.parametrize("apart", [timedelta(days=-30_000), timedelta(0), timedelta(days=30_000)], ids=str)
def test_28_clocks_apart(scene: Scene, apart: timedelta) -> None:
    """This machine's clock is decades behind the chain's, the service's as far off as the parameter says: what is early
    and what is late is for the block's time to say, to the second."""

    def clock() -> datetime:
        return scene.now() + apart

    pricing = scene.services.pricing
    pricing.clock = clock
    feed = Feed(Rate(Decimal(200_000), clock() + timedelta(minutes=30)))
    pricing.feed = feed
    run = scene.open_run()
    starts_at = scene.services.runs.get(run).starts_at
    booked = scene.settle(scene.prepare_booking(run))
    early = scene.settle(scene.services.runs.prepare_complete(run, []))
    assert (early.state, (early.error or {})["name"]) == ("rejected", "TooEarly")

    feed.rate = Rate(Decimal(200_000), starts_at + apart)
    late = scene.step(scene.prepare_booking(run))
    scene.engine.set_next_timestamp(int(starts_at.timestamp()))
    scene.follow(late)
    scene.mine()
    late = scene.settle(late)
    assert (late.state, (late.error or {})["outcome"]) == ("failed", "reverted"), "the last second was the one before"
    scene.engine.set_next_timestamp(int((starts_at + DAY).timestamp()))
    scene.mine()
    done = scene.settle(scene.services.runs.prepare_complete(run, [booked.subject]))
    assert done.state == "confirmed"
    assert scene.services.runs.get(run).status == "completed"
    scene.check(runs=1, bookings=1)


# ---------------------------------------------------------------------------------------------------- 29: the price


@pytest.mark.parametrize(
    ("inr", "age", "said"),
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
    scene: Scene, inr: str | None, age: timedelta, said: str
) -> None:
    """No quote, no run, no booking: nothing is written down, and nothing sent."""
    run = scene.open_run()
    sent, rows = len(scene.line.sent), len(all_operations(scene.database))
    scene.feed.rate = None if inr is None else Rate(Decimal(inr), scene.now() - age)
    attempts: list[Callable[[], Any]] = [
        lambda: scene.services.bookings.quote(run, 1),
        lambda: scene.prepare_booking(run),
        scene.prepare_run,
    ]
    for attempt in attempts:
        with pytest.raises(PriceError, match=said):
            attempt()
    assert (len(scene.line.sent), len(all_operations(scene.database))) == (sent, rows)
    scene.feed.rate = Rate(Decimal(210_000), scene.now())
    assert scene.settle(scene.prepare_booking(run)).state == "confirmed"
    scene.check(runs=1, bookings=1)
