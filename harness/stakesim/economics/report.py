"""The report of a sweep: one self-contained HTML page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stakesim import plots
from stakesim.campaign.html_report import render
from stakesim.economics.metrics import BEST_IS_LARGEST, METRICS, is_share
from stakesim.economics.output import whole_file

if TYPE_CHECKING:
    import pandas as pd

    from stakesim.economics.sweep_file import SweepFile


def write_report(frame: pd.DataFrame, sweep_file: SweepFile, file: Path, command: str) -> None:
    """Writes the report of a sweep.

    Args:
        frame: The result of `stakesim.economics.sweep`.
        sweep_file: What was asked.
        file: The page to write.
        command: The command that repeats the sweep; the page shows it.

    Raises:
        NotInstalled: matplotlib is missing.
    """
    shown_metrics = [
        name for name in METRICS if not name.startswith("wei") and frame[frame.metric == name].numerator.any()
    ]
    policies = sweep_file.policies
    varied_term = next((term for term, values in policies.items() if len(values) > 1), next(iter(policies)))
    keys = [*policies, *dimensions(frame)]
    page = render(
        "sweep_report.html",
        sweep=sweep_file,
        command=command,
        spot_check=spot_check_sentence(int(frame.spot_checked.iloc[0])),
        plot=plots.svg(plots.metric_curves(frame, varied_term, shown_metrics)),
        metrics={name: METRICS[name] for name in shown_metrics},
        keys=[key.replace("_", " ") for key in keys],
        rows=table_rows(frame, list(policies), shown_metrics, with_values=True),
        of_platforms=json.loads(frame.population_parameters.iloc[0])["platform"] is not None,
        levels=[f"{name[1:]}%" for name in quantile_columns(frame)],
        quantiles=quantile_rows(frame, list(policies), shown_metrics) if quantile_columns(frame) else [],
        population=frame.population_parameters.iloc[0],
    )
    with whole_file(file) as unfinished:
        unfinished.write_text(page, encoding="utf-8")


def dimensions(frame: pd.DataFrame) -> list[str]:
    """The columns of a sweep's table that name the group of people, the market and, if there is one, that of gas."""
    return [name for name in ("behaviours", "price", "gas") if name in frame]


def quantile_columns(frame: pd.DataFrame) -> list[str]:
    """The columns of a sweep's table that have quantiles."""
    return [name for name in map(str, frame) if name.startswith("q") and name[1:].replace(".", "", 1).isdigit()]


def quantile_rows(frame: pd.DataFrame, policies: Sequence[str], metrics: Sequence[str]) -> list[tuple[Any, list[str]]]:
    """Formats the quantiles of a sweep's table: a row for each row of `table_rows`, a cell for each metric."""
    rows = []
    for keys, group in frame.groupby([*policies, *dimensions(frame)], sort=False, observed=True):
        by_metric = group.set_index("metric")
        cells = []
        for metric in metrics:
            scale = 100 if is_share(metric) else 1
            values = [float(by_metric[name][metric]) * scale for name in quantile_columns(frame)]
            digits = 1 if is_share(metric) else _digits(METRICS[metric], max(map(abs, values)))
            cells.append(" / ".join(f"{value:,.{digits}f}" for value in values) + ("%" if is_share(metric) else ""))
        rows.append((keys, cells))
    return rows


def table_rows(
    frame: pd.DataFrame, policies: Sequence[str], metrics: Sequence[str], *, with_values: bool
) -> list[tuple[Any, list[str]]]:
    """Formats a sweep's table: a row for each policy, group of people and market.

    Args:
        frame: The result of `stakesim.economics.sweep`.
        policies: The terms that make a policy.
        metrics: Names of metrics.
        with_values: Whether policies but the first have their values, too, besides the changes from the first.

    Returns:
        Of each row the terms, people and market, and a cell for each metric; see `format_cell`.
    """
    first_policy = tuple(frame.iloc[0][list(policies)])
    rows = []
    for keys, group in frame.groupby([*policies, *dimensions(frame)], sort=False, observed=True):
        by_metric = group.set_index("metric")
        is_first = tuple(keys[: len(policies)]) == first_policy
        cells = [format_cell(by_metric.loc[name], name, is_first=is_first, with_value=with_values) for name in metrics]
        rows.append((keys, cells))
    return rows


def format_cell(row: Any, metric: str, *, is_first: bool, with_value: bool = True) -> str:
    """Formats an estimate in its unit.

    The first policy has its value with the 95% interval. Others have the change from the first, in brackets, with the
    paired interval of that, which is much narrower than what two intervals of values tell. A star marks policies that
    may be the best.

    Args:
        row: A row of a sweep's DataFrame.
        metric: The metric's name.
        is_first: Whether the row is of the first policy.
        with_value: Whether the value stands before a change.
    """
    best = BEST_IS_LARGEST.get(metric)
    star = "*" if best is not None and (row.may_be_largest if best else row.may_be_smallest) else ""
    scale, unit = (100, "%") if is_share(metric) else (1, "")
    digits = 1 if unit else _digits(row.unit, row.value)
    value = f"{row.value * scale:,.{digits}f}{unit}"
    if is_first:
        return f"{value} {_interval(row.value, row.low, row.high, scale, digits)}{star}"
    interval = _interval(row.change, row.change_low, row.change_high, scale, digits)
    change = f"[{row.change * scale:+,.{digits}f} {interval}]{star}"
    return f"{value} {change}" if with_value else change


def _digits(unit: str, value: float) -> int:
    """Decimals of a number: none for amounts from 100 INR or wei."""
    return 0 if unit.startswith("wei") or (unit.startswith("INR") and not abs(value) < 100) else 2


def _interval(value: float, low: float, high: float, scale: int, digits: int) -> str:
    """The interval around a value: half its width as ±, or its ends if one side is half as wide again as the other."""
    below, above = value - low, high - value
    if max(below, above) > 1.5 * min(below, above):
        return f"({low * scale:,.{digits}f} to {high * scale:,.{digits}f})"
    return f"±{(high - low) / 2 * scale:,.{digits}f}"


def spot_check_sentence(checked: int) -> str:
    """Returns what the spot check showed in one sentence."""
    if not checked:
        return "No run was carried out on a chain; a spot check does that."
    runs = "1 run was" if checked == 1 else f"{checked} runs were"
    return f"{runs} carried out on a chain as well, and every payout was the same to the wei."
