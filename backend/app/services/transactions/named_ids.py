"""Checks that the numbers in a call still mean the rows for which the call was stored.

The contract numbers runs and bookings in the order of their creation, and calls name them by number. After a
reorganisation deeper than the confirmations, a number may belong to somebody else's run or booking, until the rows have
followed. So before a call that names one is signed, and before it is sent again, the block that gave the number must
still be in the chain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import BindParameter, ColumnElement, Select, bindparam, func, select
from web3 import Web3

from app.db.database import Database
from app.db.tables import chain_cursors, event_run_bookings, event_runs, operations
from app.services import rpc
from app.services.codec import event_stake_codec
from app.services.operation_types import CREATIONS, Operation
from app.services.transactions.policy import TransactionPolicy

_c, _runs, _bookings = operations.c, event_runs.c, event_run_bookings.c
_SUBJECT: BindParameter[UUID] = bindparam("subject_id")


class Doubt(NamedTuple):
    """Why a call must not be signed.

    Attributes:
        reason: The reason, as the end of a sentence.
        is_final: Whether the call names something else by now, and so will never be right.
    """

    reason: str
    is_final: bool = False


def _creations(of_rows: ColumnElement[bool]) -> Select[Any]:
    """Returns the query for the operations that created rows, with the rows' numbers and the reconciler's cursor."""
    cursor = (chain_cursors.c.chain_id == _c.chain_id) & (chain_cursors.c.contract == _c.to_address)
    return (
        select(
            *(_c.state, _c.block_number, _c.block_hash),
            (_c.reorged & (_c.updated_at > bindparam("stored_at"))).label("moved"),
            func.coalesce(_runs.blockchain_event_run_id, _bookings.blockchain_booking_id).label("number"),
            (_c.subject == _SUBJECT).label("is_subject"),
            chain_cursors.c.block_number.label("cursor_block"),
            chain_cursors.c.block_hash.label("cursor_hash"),
            func.coalesce(chain_cursors.c.finalized_block, 0).label("finalized_block"),
        )
        .select_from(operations)
        .outerjoin(event_runs, _runs.id == _c.subject)
        .outerjoin(event_run_bookings, _bookings.id == _c.subject)
        .outerjoin(chain_cursors, cursor)
        .where(_c.kind.in_(CREATIONS), of_rows)
    )


_RUN_OF_BOOKING = select(_bookings.event_run_id).where(_bookings.id == _SUBJECT).scalar_subquery()
_BOOKINGS_OF_RUN = select(_bookings.id).where(_bookings.event_run_id == _SUBJECT)
_OF_SUBJECT = _creations(_c.subject == _SUBJECT)
_QUERIES = {
    **dict.fromkeys(("bookEvent", "bookEventFor"), _creations(_c.subject == _RUN_OF_BOOKING)),
    **dict.fromkeys(("cancelEvent", "expireEvent", "cancelBooking"), _OF_SUBJECT),
    "completeEvent": _creations((_c.subject == _SUBJECT) | _c.subject.in_(_BOOKINGS_OF_RUN)),
}
"""By kind of an operation: the creations of what its call names."""


class NamedIds:
    """Compares the blocks of creations with the chain.

    Args:
        w3: Connection to the node.
        database: Where the operations are stored.
        clock: Returns seconds; never goes back.
    """

    def __init__(self, w3: Web3, database: Database, clock: Callable[[], float]) -> None:
        self._w3, self._database, self._clock = w3, database, clock
        self._seen: tuple[int, str] | None = None  # block and hash that were in the chain last
        self._seen_at = float("-inf")

    def find_doubt(self, operation: Operation, policy: TransactionPolicy) -> Doubt | None:
        """Returns why the operation's call may name something else than its row; None if it does not.

        Args:
            operation: An operation in no block.
            policy: Number of confirmations: with one, each block is final at once. Blocks that were in the chain are
                not looked at again for `head_max_age` seconds.

        Raises:
            Web3Exception, RequestException, OSError: The node does not answer.
        """
        query = _QUERIES.get(operation.kind) if operation.subject else None
        if query is None or policy.confirmations == 1:
            return None
        with self._database.autocommit() as connection:
            parameters = {"subject_id": operation.subject, "stored_at": operation.created_at}
            creations = connection.execute(query, parameters).all()
        named = _named_number(operation)
        for creation in creations:
            is_named = creation.is_subject or operation.kind.startswith("bookEvent")
            if creation.state in ("failed", "rejected"):
                if is_named:
                    return Doubt("what it names is not on chain any more", is_final=True)
            elif creation.state == "confirmed":
                if creation.number != named if is_named else creation.moved:
                    return Doubt("a reorganisation gave what it names another number on chain", is_final=True)
            elif is_named:
                return Doubt("a reorganisation dropped the creation of what it names, which is sent again")
        for block, block_hash in _deciding_blocks(creations):
            if not self._is_in_chain(block, block_hash, policy.head_max_age):
                return Doubt(f"block {block}, which stands for what it names, is not in the chain any more")
        return None

    def _is_in_chain(self, block: int, block_hash: str, max_age: float) -> bool:
        if self._seen == (block, block_hash) and self._clock() - self._seen_at < max_age:
            return True
        read_at, header = self._clock(), rpc.block_header(self._w3, block)
        if header is None or header.hash != block_hash:
            return False
        self._seen, self._seen_at = (block, block_hash), read_at
        return True


def _named_number(operation: Operation) -> int | None:
    """Returns the number that the call names first; None if it can't be read."""
    call = event_stake_codec().decode_call(operation.data)
    if call is None:
        return None
    number: int | None = call.args.get("booking_id", call.args.get("event_run_id"))
    return number


def _deciding_blocks(creations: Sequence[Any]) -> list[tuple[int, str]]:
    """Returns the blocks that must be in the chain, each with its hash.

    All blocks up to the reconciler's cursor were in one chain, so the cursor's block stands for them. Finalized ones
    cannot change.
    """
    blocks = set[tuple[int, str]]()
    for each in creations:
        if each.block_hash is None or each.block_number <= each.finalized_block:  # None: closed by an earlier version
            continue
        is_followed = each.cursor_hash is not None and each.block_number <= each.cursor_block
        blocks.add((each.cursor_block, each.cursor_hash) if is_followed else (each.block_number, each.block_hash))
    return sorted(blocks)
