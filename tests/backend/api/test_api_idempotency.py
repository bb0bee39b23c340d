"""The same request with the same key has one effect, and gets the first response again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from api_environment import ApiEnvironment, ApiUser, body_of, open_api, problem_of, services_for, unreachable_node
from app.api.idempotency import IdempotentRequest
from app.core.errors import DatabaseBusy
from app.db.tables import answers, event_runs
from app.services.housekeeping import KEEP_ANSWERS
from app.services.transactions.policy import TransactionPolicy
from backend_environment import BackendEnvironment
from httpx import Response
from sqlalchemy import func, update


@pytest.mark.slow
def test_a_repeated_request_gets_the_first_response(api: ApiEnvironment) -> None:
    body = api.run_body()
    first = api.host.post("/event-runs", body, Idempotency_Key="open")
    run = body_of(first, 201)
    booked = api.attendee.post("/bookings/create", _booking(run), Idempotency_Key="book")
    cancelled = api.attendee.post(f"/bookings/{booked.json()['id']}/cancel", Idempotency_Key="cancel")
    closed = api.host.patch(f"/event-runs/{run['id']}/status", {"status": "cancelled"}, Idempotency_Key="close")
    sent = _sent(api)
    for response, again in (
        (first, api.host.post("/event-runs", body, Idempotency_Key="open")),
        (booked, api.attendee.post("/bookings/create", _booking(run), Idempotency_Key="book")),
        (cancelled, api.attendee.post(f"/bookings/{booked.json()['id']}/cancel", Idempotency_Key="cancel")),
        (closed, api.host.patch(f"/event-runs/{run['id']}/status", {"status": "cancelled"}, Idempotency_Key="close")),
    ):
        assert (again.status_code, again.text) == (response.status_code, response.text)
        assert again.headers["content-type"] == response.headers["content-type"]
    assert _sent(api) == sent
    assert len(api.services.runs.list_all()) == len(api.services.bookings.list_all()) == 1


def test_a_repeated_quote_ignores_a_new_rate(api: ApiEnvironment) -> None:
    run = api.open_run()
    first = api.attendee.post("/bookings/calculate-cost", _booking(run), Idempotency_Key="quote")
    api.backend.set_rate(300_000)
    again = api.attendee.post("/bookings/calculate-cost", _booking(run), Idempotency_Key="quote")
    assert again.text == first.text
    anew = body_of(api.attendee.request("POST", "/bookings/calculate-cost", _booking(run)), 200)
    assert anew["total_inr"] != first.json()["total_inr"]


@pytest.mark.slow
def test_a_repeated_request_gets_the_first_refusal(api: ApiEnvironment) -> None:
    run = api.open_run(seats=1)
    booking = api.book(run)
    first = api.no_show.post("/bookings/create", _booking(run), Idempotency_Key="late")
    problem_of(first, 409, "contract_rejected")
    body_of(api.attendee.post(f"/bookings/{booking['id']}/cancel"), 200)
    again = api.no_show.post("/bookings/create", _booking(run), Idempotency_Key="late")
    assert (again.status_code, again.text) == (409, first.text)
    assert again.headers["content-type"] == "application/problem+json"
    body_of(api.no_show.post("/bookings/create", _booking(run), Idempotency_Key="later"), 201)


@pytest.mark.slow
def test_the_same_key_with_another_request_is_refused(api: ApiEnvironment) -> None:
    run = api.open_run()
    booking = body_of(api.attendee.post("/bookings/create", _booking(run), Idempotency_Key="k"), 201)
    for path, body in (
        ("/bookings/create", _booking(run, seats=2)),
        ("/bookings/calculate-cost", _booking(run)),
        (f"/bookings/{booking['id']}/cancel", None),
    ):
        problem_of(api.attendee.post(path, body, Idempotency_Key="k"), 409, "key_reused")
    assert len(api.services.bookings.list_all()) == 1


def test_a_request_that_stored_no_operation_may_be_repeated(api: ApiEnvironment) -> None:
    """Without a price nothing is stored, and the same request succeeds once there is one."""
    rate, api.backend.feed.rate = api.backend.feed.rate, None
    body = api.run_body()
    response = api.host.post("/event-runs", body, Idempotency_Key="k")
    problem_of(response, 503, "no_price")
    assert response.headers["retry-after"]
    assert api.services.runs.list_all() == []
    api.backend.feed.rate = rate
    body_of(api.host.post("/event-runs", body, Idempotency_Key="k"), 201)


@pytest.mark.slow
def test_callers_do_not_share_keys(api: ApiEnvironment) -> None:
    run = api.open_run()
    for user in (api.attendee, api.no_show):
        body_of(user.post("/bookings/create", _booking(run), Idempotency_Key="k"), 201)
    assert len(api.services.bookings.list_all()) == 2


def test_without_a_key_nothing_is_sent(api: ApiEnvironment) -> None:
    run = api.open_run()
    for user, path, body in (
        (api.host, "/event-runs", api.run_body()),
        (api.attendee, "/bookings/create", _booking(run)),
        (api.attendee, f"/bookings/{uuid4()}/cancel", None),
        (api.host, "/bookings/confirm-attendance", {"event_run_id": run["id"], "attended_booking_ids": []}),
    ):
        problem = problem_of(user.request("POST", path, body), 400, "idempotency_key_missing")
        assert "Idempotency-Key" in problem["detail"]


@pytest.mark.parametrize("key", ["", " ", "a b", "a/b", "a:b", "ä", "k" * 201])
def test_a_key_has_plain_characters_only(api: ApiEnvironment, key: str) -> None:
    problem_of(api.host.post("/event-runs", api.run_body(), Idempotency_Key=key), 422, "invalid_request")


def _booking(run: dict, seats: int = 1) -> dict:
    return {"event_run_id": run["id"], "seats": seats}


def _sent(api: ApiEnvironment) -> int:
    return api.backend.engine.w3.eth.get_transaction_count(api.backend.sender.address)


# --------------------------------------------------------------------------------------------- keys that are still free


def _requests_to_correct(api: ApiEnvironment) -> list[tuple[str, ApiUser, str, str, Any, str, Any]]:
    """Returns refused requests with their correction: code, user, method, path and body; path and body."""
    run, other, nobody = api.open_run(), api.open_run(), str(uuid4())
    booking, to_cancel = api.book(run), api.book(run)
    create, book = api.run_body(), _booking(run)
    attended = {"event_run_id": run["id"], "attended_booking_ids": [booking["id"]]}
    path, cancel = f"/event-runs/{run['id']}", f"/bookings/{to_cancel['id']}/cancel"
    others = api.book(run, by=api.no_show)
    quote, to_book = "/bookings/calculate-cost", "/bookings/create"
    return [
        ("not_found", api.host, "POST", "/event-runs", create | {"experience_id": nobody}, "/event-runs", create),
        ("forbidden", api.host, "POST", "/event-runs", create | {"host_id": nobody}, "/event-runs", create),
        ("invalid_request", api.host, "POST", "/event-runs", create | {"max_seats": 0}, "/event-runs", create),
        ("not_found", api.attendee, "POST", to_book, book | {"event_run_id": nobody}, to_book, book),
        ("forbidden", api.attendee, "POST", to_book, book | {"user_id": nobody}, to_book, book),
        ("invalid_request", api.attendee, "POST", to_book, book | {"seats": 0}, to_book, book),
        ("not_found", api.attendee, "POST", f"/bookings/{nobody}/cancel", None, cancel, None),
        ("forbidden", api.attendee, "POST", f"/bookings/{others['id']}/cancel", None, cancel, None),
        ("not_found", api.attendee, "POST", quote, book | {"event_run_id": nobody}, quote, book),
        ("not_found", api.host, "DELETE", f"/event-runs/{nobody}", None, f"/event-runs/{other['id']}", None),
        ("not_found", api.host, "POST", "/bookings/confirm-attendance",
         attended | {"attended_booking_ids": [nobody]}, "/bookings/confirm-attendance", attended),
        ("invalid_request", api.host, "PATCH", f"{path}/status", {"status": "gone"}, f"{path}/status",
         {"status": "completed", "attended_booking_ids": []}),
    ]  # fmt: skip


@pytest.mark.slow
def test_a_refused_request_does_not_use_its_key_up(api: ApiEnvironment) -> None:
    """The corrected request has the same key; the refused one is a request like any other afterwards."""
    for number, (code, user, method, path, body, right_path, right_body) in enumerate(_requests_to_correct(api)):
        key = f"key-{number}"
        for _ in range(2):
            refused = user.request(method, path, body, Idempotency_Key=key)
            assert refused.json()["code"] == code, (path, refused.text)
        corrected = user.request(method, right_path, right_body, Idempotency_Key=key)
        bound = corrected.status_code in (200, 201) or corrected.json()["code"] == "contract_rejected"
        assert bound, (path, corrected.text)  # TooEarly, for the last two: the contract has the last word
        again = user.request(method, right_path, right_body, Idempotency_Key=key)
        assert (again.status_code, again.text) == (corrected.status_code, corrected.text)


@pytest.mark.slow
def test_a_run_that_is_not_on_chain_does_not_use_the_key_up(api: ApiEnvironment) -> None:
    run, other = api.open_run(), api.open_run()
    with api.backend.database.transaction() as connection:
        of_run = update(event_runs).where(event_runs.c.id == run["id"])
        connection.execute(of_run.values(blockchain_event_run_id=None))
    for user, method, path, body, right in (
        (api.attendee, "POST", "/bookings/create", _booking(run), ("/bookings/create", _booking(other))),
        (
            api.attendee,
            "POST",
            "/bookings/calculate-cost",
            _booking(run),
            ("/bookings/calculate-cost", _booking(other)),
        ),
        (api.host, "DELETE", f"/event-runs/{run['id']}", None, (f"/event-runs/{other['id']}", None)),
    ):
        key = path.rpartition("/")[2]
        problem_of(user.request(method, path, body, Idempotency_Key=key), 409, "not_on_chain")
        assert user.request(method, *right, Idempotency_Key=key).status_code in (200, 201)


@pytest.mark.slow
def test_an_unreachable_node_does_not_use_the_key_up(backend: BackendEnvironment) -> None:
    api = open_api(backend)
    run = api.open_run()
    policy = TransactionPolicy(give_up_after=0.01)
    api.client.app.state.services = services_for(backend, policy, unreachable_node())  # type: ignore[attr-defined]
    problem_of(api.attendee.post("/bookings/create", _booking(run, 2), Idempotency_Key="k"), 503, "chain_unavailable")
    api.client.app.state.services = api.services  # type: ignore[attr-defined]
    body_of(api.attendee.post("/bookings/create", _booking(run), Idempotency_Key="k"), 201)


def test_what_the_contract_refuses_is_an_operation_and_has_used_the_key_up(api: ApiEnvironment) -> None:
    run = api.open_run(seats=1)
    refused = api.attendee.post("/bookings/create", _booking(run, 2), Idempotency_Key="k")
    assert problem_of(refused, 409, "contract_rejected")["operation"] == f"{api.attendee.id}:k"
    problem_of(api.attendee.post("/bookings/create", _booking(run), Idempotency_Key="k"), 409, "key_reused")
    assert body_of(api.attendee.get("/operations/k"), 200)["state"] == "rejected"


def test_a_quote_that_the_contract_refuses_is_not_kept(api: ApiEnvironment) -> None:
    run, other = api.open_run(), api.open_run()
    with api.backend.database.transaction() as connection:
        of_run = update(event_runs).where(event_runs.c.id == run["id"])
        connection.execute(of_run.values(blockchain_event_run_id=99))
    path = "/bookings/calculate-cost"
    problem_of(api.attendee.post(path, _booking(run), Idempotency_Key="k"), 409, "contract_rejected")
    body_of(api.attendee.post(path, _booking(other), Idempotency_Key="k"), 200)


# ------------------------------------------------------------------------------------------------- keys that are bound


def _age(api: ApiEnvironment, age: timedelta) -> None:
    with api.backend.database.transaction() as connection:
        connection.execute(update(answers).values(created_at=func.clock_timestamp() - age))


@pytest.mark.slow
def test_a_key_without_an_operation_is_free_again_after_its_time(api: ApiEnvironment) -> None:
    """At once, also if the old response is not removed yet."""
    run, moment = api.open_run(), timedelta(minutes=1)
    path = "/bookings/calculate-cost"
    first = api.attendee.post(path, _booking(run), Idempotency_Key="k")
    api.backend.set_rate(300_000)
    _age(api, KEEP_ANSWERS - moment)
    assert api.attendee.post(path, _booking(run), Idempotency_Key="k").text == first.text
    problem_of(api.attendee.post(path, _booking(run, 2), Idempotency_Key="k"), 409, "key_reused")
    problem_of(api.attendee.post("/bookings/create", _booking(run), Idempotency_Key="k"), 409, "key_reused")
    _age(api, KEEP_ANSWERS + moment)
    other = body_of(api.attendee.post(path, _booking(run, 2), Idempotency_Key="k"), 200)
    assert body_of(api.attendee.post(path, _booking(run, 2), Idempotency_Key="k"), 200) == other
    problem_of(api.attendee.post(path, _booking(run), Idempotency_Key="k"), 409, "key_reused")
    _age(api, KEEP_ANSWERS + moment)
    body_of(api.attendee.post("/bookings/create", _booking(run), Idempotency_Key="k"), 201)


@pytest.mark.slow
def test_a_key_that_made_a_transaction_stays_bound_for_ever(api: ApiEnvironment) -> None:
    run = api.open_run()
    first = body_of(api.attendee.post("/bookings/create", _booking(run), Idempotency_Key="k"), 201)
    sent = _sent(api)
    _age(api, timedelta(days=3650))
    for _ in range(2):
        assert body_of(api.attendee.post("/bookings/create", _booking(run), Idempotency_Key="k"), 201) == first
    _age(api, timedelta(days=3650))
    problem_of(api.attendee.post("/bookings/create", _booking(run, 2), Idempotency_Key="k"), 409, "key_reused")
    problem_of(api.attendee.post("/bookings/calculate-cost", _booking(run), Idempotency_Key="k"), 409, "key_reused")
    assert (_sent(api), len(api.services.bookings.list_all())) == (sent, 1)


def test_a_response_that_can_not_be_kept_is_sent(api: ApiEnvironment, monkeypatch: pytest.MonkeyPatch) -> None:
    run = api.open_run()
    lent, lends = 0, api.services.database.autocommit

    def breaks_at_last() -> Any:
        nonlocal lent
        lent += 1
        if lent > 2:
            raise DatabaseBusy("The database is busy.")
        return lends()

    monkeypatch.setattr(type(api.services.database), "autocommit", lambda self: breaks_at_last())
    body_of(api.attendee.post("/bookings/calculate-cost", _booking(run), Idempotency_Key="k"), 200)


# ----------------------------------------------------------------------------------- two requests with one key at once


Send = Callable[[ApiEnvironment, dict, dict], Response]
"""Sends a request with the key `k`, on two runs with a booking each."""

LATER = "2101-01-01T00:00:00Z"
PAIRS: dict[str, tuple[Send, Send]] = {
    "create runs": (
        lambda api, a, b: api.host.post("/event-runs", api.run_body(2, starts_at=LATER), Idempotency_Key="k"),
        lambda api, a, b: api.host.post("/event-runs", api.run_body(3, starts_at=LATER), Idempotency_Key="k"),
    ),
    "book": (
        lambda api, a, b: api.attendee.post("/bookings/create", _booking(a), Idempotency_Key="k"),
        lambda api, a, b: api.attendee.post("/bookings/create", _booking(a, 2), Idempotency_Key="k"),
    ),
    "cancel bookings": (
        lambda api, a, b: api.attendee.post(f"/bookings/{a['booking']}/cancel", Idempotency_Key="k"),
        lambda api, a, b: api.attendee.post(f"/bookings/{b['booking']}/cancel", Idempotency_Key="k"),
    ),
    "cancel runs": (
        lambda api, a, b: api.host.patch(f"/event-runs/{a['id']}/status", {"status": "cancelled"}, Idempotency_Key="k"),
        lambda api, a, b: api.host.patch(f"/event-runs/{b['id']}/status", {"status": "cancelled"}, Idempotency_Key="k"),
    ),
    "delete and cancel": (
        lambda api, a, b: api.host.delete(f"/event-runs/{a['id']}", Idempotency_Key="k"),
        lambda api, a, b: api.host.patch(f"/event-runs/{b['id']}/status", {"status": "cancelled"}, Idempotency_Key="k"),
    ),
    "create and delete": (
        lambda api, a, b: api.host.post("/event-runs", api.run_body(2, starts_at=LATER), Idempotency_Key="k"),
        lambda api, a, b: api.host.delete(f"/event-runs/{b['id']}", Idempotency_Key="k"),
    ),
    "confirm attendance": (
        lambda api, a, b: api.host.post("/bookings/confirm-attendance", _attendance(a), Idempotency_Key="k"),
        lambda api, a, b: api.host.post("/bookings/confirm-attendance", _attendance(b), Idempotency_Key="k"),
    ),
    "quotes": (
        lambda api, a, b: api.attendee.post("/bookings/calculate-cost", _booking(a), Idempotency_Key="k"),
        lambda api, a, b: api.attendee.post("/bookings/calculate-cost", _booking(a, 2), Idempotency_Key="k"),
    ),
    "quote and book": (
        lambda api, a, b: api.attendee.post("/bookings/calculate-cost", _booking(a), Idempotency_Key="k"),
        lambda api, a, b: api.attendee.post("/bookings/create", _booking(a), Idempotency_Key="k"),
    ),
}


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.slow
def test_of_two_simultaneous_requests_with_one_key_one_has_an_effect(
    racing_api: ApiEnvironment, pair: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both find the key free. The other one is refused; only a quote, which has no effect, may have the key as well."""
    api = racing_api
    runs = [api.open_run(), api.open_run()]
    for run in runs:
        run["booking"] = api.book(run)["id"]
    sent, found, finds = _sent(api), threading.Barrier(2), IdempotentRequest._find

    def find_together(self: IdempotentRequest) -> Any:
        result = finds(self)
        found.wait(30)
        return result

    with monkeypatch.context() as patched, ThreadPoolExecutor(2) as threads:
        patched.setattr(IdempotentRequest, "_find", find_together)
        responses = list(threads.map(lambda send: send(api, *runs), PAIRS[pair]))
    refused = [response for response in responses if response.status_code == 409]
    if pair == "quote and book":
        assert [response.status_code for response in responses] == [200, 201]
    elif pair == "confirm attendance":  # of runs that have not begun: one is an operation that the contract refuses
        assert {response.json()["code"] for response in responses} == {"key_reused", "contract_rejected"}
    else:
        [refusal] = refused
        problem_of(refusal, 409, "key_reused")
    assert _sent(api) - sent == (0 if pair in ("quotes", "confirm attendance") else 1)
    for send, first in zip(PAIRS[pair], responses, strict=True):
        again = send(api, *runs)
        assert (again.status_code, again.text) == (first.status_code, first.text) or pair == "quote and book"
        assert again.status_code in (first.status_code, 409)
    assert _sent(api) - sent == (0 if pair in ("quotes", "confirm attendance") else 1)
    if pair == "quote and book":
        assert PAIRS[pair][1](api, *runs).text == responses[1].text


def _attendance(run: dict) -> dict:
    return {"event_run_id": run["id"], "attended_booking_ids": [run["booking"]]}
