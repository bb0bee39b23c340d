"""Plots of the platform's break-even tickets, its gas and the float of its wallet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from stakesim.plots import style
from stakesim.units import WEI_PER_GWEI

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

TICKET_LEVELS = (1, 10, 100, 1_000, 10_000, 100_000)
"""INR of the contour lines."""


def break_even_tickets(table: pd.DataFrame) -> Figure:
    """Plots the break-even ticket over gas price and rate of ETH, with contour lines; dark is cheap.

    Args:
        table: From `stakesim.studies.break_even.break_even_grid`.
    """
    from matplotlib.colors import LogNorm

    figure, axes = style.new_figure(3.8)
    gwei, rates, tickets = table.index, table.columns / 1_000, table.to_numpy()
    shades = axes.pcolormesh(
        gwei,
        rates,
        tickets.T,
        norm=LogNorm(tickets.min(), tickets.max()),
        cmap="cividis",
        shading="gouraud",
        rasterized=True,
    )
    line_colours = ["white"] * 3 + ["black"] * (len(TICKET_LEVELS) - 3)
    lines = axes.contour(gwei, rates, tickets.T, levels=TICKET_LEVELS, colors=line_colours)
    axes.clabel(lines, inline_spacing=2, fmt=lambda inr: f"{inr:,.0f} INR", fontsize="small")
    axes.set_xscale("log")
    ticks = [tick for tick in (0.001, 0.01, 0.1, 1, 10, 100) if gwei.min() <= tick <= gwei.max()]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("gas price, gwei")
    axes.set_ylabel("ETH, thousands of INR")
    colour_bar = figure.colorbar(shades, ax=axes, label="break-even ticket, INR")
    colour_bar.ax.yaxis.set_major_formatter(style.thousands)
    return figure


def gas_price_path(wei: NDArray[np.int64], days: int = 364) -> Figure:
    """Plots one path of gas prices, and the band that holds 90% of all paths on each day.

    Args:
        wei: Wei per gas from `stakesim.prices.gas_models.simulate`, shape (days, paths).
        days: Days to show.
    """
    import numpy as np

    gwei = wei[:days] / WEI_PER_GWEI
    low, high = np.quantile(gwei, [0.05, 0.95], axis=1)
    figure, axes = style.new_figure(2.8)
    axes.fill_between(range(len(gwei)), low, high, color=style.BLUE, alpha=0.2, linewidth=0, label="9 of 10 years")
    axes.plot(gwei[:, 0], color=style.RED, linewidth=1, label="one year")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("day")
    axes.set_ylabel("gas price, gwei")
    axes.legend(frameon=False, ncols=2)
    return figure


def loss_making_runs(table: pd.DataFrame) -> Figure:
    """Plots the share of runs whose gas costs more than they earn by ticket price, a line for each gas price.

    Args:
        table: From `stakesim.studies.wallet.loss_making_runs`.
    """
    figure, axes = style.new_figure(3.4)
    for name, (colour, line, marker) in zip(table.columns, style.LINE_STYLES, strict=False):
        axes.plot(table.index, table[name], line, marker=marker, markersize=4, color=colour, label=name)
    axes.set_xscale("log")
    axes.set_xticks(table.index, [f"{ticket:,.0f}" for ticket in table.index])
    axes.minorticks_off()
    axes.set_ylim(-2, 102)
    axes.set_xlabel("ticket, INR")
    axes.set_ylabel("runs that cost more gas\nthan they earn, %")
    axes.legend(frameon=False, title="gas price", loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def ruin_probabilities(tables: Mapping[str, Sequence[pd.DataFrame]], titles: Sequence[str]) -> Figure:
    """Plots the probability that the wallet runs dry within a year over its float.

    Args:
        tables: For each case, which is a line, one table for each panel, from
            `stakesim.studies.wallet.ruin_probabilities`.
        titles: Titles of the panels.
    """
    figure, panels = style.new_figure(3.6, columns=len(titles))
    for number, (axes, title) in enumerate(zip(panels, titles, strict=True)):
        for case, tables_of_case in tables.items():
            table = tables_of_case[number]
            lakhs = [inr / 1e5 for inr in table.index]
            chance, low, high = ((100 * table[column]).tolist() for column in ("chance", "low", "high"))
            style.plot_with_band(axes, lakhs, chance, low, high, case)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_ylim(-2, 102)
        axes.set_title(title, fontsize="medium")
        axes.set_xlabel("float, lakh INR (100,000)")
    panels[0].set_ylabel("years in which it runs dry, %")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(tables), frameon=False)
    return figure
