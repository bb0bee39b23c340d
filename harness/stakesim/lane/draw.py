"""Draws moves: mostly what somebody could do next, and now and then what nobody should be able to do.

Arguments come from what the model knows and from the boundaries of their types: 0, 1, the largest value of the type and
of each narrower one, ids that exist, that are final, of others, and that do not exist.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, TypeAlias, TypeVar

from stakesim.lane.moves import (
    FORCE_ETHER,
    LEAST,
    PARTIES,
    PUPPETS,
    SCRIPT,
    SIGNERS,
    Move,
    Nested,
    When,
    deployed_move,
)
from stakesim.model.rules import CALLS_OF_NOTHING, CONTRACT, MAX_SEATS, NOBODY
from stakesim.model.state import Booking, Run, State
from stakesim.scenario.base_action import PLATFORM
from stakesim.units import DAY, HOUR

T = TypeVar("T")
WIDTHS = (8, 16, 32, 40, 64, 96, 128)
"""Bits of the types that contracts cut numbers to."""
_LARGEST = 2**256 - 1
EXPERIENCES = ("a", "x" * 31, "y" * 32, "z" * 33, "w" * 64, "v" * 200, "\u0939\u093f\u0928", "\udcff\udc80", "")
_LENGTHS = (1, 2, 5, 31, 32, 33, 257)
"""Bytes of a text: a word has 32, and texts below that are stored in another way."""
PRICES = (1, 3, 9_999, 10**16, 123_456_789_012_345_678, 10**18, 2**63, 2**80 + 1, 2**88 - 1, 2**93 + 7)
ODD_PRICES = (
    0,
    2**64 - 1,
    2**64,
    2**64 + 1,
    2**96 - 1,
    2**96,
    2**96 + 10**15,
    2**128 - 1,
    2**128,
    2**160 + 1,
    _LARGEST,
)
SEATS = (1, 1, 2, 2, 3, 4, 10, MAX_SEATS)
ODD_SEATS = (0, MAX_SEATS + 1, 127, 128, 129, 255, 256, 257, 258, 2**16 + 1, 2**32 + 1, 2**128 + 1, _LARGEST)
LEADS = (60, HOUR, DAY, 2 * DAY, 3 * DAY, 10 * DAY, 10 * DAY, 40 * DAY)
ODD_STARTS = (0, -1, 1, -DAY, 2**32, 2**32 + 1, 2**40 - 1, 2**40, 2**40 + 5_000_000_000, 2**64, _LARGEST)
WRONG_VALUES = (1, -1, 10**15, -(2**90), 2**64, 2**96, 2**99)
_PAUSES = (0, 1, 1, 1, 60, 60, 60, HOUR, DAY)
_GAS = (30_000, 600_000)
_ODD = 0.15
"""Probability that an argument is not what an honest caller would choose."""
_Drawer: TypeAlias = Callable[[Random, State], Move]


def draw_move(rng: Random, state: State) -> Move:
    """Draws a move that goes on from a state."""
    weights = _weights(state)
    kind = rng.choices(list(weights), weights=list(weights.values()))[0]
    move = _DRAWERS[kind](rng, state)
    if rng.random() < 0.02:
        move = move._replace(value_off=rng.choice(WRONG_VALUES))
    if kind in _SETTLING and state.full_interface and rng.random() < (0.25 if kind == "pay a puppet" else 0.05):
        move = move._replace(gas=rng.choice((LEAST, LEAST, rng.randint(*_GAS))))
    if move.by in PUPPETS and rng.random() < 0.1:
        move = move._replace(origin=rng.choice((PLATFORM, "operator", *SIGNERS)))
    return move if state.full_interface else deployed_move(move) or draw_move(rng, state)


def draw_own(rng: Random, state: State, function: str, types: Sequence[str]) -> Move:
    """Draws a call of a function that only the contract at hand has.

    Args:
        rng: The source of randomness.
        state: The model's state.
        function: The function.
        types: ABI types of its arguments.
    """
    run = _run(rng, state)
    host = run.host if run else rng.choice(PARTIES)
    ids = (run.id if run else state.last_run_id, state.last_booking_id, 1, 2)
    start = state.now + DAY
    others = (0, 50, 10_000, 10**16, start, start, state.contract_balance, _LARGEST)

    def number() -> int:
        """Half of them are ids, or so few seats or wei that no stake is due."""
        return rng.choice(ids if rng.random() < 0.5 else others)

    def argument(kind: str) -> Any:
        if kind == "address":
            return rng.choice(PARTIES)
        if kind == "bool":
            return rng.random() < 0.5
        if kind == "string":
            return _text(rng)
        if kind.endswith("[]"):
            return tuple(number() for _ in range(rng.randint(0, 3)))
        width = int(kind.removeprefix("uint") or 256) if kind.startswith("uint") else 8
        return number() % 2**width

    by = rng.choice((state.owner, _party_or(rng, state, host), rng.choice(PARTIES)))
    return Move(function, by if by in PARTIES else PLATFORM, tuple(argument(kind) for kind in types))


def draw_boundary(rng: Random, state: State, value: Any) -> Any:
    """Draws another value for an argument."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        near = (value - 1, value + 1, value + 2 ** rng.choice(WIDTHS), 2 ** rng.choice(WIDTHS) - 1)
        ids = (state.last_run_id, state.last_booking_id, rng.randint(0, 5))
        return max(0, min(_LARGEST, rng.choice((*near, *ids, 0, 1, 2, 3, _LARGEST))))
    if isinstance(value, tuple) and not isinstance(value, Nested):
        return _odd_list(rng, state, value)
    if value in PARTIES or value in (NOBODY, CONTRACT):
        return rng.choice((*PARTIES, NOBODY, CONTRACT))
    return _text(rng) if isinstance(value, str) else value


