"""Clients of the services during an episode: they send random requests, repeat them after faults, record responses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from app.bootstrap.container import Services
from app.core.errors import AppError, ChainUnavailable, DatabaseUnavailable, KeyReused
from app.db.tables import Booking, EventRun
from app.services.operation_types import Operation
from stakesim.faults.chain_faults import ChainFaults, ServiceStuckError
from stakesim.faults.faulty_provider import FaultyProvider
from stakesim.faults.protocol import Violation

from stakesim_adapter.faults.checks import ClientResponse
from stakesim_adapter.faults.testbed import EXPERIENCE, USERS, BackendTestbed, user_id, wallet
from stakesim_adapter.faults.watch import OperationsWatch

CLIENT_FAULTS = {"too many seats": 19, "same key again": 26, "same key, other request": 26}
"""Mistakes of clients, with their row in the catalogue."""
OUTCOME_UNKNOWN = (ChainUnavailable, DatabaseUnavailable)
"""Errors that do not tell a client whether the request had an effect."""
TOO_MANY_SEATS = 201
"""More seats than a run may have."""


class _Booking(NamedTuple):
    """A booking to request."""

    key: str
    user: int  # number of the user
    run: EventRun
    seats: int
    signs: bool  # with the user's wallet, if they have one


class Clients:
    """Users of the services, who send one request after another.

    Attributes:
        responses: Last response by key; no entry for a key without a response.
        violations: Responses that contradict each other, and errors of other types than the backend's own.
        counts: How often each of `CLIENT_FAULTS` happened.
        log: Events, each with the number of RPC requests before it.
    """

    def __init__(
        self,
        testbed: BackendTestbed,
        services: Services,
        watch: OperationsWatch,
        faults: ChainFaults,
        provider: FaultyProvider,
        rng: np.random.Generator,
    ) -> None:
        self.testbed, self.services, self.watch = testbed, services, watch
        self.faults, self.provider, self.rng = faults, provider, rng
        self.responses: dict[str, ClientResponse] = {}
        self.violations: list[Violation] = []
        self.counts: Counter[str] = Counter()
        self.log: list[tuple[int, str]] = []
        self._requests: dict[str, tuple[str, Callable[[], Any]]] = {}  # description and call, by key
        self._open_operations: list[Operation] = []
        self._key_count = 0

    def run_script(self) -> None:
        """Creates runs, sends 8 to 14 random requests, and closes the runs."""
        requests: dict[str, tuple[float, Callable[[], None]]] = {
            "book": (6, self.book),
            "prepare bookings": (6, self.prepare_bookings),
            "step operations": (5, self.step_operations),
            "reconcile": (3, self.reconcile),
            "cancel booking": (2, self.cancel_booking),
            "repeat a request": (3, self.repeat_request),
            "reuse a key": (1, self.reuse_key),
            "create run": (1, self.create_run),
            "book too many seats": (1, self.book_too_many_seats),
        }
        weights = np.array([weight for weight, _ in requests.values()])
        for _ in range(5):
            if not self._open_runs():
                self.create_run()
        for _ in range(int(self.rng.integers(8, 15))):
            self.faults.begin_operation()
            name = str(self.rng.choice(list(requests), p=weights / weights.sum()))
            _, send = requests[name]
            send()
        self.close_runs()

    # ------------------------------------------------------------------------------------------------------ requests

    def create_run(self) -> None:
        """A host creates a run that starts in three days."""
        key, host = self._new_key(), int(self.rng.integers(2))
        starts_at = datetime.fromtimestamp(self.testbed.engine.now(), UTC) + timedelta(days=3)
        seats, price_inr = int(self.rng.integers(4, 13)), Decimal(int(self.rng.integers(1, 50)) * 1000)
        self._request(
            key,
            f"user {host} creates a run of {seats} seats",
            lambda: self.services.runs.create(
                user_id(host), EXPERIENCE, starts_at, seats, price_inr, idempotency_key=key
            ),
        )

    def book(self) -> None:
        """Books and waits. One in five attendees with a wallet signs with it."""
        self._book()

    def book_too_many_seats(self) -> None:
        """Books more seats than a run may have."""
        if self._book(TOO_MANY_SEATS):
            self.counts["too many seats"] += 1

    def prepare_bookings(self) -> None:
        """Books one to three times without waiting."""
        for _ in range(int(self.rng.integers(1, 4))):
            if (booking := self._random_booking()) is None:
                continue
            key, user, run, seats, _ = booking
            self._request_without_waiting(
                key,
                f"user {user} books {seats} seats of run {run.blockchain_event_run_id}",
                partial(self.services.bookings.prepare_book, run.id, user_id(user), seats, idempotency_key=key),
            )

    def cancel_booking(self) -> None:
        """Cancels a random active booking."""
        bookings: list[Booking] = self._query(self.services.bookings.list_all) or []
        active = [b for b in bookings if b.blockchain_status == "confirmed" and b.status == "active"]
        if not active:
            return
        key, booking = self._new_key(), active[int(self.rng.integers(len(active)))]
        self._request(
            key,
            f"booking {booking.blockchain_booking_id} is cancelled",
            lambda: self.services.bookings.cancel(booking.id, idempotency_key=key),
        )

    def repeat_request(self) -> None:
        """Sends an earlier request again with its key, like a client that got no response."""
        if not self._requests:
            return
        key = list(self._requests)[int(self.rng.integers(len(self._requests)))]
        description, send = self._requests[key]
        self.counts["same key again"] += 1
        self._request(key, f"{description}, again", send)

    def reuse_key(self) -> None:
        """Sends another request with an old key, which the services must refuse."""
        runs = self._open_runs()
        done_keys = [key for key, response in self.responses.items() if response == ClientResponse.DONE]
        if not (runs and done_keys):
            return
        key = done_keys[int(self.rng.integers(len(done_keys)))]
        self.counts["same key, other request"] += 1
        self._note(f"{key}: used for another request")
        try:
            self.services.bookings.prepare_book(runs[0].id, user_id(0), 77, idempotency_key=key)
        except KeyReused:
            return
        except Exception as error:  # noqa: BLE001 - every other error is a violation
            self._report_unexpected(key, error)
            return
        self.violations.append(Violation("I1", f"{key} was accepted again, with another request"))

    def close_runs(self) -> None:
        """Completes each run, cancels it, or leaves it open."""
        self.faults.begin_operation()
        for run in self._open_runs():
            self.faults.begin_operation()
            key, how = self._new_key(), str(self.rng.choice(["complete", "cancel", "leave"]))
            if how == "cancel":
                send = partial(self.services.runs.cancel, run.id, idempotency_key=key)
                self._request(key, f"cancel run {run.blockchain_event_run_id}", send)
            elif how == "complete":
                self._complete(run, key)

    def _complete(self, run: EventRun, key: str) -> None:
        """Completes a run after its start. About 70% of its bookings attended."""
        if self.testbed.engine.now() < int(run.starts_at.timestamp()):
            self.watch.check_operations()
            self.testbed.engine.set_next_timestamp(int(run.starts_at.timestamp()))
            self.testbed.mine()
        bookings: list[Booking] = self._query(partial(self.services.bookings.of_run, run.id)) or []
        active = [b.id for b in bookings if b.status == "active" and b.blockchain_status == "confirmed"]
        attended_booking_ids = [booking_id for booking_id in active if self.rng.random() < 0.7]
        self._request(
            key,
            f"complete run {run.blockchain_event_run_id}, {len(attended_booking_ids)} attended",
            partial(self.services.runs.complete, run.id, attended_booking_ids, idempotency_key=key),
        )

    # ------------------------------------------------------------------------------------ background work of a service

    def step_operations(self) -> None:
        """Steps each open operation once, in random order, as a worker does."""
        for index in self.rng.permutation(len(self._open_operations)):
            try:
                self._open_operations[index] = self.services.sender.step(self._open_operations[index])
            except OUTCOME_UNKNOWN:
                pass
            except Exception as error:  # noqa: BLE001 - every other error is a violation
                self._report_unexpected(self._open_operations[index].key, error)
        self._open_operations = [operation for operation in self._open_operations if not operation.closed]

    def reconcile(self) -> None:
        """Runs one round of the reconciler."""
        self._note("the reconciler runs")
        try:
            self.services.reconciler.run_once()
        except OUTCOME_UNKNOWN:
            pass
        except Exception as error:  # noqa: BLE001 - every other error is a violation
            self._report_unexpected("reconciler", error)

    # ------------------------------------------------------------------------------------------------------- sending

    def _request(self, key: str, description: str, send: Callable[[], Any]) -> None:
        """Sends a request up to three times, until its outcome is known."""
        self._requests[key] = description, send
        for _ in range(int(self.rng.integers(1, 4))):
            self.faults.begin_operation()
            try:
                send()
            except OUTCOME_UNKNOWN as error:
                self._note(f"{key}: {description}: not known yet ({error})")
                continue
            except AppError as error:
                self._note(f"{key}: {description}: refused ({error})")
                self._record_response(key, ClientResponse.REFUSED)
            except Exception as error:  # noqa: BLE001 - every other error is a violation
                self._report_unexpected(key, error)
            else:
                self._note(f"{key}: {description}: done")
                self._record_response(key, ClientResponse.DONE)
            return

    def _request_without_waiting(self, key: str, description: str, prepare: Callable[[], Operation]) -> None:
        self.faults.begin_operation()
        try:
            operation = prepare()
        except OUTCOME_UNKNOWN as error:
            self._note(f"{key}: {description}: not accepted ({error})")
        except AppError as error:
            self._note(f"{key}: {description}: refused ({error})")
            self._record_response(key, ClientResponse.REFUSED)
        except Exception as error:  # noqa: BLE001 - every other error is a violation
            self._report_unexpected(key, error)
        else:
            self._note(f"{key}: {description}: accepted")
            self._open_operations.append(operation)
            self._record_response(key, ClientResponse.ACCEPTED)

    def _query(self, read: Callable[[], Any]) -> Any:
        """Returns the result of a query; None if the database does not answer."""
        self.faults.begin_operation()
        try:
            return read()
        except DatabaseUnavailable:
            return None

    def _record_response(self, key: str, response: ClientResponse) -> None:
        """Records a response. Only ACCEPTED may be followed by another response."""
        earlier = self.responses.get(key, response)
        if earlier not in (response, ClientResponse.ACCEPTED):
            message = f"the response to {key} was {earlier.value!r}, and then {response.value!r}"
            self.violations.append(Violation("CLIENT", message))
        self.responses[key] = response

    def _report_unexpected(self, key: str, error: Exception) -> None:
        """Reports an error that the services must not raise."""
        self._note(f"{key}: {type(error).__name__}: {error}")
        if isinstance(error, ServiceStuckError):
            self.violations.append(Violation("I2", f"{key}: {error}"))
            return
        message = f"{key}: {type(error).__name__} instead of an error of the backend's own: {error}"
        self.violations.append(Violation("CLIENT", message))

    # ------------------------------------------------------------------------------------------------ random choices

    def _book(self, seats: int | None = None) -> bool:
        """Books and waits. Returns False if no run is open."""
        if (booking := self._random_booking(seats)) is None:
            return False
        key, user, run, seats, signs = booking
        signer = wallet(user) if signs else None
        self._request(
            key,
            f"user {user} books {seats} seats of run {run.blockchain_event_run_id}{', signing' if signer else ''}",
            partial(self.services.bookings.book, run.id, user_id(user), seats, signer=signer, idempotency_key=key),
        )
        return True

    def _random_booking(self, seats: int | None = None) -> _Booking | None:
        runs = self._open_runs()
        if not runs:
            return None
        key, user = self._new_key(), int(self.rng.integers(USERS))
        run = runs[int(self.rng.integers(len(runs)))]
        seats = seats or int(self.rng.integers(1, 4))
        return _Booking(key, user, run, seats, signs=bool(self.rng.random() < 0.2))

    def _open_runs(self) -> list[EventRun]:
        runs: list[EventRun] = self._query(self.services.runs.list_all) or []
        return [run for run in runs if run.blockchain_status == "confirmed" and run.status in ("active", "full")]

    def _new_key(self) -> str:
        self._key_count += 1
        return f"key {self._key_count}"

    def _note(self, event: str) -> None:
        self.log.append((self.provider.request_count, event))
