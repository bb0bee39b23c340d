"""Simulation and testing harness for a stake contract and the backend that drives it.

from stakesim import Scenario, run
"""

import importlib
import importlib.util
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stakesim.campaign.campaign import run
    from stakesim.campaign.result import CampaignResult
    from stakesim.decisions.calibrate import calibrate
    from stakesim.decisions.decide import decide
    from stakesim.runner.ledger import read as read_ledger
    from stakesim.scenario.scenario import Scenario

__all__ = ["CampaignResult", "Scenario", "calibrate", "decide", "read_ledger", "run"]

_MODULES = {
    "CampaignResult": "stakesim.campaign.result",
    "Scenario": "stakesim.scenario.scenario",
    "calibrate": "stakesim.decisions.calibrate",
    "decide": "stakesim.decisions.decide",
    "read_ledger": "stakesim.runner.ledger:read",
    "run": "stakesim.campaign.campaign",
}

if importlib.util.find_spec("sha3"):  # set before the first hash: seven times as fast as eth-hash's default
    os.environ.setdefault("ETH_HASH_BACKEND", "pysha3")


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used, so that the command line and pytest start fast."""
    if name in _MODULES:
        module, _, attribute = _MODULES[name].partition(":")
        return getattr(importlib.import_module(module), attribute or name)
    raise AttributeError(f"module 'stakesim' has no attribute {name!r}")
