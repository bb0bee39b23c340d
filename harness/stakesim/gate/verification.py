"""Compares a contract on chain with what should be there, and judges each difference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from eth_typing import ChecksumAddress
from web3 import Web3
from web3.exceptions import Web3RPCError

from stakesim.evm.compiler import Artifact
from stakesim.evm.instructions import immutable_places, mask_immutables
from stakesim.evm.source_build import SourceBuild, without_metadata_hash
from stakesim.gate.contract_state import NOBODY, Contract
from stakesim.gate.hashes import code_hash
from stakesim.gate.node import NODE_ERRORS, node_error


class Verdict(StrEnum):
    """What a difference means.

    Attributes:
        DANGEROUS: Somebody may have what is not theirs, or the service can't do its work: find out before you go on.
        LEGITIMATE: The contract's rules allow it, and nobody loses by it.
        NOT_CHECKED: It can't be told from here.
    """

    DANGEROUS = "dangerous"
    LEGITIMATE = "legitimate"
    NOT_CHECKED = "not checked"


class Difference(NamedTuple):
    """Something that is not as it should be, or can't be checked.

    Attributes:
        verdict: What it means.
        text: A sentence, with what to do if that is not clear.
    """

    verdict: Verdict
    text: str


@dataclass(frozen=True)
class Expectation:
    """What should be on chain.

    Attributes:
        record: Of the deployment, as `deployment_record` returns it; None if there is none.
        build: The contract built from the sources at hand; None if there are none.
        code_hash: Keccak-256 of the code on chain, in hex, where it is known by that only.
        owner: The present owner, or who is about to be; None if the record has it.
        operators: Accounts that act for the platform.
        terms: Those that it was deployed with, by name; None if they are not known.
    """

    record: Mapping[str, Any] | None
    build: SourceBuild | None
    code_hash: str | None
    owner: str | None
    operators: Sequence[str]
    terms: Mapping[str, int] | None


def verify(w3: Web3, address: ChecksumAddress, expected: Expectation) -> list[Difference]:
    """Compares code, owner, pending owner, operators, pause, terms and solvency with what should be there.

    Everything is read as of one block. What the contract has no function for is left out, or reported as not checked.

    Args:
        w3: Connected to the node.
        address: Of the contract.
        expected: What should be there.

    Raises:
        EngineError: The node fails.
    """
    try:
        return list(_differences(w3, address, expected))
    except NODE_ERRORS as error:
        raise node_error("Verifying the contract", error) from error


def _differences(w3: Web3, address: ChecksumAddress, expected: Expectation) -> Iterator[Difference]:
    contract = Contract(w3, address)
    if expected.record:
        recorded_chain, recorded_address = expected.record["chain_id"], expected.record["address"]
        if w3.eth.chain_id != recorded_chain:
            yield _dangerous(f"The chain has the id {w3.eth.chain_id}, the record is of {recorded_chain}.")
        if address != recorded_address:
            yield _dangerous(f"The record is of {recorded_address}, not of {address}.")
    code = bytes(w3.eth.get_code(address, contract.block))
    if not code:
        yield _dangerous(f"There is no contract at {address}.")
        return
    code_differences = list(_code_differences(code, expected))
    yield from code_differences
    try:
        yield from _state_differences(contract, expected)
    except Web3RPCError:
        if all(difference.verdict is not Verdict.DANGEROUS for difference in code_differences):
            raise
        yield Difference(Verdict.NOT_CHECKED, "This code does not say who owns it and what it owes: its views fail.")


def _state_differences(contract: Contract, expected: Expectation) -> Iterator[Difference]:
    yield from _owner_differences(contract, expected)
    yield from _operator_differences(contract, expected)
    if contract.view("paused"):
        yield _legitimate("It is paused: no runs and bookings until the owner unpauses it. Money can leave it.")
    yield from _term_differences(contract, expected)
    yield from _solvency(contract)


# --------------------------------------------------------------------------------------------------------------- code


def _code_differences(code: bytes, expected: Expectation) -> Iterator[Difference]:
    record, build = expected.record, expected.build
    if record:
        deployed, places = bytes.fromhex(record["runtime_code"].removeprefix("0x")), record["immutable_references"]
        if len(code) != len(deployed):
            yield _dangerous(f"The code has {len(code)} bytes, {len(deployed)} were deployed.")
        elif (found := mask_immutables(code, places)) != (wanted := mask_immutables(deployed, places)):
            first = next(i for i, byte in enumerate(found) if byte != wanted[i])
            yield _dangerous(
                f"The code differs from byte {first} on: its hash is {code_hash(found.hex())} with immutables set to "
                "zero."
            )
    if expected.code_hash:
        if (found_hash := code_hash(code.hex())) != expected.code_hash.lower():
            yield _dangerous(f"The code has the hash {found_hash}, not {expected.code_hash.lower()}.")
    elif build is None:
        yield Difference(
            Verdict.NOT_CHECKED, "The code was not rebuilt, as an artifact has no source: give a Solidity file."
        )
    else:
        yield from _rebuild_differences(code, build, record)


def _rebuild_differences(code: bytes, build: SourceBuild, record: Mapping[str, Any] | None) -> Iterator[Difference]:
    if is_build_of(code, build.artifact):
        return
    if is_build_of(without_metadata_hash(code), build.artifact, ignore_metadata=True):
        yield _legitimate(
            "The code ends with another hash of its sources: comments, names or the layout of the sources differ, and "
            "no instruction does."
        )
        return
    recorded = (record or {}).get("sources") or {}
    changed = [name for name, source in build.source_hashes.items() if recorded and recorded.get(name) != source]
    if changed:
        commit = (record or {}).get("git") or {}
        yield Difference(
            Verdict.NOT_CHECKED,
            f"The code was not rebuilt, as {', '.join(changed)} changed since the deployment: check out commit "
            f"{commit.get('commit', 'of the deployment')}, and verify there.",
        )
        return
    yield _dangerous(f"The code is not what the sources of {build.artifact.name} compile to.")


def is_build_of(code: bytes, artifact: Artifact, *, ignore_metadata: bool = False) -> bool:
    """Returns whether code on chain is this contract's, whatever its immutables are.

    Where they are is seen in the code: an artifact may not list them, or list more than there are.
    """
    built = bytes.fromhex(artifact.deployed_bytecode.removeprefix("0x"))
    if ignore_metadata:
        built = without_metadata_hash(built)
    places = {"": [{"start": at + 1, "length": 32} for at in immutable_places(built)]}
    return len(code) == len(built) and mask_immutables(code, places) == built


# -------------------------------------------------------------------------------------------------------------- roles


def _owner_differences(contract: Contract, expected: Expectation) -> Iterator[Difference]:
    owner, pending = contract.view("owner"), contract.view("pendingOwner") or NOBODY
    recorded = expected.record["owner"] if expected.record else None
    wanted = expected.owner or recorded
    if wanted is None:
        yield Difference(Verdict.NOT_CHECKED, f"Its owner is {owner}: give --owner with the address that it should be.")
    elif owner == NOBODY:
        yield _dangerous("Nobody owns it: the fees can't be withdrawn, and it can't be paused.")
    elif owner == wanted:
        if recorded and owner != recorded:
            yield _legitimate(f"The owner is {owner}, as --owner says; it was {recorded} at the deployment.")
    elif owner == recorded and pending == wanted:
        yield _legitimate(f"The owner is {owner} until {pending} accepts the ownership.")
    else:
        yield _dangerous(
            f"The owner is {owner}, it was {recorded}."
            if wanted == recorded
            else f"The owner is {owner}, not {wanted}."
        )
    if pending not in (NOBODY, wanted):
        yield _dangerous(f"{pending} can take the ownership at any time, by acceptOwnership.")
    if owner in expected.operators:
        yield _legitimate(
            f"The owner {owner} is the service's account: who steals its key can withdraw the fees and pause."
        )


def _operator_differences(contract: Contract, expected: Expectation) -> Iterator[Difference]:
    if contract.view("isOperator", NOBODY) is None:
        return
    owner = contract.view("owner")
    for operator in expected.operators:
        if operator != owner and not contract.view("isOperator", operator):
            yield _dangerous(f"{operator} is no operator: the service can't act for others with its key.")
    if not expected.operators:
        yield Difference(Verdict.NOT_CHECKED, "Which operators it should have is not known: give --operator.")
    for operator in contract.operators((expected.record or {}).get("block", 0)):
        if operator not in expected.operators:
            verdict = Verdict.DANGEROUS if expected.operators else Verdict.NOT_CHECKED
            yield Difference(
                verdict, f"{operator} is an operator, and not of this configuration: it acts for the platform."
            )


# --------------------------------------------------------------------------------------------------- terms and money


def _term_differences(contract: Contract, expected: Expectation) -> Iterator[Difference]:
    wanted = expected.terms
    if wanted is None:
        return
    if (terms := contract.view("terms")) is not None:
        for (name, deployed), current in zip(wanted.items(), terms, strict=True):
            if deployed != current:
                yield _dangerous(f"{name} is {current}, deployed was {deployed}.")
    for view, name in (("stakePercentage", "stake_bps"), ("platformFeePercentage", "fee_bps")):
        percent = contract.view(view)
        if percent is not None and 100 * percent != wanted[name]:
            yield _dangerous(f"{view} is {percent}, and not {wanted[name] / 100:g}: its owner has changed it.")


def _solvency(contract: Contract) -> Iterator[Difference]:
    balance, owed = contract.balance(), contract.view("totalLiabilities")
    if owed is None:
        yield Difference(
            Verdict.NOT_CHECKED, f"It has {balance} wei, and does not say what it owes (totalLiabilities)."
        )
    elif balance < owed:
        yield _dangerous(f"It has {balance} wei and owes {owed} wei: {owed - balance} wei are missing.")
    elif balance > owed:
        yield _legitimate(
            f"It has {balance - owed} wei more than it owes: ether was forced in, which nobody can withdraw."
        )


def _dangerous(text: str) -> Difference:
    return Difference(Verdict.DANGEROUS, text)


def _legitimate(text: str) -> Difference:
    return Difference(Verdict.LEGITIMATE, text)
