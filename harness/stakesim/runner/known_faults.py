"""Names of the faults that backends, and of the weaknesses that contracts, are known to have."""

from __future__ import annotations

from enum import StrEnum


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
    OWNER_SHUTS_EXITS = "the owner can shut the exits"
    TERMS_CHANGE = "terms change under a booked run"
    OVERPAYMENT_KEPT = "overpayment is kept"
    UNDERPAYMENT_TAKEN = "underpayment is taken"
    RUN_TOO_LARGE = "a full run doesn't fit in a transaction"
    RECEIVER_BLOCKS_ALL = "one hostile receiver blocks everybody"
    FUNDS_LOCKED = "funds stay locked for ever"
    FORFEITS_UNCLAIMABLE = "no-shows' stakes belong to nobody"
