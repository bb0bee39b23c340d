"""Which receipt counts, when it is final, why a transaction failed, and how errors are stored: a node of answers."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from app.core.errors import (
    AppError,
    Cancelled,
    ChainUnavailable,
    ContractRejected,
    Expired,
    OutOfFunds,
    Superseded,
    TransactionRefused,
    UnexpectedReceipt,
)
from app.services.operation_types import Attempt, Operation
from app.services.rpc_types import BlockHeader, Receipt
from app.services.transactions import receipts as module
from app.services.transactions import states
from app.services.transactions.policy import TransactionPolicy
from web3.exceptions import ContractLogicError

SENDER, CONTRACT = "0xa", "0xc"
W3: Any = SimpleNamespace()
OLD = Attempt("0x1", "0x", 4, 60_000, 2, 1, 10)


def receipt(tx_hash: str, succeeded: bool = True, **values: Any) -> Receipt:
    fields: dict[str, Any] = dict.fromkeys(Receipt._fields)
    fields |= {"tx_hash": tx_hash, "block_number": 15, "block_hash": "0xf", "sender": SENDER, "succeeded": succeeded}
    return Receipt(**fields | {"gas_used": 100, "gas_price": 3} | values)


def operation(*attempts: Attempt, **values: Any) -> Operation:
    columns: dict[str, Any] = dict.fromkeys(Operation.__dataclass_fields__)
    columns |= {"key": "k", "kind": "f", "sender": SENDER, "to_address": CONTRACT, "data": b"d", "value_wei": 7}
    return Operation(**columns | {"state": "submitted", "nonce": 4, "attempts": list(attempts)} | values)


class Node:
    """Answers requests for receipts, headers and calls, and checks what is asked."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.receipts, self.asked, self.error = dict[str, Receipt](), list[str](), None
        self.header: BlockHeader | None = BlockHeader(15, "0xf", "", 0, 7)
        patch.setattr(module.rpc, "receipt", self._receipt)
        patch.setattr(module.rpc, "block_header", self._header)
        patch.setattr(module.rpc, "call", self._call)

    def _receipt(self, w3: Any, tx_hash: str, *, sender: str, to: str) -> Receipt | None:
        assert (w3, sender) == (W3, SENDER)
        self.asked.append(f"{tx_hash} to {to}")
        if self.error:
            raise self.error
        return self.receipts.get(tx_hash)

    def _header(self, w3: Any, number: int) -> BlockHeader | None:
        assert (w3, number) == (W3, 15)
        return self.header

    def _call(self, w3: Any, to: str, data: bytes, block: int, *, sender: str, value: int, gas: int) -> bytes:
        assert (w3, to, data, block, sender, value, gas) == (W3, CONTRACT, b"d", 15, SENDER, 7, 70_000)
        if self.error:
            raise self.error
        return b""


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Node:
    return Node(monkeypatch)


SECOND = replace(OLD, tx_hash="0x2", gas_limit=70_000)
EMPTY = replace(OLD, tx_hash="0x3", no_effect=True)
EARLIER = replace(OLD, tx_hash="0x0", nonce=3)
EARLIER_EMPTY = replace(EARLIER, tx_hash="0x9", no_effect=True)


@pytest.mark.parametrize(
    ("attempts", "mined", "found"),
    [
        ([OLD, SECOND], [], None),
        ([OLD, SECOND], [receipt("0x1")], "0x1"),
        ([OLD, SECOND], [receipt("0x2", False)], "0x2"),
        ([OLD, EMPTY, SECOND], [receipt("0x3")], "0x3"),
        ([EARLIER, OLD], [receipt("0x0")], "0x0"),
        ([EARLIER, OLD], [receipt("0x0", False)], None),
        ([EARLIER, OLD], [receipt("0x0", False), receipt("0x1", False)], "0x1"),
        ([EARLIER, EMPTY], [receipt("0x0"), receipt("0x3")], "0x0"),
        ([EARLIER_EMPTY, OLD], [receipt("0x9")], None),
    ],
)
def test_the_receipt_that_counts(node: Node, attempts: list[Attempt], mined: list[Receipt], found: str | None) -> None:
    node.receipts = {each.tx_hash: each for each in mined}
    each = module.find_receipt(W3, operation(*attempts))
    assert (each and each.tx_hash) == found


def test_receipts_are_asked_for_newest_first_and_without_effect_last(node: Node) -> None:
    given = operation(EARLIER, EMPTY, SECOND)
    module.find_receipt(W3, given)
    assert node.asked == [f"0x2 to {CONTRACT}", f"0x0 to {CONTRACT}", f"0x3 to {SENDER}"]
    assert module.find_attempt(given, receipt("0x3")) is EMPTY
    columns = {"tx_hash": "0x3", "block_number": 15, "block_hash": "0xf"}
    assert module.block_columns(receipt("0x3")) == columns


@pytest.mark.parametrize(
    ("confirmations", "latest", "header", "is_final"),
    [
        (1, None, None, True),
        (3, None, "0xf", False),
        (3, 16, "0xf", False),
        (3, 17, "0xf", True),
        (3, 30, "0xf", True),
        (3, 17, "0xe", False),
        (3, 17, None, False),
        (2, 16, "0xf", True),
    ],
)
def test_a_receipt_is_final_once_its_block_is_deep_in_the_chain(
    node: Node, confirmations: int, latest: int | None, header: str | None, is_final: bool
) -> None:
    node.header = header and BlockHeader(15, header, "", 0, 7)  # type: ignore[assignment]
    policy = TransactionPolicy(confirmations=confirmations)
    assert module.is_final(W3, receipt("0x1"), policy, latest) is is_final


