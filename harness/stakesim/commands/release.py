"""`stakesim deploy` and `stakesim verify` on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stakesim.commands.gate import Contract, Terms, terms

FINDINGS = 1


def deploy(
    rpc: Annotated[str, typer.Option(help="URL of the node.")],
    gate: Annotated[Path, typer.Option(help="What `stakesim gate` wrote.")] = Path("reports/gate/gate.json"),
    contract: Contract = None,
    term: Terms = None,
    owner: Annotated[str | None, typer.Option(help="Owner of the contract; the deployer if left out.")] = None,
    max_age_hours: Annotated[float, typer.Option(help="Age that the gate's report may have.", min=0)] = 24,
    record: Annotated[Path | None, typer.Option(help="Where to write what was deployed.")] = None,
    env_file: Annotated[Path, typer.Option(help="Where the settings are; the environment goes first.")] = Path(".env"),
) -> None:
    """Deploy a contract with PLATFORM_PRIVATE_KEY, if that very code passed the gate with these terms, not long ago."""
    import json
    from datetime import UTC, datetime, timedelta

    from stakesim.evm.contract_file import production_contract
    from stakesim.gate import release

    artifact, given = production_contract(contract), terms(term)
    report = release.admit(gate, artifact, given, timedelta(hours=max_age_hours), datetime.now(UTC))
    w3, deployer = release.connect(rpc), release.deployer(env_file)
    receipt = release.deploy(w3, deployer, artifact, given, owner)
    made = release.record(w3, receipt, artifact, given, owner or deployer.address, report, gate)
    file = record or Path("deployments") / f"{made['chain_id']}-{made['address']}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")
    typer.echo(f"deployed {artifact.name} at {made['address']}, block {made['block']}; record: {file}")


def verify(
    rpc: Annotated[str, typer.Option(help="URL of the node.")],
    address: Annotated[str, typer.Option(help="Of the contract.")],
    record: Annotated[
        Path | None, typer.Option(help="What `stakesim deploy` wrote; found by chain and address.")
    ] = None,
    contract: Contract = None,
) -> None:
    """Compare what is on a chain (code, owner, terms) with the record of its deployment."""
    from stakesim.evm.contract_file import production_contract
    from stakesim.gate import release

    w3, checked = release.connect(rpc), release.checked_address(address)
    known = release.read_record(record or Path("deployments") / f"{w3.eth.chain_id}-{checked}.json")
    found = release.differences(w3, checked, known, production_contract(contract).abi)
    for difference in found:
        typer.echo(difference)
    typer.echo(f"{len(found)} differences" if found else f"{checked} is what was deployed: code, owner, terms")
    raise typer.Exit(FINDINGS if found else 0)
