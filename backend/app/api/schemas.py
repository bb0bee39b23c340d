"""JSON bodies of requests and responses.

INR are strings with two decimals, wei are strings of digits, times are RFC 3339, in UTC. The formats `decimal` and
`uint256` tell generators of clients so.
"""

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
    field_validator,
)

from app.api.problems import json_arguments
from app.db.tables import OPERATION_STATES
from app.services import operation_types

RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def _parse_time(value: Any) -> datetime:
    if isinstance(value, str) and RFC_3339.fullmatch(value):
        with suppress(ValueError, OverflowError):
            return datetime.fromisoformat(value.upper()).astimezone(UTC)
    raise ValueError("give a time as RFC 3339 has it, with its time zone, such as 2030-05-01T18:30:00Z")


def _integral_float_to_int(number: Any) -> Any:
    """Converts 2.0 to 2, as 2.0 is an integer in JSON Schema."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


def _to_utc(time: datetime) -> datetime:
    return time.astimezone(UTC)


def _string_schema(**schema: Any) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", **schema})


_TIME_SCHEMA = _string_schema(format="date-time", examples=["2030-05-01T18:30:00Z"])
RequestTime = Annotated[datetime, BeforeValidator(_parse_time), _TIME_SCHEMA]
"""Time in a request: a string with a time zone."""
Seats = Annotated[int, Field(strict=True, ge=1, le=2**31, examples=[2]), BeforeValidator(_integral_float_to_int)]
PriceInr = Annotated[
    str,
    Field(pattern=r"^[0-9]{1,12}(\.[0-9]{1,2})?$", examples=["2500.00"], json_schema_extra={"format": "decimal"}),
]

Time = Annotated[datetime, AfterValidator(_to_utc), _TIME_SCHEMA]
"""Time in a response, in UTC."""
Wei = Annotated[
    int,
    PlainSerializer(str),
    _string_schema(format="uint256", pattern="^[0-9]+$", examples=["12500000000000000"]),
]
Inr = Annotated[
    Decimal,
    PlainSerializer("{:.2f}".format),
    _string_schema(format="decimal", pattern=r"^[0-9]+\.[0-9]{2}$", examples=["2500.00"]),
]
Rate = Annotated[
    Decimal,
    PlainSerializer("{:f}".format),
    _string_schema(format="decimal", pattern=r"^[0-9.]+$", examples=["200000"]),
]
TxHash = Annotated[str, Field(examples=["0x" + "5e" * 32])]
Address = Annotated[str, Field(examples=["0x" + "a1" * 20])]

EventRunStatus = Literal["active", "full", "completed", "cancelled", "expired"]
BookingStatus = Literal["active", "completed", "no_show", "cancelled"]
ChainStatus = Annotated[Literal["pending", "confirmed", "failed"], Field(examples=["confirmed"])]
OperationState = Annotated[Literal[OPERATION_STATES], Field(examples=["confirmed"])]  # type: ignore[valid-type]


EXPERIENCE, HOST, EVENT_RUN, ATTENDEE, BOOKING, QUOTE = (
    f"{n}" * 8 + "-0000-4000-8000-000000000000" for n in range(1, 7)
)
"""Ids in the examples."""

# ---------------------------------------------------------------------------------------------------------- requests


MAX_ATTENDED = 1000
"""Maximum number of bookings in a list of who attended. A contract's run has fewer, as each costs gas of one block."""
AttendedBookingIds = Annotated[
    list[UUID],
    Field(
        max_length=MAX_ATTENDED,
        examples=[[BOOKING]],
        description="Bookings that attended. All others are no-shows.",
    ),
]


class RequestBody(BaseModel):
    """Base of request bodies. Refuses unknown members."""

    model_config = ConfigDict(extra="forbid")


class StakeRequest(RequestBody):
    """An event run to quote the host's stake of."""

    experience_id: UUID = Field(examples=[EXPERIENCE])
    starts_at: RequestTime
    max_seats: Seats
    price_inr: PriceInr = Field(description="Price per seat.")
    host_id: UUID | None = Field(None, examples=[HOST], description="The host; the caller if left out.")


_QUOTE_ID = Field(
    None,
    examples=[QUOTE],
    description="The quote that is paid. Required where people pay, and of no use where the platform pays for them.",
)


class EventRunCreate(StakeRequest):
    """An event run to create. Its price is converted to wei once: in the quote, or now."""

    quote_id: UUID | None = _QUOTE_ID


class Completed(RequestBody):
    """Complete the event run."""

    status: Literal["completed"]
    attended_booking_ids: AttendedBookingIds


class Cancelled(RequestBody):
    """Cancel the event run, and refund everybody."""

    status: Literal["cancelled"]


class Expired(RequestBody):
    """Expire an event run that was not completed in time."""

    status: Literal["expired"]


StatusChange = Annotated[Completed | Cancelled | Expired, Field(discriminator="status")]


class CostRequest(RequestBody):
    """Seats to quote."""

    event_run_id: UUID = Field(examples=[EVENT_RUN])
    seats: Seats
    user_id: UUID | None = Field(None, examples=[ATTENDEE], description="The attendee; the caller if left out.")


class BookingCreate(CostRequest):
    """Seats to book."""

    quote_id: UUID | None = _QUOTE_ID


class Attendance(RequestBody):
    """Who attended an event run."""

    event_run_id: UUID = Field(examples=[EVENT_RUN])
    attended_booking_ids: AttendedBookingIds


# --------------------------------------------------------------------------------------------------------- responses


class ResponseBody(BaseModel):
    """Base of response bodies, built from objects with the same attributes."""

    model_config = ConfigDict(from_attributes=True)


class EventRun(ResponseBody):
    """An event run in the database. Changes on chain appear here once they are final."""

    id: UUID
    experience_id: UUID
    host_id: UUID
    starts_at: Time
    max_seats: int
    seats_booked: int
    price_inr: Inr
    status: EventRunStatus
    created_at: Time
    blockchain_event_run_id: int | None
    blockchain_tx_hash: TxHash | None
    blockchain_status: ChainStatus
    blockchain_error: str | None
    blockchain_price_per_seat_wei: Wei | None
    blockchain_stake_amount_wei: Wei | None
    inr_per_eth: Rate | None = Field(description="Rate at which the price was converted to wei.")


class EventRunOnChain(ResponseBody):
    """An event run in the contract, at the latest block."""

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


class EventRunSideBySide(ResponseBody):
    """An event run in the database and in the contract."""

    database: EventRun
    chain: EventRunOnChain | None = Field(description="null: not on chain, or its creation is not final yet.")
    differences: list[str] = Field(
        examples=[["seats_booked"]],
        description="Names of the fields that differ. The chain is ahead of the database until a change is final.",
    )


class Booking(ResponseBody):
    """A booking in the database. Changes on chain appear here once they are final."""

    id: UUID
    event_run_id: UUID
    user_id: UUID
    seats: int
    total_inr: Inr = Field(description="Payment plus stake.")
    status: BookingStatus
    created_at: Time
    blockchain_booking_id: int | None
    blockchain_tx_hash: TxHash | None
    blockchain_status: ChainStatus
    blockchain_error: str | None
    blockchain_payment_wei: Wei | None
    blockchain_stake_amount_wei: Wei | None
    inr_per_eth: Rate | None = Field(description="Rate of the quote.")


class CurrentRate(ResponseBody):
    """The rate of a quote, and since when it is valid."""

    inr_per_eth: Rate
    as_of: Time


QUOTED = "Id of the payment that a request with `quote_id` uses; null where the platform pays for everybody."
"""Description of `quote_id` in a response."""


