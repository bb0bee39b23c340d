"""Decodes signed transactions: the usual kind by hand and coincurve, others by py-evm, which takes much longer."""

from __future__ import annotations

from typing import NamedTuple

import rlp
from coincurve import PublicKey
from eth_hash.auto import keccak

from stakesim.evm.in_process.evm import Transaction
from stakesim.evm.in_process.gas import intrinsic_gas

_DYNAMIC_FEE = b"\x02"
_HIGHEST_S = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
"""Half of the curve's order; a signature above it is another form of one below (EIP-2)."""


class SignedTransaction(NamedTuple):
    """A signed dynamic-fee transaction (EIP-1559) without an access list, with the attributes of py-evm's."""

    chain_id: int
    nonce: int
    max_priority_fee_per_gas: int
    max_fee_per_gas: int
    gas: int
    to: bytes
    value: int
    data: bytes
    y_parity: int
    r: int
    s: int
    sender: bytes
    hash: bytes
    type_id: int = 2
    access_list: tuple[()] = ()

    @property
    def intrinsic_gas(self) -> int:
        """The gas limit below which a node refuses the transaction."""
        return intrinsic_gas(self.data, creates=not self.to)


def decode(raw: bytes) -> Transaction:
    """Decodes a signed transaction of any kind.

    Raises:
        RLPException: The bytes are no transaction.
        eth_utils.ValidationError: A field has a value that no transaction has.
    """
    return _decode_usual(raw) or decode_any(raw)


def decode_any(raw: bytes) -> Transaction:
    """Does what `decode` does, by py-evm alone."""
    from eth.vm.forks.prague.transactions import PragueTransactionBuilder  # loads all forks, which takes 0.3 s

    return PragueTransactionBuilder.decode(raw)


def encode(transaction: Transaction) -> bytes:
    """Encodes a decoded transaction as it was sent."""
    if not isinstance(transaction, SignedTransaction):
        return bytes(transaction.encode())
    tx = transaction
    fees = (tx.max_priority_fee_per_gas, tx.max_fee_per_gas)
    fields = (tx.chain_id, tx.nonce, *fees, tx.gas, tx.to, tx.value, tx.data, tx.access_list, tx.y_parity, tx.r, tx.s)
    return _DYNAMIC_FEE + bytes(rlp.encode(fields))


def _decode_usual(raw: bytes) -> SignedTransaction | None:
    """Returns None for other kinds, and for whatever is not well-formed, so that py-evm says what is wrong."""
    if raw[:1] != _DYNAMIC_FEE or (split := _split_list(raw[1:])) is None:
        return None
    fields, encoded = split
    if len(fields) != 12 or [number for number, field in enumerate(fields) if field is None] != [8]:
        return None
    *numbers, to, value, data, _, parity, r, s = (field or b"" for field in fields)
    if len(to) not in (0, 20) or not all(_is_number(field) for field in (*numbers, value, parity, r, s)):
        return None
    y_parity, s_number = int.from_bytes(parity), int.from_bytes(s)
    if y_parity > 1 or s_number > _HIGHEST_S:
        return None
    signature = r.rjust(32, b"\0") + s.rjust(32, b"\0") + bytes([y_parity])
    unsigned = b"".join(encoded[:9])
    digest = keccak(_DYNAMIC_FEE + _header(0xC0, len(unsigned)) + unsigned)
    try:
        key = PublicKey.from_signature_and_message(signature, digest, hasher=None)
    except ValueError:
        return None
    chain_id, nonce, priority_fee, max_fee, gas = map(int.from_bytes, numbers)
    return SignedTransaction(
        chain_id,
        nonce,
        priority_fee,
        max_fee,
        gas,
        to,
        int.from_bytes(value),
        data,
        y_parity,
        int.from_bytes(r),
        s_number,
        keccak(key.format(compressed=False)[1:])[-20:],
        keccak(raw),
    )


def _split_list(encoded: bytes) -> tuple[list[bytes | None], list[bytes]] | None:
    """Splits an RLP list into its items, and the encoding of each. An item is None if it is an empty list.

    Returns None if it has other items than byte strings and empty lists, or is not as an encoder writes it.
    https://ethereum.org/en/developers/docs/data-structures-and-encoding/rlp/
    """
    if not encoded or encoded[0] < 0xC0:
        return None
    begin = _begin_of_content(encoded, 0, 0xC0)
    if begin is None:
        return None
    items: list[bytes | None] = []
    encodings = []
    at, end = begin
    if end != len(encoded):
        return None
    while at < end:
        first, start = encoded[at], at
        if first < 0x80:
            item, at = encoded[at : at + 1], at + 1
        elif first == 0xC0:
            item, at = None, at + 1
        elif first > 0xC0 or (found := _begin_of_content(encoded, at, 0x80)) is None or found[1] > end:
            return None
        else:
            item, at = encoded[slice(*found)], found[1]
            if len(item) == 1 and item[0] < 0x80:
                return None
        items.append(item)
        encodings.append(encoded[start:at])
    return items, encodings


def _begin_of_content(encoded: bytes, at: int, base: int) -> tuple[int, int] | None:
    """Returns where the content of an item begins and ends; None if its length is not in the shortest form."""
    length = encoded[at] - base
    if length <= 55:
        return at + 1, at + 1 + length
    size = length - 55
    written = encoded[at + 1 : at + 1 + size]
    length = int.from_bytes(written)
    if len(written) != size or written[0] == 0 or length <= 55:
        return None
    return at + 1 + size, at + 1 + size + length


def _header(base: int, length: int) -> bytes:
    if length <= 55:
        return bytes([base + length])
    written = length.to_bytes((length.bit_length() + 7) // 8)
    return bytes([base + 55 + len(written)]) + written


def _is_number(field: bytes) -> bool:
    """Whether these are the shortest bytes of a number of at most 256 bits."""
    return len(field) <= 32 and field[:1] != b"\0"
