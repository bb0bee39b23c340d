"""What goes in and out as JSON. INR are strings with two decimals, wei strings of digits, times RFC 3339 in UTC."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
)

from app.api.problems import plain
from app.db.tables import OPERATION_STATES
from app.services import operation_types

RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def _moment(said: Any) -> datetime:
    if isinstance(said, str) and RFC_3339.fullmatch(said):
        with suppress(ValueError, OverflowError):
            return datetime.fromisoformat(said.upper()).astimezone(UTC)
    raise ValueError("give a time as RFC 3339 has it, with its time zone, such as 2030-05-01T18:30:00Z")


def _whole(number: Any) -> Any:
    """2.0 is an integer in JSON."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


def _in_utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)


def _schema(**schema: Any) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", **schema})


Moment = Annotated[datetime, BeforeValidator(_moment), _schema(format="date-time", examples=["2030-05-01T18:30:00Z"])]
"""As it comes in: a string, with a time zone."""
Seats = Annotated[int, Field(strict=True, ge=1, le=2**31, examples=[2]), BeforeValidator(_whole)]
PriceInr = Annotated[str, Field(pattern=r"^[0-9]{1,12}(\.[0-9]{1,2})?$", examples=["2500.00"])]

Time = Annotated[datetime, AfterValidator(_in_utc), _schema(format="date-time", examples=["2030-05-01T18:30:00Z"])]
"""As it goes out."""
Wei = Annotated[int, PlainSerializer(str), _schema(pattern="^[0-9]+$", examples=["12500000000000000"])]
Inr = Annotated[Decimal, PlainSerializer("{:.2f}".format), _schema(pattern=r"^[0-9]+\.[0-9]{2}$", examples=["2500.00"])]
Rate = Annotated[Decimal, PlainSerializer("{:f}".format), _schema(pattern=r"^[0-9.]+$", examples=["200000"])]
TxHash = Annotated[str, Field(examples=["0x" + "5e" * 32])]
Address = Annotated[str, Field(examples=["0x" + "a1" * 20])]

EXPERIENCE, HOST, EVENT_RUN, ATTENDEE, BOOKING = (f"{n}" * 8 + "-0000-4000-8000-000000000000" for n in range(1, 6))
"""Ids of the examples."""

# ---------------------------------------------------------------------------------------------------------- requests


Came = Annotated[
    list[UUID], Field(examples=[[BOOKING]], description="The bookings that came. All others are no-shows.")
]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class EventRunCreate(Body):
    experience_id: UUID = Field(examples=[EXPERIENCE])
    starts_at: Moment
    max_seats: Seats
    price_inr: PriceInr = Field(description="Of one seat. It becomes wei once, now.")
    host_id: UUID | None = Field(None, examples=[HOST], description="Whose run it is; the caller's own without it.")


class Completed(Body):
    status: Literal["completed"]
    attended_booking_ids: Came


class Cancelled(Body):
    status: Literal["cancelled"]


class Expired(Body):
    status: Literal["expired"]


StatusChange = Annotated[Completed | Cancelled | Expired, Field(discriminator="status")]


class CostRequest(Body):
    event_run_id: UUID = Field(examples=[EVENT_RUN])
    seats: Seats


class BookingCreate(CostRequest):
    user_id: UUID | None = Field(None, examples=[ATTENDEE], description="Who is to come; the caller without it.")


class Attendance(Body):
    event_run_id: UUID = Field(examples=[EVENT_RUN])
    attended_booking_ids: Came


# ----------------------------------------------------------------------------------------------------------- answers


