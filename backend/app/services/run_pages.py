"""Reads all event runs with their bookings, oldest first, in pages: a table of any size fits in memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import chain
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import DateTime, Uuid, bindparam, select, tuple_

from app.db.database import Database
from app.db.tables import Booking, EventRun, event_run_bookings, event_runs, in_states, operations
from app.services.operation_types import CLOSED_STATES

PAGE_SIZE = 500
"""Number of event runs of a page."""

_runs, _bookings = event_runs.c, event_run_bookings.c
_after = tuple_(bindparam("after_time", type_=DateTime(timezone=True)), bindparam("after_id", type_=Uuid()))
_RUNS = (
    select(event_runs)
    .where(tuple_(_runs.created_at, _runs.id) > _after)
    .order_by(_runs.created_at, _runs.id)
    .limit(bindparam("page_size"))
)
_BOOKINGS = (
    select(event_run_bookings)
    .where(_bookings.event_run_id.in_(bindparam("run_ids", expanding=True)))
    .order_by(_bookings.created_at)
)
_OPEN_SUBJECTS = select(operations.c.subject).where(
    operations.c.subject.in_(bindparam("subjects", expanding=True)), ~in_states(CLOSED_STATES)
)


class RunPage(NamedTuple):
    """Event runs with what belongs to them.

    Attributes:
        runs: The rows, oldest first.
        bookings: Their bookings by id of the run, oldest first.
        open_subjects: Ids of those rows that wait for their creation, and that an open operation creates.
    """

    runs: list[EventRun]
    bookings: dict[UUID, list[Booking]]
    open_subjects: set[UUID | None]


def pages_of_runs(database: Database) -> Iterator[RunPage]:
    """Yields all event runs in pages. Holds no connection meanwhile."""
    after = {"after_time": datetime.min.replace(tzinfo=UTC), "after_id": UUID(int=0)}
    while True:
        with database.autocommit() as connection:
            rows = connection.execute(_RUNS, {**after, "page_size": PAGE_SIZE})
            runs = [EventRun(*row) for row in rows]
            if not runs:
                return
            bookings: dict[UUID, list[Booking]] = defaultdict(list)
            for row in connection.execute(_BOOKINGS, {"run_ids": [run.id for run in runs]}):
                bookings[row.event_run_id].append(Booking(*row))
            # read last: an operation that is not open any more has changed its row meanwhile
            everything: list[EventRun | Booking] = [*runs, *chain.from_iterable(bookings.values())]
            pending = [row.id for row in everything if row.blockchain_status == "pending"]
            subjects = connection.scalars(_OPEN_SUBJECTS, {"subjects": pending}).all() if pending else ()
        yield RunPage(runs, bookings, set(subjects))
        after = {"after_time": runs[-1].created_at, "after_id": runs[-1].id}
