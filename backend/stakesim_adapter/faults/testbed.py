"""The library's testbed, with a database for the backend.

The database is a new one, with real commits. The services are wired as in production, in this process or in others.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from app.bootstrap.services import Services, build_services
from app.db.connections import DatabasePolicy
from app.db.database import Database, connect, create_database, drop_database, open_engine
from app.db.embedded import start_embedded
from app.db.migrations import migrate
from app.db.tables import experiences, metadata, users
from app.services.blockchain_service import BlockchainService
from app.services.payments.razorpay import RazorpayGateway
from app.services.payments.service import PaymentService
from app.services.pricing import Pricing, Rate
from app.services.transactions.policy import TransactionPolicy
from app.services.transactions.sender import TransactionSender
from eth_account.signers.local import LocalAccount
from pydantic import SecretStr
from sqlalchemy import URL, create_engine, insert, make_url
from sqlalchemy import Engine as DatabaseEngine
from stakesim.evm.chain_spec import engine_accounts
from stakesim.evm.lean_web3 import lean_web3
from stakesim.faults.episode_clock import EpisodeClock
from stakesim.faults.testbed import FaultTestbed, LocalNodeProvider, service_account
from stakesim.paths import state_dir
from web3.providers.base import BaseProvider

from stakesim_adapter.payments import AT_ONCE
from stakesim_adapter.razorpay_stand_in import RazorpayStandIn, serve_stand_in

USERS = 8
"""Number of users. The first two are hosts; every third has no wallet."""
EXPERIENCE = uuid.UUID(int=1)
_TRUNCATE = f"TRUNCATE {', '.join(table.name for table in metadata.sorted_tables)} CASCADE"


@dataclass(frozen=True)
class Addresses:
    """Addresses of node, database and contract, which any process can connect to.

    Attributes:
        rpc_url: URL of the node.
        database_url: URL of the database.
        contract: Address of the contract.
        gateway_url: URL of the payment gateway's stand-in.
    """

    rpc_url: str
    database_url: str
    contract: str
    gateway_url: str

    def provider(self) -> LocalNodeProvider:
        """Returns a provider without faults."""
        return LocalNodeProvider(self.rpc_url)

    def database(self) -> DatabaseEngine:
        """Returns a database engine with a lock_timeout of 3 s.

        All clients of an episode take turns in one thread, so a lock that is not granted by then never will be.
        """
        return open_engine(make_url(self.database_url), DatabasePolicy(lock_timeout=3))


@dataclass(frozen=True)
class SteadyPriceFeed:
    """Always gives the same rate, as of now.

    Attributes:
        clock: Returns the present time, with a time zone.
    """

    clock: Callable[[], datetime]

    def latest(self) -> Rate:
        """Returns the rate."""
        return Rate(Decimal(200_000), self.clock())


def user_id(number: int) -> uuid.UUID:
    """Returns the id of a user in `users`."""
    return uuid.UUID(int=100 + number)


def wallet(number: int) -> LocalAccount | None:
    """Returns the user's account; None for users without a wallet."""
    return None if number % 3 == 2 else engine_accounts()[1 + number]


def open_services(
    addresses: Addresses,
    provider: BaseProvider,
    policy: TransactionPolicy,
    engine: DatabaseEngine,
    sender: type[TransactionSender] = TransactionSender,
    clock: EpisodeClock | None = None,
    *,
    pays: bool = False,
) -> Services:
    """Builds the services of one process of the backend.

    Args:
        addresses: Addresses of node and contract.
        provider: Provider with faults. The clock for prices reads the latest block without faults.
        policy: Policy of the sender.
        engine: Engine of the database.
        sender: Class that sends the transactions.
        clock: Clock of the sender; real time if None.
        pays: Whether people pay in INR.
    """
    database = Database(engine)
    w3, faultless_w3 = lean_web3(provider), lean_web3(addresses.provider())

    def block_time() -> datetime:
        return datetime.fromtimestamp(faultless_w3.eth.get_block("latest")["timestamp"], UTC)

    time: dict[str, Any] = {}
    if clock is not None:
        time = {"clock": clock, "sleep": clock.sleep, "uniform": lambda low, high: low}
    transaction_sender = sender(w3, service_account(), database, policy, **time)
    chain = BlockchainService(w3, addresses.contract, transaction_sender)
    payments = None
    if pays:
        payments = PaymentService(database, open_gateway(addresses), transaction_sender.sealer, AT_ONCE)
    return build_services(w3, database, chain, Pricing(SteadyPriceFeed(block_time), block_time), payments=payments)


