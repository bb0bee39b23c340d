"""Whatever rows, requests and restarts, in whatever order: the wallet loses no more in a day than the limits allow.

What was lost is read from the chain, without the service's code: each transaction of the platform's account that was
mined, with its value and its gas, at the time of the database's clock at which it was signed.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from app.core.errors import AppError
from app.db.tables import approvals, nonces, operations, users
from app.services import interventions, nonce_queries, pause
from app.services.nonce_queries import sign as sign_statement
from app.services.operation_types import HeldCause, Operation
from app.services.transactions import approvals as approvals_module
from app.services.transactions import signer as signer_module
from app.services.transactions import spending as spending_module
from app.services.transactions.limits import ORDERS, Amounts
from fault_environment import FaultEnvironment
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from limits_environment import ETH, shift_clock, with_clock
from sqlalchemy import delete, func, insert, select, update

pytestmark = pytest.mark.slow

DAY_S = 86_400
AMOUNTS = Amounts(operation_wei=4 * ETH // 10, person_day_wei=7 * ETH // 10, day_wei=ETH, person_run_seats=1000)
SHIFTS = (1, 3_600, DAY_S // 2, DAY_S - 20, DAY_S - 1, DAY_S + 20)
FORGERIES = ("set back", "copied", "spending", "older spending", "person", "approval", "copied approval", "nonce back")

Action = tuple[str, int, int]
ACTIONS = st.one_of(
    st.tuples(st.just("order"), st.integers(0, 1), st.integers(1, 4)),
    st.tuples(st.just("order"), st.integers(0, 1), st.integers(1, 4)),
    st.tuples(st.just("step"), st.integers(0, 1), st.integers(0, 9)),
    st.tuples(st.just("step all"), st.integers(0, 1), st.just(0)),
    st.tuples(st.just("step all"), st.integers(0, 1), st.just(0)),
    st.tuples(st.just("mine"), st.integers(1, 3), st.just(0)),
    st.tuples(st.just("shift"), st.sampled_from(range(len(SHIFTS))), st.just(0)),
    st.tuples(st.just("restart"), st.integers(0, 1), st.just(0)),
    st.tuples(st.just("approve"), st.integers(0, 1), st.integers(0, 9)),
    st.tuples(st.just("pause"), st.integers(0, 1), st.just(0)),
    st.tuples(st.just("forge"), st.sampled_from(range(len(FORGERIES))), st.integers(0, 9)),
    st.tuples(st.just("forge"), st.sampled_from(range(len(FORGERIES))), st.integers(0, 9)),
)


class SignedAttempt(NamedTuple):
    """An attempt when it was signed: by the database's clock, in seconds."""

    operation: Operation
    at: float
    no_effect: bool


