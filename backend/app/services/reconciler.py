"""Reconciles database and chain after a crash, a reorganisation, or transactions that the service did not send.

It continues open operations from their state, whichever process began them. It finds foreign transactions on the
service's runs by the contract's events, up to the latest final block, and reads the results from the contract's views.

A round does what it can: the trouble of one operation or run is a problem in the report, and the others go on. It ends
early only if node or database does not answer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from sqlalchemy import func, select, update

from app.core.errors import AppError, ChainUnavailable, ContractRejected, UnsupportedByContract
from app.db.database import DATABASE_ERRORS, Database
from app.db.tables import Booking, EventRun, event_runs, operations
from app.services.blockchain_service import BlockchainService
from app.services.event_run_service import EventRunService
from app.services.finality import Finality, FinalizedBlockChanged
from app.services.health import Health
from app.services.housekeeping import KEEP_ANSWERS, tidy
from app.services.operation_types import Operation
from app.services.operations import open_operations
from app.services.payments.service import PaymentService
from app.services.run_pages import pages_of_runs
from app.services.steps import take_steps

MAX_BLOCK_RANGE = 1_000
"""Number of blocks whose events public nodes return in one response."""

log = logging.getLogger(__name__)


@dataclass
class ReconcileReport:
    """What one round did.

    Attributes:
        advanced: Operations whose state changed, each with the state before.
        pending: Operations that are not closed.
        refreshed: Ids of the runs that were updated from the contract's views.
        differences: A sentence for each difference between a row and the contract.
        problems: A sentence for each thing that could not be done.
        failure: Why the round ended early; None if it did not.
        differing_runs: Ids of the runs whose rows differ, in a dry run.
        block: Number of the block as of which rows are compared, in a dry run.
    """

    advanced: list[tuple[str, Operation]] = field(default_factory=list)
    pending: list[Operation] = field(default_factory=list)
    refreshed: list[UUID] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    failure: str | None = None
    differing_runs: list[UUID] = field(default_factory=list)
    block: int = 0


class Reconciler:
    """Reconciles the database with one contract. Any number of processes may do so at the same time.

    Args:
        database: The database.
        chain: The contract.
        runs: Refreshes the rows of runs.
        quiet_for: Seconds without a change after which the reconciler continues an operation.
        max_block_range: Number of blocks whose events are requested at once.
        health: Where rounds are recorded.
        finality_blocks: Depth in blocks at which a block cannot change; None to ask the node for its finalized block.
        keep_answers: Age at which the response to an Idempotency-Key is removed.
        skip: Returns whether somebody else in this process follows the operation with a key.
        payments: Payments in INR; None if nobody pays.
    """

    def __init__(
        self,
        database: Database,
        chain: BlockchainService,
        runs: EventRunService,
        quiet_for: float = 15,
        *,
        max_block_range: int = MAX_BLOCK_RANGE,
        health: Health | None = None,
        finality_blocks: int | None = None,
        keep_answers: timedelta = KEEP_ANSWERS,
        skip: Callable[[str], bool] = lambda key: False,
        payments: PaymentService | None = None,
    ) -> None:
        self._database = database
        self._chain = chain
        self._runs = runs
        self._quiet_for = timedelta(seconds=quiet_for)
        self._max_block_range = max_block_range
        self.health = health or Health()
        self._finality = Finality(database, chain, finality_blocks)
        self._keep_answers = keep_answers
        self._skip = skip
        self._payments = payments

    def run_full(self) -> ReconcileReport:
        """Runs a round on everything: continues all operations, compares all rows, and refreshes those that differ."""
        report = self.run_once(quiet_for=timedelta(0))
        if report.failure is None:
            block = self._last_complete_block(report, self._chain.block_number())
            for run_id in self._compare_all_runs(report, block):
                self._refresh(run_id, report, block)
        return report

    def run_once(self, quiet_for: timedelta | None = None) -> ReconcileReport:
        """Runs a round on what may have changed. Records it, and logs what it could not do.

        Args:
            quiet_for: Time without a change after which an operation is continued; the reconciler's own if None.
        """
        report = ReconcileReport(failure="the round was broken off by an unexpected error")
        try:
            report.failure = self._run_stages(report, self._quiet_for if quiet_for is None else quiet_for)
        except DATABASE_ERRORS as error:
            report.failure = error.message
            raise
        finally:
            for problem in self.health.round_ended(report.problems, report.failure):
                log.error("the reconciler could not do everything: %s", problem)
        return report

    def dry_run(self) -> ReconcileReport:
        """Reports open operations and differences, and changes nothing."""
        report = ReconcileReport(pending=self._open_operations(timedelta(0)))
        report.block = self._last_complete_block(report, self._chain.block_number())
        report.differing_runs = self._compare_all_runs(report, report.block)
        return report

    def _run_stages(self, report: ReconcileReport, quiet_for: timedelta) -> str | None:
        """Runs the parts of a round in their order. Returns why the round ended early; None if it did not."""
        try:
            self._look_at_contract()
            for operation in self._open_operations(quiet_for):
                if not quiet_for or not self._skip(operation.key):
                    self._advance(operation, report)
            report.pending = self._open_operations(timedelta(0))
            head = self._chain.block_number()
            self.health.head_seen(head)
            sender = self._chain.sender
            unknown = sender.nonces.find_unknown(sender.chain_id, max(sender.policy.final_block(head), 0))
            if self.health.found("nonces", unknown):
                log.error("nothing is signed: %s", unknown)
            last_block = self._follow_events(report, head)
            with self._database.transaction() as connection:
                due = connection.scalars(select(event_runs.c.id).where(event_runs.c.refresh_due)).all()
            for run_id in due:
                self._refresh(run_id, report, last_block)
            tidy(self._database, self._keep_answers)
            if self._payments is not None:
                cursor = self._finality.cursor()
                report.problems += self._payments.run_round(0 if cursor is None else cursor.finalized_block)
        except ChainUnavailable as error:
            return error.message
        return None

    def _look_at_contract(self) -> None:
        watch = self._chain.sender.contract_watch
        if watch is not None:
            problem = watch.look()
            if self.health.found("contract", problem):
                log.error("%s", problem)

    # ------------------------------------------------------------------------------------------ open operations

    def _open_operations(self, quiet_for: timedelta) -> list[Operation]:
        with self._database.transaction() as connection:
            now = connection.execute(select(func.clock_timestamp())).scalar_one()
            pending = open_operations(connection, self._chain.sender.chain_id)
        return [operation for operation in pending if now - operation.updated_at >= quiet_for]

    def _advance(self, operation: Operation, report: ReconcileReport) -> None:
        """Steps the operation as long as its state changes.

        Raises:
            ChainUnavailable: The node does not answer anything any more.
        """
        state_before = operation.state
        try:
            for stepped in take_steps(self._chain.sender, operation):
                operation = stepped
        except ChainUnavailable as error:
            report.problems.append(error.message)
            self._chain.block_number()
        except DATABASE_ERRORS:
            raise
        except Exception as error:  # one operation's trouble must not stop the others
            log.exception("unexpected error of one operation", extra={"operation": operation.key})
            report.problems.append(f"{operation.kind} {operation.key}: unexpected {type(error).__name__}")
        if operation.state != state_before:
            log.info("%s: %s", operation.kind, operation.state, extra={"operation": operation.key})
            report.advanced.append((state_before, operation))

    # ------------------------------------------------------------------------------------------ foreign transactions

    def _follow_events(self, report: ReconcileReport, head: int) -> int:
        """Makes the runs due that foreign transactions changed in the blocks that became final since the last round.

        Returns:
            The last complete block, as of which runs may be refreshed.

        Raises:
            ChainUnavailable: The node does not answer; the cursor stays before the blocks that it did not show.
        """
        final_block = max(self._chain.sender.policy.final_block(head), 0)
        last_block = self._last_complete_block(report, head)
        while True:
            cursor = self._finality.cursor()
            first = last_block if cursor is None else cursor.block_number + 1
            last = min(first + self._max_block_range - 1, last_block)
            self.health.cursor_lag = max(final_block - (first - 1), 0)
            # Read before all else: if this block changes meanwhile, the next round notices
            header = self._chain.block_header(last) if first <= last else None
            reopened = self._undo_reorganised(head)
            if reopened is not None:
                report.problems.append(f"a deep reorganisation: {len(reopened)} operations were reopened")
                return last_block
            if header is None:
                return last_block
            changed_runs = self._runs_changed_by_others(first, last, report)
            with self._database.transaction() as connection:
                if changed_runs:
                    due = update(event_runs).where(event_runs.c.blockchain_event_run_id.in_(changed_runs))
                    seen = func.greatest(event_runs.c.blockchain_block, last)  # no earlier view is good enough
                    connection.execute(due.values(refresh_due=True, blockchain_block=seen))
                self._finality.move_cursor(connection, header)
            self.health.cursor_lag = max(final_block - last, 0)
            if last == last_block:
                self._finality.note_finalized(head)
                return last_block

    def _undo_reorganised(self, head: int) -> list[str] | None:
        try:
            reopened = self._finality.undo_reorganised(head)
        except FinalizedBlockChanged as error:
            self.health.found("finality", error.message)  # the round fails because of it, which is logged
            raise
        self.health.found("finality", None)
        if reopened is not None:
            self.health.reorganised(len(reopened))
        return reopened

    def _last_complete_block(self, report: ReconcileReport, head: int) -> int:
        """Returns the latest final block up to which all mined operations of the service are closed."""
        final_block = max(self._chain.sender.policy.final_block(head), 0)
        return min([final_block, *(o.block_number - 1 for o in report.pending if o.block_number is not None)])

    def _runs_changed_by_others(self, first_block: int, last_block: int, report: ReconcileReport) -> set[int]:
        """Returns the on-chain ids of the runs with events in these blocks from foreign transactions.

        If the contract does not show a booking that has events, the report gets a problem; other events still count.
        """
        events = self._chain.events_between(first_block, last_block)
        with self._database.transaction() as connection:
            hashes = {tx_hash for tx_hash, _ in events}
            own_hashes = set(connection.scalars(select(operations.c.tx_hash).where(operations.c.tx_hash.in_(hashes))))
        for tx_hash in hashes - own_hashes:
            self._chain.sender.nonces.examine(self._chain.sender.chain_id, tx_hash)
        foreign_args = [event.args for tx_hash, event in events if tx_hash not in own_hashes]
        onchain_run_ids: set[int] = {args["event_run_id"] for args in foreign_args if "event_run_id" in args}
        without_run = (args for args in foreign_args if "event_run_id" not in args)
        for onchain_booking_id in {args["booking_id"] for args in without_run if "booking_id" in args}:
            try:
                onchain_run_ids.add(self._chain.get_booking_from_chain(onchain_booking_id).onchain_run_id)
            except (ContractRejected, UnsupportedByContract) as error:
                report.problems.append(error.message)
        return onchain_run_ids

    def _refresh(self, run_id: UUID, report: ReconcileReport, block: int) -> None:
        """Refreshes a run and its bookings as of a block. If it can't, the run stays due.

        Raises:
            ChainUnavailable: The node does not answer anything any more.
        """
        try:
            if self._runs.refresh(run_id, block).refreshed_block >= block:
                report.refreshed.append(run_id)
        except ChainUnavailable as error:
            report.problems.append(error.message)
            self._chain.block_number()
        except DATABASE_ERRORS:
            raise
        except Exception as error:  # one run's trouble must not stop the others
            known = isinstance(error, AppError)
            if not known:
                log.exception("unexpected error of one run")
            report.problems.append(f"event run {run_id}: {error if known else 'unexpected ' + type(error).__name__}")

    # ------------------------------------------------------------------------------------------ differences

    def _compare_all_runs(self, report: ReconcileReport, block: int) -> list[UUID]:
        """Adds the differences between rows and contract to the report.

        Returns:
            Ids of the runs that differ and can be refreshed, as they are on chain.
        """
        differing_runs = []
        runs = ((run, page) for page in pages_of_runs(self._database) for run in page.runs)
        for run, its_page in runs:
            bookings = its_page.bookings[run.id]
            differences = [*_abandoned_rows(run, bookings, its_page.open_subjects)]
            if run.blockchain_status == "confirmed" and run.blockchain_block <= block:
                differences += self._compare_with_chain(run, bookings, block)
            report.differences += differences
            if differences and run.blockchain_status == "confirmed":
                differing_runs.append(run.id)
        return differing_runs

    def _compare_with_chain(self, run: EventRun, bookings: list[Booking], block: int) -> Iterator[str]:
        """Yields the differences between rows and the contract's views as of a block."""
        run_name = f"event run {run.id} ({run.blockchain_event_run_id} on chain)"
        assert run.blockchain_event_run_id is not None
        try:
            onchain_run = self._chain.get_event_run_from_chain(run.blockchain_event_run_id, block)
        except AppError as error:
            yield f"{run_name}: {error}"
            return
        yield from _differences(
            run_name,
            status=(run.status, onchain_run.status.name.lower()),
            seats_booked=(run.seats_booked, onchain_run.seats_booked),
            max_seats=(run.max_seats, onchain_run.max_seats),
            price_wei=(run.blockchain_price_per_seat_wei, onchain_run.price_per_seat),
            stake_wei=(run.blockchain_stake_amount_wei, onchain_run.host_stake),
        )
        for booking in bookings:
            if booking.blockchain_booking_id is None:
                continue
            booking_name = f"booking {booking.id} ({booking.blockchain_booking_id} on chain)"
            try:
                onchain_booking = self._chain.get_booking_from_chain(booking.blockchain_booking_id, block)
            except AppError as error:
                yield f"{booking_name}: {error}"
                continue
            yield from _differences(
                booking_name,
                status=(booking.status, onchain_booking.status.name.lower()),
                seats=(booking.seats, onchain_booking.seat_count),
                payment_wei=(booking.blockchain_payment_wei, onchain_booking.total_payment),
                stake_wei=(booking.blockchain_stake_amount_wei, onchain_booking.user_stake),
                event_run=(run.blockchain_event_run_id, onchain_booking.onchain_run_id),
            )


def _differences(row_name: str, **pairs: tuple[object, object]) -> Iterator[str]:
    for name, (stored, onchain) in pairs.items():
        if stored != onchain:
            yield f"{row_name}: {name} is {stored} in the database, {onchain} on chain"


def _abandoned_rows(run: EventRun, bookings: list[Booking], open_subjects: set[UUID | None]) -> Iterator[str]:
    """Yields a sentence for each row that waits to be created on chain, and has no open operation that does so."""
    rows: list[tuple[str, EventRun | Booking]] = [("event run", run), *(("booking", booking) for booking in bookings)]
    for kind, row in rows:
        if row.blockchain_status == "pending" and row.id not in open_subjects:
            yield f"{kind} {row.id} is pending, and no operation brings it on chain"
