"""The operator's commands about single operations, on a local testnet, beside a service that runs or does not."""

import io
import json
import sys
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import jsonschema
import pytest
from app.bootstrap.container import connect_services
from app.db.tables import event_runs, experiences, operations, orphans, users
from app.services.operation_list import history
from app.services.operation_types import Operation
from app.services.operations import find
from sqlalchemy import create_engine, delete, insert, update
from stakesim.paths import checkout
from stakesim_adapter import operation_views
from test_operate import as_env, bare_environment, check_error, env, served, stakesim  # noqa: F401 - fixtures

SCHEMA = checkout() / "backend" / "operations.schema.json"
GONE = "http://127.0.0.1:9"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def services(served):  # noqa: F811
    services = connect_services(served)
    yield services
    services.database.engine.dispose()


@pytest.fixture
def prepared(services):
    """Stores operations that nobody carries on, and removes those in the end that have no nonce."""
    keys = []

    def prepare(key: str) -> Operation:
        with services.database.transaction() as connection:
            host = connection.execute(insert(users).values(name="host").returning(users.c.id)).scalar_one()
            values = {"host_id": host, "title": "Pottery"}
            experience = connection.execute(insert(experiences).values(values).returning(experiences.c.id)).scalar_one()
        starts_at = services.pricing.clock().replace(year=2100)
        keys.append(key)
        return services.runs.prepare_create(host, experience, starts_at, 2, Decimal(100), idempotency_key=key)

    yield prepare
    with services.database.transaction() as connection:
        for key in keys:
            connection.execute(delete(operations).where(operations.c.key == key, operations.c.nonce.is_(None)))
        connection.execute(delete(event_runs).where(event_runs.c.blockchain_status == "pending"))


def state_of(services, key: str) -> str:
    with services.database.autocommit() as connection:
        return find(connection, key).state


def document(done) -> dict:
    shown = json.loads(done.stdout)
    jsonschema.validate(shown, json.loads(SCHEMA.read_text()))
    return shown


# --------------------------------------------------------------------------------------------------------- the list


def test_an_empty_list_is_a_sentence(stakesim, env):  # noqa: F811
    done = stakesim("operations", "--env-file", env())
    assert (done.returncode, done.stdout) == (0, "No operation is open, so nothing is held.\n")
    assert document(stakesim("operations", "--json", "--env-file", env()))["operations"] == []
    done = stakesim("orphans", "--env-file", env())
    assert (done.returncode, done.stdout) == (0, "Every known transaction is in an operation.\n")


def test_a_list_needs_only_the_database(stakesim, served, prepared, tmp_path):  # noqa: F811
    """No node, no key, no other setting."""
    for key in ("user:one", "user:two", "user:three"):
        prepared(key)
    file = tmp_path / "database"
    file.write_text(f"DATABASE_URL={served.database_url}\n")
    done = stakesim("operations", "--env-file", str(file))
    assert done.returncode == 0
    assert [line.split("  ")[0] for line in done.stdout.splitlines()] == ["user:one", "user:two", "user:three"]
    assert "createEventRun, prepared, 0 s old" in done.stdout.replace("1 s", "0 s").replace("2 s", "0 s")
    page = document(stakesim("operations", "--limit", "2", "--json", "--env-file", str(file)))
    assert [one["key"] for one in page["operations"]] == ["user:one", "user:two"]
    rest = document(stakesim("operations", "--after", page["next"], "--json", "--env-file", str(file)))
    assert ([one["key"] for one in rest["operations"]], rest["next"]) == (["user:three"], None)
    shown = stakesim("operations", "show", "user:tw", "--env-file", str(file))
    assert shown.returncode == 0
    assert "not known: what the node knows, and the commands that may be used, as settings are missing" in shown.stdout
    for filtered in (("--state", "mined"), ("--cause", "no_funds")):
        done = stakesim("operations", *filtered, "--env-file", str(file))
        assert done.stdout == "There are no such operations.\n"


def test_the_schema_is_that_of_the_output():
    assert json.loads(SCHEMA.read_text()) == operation_views.OperationsDocument.model_json_schema(mode="serialization")


