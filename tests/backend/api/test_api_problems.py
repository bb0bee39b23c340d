"""Every refusal has a type out of one catalogue, and every type of the catalogue can be made to happen."""

from __future__ import annotations

import ast
import importlib
import json
import pkgutil
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args
from uuid import UUID

import app
import httpx
import pytest
from api_environment import (
    SECRET,
    ApiEnvironment,
    open_api,
    problem_of,
    services_for,
    unreachable_database,
    unreachable_node,
)
from app.api import http_protocol, middleware, problem_types
from app.api.policy import HttpPolicy
from app.api.problem_types import CLIENT_ACTIONS, PROBLEM_TYPES, TYPE_PREFIX, ClientAction
from app.bootstrap.services import Services, build_services
from app.core.errors import AppError, GatewayRefused, GatewayUnavailable
from app.db.connections import DatabasePolicy
from app.db.database import Database, open_engine
from app.db.tables import answers, event_runs, operations
from app.main import create_app
from app.services.payments.gateway import ManualGateway, Order, PaymentGateway
from app.services.payments.razorpay import RazorpayGateway
from app.services.payments.service import PaymentService
from app.services.pricing import Pricing
from app.services.transactions.policy import TransactionPolicy
from backend_environment import DeployedContracts, backend_on
from fastapi.testclient import TestClient
from http_server import Server, rest_of
from pydantic import SecretStr
from sqlalchemy import delete, select, update

NEVER_OVER_HTTP = {
    "error": "the base class",
    "migrations_missing": "ends the start",
    "smoke_failed": "of `stakesim smoke`",
    "intervention_refused": "of the commands for operators",
    "out_of_funds": "of callers who wait in process; a client gets 202 with the operation, which is held",
}
HEAD = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"

Cause = Callable[["Circumstances"], httpx.Response]


class Circumstances:
    """What the causes need: the API, and servers of their own."""

    def __init__(self, api: ApiEnvironment, minimal: DeployedContracts, monkeypatch: pytest.MonkeyPatch) -> None:
        self.api, self.minimal, self.monkeypatch = api, minimal, monkeypatch

    def on(self, services: Services, path: str = "/operations/k") -> httpx.Response:
        """Sends a GET to an app on other services."""
        client = TestClient(create_app(services, SECRET, 1), raise_server_exceptions=False)
        return replace(self.api.host, client=client).get(path)

    def over_socket(self, data: bytes) -> httpx.Response:
        """Sends bytes to a server, and returns what it sends until it closes the connection."""
        with Server(self.api.client.app) as server, server.connected(data) as connection:
            head, _, body = rest_of(connection).partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines if not line.lower().startswith("transfer-encoding"))
        return httpx.Response(int(status.split()[1]), headers=headers, content=body)

    def raw(self, body: bytes) -> httpx.Response:
        """Sends this body."""
        token = self.api.host.token()
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": "k", "Content-Type": "application/json"}
        response: httpx.Response = self.api.client.post("/event-runs", content=body, headers=headers)
        return response


def ended_with(code: str) -> Cause:
    """Repeats a request whose operation ended with this error meanwhile."""

    def cause(c: Circumstances) -> httpx.Response:
        body = c.api.run_body()
        c.api.host.post("/event-runs", body, Idempotency_Key="k")
        with c.api.backend.database.transaction() as connection:
            connection.execute(delete(answers))
            error = {"code": code, "message": "It is so."}
            connection.execute(update(operations).values(state="failed", error=error))
        return c.api.host.post("/event-runs", body, Idempotency_Key="k")

    return cause


def key_reused(c: Circumstances) -> httpx.Response:
    c.api.host.post("/event-runs", c.api.run_body(), Idempotency_Key="k")
    return c.api.host.post("/event-runs", c.api.run_body(seats=5), Idempotency_Key="k")


def not_on_chain(c: Circumstances) -> httpx.Response:
    run = c.api.open_run()
    with c.api.backend.database.transaction() as connection:
        connection.execute(update(event_runs).values(blockchain_event_run_id=None, blockchain_status="pending"))
    return c.api.attendee.post("/bookings/create", {"event_run_id": run["id"], "seats": 1})


def never_on_chain(c: Circumstances) -> httpx.Response:
    """The contract does not allow so many seats, so the run failed."""
    c.api.host.post("/event-runs", c.api.run_body(seats=201))
    [run] = c.api.host.get("/event-runs").json()["items"]
    return c.api.attendee.post("/bookings/create", {"event_run_id": run["id"], "seats": 1})


