"""Who gains by not playing fair, what it costs them, and what it costs the others.

Gas is what `tests/gas.json` says, at one gas price. It is the signer's: attackers are taken to sign for themselves, and
where the platform signs for them it even pays that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

from stakesim.economics.spot_check import Compared, compare
from stakesim.gate import gas
from stakesim.population.behaviours import FalseNoShows, Grief, SelfBook, WalkAway
from stakesim.population.exact_int import BPS, WEI_PER_ETH
from stakesim.population.outcomes import resolve_outcomes
from stakesim.population.population import PopulationChunk, draw, select_runs
from stakesim.prices.price_models import Gbm
from stakesim.scenario.actions import Terms
from stakesim.schema.fields import UNITS
from stakesim.studies.attacks import HONEST, PARTIES, Attack, attack, gains
from stakesim.studies.gas_prices import WEI_PER_GWEI, GasPrice
from stakesim.studies.payout_methods import WAYS

if TYPE_CHECKING:
    import pandas as pd

    from stakesim.population.behaviours import AnyBehaviour

SPLITS = (0, 2_500, 5_000, 10_000)
"""forfeit_to_host_bps."""
GAS_WEI = int(GasPrice().median * WEI_PER_GWEI)
"""Wei for a unit of gas: 5 gwei, the median that is assumed of gas prices."""
RATE = Decimal(200_000)
"""INR for one ETH, as in `attacks.HONEST`."""
BOOK, CANCEL = "an attendee books a seat", "a booking is cancelled"
ALL_CAME, NOBODY_CAME = (f"a run of ten bookings is completed, {who} came" for who in ("everybody", "nobody"))


def gas_inr(units: int) -> float:
    """What so much gas costs at the assumed gas price."""
    return float(units * GAS_WEI * RATE / WEI_PER_ETH)


def reviewed(sentence: str) -> int:
    """Gas of a transaction. Raises `GasError` where none was reviewed for this compiler."""
    if sentence not in (table := gas.committed()):
        raise gas.GasError(f"{gas.table()} has no gas for {sentence!r}: run `stakesim gas --write`, and review it")
    return table[sentence]


def false_no_shows(runs: int, seed: int, share: float = 0.5) -> pd.DataFrame:
    """A host says of `share` of those who came that they did not: a row for each split of the forfeits.

    Gas of ticking somebody off is saved, whoever signs. deterred by: a host thrown out for it loses future runs; so
    many of honest profit make one such lie not pay.
    """
    import pandas as pd

    saved = gas_inr((reviewed(ALL_CAME) - reviewed(NOBODY_CAME)) // 10)
    rows = []
    for split in SPLITS:
        found = attack(FalseNoShows(share=share), runs, seed, Terms(forfeit_to_host_bps=split))
        host = found.gains["host"]
        rows.append(
            {
                "forfeits to the host": f"{split / BPS:.0%}",
                **_told("host gains", found, "host"),
                **_told("attendees lose", found, "attendees", -1),
                **_told("platform gains", found, "platform"),
                "gas saved by each lie, INR": saved,
                "lying pays the host": host.low > 0,
                "deterred by losing, runs": host.inr / found.profit,
            }
        )
    return pd.DataFrame(rows).set_index("forfeits to the host")


def self_booking(runs: int, seed: int, seats: Sequence[int] = (1, 3, 5)) -> pd.DataFrame:
    """A host books so many seats of the own run, and is ticked off: what it costs, and what it buys."""
    import pandas as pd

    units = reviewed(BOOK) + (reviewed(ALL_CAME) - reviewed(NOBODY_CAME)) // 10
    mean_seats = sum(HONEST.seats) / 2
    rows = []
    for count in seats:
        found = attack(SelfBook(seats=count), runs, seed)
        rows.append(
            {
                "own seats": count,
                **_told("host loses", found, "host", -1),
                "of that fees, INR": found.fees,
                "gas, INR": gas_inr(units),
                "interest, INR": found.locked,
                "seats that look taken at once, %": 100 * count / mean_seats,
                "bookings lost": -found.bookings,
                **_told("platform gains", found, "platform"),
            }
        )
    return pd.DataFrame(rows).set_index("own seats")


def griefing(runs: int, seed: int, cutoffs: Sequence[int] = (0, 24, 72)) -> pd.DataFrame:
    """Somebody books every seat of a run and cancels in the last second allowed: a row for each cutoff, in hours."""
    import pandas as pd

    units = reviewed(BOOK) + reviewed(CANCEL)
    rows = []
    for hours in cutoffs:
        found = attack(Grief(), runs, seed, Terms(cancellation_cutoff=hours * UNITS["h"]))
        cost = -found.gains["outsider"].inr + gas_inr(units) + found.locked
        lost = -found.gains["host"].inr - found.gains["platform"].inr
        rows.append(
            {
                "cutoff, hours": hours,
                "attacker pays, INR": cost,
                "of that to the contract, wei": -found.gains["outsider"].wei,
                "gas, INR": gas_inr(units),
                "interest, INR": found.locked,
                "bookings lost": -found.bookings,
                **_told("host loses", found, "host", -1),
                **_told("platform loses", found, "platform", -1),
                "times the cost": lost / cost,
            }
        )
    return pd.DataFrame(rows).set_index("cutoff, hours")


def _told(what: str, found: Attack, party: str, sign: int = 1) -> dict[str, float]:
    """Columns of a table, with the interval's half-width."""
    mean = found.gains[party]
    return {
        f"{what}, INR": sign * mean.inr + 0.0,
        f"± {what}": (mean.high - mean.low) / 2,
        f"{what}, wei": sign * mean.wei,
    }


