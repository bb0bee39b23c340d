"""Plots of price risk. Their tables are from `stakesim.studies.exposure`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from stakesim.plots.style import BLUE, RED, new_figure, plot_with_band

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def gains_by_position(table: pd.DataFrame) -> Figure:
    """Plots gains and losses by position, a panel for each pricing: median, quantiles and expected shortfall.

    Args:
        table: From `gains_by_position`.
    """
    pricings = list(dict.fromkeys(table.index.get_level_values("pricing")))
    figure, panels = new_figure(2.9, columns=len(pricings))
    for axes, pricing in zip(panels, pricings, strict=True):
        rows = table.loc[pricing]
        y = range(len(rows))[::-1]
        axes.axvline(0, color="black", linewidth=0.8)
        axes.hlines(y, rows["5%"], rows["95%"], color=BLUE, linewidth=1.5, label="9 of 10 runs")
        axes.hlines(y, rows["25%"], rows["75%"], color=BLUE, linewidth=7, label="half of the runs")
        axes.plot(rows["50%"], y, "|", color="white", markersize=7, markeredgewidth=2)
        axes.plot(-rows["ES 5%"], y, "x", color=RED, markersize=7, markeredgewidth=2, label="worst 5%, mean (ES)")
        axes.set_yticks(y, list(rows.index) if axes is panels[0] else [""] * len(rows))
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_xlim(-65, 65)
        axes.set_title(pricing, fontsize="medium")
    panels[len(panels) // 2].set_xlabel("INR above what was promised, % of the run's sales")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    return figure


def revenue_fans(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Plots quantiles of revenue that is fixed in wei by the days until the payout, a panel for each market.

    Args:
        tables: For each market a table from `revenue_quantiles`.
    """
    figure, panels = new_figure(3.4, columns=len(tables))
    for axes, (market, table) in zip(panels, tables.items(), strict=True):
        axes.fill_between(table.index, table["5%"], table["95%"], color=BLUE, alpha=0.2, linewidth=0, label="9 of 10")
        axes.fill_between(table.index, table["25%"], table["75%"], color=BLUE, alpha=0.4, linewidth=0, label="half")
        axes.plot(table.index, table["50%"], color="black", linewidth=1.2, label="median")
        axes.plot(table.index, table["left at VaR 5%"], "--", color=RED, label="left at the 5% VaR")
        axes.plot(table.index, table["left at ES 5%"], ":", color=RED, linewidth=2, label="left at the 5% ES")
        axes.axhline(100, color="black", linewidth=0.5)
        axes.set_ylim(30, 190)
        axes.set_xlim(0, table.index.max())
        axes.set_title(market, fontsize="medium")
        if axes is not panels[0]:
            axes.tick_params(labelleft=False)
    panels[0].set_ylabel("host's revenue, % of the INR price")
    figure.supxlabel("days from the quote in wei to the payout", fontsize="medium")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=5, frameon=False)
    return figure


def host_revenue_risk(table: pd.DataFrame, market: str) -> Figure:
    """Plots VaR and ES of the host's revenue by lead time: a line for each pricing, a band from best to worst market.

    Args:
        table: From `host_revenue_risk`.
        market: The market of the lines.
    """
    figure, panels = new_figure(3.4, columns=2)
    for axes, measure, name in zip(panels, ("var", "es"), ("5% VaR", "5% expected shortfall"), strict=True):
        for pricing, rows in table.groupby("pricing", sort=False):
            by_lead = rows.groupby("lead")[measure]
            values = rows[rows.market == market].set_index("lead")[measure]
            leads = [float(lead) for lead in values.index]
            low, high = by_lead.min().tolist(), by_lead.max().tolist()
            plot_with_band(axes, leads, values.tolist(), low, high, str(pricing))
        axes.set_title(name, fontsize="medium")
        axes.set_xlabel("days from creation to start")
        axes.set_xticks(sorted(set(table.lead)))
        axes.set_ylim(-1, 65)
    panels[0].set_ylabel("host's revenue lost, % of the INR price")
    panels[0].legend(frameon=False)
    return figure


def move_frequencies(table: pd.DataFrame, eth_moves: Mapping[str, Sequence[float]]) -> Figure:
    """Plots how often ETH has moved by more than the stake when the event starts, a line for each market.

    Args:
        table: From `move_frequencies`.
        eth_moves: What was observed of ETH, in percent: "down" and "up", each with a value for each lead time.
    """
    figure, panels = new_figure(3.4, columns=2)
    for axes, direction in zip(panels, ("down", "up"), strict=True):
        for market, rows in table.groupby("market", sort=False):
            share = rows[f"{direction}, at the event"]
            days = [float(day) for day in rows.index.get_level_values("days")]
            low, high = (share - rows.within).tolist(), (share + rows.within).tolist()
            plot_with_band(axes, days, share.tolist(), low, high, str(market))
        axes.plot(days, eth_moves[direction], "*", color="black", markersize=9, label="ETH, 2015 to 2026")
        axes.set_title(f"more than 20% {direction} at the event", fontsize="medium")
        axes.set_xlabel("days from creation to start")
        axes.set_xticks(days)
        axes.set_ylim(0, 40)
    panels[0].set_ylabel("% of runs")
    panels[0].legend(frameon=False, fontsize="small")
    return figure


def platform_risk(table: pd.DataFrame) -> Figure:
    """Plots the expected shortfall of hosts' revenue over all runs of a platform, by how its runs share a market.

    Args:
        table: From `stakesim.studies.platform_risk.platform_risk`.
    """
    figure, axes = new_figure(0.8 + 0.4 * len(table))
    y = range(len(table))[::-1]
    axes.barh(y, table["ES 5%"], color=BLUE, height=0.6)
    axes.hlines(y, table["from"], table["to"], color="black", linewidth=1.5)
    axes.set_yticks(y, [str(case) for case in table.index])
    axes.set_xlabel("worst 5% of platforms: mean loss of hosts, % of the revenue promised to all of them")
    return figure
