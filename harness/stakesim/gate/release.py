"""Deploys a contract that passed the gate."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
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

from stakesim.evm.compiler import Artifact
from stakesim.evm.deployment import constructor_types, init_code
from stakesim.evm.errors import EngineError
from stakesim.evm.required_abi import codec_of
from stakesim.gate.beyond_abi import beyond_abi
from stakesim.gate.contract_state import NOBODY
from stakesim.gate.errors import ReleaseError
from stakesim.gate.hashes import abi_hash, code_hash
from stakesim.gate.node import NODE_ERRORS, node_error, with_fees
from stakesim.gate.profiles import EFFORTS, PARTS, REGRESSIONS, ProfileName
from stakesim.gate.report_file import GateReport, contradictions, read_report
from stakesim.gate.result import PartVerdict
from stakesim.gate.sending import ignore, send_signed, sent
from stakesim.gate.verification import is_build_of
from stakesim.scenario.actions import Terms

CLOCK_SKEW = timedelta(minutes=5)
"""How far in the future a report may be, as the clock of another machine may be ahead."""
MAINNET = 1
"""Id of Ethereum's main network."""
RUN_PARTS = ("scripted", "random", "calls")
"""Parts that run the contract in three ways: one of them at least must have run to its end for any deployment."""
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

    On Ethereum's main network `check_network` asks for more.

    Args:
        gate: File gate.json.
        artifact: The contract to deploy.
        terms: Arguments of its constructor.
        max_age: Highest age of the report.
        now: Current time, with time zone.
        profile: The smallest profile of the gate that is enough.
        without: Parts of the gate that need not have been tried, or not completely.

    Raises:
        ReleaseError: The contract did not pass all parts of this profile, or its code does what its ABI does not name,
            which `without` interface allows; the report contradicts itself, is for other
            code, another ABI or other terms, or too old; or `without` names no part.
    """
    if unknown := [name for name in without if name not in PARTS]:
        raise ReleaseError(f"The gate has no part {unknown[0]}: --without takes {', '.join(PARTS)}.")
    report, content = read_report(gate)
    hashes, found_abi = report.hashes, abi_hash(artifact.abi)
    if hashes.creation_code_keccak256 != code_hash(artifact.bytecode):
        raise ReleaseError(
            f"{artifact.name} is not what passed: its code has the hash {code_hash(artifact.bytecode)}, "
            f"{hashes.creation_code_keccak256} passed. Run `stakesim gate` on it."
        )
    if hashes.runtime_code_keccak256 != code_hash(artifact.deployed_bytecode):
        raise ReleaseError(
            f"{artifact.name} is not what passed: it has other runtime code (deployedBytecode) than passed, and the "
            "same creation code. Run `stakesim gate` on it."
        )
    if hashes.abi_sha256 != found_abi:
        raise ReleaseError(
            f"{artifact.name} is not what passed: its ABI has the hash {found_abi}, {hashes.abi_sha256} passed. What "
            "an ABI leaves out is not tested. Run `stakesim gate` on it."
        )
    _check_passed(gate, report)
    if list(EFFORTS).index(report.profile) < list(EFFORTS).index(profile):
        raise ReleaseError(
            f"{gate} is of the profile {report.profile}: run `stakesim gate --profile {profile}`, or say with "
            f"--profile {report.profile} that this is enough, as for a test network."
        )
    if "interface" not in without and (untried := beyond_abi(artifact)):
        raise ReleaseError(
            f"Nothing has tried this of {artifact.name}: {'; '.join(untried)}. Give an artifact with the whole ABI, or "
            "deploy with --without interface."
        )
    _check_tried(gate, report, profile, without)
    reported, given = report.constructor.terms, dict(terms)
    if reported != given:
        different = ", ".join(
            f"{ascii(name)[1:-1]} {given.get(name)} (passed: {reported.get(name)})"
            for name in dict.fromkeys([*given, *reported])
            if reported.get(name) != given.get(name)
        )
        raise ReleaseError(f"Other terms passed: {different}. Run `stakesim gate` with these terms.")
    if now - report.written_at > max_age:
        raise ReleaseError(
            f"{gate} is of {report.written_at:%Y-%m-%d %H:%M} UTC, which is too old: run `stakesim gate` again."
        )
    if report.written_at - now > CLOCK_SKEW:
        raise ReleaseError(
            f"{gate} is of {report.written_at:%Y-%m-%d %H:%M} UTC, which is in the future: set the clock right."
        )
    return content


def _check_passed(gate: Path, report: GateReport) -> None:
    """Raises `ReleaseError` if something did not pass, or the report contradicts itself."""
    passed = (PartVerdict.PASS, PartVerdict.NOT_TRIED)
    if failed := [
        f"{ascii(name)[1:-1]} ({part.result})" for name, part in report.parts.items() if part.result not in passed
    ]:
        raise ReleaseError(
            f"{gate} says that the contract did not pass: {', '.join(failed)}. Run `stakesim gate` again."
        )
    if report.verdict != PartVerdict.PASS:
        raise ReleaseError(f"{gate} says that the contract did not pass: fix it, and run `stakesim gate` again.")
    if wrong := list(contradictions(report)):
        raise ReleaseError(
            f"{gate} is no complete report, or contradicts itself: {'; '.join(wrong)}. Run `stakesim gate` again."
        )


_OF_ALL_CODE = ("coverage", "mutants")
"""Parts that say something of all code of the contract, or leave open what of it they do not."""


def _check_tried(gate: Path, report: GateReport, profile: ProfileName, without: Collection[str]) -> None:
    """Raises `ReleaseError` if parts that the profile has were not tried, or not completely."""
    missing = {}
    for name in PARTS:
        part = report.parts.get(name)
        if part is None or not part.tried:
            if name != REGRESSIONS and name not in EFFORTS[profile].left_out:
                missing[name] = "not tried"
        elif name in EFFORTS[profile].left_out:
            continue
        elif part.left_out and name in _OF_ALL_CODE:
            missing[name] = f"not complete: {ascii(', '.join(part.left_out))[1:-1]}"
        elif part.cut_short:
            missing[name] = f"cut short, {ascii(part.cut_short)[1:-1]}"
    if all(name in missing for name in RUN_PARTS):
        raise ReleaseError(
            f"{gate} says that nothing was played to its end: one of {', '.join(RUN_PARTS)} must be, whatever "
            "--without names. Run `stakesim gate` again."
        )
    if unwaived := {name: what for name, what in missing.items() if name not in without}:
        texts = ", ".join(f"{name} ({what})" for name, what in unwaived.items())
        options = " ".join(f"--without {name}" for name in unwaived)
        raise ReleaseError(
            f"{gate} lacks parts of the profile {profile}: {texts}. The report says why. Make them run, or deploy with "
            f"{options}."
        )


def check_network(deployment: Deployment, profile: ProfileName) -> None:
    """Checks that the profile of the gate is enough for the chain of a deployment.

    Args:
        deployment: As `plan` returns it.
        profile: The smallest profile of the gate that was enough for `check_report`.

    Raises:
        ReleaseError: It is Ethereum's main network, and the profile is not `release`.
    """
    if deployment.transaction["chainId"] == MAINNET and profile != "release":
        raise ReleaseError(
            f"The profile {profile} is not enough for Ethereum's main network (chain {MAINNET}): run `stakesim gate "
            "--profile release`, and leave out --profile."
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
        ReleaseError: It can't be deployed by CREATE2, does not say who owns it, or nobody could act as its owner.
        EngineError: The node fails, or the constructor refuses its arguments.
    """
    owner = owner or deployer
    if owner == NOBODY:
        raise ReleaseError(f"Nobody would own {artifact.name}: give the address of its owner with --owner.")
    if not any(item["type"] == "function" and item["name"] == "owner" for item in artifact.abi):
        raise ReleaseError(f"{artifact.name} has no function owner, which says who owns it: it is no stake contract.")
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
    if owner == address:
        raise ReleaseError(f"{artifact.name} will be at {address} and can't own itself: nobody could act as its owner.")
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


