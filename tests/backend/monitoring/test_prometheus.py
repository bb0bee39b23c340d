"""A real Prometheus on the metrics of a real service: the rules and the dashboard's queries can be evaluated."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from app.bootstrap.services import Services
from http_server import Server
from monitored import MONITORING, app_of, needs_prometheus, rules
from stakesim_adapter.prometheus import Prometheus, prometheus
from test_dashboard import PANELS

SHOW_TROUBLE_ONLY = {
    "Checks of /ready that are not ok",
    "Held operations",
    "Oldest held operation",
    "Failures of endpoints",
    "Not now",
    "Refused prices",
}
pytestmark = [pytest.mark.slow, needs_prometheus]


@pytest.fixture
def scraping(services: Services, tmp_path: Path) -> Iterator[Prometheus]:
    """A Prometheus that scrapes a service each second, after some scrapes."""
    services.pricing.rate()
    services.health.started()
    services.reconciler.run_full()
    with Server(app_of(services)) as server:
        for method in ("GET", "POST"):
            httpx.request(method, f"{server.url}/event-runs", trust_env=False)
        target = server.url.removeprefix("http://")
        with prometheus(tmp_path, MONITORING / "prometheus.yml", target, every_s=1) as running:
            wait_for(lambda: count_of(running, "count_over_time(stakesim_ready[1m])") > 3)
            yield running


def count_of(running: Prometheus, query: str) -> float:
    result = running.get("query", query=query)["result"]
    return float(result[0]["value"][1]) if result else 0


def wait_for(condition: Callable[[], Any]) -> None:
    for _ in range(300):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it did not happen")


@pytest.mark.in_turn
def test_rules_and_queries_can_be_evaluated(scraping: Prometheus) -> None:
    """Some mistakes show only with data, such as several series on one side of an operator."""

    def evaluated() -> list[dict[str, Any]]:
        groups = scraping.get("rules")["groups"]
        return [rule for group in groups for rule in group["rules"] if rule["health"] != "unknown"]

    wait_for(lambda: len(evaluated()) == len(rules()))
    for rule in evaluated():
        assert rule["health"] == "ok", f"{rule['name']}: {rule.get('lastError')}"
        assert rule["state"] == "inactive", rule["name"]
    empty = {
        panel["title"]
        for panel in PANELS
        for target in panel["targets"]
        if not scraping.get("query", query=target["expr"])["result"]
    }
    assert empty == SHOW_TROUBLE_ONLY
