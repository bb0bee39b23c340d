"""Headers of responses, requests from browsers, request ids, and the access log."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from api_environment import SECRET, ApiEnvironment, body_of, problem_of
from app.api import docs_page
from app.api.headers import SECURITY_HEADERS, YEAR_S
from app.api.policy import HttpPolicy, http_policy
from app.bootstrap.check import NotReady
from app.bootstrap.checks import read_settings
from app.core.logs import configure_json_logging
from app.main import create_app
from fastapi.testclient import TestClient
from http_server import Server, rest_of
from test_api_tokens import settings_with

ORIGIN = "https://app.example"


def client_with(api: ApiEnvironment, base_url: str = "http://testserver", **policy: Any) -> TestClient:
    app = create_app(api.services, SECRET, 1, policy=HttpPolicy(**policy))
    return TestClient(app, base_url=base_url, raise_server_exceptions=False)


def assert_headers(response: httpx.Response, **others: str) -> None:
    expected = SECURITY_HEADERS | {name.replace("_", "-"): value for name, value in others.items()}
    assert {name: response.headers.get(name) for name in expected} == expected
    assert not re.search(r"\d", response.headers.get("server", ""))


def test_the_security_headers_forbid_what_an_api_never_needs() -> None:
    assert SECURITY_HEADERS == {
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }


@pytest.mark.slow
def test_every_response_has_the_security_headers(api: ApiEnvironment) -> None:
    run = api.open_run()
    broken = replace(api.host, client=TestClient(create_app(replace(api.services, database=None), SECRET, 1),  # type: ignore[arg-type]
                                                 raise_server_exceptions=False))  # fmt: skip
    for response in (
        api.host.get(f"/event-runs/{run['id']}"),
        api.host.post("/event-runs", api.run_body()),
        api.client.get("/health"),
        api.client.get("/ready"),
        api.client.get("/metrics"),
        api.client.get("/openapi.json"),
        api.client.get("/bookings"),
        api.client.get("/nothing"),
        api.client.put("/bookings"),
        api.client.post("/event-runs", content=b"x" * 100_000),
        api.client.get("/health?" + "x" * 5_000),
        broken.get("/bookings"),
    ):
        assert_headers(response)
        assert "strict-transport-security" not in response.headers
    assert broken.get("/bookings").status_code == 500


@pytest.mark.slow
def test_what_reaches_no_route_has_them_as_well(api: ApiEnvironment) -> None:
    """Over a real socket: what is no HTTP, and one connection too many."""
    with Server(api.client.app) as server:
        answer = server.answer_to(b"no HTTP\r\n\r\n").decode().lower()
        with server.connected(b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n") as connection:
            good = rest_of(connection).decode().lower()
    for head in (answer, good):
        for name, value in SECURITY_HEADERS.items():
            assert f"{name}: {value}".lower() in head


@pytest.mark.parametrize(
    ("scheme", "seconds", "expected"),
    [
        ("http", None, None),
        ("https", None, f"max-age={YEAR_S}"),
        ("http", 600, "max-age=600"),
        ("https", 600, "max-age=600"),
        ("https", 0, None),
    ],
)
def test_https_is_asked_for_where_it_is_used_or_set(
    api: ApiEnvironment, scheme: str, seconds: int | None, expected: str | None
) -> None:
    client = client_with(api, f"{scheme}://testserver", hsts_seconds=seconds)
    assert client.get("/health").headers.get("strict-transport-security") == expected


@pytest.mark.slow
def test_the_documentation_has_a_policy_of_its_own(api: ApiEnvironment) -> None:
    """It allows files of the service and one script of the page, by its digest."""
    response = api.client.get("/docs")
    assert response.status_code == 200
    assert_headers(response, Content_Security_Policy=docs_page.POLICY)
    [inline] = re.findall(r"<script>(.*?)</script>", response.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in docs_page.POLICY
    assert "script-src 'self' 'sha256-" in docs_page.POLICY
    assert api.client.get("/openapi.json").status_code == 200
    for gone in ("/redoc", "/docs/oauth2-redirect"):
        problem_of(api.client.get(gone), 404, "unknown_route")


def test_the_documentation_needs_no_other_server(api: ApiEnvironment) -> None:
    """Page and files name no other host; the files are those of the digests, packed or not."""
    page = api.client.get("/docs").text
    assert "//" not in page
    named = re.findall(r'(?:src|href)="([^"]*)" integrity="sha384-([^"]*)"', page)
    assert [digest for _, digest in named] == [
        docs_page.DIGESTS["swagger-ui.css"],
        docs_page.DIGESTS["swagger-ui-bundle.js"],
    ]
    for path, digest in named:
        for encoding in ("gzip", "identity"):
            response = api.client.get(f"/{path}", headers={"Accept-Encoding": encoding})
            assert response.headers.get("content-encoding", "identity") == encoding
            assert base64.b64encode(hashlib.sha384(response.content).digest()).decode() == digest
            assert_headers(response, Cache_Control="public, max-age=31536000, immutable")
        assert b"@import" not in response.content
    problem_of(api.client.get("/docs/5.35.0/NOTICE"), 404, "unknown_route")


# --------------------------------------------------------------------------------------------- pages of other origins


def preflight(client: TestClient, origin: str, method: str = "POST", headers: str = "authorization") -> httpx.Response:
    asked = {"Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers}
    response: httpx.Response = client.options("/bookings/create", headers=asked)
    return response


@pytest.mark.slow
def test_cross_origin_requests_are_off_by_default(api: ApiEnvironment) -> None:
    problem_of(preflight(client_with(api), ORIGIN), 405, "method_not_allowed")
    response = client_with(api).get("/health", headers={"Origin": ORIGIN})
    assert not [name for name in response.headers if name.startswith("access-control")]


def test_exact_origins_may_send_requests_without_cookies(api: ApiEnvironment) -> None:
    client = client_with(api, cors_origins=(ORIGIN,))
    allowed = preflight(client, ORIGIN, "PATCH", "authorization, content-type, idempotency-key, prefer, x-request-id")
    assert allowed.status_code == 200
    assert_headers(allowed)
    assert allowed.headers["access-control-allow-origin"] == ORIGIN
    response = client.get("/bookings", headers={"Origin": ORIGIN})
    problem_of(response, 401, "unauthenticated")
    exposed = {name.strip().lower() for name in response.headers["access-control-expose-headers"].split(",")}
    assert {"location", "retry-after", "x-request-id"} <= exposed
    for each in (allowed, response):
        assert "access-control-allow-credentials" not in each.headers
        assert "origin" in each.headers["vary"].lower()
    failing = client_with(api, cors_origins=(ORIGIN,))
    failing.app.state.services = None  # type: ignore[attr-defined]
    token = {"Authorization": f"Bearer {api.host.token()}", "Origin": ORIGIN}
    failed = failing.get("/bookings", headers=token)
    problem_of(failed, 500, "internal_error")
    assert failed.headers["access-control-allow-origin"] == ORIGIN


@pytest.mark.slow
@pytest.mark.parametrize(
    "origin",
    ["https://other.example", "http://app.example", "https://app.example:8443", f"{ORIGIN}.evil.example", "null"],
)
def test_other_origins_may_not(api: ApiEnvironment, origin: str) -> None:
    client = client_with(api, cors_origins=(ORIGIN,))
    refused = preflight(client, origin)
    problem_of(refused, 403, "origin_not_allowed")
    assert_headers(refused)
    for response in (refused, client.get("/health", headers={"Origin": origin})):
        assert "access-control-allow-origin" not in response.headers
    problem_of(preflight(client, ORIGIN, "PUT"), 403, "origin_not_allowed")
    problem_of(preflight(client, ORIGIN, headers="x-evil"), 403, "origin_not_allowed")


def test_settings_of_origins(tmp_path: Path) -> None:
    def origins(text: str) -> tuple[str, ...]:
        return http_policy(read_settings(settings_with(tmp_path, CORS_ORIGINS=text))).cors_origins

    assert origins("") == ()
    assert origins(f"{ORIGIN}, http://localhost:3000,https://[::1]:8443") == (
        ORIGIN,
        "http://localhost:3000",
        "https://[::1]:8443",
    )
    for text in ("*", "https://*.example", f"{ORIGIN}/", f"{ORIGIN}/path", "app.example", "ftp://a", "null"):
        with pytest.raises(NotReady, match="CORS_ORIGINS"):
            origins(text)


# ------------------------------------------------------------------------------------------ request ids and access log


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """The lines that are logged as JSON while the test runs."""
    root, stream = logging.getLogger(), io.StringIO()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()
    configure_json_logging(stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)


def access_lines(lines: io.StringIO) -> list[dict[str, Any]]:
    logged = [json.loads(line) for line in lines.getvalue().splitlines()]
    return [line for line in logged if line["logger"] == "app.api.middleware"]


@pytest.mark.slow
def test_a_request_has_an_id(api: ApiEnvironment, lines: io.StringIO) -> None:
    """The client's, if it is short and plain; it is in the response and in all lines of the request."""
    response = api.host.post("/event-runs", api.run_body(), X_Request_Id="my-request.1")
    assert response.headers["x-request-id"] == "my-request.1"
    logged = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert {"app.services.transactions.sender", "app.api.middleware"} <= {line["logger"] for line in logged}
    assert {line["request_id"] for line in logged if line["logger"].startswith("app.")} == {"my-request.1"}
    generated = set()
    for given in ("", "a b", "a" * 101, 'x"y', "a\tb", "\xff", "a;b", "a\\nb"):
        returned = api.host.request("GET", "/bookings", X_Request_Id=given).headers["x-request-id"]
        assert re.fullmatch("[0-9a-f]{32}", returned)
        generated.add(returned)
    assert len(generated) == 8