def open_gateway(addresses: Addresses) -> RazorpayGateway:
    """Returns the backend's own gateway, at the stand-in."""
    account = RazorpayStandIn()
    secrets = SecretStr(account.key_secret), SecretStr(account.webhook_secret)
    return RazorpayGateway(account.key_id, *secrets, addresses.gateway_url)


class BackendTestbed(FaultTestbed):
    """One anvil and one database, for one episode after another.

    Args:
        server: Server on which to create the database; if None, that of `DATABASE_URL`, or the embedded one.

    Attributes:
        addresses: Addresses for the services, also in other processes.
        stand_in: The payment gateway.
        database: Engine that prepares the database.
        observer: The same database in autocommit mode, in which each statement sees all commits.

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
            if server is None:  # no server is stopped, so commits need not wait for the disk
                with self._admin_statements() as execute:
                    execute(f"ALTER DATABASE {self._name} SET synchronous_commit = off")
        except BaseException:
            super().close()
            raise
        self.stand_in, self._stand_in_server = RazorpayStandIn(), ExitStack()
        gateway_url = self._stand_in_server.enter_context(serve_stand_in(self.stand_in))
        url = self.database.url.render_as_string(hide_password=False)
        self.addresses = Addresses(self.rpc_url, url, self.contract, gateway_url)
        self.observer = self.database.execution_options(isolation_level="AUTOCOMMIT")

    def close(self) -> None:
        """Stops the anvil and the payment gateway, and drops the database."""
        self.database.dispose()
        drop_database(self._server, self._name)
        self._stand_in_server.close()
        super().close()

    def close_node(self) -> None:
        """Stops the anvil and the payment gateway only, as the database's server is gone."""
        self._stand_in_server.close()
        super().close()

    def move_to(self, database_url: str) -> None:
        """Uses the same database on another server from now on."""
        self.database = create_engine(database_url)
        self.addresses = replace(self.addresses, database_url=database_url)
        self.observer = self.database.execution_options(isolation_level="AUTOCOMMIT")

    def reset(self) -> None:
        """Resets chain and mempool, and leaves only users and an experience in the database."""
        super().reset()
        self.stand_in.forget()
        with self.database.begin() as connection:
            connection.exec_driver_sql(_TRUNCATE)
            connection.execute(insert(users), [_user_row(number) for number in range(USERS)])
            connection.execute(insert(experiences), {"id": EXPERIENCE, "host_id": user_id(0), "title": "Pottery"})

    def stop_database(self) -> None:
        """Ends all sessions, and refuses new connections."""
        with self._admin_statements() as execute:
            execute(f"ALTER DATABASE {self._name} ALLOW_CONNECTIONS false")
            execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{self._name}'")
        self.database.dispose()

    def start_database(self) -> None:
        """Accepts connections again."""
        with self._admin_statements() as execute:
            execute(f"ALTER DATABASE {self._name} ALLOW_CONNECTIONS true")

    @contextmanager
    def _admin_statements(self) -> Iterator[Callable[[str], Any]]:
        admin = create_engine(self._server, isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            yield connection.exec_driver_sql
        admin.dispose()


def _user_row(number: int) -> dict[str, Any]:
    account = wallet(number)
    return {"id": user_id(number), "name": f"user {number}", "wallet_address": account.address if account else None}


def _server() -> URL:
    """Returns the URL of the server of `DATABASE_URL`, or of the embedded one.

    Raises:
        DatabaseUnavailable: No database answers there.
    """
    url = os.environ.get("DATABASE_URL")
    if not url:
        return start_embedded(state_dir() / "postgres")
    connect(url).dispose()
    return make_url(url).set(drivername="postgresql+psycopg")
