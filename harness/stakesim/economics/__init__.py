"""Economics: what stakes, fees and prices do to many runs at once, exactly as the contract would settle them.

from stakesim import plots
from stakesim.economics import sweep
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stakesim.economics.sweeps import DEFAULT_POPULATION, sweep

__all__ = ["DEFAULT_POPULATION", "sample_size", "sweep"]


def sample_size(runs: int) -> int:
    """How many runs a notebook takes: so many, or a fiftieth where STAKESIM_SMALL is set, as the tests do."""
    return max(runs // 50, 1) if os.environ.get("STAKESIM_SMALL") else runs


def __getattr__(name: str) -> Any:
    """Imported when first used."""
    if name in ("DEFAULT_POPULATION", "sweep"):
        from stakesim.economics import sweeps

        return getattr(sweeps, name)
    raise AttributeError(f"module 'stakesim.economics' has no attribute {name!r}")
