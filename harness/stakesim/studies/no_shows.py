"""The effect of the stake on no-shows, bookings and income, under every plausible elasticity.

Nobody has measured how people react to this stake. So every question is asked nine times, once for each pair of
elasticities, and what depends on them is reported as unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from math import inf
from typing import TYPE_CHECKING, Any

from stakesim.economics import DEFAULT_POPULATION, sweep
from stakesim.population.behaviours import LostToStake, NoShow, Weather
from stakesim.prices.price_models import Constant, Gbm
from stakesim.units import BPS

if TYPE_CHECKING:
    import pandas as pd

    from stakesim.population.behaviours import AnyBehaviour

STAKES = (2_000, 0, 500, 1_000, 3_000, 4_000, 5_000)
"""Basis points, today's 20% first, from which changes are counted. The contract accepts at most 50%."""
NO_SHOW_ELASTICITIES = {"none": 0.0, "low": 1.0, "high": 4.0}
"""Elasticity of staying away in 1 + stake. A stake of 20% prevents none, a sixth, or half of the no-shows."""
DEMAND_ELASTICITIES = {"none": 0.0, "low": 0.25, "high": 1.0}
"""Elasticity of booking in 1 + stake. At a stake of 20%, 0, 4 or 17% fewer people book. 1 is an upper bound: it is the
loss at unit elasticity if the ticket were dearer by the stake, but the stake comes back."""
PAID_BASE_RATES, FREE_BASE_RATES = (0.10, 0.135, 0.17), (0.28, 0.40)
"""Shares of no-shows without a stake, at paid and at free events."""
USUAL_BASE_RATE = PAID_BASE_RATES[1]
TOKEN_PRICE_POPULATION = DEFAULT_POPULATION.model_copy(update={"name": "token", "price_inr": (Decimal(1), Decimal(1))})
"""1 INR a seat: the nearest to a free event that the contract accepts."""
MARKET = Constant()
"""A constant rate, so that only the stake changes amounts."""
_CASE_COLUMNS = ["case", "no-shows", "demand", "forfeit_to_host_bps"]


def sweep_stakes(
    runs: int, seed: int, *, base: float = USUAL_BASE_RATE, spot_check: int = 0, engine: str = "py-evm"
) -> pd.DataFrame:
    """Sweeps all of `STAKES` under each pair of elasticities.

    Args:
        runs: Runs of each combination.
        seed: Seed of all random numbers.
        base: Share of no-shows without a stake.
        spot_check: Runs to carry out on a chain.
        engine: EVM engine of the spot check.

    Returns:
        The table of `stakesim.economics.sweep`, with the case, and name and value of both elasticities.
    """
    groups = {
        f"{no_show}, {demand}": (
            LostToStake(elasticity=DEMAND_ELASTICITIES[demand]),
            NoShow(base=base, elasticity=NO_SHOW_ELASTICITIES[no_show]),
        )
        for no_show, demand in elasticity_pairs()
    }
    frame = sweep({"stake_bps": STAKES}, groups, MARKET, runs, seed, spot_check=spot_check, engine=engine)
    frame[["no-shows", "demand"]] = frame["behaviours"].astype(str).str.split(", ", expand=True)
    frame["elasticity of no-shows"] = frame["no-shows"].map(NO_SHOW_ELASTICITIES)
    frame["elasticity of demand"] = frame["demand"].map(DEMAND_ELASTICITIES)
    frame["case"] = f"{base:.1%} stay away"
    return frame


def elasticity_pairs() -> list[tuple[str, str]]:
    """Returns the names of all pairs of elasticities, of no-shows and of demand."""
    return [(no_show, demand) for no_show in NO_SHOW_ELASTICITIES for demand in DEMAND_ELASTICITIES]


def sweep_other_cases(runs: int, seed: int, *, no_show: str = "low", demand: str = "low") -> pd.DataFrame:
    """Repeats the sweep for one pair of elasticities with one thing changed at a time.

    The cases are base rates, bad weather, a moving market, forfeits to the host, and a token price.
    """
    import pandas as pd

    lost_bookings = LostToStake(elasticity=DEMAND_ELASTICITIES[demand])

    def group(base: float, *more: AnyBehaviour) -> tuple[AnyBehaviour, ...]:
        return lost_bookings, NoShow(base=base, elasticity=NO_SHOW_ELASTICITIES[no_show]), *more

    policies = {"stake_bps": STAKES}
    usual_group = group(USUAL_BASE_RATE)
    paid_groups = {f"{base:.1%} stay away": group(base) for base in PAID_BASE_RATES}
    paid_groups["bad weather"] = group(USUAL_BASE_RATE, Weather())
    free_groups = {f"token price, {base:.0%} stay away": group(base) for base in FREE_BASE_RATES}
    moving_market = Gbm(inr_per_eth=Decimal(200_000), annual_volatility=0.7)
    host_gets_forfeits = policies | {"forfeit_to_host_bps": [BPS]}
    parts = [
        sweep(policies, paid_groups, MARKET, runs, seed),
        sweep(policies, {"ETH moves": usual_group}, moving_market, runs, seed),
        sweep(host_gets_forfeits, {"forfeits to the host": usual_group}, MARKET, runs, seed),
        sweep(policies, free_groups, MARKET, runs, seed, TOKEN_PRICE_POPULATION),
    ]
    frame = pd.concat(parts, ignore_index=True)
    frame["case"], frame["no-shows"], frame["demand"] = frame["behaviours"].astype(str), no_show, demand
    return frame


