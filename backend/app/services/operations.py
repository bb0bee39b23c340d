"""The `operations` table: what was asked of the chain, written down before it is sent.

One operation = one idempotency key = one nonce. `createEventRun` and `bookEvent` carry no id of their own on chain, so
a second nonce would be a second run, or a second booking paid for.

    prepared   nothing signed yet
    signed     the raw transaction is stored; it may have been sent
    submitted  a node took it
    mined      in a block that is not deep enough to be final
    confirmed  final, and it did what was asked
    failed     final: it reverted, or its nonce went to another transaction; nothing can happen any more
    rejected   it never got a nonce: the contract refused it beforehand

What changes a state says which states it may change from, and with which nonce, and does nothing otherwise: any number
of workers may work on one operation at once.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID

from psycopg.errors import UniqueViolation
from sqlalchemy import (
    CTE,
    BigInteger,
    Connection,
    Insert,
    Select,
    Table,
    Update,
    bindparam,
    exists,
    func,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.exc import IntegrityError

from app.core.errors import KeyReused
from app.db.database import Database
from app.db.tables import nonces, operations
from app.services.codec import Call

CLOSED = ("confirmed", "failed", "rejected")
SENT = ("signed", "submitted", "mined")
"""States in which the operation has a nonce that is not used up for good."""


@dataclass(frozen=True)
class Operation:
    """A row of `operations`.

    kind: the contract's function. subject: the row of `event_runs` or `event_run_bookings` that it is about.
    attempts: every transaction signed for it, oldest first: hash, raw, nonce, gas, max_fee and tip (wei per gas).
    held: why it can't go on at present. gas_price_wei: wei per gas, as paid.
    error: code, message, and of a contract's refusal name, args and outcome.
    """

    key: str
    request: str
    kind: str
    subject: UUID | None
    chain_id: int
    sender: str
    to_address: str
    data: bytes
    value_wei: int
    state: str
    nonce: int | None
    attempts: Sequence[dict[str, Any]]
    requeued: int
    reorged: bool
    held: str | None
    tx_hash: str | None
    block_number: int | None
    block_hash: str | None
    gas_used: int | None
    gas_price_wei: int | None
    error: dict[str, Any] | None
    created_at: datetime
    updated_at: datetime

    @property
    def closed(self) -> bool:
        return self.state in CLOSED


class NewRow(NamedTuple):
    """A row that is entered together with the operation that is to bring it on chain."""

    table: Table
    values: dict[str, Any]


Statement = Callable[[CTE], Update]
"""What happens to other rows where an operation was closed: the CTE has its row, or none if it was not."""


class Effect(NamedTuple):
    """given: the statement's parameters, whose names are none of a column's."""

    statement: Statement
    given: dict[str, Any]


_UNKNOWN = [field.name for field in fields(Operation)]


class Draft(NamedTuple):
    """What is to be sent, and by whom. subject: the id of the row it is about, or that row, where it is new."""

    call: Call
    chain_id: int
    sender: str
    subject: UUID | NewRow | None = None


class _Taken(Exception):
    """Another worker was faster with this key."""


_o = operations.c
_FIND = select(operations).where(_o.key == bindparam("of_key"))
_IS_OPEN = _o.state.not_in(CLOSED)
_OPEN = select(operations).where(_IS_OPEN).order_by(_o.nonce.nulls_last(), _o.created_at)
_NEXT = select(nonces.c.next).where(
    nonces.c.chain_id == bindparam("of_chain"), nonces.c.sender == bindparam("of_sender")
)


def request_hash(kind: str, *asked: Any) -> str:
    """What was asked, as a hash, to tell whether a key comes with the same request again."""
    return hashlib.sha256(json.dumps([kind, *asked], default=str).encode()).hexdigest()


def once(database: Database, key: str | None, request: str, begin: Callable[[], Draft]) -> Operation:
    """The operation of this key; where there is none, it is begun, and entered in one statement with its row.

    key: None for one that nobody will ask for again. begin: asks whom it has to, and says what is to be sent.
    Raises `KeyReused` where the key came with another request.
    """
    found = _known(database, key, request)
    if found is not None:
        return found
    draft = begin()
    try:
        with database.autocommit() as connection:
            return prepare(connection, key or str(uuid.uuid4()), request, draft)
    except _Taken:
        found = _known(database, key, request)
        assert found is not None
        return found


def _known(database: Database, key: str | None, request: str) -> Operation | None:
    if key is None:
        return None
    with database.autocommit() as connection:
        found = find(connection, key)
    if found is not None and found.request != request:
        raise KeyReused(f"The idempotency key {key.rpartition(':')[2]!r} was used for another request.")
    return found


@cache
def _entering(table: Table | None, columns: tuple[str, ...]) -> Insert:
    """Enters an operation, and with it a row of the table, which is its subject then."""
    own: dict[str, Any] = {name: bindparam(name, type_=_o[name].type) for name in _ASKED}
    if table is None:
        return insert(operations).values(**own).returning(*_MADE)
    row = insert(table).values({name: bindparam(name, type_=table.c[name].type) for name in columns})
    entered = row.returning(table.c.id).cte("entered")
    own["subject"] = entered.c.id
    return insert(operations).from_select(list(own), select(*own.values())).returning(*_MADE)


_MADE = (_o.subject, _o.state, _o.attempts, _o.requeued, _o.reorged, _o.created_at, _o.updated_at)
"""What the database adds."""
_ASKED = ("key", "request", "kind", "subject", "chain_id", "sender", "to_address", "data", "value_wei")


def prepare(connection: Connection, key: str, request: str, draft: Draft) -> Operation:
    """Writes the operation down, and the row it is about where that is new, in one statement."""
    call, chain_id, sender, subject = draft
    table, row = subject if isinstance(subject, NewRow) else (None, {})
    asked = {
        "key": key,
        "request": request,
        "kind": call.name,
        "subject": subject,
        "chain_id": chain_id,
        "sender": sender,
        "to_address": call.to,
        "data": call.data,
        "value_wei": call.value,
    }
    if table is not None:
        del asked["subject"]
    try:
        made = connection.execute(_entering(table, tuple(row)), asked | row).one()
    except IntegrityError as error:
        if isinstance(error.orig, UniqueViolation) and error.orig.diag.table_name == operations.name:
            raise _Taken from error
        raise
    return Operation(**{**dict.fromkeys(_UNKNOWN), **asked, **made._mapping})


def find(connection: Connection, key: str) -> Operation | None:
    row = connection.execute(_FIND, {"of_key": key}).one_or_none()
    return None if row is None else Operation(*row)


def open_operations(connection: Connection, chain_id: int) -> list[Operation]:
    """All that are not closed: by nonce, then those that have none."""
    return [Operation(*row) for row in connection.execute(_OPEN.where(_o.chain_id == chain_id))]


def open_before(connection: Connection, operation: Operation) -> list[Operation]:
    """Those of the same sender that have a lower nonce and are not closed, by nonce."""
    mine = _OPEN.where(_o.chain_id == operation.chain_id, _o.sender == operation.sender, _o.nonce < operation.nonce)
    return [Operation(*row) for row in connection.execute(mine)]


def locked(connection: Connection, key: str) -> Operation:
    """The operation, which nobody else changes until the caller's transaction ends."""
    return Operation(*connection.execute(_FIND.with_for_update(), {"of_key": key}).one())


