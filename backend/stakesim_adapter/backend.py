"""The backend as a system under test: its services and its API, on a database of its own, for one scenario after
another."""

from __future__ import annotations

import logging
import os
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from app.bootstrap.container import Services, services_on
from app.db.session import Database, connect, migrate
from app.db.tables import event_run_bookings, event_runs, experiences, metadata, users
from app.services.blockchain_service import BlockchainService
from app.services.booking_service import BookingService
from app.services.codec import Codec
from app.services.event_run_service import EventRunService
from app.services.pricing import Pricing, Rate
from app.services.transactions.policy import TransactionPolicy
from app.services.transactions.sender import TransactionSender
from sqlalchemy import Connection, create_engine, insert, null, select, union_all
from sqlalchemy.engine.default import DefaultDialect
from stakesim.backend import BackendError, BookingRow, Rows, RunRow, ScenarioSetup
from stakesim.paths import state_dir

from stakesim_adapter.errors import as_backend_error
from stakesim_adapter.services import ServicesSession

if TYPE_CHECKING:
    from stakesim_adapter.api import Api, ApiSession

PLATFORM = "platform"
"""Name of the user who is the platform."""
POLICY = TransactionPolicy(give_up_after=5)
"""Of the services' sender: a simulated chain mines at once or never."""
_NAMESPACE = uuid.UUID("6f8c1f5e-6f0a-5d0b-9c55-0a1d2f3b4c5d")
EMPTY_TABLES = "; ".join(f"DELETE FROM {table.name}" for table in reversed(metadata.sorted_tables))
"""SQL that deletes all rows: where there are few of them, much faster than TRUNCATE."""

_r, _b = event_runs.c, event_run_bookings.c
_ROWS = union_all(
    select(
        _r.blockchain_event_run_id,
        (_r.blockchain_status == "confirmed").label("confirmed"),
        _r.status,
        null().label("seats"),
        _r.price_inr,
        _r.blockchain_price_per_seat_wei,
        _r.blockchain_stake_amount_wei,
        _r.inr_per_eth,
    ),
    select(
        _b.blockchain_booking_id,
        _b.blockchain_status == "confirmed",
        _b.status,
        _b.seats,
        _b.total_inr,
        _b.blockchain_payment_wei,
        _b.blockchain_stake_amount_wei,
        _b.inr_per_eth,
    ),
)
"""Runs, and bookings, which have seats."""


class EventStakeBackend:
    """See `stakesim.backend.Backend`.

    Attributes:
        database: In a schema of this backend's own, which is dropped with it.
        services: Of the scenario that was started last.
        timed_parts: Owner, name and label of what `stakesim bench` measures by itself.
    """

    drivers = ("services", "api")
    timed_parts = (
        (Codec, "events", "events of a receipt, decoded"),
        (Codec, "call", "calls, encoded"),
        (Connection, "execute", "database: SQLAlchemy"),
        (DefaultDialect, "do_execute", "database: in the driver and the server"),
    )

    def __init__(
        self,
        event_runs: type[EventRunService] = EventRunService,
        bookings: type[BookingService] = BookingService,
    ) -> None:
        """event_runs, bookings: other classes in their place, to see that what is wrong with them is found.

        Raises:
            BackendError: No database answers.
        """
        logging.getLogger("app").addHandler(logging.NullHandler())  # what scenarios do to it is nobody's news
        self._event_runs, self._bookings = event_runs, bookings
        self._schema = f"scenarios_{uuid.uuid4().hex}"
        self.services: Services | None = None
        self.api: Api | None = None
        with as_backend_error():
            shared = connect(os.environ.get("DATABASE_URL"), state_dir() / "postgres")
        with shared.begin() as connection:
            connection.exec_driver_sql(f"CREATE SCHEMA {self._schema}")
        options = f"-csearch_path={self._schema} -csynchronous_commit=off"  # what a crash loses here, nobody misses
        self.database = Database(create_engine(shared.url.update_query_dict({"options": options})))
        try:
            with as_backend_error():
                migrate(self.database.engine)
        except BaseException:
            self.close()
            raise
        finally:
            shared.dispose()

    def close(self) -> None:
        """The embedded database server stays up for the next one."""
        if self.api is not None:
            self.api.close()
        with self.database.begin() as connection:
            connection.exec_driver_sql(f"DROP SCHEMA IF EXISTS {self._schema} CASCADE")
        self.database.engine.dispose()

    def start(self, setup: ScenarioSetup, driver: str) -> ServicesSession | ApiSession:
        user_ids = {user.name: _id(user.name) for user in setup.users} | {PLATFORM: _id(PLATFORM)}
        rows = [{"id": _id(user.name), "name": user.name, "wallet_address": user.address} for user in setup.users]
        with self.database.begin() as connection:
            connection.exec_driver_sql(EMPTY_TABLES)
            connection.execute(insert(users), [*rows, {"id": _id(PLATFORM), "name": PLATFORM, "wallet_address": None}])
            connection.execute(
                insert(experiences), {"id": setup.experience_id, "host_id": _id(PLATFORM), "title": "Cooking"}
            )
        sender = TransactionSender(setup.w3, setup.platform, self.database, POLICY)
        chain = BlockchainService(setup.w3, setup.contract_address, sender)
        pricing = Pricing(_Feed(setup), lambda: _utc(setup.clock()))
        services = services_on(setup.w3, self.database, chain, pricing)
        self.services = services = Services(
            **{
                **vars(services),
                "runs": self._event_runs(self.database, chain, pricing),
                "bookings": self._bookings(self.database, chain, pricing),
            }
        )
        session = ServicesSession(services, uuid.UUID(setup.experience_id), user_ids, self._rows)
        if driver == "services":
            return session
        try:
            from stakesim_adapter.api import Api, ApiSession
        except ModuleNotFoundError as missing:
            raise BackendError(
                f"The driver api needs {missing.name}, which is not installed: run `make serve`, or "
                "`pip install -e '.[api]'`."
            ) from None
        if self.api is None:
            self.api = Api(services)
        self.api.serve(services)
        return ApiSession(self.api, session)

    def _rows(self) -> Rows:
        """What the database says, in one statement."""
        with self.database.single() as connection:
            rows = connection.execute(_ROWS).all()
        return Rows(
            [RunRow(*row[:3], *row[4:]) for row in rows if row.seats is None],
            [BookingRow(*row) for row in rows if row.seats is not None],
        )


class _Feed:
    """The scenario's price feed as the backend asks one."""

    def __init__(self, setup: ScenarioSetup) -> None:
        self._setup = setup

    def latest(self) -> Rate:
        inr_per_eth, as_of = self._setup.price_feed()
        return Rate(inr_per_eth, _utc(as_of))


def _utc(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _id(name: str) -> uuid.UUID:
    """The same for the same name in every run."""
    return uuid.uuid5(_NAMESPACE, name)
