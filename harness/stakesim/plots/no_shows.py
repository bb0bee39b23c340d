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


def screening_curves(frame: pd.DataFrame) -> Figure:
    """Plots empty seats over the stake, a line for each screening, a panel for each pair of elasticities.

    Args:
        frame: From `stakesim.studies.filling_seats.sweep_screening`.
    """
    pairs = [("none", "high"), ("low", "high"), ("low", "low")]
    figure, panels = style.new_figure(3.2, columns=len(pairs))
    for axes, (no_shows, demand) in zip(panels, pairs, strict=True):
        rows = frame[(frame["metric"] == "empty seats") & (frame["no-shows"] == no_shows) & (frame["demand"] == demand)]
        for screening, line in rows.sort_values("stake_bps").groupby("screening"):
            values, low, high = (100 * line[column] for column in ("value", "low", "high"))
            style.plot_with_band(
                axes, (line["stake_bps"] / 100).tolist(), values.tolist(), low.tolist(), high.tolist(), f"{screening:g}"
            )
        axes.set_title(f"no-shows: {no_shows}, demand: {demand}", fontsize=9)
        axes.set_xlabel("stake, % of the ticket")
    limits = [axes.get_ylim() for axes in panels]
    for axes in panels:
        axes.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
    panels[0].set_ylabel("empty seats, % of seats")
    panels[0].legend(title="screening", frameon=False, fontsize=8, title_fontsize=8)
    return figure


def selling_curves(frame: pd.DataFrame) -> Figure:
    """Plots what overbooking changes, a line with and one without a waiting list.

    Args:
        frame: From `stakesim.studies.filling_seats.sweep_selling`.
    """
    figure, panels = style.new_figure(3.2, columns=3)
    for axes, (metric, label) in zip(
        panels,
        {
            "empty seats": "empty seats, % of seats",
            "turned away": "turned away, % of those who came",
            "host profit": "host profit, change in INR a run",
        }.items(),
        strict=True,
    ):
        rows = frame[frame["metric"] == metric]
        is_change = metric == "host profit"
        for waits, line in rows.groupby("waiting_list"):
            values, low, high = (
                line[name] if is_change else 100 * line[other]
                for name, other in (("change", "value"), ("change_low", "low"), ("change_high", "high"))
            )
            x = (line["overbooking_bps"] / 100).tolist()
            label_of_line = f"{'with' if waits else 'without'} a waiting list"
            style.plot_with_band(axes, x, values.tolist(), low.tolist(), high.tolist(), label_of_line)
        axes.set_xlabel("overbooking, % of seats")
        axes.set_ylabel(label)
    panels[-1].yaxis.set_major_formatter(style.thousands)
    panels[0].legend(frameon=False, fontsize=8)
    return figure
