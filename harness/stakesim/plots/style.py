"""What all pictures have in common.

Colours are told apart by colour-blind people too (M. Okabe, K. Ito, Color Universal Design, 2008), and lines and bars
by style as well, so that they can be read in black and white. Axes have units. Floats begin here.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from stakesim.errors import NotInstalled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#0072b2", "#e69f00", "#999999"
GREEN, RED, PURPLE, SKY, BLACK = "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#000000"
STYLES = (
    (BLUE, "-", "o"),
    (RED, "--", "s"),
    (GREEN, "-.", "^"),
    (PURPLE, ":", "D"),
    (BLACK, "-", "v"),
    (ORANGE, "--", "P"),
)
"""Colour, line and marker of the first, second ... line of a picture."""
HATCHES = ("", "//", "..", "xx")
WIDTH = 8.5


def figure(height: float = 3.6, columns: int = 1, rows: int = 1) -> tuple[Figure, Any]:
    """A figure and its axes, an array of them where there are several rows or columns. height: inches.

    Raises `ValueError` where matplotlib is missing.
    """
    try:
        from matplotlib import rcParams
        from matplotlib.figure import Figure
    except ImportError:
        raise NotInstalled("A plot", "matplotlib", "economics") from None
    rcParams["svg.hashsalt"] = "stakesim"  # else the ids in an SVG are other ones each time
    drawn = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = drawn.subplots(rows, columns)
    for one in drawn.axes:
        one.spines[["top", "right"]].set_visible(False)
    return drawn, axes


def svg(drawn: Figure) -> Any:
    """As markup that a page can hold; the same picture is the same text."""
    from markupsafe import Markup

    text = io.StringIO()
    drawn.savefig(text, format="svg", metadata={"Date": None})
    return Markup(text.getvalue()[text.getvalue().index("<svg") :])


def with_band(
    axes: Axes, x: Sequence[float], middle: Sequence[float], low: Sequence[float], high: Sequence[float], label: str
) -> None:
    """One more line with its band, in the style of its turn."""
    colour, line, marker = STYLES[len(axes.lines) % len(STYLES)]
    axes.plot(x, middle, line, marker=marker, markersize=4, color=colour, label=label)
    axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
