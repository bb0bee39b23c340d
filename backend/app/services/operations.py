"""The `operations` table: each transaction that the services want, stored before it is sent.

One operation = one idempotency key = one nonce. `createEventRun` and `bookEvent` carry no id that the contract could
compare, so a transaction with a second nonce would open a second run, or pay for a second booking.

    prepared   nothing is signed yet
    signed     the raw transaction is stored; it may have been sent
    submitted  a node accepted it
    mined      in a block that is not final yet
    confirmed  final: it succeeded
    failed     final: it reverted, or another transaction used its nonce; it has no effect, and never will
    rejected   it never got a nonce: the contract refused it before it was sent

Each function that changes a row names the states that it may change from, and compares the nonce, the number of
attempts and whether it is abandoned with what the caller saw (an optimistic lock): any number of workers may work on
one operation at once.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import cache
from typing import Any

from psycopg.errors import UniqueViolation
from sqlalchemy import (
    BigInteger,
    ClauseElement,
    Connection,
    Table,
    Text,
    Update,
    bindparam,
    exists,
    func,
    literal,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.sql.dml import ReturningUpdate

from app.core.errors import KeyReused, NotPaid, Paused, PaymentUnusable
from app.db.database import Database
from app.db.statements import Compiled
from app.db.tables import IS_PAUSED, in_states, operations
from app.services.operation_types import (
    CLOSED_STATES,
    Attempt,
    Draft,
    Effect,
    EffectStatement,
    NewRow,
    Operation,
)


class _KeyTaken(Exception):
    """Another worker stored an operation with this key meanwhile."""


_o = operations.c
_OF_KEY = select(operations).where(_o.key == bindparam("of_key"))
_FIND, _LOCK = Compiled(_OF_KEY), Compiled(_OF_KEY.with_for_update())
_IS_OPEN = ~in_states(CLOSED_STATES)
_OPEN = select(operations).where(_IS_OPEN).order_by(_o.nonce.nulls_last(), _o.created_at)
_OPEN_ON_CHAIN = Compiled(_OPEN.where(_o.chain_id == bindparam("of_chain")))
_OPEN_BELOW = Compiled(
    _OPEN.where(
        _o.chain_id == bindparam("of_chain"), _o.sender == bindparam("of_sender"), _o.nonce < bindparam("of_nonce")
    )
)


_UNMINED_WEI = Compiled(
    select(func.coalesce(func.sum(_o.value_wei), 0)).where(
        _o.chain_id == bindparam("of_chain"),
        _o.sender == bindparam("of_sender"),
        in_states(("signed", "submitted")),
    )
)


def request_hash(use_case: str, *arguments: Any) -> str:
    """Returns a hash of a request, to compare the requests that come with one key."""
    return hashlib.sha256(json.dumps([use_case, *arguments], default=str).encode()).hexdigest()


def find_or_create(
    database: Database, idempotency_key: str | None, request: str, make_draft: Callable[[], Draft]
) -> Operation:
    """Returns the operation of this key; creates it if there is none.

    Args:
        database: Where operations are stored.
        idempotency_key: Key of the request; None if nobody will repeat it.
        request: Hash of the request.
        make_draft: Returns the operation to store; called only if there is none yet.

    Raises:
        KeyReused: The key belongs to another request.
    """
    operation = _find_same_request(database, idempotency_key, request)
    if operation is not None:
        return operation
    key = idempotency_key or str(uuid.uuid4())
    try:
        draft = make_draft()
        with database.autocommit() as connection:
            return create(connection, key, request, draft)
    except (_KeyTaken, NotPaid, PaymentUnusable):
        operation = _find_same_request(database, idempotency_key, request)
        if operation is None:
            raise
        return operation


def _find_same_request(database: Database, idempotency_key: str | None, request: str) -> Operation | None:
    if idempotency_key is None:
        return None
    with database.autocommit() as connection:
        operation = find(connection, idempotency_key)
    if operation is not None and operation.request != request:
        clients_key = idempotency_key.rpartition(":")[2]
        raise KeyReused(f"The idempotency key {clients_key!r} was used for another request.")
    return operation


_DRAFT_COLUMNS = (
    *("key", "request", "kind", "subject", "chain_id", "sender", "to_address", "data", "value_wei", "person", "seal"),
)
_DEFAULTS = (_o.subject, _o.state, _o.attempts, _o.requeued, _o.reorged, _o.created_at, _o.updated_at)
"""Columns that the database fills in."""
_OF_KEYS = ("operations_pkey", "payments_operation_key_key")
"""Constraints that say that another worker has stored an operation with the key, or used what pays for it."""
_IS_PAUSED = Compiled(select(IS_PAUSED))
_EMPTY = dict.fromkeys(field.name for field in fields(Operation))
"""All columns, as NULL; a new row keeps NULL where neither its draft nor the database fills in a value."""


@cache
def _insert_statement(table: Table | None, columns: tuple[str, ...], use: Update | None) -> Compiled:
    """Inserts an operation, and a row with these columns into the table, if there is one, as its subject.

    A new row is an order: during a pause, neither is inserted. Nor are they if `use` finds nothing that pays for it.
    """
    values: dict[str, Any] = {name: bindparam(name, type_=_o[name].type) for name in _DRAFT_COLUMNS}
    if table is None:
        return Compiled(insert(operations).values(**values).returning(*_DEFAULTS))
    row = select(*(bindparam(name, type_=table.c[name].type) for name in columns))
    if use is None:
        row = row.where(~IS_PAUSED)
    else:
        row = row.select_from(use.where(~IS_PAUSED).returning(literal(1)).cte("used"))
    inserted = insert(table).from_select(list(columns), row).returning(table.c.id).cte("inserted")
    values["subject"] = inserted.c.id
    return Compiled(insert(operations).from_select(list(values), select(*values.values())).returning(*_DEFAULTS))


def create(connection: Connection, key: str, request: str, draft: Draft) -> Operation:
    """Stores a prepared operation, and the row that it is about if that is new, and uses what pays for it.

    All of that is one statement.

    Args:
        connection: A connection to the database.
        key: Primary key of the operation.
        request: Hash of the request.
        draft: The operation to store.

    Raises:
        Paused: It is about a new row, and orders are paused. Nothing was stored.
        NotPaid, PaymentUnusable: As the `check` of what pays for it. Nothing was stored.
    """
    call, chain_id, sender, subject, seal, person = draft
    table, row, use = subject if isinstance(subject, NewRow) else (None, {}, None)
    values = {
        "key": key,
        "request": request,
        "kind": call.name,
        "subject": subject,
        "chain_id": chain_id,
        "sender": sender,
        "to_address": call.to,
        "data": call.data,
        "value_wei": call.value,
        "person": person,
    }
    values["seal"] = seal and seal(values)
    statement = _insert_statement(table, tuple(row), use and use.statement)
    try:
        defaults = connection.execute(statement, values | row | (use.parameters if use else {})).one_or_none()
    except UniqueViolation as error:
        if error.diag.constraint_name in _OF_KEYS:
            raise _KeyTaken from error
        raise
    if defaults is None:
        if use and not connection.execute(_IS_PAUSED).scalar_one():
            use.check(connection)
        raise Paused("New event runs and bookings are paused at present. Nothing was stored.")
    return Operation(**{**_EMPTY, **values, **defaults._asdict()})


def find(connection: Connection, key: str) -> Operation | None:
    """Returns the operation with this key; None if there is none."""
    row = connection.execute(_FIND, {"of_key": key}).one_or_none()
    return None if row is None else Operation.from_row(row)


def lock(connection: Connection, key: str) -> Operation:
    """Returns the operation with this key; nobody else can change it until the caller's transaction ends."""
    return Operation.from_row(connection.execute(_LOCK, {"of_key": key}).one())


