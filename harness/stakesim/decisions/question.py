"""Questions as YAML files: what may be chosen, what counts how much, and how averse to risk the owner is."""

from __future__ import annotations

from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self, TypeAlias

from pydantic import Field, ValidationError, model_validator

from stakesim.decisions.calibrate import calibrate
from stakesim.decisions.posterior import Posterior
from stakesim.prices.price_models import Constant, PriceModel
from stakesim.scenario.actions import Terms
from stakesim.schema import yaml_file
from stakesim.schema.errors import FieldError, InputError
from stakesim.schema.fields import Count, Inr, Label, Number, Seconds, StrictModel, Whole
from stakesim.units import BPS, DAY

Weight: TypeAlias = Annotated[Number, Field(ge=0, le=1_000)]
Factor: TypeAlias = Inr
"""A positive decimal in quotes, with at most two digits after the point."""


class Choices(StrictModel):
    """What may be chosen; the first value of each is today's. Every combination is a policy.

    Attributes:
        stake_bps: Stakes in basis points of the ticket.
        fee_bps: Fees in basis points of the ticket revenue.
        forfeit_to_host_bps: The host's share of forfeited stakes in basis points.
        price_factor: By what all ticket prices are multiplied.
    """

    stake_bps: tuple[Whole, ...] = (2_000, 0, 500, 1_000, 3_000, 5_000)
    fee_bps: tuple[Whole, ...] = (500,)
    forfeit_to_host_bps: tuple[Whole, ...] = (0,)
    price_factor: tuple[Factor, ...] = (Decimal(1),)

    @model_validator(mode="after")
    def _allowed(self) -> Self:
        for name in type(self).model_fields:
            values = getattr(self, name)
            if not values:
                raise FieldError((name,), "is empty; give at least today's value")
            if len(set(values)) < len(values):
                raise FieldError((name,), "has a value twice; give each once")
            for number, value in enumerate(values):
                if name != "price_factor":
                    try:
                        Terms(**{name: value})
                    except ValidationError as error:
                        raise FieldError((name, number), f"{error.errors()[0]['msg']}") from None
        return self


class Weights(StrictModel):
    """How much of the objective an INR of each party is, and what an empty seat costs.

    Attributes:
        host: Of the host's profit.
        platform: Of the platform's income less its costs.
        attendees: Of what attending is worth less what attendees paid.
        empty_seat_inr: INR that a seat in which nobody sits takes off.
    """

    host: Weight = 1.0
    platform: Weight = 1.0
    attendees: Weight = 0.0
    empty_seat_inr: Annotated[Number, Field(ge=0, le=1_000_000)] = 0.0


class Neutral(StrictModel):
    """The mean counts."""

    kind: Literal["neutral"] = "neutral"


class Crra(StrictModel):
    """Constant relative risk aversion: the utility of wealth x is x ^ (1 - aversion) / (1 - aversion).

    Attributes:
        aversion: 0 is neutral, 1 the logarithm; 1 to 4 is usual (L. Eeckhoudt, C. Gollier, H. Schlesinger 2005).
        wealth_inr: What the owner has besides a season's outcome, in INR.
    """

    kind: Literal["crra"] = "crra"
    aversion: Annotated[Number, Field(ge=0, le=20)] = 2.0
    wealth_inr: Annotated[Number, Field(ge=0)] = 0.0


class Cvar(StrictModel):
    """Conditional value at risk: the mean of the worst share `tail` of the seasons counts.

    Attributes:
        tail: The share.
    """

    kind: Literal["cvar"] = "cvar"
    tail: Annotated[Number, Field(ge=0.01, le=1)] = 0.1


Risk: TypeAlias = Annotated[Neutral | Crra | Cvar, Field(discriminator="kind")]


class Policy(NamedTuple):
    """One combination of choices."""

    stake_bps: int
    fee_bps: int
    forfeit_to_host_bps: int
    price_factor: Decimal

    def __str__(self) -> str:
        return (
            f"stake {100 * self.stake_bps / BPS:g}%, fee {100 * self.fee_bps / BPS:g}%, "
            f"host's share of forfeits {100 * self.forfeit_to_host_bps / BPS:g}%, prices x {self.price_factor:f}"
        )


class Question(StrictModel):
    """What the owner of a platform has to decide.

    Attributes:
        name: Name of the question, which is also the name of its file.
        question: The question in a sentence.
        bookings: The CSV file of the platform's bookings, beside the question's file.
        posterior: Instead, what `stakesim calibrate` wrote of them.
        cutoff: Seconds before the start until which people could cancel; of `bookings` alone.
        choices: What may be chosen.
        weights: What counts how much.
        risk: How averse to risk the owner is.
        season: Runs that are judged together: the risk is that of so many.
        attendee_value: What attending is worth to an attendee, in tickets of today's price.
        extra_inr: INR that the host earns from somebody who attends, besides the ticket.
        booking_cost_inr: INR that a booking costs the platform, such as gas.
        run_cost_inr: INR that a run costs the platform.
        market: The market of ETH.
        draws: Draws of the posterior that are simulated.
        runs: Runs of each draw and policy.
        seed: Seed of all random numbers.
        spot_check: Runs of the best policy that are also carried out on a chain.
    """

    name: Label
    question: str
    bookings: str | None = None
    posterior: str | None = None
    cutoff: Seconds = DAY
    choices: Choices = Choices()
    weights: Weights = Weights()
    risk: Risk = Neutral()
    season: Annotated[Whole, Field(ge=1, le=2_000)] = 60
    attendee_value: Annotated[Number, Field(ge=0, le=100)] = 1.2
    extra_inr: Annotated[Number, Field(ge=0)] = 0.0
    booking_cost_inr: Annotated[Number, Field(ge=0)] = 0.0
    run_cost_inr: Annotated[Number, Field(ge=0)] = 0.0
    market: PriceModel = Constant()
    draws: Annotated[Whole, Field(ge=50, le=5_000)] = 200
    runs: Annotated[Whole, Field(ge=100, le=100_000)] = 1_200
    seed: Count = 0
    spot_check: Count = 2

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.bookings and self.posterior:
            raise FieldError(("posterior",), "there are bookings as well; give one of them")
        if self.season > self.runs:
            raise FieldError(("season",), f"a season has more runs than are simulated; give at most {self.runs}")
        w = self.weights
        if not (w.host or w.platform or w.attendees or w.empty_seat_inr):
            raise FieldError(("weights",), "nothing counts; give one of them a weight above 0")
        return self

    def policies(self) -> tuple[Policy, ...]:
        """Every combination of the choices, today's first."""
        c = self.choices
        return tuple(
            Policy(*values) for values in product(c.stake_bps, c.fee_bps, c.forfeit_to_host_bps, c.price_factor)
        )


def load_question(file: str | Path) -> Question:
    """Reads a question's file.

    Raises:
        InputError: The file is missing or not valid.
    """
    return yaml_file.load_named(file, Question, "question")


def posterior_of(question: Question, folder: Path) -> Posterior:
    """Loads or calibrates the posterior that a question names.

    Args:
        question: The question.
        folder: What its paths count from.

    Raises:
        InputError: It names none, or the file is missing or not valid.
    """
    from stakesim.decisions.bookings import read_bookings

    if question.posterior:
        return Posterior.load(folder / question.posterior)
    if question.bookings:
        bookings = read_bookings(folder / question.bookings, question.cutoff)
        return calibrate(bookings, cutoff=question.cutoff, seed=question.seed)
    raise InputError(f"{question.name}: names neither bookings nor a posterior; add `bookings: bookings.csv`")
