"""The service as a role without DDL: `stakesim_service`, on tables that another role owns.

Tests of the fault campaign run here once more as that role: sending and mining, orphans, the statements of a whole
service.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from app.bootstrap.access_checks import check_access
from app.bootstrap.checks import check_database, connect_verified_services
from app.core.errors import MigrationsMissing
from app.db.database import Database
from app.db.migrations import ensure_migrated, migrate, missing_migrations
from app.services.payments.gateway import ManualGateway
from app.services.payments.service import PaymentService
from app.services.payments.types import Amounts, PaymentPolicy
from database_environment import Start, running, settings_for
from fault_environment import FaultEnvironment
from psycopg.errors import InsufficientPrivilege
from pydantic import SecretStr
from sqlalchemy import URL, Engine
from sqlalchemy.exc import ProgrammingError
from supabase import SERVICE, engine_of, new_project
from test_faults_01_to_14 import *  # noqa: F403 - each test of sending and mining, as this role
from test_faults_49 import use_everything

pytestmark = pytest.mark.slow
NAME = "books"


@pytest.fixture(scope="module")
def owner(supabase_server: URL) -> Iterator[Engine]:
    """The owner of migrated tables."""
    owner = new_project(supabase_server, NAME)
    migrate(owner)
    yield owner
    owner.dispose()


@pytest.fixture(scope="module")
def service(supabase_server: URL, owner: Engine) -> Iterator[Engine]:
    engine = engine_of(supabase_server, NAME, SERVICE)
    yield engine
    engine.dispose()


@pytest.fixture
def environment(anvil: Start, service: Engine, owner: Engine) -> Iterator[FaultEnvironment]:
    with running(anvil, service, owner) as environment:
        yield environment


def test_the_whole_service_runs_as_this_role(environment: FaultEnvironment) -> None:
    use_everything(environment)


def test_it_may_not_change_or_empty_a_table(environment: FaultEnvironment) -> None:
    for statement in (
        "CREATE TABLE mine (a int)",
        "ALTER TABLE operations ADD COLUMN mine int",
        "ALTER TABLE operations DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE operations DISABLE TRIGGER ALL",
        "DROP TABLE rates",
        "TRUNCATE answers",
        "CREATE INDEX mine ON operations (key)",
        "SELECT protect_tables('users')",
        "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    ):
        with pytest.raises(ProgrammingError) as caught, environment.database.transaction() as connection:
            connection.exec_driver_sql(statement)
        assert isinstance(caught.value.orig, InsufficientPrivilege), statement


def test_the_checks_at_the_start_pass(environment: FaultEnvironment, service: Engine) -> None:
    ensure_migrated(service)
    settings = settings_for(service.url).model_copy(
        update={"chain_id": environment.services.sender.chain_id, "contract_address": environment.address}
    )
    checks = [*check_database(settings, service), *check_access(settings, service)]
    assert all(check.ok for check in checks)
    assert checks[-1].finding == f"The service connects as {SERVICE}, who can't change or drop a table."


def test_the_service_starts_and_reconciles_as_this_role(environment: FaultEnvironment, service: Engine) -> None:
    provider: Any = environment.w3.provider
    settings = settings_for(service.url).model_copy(
        update={
            "blockchain_rpc_url": provider.endpoint_uri,
            "chain_id": environment.services.sender.chain_id,
            "contract_address": environment.address,
            "platform_private_key": SecretStr(environment.platform.key.to_0x_hex()),
            "payments": "none",
        }
    )
    services = connect_verified_services(settings)
    operation = environment.prepare_run()
    services.reconciler.run_once(timedelta())
    assert environment.find(operation).state == "submitted"
    services.database.engine.dispose()
    environment.settle(environment.find(operation))


def test_payments_are_taken_and_given_back_as_this_role(environment: FaultEnvironment, service: Engine) -> None:
    database = Database(service)
    policy = PaymentPolicy(quote_for=timedelta(hours=1), use_within=-timedelta(hours=2), ask_every=timedelta(0))
    payments = PaymentService(database, ManualGateway(), environment.services.sender.sealer, policy)
    amounts = Amounts(Decimal(200_000), 10**17, 10**16, Decimal("2000.00"), Decimal("22000.00"))
    quote = payments.quote(environment.ids["attendee"], "booking", {}, amounts)
    assert payments.record_capture(quote.id, "UTR1", quote.amount_inr).state == "captured"
    assert payments.run_round(0) == []
    assert payments.record_refund(quote.id, "UTR2").state == "refunded"


def test_a_missing_migration_is_said_in_one_sentence(owner: Engine, service: Engine) -> None:
    with owner.begin() as connection:
        connection.exec_driver_sql("DELETE FROM schema_migrations WHERE name = '011_lists'")
    with pytest.raises(MigrationsMissing) as caught:
        ensure_migrated(service)
    assert str(caught.value) == (
        f"The database lacks 011_lists, and its user {SERVICE} may not create tables: "
        "run `stakesim migrate` as the tables' owner."
    )
    assert migrate(owner) == ["011_lists"]
    ensure_migrated(service)
    assert missing_migrations(service) == []


def test_an_empty_database_is_not_filled_by_this_role(supabase_server: URL, owner: Engine) -> None:
    empty = f"empty_{uuid4().hex[:8]}"
    new_project(supabase_server, empty).dispose()
    engine = engine_of(supabase_server, empty, SERVICE)
    with pytest.raises(MigrationsMissing, match=f"its user {SERVICE} may not create tables"):
        ensure_migrated(engine)
    engine.dispose()


def test_a_role_that_is_created_after_the_tables_gets_its_rights_from_migrate(
    supabase_server: URL, owner: Engine
) -> None:
    """Revoking them is as if the role were new."""
    late = f"late_{uuid4().hex[:8]}"
    its_owner, service = new_project(supabase_server, late), engine_of(supabase_server, late, SERVICE)
    migrate(its_owner)
    with its_owner.begin() as connection:
        for table in ("schema_migrations", "operations"):
            connection.exec_driver_sql(f"REVOKE ALL ON {table} FROM {SERVICE}; DROP POLICY {SERVICE} ON {table}")
    with pytest.raises(MigrationsMissing, match=f"{SERVICE} may not read the tables: run `stakesim migrate` as"):
        ensure_migrated(service)
    assert migrate(its_owner) == []
    ensure_migrated(service)
    with Database(service).autocommit() as connection:
        connection.exec_driver_sql("DELETE FROM operations")
    for engine in (its_owner, service):
        engine.dispose()
