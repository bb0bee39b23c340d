"""The economics of stakes, fees and prices over many runs, settled exactly as the contract would settle them.

from stakesim import plots
from stakesim.economics import sweep
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stakesim.economics.spot_check import fastest_engine
    from stakesim.economics.sweeps import DEFAULT_POPULATION, sweep

__all__ = ["DEFAULT_POPULATION", "fastest_engine", "sample_size", "sweep"]

_MODULES = {"DEFAULT_POPULATION": "sweeps", "fastest_engine": "spot_check", "sweep": "sweeps"}


def sample_size(runs: int) -> int:
    """Returns `runs`, or a fiftieth of it where `STAKESIM_SMALL` is set, so that tests of notebooks are fast."""
    return max(runs // 50, 1) if os.environ.get("STAKESIM_SMALL") else runs


def __getattr__(name: str) -> Any:
    """Imports the public names when they are first used, so that the command line starts fast."""
    if name in _MODULES:
        from importlib import import_module

        return getattr(import_module(f"stakesim.economics.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'stakesim.economics' has no attribute {name!r}")
