"""Bearer tokens: claims, lifetime, keys and their rotation, and the command that issues them."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import jwt
import pytest
from api_environment import SECRET, ApiEnvironment, body_of, problem_of
from app.api.policy import HttpPolicy, http_policy
from app.bootstrap.check import NotReady
from app.bootstrap.checks import read_settings
from app.core.security import (
    CLOCK_LEEWAY,
    Caller,
    TokenPolicy,
    Unauthenticated,
    issue_token,
    key_id,
    verify_token,
)
from app.main import create_app
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from stakesim_adapter.commands import cli
from typer.testing import CliRunner

ME, KEY = uuid4(), SECRET.get_secret_value()
OTHER = SecretStr("another-0123456789abcdefghijklmnopqrstuvwxyz")
NOW = int(datetime.now(UTC).timestamp())
HOUR, DAY = 3600, 86_400
GOOD: dict[str, Any] = {"iss": "stakesim", "sub": str(ME), "role": "host", "iat": NOW, "exp": NOW + HOUR}
KID = {"kid": key_id(SECRET)}


def encoded(claims: dict[str, Any], key: Any = KEY, algorithm: str = "HS256", **headers: Any) -> str:
    """Signs any claims: `jwt.encode` would refuse some."""
    return jwt.PyJWS().encode(json.dumps(claims).encode(), key, algorithm, headers=KID | headers)


def raw(header: Any, claims: Any, signature: str = "x") -> str:
    parts = (base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in (header, claims))
    return ".".join([*parts, signature])


def test_a_token_identifies_the_caller() -> None:
    for token in (issue_token(SECRET, ME, "host"), encoded(GOOD), encoded(GOOD | {"iat": NOW + 5})):
        assert verify_token(SECRET, token) == Caller(ME, "host")
    claims = jwt.decode(issue_token(SECRET, ME, "attendee"), KEY, ["HS256"], issuer="stakesim")
    assert set(claims) == {"iss", "sub", "role", "iat", "exp"}


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "a.b.c",
        "\ud800",
        issue_token(OTHER, ME, "host"),
        encoded(GOOD, OTHER.get_secret_value()),
        issue_token(SECRET, ME, "host", timedelta(seconds=-1)),
        encoded(GOOD, None, "none"),
        encoded(GOOD, KEY * 2, "HS512"),
        encoded(GOOD, KEY, "HS384"),
        raw({"alg": "none", "typ": "JWT"} | KID, GOOD, ""),
        raw({"alg": "HS256", "kid": ["x"]}, GOOD),
        raw({"alg": "HS256", "kid": 7}, GOOD),
        raw(["alg"], GOOD),
        *(encoded({k: v for k, v in GOOD.items() if k != missing}) for missing in GOOD),
        encoded(GOOD | {"sub": "somebody"}),
        encoded(GOOD | {"role": "admin"}),
        encoded(GOOD | {"role": ["host"]}),
        encoded(GOOD | {"role": None}),
        encoded(GOOD | {"iss": "somebody"}),
        encoded(GOOD | {"iss": ["stakesim", "x"]}),
        encoded(GOOD | {"exp": "never"}),
        encoded(GOOD | {"exp": str(NOW + HOUR)}),
        encoded(GOOD | {"exp": NOW - 1}),
        encoded(GOOD | {"exp": float("inf")}),
        encoded(GOOD | {"exp": float("nan")}),
        encoded(GOOD | {"exp": 10**30}),
        encoded(GOOD | {"iat": "now"}),
        encoded(GOOD | {"iat": float("-inf")}),
        encoded(GOOD | {"iat": -(10**400)}),
        encoded(GOOD | {"nbf": NOW + HOUR}),
        jwt.encode(GOOD, KEY),  # no kid
        encoded(GOOD, kid="unknown"),
        encoded(GOOD, kid=key_id(OTHER)),
        encoded(GOOD, crit=["b64"], b64=True),
        encoded(GOOD, crit=[]),
    ],
)
def test_a_foreign_or_incomplete_token_is_refused(token: str) -> None:
    with pytest.raises(Unauthenticated):
        verify_token(SECRET, token)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"exp": NOW + DAY + 1}, "lives longer than the 86400 s"),
        ({"iat": NOW - 30 * DAY}, "lives longer"),
        ({"iat": NOW + 30 * CLOCK_LEEWAY.seconds}, "issued in the future"),
        ({"exp": NOW - 1}, "has expired"),
        ({"role": "admin"}, "no role"),
    ],
)
def test_a_refusal_says_what_is_wrong(change: dict[str, Any], words: str) -> None:
    with pytest.raises(Unauthenticated, match=words):
        verify_token(SECRET, encoded(GOOD | change))
    with pytest.raises(Unauthenticated, match="key that is not known here"):
        verify_token(SECRET, encoded(GOOD, kid="x"))


def test_the_longest_lifetime_is_accepted() -> None:
    assert verify_token(SECRET, encoded(GOOD | {"exp": NOW + DAY})).id == ME
    short = TokenPolicy(max_lifetime=timedelta(minutes=5))
    with pytest.raises(Unauthenticated, match="300 s"):
        verify_token(SECRET, encoded(GOOD), short)


def test_a_key_has_a_name_that_tells_nothing_about_it() -> None:
    header = jwt.get_unverified_header(issue_token(SECRET, ME, "host"))
    assert header == {"alg": "HS256", "typ": "JWT", "kid": key_id(SECRET)}
    assert key_id(SECRET) != key_id(OTHER)
    assert not {key_id(SECRET)[n : n + 6] for n in range(10)} & {KEY[n : n + 6] for n in range(len(KEY))}


_part = st.text() | st.sampled_from([*issue_token(SECRET, ME, "host").split(".")[:2], "e30", "W10", "bnVsbA"])


@given(st.lists(_part, max_size=4).map(".".join))
@pytest.mark.slow
def test_no_malformed_token_causes_another_error(token: str) -> None:
    with pytest.raises(Unauthenticated):
        verify_token(SECRET, token)


_HEADER = st.fixed_dictionaries(
    {"alg": st.sampled_from(["HS256", "none", "RS256", None, 1])},
    optional={"kid": st.sampled_from([key_id(SECRET), None, [], {}]), "crit": st.just(["x"]), "typ": st.text()},
)
_JSON = st.recursive(st.none() | st.booleans() | st.floats() | st.text() | st.integers(), st.lists, max_leaves=3)


@given(_HEADER, st.fixed_dictionaries({name: _JSON | st.just(value) for name, value in GOOD.items()}))
@pytest.mark.slow
def test_no_claim_causes_another_error(header: dict[str, Any], claims: dict[str, Any]) -> None:
    """With a good signature as well: who has the key makes mistakes, too."""
    with pytest.raises(Unauthenticated):
        verify_token(SECRET, raw(header, claims))
    try:
        assert verify_token(SECRET, encoded(claims)) == Caller(ME, "host")
    except Unauthenticated:
        assert claims != GOOD


# ------------------------------------------------------------------------------------------------------------- rotation


def settings_with(tmp_path: Path, **values: str) -> Path:
    file = tmp_path / ".env"
    required = {
        "BLOCKCHAIN_RPC_URL": "http://127.0.0.1:1",
        "CONTRACT_ADDRESS": "0x" + "ab" * 20,
        "PLATFORM_PRIVATE_KEY": "0x" + "1" * 64,
        "JWT_SECRET": KEY,
    }
    file.write_text("".join(f"{name}={value}\n" for name, value in (required | values).items()))
    return file


@pytest.mark.slow
def test_keys_are_rotated_without_a_refusal(api: ApiEnvironment, tmp_path: Path) -> None:
    """Old tokens work while the old key is JWT_SECRET_PREVIOUS, and not afterwards; new tokens have the new key."""
    old, new = SECRET.get_secret_value(), OTHER.get_secret_value()

    def status(token: str, **keys: str) -> int:
        settings = read_settings(settings_with(tmp_path, **keys))
        app = create_app(api.services, settings.jwt_secret, 1, policy=http_policy(settings))
        return TestClient(app).get("/bookings", headers={"Authorization": f"Bearer {token}"}).status_code

    before, after = issue_token(SECRET, api.host.id, "host"), issue_token(OTHER, api.host.id, "host")
    assert (status(before, JWT_SECRET=old), status(after, JWT_SECRET=old)) == (200, 401)
    during = {"JWT_SECRET": new, "JWT_SECRET_PREVIOUS": old}
    assert (status(before, **during), status(after, **during)) == (200, 200)
    for previous in ({}, {"JWT_SECRET_PREVIOUS": ""}):
        assert (status(before, JWT_SECRET=new, **previous), status(after, JWT_SECRET=new, **previous)) == (401, 200)


@pytest.mark.slow
def test_settings_of_tokens(api: ApiEnvironment, tmp_path: Path) -> None:
    file = settings_with(tmp_path, JWT_ISSUER="https://id.example", JWT_MAX_LIFETIME_SECONDS="600")
    policy = http_policy(read_settings(file)).tokens
    assert policy == TokenPolicy("https://id.example", timedelta(minutes=10))
    client = TestClient(create_app(api.services, SECRET, 1, policy=HttpPolicy(policy)))

    def get(token: str) -> Any:
        return client.get("/bookings", headers={"Authorization": f"Bearer {token}"})

    problem_of(get(issue_token(SECRET, api.host.id, "host", timedelta(minutes=9))), 401, "unauthenticated")
    body_of(get(issue_token(SECRET, api.host.id, "host", timedelta(minutes=9), "https://id.example")), 200)
    problem_of(get(issue_token(SECRET, api.host.id, "host", issuer="https://id.example")), 401, "unauthenticated")
    for name, value in (("JWT_SECRET_PREVIOUS", "short"), ("JWT_MAX_LIFETIME_SECONDS", "0")):
        with pytest.raises(NotReady, match=name):
            read_settings(settings_with(tmp_path, **{name: value}))
    assert "another" not in repr(read_settings(settings_with(tmp_path, JWT_SECRET_PREVIOUS=OTHER.get_secret_value())))


@pytest.mark.slow
def test_operators_issue_tokens_with_a_command(api: ApiEnvironment, tmp_path: Path) -> None:
    file = settings_with(tmp_path, JWT_ISSUER="https://id.example")

    def run(*options: str) -> Any:
        return CliRunner().invoke(cli, ["token", "--user", str(ME), "--env-file", str(file), *options])

    policy = http_policy(read_settings(file)).tokens
    result = run("--role", "platform", "--hours", "24")
    assert result.exit_code == 0
    assert verify_token(SECRET, result.stdout.strip(), policy) == Caller(ME, "platform")
    claims = jwt.decode(run("--role", "host").stdout.strip(), KEY, ["HS256"], issuer="https://id.example")
    assert claims["exp"] - claims["iat"] == HOUR
    for options in (["--role", "host", "--hours", "25"], ["--role", "host", "--hours", "0"], ["--role", "king"]):
        refused = run(*options)
        assert refused.exit_code != 0
        assert "ey" not in refused.stdout
