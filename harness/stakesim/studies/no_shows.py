"""What a stake is good for: no-shows, bookings lost to it, and who earns, under every elasticity that is plausible.

Nobody has measured how people answer to this stake. So each question is asked nine times, once for each pair of
elasticities, and what depends on them is said to be unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from stakesim.economics.sweeps import DEFAULT_POPULATION, sweep
from stakesim.population.behaviours import LostToStake, NoShow, Weather
from stakesim.prices.price_models import Constant, Gbm

if TYPE_CHECKING:
    import pandas as pd

    from stakesim.population.behaviours import AnyBehaviour

STAKES = (2_000, 0, 500, 1_000, 3_000, 4_000, 5_000)
"""Basis points; changes count from the first, today's 20%. The contract takes no more than 50%."""
NO_SHOW = {"none": 0.0, "low": 1.0, "high": 4.0}
"""Elasticity of staying away in 1 + stake. At a stake of 20%: as before, a sixth fewer no-shows, half as many."""
DEMAND = {"none": 0.0, "low": 0.25, "high": 1.0}
"""Elasticity of booking in 1 + stake. At 20%: nobody, 4%, 17% fewer would book. 1 is what a ticket dearer by the stake
would lose at unit elasticity, and the stake comes back: an upper end."""
PAID, FREE = (0.10, 0.135, 0.17), (0.28, 0.40)
"""Base rates of no-shows at paid and at free events."""
TOKEN = DEFAULT_POPULATION.model_copy(update={"name": "token", "price_inr": (Decimal(1), Decimal(1))})
"""A free event, as near as the contract takes it: 1 INR a seat."""
MARKET = Constant()
"""So that nothing but the stake moves an amount."""
_BY = ["case", "no-shows", "demand", "forfeit_to_host_bps"]


def stakes(runs: int, seed: int, base: float = PAID[1], spot_check: int = 0, engine: str = "py-evm") -> pd.DataFrame:
    """A sweep of all stakes under each pair of elasticities."""
    kinds = {(n, d): (LostToStake(elasticity=DEMAND[d]), NoShow(base=base, elasticity=NO_SHOW[n])) for n, d in pairs()}
    people = {f"{n}, {d}": kind for (n, d), kind in kinds.items()}
    frame = sweep({"stake_bps": STAKES}, people, MARKET, runs, seed, spot_check=spot_check, engine=engine)
    frame[["no-shows", "demand"]] = frame["behaviours"].str.split(", ", expand=True)
    frame["elasticity of no-shows"] = frame["no-shows"].map(NO_SHOW)
    frame["elasticity of demand"] = frame["demand"].map(DEMAND)
    frame["case"] = f"{base:.1%} stay away"
    return frame


def pairs() -> list[tuple[str, str]]:
    """Names of the elasticities of no-shows and of demand."""
    return [(n, d) for n in NO_SHOW for d in DEMAND]


def other_cases(runs: int, seed: int, no_show: str = "low", demand: str = "low") -> pd.DataFrame:
    """The same sweep with one thing changed at a time: base rate, weather, market, who gets the forfeits, a token
    price."""
    import pandas as pd

    lost = LostToStake(elasticity=DEMAND[demand])

    def people(base: float, *more: AnyBehaviour) -> tuple[AnyBehaviour, ...]:
        return lost, NoShow(base=base, elasticity=NO_SHOW[no_show]), *more

    grid = {"stake_bps": STAKES}
    base = {f"{rate:.1%} stay away": people(rate) for rate in PAID}
    usual = people(PAID[1])
    market = Gbm(inr_per_eth="200000", annual_volatility=0.7)  # type: ignore[arg-type]
    parts = [
        sweep(grid, base | {"bad weather": people(PAID[1], Weather())}, MARKET, runs, seed),
        sweep(grid, {"ETH moves": usual}, market, runs, seed),
        sweep(grid | {"forfeit_to_host_bps": [10_000]}, {"forfeits to the host": usual}, MARKET, runs, seed),
        sweep(grid, {f"token price, {rate:.0%} stay away": people(rate) for rate in FREE}, MARKET, runs, seed, TOKEN),
    ]
    frame = pd.concat(parts, ignore_index=True)
    frame["case"], frame["no-shows"], frame["demand"] = frame["behaviours"], no_show, demand
    return frame


def as_good(frame: pd.DataFrame, metric: str, most: bool = True) -> pd.Series[Any]:
    """The stakes (basis points) that no other one is shown to beat, for each case and pair of elasticities.

    Changes are paired with the first policy's. By the triangle inequality of standard deviations the half-width of the
    difference of two of them is at most the sum of theirs: what is told apart here, a paired 95% interval of their own
    would tell apart too.
    """
    import pandas as pd

    found: dict[Any, tuple[int, ...]] = {}
    of_metric = frame[frame["metric"] == metric].sort_values("stake_bps", kind="stable")
    for key, group in of_metric.groupby(_BY, sort=False):
        gain = group["change"] if most else -group["change"]
        half = (group["change_high"] - group["change_low"]) / 2
        best = int(gain.argmax())
        found[key] = tuple(group["stake_bps"][gain.iloc[best] - gain <= half.iloc[best] + half])
    return pd.Series(found, name=f"{'most' if most else 'fewest'} {metric}").rename_axis(_BY)


