"""A scenario's actions as requests to the backend's HTTP API, and its answers as results and refusals.

Each request is made twice under one Idempotency-Key: it must have one effect, and the second answer be the first one.

The API holds the platform's key and no other. So what people sign for themselves, withdrawals of credits and of fees do
without it, as they would in production.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from itertools import count
from typing import Any
from uuid import UUID

import httpx
from anyio.from_thread import start_blocking_portal
from app.bootstrap.container import Services
from app.core.errors import AppError, ContractRejected, InvalidRequest, NotOnChain, PriceError
from app.core.security import issue_token
from app.main import create_app
from eth_account.signers.local import LocalAccount
from pydantic import SecretStr
from stakesim.backend import Rows

from stakesim_adapter.services import ServicesSession, refusals

PLATFORM = "platform"
SECRET = SecretStr("0123456789-abcdefghijklmnopqrstuvwxyz-of-worlds")


class UnexpectedAnswer(AppError):
    """What else the API refused with, or what is wrong with its answers."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code  # type: ignore[misc]  # of this one, not of all


class Api:
    """The app as it is deployed, on the services of one scenario after another.

    Attributes:
        client: Asks the app in this process; another one may ask a server that runs it.
    """

    def __init__(self, services: Services) -> None:
        self.app = create_app(services, SECRET, services.chain.sender.chain_id)
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://api")
        opened = ExitStack()
        self._loop = opened.enter_context(start_blocking_portal())  # in a thread: a notebook's own has one that runs
        self.close = opened.close

    def serve(self, services: Services) -> None:
        """From now on it is these."""
        self.app.state.services = services
        self._keys = map("of-the-adapter-{}".format, count(1))

    def ask(self, method: str, path: str, body: Any, by: UUID, role: Any, key: str | None) -> Any:
        """The answer to a request that is made twice.

        Raises:
            AppError: As the services raise it, or `UnexpectedAnswer`.
        """
        key = key or next(self._keys)  # the API wants one
        headers = {"Authorization": f"Bearer {issue_token(SECRET, by, role)}", "Idempotency-Key": key}
        ask = partial(self.client.request, method, path, json=body, headers=headers)
        first, again = self._loop.call(ask), self._loop.call(ask)
        if (first.status_code, first.content) != (again.status_code, again.content):
            message = f"{method} {path} is answered with {first.text}, and with the same key again with {again.text}"
            raise UnexpectedAnswer("another_answer", message)
        if first.status_code not in (200, 201):
            raise _refusal(first)
        return first.json()