def _text(rng: Random) -> str:
    """A text: one at an edge, or any bytes."""
    if rng.random() < 0.5:
        return rng.choice(EXPERIENCES)
    data = bytearray(rng.randbytes(rng.choice(_LENGTHS)))
    data[rng.choice((0, -1))] = rng.choice((0, 0, 0x20, 0x7F, 0xFF))
    return data.decode("utf-8", "surrogateescape")


def _weights(state: State) -> dict[str, float]:
    """How likely each kind of move is."""
    has_open = any(run.open for run in state.runs.values())
    has_active = any(booking.active for booking in state.bookings.values())
    weights = {
        "create": 6 if has_open else 40,
        "book": 18 if has_open else 1,
        "cancel booking": 8 if has_active else 1,
        "cancel run": 4 if has_open else 1,
        "complete": 9 if has_active else 2,
        "expire": 4 if has_open else 1,
        "withdraw": 12 if state.credits else 1,
        "withdraw fees": 4 if state.platform_balance else 0.5,
        "operator": 2,
        "pause": 4 if state.paused else 1,
        "ownership": 4 if state.pending_owner else 1.5,
        "script": 12 if any(name in state.credits for name in PUPPETS) else 6,
        "force ether": 0.3,
        "call of nothing": 0.3,
        "pay a puppet": 10 if _does_something(state) else 0,
    }
    return weights if state.full_interface else {kind: weights[kind] for kind in _DEPLOYED}


# One kind each


def _create(rng: Random, state: State) -> Move:
    experience = "a" if rng.random() < 0.7 else _text(rng)
    price = rng.choice(ODD_PRICES) if rng.random() < _ODD else rng.choice(PRICES)
    seats = rng.choice(ODD_SEATS) if rng.random() < _ODD else rng.choice(SEATS)
    start = rng.choice(ODD_STARTS) if rng.random() < _ODD else rng.choice(LEADS)
    run = _run(rng, state)
    if run is not None and run.start > state.now and rng.random() < 0.25:  # two runs with something in common
        experience = run.experience if rng.random() < 0.5 else experience
        price = run.price if rng.random() < 0.5 else price
        seats = run.max_seats if rng.random() < 0.5 else seats
        start = run.start if rng.random() < 0.5 else start
    args = (experience, price, seats, start)
    if rng.random() < 0.6:
        return Move("createEventRun", rng.choice(PARTIES), args)
    return Move("createEventRunFor", _platform(rng, state), (_beneficiary(rng), *args))


def _book(rng: Random, state: State) -> Move:
    run = _run(rng, state, before_start=True)
    free = run.max_seats - run.seats_booked if run else 2
    seats = (
        rng.choice((*ODD_SEATS, free + 1)) if rng.random() < _ODD else max(1, min(free, rng.choice((1, 1, 2, 3, free))))
    )
    run_id = _id(rng, run.id if run else 1, state.last_run_id)
    when = _near(rng, run, "start", (-1, 0, -HOUR), 0.1)
    if rng.random() < 0.6:
        return Move("bookEvent", rng.choice(PARTIES), (run_id, seats), when=when)
    return Move("bookEventFor", _platform(rng, state), (_beneficiary(rng), run_id, seats), when=when)


