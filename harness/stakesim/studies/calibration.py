"""How near each price model comes to ETH: the figures that are known, beside those of simulated paths.

python -m stakesim.studies.calibration > docs/PRICES.md
"""

from __future__ import annotations

import re
from decimal import Decimal
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.random import default_rng

from stakesim.prices.market import draw_jumps, simulate
from stakesim.prices.price_models import Bootstrap, Garch, Gbm, Merton, PriceModel
from stakesim.studies import synthetic_series
from stakesim.studies.calibration_page import PAGE, WRONG
from stakesim.studies.price_statistics import KNOWN, VOLATILITY, by_year, figures

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

RUNS, SEED = 200, 2_026
DAYS = synthetic_series.CLOSES - 1
"""Each path is as long as what is known of ETH, so that a figure is the mean of what one such stretch of time shows."""
DRIFT = 0.52
"""A year: 0.2 of log drift, as up and down after 30 and 60 days have it (0.16 to 0.2), and half of 0.8^2."""
_START = Decimal(10**9)
"""INR for one ETH, so high that two digits are exact enough over ten years of any path."""

MODELS: Mapping[str, PriceModel] = {
    "GBM": Gbm(inr_per_eth=_START, annual_volatility=0.803, annual_drift=DRIFT, step=86_400),
    "Merton": Merton(inr_per_eth=_START, annual_drift=DRIFT),
    "bootstrap, 7 days": Bootstrap(inr_per_eth=_START, block_days=7),
    "bootstrap, 20 days": Bootstrap(inr_per_eth=_START, block_days=20),
    "GARCH": Garch(inr_per_eth=_START, annual_drift=DRIFT),
}
"""GBM's volatility is the one with which its 7-day tail is what GBM is said to give; the others have their defaults."""

FITTED = (
    "30-day volatility, 5%",
    "30-day volatility, median",
    "30-day volatility, 95%",
    "volatility, calmest of 8 years",
    "volatility, wildest of 8 years",
)
"""What GARCH is fitted to."""

OWN: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "GBM": {"7-day return, 1%": (-22.4, -22.4)},
    "Merton": {
        "jumps drawn a year": (10, 12),
        "jump drawn, mean": (-2, -1),
        "jump drawn, standard deviation": (13, 14),
        "volatility of the diffusion": (67, 72),
    },
    "bootstrap, 7 days": {"7-day return, 1%": (-27, -27)},
    "bootstrap, 20 days": {"7-day return, 1%": (-27, -27)},
    "GARCH": {name: KNOWN[name] for name in FITTED},
}
"""What is claimed of each model itself."""


def of_model(price: PriceModel, seed: int = SEED, runs: int = RUNS) -> pd.DataFrame:
    """The figures of KNOWN, one row a simulated path."""
    return figures(simulate(price, default_rng(seed), runs, DAYS))


def of_merton(price: Merton, seed: int = SEED, runs: int = RUNS) -> dict[str, float]:
    """What was drawn, which a look at the rates alone can't tell: jumps in percent, and the diffusion between them."""
    counts, sizes = draw_jumps(price, default_rng(seed), runs, DAYS)
    single = 100 * sizes[counts == 1]
    calm = simulate(price.model_copy(update={"jump_rate": 0}), default_rng(seed), runs, DAYS)
    return {
        "jumps drawn a year": counts.mean() * 365,
        "jump drawn, mean": single.mean(),
        "jump drawn, standard deviation": single.std(),
        "volatility of the diffusion": 100 * np.sqrt(365) * np.diff(np.log(calm), axis=0).std(),
    }


def table(runs: int = RUNS, seed: int = SEED) -> pd.DataFrame:
    """A row for each figure of KNOWN: what is claimed of ETH (from, to), the synthetic series, each model's mean over
    its paths."""
    columns = {"claimed from": [low for low, _ in KNOWN.values()], "claimed to": [high for _, high in KNOWN.values()]}
    made = pd.DataFrame(columns, index=list(KNOWN), dtype=float)
    made["synthetic series"] = figures(synthetic_series.closes()[:, None]).iloc[0]
    for name, price in MODELS.items():
        made[name] = of_model(price, seed, runs).mean()
    return made


