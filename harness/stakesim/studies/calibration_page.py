"""The page docs/PRICES.md, which compares the price models with ETH.

python -m stakesim.studies.calibration_page > docs/PRICES.md
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from textwrap import fill
from typing import TYPE_CHECKING

from stakesim.studies.calibration import (
    DAYS,
    DRIFT,
    MODELS,
    RUNS,
    SEED,
    claims_table,
    statistics_table,
    volatility_table,
)

if TYPE_CHECKING:
    import pandas as pd

WEAKNESSES: Mapping[str, str] = {
    "GBM": (
        "its tails are too thin and its volatility is constant. The worst day is {worst day}% instead of -43%, "
        "30-day volatility stays between {30-day volatility, 5%} and {30-day volatility, 95%}%, and {down > 20% after "
        "7 days}% of the weeks end more than 20% lower instead of 3.7%."
    ),
    "Merton": (
        "jumps are independent of each other and the volatility between them is constant, so there are no calm years "
        "({volatility, calmest of 8 years}% instead of 47%) and no calm months ({30-day volatility, 5%}% instead of "
        "38%). Normally distributed jump sizes are wrong too: most of the 11 jumps drawn a year are below the "
        "threshold by which ETH's were counted, which finds {jumps a year} with a standard deviation of {jump, "
        "standard deviation}%."
    ),
    "bootstrap, 7 days": (
        "no day is worse than the worst day of the series, and dependence over more than a week is lost. The calmest "
        "year has {volatility, calmest of 8 years}% instead of 47%, and {down > 20% after 60 days}% of the windows of "
        "60 days end more than 20% lower instead of 26.7%. It inherits the drift of the series."
    ),
    "bootstrap, 20 days": (
        "as with 7 days, but dependence lasts for three weeks: {volatility, calmest of 8 years}% in the calmest year, "
        "{30-day volatility, 5%}% instead of 38% as the 5% quantile of 30-day volatility, {down > 20% after 60 days}% "
        "after 60 days. The longer the blocks, the fewer different ones there are to draw from."
    ),
    "GARCH": (
        "shocks are normal and symmetric, so there is no crash: the worst day is {worst day}% instead of -43%. To have "
        "the wild times, the model must be too calm in between ({30-day volatility, median}% instead of 74% as the "
        "median of 30-day volatility), so moves of more than 20% are too rare at every horizon. With alpha + beta = "
        "0.995, a simulation of weeks hardly leaves its initial volatility."
    ),
}
"""What is wrong with each model. `{name}` stands for the model's value of that statistic."""

TEMPLATE = """# Price models beside ETH

This page compares the random price paths of `harness/stakesim/prices/price_models.py` with what is known of ETH, and
says where each model is wrong. `python -m stakesim.studies.calibration_page > docs/PRICES.md` writes it; a test
compares the two.

The column "claimed" has published statistics of 3,804 daily closes of ETH, 2015-08 to 2026-01. Beside it are the
synthetic series that comes with the project, and each model's mean over {runs} paths of {days} days (seed {seed}). All
values are in percent except the number of jumps a year. A volatility is the standard deviation of daily log returns
times sqrt(365).

{figures}

- **after h days** compares a close with the close h days before it, over all overlapping windows, and ignores the
  lowest and highest rates in between. The claims do not say which of the two they mean, but they imply it: read as
  closes, those of 7, 14, 30 and 60 days fit a random walk with a volatility of 88, 84, 84 and 102%; read as "at any
  time within", with 82, 72, 60 and 54%, but volatility was below 60% in only one year of eight.
- **years** are the last eight times 365 days of a path; ETH's are 2018 to 2025.
- **jumps** are returns further than three standard deviations from the mean. They are removed, and mean and deviation
  taken again, until no more are found (recursive filtering, Clewlow and Strickland 2000).
- The models have the defaults of `price_models.py`, but GBM has a volatility of {gbm.annual_volatility:g}. All but the
  bootstraps have a drift of {drift:g} a year, which is 0.2 of log drift, as the moves after 30 and 60 days imply. The
  bootstraps are stationary bootstraps of the synthetic series.

## What is claimed of each model

{own}

GBM's volatility is chosen to meet its claim, Merton's parameters are the middle of the claimed ranges, and GARCH's are
the best of a grid (`fit_garch`). The claim of the bootstraps is about ETH's own closes; here they draw from the
synthetic ones.

## Where each model is wrong

{wrong}

No model has trends: after 60 days, ETH had moved by more than 20% more often than under any of them.

## The synthetic series

`scenarios/series/eth-inr-synthetic.csv` is **no market data**. `harness/stakesim/studies/synthetic_series.py` makes it
from one seed: a stochastic volatility model with jumps and a wandering drift. Each year is scaled to the volatility of
ETH, and one day is set to ETH's worst. Seed and parameters were searched for until the statistics above came near. So
that they do proves nothing, and the level, dates and course of the series say nothing about ETH or the rupee.
Volatility by year:

{years}

For results that matter, use your own closes: `{{path: bootstrap, inr_per_eth: "200000", file: mine.csv}}`.
"""


def render(statistics: pd.DataFrame, claims: pd.DataFrame) -> str:
    """Returns the text of docs/PRICES.md.

    Args:
        statistics: From `stakesim.studies.calibration.statistics_table`.
        claims: From `stakesim.studies.calibration.claims_table`.
    """
    weaknesses = [f"- **{model}**: {_fill_in(text, statistics[model])}" for model, text in WEAKNESSES.items()]
    return TEMPLATE.format(
        figures=markdown_table(statistics, "figure"),
        own=markdown_table(claims.set_index("model"), "model"),
        years=markdown_table(volatility_table(), "year"),
        wrong="\n".join(fill(line, 118, subsequent_indent="  ") for line in weaknesses),
        runs=RUNS,
        days=f"{DAYS:,}",
        seed=SEED,
        gbm=MODELS["GBM"],
        drift=DRIFT,
    )


def _fill_in(text: str, values: pd.Series[float]) -> str:
    """Replaces each `{name}` by the value of that name, with one digit."""
    return re.sub(r"\{(.+?)\}", lambda match: f"{float(values[match[1]]):.1f}", text)


def markdown_table(table: pd.DataFrame, index_name: str) -> str:
    """Formats a table in Markdown, numbers with one digit.

    The columns `claimed from` and `claimed to` become one, `claimed`. Empty columns are left out.

    Args:
        table: The values.
        index_name: Heading of the index.
    """
    columns: dict[str, list[str]] = {index_name: [str(label) for label in table.index]}
    for name in table:
        if name == "claimed from":
            ranges = zip(table["claimed from"], table["claimed to"], strict=True)
            columns["claimed"] = [f"{low:g}" if low == high else f"{low:g} to {high:g}" for low, high in ranges]
        elif name != "claimed to":
            columns[str(name)] = [value if isinstance(value, str) else f"{value:.1f}" for value in table[name]]
    columns = {name: cells for name, cells in columns.items() if any(cells)}
    alignments = ["---" if name in (index_name, "figure", "model") else "---:" for name in columns]
    rows = [list(columns), alignments, *zip(*columns.values(), strict=True)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    statistics_of_models = statistics_table()
    print(render(statistics_of_models, claims_table(statistics_of_models)), end="")  # noqa: T201