def deploying(tx_hash: str, deployment: Deployment) -> AbstractContextManager[None]:
    """Context in which a deployment may be on its way: each error names its transaction and the contract's address."""
    return sent(tx_hash, "Deploying the contract", f", with the contract at {deployment.address}")


def deploy(
    w3: Web3,
    deployer: LocalAccount,
    artifact: Artifact,
    deployment: Deployment,
    *,
    before_sending: Callable[[str], None] = ignore,
    after_sending: Callable[[str], None] = ignore,
) -> TxReceipt:
    """Deploys the contract, waits until it is mined, and checks its code and who owns it.

    Args:
        w3: Connected to the node.
        deployer: Who signs and pays.
        artifact: The contract.
        deployment: As `plan` returns it.
        before_sending: Called with the hash of the signed transaction. If it fails, nothing is sent.
        after_sending: Called with the hash at once when the node has the transaction.

    Raises:
        NotSentError: The node refused the transaction.
        EngineError: The deployer can't pay, the transaction fails, the contract has other code than passed or another
            owner, or the node fails. After sending, the sentence has the transaction and the address.
    """
    if deployment.balance < deployment.highest_cost:
        raise EngineError(
            f"The deployer {deployer.address} has {deployment.balance} wei on chain "
            f"{deployment.transaction['chainId']}, and the deployment may cost {deployment.highest_cost} wei: send it "
            "some."
        )
    abi = codec_of(artifact.abi)
    call = {"to": deployment.address, "data": HexBytes(abi.encode("owner"))}
    signed = deployer.sign_transaction(dict(deployment.transaction))
    tx_hash = signed.hash.to_0x_hex()
    before_sending(tx_hash)
    with deploying(tx_hash, deployment):
        receipt = send_signed(w3, signed, after_sending)
        code = bytes(w3.eth.get_code(deployment.address))
        if not code:
            raise EngineError("The transaction was mined, and there is no contract.")
        if len(artifact.deployed_bytecode) > 2 and not is_build_of(code, artifact):
            raise EngineError(
                f"The constructor has deployed other code at {deployment.address} than passed the gate: do not use "
                "this contract."
            )
        (owner,) = abi.decode("owner", bytes(w3.eth.call(cast(Any, call))))
        if owner != deployment.owner:
            raise EngineError(
                f"{owner} owns the contract at {deployment.address}, and not {deployment.owner}: do not use this "
                "contract."
            )
    return receipt
