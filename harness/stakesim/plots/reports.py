"""Pictures of the HTML reports: of a ledger, of gas, of a sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from stakesim.plots.style import BLUE, GREY, HATCHES, ORANGE, figure, with_band

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

WEI_PER_ETH = 10**18


def payouts(wei_by_party: Mapping[str, Mapping[str, int]]) -> Figure:
    """Plots the ETH paid out to each party: pushed, deferred, and withdrawn later.

    Args:
        wei_by_party: For each party its wei by kind of payout, from `stakesim.runner.ledger.by_party`.
    """
    parties = sorted(wei_by_party)
    drawn, axes = figure(1.2 + 0.5 * len(parties))
    left = [0.0] * len(parties)
    for kind, colour, hatch in zip(("pushed", "deferred", "withdrawn"), (BLUE, ORANGE, GREY), HATCHES, strict=False):
        eth = [float(Decimal(wei_by_party[party][kind]) / WEI_PER_ETH) for party in parties]
        axes.barh(parties, eth, left=left, label=kind, color=colour, hatch=hatch, edgecolor="white")
        left = [a + b for a, b in zip(left, eth, strict=True)]
    axes.set_xlabel("ETH paid out of the contract")
    axes.legend(frameon=False)
    return drawn


def bars(values: Mapping[str, float], unit: str) -> Figure:
    """A bar for each name, from the top."""
    drawn, axes = figure(0.8 + 0.3 * len(values))
    axes.barh(list(values)[::-1], list(values.values())[::-1], color=BLUE)
    axes.set_xlabel(unit)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    return drawn


def responses(frame: pd.DataFrame, term: str, names: Sequence[str]) -> Figure:
    """How metrics of a sweep answer to one term of the contract: a line for each kind of people and market, with its
    95% interval. term: a column of the frame; where other terms vary as well, their means are drawn."""
    part = term.endswith("_bps")
    drawn, axes = figure(2.4 * -(-len(names) // 2) + 0.6, columns=2, rows=-(-len(names) // 2))
    for one, name in zip(axes.flat, names, strict=False):
        rows = frame[frame.metric == name]
        percent = 100 if rows.unit.iloc[0].startswith("share") else 1
        for (people, market), line in rows.groupby(["behaviours", "price"], sort=False):
            mean = line.groupby(term)[["value", "low", "high"]].mean() * percent
            x = [value / 100 if part else value for value in mean.index]
            with_band(one, x, mean.value.tolist(), mean.low.tolist(), mean.high.tolist(), f"{people}, {market}")
        one.set_title(name, fontsize="medium", loc="left")
        one.set_ylabel("%" if percent == 100 else rows.unit.iloc[0].partition(":")[0])
        one.set_xlabel(f"{term.removesuffix('_bps').replace('_', ' ')}, {'%' if part else 's'}")
        one.set_ylim(bottom=min(0, one.get_ylim()[0]))
        one.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    drawn.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    for one in axes.flat[len(names) :]:
        one.remove()
    return drawn
