"""Endpoints in the metrics: each kind of failure, the lag, and another network."""

from __future__ import annotations

import logging
import time
from typing import Any, get_args

import pytest
from app.services import rpc, rpc_http
from app.services.rpc_failover import MAX_CHECK_PAUSE_S, EndpointStatus, FailoverProvider
from app.services.rpc_verdicts import FailureKind
from backend_environment import Time
from fastapi.testclient import TestClient
from monitored import EVERY, samples_of, value_of
from scripted_node import CHAIN_ID, HttpError, ScriptedNode, running
from web3 import Web3
from web3.providers import JSONBaseProvider
from web3.types import FilterParams

ACCOUNT = Web3.to_checksum_address("0x" + "c0" * 20)
DEAD = "http://127.0.0.1:1/v3/url-secret"
UP, FAILURES, LAG = "stakesim_endpoint_up", "stakesim_endpoint_failures_total", "stakesim_endpoint_head_lag_blocks"


def provider_of(w3: Web3) -> FailoverProvider:
    assert isinstance(w3.provider, FailoverProvider)
    return w3.provider


def connect(clock: Time, *urls: str, timeout: float = 5, chain_id: int | None = CHAIN_ID) -> Web3:
    options: dict[str, Any] = {"clock": lambda: clock.now, "sleep": clock.sleep, "jitter": lambda: 1.0}
    return Web3(FailoverProvider(urls, chain_id=chain_id, timeout=timeout, check_every=EVERY, **options), [])


def failed(status: EndpointStatus) -> dict[str, int]:
    return {kind: count for kind, count in status.failures.items() if count}


