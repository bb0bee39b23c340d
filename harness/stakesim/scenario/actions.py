"""What a scenario is made of: the contract's terms, the actors, and the actions that they take.

Everything here is data. `stakesim.model` decides what an action must do, and `stakesim.runner` carries it out.
"""

import re
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, Field, field_validator, model_validator

from stakesim.scenario.administration import AcceptOwnership, Pause, SetOperator, TransferOwnership, Unpause
from stakesim.scenario.base_action import PLATFORM as PLATFORM
from stakesim.scenario.base_action import BaseAction, PaymentBehaviour
from stakesim.schema.errors import FieldError
from stakesim.schema.fields import Count, FeedRate, Inr, Label, Seats, Seconds, StrictModel, Wei, Whole
from stakesim.units import DAY, HOUR


class Terms(StrictModel):
    """The terms that the contract is deployed with. The bounds are the contract's.

    Attributes:
        stake_bps: Stake of a host and of an attendee, in basis points of the event value and of the payment.
        fee_bps: The platform's fee, in basis points of the revenue.
        forfeit_to_host_bps: The host's share of the forfeited stakes, in basis points.
        cancellation_cutoff: Seconds before the start after which a booking can't be cancelled.
        completion_grace: Seconds after the start after which a run can only expire.
    """

    stake_bps: Annotated[Whole, Field(ge=0, le=5_000)] = 2_000
    fee_bps: Annotated[Whole, Field(ge=0, le=1_000)] = 500
    forfeit_to_host_bps: Annotated[Whole, Field(ge=0, le=10_000)] = 0
    cancellation_cutoff: Seconds = DAY
    completion_grace: Seconds = 7 * DAY

    def as_struct(self) -> tuple[int, ...]:
        """The values in the order of the struct that the contract's constructor takes."""
        return tuple(value for _, value in self)

    @field_validator("cancellation_cutoff")
    @classmethod
    def _cutoff_in_bounds(cls, seconds: int) -> int:
        if seconds > 30 * DAY:
            raise ValueError("the contract takes at most 30d; write less")
        return seconds

    @field_validator("completion_grace")
    @classmethod
    def _grace_in_bounds(cls, seconds: int) -> int:
        if not HOUR <= seconds <= 90 * DAY:
            raise ValueError("the contract takes 1h to 90d; write a time between them")
        return seconds


ReceiverMode: TypeAlias = Literal[
    "accepts", "refuses", "burns_gas", "floods", "spends_little", "spends_much", "needs_stipend"
]
"""What a scripted receiver does with ether. To accept it, `spends_little` uses 20,000 gas, as a smart wallet may, and
`spends_much` 100,000, which only a withdrawal has to give it; `needs_stipend` refuses it at once if it gets less than
the whole stipend of a push."""
ReentrantCall: TypeAlias = Literal[
    "withdraw", "withdrawTo", "cancelBooking", "cancelEvent", "completeEvent", "expireEvent"
]


class Reentry(StrictModel):
    """What a reentrant receiver calls when ether is sent to it.

    Attributes:
        call: The contract's function.
        id: The id of the run or booking that the function takes, if it takes one.
    """

    call: ReentrantCall
    id: Count = 1


class Actor(StrictModel):
    """A host, an attendee, or anybody else who takes part in a scenario.

    Attributes:
        pays: Who signs and pays the actor's transactions.
        wallet: `none`: the actor has no address, and is entered on chain under the platform's.
        receiver: What the actor's address does with ether that is sent to it. All but `accepts` are contracts, which
            can't sign, so the platform signs for them. `reenters` calls the contract back, which fails, and then
            accepts the ether. `scripted` accepts it until `script_receiver` tells it otherwise.
        reenter: The call of a receiver that reenters.
    """

    pays: Literal["platform", "self"] = "platform"
    wallet: Literal["own", "none"] = "own"
    receiver: Literal["accepts", "refuses", "burns_gas", "floods", "reenters", "scripted"] = "accepts"
    reenter: Reentry | None = None

    @property
    def is_contract(self) -> bool:
        """Whether the actor's address is a contract."""
        return self.receiver != "accepts"

    @property
    def takes_ether(self) -> bool:
        """Whether ether can be sent to the actor's address, unless an action tells it otherwise."""
        return self.receiver in ("accepts", "reenters", "scripted")

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


class _Transaction(BaseAction):
    """The fields of an action that sends a transaction. Without a backend, only `direct` has a meaning.

    Attributes:
        direct: Whether the actor bypasses the backend; scenarios/README.md says what that means.
        pending: A direct transaction waits in the mempool while the backend works on the next action, and is mined just
            before that action's transaction.
        retried: The client does not receive the backend's response, and repeats the request with the same key.
        answer_lost: The node takes the backend's transaction, but the node's response is lost. A client that receives
            an error repeats the request with the same key.
        reorganised: A reorganisation replaces the block of the backend's transaction once the backend has seen it, and
            before anything follows from it: the transaction is in another block ("moved"), or in none ("dropped"), so
            that the backend must send it again.
    """

    direct: bool = False
    pending: bool = False
    retried: bool = False
    answer_lost: bool = False
    reorganised: Literal["moved", "dropped"] | None = None

    @model_validator(mode="after")
    def _modifiers_fit_together(self) -> "_Transaction":
        if self.pending and not self.direct:
            raise ValueError("the backend decides when its transactions are sent; add `direct: true` to `pending`")
        if self.direct and (self.retried or self.answer_lost):
            raise ValueError("a direct action does not ask the backend; leave out `retried` and `answer_lost`")
        if self.direct and self.reorganised:
            raise ValueError("only the backend's transactions are reorganised; leave out `direct` or `reorganised`")
        return self


