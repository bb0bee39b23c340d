"""Queries of the nonces that the database has assigned to accounts."""

from __future__ import annotations

from sqlalchemy import BigInteger, Connection, bindparam, literal, select
from sqlalchemy.dialects.postgresql import JSONB, insert

from app.db.tables import nonces, operations
from app.services.operation_types import Operation

_o = operations.c
_NEXT = select(nonces.c.next).where(
    nonces.c.chain_id == bindparam("of_chain"), nonces.c.sender == bindparam("of_sender")
)


def next_nonce(connection: Connection, chain_id: int, sender: str) -> int | None:
    """Returns the nonce after the highest one that was assigned to the account; None if none was."""
    return connection.execute(_NEXT, {"of_chain": chain_id, "of_sender": sender}).scalar_one_or_none()


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
