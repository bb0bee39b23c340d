"""Each invariant is shown to catch a contract, or a service, that is broken on purpose."""

from contextlib import closing
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import ROUND_DOWN, Decimal
from types import SimpleNamespace

import pytest
from app.core.errors import ContractRejected
from app.services import booking_service, projections
from app.services.booking_service import BookingService
from app.services.payments import razorpay, refunds, store
from app.services.payments.service import PaymentService
from app.services.pricing import Quote, Rate
from app.services.transactions import signer
from paying import paid_quote
from plainly_patched import plainly_patched, without_gas_budgets
from stakesim.evm.contract_file import patched_event_stake
from stakesim.paths import checkout
from stakesim.runner.environment import open_environment
from stakesim.runner.invariants import INVARIANTS
from stakesim.runner.scenario_run import run_scenario
from stakesim.scenario.scenario import load, loads
from stakesim_adapter.backend import EventStakeBackend
from stakesim_adapter.payments import InProcessGateway

pytestmark = pytest.mark.slow

ROOT = checkout()

LEFT_OPEN = """
name: left-open
story: The host is never heard of again, and one attendee's credit waits.
actors: {host: {}, a: {}, refuser: {receiver: refuses}}
actions:
  - {at: 0, do: create_run, run: gig, by: host, price_inr: "20000", seats: 4, starts: 7d}
  - {do: create_run, run: other, by: host, price_inr: "20000", seats: 4, starts: 7d}
  - {do: book, booking: a1, run: gig, by: a, seats: 1}
  - {do: book, booking: r1, run: other, by: refuser, seats: 1}
  - {do: cancel_booking, booking: r1, by: refuser}
"""

TWO_RUNS = """
name: two-runs
story: One run is over; the other's money would pay for cancelling it once more.
actors: {host: {}, a: {}}
actions:
  - {at: 0, do: create_run, run: gig, by: host, price_inr: "20000", seats: 4, starts: 7d}
  - {do: create_run, run: other, by: host, price_inr: "20000", seats: 4, starts: 7d}
  - {do: book, booking: a1, run: gig, by: a, seats: 1}
  - {do: book, booking: a2, run: other, by: a, seats: 1}
  - {at: 7d, do: complete, run: gig, attended: [a1]}
  - {do: cancel_run, run: gig, fails: EventNotOpen}
"""
INLINE = {"left-open": LEFT_OPEN, "two-runs": TWO_RUNS}


@dataclass
class Broken:
    """A contract's source with one thing changed, and the scenario that shows it."""

    id: str
    name: str
    old: str
    new: str
    scenario: str


