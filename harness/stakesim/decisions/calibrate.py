"""Calibration: what a platform's own bookings say about its people, as a posterior.

The model has four parts that share no parameter, so each is sampled alone:

- no-shows: binomial for each run, with logit-normal effects of runs and experiences, times (1 + stake) ^ -elasticity;
- demand: a Poisson process for each run along the booking curve, with gamma effects of runs and log-normal effects of
  experiences, until the seats run short;
- cancellations: exponential, with one hazard far from the start and one near it; sizes of bookings: multinomial;
- hosts who cancel: binomial.

The first two have normal priors (`stakesim.decisions.priors`) and are sampled by `stakesim.decisions.importance`; the
posteriors of the others are exact (gamma, Dirichlet, beta).
"""

from __future__ import annotations

from decimal import Decimal
from math import exp, log
from typing import TYPE_CHECKING, Any

from stakesim.decisions.bookings import check_bookings
from stakesim.decisions.importance import sample_posterior
from stakesim.decisions.likelihood import DemandData, NoShowData
from stakesim.decisions.posterior import NEAR, Posterior
from stakesim.decisions.priors import (
    DEMAND_PRIORS,
    HAZARD_MEANS,
    HAZARD_SHAPE,
    HOST_CANCELS,
    HOST_EXIT,
    NO_SHOW_PRIORS,
    Prior,
)
from stakesim.population.population import require_whole
from stakesim.population.streams import stream
from stakesim.units import BPS, DAY

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    import pandas as pd
    from numpy.random import Generator
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

DRAWS = 1_000
"""Default number of draws of a posterior."""


def calibrate(
    bookings: pd.DataFrame, *, cutoff: int = DAY, near: int = NEAR, draws: int = DRAWS, seed: int = 0
) -> Posterior:
    """Estimates what people are like from a platform's own bookings.

    Args:
        bookings: A row for each booking, see `stakesim.decisions.bookings`.
        cutoff: Seconds before a run's start until which people could cancel.
        near: Seconds before the start in which cancellations have a hazard of their own.
        draws: Number of draws of the posterior.
        seed: Seed of the draws.

    Returns:
        The posterior. Its notes say what these bookings can't tell.

    Raises:
        InputError: A column is missing, or rows are not valid.
        NotConverged: The bookings contradict the priors too much.
    """
    import numpy as np

    require_whole("draws", draws, least=100)
    require_whole("seed", seed, least=0)
    frame = check_bookings(bookings, cutoff)
    runs = frame.drop_duplicates("run")
    prices = runs.price_inr.map(float).to_numpy()
    price_inr = round(Decimal(exp(float(np.log(prices).mean()))), 2)
    no_shows, demand = NoShowData.of(frame), DemandData.of(frame, float(price_inr))
    parameters = {
        **_sample(NO_SHOW_PRIORS, no_shows.log_likelihood, draws, stream(seed, "no-shows")),
        **_sample(DEMAND_PRIORS, demand.log_likelihood, draws, stream(seed, "demand")),
        **_hazards(frame, cutoff, near, draws, stream(seed, "cancellations")),
        "host cancels": _host_cancels(frame, draws, stream(seed, "hosts")),
        "host exit": HOST_EXIT.from_scale(
            HOST_EXIT.centre + HOST_EXIT.deviation * stream(seed, "exit").standard_normal(draws)
        ),
    }
    party = stream(seed, "party").dirichlet(demand.party + 0.5, draws)
    leads = ((runs.starts_at - runs.opened_at).dt.total_seconds()).astype(int)
    return Posterior(
        parameters={name: tuple(values.tolist()) for name, values in parameters.items()},
        party=tuple(map(tuple, party.tolist())),
        runs_like=tuple(zip(runs.run_seats.tolist(), runs.price_inr.tolist(), leads.tolist(), strict=True)),
        price_inr=price_inr,
        cutoff=cutoff,
        near=near,
        terms_seen=tuple(sorted({int(bps) for bps in runs.stake_bps})),
        counts=_counts(frame, demand),
        notes=tuple(_notes(frame, runs, demand)),
    )


