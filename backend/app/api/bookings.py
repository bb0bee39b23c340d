"""Routes of bookings: quote, create, confirm attendance, cancel, list."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter, Response

from app.api import schemas
from app.api.dependencies import AppServices, CurrentCaller, OptionalKeyQuery, RequiredKeyRequest
from app.api.event_runs import complete, require_host
from app.api.idempotency import subject_id
from app.api.problems import problem_responses
from app.api.responses import ACCEPTED, json_response
from app.core.security import Caller, Forbidden
from app.db.tables import Booking

router = APIRouter(tags=["bookings"])


@router.post(
    "/bookings/calculate-cost",
    response_model=schemas.Quote,
    summary="Calculate the cost of seats",
    responses=problem_responses(400, 401, 404, 408, 409, 413, 422, 501, 503),
)
def calculate_cost(body: schemas.CostRequest, request: OptionalKeyQuery) -> Response:
    """Shows the cost in wei as the contract calculates it, which is the amount to pay, and in INR at the current rate.

    With an Idempotency-Key, a repeated request gets the same quote.
    """

    def quote() -> Response:
        quote = request.services.bookings.quote(body.event_run_id, body.seats)
        return json_response(200, schemas.Quote.model_validate(vars(quote) | body.model_dump()))

    return request.respond(body, quote)


@router.post(
    "/bookings/create",
    status_code=201,
    response_model=schemas.Booking,
    summary="Book seats",
    responses=ACCEPTED | problem_responses(400, 401, 403, 404, 408, 409, 413, 422, 501, 502, 503),
)
def create_booking(body: schemas.BookingCreate, request: RequiredKeyRequest) -> Response:
    """An attendee may book for themselves, the platform for every attendee.

    The platform pays the payment and the stake, 20% of the payment, exactly as the contract calculates them.
    """
    user_id = request.caller.acting_for(body.user_id, "attendee")
    bookings = request.services.bookings
    return request.respond_with_operation(
        201,
        body,
        lambda: bookings.prepare_book(body.event_run_id, user_id, body.seats, idempotency_key=request.idempotency_key),
        lambda operation: schemas.Booking.model_validate(bookings.get(subject_id(operation))),
    )


@router.post(
    "/bookings/confirm-attendance",
    response_model=schemas.EventRunSettled,
    summary="Complete an event run with the list of who attended",
    responses=ACCEPTED | problem_responses(400, 401, 403, 404, 408, 409, 413, 422, 502, 503),
)
def confirm_attendance(body: schemas.Attendance, request: RequiredKeyRequest) -> Response:
    """The host and the platform may do this after the event's start. Bookings that are not listed are no-shows."""
    run = request.services.runs.get(body.event_run_id)
    require_host(request.caller, run)
    return complete(request, run, body, body.attended_booking_ids)


@router.post(
    "/bookings/{booking_id}/cancel",
    response_model=schemas.BookingSettled,
    summary="Cancel a booking",
    responses=ACCEPTED | problem_responses(400, 401, 403, 404, 408, 409, 413, 422, 501, 502, 503),
)
def cancel_booking(booking_id: UUID, request: RequiredKeyRequest) -> Response:
    """The attendee and the platform may do this until 24 hours before the event's start.

    The contract refunds payment and stake, and the seats are free again.
    """
    bookings, chain = request.services.bookings, request.services.chain
    _require_attendee(request.caller, bookings.get(booking_id))
    return request.respond_with_operation(
        200,
        None,
        lambda: bookings.prepare_cancel(booking_id, idempotency_key=request.idempotency_key),
        lambda operation: schemas.BookingSettled.model_validate(
            {
                "booking": bookings.get(booking_id),
                "settlement": chain.read_booking_cancelled(request.receipt(operation)),
            }
        ),
    )


@router.get(
    "/event-runs/{event_run_id}/bookings",
    response_model=schemas.Bookings,
    summary="List the bookings of an event run",
    responses=problem_responses(401, 403, 404, 422, 503),
)
def list_bookings(event_run_id: UUID, services: AppServices, caller: CurrentCaller) -> Response:
    """The host and the platform see all bookings, an attendee only their own. Sorted by time of creation."""
    run = services.runs.get(event_run_id)
    bookings = services.bookings.of_run(run.id)
    if caller.role == "attendee":
        bookings = [booking for booking in bookings if booking.user_id == caller.id]
    else:
        require_host(caller, run)
    return json_response(200, schemas.Bookings.model_validate({"bookings": bookings}))


def _require_attendee(caller: Caller, booking: Booking) -> None:
    """Raises `Forbidden` unless the caller is the booking's attendee, or the platform."""
    if caller.role != "platform" and (caller.role, caller.id) != ("attendee", booking.user_id):
        raise Forbidden("Only the booking's attendee and the platform may do this.")
