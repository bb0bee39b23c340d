"""Finds the account that signs an operation, signs its transaction, and checks signed ones."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

from coincurve import PrivateKey
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from eth_hash.auto import keccak
from hexbytes import HexBytes

from app.services.operation_types import Attempt, Operation
from app.services.rpc_answers import checksummed
from app.services.transactions.accounts import SigningAccount
from app.services.transactions.fees import Fees

_TYPE_2 = b"\x02"
_FIELDS = ("chainId", "nonce", "maxPriorityFeePerGas", "maxFeePerGas", "gas", "to", "value", "data")
"""In the order in which they are signed."""
_NO_ACCESS_LIST = b"\xc0"


class Content(NamedTuple):
    """What a transaction says besides nonce, gas and fees. The attributes are those of `Operation`."""

    chain_id: int
    sender: str
    to_address: str
    value_wei: int
    data: bytes


def find_account(operation: Operation, *accounts: SigningAccount | None) -> SigningAccount | None:
    """Returns the account of `operation.sender`; None if it is not among these."""
    return next((account for account in accounts if account and account.address == operation.sender), None)


def sign_attempt(
    operation: Operation | Content,
    account: SigningAccount,
    nonce: int,
    gas_limit: int,
    fees: Fees,
    latest_block: int,
    signed_block: int | None = None,
    no_effect: bool = False,
) -> Attempt:
    """Signs the operation's transaction. For the parameters see `Attempt`. Raises `SignerError`."""
    content = _content(operation, no_effect)
    fields: dict[str, Any] = {
        "type": 2,
        "chainId": content.chain_id,
        "to": content.to_address,
        "value": content.value_wei,
        "data": content.data,
        "nonce": nonce,
        "gas": gas_limit,
        "maxFeePerGas": fees.max_fee_per_gas,
        "maxPriorityFeePerGas": fees.priority_fee_per_gas,
    }
    if type(account) is LocalAccount:
        raw = _sign(account, fields)
    else:
        raw = bytes(account.sign_transaction(fields).raw_transaction)
    tx_hash = "0x" + keccak(raw).hex()
    return Attempt(tx_hash, "0x" + raw.hex(), nonce, gas_limit, *fees, latest_block, signed_block, no_effect)


def _sign(account: LocalAccount, fields: dict[str, Any]) -> bytes:
    """Signs a transaction of type 2 without an access list (EIP-1559).

    The bytes are those of `account.sign_transaction`, which takes ten times as long.
    """
    content = b"".join(_rlp(bytes.fromhex(fields[name][2:]) if name == "to" else fields[name]) for name in _FIELDS)
    content += _NO_ACCESS_LIST
    signature = _private_key(bytes(account.key)).sign_recoverable(keccak(_TYPE_2 + _rlp_list(content)), hasher=None)
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
    return _TYPE_2 + _rlp_list(content + _rlp(signature[64]) + _rlp(r) + _rlp(s))


def _rlp(value: int | bytes) -> bytes:
    """Encodes a number or bytes: https://ethereum.org/en/developers/docs/data-structures-and-encoding/rlp/."""
    content = value.to_bytes((value.bit_length() + 7) // 8, "big") if isinstance(value, int) else value
    return content if len(content) == 1 and content[0] < 0x80 else _rlp_header(0x80, len(content)) + content


def _rlp_list(content: bytes) -> bytes:
    """Encodes a list whose items are encoded already."""
    return _rlp_header(0xC0, len(content)) + content


def _rlp_header(kind: int, length: int) -> bytes:
    if length <= 55:
        return bytes([kind + length])
    size = (length.bit_length() + 7) // 8
    return bytes([kind + 55 + size]) + length.to_bytes(size, "big")


_private_key = lru_cache(maxsize=64)(PrivateKey)  # it computes the public key


def find_mismatch(operation: Operation, attempt: Attempt) -> str | None:
    """Returns how stored bytes differ from what the operation's sender signs for it; None if they do not.

    Decodes the bytes and recovers the signer, which takes milliseconds.
    """
    try:
        raw = HexBytes(attempt.raw_transaction)
        fields = TypedTransaction.from_bytes(raw).as_dict()
        signer = Account.recover_transaction(raw)
        to, data = checksummed(HexBytes(fields["to"]).to_0x_hex()), bytes(HexBytes(fields["data"]))
        content = Content(fields["chainId"], signer, to, fields["value"], data)
    except Exception as error:  # noqa: BLE001 - the bytes may be anything, and so may the decoder's error
        return f"they are no signed transaction ({type(error).__name__})"
    if signer != operation.sender:
        return f"they are signed by {signer}"
    if keccak(raw) != HexBytes(attempt.tx_hash):
        return "they have another hash"
    is_same = content == _content(operation, attempt.no_effect) and fields["nonce"] == attempt.nonce
    return None if is_same else "they are signed for another network, receiver, value, data or nonce"


def _content(operation: Operation | Content, no_effect: bool) -> Content:
    """Returns the content of the operation's transaction, or of one that only uses its nonce."""
    if no_effect:
        return Content(operation.chain_id, operation.sender, operation.sender, 0, b"")
    return Content(operation.chain_id, operation.sender, operation.to_address, operation.value_wei, operation.data)