def spoken(bps: Sequence[int]) -> str:
    """Some of STAKES, in words: neighbours as a range."""
    everything = sorted(STAKES)
    if len(bps) == len(everything):
        return "any: not identified"
    ranges: list[list[int]] = []
    for index in sorted(everything.index(one) for one in bps):
        if ranges and index == ranges[-1][-1] + 1:
            ranges[-1].append(index)
        else:
            ranges.append([index])
    ends = [(everything[one[0]] // 100, everything[one[-1]] // 100) for one in ranges]
    return ", ".join(f"{low}%" if low == high else f"{low} to {high}%" for low, high in ends)


def square(column: pd.Series[Any]) -> pd.DataFrame:
    """One case as a table: elasticity of no-shows down, of demand across."""
    table = column.droplevel(["case", "forfeit_to_host_bps"]).unstack()
    return table.loc[list(NO_SHOW), list(DEMAND)]


def beside_none(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """What the first policy changes from no stake at all, with its paired interval; shares are of the value without."""
    of_metric = frame[frame["metric"] == metric].set_index(_BY)
    none = of_metric[of_metric["stake_bps"] == 0]
    # the sweep counts the other way round
    changes = -none[["change", "change_high", "change_low"]].set_axis(["change", "change_low", "change_high"], axis=1)
    shares = changes.div(none["value"], axis=0).add_suffix(" %") * 100
    return changes.assign(without=none["value"]).join(shares)


def worth_it(frame: pd.DataFrame, stake_bps: int = 2_000, fee_bps: int = 500) -> pd.Series[float]:
    """What each person who sits there must be worth to the host, in tickets and beside their own ticket, for this stake
    to be as good as none: (1 - fee) x seats not sold / seats more taken. inf where no more seats are taken.

    A host is paid for a no-show's seat too, so that without such a worth no-shows cost a host nothing.
    """
    by_metric = frame.pivot_table(index=_BY, columns=["metric", "stake_bps"], values="value", sort=False)
    sold, empty = by_metric["seats filled"], by_metric["empty seats"]
    more_taken = empty[0] - empty[stake_bps]
    worth: pd.Series[float] = (1 - fee_bps / 10_000) * (sold[0] - sold[stake_bps]) / more_taken
    return worth.where(more_taken > 0, float("inf")).rename("tickets")


def fewest_empty(base: float, no_show: float, demand: float) -> float | None:
    """The stake, as a share of the ticket, at which most people sit there, where seats do not run out; None where the
    stake changes nothing. May be above what the contract takes (inf: the more, the better).

    With x = 1 + stake, x^-d (1 - p x^-e) people come; its derivative is nought at x^e = p (d + e) / d.
    """
    if demand == 0:
        return float("inf") if base * no_show > 0 else None
    at: float = (base * (demand + no_show) / demand) ** (1 / no_show) if no_show else 1.0
    return max(at - 1, 0.0)


def fewest_empty_table(base: float = PAID[1]) -> pd.DataFrame:
    """`fewest_empty` for each pair of elasticities, in words."""
    import pandas as pd

    told = {d: [_told(fewest_empty(base, NO_SHOW[n], DEMAND[d])) for n in NO_SHOW] for d in DEMAND}
    return pd.DataFrame(told, index=pd.Index(NO_SHOW, name="no-shows")).rename_axis(columns="demand")


def _told(stake: float | None) -> str:
    if stake is None:
        return "any: not identified"
    return "the more, the better" if stake == float("inf") else f"{stake:.0%}"


def answer(frame: pd.DataFrame) -> str:
    """Two sentences, from the numbers."""
    profit = beside_none(frame, "host profit")
    loss = {d: profit.xs(d, level="demand").iloc[0] for d in DEMAND}
    platform = beside_none(frame, "platform income")["change %"]
    host, empty = as_good(frame, "host profit"), as_good(frame, "empty seats", most=False)
    best = [stakes_ for stakes_ in host if len(stakes_) < len(STAKES) and STAKES[0] in stakes_]
    known = {pair: empty.xs(pair[0], level="no-shows").xs(pair[1], level="demand").iloc[0] for pair in pairs()}
    known = {pair: stakes_ for pair, stakes_ in known.items() if len(stakes_) < len(STAKES)}
    right = ["/".join(pair) for pair, stakes_ in known.items() if STAKES[0] in stakes_]
    reach = sorted(bps for stakes_ in known.values() for bps in stakes_)
    return (
        f"For the host 20% is the best stake under {len(best) or 'none'} of {len(host)} pairs of elasticities: against "
        f"no stake it changes profit by {_interval(loss['low'])} where demand has a low elasticity and by "
        f"{_interval(loss['high'])} where it has a high one, whatever no-shows do, as their seats are paid for and "
        f"their stakes are the platform's (whose income it raises by {platform.min():.0f} to {platform.max():.0f}%); "
        f"where demand has none, every stake pays the host the same and the best is not identified. "
        f"The stake that leaves the fewest seats empty is anywhere from {reach[0] // 100}% to {reach[-1] // 100}%, and "
        f"20% is among the best under {len(right)} of {len(empty)} pairs (no-shows/demand: "
        f"{', '.join(right) or 'none'}): 20% is not shown to be right, nor wrong, until both elasticities are measured."
    )


def _interval(one: pd.Series[float]) -> str:
    return f"{one['change %']:+.1f}% ({one['change_low %']:+.1f} to {one['change_high %']:+.1f})"


def overview(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each case: its no-shows and empty seats without and with the first policy's stake, and the best stakes
    for both ends."""
    import pandas as pd

    table = {}
    for metric in ("no-show rate", "empty seats"):
        told = beside_none(frame, metric)
        table[f"{metric} without a stake"] = told["without"].map("{:.1%}".format)
        table[f"at {STAKES[0] / 10_000:.0%}, {metric}"] = (told["without"] + told["change"]).map("{:.1%}".format)
    table["host profit"] = beside_none(frame, "host profit").apply(_interval, axis=1)
    table["stakes that pay the host most"] = as_good(frame, "host profit").map(spoken)
    table["that leave the fewest empty seats"] = as_good(frame, "empty seats", most=False).map(spoken)
    return pd.DataFrame(table).droplevel([1, 2, 3])
