"""The clients in `examples/clients` against the running service: each intention has one effect, whatever goes wrong."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from client_environment import DAY_S, BuiltClient, ClientProcess, Refused, Service, Testnet, Undecided
from pydantic import SecretStr
from stakesim.faults.tcp_proxy import TcpProxy, WireFault
from stakesim_adapter.razorpay_stand_in import RazorpayStandIn, delivering, serve_stand_in

pytestmark = [pytest.mark.slow, pytest.mark.sampled]
PRICE_INR = "20000.05"
START_S = 15
"""Seconds from the creation of a run to its start, if it is to be completed."""
LOSSES = (WireFault.CUT, WireFault.RESET, WireFault.BLACK_HOLE, WireFault.REFUSE)


@dataclasses.dataclass
class Parties:
    """A host with an experience and an attendee, and the clients that they use."""

    testnet: Testnet
    client: BuiltClient
    host_id: UUID
    attendee_id: UUID

    @contextmanager
    def host(self, **options: Any) -> Iterator[ClientProcess]:
        with self._connected(self.host_id, "host", options) as process:
            yield process

    @contextmanager
    def attendee(self, **options: Any) -> Iterator[ClientProcess]:
        with self._connected(self.attendee_id, "attendee", options) as process:
            yield process

    @contextmanager
    def _connected(self, user: UUID, role: str, options: dict[str, Any]) -> Iterator[ClientProcess]:
        defaults = {"url": self.testnet.service.url, "tokens": [self.testnet.token(user, role)], "patience": 60}
        with self.client.connected(**defaults | options) as process:
            yield process

    def run_body(self, seats: int = 4, starts_in: int = 3 * DAY_S) -> dict[str, Any]:
        starts_at = datetime.fromtimestamp(self.testnet.now() + starts_in, UTC).isoformat()
        experience = str(self.testnet.add_experience(self.host_id))
        return {"experience_id": experience, "starts_at": starts_at, "max_seats": seats, "price_inr": PRICE_INR}

    def open_run(self, seats: int = 4) -> dict[str, Any]:
        with self.host() as host:
            run: dict[str, Any] = host("create", key="open", body=self.run_body(seats))
        return run


@pytest.fixture
def parties(testnet: Testnet, client: BuiltClient) -> Parties:
    return Parties(testnet, client, testnet.add_user("host"), testnet.add_user("attendee"))


@contextmanager
def having(testnet: Testnet, effects: int) -> Iterator[None]:
    """Checks that the platform's account sends exactly this many transactions meanwhile."""
    before = testnet.transactions()
    yield
    assert testnet.transactions() - before == effects


# ------------------------------------------------------------------------------------------------------ the way of use


@pytest.mark.in_turn
def test_a_run_from_its_creation_to_its_end(parties: Parties) -> None:
    testnet = parties.testnet
    with having(testnet, 5), parties.host() as host, parties.attendee() as attendee:
        run = host("create", key="run", body=parties.run_body(starts_in=START_S))
        assert (run["status"], run["blockchain_status"]) == ("active", "confirmed")
        assert Decimal(run["price_inr"]) == Decimal(PRICE_INR)
        of_run = {"event_run_id": run["id"], "seats": 1}
        quote = attendee("quote", key="quote", body=of_run)
        payment, stake, total = (int(quote[name]) for name in ("payment_wei", "stake_wei", "total_wei"))
        assert payment == int(run["blockchain_price_per_seat_wei"])
        assert payment + stake == total > 2**53  # more digits than a float has
        bookings = [attendee("book", key=f"book-{n}", body=of_run) for n in range(3)]
        assert {int(each["blockchain_payment_wei"]) for each in bookings} == {payment}

        listed = attendee("bookings", body={"limit": 2})  # two pages
        assert [each["id"] for each in listed] == [each["id"] for each in reversed(bookings)]

        _wait_until(lambda: testnet.now() >= datetime.fromisoformat(run["starts_at"]).timestamp())
        attended = {"status": "completed", "attended_booking_ids": [bookings[1]["id"]]}
        completed = host("complete", key="complete", on=run["id"], body=attended)
        assert completed["event_run"]["status"] == "completed"
        assert int(completed["settlement"]["host_payout_wei"]) > 0

        read = host("read", on=run["id"])
        assert (read["differences"], read["chain"]["status"], read["chain"]["seats_booked"]) == ([], "completed", 3)
        listed = attendee("bookings", body={"limit": 1})
        assert [each["status"] for each in listed] == ["no_show", "completed", "no_show"]
    assert testnet.effects(parties.host_id) == (1, 0, 2)
    assert testnet.effects(parties.attendee_id) == (0, 3, 3)


