"""Deploys a contract that passed the gate, and compares a deployed contract with the record of its deployment."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_typing import ChecksumAddress
from eth_utils.crypto import keccak
from requests import HTTPError, RequestException, Timeout
from web3 import HTTPProvider, Web3
from web3.exceptions import TimeExhausted, Web3Exception, Web3RPCError
from web3.types import TxReceipt

from stakesim.errors import StakesimError
from stakesim.evm.abi import ContractAbi
from stakesim.evm.compiler import Artifact
from stakesim.evm.deployment import constructor_types, init_code
from stakesim.evm.errors import EngineError
from stakesim.evm.lean_web3 import lean_web3
from stakesim.scenario.actions import Terms

TIMEOUT_S = 10
"""Time limit of a request to the node, in seconds."""
MINED_WITHIN_S = 180
"""Time limit for the deployment to be mined, in seconds."""
CLOCK_SKEW = timedelta(minutes=5)
"""How far in the future a report may be, as the clock of another machine may be ahead."""
NODE_ERRORS = (Web3Exception, RequestException, OSError, json.JSONDecodeError)
"""What web3 and its provider raise if the node can't be reached, or responds with an error or without JSON."""


class ReleaseError(StakesimError):
    """The contract is not deployed, or can't be verified; the message says why."""


def code_hash(code: str) -> str:
    """Keccak-256 of a hex string's bytes, in hex."""
    return "0x" + keccak(hexstr=code).hex()


def check_report(gate: Path, artifact: Artifact, terms: Terms, *, max_age: timedelta, now: datetime) -> dict[str, Any]:
    """Reads the gate's report, and checks that it allows this deployment.

    Args:
        gate: File gate.json.
        artifact: The contract to deploy.
        terms: Arguments of its constructor.
        max_age: Highest age of the report.
        now: Current time, with time zone.

    Raises:
        ReleaseError: The contract did not pass, the report is for other code or other terms, or it is too old.
    """
    try:
        report: dict[str, Any] = json.loads(gate.read_text(encoding="utf-8"))
        passed, written_at = report["verdict"] == "pass", datetime.fromisoformat(report["made"])
        reported_hash, reported_terms = report["contract"]["bytecode_keccak256"], report["constructor"]["terms"]
    except OSError as error:
        raise ReleaseError(f"{gate} can't be read: {error.strerror}. Run `stakesim gate` first.") from None
    except (ValueError, KeyError, TypeError):
        raise ReleaseError(f"{gate} is no report of the gate: run `stakesim gate` again.") from None
    if not passed:
        raise ReleaseError(f"{gate} says that the contract did not pass: fix it, and run `stakesim gate` again.")
    if reported_hash != code_hash(artifact.bytecode):
        raise ReleaseError(
            f"{artifact.name} is not what passed: its code has the hash {code_hash(artifact.bytecode)}, "
            f"{reported_hash} passed. Run `stakesim gate` on it."
        )
    if reported_terms != dict(terms):
        different = ", ".join(
            f"{name} {value} (passed: {reported_terms.get(name)})"
            for name, value in terms
            if reported_terms.get(name) != value
        )
        raise ReleaseError(f"Other terms passed: {different}. Run `stakesim gate` with these terms.")
    if written_at.tzinfo is None or now - written_at > max_age:
        raise ReleaseError(
            f"{gate} is of {written_at:%Y-%m-%d %H:%M} UTC, which is too old: run `stakesim gate` again."
        )
    if written_at - now > CLOCK_SKEW:
        raise ReleaseError(
            f"{gate} is of {written_at:%Y-%m-%d %H:%M} UTC, which is in the future: set the clock right."
        )
    return report


def connect(rpc: str) -> Web3:
    """Connects to a node. No request is repeated, so a transaction that may have been sent is not sent again.

    Args:
        rpc: URL of the node.

    Raises:
        ReleaseError: It is no URL.
        EngineError: The node does not respond. The message leaves out the URL, as that may contain an API key.
    """
    if not rpc.startswith(("http://", "https://")):
        raise ReleaseError("--rpc is no URL of a node: give one as http://HOST:PORT.")
    provider = HTTPProvider(rpc, {"timeout": TIMEOUT_S}, exception_retry_configuration=None)
    w3 = lean_web3(provider)
    try:
        w3.eth.chain_id  # noqa: B018 - sends a request
    except NODE_ERRORS as error:
        raise _node_error("Reaching the node", error) from error
    return w3


