"""Bookings: what they cost, made, attended, cancelled."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter, Response

from app.api import schemas
from app.api.dependencies import ACCEPTED, AskForNumbers, AskWithKey, CallerOf, ServicesOf, shown
from app.api.event_runs import check_host, complete
from app.api.problems import documented
from app.core.security import Caller, Forbidden
from app.db.tables import Booking

router = APIRouter(tags=["bookings"])


@router.post(
    "/bookings/calculate-cost",
    response_model=schemas.Quote,
    summary="What seats cost",
    responses=documented(400, 401, 404, 409, 413, 422, 501, 503),
)
def calculate_cost(body: schemas.CostRequest, ask: AskForNumbers) -> Response:
    """In wei as the contract says, which is what is paid, and in INR at the rate of now. With an Idempotency-Key, the
    same quote is given again."""

    def quote() -> Response:
        quote = ask.services.bookings.quote(body.event_run_id, body.seats)
        return shown(200, schemas.Quote.model_validate(vars(quote) | body.model_dump()))

    return ask.once(body, quote)


@router.post(
    "/bookings/create",
    status_code=201,
    response_model=schemas.Booking,
    summary="Book seats",
    responses=ACCEPTED | documented(400, 401, 403, 404, 409, 413, 422, 501, 502, 503),
)
def create_booking(body: schemas.BookingCreate, ask: AskWithKey) -> Response:
    """For an attendee's own self; the platform books for anybody. The platform pays in payment and stake, 20% of it, to
    the wei as the contract says."""
    user = ask.caller.acting_for(body.user_id, "attendee")
    bookings = ask.services.bookings

    def booked(booking_id: UUID | None) -> schemas.Booking:
        assert booking_id is not None
        return schemas.Booking.model_validate(bookings.get(booking_id))

    return ask.carry_out(
        201,
        body,
        lambda: bookings.prepare_book(body.event_run_id, user, body.seats, idempotency_key=ask.key),
        lambda operation, _: booked(operation.subject),
    )


@router.post(
    "/bookings/confirm-attendance",
    response_model=schemas.EventRunSettled,
    summary="Say who came, which completes the event run",
    responses=ACCEPTED | documented(400, 401, 403, 404, 409, 413, 422, 502, 503),
)
def confirm_attendance(body: schemas.Attendance, ask: AskWithKey) -> Response:
    """By the run's host or the platform, from its start on. All bookings that are not listed are no-shows."""
    run = ask.services.runs.get(body.event_run_id)
    check_host(ask.caller, run)
    return complete(ask, run, body, body.attended_booking_ids)


@router.post(
    "/bookings/{booking_id}/cancel",
    response_model=schemas.BookingSettled,
    summary="Cancel a booking",
    responses=ACCEPTED | documented(400, 401, 403, 404, 409, 413, 422, 501, 502, 503),
)
def cancel_booking(booking_id: UUID, ask: AskWithKey) -> Response:
    """By its attendee or the platform, until 24 hours before the start: all is refunded, the seats are free again."""
    bookings, chain = ask.services.bookings, ask.services.chain
    _check_attendee(ask.caller, bookings.get(booking_id))
    return ask.carry_out(
        200,
        None,
        lambda: bookings.prepare_cancel(booking_id, idempotency_key=ask.key),
        lambda _, receipt: schemas.BookingSettled.model_validate(
            {"booking": bookings.get(booking_id), "settlement": chain.read_booking_cancelled(receipt)}
        ),
    )


@router.get(
    "/event-runs/{event_run_id}/bookings",
    response_model=schemas.Bookings,
    summary="The bookings of an event run",
    responses=documented(401, 403, 404, 422, 503),
)
def list_bookings(event_run_id: UUID, services: ServicesOf, caller: CallerOf) -> Response:
    """All, for the run's host and the platform; an attendee sees their own. In the order in which they were made."""
    run = services.runs.get(event_run_id)
    found = services.bookings.of_run(run.id)
    if caller.role == "attendee":
        found = [booking for booking in found if booking.user_id == caller.id]
    else:
        check_host(caller, run)
    return shown(200, schemas.Bookings.model_validate({"bookings": found}))


def _check_attendee(caller: Caller, booking: Booking) -> None:
    """Raises `Forbidden` for whoever is neither the booking's attendee nor the platform."""
    if caller.role != "platform" and (caller.role, caller.id) != ("attendee", booking.user_id):
        raise Forbidden("Only the booking's attendee and the platform may do this.")
