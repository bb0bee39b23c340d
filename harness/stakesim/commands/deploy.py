"""`stakesim deploy`."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stakesim.commands.options import ENV_FILE, Contract, DryRun, EnvFile, Rpc, Terms, parse_terms
from stakesim.gate.profiles import ProfileName

if TYPE_CHECKING:
    from stakesim.evm.compiler import Artifact
    from stakesim.evm.source_build import SourceBuild
    from stakesim.gate.release import Deployment
    from stakesim.scenario.actions import Terms as ContractTerms


def deploy(
    rpc: Rpc,
    gate: Annotated[Path, typer.Option(help="Report of `stakesim gate`.")] = Path("reports/gate/gate.json"),
    contract: Contract = None,
    term: Terms = None,
    owner: Annotated[
        str | None, typer.Option(help="Owner of the contract, such as a multisig.", show_default="the deployer")
    ] = None,
    salt: Annotated[
        str | None,
        typer.Option(
            help="Deploy by CREATE2, to an address that depends on this salt (hex), code, owner and terms only.",
            show_default="deploy to an address that depends on the deployer's nonce",
        ),
    ] = None,
    dry_run: DryRun = False,
    profile: Annotated[ProfileName, typer.Option(help="The smallest profile of the gate that is enough.")] = "release",
    without: Annotated[
        list[str] | None,
        typer.Option(help="A part of the gate that need not have been tried, or not completely. Repeatable."),
    ] = None,
    max_age_hours: Annotated[float, typer.Option(help="Highest age of the gate's report, in hours.", min=0)] = 24,
    record: Annotated[
        Path | None,
        typer.Option(help="File for the record of the deployment.", show_default="deployments/CHAIN_ID-ADDRESS.json"),
    ] = None,
    verify_input: Annotated[
        Path | None,
        typer.Option(help="File for the compiler's standard-JSON input, which Etherscan and Sourcify take."),
    ] = None,
    env_file: EnvFile = ENV_FILE,
) -> None:
    """Deploy a contract with PLATFORM_PRIVATE_KEY, if the same code and terms have passed the gate recently."""
    from stakesim.evm.contract_file import production_contract
    from stakesim.gate import deployment_record as records
    from stakesim.gate import node, release
    from stakesim.gate.sending import NotSentError

    artifact = production_contract(contract)
    terms = _terms(term, artifact, gate)
    report = release.check_report(
        gate,
        artifact,
        terms,
        max_age=_hours(max_age_hours),
        now=datetime.now(UTC),
        profile=profile,
        without=without or (),
    )
    summary = records.gate_summary(report, gate)
    build, revision = _build(contract, artifact)
    if verify_input:
        _write_json(verify_input, _verification_input(artifact, build))
    deployer, w3 = node.deployer(env_file), node.connect(rpc)
    deployment = release.plan(
        w3,
        deployer.address,
        artifact,
        terms,
        node.checksum_address(owner) if owner else None,
        release.parse_salt(salt) if salt is not None else None,
    )
    release.check_network(deployment, profile)
    file = record or records.record_file(deployment.transaction["chainId"], deployment.address)
    records.check_new(file)
    if dry_run:
        _print_plan(deployment, artifact, terms, deployer.address)
        return
    planned = records.planned_record(deployer.address, artifact, terms, deployment, build, revision)
    planned |= {"gate": summary}
    try:
        receipt = release.deploy(
            w3,
            deployer,
            artifact,
            deployment,
            before_sending=lambda tx_hash: records.write_record(file, planned | {"transaction": tx_hash}),
            after_sending=lambda tx_hash: typer.echo(
                f"sent {tx_hash}: {artifact.name} will be at {deployment.address}; record: {file}", err=True
            ),
        )
    except NotSentError:
        file.unlink()
        raise
    with release.deploying(receipt["transactionHash"].to_0x_hex(), deployment):
        entry = records.deployment_record(w3, planned, receipt)
        records.write_record(file, entry)
    typer.echo(f"deployed {artifact.name} at {deployment.address}, block {entry['block']}; record: {file}")


def _hours(hours: float) -> timedelta:
    try:
        return timedelta(hours=hours)
    except (ValueError, OverflowError):  # not a number, or too many
        raise typer.BadParameter(f"--max-age-hours {hours} is no time: give a number of hours.") from None


def _terms(term: list[str] | None, artifact: Artifact, gate: Path) -> ContractTerms:
    """The terms of `--term`. Without it, a contract whose constructor takes none has those that the gate found."""
    from stakesim.evm.deployment import CONSTRUCTORS, constructor_types
    from stakesim.json_text import parse_json
    from stakesim.scenario.actions import Terms

    if term or constructor_types(artifact) == CONSTRUCTORS[-1]:
        return parse_terms(term)
    try:
        return Terms.model_validate(parse_json(gate.read_text(encoding="utf-8"))["constructor"]["terms"])
    except (OSError, ValueError, KeyError, TypeError):
        return Terms()  # the check of the report says what is wrong with it


def _build(contract: str | None, artifact: Artifact) -> tuple[SourceBuild | None, dict[str, Any] | None]:
    """Builds the contract from its sources, which must give what passed the gate. Returns their commit as well."""
    from stakesim.evm.source_build import build_from_source, find_sources
    from stakesim.gate.errors import ReleaseError
    from stakesim.gate.hashes import abi_hash, source_revision

    build, sources = build_from_source(contract), find_sources(contract)
    if build is None or sources is None:
        return None, None
    if build.artifact.bytecode != artifact.bytecode or abi_hash(build.artifact.abi) != abi_hash(artifact.abi):
        raise ReleaseError(f"{artifact.name} is not what its sources compile to: run `stakesim compile --write`.")
    return build, source_revision(sources.file)


def _verification_input(artifact: Artifact, build: SourceBuild | None) -> dict[str, Any]:
    from stakesim.gate.errors import ReleaseError

    if build is None:
        raise ReleaseError(
            f"{artifact.source} has no source for --verify-input: give the Solidity file with --contract."
        )
    return build.request


def _print_plan(deployment: Deployment, artifact: Artifact, terms: ContractTerms, deployer: str) -> None:
    transaction = deployment.transaction
    by = "CREATE" if deployment.salt is None else f"CREATE2 through {transaction['to']}"
    lines = {
        "contract": artifact.name,
        "chain": transaction["chainId"],
        "account": f"{deployer}, which has {deployment.balance} wei",
        "nonce": transaction["nonce"],
        "address": f"{deployment.address}, by {by}",
        "owner": deployment.owner,
        "terms": ", ".join(f"{name} {value}" for name, value in terms),
        "gas": transaction["gas"],
        "cost": f"{deployment.expected_cost} wei now, at most {deployment.highest_cost} wei",
    }
    for name, value in lines.items():
        typer.echo(f"{name:9}{value}")
    if deployment.balance < deployment.highest_cost:
        typer.echo(f"The account has {deployment.highest_cost - deployment.balance} wei too little for it.")
    typer.echo("Nothing was sent.")


def _write_json(file: Path, content: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
