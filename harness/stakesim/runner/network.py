"""Disturbs the requests between a backend and its node, for actions of a scenario that ask for it.

A middleware of the engine's web3 does what real networks and nodes do: an answer is lost after the node took the
transaction, or somebody's transaction waits in the mempool and is mined just before the backend's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import requests
from eth_account import Account
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from hexbytes import HexBytes
from web3 import Web3
from web3.middleware import Web3Middleware
from web3.types import RPCEndpoint, RPCResponse

from stakesim.evm.client import MAX_FEE_PER_GAS, MAX_PRIORITY_FEE_PER_GAS

MIN_BUMP_PERCENT = 10
"""Percent by which nodes want both fees raised before one transaction replaces another with its nonce."""
_MAX_TRANSACTION_TYPE = 0x7F
"""Largest first byte of a typed transaction; a legacy one begins with a larger byte."""
MakeRequest: TypeAlias = Callable[[RPCEndpoint, Any], RPCResponse]


@dataclass(frozen=True)
class PendingTransaction:
    """A transaction in the mempool that is not the backend's.

    Attributes:
        sender: Checksummed address.
        mine: Mines it.
        reject: Called instead if the backend's transaction has its nonce and higher fees.
    """

    sender: str
    mine: Callable[[], None]
    reject: Callable[[], None]


class Network:
    """What is between a backend and its node.

    Attributes:
        last_sent: The raw transaction that the backend sent last in the present context of `backend_requests`, in hex;
            None if it sent none.
    """

    def __init__(self, w3: Web3) -> None:
        """Adds a middleware to the web3 that the backend is given."""
        self._pending: PendingTransaction | None = None
        self._pending_nonce = 0
        self._is_backend = self._lose_answer = False
        self.last_sent: str | None = None
        self._w3 = w3
        w3.middleware_onion.add(_middleware(self._answer), "network")

    def hold(self, pending: PendingTransaction) -> None:
        """Puts a transaction into the mempool."""
        self._pending_nonce = self._w3.eth.get_transaction_count(Web3.to_checksum_address(pending.sender))
        self._pending = pending

    @property
    def holds_pending(self) -> bool:
        """Whether somebody's transaction waits in the mempool."""
        return self._pending is not None

    def send_again(self, raw: str) -> None:
        """Sends a raw transaction of the backend to the node, as the network does after a reorganisation."""

        def send() -> None:
            self._w3.eth.send_raw_transaction(HexBytes(raw))

        self._without_backend(send)

    def drop_pending(self) -> bool:
        """Takes the pending transaction out of the mempool; returns whether there was one."""
        pending, self._pending = self._pending, None
        return pending is not None

    @contextmanager
    def backend_requests(self, *, lose_answer: bool) -> Iterator[None]:
        """Within this context, all requests are the backend's.

        Args:
            lose_answer: The node takes the first transaction, and its answer is lost.
        """
        self._is_backend, self._lose_answer, self.last_sent = True, lose_answer, None
        try:
            yield
        finally:
            self._is_backend = self._lose_answer = False

    def _answer(self, make_request: MakeRequest, method: RPCEndpoint, params: Any) -> RPCResponse:
        if not self._is_backend:
            return make_request(method, params)
        if method == "eth_sendRawTransaction":
            return self._send(make_request, method, params)
        answer, pending = make_request(method, params), self._pending
        is_pending_count = method == "eth_getTransactionCount" and list(params[1:]) == ["pending"]
        if (
            pending is not None
            and is_pending_count
            and "result" in answer
            and params[0].lower() == pending.sender.lower()
        ):
            return {**answer, "result": hex(int(str(answer["result"]), 16) + 1)}
        return answer

    def _send(self, make_request: MakeRequest, method: RPCEndpoint, params: Any) -> RPCResponse:
        """Sends the backend's transaction: mines the pending one before it, and loses the answer, where that is due."""
        lose_answer, self._lose_answer = self._lose_answer, False
        pending, self._pending = self._pending, None
        if pending is not None:
            same_nonce, outbids = self._compare(str(params[0]), pending)
            self._without_backend(pending.reject if outbids else pending.mine)
            if same_nonce and not outbids:
                error = {"code": -32000, "message": "replacement transaction underpriced"}
                return {"jsonrpc": "2.0", "id": 0, "error": error}  # type: ignore[typeddict-item]
        answer = make_request(method, params)
        if "result" in answer:
            self.last_sent = str(params[0])
        if lose_answer and "result" in answer:
            raise requests.ReadTimeout("Read timed out. (read timeout=10)")
        return answer

    def _compare(self, raw: str, pending: PendingTransaction) -> tuple[bool, bool]:
        """Whether a transaction has the pending one's nonce, and whether it then offers enough to replace it."""
        transaction = HexBytes(raw)
        sender = Account.recover_transaction(transaction)
        if sender.lower() != pending.sender.lower() or transaction[0] > _MAX_TRANSACTION_TYPE:
            return False, False
        fields = TypedTransaction.from_bytes(transaction).as_dict()
        if fields["nonce"] != self._pending_nonce:
            return False, False
        max_fee = fields.get("maxFeePerGas", fields.get("gasPrice", 0))
        priority_fee = fields.get("maxPriorityFeePerGas", max_fee)
        needed = 100 + MIN_BUMP_PERCENT
        return True, (
            max_fee * 100 >= MAX_FEE_PER_GAS * needed and priority_fee * 100 >= MAX_PRIORITY_FEE_PER_GAS * needed
        )

    def _without_backend(self, action: Callable[[], None]) -> None:
        """Calls something whose requests are not the backend's."""
        self._is_backend = False
        try:
            action()
        finally:
            self._is_backend = True


def _middleware(answer: Callable[[MakeRequest, RPCEndpoint, Any], RPCResponse]) -> type[Web3Middleware]:
    class NetworkMiddleware(Web3Middleware):
        def wrap_make_request(self, make_request: Any) -> Any:
            return lambda method, params: answer(make_request, method, params)

    return NetworkMiddleware
