"""All methods of this package."""

from __future__ import annotations

from stakesim.evm.in_process.node import Methods
from stakesim.evm.in_process.node_core import NodeCore
from stakesim.evm.in_process.rpc_methods import access_lists, accounts, blocks, control, filters, network


def all_methods(core: NodeCore) -> Methods:
    """Returns the methods by name."""
    modules = (access_lists, accounts, blocks, control, filters, network)
    return {name: method for module in modules for name, method in module.methods(core).items()}
