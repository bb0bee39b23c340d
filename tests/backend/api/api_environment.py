"""The API on a backend, and users who call it, named by their role."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import UUID, uuid4

from app.bootstrap.services import Services, build_services
from app.core.security import Role, issue_token
from app.db.database import Database, open_engine
from app.db.tables import experiences
from app.main import create_app
from app.services.blockchain_service import BlockchainService
from app.services.pricing import Pricing
from app.services.rpc_failover import FailoverProvider
from app.services.transactions.policy import TransactionPolicy
from app.services.transactions.sender import TransactionSender
from backend_environment import DAY, BackendEnvironment
from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx import Response
from pydantic import SecretStr
from sqlalchemy import insert, make_url
from web3 import Web3

SECRET = SecretStr("0123456789abcdefghijklmnopqrstuvwxyz-of-these-tests")
ETH = 10**18
_OPENED: list[Services] = []
"""Services whose threads are not ended yet."""
_APPS: dict[int, FastAPI] = {}
"""One app for all tests, by chain id: the first request to each app is slow."""


@dataclass
class ApiUser:
    """A user with a token of this role. Each POST has a new Idempotency-Key unless the test gives one."""

    client: TestClient
    id: UUID
    role: Role

    def token(self) -> str:
        return issue_token(SECRET, self.id, self.role)

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> Response:
        all_headers = {"Authorization": f"Bearer {self.token()}", "Content-Type": "application/json"}
        all_headers |= {name.replace("_", "-"): value for name, value in headers.items()}
        raw = {name: value.encode("latin-1") for name, value in all_headers.items()}
        return self.client.request(method, path, content=None if body is None else json.dumps(body), headers=raw)

    def get(self, path: str) -> Response:
        return self.request("GET", path)

    def post(self, path: str, body: Any = None, **headers: str) -> Response:
        return self.request("POST", path, body, **{"Idempotency_Key": str(uuid4())} | headers)

    def patch(self, path: str, body: Any, **headers: str) -> Response:
        return self.request("PATCH", path, body, **headers)

    def delete(self, path: str, **headers: str) -> Response:
        return self.request("DELETE", path, **headers)


@dataclass
class ApiEnvironment:
    """The app on a backend, and its users."""

    backend: BackendEnvironment
    services: Services
    client: TestClient
    platform: ApiUser = field(init=False)
    host: ApiUser = field(init=False)
    attendee: ApiUser = field(init=False)
    no_show: ApiUser = field(init=False)
    other_host: ApiUser = field(init=False)
    experience: UUID = field(init=False)
    other_experience: UUID = field(init=False)

    def __post_init__(self) -> None:
        for role in ("platform", "other_host"):
            self.backend.add_user(role, None)
        roles: dict[str, Role] = {
            "platform": "platform",
            "host": "host",
            "other_host": "host",
            "attendee": "attendee",
            "no_show": "attendee",
        }
        for name, role in roles.items():
            setattr(self, name, ApiUser(self.client, self.backend.ids[name], role))
        with self.backend.database.transaction() as connection:
            for host, name in (("host", "experience"), ("other_host", "other_experience")):
                row = {"host_id": self.backend.ids[host], "title": "Pottery"}
                inserted = connection.execute(insert(experiences).returning(experiences.c.id), row)
                setattr(self, name, inserted.scalar_one())

    def run_body(self, seats: int = 4, price_inr: str = "20000", **more: Any) -> dict[str, Any]:
        starts_at = (self.backend.now() + 3 * DAY).isoformat()
        return {
            "experience_id": str(self.experience),
            "starts_at": starts_at,
            "max_seats": seats,
            "price_inr": price_inr,
            **more,
        }

    def open_run(self, seats: int = 4, **more: Any) -> dict[str, Any]:
        return body_of(self.host.post("/event-runs", self.run_body(seats, **more)), 201)

    def book(self, run: dict[str, Any], seats: int = 1, by: ApiUser | None = None) -> dict[str, Any]:
        body = {"event_run_id": run["id"], "seats": seats}
        return body_of((by or self.attendee).post("/bookings/create", body), 201)


def open_api(backend: BackendEnvironment, policy: TransactionPolicy | None = None) -> ApiEnvironment:
    """The app on a backend, without a reconciler in the background."""
    services = services_for(backend, policy or backend.sender.policy)
    chain_id = backend.engine.w3.eth.chain_id
    app = _APPS.setdefault(chain_id, create_app(services, SECRET, chain_id))
    client = TestClient(app)
    use_services(client, services)
    return ApiEnvironment(backend, services, client)


def use_services(client: TestClient, services: Services) -> None:
    """Makes the app use other services."""
    cast(FastAPI, client.app).state.services = services
    _OPENED.append(services)


def services_for(
    backend: BackendEnvironment, policy: TransactionPolicy, w3: Web3 | None = None, database: Database | None = None
) -> Services:
    """The services on the backend, or on another node or database."""
    w3, database = w3 or backend.engine.w3, database or backend.database
    sender = TransactionSender(w3, backend.wallets["platform"], database, policy)
    return build_services(
        w3, database, BlockchainService(w3, backend.chain.address, sender), Pricing(backend.feed, backend.now)
    )


def unreachable_node() -> Web3:
    """A node that does not answer."""
    return Web3(FailoverProvider(["http://127.0.0.1:1"], timeout=1, give_up_after=0))


def unreachable_database() -> Database:
    """A database that does not answer."""
    return Database(open_engine(make_url("postgresql+psycopg://nobody@127.0.0.1:1/nothing")))


def mine_confirmations(backend: BackendEnvironment) -> None:
    """Mines two blocks, so that all transactions so far have three confirmations."""
    for _ in range(2):
        backend.engine.mine()


def wait_for_background() -> None:
    """Ends the threads that carry operations out in the background."""
    while _OPENED:
        _OPENED.pop().follower.stop()
    for thread in threading.enumerate():
        if thread.name.startswith(("follower", "send-operation", "step-operation")):
            thread.join(10)


def body_of(response: Response, status: int) -> Any:
    """Returns the body, after checking the status."""
    assert response.status_code == status, response.text
    return response.json()


def problem_of(response: Response, status: int, code: str) -> Any:
    """Returns the problem details, after checking status, code and content type."""
    problem = body_of(response, status)
    assert response.headers["content-type"] == "application/problem+json"
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["type"] == f"urn:stakesim:problem:{code}"
    assert problem["title"]
    assert problem["detail"]
    return problem