def request_timeout(c: Circumstances) -> httpx.Response:
    c.monkeypatch.setattr(middleware, "BODY_TIMEOUT_S", 0.1)
    return c.over_socket(HEAD.replace(b"GET", b"POST").replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\n"))


def unsupported_by_contract(c: Circumstances) -> httpx.Response:
    api = open_api(backend_on(c.minimal, "MinimalEventStake", c.api.backend.database))
    return api.host.post("/event-runs", api.run_body())


def database_busy(c: Circumstances) -> httpx.Response:
    engine = open_engine(c.api.backend.database.engine.url, DatabasePolicy(pool_size=1, pool_timeout=0.01))
    with engine.connect():
        return c.on(services_for(c.api.backend, TransactionPolicy(), database=Database(engine)))


def no_price(c: Circumstances) -> httpx.Response:
    c.api.backend.feed.rate = None
    return c.api.host.post("/event-runs", c.api.run_body())


def nothing_to_approve(c: Circumstances) -> httpx.Response:
    c.api.host.post("/event-runs", c.api.run_body(), Idempotency_Key="k")
    return c.api.platform.post(f"/operations/{c.api.host.id}:k/approve")


def paused(c: Circumstances) -> httpx.Response:
    c.api.platform.post("/pause", {"reason": "a test"})
    return c.api.host.post("/event-runs", c.api.run_body())


def origin_not_allowed(c: Circumstances) -> httpx.Response:
    app = create_app(c.api.services, SECRET, 1, policy=HttpPolicy(cors_origins=("https://app.example",)))
    headers = {"Origin": "https://other.example", "Access-Control-Request-Method": "GET"}
    response: httpx.Response = TestClient(app).options("/bookings", headers=headers)
    return response


class Deaf(ManualGateway):
    """A gateway that does not answer."""

    def create_order(self, payment_id: UUID, amount_inr: Decimal) -> Order:
        raise GatewayUnavailable("It is so.")


class Refusing(ManualGateway):
    """A gateway that takes no order."""

    def create_order(self, payment_id: UUID, amount_inr: Decimal) -> Order:
        raise GatewayRefused("It is so.")


class Paying:
    """An API where people pay, and a quote of a run."""

    def __init__(self, c: Circumstances, gateway: PaymentGateway | None = None) -> None:
        backend = c.api.backend
        payments = PaymentService(backend.database, gateway or ManualGateway(), backend.chain.sender.sealer)
        pricing = Pricing(backend.feed, backend.now)
        services = build_services(backend.engine.w3, backend.database, backend.chain, pricing, payments=payments)
        client = TestClient(create_app(services, SECRET, 1))
        self.host = replace(c.api.host, client=client)
        self.body = c.api.run_body()
        self.quote = self.host.post("/event-runs/calculate-stake", self.body).json()

    def create(self, **more: Any) -> httpx.Response:
        return self.host.post("/event-runs", self.body | more)

    def order(self) -> httpx.Response:
        return self.host.post(f"/payments/{self.quote['quote_id']}/order")


def not_paid(c: Circumstances) -> httpx.Response:
    paying = Paying(c)
    return paying.create(quote_id=paying.quote["quote_id"])


def payment_unusable(c: Circumstances) -> httpx.Response:
    paying = Paying(c)
    return paying.create(quote_id=paying.quote["quote_id"], max_seats=5)


def forged_webhook(c: Circumstances) -> httpx.Response:
    nobody = SecretStr("")
    gateway = RazorpayGateway("", nobody, SecretStr("secret-of-webhooks"), "http://127.0.0.1:1")
    return Paying(c, gateway).host.client.post("/webhooks/razorpay", content=b"{}")


def too_many_connections(c: Circumstances) -> httpx.Response:
    c.monkeypatch.setattr(http_protocol, "MAX_CONNECTIONS", 0)
    return c.over_socket(HEAD)


ENDED = ("superseded", "transaction_refused", "expired", "cancelled", "unexpected_receipt")
CAUSES: dict[str, Cause] = {
    "bad_request": lambda c: c.raw(b"\xff"),
    "too_deep": lambda c: c.raw(b"[" * 200),
    "idempotency_key_missing": lambda c: c.api.host.request("POST", "/event-runs", c.api.run_body()),
    "forged_webhook": forged_webhook,
    "unauthenticated": lambda c: c.api.client.get("/bookings"),
    "payment_required": lambda c: Paying(c).create(),
    "not_paid": not_paid,
    "forbidden": lambda c: c.api.attendee.post("/event-runs", c.api.run_body()),
    "origin_not_allowed": origin_not_allowed,
    "not_found": lambda c: c.api.host.get("/operations/nothing"),
    "unknown_route": lambda c: c.api.client.get("/nothing"),
    "method_not_allowed": lambda c: c.api.client.put("/bookings"),
    "request_timeout": request_timeout,
    "key_reused": key_reused,
    "contract_rejected": lambda c: c.api.host.post("/event-runs", c.api.run_body(seats=201)),
    "superseded": ended_with("superseded"),
    "transaction_refused": ended_with("transaction_refused"),
    "expired": ended_with("expired"),
    "cancelled": ended_with("cancelled"),
    "nothing_to_approve": nothing_to_approve,
    "not_on_chain": not_on_chain,
    "never_on_chain": never_on_chain,
    "payment_unusable": payment_unusable,
    "too_large": lambda c: c.raw(b" " * 100_000),
    "uri_too_long": lambda c: c.api.client.get("/health?" + "x" * 5_000),
    "invalid_request": lambda c: c.api.host.get("/bookings?limit=0"),
    "invalid_cursor": lambda c: c.api.host.get("/bookings?cursor=x"),
    "too_many_headers": lambda c: c.api.client.get("/health", headers={f"X-{n}": "x" for n in range(100)}),
    "internal_error": lambda c: c.on(replace(c.api.services, database=None)),  # type: ignore[arg-type]
    "unsupported_by_contract": unsupported_by_contract,
    "unexpected_receipt": ended_with("unexpected_receipt"),
    "gateway_refused": lambda c: Paying(c, Refusing()).order(),
    "chain_unavailable": lambda c: c.on(
        services_for(c.api.backend, TransactionPolicy(give_up_after=0.01), unreachable_node()),
        f"/event-runs/{c.api.open_run()['id']}",
    ),
    "database_unavailable": lambda c: c.on(
        services_for(c.api.backend, TransactionPolicy(), database=unreachable_database())
    ),
    "database_busy": database_busy,
    "gateway_unavailable": lambda c: Paying(c, Deaf()).order(),
    "no_price": no_price,
    "paused": paused,
    "not_ready": lambda c: c.on(services_for(c.api.backend, TransactionPolicy(), unreachable_node()), "/ready"),
    "too_many_connections": too_many_connections,
}


@pytest.mark.parametrize("code", PROBLEM_TYPES)
@pytest.mark.slow
def test_every_type_of_the_catalogue_can_be_made_to_happen(
    code: str, api: ApiEnvironment, deployed_contracts: DeployedContracts, monkeypatch: pytest.MonkeyPatch
) -> None:
    response = CAUSES[code](Circumstances(api, deployed_contracts, monkeypatch))
    problem = problem_of(response, PROBLEM_TYPES[code].status, code)
    assert problem["type"] == TYPE_PREFIX + code
    assert problem["title"] == PROBLEM_TYPES[code].title
    if code in ENDED:
        assert problem["operation"] == f"{api.host.id}:k"
        with api.backend.database.autocommit() as connection:
            assert connection.execute(select(answers.c.body)).scalar_one() == response.text
    if response.status_code == 503:
        assert int(response.headers["retry-after"]) > 0


def test_the_table_of_causes_is_complete() -> None:
    assert list(CAUSES) == list(PROBLEM_TYPES)


def test_every_error_class_is_in_the_catalogue() -> None:
    for module in pkgutil.walk_packages(app.__path__, "app."):
        importlib.import_module(module.name)
    codes = {kind.code for kind in _subclasses(AppError) if kind.__module__.startswith("app.")}
    assert codes - set(PROBLEM_TYPES) == NEVER_OVER_HTTP.keys()


@pytest.mark.slow
def test_every_code_in_the_source_is_in_the_catalogue() -> None:
    """The codes that responses are made with, and those that routes document, are literals or an error's `code`."""
    literals: set[str] = set()
    for path in Path(app.__path__[0], "api").glob("*.py"):
        tree = ast.parse(path.read_text())
        for call in ast.walk(tree):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
                if call.func.id == "problem_response":
                    literals |= {argument.value for argument in call.args[:1] if isinstance(argument, ast.Constant)}
                elif call.func.id == "problem_responses":
                    literals |= {argument.value for argument in call.args if isinstance(argument, ast.Constant)}
    groups = (problem_types.EVERYWHERE, problem_types.READING, problem_types.KEYED, problem_types.SENDING)
    literals |= {code for group in groups for code in group}
    assert len(literals) > 15
    assert literals - set(PROBLEM_TYPES) == set()


def test_nothing_is_about_blank(api: ApiEnvironment) -> None:
    for path in Path(app.__path__[0]).rglob("*.py"):
        assert "about:blank" not in path.read_text()
    assert "about:blank" not in json.dumps(api.client.get("/openapi.json").json())


def test_the_catalogue_says_what_a_client_does() -> None:
    assert set(CLIENT_ACTIONS) == set(get_args(ClientAction))
    for kind in PROBLEM_TYPES.values():
        assert kind.action in CLIENT_ACTIONS
        assert re.fullmatch("[a-z]+(_[a-z]+)*", kind.code)
        assert all(text[0].isupper() and text.endswith(".") for text in (kind.meaning, kind.advice))
    assert [kind.status for kind in PROBLEM_TYPES.values()] == sorted(kind.status for kind in PROBLEM_TYPES.values())


def test_the_document_has_the_catalogue_and_an_example_of_each_type(api: ApiEnvironment) -> None:
    document = api.client.get("/openapi.json").json()
    assert [entry["code"] for entry in document["x-problem-types"]] == list(PROBLEM_TYPES)
    documented: set[str] = set()
    for operation in (operation for path in document["paths"].values() for operation in path.values()):
        for status, response in operation["responses"].items():
            for code in response.get("x-problem-codes", ()):
                assert PROBLEM_TYPES[code].status == int(status)
                example = document["components"]["examples"][code]["value"]
                assert (example["code"], example["type"]) == (code, TYPE_PREFIX + code)
                documented.add(code)
    assert set(PROBLEM_TYPES) - documented == {"unknown_route", "method_not_allowed", "origin_not_allowed"}


def _subclasses(kind: type[AppError]) -> Iterator[type[AppError]]:
    yield kind
    for subclass in kind.__subclasses__():
        yield from _subclasses(subclass)
