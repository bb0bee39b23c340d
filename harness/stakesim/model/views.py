"""What the views of `EventStake` must say about a state: of what exists, of what does not, and at the ends of numbers.

Addresses are parties, or addresses of nobody who takes part. Amounts are wei, times are seconds since 1970.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from stakesim.model.state import Booking, Party, Run, State, liabilities
from stakesim.units import BPS

ZERO_ADDRESS = "0x" + "00" * 20
_LARGEST = 2**256 - 1
_CUT_TO_ONE = 2**32 + 1
"""Its lowest 32 bits are the id 1."""


def twins(address: str) -> tuple[str, str]:
    """Returns two addresses of nobody: one ends with the same 128 bits as the address, one begins with them."""
    return "0x" + "77" * 4 + address[10:].lower(), address[:34].lower() + "77" * 4


class ExpectedView(NamedTuple):
    """A call of a view, and what it must return.

    Attributes:
        function: Name of the view.
        args: Its arguments.
        results: What it returns; None if it must fail.
        error: Name and arguments of the error with which it must fail.
    """

    function: str
    args: tuple[int | str, ...]
    results: tuple[Any, ...] | None
    error: tuple[str, tuple[int, ...]] | None = None


_OVERFLOW = ("Panic", (0x11,))
_ADDED = ("terms", "platformBalance", "totalLiabilities", "pendingOwner", "paused", "creditOf", "isOperator")
"""Views that a contract which has only the interface deployed on Sepolia does not have."""


def expected_views(state: State, addresses: Iterable[Party], *, roles: bool) -> Iterator[ExpectedView]:
    """Every view, with arguments of each kind.

    Args:
        state: What the views are about.
        addresses: Whose bookings, runs, credits and roles to ask for.
        roles: Also ask for owner and pause.
    """
    views = _views(state, addresses, roles=roles)
    return views if state.full_interface else (view for view in views if _is_judged(state, view))


def _is_judged(state: State, view: ExpectedView) -> bool:
    """Whether a contract that has only the deployed interface has this view, and must say this.

    It may multiply in another order, so that a product on the way is not too large.
    """
    if view.error == _OVERFLOW:
        price, seats = view.args
        if view.function == "calculateBookingCost":
            price = state.runs[state.run_labels[int(price)]].price
        return int(price) * int(seats) > _LARGEST
    return view.function not in _ADDED


def says_nothing(answer: bytes) -> bool:
    """Whether a view of a run or booking says that there is none.

    The third word is the host, the attendee, or the total cost; of the first, the id, contracts say what they like.
    """
    return not any(answer[64:96])


def _views(state: State, addresses: Iterable[Party], *, roles: bool) -> Iterator[ExpectedView]:
    yield ExpectedView("terms", (), (state.terms.as_struct(),))
    yield ExpectedView("platformBalance", (), (state.platform_balance,))
    yield ExpectedView("totalLiabilities", (), (liabilities(state),))
    if roles:
        yield ExpectedView("owner", (), (state.owner,))
        yield ExpectedView("pendingOwner", (), (state.pending_owner or ZERO_ADDRESS,))
        yield ExpectedView("paused", (), (state.paused,))
    for address in addresses:
        yield from _views_of_address(state, address)
    for run in state.runs.values():
        yield from _views_of_run(state, run)
    for booking in state.bookings.values():
        yield _view_of_booking(state, booking)
    yield from _views_of_nothing(state)
    for price, seats in ((0, _LARGEST), (_LARGEST, 0), (1, 1), (2**128 - 1, 200), (_LARGEST, 1), (2**255, 2)):
        yield _computed("calculateRequiredStake", (price, seats), _cost(state, price * seats)[1:2])


def _views_of_address(state: State, address: Party) -> Iterator[ExpectedView]:
    runs = tuple(run.id for run in state.runs.values() if run.host == address)
    bookings = tuple(booking.id for booking in state.bookings.values() if booking.attendee == address)
    yield ExpectedView("getHostEvents", (address,), (runs,))
    yield ExpectedView("getUserBookings", (address,), (bookings,))
    yield ExpectedView("creditOf", (address,), (state.credits.get(address, 0),))
    yield ExpectedView("isOperator", (address,), (address in state.operators,))


def _views_of_run(state: State, run: Run) -> Iterator[ExpectedView]:
    terms = (run.id, run.host, run.experience, run.price, run.max_seats)
    current = (run.seats_booked, run.host_stake, run.start, int(run.status), not run.open, run.created_at)
    yield ExpectedView("getEventRun", (run.id,), ((*terms, *current),))
    yield ExpectedView("getEventBookings", (run.id,), (tuple(booking.id for booking in state.bookings_of(run)),))
    most = _LARGEST // run.price  # whose payment fits in 256 bits
    for seats in (0, 1, run.max_seats, run.max_seats + 1, most, min(most + 1, _LARGEST), _LARGEST):
        yield _computed("calculateBookingCost", (run.id, seats), _cost(state, run.price * seats))


def _view_of_booking(state: State, booking: Booking) -> ExpectedView:
    made = (booking.id, state.runs[booking.run].id, booking.attendee, booking.seats, booking.payment, booking.stake)
    return ExpectedView("getBooking", (booking.id,), ((*made, int(booking.status), booking.booked_at),))


def _views_of_nothing(state: State) -> Iterator[ExpectedView]:
    for run_id in (0, state.last_run_id + 1, _CUT_TO_ONE, _LARGEST):
        unknown = ("UnknownEventRun", (run_id,))
        yield ExpectedView("getEventRun", (run_id,), None, unknown)
        yield ExpectedView("calculateBookingCost", (run_id, 1), None, unknown)
        yield ExpectedView("getEventBookings", (run_id,), ((),))
    for booking_id in (0, state.last_booking_id + 1, _CUT_TO_ONE, _LARGEST):
        yield ExpectedView("getBooking", (booking_id,), None, ("UnknownBooking", (booking_id,)))


def _cost(state: State, payment: int) -> tuple[int, int, int]:
    """Payment, stake and their sum; what is larger than 256 bits stays so, also where only a step on the way is."""
    product = payment * state.terms.stake_bps
    stake = product // BPS if product <= _LARGEST and payment <= _LARGEST else _LARGEST + 1
    return payment, stake, payment + stake


def _computed(function: str, args: tuple[int, ...], amounts: tuple[int, ...]) -> ExpectedView:
    if max(amounts) > _LARGEST:
        return ExpectedView(function, args, None, _OVERFLOW)
    return ExpectedView(function, args, amounts)
