"""The language of the contract lane: moves, each of which is one call, at a time, by a party.

A move says its time and its value relative to what the model knows, so that it keeps its meaning when the moves before
it change: "one second before the start of run 2", "one wei more than is due".
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeAlias

from stakesim.evm.compiler import Artifact
from stakesim.evm.deployment import constructor_types
from stakesim.model.deployed_interface import DEPLOYED
from stakesim.model.rules import stake_of
from stakesim.model.state import ContractCall, ReceiverScript, State
from stakesim.scenario.actions import Actor
from stakesim.scenario.base_action import PLATFORM

SIGNERS = (PLATFORM, "operator", "host", "guest", "friend", "stranger")
"""Parties with a key."""
PUPPETS = ("mallory", "trudy")
"""Parties that are contracts, and do with ether what they were last told to."""
CONTROLLERS = {name: 0xC0_0000 + number for number, name in enumerate(PUPPETS)}
"""Address of the account that makes a puppet act, and deploys it."""
PARTIES = (*SIGNERS, *PUPPETS)
ACTORS = {
    **{name: Actor(pays="self") for name in SIGNERS if name != PLATFORM},
    **{name: Actor(receiver="scripted") for name in PUPPETS},
}
"""The parties as actors of a scenario."""
FUNDS = 2**110
"""Wei that everybody has at first."""
FORCE_ETHER = "force ether"
"""A move that pushes `args[0]` wei into the contract, which nothing can refuse."""
SCRIPT = "script receiver"
"""A move that tells a puppet what to do with ether: `args` are a `ReceiverScript.how` and a `Nested` or None."""
SET_IDS = "set ids"
"""A move that sets the contract's counters in its storage: `args` are the last ids of runs and of bookings."""
PREPARATIONS = (FORCE_ETHER, SCRIPT, SET_IDS)
"""Moves that are no calls of the contract."""


def deployer_of(contract: Artifact) -> str:
    """Who deploys a contract: somebody without a role if its constructor takes the owner. To deploy gives no power."""
    return "stranger" if constructor_types(contract) else PLATFORM


Moment: TypeAlias = Literal["after", "start", "cutoff", "deadline"]


class When(NamedTuple):
    """The time of a move.

    Attributes:
        moment: "after": seconds after the move before; else an edge of a run: its start, the last second in which a
            booking can be cancelled, or the first in which it can expire.
        run: Id of the run.
        seconds: Seconds after the moment; negative: before it.
    """

    moment: Moment = "after"
    run: int = 0
    seconds: int = 60


SAME_BLOCK = When(seconds=0)
"""In the block of the move before, which has one time for all calls."""


class Nested(NamedTuple):
    """What a puppet calls while it is paid."""

    function: str
    args: tuple[Any, ...] = ()


class Move(NamedTuple):
    """One move.

    Attributes:
        function: A function of the contract, or one of `PREPARATIONS`.
        by: Who calls it.
        args: Its arguments. Addresses are parties. The start of a run is in seconds from the move on, unless it is
            larger than `LONGEST`: then it is in seconds since 1970.
        value_off: Wei sent beyond what is due; negative: too few.
        when: Its time.
        gas: Gas of the transaction; None: enough; `LEAST`: the least with which it succeeds.
        origin: Who signs the transaction that makes a puppet call; None: the puppet's own controller.
    """

    function: str
    by: str
    args: tuple[Any, ...] = ()
    value_off: int = 0
    when: When = When()
    gas: int | None = None
    origin: str | None = None


LEAST = -1
"""See `Move.gas`."""
LONGEST = 10**9
"""Seconds up to which the start of a run is relative to its creation."""
_LAST_SECOND = 2**48
"""Time goes no further, in seconds since 1970; contracts may take a later start."""
_STARTS_AT = {"createEventRun": 3, "createEventRunFor": 4}
"""Position of the start among the arguments."""


def time_of(state: State, when: When) -> int:
    """The time of a move's block, in seconds since 1970: after the last one's, or the same "0 seconds after"."""
    base = state.now
    label = state.run_labels.get(when.run)
    if label is not None and when.moment != "after":
        start, terms = min(state.runs[label].start, _LAST_SECOND), state.terms
        base = {
            "start": start,
            "cutoff": start - terms.cancellation_cutoff,
            "deadline": start + terms.completion_grace,
        }[when.moment]
    return max(state.now + (when != SAME_BLOCK), base + when.seconds)


def call_of(state: State, move: Move) -> ContractCall:
    """The move as a call, at the state's time."""
    args = absolute_args(state, move.function, move.args)
    value = max(0, due(state, move.function, args) + move.value_off)
    return ContractCall(move.by, move.function, args, value)


def script_of(state: State, move: Move) -> ReceiverScript:
    """What a `SCRIPT` move tells its puppet."""
    how, nested = move.args
    if nested is None:
        return ReceiverScript(how)
    args = absolute_args(state, nested.function, nested.args)
    value = min(due(state, nested.function, args), _MOST_OF_PUPPETS)
    return ReceiverScript(how, ContractCall(move.by, nested.function, args, value))


def absolute_args(state: State, function: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments with the start of a run in seconds since 1970."""
    place = _STARTS_AT.get(function)
    if place is None or abs(args[place]) > LONGEST:
        return args
    return (*args[:place], max(0, state.now + args[place]), *args[place + 1 :])


def due(state: State, function: str, args: tuple[Any, ...]) -> int:
    """Wei that a call has to send; 0 if it takes none, or fails before that is asked."""
    if function in _STARTS_AT:
        price, seats = int(args[-3]), int(args[-2])
        return min(stake_of(state, price * seats), MOST)
    if function in ("bookEvent", "bookEventFor"):
        run_id, seats = int(args[-2]), int(args[-1])
        if (label := state.run_labels.get(run_id)) is not None:
            payment = state.runs[label].price * seats
            return min(payment + stake_of(state, payment), MOST)
    return 0


def deployed_move(move: Move) -> Move | None:
    """The move on a contract that has only the interface deployed on Sepolia: there everybody signs for themselves.

    Returns:
        None if there is nothing like it.
    """
    if move.function == SCRIPT and move.args[1] is not None:
        how, nested = move.args
        for_nobody = _signing(move.by, nested.function, nested.args)
        return move._replace(args=(how, Nested(*for_nobody[1:]) if for_nobody else None))
    if move.function in PREPARATIONS:
        return move
    call = _signing(move.by, move.function, move.args)
    return move._replace(by=call[0], function=call[1], args=call[2]) if call else None


def _signing(by: str, function: str, args: tuple[Any, ...]) -> tuple[str, str, tuple[Any, ...]] | None:
    """Who calls what of the deployed interface."""
    own = function.removesuffix("For")
    if own not in DEPLOYED:
        return None
    if own == function:
        return by, function, args
    return (args[0] if args[0] in PARTIES else by), own, args[1:]


_MOST_OF_PUPPETS = 2**88 - 1
"""Wei that a puppet can be told to send."""
MOST = 2**100
"""Wei that everybody can pay. The contract takes less."""
