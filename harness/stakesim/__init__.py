"""Simulation and testing harness for the stake contract and the backend that drives it.

from stakesim import Scenario, run
"""

from typing import TYPE_CHECKING, Any

import app  # noqa: F401 - it chooses the fast hash, before anything is hashed

if TYPE_CHECKING:
    from stakesim.runner.campaign import Result, run
    from stakesim.scenario.scenario import Scenario

__all__ = ["Result", "Scenario", "run"]


def __getattr__(name: str) -> Any:
    """The public names, imported when they are first used, so that the command line starts fast."""
    if name == "Scenario":
        from stakesim.scenario.scenario import Scenario

        return Scenario
    if name in ("run", "Result"):
        from stakesim.runner import campaign

        return getattr(campaign, name)
    raise AttributeError(f"module 'harness' has no attribute {name!r}")
