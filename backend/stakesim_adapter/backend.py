"""The backend as a system under test: its services and its API, on one schema, for one scenario after another."""

from __future__ import annotations

import hashlib
import logging
import os
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import psycopg
from app.bootstrap.services import Services, build_services
from app.db.database import Database, connect, open_engine
from app.db.migrations import migrate, migration_files
from app.db.statements import Compiled
from app.db.tables import event_run_bookings, event_runs, experiences, metadata, operations, payments, users
from app.services.blockchain_service import BlockchainService
from app.services.booking_service import BookingService
from app.services.codec import Codec
from app.services.event_run_service import EventRunService
from app.services.payments.service import PaymentService
from app.services.pricing import Pricing, Rate
from app.services.transactions import signing
from app.services.transactions.policy import TransactionPolicy
from app.services.transactions.sender import TransactionSender
from sqlalchemy import Connection, Text, func, insert, literal_column, null, select, union_all
from stakesim.backend import BackendError, BookingRow, Rows, RunRow, ScenarioSetup
from stakesim.paths import state_dir
from web3 import Web3
from web3.middleware import AttributeDictMiddleware

from stakesim_adapter.errors import as_backend_error
from stakesim_adapter.payments import AT_ONCE, InProcessGateway, ScenarioPayments
from stakesim_adapter.razorpay_stand_in import RazorpayStandIn
from stakesim_adapter.services import ServicesSession
from stakesim_adapter.temporary_schema import TemporarySchema

if TYPE_CHECKING:
    from stakesim_adapter.api import ApiClient, ApiSession

PLATFORM = "platform"
"""Name of the platform in `users`."""
POLICY = TransactionPolicy(give_up_after=5)
"""Policy of the sender. A simulated chain mines a transaction at once or never, so waiting longer is of no use."""
FINALITY_BLOCKS = 1
"""Depth at which a block cannot change: scenarios reorganise the latest block only."""
_NAMESPACE = uuid.UUID("6f8c1f5e-6f0a-5d0b-9c55-0a1d2f3b4c5d")
EMPTY_TABLES = "; ".join(f"DELETE FROM {table.name}" for table in reversed(metadata.sorted_tables))
"""SQL that deletes all rows. For a few rows it is much faster than TRUNCATE."""

_run, _booking, _payment = event_runs.c, event_run_bookings.c, payments.c
_RUN_OF_BOOKING = event_runs.alias("run_of_booking")
_ROWS = Compiled(
    union_all(
        select(
            literal_column("'run'").label("table"),
            _run.blockchain_event_run_id.label("onchain_id"),
            (_run.blockchain_status == "confirmed").label("confirmed"),
            _run.status,
            null().label("seats"),
            _run.price_inr,
            _run.blockchain_price_per_seat_wei,
            _run.blockchain_stake_amount_wei,
            _run.inr_per_eth,
            _run.max_seats,
            _run.seats_booked,
            func.extract("epoch", _run.starts_at).label("starts_at"),
            null().label("user_id"),
            null().label("purpose"),
            null().label("dispute"),
            null().label("gateway_payment_id"),
        ),
        select(
            literal_column("'booking'"),
            _booking.blockchain_booking_id,
            _booking.blockchain_status == "confirmed",
            _booking.status,
            _booking.seats,
            _booking.total_inr,
            _booking.blockchain_payment_wei,
            _booking.blockchain_stake_amount_wei,
            _booking.inr_per_eth,
            _RUN_OF_BOOKING.c.blockchain_event_run_id,
            null(),
            null(),
            _booking.user_id,
            *[null()] * 3,
        ).join(_RUN_OF_BOOKING, _RUN_OF_BOOKING.c.id == _booking.event_run_id),
        select(
            literal_column("'payment'"),
            func.coalesce(_run.blockchain_event_run_id, _booking.blockchain_booking_id),
            null(),
            _payment.state.cast(Text),
            *[null()] * 8,
            _payment.user_id,
            _payment.purpose,
            _payment.dispute,
            _payment.gateway_payment_id,
        ).select_from(
            payments.outerjoin(operations, operations.c.key == _payment.operation_key)
            .outerjoin(event_runs, (_run.id == operations.c.subject) & (_payment.purpose == "event_run"))
            .outerjoin(event_run_bookings, (_booking.id == operations.c.subject) & (_payment.purpose == "booking"))
        ),
    )
)
"""All event runs, bookings and payments in one statement. `table` says which a row is of."""


