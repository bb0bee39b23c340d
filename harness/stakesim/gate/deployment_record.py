"""The record of a deployment: what is where, what it was built from, and what had passed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from eth_abi.abi import encode
from eth_typing import ChecksumAddress
from pydantic import Field
from web3 import Web3
from web3.types import TxReceipt

from stakesim.evm.compiler import Artifact
from stakesim.evm.deployment import constructor_types
from stakesim.evm.source_build import SourceBuild
from stakesim.gate.errors import ReleaseError
from stakesim.gate.hashes import code_hash
from stakesim.gate.node import NODE_ERRORS, node_error
from stakesim.gate.release import Deployment
from stakesim.gate.report_file import JsonModel, parse, read_json
from stakesim.scenario.actions import Terms


def planned_record(
    deployer: ChecksumAddress,
    artifact: Artifact,
    terms: Terms,
    deployment: Deployment,
    build: SourceBuild | None,
    revision: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Returns what is known of a deployment before it is sent; what is not known yet is None.

    Args:
        deployer: Who signs and pays.
        artifact: The contract.
        terms: Those that it is deployed with.
        deployment: What is to be sent.
        build: The contract built from its sources; None for a compiler's artifact.
        revision: As `hashes.source_revision` returns it.
    """
    return {
        "chain_id": deployment.transaction["chainId"],
        "address": deployment.address,
        "transaction": None,
        "block": None,
        "deployer": deployer,
        "owner": deployment.owner,
        "salt": None if deployment.salt is None else "0x" + deployment.salt.hex(),
        "contract": artifact.name,
        "terms": dict(terms),
        "constructor_arguments": _constructor_arguments(artifact, deployment.arguments),
        "abi": artifact.abi,
        "creation_code_keccak256": code_hash(artifact.bytecode),
        "runtime_code_keccak256": None,
        "runtime_code": artifact.deployed_bytecode,
        "immutable_references": artifact.immutables,
        "compiler": build and {**build.metadata["compiler"], "settings": build.metadata["settings"]},
        "sources": build and build.source_hashes,
        "git": revision,
    }


def deployment_record(w3: Web3, planned: Mapping[str, Any], receipt: TxReceipt) -> dict[str, Any]:
    """Returns the record of a deployment, for `stakesim verify`, explorers and later questions.

    Args:
        w3: Connected to the node.
        planned: As `planned_record` returns it.
        receipt: Of the deployment.

    Raises:
        EngineError: The node fails.
    """
    try:
        code = w3.eth.get_code(planned["address"])
    except NODE_ERRORS as error:
        raise node_error("Reading the deployed code", error) from error
    return {
        **planned,
        "transaction": receipt["transactionHash"].to_0x_hex(),
        "block": receipt["blockNumber"],
        "deployer": receipt["from"],
        "runtime_code_keccak256": code_hash(code.hex()),
    }


def gate_summary(report: Mapping[str, Any], gate: Path) -> dict[str, Any]:
    """Returns what the record says of the gate's report, which is in the file `gate`."""
    summary = {name: report.get(name) for name in ("made", "profile", "seed", "versions", "git")}
    return summary | {"sha256": hashlib.sha256(gate.read_bytes()).hexdigest()}


def _constructor_arguments(artifact: Artifact, arguments: tuple[Any, ...]) -> dict[str, Any]:
    """Returns the arguments by name, and encoded as an explorer asks for them."""
    inputs: list[dict[str, Any]] = next((item["inputs"] for item in artifact.abi if item["type"] == "constructor"), [])

    def named(parameter: Mapping[str, Any], value: Any) -> Any:
        if parameter["type"] != "tuple":
            return value
        return {part["name"]: named(part, each) for part, each in zip(parameter["components"], value, strict=True)}

    decoded = {each["name"]: named(each, value) for each, value in zip(inputs, arguments, strict=True)}
    return {"decoded": decoded, "encoded": "0x" + encode(constructor_types(artifact), arguments).hex()}


def record_file(chain_id: int, address: ChecksumAddress) -> Path:
    """Returns where the record of a deployment is, unless somebody names another file."""
    return Path("deployments") / f"{chain_id}-{address}.json"


def check_new(file: Path) -> None:
    """Checks that a record can be written to a file, without writing it.

    Raises:
        ReleaseError: The file is there, as the record of an earlier deployment is; or it can't be made.
    """
    if os.path.lexists(file):
        raise ReleaseError(
            f"{file} is there already, and may be the only record of another deployment: move it away, or name another "
            "file with --record."
        )
    folder = next(each for each in file.absolute().parents if os.path.lexists(each))
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise ReleaseError(f"{file} can't be written: {folder} is no folder to write to. Name another with --record.")


def write_record(file: Path, record: Mapping[str, Any]) -> None:
    """Writes a record, and its folder if needed. A failure leaves the file as it was.

    Raises:
        ReleaseError: The file can't be written.
    """
    new = file.with_name(f".{file.name}.new")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with new.open("w", encoding="utf-8") as stream:
            stream.write(json.dumps(record, indent=2) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        new.replace(file)
    except OSError as error:
        if new.is_file():
            new.unlink()
        raise ReleaseError(f"{file} can't be written: {error.strerror}. Name another file with --record.") from None


class _Place(JsonModel):
    start: Annotated[int, Field(ge=0)]
    length: Annotated[int, Field(ge=0)]


class _Git(JsonModel):
    commit: str


class _Record(JsonModel):
    """What `verify` reads of a record."""

    chain_id: Annotated[int, Field(ge=0)]
    address: str
    block: Annotated[int, Field(ge=0)] | None
    owner: str
    terms: dict[str, int]
    runtime_code: Annotated[str, Field(pattern="^(0x)?([0-9a-fA-F]{2})*$")]
    immutable_references: dict[str, list[_Place]]
    sources: dict[str, str] | None = None
    git: _Git | None = None


def read_record(file: Path) -> dict[str, Any]:
    """Reads the record of a deployment.

    Returns:
        The record; with block 0 if nobody has seen its transaction mined.

    Raises:
        ReleaseError: The file can't be read, or is no record.
    """
    described = f"{file} is no record of a deployment"
    try:
        record = read_json(file)
    except OSError as error:
        raise ReleaseError(f"{file} can't be read: {error.strerror}. Name the record with --record.") from None
    except ValueError:
        raise ReleaseError(f"{described}: `stakesim deploy` writes one.") from None
    parse(_Record, record, described, "`stakesim deploy` writes one")
    return {**record, "block": record["block"] or 0}
