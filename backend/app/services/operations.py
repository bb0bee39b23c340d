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
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, bindparam, func, select, update
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.orm import Session, sessionmaker

from app.core.errors import KeyReused
from app.db.tables import nonces, operations
from app.services.codec import Call

Sessions = sessionmaker[Session]

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


Begun = Callable[[Session, str], Operation]
"""Writes an operation down under a key, and the rows that it is about."""


class _Taken(Exception):
    """Another worker was faster with this key."""


_o = operations.c
_FIND = select(operations).where(_o.key == bindparam("of_key"))
_INSERT = insert(operations).on_conflict_do_nothing().returning(operations)
_OPEN = select(operations).where(_o.state.not_in(CLOSED)).order_by(_o.nonce.nulls_last(), _o.created_at)
_FLOOR = bindparam("floor", type_=BigInteger)
_TAKE_NONCE = (
    insert(nonces)
    .values(next=_FLOOR + 1)
    .on_conflict_do_update(
        index_elements=[nonces.c.chain_id, nonces.c.sender], set_={"next": func.greatest(nonces.c.next, _FLOOR) + 1}
    )
    .returning(nonces.c.next - 1)
)


def request_hash(kind: str, *asked: Any) -> str:
    """What was asked, as a hash, to tell whether a key comes with the same request again."""
    return hashlib.sha256(json.dumps([kind, *asked], default=str).encode()).hexdigest()


def once(sessions: Sessions, key: str | None, request: str, begin: Callable[[], Begun]) -> Operation:
    """The operation of this key; where there is none, it is begun, and entered in one transaction with its rows.

    key: None for one that nobody will ask for again. begin: asks whom it has to, and returns what writes it down.
    Raises `KeyReused` where the key came with another request.
    """
    found = _known(sessions, key, request)
    if found is not None:
        return found
    enter = begin()
    try:
        with sessions.begin() as session:
            return enter(session, key or str(uuid.uuid4()))
    except _Taken:
        found = _known(sessions, key, request)
        assert found is not None
        return found


def _known(sessions: Sessions, key: str | None, request: str) -> Operation | None:
    if key is None:
        return None
    with sessions.begin() as session:
        found = find(session, key)
    if found is not None and found.request != request:
        raise KeyReused(f"The idempotency key {key.rpartition(':')[2]!r} was used for another request.")
    return found


def prepare(
    session: Session, key: str, request: str, call: Call, chain_id: int, sender: str, subject: UUID | None = None
) -> Operation:
    """Writes the operation down, in the caller's transaction."""
    row = session.execute(
        _INSERT,
        {
            "key": key,
            "request": request,
            "kind": call.name,
            "subject": subject,
            "chain_id": chain_id,
            "sender": sender,
            "to_address": call.to,
            "data": call.data,
            "value_wei": call.value,
        },
    ).one_or_none()
    if row is None:
        raise _Taken
    return Operation(*row)


def find(session: Session, key: str) -> Operation | None:
    row = session.execute(_FIND, {"of_key": key}).one_or_none()
    return None if row is None else Operation(*row)


def open_operations(session: Session, chain_id: int) -> list[Operation]:
    """All that are not closed: by nonce, then those that have none."""
    return [Operation(*row) for row in session.execute(_OPEN.where(_o.chain_id == chain_id))]


def open_before(session: Session, operation: Operation) -> list[Operation]:
    """Those of the same sender that have a lower nonce and are not closed, by nonce."""
    mine = _OPEN.where(_o.chain_id == operation.chain_id, _o.sender == operation.sender, _o.nonce < operation.nonce)
    return [Operation(*row) for row in session.execute(mine)]


def locked(session: Session, key: str) -> Operation:
    """The operation, which nobody else changes until the caller's transaction ends."""
    return Operation(*session.execute(_FIND.with_for_update(), {"of_key": key}).one())


def take_nonce(session: Session, chain_id: int, sender: str, count: int) -> int:
    """The account's next nonce: never one that was given out, never one below `count`, what the chain has used up.

    No other worker gets one of this account until the caller's transaction ends.
    """
    given = {"chain_id": chain_id, "sender": sender, "floor": count}
    nonce: int = session.execute(_TAKE_NONCE, given).scalar_one()
    return nonce


_CHANGE = (
    update(operations)
    .where(_o.key == bindparam("of_key"), _o.state.in_(bindparam("in_states", expanding=True)))
    .where(_o.nonce.is_not_distinct_from(bindparam("of_nonce", type_=BigInteger)))
    .returning(operations)
)


_SIGN = _CHANGE.values(
    state="signed",
    held=None,
    nonce=bindparam("taken", type_=BigInteger),
    attempts=_o.attempts.concat(bindparam("attempt", type_=JSONB)),
    updated_at=func.clock_timestamp(),
)


def sign(session: Session, operation: Operation, attempt: dict[str, Any]) -> Operation | None:
    """prepared -> signed, with one more attempt; None, and nothing done, if it is not prepared any more."""
    given = {"of_key": operation.key, "of_nonce": None, "in_states": ["prepared"]}
    row = session.execute(_SIGN, {**given, "taken": attempt["nonce"], "attempt": [attempt]}).one_or_none()
    return None if row is None else Operation(*row)


def change(session: Session, operation: Operation, states: Sequence[str], **values: Any) -> Operation | None:
    """The operation with these values, if it is in one of the states and has the nonce it was seen with; None, and
    nothing done, if not.
    """
    statement = _CHANGE.values(updated_at=func.clock_timestamp(), **values)
    row = session.execute(
        statement, {"of_key": operation.key, "of_nonce": operation.nonce, "in_states": list(states)}
    ).one_or_none()
    return None if row is None else Operation(*row)
