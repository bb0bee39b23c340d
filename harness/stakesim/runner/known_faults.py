"""Names of the faults that backends, and of the weaknesses that contracts, are known to have."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Name(NamedTuple):
    """What is wrong, as reports name it.

    Attributes:
        text: The fault or weakness; empty where it has no name.
        place: Where it is, if it can be in several places: a function, an action.
    """

    text: str
    place: str = ""


class BackendFault(StrEnum):
    """A known fault of backends, as reports name it."""

    INEXACT_WEI = "INR are turned into wei inexactly"
    DONE_TWICE = "a client's retry is done twice"
    FALSE_FAILURE = "a time-out is taken for a failure"
    GUESSED_ID = "an id on chain is guessed"
    REUSED_NONCE = "a nonce is used twice"
    EARLY_STATUS = "a status is written before the receipt"


class ContractWeakness(StrEnum):
    """A known weakness of stake contracts, as reports name it."""

    OWNER_TAKES_ESCROW = "the owner can take escrow"
    ANYBODY_TAKES_ESCROW = "anybody can take escrow"
    FORCED_ETHER_TAKEN = "ether that was forced in can be taken out"
    OWNER_SHUTS_EXITS = "the owner can shut the exits"
    TERMS_CHANGE = "terms change under a booked run"
    DUES_CHANGE = "a function of its own changes what is due"
    OVERPAYMENT_KEPT = "overpayment is kept"
    UNDERPAYMENT_TAKEN = "underpayment is taken"
    RUN_TOO_LARGE = "a full run doesn't fit in a transaction"
    RECEIVER_BLOCKS_ALL = "one hostile receiver blocks everybody"
    FUNDS_LOCKED = "funds stay locked for ever"
    EXIT_SHUT = "a run can't be closed in a way in which it must"
    PAYOUT_KEPT = "a payout that was refused can't be had any more"
    PAID_TWICE = "a payout can be had twice"
    FEES_LOCKED = "the platform can't withdraw its fees"
    FORFEITS_UNCLAIMABLE = "no-shows' stakes belong to nobody"
    NO_AUTHORITY_NEEDED = "who may not do a thing can"
    WRONG_COST = "a run or booking costs another amount"
    ATTENDEE_LOSES = "an attendee gets too little"
    HOST_LOSES = "a host gets too little"
    PLATFORM_LOSES = "the platform gets too little"
    ATTENDEE_GAINS = "an attendee gets too much"
    HOST_GAINS = "a host gets too much"
    PLATFORM_GAINS = "the platform gets too much"
    STRANGER_GAINS = "somebody to whom nothing is due gets money"
    NOT_REFUSED = "what must be refused is done"
    REFUSED = "what must be possible is refused"
