"""Finds out why an accepted transaction is not mined: an earlier nonce is missing, or its operation is held."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection

from app.services import nonce_queries
from app.services.operation_types import FILL_NONCE_GAP, HeldCause, Operation

MAX_GAP = 64
"""Number of missing nonces that are filled. A larger gap needs somebody who looks at it."""


class Obstacles(NamedTuple):
    """What lies between the nonces that the account has used and the operation's.

    Attributes:
        unmined: Operations with earlier nonces that are in no block.
        missing: Earlier nonces that no operation has, and that may be filled.
        lost: Earlier nonces of attempts that are not to be mined any more, or of operations that were final. They were
            used in a final block, which a reorganisation dropped, or the node lags behind: they are not filled.
    """

    unmined: Sequence[Operation]
    missing: Sequence[int]
    lost: Sequence[int]


def find_obstacles(connection: Connection, operation: Operation, used: int) -> Obstacles:
    """Compares the stored operations with the account's nonces on chain.

    Args:
        connection: A connection to the database.
        operation: An operation with a nonce, in no block.
        used: Number of nonces that the account has used on chain.
    """
    assert operation.nonce is not None
    earlier = nonce_queries.with_nonces(connection, operation, used)
    unmined = [each for each in earlier if each.state in ("signed", "submitted")]
    stored = {each.nonce for each in earlier}
    missing = [nonce for nonce in range(used, operation.nonce) if nonce not in stored]
    left = nonce_queries.left_nonces(connection, operation.chain_id, operation.sender) if missing else set()
    final = [each.nonce for each in earlier if each.closed and each.nonce is not None]
    return Obstacles(unmined, [nonce for nonce in missing if nonce not in left], sorted({*missing} & left) or final)


def reason_to_wait(obstacles: Obstacles) -> tuple[HeldCause, str] | None:
    """Returns why the operation waits, as the end of a sentence; None if those before it are on their way."""
    if len(obstacles.missing) > MAX_GAP:
        reason = f"{len(obstacles.missing)} earlier nonces from {obstacles.missing[0]} on are in no transaction"
        return HeldCause.NONCE_GAP, f"{reason}, which is more than the service fills"
    if obstacles.missing:
        return HeldCause.NONCE_GAP, f"the earlier nonce {obstacles.missing[0]} is in no transaction; it is being filled"
    filling = next((each for each in obstacles.unmined if each.kind == FILL_NONCE_GAP), None)
    if filling is not None:
        return HeldCause.NONCE_GAP, f"the earlier nonce {filling.nonce} is being filled"
    abandoned = next((each for each in obstacles.unmined if each.abandoned_at is not None), None)
    if abandoned is not None:
        return HeldCause.EARLIER, f"{abandoned.kind} with the earlier nonce {abandoned.nonce} was abandoned"
    held = next((each for each in obstacles.unmined if each.held and each.held_cause != HeldCause.EARLIER), None)
    if held is not None:
        cause = HeldCause.NONCE_GAP if held.held_cause == HeldCause.NONCE_GAP else HeldCause.EARLIER
        return cause, f"{held.kind} with the earlier nonce {held.nonce} is held: {held.held}"
    if obstacles.lost and not obstacles.unmined:
        return HeldCause.NONCE_GAP, f"the earlier nonce {obstacles.lost[0]} was used, and is not any more"
    return None
