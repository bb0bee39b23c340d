"""Pictures of what the platform earns, pays and needs, of the tables of `stakesim.studies.break_even` and `wallet`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from stakesim.plots.style import BLUE, RED, STYLES, figure, with_band

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.figure import Figure
    from numpy.typing import NDArray


LEVELS = (100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)


def break_even(table: pd.DataFrame) -> Figure:
    """The break-even ticket over gas price (rows) and rate of ETH (columns): lines of equal price, dark is cheap."""
    from matplotlib.colors import LogNorm

    drawn, axes = figure(3.8)
    norm = LogNorm(table.to_numpy().min(), table.to_numpy().max())
    shades = axes.pcolormesh(
        table.index,
        table.columns / 1_000,
        table.to_numpy().T,
        norm=norm,
        cmap="cividis",
        shading="gouraud",
        rasterized=True,
    )
    lines = axes.contour(
        table.index, table.columns / 1_000, table.to_numpy().T, levels=LEVELS, colors=["white"] * 3 + ["black"] * 4
    )
    axes.clabel(lines, inline_spacing=2, fmt=lambda inr: f"{inr:,.0f} INR", fontsize="small")
    axes.set_xscale("log")
    ticks = [tick for tick in (1, 2, 5, 10, 20, 50, 100) if table.index.min() <= tick <= table.index.max()]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("gas price, gwei")
    axes.set_ylabel("ETH, thousands of INR")
    bar = drawn.colorbar(shades, ax=axes, label="break-even ticket, INR")
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    return drawn


def gas_path(wei: NDArray[np.int64], days: int = 364) -> Figure:
    """One year of gas prices, beside the band in which nine of ten years lie on each day. wei: shape (days, paths)."""
    import numpy as np

    gwei = wei[:days] / 10**9
    low, high = np.quantile(gwei, [0.05, 0.95], axis=1)
    drawn, axes = figure(2.8)
    axes.fill_between(range(len(gwei)), low, high, color=BLUE, alpha=0.2, linewidth=0, label="9 of 10 years")
    axes.plot(gwei[:, 0], color=RED, linewidth=1, label="one year")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("day")
    axes.set_ylabel("gas price, gwei")
    axes.legend(frameon=False, ncols=2)
    return drawn


def losing(table: pd.DataFrame) -> Figure:
    """Share of runs whose gas costs more than they earn, by ticket price: a line for each column."""
    drawn, axes = figure(3.4)
    for name, (colour, line, marker) in zip(table.columns, STYLES, strict=False):
        axes.plot(table.index, table[name], line, marker=marker, markersize=4, color=colour, label=name)
    axes.set_xscale("log")
    axes.set_xticks(table.index, [f"{ticket:,.0f}" for ticket in table.index])
    axes.minorticks_off()
    axes.set_ylim(-2, 102)
    axes.set_xlabel("ticket, INR")
    axes.set_ylabel("runs that cost more gas\nthan they earn, %")
    axes.legend(frameon=False, title="gas price", loc="center left", bbox_to_anchor=(1, 0.5))
    return drawn


def ruin(tables: Mapping[str, Sequence[pd.DataFrame]], titles: Sequence[str]) -> Figure:
    """Chance that the wallet runs dry within a year, by its float: a line with its interval for each case, a panel for
    each title."""
    drawn, panels = figure(3.6, columns=len(titles))
    for number, (axes, title) in enumerate(zip(panels, titles, strict=True)):
        for case, of_titles in tables.items():
            table = of_titles[number]
            with_band(
                axes,
                [inr / 1e5 for inr in table.index],
                (100 * table.chance).tolist(),
                (100 * table.low).tolist(),
                (100 * table.high).tolist(),
                case,
            )
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_ylim(-2, 102)
        axes.set_title(title, fontsize="medium")
        axes.set_xlabel("float, lakh INR (100,000)")
    panels[0].set_ylabel("years in which it runs dry, %")
    drawn.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(tables), frameon=False)
    return drawn
