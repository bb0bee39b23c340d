"""What an operator sees of the operations: lists in pages, single ones by the beginning of their key, their history.

Reads the database only, so it works while node and service are gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select, tuple_

from app.core.errors import InterventionRefused
from app.db.database import Database
from app.db.tables import IS_OPEN_ORPHAN, in_states, interventions, operations, orphans
from app.services.operation_types import CLOSED_STATES, Operation

SHOWN_MATCHES = 3
"""Number of keys that the error about an ambiguous beginning shows."""

_o, _orphans = operations.c, orphans.c


@dataclass(frozen=True)
class Selection:
    """Which operations are listed.

    Attributes:
        state: Only those in this state; None for all open ones, or for all if `closed`.
        cause: Only those that are held for this cause.
        closed: Whether closed ones are listed as well.
        after: Key of the last one of the page before; None for the first page.
        limit: Maximum number of operations.
    """

    state: str | None = None
    cause: str | None = None
    closed: bool = False
    after: str | None = None
    limit: int = 50


@dataclass(frozen=True)
class Page:
    """Some operations, oldest first.

    Attributes:
        operations: The operations.
        next: Key after which the next page begins; None if there is none.
        now: Time of the database, for ages.
    """

    operations: Sequence[Operation]
    next: str | None
    now: datetime


@dataclass(frozen=True)
class OrphanRow:
    """A transaction of the platform's account that is in no operation."""

    tx_hash: str
    nonce: int
    block_number: int
    kind: str | None
    args: dict[str, object] | None
    value_wei: int
    succeeded: bool
    operation_key: str | None
    dismissed: bool
    found_at: datetime


@dataclass(frozen=True)
class Intervention:
    """What an operator did; `outcome` is None if the command did not end."""

    at: datetime
    operator: str
    command: str
    outcome: str | None


def list_operations(database: Database, selection: Selection) -> Page:
    """Returns a page of operations, oldest first.

    Raises:
        InterventionRefused: `selection.after` is the key of no operation.
    """
    statement = select(operations).order_by(_o.created_at, _o.key).limit(selection.limit + 1)
    if selection.state is not None:
        statement = statement.where(_o.state == selection.state)
    elif not selection.closed:
        statement = statement.where(~in_states(CLOSED_STATES))
    if selection.cause is not None:
        statement = statement.where(_o.held_cause == selection.cause)
    if selection.after is not None:
        last = find_operation(database, selection.after)
        statement = statement.where(tuple_(_o.created_at, _o.key) > tuple_(last.created_at, last.key))
    with database.autocommit() as connection:
        now = connection.execute(select(func.clock_timestamp())).scalar_one()
        found = [Operation.from_row(row) for row in connection.execute(statement)]
    page = found[: selection.limit]
    return Page(page, page[-1].key if len(found) > len(page) else None, now)


def find_operation(database: Database, key: str) -> Operation:
    """Returns the operation with this key, or the only one whose key begins so.

    Raises:
        InterventionRefused: There is none, or more than one.
    """
    beginning = select(operations).where(_o.key.startswith(key, autoescape=True)).order_by(_o.key)
    with database.autocommit() as connection:
        found = connection.execute(select(operations).where(_o.key == key)).all()
        found = found or connection.execute(beginning.limit(SHOWN_MATCHES + 1)).all()
    return Operation.from_row(found[_only([row.key for row in found], key, "operation")])


def list_orphans(database: Database, *, decided: bool = False) -> list[OrphanRow]:
    """Returns the orphans that somebody has to decide about, by nonce; also all others, if `decided`."""
    columns = (_orphans[name] for name in OrphanRow.__dataclass_fields__)
    statement = select(*columns).order_by(_orphans.nonce, _orphans.tx_hash)
    with database.autocommit() as connection:
        rows = connection.execute(statement if decided else statement.where(IS_OPEN_ORPHAN)).all()
    return [OrphanRow(**row._asdict()) for row in rows]


def find_orphan(database: Database, tx_hash: str) -> OrphanRow:
    """Returns the orphan with this hash, or the only one whose hash begins so.

    Raises:
        InterventionRefused: There is none, or more than one.
    """
    found = [orphan for orphan in list_orphans(database, decided=True) if orphan.tx_hash.startswith(tx_hash.lower())]
    return found[_only([orphan.tx_hash for orphan in found], tx_hash, "orphan")]


def history(database: Database, target: str) -> list[Intervention]:
    """Returns what operators did to an operation or orphan, oldest first."""
    columns = (interventions.c[name] for name in Intervention.__dataclass_fields__)
    statement = select(*columns).where(interventions.c.target == target).order_by(interventions.c.id)
    with database.autocommit() as connection:
        return [Intervention(**row._asdict()) for row in connection.execute(statement)]


def _only(found: Sequence[str], given: str, what: str) -> int:
    """Returns the index of the only one that was found, which is 0."""
    if not given or not found:
        message = f"There is no {what} {given!r}: `stakesim {what}s --all` lists them."
        raise InterventionRefused(message)
    if len(found) > 1:
        shown = ", ".join(found[:SHOWN_MATCHES]) + (", ..." if len(found) > SHOWN_MATCHES else "")
        raise InterventionRefused(f"More than one {what} begins with {given!r}: {shown}. Give more of it.")
    return 0
