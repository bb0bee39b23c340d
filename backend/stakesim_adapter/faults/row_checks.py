"""Checks of the rows of event runs and bookings against a replay of the contract's events (I6)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from app.db.tables import event_run_bookings, event_runs, users
from sqlalchemy import select
from stakesim.faults.protocol import Violation
from stakesim.faults.testbed import stranger
from stakesim.model.state import BookingStatus, RunStatus
from stakesim.runner.event_replay import EventReplay

from stakesim_adapter.faults.canonical_chain import CanonicalChain
from stakesim_adapter.faults.testbed import BackendTestbed

_RUNS = select(event_runs, users.c.wallet_address).join(users)
_BOOKINGS = (
    select(event_run_bookings, users.c.wallet_address, event_runs.c.blockchain_event_run_id.label("onchain_run_id"))
    .join(users, users.c.id == event_run_bookings.c.user_id)
    .join(event_runs, event_runs.c.id == event_run_bookings.c.event_run_id)
)


class RowsAndEvents(NamedTuple):
    """The data of the checks.

    Attributes:
        runs: Rows of `event_runs`, with the host's `wallet_address`.
        bookings: Rows of `event_run_bookings`, with the attendee's `wallet_address` and the run's `onchain_run_id`.
        replay: The contract's state by its events.
        run_creations: Hash of the transaction that created a run, by the on-chain id.
        booking_creations: Likewise for bookings.
        foreign_transactions: Hashes of transactions that the service did not send.
        platform_address: Host or attendee on chain of users without a wallet.
    """

    runs: Sequence[Any]
    bookings: Sequence[Any]
    replay: EventReplay
    run_creations: Mapping[int, str]
    booking_creations: Mapping[int, str]
    foreign_transactions: frozenset[str]
    platform_address: str


def check_rows(testbed: BackendTestbed, chain: CanonicalChain, platform_address: str) -> list[Violation]:
    """Runs all checks of this module. No operation may be open.

    Args:
        testbed: Its database has the rows.
        chain: Chain at the end of the episode.
        platform_address: Address of the platform's wallet.
    """
    data = _read(testbed, chain, platform_address)
    return [violation for find_violations in ROW_CHECKS for violation in find_violations(data)]


def _read(testbed: BackendTestbed, chain: CanonicalChain, platform_address: str) -> RowsAndEvents:
    with testbed.observer.connect() as connection:
        runs, bookings = connection.execute(_RUNS).all(), connection.execute(_BOOKINGS).all()
    replay, run_creations, booking_creations = EventReplay(), dict[int, str](), dict[int, str]()
    for tx_hash, events in chain.events.items():
        replay.replay(events)
        for event in events:
            if event.name == "EventRunCreated":
                run_creations[event.args["event_run_id"]] = tx_hash
            elif event.name == "BookingCreated":
                booking_creations[event.args["booking_id"]] = tx_hash
    foreign = (tx_hash for tx_hash, receipt in chain.receipts.items() if receipt["from"] == stranger().address)
    return RowsAndEvents(runs, bookings, replay, run_creations, booking_creations, frozenset(foreign), platform_address)


def _no_row_is_pending(data: RowsAndEvents) -> Iterator[Violation]:
    for row in (*data.runs, *data.bookings):
        if row.blockchain_status == "pending":
            yield Violation("I6", f"row {row.id} is pending though the faults have stopped")


def _runs_equal_the_replay(data: RowsAndEvents) -> Iterator[Violation]:
    for row in _confirmed(data.runs):
        onchain_run_id = row.blockchain_event_run_id
        if onchain_run_id not in data.replay.runs:
            yield _unknown("run", row.id, onchain_run_id)
            continue
        run = data.replay.runs[onchain_run_id]
        expected = {
            "status": RunStatus(run.status).name.lower(),
            "max_seats": run.max_seats,
            "blockchain_price_per_seat_wei": run.price,
            "blockchain_stake_amount_wei": run.host_stake,
            "blockchain_tx_hash": data.run_creations[onchain_run_id],
        }
        if run.open:
            expected["seats_booked"] = run.seats_booked
        yield from _differences(f"run {onchain_run_id}", row, expected)
        if run.host != (row.wallet_address or data.platform_address):
            message = f"run {onchain_run_id}: the host on chain is {run.host}, the user's wallet {row.wallet_address}"
            yield Violation("I6", message)


def _bookings_equal_the_replay(data: RowsAndEvents) -> Iterator[Violation]:
    for row in _confirmed(data.bookings):
        onchain_booking_id = row.blockchain_booking_id
        if onchain_booking_id not in data.replay.bookings:
            yield _unknown("booking", row.id, onchain_booking_id)
            continue
        booking = data.replay.bookings[onchain_booking_id]
        expected = {
            "status": BookingStatus(booking.status).name.lower(),
            "onchain_run_id": booking.run_id,
            "seats": booking.seats,
            "blockchain_payment_wei": booking.payment,
            "blockchain_stake_amount_wei": booking.stake,
            "blockchain_tx_hash": data.booking_creations[onchain_booking_id],
        }
        yield from _differences(f"booking {onchain_booking_id}", row, expected)
        if booking.user != (row.wallet_address or data.platform_address):
            message = (
                f"booking {onchain_booking_id}: {booking.user} on chain, the user's wallet is {row.wallet_address}"
            )
            yield Violation("I6", message)


def _each_creation_has_one_row(data: RowsAndEvents) -> Iterator[Violation]:
    """Ignores runs and bookings that the service did not create."""
    run_counts = Counter(row.blockchain_event_run_id for row in data.runs)
    booking_counts = Counter(row.blockchain_booking_id for row in data.bookings)
    for kind, creations, row_counts in (
        ("run", data.run_creations, run_counts),
        ("booking", data.booking_creations, booking_counts),
    ):
        for onchain_id, tx_hash in creations.items():
            count = row_counts[onchain_id]
            if count != 1 and tx_hash not in data.foreign_transactions:
                yield Violation("I6", f"{kind} {onchain_id} was created by {tx_hash}, and {count} rows have it")


ROW_CHECKS: tuple[Callable[[RowsAndEvents], Iterator[Violation]], ...] = (
    _no_row_is_pending,
    _runs_equal_the_replay,
    _bookings_equal_the_replay,
    _each_creation_has_one_row,
)


def _confirmed(rows: Sequence[Any]) -> list[Any]:
    return [row for row in rows if row.blockchain_status == "confirmed"]


def _unknown(kind: str, row_id: object, onchain_id: int) -> Violation:
    return Violation("I6", f"{kind} {row_id} is confirmed as {onchain_id}, which the canonical logs don't have")


def _differences(name: str, row: Any, expected: Mapping[str, Any]) -> Iterator[Violation]:
    """Yields a violation for each column that does not have its expected value."""
    for column, value in expected.items():
        if (actual := getattr(row, column)) != value:
            message = f"{name}: {column} is {actual} in the database, {value} by the canonical logs"
            yield Violation("I6", message)
