"""What all actions of a scenario have in common."""

from typing import Literal, TypeAlias

from stakesim.schema.fields import Seconds, StrictModel

PLATFORM = "platform"
"""The actor that every scenario has: its account deploys the contract, owns it at first, and signs for everybody who
does not pay for themselves."""

ErrorName: TypeAlias = Literal[
    "PriceError",
    "PaymentTooSmall",
    "NotPaid",
    "PaymentUnusable",
    "NotAuthorized",
    "OwnableUnauthorizedAccount",
    "OwnershipRequired",
    "EnforcedPause",
    "ExpectedPause",
    "UnknownEventRun",
    "UnknownBooking",
    "EventNotOpen",
    "BookingNotActive",
    "BookingNotOfRun",
    "TooEarly",
    "TooLate",
    "InvalidReceiver",
    "InvalidExperience",
    "InvalidPrice",
    "InvalidSeats",
    "InvalidStart",
    "NotEnoughSeats",
    "AmountTooLarge",
    "WrongValue",
    "NothingToWithdraw",
    "TransferFailed",
    "InsufficientGas",
    "Panic",
    "NotPayable",
    "NoSuchFunction",
]
"""How an action can fail: the contract's errors, and those of the backend's price check and of payments in INR.

"NotPayable": wei were sent to a function that takes none, which fails without a reason. "NoSuchFunction": plain ether,
or call data that names no function, is refused for whatever reason."""

PaymentBehaviour: TypeAlias = Literal[
    "in_time",
    "never",
    "late",
    "twice",
    "too_little",
    "other_currency",
    "forged",
    "webhook_late",
    "charged_back",
]
"""How somebody pays the INR for which the platform sends wei; scenarios/README.md says what each leads to."""


class BaseAction(StrictModel):
    """The fields of every action.

    Attributes:
        at: Seconds from the scenario's start; if left out, 60 seconds after the previous action.
        fails: The error that the action must fail with; if left out, the action must succeed in a strict
            scenario.
    """

    at: Seconds | None = None
    fails: ErrorName | None = None
