"""Makes a sequence short that shows a difference: the same difference, at the last move."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple, TypeAlias

from stakesim.lane.moves import SCRIPT, SET_IDS, Moment, Move, When
from stakesim.lane.play import ENDLESS, Difference, Player, World

_MOST_MOVES, _MOST_TIMES = 6_000, 100
"""Moves that are played at most to make a sequence short: so many, and so many for each of its moves."""
Cause: TypeAlias = tuple[str, str, str]
"""See `Difference.cause`."""
_PRICE = 10**16
"""Wei a seat, of an ordinary run."""
_EDGES: tuple[Moment, ...] = ("start", "deadline")
_FEW = 20
"""Of sequences shorter than this any two moves are left out together."""


def shrink(
    open_player: Callable[[World], Player], world: World, moves: Sequence[Move], difference: Difference
) -> tuple[World, tuple[Move, ...], Difference]:
    """Leaves moves out, and makes arguments and the world ordinary, as long as the same difference shows.

    Args:
        open_player: Opens a player of the contract in a world.
        world: The world that the sequence is played in.
        moves: The sequence.
        difference: What it shows.

    Returns:
        The world, the shortest sequence that was found, and the difference that it shows.
    """
    best, shown = _shortest(open_player(world), tuple(moves), difference)
    for simpler in (World("plain"), World("plain", world.terms), World("plain", world.terms, world.time)):
        if simpler[1:] == world[1:]:
            break
        player = open_player(simpler)
        candidate = (*world.moves, *best)
        found = first_difference(player, candidate, *causes_of(shown))
        if found is not None:
            candidate = candidate[: found.position + 1]
            return simpler, *_shortest(player, candidate, found)
    return world, best, shown


def _shortest(player: Player, moves: tuple[Move, ...], difference: Difference) -> tuple[tuple[Move, ...], Difference]:
    """The shortest sequence that was found, and the difference that it shows."""
    short = _Shortening(player, moves, difference)
    improved = True
    while improved and short.has_moves_left:
        while short.try_any(_with_smaller_runs):
            pass
        short.leave_out_parts()
        improved = short.try_any(_simpler)
    return short.moves, short.shown


class _Shortening:
    """A sequence while it is made short.

    Attributes:
        moves: The shortest sequence by now.
        shown: The difference that it shows.
        made: What each of its moves makes.
    """

    def __init__(self, player: Player, moves: tuple[Move, ...], shown: Difference) -> None:
        self._player = player
        self._most = player.played + _MOST_MOVES + _MOST_TIMES * len(moves)
        self.moves, self.shown, self.made = moves, shown, _made(player, moves)

    @property
    def has_moves_left(self) -> bool:
        """Whether there was not too much playing yet."""
        return self._player.played < self._most

    def try_instead(self, kept: Sequence[int], candidate: Sequence[Move]) -> bool:
        """Takes another sequence if it shows the same; see `renumbered`."""
        if not self.has_moves_left:
            return False
        candidate = renumbered(candidate, self.made, kept)
        found = first_difference(self._player, candidate, *causes_of(self.shown))
        if found is None:
            return False
        self.moves, self.shown = tuple(candidate)[: found.position + 1], found
        self.made = _made(self._player, self.moves)
        return True

    def try_any(self, simpler: Callable[..., Iterator[_Candidate]]) -> bool:
        """Takes the first of these sequences that shows the same; says whether there is one."""
        return any(self.try_instead(kept, candidate) for kept, candidate in simpler(self.moves, self.made))

    def leave_out_parts(self) -> None:
        """Leaves out what is not needed: halves, quarters, and so on, down to single moves."""
        size = len(self.moves) // 2
        while size >= 1:
            start = 0
            while start < len(self.moves):
                kept = [at for at in range(len(self.moves)) if not start <= at < start + size]
                if not self.try_instead(kept, [self.moves[at] for at in kept]):
                    start += size
            size //= 2


class _Made(NamedTuple):
    """What a move made."""

    kind: str
    id: int


def _made(player: Player, moves: Sequence[Move]) -> list[_Made | None]:
    """What each move of a sequence makes."""
    player.restart()
    made: list[_Made | None] = []
    for position, move in enumerate(moves):
        returned = player.play(move, position).returned
        kind = "run" if move.function.startswith("create") else "booking"
        made.append(None if returned is None else _Made(kind, returned))
    return made


def renumbered(moves: Sequence[Move], made: Sequence[_Made | None], kept: Sequence[int]) -> Sequence[Move]:
    """Moves that were kept of a sequence, with the ids that runs and bookings have without those that were left out.

    Args:
        moves: The moves that were kept.
        made: What each move of the sequence made.
        kept: Positions of the kept moves in the sequence.
    """
    gone = [each for position, each in enumerate(made) if each is not None and position not in kept]
    if not gone:
        return moves
    runs = sorted(each.id for each in gone if each.kind == "run")
    bookings = sorted(each.id for each in gone if each.kind == "booking")
    jumps = next((move.args for move in moves if move.function == SET_IDS), (0, 0))

    def new_id(old: int, removed: Sequence[int], jump: int) -> int:
        """Ids before and after a jump of the counter are counted apart."""
        return old - sum(each < old and (each > jump) == (old > jump) for each in removed)

    def call(function: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
        at = _RUN_AT.get(function)
        if at is not None:
            args = (*args[:at], new_id(args[at], runs, jumps[0]), *args[at + 1 :])
        if function == "cancelBooking":
            args = (new_id(args[0], bookings, jumps[1]),)
        if function == "completeEvent":
            args = (args[0], tuple(new_id(each, bookings, jumps[1]) for each in args[1]))
        return args

    def move_with_new_ids(move: Move) -> Move:
        args = call(move.function, move.args)
        if move.function == SCRIPT and move.args[1] is not None:
            nested = move.args[1]
            args = (move.args[0], nested._replace(args=call(nested.function, nested.args)))
        when = move.when._replace(run=new_id(move.when.run, runs, jumps[0]))
        return move._replace(args=args, when=when)

    return [move_with_new_ids(move) for move in moves]


_RUN_AT = {"bookEvent": 0, "bookEventFor": 1, "completeEvent": 0, "cancelEvent": 0, "expireEvent": 0}
"""Position of the run's id among the arguments."""


