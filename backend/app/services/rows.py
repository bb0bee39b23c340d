"""What the use cases share: a row that follows what becomes of it on chain, and the seats of a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from sqlalchemy import BigInteger, Table, Update, bindparam, case, select, update
from sqlalchemy.orm import Session, sessionmaker

from app.core.errors import ContractRejected, InvalidRequest, NotFound, UnsupportedByContract
from app.db.tables import event_run_bookings, event_runs

Sessions = sessionmaker[Session]

OPEN = ("active", "full")
"""Statuses of a run that is not final."""


@contextmanager
def following(sessions: Sessions, table: Table, row_id: UUID) -> Iterator[None]:
    """Marks the row as failed, with the reason, when it certainly had no effect on chain.

    After any other error, as when the node is gone, that is not known, and it stays pending.
    """
    try:
        yield
    except (ContractRejected, UnsupportedByContract, InvalidRequest) as error:
        receipt = error.receipt if isinstance(error, ContractRejected) else None
        with sessions.begin() as session:
            session.execute(
                update(table).where(table.c.id == row_id),
                {
                    "blockchain_status": "failed",
                    "blockchain_error": error.message,
                    "blockchain_tx_hash": receipt["transactionHash"].to_0x_hex() if receipt else None,
                },
            )
        raise


_CHAIN_ID = select(event_runs.c.blockchain_event_run_id).where(event_runs.c.id == bindparam("run_id"))


def chain_id_of(session: Session, event_run_id: UUID) -> int:
    """The run's id on chain. Raises `NotFound`, and `InvalidRequest` for a run that never got there."""
    found = session.execute(_CHAIN_ID, {"run_id": event_run_id}).one_or_none()
    return on_chain(found[0] if found else None, found is not None, f"event run {event_run_id}")


def on_chain(chain_id: int | None, known: bool, what: str) -> int:
    if not known:
        raise NotFound(f"There is no {what}.")
    if chain_id is None:
        raise InvalidRequest(f"The {what} is not on chain.")
    return chain_id


def checked_seats(seats: int) -> int:
    """Whatever a row can hold: how many there may be is for the contract to say."""
    if not 0 <= seats < 2**63:
        raise InvalidRequest(f"{seats} is no number of seats.")
    return seats


def confirmed(table: Table) -> Update:
    """An update of the row `row_id` by what the chain says, which is given as further parameters."""
    return update(table).where(table.c.id == bindparam("row_id")).values(blockchain_status="confirmed")


_BOOKED = event_runs.c.seats_booked + bindparam("seats", type_=BigInteger)
_IF_OPEN = case((event_runs.c.max_seats > _BOOKED, "active"), else_="full")
TAKE_SEATS = (
    update(event_runs)
    .where(event_runs.c.id == bindparam("run_id"))
    .values(seats_booked=_BOOKED, status=case((event_runs.c.status.in_(OPEN), _IF_OPEN), else_=event_runs.c.status))
)
"""Adds `seats` to those booked of the run `run_id`, takes them off where negative; full exactly when all are booked."""


def bookings_of(event_run_id: UUID) -> Update:
    """An update of the active bookings that a run has on chain."""
    return update(event_run_bookings).where(
        event_run_bookings.c.event_run_id == event_run_id,
        event_run_bookings.c.status == "active",
        event_run_bookings.c.blockchain_status == "confirmed",
    )