def _cancel_booking(rng: Random, state: State) -> Move:
    booking = _booking(rng, state)
    by = _party_or(rng, state, booking.attendee if booking else "guest")
    run = state.runs[booking.run] if booking else None
    booking_id = _id(rng, booking.id if booking else 1, state.last_booking_id)
    return Move("cancelBooking", by, (booking_id,), when=_near(rng, run, "cutoff", (-1, 0, 0, 1), 0.35))


def _cancel_run(rng: Random, state: State) -> Move:
    run = _run(rng, state)
    edge, seconds = rng.choice((("start", (-1, 0, 1)), ("deadline", (-1, 0))))
    when = _near(rng, run, edge, seconds, 0.4)
    by = _party_or(rng, state, run.host if run else "host")
    return Move("cancelEvent", by, (_id(rng, run.id if run else 1, state.last_run_id),), when=when)


def _complete(rng: Random, state: State) -> Move:
    run = _run(rng, state)
    active = [booking.id for booking in state.active_bookings_of(run)] if run else []
    share = rng.choice((0.0, 0.5, 0.8, 1.0))
    attended = tuple(booking for booking in active if rng.random() < share)
    if rng.random() < 0.3:
        attended = tuple(rng.sample(attended, len(attended)))
    if rng.random() < 0.25:
        attended = _odd_list(rng, state, attended)
    if rng.random() < 0.75:
        when = When("start", run.id, rng.choice((0, 0, 0, 1, HOUR))) if run else When()
    else:
        when = _near(rng, run, rng.choice(("start", "deadline")), (-1, 0), 1)
    by = _party_or(rng, state, run.host if run else "host")
    return Move("completeEvent", by, (_id(rng, run.id if run else 1, state.last_run_id), attended), when=when)


def _expire(rng: Random, state: State) -> Move:
    run = _run(rng, state)
    when = _near(rng, run, "deadline", (0, 0, 0, -1, 1), 0.85)
    return Move("expireEvent", rng.choice(PARTIES), (_id(rng, run.id if run else 1, state.last_run_id),), when=when)


def _withdraw(rng: Random, state: State) -> Move:
    creditors = [party for party in state.credits if party in PARTIES]
    by = rng.choice(creditors) if creditors and rng.random() < 0.85 else rng.choice(PARTIES)
    if rng.random() < 0.5:
        return Move("withdraw", by)
    return Move("withdrawTo", by, (_beneficiary(rng),))


def _withdraw_fees(rng: Random, state: State) -> Move:
    return Move("withdrawPlatformFees", state.owner if rng.random() < 0.75 else rng.choice(PARTIES))


def _operator(rng: Random, state: State) -> Move:
    account = "operator" if rng.random() < 0.5 else rng.choice((*PARTIES, NOBODY))
    return Move("setOperator", _owner(rng, state), (account, rng.random() < 0.65))


def _pause(rng: Random, state: State) -> Move:
    ends = state.paused if rng.random() < 0.85 else not state.paused
    return Move("unpause" if ends else "pause", _owner(rng, state))


def _ownership(rng: Random, state: State) -> Move:
    draw = rng.random()
    if state.pending_owner and draw < 0.6:
        by = state.pending_owner if state.pending_owner in PARTIES and draw < 0.45 else rng.choice(PARTIES)
        return Move("acceptOwnership", by)
    if draw > 0.9:
        return Move("renounceOwnership", _owner(rng, state))
    return Move("transferOwnership", _owner(rng, state), (rng.choice((*PARTIES, NOBODY)),))


_PLAIN_MODES = ("refuses", "refuses", "accepts", "burns_gas", "floods")
"""What receivers do whatever gas they get."""
_MODES = (
    *("refuses", "refuses", "accepts", "burns_gas", "floods", "spends_little", "spends_much"),
    *("needs_stipend", "needs_stipend"),
)


