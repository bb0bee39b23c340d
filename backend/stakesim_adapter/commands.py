"""Commands of `stakesim` for operators of the backend; those about single operations are in `commands_operations`.

`pyproject.toml` names them: `[tool.stakesim] commands = "stakesim_adapter.commands:cli"`. This module imports only
typer, so that `stakesim --help` is quick; the other imports happen when a command runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal
from uuid import UUID

import typer
from stakesim.evm.hardfork import Hardfork

from stakesim_adapter import commands_operations, commands_payments
from stakesim_adapter.command_options import DEFAULT_ENV_FILE, FINDINGS, Command, EnvFile

if TYPE_CHECKING:
    from app.bootstrap.check import Check
    from app.bootstrap.services import Services
    from app.bootstrap.smoke_test import SmokeStep
    from app.core.config import Settings
    from app.services.reconciler import ReconcileReport


cli = typer.Typer()
wallet = typer.Typer(no_args_is_help=True, help="The platform's wallet.")
cli.add_typer(wallet, name="wallet")
cli.add_typer(commands_operations.operations, name="operations")
cli.add_typer(commands_operations.orphans, name="orphans")
cli.add_typer(commands_payments.payments, name="payments")

StartsIn = Annotated[int, typer.Option(help="Seconds from now to the event's start.", min=1)]


@cli.command(cls=Command)
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)] = 8000,
    block_time: Annotated[int, typer.Option(help="Seconds between two blocks of the local testnet.", min=1)] = 1,
    hardfork: Annotated[Hardfork, typer.Option(help="Rules of the local testnet: Sepolia has Osaka's.")] = "osaka",
    env_file: EnvFile = DEFAULT_ENV_FILE,
    variables: Annotated[
        Path | None,
        typer.Option(help="Where to write shell variables for the local testnet; .stakesim/serve.env by default."),
    ] = None,
) -> None:
    """Serve the HTTP API on the network of the settings, or on a local testnet if they have no BLOCKCHAIN_RPC_URL."""
    from stakesim_adapter.serve import serve

    serve(host, port, block_time, env_file, variables, typer.echo, hardfork)


@cli.command(cls=Command)
def smoke(
    rpc: Annotated[str | None, typer.Option(help="URL of the node, instead of BLOCKCHAIN_RPC_URL.")] = None,
    deploy: Annotated[bool, typer.Option(help="Deploy a contract for it, paid by PLATFORM_PRIVATE_KEY.")] = False,
    starts_in: StartsIn = 60,
    env_file: EnvFile = DEFAULT_ENV_FILE,
) -> None:
    """Run a short lifecycle on the live network, in real time: create, book, wait for the start, complete."""
    from app.bootstrap.checks import read_settings

    overrides = {"blockchain_rpc_url": rpc} if rpc else {}
    if not deploy:
        _run_smoke_test(read_settings(env_file, **overrides), starts_in)
        return
    from stakesim_adapter.serve import temporary_deployment

    with temporary_deployment(env_file, **overrides) as settings:
        typer.echo(f"deployed {settings.contract_address}")
        _run_smoke_test(settings, starts_in)


@cli.command(cls=Command)
def pause(
    reason: Annotated[str | None, typer.Option(help="Why, for /ready and the log.")] = None,
    env_file: EnvFile = DEFAULT_ENV_FILE,
) -> None:
    """Stop all signing but that of refunds and other exits, in all processes. Needs only the database."""
    from app.services import pause

    with commands_operations.operating(env_file) as (database, operator):
        typer.echo(f"{pause.pause(database, operator, reason)}. Exits go on; `stakesim resume` ends the pause.")


@cli.command(cls=Command)
def resume(env_file: EnvFile = DEFAULT_ENV_FILE) -> None:
    """End the pause, in all processes. Needs only the database."""
    from app.services import pause

    with commands_operations.operating(env_file) as (database, operator):
        ended = pause.resume(database, operator)
        typer.echo("The service takes new event runs and bookings again." if ended else "There was no pause.")


@cli.command(cls=Command)
def doctor(
    live: Annotated[bool, typer.Option("--live", help="Also run the smoke test, which sends transactions.")] = False,
    starts_in: StartsIn = 60,
    env_file: EnvFile = DEFAULT_ENV_FILE,
) -> None:
    """Check settings, network, contract, wallet, database and price; say what to do about what fails.

    Also says how the network's rules differ from those that scenarios run on.
    """
    from app.bootstrap.check import Check, NotReady
    from app.bootstrap.checks import check_deployment, read_settings

    from stakesim_adapter.rules_check import check_rules

    checks: list[Check] = []

    def report(check: Check) -> None:
        checks.append(check)
        typer.echo(f"{'ok  ' if check.ok else 'FAIL'}  {check.name:18} {check.finding}")
        if not check.ok:
            typer.echo(f"{'':24} -> {check.remedy}")

    try:
        settings = read_settings(env_file)
    except NotReady as error:
        report(Check("settings", False, f"{error}.", "Fill in .env; backend/.env.example describes each setting."))
        raise typer.Exit(FINDINGS) from None
    report(Check("settings", True, "All required settings are there."))
    for check in check_deployment(settings):
        report(check)
    if rules := check_rules(settings.rpc_urls):
        report(rules)
    if live and not any(check.fatal and not check.ok for check in checks):
        _run_smoke_test(settings, starts_in, thorough=True)
    failed = sum(not check.ok for check in checks)
    typer.echo(f"{failed} of {len(checks)} checks failed" if failed else f"all {len(checks)} checks passed")
    raise typer.Exit(FINDINGS if failed else 0)


@cli.command(cls=Command)
def reconcile(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")] = False,
    env_file: EnvFile = DEFAULT_ENV_FILE,
) -> None:
    """Reconcile database and chain: continue pending operations, correct rows that differ.

    A dry run says what would be done with each operation and each row, and writes and sends nothing.
    """
    from app.bootstrap.checks import read_settings
    from app.db.database import connect

    settings = read_settings(env_file)
    if dry_run:
        commands_operations.require_migrations(connect(settings.database_url))
    services = _connect_services(settings)
    if dry_run:
        report = services.reconciler.dry_run()
        _print_rehearsal(services, report)
    else:
        report = services.reconciler.run_full()
    _print_report(report, lists_pending=not dry_run)
    raise typer.Exit(FINDINGS if report.differences or report.problems else 0)


@cli.command(cls=Command)
def confirm_rate(env_file: EnvFile = DEFAULT_ENV_FILE) -> None:
    """Accept the present ETH price, however far it is from earlier ones. Check it first: the next quotes use it."""
    from app.bootstrap.checks import read_settings
    from app.bootstrap.container import build_pricing
    from app.db.database import Database, connect
    from app.db.migrations import ensure_migrated

    settings = read_settings(env_file)
    engine = connect(settings.database_url)
    ensure_migrated(engine)
    rate = build_pricing(settings, Database(engine)).confirm()
    typer.echo(f"one ETH is {rate.inr_per_eth} INR by {rate.source}, as of {rate.as_of.isoformat()}")


@cli.command(cls=Command)
def token(
    user: Annotated[UUID, typer.Option(help="Id of the user's row in `users`.")],
    role: Annotated[Literal["host", "attendee", "platform"], typer.Option(help="What the user may do.")],
    hours: Annotated[float, typer.Option(help="Lifetime in hours; at most JWT_MAX_LIFETIME_SECONDS.")] = 1,
    env_file: EnvFile = DEFAULT_ENV_FILE,
) -> None:
    """Print a bearer token for the API, signed with JWT_SECRET. Whoever has it is that user until it expires."""
    from datetime import timedelta

    from app.bootstrap.checks import read_settings
    from app.core.errors import InvalidRequest
    from app.core.security import issue_token

    settings = read_settings(env_file)
    if not 0 < hours * 3600 <= settings.jwt_max_lifetime_seconds:
        longest = settings.jwt_max_lifetime_seconds / 3600
        raise InvalidRequest(f"A token lives for more than 0 and at most {longest:g} hours (JWT_MAX_LIFETIME_SECONDS).")
    typer.echo(issue_token(settings.jwt_secret, user, role, timedelta(hours=hours), settings.jwt_issuer))


@wallet.command("new", cls=Command)
def new(
    keystore: Annotated[Path | None, typer.Option(help="Encrypted file to write the key into.")] = None,
    password_file: Annotated[
        Path | None, typer.Option(help="File with the keystore's password; the terminal is asked otherwise.")
    ] = None,
    env_file: EnvFile = DEFAULT_ENV_FILE,
) -> None:
    """Create the platform's wallet: write its key into the settings or a keystore, and print its address."""
    from app.bootstrap.accounts import read_password
    from app.bootstrap.wallet import create_keystore, create_wallet

    if keystore is None:
        address, where = create_wallet(env_file), env_file
    else:
        if password_file is not None:
            password = read_password(password_file)
        else:
            password = typer.prompt(f"Password of {keystore}", hide_input=True, confirmation_prompt=True)
        address, where = create_keystore(env_file, keystore, password), keystore
    typer.echo(f"{address}: its key is in {where}. Send it ETH, and keep a copy of the file safe.")


