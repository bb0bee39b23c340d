"""Commands of `stakesim` for whoever runs this backend: serve, smoke, doctor, reconcile, wallet, stop-database.

Named in `pyproject.toml`: `[tool.stakesim] commands = "stakesim_adapter.commands:cli"`. Only typer is imported here; a
command imports what it needs when it runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from stakesim_adapter.errors import as_backend_error

if TYPE_CHECKING:
    from app.bootstrap.checks import Check
    from app.bootstrap.container import Services
    from app.bootstrap.smoke_test import Step
    from app.core.config import Settings


class _Command(TyperCommand):
    """A command of which errors of the backend, and a package that is missing, end as one sentence."""

    def invoke(self, ctx: Any) -> Any:
        with as_backend_error():
            return super().invoke(ctx)


cli = typer.Typer()
wallet = typer.Typer(no_args_is_help=True, help="The platform's wallet.")
cli.add_typer(wallet, name="wallet")

FINDINGS = 1
EnvFile = Annotated[Path, typer.Option(help="Where the settings are; the environment goes first.")]
StartsIn = Annotated[int, typer.Option(help="Seconds from now to the event's start.", min=1)]
ENV = Path(".env")


@cli.command(cls=_Command)
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)] = 8000,
    block_time: Annotated[int, typer.Option(help="Seconds a block of the stand-in takes.", min=1)] = 1,
    env_file: EnvFile = ENV,
    variables: Annotated[
        Path | None, typer.Option(help="Where the stand-in writes shell variables to; .stakesim/serve.env by default.")
    ] = None,
) -> None:
    """Serve the HTTP API: on the network of the settings, or on a stand-in for Sepolia where they name none."""
    from stakesim_adapter.serve import serve

    serve(host, port, block_time, env_file, variables, typer.echo)


@cli.command(cls=_Command)
def smoke(
    rpc: Annotated[str | None, typer.Option(help="URL of the node, instead of BLOCKCHAIN_RPC_URL.")] = None,
    deploy: Annotated[bool, typer.Option(help="Deploy a contract for it, paid by PLATFORM_PRIVATE_KEY.")] = False,
    starts_in: StartsIn = 60,
    env_file: EnvFile = ENV,
) -> None:
    """Play a short lifecycle live and in real time: create, book, wait for the start, complete."""
    from app.bootstrap.checks import read_settings

    given = {"blockchain_rpc_url": rpc} if rpc else {}
    if not deploy:
        _smoke(read_settings(env_file, **given), starts_in)
        return
    from stakesim_adapter.serve import new_contract

    with new_contract(env_file, **given) as settings:
        typer.echo(f"deployed {settings.contract_address}")
        _smoke(settings, starts_in)


@cli.command(cls=_Command)
def doctor(
    live: Annotated[bool, typer.Option("--live", help="Also create, book, complete and cancel, for real.")] = False,
    starts_in: StartsIn = 60,
    env_file: EnvFile = ENV,
) -> None:
    """Check all that has to be right before a deploy; each line that fails says what to do."""
    from app.bootstrap.checks import Check, NotReady, examine, read_settings

    checks: list[Check] = []

    def tell(check: Check) -> None:
        checks.append(check)
        typer.echo(f"{'ok  ' if check.ok else 'FAIL'}  {check.name:18} {check.found}")
        if not check.ok:
            typer.echo(f"{'':24} -> {check.todo}")

    try:
        settings = read_settings(env_file)
    except NotReady as error:
        tell(Check("settings", False, f"{error}.", "Fill in .env: backend/.env.example says what each is."))
        raise typer.Exit(FINDINGS) from None
    tell(Check("settings", True, "All that are needed are there."))
    for check in examine(settings):
        tell(check)
    if live and not any(check.fatal and not check.ok for check in checks):
        _smoke(settings, starts_in, thorough=True)
    failed = sum(not check.ok for check in checks)
    typer.echo(f"{failed} of {len(checks)} checks failed" if failed else f"all {len(checks)} checks passed")
    raise typer.Exit(FINDINGS if failed else 0)


@cli.command(cls=_Command)
def reconcile(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what there is to do.")] = False,
    env_file: EnvFile = ENV,
) -> None:
    """Bring database and chain together: pending operations, and rows that are not what the contract says."""
    from app.bootstrap.checks import NotReady, missing_migrations, read_settings
    from app.db.session import connect

    settings = read_settings(env_file)
    if dry_run and (missing := missing_migrations(connect(settings.database_url))):
        raise NotReady(f"The database lacks {', '.join(missing)}: `stakesim serve` applies them, a dry run does not.")
    services = _ready(settings)
    report = services.reconciler.dry_run() if dry_run else services.reconciler.run_full()
    for before, moved in report.advanced:
        typer.echo(f"{moved.kind} {moved.key}: {before} -> {moved.state}")
    for pending in report.pending:
        typer.echo(f"{pending.kind} {pending.key}: {pending.state}{f', held: {pending.held}' if pending.held else ''}")
    for difference in report.differences:
        typer.echo(f"differs: {difference}")
    for run_id in report.refreshed:
        typer.echo(f"taken over from the chain: event run {run_id}")
    for trouble in report.problems:
        typer.echo(f"not done: {trouble}")
    typer.echo(f"{len(report.pending)} operations pending, {len(report.differences)} differences")
    raise typer.Exit(FINDINGS if report.differences or report.problems else 0)


@wallet.command("new", cls=_Command)
def new(env_file: EnvFile = ENV) -> None:
    """Make a wallet for the platform: its key into the settings, never on the screen."""
    from app.bootstrap.wallet import new_wallet

    typer.echo(f"{new_wallet(env_file)}: its key is in {env_file}. Send it ETH, and keep a copy of the file safe.")


@cli.command("stop-database", cls=_Command)
def stop_database() -> None:
    """Stop the embedded PostgreSQL server, if it runs."""
    from app.db.embedded import stop_embedded
    from stakesim.paths import state_dir

    stop_embedded(state_dir() / "postgres")


def _ready(settings: Settings) -> Services:
    """The services, where all that they can't do without is right."""
    from app.bootstrap.checks import connect_ready

    return connect_ready(settings)


def _smoke(settings: Settings, starts_in: int, thorough: bool = False) -> None:
    from app.bootstrap.smoke_test import SmokeFailed, play

    steps: list[Step] = []
    try:
        for step in play(_ready(settings), starts_in, thorough):
            steps.append(step)
            typer.echo(_told(step))
    except SmokeFailed as error:
        typer.echo(f"stakesim: {error}", err=True)
        raise typer.Exit(FINDINGS) from None
    gas = sum(step.operation.gas_used or 0 for step in steps if step.operation)
    typer.echo(f"all held; {gas:,} gas for {_eth(sum(step.gas_cost for step in steps))}")


def _told(step: Step) -> str:
    sent = step.operation
    if sent is None:
        return step.what
    gas = f"{sent.gas_used or 0:,} gas for {_eth(step.gas_cost)}"
    return f"{step.what}\n  {sent.tx_hash} in block {sent.block_number}, {gas}"


def _eth(wei: int) -> str:
    from decimal import Decimal

    return f"{Decimal(wei).scaleb(-18):f} ETH"
