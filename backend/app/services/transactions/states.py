"""Changes of an operation's state in the database.

Each function changes the row only if the operation is still as the caller saw it; otherwise it changes nothing and
returns the operation as another worker left it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from sqlalchemy import func

from app.core.errors import (
    AppError,
    Cancelled,
    ChainUnavailable,
    ContractRejected,
    Expired,
    OutOfFunds,
    Superseded,
    TransactionRefused,
    UnexpectedReceipt,
)
from app.db.database import Database
from app.db.tables import operations as operations_table
from app.services import operations, projections
from app.services.operation_types import NOT_HELD, SENT_STATES, HeldCause, NoEffect, Operation
from app.services.rpc_types import Receipt

log = logging.getLogger(__name__)

_STORED_ERRORS = (Cancelled, Expired, Superseded, TransactionRefused, UnexpectedReceipt)
NO_BLOCK = {"tx_hash": None, "block_number": None, "block_hash": None}
"""Columns of an operation that is in no block."""


def change(database: Database, operation: Operation, states: Sequence[str], **values: Any) -> Operation:
    """Sets columns of an operation that is in one of these states."""
    with database.autocommit() as connection:
        changed = operations.change(connection, operation, states, **values)
    return changed or reload(database, operation)


def reload(database: Database, operation: Operation) -> Operation:
    """Returns the operation as the database has it."""
    with database.autocommit() as connection:
        stored = operations.find(connection, operation.key)
    assert stored is not None
    return stored


def changed_meanwhile(database: Database, operation: Operation) -> Operation | None:
    """Returns the operation as it is stored, if that is not as the caller saw it; None if it is.

    A copy that is older than another process's replacement, or than an operator's decision, must not be sent.
    """
    current = reload(database, operation)
    seen, stored = ((o.state, o.nonce, len(o.attempts), o.abandoned_at) for o in (operation, current))
    return None if seen == stored else current


def hold(database: Database, operation: Operation, cause: HeldCause, reason: str) -> Operation:
    """Stores why the operation cannot proceed at present; its state stays the same.

    Args:
        database: Where the operation is stored.
        operation: The operation as the caller saw it.
        cause: Kind of the reason.
        reason: The reason, as the end of a sentence.
    """
    if (operation.held, operation.held_cause) == (reason, cause) or operation.abandoned_at is not None:
        return operation
    level = logging.INFO if operation.held_cause == cause else logging.ERROR  # numbers in the reason may change often
    log.log(level, "%s is held: %s", operation.kind, reason, extra=log_fields(operation))
    return change(database, operation, (operation.state,), **held_columns(cause, reason))


def held_columns(cause: HeldCause, reason: str) -> dict[str, Any]:
    """Returns the columns of a held operation. `held_at` stays as it is if the operation is held already."""
    held_at = func.coalesce(operations_table.c.held_at, func.clock_timestamp())
    return {"held": reason, "held_cause": cause, "held_at": held_at}


def no_funds(operation: Operation) -> str:
    """Returns the reason for which an operation is held whose sender cannot pay for gas and value."""
    return f"insufficient funds of {operation.sender} for gas and value"


def error_of_held(operation: Operation) -> ChainUnavailable:
    """Returns the error for a caller who waits for a held operation."""
    kind = OutOfFunds if operation.held_cause == HeldCause.NO_FUNDS else ChainUnavailable
    return kind(f"{operation.kind} is held: {operation.held}.", operation.key)


def requeue(database: Database, proof: NoEffect, reason: str, *, counts_as_retry: bool = True) -> Operation:
    """Starts over (-> prepared) with a new nonce, after the old one was used in a final block without any effect.

    Args:
        database: Where the operation is stored.
        proof: That it has no effect with its nonce.
        reason: Why it starts over, for the log.
        counts_as_retry: Whether this is the one retry with a new nonce that an operation may have.
    """
    operation = proof.operation
    log.warning("%s starts over: %s", operation.kind, reason, extra=log_fields(operation))
    requeued = operation.requeued + counts_as_retry
    return change(
        database, operation, SENT_STATES, state="prepared", nonce=None, requeued=requeued, **NOT_HELD, **NO_BLOCK
    )


def reject(database: Database, operation: Operation, error: AppError) -> Operation:
    """Rejects the operation (prepared -> rejected): nothing was sent, and nothing will be."""
    return _close_without_effect(database, operation, ("prepared",), error, state="rejected")


def fail(database: Database, proof: NoEffect, error: AppError, **values: Any) -> Operation:
    """Fails the operation (-> failed): it was sent, it has no effect, and never will.

    Args:
        database: Where the operation is stored.
        proof: That it has no effect.
        error: Why it failed.
        values: Further columns, such as those of the receipt.
    """
    return _close_without_effect(database, proof.operation, SENT_STATES, error, state="failed", **values)


def _close_without_effect(
    database: Database, operation: Operation, states: Sequence[str], error: AppError, **values: Any
) -> Operation:
    effects = projections.effects_of_failure(operation, error.message, values.get("tx_hash"))
    with database.autocommit() as connection:
        closed = operations.close(connection, operation, states, effects, error=error_to_json(error), **values)
    if closed is None:
        return reload(database, operation)
    log.info("%s", error.message, extra=log_fields(operation))
    return closed


def log_fields(operation: Operation) -> dict[str, str]:
    """Returns the fields of a log line about the operation."""
    return {"operation": operation.key, "state": operation.state}


def error_to_json(error: AppError) -> dict[str, Any]:
    """Returns an error as the column `operations.error` stores it."""
    stored: dict[str, Any] = {"code": error.code, "message": error.message}
    if isinstance(error, ContractRejected):
        stored |= {"name": error.name, "args": list(error.args), "outcome": error.outcome}
    return stored


def error_from_json(stored: dict[str, Any], receipt: Receipt | None = None) -> AppError:
    """Returns the error that the column `operations.error` stores, with the receipt if the contract reverted."""
    if stored["code"] == ContractRejected.code:
        return ContractRejected(stored["name"], stored["args"], stored["message"], stored["outcome"], receipt)
    kinds: dict[str, type[AppError]] = {kind.code: kind for kind in _STORED_ERRORS}
    return kinds[stored["code"]](stored["message"])


def error_of_given_up(operation: Operation) -> AppError:
    """Returns the error of an operation whose nonce was used by an attempt without effect."""
    if operation.error is not None:
        return error_from_json(operation.error)
    return TransactionRefused(f"{operation.kind} had no effect: a transaction without effect used its nonce.")
