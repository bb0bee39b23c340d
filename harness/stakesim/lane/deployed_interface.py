"""What the lane has to know of a contract that has only the interface deployed on Sepolia, found out by playing.

Such a contract may take liberties: it does otherwise than the rules, and `stakesim run` names it as a weakness, or no
rule speaks of it. The lane plays as if that was right, and so finds what else is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from random import Random
from typing import NamedTuple, get_args

from stakesim.evm.compiler import Artifact
from stakesim.evm.required_abi import missing_extension
from stakesim.lane.draw import draw_own
from stakesim.lane.moves import SCRIPT, Move, When, deployed_move
from stakesim.lane.play import Player, World
from stakesim.model.contract_traits import ContractTraits
from stakesim.model.rules import RECEIVE
from stakesim.model.state import Liberty, Reason
from stakesim.scenario.actions import Terms
from stakesim.scenario.base_action import PLATFORM
from stakesim.units import DAY

_PRICE = 10**16
_CREATE = Move("createEventRun", "host", ("a", _PRICE, 2, 10 * DAY))
_BOOK = Move("bookEvent", "guest", (1, 1))
_COMPLETE = Move("completeEvent", PLATFORM, (1, (1,)), when=When("start", 1, 0))
_CANCEL = Move("cancelEvent", "host", (1,))
_REFUSES = Move(SCRIPT, "mallory", ("refuses", None))
_HOSTED, _BOOKED = _CREATE._replace(by="mallory"), _BOOK._replace(by="mallory")

_SHOWN_BY: Mapping[Liberty, tuple[tuple[Move, ...], ...]] = {
    "excess": ((_CREATE._replace(value_off=1),), (_CREATE, _BOOK._replace(value_off=1))),
    "ether": ((Move(RECEIVE, "guest", value_off=1),),),
    "no experience": ((_CREATE._replace(args=("", *_CREATE.args[1:])),),),
    "stake returned": ((_CREATE, _BOOKED, _REFUSES, _COMPLETE),),
    "host payout": ((_HOSTED, _BOOK, _REFUSES, _COMPLETE),),
    "refund": ((_CREATE, _BOOKED, _REFUSES, _CANCEL),),
    "host stake returned": ((_HOSTED, _BOOK, _REFUSES, _CANCEL._replace(by="mallory")),),
}
"""Sequences that show a liberty: with it they agree with the rules, and without it they do not."""
_TERMS = (("owner", ()), ("stakePercentage", ()), ("platformFeePercentage", ()))
"""Views whose answer says who the owner is, and the terms."""
_QUOTES = (("calculateRequiredStake", (_PRICE, 2)), ("calculateBookingCost", (1, 1)))
_CALLS = 40
"""Calls of a function that show what it changes."""


def find_liberties(contract: Artifact, traits: ContractTraits) -> frozenset[Liberty]:
    """Finds the liberties that a contract takes; none, if it has the full interface.

    Args:
        contract: The contract.
        traits: What it decides for itself, within the rules.

    Raises:
        EngineError: The contract can't be deployed.
    """
    if not missing_extension(contract.abi):
        return frozenset()
    world = World("plain", traits.terms or Terms())
    strict, found = Player(contract, world, traits), set()
    for liberty, sequences in _SHOWN_BY.items():
        free = Player(contract, world, replace(traits, liberties=frozenset({liberty})))
        if any(not _agrees(strict, moves) and _agrees(free, moves) for moves in sequences):
            found.add(liberty)
    return frozenset(found)


def _agrees(player: Player, moves: tuple[Move, ...]) -> bool:
    player.restart()
    if any(player.play(move, position).differences for position, move in enumerate(moves)):
        return False
    return not player.check_state(len(moves) - 1, after=moves[-1].function)


def not_judged(contract: Artifact, traits: ContractTraits) -> dict[str, str]:
    """What is played as if it was right, or not played; and why."""
    pushed = [reason for reason in get_args(Reason) if reason in traits.liberties]
    told: dict[str, str] = {}
    if traits.liberties:
        told["kept sequences with all invariants"] = "the contract takes liberties, which `stakesim run` tells"
    if "excess" in traits.liberties:
        told["values above what is due"] = "the contract keeps them, which `stakesim run` tells"
    if pushed:
        told["payouts that are refused"] = f"the call fails then ({', '.join(pushed)}), which `stakesim run` tells"
    return told


class Shift(NamedTuple):
    """What a function of the contract's own changes when the owner calls it, so that nothing can be judged after it."""

    function: str
    reason: str


def shifts(player: Player) -> Iterator[Shift]:
    """Functions of the contract's own that change what the rules start from, if its owner calls them.

    A function that moves wei is none of them: that is judged.

    Args:
        player: A player in a world in which nothing has happened.
    """
    for function, types in player.own_functions:
        rng = Random(function)
        for _ in range(_CALLS):
            if reason := _shifted(player, draw_own(rng, player.state, function, types)._replace(by=PLATFORM)):
                yield Shift(function, reason)
                break
    player.restart()


def _shifted(player: Player, move: Move) -> str:
    """What a call changes; empty: nothing but, perhaps, wei."""
    player.restart()
    for position, before in enumerate((_CREATE, _BOOK)):
        player.play(before, position)
    terms = _answers(player)
    done = player.play(move, 2).executed
    if done is None or not done.ok or player.check_state(2, after=move.function, only="wallets"):
        return ""
    if _answers(player) != terms:
        return "it changes the terms, of open runs too, or the owner, which `stakesim run` tells"
    after = (_CREATE, _BOOK._replace(by="friend", args=(2, 1)), _COMPLETE)
    if any(player.play(each, 3 + position).differences for position, each in enumerate(after)):
        return "it changes what is possible or due from then on"
    return ""


def _answers(player: Player) -> list[object]:
    names = {item["name"] for item in player.contract.abi if item["type"] == "function"}
    calls = [player.arena.codec.call(name, args) for name, args in (*_TERMS, *_QUOTES) if name in names]
    return list(player.arena.read(calls)[1])


def deployed_world(world: World) -> World | None:
    """The world of a contract that has only the deployed interface; None if it can't be brought there."""
    moves = [deployed_move(move) for move in world.moves]
    return None if None in moves else world._replace(moves=tuple(move for move in moves if move))
