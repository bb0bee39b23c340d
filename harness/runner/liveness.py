"""Whether money can still leave: every open run closed, every credit withdrawn, whatever receivers do.

Asked on a snapshot with calls, which a node answers without sending anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from app.services import node
from app.services.codec import Call, event_stake
from app.services.node_errors import decode_revert
from app.services.transaction_sender import TRANSACTION_GAS_CAP
from eth_typing import ChecksumAddress
from web3.exceptions import ContractLogicError

from harness.runner.picture import Picture
from harness.runner.world import World
from harness.scenario.actions import PLATFORM

_STRANGER: Any = "0x" + "57" * 20


def blocked_exits(world: World, picture: Picture) -> list[str]:
    """A sentence for each exit that is shut; none, when everything can still be closed and withdrawn."""
    if not world.chain.extended:
        return list(_shut(world, _cancellations(world, picture)))
    exits = [*_cancellations(world, picture), *_withdrawals(world, picture)]
    blocked = list(_shut(world, exits))
    last = max((run.start for run in picture.runs.values() if run.open), default=None)
    if last is not None:
        snapshot = world.engine.snapshot()
        grace = picture.terms[4]
        world.engine.set_next_timestamp(max(last + grace, world.engine.now() + 1))
        expiries = [
            (f"run {id} can't be expired by anyone once its grace is over", _STRANGER, _call(world, "expireEvent", id))
            for id, run in picture.runs.items()
            if run.open
        ]
        blocked += _shut(world, expiries)
        world.engine.revert(snapshot)
    return blocked


Exit = tuple[str, ChecksumAddress, Call]


def _cancellations(world: World, picture: Picture) -> Iterator[Exit]:
    for id, run in picture.runs.items():
        if run.open:
            yield f"run {id} can't be cancelled by the platform", world.chain.platform, _call(world, "cancelEvent", id)


def _withdrawals(world: World, picture: Picture) -> Iterator[Exit]:
    for party, credit in picture.credits.items():
        if credit:
            who = f"{party} can't withdraw a credit of {credit} wei to another account"
            yield who, world.cast.addresses[party], _call(world, "withdrawTo", _STRANGER)
    if picture.platform_balance:
        shut = f"the platform can't withdraw its {picture.platform_balance} wei"
        yield shut, world.cast.addresses[PLATFORM], _call(world, "withdrawPlatformFees")


def _call(world: World, function: str, *args: Any) -> Call:
    return event_stake().call(world.chain.address, function, *args)


def _shut(world: World, exits: Any) -> Iterator[str]:
    for said, sender, call in exits:
        try:
            node.call(world.engine.w3, call.to, call.data, "pending", sender=sender, gas=TRANSACTION_GAS_CAP)
        except ContractLogicError as error:
            revert = decode_revert(error, call.codec)
            yield f"{said}: {revert.reason if revert else error}"
