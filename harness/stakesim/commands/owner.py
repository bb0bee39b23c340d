"""`stakesim owner`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from stakesim.commands.options import ENV_FILE, Address, DryRun, EnvFile, Rpc
from stakesim.commands.terminal import finish

owner = typer.Typer(
    no_args_is_help=True,
    help="Do what only the owner of a stake contract may: transfer, accept, pause, unpause, set-operator.",
    epilog="The call is sent if OWNER_PRIVATE_KEY or PLATFORM_PRIVATE_KEY is the key for it. Otherwise it is printed, "
    "for a multisig or another wallet. Exit codes: 0 done, 1 printed and not done, 2 it could not do its work.",
)

KEYS = ("OWNER_PRIVATE_KEY", "PLATFORM_PRIVATE_KEY")


@owner.command()
def transfer(
    new_owner: Annotated[str, typer.Argument(help="Address of the new owner. Zero takes an offer back.")],
    rpc: Rpc,
    address: Address,
    dry_run: DryRun = False,
    env_file: EnvFile = ENV_FILE,
) -> None:
    """Offer the ownership to another account, which then has to accept it."""
    from stakesim.gate.node import checksum_address

    _call(rpc, address, env_file, dry_run, "transferOwnership", checksum_address(new_owner))


@owner.command()
def accept(rpc: Rpc, address: Address, dry_run: DryRun = False, env_file: EnvFile = ENV_FILE) -> None:
    """Accept the ownership that was offered."""
    _call(rpc, address, env_file, dry_run, "acceptOwnership")


@owner.command()
def pause(rpc: Rpc, address: Address, dry_run: DryRun = False, env_file: EnvFile = ENV_FILE) -> None:
    """Stop new runs and bookings. Money can leave the contract as before."""
    _call(rpc, address, env_file, dry_run, "pause")


@owner.command()
def unpause(rpc: Rpc, address: Address, dry_run: DryRun = False, env_file: EnvFile = ENV_FILE) -> None:
    """Allow new runs and bookings again."""
    _call(rpc, address, env_file, dry_run, "unpause")


@owner.command()
def set_operator(
    account: Annotated[str, typer.Argument(help="Address of the account.")],
    rpc: Rpc,
    address: Address,
    revoke: Annotated[bool, typer.Option("--revoke", help="Let it act for the platform no longer.")] = False,
    dry_run: DryRun = False,
    env_file: EnvFile = ENV_FILE,
) -> None:
    """Let an account act for the platform, as the service's account does, or no longer."""
    from stakesim.gate.node import checksum_address

    _call(rpc, address, env_file, dry_run, "setOperator", checksum_address(account), not revoke)


def _call(rpc: str, address: str, env_file: Path, dry_run: bool, function: str, *arguments: Any) -> None:
    """Sends the call if its key is here, else prints it."""
    from stakesim.gate import node, ownership

    w3 = node.connect(rpc)
    call = ownership.prepare(w3, node.checksum_address(address), function, *arguments)
    if call is None:
        typer.echo("There is nothing to do: the contract is so already.")
        return
    accounts = [account for key in KEYS if (account := node.account_of(key, env_file))]
    account = next((each for each in accounts if each.address == call.sender), None)
    if account and not dry_run:
        receipt = ownership.carry_out(w3, account, call, lambda tx_hash: typer.echo(f"sent {tx_hash}", err=True))
        typer.echo(f"{call.meaning} Done in {receipt['transactionHash'].to_0x_hex()}, block {receipt['blockNumber']}.")
        return
    kind = "the contract" if call.sender_is_contract else "the account"
    lines = {
        "from": f"{call.sender}, {kind} that has to send it",
        "to": call.to,
        "value": 0,
        "data": f"0x{call.data.hex()}",
        "does": call.meaning,
    }
    for name, value in lines.items():
        typer.echo(f"{name:6}{value}")
    typer.echo("Nothing was sent.")
    finish(ok=False)
