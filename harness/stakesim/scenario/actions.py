"""What a scenario is made of: the contract's terms, the actors, and the actions they take.

Everything here is data. `model.py` says what an action must do, the runner carries it out.
"""

from decimal import Decimal
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, field_validator, model_validator

from stakesim.schema.fields import UNITS, FeedRate, Inr, Label, Seats, Seconds, StrictModel, Wei
from stakesim.schema.yaml_file import FieldError

PLATFORM = "platform"
"""The actor that is always there: it owns the contract and signs for everyone who does not pay for
themselves."""

ErrorName: TypeAlias = Literal[
    "PriceError",
    "NotAuthorized",
    "OwnableUnauthorizedAccount",
    "EventNotOpen",
    "BookingNotActive",
    "BookingNotOfRun",
    "TooEarly",
    "TooLate",
    "InvalidPrice",
    "InvalidSeats",
    "InvalidStart",
    "NotEnoughSeats",
    "WrongValue",
    "NothingToWithdraw",
    "TransferFailed",
]
"""How an action can fail: the contract's own errors, and PriceError of the service's price check."""


class Terms(StrictModel):
    """What the contract is deployed with; shares in basis points, times in seconds. Bounds are the
    contract's."""

    stake_bps: Annotated[int, Field(ge=0, le=5_000)] = 2_000
    fee_bps: Annotated[int, Field(ge=0, le=1_000)] = 500
    forfeit_to_host_bps: Annotated[int, Field(ge=0, le=10_000)] = 0
    cancellation_cutoff: Seconds = UNITS["d"]
    completion_grace: Seconds = 7 * UNITS["d"]

    def as_struct(self) -> tuple[int, ...]:
        """The values in the order of the struct that the contract's constructor takes."""
        return tuple(value for _, value in self)

    @field_validator("cancellation_cutoff")
    @classmethod
    def _cutoff_in_bounds(cls, seconds: int) -> int:
        if seconds > 30 * UNITS["d"]:
            raise ValueError("the contract takes at most 30d; write less")
        return seconds

    @field_validator("completion_grace")
    @classmethod
    def _grace_in_bounds(cls, seconds: int) -> int:
        if not UNITS["h"] <= seconds <= 90 * UNITS["d"]:
            raise ValueError("the contract takes 1h to 90d; write a time between them")
        return seconds


ReentrantCall: TypeAlias = Literal[
    "withdraw", "withdrawTo", "cancelBooking", "cancelEvent", "completeEvent", "expireEvent"
]


class Reentry(StrictModel):
    """What a re-entering receiver calls when it is paid, and with which id where the call takes one."""

    call: ReentrantCall
    id: Annotated[int, Field(ge=0)] = 1


class Actor(StrictModel):
    """Who takes part, and how.

    pays: who signs and pays in for them. wallet none: entered on chain under the platform's address.
    receiver: what happens to ether sent to them; all but `accepts` are contracts, which can't sign, so the
    platform does.
    """

    pays: Literal["platform", "self"] = "platform"
    wallet: Literal["own", "none"] = "own"
    receiver: Literal["accepts", "refuses", "burns_gas", "floods", "reenters"] = "accepts"
    reenter: Reentry | None = None

    @property
    def is_contract(self) -> bool:
        return self.receiver != "accepts"

    @property
    def takes_ether(self) -> bool:
        """A re-entering receiver does too: its call fails, then it takes the money."""
        return self.receiver in ("accepts", "reenters")

    @model_validator(mode="after")
    def _consistent(self) -> "Actor":
        if self.pays == "self" and self.wallet == "none":
            raise ValueError("nobody pays for themselves without a wallet; leave out `pays: self` or `wallet: none`")
        if self.is_contract and self.wallet == "none":
            raise ValueError("a hostile receiver needs an address of its own; leave out `wallet: none`")
        if self.is_contract and self.pays == "self":
            raise ValueError("a hostile receiver is a contract and can't sign; leave out `pays: self`")
        if (self.reenter is not None) != (self.receiver == "reenters"):
            raise ValueError("`receiver: reenters` and `reenter: {call: ...}` go together; write both or neither")
        return self


class _Action(StrictModel):
    """at: seconds from the scenario's start, 60 after the action before it if left out. fails: the error
    expected."""

    at: Seconds | None = None
    fails: ErrorName | None = None


