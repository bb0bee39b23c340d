"""Makes a sequence short that shows a difference: the same difference, at the last move."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from stakesim.evm.compiler import Artifact
from stakesim.lane.moves import Move, When
from stakesim.lane.play import Difference, Player, World

_MOST_TRIES = 600
_FEW = 20
"""Of sequences shorter than this any two moves are left out together."""


def shrink(
    contract: Artifact, world: World, moves: Sequence[Move], difference: Difference
) -> tuple[World, tuple[Move, ...], Difference]:
    """Leaves moves out, and makes arguments and the world ordinary, as long as the same difference shows.

    Args:
        contract: The contract.
        world: The world that the sequence is played in.
        moves: The sequence.
        difference: What it shows.

    Returns:
        The world, the shortest sequence that was found, and the difference that it shows.
    """
    best, shown = _shortest(Player(contract, world), tuple(moves), difference, _MOST_TRIES)
    for simpler in (World("plain"), World("plain", world.terms), World("plain", world.terms, world.time)):
        if simpler[1:] == world[1:]:
            break
        player = Player(contract, simpler)
        candidate = (*world.moves, *best)
        found = first_difference(player, candidate, difference.cause)
        if found is not None:
            candidate = candidate[: found.position + 1]
            return simpler, *_shortest(player, candidate, found, _MOST_TRIES)
    return world, best, shown


def _shortest(
    player: Player, moves: tuple[Move, ...], difference: Difference, most: int
) -> tuple[tuple[Move, ...], Difference]:
    best, shown, tries = moves, difference, 0
    improved = True
    while improved and tries < most:
        improved = False
        for candidate in _simpler(best):
            tries += 1
            found = first_difference(player, candidate, difference.cause)
            if found is not None:
                best, shown, improved = candidate[: found.position + 1], found, True
                break
            if tries >= most:
                break
    return best, shown


def first_difference(player: Player, moves: Sequence[Move], cause: tuple[str, str, str]) -> Difference | None:
    """Plays a sequence and returns the first difference with this cause."""
    player.restart()
    kind = cause[0]
    for position, move in enumerate(moves):
        differences = player.play(move, position).differences
        if kind in ("view", "wei"):
            differences = player.check_state(position, after=move.function)
        for difference in differences:
            if difference.cause == cause:
                return difference
    return None


def _simpler(moves: tuple[Move, ...]) -> Iterator[tuple[Move, ...]]:
    """Sequences with fewer or simpler moves, the shortest first."""
    size = len(moves) // 2
    while size >= 1:
        for start in range(0, len(moves) - size, size):
            yield moves[:start] + moves[start + size :]
        size //= 2
    for first in range(len(moves) if len(moves) < _FEW else 0):
        for second in range(first + 2, len(moves)):
            yield (*moves[:first], *moves[first + 1 : second], *moves[second + 1 :])
    for position, move in enumerate(moves):
        for simpler in _simpler_moves(move):
            yield (*moves[:position], simpler, *moves[position + 1 :])


def _simpler_moves(move: Move) -> Iterator[Move]:
    if move.gas is not None:
        yield move._replace(gas=None)
    if move.value_off:
        yield move._replace(value_off=0)
    if move.when not in (When(), When(seconds=1)):
        yield move._replace(when=When())
    if move.function in ("createEventRun", "createEventRunFor"):
        *owner, experience, price, seats, start = move.args
        for simple in (
            ("a", price, seats, start),
            (experience, 10**16, seats, start),
            *((experience, price, fewer, start) for fewer in (1, 2, 3)),
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
