"""The node through which a contract is deployed, verified and administered: requests, transactions, accounts.

No request is repeated, so a transaction that may have been sent is not sent again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_typing import ChecksumAddress
from eth_utils.address import is_checksum_formatted_address
from requests import HTTPError, RequestException, Timeout
from web3 import HTTPProvider, Web3
from web3.exceptions import TimeExhausted, Web3Exception, Web3RPCError

from stakesim.evm.errors import EngineError
from stakesim.evm.lean_web3 import lean_web3
from stakesim.gate.errors import ReleaseError
from stakesim.json_text import parse_json

TIMEOUT_S = 10
"""Time limit of a request to the node, in seconds."""
MINED_WITHIN_S = 180
"""Time limit for a transaction to be mined, in seconds."""
NODE_ERRORS = (Web3Exception, RequestException, OSError, json.JSONDecodeError)
"""What web3 and its provider raise if the node can't be reached, or responds with an error or without JSON."""
PLATFORM_KEY = "PLATFORM_PRIVATE_KEY"


def connect(rpc: str) -> Web3:
    """Connects to a node.

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
        raise node_error("Reaching the node", error) from error
    return w3


def node_error(action: str, error: Exception) -> EngineError:
    """Returns an error that says what the node did wrong, without its URL."""
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


def setting(name: str, env_file: Path) -> str | None:
    """Returns a setting: the environment variable, else that of the file; None if it is in neither, or empty."""
    from dotenv import dotenv_values

    return os.environ.get(name) or dotenv_values(env_file).get(name) or None


def account_of(name: str, env_file: Path) -> LocalAccount | None:
    """Returns the account of the private key that a setting has; None if it is not set.

    Raises:
        ReleaseError: The setting is no private key. The message does not show it.
    """
    key = setting(name, env_file)
    try:
        return cast(LocalAccount, Account.from_key(key)) if key else None
    except (ValueError, TypeError):
        raise ReleaseError(f"{name} is no private key: give 32 bytes in hex.") from None


def deployer(env_file: Path) -> LocalAccount:
    """Returns the account of PLATFORM_PRIVATE_KEY, which is an environment variable or in a file of settings.

    Raises:
        ReleaseError: The key is missing, or is none.
    """
    if (account := account_of(PLATFORM_KEY, env_file)) is None:
        raise ReleaseError(f"{PLATFORM_KEY} is missing: put it into the environment or .env (`stakesim wallet new`).")
    return account


def checksum_address(text: str) -> ChecksumAddress:
    """Returns the address with its checksum.

    Raises:
        ReleaseError: It is no address, or the checksum that it has is wrong, as after a typing error.
    """
    if not Web3.is_address(text) or (is_checksum_formatted_address(text) and not Web3.is_checksum_address(text)):
        raise ReleaseError(f"{text!r} is no address: give 0x and 40 hex digits, with the right checksum or without.")
    return Web3.to_checksum_address(text)


def with_fees(w3: Web3, sender: str, transaction: Mapping[str, Any]) -> dict[str, Any]:
    """Completes a transaction: nonce, chain, gas, and fees that are enough if the base fee doubles.

    The gas is estimated without fees, so that the sender's balance does not matter here.

    Args:
        w3: Connected to the node.
        sender: Address of who signs.
        transaction: With `data`, and `to` unless it deploys.
    """
    base_fee = w3.eth.get_block("latest")["baseFeePerGas"]
    call = {"from": sender, "value": 0, **transaction}
    return call | {
        "nonce": w3.eth.get_transaction_count(cast(Any, sender), "pending"),
        "chainId": w3.eth.chain_id,
        "gas": w3.eth.estimate_gas(cast(Any, call)),
        "maxFeePerGas": 2 * base_fee + 10**9,
        "maxPriorityFeePerGas": 10**9,
    }


def configured_operators(env_file: Path) -> list[str]:
    """Returns the addresses of the accounts that the service signs with, as far as the settings say them.

    Raises:
        ReleaseError: PLATFORM_PRIVATE_KEY is no key, or PLATFORM_KEYSTORE can't be read.
    """
    account, keystore = account_of(PLATFORM_KEY, env_file), setting("PLATFORM_KEYSTORE", env_file)
    addresses: list[str] = [account.address] if account else []
    if keystore:
        try:
            addresses.append("0x" + str(parse_json(Path(keystore).read_text())["address"]).removeprefix("0x"))
        except (OSError, ValueError, KeyError, TypeError):
            raise ReleaseError(f"{keystore} (PLATFORM_KEYSTORE) can't be read, or names no address.") from None
    if signer := setting("SIGNER_ADDRESS", env_file):
        addresses.append(signer)
    return addresses