class View(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class EventRun(View):
    """A run as the database has it; what the chain says of it gets in here once it is final."""

    id: UUID
    experience_id: UUID
    host_id: UUID
    starts_at: Time
    max_seats: int
    seats_booked: int
    price_inr: Inr
    status: Literal["active", "full", "completed", "cancelled", "expired"]
    created_at: Time
    blockchain_event_run_id: int | None
    blockchain_tx_hash: TxHash | None
    blockchain_status: Literal["pending", "confirmed", "failed"]
    blockchain_error: str | None
    blockchain_price_per_seat_wei: Wei | None
    blockchain_stake_amount_wei: Wei | None
    inr_per_eth: Rate | None = Field(description="At which the price became wei.")


class EventRunOnChain(View):
    """A run as the contract has it in the latest block."""

    event_run_id: int = Field(validation_alias="onchain_run_id")
    host: Address
    experience_id: str
    price_per_seat_wei: Wei = Field(validation_alias="price_per_seat")
    max_seats: int
    seats_booked: int
    host_stake_wei: Wei = Field(validation_alias="host_stake")
    starts_at: Time
    status: Literal["created", "active", "full", "completed", "cancelled", "expired"]
    host_stake_withdrawn: bool


class EventRunSideBySide(View):
    database: EventRun
    chain: EventRunOnChain | None = Field(description="null: not on chain, or not final there yet.")
    differences: list[str] = Field(
        description="What the two say differently. The chain is ahead until the confirmation depth is reached."
    )


class Booking(View):
    """A booking as the database has it; what the chain says of it gets in here once it is final."""

    id: UUID
    event_run_id: UUID
    user_id: UUID
    seats: int
    total_inr: Inr = Field(description="Payment and stake.")
    status: Literal["active", "completed", "no_show", "cancelled"]
    created_at: Time
    blockchain_booking_id: int | None
    blockchain_tx_hash: TxHash | None
    blockchain_status: Literal["pending", "confirmed", "failed"]
    blockchain_error: str | None
    blockchain_payment_wei: Wei | None
    blockchain_stake_amount_wei: Wei | None
    inr_per_eth: Rate | None = Field(description="Of the quote.")


class Bookings(View):
    bookings: list[Booking]


class RateOfNow(View):
    inr_per_eth: Rate
    as_of: Time


class Quote(View):
    """What seats cost: wei as the contract says, INR at the rate of now."""

    event_run_id: UUID
    seats: int
    payment_wei: Wei
    stake_wei: Wei
    total_wei: Wei
    payment_inr: Inr
    stake_inr: Inr
    total_inr: Inr
    rate: RateOfNow


class Deferred(View):
    """A payout that its receiver did not take, and now has as a credit to withdraw."""

    receiver: Address
    amount_wei: Wei = Field(validation_alias="amount")


class Settlement(View):
    """The transaction, and what it paid: only what such a transaction has is there."""

    tx_hash: TxHash
    block_number: int
    gas_used: int
    gas_cost_wei: Wei = Field(validation_alias="gas_cost")
    host_payout_wei: Wei | None = Field(None, validation_alias="host_payout")
    host_stake_returned_wei: Wei | None = Field(None, validation_alias="host_stake_returned")
    refunds_issued_wei: Wei | None = Field(None, validation_alias="refunds_issued")
    compensation_wei: Wei | None = Field(None, validation_alias="compensation")
    to_platform_wei: Wei | None = Field(None, validation_alias="to_platform")
    refund_wei: Wei | None = Field(None, validation_alias="refund")
    deferred: list[Deferred]


class EventRunSettled(View):
    event_run: EventRun
    settlement: Settlement | None = Field(description="null: nothing had to be done on chain.")


class BookingSettled(View):
    booking: Booking
    settlement: Settlement


class OperationError(View):
    """Why it came to nothing: of a contract's refusal also its error, that error's arguments, and whether it was
    rejected before anything was sent or reverted on chain."""

    code: str
    message: str
    error: str | None
    arguments: list[str | bool]
    outcome: Literal["rejected", "reverted"] | None


class Operation(View):
    """Something asked of the chain. It goes on by itself until it is confirmed, failed or rejected."""

    key: str
    kind: str = Field(description="The contract's function.", examples=["bookEventFor"])
    subject: UUID | None = Field(description="The event run or booking that it is about.")
    state: Literal[OPERATION_STATES]  # type: ignore[valid-type]
    chain_id: int
    sender: Address
    to_address: Address
    value_wei: Wei
    nonce: int | None
    tx_hashes: list[TxHash] = Field(description="Of all attempts, oldest first. At most one gets into the chain.")
    tx_hash: TxHash | None = Field(description="Of the attempt that was mined.")
    block_number: int | None
    gas_used: int | None
    gas_price_wei: Wei | None
    held: str | None = Field(description="Why it can't go on at present.")
    reorged: bool = Field(description="It was mined once in a block that was dropped later.")
    error: OperationError | None
    created_at: Time
    updated_at: Time

    @classmethod
    def of(cls, operation: operation_types.Operation) -> Operation:
        known = {name: getattr(operation, name) for name in cls.model_fields if hasattr(operation, name)}
        error = operation.error and {
            "code": operation.error["code"],
            "message": operation.error["message"],
            "error": operation.error.get("name"),
            "arguments": plain(operation.error.get("args", [])),
            "outcome": operation.error.get("outcome"),
        }
        hashes = [attempt.tx_hash for attempt in operation.attempts]
        return cls.model_validate({**known, "error": error, "tx_hashes": hashes})


class Alive(View):
    status: Literal["ok"] = "ok"


class Ready(View):
    """Each check and how it went."""

    checks: dict[str, str]
