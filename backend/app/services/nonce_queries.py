"""Assigns nonces to operations in the database, and queries of those that were assigned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Connection,
    Select,
    bindparam,
    cast,
    exists,
    func,
    literal,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.sql.dml import ReturningUpdate

from app.db.statements import Compiled
from app.db.tables import IS_OPEN_ORPHAN, IS_PAUSED, nonces, operations, order_counts, orphans
from app.services.operation_types import NOT_HELD, Attempt, Operation
from app.services.operations import ALL_ATTEMPTS_SEEN, seen_by_caller

_o = operations.c
_NEXT = Compiled(
    select(nonces.c.next).where(nonces.c.chain_id == bindparam("of_chain"), nonces.c.sender == bindparam("of_sender"))
)


def next_nonce(connection: Connection, chain_id: int, sender: str) -> int | None:
    """Returns the nonce after the highest one that was assigned to the account; None if none was."""
    nonce: int | None = connection.execute(_NEXT, {"of_chain": chain_id, "of_sender": sender}).scalar_one_or_none()
    return nonce


def skip_nonce(connection: Connection, chain_id: int, sender: str, nonce: int) -> None:
    """Marks the account's next nonce as assigned, as a row has it that was not signed by `sign`."""
    account = {"chain_id": chain_id, "sender": sender}
    statement = insert(nonces).values(**account, next=nonce + 1)
    statement = statement.on_conflict_do_update(
        index_elements=[nonces.c.chain_id, nonces.c.sender], set_={"next": nonce + 1}, where=nonces.c.next == nonce
    )
    connection.execute(statement)


def skip_nonces(connection: Connection, chain_id: int, sender: str, count: int) -> None:
    """Marks all nonces below `count` as assigned, as the chain has used them."""
    account = nonces.update().where(nonces.c.chain_id == chain_id, nonces.c.sender == sender)
    connection.execute(account.where(nonces.c.next < count).values(next=count))


def with_nonces(connection: Connection, operation: Operation, first: int) -> list[Operation]:
    """Returns the same sender's operations with nonces from `first` up to the operation's, which is not among them."""
    statement = select(operations).where(
        _o.chain_id == operation.chain_id, _o.sender == operation.sender, _o.nonce >= first, _o.nonce < operation.nonce
    )
    return [Operation.from_row(row) for row in connection.execute(statement.order_by(_o.nonce))]


_LEFT_NONCE = (_o.attempts != literal([], JSONB)) & _o.attempts[0]["nonce"].astext.cast(BigInteger).is_distinct_from(
    _o.nonce
)
"""Operations with an attempt whose nonce they do not have any more. There is an index on this condition."""


def left_nonces(connection: Connection, chain_id: int, sender: str) -> set[int]:
    """Returns the nonces of attempts whose operations have another nonce, or none, by now."""
    statement = select(_o.nonce, _o.attempts).where(_o.chain_id == chain_id, _o.sender == sender, _LEFT_NONCE)
    rows = connection.execute(statement).all()
    return {attempt["nonce"] for row in rows for attempt in row.attempts if attempt["nonce"] != row.nonce}


_TAKEN = bindparam("taken", type_=BigInteger)
_USED: BindParameter[int] = bindparam("used_on_chain")
_SIGNED_AT = bindparam("signed_at", type_=BigInteger)
CLOCK_TOLERANCE_US = 5_000_000
"""Microseconds by which the time of an entry may differ from the database's, when it is stored."""
_DATABASE_TIME = cast(func.extract("epoch", func.clock_timestamp()) * 1_000_000, BigInteger)
_PREPARED = (
    select(_o.chain_id, _o.sender, _TAKEN + 1)
    .where(_o.key == bindparam("of_key"), _o.state == "prepared", ALL_ATTEMPTS_SEEN)
    .where(bindparam("is_exit") | ~IS_PAUSED)
    .where(_SIGNED_AT.is_(None) | (func.abs(_SIGNED_AT - _DATABASE_TIME) < CLOCK_TOLERANCE_US))
    .where(
        (_TAKEN == _USED)
        | exists().where(nonces.c.chain_id == _o.chain_id, nonces.c.sender == _o.sender).correlate(operations)
    )
    .where(
        ~exists()
        .where(
            orphans.c.chain_id == _o.chain_id,
            orphans.c.sender == func.any(bindparam("orphans_of")),
            IS_OPEN_ORPHAN,
            orphans.c.tx_hash != func.all(bindparam("compared_orphans")),
        )
        .correlate(operations)
    )
    .with_for_update(of=operations)
    .cte("prepared")
)
_ORDERS = bindparam("orders", type_=BigInteger)
_COUNT = (
    insert(order_counts)
    .from_select(
        ["chain_id", "signed"],
        select(_PREPARED.c.chain_id, _ORDERS + 1).where(
            (_ORDERS == 0) | exists().where(order_counts.c.chain_id == _PREPARED.c.chain_id).correlate(_PREPARED)
        ),
    )
    .on_conflict_do_update(
        index_elements=[order_counts.c.chain_id],
        set_={"signed": _ORDERS + 1},
        where=order_counts.c.signed == _ORDERS,
    )
    .returning(order_counts.c.chain_id)
    .cte("counted")
)


