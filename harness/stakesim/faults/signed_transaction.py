"""Signed transactions as a provider receives them: raw bytes, of any type."""

from __future__ import annotations

from dataclasses import dataclass

import rlp
from eth_account import Account
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from eth_hash.auto import keccak
from hexbytes import HexBytes

_LAST_TYPE = 0x7F
"""Highest first byte that is a transaction type; above it an RLP list, so a legacy transaction, begins (EIP-2718)."""


@dataclass(frozen=True)
class SignedTransaction:
    """A decoded transaction.

    Attributes:
        raw: The signed transaction, 0x-prefixed hex.
        hash: 0x-prefixed hex.
        sender: Checksummed address.
        nonce: Of the sender.
        max_fee: Wei per gas; the gas price of a transaction without `maxFeePerGas`.
        tip: Wei per gas; the gas price of a transaction without `maxPriorityFeePerGas`.
        data: Calldata.
    """

    raw: str
    hash: str
    sender: str
    nonce: int
    max_fee: int
    tip: int
    data: bytes

    @classmethod
    def decode(cls, raw: str) -> SignedTransaction:
        """Decodes a signed transaction, 0x-prefixed hex."""
        encoded = HexBytes(raw)
        if encoded[0] > _LAST_TYPE:
            nonce_bytes, gas_price, _, _, _, data, *_ = rlp.decode(bytes(encoded))
            nonce = int.from_bytes(nonce_bytes, "big")
            max_fee = tip = int.from_bytes(gas_price, "big")
        else:
            fields = TypedTransaction.from_bytes(encoded).as_dict()
            nonce, data = fields["nonce"], bytes(fields["data"])
            max_fee, tip = (
                int(fields[name] if name in fields else fields["gasPrice"])
                for name in ("maxFeePerGas", "maxPriorityFeePerGas")
            )
        sender = str(Account.recover_transaction(encoded))
        return cls(raw, HexBytes(keccak(encoded)).to_0x_hex(), sender, nonce, max_fee, tip, data)