@dataclass
class World:
    """Two processes on one chain and one database, and what they signed."""

    base: FaultEnvironment
    run: UUID
    people: list[UUID]
    workers: list[FaultEnvironment] = field(default_factory=list)
    known: list[Operation] = field(default_factory=list)
    signed: dict[str, SignedAttempt] = field(default_factory=dict)
    approved: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.workers = [self.open(), self.open()]

    def open(self) -> FaultEnvironment:
        worker = self.base.worker(amounts=AMOUNTS, expire_after=float("inf"), bump_after=0)
        sender = worker.services.sender
        original = sender._sign_attempt

        def sign(operation: Any, account: Any, nonce: int, gas: int, fees: Any, *more: Any) -> Any:
            attempt = original(operation, account, nonce, gas, fees, *more)
            self.signed[attempt.tx_hash] = SignedAttempt(operation, self.now(), attempt.no_effect)
            return attempt

        sender._sign_attempt = sign  # type: ignore[method-assign]
        return worker

    def now(self) -> float:
        with self.base.database.autocommit() as connection:
            return float(connection.execute(select(func.extract("epoch", func.clock_timestamp()))).scalar_one())

    def write(self, statement: Any) -> None:
        with self.base.database.transaction() as connection:
            connection.execute(statement)

    def picked(self, number: int) -> Operation | None:
        return self.known[number % len(self.known)] if self.known else None

    # ------------------------------------------------------------------------------------------------- actions

    def order(self, worker: int, seats: int) -> None:
        person = self.people[seats % 2]
        ids = self.workers[worker].ids | {"attendee": person}
        self.known.append(replace(self.workers[worker], ids=ids).prepare_booking(self.run, seats))

    def step(self, worker: int, number: int) -> None:
        operation = self.picked(number)
        if operation is not None:
            self.workers[worker].services.sender.step(self.base.find(operation))

    def step_all(self, worker: int, _: int) -> None:
        for number in range(len(self.known)):
            for _ in range(2):
                self.step(worker, number)

    def mine(self, blocks: int, _: int) -> None:
        self.base.mine(blocks)

    def shift(self, number: int, _: int) -> None:
        shift_clock(self.base, SHIFTS[number])

    def restart(self, worker: int, _: int) -> None:
        self.workers[worker] = self.open()

    def approve(self, worker: int, number: int) -> None:
        operation = self.picked(number)
        if operation is not None:
            sealer = self.workers[worker].services.sender.sealer
            interventions.approve_operation(self.base.database, sealer, operation.key, "a person")
            self.approved[operation.key] += 1

    def pause(self, worker: int, _: int) -> None:
        if pause.resume(self.base.database, "a person") is None:
            pause.pause(self.base.database, "a person")

    def forge(self, number: int, target: int) -> None:
        operation = self.picked(target)
        if operation is None:
            return
        current, of = self.base.find(operation), operations.c.key == operation.key
        kind = FORGERIES[number]
        if kind == "set back":
            empty = {"state": "prepared", "nonce": None, "attempts": [], "held": None, "held_cause": None}
            gone = {"tx_hash": None, "block_number": None, "error": None, "spending": None}
            self.write(update(operations).where(of).values(**empty, **gone))
        elif kind == "copied":
            names = ("request", "kind", "chain_id", "sender", "to_address", "data", "value_wei", "seal", "person")
            row = {name: getattr(current, name) for name in names} | {"key": f"copy:{len(self.known)}"}
            self.write(insert(operations).values(row))
            with self.base.database.autocommit() as connection:
                stored = connection.execute(select(operations).where(operations.c.key == row["key"])).one()
            self.known.append(Operation.from_row(stored))
        elif kind in ("spending", "older spending") and current.spending:
            changes = {"wei": 0} if kind == "spending" else {"at": current.spending["at"] - 2 * DAY_S * 1_000_000}
            self.write(update(operations).where(of).values(spending=current.spending | changes))
        elif kind == "person":
            self.write(update(operations).where(of).values(person=str(self.people[0])))
        elif kind in ("approval", "copied approval"):
            self.write(delete(approvals).where(approvals.c.operation_key == operation.key))
            if all(each.operation.key != operation.key for each in self.signed.values()):
                del self.approved[operation.key]
            row = {
                "operation_key": operation.key,
                "approved_by": "me",
                "approved_at": func.clock_timestamp(),
                "seal": "00",
            }
            copied = select(operations.c.key, approvals.c.approved_by, approvals.c.approved_at, approvals.c.seal)
            statement = insert(approvals).values(row)
            if kind == "copied approval":
                copied = copied.where(of, approvals.c.operation_key != operation.key).limit(1)
                statement = insert(approvals).from_select(list(row), copied)
            self.write(statement)
        elif kind == "nonce back":
            self.write(update(nonces).where(nonces.c.next > 0).values(next=nonces.c.next - 1))

    # ------------------------------------------------------------------------------------------------- what was lost

    def lost(self) -> Iterator[tuple[SignedAttempt, int]]:
        """Yields each transaction of an order that was mined, and what it cost, but for one of each approval."""
        approved = self.approved.copy()
        for tx_hash, signed in self.signed.items():
            if getattr(signed.operation, "kind", None) not in ORDERS or signed.no_effect:
                continue
            response = self.base.w3.provider.make_request("eth_getTransactionReceipt", [tx_hash])  # type: ignore[arg-type]
            receipt: Any = response.get("result")
            if receipt is not None and approved[signed.operation.key] > 0:
                approved[signed.operation.key] -= 1
            elif receipt is not None:
                value = signed.operation.value_wei if int(receipt["status"], 16) else 0
                yield signed, value + int(receipt["gasUsed"], 16) * int(receipt["effectiveGasPrice"], 16)

    def check(self) -> None:
        lost = sorted(self.lost(), key=lambda pair: pair[0].at)
        for last, cost in lost:
            assert cost <= AMOUNTS.operation_wei
            day = [(each, wei) for each, wei in lost if last.at - DAY_S < each.at <= last.at]
            assert sum(wei for _, wei in day) <= AMOUNTS.day_wei
            by_person: dict[str | None, int] = defaultdict(int)
            for each, wei in day:
                by_person[each.operation.person] += wei
            assert max(by_person.values()) <= AMOUNTS.person_day_wei


