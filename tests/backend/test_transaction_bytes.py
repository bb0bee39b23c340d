"""Signed transactions: the same bytes as eth-account's."""

from dataclasses import replace

import pytest
from app.services.rpc_answers import checksummed
from app.services.transactions.fees import Fees
from app.services.transactions.signing import Content, find_mismatch, sign_attempt
from eth_account import Account
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from hexbytes import HexBytes
from hypothesis import given
from hypothesis import strategies as st

KEYS = st.binary(min_size=32, max_size=32).filter(
    lambda key: 0 < int.from_bytes(key, "big") < 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
)
ADDRESSES = st.binary(min_size=20, max_size=20).map(lambda address: checksummed("0x" + address.hex()))
WORDS = st.integers(0, 2**256 - 1)
SMALL = st.integers(0, 2**64 - 1)
DATA = st.binary(max_size=100) | st.sampled_from([55, 56, 255, 256, 70_000]).map(bytes)
"""Also at the edges where RLP writes a length in another form."""


class Elsewhere:
    """An account that signs with eth-account."""

    def __init__(self, key: bytes) -> None:
        self._account = Account.from_key(key)
        self.address, self.sign_transaction = self._account.address, self._account.sign_transaction


@given(KEYS, st.integers(1, 2**63), ADDRESSES, WORDS, DATA, SMALL, SMALL, SMALL, SMALL, st.booleans())
def test_a_key_signs_what_eth_account_signs(key, chain_id, to, wei, data, nonce, gas, most, priority, no_effect):
    account, other = Account.from_key(key), Elsewhere(key)
    content = Content(chain_id, account.address, to, wei, data)
    arguments = (nonce, gas, Fees(most, priority), 7, None, no_effect)
    attempt = sign_attempt(content, account, *arguments)
    assert attempt == sign_attempt(content, other, *arguments)
    assert Account.recover_transaction(attempt.raw_transaction) == account.address


def test_a_transaction_without_effect_sends_nothing_to_its_sender_and_uses_the_nonce():
    account = Account.from_key(b"\1" * 32)
    content = Content(7, account.address, "0x" + "cc" * 20, 5, b"data")
    for no_effect, sent in ((False, content), (True, Content(7, account.address, account.address, 0, b""))):
        attempt = sign_attempt(content, account, 4, 30_000, Fees(100, 2), 9, 11, no_effect)
        fields = TypedTransaction.from_bytes(HexBytes(attempt.raw_transaction)).as_dict()
        assert (fields["chainId"], fields["nonce"], fields["gas"]) == (7, 4, 30_000)
        assert (fields["maxFeePerGas"], fields["maxPriorityFeePerGas"]) == (100, 2)
        to = checksummed("0x" + bytes(fields["to"]).hex())
        assert (to, fields["value"], bytes(fields["data"])) == (checksummed(sent.to_address), *sent[3:])
        fees = (attempt.max_fee_per_gas, attempt.priority_fee_per_gas)
        assert (attempt.nonce, attempt.gas_limit, *fees) == (4, 30_000, 100, 2)
        assert (attempt.latest_block, attempt.signed_block, attempt.no_effect) == (9, 11, no_effect)


def test_what_differs_from_what_the_sender_signs_is_found():
    account, other = (Account.from_key(bytes([number]) * 32) for number in (1, 2))
    content = Content(7, account.address, checksummed("0x" + "cc" * 20), 5, b"data")
    attempt = sign_attempt(content, account, 4, 30_000, Fees(100, 2), 9)
    assert find_mismatch(content, attempt) is None
    assert find_mismatch(content, replace(attempt, tx_hash="0x" + "11" * 32)) == "they have another hash"
    by_another = sign_attempt(content, other, 4, 30_000, Fees(100, 2), 9)
    assert find_mismatch(content, by_another) == f"they are signed by {other.address}"
    assert "no signed transaction" in find_mismatch(content, replace(attempt, raw_transaction="0x02"))
    what = "they are signed for another network, receiver, value, data or nonce"
    for change in ({"chain_id": 8}, {"to_address": account.address}, {"value_wei": 6}, {"data": b""}):
        assert find_mismatch(content._replace(**change), attempt) == what
    assert find_mismatch(content, replace(attempt, nonce=5)) == what
    assert find_mismatch(content, replace(attempt, no_effect=True)) == what


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"\x7f", b"\x80", b"\xff", *(bytes(length) for length in (54, 55, 56, 57, 255, 256, 65_536))]
)
def test_bytes_at_the_edges_of_rlp_are_signed_as_eth_account_signs_them(data):
    key = b"\7" * 32
    account = Account.from_key(key)
    content = Content(1, account.address, account.address, 0, data)
    signed = [sign_attempt(content, each, 127, 128, Fees(56, 0), 7) for each in (account, Elsewhere(key))]
    assert signed[0] == signed[1]
