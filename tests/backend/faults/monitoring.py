"""What an operator sees of the backend under test: `/ready`, `/metrics`, and error lines of the log."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from app.bootstrap.services import Services
from app.main import create_app
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

_SECRET = SecretStr("0123456789abcdefghijklmnopqrstuvwxyz-of-these-tests")


def client_of(services: Services) -> TestClient:
    """Returns a client of a new app on these services, without a reconciler in the background."""
    return TestClient(create_app(services, _SECRET, services.sender.chain_id))


def ready(services: Services) -> tuple[int, dict[str, str]]:
    """Returns the status of `/ready`, and the checks that are not ok."""
    response = client_of(services).get("/ready")
    checks: dict[str, str] = response.json()["checks"]
    return response.status_code, {name: result for name, result in checks.items() if result != "ok"}


def metrics(services: Services) -> dict[str, float]:
    """Returns the metrics by name, and by label if they have one."""
    response = client_of(services).get("/metrics")
    assert response.status_code == 200
    return {
        sample.name + "".join(f"{{{label}}}" for label in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Returns the messages of the error lines so far."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def use_clock(services: Services) -> Clock:
    """Makes the services' health read a clock that the test sets."""
    clock: Any = Clock()
    services.health._clock = clock
    return clock  # type: ignore[no-any-return]