@cli.command(cls=Command)
def openapi(
    out: Annotated[Path | None, typer.Option(help="File to write, instead of standard output.")] = None,
) -> None:
    """Show the OpenAPI document of the HTTP API. Needs no settings."""
    import json

    from app.main import api_document

    text = json.dumps(api_document(), indent=1)
    if out is None:
        typer.echo(text)
    else:
        out.write_text(f"{text}\n")


@cli.command(cls=Command)
def migrate(env_file: EnvFile = DEFAULT_ENV_FILE) -> None:
    """Create or change the tables, as their owner, and close them to others: DATABASE_URL has to be the owner's."""
    from app.bootstrap.checks import read_database_settings
    from app.db.database import connect
    from app.db.migrations import migrate

    applied = migrate(connect(read_database_settings(env_file).database_url))
    typer.echo(f"applied {', '.join(applied)}" if applied else "all migrations are applied")
    typer.echo("the tables are open to their owner and to the role stakesim_service, if there is one")


@cli.command("stop-database", cls=Command)
def stop_database() -> None:
    """Stop the embedded PostgreSQL server, if it runs."""
    from app.db.embedded import stop_embedded
    from stakesim.paths import state_dir

    stop_embedded(state_dir() / "postgres")


def _connect_services(settings: Settings) -> Services:
    from app.bootstrap.checks import connect_verified_services

    return connect_verified_services(settings)


