"""Lookups and checks that the use cases share: on-chain ids of rows, and the range of seats."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import bindparam, select

from app.core.errors import InvalidRequest, NeverOnChain, NotFound, NotOnChain
from app.db.database import Database
from app.db.statements import Compiled
from app.db.tables import event_runs

_ONCHAIN_RUN_ID = Compiled(
    select(event_runs.c.blockchain_event_run_id, event_runs.c.blockchain_status).where(
        event_runs.c.id == bindparam("run_id")
    )
)


def find_onchain_run_id(database: Database, event_run_id: UUID) -> int:
    """Returns the contract's number of a run.

    Raises:
        NotFound: There is no such run.
        NotOnChain: The run is not on chain yet, or never came there.
    """
    with database.autocommit() as connection:
        row = connection.execute(_ONCHAIN_RUN_ID, {"run_id": event_run_id}).one_or_none()
    if row is None:
        raise NotFound(f"There is no event run {event_run_id}.")
    return require_onchain_id(row.blockchain_event_run_id, row.blockchain_status, f"event run {event_run_id}")


def require_onchain_id(onchain_id: int | None, blockchain_status: str, row_name: str) -> int:
    """Returns the contract's number of a row.

    Args:
        onchain_id: The number; None if the row has none.
        blockchain_status: The row's column of this name.
        row_name: The row in words, for the error message.

    Raises:
        NotOnChain: The row has no number yet.
        NeverOnChain: The transaction that should have created it failed.
    """
    if onchain_id is not None:
        return onchain_id
    if blockchain_status == "failed":
        raise NeverOnChain(f"The {row_name} does not exist on chain: its transaction failed.")
    raise NotOnChain(f"The {row_name} is not on chain yet: its transaction is not final.")


def check_seats(seats: int) -> int:
    """Returns the number of seats if a row can store it. The contract checks how many seats are allowed.

    Raises:
        InvalidRequest: It is negative, or above the range of a bigint.
    """
    if not 0 <= seats < 2**63:
        raise InvalidRequest(f"{seats} is no number of seats.")
    return seats
