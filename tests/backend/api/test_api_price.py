"""What monitoring shows of the ETH price, and what works without one."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from api_environment import ApiEnvironment, body_of, open_api, problem_of
from app.services.pricing import Rate
from app.services.rate_history import StoredRates
from backend_environment import BackendEnvironment
from prometheus_client.parser import text_string_to_metric_families

pytestmark = pytest.mark.slow


def numbers(api: ApiEnvironment) -> dict[str, float]:
    families = text_string_to_metric_families(api.client.get("/metrics").text)
    samples = [sample for family in families for sample in family.samples if "rate_" in sample.name]
    return {":".join((sample.name, *sample.labels.values())): sample.value for sample in samples}


def price_check(api: ApiEnvironment) -> str:
    api.client.app.state.readiness = None  # so that it looks anew
    check: str = body_of(api.client.get("/ready"), 200)["checks"]["price"]
    return check


def test_a_refused_rate_is_named_and_everything_else_works(backend: BackendEnvironment) -> None:
    api = open_api(backend)
    pricing = api.services.pricing
    pricing.history = StoredRates(backend.database, pricing.max_jump, pricing.max_age)
    run = api.open_run()
    booking = api.book(run)
    assert price_check(api) == "ok"

    backend.feed.rate = Rate(Decimal(2_000_000), backend.now() - timedelta(seconds=30))
    cost = api.attendee.post("/bookings/calculate-cost", {"event_run_id": run["id"], "seats": 1})
    says = problem_of(cost, 503, "no_price")["detail"]
    assert says.endswith("more than 3 times up or down. If it is right, run `stakesim confirm-rate`.")
    assert price_check(api) == says
    shown = numbers(api)
    assert shown["stakesim_rate_refused_total:jump"] >= 2
    assert shown["stakesim_rate_refused_total:stale"] == 0
    assert shown["stakesim_rate_inr_per_eth"] == 200_000
    assert shown["stakesim_rate_age_seconds"] >= 0
    body_of(api.attendee.post(f"/bookings/{booking['id']}/cancel"), 200)

    pricing.confirm()
    assert price_check(api) == "ok"
    backend.feed.rate = replace(backend.feed.rate, as_of=backend.now() - timedelta(hours=2))
    assert "old; at most" in price_check(api)
