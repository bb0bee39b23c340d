"""Pages of event runs, bookings and operations.

A page begins after a position (keyset pagination), so that rows which are inserted meanwhile neither repeat nor hide
others. Each page is read in order from an index.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, Integer, Select, Text, bindparam, literal_column, select, true, tuple_

from app.db.database import Database
from app.db.tables import Booking, EventRun, event_run_bookings, event_runs, operations
from app.services.operation_types import Operation

Row = TypeVar("Row")


class Position(NamedTuple):
    """A place in a list: right after the row with this time and id."""

    time: datetime
    id: UUID | str


class Slice(NamedTuple):
    """Which part of a list to read: at most `limit` rows after a position; from the start if that is None."""

    limit: int
    after: Position | None = None


@dataclass(frozen=True)
class Page(Generic[Row]):
    """A part of a list.

    Attributes:
        rows: The rows in order.
        next: Position at which the next page begins; None if this is the last one.
    """

    rows: list[Row]
    next: Position | None


_runs, _bookings, _operations = event_runs.c, event_run_bookings.c, operations.c
_caller: ColumnElement[str] = literal_column("split_part(operations.key, ':', 1)", Text)
_has_caller: ColumnElement[bool] = literal_column("strpos(operations.key, ':')") > literal_column("0")


def event_run_page(
    database: Database,
    part: Slice,
    *,
    starts_from: datetime | None = None,
    starts_before: datetime | None = None,
    **values: Any,
) -> Page[EventRun]:
    """Returns event runs, those that start first at first.

    Args:
        database: Where they are stored.
        part: Which part of the list.
        starts_from: Earliest start.
        starts_before: Only those that start before this time.
        values: Values of columns; those that are None don't matter.
    """
    statement = select(event_runs).where(*_equal(_runs, values))
    if starts_from is not None:
        statement = statement.where(_runs.starts_at >= starts_from)
    if starts_before is not None:
        statement = statement.where(_runs.starts_at < starts_before)
    statement = _in_order(statement, _runs.starts_at, _runs.id, part, newest_first=False)
    return _read(database, statement, part, lambda row: EventRun(*row), lambda run: Position(run.starts_at, run.id))


def booking_page(database: Database, part: Slice, *, host_id: UUID | None = None, **values: Any) -> Page[Booking]:
    """Returns bookings, newest first.

    Args:
        database: Where they are stored.
        part: Which part of the list.
        host_id: Only bookings of event runs of this host.
        values: Values of columns; those that are None don't matter.
    """
    statement = select(event_run_bookings).where(*_equal(_bookings, values))
    if host_id is None:
        statement = _in_order(statement, _bookings.created_at, _bookings.id, part)
    else:  # at most a page of each run, so that a run with many bookings costs no more
        statement = statement.where(_bookings.event_run_id == _runs.id)
        of_run = _in_order(statement, _bookings.created_at, _bookings.id, part).lateral("of_run")
        of_host = select(of_run).select_from(event_runs.join(of_run, true())).where(_runs.host_id == host_id)
        if values.get("event_run_id") is not None:
            of_host = of_host.where(_runs.id == values["event_run_id"])
        statement = _in_order(of_host, of_run.c.created_at, of_run.c.id, part)
    return _read(database, statement, part, lambda row: Booking(*row), lambda row: Position(row.created_at, row.id))


def operation_page(
    database: Database,
    part: Slice,
    *,
    caller_id: UUID | None = None,
    state: str | None = None,
    held: bool | None = None,
) -> Page[Operation]:
    """Returns operations, newest first.

    Args:
        database: Where they are stored.
        part: Which part of the list.
        caller_id: Only those that this user requested.
        state: Only those in this state.
        held: Only those that are held, or only those that are not.
    """
    statement = select(operations)
    if caller_id is not None:
        statement = statement.where(_has_caller, _caller == bindparam("caller", str(caller_id)))
    if state is not None:
        # a literal in the statement, as indexes have conditions on the state
        statement = statement.where(_operations.state == bindparam("state", state, literal_execute=True))
    if held is not None:
        statement = statement.where(_operations.held.is_not(None) if held else _operations.held.is_(None))
    statement = _in_order(statement, _operations.created_at, _operations.key, part)
    return _read(database, statement, part, Operation.from_row, lambda each: Position(each.created_at, each.key))


def _equal(columns: Any, values: dict[str, Any]) -> list[ColumnElement[bool]]:
    return [columns[name] == value for name, value in values.items() if value is not None]


def _in_order(statement: Select[Any], time: Any, row_id: Any, part: Slice, *, newest_first: bool = True) -> Select[Any]:
    """Sorts by time and id, and takes one row more than the page has, which tells whether there is a next one.

    The limit is a literal: a plan that is kept for all limits would be one for many rows.
    """
    if part.after is not None:
        place = tuple_(time, row_id)
        after = tuple_(*part.after)
        statement = statement.where(place < after if newest_first else place > after)
    order = (time.desc(), row_id.desc()) if newest_first else (time, row_id)
    return statement.order_by(*order).limit(literal_column(str(part.limit + 1), Integer))


def _read(
    database: Database,
    statement: Select[Any],
    part: Slice,
    from_row: Callable[[Any], Row],
    position: Callable[[Row], Position],
) -> Page[Row]:
    with database.autocommit() as connection:
        rows: Sequence[Row] = [from_row(row) for row in connection.execute(statement)]
    page = list(rows[: part.limit])
    return Page(page, position(page[-1]) if len(rows) > part.limit else None)
