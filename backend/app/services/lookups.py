"""Checks that the use cases share: on-chain ids of rows, and what a row can store."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import Connection, bindparam, select

from app.core.errors import InvalidRequest, NotFound, NotOnChain
from app.db.tables import event_runs

_ONCHAIN_RUN_ID = select(event_runs.c.blockchain_event_run_id).where(event_runs.c.id == bindparam("run_id"))


def find_onchain_run_id(connection: Connection, event_run_id: UUID) -> int:
    """Returns the contract's number of a run.

    Raises:
        NotFound: There is no such run.
        NotOnChain: The run is not on chain.
    """
    row = connection.execute(_ONCHAIN_RUN_ID, {"run_id": event_run_id}).one_or_none()
    return require_onchain_id(row[0] if row else None, f"event run {event_run_id}", exists=row is not None)


def require_onchain_id(onchain_id: int | None, row_name: str, *, exists: bool = True) -> int:
    """Returns the contract's number of a row.

    Args:
        onchain_id: The number; None if the row has none.
        row_name: The row in words, for the error message.
        exists: Whether there is such a row.

    Raises:
        NotFound: There is no such row.
        NotOnChain: The row is not on chain.
    """
    if not exists:
        raise NotFound(f"There is no {row_name}.")
    if onchain_id is None:
        raise NotOnChain(f"The {row_name} is not on chain: its transaction is not final yet, or it failed.")
    return onchain_id


def check_seats(seats: int) -> int:
    """Returns the number of seats if a row can store it. How many seats are allowed is for the contract to say.

    Raises:
        InvalidRequest: It is negative, or above the range of a bigint.
    """
    if not 0 <= seats < 2**63:
        raise InvalidRequest(f"{seats} is no number of seats.")
    return seats
