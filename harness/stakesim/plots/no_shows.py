"""Plots of what a stake changes, from the table of `stakesim.studies.no_shows.stakes`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stakesim.plots import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def people(frame: pd.DataFrame) -> Figure:
    """No-shows by their elasticity, and bookings lost by that of demand, over the stake."""
    drawn, (left, right) = style.figure(3.2, columns=2)
    _lines(left, frame[frame["demand"] == "low"], "no-show rate", "no-shows", 100)
    left.set_ylabel("no-shows, % of bookings")
    _lines(right, frame[frame["no-shows"] == "low"], "bookings lost", "demand", 100)
    right.set_ylabel("got no seat, % of who would come")
    return drawn


def money(frame: pd.DataFrame) -> Figure:
    """What host and platform earn, over the stake."""
    drawn, (left, right) = style.figure(3.2, columns=2)
    _lines(left, frame[frame["no-shows"] == "low"], "host profit", "demand", 1)
    left.set_ylabel("host profit, INR a run")
    _lines(right, frame[frame["demand"] == "low"], "platform income", "no-shows", 1)
    right.set_ylabel("platform income, INR a run")
    for axes in (left, right):
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    return drawn


def empty_seats(frame: pd.DataFrame) -> Figure:
    """Seats in which nobody sat, over the stake, under each pair of elasticities."""
    demands = _elasticities(frame, "demand")
    drawn, all_axes = style.figure(3.2, columns=len(demands))
    for axes, (demand, elasticity) in zip(all_axes, demands.items(), strict=True):
        _lines(axes, frame[frame["demand"] == demand], "empty seats", "no-shows", 100)
        axes.set_title(f"elasticity of demand: {demand} ({elasticity:g})", fontsize=9)
        if axes is not all_axes[-1]:
            axes.get_legend().remove()
    ends = [axes.get_ylim() for axes in all_axes]
    for axes in all_axes:
        axes.set_ylim(min(low for low, _ in ends), max(high for _, high in ends))
    all_axes[0].set_ylabel("empty seats, % of seats")
    return drawn


def _lines(axes: Axes, frame: pd.DataFrame, metric: str, by: str, times: float) -> None:
    """A line for each elasticity, with its 95% interval."""
    of_metric = frame[frame["metric"] == metric].sort_values("stake_bps")
    for name, elasticity in _elasticities(frame, by).items():
        one = of_metric[of_metric[by] == name]
        middle, low, high = ((one[column] * times).tolist() for column in ("value", "low", "high"))
        style.with_band(axes, (one["stake_bps"] / 100).tolist(), middle, low, high, f"{name} ({elasticity:g})")
    axes.axvline(frame["stake_bps"].iloc[0] / 100, color=style.GREY, linewidth=0.8, zorder=0)
    axes.set_xlabel("stake, % of the ticket")
    axes.legend(title=f"elasticity of {by}", frameon=False, fontsize=8, title_fontsize=8)


def _elasticities(frame: pd.DataFrame, by: str) -> dict[str, float]:
    """The name and value of each elasticity of `by`, in the order of the table."""
    names = frame.drop_duplicates(by)
    return dict(zip(names[by], names[f"elasticity of {by}"], strict=True))
