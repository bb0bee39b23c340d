"""The style that all plots share.

The colours can be told apart by colour-blind readers (M. Okabe, K. Ito, Color Universal Design, 2008). Lines and bars
also differ in style, so that the plots can be read in black and white. Every axis has a unit. Amounts become floats
here and no earlier.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from stakesim.errors import NotInstalled

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#0072b2", "#e69f00", "#999999"
GREEN, RED, PURPLE, SKY, BLACK = "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#000000"
LINE_STYLES = (
    (BLUE, "-", "o"),
    (RED, "--", "s"),
    (GREEN, "-.", "^"),
    (PURPLE, ":", "D"),
    (BLACK, "-", "v"),
    (ORANGE, "--", "P"),
)
"""Colour, line style and marker of the first, second ... line of a plot."""
HATCHES = ("", "//", "..", "xx")
WIDTH = 8.5
"""Inches."""


def new_figure(height: float = 3.6, *, columns: int = 1, rows: int = 1) -> tuple[Figure, Any]:
    """Creates an empty figure.

    Args:
        height: Inches.
        columns: Panels side by side.
        rows: Panels above each other.

    Returns:
        The figure and its axes: a single `Axes`, or an array of them if there are several panels.

    Raises:
        NotInstalled: matplotlib is missing.
    """
    try:
        from matplotlib import rcParams
        from matplotlib.figure import Figure
    except ImportError:
        raise NotInstalled("A plot", "matplotlib", "economics") from None
    rcParams["svg.hashsalt"] = "stakesim"  # makes the ids in an SVG deterministic
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    panels = figure.subplots(rows, columns)
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, panels


def svg(figure: Figure) -> Markup:
    """Returns the figure as an SVG element for an HTML page. Equal figures give equal text."""
    from markupsafe import Markup

    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return Markup(text.getvalue()[text.getvalue().index("<svg") :])


def plot_with_band(
    axes: Axes, x: Sequence[float], values: Sequence[float], low: Sequence[float], high: Sequence[float], label: str
) -> None:
    """Adds a line with its confidence band, in the next of `LINE_STYLES`."""
    colour, line, marker = LINE_STYLES[len(axes.lines) % len(LINE_STYLES)]
    axes.plot(x, values, line, marker=marker, markersize=4, color=colour, label=label)
    axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)


def thousands(value: float, _: object = None) -> str:
    """Formats a tick label as a whole number with separators of thousands."""
    return f"{value:,.0f}"
