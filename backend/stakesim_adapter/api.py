"""The driver `api`: carries out a scenario's actions by requests to the backend's HTTP API.

It sends each request twice with the same Idempotency-Key: both must have one effect and the same response. A client
that repeats a request later finds that the response is not kept any more.

The API signs with the platform's key only and has no withdrawals. So the driver calls the services for actions that
users sign themselves, and for withdrawals of credits and fees.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from http import HTTPStatus
from itertools import count
from typing import Any
from uuid import UUID

from anyio.from_thread import start_blocking_portal
from app.bootstrap.services import Services
from app.core.errors import (
    AppError,
    ContractRejected,
    InvalidRequest,
    NeverOnChain,
    NotOnChain,
    NotPaid,
    PaymentUnusable,
    PriceError,
)
from app.core.security import Role, issue_token
from app.main import create_app
from app.services.housekeeping import tidy
from eth_account.signers.local import LocalAccount
from pydantic import SecretStr
from stakesim.backend import BookingRow, Rows, RunRow
from stakesim.scenario.base_action import PaymentBehaviour

from stakesim_adapter.asgi_client import AsgiClient, Response
from stakesim_adapter.razorpay_stand_in import Webhook
from stakesim_adapter.services import ServicesSession, as_refused, local_time

PLATFORM: Role = "platform"
"""Name of the platform in scenarios, and its role in the API."""
PAGE = 5
"""Items on a page of a list: few, so that lists of a scenario have several pages."""
JWT_SECRET = SecretStr("0123456789-abcdefghijklmnopqrstuvwxyz-of-worlds")


class UnexpectedResponse(AppError):
    """The API responded with an error that the services do not raise, or differently to the same request."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code  # type: ignore[misc]  # an attribute of the instance instead of the class


class ApiClient:
    """Calls one ASGI app, which serves one scenario after another.

    Attributes:
        app: The ASGI app.
        client: Calls the app in this process. Replace it with a `httpx.AsyncClient` to call a server that runs the app.
    """

    def __init__(self, services: Services) -> None:
        self.app = create_app(services, JWT_SECRET, services.sender.chain_id)
        self.client = AsgiClient(self.app)
        stack = ExitStack()
        # the event loop runs in a separate thread, since a notebook's thread already has a running one
        self._event_loop = stack.enter_context(start_blocking_portal())
        self.close = stack.close

    def use_services(self, services: Services) -> None:
        """Makes the app serve a new scenario, with new generated keys and tokens."""
        self.app.state.services = services
        self._tokens: dict[tuple[UUID, Role], str] = {}
        self._generated_keys = map("of-the-adapter-{}".format, count(1))

    def request_twice(self, method: str, path: str, body: Any, caller_id: UUID, role: Role, key: str | None) -> Any:
        """Sends a request twice, and returns the response's body.

        Args:
            method: HTTP method.
            path: Path of the route.
            body: Body to send as JSON; no body if None.
            caller_id: Id of the user who sends it.
            role: Role in the user's token.
            key: Idempotency-Key. If None, one is generated, as the API requires a key.

        Raises:
            AppError: The error of the problem details, or `UnexpectedResponse`.
        """
        headers = {
            "Authorization": self._authorization(caller_id, role),
            "Idempotency-Key": key or next(self._generated_keys),
        }

        async def send_twice() -> tuple[Response, Response]:
            send = partial(self.client.request, method, path, json=body, headers=headers)
            return await send(), await send()

        first, second = self._event_loop.call(send_twice)
        if (first.status_code, first.content) != (second.status_code, second.content):
            message = f"{method} {path} responds with {first.text}, and with the same key again with {second.text}"
            raise UnexpectedResponse("another_answer", message)
        if first.status_code not in (200, 201):
            raise _error_from_problem(first)
        return first.json()

    def read_list(self, path: str, caller_id: UUID) -> Iterator[dict[str, Any]]:
        """Yields the items of a list as the platform sees it, page by page.

        Raises:
            AppError: The error of the problem details.
        """
        query: dict[str, Any] = {"limit": PAGE}
        headers = {"Authorization": self._authorization(caller_id, PLATFORM)}
        while True:
            response = self._event_loop.call(partial(self.client.request, "GET", path, params=query, headers=headers))
            if response.status_code != HTTPStatus.OK:
                raise _error_from_problem(response)
            page = response.json()
            yield from page["items"]
            if page["next"] is None:
                return
            query["cursor"] = page["next"]

    def deliver(self, webhook: Webhook) -> None:
        """Sends a webhook of the payment gateway. A gateway does nothing about the response."""
        request = partial(self.client.request, "POST", "/webhooks/razorpay")
        self._event_loop.call(partial(request, content=webhook.body, headers=webhook.headers))

    def _authorization(self, caller_id: UUID, role: Role) -> str:
        """Returns the header with a user's token, which lives longer than a scenario takes."""
        caller = (caller_id, role)
        if caller not in self._tokens:
            self._tokens[caller] = issue_token(JWT_SECRET, caller_id, role)
        return f"Bearer {self._tokens[caller]}"