def open_operations(connection: Connection, chain_id: int) -> list[Operation]:
    """Returns all operations on a network that are not closed: by nonce, and then those without a nonce."""
    return [Operation.from_row(row) for row in connection.execute(_OPEN_ON_CHAIN, {"of_chain": chain_id})]


def open_with_lower_nonce(connection: Connection, operation: Operation) -> list[Operation]:
    """Returns the same sender's operations that have a lower nonce and are not closed, by nonce."""
    parameters = {"of_chain": operation.chain_id, "of_sender": operation.sender, "of_nonce": operation.nonce}
    return [Operation.from_row(row) for row in connection.execute(_OPEN_BELOW, parameters)]


def unmined_wei(connection: Connection, chain_id: int, sender: str) -> int:
    """Returns the wei that the account's signed operations send which are in no block yet, without fees."""
    return int(connection.execute(_UNMINED_WEI, {"of_chain": chain_id, "of_sender": sender}).scalar_one())


def held_seconds(connection: Connection, key: str) -> float:
    """Returns for how many seconds an operation has been held without a break; 0 if it is not held."""
    since = func.extract("epoch", func.clock_timestamp() - _o.held_at)
    return float(connection.execute(select(func.coalesce(since, 0)).where(_o.key == key)).scalar_one())


def create_signed(connection: Connection, key: str, draft: Draft, attempt: Attempt) -> Operation | None:
    """Stores an operation that is signed already (-> signed), with a nonce that was assigned before.

    Returns:
        The operation; None without changes if there is one with this key or nonce.
    """
    call, chain_id, sender = draft[:3]
    values = {"key": key, "request": "", "kind": call.name, "chain_id": chain_id, "sender": sender}
    values |= {"to_address": call.to, "data": call.data, "value_wei": call.value, "state": "signed"}
    values |= {"nonce": attempt.nonce, "attempts": [attempt.to_json()]}
    statement = insert(operations).values(values).on_conflict_do_nothing().returning(operations)
    row = connection.execute(statement).one_or_none()
    return None if row is None else Operation.from_row(row)


