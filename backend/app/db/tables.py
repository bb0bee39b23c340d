"""The tables that the migrations create, and dataclasses of their rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    DateTime,
    Dialect,
    Enum,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    Table,
    Text,
    TypeDecorator,
    Uuid,
    exists,
    literal_column,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB


class Wei(TypeDecorator[int]):
    """A column of wei: an int in Python, NUMERIC(78, 0) in PostgreSQL, which holds every uint256 exactly."""

    impl = Numeric(78, 0)
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> Any:
        """Raises `TypeError` for floats, decimals and booleans."""
        if value is not None and type(value) is not int:
            raise TypeError(f"wei are ints, not {type(value).__name__}")
        return value

    def process_result_value(self, value: Any, dialect: Dialect) -> int | None:
        """Converts the driver's Decimal."""
        return None if value is None else int(value)


metadata = MetaData()

_chain_status = Enum("pending", "confirmed", "failed", name="blockchain_status")


def _id() -> Column[UUID]:
    return Column("id", Uuid, primary_key=True, server_default=text("gen_random_uuid()"))


def _created_at() -> Column[datetime]:
    return Column("created_at", DateTime(timezone=True), server_default=text("clock_timestamp()"))


users = Table("users", metadata, _id(), Column("name", Text), Column("wallet_address", Text), _created_at())

experiences = Table(
    "experiences",
    metadata,
    _id(),
    Column("host_id", Uuid, ForeignKey("users.id")),
    Column("title", Text),
    _created_at(),
)

event_runs = Table(
    "event_runs",
    metadata,
    _id(),
    Column("experience_id", Uuid, ForeignKey("experiences.id")),
    Column("host_id", Uuid, ForeignKey("users.id")),
    Column("starts_at", DateTime(timezone=True)),
    Column("max_seats", BigInteger),
    Column("seats_booked", BigInteger),
    Column("price_inr", Numeric(14, 2)),
    Column("status", Text),
    _created_at(),
    Column("blockchain_event_run_id", Wei),
    Column("blockchain_tx_hash", Text),
    Column("blockchain_status", _chain_status),
    Column("blockchain_error", Text),
    Column("blockchain_price_per_seat_wei", Wei),
    Column("blockchain_stake_amount_wei", Wei),
    Column("inr_per_eth", Numeric),
    Column("blockchain_block", BigInteger),
    Column("refreshed_block", BigInteger),
    Column("refresh_due", Boolean),
)

event_run_bookings = Table(
    "event_run_bookings",
    metadata,
    _id(),
    Column("event_run_id", Uuid, ForeignKey("event_runs.id")),
    Column("user_id", Uuid, ForeignKey("users.id")),
    Column("seats", BigInteger),
    Column("total_inr", Numeric(78, 2)),
    Column("status", Text),
    _created_at(),
    Column("blockchain_booking_id", Wei),
    Column("blockchain_tx_hash", Text),
    Column("blockchain_status", _chain_status),
    Column("blockchain_error", Text),
    Column("blockchain_payment_wei", Wei),
    Column("blockchain_stake_amount_wei", Wei),
    Column("inr_per_eth", Numeric),
)

OPERATION_STATES = ("prepared", "signed", "submitted", "mined", "confirmed", "failed", "rejected")

operations = Table(
    "operations",
    metadata,
    Column("key", Text, primary_key=True),
    Column("request", Text),
    Column("kind", Text),
    Column("subject", Uuid),
    Column("chain_id", BigInteger),
    Column("sender", Text),
    Column("to_address", Text),
    Column("data", LargeBinary),
    Column("value_wei", Wei),
    Column("state", Enum(*OPERATION_STATES, name="operation_state")),
    Column("nonce", BigInteger),
    Column("attempts", JSONB),
    Column("requeued", Integer),
    Column("reorged", Boolean),
    Column("held", Text),
    Column("tx_hash", Text),
    Column("block_number", BigInteger),
    Column("block_hash", Text),
    Column("gas_used", BigInteger),
    Column("gas_price_wei", Wei),
    Column("error", JSONB),
    _created_at(),
    Column("updated_at", DateTime(timezone=True), server_default=text("clock_timestamp()")),
    Column("held_cause", Text),
    Column("held_at", DateTime(timezone=True)),
    Column("seal", Text),
    Column("abandoned_at", DateTime(timezone=True)),
    Column("person", Text),
    Column("spending", JSONB),
)