class _Payment(_Transaction):
    """The fields of an action that pays into the contract.

    Attributes:
        value_off: Wei sent beyond what is due; negative: too few. Only for direct actions, as the backend always sends
            what is due.
        paid_by: Who signs and pays for the host or attendee; if left out, they do themselves. Only for direct actions.
        payment: How the person pays INR for it, where the platform sends the wei.
        feed_moves: The price feed gives another rate at each reading during this action. The first one counts.
    """

    value_off: Wei = 0
    paid_by: str | None = None
    payment: PaymentBehaviour = "in_time"
    feed_moves: bool = False

    @model_validator(mode="after")
    def _past_the_backend(self) -> "_Payment":
        if self.value_off and not self.direct:
            raise ValueError("the backend never sends a wrong value; add `direct: true` or leave it out")
        if self.paid_by is not None and not self.direct:
            raise ValueError("the backend decides who pays; add `direct: true` to `paid_by`")
        if self.payment != "in_time" and self.direct:
            raise ValueError("a direct action does not ask the backend, which takes the INR; leave out `payment`")
        if self.feed_moves and self.direct:
            raise ValueError("a direct action does not ask the backend for a quote; leave out `feed_moves`")
        if self.payment not in ("in_time", "twice", "charged_back") and (self.retried or self.answer_lost):
            raise ValueError("the quote expires before the client asks again; leave out `retried` and `answer_lost`")
        return self


class CreateRun(_Payment):
    """Creates an event run. Its price becomes wei at the rate of this moment, once.

    Attributes:
        run: A new label.
        by: The host.
        price_inr: Price of a seat in INR.
        seats: Seats of the run.
        starts: Start of the event, in seconds from the scenario's start.
    """

    do: Literal["create_run"] = "create_run"
    run: Label
    by: str
    price_inr: Inr
    seats: Seats
    starts: Seconds

    @model_validator(mode="after")
    def _start_is_a_date(self) -> "CreateRun":
        if self.starts > 36_500 * DAY and not self.direct:
            raise ValueError("the backend takes no date that far away; start within 36500d")
        return self


class Book(_Payment):
    """Books seats of a run.

    Attributes:
        booking: A new label.
        run: The run.
        by: The attendee.
        seats: How many seats.
    """

    do: Literal["book"] = "book"
    booking: Label
    run: Label
    by: str
    seats: Seats


class CancelBooking(_Transaction):
    """Cancels a booking.

    Attributes:
        booking: The booking.
        by: Who cancels; if left out, the attendee.
    """

    do: Literal["cancel_booking"] = "cancel_booking"
    booking: Label
    by: str | None = None


class CancelRun(_Transaction):
    """Cancels a run.

    Attributes:
        run: The run.
        by: Who cancels; if left out, the host.
    """

    do: Literal["cancel_run"] = "cancel_run"
    run: Label
    by: str | None = None


class Complete(_Transaction):
    """Completes a run with its attendance list.

    Attributes:
        run: The run.
        by: Who completes; if left out, the host.
        attended: The bookings whose attendees attended; all others are no-shows. A booking that was never made on chain
            is left out of the call. A booking that is repeated, cancelled, or of another run is sent as it is.
    """

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
    """Lets a run expire that was not completed in time.

    Attributes:
        run: The run.
        by: Who sends the transaction: anybody may.
    """

    do: Literal["expire"] = "expire"
    run: Label
    by: str = PLATFORM


class Withdraw(_Transaction):
    """Withdraws the actor's own credit.

    Attributes:
        by: Whose credit; they send the transaction themselves.
        to: Who receives the credit; if left out, the actor.
    """

    do: Literal["withdraw"] = "withdraw"
    by: str
    to: str | None = None


class WithdrawFees(_Transaction):
    """Withdraws what the platform earned.

    Attributes:
        by: Who sends the transaction: only the contract's owner may.
    """

    do: Literal["withdraw_fees"] = "withdraw_fees"
    by: str = PLATFORM


class ForceEther(BaseAction):
    """Pushes ether into the contract by a contract that destroys itself, which nothing can refuse.

    Attributes:
        by: Who pays the ether.
        wei: How much.
    """

    do: Literal["force_ether"] = "force_ether"
    by: str
    wei: Annotated[Wei, Field(gt=0)]


