"""The check `rules` of `stakesim doctor`: what differs between the network and the engines that scenarios run on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from app.bootstrap.check import Check
from requests.exceptions import RequestException
from stakesim.evm.hardfork import DEFAULT_HARDFORK
from stakesim.evm.lean_web3 import lean_web3
from stakesim.evm.rules import NetworkRules, network_rules
from web3.exceptions import Web3Exception
from web3.providers import HTTPProvider

NAME = "rules"
TIMEOUT_S = 5


def check_rules(rpc_urls: Sequence[str]) -> Check | None:
    """Checks that scenarios can be run on the rules of the network, and says how these differ from the default ones.

    Args:
        rpc_urls: Endpoints of the network, of which the first one that answers is asked.

    Returns:
        None if none of them answers.
    """
    for url in rpc_urls:
        w3 = lean_web3(HTTPProvider(url, {"timeout": TIMEOUT_S}, exception_retry_configuration=None))
        try:
            return judge_rules(network_rules(w3))
        except (OSError, RequestException, Web3Exception, ValueError, KeyError, AttributeError):
            continue  # it does not answer, or is no node: the checks of the endpoints say so
    return None


def judge_rules(rules: NetworkRules | None) -> Check:
    """Returns the check of these rules."""
    if rules is None:
        finding = "The node does not say what rules the network has: it refuses calls that create a contract."
        return Check(NAME, False, finding, "Put an endpoint without this limit first in BLOCKCHAIN_RPC_URL.")
    if rules.hardfork is None:
        finding = "The network's rules are older than Cancun's, which the contract is compiled for."
        return Check(NAME, False, finding, "Correct BLOCKCHAIN_RPC_URL, or wait until the network is upgraded.")
    finding = f"The network has the rules of {rules.hardfork.capitalize()}{_comparison(rules)}.{_planned(rules)}"
    if rules.is_later:
        finding = (
            f"The network has rules that are later than {rules.hardfork.capitalize()}'s, which no engine here has."
            f"{_planned(rules)}"
        )
    remedy = "Update stakesim and anvil, and run the scenarios and `stakesim gas` on the network's rules (--hardfork)."
    return Check(NAME, not rules.is_later, finding, remedy)


def _comparison(rules: NetworkRules) -> str:
    changes = rules.changes(since=DEFAULT_HARDFORK)
    if not changes:
        return ", as the engines that scenarios run on"
    texts = ", ".join(f"{text} ({eip})" for eip, text in changes.items())
    return (
        f", the engines that scenarios run on those of {DEFAULT_HARDFORK.capitalize()}; what differs: {texts}. "
        f"`stakesim run --hardfork {rules.hardfork}` runs them on the network's"
    )


def _planned(rules: NetworkRules) -> str:
    if rules.next_at is None:
        return ""
    return f" Its rules change at {datetime.fromtimestamp(rules.next_at, UTC).isoformat()}."
