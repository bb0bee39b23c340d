"""The words of docs/PRICES.md; `stakesim.studies.calibration` fills in the numbers."""

from collections.abc import Mapping

WRONG: Mapping[str, str] = {
    "GBM": (
        "its tails are too thin and its volatility never changes: the worst day is {worst day}% and not -43%, "
        "30-day volatility stays between {30-day volatility, 5%} and {30-day volatility, 95%}%, and falls of more "
        "than 20% within a week come in {down > 20% after 7 days}% of the weeks and not in 3.7%."
    ),
    "Merton": (
        "jumps come one by one, independent of each other, and the volatility between them never changes, so there "
        "are no calm years ({volatility, calmest of 8 years}% and not 47%) and no calm months ({30-day volatility, "
        "5%}% and not 38%); normally distributed sizes are wrong too: of the 11 jumps a year that are drawn most "
        "are too small for the threshold by which they were counted, which finds {jumps a year} of {jump, standard "
        "deviation}%."
    ),
    "bootstrap, 7 days": (
        "nothing worse than in the series can happen in a day, and what hangs together for longer than a week is "
        "lost: the calmest year has {volatility, calmest of 8 years}% and not 47%, and a fall of more than 20% "
        "after 60 days comes in {down > 20% after 60 days}% of the cases and not in 26.7%; it inherits the drift of"
        " the series."
    ),
    "bootstrap, 20 days": (
        "the same with three weeks for one: {volatility, calmest of 8 years}% in the calmest year, {30-day "
        "volatility, 5%}% as the 5% of 30-day volatility and not 38%, {down > 20% after 60 days}% after 60 days; "
        "the longer the blocks, the fewer different stretches there are to draw from."
    ),
    "GARCH": (
        "shocks are normal and go both ways alike, so there is no crash ({worst day}% as the worst day and not "
        "-43%); to reach the wild times it must be too calm in between ({30-day volatility, median}% as the median "
        "of 30-day volatility and not 74%), so moves of more than 20% are too few at every horizon; and with alpha "
        "+ beta = 0.995 a simulation of weeks hardly leaves the volatility that it begins with."
    ),
}

PAGE = """# Price models beside ETH

How near the random price paths of `harness/stakesim/prices/price_models.py` come to what is known of ETH, and where
each is wrong.
`python -m stakesim.studies.calibration > docs/PRICES.md` writes this page; a test compares the two.

Claimed: figures of 3,804 daily closes of ETH, 2015-08 to 2026-01. Beside them the synthetic series that comes with the
project, and the mean over {runs} paths of {days} days of each model (seed {seed}). In percent, but the jumps a year. A
volatility is the standard deviation of daily log returns times sqrt(365).

{figures}

- **after h days** is the close after h days against the close before them, over all windows, which overlap; not the
  lowest or highest on the way. Which was meant the claims tell: taken so, a random walk fits those of 7, 14, 30 and 60
  days with a volatility of 88, 84, 84 and 102%; taken as "at any time within", with 82, 72, 60 and 54%, and volatility
  was below 60% in one year of eight.
- **years** are the last eight times 365 days of a path; ETH's are 2018 to 2025.
- **jumps** are returns further than three standard deviations from the mean, taken out again and again until none is
  left (recursive filtering, Clewlow and Strickland 2000).
- The models have the defaults of `price_models.py`, GBM a volatility of {gbm.annual_volatility:g}; all but the
  bootstraps have a drift of {drift:g} a year, which is 0.2 of log drift, as the moves after 30 and 60 days have it. The
  bootstraps are stationary ones of the synthetic series.

## What is claimed of each model

{own}

GBM's volatility is chosen for its claim, Merton's parameters are the middle of the ranges, GARCH's are the best of a
grid (`fit_garch`). The claim of the bootstraps is of ETH's own closes, here they draw from the synthetic ones.

## Where each is wrong

{wrong}

None has trends: after 60 days ETH had moved by more than 20% more often than any model says.

## The synthetic series

`scenarios/series/eth-inr-synthetic.csv` is **no market data**. `harness/stakesim/studies/synthetic_series.py` makes it
from one seed: a stochastic volatility model with jumps and a wandering drift, each year scaled to the volatility of
ETH, one day set to the worst one. Its seed and parameters were searched for until the figures above came near; that
they do proves nothing, and its level, its dates and its course say nothing about ETH or the rupee. Volatility by year:

{years}

For results that matter take your own closes: `{{path: bootstrap, inr_per_eth: "200000", file: mine.csv}}`.
"""
