"""The one place that concludes that an operation has had no effect with its nonce, and never will.

`states.requeue` and `states.fail` take a `NoEffect`, and only this module makes one. So no operation gets a new nonce,
and none fails, unless

- the row was reloaded, and has no attempt that was not looked up;
- the nonce was used in a final block, by a transaction without the operation's effect;
- no other attempt that was ever stored has had an effect, those with earlier nonces included.

The statement that stores the conclusion changes nothing if the row has got another state, nonce or attempt meanwhile.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from web3 import Web3

from app.db.database import Database
from app.services import orphans
from app.services.operation_types import FILL_NONCE_GAP, SENT_STATES, NoEffect, Operation, UsedNonce
from app.services.rpc_answers import call_data, value
from app.services.rpc_types import Receipt
from app.services.transactions import states
from app.services.transactions.nonce_search import find_foreign_transaction
from app.services.transactions.receipts import find_attempt, find_receipt
from app.services.transactions.states import log_fields

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Mined:
    """One of the operation's attempts is mined, as its receipt says."""

    operation: Operation
    receipt: Receipt


def conclude(w3: Web3, database: Database, operation: Operation, final_block: int) -> NoEffect | Mined | Operation:
    """Finds out whether another transaction used the operation's nonce.

    Args:
        w3: Connection to the node.
        database: Where the operation is stored.
        operation: An operation that was sent.
        final_block: Number of the latest final block; may be negative on a short chain.

    Returns:
        The proof; or a receipt, if one of its attempts is mined; or the operation as it is stored, if nothing can be
        concluded yet.
    """
    foreign = find_foreign_transaction(w3, operation, final_block)
    if foreign is None:
        return operation
    current = states.reload(database, operation)
    if (current.state, current.nonce) != (operation.state, operation.nonce) or current.state not in SENT_STATES:
        return current
    if any(attempt.tx_hash == foreign.tx_hash for attempt in current.attempts):
        return current  # the caller's copy lacked it
    receipt = find_receipt(w3, current)
    if receipt is not None:
        return Mined(current, receipt)
    own = _take_over(database, current, foreign)
    return NoEffect(current, foreign) if own is None else own


def _take_over(database: Database, operation: Operation, foreign: UsedNonce) -> Operation | None:
    """Adds a transaction to the operation's attempts, if it is one whose commit the database lost.

    A call of the same contract with another content is stored as an orphan: an order that asks for the same is compared
    with it before it is signed.

    Returns:
        The operation as it is stored by now; None if the transaction has another content.
    """
    transaction = foreign.transaction
    if transaction is None or transaction.to != operation.to_address or operation.kind == FILL_NONCE_GAP:
        return None
    if (call_data(transaction), value(transaction)) != (operation.data, operation.value_wei):
        with database.autocommit() as connection:
            if not orphans.is_known(connection, operation.chain_id, transaction):
                # whether it succeeded is not known here; an orphan without effect only causes a question
                orphans.record(connection, operation.chain_id, transaction, succeeded=True)
        return None
    attempt = orphans.as_attempt(transaction)
    if attempt is None:
        return operation
    log.error("%s: %s is its own, and its commit is lost", operation.kind, attempt.tx_hash, extra=log_fields(operation))
    return states.change(database, operation, SENT_STATES, attempts=[*operation.attempts, attempt])


def of_receipt(operation: Operation, receipt: Receipt) -> NoEffect:
    """Returns the proof for a final receipt of an attempt that reverted, or was signed without effect."""
    return NoEffect(operation, UsedNonce(find_attempt(operation, receipt).tx_hash, receipt.block_number))
