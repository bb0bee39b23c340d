"""Episodes of the network: clients ask for runs and bookings while faults happen between service, node and database;
then all is quiet, and what must hold is checked. The same seed and number give the same episode.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import numpy as np
from app.bootstrap.container import Services
from app.core.errors import AppError, ChainUnavailable, DatabaseUnavailable, KeyReused
from app.services.operation_types import Operation
from app.services.transactions.policy import TransactionPolicy
from app.services.transactions.sender import TransactionSender
from sqlalchemy.exc import InterfaceError, OperationalError
from stakesim.faults.chain_faults import CHAIN_FAULTS, DATABASE_GONE, ChainFaults, ServiceHooks, Stuck
from stakesim.faults.protocol import EpisodeResult, Violation
from stakesim.faults.rpc_faults import FAULTS, FaultyProvider
from stakesim.faults.testbed import MAX_FEE

from stakesim_adapter.faults.checks import OperationsWatch, check
from stakesim_adapter.faults.testbed import EXPERIENCE, USERS, BackendTestbed, open_services, user_id, wallet

BY_CLIENTS = {"too many seats": 19, "same key again": 26, "same key, other request": 26}
"""Mistakes of clients, with their row in the catalogue."""
ROUNDS = 80
"""Blocks, each with a round of the reconciler, after which an operation that is still open stays so."""
UNKNOWN = (ChainUnavailable, DatabaseUnavailable)
"""Errors after which a client does not know whether there was an effect."""


def policy_of(rng: np.random.Generator) -> TransactionPolicy:
    """A random policy. Its times are 0 or endless, so that the wall clock decides nothing."""
    never = 1e9
    return TransactionPolicy(
        confirmations=int(rng.choice([2, 3, 4])),
        max_fee_per_gas=MAX_FEE,
        bump_after=float(rng.choice([0, never], p=[0.25, 0.75])),
        resend_after=0,
        give_up_after=float(rng.choice([0, never], p=[0.3, 0.7])),
        min_pause=0.0001,
        max_pause=0.0003,
    )


class Clients:
    """Users of the services, one request after another.

    Attributes:
        told: What each key was answered: "done", "refused" or "begun"; no entry where it is unknown.
        log: Number of the request to the node, and what happened.
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
        self.told: dict[str, str] = {}
        self.violations: list[Violation] = []
        self.counts: Counter[str] = Counter()
        self.begun: dict[str, tuple[str, Callable[[], Any]]] = {}
        self.queued: list[Operation] = []
        self.log: list[tuple[int, str]] = []
        self._keys = 0

    def play(self) -> None:
        """A random script: a run or two, bookings, cancellations, retries, and the end of the runs."""
        for _ in range(5):
            if not self._runs():
                self.create()
        choices = ("book", "queue", "work", "reconcile", "cancel", "again", "reuse", "create", "greedy")
        weights = np.array([6, 6, 5, 3, 2, 3, 1, 1, 1], dtype=float)
        for _ in range(int(self.rng.integers(8, 15))):
            self.faults.begin()
            match str(self.rng.choice(choices, p=weights / weights.sum())):
                case "book":
                    self.book(wait=True)
                case "queue":
                    for _ in range(int(self.rng.integers(1, 4))):
                        self.book(wait=False)
                case "work":
                    self.work()
                case "reconcile":
                    self.reconcile()
                case "cancel":
                    self.cancel()
                case "again":
                    self.again()
                case "reuse":
                    self.reuse()
                case "create":
                    self.create()
                case "greedy":
                    self.book(wait=True, seats=201)
        self.end()

    # --------------------------------------------------------------------------------------------- what they ask for

    def create(self) -> None:
        key, host = self._key(), int(self.rng.integers(2))
        starts_at = self._now() + timedelta(days=3)
        seats, price = int(self.rng.integers(4, 13)), Decimal(int(self.rng.integers(1, 50)) * 1000)
        self._ask(
            key,
            f"user {host} creates a run of {seats} seats",
            lambda: self.services.runs.create(user_id(host), EXPERIENCE, starts_at, seats, price, idempotency_key=key),
        )

    def book(self, wait: bool, seats: int | None = None) -> None:
        runs = self._runs()
        if not runs:
            return
        key, who = self._key(), int(self.rng.integers(USERS))
        run = runs[int(self.rng.integers(len(runs)))]
        count = seats or int(self.rng.integers(1, 4))
        own = wallet(who) if self.rng.random() < 0.2 and wait else None
        if seats:
            self.counts["too many seats"] += 1
        said = f"user {who} books {count} seats of run {run.blockchain_event_run_id}{', signing' if own else ''}"
        if wait:
            self._ask(
                key,
                said,
                lambda: self.services.bookings.book(run.id, user_id(who), count, signer=own, idempotency_key=key),
            )
        else:
            self._begin(
                key, said, lambda: self.services.bookings.prepare_book(run.id, user_id(who), count, idempotency_key=key)
            )

    def cancel(self) -> None:
        found = self._quietly(lambda: self.services.bookings.list_all()) or []
        active = [b for b in found if b.blockchain_status == "confirmed" and b.status == "active"]
        if not active:
            return
        key, booking = self._key(), active[int(self.rng.integers(len(active)))]
        self._ask(
            key,
            f"booking {booking.blockchain_booking_id} is cancelled",
            lambda: self.services.bookings.cancel(booking.id, idempotency_key=key),
        )

    def again(self) -> None:
        """The client did not hear, or did not listen, and asks once more."""
        if not self.begun:
            return
        key = list(self.begun)[int(self.rng.integers(len(self.begun)))]
        said, ask = self.begun[key]
        self.counts["same key again"] += 1
        self._ask(key, f"{said}, again", ask)

    def reuse(self) -> None:
        """An old key with another request."""
        runs = self._runs()
        keys = [key for key, heard in self.told.items() if heard == "done"]
        if not (runs and keys):
            return
        key = keys[int(self.rng.integers(len(keys)))]
        self.counts["same key, other request"] += 1
        self._note(f"{key}: used for another request")
        try:
            self.services.bookings.prepare_book(runs[0].id, user_id(0), 77, idempotency_key=key)
        except KeyReused:
            return
        except Exception as error:  # noqa: BLE001
            self._unexpected(key, error)
            return
        self.violations.append(Violation("I1", f"{key} was taken again, with another request"))

    def end(self) -> None:
        """Runs are completed, cancelled or left as they are."""
        self.faults.begin()
        for run in self._runs():
            self.faults.begin()
            key, how = self._key(), str(self.rng.choice(["complete", "cancel", "leave"]))
            said = f"{how} run {run.blockchain_event_run_id}"
            if how == "cancel":
                self._ask(key, said, partial(self.services.runs.cancel, run.id, idempotency_key=key))
            elif how == "complete":
                if self.testbed.engine.now() < int(run.starts_at.timestamp()):
                    self.watch.look()
                    self.testbed.engine.set_next_timestamp(int(run.starts_at.timestamp()))
                    self.testbed.mine()
                booked = self._quietly(partial(self.services.bookings.of_run, run.id)) or []
                active = [b.id for b in booked if b.status == "active" and b.blockchain_status == "confirmed"]
                came = [id for id in active if self.rng.random() < 0.7]
                self._ask(
                    key,
                    f"{said}, {len(came)} came",
                    partial(self.services.runs.complete, run.id, came, idempotency_key=key),
                )

    # ------------------------------------------------------------------------------------------------ the service's own

    def work(self) -> None:
        """A worker has one look at some of what is queued, in any order."""
        for at in self.rng.permutation(len(self.queued)):
            try:
                self.queued[at] = self.services.sender.step(self.queued[at])
            except UNKNOWN:
                pass
            except Exception as error:  # noqa: BLE001
                self._unexpected(self.queued[at].key, error)
        self.queued = [operation for operation in self.queued if not operation.closed]

    def reconcile(self) -> None:
        self._note("the reconciler runs")
        try:
            self.services.reconciler.run_once()
        except UNKNOWN:
            pass
        except Exception as error:  # noqa: BLE001
            self._unexpected("reconciler", error)

    # ------------------------------------------------------------------------------------------------------ workings

    def _ask(self, key: str, said: str, ask: Callable[[], Any]) -> None:
        """With some patience: a client that does not know what came of it may ask again."""
        self.begun[key] = said, ask
        for _ in range(int(self.rng.integers(1, 4))):
            self.faults.begin()
            try:
                ask()
            except UNKNOWN as error:
                self._note(f"{key}: {said}: not known yet ({error})")
                continue
            except AppError as error:
                self._note(f"{key}: {said}: refused ({error})")
                self._tell(key, "refused")
            except Exception as error:  # noqa: BLE001
                self._unexpected(key, error)
            else:
                self._note(f"{key}: {said}: done")
                self._tell(key, "done")
            return

    def _begin(self, key: str, said: str, ask: Callable[[], Operation]) -> None:
        self.faults.begin()
        try:
            operation = ask()
        except UNKNOWN as error:
            self._note(f"{key}: {said}: not taken ({error})")
        except AppError as error:
            self._note(f"{key}: {said}: refused ({error})")
            self._tell(key, "refused")
        except Exception as error:  # noqa: BLE001
            self._unexpected(key, error)
        else:
            self._note(f"{key}: {said}: begun")
            self.queued.append(operation)
            self._tell(key, "begun")

    def _tell(self, key: str, heard: str) -> None:
        before = self.told.get(key, heard)
        if before not in (heard, "begun"):
            self.violations.append(Violation("TOLD", f"the client of {key} was told {before!r}, and then {heard!r}"))
        self.told[key] = heard

    def _unexpected(self, key: str, error: Exception) -> None:
        if isinstance(error, OperationalError | InterfaceError) and self._lost_database():
            self._note(f"{key}: the database is gone")
            return
        self._note(f"{key}: {type(error).__name__}: {error}")
        if isinstance(error, Stuck):
            self.violations.append(Violation("I2", f"{key}: {error}"))
            return
        self.violations.append(Violation("TOLD", f"{key}: {type(error).__name__} instead of an error of ours: {error}"))

    def _lost_database(self) -> bool:
        return self.faults.database_is_gone or self.faults.counts[DATABASE_GONE] > 0

    def _quietly(self, ask: Callable[[], Any]) -> Any:
        self.faults.begin()
        try:
            return ask()
        except (OperationalError, InterfaceError):
            return None

    def _runs(self) -> list[Any]:
        found = self._quietly(self.services.runs.list_all) or []
        return [r for r in found if r.blockchain_status == "confirmed" and r.status in ("active", "full")]

    def _key(self) -> str:
        self._keys += 1
        return f"key {self._keys}"

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self.testbed.engine.now(), UTC)

    def _note(self, said: str) -> None:
        self.log.append((self.provider.calls, said))


