"""Deploys a contract that passed the gate."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

from eth_account.signers.local import LocalAccount
from eth_typing import ChecksumAddress, HexStr
from hexbytes import HexBytes
from web3 import Web3
from web3.types import TxReceipt
from web3.utils.address import get_create2_address, get_create_address

from stakesim.evm.abi import ContractAbi
from stakesim.evm.compiler import Artifact
from stakesim.evm.deployment import constructor_types, init_code
from stakesim.evm.errors import EngineError
from stakesim.gate.errors import ReleaseError
from stakesim.gate.hashes import code_hash
from stakesim.gate.node import NODE_ERRORS, node_error, send, with_fees
from stakesim.gate.profiles import EFFORTS, PARTS, REGRESSIONS, ProfileName
from stakesim.gate.result import PartVerdict
from stakesim.scenario.actions import Terms

CLOCK_SKEW = timedelta(minutes=5)
"""How far in the future a report may be, as the clock of another machine may be ahead."""
CREATE2_PROXY = Web3.to_checksum_address("0x4e59b44847b379578588920cA78FbF26c0B4956C")
"""The deterministic deployment proxy, which most chains have at this address. It takes a salt of 32 bytes followed by
init code, and deploys by CREATE2."""
CREATE2_PROXY_CODE = bytes.fromhex(
    "7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe03601600081602082378035828234f58015156039578182"
    "fd5b8082525050506014600cf3"
)
"""Its code, which is the same on every chain."""


def check_report(
    gate: Path,
    artifact: Artifact,
    terms: Terms,
    *,
    max_age: timedelta,
    now: datetime,
    profile: ProfileName = "release",
    without: Collection[str] = (),
) -> dict[str, Any]:
    """Reads the gate's report, and checks that it allows this deployment.

    Args:
        gate: File gate.json.
        artifact: The contract to deploy.
        terms: Arguments of its constructor.
        max_age: Highest age of the report.
        now: Current time, with time zone.
        profile: The smallest profile of the gate that is enough.
        without: Parts of the gate that need not have been tried, or not completely.

    Raises:
        ReleaseError: The contract did not pass all parts of this profile, or the report is for other code or other
            terms, or too old; or `without` names no part.
    """
    if unknown := [name for name in without if name not in PARTS]:
        raise ReleaseError(f"The gate has no part {unknown[0]}: --without takes {', '.join(PARTS)}.")
    try:
        report: dict[str, Any] = json.loads(gate.read_text(encoding="utf-8"))
        verdict, written_at = str(report["verdict"]), datetime.fromisoformat(report["made"])
        reported_hash, reported_terms = report["hashes"]["creation_code_keccak256"], report["constructor"]["terms"]
        reported_profile = list(EFFORTS).index(report["profile"])
        parts = {name: (part["result"], part["cut_short"]) for name, part in report["parts"].items()}
        for name in {"coverage", "mutants"} & parts.keys():  # code of the contract that they say nothing of
            parts[name] = (parts[name][0], parts[name][1] or ", ".join(report["parts"][name]["left_out"]) or None)
    except OSError as error:
        raise ReleaseError(f"{gate} can't be read: {error.strerror}. Run `stakesim gate` first.") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ReleaseError(f"{gate} is no report of the gate: run `stakesim gate` again.") from None
    if reported_hash != code_hash(artifact.bytecode):
        raise ReleaseError(
            f"{artifact.name} is not what passed: its code has the hash {code_hash(artifact.bytecode)}, "
            f"{reported_hash} passed. Run `stakesim gate` on it."
        )
    passed = (PartVerdict.PASS, PartVerdict.NOT_TRIED)
    if failed := [f"{name} ({result})" for name, (result, _) in parts.items() if result not in passed]:
        raise ReleaseError(
            f"{gate} says that the contract did not pass: {', '.join(failed)}. Run `stakesim gate` again."
        )
    if verdict != PartVerdict.PASS:
        raise ReleaseError(f"{gate} says that the contract did not pass: fix it, and run `stakesim gate` again.")
    if reported_profile < list(EFFORTS).index(profile):
        raise ReleaseError(
            f"{gate} is of the profile {report['profile']}: run `stakesim gate --profile {profile}`, or say with "
            f"--profile {report['profile']} that this is enough, as for a test network."
        )
    _check_tried(gate, parts, profile, without)
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


def _check_tried(
    gate: Path, parts: Mapping[str, tuple[str, str | None]], profile: ProfileName, without: Collection[str]
) -> None:
    """Raises `ReleaseError` if parts that the profile has were not tried, or not completely."""
    required = [name for name in PARTS if name not in (*without, REGRESSIONS, *EFFORTS[profile].left_out)]
    missing = {}
    for name in required:
        result, cut_short = parts.get(name, (PartVerdict.NOT_TRIED, None))
        if result == PartVerdict.NOT_TRIED:
            missing[name] = "not tried"
        elif cut_short:
            missing[name] = f"cut short, {cut_short}"
    if missing:
        texts = ", ".join(f"{name} ({what})" for name, what in missing.items())
        options = " ".join(f"--without {name}" for name in missing)
        raise ReleaseError(
            f"{gate} lacks parts of the profile {profile}: {texts}. The report says why. Make them run, or deploy with "
            f"{options}."
        )


@dataclass(frozen=True)
class Deployment:
    """A deployment that can be sent.

    Attributes:
        transaction: Complete and unsigned.
        address: Where the contract will be. Without a salt it depends on the nonce.
        owner: Owner of the contract.
        arguments: Of the constructor.
        salt: For CREATE2, 32 bytes; None deploys by CREATE.
        expected_cost: Wei for the gas at the present price.
        highest_cost: Wei that the sender must have.
        balance: Wei that the sender has.
    """

    transaction: Mapping[str, Any]
    address: ChecksumAddress
    owner: ChecksumAddress
    arguments: tuple[Any, ...]
    salt: bytes | None
    expected_cost: int
    highest_cost: int
    balance: int


def parse_salt(text: str) -> bytes:
    """Returns the 32 bytes of a salt in hex; shorter ones are filled up with zeros on the left.

    Raises:
        ReleaseError: It is not hex, or longer.
    """
    digits = text.removeprefix("0x")
    try:
        salt = bytes.fromhex(digits.zfill(64)) if digits else b""
    except ValueError:
        salt = b""
    if len(salt) != 32:
        raise ReleaseError(f"{text!r} is no salt: give up to 32 bytes in hex, such as 0x01.")
    return salt


def plan(
    w3: Web3,
    deployer: ChecksumAddress,
    artifact: Artifact,
    terms: Terms,
    owner: ChecksumAddress | None = None,
    salt: bytes | None = None,
) -> Deployment:
    """Prepares a deployment. Sends nothing.

    Args:
        w3: Connected to the node.
        deployer: Address of who signs and pays.
        artifact: The contract.
        terms: Arguments of its constructor.
        owner: Address of the contract's owner; by default the deployer.
        salt: Deploys by CREATE2 through `CREATE2_PROXY`: the address depends on salt, code, owner and terms only.

    Raises:
        ReleaseError: It can't be deployed by CREATE2.
        EngineError: The node fails, or the constructor refuses its arguments.
    """
    owner = owner or deployer
    types = constructor_types(artifact)
    arguments: tuple[Any, ...] = (owner, terms.as_struct())[: len(types)]
    if not arguments and owner != deployer:
        raise ReleaseError(f"{artifact.name} takes no owner: whoever deploys it owns it, so leave out --owner.")
    code = init_code(artifact, arguments)
    try:
        if salt is None:
            nonce = w3.eth.get_transaction_count(deployer, "pending")
            call: dict[str, Any] = {"data": HexBytes(code)}
            address = get_create_address(deployer, nonce)
        else:
            address = get_create2_address(CREATE2_PROXY, HexStr("0x" + salt.hex()), HexStr("0x" + code.hex()))
            _check_create2(w3, artifact, arguments, address)
            call = {"data": HexBytes(salt + code), "to": CREATE2_PROXY}
        transaction = with_fees(w3, deployer, call)
        base_fee = (transaction["maxFeePerGas"] - transaction["maxPriorityFeePerGas"]) // 2
        balance = w3.eth.get_balance(deployer)
    except NODE_ERRORS as error:
        raise node_error("Deploying the contract", error) from error
    gas, price = transaction["gas"], base_fee + transaction["maxPriorityFeePerGas"]
    highest_cost = gas * transaction["maxFeePerGas"]
    return Deployment(transaction, address, owner, arguments, salt, gas * price, highest_cost, balance)


def _check_create2(w3: Web3, artifact: Artifact, arguments: tuple[Any, ...], address: ChecksumAddress) -> None:
    """Raises `ReleaseError` if the contract can't be deployed by CREATE2, or is deployed already."""
    if not arguments:
        raise ReleaseError(
            f"{artifact.name} takes no owner, so that the proxy would own it, and nobody could act as its owner: "
            "deploy it without --salt."
        )
    code = bytes(w3.eth.get_code(CREATE2_PROXY))
    if code != CREATE2_PROXY_CODE:
        found = "other code" if code else "nothing"
        raise ReleaseError(
            f"Chain {w3.eth.chain_id} has {found} at {CREATE2_PROXY}, where the deterministic deployment proxy must "
            "be: have it deployed there first, or deploy without --salt, to an address that depends on the nonce."
        )
    if w3.eth.get_code(address):
        raise ReleaseError(
            f"This contract is at {address} already, with this owner, these terms and this salt: verify it, or take "
            "another salt."
        )


