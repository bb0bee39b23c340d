"""Use cases of bookings: quote, book, cancel.

Each use case stores an operation, together with a new row if it creates one, and carries it out. When the operation is
final, `projections` updates the rows.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from eth_account.signers.local import LocalAccount
from sqlalchemy import bindparam, select

from app.core.errors import NotFound
from app.db.database import Database
from app.db.statements import Compiled
from app.db.tables import Booking, event_run_bookings, event_runs, users
from app.services.blockchain_service import BlockchainService
from app.services.contract_types import BookingCancelled
from app.services.lookups import check_seats, find_onchain_run_id, require_onchain_id
from app.services.operation_types import Draft, NewRow, Operation
from app.services.operations import find_or_create, request_hash
from app.services.payments.service import PaymentService
from app.services.payments.types import Amounts, Payment
from app.services.pricing import Pricing, Quote, Rate

_SELECT_RUN_AND_USER = Compiled(
    select(event_runs.c.blockchain_event_run_id, event_runs.c.blockchain_status, users.c.wallet_address, users.c.id)
    .select_from(event_runs.outerjoin(users, users.c.id == bindparam("user_id")))
    .where(event_runs.c.id == bindparam("run_id"))
)
_SELECT_BOOKING = Compiled(select(event_run_bookings).where(event_run_bookings.c.id == bindparam("row_id")))
_SELECT_ALL = select(event_run_bookings).order_by(event_run_bookings.c.created_at)


class BookingService:
    """Use cases of bookings.

    Methods raise `NotFound` for an id that does not exist, and methods that send raise as `TransactionSender.finish`
    does. Two arguments occur in several methods:

    signer: Account that sends the transaction; the platform if None.
    idempotency_key: The same request with the same key has the same operation; another request with it raises
        `KeyReused`.
    """

    def __init__(
        self, database: Database, chain: BlockchainService, pricing: Pricing, payments: PaymentService | None = None
    ) -> None:
        self._database = database
        self._chain = chain
        self._pricing = pricing
        self._payments = payments

    def quote(self, event_run_id: UUID, seats: int) -> Quote:
        """Returns the cost of seats: in wei by the contract, in INR at the present rate. Raises `PriceError`."""
        rate = self._pricing.rate()
        return self._quote(find_onchain_run_id(self._database, event_run_id), seats, rate)

    def quote_to_pay(self, event_run_id: UUID, user_id: UUID, seats: int) -> tuple[Quote, Payment | None]:
        """Returns the cost of seats as `quote` does, and the payment that a booking takes; None if nothing is paid."""
        quote = self.quote(event_run_id, seats)
        if self._payments is None or quote.total_wei == 0:
            return quote, None
        amounts = Amounts(quote.rate.inr_per_eth, quote.payment_wei, quote.stake_wei, quote.stake_inr, quote.total_inr)
        return quote, self._payments.quote(user_id, "booking", _quoted(event_run_id, seats), amounts)

    def prepare_book(
        self,
        event_run_id: UUID,
        user_id: UUID,
        seats: int,
        *,
        signer: LocalAccount | None = None,
        idempotency_key: str | None = None,
        quote_id: UUID | None = None,
    ) -> Operation:
        """Stores a booking and its operation, which sends exactly the wei of a quote.

        The quote is the one with `quote_id`, whose payment is used; if nobody pays, or the attendee signs, one at the
        present rate. For a user without a wallet, the platform's address is the attendee on chain.

        Returns:
            The operation; its subject is the booking's row.

        Raises:
            PriceError: There is no rate to quote from. Nothing was stored.
            PaymentRequired, NotPaid, PaymentUnusable: No payment can be used. Nothing was stored.
            Paused: New orders are paused. Nothing was stored.
        """
        payments = self._payments if signer is None else None

        def make_draft() -> Draft:
            payment = None
            if payments is not None:
                payment = payments.payment_for(quote_id, user_id, "booking", _quoted(event_run_id, seats))
            rate = self._pricing.rate() if payment is None else Rate(payment.rate, payment.created_at)
            with self._database.autocommit() as connection:
                parameters = {"run_id": event_run_id, "user_id": user_id}
                row = connection.execute(_SELECT_RUN_AND_USER, parameters).one_or_none()
            if row is None:
                raise NotFound(f"There is no event run {event_run_id}.")
            row_name = f"event run {event_run_id}"
            onchain_run_id = require_onchain_id(row.blockchain_event_run_id, row.blockchain_status, row_name)
            if row.id is None:
                raise NotFound(f"There is no user {user_id}.")
            check_seats(seats)
            quote = Quote.of(*payment.frozen_wei, rate) if payment else self._quote(onchain_run_id, seats, rate)
            if payments is not None:
                payments.require(payment, quote.total_wei)
            attendee = row.wallet_address or self._chain.custody
            call = self._chain.book_event_call(
                onchain_run_id, seats, attendee=attendee, signer=signer, total_wei=quote.total_wei
            )
            new_booking = {
                "event_run_id": event_run_id,
                "user_id": user_id,
                "seats": seats,
                "total_inr": quote.total_inr,
                "inr_per_eth": rate.inr_per_eth,
                "blockchain_payment_wei": quote.payment_wei,
                "blockchain_stake_amount_wei": quote.stake_wei,
            }
            new_row = NewRow(event_run_bookings, new_booking)
            draft = self._chain.sender.draft(call, signer, new_row, person=user_id)
            return PaymentService.paid_by(payment, draft, to_custody=row.wallet_address is None)

        paid = () if quote_id is None else (quote_id,)
        request = request_hash("book", event_run_id, user_id, seats, signer and signer.address, *paid)
        return find_or_create(self._database, idempotency_key, request, make_draft)

    def book(
        self,
        event_run_id: UUID,
        user_id: UUID,
        seats: int,
        *,
        signer: LocalAccount | None = None,
        idempotency_key: str | None = None,
        quote_id: UUID | None = None,
    ) -> Booking:
        """Books seats as `prepare_book` does, and waits until the booking is final."""
        operation = self.prepare_book(
            event_run_id, user_id, seats, signer=signer, idempotency_key=idempotency_key, quote_id=quote_id
        )
        self._chain.sender.finish(operation, signer)
        assert operation.subject is not None
        return self.get(operation.subject)

    def prepare_cancel(
        self, booking_id: UUID, *, signer: LocalAccount | None = None, idempotency_key: str | None = None
    ) -> Operation:
        """Stores the operation that cancels a booking: it is refunded, and its seats are free again."""

        def make_draft() -> Draft:
            booking = self.get(booking_id)
            row_name = f"booking {booking_id}"
            onchain_booking_id = require_onchain_id(booking.blockchain_booking_id, booking.blockchain_status, row_name)
            call = self._chain.cancel_booking_call(onchain_booking_id)
            return self._chain.sender.draft(call, signer, booking_id)

        request = request_hash("cancel booking", booking_id, signer and signer.address)
        return find_or_create(self._database, idempotency_key, request, make_draft)

    def cancel(
        self, booking_id: UUID, *, signer: LocalAccount | None = None, idempotency_key: str | None = None
    ) -> BookingCancelled:
        """Cancels a booking as `prepare_cancel` does, and waits until that is final."""
        operation = self.prepare_cancel(booking_id, signer=signer, idempotency_key=idempotency_key)
        return self._chain.read_booking_cancelled(self._chain.sender.finish(operation, signer))

    def get(self, booking_id: UUID) -> Booking:
        """Returns a booking's row."""
        with self._database.autocommit() as connection:
            row = connection.execute(_SELECT_BOOKING, {"row_id": booking_id}).one_or_none()
        if row is None:
            raise NotFound(f"There is no booking {booking_id}.")
        return Booking(*row)

    def of_run(self, event_run_id: UUID) -> list[Booking]:
        """Returns the rows of a run's bookings, in the order in which they were stored."""
        with self._database.autocommit() as connection:
            rows = connection.execute(_SELECT_ALL.where(event_run_bookings.c.event_run_id == event_run_id))
            return [Booking(*row) for row in rows]

    def list_all(self) -> list[Booking]:
        """Returns the rows of all bookings, in the order in which they were stored."""
        with self._database.autocommit() as connection:
            return [Booking(*row) for row in connection.execute(_SELECT_ALL)]

    def _quote(self, onchain_run_id: int, seats: int, rate: Rate) -> Quote:
        cost = self._chain.calculate_booking_cost(onchain_run_id, seats)
        return Quote.of(cost.payment_wei, cost.stake_wei, rate)


def _quoted(event_run_id: UUID, seats: int) -> dict[str, Any]:
    """Returns what a booking's quote is for, as `payments.quoted` stores it."""
    return {"event_run_id": str(event_run_id), "seats": seats}
