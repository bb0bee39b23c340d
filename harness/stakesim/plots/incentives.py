"""Plots of what attacks cost and bring, of cancellation options, and of unclaimed money."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stakesim.plots import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def false_no_shows(table: pd.DataFrame) -> Figure:
    """Plots who gets what attendees lose to false no-shows, by the host's share of the forfeits.

    Args:
        table: From `stakesim.studies.incentives.false_no_shows`.
    """
    figure, axes = style.new_figure(2.8)
    splits, left = list(table.index)[::-1], [0.0] * len(table)
    for party, colour, hatch in (("host", style.RED, style.HATCHES[1]), ("platform", style.SKY, style.HATCHES[0])):
        widths = table[f"{party} gains, INR"].tolist()[::-1]
        axes.barh(splits, widths, left=left, label=f"the {party} gains", color=colour, hatch=hatch, edgecolor="white")
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.set_ylabel("forfeits to the host")
    axes.set_xlabel("taken from attendees who came, INR a run")
    axes.xaxis.set_major_formatter(style.thousands)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def attack_costs(costs: pd.DataFrame) -> Figure:
    """Plots what each attack costs the attacker and the victims.

    Args:
        costs: From `stakesim.studies.incentives.attack_costs`.
    """
    figure, axes = style.new_figure(2.8)
    rows = costs.iloc[::-1]
    colours = (style.ORANGE, style.BLUE)
    for number, (column, colour, hatch) in enumerate(zip(costs.columns, colours, style.HATCHES, strict=False)):
        positions = [row + 0.2 - 0.4 * number for row in range(len(rows))]
        bars = axes.barh(positions, rows[column], 0.38, label=column, color=colour, hatch=hatch, edgecolor="white")
        axes.bar_label(bars, [f"{inr:,.0f}" for inr in rows[column]], padding=3, fontsize=8)
    axes.set_yticks(range(len(rows)), list(rows.index))
    axes.set_xlabel("INR a run; below 0: a gain")
    axes.axvline(0, color=style.BLACK, linewidth=0.8)
    axes.margins(x=0.12)
    axes.xaxis.set_major_formatter(style.thousands)
    axes.legend(frameon=False, loc="upper right")
    return figure


def option_values(table: pd.DataFrame) -> Figure:
    """Plots the value of an attendee's cancellation option by lead time, with crosses where a closed form exists.

    Args:
        table: From `stakesim.studies.cancellation_options.attendee_options`.
    """
    figure, axes = style.new_figure(3.6)
    for market, rows in table.groupby("market", sort=False):
        low, high = rows["low"].tolist(), rows["high"].tolist()
        style.plot_with_band(axes, rows["lead"].tolist(), rows["value"].tolist(), low, high, str(market))
    exact = table.dropna(subset="closed form")
    axes.scatter(exact["lead"], exact["closed form"], 60, style.BLACK, marker="x", label="GBM, closed form", zorder=3)
    axes.set_xticks(sorted(set(table["lead"])))
    axes.set_xlabel("booked so many days before the start")
    axes.set_ylabel("worth, % of the ticket")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def unclaimed_money(table: pd.DataFrame) -> Figure:
    """Plots the share of money that stays in the contract, by payout method and share of refusing receivers.

    Args:
        table: From `stakesim.studies.payout_methods.unclaimed_money`.
    """
    figure, axes = style.new_figure(3.0)
    colours = (style.RED, style.ORANGE, style.BLUE)
    methods = [column for column in table.columns if not column.startswith("runs")]
    for number, (method, colour, hatch) in enumerate(zip(methods, colours, style.HATCHES, strict=False)):
        positions = [row + 0.26 * (number - 1) for row in range(len(table))]
        label = method.removesuffix(", %")
        bars = axes.bar(positions, table[method], 0.25, label=label, color=colour, hatch=hatch)
        axes.bar_label(bars, [f"{percent:.2g}" for percent in table[method]], padding=2, fontsize=8)
    axes.set_xticks(range(len(table)), [f"{percent:g}%" for percent in table.index])
    axes.set_xlabel("share of receivers that refuse")
    axes.set_ylabel("stays in the contract, %")
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure
