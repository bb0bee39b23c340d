"""How the people of a scenario pay in INR: at a stand-in for the gateway in this process."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from app.core.errors import AppError, GatewayRefused
from app.db.database import Database
from app.db.tables import payments
from app.services.payments.razorpay import RazorpayGateway
from app.services.payments.service import PaymentService
from app.services.payments.store import BATCH, NOW, in_state
from app.services.payments.types import PaymentPolicy
from pydantic import SecretStr
from sqlalchemy import func, update
from stakesim.backend import PaymentRow
from stakesim.scenario.base_action import PaymentBehaviour

from stakesim_adapter.razorpay_stand_in import Entity, RazorpayStandIn, Webhook

AT_ONCE = PaymentPolicy(ask_every=timedelta(0), look_every=timedelta(0))
"""A policy with which each round asks again: nobody waits in a scenario."""
TOO_LATE_S = 3600
"""Seconds by which somebody who pays late is too late."""

_p = payments.c
_END_OF_TIME = (
    update(payments)
    .where(in_state("created", "failed", "captured"))
    .values(expires_at=func.least(_p.expires_at, NOW), usable_until=func.least(_p.usable_until, NOW))
)
_PURPOSES = {"event_run": "run"}


class InProcessGateway(RazorpayGateway):
    """The backend's gateway, which asks the stand-in without HTTP.

    Args:
        stand_in: The stand-in.
    """

    def __init__(self, stand_in: RazorpayStandIn) -> None:
        super().__init__(stand_in.key_id, SecretStr(stand_in.key_secret), SecretStr(stand_in.webhook_secret))
        ask = stand_in.ask
        self._client = SimpleNamespace(
            order=SimpleNamespace(
                create=lambda data: ask("POST", "/v1/orders", data),
                payments=lambda order_id: ask("GET", f"/v1/orders/{order_id}/payments"),
                all=lambda data: ask("GET", "/v1/orders"),
            ),
            payment=SimpleNamespace(
                refund=lambda payment_id, data, headers: ask(
                    "POST",
                    f"/v1/payments/{payment_id}/refund",
                    data,
                    {name.lower(): value for name, value in headers.items()},
                ),
                fetch_multiple_refund=lambda payment_id, data: ask("GET", f"/v1/payments/{payment_id}/refunds"),
            ),
            refund=SimpleNamespace(fetch=lambda refund_id: ask("GET", f"/v1/refunds/{refund_id}")),
        )

    def _call(self, request: Any) -> dict[str, Any]:
        answer: dict[str, Any] = request(self._client)
        if "error" in answer:
            raise GatewayRefused(f"The payment gateway refuses it: {answer['error']['description']}")
        return answer


def pay_order(stand_in: RazorpayStandIn, order_id: str, how: PaymentBehaviour) -> list[Webhook]:
    """Pays an order at the stand-in. Returns the webhooks that come of it, or that somebody forges."""
    already = len(stand_in.webhooks)
    if how == "forged":
        return stand_in.forged(order_id)
    if how == "late":
        clock = stand_in.clock
        stand_in.clock = lambda: clock() + TOO_LATE_S
        stand_in.pay(order_id)
        stand_in.clock = clock
    elif how == "too_little":
        stand_in.pay(order_id, amount=stand_in.orders[order_id]["amount"] - 1)
    elif how == "other_currency":
        stand_in.pay(order_id, currency="USD")
    elif how != "never":
        stand_in.pay(order_id)
        if how == "twice":
            stand_in.pay(order_id)
    return stand_in.webhooks[already:]


def charge_back(stand_in: RazorpayStandIn, payment_ids: list[str]) -> list[Webhook]:
    """Has the bank take payments back. Returns the webhooks of that."""
    already = len(stand_in.webhooks)
    for payment_id in payment_ids:
        dispute_id = stand_in.dispute(payment_id)
        stand_in.dispute(payment_id, "lost", dispute_id)
    return stand_in.webhooks[already:]


def end_time_to_pay(database: Database) -> None:
    """Lets the time pass to pay quotes and to use payments, as nobody can move the database's clock."""
    with database.autocommit() as connection:
        connection.execute(_END_OF_TIME)


