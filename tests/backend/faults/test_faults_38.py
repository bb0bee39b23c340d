"""Row 38: nodes that allow few blocks in one answer, and nodes that lack the blocks asked for."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from app.core.errors import ChainUnavailable
from app.db.tables import chain_cursors
from app.services import rpc
from app.services.log_reader import GROW_AFTER, LogReader
from app.services.rpc_failover import FailoverProvider
from app.services.rpc_types import NodeError
from fault_environment import FaultEnvironment, Forward, refusal, result
from scripted_node import HttpError, ScriptedNode, running
from sqlalchemy import select
from web3 import Web3

CONTRACT = Web3.to_checksum_address("0x" + "c0" * 20)
HEAD = 2_000
WORDS = [
    HttpError("query returned more than 10000 results", -32005),
    HttpError("exceed maximum block range: {limit}"),
    HttpError("block range is too wide", -32600),
    HttpError("eth_getLogs is limited to a {limit} range", -32614, 400),
    HttpError("Requested range exceeds maximum RPC range limit", -32005),
    HttpError("some words that nobody has foreseen"),
]


def log_at(block: int, **fields: Any) -> dict[str, Any]:
    return {
        "address": CONTRACT,
        "topics": [],
        "data": "0x",
        "blockNumber": hex(block),
        "blockHash": "0x" + f"{block:064x}",
        "transactionHash": "0x" + f"{block:064x}",
    } | fields


class LogNode(ScriptedNode):
    """A node with a log in each block, which allows so many blocks at once.

    Attributes:
        ranges: How many blocks each request asked for.
    """

    def __init__(self, limit: int, refuse: HttpError = WORDS[0], head: int = HEAD) -> None:
        super().__init__(head=head)
        self.limit, self.refuse, self.ranges = limit, refuse, list[int]()
        self.answers["eth_getLogs"] = self._logs

    def _logs(self, params: Any) -> Any:
        first, last = int(params[0]["fromBlock"], 16), int(params[0]["toBlock"], 16)
        self.ranges.append(last - first + 1)
        if last - first + 1 > self.limit:
            return self.refuse
        return [log_at(block) for block in range(first, min(last, self.head) + 1)]


def connect(*nodes: ScriptedNode) -> Web3:
    return Web3(FailoverProvider([node.url for node in nodes], timeout=5), [])


@pytest.mark.slow
@pytest.mark.parametrize("limit", [1, 5, 50, 1_000])
def test_38_the_range_is_halved_until_it_is_answered(limit: int) -> None:
    node = LogNode(limit)
    with running(node):
        reader = LogReader(connect(node), CONTRACT)
        assert [log.block_number for log in reader.read(100, 400)] == list(range(100, 401))
        refused = [size for size in node.ranges if size > limit]
        assert len(refused) <= 9 + len(node.ranges) // GROW_AFTER
        node.ranges.clear()
        assert [log.block_number for log in reader.read(401, 410)] == list(range(401, 411))
    assert max(node.ranges) <= max(2 * limit, 10), "it remembers what worked"
    assert sum(size > limit for size in node.ranges) <= 1


@pytest.mark.parametrize("refuse", WORDS, ids=lambda error: error.fields["message"])
def test_38_in_the_words_of_several_providers(refuse: HttpError) -> None:
    node = LogNode(10, refuse)
    with running(node):
        assert len(LogReader(connect(node), CONTRACT).read(0, 99)) == 100


def test_38_a_node_that_refuses_even_one_block() -> None:
    node = LogNode(0)
    with running(node), pytest.raises(NodeError, match="more than 10000 results"):
        LogReader(connect(node), CONTRACT).read(0, 99)


@pytest.mark.slow
def test_38_trouble_is_not_taken_for_a_refusal() -> None:
    """It would be asked once for each halving; but the next round asks for fewer blocks."""
    node = LogNode(10, HttpError("Internal error", -32603))
    with running(node):
        reader = LogReader(connect(node), CONTRACT)
        for _ in range(4):
            with pytest.raises(NodeError, match="Internal error"):
                reader.read(0, 99)
        assert len(reader.read(0, 99)) == 100
    assert node.ranges[:5] == [100, 50, 25, 12, 6]


@pytest.mark.slow
def test_38_a_larger_range_is_tried_now_and_then() -> None:
    node = LogNode(10)
    with running(node):
        reader = LogReader(connect(node), CONTRACT)
        reader.read(0, 99)
        node.limit = 1_000
        reader.read(100, 2_000)
    assert max(node.ranges[-5:]) > 50


def test_38_a_dropped_log_does_not_count() -> None:
    node = ScriptedNode(head=HEAD, eth_getLogs=lambda _: [log_at(5), log_at(6, removed=True)])
    with running(node):
        assert [log.block_number for log in LogReader(connect(node), CONTRACT).read(0, 9)] == [5]


def test_38_logs_are_not_asked_of_an_endpoint_that_lacks_the_blocks() -> None:
    """The head is from the first endpoint, which then fails; the second one lags and would give an empty list."""
    first, behind = LogNode(HEAD), LogNode(HEAD, head=1_990)
    first.answers["eth_getLogs"] = lambda _: HttpError("bad gateway", -32603, 502)
    with running(first, behind):
        w3 = Web3(FailoverProvider([first.url, behind.url], timeout=5, give_up_after=0), [])
        reader = LogReader(w3, CONTRACT)
        with pytest.raises(requests.RequestException):
            reader.read(1_985, HEAD)
        assert behind.ranges == []
        behind.head = HEAD
        assert len(reader.read(1_985, HEAD)) == 16
    assert behind.ranges == [16]


def test_38_a_node_before_the_last_block() -> None:
    node = LogNode(HEAD, head=10)
    with running(node), pytest.raises(NodeError, match="it is at block 10, before block 11"):
        LogReader(connect(node), CONTRACT).read(0, 11)
    assert node.ranges == []


@pytest.mark.slow
def test_38_the_cursor_waits_for_a_node_that_has_the_blocks(environment: FaultEnvironment) -> None:
    """A load balancer shows the head of one node and the logs of another, which is behind."""
    run = environment.open_run()
    services = environment.services
    services.reconciler.run_full()
    host = environment.engine.accounts[1]
    onchain_run_id = services.runs.get(run).blockchain_event_run_id
    environment.send_as(1, "cancelEvent", onchain_run_id)
    environment.mine(4)
    heads = list[int]()
    behind = environment.w3.eth.block_number - 4

    def lag(method: str, params: Any, forward: Forward) -> Any:
        if method == "eth_blockNumber":
            heads.append(behind)
            return forward() if len(heads) <= 1 else result(hex(behind))
        return result([]) if method == "eth_getLogs" else forward()

    before = _cursor(environment)
    environment.connection.fault = lag
    report = services.reconciler.run_once()
    assert f"before block {environment.w3.eth.block_number - 2}" in f"{report.problems} {report.failure}"
    assert _cursor(environment) == before
    environment.connection.fault = None
    services.reconciler.run_once()
    assert services.runs.get(run).status == "cancelled"
    assert host.address


@pytest.mark.slow
def test_38_the_reconciler_follows_a_node_that_allows_five_blocks(environment: FaultEnvironment) -> None:
    run = environment.open_run()
    services = environment.services
    services.reconciler.run_full()
    environment.send_as(1, "cancelEvent", services.runs.get(run).blockchain_event_run_id)
    environment.mine(40)

    def allow_five(method: str, params: Any, forward: Forward) -> Any:
        if method != "eth_getLogs" or int(params[0]["toBlock"], 16) - int(params[0]["fromBlock"], 16) < 5:
            return forward()
        return refusal("eth_getLogs is limited to a 5 range")

    environment.connection.fault = allow_five
    report = services.reconciler.run_once()
    assert (report.problems, report.refreshed) == ([], [run])
    assert services.runs.get(run).status == "cancelled"


@pytest.mark.slow
def test_38_no_events_of_a_node_in_trouble(environment: FaultEnvironment) -> None:
    environment.connection.fault = lambda method, params, forward: refusal("Internal error", -32603)
    with pytest.raises(ChainUnavailable, match="the node says: Internal error"):
        environment.services.chain.events_between(0, 1)
    assert rpc.block_number(environment.w3) > 0


def _cursor(environment: FaultEnvironment) -> int | None:
    with environment.database.transaction() as connection:
        return connection.execute(select(chain_cursors.c.block_number)).scalar_one_or_none()
