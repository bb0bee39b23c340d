"""Where the numbers come from: readiness, database, node, contract, reconciler, price and build."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
import yaml
from app.api import metrics as app_metrics
from app.api import readiness
from app.bootstrap.container import health_limits
from app.bootstrap.services import Services
from app.core.config import Settings
from app.core.errors import DatabaseUnavailable
from app.db.connections import DatabasePolicy
from app.db.database import Database, create_database, drop_database, open_engine
from app.db.embedded import default_data_dir, start_embedded
from app.db.migrations import migrate
from app.db.unavailability import Trouble, meaning_of, troubles
from app.services import operations
from app.services.codec import event_stake_codec
from app.services.finality import FinalizedBlockChanged
from app.services.health import HealthLimits
from app.services.operation_types import Operation
from app.services.pricing import Rate
from backend_environment import BackendEnvironment
from fastapi.testclient import TestClient
from monitored import MONITORING, app_of, value_of
from psycopg import OperationalError
from sqlalchemy import URL, make_url, text
from stakesim_adapter.faults import poolers

pytestmark = pytest.mark.slow

UNAVAILABLE = "stakesim_database_unavailable_total"


def client_on(services: Services, database: Database) -> TestClient:
    return TestClient(app_of(replace(services, database=database)))


# -------------------------------------------------------------------------------------------------------- database


@pytest.fixture(scope="module")
def own_database() -> Iterator[URL]:
    """A migrated database of this module, on the embedded server."""
    server, name = start_embedded(default_data_dir()), "test_monitoring"
    engine = create_database(server, name)
    migrate(engine)
    yield engine.url
    engine.dispose()
    drop_database(server, name)


class Counting:
    """The troubles that are counted while a test runs."""

    def __init__(self) -> None:
        self._before = dict(troubles)

    @property
    def new(self) -> set[Trouble]:
        return {trouble for trouble, count in troubles.items() if count > self._before[trouble]}


def test_a_read_only_database_is_told_from_one_that_is_down(own_database: URL, services: Services) -> None:
    options = "-c default_transaction_read_only=on"
    database = Database(open_engine(own_database.update_query_dict({"options": options})))
    counting, client = Counting(), client_on(services, database)
    with pytest.raises(DatabaseUnavailable), database.transaction() as connection:
        connection.execute(text("DELETE FROM answers"))
    assert counting.new == {"read_only"}
    assert value_of(client, UNAVAILABLE, reason="read_only") == troubles["read_only"]
    assert value_of(client, "stakesim_database_up") == 1, "it can still be read"
    database.engine.dispose()

    counting, nowhere = Counting(), Database(open_engine(make_url("postgresql+psycopg://nobody@127.0.0.1:1/nothing")))
    assert value_of(client_on(services, nowhere), "stakesim_database_up") == 0
    assert counting.new == {"unreachable"}


def test_a_full_pool_is_seen_while_it_is_full(own_database: URL, services: Services) -> None:
    database = Database(open_engine(own_database, DatabasePolicy(pool_size=2, pool_timeout=0.05)))
    counting, client = Counting(), client_on(services, database)
    with database.autocommit(), database.autocommit():
        assert value_of(client, "stakesim_database_pool_in_use") == 2
        assert value_of(client, "stakesim_database_pool_size") == 2
        assert counting.new == {"pool_in_use"}
    assert value_of(client, "stakesim_database_pool_in_use") == 0
    database.engine.dispose()


def test_a_server_without_a_free_connection_is_told_from_a_full_pool(own_database: URL) -> None:
    admin = Database(open_engine(own_database))
    with admin.autocommit() as connection:
        connection.execute(text("CREATE ROLE few LOGIN SUPERUSER"))
        connection.execute(text("ALTER ROLE few NOSUPERUSER CONNECTION LIMIT 0"))
    counting, database = Counting(), Database(open_engine(own_database.set(username="few")))
    try:
        with pytest.raises(DatabaseUnavailable, match="no free connection"):
            database.autocommit()
    finally:
        with admin.autocommit() as connection:
            connection.execute(text("DROP ROLE few"))
        admin.engine.dispose()
    assert counting.new == {"too_many_connections"}


@pytest.mark.skipif(poolers.find_pgbouncer() is None, reason=poolers.MISSING)
@pytest.mark.parametrize("limit", [{"max_client_conn": 1}, {"default_pool_size": 1, "query_wait_timeout": 1}], ids=str)
def test_a_full_pooler_is_told_from_a_full_pool(own_database: URL, limit: dict[str, int]) -> None:
    with poolers.pgbouncer(own_database, "session", **limit) as url:
        first, second = Database(open_engine(url)), Database(open_engine(url))
        with first.autocommit() as connection:
            connection.execute(text("SELECT 1"))
            counting = Counting()
            with pytest.raises(DatabaseUnavailable, match="no free connection"), second.autocommit() as other:
                other.execute(text("SELECT 1"))
        for each in (first, second):
            each.engine.dispose()
    assert counting.new == {"too_many_connections"}


@pytest.mark.parametrize(
    ("policy", "statement", "trouble"),
    [
        (DatabasePolicy(statement_timeout=0.05), "SELECT pg_sleep(5)", "statement_timeout"),
        (DatabasePolicy(lock_timeout=0.05), "SELECT pg_advisory_lock(46)", "lock_timeout"),
    ],
)
def test_time_outs_are_told_apart(own_database: URL, policy: DatabasePolicy, statement: str, trouble: str) -> None:
    other, database, counting = Database(open_engine(own_database)), Database(open_engine(own_database, policy)), None
    with other.autocommit() as holder:
        holder.execute(text("SELECT pg_advisory_lock(46)"))
        counting = Counting()
        with pytest.raises(DatabaseUnavailable), database.autocommit() as connection:
            connection.execute(text(statement))
    assert counting.new == {trouble}
    for each in (other, database):
        each.engine.dispose()


@pytest.mark.parametrize(
    ("words", "trouble"),
    [
        ("FATAL: no more connections allowed (max_client_conn)", "too_many_connections"),
        ("FATAL: query_wait_timeout", "too_many_connections"),
        ("FATAL: the database system is starting up", "restarting"),
        ("FATAL: password authentication failed", "refused"),
        ("server closed the connection unexpectedly", "broken"),
    ],
)
@pytest.mark.parametrize("sqlstate", [None, "08P01"])
def test_words_of_a_pooler_count_also_with_its_sqlstate(words: str, trouble: str, sqlstate: str | None) -> None:
    meaning = meaning_of(type("Said", (OperationalError,), {"sqlstate": sqlstate})(words))
    assert meaning is not None
    assert meaning.trouble == trouble


# ------------------------------------------------------------------------------------- a scrape does not wait


def test_a_scrape_waits_for_less_than_prometheus_does() -> None:
    allowed = yaml.safe_load((MONITORING / "prometheus.yml").read_text())["global"]["scrape_timeout"]
    assert max(app_metrics.TIMEOUT_S, readiness.PROBE_TIMEOUT_S) < float(allowed.removesuffix("s")) / 2


def test_a_scrape_ends_though_node_and_database_hang(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would wait for ever if it waited for them: they answer only when it is over."""
    over = threading.Event()
    monkeypatch.setattr(app_metrics, "TIMEOUT_S", 0.1)
    monkeypatch.setattr(readiness, "PROBE_TIMEOUT_S", 0.1)
    monkeypatch.setattr(services.w3.provider, "make_request", lambda *_: over.wait())
    database = replace_autocommit(services, over)
    try:
        client = client_on(services, database)
        assert value_of(client, "stakesim_node_up") == value_of(client, "stakesim_database_up") == 0
        assert value_of(client, "stakesim_ready") == 0
        assert value_of(client, "stakesim_max_fee_wei") == services.sender.policy.max_fee_per_gas
    finally:
        over.set()


