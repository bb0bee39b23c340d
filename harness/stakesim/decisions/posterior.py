"""A posterior: what a platform's bookings leave open, as people that a sweep can draw from."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from stakesim.decisions.priors import DEMAND_PRIORS, HAZARD_MEANS, HAZARD_SHAPE, HOST_CANCELS, NO_SHOW_PRIORS, prior_of
from stakesim.population.behaviours import AnyBehaviour, Cancel, HostCancels
from stakesim.population.measured_people import Demand, NoShowByRun, intercept, most_people
from stakesim.population.outcomes import MAX_PLACES
from stakesim.population.policy import Policy
from stakesim.population.population import Population
from stakesim.prices.price_models import Constant, PriceModel
from stakesim.schema.errors import InputError
from stakesim.schema.fields import Count, Inr, Seconds, StrictModel
from stakesim.schema.text_file import read_text
from stakesim.units import DAY

if TYPE_CHECKING:
    import pandas as pd

MAX_SIZE = 50_000_000
PARAMETERS = (*NO_SHOW_PRIORS, *DEMAND_PRIORS, *HAZARD_MEANS, "host cancels", "host exit")
_MOST_PLACES = MAX_PLACES - 10


class Posterior(StrictModel):
    """Equally likely values of all parameters, given a platform's bookings.

    Attributes:
        parameters: Draws of each parameter by its name, see `stakesim.decisions.priors`.
        party: Of each draw the shares of bookings of 1, 2, 3 ... seats.
        runs_like: Seats, price in INR and seconds from opening to start of the runs in the data.
        price_inr: The price at which `demand` holds: the geometric mean of the runs' prices.
        cutoff: Seconds before the start until which people could cancel.
        near: Seconds before the start in which cancellations have a hazard of their own.
        terms_seen: Stakes of the runs in the data, in basis points.
        counts: How many bookings, runs and so on there were.
        notes: What these data can't tell, a sentence each.
    """

    parameters: dict[str, tuple[float, ...]]
    party: tuple[tuple[float, ...], ...]
    runs_like: tuple[tuple[Count, Inr, Seconds], ...]
    price_inr: Inr
    cutoff: Seconds
    near: Seconds
    terms_seen: tuple[int, ...]
    counts: dict[str, int]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Number of draws."""
        return len(self.party)

    def table(self) -> pd.DataFrame:
        """A row for each draw, a column for each parameter."""
        import pandas as pd

        return pd.DataFrame(self.parameters)

    def thin(self, count: int) -> Posterior:
        """The first `count` draws, which are in a random order."""
        return self.model_copy(
            update={
                "parameters": {name: values[:count] for name, values in self.parameters.items()},
                "party": self.party[:count],
            }
        )

    def summary(self) -> pd.DataFrame:
        """A row for each parameter.

        It has mean, median and the central 95% of the posterior, the same of the prior, and `learnt`: by which share
        the bookings reduced the variance on the prior's scale (0: nothing is learnt). Then unit and source.
        """
        import pandas as pd

        rows = {}
        for name, values in ((str(name), values) for name, values in self._with_derived().items()):
            row: dict[str, Any] = {"mean": values.mean(), "median": values.median()}
            row |= {"low": values.quantile(0.025), "high": values.quantile(0.975)}
            if prior := prior_of(name):
                learnt = 1 - float(prior.to_scale(values).var()) / prior.deviation**2
                row |= {"prior median": prior.median, "prior low": prior.low, "prior high": prior.high}
                row |= {"learnt": max(learnt, 0.0), "unit": prior.unit, "source": prior.source}
            elif name in HAZARD_MEANS:
                mean = HAZARD_MEANS[name]
                row |= {"prior median": mean * 0.693, "prior low": mean * 0.0253, "prior high": mean * 3.689}
                row |= {"learnt": max(1 - float(values.var()) / (mean**2 / HAZARD_SHAPE), 0.0)}
                row |= {"unit": "share of bookings a day", "source": "an assumption, that of `Cancel`"}
            elif name == "host cancels":
                a, b = HOST_CANCELS
                variance = a * b / ((a + b) ** 2 * (a + b + 1))
                row |= {"prior median": 0.0358, "prior low": 0.0013, "prior high": 0.1765}
                row |= {"learnt": max(1 - float(values.var()) / variance, 0.0), "unit": "share of runs"}
                row |= {"source": "an assumption, worth 20 runs"}
            else:
                row |= {"unit": _DERIVED.get(name, ""), "source": "follows from the others"}
            rows[name] = row
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("parameter")

    def _with_derived(self) -> pd.DataFrame:
        table = self.table()
        seats = sum(kind[0] for kind in self.runs_like) / len(self.runs_like)
        mean_party = [sum(size * share for size, share in enumerate(shares, start=1)) for shares in self.party]
        table["demand against seats"] = table["demand"] * mean_party / seats
        table["clustering of no-shows"] = [
            correlation(rate, (run**2 + experience**2) ** 0.5)
            for rate, run, experience in zip(
                table["no-show rate"],
                table["no-show spread of runs"],
                table["no-show spread of experiences"],
                strict=True,
            )
        ]
        return table

    def people(self, draw: int) -> tuple[AnyBehaviour, ...]:
        """The people of a draw, as behaviours."""
        value = {name: values[draw] for name, values in self.parameters.items()}
        shares = self.party[draw]
        return (
            Demand(
                mean=min(value["demand"], 1_000.0),
                spread=value["demand spread of runs"],
                experience_spread=value["demand spread of experiences"],
                elasticity=value["demand elasticity"],
                price_elasticity=value["price elasticity"],
                price_inr=self.price_inr,
                early=value["early bookings"],
                late=value["late bookings"],
                party=shares,
            ),
            NoShowByRun(
                rate=value["no-show rate"],
                elasticity=value["no-show elasticity"],
                spread=value["no-show spread of runs"],
                experience_spread=value["no-show spread of experiences"],
            ),
            Cancel(
                daily=min(value["daily cancellations"], 1.0),
                daily_near=min(value["daily cancellations near"], 1.0),
                near=self.near,
                observed_cutoff=self.cutoff,
            ),
            HostCancels(chance=value["host cancels"]),
        )

    def population(
        self, draw: int, *, price_factor: Decimal = Decimal(1), price: PriceModel | None = None
    ) -> Population:
        """The population of a draw: runs like those in the data, and its people.

        Args:
            draw: Number of the draw.
            price_factor: By what all prices are multiplied.
            price: The market; by default 200,000 INR per ETH, always.

        Raises:
            InputError: The contract takes no such runs.
        """
        people = self.people(draw)
        demand = people[0]
        assert isinstance(demand, Demand)
        kinds = tuple(
            (seats, max(round(inr * price_factor, 2), Decimal("0.01")), lead) for seats, inr, lead in self.runs_like
        )
        seats, prices, leads = (sorted(values) for values in zip(*kinds, strict=True))
        # who comes after a run is sold out three times over changes nothing
        places = min(most_people(demand, [float(inr) for inr in prices]), 3 * seats[-1] + 10, _MOST_PLACES)
        try:
            return Population(
                name="posterior",
                story=f"Draw {draw} of a posterior.",
                terms=Policy(cancellation_cutoff=self.cutoff),
                seats=(seats[0], seats[-1]),
                price_inr=(prices[0], prices[-1]),
                lead_time=(leads[0], leads[-1]),
                attendees=(places, places),
                seats_wanted=(1, 1),
                runs_like=kinds,
                behaviours=people,
                price=price or Constant(),
            )
        except ValidationError as error:
            why = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise InputError(f"the posterior is of runs that the contract does not take: {why}") from None

    def populations(self, **options: Any) -> Iterator[Population]:
        """The population of each draw; for the options see `population`."""
        return (self.population(draw, **options) for draw in range(len(self)))

    def save(self, file: str | Path) -> None:
        """Writes the posterior as JSON.

        Raises:
            OutputError: It can't be written.
        """
        from stakesim.economics.output import whole_file

        with whole_file(Path(file)) as unfinished:
            unfinished.write_text(self.model_dump_json(), encoding="utf-8")

    @classmethod
    def load(cls, file: str | Path) -> Posterior:
        """Reads what `save` wrote.

        Raises:
            InputError: The file can't be read, or is no posterior.
        """
        text = read_text(Path(file), "posterior", MAX_SIZE)
        try:
            posterior = cls.model_validate_json(text)
        except ValidationError:
            raise InputError(f"{file}: is no posterior; write one with `stakesim calibrate BOOKINGS.csv`") from None
        if missing := [name for name in PARAMETERS if name not in posterior.parameters]:
            raise InputError(f"{file}: has no parameter {missing[0]!r}, as of another version; write it again")
        if not len(posterior) or {len(values) for values in posterior.parameters.values()} != {len(posterior)}:
            raise InputError(f"{file}: its parameters have different numbers of draws; write it again")
        return posterior


_DERIVED = {
    "demand against seats": "seats that people want in a run, without a stake, over its seats",
    "clustering of no-shows": "correlation of two bookings of a run (ICC)",
}


def correlation(rate: float, spread: float) -> float:
    """Returns the correlation of two bookings of a run, whose logit has this spread among runs.

    Args:
        rate: The mean probability of a no-show.
        spread: Standard deviation of the logit.
    """
    import numpy as np

    from stakesim.decisions.likelihood import normal_nodes

    nodes, log_weights = normal_nodes(0.3)
    weights = np.exp(log_weights)
    q = 1 / (1 + np.exp(-(intercept(rate, spread**2) + spread * nodes)))
    mean = float(weights @ q)
    return float(weights @ (q - mean) ** 2) / (mean * (1 - mean))


NEAR = 3 * DAY
"""Default of `Posterior.near`, as of `Cancel`."""
