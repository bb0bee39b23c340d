"""Commands of `stakesim` for what stands still: operations, orphans. Imports only typer, as `commands` does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from stakesim_adapter.command_options import DEFAULT_ENV_FILE, FINDINGS, Command, EnvFile, Group

if TYPE_CHECKING:
    from pathlib import Path

    from app.core.config import Settings
    from app.db.database import Database
    from app.services.interventions import Interventions, Outcome
    from sqlalchemy import Engine

operations = typer.Typer(
    cls=Group,
    help="List what is open, held or abandoned, oldest first; retry, cancel or abandon it.",
    epilog="Exit codes: 0 done, 1 the command did not bring about what was asked for, 2 it could not do its work.",
)
orphans = typer.Typer(
    cls=Group, help="List the platform's transactions that are in no operation; dismiss one that is no order's effect."
)

Key = Annotated[str, typer.Argument(help="Key of the operation, or a beginning that no other key has.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, as in backend/operations.schema.json.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


class State(StrEnum):
    """States of an operation, as `OPERATION_STATES`."""

    PREPARED = "prepared"
    SIGNED = "signed"
    SUBMITTED = "submitted"
    MINED = "mined"
    CONFIRMED = "confirmed"
    FAILED = "failed"
    REJECTED = "rejected"


@operations.callback(invoke_without_command=True)
def list_all(
    ctx: typer.Context,
    state: Annotated[State | None, typer.Option(help="Only those in this state.")] = None,
    cause: Annotated[str | None, typer.Option(help="Only those held for this cause, such as no_funds.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Those that are closed or decided, too.")] = False,
    limit: Annotated[int, typer.Option(help="Maximum number of operations.", min=1, max=1000)] = 50,
    after: Annotated[str | None, typer.Option(help="Key after which the page begins.")] = None,
    as_json: Json = False,
    env_file: EnvFile = DEFAULT_ENV_FILE,
) -> None:
    """List what is open, held or abandoned, oldest first. Needs only the database."""
    if ctx.invoked_subcommand is not None:
        return
    from app.services.operation_list import Selection, list_operations, list_orphans

    from stakesim_adapter.operation_views import describe_list, view_page

    selection = Selection(state and state.value, _known_cause(cause), everything, after, limit)
    database = open_database(env_file)
    document = view_page(list_operations(database, selection), len(list_orphans(database)))
    if as_json:
        typer.echo(document.model_dump_json(indent=2))
        return
    for line in describe_list(document, everything=everything or bool(state or cause or after)):
        typer.echo(line)


@operations.command(cls=Command)
def show(key: Key, as_json: Json = False, env_file: EnvFile = DEFAULT_ENV_FILE) -> None:
    """Show everything about one operation: its attempts, what the node knows of them, what happens next."""
    from stakesim_adapter.operation_details import describe_details

    database = open_database(env_file)
    for line in describe_details(database, key, env_file, as_json=as_json):
        typer.echo(line)


@operations.command(cls=Command)
def retry(key: Key, env_file: EnvFile = DEFAULT_ENV_FILE) -> None:
    """Take an operation up at once, whatever back-off is in force, and say what came of it.

    Looks for its receipt, sends its stored transaction again, raises the fees or signs it if that is due. One that was
    abandoned is carried on again.
    """
    with _intervening(env_file, verified=True) as interventions:
        _finish(interventions.retry(key))


@operations.command(cls=Command)
def cancel(key: Key, env_file: EnvFile = DEFAULT_ENV_FILE) -> None:
    """Cancel an operation that is not mined.

    Without a nonce it is rejected. With one, a transaction without effect replaces its own under the same nonce; if the
    original is mined first, that one counts.
    """
    with _intervening(env_file) as interventions:
        _finish(interventions.cancel(key))


@operations.command(cls=Command)
def approve(key: Key, yes: Yes = False, env_file: EnvFile = DEFAULT_ENV_FILE) -> None:
    """Approve an operation that is held as it is above a limit: this one is sent, once, and no other.

    Needs the database, and the key with which the approval is sealed: SEAL_SECRET, or the platform's.
    """
    with _intervening(env_file) as interventions:
        operation = interventions.find(key)
        meaning = f"{operation.kind} {operation.key} sends {operation.value_wei} wei, whatever the limits."
        confirm(meaning, "approve", yes)
        _finish(interventions.approve(operation.key))


@operations.command(cls=Command)
def abandon(key: Key, yes: Yes = False, env_file: EnvFile = DEFAULT_ENV_FILE) -> None:
    """Stop carrying on an operation that nobody can cancel.

    Its sender's key is not here, it was not stored by this service, or it is held for a decision (limit, orphan).
    Without an attempt it is rejected. With one it is not sent any more, and is confirmed if it is mined nevertheless.
    """
    with _intervening(env_file) as interventions:
        operation = interventions.require("abandon", key)
        confirm(
            f"The service stops carrying {operation.kind} {operation.key} on: its customer gets nothing, unless one of "
            "its transactions is mined nevertheless.",
            "abandon",
            yes,
        )
        _finish(interventions.abandon(operation.key))


@orphans.callback(invoke_without_command=True)
def list_orphans(
    ctx: typer.Context,
    everything: Annotated[bool, typer.Option("--all", help="Those that are closed or decided, too.")] = False,
    env_file: EnvFile = DEFAULT_ENV_FILE,
) -> None:
    """List the platform's transactions that are in no operation. Needs only the database."""
    if ctx.invoked_subcommand is not None:
        return
    from app.services.operation_list import list_orphans

    from stakesim_adapter.operation_views import describe_orphans

    found = list_orphans(open_database(env_file), decided=everything)
    for line in describe_orphans(found, everything=everything):
        typer.echo(line)