def test_the_access_log_names_the_caller_and_the_operation_and_never_the_token(
    api: ApiEnvironment, lines: io.StringIO
) -> None:
    run = body_of(api.host.post("/event-runs", api.run_body(), Idempotency_Key="k"), 201)
    api.attendee.get(f"/event-runs/{run['id']}?secret=query")
    api.host.get("/operations/k")
    forbidden = api.attendee.post("/event-runs", api.run_body())
    problem_of(forbidden, 403, "forbidden")
    api.client.get("/health")
    created, shown, operation, refused, health = access_lines(lines)
    key = f"{api.host.id}:k"
    assert {
        "caller": str(api.host.id),
        "role": "host",
        "operation": key,
        "route": "create_event_run",
    }.items() <= created.items()
    assert (created["method"], created["path"], created["status"]) == ("POST", "/event-runs", 201)
    assert (shown["caller"], shown["role"], shown["route"]) == (str(api.attendee.id), "attendee", "get_event_run")
    assert "operation" not in shown
    assert operation["operation"] == key
    assert (refused["caller"], refused["status"]) == (str(api.attendee.id), 403)
    assert (health["caller"], health["status"]) == ("anonymous", 200)
    text = "".join(line for line in lines.getvalue().splitlines() if '"logger": "app.' in line)
    for token in (api.host.token(), api.attendee.token()):
        assert token.rsplit(".", 1)[1] not in text
        assert token.split(".")[1] not in text
    assert "Bearer" not in text
    assert "?secret=query" not in text


