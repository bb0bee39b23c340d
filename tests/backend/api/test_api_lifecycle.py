"""One run from its creation to its completion over HTTP, to the wei."""

from __future__ import annotations

from datetime import datetime

import pytest
from api_environment import ETH, ApiEnvironment, body_of

pytestmark = pytest.mark.slow


def test_the_worked_example_pays_exact_amounts(api: ApiEnvironment) -> None:
    """0.1 ETH a seat, 4 seats; A books 2 and attends, B books 2 and does not: A 0.04, host 0.46, platform 0.06."""
    run = body_of(api.host.post("/event-runs", api.run_body(seats=4, price_inr="20000")), 201)
    assert run["blockchain_price_per_seat_wei"] == "100000000000000000"
    assert run["blockchain_stake_amount_wei"] == "80000000000000000"
    assert run["price_inr"] == "20000.00"

    cost = body_of(api.attendee.post("/bookings/calculate-cost", {"event_run_id": run["id"], "seats": 2}), 200)
    assert (cost["payment_wei"], cost["stake_wei"]) == ("200000000000000000", "40000000000000000")
    assert (cost["total_wei"], cost["total_inr"]) == ("240000000000000000", "48000.00")
    attended, missed = api.book(run, 2, api.attendee), api.book(run, 2, api.no_show)
    assert attended["total_inr"] == "48000.00"
    assert attended["blockchain_payment_wei"] == "200000000000000000"

    side_by_side = body_of(api.attendee.get(f"/event-runs/{run['id']}"), 200)
    assert side_by_side["database"]["status"] == side_by_side["chain"]["status"] == "full"
    assert side_by_side["differences"] == []

    roles = ("host", "attendee", "no_show")
    before = {role: api.backend.balance(role) for role in roles}
    api.backend.go_to(datetime.fromisoformat(run["starts_at"]))
    body = {"event_run_id": run["id"], "attended_booking_ids": [attended["id"]]}
    settled = body_of(api.host.post("/bookings/confirm-attendance", body), 200)

    assert settled["event_run"]["status"] == "completed"
    assert settled["settlement"]["host_payout_wei"] == "380000000000000000"
    assert settled["settlement"]["host_stake_returned_wei"] == "80000000000000000"
    assert settled["settlement"]["deferred"] == []
    gains = {role: api.backend.balance(role) - before[role] for role in roles}
    assert gains == {"host": 46 * ETH // 100, "attendee": 4 * ETH // 100, "no_show": 0}
    assert api.backend.chain.platform_balance() == 6 * ETH // 100

    found = body_of(api.host.get(f"/event-runs/{run['id']}/bookings"), 200)["items"]
    assert {booking["id"]: booking["status"] for booking in found} == {
        attended["id"]: "completed",
        missed["id"]: "no_show",
    }
    assert body_of(api.host.get(f"/event-runs/{run['id']}"), 200)["differences"] == []
