"""The reference model: who may act for the platform, what a pause stops, and how the ownership passes."""

from decimal import Decimal

import pytest
from stakesim.model.reference import apply
from stakesim.model.state import State
from stakesim.scenario.actions import PLATFORM, Action, CancelBooking, CancelRun, Complete, WithdrawFees
from stakesim.scenario.administration import AcceptOwnership, Pause, SetOperator, TransferOwnership, Unpause
from stakesim.scenario.scenario import loads
from stakesim.schema.errors import InputError

from tests.harness.model_helpers import EPOCH, ETH, GRACE, RATE, START, Timed, apply_all, book, create, last_outcome

OPERATOR: list[Timed] = [(0, SetOperator(operator="a"))]
FORMER_OPERATOR: list[Timed] = [*OPERATOR, (1, SetOperator(operator="a", allowed=False))]
NEW_OWNER: list[Timed] = [(0, TransferOwnership(to="a")), (1, AcceptOwnership(by="a"))]
GIG: list[Timed] = [(10, create()), (20, book("b1", "b"))]
DONE: list[Timed] = [*GIG, (START, Complete(run="gig", attended=()))]
NOBODY = ("OwnableUnauthorizedAccount", ("a",))
STRANGER = ("NotAuthorized", ("a",))


def outcome_of(before: list[Timed], action: Action, at: int | None = None) -> tuple[str | None, tuple[int | str, ...]]:
    at = before[-1][0] + 30 if at is None else at
    outcome = last_outcome(*before, (at, action))
    return outcome.error, outcome.args


ACTS_FOR_OTHERS: list[tuple[list[Timed], Action, tuple[str, tuple[str, ...]]]] = [
    ([], create(direct=True, paid_by="a"), NOBODY),
    (GIG, book("x", "host", 1, direct=True, paid_by="a"), NOBODY),
    (GIG, CancelBooking(booking="b1", by="a", direct=True), STRANGER),
    (GIG, CancelRun(run="gig", by="a", direct=True), STRANGER),
]


@pytest.mark.parametrize(("before", "action", "refusal"), ACTS_FOR_OTHERS)
def test_owner_and_operators_act_for_others_and_nobody_else(
    before: list[Timed], action: Action, refusal: tuple[str, tuple[str, ...]]
) -> None:
    assert outcome_of([*FORMER_OPERATOR, *before], action) == refusal
    assert outcome_of([*OPERATOR, *before], action)[0] is None
    assert outcome_of([*NEW_OWNER, *((at, _by_new_owner(done)) for at, done in before)], action)[0] is None


def _by_new_owner(action: Action) -> Action:
    """Runs and bookings that the platform opened are opened by the new owner instead."""
    return action.model_copy(update={"direct": True, "paid_by": "a"})


@pytest.mark.parametrize(
    "action",
    [
        SetOperator(by="a", operator="a"),
        Pause(by="a"),
        TransferOwnership(by="a", to="a"),
        WithdrawFees(by="a", direct=True),
    ],
)
def test_operator_does_nothing_that_is_the_owners(action: Action) -> None:
    assert outcome_of([*OPERATOR, *DONE], action) == NOBODY


@pytest.mark.parametrize(("by", "last"), [(None, START), (PLATFORM, START + GRACE), ("a", START + GRACE)])
def test_last_moment_to_cancel_a_run(by: str | None, last: int) -> None:
    before = [*OPERATOR, (10, create(by="self_host")), (20, book("b1", "b"))]
    cancel = CancelRun(run="gig", by=by, direct=by == "a")
    assert outcome_of(before, cancel, last - 1) == (None, ())
    assert outcome_of(before, cancel, last) == ("TooLate", (EPOCH + last,))


def test_pause_stops_runs_and_bookings_and_no_exit() -> None:
    before = [*GIG, (30, Pause())]
    assert outcome_of(before, create(run="other"))[0] == "EnforcedPause"
    assert outcome_of(before, book("x", "a", 1))[0] == "EnforcedPause"
    assert outcome_of(before, Pause())[0] == "EnforcedPause"
    assert outcome_of(GIG, Unpause())[0] == "ExpectedPause"
    for exit_ in (CancelBooking(booking="b1"), CancelRun(run="gig")):
        assert outcome_of(before, exit_)[0] is None
    assert outcome_of([*before, (31, Unpause())], book("x", "a", 1))[0] is None


