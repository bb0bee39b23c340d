"""Actions as requests to the platform's HTTP API, and its answers as the services' results and errors.

Each request is made twice under one Idempotency-Key: it must have one effect, and the second answer be the first one.

The API holds the platform's key and no other. So actors who pay for themselves, `direct` actions and withdrawals of
credits do without it, as they would in production; and so does `withdraw_fees`, which it does not offer.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx
from anyio.from_thread import start_blocking_portal
from app.core.errors import AppError, ContractRejected, InvalidRequest, NotOnChain, PriceError
from app.core.security import issue_token
from app.core.wiring import Services
from app.main import create_app
from pydantic import SecretStr

from stakesim.scenario.actions import PLATFORM, Action, Book, CancelBooking, CancelRun, Complete, CreateRun, Expire
from stakesim.scenario.model import State

if TYPE_CHECKING:
    from stakesim.runner.world import World

SECRET = SecretStr("0123456789-abcdefghijklmnopqrstuvwxyz-of-worlds")


class Refused(AppError):
    """What else the API said no with, or what is wrong with its answers."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code  # type: ignore[misc]  # of this one, not of all


class Api:
    """The app as it is deployed, on the services of one scenario after another.

    offers: actions that it has an endpoint for. client: asks the app in this process; another one may ask a server
    that runs it.
    """

    offers = (CreateRun, Book, CancelBooking, CancelRun, Complete, Expire)

    def __init__(self, services: Services) -> None:
        self.app = create_app(services, SECRET, services.chain.sender.chain_id)
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://api")
        opened = ExitStack()
        self._loop = opened.enter_context(start_blocking_portal())  # in a thread: a notebook's own has one that runs
        self.close = opened.close

    def serve(self, services: Services) -> None:
        """From now on it is these."""
        self.app.state.services = services
        self._keys = map(str, count(1))

    def perform(self, world: World, action: Action, actor: str, model: State, starts_at: str | None) -> None:
        """Carries out one of the actions that the API offers, and enters the row of a new run or booking in the world.

        actor: asks for themselves where run or booking is theirs, else the platform does. model: the state before.
        starts_at: of a new run, in ISO 8601.
        Raises `ContractRejected`, `PriceError` and `InvalidRequest` as the services do, and `Refused`.
        """
        user, runs, bookings = str(world.cast.users[actor]), world.run_rows, world.booking_rows
        match action:
            case CreateRun():
                body = {"experience_id": str(world.experience), "starts_at": starts_at, "max_seats": action.seats}
                body |= {"price_inr": f"{action.price_inr:f}", "host_id": user}
                made = self._ask(world, "POST", "/event-runs", body, actor, "host")
                runs[action.run] = UUID(made["id"])
            case Book():
                body = {"event_run_id": str(runs[action.run]), "seats": action.seats, "user_id": user}
                made = self._ask(world, "POST", "/bookings/create", body, actor, "attendee")
                bookings[action.booking] = UUID(made["id"])
            case CancelBooking():
                by = actor if actor == model.bookings[action.booking].actor else PLATFORM
                self._ask(world, "POST", f"/bookings/{bookings[action.booking]}/cancel", None, by, "attendee")
            case Complete():
                by = actor if actor == model.runs[action.run].actor else PLATFORM
                came = [str(bookings[label]) for label in action.came if label in bookings]
                attendance = {"event_run_id": str(runs[action.run]), "attended_booking_ids": came}
                self._ask(world, "POST", "/bookings/confirm-attendance", attendance, by, "host")
            case CancelRun() | Expire():
                status = "expired" if isinstance(action, Expire) else "cancelled"
                by = actor if status == "expired" or actor == model.runs[action.run].actor else PLATFORM
                self._ask(world, "PATCH", f"/event-runs/{runs[action.run]}/status", {"status": status}, by, "host")
            case _:
                raise TypeError(f"the API has no endpoint for {action!r}")

    def _ask(self, world: World, method: str, path: str, body: Any, by: str, role: Any) -> Any:
        """What the API answers, twice."""
        token = issue_token(SECRET, world.cast.users[by], "platform" if by == PLATFORM else role)
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": next(self._keys)}
        ask = partial(self.client.request, method, path, json=body, headers=headers)
        first, again = self._loop.call(ask), self._loop.call(ask)
        if (first.status_code, first.content) != (again.status_code, again.content):
            said = f"{method} {path} is answered with {first.text}, and with the same key again with {again.text}"
            raise Refused("another_answer", said)
        if first.status_code not in (200, 201):
            raise _refusal(first)
        return first.json()


def _refusal(response: httpx.Response) -> AppError:
    """The error that the problem details tell of."""
    told = response.json()
    code, detail = told.get("code", f"status_{response.status_code}"), told.get("detail", response.text)
    if code == ContractRejected.code:
        args = [int(arg) if str(arg).isdecimal() else arg for arg in told["arguments"]]
        return ContractRejected(told["error"], args, detail, told["outcome"])
    kinds: dict[str, type[AppError]] = {kind.code: kind for kind in (InvalidRequest, NotOnChain, PriceError)}
    return kinds[code](detail) if code in kinds else Refused(code, detail)
