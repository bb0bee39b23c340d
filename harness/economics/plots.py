"""Pictures, as functions from figures to a matplotlib `Figure`: for notebooks, and as SVG for the HTML reports.

Colours are told apart by colour-blind people too (M. Okabe, K. Ito, Color Universal Design, 2008), and lines and bars
by style as well, so that they can be read in black and white. Axes have units. Floats begin here.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from harness.runner.ledger import WEI_PER_ETH, by_party

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from harness.runner.ledger import Row

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
        raise ValueError("The plots need matplotlib: run `make gate`, or `pip install '.[gate]'`.") from None
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


def payouts(rows: Iterable[Row]) -> Figure:
    """ETH that a ledger says were paid out, by party: pushed, deferred, and taken out later."""
    sums = by_party(rows)
    parties = sorted(sums)
    drawn, axes = figure(1.2 + 0.5 * len(parties))
    left = [0.0] * len(parties)
    for kind, colour, hatch in zip(("pushed", "deferred", "withdrawn"), (BLUE, ORANGE, GREY), HATCHES, strict=False):
        eth = [float(Decimal(sums[party][kind]) / WEI_PER_ETH) for party in parties]
        axes.barh(parties, eth, left=left, label=kind, color=colour, hatch=hatch, edgecolor="white")
        left = [a + b for a, b in zip(left, eth, strict=True)]
    axes.set_xlabel("ETH paid out of the contract")
    axes.legend(frameon=False)
    return drawn


def bars(values: Mapping[str, float], unit: str) -> Figure:
    """A bar for each name, from the top."""
    drawn, axes = figure(0.8 + 0.3 * len(values))
    axes.barh(list(values)[::-1], list(values.values())[::-1], color=BLUE)
    axes.set_xlabel(unit)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    return drawn


def with_band(
    axes: Axes, x: Sequence[float], middle: Sequence[float], low: Sequence[float], high: Sequence[float], label: str
) -> None:
    """One more line with its band, in the style of its turn."""
    colour, line, marker = STYLES[len(axes.lines) % len(STYLES)]
    axes.plot(x, middle, line, marker=marker, markersize=4, color=colour, label=label)
    axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)


def responses(frame: pd.DataFrame, term: str, names: Sequence[str]) -> Figure:
    """How metrics of a sweep answer to one term of the contract: a line for each kind of people and market, with its
    95% interval. term: a column of the frame; where other terms vary as well, their means are drawn."""
    part = term.endswith("_bps")
    drawn, axes = figure(2.4 * -(-len(names) // 2) + 0.6, columns=2, rows=-(-len(names) // 2))
    for one, name in zip(axes.flat, names, strict=False):
        rows = frame[frame.metric == name]
        percent = 100 if rows.unit.iloc[0].startswith("share") else 1
        for (people, market), line in rows.groupby(["behaviours", "price"], sort=False):
            mean = line.groupby(term)[["value", "low", "high"]].mean() * percent
            x = [value / 100 if part else value for value in mean.index]
            with_band(one, x, mean.value.tolist(), mean.low.tolist(), mean.high.tolist(), f"{people}, {market}")
        one.set_title(name, fontsize="medium", loc="left")
        one.set_ylabel("%" if percent == 100 else rows.unit.iloc[0].partition(":")[0])
        one.set_xlabel(f"{term.removesuffix('_bps').replace('_', ' ')}, {'%' if part else 's'}")
        one.set_ylim(bottom=min(0, one.get_ylim()[0]))
        one.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    drawn.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    for one in axes.flat[len(names) :]:
        one.remove()
    return drawn
