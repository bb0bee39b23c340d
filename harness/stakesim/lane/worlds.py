"""Worlds in which sequences begin: the ordinary one, and those that are expensive to reach move by move."""

from __future__ import annotations

from stakesim.lane.moves import PUPPETS, SCRIPT, SET_IDS, Move, When
from stakesim.lane.play import World
from stakesim.model.rules import MAX_ID, MAX_SEATS
from stakesim.scenario.actions import Terms
from stakesim.scenario.base_action import PLATFORM
from stakesim.units import DAY, HOUR

LAST_IDS = "the last ids"
"""The world in which the ids of `EventStake`, which have 32 bits, soon end."""
_PRICE = 10**16
_FIRST = (
    Move("createEventRun", "host", ("a", _PRICE, 4, 10 * DAY)),
    Move("bookEvent", "guest", (1, 2)),
    Move("createEventRunFor", PLATFORM, ("mallory", "a", _PRICE + 1, 3, 20 * DAY)),
    Move("bookEventFor", PLATFORM, ("trudy", 2, 1)),
)
"""Two runs with bookings, for worlds in which other ids have the same lowest bits."""
_MIXED = ("guest", "mallory", "friend", "stranger", *(f"0x{11_000_000 + number:040d}" for number in range(40)))
_ROLES = (Move("setOperator", PLATFORM, ("operator", True)),)


def worlds(terms: Terms | None = None, max_seats: int = MAX_SEATS) -> tuple[World, ...]:
    """All worlds.

    Args:
        terms: Those of a contract whose code fixes them: then no world has others.
        max_seats: Seats of the largest run.
    """
    everywhere = _worlds(min(max_seats, MAX_SEATS))
    if terms is None:
        return everywhere
    return tuple(world._replace(terms=terms) for world in everywhere if not world.name.endswith("terms"))


def _worlds(seats: int) -> tuple[World, ...]:
    shared = Terms(forfeit_to_host_bps=3_333)
    return (
        World("plain"),
        World("with an operator", moves=_ROLES),
        World("shared terms", shared, moves=_ROLES),
        World(
            "the highest terms",
            Terms(
                stake_bps=5_000,
                fee_bps=1_000,
                forfeit_to_host_bps=10_000,
                cancellation_cutoff=30 * DAY,
                completion_grace=90 * DAY,
            ),
        ),
        World(
            "the lowest terms",
            Terms(stake_bps=0, fee_bps=0, forfeit_to_host_bps=0, cancellation_cutoff=0, completion_grace=HOUR),
        ),
        World("the lowest positive terms", Terms(stake_bps=1, fee_bps=1, forfeit_to_host_bps=1)),
        World("odd terms", Terms(stake_bps=1_777, fee_bps=333, forfeit_to_host_bps=7_777, cancellation_cutoff=1)),
        World("ids above 255", shared, moves=_ids_from(2**8)),
        World("ids above 65,535", shared, moves=_ids_from(2**16)),
        World(LAST_IDS, shared, moves=(*_FIRST, Move(SET_IDS, PLATFORM, (MAX_ID - 2, MAX_ID - 3)))),
        World("after the year 2106", shared, time=2**32 - 5 * DAY),
        World("near the end of time", time=2**40 - 60 * DAY),
        World("a full run of the most seats", shared, moves=_largest_run(seats, *_MIXED)),
        World("a full run of hostile attendees", shared, moves=_largest_run(seats, *PUPPETS)),
        World("a contract hosts and attends", shared, moves=_hosted_by_a_contract()),
        World("a contract owns it", shared, moves=_owned_by_a_contract()),
        World("roles have changed hands", shared, moves=_new_roles()),
        World("deferred payouts", shared, moves=_deferred()),
        World("a run of many cancellations", shared, moves=_cancellations()),
        World("nearly as much wei as it can hold", moves=_nearly_too_much()),
    )


def _largest_run(seats: int, *attendees: str) -> tuple[Move, ...]:
    """A run of the most seats, each booked alone; contracts among the attendees refuse ether, in two costly ways."""
    bookings = (Move("bookEventFor", PLATFORM, (attendees[seat % len(attendees)], 1, 1)) for seat in range(seats))
    return (
        Move(SCRIPT, PUPPETS[0], ("floods", None)),
        Move(SCRIPT, PUPPETS[1], ("burns_gas", None)),
        Move("createEventRunFor", PLATFORM, ("host", "a", _PRICE + 7, seats, 10 * DAY)),
        *bookings,
    )


