"""Where faults happen: an anvil whose blocks the campaign mines, the deployed contract, a database of the campaign's
own with real commits, and on them the backend as production wires it, in this process or in others.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from http.client import HTTPConnection
from typing import Any, cast
from urllib.parse import urlsplit

from app.core.wiring import Services, services_on
from app.db.embedded import start_embedded
from app.db.session import Database, create_database, drop_database, migrate
from app.db.tables import experiences, users
from app.services.blockchain_service import BlockchainService
from app.services.pricing import FixedFeed, Pricing
from app.services.transaction_sender import GWEI, Policy, TransactionSender
from eth_account.signers.local import LocalAccount
from hexbytes import HexBytes
from sqlalchemy import URL, create_engine, insert, make_url
from sqlalchemy import Engine as DatabaseEngine
from web3 import Web3
from web3.providers import HTTPProvider, JSONBaseProvider
from web3.providers.base import BaseProvider
from web3.types import RPCEndpoint, RPCResponse

from stakesim.evm.anvil import Anvil
from stakesim.evm.compiler import compile_contracts
from stakesim.evm.engine import CHAIN_ID, MIDDLEWARE, engine_accounts
from stakesim.evm.interface import init_code
from stakesim.paths import state_dir

TERMS = (2_000, 500, 0, 24 * 3600, 7 * 24 * 3600)
HEADROOM = 40
"""Blocks before an episode begins, so that nothing it does reaches back to the deployment."""
MAX_FEE = 20 * GWEI
"""What the services may pay for a unit of gas, in wei."""
ETH = 10**18
PEOPLE = 8
"""Users; the first two are hosts. Every third has no wallet."""
EXPERIENCE = uuid.UUID(int=1)


@dataclass(frozen=True)
class Site:
    """Where to find the stage, for any process."""

    rpc_url: str
    database_url: str
    contract: str


def person(number: int) -> uuid.UUID:
    """The id of a user's row."""
    return uuid.UUID(int=100 + number)


def wallet(number: int) -> LocalAccount | None:
    """A user's own account, for those who have one."""
    return None if number % 3 == 2 else engine_accounts()[1 + number]


def platform() -> LocalAccount:
    return engine_accounts()[0]


def stranger() -> LocalAccount:
    """Somebody who uses the contract past the backend."""
    return engine_accounts()[-1]


