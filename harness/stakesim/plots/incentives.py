"""Pictures of what cheating brings, of the option to walk away, and of what is never claimed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stakesim.plots import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def false_no_shows(table: pd.DataFrame) -> Figure:
    """Who gets what attendees lose, for each split of the forfeits; from `incentives.false_no_shows`."""
    drawn, axes = style.figure(2.8)
    names, left = list(table.index)[::-1], [0.0] * len(table)
    parts = (("host", style.RED, style.HATCHES[1]), ("platform", style.SKY, style.HATCHES[0]))
    for party, colour, hatch in parts:
        width = table[f"{party} gains, INR"].tolist()[::-1]
        axes.barh(names, width, left=left, label=f"the {party} gains", color=colour, hatch=hatch, edgecolor="white")
        left = [a + b for a, b in zip(left, width, strict=True)]
    axes.set_ylabel("forfeits to the host")
    axes.set_xlabel("taken from attendees who came, INR a run")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return drawn


def against(costs: pd.DataFrame) -> Figure:
    """What an attack costs the attacker and the victims; from `incentives.against`."""
    drawn, axes = style.figure(2.8)
    rows = costs.iloc[::-1]
    for offset, (column, colour, hatch) in enumerate(
        zip(costs.columns, (style.ORANGE, style.BLUE), style.HATCHES, strict=False)
    ):
        places = [place + 0.2 - 0.4 * offset for place in range(len(rows))]
        drawn_bars = axes.barh(places, rows[column], 0.38, label=column, color=colour, hatch=hatch, edgecolor="white")
        axes.bar_label(drawn_bars, [f"{value:,.0f}" for value in rows[column]], padding=3, fontsize=8)
    axes.set_yticks(range(len(rows)), list(rows.index))
    axes.set_xlabel("INR a run; below 0: a gain")
    axes.axvline(0, color=style.BLACK, linewidth=0.8)
    axes.margins(x=0.12)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.legend(frameon=False, loc="upper right")
    return drawn


def options(table: pd.DataFrame) -> Figure:
    """An attendee's option over the lead time, with the closed form of a GBM as crosses.

    From `cancellation_options.attendees`."""
    drawn, axes = style.figure(3.6)
    for market, rows in table.groupby("market", sort=False):
        low, high = rows["low"].tolist(), rows["high"].tolist()
        style.with_band(axes, rows["lead"].tolist(), rows["value"].tolist(), low, high, str(market))
    exact = table.dropna(subset="closed form")
    axes.scatter(exact["lead"], exact["closed form"], 60, style.BLACK, marker="x", label="GBM, closed form", zorder=3)
    axes.set_xticks(sorted(set(table["lead"])))
    axes.set_xlabel("booked so many days before the start")
    axes.set_ylabel("worth, % of the ticket")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return drawn


def unclaimed(table: pd.DataFrame) -> Figure:
    """What stays in the contract, by how it pays; from `payout_methods.unclaimed`."""
    drawn, axes = style.figure(3.0)
    colours = (style.RED, style.ORANGE, style.BLUE)
    ways = [column for column in table.columns if not column.startswith("runs")]
    for number, (way, colour, hatch) in enumerate(zip(ways, colours, style.HATCHES, strict=False)):
        places = [place + 0.26 * (number - 1) for place in range(len(table))]
        bars = axes.bar(places, table[way], 0.25, label=way.removesuffix(", %"), color=colour, hatch=hatch)
        bars_text = [f"{value:.2g}" for value in table[way]]
        axes.bar_label(bars, bars_text, padding=2, fontsize=8)
    axes.set_xticks(range(len(table)), [f"{share:g}%" for share in table.index])
    axes.set_xlabel("share of receivers that refuse")
    axes.set_ylabel("stays in the contract, %")
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return drawn