def play(base: FaultEnvironment, run: UUID, people: list[UUID], actions: list[Action]) -> World:
    """Does the actions, brings everything on chain that was signed, and checks what was lost."""
    shift_clock(base, 3 * DAY_S)
    world = World(base, run, people)
    for name, one, other in actions:
        with suppress(AppError):  # refused
            getattr(world, name.replace(" ", "_"))(one, other)
    base.mine(2)
    world.check()
    pause.resume(base.database, "the test")
    return world


@pytest.fixture
def clocked(environment: FaultEnvironment) -> Iterator[FaultEnvironment]:
    with with_clock(environment) as on_clock:
        yield on_clock


def prepared(clocked: FaultEnvironment) -> tuple[UUID, list[UUID]]:
    """A run with many seats, which a person approved, and two attendees."""
    operation = clocked.step(clocked.prepare_run(seats=100))
    assert operation.held_cause == HeldCause.ABOVE_LIMIT
    sealer = clocked.services.sender.sealer
    interventions.approve_operation(clocked.database, sealer, operation.key, "a person")
    operation = clocked.settle(operation)
    subject = operation.subject
    assert (operation.state, subject is None) == ("confirmed", False)
    assert subject is not None
    with clocked.database.transaction() as connection:
        people = connection.execute(insert(users).returning(users.c.id), [{"name": "a"}, {"name": "b"}]).scalars()
        return subject, list(people)


def search(clocked: FaultEnvironment, examples: int) -> None:
    run, people = prepared(clocked)
    seen: dict[str, int] = defaultdict(int)

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=(Phase.generate,),
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(ACTIONS, min_size=15, max_size=35))
    def example(actions: list[Action]) -> None:
        snapshot = clocked.engine.snapshot()
        try:
            world = play(clocked, run, people, actions)
            seen["lost"] += len(list(world.lost()))
            seen["approved"] += len(world.approved)
            for operation in world.known:
                seen[str(clocked.find(operation).held_cause)] += 1
        finally:
            clear(clocked, snapshot)

    example()
    assert seen["lost"] > examples
    assert seen["above_limit"] > examples // 2
    assert seen["approved"] > 0
    assert seen["limit"] > 0
    assert seen["paused"] > 0


def clear(clocked: FaultEnvironment, snapshot: Any) -> None:
    """Brings chain and tables back to where an example begins."""
    clocked.rpc("anvil_dropAllTransactions")
    clocked.engine.revert(snapshot)
    with clocked.database.transaction() as connection:
        keep = operations.c.nonce < clocked.count()
        connection.exec_driver_sql("TRUNCATE approvals, pauses, orphans")
        connection.execute(delete(operations).where(~func.coalesce(keep, False)))
        connection.execute(update(nonces).values(next=clocked.count()))
        connection.exec_driver_sql("DELETE FROM event_run_bookings")


