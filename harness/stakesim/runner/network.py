"""What is between a backend and its node, for the actions of a scenario that want it disturbed.

It is a middleware of the engine's web3, and does what real networks and nodes do: an answer is lost after the node took
the transaction, and somebody's transaction waits in the mempool and is mined just before the backend's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import requests
from eth_account import Account
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from hexbytes import HexBytes
from web3 import Web3
from web3.middleware import Web3Middleware
from web3.types import RPCEndpoint, RPCResponse

from stakesim.evm.client import MAX_FEE_PER_GAS, MAX_PRIORITY_FEE_PER_GAS

LEAST_BUMP = 10
"""Percent by which nodes want both fees raised before one transaction replaces another with its nonce."""


@dataclass(frozen=True)
class PendingTransaction:
    """A transaction in the mempool that is not the backend's.

    Attributes:
        sender: Checksummed address.
        mine: Mines it.
        replaced: Called instead where the backend's transaction took its nonce and offered more.
    """

    sender: str
    mine: Callable[[], None]
    replaced: Callable[[], None]


class Network:
    """The requests that go through one web3."""

    def __init__(self, w3: Web3) -> None:
        self._pending: PendingTransaction | None = None
        self._asked = self._lose_answer = False
        self._nonce = 0
        self._w3 = w3
        w3.middleware_onion.add(_middleware(self._answer), "network")

    def hold(self, pending: PendingTransaction) -> None:
        """From now on it waits in the mempool."""
        self._nonce = self._w3.eth.get_transaction_count(Web3.to_checksum_address(pending.sender))
        self._pending = pending

    def drop_pending(self) -> bool:
        """Takes the pending transaction out of the mempool; returns whether there was one."""
        pending, self._pending = self._pending, None
        return pending is not None

    @contextmanager
    def backend_requests(self, *, lose_answer: bool) -> Iterator[None]:
        """All requests in here are the backend's.

        Args:
            lose_answer: The node takes the first transaction, and its answer is lost.
        """
        self._asked, self._lose_answer = True, lose_answer
        try:
            yield
        finally:
            self._asked = self._lose_answer = False

    def _answer(self, ask: Callable[[RPCEndpoint, Any], RPCResponse], method: RPCEndpoint, params: Any) -> RPCResponse:
        if not self._asked:
            return ask(method, params)
        if method == "eth_sendRawTransaction":
            return self._send(ask, method, params)
        answer = ask(method, params)
        pending = self._pending
        counts = method == "eth_getTransactionCount" and list(params[1:]) == ["pending"] and "result" in answer
        if counts and pending is not None and params[0].lower() == pending.sender.lower():
            return {**answer, "result": hex(int(str(answer["result"]), 16) + 1)}
        return answer

    def _send(self, ask: Callable[[RPCEndpoint, Any], RPCResponse], method: RPCEndpoint, params: Any) -> RPCResponse:
        lost, self._lose_answer = self._lose_answer, False
        pending, self._pending = self._pending, None
        if pending is not None:
            collides, outbids = self._compared(str(params[0]), pending)
            self._apart(pending.replaced if outbids else pending.mine)
            if collides and not outbids:
                error = {"code": -32000, "message": "replacement transaction underpriced"}
                return {"jsonrpc": "2.0", "id": 0, "error": error}  # type: ignore[typeddict-item]
        answer = ask(method, params)
        if lost and "result" in answer:
            raise requests.ReadTimeout("Read timed out. (read timeout=10)")
        return answer

    def _compared(self, raw: str, pending: PendingTransaction) -> tuple[bool, bool]:
        """Whether a transaction has the pending one's nonce, and whether it then offers enough to replace it."""
        sent = HexBytes(raw)
        if Account.recover_transaction(sent).lower() != pending.sender.lower() or sent[0] > 0x7F:
            return False, False
        fields = TypedTransaction.from_bytes(sent).as_dict()
        if fields["nonce"] != self._nonce:
            return False, False
        max_fee = fields.get("maxFeePerGas", fields.get("gasPrice", 0))
        tip = fields.get("maxPriorityFeePerGas", max_fee)
        needed = 100 + LEAST_BUMP
        return True, max_fee * 100 >= MAX_FEE_PER_GAS * needed and tip * 100 >= MAX_PRIORITY_FEE_PER_GAS * needed

    def _apart(self, do: Callable[[], None]) -> None:
        """What is asked meanwhile is not the backend's."""
        self._asked = False
        try:
            do()
        finally:
            self._asked = True


def _middleware(answer: Callable[..., RPCResponse]) -> type[Web3Middleware]:
    class Between(Web3Middleware):
        def wrap_make_request(self, make_request: Any) -> Any:
            return lambda method, params: answer(make_request, method, params)

    return Between
