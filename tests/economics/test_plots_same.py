"""Equal figures give equal SVG text, so that notebooks and reports change only where their numbers do."""

from __future__ import annotations

import pytest
from stakesim import plots


def line_plot() -> str:
    figure, axes = plots.new_figure()
    plots.plot_with_band(axes, [1, 2], [1, 2], [0, 1], [2, 3], "line")
    return str(plots.svg(figure))


@pytest.mark.slow
def test_equal_figures_give_equal_text() -> None:
    assert "clip-path" in line_plot()
    assert line_plot() == line_plot()