@pytest.mark.in_turn
def test_the_wallet_loses_no_more_than_the_limits_in_a_day(clocked: FaultEnvironment) -> None:
    search(clocked, 20)


def _by_this_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a process used the clock of its machine, and the machine's of the next one were two days ahead."""
    ahead = itertools.count()
    clocks: dict[int, int] = {}

    def now(spending: Any, connection: Any) -> int:
        days = clocks.setdefault(id(spending), next(ahead))
        return int((time.time() + 2 * days * DAY_S) * 1_000_000)

    monkeypatch.setattr(spending_module.Spending, "_now", now)
    monkeypatch.setattr(nonce_queries, "sign", _sign_at_any_time)


def _sign_at_any_time(connection: Any, operation: Any, attempt: Any, *more: Any, **options: Any) -> Any:
    *others, stored = more
    signed = sign_statement(connection, operation, attempt, *others, None, **options)
    if signed is not None and stored is not None:
        row = operations.c.key == operation.key
        connection.execute(update(operations).where(row).values(spending=stored))
    return signed


def _checked_before_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if only each order by itself were compared with the limits."""

    def reason(entry: Any, windows: Any, amounts: Amounts) -> str | None:
        return "it is large" if entry.wei > amounts.operation_wei else None

    monkeypatch.setattr(spending_module, "_reason_against", reason)


def _old_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a process added up what it signed itself only."""
    monkeypatch.setattr(spending_module.Spending, "_add", lambda *arguments: None)


def _any_approval(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if any row were an approval."""
    monkeypatch.setattr(approvals_module, "find_approval", _any_row)
    monkeypatch.setattr(signer_module, "find_approval", _any_row)


def _any_row(connection: Any, operation: Operation, sealer: Any) -> approvals_module.Approval | None:
    row = connection.execute(select(approvals).where(approvals.c.operation_key == operation.key)).one_or_none()
    return row and approvals_module.Approval(row.approved_by, row.approved_at)


def _used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if an approval were good for any number of transactions."""
    monkeypatch.setattr(spending_module._Window, "has_used", lambda *arguments: False)


def _mine_and_step(worker: int) -> list[Action]:
    return [("step all", worker, 0), ("mine", 1, 0)]


SET_BACK = FORGERIES.index("set back")
FORGED_APPROVAL = FORGERIES.index("approval")


def _orders(*workers: int) -> list[Action]:
    return [action for worker in workers for action in (("order", worker, 2), *_mine_and_step(worker))]


BUGS: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], list[Action]]] = {
    "each order is compared by itself": (_checked_before_only, _orders(0, 1, 0)),
    "the sum of other processes is not read": (_old_sum, _orders(0, 1, 0)),
    "the window is by the process's clock": (_by_this_clock, _orders(0, 0, 1)),
    "an approval needs no seal": (
        _any_approval,
        [("order", 0, 4), *_mine_and_step(0), ("forge", FORGED_APPROVAL, 0), *_mine_and_step(0)],
    ),
    "an approval is used again": (
        _used_again,
        [
            *(("order", 0, 4), *_mine_and_step(0), ("approve", 0, 0), *_mine_and_step(0), ("mine", 3, 0)),
            *(("forge", SET_BACK, 0), *_mine_and_step(1)),
        ],
    ),
}
"""What is broken, and a short story that shows it."""


@pytest.mark.parametrize("bug", BUGS)
def test_the_check_finds(clocked: FaultEnvironment, monkeypatch: pytest.MonkeyPatch, bug: str) -> None:
    """Each bug, by a story that ends well without it."""
    breaks, actions = BUGS[bug]
    run, people = prepared(clocked)
    snapshot = clocked.engine.snapshot()
    world = play(clocked, run, people, actions)
    held = [operation for operation in world.known if clocked.find(operation).held_cause == HeldCause.ABOVE_LIMIT]
    assert len(held) == 1
    clear(clocked, snapshot)
    breaks(monkeypatch)
    with pytest.raises(AssertionError):
        play(clocked, run, people, actions)
