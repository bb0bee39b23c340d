"""The library's testbed with the backend on it: a database of its own with real commits, its users, and the services as
production wires them, in this process or in others.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from app.bootstrap.container import Services, build_services
from app.db.database import Database, connect, create_database, drop_database
from app.db.embedded import start_embedded
from app.db.migrations import migrate
from app.db.tables import experiences, metadata, users
from app.services.blockchain_service import BlockchainService
from app.services.pricing import FixedFeed, Pricing
from app.services.transactions.sender import Policy, TransactionSender
from eth_account.signers.local import LocalAccount
from sqlalchemy import URL, create_engine, insert, make_url
from sqlalchemy import Engine as DatabaseEngine
from stakesim.evm.chain_spec import engine_accounts
from stakesim.evm.lean_web3 import lean_web3
from stakesim.faults.testbed import FaultTestbed, Wire, service_account
from stakesim.paths import state_dir
from web3.providers.base import BaseProvider

USERS = 8
"""The first two are hosts. Every third has no wallet."""
EXPERIENCE = uuid.UUID(int=1)
_TRUNCATE = f"TRUNCATE {', '.join(table.name for table in metadata.sorted_tables)} CASCADE"


@dataclass(frozen=True)
class Site:
    """Where any process finds node, database and contract."""

    rpc_url: str
    database_url: str
    contract: str

    def provider(self) -> Wire:
        return Wire(self.rpc_url)

    def database(self) -> DatabaseEngine:
        """An engine with a lock_timeout of 3 s: a lock that is not granted by then never will be, as the episode's
        clients take turns in one thread."""
        query = {"connect_timeout": "10", "options": "-c lock_timeout=3000"}
        return create_engine(make_url(self.database_url).update_query_dict(query))


def user_id(number: int) -> uuid.UUID:
    """Id of a user's row."""
    return uuid.UUID(int=100 + number)


def wallet(number: int) -> LocalAccount | None:
    """A user's own account; None for those who have none."""
    return None if number % 3 == 2 else engine_accounts()[1 + number]


def open_services(
    site: Site,
    provider: BaseProvider,
    policy: Policy,
    engine: DatabaseEngine,
    sender: type[TransactionSender] = TransactionSender,
) -> Services:
    """The backend of one process.

    Args:
        provider: What it reaches the node with; its clock takes the time of the latest block past it.
        sender: What it sends transactions with.
    """
    database = Database(engine)
    w3, truth = lean_web3(provider), lean_web3(site.provider())

    def clock() -> datetime:
        return datetime.fromtimestamp(truth.eth.get_block("latest")["timestamp"], UTC)

    chain = BlockchainService(w3, site.contract, sender(w3, service_account(), database, policy))
    return build_services(w3, database, chain, Pricing(FixedFeed(Decimal(200_000), clock), clock))


class BackendTestbed(FaultTestbed):
    """One anvil and one database, for one episode after another.

    Args:
        server: Of the database; that of `DATABASE_URL`, or else the embedded one, if left out.

    Attributes:
        site: Where other processes find it.
        database: For setting up.
        observer: The same database with a transaction for each statement, for looking at what is committed.

    Raises:
        EngineError: There is no anvil.
        DatabaseUnavailable: No database answers.
    """

    def __init__(self, server: URL | None = None) -> None:
        self._server = server or _server()
        self._name = f"faults_{os.getpid()}_{uuid.uuid4().hex[:8]}"
        super().__init__()
        try:
            self.database = create_database(self._server, self._name)
            migrate(self.database)
        except BaseException:
            super().close()
            raise
        url = self.database.url.render_as_string(hide_password=False)
        self.site = Site(self.rpc_url, url, self.contract)
        self.observer = self.database.execution_options(isolation_level="AUTOCOMMIT")

    def close(self) -> None:
        self.database.dispose()
        drop_database(self._server, self._name)
        super().close()

    def reset(self) -> None:
        """Puts back chain and mempool; the database has users and nothing else."""
        super().reset()
        with self.database.begin() as connection:
            connection.exec_driver_sql(_TRUNCATE)
            rows = [
                {"id": user_id(i), "name": f"user {i}", "wallet_address": own.address if (own := wallet(i)) else None}
                for i in range(USERS)
            ]
            connection.execute(insert(users), rows)
            connection.execute(insert(experiences), {"id": EXPERIENCE, "host_id": user_id(0), "title": "Pottery"})

    def stop_database(self) -> None:
        """Ends all sessions; nobody can connect from now on."""
        with self._admin() as execute:
            execute(f"ALTER DATABASE {self._name} ALLOW_CONNECTIONS false")
            execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{self._name}'")
        self.database.dispose()

    def start_database(self) -> None:
        """Lets everybody connect again."""
        with self._admin() as execute:
            execute(f"ALTER DATABASE {self._name} ALLOW_CONNECTIONS true")

    @contextmanager
    def _admin(self) -> Iterator[Callable[[str], Any]]:
        admin = create_engine(self._server, isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            yield connection.exec_driver_sql
        admin.dispose()


def _server() -> URL:
    """Of `DATABASE_URL`, or the embedded one.

    Raises:
        DatabaseUnavailable: No database answers there.
    """
    url = os.environ.get("DATABASE_URL")
    if not url:
        return start_embedded(state_dir() / "postgres")
    connect(url).dispose()
    return make_url(url).set(drivername="postgresql+psycopg")
