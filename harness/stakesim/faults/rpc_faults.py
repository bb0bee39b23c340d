"""A web3 provider between any service and its node that injects faults of networks and nodes into requests.

A fault is real where it can be: a lost response was sent, "already known" and "nonce too low" are the node's own words,
an old block or nonce is the node's answer for an older block. Rows are those of `stakesim.faults.catalogue`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

import numpy as np
import requests
import rlp  # type: ignore[import-untyped]
from eth_account import Account
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from eth_utils.crypto import keccak
from hexbytes import HexBytes
from web3.providers.base import BaseProvider
from web3.types import RPCEndpoint, RPCResponse

SEND = "eth_sendRawTransaction"
RECEIPT = "eth_getTransactionReceipt"
NONCE = "eth_getTransactionCount"
HEAD = "eth_blockNumber"
BLOCK = "eth_getBlockByNumber"
LOGS = "eth_getLogs"
ESTIMATE = "eth_estimateGas"
CALL = "eth_call"
ANY = (SEND, RECEIPT, NONCE, HEAD, BLOCK, LOGS, ESTIMATE, CALL)

WANTED_BUMP = 30
"""Percent by which a fussy node wants both fees raised before it takes a replacement."""
_FEES = ("maxFeePerGas", "maxPriorityFeePerGas")
_LAST_TYPE = 0x7F
"""First byte of a transaction, where it is a type and not the start of an RLP list (EIP-2718)."""

Act = Callable[["FaultyProvider", str, Sequence[Any]], RPCResponse | None]


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong with a request.

    Attributes:
        row: In the catalogue of faults.
        methods: JSON-RPC methods that it applies to.
        act: Answers in the node's place, or raises what a provider raises. None: it can't happen to this request now,
            and nothing was done.
    """

    name: str
    row: int
    methods: Collection[str]
    act: Act


@dataclass(frozen=True)
class Arrival:
    """A raw transaction that reached the node.

    Attributes:
        max_fee: Wei per gas; the gas price of a legacy transaction.
        tip: Wei per gas; the gas price of a legacy transaction.
        call: Number of the request.
    """

    hash: str
    raw: str
    sender: str
    nonce: int
    max_fee: int
    tip: int
    call: int


@dataclass(frozen=True)
class Injected:
    """A fault that happened to a request. call: number of the request; the first is 1."""

    call: int
    method: str
    fault: Fault