class ScenarioPayments:
    """How the people of one scenario pay, and what becomes of it.

    Args:
        database: The database.
        service: The payments, at an `InProcessGateway`.
        stand_in: Its stand-in.
        users: Names in the scenario, by ids in `users`.
        walletless: Names of those to whom the contract pays nothing itself.
        head: Returns the number of the latest block.

    Attributes:
        service: The payments.
        repeats: Whether webhooks come twice and in the wrong order; one of those that say the same if False.
    """

    def __init__(
        self,
        database: Database,
        service: PaymentService,
        stand_in: RazorpayStandIn,
        users: dict[UUID, str],
        walletless: Collection[str],
        head: Callable[[], int],
    ) -> None:
        self.service, self.repeats = service, False
        self._database, self._stand_in, self._users, self._head = database, stand_in, users, head
        self._walletless, self._may_get_back = walletless, False
        self._by_key: dict[str, UUID] = {}
        self._paid = 0
        self._withheld: list[Webhook] = []
        self._deliver: Callable[[Webhook], object] = self._receive

    def deliver_by(self, deliver: Callable[[Webhook], object]) -> None:
        """Lets webhooks come by another way than a call of the service, each twice and in the wrong order."""
        self._deliver, self.repeats = deliver, True

    # ---------------------------------------------------------------------------------------------------- what they do

    def known(self, key: str | None) -> UUID | None:
        """Returns the quote that a client with this idempotency key has paid before; None if there is none."""
        return None if key is None else self._by_key.get(key)

    def pay(self, quote_id: UUID, order_id: str, how: PaymentBehaviour, key: str | None) -> UUID:
        """Pays an order.

        Args:
            quote_id: Id of the quote.
            order_id: The gateway's id of its order.
            how: How it is paid.
            key: Idempotency key of the request that the quote is for.

        Returns:
            The quote's id.
        """
        self._paid += 1
        if key is not None:
            self._by_key[key] = quote_id
        webhooks = pay_order(self._stand_in, order_id, how)
        if how == "webhook_late":
            self._withheld = webhooks
        elif self.repeats or how != "in_time":
            self._deliver_all([*reversed(webhooks), *webhooks])
        else:
            self._deliver_all(webhooks[:1])
        return quote_id

    # ------------------------------------------------------------------------------------------------ what comes of it

    @contextmanager
    def request(self, by: str, how: PaymentBehaviour) -> Iterator[None]:
        """Within it somebody pays and sends the request that is paid for; after it, what is left over goes back."""
        self._may_get_back |= by in self._walletless
        already, is_plain = len(self._stand_in.payments), False
        try:
            yield
            is_plain = how == "in_time"
        finally:
            if not is_plain:
                self._deliver_all(self._withheld)
                self._withheld = []
                if how == "charged_back":
                    self._charge_back([*self._stand_in.payments][already:])
                self.settle()

    def _charge_back(self, payment_ids: list[str]) -> None:
        webhooks = charge_back(self._stand_in, payment_ids)
        self._deliver_all([*webhooks, *reversed(webhooks)])

    def after_payout(self) -> None:
        """Gives back what the contract may have returned to the custody address."""
        if self._may_get_back:
            self.settle()

    def settle(self) -> None:
        """Lets the time pass in which payments can be paid and used, and gives back what is owed by then."""
        already = len(self._stand_in.webhooks)
        end_time_to_pay(self._database)
        for _ in range(self._paid // BATCH + 1):
            self.service.run_round(self._head())
        if self.repeats:
            self._deliver_all([*reversed(self._stand_in.webhooks[already:])])

    def rows(self, stored: Iterable[Any]) -> list[PaymentRow]:
        """Returns all payments: their states as the database has them, their amounts as the gateway has moved them.

        Args:
            stored: The database's rows, with `user_id`, `purpose`, `onchain_id`, `status`, `dispute` and
                `gateway_payment_id`.
        """
        at_gateway = {key: each for key, each in self._stand_in.payments.items() if each["currency"] == "INR"}
        rows = []
        for row in stored:
            moved = at_gateway.pop(row.gateway_payment_id, {"amount": 0, "amount_refunded": 0})
            rows.append(
                PaymentRow(
                    self._users[row.user_id],
                    _PURPOSES.get(row.purpose, row.purpose),
                    row.onchain_id,
                    row.status,
                    *_amounts(moved),
                    disputed=row.dispute == "lost",
                )
            )
        # INR at the gateway that no row has
        return rows + [PaymentRow("", "unknown", None, "captured", *_amounts(each)) for each in at_gateway.values()]

    def _deliver_all(self, webhooks: list[Webhook]) -> None:
        for webhook in webhooks:
            self._deliver(webhook)

    def _receive(self, webhook: Webhook) -> None:
        headers = {name.lower(): value for name, value in webhook.headers.items()}
        with suppress(AppError):  # as the API does: it responds with the error, and nothing else happens
            self.service.receive_webhook(webhook.body, headers)


def _amounts(moved: Entity) -> tuple[Decimal, Decimal]:
    """Captured and refunded INR of a payment at the gateway."""
    return Decimal(moved["amount"]).scaleb(-2), Decimal(moved["amount_refunded"]).scaleb(-2)
