"""`stakesim serve`: the HTTP API on the network of the settings, or on a local testnet.

The local testnet is an anvil with Sepolia's chain id and a block every second, a newly deployed contract, an empty
schema, a stand-in for the payment gateway and a few demo users. It is deleted when the command ends.
"""

from __future__ import annotations

import logging
import os
import secrets
import shlex
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import uvicorn
from app.api.http_protocol import LimitedH11Protocol, raise_file_limit
from app.api.policy import http_policy
from app.bootstrap.accounts import open_accounts
from app.bootstrap.check import NotReady, require_checks
from app.bootstrap.checks import check_endpoints, connect_verified_services, read_settings
from app.bootstrap.container import connect_web3
from app.bootstrap.payment_checks import describe_payments
from app.bootstrap.services import Services
from app.core.config import Settings
from app.core.logs import configure_json_logging
from app.core.payment_settings import RAZORPAY_URL
from app.core.security import Role, issue_token
from app.db.database import Database, connect
from app.db.tables import experiences, users
from app.main import create_app
from dotenv import dotenv_values
from eth_account import Account
from eth_account.signers.local import LocalAccount
from sqlalchemy import insert
from stakesim.evm.anvil import start_anvil
from stakesim.evm.contract_file import production_contract
from stakesim.evm.hardfork import Hardfork
from stakesim.gate.release import deploy, plan
from stakesim.paths import state_dir
from stakesim.scenario.actions import Terms
from web3.types import RPCEndpoint

from stakesim_adapter.razorpay_stand_in import RazorpayStandIn, delivering, serve_stand_in
from stakesim_adapter.temporary_schema import TemporarySchema

SEPOLIA_CHAIN_ID = 11_155_111
SEPOLIA_HARDFORK: Hardfork = "osaka"
"""Rules of Sepolia since October 2025."""
PLATFORM_BALANCE = 1_000 * 10**18
"""Wei that the platform's wallet has on a local testnet."""
YEAR_S = 365 * 24 * 3600
"""Maximum age of the ETH price on a local testnet: nobody has to confirm it there."""
DEFAULT_ETH_PRICE_INR = Decimal(200_000)
"""INR per ETH for a new contract if ETH_PRICE_INR is not set."""
PLACEHOLDER_ADDRESS = "0x" + "0" * 40
DEFAULT_VARIABLES_FILE = state_dir() / "serve.env"
SHUTDOWN_TIMEOUT_S = 5
DEMO_ROLES: dict[str, Role] = {"platform": "platform", "host": "host", "attendee": "attendee", "no_show": "attendee"}
"""Roles of the demo users, by name."""