CONTRACTS_BROKEN = [
    Broken(
        "INV-01",
        "a wei of every payout goes to an account nobody knows",
        "paid := call(PUSH_GAS, to, amount, 0, 0, 0, 0)",
        "paid := call(PUSH_GAS, to, sub(amount, 1), 0, 0, 0, 0)\n pop(call(PUSH_GAS, 0xdead, 1, 0, 0, 0, 0))",
        "everybody-comes",
    ),
    Broken(
        "INV-02",
        "the host's share of forfeits is booked to the platform too",
        "platformBalance += fee + forfeits - forfeitsToHost;",
        "platformBalance += fee + forfeits;",
        "forfeits-shared-with-the-host",
    ),
    Broken(
        "INV-03",
        "stakes are a hundredth of a percent too large",
        "return amount * STAKE_BPS / BPS;",
        "return amount * (STAKE_BPS + 1) / BPS;",
        "everybody-comes",
    ),
    Broken(
        "INV-04",
        "overpayment is kept",
        "        _receive(payment + stake);",
        "        _receive(msg.value < payment + stake ? payment + stake : msg.value);",
        "wrong-values",
    ),
    Broken(
        "INV-05",
        "the fee takes a wei more",
        "uint256 fee = revenue * FEE_BPS / BPS;",
        "uint256 fee = revenue * FEE_BPS / BPS + 1;",
        "everybody-comes",
    ),
    Broken(
        "INV-06",
        "an attendee who attended gets half the stake",
        "_push(booking.user, _stakeOf(price * booking.seats));",
        "_push(booking.user, _stakeOf(price * booking.seats) / 2);",
        "everybody-comes",
    ),
    Broken(
        "INV-07",
        "a no-show's stake becomes the no-show's credit",
        "forfeits += stake;",
        "creditOf[booking.user] += stake; _totals.credits += uint96(stake);",
        "no-show",
    ),
    Broken(
        "INV-08",
        "no fee is taken from the host",
        "uint256 hostPayout = revenue - fee + forfeitsToHost;",
        "uint256 hostPayout = revenue + forfeitsToHost;",
        "everybody-comes",
    ),
    Broken(
        "INV-09",
        "a cancelled booking's stake is kept",
        "        _push(user, refund);",
        "        _push(user, refund - _stakeOf(uint256(run.pricePerSeat) * booking.seats));",
        "cancel-around-the-cutoff",
    ),
    Broken(
        "INV-10",
        "the price rises with each booking",
        "        _addToRun(run, runId, uint32(id), booking.seats);",
        "        _addToRun(run, runId, uint32(id), booking.seats);\n        run.pricePerSeat += 1;",
        "no-show",
    ),
    Broken(
        "INV-11",
        "only host and platform can let a run expire",
        "        uint256 opens = run.start + COMPLETION_GRACE;",
        "        _checkAuthorized(run.host);\n        uint256 opens = run.start + COMPLETION_GRACE;",
        "left-open",
    ),
    Broken(
        "INV-12",
        "a final run can be cancelled again",
        "        _checkOpen(eventRunId, run);\n        uint256 deadline = run.start;\n",
        "        uint256 deadline = run.start;\n",
        "two-runs",
    ),
    Broken(
        "INV-13",
        "a cancelled booking's seats stay taken",
        "(run.seatsBooked - booking.seats, active - 1);",
        "(run.seatsBooked, active - 1);",
        "cancel-around-the-cutoff",
    ),
    Broken(
        "INV-14",
        "anybody can complete a run",
        "        _checkAuthorized(run.host);\n        _checkOpen(eventRunId, run);\n"
        "        if (block.timestamp < run.start)",
        "        _checkOpen(eventRunId, run);\n        if (block.timestamp < run.start)",
        "wrong-callers",
    ),
    Broken(
        "INV-14",
        "an operator names other operators",
        "function setOperator(address account, bool allowed) external onlyOwner {",
        "function setOperator(address account, bool allowed) external onlyPlatform {",
        "operators",
    ),
    Broken(
        "INV-14",
        "an operator withdraws the fees",
        "function withdrawPlatformFees() external onlyOwner nonReentrant {",
        "function withdrawPlatformFees() external onlyPlatform nonReentrant {",
        "operators",
    ),
    Broken(
        "INV-16",
        "the platform can cancel at any time",
        "deadline += COMPLETION_GRACE;\n        if",
        "deadline = block.timestamp + 1;\n        if",
        "platform-too-late-to-cancel",
    ),
    Broken(
        "INV-16",
        "a pause stops exits",
        "function cancelBooking(uint256 bookingId) external nonReentrant {",
        "function cancelBooking(uint256 bookingId) external nonReentrant whenNotPaused {",
        "pause-and-new-owner",
    ),
    *(
        Broken("INV-19", f"{name} is not logged", f"        emit {name}({args});\n", "", scenario)
        for name, args, scenario in (
            ("EventRunScheduled", "id, start", "no-show"),
            ("OperatorSet", "account, allowed", "operators"),
            ("Deployed", "terms_", "no-show"),
        )
    ),
    Broken(
        "INV-19",
        "a start is logged a second late",
        "emit EventRunScheduled(id, start);",
        "emit EventRunScheduled(id, start + 1);",
        "no-show",
    ),
    Broken(
        "INV-19",
        "a no-show emits no event",
        "                emit BookingNoShow(active[i], booking.user, stake);\n",
        "",
        "no-show",
    ),
    Broken(
        "INV-19",
        "a completion is logged for another run",
        "emit EventCompleted(eventRunId, hostPayout, stake);",
        "emit EventCompleted(hostPayout, eventRunId, stake);",
        "no-show",
    ),
    *(
        Broken("INV-19", f"{name} logs a wei too many", f"emit {old}", f"emit {new}", scenario)
        for name, old, new, scenario in (
            (
                "BookingCancelled",
                "BookingCancelled(bookingId, user, refund)",
                "BookingCancelled(bookingId, user, refund + 1)",
                "cancel-around-the-cutoff",
            ),
            (
                "BookingNoShow",
                "BookingNoShow(active[i], booking.user, stake)",
                "BookingNoShow(active[i], booking.user, stake + 1)",
                "no-show",
            ),
            (
                "EventCancelled",
                "EventCancelled(eventRunId, refunds)",
                "EventCancelled(eventRunId, refunds + 1)",
                "host-cancels-early",
            ),
            (
                "EventCompleted",
                "EventCompleted(eventRunId, hostPayout, stake)",
                "EventCompleted(eventRunId, hostPayout, stake + 1)",
                "no-show",
            ),
        )
    ),
    Broken(
        "INV-19",
        "a cancellation is logged twice",
        "        emit EventCancelled(eventRunId, refunds);",
        "        emit EventCancelled(eventRunId, refunds);\n        emit EventCancelled(eventRunId, refunds);",
        "host-cancels-early",
    ),
    Broken(
        "INV-16",
        "a run can't be read once it is closed",
        "        Run storage run = _existing(id);\n        return EventRun({",
        "        Run storage run = _existing(id);\n        _checkOpen(id, run);\n        return EventRun({",
        "no-show",
    ),
    *(
        Broken("INV-23", name, old, new, "cancel-around-the-cutoff")
        for name, old, new in (
            ("ids are cut to 32 bits", "run = _runs[eventRunId];", "run = _runs[uint32(eventRunId)];"),
            (
                "an unknown booking is empty",
                "        if (booking.user == address(0)) revert UnknownBooking(id);\n        uint256 payment",
                "        uint256 payment",
            ),
            (
                "an attendee's list begins with its length",
                "_read(_userBookings[user], 1, _userBookings[user].at[0])",
                "_read(_userBookings[user], 0, _userBookings[user].at[0])",
            ),
            (
                "a stake that is too large is cut",
                "        return _stakeOf(pricePerSeat * seats);",
                "        unchecked { return _stakeOf(pricePerSeat * seats); }",
            ),
            (
                "a cost that is too large is cut",
                "        payment = _existing(eventRunId).pricePerSeat * seatCount;",
                "        unchecked { payment = _existing(eventRunId).pricePerSeat * seatCount; }",
            ),
        )
    ),
    Broken(
        "INV-20",
        "a booking wastes gas",
        "        id = ++_totals.lastBookingId;",
        "        uint256 waste;\n        for (uint160 i; i < 50; ++i) waste += address(i).balance;\n"
        "        if (waste == 1) revert();\n        id = ++_totals.lastBookingId;",
        "no-show",
    ),
]


