"""Payments: quotes, what the gateway says, and what the reconciler does about them in each round."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection

from app.core.errors import (
    AppError,
    GatewayUnavailable,
    InvalidRequest,
    NotFound,
    PaymentRequired,
    PaymentTooSmall,
    PaymentUnusable,
)
from app.db.database import Database
from app.services.operation_types import Draft, NewRow
from app.services.payments import refunds, seals, store
from app.services.payments.gateway import (
    CURRENCY,
    MIN_AMOUNT_INR,
    Capture,
    DisputeNews,
    Failure,
    ManualGateway,
    News,
    Order,
    PaymentGateway,
    RefundNews,
)
from app.services.payments.seals import Sealer
from app.services.payments.types import Amounts, Payment, PaymentPolicy, Refund, Seal

LIMIT_INR = Decimal(10) ** 18
"""Amounts below are stored exactly."""
MAX_UNANSWERED = 3
"""Overdue payments of which the gateway says nothing, after which a round asks it no more."""
_IS_ASKED = "The gateway is being asked for the refund: look at it again in a minute."

log = logging.getLogger(__name__)


class PaymentService:
    """Payments at one gateway.

    Args:
        database: The database.
        gateway: The gateway.
        sealer: Seals quotes and captures.
        policy: How long quotes and payments are good for.
    """

    def __init__(
        self, database: Database, gateway: PaymentGateway, sealer: Sealer, policy: PaymentPolicy | None = None
    ) -> None:
        self._database, self._sealer = database, sealer
        self.gateway = gateway
        self.policy = policy or PaymentPolicy()
        self._unanswered: set[UUID] = set()  # payments of which the gateway said nothing when they were overdue

    # ---------------------------------------------------------------------------------------------- quotes and orders

    def quote(self, user_id: UUID, purpose: str, quoted: dict[str, Any], amounts: Amounts) -> Payment:
        """Stores a quote, to be paid by this user until it expires.

        Args:
            user_id: Who pays, and for whom the operation will be.
            purpose: `booking` or `event_run`.
            quoted: The arguments of the request, as JSON.
            amounts: What the quote freezes.

        Raises:
            PaymentTooSmall: The amount is less than a gateway takes.
            InvalidRequest: It is more than can be stored.
            NotFound: There is no such user.
        """
        if amounts.amount_inr < MIN_AMOUNT_INR:
            message = f"{amounts.amount_inr} INR can't be paid: the gateway takes {MIN_AMOUNT_INR} or more."
            raise PaymentTooSmall(message)
        if amounts.amount_inr >= LIMIT_INR:
            raise InvalidRequest(f"{amounts.amount_inr} INR can't be paid: that is too much.")
        payment_id = uuid4()
        seal = seals.seal_quote(payment_id, user_id, purpose, quoted, amounts, self._sealer)
        values: dict[str, Any] = {"id": payment_id, "purpose": purpose, "quoted": quoted, "seal": seal}
        values |= {"gateway": self.gateway.name, **amounts._asdict()}
        with self._database.autocommit() as connection:
            payment = store.insert_quote(connection, user_id, self.policy.quote_for, self.policy.use_within, values)
        if payment is None:
            raise NotFound(f"There is no user {user_id}.")
        return payment

    def get(self, payment_id: UUID) -> Payment:
        """Returns a payment. Raises `NotFound`."""
        with self._database.autocommit() as connection:
            payment = store.find(connection, payment_id)
        if payment is None:
            raise NotFound(f"There is no payment {payment_id}.")
        return payment

    def refund_of(self, payment_id: UUID) -> Refund | None:
        """Returns the refund of a payment; None if nothing is owed of it."""
        with self._database.autocommit() as connection:
            return refunds.find_of_payment(connection, payment_id)

    def order(self, payment: Payment) -> Order:
        """Returns the gateway's order with which a quote is paid; creates it if there is none yet.

        Args:
            payment: The quote's payment, as it was just read.

        Raises:
            PaymentUnusable: It is paid, or expired.
            GatewayUnavailable: The gateway does not answer.
            GatewayRefused: The gateway refuses the order.
        """
        if payment.state not in ("created", "failed") or payment.expires_at <= datetime.now(UTC):
            raise PaymentUnusable(f"The payment {payment.id} can't be paid any more: it is {payment.state}.")
        if payment.gateway_order_id is None:
            order = self.gateway.create_order(payment.id, payment.amount_inr)
            with self._database.autocommit() as connection:
                if store.set_order(connection, payment.id, order.order_id):
                    return order
            payment = self.get(payment.id)  # another request was quicker; nobody has seen this order
        if payment.gateway_order_id is None:
            raise PaymentUnusable(f"The payment {payment.id} can't be paid any more: it is {payment.state}.")
        return Order(payment.gateway_order_id, getattr(self.gateway, "key_id", None))

    def payment_for(
        self, payment_id: UUID | None, user_id: UUID, purpose: str, quoted: dict[str, Any]
    ) -> Payment | None:
        """Returns the captured payment of a request; None if the request names none, so that it may send no wei.

        Raises:
            NotFound: There is no such payment.
            NotPaid: It is not captured yet.
            PaymentUnusable: It can't be used any more, or is another person's or another request's.
        """
        if payment_id is None:
            return None
        payment = self.get(payment_id)
        if (payment.user_id, payment.purpose, payment.quoted) != (user_id, purpose, quoted):
            raise PaymentUnusable(f"The quote {payment_id} is for another request.")
        store.raise_unusable(payment)
        if not seals.is_sealed(payment, self._sealer):
            raise PaymentUnusable(f"The payment {payment_id} was not recorded by this service. It goes back.")
        return payment

    @staticmethod
    def require(payment: Payment | None, wei: int) -> None:
        """Raises `PaymentRequired` if wei are to be sent without a payment."""
        if payment is None and wei:
            raise PaymentRequired("Get a quote, pay it, and send its id as quote_id.")

    @staticmethod
    def paid_by(payment: Payment | None, draft: Draft, *, to_custody: bool) -> Draft:
        """Returns a draft that uses a payment when it is stored; the same draft if nobody pays.

        Args:
            payment: The payment; None if nobody pays.
            draft: The draft.
            to_custody: Whether the contract returns what it owes to the custody address.
        """
        if payment is None:
            return draft
        assert isinstance(draft.subject, NewRow)
        return draft._replace(subject=draft.subject._replace(use=store.use_of(payment.id, to_custody)))

    # -------------------------------------------------------------------------------------------- what the gateway says

    def receive_webhook(self, body: bytes, headers: Mapping[str, str]) -> None:
        """Stores what a webhook says; without effect if it is known, or says nothing that matters.

        Raises:
            ForgedWebhook: It is not signed with the gateway's secret.
            InvalidRequest: It is signed, and can't be understood.
        """
        news = self.gateway.read_webhook(body, headers)
        if news is not None:
            self.receive(news)

    def receive(self, news: News) -> None:
        """Stores news of the gateway. They may come twice, late, and in any order."""
        with self._database.autocommit() as connection:
            if isinstance(news, Capture):
                self._capture(connection, news)
            elif isinstance(news, Failure):
                store.fail(connection, self.gateway.name, news.order_id)
            elif isinstance(news, DisputeNews):
                self._dispute(connection, news)
            elif news.outcome == "done":
                refunds.done(connection, news.refund_id)
            elif news.outcome == "failed":
                refunds.could_not(connection, news.refund_id)

    def _capture(self, connection: Connection, news: Capture) -> None:
        if news.currency != CURRENCY or news.amount <= 0:
            log.error("order %s was paid with %s %s: look at the gateway", news.order_id, news.amount, news.currency)
            return
        result = self._store_capture(connection, news)
        if result == "unexpected":
            log.error("order %s got %s INR that it did not ask for: they go back", news.order_id, news.amount)
        elif result == "unknown":
            log.warning("order %s is not one of this service", news.order_id)

    def _store_capture(self, connection: Connection, news: Capture) -> store.CaptureResult:
        def make_seal(payment: Payment) -> Seal:
            return seals.resealed(payment, news.payment_id, self._sealer)

        return store.capture(connection, self.gateway.name, news, make_seal)

    def _dispute(self, connection: Connection, news: DisputeNews) -> None:
        state = store.dispute(connection, self.gateway.name, news)
        if state is not None and news.outcome != "won":
            log.error("payment %s, which is %s, is disputed: %s", news.payment_id, state, news.outcome)

    def record_capture(
        self, payment_id: UUID, reference: str, amount_inr: Decimal, paid_at: datetime | None = None
    ) -> Payment:
        """Stores that a person's payment arrived, as an operator has seen; for the manual gateway.

        Args:
            payment_id: Id of the payment.
            reference: The bank's reference. The same one again has no effect.
            amount_inr: What arrived, in INR.
            paid_at: When it was paid; now if None.

        Raises:
            NotFound: There is no such payment, or another gateway takes it.
            InvalidRequest: Another amount arrived, or the reference is another payment's.
        """
        payment = self._manual(payment_id)
        if amount_inr != payment.amount_inr:
            raise InvalidRequest(f"The payment {payment_id} is of {payment.amount_inr} INR, not of {amount_inr}.")
        if payment.gateway_payment_id not in (None, reference):
            raise InvalidRequest(f"The payment {payment_id} was recorded under another reference.")
        with self._database.autocommit() as connection:
            store.set_order(connection, payment_id, str(payment_id), is_late=True)
            news = Capture(str(payment_id), reference, amount_inr, CURRENCY, paid_at or datetime.now(UTC))
            self._store_capture(connection, news)
        recorded = self.get(payment_id)
        if recorded.gateway_payment_id != reference:
            raise InvalidRequest(f"The reference {reference} is another payment's.")
        log.warning("payment %s: somebody recorded its capture by hand, reference %s", payment_id, reference)
        return recorded

    def record_refund(self, payment_id: UUID, reference: str) -> Payment:
        """Stores that an operator has made the refund that is due; the gateway is asked for it no more.

        Raises:
            NotFound: There is no such payment, or no refund of it is due.
            InvalidRequest: It was made under another reference, or the gateway has it.
            GatewayUnavailable: The gateway does not say whether it has it.
        """
        payment, refund = self.get(payment_id), self.refund_of(payment_id)
        if refund is None:
            raise NotFound(f"No refund of payment {payment_id} is due.")
        if refund.state == "due":
            refund = self._require_not_at_gateway(payment, refund)
        with self._database.transaction() as connection:
            refunds.made_by_hand(connection, refund, reference)
            recorded = refunds.find_of_payment(connection, payment_id)
        if recorded is not None and recorded.state == "due":
            raise InvalidRequest(_IS_ASKED)
        if recorded is None or recorded.gateway_refund_id != reference:
            raise InvalidRequest(f"The refund of payment {payment_id} was made under another reference.")
        log.warning("payment %s: somebody recorded its refund by hand, reference %s", payment_id, reference)
        return self.get(payment_id)

    def _require_not_at_gateway(self, payment: Payment, refund: Refund) -> Refund:
        """Claims a refund, and raises `InvalidRequest` if the gateway has it, as after an answer that was lost.

        Returns:
            The refund as it is claimed.
        """
        assert payment.gateway_payment_id is not None
        quiet_for = timedelta(0) if payment.gateway == ManualGateway.name else self.policy.request_ends_after
        with self._database.autocommit() as connection:
            if not refunds.claim(connection, refund, self.policy.ask_at_most, quiet_for):
                raise InvalidRequest(_IS_ASKED)
        claimed = replace(refund, tries=refund.tries + 1)
        if payment.gateway != self.gateway.name:
            return claimed
        known = self.gateway.find_refund(payment.gateway_payment_id, refund.key)
        if known is not None:
            with self._database.autocommit() as connection:
                refunds.taken(connection, refund.id, known.refund_id)
            self.receive(known)
            raise InvalidRequest(f"The gateway has the refund of payment {payment.id}, as {known.refund_id}.")
        return claimed

    def hurry_refund(self, payment_id: UUID) -> None:
        """Has the next round ask the gateway about a refund. Raises `NotFound` if there is none to ask about."""
        self.get(payment_id)
        with self._database.autocommit() as connection:
            if not refunds.hurry(connection, payment_id):
                raise NotFound(f"No refund of payment {payment_id} is open.")

    def _manual(self, payment_id: UUID) -> Payment:
        payment = self.get(payment_id)
        if {payment.gateway, self.gateway.name} != {ManualGateway.name}:
            raise NotFound(f"The payment {payment_id} is not one that an operator records.")
        return payment

    # ------------------------------------------------------------------------------------------------------- the round

    def run_round(self, finalized_block: int) -> list[str]:
        """Lets payments expire, finds out what is owed, and asks the gateway for refunds.

        Args:
            finalized_block: Number of the latest block that cannot change.

        Returns:
            A sentence for each thing that the gateway did not do.
        """
        problems = [*self._expire()]
        with self._database.autocommit() as connection:
            refunds.owe_unused(connection)
            refunds.owe_used(connection, finalized_block, self.policy.look_every)
            asked = refunds.next_refunds(connection, self.gateway.name)
        for refund, gateway_payment_id in asked:
            problem = self._ask_for(refund, gateway_payment_id)
            if problem is not None:
                problems.append(f"refund of payment {refund.payment_id}: {problem}")
        return problems

    def _expire(self) -> list[str]:
        """Lets payments expire that were not captured in time, after the gateway was asked for captures once more.

        Where the gateway does not answer, whoever waits for it waits longer; nobody is told that nothing came. Payments
        of which it said nothing last time are asked for last, so that one strange answer keeps nobody else waiting.
        """
        with self._database.autocommit() as connection:
            overdue = store.overdue(connection, self.gateway.name)
        problems: list[str] = []
        last_time, self._unanswered = self._unanswered, set()
        for payment_id, order_id in sorted(overdue, key=lambda each: each[0] in last_time):
            if len(self._unanswered) == MAX_UNANSWERED:
                self._unanswered |= last_time
                break
            try:
                for capture in [] if order_id is None else self.gateway.captures(order_id):
                    self.receive(capture)
            except GatewayUnavailable as error:
                self._unanswered.add(payment_id)
                problems.append(f"payment {payment_id}: {error.message}")
                continue
            except AppError as error:
                log.error("payment %s: %s", payment_id, error.message)
            with self._database.autocommit() as connection:
                store.expire(connection, payment_id)
        return problems

    def _ask_for(self, refund: Refund, gateway_payment_id: str) -> str | None:
        """Asks the gateway for a refund, or what became of it. Returns what is wrong; None if nothing is."""
        wait = min(self.policy.ask_every * 2 ** min(refund.tries, 16), self.policy.ask_at_most)
        with self._database.autocommit() as connection:
            if not refunds.claim(connection, refund, wait):
                return None
        try:
            if refund.gateway_refund_id is not None:
                news = RefundNews(refund.gateway_refund_id, self.gateway.refund_outcome(refund.gateway_refund_id))
            else:
                taken = self.gateway.refund(
                    gateway_payment_id, refund.amount_inr, refund.key, is_repeated=refund.tries > 0
                )
                if taken is None:
                    return None
                news = taken
        except AppError as error:
            log.error("refund of payment %s: %s", refund.payment_id, error.message)
            with self._database.autocommit() as connection:
                refunds.not_taken(connection, refund.id, error.message)
            return error.message
        with self._database.autocommit() as connection:
            is_stored = refunds.taken(connection, refund.id, news.refund_id)
        if not is_stored and refund.gateway_refund_id is None:
            log.error("payment %s: refund %s is recorded otherwise: look at both", refund.payment_id, news.refund_id)
        self.receive(news)
        return None