class Quote(ResponseBody):
    """The cost of seats: in wei as the contract calculates it, in INR at the current rate."""

    event_run_id: UUID
    seats: int
    payment_wei: Wei
    stake_wei: Wei
    total_wei: Wei
    payment_inr: Inr
    stake_inr: Inr
    total_inr: Inr
    rate: CurrentRate
    quote_id: UUID | None = Field(None, description=QUOTED, examples=[QUOTE])
    expires_at: Time | None = Field(None, description="Until when `total_inr` must be paid.")


class Deferred(ResponseBody):
    """A payout that its receiver refused. The contract holds it as a credit that the receiver can withdraw."""

    receiver: Address
    amount_wei: Wei = Field(validation_alias="amount")


class Settlement(ResponseBody):
    """The transaction and its payouts. Amounts that this kind of transaction does not have are null."""

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


class EventRunSettled(ResponseBody):
    """An event run after it was closed."""

    event_run: EventRun
    settlement: Settlement | None = Field(description="null: no transaction was needed.")


class BookingSettled(ResponseBody):
    """A booking after it was cancelled."""

    booking: Booking
    settlement: Settlement


class OperationError(ResponseBody):
    """Why an operation had no effect.

    `error`, `arguments` and `outcome` are those of a contract's error. The outcome is `rejected` if no transaction was
    sent, and `reverted` if it failed on chain.
    """

    code: str
    message: str
    error: str | None
    arguments: list[str | bool]
    outcome: Literal["rejected", "reverted"] | None


class Operation(ResponseBody):
    """A requested transaction. The service carries it out until it is confirmed, failed or rejected."""

    key: str = Field(examples=[f"{ATTENDEE}:my-key"])
    kind: str = Field(description="The contract's function.", examples=["bookEventFor"])
    subject: UUID | None = Field(description="Id of the event run or booking that it changes.")
    state: OperationState
    chain_id: int
    sender: Address
    to_address: Address
    value_wei: Wei
    nonce: int | None
    tx_hashes: list[TxHash] = Field(description="All attempts, oldest first. At most one is mined.")
    tx_hash: TxHash | None = Field(description="The attempt that was mined.")
    block_number: int | None = Field(
        description="Block in which it was mined, or in which another transaction used its nonce."
    )
    gas_used: int | None
    gas_price_wei: Wei | None
    held: str | None = Field(description="Why it can't proceed at present.")
    held_cause: str | None = Field(description="Kind of that reason.")
    reorged: bool = Field(description="It was mined in a block that a reorganisation dropped later.")
    error: OperationError | None = Field(examples=[None])
    created_at: Time
    updated_at: Time

    @classmethod
    def from_operation(cls, operation: operation_types.Operation) -> Operation:
        """Builds the body from a row of `operations`."""
        fields = {name: getattr(operation, name) for name in cls.model_fields if hasattr(operation, name)}
        error = operation.error and {
            "code": operation.error["code"],
            "message": operation.error["message"],
            "error": operation.error.get("name"),
            "arguments": json_arguments(operation.error.get("args", [])),
            "outcome": operation.error.get("outcome"),
        }
        tx_hashes = [attempt.tx_hash for attempt in operation.attempts]
        return cls.model_validate({**fields, "error": error, "tx_hashes": tx_hashes})


_NEXT = Field(description="`cursor` of the next page; null on the last one.", examples=["WyI1ZTAxIl0"])


class EventRunPage(ResponseBody):
    """A page of event runs."""

    items: list[EventRun]
    next: str | None = _NEXT


class BookingPage(ResponseBody):
    """A page of bookings."""

    items: list[Booking]
    next: str | None = _NEXT


class OperationPage(ResponseBody):
    """A page of operations."""

    items: list[Operation]
    next: str | None = _NEXT

    @field_validator("items", mode="before")
    @classmethod
    def _from_rows(cls, rows: list[operation_types.Operation]) -> list[Operation]:
        return [Operation.from_operation(row) for row in rows]


class Alive(ResponseBody):
    """The process is alive."""

    status: Literal["ok"] = "ok"


class Ready(ResponseBody):
    """The result of each check."""

    checks: dict[str, str] = Field(examples=[{"database": "ok", "node": "ok"}])
