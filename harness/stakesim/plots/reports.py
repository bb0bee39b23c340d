"""Plots of the HTML reports: of payouts, gas and sweeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from stakesim.plots.style import BLUE, GREY, HATCHES, ORANGE, new_figure, plot_with_band, thousands
from stakesim.units import WEI_PER_ETH

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def payouts(wei_by_party: Mapping[str, Mapping[str, int]]) -> Figure:
    """Plots the ETH that each party received: pushed, withdrawn after it was deferred, and still credited.

    A deferred payout is in one of the last two, so that the bars are as long as what was received.

    Args:
        wei_by_party: For each party the wei of each kind of payout, from `stakesim.runner.ledger.by_party`.
    """
    parties = sorted(wei_by_party)
    figure, axes = new_figure(1.2 + 0.5 * len(parties))
    left = [0.0] * len(parties)
    kinds: dict[str, Callable[[Mapping[str, int]], int]] = {
        "pushed": lambda wei: wei["pushed"],
        "deferred and withdrawn": lambda wei: wei["withdrawn"],
        "deferred, still a credit": lambda wei: wei["deferred"] - wei["withdrawn"],
    }
    for (kind, amount), colour, hatch in zip(kinds.items(), (BLUE, GREY, ORANGE), HATCHES, strict=False):
        eth = [float(Decimal(amount(wei_by_party[party])) / WEI_PER_ETH) for party in parties]
        axes.barh(parties, eth, left=left, label=kind, color=colour, hatch=hatch, edgecolor="white")
        left = [start + width for start, width in zip(left, eth, strict=True)]
    axes.set_xlabel("ETH received from the contract")
    axes.legend(frameon=False)
    return figure


def bar_chart(values: Mapping[str, float], unit: str) -> Figure:
    """Plots a horizontal bar for each name, the first one at the top."""
    figure, axes = new_figure(0.8 + 0.3 * len(values))
    axes.barh(list(values)[::-1], list(values.values())[::-1], color=BLUE)
    axes.set_xlabel(unit)
    axes.xaxis.set_major_formatter(thousands)
    return figure


def metric_curves(frame: pd.DataFrame, term: str, metrics: Sequence[str]) -> Figure:
    """Plots metrics of a sweep over one term of the contract, a line for each group of people, market and gas.

    What is plotted is the change from the first policy with its paired interval.

    Args:
        frame: From `stakesim.economics.sweep`.
        term: Column of the frame for the x axis. Where other terms vary as well, the means over them are plotted.
        metrics: Names of metrics, each of which gets a panel.
    """
    in_bps = term.endswith("_bps")
    rows_of_panels = -(-len(metrics) // 2)
    figure, panels = new_figure(2.4 * rows_of_panels + 0.6, columns=2, rows=rows_of_panels)
    for axes, metric in zip(panels.flat, metrics, strict=False):
        rows = frame[frame.metric == metric]
        is_share = rows.unit.iloc[0].startswith("share")
        dimensions = [name for name in ("behaviours", "price", "gas") if name in rows]
        for names, line in rows.groupby(dimensions, sort=False, observed=True):
            mean = line.groupby(term)[["change", "change_low", "change_high"]].mean() * (100 if is_share else 1)
            x = [value / 100 if in_bps else value for value in mean.index]
            values, low, high = (mean[column].tolist() for column in mean.columns)
            plot_with_band(axes, x, values, low, high, ", ".join(map(str, names)))
        axes.axhline(0, color=GREY, linewidth=0.8, zorder=0)
        axes.set_title(metric, fontsize="medium", loc="left")
        axes.set_ylabel("change, points" if is_share else f"change, {rows.unit.iloc[0].partition(':')[0]}")
        axes.set_xlabel(f"{term.removesuffix('_bps').replace('_', ' ')}, {'%' if in_bps else 's'}")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    figure.legend(*panels.flat[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    for unused in panels.flat[len(metrics) :]:
        unused.remove()
    return figure