def _scenario(name: str):
    return loads(INLINE[name]) if name in INLINE else load(ROOT / "scenarios" / f"{name}.yaml")


@pytest.fixture(params=CONTRACTS_BROKEN, ids=lambda b: f"{b.id} {b.name}")
def broken(request, environment):
    """What is broken, while the environment has that contract."""
    broken = request.param
    if broken.id == "INV-20":
        environment.set_contract(patched_event_stake(broken.old, broken.new))
        yield broken
        environment.set_contract(None)
    else:
        with without_gas_budgets(environment, plainly_patched(broken.old, broken.new)):
            yield broken


@pytest.mark.in_turn
def test_a_broken_contract_is_caught(broken, environment):
    findings = run_scenario(environment, _scenario(broken.scenario)).findings
    assert broken.id in {finding.id for finding in findings}, findings


def test_the_sound_contract_passes_where_the_broken_ones_are_caught(environment):
    for name in INLINE:
        assert run_scenario(environment, _scenario(name)).findings == []
    files = {broken.scenario for broken in CONTRACTS_BROKEN} - INLINE.keys()
    assert all((ROOT / "scenarios" / f"{name}.yaml").exists() for name in files)  # each is a test of its own


class RetriesARefusedBooking(BookingService):
    """Takes a refusal for a lost answer and asks for one seat instead; and says it was refused."""

    def book(self, event_run_id, user_id, seats, **options):
        try:
            return super().book(event_run_id, user_id, seats, **options)
        except ContractRejected:
            super().book(event_run_id, user_id, 1, quote_id=paid_quote(self, event_run_id, user_id, 1))
            raise