class _Transaction(_Action):
    """direct: the actor sends it straight to the contract, past the service, so that a failing one is mined.

    pending: a direct one waits in the mempool while the backend is at work on the next action, and is mined just before
    that one's transaction. retried: the client did not hear the answer, and asks again with the same key. answer_lost:
    the node takes the backend's transaction, and its answer is lost; a client that is told no asks again. Without a
    backend the three mean nothing.
    """

    direct: bool = False
    pending: bool = False
    retried: bool = False
    answer_lost: bool = False

    @model_validator(mode="after")
    def _disturbed_where_it_can_be(self) -> "_Transaction":
        if self.pending and not self.direct:
            raise ValueError("the backend decides when its transactions are sent; add `direct: true` to `pending`")
        if self.direct and (self.retried or self.answer_lost):
            raise ValueError("a direct action does not ask the backend; leave out `retried` and `answer_lost`")
        return self


class _Paying(_Transaction):
    """value_off: wei sent too much, or too little if negative. Only direct: the service always sends what is
    due. A run or booking made past the service is unknown to the database: only direct actions reach it."""

    value_off: Wei = 0

    @model_validator(mode="after")
    def _wrong_value_is_direct(self) -> "_Paying":
        if self.value_off and not self.direct:
            raise ValueError("the service never sends a wrong value; add `direct: true` or leave it out")
        return self


class CreateRun(_Paying):
    """Open a run. starts: seconds from the scenario's start. The INR price becomes wei here, once."""

    do: Literal["create_run"] = "create_run"
    run: Label
    by: str
    price_inr: Inr
    seats: Seats
    starts: Seconds

    @model_validator(mode="after")
    def _start_is_a_date(self) -> "CreateRun":
        if self.starts > 36_500 * UNITS["d"] and not self.direct:
            raise ValueError("the service takes no date that far away; start within 36500d")
        return self


class Book(_Paying):
    do: Literal["book"] = "book"
    booking: Label
    run: Label
    by: str
    seats: Seats


class CancelBooking(_Transaction):
    """by: the attendee, if left out."""

    do: Literal["cancel_booking"] = "cancel_booking"
    booking: Label
    by: str | None = None


class CancelRun(_Transaction):
    """by: the host, if left out."""

    do: Literal["cancel_run"] = "cancel_run"
    run: Label
    by: str | None = None


class Complete(_Transaction):
    """attended: bookings of those who came. One that was never made on chain is left out of the call; a repeated
    one, a cancelled one or one of another run is sent as it stands. by: the host, if left out."""

    do: Literal["complete"] = "complete"
    run: Label
    by: str | None = None
    attended: tuple[Label, ...]

    @model_validator(mode="before")
    @classmethod
    def _attended_was_called_came(cls, data: Any) -> Any:
        if isinstance(data, dict) and "came" in data:
            raise FieldError(("came",), "is now called `attended`; rename the field")
        return data


class Expire(_Transaction):
    do: Literal["expire"] = "expire"
    run: Label
    by: str = PLATFORM


class Withdraw(_Transaction):
    """Take one's credit out, always as oneself: the credit is the caller's. to: another receiver, if not
    oneself."""

    do: Literal["withdraw"] = "withdraw"
    by: str
    to: str | None = None


class WithdrawFees(_Transaction):
    do: Literal["withdraw_fees"] = "withdraw_fees"
    by: str = PLATFORM


class ForceEther(_Action):
    """Ether pushed into the contract by a self-destructing one; nothing can refuse it."""

    do: Literal["force_ether"] = "force_ether"
    by: str
    wei: Annotated[Wei, Field(gt=0)]


class CallFunction(_Action):
    """Call a function that a contract has beyond those that the service knows. It may fail; what it may not do is move
    anybody's money, or change what is due to anybody. args: numbers, truth values, texts, or actors' names for
    addresses."""

    do: Literal["call"] = "call"
    function: str
    args: tuple[bool | int | str, ...] = ()
    by: str = PLATFORM


class SetPrice(_Action):
    """From here on the feed gives this rate, not the price path's. age: how old the rate is already, in
    seconds, and it goes on ageing; with 0 the feed keeps it fresh."""

    do: Literal["set_price"] = "set_price"
    inr_per_eth: FeedRate
    age: Seconds = 0

    @property
    def rate(self) -> Decimal:
        return Decimal(self.inr_per_eth)


class Wait(_Action):
    """Only time passes."""

    do: Literal["wait"] = "wait"


Action: TypeAlias = (
    CreateRun
    | Book
    | CancelBooking
    | CancelRun
    | Complete
    | Expire
    | Withdraw
    | WithdrawFees
    | ForceEther
    | CallFunction
    | SetPrice
    | Wait
)
AnyAction = Annotated[Action, Field(discriminator="do")]
