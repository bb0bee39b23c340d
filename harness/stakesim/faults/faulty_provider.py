"""A web3 provider between any service and its node that injects faults into requests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from web3.providers.base import BaseProvider
from web3.types import RPCEndpoint, RPCResponse

from stakesim.faults.signed_transaction import SignedTransaction

SEND = "eth_sendRawTransaction"
RECEIPT = "eth_getTransactionReceipt"
NONCE = "eth_getTransactionCount"
HEAD = "eth_blockNumber"
BLOCK = "eth_getBlockByNumber"
LOGS = "eth_getLogs"
ESTIMATE = "eth_estimateGas"
CALL = "eth_call"

Action = Callable[["FaultyProvider", str, Sequence[Any]], RPCResponse | None]
"""Takes the provider, the JSON-RPC method and its parameters. Returns the response in the node's place, or raises what
a provider raises. Returns None, without side effects, if the fault does not apply to this request now."""


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong with a request.

    Attributes:
        name: Unique.
        row: Number in `stakesim.faults.catalogue`.
        methods: JSON-RPC methods that it applies to.
        action: What happens instead of the request.
    """

    name: str
    row: int
    methods: Collection[str]
    action: Action


@dataclass(frozen=True)
class InjectedFault:
    """A fault that happened to a request.

    Attributes:
        request: Number of the request, from 1.
        method: JSON-RPC method of the request.
        fault: What happened.
    """

    request: int
    method: str
    fault: Fault


class FaultyProvider(BaseProvider):
    """Wraps a provider and injects faults.

    Args:
        node: The provider of the node.
        faults: Faults to choose from. Of those that apply to a request, the one injected least often comes first.
        rng: Decides whether a fault happens, and which; `default_rng(0)` by default.
        rate: Probability of a fault per request.
        before: Called with method and parameters before each request of the service.
        after: Called with method and parameters after each request, also after a failed one.
        mine: Mines a block, for faults that need one. By default the node is asked to, by `evm_mine`.

    Attributes:
        request_count: Requests of the service so far.
        injected: Faults so far, in order.
        received: Transactions that reached the node, by hash.
        receipts: First receipt that the node returned, by transaction hash.
    """

    def __init__(
        self,
        node: BaseProvider,
        faults: Sequence[Fault] = (),
        rng: np.random.Generator | None = None,
        *,
        rate: float = 0.0,
        before: Callable[[str, Sequence[Any]], None] | None = None,
        after: Callable[[str, Sequence[Any]], None] | None = None,
        mine: Callable[[], None] | None = None,
    ) -> None:
        super().__init__()
        self._node, self._faults = node, tuple(faults)
        self.rng, self.rate = rng or np.random.default_rng(0), rate
        self.before, self.after = before, after
        self.mine = mine or self._evm_mine
        self.request_count = 0
        self.injected: list[InjectedFault] = []
        self.received: dict[str, SignedTransaction] = {}
        self.receipts: dict[str, RPCResponse] = {}
        self._forced: list[Fault] = []

    @property
    def counts(self) -> Counter[str]:
        """How often each fault was injected, by name."""
        return Counter(injected.fault.name for injected in self.injected)

    def force(self, *names: str) -> None:
        """Injects each of these faults once, into the first request that it applies to.

        Raises:
            KeyError: This provider has no fault of that name.
        """
        by_name = {fault.name: fault for fault in self._faults}
        self._forced += [by_name[name] for name in names]

    def stop(self) -> None:
        """Injects no more faults."""
        self.rate, self._forced = 0.0, []

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """Answers a request of the service, perhaps with a fault."""
        self.request_count += 1
        if self.before:
            self.before(method, params)
        try:
            return self._respond(method, params)
        finally:
            if self.after:
                self.after(method, params)

    def is_connected(self, show_traceback: bool = False) -> bool:
        """Whether the node itself can be reached."""
        return self._node.is_connected(show_traceback)

    def forward(self, method: str, params: Sequence[Any]) -> RPCResponse:
        """Returns the node's own response. Records transactions sent to it and receipts that it returns."""
        if method == SEND:
            transaction = SignedTransaction.decode(str(params[0]))
            self.received.setdefault(transaction.hash, transaction)
        response = self._node.make_request(RPCEndpoint(method), params)
        if method == RECEIPT and response.get("result"):
            self.receipts.setdefault(str(params[0]), response)
        return response

    def head(self) -> int:
        """Number of the node's latest block."""
        return int(self.forward(HEAD, [])["result"], 16)

    def older_attempts(self, transaction: SignedTransaction) -> list[SignedTransaction]:
        """Other transactions with this sender and nonce that reached the node, oldest first."""
        slot = (transaction.sender, transaction.nonce)
        return [
            other
            for other in self.received.values()
            if (other.sender, other.nonce) == slot and other.hash != transaction.hash
        ]

    def _respond(self, method: str, params: Sequence[Any]) -> RPCResponse:
        for fault in self._candidates(method):
            forced = self._forced
            self._forced = [other for other in forced if other is not fault]  # before the action, as it may raise
            self.injected.append(InjectedFault(self.request_count, method, fault))
            response = fault.action(self, method, params)
            if response is not None:
                return response
            self._forced = forced
            self.injected.pop()
        return self.forward(method, params)

    def _candidates(self, method: str) -> list[Fault]:
        """Faults to try in this order until one applies: the forced ones, else those injected least often first."""
        forced = [fault for fault in self._forced if method in fault.methods]
        if forced:
            return forced
        if not self.rate or self.rng.random() >= self.rate:
            return []
        matching = [fault for fault in self._faults if method in fault.methods]
        counts = self.counts
        return sorted((matching[i] for i in self.rng.permutation(len(matching))), key=lambda fault: counts[fault.name])

    def _evm_mine(self) -> None:
        self._node.make_request(RPCEndpoint("evm_mine"), [])
