"""Draws the steps of an episode: what clients ask, and what the service does by itself.

Reads the database without faults, and past the services, so that a replay, which draws nothing, goes the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from app.db.tables import event_run_bookings, event_runs, operations
from app.services.interventions import COMMANDS
from app.services.operation_types import CLOSED_STATES
from sqlalchemy import select
from stakesim.generate.payment_draws import ODD_PAYMENTS

from stakesim_adapter.faults.checks import ClientResponse
from stakesim_adapter.faults.clients import TOO_MANY_SEATS, Clients
from stakesim_adapter.faults.testbed import USERS

Args = dict[str, Any]
WEIGHTS: Mapping[str, float] = {
    "book": 6,
    "prepare_booking": 8,
    "step_operations": 6,
    "reconcile": 3,
    "cancel_booking": 2,
    "repeat_request": 3,
    "reuse_key": 1,
    "create_run": 1,
    "intervene": 4,
    "pause": 1,
}
"""How often each kind of step is drawn, in proportion; each episode multiplies them by random factors."""

PAID_STEPS = ("create_run", "book", "prepare_booking")
ODD_PAYMENT_RATE, WEBHOOKS_RATE = 0.3, 0.4
"""Share of requests that are paid in an odd way, and of steps after which webhooks come."""
COMMAND_WEIGHTS = (0.2, 0.6, 0.2)
"""Share of each of `COMMANDS`."""
ROUNDS_ALONE = 12
"""Number of blocks for which the service is left alone while a fault goes on."""

_RUNS = (
    select(operations.c.key)
    .join(event_runs, event_runs.c.id == operations.c.subject)
    .where(operations.c.kind.startswith("createEventRun"), event_runs.c.blockchain_status == "confirmed")
    .where(event_runs.c.status.in_(("active", "full")))
    .order_by(event_runs.c.created_at)
)
_BOOKINGS = (
    select(operations.c.key, event_run_bookings.c.event_run_id)
    .join(event_run_bookings, event_run_bookings.c.id == operations.c.subject)
    .where(operations.c.kind.startswith("bookEvent"), event_run_bookings.c.blockchain_status == "confirmed")
    .where(event_run_bookings.c.status == "active")
    .order_by(event_run_bookings.c.created_at)
)
_OPEN = select(operations.c.key).where(operations.c.state.not_in(CLOSED_STATES)).order_by(operations.c.created_at)
_RUN_OF_KEY = select(operations.c.key, operations.c.subject)


class RandomStep(NamedTuple):
    """A step that was drawn."""

    do: str
    args: Args


class RandomSteps:
    """Draws one step after another, each from the state that the one before has left.

    Args:
        rng: Source of all choices.
        clients: What the steps are for.
        waits: Whether the service is left alone before the runs are closed.
        payments_rng: Source of how clients pay, and of when webhooks come; None if nobody pays.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        clients: Clients,
        *,
        waits: bool = False,
        payments_rng: np.random.Generator | None = None,
    ) -> None:
        self._rng, self._clients, self._waits, self._payments_rng = rng, clients, waits, payments_rng
        self._key_count = 0
        self._draws: dict[str, Callable[[], Args | None]] = {
            "book": self._book,
            "prepare_booking": self._prepare_booking,
            "step_operations": self._step_operations,
            "reconcile": lambda: self._served({"rounds": int(self._rng.integers(1, 5))}),
            "cancel_booking": self._cancel_booking,
            "repeat_request": self._repeat_request,
            "reuse_key": self._reuse_key,
            "create_run": self._create_run,
            "intervene": self._intervene,
            "pause": lambda: self._served({"rounds": int(self._rng.integers(1, 4))}),
        }

    def __iter__(self) -> Iterator[RandomStep]:
        """Draws the steps, and how what they ask for is paid; between them, webhooks come."""
        rng = self._payments_rng
        for step in self._steps():
            if rng is None:
                yield step
                continue
            odd = step.do in PAID_STEPS and rng.random() < ODD_PAYMENT_RATE
            yield RandomStep(step.do, step.args | {"pays": str(rng.choice(ODD_PAYMENTS))}) if odd else step
            if rng.random() < WEBHOOKS_RATE:
                yield RandomStep("deliver_webhooks", {"order": int(rng.integers(2**31))})

    def _steps(self) -> Iterator[RandomStep]:
        """Creates runs, then 8 to 16 random steps, then completes, cancels or leaves each run."""
        for _ in range(5):
            if not self._open_runs():
                yield RandomStep("create_run", self._create_run())
        weights = np.array(list(WEIGHTS.values())) * self._rng.exponential(size=len(WEIGHTS))
        for _ in range(int(self._rng.integers(8, 17))):
            do = str(self._rng.choice(list(WEIGHTS), p=weights / weights.sum()))
            if do == "pause" and (booking := self._prepare_booking()):  # so that an order waits
                yield RandomStep("prepare_booking", booking)
            args = self._draws[do]()
            if args is not None:
                yield RandomStep(do, args)
        if self._waits:
            yield RandomStep("leave_alone", {"rounds": ROUNDS_ALONE})
        for run in self._open_runs():
            match self._one_of(["complete", "cancel", "leave"]):
                case "cancel":
                    yield RandomStep("cancel_run", self._sent({"run": run}))
                case "complete":
                    attended = [key for key in self._active_bookings(run) if self._rng.random() < 0.7]
                    yield RandomStep("complete_run", self._sent({"run": run, "attended": attended}))

    # ------------------------------------------------------------------------------------------------------ requests

    def _create_run(self) -> Args:
        seats, price_inr = int(self._rng.integers(4, 13)), int(self._rng.integers(1, 50)) * 1000
        return self._sent({"host": int(self._rng.integers(2)), "seats": seats, "price_inr": price_inr})

    def _booking(self) -> Args | None:
        """Arguments of a booking; one in twelve is of more seats than a run may have."""
        runs = self._open_runs()
        if not runs:
            return None
        seats = TOO_MANY_SEATS if self._rng.random() < 1 / 12 else int(self._rng.integers(1, 4))
        return {"user": int(self._rng.integers(USERS)), "run": self._one_of(runs), "seats": seats}

    def _book(self) -> Args | None:
        booking = self._booking()
        return booking and self._sent(booking | ({"signs": True} if self._rng.random() < 0.2 else {}))

    def _prepare_booking(self) -> Args | None:
        booking = self._booking()
        return booking and self._served({"key": self._new_key(), **booking})

    def _cancel_booking(self) -> Args | None:
        bookings = self._active_bookings()
        return self._sent({"booking": self._one_of(bookings)}) if bookings else None

    def _repeat_request(self) -> Args | None:
        keys = list(self._clients.requests)
        return self._served({"key": self._one_of(keys), "tries": int(self._rng.integers(1, 4))}) if keys else None

    def _reuse_key(self) -> Args | None:
        done = [key for key, response in self._clients.responses.items() if response == ClientResponse.DONE]
        runs = self._open_runs()
        return {"key": self._one_of(done), "run": runs[0]} if done and runs else None

    def _step_operations(self) -> Args | None:
        keys = [str(key) for key in self._rng.permutation(list(self._clients.open_operations))]
        return self._served({"keys": keys}) if keys else None

    def _intervene(self) -> Args | None:
        """An operator's command about an open operation."""
        self._clients.faults.restore_database()
        with self._clients.testbed.observer.connect() as connection:
            keys = list(connection.scalars(_OPEN))
        if not keys:
            return None
        command = str(self._rng.choice(COMMANDS, p=COMMAND_WEIGHTS))
        return self._served({"key": self._one_of(keys), "command": command})

    # ------------------------------------------------------------------------------------------------------- helpers

    def _sent(self, args: Args) -> Args:
        """The arguments of a request with a new key, which the client sends one to three times."""
        return self._served({"key": self._new_key(), **args, "tries": int(self._rng.integers(1, 4))})

    def _served(self, args: Args) -> Args:
        """One in five steps is served by another process than the first."""
        other = self._rng.random() < 0.2
        return args | ({"service": int(self._rng.integers(1, len(self._clients.services)))} if other else {})

    def _new_key(self) -> str:
        self._key_count += 1
        return f"key {self._key_count}"

    def _one_of(self, items: list[str]) -> str:
        return items[int(self._rng.integers(len(items)))]

    def _open_runs(self) -> list[str]:
        """Keys of the runs that are open."""
        self._clients.faults.restore_database()
        with self._clients.testbed.observer.connect() as connection:
            return list(connection.scalars(_RUNS))

    def _active_bookings(self, run: str | None = None) -> list[str]:
        """Keys of the active bookings, of one run or of all."""
        self._clients.faults.restore_database()
        with self._clients.testbed.observer.connect() as connection:
            bookings = connection.execute(_BOOKINGS).all()
            subjects = {row.key: row.subject for row in connection.execute(_RUN_OF_KEY)}
        return [key for key, run_id in bookings if run is None or run_id == subjects.get(run)]
