"""Row 35: errors inside of answers make the next endpoint be asked; networks and heads are compared while running."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import requests
from app.services import rpc
from app.services.rpc_errors import Refused
from app.services.rpc_failover import FailoverProvider
from app.services.rpc_refusals import RefusalKind
from app.services.rpc_types import NodeError
from backend_environment import Time
from eth_utils.crypto import keccak
from scripted_node import CHAIN_ID, HttpError, ScriptedNode, running
from web3 import Web3
from web3.exceptions import ContractLogicError

CONTRACT = "0x" + "c0" * 20
RAW = "0x02f86d"
RAW_HASH = "0x" + keccak(hexstr=RAW).hex()
SEND = "eth_sendRawTransaction"
EVERY = 30.0


def connect(clock: Time, *nodes: ScriptedNode, chain_id: int | None = None, **options: Any) -> Web3:
    provider = FailoverProvider(
        [node.url for node in nodes],
        chain_id=chain_id,
        timeout=5,
        check_every=EVERY,
        clock=lambda: clock.now,
        sleep=clock.sleep,
        jitter=lambda: 1.0,
        **options,
    )
    return Web3(provider, [])


def saying(error: HttpError) -> Callable[[Any], Any]:
    return lambda params: error


TROUBLE = [
    HttpError("header not found"),
    HttpError("missing trie node 5ac7c3 (path ) state 0x12 is not available"),
    HttpError("Internal error", -32603),
    HttpError("limit exceeded", -32005),
    HttpError("daily request count exceeded, request rate limited", -32005),
    HttpError("You have used up your monthly quota", -32001),
    HttpError("the method eth_call does not exist/is not available", -32601),
    HttpError("Method not enabled", -32604),
    HttpError("Unauthorized: invalid api key", -32000, 401),
    HttpError("payment required", -32000, 402),
    HttpError("project id does not have access", -32000, 403),
    HttpError("Internal error", -32603, 500),
    HttpError("some words that nobody has foreseen"),
]


@pytest.mark.parametrize("error", TROUBLE, ids=lambda error: f"{error.status} {error.fields['message']}"[:40])
def test_35_the_next_endpoint_is_asked(error: HttpError) -> None:
    clock, first, second = Time(), ScriptedNode(eth_call=saying(error)), ScriptedNode(eth_call=lambda _: "0x0c")
    with running(first, second):
        assert rpc.call(connect(clock, first, second), CONTRACT, b"") == b"\x0c"
    assert (first.asked, second.asked, clock.slept) == (["eth_call"], ["eth_call"], [])


@pytest.mark.parametrize("words", ["header not found", "Internal error", "limit exceeded", "method not supported"])
@pytest.mark.parametrize("status", [200, 500])
def test_35_a_revert_is_never_asked_again(words: str, status: int) -> None:
    """The words after "execution reverted" are the contract's."""
    revert = HttpError(f"execution reverted: {words}", 3, status, "0x08c379a0")
    clock, first, second = Time(), ScriptedNode(eth_call=saying(revert)), ScriptedNode(eth_call=lambda _: "0x0c")
    with running(first, second), pytest.raises(ContractLogicError, match=words):
        rpc.call(connect(clock, first, second), CONTRACT, b"")
    assert second.asked == []


def test_35_an_error_that_all_have_is_the_answer_at_once() -> None:
    clock = Time()
    nodes = [ScriptedNode(eth_call=saying(HttpError(f"missing trie node {number}"))) for number in (1, 2)]
    with running(*nodes), pytest.raises(NodeError, match="missing trie node 1"):
        rpc.call(connect(clock, *nodes), CONTRACT, b"")
    assert ([node.asked for node in nodes], clock.slept) == ([["eth_call"]] * 2, [])


@pytest.mark.parametrize(
    "words",
    [
        "tx fee (1.23 ether) exceeds the configured cap (1.00 ether)",
        "transaction type not supported: type 2 rejected, pool not yet in London",
        "txpool is full",
        "some words that nobody has foreseen",
    ],
)
def test_35_another_node_may_take_what_the_first_refused_for_its_own_reasons(words: str) -> None:
    clock, first, second = Time(), ScriptedNode(**{SEND: saying(HttpError(words))}), ScriptedNode()
    second.answers[SEND] = lambda params: RAW_HASH
    with running(first, second):
        rpc.send_raw(connect(clock, first, second), RAW)
        assert (first.asked, second.asked) == ([SEND], [SEND])
        second.answers[SEND] = saying(HttpError("nonce too low: next nonce 7, tx nonce 5"))
        with pytest.raises(Refused) as caught:
            rpc.send_raw(connect(clock, first, second), RAW)
    assert caught.value.kind is RefusalKind.NONCE_TOO_LOW