def deploy(w3: Web3, deployer: LocalAccount, artifact: Artifact, deployment: Deployment) -> TxReceipt:
    """Deploys the contract, waits until it is mined, and checks who owns it.

    Raises:
        EngineError: The deployer can't pay, the transaction fails, somebody else owns the contract, or the node fails.
    """
    if deployment.balance < deployment.highest_cost:
        raise EngineError(
            f"The deployer {deployer.address} has {deployment.balance} wei on chain "
            f"{deployment.transaction['chainId']}, and the deployment may cost {deployment.highest_cost} wei: send it "
            "some."
        )
    abi = ContractAbi(artifact.abi)
    try:
        receipt = send(w3, deployer, deployment.transaction)
        if not w3.eth.get_code(deployment.address):
            raise EngineError(
                f"There is no contract at {deployment.address} after {receipt['transactionHash'].to_0x_hex()}."
            )
        call = {"to": deployment.address, "data": HexBytes(abi.encode("owner"))}
        (owner,) = abi.decode("owner", bytes(w3.eth.call(cast(Any, call))))
    except NODE_ERRORS as error:
        raise node_error("Deploying the contract", error) from error
    if owner != deployment.owner:
        raise EngineError(
            f"{owner} owns the contract at {deployment.address}, and not {deployment.owner}: do not use this contract."
        )
    return receipt
