"""Walks through the alerts about refunds and disputes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from stakesim_adapter.razorpay_stand_in import RazorpayStandIn, serve_stand_in
from stand_in import StandIn, wait_for
from walking import Reader
from walks import walk


@contextmanager
def at_razorpay(s: StandIn) -> Iterator[RazorpayStandIn]:
    """The service takes payments at a stand-in for the gateway."""
    gateway = RazorpayStandIn(number=1_000 * s.block_number())  # no id of another walk comes again
    with serve_stand_in(gateway) as url:
        s.set(
            PAYMENTS="razorpay",
            RAZORPAY_URL=url,
            RAZORPAY_KEY_ID=gateway.key_id,
            RAZORPAY_KEY_SECRET=gateway.key_secret,
            RAZORPAY_WEBHOOK_SECRET=gateway.webhook_secret,
        )
        s.control("restart")
        yield gateway


def quoted_run(s: StandIn) -> dict[str, Any]:
    """Returns the body of a request for a run, with the quote that the host has to pay."""
    starts_at = datetime.fromtimestamp(s.now(), UTC) + timedelta(days=3)
    body = {"experience_id": str(s.ids["experience"]), "starts_at": starts_at.isoformat()}
    body |= {"max_seats": 4, "price_inr": "20000"}  # type: ignore[dict-item]
    quote = s.ask("POST", "/event-runs/calculate-stake", "host", body).json()
    return body | {"quote_id": quote["quote_id"]}


def pay(s: StandIn, gateway: RazorpayStandIn, payment: str) -> str:
    """Pays a quote. Returns the gateway's id of the payment."""
    order = s.ask("POST", f"/payments/{payment}/order", "host").json()["order_id"]
    paid = gateway.pay(order)
    assert set(gateway.deliver(f"{s.api}/webhooks/razorpay", gateway.webhooks[-2:])) == {204}
    return str(paid["id"])


def not_used_in_time(s: StandIn, payment: str) -> None:
    """A refund comes due, and stays so for hours: the times are set in the rows."""
    times = "expires_at = now() - interval '4 hours', usable_until = now() - interval '3 hours'"
    s.query(f"UPDATE payments SET {times}, paid_at = now() - interval '5 hours' WHERE id = '{payment}'")
    due = f"UPDATE refunds SET created_at = now() - interval '3 hours' WHERE payment_id = '{payment}' AND tries > 0 "
    wait_for(lambda: s.query(due + "RETURNING id"), "the refund is due")


@walk("RefundsDue")
def refunds_are_made_by_hand(s: StandIn) -> Iterator[Reader]:
    s.set(PAYMENTS="manual")
    s.control("restart")
    payment = quoted_run(s)["quote_id"]
    arrived = f'stakesim payments capture {payment} --reference UTR100 --amount 16000 --env-file "$ENV_FILE"'
    assert "is captured" in s.run(arrived, {}, must_succeed=True)
    not_used_in_time(s, payment)
    yield Reader(decides={"REFERENCE": "UTR200"}, leaves_out=("If the gateway does not answer", "If it answers again"))
    assert s.query(f"SELECT state FROM payments WHERE id = '{payment}'") == [("refunded",)]


@walk("RefundsDue")
def gateway_is_down(s: StandIn) -> Iterator[Reader]:
    with at_razorpay(s) as gateway:
        payment = quoted_run(s)["quote_id"]
        pay(s, gateway, payment)
        gateway.fails = 10**9
        not_used_in_time(s, payment)
        yield Reader(
            by_hand={"If the gateway does not answer": lambda: setattr(gateway, "fails", 0)},
            leaves_out=("If payments are taken by hand",),
        )
        assert sum(refund["amount"] for refund in gateway.refunds.values()) == 16_000_00


def disputed_run(s: StandIn, gateway: RazorpayStandIn) -> tuple[str, str, str]:
    """The host disputes the payment of their run's stake. Returns ids of run, payment and dispute."""
    body = quoted_run(s)
    payment = pay(s, gateway, body["quote_id"])
    run = s.ask("POST", "/event-runs", "host", body).json()["id"]
    return run, payment, decide(s, gateway, payment, "created")


def decide(s: StandIn, gateway: RazorpayStandIn, payment: str, outcome: str, dispute: str | None = None) -> str:
    dispute = gateway.dispute(payment, outcome, dispute)
    assert gateway.deliver(f"{s.api}/webhooks/razorpay", gateway.webhooks[-1:]) == [204]
    return dispute


@walk("PaymentDisputed")
def host_disputes_a_payment(s: StandIn) -> Iterator[Reader]:
    with at_razorpay(s) as gateway:
        _, payment, dispute = disputed_run(s, gateway)
        yield Reader(
            by_hand={"If it is open": lambda: decide(s, gateway, payment, "won", dispute)},
            leaves_out=("If many are disputed", "If it is lost"),
        )


@walk("PaymentDisputed")
def payment_is_charged_back(s: StandIn) -> Iterator[Reader]:
    with at_razorpay(s) as gateway:
        run, payment, dispute = disputed_run(s, gateway)
        decide(s, gateway, payment, "lost", dispute)

        def cancel() -> None:
            cancelled = s.ask("DELETE", f"/event-runs/{run}", "platform")
            assert cancelled.status_code == 200, cancelled.text

        yield Reader(by_hand={"If it is lost": cancel}, leaves_out=("If many are disputed", "If it is open"))
        of_lost = "SELECT count(*) FROM refunds JOIN payments p ON p.id = payment_id WHERE dispute = 'lost'"
        assert s.query(of_lost) == [(0,)]
