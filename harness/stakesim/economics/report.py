"""The report of a sweep: one self-contained HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from stakesim import plots
from stakesim.economics.metrics import METRICS
from stakesim.economics.output import whole_file
from stakesim.errors import NotInstalled
from stakesim.paths import package_data

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
        NotInstalled: jinja2 or matplotlib is missing.
    """
    try:
        from jinja2 import Environment
    except ImportError:
        raise NotInstalled("The report", "jinja2", "economics") from None
    shown_metrics = [
        name for name in METRICS if not name.startswith("wei") and frame[frame.metric == name].numerator.any()
    ]
    policies = sweep_file.policies
    varied_term = next((term for term, values in policies.items() if len(values) > 1), next(iter(policies)))
    keys = [*policies, "behaviours", "price"]
    template = Environment(autoescape=True).from_string(package_data("sweep_report.html").read_text())
    page = template.render(
        sweep=sweep_file,
        command=command,
        checked=int(frame.spot_checked.iloc[0]),
        plot=plots.svg(plots.metric_curves(frame, varied_term, shown_metrics)),
        metrics={name: METRICS[name] for name in shown_metrics},
        keys=[key.replace("_", " ") for key in keys],
        rows=[
            (values, [format_estimate(rows.set_index("metric").loc[name]) for name in shown_metrics])
            for values, rows in frame.groupby(keys, sort=False)
        ],
        population=frame.population_parameters.iloc[0],
    )
    with whole_file(file) as unfinished:
        unfinished.write_text(page, encoding="utf-8")


def format_estimate(row: Any) -> str:
    """Formats a value with the half-width of its 95% interval, in its unit.

    Args:
        row: A row of a sweep's DataFrame, with `value`, `high` and `unit`.
    """
    half_width = row.high - row.value
    if row.unit.startswith("share"):
        return f"{row.value:.1%} ±{half_width:.1%}"
    digits = 0 if row.unit.startswith(("INR", "wei")) else 2
    return f"{row.value:,.{digits}f} ±{half_width:,.{digits}f}"