class BooksTwice(BookingService):
    """Does not trust the first receipt."""

    def book(self, event_run_id, user_id, seats, **options):
        super().book(event_run_id, user_id, seats, quote_id=paid_quote(self, event_run_id, user_id, seats))
        return super().book(event_run_id, user_id, seats, **options)


def sends_unpaid(monkeypatch):
    """Whoever gets a quote may use it, paid or not."""
    monkeypatch.setattr(PaymentService, "payment_for", lambda self, payment_id, *_: self.get(payment_id))
    monkeypatch.setattr(store, "use_of", lambda *_: None)
    monkeypatch.setattr(signer, "reason_unpaid", lambda *_: None)


def believes_any_webhook(monkeypatch):
    """Does not compare signatures."""
    monkeypatch.setattr(razorpay.hmac, "compare_digest", lambda *_: True)


def counts_any_currency(monkeypatch):
    """Takes what is paid for INR."""
    honest = PaymentService._capture
    monkeypatch.setattr(
        PaymentService,
        "_capture",
        lambda self, connection, news: honest(self, connection, replace(news, currency="INR")),
    )


def takes_any_amount(monkeypatch):
    """An order is paid by whatever is paid for it."""
    honest = store.capture

    def capture(connection, gateway, news, make_seal):
        ordered = store.payments.select().where(store.payments.c.gateway_order_id == news.order_id)
        amount = connection.execute(ordered).one().amount_inr
        return honest(connection, gateway, replace(news, amount=amount), make_seal)

    monkeypatch.setattr(store, "capture", capture)


def uses_late_payments(monkeypatch):
    """Does not look at when somebody paid."""
    monkeypatch.setattr(
        PaymentService,
        "_capture",
        (
            lambda honest: (
                lambda self, connection, news: honest(
                    self, connection, replace(news, paid_at=news.paid_at - timedelta(hours=2))
                )
            )
        )(PaymentService._capture),
    )


def uses_one_payment_twice(monkeypatch):
    """The second one who books does so for the payment of the first."""
    first = []
    honest = BookingService.book

    def book(self, event_run_id, user_id, seats, *, quote_id=None, **options):
        first.append(quote_id)
        return honest(self, event_run_id, user_id, seats, quote_id=first[0], **options)

    monkeypatch.setattr(PaymentService, "payment_for", lambda self, payment_id, *_: self.get(payment_id))
    monkeypatch.setattr(store, "use_of", lambda *_: None)
    monkeypatch.setattr(signer, "reason_unpaid", lambda *_: None)
    monkeypatch.setattr(BookingService, "book", book)


def refunds_twice(monkeypatch):
    """Asks the gateway under another key each time, and does not notice that it has done so."""
    honest = InProcessGateway.refund

    def refund(self, payment_id, amount_inr, key, *, is_repeated):
        half = (amount_inr / 2).quantize(Decimal("0.01"), ROUND_DOWN)
        honest(self, payment_id, half, f"{key}-again", is_repeated=False)
        return honest(self, payment_id, half, key, is_repeated=is_repeated)

    monkeypatch.setattr(InProcessGateway, "refund", refund)


