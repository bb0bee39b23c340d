"""Policies: the terms of the contract, and rules of the platform's own by which it sells seats."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from stakesim.scenario.actions import Terms
from stakesim.schema.fields import Whole


class Policy(Terms):
    """Terms of the contract, and how the platform sells.

    Overbooking: the run is created with more seats than there are, as some people will not come. If too many come, some
    are turned away. The contract counts them as attended, so that they get their stakes back; the host pays them a
    compensation in INR outside the contract. Of a group that has too few seats left, some sit and the others are turned
    away.

    Waiting list: whoever finds no seat waits. When a booking is cancelled, the first of those who wait and have room
    books, in the next second, unless they would have cancelled by then.

    Attributes:
        overbooking_bps: Seats sold beyond those that there are, in basis points, rounded down.
        compensation_bps: What the host pays for each seat of which somebody is turned away, in basis points of its
            price in INR: 10,000 is the ticket's price.
        waiting_list: Whether there is a waiting list.
    """

    overbooking_bps: Annotated[Whole, Field(ge=0, le=10_000)] = 0
    compensation_bps: Annotated[Whole, Field(ge=0, le=100_000)] = 10_000
    waiting_list: bool = False

    def contract_terms(self) -> Terms:
        """The terms alone, without the platform's own rules."""
        return Terms(**{name: getattr(self, name) for name in Terms.model_fields})


def as_policy(terms: Terms) -> Policy:
    """Terms as a policy of which the platform's own rules are the usual ones."""
    return terms if isinstance(terms, Policy) else Policy(**dict(terms))