def _sample(
    priors: Mapping[str, Prior], log_likelihood: Callable[..., Floats], count: int, rng: Generator
) -> dict[str, Floats]:
    """Draws of parameters with normal priors."""
    items = list(priors.items())

    def values(standard: Floats) -> list[Floats]:
        return [prior.from_scale(prior.centre + prior.deviation * standard[:, i]) for i, (_, prior) in enumerate(items)]

    sample = sample_posterior(lambda standard: log_likelihood(*values(standard)), len(items), count, rng)
    return dict(zip(priors, values(sample.draws), strict=True))


def _hazards(frame: pd.DataFrame, cutoff: int, near: int, count: int, rng: Generator) -> dict[str, Floats]:
    """Draws of the cancellation hazards a day: gamma, by the cancellations and the days at risk in each piece."""
    booked = frame[frame.booked_at.notna() & (frame.outcome != "run_cancelled")]
    start = booked.starts_at
    begins = (start - booked.booked_at).dt.total_seconds().to_numpy(float)  # seconds before the start
    is_cancelled = (booked.outcome == "cancelled").to_numpy()
    ends = (start - booked.cancelled_at).dt.total_seconds().fillna(cutoff).to_numpy(float)
    result = {}
    for (name, mean), (high, low) in zip(HAZARD_MEANS.items(), ((float("inf"), near), (near, 0)), strict=True):
        at_risk = begins.clip(low, high) - ends.clip(low, high)
        cancellations = (is_cancelled & (ends >= low) & (ends < high)).sum()
        rate = HAZARD_SHAPE / mean + at_risk.clip(0).sum() / DAY
        result[name] = rng.gamma(HAZARD_SHAPE + cancellations, 1 / rate, count)
    return result


def _host_cancels(frame: pd.DataFrame, count: int, rng: Generator) -> Floats:
    cancelled = int(frame.run[frame.outcome == "run_cancelled"].nunique())
    booked = int(frame.run[frame.booked_at.notna()].nunique())
    return rng.beta(HOST_CANCELS[0] + cancelled, HOST_CANCELS[1] + booked - cancelled, count)


def _counts(frame: pd.DataFrame, demand: DemandData) -> dict[str, int]:
    outcomes = frame.outcome.value_counts()
    return {
        "bookings": int(frame.booked_at.notna().sum()),
        "runs": int(frame.run.nunique()),
        "experiences": int(frame.experience.nunique()),
        "runs short of seats": int((demand.until < 1).sum()),
        **{outcome: int(outcomes.get(outcome, 0)) for outcome in ("attended", "no_show", "cancelled", "unknown")},
        "runs cancelled": int(frame.run[frame.outcome == "run_cancelled"].nunique()),
    }


def _notes(frame: pd.DataFrame, runs: pd.DataFrame, demand: DemandData) -> list[str]:
    """What these bookings can't tell."""
    notes = []
    stakes = sorted({int(bps) for bps in runs.stake_bps})
    if len(stakes) == 1:
        notes.append(
            f"Every booking had a stake of {100 * stakes[0] / BPS:g}%, so they can't tell another stake's effect: "
            "the priors alone do, on no-shows and on demand."
        )
    elif runs.groupby("experience").stake_bps.nunique().max() == 1 and runs.experience.nunique() < len(runs):
        notes.append("Stakes differ between experiences but in none of them: what differs may be the experiences.")
    if log(float(runs.price_inr.max() / runs.price_inr.min())) < 0.1:
        notes.append("Prices differ by less than 10%, so the price's effect on demand is the prior's.")
    else:
        notes.append(
            "Who chose the prices may have known the demand: the price's effect is right only if prices were chosen "
            "at random among similar runs."
        )
    if not frame.outcome.isin(("attended", "no_show")).any():
        notes.append("Nobody noted who attended: all about no-shows is the prior's.")
    if len(demand.until) and (demand.until < 1).mean() > 0.5:
        notes.append("Most runs ran short of seats: how many more people wanted to come is known from the others.")
    if frame.booked_at.notna().all() and frame.groupby("run").size().min() <= 2:
        notes.append("Every run has a booking. If runs without any were left out of the file, demand is too high.")
    return notes


def describe(posterior: Posterior) -> Any:
    """Returns the summary as a table for people: numbers with three digits, sources left out."""
    table = posterior.summary().drop(columns=["source", "unit", "mean"])
    return table.map(lambda value: "" if value != value else f"{value:.3g}")