def never_refunds(monkeypatch):
    """Knows what is owed, and does not ask the gateway."""
    monkeypatch.setattr(PaymentService, "_ask_for", lambda *_: None)


def refunds_nothing_of_cancellations(monkeypatch):
    """What the custody address gets back stays there."""
    monkeypatch.setattr(refunds, "owe_used", lambda *_: 0)


def refunds_the_whole_payment_for_a_stake(monkeypatch):
    """Whoever attended gets the price back too."""
    honest = refunds._owed_to_custody

    def owed(row):
        decided = honest(row)
        return decided._replace(amount_inr=row.amount_inr) if isinstance(decided, refunds.Owed) else decided

    monkeypatch.setattr(refunds, "_owed_to_custody", owed)


def refunds_what_was_charged_back(monkeypatch):
    """Does not hear of disputes."""
    monkeypatch.setattr(PaymentService, "_dispute", lambda *_: None)


def pays_everybody_in_inr(monkeypatch):
    """Gives INR back to people to whom the contract pays wei."""
    honest = refunds.what_is_owed

    def owed(row, block):
        return honest(SimpleNamespace(**{**row._mapping, "to_custody": True}), block)

    monkeypatch.setattr(refunds, "what_is_owed", owed)


def forgets_the_rows(monkeypatch):
    """What closes an operation writes nothing down."""
    monkeypatch.setattr(projections, "_CLOSING_EVENTS", {})


def shows_another_price(monkeypatch):
    """The wei are right, the INR shown with them are one percent off."""

    class Wrong(Quote):
        @classmethod
        def of(cls, payment_wei, stake_wei, rate):
            quote = Quote.of(payment_wei, stake_wei, Rate(rate.inr_per_eth * 101 / 100, rate.as_of))
            return Quote(**{**vars(quote), "rate": rate})

    monkeypatch.setattr(booking_service, "Quote", Wrong)  # not where a run is quoted, whose price has to be right


SERVICES_BROKEN = [
    ("INV-15", RetriesARefusedBooking, "last-seat-contested"),
    ("INV-16", forgets_the_rows, "host-cancels-early"),
    ("INV-17", BooksTwice, "everybody-comes"),
    ("INV-18", shows_another_price, "everybody-comes"),
    ("INV-21", sends_unpaid, "how-people-pay"),
    ("INV-21", believes_any_webhook, "how-people-pay"),
    ("INV-21", counts_any_currency, "how-people-pay"),
    ("INV-21", takes_any_amount, "how-people-pay"),
    ("INV-21", uses_late_payments, "how-people-pay"),
    ("INV-21", uses_one_payment_twice, "everybody-comes"),
    ("INV-21", refunds_twice, "how-people-pay"),
    ("INV-21", never_refunds, "how-people-pay"),
    ("INV-21", refunds_nothing_of_cancellations, "walletless-refund"),
    ("INV-21", refunds_the_whole_payment_for_a_stake, "walletless-refund"),
    ("INV-21", refunds_what_was_charged_back, "walletless-refund"),
    ("INV-21", pays_everybody_in_inr, "walletless-refund"),
]
"""A class in place of the service of bookings, or a function that breaks a part of the services."""


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("invariant_id", "broken", "scenario"), SERVICES_BROKEN, ids=lambda one: getattr(one, "__name__", one)
)
def test_a_broken_service_is_caught(invariant_id, broken, scenario, engine_name, monkeypatch):
    services = {"bookings": broken} if isinstance(broken, type) else {}
    if not services:
        broken(monkeypatch)
    with closing(open_environment(engine_name, backend=EventStakeBackend(**services))) as environment:
        assert invariant_id in {finding.id for finding in run_scenario(environment, _scenario(scenario)).findings}


def test_no_invariant_is_without_a_variant_that_it_catches():
    assert {broken.id for broken in CONTRACTS_BROKEN} | {invariant_id for invariant_id, *_ in SERVICES_BROKEN} == set(
        INVARIANTS
    )
