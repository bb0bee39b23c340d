"""Row 45: SIGTERM with operations on their way. The service is a process of its own, behind a proxy that can hang."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest
from app.core.security import issue_token
from backend_environment import DAY
from eth_utils.crypto import keccak
from fault_environment import FaultEnvironment, all_operations
from pydantic import SecretStr
from stakesim.faults.tcp_proxy import TcpProxy, WireFault
from web3 import HTTPProvider, Web3

pytestmark = pytest.mark.slow

SECRET = "0123456789abcdefghijklmnopqrstuvwxyz-of-sigterm"
SECONDS_TO_END = 10
CLIENTS = 12


class Service:
    """The API as uvicorn runs it from the settings."""

    def __init__(self, environment: FaultEnvironment, rpc_url: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        code = environment.w3.eth.get_code(Web3.to_checksum_address(environment.address))
        variables = {
            "BLOCKCHAIN_RPC_URL": rpc_url,
            "PAYMENTS": "none",
            "CHAIN_ID": str(environment.w3.eth.chain_id),
            "CONTRACT_ADDRESS": environment.address,
            "CONTRACT_CODE_HASH": "0x" + keccak(code).hex(),
            "PLATFORM_PRIVATE_KEY": environment.platform.key.to_0x_hex(),
            "JWT_SECRET": SECRET,
            "ETH_PRICE_INR": "200000",
            "ETH_PRICE_INR_AS_OF": datetime.now(UTC).isoformat(),
            "DATABASE_URL": environment.database.engine.url.render_as_string(hide_password=False),
        }
        command = [sys.executable, "-m", "uvicorn", "--factory", "app.main:from_settings", "--port", str(port)]
        self.process = subprocess.Popen(command, env=os.environ | variables, stderr=subprocess.PIPE, text=True)
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)
        self._environment = environment
        self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            with suppress(httpx.TransportError):
                if self.client.get("/health").status_code == 200:
                    return
            time.sleep(0.05)
        self.process.kill()
        raise AssertionError(f"the service did not start: {self.process.communicate()[1]}")

    def create_run(self) -> httpx.Response:
        host = self._environment.ids["host"]
        token = issue_token(SecretStr(SECRET), host, "host")
        body = {
            "experience_id": str(self._environment.ids["experience"]),
            "starts_at": (self._environment.now() + 3 * DAY).isoformat(),
            "max_seats": 4,
            "price_inr": "20000",
        }
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": str(uuid4())}
        return self.client.post("/event-runs", json=body, headers=headers)

    def terminate(self) -> None:
        """Sends SIGTERM, and fails if the process does not end in time."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"the process did not end: {self.process.communicate()[1][-2000:]}") from None


class Gateway(NamedTuple):
    """A proxy in front of the node; while `hangs`, no answer comes back."""

    proxy: TcpProxy
    hangs: threading.Event


@pytest.fixture
def gateway(environment: FaultEnvironment) -> Iterator[Gateway]:
    provider = environment.w3.provider
    assert isinstance(provider, HTTPProvider)
    node, hangs = urlsplit(str(provider.endpoint_uri)), threading.Event()
    assert node.hostname is not None
    assert node.port is not None
    proxy = TcpProxy((node.hostname, node.port), lambda: WireFault.BLACK_HOLE if hangs.is_set() else None)
    yield Gateway(proxy, hangs)
    proxy.close()


@pytest.fixture
def service(environment: FaultEnvironment, gateway: Gateway) -> Iterator[Service]:
    service = Service(environment, f"http://127.0.0.1:{gateway.proxy.port}")
    yield service
    service.process.kill()
    service.process.communicate()


def wait_for(environment: FaultEnvironment, count: int, states: tuple[str, ...]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if sum(operation.state in states for operation in all_operations(environment.database)) == count:
            return
        time.sleep(0.05)
    raise AssertionError([operation.state for operation in all_operations(environment.database)])


def test_45_sigterm_answers_who_waits_and_leaves_the_rest_to_recovery(
    environment: FaultEnvironment, service: Service
) -> None:
    """No block is mined, so all clients wait."""
    with ThreadPoolExecutor(CLIENTS) as clients:
        responses = [clients.submit(service.create_run) for _ in range(CLIENTS)]
        wait_for(environment, CLIENTS, ("submitted",))
        service.terminate()
        answers: list[Any] = [response.result() for response in responses]
    assert {answer.status_code for answer in answers} == {202}
    assert {answer.json()["state"] for answer in answers} == {"submitted"}
    environment.mine(3)
    assert environment.services.reconciler.run_full().problems == []
    environment.check(runs=CLIENTS)


@pytest.mark.in_turn
def test_45_sigterm_while_the_node_hangs(environment: FaultEnvironment, gateway: Gateway, service: Service) -> None:
    """Threads wait for the node's answer; the process ends nevertheless."""
    gateway.hangs.set()
    with ThreadPoolExecutor(3) as clients:
        responses = [clients.submit(service.create_run) for _ in range(3)]
        time.sleep(0.5)  # some wait for the first answer of the node, in a thread
        service.terminate()
        for response in responses:
            with suppress(httpx.TransportError):
                assert response.result().status_code in (202, 503)
    for operation in all_operations(environment.database):
        environment.settle(operation)
    stored = len(all_operations(environment.database))
    environment.check(runs=stored)
