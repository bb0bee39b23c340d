"""Deploys only what passed the gate, and tells whether what is on a chain is what was deployed."""

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
"""Seconds that the node may take to answer a request."""
MINED_WITHIN_S = 180
NODE_TROUBLE = (Web3Exception, RequestException, OSError, json.JSONDecodeError)
"""What web3 and its provider raise for a node that is out of reach, or answers with an error or with no JSON."""


class ReleaseError(StakesimError):
    """Why it is not deployed, or can't be verified, in one sentence."""


def code_hash(code: str) -> str:
    """Keccak-256 of a hex string's bytes, in hex."""
    return "0x" + keccak(hexstr=code).hex()


def admit(gate: Path, artifact: Artifact, terms: Terms, oldest: timedelta, now: datetime) -> dict[str, Any]:
    """The gate's report, where it passed this code with these arguments and is young enough.

    oldest: age that it may have. Raises `ReleaseError` with what stands against it.
    """
    try:
        report: dict[str, Any] = json.loads(gate.read_text(encoding="utf-8"))
        passed, made = report["verdict"] == "pass", datetime.fromisoformat(report["made"])
        hash_, given = report["contract"]["bytecode_keccak256"], report["constructor"]["terms"]
    except OSError as error:
        raise ReleaseError(f"{gate} can't be read: {error.strerror}. Run `stakesim gate` first.") from None
    except (ValueError, KeyError, TypeError):
        raise ReleaseError(f"{gate} is no report of the gate: run `stakesim gate` again.") from None
    if not passed:
        raise ReleaseError(f"{gate} says that the contract did not pass: mend it, and run `stakesim gate` again.")
    if hash_ != code_hash(artifact.bytecode):
        raise ReleaseError(
            f"{artifact.name} is not what passed: its code has the hash {code_hash(artifact.bytecode)}, "
            f"{hash_} passed. Run `stakesim gate` on it."
        )
    if given != dict(terms):
        differ = ", ".join(
            f"{name} {value} (passed: {given.get(name)})" for name, value in terms if given.get(name) != value
        )
        raise ReleaseError(f"Other terms passed: {differ}. Run `stakesim gate` with these terms.")
    if made.tzinfo is None or now - made > oldest:
        raise ReleaseError(f"{gate} is of {made:%Y-%m-%d %H:%M} UTC, which is too long ago: run `stakesim gate` again.")
    if made - now > timedelta(minutes=5):
        raise ReleaseError(f"{gate} is of {made:%Y-%m-%d %H:%M} UTC, which is in the future: set the clock right.")
    return report


def connect(rpc: str) -> Web3:
    """A web3 on the node at this URL. No request is repeated: a transaction that may have been sent is not sent again.

    Raises:
        ReleaseError: It is no URL.
        EngineError: The node does not answer. The sentence has no URL in it, as that may hold a key.
    """
    if not rpc.startswith(("http://", "https://")):
        raise ReleaseError("--rpc is no URL of a node: give one as http://HOST:PORT.")
    provider = HTTPProvider(rpc, {"timeout": TIMEOUT_S}, exception_retry_configuration=None)
    w3 = lean_web3(provider)
    try:
        w3.eth.chain_id  # noqa: B018 - asked
    except NODE_TROUBLE as error:
        raise _trouble("Reaching the node", error) from error
    return w3


def _trouble(action: str, error: Exception) -> EngineError:
    """What the node did wrong, without its URL."""
    match error:
        case Timeout():
            said = f"it did not answer within {TIMEOUT_S} s"
        case HTTPError() if error.response is not None:
            said = f"it answered with HTTP status {error.response.status_code}"
        case RequestException() | OSError():
            said = f"it can't be reached ({type(error).__name__})"
        case json.JSONDecodeError():
            said = "its answer is no JSON"
        case TimeExhausted():
            said = f"the transaction was sent, but not mined within {MINED_WITHIN_S} s; it may be mined yet"
        case Web3RPCError(rpc_response={"error": {"message": str(message)}}):
            said = f"the node says: {message}"
        case _:
            said = f"the node says: {error}"
    return EngineError(f"{action} failed: {said.rstrip('.')}.")


def deployer(env_file: Path) -> LocalAccount:
    """The account of PLATFORM_PRIVATE_KEY, of the environment or else of the file. Raises `ReleaseError`."""
    from dotenv import dotenv_values

    key = os.environ.get("PLATFORM_PRIVATE_KEY") or dotenv_values(env_file).get("PLATFORM_PRIVATE_KEY")
    try:
        return cast(LocalAccount, Account.from_key(key or ""))
    except (ValueError, TypeError):
        raise ReleaseError(
            "PLATFORM_PRIVATE_KEY is missing, or no key: put it into the environment or .env (`stakesim wallet new`)."
        ) from None


def checked_address(text: str) -> ChecksumAddress:
    """Raises `ReleaseError`."""
    if not Web3.is_address(text):
        raise ReleaseError(f"{text!r} is no address: give 0x and 40 hex digits.")
    return Web3.to_checksum_address(text)


