"""Routes of event runs: create, list, get, complete, cancel, expire."""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import Field
from starlette.convertors import StringConvertor, register_url_convertor

from app.api import schemas
from app.api.dependencies import (
    AppServices,
    CurrentCaller,
    OptionalKeyQuery,
    OptionalKeyRequest,
    RequiredKeyRequest,
)
from app.api.idempotency import IdempotentRequest, subject_id
from app.api.pagination import PageQuery, respond_with_page
from app.api.payment_schemas import StakeQuote
from app.api.problem_types import KEYED, PAID, READING, SENDING
from app.api.problems import problem_responses
from app.api.responses import ACCEPTED, json_response
from app.core.errors import ContractRejected
from app.core.security import Caller, Forbidden
from app.db.tables import EventRun
from app.services.contract_types import OnchainEventRun, TransactionResult
from app.services.lists import event_run_page
from app.services.payments.types import Payment

router = APIRouter(tags=["event runs"])


class _IdConvertor(StringConvertor):
    """A part of a path that is no action of `/event-runs`, so that GET of an action is 405, and not a malformed id."""

    regex = "(?!calculate-stake$)[^/]+"


register_url_convertor("event_run_id", _IdConvertor())


@router.post(
    "/event-runs",
    status_code=201,
    response_model=schemas.EventRun,
    summary="Create an event run",
    responses=ACCEPTED
    | problem_responses(
        *SENDING, *PAID, "idempotency_key_missing", "expired", "no_price", "paused", "unsupported_by_contract"
    ),
)
def create_event_run(body: schemas.EventRunCreate, request: RequiredKeyRequest) -> Response:
    """A host may create event runs of their own experiences for themselves, the platform for every host.

    The platform's wallet sends the host's stake, 20% of price x seats. The price is converted to wei once: now, at the
    current rate, or where people pay, in the quote that is paid: `quote_id`.
    """
    host_id = _host_of(request, body)
    runs = request.services.runs
    return request.respond_with_operation(
        201,
        body,
        lambda: runs.prepare_create(
            host_id,
            body.experience_id,
            body.starts_at,
            body.max_seats,
            Decimal(body.price_inr),
            idempotency_key=request.idempotency_key,
            quote_id=body.quote_id,
        ),
        lambda operation: schemas.EventRun.model_validate(runs.get(subject_id(operation))),
    )


@router.post(
    "/event-runs/calculate-stake",
    response_model=StakeQuote,
    summary="Calculate a host's stake",
    responses=problem_responses(
        *READING, *KEYED, "forbidden", "not_found", "no_price", "chain_unavailable", "unsupported_by_contract"
    ),
)
def calculate_stake(body: schemas.StakeRequest, request: OptionalKeyQuery) -> Response:
    """Who may create the event run may do this.

    Where people pay, the response is a quote to pay: `quote_id`, good until `expires_at`. It freezes rate, wei and INR.
    With an Idempotency-Key, a repeated request gets the same quote.
    """
    host_id = _host_of(request, body)

    def quote() -> Response:
        quote, payment = request.services.runs.quote_stake(
            host_id, body.experience_id, body.starts_at, body.max_seats, Decimal(body.price_inr)
        )
        members: dict[str, Any] = {"price_per_seat_wei": quote.payment_wei, "stake_wei": quote.stake_wei}
        members |= {"stake_inr": quote.stake_inr, "rate": quote.rate}
        return json_response(200, StakeQuote.model_validate(body.model_dump() | members | quote_members(payment)))

    return request.respond(body, quote)


def quote_members(payment: Payment | None) -> dict[str, Any]:
    """Returns the members of a quote that say how it is paid."""
    return {} if payment is None else {"quote_id": payment.id, "expires_at": payment.expires_at}


def _host_of(request: IdempotentRequest, body: schemas.StakeRequest) -> UUID:
    """Returns the host of an event run to create. Raises `Forbidden` unless the caller may create it."""
    host_id = request.caller.acting_for(body.host_id, "host")
    caller, runs = request.caller, request.services.runs
    if caller.role != "platform" and runs.host_of_experience(body.experience_id) != caller.id:
        raise Forbidden("Only the experience's host and the platform may create event runs of it.")
    return host_id


class EventRunQuery(PageQuery):
    """Which event runs to list."""

    status: schemas.EventRunStatus | None = None
    blockchain_status: schemas.ChainStatus | None = None
    host_id: UUID | None = Field(None, examples=[schemas.HOST])
    experience_id: UUID | None = Field(None, examples=[schemas.EXPERIENCE])
    starts_from: schemas.RequestTime | None = Field(None, description="Earliest start.")
    starts_before: schemas.RequestTime | None = Field(None, description="Only those that start before this time.")


@router.get(
    "/event-runs",
    response_model=schemas.EventRunPage,
    summary="List event runs",
    responses=problem_responses(*READING, "invalid_cursor"),
)
def list_event_runs(query: Annotated[EventRunQuery, Query()], services: AppServices, caller: CurrentCaller) -> Response:
    """Everybody with a token sees all event runs, as everybody may book them. Sorted by their start.

    Those that can be booked have the status `active` and the blockchain status `confirmed`.
    """
    filters = query.model_dump(exclude={"limit", "cursor"})
    read = partial(event_run_page, services.database, **filters)
    return respond_with_page(query, caller, "event-runs", read, schemas.EventRunPage)