def test_ownership_passes_when_it_is_accepted() -> None:
    state, _ = apply_all(NEW_OWNER[:1])
    assert (state.owner, state.pending_owner) == (PLATFORM, "a")
    assert outcome_of(NEW_OWNER[:1], AcceptOwnership(by="outsider"))[0] == "OwnableUnauthorizedAccount"
    state, _ = apply_all(NEW_OWNER)
    assert (state.owner, state.pending_owner) == ("a", None)
    assert outcome_of(NEW_OWNER, create()) == ("OwnableUnauthorizedAccount", (PLATFORM,))
    assert outcome_of(NEW_OWNER, Pause())[0] == "OwnableUnauthorizedAccount"


def test_fees_go_to_the_owner() -> None:
    state, _ = apply_all([*DONE, (START + 1, TransferOwnership(to="a")), (START + 2, AcceptOwnership(by="a"))])
    earned = state.platform_balance
    assert earned > 0
    after, outcome = apply(state, WithdrawFees(by="a", direct=True), EPOCH + START + 3, RATE)
    assert [(payout.to, payout.wei) for payout in outcome.payouts] == [("a", earned)]
    assert after.wallet_flow["a"] - state.wallet_flow.get("a", 0) == earned


def test_owner_that_takes_no_ether_gets_no_fees() -> None:
    before = [*DONE, (START + 1, TransferOwnership(to="troll")), (START + 2, AcceptOwnership(by="troll"))]
    assert outcome_of(before, WithdrawFees(by="troll", direct=True))[0] == "TransferFailed"


def test_refused_administration_changes_nothing() -> None:
    state, _ = apply_all(GIG)
    for action in (SetOperator(by="a", operator="a"), Pause(by="b"), AcceptOwnership(by="a")):
        after, outcome = apply(state, action, EPOCH + 40, RATE)
        assert outcome.status == "rejected"
        assert _roles(after) == _roles(state)


def _roles(state: State) -> tuple[object, ...]:
    return state.owner, state.pending_owner, state.operators, state.paused


@pytest.mark.parametrize(("held", "error"), [(2**96 - 2, None), (2**96 - 1, "AmountTooLarge")])
def test_escrow_and_credits_have_96_bits(held: int, error: str | None) -> None:
    """Earnings of the platform and ether that was forced in do not count."""
    state, _ = apply_all([])
    state = State(**{**vars_of(state), "credits": {"troll": held}, "platform_balance": ETH})
    _, outcome = apply(state, create(seats=1, inr="5"), EPOCH + 1, Decimal(10**18))  # a price of 5 wei, a stake of 1
    assert (outcome.error, outcome.args) == (error, (1,) if error else ())


def vars_of(state: State) -> dict[str, object]:
    return {name: getattr(state, name) for name in State.__dataclass_fields__}


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ("{do: pause, by: ghost}", "there is no actor 'ghost'"),
        ("{do: pause, by: nobody}", "nobody has no wallet and signs nothing"),
        ("{do: set_operator, operator: ghost}", "there is no actor 'ghost'"),
        ("{do: book, booking: b, run: r, by: a, seats: 1, paid_by: a}", "add `direct: true` to `paid_by`"),
        ("{do: book, booking: b, run: r, by: a, seats: 1, direct: true, paid_by: nobody}", "nobody has no wallet"),
    ],
)
def test_mistakes_in_a_scenario_are_named(action: str, message: str) -> None:
    run = '{do: create_run, run: r, by: a, price_inr: "1", seats: 1, starts: 1d}'
    actors = "{a: {}, nobody: {wallet: none}}"
    text = f"name: x\nstory: A story.\nactors: {actors}\nactions:\n  - {run}\n  - {action}\n"
    with pytest.raises(InputError, match=message):
        loads(text)