class ApiSession:
    """Implements `stakesim.backend.BackendSession`.

    Args:
        api: Sends the requests.
        services: Carries out the actions that the API does not offer, and holds the ids of rows.
        experience_host: Name of the user to whom the experience of all event runs belongs.
    """

    def __init__(self, api: ApiClient, services: ServicesSession, experience_host: str) -> None:
        self._api, self._services, self._experience_host = api, services, experience_host
        self._owners: dict[str, str] = {}  # host of a run or attendee of a booking, by its name in the scenario
        self._payments = services.payments
        self._payments.deliver_by(api.deliver)
        self._keys: set[str] = set()  # that the client has used

    takes_payments = True
    answers_again = True
    survives_reorganisations = True

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
        payment: PaymentBehaviour = "in_time",
    ) -> None:
        """Pays a quote, and sends `POST /event-runs`; as the platform if the experience belongs to another host."""
        terms: dict[str, Any] = {"price_inr": price_inr, "seats": seats, "starts_at": starts_at, "payment": payment}
        self._owners[run] = by
        if signer is not None:
            return self._services.create_run(run, by=by, signer=signer, key=key, **terms)
        body = {
            "experience_id": str(self._services.experience_id),
            "starts_at": local_time(starts_at).isoformat(),
            "max_seats": seats,
            "price_inr": f"{price_inr:f}",
            "host_id": str(self._services.user_ids[by]),
        }
        with as_refused(), self._payments.request(by, payment):
            try:
                caller = by if by == self._experience_host else PLATFORM
                quote = self._pay("/event-runs/calculate-stake", body, caller, "host", payment, key)
                event_run = self._request("POST", "/event-runs", body | quote, caller, "host", key)
                self._services.let_reorganise()
            except InvalidRequest:
                # the API validates before it calls the contract; the services raise the contract's error
                self._services.create_run(run, by=by, signer=None, key=_services_key(key), **terms)
                raise
        self._services.event_run_ids[run] = UUID(event_run["id"])

    def book(
        self,
        booking: str,
        *,
        run: str,
        by: str,
        seats: int,
        signer: LocalAccount | None,
        key: str | None,
        payment: PaymentBehaviour = "in_time",
    ) -> None:
        """Pays a quote, and sends `POST /bookings/create`."""
        self._owners[booking] = by
        terms: dict[str, Any] = {"run": run, "by": by, "seats": seats, "payment": payment}
        if signer is not None:
            return self._services.book(booking, signer=signer, key=key, **terms)
        body = {
            "event_run_id": str(self._services.event_run_ids[run]),
            "seats": seats,
            "user_id": str(self._services.user_ids[by]),
        }
        with as_refused(), self._payments.request(by, payment):
            try:
                quote = self._pay("/bookings/calculate-cost", body, by, "attendee", payment, key)
                row = self._request("POST", "/bookings/create", body | quote, by, "attendee", key)
                self._services.let_reorganise()
            except InvalidRequest:
                self._services.book(booking, signer=None, key=_services_key(key), **terms)
                raise
        self._services.booking_ids[booking] = UUID(row["id"])

    def cancel_booking(self, booking: str, *, by: str, signer: LocalAccount | None, key: str | None) -> None:
        """Sends `POST /bookings/{id}/cancel`."""
        if signer is not None:
            return self._services.cancel_booking(booking, by=by, signer=signer, key=key)
        path = f"/bookings/{self._services.booking_ids[booking]}/cancel"
        with as_refused():
            self._request("POST", path, None, self._owner_or_platform(by, booking), "attendee", key)
        self._services.after_payout()

    def cancel_run(self, run: str, *, by: str, signer: LocalAccount | None, key: str | None) -> None:
        """Sends `PATCH /event-runs/{id}/status`."""
        if signer is not None:
            return self._services.cancel_run(run, by=by, signer=signer, key=key)
        self._change_status(run, "cancelled", self._owner_or_platform(by, run), key)

    def complete(
        self, run: str, *, attended: Sequence[str], by: str, signer: LocalAccount | None, key: str | None
    ) -> None:
        """Sends `POST /bookings/confirm-attendance`."""
        if signer is not None:
            return self._services.complete(run, attended=attended, by=by, signer=signer, key=key)
        body = {
            "event_run_id": str(self._services.event_run_ids[run]),
            "attended_booking_ids": [str(self._services.booking_ids[booking]) for booking in attended],
        }
        with as_refused():
            self._request("POST", "/bookings/confirm-attendance", body, self._owner_or_platform(by, run), "host", key)
        self._services.after_payout()

    def expire(self, run: str, *, by: str, signer: LocalAccount | None, key: str | None) -> None:
        """Sends `PATCH /event-runs/{id}/status`."""
        if signer is not None:
            return self._services.expire(run, by=by, signer=signer, key=key)
        self._change_status(run, "expired", by, key)

    def withdraw(self, *, by: str, to: str | None, signer: LocalAccount, key: str | None) -> None:
        """Calls the services: the API does not offer it."""
        self._services.withdraw(by=by, to=to, signer=signer, key=key)

    def withdraw_fees(self, *, by: str, signer: LocalAccount | None, key: str | None) -> None:
        """Calls the services: the API does not offer it."""
        self._services.withdraw_fees(by=by, signer=signer, key=key)

    def refresh(self, run: str) -> None:
        """Calls the services: the API does not offer it."""
        self._services.refresh(run)

    def rows(self) -> Rows:
        """Reads the rows of event runs and bookings, and asks the API for the same."""
        return self._services.rows()._replace(shown=self._shown())

    def _shown(self) -> Rows:
        """What the API's lists show the platform."""
        platform = self._services.user_ids[PLATFORM]
        runs = list(self._api.read_list("/event-runs", platform))
        onchain_ids = {run["id"]: run["blockchain_event_run_id"] for run in runs}
        names = {str(user_id): name for name, user_id in self._services.user_ids.items()}
        bookings = self._api.read_list("/bookings", platform)
        return Rows(
            [_shown_run(run) for run in runs],
            [_shown_booking(one, onchain_ids[one["event_run_id"]], names[one["user_id"]]) for one in bookings],
        )

    def _change_status(self, run: str, status: str, by: str, key: str | None) -> None:
        path = f"/event-runs/{self._services.event_run_ids[run]}/status"
        with as_refused():
            self._request("PATCH", path, {"status": status}, by, "host", key)
        self._services.after_payout()

    def _pay(
        self, path: str, body: dict[str, Any], by: str, role: Role, how: PaymentBehaviour, key: str | None
    ) -> dict[str, str]:
        """Gets a quote and pays it. Returns the member of the request that names it; none if it is free."""
        quote_id = self._payments.known(key)
        if quote_id is None:
            quote = self._request("POST", path, body, by, role, key and f"{key}-quote")
            if quote["quote_id"] is None:
                return {}
            quote_id = UUID(quote["quote_id"])
            order = self._request("POST", f"/payments/{quote_id}/order", None, by, role, None)
            self._payments.pay(quote_id, order["order_id"], how, key)
        return {"quote_id": str(quote_id)}

    def _owner_or_platform(self, by: str, name: str) -> str:
        """Returns the user if they own this run or booking, and otherwise the platform.

        The API would refuse other users before it calls the contract.
        """
        return by if by == self._owners.get(name) else PLATFORM

    def _request(self, method: str, path: str, body: Any, by: str, role: Role, key: str | None) -> Any:
        role = PLATFORM if by == PLATFORM else role
        if key in self._keys:  # without the response that is kept, the operation alone tells a repeated request
            tidy(self._services.services.database, timedelta(0))
        self._keys.add(key or "")
        return self._api.request_twice(method, path, body, self._services.user_ids[by], role, key)


