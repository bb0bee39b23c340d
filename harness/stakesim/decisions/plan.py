"""Plans of experiments: how many runs tell an effect, how long that takes, what it costs, and what it is worth.

An experiment draws runs at random into two arms: today's stake, and another one. The contract's stake is fixed when it
is deployed, so each arm is a contract of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, inf
from typing import TYPE_CHECKING, TypeAlias

from stakesim.decisions.boundaries import Boundaries, boundaries
from stakesim.decisions.information import information
from stakesim.decisions.posterior import Posterior, correlation
from stakesim.decisions.power import LEAST_RUNS, Effect, SimulatedPower, closed_form_runs, simulated_power
from stakesim.population.measured_people import intercept
from stakesim.population.population import require_whole
from stakesim.population.streams import stream
from stakesim.schema.errors import InputError
from stakesim.units import BPS

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from stakesim.decisions.decide import Decision

    Floats: TypeAlias = NDArray[np.float64]

SIZES = (10, 20, 40, 80, 160, 320)
"""Runs of each arm whose value is computed."""
MOST_RUNS = 5_000
"""Runs of each arm beyond which an experiment is not simulated."""


@dataclass(frozen=True)
class Plan:
    """An experiment.

    Attributes:
        effect: What it is to tell.
        level: Probability of an effect where there is none.
        power: Probability to find the effect, as asked for.
        test: The looks and their boundaries.
        runs: Runs of each arm, if it goes on to the last look.
        without_looks: Runs of each arm by the closed form, with a single look at the end.
        simulated: What simulated experiments with the effect found.
        null: The same without an effect.
    """

    effect: Effect
    level: float
    power: float
    test: Boundaries
    runs: int
    without_looks: float
    simulated: SimulatedPower
    null: SimulatedPower


def plan(effect: Effect, *, looks: int = 3, level: float = 0.05, power: float = 0.8, seed: int = 0) -> Plan:
    """Plans an experiment that tells an effect.

    Args:
        effect: The effect.
        looks: Number of looks, the last one included. The experiment ends at the first one that tells the effect.
        level: Probability of an effect where there is none, of all looks together.
        power: Probability to find the effect.
        seed: Seed of the simulated experiments.

    Raises:
        InputError: A value is out of its range, or the effect needs more than MOST_RUNS runs.
    """
    effect.check()
    test = boundaries(looks, level=level, power=power)
    fixed = closed_form_runs(effect, level=level, power=power)
    runs = max(ceil(fixed * test.inflation), LEAST_RUNS * looks)
    if runs > MOST_RUNS:
        raise InputError(
            f"an effect of {effect.fall:.0%} needs {runs:,} runs in each arm, which nobody will make; ask for a larger "
            "effect, or a lower power"
        )
    simulated = simulated_power(effect, runs, test, stream(seed, "effect"))
    null = simulated_power(replace(effect, fall=0.0), runs, test, stream(seed, "no effect"))
    return Plan(effect, level, power, test, runs, fixed, simulated, null)


def effect_of(posterior: Posterior, fall: float, outcome: str = "no-shows") -> Effect:
    """The effect in a platform whose bookings gave a posterior: medians, under the stake that most of its runs had."""
    table = posterior.table()
    medians = table.median()
    spread = float((medians["no-show spread of runs"] ** 2 + medians["no-show spread of experiences"] ** 2) ** 0.5)
    stake = posterior.terms_seen[0] / BPS
    factor = float(((1 + stake) ** -table["no-show elasticity"] * table["no-show rate"]).median())
    counts = posterior.counts
    noted = counts["attended"] + counts["no_show"]
    with_seats = max(counts["runs"] - counts["runs cancelled"], 1)
    return Effect(
        "bookings" if outcome == "bookings" else "no-shows",
        rate=min(max(factor, 0.001), 0.95),
        fall=fall,
        bookings=max(noted / with_seats, 1.0),
        booking_spread=float(medians["demand spread of runs"]),
        clustering=correlation(float(medians["no-show rate"]), spread),
    )


def experiment_values(
    decision: Decision,
    posterior: Posterior,
    *,
    seasons: float,
    setup_inr: float = 0.0,
    sizes: Sequence[int] = SIZES,
    seed: int = 0,
) -> pd.DataFrame:
    """What experiments would cost and be worth for a decision.

    Each other stake is compared with today's; fee, split and prices are those of the best policy. The experiment shows
    no-shows and bookings of both arms; then the policy that is best by what it showed is used for the seasons that
    follow. It costs what both arms earn less than the policy that is best by what is known today.

    Args:
        decision: The decision, from `decide`.
        posterior: All draws of the posterior that it was made with.
        seasons: Seasons after the experiment in which its result is used.
        setup_inr: INR that the experiment costs besides, such as another contract.
        sizes: Runs of each arm.
        seed: Seed of the simulated experiments.

    Returns:
        A row for each stake and size: `worth_inr`, the expected value of sample information in all seasons; `cost_inr`;
        and `net_inr`, their difference.

    Raises:
        InputError: The question has a single stake.
    """
    import pandas as pd

    question = decision.question
    stakes = question.choices.stake_bps
    if len(stakes) < 2:
        raise InputError(f"{question.name}: has a single stake; give `choices` others to try")
    for size in sizes:
        require_whole("sizes", size, least=1)
    policies = question.policies()
    scores = decision.emulator(posterior.table())
    means = scores.mean(axis=0)
    best = policies[int(means.argmax())]
    rows = []
    for stake in stakes[1:]:
        arms = [policies.index(best._replace(stake_bps=each)) for each in (stakes[0], stake)]
        a_run = sum(float(means.max() - means[arm]) for arm in arms) / question.season
        for size in sizes:
            seen = _experiment(posterior, (stakes[0], stake), float(best.price_factor), size, seed)
            worth = information(scores, seen) * seasons
            cost = a_run * size + setup_inr
            rows.append(
                {
                    "stake_bps": stake,
                    "runs_each": size,
                    "worth_inr": worth,
                    "cost_inr": cost,
                    "net_inr": worth - cost,
                }
            )
    return pd.DataFrame(rows)


def _experiment(posterior: Posterior, stakes: tuple[int, int], price_factor: float, runs: int, seed: int) -> Floats:
    """What an experiment shows under each draw: log odds of no-shows and log bookings of the arms, shape (draws, 4)."""
    import numpy as np

    rng = stream(seed, "experiment", runs)
    table = posterior.table()
    column = {name: table[name].to_numpy(float)[:, None] for name in table}
    shape = (len(table), runs)
    seats = np.array([kind[0] for kind in posterior.runs_like])
    factors = np.array([float(kind[1] / posterior.price_inr) for kind in posterior.runs_like]) * price_factor
    party = np.array([sum(size * share for size, share in enumerate(each, start=1)) for each in posterior.party])
    seen = []
    for stake in stakes:
        x = 1 + stake / BPS
        kind = rng.integers(len(seats), size=shape)
        sigma = column["demand spread of experiences"]
        mean = column["demand"] * x ** -column["demand elasticity"] * factors[kind] ** -column["price elasticity"]
        mean = mean * np.exp(sigma * rng.standard_normal(shape) - sigma**2 / 2)
        gamma = column["demand spread of runs"] ** -2
        mean = mean * rng.standard_gamma(np.broadcast_to(gamma, shape)) / gamma
        bookings = np.minimum(rng.poisson(np.minimum(mean, 1e6)), np.round(seats[kind] / party[:, None]).astype(int))
        spread = column["no-show spread of runs"]
        of_experience = column["no-show spread of experiences"]
        centre = intercept(column["no-show rate"], spread**2 + of_experience**2)
        logit = centre + np.sqrt(spread**2 + of_experience**2) * rng.standard_normal(shape)
        q = np.minimum(x ** -column["no-show elasticity"] / (1 + np.exp(-logit)), 1)
        no_shows, total = rng.binomial(bookings, q).sum(axis=1), bookings.sum(axis=1)
        seen += [np.log((no_shows + 0.5) / (total - no_shows + 0.5)), np.log((total + 0.5) / runs)]
    return np.stack(seen, axis=1)


def best_experiment(values: pd.DataFrame) -> pd.Series[float] | None:
    """The row of `experiment_values` that is worth most beyond its cost; None if none is worth its cost."""
    best = values.iloc[int(values.net_inr.to_numpy().argmax())]
    return best if best.net_inr > 0 else None


def weeks(runs: float, runs_per_week: float) -> float:
    """Weeks that so many runs take."""
    return runs / runs_per_week if runs_per_week > 0 else inf