@orphans.command(cls=Command)
def dismiss(
    tx_hash: Annotated[str, typer.Argument(metavar="HASH", help="Hash of the transaction, or its beginning.")],
    yes: Yes = False,
    env_file: EnvFile = DEFAULT_ENV_FILE,
) -> None:
    """Decide that an orphan is no order's effect, so that orders with this effect are sent. Needs only the database."""
    import sys

    from app.core.logs import json_log
    from app.services.interventions import dismiss_orphan
    from app.services.operation_list import find_orphan

    database = open_database(env_file)
    orphan = find_orphan(database, tx_hash)
    confirm(
        f"An order that asks for what {orphan.tx_hash} did is sent, and paid, once more: refund or enter by hand "
        "whatever this transaction paid for.",
        "dismiss",
        yes,
    )
    with json_log(sys.stderr):
        _finish(dismiss_orphan(database, orphan.tx_hash, _operator()))


# ---------------------------------------------------------------------------------------------------------- helpers


def _known_cause(cause: str | None) -> str | None:
    from app.services.operation_types import HeldCause

    if cause is not None and cause not in set(HeldCause):
        raise typer.BadParameter(f"{cause!r} is none of {', '.join(HeldCause)}.", param_hint="--cause")
    return cause


def open_database(env_file: Path) -> Database:
    """Connects to the database. Applies no migration, and needs no other setting."""
    from app.bootstrap.checks import read_database_settings
    from app.bootstrap.container import database_policy
    from app.db.database import Database, connect

    settings = read_database_settings(env_file)
    engine = connect(settings.database_url, policy=database_policy(settings))
    require_migrations(engine)
    return Database(engine)


@contextmanager
def operating(env_file: Path) -> Iterator[tuple[Database, str]]:
    """Opens the database for a command, with the operator's name; logs what is done to stderr, as JSON lines."""
    import sys

    from app.core.logs import json_log

    with json_log(sys.stderr):
        yield open_database(env_file), _operator()


def require_migrations(engine: Engine) -> None:
    """Raises `NotReady` if the database lacks migrations, which commands that only look do not apply."""
    from app.bootstrap.check import NotReady
    from app.db.migrations import missing_migrations

    if missing := missing_migrations(engine):
        raise NotReady(
            f"The database lacks {', '.join(missing)}: `stakesim migrate` applies them, this command does not."
        )


@contextmanager
def _intervening(env_file: Path, *, verified: bool = False) -> Iterator[Interventions]:
    """Opens the services; logs what is done to stderr, as JSON lines.

    Args:
        env_file: File with the settings.
        verified: Whether network, contract and database are checked first, as what is signed concerns the contract.
    """
    import sys

    from app.bootstrap.checks import connect_verified_services, read_settings
    from app.bootstrap.container import connect_services
    from app.core.logs import json_log
    from app.services.interventions import Interventions

    settings: Settings = read_settings(env_file)
    open_database(env_file)
    services = connect_verified_services(settings) if verified else connect_services(settings)
    with json_log(sys.stderr):
        yield Interventions(services.w3, services.database, services.sender, _operator())


def _operator() -> str:
    """Returns the user of the operating system who runs the command; behind sudo, both users."""
    import os
    import pwd

    number = os.getuid()
    try:
        name = pwd.getpwuid(number).pw_name
    except KeyError:
        name = f"uid {number}"
    behind = os.environ.get("SUDO_USER")
    return f"{behind} as {name}" if behind else name


def confirm(meaning: str, word: str, yes: bool) -> None:
    """Asks for a word, after a sentence that says what it means."""
    if yes:
        return
    import sys

    from app.core.errors import InterventionRefused

    if not sys.stdin.isatty():
        raise InterventionRefused(f"{meaning} Give --yes to {word} it without a terminal.")
    typer.echo(meaning)
    if typer.prompt(f"Type {word} to go on") != word:
        raise InterventionRefused("Nothing was done.")


def _finish(outcome: Outcome) -> None:
    typer.echo(outcome.sentence)
    raise typer.Exit(0 if outcome.done else FINDINGS)
