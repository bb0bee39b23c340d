"""Row 40: nodes that estimate on the latest block only."""

from __future__ import annotations

from typing import Any

import pytest
from app.services import rpc
from app.services.rpc_errors import Refused
from app.services.rpc_refusals import RefusalKind
from app.services.rpc_types import NodeError
from fault_environment import FaultEnvironment, Forward, refusal
from web3 import Web3
from web3.exceptions import ContractLogicError
from web3.providers import BaseProvider

CONTRACT = "0x" + "c0" * 20
WITHOUT_PENDING = [
    "pending state is not available",
    "pending block is not available",
    "invalid block tag: pending",
    'unsupported block tag "pending"',
]


class Node(BaseProvider):
    """A node that answers to an estimate on the pending block with an error, and to one on the latest with a result.

    Attributes:
        asked: The blocks of the requests.
    """

    def __init__(self, pending: str | None, latest: str | None = None) -> None:
        super().__init__()
        self.errors, self.asked = {"pending": pending, "latest": latest}, list[str]()

    def make_request(self, method: Any, params: Any) -> Any:
        block = params[1]
        self.asked.append(block)
        words = self.errors[block]
        answer: Any = {"result": "0x5208"} if words is None else {"error": {"code": -32000, "message": words}}
        return {"jsonrpc": "2.0", "id": 1, **answer}


def estimate(w3: Web3) -> int:
    return rpc.estimate_gas(w3, CONTRACT, b"", "pending")


@pytest.mark.parametrize("words", WITHOUT_PENDING)
def test_40_a_node_without_a_pending_block(words: str) -> None:
    """It is asked for the latest block from then on at once."""
    node = Node(words)
    w3 = Web3(node, [])
    assert [estimate(w3) for _ in range(3)] == [21_000] * 3
    assert node.asked == ["pending", "latest", "latest", "latest"]
    other = Node(None)
    assert estimate(Web3(other, [])) == 21_000
    assert other.asked == ["pending"], "another connection has it"


def test_40_trouble_with_the_pending_block_is_not_remembered() -> None:
    node = Node("header not found")
    w3 = Web3(node, [])
    assert [estimate(w3), estimate(w3)] == [21_000, 21_000]
    assert node.asked == ["pending", "latest", "pending", "latest"]


@pytest.mark.parametrize("kind", [RefusalKind.NO_FUNDS, RefusalKind.GAS_LIMIT])
def test_40_a_refusal_is_an_answer(kind: RefusalKind) -> None:
    words = {RefusalKind.NO_FUNDS: "insufficient funds for transfer", RefusalKind.GAS_LIMIT: "gas limit is too high"}
    node = Node(words[kind])
    with pytest.raises(Refused) as caught:
        estimate(Web3(node, []))
    assert (caught.value.kind, node.asked) == (kind, ["pending"])


def test_40_a_revert_is_an_answer() -> None:
    node = Node("execution reverted: pending state is not available")
    with pytest.raises(ContractLogicError):
        estimate(Web3(node, []))
    assert node.asked == ["pending"]


def test_40_a_node_that_estimates_nothing() -> None:
    """The error of the latest block is the answer, and "pending" is not given up."""
    node = Node("pending state is not available", "Internal error")
    w3 = Web3(node, [])
    for _ in range(2):
        with pytest.raises(NodeError, match="Internal error") as caught:
            estimate(w3)
        assert not isinstance(caught.value, Refused)
    assert node.asked == ["pending", "latest"] * 2
    node.errors["latest"] = "some words that nobody has foreseen"
    with pytest.raises(Refused) as refused:
        estimate(w3)
    assert refused.value.kind is None


@pytest.mark.slow
def test_40_an_operation_on_a_node_without_a_pending_block(environment: FaultEnvironment) -> None:
    def without_pending(method: str, params: Any, forward: Forward) -> Any:
        is_pending = method == "eth_estimateGas" and params[1] == "pending"
        return refusal("pending state is not available") if is_pending else forward()

    environment.connection.fault = without_pending
    operation = environment.settle(environment.prepare_run())
    assert operation.state == "confirmed"
    environment.check(runs=1)