def serve(
    host: str,
    port: int,
    block_time: int,
    env_file: Path,
    variables_file: Path | None,
    echo: Callable[[str], None],
    hardfork: Hardfork = SEPOLIA_HARDFORK,
) -> None:
    """Serves the API until Ctrl-C or SIGTERM.

    Args:
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        block_time: Seconds between two blocks of the local testnet.
        env_file: File with the settings. Without a BLOCKCHAIN_RPC_URL in it or the environment, starts a local testnet.
        variables_file: Where to write shell variables for the local testnet; `DEFAULT_VARIABLES_FILE` if None.
        echo: Shows a line to the user.
        hardfork: Rules of the local testnet.

    Raises:
        AppError: A setting, or a fatal check of network, contract or database, failed.
        EngineError: anvil can't be started.
        OSError: The port is taken.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # cleans up on SIGTERM as on Ctrl-C
    with suppress(KeyboardInterrupt), ExitStack() as stack:
        listener = stack.enter_context(_listen(host, port))
        url = f"http://{host}:{listener.getsockname()[1]}"
        is_local = not (os.environ.get("BLOCKCHAIN_RPC_URL") or dotenv_values(env_file).get("BLOCKCHAIN_RPC_URL"))
        if is_local:
            payments = stack.enter_context(_local_payments(url, env_file))
            settings = stack.enter_context(local_testnet(block_time, env_file, hardfork, **payments))
        else:
            settings = read_settings(env_file)
        services = connect_verified_services(settings)
        stack.callback(services.database.engine.dispose)
        echo(f"chain {settings.chain_id}, contract {services.chain.address}, platform {services.chain.platform}")
        echo(f"payments: {describe_payments(settings)}")
        if is_local:
            file = variables_file or DEFAULT_VARIABLES_FILE
            urls = {"API": url, "RPC": settings.blockchain_rpc_url}
            if settings.razorpay_url != RAZORPAY_URL:
                urls["GATEWAY"] = settings.razorpay_url
            variables = urls | create_demo_users(services.database, settings)
            _write_variables(file, variables)
            stack.callback(file.unlink, missing_ok=True)
            echo("local testnet: an anvil in place of Sepolia, with demo users; deleted when this command ends")
            echo(f"for curl:  . {shlex.quote(os.path.relpath(file))}  sets {' '.join(variables)}")
        echo(f"serving {url}, documentation at {url}/docs; Ctrl-C ends it")
        _run_server(services, settings, listener)
    echo("stopped")


def _run_server(services: Services, settings: Settings, listener: socket.socket) -> None:
    configure_json_logging(sys.stderr)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    app = create_app(
        services, settings.jwt_secret, settings.chain_id, settings.reconcile_seconds, http_policy(settings)
    )
    raise_file_limit()
    config = uvicorn.Config(
        app,
        http=LimitedH11Protocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_S,
    )
    uvicorn.Server(config).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    """Returns a listening TCP socket.

    Its protocol number is set explicitly, as asyncio sets TCP_NODELAY only on such sockets. Without it, each response
    takes 40 ms longer.

    Raises:
        OSError: The port is taken.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(address)
    listener.listen(512)
    return listener


# ------------------------------------------------------------------------------------------------ the local testnet


@contextmanager
def _local_payments(url: str, env_file: Path) -> Iterator[dict[str, Any]]:
    """Yields the settings of payments: as the file or the environment has them, else at a stand-in for Razorpay.

    Args:
        url: URL of the service, to which the stand-in sends its webhooks.
        env_file: File with the settings.
    """
    chosen = os.environ.get("PAYMENTS") or dotenv_values(env_file).get("PAYMENTS")
    if chosen:
        yield {"payments": chosen}
        return
    stand_in = RazorpayStandIn(key_secret=secrets.token_hex(16), webhook_secret=secrets.token_hex(16))
    with serve_stand_in(stand_in) as gateway_url, delivering(stand_in, f"{url}/webhooks/razorpay"):
        yield {
            "payments": "razorpay",
            "razorpay_url": gateway_url,
            "razorpay_key_id": stand_in.key_id,
            "razorpay_key_secret": stand_in.key_secret,
            "razorpay_webhook_secret": stand_in.webhook_secret,
        }


@contextmanager
def local_testnet(
    block_time: float, env_file: Path | None = None, hardfork: Hardfork = SEPOLIA_HARDFORK, **overrides: Any
) -> Iterator[Settings]:
    """Starts an anvil with Sepolia's chain id, and deploys a contract for a new, funded platform wallet.

    Args:
        block_time: Seconds between two blocks.
        env_file: File with the settings other than node, contract and keys.
        hardfork: The network's rules.
        overrides: Settings by name; they override those in the file and the environment.

    Yields:
        Settings of this network and contract. Both are deleted at the end.
    """
    with ExitStack() as stack:
        options = ("--chain-id", str(SEPOLIA_CHAIN_ID), "--block-time", str(block_time))
        url, stop_anvil = start_anvil(*options, hardfork=hardfork)
        stack.callback(stop_anvil)
        w3, platform = connect_web3([url]), Account.create()
        w3.manager.request_blocking(RPCEndpoint("anvil_setLoggingEnabled"), [False])
        w3.manager.request_blocking(RPCEndpoint("anvil_setBalance"), [platform.address, hex(PLATFORM_BALANCE)])
        yield stack.enter_context(
            temporary_deployment(
                env_file,
                blockchain_rpc_url=url,
                chain_id=SEPOLIA_CHAIN_ID,
                platform_private_key=platform.key.to_0x_hex(),
                price_manual_max_age_seconds=YEAR_S,
                **overrides,
            )
        )


