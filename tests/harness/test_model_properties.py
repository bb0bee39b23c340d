"""Properties of the reference model that hold for any sequence of actions, tested with Hypothesis."""

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st
from stakesim.model.reference import apply
from stakesim.model.state import BookingStatus, ExpectedOutcome, RunStatus, State, initial_state, liabilities
from stakesim.scenario.actions import (
    Action,
    Actor,
    Book,
    CancelBooking,
    CancelRun,
    Complete,
    CreateRun,
    Expire,
    ForceEther,
    Reentry,
    SetPrice,
    Terms,
    Wait,
    Withdraw,
    WithdrawFees,
)
from stakesim.scenario.administration import Pause, SetOperator, Unpause

EPOCH = 4_102_444_800
HOUR, DAY = 3_600, 86_400
ACTORS = {
    "host": Actor(pays="self"),
    "attendee": Actor(pays="self"),
    "managed": Actor(),  # the platform pays for it
    "walletless": Actor(wallet="none"),
    "refuser": Actor(receiver="refuses"),
    "attacker": Actor(receiver="reenters", reenter=Reentry(call="withdraw")),
}
ACTOR_NAMES = st.sampled_from(sorted(ACTORS))
CALLERS = st.sampled_from([*sorted(ACTORS), "platform"])
RUN_LABELS = st.sampled_from(["run1", "run2"])
BOOKING_LABELS = st.sampled_from([f"b{i}" for i in range(6)])
TERMS = st.builds(
    Terms,
    stake_bps=st.integers(0, 5_000),
    fee_bps=st.integers(0, 1_000),
    forfeit_to_host_bps=st.integers(0, 10_000),
    cancellation_cutoff=st.sampled_from([0, 6 * HOUR, DAY]),
    completion_grace=st.sampled_from([HOUR, DAY]),
)
PRICES = st.decimals("0.01", "99999.99", places=2)
SEATS = st.integers(0, 4)
ACTIONS: st.SearchStrategy[Action] = st.one_of(
    st.builds(Book, booking=BOOKING_LABELS, run=RUN_LABELS, by=ACTOR_NAMES, seats=SEATS),
    st.builds(CancelBooking, booking=BOOKING_LABELS, by=st.none() | CALLERS),
    st.builds(CancelRun, run=RUN_LABELS, by=st.none() | CALLERS),
    st.builds(
        Complete, run=RUN_LABELS, by=st.none() | CALLERS, attended=st.lists(BOOKING_LABELS, max_size=4).map(tuple)
    ),
    st.builds(Expire, run=RUN_LABELS, by=CALLERS),
    st.builds(Withdraw, by=CALLERS, to=st.none() | CALLERS),
    st.builds(WithdrawFees, by=CALLERS),
    st.builds(ForceEther, by=ACTOR_NAMES, wei=st.integers(1, 10**18)),
    st.builds(SetPrice, inr_per_eth=st.sampled_from(["0", "NaN", "100000", "200000", "500000"])),
    st.builds(Wait),
    st.builds(SetOperator, by=st.just("platform") | CALLERS, operator=ACTOR_NAMES, allowed=st.booleans()),
    st.builds(Pause, by=st.just("platform") | CALLERS),
    st.builds(Unpause, by=st.just("platform") | CALLERS),
)


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[int, Action]]:
    """Pairs of a time in seconds and an action: two runs are created, then random actions follow.

    Each booking label is used once, as in a scenario.
    """
    timeline: list[tuple[int, Action]] = [
        (
            at,
            CreateRun(
                run=f"run{at}",
                by=draw(ACTOR_NAMES),
                price_inr=draw(PRICES),
                seats=draw(st.integers(1, 7)),
                starts=2 * DAY,
            ),
        )
        for at in (1, 2)
    ]
    at, used_labels = 2, set[str]()
    for action in draw(st.lists(ACTIONS, max_size=18)):
        at += draw(st.sampled_from([1, 60, HOUR, 8 * HOUR, DAY]))
        if isinstance(action, Book):
            if action.booking in used_labels:
                continue
            used_labels.add(action.booking)
        timeline.append((at, action))
    return timeline


def assert_invariants(before: State, after: State, outcome: ExpectedOutcome) -> None:
    assert_conservation(after)
    assert_booked_seats_equal_active_bookings(after)
    assert_final_states_do_not_change(before, after)
    assert_failed_action_changes_nothing(before, after, outcome)


def assert_conservation(state: State) -> None:
    paid_in = sum(state.paid_in.values())
    assert paid_in + state.forced_wei == state.paid_out + state.contract_balance
    assert -sum(state.wallet_flow.values()) == state.contract_balance
    assert liabilities(state) + state.forced_wei == state.contract_balance
    assert min([state.platform_balance, state.paid_out, *state.credits.values(), *state.received.values()]) >= 0


def assert_booked_seats_equal_active_bookings(state: State) -> None:
    for run in state.runs.values():
        assert 0 <= run.seats_booked <= run.max_seats
        if run.open:
            assert run.seats_booked == sum(b.seats for b in state.active_bookings_of(run))
            assert (run.status == RunStatus.FULL) == (run.seats_booked == run.max_seats)
        else:
            assert state.active_bookings_of(run) == []


def assert_final_states_do_not_change(before: State, after: State) -> None:
    for label, run in before.runs.items():
        assert after.runs[label].price == run.price
        if not run.open:
            assert after.runs[label] == run
    for label, booking in before.bookings.items():
        if booking.status != BookingStatus.ACTIVE:
            assert after.bookings[label] == booking


def assert_failed_action_changes_nothing(before: State, after: State, outcome: ExpectedOutcome) -> None:
    if outcome.status != "ok":
        assert outcome.payouts == ()
        assert after.wallet_flow == before.wallet_flow
        assert (after.runs, after.bookings, after.credits) == (before.runs, before.bookings, before.credits)
        assert (after.platform_balance, after.contract_balance) == (before.platform_balance, before.contract_balance)


@settings(deadline=None)
@given(TERMS, histories())
def test_invariants_hold_after_every_action(terms: Terms, history: list[tuple[int, Action]]) -> None:
    state = initial_state(terms, ACTORS, EPOCH)
    for at, action in history:
        before = state
        state, outcome = apply(state, action, EPOCH + at, Decimal(200_000))
        assert_invariants(before, state, outcome)


@settings(deadline=None)
@given(TERMS, histories())
def test_every_party_can_always_withdraw_everything(terms: Terms, history: list[tuple[int, Action]]) -> None:
    """After any history, expiring runs and withdrawing credits and fees leaves only forced ether in the contract."""
    state = initial_state(terms, ACTORS, EPOCH)
    for at, action in history:
        state, _ = apply(state, action, EPOCH + at, Decimal(200_000))
    after_grace = max(state.now, EPOCH + 10 * DAY)
    exits: list[Action] = [Expire(run=run.label) for run in state.runs.values() if run.open]
    exits += [Withdraw(by=party, to="managed") for party in ACTORS]
    for action in [*exits, WithdrawFees()]:
        state, _ = apply(state, action, after_grace, Decimal(0))
    assert liabilities(state) == 0
    assert state.contract_balance == state.forced_wei
