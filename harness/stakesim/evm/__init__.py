"""Chains to run on (engines), the compiler, ABI encoding, calls and transactions.

`Web3(stakesim.evm.provider())` is a web3 client of a chain in this process.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stakesim.evm.engines import provider

__all__ = ["provider"]


def __getattr__(name: str) -> Any:
    """Imports the public name when it is first used, so that the command line and pytest start fast."""
    if name == "provider":
        from stakesim.evm.engines import provider

        return provider
    raise AttributeError(f"module 'stakesim.evm' has no attribute {name!r}")
