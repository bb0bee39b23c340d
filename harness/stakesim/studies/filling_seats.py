"""Who is lost to a stake, what a stake is worth at cheap and dear tickets, and what fills seats besides a stake.

Tables have the columns of `stakesim.studies.no_shows.sweep_stakes`, so that its functions read them.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from stakesim.economics import DEFAULT_POPULATION, sweep
from stakesim.population.behaviours import Cancel, LostToStake, NoShow
from stakesim.studies.no_shows import (
    DEMAND_ELASTICITIES,
    MARKET,
    NO_SHOW_ELASTICITIES,
    STAKES,
    best_stakes,
    change_from_no_stake,
    format_stakes,
)
from stakesim.units import BPS

if TYPE_CHECKING:
    import pandas as pd

    from stakesim.population.behaviours import AnyBehaviour

SCREENINGS = (0.0, 0.5, 1.0)
"""How well a stake tells those apart who would stay away: not at all, half way, perfectly."""
TICKETS_INR = (50, 200, 1_000, 5_000)
OBSERVED_INR = Decimal(1_000)
"""The price of a seat at which no-shows and elasticities are taken to have been observed."""
OVERBOOKING = (0, 500, 1_000, 1_500, 2_000, 3_000)
"""Basis points of the seats that are sold besides those there are."""
COMPENSATION = 20_000
"""What a host pays to whoever is turned away, in basis points of the ticket: the ticket, and as much again."""


def sweep_screening(runs: int, seed: int, *, spot_check: int = 0, engine: str = "py-evm") -> pd.DataFrame:
    """Sweeps all stakes under each of `SCREENINGS` and each pair of elasticities in which a stake loses bookings."""
    import pandas as pd

    parts = []
    for screening in SCREENINGS:
        groups = {
            f"{no_show}, {demand}": (
                NoShow(elasticity=NO_SHOW_ELASTICITIES[no_show]),
                LostToStake(elasticity=DEMAND_ELASTICITIES[demand], screening=screening),
            )
            for no_show in NO_SHOW_ELASTICITIES
            for demand in ("low", "high")
        }
        part = sweep({"stake_bps": STAKES}, groups, MARKET, runs, seed, spot_check=spot_check, engine=engine)
        parts.append(_with_names(part, f"screening {screening:g}"))
    frame = pd.concat(parts, ignore_index=True)
    frame["screening"] = frame["case"].str.removeprefix("screening ").astype(float)
    return frame


def _with_names(frame: pd.DataFrame, case: str) -> pd.DataFrame:
    frame[["no-shows", "demand"]] = frame["behaviours"].astype(str).str.split(", ", expand=True)
    return frame.assign(case=case)


def effect_on_empty_seats(frame: pd.DataFrame) -> pd.DataFrame:
    """Tells how a stake of 20% changes empty seats against none, and which stakes leave the fewest.

    Args:
        frame: From `sweep_screening` or `sweep_tickets`.

    Returns:
        A row for each case and pair of elasticities: points with the paired 95% interval, and the stakes.
    """
    change = 100 * change_from_no_stake(frame, "empty seats")[["change", "change_low", "change_high"]]
    best = best_stakes(frame, "empty seats", largest=False).map(format_stakes)
    change["fewest empty seats at"] = best
    return change.droplevel("forfeit_to_host_bps")


def sweep_tickets(runs: int, seed: int, *, spot_check: int = 0, engine: str = "py-evm") -> pd.DataFrame:
    """Sweeps all stakes at each of `TICKETS_INR`, with low elasticities that were observed at `OBSERVED_INR`."""
    import pandas as pd

    people: tuple[AnyBehaviour, ...] = (
        NoShow(elasticity=NO_SHOW_ELASTICITIES["low"], observed_inr=OBSERVED_INR),
        LostToStake(elasticity=DEMAND_ELASTICITIES["low"], observed_inr=OBSERVED_INR),
    )
    parts = []
    for inr in TICKETS_INR:
        population = DEFAULT_POPULATION.model_copy(update={"price_inr": (Decimal(inr), Decimal(inr))})
        part = sweep(
            {"stake_bps": STAKES},
            {"low, low": people},
            MARKET,
            runs,
            seed,
            population,
            spot_check=spot_check,
            engine=engine,
        )
        parts.append(_with_names(part, f"{inr:,} INR"))
    return pd.concat(parts, ignore_index=True)


def ticket_overview(frame: pd.DataFrame) -> pd.DataFrame:
    """Formats a row for each price of `sweep_tickets`: no-shows, empty seats, and the stakes that leave the fewest."""
    import pandas as pd

    no_shows, empty = (change_from_no_stake(frame, metric) for metric in ("no-show rate", "empty seats"))
    table = pd.DataFrame(
        {
            "no-shows without a stake, %": 100 * no_shows["without"],
            "at 20%": 100 * (no_shows["without"] + no_shows["change"]),
            "empty seats, points": 100 * empty["change"],
            "from": 100 * empty["change_low"],
            "to": 100 * empty["change_high"],
        }
    )
    table["fewest empty seats at"] = best_stakes(frame, "empty seats", largest=False).map(format_stakes)
    return table.droplevel(["no-shows", "demand", "forfeit_to_host_bps"])


def sweep_selling(runs: int, seed: int, *, spot_check: int = 0, engine: str = "py-evm") -> pd.DataFrame:
    """Sweeps `OVERBOOKING` with and without a waiting list, at a stake of 20%, with low elasticities."""
    low = NO_SHOW_ELASTICITIES["low"]
    people = (
        NoShow(elasticity=low),
        LostToStake(elasticity=DEMAND_ELASTICITIES["low"]),
        Cancel(elasticity=low),
    )
    policies = {"waiting_list": [False, True], "overbooking_bps": OVERBOOKING, "compensation_bps": [COMPENSATION]}
    return sweep(policies, people, MARKET, runs, seed, spot_check=spot_check, engine=engine)


def selling_table(
    frame: pd.DataFrame, metrics: Sequence[str] = ("empty seats", "bookings lost", "turned away", "host profit")
) -> pd.DataFrame:
    """Tabulates `sweep_selling`: a row for each policy, shares in percent, INR as change from the first policy.

    `may be the best` are policies that no other one is shown to beat in the last metric.
    """
    import pandas as pd

    columns = {}
    for metric in metrics:
        rows = frame[frame["metric"] == metric].set_index(["waiting_list", "overbooking_bps"])
        if rows["unit"].iloc[0].startswith("share"):
            columns[f"{metric}, %"] = 100 * rows["value"]
        else:
            columns[f"{metric}, change in INR"] = rows["change"]
            columns["from"], columns["to"] = rows["change_low"], rows["change_high"]
            columns["may be the best"] = rows["may_be_largest"]
    table = pd.DataFrame(columns)
    names = [("with" if waits else "without", f"{bps / BPS:.0%}") for waits, bps in table.index]
    table.index = pd.MultiIndex.from_tuples(names, names=["waiting list", "overbooking"])
    return table


def answer(screening: pd.DataFrame, tickets: pd.DataFrame, selling: pd.DataFrame) -> str:
    """Returns what the three sweeps add to the notebook's answer.

    Args:
        screening: From `sweep_screening`.
        tickets: From `ticket_overview`.
        selling: From `selling_table`.
    """
    empty = (100 * change_from_no_stake(screening, "empty seats")["change"]).sort_index()
    names = [f"screening {each:g}" for each in SCREENINGS]
    blind, half, perfect = (empty[name, "none", "high"].iloc[0] for name in names)
    low = [empty[name, "low", "low"].iloc[0] for name in names]
    points, without = tickets["empty seats, points"], tickets["no-shows without a stake, %"]
    cheap, dear = map(str, tickets.index[[0, -1]])
    seats, profits = selling["empty seats, %"], selling["host profit, change in INR"]
    fewest, best = int(seats.to_numpy().argmin()), selling["may be the best"].to_numpy()

    policies = selling.reset_index()[["overbooking", "waiting list"]].agg(" ".join, axis=1) + " a waiting list"

    return (
        f"Who is lost matters as much as how many: at a high elasticity of demand and no other effect of the stake, "
        f"20% change empty seats by {blind:+.1f} points if anybody is lost alike, {half:+.1f} if half of it falls on "
        f"those who would stay away, and {perfect:+.1f} if all does; at low elasticities by {low[0]:+.1f}, "
        f"{low[1]:+.1f} and {low[2]:+.1f}. If people weigh INR and not shares, no-shows without a stake are "
        f"{without.iloc[0]:.0f}% at {cheap} and {without.iloc[-1]:.0f}% at {dear}, and "
        f"20% change empty seats by {points.iloc[0]:+.1f} and {points.iloc[-1]:+.1f} points. Overbooking by "
        f"{policies.iloc[fewest]} leaves {seats.iloc[fewest]:.1f}% empty instead of {seats.iloc[0]:.1f}%; a host who "
        f"pays {COMPENSATION / BPS:g} tickets to whoever is turned away gains most by overbooking "
        f"{' or '.join(policies[best])}, {profits[best].max():,.0f} INR a run, and turns at most "
        f"{selling['turned away, %'][best].max():.1f}% away."
    )
