"""Each alert is made to happen, is seen in Prometheus, and ends as the runbook is followed word by word."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

import pytest
import walks_of_databases
import walks_of_money
import walks_of_nodes
import walks_of_operations
import walks_of_payments
from stand_in import StandIn, wait_for
from walking import Following
from walks import WALKS, Walk
from watching import Alerts, rules, seconds_of

pytestmark = pytest.mark.slow
MODULES = (walks_of_nodes, walks_of_money, walks_of_operations, walks_of_payments, walks_of_databases)
"""Each registers its walks."""


@pytest.fixture
def quiet(production: tuple[StandIn, Alerts]) -> Any:
    """The stand-in, once nothing is wrong; put back in order after a walk that failed."""
    service, watching = production
    service.restore()
    wait_for(lambda: not watching.active() and not service.ready(), lambda: f"all is well: {watching.active()}")
    return production


@pytest.mark.sampled(9)
@pytest.mark.parametrize("walk", WALKS, ids=lambda walk: walk.id)
def test_walk(quiet: tuple[StandIn, Alerts], walk: Walk, record_property: Any) -> None:
    service, watching = quiet
    began_at = time.time()
    with walk.make(service) as reader:
        happened_at = time.time()
        alert = wait_for(
            lambda: firing(watching, walk.alert),
            lambda: f"{walk.alert} fires: {watching.active()}; {service.said()}",
        )
        message = alert["annotations"]["summary"]
        following = Following(service, reader)
        following.follow(walk.alert)
        wait_for(lambda: walk.alert not in watching.active(), lambda: f"{walk.alert} ends after {following.output}")
        wait_for(lambda: not service.ready(), lambda: f"{service.ready()} ends after {following.output}")
    following.finish()
    others = watching.fired_since(began_at, "page") - {walk.alert}
    assert others <= walk.companions, f"{others - walk.companions} fired as well"
    true_after = max(datetime.fromisoformat(alert["activeAt"]).timestamp() - happened_at, 0)
    rule = rules()[walk.alert]
    record_property("alert", walk.alert)
    record_property("made to happen", walk.make.__name__)
    record_property("seconds", round(true_after + seconds_of(rule.get("for", "0s"))))
    record_property("message", message)
    record_property("with it", ", ".join(sorted(others)))
    record_property("steps", "; ".join(following.steps))


def firing(watching: Alerts, name: str) -> Any:
    alert = watching.active().get(name)
    return alert if alert is not None and alert["state"] == "firing" else None