def next_nonce(connection: Connection, chain_id: int, sender: str) -> int:
    """Above all nonces of the account that were given out; 0 if none was."""
    return connection.execute(_NEXT, {"of_chain": chain_id, "of_sender": sender}).scalar_one_or_none() or 0


_ALL_ATTEMPTS_SEEN = func.jsonb_array_length(_o.attempts) == bindparam("of_attempts", type_=BigInteger)
"""Attempts are only ever added, so whoever knows as many as there are knows them all."""
_CHANGE = (
    update(operations)
    .where(_o.key == bindparam("of_key"), _o.state.in_(bindparam("in_states")))
    .where(_o.nonce.is_not_distinct_from(bindparam("of_nonce", type_=BigInteger)), _ALL_ATTEMPTS_SEEN)
    .returning(operations)
)


def _as_seen(operation: Operation) -> dict[str, Any]:
    return {"of_key": operation.key, "of_attempts": len(operation.attempts)}


_TAKEN = bindparam("taken", type_=BigInteger)
_PREPARED = (
    select(_o.chain_id, _o.sender, _TAKEN + 1)
    .where(_o.key == bindparam("of_key"), _o.state == "prepared", _ALL_ATTEMPTS_SEEN)
    .with_for_update()
    .cte("prepared")
)
_TAKE_NONCE = (
    insert(nonces)
    .from_select(["chain_id", "sender", "next"], select(_PREPARED))
    .on_conflict_do_update(
        index_elements=[nonces.c.chain_id, nonces.c.sender], set_={"next": _TAKEN + 1}, where=nonces.c.next <= _TAKEN
    )
    .returning(nonces.c.chain_id, nonces.c.sender)
    .cte("taken")
)
_SIGN = (
    update(operations)
    .where(_o.key == bindparam("of_key"), _o.chain_id == _TAKE_NONCE.c.chain_id, _o.sender == _TAKE_NONCE.c.sender)
    .values(
        state="signed",
        held=None,
        nonce=_TAKEN,
        attempts=_o.attempts.concat(bindparam("attempt", type_=JSONB)),
        updated_at=func.clock_timestamp(),
    )
    .returning(_o.updated_at)
)


