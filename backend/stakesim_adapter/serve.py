"""The API on a network: that of `.env`, or a stand-in for Sepolia.

The stand-in is an anvil in real time with the contract deployed, tables of its own and a few demo users.
"""

from __future__ import annotations

import logging
import os
import secrets
import shlex
import signal
import socket
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import uvicorn
from app.bootstrap.checks import check_endpoints, connect_ready, read_settings, require
from app.core.config import Settings
from app.core.logs import log_as_json
from app.core.security import Role, issue_token
from app.db.session import Database, connect
from app.db.tables import experiences, users
from app.main import create_app
from app.services.rpc_failover import FailoverProvider
from dotenv import dotenv_values
from eth_account import Account
from pydantic import SecretStr
from sqlalchemy import insert
from stakesim.evm.anvil import start_anvil
from stakesim.evm.contract_file import production_contract
from stakesim.gate.release import deploy
from stakesim.paths import state_dir
from stakesim.scenario.actions import Terms
from web3 import Web3
from web3.middleware import AttributeDictMiddleware
from web3.types import RPCEndpoint

SEPOLIA = 11_155_111
STAND_IN_ETH = 1_000
STAND_IN_INR = Decimal(200_000)
"""INR for one ETH, where ETH_PRICE_INR is not set and it is not real money."""
NOWHERE = "0x" + "0" * 40
VARIABLES = state_dir() / "serve.env"
STOP_WITHIN_S = 5


def serve(
    host: str, port: int, block_time: int, env_file: Path, variables: Path | None, say: Callable[[str], None]
) -> None:
    """Until Ctrl-C. variables: file for a shell, with wallets and tokens of the demo users while there are any; by
    default `VARIABLES`. Raises `AppError`, `EngineError`, `OSError` where the port is taken."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the same as Ctrl-C: everything is put away
    with suppress(KeyboardInterrupt), ExitStack() as stack:
        listening = stack.enter_context(_listening(host, port))
        url = f"http://{host}:{listening.getsockname()[1]}"
        if os.environ.get("BLOCKCHAIN_RPC_URL") or dotenv_values(env_file).get("BLOCKCHAIN_RPC_URL"):
            settings, simulated = read_settings(env_file), False
        else:
            settings, simulated = stack.enter_context(stand_in(block_time, env_file)), True
        services = connect_ready(settings)
        stack.callback(services.database.engine.dispose)
        app = create_app(services, settings.jwt_secret, settings.chain_id, settings.reconcile_seconds)
        say(f"chain {settings.chain_id}, contract {services.chain.address}, platform {services.chain.platform}")
        if simulated:
            people = enter_demo_users(services.database, settings.jwt_secret)
            file = variables or VARIABLES
            _write_variables(file, {"API": url, "RPC": settings.blockchain_rpc_url, **people})
            stack.callback(file.unlink, missing_ok=True)
            say("a stand-in for Sepolia: an anvil here, with demo users; all of it is gone when this ends")
            say(f"for curl:  . {shlex.quote(os.path.relpath(file))}  sets API RPC {' '.join(people)}")
        say(f"serving {url}, to try out at {url}/docs; Ctrl-C ends it")
        log_as_json(sys.stderr)
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
        config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=STOP_WITHIN_S)
        uvicorn.Server(config).run(sockets=[listening])
    say("stopped")


def _listening(host: str, port: int) -> socket.socket:
    """With the protocol named: else asyncio does not set TCP_NODELAY, and each answer takes 40 ms more. Raises
    `OSError`."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listening = socket.socket(family, kind, protocol)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(address)
    listening.listen(512)
    return listening


@contextmanager
def stand_in(block_time: float, env_file: Path | None = None) -> Iterator[Settings]:
    """A chain with Sepolia's id, a block every so many seconds, and the contract of a new, funded platform."""
    with ExitStack() as stack:
        url, stop = start_anvil("--chain-id", str(SEPOLIA), "--block-time", str(block_time))
        stack.callback(stop)
        w3, platform = _web3(url), Account.create()
        w3.manager.request_blocking(RPCEndpoint("anvil_setLoggingEnabled"), [False])
        funded = [platform.address, hex(STAND_IN_ETH * 10**18)]
        w3.manager.request_blocking(RPCEndpoint("anvil_setBalance"), funded)
        given = {"blockchain_rpc_url": url, "chain_id": SEPOLIA, "platform_private_key": platform.key.to_0x_hex()}
        yield stack.enter_context(new_contract(env_file, **given))


@contextmanager
def new_contract(env_file: Path | None = None, **given: Any) -> Iterator[Settings]:
    """Settings for an `EventStake` that is deployed for them, on the network that they name, and for empty tables that
    are dropped at the end. Raises `AppError`, `EngineError`."""
    given |= {"contract_address": NOWHERE, "contract_code_hash": None, "jwt_secret": secrets.token_hex(32)}
    settings = read_settings(env_file, **given)
    require(check_endpoints(settings))
    artifact = production_contract()
    receipt = deploy(_web3(*settings.rpc_urls), settings.platform_account(), artifact, Terms())
    address = receipt["contractAddress"]
    with tables_of_its_own() as database_url:
        made = {"contract_address": address, "database_url": database_url}
        yield settings.model_copy(update={**made, "eth_price_inr": settings.eth_price_inr or STAND_IN_INR})


@contextmanager
def tables_of_its_own() -> Iterator[str]:
    """The URL of an empty schema in the database of `DATABASE_URL`, or in the embedded one; dropped at the end."""
    shared = connect(os.environ.get("DATABASE_URL"), state_dir() / "postgres")
    schema = f"serve_{uuid.uuid4().hex}"
    with shared.begin() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {schema}")
    try:
        url = shared.url.update_query_dict({"options": f"-csearch_path={schema}"})
        yield url.render_as_string(hide_password=False)
    finally:
        with shared.begin() as connection:
            connection.exec_driver_sql(f"DROP SCHEMA {schema} CASCADE")
        shared.dispose()


def enter_demo_users(database: Database, secret: SecretStr) -> dict[str, str]:
    """A host with an experience, and two attendees, each with a new and empty wallet; shell variables of what one needs
    to act as one of them, or as the platform."""
    roles: dict[str, Role] = {"platform": "platform", "host": "host", "attendee": "attendee", "no_show": "attendee"}
    told: dict[str, str] = {}
    with database.begin() as connection:
        for name, role in roles.items():
            wallet = None if role == "platform" else Account.create().address
            row = {"name": name.replace("_", "-"), "wallet_address": wallet}
            user_id = connection.execute(insert(users).returning(users.c.id), row).scalar_one()
            told[f"{name.upper()}_TOKEN"] = issue_token(secret, user_id, role, timedelta(days=1))
            if wallet:
                told[f"{name.upper()}_WALLET"] = wallet
            if role == "host":
                experience = {"host_id": user_id, "title": "Pottery for beginners"}
                made = connection.execute(insert(experiences).returning(experiences.c.id), experience)
                told["EXPERIENCE"] = str(made.scalar_one())
    return told


def _write_variables(file: Path, variables: dict[str, str]) -> None:
    """For its owner only: tokens are in it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        opened.writelines(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())


def _web3(*urls: str) -> Web3:
    return Web3(FailoverProvider(urls), [AttributeDictMiddleware])
