"""Clients of the services during an episode: they send requests, repeat them after faults, record responses.

Each step of an episode is a method of `Clients`, and its arguments are data. `random_steps` draws them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID

from app.api.readiness import look_at_database, look_at_node
from app.bootstrap.services import Services
from app.core.errors import (
    AppError,
    ChainUnavailable,
    DatabaseUnavailable,
    GatewayUnavailable,
    InterventionRefused,
    KeyReused,
    NotPaid,
)
from app.db.database import Database
from app.db.tables import event_runs, operations
from app.services.interventions import Interventions
from app.services.operation_types import CLOSED_STATES, HeldCause, Operation
from app.services.pause import pause, resume
from app.services.transactions.limits import ORDERS
from sqlalchemy import select
from stakesim.faults.chain_faults import ChainFaults, ServiceStuckError
from stakesim.faults.protocol import Violation
from stakesim.scenario.base_action import PaymentBehaviour

from stakesim_adapter.faults.checks import ClientResponse
from stakesim_adapter.faults.payers import Payers
from stakesim_adapter.faults.testbed import EXPERIENCE, BackendTestbed, user_id, wallet
from stakesim_adapter.faults.watch import OperationsWatch

CLIENT_FAULTS = {"too many seats": 19, "same key again": 26, "same key, other request": 26}
"""Mistakes of clients, with their row in the catalogue."""
OUTCOME_UNKNOWN = (ChainUnavailable, DatabaseUnavailable, GatewayUnavailable, NotPaid)
"""Errors that do not tell a client whether the request had an effect, or will have one if it is repeated."""
TOO_MANY_SEATS = 201
"""More seats than a run may have."""
AT_ONCE = timedelta(0)


class Clients:
    """Users of the services, who send one request after another.

    Args:
        testbed: Chain and database.
        services: The services of each process, on the same database. Clients wait for the first one; each step can name
            another.
        watch: Checks of the operations.
        faults: Blocks and faults around the requests.

    Attributes:
        requests: Description and call of each request, by key.
        open_operations: Operations that nobody waits for, as the service last returned them, by key.
        responses: Last response by key; no entry for a key without a response.
        violations: Responses that contradict each other, and errors of other types than the backend's own.
        counts: How often each of `CLIENT_FAULTS` happened.
        above_limits: How many operations an operator found above a limit.
        log: Events, each with the number of RPC requests before it.
    """

    def __init__(
        self, testbed: BackendTestbed, services: Sequence[Services], watch: OperationsWatch, faults: ChainFaults
    ) -> None:
        self.testbed, self.services, self.watch, self.faults = testbed, services, watch, faults
        self.requests: dict[str, tuple[str, Callable[[Services], Any]]] = {}
        self.open_operations: dict[str, Operation] = {}
        self.responses: dict[str, ClientResponse] = {}
        self.violations: list[Violation] = []
        self.counts: Counter[str] = Counter()
        self.log: list[tuple[int, str]] = []
        self.above_limits = 0
        self.payers = Payers(testbed.stand_in)
        self._serving = 0

    def perform(self, do: str, args: Mapping[str, Any]) -> None:
        """Performs a step: the method of this name, with these arguments."""
        self.faults.begin_operation()
        self._serving = args.get("service", 0)
        getattr(self, do)(**args)

    def run_other_worker(self) -> None:
        """Runs a round of the reconciler in the next process after the one that is at work."""
        self.reconcile((self._serving + 1) % len(self.services))

    # ------------------------------------------------------------------------------------------------------ requests

    def create_run(
        self,
        key: str,
        host: int,
        seats: int,
        price_inr: int,
        tries: int = 1,
        service: int = 0,
        pays: PaymentBehaviour = "in_time",
    ) -> None:
        """A host creates a run that starts in three days."""
        starts_at = datetime.fromtimestamp(self.testbed.engine.now(), UTC) + timedelta(days=3)
        terms = (user_id(host), EXPERIENCE, starts_at, seats, Decimal(price_inr))

        def create(services: Services) -> None:
            quote_id = self.payers.pay(services, key, pays, lambda: services.runs.quote_stake(*terms)[1])
            services.runs.create(*terms, idempotency_key=key, quote_id=quote_id)

        self._request(key, f"user {host} creates a run of {seats} seats, paid {pays}", create, tries, service)

    def book(
        self,
        key: str,
        user: int,
        run: str,
        seats: int,
        signs: bool = False,
        tries: int = 1,
        service: int = 0,
        pays: PaymentBehaviour = "in_time",
    ) -> None:
        """Books and waits; the attendee signs with their own wallet, or the platform does. `run` is a run's key."""
        if (run_id := self._subject(run)) is None:
            return
        self.counts["too many seats"] += seats == TOO_MANY_SEATS
        signer, terms = wallet(user) if signs else None, (run_id, user_id(user), seats)

        def book(services: Services) -> None:
            quote_id = None if signer else self._pay_booking(services, key, pays, terms)
            services.bookings.book(*terms, signer=signer, idempotency_key=key, quote_id=quote_id)

        how = "signing" if signer else f"paid {pays}"
        self._request(key, f"user {user} books {seats} seats of run {run!r}, {how}", book, tries, service)

    def prepare_booking(
        self, key: str, user: int, run: str, seats: int, service: int = 0, pays: PaymentBehaviour = "in_time"
    ) -> None:
        """Books without waiting."""
        if (run_id := self._subject(run)) is None:
            return
        description = f"user {user} books {seats} seats of run {run!r}, without waiting, paid {pays}"
        services, terms = self.services[service], (run_id, user_id(user), seats)
        try:
            quote_id = self._pay_booking(services, key, pays, terms)
            operation = services.bookings.prepare_book(*terms, idempotency_key=key, quote_id=quote_id)
        except OUTCOME_UNKNOWN as error:
            self._note(f"{key}: {description}: not accepted ({error})")
        except AppError as error:
            self._note(f"{key}: {description}: refused ({error})")
            self._record_response(key, ClientResponse.REFUSED)
        except Exception as error:  # noqa: BLE001 - every other error is a violation
            self._report_unexpected(key, error)
        else:
            self._note(f"{key}: {description}: accepted")
            self.open_operations[key] = operation
            self._record_response(key, ClientResponse.ACCEPTED)

    def _pay_booking(
        self, services: Services, key: str, pays: PaymentBehaviour, terms: tuple[UUID, UUID, int]
    ) -> UUID | None:
        return self.payers.pay(services, key, pays, lambda: services.bookings.quote_to_pay(*terms)[1])

    def deliver_webhooks(self, order: int, service: int = 0) -> None:
        """The gateway's webhooks come that have not come yet, in the order of a seed."""
        self._note(f"webhooks come: {len(self.payers.webhooks)}")
        self._guarded("webhooks", lambda: self.payers.deliver(self.services[service], order))

    def cancel_booking(self, key: str, booking: str, tries: int = 1, service: int = 0) -> None:
        """Cancels the booking of a key."""
        if (booking_id := self._subject(booking)) is not None:
            self._request(
                key,
                f"booking {booking!r} is cancelled",
                lambda services: services.bookings.cancel(booking_id, idempotency_key=key),
                tries,
                service,
            )

    def repeat_request(self, key: str, tries: int = 1, service: int = 0) -> None:
        """Sends an earlier request again with its key, like a client that got no response."""
        if key in self.requests:
            description, send = self.requests[key]
            self.counts["same key again"] += 1
            self._request(key, f"{description}, again", send, tries, service)

    def reuse_key(self, key: str, run: str, service: int = 0) -> None:
        """Sends another request with an old key, which the services must refuse."""
        if (run_id := self._subject(run)) is None or self.responses.get(key) != ClientResponse.DONE:
            return
        self.counts["same key, other request"] += 1
        self._note(f"{key}: used for another request")
        try:
            self.services[service].bookings.prepare_book(run_id, user_id(0), 77, idempotency_key=key)
        except KeyReused:
            return
        except Exception as error:  # noqa: BLE001 - every other error is a violation
            self._report_unexpected(key, error)
            return
        self.violations.append(Violation("I1", f"{key} was accepted again, with another request"))

    def cancel_run(self, key: str, run: str, tries: int = 1, service: int = 0) -> None:
        """Cancels the run of a key."""
        if (run_id := self._subject(run)) is not None:
            self._request(
                key,
                f"run {run!r} is cancelled",
                lambda services: services.runs.cancel(run_id, idempotency_key=key),
                tries,
                service,
            )

    def complete_run(self, key: str, run: str, attended: Sequence[str], tries: int = 1, service: int = 0) -> None:
        """Completes a run after its start; `attended` are the keys of bookings."""
        if (run_id := self._subject(run)) is None:
            return
        with self.testbed.observer.connect() as connection:
            starts_at = connection.scalars(select(event_runs.c.starts_at).where(event_runs.c.id == run_id)).one()
        if self.testbed.engine.now() < int(starts_at.timestamp()):
            self.watch.check_operations()
            self.testbed.engine.set_next_timestamp(int(starts_at.timestamp()))
            self.testbed.mine()
        booking_ids = [booking_id for booking in attended if (booking_id := self._subject(booking)) is not None]
        self._request(
            key,
            f"run {run!r} is completed, {len(booking_ids)} attended",
            lambda services: services.runs.complete(run_id, booking_ids, idempotency_key=key),
            tries,
            service,
        )

    # ------------------------------------------------------------------------------------ background work of a service

    def step_operations(self, keys: Sequence[str], service: int = 0) -> None:
        """Steps open operations once, as a worker does that has read them earlier."""
        for key in keys:
            if key not in self.open_operations:
                continue
            self._guarded(key, partial(self._step, key, service))

    def _step(self, key: str, service: int) -> None:
        operation = self.open_operations[key] = self.services[service].sender.step(self.open_operations[key])
        if operation.closed:
            del self.open_operations[key]

    def reconcile(self, service: int = 0, rounds: int = 1) -> None:
        """Runs rounds of the reconciler."""
        for _ in range(rounds):
            self._note(f"the reconciler of service {service} runs")
            self._guarded("reconciler", lambda: self.services[service].reconciler.run_once(AT_ONCE))

    def pause(self, rounds: int, service: int = 0) -> None:
        """An operator pauses the service for some rounds of the reconciler, in which no order may be signed."""
        self._note(f"an operator pauses the service for {rounds} rounds")
        self.faults.restore_database()
        database = Database(self.testbed.database)
        pause(database, "operator")
        unsigned = self._unsigned_orders()
        self.reconcile(service, rounds)
        self.step_operations(list(self.open_operations), service)
        self.faults.restore_database()
        signed = unsigned - self._unsigned_orders()
        self.violations += [Violation("I8", f"{key} was signed during a pause") for key in sorted(signed)]
        resume(database, "operator")

    def _unsigned_orders(self) -> set[str]:
        """Keys of the orders that have never had a transaction, whether they are open or not."""
        with self.testbed.observer.connect() as connection:
            rows = connection.execute(select(operations.c.key, operations.c.kind, operations.c.attempts)).all()
        return {row.key for row in rows if row.kind in ORDERS and not row.attempts}

    def intervene(self, key: str, command: str, service: int = 0) -> None:
        """An operator retries, cancels or abandons the operation of a key."""
        self._note(f"{key}: an operator wants to {command} it")
        self._guarded(key, partial(self._intervene, key, command, service))

    def _intervene(self, key: str, command: str, service: int) -> None:
        services = self.services[service]
        operator = Interventions(services.w3, services.database, services.sender, "operator")
        try:
            outcome = getattr(operator, command)(key)
        except InterventionRefused as error:
            self._note(f"{key}: {error}")
        else:
            self._note(f"{key}: {outcome.sentence}")

    def carry_on_abandoned(self) -> None:
        """An operator takes up again what was abandoned, so that it comes to its end."""
        abandoned = select(operations.c.key).where(
            operations.c.abandoned_at.is_not(None), operations.c.state.not_in(CLOSED_STATES)
        )
        with self.testbed.observer.connect() as connection:
            keys = connection.scalars(abandoned).all()
        for key in keys:
            self.intervene(key, "retry")

    def decide_above_limits(self) -> None:
        """An operator approves one of the operations above a limit, and cancels the next, by turns.

        What is not paid for any more, as the payment is disputed, is cancelled.
        """
        held = select(operations.c.key, operations.c.held_cause).where(
            operations.c.state == "prepared",
            operations.c.held_cause.in_((HeldCause.ABOVE_LIMIT, HeldCause.UNPAID)),
        )
        with self.testbed.observer.connect() as connection:
            rows = connection.execute(held.order_by(operations.c.created_at)).all()
        for key, cause in rows:
            if cause == HeldCause.UNPAID:
                self.intervene(key, "cancel")
                continue
            self.above_limits += 1
            self.intervene(key, "cancel" if self.above_limits % 2 else "approve")

    def leave_alone(self, rounds: int) -> None:
        """Each service runs so many rounds of the reconciler, a block and a minute apart.

        What has made no progress by then must be held with a reason, or the service must say that it is not ready.
        """
        before = self.watch.progress()
        for _ in range(rounds):
            self.faults.begin_operation()
            self.faults.mine()
            self.faults.clock.sleep(60)
            for service in range(len(self.services)):
                self._serving = service
                self.reconcile(service)
        self.faults.begin_operation()
        silent = [key for key, seen in self.watch.progress().items() if before.get(key) == seen and not seen.held]
        problems = self._readiness() if silent else []
        if silent and not problems:
            message = f"{', '.join(silent)} made no progress in {rounds} rounds, and nothing says why"
            self.violations.append(Violation("SAID", message))
        self._note(f"left alone for {rounds} rounds: {silent} not held; {problems}")

    def _readiness(self) -> list[str]:
        """What `/ready` says about the first service."""
        services = self.services[0]
        chain_id = self.testbed.w3.eth.chain_id
        problems = [*look_at_database(services), *look_at_node(services, chain_id), *services.health.problems()]
        return [f"{problem.check}: {problem.message}" for problem in problems]

    # ------------------------------------------------------------------------------------------------------- sending

    def _request(self, key: str, description: str, send: Callable[[Services], Any], tries: int, service: int) -> None:
        """Sends a request up to `tries` times, until its outcome is known."""
        self.requests[key] = description, send
        for _ in range(tries):
            self.faults.begin_operation()
            try:
                send(self.services[service])
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

    def _guarded(self, key: str, work: Callable[[], Any]) -> None:
        try:
            work()
        except OUTCOME_UNKNOWN:
            pass
        except Exception as error:  # noqa: BLE001 - every other error is a violation
            self._report_unexpected(key, error)

    def _subject(self, key: str) -> UUID | None:
        """Id of the row that the operation of a key is about; None if there is none yet. Read without faults."""
        with self.testbed.observer.connect() as connection:
            statement = select(operations.c.subject).where(operations.c.key == key)
            return connection.execute(statement).scalar_one_or_none()

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

    def _note(self, event: str) -> None:
        self.log.append((self.faults.provider.request_count, event))