def _script(rng: Random, state: State) -> Move:
    owed = [party for party in PUPPETS if _owed(state, party)]
    puppet = rng.choice(owed if owed and rng.random() < 0.7 else PUPPETS)
    draw = rng.random()
    if draw < (0.3 if puppet in state.credits else 0.5):
        return Move(SCRIPT, puppet, (rng.choice(_MODES if state.full_interface else _PLAIN_MODES), None))
    nested = _DRAWERS[rng.choice(_REENTERED)](rng, state)
    if draw < 0.9 and (own := _own(state, puppet)):
        nested = _one(rng, own)
    return Move(SCRIPT, puppet, ("accepts", Nested(nested.function, nested.args)))


def _one(rng: Random, moves: Sequence[Move]) -> Move:
    """One of the moves: first a function, as there may be many moves of one."""
    function = rng.choice(sorted({move.function for move in moves}))
    return rng.choice([move for move in moves if move.function == function])


def _own(state: State, puppet: str) -> list[Move]:
    """What pays, and a puppet may call, now or when a run has started: only a guard refuses it while it is paid."""
    moves = [move for move in _owed(state, puppet) if move.by == puppet]
    is_platform = state.acts_for_platform(puppet)
    for run in list(state.runs.values())[-_RECENT:]:
        if not run.open:
            continue
        active = state.active_bookings_of(run)[-_RECENT:]
        if run.host == puppet or is_platform:
            ids = tuple(booking.id for booking in active)
            moves += [Move("cancelEvent", puppet, (run.id,)), Move("completeEvent", puppet, (run.id, ids))]
        if state.full_interface:
            moves.append(Move("expireEvent", puppet, (run.id,)))
            moves += [Move("cancelBooking", puppet, (booking.id,)) for booking in active if is_platform]
    return moves


def _owed(state: State, puppet: str) -> list[Move]:
    """Moves with which a puppet is paid now, or at the start of a run: its credit, its fees, its bookings, its runs."""
    moves = []
    if state.credits.get(puppet):
        moves += [Move("withdraw", puppet), Move("withdrawTo", puppet, (puppet,))]
    if state.platform_balance and state.owner == puppet:
        moves.append(Move("withdrawPlatformFees", puppet))
    for run in list(state.runs.values())[-_RECENT:]:
        if not run.open:
            continue
        active = state.active_bookings_of(run)[-_RECENT:]
        own = [booking for booking in active if booking.attendee == puppet]
        if own or run.host == puppet:
            at_start = When("start", run.id, 0)
            cancels = Move(
                "cancelEvent", run.host if state.now < run.start and run.host in PARTIES else PLATFORM, (run.id,)
            )
            lists = {tuple(booking.id for booking in attended): None for attended in (active, own)}
            moves += [cancels, *(Move("completeEvent", PLATFORM, (run.id, ids), when=at_start) for ids in lists)]
        if state.full_interface and state.now + state.terms.cancellation_cutoff <= run.start:
            moves += [Move("cancelBooking", puppet, (booking.id,)) for booking in own]
    return moves


def _does_something(state: State) -> list[str]:
    """Puppets that do not simply accept ether."""
    scripts = state.receivers
    return [name for name in PUPPETS if name in scripts and (scripts[name].call or scripts[name].how != "accepts")]


def _pay(rng: Random, state: State) -> Move:
    """Pays a puppet that does something with ether; if it calls, most often by a withdrawal, which gives it the gas."""
    puppet = rng.choice(_does_something(state))
    owed = _owed(state, puppet)
    withdrawals = [move for move in owed if move.function.startswith("withdraw")]
    if withdrawals and state.receivers[puppet].call and rng.random() < 0.6:
        return _one(rng, withdrawals)
    return rng.choice(owed) if owed else _book(rng, state)


def _force_ether(rng: Random, state: State) -> Move:
    return Move(FORCE_ETHER, rng.choice(SIGNERS), (rng.choice((1, 10**15, 10**18, 2**97)),))


def _call_of_nothing(rng: Random, state: State) -> Move:
    return Move(rng.choice(tuple(CALLS_OF_NOTHING)), rng.choice(PARTIES), value_off=rng.choice((0, 1, 10**15)))


