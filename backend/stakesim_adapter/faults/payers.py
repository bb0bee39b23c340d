"""How clients pay during an episode, and how the gateway's webhooks come: late, twice, and in any order."""

from __future__ import annotations

import json
from collections.abc import Callable
from uuid import UUID

import numpy as np
from app.bootstrap.services import Services
from app.core.errors import AppError, DatabaseUnavailable
from app.services.payments.types import Payment
from stakesim.scenario.base_action import PaymentBehaviour

from stakesim_adapter.payments import charge_back, pay_order
from stakesim_adapter.razorpay_stand_in import RazorpayStandIn, Webhook


class Payers:
    """What clients have paid at the gateway, and the webhooks that have not come yet.

    Args:
        stand_in: The gateway.

    Attributes:
        quotes: The quote that a client pays for a request, by the request's key.
        webhooks: Webhooks that come later, each at least twice.
    """

    def __init__(self, stand_in: RazorpayStandIn) -> None:
        self.quotes: dict[str, UUID] = {}
        self.webhooks: list[Webhook] = []
        self._stand_in = stand_in
        self._disputed: set[str] = set()  # payments of which there were news of a dispute

    def pay(
        self, services: Services, key: str, how: PaymentBehaviour, get_quote: Callable[[], Payment | None]
    ) -> UUID | None:
        """Returns the quote of a request, which is paid once, at the first call.

        Args:
            services: Who is asked for the quote.
            key: Key of the request.
            how: How it is paid.
            get_quote: Asks for a quote.

        Raises:
            AppError: The services give no quote, or no order.
        """
        if services.payments is None:
            return None
        if key not in self.quotes:
            payment = get_quote()
            assert payment is not None
            order_id = services.payments.order(payment).order_id
            self.quotes[key] = payment.id
            already = len(self._stand_in.payments)
            webhooks = pay_order(self._stand_in, order_id, how)
            if how == "charged_back":
                paid = [*self._stand_in.payments][already:]
                self.webhooks += 2 * charge_back(self._stand_in, paid)
            if how != "webhook_late":
                self._deliver(services, webhooks[:1])
            self.webhooks += 2 * webhooks
        return self.quotes[key]

    def deliver(self, services: Services, order: int | None = None) -> None:
        """The waiting webhooks come, in the order of a seed; as they were sent if None."""
        waiting, self.webhooks = self.webhooks, []
        if order is not None:
            waiting = [waiting[index] for index in np.random.default_rng(order).permutation(len(waiting))]
        self._deliver(services, waiting)

    def _note_dispute(self, webhook: Webhook) -> None:
        """Notes whether a payment was given back before the first news of a dispute of it."""
        dispute = json.loads(webhook.body)["payload"].get("dispute")
        if dispute is None or (payment_id := dispute["entity"]["payment_id"]) in self._disputed:
            return
        self._disputed.add(payment_id)
        if any(refund["payment_id"] == payment_id for refund in self._stand_in.refunds.values()):
            self._stand_in.refunded_before_news.add(payment_id)

    def _deliver(self, services: Services, webhooks: list[Webhook]) -> None:
        """Delivers webhooks as the API does; what fails for the database is sent again later."""
        if services.payments is None:
            return
        for webhook in webhooks:
            headers = {name.lower(): value for name, value in webhook.headers.items()}
            self._note_dispute(webhook)
            try:
                services.payments.receive_webhook(webhook.body, headers)
            except DatabaseUnavailable:
                self.webhooks.append(webhook)
            except AppError:
                continue