def play(
    testbed: BackendTestbed, seed: int, number: int, sender: type[TransactionSender] = TransactionSender
) -> EpisodeResult:
    """Plays one episode. sender: what the services send transactions with."""
    began = time.perf_counter()
    testbed.reset()
    of_policy, of_rpc, of_chain, of_clients = (np.random.default_rng([seed, number, part]) for part in range(4))
    policy = policy_of(of_policy)
    watch = OperationsWatch(testbed, policy.confirmations)
    provider = FaultyProvider(testbed.provider(), FAULTS, of_rpc)
    hooks = ServiceHooks(watch.look, watch.sending, testbed.stop_database, testbed.start_database)
    faults = ChainFaults(
        testbed,
        of_chain,
        block_rate=float(of_policy.uniform(0.2, 0.8)),
        rate=float(of_policy.uniform(0.01, 0.06)),
        wanted=_turn(list(CHAIN_FAULTS), number, 2),
        rpc_rate=float(of_policy.uniform(0.05, 0.3)),
        confirmations=policy.confirmations,
        hooks=hooks,
    )
    site, database, others = testbed.site, testbed.site.database(), testbed.site.database()
    try:
        other = open_services(site, provider, policy, others, sender)
        services = open_services(site, provider, policy, database, sender)
        services.reconciler.run_full()
        faults.attach(provider)
        provider.force(*_turn([fault.name for fault in FAULTS], number, 3))
        clients = Clients(testbed, services, watch, faults, provider, of_clients)
        worker = Clients(testbed, other, watch, faults, provider, of_clients)
        hooks.other_worker = worker.reconcile
        clients.play()
        provider.quiet()
        faults.quiet()
        violations = settle(testbed, services, policy.confirmations)
        watch.look()
        violations += check(testbed, services, clients.told, policy.confirmations)
    finally:
        faults.database_back()
        database.dispose()
        others.dispose()
    injected = [(one.call, f"{one.fault.name} ({one.method})") for one in provider.injected]
    log = sorted([*injected, *faults.log, *clients.log, *worker.log], key=lambda entry: entry[0])
    return EpisodeResult(
        f"network:{number}",
        provider.counts + faults.counts + clients.counts,
        watch.violations + clients.violations + worker.violations + violations,
        [f"{policy}", *(f"request {call:4}: {said}" for call, said in log)],
        time.perf_counter() - began,
    )


def settle(testbed: BackendTestbed, services: Services, confirmations: int) -> list[Violation]:
    """Mines blocks and runs the reconciler until no operation is open."""
    for _ in range(ROUNDS):
        testbed.mine()
        try:
            report = services.reconciler.run_once()
        except (OperationalError, InterfaceError):  # a connection of the pool that did not outlive the server
            continue
        if not report.pending:
            break
    for _ in range(confirmations + 1):
        testbed.mine()
        report = services.reconciler.run_once()
    return [Violation("I2", f"trouble though all is quiet: {said}") for said in report.problems]


def _turn(names: list[str], number: int, count: int) -> list[str]:
    """Takes `count` names, so that each has its turn in episodes with successive numbers."""
    return [names[(number * count + i) % len(names)] for i in range(count)]