def test_35_an_endpoint_on_another_network_is_not_used(caplog: pytest.LogCaptureFixture) -> None:
    clock, wrong, right = Time(), ScriptedNode(chain_id=1), ScriptedNode(eth_call=lambda _: "0x0c")
    wrong.answers["eth_call"] = lambda _: "0xbad0"
    with running(wrong, right):
        w3 = connect(clock, wrong, right, chain_id=CHAIN_ID)
        for _ in range(5):
            assert rpc.call(w3, CONTRACT, b"") == b"\x0c"
        assert wrong.asked == ["eth_chainId"]
        errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
        problem = f"endpoint 1 of 2 is on chain 1, not on chain {CHAIN_ID}: it is not used"
        assert errors == [f"{problem}. Correct BLOCKCHAIN_RPC_URL."]
        wrong.chain_id = CHAIN_ID
        wrong.answers["eth_call"] = lambda _: "0x0c"
        right.answers["eth_call"] = saying(HttpError("Internal error", -32603, 500))
        clock.now += 2 * EVERY
        assert rpc.call(w3, CONTRACT, b"") == b"\x0c", "it is used again once it is on the right network"


def test_35_an_endpoint_that_changes_its_network_while_running(caplog: pytest.LogCaptureFixture) -> None:
    clock, node = Time(), ScriptedNode(eth_call=lambda _: "0x0c")
    with running(node):
        w3 = connect(clock, node, chain_id=CHAIN_ID)
        assert rpc.call(w3, CONTRACT, b"") == b"\x0c"
        node.chain_id = 1
        clock.now += EVERY + 1
        for _ in range(2):
            with pytest.raises(requests.ConnectionError, match="endpoint 1 of 1 is on chain 1"):
                rpc.call(w3, CONTRACT, b"")
        assert node.asked.count("eth_call") == 1
        node.chain_id = CHAIN_ID
        assert rpc.call(w3, CONTRACT, b"") == b"\x0c"
    assert sum(record.levelno == logging.ERROR for record in caplog.records) == 1


def test_35_a_lagging_endpoint_is_not_used_while_another_is_up() -> None:
    clock = Time()
    behind, ahead = ScriptedNode(head=94), ScriptedNode(head=100)
    for node, value in ((behind, "0x0b"), (ahead, "0x0a")):
        node.answers["eth_call"] = lambda _, value=value: value
    with running(behind, ahead):
        w3 = connect(clock, behind, ahead, chain_id=CHAIN_ID)
        for _ in range(3):
            assert rpc.call(w3, CONTRACT, b"") == b"\x0a"
        ahead.answers["eth_call"] = saying(HttpError("Internal error", -32603, 500))
        assert rpc.call(w3, CONTRACT, b"") == b"\x0b", "better than none"
        ahead.answers["eth_call"] = lambda _: "0x0a"
        clock.now += 2 * EVERY
        assert rpc.call(w3, CONTRACT, b"") == b"\x0a"
        behind.head = 106
        clock.now += 2 * EVERY
        assert rpc.call(w3, CONTRACT, b"") == b"\x0b", "now the other one lags"


def test_35_a_spare_endpoint_that_changes_its_network(caplog: pytest.LogCaptureFixture) -> None:
    """It is found while the first one works, and not used when that fails."""
    clock, first, spare = Time(), ScriptedNode(eth_call=lambda _: "0x0c"), ScriptedNode(eth_call=lambda _: "0xbad0")
    with running(first, spare):
        w3 = connect(clock, first, spare, chain_id=CHAIN_ID)
        rpc.call(w3, CONTRACT, b"")
        spare.chain_id = 1
        clock.now += EVERY + 1
        rpc.call(w3, CONTRACT, b"")
        assert [record.getMessage()[:27] for record in caplog.records if record.levelno == logging.ERROR] == [
            "endpoint 2 of 2 is on chain"
        ]
        first.answers["eth_call"] = saying(HttpError("bad gateway", -32603, 502))
        with pytest.raises(requests.RequestException):
            rpc.call(w3, CONTRACT, b"")
    assert "eth_call" not in spare.asked


def test_35_checks_cost_no_request_each_time() -> None:
    clock, first, second = Time(), ScriptedNode(eth_call=lambda _: "0x0c"), ScriptedNode(eth_call=lambda _: "0x0c")
    check = ["eth_chainId", "eth_blockNumber"]
    with running(first, second):
        w3 = connect(clock, first, second, chain_id=CHAIN_ID)
        for _ in range(50):
            rpc.call(w3, CONTRACT, b"")
            clock.now += EVERY / 100
        assert (first.asked, second.asked) == ([*check, *["eth_call"] * 50], check)
        clock.now += EVERY
        rpc.call(w3, CONTRACT, b"")
        assert (first.asked[52:], second.asked[2:]) == ([*check, "eth_call"], check)


def test_35_an_endpoint_is_checked_when_it_comes_back() -> None:
    clock, first, second = Time(), ScriptedNode(eth_call=lambda _: "0x0c"), ScriptedNode(eth_call=lambda _: "0x0c")
    with running(first, second):
        w3 = connect(clock, first, second, chain_id=CHAIN_ID)
        rpc.call(w3, CONTRACT, b"")
        first.answers["eth_call"] = saying(HttpError("bad gateway", -32603, 502))
        rpc.call(w3, CONTRACT, b"")
        first.chain_id, first.answers["eth_call"] = 1, lambda _: "0xbad0"
        second.answers["eth_call"] = saying(HttpError("bad gateway", -32603, 502))
        clock.now += 1
        with pytest.raises(requests.RequestException):
            rpc.call(w3, CONTRACT, b"")
    assert first.asked.count("eth_call") == 2, "it came back on another network"
