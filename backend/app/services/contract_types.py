"""Types of the contract: results of its transactions and of its views.

Fields have the names of the contract's events and views, except for the ids: its `eventRunId` is `onchain_run_id` here,
its `bookingId` is `onchain_booking_id`. Amounts are in wei.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import TypeVar

from eth_typing import ChecksumAddress

from app.core.errors import InvalidRequest, UnsupportedByContract

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class RunStatus(IntEnum):
    """Status of an event run. COMPLETED, CANCELLED and EXPIRED are final; CREATED is unused."""

    CREATED = 0
    ACTIVE = 1
    FULL = 2
    COMPLETED = 3
    CANCELLED = 4
    EXPIRED = 5


class BookingStatus(IntEnum):
    """Status of a booking. COMPLETED means attended, CANCELLED refunded."""

    ACTIVE = 0
    COMPLETED = 1
    NO_SHOW = 2
    CANCELLED = 3


_Status = TypeVar("_Status", RunStatus, BookingStatus)


def status_of(kind: type[_Status], value: int, row_name: str) -> _Status:
    """Returns the status that the contract gives as a number.

    Raises:
        UnsupportedByContract: There is none with this number.
    """
    try:
        return kind(value)
    except ValueError:
        raise UnsupportedByContract(
            f"The contract has {row_name} in status {value}, which is not known here."
        ) from None


@dataclass(frozen=True)
class DeferredPayout:
    """A payout in wei that its receiver did not accept. The receiver has it as a credit to withdraw."""

    receiver: ChecksumAddress
    amount: int


@dataclass(frozen=True, kw_only=True)
class TransactionResult:
    """A transaction that succeeded.

    Attributes:
        tx_hash: Hash of the transaction.
        block_number: Number of its block.
        gas_used: Units of gas that it used.
        gas_price: Wei per gas that were paid.
        deferred: Payouts that it deferred.
    """

    tx_hash: str
    block_number: int
    gas_used: int
    gas_price: int
    deferred: tuple[DeferredPayout, ...]

    @property
    def gas_cost(self) -> int:
        """Wei that the signer paid for gas."""
        return self.gas_used * self.gas_price


@dataclass(frozen=True, kw_only=True)
class EventRunCreated(TransactionResult):
    """A run was created."""

    onchain_run_id: int
    host: ChecksumAddress
    experience_id: str
    price_per_seat: int
    max_seats: int
    host_stake: int


@dataclass(frozen=True, kw_only=True)
class BookingCreated(TransactionResult):
    """A booking was created."""

    onchain_booking_id: int
    onchain_run_id: int
    user: ChecksumAddress
    seat_count: int
    total_payment: int
    user_stake: int


@dataclass(frozen=True, kw_only=True)
class EventCompleted(TransactionResult):
    """A run was completed.

    Attributes:
        stakes_returned: Wei by the on-chain id of each booking that attended.
        stakes_forfeited: Wei by the on-chain id of each no-show.
    """

    onchain_run_id: int
    host_payout: int
    host_stake_returned: int
    stakes_returned: dict[int, int]
    stakes_forfeited: dict[int, int]


@dataclass(frozen=True, kw_only=True)
class EventCancelled(TransactionResult):
    """A run was cancelled."""

    onchain_run_id: int
    refunds_issued: int


@dataclass(frozen=True, kw_only=True)
class EventExpired(TransactionResult):
    """A run expired. `compensation` is the bookings' share of the host's stake, `to_platform` its remainder."""

    onchain_run_id: int
    refunds_issued: int
    compensation: int
    to_platform: int


@dataclass(frozen=True, kw_only=True)
class BookingCancelled(TransactionResult):
    """A booking was cancelled."""

    onchain_booking_id: int
    user: ChecksumAddress
    refund: int


@dataclass(frozen=True, kw_only=True)
class CreditWithdrawn(TransactionResult):
    """A credit was paid out."""

    creditor: ChecksumAddress
    to: ChecksumAddress
    amount: int


@dataclass(frozen=True, kw_only=True)
class PlatformFeesWithdrawn(TransactionResult):
    """The platform's balance was paid out. `amount` is None if the contract emits no event for it."""

    amount: int | None


@dataclass(frozen=True)
class BookingCost:
    """Cost of a booking. The transaction has to send `total_wei`, which is payment + stake."""

    payment_wei: int
    stake_wei: int
    total_wei: int


@dataclass(frozen=True)
class OnchainEventRun:
    """Result of `getEventRun`. Times are seconds since 1970."""

    onchain_run_id: int
    host: ChecksumAddress
    experience_id: str
    price_per_seat: int
    max_seats: int
    seats_booked: int
    host_stake: int
    event_timestamp: int
    status: RunStatus
    host_stake_withdrawn: bool
    created_at: int

    @property
    def starts_at(self) -> datetime:
        """Start of the run. Raises `OverflowError` if it is after the year 9999, as anybody can open such a run."""
        return _EPOCH + timedelta(seconds=self.event_timestamp)


@dataclass(frozen=True)
class OnchainBooking:
    """Result of `getBooking`. Times are seconds since 1970."""

    onchain_booking_id: int
    onchain_run_id: int
    user: ChecksumAddress
    seat_count: int
    total_payment: int
    user_stake: int
    status: BookingStatus
    booked_at: int


def unix_seconds(time: datetime) -> int:
    """Returns the whole seconds since 1970; fractions are dropped.

    Raises:
        InvalidRequest: The time has no time zone.
    """
    if time.utcoffset() is None:
        raise InvalidRequest(f"The time {time.isoformat()} has no time zone: give it in UTC.")
    return (time - _EPOCH) // timedelta(seconds=1)