def claims(made: pd.DataFrame, seed: int = SEED, runs: int = RUNS) -> pd.DataFrame:
    """A row for each claim of OWN. made: from `table`."""
    merton = MODELS["Merton"]
    assert isinstance(merton, Merton)
    drawn = of_merton(merton, seed, runs)
    rows = [
        (model, figure, low, high, drawn[figure] if figure in drawn else made.loc[figure, model])
        for model, own in OWN.items()
        for figure, (low, high) in own.items()
    ]
    return pd.DataFrame(rows, columns=["model", "figure", "claimed from", "claimed to", "simulated"])


def fit_garch(
    alphas: Iterable[float] = (0.04, 0.05, 0.06, 0.07, 0.08, 0.1, 0.12, 0.15),
    persistences: Iterable[float] = (0.96, 0.97, 0.98, 0.985, 0.99, 0.995),
    runs: int = 100,
    seed: int = SEED,
) -> tuple[Garch, float]:
    """The parameters of a grid whose paths come nearest to FITTED, and the sum of squared log distances (simulated
    moments, McFadden 1989). persistence is alpha + beta. All volatilities of a Garch grow with that of the long run, so
    that one is not searched for."""
    aim = np.log([KNOWN[name][0] for name in FITTED])
    best: tuple[Garch, float] | None = None
    persistences = tuple(persistences)
    for alpha in alphas:
        for persistence in persistences:
            price = Garch(inr_per_eth=_START, annual_drift=DRIFT, alpha=alpha, beta=round(persistence - alpha, 6))
            distances = aim - np.log(of_model(price, seed, runs).mean()[list(FITTED)].to_numpy())
            volatility = price.annual_volatility * float(np.exp(distances.mean()))
            distance = float(((distances - distances.mean()) ** 2).sum())
            if best is None or distance < best[1]:
                best = price.model_copy(update={"annual_volatility": volatility}), distance
    if best is None:
        raise ValueError("the grid is empty; give an alpha and a persistence")
    return best


def series_by_year() -> pd.DataFrame:
    """Volatility of the synthetic series by calendar year, beside ETH's."""
    found = by_year(synthetic_series.closes(), synthetic_series.days())
    rows = {year: (claimed, found[year]) for year, claimed in VOLATILITY.items()}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["claimed", "synthetic series"], dtype=float)


def markdown(made: pd.DataFrame, first: str) -> str:
    """A table in Markdown, one digit after the point. A range is one column, `claimed`. first: what the index is."""
    columns: dict[str, list[str]] = {first: [str(label) for label in made.index]}
    for name in made:
        match name:
            case "claimed from":
                columns["claimed"] = [_range(*ends) for ends in zip(made[name], made["claimed to"], strict=True)]
            case "claimed to":
                pass
            case _:
                columns[str(name)] = [value if isinstance(value, str) else f"{value:.1f}" for value in made[name]]
    names = [name for name, cells in columns.items() if any(cells)]
    numbers = [name not in (first, "figure", "model") for name in names]
    head = [f"| {' | '.join(names)} |", f"| {' | '.join('---:' if number else '---' for number in numbers)} |"]
    body = [f"| {' | '.join(row)} |" for row in zip(*(columns[name] for name in names), strict=True)]
    return "\n".join(head + body)


def _range(low: float, high: float) -> str:
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def page(made: pd.DataFrame, own: pd.DataFrame) -> str:
    """docs/PRICES.md. made, own: from `table` and `claims`."""
    lines = [f"- **{model}**: {_filled(text, made, model)}" for model, text in WRONG.items()]
    return PAGE.format(
        figures=markdown(made, "figure"),
        own=markdown(own.set_index("model"), "model"),
        years=markdown(series_by_year(), "year"),
        wrong="\n".join(fill(line, 118, subsequent_indent="  ") for line in lines),
        runs=RUNS,
        days=f"{DAYS:,}",
        seed=SEED,
        gbm=MODELS["GBM"],
        drift=DRIFT,
    )


def _filled(text: str, made: pd.DataFrame, model: str) -> str:
    """{figure} becomes what the model gives for it."""
    values = made[model].to_dict()
    return re.sub(r"\{(.+?)\}", lambda named: f"{float(values[named[1]]):.1f}", text)


if __name__ == "__main__":
    figures_of_models = table()
    print(page(figures_of_models, claims(figures_of_models)), end="")  # noqa: T201
