"""Sends transactions: estimate, nonce, fees, sign, send, wait for the receipt. The only place that signs.

Keeping operations over a crash, retries and fee bumps have their place here, behind the same `send`.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_typing import ChecksumAddress
from hexbytes import HexBytes
from pydantic import SecretStr
from requests import RequestException
from web3 import Web3
from web3.exceptions import ContractLogicError, TransactionNotFound, Web3Exception
from web3.types import TxParams, TxReceipt, Wei

from app.core.errors import ChainUnavailable, ContractRejected
from app.services.codec import Call, Codec, Revert, revert_data

TRANSACTION_GAS_CAP = 16_777_216
"""EIP-7825: no transaction may have more gas than this."""
PRIORITY_FEE = 1_000_000_000
"""Tip per gas, in wei."""
NO_DATA = "no data"
"""What web3 says where a revert gives no reason."""
TROUBLE = (Web3Exception, RequestException, OSError)
"""What web3 and its providers raise when a node is out of reach or answers with an error."""

log = logging.getLogger(__name__)


class TransactionSender:
    """Signs with the platform's key, or with the account handed to `send`, and waits until it is mined.

    receipt_timeout: seconds after which a transaction that is not mined is given up on, its fate unknown.
    """

    def __init__(self, w3: Web3, platform: LocalAccount | SecretStr, receipt_timeout: float = 120) -> None:
        self._w3 = w3
        self._platform = platform if isinstance(platform, LocalAccount) else account_of(platform)
        self._receipt_timeout = receipt_timeout

    @property
    def address(self) -> ChecksumAddress:
        """The platform's."""
        return self._platform.address

    @cached_property
    def _chain_id(self) -> int:
        return self._w3.eth.chain_id

    def send(self, call: Call, value: int = 0, signer: LocalAccount | None = None) -> TxReceipt:
        """Sends the call with `value` wei and returns the receipt of its success.

        Raises `ContractRejected`, outcome "rejected": the estimate failed, nothing was sent and no nonce taken;
        outcome "reverted": it was mined and failed, and the signer paid for the gas. `ChainUnavailable`: unknown.
        """
        account = signer or self._platform
        params: TxParams = {"from": account.address, "to": call.to, "value": Wei(value), "data": call.data}
        with asking(call.name, call.codec):
            gas = self._w3.eth.estimate_gas(params, "pending")
        params["gas"] = min(gas * 12 // 10, TRANSACTION_GAS_CAP)
        try:
            tx_hash = self._submit(account, params)
            receipt = self._receipt(tx_hash)
        except TROUBLE as error:
            raise unavailable(call.name, error) from error
        log.info("%s: %s in block %s", call.name, tx_hash.to_0x_hex(), receipt["blockNumber"])
        if receipt["status"] != 1:
            revert = self._why(call, params, receipt)
            raise ContractRejected(revert.name, revert.args, refusal(call.name, revert), "reverted", receipt)
        return receipt

    def _submit(self, account: LocalAccount, params: TxParams) -> HexBytes:
        base_fee = self._w3.eth.get_block("latest")["baseFeePerGas"]
        transaction: dict[str, Any] = {
            **params,
            "type": 2,
            "chainId": self._chain_id,
            "nonce": self._w3.eth.get_transaction_count(account.address, "pending"),
            "maxFeePerGas": 2 * base_fee + PRIORITY_FEE,
            "maxPriorityFeePerGas": PRIORITY_FEE,
        }
        return self._w3.eth.send_raw_transaction(account.sign_transaction(transaction).raw_transaction)

    def _receipt(self, tx_hash: HexBytes) -> TxReceipt:
        pause, waited = 0.001, 0.0
        while True:
            try:
                return self._w3.eth.get_transaction_receipt(tx_hash)
            except TransactionNotFound:
                if waited > self._receipt_timeout:
                    raise
            time.sleep(pause)
            waited += pause
            pause = min(pause * 1.2, 1.0)

    def _why(self, call: Call, params: TxParams, receipt: TxReceipt) -> Revert:
        """Why a mined transaction failed: the same call at the end of its block, where the time is right."""
        try:
            self._w3.eth.call(params, receipt["blockNumber"])
        except ContractLogicError as error:
            if revert := decode_revert(error, call.codec):
                return revert
        except TROUBLE:
            log.warning("The node does not tell why %s failed", receipt["transactionHash"].to_0x_hex())
        if receipt["gasUsed"] >= params["gas"]:
            return Revert("OutOfGas", (receipt["gasUsed"],), f"out of gas after {receipt['gasUsed']}")
        return Revert("Unknown", ("0x",), "the reason can't be found any more")


def account_of(key: SecretStr) -> LocalAccount:
    """The account of a private key of 32 bytes in hex. Raises `ValueError`, which does not show the key.

    The length is looked at here: `eth_account` takes a key that lost a digit for another account's.
    """
    text = key.get_secret_value()
    if re.fullmatch("(0x)?[0-9a-fA-F]{64}", text):
        with suppress(ValueError):
            account: LocalAccount = Account.from_key(text)
            return account
    raise ValueError("The private key is not 32 bytes in hex, or out of the curve's range.")


@contextmanager
def asking(action: str, codec: Codec) -> Iterator[None]:
    """Turns what web3 raises while something is asked of the contract, and nothing sent, into errors of ours."""
    try:
        yield
    except ContractLogicError as error:
        revert = decode_revert(error, codec)
        if revert is None:
            raise unavailable(action, error) from error
        raise ContractRejected(revert.name, revert.args, refusal(action, revert)) from error
    except TROUBLE as error:
        raise unavailable(action, error) from error


def decode_revert(error: ContractLogicError, codec: Codec) -> Revert | None:
    """Why, out of what web3 raises for a revert. None: it was none, whatever web3 took the node's error for."""
    data = revert_data(error)
    if data:
        return codec.revert(data)
    said = str(error.message or "")
    if "revert" not in said.lower():
        return None
    text = said.removeprefix("execution reverted").strip(": ")
    return Revert("Error", (text,), text) if text and text != NO_DATA else codec.revert(b"")


def refusal(action: str, revert: Revert) -> str:
    return f"{action} was refused by the contract: {revert.reason.rstrip('.')}."


def unavailable(action: str, error: Exception) -> ChainUnavailable:
    """The node's trouble in a sentence; not the node's address, which may hold a key."""
    if isinstance(error, RequestException | OSError):
        return ChainUnavailable(f"{action}: the node can't be reached ({type(error).__name__}).")
    if isinstance(error, TransactionNotFound):
        return ChainUnavailable(f"{action}: sent, but not mined in time; it may be mined yet.")
    return ChainUnavailable(f"{action}: the node says: {error}")
