"""Payments for requests that a broken service makes of its own accord."""

from uuid import UUID

from app.services.booking_service import BookingService
from app.services.payments.gateway import Capture


def paid_quote(bookings: BookingService, event_run_id: UUID, user_id: UUID, seats: int) -> UUID:
    """Returns the id of a quote that is paid, as far as the backend knows; the gateway has no money of it."""
    payments, payment = bookings._payments, bookings.quote_to_pay(event_run_id, user_id, seats)[1]
    assert payments is not None
    assert payment is not None
    order = payments.order(payment)
    reference = f"pay_{payment.id.hex}"
    payments.receive(Capture(order.order_id, reference, payment.amount_inr, "INR", payment.created_at))
    return payment.id
