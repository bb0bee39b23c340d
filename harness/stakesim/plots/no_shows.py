"""Plots of what a stake changes. Their tables are from `stakesim.studies.no_shows.sweep_stakes`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stakesim.plots import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def attendance_curves(frame: pd.DataFrame) -> Figure:
    """Plots no-shows and lost bookings over the stake, a line for each elasticity."""
    figure, (left, right) = style.new_figure(3.2, columns=2)
    _plot_curves(left, frame[frame["demand"] == "low"], "no-show rate", "no-shows", 100)
    left.set_ylabel("no-shows, % of bookings")
    _plot_curves(right, frame[frame["no-shows"] == "low"], "bookings lost", "demand", 100)
    right.set_ylabel("got no seat, % of who would come")
    return figure


def income_curves(frame: pd.DataFrame) -> Figure:
    """Plots the income of host and platform over the stake, a line for each elasticity."""
    figure, (left, right) = style.new_figure(3.2, columns=2)
    _plot_curves(left, frame[frame["no-shows"] == "low"], "host profit", "demand", 1)
    left.set_ylabel("host profit, INR a run")
    _plot_curves(right, frame[frame["demand"] == "low"], "platform income", "no-shows", 1)
    right.set_ylabel("platform income, INR a run")
    for axes in (left, right):
        axes.yaxis.set_major_formatter(style.thousands)
    return figure


def empty_seat_curves(frame: pd.DataFrame) -> Figure:
    """Plots empty seats over the stake, a panel and a line for each pair of elasticities."""
    demand_elasticities = _elasticities(frame, "demand")
    figure, panels = style.new_figure(3.2, columns=len(demand_elasticities))
    for axes, (demand, elasticity) in zip(panels, demand_elasticities.items(), strict=True):
        _plot_curves(axes, frame[frame["demand"] == demand], "empty seats", "no-shows", 100)
        axes.set_title(f"elasticity of demand: {demand} ({elasticity:g})", fontsize=9)
        if axes is not panels[-1]:
            axes.get_legend().remove()
    limits = [axes.get_ylim() for axes in panels]
    for axes in panels:
        axes.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
    panels[0].set_ylabel("empty seats, % of seats")
    return figure


def _plot_curves(axes: Axes, frame: pd.DataFrame, metric: str, varied: str, factor: float) -> None:
    """Plots `metric` times `factor` over the stake, a line for each elasticity of `varied`.

    A vertical line marks the stake of the first policy.
    """
    of_metric = frame[frame["metric"] == metric].sort_values("stake_bps")
    for name, elasticity in _elasticities(frame, varied).items():
        line = of_metric[of_metric[varied] == name]
        values, low, high = ((line[column] * factor).tolist() for column in ("value", "low", "high"))
        style.plot_with_band(axes, (line["stake_bps"] / 100).tolist(), values, low, high, f"{name} ({elasticity:g})")
    axes.axvline(frame["stake_bps"].iloc[0] / 100, color=style.GREY, linewidth=0.8, zorder=0)
    axes.set_xlabel("stake, % of the ticket")
    axes.legend(title=f"elasticity of {varied}", frameon=False, fontsize=8, title_fontsize=8)


def _elasticities(frame: pd.DataFrame, varied: str) -> dict[str, float]:
    """Name and value of each elasticity of `varied`, in the order of the table."""
    rows = frame.drop_duplicates(varied)
    return dict(zip(rows[varied], rows[f"elasticity of {varied}"], strict=True))