def test_a_narrow_terminal_is_readable(services, prepared, monkeypatch):
    """Lines are wrapped; what is piped is one line an operation."""
    operation = prepared("44444444-0000-4000-8000-000000000000:my-key")
    reason = "insufficient funds of 0x199FD123126A64349EA51964cdd71b3D7dDAE764 for gas and value"
    held = replace(operation, held=reason, held_cause="no_funds", held_at=operation.created_at)
    view = operation_views.view_operation(held, operation.created_at)
    shown = operation_views.OperationsDocument(operations=[view], next=None, orphans=2)
    assert len(list(operation_views.describe_list(shown, everything=False))) == 2
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "50")
    lines = list(operation_views.describe_list(shown, everything=False))
    assert all(len(line) <= 50 for line in lines[1:-1])
    assert lines[:2] == [operation.key, "  createEventRun, prepared, 0 s old"]
    assert " ".join(" ".join(lines[2:-1]).split()) == f"held for 0 s (no_funds): {reason}"


# --------------------------------------------------------------------------------------------------------- commands


def test_an_operation_is_retried_shown_and_cancelled(stakesim, env, services, prepared):  # noqa: F811
    prepared("user:retried")
    expensive = env(max_fee_gwei="0.0000000001", priority_fee_gwei="0.0000000001")
    done = stakesim("operations", "retry", "user:re", "--env-file", expensive)
    assert done.returncode == 1
    assert "user:retried: is held (base_fee): the base fee of" in done.stdout
    assert "user:retried  createEventRun, prepared" in stakesim("operations", "--env-file", env()).stdout
    done = stakesim("operations", "retry", "user:re", "--env-file", env())
    assert (done.returncode, "is signed with nonce" in done.stdout) == (0, True)
    log = [json.loads(line) for line in done.stderr.splitlines()]
    assert [(line["operation"], line["level"]) for line in log if "operator " in line["message"]] == [
        ("user:retried", "WARNING")
    ]
    shown = document(stakesim("operations", "show", "user:retried", "--json", "--env-file", env()))["operations"][0]
    assert shown["attempts"][0]["node"]
    assert [one["command"] for one in shown["history"]] == ["retry", "retry"]
    assert shown["next_step"] or shown["state"] == "confirmed"
    while state_of(services, "user:retried") != "confirmed":  # until its block is there
        assert stakesim("reconcile", "--env-file", env()).returncode == 0
    check_error(
        stakesim("operations", "cancel", "user:retried", "--env-file", env()), "it is confirmed, which is final"
    )
    text = stakesim("operations", "show", "user:retried", "--env-file", env()).stdout
    assert "mined in block" in text
    assert "commands: none" in text


def test_cancelling_what_has_no_nonce_needs_no_node(stakesim, env, services, prepared):  # noqa: F811
    prepared("user:cancelled")
    done = stakesim("operations", "cancel", "user:cancelled", "--env-file", env(blockchain_rpc_url=GONE))
    assert (done.returncode, "is cancelled: nothing was sent" in done.stdout) == (0, True)
    assert state_of(services, "user:cancelled") == "rejected"
    assert history(services.database, "user:cancelled")[0].outcome in done.stdout
    text = stakesim("operations", "--all", "--state", "rejected", "--env-file", env()).stdout
    assert "cancelled: createEventRun was cancelled by an operator; nothing was sent." in text


@pytest.mark.parametrize("answer", ["abandon", "yes", None])
def test_abandoning_needs_a_word(stakesim, env, services, prepared, monkeypatch, answer):  # noqa: F811
    prepared("user:forged")
    with services.database.transaction() as connection:
        connection.execute(update(operations).where(operations.c.key == "user:forged").values(seal=None))
    asked = io.StringIO(f"{answer}\n")
    asked.isatty = lambda: answer is not None
    monkeypatch.setattr(sys, "stdin", asked)
    done = stakesim("operations", "abandon", "user:forged", "--env-file", env())
    said = done.stdout + done.stderr
    assert "The service stops carrying createEventRun user:forged on: its customer gets nothing" in said
    assert done.returncode == (0 if answer == "abandon" else 2)
    assert state_of(services, "user:forged") == ("rejected" if answer == "abandon" else "prepared")
    if answer is None:
        assert "Give --yes to abandon it without a terminal." in said
        assert stakesim("operations", "abandon", "user:forged", "--yes", "--env-file", env()).returncode == 0


