"""Incentives to cheat: what attacks cost the attacker and the victims.

Gas is that of `tests/gas.json` at one gas price, paid by whoever signs. Attackers are assumed to sign for themselves;
where the platform signs for them, the platform pays that gas too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

from stakesim import gas_table
from stakesim.economics.spot_check import SpotCheck, compare_with_chain
from stakesim.population.behaviours import FalseNoShows, Grief, SelfBook, WalkAway
from stakesim.population.outcomes import resolve_outcomes
from stakesim.population.policy import Policy
from stakesim.population.population import PopulationChunk, draw, first_runs
from stakesim.prices.gas_models import SpikingGas
from stakesim.prices.price_models import Gbm
from stakesim.scenario.actions import Terms
from stakesim.studies.attacks import HONEST, PARTIES, AttackEffect, measure_attack, net_receipts
from stakesim.studies.payout_methods import METHODS
from stakesim.units import BPS, HOUR, WEI_PER_ETH, WEI_PER_GWEI

if TYPE_CHECKING:
    import pandas as pd

    from stakesim.population.behaviours import AnyBehaviour

SPLITS = (0, 2_500, 5_000, 10_000)
"""Values of `forfeit_to_host_bps`: the host's share of the forfeits."""
GAS_PRICE = int(SpikingGas().gwei * WEI_PER_GWEI)
"""Wei per gas: the assumed median of gas prices."""
INR_PER_ETH = Decimal(200_000)
"""The constant rate of `attacks.HONEST`."""
BOOK, CANCEL = "an attendee books a seat", "a booking is cancelled"
ALL_ATTENDED, NOBODY_ATTENDED = (f"a run of ten bookings is completed, {who} came" for who in ("everybody", "nobody"))


def gas_cost_inr(units: int) -> float:
    """Returns the cost of gas in INR at `GAS_PRICE`."""
    return float(units * GAS_PRICE * INR_PER_ETH / WEI_PER_ETH)


def reviewed_gas(transaction: str) -> int:
    """Returns the gas of a transaction in `tests/gas.json`.

    Raises:
        GasError: The transaction has no reviewed gas for the compiler in use.
    """
    if transaction not in (committed := gas_table.reviewed()):
        raise gas_table.GasError(
            f"{gas_table.table_file()} has no gas for {transaction!r}: run `stakesim gas --write`, and review it"
        )
    return committed[transaction]