def _as_on_chain(text: str) -> str:
    """An address as the chain's events are decoded to: with its checksum. Any other text stays as it is."""
    if not _ADDRESS.fullmatch(text):
        return text
    from eth_utils.address import to_checksum_address  # its package takes a while to import

    return to_checksum_address(text)


_ADDRESS = re.compile("0x[0-9a-fA-F]{40}")
CallArgument: TypeAlias = bool | Whole | Annotated[str, AfterValidator(_as_on_chain)] | tuple[Whole, ...]
"""An argument of a call. For an address it is an actor's name, `zero address`, `the contract`, or hexadecimal."""


class CallFunction(BaseAction):
    """Calls any function of the contract, with any arguments.

    What a function of `IEventStake` must do, the rules say. A call of a function that only the contract under test has
    may fail, and may not move anybody's money, nor change what is due to anybody.

    Attributes:
        function: Name of the function, or its signature, as `withdraw(uint256)`, where it has the name of another;
            `receive` sends plain ether, without call data, and `fallback` call data that names no function.
        args: Its arguments.
        by: Who sends the transaction.
        signed_by: Who signs the transaction that makes a scripted receiver call; if left out, the receiver's own key.
        value: Wei sent along.
        gas: Gas of the transaction, with which the call may also fail for want of gas; `least`: the least with which
            it succeeds; if left out, enough.
    """

    do: Literal["call"] = "call"
    function: str
    args: tuple[CallArgument, ...] = ()
    by: str = PLATFORM
    value: Annotated[Wei, Field(ge=0)] = 0
    signed_by: str | None = None
    gas: Annotated[Whole, Field(ge=21_000)] | Literal["least"] | None = None


class CallWhilePaid(StrictModel):
    """What a scripted receiver calls while it is paid.

    Attributes:
        function: Name of the function.
        args: Its arguments; see `CallFunction`.
        value: Wei sent along.
    """

    function: str
    args: tuple[CallArgument, ...] = ()
    value: Annotated[Wei, Field(ge=0)] = 0


class LookWhilePaid(StrictModel):
    """What a scripted receiver looks at while it is paid.

    Attributes:
        function: Name of a view.
        args: Its one argument: an id, or an actor.
    """

    function: Literal["getEventRun", "getBooking", "creditOf"]
    args: tuple[CallArgument]


class ScriptReceiver(BaseAction):
    """Tells a scripted receiver what to do from now on with ether that the contract sends to it.

    Attributes:
        by: The receiver.
        how: What it does with ether.
        calls: What it calls first; if left out, nothing.
        looks_at: The view that it compares with what it says after the payment, as well as the fees and what is owed;
            if left out, none. It accepts, and calls nothing.
    """

    do: Literal["script_receiver"] = "script_receiver"
    by: str
    how: ReceiverMode = "accepts"
    calls: CallWhilePaid | None = None
    looks_at: LookWhilePaid | None = None

    @model_validator(mode="after")
    def _has_gas_for_one(self) -> "ScriptReceiver":
        if self.looks_at is not None and (self.calls is not None or self.how != "accepts"):
            raise ValueError("a receiver that looks does nothing else; leave out `looks_at`, or `how` and `calls`")
        return self


def named_addresses(action: BaseAction) -> set[str]:
    """Addresses, with their checksums, that an action names as arguments of a call: most are no actor's."""
    call = action if isinstance(action, CallFunction) else getattr(action, "calls", None)
    if call is None:
        return set()
    return {argument for argument in call.args if isinstance(argument, str) and _ADDRESS.fullmatch(argument)}


class SetIds(BaseAction):
    """Sets the ids of the last run and booking in the contract's storage, as if so many had been made.

    A node that can't change storage refuses it, and so does a contract whose counters are not found.

    Attributes:
        runs: The id that the last run has from now on; if left out, it stays.
        bookings: The id that the last booking has from now on; if left out, it stays.
    """

    do: Literal["set_ids"] = "set_ids"
    runs: Annotated[Whole, Field(ge=0, lt=2**32)] | None = None
    bookings: Annotated[Whole, Field(ge=0, lt=2**32)] | None = None


class SetPrice(BaseAction):
    """Sets the rate of the price feed, which from then on no longer follows the market.

    Attributes:
        inr_per_eth: The rate in INR per ETH, also one that no quote may use.
        age: Seconds since the rate was true; it continues to age. With 0 the feed keeps the rate fresh.
    """

    do: Literal["set_price"] = "set_price"
    inr_per_eth: FeedRate
    age: Seconds = 0

    @property
    def rate(self) -> Decimal:
        """The rate in INR per ETH."""
        return Decimal(self.inr_per_eth)


class Wait(BaseAction):
    """Lets time pass."""

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
    | SetOperator
    | Pause
    | Unpause
    | TransferOwnership
    | AcceptOwnership
    | ForceEther
    | CallFunction
    | ScriptReceiver
    | SetIds
    | SetPrice
    | Wait
)
ACTOR_FIELDS = ("by", "to", "paid_by", "operator", "signed_by")
"""Fields of actions that name an actor."""
AnyAction = Annotated[Action, Field(discriminator="do")]
"""An action as a field of a model: `do` names its kind."""