def test_the_access_log_says_why_a_token_was_refused(api: ApiEnvironment, lines: io.StringIO) -> None:
    foreign = "eyJhbGciOiJIUzI1NiIsImtpZCI6IngifQ.e30.c2lnbmF0dXJl"
    for token in (foreign, "garbage", None):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        problem_of(api.client.get("/bookings", headers=headers), 401, "unauthenticated")
    logged = access_lines(lines)
    assert [line["caller"] for line in logged] == ["anonymous"] * 3
    assert ["key that is not known" in line["refused"] for line in logged] == [True, False, False]
    assert "not valid" in logged[1]["refused"]
    assert "Send a bearer token" in logged[2]["refused"]
    assert all("role" not in line for line in logged)
    assert "garbage" not in lines.getvalue()
    assert foreign.split(".")[2] not in lines.getvalue()


def test_an_unexpected_error_is_logged_as_500_with_its_id(api: ApiEnvironment, lines: io.StringIO) -> None:
    client = client_with(api)
    client.app.state.services = None  # type: ignore[attr-defined]
    response = client.get(f"/bookings/{uuid4()}", headers={"Authorization": f"Bearer {api.host.token()}"})
    problem_of(response, 500, "internal_error")
    [line] = access_lines(lines)
    assert (line["status"], line["request_id"]) == (500, response.headers["x-request-id"])
    assert UUID(line["caller"]) == api.host.id
