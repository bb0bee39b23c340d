"""`stakesim verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stakesim.commands.options import Contract, Rpc
from stakesim.commands.terminal import finish


def verify(
    rpc: Rpc,
    address: Annotated[str, typer.Option(help="Address of the contract.")],
    record: Annotated[
        Path | None,
        typer.Option(
            help="Record of the deployment, written by `stakesim deploy`.",
            show_default="deployments/CHAIN_ID-ADDRESS.json",
        ),
    ] = None,
    contract: Contract = None,
) -> None:
    """Compare a deployed contract (code, owner, terms) with the record of its deployment."""
    from stakesim.evm.contract_file import production_contract
    from stakesim.gate import release

    w3, checksummed = release.connect(rpc), release.checksum_address(address)
    deployment = release.read_record(record or Path("deployments") / f"{w3.eth.chain_id}-{checksummed}.json")
    differences = release.differences(w3, checksummed, deployment, production_contract(contract).abi)
    for difference in differences:
        typer.echo(difference)
    verdict = (
        f"{len(differences)} differences" if differences else f"{checksummed} is what was deployed: code, owner, terms"
    )
    typer.echo(verdict)
    finish(ok=not differences)
