"""Pictures, as functions from figures to a matplotlib `Figure`: for notebooks, and as SVG for the HTML reports."""

from stakesim.plots.incentives import against, false_no_shows, options, unclaimed
from stakesim.plots.no_shows import empty_seats, money, people
from stakesim.plots.platform import break_even, gas_path, losing, ruin
from stakesim.plots.prices import at_risk, bearers, fans, moves
from stakesim.plots.reports import bars, payouts, responses
from stakesim.plots.style import figure, svg, with_band

__all__ = [
    "against",
    "at_risk",
    "bars",
    "bearers",
    "break_even",
    "empty_seats",
    "false_no_shows",
    "fans",
    "figure",
    "gas_path",
    "losing",
    "money",
    "moves",
    "options",
    "payouts",
    "people",
    "responses",
    "ruin",
    "svg",
    "unclaimed",
    "with_band",
]
