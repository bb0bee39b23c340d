"""Whoever calls the API in these tests: a client with a token, named by their role on the stage."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from app.api.background import FINISH_THREAD
from app.bootstrap.container import Services, build_services
from app.core.security import Role, issue_token
from app.db.database import Database
from app.db.tables import experiences
from app.main import create_app
from app.services.blockchain_service import BlockchainService
from app.services.pricing import Pricing
from app.services.rpc_failover import FailoverProvider
from app.services.transactions.policy import TransactionPolicy
from app.services.transactions.sender import TransactionSender
from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx import Response
from pydantic import SecretStr
from sqlalchemy import create_engine, insert
from stage import DAY, Stage
from web3 import Web3

SECRET = SecretStr("0123456789abcdefghijklmnopqrstuvwxyz-of-these-tests")
ETH = 10**18
_APPS: dict[int, FastAPI] = {}
"""One for all tests, as the first request to each takes a while."""


@dataclass
class Visitor:
    """A user with a token of that role. Each POST has a key of its own where none is given."""

    client: TestClient
    id: UUID
    role: Role

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Response:
        token = issue_token(SECRET, self.id, self.role)
        given = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        raw = {name: value.encode("latin-1") for name, value in given.items()}
        return self.client.request(method, path, content=None if body is None else json.dumps(body), headers=raw)

    def get(self, path: str) -> Response:
        return self.ask("GET", path)

    def post(self, path: str, body: Any = None, **headers: str) -> Response:
        return self.ask("POST", path, body, **{"Idempotency_Key": str(uuid4())} | headers)

    def patch(self, path: str, body: Any, **headers: str) -> Response:
        return self.ask("PATCH", path, body, **headers)

    def delete(self, path: str, **headers: str) -> Response:
        return self.ask("DELETE", path, **headers)


@dataclass
class Api:
    """The app on a stage, and its visitors."""

    stage: Stage
    services: Services
    client: TestClient
    platform: Visitor = field(init=False)
    host: Visitor = field(init=False)
    attendee: Visitor = field(init=False)
    no_show: Visitor = field(init=False)
    other_host: Visitor = field(init=False)
    experience: UUID = field(init=False)

    def __post_init__(self) -> None:
        for role in ("platform", "other_host"):
            self.stage.add_user(role, None)
        roles: dict[str, Role] = {
            "platform": "platform",
            "host": "host",
            "other_host": "host",
            "attendee": "attendee",
            "no_show": "attendee",
        }
        for name, role in roles.items():
            setattr(self, name, Visitor(self.client, self.stage.ids[name], role))
        with self.stage.database.transaction() as connection:
            row = {"host_id": self.stage.ids["host"], "title": "Pottery"}
            self.experience = connection.execute(insert(experiences).returning(experiences.c.id), row).scalar_one()

    def run_body(self, seats: int = 4, price_inr: str = "20000", **more: Any) -> dict[str, Any]:
        starts_at = (self.stage.now() + 3 * DAY).isoformat()
        return {
            "experience_id": str(self.experience),
            "starts_at": starts_at,
            "max_seats": seats,
            "price_inr": price_inr,
            **more,
        }

    def open_run(self, seats: int = 4, **more: Any) -> dict[str, Any]:
        return answered(self.host.post("/event-runs", self.run_body(seats, **more)), 201)

    def book(self, run: dict[str, Any], seats: int = 1, by: Visitor | None = None) -> dict[str, Any]:
        body = {"event_run_id": run["id"], "seats": seats}
        return answered((by or self.attendee).post("/bookings/create", body), 201)


def open_api(stage: Stage, policy: TransactionPolicy | None = None) -> Api:
    """The app on a stage; its reconciler does not run by itself."""
    services = wire(stage, policy or stage.sender.policy)
    chain_id = stage.engine.w3.eth.chain_id
    app = _APPS.setdefault(chain_id, create_app(services, SECRET, chain_id))
    app.state.services = services
    return Api(stage, services, TestClient(app))


def wire(stage: Stage, policy: TransactionPolicy, w3: Web3 | None = None, database: Database | None = None) -> Services:
    """The services on the stage, or on another node or database than the stage's."""
    w3, database = w3 or stage.engine.w3, database or stage.database
    sender = TransactionSender(w3, stage.wallets["platform"], database, policy)
    return build_services(
        w3, database, BlockchainService(w3, stage.chain.address, sender), Pricing(stage.feed, stage.now)
    )


def nowhere() -> Web3:
    """A node that nobody runs."""
    return Web3(FailoverProvider(["http://127.0.0.1:1"], timeout=1, give_up_after=0))


def no_database() -> Database:
    """A database that nobody runs."""
    return Database(create_engine("postgresql+psycopg://nobody@127.0.0.1:1/nothing"))


def bury(stage: Stage) -> None:
    """Mines until what has happened is final for who wants three confirmations."""
    for _ in range(2):
        stage.engine.mine()


def settle() -> None:
    """Waits for what goes on in the background."""
    for thread in threading.enumerate():
        if thread.name == FINISH_THREAD:
            thread.join(10)


def answered(response: Response, status: int) -> Any:
    """The body, of an answer with this status."""
    assert response.status_code == status, response.text
    return response.json()


def refused(response: Response, status: int, code: str) -> Any:
    """The problem details, of an answer with this status."""
    problem = answered(response, status)
    assert response.headers["content-type"] == "application/problem+json"
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["type"] == f"urn:stakesim:problem:{code}"
    assert problem["title"]
    assert problem["detail"]
    return problem
