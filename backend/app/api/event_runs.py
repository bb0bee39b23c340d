"""Event runs: opened, looked at, closed."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

from fastapi import APIRouter, Response
from sqlalchemy import update

from app.api import schemas
from app.api.dependencies import ACCEPTED, Ask, AskMaybeWithKey, AskWithKey, CallerOf, ServicesOf, shown
from app.api.problems import documented
from app.core.errors import ContractRejected
from app.core.security import Caller, Forbidden
from app.db.session import Database
from app.db.tables import EventRun, event_runs
from app.services.contract_types import OnchainEventRun

router = APIRouter(tags=["event runs"])


@router.post(
    "/event-runs",
    status_code=201,
    response_model=schemas.EventRun,
    summary="Open an event run",
    responses=ACCEPTED | documented(400, 401, 403, 404, 409, 413, 422, 501, 502, 503),
)
def create_event_run(body: schemas.EventRunCreate, ask: AskWithKey) -> Response:
    """For a host's own self; the platform opens runs for anybody. The platform pays in the host's stake, 20% of price x
    seats. The price becomes wei at the rate of now, once."""
    host = ask.caller.acting_for(body.host_id, "host")
    runs = ask.services.runs
    return ask.carry_out(
        201,
        body,
        lambda: runs.prepare_create(
            host, body.experience_id, body.starts_at, body.max_seats, Decimal(body.price_inr), idempotency_key=ask.key
        ),
        lambda operation, _: schemas.EventRun.model_validate(runs.get(_subject(operation.subject))),
    )


@router.get(
    "/event-runs/{event_run_id}",
    response_model=schemas.EventRunSideBySide,
    summary="An event run, as database and chain have it",
    responses=documented(401, 404, 422, 501, 503),
)
def show_event_run(event_run_id: UUID, services: ServicesOf, _: CallerOf) -> Response:
    run = services.runs.get(event_run_id)
    if run.blockchain_event_run_id is None:
        return _side_by_side(run, None, [])
    try:
        found = services.chain.get_event_run_from_chain(run.blockchain_event_run_id)
    except ContractRejected:  # it knows of no such run, as after a reorganisation deeper than what counts as final
        return _side_by_side(run, None, ["blockchain_event_run_id"])
    return _side_by_side(run, found, _differences(run, found))


@router.patch(
    "/event-runs/{event_run_id}/status",
    response_model=schemas.EventRunSettled,
    summary="Complete, cancel or expire an event run",
    responses=ACCEPTED | documented(400, 401, 403, 404, 409, 413, 422, 501, 502, 503),
)
def change_status(event_run_id: UUID, body: schemas.StatusChange, ask: AskMaybeWithKey) -> Response:
    """Its host, or the platform, completes it, saying which bookings came, or cancels it, and everybody is refunded.
    A run that nobody completed within 7 days of its start may be expired by anyone."""
    runs, chain = ask.services.runs, ask.services.chain
    run = runs.get(event_run_id)
    if isinstance(body, schemas.Expired):
        return ask.carry_out(
            200,
            body,
            lambda: runs.prepare_expire(run.id, idempotency_key=ask.key),
            lambda _, receipt: _settled(ask, run.id, chain.read_event_expired(receipt)),
        )
    check_host(ask.caller, run)
    if isinstance(body, schemas.Completed):
        return complete(ask, run, body, body.attended_booking_ids)
    return _cancel(ask, run, body)


@router.delete(
    "/event-runs/{event_run_id}",
    response_model=schemas.EventRunSettled,
    summary="Call off an event run",
    responses=ACCEPTED | documented(401, 403, 404, 409, 422, 502, 503),
)
def delete_event_run(event_run_id: UUID, ask: AskMaybeWithKey) -> Response:
    """By its host or the platform. Cancels it on chain if it is there, and everybody is refunded; one that never got
    there, because the contract refused it, is marked as cancelled. Nothing is erased."""
    run = ask.services.runs.get(event_run_id)
    check_host(ask.caller, run)

    def off_chain() -> Response:
        _discard(ask.services.database, run.id)
        return shown(200, _settled(ask, run.id, None))

    return ask.once(None, off_chain) if run.blockchain_status == "failed" else _cancel(ask, run, None)


def check_host(caller: Caller, run: EventRun) -> None:
    """Raises `Forbidden` for whoever is neither the run's host nor the platform."""
    if caller.role != "platform" and (caller.role, caller.id) != ("host", run.host_id):
        raise Forbidden("Only the run's host and the platform may do this.")


def complete(ask: Ask, run: EventRun, body: schemas.Body, came: list[UUID]) -> Response:
    """Closes the run: those bookings came, all others are no-shows."""
    return ask.carry_out(
        200,
        body,
        lambda: ask.services.runs.prepare_complete(run.id, came, idempotency_key=ask.key),
        lambda _, receipt: _settled(ask, run.id, ask.services.chain.read_event_completed(receipt)),
    )


def _cancel(ask: Ask, run: EventRun, body: schemas.Body | None) -> Response:
    return ask.carry_out(
        200,
        body,
        lambda: ask.services.runs.prepare_cancel(run.id, idempotency_key=ask.key),
        lambda _, receipt: _settled(ask, run.id, ask.services.chain.read_event_cancelled(receipt)),
    )


def _side_by_side(run: EventRun, found: OnchainEventRun | None, differences: list[str]) -> Response:
    chain = found and {**vars(found), "status": found.status.name.lower(), "starts_at": found.starts_at}
    body = {"database": run, "chain": chain, "differences": differences}
    return shown(200, schemas.EventRunSideBySide.model_validate(body))


def _settled(ask: Ask, run_id: UUID, mined: object) -> schemas.EventRunSettled:
    run = ask.services.runs.get(run_id)
    return schemas.EventRunSettled.model_validate({"event_run": run, "settlement": mined})


def _discard(database: Database, run_id: UUID) -> None:
    """A run that is not on chain, and never will be, is cancelled."""
    never = event_runs.c.blockchain_status == "failed"
    with database.begin() as connection:
        connection.execute(update(event_runs).where(event_runs.c.id == run_id, never), {"status": "cancelled"})


def _differences(run: EventRun, chain: OnchainEventRun) -> list[str]:
    told = {
        "status": (run.status, chain.status.name.lower()),
        "seats_booked": (run.seats_booked, chain.seats_booked),
        "max_seats": (run.max_seats, chain.max_seats),
        "starts_at": (run.starts_at, chain.starts_at),
        "experience_id": (str(run.experience_id), chain.experience_id),
        "price_per_seat_wei": (run.blockchain_price_per_seat_wei, chain.price_per_seat),
        "host_stake_wei": (run.blockchain_stake_amount_wei, chain.host_stake),
    }
    return [name for name, (ours, theirs) in told.items() if ours != theirs]


def _subject(subject: UUID | None) -> UUID:
    assert subject is not None
    return subject
