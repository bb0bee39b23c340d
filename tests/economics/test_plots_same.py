"""The same picture is the same text, so that notebooks and reports change only where their figures do."""

from __future__ import annotations

import pytest
from stakesim import plots


def drawn() -> str:
    figure, axes = plots.new_figure()
    plots.plot_with_band(axes, [1, 2], [1, 2], [0, 1], [2, 3], "line")
    return str(plots.svg(figure))


@pytest.mark.slow
def test_the_same_picture_is_the_same_text() -> None:
    assert "clip-path" in drawn()
    assert drawn() == drawn()
