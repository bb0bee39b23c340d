"""Which hard fork's rules a node has: found out by calls that change nothing, as names and versions of nodes vary.

The calls are `eth_call` on the latest block, which every node answers, also those of providers that offer little else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, get_args

from web3 import Web3
from web3.types import RPCEndpoint

from stakesim.evm.chain_spec import TRANSACTION_GAS_CAP
from stakesim.evm.hardfork import DEFAULT_HARDFORK, Hardfork


class _Probe(NamedTuple):
    """A call that gives `answer` under the rules of one hard fork and all later ones, and under no earlier ones."""

    request: Mapping[str, str]
    answer: str


def _init_code(*, pushes_word: str, answer: int) -> _Probe:
    """A call without a recipient, which returns the word that these instructions leave on the stack."""
    return _Probe({"data": f"0x{pushes_word}5f5260205ff3"}, f"0x{answer:064x}")


_CONTROL = _init_code(pushes_word="5f", answer=0)
"""PUSH0, which has been there since Shanghai. A node that does not answer it does not answer the others either."""
_PROBES: Mapping[Hardfork, _Probe] = {
    "cancun": _init_code(pushes_word="5f5c", answer=0),  # TLOAD of slot 0
    "prague": _Probe({"to": f"0x{0x0B:040x}", "data": "0x" + "00" * 256}, "0x" + "00" * 128),  # 0 + 0 on BLS12-381
    "osaka": _init_code(pushes_word="60011e", answer=255),  # CLZ of 1
}
_LATER_FIELD = "blockAccessListHash"
"""Field of a block's header since Amsterdam (EIP-7928)."""

CHANGES: Mapping[Hardfork, Mapping[str, str]] = {
    "prague": {
        "EIP-7623": "transactions with much data cost more",
        "EIP-7702": "an account may delegate to a contract, so that it runs code when it is paid",
    },
    "osaka": {
        "EIP-7825": f"a transaction may use at most {TRANSACTION_GAS_CAP:,} gas",
        "EIP-7823 and EIP-7883": "MODEXP takes less, and costs more",
        "EIP-7939": "the instruction CLZ",
        "EIP-7951": "the precompile P256VERIFY",
    },
}
"""What a hard fork changed for contracts and transactions, by proposal. What it changed for blobs is left out."""


class NetworkRules(NamedTuple):
    """The rules of a network.

    Attributes:
        hardfork: Of the hard forks known here, the latest whose rules it has; None if it has those of none.
        is_later: Whether it has the rules of a hard fork after all of these.
        next_at: When its rules will change, in seconds since 1970; None if nothing is planned, or its node can't say.
    """

    hardfork: Hardfork | None
    is_later: bool
    next_at: int | None

    def changes(self, since: Hardfork = DEFAULT_HARDFORK) -> dict[str, str]:
        """Returns how these rules differ from those of a hard fork, by proposal; empty if they do not.

        Args:
            since: The hard fork to compare with.
        """
        order: tuple[Hardfork, ...] = get_args(Hardfork)
        own = -1 if self.hardfork is None else order.index(self.hardfork)
        first, last = sorted((own, order.index(since)))
        between = (CHANGES.get(hardfork, {}) for hardfork in order[first + 1 : last + 1])
        return {proposal: text for changes in between for proposal, text in changes.items()}


def network_rules(w3: Web3) -> NetworkRules | None:
    """Finds out the rules of a network.

    Args:
        w3: A client of one of its nodes.

    Returns:
        None if the node does not answer such calls, or not all the time, so that nothing can be found out.

    Raises:
        Exception: The node can't be reached, or what answers is no node: whatever the provider of `w3` raises.
    """
    hardfork: Hardfork | None = None
    for each, probe in _PROBES.items():
        if not _answers(w3, probe):
            break
        hardfork = each
    if not _answers(w3, _CONTROL):  # last, so that a node that began to refuse requests is not taken for an old one
        return None
    header = _request(w3, "eth_getBlockByNumber", "latest", False) or {}
    return NetworkRules(hardfork, bool(header.get(_LATER_FIELD)), _next_change(w3))


def _answers(w3: Web3, probe: _Probe) -> bool:
    return bool(_request(w3, "eth_call", dict(probe.request), "latest") == probe.answer)


def _next_change(w3: Web3) -> int | None:
    """When the rules will change, by `eth_config` (EIP-7910). Many nodes and providers do not have it."""
    config = _request(w3, "eth_config")
    planned = config.get("next") if isinstance(config, dict) else None
    return int(str(planned["activationTime"]), 0) if planned else None


def _request(w3: Web3, method: str, *params: Any) -> Any:
    """Returns the node's result without web3's formatting; None if it answers with an error."""
    return w3.provider.make_request(RPCEndpoint(method), list(params)).get("result")
