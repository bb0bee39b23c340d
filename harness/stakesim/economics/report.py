"""What came of a sweep, as one page for people."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from stakesim import plots
from stakesim.economics.metrics import METRICS
from stakesim.errors import NotInstalled
from stakesim.paths import data

if TYPE_CHECKING:
    import pandas as pd

    from stakesim.economics.sweep_file import Sweep


def write(frame: pd.DataFrame, wanted: Sweep, file: Path, command: str) -> None:
    """A page that needs nothing else. command: that made it. Raises `ValueError` where a package for it is missing."""
    try:
        from jinja2 import Environment
    except ImportError:
        raise NotInstalled("The report", "jinja2", "economics") from None
    drawn = [name for name in METRICS if not name.startswith("wei") and frame[frame.metric == name].numerator.any()]
    varied = next((term for term, values in wanted.policies.items() if len(values) > 1), next(iter(wanted.policies)))
    keys = [*wanted.policies, "behaviours", "price"]
    template = Environment(autoescape=True).from_string(data("sweep_report.html").read_text())
    page = template.render(
        sweep=wanted,
        command=command,
        checked=int(frame.spot_checked.iloc[0]),
        plot=plots.svg(plots.responses(frame, varied, drawn)),
        metrics={name: METRICS[name] for name in drawn},
        keys=[key.replace("_", " ") for key in keys],
        rows=[
            (which, [format_estimate(rows.set_index("metric").loc[name]) for name in drawn])
            for which, rows in frame.groupby(keys, sort=False)
        ],
        population=frame.population_parameters.iloc[0],
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(page, encoding="utf-8")


def format_estimate(row: Any) -> str:
    """Formats a value with the half-width of its 95% interval, in its unit. row: of a sweep's table."""
    value, half = row.value, row.high - row.value
    if row.unit.startswith("share"):
        return f"{value:.1%} ±{half:.1%}"
    return f"{value:,.0f} ±{half:,.0f}" if row.unit.startswith(("INR", "wei")) else f"{value:,.2f} ±{half:.2f}"