def false_no_shows(runs: int, seed: int, share: float = 0.5) -> pd.DataFrame:
    """A host reports `share` of those who attended as no-shows.

    Returns:
        A row for each of `SPLITS`. `gas saved by each lie` is the gas of reporting one booking as attended. `deterred
        by losing, runs` is the number of future honest runs whose profit equals the gain, so that losing them deters.
    """
    import pandas as pd

    saved_inr = gas_cost_inr((reviewed_gas(ALL_ATTENDED) - reviewed_gas(NOBODY_ATTENDED)) // 10)
    rows = []
    for split in SPLITS:
        effect = measure_attack(FalseNoShows(share=share), runs, seed, terms=Terms(forfeit_to_host_bps=split))
        host = effect.gains["host"]
        rows.append(
            {
                "forfeits to the host": f"{split / BPS:.0%}",
                **_gain_columns("host gains", effect, "host"),
                **_gain_columns("attendees lose", effect, "attendees", sign=-1),
                **_gain_columns("platform gains", effect, "platform"),
                "gas saved by each lie, INR": saved_inr,
                "lying pays the host": host.inr - host.half_width > 0,
                "deterred by losing, runs": host.inr / effect.honest_profit,
            }
        )
    return pd.DataFrame(rows).set_index("forfeits to the host")


def self_booking(runs: int, seed: int, seats: Sequence[int] = (1, 3, 5)) -> pd.DataFrame:
    """A host books seats of the own run and reports them as attended.

    Returns:
        A row for each number of seats: what it costs the host, and how many seats look sold at once.
    """
    import pandas as pd

    units = reviewed_gas(BOOK) + (reviewed_gas(ALL_ATTENDED) - reviewed_gas(NOBODY_ATTENDED)) // 10
    mean_seats = sum(HONEST.seats) / 2
    rows = []
    for count in seats:
        effect = measure_attack(SelfBook(seats=count), runs, seed)
        rows.append(
            {
                "own seats": count,
                **_gain_columns("host loses", effect, "host", sign=-1),
                "of that fees, INR": effect.fees,
                "gas, INR": gas_cost_inr(units),
                "interest, INR": effect.interest,
                "seats that look taken at once, %": 100 * count / mean_seats,
                "bookings lost": -effect.bookings,
                **_gain_columns("platform gains", effect, "platform"),
            }
        )
    return pd.DataFrame(rows).set_index("own seats")


def griefing(runs: int, seed: int, cutoffs: Sequence[int] = (0, 24, 72), *, waiting_list: bool = False) -> pd.DataFrame:
    """An outsider books every seat of a run and cancels in the last second allowed.

    Args:
        runs: Number of runs.
        seed: Seed of all random numbers.
        cutoffs: Hours before the start until which bookings can be cancelled.
        waiting_list: Whether those who found no seat wait, and book when the attacker cancels.

    Returns:
        A row for each cancellation cutoff, in hours: what it costs the attacker and the victims.
    """
    import pandas as pd

    units = reviewed_gas(BOOK) + reviewed_gas(CANCEL)
    rows = []
    for hours in cutoffs:
        effect = measure_attack(
            Grief(), runs, seed, terms=Policy(cancellation_cutoff=hours * HOUR, waiting_list=waiting_list)
        )
        cost = -effect.gains["outsider"].inr + gas_cost_inr(units) + effect.interest
        loss = -effect.gains["host"].inr - effect.gains["platform"].inr
        rows.append(
            {
                "cutoff, hours": hours,
                "attacker pays, INR": cost,
                "of that to the contract, wei": -effect.gains["outsider"].wei,
                "gas, INR": gas_cost_inr(units),
                "interest, INR": effect.interest,
                "bookings lost": -effect.bookings + 0.0,
                **_gain_columns("host loses", effect, "host", sign=-1),
                **_gain_columns("platform loses", effect, "platform", sign=-1),
                "times the cost": loss / cost + 0.0,
            }
        )
    return pd.DataFrame(rows).set_index("cutoff, hours")


def _gain_columns(label: str, effect: AttackEffect, party: str, *, sign: int = 1) -> dict[str, float]:
    """A party's gain, or with `sign` -1 its loss, as columns: INR, half-width of the 95% interval, wei."""
    gain = effect.gains[party]
    return {
        f"{label}, INR": sign * gain.inr + 0.0,  # + 0.0 makes -0.0 positive
        f"± {label}": gain.half_width,
        f"{label}, wei": sign * gain.wei,
    }


ATTACKS: Mapping[str, tuple[AnyBehaviour, Terms]] = {
    "false no-shows": (FalseNoShows(), Terms(forfeit_to_host_bps=5_000)),
    "self-booking": (SelfBook(seats=3), Terms()),
    "griefing": (Grief(), Terms()),
    "walking away": (WalkAway(threshold=0.05), Terms()),
}
"""The attacks that `spot_check` compares with the chain, each with terms of the contract."""
VOLATILE_MARKET = Gbm(inr_per_eth=INR_PER_ETH, annual_volatility=0.9)
"""A market that moves far enough for somebody to walk away."""
_CANDIDATES = 200
"""Runs among which `spot_check` looks for one that an attack changes."""


def spot_check(seed: int, engine: str = "py-evm") -> SpotCheck:
    """Carries out a run of each attack on a chain.

    Raises:
        MismatchError: An amount differs from the vectorised model's.
    """
    return compare_with_chain(_affected_runs(seed), engine)


def _affected_runs(seed: int) -> Iterator[tuple[PopulationChunk, int]]:
    """For each of `ATTACKS` the first run in which it changes what any party receives: its chunk and index."""
    import numpy as np

    for number, (attack, terms) in enumerate(ATTACKS.values()):
        honest, attacked = (
            draw(HONEST, seed, 0, terms, behaviours, VOLATILE_MARKET)
            for behaviours in (HONEST.behaviours, (*HONEST.behaviours, attack))
        )
        before, after = (
            net_receipts(state, resolve_outcomes(state))
            for state in (first_runs(honest, _CANDIDATES), first_runs(attacked, _CANDIDATES))
        )
        changed = np.any([before[party] != after[party] for party in PARTIES], axis=0)
        yield replace(attacked, population=f"attack{number}"), int(changed.argmax())


def format_table(table: pd.DataFrame) -> pd.DataFrame:
    """Formats and transposes a table for display; wei are not rounded."""

    def text(value: object) -> str:
        if isinstance(value, float):
            return f"{value:,.2f}" if abs(value) >= 1 else f"{value:.3g}"
        return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)

    return table.astype(object).T.map(text)


