"""Plots: functions from tables to a matplotlib `Figure`, for notebooks and, as SVG, for HTML reports.

The functions import nothing of the library that makes the tables; each docstring names the function that does.
"""

from stakesim.plots.decisions import experiments, gains, learning, learnt
from stakesim.plots.incentives import attack_costs, false_no_shows, option_values, unclaimed_money
from stakesim.plots.no_shows import (
    attendance_curves,
    empty_seat_curves,
    income_curves,
    screening_curves,
    selling_curves,
)
from stakesim.plots.platform import break_even_tickets, gas_price_path, loss_making_runs, ruin_probabilities
from stakesim.plots.prices import (
    gains_by_position,
    host_revenue_risk,
    move_frequencies,
    platform_risk,
    revenue_fans,
)
from stakesim.plots.reports import bar_chart, metric_curves, payouts
from stakesim.plots.style import new_figure, plot_with_band, svg

__all__ = [
    "attack_costs",
    "attendance_curves",
    "bar_chart",
    "break_even_tickets",
    "empty_seat_curves",
    "experiments",
    "false_no_shows",
    "gains",
    "gains_by_position",
    "gas_price_path",
    "host_revenue_risk",
    "income_curves",
    "learning",
    "learnt",
    "loss_making_runs",
    "metric_curves",
    "move_frequencies",
    "new_figure",
    "option_values",
    "payouts",
    "plot_with_band",
    "platform_risk",
    "revenue_fans",
    "ruin_probabilities",
    "screening_curves",
    "selling_curves",
    "svg",
    "unclaimed_money",
]
