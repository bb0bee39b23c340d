"""What holds for the reference model whatever anybody does, found out by hypothesis."""

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st
from stakesim.model.reference import BookingStatus, ExpectedOutcome, RunStatus, State, apply, initial_state, liabilities
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

EPOCH = 4_102_444_800
HOUR, DAY = 3_600, 86_400
ACTORS = {
    "host": Actor(pays="self"),
    "guest": Actor(pays="self"),
    "kept": Actor(),
    "walletless": Actor(wallet="none"),
    "troll": Actor(receiver="refuses"),
    "thief": Actor(receiver="reenters", reenter=Reentry(call="withdraw")),
}
WHO = st.sampled_from(sorted(ACTORS))
ANYBODY = st.sampled_from([*sorted(ACTORS), "platform"])
RUNS = st.sampled_from(["run1", "run2"])
BOOKINGS = st.sampled_from([f"b{i}" for i in range(6)])
TERMS = st.builds(
    Terms,
    stake_bps=st.integers(0, 5_000),
    fee_bps=st.integers(0, 1_000),
    forfeit_to_host_bps=st.integers(0, 10_000),
    cancellation_cutoff=st.sampled_from([0, 6 * HOUR, DAY]),
    completion_grace=st.sampled_from([HOUR, DAY]),
)
PRICES = st.decimals("0.01", "99999.99", places=2)
SMALL = st.integers(0, 4)
ACTIONS: st.SearchStrategy[Action] = st.one_of(
    st.builds(Book, booking=BOOKINGS, run=RUNS, by=WHO, seats=SMALL),
    st.builds(CancelBooking, booking=BOOKINGS, by=st.none() | ANYBODY),
    st.builds(CancelRun, run=RUNS, by=st.none() | ANYBODY),
    st.builds(Complete, run=RUNS, by=st.none() | ANYBODY, attended=st.lists(BOOKINGS, max_size=4).map(tuple)),
    st.builds(Expire, run=RUNS, by=ANYBODY),
    st.builds(Withdraw, by=ANYBODY, to=st.none() | ANYBODY),
    st.builds(WithdrawFees, by=ANYBODY),
    st.builds(ForceEther, by=WHO, wei=st.integers(1, 10**18)),
    st.builds(SetPrice, inr_per_eth=st.sampled_from(["0", "NaN", "100000", "200000", "500000"])),
    st.builds(Wait),
)


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[int, Action]]:
    """Two runs, and then anything in any order, with labels used once as a scenario has them."""
    timeline: list[tuple[int, Action]] = [
        (
            at,
            CreateRun(
                run=f"run{at}", by=draw(WHO), price_inr=draw(PRICES), seats=draw(st.integers(1, 7)), starts=2 * DAY
            ),
        )
        for at in (1, 2)
    ]
    at, booked = 2, set[str]()
    for action in draw(st.lists(ACTIONS, max_size=18)):
        at += draw(st.sampled_from([1, 60, HOUR, 8 * HOUR, DAY]))
        if isinstance(action, Book):
            if action.booking in booked:
                continue
            booked.add(action.booking)
        timeline.append((at, action))
    return timeline


def check(before: State, after: State, outcome: ExpectedOutcome) -> None:
    assert_books_balance(after)
    assert_seats_add_up(after)
    assert_final_is_final(before, after)
    assert_refused_changes_nothing(before, after, outcome)


def assert_books_balance(state: State) -> None:
    paid_in = sum(state.paid_in.values())
    assert paid_in + state.forced == state.paid_out + state.contract_balance
    assert -sum(state.wallet_flow.values()) == state.contract_balance
    assert liabilities(state) + state.forced == state.contract_balance
    assert min([state.platform_balance, state.paid_out, *state.credits.values(), *state.received.values()]) >= 0


def assert_seats_add_up(state: State) -> None:
    for run in state.runs.values():
        assert 0 <= run.seats_booked <= run.max_seats
        if run.open:
            assert run.seats_booked == sum(b.seats for b in state.active_bookings_of(run))
            assert (run.status == RunStatus.FULL) == (run.seats_booked == run.max_seats)
        else:
            assert state.active_bookings_of(run) == []


def assert_final_is_final(before: State, after: State) -> None:
    for label, run in before.runs.items():
        assert after.runs[label].price == run.price
        if not run.open:
            assert after.runs[label] == run
    for label, booking in before.bookings.items():
        if booking.status != BookingStatus.ACTIVE:
            assert after.bookings[label] == booking


def assert_refused_changes_nothing(before: State, after: State, outcome: ExpectedOutcome) -> None:
    if outcome.status != "ok":
        assert outcome.payouts == ()
        assert after.wallet_flow == before.wallet_flow
        assert (after.runs, after.bookings, after.credits) == (before.runs, before.bookings, before.credits)
        assert (after.platform_balance, after.contract_balance) == (before.platform_balance, before.contract_balance)


@settings(deadline=None)
@given(TERMS, histories())
def test_whatever_anybody_does(terms: Terms, history: list[tuple[int, Action]]) -> None:
    state = initial_state(terms, ACTORS, EPOCH)
    for at, action in history:
        before = state
        state, outcome = apply(state, action, EPOCH + at, Decimal(200_000))
        check(before, state, outcome)


@settings(deadline=None)
@given(TERMS, histories())
def test_everybody_can_always_get_out(terms: Terms, history: list[tuple[int, Action]]) -> None:
    """Whatever happened: runs expire, credits and fees are withdrawn, and only forced ether stays."""
    state = initial_state(terms, ACTORS, EPOCH)
    for at, action in history:
        state, _ = apply(state, action, EPOCH + at, Decimal(200_000))
    later = max(state.now, EPOCH + 10 * DAY)
    exits: list[Action] = [Expire(run=run.label) for run in state.runs.values() if run.open]
    exits += [Withdraw(by=party, to="kept") for party in ACTORS]
    for action in [*exits, WithdrawFees()]:
        state, _ = apply(state, action, later, Decimal(0))
    assert liabilities(state) == 0
    assert state.contract_balance == state.forced
