"""JSON bodies of payments."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from app.api.schemas import (
    ATTENDEE,
    QUOTE,
    QUOTED,
    CurrentRate,
    Inr,
    PriceInr,
    RequestBody,
    RequestTime,
    ResponseBody,
    Time,
    Wei,
)
from app.db.tables import PAYMENT_STATES, REFUND_STATES

PaymentState = Annotated[Literal[PAYMENT_STATES], Field(examples=["captured"])]  # type: ignore[valid-type]
RefundState = Annotated[Literal[REFUND_STATES], Field(examples=["due"])]  # type: ignore[valid-type]
Reference = Annotated[str, Field(pattern=r"^[A-Za-z0-9._/-]{1,100}$", examples=["UTR512345678901"])]


class CaptureRecord(RequestBody):
    """A payment that arrived."""

    reference: Reference = Field(description="The bank's reference.")
    amount_inr: PriceInr = Field(description="What arrived.")
    paid_at: RequestTime | None = Field(None, description="When it was paid; now if left out.")


class RefundRecord(RequestBody):
    """A refund that was made."""

    reference: Reference = Field(description="The bank's reference.")


class StakeQuote(ResponseBody):
    """A host's stake: in wei as the contract calculates it, in INR at the current rate."""

    experience_id: UUID
    starts_at: Time
    max_seats: int
    price_inr: Inr
    price_per_seat_wei: Wei
    stake_wei: Wei
    stake_inr: Inr
    rate: CurrentRate
    quote_id: UUID | None = Field(None, description=QUOTED, examples=[QUOTE])
    expires_at: Time | None = Field(None, description="Until when `stake_inr` must be paid.")


class Refund(ResponseBody):
    """What is owed of a payment."""

    amount_inr: Inr
    cause: Literal["unexpected", "late", "unused", "no_effect", "cancelled", "stake_returned"]
    state: RefundState = Field(description="`due`: the gateway does not have it yet; `requested`: it has; then `done`.")
    gateway_refund_id: str | None


class Payment(ResponseBody):
    """A quote, its payment, and what became of both."""

    id: UUID = Field(description="The quote's id.", examples=[QUOTE])
    user_id: UUID = Field(examples=[ATTENDEE])
    purpose: Literal["booking", "event_run", "unexpected"]
    state: PaymentState
    amount_inr: Inr
    gateway: Literal["razorpay", "manual"]
    gateway_order_id: str | None
    gateway_payment_id: str | None
    paid_at: Time | None
    expires_at: Time = Field(description="Until when it must be paid.")
    usable_until: Time = Field(description="Until when it must be used, once it is captured. Then it goes back.")
    operation: str | None = Field(
        validation_alias="operation_key", description="Key of the operation that it pays for.", examples=[None]
    )
    dispute: Literal["open", "won", "lost"] | None = Field(description="As the platform sees it.", examples=[None])
    refund: Refund | None
    created_at: Time


class PaymentOrder(ResponseBody):
    """What a client needs to pay."""

    gateway: Literal["razorpay", "manual"]
    order_id: str = Field(examples=["order_EKwxwAgItmmXdp"])
    key_id: str | None = Field(description="Public key for Razorpay's checkout.", examples=["rzp_live_abc"])
    amount_inr: Inr
    amount_paise: int = Field(examples=[250000])
    currency: Literal["INR"]
