"""Keeps tables small that grow with each request: removes old responses, and adds up the totals of operations."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Interval, bindparam, delete, func, insert, select

from app.db.database import Database
from app.db.tables import answers, operation_totals

BATCH = 10_000
"""Maximum number of responses that one statement removes, so that none takes long."""
KEEP_ANSWERS = timedelta(days=7)
"""Default age at which the response to an Idempotency-Key is removed."""

_OLD = (
    select(answers.c.key)
    .where(answers.c.created_at < func.now() - bindparam("keep_for", type_=Interval))
    .order_by(answers.c.created_at)
    .limit(BATCH)
)
# with = ANY (ARRAY (...)) the rows are found by index; with IN, whole tables are joined
_REMOVE_OLD = delete(answers).where(answers.c.key == func.any(func.array(_OLD.scalar_subquery())))
_totals = operation_totals.c
_TAKEN = delete(operation_totals).returning(*_totals).cte("taken")
_ADD_UP = insert(operation_totals).from_select(
    ["state", "operations", "gas_wei"],
    select(_TAKEN.c.state, func.sum(_TAKEN.c.operations), func.sum(_TAKEN.c.gas_wei)).group_by(_TAKEN.c.state),
)
TOTALS = select(_totals.state, func.sum(_totals.operations), func.sum(_totals.gas_wei)).group_by(_totals.state)
"""Number of operations, and wei paid for gas, of each state in which operations are closed."""


def tidy(database: Database, keep_answers: timedelta = KEEP_ANSWERS) -> None:
    """Removes responses that are older than `keep_answers`, and adds up totals. Several processes may do so at once.

    A request that is repeated after its response was removed gets a new response, and still has one effect: the row in
    `operations` stays.
    """
    with database.autocommit() as connection:
        while connection.execute(_REMOVE_OLD, {"keep_for": keep_answers}).rowcount == BATCH:
            pass
        connection.execute(_ADD_UP)