def test_an_orphan_is_shown_and_dismissed(stakesim, env, services, prepared):  # noqa: F811
    of = prepared("user:order")
    row = {"tx_hash": "0x" + "ab" * 32, "chain_id": of.chain_id, "sender": of.sender, "nonce": 7, "block_number": 3}
    row |= {"to_address": of.to_address, "kind": of.kind, "args": {"max_seats": 2}, "subject": "…", "data": of.data}
    with services.database.transaction() as connection:
        connection.execute(insert(orphans).values(row | {"value_wei": 5, "succeeded": True}))
    listed = stakesim("operations", "--env-file", env()).stdout
    assert "Transactions in no operation: 1. See `stakesim orphans`." in listed
    done = stakesim("orphans", "--env-file", env())
    assert done.stdout == f"{row['tx_hash']}  createEventRun (max_seats 2), nonce 7, block 3, 5 wei\n"
    check_error(stakesim("orphans", "dismiss", "0xab", "--env-file", env()), "Give --yes to dismiss it")
    done = stakesim("orphans", "dismiss", "0xab", "--yes", "--env-file", env())
    assert (done.returncode, "is dismissed" in done.stdout) == (0, True)
    assert "dismissed" in stakesim("orphans", "--all", "--env-file", env()).stdout
    check_error(stakesim("orphans", "dismiss", "0xab", "--yes", "--env-file", env()), "is dismissed already")


def test_a_dry_run_says_what_would_be_done(stakesim, env, services, prepared):  # noqa: F811
    prepared("user:next")
    done = stakesim("reconcile", "--dry-run", "--env-file", env())
    assert "would be done: createEventRun user:next: is signed with the next nonce, sends it\n" in done.stdout
    assert state_of(services, "user:next") == "prepared"
    stakesim("operations", "cancel", "user:next", "--env-file", env())


# --------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("command", "given", "said"),
    [
        (("operations", "retry", "nobody"), {}, "There is no operation 'nobody'"),
        (("operations", "cancel", "user:"), {}, "More than one operation begins with 'user:'"),
        (("operations", "abandon", "user:a"), {}, "it can be cancelled: use `stakesim operations cancel`"),
        (("operations", "retry", "user:a"), {"blockchain_rpc_url": GONE}, "No endpoint answers"),
        (("operations", "retry", "user:a"), {"platform_private_key": None}, "PLATFORM_PRIVATE_KEY"),
        (("operations", "--after", "nobody"), {}, "There is no operation 'nobody'"),
        (("operations", "--cause", "sadness"), {}, "none of no_funds"),
        (("operations",), {"database_url": "postgresql://nobody@127.0.0.1:9/none"}, "is unavailable"),
        (("orphans", "dismiss", "0x12"), {}, "There is no orphan '0x12'"),
    ],
)
def test_an_error_is_one_sentence(stakesim, env, prepared, command, given, said):  # noqa: F811
    for key in ("user:a", "user:b"):
        prepared(key)
    file = env(**{name: value for name, value in given.items() if value})
    if None in given.values():
        lines = Path(file).read_text().splitlines(keepends=True)
        Path(file).write_text("".join(line for line in lines if not line.startswith("PLATFORM_PRIVATE_KEY")))
    done = stakesim(*command, "--env-file", file)
    assert done.returncode == 2, done
    assert said in " ".join(done.stderr.replace("│", " ").split())


def test_a_database_without_the_migration(stakesim, env, served):  # noqa: F811
    database = create_engine(served.database_url)
    with database.begin() as connection:
        connection.exec_driver_sql("UPDATE schema_migrations SET name = 'x' WHERE name = '010_interventions'")
    try:
        for command in (("operations",), ("operations", "cancel", "x"), ("orphans",)):
            check_error(stakesim(*command, "--env-file", env()), "The database lacks 010_interventions")
    finally:
        with database.begin() as connection:
            connection.exec_driver_sql("UPDATE schema_migrations SET name = '010_interventions' WHERE name = 'x'")
        database.dispose()
