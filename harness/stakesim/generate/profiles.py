"""Profiles: what people, events and the market of a random campaign are like."""

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from stakesim.generate.hostile_actions import HostileKind
from stakesim.scenario.actions import Terms
from stakesim.schema import yaml_file
from stakesim.schema.errors import FieldError
from stakesim.schema.fields import Count, Inr, Number, Probability, Rate, Seconds, StrictModel
from stakesim.units import HOUR

Receiver: TypeAlias = Literal["refuses", "burns_gas", "floods", "reenters"]


class Profile(StrictModel):
    """What a random campaign draws its scenarios from.

    Two numbers are the ends of a range, both included. Probabilities are independent of each other.
    """

    name: str
    story: str
    terms: Terms = Terms()
    """The usual terms of the contract."""
    other_terms: Probability = 0.5
    """Probability that a scenario has other terms, drawn from all that the contract takes, its ends included."""

    two_runs: Probability = 0.2
    """Probability that a scenario has a second run."""
    seats: tuple[Count, Count]
    """Seats of a run."""
    price_inr: tuple[Inr, Inr]
    """Price of a seat in INR, drawn log-uniformly."""
    lead_time: tuple[Seconds, Seconds]
    """Seconds from the run's creation to its start."""
    attendees: tuple[Count, Count]
    """How many people try to book a run."""
    seats_wanted: tuple[Count, Count]
    """Seats that each of them tries to book."""

    no_show: Probability
    """Probability that an attendee who did not cancel stays away."""
    attendee_cancels: Probability
    """Probability that an attendee cancels."""
    cancels_late: Probability
    """Probability that an attendee who cancels does so after the cutoff, when it is too late."""
    host_cancels: Probability
    """Probability that the host cancels the run."""
    never_completed: Probability
    """Probability that nobody completes the run, so that it expires."""

    pays_self: Probability
    """Probability that an actor signs and pays with a key of their own."""
    walletless: Probability
    """Probability that an actor has no wallet and is entered under the platform's address."""
    hostile_receiver: Probability
    """Probability that an actor is a contract that does one of `receivers` when ether is sent to it."""
    receivers: tuple[Receiver, ...] = ("refuses", "burns_gas", "floods", "reenters")

    mischief: Annotated[Number, Field(ge=0, le=20)]
    """Hostile actions for each run, on average."""
    kinds: tuple[HostileKind, ...] = ()
    """Which hostile actions there are; each at most once for a run."""

    odd_payment: Probability = 0
    """Probability that somebody who pays the platform in INR does so late, twice, too little, not at all or in another
    odd way."""

    inr_per_eth: tuple[Rate, Rate] = (Decimal(150_000), Decimal(350_000))
    """The market's rate at the scenario's start, in INR per ETH."""
    administration: Probability = 0
    """Probability of each of these: the owner pauses bookings for a while; an operator acts for the platform for a
    while; the ownership passes to somebody, and back."""

    annual_volatility: Annotated[Number, Field(ge=0, le=20)]
    """The market's volatility in a year, as a fraction: 0.8 is 80%."""
    crash: Probability
    """Probability that the market crashes once instead of moving randomly."""
    drop_percent: tuple[Count, Count] = (30, 60)
    """How far the market falls in a crash."""
    bad_feed: Probability
    """Probability for each run that the price feed is faulty while somebody books."""

    def with_terms(self, terms: Terms) -> Self:
        """The profile of a scenario that has these terms: people can cancel as long before the start as before."""
        later = max(terms.cancellation_cutoff - self.terms.cancellation_cutoff, 0)
        earliest, latest = self.lead_time
        return self.model_copy(update={"terms": terms, "lead_time": (earliest + later, latest + later)})

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        self._check_ranges()
        if self.pays_self + self.walletless + self.hostile_receiver > 1:
            raise ValueError("`pays_self`, `walletless`, `hostile_receiver` exclude each other; keep the sum below 1")
        if self.mischief and not self.kinds:
            raise FieldError(("kinds",), "`mischief` needs kinds to choose from; add `kinds: [wrong_caller]`")
        if self.hostile_receiver and not self.receivers:
            raise FieldError(("receivers",), "`hostile_receiver` needs receivers to choose from; add `[refuses]`")
        if self.lead_time[0] < self.terms.cancellation_cutoff + 3 * HOUR:
            raise FieldError(("lead_time",), "nobody could cancel in time; begin 3h above the cancellation cutoff")
        return self

    def _check_ranges(self) -> None:
        for field in type(self).model_fields:
            ends = getattr(self, field)
            if field not in ("receivers", "kinds") and isinstance(ends, tuple) and ends[0] > ends[1]:
                raise FieldError((field,), f"the range ends before it begins; write [{ends[1]}, {ends[0]}]")


def load_profile(file: str | Path) -> Profile:
    """Reads a profile from a YAML file that has the profile's name.

    Raises:
        InputError: The file can't be read, or is no valid profile.
    """
    return yaml_file.load_named(file, Profile, "profile")
