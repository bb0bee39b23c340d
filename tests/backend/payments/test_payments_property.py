"""INV-21: whatever happens in whatever order, from several threads, the sums agree to the paisa.

Each captured payment is used once, goes back once, or waits.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from app.core.errors import AppError, ForgedWebhook
from app.db.tables import event_run_bookings
from app.services.operation_types import Operation
from app.services.operations import open_operations
from app.services.payments.types import Payment
from payments_environment import SLOW_TO_BOOK, SLOW_TO_PAY, PaymentsEnvironment
from sqlalchemy import select

THREADS, PHASES, ACTIONS = 3, 2, 14
SEEDS = {"quick": 3, "ci": 5, "deep": 300}
REACHED = {"used", "refunded", "expired", "no_effect", "unused", "unexpected", "payment_unusable", "not_paid"}
"""What each run reaches; more only with more seeds."""


class World:
    """What threads do at once. Only the chain is used by one of them at a time."""

    def __init__(self, environment: PaymentsEnvironment) -> None:
        self.environment = environment
        self.stand_in, self.payments = environment.stand_in, environment.payments
        self.chain = threading.Lock()
        self.runs = [environment.open_run(seats=seats).id for seats in (1, 40)]
        environment.paid_booking(self.runs[0])  # it is full, so what is booked there has no effect
        self.quotes: list[Payment] = [environment.quote(run, user="walletless") for run in self.runs]
        self.seen: Counter[str] = Counter()

    # --------------------------------------------------------------------------------------------------- actions

    def quote(self, chance: random.Random) -> None:
        user = chance.choice(("walletless", "attendee"))
        with self.chain:
            self.quotes.append(self.environment.quote(chance.choice(self.runs), 1, user))

    def pay(self, chance: random.Random) -> None:
        """Mostly what is asked for; sometimes too little, and sometimes what is paid already."""
        payment = self.any_quote(chance)
        if payment.gateway_payment_id is not None and chance.random() < 0.8:
            return
        order_id = payment.gateway_order_id or self.payments.order(payment).order_id
        self.stand_in.pay(order_id, amount=chance.choice((None, None, None, None, None, 100)))

    def fail(self, chance: random.Random) -> None:
        self.stand_in.fail(self.payments.order(self.any_quote(chance)).order_id)

    def deliver(self, chance: random.Random) -> None:
        """Some webhooks, whether they were delivered before or not, in any order."""
        webhooks = list(self.stand_in.webhooks)
        self.environment.deliver(chance.choices(webhooks, k=min(len(webhooks), 6)))

    def forge(self, chance: random.Random) -> None:
        webhook = self.stand_in.sign({"event": "payment.captured"}, "nobody's secret")
        with pytest.raises(ForgedWebhook):
            self.environment.deliver([webhook])

    def book(self, chance: random.Random) -> None:
        """Under one of few keys for each quote, so that requests are repeated, and compete."""
        captured = [payment for payment in self.environment.rows() if payment.state == "captured" and payment.quoted]
        payment = chance.choice(captured) if captured and chance.random() < 0.7 else self.any_quote(chance)
        run, key = UUID(payment.quoted["event_run_id"]), f"user:{payment.id}-{chance.randrange(2)}"
        bookings = self.environment.services.bookings
        operation = bookings.prepare_book(run, payment.user_id, 1, idempotency_key=key, quote_id=payment.id)
        assert operation.key == key

    def send(self, chance: random.Random) -> None:
        with self.chain:
            self.settle()

    def cancel(self, chance: random.Random) -> None:
        with self.environment.backend.database.autocommit() as connection:
            of_run = event_run_bookings.c.event_run_id == self.runs[1]
            statement = select(event_run_bookings.c.id).where(of_run, event_run_bookings.c.blockchain_booking_id > 0)
            booked = connection.scalars(statement.order_by(event_run_bookings.c.created_at)).all()
        if booked:
            with self.chain:
                self.environment.services.bookings.cancel(chance.choice(booked))

    def age(self, chance: random.Random) -> None:
        self.environment.age(self.any_quote(chance), chance.choice((SLOW_TO_PAY, SLOW_TO_BOOK)))

    def dispute(self, chance: random.Random) -> None:
        captured = [key for key, each in list(self.stand_in.payments.items()) if each["captured"]]
        if captured:
            payment = chance.choice(captured)
            self.stand_in.dispute(payment, chance.choice(("created", "won", "lost")), f"disp_{payment}")

    def disturb(self, chance: random.Random) -> None:
        self.stand_in.fails = chance.randrange(3)
        self.stand_in.pending_refunds = chance.random() < 0.5

    def process(self, chance: random.Random) -> None:
        for refund in list(self.stand_in.refunds):
            self.stand_in.process_refund(refund, chance.choice(("processed", "processed", "failed")))

    def run_round(self, chance: random.Random) -> None:
        with self.chain:
            finalized = self.environment.backend.engine.w3.eth.block_number
        self.payments.run_round(finalized)

    ACTIONS = (quote, pay, pay, fail, deliver, deliver, forge, book, book, send, cancel, age, dispute, disturb, process)
    ACTIONS = (*ACTIONS, run_round, run_round, book, book, pay, deliver, quote)

    # ------------------------------------------------------------------------------------------------ small help

    def any_quote(self, chance: random.Random) -> Payment:
        """The latest quotes are chosen more often, so that much happens to each."""
        return self.environment.get(chance.choice(self.quotes[-5:]))

    def settle(self) -> None:
        """Sends all operations, and closes them."""
        sender = self.environment.services.sender
        for _ in range(3):
            for operation in self.open_operations():
                while not operation.closed and (after := sender.step(operation)).state != operation.state:
                    operation = after
            self.environment.backend.engine.mine()

    def check_open(self) -> None:
        """Once nobody orders more, only those are open that are not signed, as their payment is disputed."""
        of_disputed = {row.operation_key for row in self.environment.rows() if row.dispute in ("open", "lost")}
        for operation in self.open_operations():
            assert (operation.state, operation.nonce, operation.held_cause) == ("prepared", None, "unpaid")
            assert operation.key in of_disputed
            self.seen["unpaid"] += 1

    def open_operations(self) -> list[Operation]:
        with self.environment.backend.database.autocommit() as connection:
            return open_operations(connection, self.environment.services.sender.chain_id)

    def act(self, seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(ACTIONS):
            action: Callable[[World, random.Random], None] = chance.choice(World.ACTIONS)
            try:
                action(self, chance)
            except AppError as error:
                self.seen[error.code] += 1

    def check(self) -> None:
        """All news are delivered, all operations closed, and nothing is under way: the books are right."""
        self.stand_in.fails = 0
        self.settle()
        self.check_open()
        self.environment.deliver()
        self.environment.check()

    def finish(self) -> None:
        """Nobody does anything any more: all that can go back has gone back."""
        self.stand_in.pending_refunds = False
        for payment in self.environment.rows():
            self.environment.age(payment, SLOW_TO_BOOK)
        for _ in range(5):
            for refund in list(self.stand_in.refunds):
                self.stand_in.process_refund(refund)
            self.environment.deliver()
            self.environment.round()
        self.check()
        for payment in self.environment.rows():
            self.seen[payment.state] += 1
            refund = self.payments.refund_of(payment.id)
            self.seen[refund.cause if refund else "no refund"] += 1
            undecided = payment.dispute in ("open", "lost")
            assert payment.state in ("used", "refunded", "expired") or undecided, payment
            assert payment.look_at is None or payment.state == "used"


@pytest.mark.in_turn
@pytest.mark.slow
def test_the_sums_agree_whatever_happens(payments: PaymentsEnvironment, profile: str, campaign_seed: int) -> None:
    world = World(payments)
    for number in range(SEEDS[profile]):
        chance = random.Random(campaign_seed + number)
        for _ in range(PHASES):
            with ThreadPoolExecutor(THREADS) as pool:
                for ended in [pool.submit(world.act, chance.randrange(2**32)) for _ in range(THREADS)]:
                    ended.result()
            world.check()
        world.finish()
    assert set(world.seen) >= REACHED, world.seen