class ApiSession:
    """See `stakesim.backend.BackendSession`."""

    def __init__(self, api: Api, services: ServicesSession) -> None:
        self._api, self._services = api, services
        self._owner: dict[str, str] = {}  # who hosts a run, or made a booking

    def create_run(
        self,
        run: str,
        *,
        by: str,
        price_inr: Decimal,
        seats: int,
        starts_at: int,
        signer: LocalAccount | None,
        key: str | None,
    ) -> None:
        given: dict[str, Any] = {"price_inr": price_inr, "seats": seats, "starts_at": starts_at}
        self._owner[run] = by
        if signer is not None:
            return self._services.create_run(run, by=by, signer=signer, key=key, **given)
        body = {
            "experience_id": str(self._services.experience),
            "starts_at": datetime.fromtimestamp(starts_at, UTC).isoformat(),
            "max_seats": seats,
            "price_inr": f"{price_inr:f}",
            "host_id": str(self._services.users[by]),
        }
        with refusals():
            try:
                made = self._ask("POST", "/event-runs", body, by, "host", key)
            except InvalidRequest:
                # the services refuse it too, in the contract's words
                self._services.create_run(run, by=by, signer=None, key=_own(key), **given)
                raise
        self._services.runs[run] = UUID(made["id"])

    def book(
        self, booking: str, *, run: str, by: str, seats: int, signer: LocalAccount | None, key: str | None
    ) -> None:
        self._owner[booking] = by
        if signer is not None:
            return self._services.book(booking, run=run, by=by, seats=seats, signer=signer, key=key)
        body = {
            "event_run_id": str(self._services.runs[run]),
            "seats": seats,
            "user_id": str(self._services.users[by]),
        }
        with refusals():
            try:
                made = self._ask("POST", "/bookings/create", body, by, "attendee", key)
            except InvalidRequest:
                self._services.book(booking, run=run, by=by, seats=seats, signer=None, key=_own(key))
                raise
        self._services.bookings[booking] = UUID(made["id"])

    def cancel_booking(self, booking: str, *, by: str, signer: LocalAccount | None, key: str | None) -> None:
        if signer is not None:
            return self._services.cancel_booking(booking, by=by, signer=signer, key=key)
        path = f"/bookings/{self._services.bookings[booking]}/cancel"
        with refusals():
            self._ask("POST", path, None, self._asker(by, booking), "attendee", key)

    def cancel_run(self, run: str, *, by: str, signer: LocalAccount | None, key: str | None) -> None:
        if signer is not None:
            return self._services.cancel_run(run, by=by, signer=signer, key=key)
        self._end(run, "cancelled", self._asker(by, run), key)

    def complete(
        self, run: str, *, attended: Sequence[str], by: str, signer: LocalAccount | None, key: str | None
    ) -> None:
        if signer is not None:
            return self._services.complete(run, attended=attended, by=by, signer=signer, key=key)
        body = {
            "event_run_id": str(self._services.runs[run]),
            "attended_booking_ids": [str(self._services.bookings[label]) for label in attended],
        }
        with refusals():
            self._ask("POST", "/bookings/confirm-attendance", body, self._asker(by, run), "host", key)

    def expire(self, run: str, *, by: str, signer: LocalAccount | None, key: str | None) -> None:
        if signer is not None:
            return self._services.expire(run, by=by, signer=signer, key=key)
        self._end(run, "expired", by, key)

    def withdraw(self, *, by: str, to: str | None, signer: LocalAccount, key: str | None) -> None:
        self._services.withdraw(by=by, to=to, signer=signer, key=key)

    def withdraw_fees(self, *, by: str, signer: LocalAccount | None, key: str | None) -> None:
        self._services.withdraw_fees(by=by, signer=signer, key=key)

    def refresh(self, run: str) -> None:
        self._services.refresh(run)

    def rows(self) -> Rows:
        return self._services.rows()

    def _end(self, run: str, status: str, by: str, key: str | None) -> None:
        path = f"/event-runs/{self._services.runs[run]}/status"
        with refusals():
            self._ask("PATCH", path, {"status": status}, by, "host", key)

    def _asker(self, by: str, label: str) -> str:
        """Who is asked for to be the owner; for anybody else the platform asks in their place."""
        return by if by == self._owner.get(label) else PLATFORM

    def _ask(self, method: str, path: str, body: Any, by: str, role: str, key: str | None) -> Any:
        return self._api.ask(method, path, body, self._services.users[by], PLATFORM if by == PLATFORM else role, key)


def _own(key: str | None) -> str | None:
    """For the services, as the API keeps its answer under the client's key."""
    return key and f"{key}-services"


def _refusal(response: httpx.Response) -> AppError:
    """The error that the problem details tell of."""
    problem = response.json()
    code, detail = problem.get("code", f"status_{response.status_code}"), problem.get("detail", response.text)
    if code == ContractRejected.code:
        args = [int(arg) if str(arg).isdecimal() else arg for arg in problem["arguments"]]
        return ContractRejected(problem["error"], args, detail, problem["outcome"])
    kinds: dict[str, type[AppError]] = {kind.code: kind for kind in (InvalidRequest, NotOnChain, PriceError)}
    return kinds[code](detail) if code in kinds else UnexpectedAnswer(code, detail)
