"""What a contract written elsewhere decides for itself, within the rules."""

from __future__ import annotations

from dataclasses import dataclass

from stakesim.model.state import MAX_SEATS, Liberty
from stakesim.scenario.actions import Terms


@dataclass(frozen=True)
class ContractTraits:
    """What a contract decides for itself. The defaults are those of `EventStake`.

    Attributes:
        terms: Those that its code fixes; None: its constructor takes them.
        max_seats: Seats of the largest run that it opens.
        pays_by_credit: It pushes no payout: everybody withdraws what they are paid.
        fees_by_credit: The platform's fees, too, are then a credit of the owner.
        reverts_with_strings: It has no custom errors but those that it declares and never uses.
        liberties: What it does otherwise than the rules, as the contract lane finds out: scenarios name each as a
            weakness, or no rule of the deployed interface speaks of it.
    """

    terms: Terms | None = None
    max_seats: int = MAX_SEATS
    pays_by_credit: bool = False
    fees_by_credit: bool = False
    reverts_with_strings: bool = False
    liberties: frozenset[Liberty] = frozenset()

    @property
    def like_event_stake(self) -> bool:
        """Whether expectations of a scenario, which are about `EventStake`, hold."""
        return self == ContractTraits()
