"""The rules of a network are found out from its node, whatever the node is called."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime

import pytest
from stakesim.evm.anvil import start_anvil
from stakesim.evm.engines import open_engine
from stakesim.evm.rules import network_rules
from stakesim_adapter.rules_check import check_rules, judge_rules
from web3 import Web3
from web3.providers.base import BaseProvider

ZERO_WORD = "0x" + "00" * 32


@pytest.mark.parametrize(
    ("engine", "hardfork"),
    [
        ("py-evm", "prague"),
        *(
            pytest.param(f"anvil:{name}", name, marks=pytest.mark.slow, id=f"anvil-{name}")
            for name in ("cancun", "prague", "osaka")
        ),
    ],
)
def test_an_engine_has_the_rules_of_its_hard_fork(engine, hardfork):
    with closing(open_engine(engine)) as opened:
        rules = network_rules(opened.w3)
    assert rules is not None
    assert (rules.hardfork, rules.is_later, rules.next_at) == (hardfork, False, None)


def on(*answers: str, header: dict | None = None, config: dict | None = None) -> Web3:
    """A node that gives these results to calls, one after another, and an error to all further ones."""

    results = list(answers)

    class Node(BaseProvider):
        def make_request(self, method, params):
            fixed = {"eth_getBlockByNumber": header or {}, "eth_config": config}
            result = fixed[method] if method in fixed else results.pop(0) if results else None
            return {"result": result} if result is not None else {"error": {"code": -32000, "message": "no"}}

    return Web3(Node())


OSAKA = (ZERO_WORD, "0x" + "00" * 128, f"0x{255:064x}", ZERO_WORD)
"""What a node with Osaka's rules answers."""


def test_rules_after_all_that_are_known_fail_the_check():
    check = judge_rules(network_rules(on(*OSAKA, header={"blockAccessListHash": "0x" + "11" * 32})))
    assert not check.ok
    assert check.finding == "The network has rules that are later than Osaka's, which no engine here has."
    assert "--hardfork" in check.remedy


def test_a_planned_change_is_told_with_its_time():
    at = int(datetime(2026, 12, 16, 12, tzinfo=UTC).timestamp())
    check = judge_rules(network_rules(on(*OSAKA, config={"current": {}, "next": {"activationTime": at}})))
    assert check.ok
    assert check.finding.endswith(" Its rules change at 2026-12-16T12:00:00+00:00.")


def test_rules_before_those_that_the_contract_is_compiled_for_fail_the_check():
    """Before Cancun there was no TLOAD: the node refuses the first call, and answers the one with PUSH0."""
    check = judge_rules(network_rules(on("", ZERO_WORD)))
    assert not check.ok
    assert "older than Cancun's" in check.finding


def test_a_node_that_refuses_such_calls_is_not_taken_for_an_old_one():
    """Neither one that refuses all of them, nor one that begins to, as it limits requests."""
    for node in (on(), on(*OSAKA[:1])):
        check = judge_rules(network_rules(node))
        assert not check.ok
        assert check.finding.startswith("The node does not say what rules the network has")


def test_an_endpoint_that_does_not_answer_is_left_to_the_checks_of_the_endpoints():
    assert check_rules(["http://127.0.0.1:9/url-secret"]) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hardfork", "words"),
    [
        ("prague", "has the rules of Prague, as the engines that scenarios run on."),
        ("osaka", "a transaction may use at most 16,777,216 gas (EIP-7825)"),
    ],
)
def test_the_check_asks_the_first_endpoint_that_answers(hardfork, words):
    url, stop = start_anvil(hardfork=hardfork)
    try:
        check = check_rules(["http://127.0.0.1:9", url])
    finally:
        stop()
    assert check is not None
    assert check.ok
    assert words in check.finding
    assert ("--hardfork osaka" in check.finding) == (hardfork == "osaka")
