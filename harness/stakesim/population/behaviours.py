"""Behaviours: how people differ from honest ones.

A behaviour is data and a function: `NoShow(base=0.15)(rng, state)` returns everybody's intents, changed by what these
people do. Behaviours are applied in their order, each with a random generator of its own.

Shares and probabilities are between 0 and 1, times are seconds. How many random numbers a behaviour draws never depends
on the terms, so that each policy meets the same people (common random numbers).

Where a behaviour has an elasticity, people weigh the stake as a share of the ticket, or with `observed_inr` in INR:
what was observed is of tickets of that price, and a dearer ticket, or ETH that has risen since the stake was fixed in
wei, counts for more. A seat is what counts, however many a person books.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, Field

from stakesim.population.changes import (
    add_person,
    cancel_runs,
    first_after_booking,
    relative_loss,
    relative_stake,
    stay_away,
)
from stakesim.population.measured_people import Demand, NoShowByRun
from stakesim.population.state import NEVER, Intents, PopulationState
from stakesim.schema.fields import Inr, Number, Probability, Seconds, StrictModel, Whole
from stakesim.units import BPS, DAY, HOUR

if TYPE_CHECKING:
    from numpy.random import Generator

    from stakesim.population.state import Floats

Elasticity: TypeAlias = Annotated[Number, Field(ge=0, le=20)]
MOST_NO_SHOWS = 0.4
"""The probability of staying away that no loss in INR raises further: of free events 0.28 to 0.40 is usual."""


class NoShow(StrictModel):
    """People who booked stay away with the probability base x (1 + stake) ** -elasticity.

    A no-show loses the ticket and the stake, which together are 1 + stake tickets. `base` is a rate as it is observed:
    of the bookings that nobody cancelled in time, for whatever reason, those who would have cancelled later included.

    Attributes:
        base: The probability without a stake. For paid events 0.10 to 0.17 is usual, for free ones 0.28 to 0.40.
        elasticity: How strongly the loss deters; 0: not at all.
        observed_inr: The price of a seat at which `base` was observed. The loss is then (ticket + stake) / price, and
            the probability is at most MOST_NO_SHOWS, or `base` if that is more. None: 1 + stake at any price.
    """

    do: Literal["no_show"] = "no_show"
    base: Probability = 0.135
    elasticity: Elasticity = 0.0
    observed_inr: Inr | None = None

    def __call__(self, rng: Generator, state: PopulationState) -> Intents:
        """Some people who booked stay away."""
        import numpy as np

        probability = self.base * relative_loss(state, self.observed_inr) ** -self.elasticity
        if self.observed_inr:
            probability = np.minimum(probability, max(self.base, MOST_NO_SHOWS))
        return stay_away(state, rng.random(state.shape) < probability)


class NoShowByDoubling(StrictModel):
    """People who booked stay away with a probability that falls by the same share with each doubling of the stake.

    It is rate x (1 - fall) ** log2(stake / stake_bps), and at most `base`, so that small stakes do nothing. As in
    `NoShow`, rates are observed ones.

    Attributes:
        rate: The probability at the stake `stake_bps`.
        stake_bps: The stake that `rate` was observed under, in basis points.
        fall: By which share no-shows fall if the stake doubles: 0.3 is 30%.
        base: The probability without a stake.
        observed_inr: The price of a seat at which `rate` was observed: the doublings are then those of the stake's
            worth in INR. None: those of the stake in basis points, at any price.
    """

    do: Literal["no_show_by_doubling"] = "no_show_by_doubling"
    rate: Probability = 0.135
    stake_bps: Annotated[Whole, Field(ge=1, le=5_000)] = 2_000
    fall: Annotated[Number, Field(ge=0, lt=1)] = 0.3
    base: Probability = 0.3
    observed_inr: Inr | None = None

    def __call__(self, rng: Generator, state: PopulationState) -> Intents:
        """Some people who booked stay away."""
        import numpy as np

        probability: Floats | float = self.base
        if state.terms.stake_bps:
            stake = relative_stake(state, self.observed_inr, state.start) * BPS / self.stake_bps
            probability = np.minimum(self.base, self.rate * (1 - self.fall) ** np.log2(stake))
        return stay_away(state, rng.random(state.shape) < probability)


class LostToStake(StrictModel):
    """Of the people who would book, the share (1 + stake) ** -elasticity still do.

    This is a constant elasticity of demand in what has to be paid in advance.

    Whoever may stay away expects to lose the stake, and whoever surely attends gets it back. So a stake screens people
    (J. Stiglitz 1975): it deters the former first. With the share q of people who would stay away and the share L of
    those who are deterred, it deters of the former L + screening x (min(1, L / q) - L), and of the others so many that
    it is L in all.

    Attributes:
        elasticity: The elasticity; 0: nobody is deterred, as the stake is returned.
        screening: How well the stake tells people apart. 0: anybody is deterred alike. 1: only those who would stay
            away are, as far as there are so many. Above 0 this behaviour comes after `no_show`, which it looks at, and
            before what nobody knows when booking, such as `weather`.
        observed_inr: The price of a seat at which the elasticity was observed: the stake is then its INR / observed_inr
            when the person books. None: it is a share of the ticket, at any price.
    """

    do: Literal["lost_to_stake"] = "lost_to_stake"
    elasticity: Elasticity = 0.5
    screening: Probability = 0.0
    observed_inr: Inr | None = None

    def __call__(self, rng: Generator, state: PopulationState) -> Intents:
        """Some people do not book."""
        import numpy as np

        books_at = state.intents.books_at
        share = 1 - (1 + relative_stake(state, self.observed_inr, books_at)) ** -self.elasticity
        if self.screening:
            stays_away, books = ~state.intents.intends_to_attend, books_at < NEVER
            q = min(max(int((stays_away & books).sum()) / max(int(books.sum()), 1), 1e-9), 1 - 1e-9)
            of_those = share + self.screening * (np.minimum(1, share / q) - share)
            share = np.where(stays_away, of_those, (share - q * of_those) / (1 - q))
        deterred = rng.random(state.shape) >= 1 - share
        return replace(state.intents, books_at=np.where(deterred, NEVER, books_at))


class Weather(StrictModel):
    """No-shows of a run that depend on each other: on a bad day many people stay away together.

    They come on top of the other no-shows. So a rate that was observed on all days is 1 - (1 - base) (1 - chance x
    stay_away), with the `base` of `NoShow`.

    Attributes:
        chance: The probability that a run has a bad day.
        stay_away: The share of people who stay away on a bad day, without a stake.
        elasticity: How strongly the loss of ticket and stake brings them all the same, as in `NoShow`.
        observed_inr: As in `NoShow`.
    """

    do: Literal["weather"] = "weather"
    chance: Probability = 0.1
    stay_away: Probability = 0.3
    elasticity: Elasticity = 0.0
    observed_inr: Inr | None = None

    def __call__(self, rng: Generator, state: PopulationState) -> Intents:
        """On bad days many people stay away."""
        bad_day = rng.random(state.run_count) < self.chance
        share = self.stay_away * relative_loss(state, self.observed_inr) ** -self.elasticity
        return stay_away(state, (rng.random(state.shape) < share) & bad_day)


class Cancel(StrictModel):
    """Attendees cancel their bookings, more often shortly before the start.

    The time to a cancellation is exponential with a hazard of two steps (the piecewise exponential model, M. Friedman
    1982). People who would cancel after the contract's cutoff can't, and stay away.

    A rate of no-shows was observed under some cutoff, and has everybody who would have cancelled after it. So `NoShow`
    has them, and more people stay away only where the contract's cutoff is the earlier one: those who would cancel
    between the two. Where it is the later one, the people in between cancel, and of the others as many stay away as
    before.

    Attributes:
        daily: Hazard for each day.
        daily_near: Hazard for each day in the last `near` seconds before the start.
        near: Seconds before the start in which the hazard is `daily_near`.
        observed_cutoff: Seconds before the start until which people could cancel when no-shows were observed.
        elasticity: How strongly the loss of ticket and stake brings those who would be too late, as in `NoShow`.
        observed_inr: As in `NoShow`.
    """

    do: Literal["cancel"] = "cancel"
    daily: Probability = 0.01
    daily_near: Probability = 0.05
    near: Seconds = 3 * DAY
    observed_cutoff: Seconds = DAY
    elasticity: Elasticity = 0.0
    observed_inr: Inr | None = None

    def __call__(self, rng: Generator, state: PopulationState) -> Intents:
        """Some people cancel; those who would be too late stay away."""
        import numpy as np

        books_at = state.intents.books_at
        # A person cancels when the hazard, summed up since the booking, reaches `risk`.
        risk = rng.standard_exponential(state.shape)
        near_from = np.maximum(state.start - self.near, books_at)
        risk_before = self.daily * (near_from - books_at) / DAY
        with np.errstate(divide="ignore", invalid="ignore"):
            early = books_at + risk / self.daily * DAY if self.daily else np.full(state.shape, np.inf)
            late = near_from + (risk - risk_before) / self.daily_near * DAY if self.daily_near else np.inf
            times = np.where(risk < risk_before, early, late)
        times = np.where(times < state.start, times, NEVER).astype(np.int64)
        earliest = np.minimum(state.intents.cancels_at, np.maximum(times, books_at + 1))
        cancels_at = np.where(books_at < NEVER, earliest, NEVER)
        too_late = cancels_at > state.cutoff
        stays_away = too_late & (cancels_at <= state.start - self.observed_cutoff)
        if self.elasticity:
            stays_away &= rng.random(state.shape) < relative_loss(state, self.observed_inr) ** -self.elasticity
        return replace(stay_away(state, stays_away), cancels_at=np.where(too_late, NEVER, cancels_at))


class HostCancels(StrictModel):
    """Hosts cancel their runs at any moment between an hour after the creation and the start.

    Attributes:
        chance: The probability that a host does.
    """

    do: Literal["host_cancels"] = "host_cancels"
    chance: Probability = 0.05

    def __call__(self, rng: Generator, state: PopulationState) -> Intents:
        """Some hosts cancel their runs."""
        import numpy as np

        times = (HOUR + rng.random(state.run_count) * (state.start - HOUR - 1)).astype(np.int64)
        return cancel_runs(state, times, rng.random(state.run_count) < self.chance)


class WalkAway(StrictModel):
    """People use the option that a free cancellation is, on the first day on which it pays.

    An attendee's refund is in wei, fixed when the run was created, and the ticket is worth its INR price: they cancel,
    by the cutoff, once the wei are worth more than (1 + threshold) x that price. A host's revenue is in the same wei:
    the host cancels the run once it is worth less than (1 - threshold) x its price.

    Attributes:
        who: Who cancels.
        threshold: By how much cancelling must pay, as a share of the price.
        share: The share of people, or of hosts, who watch the market.
    """

    do: Literal["walk_away"] = "walk_away"
    who: Literal["attendees", "hosts"] = "attendees"
    threshold: Annotated[Number, Field(ge=0, lt=10)] = 0.2
    share: Probability = 1.0

    def __call__(self, rng: Generator, state: PopulationState) -> Intents:
        """People, or hosts, cancel on the first day on which it pays."""
        import numpy as np

        value = state.rates / state.rates[0]
        days = np.arange(len(state.rates))[:, None]
        looks_at = days * DAY + HOUR
        if self.who == "hosts":
            pays = (value < 1 - self.threshold) & (looks_at < state.start)
            first = np.where(pays.any(axis=0), pays.argmax(axis=0) * DAY + HOUR, NEVER)
            return cancel_runs(state, first, rng.random(state.run_count) < self.share)
        pays = (value > 1 + self.threshold) & (looks_at <= state.cutoff)
        watches = rng.random(state.shape) < self.share
        intents = state.intents
        first = first_after_booking(pays, intents.books_at, second_of_day=HOUR)
        cancels_at = np.where(watches, np.minimum(intents.cancels_at, first), intents.cancels_at)
        return replace(intents, cancels_at=np.where(intents.books_at < NEVER, cancels_at, NEVER))


class FalseNoShows(StrictModel):
    """Hosts report some of the people who attended as no-shows; it pays where the host gets part of the forfeits.

    Attributes:
        share: The share of attendees who are falsely reported.
        hosts: The share of hosts who do it.
    """

    do: Literal["false_no_shows"] = "false_no_shows"
    share: Probability = 0.5
    hosts: Probability = 1.0

    def __call__(self, rng: Generator, state: PopulationState) -> Intents:
        """Some people who attended are reported as no-shows."""
        is_false = (rng.random(state.shape) < self.share) & (rng.random(state.run_count) < self.hosts)
        intents = state.intents
        reported_attended = intents.reported_attended & ~is_false & ~intents.by_host | intents.by_host
        return replace(intents, reported_attended=reported_attended)


class SelfBook(StrictModel):
    """Hosts book seats of their own run an hour after it opens, and report themselves as attended.

    The run looks popular.

    Attributes:
        seats: Seats that each of them books.
        hosts: The share of hosts who do it.
    """

    do: Literal["self_book"] = "self_book"
    seats: Annotated[Whole, Field(ge=1)] = 1
    hosts: Probability = 1.0

    def __call__(self, rng: Generator, state: PopulationState) -> Intents:
        """Some hosts book their own runs."""
        import numpy as np

        books_at = np.where(rng.random(state.run_count) < self.hosts, HOUR, NEVER)
        never = np.full(state.run_count, NEVER)
        return add_person(state, books_at, self.seats, never, by_host=True, intends_to_attend=True)


class Grief(StrictModel):
    """Somebody books a run's seats a minute after it opens, and cancels in the last second that is allowed.

    Others find the run full, and it costs the griefer nothing but gas.

    Attributes:
        runs: The share of runs that this happens to.
        seats: How many seats; None: all of them.
    """

    do: Literal["grief"] = "grief"
    runs: Probability = 1.0
    seats: Annotated[Whole, Field(ge=1)] | None = None

    def __call__(self, rng: Generator, state: PopulationState) -> Intents:
        """Somebody fills some of the runs and cancels."""
        import numpy as np

        hit = rng.random(state.run_count) < self.runs
        seats = state.seats if self.seats is None else np.minimum(state.seats, self.seats)
        books_at = np.where(hit, 60, NEVER)
        cancels_at = np.where(hit, np.maximum(state.cutoff, 61), NEVER)
        return add_person(state, books_at, seats, cancels_at, by_host=False, intends_to_attend=False)


class CompleteLate(StrictModel):
    """Hosts complete their runs too late or never, so that the runs expire.

    Attributes:
        late: The share of runs that are completed only after the grace period.
        never: The share of runs that nobody completes.
    """

    do: Literal["complete_late"] = "complete_late"
    late: Probability = 0.02
    never: Probability = 0.02

    def __call__(self, rng: Generator, state: PopulationState) -> Intents:
        """Some runs are completed late or never."""
        import numpy as np

        draw, delay = rng.random(state.run_count), rng.integers(0, DAY, state.run_count)
        is_never = (draw >= self.late) & (draw < self.late + self.never)
        completes_run_at = np.where(draw < self.late, state.deadline + delay, state.intents.completes_run_at)
        return replace(state.intents, completes_run_at=np.where(is_never, NEVER, completes_run_at))


AnyBehaviour: TypeAlias = Annotated[
    NoShow
    | NoShowByDoubling
    | LostToStake
    | Weather
    | Cancel
    | HostCancels
    | WalkAway
    | FalseNoShows
    | SelfBook
    | Grief
    | CompleteLate
    | Demand
    | NoShowByRun,
    Field(discriminator="do"),
]
"""A behaviour as a field of a file: `do` names its kind."""


Behaviours: TypeAlias = Annotated[tuple[AnyBehaviour, ...], AfterValidator(lambda group: in_order(group))]
"""Behaviours as a field of a file, in an order that makes sense."""


def in_order(group: Sequence[Any]) -> Any:
    """Returns the group.

    Raises:
        ValueError: A stake screens people before it is known who stays away, so that it would not screen anybody.
    """
    knows = False
    for behaviour in group:
        knows = knows or getattr(behaviour, "do", "no_show").startswith("no_show")  # one's own may know
        if isinstance(behaviour, LostToStake) and behaviour.screening and not knows:
            raise ValueError("lost_to_stake with `screening` looks at who stays away; write it after no_show")
    return group