def replace_autocommit(services: Services, over: threading.Event) -> Any:
    class Hanging:
        engine = services.database.engine

        def autocommit(self) -> Any:
            over.wait()
            return services.database.autocommit()

    return Hanging()


# ---------------------------------------------------------------------------------------------- state of the service


def test_ready_and_its_problems(client: TestClient, services: Services) -> None:
    assert value_of(client, "stakesim_ready") == 1
    services.health.found("price", "is old", blocks=False)
    assert value_of(client, "stakesim_ready") == 1
    assert value_of(client, "stakesim_problem", check="price", blocks="false") == 1
    services.health.found("nonces", "transactions are on their way that are in no row")
    assert (value_of(client, "stakesim_ready"), value_of(client, "stakesim_unknown_transactions")) == (0, 1)
    services.health.found("nonces", None)
    assert (value_of(client, "stakesim_ready"), value_of(client, "stakesim_unknown_transactions")) == (1, 0)


def test_a_contract_that_is_paused_or_changed(client: TestClient, services: Services) -> None:
    parts = ("code", "platform_role", "percentages")

    def changed() -> dict[str, float]:
        return {part: value_of(client, "stakesim_contract_changed", part=part) for part in parts}

    watch = services.sender.contract_watch
    assert watch is not None
    assert changed() == dict.fromkeys(parts, 0), "nobody has looked yet"
    watch.look()
    state = watch._last
    assert state is not None
    assert (value_of(client, "stakesim_contract_paused"), set(changed().values())) == (0, {0})
    others: dict[str, dict[str, Any]] = {
        "code": {"code": "other"},
        "platform_role": {"owner": None, "operators": frozenset()},
        "percentages": {"percentages": (1, 1)},
    }
    for part, other in others.items():
        watch._last = state._replace(**other)
        assert {name for name, value in changed().items() if value} == {part}
    watch._last = state._replace(owner=None, operators=frozenset(watch._accounts))
    assert set(changed().values()) == {0}, "an operator acts for the platform as well"
    watch._last = state._replace(paused=True)
    assert value_of(client, "stakesim_contract_paused") == 1