def best_stakes(frame: pd.DataFrame, metric: str, *, largest: bool = True) -> pd.Series[Any]:
    """Returns the stakes that no other stake is shown to beat, in basis points, for each case and pair of elasticities.

    The best one is among them with a probability of at least 95%; see `stakesim.economics.metrics.Estimate`.

    Args:
        frame: From `sweep_stakes` or `sweep_other_cases`.
        metric: Name of a metric.
        largest: Whether a larger value of the metric is better.
    """
    import pandas as pd

    of_metric = frame[frame["metric"] == metric].sort_values("stake_bps", kind="stable")
    stakes_by_case: dict[Any, tuple[int, ...]] = {
        case: tuple(rows["stake_bps"][rows["may_be_largest" if largest else "may_be_smallest"]])
        for case, rows in of_metric.groupby(_CASE_COLUMNS, sort=False, observed=True)
    }
    name = f"{'most' if largest else 'fewest'} {metric}"
    return pd.Series(stakes_by_case, name=name).rename_axis(_CASE_COLUMNS)


def format_stakes(stakes: Sequence[int]) -> str:
    """Formats some of `STAKES` in percent; neighbours become a range."""
    all_stakes = sorted(STAKES)
    if len(stakes) == len(all_stakes):
        return "any: not identified"
    ranges: list[list[int]] = []
    for index in sorted(all_stakes.index(bps) for bps in stakes):
        if ranges and index == ranges[-1][-1] + 1:
            ranges[-1].append(index)
        else:
            ranges.append([index])
    percent_ranges = [(all_stakes[indices[0]] // 100, all_stakes[indices[-1]] // 100) for indices in ranges]
    return ", ".join(f"{low}%" if low == high else f"{low} to {high}%" for low, high in percent_ranges)


def elasticity_table(column: pd.Series[Any]) -> pd.DataFrame:
    """Reshapes the values of a single case: a row for each elasticity of no-shows, a column for each of demand."""
    table = column.droplevel(["case", "forfeit_to_host_bps"]).unstack()
    return table.loc[list(NO_SHOW_ELASTICITIES), list(DEMAND_ELASTICITIES)]


def change_from_no_stake(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Returns how the first policy's stake changes a metric against no stake, with the paired 95% interval.

    Returns:
        A row for each case and pair of elasticities: `change`, `change_low`, `change_high`, the same in percent of
        the value `without` a stake, and that value.
    """
    of_metric = frame[frame["metric"] == metric].set_index(_CASE_COLUMNS)
    no_stake = of_metric[of_metric["stake_bps"] == 0]
    # The sweep counts from the first policy, so the signs change and the ends of the interval swap.
    changes = -no_stake[["change", "change_high", "change_low"]].set_axis(
        ["change", "change_low", "change_high"], axis=1
    )
    percent = changes.div(no_stake["value"], axis=0).add_suffix(" %") * 100
    return changes.assign(without=no_stake["value"]).join(percent)


def required_attendee_value(frame: pd.DataFrame, *, stake_bps: int = 2_000, fee_bps: int = 500) -> pd.Series[float]:
    """Returns what a person in a seat must be worth to the host, besides the ticket, for a stake to be as good as none.

    A no-show's seat is paid for, so without such a worth no-shows cost the host nothing.

    Returns:
        Tickets: (1 - fee) x seats not sold / seats more occupied; inf where no more seats are occupied.
    """
    values = frame.pivot_table(
        index=_CASE_COLUMNS, columns=["metric", "stake_bps"], values="value", sort=False, observed=True
    )
    sold, empty = values["seats filled"], values["empty seats"]
    more_occupied = empty[0] - empty[stake_bps]
    tickets: pd.Series[float] = (1 - fee_bps / BPS) * (sold[0] - sold[stake_bps]) / more_occupied
    return tickets.where(more_occupied > 0, inf).rename("tickets")


def stake_with_fewest_empty_seats(base: float, no_show: float, demand: float) -> float | None:
    """Returns the stake, as a share of the ticket, at which most people attend, where seats do not run out.

    With x = 1 + stake, p the base rate, d and e the elasticities of demand and no-shows, x^-d (1 - p x^-e) people
    attend. The derivative is 0 at x^e = p (d + e) / d.

    Args:
        base: Share of no-shows without a stake.
        no_show: Elasticity of staying away.
        demand: Elasticity of booking.

    Returns:
        The stake, possibly above the contract's limit; inf if attendance only grows with the stake; None if the stake
        changes nothing.
    """
    if demand == 0:
        return inf if base * no_show > 0 else None
    x: float = (base * (demand + no_show) / demand) ** (1 / no_show) if no_show else 1.0
    return max(x - 1, 0.0)


def fewest_empty_seats_table(base: float = USUAL_BASE_RATE) -> pd.DataFrame:
    """Formats `stake_with_fewest_empty_seats` for each pair of elasticities."""
    import pandas as pd

    columns = {
        demand: [
            _format_share(stake_with_fewest_empty_seats(base, no_show, demand_elasticity))
            for no_show in NO_SHOW_ELASTICITIES.values()
        ]
        for demand, demand_elasticity in DEMAND_ELASTICITIES.items()
    }
    return pd.DataFrame(columns, index=pd.Index(NO_SHOW_ELASTICITIES, name="no-shows")).rename_axis(columns="demand")


def _format_share(stake: float | None) -> str:
    if stake is None:
        return "any: not identified"
    return "the more, the better" if stake == inf else f"{stake:.0%}"


def answer(frame: pd.DataFrame) -> str:
    """Returns the notebook's answer in two sentences. frame: from `sweep_stakes`."""
    profit = change_from_no_stake(frame, "host profit")
    low_demand, high_demand = (profit.xs(demand, level="demand").iloc[0] for demand in ("low", "high"))
    platform = change_from_no_stake(frame, "platform income")["change %"]
    most_profit, fewest_empty = best_stakes(frame, "host profit"), best_stakes(frame, "empty seats", largest=False)
    today = STAKES[0]
    best_for_host = [stakes for stakes in most_profit if len(stakes) < len(STAKES) and today in stakes]
    pairs = zip(*(fewest_empty.index.get_level_values(level) for level in ("no-shows", "demand")), strict=True)
    identified = {pair: stakes for pair, stakes in zip(pairs, fewest_empty, strict=True) if len(stakes) < len(STAKES)}
    pairs_with_today = ["/".join(pair) for pair, stakes in identified.items() if today in stakes]
    best_for_seats = sorted(bps for stakes in identified.values() for bps in stakes)
    return (
        f"For the host 20% is the best stake under {len(best_for_host) or 'none'} of {len(most_profit)} pairs of "
        f"elasticities: against no stake it changes profit by {_format_change(low_demand)} where demand has a low "
        f"elasticity and by {_format_change(high_demand)} where it has a high one, whatever no-shows do, as their "
        f"seats are paid for and their stakes are the platform's (whose income it raises by {platform.min():.0f} to "
        f"{platform.max():.0f}%); where demand has none, every stake pays the host the same and the best is not "
        f"identified. The stake that leaves the fewest seats empty is anywhere from {best_for_seats[0] // 100}% to "
        f"{best_for_seats[-1] // 100}%, and 20% is among the best under {len(pairs_with_today)} of {len(fewest_empty)} "
        f"pairs (no-shows/demand: {', '.join(pairs_with_today) or 'none'}): 20% is not shown to be right, nor wrong, "
        f"until both elasticities are measured."
    )


def _format_change(row: pd.Series[float]) -> str:
    return f"{row['change %']:+.1f}% ({row['change_low %']:+.1f} to {row['change_high %']:+.1f})"


def case_overview(frame: pd.DataFrame) -> pd.DataFrame:
    """Formats a row for each case.

    It has no-shows and empty seats without and with the first policy's stake, and the stakes that are best for the
    host's profit and for empty seats.

    Args:
        frame: From `sweep_other_cases`.
    """
    import pandas as pd

    table = {}
    for metric in ("no-show rate", "empty seats"):
        change = change_from_no_stake(frame, metric)
        table[f"{metric} without a stake"] = change["without"].map("{:.1%}".format)
        with_stake = change["without"] + change["change"]
        table[f"at {STAKES[0] / BPS:.0%}, {metric}"] = with_stake.map("{:.1%}".format)
    table["host profit"] = change_from_no_stake(frame, "host profit").apply(_format_change, axis=1)
    table["stakes that pay the host most"] = best_stakes(frame, "host profit").map(format_stakes)
    table["that leave the fewest empty seats"] = best_stakes(frame, "empty seats", largest=False).map(format_stakes)
    return pd.DataFrame(table).droplevel([1, 2, 3])