def deploy(w3: Web3, deployer: LocalAccount, artifact: Artifact, terms: Terms, owner: str | None = None) -> TxReceipt:
    """Deploys the contract, and waits until it is mined.

    Args:
        owner: Address; the deployer if left out.

    Raises:
        EngineError: The transaction fails, or the node is in trouble.
    """
    arguments: tuple[Any, ...] = (owner or deployer.address, terms.as_struct())
    data = init_code(artifact, arguments[: len(constructor_types(artifact))])
    try:
        head = w3.eth.get_block("latest")
        made: dict[str, Any] = {
            "from": deployer.address,
            "data": data,
            "value": 0,
            "nonce": w3.eth.get_transaction_count(deployer.address, "pending"),
            "chainId": w3.eth.chain_id,
            "maxFeePerGas": Web3.to_wei(2 * head["baseFeePerGas"] + 10**9, "wei"),
            "maxPriorityFeePerGas": Web3.to_wei(1, "gwei"),
        }
        if not w3.eth.get_balance(deployer.address):
            raise EngineError(f"The deployer {deployer.address} has no ETH on chain {made['chainId']}: send it some.")
        made["gas"] = w3.eth.estimate_gas(cast(Any, made))
        sent = w3.eth.send_raw_transaction(deployer.sign_transaction(made).raw_transaction)
        receipt = w3.eth.wait_for_transaction_receipt(sent, timeout=MINED_WITHIN_S, poll_latency=0.2)
    except NODE_TROUBLE as error:
        raise _trouble("Deploying the contract", error) from error
    if receipt["status"] != 1 or receipt["contractAddress"] is None:
        raise EngineError(f"The contract could not be deployed: {sent.to_0x_hex()} failed.")
    return receipt


def record(
    w3: Web3, receipt: TxReceipt, artifact: Artifact, terms: Terms, owner: str, report: Mapping[str, Any], gate: Path
) -> dict[str, Any]:
    """What there is to know of a deployment, for `differences`, and for whoever asks later."""
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
    """Raises `ReleaseError`."""
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        found["address"], found["runtime_code"], found["terms"], found["owner"], found["immutable_references"]
    except OSError as error:
        raise ReleaseError(f"{file} can't be read: {error.strerror}. Name the record with --record.") from None
    except (ValueError, KeyError, TypeError):
        raise ReleaseError(f"{file} is no record of a deployment: `stakesim deploy` writes one.") from None
    return found


def differences(w3: Web3, address: ChecksumAddress, known: Mapping[str, Any], abi: list[dict[str, Any]]) -> list[str]:
    """A sentence for each thing on the chain that is not as the record says: chain, code (immutables masked), owner,
    terms.

    Raises:
        EngineError: The node is in trouble.
    """
    try:
        return list(_differences(w3, address, known, ContractAbi(abi)))
    except NODE_TROUBLE as error:
        raise _trouble("Verifying the contract", error) from error


def _differences(w3: Web3, address: ChecksumAddress, known: Mapping[str, Any], abi: ContractAbi) -> Iterator[str]:
    if w3.eth.chain_id != known["chain_id"]:
        yield f"The chain has the id {w3.eth.chain_id}, the record is of {known['chain_id']}."
    code = bytes(w3.eth.get_code(address))
    if not code:
        yield f"There is no contract at {address}."
        return
    if address != known["address"]:
        yield f"The record is of {known['address']}, not of {address}."
    wanted = bytes.fromhex(known["runtime_code"].removeprefix("0x"))
    if len(code) != len(wanted):
        yield f"The code has {len(code)} bytes, {len(wanted)} were deployed."
    elif (found := masked(code, known["immutable_references"])) != masked(wanted, known["immutable_references"]):
        at = next(i for i, (one, other) in enumerate(zip(found, wanted, strict=True)) if one != other)
        hash_ = code_hash(found.hex())
        yield f"The code is another one, from byte {at} on: its hash is {hash_} with immutables masked."
    yield from _settings(w3, address, known, abi)


def _settings(w3: Web3, address: ChecksumAddress, known: Mapping[str, Any], abi: ContractAbi) -> Iterator[str]:
    def ask(function: str) -> Any:
        return abi.decode(function, bytes(w3.eth.call({"to": address, "data": cast(Any, abi.encode(function))})))[0]

    if (owner := ask("owner")) != known["owner"]:
        yield f"The owner is {owner}, it was {known['owner']}."
    if "terms" in abi:
        for (name, was), now in zip(known["terms"].items(), ask("terms"), strict=True):
            if was != now:
                yield f"{name} is {now}, deployed was {was}."


def masked(code: bytes, immutables: Mapping[str, list[Mapping[str, int]]]) -> bytes:
    """Runtime code with zeros where the constructor wrote immutables."""
    plain = bytearray(code)
    for places in immutables.values():
        for place in places:
            plain[place["start"] : place["start"] + place["length"]] = bytes(place["length"])
    return bytes(plain)