@contextmanager
def temporary_deployment(env_file: Path | None = None, **overrides: Any) -> Iterator[Settings]:
    """Deploys an `EventStake` on the network of the settings, with an empty schema that is dropped at the end.

    Nobody pays, unless `overrides` has `payments`.

    Args:
        env_file: File with the settings.
        overrides: Settings by name; they override those in the file and the environment.

    Yields:
        The settings with the new contract's address, the schema, and a random JWT secret.

    Raises:
        AppError: A setting is missing or wrong, or the network does not answer.
        EngineError: The contract can't be deployed.
    """
    overrides = {"payments": "none"} | overrides
    overrides |= {
        "contract_address": PLACEHOLDER_ADDRESS,
        "contract_code_hash": None,
        "jwt_secret": secrets.token_hex(32),
    }
    settings = read_settings(env_file, **overrides)
    require_checks(check_endpoints(settings))
    w3, account, artifact = connect_web3(settings.rpc_urls), open_accounts(settings).platform, production_contract()
    if not isinstance(account, LocalAccount):
        raise NotReady("A contract can't be deployed with a remote signer's key: deploy it with another one.")
    deployment = plan(w3, account.address, artifact, Terms())
    deploy(w3, account, artifact, deployment)
    with temporary_schema() as database_url:
        yield settings.model_copy(
            update={
                "contract_address": deployment.address,
                "database_url": database_url,
                "eth_price_inr": settings.eth_price_inr or DEFAULT_ETH_PRICE_INR,
                "eth_price_inr_as_of": datetime.now(UTC),
            }
        )


@contextmanager
def temporary_schema() -> Iterator[str]:
    """Creates an empty schema in the database of DATABASE_URL, or on the embedded server, and drops it at the end.

    Yields:
        URL of the database with this schema as search path.
    """
    engine = connect(os.environ.get("DATABASE_URL"), state_dir() / "postgres")
    schema = TemporarySchema(engine, "serve")
    try:
        url = engine.url.update_query_dict({"options": f"-csearch_path={schema.name}"})
        yield url.render_as_string(hide_password=False)
    finally:
        schema.drop()


def create_demo_users(database: Database, settings: Settings) -> dict[str, str]:
    """Inserts the users of `DEMO_ROLES`, each with a new and empty wallet, and an experience of the host.

    Returns:
        Shell variables by name: each user's token, their wallet's address, and the experience's id. The platform's
        wallet is not among them.
    """
    variables: dict[str, str] = {}
    lifetime = timedelta(seconds=settings.jwt_max_lifetime_seconds)
    with database.transaction() as connection:
        for name, role in DEMO_ROLES.items():
            wallet = None if role == "platform" else Account.create().address
            user_row = {"name": name.replace("_", "-"), "wallet_address": wallet}
            user_id = connection.execute(insert(users).returning(users.c.id), user_row).scalar_one()
            variables[f"{name.upper()}_TOKEN"] = issue_token(
                settings.jwt_secret, user_id, role, lifetime, settings.jwt_issuer
            )
            if wallet:
                variables[f"{name.upper()}_WALLET"] = wallet
            if role == "host":
                experience_row = {"host_id": user_id, "title": "Pottery for beginners"}
                experience_id = connection.execute(insert(experiences).returning(experiences.c.id), experience_row)
                variables["EXPERIENCE"] = str(experience_id.scalar_one())
    return variables


def _write_variables(file: Path, variables: dict[str, str]) -> None:
    """Writes a shell script that only the owner can read, as it has tokens."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as script:
        script.writelines(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())
