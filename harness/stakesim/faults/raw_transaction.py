"""Signed transactions as a provider sees them: decodes raw bytes of any type."""

from __future__ import annotations

from typing import NamedTuple

import rlp  # type: ignore[import-untyped]
from eth_account import Account
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from eth_utils.crypto import keccak
from hexbytes import HexBytes

_FEE_FIELDS = ("maxFeePerGas", "maxPriorityFeePerGas")
_LAST_TYPE = 0x7F
"""Highest first byte that is a transaction type; above it an RLP list, so a legacy transaction, begins (EIP-2718)."""


class RawTransaction(NamedTuple):
    """Fields of a signed transaction of any type.

    Attributes:
        nonce: Of the sender.
        max_fee: Wei per gas; the gas price of a transaction without `maxFeePerGas`.
        tip: Wei per gas; the gas price of a transaction without `maxPriorityFeePerGas`.
        data: Calldata.
    """

    nonce: int
    max_fee: int
    tip: int
    data: bytes


def decode_raw(raw: str) -> RawTransaction:
    """Decodes a signed transaction, 0x-prefixed hex."""
    encoded = HexBytes(raw)
    if encoded[0] > _LAST_TYPE:
        nonce, gas_price, _, _, _, data, *_ = rlp.decode(bytes(encoded))
        price = int.from_bytes(gas_price, "big")
        return RawTransaction(int.from_bytes(nonce, "big"), price, price, data)
    fields = TypedTransaction.from_bytes(encoded).as_dict()
    max_fee, tip = (int(fields[name] if name in fields else fields["gasPrice"]) for name in _FEE_FIELDS)
    return RawTransaction(fields["nonce"], max_fee, tip, bytes(fields["data"]))


def hash_of(raw: str) -> str:
    """Hash of a signed transaction; both are 0x-prefixed hex."""
    return HexBytes(keccak(HexBytes(raw))).to_0x_hex()


def sender_of(raw: str) -> str:
    """Checksummed address that signed a transaction, which is 0x-prefixed hex."""
    return str(Account.recover_transaction(HexBytes(raw)))
