"""`stakesim verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stakesim.commands.options import ENV_FILE, Address, Contract, EnvFile, Rpc, Terms, parse_terms, reports
from stakesim.commands.terminal import console, finish, print_finding

if TYPE_CHECKING:
    from stakesim.evm.source_build import SourceBuild


@reports
def verify(
    rpc: Rpc,
    address: Address,
    record: Annotated[
        Path | None,
        typer.Option(
            help="Record of the deployment, written by `stakesim deploy`.",
            show_default="deployments/CHAIN_ID-ADDRESS.json, if it is there",
        ),
    ] = None,
    contract: Contract = None,
    owner: Annotated[
        str | None, typer.Option(help="Who should own it by now.", show_default="the owner of the record")
    ] = None,
    operator: Annotated[
        list[str] | None,
        typer.Option(
            help="An account that acts for the platform. Repeatable.",
            show_default="that of PLATFORM_PRIVATE_KEY, PLATFORM_KEYSTORE or SIGNER_ADDRESS",
        ),
    ] = None,
    term: Terms = None,
    code_hash: Annotated[
        str | None,
        typer.Option(
            help="Keccak-256 of the code on chain, for a contract whose source is not here; not rebuilt then."
        ),
    ] = None,
    env_file: EnvFile = ENV_FILE,
) -> None:
    """Compare a deployed contract with its sources and the record of its deployment, and judge each difference.

    Compares code, owner, pending owner, operators, terms, pause and solvency. Terms are those of the record; without a
    record those of --term.
    """
    from stakesim.evm.source_build import build_from_source
    from stakesim.gate import deployment_record as records
    from stakesim.gate import node, verification

    w3, checksummed = node.connect(rpc), node.checksum_address(address)
    file = record or records.record_file(w3.eth.chain_id, checksummed)
    entry = records.read_record(file) if record or file.exists() else None
    build: SourceBuild | None = None if code_hash else build_from_source(contract)
    terms: dict[str, Any] = entry["terms"] if entry else dict(parse_terms(term))
    operators = [node.checksum_address(each) for each in operator or node.configured_operators(env_file)]
    expected = verification.Expectation(
        entry, build, code_hash, owner and node.checksum_address(owner), operators, terms
    )
    differences = verification.verify(w3, checksummed, expected)
    for difference in differences:
        is_dangerous = difference.verdict is verification.Verdict.DANGEROUS
        console(findings=is_dangerous).print(f"{difference.verdict:12}{difference.text}", markup=False)
        if is_dangerous:
            print_finding(difference.verdict.value, difference.text)
    dangerous = sum(difference.verdict is verification.Verdict.DANGEROUS for difference in differences)
    others = f"; {len(differences) - dangerous} other remarks" if len(differences) > dangerous else ""
    console(findings=bool(dangerous)).print(
        f"{checksummed}: {dangerous} dangerous differences{others}"
        if dangerous
        else f"{checksummed} is what should be there: code, owner, operators, terms, solvency{others}",
        markup=False,
    )
    finish(ok=not dangerous, address=checksummed, chain_id=w3.eth.chain_id)
