"""Checks of the operations table during an episode, between the requests of the service."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from app.db.database import Database
from app.db.tables import operations
from app.services.operation_types import CLOSED_STATES
from eth_hash.auto import keccak
from hexbytes import HexBytes
from sqlalchemy import func, select
from stakesim.faults.protocol import Violation

from stakesim_adapter.faults.statements import follow_statements
from stakesim_adapter.faults.testbed import BackendTestbed

_columns = operations.c
_ALL_OPERATIONS = select(
    _columns.key,
    _columns.state,
    _columns.nonce,
    _columns.requeued,
    _columns.tx_hash,
    _columns.block_number,
    _columns.block_hash,
    _columns.attempts,
)


_PROGRESS = select(
    _columns.key,
    _columns.state,
    _columns.nonce,
    _columns.requeued,
    func.jsonb_array_length(_columns.attempts),
    _columns.block_number,
    _columns.held,
).where(_columns.state.not_in(CLOSED_STATES), _columns.abandoned_at.is_(None))


class Progress(NamedTuple):
    """What an open operation has reached.

    Attributes:
        state: State of the operation.
        nonce: Its nonce; None if it has none.
        requeued: How often it got a new nonce.
        attempts: Number of its attempts.
        block_number: Number of the block that it is in; None if it is in none.
        held: Why it is held; None if it is not.
    """

    state: str
    nonce: int | None
    requeued: int
    attempts: int
    block_number: int | None
    held: str | None


_WRITES = re.compile(r"\b(INSERT|UPDATE|DELETE)\b")
"""Statements that change rows; `FOR UPDATE` is among them, which does no harm."""


@dataclass
class OperationsWatch:
    """Compares each operation with its row at the last check.

    Attributes:
        testbed: Chain and database; both are read without faults.
        confirmations: Depth at which a block is final for the services.
        deep_reorg: Returns whether a reorg went deeper than the confirmations: only then may operations be reopened.
        violations: All violations, each only once.
    """

    testbed: BackendTestbed
    confirmations: int
    deep_reorg: Callable[[], bool] = lambda: False
    violations: list[Violation] = field(default_factory=list)
    _last_rows: dict[str, Any] = field(default_factory=dict)
    _may_have_changed: bool = True

    def follow(self, database: Database) -> None:
        """From now on, `check_operations` reads only after statements on this database that write."""
        follow_statements(database, after=self._executed)

    def check_operations(self) -> None:
        """Checks all operations that have changed. Call it before each request, and so before each block."""
        if not self._may_have_changed:
            return
        self._may_have_changed = False
        with self.testbed.observer.connect() as connection:
            rows = connection.execute(_ALL_OPERATIONS).all()
        for row in rows:
            last = self._last_rows.get(row.key)
            if last is not None and last[:-1] == row[:-1]:
                continue
            self._last_rows[row.key] = row
            if last is not None and last.state in CLOSED_STATES and row.state != last.state and not self.deep_reorg():
                self._report("I5", f"{row.key} was {last.state}, which is final, and then {row.state}")
            if last is not None and row.requeued > last.requeued:
                self._check_nonce_is_used(row.key, last.nonce, "got a new nonce")
            if row.state in ("confirmed", "failed") and (last is None or last.state not in CLOSED_STATES):
                self._check_is_final(row)

    def progress(self) -> dict[str, Progress]:
        """What each open operation has reached, by key."""
        with self.testbed.observer.connect() as connection:
            rows = connection.execute(_PROGRESS).all()
        return {row.key: Progress(*row[1:]) for row in rows}

    def check_is_stored(self, raw: str) -> None:
        """Checks that an operation has this raw transaction (0x-prefixed hex). Call it before the send."""
        tx_hash = HexBytes(keccak(HexBytes(raw))).to_0x_hex()
        with self.testbed.observer.connect() as connection:
            holder = select(_columns.key).where(_columns.attempts.contains([{"hash": tx_hash}]))
            if connection.execute(holder).first() is None:
                self._report("I3", f"{tx_hash} was sent, and no operation in the database has it")

    def _executed(self, sql: str, parameters: Any) -> None:
        self._may_have_changed = self._may_have_changed or _WRITES.search(sql) is not None

    def _check_is_final(self, row: Any) -> None:
        if row.tx_hash is None:
            self._check_nonce_is_used(row.key, row.nonce, "failed")
            return
        depth = self.testbed.head() - row.block_number + 1
        if depth < self.confirmations:
            self._report("I5", f"{row.key} was {row.state} at depth {depth}; {self.confirmations} are needed")
        block_hash = self.testbed.w3.eth.get_block(row.block_number)["hash"].to_0x_hex() if depth > 0 else None
        # a deep reorganisation may come between the look at the block and the commit; it is reopened later
        if block_hash != row.block_hash and not self.deep_reorg():
            self._report(
                "I5",
                f"{row.key} was {row.state} in block {row.block_number} {row.block_hash}; "
                f"the chain has {block_hash} there",
            )

    def _check_nonce_is_used(self, key: str, nonce: int, change: str) -> None:
        """The nonce must be used in a final block before an operation gets another one, or fails without a receipt."""
        final_block = self.testbed.head() - self.confirmations + 1
        with self.testbed.observer.connect() as connection:
            sender = connection.execute(select(_columns.sender).where(_columns.key == key)).scalar_one()
        if self.testbed.w3.eth.get_transaction_count(sender, final_block) <= nonce:
            self._report("I5", f"{key} {change} while its nonce {nonce} was not used by final block {final_block}")

    def _report(self, invariant: str, message: str) -> None:
        violation = Violation(invariant, message)
        if violation not in self.violations:
            self.violations.append(violation)
