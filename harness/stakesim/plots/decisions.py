"""Plots of what one's own bookings tell. Their tables are from `stakesim.decisions`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from stakesim.plots import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def learnt(summary: pd.DataFrame) -> Figure:
    """Plots what the bookings told of each parameter: the central 95% of prior and posterior over the prior's median.

    Args:
        summary: From `Posterior.summary`.
    """
    rows = summary[summary["prior median"].notna()].iloc[::-1]
    figure, axes = style.new_figure(0.9 + 0.3 * len(rows))
    for name, prefix, colour, width in (("prior", "prior ", style.GREY, 5.0), ("posterior", "", style.BLUE, 2.5)):
        low, high, middle = (rows[f"{prefix}{end}"] for end in ("low", "high", "median"))
        scale = rows["prior high"] - rows["prior median"]
        positions = [(values - rows["prior median"]) / scale for values in (low, high, middle)]
        axes.hlines(range(len(rows)), positions[0], positions[1], colors=colour, linewidth=width, label=name)
        if name == "posterior":
            axes.plot(positions[2], range(len(rows)), "o", color=colour, markersize=5)
    labels = [f"{name} ({row['median']:.3g})" for name, row in rows.iterrows()]
    axes.set_yticks(range(len(rows)), labels)
    axes.set_xlabel("distance from the prior's median; 1 is the upper end of the prior's 95%")
    axes.axvline(0, color=style.GREY, linewidth=0.8, zorder=0)
    figure.legend(loc="outside upper right", ncols=2, frameon=False)
    return figure


def gains(table: pd.DataFrame, by: str = "stake_bps", panels: str = "price_factor") -> Figure:
    """Plots how much less than the best policy each one is worth, with the central 95% of the posterior.

    Args:
        table: From `stakesim.decisions.decide`.
        by: Column for the x axis, in basis points.
        panels: Column with a line for each value.
    """
    figure, axes = style.new_figure(3.6)
    groups = sorted(table.groupby(panels), key=lambda group: float(str(group[0])))
    for number, (value, rows) in enumerate(groups):
        rows = rows.sort_values(by)
        colour, line, marker = style.LINE_STYLES[number % len(style.LINE_STYLES)]
        shift = 0.5 * (number - (len(groups) - 1) / 2)
        x = rows[by] / 100 + shift
        below, above = -rows.regret_high / 1e3, -rows.regret_low / 1e3
        axes.vlines(x, below, above, colors=colour, linewidth=2, alpha=0.5)
        axes.plot(x, -rows.regret / 1e3, line, marker=marker, color=colour, label=f"prices x {value}")
    axes.axhline(0, color=style.GREY, linewidth=0.8, zorder=0)
    axes.set_xlabel("stake, % of the ticket")
    axes.set_ylabel("against the best policy,\nthousand INR a season")
    axes.yaxis.set_major_formatter(style.thousands)
    axes.legend(frameon=False, loc="lower left")
    return figure


def learning(curve: pd.DataFrame, names: Sequence[str]) -> Figure:
    """Plots how much more bookings would tell, a panel for each parameter.

    Args:
        curve: From `stakesim.studies.own_bookings.learning_curve`.
        names: Parameters to show.
    """
    figure, panels = style.new_figure(3.2, columns=len(names))
    for axes, name in zip(panels, names, strict=True):
        for number, (stakes, rows) in enumerate(curve[curve.parameter == name].groupby("stakes", sort=False)):
            colour, line, marker = style.LINE_STYLES[number]
            axes.plot(rows.bookings, 100 * rows.learnt, line, marker=marker, color=colour, label=stakes)
        axes.set_xscale("log")
        axes.set_ylim(-5, 105)
        axes.set_title(name, fontsize=9)
        axes.set_xlabel("bookings")
    panels[0].set_ylabel("variance that the bookings\ntook away, % of the prior's")
    panels[0].legend(frameon=False, fontsize=8)
    return figure


def experiments(values: pd.DataFrame) -> Figure:
    """Plots what experiments cost and are worth over their size, a line for each stake that is tried.

    Args:
        values: From `stakesim.decisions.plan.experiment_values`.
    """
    figure, (left, right) = style.new_figure(3.2, columns=2)
    for number, (stake, rows) in enumerate(values.groupby("stake_bps")):
        colour, line, marker = style.LINE_STYLES[number % len(style.LINE_STYLES)]
        label = f"{float(str(stake)) / 100:g}% is tried"
        left.plot(rows.runs_each, rows.worth_inr / 1e3, line, marker=marker, color=colour, label=label)
        right.plot(rows.runs_each, rows.net_inr / 1e3, line, marker=marker, color=colour, label=label)
    right.axhline(0, color=style.GREY, linewidth=0.8, zorder=0)
    for axes, title in ((left, "worth, thousand INR"), (right, "worth less cost, thousand INR")):
        axes.set_xscale("log")
        axes.set_xlabel("runs in each arm")
        axes.set_ylabel(title)
        axes.yaxis.set_major_formatter(style.thousands)
    left.legend(frameon=False, fontsize=8)
    return figure