ANSWERS = {
    "http_status": HttpError("bad gateway", status=502),
    "rate_limited": HttpError("slow down", status=429),
    "refused": HttpError("your monthly quota is used up"),
    "error": HttpError("some words that nobody has foreseen"),
    "malformed": "no number",
    "too_large": "0x" + "0" * 1_000,
}
"""Answers to eth_getBalance, by the kind of failure that they are."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*ANSWERS, "connection", "timeout", "wrong_network", "lagging"])
def test_each_kind_of_failure_is_counted_for_its_endpoint(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, bad, good = Time(), ScriptedNode(head=100), ScriptedNode(head=103)
    good.answers["eth_getLogs"] = lambda _: []
    if kind in ANSWERS:
        bad.answers["eth_getBalance"] = lambda _: ANSWERS[kind]
    elif kind == "timeout":
        bad.answers["eth_getBalance"] = lambda _: time.sleep(2.5)
    elif kind == "wrong_network":
        bad.chain_id = 1
    if kind == "too_large":
        monkeypatch.setattr(rpc_http, "MAX_ANSWER_BYTES", 500)
    with running(bad, good):
        url = DEAD if kind == "connection" else bad.url
        w3 = connect(clock, url, good.url, timeout=2 if kind == "timeout" else 5)
        if kind == "lagging":
            w3.eth.get_logs(FilterParams(address=ACCOUNT, fromBlock=101, toBlock=103))
        else:
            assert rpc.balance(w3, ACCOUNT) == 103
        first, second = provider_of(w3).statuses()
    assert failed(first) == {kind: 1}
    assert failed(second) == {}
    assert first.answers == (kind in ("error", "lagging", "wrong_network")), "it answered, whatever it said"
    assert first.on_wrong_chain == (kind == "wrong_network")
    assert (second.answers, second.on_wrong_chain) == (True, False)


def test_each_kind_has_a_test() -> None:
    assert {*ANSWERS, "connection", "timeout", "wrong_network", "lagging"} == set(get_args(FailureKind))


@pytest.mark.slow
def test_the_metrics_number_the_endpoints_and_hide_their_urls(
    client: TestClient, nodes: list[ScriptedNode], clock: Time
) -> None:
    nodes[0].answers["eth_getBalance"] = lambda _: HttpError("slow down", status=429)
    text = client.get("/metrics").text
    assert "url-secret" not in text
    assert value_of(client, FAILURES, endpoint="1", kind="rate_limited") == 1
    assert value_of(client, FAILURES, endpoint="2", kind="rate_limited") == 0
    nodes[0].chain_id = 1
    clock.now += EVERY
    assert value_of(client, "stakesim_node_up") == 1
    wrong = [value_of(client, "stakesim_endpoint_wrong_network", endpoint=number) for number in "12"]
    assert wrong == [1, 0]


@pytest.mark.slow
def test_the_lag_of_an_endpoint_is_seen_and_ends(client: TestClient, nodes: list[ScriptedNode], clock: Time) -> None:
    client.get("/metrics")
    nodes[0].head = 91
    clock.now += EVERY
    client.get("/metrics")
    assert [value_of(client, LAG, endpoint=number) for number in "12"] == [9, 0]
    assert value_of(client, "stakesim_endpoint_max_head_lag_blocks") == 5
    nodes[0].head = 100
    clock.now += EVERY
    client.get("/metrics")
    assert value_of(client, LAG, endpoint="1") == 0


@pytest.mark.slow
def test_an_endpoint_that_fails_has_no_lag_and_comes_back(
    client: TestClient, nodes: list[ScriptedNode], clock: Time
) -> None:
    nodes[0].answers["eth_chainId"] = lambda _: HttpError("bad gateway", status=502)
    client.get("/metrics")
    assert [value_of(client, UP, endpoint=number) for number in "12"] == [0, 1]
    assert [sample.labels["endpoint"] for sample in samples_of(client) if sample.name == LAG] == ["2"]
    nodes[0].answers.clear()
    clock.now += 2 * EVERY
    client.get("/metrics")
    assert [value_of(client, UP, endpoint=number) for number in "12"] == [1, 1]


@pytest.mark.slow
def test_a_spare_endpoint_that_was_down_for_long_is_looked_at_again_within_two_minutes() -> None:
    clock, good, spare = Time(), ScriptedNode(), ScriptedNode()
    spare.answers["eth_chainId"] = lambda _: HttpError("bad gateway", status=502)
    with running(good, spare):
        w3 = connect(clock, good.url, spare.url)
        for _ in range(120):  # an hour
            rpc.balance(w3, ACCOUNT)
            clock.now += EVERY
        assert [status.answers for status in provider_of(w3).statuses()] == [True, False]
        spare.answers.clear()
        for _ in range(5):
            rpc.balance(w3, ACCOUNT)
            clock.now += EVERY
        assert [status.answers for status in provider_of(w3).statuses()] == [True, True]


# --------------------------------------------------------------------------------------- a head that is no block


def test_a_head_that_is_no_block_makes_no_other_endpoint_lag(caplog: pytest.LogCaptureFixture) -> None:
    clock, wrong, honest = Time(), ScriptedNode(head=100), ScriptedNode(head=100)
    wrong.answers["eth_blockNumber"] = lambda _: hex(10**9)
    wrong.answers["eth_getBalance"] = lambda _: "0xbad"
    with running(wrong, honest):
        w3 = connect(clock, wrong.url, honest.url)
        for _ in range(3):
            assert rpc.balance(w3, ACCOUNT) == 100, "the honest one answers"
            clock.now += EVERY + 1
        statuses = provider_of(w3).statuses()
        wrong.answers.clear()
        wrong.head = 101
        clock.now += MAX_CHECK_PAUSE_S + 1
        rpc.balance(w3, ACCOUNT)
        assert [status.lag for status in provider_of(w3).statuses()] == [0, 1], "it is compared again"
    assert statuses[0].failures["malformed"] >= 1
    assert statuses[1].lag == 0
    said = "endpoint 1 of 2 says that it is at block 1000000000, and does not have that block"
    assert any(said in record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)


def test_several_heads_that_are_no_blocks() -> None:
    clock, honest = Time(), ScriptedNode(head=100)
    liars = [ScriptedNode(head=100) for _ in range(2)]
    for number, liar in enumerate(liars):
        liar.answers["eth_blockNumber"] = lambda _, number=number: hex(10**9 + number)
    with running(honest, *liars):
        w3 = connect(clock, honest.url, *(liar.url for liar in liars))
        assert rpc.balance(w3, ACCOUNT) == 100
        assert provider_of(w3).statuses()[0].lag == 0


def test_an_endpoint_that_is_really_ahead_is_believed() -> None:
    clock, behind, ahead = Time(), ScriptedNode(head=90), ScriptedNode(head=100)
    with running(behind, ahead):
        w3 = connect(clock, behind.url, ahead.url)
        assert rpc.balance(w3, ACCOUNT) == 100
        assert [status.lag for status in provider_of(w3).statuses()] == [10, 0]


def test_a_single_endpoint_is_used_whatever_it_says() -> None:
    """There is nothing to compare it with."""
    clock, only = Time(), ScriptedNode(head=100)
    only.answers["eth_blockNumber"] = lambda _: hex(10**9)
    with running(only):
        assert rpc.balance(connect(clock, only.url), ACCOUNT) == 100


@pytest.mark.slow
def test_without_endpoints_there_are_no_such_metrics(client: TestClient, services: Any) -> None:
    """A provider of another kind, such as an engine in this process."""
    services.w3.provider = JSONBaseProvider()
    names = {sample.name for sample in samples_of(client)}
    assert not any(name.startswith("stakesim_endpoint") for name in names)