class Wire(JSONBaseProvider):
    """A provider for the anvil next door: in a campaign, `HTTPProvider` takes several times as long as the node."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._connection = HTTPConnection(urlsplit(url).netloc, timeout=30)

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        body = self.encode_rpc_request(method, params)
        self._connection.request("POST", "/", body, {"Content-Type": "application/json"})
        return self.decode_rpc_response(self._connection.getresponse().read())


def node_of(site: Site) -> Wire:
    return Wire(site.rpc_url)


def database_of(site: Site) -> DatabaseEngine:
    """Whoever waits for a lock for long waits for ever, as nothing goes on meanwhile."""
    query = {"connect_timeout": "10", "options": "-c lock_timeout=3000"}
    return create_engine(make_url(site.database_url).update_query_dict(query))


def open_services(
    site: Site,
    provider: BaseProvider,
    policy: Policy,
    engine: DatabaseEngine,
    sender: type[TransactionSender] = TransactionSender,
) -> Services:
    """The backend of one process, on this provider."""
    database = Database(engine)
    w3, truth = Web3(provider, MIDDLEWARE), Web3(node_of(site), MIDDLEWARE)

    def clock() -> datetime:
        return datetime.fromtimestamp(truth.eth.get_block("latest")["timestamp"], UTC)

    chain = BlockchainService(w3, site.contract, sender(w3, platform(), database, policy))
    return services_on(w3, database, chain, Pricing(FixedFeed(Decimal(200_000), clock), clock))


class Stage:
    """One anvil and one database, for one episode after another.

    server: of the database; the embedded one where none is given. Raises `EngineError`, `DatabaseUnavailable`.
    """

    def __init__(self, server: URL | None = None) -> None:
        self._server = server or _server()
        self._name = f"faults_{os.getpid()}_{uuid.uuid4().hex[:8]}"
        self.engine = Anvil()
        try:
            self.database = create_database(self._server, self._name)
            migrate(self.database)
        except BaseException:
            self.engine.close()
            raise
        rpc_url = str(cast(HTTPProvider, self.engine.w3.provider).endpoint_uri)
        self.w3 = Web3(Wire(rpc_url), MIDDLEWARE)
        url = self.database.url.render_as_string(hide_password=False)
        self.site = Site(rpc_url, url, self._deploy())
        self.seen = self.database.execution_options(isolation_level="AUTOCOMMIT")
        self.rpc("evm_setAutomine", False)
        for _ in range(HEADROOM):
            self.mine()
        self._start = self.engine.snapshot()
        self.first_block = self.head() + 1
        self.first_nonce = self.w3.eth.get_transaction_count(platform().address)

    def close(self) -> None:
        self.database.dispose()
        drop_database(self._server, self._name)
        self.engine.close()

    def reset(self) -> None:
        """As an episode begins: chain and mempool as after the deployment, users, and nothing else in the database."""
        self.engine.revert(self._start)
        self.rpc("anvil_dropAllTransactions")
        with self.database.begin() as connection:
            connection.exec_driver_sql(
                "TRUNCATE users, experiences, event_runs, event_run_bookings, operations, nonces, chain_cursors CASCADE"
            )
            rows = [
                {"id": person(i), "name": f"user {i}", "wallet_address": own.address if (own := wallet(i)) else None}
                for i in range(PEOPLE)
            ]
            connection.execute(insert(users), rows)
            connection.execute(insert(experiences), {"id": EXPERIENCE, "host_id": person(0), "title": "Pottery"})

    # --------------------------------------------------------------------------------------- the chain, past any fault

    def rpc(self, method: str, *params: Any) -> Any:
        """Raises web3's `Web3RPCError` for an error of the node."""
        return self.w3.manager.request_blocking(RPCEndpoint(method), list(params))

    def mine(self) -> None:
        self.rpc("evm_mine")

    def head(self) -> int:
        return self.w3.eth.block_number

    def nonce(self, block: int | str = "latest") -> int:
        """How many of the platform's transactions are in the chain."""
        return self.w3.eth.get_transaction_count(platform().address, block)  # type: ignore[arg-type]

    def base_fee(self, wei: int) -> None:
        """Of the next block; those after follow from it."""
        self.rpc("anvil_setNextBlockBaseFeePerGas", hex(wei))

    def sign(
        self, by: LocalAccount, nonce: int, to: str, data: bytes = b"", value: int = 0, tip: int = 5 * GWEI
    ) -> tuple[str, str]:
        """Hash and raw bytes of a transaction past the backend, with fees well above those of the services."""
        fields: dict[str, Any] = {
            "type": 2,
            "chainId": CHAIN_ID,
            "nonce": nonce,
            "to": to,
            "value": value,
            "data": data,
            "gas": 1_000_000 if data else 21_000,
            "maxFeePerGas": 100 * GWEI,
            "maxPriorityFeePerGas": tip,
        }
        signed = by.sign_transaction(fields)
        return signed.hash.to_0x_hex(), signed.raw_transaction.to_0x_hex()

    def send(self, raw: str) -> None:
        self.w3.eth.send_raw_transaction(HexBytes(raw))

    def _deploy(self) -> str:
        by, artifact = platform(), compile_contracts()["EventStake"]
        fields: dict[str, Any] = {
            "type": 2,
            "chainId": CHAIN_ID,
            "nonce": 0,
            "data": init_code(artifact, (by.address, TERMS)),
            "gas": 10_000_000,
            "maxFeePerGas": 100 * GWEI,
            "maxPriorityFeePerGas": GWEI,
        }
        sent = self.w3.eth.send_raw_transaction(by.sign_transaction(fields).raw_transaction)
        return str(self.w3.eth.wait_for_transaction_receipt(sent, poll_latency=0.002)["contractAddress"])

    # ------------------------------------------------------------------------------------------------- the database

    @contextmanager
    def _admin(self) -> Iterator[Callable[[str], Any]]:
        admin = create_engine(self._server, isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            yield connection.exec_driver_sql
        admin.dispose()

    def database_gone(self) -> None:
        """Nobody can connect, and who is connected no longer is."""
        with self._admin() as execute:
            execute(f"ALTER DATABASE {self._name} ALLOW_CONNECTIONS false")
            execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{self._name}'")
        self.database.dispose()

    def database_back(self) -> None:
        with self._admin() as execute:
            execute(f"ALTER DATABASE {self._name} ALLOW_CONNECTIONS true")


def _server() -> URL:
    """That of `DATABASE_URL`, or the embedded one."""
    url = os.environ.get("DATABASE_URL")
    return make_url(url).set(drivername="postgresql+psycopg") if url else start_embedded(state_dir() / "postgres")
