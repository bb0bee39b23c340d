"""Commands of `stakesim` for payments. Imports only typer, as `commands` does."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from stakesim_adapter.command_options import DEFAULT_ENV_FILE, Command, EnvFile, Group
from stakesim_adapter.commands_operations import confirm, open_database, operating

if TYPE_CHECKING:
    from pathlib import Path

    from app.services.payments.service import PaymentService

payments = typer.Typer(
    cls=Group, help="List refunds that are not carried out and disputes; show a payment; record one by hand."
)
PaymentId = Annotated[UUID, typer.Argument(metavar="PAYMENT", help="Id of the payment, which is the quote's.")]
Reference = Annotated[str, typer.Option(help="The bank's reference.")]
LIMIT = 1000
"""Maximum number of refunds, and of disputes, that are listed."""


@payments.callback(invoke_without_command=True)
def list_all(ctx: typer.Context, env_file: EnvFile = DEFAULT_ENV_FILE) -> None:
    """List refunds that are not carried out, and disputes. Needs only the database."""
    if ctx.invoked_subcommand is not None:
        return
    from app.services.payments.overview import list_disputes, list_open_refunds

    with open_database(env_file).autocommit() as connection:
        refunds, disputes = list_open_refunds(connection, LIMIT), list_disputes(connection, LIMIT)
    for row in refunds:
        since, problem = f"{row.created_at:%Y-%m-%d %H:%M}", f": {row.problem}" if row.problem else ""
        typer.echo(
            f"{row.id}  refund of {row.refund_inr} INR ({row.cause}) to user {row.user_id} is {row.refund_state} "
            f"since {since}, asked for {row.tries} times{problem}"
        )
    for row in disputes:
        typer.echo(
            f"{row.id}  dispute {row.dispute_id} about {row.amount_inr} INR of user {row.user_id} is {row.dispute}; "
            f"the payment is {row.state}" + (f" for {row.operation_key}" if row.operation_key else "")
        )
    if not refunds and not disputes:
        typer.echo("no refund is open, and no payment is disputed")


@payments.command(cls=Command)
def show(payment_id: PaymentId, env_file: EnvFile = DEFAULT_ENV_FILE) -> None:
    """Show everything about a payment and its refund."""
    service = _service(env_file)
    payment, refund = service.get(payment_id), service.refund_of(payment_id)
    hidden = ("seal", "look_at", "to_custody")
    for name, value in vars(payment).items():
        if value is not None and name not in hidden:
            typer.echo(f"{name:20} {value}")
    for name, value in vars(refund).items() if refund else ():
        if value is not None and name != "payment_id":
            typer.echo(f"{f'refund {name}':20} {value}")


@payments.command(cls=Command)
def capture(
    payment_id: PaymentId,
    reference: Reference,
    amount: Annotated[str, typer.Option(help="What arrived, in INR.")],
    env_file: EnvFile = DEFAULT_ENV_FILE,
) -> None:
    """Record a payment that arrived, where they are taken by hand. Repeated, it changes nothing."""
    try:
        amount_inr = Decimal(amount)
    except InvalidOperation:
        raise typer.BadParameter(f"{amount!r} is no amount.", param_hint="--amount") from None
    with operating(env_file):
        payment = _service(env_file).record_capture(payment_id, reference, amount_inr)
    typer.echo(f"The payment {payment.id} is {payment.state}.")


@payments.command(cls=Command)
def refund(
    payment_id: PaymentId,
    reference: Reference,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    env_file: EnvFile = DEFAULT_ENV_FILE,
) -> None:
    """Record a refund that was made by hand: where payments are, or where the gateway can't carry it out.

    It is refused if the gateway has the refund, or does not say; else the gateway is not asked for it any more.
    """
    confirm(f"The refund of payment {payment_id} counts as made, and nobody makes it again.", "record", yes)
    with operating(env_file):
        payment = _service(env_file).record_refund(payment_id, reference)
    typer.echo(f"The payment {payment.id} is {payment.state}.")


@payments.command(cls=Command)
def retry(payment_id: PaymentId, env_file: EnvFile = DEFAULT_ENV_FILE) -> None:
    """Have the gateway asked for a refund in the next round, whatever back-off is in force."""
    with operating(env_file):
        _service(env_file).hurry_refund(payment_id)
    typer.echo("The gateway is asked in the service's next round.")


def _service(env_file: Path) -> PaymentService:
    from app.bootstrap.checks import read_settings
    from app.bootstrap.container import connect_services
    from app.core.errors import NotFound

    open_database(env_file)
    service = connect_services(read_settings(env_file)).payments
    if service is None:
        raise NotFound("This service takes no payments: set PAYMENTS.")
    return service