def _services_key(key: str | None) -> str | None:
    """Returns a separate key for the services, since the API keeps its response under the client's key."""
    return key and f"{key}-services"


def _error_from_problem(response: Response) -> AppError:
    """Returns the error that the problem details describe, as the services would raise it."""
    problem = response.json()
    code, detail = problem.get("code", f"status_{response.status_code}"), problem.get("detail", response.text)
    if code == ContractRejected.code:
        args = [int(arg) if str(arg).isdecimal() else arg for arg in problem["arguments"]]
        return ContractRejected(problem["error"], args, detail, problem["outcome"])
    kinds: tuple[type[AppError], ...] = (InvalidRequest, NotOnChain, NeverOnChain, PriceError, NotPaid, PaymentUnusable)
    error_classes = {kind.code: kind for kind in kinds}
    return error_classes[code](detail) if code in error_classes else UnexpectedResponse(code, detail)


def _shown_run(item: dict[str, Any]) -> RunRow:
    return RunRow(
        item["blockchain_event_run_id"],
        item["blockchain_status"] == "confirmed",
        item["status"],
        Decimal(item["price_inr"]),
        _integer(item["blockchain_price_per_seat_wei"]),
        _integer(item["blockchain_stake_amount_wei"]),
        _decimal(item["inr_per_eth"]),
        item["max_seats"],
        item["seats_booked"],
        int(datetime.fromisoformat(item["starts_at"]).timestamp()),
    )


def _shown_booking(item: dict[str, Any], onchain_run_id: int | None, user: str) -> BookingRow:
    return BookingRow(
        item["blockchain_booking_id"],
        item["blockchain_status"] == "confirmed",
        item["status"],
        item["seats"],
        _decimal(item["total_inr"]),
        _integer(item["blockchain_payment_wei"]),
        _integer(item["blockchain_stake_amount_wei"]),
        _decimal(item["inr_per_eth"]),
        onchain_run_id,
        user,
    )


def _integer(text: str | None) -> int | None:
    return None if text is None else int(text)


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)
