"""Routes of bookings: quote, create, list, get, confirm attendance, cancel."""

from __future__ import annotations

from functools import partial
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import Field
from starlette.convertors import StringConvertor, register_url_convertor

from app.api import schemas
from app.api.dependencies import AppServices, CurrentCaller, OptionalKeyQuery, RequiredKeyRequest
from app.api.event_runs import complete, quote_members, require_host
from app.api.idempotency import subject_id
from app.api.pagination import PageQuery, respond_with_page
from app.api.problem_types import KEYED, PAID, READING, SENDING
from app.api.problems import problem_responses
from app.api.responses import ACCEPTED, json_response
from app.core.security import Caller, Forbidden
from app.db.tables import Booking
from app.services.lists import booking_page

router = APIRouter(tags=["bookings"])


class _IdConvertor(StringConvertor):
    """A part of a path that is no action of `/bookings`, so that GET of an action is 405, and not a malformed id."""

    regex = "(?!(?:calculate-cost|create|confirm-attendance)$)[^/]+"


register_url_convertor("booking_id", _IdConvertor())


@router.post(
    "/bookings/calculate-cost",
    response_model=schemas.Quote,
    summary="Calculate the cost of seats",
    responses=problem_responses(
        *READING,
        *KEYED,
        "forbidden",
        "not_found",
        "not_on_chain",
        "never_on_chain",
        "contract_rejected",
        "no_price",
        "chain_unavailable",
        "unsupported_by_contract",
    ),
)
def calculate_booking_cost(body: schemas.CostRequest, request: OptionalKeyQuery) -> Response:
    """Shows the cost in wei as the contract calculates it, and in INR at the current rate.

    Where people pay, an attendee and the platform get a quote to pay: `quote_id`, good until `expires_at`. It freezes
    rate, wei and INR. A host is shown the cost only. With an Idempotency-Key, a repeated request gets the same quote.
    """
    bookings = request.services.bookings
    user_id = None
    if request.caller.role != "host":
        user_id = request.caller.acting_for(body.user_id, "attendee")

    def quote() -> Response:
        if user_id is None:
            quote, payment = bookings.quote(body.event_run_id, body.seats), None
        else:
            quote, payment = bookings.quote_to_pay(body.event_run_id, user_id, body.seats)
        return json_response(
            200, schemas.Quote.model_validate(vars(quote) | body.model_dump() | quote_members(payment))
        )

    return request.respond(body, quote)


@router.post(
    "/bookings/create",
    status_code=201,
    response_model=schemas.Booking,
    summary="Book seats",
    responses=ACCEPTED
    | problem_responses(
        *SENDING, *PAID, "idempotency_key_missing", "expired", "no_price", "paused", "unsupported_by_contract"
    ),
)
def create_booking(body: schemas.BookingCreate, request: RequiredKeyRequest) -> Response:
    """An attendee may book for themselves, the platform for every attendee.

    The platform's wallet sends the payment and the stake, 20% of the payment, exactly as the contract calculates them.
    Where people pay, it does so for a quote that is paid: `quote_id`.
    """
    user_id = request.caller.acting_for(body.user_id, "attendee")
    bookings = request.services.bookings
    return request.respond_with_operation(
        201,
        body,
        lambda: bookings.prepare_book(
            body.event_run_id,
            user_id,
            body.seats,
            idempotency_key=request.idempotency_key,
            quote_id=body.quote_id,
        ),
        lambda operation: schemas.Booking.model_validate(bookings.get(subject_id(operation))),
    )


@router.post(
    "/bookings/confirm-attendance",
    response_model=schemas.EventRunSettled,
    summary="Complete an event run with the list of who attended",
    responses=ACCEPTED | problem_responses(*SENDING, "idempotency_key_missing", "unsupported_by_contract"),
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
    responses=ACCEPTED | problem_responses(*SENDING, "idempotency_key_missing", "unsupported_by_contract"),
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


class EventRunBookingQuery(PageQuery):
    """Which bookings of an event run to list."""

    status: schemas.BookingStatus | None = None


class BookingQuery(EventRunBookingQuery):
    """Which bookings to list."""

    event_run_id: UUID | None = Field(None, examples=[schemas.EVENT_RUN])
    user_id: UUID | None = Field(None, examples=[schemas.ATTENDEE], description="The attendee.")


@router.get(
    "/bookings",
    response_model=schemas.BookingPage,
    summary="List bookings",
    responses=problem_responses(*READING, "forbidden", "invalid_cursor"),
)
def list_bookings(query: Annotated[BookingQuery, Query()], services: AppServices, caller: CurrentCaller) -> Response:
    """An attendee sees their own bookings, a host those of their own event runs, the platform all. Newest first.

    Filters choose among the bookings that the caller may see. An attendee may not name another `user_id`.
    """
    filters = query.model_dump(exclude={"limit", "cursor"})
    if caller.role == "attendee":
        filters["user_id"] = caller.acting_for(query.user_id, "attendee")
    host_id = caller.id if caller.role == "host" else None
    read = partial(booking_page, services.database, host_id=host_id, **filters)
    return respond_with_page(query, caller, "bookings", read, schemas.BookingPage)


@router.get(
    "/bookings/{booking_id:booking_id}",
    response_model=schemas.Booking,
    summary="Show a booking",
    responses=problem_responses(*READING, "forbidden", "not_found"),
)
def get_booking(booking_id: UUID, services: AppServices, caller: CurrentCaller) -> Response:
    """The attendee, the event run's host and the platform may do this."""
    booking = services.bookings.get(booking_id)
    if caller.role == "host":
        require_host(caller, services.runs.get(booking.event_run_id))
    else:
        _require_attendee(caller, booking)
    return json_response(200, schemas.Booking.model_validate(booking))


@router.get(
    "/event-runs/{event_run_id}/bookings",
    response_model=schemas.BookingPage,
    summary="List the bookings of an event run",
    responses=problem_responses(*READING, "forbidden", "not_found", "invalid_cursor"),
)
def list_event_run_bookings(
    event_run_id: UUID, query: Annotated[EventRunBookingQuery, Query()], services: AppServices, caller: CurrentCaller
) -> Response:
    """The host and the platform see all bookings, an attendee only their own. Newest first."""
    run = services.runs.get(event_run_id)
    if caller.role != "attendee":
        require_host(caller, run)
    user_id = caller.id if caller.role == "attendee" else None
    read = partial(booking_page, services.database, event_run_id=run.id, user_id=user_id, status=query.status)
    return respond_with_page(query, caller, f"event-runs/{run.id}/bookings", read, schemas.BookingPage)


def _require_attendee(caller: Caller, booking: Booking) -> None:
    """Raises `Forbidden` unless the caller is the booking's attendee, or the platform."""
    if caller.role != "platform" and (caller.role, caller.id) != ("attendee", booking.user_id):
        raise Forbidden("Only the booking's attendee and the platform may do this.")
