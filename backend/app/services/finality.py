"""Finds reorganisations that went deeper than the confirmations, and reopens the operations that they undid.

A block's hash stands for all blocks before it. So one header tells whether anything changed up to the block that the
reconciler followed last. If it did, the blocks of all closed operations are compared, down to the network's finalized
block, which cannot change. If not, those that were not compared yet are: a request may have closed an operation while
the chain was another one for a moment. What was compared holds only in the chain in which it was: another process may
have followed a reorganisation meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

from sqlalchemy import ColumnElement, Connection, case, func, select, update
from sqlalchemy.dialects.postgresql import insert

from app.core.errors import Cancelled, ChainUnavailable
from app.db.database import Database
from app.db.tables import chain_cursors, event_run_bookings, event_runs, in_states, operations
from app.services.blockchain_service import BlockchainService
from app.services.operation_types import CREATIONS, NOT_HELD
from app.services.rpc_types import BlockHeader

DEFAULT_FINALITY_BLOCKS = 96
"""Depth in blocks at which a block counts as finalized if the node has no such tag: three epochs of 32 slots."""
_Block: TypeAlias = tuple[int, str]
"""Number and hash of a block."""
COMPARE_AGAIN_AFTER = 10
"""Rounds after which blocks that were compared are so again: an address may lead to nodes on different chains."""

log = logging.getLogger(__name__)

_o, _runs, _bookings = operations.c, event_runs.c, event_run_bookings.c
_IN_BLOCK = in_states(("confirmed", "failed")) & _o.block_number.is_not(None)


class FinalizedBlockChanged(ChainUnavailable):
    """A finalized block is another one than it was: the node is on another chain than the rows."""


class Cursor(NamedTuple):
    """How far the reconciler has followed the chain. Hashes are None in a row of an earlier version.

    Attributes:
        block_number: Number of the last block whose events are in the rows, or are due to be read.
        block_hash: Its hash.
        finalized_block: Number of the latest finalized block when the cursor moved last.
        finalized_hash: Its hash.
    """

    block_number: int
    block_hash: str | None
    finalized_block: int
    finalized_hash: str | None


class Finality:
    """Follows the chain's blocks by their hashes.

    Methods that read the chain raise `ChainUnavailable` if the node does not answer, or lacks a block.

    Args:
        database: The database.
        chain: The contract.
        finality_blocks: Depth in blocks at which a block cannot change; None to ask the node for its finalized block.
    """

    def __init__(self, database: Database, chain: BlockchainService, finality_blocks: int | None = None) -> None:
        self._database, self._chain, self._finality_blocks = database, chain, finality_blocks
        self._compared: tuple[Cursor, set[_Block]] | None = None  # blocks that were in the cursor's chain
        self._rounds = 0

    @property
    def _row(self) -> dict[str, Any]:
        return {"chain_id": self._chain.sender.chain_id, "contract": self._chain.address}

    def cursor(self) -> Cursor | None:
        """Returns how far the chain was followed; None if it was not."""
        columns = (chain_cursors.c[name] for name in Cursor._fields)
        with self._database.autocommit() as connection:
            row = connection.execute(select(*columns).filter_by(**self._row)).one_or_none()
        return None if row is None else Cursor(*row)

    def move_cursor(self, connection: Connection, header: BlockHeader) -> None:
        """Stores that the chain was followed up to a block; a cursor that is further stays as it is."""
        values = {"block_number": header.number, "block_hash": header.hash}
        is_further = chain_cursors.c.block_number < header.number
        is_unknown = (chain_cursors.c.block_number == header.number) & chain_cursors.c.block_hash.is_(None)
        connection.execute(
            insert(chain_cursors)
            .values(self._row | values)
            .on_conflict_do_update(index_elements=["chain_id", "contract"], set_=values, where=is_further | is_unknown)
        )

    def note_finalized(self, head: int) -> None:
        """Stores the latest finalized block, if the chain was followed up to it."""
        cursor, header = self.cursor(), self._finalized_header(head)
        if cursor is None or header is None or not cursor.finalized_block < header.number <= cursor.block_number:
            return
        with self._database.autocommit() as connection:
            connection.execute(
                update(chain_cursors)
                .filter_by(**self._row)
                .where(chain_cursors.c.finalized_block < header.number)
                .values(finalized_block=header.number, finalized_hash=header.hash)
            )

    def undo_reorganised(self, head: int) -> list[str] | None:
        """Reopens the operations whose blocks are not in the chain any more, and has the rows read again.

        Args:
            head: Number of the latest block.

        Returns:
            Keys of the operations that were reopened; None if nothing has changed.

        Raises:
            FinalizedBlockChanged: This is another chain, and nothing is concluded from it.
        """
        cursor = self.cursor()
        if cursor is None or cursor.block_hash is None:
            cursor = self._start(head)
        is_followed = self._chain.block_header(cursor.block_number).hash == cursor.block_hash
        self._rounds += 1
        gone = self._gone(cursor, self._known(cursor) if is_followed else set())
        if is_followed and not gone:
            return None
        finalized = cursor.finalized_block
        if cursor.finalized_hash not in (None, self._chain.block_header(finalized).hash):
            message = f"block {finalized} was final and is another one now: the node is on another chain than the rows."
            raise FinalizedBlockChanged(message)
        kept = min([cursor.block_number, *(number - 1 for number, _ in gone)]) if is_followed else finalized
        header = self._chain.block_header(kept)
        with self._database.transaction() as connection:
            reopened = _reopen(connection, self._chain.sender.chain_id, [block_hash for _, block_hash in gone])
            _read_runs_again(connection, header.number)
            connection.execute(
                update(chain_cursors)
                .filter_by(**self._row, block_hash=cursor.block_hash)
                .values(block_number=header.number, block_hash=header.hash)
            )
        message = "a reorganisation went deeper than the confirmations, back to block %s: %s operations reopened"
        log.error(message, header.number, len(reopened))
        for key in reopened:
            log.error("reopened, as its block was dropped; its transaction is sent again", extra={"operation": key})
        return reopened

    def _start(self, head: int) -> Cursor:
        """Returns a cursor at the finalized block, for a chain that was not followed yet: all later blocks count."""
        header = self._finalized_header(head) or self._chain.block_header(0)
        return Cursor(header.number, header.hash, header.number, None)

    def _known(self, cursor: Cursor) -> set[_Block]:
        """Returns blocks that were compared before, and are in the chain of a cursor that is followed."""
        if self._compared is None or self._rounds % COMPARE_AGAIN_AFTER == 0:
            return set()
        before, blocks = self._compared
        known = {block for block in blocks if block[0] <= before.block_number}
        if not known or before[:2] == cursor[:2]:
            return known
        is_before = before.block_number < cursor.block_number
        return known if is_before and self._chain.block_header(before.block_number).hash == before.block_hash else set()

    def _gone(self, cursor: Cursor, known: set[_Block]) -> list[_Block]:
        """Returns the blocks of closed operations that are not in the chain.

        One that is still there says nothing about earlier ones: its operations may have been closed since the chain
        changed.

        Args:
            cursor: How far the chain was followed.
            known: Blocks that need not be compared.
        """
        statement = select(_o.block_number, _o.block_hash).where(
            _IN_BLOCK,
            _o.chain_id == self._chain.sender.chain_id,
            _o.block_number > cursor.finalized_block,
            _o.block_hash.is_not(None),
        )
        with self._database.autocommit() as connection:
            blocks = {(number, block_hash) for number, block_hash in connection.execute(statement)}
        gone = [block for block in sorted(blocks - known) if self._chain.block_header(block[0]).hash != block[1]]
        self._compared = cursor, blocks.difference(gone)
        return gone

    def _finalized_header(self, head: int) -> BlockHeader | None:
        if self._finality_blocks is None:
            try:
                return self._chain.block_header("finalized")
            except ChainUnavailable:  # a node without this tag says so in its own words
                log.debug("the node has no finalized block")
        depth = self._finality_blocks or DEFAULT_FINALITY_BLOCKS
        return self._chain.block_header(head - depth) if head > depth else None


def _reopen(connection: Connection, chain_id: int, block_hashes: Sequence[str]) -> list[str]:
    """Sets operations back to submitted, and the rows that they created back to pending. Returns their keys."""
    none: dict[str, Any] = dict.fromkeys(("tx_hash", "block_number", "block_hash", "gas_used", "gas_price_wei"), None)
    # what was cancelled stays so: its replacement is sent again
    none["error"] = case((_o.error["code"].astext == Cancelled.code, _o.error))
    reopened = (
        update(operations)
        .where(_IN_BLOCK, _o.chain_id == chain_id, _o.block_hash.in_(block_hashes))
        .values(state="submitted", reorged=True, updated_at=func.clock_timestamp(), **NOT_HELD, **none)
        .returning(_o.key, _o.kind, _o.subject)
    )
    rows = connection.execute(reopened).all()
    created = [row.subject for row in rows if row.kind in CREATIONS]
    pending: dict[str, Any] = {"blockchain_status": "pending", "blockchain_tx_hash": None, "blockchain_error": None}
    connection.execute(
        update(event_run_bookings)
        .where(_bookings.id.in_(created))
        .values(**pending, status="active", blockchain_booking_id=None)
    )
    run = {"blockchain_event_run_id": None, "blockchain_block": 0, "refreshed_block": 0, "refresh_due": False}
    connection.execute(
        update(event_runs).where(_runs.id.in_(created)).values(**pending, **run, status="active", seats_booked=0)
    )
    return [row.key for row in rows]


def _read_runs_again(connection: Connection, kept_block: int) -> None:
    """Makes all runs due whose rows have values of later blocks than the one that is still in the chain."""
    later: ColumnElement[bool] = func.greatest(_runs.blockchain_block, _runs.refreshed_block) > kept_block
    connection.execute(
        update(event_runs)
        .where(later, _runs.blockchain_event_run_id.is_not(None))
        .values(
            blockchain_block=func.least(_runs.blockchain_block, kept_block),
            refreshed_block=func.least(_runs.refreshed_block, kept_block),
            refresh_due=True,
        )
    )