def causes_of(difference: Difference) -> tuple[Cause, ...]:
    """The cause of a difference, and those that tell the same more simply.

    Where the error is another than it must be, the contract may have a check too many or one too few: a call that must
    succeed and fails with this error, or one that must fail with the other and succeeds, shows the same.
    """
    if difference.kind != "error":
        return (difference.cause,)
    due, actual = difference.detail.split(", not ")
    return difference.cause, ("refused", difference.function, actual), ("accepted", difference.function, due)


def first_difference(player: Player, moves: Sequence[Move], *causes: Cause) -> Difference | None:
    """Plays a sequence and returns the first difference with one of these causes."""
    kind, function, detail = causes[0]
    player.restart()
    for position, move in enumerate(moves):
        differences = player.play(move, position).differences
        if kind in ("view", "wei", ENDLESS) and detail == f"after {move.function}":
            differences = player.check_state(position, after=move.function, only=None if kind == ENDLESS else function)
        for difference in differences:
            if difference.cause in causes:
                return difference
    return None


_Candidate: TypeAlias = tuple[Sequence[int], tuple[Move, ...]]
"""A simpler sequence, with the positions of the moves that it keeps."""


def _simpler(moves: tuple[Move, ...], made: Sequence[_Made | None]) -> Iterator[_Candidate]:
    """Sequences without two moves, without one that only lets time pass, and with simpler ones."""
    everything = list(range(len(moves)))
    last = moves[-1]
    if last.function in _RUN_AT and len(moves) < _FEW:
        run = last.args[_RUN_AT[last.function]]
        for gone, moment in product(everything[:-1], _EDGES):
            kept = [position for position in everything if position != gone]
            at_edge = last._replace(when=When(moment, run, 0))
            yield kept, (*(moves[position] for position in kept[:-1]), at_edge)
    for first in everything if len(moves) < _FEW else ():
        for second in range(first + 2, len(moves)):
            kept = [position for position in everything if position not in (first, second)]
            yield kept, tuple(moves[position] for position in kept)
    for position, move in enumerate(moves):
        for simpler in simpler_moves(move):
            yield everything, (*moves[:position], simpler, *moves[position + 1 :])


def _with_smaller_runs(moves: tuple[Move, ...], made: Sequence[_Made | None]) -> Iterator[_Candidate]:
    """Sequences in which a run has fewer seats and as many fewer bookings, as a full one may have to stay full.

    The bookings that no call names go, the first or the last of them: those at the end may fill the run again.
    """
    named = {booking for move in moves for booking in _named(move)}
    for opened, (move, run) in enumerate(zip(moves, made, strict=True)):
        if run is None or run.kind != "run":
            continue
        *others, seats, start = move.args
        booked = [at for at, each in enumerate(moves) if each.function in _BOOKS and each.args[-2] == run.id]
        plain = [at for at in booked if (booking := made[at]) is not None and booking.id not in named]
        many = len(plain) if len(plain) > _FEW else 0
        for fewer in (many - 1, many // 2, many // 4, 1):
            smaller = (*moves[:opened], move._replace(args=(*others, seats - fewer, start)), *moves[opened + 1 :])
            for gone in (plain[:fewer], plain[-fewer:]) if 0 < fewer <= len(plain) and fewer < seats else ():
                kept = [position for position in range(len(moves)) if position not in gone]
                yield kept, tuple(smaller[position] for position in kept)


def _named(move: Move) -> tuple[int, ...]:
    """Ids of the bookings that a move names."""
    function, args = move.function, move.args
    if function == SCRIPT and args[1] is not None:
        function, args = args[1]
    ids: tuple[int, ...] = args[:1] if function == "cancelBooking" else args[1] if function == "completeEvent" else ()
    return ids


_BOOKS = ("bookEvent", "bookEventFor")


def simpler_moves(move: Move) -> Iterator[Move]:
    """Each move that is simpler in one respect. No chain of them is endless, so that making a sequence short ends."""
    if move.gas is not None:
        yield move._replace(gas=None)
    if move.value_off:
        yield move._replace(value_off=0)
    if move.when not in (When(), When(seconds=1)):
        yield move._replace(when=When())
        yield move._replace(when=When(seconds=1))
    if move.function in ("createEventRun", "createEventRunFor"):
        *owner, experience, price, seats, start = move.args
        for simple in (
            ("a", price, seats, start),
            (experience, _PRICE, seats, start),
            *[(experience, _PRICE + 1, seats, start)] * (price != _PRICE),  # what shows where something is rounded
            *((experience, price, fewer, start) for fewer in (1, 2, 3) if fewer < seats),
        ):
            if (*owner, *simple) != move.args:
                yield move._replace(args=(*owner, *simple))
    if move.function in ("bookEvent", "bookEventFor"):
        for seats in (1, 2):
            if move.args[-1] > seats:
                yield move._replace(args=(*move.args[:-1], seats))
    if move.function == "completeEvent" and len(move.args[1]) > 1:
        for position in range(len(move.args[1])):
            attended = (*move.args[1][:position], *move.args[1][position + 1 :])
            yield move._replace(args=(move.args[0], attended))