class FaultyProvider(BaseProvider):
    """Wraps a provider and injects faults.

    Args:
        node: The provider of the node.
        faults: Those to choose from; chosen is what applies to the request and happened least so far.
        rng: Decides whether and which; `default_rng(0)` if left out.
        rate: Probability of a fault in a request.
        before: Called with method and parameters before every request of the service.
        after: Called with the same after every request, also after one that failed.
        mine: Mines a block, for faults that need one; asks the node to if left out.
    """

    def __init__(
        self,
        node: BaseProvider,
        faults: Sequence[Fault] = (),
        rng: np.random.Generator | None = None,
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
        self.calls = 0
        self.injected: list[Injected] = []
        self.arrivals: dict[str, Arrival] = {}
        self.receipts: dict[str, RPCResponse] = {}
        self._due: list[Fault] = []

    @property
    def counts(self) -> Counter[str]:
        """How often each fault was injected, by name."""
        return Counter(one.fault.name for one in self.injected)

    def force(self, *names: str) -> None:
        """Injects each of these faults once, into the first request that it can happen to.

        Raises:
            KeyError: There is no fault of that name.
        """
        self._due += [BY_NAME[name] for name in names]

    def quiet(self) -> None:
        """Injects nothing from now on."""
        self.rate, self._due = 0.0, []

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        self.calls += 1
        if self.before:
            self.before(method, params)
        try:
            return self._answer(method, params)
        finally:
            if self.after:
                self.after(method, params)

    def is_connected(self, show_traceback: bool = False) -> bool:
        return self._node.is_connected(show_traceback)

    def forward(self, method: str, params: Sequence[Any]) -> RPCResponse:
        """The node's answer. Notes transactions that it is sent and receipts that it returns."""
        if method == SEND:
            arrival = _arrival(str(params[0]), self.calls)
            self.arrivals.setdefault(arrival.hash, arrival)
        answer = self._node.make_request(RPCEndpoint(method), params)
        if method == RECEIPT and answer.get("result"):
            self.receipts.setdefault(str(params[0]), answer)
        return answer

    def head(self) -> int:
        """The node's latest block number."""
        return int(self.forward(HEAD, [])["result"], 16)

    def rivals(self, raw: str) -> list[Arrival]:
        """Transactions with the same sender and nonce that reached the node before, oldest first."""
        new = _arrival(raw, 0)
        known = self.arrivals.values()
        return [a for a in known if (a.sender, a.nonce) == (new.sender, new.nonce) and a.hash != new.hash]

    def _answer(self, method: str, params: Sequence[Any]) -> RPCResponse:
        for fault in self._chosen(method):
            due = self._due
            self._due = [other for other in due if other is not fault]  # before it happens, as it may raise
            self.injected.append(Injected(self.calls, method, fault))
            answer = fault.act(self, method, params)
            if answer is not None:
                return answer
            self._due = due
            self.injected.pop()
        return self.forward(method, params)

    def _chosen(self, method: str) -> list[Fault]:
        """Faults to try in this order until one can happen: those that are due, else the rarest first."""
        due = [fault for fault in self._due if method in fault.methods]
        if due:
            return due
        if not self.rate or self.rng.random() >= self.rate:
            return []
        possible = [fault for fault in self._faults if method in fault.methods]
        counts = self.counts
        return sorted((possible[i] for i in self.rng.permutation(len(possible))), key=lambda fault: counts[fault.name])

    def _evm_mine(self) -> None:
        self._node.make_request(RPCEndpoint("evm_mine"), [])


class RawTransaction(NamedTuple):
    """Fields of a signed transaction of any type. max_fee, tip: wei per gas."""

    nonce: int
    max_fee: int
    tip: int
    data: bytes


def decode_raw(raw: str) -> RawTransaction:
    """Decodes a signed transaction, 0x-prefixed hex."""
    encoded = HexBytes(raw)
    if encoded[0] > _LAST_TYPE:
        nonce, gas_price, _, _, _, data, *_ = rlp.decode(bytes(encoded))
        price = int.from_bytes(gas_price, "big")
        return RawTransaction(int.from_bytes(nonce, "big"), price, price, data)
    fields = TypedTransaction.from_bytes(encoded).as_dict()
    max_fee, tip = (int(fields[name] if name in fields else fields["gasPrice"]) for name in _FEES)
    return RawTransaction(fields["nonce"], max_fee, tip, bytes(fields["data"]))


def _arrival(raw: str, call: int) -> Arrival:
    fields = decode_raw(raw)
    return Arrival(
        hash=HexBytes(keccak(HexBytes(raw))).to_0x_hex(),
        raw=raw,
        sender=Account.recover_transaction(HexBytes(raw)),
        nonce=fields.nonce,
        max_fee=fields.max_fee,
        tip=fields.tip,
        call=call,
    )


# ------------------------------------------------------------------------------------------------- requests and answers


def _result(value: Any) -> RPCResponse:
    return {"jsonrpc": "2.0", "id": 0, "result": value}


def _error(code: int, message: str) -> RPCResponse:
    return {"jsonrpc": "2.0", "id": 0, "error": {"code": code, "message": message}}


def _http(status: int, reason: str) -> Callable[[], NoReturn]:
    """As `raise_for_status` does."""

    def fail() -> NoReturn:
        response = requests.Response()
        response.status_code, response.reason = status, reason
        raise requests.HTTPError(f"{status} Server Error: {reason}", response=response)

    return fail


def _refused() -> NoReturn:
    raise requests.ConnectionError("Failed to establish a new connection: [Errno 111] Connection refused")


def _reset() -> NoReturn:
    raise requests.ConnectionError(
        "Connection aborted.", ConnectionResetError(104, "Connection reset by peer")
    ) from None


def _silent() -> NoReturn:
    raise requests.ReadTimeout("Read timed out. (read timeout=10)")


def _unreached(fail: Callable[[], NoReturn]) -> Act:
    """The node never saw the request."""

    def act(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse:
        fail()

    return act


def _unheard(fail: Callable[[], NoReturn]) -> Act:
    """The node did what it was asked, its answer was lost."""

    def act(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse:
        provider.forward(method, params)
        fail()

    return act


def _told(code: int, *messages: str) -> Act:
    """The node refuses, in one of these ways."""

    def act(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse:
        return _error(code, messages[int(provider.rng.integers(len(messages)))])

    return act


def _took_but_told(code: int, *messages: str) -> Act:
    """The node does what it was asked, and says something else."""
    say = _told(code, *messages)

    def act(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
        provider.forward(method, params)
        return say(provider, method, params)

    return act


# ------------------------------------------------------------------------------------------------------------- sending


def _sent_twice(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
    provider.forward(method, params)
    answer = provider.forward(method, params)
    return answer if "error" in answer else None


def _sent_twice_to_geth(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
    return _sent_twice(provider, method, params) and _error(-32000, "already known")


def _claims_to_know(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
    """It once had it, and dropped it."""
    return _error(-32000, "already known")


def _swallowed(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
    """The node takes it and loses it: it never gets to anybody who mines."""
    return _result(_arrival(str(params[0]), 0).hash)


def _mined_then_sent(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
    provider.forward(method, params)
    provider.mine()
    answer = provider.forward(method, params)
    return answer if "error" in answer else None


def _rival_mined(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
    """An older attempt gets mined just before this one arrives."""
    older = provider.rivals(str(params[0]))
    if not older:
        return None
    provider.forward(method, [older[int(provider.rng.integers(len(older)))].raw])
    provider.mine()
    answer = provider.forward(method, params)
    return answer if "error" in answer else None


def _wants_more(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
    """A node that wants replacements to pay much more."""
    new, older = _arrival(str(params[0]), provider.calls), provider.rivals(str(params[0]))
    if not older:
        return None
    needed = 100 + WANTED_BUMP
    if all(100 * new.max_fee >= needed * a.max_fee and 100 * new.tip >= needed * a.tip for a in older):
        return None
    provider.arrivals.setdefault(new.hash, new)
    return _error(-32000, "replacement transaction underpriced")


def _wants_no_gap(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
    """A node that keeps no transactions whose turn has not come."""
    new = _arrival(str(params[0]), provider.calls)
    turn = int(provider.forward(NONCE, [new.sender, "pending"])["result"], 16)
    if new.nonce <= turn:
        return None
    provider.arrivals.setdefault(new.hash, new)
    return _error(-32000, f"nonce too high: next nonce {turn}, tx nonce {new.nonce}")


# ------------------------------------------------------------------------------------------------------------- looking


def _lag(provider: FaultyProvider) -> int:
    """The number of a block that a lagging node takes for the latest."""
    return max(provider.head() - int(provider.rng.integers(1, 5)), 0)


def _old_nonce(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
    """Of an older block."""
    if params[1] not in ("latest", "pending"):
        return None
    old = provider.forward(method, [params[0], hex(_lag(provider))])
    return None if old.get("result") == provider.forward(method, params).get("result") else old


def _old_head(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
    return _result(hex(_lag(provider)))


def _old_block(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
    return provider.forward(method, [hex(_lag(provider)), *params[1:]]) if params[0] == "latest" else None


def _no_block_yet(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
    return _result(None) if params[0] != "latest" else None


def _no_receipt(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
    return _result(None) if provider.forward(method, params).get("result") else None


def _old_receipt(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
    """Of a block that is no longer in the chain."""
    old = provider.receipts.get(str(params[0]))
    if old is None:
        return None
    now = provider.forward(method, params).get("result")
    return None if now and now["blockHash"] == old["result"]["blockHash"] else old


def _old_state(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
    """The answer for an older block."""
    if list(params[1:2]) not in ([], ["latest"], ["pending"]):
        return None
    old = provider.forward(method, [params[0], hex(_lag(provider))])
    return old if "result" in old and len(old["result"]) > 2 else None


def _too_low(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
    """An estimate that was right for another state: the transaction will run out of gas."""
    answer = provider.forward(method, params)
    return _result(hex(int(answer["result"], 16) * 6 // 10)) if "result" in answer else None


READ = (RECEIPT, NONCE, HEAD, BLOCK, LOGS, ESTIMATE, CALL)
TROUBLE = (
    "header not found",
    "missing trie node 5ac7c3 (path )",
    "Internal error",
    "backend is syncing",
    "upstream connect error or disconnect/reset before headers",
    "we can't execute this request",
    "execution aborted (timeout = 5s)",
)
"""What nodes say that are in trouble; of the request it says nothing."""

FAULTS: tuple[Fault, ...] = (
    Fault("response lost", 1, [SEND], _unheard(_reset)),
    Fault("request lost", 2, [SEND], _unreached(_refused)),
    Fault("request lost, looking", 2, READ, _unreached(_refused)),
    Fault("429", 3, ANY, _unreached(_http(429, "Too Many Requests"))),
    Fault("502", 3, ANY, _unreached(_http(502, "Bad Gateway"))),
    Fault("503 though done", 3, ANY, _unheard(_http(503, "Service Unavailable"))),
    Fault("connection reset", 3, ANY, _unreached(_reset)),
    Fault("rate limit as an error", 3, ANY, _told(-32005, "daily request count exceeded, request rate limited")),
    Fault("time-out, sent", 4, [SEND], _unheard(_silent)),
    Fault("time-out, not sent", 4, [SEND], _unreached(_silent)),
    Fault("unknown error, sent", 4, [SEND], _took_but_told(-32000, *TROUBLE)),
    Fault("unknown error, not sent", 4, [SEND], _told(-32603, *TROUBLE, "txpool is full", "transaction rejected")),
    Fault("already known, node's words", 5, [SEND], _sent_twice),
    Fault("already known, geth's words", 5, [SEND], _sent_twice_to_geth),
    Fault("already known, wrongly", 5, [SEND], _claims_to_know),
    Fault("nonce too low, mined", 6, [SEND], _mined_then_sent),
    Fault("nonce too low, older attempt mined", 7, [SEND], _rival_mined),
    Fault("nonce too low, wrongly", 8, [SEND], _told(-32000, "nonce too low: next nonce 4711, tx nonce 0")),
    Fault("nonce too high", 9, [SEND], _wants_no_gap),
    Fault("replacement underpriced", 10, [SEND], _wants_more),
    Fault(
        "insufficient funds, wrongly",
        11,
        [SEND],
        _told(-32000, "insufficient funds for gas * price + value: balance 0, tx cost 21000, overshot 21000"),
    ),
    Fault("taken and lost", 12, [SEND], _swallowed),
    Fault("receipt withheld", 13, [RECEIPT], _no_receipt),
    Fault("estimate in trouble", 19, [ESTIMATE], _told(-32000, *TROUBLE)),
    Fault("estimate too low", 20, [ESTIMATE], _too_low),
    Fault("old nonce", 21, [NONCE], _old_nonce),
    Fault("old block number", 22, [HEAD], _old_head),
    Fault("old latest block", 22, [BLOCK], _old_block),
    Fault("block not there yet", 22, [BLOCK], _no_block_yet),
    Fault("old receipt", 22, [RECEIPT], _old_receipt),
    Fault("old state", 22, [CALL, ESTIMATE], _old_state),
    Fault("looking in trouble", 22, [RECEIPT, NONCE, HEAD, BLOCK, LOGS, CALL], _told(-32603, *TROUBLE)),
)
BY_NAME = {fault.name: fault for fault in FAULTS}
