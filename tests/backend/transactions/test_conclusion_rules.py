"""What is concluded from a used nonce, and how its transaction is found: with stand-ins for node and database."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from app.services.operation_types import FILL_NONCE_GAP, Attempt, NoEffect, Operation, UsedNonce
from app.services.rpc_types import Receipt, Transaction
from app.services.transactions import conclusions, nonce_search
from app.services.transactions.conclusions import Mined, conclude, of_receipt
from app.services.transactions.nonce_search import SEARCHED_BLOCKS, find_foreign_transaction, find_transaction
from test_unknown_rules import CHAIN, CONNECTION, DATABASE, FINAL, OLD, STRANGER, A, B, operation, transaction
from web3.exceptions import Web3RPCError

# ------------------------------------------------------------------------------------------------- conclusions


class Conclusion:
    """What `conclude` finds: the transaction with the nonce, the row, and receipts of its attempts."""

    def __init__(self, patch: pytest.MonkeyPatch, foreign: Transaction | None, stored: Operation) -> None:
        self.recorded, self.known, self.receipt = list[str](), False, None
        self.attempt: Any = replace(OLD, tx_hash="0xown")
        used = foreign and UsedNonce(foreign.hash, 15, foreign)
        w3: Any = self
        self.w3 = w3
        patch.setattr(conclusions, "find_foreign_transaction", lambda w3, each, final: used if final == FINAL else None)
        patch.setattr(conclusions.states, "reload", lambda database, each: stored)
        patch.setattr(conclusions, "find_receipt", lambda w3, each: self.receipt)
        patch.setattr(conclusions.orphans, "is_known", lambda connection, chain_id, each: self.known)
        patch.setattr(conclusions.orphans, "record", self._record)
        patch.setattr(conclusions.orphans, "as_attempt", lambda each: self.attempt)
        patch.setattr(conclusions.states, "change", self._change)

    def _record(self, connection: Any, chain_id: int, each: Transaction, *, succeeded: bool) -> None:
        assert (connection, chain_id, succeeded) == (CONNECTION, CHAIN, True)
        self.recorded.append(each.hash)

    def _change(self, database: Any, each: Operation, from_states: Any, **values: Any) -> Operation:
        assert (database, from_states) == (DATABASE, ("signed", "submitted", "mined"))
        return replace(each, **values)

    def of(self, given: Operation) -> Any:
        return conclude(self.w3, DATABASE, given, FINAL)


OTHER = transaction("0xother", to=STRANGER)


@pytest.mark.parametrize(
    ("foreign", "stored", "outcome"),
    [
        (None, operation(), "given"),
        (OTHER, operation(), "no effect"),
        (OTHER, operation("signed"), "stored"),
        (OTHER, operation(nonce=5), "stored"),
        (OTHER, operation("confirmed"), "stored"),
        (transaction("0xnew"), operation(attempts=[OLD, replace(OLD, tx_hash="0xnew")]), "stored"),
        (transaction("0xown"), operation(kind=FILL_NONCE_GAP), "no effect"),
    ],
)
def test_what_is_concluded(
    monkeypatch: pytest.MonkeyPatch, foreign: Transaction | None, stored: Operation, outcome: str
) -> None:
    conclusion, given = Conclusion(monkeypatch, foreign, stored), operation()
    found = conclusion.of(given)
    if outcome == "no effect":
        assert foreign is not None
        assert found == NoEffect(stored, UsedNonce(foreign.hash, 15, foreign))
        conclusion.receipt = object()  # type: ignore[assignment]
        assert conclusion.of(given) == Mined(stored, conclusion.receipt)
    else:
        assert found is (given if outcome == "given" else stored)
    assert conclusion.recorded == []


def test_a_closed_row_is_no_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = operation("failed")
    assert Conclusion(monkeypatch, OTHER, closed).of(closed) is closed


@pytest.mark.parametrize("fields", [{"value": "0x8"}, {"input": "0x65"}])
def test_a_call_of_the_contract_with_another_content_is_an_orphan(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, str]
) -> None:
    conclusion = Conclusion(monkeypatch, transaction("0xother", fields=fields), operation())
    assert isinstance(conclusion.of(operation()), NoEffect)
    assert conclusion.recorded == ["0xother"]
    conclusion.known = True
    conclusion.of(operation())
    assert conclusion.recorded == ["0xother"]


def test_a_transaction_whose_commit_was_lost_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    conclusion = Conclusion(monkeypatch, transaction("0xown"), operation())
    assert [each.tx_hash for each in conclusion.of(operation()).attempts] == ["0xold", "0xown"]
    conclusion.attempt = None
    assert conclusion.of(operation()).attempts == [OLD]
    assert conclusion.recorded == []


def test_a_receipt_proves_as_well() -> None:
    receipt = Receipt("0xold", 15, "0xf", A, None, None, False, 1, 1)  # type: ignore[arg-type]
    given = operation()
    assert of_receipt(given, receipt) == NoEffect(given, UsedNonce("0xold", 15))


# ------------------------------------------------------------------------------------------- who used a nonce


class Blocks:
    """A chain in which an account uses its nonce 4 in a block, and of which a node has some states."""

    def __init__(self, patch: pytest.MonkeyPatch, used_in: int | None, first_state: int = 0) -> None:
        self.used_in, self.first_state, self.read, self.asked = used_in, first_state, list[int](), list[int]()
        patch.setattr(nonce_search, "checksummed", lambda address: address)
        patch.setattr(nonce_search.rpc, "transaction_count", self._count)
        patch.setattr(nonce_search.rpc, "block_transactions", self._transactions)
        w3: Any = self
        self.w3 = w3

    def _count(self, w3: Any, account: str, block: int) -> int:
        assert (w3, account) == (self, A)
        self.asked.append(block)
        if block < self.first_state:
            raise Web3RPCError("missing trie node")
        return 6 if self.used_in is not None and block >= self.used_in else 4

    def _transactions(self, w3: Any, block: int) -> tuple[Transaction, ...]:
        assert w3 is self
        self.read.append(block)
        others = (transaction("0x1", A, 5, block), transaction("0x2", B, 4, block), transaction("0x3", A, 3, block))
        return (*others, transaction("0xit", A, 4, block)) if block == self.used_in else others


@pytest.mark.parametrize("used_in", [1, 2, 500, 999, 1000])
@pytest.mark.parametrize("low", [0, 1, 400, 998, 5000])
@pytest.mark.parametrize("first_state", [0, 500, 990])
def test_the_transaction_with_a_nonce_is_found(
    monkeypatch: pytest.MonkeyPatch, used_in: int, low: int, first_state: int
) -> None:
    blocks = Blocks(monkeypatch, used_in, first_state)
    found = find_transaction(blocks.w3, A, 4, low, 1000)
    lacks_state = used_in < first_state
    if lacks_state and first_state - used_in >= SEARCHED_BLOCKS:
        assert found is None
        assert len(blocks.read) == 128
    else:
        assert found is not None
        assert (found.tx_hash, found.block_number, found.transaction and found.transaction.nonce) == (
            "0xit",
            used_in,
            4,
        )
    if used_in > first_state:
        assert blocks.read == [used_in]
    assert len(blocks.asked) < 45


@pytest.mark.parametrize("final", [-1, -2, 0, 999])
def test_a_nonce_that_is_not_used_in_a_final_block_is_not_used(monkeypatch: pytest.MonkeyPatch, final: int) -> None:
    blocks = Blocks(monkeypatch, 1000)
    assert find_transaction(blocks.w3, A, 4, 0, final) is None
    assert blocks.asked == ([] if final < 0 else [final])
    assert blocks.read == []


def test_the_search_ends_where_the_nonce_was_not_used_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """The node shows another block than the one whose state it has."""
    blocks = Blocks(monkeypatch, 500)
    monkeypatch.setattr(nonce_search.rpc, "block_transactions", lambda w3, block: blocks.read.append(block) or ())
    assert find_transaction(blocks.w3, A, 4, 490, 1000) is None
    assert blocks.read == [500]


def test_the_first_block_is_searched_and_none_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = Blocks(monkeypatch, 1, first_state=20)
    found = find_transaction(blocks.w3, A, 4, 19, 30)
    assert found is not None
    assert blocks.read == list(range(20, 0, -1))


@pytest.mark.parametrize(
    ("attempts", "low", "is_foreign"),
    [
        ([OLD], 10, True),
        ([replace(OLD, nonce=3, latest_block=7), replace(OLD, latest_block=9)], 9, True),
        ([replace(OLD, nonce=3)], 0, True),
        ([OLD, replace(OLD, tx_hash="0xit")], 10, False),
    ],
)
def test_a_transaction_that_no_attempt_is_is_foreign(
    monkeypatch: pytest.MonkeyPatch, attempts: list[Attempt], low: int, is_foreign: bool
) -> None:
    asked = list[Any]()
    used = UsedNonce("0xit", 15)

    def find(*asks: Any) -> UsedNonce:
        asked.append(asks)
        return used

    monkeypatch.setattr(nonce_search, "find_transaction", find)
    assert find_foreign_transaction(CONNECTION, operation(attempts=attempts), FINAL) == (used if is_foreign else None)
    assert asked == [(CONNECTION, A, 4, low, FINAL)]
    monkeypatch.setattr(nonce_search, "find_transaction", lambda *asks: None)
    assert find_foreign_transaction(CONNECTION, operation(attempts=attempts), FINAL) is None
