"""Profiles: what the people, the events and the market of a random campaign are like."""

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from stakesim.scenario.actions import Terms
from stakesim.schema import yaml_file
from stakesim.schema.fields import UNITS, Inr, Rate, Seconds, StrictModel
from stakesim.schema.yaml_file import FieldError

Probability: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Count: TypeAlias = Annotated[int, Field(strict=True, ge=0)]

Receiver: TypeAlias = Literal["refuses", "burns_gas", "floods", "reenters"]
HostileKind: TypeAlias = Literal[
    "wrong_caller", "wrong_value", "wrong_list", "on_the_edge", "twice", "grab_fees", "grab_credit", "force_ether"
]


class Profile(StrictModel):
    """Two numbers are the ends of a range, both included. Chances are from 0 to 1 and independent of each other."""

    name: str
    story: str
    terms: Terms = Terms()

    two_runs: Probability = 0.2
    """That a scenario has a second run beside the first."""
    seats: tuple[Count, Count]
    price_inr: tuple[Inr, Inr]
    """A seat's price: every order of magnitude in the range is equally likely."""
    lead_time: tuple[Seconds, Seconds]
    """From the run's creation to its start."""
    attendees: tuple[Count, Count]
    """People who try to book, for each run."""
    seats_wanted: tuple[Count, Count]

    no_show: Probability
    attendee_cancels: Probability
    cancels_late: Probability
    """That who cancels does so after the cutoff, when it is too late."""
    host_cancels: Probability
    never_completed: Probability
    """That nobody completes the run, so that it expires."""

    pays_self: Probability
    walletless: Probability
    hostile_receiver: Probability
    receivers: tuple[Receiver, ...] = ("refuses", "burns_gas", "floods", "reenters")

    mischief: Annotated[float, Field(ge=0, le=20)]
    """Hostile actions for each run, on average."""
    kinds: tuple[HostileKind, ...] = ()

    inr_per_eth: tuple[Rate, Rate] = (Decimal(150_000), Decimal(350_000))
    annual_volatility: Annotated[float, Field(ge=0, le=20)]
    crash: Probability
    """That the market crashes instead of wandering about."""
    drop_percent: tuple[Count, Count] = (30, 60)
    bad_feed: Probability
    """That the price feed says nonsense while somebody books, for each run."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for field in type(self).model_fields:
            ends = getattr(self, field)
            if field not in ("receivers", "kinds") and isinstance(ends, tuple) and ends[0] > ends[1]:
                raise FieldError((field,), f"the range ends before it begins; write [{ends[1]}, {ends[0]}]")
        if self.pays_self + self.walletless + self.hostile_receiver > 1:
            raise ValueError("`pays_self`, `walletless`, `hostile_receiver` exclude each other; keep the sum below 1")
        if self.mischief and not self.kinds:
            raise FieldError(("kinds",), "`mischief` needs kinds to choose from; add `kinds: [wrong_caller]`")
        if self.hostile_receiver and not self.receivers:
            raise FieldError(("receivers",), "`hostile_receiver` needs receivers to choose from; add `[refuses]`")
        if self.lead_time[0] < self.terms.cancellation_cutoff + 3 * UNITS["h"]:
            raise FieldError(("lead_time",), "nobody could cancel in time; begin 3h above the cancellation cutoff")
        return self


def load_profile(file: str | Path) -> Profile:
    """The profile in a file. Raises ScenarioError."""
    return yaml_file.load_named(file, Profile, "profile")