def in_states(states: Iterable[str], column: ColumnElement[Any] = operations.c.state) -> ColumnElement[bool]:
    """Returns the condition that an operation is in one of the states.

    They are literals: with parameters, a plan that is kept for all of them could not use the indexes on a condition.
    """
    return column.in_([literal_column(f"'{state}'") for state in states])


# Numbers of closed operations and wei paid for gas, to be added up by state
operation_totals = Table(
    "operation_totals",
    metadata,
    Column("state", Enum(*OPERATION_STATES, name="operation_state")),
    Column("operations", BigInteger),
    Column("gas_wei", Wei),
)

nonces = Table(
    "nonces",
    metadata,
    Column("chain_id", BigInteger, primary_key=True),
    Column("sender", Text, primary_key=True),
    Column("next", BigInteger),
)

# Numbers of orders that several accounts have signed, on each network
order_counts = Table(
    "order_counts",
    metadata,
    Column("chain_id", BigInteger, primary_key=True),
    Column("signed", BigInteger),
)

chain_cursors = Table(
    "chain_cursors",
    metadata,
    Column("chain_id", BigInteger, primary_key=True),
    Column("contract", Text, primary_key=True),
    Column("block_number", BigInteger),
    Column("block_hash", Text),
    Column("finalized_block", BigInteger),
    Column("finalized_hash", Text),
)

# Transactions of the service's account that are in no row of `operations`
orphans = Table(
    "orphans",
    metadata,
    Column("tx_hash", Text, primary_key=True),
    Column("chain_id", BigInteger),
    Column("sender", Text),
    Column("nonce", BigInteger),
    Column("block_number", BigInteger),
    Column("to_address", Text),
    Column("kind", Text),
    Column("args", JSONB),
    Column("subject", Text),
    Column("data", LargeBinary),
    Column("value_wei", Wei),
    Column("succeeded", Boolean),
    Column("operation_key", Text),
    Column("dismissed", Boolean),
    Column("found_at", DateTime(timezone=True), server_default=text("clock_timestamp()")),
)

# What operators did to operations and orphans
interventions = Table(
    "interventions",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("at", DateTime(timezone=True), server_default=text("clock_timestamp()")),
    Column("operator", Text),
    Column("command", Text),
    Column("target", Text),
    Column("outcome", Text),
)

# Operations that a person lets go on though they are above a limit
approvals = Table(
    "approvals",
    metadata,
    Column("operation_key", Text, primary_key=True),
    Column("approved_by", Text),
    Column("approved_at", DateTime(timezone=True)),
    Column("seal", Text),
)

# While one has no end, only exits are signed
pauses = Table(
    "pauses",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("since", DateTime(timezone=True), server_default=text("clock_timestamp()")),
    Column("paused_by", Text),
    Column("reason", Text),
    Column("ended_at", DateTime(timezone=True)),
    Column("ended_by", Text),
)

# Accepted rates of ETH
rates = Table(
    "rates",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("inr_per_eth", Numeric),
    Column("source", Text),
    Column("as_of", DateTime(timezone=True)),
    Column("accepted_at", DateTime(timezone=True), server_default=text("clock_timestamp()")),
    Column("confirmed", Boolean, server_default=text("false")),
)

# Responses that the HTTP API keeps by idempotency key
answers = Table(
    "answers",
    metadata,
    Column("key", Text, primary_key=True),
    Column("request", Text),
    Column("status", Integer),
    Column("body", Text),
    _created_at(),
)

PAYMENT_STATES = ("created", "captured", "used", "refunding", "refunded", "failed", "expired")
REFUND_STATES = ("due", "requested", "done")