def sign(connection: Connection, operation: Operation, attempt: dict[str, Any]) -> Operation | None:
    """prepared -> signed: the account's nonce is taken, and the attempt that has it stored, in one statement. None, and
    nothing done, if the operation is not prepared any more or has attempts that were not seen, or if that nonce or a
    later one was given out.
    """
    given = {**_as_seen(operation), "taken": attempt["nonce"], "attempt": [attempt]}
    at = connection.execute(_SIGN, given).scalar_one_or_none()
    if at is None:
        return None
    nonce, attempts = attempt["nonce"], [*operation.attempts, attempt]
    return replace(operation, state="signed", held=None, nonce=nonce, attempts=attempts, updated_at=at)


_EARLIER = operations.alias("earlier")
_NONE_EARLIER = ~exists().where(
    _EARLIER.c.chain_id == _o.chain_id,
    _EARLIER.c.sender == _o.sender,
    _EARLIER.c.nonce < _o.nonce,
    _EARLIER.c.state.not_in(CLOSED),
)


@cache
def _closing(names: tuple[str, ...], in_order: bool, effects: tuple[Statement, ...]) -> Select[Any]:
    """Closes an operation, which gets values of these names, with what follows from that, in one statement."""
    closing = _CHANGE.values({name: bindparam(name, type_=_o[name].type) for name in names})
    closing = closing.where(_NONE_EARLIER) if in_order else closing
    closed = closing.values(updated_at=func.clock_timestamp()).cte("closed")
    return select(closed.c.updated_at).add_cte(*(effect(closed).cte(f"effect_{n}") for n, effect in enumerate(effects)))


def close(
    connection: Connection,
    operation: Operation,
    states: Sequence[str],
    effects: Sequence[Effect],
    in_order: bool = False,
    **values: Any,
) -> Operation | None:
    """The operation, closed with these values, and the effects of that; None, and nothing done, if it is in none of the
    states with the nonce and the attempts it was seen with any more; or, `in_order`, if one of the same sender with a
    lower nonce is not closed.
    """
    given = {**_as_seen(operation), "of_nonce": operation.nonce, "in_states": list(states), **values}
    for effect in effects:
        given |= effect.given
    statement = _closing(tuple(values), in_order, tuple(effect.statement for effect in effects))
    at = connection.execute(statement, given).scalar_one_or_none()
    return None if at is None else replace(operation, **values, updated_at=at)


def change(connection: Connection, operation: Operation, states: Sequence[str], **values: Any) -> Operation | None:
    """The operation with these values, if it is in one of the states, with the nonce and the attempts it was seen with.

    None, and nothing done, if not: nothing is concluded from a copy that knows fewer attempts than were stored.
    """
    statement = _CHANGE.values(updated_at=func.clock_timestamp(), **values)
    row = connection.execute(
        statement, {**_as_seen(operation), "of_nonce": operation.nonce, "in_states": list(states)}
    ).one_or_none()
    return None if row is None else Operation(*row)