class EventStakeBackend:
    """Implements `stakesim.backend.Backend`.

    Args:
        event_runs: Class with the use cases of event runs. A test passes a broken one, to show that its fault is found.
        bookings: Class with the use cases of bookings, likewise.
        payments: Class with the use cases of payments, likewise.

    Attributes:
        drivers: Names of the ways to call the backend.
        database: The database, with a new schema that `close` drops.
        services: Services of the current scenario.
        api: Calls the app; None until the driver `api` is used.
        packages: Packages of the backend's own code, whose branches steer a search.
        timed_parts: Class or module, function and label of the parts whose time `stakesim bench` reports separately.

    Raises:
        BackendError: No database answers.
    """

    drivers = ("services", "api")
    packages = ("app",)
    timed_parts = (
        (Codec, "events", "events of a receipt, decoded"),
        (Codec, "call", "calls, encoded"),
        (Connection, "execute", "database: SQLAlchemy"),
        (psycopg.Cursor, "execute", "database: in the driver and the server"),
        (signing, "_sign", "signing"),
    )

    def __init__(
        self,
        event_runs: type[EventRunService] = EventRunService,
        bookings: type[BookingService] = BookingService,
        payments: type[PaymentService] = PaymentService,
    ) -> None:
        logging.getLogger("app").addHandler(logging.NullHandler())  # expected errors would fill the terminal
        self._event_run_service, self._booking_service, self._payment_service = event_runs, bookings, payments
        self.services: Services | None = None
        self.api: ApiClient | None = None
        url = os.environ.get("DATABASE_URL")
        with as_backend_error():
            tables = None if url else _hash_of_migrations()  # nothing is left in a database that is somebody else's
            shared_engine = connect(url, state_dir() / "postgres")
        self._schema = TemporarySchema(shared_engine, "scenarios", tables)
        options = f"-csearch_path={self._schema.name} -csynchronous_commit=off"  # rows need not survive a crash
        self.database = Database(open_engine(shared_engine.url.update_query_dict({"options": options})))
        try:
            with as_backend_error():
                migrate(self.database.engine)
        except BaseException:
            self.database.engine.dispose()
            self._schema.drop()
            raise

    def close(self) -> None:
        """Drops the schema, or leaves it on the embedded server, which keeps running for later commands."""
        if self.api is not None:
            self.api.close()
        self.database.engine.dispose()
        self._schema.leave()

    def start(self, setup: ScenarioSetup, driver: str) -> ServicesSession | ApiSession:
        """Starts a scenario on empty tables, with one of `drivers`.

        Raises:
            BackendError: A package that the driver needs is not installed.
        """
        user_ids = {user.name: _user_id(user.name) for user in setup.users} | {PLATFORM: _user_id(PLATFORM)}
        self._insert_rows(setup)
        w3 = _with_plain_answers(setup.w3, tuple(setup.w3.middleware_onion.middleware))
        sender = TransactionSender(w3, setup.platform, self.database, POLICY)
        chain = BlockchainService(w3, setup.contract_address, sender)
        pricing = Pricing(_PriceFeed(setup), lambda: _utc(setup.clock()))
        stand_in = RazorpayStandIn()
        payments = self._payment_service(self.database, InProcessGateway(stand_in), sender.sealer, AT_ONCE)
        self.services = replace(
            build_services(w3, self.database, chain, pricing, payments=payments, finality_blocks=FINALITY_BLOCKS),
            runs=self._event_run_service(self.database, chain, pricing, payments),
            bookings=self._booking_service(self.database, chain, pricing, payments),
        )
        self._user_names = names = {user_id: name for name, user_id in user_ids.items()}
        walletless = {PLATFORM, *(user.name for user in setup.users if user.address is None)}
        paying = ScenarioPayments(self.database, payments, stand_in, names, walletless, chain.block_number)
        self._paying = paying
        experience_id = uuid.UUID(setup.experience_id)
        session = ServicesSession(
            self.services, experience_id, user_ids, self._read_rows, paying, reorganise=setup.reorganise
        )
        return session if driver == "services" else self._api_session(setup, self.services, session)

    def _insert_rows(self, setup: ScenarioSetup) -> None:
        """Empties the tables, and inserts the scenario's users and experience."""
        user_rows = [
            {"id": _user_id(user.name), "name": user.name, "wallet_address": user.address} for user in setup.users
        ]
        user_rows.append({"id": _user_id(PLATFORM), "name": PLATFORM, "wallet_address": None})
        host_id = _user_id(_experience_host(setup))
        experience_row = {"id": setup.experience_id, "host_id": host_id, "title": "Cooking"}
        with self.database.transaction() as connection:
            connection.exec_driver_sql(EMPTY_TABLES)
            connection.execute(insert(users), user_rows)
            connection.execute(insert(experiences), experience_row)

    def _api_session(self, setup: ScenarioSetup, services: Services, session: ServicesSession) -> ApiSession:
        try:
            from stakesim_adapter.api import ApiClient, ApiSession
        except ModuleNotFoundError as missing:
            raise BackendError(
                f"The driver api needs {missing.name}, which is not installed: run `make serve`, or "
                "`pip install -e '.[api]'`."
            ) from None
        if self.api is None:
            self.api = ApiClient(services)
        self.api.use_services(services)
        return ApiSession(self.api, session, _experience_host(setup))

    def _read_rows(self) -> Rows:
        with self.database.autocommit() as connection:
            rows = connection.execute(_ROWS).all()
        return Rows(
            [RunRow(*row[1:4], *row[5:12]) for row in rows if row.table == "run"],
            [self._booking_row(row) for row in rows if row.table == "booking"],
            self._paying.rows(row for row in rows if row.table == "payment"),
        )

    def _booking_row(self, row: Any) -> BookingRow:
        return BookingRow(*(*row[1:10], self._user_names[row.user_id]))


@lru_cache(maxsize=1)
def _with_plain_answers(w3: Web3, middleware: tuple[tuple[Any, str], ...]) -> Web3:
    """Returns a client on the same connection that makes no `AttributeDict`s, like `app.bootstrap.container`'s.

    Args:
        w3: The client.
        middleware: Its middleware, with their names.
    """
    return Web3(w3.provider, [(each, name) for each, name in middleware if each is not AttributeDictMiddleware])


class _PriceFeed:
    """The scenario's price feed as `app.services.pricing.PriceFeed`."""

    def __init__(self, setup: ScenarioSetup) -> None:
        self._setup = setup

    def latest(self) -> Rate:
        inr_per_eth, as_of = self._setup.price_feed()
        return Rate(inr_per_eth, _utc(as_of))


def _hash_of_migrations() -> str:
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in migration_files())).hexdigest()


def _utc(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _experience_host(setup: ScenarioSetup) -> str:
    """Returns the name of the user to whom the scenario's experience belongs: its first one."""
    return setup.users[0].name if setup.users else PLATFORM


def _user_id(name: str) -> uuid.UUID:
    """Returns the same id for a name in every process."""
    return uuid.uuid5(_NAMESPACE, name)