def test_a_booking_waits_for_its_payment(parties: Parties, tmp_path: Path) -> None:
    """The client asks with one key until the payment is captured; the platform's wei follow the INR."""
    run, stand_in = parties.open_run(), RazorpayStandIn()
    secrets = {"key_secret": SecretStr(stand_in.key_secret), "webhook_secret": SecretStr(stand_in.webhook_secret)}
    changes = {f"razorpay_{name}": secret for name, secret in secrets.items()} | {"razorpay_key_id": stand_in.key_id}
    with serve_stand_in(stand_in) as url:
        changes |= {"payments": "razorpay", "razorpay_url": url}  # type: ignore[dict-item]
        service = Service(parties.testnet.settings.model_copy(update=changes), tmp_path)
        service.start()
        try:
            with (
                parties.attendee(url=service.url) as attendee,
                delivering(stand_in, f"{service.url}/webhooks/razorpay"),
            ):
                of_run = {"event_run_id": run["id"], "seats": 2}
                with pytest.raises(Refused) as refused:
                    attendee("book", key="unpaid", body=of_run)
                assert refused.value.problem["code"] == "payment_required"
                quote = attendee("quote", key="quote", body=of_run)
                order = attendee("order", on=quote["quote_id"], key="order")
                assert Decimal(order["amount_inr"]) == Decimal(quote["total_inr"])
                with having(parties.testnet, 1):
                    attendee.begin("book", key="paid", body=of_run | {"quote_id": quote["quote_id"]})
                    assert httpx.post(f"{url}/pay/{order['order_id']}").status_code == 200
                    booking = attendee.result()
                assert booking["blockchain_status"] == "confirmed"
        finally:
            service.kill()
    assert parties.testnet.effects(parties.attendee_id) == (0, 1, 1)


def test_a_repeated_request_has_one_effect_and_one_answer(parties: Parties) -> None:
    run = parties.open_run()
    body = {"event_run_id": run["id"], "seats": 2}
    with having(parties.testnet, 1), parties.attendee() as attendee, parties.attendee() as again:
        attendee.begin("book", key="k", body=body)
        again.begin("book", key="k", body=body)
        booking = attendee.result()
        assert again.result() == booking
        assert attendee("book", key="k", body=body) == booking
        with pytest.raises(Refused) as refused:
            attendee("book", key="k", body=body | {"seats": 1})
    assert (refused.value.problem["code"], refused.value.action) == ("key_reused", "new_key")
    assert parties.testnet.effects(parties.attendee_id) == (0, 1, 1)


@pytest.mark.in_turn
def test_a_refusal_says_what_to_do(parties: Parties) -> None:
    """What the contract refuses takes a new key; what the service refuses does not."""
    run = parties.open_run(seats=2)
    book = {"event_run_id": run["id"], "seats": 3}
    with having(parties.testnet, 2), parties.attendee() as attendee:
        for _ in range(2):
            with pytest.raises(Refused) as refused:
                attendee("book", key="too-many", body=book)
            assert (refused.value.action, refused.value.problem["error"]) == ("new_key", "NotEnoughSeats")
            assert refused.value.problem["arguments"] == ["3", "2"]
        attendee("book", key="fewer", body=book | {"seats": 1})

        unknown = {"event_run_id": str(UUID(int=1)), "seats": 1}
        with pytest.raises(Refused) as refused:
            attendee("book", key="corrected", body=unknown)
        assert (refused.value.action, refused.value.problem["code"]) == ("change", "not_found")
        attendee("book", key="corrected", body=book | {"seats": 1})

        with pytest.raises(Refused) as refused:
            attendee("create", key="not-theirs", body=parties.run_body())
        assert (refused.value.action, refused.value.problem["code"]) == ("change", "forbidden")


