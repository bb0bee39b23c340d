"""Faults of sending a transaction. "Already known" and "nonce too low" are the node's own errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from web3.types import RPCResponse

from stakesim.faults.faulty_provider import NONCE, SEND, Fault, FaultyProvider
from stakesim.faults.node_words import EMPTY_WALLET_WORDS, NODE_FAILURES, UNFORESEEN_REFUSALS
from stakesim.faults.rpc_responses import (
    connection_refused,
    connection_reset,
    error,
    executed_but_rejected,
    only_error,
    read_timeout,
    rejected,
    request_lost,
    response_lost,
    success,
)
from stakesim.faults.signed_transaction import SignedTransaction

REPLACEMENT_BUMP = 30
"""Percent by which a strict node requires both fees of a replacement to be higher."""


def _send_twice(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
    """The node gets the transaction twice, and rejects the second copy."""
    provider.forward(method, params)
    return only_error(provider.forward(method, params))


def _send_twice_to_geth(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
    """As `_send_twice`, in geth's words."""
    return _send_twice(provider, method, params) and error(-32000, "already known")


def _wrongly_already_known(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
    """The node once had the transaction, and dropped it."""
    return error(-32000, "already known")


def _accept_and_lose(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
    """The node accepts the transaction and forwards it to nobody, so it is never mined."""
    return success(SignedTransaction.decode(str(params[0])).hash)


def _mine_then_send(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
    """The transaction is mined before a second copy of it arrives."""
    provider.forward(method, params)
    provider.mine()
    return provider.forward(method, params)


def _mine_older_attempt(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
    """An older attempt is mined just before this one arrives."""
    older = provider.older_attempts(SignedTransaction.decode(str(params[0])))
    if not older:
        return None
    provider.forward(method, [older[provider.choose("attempt", range(len(older)))].raw])
    provider.mine()
    return provider.forward(method, params)


def _require_higher_fees(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
    """The node requires `REPLACEMENT_BUMP` percent more of a replacement."""
    new = SignedTransaction.decode(str(params[0]))
    older = provider.older_attempts(new)
    if not older:
        return None
    required = 100 + REPLACEMENT_BUMP
    if all(100 * new.max_fee >= required * old.max_fee and 100 * new.tip >= required * old.tip for old in older):
        return None
    provider.received.setdefault(new.hash, new)
    return error(-32000, "replacement transaction underpriced")


def _reject_nonce_gap(provider: FaultyProvider, method: str, params: Sequence[Any]) -> RPCResponse | None:
    """The node keeps no transaction whose nonce is above the next one."""
    new = SignedTransaction.decode(str(params[0]))
    next_nonce = int(provider.forward(NONCE, [new.sender, "pending"])["result"], 16)
    if new.nonce <= next_nonce:
        return None
    provider.received.setdefault(new.hash, new)
    return error(-32000, f"nonce too high: next nonce {next_nonce}, tx nonce {new.nonce}")


SENDING_FAULTS: tuple[Fault, ...] = (
    Fault("response lost", 1, [SEND], response_lost(connection_reset)),
    Fault("request lost", 2, [SEND], request_lost(connection_refused)),
    Fault("time-out, sent", 4, [SEND], response_lost(read_timeout)),
    Fault("time-out, not sent", 4, [SEND], request_lost(read_timeout)),
    Fault("unknown error, sent", 4, [SEND], executed_but_rejected(-32000, *NODE_FAILURES)),
    Fault("unknown error, not sent", 4, [SEND], rejected(-32603, *NODE_FAILURES, "txpool is full"), may_last=True),
    Fault("already known, the node's error", 5, [SEND], _send_twice),
    Fault("already known, geth's error", 5, [SEND], _send_twice_to_geth),
    Fault("already known, wrongly", 5, [SEND], _wrongly_already_known),
    Fault("nonce too low, mined", 6, [SEND], _mine_then_send),
    Fault("nonce too low, older attempt mined", 7, [SEND], _mine_older_attempt),
    Fault("nonce too low, wrongly", 8, [SEND], rejected(-32000, "nonce too low: next nonce 4711, tx nonce 0")),
    Fault("nonce too high", 9, [SEND], _reject_nonce_gap),
    Fault("replacement underpriced", 10, [SEND], _require_higher_fees),
    Fault("insufficient funds, wrongly", 11, [SEND], rejected(-32000, EMPTY_WALLET_WORDS["geth"])),
    Fault("accepted and lost", 12, [SEND], _accept_and_lose),
    Fault("unforeseen refusal", 34, [SEND], rejected(-32000, *UNFORESEEN_REFUSALS), may_last=True),
    Fault("wallet empty, in a client's words", 34, [SEND], rejected(-32000, *EMPTY_WALLET_WORDS.values())),
)
"""All faults of this module."""