def _node_error(action: str, error: Exception) -> EngineError:
    """An error that says what the node did wrong, without its URL."""
    match error:
        case Timeout():
            reason = f"it did not respond within {TIMEOUT_S} s"
        case HTTPError() if error.response is not None:
            reason = f"it responded with HTTP status {error.response.status_code}"
        case RequestException() | OSError():
            reason = f"it can't be reached ({type(error).__name__})"
        case json.JSONDecodeError():
            reason = "its response is no JSON"
        case TimeExhausted():
            reason = f"the transaction was sent, but not mined within {MINED_WITHIN_S} s; it may be mined yet"
        case Web3RPCError(rpc_response={"error": {"message": str(message)}}):
            reason = f"the node says: {message}"
        case _:
            reason = f"the node says: {error}"
    return EngineError(f"{action} failed: {reason.rstrip('.')}.")


def deployer(env_file: Path) -> LocalAccount:
    """Account of PLATFORM_PRIVATE_KEY, which is an environment variable or in a file of settings.

    Raises:
        ReleaseError: The key is missing, or is none.
    """
    from dotenv import dotenv_values

    key = os.environ.get("PLATFORM_PRIVATE_KEY") or dotenv_values(env_file).get("PLATFORM_PRIVATE_KEY")
    try:
        return cast(LocalAccount, Account.from_key(key or ""))
    except (ValueError, TypeError):
        raise ReleaseError(
            "PLATFORM_PRIVATE_KEY is missing, or no key: put it into the environment or .env (`stakesim wallet new`)."
        ) from None


def checksum_address(text: str) -> ChecksumAddress:
    """The address with its checksum.

    Raises:
        ReleaseError: It is no address.
    """
    if not Web3.is_address(text):
        raise ReleaseError(f"{text!r} is no address: give 0x and 40 hex digits.")
    return Web3.to_checksum_address(text)


def deploy(w3: Web3, deployer: LocalAccount, artifact: Artifact, terms: Terms, owner: str | None = None) -> TxReceipt:
    """Deploys the contract, and waits until it is mined.

    Args:
        w3: Connected to the node.
        deployer: Account that signs and pays.
        artifact: The contract.
        terms: Arguments of its constructor.
        owner: Address of the contract's owner; by default the deployer.

    Raises:
        EngineError: The transaction fails, or the node does.
    """
    arguments: tuple[Any, ...] = (owner or deployer.address, terms.as_struct())
    data = init_code(artifact, arguments[: len(constructor_types(artifact))])
    try:
        head = w3.eth.get_block("latest")
        transaction: dict[str, Any] = {
            "from": deployer.address,
            "data": data,
            "value": 0,
            "nonce": w3.eth.get_transaction_count(deployer.address, "pending"),
            "chainId": w3.eth.chain_id,
            "maxFeePerGas": Web3.to_wei(2 * head["baseFeePerGas"] + 10**9, "wei"),
            "maxPriorityFeePerGas": Web3.to_wei(1, "gwei"),
        }
        if not w3.eth.get_balance(deployer.address):
            raise EngineError(
                f"The deployer {deployer.address} has no ETH on chain {transaction['chainId']}: send it some."
            )
        transaction["gas"] = w3.eth.estimate_gas(cast(Any, transaction))
        tx_hash = w3.eth.send_raw_transaction(deployer.sign_transaction(transaction).raw_transaction)
        receipt = w3.eth.wait_for_transaction_receipt(tx_hash, timeout=MINED_WITHIN_S, poll_latency=0.2)
    except NODE_ERRORS as error:
        raise _node_error("Deploying the contract", error) from error
    if receipt["status"] != 1 or receipt["contractAddress"] is None:
        raise EngineError(f"The contract could not be deployed: {tx_hash.to_0x_hex()} failed.")
    return receipt


