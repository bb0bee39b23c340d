"""What the use cases share: ids on chain of rows, and what a row can hold."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import Connection, bindparam, select

from app.core.errors import InvalidRequest, NotFound, NotOnChain
from app.db.tables import event_runs

_CHAIN_ID = select(event_runs.c.blockchain_event_run_id).where(event_runs.c.id == bindparam("run_id"))


def chain_id_of(connection: Connection, event_run_id: UUID) -> int:
    """The run's id on chain. Raises `NotFound`, and `NotOnChain`."""
    found = connection.execute(_CHAIN_ID, {"run_id": event_run_id}).one_or_none()
    return on_chain(found[0] if found else None, found is not None, f"event run {event_run_id}")


def on_chain(chain_id: int | None, known: bool, what: str) -> int:
    if not known:
        raise NotFound(f"There is no {what}.")
    if chain_id is None:
        raise NotOnChain(f"The {what} is not on chain: its transaction is not final yet, or it failed.")
    return chain_id


def checked_seats(seats: int) -> int:
    """Whatever a row can hold: how many there may be is for the contract to say."""
    if not 0 <= seats < 2**63:
        raise InvalidRequest(f"{seats} is no number of seats.")
    return seats
