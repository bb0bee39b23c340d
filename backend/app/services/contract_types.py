"""What the contract says, as Python values: results of transactions and of views.

Amounts are wei. Fields are named as in the contract's events and views.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum

from eth_typing import ChecksumAddress

from app.core.errors import InvalidRequest

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class RunStatus(IntEnum):
    """CREATED is unused. COMPLETED, CANCELLED and EXPIRED are final."""

    CREATED = 0
    ACTIVE = 1
    FULL = 2
    COMPLETED = 3
    CANCELLED = 4
    EXPIRED = 5


class BookingStatus(IntEnum):
    """COMPLETED: came. CANCELLED: refunded."""

    ACTIVE = 0
    COMPLETED = 1
    NO_SHOW = 2
    CANCELLED = 3


@dataclass(frozen=True)
class Deferred:
    """A payout that its receiver did not take, and now has as a credit to withdraw."""

    receiver: ChecksumAddress
    amount: int


@dataclass(frozen=True, kw_only=True)
class Mined:
    """A transaction that succeeded. gas_price: wei per gas, as paid."""

    tx_hash: str
    block_number: int
    gas_used: int
    gas_price: int
    deferred: tuple[Deferred, ...]

    @property
    def gas_cost(self) -> int:
        """Wei that the signer paid for gas."""
        return self.gas_used * self.gas_price


@dataclass(frozen=True, kw_only=True)
class EventRunCreated(Mined):
    event_run_id: int
    host: ChecksumAddress
    experience_id: str
    price_per_seat: int
    max_seats: int
    host_stake: int


@dataclass(frozen=True, kw_only=True)
class BookingCreated(Mined):
    booking_id: int
    event_run_id: int
    user: ChecksumAddress
    seat_count: int
    total_payment: int
    user_stake: int


@dataclass(frozen=True, kw_only=True)
class EventCompleted(Mined):
    """completed: stake returned by booking id; no_shows: stake forfeited by booking id."""

    event_run_id: int
    host_payout: int
    host_stake_returned: int
    completed: dict[int, int]
    no_shows: dict[int, int]


@dataclass(frozen=True, kw_only=True)
class EventCancelled(Mined):
    event_run_id: int
    refunds_issued: int


@dataclass(frozen=True, kw_only=True)
class EventExpired(Mined):
    event_run_id: int
    refunds_issued: int
    compensation: int
    to_platform: int


@dataclass(frozen=True, kw_only=True)
class BookingCancelled(Mined):
    booking_id: int
    user: ChecksumAddress
    refund: int


@dataclass(frozen=True, kw_only=True)
class CreditWithdrawn(Mined):
    creditor: ChecksumAddress
    to: ChecksumAddress
    amount: int


@dataclass(frozen=True, kw_only=True)
class PlatformFeesWithdrawn(Mined):
    """amount: None where the contract emits no event of it."""

    amount: int | None


@dataclass(frozen=True)
class BookingCost:
    """total = payment + stake: what has to be sent."""

    payment: int
    stake: int
    total: int


@dataclass(frozen=True)
class EventRunOnChain:
    """`getEventRun`. event_timestamp and created_at: seconds since 1970."""

    event_run_id: int
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
        """Raises `OverflowError` for a start after the year 9999, which a stranger may have chosen."""
        return _EPOCH + timedelta(seconds=self.event_timestamp)


@dataclass(frozen=True)
class BookingOnChain:
    """`getBooking`. booked_at: seconds since 1970."""

    booking_id: int
    event_run_id: int
    user: ChecksumAddress
    seat_count: int
    total_payment: int
    user_stake: int
    status: BookingStatus
    booked_at: int


def unix_seconds(moment: datetime) -> int:
    """Whole seconds since 1970, fractions dropped. Raises `InvalidRequest` for a naive time."""
    if moment.utcoffset() is None:
        raise InvalidRequest(f"The time {moment.isoformat()} has no time zone: give it in UTC.")
    return (moment - _EPOCH) // timedelta(seconds=1)