@pytest.mark.parametrize(
    ("error", "gas_used", "name", "args"),
    [
        (ContractLogicError("execution reverted: words"), 70_000, "Error", ("words",)),
        (ContractLogicError("no such thing"), 69_999, "Unknown", ("0x",)),
        (ContractLogicError("no such thing"), 70_000, "OutOfGas", (70_000,)),
        (None, 70_001, "OutOfGas", (70_001,)),
        (None, 100, "Unknown", ("0x",)),
        (OSError(), 100, "Unknown", ("0x",)),
        (OSError(), 70_000, "OutOfGas", (70_000,)),
    ],
)
def test_why_a_transaction_failed(node: Node, error: Any, gas_used: int, name: str, args: tuple[Any, ...]) -> None:
    node.error = error
    revert = module.revert_reason(W3, operation(OLD, SECOND), receipt("0x2", False, gas_used=gas_used))
    assert (revert.name, revert.args) == (name, args)


def test_the_receipt_of_a_closed_operation(node: Node) -> None:
    closed = operation(OLD, SECOND, tx_hash="0x2", state="confirmed")
    given = receipt("0x2")
    assert module.receipt_or_error(W3, closed, given) is given
    assert node.asked == []
    with pytest.raises(ChainUnavailable, match="f is final, but the node does not show its receipt") as caught:
        module.receipt_or_error(W3, closed, None)
    assert caught.value.operation == "k"
    node.receipts = {"0x2": given}
    assert module.receipt_or_error(W3, closed, None) is given
    node.error = OSError()  # type: ignore[assignment]
    with pytest.raises(ChainUnavailable, match="f: the node can't be reached") as caught:
        module.receipt_or_error(W3, closed, None)
    assert caught.value.operation == "k"


def test_the_error_of_a_closed_operation(node: Node) -> None:
    error = states.error_to_json(ContractRejected("Poor", (1, 2), "f was refused.", "reverted"))
    given = receipt("0x1", False)
    node.receipts = {"0x1": given}
    with pytest.raises(ContractRejected) as caught:
        module.receipt_or_error(W3, operation(OLD, tx_hash="0x1", error=error), None)
    assert caught.value.receipt is given
    with pytest.raises(ContractRejected) as caught:
        module.receipt_or_error(W3, operation(error=error), None)
    assert caught.value.receipt is None
    with pytest.raises(ChainUnavailable):
        module.receipt_or_error(W3, operation(), None)


@pytest.mark.parametrize("kind", [Cancelled, Expired, Superseded, TransactionRefused, UnexpectedReceipt])
def test_errors_are_stored_and_read_again(kind: type[AppError]) -> None:
    stored = states.error_to_json(kind("a message"))
    assert stored == {"code": kind.code, "message": "a message"}
    again = states.error_from_json(stored)
    assert (type(again), again.message) == (kind, "a message")
    assert states.error_of_given_up(operation(error=stored)).code == kind.code


def test_a_rejection_is_stored_with_what_the_contract_said() -> None:
    error = ContractRejected("Poor", (1, 2), "f was refused.", "reverted")
    stored = states.error_to_json(error)
    expected = {"code": error.code, "message": "f was refused.", "name": "Poor", "args": [1, 2], "outcome": "reverted"}
    assert stored == expected
    given = receipt("0x1")
    again = states.error_from_json(stored, given)
    assert isinstance(again, ContractRejected)
    assert (again.name, list(again.args), again.message) == ("Poor", [1, 2], "f was refused.")
    assert (again.outcome, again.receipt) == ("reverted", given)


def test_what_was_given_up_without_an_error_was_refused() -> None:
    error = states.error_of_given_up(operation())
    assert isinstance(error, TransactionRefused)
    assert error.message == "f had no effect: a transaction without effect used its nonce."


@pytest.mark.parametrize(("cause", "kind"), [("no_funds", OutOfFunds), ("refused", ChainUnavailable)])
def test_who_waits_for_a_held_operation_hears_why(cause: str, kind: type[ChainUnavailable]) -> None:
    error = states.error_of_held(operation(held="why", held_cause=cause))
    assert (type(error), error.message, error.operation) == (kind, "f is held: why.", "k")
    assert states.log_fields(operation()) == {"operation": "k", "state": "submitted"}
    assert states.no_funds(operation()) == "insufficient funds of 0xa for gas and value"


@pytest.mark.parametrize(
    ("values", "is_allowed"),
    [
        ({"bump_percent": 10}, True),
        ({"bump_percent": 9}, False),
        ({"confirmations": 1}, True),
        ({"confirmations": 0}, False),
        ({"priority_fee_per_gas": 5, "max_fee_per_gas": 5}, True),
        ({"priority_fee_per_gas": 6, "max_fee_per_gas": 5}, False),
    ],
)
def test_a_policy_that_nodes_would_refuse_is_none(values: dict[str, Any], is_allowed: bool) -> None:
    if is_allowed:
        assert TransactionPolicy(**values).final_block(20) == 20 - TransactionPolicy(**values).confirmations + 1
    else:
        with pytest.raises(ValueError, match="A policy needs"):
            TransactionPolicy(**values)