def _deferred() -> tuple[Move, ...]:
    """Two contracts that refused refunds, and have accepted ether since; a run is open."""
    return (
        *(Move(SCRIPT, name, ("refuses", None)) for name in PUPPETS),
        Move("createEventRun", "host", ("a", _PRICE, 9, 30 * DAY)),
        *(Move("bookEvent", name, (1, 1)) for name in ("mallory", "trudy", "guest", "mallory")),
        *(Move("cancelBooking", PLATFORM, (booking,)) for booking in (1, 2)),
        *(Move(SCRIPT, name, ("accepts", None)) for name in PUPPETS),
    )


def _nearly_too_much() -> tuple[Move, ...]:
    """Credits of 4.8 x 2^93 wei and a stake of 0.8 x 2^93; a seat is 1.2 x 2^93, and 2^96 is too much."""
    return (
        Move(SCRIPT, "mallory", ("refuses", None)),
        Move("createEventRun", "host", ("a", 2**93, 4, 30 * DAY)),
        Move("bookEvent", "mallory", (1, 4)),
        Move("cancelBooking", "mallory", (1,)),
    )


def _hosted_by_a_contract() -> tuple[Move, ...]:
    """A contract hosts a run, and attends it with another one and a person; there is more in escrow for another run."""
    return (
        Move("createEventRun", "mallory", ("a", _PRICE, 4, 10 * DAY)),
        *(Move("bookEvent", name, (1, 1)) for name in ("mallory", "trudy", "guest")),
        Move("createEventRun", "host", ("a", 10 * _PRICE, 4, 30 * DAY)),
        Move("bookEvent", "friend", (2, 3)),
    )


def _owned_by_a_contract() -> tuple[Move, ...]:
    """The owner is a contract, as with a multisig wallet; the platform is an operator, and has earned fees."""
    return (
        *_ROLES,
        Move("setOperator", PLATFORM, (PLATFORM, True)),
        Move("transferOwnership", PLATFORM, ("mallory",)),
        Move("acceptOwnership", "mallory"),
        Move("createEventRun", "host", ("a", _PRICE, 4, 10 * DAY)),
        Move("bookEvent", "guest", (1, 2)),
        Move("createEventRun", "host", ("a", _PRICE, 4, 30 * DAY)),
        Move("bookEvent", "friend", (2, 2)),
        Move("completeEvent", PLATFORM, (1, ()), when=When("start", 1, 0)),
    )


def _new_roles() -> tuple[Move, ...]:
    """Who opened a run and booked for others has no role any more, nor has the owner; a removed operator owns it."""
    return (
        *(Move("setOperator", PLATFORM, (name, True)) for name in ("operator", "stranger")),
        Move("createEventRunFor", "stranger", ("host", "a", _PRICE, 6, 30 * DAY)),
        Move("createEventRun", PLATFORM, ("a", _PRICE, 4, 40 * DAY)),
        Move("bookEventFor", "stranger", ("guest", 1, 1)),
        Move("bookEventFor", "operator", ("friend", 1, 2)),
        Move("bookEventFor", PLATFORM, ("guest", 2, 1)),
        *(Move("setOperator", PLATFORM, (name, False)) for name in ("operator", "stranger")),
        Move("transferOwnership", PLATFORM, ("operator",)),
        Move("acceptOwnership", "operator"),
    )


def _ids_from(last: int) -> tuple[Move, ...]:
    """Runs and bookings with the first ids, and with those that have the same lowest bits."""
    again = (
        Move("createEventRun", "friend", ("a", _PRICE, 4, 10 * DAY)),
        Move("bookEvent", "mallory", (last + 1, 1)),
    )
    return (*_FIRST, Move(SET_IDS, PLATFORM, (last, last)), *again)


def _cancellations() -> tuple[Move, ...]:
    """A run for which 254 bookings were made, of which all but three were cancelled, in another order."""
    first = Move("createEventRun", "host", ("a", _PRICE, 12, 40 * DAY))
    kept = [Move("bookEvent", by, (1, 1)) for by in ("guest", "friend", "mallory")]
    moves = [first, *kept]
    for booking in range(len(kept) + 1, 254, 2):
        moves += [Move("bookEvent", by, (1, 1), when=When(seconds=1)) for by in ("trudy", "guest")]
        moves += [Move("cancelBooking", PLATFORM, (each,), when=When(seconds=1)) for each in (booking, booking + 1)]
    return tuple(moves)
