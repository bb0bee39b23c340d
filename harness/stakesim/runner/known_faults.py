"""Names of the faults that backends, and of the weaknesses that contracts, are known to have."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple, Self


class Name(NamedTuple):
    """What is wrong, as reports name it.

    Attributes:
        text: The fault or weakness; empty where it has no name.
        place: Where it is, if it can be in several places: a function, an action.
    """

    text: str
    place: str = ""


class _WithMeaning(StrEnum):
    """A name, and what it means for people who pay or are paid.

    Attributes:
        meaning: A sentence for somebody who does not program.
    """

    meaning: str

    def __new__(cls, text: str, meaning: str) -> Self:
        """Makes the text the value."""
        member = str.__new__(cls, text)
        member._value_, member.meaning = text, meaning
        return member


class BackendFault(_WithMeaning):
    """A known fault of backends, as reports name it."""

    INEXACT_WEI = (
        "INR are turned into wei inexactly",
        "Prices in INR become wei by inexact arithmetic, so people pay other amounts than they were told.",
    )
    DONE_TWICE = (
        "a client's retry is done twice",
        "A client that asks again, as after a time-out, pays twice.",
    )
    FALSE_FAILURE = (
        "a time-out is taken for a failure",
        "A transaction that only takes long is told as failed, and goes through later.",
    )
    GUESSED_ID = (
        "an id on chain is guessed",
        "The backend guesses the number that the contract gives; of two requests at once one gets the other's.",
    )
    REUSED_NONCE = (
        "a nonce is used twice",
        "Two transactions take the same place in the account's order, so that one of them is lost.",
    )
    EARLY_STATUS = (
        "a status is written before the receipt",
        "The database says that something happened before the chain does, and stays wrong if that fails.",
    )


class ContractWeakness(_WithMeaning):
    """A known weakness of stake contracts, as reports name it."""

    OWNER_TAKES_ESCROW = (
        "the owner can take escrow",
        "The owner can take money that belongs to hosts and attendees.",
    )
    ANYBODY_TAKES_ESCROW = (
        "anybody can take escrow",
        "Anybody can take money that belongs to hosts and attendees.",
    )
    FORCED_ETHER_TAKEN = (
        "ether that was forced in can be taken out",
        "Ether that somebody pushed into the contract can be taken out, so its books are not its own.",
    )
    OWNER_SHUTS_EXITS = (
        "the owner can shut the exits",
        "The owner can keep hosts and attendees from getting their money out.",
    )
    TERMS_CHANGE = (
        "terms change under a booked run",
        "Stake or fee of a run change after people have booked it.",
    )
    DUES_CHANGE = (
        "a function of its own changes what is due",
        "A function that the rules do not know changes who is owed what.",
    )
    OVERPAYMENT_KEPT = (
        "overpayment is kept",
        "Who sends 1 wei too much loses it.",
    )
    UNDERPAYMENT_TAKEN = (
        "underpayment is taken",
        "Who sends too little is booked all the same, and others pay for it.",
    )
    RUN_TOO_LARGE = (
        "a full run doesn't fit in a transaction",
        "A sold-out run needs more gas than a transaction may have, so nobody ever gets their money.",
    )
    RECEIVER_BLOCKS_ALL = (
        "one hostile receiver blocks everybody",
        "One attendee whose wallet refuses money stops the payouts of all others.",
    )
    FUNDS_LOCKED = (
        "funds stay locked for ever",
        "Money stays in the contract, and nobody can ever get it out.",
    )
    EXIT_SHUT = (
        "a run can't be closed in a way in which it must",
        "A run can't be completed, cancelled or expired when the rules say that it can.",
    )
    PAYOUT_KEPT = (
        "a payout that was refused can't be had any more",
        "Who could not take a payout at first can't get it later either.",
    )
    PAID_TWICE = (
        "a payout can be had twice",
        "Somebody gets the same payout twice, from the money of others.",
    )
    FEES_LOCKED = (
        "the platform can't withdraw its fees",
        "The platform can't get out what it earned.",
    )
    FORFEITS_UNCLAIMABLE = (
        "no-shows' stakes belong to nobody",
        "The stakes of people who did not come belong to nobody, and stay in the contract.",
    )
    NO_AUTHORITY_NEEDED = (
        "who may not do a thing can",
        "Somebody who must not do a thing can do it.",
    )
    WRONG_COST = (
        "a run or booking costs another amount",
        "A run or a booking costs another amount than the rules say.",
    )
    ATTENDEE_LOSES = (
        "an attendee gets too little",
        "Somebody who attends gets less than the rules say.",
    )
    HOST_LOSES = (
        "a host gets too little",
        "A host gets less than the rules say.",
    )
    PLATFORM_LOSES = (
        "the platform gets too little",
        "The platform gets less than the rules say.",
    )
    ATTENDEE_GAINS = (
        "an attendee gets too much",
        "Somebody who attends gets more than the rules say, from the money of others.",
    )
    HOST_GAINS = (
        "a host gets too much",
        "A host gets more than the rules say, from the money of others.",
    )
    PLATFORM_GAINS = (
        "the platform gets too much",
        "The platform gets more than the rules say, from the money of others.",
    )
    STRANGER_GAINS = (
        "somebody to whom nothing is due gets money",
        "Somebody who took no part gets money.",
    )
    NOT_REFUSED = (
        "what must be refused is done",
        "The contract or the backend does something that the rules forbid.",
    )
    REFUSED = (
        "what must be possible is refused",
        "The contract or the backend refuses something that the rules allow.",
    )
