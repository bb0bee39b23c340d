"""Simulation and testing harness for a stake contract and the backend that drives it.

from stakesim import Scenario, run
"""

import importlib.util
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stakesim.campaign.campaign import run
    from stakesim.campaign.result import CampaignResult
    from stakesim.scenario.scenario import Scenario

__all__ = ["CampaignResult", "Scenario", "run"]

if importlib.util.find_spec("sha3"):  # before anything is hashed: seven times as fast as what eth-hash takes by itself
    os.environ.setdefault("ETH_HASH_BACKEND", "pysha3")


def __getattr__(name: str) -> Any:
    """The public names, imported when they are first used, so that the command line and pytest start fast."""
    if name == "Scenario":
        from stakesim.scenario.scenario import Scenario

        return Scenario
    if name in ("run", "CampaignResult"):
        from stakesim.campaign import campaign

        return getattr(campaign, name)
    raise AttributeError(f"module 'stakesim' has no attribute {name!r}")
