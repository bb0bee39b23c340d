"""Whether money can still leave: every open run closed, every credit withdrawn, whatever receivers do.

Asked on a snapshot with calls, which a node answers without sending anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from app.services import node
from app.services.codec import Call, event_stake
from app.services.node_errors import decode_revert
from app.services.transaction_sender import TRANSACTION_GAS_CAP
from eth_typing import ChecksumAddress
from web3.exceptions import ContractLogicError, Web3RPCError

from stakesim.runner.picture import Picture, RunView
from stakesim.runner.world import World
from stakesim.scenario.actions import PLATFORM

_STRANGER: Any = "0x" + "57" * 20


class Exit(NamedTuple):
    """said: what does not hold, where it is shut. wei: what stays locked then."""

    said: str
    sender: ChecksumAddress
    call: Call
    wei: int


def blocked_exits(world: World, picture: Picture) -> list[tuple[str, int]]:
    """A sentence for each exit that is shut, and the wei behind it; none, when everything can still be closed and
    withdrawn, in one transaction each."""
    blocked = [*_shut(world, _cancellations(world, picture)), *_shut(world, _withdrawals(world, picture))]
    runs = [run for run in picture.runs.values() if run.open]
    if not runs:
        return blocked
    snapshot = world.engine.snapshot()
    for run in sorted(runs, key=lambda run: run.start):
        if run.start > world.engine.now():
            world.engine.set_next_timestamp(run.start)
            world.engine.mine()
        if _next_block(world) < _deadline(picture, run):
            blocked += _shut(world, [_completion(world, picture, run)])
    if world.extended:
        last = max(run.start for run in runs) + picture.terms[4]
        world.engine.set_next_timestamp(max(last, world.engine.now() + 1))
        blocked += _shut(world, (_expiry(world, picture, run) for run in runs))
    world.engine.revert(snapshot)
    return blocked


def _next_block(world: World) -> int:
    """Its time: that of the last action, where nothing was mined for it."""
    return max(world.engine.now() + 1, world.clock.at)


def _deadline(picture: Picture, run: RunView) -> float:
    """The first second at which it can't be completed any more."""
    return run.start + picture.terms[4] if picture.terms else float("inf")


def _cancellations(world: World, picture: Picture) -> Iterator[Exit]:
    """By the platform; in a contract without the additions, by the host before the start, as that may be all that it
    lets cancel."""
    for id, run in picture.runs.items():
        if not run.open:
            continue
        by, sender = "the platform", world.chain.platform
        if not world.extended:
            if run.host not in world.cast.addresses or run.start <= _next_block(world):
                continue
            by, sender = "its host", world.cast.addresses[run.host]
        said = f"run {id} can't be cancelled by {by}"
        yield Exit(said, sender, _call(world, "cancelEvent", id), _behind(picture, run))


def _completion(world: World, picture: Picture, run: RunView) -> Exit:
    said = f"run {run.id} can't be completed by the platform when all have come"
    came = [booking.id for booking in picture.active_bookings_of(run.id)]
    return Exit(said, world.chain.platform, _call(world, "completeEvent", run.id, came), _behind(picture, run))


def _expiry(world: World, picture: Picture, run: RunView) -> Exit:
    said = f"run {run.id} can't be expired by anyone once its grace is over"
    return Exit(said, _STRANGER, _call(world, "expireEvent", run.id), _behind(picture, run))


def _withdrawals(world: World, picture: Picture) -> Iterator[Exit]:
    for party, credit in picture.credits.items():
        if credit and world.extended:
            who = f"{party} can't withdraw a credit of {credit} wei to another account"
            yield Exit(who, world.cast.addresses[party], _call(world, "withdrawTo", _STRANGER), credit)
    if wei := picture.platform_balance:
        shut = f"the platform can't withdraw its {wei} wei"
        yield Exit(shut, world.cast.addresses[PLATFORM], _call(world, "withdrawPlatformFees"), wei)


def _behind(picture: Picture, run: RunView) -> int:
    """Wei that are in the contract for this run."""
    return run.host_stake + sum(b.payment + b.stake for b in picture.active_bookings_of(run.id))


def _call(world: World, function: str, *args: Any) -> Call:
    return event_stake().call(world.chain.address, function, *args)


def _shut(world: World, exits: Iterable[Exit]) -> Sequence[tuple[str, int]]:
    return [(f"{exit.said}: {why}", exit.wei) for exit in exits if (why := _why_not(world, exit))]


def _why_not(world: World, exit: Exit) -> str | None:
    """Asked with all the gas that a transaction may have."""
    call = exit.call
    try:
        node.call(world.engine.w3, call.to, call.data, "pending", sender=exit.sender, gas=TRANSACTION_GAS_CAP)
    except ContractLogicError as error:
        revert = decode_revert(error, call.codec)
        return revert.reason if revert else str(error)
    except Web3RPCError as error:
        return str(error)
    return None
