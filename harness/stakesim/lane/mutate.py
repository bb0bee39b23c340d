"""Changes sequences of moves: drops, repeats, swaps and splices moves, and changes one of a move's parts."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from stakesim.lane.draw import WRONG_VALUES, draw_boundary
from stakesim.lane.moves import FORCE_ETHER, PARTIES, PREPARATIONS, PUPPETS, SIGNERS, Move, Nested, When
from stakesim.model.state import State


def mutate(rng: Random, moves: Sequence[Move], other: Sequence[Move], state: State) -> list[Move]:
    """Returns a sequence with one to three changes.

    Args:
        rng: The source of randomness.
        moves: The sequence, not empty.
        other: A sequence to take moves from.
        state: A state, for the ids that exist.
    """
    result = list(moves)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        at = rng.randrange(len(result))
        match rng.randint(0, 6):
            case 0 if len(result) > 1:
                del result[at]
            case 1:
                result.insert(rng.randint(at, len(result)), result[at])
            case 2:
                with_ = rng.randrange(len(result))
                result[at], result[with_] = result[with_], result[at]
            case 3 if other:
                start = rng.randrange(len(other))
                result[at:at] = other[start : start + rng.randint(1, 6)]
            case _:
                result[at] = change(rng, result[at], state)
    return result


def change(rng: Random, move: Move, state: State) -> Move:
    """Changes one part of a move: an argument, the caller, the time, or the value."""
    match rng.randint(0, 5):
        case 0 if move.function not in PREPARATIONS:
            return move._replace(by=rng.choice(PARTIES))
        case 1:
            run = move.when.run or rng.randint(1, max(1, state.last_run_id))
            edge = When(rng.choice(("start", "cutoff", "deadline")), run, rng.choice((-1, 0, 1)))
            return move._replace(when=rng.choice((edge, When(seconds=rng.choice((1, 3600, 86_400))))))
        case 2 if move.function not in PREPARATIONS:
            return move._replace(value_off=rng.choice((0, *WRONG_VALUES)))
        case _:
            return _with_other_argument(rng, move, state)


def _with_other_argument(rng: Random, move: Move, state: State) -> Move:
    if not move.args or move.function == FORCE_ETHER:
        return move._replace(by=rng.choice(PUPPETS if move.by in PUPPETS else SIGNERS))
    at = rng.randrange(len(move.args))
    value = move.args[at]
    if isinstance(value, Nested) and value.args:
        inner = rng.randrange(len(value.args))
        changed = draw_boundary(rng, state, value.args[inner])
        new: object = value._replace(args=(*value.args[:inner], changed, *value.args[inner + 1 :]))
    elif move.function in PREPARATIONS:
        return move
    else:
        new = draw_boundary(rng, state, value)
    return move._replace(args=(*move.args[:at], new, *move.args[at + 1 :]))
