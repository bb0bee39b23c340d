"""One set of metrics: what is exposed is documented, and what rules and dashboard ask for is exposed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from app.api.health import CHECKS
from app.bootstrap.services import Services
from fastapi.testclient import TestClient
from monitored import MONITORING, names_of, rules, samples_of, selectors_in

pytestmark = pytest.mark.slow

OPEN_LABELS = {"method", "route", "status"}
"""Labels whose values come with the requests."""
README = (MONITORING / "README.md").read_text()


@pytest.fixture
def exposed(services: Services, client: TestClient) -> dict[str, dict[str, set[str]]]:
    """The labels of each metric of a service that has done everything once."""
    services.pricing.rate()
    services.health.started()
    services.reconciler.run_full()
    services.health.found("contract", "the contract is paused")
    client.get("/metrics")
    return names_of(samples_of(client))


def documented() -> dict[str, set[str]]:
    """The labels of each metric in the table of the documentation."""
    rows = (line.split("|") for line in README.splitlines() if line.startswith("| `stakesim_"))
    return {cells[1].strip(" `"): set(re.findall(r"`(\w+)`", cells[2])) for cells in rows}


def values_in_table(heading: str) -> set[str]:
    """The values of a label in the table with this heading."""
    rows = README.partition(f"| {heading}")[2].partition("\n\n")[0].splitlines()[2:]
    return {value for row in rows for value in re.findall(r"`(\w+)`", row.split("|")[1])}


def queries() -> Iterator[tuple[str, str]]:
    """Yields each query of the rules and of the dashboard, after what it is for."""
    for rule in rules():
        yield rule["alert"], rule["expr"]
    for panel in json.loads((MONITORING / "dashboard.json").read_text())["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


def test_the_table_is_what_is_exposed(exposed: dict[str, dict[str, set[str]]]) -> None:
    assert documented() == {name: set(labels) for name, labels in exposed.items()}


def test_the_values_of_labels_are_explained(exposed: dict[str, dict[str, set[str]]]) -> None:
    assert values_in_table("`kind` of") == exposed["stakesim_endpoint_failures_total"]["kind"]
    assert values_in_table("`reason` of") == exposed["stakesim_database_unavailable_total"]["reason"]


def test_queries_name_what_is_exposed(exposed: dict[str, dict[str, set[str]]]) -> None:
    """A name, a label, or a label's value that does not exist would make a rule silent for ever."""
    known = {**exposed, "up": {"job": {"stakesim"}}}
    known["stakesim_problem"] = {"check": set(CHECKS), "blocks": {"true", "false"}}
    for where, query in queries():
        for metric, matchers in selectors_in(query):
            labels = known.get(re.sub("_(bucket|sum|count)$", "", metric))
            assert labels is not None, f"{where}: there is no metric {metric}"
            for label, operator, value in matchers:
                if label in OPEN_LABELS | {"job", "instance", "le"}:
                    continue
                assert label in labels, f"{where}: {metric} has no label {label}"
                values = value.split("|") if "~" in operator else [value]
                assert set(values) <= labels[label], f"{where}: {metric} has no such {label}: {value}"


def test_each_metric_is_looked_at(exposed: dict[str, dict[str, set[str]]]) -> None:
    used = {re.sub("_(bucket|sum|count)$", "", name) for _, query in queries() for name, _ in selectors_in(query)}
    assert set(exposed) - used == set()