ALL_ATTEMPTS_SEEN = func.jsonb_array_length(_o.attempts) == bindparam("of_attempts", type_=BigInteger)
"""Attempts are only ever added, so a copy with as many as the row has all of them."""
_CHANGE = (
    update(operations)
    .where(_o.key == bindparam("of_key"), _o.state.cast(Text) == func.any(bindparam("in_states")))
    .where(_o.nonce.is_not_distinct_from(bindparam("of_nonce")), ALL_ATTEMPTS_SEEN)
    .where(_o.abandoned_at.is_not_distinct_from(bindparam("of_abandoned_at")))
    .returning(operations)
)


def seen_by_caller(operation: Operation) -> dict[str, Any]:
    """Returns the parameters of `ALL_ATTEMPTS_SEEN`, and of the operation's key."""
    return {"of_key": operation.key, "of_attempts": len(operation.attempts)}


def _change_parameters(operation: Operation, states: Sequence[str]) -> dict[str, Any]:
    seen = {"of_nonce": operation.nonce, "of_abandoned_at": operation.abandoned_at}
    return {**seen_by_caller(operation), **seen, "in_states": list(states)}


_EARLIER = operations.alias("earlier")
_NONE_EARLIER = ~exists().where(
    _EARLIER.c.chain_id == _o.chain_id,
    _EARLIER.c.sender == _o.sender,
    _EARLIER.c.nonce < _o.nonce,
    ~in_states(CLOSED_STATES, _EARLIER.c.state),
)


def _set_columns(names: Sequence[str]) -> ReturningUpdate[Any]:
    """Changes an operation: sets the columns with these names, to parameters with the same names."""
    return _CHANGE.values(updated_at=func.clock_timestamp(), **{name: bindparam(name) for name in names})


@cache
def _close_statement(names: tuple[str, ...], in_order: bool, effects: tuple[EffectStatement, ...]) -> Compiled:
    """Closes an operation, sets the columns with these names, and updates other rows."""
    update_operation = _set_columns(names)
    closed = (update_operation.where(_NONE_EARLIER) if in_order else update_operation).cte("closed")
    effect_ctes = (effect(closed).cte(f"effect_{number}") for number, effect in enumerate(effects))
    return Compiled(select(closed.c.updated_at).add_cte(*effect_ctes))


def close(
    connection: Connection,
    operation: Operation,
    states: Sequence[str],
    effects: Sequence[Effect],
    *,
    in_order: bool = False,
    **values: Any,
) -> Operation | None:
    """Closes an operation, and updates the rows that depend on it, in one statement.

    Args:
        connection: A connection to the database.
        operation: The operation as the caller saw it.
        states: States from which it may be closed.
        effects: Updates of other rows.
        in_order: Whether all of the sender's operations with lower nonces have to be closed before.
        values: Values of the operation's columns, its new state among them.

    Returns:
        The closed operation. None without changes if state, nonce or attempts changed meanwhile, or if `in_order` does
        not hold.
    """
    parameters = {**_change_parameters(operation, states), **values}
    for effect in effects:
        parameters |= effect.parameters
    statement = _close_statement(tuple(values), in_order, tuple(effect.statement for effect in effects))
    updated_at = connection.execute(statement, parameters).scalar_one_or_none()
    return None if updated_at is None else replace(operation, **values, updated_at=updated_at)


@cache
def _change_statement(names: tuple[str, ...]) -> Compiled:
    return Compiled(_set_columns(names))


def change(
    connection: Connection,
    operation: Operation,
    states: Sequence[str],
    *,
    attempts: Sequence[Attempt] | None = None,
    **values: Any,
) -> Operation | None:
    """Sets columns of an operation.

    Args:
        connection: A connection to the database.
        operation: The operation as the caller saw it.
        states: States in which it may be changed.
        attempts: All attempts, if one was added.
        values: Values of the other columns.

    Returns:
        The operation as changed. None without changes if state, nonce or attempts changed meanwhile (optimistic lock):
        nothing is concluded from a copy that knows fewer attempts than the row has.
    """
    if attempts is not None:
        values["attempts"] = [attempt.to_json() for attempt in attempts]
    parameters = _change_parameters(operation, states)
    if any(isinstance(value, ClauseElement) for value in values.values()):
        statement: Any = _CHANGE.values(updated_at=func.clock_timestamp(), **values)
    else:
        statement, parameters = _change_statement(tuple(values)), parameters | values
    row = connection.execute(statement, parameters).one_or_none()
    return None if row is None else Operation.from_row(row)
