"""The dashboard is what Grafana imports, and Prometheus understands its queries."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from monitored import MONITORING, needs_prometheus
from test_rules import promtool

DASHBOARD: dict[str, Any] = json.loads((MONITORING / "dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
WIDTH = 24
ROWS = ["Is it up and ready", "Money", "Operations", "Chain", "Database", "HTTP", "Price"]


def cells(panel: dict[str, Any]) -> set[tuple[int, int]]:
    at = panel["gridPos"]
    return {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}


def test_rows_and_variables() -> None:
    assert [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"] == ROWS
    [variable] = DASHBOARD["templating"]["list"]
    assert (variable["name"], variable["type"], variable["query"]) == ("datasource", "datasource", "prometheus")
    assert DASHBOARD["schemaVersion"] >= 42
    assert "id" not in DASHBOARD, "Grafana would take it for an existing dashboard"


def test_panels_have_places_of_their_own() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in DASHBOARD["panels"]:
        assert all(0 <= x < WIDTH for x, _ in cells(panel)), panel["title"]
    for one, other in combinations(DASHBOARD["panels"], 2):
        assert not cells(one) & cells(other), f"{one['title']} covers {other['title']}"


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_says_what_it_shows(panel: dict[str, Any]) -> None:
    source = {"type": "prometheus", "uid": "${datasource}"}
    assert panel["type"] in ("timeseries", "stat")
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"] == source
    assert panel["targets"]
    for target in panel["targets"]:
        assert target["datasource"] == source
        assert target["legendFormat"]
    names = [target["refId"] for target in panel["targets"]]
    assert len(set(names)) == len(names)
    legends = {target["legendFormat"] for target in panel["targets"]}
    assert {override["matcher"]["options"] for override in panel["fieldConfig"]["overrides"]} <= legends


@needs_prometheus
@pytest.mark.slow
def test_prometheus_parses_the_queries(tmp_path: Path) -> None:
    queries = [target["expr"] for panel in PANELS for target in panel["targets"]]
    records = [{"record": f"query_{number}", "expr": query} for number, query in enumerate(queries)]
    (tmp_path / "queries.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": records}]}))
    promtool("check", "rules", str(tmp_path / "queries.yml"))