def _run_smoke_test(settings: Settings, starts_in: int, *, thorough: bool = False) -> None:
    from app.bootstrap.smoke_test import SmokeTestFailed, run_smoke_test

    steps: list[SmokeStep] = []
    services = _connect_services(settings.model_copy(update={"payments": "none"}))  # the platform pays for itself
    try:
        for step in run_smoke_test(services, starts_in, thorough=thorough):
            steps.append(step)
            _print_step(step)
    except SmokeTestFailed as error:
        typer.echo(f"stakesim: {error}", err=True)
        raise typer.Exit(FINDINGS) from None
    gas_used = sum(step.operation.gas_used or 0 for step in steps if step.operation)
    typer.echo(f"smoke test passed; {gas_used:,} gas for {_eth(sum(step.gas_cost for step in steps))}")


def _print_step(step: SmokeStep) -> None:
    typer.echo(step.description)
    if step.operation is not None:
        gas = f"{step.operation.gas_used or 0:,} gas for {_eth(step.gas_cost)}"
        typer.echo(f"  {step.operation.tx_hash} in block {step.operation.block_number}, {gas}")


def _print_rehearsal(services: Services, report: ReconcileReport) -> None:
    from app.bootstrap.rehearsal import Rehearsal

    rehearsal = Rehearsal(services)
    for sentence in rehearsal.open_operations():
        typer.echo(f"would be done: {sentence}")
    for run_id in report.differing_runs:
        sentences = list(rehearsal.refresh(run_id, report.block))
        for sentence in sentences or [f"event run {run_id}: nothing is written, so somebody has to look at it"]:
            typer.echo(f"would be done: {sentence}")


def _print_report(report: ReconcileReport, *, lists_pending: bool) -> None:
    for previous_state, operation in report.advanced:
        typer.echo(f"{operation.kind} {operation.key}: {previous_state} -> {operation.state}")
    for operation in report.pending if lists_pending else ():
        held = f", held: {operation.held}" if operation.held else ""
        typer.echo(f"{operation.kind} {operation.key}: {operation.state}{held}")
    for difference in report.differences:
        typer.echo(f"differs: {difference}")
    for event_run_id in report.refreshed:
        typer.echo(f"taken over from the chain: event run {event_run_id}")
    for problem in report.problems:
        typer.echo(f"not done: {problem}")
    typer.echo(f"{len(report.pending)} operations pending, {len(report.differences)} differences")


def _eth(wei: int) -> str:
    from decimal import Decimal

    return f"{Decimal(wei).scaleb(-18):f} ETH"
