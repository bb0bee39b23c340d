"""Signed transactions are decoded as py-evm decodes them, and base fees are those of py-evm."""

from __future__ import annotations

import random
import secrets
from types import SimpleNamespace
from typing import Any

import pytest
import rlp
from eth.vm.forks.london.headers import calculate_expected_base_fee_per_gas
from eth_account import Account
from eth_keys.exceptions import BadSignature
from eth_utils import ValidationError
from rlp.exceptions import RLPException
from stakesim.evm.in_process.gas import next_base_fee
from stakesim.evm.in_process.raw_transaction import SignedTransaction, decode, decode_any

ACCOUNT = Account.from_key(b"\x07" * 32)
N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
S_INDEX, PARITY_INDEX = 11, 9


def drawn(rng: random.Random, **fields: Any) -> bytes:
    """A signed transaction of type 2 with numbers of any size."""
    values = {
        "type": 2,
        "chainId": rng.choice([1, 61, 2**40]),
        "nonce": rng.choice([0, 1, 127, 128, 2**40]),
        "maxFeePerGas": rng.choice([0, 10**9, 2**100]),
        "maxPriorityFeePerGas": 0,
        "gas": rng.choice([0, 21_000, 2**24]),
        "to": rng.choice([b"", rng.randbytes(20)]),
        "value": rng.choice([0, 1, rng.getrandbits(96)]),
        "data": rng.randbytes(rng.choice([0, 1, 55, 56, 400])),
    }
    return bytes(ACCOUNT.sign_transaction(values | fields).raw_transaction)


def outcome(decoder: Any, raw: bytes) -> Any:
    """What a decoder makes of the bytes, by the attributes that engines read; or what it raises."""
    try:
        tx = decoder(raw)
        fields = tx.chain_id, tx.nonce, tx.gas, bytes(tx.to), tx.value, bytes(tx.data), tx.r, tx.s, tx.y_parity
        fees = tx.max_fee_per_gas, tx.max_priority_fee_per_gas
        return (*fields, *fees, tx.type_id, list(tx.access_list), bytes(tx.hash), bytes(tx.sender))
    except (BadSignature, RLPException, ValidationError, ValueError, TypeError) as error:
        return type(error), str(error)


@pytest.mark.slow
def test_usual_transactions_are_decoded_as_by_py_evm() -> None:
    rng = random.Random(secrets.randbits(40))
    for _ in range(100):
        raw = drawn(rng)
        assert isinstance(decode(raw), SignedTransaction)
        assert outcome(decode, raw) == outcome(decode_any, raw)


def test_the_least_gas_is_that_of_py_evm_or_the_floor() -> None:
    rng = random.Random(secrets.randbits(40))
    for _ in range(30):
        raw = drawn(rng)
        assert decode(raw).intrinsic_gas >= decode_any(raw).intrinsic_gas


def test_other_transactions_are_left_to_py_evm() -> None:
    listed = drawn(random.Random(1), accessList=[{"address": "0x" + "11" * 20, "storageKeys": ["0x" + "00" * 32]}])
    legacy = ACCOUNT.sign_transaction(
        {"nonce": 0, "gasPrice": 1, "gas": 21_000, "to": b"\1" * 20, "value": 1, "data": b"", "chainId": 1}
    )
    for raw in (listed, bytes(legacy.raw_transaction)):
        assert not isinstance(decode(raw), SignedTransaction)
        assert decode(raw).hash == decode_any(raw).hash


@pytest.mark.slow
def test_malformed_transactions_are_judged_by_py_evm() -> None:
    """A byte changed, cut off or added; numbers with a leading zero; the other form of a signature."""
    rng = random.Random(secrets.randbits(40))
    for _ in range(200):
        raw = bytearray(drawn(rng))
        raw[rng.randrange(1, len(raw))] = rng.randrange(256)
        mutilated = bytes(raw[: rng.choice([len(raw), len(raw) - 1])]) + rng.choice([b"", b"\0"])
        assert outcome(decode, mutilated) == outcome(decode_any, mutilated)
    fields = rlp.decode(drawn(rng)[1:])
    changes = {
        0: b"\0\1",
        1: b"\0",
        5: b"\1" * 19,
        6: b"\1" * 33,
        7: [],
        8: b"",
        PARITY_INDEX: b"\2",
        S_INDEX: (N - int.from_bytes(fields[S_INDEX])).to_bytes(32),
    }
    for index, field in changes.items():
        raw_changed = b"\2" + rlp.encode([*fields[:index], field, *fields[index + 1 :]])
        assert outcome(decode, raw_changed) == outcome(decode_any, raw_changed), index
    for content in ([*fields, b""], [], [[b"\1"]], [b"\1" * 60]):
        encoded = rlp.encode(content)
        longer = {len(encoded) - 1: b"\xf8" + bytes([len(encoded) - 1])} if encoded[0] < 0xF8 else {}
        for header in (*longer.values(), b"\xf9\0" + bytes([len(encoded) - 2 & 0xFF]), b"\xff" + b"\xff" * 8):
            raw_longer = b"\2" + header + encoded[1 if encoded[0] < 0xF8 else 2 :]
            assert outcome(decode, raw_longer) == outcome(decode_any, raw_longer), header
    for item in (b"\x81\1", b"\xb8\1\x80", b"\xb8\x38" + b"\1" * 55, b"\xbf" + b"\xff" * 8):
        body = b"".join(rlp.encode(field) for field in fields[:-1]) + item
        raw_item = b"\2" + (bytes([0xC0 + len(body)]) if len(body) < 56 else b"\xf8" + bytes([len(body) & 0xFF])) + body
        assert outcome(decode, raw_item) == outcome(decode_any, raw_item), item
    for raw_text in (b"", b"\2", b"\2\x80", b"\2\xc0", b"\2" + rlp.encode([*fields, b""])):
        assert outcome(decode, raw_text) == outcome(decode_any, raw_text)


@pytest.mark.parametrize("limit", [30_000_000, 36_000_001])
def test_base_fees_are_those_of_py_evm(limit: int) -> None:
    target = limit // 2
    for fee in (0, 1, 7, 8, 10**9, 2**70):
        for used in (0, 1, target - 1, target, target + 1, limit):
            parent: Any = SimpleNamespace(base_fee_per_gas=fee, gas_used=used, gas_limit=limit)
            assert next_base_fee(fee, used, limit) == calculate_expected_base_fee_per_gas(parent)
