"""Brings database and chain together: after a crash, a reorg, or what was done past the service.

Operations go on from where they are, whoever began them. What others did to our runs is seen in the contract's events,
up to the last block that is final, and taken over from its views. What the rows hold is final, so nothing of it is
ever taken back.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from app.core.errors import AppError, ChainUnavailable, ContractRejected, UnsupportedByContract
from app.db.database import Database
from app.db.tables import Booking, EventRun, chain_cursors, event_run_bookings, event_runs, operations
from app.services.blockchain_service import BlockchainService
from app.services.event_run_service import EventRunService
from app.services.operations import CLOSED, Operation, open_operations

SPAN = 1_000
"""Blocks whose events are asked for at once: what public nodes answer."""

log = logging.getLogger(__name__)


@dataclass
class Report:
    """What one round came to.

    moved: operations, each with the state it had before. open: those that are not closed. refreshed: runs that others
    did something to. differences: rows that are not what the contract says, in words. trouble: what could not be done.
    """

    moved: list[tuple[str, Operation]] = field(default_factory=list)
    open: list[Operation] = field(default_factory=list)
    refreshed: list[UUID] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)


class Reconciler:
    """For one contract. quiet_for: seconds that an operation is left to whoever works on it."""

    def __init__(
        self, database: Database, chain: BlockchainService, runs: EventRunService, quiet_for: float = 15
    ) -> None:
        self._database = database
        self._chain = chain
        self._runs = runs
        self._quiet_for = timedelta(seconds=quiet_for)

    def start(self) -> Report:
        """One round on everything: all operations, and every row is compared and mended."""
        report = self.run_once(quiet_for=timedelta(0))
        for run_id in self._differing(report):
            self._refresh(run_id, report)
        return report

    def run_once(self, quiet_for: timedelta | None = None) -> Report:
        """One round on what may have changed. Any number of processes may do it at once."""
        report = Report()
        for operation in self._open(self._quiet_for if quiet_for is None else quiet_for):
            self._go_on(operation, report)
        report.open = self._open(timedelta(0))
        if not report.trouble:
            self._follow(report)
            with self._database.transaction() as connection:
                due = connection.scalars(select(event_runs.c.id).where(event_runs.c.refresh_due)).all()
            for run_id in due:
                self._refresh(run_id, report)
        return report

    def look(self) -> Report:
        """What there is to do, without doing it."""
        report = Report(open=self._open(timedelta(0)))
        for _ in self._differing(report):
            pass
        return report

    def _open(self, quiet_for: timedelta) -> list[Operation]:
        with self._database.transaction() as connection:
            now = connection.execute(select(func.clock_timestamp())).scalar_one()
            found = open_operations(connection, self._chain.sender.chain_id)
        return [operation for operation in found if now - operation.updated_at >= quiet_for]

    def _go_on(self, operation: Operation, report: Report) -> None:
        """As far as it goes without waiting."""
        before = operation.state
        try:
            while not operation.closed:
                after = self._chain.sender.step(operation)
                if after.state == operation.state:
                    break
                operation = after
        except ChainUnavailable as error:
            report.trouble.append(error.message)
        if operation.state != before:
            log.info("%s: %s", operation.kind, operation.state, extra={"operation": operation.key})
            report.moved.append((before, operation))

    # ------------------------------------------------------------------------------------------ what others did

    def _follow(self, report: Report) -> None:
        """Refreshes the runs that final events of transactions which are not ours are about."""
        where = {"chain_id": self._chain.sender.chain_id, "contract": self._chain.address}
        last = self._final_block(report)
        with self._database.transaction() as connection:
            known = connection.execute(select(chain_cursors.c.block_number).filter_by(**where)).scalar_one_or_none()
        first = last if known is None else known + 1
        while first <= last:
            until = min(first + SPAN - 1, last)
            try:
                touched = self._touched_by_others(first, until, report)
            except ChainUnavailable as error:
                report.trouble.append(error.message)
                return
            if not all(self._refresh(run_id, report, last) for run_id in touched):
                return
            with self._database.transaction() as connection:
                at = insert(chain_cursors).values(**where, block_number=until)
                newest = func.greatest(chain_cursors.c.block_number, until)
                connection.execute(
                    at.on_conflict_do_update(index_elements=["chain_id", "contract"], set_={"block_number": newest})
                )
            first = until + 1

    def _final_block(self, report: Report) -> int:
        """The last block that is final, and before which no operation of ours is left to be closed."""
        final = max(self._chain.block_number() - self._chain.sender.policy.confirmations + 1, 0)
        return min([final, *(o.block_number - 1 for o in report.open if o.block_number is not None)])

    def _touched_by_others(self, first: int, last: int, report: Report) -> list[UUID]:
        """Our runs that transactions which are not ours did something to. A booking that has events, and that the
        contract does not show, is told as trouble; the runs' own events still count."""
        events = self._chain.events_between(first, last)
        with self._database.transaction() as connection:
            hashes = {tx_hash for tx_hash, _ in events}
            ours = set(connection.scalars(select(operations.c.tx_hash).where(operations.c.tx_hash.in_(hashes))))
        args = [event.args for tx_hash, event in events if tx_hash not in ours]
        ids = {a["event_run_id"] for a in args if "event_run_id" in a}
        for booking in {a["booking_id"] for a in args if "booking_id" in a and "event_run_id" not in a}:
            try:
                ids.add(self._chain.get_booking_from_chain(booking).event_run_id)
            except (ContractRejected, UnsupportedByContract) as error:
                report.trouble.append(error.message)
        with self._database.transaction() as connection:
            by_run = select(event_runs.c.id).where(event_runs.c.blockchain_event_run_id.in_(ids))
            return list(connection.scalars(by_run))

    def _refresh(self, run_id: UUID, report: Report, block: int | None = None) -> bool:
        """Whether the run and its bookings are now as they were at that block, the last final one if none is given."""
        at = self._final_block(report) if block is None else block
        try:
            run = self._runs.refresh(run_id, at)
        except AppError as error:
            report.trouble.append(error.message)
            return False
        report.refreshed.append(run_id)
        return run.refreshed_block >= at  # else the row is of a later block already

    # ---------------------------------------------------------------------------------- what differs, if anything

    def _differing(self, report: Report) -> Iterator[UUID]:
        """The runs whose rows, or whose bookings' rows, are not what the contract says; the report says how."""
        block = self._final_block(report)
        with self._database.transaction() as connection:
            rows = connection.execute(select(event_runs).order_by(event_runs.c.created_at)).all()
            booked = connection.execute(select(event_run_bookings).order_by(event_run_bookings.c.created_at)).all()
            about = select(operations.c.subject).where(operations.c.state.not_in(CLOSED))
            in_work = set(connection.scalars(about))
        for run in (EventRun(*row) for row in rows):
            bookings = [b for b in (Booking(*row) for row in booked) if b.event_run_id == run.id]
            found = [*_left_alone(run, bookings, in_work)]
            if run.blockchain_status == "confirmed" and run.blockchain_block <= block:
                found += self._of_run(run, bookings, block)
            report.differences += found
            if found:
                yield run.id

    def _of_run(self, run: EventRun, bookings: list[Booking], block: int) -> Iterator[str]:
        what = f"event run {run.id} ({run.blockchain_event_run_id} on chain)"
        assert run.blockchain_event_run_id is not None
        try:
            there = self._chain.get_event_run_from_chain(run.blockchain_event_run_id, block)
        except AppError as error:
            yield f"{what}: {error}"
            return
        yield from _differences(
            what,
            status=(run.status, there.status.name.lower()),
            seats_booked=(run.seats_booked, there.seats_booked),
            max_seats=(run.max_seats, there.max_seats),
            price_wei=(run.blockchain_price_per_seat_wei, there.price_per_seat),
            stake_wei=(run.blockchain_stake_amount_wei, there.host_stake),
        )
        for booking in bookings:
            if booking.blockchain_booking_id is None:
                continue
            what = f"booking {booking.id} ({booking.blockchain_booking_id} on chain)"
            try:
                at = self._chain.get_booking_from_chain(booking.blockchain_booking_id, block)
            except AppError as error:
                yield f"{what}: {error}"
                continue
            yield from _differences(
                what,
                status=(booking.status, at.status.name.lower()),
                seats=(booking.seats, at.seat_count),
                payment_wei=(booking.blockchain_payment_wei, at.total_payment),
                stake_wei=(booking.blockchain_stake_amount_wei, at.user_stake),
                event_run=(run.blockchain_event_run_id, at.event_run_id),
            )


def _differences(what: str, **pairs: tuple[object, object]) -> Iterator[str]:
    for name, (row, chain) in pairs.items():
        if row != chain:
            yield f"{what}: {name} is {row} in the database, {chain} on chain"


def _left_alone(run: EventRun, bookings: list[Booking], in_work: set[UUID | None]) -> Iterator[str]:
    """Rows that wait for an operation that there is not."""
    for what, row in (("event run", run), *(("booking", booking) for booking in bookings)):
        if row.blockchain_status == "pending" and row.id not in in_work:  # type: ignore[attr-defined]
            yield f"{what} {row.id} is pending, and no operation brings it on chain"  # type: ignore[attr-defined]
