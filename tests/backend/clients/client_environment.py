"""The service in a process of its own on a local testnet, and the clients, each a process that takes commands."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from app.bootstrap.accounts import open_accounts
from app.bootstrap.container import connect_web3
from app.core.config import Settings
from app.core.security import issue_token
from app.db.database import Database, connect
from app.db.tables import event_run_bookings, event_runs, experiences, operations, users
from eth_account import Account
from pydantic import SecretStr
from sqlalchemy import func, insert, select
from stakesim.evm.solc_install import find_node
from stakesim.paths import checkout

ROOT = checkout()
assert ROOT is not None
CLIENTS = ROOT / "examples/clients"
DRIVERS = Path(__file__).parent
DAY_S = 24 * 3600
START_TIMEOUT_S = 60


class Service:
    """The service under uvicorn's command. It can be killed and started again at the same address."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port: int = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._environment, self._folder = _environment(settings), folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "uvicorn", "--factory", "app.main:from_settings", "--port", str(self.port)]
        command += ["--http", "app.api.http_protocol:LimitedH11Protocol", "--ws", "none", "--no-access-log"]
        with (self._folder / "service.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self._folder, env=os.environ | self._environment, stdout=log, stderr=log
            )
        for _ in range(START_TIMEOUT_S * 10):
            assert self._process.poll() is None, (self._folder / "service.log").read_text()
            try:
                if httpx.get(f"{self.url}/ready").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        pytest.fail((self._folder / "service.log").read_text())

    def kill(self) -> None:
        """Ends the process as a crash does: it writes nothing more, and answers nobody."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


def _environment(settings: Settings) -> dict[str, str]:
    of_payments = {
        "RAZORPAY_URL": settings.razorpay_url,
        "RAZORPAY_KEY_ID": settings.razorpay_key_id or "",
        "RAZORPAY_KEY_SECRET": _text(settings.razorpay_key_secret),
        "RAZORPAY_WEBHOOK_SECRET": _text(settings.razorpay_webhook_secret),
    }
    return of_payments | {
        "BLOCKCHAIN_RPC_URL": settings.blockchain_rpc_url,
        "CHAIN_ID": str(settings.chain_id),
        "CONTRACT_ADDRESS": settings.contract_address,
        "PLATFORM_PRIVATE_KEY": settings.platform_private_key.get_secret_value(),
        "JWT_SECRET": settings.jwt_secret.get_secret_value(),
        "ETH_PRICE_INR": str(settings.eth_price_inr),
        "ETH_PRICE_INR_AS_OF": datetime.now(UTC).isoformat(),
        "PRICE_MANUAL_MAX_AGE_SECONDS": str(settings.price_manual_max_age_seconds),
        "DATABASE_URL": str(settings.database_url),
        "CONFIRMATIONS": "2",
        "RECONCILE_SECONDS": "1",
        "PAYMENTS": settings.payments,
    }


def _text(secret: SecretStr | None) -> str:
    return secret.get_secret_value() if secret else ""


@dataclass
class Testnet:
    """The service, its node and its database. Each test gets users of its own."""

    __test__ = False

    settings: Settings
    service: Service

    def __post_init__(self) -> None:
        self.database = Database(connect(self.settings.database_url))
        self.w3 = connect_web3(self.settings.rpc_urls)
        self.platform = open_accounts(self.settings).platform.address

    def now(self) -> int:
        """Returns the time of the latest block, in seconds."""
        return self.w3.eth.get_block("latest")["timestamp"]

    def add_user(self, name: str) -> UUID:
        with self.database.transaction() as connection:
            row = {"name": name, "wallet_address": Account.create().address}
            return connection.execute(insert(users).returning(users.c.id), row).scalar_one()

    def add_experience(self, host: UUID) -> UUID:
        with self.database.transaction() as connection:
            row = {"host_id": host, "title": "Pottery"}
            return connection.execute(insert(experiences).returning(experiences.c.id), row).scalar_one()

    def token(self, user: UUID, role: Any, lifetime: timedelta = timedelta(hours=1)) -> str:
        return issue_token(self.settings.jwt_secret, user, role, lifetime)

    def effects(self, user: UUID) -> tuple[int, int, int]:
        """Returns how many runs and bookings a user has, and how many operations they requested."""
        counts = (
            select(func.count()).where(event_runs.c.host_id == user),
            select(func.count()).where(event_run_bookings.c.user_id == user),
            select(func.count()).where(operations.c.key.startswith(f"{user}:")),
        )
        with self.database.transaction() as connection:
            runs, bookings, requested = (connection.execute(count).scalar_one() for count in counts)
        return runs, bookings, requested

    def transactions(self) -> int:
        """Returns how many transactions of the platform are in a block. Each effect of a request is one."""
        return self.w3.eth.get_transaction_count(self.platform)


# -------------------------------------------------------------------------------------------------------- the clients


class Refused(Exception):
    """The client says that the service refused the request."""

    def __init__(self, said: dict[str, Any]) -> None:
        super().__init__(said)
        self.action: str = said["action"]
        self.problem: dict[str, Any] = said["problem"]


class Undecided(Exception):
    """The client says that it does not know the outcome yet."""


class ClientProcess:
    """A client in a process of its own. It reads commands as lines of JSON, and writes what came of each."""

    def __init__(self, command: list[str], cwd: Path, options: dict[str, Any]) -> None:
        self._process = subprocess.Popen(
            command, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=_bare()
        )
        self._write(options)

    def begin(self, call: str, **arguments: Any) -> None:
        """Begins a call. `result` waits for it."""
        self._write({"call": call, **arguments})

    def result(self) -> Any:
        """Returns the result of the call. Raises `Refused` and `Undecided`."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the client's process ended"
        said = json.loads(line)
        if "refused" in said:
            raise Refused(said["refused"])
        if "undecided" in said:
            raise Undecided(said["undecided"])
        return said["result"]

    def __call__(self, call: str, **arguments: Any) -> Any:
        self.begin(call, **arguments)
        return self.result()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)

    def _write(self, line: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{json.dumps(line)}\n")
        self._process.stdin.flush()


def _bare() -> dict[str, str]:
    """Returns the environment without this project's code: a client has nothing of it."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


@dataclass
class BuiltClient:
    """A client of one language, with generated types: the command that starts its driver."""

    language: str
    folder: Path
    command: list[str]

    @contextmanager
    def connected(self, url: str, tokens: list[str], **options: Any) -> Iterator[ClientProcess]:
        """Starts the client.

        Args:
            url: Address of the service.
            tokens: What its `new_token` returns, one after another; the last one again and again.
            options: `patience` and `timeout` in seconds, `waits`.
        """
        process = ClientProcess(self.command, self.folder, {"url": url, "tokens": tokens, **options})
        try:
            yield process
        finally:
            process.close()


def build_python(folder: Path) -> BuiltClient:
    """Generates the models, and puts client and driver beside them."""
    for file in (CLIENTS / "python/stakesim_client.py", CLIENTS / "python/pyproject.toml", DRIVERS / "driver.py"):
        shutil.copy(file, folder)
    command = [sys.executable, "-m", "datamodel_code_generator", "--input", str(ROOT / "backend/openapi.json")]
    run(command, folder)
    return BuiltClient("python", folder, [sys.executable, str(folder / "driver.py")])


def build_typescript(folder: Path) -> BuiltClient:
    """Generates the types, and compiles client and driver with them; skips if that is not installed."""
    source = CLIENTS / "typescript"
    if not (node := find_node()):
        pytest.skip("there is no Node: run `make setup-dev`, which installs one")
    if not (source / "node_modules").is_dir():
        pytest.skip("the packages of the TypeScript client are not installed: run `make setup-dev`")
    for name in ("client.ts", "package.json", "tsconfig.json"):
        shutil.copy(source / name, folder)
    shutil.copy(DRIVERS / "driver.ts", folder)
    (folder / "node_modules").symlink_to(source / "node_modules")
    packages = folder / "node_modules"
    generator, compiler = packages / "openapi-typescript/bin/cli.js", packages / "typescript/bin/tsc"
    run([node, str(generator), str(ROOT / "backend/openapi.json"), "-o", "schema.d.ts"], folder)
    run([node, str(compiler)], folder)
    return BuiltClient("typescript", folder, [node, str(folder / "build/driver.js")])


def run(command: list[str], folder: Path) -> None:
    """Runs a command, and shows what it says if it fails."""
    completed = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=_bare())
    assert completed.returncode == 0, completed.stdout + completed.stderr
