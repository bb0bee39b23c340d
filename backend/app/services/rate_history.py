"""The accepted rates of ETH as rows, by which new ones are judged: by all processes, and across restarts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy import ColumnElement, Connection, Insert, func, insert, literal, select, text

from app.core.errors import PriceError
from app.db.database import Database
from app.db.tables import rates
from app.services.pricing import MAX_AHEAD, Rate, differ, jump_error

_LOCK_KEY = 7_305_116
"""Key of the PostgreSQL advisory lock with which rates are accepted one after another."""

_columns = rates.c
_NEWEST = select(_columns.inr_per_eth, _columns.source, _columns.as_of).order_by(_columns.id.desc()).limit(1)
_NEWEST_ID = select(func.max(_columns.id)).scalar_subquery()
_CONFIRMED_ID = select(func.coalesce(func.max(_columns.id), 0)).where(_columns.confirmed).scalar_subquery()


class StoredRates:
    """Accepts rates as rows of `rates`.

    A new rate is compared with all rates that were accepted in the window, and with the newest one, whatever its age.
    So neither many small jumps nor a restart make up for a large one. The database's clock decides.

    Args:
        database: The database.
        max_jump: Maximum factor between a rate and an accepted one, up or down.
        max_use: The longest time for which a rate may be used. The window is longer, so that a new rate is compared
            with each one that any process may still use.
        now: Returns the time of acceptance, as an SQL expression.
    """

    def __init__(
        self,
        database: Database,
        max_jump: Decimal,
        max_use: timedelta,
        now: Callable[[], ColumnElement[datetime]] = func.clock_timestamp,
    ) -> None:
        self._database, self._now = database, now
        self._max_jump = max_jump
        self._window = max(max_use, timedelta(hours=1)) + MAX_AHEAD

    def accept(self, rate: Rate) -> None:
        """Stores a rate, unless it is the newest row.

        Raises:
            PriceError: It is too far from an accepted rate. Nothing was stored.
        """
        with self._database.transaction() as connection:
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK_KEY})"))
            self._check_jump(connection, rate.inr_per_eth)
            if connection.execute(_NEWEST).one_or_none() != (rate.inr_per_eth, rate.source, rate.as_of):
                connection.execute(self._insert(rate))

    def confirm(self, rate: Rate) -> None:
        """Stores a rate that a person has checked. Earlier rates do not count any more."""
        with self._database.transaction() as connection:
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK_KEY})"))
            connection.execute(self._insert(rate, confirmed=True))

    def _check_jump(self, connection: Connection, inr_per_eth: Decimal) -> None:
        in_window = _columns.accepted_at > self._now() - literal(self._window)
        bounds = select(func.min(_columns.inr_per_eth), func.max(_columns.inr_per_eth)).where(
            _columns.id >= _CONFIRMED_ID, in_window | (_columns.id == _NEWEST_ID)
        )
        low, high = connection.execute(bounds).one()
        for accepted in (low, high):
            if accepted is not None and differ(inr_per_eth, accepted, self._max_jump):
                error = jump_error(inr_per_eth, accepted, self._max_jump)
                remedy = "If it is right, run `stakesim confirm-rate`."
                raise PriceError(f"{error.message} {remedy}", "jump")

    def _insert(self, rate: Rate, confirmed: bool = False) -> Insert:
        return insert(rates).values(
            inr_per_eth=rate.inr_per_eth,
            source=rate.source,
            as_of=rate.as_of,
            accepted_at=self._now(),
            confirmed=confirmed,
        )
