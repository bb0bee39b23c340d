"""What the tests of monitoring share: a service whose metrics are read, and Prometheus' own tools."""

from __future__ import annotations

import re
import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from app.bootstrap.services import Services
from app.main import create_app
from fastapi import FastAPI
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from pydantic import SecretStr

MONITORING = Path(__file__).parents[3] / "backend" / "monitoring"
EVERY = 30.0
"""Seconds between two checks of an endpoint."""
SECRET = SecretStr("0123456789abcdefghijklmnopqrstuvwxyz-of-these-tests")
needs_prometheus = pytest.mark.skipif(
    not (shutil.which("promtool") and shutil.which("prometheus")),
    reason="Prometheus is not installed: run `apt-get install prometheus` on Debian, `brew install` it on macOS.",
)
_SELECTOR = re.compile(r"\b(up|stakesim_\w+)\b(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')


def app_of(services: Services) -> FastAPI:
    """Returns a new app on these services, without a reconciler in the background."""
    return create_app(services, SECRET, services.sender.chain_id)


def samples_of(client: TestClient) -> list[Sample]:
    """Returns all samples of `/metrics`."""
    response = client.get("/metrics")
    assert response.status_code == 200, response.text
    return [sample for family in text_string_to_metric_families(response.text) for sample in family.samples]


def value_of(client: TestClient, name: str, **labels: str) -> float:
    """Returns the value of the one sample with this name and these labels."""
    [value] = [
        sample.value for sample in samples_of(client) if sample.name == name and labels.items() <= sample.labels.items()
    ]
    return value


def names_of(samples: list[Sample]) -> dict[str, dict[str, set[str]]]:
    """Returns the values of each label, by metric. A histogram is one metric."""
    metrics: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for sample in samples:
        labels = metrics[base_name(sample.name)]
        for label, value in sample.labels.items():
            if label != "le":
                labels[label].add(value)
    return metrics


def base_name(name: str) -> str:
    """Returns the name of the metric that a sample belongs to."""
    return re.sub("_(bucket|sum|count)$", "", name)


def selectors_in(expression: str) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """Yields each metric that a query names, with its matchers: label, operator and value."""
    for name, matchers in _SELECTOR.findall(expression):
        yield name, _MATCHER.findall(matchers)


def rules() -> list[dict[str, Any]]:
    """Returns the alert rules."""
    groups = yaml.load((MONITORING / "alerts.yml").read_text(), yaml.CSafeLoader)["groups"]
    return [rule for group in groups for rule in group["rules"]]