ATTACKS: Mapping[str, tuple[AnyBehaviour, Terms]] = {
    "false no-shows": (FalseNoShows(), Terms(forfeit_to_host_bps=5_000)),
    "self-booking": (SelfBook(seats=3), Terms()),
    "griefing": (Grief(), Terms()),
    "walking away": (WalkAway(threshold=0.05), Terms()),
}
WILD = Gbm(inr_per_eth="200000", annual_volatility=0.9)  # type: ignore[arg-type]
"""A market in which somebody walks away."""


def spot_check(seed: int, engine: str = "py-evm") -> Compared:
    """A run of each attack, played through the services. Raises `Mismatch` where the chain pays anybody another wei."""
    return compare(_picked(seed), engine)


def _picked(seed: int) -> Iterator[tuple[PopulationChunk, int]]:
    """Of each attack the first run that it changes anybody's money in."""
    import numpy as np

    some = np.arange(200)
    for number, (how, terms) in enumerate(ATTACKS.values()):
        fair, foul = (
            draw(HONEST, seed, 0, terms, behaviours, WILD)
            for behaviours in (HONEST.behaviours, (*HONEST.behaviours, how))
        )
        before, after = (
            gains(state, resolve_outcomes(state)) for state in (select_runs(fair, some), select_runs(foul, some))
        )
        changed = np.any([before[party] != after[party] for party in PARTIES], axis=0)
        yield replace(foul, population=f"attack{number}"), int(changed.argmax())


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """A table for people: what was a row is a column, and wei are whole."""

    def text(value: object) -> str:
        if isinstance(value, float):
            return f"{value:,.2f}" if abs(value) >= 1 else f"{value:.3g}"
        return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)

    return table.astype(object).T.map(text)


def against(lies: pd.DataFrame, own: pd.DataFrame, grief: pd.DataFrame) -> pd.DataFrame:
    """One row for each kind of attack, from the three tables: what the attacker pays, gas and interest included, and
    what it costs the victims."""
    import pandas as pd

    rows = {
        f"false no-shows, {split} to the host": (-row["host gains, INR"] + 0.0, row["attendees lose, INR"])
        for split, row in lies.iloc[[0, 2]].iterrows()
    }
    for seats, row in own.iloc[1:2].iterrows():
        cost = row["host loses, INR"] + row["gas, INR"] + row["interest, INR"]
        rows[f"the host books {seats} seats"] = (cost, max(-row["platform gains, INR"], 0.0))
    for hours, row in grief.iloc[1:2].iterrows():
        cost = row["attacker pays, INR"]
        rows[f"all seats blocked until {hours} h before"] = (cost, row["host loses, INR"] + row["platform loses, INR"])
    return pd.DataFrame(rows.values(), index=list(rows), columns=["the attacker pays", "the victims lose"])


def answer(
    lies: pd.DataFrame, own: pd.DataFrame, grief: pd.DataFrame, option: pd.DataFrame, stays: pd.DataFrame
) -> str:
    """Two sentences, from the numbers."""
    half, never, blocked, mine = lies.iloc[2], lies.iloc[0], grief.iloc[1], own.iloc[1]
    _, _, self_booked, blocking = against(lies, own, grief)["the attacker pays"]
    exact = option.dropna(subset="closed form")
    off = (exact["value"] - exact["closed form"]).abs().max()
    usual = exact[exact["market"] == "GBM, 70%"]
    (soon, later), (little, much) = ((usual[column].iloc[0], usual[column].iloc[-1]) for column in ("lead", "value"))
    push, pull, credit = (stays.iloc[2][f"{way}, %"] for way in WAYS)
    return (
        f"Lying pays a host as soon as it gets any of the forfeits: at {lies.index[2]}, to say of half of those who "
        f"came that they did not brings {half['host gains, INR']:,.0f} INR a run (± {half['± host gains']:,.0f}) of "
        f"the {half['attendees lose, INR']:,.0f} that it takes from them, and at {lies.index[0]} nothing, but then the "
        f"platform, which may complete runs too, gets all of it ({never['platform gains, INR']:,.0f}); blocking every "
        f"seat until the cutoff costs {blocking:,.0f} INR, and victims up to {blocked['times the cost']:,.0f} times "
        f"that, while {own.index[1]} seats of one's own cost a host {self_booked:,.0f} INR, "
        f"{mine['of that fees, INR']:,.0f} of it fees. "
        f"The option to walk away is worth {little:.1f}% of a ticket booked {soon} days ahead and {much:.1f}% at "
        f"{later} (volatility 70%; never further than {off:.2f} points from the closed form), and where "
        f"{stays.index[2]:g}% of receivers refuse ether, pushing alone leaves {push:.1f}% of the money in the "
        f"contract, pulling {pull:.1f}%, and pushing with credit, which is what the contract does, {credit:.2f}%."
    )