# Quotes that are paid in INR
payments = Table(
    "payments",
    metadata,
    _id(),
    Column("user_id", Uuid, ForeignKey("users.id")),
    Column("purpose", Text),
    Column("quoted", JSONB),
    Column("inr_per_eth", Numeric),
    Column("price_wei", Wei),
    Column("stake_wei", Wei),
    Column("stake_inr", Numeric(20, 2)),
    Column("amount_inr", Numeric(20, 2)),
    Column("state", Enum(*PAYMENT_STATES, name="payment_state")),
    Column("gateway", Text),
    Column("gateway_order_id", Text),
    Column("gateway_payment_id", Text),
    Column("paid_at", DateTime(timezone=True)),
    Column("expires_at", DateTime(timezone=True)),
    Column("usable_until", DateTime(timezone=True)),
    Column("operation_key", Text),
    Column("to_custody", Boolean),
    Column("look_at", DateTime(timezone=True)),
    Column("dispute", Text),
    Column("dispute_id", Text),
    Column("seal", Text),
    _created_at(),
    Column("updated_at", DateTime(timezone=True), server_default=text("clock_timestamp()")),
    Column("disputes", JSONB),
)

# What is owed of payments
refunds = Table(
    "refunds",
    metadata,
    _id(),
    Column("payment_id", Uuid, ForeignKey("payments.id")),
    Column("amount_inr", Numeric(20, 2)),
    Column("cause", Text),
    Column("state", Enum(*REFUND_STATES, name="refund_state")),
    Column("tries", Integer),
    Column("failed", Integer),
    Column("next_at", DateTime(timezone=True)),
    Column("gateway_refund_id", Text),
    Column("problem", Text),
    _created_at(),
    Column("updated_at", DateTime(timezone=True), server_default=text("clock_timestamp()")),
)

IS_PAUSED = exists().where(pauses.c.ended_at.is_(None))
"""Whether a pause is open. There is an index on this condition."""
IS_OPEN_ORPHAN = (
    orphans.c.operation_key.is_(None) & ~orphans.c.dismissed & orphans.c.succeeded & orphans.c.kind.is_not(None)
)
"""Orphans that may be the effect of an order. There is an index on this condition."""


@dataclass(frozen=True)
class EventRun:
    """A row of `event_runs`.

    Attributes:
        starts_at: Start of the event.
        price_inr: Price per seat in INR.
        status: active, full, completed, cancelled or expired.
        blockchain_event_run_id: The on-chain id; None until the creation is final.
        blockchain_tx_hash: Hash of the transaction that created it; None until the creation is final.
        blockchain_status: Of the creation: pending, confirmed or failed.
        blockchain_error: Why the creation failed; None if it did not.
        blockchain_price_per_seat_wei: Price per seat in wei.
        blockchain_stake_amount_wei: The host's stake in wei.
        inr_per_eth: Rate at which the price was converted.
        blockchain_block: Latest block whose events are in this row and in the rows of its bookings.
        refreshed_block: Block as of which these rows were last read from the contract's views.
        refresh_due: Whether they must be read again.
    """

    id: UUID
    experience_id: UUID
    host_id: UUID
    starts_at: datetime
    max_seats: int
    seats_booked: int
    price_inr: Decimal
    status: str
    created_at: datetime
    blockchain_event_run_id: int | None
    blockchain_tx_hash: str | None
    blockchain_status: str
    blockchain_error: str | None
    blockchain_price_per_seat_wei: int | None
    blockchain_stake_amount_wei: int | None
    inr_per_eth: Decimal | None
    blockchain_block: int
    refreshed_block: int
    refresh_due: bool


@dataclass(frozen=True)
class Booking:
    """A row of `event_run_bookings`.

    Attributes:
        total_inr: Payment plus stake in INR, at the rate of the quote.
        status: active, completed, no_show or cancelled.
        blockchain_booking_id: The on-chain id; None until the creation is final.
        blockchain_tx_hash: Hash of the transaction that created it; None until the creation is final.
        blockchain_status: Of the creation: pending, confirmed or failed.
        blockchain_error: Why the creation failed; None if it did not.
        blockchain_payment_wei: Price of the seats in wei.
        blockchain_stake_amount_wei: The attendee's stake in wei.
        inr_per_eth: Rate of the quote.
    """

    id: UUID
    event_run_id: UUID
    user_id: UUID
    seats: int
    total_inr: Decimal
    status: str
    created_at: datetime
    blockchain_booking_id: int | None
    blockchain_tx_hash: str | None
    blockchain_status: str
    blockchain_error: str | None
    blockchain_payment_wei: int | None
    blockchain_stake_amount_wei: int | None
    inr_per_eth: Decimal | None