_DRAWERS: Mapping[str, _Drawer] = {
    "create": _create,
    "book": _book,
    "cancel booking": _cancel_booking,
    "cancel run": _cancel_run,
    "complete": _complete,
    "expire": _expire,
    "withdraw": _withdraw,
    "withdraw fees": _withdraw_fees,
    "operator": _operator,
    "pause": _pause,
    "ownership": _ownership,
    "script": _script,
    "force ether": _force_ether,
    "call of nothing": _call_of_nothing,
    "pay a puppet": _pay,
}
_DEPLOYED = (
    *("create", "book", "cancel run", "complete", "withdraw fees"),
    *("script", "force ether", "call of nothing", "pay a puppet"),
)
"""Kinds of moves on a contract that has only the deployed interface."""
_REENTERED = tuple(kind for kind in _DRAWERS if kind not in ("script", "force ether", "pay a puppet"))
_SETTLING = ("complete", "cancel run", "cancel booking", "expire", "withdraw", "pay a puppet")
"""Kinds of moves that pay, for which the gas matters."""


# What they choose from


def _run(rng: Random, state: State, *, before_start: bool = False) -> Run | None:
    """A run, most often an open one, and one that has not started where that is asked for."""
    runs = list(state.runs.values())
    if not runs:
        return None
    recent = [run for run in runs[-_RECENT:] if run.open and not (before_start and run.start <= state.now)]
    return rng.choice(recent if recent and rng.random() < 0.85 else runs)


_RECENT = 6
"""Of many runs or bookings the last ones are chosen from."""


def _booking(rng: Random, state: State) -> Booking | None:
    bookings = list(state.bookings.values())
    if not bookings:
        return None
    cutoff = state.now + state.terms.cancellation_cutoff
    recent = bookings[-4 * _RECENT :]
    active = [booking for booking in recent if booking.active and state.runs[booking.run].start >= cutoff]
    return rng.choice(active if active and rng.random() < 0.85 else bookings)


def _id(rng: Random, known: int, last: int) -> int:
    """An id: most often the known one; else another, or one that is the known one in fewer bits."""
    if rng.random() > 0.06:
        return known
    others = (0, last + 1, rng.randint(1, last + 1), _LARGEST)
    return rng.choice(others) if rng.random() < 0.5 else known + int(2 ** rng.choice(WIDTHS))


def _platform(rng: Random, state: State) -> str:
    """Who may act for the platform; at times who may not."""
    allowed = [party for party in PARTIES if state.acts_for_platform(party)]
    draw = rng.random()
    if allowed and draw < 0.8:
        return rng.choice(allowed)
    return rng.choice(_HAD_ROLES if draw < 0.88 else PARTIES)


_HAD_ROLES = ("operator", PLATFORM, "stranger")
"""Parties that had a role where roles have changed hands; see `worlds`."""


def _owner(rng: Random, state: State) -> str:
    draw = rng.random()
    if draw < 0.8 and state.owner in PARTIES:
        return state.owner
    return rng.choice(_HAD_ROLES if draw < 0.88 else PARTIES)


def _party_or(rng: Random, state: State, party: str) -> str:
    """Whose matter it is, or the platform; at times anybody."""
    draw = rng.random()
    if draw < 0.55 and party in PARTIES:
        return party
    if draw < 0.8:
        return _platform(rng, state)
    return rng.choice(_HAD_ROLES if draw < 0.9 else PARTIES)


def _beneficiary(rng: Random) -> str:
    draw = rng.random()
    if draw < 0.3:
        return rng.choice(PUPPETS)
    return rng.choice(PARTIES) if draw < 0.97 else rng.choice((NOBODY, CONTRACT, PLATFORM))


def _near(rng: Random, run: Run | None, edge: Any, seconds: Sequence[int], probability: float) -> When:
    """A moment at an edge of a run, with some probability; else some time after the move before."""
    if run is not None and rng.random() < probability:
        return When(edge, run.id, rng.choice(seconds))
    return When(seconds=rng.choice(_PAUSES))


def _odd_list(rng: Random, state: State, ids: tuple[int, ...]) -> tuple[int, ...]:
    """An attendance list with something wrong."""
    others = [booking.id for booking in state.bookings.values() if booking.id not in ids]
    match rng.choice((0, 0, 1, 1, 1, 2, 3, 4, 5)):
        case 0 if ids:  # twice, not side by side if there are others
            return (*ids, ids[0])
        case 1 if others:
            at = rng.randint(0, len(ids))
            return (*ids[:at], rng.choice(others), *ids[at:])
        case 2:
            return (*ids, _id(rng, rng.choice(others) if others else 1, state.last_booking_id))
        case 3 if ids:
            return ids * 2
        case 4 if ids:
            return tuple(booking + 2 ** rng.choice(WIDTHS) for booking in ids)
        case _:
            return (*ids, 0)
