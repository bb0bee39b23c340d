"""Routes of the pause: show it, pause, resume."""

from __future__ import annotations

from fastapi import APIRouter, Response
from pydantic import Field

from app.api.dependencies import AppServices, CurrentCaller, require_platform
from app.api.problem_types import READING
from app.api.problems import problem_responses
from app.api.responses import json_response
from app.api.schemas import RequestBody, ResponseBody, Time
from app.services import pause

router = APIRouter(tags=["pause"])
_PROBLEMS = problem_responses(*READING, "forbidden")


class PauseStart(RequestBody):
    """Why the service is paused."""

    reason: str | None = Field(None, pattern=r"^[^\x00-\x1f\x7f]{1,200}$", examples=["the price feed looks wrong"])


class PauseState(ResponseBody):
    """Whether new event runs and bookings are paused; since when, by whom, and why."""

    paused: bool
    since: Time | None = Field(examples=[None])
    paused_by: str | None = Field(examples=[None])
    reason: str | None = Field(examples=[None])


@router.get("/pause", response_model=PauseState, summary="Show the pause", responses=_PROBLEMS)
def get_pause(services: AppServices, caller: CurrentCaller) -> Response:
    """The platform may do this."""
    require_platform(caller)
    with services.database.autocommit() as connection:
        return _state(pause.current_pause(connection))


@router.post("/pause", response_model=PauseState, summary="Pause the service", responses=_PROBLEMS)
def start_pause(body: PauseStart, services: AppServices, caller: CurrentCaller) -> Response:
    """The platform may do this. No event run and no booking is created until the pause ends; exits go on.

    When the response arrives, no process signs any more. What was signed before is still sent. A pause that is there
    already stays as it is; so this takes no Idempotency-Key.
    """
    require_platform(caller)
    return _state(pause.pause(services.database, str(caller.id), body.reason))


@router.delete("/pause", response_model=PauseState, summary="Resume the service", responses=_PROBLEMS)
def end_pause(services: AppServices, caller: CurrentCaller) -> Response:
    """The platform may do this. What waits is sent within seconds. Without a pause, it changes nothing."""
    require_platform(caller)
    pause.resume(services.database, str(caller.id))
    return _state(None)


def _state(current: pause.Pause | None) -> Response:
    fields = current._asdict() if current else {"since": None, "paused_by": None, "reason": None}
    return json_response(200, PauseState.model_validate({"paused": current is not None, **fields}))