@router.get(
    "/event-runs/{event_run_id:event_run_id}",
    response_model=schemas.EventRunSideBySide,
    summary="Show an event run in database and contract",
    responses=problem_responses(*READING, "not_found", "chain_unavailable", "unsupported_by_contract"),
)
def get_event_run(event_run_id: UUID, services: AppServices, _: CurrentCaller) -> Response:
    """The response lists the fields in which database and contract differ."""
    run = services.runs.get(event_run_id)
    if run.blockchain_event_run_id is None:
        return _side_by_side(run, None, [])
    try:
        on_chain = services.chain.get_event_run_from_chain(run.blockchain_event_run_id)
    except ContractRejected:  # the contract does not have the run: a reorganisation was deeper than CONFIRMATIONS
        return _side_by_side(run, None, ["blockchain_event_run_id"])
    return _side_by_side(run, on_chain, _differences(run, on_chain))


@router.patch(
    "/event-runs/{event_run_id}/status",
    response_model=schemas.EventRunSettled,
    summary="Complete, cancel or expire an event run",
    responses=ACCEPTED | problem_responses(*SENDING, "unsupported_by_contract"),
)
def change_event_run_status(event_run_id: UUID, body: schemas.StatusChange, request: OptionalKeyRequest) -> Response:
    """The host and the platform may complete or cancel an event run; anybody may expire it.

    Completing requires the list of bookings that attended. Cancelling refunds everybody. A run can be expired if it was
    not completed within 7 days of its start.
    """
    runs, chain = request.services.runs, request.services.chain
    run = runs.get(event_run_id)
    if isinstance(body, schemas.Expired):
        return request.respond_with_operation(
            200,
            body,
            lambda: runs.prepare_expire(run.id, idempotency_key=request.idempotency_key),
            lambda operation: _settled(request, run.id, chain.read_event_expired(request.receipt(operation))),
        )
    require_host(request.caller, run)
    if isinstance(body, schemas.Completed):
        return complete(request, run, body, body.attended_booking_ids)
    return _cancel(request, run, body)


@router.delete(
    "/event-runs/{event_run_id:event_run_id}",
    response_model=schemas.EventRunSettled,
    summary="Cancel an event run",
    responses=ACCEPTED | problem_responses(*SENDING, "unsupported_by_contract"),
)
def cancel_event_run(event_run_id: UUID, request: OptionalKeyRequest) -> Response:
    """The host and the platform may do this.

    An event run that is on chain is cancelled there, and everybody is refunded. If its creation failed, only its status
    in the database becomes cancelled. No row is deleted.
    """
    run = request.services.runs.get(event_run_id)
    require_host(request.caller, run)

    if run.blockchain_status != "failed":
        return _cancel(request, run, None)

    def cancel_failed() -> Response:
        request.services.runs.cancel_failed(run.id)
        return json_response(200, _settled(request, run.id, None))

    return request.respond(None, cancel_failed)


def require_host(caller: Caller, run: EventRun) -> None:
    """Raises `Forbidden` unless the caller is the run's host, or the platform."""
    if caller.role != "platform" and (caller.role, caller.id) != ("host", run.host_id):
        raise Forbidden("Only the run's host and the platform may do this.")


def complete(
    request: IdempotentRequest, run: EventRun, body: schemas.RequestBody, attended_booking_ids: list[UUID]
) -> Response:
    """Completes the run. Bookings that are not in the list are no-shows."""
    return request.respond_with_operation(
        200,
        body,
        lambda: request.services.runs.prepare_complete(
            run.id, attended_booking_ids, idempotency_key=request.idempotency_key
        ),
        lambda operation: _settled(
            request, run.id, request.services.chain.read_event_completed(request.receipt(operation))
        ),
    )


def _cancel(request: IdempotentRequest, run: EventRun, body: schemas.RequestBody | None) -> Response:
    return request.respond_with_operation(
        200,
        body,
        lambda: request.services.runs.prepare_cancel(run.id, idempotency_key=request.idempotency_key),
        lambda operation: _settled(
            request, run.id, request.services.chain.read_event_cancelled(request.receipt(operation))
        ),
    )


def _side_by_side(run: EventRun, on_chain: OnchainEventRun | None, differences: list[str]) -> Response:
    chain = on_chain and {**vars(on_chain), "status": on_chain.status.name.lower(), "starts_at": on_chain.starts_at}
    body = {"database": run, "chain": chain, "differences": differences}
    return json_response(200, schemas.EventRunSideBySide.model_validate(body))


def _settled(
    request: IdempotentRequest, event_run_id: UUID, settlement: TransactionResult | None
) -> schemas.EventRunSettled:
    run = request.services.runs.get(event_run_id)
    return schemas.EventRunSettled.model_validate({"event_run": run, "settlement": settlement})


def _differences(run: EventRun, on_chain: OnchainEventRun) -> list[str]:
    """Returns the names of the fields that differ."""
    values = {
        "status": (run.status, on_chain.status.name.lower()),
        "seats_booked": (run.seats_booked, on_chain.seats_booked),
        "max_seats": (run.max_seats, on_chain.max_seats),
        "starts_at": (run.starts_at, on_chain.starts_at),
        "experience_id": (str(run.experience_id), on_chain.experience_id),
        "price_per_seat_wei": (run.blockchain_price_per_seat_wei, on_chain.price_per_seat),
        "host_stake_wei": (run.blockchain_stake_amount_wei, on_chain.host_stake),
    }
    return [name for name, (stored, onchain) in values.items() if stored != onchain]
