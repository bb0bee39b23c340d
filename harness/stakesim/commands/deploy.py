"""`stakesim deploy`."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from stakesim.commands.options import Contract, Rpc, Terms, parse_terms


def deploy(
    rpc: Rpc,
    gate: Annotated[Path, typer.Option(help="Report of `stakesim gate`.")] = Path("reports/gate/gate.json"),
    contract: Contract = None,
    term: Terms = None,
    owner: Annotated[str | None, typer.Option(help="Owner of the contract.", show_default="the deployer")] = None,
    max_age_hours: Annotated[float, typer.Option(help="Highest age of the gate's report, in hours.", min=0)] = 24,
    record: Annotated[
        Path | None,
        typer.Option(help="File for the record of the deployment.", show_default="deployments/CHAIN_ID-ADDRESS.json"),
    ] = None,
    env_file: Annotated[
        Path, typer.Option(help="File with PLATFORM_PRIVATE_KEY; the environment variable has priority.")
    ] = Path(".env"),
) -> None:
    """Deploy a contract with PLATFORM_PRIVATE_KEY, if the same code and terms have passed the gate recently."""
    from stakesim.evm.contract_file import production_contract
    from stakesim.gate import release

    artifact, terms = production_contract(contract), parse_terms(term)
    report = release.check_report(gate, artifact, terms, max_age=timedelta(hours=max_age_hours), now=datetime.now(UTC))
    w3, deployer = release.connect(rpc), release.deployer(env_file)
    receipt = release.deploy(w3, deployer, artifact, terms, owner)
    deployment = release.deployment_record(w3, receipt, artifact, terms, owner or deployer.address, report, gate)
    file = record or Path("deployments") / f"{deployment['chain_id']}-{deployment['address']}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(deployment, indent=2) + "\n", encoding="utf-8")
    typer.echo(f"deployed {artifact.name} at {deployment['address']}, block {deployment['block']}; record: {file}")