def attack_costs(reports: pd.DataFrame, self_booked: pd.DataFrame, blocked: pd.DataFrame) -> pd.DataFrame:
    """Compares the attacks in INR a run.

    Args:
        reports: From `false_no_shows`.
        self_booked: From `self_booking`.
        blocked: From `griefing`.

    Returns:
        A row for each attack: what the attacker pays, gas and interest included, and what the victims lose.
    """
    import pandas as pd

    rows = {
        f"false no-shows, {split} to the host": (-row["host gains, INR"] + 0.0, row["attendees lose, INR"])
        for split, row in reports.iloc[[0, 2]].iterrows()
    }
    for seats, row in self_booked.iloc[1:2].iterrows():
        cost = row["host loses, INR"] + row["gas, INR"] + row["interest, INR"]
        rows[f"the host books {seats} seats"] = (cost, max(-row["platform gains, INR"], 0.0))
    for hours, row in blocked.iloc[1:2].iterrows():
        loss = row["host loses, INR"] + row["platform loses, INR"]
        rows[f"all seats blocked until {hours} h before"] = (row["attacker pays, INR"], loss)
    return pd.DataFrame(rows.values(), index=list(rows), columns=["the attacker pays", "the victims lose"])


def answer(
    reports: pd.DataFrame,
    self_booked: pd.DataFrame,
    blocked: pd.DataFrame,
    options: pd.DataFrame,
    unclaimed: pd.DataFrame,
) -> str:
    """Returns the notebook's answer in two sentences.

    Args:
        reports: From `false_no_shows`.
        self_booked: From `self_booking`.
        blocked: From `griefing`.
        options: From `cancellation_options.attendee_options`.
        unclaimed: From `payout_methods.unclaimed_money`.
    """
    no_split, half_split = reports.iloc[0], reports.iloc[2]
    usual_cutoff, usual_seats = blocked.iloc[1], self_booked.iloc[1]
    _, _, self_booking_cost, griefing_cost = attack_costs(reports, self_booked, blocked)["the attacker pays"]
    exact = options.dropna(subset="closed form")
    largest_error = (exact["value"] - exact["closed form"]).abs().max()
    usual_market = exact[exact["market"] == "GBM, 70%"]
    shortest, longest = usual_market.iloc[0], usual_market.iloc[-1]
    push, pull, credit = (unclaimed.iloc[2][f"{method}, %"] for method in METHODS)
    return (
        f"Lying pays a host as soon as it gets any of the forfeits: at {reports.index[2]}, to say of half of those who "
        f"came that they did not brings {half_split['host gains, INR']:,.0f} INR a run "
        f"(± {half_split['± host gains']:,.0f}) of the {half_split['attendees lose, INR']:,.0f} that it takes from "
        f"them, and at {reports.index[0]} nothing, but then the platform, which may complete runs too, gets all of it "
        f"({no_split['platform gains, INR']:,.0f}); blocking every seat until the cutoff costs {griefing_cost:,.0f} "
        f"INR, and victims up to {usual_cutoff['times the cost']:,.0f} times that, while {self_booked.index[1]} seats "
        f"of one's own cost a host {self_booking_cost:,.0f} INR, {usual_seats['of that fees, INR']:,.0f} of it fees. "
        f"The option to walk away is worth {shortest['value']:.1f}% of a ticket booked {shortest['lead']} days ahead "
        f"and {longest['value']:.1f}% at {longest['lead']} (volatility 70%; never further than {largest_error:.2f} "
        f"points from the closed form), and where {unclaimed.index[2]:g}% of receivers refuse ether, pushing alone "
        f"leaves {push:.1f}% of the money in the contract, pulling {pull:.1f}%, and pushing with credit, which is what "
        f"the contract does, {credit:.2f}%."
    )