def test_a_finalized_block_that_changed(
    client: TestClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    finality = services.reconciler._finality

    def changed(head: int) -> None:
        raise FinalizedBlockChanged("block 7 was final and is another one now")

    with monkeypatch.context() as patch:
        patch.setattr(finality, "undo_reorganised", changed)
        assert services.reconciler.run_once().failure
        assert (value_of(client, "stakesim_finalized_block_changed"), value_of(client, "stakesim_ready")) == (1, 0)
        assert "block 7" in client.get("/ready").json()["checks"]["finality"]
    services.reconciler.run_once()
    assert (value_of(client, "stakesim_finalized_block_changed"), value_of(client, "stakesim_ready")) == (0, 1)


def test_a_deep_reorganisation_counts_though_it_reopens_nothing(
    client: TestClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services.reconciler._finality, "undo_reorganised", lambda head: [])
    services.reconciler.run_once()
    assert value_of(client, "stakesim_deep_reorganisations_total") == 1
    assert value_of(client, "stakesim_operations_reopened_total") == 0


def test_operations_that_wait_are_told_from_held_and_abandoned_ones(
    client: TestClient, services: Services, backend: BackendEnvironment
) -> None:
    def seen() -> set[str]:
        in_state = {"state": "prepared"}
        values = {
            "open": value_of(client, "stakesim_operations", **in_state),
            "old": value_of(client, "stakesim_operations_open_oldest_seconds", **in_state),
            "waiting": value_of(client, "stakesim_operations_waiting_oldest_seconds", **in_state),
            "held": value_of(client, "stakesim_operations_held_oldest_seconds", cause="estimate"),
            "abandoned": value_of(client, "stakesim_operations_abandoned"),
        }
        return {name for name, value in values.items() if value}

    def becomes(columns: str) -> set[str]:
        with backend.database.transaction() as connection:
            connection.execute(text(f"UPDATE operations SET {columns} WHERE key = '{operation.key}'"))
        return seen()

    operation = stored(services)
    assert seen() == {"open", "old", "waiting"}
    assert becomes("held = 'x', held_cause = 'estimate', held_at = now()") == {"open", "old", "held"}
    assert becomes("abandoned_at = now()") == {"abandoned"}


def stored(services: Services) -> Operation:
    call = event_stake_codec().call(services.chain.address, "expireEvent", 1)
    with services.database.autocommit() as connection:
        return operations.create(connection, "user:waits", "", services.sender.draft(call, None))


def test_limits_in_force(services: Services) -> None:
    settings = Settings.model_construct(wallet_low_eth=Decimal("0.25"), reconcile_seconds=30, max_head_age_seconds=90)
    limits = health_limits(settings)
    assert limits == HealthLimits(round_age=120, head_age=90, wallet_low=25 * 10**16)
    services.health.limits = limits
    client = TestClient(app_of(services))
    expected = {
        "stakesim_reconciler_max_round_age_seconds": 120,
        "stakesim_head_max_age_seconds": 90,
        "stakesim_cursor_max_lag_blocks": 300,
        "stakesim_wallet_low_wei": 25 * 10**16,
        "stakesim_max_fee_wei": services.sender.policy.max_fee_per_gas,
        "stakesim_priority_fee_wei": services.sender.policy.priority_fee_per_gas,
        "stakesim_confirmations": services.sender.policy.confirmations,
    }
    assert {name: value_of(client, name) for name in expected} == expected


def test_the_base_fee_is_that_of_the_latest_block(client: TestClient, backend: BackendEnvironment) -> None:
    block = backend.engine.w3.eth.get_block("latest")
    assert value_of(client, "stakesim_base_fee_wei") == block["baseFeePerGas"]


def test_the_age_of_a_rate_is_judged_by_the_limit_of_its_source(
    client: TestClient, services: Services, backend: BackendEnvironment
) -> None:
    now = backend.now()
    for max_age, seconds in ((None, services.pricing.max_age.total_seconds()), (timedelta(days=1), 86_400)):
        backend.feed.rate = Rate(Decimal(200_000), now - timedelta(minutes=5), "feed", max_age)
        services.pricing.rate()
        assert value_of(client, "stakesim_rate_max_age_seconds") == seconds
        assert value_of(client, "stakesim_rate_age_seconds") >= 300


def test_the_build_names_the_commit_if_somebody_did(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    assert value_of(client, "stakesim_build_info", commit="unknown") == 1
    monkeypatch.setenv("BUILD_COMMIT", "723d562")
    assert value_of(client, "stakesim_build_info", commit="723d562") == 1