def deployment_record(
    w3: Web3, receipt: TxReceipt, artifact: Artifact, terms: Terms, owner: str, report: Mapping[str, Any], gate: Path
) -> dict[str, Any]:
    """The record of a deployment, for `differences` and for later questions.

    Args:
        w3: Connected to the node.
        receipt: Of the deployment.
        artifact: The contract.
        terms: Arguments of its constructor.
        owner: Address of the owner.
        report: The gate's report.
        gate: File of the report.
    """
    return {
        "chain_id": w3.eth.chain_id,
        "address": receipt["contractAddress"],
        "transaction": receipt["transactionHash"].to_0x_hex(),
        "block": receipt["blockNumber"],
        "deployer": receipt["from"],
        "owner": owner,
        "contract": artifact.name,
        "terms": dict(terms),
        "bytecode_keccak256": code_hash(artifact.bytecode),
        "runtime_code": artifact.deployed_bytecode,
        "immutable_references": artifact.immutables,
        "gate": {
            "made": report["made"],
            "profile": report["profile"],
            "seed": report["seed"],
            "versions": report["versions"],
            "sha256": hashlib.sha256(gate.read_bytes()).hexdigest(),
        },
    }


def read_record(file: Path) -> dict[str, Any]:
    """Reads the record of a deployment.

    Raises:
        ReleaseError: The file can't be read, or is no record.
    """
    try:
        record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        record["address"], record["runtime_code"], record["terms"], record["owner"], record["immutable_references"]
    except OSError as error:
        raise ReleaseError(f"{file} can't be read: {error.strerror}. Name the record with --record.") from None
    except (ValueError, KeyError, TypeError):
        raise ReleaseError(f"{file} is no record of a deployment: `stakesim deploy` writes one.") from None
    return record


def differences(w3: Web3, address: ChecksumAddress, record: Mapping[str, Any], abi: list[dict[str, Any]]) -> list[str]:
    """Compares a contract with the record of its deployment: chain, code without immutables, owner and terms.

    Args:
        w3: Connected to the node.
        address: Of the contract.
        record: As `deployment_record` returns it.
        abi: Of the contract.

    Returns:
        A sentence for each difference.

    Raises:
        EngineError: The node fails.
    """
    try:
        return list(_differences(w3, address, record, ContractAbi(abi)))
    except NODE_ERRORS as error:
        raise _node_error("Verifying the contract", error) from error


def _differences(w3: Web3, address: ChecksumAddress, record: Mapping[str, Any], abi: ContractAbi) -> Iterator[str]:
    if w3.eth.chain_id != record["chain_id"]:
        yield f"The chain has the id {w3.eth.chain_id}, the record is of {record['chain_id']}."
    code = bytes(w3.eth.get_code(address))
    if not code:
        yield f"There is no contract at {address}."
        return
    if address != record["address"]:
        yield f"The record is of {record['address']}, not of {address}."
    deployed = bytes.fromhex(record["runtime_code"].removeprefix("0x"))
    masked, expected = (mask_immutables(each, record["immutable_references"]) for each in (code, deployed))
    if len(code) != len(deployed):
        yield f"The code has {len(code)} bytes, {len(deployed)} were deployed."
    elif masked != expected:
        first = next(i for i, byte in enumerate(masked) if byte != expected[i])
        masked_hash = code_hash(masked.hex())
        yield f"The code differs from byte {first} on: its hash is {masked_hash} with immutables set to zero."
    yield from _state_differences(w3, address, record, abi)


def _state_differences(
    w3: Web3, address: ChecksumAddress, record: Mapping[str, Any], abi: ContractAbi
) -> Iterator[str]:
    def view(function: str) -> Any:
        return abi.decode(function, bytes(w3.eth.call({"to": address, "data": cast(Any, abi.encode(function))})))[0]

    if (owner := view("owner")) != record["owner"]:
        yield f"The owner is {owner}, it was {record['owner']}."
    if "terms" in abi:
        for (name, deployed), current in zip(record["terms"].items(), view("terms"), strict=True):
            if deployed != current:
                yield f"{name} is {current}, deployed was {deployed}."


def mask_immutables(code: bytes, immutables: Mapping[str, list[Mapping[str, int]]]) -> bytes:
    """Sets the bytes to zero that the constructor writes.

    Args:
        code: Runtime code.
        immutables: Start and length, in bytes, of the places of each immutable, as the compiler lists them.
    """
    masked = bytearray(code)
    for places in immutables.values():
        for place in places:
            masked[place["start"] : place["start"] + place["length"]] = bytes(place["length"])
    return bytes(masked)
