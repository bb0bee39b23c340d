"""A web3 provider between any service and its node that injects faults into requests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from web3.providers.base import BaseProvider
from web3.types import RPCEndpoint, RPCResponse

from stakesim.faults.events import EventSource, RandomEvents, RequestAddress, T
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
        may_last: Whether it may go on for many requests.
    """

    name: str
    row: int
    methods: Collection[str]
    action: Action
    may_last: bool = False


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


@dataclass
class _LastingFault:
    fault: Fault
    action: Callable[[str, Sequence[Any]], RPCResponse | None]
    requests_left: int


class FaultyProvider(BaseProvider):
    """Wraps a provider and injects faults.

    Args:
        node: The provider of the node.
        faults: Faults that can happen.
        events: Decides which of them happens when; by default none.
        before: Called with method and parameters before each request of the service.
        after: Called with method and parameters after each request, also after a failed one.
        mine: Mines a block, for faults that need one. By default the node is asked to, by `evm_mine`.

    Attributes:
        request_count: Requests of the service so far.
        address: Of the request in progress.
        injected: Faults so far, in order. A fault that lasts counts once.
        counts: How often each fault was injected, by name.
        received: Transactions that reached the node, by hash.
        receipts: First receipt that the node returned, by transaction hash.
    """

    def __init__(
        self,
        node: BaseProvider,
        faults: Sequence[Fault] = (),
        events: EventSource | None = None,
        *,
        before: Callable[[str, Sequence[Any]], None] | None = None,
        after: Callable[[str, Sequence[Any]], None] | None = None,
        mine: Callable[[], None] | None = None,
    ) -> None:
        super().__init__()
        self._node, self.events = node, events or RandomEvents()
        self._faults = {fault.name: fault for fault in faults}
        self._names_by_method: dict[str, list[str]] = {}
        self.before, self.after = before, after
        self.mine = mine or self._evm_mine
        self.request_count = 0
        self.address = RequestAddress("", 0)
        self.injected: list[InjectedFault] = []
        self.counts: Counter[str] = Counter()
        self.received: dict[str, SignedTransaction] = {}
        self.receipts: dict[str, RPCResponse] = {}
        self._lasting: list[_LastingFault] = []

    def stop(self) -> None:
        """Injects no more faults, and ends those that last."""
        self.events.quiet, self._lasting = True, []

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """Answers a request of the service, perhaps with a fault."""
        self.request_count += 1
        address = self.address = self.events.begin_request(method)
        if self.before:
            self.before(method, params)
        self.address = address  # a request of another worker may have come between
        try:
            return self._respond(method, params)
        finally:
            self.address = address
            if self.after:
                self.after(method, params)

    def is_connected(self, show_traceback: bool = False) -> bool:
        """Whether the node itself can be reached."""
        return self._node.is_connected(show_traceback)

    def choose(self, name: str, options: Sequence[T]) -> T:
        """Chooses one of the options for the fault in progress; the choice is recorded under this name."""
        return self.events.choose(name, options)

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
        for lasting in [lasting for lasting in self._lasting if method in lasting.fault.methods]:
            lasting.requests_left -= 1
            if not lasting.requests_left:
                self._lasting.remove(lasting)
            if (response := lasting.action(method, params)) is not None:
                return response
        for name in self.events.faults_of(self.address, self._names(method), self.counts):
            fault = self._faults[name]
            self.injected.append(InjectedFault(self.request_count, method, fault))
            self.counts[name] += 1
            response = self.events.attempt(self.address, name, partial(self._inject, fault, method, params))
            if response is not None:
                return response
            self.injected.pop()
            self.counts[name] -= 1
        return self.forward(method, params)

    def _inject(self, fault: Fault, method: str, params: Sequence[Any]) -> RPCResponse | None:
        requests_left, response = self.events.lasts() if fault.may_last else 0, None
        action = self.events.repeatable(partial(fault.action, self))
        try:
            response = fault.action(self, method, params)
        except BaseException:
            self._last(fault, action, requests_left)
            raise
        if response is not None:
            self._last(fault, action, requests_left)
        return response

    def _last(self, fault: Fault, action: Callable[..., RPCResponse | None], requests_left: int) -> None:
        if requests_left:
            self._lasting.append(_LastingFault(fault, action, requests_left))

    def _names(self, method: str) -> list[str]:
        """Names of the faults of this method."""
        if method not in self._names_by_method:
            self._names_by_method[method] = [fault.name for fault in self._faults.values() if method in fault.methods]
        return self._names_by_method[method]

    def _evm_mine(self) -> None:
        self._node.make_request(RPCEndpoint("evm_mine"), [])