@pytest.mark.in_turn
def test_a_client_that_does_not_wait_polls_the_operation(parties: Parties) -> None:
    run = parties.open_run(seats=1)
    with having(parties.testnet, 1), parties.attendee(waits=False) as attendee:
        book = {"event_run_id": run["id"], "seats": 1}
        assert attendee("book", key="book", body=book)["blockchain_status"] == "confirmed"
        with pytest.raises(Refused) as refused:
            attendee("book", key="late", body=book)
        assert refused.value.problem["code"] == "contract_rejected"


def test_a_token_that_is_not_accepted_is_renewed_once(parties: Parties) -> None:
    expired = parties.testnet.token(parties.host_id, "host", timedelta(hours=-1))
    valid = parties.testnet.token(parties.host_id, "host")
    body = parties.run_body()
    with parties.host(tokens=[expired]) as host, pytest.raises(Refused) as refused:
        host("create", key="run", body=body)
    assert refused.value.problem["code"] == "unauthenticated"
    with having(parties.testnet, 1), parties.host(tokens=[expired, valid, expired]) as host:
        run = host("create", key="run", body=body)
        assert host("read", on=run["id"])["database"]["id"] == run["id"]  # with the token that was accepted


# ------------------------------------------------------------------------------------------------------ what goes wrong


def test_a_crash_of_the_service_in_the_middle(parties: Parties) -> None:
    """The service is killed while the client waits for the block, and starts again later."""
    run = parties.open_run()
    book = {"event_run_id": run["id"], "seats": 2}
    testnet = parties.testnet
    with having(testnet, 1), parties.attendee() as attendee:
        attendee.begin("book", key="book", body=book)
        _wait_until(lambda: testnet.effects(parties.attendee_id)[2] == 1)
        testnet.service.kill()
        testnet.service.start()
        assert attendee.result()["blockchain_status"] == "confirmed"
    assert testnet.effects(parties.attendee_id) == (0, 1, 1)
    with parties.host() as host:
        assert host("read", on=run["id"])["chain"]["seats_booked"] == 2


@pytest.mark.parametrize("fault", LOSSES, ids=lambda fault: fault.name)
def test_answers_that_are_lost_on_the_wire(parties: Parties, fault: WireFault) -> None:
    """The first request of each kind gets no answer, or half of one."""
    run = parties.open_run()
    book = {"event_run_id": run["id"], "seats": 1}
    faults = [fault]
    proxy = TcpProxy(("127.0.0.1", parties.testnet.service.port), lambda: faults.pop() if faults else None)
    try:
        url = f"http://127.0.0.1:{proxy.port}"
        with having(parties.testnet, 2), parties.attendee(url=url, timeout=5) as attendee:
            booking = attendee("book", key="book", body=book)
            proxy.cut_all()  # so that the next request has a new connection: one that was opened before has no fault
            faults.append(fault)
            cancelled = attendee("cancel", key="cancel", on=booking["id"])
    finally:
        proxy.close()
    assert (cancelled["booking"]["status"], proxy.counts[fault.value]) == ("cancelled", 2)
    assert parties.testnet.effects(parties.attendee_id) == (0, 1, 2)


def test_patience_that_ends_leaves_the_key_good(parties: Parties) -> None:
    """Nothing answers for longer than the client is patient. The same key later has the one effect."""
    run = parties.open_run()
    book = {"event_run_id": run["id"], "seats": 1}
    faults = [WireFault.CUT] * 100
    proxy = TcpProxy(("127.0.0.1", parties.testnet.service.port), lambda: faults.pop() if faults else None)
    try:
        url = f"http://127.0.0.1:{proxy.port}"
        with having(parties.testnet, 1), parties.attendee(url=url, patience=4) as attendee:
            with pytest.raises(Undecided):
                attendee("book", key="book", body=book)
            faults.clear()
            assert attendee("book", key="book", body=book)["blockchain_status"] == "confirmed"
    finally:
        proxy.close()
    assert parties.testnet.effects(parties.attendee_id) == (0, 1, 1)


def _wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    pytest.fail("it did not become true")