def _sign_statement(from_prepared: Select[Any]) -> ReturningUpdate[Any]:
    """Takes the nonce for the operation that the query selects, if it is one that follows, and stores the attempt.

    It follows if it is the next one, or if the chain used all nonces between the next one and this: it leaves no gap.
    """
    follows = (nonces.c.next == _TAKEN) | ((nonces.c.next < _TAKEN) & (_TAKEN == _USED))
    taken = (
        insert(nonces)
        .from_select(["chain_id", "sender", "next"], from_prepared)
        .on_conflict_do_update(
            index_elements=[nonces.c.chain_id, nonces.c.sender], set_={"next": _TAKEN + 1}, where=follows
        )
        .returning(nonces.c.chain_id, nonces.c.sender)
        .cte("taken")
    )
    return (
        update(operations)
        .where(_o.key == bindparam("of_key"), _o.chain_id == taken.c.chain_id, _o.sender == taken.c.sender)
        .values(
            state="signed",
            nonce=_TAKEN,
            attempts=_o.attempts.concat(bindparam("attempt")),
            spending=bindparam("spending", type_=JSONB(none_as_null=True)),
            updated_at=func.clock_timestamp(),
            **NOT_HELD,
        )
        .returning(_o.updated_at)
    )


_SIGN = Compiled(_sign_statement(select(_PREPARED)))
_SIGN_COUNTED = Compiled(_sign_statement(select(_PREPARED).where(_PREPARED.c.chain_id == _COUNT.c.chain_id)))
_SIGNED_ORDERS = Compiled(select(order_counts.c.signed).where(order_counts.c.chain_id == bindparam("of_chain")))


def signed_orders(connection: Connection, chain_id: int) -> int:
    """Returns how many orders were signed on a network with a number, as `sign` counts them."""
    return connection.execute(_SIGNED_ORDERS, {"of_chain": chain_id}).scalar_one_or_none() or 0


def sign(
    connection: Connection,
    operation: Operation,
    attempt: Attempt,
    used_on_chain: int = 0,
    compared_orphans: Sequence[str] = (),
    spending: dict[str, Any] | None = None,
    *,
    is_exit: bool = False,
    orphans_of: Sequence[str] = (),
    orders: int | None = None,
) -> Operation | None:
    """Signs (prepared -> signed): takes the account's nonce and stores the attempt with it, in one statement.

    Args:
        connection: A connection to the database.
        operation: The operation as the caller saw it.
        attempt: The first attempt with its nonce.
        used_on_chain: Number of nonces that the account has certainly used on chain.
        compared_orphans: Hashes of the orphans that have another effect than the operation.
        spending: What is counted against the limits, as `Entry.to_json` returns it; None if nothing is.
        is_exit: Whether it is signed during a pause too.
        orphans_of: Accounts whose orphans have to be compared; the operation's sender if empty.
        orders: Number of signed orders, which this one makes one more; None if it is not counted.

    Returns:
        The signed operation. None without changes if the operation is not prepared any more, if it has attempts that
        the caller has not seen, or if the nonce is neither the one after the last that was assigned to the account nor
        `used_on_chain`, so that it was assigned before or would leave a gap; if there are orphans to compare; during a
        pause; if the time of `spending` is not the database's; or if another number of orders was signed.
    """
    parameters = {**seen_by_caller(operation), "taken": attempt.nonce, "attempt": [attempt.to_json()]}
    parameters |= {"used_on_chain": used_on_chain, "compared_orphans": list(compared_orphans)}
    parameters |= {"spending": spending, "signed_at": spending and spending["at"], "is_exit": is_exit}
    parameters["orphans_of"] = list(orphans_of or (operation.sender,))
    statement = _SIGN if orders is None else _SIGN_COUNTED
    parameters |= {} if orders is None else {"orders": orders}
    updated_at = connection.execute(statement, parameters).scalar_one_or_none()
    if updated_at is None:
        return None
    attempts = [*operation.attempts, attempt]
    signed = {"state": "signed", "nonce": attempt.nonce, "attempts": attempts, "updated_at": updated_at}
    return replace(operation, **signed, spending=spending, **NOT_HELD)
